//! Other processes that are not children: when one ends, and when one began.

use super::{process_status, read_at_once, this_process};
use crate::grant::UnixSeconds;
use crate::session::attempt::{Owner, Presence};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often a process is looked for if the system has no pidfd.
pub const GLANCE: Duration = Duration::from_secs(1);

/// A process that is no child of this one.
pub struct Watched {
    owner: Owner,
    me: Owner,
    /// Becomes readable at its end; `None` before Linux 5.3.
    descriptor: Option<OwnedFd>,
}

impl Watched {
    /// The process with this identifier and this start time; `None` if it is gone.
    pub fn new(pid: u32, start_time: u64) -> Option<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let descriptor = pidfd_open(raw, PidfdFlags::empty()).ok();
        let me = this_process();
        let watched = Self { owner: Owner { pid, start_time, ..me.clone() }, me, descriptor };
        // The descriptor is opened first, so the look is at the same process.
        watched.is_there().then_some(watched)
    }

    /// A file that becomes readable at its end. `None`: look with [`Self::runs_for`] every [`GLANCE`].
    pub fn end(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// Waits for that long at most. Gives whether it still runs.
    pub fn runs_for(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.descriptor.is_none() {
                std::thread::sleep(left.min(GLANCE));
            }
            if !self.runs_until(left) {
                return false;
            }
            if Instant::now() >= until {
                return true;
            }
        }
    }

    fn runs_until(&self, left: Duration) -> bool {
        match (&self.descriptor, Timespec::try_from(left)) {
            (Some(descriptor), Ok(left)) => {
                let ended = poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&left));
                !matches!(ended, Ok(1..))
            }
            _ => self.is_there(),
        }
    }

    fn is_there(&self) -> bool {
        let pid = i32::try_from(self.owner.pid).ok().and_then(Pid::from_raw);
        match super::presence(&self.owner, &self.me) {
            Presence::Gone => false,
            Presence::Alive => true,
            // Without `/proc`, any process with that identifier counts.
            Presence::Unknown => pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok()),
        }
    }
}

/// The unit of `/proc/PID/stat` (proc(5)). It is the same for every kernel configuration.
const TICKS_PER_SECOND: i64 = 100;

/// When the parent of this process began, rounded down to whole seconds; `None` if `/proc` does not show it.
pub fn caller_began(now: UnixSeconds) -> Option<UnixSeconds> {
    let pid = u32::try_from(rustix::process::getppid()?.as_raw_nonzero().get()).ok()?;
    let began = i64::try_from(process_status(pid)?.start_time).ok()?;
    // Seconds with two digits behind the point: ticks, but for the point.
    let uptime = read_at_once("/proc/uptime").ok()?;
    let (seconds, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let uptime: i64 = format!("{seconds}{hundredths}").parse().ok()?;
    let age = uptime.saturating_sub(began).max(0);
    Some(now.saturating_sub(age / TICKS_PER_SECOND + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_watched_to_its_end_and_another_one_with_its_identifier_is_not() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let start_time = process_status(child.id()).unwrap().start_time;
        assert!(Watched::new(child.id(), start_time + 1).is_none(), "the number is another's");
        let mut watched = Watched::new(child.id(), start_time).unwrap();
        assert!(watched.runs_for(Duration::ZERO));
        drop(child.stdin.take());
        // Its end is seen although its parent has not waited for it yet.
        assert!(!watched.runs_for(Duration::from_secs(60)));
        watched.descriptor = None;
        assert!(!watched.runs_for(Duration::ZERO));
        child.wait().unwrap();
        assert!(Watched::new(child.id(), start_time).is_none());
    }

    #[test]
    fn the_caller_began_before_this_process_and_not_long_ago() {
        let now = super::super::SystemClock::start().now().wall;
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let began = caller_began(now).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!((0..=now + 1).contains(&began), "{began}");
    }
}
