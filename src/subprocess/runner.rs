//! The command runner: runs the commands of `ONEGRANT_ON_LOGIN_REQUIRED` and `ONEGRANT_ON_ROTATE`.
//!
//! No token waits for such a command. The runner is not a child of the process that starts it, which may become another
//! program (`exec`). It has a session of its own and none of that process's files but the lock.

use super::{Mode, command};
use crate::environment::Passed;
use crate::lock::Guard;
use crate::system::{as_given, as_given_in_own_session};
use serde::{Deserialize, Serialize};
use std::io;
use std::process::{Child, Stdio};

/// What a runner is started with. The commands are not in it: they are in the environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunnerRequest {
    /// Whether this process is the runner. Before that it is a child of the process that starts it, starts the runner and
    /// ends.
    pub is_runner: bool,
    /// The grant.
    pub passed: Passed,
    /// What happened.
    pub occasion: Occasion,
}

/// Why a command runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Occasion {
    /// A login is required; the stdin of the command, which has no secret.
    LoginRequired(String),
    /// The refresh token was replaced. The runner reads the document itself, because a newer one may be stored by then.
    Rotated,
}

/// Starts a runner, and gives it the lock. After an error no runner runs.
pub fn start(occasion: Occasion, passed: Passed, lock: Option<&Guard>) -> io::Result<()> {
    let stdout = match lock.map(Guard::share).transpose()?.flatten() {
        Some(file) => Stdio::from(file),
        None => Stdio::null(),
    };
    let mut command = command(Mode::Runner, &RunnerRequest { is_runner: false, passed, occasion })?;
    command.stdout(stdout).stderr(Stdio::null());
    match as_given_in_own_session(&mut command).spawn()?.wait()?.code() {
        // Without a code it was killed, before it had started the runner or after.
        Some(0) | None => Ok(()),
        Some(_) => Err(io::Error::other("it did not start")),
    }
}

/// Starts the runner itself, with the stdout of this process.
pub(super) fn start_runner(request: RunnerRequest) -> io::Result<Child> {
    let mut command = command(Mode::Runner, &RunnerRequest { is_runner: true, ..request })?;
    command.stderr(Stdio::null());
    as_given(&mut command).spawn()
}
