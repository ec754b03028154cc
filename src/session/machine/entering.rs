//! From the first read to a claim that is confirmed.

use super::{CLAIM_HELD, CLAIM_TAKEN, Claim, LOCK_HELD, Machine, Phase};
use crate::error::Kind;
use crate::session::attempt::{Attempt, AttemptRecord};
use crate::session::bounds::{
    LAST_WAIT, MAX_ADOPTIONS, MAX_GENERATIONS, SHORTEST_EXCHANGE, UNTIL_MARGIN_SECONDS,
};
use crate::session::freshness::{Freshness, Unwanted};
use crate::session::judgement::{Judgement, NextClaim};
use crate::session::step::{
    ClaimResult, DelegateResult, Level, LockMode, LockResult, Now, Role, Step, Stored, View,
};
use crate::session::texts;
use crate::text::whole_seconds;

impl Machine {
    pub(super) fn first_read(&mut self, stored: Option<Stored>, now: Now) -> Step {
        self.latest = stored.clone();
        let view = View { attempts: Vec::new(), stored };
        let is_worker = matches!(self.settings.role, Role::Worker(_));
        if self.input.demand.unwanted == Unwanted::FirstSeen && !is_worker {
            self.input.first_seen = self.session().map(|session| session.access_token.clone());
        }
        match self.judgement(&view, now) {
            // The caller already holds the lock.
            Judgement::CredentialChanged if is_worker => self.look(Phase::Judging),
            Judgement::CredentialChanged => self.look(Phase::FirstLook),
            judgement => self.act(judgement, now),
        }
    }

    pub(super) fn first_look(&mut self, view: View, now: Now) -> Step {
        let failed = view.attempts.iter().filter(|record| record.attempt.shared_failure().is_some());
        self.input.failed_before = failed.map(|record| record.attempt.id.clone()).collect();
        self.lock_if_needed(view, Phase::FirstLook, now)
    }

    /// Asks for the lock if the look of `phase` shows that it is needed.
    pub(super) fn lock_if_needed(&mut self, view: View, phase: Phase, now: Now) -> Step {
        let mode = if phase == Phase::AfterRelease { LockMode::Queue } else { LockMode::Try };
        let is_locked = self.input.level == Level::Locked;
        match self.judgement(&view, now) {
            Judgement::CredentialChanged => self.look_at_new_credential(phase, now),
            // Another process is refreshing: it holds the lock.
            Judgement::Wait if is_locked && mode == LockMode::Try && !self.need_not_wait(now) => {
                self.lock(LockMode::AwaitRelease, now)
            }
            Judgement::Claim(..) | Judgement::Wait | Judgement::Adopt(_) if is_locked => self.lock(mode, now),
            judgement => self.act(judgement, now),
        }
    }

    pub(super) fn lock(&mut self, mode: LockMode, now: Now) -> Step {
        let left = self.left(now);
        // A process with a token that still works does not wait until the deadline for a lock call that hangs.
        let at_most = if self.need_not_wait(now) { left.min(LAST_WAIT) } else { left };
        self.phase = Phase::AskedForLock(mode);
        Step::Lock(mode, at_most)
    }

    pub(super) fn locking(&mut self, mode: LockMode, locking: LockResult, now: Now) -> Step {
        match locking {
            LockResult::Granted if mode == LockMode::AwaitRelease => {
                self.phase = Phase::AfterRelease;
                Step::Read
            }
            LockResult::Granted => self.look(Phase::Judging),
            LockResult::Busy if mode == LockMode::AwaitRelease => {
                self.pause(LOCK_HELD, Phase::RetryingLock, now)
            }
            LockResult::Busy | LockResult::Unanswered if self.need_not_wait(now) => {
                self.hand_out_latest(vec![])
            }
            LockResult::Busy => self.lock(LockMode::AwaitRelease, now),
            LockResult::Refused(_) => {
                self.input.level = Level::Claimed;
                self.look(Phase::Judging)
            }
            // The call was short because the token worked. The token has ended meanwhile.
            LockResult::Unanswered if !self.left(now).is_zero() => self.lock(LockMode::AwaitRelease, now),
            // A call that does not wait was not answered: the lock service hangs, whether or not the lock is held.
            LockResult::Unanswered if mode == LockMode::Try => self.give_up(texts::NO_ANSWER),
            LockResult::Unanswered => self.give_up(LOCK_HELD),
            LockResult::Failed(failure) => self.fail(failure, now),
        }
    }

    /// The lock was released. Usually the document is fresh, and the records say nothing more. Otherwise they hold a shared
    /// failure, or the holder died.
    pub(super) fn after_release(&mut self, stored: Option<Stored>, now: Now) -> Step {
        match self.judgement(&View { attempts: Vec::new(), stored }, now) {
            fresh @ Judgement::Use(_) => self.act(fresh, now),
            _ => self.look(Phase::AfterRelease),
        }
    }

    pub(super) fn act(&mut self, judgement: Judgement, now: Now) -> Step {
        let profile = self.settings.profile.clone();
        match judgement {
            Judgement::Use(fresh) => {
                let short = (fresh == Freshness::FreshButShort).then(texts::less_than_asked);
                self.hand_out_latest(short.into_iter().collect())
            }
            Judgement::NoDocument if self.generations == 0 && self.credential_sha256.is_empty() => {
                self.withdraw_and_end(Err(texts::no_document(&profile)))
            }
            Judgement::NoDocument => self.withdraw_and_end(Err(texts::logged_out(&profile))),
            Judgement::NoSession => self.withdraw_and_end(Err(self.no_session())),
            Judgement::NoRefreshToken => {
                let works = self.latest_freshness(now).is_valid();
                self.fail(texts::no_refresh_token(&profile, self.input.demand.token, works), now)
            }
            Judgement::NoIdToken(document) => {
                self.withdraw_and_end(Err(texts::no_id_token(&profile, &document)))
            }
            Judgement::CredentialChanged => self.look_at_new_credential(Phase::Judging, now),
            Judgement::Wait if self.need_not_wait(now) => self.hand_out_latest(vec![]),
            Judgement::Wait => self.pause(CLAIM_HELD, Phase::PausingForClaim, now),
            Judgement::Adopt(number) if self.adoptions < MAX_ADOPTIONS => self.adopt(number),
            Judgement::Adopt(_) => self.fail(texts::not_adopted(), now),
            Judgement::Share(failure) => self.fail(failure, now),
            Judgement::Rejected(attempt) => {
                let friendly = texts::dead(&profile, "its refresh token was refused before", None);
                self.fail(attempt.failure(Kind::LoginRequired).unwrap_or(friendly), now)
            }
            Judgement::Claim(next_claim) => self.claim(next_claim, now),
        }
    }

    pub(super) fn adopt(&mut self, number: u64) -> Step {
        let Some(stored) = &self.latest else {
            return self.look(Phase::Judging);
        };
        let expected = stored.revision.clone();
        self.adoptions += 1;
        self.phase = Phase::Adopting;
        Step::Adopt { credential_sha256: self.credential_sha256.clone(), number, expected }
    }

    pub(super) fn claim(&mut self, next_claim: NextClaim, now: Now) -> Step {
        let NextClaim { number, unfinished, outdated } = next_claim;
        if self.generations >= MAX_GENERATIONS {
            return self.fail(texts::too_many_generations(), now);
        }
        let left = self.left(now);
        if left < SHORTEST_EXCHANGE {
            return self.give_up("no time was left for a request");
        }
        if self.settings.role == Role::Caller {
            return self.delegate();
        }
        let access_token_sha256 =
            self.session().map(|session| session.access_token.sha256()).unwrap_or_default();
        let known = self.unfinished.take().filter(|known| known.credential_sha256 == self.credential_sha256);
        self.unfinished = unfinished.or(known);
        self.claims_made += 1;
        let until = now.wall.saturating_add(whole_seconds(left)).saturating_add(UNTIL_MARGIN_SECONDS);
        let id = format!("{}-{}", self.settings.nonce, self.claims_made);
        let owner = self.settings.owner.clone();
        let attempt =
            Attempt::open(id, self.credential_sha256.clone(), access_token_sha256, owner, now.wall, until);
        self.sends = 0;
        self.first_request = None;
        self.phase = Phase::Claiming(Claim { attempt: attempt.clone(), number });
        let expected = self.latest.as_ref().map(|stored| stored.revision.clone());
        let exclusive = self.input.level != Level::Compared;
        Step::Claim { attempt, number, exclusive, expected: expected.unwrap_or_default(), outdated }
    }

    /// Delegates once. A caller without a worker does the exchange itself.
    fn delegate(&mut self) -> Step {
        self.settings.role = Role::InPlace;
        self.phase = Phase::Delegating;
        Step::Delegate(self.input.clone())
    }

    pub(super) fn delegated(&mut self, delegation: DelegateResult, now: Now) -> Step {
        match delegation {
            DelegateResult::Ended(result) => Step::Finish(result),
            // A worker that died may have spent the refresh token: its record shows it. Its death released the lock.
            DelegateResult::NoWorker if self.input.level == Level::Locked => self.lock(LockMode::Try, now),
            DelegateResult::NoWorker => self.look(Phase::Judging),
            DelegateResult::Unanswered => {
                let failure = texts::no_word_of_the_worker(&self.settings.profile, self.settings.deadline);
                self.look(Phase::LastLook(failure))
            }
        }
    }

    pub(super) fn claiming(&mut self, claim: Claim, claiming: ClaimResult, now: Now) -> Step {
        match claiming {
            ClaimResult::Mine(number) => {
                self.claim = Some(Claim { number, ..claim });
                self.look(Phase::Confirming)
            }
            ClaimResult::Taken => self.pause(CLAIM_TAKEN, Phase::PausingForClaim, now),
            ClaimResult::Failed(failure) => self.fail(failure, now),
        }
    }

    /// I5: spends only what was read after the claim was made.
    pub(super) fn confirm(&mut self, view: View, now: Now) -> Step {
        let (judgement, changed) = self.judge_change(&view, now);
        match (judgement, self.first_request_words()) {
            (Judgement::Claim(..), _) if !changed && self.holds_claim(&view, now) => self.spend(now),
            (_, Some(first)) if !changed => self.give_up_unknown(&first, true, now),
            _ => self.withdraw(Phase::Withdrawing),
        }
    }

    /// Whether the own claim binds other processes until the deadline, and enough time is left for an exchange.
    pub(super) fn holds_claim(&self, view: &View, now: Now) -> bool {
        let left = self.left(now);
        self.claim.as_ref().is_some_and(|claim| {
            let is_later = |record: &AttemptRecord| record.number > claim.number;
            let is_overtaken = self.input.level != Level::Compared && view.attempts.iter().any(is_later);
            let until = now.wall.saturating_add(whole_seconds(left));
            !is_overtaken && until <= claim.attempt.until && left >= SHORTEST_EXCHANGE
        })
    }

    /// Sends the request again after a pause: reopens a record that says `looking`, then confirms the claim.
    pub(super) fn send_again(&mut self) -> Step {
        match &mut self.claim {
            Some(claim) if claim.attempt.outcome.is_some() => {
                claim.attempt.reopen();
                self.phase = Phase::RetryingRequest;
                Step::Mark { attempt: claim.attempt.clone(), number: claim.number }
            }
            _ => self.look(Phase::Confirming),
        }
    }
}
