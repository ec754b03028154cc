//! What a look at the store means for somebody who would refresh.

use super::attempt::{Attempt, AttemptOutcome, AttemptRecord};
use super::freshness::{self, Freshness};
use super::step::{Level, Now, RefreshInput, Stored, View};
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
    Claim(NextClaim),
}

/// What a claim needs to know of those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NextClaim {
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
pub(super) struct JudgementInput<'a> {
    /// What is wanted, and what its owner knew from the beginning: attempts that had failed before he came are not
    /// his to share.
    pub input: &'a RefreshInput,
    /// The refresh token whose records the view holds.
    pub credential_sha256: &'a str,
    /// The own claim, which is not in anybody's way.
    pub own: Option<u64>,
    pub now: Now,
}

/// How fresh the session of `stored` is; [`Freshness::Ended`] where there is none.
pub(super) fn freshness(question: &JudgementInput, stored: &Stored) -> Freshness {
    stored.document.session.as_ref().map_or(Freshness::Ended, |session| {
        freshness::judge(session, &question.input.demand, question.input.first_seen.as_ref(), question.now)
    })
}

pub(super) fn judge(question: &JudgementInput, view: &View) -> Judgement {
    let Some(stored) = &view.stored else {
        return Judgement::NoDocument;
    };
    if stored.document.session.is_none() {
        return Judgement::NoSession;
    }
    let fresh = freshness(question, stored);
    if fresh.is_fresh() {
        return Judgement::Use(fresh);
    }
    match stored.document.credential_sha256() {
        None => return Judgement::NoRefreshToken,
        Some(credential) if credential != question.credential_sha256 => return Judgement::Moved,
        Some(_) => {}
    }

    let now = question.now.wall;
    let others: Vec<&AttemptRecord> = view
        .attempts
        .iter()
        .filter(|record| Some(record.number) != question.own && record.attempt.concerns(&stored.document))
        .collect();
    let binding = question.input.level != Level::Compared;
    if binding && others.iter().any(|other| other.is_live(now) || other.is_looking(now)) {
        return Judgement::Wait;
    }
    // An answer that waits beside any attempt that is over follows the stored refresh token: it is the next session.
    if let Some(finished) = others.iter().rfind(|other| other.has_answer && !other.is_live(now)) {
        return Judgement::Adopt(finished.number);
    }
    let rejected = others.iter().find(|other| other.attempt.outcome == Some(AttemptOutcome::Rejected));
    if let Some(rejected) = rejected {
        return match others.iter().any(|other| other.is_live(now)) {
            true => Judgement::Wait,
            false => Judgement::Rejected(rejected.attempt.clone()),
        };
    }
    if binding
        && let Some(failure) = others
            .iter()
            .filter(|other| !question.input.failed_before.contains(&other.attempt.id))
            .find_map(|other| other.attempt.shared_failure())
    {
        return Judgement::Share(failure);
    }
    let prior = others
        .iter()
        .rfind(|other| other.is_abandoned(now) || other.attempt.outcome == Some(AttemptOutcome::Unknown))
        .map(|other| other.attempt.clone());
    // Every record counts for the number, whatever it is about: two that are there never share one.
    let last = view.attempts.iter().map(|record| record.number).max().unwrap_or(0);
    let is_outdated = |record: &&AttemptRecord| {
        record.number.saturating_add(RECORDS_KEPT) <= last && !record.is_live(now) && !record.is_looking(now)
    };
    let outdated = view.attempts.iter().filter(is_outdated).map(|record| record.number).collect();
    Judgement::Claim(NextClaim { number: last.saturating_add(1), prior, outdated })
}
