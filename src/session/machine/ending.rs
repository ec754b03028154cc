//! The ends of a refresh: the new token, the old token and a warning, or a failure.

use super::{Machine, Phase};
use crate::error::{Failure, Kind};
use crate::grant::{Session, TokenKind};
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
        match self.latest_freshness(now).is_usable() {
            true => self.hand_out_latest(vec![texts::still_valid(&failure, self.input.demand.token)]),
            false => self.withdraw_and_end(Err(failure)),
        }
    }

    pub(super) fn hand_out_latest(&mut self, warnings: Vec<Failure>) -> Step {
        match self.session().cloned() {
            Some(session) => self.withdraw_and_end(Ok(Token { session, warnings, refreshed: false })),
            None => self.withdraw_and_end(Err(self.no_session())),
        }
    }

    /// The failure of a cleared session, in the words of the process that cleared it.
    pub(super) fn no_session(&self) -> Failure {
        let rejected = self.latest.as_ref().and_then(|stored| stored.document.rejected.as_ref());
        texts::no_session(&self.settings.profile, rejected)
    }

    /// The token of an answer, whatever its lifetime is. An ID token that does not come, or does not work by this machine's
    /// clock, is not handed out.
    pub(super) fn handed_out(&self, token: Token, now: Now) -> TokenResult {
        let is_id_token = self.input.demand.token == TokenKind::IdToken;
        match is_id_token && !id_token_age(&token.session, 0, now).is_valid() {
            true => {
                let Token { session, warnings, .. } = token;
                Err(warnings.into_iter().next().unwrap_or_else(|| self.no_id_token(&session)))
            }
            false => Ok(token),
        }
    }

    /// The failure if this session has no ID token that works.
    pub(super) fn no_id_token(&self, session: &Session) -> Failure {
        let document = self.latest.as_ref().map(|stored| &stored.document);
        texts::no_id_token(&self.settings.profile, session, document)
    }

    /// Holds a failure back for a moment, so that processes that start now share it (I13).
    pub(super) fn hold_back(&mut self, outcome: AttemptOutcome, failure: Failure, now: Now) -> Step {
        self.phase = Phase::HoldingBack(outcome, failure);
        Step::Pause(FAILURE_SETTLE.min(self.left(now)))
    }

    /// Leaves the failure in the record for the processes that waited for it, and ends with it.
    pub(super) fn share(&mut self, outcome: AttemptOutcome, failure: Failure, now: Now) -> Step {
        let result = match self.session().cloned() {
            Some(session) if self.latest_freshness(now).is_usable() => {
                let warnings = vec![texts::still_valid(&failure, self.input.demand.token)];
                Ok(Token { session, warnings, refreshed: false })
            }
            _ => Err(failure.clone()),
        };
        self.mark(outcome, Some(&failure), Phase::Ending(Box::new(result)), now)
    }

    /// Ends with a token that could not be stored. Its completed answer waits to be adopted if it is `kept`.
    pub(super) fn end_unstored(
        &mut self,
        token: Token,
        failure: &Failure,
        kept: Option<&str>,
        now: Now,
    ) -> Step {
        let result =
            self.handed_out(Token { warnings: vec![texts::not_stored(failure, kept)], ..token }, now);
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
