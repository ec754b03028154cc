//! stdout carries the answer and nothing else; everything else goes to stderr.

use crate::error::{Failure, Kind};
use crate::system::SignalsHeld;
use crate::text::describe;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::os::fd::AsFd;

/// The most output that is kept for later while a lock is held, in bytes: thousands of lines. The rest is dropped.
const KEPT_LIMIT: usize = 1 << 20;

thread_local! {
    static UNDISTURBED: Cell<u32> = const { Cell::new(0) };
    static NEVER_WAITS: Cell<bool> = const { Cell::new(false) };
    static KEPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// While a value lives, stop signals are held back and output to stderr is kept. Both are delivered when the last value is
/// dropped. So a process that is stopped, or that writes to a stopped terminal, holds no lock and no claim.
#[derive(Debug)]
pub struct Undisturbed {
    signals: Option<SignalsHeld>,
}

impl Undisturbed {
    /// Begins to hold back.
    pub fn begin() -> Self {
        let signals = SignalsHeld::hold_stops();
        UNDISTURBED.set(UNDISTURBED.get().saturating_add(1));
        Self { signals }
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        drop(self.signals.take());
        UNDISTURBED.set(UNDISTURBED.get().saturating_sub(1));
        if UNDISTURBED.get() == 0 {
            say_what_was_kept();
        }
    }
}

/// While a value lives, this thread writes to stderr only what stderr has space for, and keeps the rest until the value is
/// dropped. A thread that holds signals back would otherwise wait for a reader, and no signal could end it.
#[derive(Debug)]
pub struct NeverWaits(());

impl NeverWaits {
    /// Begins to keep output.
    pub fn begin() -> Self {
        NEVER_WAITS.set(true);
        Self(())
    }
}

impl Drop for NeverWaits {
    fn drop(&mut self) {
        NEVER_WAITS.set(false);
        say_what_was_kept();
    }
}

/// Whether a short line can be written without waiting: a pipe then has space for a page, and a socket for much more.
pub fn has_room(file: &impl AsFd) -> bool {
    let mut file = [PollFd::new(file, PollFlags::OUT)];
    matches!(poll(&mut file, Some(&Timespec::default())), Ok(1..))
}

/// Writes the output that was kept.
pub fn say_what_was_kept() {
    let kept = KEPT.take();
    if !kept.is_empty() {
        let _ = io::stderr().lock().write_all(&kept);
    }
}

/// Writes the answer. A closed stdout and a full disk are reported the same way: the session is stored by now.
pub fn answer(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    let failed =
        |error| Failure::new(Kind::Temporary, format!("cannot write to stdout: {}", describe(&error)));
    Ok(written.map_err(failed)?)
}

/// Prints a failure: `onegrant: MESSAGE`, then `hint: HINT`. In one write, so that the lines of many processes on one terminal
/// are not mixed.
pub fn failure(message: &str, hint: Option<&str>) {
    let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    say(&format!("onegrant: {message}\n{hint}"));
}

/// Prints a warning: nothing failed, but a person should know.
pub fn warning(warning: &Failure) {
    failure(&format!("warning: {}", warning.message), warning.hint.as_deref());
}

/// Writes to stderr, or keeps the text for later (see [`Undisturbed`] and [`NeverWaits`]). If stderr is closed, there is no way
/// to report anything.
pub fn say(text: &str) {
    let would_wait = || NEVER_WAITS.get() && (!KEPT.with_borrow(Vec::is_empty) || !has_room(&io::stderr()));
    if UNDISTURBED.get() > 0 || would_wait() {
        return KEPT.with_borrow_mut(|kept| {
            if kept.len().saturating_add(text.len()) <= KEPT_LIMIT {
                kept.extend_from_slice(text.as_bytes());
            }
        });
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{SigSet, Signal};

    #[test]
    fn output_and_stop_signals_wait_until_the_lock_is_released() {
        let holds_back = |signal| SigSet::thread_get_mask().unwrap().contains(signal);
        let outer = Undisturbed::begin();
        let ends = SignalsHeld::hold();
        let inner = Undisturbed::begin();
        say("one\n");
        drop(outer);
        say("two\n");
        assert_eq!(KEPT.with_borrow(Clone::clone), b"one\ntwo\n");
        assert!(holds_back(Signal::SIGTSTP) && holds_back(Signal::SIGINT));
        // Ctrl-C may end the process now. Ctrl-Z still waits.
        drop(ends);
        assert!(holds_back(Signal::SIGTSTP) && !holds_back(Signal::SIGINT));
        drop(inner);
        assert!(!holds_back(Signal::SIGTSTP) && !holds_back(Signal::SIGTTOU));
        assert!(KEPT.with_borrow(Vec::is_empty));
    }
}
