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
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The stack of the thread that makes the call, in bytes: it opens a file and locks it.
const STACK_BYTES: usize = 64 << 10;

/// Holds the lock until it is dropped; the kernel drops it with the process, even after SIGKILL.
#[derive(Debug)]
pub struct Guard {
    /// Closing it unlocks. Locks belong to the open file, and it is not inherited by an `exec`.
    _file: Option<File>,
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

/// Locks the file at `path`, which is created where it is missing and never removed. `fail` makes a failure
/// of what the system says.
pub fn lock(
    path: &Path,
    patience: Patience,
    at_most: Duration,
    fail: impl Fn(&io::Error) -> Failure,
) -> Locked {
    let answer = match call_in_thread(path.to_owned(), patience) {
        Ok(receiver) => match receiver.recv_timeout(at_most) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => return Locked::Unanswered,
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the locking thread ended")),
        },
        // No thread to be had: a call that does not wait needs none. Who waited for a release takes nothing.
        Err(_) => call(path, Patience::Try).map(|guard| match patience {
            Patience::Release => guard.map(|_| Guard { _file: None }),
            Patience::Try | Patience::Queue => guard,
        }),
    };
    match answer {
        Ok(Some(guard)) => Locked::Granted(guard),
        Ok(None) => Locked::Busy,
        Err(error) if cannot_lock(&error) => Locked::Refused(describe(&error)),
        Err(error) => Locked::Failed(fail(&error)),
    }
}

type Answer = io::Result<Option<Guard>>;

fn call_in_thread(path: PathBuf, patience: Patience) -> io::Result<Receiver<Answer>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        // Nobody listens after the deadline: the guard is dropped then, and the lock with it.
        let _ = sender.send(call(&path, patience));
    })?;
    Ok(receiver)
}

/// Opens and locks. Opened for reading and writing, because NFS turns an exclusive flock into a record lock.
fn call(path: &Path, patience: Patience) -> Answer {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    give_to_owner_of(&file, path.parent().unwrap_or(path))?;
    match patience {
        Patience::Try => match FileExt::try_lock(&file) {
            Ok(()) => Ok(Some(Guard { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        },
        // All who wait for a release hold the lock shared for a moment, together.
        Patience::Release => {
            retry(|| FileExt::lock_shared(&file))?;
            Ok(Some(Guard { _file: None }))
        }
        Patience::Queue => {
            retry(|| FileExt::lock(&file))?;
            Ok(Some(Guard { _file: Some(file) }))
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
