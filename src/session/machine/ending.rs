//! The ends of a refresh: the new token, the old token and a warning, or a failure.

use super::{Machine, Phase};
use crate::error::{Failure, Kind};
use crate::grant::{Document, TokenKind};
use crate::session::attempt::AttemptOutcome;
use crate::session::bounds::FAILURE_SETTLE;
use crate::session::freshness::id_token_age;
use crate::session::judgement::Judgement;
use crate::session::step::{Now, Step, Token, TokenResult, View};
use crate::session::texts;

impl Machine {
    pub(super) fn last_look(&mut self, failure: Failure, view: View, now: Now) -> Step {
        match self.judgement(&view, now) {
            Judgement::Claim(..) | Judgement::Wait | Judgement::Adopt(_) | Judgement::CredentialChanged => {
                self.fail(failure, now)
            }
            judgement => self.act(judgement, now),
        }
    }

    /// I6: a failure is an error only if the stored access token does not answer the demand.
    pub(super) fn fail(&mut self, failure: Failure, now: Now) -> Step {
        let result = self.after(failure, now);
        self.withdraw_and_end(result)
    }

    /// The old token and a warning, or the failure.
    fn after(&self, failure: Failure, now: Now) -> TokenResult {
        let usable = self.session().filter(|_| self.latest_freshness(now).is_usable()).cloned();
        let warnings = vec![texts::still_valid(&failure, self.input.demand.token)];
        usable.map(|session| Token { session, warnings, refreshed: false }).ok_or(failure)
    }

    pub(super) fn hand_out_latest(&mut self, warnings: Vec<Failure>) -> Step {
        let session = self.session().cloned().ok_or_else(|| self.no_session());
        self.withdraw_and_end(session.map(|session| Token { session, warnings, refreshed: false }))
    }

    /// The failure of a cleared session, in the words of the process that cleared it.
    pub(super) fn no_session(&self) -> Failure {
        let rejected = self.latest.as_ref().and_then(|stored| stored.document.rejected.as_ref());
        texts::no_session(&self.settings.profile, rejected)
    }

    /// The token of the new session, whatever its lifetime is. An ID token that does not come, or does not work by this
    /// machine's clock, is not handed out.
    pub(super) fn refreshed(&self, new: &Document, not_stored: Option<Failure>, now: Now) -> TokenResult {
        let is_access_token = self.input.demand.token == TokenKind::AccessToken;
        let session = new.session.clone();
        match session.filter(|session| is_access_token || id_token_age(session, 0, now).is_valid()) {
            Some(session) => {
                Ok(Token { session, warnings: not_stored.into_iter().collect(), refreshed: true })
            }
            None => Err(not_stored.unwrap_or_else(|| texts::no_id_token(&self.settings.profile, new))),
        }
    }

    /// Holds a failure back for a moment, so that processes that start now share it (I13).
    pub(super) fn hold_back(&mut self, outcome: AttemptOutcome, failure: Failure, now: Now) -> Step {
        self.phase = Phase::HoldingBack(outcome, failure);
        Step::Pause(FAILURE_SETTLE.min(self.left(now)))
    }

    /// Leaves the failure in the record for the processes that waited for it, and ends with it.
    pub(super) fn share(&mut self, outcome: AttemptOutcome, failure: Failure, now: Now) -> Step {
        let result = self.after(failure.clone(), now);
        self.mark(outcome, Some(&failure), Phase::Ending(Box::new(result)), now)
    }

    /// Ends with a token that could not be stored. Its completed answer may wait to be adopted.
    pub(super) fn end_unstored(&mut self, new: &Document, not_stored: Failure, now: Now) -> Step {
        let result = self.refreshed(new, Some(not_stored), now);
        let shared = Failure::new(Kind::Store, "the answer came and could not be stored");
        self.mark(AttemptOutcome::Unknown, Some(&shared), Phase::Ending(Box::new(result)), now)
    }

    /// Ends an attempt after which the refresh token may be spent.
    pub(super) fn give_up_unknown(&mut self, what: &str, again: bool, now: Now) -> Step {
        self.hold_back(AttemptOutcome::Unknown, texts::unknown(&self.settings.profile, what, again), now)
    }

    pub(super) fn withdraw_and_end(&mut self, result: TokenResult) -> Step {
        match self.claim {
            Some(_) => self.withdraw(Phase::Ending(Box::new(result))),
            None => Step::Finish(result),
        }
    }

    pub(super) fn give_up(&mut self, reason: &str) -> Step {
        self.look(Phase::LastLook(texts::deadline(self.settings.deadline, reason)))
    }
}
