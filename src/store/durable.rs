//! Writing so that neither a kill nor a power cut leaves half a file: create beside, sync, then give it its name.

use super::place::{Place, failure};
use crate::error::Failure;
use crate::system;
use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub(super) fn nonce(place: &Place) -> Result<String, Failure> {
    system::nonce().map_err(|error| failure("name a file in", &place.directory, &error))
}

pub(super) fn sync_directory(place: &Place) -> io::Result<()> {
    File::open(&place.directory)?.sync_all()
}

pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens an empty file beside the document, which has the document's mode and owner before anything stands in it.
pub(super) fn create_beside(place: &Place, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if let Ok(old) = fs::metadata(&place.document) {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            // Only root can give a file away; for everybody else the mode alone decides who reads it.
            let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        if old.mode() & 0o777 != new.mode() & 0o777 {
            file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
        }
    }
    Ok(file)
}

/// Reserves `bytes` of room without changing the length, so that an unfinished answer stays empty.
pub(super) fn reserve(mut file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        Ok(()) => {}
        // Without the call, writing finds out; the room is given back, but it was there a moment ago.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            io::copy(&mut io::repeat(b' ').take(bytes), &mut file)?;
            file.sync_all()?;
            file.set_len(0)?;
        }
        Err(errno) => return Err(errno.into()),
    }
    file.sync_all()
}

/// Gives a complete, synced file its name, exclusively: by a hard link, or where a file system has none, by a
/// rename that replaces nothing. Either way nobody sees half a record.
pub(super) fn name_exclusively(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?),
    }
}

/// Removes a file; that it is gone already is as good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
