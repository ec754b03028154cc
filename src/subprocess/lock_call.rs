//! A lock call that another process makes.
//!
//! What a FUSE server has taken and does not answer holds the process that called against SIGKILL, and with it its
//! parent, who waits for its end. So on a file system that may not answer this program runs itself once more to make the
//! call, and goes on without it when its time is over.

use crate::lock::make;
use crate::session::LockMode;
use crate::subprocess::worker::THIS_PROGRAM;
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The first argument of a process that makes a lock call on its stdin; the second is the mode. It is for this
/// program's own use.
pub const ARGUMENT: &str = "--lock-for-caller";

/// How often a caller that is stopped is looked at.
const STOPPED_PAUSE: Duration = Duration::from_millis(50);

/// Has another process make the call: a lock belongs to the open file, which both have. Where no process can be started,
/// this one makes it.
pub fn have_made(file: &File, mode: LockMode) -> io::Result<()> {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("onegrant").args([ARGUMENT, &format!("{mode:?}")]).env_clear();
    command.stdin(file.try_clone()?).stdout(Stdio::null()).stderr(Stdio::null());
    // Ctrl-Z must not stop it when it has the lock.
    let Ok(mut process) = crate::system::as_given_in_own_session(&mut command).spawn() else {
        return make(file, mode);
    };
    match process.wait()?.code() {
        Some(0) => Ok(()),
        // It did not run: what a shell says, too.
        Some(126..) => make(file, mode),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        // Whoever killed it did not mean the lock.
        None => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// What that process does, whose exit code is the error; it ends with the one that started it, where it can.
pub fn make_for_caller(mode: &str) -> u8 {
    let all = [LockMode::Try, LockMode::AwaitRelease, LockMode::Queue];
    let mode = all.into_iter().find(|known| format!("{known:?}") == mode);
    // It may hang for ever, and must not keep what others wait for.
    crate::system::close_inherited();
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let made = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|file| make_for_running(&File::from(file), mode.ok_or(io::ErrorKind::InvalidInput)?));
    made.map_or_else(|error| error_number(&error), |()| 0)
}

/// A caller that is stopped does not get the lock, which belongs to its open file: the lock is released, and the call is made
/// again when the caller goes on.
fn make_for_running(file: &File, mode: LockMode) -> io::Result<()> {
    loop {
        make(file, mode)?;
        if !crate::system::parent_is_stopped() {
            return Ok(());
        }
        make(file, LockMode::AwaitRelease)?;
        while crate::system::parent_is_stopped() {
            std::thread::sleep(STOPPED_PAUSE);
        }
    }
}

fn error_number(error: &io::Error) -> u8 {
    let busy = (error.kind() == io::ErrorKind::WouldBlock).then_some(Errno::AGAIN.raw_os_error());
    let number = error.raw_os_error().or(busy).unwrap_or(Errno::IO.raw_os_error());
    u8::try_from(number).unwrap_or(u8::MAX)
}
