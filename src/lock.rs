//! The advisory lock, and the only user of fs4: a guard, and calls that end by a deadline.
//!
//! Only "would block" means busy. A lock call can hang where no signal reaches it (NFS without a lock manager,
//! FUSE), so each runs in a thread of its own: whoever asked stops waiting at the deadline, and the thread ends
//! with the process.

use crate::error::{Failure, describe};
use crate::session::Patience;
use crate::store::open::give_to_owner_of;
use fs4::{FileExt, TryLockError};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The stack of the thread that makes the call, in bytes: it opens a file and locks it.
const STACK_BYTES: usize = 64 << 10;

/// Holds the lock until it is dropped; the kernel drops it with the process, even after SIGKILL.
#[derive(Debug)]
pub struct Guard {
    /// Closing it unlocks. Locks belong to the open file, and it is not inherited by an `exec`.
    file: Option<File>,
}

impl Guard {
    /// A guard of nothing, for who waited for a release.
    pub fn none() -> Self {
        Self { file: None }
    }

    /// The same lock once more: it is held until both are dropped.
    pub fn share(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose()
    }
}

/// What became of a lock call.
#[derive(Debug)]
pub enum Locked {
    /// It is held; after [`Patience::Release`]: it was free for a moment, and is not held.
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

/// A lock call on its way, in a thread of its own. It can be waited for more than once.
#[derive(Debug)]
pub struct Call {
    receiver: Receiver<Answer>,
}

type Answer = io::Result<Option<Guard>>;

impl Call {
    /// Begins to lock the file at `path`, which is created where it is missing and never removed.
    pub fn begin(path: &Path, patience: Patience) -> Self {
        let (sender, receiver) = channel();
        let (owned, threads) = (path.to_owned(), sender.clone());
        let spawned = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // Nobody listens after the deadline: the guard is dropped then, and the lock with it.
            let _ = threads.send(call(&owned, patience));
        });
        if spawned.is_err() {
            // No thread to be had: a call that does not wait needs none. Who waits for a release takes nothing.
            let answer = call(path, Patience::Try).map(|guard| match patience {
                Patience::Release => guard.map(|_| Guard::none()),
                Patience::Try | Patience::Queue => guard,
            });
            let _ = sender.send(answer);
        }
        Self { receiver }
    }

    /// Waits for the answer. `fail` makes a failure of what the system says.
    pub fn wait(&self, at_most: Duration, fail: impl Fn(&io::Error) -> Failure) -> Locked {
        match self.receiver.recv_timeout(at_most) {
            Ok(Ok(Some(guard))) => Locked::Granted(guard),
            Ok(Ok(None)) => Locked::Busy,
            Ok(Err(error)) if cannot_lock(&error) => Locked::Refused(describe(&error)),
            Ok(Err(error)) => Locked::Failed(fail(&error)),
            Err(RecvTimeoutError::Timeout) => Locked::Unanswered,
            Err(RecvTimeoutError::Disconnected) => {
                Locked::Failed(fail(&io::Error::other("the locking thread ended")))
            }
        }
    }
}

/// Opens and locks. Opened for reading and writing, because NFS turns an exclusive flock into a record lock.
fn call(path: &Path, patience: Patience) -> Answer {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    give_to_owner_of(&file, path.parent().unwrap_or(path))?;
    match patience {
        Patience::Try => match FileExt::try_lock(&file) {
            Ok(()) => Ok(Some(Guard { file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        },
        // All who wait for a release hold the lock shared for a moment, together.
        Patience::Release => {
            retry(|| FileExt::lock_shared(&file))?;
            Ok(Some(Guard::none()))
        }
        Patience::Queue => {
            retry(|| FileExt::lock(&file))?;
            Ok(Some(Guard { file: Some(file) }))
        }
    }
}

/// A lock call that a signal interrupts is made again; signals are rare, so the number of rounds is too.
fn retry(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => return result,
        }
    }
}

/// What a place says that cannot lock: NFS without a lock manager, FUSE and 9p without the call.
fn cannot_lock(error: &io::Error) -> bool {
    const REFUSALS: [Errno; 5] = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::BADF];
    error.raw_os_error().is_some_and(|raw| REFUSALS.iter().any(|errno| errno.raw_os_error() == raw))
}
