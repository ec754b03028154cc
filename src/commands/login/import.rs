//! `--refresh-token-stdin`: a refresh token that was obtained elsewhere, spent once to prove it, then stored.

use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::profile::{Context, import};
use crate::subprocess::worker::{Message, Task, TaskResult};
use crate::system::secret::read_secret;

/// Reads the refresh token. A worker does the rest, because a kill must not lose the only copy of the new one. Gives the
/// document that was stored; `configuration` is that document without a session.
pub fn run(configuration: &Document, context: &Context) -> Result<Document, Failure> {
    let refresh_token = read_secret(&mut std::io::stdin().lock(), "the refresh token on stdin")?;
    let task =
        Task::Import { document: Box::new(configuration.clone()), refresh_token: refresh_token.clone() };
    match context.run_worker(task, None, context.dependencies().log) {
        TaskResult::Ended(Message::Imported(document)) => Ok(*document),
        TaskResult::Ended(Message::Failed(failure)) => Err(failure),
        TaskResult::NotStarted => import::exchange(configuration, refresh_token, context, &|| {}),
        // The grant may be stored: spending the refresh token here could be a replay.
        TaskResult::Ended(_) | TaskResult::Died | TaskResult::Late => Err(Failure::new(
            Kind::Temporary,
            "cannot log in: the exchange with the server was cut short; the refresh token may have been spent",
        )
        .hint("onegrant status   # shows whether the grant is stored; else try again with the same refresh token")),
    }
}
