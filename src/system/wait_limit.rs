//! An end to system calls that know none: `flock` has no timeout.

use super::{change_held, given};
use nix::sys::signal::{SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

/// Interrupts the call. By default it is ignored, so one that comes from another process changes nothing.
pub(super) const WAKE: Signal = Signal::SIGURG;

/// How often the interruption is repeated: one that comes before the call has begun is lost.
const REPEATED_EVERY: Duration = Duration::from_millis(20);

/// `SIGEV_THREAD_ID` (sigevent(7)): the signal goes to one thread.
const TO_ONE_THREAD: i32 = 4;

/// While it lives, a system call of this thread that waits fails with EINTR after that time. A thread that waits in place
/// of the caller would cost a stack and some forty system calls. A program that this process runs has no such timer
/// (timer_create(2)).
#[derive(Debug)]
pub struct WaitLimit(#[expect(dead_code, reason = "dropping it ends it")] Timer);

impl WaitLimit {
    /// From now on.
    #[expect(unsafe_code, reason = "nix names a thread with glibc alone")]
    pub fn after(time: Duration) -> io::Result<Self> {
        interrupt();
        if given::mask().contains(WAKE) {
            change_held(|held| held.always.remove(WAKE));
        }
        let mut event = SigEvent::new(SigevNotify::SigevSignal { signal: WAKE, si_value: 0 });
        // SAFETY: the structure lives here, and these are two of its numbers.
        unsafe {
            let raw = event.as_mut_ptr();
            (*raw).sigev_notify = TO_ONE_THREAD;
            (*raw).sigev_notify_thread_id = gettid().as_raw();
        }
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, event)?;
        // Zero would never end.
        let first = time.max(Duration::from_nanos(1)).into();
        let expiration = Expiration::IntervalDelayed(first, REPEATED_EVERY.into());
        timer.set(expiration, TimerSetTimeFlags::empty())?;
        Ok(Self(timer))
    }
}

extern "C" fn do_nothing(_signal: i32) {}

/// From now on [`WAKE`] interrupts system calls. Returns whether this process was started with it ignored.
#[expect(unsafe_code, reason = "no safe call installs a handler")]
pub(super) fn interrupt() -> bool {
    static WAS_IGNORED: OnceLock<bool> = OnceLock::new();
    *WAS_IGNORED.get_or_init(|| {
        let handler = SigAction::new(SigHandler::Handler(do_nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        let before = unsafe { sigaction(WAKE, &handler) };
        before.is_ok_and(|before| matches!(before.handler(), SigHandler::SigIgn))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_read_that_waits_is_interrupted_and_one_that_is_answered_is_not() {
        let (mut reader, writer) = io::pipe().unwrap();
        let limit = WaitLimit::after(Duration::ZERO).unwrap();
        let interrupted = reader.read(&mut [0]).unwrap_err();
        assert_eq!(interrupted.kind(), io::ErrorKind::Interrupted);
        drop(limit);
        let limit = WaitLimit::after(Duration::from_secs(60)).unwrap();
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        drop(limit);
    }
}
