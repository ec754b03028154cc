//! The advisory lock: a guard, and calls that end by a deadline.
//!
//! Only "would block" means busy. A lock call can hang where no signal reaches it (NFS without a lock manager,
//! FUSE), so those that wait, and all on such file systems, run in a thread of their own: whoever asked stops waiting at
//! the deadline, and the thread ends with the process. On such file systems the thread has another process make the
//! call: what a FUSE server has taken and does not answer holds a process against SIGKILL, and its parent, who would wait
//! for its end.

use crate::error::Failure;
use crate::output::Undisturbed;
use crate::session::LockMode;
use crate::subprocess::lock_call;
use crate::system::{self, flock, ownership::give_to_owner_of};
use crate::text::describe;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The stack of the thread that makes the calls, in bytes: it opens a file and locks it.
const STACK_BYTES: usize = 64 << 10;

/// Holds the lock until it is dropped. The kernel releases it when the process ends, even after SIGKILL. Until then stop
/// signals and output to stderr wait, because either could halt this thread. They follow the release: fields drop in order.
#[derive(Debug)]
pub struct Guard {
    /// Closing it unlocks. Locks belong to the open file, and it is not inherited by an `exec`.
    file: Option<File>,
    _undisturbed: Option<Undisturbed>,
}

impl Guard {
    /// A guard of nothing, for a process that waited for a release.
    pub fn none() -> Self {
        Self { file: None, _undisturbed: None }
    }

    /// The guard of a lock that was taken through this file.
    pub fn of(file: File) -> Self {
        Self { file: Some(file), _undisturbed: Some(Undisturbed::begin()) }
    }

    /// The same lock once more, for another process: it is held until both have closed it.
    pub fn share(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose()
    }
}

/// What became of a lock call.
#[derive(Debug)]
pub enum Locked {
    /// It is held; after [`LockMode::AwaitRelease`]: it was free for a moment, and is not held.
    Granted(Guard),
    /// Somebody else holds it.
    Busy,
    /// This place cannot lock, and why.
    Refused(String),
    /// The call did not return in time.
    Unanswered,
    /// The lock file could not be opened, or the system failed.
    Failed(Failure),
}

/// Makes lock calls one after the other: those that may hang in a thread of its own. A call can be waited for more
/// than once.
#[derive(Debug)]
pub struct Locker {
    path: PathBuf,
    thread: Option<(Sender<LockMode>, Receiver<Answer>)>,
    /// The call that has not been answered yet.
    waiting: Option<LockMode>,
}

/// The locked file; none where a release was waited for.
type Answer = io::Result<Option<File>>;

impl Locker {
    /// For the file at `path`, which is created where it is missing and never removed.
    pub fn new(path: PathBuf) -> Self {
        Self { path, thread: None, waiting: None }
    }

    /// Makes the call, or goes on waiting for it. `fail` makes a failure of what the system says.
    pub fn lock(
        &mut self,
        mode: LockMode,
        at_most: Duration,
        fail: impl Fn(&io::Error) -> Failure,
    ) -> Locked {
        // The answer to another call must not be taken for this one's.
        if self.waiting.take_if(|waiting| *waiting != mode).is_some() {
            self.thread = None;
        }
        // A stop signal between the lock call and the guard would leave a stopped process with the lock.
        let _undisturbed = (mode == LockMode::Try).then(Undisturbed::begin);
        let may_hang = mode != LockMode::Try || !system::answers_lock_calls_at_once(&self.path);
        let thread = may_hang.then(|| self.thread.get_or_insert_with(|| start(&self.path)));
        let is_waiting = self.waiting.take().is_some();
        let asked = thread.filter(|(requests, _)| is_waiting || requests.send(mode).is_ok());
        let answer = match asked.map(|(_, answers)| answers.recv_timeout(at_most)) {
            Some(Ok(answer)) => answer,
            Some(Err(RecvTimeoutError::Timeout)) => {
                self.waiting = Some(mode);
                return Locked::Unanswered;
            }
            // Where no thread is to be had, nobody waits.
            None | Some(Err(RecvTimeoutError::Disconnected)) => call(&self.path, LockMode::Try),
        };
        match answer {
            Ok(file) => Locked::Granted(file.map_or_else(Guard::none, Guard::of)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Locked::Busy,
            Err(error) if cannot_lock(&error) => Locked::Refused(describe(&error)),
            Err(error) => Locked::Failed(fail(&error)),
        }
    }
}

fn start(path: &Path) -> (Sender<LockMode>, Receiver<Answer>) {
    let (requests, asked) = channel::<LockMode>();
    let (sender, answers) = channel();
    let path = path.to_owned();
    // After the wait the receiver is gone: the file is closed then, and the lock released.
    let work = move || {
        system::leave_signals_to_others();
        asked.iter().try_for_each(|mode| sender.send(call(&path, mode)))
    };
    drop(std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work));
    (requests, answers)
}

/// Opens and locks. Opened for reading and writing, because NFS turns an exclusive flock into a record lock.
fn call(path: &Path, mode: LockMode) -> Answer {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    give_to_owner_of(&file, path.parent().unwrap_or(path))?;
    match system::answers_lock_calls_at_once(path) {
        true => flock::call(&file, mode)?,
        false => lock_call::make(&file, mode)?,
    }
    // A process that waited for a release does not keep the lock. The file is closed here, so that a stop signal cannot come
    // first.
    Ok((mode != LockMode::AwaitRelease).then_some(file))
}

/// What a place says that cannot lock: NFS without a lock manager, FUSE and 9p without the call.
fn cannot_lock(error: &io::Error) -> bool {
    const REFUSALS: [Errno; 5] = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::BADF];
    error.raw_os_error().is_some_and(|raw| REFUSALS.iter().any(|errno| errno.raw_os_error() == raw))
}
