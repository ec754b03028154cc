//! The file store before and beside its documents: what a login, a list of profiles and `--write` need.

use super::durable::{create_beside, nonce, reserve, sync_directory, write_over};
use super::file::FileStore;
use super::place::{Place, failure};
use crate::error::Failure;
use crate::system::SignalsHeld;
use rustix::fs::Access;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

impl FileStore {
    /// The profiles in `directory`, sorted. None where the directory is missing.
    pub fn profiles(directory: &Path) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| failure("read", directory, &error))?,
        };
        let mut profiles = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| failure("read", directory, &error))?.file_name();
            profiles.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        profiles.sort();
        Ok(profiles)
    }

    /// Creates the directory with mode 0700, and its parents.
    pub fn create_directory(&self) -> Result<(), Failure> {
        let mut builder = fs::DirBuilder::new();
        let created = builder.recursive(true).mode(0o700).create(&self.directory);
        created.map_err(|error| failure("create", &self.directory, &error))
    }

    /// Keeps unreadable bytes beside, so that a login can write a new document. Gives the new path.
    pub fn set_aside(&self) -> Result<PathBuf, Failure> {
        let place = self.place()?;
        let aside = place.set_aside(&nonce(place)?);
        fs::copy(&place.document, &aside)
            .and_then(|_| fs::set_permissions(&aside, Permissions::from_mode(0o600)))
            .and_then(|()| File::open(&aside)?.sync_all())
            .map_err(|error| failure("keep the old document in", &aside, &error))?;
        Ok(aside)
    }

    /// Whether a refresh could be stored, as far as permissions tell. Changes nothing.
    pub fn check_access(&self) -> Result<(), Failure> {
        let directory = &self.place()?.directory;
        rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|errno| failure("write in", directory, &errno.into()))
    }

    /// Finds out before anything is asked of a person whether a document of that many bytes can be written.
    pub fn check_writable(&self, bytes: u64) -> Result<(), Failure> {
        self.create_directory()?;
        let place = self.place()?;
        let temporary = place.temporary(&nonce(place)?);
        let reserved = create_beside(place, &temporary).and_then(|file| reserve(&file, bytes));
        let _ = fs::remove_file(&temporary);
        let writable = reserved.and_then(|()| match place.is_mount_point {
            true => OpenOptions::new().write(true).open(&place.document).map(|_| ()),
            false => Ok(()),
        });
        writable.map_err(|error| failure("write", &place.document, &error))
    }
}

/// Replaces the file at `path` by `bytes`, atomically and durably, with mode 0600 from its creation.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // A file size limit is an error of the write, not a death.
    let _signals = SignalsHeld::hold();
    let place = Place::of(path).map_err(|error| failure("find", path, &error))?;
    write_over(&place, &place.document, bytes)
        .and_then(|()| sync_directory(&place))
        .map_err(|error| failure("write", path, &error))
}
