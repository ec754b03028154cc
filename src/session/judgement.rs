//! What a look at the store means for a process that wants to refresh. See "What a look means" in `docs/design.md`.

use super::attempt::{Attempt, AttemptOutcome, AttemptRecord};
use super::freshness::{self, Freshness};
use super::step::{Level, Now, RefreshInput, Stored, View};
use crate::error::Failure;
use crate::grant::Document;

/// What to do about a view of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Hand out the stored token.
    Use(Freshness),
    /// There is no document.
    NoDocument,
    /// The session was cleared.
    NoSession,
    /// The session cannot be refreshed.
    NoRefreshToken,
    /// The ID token is demanded. This session has none, and a refresh brings none.
    NoIdToken(Box<Document>),
    /// The look was about another refresh token than the stored one: look again.
    CredentialChanged,
    /// Another process is refreshing or comparing: wait for it.
    Wait,
    /// An abandoned attempt left a completed answer.
    Adopt(u64),
    /// An attempt failed while this process waited for it: end the same way.
    Share(Failure),
    /// This refresh token was found dead before.
    Rejected(Attempt),
    /// No other process is refreshing: claim.
    Claim(NextClaim),
}

/// What the records say about the claim to make next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NextClaim {
    /// Its number.
    pub number: u64,
    /// An attempt that was begun and never finished.
    pub unfinished: Option<Attempt>,
    /// The numbers of the records that no process needs any more.
    pub outdated: Vec<u64>,
}

/// How many ended records of one refresh token are kept. The highest number always stays, so a late claim sees that it was
/// overtaken, however many attempts came before it.
const RECORDS_KEPT: u64 = 8;

/// What a judgement depends on besides the view.
pub(super) struct JudgementInput<'a> {
    /// What the refresh started from. Failures from before that are not shared.
    pub input: &'a RefreshInput,
    /// The refresh token of the records in the view.
    pub credential_sha256: &'a str,
    /// The number of the own claim, which binds only other processes.
    pub own: Option<u64>,
    pub now: Now,
}

/// How fresh the session of `stored` is; [`Freshness::Ended`] without a session.
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
    match freshness(question, stored) {
        fresh if fresh.is_fresh() => return Judgement::Use(fresh),
        Freshness::Missing => return Judgement::NoIdToken(Box::new(stored.document.clone())),
        _ => {}
    }
    match stored.document.credential_sha256() {
        None => return Judgement::NoRefreshToken,
        Some(credential) if credential != question.credential_sha256 => return Judgement::CredentialChanged,
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
    // An answer beside an attempt that does not bind any more follows the stored refresh token: it is the next session.
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
    let unfinished = others
        .iter()
        .rfind(|other| other.is_abandoned(now) || other.attempt.outcome == Some(AttemptOutcome::Unknown))
        .map(|other| other.attempt.clone());
    // Every record counts for the number, also one about another session: no two records share a number.
    let last = view.attempts.iter().map(|record| record.number).max().unwrap_or(0);
    let is_outdated = |record: &&AttemptRecord| {
        record.number.saturating_add(RECORDS_KEPT) <= last && !record.is_live(now) && !record.is_looking(now)
    };
    let outdated = view.attempts.iter().filter(is_outdated).map(|record| record.number).collect();
    Judgement::Claim(NextClaim { number: last.saturating_add(1), unfinished, outdated })
}
