//! From the request to the new session in the store. See "Commit" in `docs/design.md`.

use super::{Claim, FirstRequest, Machine, Phase};
use crate::error::{Failure, Kind};
use crate::grant::{Document, LastRefresh, Session};
use crate::protocol::token::{Answer, words};
use crate::session::attempt::AttemptOutcome;
use crate::session::bounds::{
    COMPARISON_DELAYS, FAILURE_SETTLE, MAX_REBASES, MAX_SENDS, SECOND_SEND_RESERVE, SHORTEST_EXCHANGE,
};
use crate::session::step::{Now, ReplaceResult, Step, Stored};
use crate::session::texts;
use std::time::Duration;

impl Machine {
    pub(super) fn spend(&mut self, now: Now) -> Step {
        let Some((stored, credential)) =
            self.latest.as_ref().and_then(|stored| Some((stored, stored.document.credential()?)))
        else {
            return self.withdraw(Phase::Withdrawing);
        };
        let left = self.left(now);
        let may_be_lost = self.first_request.is_none() && left >= 2 * SECOND_SEND_RESERVE;
        let timeout = if may_be_lost { left - SECOND_SEND_RESERVE } else { left };
        let document = stored.document.clone();
        self.sends += 1;
        self.sent_at = now.wall;
        self.phase = Phase::Spending;
        Step::Spend { document, credential, timeout }
    }

    pub(super) fn answered(&mut self, answer: Answer, now: Now) -> Step {
        match (answer, self.first_request_words()) {
            (Answer::Refreshed(answer), _) => {
                let Some(stored) = self.latest.clone() else {
                    return self.look(Phase::Judging);
                };
                let session = answer.session(&stored.document, self.sent_at);
                self.commit(stored, Some(session))
            }
            (Answer::InvalidGrant { error, description }, _) => {
                self.refusal = words(&error, description.as_deref());
                // The comparison loop ran after the first refusal, which was of the same generation.
                let is_second = self.first_request == Some(FirstRequest::Refused);
                self.generations += u32::from(!is_second);
                let looks = if is_second { COMPARISON_DELAYS.len() } else { 0 };
                self.mark(AttemptOutcome::Looking, None, Phase::Comparing(looks), now)
            }
            (Answer::Refused { refusal, error, description }, first) => {
                let words = words(&error, description.as_deref());
                let document = self.latest.as_ref().map(|stored| &stored.document);
                let failure =
                    texts::refused(&self.settings.profile, document, refusal, &words, first.as_deref());
                self.hold_back(AttemptOutcome::Refused, failure, now)
            }
            // An answer to the second request does not say what became of the first one.
            (answer, Some(first)) => {
                self.give_up_unknown(&format!("{first}; then {}", answer.story()), true, now)
            }
            (Answer::Impossible(failure), None) => self.fail(failure, now),
            (Answer::Failed(failure), None) => {
                self.hold_back(AttemptOutcome::of(&failure), texts::failed(failure), now)
            }
            (Answer::Temporary { what, retry_after }, None) => match retry_after {
                Some(delay) if self.may_send_again(delay, now) => {
                    self.phase = Phase::RetryingRequest;
                    Step::Pause(delay.max(FAILURE_SETTLE))
                }
                _ => self.hold_back(AttemptOutcome::Temporary, texts::temporary(&what), now),
            },
            (Answer::Unknown { what, again: true }, None) if self.left(now) >= SHORTEST_EXCHANGE => {
                self.first_request = Some(FirstRequest::Lost(what));
                self.look(Phase::Confirming)
            }
            (Answer::Unknown { what, again }, None) => self.give_up_unknown(&what, again, now),
        }
    }

    pub(super) fn may_send_again(&self, delay: Duration, now: Now) -> bool {
        self.sends < MAX_SENDS
            && !self.latest_freshness(now).is_usable()
            && delay.saturating_add(SHORTEST_EXCHANGE) < self.left(now)
    }

    pub(super) fn commit(&mut self, onto: Stored, session: Option<Session>) -> Step {
        let owner = &self.settings.owner;
        let last_refresh = LastRefresh {
            at: self.sent_at,
            host: owner.host.clone(),
            pid: owner.pid,
            other: serde_json::Map::new(),
        };
        let document =
            Document { session, rejected: None, last_refresh: Some(last_refresh), ..onto.document };
        let attempt = self.claim.as_ref().map(Claim::name);
        self.phase = Phase::Committing(Box::new(document.clone()));
        Step::Replace { expected: onto.revision, document, attempt: attempt.unwrap_or_default() }
    }

    /// I2 and I3: what a commit does if the store has changed.
    pub(super) fn committed(&mut self, new: Document, replacement: ReplaceResult, now: Now) -> Step {
        match replacement {
            ReplaceResult::Done => {
                self.claim = None;
                Step::Finish(self.refreshed(&new, None, now))
            }
            ReplaceResult::Unknown => {
                self.phase = Phase::Verifying(Box::new(new));
                Step::Read
            }
            ReplaceResult::Failed { failure, kept } => {
                self.end_unstored(&new, texts::not_stored(&failure, kept.as_deref()), now)
            }
            ReplaceResult::Lost(None) => self.revoke(new),
            ReplaceResult::Lost(Some(stored)) if stored.document.has_no_grant() => self.revoke(new),
            ReplaceResult::Lost(Some(stored)) if !self.may_follow(&stored) => {
                self.withdraw_and_end(self.refreshed(&new, None, now))
            }
            ReplaceResult::Lost(Some(stored)) if self.rebases < MAX_REBASES => {
                self.rebases += 1;
                self.commit(*stored, new.session)
            }
            ReplaceResult::Lost(Some(_)) => {
                let failure = Failure::new(Kind::Store, "the configuration kept changing");
                self.end_unstored(&new, texts::not_stored(&failure, None), now)
            }
        }
    }

    /// The grant was logged out meanwhile: no process may use the new refresh token.
    fn revoke(&mut self, document: Document) -> Step {
        self.phase = Phase::Revoking(texts::logged_out(&self.settings.profile));
        Step::Revoke { document }
    }

    /// Whether the new session may replace what is stored now: the session of the refresh token that was spent, or a session
    /// that was cleared because this refresh token was refused, or without a reason. If the server does not rotate, the same
    /// refresh token beside another access token is a newer session of another process (I2).
    pub(super) fn may_follow(&self, stored: &Stored) -> bool {
        let document = &stored.document;
        self.claim.as_ref().is_some_and(|Claim { attempt, .. }| {
            match (&document.session, &document.rejected) {
                (Some(_), _) => attempt.concerns(document),
                (None, Some(rejected)) => rejected.credential_sha256 == attempt.credential_sha256,
                (None, None) => true,
            }
        })
    }

    /// The store did not say whether it replaced: what it holds now decides.
    pub(super) fn verified(&mut self, new: Document, stored: Option<Stored>, now: Now) -> Step {
        let replacement = match stored {
            Some(stored) if stored.document == new => ReplaceResult::Done,
            stored => ReplaceResult::Lost(stored.map(Box::new)),
        };
        self.committed(new, replacement, now)
    }
}
