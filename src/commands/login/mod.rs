//! `onegrant login`: gets a grant and stores it.

mod again;
mod browser;
mod client;
mod configuration;
mod device;
mod flow;
mod imported;
mod provider;

pub use imported::exchange as import;

use super::migrate;
use crate::cli;
use crate::driver::{self, Clock, Existing, TokenEndpoint};
use crate::environment::Desktop;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Flow, Login, Secret, UnixSeconds};
use crate::history::HistoryEvent;
use crate::lock::Guard;
use crate::output;
use crate::profile::{Context, access};
use crate::protocol::hints::login_hint;
use crate::protocol::id_token;
use crate::protocol::token::{Answer, TokenAnswer, words};
use crate::session::expiry;
use crate::store::{WriteResult, absent};
use crate::system::SignalsHeld;
use crate::text::{date, printable};
use again::Again;
use anyhow::Context as _;
use flow::choose;
use serde_json::json;

/// How often a login is stored again because somebody else's came first.
const MAX_STORES: u32 = 8;

/// The room that must be there before a person is asked for anything, in bytes.
const ROOM: u64 = 128 << 10;

/// What a flow has brought.
struct Gained {
    answer: TokenAnswer,
    /// When the request was sent that brought it.
    sent_at: UnixSeconds,
    /// What the ID token must repeat (OpenID Connect Core section 3.1.3.7), where something was asked for.
    nonce: Option<Secret>,
    /// From the answer until it is stored.
    signals: Option<SignalsHeld>,
}

/// Logs in.
pub fn run(arguments: &cli::Login, context: &Context) -> anyhow::Result<()> {
    let target = provider::target(arguments)?;
    let existing = driver::read_for_login(&*context.store, context)?;
    context.store.check_writable(ROOM)?;
    let before = match &existing {
        Existing::Document(stored) => Some(&stored.document),
        Existing::Nothing | Existing::Unreadable => None,
    };
    let document = configuration::gather(arguments, &target, before, context)
        .map_err(|failure| Again::undiscovered(arguments).complete(failure.into()))?;
    let advice = provider::advice(&document);
    let over = Over::This(before.and_then(|before| before.login.as_ref()));
    let is_known = |before: &Document| {
        before.token_endpoint == document.token_endpoint && before.client_id == document.client_id
    };
    let again = Again::new(arguments, before.filter(|before| is_known(before)).zip(Some(&document)));
    let again = again.for_endpoints_of(&document);
    log_in(arguments, document, over, context)
        .map_err(|error| again.complete(provider::advise(error, advice)))
}

/// Gets the grant that the document describes, and stores it.
fn log_in(
    arguments: &cli::Login,
    mut document: Document,
    over: Over,
    context: &Context,
) -> anyhow::Result<()> {
    let flow = choose(arguments, &document, Desktop::here())?;
    document.login = Some(this_login(flow, context)?);
    let gained = match flow {
        Flow::Device => device::run(arguments, &document, context)?,
        Flow::Browser => browser::run(arguments, &document, context)?,
        Flow::Client => client::run(&document, context)?,
        Flow::Imported => {
            let document = imported::run(document, context)?;
            return report(arguments, &document, context);
        }
    };
    let Gained { answer, sent_at, nonce, signals } = gained;
    let id_token = answer.id_token.clone();
    document.session = Some(answer.session(&document, sent_at));
    // A grant that is not stored must not live on unknown to everybody.
    let revoke = || context.revoke(&document, context.globals.timeout);
    if let Some(id_token) = id_token {
        id_token::check(&id_token, &document, nonce.as_ref(), sent_at).inspect_err(|_| revoke())?;
    }
    store(&document, over, None, &context.begun_anew())
        .map_err(|unstored| {
            if !unstored.may_be_there {
                revoke();
            }
            unstored.failure
        })
        .context(NOT_STORED)?;
    drop(signals);
    report(arguments, &document, context)
}

/// The failure of a login whose token request was answered with anything but a token.
fn refused(answer: Answer) -> Failure {
    let said = |kind, error: &str, description: Option<&str>| {
        let words = words(error, description);
        Failure::new(kind, format!("cannot log in: the server refused: {words}; nothing was stored"))
    };
    match answer {
        Answer::Refused { kind, error, description } => {
            said(kind, &error, description.as_deref()).hint_of(login_hint(&error))
        }
        Answer::InvalidGrant { error, description } => {
            said(Kind::LoginRequired, &error, description.as_deref()).hint_of(login_hint(&error))
        }
        Answer::Temporary { what, .. } => {
            let message = format!("cannot log in now: {what}; nothing was stored");
            Failure::new(Kind::Temporary, message).hint("try again")
        }
        Answer::Unknown { what, again } => {
            let message =
                format!("cannot log in: {what}; the server may have given the grant; nothing was stored");
            Failure::new(Kind::Temporary, message)
                .hint_of(again.then_some("onegrant login   # gets another one"))
        }
        Answer::Failed(failure) => {
            let message = format!("cannot log in: {}; nothing was stored", failure.message);
            Failure { message, ..failure }
        }
        Answer::Impossible(failure) => failure,
        Answer::Refreshed(_) => Failure::new(Kind::Defect, "cannot log in: a token was taken for a refusal"),
    }
}

/// What is said where the server gave a grant, and the store failed.
const NOT_STORED: &str = "logged in, but the grant could not be stored";

/// This login, told apart from every other one.
fn this_login(flow: Flow, context: &Context) -> Result<Login, Failure> {
    Ok(Login { id: context.nonce()?, at: context.now().wall, flow, other: serde_json::Map::new() })
}

/// What a login may replace.
#[derive(Clone, Copy)]
enum Over<'a> {
    /// Whatever is there.
    Anything,
    /// What was there when it began, and whatever a refresh or a logout made of that: of two logins at once the one wins that
    /// is stored first.
    This(Option<&'a Login>),
}

/// A grant that was not stored, as far as is known.
struct Unstored {
    failure: Failure,
    /// Nobody said what became of it: it must live on.
    may_be_there: bool,
}

impl From<Failure> for Unstored {
    fn from(failure: Failure) -> Self {
        Self { failure, may_be_there: false }
    }
}

/// Stores the new grant.
fn store(document: &Document, over: Over, guard: Option<Guard>, context: &Context) -> Result<(), Unstored> {
    let guard = match guard {
        Some(guard) => Some(guard),
        None => access::enter(context, context.globals.timeout)?,
    };
    let level = context.level_under(guard.as_ref());
    // The grant is nowhere else: a store that failed for a moment is tried once more.
    let replaced = replace(document, over, context).or_else(|unstored| match unstored.failure.kind {
        Kind::Store => replace(document, over, context),
        _ => Err(unstored),
    })?;
    drop(guard);
    if let Some(replaced) = replaced {
        migrate::give_up(context, &replaced);
    }
    context.note_done(HistoryEvent::Login, "stored", document, Some(level));
    Ok(())
}

/// Gives the document that was replaced, where that was one.
fn replace(document: &Document, over: Over, context: &Context) -> Result<Option<Document>, Unstored> {
    let bytes = document.to_bytes()?;
    if driver::read_for_login(&*context.store, context)? == Existing::Unreadable {
        let aside = context.store.set_aside()?;
        let message = format!("the unreadable document was kept as {aside}");
        output::warning(&Failure::new(Kind::Store, message));
    }
    let mut may_be_there = false;
    for _ in 0..MAX_STORES {
        let snapshot = context.store.read().map_err(|failure| Unstored { failure, may_be_there })?;
        let expected = snapshot.as_ref().map_or_else(absent, |snapshot| snapshot.revision.clone());
        let replaced = snapshot.and_then(|snapshot| driver::parse(snapshot, &*context.store).ok());
        let replaced = replaced.map(|replaced| replaced.document);
        if let (Some(stored), Over::This(before)) = (&replaced, over)
            && let Some(other) = stored.login.as_ref().filter(|other| Some(*other) != before)
            && document.login.as_ref() != Some(other)
        {
            let message = format!(
                "another login of profile {}, begun at {}, was stored first and is kept; this one was given up",
                context.globals.profile,
                date(other.at)
            );
            let failure = Failure::new(Kind::Temporary, message);
            return Err(failure.hint("onegrant status   # shows the one that is kept").into());
        }
        match context.store.replace(&expected, &bytes, None) {
            WriteResult::Done => return Ok(replaced),
            WriteResult::Lost(_) => {}
            WriteResult::Unknown => may_be_there = true,
            WriteResult::Failed { failure, .. } => return Err(Unstored { failure, may_be_there }),
        }
    }
    let failure = Failure::new(Kind::Store, "the document keeps changing under the login");
    Err(Unstored { failure, may_be_there })
}

fn report(arguments: &cli::Login, document: &Document, context: &Context) -> anyhow::Result<()> {
    let expires_at = document.session.as_ref().and_then(expiry);
    let has_refresh_token = document.refresh_token().is_some();
    if document.credential().is_none() {
        let scope = document.scope.as_deref().unwrap_or("");
        let wanted = format!("{scope} offline_access");
        let message = "the server gave NO REFRESH TOKEN: this login ends with its access token";
        let hint = provider::advice(document).unwrap_or_else(|| {
            format!(
                "{} --scope \"{}\"   # Google wants --param access_type=offline instead",
                context.login_command(),
                printable(&wanted)
            )
        });
        context.warn(&Failure::new(Kind::Usage, message).hint(hint));
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
        Some(end) => format!(", access token valid until {}", date(end)),
        None => String::new(),
    };
    output::say(&format!("onegrant: logged in: profile {profile}{until}\n"));
    Ok(())
}
