//! The file store: one JSON file a profile, replaced atomically, with a lock and attempt records beside it.
//!
//! ```text
//! NAME.json                  the document; replaced by rename, or in place where it is a mount point
//! NAME.lock                  the lock; created once, never removed
//! NAME~attempt.DIGITS.N      record N on the refresh token whose SHA-256 begins with DIGITS; created exclusively
//! NAME~answer.DIGITS.N       the room reserved for its answer; becomes NAME.json
//! NAME~temporary.NONCE       a file on its way to one of these names
//! NAME~history               what became of the grant, for people: see [`crate::history`]
//! ```
//!
//! Order of a commit: write the answer, sync it, compare, rename it, sync the directory, remove the records. What
//! a kill leaves behind at any point is either adopted or swept by the next process.

use super::durable::{
    create_beside, name_exclusively, nonce, remove, reserve, sync_directory, write_in_place, write_new,
    write_over,
};
use super::files::{ProfileFiles, TEMPORARY, answer_prefix, failure, record_prefix};
use super::open::{self, Links};
use super::{NewRecord, Record, RecordName, Snapshot, Store, WriteResult, absent, revision};
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

/// How many numbers are tried where any free one will do.
const MAX_NUMBERS_TRIED: u64 = 4096;

/// The age at which a file on its way is held to be abandoned. It lives for milliseconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// Where a document of this store is.
#[derive(Debug)]
pub struct FileStore {
    pub(super) directory: PathBuf,
    document: PathBuf,
    /// The real place, found once: nothing is looked up between the server's answer and the write.
    place: OnceCell<ProfileFiles>,
    /// The answer's file, open since its room was reserved.
    reserved: RefCell<Option<(PathBuf, File)>>,
    /// What makes the lock calls, from the first one on.
    locker: RefCell<Option<Locker>>,
}

impl FileStore {
    /// The store of one profile in `directory`, which need not exist.
    pub fn new(directory: &Path, profile: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            document: directory.join(format!("{profile}.json")),
            place: OnceCell::new(),
            reserved: RefCell::new(None),
            locker: RefCell::new(None),
        }
    }

    pub(crate) fn place(&self) -> Result<&ProfileFiles, Failure> {
        if let Some(place) = self.place.get() {
            return Ok(place);
        }
        let place =
            ProfileFiles::of(&self.document).map_err(|error| failure("find", &self.document, &error))?;
        Ok(self.place.get_or_init(|| place))
    }

    /// Writes a complete document at `path`, into the reserved room where there is some; to be synced.
    pub(super) fn write_beside(&self, place: &ProfileFiles, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let file = match self.reserved.take() {
            Some((reserved, file)) if reserved == path => file,
            _ => create_beside(place, path)?,
        };
        file.write_all_at(bytes, 0)?;
        Ok(file)
    }

    /// `complete` is where the whole new document lies, from the moment that it does: a failure after that leaves
    /// it there to be adopted.
    fn try_replace(
        &self,
        expected: &Revision,
        bytes: &[u8],
        attempt: Option<RecordName>,
        complete: &mut Option<PathBuf>,
    ) -> Result<WriteResult, Failure> {
        let place = self.place()?;
        let beside = match attempt {
            Some(name) => place.answer(name.key, name.number),
            None => place.temporary(&nonce(place)?),
        };
        let write = || self.write_beside(place, &beside, bytes);
        // A server's answer is nowhere else: what one file does not take, a new one may.
        let written = write().or_else(|_| write()).map_err(|error| {
            let _ = fs::remove_file(&beside);
            failure("write", &beside, &error)
        })?;
        *complete = Some(beside.clone());
        written.sync_all().map_err(|error| failure("sync", &beside, &error))?;
        if let Err(current) = self.holds(expected)? {
            let _ = fs::remove_file(&beside);
            return Ok(WriteResult::Lost(current));
        }
        match self.put_in_place(place, &beside) {
            Ok(()) => {}
            // Somebody who stored a newer session has swept our answer: he came first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.read().map(WriteResult::Lost);
            }
            Err(error) => return Err(failure("replace", &place.document, &error)),
        }
        if sync_directory(place).is_err() {
            return Ok(WriteResult::Unknown);
        }
        if let Some(name) = attempt {
            self.sweep(place, name);
        }
        Ok(WriteResult::Done)
    }

    /// Makes the synced file at `path` the document.
    fn put_in_place(&self, place: &ProfileFiles, path: &Path) -> io::Result<()> {
        if !place.is_mount_point {
            match fs::rename(path, &place.document) {
                // A mount that an old kernel does not show as one.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                result => return result,
            }
        }
        // In place: the completed copy stays until this is synced, and readers read again.
        write_in_place(&place.document, &open::read(path, Links::Refuse)?.0)?;
        fs::remove_file(path)
    }

    /// Whether the store holds `expected`; else what it holds.
    pub(super) fn holds(&self, expected: &Revision) -> Result<Result<(), Option<Snapshot>>, Failure> {
        let current = self.read()?;
        let revision = current.as_ref().map_or_else(absent, |snapshot| snapshot.revision.clone());
        Ok(if revision == *expected { Ok(()) } else { Err(current) })
    }

    /// Removes the record of that attempt, which is over, and those before it. What cannot be removed is met again.
    ///
    /// A record with a higher number may be a live claim: where refresh tokens stay as they are, somebody may want
    /// the next access token already.
    pub(super) fn sweep(&self, place: &ProfileFiles, name: RecordName) {
        let own = [record_prefix(name.key), answer_prefix(name.key)];
        for (suffix, path) in place.sidecars().unwrap_or_default() {
            let number = own.iter().find_map(|prefix| suffix.strip_prefix(prefix.as_str()));
            if number.is_some_and(|number| number.parse().is_ok_and(|number: u64| number <= name.number)) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Removes what was `listed` of other keys than the new record's, and what its maker calls outdated.
    ///
    /// The list was made **before** the document is seen to hold the key's refresh token still: what is in it is
    /// about that or about an older one, because refresh tokens do not come back. No live claim is ever removed.
    pub(super) fn sweep_outdated(listed: &[(String, PathBuf)], record: &NewRecord) {
        let own = [record_prefix(record.name.key), answer_prefix(record.name.key)];
        for (suffix, path) in listed {
            let is_outdated = match own.iter().find_map(|prefix| suffix.strip_prefix(prefix.as_str())) {
                Some(number) => number.parse().is_ok_and(|number| record.outdated.contains(&number)),
                None => !suffix.starts_with(TEMPORARY) || is_old(path),
            };
            if is_outdated {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Numbers come back after a sweep: a process that was paused may meet a stranger's record under its own number.
fn is_ours(place: &ProfileFiles, name: RecordName, ours: &[u8]) -> bool {
    match open::read(&place.record(name.key, name.number), Links::Refuse) {
        Ok((bytes, _)) => bytes == ours,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn is_old(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
    matches!(age, Ok(Ok(age)) if age > ABANDONED_AFTER)
}

impl Store for FileStore {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        // From the second read on the answer counts, and must be no older than the question.
        if let Some(place) = self.place.get().filter(|place| place.is_shared) {
            shared::forget(&place.document);
        }
        let find = || self.place().ok().map(|place| place.document.as_path());
        let (bytes, metadata) = match shared::read(find, || open::read(&self.document, Links::Follow)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| failure("read", &self.document, &error))?,
        };
        let warning = open::warning(&metadata, &self.document);
        let distrust = trust::distrust(&metadata, &self.document);
        Ok(Some(Snapshot { revision: revision(&bytes), bytes, warning, distrust }))
    }

    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult {
        let mut complete = None;
        self.try_replace(expected, bytes, attempt, &mut complete).unwrap_or_else(|failure| {
            if let (None, Some(path)) = (attempt, &complete) {
                let _ = fs::remove_file(path); // without an attempt it is nobody's
            }
            let kept = complete.filter(|_| attempt.is_some());
            WriteResult::Failed { failure, kept: kept.map(|path| printable(&path.display().to_string())) }
        })
    }

    fn remove(&self, expected: &Revision, mark: &[u8]) -> WriteResult {
        self.try_remove(expected, mark).unwrap_or_else(|failure| WriteResult::Failed { failure, kept: None })
    }

    fn lock(&self, mode: LockMode, at_most: Duration) -> Locked {
        let place = match self.place() {
            Ok(place) => place,
            Err(failure) => return Locked::Failed(failure),
        };
        let mut locker = self.locker.borrow_mut();
        let locker = locker.get_or_insert_with(|| Locker::new(place.lock(), !place.is_shared));
        locker.lock(mode, at_most, |error| failure("lock", &place.lock(), error))
    }

    fn stop_waiting(&self) {
        self.locker.take();
    }

    fn records(&self, key: &str) -> Result<Vec<Record>, Failure> {
        let place = self.place()?;
        let sidecars = place.sidecars().map_err(|error| failure("read", &place.directory, &error))?;
        let mut records = Vec::new();
        for (suffix, path) in sidecars {
            let Some(number) =
                suffix.strip_prefix(&record_prefix(key)).and_then(|number| number.parse().ok())
            else {
                continue;
            };
            let bytes = match open::read(&path, Links::Refuse) {
                // Removed since it was listed: its attempt is over.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|error| failure("read", &path, &error))?.0,
            };
            let answer = place.answer(key, number);
            // While its owner is at work, the room is empty.
            let is_empty = fs::symlink_metadata(&answer).is_ok_and(|metadata| metadata.len() == 0);
            let read = (!is_empty).then(|| open::read(&answer, Links::Refuse).ok()).flatten();
            records.push(Record { number, bytes, answer: read.map(|(bytes, _)| bytes).unwrap_or_default() });
        }
        records.sort_by_key(|record| record.number);
        Ok(records)
    }

    fn create_record(&self, record: &NewRecord) -> Result<Option<u64>, Failure> {
        let NewRecord { name, exclusive, .. } = *record;
        let place = self.place()?;
        let listed = place.sidecars().map_err(|error| failure("read", &place.directory, &error))?;
        let temporary = place.temporary(&nonce(place)?);
        let discard = |error: &io::Error, path: &Path| {
            let _ = fs::remove_file(&temporary);
            failure("write", path, error)
        };
        write_new(&temporary, record.bytes).map_err(|error| discard(&error, &temporary))?;
        let tried = if exclusive { 1 } else { MAX_NUMBERS_TRIED };
        for number in name.number..name.number.saturating_add(tried) {
            let path = place.record(name.key, number);
            match name_exclusively(&temporary, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(|error| discard(&error, &path))?,
            }
            let answer = place.answer(name.key, number);
            let reserved = create_beside(place, &answer).and_then(|file| {
                let size = fs::metadata(&place.document).map_or(0, |metadata| metadata.len());
                reserve(&file, record.reserve.saturating_add(size))?;
                sync_directory(place)?;
                Ok(file)
            });
            match reserved {
                Ok(file) => self.reserved.replace(Some((answer, file))),
                // A sweep had set the number free, and somebody else took it, too: look again.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let _ = fs::remove_file(&path);
                    return Ok(None);
                }
                Err(error) => {
                    let _ = (fs::remove_file(&answer), fs::remove_file(&path));
                    return Err(failure("reserve room in", &answer, &error));
                }
            };
            if matches!(self.holds(record.expected), Ok(Ok(()))) {
                Self::sweep_outdated(&listed, record);
            }
            return Ok(Some(number));
        }
        let _ = fs::remove_file(&temporary);
        Ok(None)
    }

    fn rewrite_record(
        &self,
        name: RecordName,
        ours: &[u8],
        bytes: &[u8],
        is_over: bool,
    ) -> Result<(), Failure> {
        let place = self.place()?;
        if !is_ours(place, name, ours) {
            return Ok(());
        }
        let answer = place.answer(name.key, name.number);
        if is_over && fs::metadata(&answer).is_ok_and(|metadata| metadata.len() == 0) {
            self.reserved.take();
            let _ = fs::remove_file(&answer);
        }
        let path = place.record(name.key, name.number);
        write_over(place, &path, bytes).map_err(|error| failure("write", &path, &error))
    }

    fn remove_record(&self, name: RecordName, ours: &[u8]) -> Result<(), Failure> {
        let place = self.place()?;
        self.reserved.take();
        if !is_ours(place, name, ours) {
            return Ok(());
        }
        [place.answer(name.key, name.number), place.record(name.key, name.number)]
            .iter()
            .try_for_each(|path| remove(path).map_err(|error| failure("remove", path, &error)))
    }

    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure> {
        let place = self.place()?;
        let answer = place.answer(name.key, name.number);
        // Its writer may have been killed before the sync.
        match File::open(&answer).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(|error| failure("sync", &answer, &error))?,
        }
        if self.holds(expected)?.is_err() {
            return Ok(false);
        }
        match self.put_in_place(place, &answer) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(|error| failure("replace", &place.document, &error))?,
        }
        sync_directory(place).map_err(|error| failure("sync", &place.directory, &error))?;
        self.sweep(place, name);
        Ok(true)
    }

    fn location(&self) -> String {
        printable(&self.document.display().to_string())
    }
}
