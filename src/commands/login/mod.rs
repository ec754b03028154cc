//! `onegrant login`: gets a grant and stores it.
//!
//! A login is a pipeline. Each type says how far it has come:
//!
//! ```text
//! cli::Login ─▶ Destination ─▶ Server ─▶ Client ─▶ Flow ─▶ Callback ─▶ Configuration ─▶ Granted ─▶ Document
//! options       named server   endpoints id, proof         listener    without session  answer     stored
//! ```
//!
//! Only the browser flow has a callback. It listens before the configuration is made, because a client may be registered
//! with the port. `retry_hint.rs` completes the hint of a login that fails.

mod browser;
mod client;
mod client_grant;
mod configuration;
mod destination;
mod device;
mod flow;
mod import;
mod retry_hint;
mod server;

use crate::cli;
use crate::driver::{self, Clock, Existing, TokenEndpoint};
use crate::environment::Desktop;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Flow, Login, Secret, UnixSeconds};
use crate::output;
use crate::profile::Context;
use crate::profile::new_grant::{NOT_STORED, Replaces, store};
use crate::protocol::id_token;
use crate::protocol::providers;
use crate::protocol::token::TokenAnswer;
use crate::session::expiry;
use crate::system::SignalsHeld;
use crate::text::{date, printable};
use anyhow::Context as _;
use browser::Callback;
use client::Client;
use configuration::Configuration;
use destination::Destination;
use retry_hint::RetryHint;
use serde_json::json;
use server::Server;

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

/// Logs in.
pub fn run(arguments: &cli::Login, context: &Context) -> anyhow::Result<()> {
    let destination = Destination::read(arguments)?;
    let existing = driver::read_for_login(&*context.store, context)?;
    context.store.check_writable(SPACE_BYTES)?;
    let stored = match &existing {
        Existing::Document(stored) => Some(&stored.document),
        Existing::Nothing | Existing::Unreadable => None,
    };
    let (server, client, stored_there) = find(arguments, &destination, stored, context)
        .map_err(|failure| RetryHint::undiscovered(arguments).complete(failure.into()))?;
    let hint = RetryHint::new(arguments, stored, &server, &client);
    let advice = server.advice();
    let replaces = Replaces::Login(stored.and_then(|stored| stored.login.as_ref()));
    log_in(arguments, server, client, stored_there, replaces, context)
        .map_err(|error| hint.complete(with_advice(error, advice)))
}

/// The server, the client, and the stored document if it is of the same server.
fn find<'a>(
    arguments: &cli::Login,
    destination: &Destination,
    stored: Option<&'a Document>,
    context: &Context,
) -> Result<(Server, Client, Option<&'a Document>), Failure> {
    let (server, stored) = Server::find(arguments, destination, stored, context)?;
    let client = Client::find(arguments, &server, stored)?;
    Ok((server, client, stored))
}

/// Gets a grant for the client and stores it.
fn log_in(
    arguments: &cli::Login,
    server: Server,
    client: Client,
    stored: Option<&Document>,
    replaces: Replaces,
    context: &Context,
) -> anyhow::Result<()> {
    let before = stored.and_then(|stored| stored.login.as_ref()).map(|login| login.flow);
    let flow = flow::choose(arguments, &server, &client, before, Desktop::here())?;
    let callback = match flow {
        Flow::Browser => Some(Callback::listen(&server, &client)?),
        Flow::Device | Flow::Client | Flow::Imported => None,
    };
    let login = new_login(flow, context)?;
    let configuration = Configuration::new(arguments, server, client, stored, login, context)?;
    let granted = match (flow, callback) {
        (Flow::Imported, _) => {
            let document = import::run(configuration.document(), context)?;
            return report(arguments, &document, context);
        }
        (_, Some(callback)) => browser::run(arguments, &configuration, callback, context)?,
        (Flow::Client, None) => client_grant::run(&configuration, context)?,
        (Flow::Device | Flow::Browser, None) => device::run(arguments, &configuration, context)?,
    };
    let document = keep(&configuration, granted, replaces, context)?;
    report(arguments, &document, context)
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
