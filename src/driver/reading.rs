//! Parses documents and attempt records. Reads a torn document again.

use super::{Clock, Dependencies};
use crate::error::{Failure, Kind};
use crate::grant::{Document, UnixSeconds, Unreadable};
use crate::session::Stored;
use crate::session::attempt::{Attempt, AttemptOutcome, AttemptRecord, Presence};
use crate::store::{Record, Snapshot, Store};
use crate::text::printable;
use std::time::Duration;

/// How often a torn document is read again: a document that is a mount point is written in place.
pub const TORN_READS: u32 = 5;
/// The pause before each of these reads.
pub const TORN_DELAY: Duration = Duration::from_millis(20);

/// The document that a login finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// No document yet.
    Nothing,
    /// The document of an earlier login.
    Document(Box<Stored>),
    /// Bytes that are no document. A login keeps them in another file before it replaces them.
    Unreadable,
}

/// Reads the document that a login would replace. A document of a newer version fails: a newer program uses it.
pub fn read_for_login(store: &dyn Store, clock: &dyn Clock) -> Result<Existing, Failure> {
    match read_parsed(store, clock)? {
        None => Ok(Existing::Nothing),
        Some(Ok((stored, _))) => Ok(Existing::Document(Box::new(stored))),
        Some(Err((Unreadable::Newer(_), failure))) => Err(failure),
        Some(Err(_)) => Ok(Existing::Unreadable),
    }
}

/// Reads the document, with the warning of the store.
pub fn read_document(store: &dyn Store, clock: &dyn Clock) -> Result<Option<WithWarning>, Failure> {
    read_parsed(store, clock)?.transpose().map_err(|(_, failure)| failure)
}

type Parsed<T> = Result<T, (Unreadable, Failure)>;

/// A document, and the warning of the store.
type WithWarning = (Stored, Option<Failure>);

/// Reads a torn document again. The inner error says why the bytes are no document.
fn read_parsed(store: &dyn Store, clock: &dyn Clock) -> Result<Option<Parsed<WithWarning>>, Failure> {
    let mut reads = 0;
    loop {
        let Some(snapshot) = store.read()? else {
            return Ok(None);
        };
        let warning = snapshot.warning.clone();
        match parse(snapshot, store) {
            Err((Unreadable::Torn | Unreadable::Empty | Unreadable::Foreign(_), _)) if reads < TORN_READS => {
                reads += 1;
                clock.pause(TORN_DELAY);
            }
            parsed => return Ok(Some(parsed.map(|stored| (stored, warning)))),
        }
    }
}

/// Parses a document. If the store does not trust it, the document has the reason.
pub fn parse(snapshot: Snapshot, store: &dyn Store) -> Parsed<Stored> {
    match Document::parse(&snapshot.bytes) {
        Ok(mut document) => {
            let distrust = snapshot.distrust.filter(|_| document.names_sources());
            document.distrust = distrust.map(Box::new);
            Ok(Stored { document, revision: snapshot.revision })
        }
        Err(unreadable) => {
            let message = format!("cannot use {}: {unreadable}; it was left as it is", store.location());
            let failure = Failure::new(Kind::Store, message);
            let failure = match unreadable {
                Unreadable::Newer(_) => failure.hint("onegrant --version   # a newer one wrote this file"),
                _ => failure.hint("onegrant login https://ADDRESS   # keeps the old file beside the new one"),
            };
            Err((unreadable, failure))
        }
    }
}

/// The attempt records that are about the stored session.
pub fn attempt_records(dependencies: &Dependencies, stored: &Stored) -> Result<Vec<AttemptRecord>, Failure> {
    let Some(credential) = stored.document.credential_sha256() else {
        return Ok(Vec::new());
    };
    let records = dependencies.store.records(&credential)?;
    let attempt_records = records.iter().map(|record| read_record(record, dependencies.clock));
    Ok(attempt_records.filter(|record| record.attempt.concerns(&stored.document)).collect())
}

/// The shared failure if the stored refresh token was rejected, and no other process is refreshing now.
pub fn find_rejected(dependencies: &Dependencies, stored: &Stored) -> Result<Option<Failure>, Failure> {
    let now = dependencies.clock.now().wall;
    let attempt_records = attempt_records(dependencies, stored)?;
    if attempt_records.iter().any(|record| record.is_live(now)) {
        return Ok(None);
    }
    let rejected =
        attempt_records.iter().find(|record| record.attempt.outcome == Some(AttemptOutcome::Rejected));
    Ok(rejected.and_then(|record| record.attempt.failure(Kind::LoginRequired)))
}

/// Parses a record. Bytes that are no record bind no process, but their number is taken: a record gets its name when it is
/// complete, so its bytes were lost later.
pub fn read_record(record: &Record, clock: &dyn Clock) -> AttemptRecord {
    let mut attempt_record = attempt_record(record);
    find_owner(&mut attempt_record, clock);
    attempt_record
}

/// The same, without looking whether the owner still runs.
pub(super) fn attempt_record(record: &Record) -> AttemptRecord {
    let attempt: Attempt = serde_json::from_slice(&record.bytes).unwrap_or_else(|_| Attempt::unreadable());
    let has_answer = Document::parse(&record.answer).is_ok_and(|document| document.session.is_some());
    AttemptRecord { number: record.number, attempt, owner: Presence::Unknown, has_answer }
}

/// Looks whether the owner still runs, if that matters to other processes.
pub(super) fn find_owner(record: &mut AttemptRecord, clock: &dyn Clock) {
    if !record.attempt.is_over() {
        record.owner = clock.presence(&record.attempt.by);
    }
}

/// Another process that is refreshing, for people. `own` is the record of this process.
pub(super) fn spender(
    attempts: &[AttemptRecord],
    records: &[Record],
    own: &[u8],
    now: UnixSeconds,
) -> Option<String> {
    let is_other =
        |(attempt, record): &(&AttemptRecord, &Record)| attempt.is_live(now) && record.bytes != own;
    let (attempt, _) = attempts.iter().zip(records).find(is_other)?;
    let by = &attempt.attempt.by;
    Some(format!("process {} on {}", by.pid, printable(&by.host)))
}
