//! The lock probe: whether a second process can take a lock that the first one holds.

use super::{Mode, request};
use crate::error::{Failure, Kind};
use crate::lock::{Locked, Locker};
use crate::output;
use crate::session::LockMode;
use crate::system::answers_lock_calls_at_once;
use crate::text::describe;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long a lock call may take that does not wait.
pub const LIMIT: Duration = Duration::from_secs(2);

/// The longest answer of the second process, in bytes.
const ANSWER_LIMIT: usize = 64;

/// What happened to a lock call of the second process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// It took the lock.
    Granted,
    /// Another process held the lock.
    Busy,
    /// The place cannot lock.
    Refused,
    /// The call did not return in time.
    Unanswered,
    /// The system failed.
    Failed,
}

/// Has a second process try the lock at `path`, within `limit`.
pub fn try_in_second_process(path: &Path, limit: Duration) -> io::Result<Probe> {
    let printed = super::run(Mode::LockProbe, &path.as_os_str(), limit, ANSWER_LIMIT)?;
    Ok(serde_json::from_slice(&printed.stdout)?)
}

/// Asks for the lock without waiting for another process.
pub fn try_lock(path: &Path, limit: Duration) -> Locked {
    let fail = |error: &io::Error| {
        let message = format!("cannot lock {}: {}", path.display(), describe(error));
        Failure::new(Kind::Store, message)
    };
    Locker::new(path.to_owned(), answers_lock_calls_at_once(path)).lock(LockMode::Try, limit, fail)
}

/// The second process: tries, answers, and ends.
pub(super) fn run() -> anyhow::Result<()> {
    let path: OsString = request(Mode::LockProbe)?;
    let probe = match try_lock(Path::new(&path), LIMIT) {
        Locked::Granted(_) => Probe::Granted,
        Locked::Busy => Probe::Busy,
        Locked::Refused(_) => Probe::Refused,
        Locked::Unanswered => Probe::Unanswered,
        Locked::Failed(_) => Probe::Failed,
    };
    output::answer(&serde_json::to_vec(&probe)?)
}
