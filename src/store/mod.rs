//! Where documents are kept. A store knows bytes and revisions, not OAuth.

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
    /// The bytes; they may be torn where a document is written in place.
    pub bytes: Vec<u8>,
    /// Which state of the store it was.
    pub revision: Revision,
    /// What a person should know about it: loose permissions.
    pub warning: Option<Failure>,
    /// Why nothing that the document names is run or read; none where only the caller or root may write the document.
    pub distrust: Option<Failure>,
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

/// An attempt record, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number among the records of its key.
    pub number: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What was written into the room reserved for its answer; empty where nothing was.
    pub answer: Vec<u8>,
}

/// What became of a replacement or of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// It is durable.
    Done,
    /// The store held something else, and what; nothing was written.
    Lost(Option<Snapshot>),
    /// It may have happened: read back.
    Unknown,
    /// It did not happen.
    Failed {
        /// What failed and why.
        failure: Failure,
        /// Where the complete bytes are, where they could be written.
        kept: Option<String>,
    },
}

/// The key and number of an attempt record. The key is opaque to a store: equal keys belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordName<'a> {
    /// What the record is about.
    pub key: &'a str,
    /// Which of the records about it.
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
    /// Whether exactly this number will do; else the next free one.
    pub exclusive: bool,
    /// What the store held when it was decided: records of other keys are older as long as it does.
    pub expected: &'a Revision,
    /// The numbers of records of the same key that nobody needs any more.
    pub outdated: &'a [u64],
}

/// A place that keeps the document of one profile.
///
/// Every failure is a [`Failure`] whose kind says what the caller can do; nothing was overwritten then, unless
/// the method says otherwise.
pub trait Store {
    /// Reads the document without a lock; none before the first login.
    fn read(&self) -> Result<Option<Snapshot>, Failure>;

    /// Replaces the document if the store still holds `expected`, durably, and then removes the attempt's record and
    /// those of the same key before it. `attempt` names the record whose reserved room is used.
    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult;

    /// Removes the document and all records if the store still holds `expected`; the lock stays. A document that cannot be
    /// removed, because it is a mount point, is overwritten with `mark`.
    fn remove(&self, expected: &Revision, mark: &[u8]) -> WriteResult;

    /// Asks for the lock, for at most that long. Asked again in the same way after [`Locked::Unanswered`], it goes
    /// on waiting.
    fn lock(&self, mode: LockMode, at_most: Duration) -> Locked;

    /// Ends a wait that [`Store::lock`] left behind: a lock that is granted later is released at once.
    fn stop_waiting(&self) {}

    /// The attempt records of one key, in the order of their numbers.
    fn records(&self, key: &str) -> Result<Vec<Record>, Failure>;

    /// Creates a record and reserves room for its answer, both durably. Gives its number; none where an exclusive
    /// one exists already. Records that mean nothing any more are swept away.
    fn create_record(&self, record: &NewRecord) -> Result<Option<u64>, Failure>;

    /// Rewrites a record of our own, which still says `ours`. If its attempt `is_over`, the room for an answer that was
    /// never written is given back. Another process's record under the same name stays.
    fn rewrite_record(
        &self,
        name: RecordName,
        ours: &[u8],
        bytes: &[u8],
        is_over: bool,
    ) -> Result<(), Failure>;

    /// Removes a record of our own, which still says `ours`, and the room reserved for it. Another process's record
    /// under the same name stays.
    fn remove_record(&self, name: RecordName, ours: &[u8]) -> Result<(), Failure>;

    /// Makes the answer beside a record the document, if the store still holds `expected`; false where somebody
    /// else was first.
    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure>;

    /// Whether it compares and replaces in one step, with whoever else is at it.
    fn swaps(&self) -> bool {
        false
    }

    /// Whether a read costs much more than a look at the records, as where a program is run for it.
    fn is_costly(&self) -> bool {
        false
    }

    /// Where it is, for people.
    fn location(&self) -> String;

    /// The word for a level here in messages and in `--json`.
    fn names(&self, level: Level) -> &'static str {
        level.name()
    }
}
