//! The signals as this process was given them: what takes its place is to find them so.

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether whoever started this process had it ignore broken pipes; set before anything else runs.
static IGNORES_BROKEN_PIPES: AtomicBool = AtomicBool::new(false);

/// Has a write to a reader who has left be an error: it does not kill who has an answer to store.
#[expect(unsafe_code, reason = "no safe call ignores a signal")]
pub fn ignore_broken_pipes() {
    // SAFETY: no handler is installed, and no other thread runs yet.
    let before = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    IGNORES_BROKEN_PIPES.store(matches!(before, Ok(SigHandler::SigIgn)), Ordering::Relaxed);
}

/// What is held back and what is ignored.
#[derive(Debug)]
pub struct SignalsAsGiven {
    mask: SigSet,
}

impl SignalsAsGiven {
    /// As they are now, before any is held back.
    pub fn read() -> Self {
        Self { mask: SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty()) }
    }

    /// Has a command that takes this process's place find them so.
    #[expect(unsafe_code, reason = "the standard library sets SIGPIPE alone, and always to its default")]
    pub fn give_to(self, command: &mut Command) {
        let set = move || {
            // A pending SIGXFSZ was told as an error already: to ignore it for a moment makes it go.
            // SAFETY: neither installs a handler.
            if let Ok(before) = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) } {
                let _ = unsafe { signal(Signal::SIGXFSZ, before) };
            }
            if IGNORES_BROKEN_PIPES.load(Ordering::Relaxed) {
                // SAFETY: as above.
                let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
            }
            self.mask.thread_set_mask().map_err(io::Error::from)
        };
        // SAFETY: it makes system calls, and nothing else; and there is no fork.
        unsafe { command.pre_exec(set) };
    }
}
