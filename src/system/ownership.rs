//! The owner of a file that this program creates.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

/// Gives `file` to the owner of `directory` where root created it: `sudo` must not lock the owner out.
pub fn give_to_owner_of(file: &File, directory: &Path) -> io::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => give(file, &fs::metadata(directory)?),
        false => Ok(()),
    }
}

/// Only root can give a file away, others can give it to a group of theirs; what cannot be done stays undone.
pub fn give(file: &File, like: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (like.uid(), like.gid())
        && fchown(file, Some(like.uid()), Some(like.gid())).is_err()
    {
        let _ = fchown(file, None, Some(like.gid()));
    }
    Ok(())
}
