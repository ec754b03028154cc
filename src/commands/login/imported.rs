//! `--refresh-token-stdin`: a refresh token that was got elsewhere, spent once to prove it, then stored.

use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::profile::Context;
use crate::profile::import::exchange;
use crate::subprocess::worker::{Ended, Task, Word};
use crate::system::secret::read_secret;

/// Reads the refresh token, and has a worker do the rest: whoever is killed now may hold the only copy of it.
pub fn run(document: Document, context: &Context) -> Result<Document, Failure> {
    let refresh_token = read_secret(&mut std::io::stdin().lock(), "the refresh token on stdin")?;
    let task = Task::Import { document: Box::new(document.clone()), refresh_token: refresh_token.clone() };
    match context.send(task, None, context.dependencies().tell) {
        Ended::Saying(Word::Stored(document)) => Ok(*document),
        Ended::Saying(Word::Failed(failure)) => Err(failure),
        Ended::NotStarted => exchange(&document, refresh_token, context, &|| {}),
        // Nothing tells whether it was stored: spending it here could be a replay.
        Ended::Saying(_) | Ended::WithoutAWord | Ended::Late => Err(Failure::new(
            Kind::Temporary,
            "cannot log in: the exchange with the server was cut short; the refresh token may have been spent",
        )
        .hint("onegrant status   # shows whether the grant is stored; else try again with the same refresh token")),
    }
}
