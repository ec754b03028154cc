//! A store of one value that can be compared and swapped: etcd, a Kubernetes Secret.
//!
//! ```text
//! {"attempts":[{"number":N,"key":HEX,"record":JSON}, …], …the members of the document}
//! ```
//!
//! Document and records are one value, and each change is a swap that is conditional on what was read: nobody ever
//! overwrites what he has not seen, however late he comes. No lock and no lease: a claim that ended by itself would take
//! the evidence with it that a refresh token may be spent.
//!
//! A swap that nobody answered may have happened, now or later. So every change says what must be there in the end, and
//! after each swap that was not plainly won the value is read again: what is there already is done.
//!
//! The server's answer is spilled to a file on this machine before it is swapped in, and removed after: where the store
//! cannot be reached just then, the next process here finds it beside its record, and adopts it.

pub mod etcd;
pub mod kubernetes;

use crate::error::{self, Failure, describe, printable};
use crate::grant::Secret;
use crate::lock::Locked;
use crate::session::{Patience, Revision};
use crate::store::durable::{remove, write_new};
use crate::store::open::{self, Links};
use crate::store::{NewRecord, Record, RecordName, Snapshot, Store, Written, absent, revision};
use crate::system;
use etcd::Etcd;
use kubernetes::KubernetesSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::cell::{Cell as Slot, RefCell};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a read takes at least before it is given up, whatever is left of the deadline: one try.
const LEAST_READ: Duration = Duration::from_secs(1);

/// How long the storing of a server's answer takes at least before it is given up: a cluster that has lost its leader
/// has another one after two seconds or three, and the refresh token is spent already.
const LEAST_COMMIT: Duration = Duration::from_secs(8);

/// The pause before a swap is tried again that was not won: the first, which doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// How long a wait for a change lasts at most, before is looked whether its maker still lives.
const WATCH: Duration = Duration::from_secs(1);

/// How old what was read may be to stand for another read: document and records are one value, and who comes to it looks
/// at each of them before he decides. As long as a busy machine may keep him from going on; whatever he decides is
/// conditional on what he read.
const ONE_LOOK: Duration = Duration::from_millis(200);

/// How many hexadecimal digits of a hash stand in the name of a spilled answer.
const DIGITS: usize = 16;

/// Which state of a cell was read. Opaque: the cell made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// What a cell holds; none where there is none.
pub type Value = Option<(Vec<u8>, Version)>;

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It is durable.
    Done,
    /// The cell held another version; nothing was written.
    Lost,
    /// It may have happened, or may happen yet.
    Unknown,
    /// It did not happen, and will not.
    Failed(Failure),
}

/// One value in a place that compares and swaps.
pub trait Cell {
    /// Reads the value, as all who wrote before left it; none where there is none. Ends within `at_most`.
    fn read(&self, at_most: Duration) -> Result<Value, Failure>;

    /// Writes the value, or removes it, if the cell still is at `expected`: none where it had no value. Never without that
    /// condition. Ends within `at_most`.
    fn swap(&self, expected: Option<&Version>, bytes: Option<&[u8]>, at_most: Duration) -> Swap;

    /// Waits until the value is another one than was read last, or for `at_most`; gives it where the change itself told it,
    /// as a read then would have.
    fn wait(&self, at_most: Duration) -> Option<Value>;

    /// Where it is, for people, without a secret.
    fn location(&self) -> String;
}

/// Where a cell is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    kind: Kind,
    /// As it was given.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Etcd(etcd::Address),
    Kubernetes(kubernetes::Address),
}

impl Address {
    /// None where it is the address of another kind of store; else itself, or what is wrong with it.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let kind = match text.split_once(':')?.0 {
            "etcd" | "etcds" => etcd::Address::parse(text).map(Kind::Etcd),
            "kubernetes" => kubernetes::Address::parse(text).map(Kind::Kubernetes),
            _ => return None,
        };
        Some(kind.map(|kind| Self { kind, text: text.to_owned() }))
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The cell of a profile there. Costs nothing.
    pub fn cell(&self, profile: &str) -> Box<dyn Cell> {
        match &self.kind {
            Kind::Etcd(address) => Box::new(Etcd::new(address, profile)),
            Kind::Kubernetes(address) => Box::new(KubernetesSecret::new(address, profile)),
        }
    }

    /// The profiles that have a cell there, sorted; names that none can have may be among them.
    pub fn profiles(&self, at_most: Duration) -> Result<Vec<String>, Failure> {
        match &self.kind {
            Kind::Etcd(address) => Etcd::new(address, "").names(at_most),
            Kind::Kubernetes(address) => KubernetesSecret::new(address, "").names(at_most),
        }
    }
}

/// A record in the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    number: u64,
    key: String,
    record: String,
}

impl Entry {
    fn is(&self, name: RecordName) -> bool {
        self.number == name.number && self.key == name.key
    }
}

/// The parts of a value. None of either: there is no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parts {
    document: Option<Vec<u8>>,
    attempts: Vec<Entry>,
}

/// How a value with records begins: with their member, so that the document's own bytes stay as they are.
const OPENING: &[u8] = b"{\"attempts\":";

impl Parts {
    /// Whatever is no value of ours is a document with no records, and the document's reader says what is wrong.
    fn of(bytes: &[u8]) -> Self {
        Self::as_written(bytes)
            .or_else(|| Self::as_rewritten(bytes))
            .unwrap_or_else(|| Self { document: Some(bytes.to_vec()), attempts: Vec::new() })
    }

    fn as_written(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(OPENING)?;
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter();
        let attempts = stream.next()?.ok()?;
        match rest.get(stream.byte_offset()..)?.split_first()? {
            (b',', members) => Some(Self { document: Some([b"{", members].concat()), attempts }),
            (b'}', []) => Some(Self { document: None, attempts }),
            _ => None,
        }
    }

    /// A person's editor, or jq, has put the members into another order.
    fn as_rewritten(bytes: &[u8]) -> Option<Self> {
        let mut members: Map<String, Json> = serde_json::from_slice(bytes).ok()?;
        let attempts = serde_json::from_value(members.remove("attempts")?).unwrap_or_default();
        let document = if members.is_empty() { None } else { Some(serde_json::to_vec(&members).ok()?) };
        Some(Self { document, attempts })
    }

    fn to_bytes(&self) -> Result<Option<Vec<u8>>, Failure> {
        if self.attempts.is_empty() {
            return Ok(self.document.clone());
        }
        let attempts = crate::grant::json_bytes(&self.attempts)?;
        let members = match &self.document {
            None => Some(&b"}"[..]),
            Some(document) => document.trim_ascii_start().strip_prefix(b"{"),
        };
        let Some(members) = members.filter(|members| !members.is_empty()) else {
            return Err(Failure::new(error::Kind::Store, "what is stored is not a document of onegrant"));
        };
        let comma = if members.trim_ascii() == b"}" { &b""[..] } else { b"," };
        Ok(Some([OPENING, &attempts, comma, members].concat()))
    }

    fn revision(&self) -> Revision {
        self.document.as_ref().map_or_else(absent, |bytes| revision(bytes))
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let bytes = self.document.clone()?;
        Some(Snapshot { revision: revision(&bytes), bytes, warning: None })
    }

    /// Removes the record of an attempt that is over, and those before it. A later one may be a live claim.
    fn end(&mut self, name: RecordName) {
        self.attempts.retain(|entry| entry.key != name.key || entry.number > name.number);
    }
}

/// The parts of a value, and its version.
type Loaded = (Parts, Option<Version>);

fn loaded(value: Value) -> Loaded {
    value.map_or_else(Loaded::default, |(bytes, version)| (Parts::of(&bytes), Some(version)))
}

/// What a change finds.
enum Found<T> {
    /// Nothing is left to write.
    Settled(T),
    /// The parts are to be written as they are now.
    Changed(T),
}

/// A store in a cell.
pub struct CellStore {
    cell: Box<dyn Cell>,
    /// Where answers are spilled.
    home: PathBuf,
    /// The end of everything that the command waits for.
    deadline: Instant,
    /// What was read last, and when: until something is waited for, or written.
    looked: RefCell<Option<(Instant, Loaded)>>,
    /// A record here is this process's own.
    has_claimed: Slot<bool>,
    /// The last look met records of others alone: whatever is waited for, is theirs to change.
    waits_for_others: Slot<bool>,
}

impl CellStore {
    /// The store in this cell, for a command with that much left of its deadline; answers are spilled in `home`, which
    /// need not exist.
    pub fn new(cell: Box<dyn Cell>, home: PathBuf, left: Duration) -> Self {
        Self {
            cell,
            home,
            deadline: Instant::now() + left,
            looked: RefCell::default(),
            has_claimed: Slot::new(false),
            waits_for_others: Slot::new(false),
        }
    }

    /// Pauses for that long; where the last look met a claim of others, until the value changes instead: for a second at
    /// most, and within the deadline.
    pub fn pause(&self, duration: Duration) {
        self.looked.take();
        if !self.waits_for_others.take() {
            return std::thread::sleep(duration);
        }
        let told = self.cell.wait(self.left(Duration::ZERO).min(WATCH).max(duration));
        self.looked.replace(told.map(|value| (Instant::now(), loaded(value))));
    }

    /// Finds out before anything is asked of a person whether the value can be written, by writing it as it is.
    pub fn check_writable(&self) -> Result<(), Failure> {
        let at_most = self.left(LEAST_READ);
        let was_there = self.change(at_most, None, |parts, _| {
            let was_there = *parts != Parts::default();
            Ok(Found::Changed(was_there))
        })?;
        match was_there {
            true => Ok(()),
            false => self.change(at_most, None, |parts, _| {
                let is_empty = *parts == Parts::default();
                Ok(if is_empty { Found::Changed(()) } else { Found::Settled(()) })
            }),
        }
    }

    /// Whether the value can be read. Changes nothing.
    pub fn check_access(&self) -> Result<(), Failure> {
        self.load(self.left(LEAST_READ)).map(|_| ())
    }

    /// Keeps unreadable bytes on this machine, so that a login can write a new document. Gives the place.
    pub fn set_aside(&self) -> Result<PathBuf, Failure> {
        let (parts, _) = self.load(self.left(LEAST_READ))?;
        let nonce = system::nonce().map_err(|error| self.failure("name a file", &error))?;
        let aside = self.home.join(format!("~unreadable.{}.{nonce}", self.digits()));
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

    /// What was read a moment ago, once; else reads.
    fn look(&self) -> Result<(Instant, Loaded), Failure> {
        match self.looked.take().filter(|(when, _)| when.elapsed() < ONE_LOOK) {
            Some(looked) => Ok(looked),
            None => self.load(self.left(LEAST_READ)).map(|loaded| (Instant::now(), loaded)),
        }
    }

    /// Changes the value: `edit` is asked again for whatever is there by then, until there is nothing left to write or a
    /// swap is won. A change that finds its own work done is settled; it is told whether that can be, because nobody said
    /// what became of an earlier swap. Begins with what was `seen`, if that is given.
    fn change<T>(
        &self,
        at_most: Duration,
        mut seen: Option<Loaded>,
        edit: impl Fn(&mut Parts, bool) -> Result<Found<T>, Failure>,
    ) -> Result<T, Failure> {
        self.looked.take();
        let until = Instant::now() + at_most;
        let left = || until.saturating_duration_since(Instant::now());
        let (mut pause, mut may_be_done) = (FIRST_PAUSE, false);
        loop {
            let (mut parts, version) = seen.take().map_or_else(|| self.load(left()), Ok)?;
            let outcome = match edit(&mut parts, may_be_done)? {
                Found::Settled(outcome) => return Ok(outcome),
                Found::Changed(outcome) => outcome,
            };
            // A value without a part is a value all the same, until it is removed.
            let bytes = match (parts.to_bytes()?, &version) {
                (None, None) => Some([OPENING, b"[]}"].concat()),
                (bytes, _) => bytes,
            };
            match self.cell.swap(version.as_ref(), bytes.as_deref(), left()) {
                Swap::Done => return Ok(outcome),
                Swap::Lost => {}
                Swap::Unknown => may_be_done = true,
                Swap::Failed(failure) => return Err(failure),
            }
            if left().is_zero() {
                let message = format!("{} kept changing, or did not say whether it did", self.location());
                return Err(Failure::new(error::Kind::Temporary, message).hint("try again"));
            }
            std::thread::sleep(pause.min(left()));
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn failure(&self, what: &str, error: &io::Error) -> Failure {
        let home = self.home.display().to_string();
        Failure::new(
            error::Kind::Store,
            format!("cannot {what} in {}: {}", printable(&home), describe(error)),
        )
    }

    // ---- the answers on this machine ----

    /// Stands for this cell in a file's name.
    fn digits(&self) -> String {
        let mut digits = Secret::new(self.cell.location()).sha256();
        digits.truncate(DIGITS);
        digits
    }

    fn spill(&self, name: RecordName) -> PathBuf {
        let key = name.key.get(..DIGITS).unwrap_or(name.key);
        // A tilde cannot stand in a profile name.
        self.home.join(format!("~answer.{}.{key}.{}", self.digits(), name.number))
    }

    fn spilled(&self, name: RecordName) -> Option<Vec<u8>> {
        open::read(&self.spill(name), Links::Refuse).ok().map(|(bytes, _)| bytes)
    }

    /// Writes a whole new file, durably, that only its owner can read.
    fn write_beside(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.home)?;
        let temporary = self.home.join(format!("~temporary.{}", system::nonce()?));
        let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        File::open(&self.home)?.sync_all()
    }

    /// Answers of other refresh tokens of this cell: older than a document that is seen to hold `key` after the list was
    /// made, because refresh tokens do not come back.
    fn spilled_for_others(&self, key: &str) -> Vec<PathBuf> {
        let own = key.get(..DIGITS).unwrap_or(key).to_owned() + ".";
        let prefix = format!("~answer.{}.", self.digits());
        let names = open::names_in(&self.home).unwrap_or_default();
        let is_old = |name: &&std::ffi::OsString| {
            let rest = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            rest.is_some_and(|rest| !rest.starts_with(&own))
        };
        names.iter().filter(is_old).map(|name| self.home.join(name)).collect()
    }
}

impl Store for CellStore {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        let (when, loaded) = self.look()?;
        let snapshot = loaded.0.snapshot();
        // Who has claimed looks once, and then anew: at what his claim, or the server, has changed.
        if !self.has_claimed.get() {
            self.looked.replace(Some((when, loaded)));
        }
        Ok(snapshot)
    }

    /// Over an open claim, too: whoever got an answer has the newest refresh token. Never over another document.
    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> Written {
        // Where this machine keeps nothing (a container that is read-only), the store alone must do.
        let spilled = attempt.and_then(|name| {
            let spill = self.spill(name);
            self.write_beside(&spill, bytes).is_ok().then_some(spill)
        });
        let new = revision(bytes);
        let least = if attempt.is_some() { LEAST_COMMIT } else { LEAST_READ };
        let changed = self.change(self.left(least), None, |parts, _| {
            let current = parts.revision();
            if current == new && *expected != new {
                return Ok(Found::Settled(Written::Done));
            }
            if current != *expected {
                return Ok(Found::Settled(Written::Lost(parts.snapshot())));
            }
            parts.document = Some(bytes.to_vec());
            if let Some(name) = attempt {
                parts.end(name);
            }
            Ok(Found::Changed(Written::Done))
        });
        let shown = spilled.as_ref().map(|path| printable(&path.display().to_string()));
        match (changed, spilled) {
            (Ok(written), spilled) => {
                spilled.iter().for_each(|path| drop(remove(path)));
                written
            }
            (Err(failure), _) => Written::Failed { failure, kept: shown },
        }
    }

    fn remove(&self, _placeholder: &[u8]) -> Result<(), Failure> {
        self.change(self.left(LEAST_COMMIT), None, |parts, _| {
            let is_there = std::mem::take(parts) != Parts::default();
            Ok(if is_there { Found::Changed(()) } else { Found::Settled(()) })
        })?;
        self.spilled_for_others("").iter().for_each(|path| drop(remove(path)));
        Ok(())
    }

    fn lock(&self, _patience: Patience, _at_most: Duration) -> Locked {
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
                bytes: entry.record.clone().into_bytes(),
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
        let old = self.spilled_for_others(name.key);
        let seen = self.looked.take().map(|(_, loaded)| loaded);
        let number = self.change(self.left(LEAST_READ), seen, |parts, may_be_done| {
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
            // The document is as it was when this was decided: what is about another key is older.
            parts.attempts.retain(|entry| entry.key == name.key && !record.outdated.contains(&entry.number));
            parts.attempts.push(Entry { number, key: name.key.to_owned(), record: bytes.clone() });
            Ok(Found::Changed(Some(number)))
        })?;
        if number.is_some() {
            self.has_claimed.set(true);
            old.iter().for_each(|path| drop(remove(path)));
        }
        Ok(number)
    }

    fn rewrite_record(&self, name: RecordName, ours: &[u8], bytes: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8(bytes.to_vec())
            .map_err(|_| Failure::new(error::Kind::Defect, "a record is text"))?;
        self.change(self.left(LEAST_READ), None, |parts, _| {
            let own = parts
                .attempts
                .iter_mut()
                .find(|entry| entry.is(name) && entry.record.as_bytes() == ours && ours != bytes);
            let Some(own) = own else { return Ok(Found::Settled(())) };
            own.record.clone_from(&text);
            Ok(Found::Changed(()))
        })
    }

    fn remove_record(&self, name: RecordName, ours: &[u8]) -> Result<(), Failure> {
        self.has_claimed.set(false);
        self.change(self.left(LEAST_READ), None, |parts, _| {
            let before = parts.attempts.len();
            parts.attempts.retain(|entry| !entry.is(name) || entry.record.as_bytes() != ours);
            let is_removed = parts.attempts.len() < before;
            Ok(if is_removed { Found::Changed(()) } else { Found::Settled(()) })
        })
    }

    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure> {
        let Some(bytes) = self.spilled(name) else { return Ok(false) };
        let new = revision(&bytes);
        let is_adopted = self.change(self.left(LEAST_COMMIT), None, |parts, _| {
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

    fn location(&self) -> String {
        self.cell.location()
    }
}
