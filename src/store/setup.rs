//! What login, logout and the list of profiles need of the file store, beside [`super::Store`].

use super::durable::{
    create_beside, name_exclusively, nonce, remove, reserve, sync_directory, write_in_place,
};
use super::file::FileStore;
use super::files::{failure, if_there, parent};
use super::open::{self, Symlink};
use super::{Comparison, Snapshot, WriteResult, revision, sorted};
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
    /// The profiles in `directory`, sorted. A missing directory has none.
    pub fn profiles(directory: &Path) -> Result<Vec<String>, Failure> {
        let listed = if_there(open::names_in(directory));
        let names = listed.map_err(|error| failure("read", directory, &error))?.unwrap_or_default();
        // A link without a target is what a logout leaves. It is no profile.
        let is_there = |name: &OsString| directory.join(name).try_exists().unwrap_or(true);
        let profile = |name: &OsString| {
            let profile = name.to_str()?.strip_suffix(".json")?;
            is_there(name).then(|| profile.to_owned())
        };
        Ok(sorted(names.iter().filter_map(profile), String::clone))
    }

    /// Creates the directory with mode 0700, and its parents, durably. A power cut loses a synced file if the name of its
    /// directory was not synced.
    pub fn create_directory(&self) -> Result<(), Failure> {
        let missing =
            self.directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let missing: Vec<&Path> = missing.collect();
        let mut builder = fs::DirBuilder::new();
        let created = builder.recursive(true).mode(0o700).create(&self.directory);
        created.map_err(|error| failure("create", &self.directory, &error))?;
        for path in missing {
            // A parent that this process may not read cannot be synced.
            let _ = File::open(parent(path)).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }

    /// Copies an unreadable document to another file, so that a login can replace it. Returns the path of the copy.
    pub fn set_aside(&self) -> Result<PathBuf, Failure> {
        let files = self.files()?;
        let aside = files.set_aside(&nonce(files)?);
        fs::copy(&files.document, &aside)
            .and_then(|_| fs::set_permissions(&aside, Permissions::from_mode(0o600)))
            .and_then(|()| File::open(&aside)?.sync_all())
            .map_err(|error| failure("keep the old document in", &aside, &error))?;
        Ok(aside)
    }

    /// Whether permissions allow to store a refresh. Changes nothing.
    pub fn check_access(&self) -> Result<(), Failure> {
        let directory = &self.files()?.directory;
        rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|errno| failure("write in", directory, &errno.into()))
    }

    /// Removes the document if it still is `expected`, and all its records.
    ///
    /// Without a lock another process may replace the document at any time. So the document gets a temporary name first and is
    /// compared under this name. If it is not `expected`, it gets its name back, unless a newer document has that name by now.
    /// Another process may also have compared the document before, and rename its answer to it afterwards: the caller has to look
    /// once more. The answers are removed last, so that nothing is renamed after that look.
    pub(super) fn try_remove(&self, expected: &Revision, mark: &[u8]) -> Result<WriteResult, Failure> {
        let files = self.files()?;
        // Records that are created later belong to a later document.
        let listed = files.sidecars().unwrap_or_default();
        if let Comparison::Different(current) = self.compare(expected)? {
            return Ok(WriteResult::Lost(current));
        }
        let taken = files.temporary(&nonce(files)?);
        let fail = |error: &io::Error| failure("remove", &files.document, error);
        match fs::rename(&files.document, &taken) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                write_in_place(&files.document, mark).map_err(|error| fail(&error))?;
            }
            // There is none, as expected, or another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(|error| fail(&error))?,
        }
        let put_back = || {
            let _ = name_exclusively(&taken, &files.document);
            let _ = fs::remove_file(&taken);
        };
        match open::read(&taken, Symlink::Refuse) {
            Ok((bytes, metadata)) if revision(&bytes) != *expected => {
                put_back();
                let (revision, distrust) = (revision(&bytes), trust::distrust(&metadata, &files.document));
                return Ok(WriteResult::Lost(Some(Snapshot { bytes, revision, warning: None, distrust })));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                put_back();
                return Err(fail(&error));
            }
            Ok(_) | Err(_) => remove(&taken).map_err(|error| fail(&error))?,
        }
        for sidecar in listed {
            let _ = fs::remove_file(sidecar.path);
        }
        sync_directory(files).map_err(|error| failure("sync", &files.directory, &error))?;
        Ok(WriteResult::Done)
    }

    /// Whether a document of this size can be written. A login checks this before it asks a person for anything.
    pub fn check_writable(&self, bytes: u64) -> Result<(), Failure> {
        self.create_directory()?;
        let files = self.files()?;
        let temporary = files.temporary(&nonce(files)?);
        let reserved = create_beside(files, &temporary).and_then(|file| reserve(&file, bytes));
        let _ = fs::remove_file(&temporary);
        let writable = reserved.and_then(|()| match files.is_mount_point {
            true => OpenOptions::new().write(true).open(&files.document).map(|_| ()),
            false => Ok(()),
        });
        writable.map_err(|error| failure("write", &files.document, &error))
    }
}
