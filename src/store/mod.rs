//! Stores keep documents and attempt records. A store knows bytes and revisions, not OAuth.
//!
//! `docs/design.md` describes them under "File store", "Cell stores" and "Helper store".

pub mod broker;
pub mod cell;
mod durable;
pub mod file;
pub(crate) mod files;
pub mod helper;
pub(crate) mod open;
pub mod setup;

use crate::error::Failure;
use crate::lock::Locked;
use crate::session::{Level, LockMode, Revision};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The bytes of a document, as they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The bytes. They may be torn if the document is written in place.
    pub bytes: Vec<u8>,
    /// The state of the store.
    pub revision: Revision,
    /// A warning that others can read the document.
    pub warning: Option<Failure>,
    /// Why nothing that the document names is run or read. `None` if only the caller or root may write the document.
    pub distrust: Option<Failure>,
}

/// The items in the order of their keys. There are few of them, and a general sort has a copy of its code for each type.
fn sorted<T, K: Ord>(items: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut sorted: Vec<T> = Vec::new();
    for item in items {
        let place = sorted.partition_point(|other| key(other) <= key(&item));
        sorted.insert(place, item);
    }
    sorted
}

/// The revision of a store without a document.
pub fn absent() -> Revision {
    Revision("absent".to_owned())
}

/// The revision of these bytes. Revisions are compared within one process, and each session has other bytes, so a quick hash
/// is enough. Every `token` makes one.
fn revision(bytes: &[u8]) -> Revision {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Revision(format!("{:x}", hasher.finish()))
}

/// The revision of what was read.
pub(crate) fn revision_of(current: Option<&Snapshot>) -> Revision {
    current.map_or_else(absent, |snapshot| snapshot.revision.clone())
}

/// Whether the store holds the expected document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    /// It holds another document, which is here, or none.
    Different(Option<Snapshot>),
}

impl Comparison {
    fn of(current: Option<Snapshot>, expected: &Revision) -> Self {
        if revision_of(current.as_ref()) == *expected { Self::Equal } else { Self::Different(current) }
    }
}

/// An attempt record, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number among the records of its key.
    pub number: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What was written into the room for its answer; empty if nothing was written.
    pub answer: Vec<u8>,
}

/// How a replacement or a removal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// It is durable.
    Done,
    /// The store held another document, which is here, or none. Nothing was written.
    Lost(Option<Snapshot>),
    /// It may have happened: read back.
    Unknown,
    /// It did not happen.
    Failed {
        /// What failed and why.
        failure: Failure,
        /// Where the complete bytes are, if they could be written.
        kept: Option<String>,
    },
}

/// The key and the number of an attempt record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordName<'a> {
    /// The credential digest. For a store it is opaque: records with equal keys belong together.
    pub key: &'a str,
    /// The number among the records of the key.
    pub number: u64,
}

/// A record to create.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Its name.
    pub name: RecordName<'a>,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// How much room to reserve for its answer beyond the present size of the document, in bytes.
    pub reserve: u64,
    /// Whether the record must get this number. Otherwise it gets the next free one.
    pub exclusive: bool,
    /// The document that the claim is for. While the store holds it, records of other keys are older ones.
    pub expected: &'a Revision,
    /// The numbers of records of the same key that no process needs any more.
    pub outdated: &'a [u64],
}

/// Keeps the document and the attempt records of one profile.
///
/// After a [`Failure`] nothing was overwritten, unless the method says otherwise.
pub trait Store {
    /// Reads the document without a lock. `None`: there is no document.
    fn read(&self) -> Result<Option<Snapshot>, Failure>;

    /// Replaces the document durably, if the store still holds `expected`. Uses the room that was reserved with the record
    /// `attempt`, and then removes this record and those of the same key with lower numbers.
    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult;

    /// Removes the document and all records, if the store still holds `expected`. The lock file stays. A document that is a
    /// mount point cannot be removed: it is overwritten with `mark`. Without a lock, a store that does not swap may hold a late
    /// answer afterwards.
    fn remove(&self, expected: &Revision, mark: &[u8]) -> WriteResult;

    /// Asks for the lock, and waits for at most `at_most`. The same call after [`Locked::Unanswered`] goes on waiting.
    fn lock(&self, mode: LockMode, at_most: Duration) -> Locked;

    /// Ends a wait after [`Locked::Unanswered`]. A lock that is granted later is released at once.
    fn stop_waiting(&self) {}

    /// The attempt records of one key, sorted by number.
    fn records(&self, key: &str) -> Result<Vec<Record>, Failure>;

    /// Creates a record and reserves room for its answer, both durably. Returns its number, or `None` if another process has
    /// taken the number. Removes records that are outdated.
    fn create_record(&self, record: &NewRecord) -> Result<Option<u64>, Failure>;

    /// Rewrites a record of this process, if its bytes still are `old`: another process may have a record of the same name
    /// by now. If the attempt `is_over`, the room for an answer that was never written is freed.
    fn rewrite_record(&self, name: RecordName, old: &[u8], new: &[u8], is_over: bool) -> Result<(), Failure>;

    /// Removes a record of this process and the room reserved for it, if its bytes still are `old`.
    fn remove_record(&self, name: RecordName, old: &[u8]) -> Result<(), Failure>;

    /// Makes the answer beside a record the document, if the store still holds `expected`. Returns false if another
    /// process was first.
    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure>;

    /// Whether it compares and replaces in one step.
    fn swaps(&self) -> bool {
        false
    }

    /// Whether it costs much more to read the document than the records, because a program is run for it.
    fn is_costly(&self) -> bool {
        false
    }

    /// The location of the document, for people.
    fn location(&self) -> String;

    /// The name of a level in messages and in `--json`.
    fn level_name(&self, level: Level) -> &'static str {
        level.name()
    }
}
