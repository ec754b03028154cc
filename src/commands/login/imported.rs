//! `--refresh-token-stdin`: a refresh token that was got elsewhere, spent once to prove it, then stored.

use super::super::{Context, read_secret};
use super::Obtained;
use crate::driver::{self, TokenEndpoint};
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::protocol::token::{Answer, words};
use crate::system::SignalsHeld;

/// The one refresh that proves the token, under the lock: it may be the stored one, and others may hold it.
pub fn run(document: &Document, context: &Context) -> Result<Obtained, Failure> {
    let refresh_token = read_secret(&mut std::io::stdin().lock(), "the refresh token on stdin")?;
    let guard = driver::enter(&context.seams(), context.globals.lock, context.globals.timeout)?;
    let signals = SignalsHeld::hold();
    let mut sent_at = driver::Clock::now(context).wall;
    let mut answer = context.refresh(document, &refresh_token, context.left());
    if matches!(answer, Answer::Unknown { .. }) && !context.left().is_zero() {
        // Servers with a grace period answer the same once more; a third time could end the family.
        sent_at = driver::Clock::now(context).wall;
        answer = context.refresh(document, &refresh_token, context.left());
    }
    let refused = |kind, words: String| {
        Failure::new(
            kind,
            format!("cannot log in: the server refused the refresh token: {words}; nothing was stored"),
        )
    };
    match answer {
        Answer::Refreshed(answer) => {
            let mut session = answer.session(None, sent_at);
            session.refresh_token = session.refresh_token.or(Some(refresh_token));
            Ok(Obtained { session, signals, guard })
        }
        Answer::InvalidGrant { error, description } => {
            let failure = refused(Kind::LoginRequired, words(&error, description.as_deref()));
            Err(failure.hint("onegrant login --device   # gets a new grant"))
        }
        Answer::Impossible(failure) => Err(failure),
        Answer::Refused { kind, error, description } => {
            Err(refused(kind, words(&error, description.as_deref())))
        }
        Answer::Temporary { what, .. } => {
            Err(Failure::new(Kind::Temporary, format!("cannot log in now: {what}; nothing was stored"))
                .hint("try again with the same refresh token"))
        }
        Answer::Unknown { what } => Err(Failure::new(
            Kind::Temporary,
            format!("cannot log in: {what}; the refresh token may have been spent; nothing was stored"),
        )
        .hint(
            "try again with the same refresh token: servers with a grace period answer the same once more",
        )),
    }
}
