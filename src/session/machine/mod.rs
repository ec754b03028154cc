//! The machine: its state, and what each event does in each phase. See "Getting a token" in `docs/design.md`.

mod comparing;
mod ending;
mod entering;
mod spending;

use super::attempt::{Attempt, AttemptOutcome, Owner};
use super::bounds::{FIRST_WAIT, LAST_WAIT, MAX_CREDENTIAL_CHANGES};
use super::freshness::{Demand, Freshness, is_enough_meanwhile, judge_access_token};
use super::judgement::{Judgement, JudgementInput, freshness, judge};
use super::step::{
    Event, Level, LockMode, LockUse, Now, RefreshInput, Role, Step, Stored, TokenResult, View,
};
use super::texts;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Session, UnixSeconds};
use std::time::Duration;

/// What the process was waiting for when the deadline passed.
const LOCK_HELD: &str = "another process still held the lock";
const CLAIM_TAKEN: &str = "other processes kept claiming the refresh";
const CLAIM_HELD: &str = "another process's refresh had not ended";

/// What one run of the machine is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The name of the profile, for messages.
    pub profile: String,
    /// What the caller wants.
    pub demand: Demand,
    /// How locks are used.
    pub lock_use: LockUse,
    /// Whether the store compares and replaces in one step, without a lock.
    pub swaps: bool,
    /// Which process does the exchange with the server.
    pub role: Role,
    /// When everything ends, as [`Now::elapsed`].
    pub deadline: Duration,
    /// This process.
    pub owner: Owner,
    /// Random. The identifiers of the attempts begin with it.
    pub nonce: String,
}

/// What the machine waits for. Each phase is named after the step that it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    FirstRead,
    /// The look before the lock. It notes the failures that other processes left before.
    FirstLook,
    AskedForLock(LockMode),
    /// The lock is busy and this store cannot wait for it: ask again after a pause.
    RetryingLock,
    /// The look after the holder released the lock.
    AfterRelease,
    /// A look with the lock, or where claims decide: judge and act.
    Judging,
    PausingForClaim,
    Adopting,
    /// A worker does the rest.
    Delegating,
    Claiming(Claim),
    /// The last look before the refresh token is sent.
    Confirming,
    Withdrawing,
    Spending,
    /// The same request follows after a pause.
    RetryingRequest,
    /// The comparison loop, and how many looks it had.
    Comparing(usize),
    /// The new session is being stored.
    Committing(Box<Document>),
    /// The store did not say whether it replaced: read back.
    Verifying(Box<Document>),
    Clearing(Failure, usize),
    /// A failure is held back, then shared with this outcome.
    HoldingBack(AttemptOutcome, Failure),
    /// The refresh token that a logout left is being revoked.
    Revoking(Failure),
    /// The deadline passed: one last look. The failure says what the process was waiting for.
    LastLook(Failure),
    Ending(Box<TokenResult>),
    Finished,
}

/// This process's own open attempt record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    attempt: Attempt,
    number: u64,
}

/// How the first request of the present claim ended, if it left the outcome open. One more request follows, never a third
/// (I7).
#[derive(Clone, Debug, PartialEq, Eq)]
enum FirstRequest {
    /// No readable answer came. The text says why.
    Lost(String),
    /// The server refused it. [`Machine::refusal`] has its words.
    Refused,
}

impl Claim {
    fn name(&self) -> (String, u64) {
        (self.attempt.credential_sha256.clone(), self.number)
    }
}

/// The state machine: takes what happened, returns what to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    settings: Settings,
    /// What it starts from. A worker has it from its caller.
    input: RefreshInput,
    phase: Phase,
    /// The document that was read last.
    latest: Option<Stored>,
    /// The credential digest of the last look.
    credential_sha256: String,
    claim: Option<Claim>,
    claims_made: u32,
    /// An attempt of another process on the same refresh token that was begun and never finished.
    unfinished: Option<Attempt>,
    generations: u32,
    credential_changes: u32,
    sends: u32,
    /// When the last request was sent. The lifetime of its answer counts from here.
    sent_at: UnixSeconds,
    first_request: Option<FirstRequest>,
    /// The words of the server that refused the refresh token.
    refusal: String,
    next_pause: Duration,
    adoptions: u32,
    rebases: u32,
}

impl Machine {
    /// Returns a machine and its first step.
    pub fn start(settings: Settings) -> (Self, Step) {
        let input = match settings.role.clone() {
            Role::Worker(input) => input,
            Role::InPlace | Role::Caller => RefreshInput::new(settings.demand.clone(), settings.lock_use),
        };
        let machine = Self { settings, input, ..Self::default() };
        (machine, Step::Read)
    }

    /// Whether it must be identified before the next event. A process that only reads claims nothing, and a caller leaves the
    /// claim to its worker.
    pub fn wants_identity(&self) -> bool {
        let claims_nothing =
            self.settings.role == Role::Caller || matches!(self.phase, Phase::FirstRead | Phase::Delegating);
        !claims_nothing && self.settings.nonce.is_empty()
    }

    /// Sets the process that runs it, and a random word for its attempts.
    pub fn identify(&mut self, owner: Owner, nonce: String) {
        self.settings.owner = owner;
        self.settings.nonce = nonce;
    }

    /// How concurrent refreshes exclude each other.
    pub fn level(&self) -> Level {
        self.input.level
    }

    /// Takes an event and returns the next step. No event follows [`Step::Finish`].
    pub fn next(&mut self, event: Event, now: Now) -> Step {
        match (std::mem::replace(&mut self.phase, Phase::Finished), event) {
            (Phase::FirstRead, Event::Read(Ok(stored))) => self.first_read(stored, now),
            (Phase::FirstRead | Phase::AfterRelease, Event::Read(Err(failure))) => self.fail(failure, now),
            (Phase::FirstLook, Event::Looked(Ok(view))) => self.first_look(view, now),
            (Phase::AskedForLock(mode), Event::LockAnswered(locking)) => self.locking(mode, locking, now),
            (Phase::AfterRelease, Event::Read(Ok(stored))) => self.after_release(stored, now),
            (Phase::AfterRelease, Event::Looked(Ok(view))) => {
                self.lock_if_needed(view, Phase::AfterRelease, now)
            }
            (Phase::Judging, Event::Looked(Ok(view))) => {
                let judgement = self.judgement(&view, now);
                self.act(judgement, now)
            }
            (Phase::PausingForClaim, Event::Paused) => self.look(Phase::Judging),
            (Phase::RetryingLock, Event::Paused) => self.lock(LockMode::Try, now),
            (Phase::Adopting, Event::Adopted(Ok(_))) => self.look(Phase::Judging),
            (Phase::Delegating, Event::Delegated(delegation)) => self.delegated(delegation, now),
            (Phase::Claiming(claim), Event::Claimed(claiming)) => self.claiming(claim, claiming, now),
            (Phase::Confirming, Event::Looked(Ok(view))) => self.confirm(view, now),
            (Phase::Withdrawing, Event::Noted) => self.look(Phase::Judging),
            (Phase::Spending, Event::Answered(answer)) => self.answered(answer, now),
            (Phase::RetryingRequest, Event::Paused | Event::Noted) => self.send_again(),
            (Phase::Comparing(looks), Event::Looked(Ok(view))) => self.compare(looks, view, now),
            (Phase::Comparing(looks), Event::Noted | Event::Paused) => self.look(Phase::Comparing(looks)),
            // I2: an unreadable store never clears a session. The answer of the server was a refusal.
            (ref phase @ (Phase::Comparing(_) | Phase::Confirming), Event::Looked(Err(failure)))
                if matches!(phase, Phase::Comparing(_))
                    || self.first_request == Some(FirstRequest::Refused) =>
            {
                let words = format!("{}; and the store failed: {}", self.refusal, failure.message);
                self.fail(texts::dead(&self.settings.profile, &words, self.unfinished.as_ref()), now)
            }
            (Phase::Committing(new), Event::Replaced(replaced)) => self.committed(*new, replaced, now),
            (Phase::Verifying(new), Event::Read(Ok(stored))) => self.verified(*new, stored, now),
            (Phase::Verifying(new), Event::Read(Err(failure))) => {
                self.end_unstored(&new, texts::not_stored(&failure, None), now)
            }
            (Phase::Clearing(dead, looks), Event::Replaced(replaced)) => {
                self.cleared(dead, looks, replaced, now)
            }
            (Phase::HoldingBack(outcome, failure), Event::Paused) => self.share(outcome, failure, now),
            (Phase::LastLook(failure), Event::Looked(Ok(view))) => self.last_look(failure, view, now),
            (Phase::Revoking(gone), Event::Noted) => self.withdraw_and_end(Err(gone)),
            (Phase::Ending(result), Event::Noted) => Step::Finish(*result),
            // The refresh token may have been spent. The message and the record say so.
            (Phase::Confirming, Event::Looked(Err(failure))) if self.first_request.is_some() => {
                let lost = self.first_request_words().unwrap_or_default();
                self.give_up_unknown(
                    &format!("{lost}; then the store failed: {}", failure.message),
                    true,
                    now,
                )
            }
            // The store failed before the refresh token was spent.
            (_, Event::Read(Err(failure)) | Event::Looked(Err(failure)) | Event::Adopted(Err(failure))) => {
                self.fail(failure, now)
            }
            (phase, event) => {
                let message = format!("defect: {event:?} cannot follow {phase:?}");
                self.withdraw_and_end(Err(Failure::new(Kind::Defect, message)))
            }
        }
    }

    fn look(&mut self, phase: Phase) -> Step {
        // With a claim the records of the claimed refresh token count, without one those of the stored refresh token.
        let claimed = self.claim.as_ref().map(|claim| claim.attempt.credential_sha256.clone());
        let stored = self.latest.as_ref().and_then(|stored| stored.document.credential_sha256());
        let known = std::mem::take(&mut self.credential_sha256);
        self.credential_sha256 = claimed.or(stored).unwrap_or(known);
        self.phase = phase;
        Step::Look { credential_sha256: self.credential_sha256.clone() }
    }

    /// The refresh token changed between two looks: looks at the records of the new one.
    fn look_at_new_credential(&mut self, phase: Phase, now: Now) -> Step {
        self.credential_changes += 1;
        match self.credential_changes > MAX_CREDENTIAL_CHANGES {
            true => self.fail(texts::too_many_generations(), now),
            false => self.look(phase),
        }
    }

    fn pause(&mut self, reason: &str, then: Phase, now: Now) -> Step {
        let left = self.left(now);
        if left.is_zero() {
            return self.give_up(reason);
        }
        self.next_pause = (self.next_pause * 2).clamp(FIRST_WAIT, LAST_WAIT);
        self.phase = then;
        Step::Pause(self.next_pause.min(left))
    }

    fn withdraw(&mut self, then: Phase) -> Step {
        self.phase = then;
        match self.claim.take() {
            Some(Claim { attempt: Attempt { credential_sha256, .. }, number }) => {
                Step::Withdraw { credential_sha256, number }
            }
            None => self.look(Phase::Judging),
        }
    }

    fn mark(&mut self, outcome: AttemptOutcome, failure: Option<&Failure>, then: Phase, now: Now) -> Step {
        self.phase = then;
        match &mut self.claim {
            Some(claim) => {
                claim.attempt.end(outcome, failure, now.wall);
                Step::Mark { attempt: claim.attempt.clone(), number: claim.number }
            }
            None => self.look(Phase::Judging),
        }
    }

    fn judgement(&mut self, view: &View, now: Now) -> Judgement {
        let judgement = judge(&self.question(now), view);
        self.latest = view.stored.clone();
        judgement
    }

    /// Judges a look, and says whether it found another session than the look before it.
    fn judge_change(&mut self, view: &View, now: Now) -> (Judgement, bool) {
        let before = self.latest.clone();
        let judgement = self.judgement(view, now);
        let both = before.zip(self.latest.as_ref());
        (judgement, !both.is_some_and(|(before, latest)| latest.has_session_of(&before)))
    }

    fn question(&self, now: Now) -> JudgementInput<'_> {
        let own = self.claim.as_ref().map(|claim| claim.number);
        JudgementInput { input: &self.input, credential_sha256: &self.credential_sha256, own, now }
    }

    fn latest_freshness(&self, now: Now) -> Freshness {
        let question = self.question(now);
        self.latest.as_ref().map_or(Freshness::Ended, |stored| freshness(&question, stored))
    }

    fn first_request_words(&self) -> Option<String> {
        self.first_request.as_ref().map(|first| match first {
            FirstRequest::Lost(how) => how.clone(),
            FirstRequest::Refused => format!("the server refused the refresh token ({})", self.refusal),
        })
    }

    /// Whether the stored token answers the demand while another process refreshes.
    fn need_not_wait(&self, now: Now) -> bool {
        let RefreshInput { demand, first_seen, .. } = &self.input;
        self.session().is_some_and(|session| is_enough_meanwhile(session, demand, first_seen.as_ref(), now))
    }

    /// Whether the stored access token still works. Not the same question if the ID token is demanded.
    fn access_token_works(&self, now: Now) -> bool {
        let RefreshInput { demand, first_seen, .. } = &self.input;
        self.session()
            .is_some_and(|session| judge_access_token(session, demand, first_seen.as_ref(), now).is_valid())
    }

    /// The session that was read last.
    fn session(&self) -> Option<&Session> {
        self.latest.as_ref()?.document.session.as_ref()
    }

    fn left(&self, now: Now) -> Duration {
        self.settings.deadline.saturating_sub(now.elapsed)
    }
}
