//! A client that a login registers by itself (RFC 7591): when a stored one is used again, and how a new one is made.

use super::browser::Callback;
use super::client::{Client, unregistered};
use super::server::Server;
use crate::cli;
use crate::driver::Clock;
use crate::error::Failure;
use crate::grant::{Document, Flow, Registration, UnixSeconds};
use crate::oauth;
use crate::profile::{Context, amend};
use crate::protocol::address_search::MOST_REQUESTS_OF_A_LOGIN;
use crate::protocol::loopback::RedirectUri;
use crate::protocol::registration::{NotRegistered, Wanted};
use crate::protocol::scope::is_subset;
use crate::text::printable;
use std::fmt;

/// The redirect URI of a client that no browser comes back to.
const WITHOUT_PORT: &str = "http://127.0.0.1/callback";

/// The redirect URI for a server that refuses the numeric address. RFC 8252 section 8.3 advises against the name.
const BY_NAME: &str = "http://localhost/callback";

/// Why a stored registration is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAgain {
    /// `--register`.
    Asked,
    /// It is of another issuer.
    OtherIssuer,
    /// Its secret has expired.
    SecretExpired,
    /// No answer came back from the last login with it.
    NoAnswer,
    /// The login needs another redirect URI.
    OtherRedirect,
    /// The login asks for more than the earlier one.
    MoreScope,
    /// Another program listens on its port.
    PortTaken,
}

impl fmt::Display for NotAgain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Asked => "--register was given",
            Self::OtherIssuer => "the stored client is registered with another issuer",
            Self::SecretExpired => "the secret of the stored client has expired",
            Self::NoAnswer => "no answer came back from the last login with the stored client",
            Self::OtherRedirect => "the stored client has another redirect URI",
            Self::MoreScope => "the stored client is registered for less",
            Self::PortTaken => "the port of the stored client is taken",
        })
    }
}

/// Decides whether a login at `issuer` at `now` can use the stored registration. `scopes`: what the earlier login asked for, and
/// what this one does. Servers refuse a scope that a client is not registered for (RFC 7591 section 2).
pub fn usable(
    registration: &Registration,
    issuer: Option<&str>,
    arguments: &cli::Login,
    flow: Flow,
    scopes: (Option<&str>, Option<&str>),
    now: UnixSeconds,
) -> Result<(), NotAgain> {
    let registered = RedirectUri::parse(&registration.redirect_uri).ok();
    let port = registered.and_then(|uri| uri.port);
    // A redirect URI without a port takes any.
    let is_registered = |uri: &str| {
        let wanted = RedirectUri::parse(uri).map(|uri| uri.with_port(port.unwrap_or_default()));
        wanted.is_ok_and(|wanted| wanted == registration.redirect_uri)
    };
    let is_other_redirect = match (flow, &arguments.redirect_uri, arguments.redirect_port) {
        (Flow::Browser, Some(uri), _) => !is_registered(uri),
        (Flow::Browser, None, Some(wanted)) => port != Some(wanted),
        (Flow::Browser, None, None) => port.is_none(),
        _ => false,
    };
    let reasons = [
        (arguments.register, NotAgain::Asked),
        (issuer != Some(registration.issuer.as_str()), NotAgain::OtherIssuer),
        (registration.client_secret_expires_at.is_some_and(|end| end <= now), NotAgain::SecretExpired),
        (registration.awaited_since.is_some(), NotAgain::NoAnswer),
        (is_other_redirect, NotAgain::OtherRedirect),
        (!is_subset(scopes.1.unwrap_or_default(), scopes.0.unwrap_or_default()), NotAgain::MoreScope),
    ];
    match reasons.into_iter().find(|(applies, _)| *applies) {
        Some((_, reason)) => Err(reason),
        None => Ok(()),
    }
}

/// A client that is to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClient {
    /// The registration endpoint.
    pub endpoint: String,
}

impl NewClient {
    /// The client that takes the place of a stored one. The server may have moved its registration endpoint, or closed it.
    pub fn at(server: &Server) -> Result<Self, Failure> {
        let endpoint = server.endpoints.registration.clone();
        Ok(Self { endpoint: endpoint.ok_or_else(unregistered)? })
    }

    /// Registers it for this flow. For the browser flow it listens first, because the redirect URI has its port.
    pub fn register(
        &self,
        arguments: &cli::Login,
        server: &Server,
        flow: Flow,
        scope: Option<&str>,
        context: &Context,
    ) -> Result<(Client, Option<Callback>), Failure> {
        if flow != Flow::Browser {
            let client = self.registered(WITHOUT_PORT, server, flow, scope, context);
            return Ok((client.map_err(|not| not.failure)?, None));
        }
        let uri = match &arguments.redirect_uri {
            Some(uri) => RedirectUri::parse(uri)?,
            None => RedirectUri::default(),
        };
        let callback = Callback::listen(&uri, arguments.redirect_port)?;
        match self.registered(callback.redirect_uri(), server, flow, scope, context) {
            Ok(client) => Ok((client, Some(callback))),
            Err(not) if not.refuses_redirect_uri && may_try_by_name(arguments, server) => {
                (context.dependencies().log)(1, &not.failure.message);
                drop(callback);
                let callback = Callback::listen(&RedirectUri::parse(BY_NAME)?, arguments.redirect_port)?;
                let client = self.registered(callback.redirect_uri(), server, flow, scope, context);
                Ok((client.map_err(|not| not.failure)?, Some(callback)))
            }
            Err(not) => Err(not.failure),
        }
    }

    fn registered(
        &self,
        redirect_uri: &str,
        server: &Server,
        flow: Flow,
        scope: Option<&str>,
        context: &Context,
    ) -> Result<Client, NotRegistered> {
        let wanted = Wanted {
            endpoint: &self.endpoint,
            redirect_uri,
            uses_devices: server.lists_device_grant() || flow == Flow::Device,
            scope,
        };
        let now = context.now().wall;
        let registered = oauth::registration::register(context.client(), &wanted, context.left(), now)?;
        (context.dependencies().log)(1, &format!("registered a client at {}", printable(&self.endpoint)));
        Ok(Client {
            id: registered.client_id,
            secret: registered.client_secret,
            authentication: registered.authentication,
            registration: Some(Registration {
                issuer: server.issuer.clone().unwrap_or_default(),
                endpoint: self.endpoint.clone(),
                redirect_uri: redirect_uri.to_owned(),
                registered_at: now,
                client_secret_expires_at: registered.client_secret_expires_at,
                management_uri: registered.management_uri,
                management_token: registered.management_token,
                awaited_since: None,
                other: serde_json::Map::new(),
            }),
            ..Client::default()
        })
    }
}

/// Whether the login may register once more, with [`BY_NAME`].
fn may_try_by_name(arguments: &cli::Login, server: &Server) -> bool {
    let pushed = usize::from(server.endpoints.pushed_authorization_request.is_some());
    arguments.redirect_uri.is_none() && has_left(server, pushed.saturating_add(2))
}

/// Whether the login may begin again with another client than this one, which is `is_new` if this login has registered it. A
/// request that was not pushed has opened the browser before.
pub fn may_begin_again(server: &Server, is_new: bool) -> bool {
    // Two pushed requests, and the registrations.
    let registrations = if is_new { 2 } else { 1 };
    server.endpoints.pushed_authorization_request.is_none() || has_left(server, registrations + 2)
}

/// Whether so many requests more are still few enough.
fn has_left(server: &Server, requests: usize) -> bool {
    server.requests.saturating_add(requests) <= MOST_REQUESTS_OF_A_LOGIN
}

/// Notes in the store that a person is about to be sent to the server with this client. A server that no longer knows the
/// client says so on its own page, so no answer comes back, and the next login does not use the client again.
pub fn begin_wait(document: &Document, context: &Context) -> Result<(), Failure> {
    let now = context.now().wall;
    note(document, context, |registration| {
        let is_new = registration.awaited_since.is_none();
        registration.awaited_since.get_or_insert(now);
        is_new
    })
}

/// Notes that an answer has come back: the server knows the client. If that cannot be noted, the next login registers another
/// one: the answer itself matters more.
pub fn end_wait(document: &Document, context: &Context) {
    let noted = note(document, context, |registration| registration.awaited_since.take().is_some());
    if let Err(failure) = noted {
        context.warn(&failure);
    }
}

/// Changes the stored registration of the same client, if there is one. A new client is not stored before its grant is.
fn note(
    document: &Document,
    context: &Context,
    change: impl Fn(&mut Registration) -> bool,
) -> Result<(), Failure> {
    if document.registration.is_none() {
        return Ok(());
    }
    amend::amend(context, |stored| {
        let is_same = stored.client_id == document.client_id && stored.issuer == document.issuer;
        stored.registration.as_mut().filter(|_| is_same).is_some_and(&change)
    })
}
