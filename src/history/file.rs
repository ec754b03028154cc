//! The history file: JSON lines beside the document. No decision depends on it. An entry is appended after its change was
//! stored. The file is never synced, and it is never a reason to fail. A logout keeps it. See "History" in `docs/design.md`.

use super::HistoryEntry;
use crate::session::LockMode;
use crate::system::answers_lock_calls_at_once;
use crate::system::flock;
use crate::system::ownership::give_to_owner_of;
use crate::system::small_files::{create_exclusively, open_regular, with_suffix};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// The end of the file's name, after the name of the profile.
pub const SUFFIX: &str = "~history";

/// How many entries are shown. At least as many are kept.
pub const ENTRIES: usize = 20;

/// The longest line, in bytes: one write appends it as a whole.
const LINE_LIMIT: usize = 4096;

/// A larger file is cut to the last [`ENTRIES`]. In bytes; about fifty lines.
const TRIM_BYTES: u64 = 16 << 10;

/// To a larger file nothing is appended, in bytes: no process could cut it.
const FULL_BYTES: u64 = 256 << 10;

/// How often an entry is appended again because the file was cut meanwhile.
const MAX_APPENDS: u32 = 8;

/// How long a writer waits for another one. A write takes less than a millisecond.
const LOCK_LIMIT: Duration = Duration::from_millis(250);

/// The pause between two tries to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// The age at which an unfinished new file is removed. It lives for less than a millisecond.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// Appends an entry to the file at `path`.
///
/// Writers exclude each other by a lock on the file, so that no line is written while another process cuts the file. A
/// writer that does not get the lock in time appends without it: no process waits long for one that is stopped.
pub fn append(path: &Path, entry: &HistoryEntry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    if line.len() > LINE_LIMIT {
        return Err(io::Error::other("an entry of the history is too long"));
    }
    for _ in 0..MAX_APPENDS {
        let mut file = open_regular(path, OpenOptions::new().read(true).append(true).create(true))?;
        let may_cut = lock(&file, path);
        let size = file.metadata()?.len();
        if size == 0 {
            give_to_owner_of(&file, path.parent().unwrap_or(path))?;
        }
        if size > FULL_BYTES {
            return Err(io::Error::other("the history is full"));
        }
        // Another process has cut the file meanwhile, and this one has no name any more.
        if file.metadata()?.nlink() == 0 {
            continue;
        }
        if is_torn(&file, size)? && !line.starts_with(b"\n") {
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        // The file may also have been cut after the check, but only if this process does not have the lock.
        let metadata = file.metadata()?;
        if metadata.nlink() > 0 {
            return if may_cut && metadata.len() > TRIM_BYTES { trim(path) } else { Ok(()) };
        }
    }
    Err(io::Error::other("the history keeps changing"))
}

/// Locks the file for as long as it is open. False if another process still holds the lock after [`LOCK_LIMIT`]. A place
/// that may not answer is not asked. There the new file, which is created exclusively, keeps writers apart.
fn lock(file: &File, path: &Path) -> bool {
    if !answers_lock_calls_at_once(path) {
        return true;
    }
    let until = Instant::now() + LOCK_LIMIT;
    loop {
        match flock::call(file, LockMode::Try, None) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= until {
                    return false;
                }
                std::thread::sleep(LOCK_PAUSE);
            }
            // It is held, or this place cannot lock.
            _ => return true,
        }
    }
}

/// Whether the last line has no end: a writer was killed in the middle of it, or had no space left.
fn is_torn(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if let Some(end) = size.checked_sub(1) {
        file.read_at(&mut last, end)?;
    }
    Ok(last != [b'\n'])
}

/// The last entries, the oldest first. Lines that are not entries are left out.
pub fn read(path: &Path) -> io::Result<Vec<HistoryEntry>> {
    let bytes = match open_regular(path, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => read_all(&mut file?)?,
    };
    Ok(last_entries(&bytes).into_iter().map(|(entry, _)| entry).collect())
}

fn read_all(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(2 * FULL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last [`ENTRIES`] that are different, each with its line. The same line twice is one entry that was appended again.
/// A line that is not an entry was torn, and is left out.
fn last_entries(bytes: &[u8]) -> Vec<(HistoryEntry, &[u8])> {
    let mut entries: Vec<(HistoryEntry, &[u8])> = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n').rev() {
        if entries.len() == ENTRIES {
            break;
        }
        let entry = serde_json::from_slice(line).ok().filter(|_| line.ends_with(b"\n"));
        if let Some(entry) = entry.filter(|_| !entries.iter().any(|(_, other)| *other == line)) {
            entries.push((entry, line));
        }
    }
    entries.reverse();
    entries
}

/// Replaces the file by one with its last entries. The new file has one name, so one process at a time does so.
///
/// No entry is lost. A writer that has the lock writes before this process reads, or sees that the file has no name any
/// more, and writes to the new one. What a writer without the lock appended after the read, but before the file was
/// replaced, is read again. A kill before the replacement changes nothing.
fn trim(path: &Path) -> io::Result<()> {
    let beside = with_suffix(path, ".new");
    let mut new = match create_exclusively(&beside) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return remove_abandoned(&beside),
        created => created?,
    };
    let replaced = (|| {
        let mut old = open_regular(path, OpenOptions::new().read(true))?;
        let before = read_all(&mut old)?;
        for (_, line) in last_entries(&before) {
            new.write_all(line)?;
        }
        fs::rename(&beside, path)?;
        // A line that was incomplete at the first read is read again from its beginning.
        let whole = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut late = vec![0; usize::try_from(old.metadata()?.len()).unwrap_or(0).saturating_sub(whole)];
        old.read_exact_at(&mut late, u64::try_from(whole).unwrap_or(u64::MAX))?;
        last_entries(&late).into_iter().try_for_each(|(entry, _)| append(path, &entry))
    })();
    replaced.inspect_err(|_| drop(fs::remove_file(&beside)))
}

fn remove_abandoned(path: &Path) -> io::Result<()> {
    let changed_at = fs::metadata(path).and_then(|metadata| metadata.modified());
    // A clock that was set back makes it a file of the future.
    let age = changed_at.map(|at| at.elapsed().unwrap_or_else(|ahead| ahead.duration()));
    let removed = match age {
        Ok(age) if age > ABANDONED_AFTER => fs::remove_file(path),
        other => other.map(drop),
    };
    match removed {
        // The process that made it has renamed or removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
