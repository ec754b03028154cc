//! `onegrant login`: gets a grant and stores it.
//!
//! A login is a pipeline. Each type says how far it has come:
//!
//! ```text
//! cli::Login ─▶ Destination ─▶ Announced ─▶ Server ─▶ ClientChoice ─▶ Flow ─▶ Client, Callback ─▶ Configuration ─▶ Granted ─▶ Document
//! options       what is named  by servers   endpoints known or new            id, listener        without session  answer     stored
//! ```
//!
//! Only the browser flow has a callback. It listens before a new client is registered, because the client is registered with
//! the port. `retry_hint.rs` completes the hint of a login that fails.

mod announced;
mod browser;
mod client;
mod client_grant;
mod configuration;
mod destination;
mod device;
mod flow;
mod import;
mod profile;
mod registration;
mod retry_hint;
mod server;

use crate::cli;
use crate::driver::{self, Clock, Existing, TokenEndpoint};
use crate::environment::Desktop;
use crate::error::{Failure, Kind};
use crate::globals::Selection;
use crate::grant::{Document, Flow, Login, Secret, UnixSeconds};
use crate::output;
use crate::profile::Context;
use crate::profile::new_grant::{NOT_STORED, Replaces, store};
use crate::protocol::address_search::Finding;
use crate::protocol::failure::FailedRequest;
use crate::protocol::hints::REGISTER;
use crate::protocol::id_token;
use crate::protocol::providers;
use crate::protocol::token::TokenAnswer;
use crate::session::expiry;
use crate::store_address::ProfileName;
use crate::system::SignalsHeld;
use crate::text::{date, printable};
use announced::Announced;
use anyhow::Context as _;
use browser::Callback;
use client::Client;
pub use client::ClientChoice;
use configuration::Configuration;
use destination::Destination;
use registration::{NewClient, NotAgain};
use retry_hint::RetryHint;
use serde_json::json;
pub use server::Server;

/// The space that must be free before a person is asked for anything, in bytes.
const SPACE_BYTES: u64 = 128 << 10;

/// The answer of the token endpoint at the end of a flow.
struct Granted {
    answer: TokenAnswer,
    /// When the request was sent that it answers.
    sent_at: UnixSeconds,
    /// What the ID token must repeat (OpenID Connect Core section 3.1.3.7), if the flow asked for that.
    nonce: Option<Secret>,
    /// Held from before the request until the grant is stored.
    signals: Option<SignalsHeld>,
}

/// Why a flow brought no grant.
enum NotGranted {
    /// The server does not know the registered client, or cannot read the document of one whose identifier is an address.
    UnknownClient(Failure),
    /// Anything else.
    Failed(anyhow::Error),
}

impl NotGranted {
    /// A request of the client of this document failed.
    fn of(failed: FailedRequest, document: &Document) -> Self {
        let can_be_replaced = document.registration.is_some() || document.client_id.contains("://");
        match can_be_replaced && failed.rejects_client {
            true => Self::UnknownClient(failed.failure),
            false => failed.failure.into(),
        }
    }
}

impl<Error: Into<anyhow::Error>> From<Error> for NotGranted {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Logs in.
pub fn run(arguments: &cli::Login, context: &Context) -> anyhow::Result<()> {
    let undiscovered = |failure: Failure| RetryHint::undiscovered(arguments).complete(failure.into());
    let destination = Destination::read(arguments).map_err(undiscovered)?;
    // The profile of a resource is not known before the resource is.
    let is_known = destination.address.is_none() || context.globals.selection == Selection::Name;
    let existing = is_known.then(|| driver::read_for_login(&*context.store, context)).transpose()?;
    context.store.check_writable(SPACE_BYTES)?;
    let log = context.dependencies().log;
    let note = |finding: &Finding| log(1, &format!("{}: {}", finding.request, finding.answer));
    let announced = Announced::find(arguments, &destination, context, note).map_err(undiscovered)?;
    let of_resource = profile::of_resource(arguments, &announced, context)?;
    if let Some(context) = &of_resource {
        context.store.check_writable(SPACE_BYTES)?;
    }
    let context = of_resource.as_ref().unwrap_or(context);
    let existing = match existing {
        Some(existing) => existing,
        None => driver::read_for_login(&*context.store, context)?,
    };
    log_in(arguments, &destination, announced, &existing, context).map_err(|error| match &of_resource {
        // The command line names another profile, or none.
        Some(context) => profile::completed(error, context),
        None => error,
    })
}

/// What a login at an address would do.
pub struct Outlook {
    /// The profile that it stores the grant in, or why there is none.
    pub profile: Result<ProfileName, Failure>,
    /// The server, and the resource.
    pub server: Server,
    /// The client, or why there is none.
    pub client: Result<ClientChoice, Failure>,
    /// The flow, or why there is none.
    pub flow: Result<Flow, Failure>,
    /// The scope that it asks for.
    pub scope: Option<String>,
}

/// Finds out what a login at `address` would do, with the same requests, but without a registration. `note` is told what each
/// answer was.
pub fn outlook(address: &str, context: &Context, note: impl FnMut(&Finding)) -> Result<Outlook, Failure> {
    let arguments = cli::Login { issuer: Some(address.to_owned()), ..cli::Login::default() };
    let destination = Destination::read(&arguments)?;
    let announced = Announced::find(&arguments, &destination, context, note)?;
    let of_resource = profile::of_resource(&arguments, &announced, context);
    let profile = of_resource.as_ref().map(|found| found.as_ref().unwrap_or(context));
    let stored = profile.ok().and_then(stored_in);
    let profile = profile.map(|context| context.globals.profile.clone()).map_err(Clone::clone);
    let (server, stored) = Server::find(&arguments, &destination, announced, stored.as_ref(), context)?;
    let client = ClientChoice::make(&arguments, &server, stored);
    let known = client.as_ref().ok().and_then(ClientChoice::known);
    let before = stored.and_then(|stored| stored.login.as_ref()).map(|login| login.flow);
    let flow = flow::choose(&arguments, &server, known, before, Desktop::here());
    let grant = known.and_then(|client| client.grant.as_ref());
    let scope = configuration::scope(&arguments, &server, grant, stored);
    let registration = known.and_then(|client| client.registration.as_ref());
    let new = registration.zip(flow.as_ref().ok()).and_then(|(registration, flow)| {
        let (issuer, scopes) = (server.issuer.as_deref(), (scope_before(stored), scope.as_deref()));
        let now = context.now().wall;
        let usable = registration::usable(registration, issuer, &arguments, *flow, scopes, now);
        usable.is_err().then(|| NewClient::at(&server).map(ClientChoice::New))
    });
    let client = new.unwrap_or(client);
    Ok(Outlook { profile, server, client, flow, scope })
}

/// The document that a login would replace. `None` also if the store cannot say: `doctor` checks it elsewhere.
fn stored_in(context: &Context) -> Option<Document> {
    match driver::read_for_login(&*context.store, context).ok()? {
        Existing::Document(stored) => Some(stored.document),
        Existing::Nothing | Existing::Unreadable => None,
    }
}

/// The scope that the stored login asked for. If it asked for none: what the server granted.
fn scope_before(stored: Option<&Document>) -> Option<&str> {
    let stored = stored?;
    let granted = || stored.session.as_ref().and_then(|session| session.scope.as_deref());
    stored.scope.as_deref().or_else(granted)
}

/// Gets a grant for the profile of the context and stores it.
fn log_in(
    arguments: &cli::Login,
    destination: &Destination,
    announced: Announced,
    existing: &Existing,
    context: &Context,
) -> anyhow::Result<()> {
    let stored = match existing {
        Existing::Document(stored) => Some(&stored.document),
        Existing::Nothing | Existing::Unreadable => None,
    };
    let (server, choice, stored_there) = find(arguments, destination, announced, stored, context)
        .map_err(|failure| RetryHint::undiscovered(arguments).complete(failure.into()))?;
    warn_of_another_issuer(&server, stored, context);
    let hint = RetryHint::new(arguments, stored, &server, choice.known());
    let advice = server.advice();
    let login = ServerLogin {
        arguments,
        server,
        stored: stored_there,
        replaces: Replaces::Login(stored.and_then(|stored| stored.login.as_ref())),
        context,
    };
    login.run(choice).map_err(|error| hint.complete(with_advice(error, advice)))
}

/// Says that the resource now takes the tokens of another issuer. Nothing of the stored client is sent there.
fn warn_of_another_issuer(server: &Server, stored: Option<&Document>, context: &Context) {
    let (Some(resource), Some(stored)) = (&server.resource, stored) else { return };
    let is_same_resource = stored.resource.contains(&resource.identifier);
    if let (Some(now), Some(before)) = (&server.issuer, &stored.issuer)
        && is_same_resource
        && now != before
    {
        let (now, before) = (printable(now), printable(before));
        let message = format!(
            "{} names the issuer {now}; the stored grant is of {before}",
            printable(&resource.identifier)
        );
        context.warn(&Failure::new(Kind::Usage, message));
    }
}

/// The server, the client, and the stored document if it is of the same server.
fn find<'a>(
    arguments: &cli::Login,
    destination: &Destination,
    announced: Announced,
    stored: Option<&'a Document>,
    context: &Context,
) -> Result<(Server, ClientChoice, Option<&'a Document>), Failure> {
    let (server, stored) = Server::find(arguments, destination, announced, stored, context)?;
    if arguments.client_metadata_url.is_some() && !server.knows_client_metadata {
        let what = "the server announces no support for client metadata documents: --client-metadata-url is not used";
        (context.dependencies().log)(1, what);
    }
    let choice = ClientChoice::make(arguments, &server, stored)?;
    Ok((server, choice, stored))
}

/// A login at a server that is known.
struct ServerLogin<'a> {
    arguments: &'a cli::Login,
    server: Server,
    /// The stored document, if it is of this server.
    stored: Option<&'a Document>,
    replaces: Replaces<'a>,
    context: &'a Context,
}

impl ServerLogin<'_> {
    /// Gets a grant and stores it. If the server does not know the registered client: once more, with a new one.
    fn run(&self, choice: ClientChoice) -> anyhow::Result<()> {
        let client = choice.known();
        let before = self.stored.and_then(|stored| stored.login.as_ref()).map(|login| login.flow);
        let flow = flow::choose(self.arguments, &self.server, client, before, Desktop::here())?;
        let grant = client.and_then(|client| client.grant.as_ref());
        let scope = configuration::scope(self.arguments, &self.server, grant, self.stored);
        let (client, callback) = self.client(choice, flow, scope.as_deref())?;
        let is_registered = client.registration.is_some();
        let is_stored = self.stored.is_some_and(|stored| stored.registration == client.registration);
        let mut is_new = is_registered && !is_stored;
        match (self.grant(flow, client, callback, scope.clone()), NewClient::at(&self.server)) {
            (Err(NotGranted::UnknownClient(failure)), Ok(new))
                if is_registered && registration::may_begin_again(&self.server, is_new) =>
            {
                is_new = true;
                // A person sees a second address, or a second code.
                output::say(&format!("onegrant: registering a new client: {}\n", failure.message));
                let (client, callback) = self.register(&new, flow, scope.as_deref())?;
                self.grant(flow, client, callback, scope)
            }
            (granted, _) => granted,
        }
        .map_err(|not_granted| match not_granted {
            NotGranted::UnknownClient(failure) => {
                let can_register = self.server.endpoints.registration.is_some();
                let hint = match (can_register, is_registered) {
                    (true, false) => client::REGISTER_ONE,
                    (true, true) if !is_new => REGISTER,
                    // After a new registration only another kind of client can help.
                    _ => client::NAME_A_CLIENT,
                };
                failure.hint(hint).into()
            }
            NotGranted::Failed(error) => error,
        })
    }

    /// The client, and for the browser flow the listener of its redirect URI. A stored registration that cannot be used again
    /// is replaced by a new one.
    fn client(
        &self,
        choice: ClientChoice,
        flow: Flow,
        scope: Option<&str>,
    ) -> Result<(Client, Option<Callback>), Failure> {
        let client = match choice {
            ClientChoice::New(new) => return self.register(&new, flow, scope),
            ClientChoice::Known(client) => client,
        };
        let Some(registration) = &client.registration else {
            let callback =
                (flow == Flow::Browser).then(|| Callback::of(&self.server, &client)).transpose()?;
            return Ok((client, callback));
        };
        let issuer = self.server.issuer.as_deref();
        let scopes = (scope_before(self.stored), scope);
        let now = self.context.now().wall;
        let reason = match registration::usable(registration, issuer, self.arguments, flow, scopes, now) {
            Err(reason) => reason,
            Ok(()) if flow != Flow::Browser => return Ok((client, None)),
            Ok(()) => match Callback::of(&self.server, &client) {
                Ok(callback) => return Ok((client, Some(callback))),
                Err(_) => NotAgain::PortTaken,
            },
        };
        self.say(reason);
        self.register(&NewClient::at(&self.server)?, flow, scope)
    }

    fn say(&self, reason: NotAgain) {
        (self.context.dependencies().log)(1, &format!("registering a new client: {reason}"));
    }

    fn register(
        &self,
        new: &NewClient,
        flow: Flow,
        scope: Option<&str>,
    ) -> Result<(Client, Option<Callback>), Failure> {
        new.register(self.arguments, &self.server, flow, scope, self.context)
    }

    /// Gets the grant for this client and stores it.
    fn grant(
        &self,
        flow: Flow,
        client: Client,
        callback: Option<Callback>,
        scope: Option<String>,
    ) -> Result<(), NotGranted> {
        let Self { arguments, stored, context, .. } = *self;
        let (login, server) = (new_login(flow, context)?, self.server.clone());
        let configuration = Configuration::new(arguments, server, client, scope, stored, login, context)?;
        let granted = match (flow, callback) {
            (Flow::Imported, _) => {
                let document = import::run(configuration.document(), context)?;
                return Ok(report(arguments, &document, context)?);
            }
            (_, Some(callback)) => browser::run(arguments, &configuration, callback, context)?,
            (Flow::Client, None) => client_grant::run(&configuration, context)?,
            (Flow::Device | Flow::Browser, None) => device::run(arguments, &configuration, context)?,
        };
        let document = keep(&configuration, granted, self.replaces, context)?;
        Ok(report(arguments, &document, context)?)
    }
}

/// Makes the document of the grant and stores it. A grant that is not stored is revoked: no process would use it.
fn keep(
    configuration: &Configuration,
    granted: Granted,
    replaces: Replaces,
    context: &Context,
) -> anyhow::Result<Document> {
    let Granted { answer, sent_at, nonce, signals } = granted;
    let id_token = answer.id_token.clone();
    let document = configuration.with_session(answer.session(configuration.document(), sent_at));
    let revoke = || context.revoke(&document, context.globals.timeout);
    if let Some(id_token) = id_token {
        id_token::check(&id_token, &document, nonce.as_ref(), sent_at).inspect_err(|_| revoke())?;
    }
    store(&document, replaces, None, &context.begun_anew())
        .map_err(|not_stored| {
            if !not_stored.may_be_stored {
                revoke();
            }
            not_stored.failure
        })
        .context(NOT_STORED)?;
    drop(signals);
    Ok(document)
}

/// The identity of this login.
fn new_login(flow: Flow, context: &Context) -> Result<Login, Failure> {
    Ok(Login { id: context.nonce()?, at: context.now().wall, flow, other: serde_json::Map::new() })
}

/// Adds what the provider needs as a hint, if the configuration is wrong and there is no better hint.
fn with_advice(mut error: anyhow::Error, advice: Option<String>) -> anyhow::Error {
    let failure = error.downcast_mut::<Failure>().filter(|failure| failure.kind == Kind::Usage);
    if let Some(failure) = failure.filter(|failure| failure.hint.is_none()) {
        failure.hint = advice;
    }
    error
}

/// Says who logged in and how long the access token lasts.
fn report(arguments: &cli::Login, document: &Document, context: &Context) -> anyhow::Result<()> {
    if document.credential().is_none() {
        context.warn(&no_refresh_token(document, context));
    }
    let expires_at = document.session.as_ref().and_then(expiry);
    let profile = context.globals.profile.as_str();
    if arguments.json {
        let scope = document.session.as_ref().and_then(|session| session.scope.as_ref());
        let result = json!({
            "event": "logged_in",
            "profile": profile,
            "issuer": document.issuer,
            "resource": document.resource,
            "expires_at": expires_at,
            "has_refresh_token": document.refresh_token().is_some(),
            "scope": scope.or(document.scope.as_ref()),
        });
        return output::answer(format!("{result}\n").as_bytes());
    }
    let until = match expires_at {
        Some(end) => format!(", access token valid until {}", date(end)),
        None => String::new(),
    };
    output::say(&format!("onegrant: logged in: profile {profile}{until}\n"));
    Ok(())
}

fn no_refresh_token(document: &Document, context: &Context) -> Failure {
    let scope = document.scope.as_deref().unwrap_or("");
    let wanted = format!("{scope} offline_access");
    let hint = providers::of(document).map(server::advice).unwrap_or_else(|| {
        format!(
            "{} --scope \"{}\"   # Google wants --param access_type=offline instead",
            context.login_command(),
            printable(&wanted)
        )
    });
    let message = "the server gave NO REFRESH TOKEN: this login ends with its access token";
    Failure::new(Kind::Usage, message).hint(hint)
}
