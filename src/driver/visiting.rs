//! What other commands need of the attempt records, without a refresh.

use super::Seams;
use super::reading::sightings;
use crate::error::{Failure, Kind};
use crate::session::Stored;
use crate::session::attempt::Outcome;

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
