//! What other commands need of the attempt records, without a refresh.

use super::Dependencies;
use super::reading::attempt_records;
use crate::error::{Failure, Kind};
use crate::session::Stored;
use crate::session::attempt::AttemptOutcome;

/// The failure that was left when the stored refresh token was found dead, where it was, and nobody is at it now.
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
