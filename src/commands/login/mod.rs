//! `onegrant login`: gets a grant and stores it.

mod configuration;
mod device;
mod imported;

pub use imported::exchange as import;

use super::Context;
use crate::cli;
use crate::driver::{self, Existing, TokenEndpoint};
use crate::error::{Failure, Kind, printable};
use crate::grant::Document;
use crate::lock::Guard;
use crate::output;
use crate::session::{Revision, expiry};
use crate::store::{Store, Written, absent};
use anyhow::Context as _;
use serde_json::json;

/// How often a login is stored again because somebody else's came first.
const MAX_STORES: u32 = 8;

/// The room that must be there before a person is asked for anything, in bytes.
const ROOM: u64 = 128 << 10;

/// A flow that gets a grant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Device,
    Imported,
}

/// Logs in.
pub fn run(arguments: &cli::Login, context: &Context) -> anyhow::Result<()> {
    let existing = driver::read_for_login(&context.store, context)?;
    context.store.check_writable(ROOM)?;
    let before = match &existing {
        Existing::Document(stored) => Some(&stored.document),
        Existing::Nothing | Existing::Unreadable => None,
    };
    let mut document = configuration::gather(arguments, before, context)?;
    let flow = choose(arguments, &document)?;
    let document = match flow {
        Flow::Device => {
            let (session, signals) = device::run(arguments, &document, context)?;
            document.session = Some(session);
            if let Err(failure) = store(&document, None, context) {
                // A grant that cannot be stored must not live on unknown to everybody.
                context.revoke(&document, context.globals.timeout);
                return Err(failure).context(NOT_STORED);
            }
            drop(signals);
            document
        }
        Flow::Imported => imported::run(document, context)?,
    };
    report(arguments, &document, context)
}

/// What is said where the server gave a grant, and the store failed.
const NOT_STORED: &str = "logged in, but the grant could not be stored";

fn choose(arguments: &cli::Login, document: &Document) -> Result<Flow, Failure> {
    match (arguments.device, arguments.refresh_token_stdin) {
        (true, true) => {
            Err(Failure::new(Kind::Usage, "--device and --refresh-token-stdin exclude each other"))
        }
        (false, true) => Ok(Flow::Imported),
        (true, false) => Ok(Flow::Device),
        (false, false) if document.device_authorization_endpoint.is_some() => Ok(Flow::Device),
        (false, false) => Err(Failure::new(
            Kind::Usage,
            "cannot log in: the server announces no device authorization endpoint",
        )
        .hint("onegrant login --refresh-token-stdin < FILE   # imports a refresh token")),
    }
}

/// Stores the new grant over whatever is there: a login is what a person wants now.
fn store(document: &Document, guard: Option<Guard>, context: &Context) -> Result<(), Failure> {
    let bytes = document.to_bytes()?;
    let _guard = match guard {
        Some(guard) => Some(guard),
        None => driver::enter(&context.seams(), context.globals.lock, context.deadline_from_now())?,
    };
    if let Existing::Unreadable = driver::read_for_login(&context.store, context)? {
        let aside = context.store.set_aside()?;
        let message =
            format!("the unreadable document was kept as {}", printable(&aside.display().to_string()));
        output::warning(&Failure::new(Kind::Store, message));
    }
    for _ in 0..MAX_STORES {
        let snapshot = context.store.read()?;
        let expected: Revision = snapshot.map_or_else(absent, |snapshot| snapshot.revision);
        match context.store.replace(&expected, &bytes, None) {
            Written::Done => return Ok(()),
            Written::Lost(_) | Written::Unknown => continue,
            Written::Failed { failure, .. } => return Err(failure),
        }
    }
    Err(Failure::new(Kind::Store, "the document keeps changing under the login"))
}

fn report(arguments: &cli::Login, document: &Document, context: &Context) -> anyhow::Result<()> {
    let expires_at = document.session.as_ref().and_then(expiry);
    let has_refresh_token = document.refresh_token().is_some();
    if !has_refresh_token {
        let scope = document.scope.as_deref().unwrap_or("");
        let wanted = format!("{scope} offline_access");
        let message = "the server gave NO REFRESH TOKEN: this login ends with its access token";
        let hint = format!(
            "{} --scope \"{}\"   # Google wants --param access_type=offline instead",
            context.login_command(),
            printable(&wanted)
        );
        output::warning(&Failure::new(Kind::Usage, message).hint(hint));
    }
    let profile = context.globals.profile.as_str();
    if arguments.json {
        let scope = document.session.as_ref().and_then(|session| session.scope.as_ref());
        let result = json!({
            "event": "logged_in",
            "profile": profile,
            "issuer": document.issuer,
            "expires_at": expires_at,
            "has_refresh_token": has_refresh_token,
            "scope": scope.or(document.scope.as_ref()),
        });
        return output::answer(format!("{result}\n").as_bytes());
    }
    let until = match expires_at {
        Some(end) => format!(", access token valid until {}", crate::session::date(end)),
        None => String::new(),
    };
    output::say(&format!("onegrant: logged in: profile {profile}{until}\n"));
    Ok(())
}
