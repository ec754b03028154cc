//! What a file system that machines share does to a file while another one is put in its place, and what helps.
//! See "File systems that machines share" in `docs/design.md`.

use super::answers_lock_calls_at_once;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::io;
use std::path::Path;
use std::time::Duration;

/// The pauses before a missing file is looked for again. NFS and libfuse move a file that is open away before they put
/// another one in its place; in between there is none.
const ABSENT_DELAYS: [Duration; 5] = [Duration::from_millis(20); 5];

/// Whether the file at `path` may be on a file system that another machine sees, too.
pub fn is_shared(path: &Path) -> bool {
    !answers_lock_calls_at_once(path)
}

/// Makes a shared file system forget to which file this name led, so that no older file is read. A rename onto itself with
/// `NOREPLACE` changes nothing, and the server is asked again.
pub fn forget(path: &Path) {
    let _ = renameat_with(CWD, path, CWD, path, RenameFlags::NOREPLACE);
}

/// Reads the file. A missing file is looked for again on a shared file system. `find` gives its path behind the links; it is
/// called only for a missing file.
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
