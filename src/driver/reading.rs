//! From bytes to documents and records, with the mode that a torn document needs.

use super::{Clock, Dependencies};
use crate::error::{Failure, Kind};
use crate::grant::{Document, UnixSeconds, Unreadable};
use crate::session::Stored;
use crate::session::attempt::{Attempt, AttemptRecord, Presence};
use crate::store::{Record, Snapshot, Store};
use crate::text::printable;
use std::time::Duration;

/// How often a torn document is read again: a document that is a mount point is written in place.
const TORN_READS: u32 = 5;
const TORN_DELAY: Duration = Duration::from_millis(20);

/// What a login meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// No document yet.
    Nothing,
    /// The document of an earlier login.
    Document(Box<Stored>),
    /// Bytes that are no document, and that a login may replace after it kept them aside.
    Unreadable,
}

/// Reads what a login would replace. A newer format version is refused: a newer program works with it.
pub fn read_for_login(store: &dyn Store, clock: &dyn Clock) -> Result<Existing, Failure> {
    match read_or_say_why(store, clock)? {
        None => Ok(Existing::Nothing),
        Some(Ok((stored, _))) => Ok(Existing::Document(Box::new(stored))),
        Some(Err((Unreadable::Newer(_), failure))) => Err(failure),
        Some(Err(_)) => Ok(Existing::Unreadable),
    }
}

/// A document as it was read, with the warning that came with it.
pub fn read_document(store: &dyn Store, clock: &dyn Clock) -> Result<Option<WithWarning>, Failure> {
    read_or_say_why(store, clock)?.transpose().map_err(|(_, failure)| failure)
}

type Parsed<T> = Result<T, (Unreadable, Failure)>;

/// A document, and the warning that came with it.
type WithWarning = (Stored, Option<Failure>);

/// A torn document is read again: one that is a mount point is written in place.
fn read_or_say_why(store: &dyn Store, clock: &dyn Clock) -> Result<Option<Parsed<WithWarning>>, Failure> {
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

/// The document in these bytes. One that the store does not trust knows why.
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
                _ => failure
                    .hint("onegrant login ISSUER --client-id ID   # keeps the old file beside the new one"),
            };
            Err((unreadable, failure))
        }
    }
}

/// The records that concern the stored session.
pub fn attempt_records(dependencies: &Dependencies, stored: &Stored) -> Result<Vec<AttemptRecord>, Failure> {
    let Some(credential) = stored.document.credential_sha256() else {
        return Ok(Vec::new());
    };
    let records = dependencies.store.records(&credential)?;
    let attempt_records = records.iter().map(|record| attempt_record(record, Some(dependencies.clock)));
    Ok(attempt_records.filter(|record| record.attempt.concerns(&stored.document)).collect())
}

/// A record that cannot be read binds nobody, but keeps its number: records appear as a whole, so its bytes were
/// lost after that.
///
/// Without a clock it is not found out whether the owner still runs.
pub(super) fn attempt_record(record: &Record, clock: Option<&dyn Clock>) -> AttemptRecord {
    let attempt: Attempt = serde_json::from_slice(&record.bytes).unwrap_or_else(|_| Attempt::unreadable());
    let clock = clock.filter(|_| !attempt.is_over());
    let owner = clock.map_or(Presence::Unknown, |clock| clock.presence(&attempt.by));
    let has_answer = Document::parse(&record.answer).is_ok_and(|document| document.session.is_some());
    AttemptRecord { number: record.number, attempt, owner, has_answer }
}

/// Which other process is refreshing, for people. `own` is the record of this one.
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
