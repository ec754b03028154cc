//! The advisory lock: a guard, and calls that end by a deadline. See "Lock" in `docs/design.md`.
//!
//! Only "would block" means busy. On a local file system this thread makes the call, and a timer interrupts it. See
//! [`lock_thread`] for the file systems where a call can hang.

mod lock_thread;

use crate::error::Failure;
use crate::output::Undisturbed;
use crate::session::LockMode;
use crate::system::WaitLimit;
use crate::system::{flock, ownership::give_to_owner_of};
use crate::text::describe;
use lock_thread::LockThread;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Holds the lock until it is dropped. The kernel releases it when the process ends, even after SIGKILL. Until then stop
/// signals and output to stderr wait, because either could halt this thread. They follow the release: fields drop in order.
/// The default holds nothing: it is what a process gets that waited for a release.
#[derive(Debug, Default)]
pub struct Guard {
    /// Closing it unlocks, unless another process has it open, too. It is not inherited by an `exec`.
    file: Option<File>,
    /// Whether another process may still have the file open: the one that gave the lock may be stopped before it closes it.
    is_shared: bool,
    _undisturbed: Option<Undisturbed>,
}

impl Guard {
    /// The guard of a lock that was taken through this file.
    pub fn of(file: File) -> Self {
        Self { file: Some(file), is_shared: false, _undisturbed: Some(Undisturbed::begin()) }
    }

    /// The guard of a lock that another process took and gives to this one, which releases it for both.
    pub fn given(file: File) -> Self {
        Self::of(file).shared()
    }

    /// The guard of a lock that programs of this process have, too. It releases the lock for all of them.
    pub fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }

    /// The same lock once more, for another process, which releases it. This process closes its file without that.
    pub fn share(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_shared) {
            // Where this fails, the lock is released when both have closed the file.
            let _ = flock::release(file);
        }
    }
}

/// What became of a lock call.
#[derive(Debug)]
pub enum Locked {
    /// It is held; after [`LockMode::AwaitRelease`]: it was free for a moment, and is not held.
    Granted(Guard),
    /// Another process holds it.
    Busy,
    /// This place cannot lock, and why.
    Refused(String),
    /// The call did not return in time.
    Unanswered,
    /// The lock file could not be opened, or the system failed.
    Failed(Failure),
}

/// Makes lock calls one after the other. A call that was not answered can be made, or waited for, once more.
#[derive(Debug)]
pub struct Locker {
    path: PathBuf,
    /// No call on this file system can hang.
    is_local: bool,
    /// The lock file, kept open between calls where they cannot hang.
    file: Option<File>,
    /// Makes the calls where they may hang.
    thread: Option<LockThread>,
}

impl Locker {
    /// For the file at `path`, which is created if it is missing and never removed.
    pub fn new(path: PathBuf, is_local: bool) -> Self {
        Self { path, is_local, file: None, thread: None }
    }

    /// Makes the call, or goes on waiting for it. `fail` makes a failure of what the system says.
    pub fn lock(
        &mut self,
        mode: LockMode,
        at_most: Duration,
        fail: impl Fn(&io::Error) -> Failure,
    ) -> Locked {
        // A stop signal between the lock call and the guard would leave a stopped process with the lock.
        let _undisturbed = (mode == LockMode::Try).then(Undisturbed::begin);
        let made = match self.is_local {
            true => self.call(mode, at_most),
            false => self.thread.get_or_insert_with(|| LockThread::new(&self.path)).call(mode, at_most),
        };
        match made {
            Ok(guard) => Locked::Granted(guard),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Locked::Busy,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Locked::Unanswered,
            Err(error) if cannot_lock(&error) => Locked::Refused(describe(&error)),
            Err(error) => Locked::Failed(fail(&error)),
        }
    }

    /// Makes the call in this thread, until the timer interrupts it. If there is no timer, it does not wait.
    fn call(&mut self, mode: LockMode, at_most: Duration) -> io::Result<Guard> {
        let file = self.file.take().map_or_else(|| open(&self.path), Ok)?;
        let until = Instant::now() + at_most;
        let limit = (mode != LockMode::Try).then(|| WaitLimit::after(at_most)).transpose();
        let mode = if limit.is_ok() { mode } else { LockMode::Try };
        let made = flock::call(&file, mode, Some(until));
        if made.is_ok() && mode != LockMode::AwaitRelease {
            return Ok(Guard::of(file));
        }
        self.file = Some(file);
        made.map(|()| Guard::default())
    }
}

/// Opens for reading and writing, because NFS turns an exclusive flock into a record lock.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let opened = options.open(path);
    if !opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return opened;
    }
    let file = options.create(true).truncate(false).open(path)?;
    give_to_owner_of(&file, path.parent().unwrap_or(path))?;
    Ok(file)
}

/// What a place says that cannot lock: NFS without a lock manager, FUSE and 9p without the call.
fn cannot_lock(error: &io::Error) -> bool {
    const REFUSALS: [Errno; 5] = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::BADF];
    error.raw_os_error().is_some_and(|raw| REFUSALS.iter().any(|errno| errno.raw_os_error() == raw))
}
