//! The machine: what it knows, and what each event does in each phase.

mod comparing;
mod ending;
mod entering;
mod spending;

use super::attempt::{Attempt, AttemptOutcome, Owner};
use super::bounds::{FIRST_WAIT, LAST_WAIT, MAX_MOVES};
use super::freshness::{Demand, Freshness, expiry};
use super::judgement::{Judgement, JudgementInput, freshness, judge};
use super::step::{
    Event, Level, LockMode, LockUse, Now, RefreshInput, Role, Step, Stored, Token, TokenResult, View,
};
use super::texts;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Session, UnixSeconds};
use std::time::Duration;

/// Whom the deadline passed for.
const LOCK_HELD: &str = "another process still held the lock";

/// What one run of the machine is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// For messages.
    pub profile: String,
    /// What the caller wants.
    pub demand: Demand,
    /// How locks are used.
    pub lock_use: LockUse,
    /// Whether the store compares and replaces in one step.
    pub swaps: bool,
    /// Who does the exchange.
    pub role: Role,
    /// When everything ends, as [`Now::elapsed`].
    pub deadline: Duration,
    /// This process.
    pub owner: Owner,
    /// Random; the identifiers of the attempts begin with it.
    pub nonce: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Reading,
    /// The look before the lock: which failures were there before us.
    Arriving,
    /// The lock was asked for, or the holder's leaving.
    Locking(LockMode),
    /// The lock is busy and cannot be waited for: ask again after a pause.
    Knocking,
    Woken,
    /// Whatever lies between two spenders is ours: judge and act.
    Deciding,
    Resting,
    Adopting,
    /// A worker does the rest.
    Delegating,
    Claiming(Claim),
    /// The claim stands: the last look before the refresh token is sent.
    Confirming,
    Withdrawing,
    Spending,
    /// The server asked to come again.
    ComingAgain,
    /// The comparison loop, and how many looks it had.
    Comparing(usize),
    /// The new session is being stored.
    Committing(Box<Commit>),
    Verifying(Box<Commit>),
    Clearing(Failure, usize),
    /// A failure is held back, then told with this outcome.
    Settling(AttemptOutcome, Failure),
    /// The refresh token that nobody will use is being revoked.
    Revoking(Failure),
    /// The deadline passed: one last look.
    LastLook(String),
    Ending(Box<TokenResult>),
    Over,
}

/// An own claim that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    attempt: Attempt,
    number: u64,
}

/// A new session on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Commit {
    /// The document to store.
    document: Document,
    /// What the caller gets.
    token: Token,
}

/// How the first request with the present claim's refresh token ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Earlier {
    /// No readable answer came; the text says why.
    Lost(String),
    /// The server refused it; [`Machine::refusal`] has its words.
    Refused,
}

impl Claim {
    fn name(&self) -> (String, u64) {
        (self.attempt.credential_sha256.clone(), self.number)
    }
}

/// The state machine. Feed it what happened, do what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    settings: Settings,
    /// What it wants and knows from its beginning, or has from its caller.
    input: RefreshInput,
    phase: Phase,
    /// The document as it was read last.
    latest: Option<Stored>,
    /// Whose records were asked for last.
    credential_sha256: String,
    claim: Option<Claim>,
    claims_made: u32,
    /// An earlier attempt on the same refresh token that was begun and never finished.
    prior: Option<Attempt>,
    generations: u32,
    moves: u32,
    sends: u32,
    /// When the refresh token was sent last: its answer's lifetime counts from here.
    sent_at: UnixSeconds,
    /// How the first request of the present claim ended, if it left the outcome open. One more request follows, never a third.
    earlier: Option<Earlier>,
    /// What the server said when it refused the refresh token.
    refusal: String,
    wait: Duration,
    adoptions: u32,
    rebases: u32,
}

impl Machine {
    /// A machine and its first step.
    pub fn start(settings: Settings) -> (Self, Step) {
        let input = match settings.role.clone() {
            Role::Worker(input) => input,
            Role::InPlace | Role::Caller => RefreshInput::new(settings.demand.clone(), settings.lock_use),
        };
        let machine = Self { settings, input, ..Self::default() };
        (machine, Step::Read)
    }

    /// Whether it must be identified before the next event. A process that only reads, or waits for the lock, claims
    /// nothing yet.
    pub fn wants_identity(&self) -> bool {
        let waits = matches!(self.phase, Phase::Arriving | Phase::Locking(_) | Phase::Woken);
        let claims_nothing = self.phase == Phase::Reading || (waits && self.level() == Level::Locked);
        !claims_nothing && self.settings.nonce.is_empty()
    }

    /// Tells who runs it, and a random word for its attempts.
    pub fn identify(&mut self, owner: Owner, nonce: String) {
        self.settings.owner = owner;
        self.settings.nonce = nonce;
    }

    /// What stands between this process and other spenders.
    pub fn level(&self) -> Level {
        self.input.level
    }

    /// Takes an event, gives the next step. After [`Step::Finish`] there is none.
    pub fn next(&mut self, event: Event, now: Now) -> Step {
        match (std::mem::replace(&mut self.phase, Phase::Over), event) {
            (Phase::Reading, Event::Read(Ok(stored))) => self.first_read(stored, now),
            (Phase::Reading | Phase::Woken, Event::Read(Err(failure))) => self.fail(failure, now),
            (Phase::Arriving, Event::Looked(Ok(view))) => self.arrive(view, now),
            (Phase::Locking(mode), Event::LockAnswered(locking)) => self.locking(mode, locking, now),
            (Phase::Woken, Event::Read(Ok(stored))) => self.woken(stored, now),
            (Phase::Woken, Event::Looked(Ok(view))) => self.lock_if_needed(view, Phase::Woken, now),
            (Phase::Deciding, Event::Looked(Ok(view))) => {
                let judgement = self.judgement(&view, now);
                self.act(judgement, now)
            }
            (Phase::Resting, Event::Paused) => self.look(Phase::Deciding),
            (Phase::Knocking, Event::Paused) => self.lock(LockMode::Try, now),
            (Phase::Adopting, Event::Adopted(Ok(_))) => self.look(Phase::Deciding),
            (Phase::Delegating, Event::Delegated(delegation)) => self.delegated(delegation, now),
            (Phase::Claiming(claim), Event::Claimed(claiming)) => self.claiming(claim, claiming, now),
            (Phase::Confirming, Event::Looked(Ok(view))) => self.confirm(view, now),
            (Phase::Withdrawing, Event::Noted) => self.look(Phase::Deciding),
            (Phase::Spending, Event::Answered(answer)) => self.answered(answer, now),
            (Phase::ComingAgain, Event::Paused | Event::Noted) => self.come_again(),
            (Phase::Comparing(looks), Event::Looked(Ok(view))) => self.compare(looks, view, now),
            (Phase::Comparing(looks), Event::Noted | Event::Paused) => self.look(Phase::Comparing(looks)),
            // I2: an unreadable store never clears a session. The answer was a refusal all the same.
            (ref phase @ (Phase::Comparing(_) | Phase::Confirming), Event::Looked(Err(failure)))
                if matches!(phase, Phase::Comparing(_)) || self.earlier == Some(Earlier::Refused) =>
            {
                let words = format!("{}; and the store failed: {}", self.refusal, failure.message);
                self.fail(texts::dead(&self.settings.profile, &words, self.prior.as_ref()), now)
            }
            (Phase::Committing(commit), Event::Replaced(replaced)) => self.committed(commit, replaced, now),
            (Phase::Verifying(commit), Event::Read(Ok(stored))) => self.verified(commit, stored, now),
            (Phase::Verifying(commit), Event::Read(Err(failure))) => {
                self.end_unstored(commit.token, &failure, None, now)
            }
            (Phase::Clearing(dead, looks), Event::Replaced(replaced)) => {
                self.cleared(dead, looks, replaced, now)
            }
            (Phase::Settling(outcome, failure), Event::Paused) => self.tell(outcome, failure, now),
            (Phase::LastLook(whom), Event::Looked(Ok(view))) => self.last_look(&whom, view, now),
            (Phase::Revoking(gone), Event::Noted) => self.withdraw_and_end(Err(gone)),
            (Phase::Ending(result), Event::Noted) => Step::Finish(*result),
            // The refresh token may have been spent: that is what to tell, and to leave behind.
            (Phase::Confirming, Event::Looked(Err(failure))) if self.earlier.is_some() => {
                let lost = self.earlier_words().unwrap_or_default();
                self.give_up_unknown(
                    &format!("{lost}; then the store failed: {}", failure.message),
                    true,
                    now,
                )
            }
            // A store that fails before anything was spent: nothing was.
            (_, Event::Looked(Err(failure)) | Event::Adopted(Err(failure))) => self.fail(failure, now),
            (phase, event) => {
                let message = format!("defect: {event:?} cannot follow {phase:?}");
                self.withdraw_and_end(Err(Failure::new(Kind::Defect, message)))
            }
        }
    }

    fn look(&mut self, phase: Phase) -> Step {
        // The comparison loop and the confirmation look at the refresh token that was claimed, all others at the
        // one that is stored.
        let claimed = self.claim.as_ref().map(|claim| claim.attempt.credential_sha256.clone());
        let stored = self.latest.as_ref().and_then(|stored| stored.document.credential_sha256());
        if let Some(credential_sha256) = claimed.or(stored) {
            self.credential_sha256 = credential_sha256;
        }
        self.phase = phase;
        Step::Look { credential_sha256: self.credential_sha256.clone() }
    }

    /// The refresh token changed between two looks: look at the records of the new one.
    fn follow(&mut self, phase: Phase, now: Now) -> Step {
        self.moves += 1;
        match self.moves > MAX_MOVES {
            true => self.fail(texts::too_many_generations(), now),
            false => self.look(phase),
        }
    }

    fn rest(&mut self, whom: &str, then: Phase, now: Now) -> Step {
        let left = self.left(now);
        if left.is_zero() {
            return self.give_up(whom);
        }
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, LAST_WAIT);
        self.phase = then;
        Step::Pause(self.wait.min(left))
    }

    fn withdraw(&mut self, then: Phase) -> Step {
        self.phase = then;
        match self.claim.take() {
            Some(Claim { attempt: Attempt { credential_sha256, .. }, number }) => {
                Step::Withdraw { credential_sha256, number }
            }
            None => self.look(Phase::Deciding),
        }
    }

    fn mark(&mut self, outcome: AttemptOutcome, failure: Option<&Failure>, then: Phase, now: Now) -> Step {
        self.phase = then;
        match &mut self.claim {
            Some(claim) => {
                claim.attempt.end(outcome, failure, now.wall);
                Step::Mark { attempt: claim.attempt.clone(), number: claim.number }
            }
            None => self.look(Phase::Deciding),
        }
    }

    fn judgement(&mut self, view: &View, now: Now) -> Judgement {
        let judgement = judge(&self.question(now), view);
        self.latest = view.stored.clone();
        judgement
    }

    fn question(&self, now: Now) -> JudgementInput<'_> {
        let own = self.claim.as_ref().map(|claim| claim.number);
        JudgementInput { input: &self.input, credential_sha256: &self.credential_sha256, own, now }
    }

    fn latest_freshness(&self, now: Now) -> Freshness {
        let question = self.question(now);
        self.latest.as_ref().map_or(Freshness::Ended, |stored| freshness(&question, stored))
    }

    fn earlier_words(&self) -> Option<String> {
        self.earlier.as_ref().map(|earlier| match earlier {
            Earlier::Lost(how) => how.clone(),
            Earlier::Refused => format!("the server refused the refresh token ({})", self.refusal),
        })
    }

    /// Whether the stored token answers the demand while another process refreshes. A token that lasts shorter than
    /// `--min-ttl` does not: the other process is about to get a longer one.
    fn need_not_wait(&self, now: Now) -> bool {
        let freshness = self.latest_freshness(now);
        let left = self.session().and_then(expiry).map_or(i64::MAX, |end| end.saturating_sub(now.wall));
        freshness.is_usable() && left >= self.input.demand.min_ttl
    }

    /// The session that was read last.
    fn session(&self) -> Option<&Session> {
        self.latest.as_ref()?.document.session.as_ref()
    }

    fn left(&self, now: Now) -> Duration {
        self.settings.deadline.saturating_sub(now.elapsed)
    }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> i64 {
    let whole = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    whole.saturating_add(i64::from(duration.subsec_nanos() > 0))
}
