//! `--refresh-token-stdin`: a refresh token that was got elsewhere, spent once to prove it, then stored.

use super::{NOT_STORED, Over, Unstored, store};
use crate::driver::{self, TokenEndpoint};
use crate::error::{Failure, Kind};
use crate::grant::{Credential, Document, Secret};
use crate::output;
use crate::profile::{Context, access};
use crate::protocol::hints::login_hint;
use crate::protocol::token::{Answer, words};
use crate::subprocess::worker::{Message, Task, TaskResult};
use crate::system::SignalsHeld;
use crate::system::secret::read_secret;

/// Reads the refresh token, and has a worker do the rest: whoever is killed now may hold the only copy of it.
pub fn run(document: Document, context: &Context) -> Result<Document, Failure> {
    let refresh_token = read_secret(&mut std::io::stdin().lock(), "the refresh token on stdin")?;
    let task = Task::Import { document: Box::new(document.clone()), refresh_token: refresh_token.clone() };
    match context.run_worker(task, None, context.dependencies().tell) {
        TaskResult::Ended(Message::Imported(document)) => Ok(*document),
        TaskResult::Ended(Message::Failed(failure)) => Err(failure),
        TaskResult::NotStarted => exchange(document, refresh_token, context, &|| {}),
        // Nothing tells whether it was stored: spending it here could be a replay.
        TaskResult::Ended(_) | TaskResult::Died | TaskResult::Late => Err(Failure::new(
            Kind::Temporary,
            "cannot log in: the exchange with the server was cut short; the refresh token may have been spent",
        )
        .hint("onegrant status   # shows whether the grant is stored; else try again with the same refresh token")),
    }
}

/// The one refresh that proves the token, under the lock: it may be the stored one, and others may hold it. `begins` is
/// told when the wait for them is over. Gives the document as it was stored.
pub fn exchange(
    mut document: Document,
    refresh_token: Secret,
    context: &Context,
    begins: &dyn Fn(),
) -> Result<Document, Failure> {
    let guard = access::enter(context, context.globals.timeout)?;
    begins();
    let _signals = SignalsHeld::hold();
    let mut sent_at = driver::Clock::now(context).wall;
    let credential = Credential::RefreshToken(refresh_token.clone());
    let mut answer = context.refresh(&document, &credential, context.left());
    if matches!(answer, Answer::Unknown { again: true, .. }) && !context.left().is_zero() {
        // Servers with a grace period answer the same once more; a third time could end the family.
        sent_at = driver::Clock::now(context).wall;
        answer = context.refresh(&document, &credential, context.left());
    }
    let refused = |kind, words: String| {
        Failure::new(
            kind,
            format!("cannot log in: the server refused the refresh token: {words}; nothing was stored"),
        )
    };
    match answer {
        Answer::Refreshed(answer) => {
            let has_id_token = answer.id_token.is_some();
            let mut session = answer.session(&document, sent_at);
            session.refresh_token = session.refresh_token.or(Some(refresh_token));
            // The session is stored all the same: its refresh token may be the only one that is left.
            if has_id_token && session.id_token.is_none() {
                let message = "the server gave an ID token that cannot be trusted; it was not stored";
                output::warning(&Failure::new(Kind::LoginRequired, message));
            }
            document.session = Some(session);
            // Not revoked where that fails: whoever gave it to us may have nothing else.
            store(&document, Over::Anything, guard, context).map_err(|Unstored { failure, .. }| Failure {
                message: format!("{NOT_STORED}: {}", failure.message),
                ..failure
            })?;
            Ok(document)
        }
        Answer::InvalidGrant { error, description } => {
            let failure = refused(Kind::LoginRequired, words(&error, description.as_deref()));
            // Only a flow that has its endpoint.
            Err(failure.hint(
                match (&document.device_authorization_endpoint, &document.authorization_endpoint) {
                    (Some(_), _) => "onegrant login --device   # gets a new grant",
                    (None, Some(_)) => "onegrant login --browser   # gets a new grant",
                    (None, None) => {
                        "onegrant login --refresh-token-stdin < FILE   # with another refresh token"
                    }
                },
            ))
        }
        Answer::Failed(failure) => {
            let message = format!("cannot log in: {}; nothing was stored", failure.message);
            Err(Failure { message, ..failure })
        }
        Answer::Impossible(failure) => Err(failure),
        Answer::Refused { kind, error, description } => {
            Err(refused(kind, words(&error, description.as_deref())).hint_of(login_hint(&error)))
        }
        Answer::Temporary { what, .. } => {
            Err(Failure::new(Kind::Temporary, format!("cannot log in now: {what}; nothing was stored"))
                .hint("try again with the same refresh token"))
        }
        Answer::Unknown { what, again } => {
            let message =
                format!("cannot log in: {what}; the refresh token may have been spent; nothing was stored");
            let hint = "try again with the same refresh token: servers with a grace period answer the same once more";
            Err(Failure::new(Kind::Temporary, message).hint_of(again.then_some(hint)))
        }
    }
}
