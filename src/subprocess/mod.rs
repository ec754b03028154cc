//! The hidden modes of this program: it runs itself once more for work that its own process must not do.
//!
//! | mode | started by | why another process |
//! |---|---|---|
//! | [`worker`] | a command that needs a refresh | the exchange with the server survives when the command is killed |
//! | [`lock_call`] | [`crate::lock`], on a file system that may not answer | the call may hang, and no signal ends it |
//! | [`lock_probe`] | `doctor` | only a second process shows whether the lock excludes it |
//! | [`companion`] | `exec --file`, `exec --serve` | the command takes the place of this process; its file stays fresh, and its broker answers |
//! | [`runner`] | a commit, or a refresh that finds the grant dead, with a command for that event | no token waits for a command |
//!
//! All of them are started in the same way: the first argument is the mode, and stdin is a file in memory with the request
//! as JSON. So a request may hold secrets, the process that starts another one never waits for it to read, and nothing
//! of onegrant's own is in the environment.

pub mod companion;
pub mod lock_call;
pub mod lock_probe;
pub mod modes;
pub mod runner;
pub mod runner_process;
pub mod worker;
pub mod worker_process;

use crate::error::{Failure, Kind};
use crate::system;
use crate::system::command::{self, Printed, file_in_memory};
use crate::text::describe;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;
use zeroize::Zeroizing;

/// This program, even if its file was replaced or removed since.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The longest request, in bytes: the largest document, with its characters escaped.
const REQUEST_LIMIT: u64 = 32 << 20;

/// How long a process may run that only starts another one.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A hidden mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// [`worker`]
    Worker,
    /// [`lock_call`]
    LockCall,
    /// [`lock_probe`]
    LockProbe,
    /// [`companion`]
    Companion,
    /// [`runner`]
    Runner,
}

impl Mode {
    const ALL: [Self; 5] = [Self::Worker, Self::LockCall, Self::LockProbe, Self::Companion, Self::Runner];

    /// The first argument of a process in this mode. Each says what the process is to a person who lists processes.
    fn argument(self) -> &'static str {
        match self {
            Self::Worker => "--exchange-for-caller",
            Self::LockCall => "--lock-for-caller",
            Self::LockProbe => "--try-lock-for-doctor",
            Self::Companion => "--stay-beside-command",
            Self::Runner => "--run-command-for-event",
        }
    }

    /// The mode that a first argument names.
    pub fn named(argument: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| argument == mode.argument())
    }
}

/// The command that runs this program in `mode`. Its stdout and stderr are the caller's to set.
fn command(mode: Mode, request: &impl Serialize) -> io::Result<Command> {
    let mut command = program(mode);
    command.stdin(file_in_memory(&serde_json::to_vec(request)?)?);
    Ok(command)
}

/// Runs this program in `mode` for at most `timeout`; it prints at most `limit` bytes.
fn run(mode: Mode, request: &impl Serialize, timeout: Duration, limit: usize) -> io::Result<Printed> {
    command::ask(&mut program(mode), &serde_json::to_vec(request)?, timeout, limit)
}

fn program(mode: Mode) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("onegrant").arg(mode.argument());
    command
}

/// Starts a process, for a process that then ends. So the new one is not a child of the process that wants it.
fn start_and_end(start: impl FnOnce() -> io::Result<Child>) -> Result<(), Failure> {
    system::end_after(START_LIMIT);
    start().map(drop).map_err(|error| Failure::new(Kind::Temporary, describe(&error)))
}

/// Reads the request of a process in `mode`. Fails with exit code 2 if no process of onegrant started it.
fn request<R: DeserializeOwned>(mode: Mode) -> Result<R, Failure> {
    let read = || -> io::Result<R> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        // A terminal or a pipe would be waited for.
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("stdin has no request"));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(REQUEST_LIMIT).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    read().map_err(|error| {
        let message = format!("{} is for onegrant's own use: {}", mode.argument(), describe(&error));
        Failure::new(Kind::Usage, message).hint("onegrant --help")
    })
}
