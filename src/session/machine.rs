//! The machine: phases, and what each event does to them.

use super::attempt::{Attempt, Outcome, Owner};
use super::freshness::{Demand, Freshness, Unwanted, age};
use super::judgement::{Asking, Judgement, Opening, freshness, judge};
use super::step::{
    Claiming, Event, Level, LockUse, Locking, Now, Patience, Replacement, Result, Step, Stored, Token, View,
};
use super::texts;
use crate::error::{Failure, Kind};
use crate::grant::{Document, LastRefresh, Rejected, Secret, Session, UnixSeconds};
use crate::protocol::token::{Answer, words};
use std::time::Duration;

/// When the comparison loop looks again after its first look at once: long enough for a sibling's answer that is
/// on its way to the disk, short enough for a person.
pub const COMPARISON_DELAYS: [Duration; 3] =
    [Duration::from_millis(25), Duration::from_millis(50), Duration::from_millis(100)];

/// How often to look while somebody else's claim is waited for: the first wait, which doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LAST_WAIT: Duration = Duration::from_millis(100);

/// How many refresh tokens one process spends: the one that it read, and one that a sibling stored.
pub const MAX_GENERATIONS: u32 = 2;

/// How often one refresh token is sent while the server asks to come again (`Retry-After`).
pub const MAX_SENDS: u32 = 4;

/// How long a failure is held back before it is told. Processes that arrive within share it, so a dead server is
/// asked some times a second at most, however many processes start one after the other.
pub const FAILURE_SETTLE: Duration = Duration::from_millis(250);

/// The part of a long deadline that is kept for sending once more after a lost answer. A deadline below twice this
/// goes to the first exchange alone: cutting that short would make lost answers.
pub const SECOND_SEND_RESERVE: Duration = Duration::from_secs(10);

/// The shortest time in which an exchange is begun.
const SHORTEST_EXCHANGE: Duration = Duration::from_millis(20);

/// How long a claim outlasts its owner's deadline, in seconds: time to store the answer on a slow disk.
pub const UNTIL_MARGIN_SECONDS: i64 = 10;

/// How often a session, or its end, is put on top of a configuration that changed meanwhile.
pub const MAX_REBASES: u32 = 3;

/// How many completed answers one process adopts.
pub const MAX_ADOPTIONS: u32 = 3;

/// How often a look is repeated because the refresh token changed under it.
pub const MAX_MOVES: u32 = 16;

/// Whom the deadline passed for.
const LOCK_HELD: &str = "another process still held the lock";

/// What one run of the machine is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For messages.
    pub profile: String,
    /// What the caller wants.
    pub demand: Demand,
    /// How locks are used.
    pub lock_use: LockUse,
    /// When everything ends, as [`Now::elapsed`].
    pub deadline: Duration,
    /// This process.
    pub owner: Owner,
    /// Random; the identifiers of the attempts begin with it.
    pub nonce: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// The look before the lock: which failures were there before us.
    Arriving,
    Locking,
    /// Waiting for the holder to leave.
    Waiting,
    /// The lock is busy and cannot be waited for: ask again after a pause.
    Knocking,
    Woken,
    /// Whatever lies between two spenders is ours: judge and act.
    Deciding,
    Resting,
    Adopting,
    Claiming,
    /// The claim stands: the last look before the refresh token is sent.
    Confirming,
    Withdrawing,
    Spending,
    /// The server asked to come again.
    ComingAgain,
    /// The comparison loop, and how many looks it had.
    Comparing(usize),
    /// The new session is being stored.
    Committing(Box<Document>, Token),
    Verifying(Box<Document>, Token),
    Clearing(Failure, usize),
    /// A failure is held back, then told with this outcome.
    Settling(Outcome, Failure),
    /// The refresh token that nobody will use is being revoked.
    Revoking(Failure),
    /// The deadline passed: one last look.
    LastLook(String),
    Ending(Box<Result>),
    Over,
}

/// An own claim that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    attempt: Attempt,
    number: u64,
}

/// The state machine. Feed it what happened, do what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    settings: Settings,
    phase: Phase,
    level: Level,
    /// The document as it was read last.
    latest: Option<Stored>,
    /// The access token that was read first.
    first_seen: Option<Secret>,
    /// Whose records were asked for last.
    looked_at: String,
    failed_before: Vec<String>,
    claim: Option<Claim>,
    claims_made: u32,
    /// An earlier attempt on the same refresh token that was begun and never finished.
    prior: Option<Attempt>,
    generations: u32,
    moves: u32,
    sends: u32,
    /// When the refresh token was sent last: its answer's lifetime counts from here.
    sent_at: UnixSeconds,
    /// An answer to the present claim's refresh token was lost, and how.
    lost: Option<String>,
    /// What the server said when it refused the refresh token.
    refusal: String,
    wait: Duration,
    adoptions: u32,
    rebases: u32,
}

impl Machine {
    /// A machine and its first step.
    pub fn start(settings: Settings) -> (Self, Step) {
        let level = match settings.lock_use {
            LockUse::Auto | LockUse::Require => Level::Locked,
            LockUse::Claim => Level::Claimed,
            LockUse::Off => Level::Compared,
        };
        let machine = Self {
            settings,
            phase: Phase::Reading,
            level,
            latest: None,
            first_seen: None,
            looked_at: String::new(),
            failed_before: Vec::new(),
            claim: None,
            claims_made: 0,
            prior: None,
            generations: 0,
            moves: 0,
            sends: 0,
            sent_at: 0,
            lost: None,
            refusal: String::new(),
            wait: FIRST_WAIT,
            adoptions: 0,
            rebases: 0,
        };
        (machine, Step::Read)
    }

    /// Whether it knows who runs it.
    pub fn is_identified(&self) -> bool {
        !self.settings.nonce.is_empty()
    }

    /// Tells who runs it, and a random word for its attempts. Needed by everything but the fast path.
    pub fn identify(&mut self, owner: Owner, nonce: String) {
        self.settings.owner = owner;
        self.settings.nonce = nonce;
    }

    /// What stands between this process and other spenders.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Takes an event, gives the next step. After [`Step::Finish`] there is none.
    pub fn next(&mut self, event: Event, now: Now) -> Step {
        match (std::mem::replace(&mut self.phase, Phase::Over), event) {
            (Phase::Reading, Event::Read(Ok(stored))) => self.first_read(stored, now),
            (Phase::Reading, Event::Read(Err(failure))) => self.fail(failure, now),
            (Phase::Arriving, Event::Looked(Ok(view))) => self.arrive(view, now),
            (Phase::Locking, Event::Locking(locking)) => self.locking(locking, now),
            (Phase::Waiting, Event::Locking(locking)) => self.released(locking, now),
            (Phase::Woken, Event::Looked(Ok(view))) => self.woken(view, now),
            (Phase::Deciding, Event::Looked(Ok(view))) => self.decide(view, now),
            (Phase::Resting, Event::Paused) => self.look(Phase::Deciding),
            (Phase::Knocking, Event::Paused) => self.lock(Patience::Try, now),
            (Phase::Adopting, Event::Adopted(Ok(_))) => self.look(Phase::Deciding),
            (Phase::Claiming, Event::Claiming(claiming)) => self.claiming(claiming, now),
            (Phase::Confirming, Event::Looked(Ok(view))) => self.confirm(view, now),
            (Phase::Withdrawing, Event::Noted) => self.look(Phase::Deciding),
            (Phase::Spending, Event::Answered(answer)) => self.answered(answer, now),
            (Phase::ComingAgain, Event::Paused) => self.look(Phase::Confirming),
            (Phase::Comparing(looks), Event::Looked(Ok(view))) => self.compare(looks, view, now),
            (Phase::Comparing(looks), Event::Noted | Event::Paused) => self.look(Phase::Comparing(looks)),
            // I2: who cannot see must not conclude. Nothing changes; the answer was a refusal all the same.
            (Phase::Comparing(_), Event::Looked(Err(failure))) => {
                let words = format!("{}; and the store failed: {}", self.refusal, failure.message);
                self.fail(texts::dead(&self.settings.profile, &words, self.prior.as_ref()), now)
            }
            (Phase::Committing(document, token), Event::Replaced(replacement)) => {
                self.committed(document, token, replacement, now)
            }
            (Phase::Verifying(document, token), Event::Read(read)) => {
                self.verified(document, token, read, now)
            }
            (Phase::Clearing(failure, looks), Event::Replaced(replacement)) => {
                self.cleared(failure, looks, replacement, now)
            }
            (Phase::Settling(outcome, failure), Event::Paused) => self.tell(outcome, failure, now),
            (Phase::LastLook(whom), Event::Looked(Ok(view))) => self.last_look(&whom, view, now),
            (Phase::Revoking(gone), Event::Noted) => self.withdraw_and_end(Err(gone)),
            (Phase::Ending(result), Event::Noted) => Step::Finish(*result),
            // The refresh token may have been spent: that is what to tell, and to leave behind.
            (Phase::Confirming, Event::Looked(Err(failure))) if self.lost.is_some() => {
                let lost = self.lost.clone().unwrap_or_default();
                let what = format!("{lost}; then the store failed: {}", failure.message);
                self.settle(Outcome::Unknown, texts::unknown(&what), now)
            }
            // A store that fails before anything was spent: nothing was.
            (
                Phase::Arriving
                | Phase::Woken
                | Phase::Deciding
                | Phase::Confirming
                | Phase::Adopting
                | Phase::LastLook(_),
                Event::Looked(Err(failure)) | Event::Adopted(Err(failure)),
            ) => self.fail(failure, now),
            (phase, event) => {
                let message = format!("defect: {event:?} cannot follow {phase:?}");
                self.withdraw_and_end(Err(Failure::new(Kind::Defect, message)))
            }
        }
    }

    fn first_read(&mut self, stored: Option<Stored>, now: Now) -> Step {
        let view = View { attempts: Vec::new(), stored };
        if self.settings.demand.unwanted == Unwanted::FirstSeen {
            let session = view.stored.as_ref().and_then(|stored| stored.document.session.as_ref());
            self.first_seen = session.map(|session| session.access_token.clone());
        }
        match self.judgement(&view, now) {
            Judgement::Moved => self.look(Phase::Arriving),
            judgement => self.act(judgement, now),
        }
    }

    fn arrive(&mut self, view: View, now: Now) -> Step {
        let failed = view.attempts.iter().filter(|sighting| sighting.attempt.shared_failure().is_some());
        self.failed_before = failed.map(|sighting| sighting.attempt.id.clone()).collect();
        match self.judgement(&view, now) {
            Judgement::Claim(..) | Judgement::Wait | Judgement::Adopt(_) if self.level == Level::Locked => {
                self.lock(Patience::Try, now)
            }
            Judgement::Moved => self.follow(Phase::Arriving, now),
            judgement => self.act(judgement, now),
        }
    }

    fn lock(&mut self, patience: Patience, now: Now) -> Step {
        let left = self.left(now);
        // A lock call that hangs must not cost those their deadline who could do without it.
        let at_most = if self.need_not_wait(now) { left.min(LAST_WAIT) } else { left };
        self.phase = if patience == Patience::Release { Phase::Waiting } else { Phase::Locking };
        Step::Lock(patience, at_most)
    }

    fn locking(&mut self, locking: Locking, now: Now) -> Step {
        match locking {
            Locking::Granted => self.look(Phase::Deciding),
            Locking::Busy | Locking::Unanswered if self.need_not_wait(now) => {
                self.hand_out_rather_than_wait(now)
            }
            Locking::Busy => self.lock(Patience::Release, now),
            Locking::Refused(_) => {
                self.level = Level::Claimed;
                self.look(Phase::Deciding)
            }
            // The token ended while this short call was made for its sake.
            Locking::Unanswered if !self.left(now).is_zero() => self.lock(Patience::Release, now),
            Locking::Unanswered => self.give_up(LOCK_HELD),
            Locking::Failed(failure) => self.fail(failure, now),
        }
    }

    fn released(&mut self, locking: Locking, now: Now) -> Step {
        match locking {
            Locking::Granted => self.look(Phase::Woken),
            Locking::Busy => self.rest(LOCK_HELD, Phase::Knocking, now),
            other => self.locking(other, now),
        }
    }

    /// The holder has left. Mostly the document is fresh, or a failure was left for us; else he died: queue.
    fn woken(&mut self, view: View, now: Now) -> Step {
        match self.judgement(&view, now) {
            Judgement::Claim(..) | Judgement::Wait | Judgement::Adopt(_) => self.lock(Patience::Queue, now),
            Judgement::Moved => self.follow(Phase::Woken, now),
            judgement => self.act(judgement, now),
        }
    }

    fn decide(&mut self, view: View, now: Now) -> Step {
        let judgement = self.judgement(&view, now);
        self.act(judgement, now)
    }

    fn act(&mut self, judgement: Judgement, now: Now) -> Step {
        let profile = self.settings.profile.clone();
        match judgement {
            Judgement::Use(fresh) => {
                let short = (fresh == Freshness::FreshButShort).then(texts::less_than_asked);
                self.hand_out_latest(short.into_iter().collect())
            }
            Judgement::NoDocument if self.generations == 0 && self.looked_at.is_empty() => {
                self.withdraw_and_end(Err(texts::no_document(&profile)))
            }
            Judgement::NoDocument => self.withdraw_and_end(Err(texts::logged_out(&profile))),
            Judgement::NoSession => self.withdraw_and_end(Err(self.no_session())),
            Judgement::NoRefreshToken => {
                let works = self.latest_freshness(now).is_valid();
                self.fail(texts::no_refresh_token(&profile, works), now)
            }
            Judgement::Moved => self.follow(Phase::Deciding, now),
            Judgement::Wait if self.need_not_wait(now) => self.hand_out_rather_than_wait(now),
            Judgement::Wait => self.rest("another process's refresh had not ended", Phase::Resting, now),
            Judgement::Adopt(number) if self.adoptions < MAX_ADOPTIONS => self.adopt(number),
            Judgement::Adopt(_) => self.fail(
                Failure::new(
                    Kind::Store,
                    "cannot adopt a completed session: the store keeps the old document",
                ),
                now,
            ),
            Judgement::Share(failure) => self.fail(failure, now),
            Judgement::Rejected(attempt) => {
                let friendly = texts::dead(&profile, "its refresh token was refused before", None);
                self.fail(attempt.failure(Kind::LoginRequired).unwrap_or(friendly), now)
            }
            Judgement::Claim(opening) => self.claim(opening, now),
        }
    }

    fn adopt(&mut self, number: u64) -> Step {
        let Some(stored) = &self.latest else {
            return self.look(Phase::Deciding);
        };
        self.adoptions += 1;
        self.phase = Phase::Adopting;
        Step::Adopt {
            refresh_token_sha256: self.looked_at.clone(),
            number,
            expected: stored.revision.clone(),
        }
    }

    fn claim(&mut self, opening: Opening, now: Now) -> Step {
        let Opening { number, prior, outdated } = opening;
        if self.generations >= MAX_GENERATIONS {
            return self.fail(texts::too_many_generations(), now);
        }
        let left = self.left(now);
        if left < SHORTEST_EXCHANGE {
            return self.give_up("no time was left for a request");
        }
        let session = self.latest.as_ref().and_then(|stored| stored.document.session.as_ref());
        let access_token_sha256 = session.map(|session| session.access_token.sha256()).unwrap_or_default();
        let known = self.prior.take().filter(|prior| prior.refresh_token_sha256 == self.looked_at);
        self.prior = prior.or(known);
        self.claims_made += 1;
        let until = now.wall.saturating_add(seconds(left)).saturating_add(UNTIL_MARGIN_SECONDS);
        let id = format!("{}-{}", self.settings.nonce, self.claims_made);
        let owner = self.settings.owner.clone();
        let attempt = Attempt::open(id, self.looked_at.clone(), access_token_sha256, owner, now.wall, until);
        self.claim = Some(Claim { attempt: attempt.clone(), number });
        self.sends = 0;
        self.lost = None;
        self.phase = Phase::Claiming;
        let expected = self.latest.as_ref().map(|stored| stored.revision.clone());
        let exclusive = self.level != Level::Compared;
        Step::Claim { attempt, number, exclusive, expected: expected.unwrap_or_default(), outdated }
    }

    fn claiming(&mut self, claiming: Claiming, now: Now) -> Step {
        match (claiming, &mut self.claim) {
            (Claiming::Mine(number), Some(claim)) => {
                claim.number = number;
                self.look(Phase::Confirming)
            }
            (Claiming::Taken, _) => {
                self.claim = None;
                self.rest("other processes kept claiming the refresh", Phase::Resting, now)
            }
            (Claiming::Failed(failure), _) => {
                self.claim = None;
                self.fail(failure, now)
            }
            (Claiming::Mine(_), None) => self.look(Phase::Deciding),
        }
    }

    /// I5, and the last chance to see that the claim came too late: spend only what was read after it stood.
    fn confirm(&mut self, view: View, now: Now) -> Step {
        let claimed = self.latest.clone();
        let judgement = self.judgement(&view, now);
        let Some(claim) = &self.claim else {
            return self.act(judgement, now);
        };
        let unchanged = match (&claimed, &self.latest) {
            (Some(claimed), Some(latest)) => latest.has_session_of(claimed),
            _ => false,
        };
        let overtaken = self.level != Level::Compared
            && view.attempts.iter().any(|sighting| sighting.number > claim.number);
        let left = self.left(now);
        let until_holds = now.wall.saturating_add(seconds(left)) <= claim.attempt.until;
        match judgement {
            Judgement::Claim(..) if unchanged && !overtaken && until_holds && left >= SHORTEST_EXCHANGE => {
                self.spend(now)
            }
            _ if self.lost.is_some() && unchanged => {
                let what = self.lost.clone().unwrap_or_default();
                self.settle(Outcome::Unknown, texts::unknown(&what), now)
            }
            _ => self.withdraw(Phase::Withdrawing),
        }
    }

    fn spend(&mut self, now: Now) -> Step {
        let Some((stored, refresh_token)) =
            self.latest.as_ref().and_then(|stored| Some((stored, stored.document.refresh_token()?.clone())))
        else {
            return self.withdraw(Phase::Withdrawing);
        };
        let left = self.left(now);
        let may_be_lost = self.lost.is_none() && left >= 2 * SECOND_SEND_RESERVE;
        let timeout = if may_be_lost { left - SECOND_SEND_RESERVE } else { left };
        let document = stored.document.clone();
        self.sends += 1;
        self.sent_at = now.wall;
        self.phase = Phase::Spending;
        Step::Spend { document, refresh_token, timeout }
    }

    fn answered(&mut self, answer: Answer, now: Now) -> Step {
        match (answer, self.lost.clone()) {
            (Answer::Refreshed(answer), _) => {
                let Some(stored) = self.latest.clone() else {
                    return self.look(Phase::Deciding);
                };
                let session = answer.session(stored.document.session.as_ref(), self.sent_at);
                let token = Token { session: session.clone(), warnings: Vec::new(), refreshed: true };
                self.commit(stored, session, token)
            }
            (Answer::InvalidGrant { error, description }, _) => {
                self.refusal = words(&error, description.as_deref());
                self.generations += 1;
                self.mark(Outcome::Looking, None, Phase::Comparing(0), now)
            }
            (Answer::Refused { kind, error, description }, _) => {
                let words = words(&error, description.as_deref());
                self.settle(Outcome::Refused, texts::refused(&self.settings.profile, kind, &words), now)
            }
            // Once lost is lost: what the server says to the second request tells nothing of the first.
            (Answer::Temporary { what, .. } | Answer::Unknown { what }, Some(lost)) => {
                self.settle(Outcome::Unknown, texts::unknown(&format!("{lost}; then {what}")), now)
            }
            (Answer::Temporary { what, retry_after }, None) => match retry_after {
                Some(delay) if self.may_come_again(delay, now) => {
                    self.phase = Phase::ComingAgain;
                    Step::Pause(delay)
                }
                _ => self.settle(Outcome::Temporary, texts::temporary(&what), now),
            },
            (Answer::Unknown { what }, None) => {
                self.lost = Some(what.clone());
                if self.left(now) < SHORTEST_EXCHANGE {
                    return self.settle(Outcome::Unknown, texts::unknown(&what), now);
                }
                self.look(Phase::Confirming)
            }
        }
    }

    fn may_come_again(&self, delay: Duration, now: Now) -> bool {
        self.sends < MAX_SENDS
            && !self.latest_freshness(now).is_valid()
            && delay.saturating_add(SHORTEST_EXCHANGE) < self.left(now)
    }

    fn commit(&mut self, onto: Stored, session: Session, token: Token) -> Step {
        let owner = &self.settings.owner;
        let last_refresh = LastRefresh { at: self.sent_at, host: owner.host.clone(), pid: owner.pid };
        let document = Document {
            session: Some(session),
            rejected: None,
            last_refresh: Some(last_refresh),
            ..onto.document
        };
        let attempt =
            self.claim.as_ref().map(|claim| (claim.attempt.refresh_token_sha256.clone(), claim.number));
        self.phase = Phase::Committing(Box::new(document.clone()), token);
        Step::Replace { expected: onto.revision, document, attempt: attempt.unwrap_or_default() }
    }

    /// I2 and I3: what a commit does that meets a changed store.
    fn committed(
        &mut self,
        document: Box<Document>,
        token: Token,
        replacement: Replacement,
        now: Now,
    ) -> Step {
        match replacement {
            Replacement::Done => {
                self.claim = None;
                Step::Finish(Ok(token))
            }
            Replacement::Unknown => {
                self.phase = Phase::Verifying(document, token);
                Step::Read
            }
            Replacement::Failed { failure, kept } => {
                let warning = texts::not_stored(&failure, kept.as_deref());
                self.end(Ok(Token { warnings: vec![warning], ..token }), now)
            }
            Replacement::Lost(None) => {
                let gone = texts::logged_out(&self.settings.profile);
                self.phase = Phase::Revoking(gone);
                Step::Revoke { document: *document }
            }
            Replacement::Lost(Some(stored)) if self.may_follow(&stored) && self.rebases < MAX_REBASES => {
                self.rebases += 1;
                let session = token.session.clone();
                self.commit(*stored, session, token)
            }
            Replacement::Lost(Some(stored)) if self.may_follow(&stored) => {
                let failure = Failure::new(Kind::Store, "the configuration kept changing");
                let warning = texts::not_stored(&failure, None);
                self.end(Ok(Token { warnings: vec![warning], ..token }), now)
            }
            Replacement::Lost(Some(_)) => self.withdraw_and_end(Ok(token)),
        }
    }

    /// Whether the new session may follow what is stored now: the session whose refresh token we spent, or the
    /// `null` that somebody left because that very token was refused to him. Where a server does not rotate, the
    /// same refresh token beside another access token is a sibling's newer session (I2).
    fn may_follow(&self, stored: &Stored) -> bool {
        let Some(attempt) = self.claim.as_ref().map(|claim| &claim.attempt) else {
            return false;
        };
        match &stored.document.session {
            Some(session) => attempt.concerns(session),
            None => stored
                .document
                .rejected
                .as_ref()
                .is_some_and(|rejected| rejected.refresh_token_sha256 == attempt.refresh_token_sha256),
        }
    }

    /// The store could not say whether it replaced: read back and decide.
    fn verified(
        &mut self,
        document: Box<Document>,
        token: Token,
        read: std::result::Result<Option<Stored>, Failure>,
        now: Now,
    ) -> Step {
        let replacement = match read {
            Ok(Some(stored)) if stored.document == *document => Replacement::Done,
            Ok(stored) => Replacement::Lost(stored.map(Box::new)),
            Err(failure) => Replacement::Failed { failure, kept: None },
        };
        self.committed(document, token, replacement, now)
    }

    /// The comparison loop (section 5 of the contract): a refusal proves nothing while the store may still change.
    fn compare(&mut self, looks: usize, view: View, now: Now) -> Step {
        let claimed = self.latest.clone();
        let judgement = self.judgement(&view, now);
        let changed = match (&claimed, &self.latest) {
            (Some(claimed), Some(latest)) => !latest.has_session_of(claimed),
            _ => true,
        };
        if changed {
            return match judgement {
                Judgement::NoDocument => {
                    self.withdraw_and_end(Err(texts::logged_out(&self.settings.profile)))
                }
                _ if self.latest_freshness(now).is_valid() => self.hand_out_latest(vec![]),
                Judgement::NoSession | Judgement::NoRefreshToken => self.withdraw_and_end(Err(self.dead())),
                // A sibling rotated, and his session has expired too: that one may be spent.
                _ => self.withdraw(Phase::Withdrawing),
            };
        }
        if matches!(judgement, Judgement::Adopt(_)) {
            return self.withdraw(Phase::Withdrawing);
        }
        if let Some(delay) = COMPARISON_DELAYS.get(looks) {
            self.phase = Phase::Comparing(looks + 1);
            return Step::Pause((*delay).min(self.left(now)));
        }
        let own = self.claim.as_ref().map(|claim| claim.number);
        let others_try =
            view.attempts.iter().any(|sighting| Some(sighting.number) != own && sighting.is_live(now.wall));
        if others_try {
            return match self.left(now) {
                Duration::ZERO => {
                    let whom = "the server refused, and another process's refresh had not ended";
                    let failure = texts::deadline(self.settings.deadline, whom);
                    self.settle(Outcome::Temporary, failure, now)
                }
                left => {
                    self.phase = Phase::Comparing(looks);
                    Step::Pause(LAST_WAIT.min(left))
                }
            };
        }
        self.give_verdict(looks, now)
    }

    /// Unchanged to the end: the grant is dead. Cleared only where looking and clearing is one step.
    fn give_verdict(&mut self, looks: usize, now: Now) -> Step {
        let dead = self.dead();
        match (&self.latest, &self.claim) {
            (Some(stored), Some(claim))
                if self.level == Level::Locked && !self.latest_freshness(now).is_valid() =>
            {
                let document = Document {
                    session: None,
                    rejected: Some(Rejected {
                        refresh_token_sha256: claim.attempt.refresh_token_sha256.clone(),
                        at: now.wall,
                        message: dead.message.clone(),
                    }),
                    ..stored.document.clone()
                };
                let expected = stored.revision.clone();
                let attempt = (claim.attempt.refresh_token_sha256.clone(), claim.number);
                self.phase = Phase::Clearing(dead, looks);
                Step::Replace { expected, document, attempt }
            }
            _ => self.tell(Outcome::Rejected, dead, now),
        }
    }

    fn cleared(&mut self, dead: Failure, looks: usize, replacement: Replacement, now: Now) -> Step {
        match replacement {
            Replacement::Done => {
                self.claim = None;
                Step::Finish(Err(dead))
            }
            Replacement::Lost(_) if self.rebases < MAX_REBASES => {
                self.rebases += 1;
                self.look(Phase::Comparing(looks))
            }
            Replacement::Lost(_) | Replacement::Unknown | Replacement::Failed { .. } => {
                self.tell(Outcome::Rejected, dead, now)
            }
        }
    }

    fn dead(&self) -> Failure {
        let prior = self.prior.as_ref();
        match &self.lost {
            Some(lost) => {
                let words = format!("{}, after an answer was lost: {lost}", self.refusal);
                texts::dead(&self.settings.profile, &words, prior)
            }
            None => texts::dead(&self.settings.profile, &self.refusal, prior),
        }
    }

    fn last_look(&mut self, whom: &str, view: View, now: Now) -> Step {
        match self.judgement(&view, now) {
            Judgement::Claim(..) | Judgement::Wait | Judgement::Adopt(_) | Judgement::Moved => {
                self.fail(texts::deadline(self.settings.deadline, whom), now)
            }
            judgement => self.act(judgement, now),
        }
    }

    // ---- the ends ----

    /// I6: a failure is an error only where the present access token does not work any more.
    fn fail(&mut self, failure: Failure, now: Now) -> Step {
        match self.latest_freshness(now).is_valid() {
            true => self.hand_out_latest(vec![texts::still_valid(&failure)]),
            false => self.withdraw_and_end(Err(failure)),
        }
    }

    /// Somebody else is refreshing, and the present token still works.
    fn hand_out_rather_than_wait(&mut self, now: Now) -> Step {
        let session = self.latest.as_ref().and_then(|stored| stored.document.session.as_ref());
        let min_ttl = self.settings.demand.min_ttl;
        let short = min_ttl > 0 && session.is_some_and(|session| !age(session, min_ttl, now).is_fresh());
        self.hand_out_latest(short.then(texts::less_for_now).into_iter().collect())
    }

    fn hand_out_latest(&mut self, warnings: Vec<Failure>) -> Step {
        match self.latest.as_ref().and_then(|stored| stored.document.session.clone()) {
            Some(session) => self.withdraw_and_end(Ok(Token { session, warnings, refreshed: false })),
            None => self.withdraw_and_end(Err(self.no_session())),
        }
    }

    /// The session was cleared: with the words of the process that cleared it.
    fn no_session(&self) -> Failure {
        let rejected = self.latest.as_ref().and_then(|stored| stored.document.rejected.as_ref());
        texts::no_session(&self.settings.profile, rejected)
    }

    /// Holds a failure back for those who arrive just now, then tells it.
    fn settle(&mut self, outcome: Outcome, failure: Failure, now: Now) -> Step {
        self.phase = Phase::Settling(outcome, failure);
        Step::Pause(FAILURE_SETTLE.min(self.left(now)))
    }

    /// Leaves the failure in the record, for all who waited for it, and ends with it.
    fn tell(&mut self, outcome: Outcome, failure: Failure, now: Now) -> Step {
        let session = self.latest.as_ref().and_then(|stored| stored.document.session.clone());
        let result = match session {
            Some(session) if self.latest_freshness(now).is_valid() => {
                let warnings = vec![texts::still_valid(&failure)];
                Ok(Token { session, warnings, refreshed: false })
            }
            _ => Err(failure.clone()),
        };
        self.mark(outcome, Some(&failure), Phase::Ending(Box::new(result)), now)
    }

    /// Ends with the record left open: its completed answer waits to be adopted.
    fn end(&mut self, result: Result, now: Now) -> Step {
        let kept = Failure::new(Kind::Store, "the answer came and could not be stored");
        self.mark(Outcome::Unknown, Some(&kept), Phase::Ending(Box::new(result)), now)
    }

    fn withdraw_and_end(&mut self, result: Result) -> Step {
        match self.claim {
            Some(_) => self.withdraw(Phase::Ending(Box::new(result))),
            None => Step::Finish(result),
        }
    }

    fn give_up(&mut self, whom: &str) -> Step {
        self.look(Phase::LastLook(whom.to_owned()))
    }

    // ---- the steps ----

    fn look(&mut self, phase: Phase) -> Step {
        // The comparison loop and the confirmation look at the refresh token that was claimed, all others at the
        // one that is stored.
        let claimed = self.claim.as_ref().map(|claim| claim.attempt.refresh_token_sha256.clone());
        let stored = self.latest.as_ref().and_then(|stored| Some(stored.document.refresh_token()?.sha256()));
        if let Some(looked_at) = claimed.or(stored) {
            self.looked_at = looked_at;
        }
        self.phase = phase;
        Step::Look { refresh_token_sha256: self.looked_at.clone() }
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
        let pause = self.wait.min(left);
        self.wait = (self.wait * 2).min(LAST_WAIT);
        self.phase = then;
        Step::Pause(pause)
    }

    fn withdraw(&mut self, then: Phase) -> Step {
        self.phase = then;
        match self.claim.take() {
            Some(claim) => Step::Withdraw {
                refresh_token_sha256: claim.attempt.refresh_token_sha256,
                number: claim.number,
            },
            None => self.look(Phase::Deciding),
        }
    }

    fn mark(&mut self, outcome: Outcome, failure: Option<&Failure>, then: Phase, now: Now) -> Step {
        self.phase = then;
        match &mut self.claim {
            Some(claim) => {
                claim.attempt.end(outcome, failure, now.wall);
                Step::Mark { attempt: claim.attempt.clone(), number: claim.number }
            }
            None => self.look(Phase::Deciding),
        }
    }

    // ---- the questions ----

    fn judgement(&mut self, view: &View, now: Now) -> Judgement {
        let judgement = judge(&self.asking(now), view);
        self.latest = view.stored.clone();
        judgement
    }

    fn asking(&self, now: Now) -> Asking<'_> {
        Asking {
            demand: &self.settings.demand,
            first_seen: self.first_seen.as_ref(),
            looked_at: &self.looked_at,
            failed_before: &self.failed_before,
            own: self.claim.as_ref().map(|claim| claim.number),
            level: self.level,
            now,
        }
    }

    fn latest_freshness(&self, now: Now) -> Freshness {
        let asking = self.asking(now);
        self.latest.as_ref().map_or(Freshness::Ended, |stored| freshness(&asking, stored))
    }

    /// A busy lock is waited for by those alone who have nothing to hand out. A forced refresh has nothing.
    fn need_not_wait(&self, now: Now) -> bool {
        self.settings.demand.unwanted != Unwanted::FirstSeen && self.latest_freshness(now).is_valid()
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
