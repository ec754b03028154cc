//! A store of one value that can be compared and swapped: etcd, a Kubernetes Secret.
//!
//! ```text
//! {"attempts":[{"number":N,"key":HEX,"record":JSON}, …], …the members of the document}
//! ```
//!
//! Document and records are one value, and each change is a swap that is conditional on what was read. So no process
//! overwrites what it has not read, however late it is. There is no lock and no lease: a claim that ended by itself would
//! remove the evidence that a refresh token may be spent.
//!
//! A swap without a response may have happened, or may happen later. So every change says what must be there in the end.
//! After each swap that did not succeed the value is read again: what is there already needs no other swap.
//!
//! The answer of the token endpoint is spilled to a file on this machine before it is swapped in, and removed after. If the
//! store cannot be reached just then, the next process on this machine finds the file and adopts the answer.

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
use crate::store::durable::{remove, write_new};
use crate::store::open::{self, Links};
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
use value::{Entry, Loaded, OPENING, Parts, loaded};

/// The shortest time that a read is given, whatever is left of the deadline: one try.
const LEAST_READ: Duration = Duration::from_secs(1);

/// The shortest time that a commit is given, whatever is left of the deadline. A cluster that has lost its leader elects
/// another one within two or three seconds, and the refresh token is spent already.
const LEAST_COMMIT: Duration = Duration::from_secs(8);

/// The first pause before a swap is repeated. It doubles up to the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// The longest wait for a change. After it the reader checks whether the owner of the claim still runs.
const WATCH: Duration = Duration::from_secs(1);

/// The longest response, in bytes: Kubernetes accepts 1 MiB in a Secret, etcd 1.5 MiB in a request, and base64 adds a
/// third.
const ANSWER_LIMIT: u64 = 4 << 20;

/// How long one read serves for several looks: document and records are one value, and the machine looks at each of them
/// before it decides. A busy machine may take this long between the looks. Every decision is a swap that is conditional
/// on the value that was read.
const ONE_LOOK: Duration = Duration::from_millis(200);

/// The age from which a temporary file counts as abandoned. It normally exists for milliseconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// The number of hexadecimal digits of a hash in the name of a spilled answer.
const DIGITS: usize = 16;

/// The version of a cell that was read. Only the cell understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// The value of a cell with its version. `None` if there is no value.
pub type Value = Option<(Vec<u8>, Version)>;

/// What happened to one request to the store.
enum ExchangeResult<T> {
    Answer(T),
    /// It was sent, and no whole response came. The text says what happened instead.
    Unknown(String),
    Failed(Failure),
}

/// What happened to a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It is durable.
    Done,
    /// The cell held another version; nothing was written.
    Lost,
    /// It may have happened, or may happen later. The text says what came instead of a response.
    Unknown(String),
    /// It did not happen, and will not.
    Failed(Failure),
}

/// One value that can be compared and swapped.
pub trait Cell {
    /// Reads the value after all earlier writes. `None` if there is none. Ends within `at_most`.
    fn read(&self, at_most: Duration) -> Result<Value, Failure>;

    /// Writes the value, or removes it, only if the cell still has the version `expected` (`None`: it had no value). Ends
    /// within `at_most`.
    fn swap(&self, expected: Option<&Version>, bytes: Option<&[u8]>, at_most: Duration) -> Swap;

    /// Waits until the value differs from the one that was read last, at most for `at_most`. Returns the new value if the
    /// change itself tells it.
    fn wait(&self, at_most: Duration) -> Option<Value>;

    /// How many seconds this machine's clock was ahead of the clock of the store at the last response.
    fn ahead(&self) -> i64;

    /// The location, for people. It holds no secret.
    fn location(&self) -> String;
}

/// How many seconds this machine's clock is ahead of the clock of the server that sent this response just now.
fn ahead_of(response: &Response) -> Option<i64> {
    Some(system::unix_seconds(SystemTime::now()).saturating_sub(response.date()?))
}

/// What an edit finds.
enum Found<T> {
    /// Nothing to write.
    Settled(T),
    /// The parts must be written. Without any parts the value is removed.
    Changed(T),
    /// The parts must be written, even if there are none.
    Rewritten(T),
}

/// An edit of the parts. The flag says whether an earlier swap may have made this edit.
type Edit<'a, T> = &'a dyn Fn(&mut Parts, bool) -> Result<Found<T>, Failure>;

/// How long a change is tried, whatever is left of the deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Until it certainly cannot be made.
    Try,
    /// This is the only copy of the answer: at least for [`LEAST_COMMIT`], even if the store fails.
    Insist,
}

impl Effort {
    fn least(self) -> Duration {
        match self {
            Self::Try => LEAST_READ,
            Self::Insist => LEAST_COMMIT,
        }
    }
}

/// A change that was not made, or whose outcome is unknown.
struct Undone {
    failure: Failure,
    may_be_done: bool,
}

impl From<Undone> for Failure {
    fn from(undone: Undone) -> Self {
        undone.failure
    }
}

/// A store in a cell.
pub struct CellStore {
    cell: Box<dyn Cell>,
    /// The directory of the spilled answers.
    directory: PathBuf,
    /// The deadline of the command.
    deadline: Instant,
    /// The last read and its time. A wait or a write clears it.
    looked: RefCell<Option<(Instant, Loaded)>>,
    /// What a document in this store names may be run and read.
    is_trusted: bool,
    /// This process has a record here.
    has_claimed: Slot<bool>,
    /// The last look found only records of other processes. So a wait waits for their changes.
    waits_for_others: Slot<bool>,
}

impl CellStore {
    /// The store in this cell, for a command with so much time left. Answers are spilled in `directory`, which need not
    /// exist.
    pub fn new(cell: Box<dyn Cell>, directory: PathBuf, left: Duration) -> Self {
        Self {
            cell,
            directory,
            deadline: Instant::now() + left,
            looked: RefCell::default(),
            is_trusted: false,
            has_claimed: Slot::new(false),
            waits_for_others: Slot::new(false),
        }
    }

    /// The store, if the caller trusts all writers of the value.
    pub fn trusted(self, is_trusted: bool) -> Self {
        Self { is_trusted, ..self }
    }

    /// The reason why a document here may not name anything to run or read.
    pub fn distrust(&self) -> Option<Failure> {
        let message = || format!("cannot run or read what {} names: others may write there", self.location());
        (!self.is_trusted).then(|| {
            Failure::new(error::Kind::Store, message())
                .hint("export ONEGRANT_TRUST_STORE=1   # lets all who may write there run commands here")
        })
    }

    fn snapshot(&self, parts: &Parts) -> Option<Snapshot> {
        Some(Snapshot { distrust: self.distrust(), ..parts.snapshot()? })
    }

    /// Pauses for this time. If the last look found a claim of another process, it waits for a change of the value
    /// instead, at most for a second and within the deadline.
    pub fn pause(&self, duration: Duration) {
        self.looked.take();
        if !self.waits_for_others.take() {
            return std::thread::sleep(duration);
        }
        let told = self.cell.wait(self.left(Duration::ZERO).min(WATCH).max(duration));
        self.looked.replace(told.map(|value| (Instant::now(), loaded(value))));
    }

    /// Checks that the value can be written, by writing it unchanged. So a login fails before it asks a person for
    /// anything.
    pub fn check_writable(&self) -> Result<(), Failure> {
        let was_there =
            self.change(Effort::Try, None, &|parts, _| Ok(Found::Rewritten(*parts != Parts::default())))?;
        if !was_there {
            self.change(Effort::Try, None, &|parts, _| {
                let is_empty = *parts == Parts::default();
                Ok(if is_empty { Found::Changed(()) } else { Found::Settled(()) })
            })?;
        }
        Ok(())
    }

    /// Checks that the value can be read. Changes nothing.
    pub fn check_access(&self) -> Result<(), Failure> {
        self.load(self.left(LEAST_READ)).map(|_| ())
    }

    /// Keeps unreadable bytes on this machine, so that a login can write a new document. Returns the path.
    pub fn set_aside(&self) -> Result<PathBuf, Failure> {
        let (parts, _) = self.load(self.left(LEAST_READ))?;
        let nonce = system::nonce().map_err(|error| self.failure("name a file", &error))?;
        let aside = self.directory.join(format!("~unreadable.{}.{nonce}", self.digits()));
        self.write_beside(&aside, &parts.document.unwrap_or_default())
            .map_err(|error| self.failure("keep the old document", &error))?;
        Ok(aside)
    }

    fn left(&self, least: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(least)
    }

    fn load(&self, at_most: Duration) -> Result<Loaded, Failure> {
        self.cell.read(at_most).map(loaded)
    }

    /// The value that was read a moment ago, once. Otherwise reads it.
    fn look(&self) -> Result<(Instant, Loaded), Failure> {
        match self.looked.take().filter(|(when, _)| when.elapsed() < ONE_LOOK) {
            Some(looked) => Ok(looked),
            None => self.load(self.left(LEAST_READ)).map(|loaded| (Instant::now(), loaded)),
        }
    }

    /// Changes the value. `edit` is called for each value that is read, until it finds nothing to write or a swap
    /// succeeds. Its flag is set if the outcome of an earlier swap is unknown: then an edit that finds its own work is
    /// settled. The first value is `seen`, if given. After each swap that did not succeed the value is read again, even
    /// if no time is left.
    fn change<T>(&self, effort: Effort, mut seen: Option<Loaded>, edit: Edit<T>) -> Result<T, Undone> {
        self.looked.take();
        let began = Instant::now();
        let until = began + self.left(effort.least());
        let left = || until.saturating_duration_since(Instant::now());
        let go_on = |failure: Failure, may_be_done| {
            let is_worth_it = effort == Effort::Insist && failure.kind == error::Kind::Temporary;
            match is_worth_it && began.elapsed() < LEAST_COMMIT {
                true => Ok(failure.message),
                false => Err(Undone { failure, may_be_done }),
            }
        };
        let (mut pause, mut may_be_done, mut heard) = (FIRST_PAUSE, false, None);
        loop {
            if heard.is_some() {
                std::thread::sleep(pause.min(left()));
                pause = (pause * 2).min(LAST_PAUSE);
            }
            let is_last = heard.is_some() && left().is_zero();
            let (mut parts, version) = match seen.take().map_or_else(|| self.load(left().max(LEAST_READ)), Ok)
            {
                Ok(loaded) => loaded,
                Err(failure) => {
                    heard = Some(go_on(failure, may_be_done)?);
                    continue;
                }
            };
            let undone = |failure| Undone { failure, may_be_done };
            let found = edit(&mut parts, may_be_done).map_err(undone)?;
            let (outcome, bytes) = match (found, parts.to_bytes().map_err(undone)?, &version) {
                (Found::Settled(outcome), ..) | (Found::Changed(outcome), None, None) => return Ok(outcome),
                (Found::Rewritten(outcome), None, _) => (outcome, Some([OPENING, b"[]}"].concat())),
                (Found::Changed(outcome) | Found::Rewritten(outcome), bytes, _) => (outcome, bytes),
            };
            if is_last {
                let message = format!("cannot write {}: {}", self.location(), heard.unwrap_or_default());
                return Err(undone(Failure::new(error::Kind::Temporary, message).hint("try again")));
            }
            heard = Some(match self.cell.swap(version.as_ref(), bytes.as_deref(), left()) {
                Swap::Done => return Ok(outcome),
                Swap::Lost => "it kept changing".to_owned(),
                Swap::Unknown(why) => {
                    may_be_done = true;
                    why
                }
                Swap::Failed(failure) => go_on(failure, may_be_done)?,
            });
        }
    }

    /// Removes these records.
    fn withdraw(&self, is_meant: &dyn Fn(&Entry) -> bool) -> Result<(), Failure> {
        self.change(Effort::Try, None, &|parts, _| {
            let before = parts.attempts.len();
            parts.attempts.retain(|entry| !is_meant(entry));
            let is_removed = parts.attempts.len() < before;
            Ok(if is_removed { Found::Changed(()) } else { Found::Settled(()) })
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

    // ---- the answers on this machine ----

    /// Identifies this cell in the name of a file.
    fn digits(&self) -> String {
        let mut digits = Secret::new(self.cell.location()).sha256();
        digits.truncate(DIGITS);
        digits
    }

    /// The beginning of the name of a temporary file.
    fn temporary(&self) -> String {
        format!("~temporary.{}.", self.digits())
    }

    fn spill(&self, name: RecordName) -> PathBuf {
        let key = name.key.get(..DIGITS).unwrap_or(name.key);
        // No profile name has a tilde.
        self.directory.join(format!("~answer.{}.{key}.{}", self.digits(), name.number))
    }

    fn spilled(&self, name: RecordName) -> Option<Vec<u8>> {
        open::read(&self.spill(name), Links::Refuse).ok().map(|(bytes, _)| bytes)
    }

    /// Writes a new file durably. Only its owner can read it.
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

    /// Removes the files of this cell that are obsolete once `key` is claimed: answers about other refresh tokens, which
    /// are older and do not return, and files that a kill left incomplete. The list was made before the claim.
    fn sweep(&self, names: &[OsString], key: &str) {
        let own = key.get(..DIGITS).unwrap_or(key).to_owned() + ".";
        let (answers, temporary) = (format!("~answer.{}.", self.digits()), self.temporary());
        for name in names {
            let path = self.directory.join(name);
            let text = name.to_str().unwrap_or_default();
            let is_answer =
                text.strip_prefix(&answers).is_some_and(|rest| key.is_empty() || !rest.starts_with(&own));
            let age =
                || fs::metadata(&path).and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
            let is_abandoned = || key.is_empty() || matches!(age(), Ok(Ok(age)) if age > ABANDONED_AFTER);
            if is_answer || (text.starts_with(&temporary) && is_abandoned()) {
                let _ = remove(&path);
            }
        }
    }
}

impl Store for CellStore {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        let (when, loaded) = self.look()?;
        let snapshot = self.snapshot(&loaded.0);
        // After the claim the first look may use an earlier read. Later looks must see what the claim or the server has
        // changed.
        if !self.has_claimed.get() {
            self.looked.replace(Some((when, loaded)));
        }
        Ok(snapshot)
    }

    /// Replaces the document despite an open claim: the process with an answer has the newest refresh token. It never
    /// replaces another document.
    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult {
        // If this machine keeps no files (a read-only container), the store alone must do.
        let spilled = attempt.and_then(|name| {
            let spill = self.spill(name);
            self.write_beside(&spill, bytes).is_ok().then_some(spill)
        });
        let new = revision(bytes);
        let changed = self.change(Effort::Insist, None, &|parts, _| {
            let current = parts.revision();
            if current == new && *expected != new {
                return Ok(Found::Settled(WriteResult::Done));
            }
            if current != *expected {
                return Ok(Found::Settled(WriteResult::Lost(self.snapshot(parts))));
            }
            parts.document = Some(bytes.to_vec());
            if let Some(name) = attempt {
                parts.end(name);
            }
            Ok(Found::Changed(WriteResult::Done))
        });
        let shown = spilled.as_ref().map(|path| printable(&path.display().to_string()));
        match (changed, spilled) {
            (Ok(written), spilled) => {
                spilled.iter().for_each(|path| drop(remove(path)));
                written
            }
            (Err(Undone { may_be_done: true, .. }), None) => WriteResult::Unknown,
            (Err(undone), _) => WriteResult::Failed { failure: undone.failure, kept: shown },
        }
    }

    fn remove(&self, expected: &Revision, _mark: &[u8]) -> WriteResult {
        let removed = self.change(Effort::Try, None, &|parts, may_be_done| {
            let current = parts.revision();
            if current != *expected {
                let is_done = may_be_done && parts.document.is_none();
                return Ok(Found::Settled(if is_done {
                    WriteResult::Done
                } else {
                    WriteResult::Lost(self.snapshot(parts))
                }));
            }
            *parts = Parts::default();
            Ok(Found::Changed(WriteResult::Done))
        });
        match removed {
            Ok(written) => {
                if written == WriteResult::Done {
                    self.sweep(&open::names_in(&self.directory).unwrap_or_default(), "");
                }
                written
            }
            Err(Undone { may_be_done: true, .. }) => WriteResult::Unknown,
            Err(undone) => WriteResult::Failed { failure: undone.failure, kept: None },
        }
    }

    fn lock(&self, _patience: LockMode, _at_most: Duration) -> Locked {
        Locked::Refused("this store has no locks; its claims decide".to_owned())
    }

    fn records(&self, key: &str) -> Result<Vec<Record>, Failure> {
        if self.has_claimed.get() {
            self.looked.take();
        }
        let (when, loaded) = self.look()?;
        let entries = loaded.0.attempts.iter().filter(|entry| entry.key == key);
        let mut records: Vec<Record> = entries
            .map(|entry| Record {
                number: entry.number,
                bytes: entry.record_for(self.cell.ahead()),
                answer: self.spilled(RecordName { key, number: entry.number }).unwrap_or_default(),
            })
            .collect();
        records.sort_by_key(|record| record.number);
        self.waits_for_others.set(!records.is_empty() && !self.has_claimed.get());
        self.looked.replace(Some((when, loaded)));
        Ok(records)
    }

    fn create_record(&self, record: &NewRecord) -> Result<Option<u64>, Failure> {
        let NewRecord { name, exclusive, .. } = *record;
        let bytes = String::from_utf8(record.bytes.to_vec())
            .map_err(|_| Failure::new(error::Kind::Defect, "a record is text"))?;
        let names = open::names_in(&self.directory).unwrap_or_default();
        let seen = self.looked.take().map(|(_, loaded)| loaded);
        let created = self.change(Effort::Try, seen, &|parts, may_be_done| {
            let own = |entry: &&Entry| may_be_done && entry.key == name.key && entry.record == bytes;
            if let Some(entry) = parts.attempts.iter().find(own) {
                return Ok(Found::Settled(Some(entry.number)));
            }
            if parts.revision() != *record.expected {
                return Ok(Found::Settled(None));
            }
            let is_taken =
                |number: u64| parts.attempts.iter().any(|entry| entry.is(RecordName { number, ..name }));
            let mut number = name.number;
            while is_taken(number) {
                if exclusive {
                    return Ok(Found::Settled(None));
                }
                number = number.saturating_add(1);
            }
            // The document has not changed since the decision, so records about another digest are older.
            parts.attempts.retain(|entry| entry.key == name.key && !record.outdated.contains(&entry.number));
            let (key, record, ahead) = (name.key.to_owned(), bytes.clone(), self.cell.ahead());
            parts.attempts.push(Entry { number, key, record, ahead });
            Ok(Found::Changed(Some(number)))
        });
        match created {
            Ok(number) => {
                if let Some(number) = number {
                    self.has_claimed.set(true);
                    // If refresh tokens do not rotate, the answer to an earlier attempt of this number may be left.
                    let _ = remove(&self.spill(RecordName { number, ..name }));
                    self.sweep(&names, name.key);
                }
                Ok(number)
            }
            // No process should wait for a claim whose owner has given up.
            Err(undone) => {
                if undone.may_be_done {
                    let _ = self.withdraw(&|entry| entry.key == name.key && entry.record == bytes);
                }
                Err(undone.failure)
            }
        }
    }

    fn rewrite_record(
        &self,
        name: RecordName,
        ours: &[u8],
        bytes: &[u8],
        _is_over: bool,
    ) -> Result<(), Failure> {
        let text = String::from_utf8(bytes.to_vec())
            .map_err(|_| Failure::new(error::Kind::Defect, "a record is text"))?;
        self.change(Effort::Try, None, &|parts, _| {
            let own = parts
                .attempts
                .iter_mut()
                .find(|entry| entry.is(name) && entry.record.as_bytes() == ours && ours != bytes);
            let Some(own) = own else { return Ok(Found::Settled(())) };
            own.record.clone_from(&text);
            Ok(Found::Changed(()))
        })?;
        Ok(())
    }

    fn remove_record(&self, name: RecordName, ours: &[u8]) -> Result<(), Failure> {
        self.has_claimed.set(false);
        self.withdraw(&|entry| entry.is(name) && entry.record.as_bytes() == ours)
    }

    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure> {
        let Some(bytes) = self.spilled(name) else { return Ok(false) };
        let new = revision(&bytes);
        let is_adopted = self.change(Effort::Insist, None, &|parts, _| {
            let current = parts.revision();
            if current == new || current != *expected {
                return Ok(Found::Settled(current == new));
            }
            parts.document = Some(bytes.clone());
            parts.end(name);
            Ok(Found::Changed(true))
        })?;
        if is_adopted {
            let _ = remove(&self.spill(name));
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
