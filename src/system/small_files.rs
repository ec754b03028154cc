//! Small files beside a document, on which no grant depends: the history, notes, credentials for the next process. The
//! directory may be one that others write to.

use super::ownership::give_to_owner_of;
use rustix::fs::OFlags;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Opens a regular file, which has mode 0600 if it is new. Follows no link at the end of the path, and does not wait for a
/// FIFO.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.mode(0o600).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Creates a file with mode 0600 and the owner of its directory. Fails if the name exists: of many processes one succeeds.
pub fn create_exclusively(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let given = give_to_owner_of(&file, path.parent().unwrap_or(path));
    given.inspect_err(|_| drop(fs::remove_file(path)))?;
    Ok(file)
}

/// Creates the directory of a file, which a store without files may not have needed before.
pub fn create_directory_of(file: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(file.parent().unwrap_or(file))
}

/// The path with more at the end of its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
