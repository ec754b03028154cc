//! What must hold in every world, by name. `docs/guarantees.md` has the same names and sentences.

use super::acts::LAST_WORD_LIMIT;
use super::parts::{generation, stored_generation};
use super::scenario::{Job, Lock, PATIENT, Presences, Protection, Server, Visit};
use super::world::{Doing, Process, World};
use crate::error::Kind;
use crate::grant::Document;
use crate::protocol::token::Answer;
use crate::session::attempt::{Attempt, AttemptOutcome, Presence};
use crate::session::bounds::{COMPARISON_DELAYS, MAX_SENDS};
use crate::session::{Demand, Revision, Role, Step, TokenResult, Unwanted};
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invariant {
    OneSpender,
    ClaimFirst,
    NeverAThirdTime,
    NewerStays,
    NoTornDocument,
    NoFalseVerdict,
    LogoutStays,
    EverybodyEnds,
    NewestToken,
    GraceLosesNothing,
    OnlyACrashLoses,
    FailuresAreShared,
    NoDefect,
}

impl Invariant {
    pub(super) const ALL: [Self; 13] = [
        Self::OneSpender,
        Self::ClaimFirst,
        Self::NeverAThirdTime,
        Self::NewerStays,
        Self::NoTornDocument,
        Self::NoFalseVerdict,
        Self::LogoutStays,
        Self::EverybodyEnds,
        Self::NewestToken,
        Self::GraceLosesNothing,
        Self::OnlyACrashLoses,
        Self::FailuresAreShared,
        Self::NoDefect,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OneSpender => "one spender",
            Self::ClaimFirst => "claim first",
            Self::NeverAThirdTime => "never a third time",
            Self::NewerStays => "newer stays",
            Self::NoTornDocument => "no torn document",
            Self::NoFalseVerdict => "no false verdict",
            Self::LogoutStays => "logout stays",
            Self::EverybodyEnds => "everybody ends",
            Self::NewestToken => "newest token",
            Self::GraceLosesNothing => "grace loses nothing",
            Self::OnlyACrashLoses => "only a crash loses",
            Self::FailuresAreShared => "failures are shared",
            Self::NoDefect => "no defect",
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::OneSpender => {
                "At most one process spends a refresh token at a time, and none spends it after its answer was \
                 stored: locked always, claimed unless an owner is paused past his `until`."
            }
            Self::ClaimFirst => "The record of an attempt stands before its refresh token is sent.",
            Self::NeverAThirdTime => {
                "No process sends one refresh token a third time: once, and once more if the answer was lost or was a \
                 refusal."
            }
            Self::NewerStays => {
                "A newer session is never overwritten or deleted by an older one: locked always; claimed unless \
                 between the comparison and the rename an owner wakes past his `until`, or a person logs in or out; \
                 compared where it could be seen at the comparison. A deletion has no such exception, because only \
                 the lock's holder clears, and a store that compares and swaps in one step."
            }
            Self::NoTornDocument => {
                "Nothing but a whole document is ever put in the document's place, with the same exceptions below \
                 `locked`."
            }
            Self::NoFalseVerdict => {
                "No session is cleared or called dead while the server would still refresh it, or while an answer is \
                 on its way to the store."
            }
            Self::LogoutStays => "A logout is never undone, with the same exceptions below `locked`.",
            Self::EverybodyEnds => {
                "Every process ends within its bounds: its deadline, plus the looks of the comparison loop, plus \
                 what a worker's last word may take."
            }
            Self::NewestToken => {
                "Whoever exits 0 holds a token that was the newest when it was read or given, and that works."
            }
            Self::GraceLosesNothing => {
                "Where the server has a grace period, nothing is ever lost: the next process gets a token."
            }
            Self::OnlyACrashLoses => {
                "Where it has none, only a kill of the process that holds the answer, or the loss of the answer on \
                 its way, between the server's rotation and the durable copy loses the session; then everyone is \
                 told exit 3, or 4 while a failure is still being told."
            }
            Self::FailuresAreShared => {
                "Who was waiting when an attempt failed ends alike, without a request of its own."
            }
            Self::NoDefect => "Nobody ends with exit 1, whatever happens in whatever order.",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub invariant: Invariant,
    pub how: String,
}

/// What is no fault of ours, and may cost the session or an order of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Excuse {
    /// A process was killed between the server's rotation and the durable copy.
    KilledBetween,
    /// An answer was lost after the server's rotation.
    AnswerLost,
    /// A server ended the family over a refresh token that was sent twice where that may happen.
    Replayed,
    /// Somebody came between a comparison and its rename where that may happen.
    CameBetween,
}

impl World {
    fn break_with(&mut self, invariant: Invariant, how: String) {
        self.broken.get_or_insert(Broken { invariant, how });
    }

    // ---- at the server ----

    pub(super) fn check_spend(&mut self, number: usize, generation: u8) {
        let same = self.sends.iter().filter(|(sent, _)| *sent == generation);
        let (own, others): (Vec<usize>, Vec<usize>) = same.map(|(_, by)| *by).partition(|by| *by == number);
        let has_answers = !matches!(self.scenario.server, Server::Down | Server::AsksToComeAgain);
        let may_oversleep = self.protection() == Protection::Claimed;
        let is_excused = |other: &usize| {
            self.processes[*other].has_lost_an_answer
                || may_oversleep
                    && (self.processes[*other].has_overslept || self.processes[number].has_overslept)
        };
        if self.protection() != Protection::Compared && has_answers && !others.iter().all(is_excused) {
            let how = format!("{number} sends generation {generation} after {others:?}");
            self.break_with(Invariant::OneSpender, how);
        }
        let process = &self.processes[number];
        let may_ask_again = process.has_lost_an_answer || process.refused == Some(generation);
        let is_again = !own.is_empty() && has_answers && !may_ask_again;
        let most = if has_answers { 2 } else { usize::try_from(MAX_SENDS).unwrap() };
        if is_again || own.len() >= most {
            let how = format!("{number} sends generation {generation} after {} times", own.len());
            self.break_with(Invariant::NeverAThirdTime, how);
        }
        if self.must_share.contains(&number) {
            let how = format!("{number} waited for a failure and makes a request of its own");
            self.break_with(Invariant::FailuresAreShared, how);
        }
        let is_own =
            |attempt: &Attempt| usize::try_from(attempt.by.pid) == Ok(number) && attempt.outcome.is_none();
        let is_swept = self.has_visit(Job::Logout)
            || self.processes[number].has_overslept
            || self.protection() == Protection::Compared;
        if !is_swept && !self.records.values().any(|record| is_own(&record.what)) {
            self.break_with(Invariant::ClaimFirst, format!("{number} sends without an open record"));
        }
    }

    /// After what the server did: a family that ended over a replay, which [`Self::check_spend`] let pass.
    pub(super) fn note_answer(&mut self, spent: u8, answer: &Answer) {
        let is_replay = self.sends.iter().filter(|(sent, _)| *sent == spent).count() > 1;
        let is_refused = matches!(answer, Answer::InvalidGrant { .. });
        if is_replay && is_refused && self.scenario.server == Server::EndsTheFamily {
            self.excuses.insert(Excuse::Replayed);
        }
    }

    /// Whether that process alone holds what the server gave.
    pub(super) fn holds_an_answer_alone(&self, number: usize) -> bool {
        match &self.processes[number].doing {
            Doing::Receives(Answer::Refreshed(_)) => true,
            Doing::Begins(Step::Replace { document, .. }) => document.session.is_some(),
            _ => false,
        }
    }

    /// Whether the last answer to that process is beside the document, or in it, or was given way to.
    pub(super) fn has_durable_answer(&self, number: usize) -> bool {
        let Some(given) = self.processes[number].given else { return false };
        let is_given =
            |document: &Document| stored_generation(document).is_some_and(|stored| stored >= given);
        self.document.as_ref().is_some_and(|stored| is_given(&stored.document))
            || self.answers.values().any(|file| file.what.document.as_ref().is_some_and(is_given))
    }

    // ---- in the store ----

    /// Whether somebody may come between a comparison and its rename: two calls of the file store.
    fn may_come_between(&self) -> bool {
        match self.protection() {
            Protection::Locked => false,
            // A login waits for claims, and makes none. A logout makes one, unless it has a lock, or cannot wait for another
            // one's claim.
            Protection::Claimed => {
                let has_lock = self.scenario.lock == Lock::Lies;
                let makes_a_claim = |visit: &Visit| visit.job != Job::Login && visit.is_patient && !has_lock;
                self.processes.iter().any(|process| process.has_overslept)
                    || !self.scenario.visits.iter().all(makes_a_claim)
            }
            Protection::Compared => true,
        }
    }

    /// Before `document` takes the place of what is there.
    pub(super) fn check_replacement(
        &mut self,
        number: usize,
        expected: &Revision,
        document: &Document,
        key: &str,
    ) {
        let came_between = !self.holds(expected);
        let is_excused = came_between && self.may_come_between();
        let there = self.document.as_ref().map(|stored| stored_generation(&stored.document));
        let broken = match (there, stored_generation(document)) {
            // The logout that is not over yet looks once more, and removes it.
            (None, Some(new)) if self.is_a_logout_sweeping() => {
                (self.newest, self.is_logged_out) = (new, false);
                None
            }
            (None, _) => Some((Invariant::LogoutStays, "stores over a logout".to_owned())),
            (Some(_), Some(new)) if new < self.newest => {
                Some((Invariant::NewerStays, format!("stores generation {new} over {}", self.newest)))
            }
            (Some(_), Some(new)) => {
                self.newest = new;
                None
            }
            (Some(Some(cleared)), None) if came_between => Some((
                Invariant::NewerStays,
                format!("clears generation {cleared}, which it did not compare"),
            )),
            (Some(_), None) => {
                self.check_verdict(number, key);
                None
            }
        };
        match broken {
            // A deletion is excused by nothing: that is why only the lock's holder clears.
            Some(_) if is_excused && document.session.is_some() => {
                self.excuses.insert(Excuse::CameBetween);
                self.newest = stored_generation(document).unwrap_or(self.newest);
            }
            Some((invariant, how)) => self.break_with(invariant, format!("{number} {how}")),
            None => {}
        }
    }

    pub(super) fn check_torn(&mut self, number: usize) {
        match self.may_come_between() {
            true => drop(self.excuses.insert(Excuse::CameBetween)),
            false => {
                self.break_with(Invariant::NoTornDocument, format!("{number} puts half a file in place"))
            }
        }
    }

    pub(super) fn check_mark(&mut self, number: usize, attempt: &Attempt) {
        if attempt.outcome == Some(AttemptOutcome::Rejected) {
            self.check_verdict(number, &attempt.credential_sha256);
        }
        if self.protection() != Protection::Compared && Self::is_shared(attempt) {
            let is_waiting = |other: &Process| !other.is_over() && other.started_at.is_some();
            let others = self.processes.iter().enumerate().filter(|(_, other)| is_waiting(other));
            // Who is about to look sees the failure as one that was there before.
            let others = others.filter(|(_, other)| !matches!(other.doing, Doing::Begins(Step::Look { .. })));
            self.must_share.extend(others.map(|(other, _)| other).filter(|other| *other != number));
        }
    }

    /// The session whose refresh token has that digest is called dead.
    fn check_verdict(&mut self, number: usize, key: &str) {
        let Some(stored) = self.document.clone() else { return };
        let session = stored.document.session.as_ref();
        let Some(session) = session.filter(|session| {
            session.refresh_token.as_ref().is_some_and(|refresh_token| refresh_token.sha256() == key)
        }) else {
            return;
        };
        let dead = generation(session);
        let server = self.scenario.server;
        let follows = |process: &Process| process.given.is_some_and(|given| self.server.takes(server, given));
        let is_on_its_way = |(other, process): (usize, &Rc<Process>)| {
            let holds = match &process.doing {
                Doing::Receives(Answer::Refreshed(_)) => true,
                Doing::Begins(Step::Replace { document, .. }) => document.session.is_some(),
                Doing::Compares { .. } | Doing::Renames { .. } => true,
                _ => false,
            };
            other != number && holds && follows(process) && !self.is_beyond_sight(other)
        };
        let is_left = self.records.iter().any(|(name, record)| {
            let answer = self.complete(name).and_then(stored_generation);
            let is_gone = self.presence(&record.what.by) == Presence::Gone;
            name.0 == key && is_gone && answer.is_some_and(|answer| self.server.takes(server, answer))
        });
        let how = if self.server.takes(server, dead) {
            "which the server takes"
        } else if self.processes.iter().enumerate().any(is_on_its_way) {
            "whose successor is on its way"
        } else if is_left {
            "whose successor lies beside it"
        } else {
            return;
        };
        self.break_with(Invariant::NoFalseVerdict, format!("{number} calls generation {dead} dead, {how}"));
    }

    /// An owner on another machine who is past his `until` cannot be seen to live; his commit replaces the verdict.
    fn is_beyond_sight(&self, number: usize) -> bool {
        self.scenario.presences == Presences::Unknown && self.processes[number].has_overslept
    }

    // ---- at the end of a process ----

    pub(super) fn check_bounds(&mut self, number: usize) {
        let process = &self.processes[number];
        let elapsed = self.clock.saturating_sub(process.started_at.unwrap_or(self.clock));
        let looks: Duration = COMPARISON_DELAYS.iter().sum();
        let bound = process.deadline + looks + LAST_WORD_LIMIT;
        if elapsed.saturating_sub(process.late) > bound {
            self.break_with(Invariant::EverybodyEnds, format!("{number} goes on after {elapsed:?}"));
        }
    }

    pub(super) fn check_result(&mut self, number: usize, result: &TokenResult) {
        let wall = self.wall();
        let process = Rc::clone(&self.processes[number]);
        match result {
            Ok(token) => {
                let held = generation(&token.session);
                let newest = if token.refreshed { process.given } else { process.newest_when_read };
                if newest != Some(held) {
                    let how = format!("{number} holds generation {held} and not {newest:?}");
                    self.break_with(Invariant::NewestToken, how);
                }
                let is_old = token.session.expires_at.is_some_and(|expires_at| expires_at <= wall);
                if is_old && process.late.is_zero() {
                    self.break_with(
                        Invariant::NewestToken,
                        format!("{number} holds a token that has expired"),
                    );
                }
            }
            Err(failure) => {
                let is_of_the_store = self.scenario.budget.failed_replacements > 0;
                let is_expected = match failure.kind {
                    Kind::LoginRequired | Kind::Temporary => true,
                    Kind::Store => is_of_the_store,
                    _ => false,
                };
                if !is_expected {
                    self.break_with(Invariant::NoDefect, format!("{number} ends with {failure:?}"));
                }
            }
        }
    }

    // ---- at the end of all ----

    /// Where nothing can happen any more, one comes later, and has to get a token by a refresh of its own; where
    /// he cannot, the session is lost.
    pub(super) fn check_next(&mut self) {
        if self.broken.is_some() || self.is_logged_out || self.has_visit(Job::Move) {
            return;
        }
        let (result, broken) = self.next_process();
        self.broken = broken;
        let is_grace = self.scenario.server == Server::Grace;
        match result {
            Ok(_) => {}
            Err(kind) if is_grace && !self.excuses.contains(&Excuse::CameBetween) => {
                self.break_with(Invariant::GraceLosesNothing, format!("the next process ends with {kind:?}"));
            }
            Err(_) if self.excuses.is_empty() && !self.has_lost_by_design() => {
                self.break_with(Invariant::OnlyACrashLoses, "the session is lost".to_owned());
            }
            // A stranger who lives under the identifier of one who died seems to be at it for ever.
            Err(Kind::Temporary) if self.scenario.presences == Presences::Identifiers => {}
            Err(Kind::LoginRequired) => {}
            Err(kind) => {
                self.break_with(Invariant::OnlyACrashLoses, format!("the next process ends with {kind:?}"));
            }
        }
    }

    /// Where nothing keeps two from spending, a server that ends the family ends it; another one had ended it before.
    fn has_lost_by_design(&self) -> bool {
        match self.scenario.server {
            Server::HasRevoked => true,
            Server::EndsTheFamily => self.protection() == Protection::Compared,
            _ => false,
        }
    }

    /// Nobody is told of a dead session that is not, nor of a trouble that was not there.
    pub(super) fn check_failures(&mut self) {
        let has_server = !matches!(self.scenario.server, Server::Down | Server::AsksToComeAgain);
        let is_grace = self.scenario.server == Server::Grace;
        let budget = &self.scenario.budget;
        let lost = budget.lost_requests + budget.lost_answers;
        let is_smooth = has_server
            && lost <= 1
            && (budget.lost_answers == 0 || is_grace)
            && budget.ages + budget.failed_replacements == 0
            && self.scenario.presences == Presences::StartTimes
            && (is_grace || self.excuses.is_empty())
            && !self.has_lost_by_design();
        let may_be_gone = [Job::Logout, Job::Move].into_iter().any(|job| self.has_visit(job));
        let is_alive = self.excuses.is_empty() && !self.has_lost_by_design() && !may_be_gone;
        let needs_a_login =
            |result: &TokenResult| result.as_ref().is_err_and(|failure| failure.kind == Kind::LoginRequired);
        if is_alive && self.results().any(needs_a_login) {
            self.break_with(Invariant::NoFalseVerdict, "somebody is told to log in".to_owned());
        }
        let failure = self.results().find_map(|result| result.as_ref().err()).cloned();
        if let Some(failure) = failure
            && is_smooth
            && !may_be_gone
        {
            self.break_with(Invariant::OnlyACrashLoses, format!("somebody ends with {failure:?}"));
        }
    }

    /// What one ends with who comes after all others, and refreshes whatever is stored.
    fn next_process(&self) -> (Result<u8, Kind>, Option<Broken>) {
        /// More moves than one process makes alone.
        const MOST_MOVES: u32 = 5000;
        let mut world = self.clone();
        let mut scenario = (*self.scenario).clone();
        if matches!(scenario.server, Server::Down | Server::AsksToComeAgain) {
            scenario.server = Server::Rejects;
        }
        world.scenario = Rc::new(scenario);
        world.sends.clear();
        world.must_share.clear();
        world.budget = super::scenario::Budget::default();
        let number = world.processes.len();
        let demand = Demand { min_ttl: 0, unwanted: Unwanted::FirstSeen };
        // Longer than any claim lasts that he may have to wait for.
        let deadline = Duration::from_secs(3 * PATIENT);
        let lock_use = self.scenario.lock_uses[0];
        let process = Process::asking(demand, lock_use, Role::InPlace, deadline, number);
        world.processes.push(Rc::new(Process { started_at: Some(world.clock), ..process }));
        world.change(number, |_| {});
        for _ in 0..MOST_MOVES {
            if world.processes[number].is_over() {
                break;
            }
            let next = match world.can_go(number) {
                true => super::world::Move::Goes(number),
                false => super::world::Move::TimePasses,
            };
            world = world.after(next);
        }
        let first_read = world.processes[number].first_read;
        let result = match &world.processes[number].doing {
            Doing::HasEnded(Ok(token)) if Some(generation(&token.session)) != first_read => {
                Ok(generation(&token.session))
            }
            // It was refused a newer token, and has the old one, which works for a while.
            Doing::HasEnded(Ok(_)) => Err(Kind::LoginRequired),
            Doing::HasEnded(Err(failure)) => Err(failure.kind),
            _ => {
                let invariant = Invariant::EverybodyEnds;
                let how = format!("the next process does not end: {:?}", world.clock);
                world.broken = Some(Broken { invariant, how });
                Err(Kind::Defect)
            }
        };
        (result, world.broken)
    }
}
