//! What other commands need of the place where sessions change, without a refresh.

use super::Seams;
use super::reading::{read_document, sightings};
use crate::error::{Failure, Kind};
use crate::lock::{Guard, Locked};
use crate::session::attempt::Outcome;
use crate::session::{LockUse, Patience, Stored};
use std::time::Duration;

/// How often a claim is looked at that a login or a logout waits for.
const CLAIM_WAIT: Duration = Duration::from_millis(50);

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
                let message =
                    format!("another process still held the lock after {} s", deadline.as_secs_f32().ceil());
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
        let now = seams.clock.now().wall;
        if !sightings(seams, &stored)?.iter().any(|sighting| sighting.is_live(now)) {
            break;
        }
        seams.clock.pause(CLAIM_WAIT.min(left()));
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
