//! The file store: one JSON file a profile, replaced atomically, with a lock and attempt records beside it.
//!
//! ```text
//! NAME.json                  the document; replaced by rename, or in place where it is a mount point
//! NAME.lock                  the lock; created once, never removed
//! NAME~attempt.DIGITS.N      record N on the refresh token whose SHA-256 begins with DIGITS; created exclusively
//! NAME~answer.DIGITS.N       the room reserved for its answer; becomes NAME.json
//! NAME~temporary.NONCE       a file on its way to one of these names
//! ```
//!
//! Order of a commit: write the answer, sync it, compare, rename it, sync the directory, remove the records. What
//! a kill leaves behind at any point is either adopted or swept by the next process.

use super::place::{Place, TEMPORARY, answer_prefix, failure, record_prefix};
use super::{Record, RecordName, Snapshot, Store, Written};
use crate::error::{Failure, Kind, printable};
use crate::grant::DOCUMENT_LIMIT;
use crate::lock::{self, Locked};
use crate::session::{Patience, Revision};
use crate::system;
use rustix::fs::{CWD, FallocateFlags, OFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many numbers are tried where any free one will do.
const MAX_NUMBERS_TRIED: u64 = 4096;

/// How many ended records of one refresh token are kept: a claim that is late by more than that many attempts sees
/// that it was overtaken, because the highest number always stays.
const RECORDS_KEPT: u64 = 8;

/// The age at which a file on its way is held to be abandoned, in seconds. It lives for milliseconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// Where a document of this store is.
#[derive(Clone, Debug)]
pub struct FileStore {
    directory: PathBuf,
    document: PathBuf,
}

impl FileStore {
    /// The store of one profile in `directory`, which need not exist.
    pub fn new(directory: &Path, profile: &str) -> Self {
        Self { directory: directory.to_owned(), document: directory.join(format!("{profile}.json")) }
    }

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
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| failure("create", &self.directory, &error))
    }

    /// Moves unreadable bytes aside, so that a login can write a new document. Gives the new path.
    pub fn set_aside(&self) -> Result<PathBuf, Failure> {
        let place = self.place()?;
        let aside = place.set_aside(&nonce(&place)?);
        fs::copy(&place.document, &aside)
            .and_then(|_| fs::set_permissions(&aside, Permissions::from_mode(0o600)))
            .and_then(|()| File::open(&aside)?.sync_all())
            .map_err(|error| failure("keep the old document in", &aside, &error))?;
        Ok(aside)
    }

    fn place(&self) -> Result<Place, Failure> {
        Place::of(&self.document).map_err(|error| failure("find", &self.document, &error))
    }

    fn read_file(&self) -> io::Result<Option<(Vec<u8>, fs::Metadata)>> {
        let options = OFlags::NONBLOCK.bits().cast_signed(); // a FIFO must not block
        let mut file = match OpenOptions::new().read(true).custom_flags(options).open(&self.document) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if size > DOCUMENT_LIMIT {
            return Err(io::Error::other(format!("it is larger than {DOCUMENT_LIMIT} bytes")));
        }
        // One byte more than there is: one read sees the end, too.
        let mut bytes = vec![0; size + 1];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read(rest) {
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if filled <= size {
                break;
            }
        }
        bytes.truncate(filled);
        Ok(Some((bytes, metadata)))
    }

    /// Writes `bytes` to a new or reserved file with the document's mode and owner, and syncs them.
    fn write_beside(&self, place: &Place, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
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
        file.write_all(bytes)?;
        file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
        file.sync_all()
    }

    /// Makes the synced file at `path` the document.
    fn put_in_place(&self, place: &Place, path: &Path) -> io::Result<()> {
        if !place.is_mount_point {
            match fs::rename(path, &place.document) {
                // A mount that an old kernel does not show as one.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                result => return result,
            }
        }
        // In place, under the lock: the completed copy stays until this is synced, and readers read again.
        let bytes = fs::read(path)?;
        let document = OpenOptions::new().write(true).open(&place.document)?;
        document.write_all_at(&bytes, 0)?;
        document.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
        document.sync_all()?;
        fs::remove_file(path)
    }

    /// Removes what belongs to `key`, whose attempt is over. What cannot be removed is met again.
    fn sweep(&self, place: &Place, key: &str) {
        for (suffix, path) in place.sidecars().unwrap_or_default() {
            if suffix.starts_with(&record_prefix(key)) || suffix.starts_with(&answer_prefix(key)) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn holds(&self, expected: &Revision) -> Result<Result<(), Option<Snapshot>>, Failure> {
        let current = self.read()?;
        let revision = current.as_ref().map_or_else(absent, |snapshot| snapshot.revision.clone());
        Ok(if revision == *expected { Ok(()) } else { Err(current) })
    }
}

/// Removes what was `listed` about other refresh tokens than `key`, and all but the last records of `key` itself.
///
/// The list must have been made **before** the document was seen to hold `key`: what is in it then is about `key` or
/// about an older refresh token, because refresh tokens do not come back. Nobody's live claim is ever removed.
fn sweep_outdated(listed: &[(String, PathBuf)], key: &str, last: u64) {
    let own = [record_prefix(key), answer_prefix(key)];
    for (suffix, path) in listed {
        let number = own.iter().find_map(|prefix| suffix.strip_prefix(prefix.as_str()));
        let is_recent = number
            .and_then(|number| number.parse::<u64>().ok())
            .is_some_and(|number| number.saturating_add(RECORDS_KEPT) > last);
        let is_on_its_way = suffix.starts_with(TEMPORARY) && !is_old(path);
        if !is_recent && !is_on_its_way {
            let _ = fs::remove_file(path);
        }
    }
}

/// The revision of a document that is not there.
pub fn absent() -> Revision {
    Revision("absent".to_owned())
}

/// Revisions are compared within one process, and every session is new: a quick hash tells them apart, and the hot
/// path makes one.
fn revision(bytes: &[u8]) -> Revision {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Revision(format!("{:x}", hasher.finish()))
}

fn nonce(place: &Place) -> Result<String, Failure> {
    system::nonce().map_err(|error| failure("name a file in", &place.directory, &error))
}

fn sync_directory(place: &Place) -> io::Result<()> {
    File::open(&place.directory)?.sync_all()
}

fn is_old(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
    matches!(age, Ok(Ok(age)) if age > ABANDONED_AFTER)
}

/// Gives a complete, synced file its name, exclusively: by a hard link, or where a file system has none, by a
/// rename that replaces nothing. Either way nobody sees half a record.
fn name_exclusively(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?),
    }
}

/// Reserves `bytes` of room without changing the length, so that an unfinished answer stays empty.
fn reserve(path: &Path, bytes: usize) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let length = u64::try_from(bytes).unwrap_or(u64::MAX);
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length) {
        Ok(()) => {}
        // Without the call, writing finds out; the room is given back, but it was there a moment ago.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.write_all(&vec![b' '; bytes])?;
            file.sync_all()?;
            file.set_len(0)?;
        }
        Err(errno) => return Err(errno.into()),
    }
    file.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces the file at `path` by `bytes`, atomically and durably, with mode 0600 from its creation.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let place = Place::of(path).map_err(|error| failure("find", path, &error))?;
    let temporary = place.temporary(&nonce(&place)?);
    let written = write_new(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, &place.document))
        .and_then(|()| sync_directory(&place));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failure("write", path, &error)
    })
}

impl Store for FileStore {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        let read = self.read_file().map_err(|error| failure("read", &self.document, &error))?;
        Ok(read.map(|(bytes, metadata)| {
            let loose = metadata.mode() & 0o077;
            let path = printable(&self.document.display().to_string());
            let warning = (loose != 0).then(|| {
                let mode = metadata.mode() & 0o777;
                Failure::new(Kind::Store, format!("others can read {path}: its mode is {mode:04o}"))
                    .hint(format!("chmod 600 {path}"))
            });
            Snapshot { revision: revision(&bytes), bytes, warning }
        }))
    }

    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> Written {
        let failed = |failure| Written::Failed { failure, kept: None };
        let place = match self.place() {
            Ok(place) => place,
            Err(failure) => return failed(failure),
        };
        let beside = match attempt {
            Some(name) => place.answer(name.key, name.number),
            None => match nonce(&place) {
                Ok(nonce) => place.temporary(&nonce),
                Err(failure) => return failed(failure),
            },
        };
        let discard = || {
            // An answer without an attempt is nobody's; one with an attempt may be adopted.
            if attempt.is_none() {
                let _ = fs::remove_file(&beside);
            }
        };
        if let Err(error) = self.write_beside(&place, &beside, bytes) {
            discard();
            return failed(failure("write", &beside, &error));
        }
        let kept = attempt.map(|_| printable(&beside.display().to_string()));
        match self.holds(expected) {
            Ok(Ok(())) => {}
            Ok(Err(current)) => {
                let _ = fs::remove_file(&beside);
                return Written::Lost(current);
            }
            Err(failure) => {
                discard();
                return Written::Failed { failure, kept };
            }
        }
        if let Err(error) = self.put_in_place(&place, &beside) {
            discard();
            return Written::Failed { failure: failure("replace", &place.document, &error), kept };
        }
        if sync_directory(&place).is_err() {
            return Written::Unknown;
        }
        if let Some(name) = attempt {
            self.sweep(&place, name.key);
        }
        Written::Done
    }

    fn remove(&self) -> Result<(), Failure> {
        let place = match Place::of(&self.document) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| failure("find", &self.document, &error))?,
        };
        match fs::remove_file(&place.document) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failure("remove", &place.document, &error));
            }
            _ => {}
        }
        for (_, path) in place.sidecars().unwrap_or_default() {
            let _ = fs::remove_file(path);
        }
        sync_directory(&place).map_err(|error| failure("sync", &place.directory, &error))
    }

    fn lock(&self, patience: Patience, at_most: Duration) -> Locked {
        match self.place() {
            Ok(place) => {
                let path = place.lock();
                lock::lock(&path, patience, at_most, |error| failure("lock", &path, error))
            }
            Err(failure) => Locked::Failed(failure),
        }
    }

    fn records(&self, key: &str) -> Result<Vec<Record>, Failure> {
        let place = self.place()?;
        let sidecars = place.sidecars().map_err(|error| failure("read", &place.directory, &error))?;
        let prefix = record_prefix(key);
        let mut records = Vec::new();
        for (suffix, path) in sidecars {
            let Some(number) = suffix.strip_prefix(&prefix).and_then(|number| number.parse().ok()) else {
                continue;
            };
            let bytes = match fs::read(&path) {
                // Removed since it was listed: its attempt is over.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|error| failure("read", &path, &error))?,
            };
            let answer = fs::read(place.answer(key, number)).unwrap_or_default();
            records.push(Record { number, bytes, answer });
        }
        records.sort_by_key(|record| record.number);
        Ok(records)
    }

    fn create_record(
        &self,
        name: RecordName,
        bytes: &[u8],
        reserved: usize,
        exclusive: bool,
        expected: &Revision,
    ) -> Result<Option<u64>, Failure> {
        let place = self.place()?;
        let listed = place.sidecars().map_err(|error| failure("read", &place.directory, &error))?;
        let temporary = place.temporary(&nonce(&place)?);
        let discard = |error: &io::Error, path: &Path| {
            let _ = fs::remove_file(&temporary);
            failure("write", path, error)
        };
        write_new(&temporary, bytes).map_err(|error| discard(&error, &temporary))?;
        let tried = if exclusive { 1 } else { MAX_NUMBERS_TRIED };
        for number in name.number..name.number.saturating_add(tried) {
            let path = place.record(name.key, number);
            match name_exclusively(&temporary, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(|error| discard(&error, &path))?,
            }
            let answer = place.answer(name.key, number);
            let durable = reserve(&answer, reserved).and_then(|()| sync_directory(&place));
            if let Err(error) = durable {
                let _ = fs::remove_file(&answer);
                let _ = fs::remove_file(&path);
                return Err(failure("reserve room in", &answer, &error));
            }
            if matches!(self.holds(expected), Ok(Ok(()))) {
                sweep_outdated(&listed, name.key, number);
            }
            return Ok(Some(number));
        }
        let _ = fs::remove_file(&temporary);
        Ok(None)
    }

    fn rewrite_record(&self, name: RecordName, bytes: &[u8]) -> Result<(), Failure> {
        let place = self.place()?;
        let temporary = place.temporary(&nonce(&place)?);
        let path = place.record(name.key, name.number);
        let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failure("write", &path, &error)
        })
    }

    fn remove_record(&self, name: RecordName) -> Result<(), Failure> {
        let place = self.place()?;
        for path in [place.answer(name.key, name.number), place.record(name.key, name.number)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failure("remove", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
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
        match self.put_in_place(&place, &answer) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(|error| failure("replace", &place.document, &error))?,
        }
        sync_directory(&place).map_err(|error| failure("sync", &place.directory, &error))?;
        self.sweep(&place, name.key);
        Ok(true)
    }

    fn check_writable(&self, bytes: usize) -> Result<(), Failure> {
        self.create_directory()?;
        let place = self.place()?;
        let temporary = place.temporary(&nonce(&place)?);
        let reserved = reserve(&temporary, bytes).and_then(|()| match place.is_mount_point {
            true => OpenOptions::new().write(true).open(&place.document).map(|_| ()),
            false => Ok(()),
        });
        let _ = fs::remove_file(&temporary);
        reserved.map_err(|error| failure("write", &place.document, &error))
    }

    fn location(&self) -> String {
        printable(&self.document.display().to_string())
    }
}
