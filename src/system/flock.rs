//! The lock call on an open file, and the only user of fs4.

use crate::session::LockMode;
use fs4::FileExt;
use std::fs::File;
use std::io;

/// Makes the call; [`io::ErrorKind::WouldBlock`] if another process holds the lock. After [`LockMode::AwaitRelease`] the lock
/// is not held. A call that a signal interrupts is made again; signals are rare, so the number of rounds is too.
pub fn call(file: &File, mode: LockMode) -> io::Result<()> {
    loop {
        let made = match mode {
            LockMode::Try => FileExt::try_lock(file).map_err(io::Error::from),
            // Processes that wait for a release hold the lock shared for a moment, together.
            LockMode::AwaitRelease => FileExt::lock_shared(file).and_then(|()| FileExt::unlock(file)),
            LockMode::Queue => FileExt::lock(file),
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            made => return made,
        }
    }
}
