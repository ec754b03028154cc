//! A store in a cell: one value of a server that is replaced by compare-and-swap. This is a key of etcd or a member of a
//! Kubernetes Secret. See "Cell stores" in `docs/design.md`.
//!
//! ```text
//! {"attempts":[{"number":N,"key":DIGEST,"record":TEXT}, …], …the members of the document}
//! ```
//!
//! The document and its records are one value. Each change is a swap against the version that was read, so no process
//! overwrites what it has not read. There is no lock and no lease: a claim that ended by itself would take with it the
//! evidence that a refresh token may be spent.
//!
//! A swap without an answer may have happened, or may happen later. So after each swap that was not plainly won the value is
//! read again. If what was wanted is there, the change is made.
//!
//! The server's answer is written to a file of this machine before the swap, and removed after it. If the store cannot be
//! reached then, the next process on this machine finds the file beside the record and adopts it.

mod at_address;
pub mod etcd;
pub mod kubernetes;
mod value;

pub use at_address::{cell_at, profiles_at};

use crate::error::{self, Failure};
use crate::grant::Secret;
use crate::lock::Locked;
use crate::protocol::Response;
use crate::session::{LockMode, Revision};
use crate::store::durable::{is_abandoned, remove, write_new};
use crate::store::files::digits;
use crate::store::open::{self, Symlink};
use crate::store::sorted;
use crate::store::{NewRecord, Record, RecordName, Snapshot, Store, WriteResult, revision};
use crate::system;
use crate::text::{describe, printable};
use std::cell::{Cell as Slot, RefCell};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use value::{CellRecord, CellValue, NOTHING, VersionedValue};

/// The shortest time for a read, even after the deadline: one try.
const LEAST_READ: Duration = Duration::from_secs(1);

/// The shortest time to store a server's answer, even after the deadline: the refresh token is spent, and a cluster that has
/// lost its leader has another one after two or three seconds.
const LEAST_COMMIT: Duration = Duration::from_secs(8);

/// The pause after a swap that was not won. It doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// The longest wait for a change. Then the caller looks whether the owner of the claim still runs.
const WATCH_LIMIT: Duration = Duration::from_secs(1);

/// The longest answer of a server, in bytes. Kubernetes takes 1 MiB in a Secret, etcd 1.5 MiB in a request, and base64 adds
/// a third.
const ANSWER_LIMIT: u64 = 4 << 20;

/// How long a value that was read replaces the next read: a look reads the records and the document, which are one value. It
/// covers a pause of this process on a busy machine. Each change still compares the version.
const LAST_READ_AGE: Duration = Duration::from_millis(200);

/// The version of a value. Only the cell knows its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// The bytes in a cell, with their version. `None`: the cell is empty.
pub type RawValue = Option<(Vec<u8>, Version)>;

/// How an exchange with a server ended.
enum ExchangeResult<T> {
    Answer(T),
    /// It was sent, and no whole answer came. The text says what happened instead.
    Unknown(String),
    Failed(Failure),
}

/// How a swap ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapResult {
    /// It is durable.
    Done,
    /// The cell held another version; nothing was written.
    Lost,
    /// It may have happened, or may happen later. The text says what came instead of an answer.
    Unknown(String),
    /// It did not happen, and will not happen.
    Failed(Failure),
}

/// One value on a server that compares and swaps.
pub trait Cell {
    /// Reads the newest value. Ends within `at_most`.
    fn read(&self, at_most: Duration) -> Result<RawValue, Failure>;

    /// Writes the value, or removes it if `bytes` is `None`. The server does so only if the cell still has the version
    /// `expected`, or is empty if that is `None`. Ends within `at_most`.
    fn swap(&self, expected: Option<&Version>, bytes: Option<&[u8]>, at_most: Duration) -> SwapResult;

    /// Waits for a change of the value that was read last, at most `at_most`. Returns the new value if the server sent it with
    /// the change.
    fn wait(&self, at_most: Duration) -> Option<RawValue>;

    /// How many seconds this machine's clock was ahead of the server's clock at its last answer.
    fn ahead(&self) -> i64;

    /// The location, for people. It shows no secret.
    fn location(&self) -> String;
}

/// How many seconds this machine's clock is ahead of the server's, which sent this response just now.
fn ahead_of(response: &Response) -> Option<i64> {
    Some(system::unix_seconds(SystemTime::now()).saturating_sub(response.date()?))
}

/// What an edit leaves to do. Each has the result of the change.
enum EditResult<T> {
    /// Nothing has to be written.
    Unchanged(T),
    /// The edited value has to be written. If it is empty, the cell has to be empty.
    Changed(T),
    /// The value has to be written, even if it is empty or the same.
    Rewritten(T),
}

/// Edits the value that was read. The second argument says whether an earlier swap of the same change may have happened.
type Edit<'a, T> = &'a dyn Fn(&mut CellValue, bool) -> Result<EditResult<T>, Failure>;

/// How long a change is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// Until the store fails; at least for [`LEAST_READ`].
    UntilFailure,
    /// This is the only copy of the answer. Failures are retried, too, for at least [`LEAST_COMMIT`].
    OnlyCopy,
}

impl Retry {
    fn least(self) -> Duration {
        match self {
            Self::UntilFailure => LEAST_READ,
            Self::OnlyCopy => LEAST_COMMIT,
        }
    }
}

/// Why a change was not made, and whether it may have been made all the same.
struct ChangeError {
    failure: Failure,
    may_be_done: bool,
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        error.failure
    }
}

/// A store in a cell.
pub struct CellStore {
    cell: Box<dyn Cell>,
    /// The directory of the answer files.
    directory: PathBuf,
    /// The deadline of the command.
    deadline: Instant,
    /// The value that was read last, and when. A wait or a write empties it.
    last_read: RefCell<Option<(Instant, VersionedValue)>>,
    /// Whether programs and files that a document names may be run and read.
    is_trusted: bool,
    /// This process has a claim.
    has_claimed: Slot<bool>,
    /// The last look found records, and all of them belong to other processes.
    waits_for_others: Slot<bool>,
}

impl CellStore {
    /// The store in this cell for a command that has `left` until its deadline. Answer files are in `directory`, which need not
    /// exist yet.
    pub fn new(cell: Box<dyn Cell>, directory: PathBuf, left: Duration) -> Self {
        Self {
            cell,
            directory,
            deadline: Instant::now() + left,
            last_read: RefCell::default(),
            is_trusted: false,
            has_claimed: Slot::new(false),
            waits_for_others: Slot::new(false),
        }
    }

    /// The same store; `is_trusted` says whether the caller trusts every process that may write the value.
    pub fn trusted(self, is_trusted: bool) -> Self {
        Self { is_trusted, ..self }
    }

    /// Why nothing is run or read that a document of this store names.
    pub fn distrust(&self) -> Option<Failure> {
        let message = || format!("cannot run or read what {} names: others may write there", self.location());
        (!self.is_trusted).then(|| {
            Failure::new(error::Kind::Store, message())
                .hint("export ONEGRANT_TRUST_STORE=1   # lets all who may write there run commands here")
        })
    }

    fn snapshot(&self, value: &CellValue) -> Option<Snapshot> {
        Some(Snapshot { distrust: self.distrust(), ..value.snapshot()? })
    }

    /// Pauses for `duration`. If the last look found claims of other processes, waits for a change of the value instead: for a
    /// second at most, and until the deadline.
    pub fn pause(&self, duration: Duration) {
        self.last_read.take();
        if !self.waits_for_others.take() {
            return std::thread::sleep(duration);
        }
        let changed = self.cell.wait(self.left(Duration::ZERO).min(WATCH_LIMIT).max(duration));
        self.last_read.replace(changed.map(|raw| (Instant::now(), VersionedValue::parse(raw))));
    }

    /// Whether the value can be written: writes it as it is. A login checks this before it asks a person for anything.
    pub fn check_writable(&self) -> Result<(), Failure> {
        let was_empty = self.change(Retry::UntilFailure, None, &|value, _| {
            Ok(EditResult::Rewritten(*value == CellValue::default()))
        })?;
        if was_empty {
            self.change(Retry::UntilFailure, None, &|value, _| {
                let is_empty = *value == CellValue::default();
                Ok(if is_empty { EditResult::Changed(()) } else { EditResult::Unchanged(()) })
            })?;
        }
        Ok(())
    }

    /// Whether the value can be read. Changes nothing.
    pub fn check_access(&self) -> Result<(), Failure> {
        self.load(self.left(LEAST_READ)).map(|_| ())
    }

    /// Copies an unreadable document to a file of this machine, so that a login can replace it. Returns the path of the copy.
    pub fn set_aside(&self) -> Result<PathBuf, Failure> {
        let document = self.load(self.left(LEAST_READ))?.value.document;
        let nonce = system::nonce().map_err(|error| self.failure("name a file", &error))?;
        let aside = self.directory.join(format!("~unreadable.{}.{nonce}", self.digits()));
        self.write_beside(&aside, &document.unwrap_or_default())
            .map_err(|error| self.failure("keep the old document", &error))?;
        Ok(aside)
    }

    /// The time until the deadline, at least `least`.
    fn left(&self, least: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(least)
    }

    fn load(&self, at_most: Duration) -> Result<VersionedValue, Failure> {
        self.cell.read(at_most).map(VersionedValue::parse)
    }

    /// The value that was read a moment ago, once. Otherwise reads it.
    fn recent(&self) -> Result<(Instant, VersionedValue), Failure> {
        match self.last_read.take().filter(|(when, _)| when.elapsed() < LAST_READ_AGE) {
            Some(recent) => Ok(recent),
            None => self.load(self.left(LEAST_READ)).map(|read| (Instant::now(), read)),
        }
    }

    /// Changes the value. Reads it, edits it and swaps it, until nothing has to be written or a swap is won. Begins with the
    /// value `seen`, if it is given. After each swap that was not won the value is read once more, even after the deadline: an
    /// edit that finds its own work done is [`EditResult::Unchanged`].
    fn change<T>(
        &self,
        retry: Retry,
        mut seen: Option<VersionedValue>,
        edit: Edit<T>,
    ) -> Result<T, ChangeError> {
        self.last_read.take();
        let began = Instant::now();
        let until = began + self.left(retry.least());
        let left = || until.saturating_duration_since(Instant::now());
        let retried = |failure: Failure, may_be_done| {
            let is_retried = retry == Retry::OnlyCopy && failure.kind == error::Kind::Temporary;
            match is_retried && began.elapsed() < LEAST_COMMIT {
                true => Ok(failure.message),
                false => Err(ChangeError { failure, may_be_done }),
            }
        };
        let (mut pause, mut may_be_done, mut last_problem) = (FIRST_PAUSE, false, None);
        loop {
            if last_problem.is_some() {
                std::thread::sleep(pause.min(left()));
                pause = (pause * 2).min(LAST_PAUSE);
            }
            let is_last = last_problem.is_some() && left().is_zero();
            let read = seen.take().map_or_else(|| self.load(left().max(LEAST_READ)), Ok);
            let VersionedValue { mut value, version } = match read {
                Ok(read) => read,
                Err(failure) => {
                    last_problem = Some(retried(failure, may_be_done)?);
                    continue;
                }
            };
            let failed = |failure| ChangeError { failure, may_be_done };
            let edited = edit(&mut value, may_be_done).map_err(failed)?;
            let (result, bytes) = match (edited, value.to_bytes().map_err(failed)?, &version) {
                (EditResult::Unchanged(result), ..) | (EditResult::Changed(result), None, None) => {
                    return Ok(result);
                }
                (EditResult::Rewritten(result), None, _) => (result, Some(NOTHING.to_vec())),
                (EditResult::Changed(result) | EditResult::Rewritten(result), bytes, _) => (result, bytes),
            };
            if is_last {
                let problem = last_problem.unwrap_or_default();
                let message = format!("cannot write {}: {problem}", self.location());
                return Err(failed(Failure::new(error::Kind::Temporary, message).hint("try again")));
            }
            last_problem = Some(match self.cell.swap(version.as_ref(), bytes.as_deref(), left()) {
                SwapResult::Done => return Ok(result),
                SwapResult::Lost => "it kept changing".to_owned(),
                SwapResult::Unknown(why) => {
                    may_be_done = true;
                    why
                }
                SwapResult::Failed(failure) => retried(failure, may_be_done)?,
            });
        }
    }

    /// Removes the records that `is_meant` selects.
    fn remove_records(&self, is_meant: &dyn Fn(&CellRecord) -> bool) -> Result<(), Failure> {
        self.change(Retry::UntilFailure, None, &|value, _| {
            let before = value.records.len();
            value.records.retain(|record| !is_meant(record));
            let is_removed = value.records.len() < before;
            Ok(if is_removed { EditResult::Changed(()) } else { EditResult::Unchanged(()) })
        })?;
        Ok(())
    }

    fn failure(&self, what: &str, error: &io::Error) -> Failure {
        let directory = self.directory.display().to_string();
        Failure::new(
            error::Kind::Store,
            format!("cannot {what} in {}: {}", printable(&directory), describe(error)),
        )
    }

    // ---- the answer files of this machine ----

    /// Identifies this cell in the names of files.
    fn digits(&self) -> String {
        digits(&Secret::new(self.cell.location()).sha256()).to_owned()
    }

    /// How the names of this cell's temporary files begin.
    fn temporary(&self) -> String {
        format!("~temporary.{}.", self.digits())
    }

    fn answer_path(&self, name: RecordName) -> PathBuf {
        let key = digits(name.key);
        // A profile name has no tilde.
        self.directory.join(format!("~answer.{}.{key}.{}", self.digits(), name.number))
    }

    fn read_answer(&self, name: RecordName) -> Option<Vec<u8>> {
        open::read(&self.answer_path(name), Symlink::Refuse).ok().map(|(bytes, _)| bytes)
    }

    /// Writes a file durably. Only its owner can read it.
    fn write_beside(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let temporary = self.directory.join(format!("{}{}", self.temporary(), system::nonce()?));
        let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        File::open(&self.directory)?.sync_all()
    }

    /// Removes files of this cell that no process needs after `key` is claimed: answers to other keys, and temporary files that
    /// a kill left. `names` were listed before the claim, so the other keys belong to older refresh tokens, which do not come
    /// back. An empty `key` means that all of them go.
    fn sweep(&self, names: &[OsString], key: &str) {
        let own = digits(key).to_owned() + ".";
        let (answers, temporary) = (format!("~answer.{}.", self.digits()), self.temporary());
        for name in names {
            let path = self.directory.join(name);
            let text = name.to_str().unwrap_or_default();
            let is_outdated =
                text.strip_prefix(&answers).is_some_and(|rest| key.is_empty() || !rest.starts_with(&own));
            let is_leftover = || text.starts_with(&temporary) && (key.is_empty() || is_abandoned(&path));
            if is_outdated || is_leftover() {
                let _ = remove(&path);
            }
        }
    }
}

fn record_text(bytes: &[u8]) -> Result<String, Failure> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Failure::new(error::Kind::Defect, "a record is text"))
}

impl Store for CellStore {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        let (when, read) = self.recent()?;
        let snapshot = self.snapshot(&read.value);
        // After its claim a process reads each time: its own change or another process may have changed the value.
        if !self.has_claimed.get() {
            self.last_read.replace(Some((when, read)));
        }
        Ok(snapshot)
    }

    /// Also over an open claim: a process with an answer has the newest refresh token. Never over another document.
    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult {
        // If this machine can keep no file (a read-only container), the answer goes to the store alone.
        let kept = attempt.and_then(|name| {
            let path = self.answer_path(name);
            self.write_beside(&path, bytes).is_ok().then_some(path)
        });
        let new = revision(bytes);
        let changed = self.change(Retry::OnlyCopy, None, &|value, _| {
            let current = value.revision();
            if current == new && *expected != new {
                return Ok(EditResult::Unchanged(WriteResult::Done));
            }
            if current != *expected {
                return Ok(EditResult::Unchanged(WriteResult::Lost(self.snapshot(value))));
            }
            value.document = Some(bytes.to_vec());
            if let Some(name) = attempt {
                value.remove_through(name);
            }
            Ok(EditResult::Changed(WriteResult::Done))
        });
        match (changed, kept) {
            (Ok(written), kept) => {
                kept.iter().for_each(|path| drop(remove(path)));
                written
            }
            (Err(ChangeError { may_be_done: true, .. }), None) => WriteResult::Unknown,
            (Err(error), kept) => {
                let kept = kept.map(|path| printable(&path.display().to_string()));
                WriteResult::Failed { failure: error.failure, kept }
            }
        }
    }

    fn remove(&self, expected: &Revision, _mark: &[u8]) -> WriteResult {
        let removed = self.change(Retry::UntilFailure, None, &|value, may_be_done| {
            if value.revision() != *expected {
                let is_done = may_be_done && value.document.is_none();
                let lost = || WriteResult::Lost(self.snapshot(value));
                return Ok(EditResult::Unchanged(if is_done { WriteResult::Done } else { lost() }));
            }
            *value = CellValue::default();
            Ok(EditResult::Changed(WriteResult::Done))
        });
        match removed {
            Ok(written) => {
                if written == WriteResult::Done {
                    self.sweep(&open::names_in(&self.directory).unwrap_or_default(), "");
                }
                written
            }
            Err(ChangeError { may_be_done: true, .. }) => WriteResult::Unknown,
            Err(error) => WriteResult::Failed { failure: error.failure, kept: None },
        }
    }

    fn lock(&self, _mode: LockMode, _at_most: Duration) -> Locked {
        Locked::Refused("this store has no locks; its claims decide".to_owned())
    }

    fn records(&self, key: &str) -> Result<Vec<Record>, Failure> {
        if self.has_claimed.get() {
            self.last_read.take();
        }
        let (when, read) = self.recent()?;
        let of_key = read.value.records.iter().filter(|record| record.key == key);
        let records = of_key.map(|record| Record {
            number: record.number,
            bytes: record.bytes(self.cell.ahead()),
            answer: self.read_answer(RecordName { key, number: record.number }).unwrap_or_default(),
        });
        let records = sorted(records, |record| record.number);
        self.waits_for_others.set(!records.is_empty() && !self.has_claimed.get());
        self.last_read.replace(Some((when, read)));
        Ok(records)
    }

    fn create_record(&self, record: &NewRecord) -> Result<Option<u64>, Failure> {
        let NewRecord { name, exclusive, .. } = *record;
        let text = record_text(record.bytes)?;
        let names = open::names_in(&self.directory).unwrap_or_default();
        let seen = self.last_read.take().map(|(_, read)| read);
        let is_own = |other: &CellRecord| other.key == name.key && other.text == text;
        let created = self.change(Retry::UntilFailure, seen, &|value, may_be_done| {
            if let Some(own) = value.records.iter().find(|other| may_be_done && is_own(other)) {
                return Ok(EditResult::Unchanged(Some(own.number)));
            }
            if value.revision() != *record.expected {
                return Ok(EditResult::Unchanged(None));
            }
            let is_taken =
                |number: u64| value.records.iter().any(|other| other.has_name(RecordName { number, ..name }));
            let mut number = name.number;
            while is_taken(number) {
                if exclusive {
                    return Ok(EditResult::Unchanged(None));
                }
                number = number.saturating_add(1);
            }
            // The document is still the expected one. So records of other keys belong to older refresh tokens.
            value.records.retain(|other| other.key == name.key && !record.outdated.contains(&other.number));
            let (key, text, ahead) = (name.key.to_owned(), text.clone(), self.cell.ahead());
            value.records.push(CellRecord { number, key, text, ahead });
            Ok(EditResult::Changed(Some(number)))
        });
        match created {
            Ok(number) => {
                if let Some(number) = number {
                    self.has_claimed.set(true);
                    // If refresh tokens do not rotate, an earlier attempt may have left an answer with this number.
                    let _ = remove(&self.answer_path(RecordName { number, ..name }));
                    self.sweep(&names, name.key);
                }
                Ok(number)
            }
            // This process gives up: other processes must not wait for its claim.
            Err(error) => {
                if error.may_be_done {
                    let _ = self.remove_records(&is_own);
                }
                Err(error.failure)
            }
        }
    }

    fn rewrite_record(&self, name: RecordName, old: &[u8], new: &[u8], _: bool) -> Result<(), Failure> {
        let text = record_text(new)?;
        self.change(Retry::UntilFailure, None, &|value, _| {
            let is_own = |record: &&mut CellRecord| {
                record.has_name(name) && record.text.as_bytes() == old && old != new
            };
            let Some(own) = value.records.iter_mut().find(is_own) else {
                return Ok(EditResult::Unchanged(()));
            };
            own.text.clone_from(&text);
            Ok(EditResult::Changed(()))
        })?;
        Ok(())
    }

    fn remove_record(&self, name: RecordName, old: &[u8]) -> Result<(), Failure> {
        self.has_claimed.set(false);
        self.remove_records(&|record| record.has_name(name) && record.text.as_bytes() == old)
    }

    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure> {
        let Some(bytes) = self.read_answer(name) else { return Ok(false) };
        let new = revision(&bytes);
        let is_adopted = self.change(Retry::OnlyCopy, None, &|value, _| {
            let current = value.revision();
            if current == new || current != *expected {
                return Ok(EditResult::Unchanged(current == new));
            }
            value.document = Some(bytes.clone());
            value.remove_through(name);
            Ok(EditResult::Changed(true))
        })?;
        if is_adopted {
            let _ = remove(&self.answer_path(name));
        }
        Ok(is_adopted)
    }

    fn swaps(&self) -> bool {
        true
    }

    fn location(&self) -> String {
        self.cell.location()
    }
}
