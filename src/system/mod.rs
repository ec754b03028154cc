//! Clock, random bytes, processes and signals: read at the edge, passed down as values.

pub mod command;
mod credentials;
pub mod file_system;
pub mod flock;
mod given;
mod names;
mod next_program;
pub mod ownership;
pub mod secret;
pub mod shared;
pub mod small_files;
pub mod trust;
mod wait_limit;
mod watch;

pub use credentials::peer_of;
pub use file_system::answers_lock_calls_at_once;
pub use given::{as_given, as_given_in_own_session, as_given_under_lock, ignore_broken_pipes};
pub use names::resolve_names_without_modules;
pub use next_program::{is_in_a_loop, next_programs};
pub use wait_limit::WaitLimit;
pub use watch::{GLANCE, Watched, caller_began};

use crate::grant::{UnixSeconds, hexadecimal};
use crate::session::Now;
use crate::session::attempt::{Owner, Presence};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ring::rand::{SecureRandom, SystemRandom};
use std::cell::Cell;
use std::fs;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// More than any file of `/proc` has that is read here, in bytes.
const PROC_LIMIT: usize = 4096;

/// The precision of [`end_after`], and how much of a pause counts.
const TICK: Duration = Duration::from_secs(1);

/// The stack of the thread that times it, in bytes.
const WATCH_STACK: usize = 64 << 10;

/// The clocks. `elapsed` counts from the creation of this value.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock with an `elapsed` of zero now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// A clock with that much `elapsed` now; zero if the system's clock has not run for so long.
    pub fn begun(elapsed: Duration) -> Self {
        let now = Instant::now();
        Self { started: now.checked_sub(elapsed).unwrap_or(now) }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        Now { wall: unix_seconds(SystemTime::now()), elapsed: self.started.elapsed() }
    }
}

/// Whole seconds since the Unix epoch; an instant before it counts as the epoch.
pub fn unix_seconds(instant: SystemTime) -> UnixSeconds {
    let since = instant.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Ends this process after it has run for that time, even if it hangs. Time in which it is stopped (a container that is
/// paused) counts for one [`TICK`] at most. An alarm would go off meanwhile, and would end a process that wakes with the
/// server's answer before it has stored the answer.
pub fn end_after(time: Duration) {
    let ticks = time.as_secs().max(1);
    let watch = move || {
        leave_signals_to_others();
        (0..ticks).for_each(|_| std::thread::sleep(TICK));
        // The one signal that nothing ignores or blocks.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    };
    let thread = std::thread::Builder::new().stack_size(WATCH_STACK).spawn(watch);
    if thread.is_err() {
        given::set_dispositions();
        change_held(|held| held.always.remove(Signal::SIGALRM));
        nix::unistd::alarm::set(u32::try_from(ticks).unwrap_or(u32::MAX));
    }
}

/// Closes what this process inherited beside stdin, stdout and stderr. Another process may wait for the end of such a pipe,
/// or for a lock that such a file holds. To be called before anything is opened.
pub fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    let inherited: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    for descriptor in inherited {
        // The one of the list itself is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Bytes that cannot be guessed.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

/// Sixteen random hexadecimal digits.
pub fn nonce() -> io::Result<String> {
    random::<8>().map(|bytes| hexadecimal(&bytes))
}

/// This process. What cannot be read (no `/proc`) stays empty. No process concludes anything from an empty value.
pub fn this_process() -> Owner {
    let pid = std::process::id();
    let read = |path: &str| read_at_once(path).unwrap_or_default().trim().to_owned();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    Owner {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot: read("/proc/sys/kernel/random/boot_id"),
        pid_namespace: namespace.to_string_lossy().into_owned(),
        pid,
        start_time: process_status(pid).map(|status| status.start_time).unwrap_or(0),
    }
}

/// Whether the process that left a record still runs, as far as `me` can tell.
pub fn presence(owner: &Owner, me: &Owner) -> Presence {
    let same = |a: &str, b: &str| !a.is_empty() && a == b;
    if !same(&owner.boot, &me.boot) || !same(&owner.pid_namespace, &me.pid_namespace) {
        return Presence::Unknown;
    }
    let Some(pid) = i32::try_from(owner.pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return Presence::Unknown;
    };
    // A hidden process (`hidepid`) shows in no directory, but still answers to a signal that is not sent.
    if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return Presence::Gone;
    }
    match process_status(owner.pid) {
        Some(status) if status.is_dead || status.start_time != owner.start_time => Presence::Gone,
        _ => Presence::Alive,
    }
}

/// The name of the program that asked for what this process does: of its parent, and of that one's where the parent is
/// this very program, as a worker's is. None where the system does not show it.
pub fn caller_program() -> Option<String> {
    let this = fs::read_link("/proc/self/exe").ok()?;
    let mut pid = std::os::unix::process::parent_id();
    if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == this) {
        pid = process_status(pid)?.parent;
    }
    program_name(pid)
}

/// The most processes of this program between one and the program that asked for what it does: a worker and its caller.
const OWN_PROCESSES: usize = 3;

/// The name of the program that asked for what this process of another program, or of onegrant, does.
pub fn program_behind(mut pid: u32) -> Option<String> {
    for _ in 0..OWN_PROCESSES {
        match program_name(pid)? {
            name if name == "onegrant" => pid = process_status(pid)?.parent,
            name => return Some(name),
        }
    }
    None
}

fn program_name(pid: u32) -> Option<String> {
    let name = read_at_once(&format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned()).filter(|name| !name.is_empty())
}

/// Whether a signal has stopped the parent of this process.
pub(crate) fn parent_is_stopped() -> bool {
    process_status(std::os::unix::process::parent_id()).is_some_and(|status| status.is_stopped)
}

struct ProcessStatus {
    is_dead: bool,
    is_stopped: bool,
    parent: u32,
    start_time: u64,
}

/// Reads a file of `/proc` with one call. Such a file shows no length, so the standard library would begin with 32 bytes.
fn read_at_once(path: &str) -> io::Result<String> {
    let mut bytes = [0; PROC_LIMIT];
    let length = fs::File::open(path)?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned())
}

/// Fields 3, 4 and 22 of `/proc/PID/stat` (proc(5)); the name before them may hold anything, so count from its end.
fn process_status(pid: u32) -> Option<ProcessStatus> {
    let line = read_at_once(&format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let start_time = fields.nth(17)?.parse().ok()?;
    let (is_dead, is_stopped) = (matches!(state, "Z" | "X"), state == "T");
    Some(ProcessStatus { is_dead, is_stopped, parent, start_time })
}

/// Ends a process: Ctrl-C, a polite kill, a closed terminal.
const ENDS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Stops a process: Ctrl-Z, and the terminal, if the process is in the background.
const STOPS: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// The signals that this thread holds back.
#[derive(Clone, Copy)]
struct Held {
    /// What is blocked anyway.
    always: SigSet,
    /// How many [`SignalsHeld`] hold [`ENDS`] back, and how many hold [`STOPS`] back.
    ends: u32,
    stops: u32,
}

thread_local! {
    static HELD: Cell<Option<Held>> = const { Cell::new(None) };
}

/// Changes what this thread holds back, and gives whether the system agreed.
fn change_held(change: impl FnOnce(&mut Held)) -> bool {
    given::mask();
    let unchanged = || SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
    let mut held = HELD.get().unwrap_or_else(|| Held { always: unchanged(), ends: 0, stops: 0 });
    change(&mut held);
    let mut mask = held.always;
    mask.extend(ENDS.into_iter().filter(|_| held.ends > 0));
    mask.extend(STOPS.into_iter().filter(|_| held.stops > 0));
    let is_set = mask.thread_set_mask().is_ok();
    if is_set {
        HELD.set(Some(held));
    }
    is_set
}

/// From now on a polite kill, Ctrl-C and a closed terminal end nothing: the file becomes readable instead. To be called before
/// the first thread begins. A signal that the parent ignores changes nothing.
pub fn end_signals() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    change_held(|held| held.always.extend(&signals));
    let ignored = signals.iter().filter(|signal| given::is_ignored(*signal)).collect::<SigSet>();
    ignored.iter().for_each(|signal| signals.remove(signal));
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Holds signals back until it is dropped: Ctrl-C, a closed terminal and a polite kill wait until the answer is
/// stored. They are delivered then, and do what they do. Several may be held at once, and dropped in any order.
#[derive(Debug)]
pub struct SignalsHeld {
    ends: u32,
}

impl SignalsHeld {
    /// Holds them back from now on, and SIGXFSZ, too, so that a file size limit is an error of the write. `None` if the
    /// system refuses.
    pub fn hold() -> Option<Self> {
        let hold = |held: &mut Held| {
            // A pending SIGXFSZ has already been reported as an error of a write. It stays blocked, because it would kill later.
            held.always.add(Signal::SIGXFSZ);
            (held.ends, held.stops) = (held.ends.saturating_add(1), held.stops.saturating_add(1));
        };
        change_held(hold).then_some(Self { ends: 1 })
    }

    /// Holds back only stop signals: while a process is stopped with a lock, all that wait for the lock are stuck.
    pub fn hold_stops() -> Option<Self> {
        change_held(|held| held.stops = held.stops.saturating_add(1)).then_some(Self { ends: 0 })
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        change_held(|held| {
            (held.ends, held.stops) = (held.ends.saturating_sub(self.ends), held.stops.saturating_sub(1));
        });
    }
}

/// Whether this process has the advisory lock on the file at `path`: through any of its descriptors, an inherited one too,
/// which the kernel lists for each (proc_pid_fdinfo(5)).
pub fn holds_lock(path: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return false };
    descriptors.filter_map(Result::ok).any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|target| target == path)
            && fs::read_to_string(Path::new("/proc/self/fdinfo").join(descriptor.file_name())).is_ok_and(
                |info| info.lines().any(|line| line.starts_with("lock:") && line.contains("WRITE")),
            )
    })
}

/// While this process is in the background, a read from the terminal fails from now on, instead of stopping the process.
pub fn never_stop_for_the_terminal() {
    change_held(|held| held.always.add(Signal::SIGTTIN));
}

/// Blocks all signals in this thread: a signal that another thread holds back must not arrive here.
pub fn leave_signals_to_others() {
    // This thread began with the signals of the one that started it.
    given::mask();
    let _ = SigSet::all().thread_block();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_seen_alive_then_gone_and_a_reused_identifier_is_noticed() {
        let me = this_process();
        assert_eq!(presence(&me, &me), Presence::Alive);
        let reused = Owner { start_time: me.start_time.wrapping_add(1), ..me.clone() };
        assert_eq!(presence(&reused, &me), Presence::Gone);

        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let start_time = process_status(child.id()).unwrap().start_time;
        let owner = Owner { pid: child.id(), start_time, ..me.clone() };
        assert_eq!(presence(&owner, &me), Presence::Alive);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(presence(&owner, &me), Presence::Gone);
    }

    #[test]
    fn a_process_of_another_boot_or_namespace_is_unknown() {
        let me = this_process();
        for other in [
            Owner { boot: "another".to_owned(), ..me.clone() },
            Owner { pid_namespace: "pid:[1]".to_owned(), ..me.clone() },
            Owner { boot: String::new(), ..me.clone() },
        ] {
            assert_eq!(presence(&Owner { pid: u32::MAX, ..other }, &me), Presence::Unknown);
        }
    }
}
