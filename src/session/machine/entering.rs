//! From the first read to a claim that stands: wait, or come between two spenders.

use super::{Claim, LOCK_HELD, Machine, Phase, seconds};
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

impl Machine {
    pub(super) fn first_read(&mut self, stored: Option<Stored>, now: Now) -> Step {
        self.latest = stored.clone();
        let view = View { attempts: Vec::new(), stored };
        let is_worker = matches!(self.settings.role, Role::Worker(_));
        if self.input.demand.unwanted == Unwanted::FirstSeen && !is_worker {
            self.input.first_seen = self.session().map(|session| session.access_token.clone());
        }
        match self.judgement(&view, now) {
            // Whatever lies between two spenders is his caller's already.
            Judgement::Moved if is_worker => self.look(Phase::Deciding),
            Judgement::Moved => self.look(Phase::Arriving),
            judgement => self.act(judgement, now),
        }
    }

    pub(super) fn arrive(&mut self, view: View, now: Now) -> Step {
        let failed = view.attempts.iter().filter(|record| record.attempt.shared_failure().is_some());
        self.input.failed_before = failed.map(|record| record.attempt.id.clone()).collect();
        self.lock_if_needed(view, Phase::Arriving, now)
    }

    /// Asks for the lock if what was seen from `phase` needs it.
    pub(super) fn lock_if_needed(&mut self, view: View, phase: Phase, now: Now) -> Step {
        let mode = if phase == Phase::Woken { LockMode::Queue } else { LockMode::Try };
        let is_locked = self.input.level == Level::Locked;
        match self.judgement(&view, now) {
            Judgement::Moved => self.follow(phase, now),
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
        // A lock call that hangs must not cost those their deadline who could do without it.
        let at_most = if self.need_not_wait(now) { left.min(LAST_WAIT) } else { left };
        self.phase = Phase::Locking(mode);
        Step::Lock(mode, at_most)
    }

    pub(super) fn locking(&mut self, mode: LockMode, locking: LockResult, now: Now) -> Step {
        match locking {
            LockResult::Granted if mode == LockMode::AwaitRelease => {
                self.phase = Phase::Woken;
                Step::Read
            }
            LockResult::Granted => self.look(Phase::Deciding),
            LockResult::Busy if mode == LockMode::AwaitRelease => self.rest(LOCK_HELD, Phase::Knocking, now),
            LockResult::Busy | LockResult::Unanswered if self.need_not_wait(now) => {
                self.hand_out_latest(vec![])
            }
            LockResult::Busy => self.lock(LockMode::AwaitRelease, now),
            LockResult::Refused(_) => {
                self.input.level = Level::Claimed;
                self.look(Phase::Deciding)
            }
            // The token ended while this short call was made for its sake.
            LockResult::Unanswered if !self.left(now).is_zero() => self.lock(LockMode::AwaitRelease, now),
            // A lock that is held is no reason not to answer those who do not wait for it.
            LockResult::Unanswered if mode == LockMode::Try => self.give_up(texts::NO_ANSWER),
            LockResult::Unanswered => self.give_up(LOCK_HELD),
            LockResult::Failed(failure) => self.fail(failure, now),
        }
    }

    /// The lock was released. Usually the document is fresh, and the records say nothing more. Otherwise they hold a shared
    /// failure, or the holder died.
    pub(super) fn woken(&mut self, stored: Option<Stored>, now: Now) -> Step {
        match self.judgement(&View { attempts: Vec::new(), stored }, now) {
            fresh @ Judgement::Use(_) => self.act(fresh, now),
            _ => self.look(Phase::Woken),
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
                self.fail(texts::no_refresh_token(&profile, works), now)
            }
            Judgement::Moved => self.follow(Phase::Deciding, now),
            Judgement::Wait if self.need_not_wait(now) => self.hand_out_latest(vec![]),
            Judgement::Wait => self.rest("another process's refresh had not ended", Phase::Resting, now),
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
            return self.look(Phase::Deciding);
        };
        let expected = stored.revision.clone();
        self.adoptions += 1;
        self.phase = Phase::Adopting;
        Step::Adopt { credential_sha256: self.credential_sha256.clone(), number, expected }
    }

    pub(super) fn claim(&mut self, next_claim: NextClaim, now: Now) -> Step {
        let NextClaim { number, prior, outdated } = next_claim;
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
        let known = self.prior.take().filter(|prior| prior.credential_sha256 == self.credential_sha256);
        self.prior = prior.or(known);
        self.claims_made += 1;
        let until = now.wall.saturating_add(seconds(left)).saturating_add(UNTIL_MARGIN_SECONDS);
        let id = format!("{}-{}", self.settings.nonce, self.claims_made);
        let owner = self.settings.owner.clone();
        let attempt =
            Attempt::open(id, self.credential_sha256.clone(), access_token_sha256, owner, now.wall, until);
        self.sends = 0;
        self.earlier = None;
        self.phase = Phase::Claiming(Claim { attempt: attempt.clone(), number });
        let expected = self.latest.as_ref().map(|stored| stored.revision.clone());
        let exclusive = self.input.level != Level::Compared;
        Step::Claim { attempt, number, exclusive, expected: expected.unwrap_or_default(), outdated }
    }

    /// Once: whoever was left without a worker goes on in place.
    fn delegate(&mut self) -> Step {
        self.settings.role = Role::InPlace;
        self.phase = Phase::Delegating;
        Step::Delegate(self.input.clone())
    }

    pub(super) fn delegated(&mut self, delegation: DelegateResult, now: Now) -> Step {
        match delegation {
            DelegateResult::Ended(result) => Step::Finish(result),
            // A worker that died may have spent the refresh token: its record says so. Its death released the lock.
            DelegateResult::NoWorker if self.input.level == Level::Locked => self.lock(LockMode::Try, now),
            DelegateResult::NoWorker => self.look(Phase::Deciding),
            DelegateResult::Unanswered => self.give_up("the exchange with the server had not ended"),
        }
    }

    pub(super) fn claiming(&mut self, claim: Claim, claiming: ClaimResult, now: Now) -> Step {
        match claiming {
            ClaimResult::Mine(number) => {
                self.claim = Some(Claim { number, ..claim });
                self.look(Phase::Confirming)
            }
            ClaimResult::Taken => self.rest("other processes kept claiming the refresh", Phase::Resting, now),
            ClaimResult::Failed(failure) => self.fail(failure, now),
        }
    }

    /// I5, and the last chance to see that the claim came too late: spend only what was read after it stood.
    pub(super) fn confirm(&mut self, view: View, now: Now) -> Step {
        let claimed = self.latest.clone();
        let judgement = self.judgement(&view, now);
        let unchanged = match (&claimed, &self.latest) {
            (Some(claimed), Some(latest)) => latest.has_session_of(claimed),
            _ => false,
        };
        match (judgement, self.earlier_words()) {
            (Judgement::Claim(..), _) if unchanged && self.holds_claim(&view, now) => self.spend(now),
            (_, Some(earlier)) if unchanged => self.give_up_unknown(&earlier, true, now),
            _ => self.withdraw(Phase::Withdrawing),
        }
    }

    /// Whether the own claim binds other processes until the deadline, and enough time is left for an exchange.
    pub(super) fn holds_claim(&self, view: &View, now: Now) -> bool {
        let left = self.left(now);
        self.claim.as_ref().is_some_and(|claim| {
            let is_later = |record: &AttemptRecord| record.number > claim.number;
            let is_overtaken = self.input.level != Level::Compared && view.attempts.iter().any(is_later);
            let until = now.wall.saturating_add(seconds(left));
            !is_overtaken && until <= claim.attempt.until && left >= SHORTEST_EXCHANGE
        })
    }

    /// After a pause: opens a record again that says `looking`, then confirms the claim.
    pub(super) fn come_again(&mut self) -> Step {
        match &mut self.claim {
            Some(claim) if claim.attempt.outcome.is_some() => {
                claim.attempt.reopen();
                self.phase = Phase::ComingAgain;
                Step::Mark { attempt: claim.attempt.clone(), number: claim.number }
            }
            _ => self.look(Phase::Confirming),
        }
    }
}
