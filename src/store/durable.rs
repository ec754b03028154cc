//! Writes files so that neither a kill nor a power cut leaves half of one: create under another name, sync, rename.

use super::files::{ProfileFiles, failure, if_there};
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
use std::time::Duration;

/// The age at which a temporary file is removed. It lives for milliseconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

pub(super) fn nonce(files: &ProfileFiles) -> Result<String, Failure> {
    system::nonce().map_err(|error| failure("name a file in", &files.directory, &error))
}

/// Syncs the directory. Some file systems have no such call: their names cannot be made safer.
pub(super) fn sync_directory(files: &ProfileFiles) -> io::Result<()> {
    match File::open(&files.directory)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}

/// Writes and syncs a file that did not exist.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_new(path)?;
    give_to_owner_of(&file, path.parent().unwrap_or(path))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces the file at `path` by a rename.
pub(super) fn write_over(files: &ProfileFiles, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = files.temporary(&system::nonce()?);
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates an empty file that will become the document. It gets the document's owner and mode before anything is written
/// into it. An existing file is left over from an earlier attempt: the record of this process owns the name.
pub(super) fn create_beside(files: &ProfileFiles, path: &Path) -> io::Result<File> {
    remove(path)?;
    let file = create_new(path)?;
    keep_owner_and_mode(&file, &files.document)?;
    Ok(file)
}

/// Overwrites a file. One write covers the old text to its end; newlines fill up a shorter new text. So no reader sees the
/// new document with the end of the old one, and a kill after this write leaves a whole document.
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
    // fallocate(2) does not check the file size limit of this process, and a later write does.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| bytes > limit) {
        return Err(Errno::FBIG.into());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes)) {
        Ok(()) => {}
        // This file system has no fallocate(2): write, then free the room again. It was free a moment ago.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            io::copy(&mut io::repeat(b' ').take(bytes), &mut file)?;
            file.sync_all()?;
            file.set_len(0)?;
        }
        Err(errno) => return Err(errno.into()),
    }
    file.sync_all()
}

/// Gives a complete, synced file its name, if that is free: by a hard link or, on a file system without hard links, by a
/// rename that replaces nothing. No process sees half a record.
pub(super) fn name_exclusively(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {}
        // Over NFS a repeated request can fail because the first one succeeded (link(2)): then the file has two names.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::metadata(from) {
            Ok(metadata) if metadata.nlink() == 2 => {}
            _ => return Err(error),
        },
        Err(error) => {
            let renamed = renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
            return renamed.map_err(|errno| if errno == Errno::INVAL { error } else { errno.into() });
        }
    }
    // The file has its name. A temporary name that stays is removed later.
    let _ = fs::remove_file(from);
    Ok(())
}

/// Removes a file, if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if_there(fs::remove_file(path)).map(drop)
}

/// Whether a temporary file is so old that its process must have been killed.
pub(super) fn is_abandoned(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
    matches!(age, Ok(Ok(age)) if age > ABANDONED_AFTER)
}
