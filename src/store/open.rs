//! Opens files in a directory that others may write: never through a planted link, never a FIFO, never more than a bound.
//! New files get the owner of the document.

use super::files::ProfileFiles;
use crate::error::{Failure, Kind};
use crate::grant::DOCUMENT_LIMIT;
use crate::system::ownership::give;
use crate::text::{printable, shell_word};
use rustix::fs::{Dir, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What happens if the last component of a path is a symbolic link. The document may be one; a sidecar never is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Symlink {
    Follow,
    Refuse,
}

/// The warning if others can read the document at `path`.
pub(super) fn warning(document: &Metadata, path: &Path) -> Option<Failure> {
    let mode = document.mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let shown = printable(&path.display().to_string());
        let message = format!("others can read {shown}: its mode is {mode:04o}");
        hint(Failure::new(Kind::Store, message), "chmod 600", path)
    })
}

/// Reads a regular file of at most [`DOCUMENT_LIMIT`] bytes. [`ProfileFiles::of`] follows a link, and refuses the link of
/// another user.
pub(super) fn read(path: &Path, symlink: Symlink) -> io::Result<(Vec<u8>, Metadata)> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed(); // a FIFO must not block
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error)
            if symlink == Symlink::Follow && error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
        {
            return read(&ProfileFiles::of(path)?.document, Symlink::Refuse);
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > DOCUMENT_LIMIT {
        return Err(io::Error::other(format!("it is larger than {DOCUMENT_LIMIT} bytes")));
    }
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok((bytes, metadata))
}

/// The names in a directory. `std::fs::read_dir` panics if the directory cannot be closed.
pub(crate) fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::new(File::open(directory)?)? {
        names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned());
    }
    Ok(names)
}

/// Creates a file with mode 0600. Fails if the name exists: another user may have prepared it.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The umask may take rights from the owner, too.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Gives `file` the owner, group and mode of the document at `like`, before anything is written into it. If the group cannot
/// be given, the file gets no rights for its group, which is another one.
pub(super) fn keep_owner_and_mode(file: &File, like: &Path) -> io::Result<()> {
    let Ok(old) = fs::metadata(like) else {
        return Ok(());
    };
    give(file, &old)?;
    let new = file.metadata()?;
    let kept = if new.gid() == old.gid() { 0o777 } else { 0o707 };
    match old.mode() & kept {
        mode if mode == new.mode() & 0o777 => Ok(()),
        mode => file.set_permissions(Permissions::from_mode(mode)),
    }
}

/// Adds the hint `COMMAND PATH`, if the path can be shown.
pub(super) fn hint(failure: Failure, command: &str, path: &Path) -> Failure {
    match shell_word(path) {
        Some(path) => failure.hint(format!("{command} {path}")),
        None => failure,
    }
}
