//! Exclusive access for commands other than a refresh: the lock or, if this place cannot lock, a claim like that of a refresh.
//! See "Login, logout and other changes" in `docs/design.md`.

use super::Context;
use crate::driver::{self, Clock};
use crate::error::{Failure, Kind};
use crate::grant::{Document, UnixSeconds, json_bytes};
use crate::lock::{Guard, Locked};
use crate::session::attempt::Attempt;
use crate::session::logout::{Found, credential_digests};
use crate::session::{Level, LockMode, LockUse, Stored};
use crate::store::{NewRecord, RecordName, Store};
use crate::text::whole_seconds;
use std::time::Duration;

/// How long a lock call may take that only finds out whether this place can lock.
const LOCK_PROBE: Duration = Duration::from_secs(2);

/// The pause between two looks at a claim that a command waits for.
const CLAIM_WAIT: Duration = Duration::from_millis(50);

/// Takes the lock, then waits until no live claim is about the stored session. The wait ends at `until`, counted from the start
/// of this process. A claim may last longer: its late answer finds a changed document, and does not replace it.
pub fn enter(context: &Context, until: Duration) -> Result<Option<Guard>, Failure> {
    let (dependencies, left) = (context.dependencies(), || until.saturating_sub(context.now().elapsed));
    let guard = match context.globals.lock {
        LockUse::Auto | LockUse::Require => match dependencies.store.lock(LockMode::Queue, left()) {
            Locked::Granted(guard) => Some(guard),
            Locked::Refused(_) => None,
            Locked::Failed(failure) => return Err(failure),
            Locked::Busy | Locked::Unanswered => {
                dependencies.store.stop_waiting();
                let message = format!("another process still held the lock after {} s", whole_seconds(until));
                return Err(Failure::new(Kind::Temporary, message)
                    .hint("try again, or wait longer: --timeout SECONDS"));
            }
        },
        LockUse::Claim => None,
        LockUse::Off => return Ok(None),
    };
    while !left().is_zero() {
        let Ok(Some(stored)) = context.stored() else {
            break;
        };
        let is_claimed = || -> Result<bool, Failure> {
            let now = context.now().wall;
            Ok(driver::attempt_records(&dependencies, &stored)?.iter().any(|record| record.is_live(now)))
        };
        if !is_claimed()? {
            break;
        }
        let pause = || {
            (dependencies.log)(2, "another process refreshes: waiting for its claim to end");
            context.pause(CLAIM_WAIT.min(left()));
        };
        pause();
        // If reads are costly, only the records are read while there is a live claim.
        while dependencies.store.is_costly() && !left().is_zero() && is_claimed()? {
            pause();
        }
    }
    Ok(guard)
}

/// A claim on the session of a document. A refresh waits for it as for another refresh. Dropping it removes its record.
pub struct ClaimGuard<'a> {
    context: &'a Context,
    /// The key, the number and the bytes of the record; `None` if the session has no credential digest.
    record: Option<(String, u64, Vec<u8>)>,
}

impl<'a> ClaimGuard<'a> {
    /// Claims the session of `stored` for at most `lasts` seconds. `None` if another process has a live claim: try again. If the
    /// claim is not exclusive, claims of other processes do not matter.
    pub fn make(
        context: &'a Context,
        stored: &Stored,
        lasts: UnixSeconds,
        is_exclusive: bool,
    ) -> Result<Option<Self>, Failure> {
        let Some(key) = credential_digests(&stored.document).into_iter().next() else {
            return Ok(Some(Self { context, record: None }));
        };
        let now = Clock::now(context).wall;
        let mut last = 0;
        for record in context.store.records(&key)? {
            last = record.number;
            if is_exclusive && driver::read_record(&record, context).is_live(now) {
                return Ok(None);
            }
        }
        let session = stored.document.sessions().next();
        let access_token_sha256 = session.map(|session| session.access_token.sha256()).unwrap_or_default();
        let (owner, until) = (context.this_process().clone(), now.saturating_add(lasts));
        let claim = Attempt::open(context.nonce()?, key.clone(), access_token_sha256, owner, now, until);
        let (name, bytes) = (RecordName { key: &key, number: last.saturating_add(1) }, json_bytes(&claim)?);
        let number = context.store.create_record(&NewRecord {
            name,
            bytes: &bytes,
            reserve: 0,
            exclusive: is_exclusive,
            expected: &stored.revision,
            outdated: &[],
        })?;
        Ok(number.map(|number| Self { context, record: Some((key, number, bytes)) }))
    }

    /// The record was removed together with the document.
    pub fn was_removed(mut self) {
        self.record = None;
    }
}

impl Drop for ClaimGuard<'_> {
    fn drop(&mut self) {
        if let Some((key, number, bytes)) = &self.record {
            // If this fails, the record is stale as soon as this process has ended.
            let _ = self.context.store.remove_record(RecordName { key, number: *number }, bytes);
        }
    }
}

/// The document, and the complete answers beside its records.
pub fn find(context: &Context) -> Result<Option<Found>, Failure> {
    let Some(stored) = context.stored()? else { return Ok(None) };
    let mut answers = Vec::new();
    for key in credential_digests(&stored.document) {
        let records = context.store.records(&key)?;
        answers.extend(records.iter().rev().filter_map(|record| Document::parse(&record.answer).ok()));
    }
    Ok(Some(Found { stored, answers }))
}

/// The level of this store: asks for the lock and releases it.
pub fn lock_level(store: &dyn Store, lock_use: LockUse) -> Result<Level, Failure> {
    match lock_use {
        LockUse::Claim => Ok(Level::Claimed),
        LockUse::Off => Ok(Level::Compared),
        LockUse::Auto | LockUse::Require => match store.lock(LockMode::Try, LOCK_PROBE) {
            Locked::Granted(_) | Locked::Busy => Ok(Level::Locked),
            Locked::Refused(_) => Ok(Level::Claimed),
            Locked::Failed(failure) => Err(failure),
            Locked::Unanswered => {
                store.stop_waiting();
                Err(Failure::new(Kind::Temporary, "the lock call does not answer")
                    .hint("ONEGRANT_LOCK=claim onegrant status"))
            }
        },
    }
}
