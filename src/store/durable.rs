//! Writing so that neither a kill nor a power cut leaves half a file: create beside, sync, then give it its name.

use super::files::{ProfileFiles, failure};
use super::open::{create_new, keep_owner_and_mode};
use crate::error::Failure;
use crate::system;
use crate::system::ownership::give_to_owner_of;
use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, getrlimit};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

pub(super) fn nonce(place: &ProfileFiles) -> Result<String, Failure> {
    system::nonce().map_err(|error| failure("name a file in", &place.directory, &error))
}

/// Syncs the directory; where a file system has no such call, its names are as safe as they get.
pub(super) fn sync_directory(place: &ProfileFiles) -> io::Result<()> {
    match File::open(&place.directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}

pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_new(path)?;
    give_to_owner_of(&file, path.parent().unwrap_or(path))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Puts a whole new file in the place of the one at `path`, by a rename.
pub(super) fn write_over(place: &ProfileFiles, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = place.temporary(&system::nonce()?);
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates an empty file beside the document, which has the document's owner and mode before anything stands in
/// it. What lies there already is a leftover: the name is ours alone while its record is.
pub(super) fn create_beside(place: &ProfileFiles, path: &Path) -> io::Result<File> {
    remove(path)?;
    let file = create_new(path)?;
    keep_owner_and_mode(&file, &place.document)?;
    Ok(file)
}

/// One write covers the old text to its end, with white space where the new one is shorter: no reader meets the new
/// document with the old one's tail, and a kill in between leaves a whole document.
pub(super) fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut padded = bytes.to_vec();
    padded.resize(length.max(bytes.len()), b'\n');
    file.write_all_at(&padded, 0)?;
    file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
    file.sync_all()
}

/// Reserves `bytes` of room without changing the length, so that an unfinished answer stays empty.
pub(super) fn reserve(mut file: &File, bytes: u64) -> io::Result<()> {
    // The call below does not look at the limit that the write would meet.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| bytes > limit) {
        return Err(Errno::FBIG.into());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes)) {
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
        Ok(()) => {}
        // Over NFS a repeated request may be told of its own success (link(2)): then the file has two names.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::metadata(from) {
            Ok(metadata) if metadata.nlink() == 2 => {}
            _ => return Err(error),
        },
        Err(error) => {
            let renamed = renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
            return renamed.map_err(|errno| if errno == Errno::INVAL { error } else { errno.into() });
        }
    }
    // The name stands, whatever becomes of the other one.
    let _ = fs::remove_file(from);
    Ok(())
}

/// Removes a file; that it is gone already is as good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
