//! The file store before, beside and after its documents: what a login, a list of profiles and a logout need.

use super::durable::{
    create_beside, name_exclusively, nonce, remove, reserve, sync_directory, write_in_place,
};
use super::file::FileStore;
use super::files::{failure, parent};
use super::open::{self, Links};
use super::{Snapshot, WriteResult, absent, revision};
use crate::error::Failure;
use crate::session::Revision;
use crate::system::trust;
use rustix::fs::Access;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

impl FileStore {
    /// The profiles in `directory`, sorted. None where the directory is missing.
    pub fn profiles(directory: &Path) -> Result<Vec<String>, Failure> {
        let names = match open::names_in(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| failure("read", directory, &error))?,
        };
        // A link that a logout left without its target is no profile.
        let is_there = |name: &&OsString| directory.join(name).try_exists().unwrap_or(true);
        let profile = |name: &OsString| Some(name.to_str()?.strip_suffix(".json")?.to_owned());
        let mut profiles: Vec<String> = names.iter().filter(is_there).filter_map(profile).collect();
        profiles.sort();
        Ok(profiles)
    }

    /// Creates the directory with mode 0700, and its parents, durably: what is synced in a directory whose own name
    /// is not goes with that name in a power cut.
    pub fn create_directory(&self) -> Result<(), Failure> {
        let missing =
            self.directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let missing: Vec<&Path> = missing.collect();
        let mut builder = fs::DirBuilder::new();
        let created = builder.recursive(true).mode(0o700).create(&self.directory);
        created.map_err(|error| failure("create", &self.directory, &error))?;
        for path in missing {
            // A parent that may not be read cannot be synced: its names are as safe as they get.
            let _ = File::open(parent(path)).and_then(|directory| directory.sync_all());
        }
        Ok(())
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

    /// Removes the document if it still is `expected`, and all its records.
    ///
    /// Without a lock another process may replace the document after it was compared. So it gets another name first, and is
    /// compared under that name: what is not `expected` gets its name back, or where a newer one has that name, is reported.
    /// Another process may also have compared before the removal, and put its answer in the place of the document after it.
    /// So the place is read once more when the answers are gone: what is there then is reported.
    pub(super) fn try_remove(&self, expected: &Revision, mark: &[u8]) -> Result<WriteResult, Failure> {
        let place = self.place()?;
        // A record that is created after this belongs to a later document.
        let listed = place.sidecars().unwrap_or_default();
        if let Err(current) = self.holds(expected)? {
            return Ok(WriteResult::Lost(current));
        }
        let mut left = absent();
        let taken = place.temporary(&nonce(place)?);
        let fail = |error: &io::Error| failure("remove", &place.document, error);
        match fs::rename(&place.document, &taken) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                write_in_place(&place.document, mark).map_err(|error| fail(&error))?;
                left = revision(mark);
            }
            // There is none: that is what was expected, or another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(|error| fail(&error))?,
        }
        let put_back = || {
            let _ = name_exclusively(&taken, &place.document);
            let _ = fs::remove_file(&taken);
        };
        match open::read(&taken, Links::Refuse) {
            Ok((bytes, metadata)) if revision(&bytes) != *expected => {
                put_back();
                let (revision, distrust) = (revision(&bytes), trust::distrust(&metadata, &place.document));
                return Ok(WriteResult::Lost(Some(Snapshot { bytes, revision, warning: None, distrust })));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                put_back();
                return Err(fail(&error));
            }
            Ok(_) | Err(_) => remove(&taken).map_err(|error| fail(&error))?,
        }
        for (_, path) in listed {
            let _ = fs::remove_file(path);
        }
        sync_directory(place).map_err(|error| failure("sync", &place.directory, &error))?;
        Ok(self.holds(&left)?.map_or_else(WriteResult::Lost, |()| WriteResult::Done))
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
