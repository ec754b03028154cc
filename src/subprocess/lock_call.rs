//! A lock call that another process makes.
//!
//! A FUSE server may take the call and never answer it. Then no signal ends the process that called, and its parent, which
//! waits for its end, hangs too. So on a file system that may not answer, another process makes the call. This one goes
//! on without it when its time is over.

use super::{Mode, command, request};
use crate::error::Failure;
use crate::session::LockMode;
use crate::system::{as_given_in_own_session, close_inherited, flock, parent_is_stopped};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::Duration;

/// How often a stopped parent is looked at.
const STOPPED_PAUSE: Duration = Duration::from_millis(50);

/// Has another process make the call: a lock belongs to the open file, which both processes have. If no process can be
/// started, this one makes the call.
pub fn make(file: &File, mode: LockMode) -> io::Result<()> {
    let start = || -> io::Result<Child> {
        let mut command = command(Mode::LockCall, &mode)?;
        command.env_clear().stdout(file.try_clone()?).stderr(Stdio::null());
        // Ctrl-Z must not stop it while it has the lock.
        as_given_in_own_session(&mut command).spawn()
    };
    let Ok(mut process) = start() else { return flock::call(file, mode, None) };
    match process.wait()?.code() {
        Some(0) => Ok(()),
        // It did not run: a shell uses these codes, too.
        Some(126..) => flock::call(file, mode, None),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        // A signal ended it before it had the lock.
        None => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The other process. Its stdout is the lock file, and its exit code is the error number. It ends with its parent, if it
/// can.
pub(super) fn run() -> Result<u8, Failure> {
    let mode = request(Mode::LockCall)?;
    // It may hang for ever. Other processes may wait for the end of an inherited pipe.
    close_inherited();
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let file = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let made = file.and_then(|file| make_while_parent_runs(&file, mode));
    Ok(made.map_or_else(|error| error_number(&error), |()| 0))
}

/// A stopped parent does not get the lock, which belongs to its open file: the lock is released, and the call is made again
/// when the parent runs.
fn make_while_parent_runs(file: &File, mode: LockMode) -> io::Result<()> {
    loop {
        flock::call(file, mode, None)?;
        if !parent_is_stopped() {
            return Ok(());
        }
        flock::call(file, LockMode::AwaitRelease, None)?;
        while parent_is_stopped() {
            std::thread::sleep(STOPPED_PAUSE);
        }
    }
}

fn error_number(error: &io::Error) -> u8 {
    let busy = (error.kind() == io::ErrorKind::WouldBlock).then_some(Errno::AGAIN.raw_os_error());
    let number = error.raw_os_error().or(busy).unwrap_or(Errno::IO.raw_os_error());
    u8::try_from(number).unwrap_or(u8::MAX)
}
