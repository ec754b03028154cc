//! The file store: one JSON file for each profile, replaced atomically, with a lock and attempt records beside it.
//!
//! ```text
//! NAME.json                  the document; replaced by a rename, or written in place if it is a mount point
//! NAME.lock                  the lock; created once, never removed
//! NAME~attempt.DIGITS.N      record N on one refresh token; its SHA-256 begins with DIGITS; created exclusively
//! NAME~answer.DIGITS.N       the room reserved for its answer; becomes NAME.json
//! NAME~temporary.NONCE       a file on its way to one of these names
//! NAME~history               what happened to the grant, for people: see [`crate::history`]
//! NAME~rotated               what the command of ONEGRANT_ON_ROTATE was given: see [`crate::session::events`]
//! NAME~login-required.DIGITS the command of ONEGRANT_ON_LOGIN_REQUIRED was told of this dead grant
//! NAME~aws.DIGITS            credentials of a role: see [`crate::profile::credential_cache`]
//! ```
//!
//! The order of a commit, and what the next process does after a kill: "Commit order" in `docs/design.md`.

use super::durable::{
    create_beside, is_abandoned, name_exclusively, nonce, remove, reserve, sync_directory, write_in_place,
    write_new, write_over,
};
use super::files::{ProfileFiles, Sidecar, failure, if_there};
use super::open::{self, Symlink};
use super::{Comparison, NewRecord, Record, RecordName, Snapshot, Store, WriteResult, revision};
use crate::error::Failure;
use crate::lock::{Locked, Locker};
use crate::session::{LockMode, Revision};
use crate::system::{shared, trust};
use crate::text::printable;
use std::cell::{OnceCell, RefCell};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many numbers are tried if any free one is good.
const MAX_NUMBERS_TRIED: u64 = 4096;

/// The store of one profile in a directory.
#[derive(Debug)]
pub struct FileStore {
    pub(super) directory: PathBuf,
    document: PathBuf,
    /// The real document and its sidecars. They are found once: no path is looked up between the server's answer and the write.
    files: OnceCell<ProfileFiles>,
    /// The file for the answer, open since its room was reserved.
    reserved: RefCell<Option<(PathBuf, File)>>,
    /// Makes the lock calls.
    locker: RefCell<Option<Locker>>,
}

impl FileStore {
    /// The store of one profile in `directory`, which need not exist yet.
    pub fn new(directory: &Path, profile: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            document: directory.join(format!("{profile}.json")),
            files: OnceCell::new(),
            reserved: RefCell::new(None),
            locker: RefCell::new(None),
        }
    }

    /// The real document and its sidecars.
    pub(crate) fn files(&self) -> Result<&ProfileFiles, Failure> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files =
            ProfileFiles::of(&self.document).map_err(|error| failure("find", &self.document, &error))?;
        Ok(self.files.get_or_init(|| files))
    }

    /// Writes a complete document at `path`, into the reserved room if there is one. The caller syncs it.
    pub(super) fn write_beside(&self, files: &ProfileFiles, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let file = match self.reserved.take() {
            Some((reserved, file)) if reserved == path => file,
            _ => create_beside(files, path)?,
        };
        file.write_all_at(bytes, 0)?;
        Ok(file)
    }

    /// Sets `complete` to the path of the new document as soon as it is written as a whole. After a later failure the file
    /// stays, so that a process can adopt it.
    fn try_replace(
        &self,
        expected: &Revision,
        bytes: &[u8],
        attempt: Option<RecordName>,
        complete: &mut Option<PathBuf>,
    ) -> Result<WriteResult, Failure> {
        let files = self.files()?;
        let beside = match attempt {
            Some(name) => files.answer(name.key, name.number),
            None => files.temporary(&nonce(files)?),
        };
        let write = || self.write_beside(files, &beside, bytes);
        // This is the only copy of the answer: if one file cannot take it, try a new one.
        let written = write().or_else(|_| write()).map_err(|error| {
            let _ = fs::remove_file(&beside);
            failure("write", &beside, &error)
        })?;
        *complete = Some(beside.clone());
        written.sync_all().map_err(|error| failure("sync", &beside, &error))?;
        if let Comparison::Different(current) = self.compare(expected)? {
            let _ = fs::remove_file(&beside);
            return Ok(WriteResult::Lost(current));
        }
        if !self.replace_document(files, &beside)? {
            // Another process was first. It stored a newer session and removed this answer.
            return self.read().map(WriteResult::Lost);
        }
        if sync_directory(files).is_err() {
            return Ok(WriteResult::Unknown);
        }
        if let Some(name) = attempt {
            self.sweep(files, name);
        }
        Ok(WriteResult::Done)
    }

    /// Makes the synced file at `path` the document. False if that file is gone.
    fn replace_document(&self, files: &ProfileFiles, path: &Path) -> Result<bool, Failure> {
        let write_here = || {
            // The complete copy stays until this is synced. A reader that sees a torn document reads again.
            write_in_place(&files.document, &open::read(path, Symlink::Refuse)?.0)?;
            fs::remove_file(path)
        };
        let replaced = match files.is_mount_point {
            true => write_here(),
            // An old kernel says only now that it is a mount point.
            false => fs::rename(path, &files.document).or_else(|error| match error.kind() {
                io::ErrorKind::ResourceBusy => write_here(),
                _ => Err(error),
            }),
        };
        Ok(if_there(replaced).map_err(|error| failure("replace", &files.document, &error))?.is_some())
    }

    pub(super) fn compare(&self, expected: &Revision) -> Result<Comparison, Failure> {
        Ok(Comparison::of(self.read()?, expected))
    }

    /// Removes the record of this attempt, which is over, and those of its key with lower numbers. A record with a higher
    /// number stays: if the server does not rotate refresh tokens, it may be a live claim for the next access token.
    ///
    /// The next claim removes what cannot be removed now.
    pub(super) fn sweep(&self, files: &ProfileFiles, name: RecordName) {
        for sidecar in files.sidecars().unwrap_or_default() {
            if sidecar.number(name.key).is_some_and(|number| number <= name.number) {
                let _ = fs::remove_file(sidecar.path);
            }
        }
    }

    /// Removes what was `listed` before the new record was created: what belongs to other keys, and what the record calls
    /// outdated.
    ///
    /// After the list was made, the document still held the refresh token of the new record. So other keys in the list belong
    /// to older refresh tokens, because refresh tokens do not come back. No live claim is removed.
    pub(super) fn sweep_outdated(listed: &[Sidecar], record: &NewRecord) {
        for sidecar in listed {
            let is_outdated = match sidecar.number(record.name.key) {
                Some(number) => record.outdated.contains(&number),
                None => !sidecar.is_temporary() || is_abandoned(&sidecar.path),
            };
            if is_outdated {
                let _ = fs::remove_file(&sidecar.path);
            }
        }
    }
}

/// Whether the record with this name is missing or has the bytes that this process wrote. Numbers are used again after a sweep,
/// so a process that was paused may find the record of another one under its own number.
fn is_own_or_missing(files: &ProfileFiles, name: RecordName, own: &[u8]) -> bool {
    let read = if_there(open::read(&files.record(name.key, name.number), Symlink::Refuse));
    read.is_ok_and(|record| record.is_none_or(|(bytes, _)| bytes == own))
}

impl Store for FileStore {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        // A decision may depend on the second read and each later one. They must not use what the file system remembers.
        if let Some(files) = self.files.get().filter(|files| files.is_shared) {
            shared::forget(&files.document);
        }
        let find = || self.files().ok().map(|files| files.document.as_path());
        let read = if_there(shared::read(find, || open::read(&self.document, Symlink::Follow)));
        let Some((bytes, metadata)) = read.map_err(|error| failure("read", &self.document, &error))? else {
            return Ok(None);
        };
        let warning = open::warning(&metadata, &self.document);
        let distrust = trust::distrust(&metadata, &self.document);
        Ok(Some(Snapshot { revision: revision(&bytes), bytes, warning, distrust }))
    }

    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult {
        let mut complete = None;
        self.try_replace(expected, bytes, attempt, &mut complete).unwrap_or_else(|failure| {
            if let (None, Some(path)) = (attempt, &complete) {
                let _ = fs::remove_file(path); // No record refers to it, so no process would adopt it.
            }
            let kept = complete.filter(|_| attempt.is_some());
            WriteResult::Failed { failure, kept: kept.map(|path| printable(&path.display().to_string())) }
        })
    }

    fn remove(&self, expected: &Revision, mark: &[u8]) -> WriteResult {
        self.try_remove(expected, mark).unwrap_or_else(|failure| WriteResult::Failed { failure, kept: None })
    }

    fn lock(&self, mode: LockMode, at_most: Duration) -> Locked {
        let files = match self.files() {
            Ok(files) => files,
            Err(failure) => return Locked::Failed(failure),
        };
        let mut locker = self.locker.borrow_mut();
        let locker = locker.get_or_insert_with(|| Locker::new(files.lock(), !files.is_shared));
        locker.lock(mode, at_most, |error| failure("lock", &files.lock(), error))
    }

    fn stop_waiting(&self) {
        self.locker.take();
    }

    fn records(&self, key: &str) -> Result<Vec<Record>, Failure> {
        let files = self.files()?;
        let listed = files.records(key).map_err(|error| failure("read", &files.directory, &error))?;
        let mut records = Vec::new();
        for (number, path) in listed {
            let read = if_there(open::read(&path, Symlink::Refuse));
            let Some((bytes, _)) = read.map_err(|error| failure("read", &path, &error))? else {
                continue; // It was removed after it was listed: its attempt is over.
            };
            let answer = files.answer(key, number);
            // While its owner runs, the answer is usually empty. A shared file system may remember an old length.
            let is_empty =
                !files.is_shared && fs::symlink_metadata(&answer).is_ok_and(|metadata| metadata.len() == 0);
            let read = (!is_empty).then(|| open::read(&answer, Symlink::Refuse).ok()).flatten();
            records.push(Record { number, bytes, answer: read.map(|(bytes, _)| bytes).unwrap_or_default() });
        }
        Ok(records)
    }

    fn create_record(&self, record: &NewRecord) -> Result<Option<u64>, Failure> {
        let NewRecord { name, exclusive, .. } = *record;
        let files = self.files()?;
        let listed = files.sidecars().map_err(|error| failure("read", &files.directory, &error))?;
        let temporary = files.temporary(&nonce(files)?);
        let discard = |error: &io::Error, path: &Path| {
            let _ = fs::remove_file(&temporary);
            failure("write", path, error)
        };
        write_new(&temporary, record.bytes).map_err(|error| discard(&error, &temporary))?;
        let tried = if exclusive { 1 } else { MAX_NUMBERS_TRIED };
        for number in name.number..name.number.saturating_add(tried) {
            let path = files.record(name.key, number);
            match name_exclusively(&temporary, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(|error| discard(&error, &path))?,
            }
            let answer = files.answer(name.key, number);
            let reserved = create_beside(files, &answer).and_then(|file| {
                let size = fs::metadata(&files.document).map_or(0, |metadata| metadata.len());
                reserve(&file, record.reserve.saturating_add(size))?;
                sync_directory(files)?;
                Ok(file)
            });
            match reserved {
                Ok(file) => self.reserved.replace(Some((answer, file))),
                // A sweep had freed the number, and another process has taken it, too: look again.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let _ = fs::remove_file(&path);
                    return Ok(None);
                }
                Err(error) => {
                    let _ = (fs::remove_file(&answer), fs::remove_file(&path));
                    return Err(failure("reserve room in", &answer, &error));
                }
            };
            if self.compare(record.expected) == Ok(Comparison::Equal) {
                Self::sweep_outdated(&listed, record);
            }
            return Ok(Some(number));
        }
        let _ = fs::remove_file(&temporary);
        Ok(None)
    }

    fn rewrite_record(&self, name: RecordName, old: &[u8], new: &[u8], is_over: bool) -> Result<(), Failure> {
        let files = self.files()?;
        if !is_own_or_missing(files, name, old) {
            return Ok(());
        }
        let answer = files.answer(name.key, name.number);
        if is_over && fs::metadata(&answer).is_ok_and(|metadata| metadata.len() == 0) {
            self.reserved.take();
            let _ = fs::remove_file(&answer);
        }
        let path = files.record(name.key, name.number);
        write_over(files, &path, new).map_err(|error| failure("write", &path, &error))
    }

    fn remove_record(&self, name: RecordName, old: &[u8]) -> Result<(), Failure> {
        let files = self.files()?;
        self.reserved.take();
        if !is_own_or_missing(files, name, old) {
            return Ok(());
        }
        [files.answer(name.key, name.number), files.record(name.key, name.number)]
            .iter()
            .try_for_each(|path| remove(path).map_err(|error| failure("remove", path, &error)))
    }

    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure> {
        let files = self.files()?;
        let answer = files.answer(name.key, name.number);
        // The process that wrote it may have been killed before the sync.
        let synced = if_there(File::open(&answer).and_then(|file| file.sync_all()));
        let is_there = synced.map_err(|error| failure("sync", &answer, &error))?.is_some();
        if !is_there
            || self.compare(expected)? != Comparison::Equal
            || !self.replace_document(files, &answer)?
        {
            return Ok(false);
        }
        sync_directory(files).map_err(|error| failure("sync", &files.directory, &error))?;
        self.sweep(files, name);
        Ok(true)
    }

    fn location(&self) -> String {
        printable(&self.document.display().to_string())
    }
}
