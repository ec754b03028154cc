//! The comparison loop: a refusal proves nothing while the store may still change (I2, I9).
//! See "Comparison loop" in `docs/design.md`.

use super::{FirstRequest, Machine, Phase};
use crate::error::Failure;
use crate::grant::{Document, Rejected};
use crate::session::attempt::AttemptOutcome;
use crate::session::bounds::{COMPARISON_DELAYS, LAST_WAIT, MAX_REBASES, REFUSAL_SETTLE, SHORTEST_EXCHANGE};
use crate::session::judgement::Judgement;
use crate::session::step::{Level, Now, ReplaceResult, Step, View};
use crate::session::texts;
use std::time::Duration;

impl Machine {
    /// Judges one look of the comparison loop.
    pub(super) fn compare(&mut self, looks: usize, view: View, now: Now) -> Step {
        let (judgement, changed) = self.judge_change(&view, now);
        if changed {
            return match judgement {
                Judgement::NoDocument => {
                    self.withdraw_and_end(Err(texts::logged_out(&self.settings.profile)))
                }
                _ if self.latest_freshness(now).is_usable() => self.hand_out_latest(vec![]),
                Judgement::NoSession | Judgement::NoRefreshToken => self.withdraw_and_end(Err(self.dead())),
                // Another process rotated, and its session has expired, too: spend that refresh token.
                _ => self.withdraw(Phase::Withdrawing),
            };
        }
        if matches!(judgement, Judgement::Adopt(_)) {
            return self.withdraw(Phase::Withdrawing);
        }
        if let Some(delay) = COMPARISON_DELAYS.get(looks) {
            self.phase = Phase::Comparing(looks + 1);
            // Also at the deadline: without these looks the verdict could be false.
            return Step::Pause(*delay);
        }
        let own = self.claim.as_ref().map(|claim| claim.number);
        let mut others = view.attempts.iter().filter(|record| Some(record.number) != own);
        if others.any(|other| other.may_answer(now.wall)) {
            return match self.left(now) {
                Duration::ZERO => {
                    let reason = "the server refused, and another process's refresh had not ended";
                    let failure = texts::deadline(self.settings.deadline, reason);
                    self.hold_back(AttemptOutcome::Temporary, failure, now)
                }
                left => {
                    self.phase = Phase::Comparing(looks);
                    Step::Pause(LAST_WAIT.min(left))
                }
            };
        }
        if self.first_request.is_none()
            && self.input.level != Level::Compared
            && self.left(now) >= REFUSAL_SETTLE + SHORTEST_EXCHANGE
            && self.holds_claim(&view, now)
        {
            self.first_request = Some(FirstRequest::Refused);
            self.phase = Phase::RetryingRequest;
            return Step::Pause(REFUSAL_SETTLE);
        }
        self.give_verdict(looks, now)
    }

    /// The store has not changed: the grant is dead. The session is cleared only where looking and clearing is one step.
    pub(super) fn give_verdict(&mut self, looks: usize, now: Now) -> Step {
        let dead = self.dead();
        match (&self.latest, &self.claim) {
            (Some(stored), Some(claim))
                if (self.input.level == Level::Locked || self.settings.swaps)
                    && !self.access_token_works(now) =>
            {
                let key = claim.attempt.credential_sha256.clone();
                let document = Document {
                    session: None,
                    rejected: Some(Rejected::new(key, now.wall, dead.message.clone())),
                    ..stored.document.clone()
                };
                let (expected, attempt) = (stored.revision.clone(), claim.name());
                self.phase = Phase::Clearing(dead, looks);
                Step::Replace { expected, document, attempt }
            }
            _ => self.share(AttemptOutcome::Rejected, dead, now),
        }
    }

    pub(super) fn cleared(&mut self, dead: Failure, looks: usize, replaced: ReplaceResult, now: Now) -> Step {
        match replaced {
            ReplaceResult::Done => {
                self.claim = None;
                Step::Finish(Err(dead))
            }
            ReplaceResult::Lost(_) if self.rebases < MAX_REBASES => {
                self.rebases += 1;
                self.look(Phase::Comparing(looks))
            }
            ReplaceResult::Lost(_) | ReplaceResult::Unknown | ReplaceResult::Failed { .. } => {
                self.share(AttemptOutcome::Rejected, dead, now)
            }
        }
    }

    pub(super) fn dead(&self) -> Failure {
        let words = match &self.first_request {
            Some(FirstRequest::Lost(lost)) => format!("{}, after an answer was lost: {lost}", self.refusal),
            Some(FirstRequest::Refused) | None => self.refusal.clone(),
        };
        texts::dead(&self.settings.profile, &words, self.unfinished.as_ref())
    }
}
