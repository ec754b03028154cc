//! What other commands need of the place where sessions change, without a refresh.

use super::Seams;
use super::reading::{read_document, sightings};
use crate::error::{Failure, Kind};
use crate::lock::{Guard, Locked};
use crate::session::attempt::Outcome;
use crate::session::{Level, LockUse, Patience, Stored};
use crate::store::Store;
use std::time::Duration;

/// How often a claim is looked at that a login or a logout waits for.
const CLAIM_WAIT: Duration = Duration::from_millis(50);

/// How long a lock call may take that only finds out whether there are locks.
const LOCK_PROBE: Duration = Duration::from_secs(2);

/// Enters the place where a session changes, for a login or a logout: takes the lock, and where none can be had
/// waits until nobody spends the stored refresh token. A claim that outlasts the deadline is not waited for: its
/// late answer meets a changed store, and gives way.
pub fn enter(
    seams: &Seams,
    lock_use: LockUse,
    deadline: Duration,
) -> std::result::Result<Option<Guard>, Failure> {
    let left = || deadline.saturating_sub(seams.clock.now().elapsed);
    let guard = match lock_use {
        LockUse::Auto | LockUse::Require => match seams.store.lock(Patience::Queue, left()) {
            Locked::Granted(guard) => Some(guard),
            Locked::Refused(_) => None,
            Locked::Failed(failure) => return Err(failure),
            Locked::Busy | Locked::Unanswered => {
                seams.store.stop_waiting();
                let message = format!("another process still held the lock after {} s", deadline.as_secs());
                return Err(Failure::new(Kind::Temporary, message)
                    .hint("try again, or wait longer: --timeout SECONDS"));
            }
        },
        LockUse::Claim => None,
        LockUse::Off => return Ok(None),
    };
    while !left().is_zero() {
        let Ok(Some((stored, _))) = read_document(seams.store, seams.clock) else {
            break;
        };
        let is_claimed = || -> std::result::Result<bool, Failure> {
            let now = seams.clock.now().wall;
            Ok(sightings(seams, &stored)?.iter().any(|sighting| sighting.is_live(now)))
        };
        if !is_claimed()? {
            break;
        }
        seams.clock.pause(CLAIM_WAIT.min(left()));
        // A store whose reads are costly is not read while the claim is there.
        while seams.store.is_costly() && !left().is_zero() && is_claimed()? {
            seams.clock.pause(CLAIM_WAIT.min(left()));
        }
    }
    Ok(guard)
}

/// The failure that was left when the stored refresh token was found dead, where it was, and nobody is at it now.
pub fn find_rejected(seams: &Seams, stored: &Stored) -> std::result::Result<Option<Failure>, Failure> {
    let now = seams.clock.now().wall;
    let sightings = sightings(seams, stored)?;
    if sightings.iter().any(|sighting| sighting.is_live(now)) {
        return Ok(None);
    }
    let rejected = sightings.iter().find(|sighting| sighting.attempt.outcome == Some(Outcome::Rejected));
    Ok(rejected.and_then(|sighting| sighting.attempt.failure(Kind::LoginRequired)))
}

/// What stands between two spenders here: asks for the lock and gives it back.
pub fn lock_level(store: &dyn Store, lock_use: LockUse) -> std::result::Result<Level, Failure> {
    match lock_use {
        LockUse::Claim => Ok(Level::Claimed),
        LockUse::Off => Ok(Level::Compared),
        LockUse::Auto | LockUse::Require => match store.lock(Patience::Try, LOCK_PROBE) {
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
