//! The lock call on an open file, and the only user of fs4.

use crate::session::LockMode;
use fs4::FileExt;
use std::fs::File;
use std::io;
use std::time::Instant;

/// Releases the lock, also if another process has the same open file.
pub fn release(file: &File) -> io::Result<()> {
    FileExt::unlock(file)
}

/// Makes the call; [`io::ErrorKind::WouldBlock`] if another process holds the lock. After [`LockMode::AwaitRelease`] the
/// lock is not held. A call that a signal interrupts is made again until the deadline. Signals are rare, so there are few
/// rounds. After the deadline the error is [`io::ErrorKind::Interrupted`].
pub fn call(file: &File, mode: LockMode, until: Option<Instant>) -> io::Result<()> {
    loop {
        let made = match mode {
            LockMode::Try => FileExt::try_lock(file).map_err(io::Error::from),
            // Processes that wait for a release hold the lock shared for a moment, together.
            LockMode::AwaitRelease => FileExt::lock_shared(file).and_then(|()| FileExt::unlock(file)),
            LockMode::Queue => FileExt::lock(file),
        };
        let is_over = until.is_some_and(|until| Instant::now() >= until);
        if is_over || !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            return made;
        }
    }
}
