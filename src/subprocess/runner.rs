//! The command runner: runs the commands of `ONEGRANT_ON_LOGIN_REQUIRED` and `ONEGRANT_ON_ROTATE`.
//!
//! No token waits for such a command. The runner is not a child of the process that starts it, which may become another
//! program (`exec`). It has a session of its own and none of that process's files but the lock.

use super::{Mode, command};
use crate::environment::Passed;
use crate::lock::Guard;
use crate::system::{as_given, as_given_in_own_session};
use std::io;
use std::process::{Child, Stdio};

/// What a runner is started with: whether this process is the runner, the grant, and the occasion. Before it is the runner,
/// it is a child of the process that starts it, starts the runner and ends. The commands are not in it: they are in the
/// environment.
pub type RunnerRequest = (bool, Passed, Occasion);

/// Why a command runs. A login is required: the stdin of the command, which has no secret. `None`: the refresh token was
/// replaced; the runner reads the document itself, because a newer one may be stored by then.
pub type Occasion = Option<String>;

/// Starts a runner, and gives it the lock.
pub fn start(occasion: Occasion, passed: Passed, lock: Option<&Guard>) -> io::Result<()> {
    let stdout = match lock.map(Guard::share).transpose()?.flatten() {
        Some(file) => Stdio::from(file),
        None => Stdio::null(),
    };
    let mut command = command(Mode::Runner, &(false, passed, occasion))?;
    command.stdout(stdout).stderr(Stdio::null());
    match as_given_in_own_session(&mut command).spawn()?.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("it did not start")),
    }
}

/// Starts the runner itself, with the stdout of this process.
pub(super) fn start_runner((_, passed, occasion): RunnerRequest) -> io::Result<Child> {
    let mut command = command(Mode::Runner, &(true, passed, occasion))?;
    command.stderr(Stdio::null());
    as_given(&mut command).spawn()
}
