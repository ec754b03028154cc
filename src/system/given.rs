//! The signals as this process was given them: each program that it runs finds them so.
//!
//! SIGCHLD and SIGALRM get their default disposition, and SIGURG a handler, because this program's own waits need them.
//! A parent that ignores SIGHUP, SIGINT, SIGQUIT, SIGTERM or a stop signal means its children, too (`nohup`, the
//! background jobs of a shell): these stay ignored.

use super::wait_limit;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::set_parent_process_death_signal;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// With SIGCHLD ignored no child can be waited for; with SIGALRM ignored a worker that hangs would not end.
const NEEDED: [Signal; 2] = [Signal::SIGCHLD, Signal::SIGALRM];

/// Whether the parent of this process had it ignore broken pipes; set before anything else runs.
static IGNORES_BROKEN_PIPES: AtomicBool = AtomicBool::new(false);

/// Turns a write to a closed pipe into an error. The signal would kill a process that has an answer to store.
#[expect(unsafe_code, reason = "no safe call ignores a signal")]
pub fn ignore_broken_pipes() {
    // SAFETY: no handler is installed, and no other thread runs yet.
    let before = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    IGNORES_BROKEN_PIPES.store(matches!(before, Ok(SigHandler::SigIgn)), Ordering::Relaxed);
}

/// What was blocked when this process began. The first call must come before any signal is blocked.
pub(super) fn mask() -> &'static SigSet {
    static MASK: OnceLock<SigSet> = OnceLock::new();
    MASK.get_or_init(|| SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty()))
}

/// Sets the dispositions that this program needs when it runs others, and gives the signals that were ignored before.
pub(super) fn set_dispositions() -> &'static [Signal] {
    static IGNORED: OnceLock<Vec<Signal>> = OnceLock::new();
    IGNORED.get_or_init(|| {
        let mut ignored: Vec<Signal> = NEEDED.into_iter().filter(|needed| was_ignored(*needed)).collect();
        ignored.extend(wait_limit::interrupt().then_some(wait_limit::WAKE));
        ignored.extend(IGNORES_BROKEN_PIPES.load(Ordering::Relaxed).then_some(Signal::SIGPIPE));
        ignored
    })
}

/// Sets the default disposition, and gives whether the signal was ignored before.
#[expect(unsafe_code, reason = "no safe call sets a disposition")]
fn was_ignored(needed: Signal) -> bool {
    // SAFETY: no handler is installed.
    matches!(unsafe { signal(needed, SigHandler::SigDfl) }, Ok(SigHandler::SigIgn))
}

/// Whether the signal is ignored. To be called while it is held back.
#[expect(unsafe_code, reason = "no safe call asks for a disposition")]
pub(super) fn is_ignored(asked: Signal) -> bool {
    let is_ignored = was_ignored(asked);
    if is_ignored {
        // SAFETY: no handler is installed.
        let _ = unsafe { signal(asked, SigHandler::SigIgn) };
    }
    is_ignored
}

/// Gives a program that this process runs, or that takes its place, the signals as this process was given them.
#[expect(unsafe_code, reason = "the standard library sets SIGPIPE alone, and always to its default")]
pub fn as_given(command: &mut Command) -> &mut Command {
    let (mask, ignored) = (mask(), set_dispositions());
    let set = move || {
        // A pending SIGXFSZ has already been reported as an error of a write. Ignoring the signal for a moment discards it.
        // SAFETY: neither installs a handler.
        if let Ok(before) = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) } {
            let _ = unsafe { signal(Signal::SIGXFSZ, before) };
        }
        for ignored in ignored {
            // SAFETY: as above.
            let _ = unsafe { signal(*ignored, SigHandler::SigIgn) };
        }
        mask.thread_set_mask().map_err(io::Error::from)
    };
    // SAFETY: it makes system calls, and nothing else.
    unsafe { command.pre_exec(set) }
}

/// The same in a session of its own: no signal that is meant for the process group or the terminal of this process
/// reaches it, from its first instruction on.
#[expect(unsafe_code, reason = "no safe call starts a program in a session of its own")]
pub fn as_given_in_own_session(command: &mut Command) -> &mut Command {
    let begin = || rustix::process::setsid().map(drop).map_err(io::Error::from);
    // SAFETY: it makes one system call.
    unsafe { as_given(command).pre_exec(begin) }
}

/// The same for a program that is killed when this process ends. It and all that it starts have `lock` open: so the lock is held
/// until the last of them has ended, unless this process releases it.
#[expect(unsafe_code, reason = "the standard library gives a program no file but three")]
pub fn as_given_under_lock(command: &mut Command, lock: Option<File>) -> &mut Command {
    let begin = move || {
        set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        lock.as_ref().map(|lock| fcntl_setfd(lock, FdFlags::empty())).transpose()?;
        Ok(())
    };
    // SAFETY: it makes system calls, and nothing else.
    unsafe { as_given_in_own_session(command).pre_exec(begin) }
}
