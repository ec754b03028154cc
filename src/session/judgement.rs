//! What a look at the store means for somebody who would refresh.

use super::attempt::{Attempt, Outcome, Sighting};
use super::freshness::{self, Freshness};
use super::step::{Errand, Level, Now, Stored, View};
use crate::error::Failure;

/// What to do about a view of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Hand the stored token out.
    Use(Freshness),
    /// There is no document.
    NoDocument,
    /// The session was cleared.
    NoSession,
    /// The session cannot be refreshed.
    NoRefreshToken,
    /// The records that were read are about another refresh token than the stored one: look again.
    Moved,
    /// Somebody spends or compares right now: wait for him.
    Wait,
    /// An abandoned attempt left a completed answer.
    Adopt(u64),
    /// An attempt failed while we waited for it: end alike.
    Share(Failure),
    /// This refresh token was found dead before.
    Rejected(Attempt),
    /// Nobody is at it: claim.
    Claim(Opening),
}

/// What a claim needs to know of those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// The next number.
    pub number: u64,
    /// The attempt that was begun and never finished.
    pub prior: Option<Attempt>,
    /// Records that nobody needs any more.
    pub outdated: Vec<u64>,
}

/// How many records of one refresh token are kept that are over: a claim that comes too late by more attempts than
/// that still sees that it was overtaken, because the highest number always stays.
const RECORDS_KEPT: u64 = 8;

/// The constant part of the question.
pub(super) struct Asking<'a> {
    /// What is wanted, and what its owner knew from the beginning: attempts that had failed before he came are not
    /// his to share.
    pub errand: &'a Errand,
    /// The refresh token whose records the view holds.
    pub looked_at: &'a str,
    /// The own claim, which is not in anybody's way.
    pub own: Option<u64>,
    pub now: Now,
}

/// How fresh the session of `stored` is; [`Freshness::Ended`] where there is none.
pub(super) fn freshness(asking: &Asking, stored: &Stored) -> Freshness {
    stored.document.session.as_ref().map_or(Freshness::Ended, |session| {
        freshness::judge(session, &asking.errand.demand, asking.errand.first_seen.as_ref(), asking.now)
    })
}

pub(super) fn judge(asking: &Asking, view: &View) -> Judgement {
    let Some(stored) = &view.stored else {
        return Judgement::NoDocument;
    };
    if stored.document.session.is_none() {
        return Judgement::NoSession;
    }
    let fresh = freshness(asking, stored);
    if fresh.is_fresh() {
        return Judgement::Use(fresh);
    }
    match stored.document.credential_sha256() {
        None => return Judgement::NoRefreshToken,
        Some(credential) if credential != asking.looked_at => return Judgement::Moved,
        Some(_) => {}
    }

    let now = asking.now.wall;
    let others: Vec<&Sighting> = view
        .attempts
        .iter()
        .filter(|sighting| Some(sighting.number) != asking.own && sighting.attempt.concerns(&stored.document))
        .collect();
    let binding = asking.errand.level != Level::Compared;
    if binding && others.iter().any(|other| other.is_live(now) || other.is_looking(now)) {
        return Judgement::Wait;
    }
    // An answer that waits beside any attempt that is over follows the stored refresh token: it is the next session.
    if let Some(finished) = others.iter().rfind(|other| other.has_answer && !other.is_live(now)) {
        return Judgement::Adopt(finished.number);
    }
    let rejected = others.iter().find(|other| other.attempt.outcome == Some(Outcome::Rejected));
    if let Some(rejected) = rejected {
        return match others.iter().any(|other| other.is_live(now)) {
            true => Judgement::Wait,
            false => Judgement::Rejected(rejected.attempt.clone()),
        };
    }
    if binding
        && let Some(failure) = others
            .iter()
            .filter(|other| !asking.errand.failed_before.contains(&other.attempt.id))
            .find_map(|other| other.attempt.shared_failure())
    {
        return Judgement::Share(failure);
    }
    let prior = others
        .iter()
        .rfind(|other| other.is_abandoned(now) || other.attempt.outcome == Some(Outcome::Unknown))
        .map(|other| other.attempt.clone());
    // Every record counts for the number, whatever it is about: two that are there never share one.
    let last = view.attempts.iter().map(|sighting| sighting.number).max().unwrap_or(0);
    let is_outdated = |sighting: &&Sighting| {
        sighting.number.saturating_add(RECORDS_KEPT) <= last
            && !sighting.is_live(now)
            && !sighting.is_looking(now)
    };
    let outdated = view.attempts.iter().filter(is_outdated).map(|sighting| sighting.number).collect();
    Judgement::Claim(Opening { number: last.saturating_add(1), prior, outdated })
}
