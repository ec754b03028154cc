//! What a file system that machines share does to a file while another one is put in its place, and what helps.

use super::answers_lock_calls_at_once;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::io;
use std::path::Path;
use std::time::Duration;

/// When a file is looked for again that is not there. NFS and libfuse move a file away before they put another one in its
/// place, if somebody has it open: until then there is none.
const ABSENT_DELAYS: [Duration; 5] = [Duration::from_millis(20); 5];

/// Whether the file at `path` may be on a file system that another machine sees, too.
pub fn is_shared(path: &Path) -> bool {
    !answers_lock_calls_at_once(path)
}

/// Has a shared file system that remembers names forget what it remembers of this one, so that no older file is read: a
/// rename onto itself that replaces nothing changes nothing, and has it asked anew.
pub fn forget(path: &Path) {
    let _ = renameat_with(CWD, path, CWD, path, RenameFlags::NOREPLACE);
}

/// Reads the file; one that is not there is looked for again where it may have been moved away for a moment. `find` says
/// where it is behind its links, and is asked for nothing else.
pub fn read<'a, T>(find: impl Fn() -> Option<&'a Path>, read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for delay in ABSENT_DELAYS {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && find().is_some_and(is_shared) => {
                std::thread::sleep(delay);
            }
            result => return result,
        }
    }
    read()
}
