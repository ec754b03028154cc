//! What must hold in every world. `session` and `docs/guarantees.md` have the same numbers, names and sentences.

use super::acts::LAST_WORD_LIMIT;
use super::parts::{generation, stored_generation};
use super::scenario::{Command, CommandRun, Demanded, LONG_DEADLINE, Lock, Presences, Protection, Server};
use super::world::{Process, Progress, World};
use crate::error::{Failure, Kind};
use crate::grant::{Document, TokenKind};
use crate::protocol::token::Answer;
use crate::session::attempt::{Attempt, AttemptOutcome, Presence};
use crate::session::bounds::{COMPARISON_DELAYS, MAX_SENDS};
use crate::session::texts::NO_OTHER_ID_TOKEN;
use crate::session::{Demand, Revision, Role, Step, TokenResult, Unwanted, expiry_of};
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invariant {
    OneSpender,
    NewerStays,
    LogoutStays,
    EverythingEnds,
    ClaimFirst,
    WorkingToken,
    NeverAThirdTime,
    WholeDocuments,
    NoFalseVerdict,
    NewestToken,
    GraceLosesNothing,
    OnlyACrashLoses,
    FailuresAreShared,
    NoDefect,
}

impl Invariant {
    pub(super) const ALL: [Self; 14] = [
        Self::OneSpender,
        Self::NewerStays,
        Self::LogoutStays,
        Self::EverythingEnds,
        Self::ClaimFirst,
        Self::WorkingToken,
        Self::NeverAThirdTime,
        Self::WholeDocuments,
        Self::NoFalseVerdict,
        Self::NewestToken,
        Self::GraceLosesNothing,
        Self::OnlyACrashLoses,
        Self::FailuresAreShared,
        Self::NoDefect,
    ];

    /// Its number and name, as in `session`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OneSpender => "I1 one spender",
            Self::NewerStays => "I2 newer stays",
            Self::LogoutStays => "I3 logout stays",
            Self::EverythingEnds => "I4 everything ends",
            Self::ClaimFirst => "I5 claim first",
            Self::WorkingToken => "I6 working token",
            Self::NeverAThirdTime => "I7 never a third time",
            Self::WholeDocuments => "I8 whole documents",
            Self::NoFalseVerdict => "I9 no false verdict",
            Self::NewestToken => "I10 newest token",
            Self::GraceLosesNothing => "I11 grace loses nothing",
            Self::OnlyACrashLoses => "I12 only a crash loses",
            Self::FailuresAreShared => "I13 failures are shared",
            Self::NoDefect => "I14 no defect",
        }
    }

    /// What it promises, as in `docs/guarantees.md`.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::OneSpender => {
                "A refresh token is sent again only after its last answer was stored or judged lost: locked always; claimed \
                 unless a process is suspended past its `until`."
            }
            Self::NewerStays => {
                "A newer session is never overwritten or cleared by an older one: in a store that swaps, and locked, always; \
                 claimed in the file store unless a process wakes past its `until`, or a login or logout runs, between a \
                 comparison and its rename; compared if the newer session was visible at the comparison. Clearing has no \
                 such exception."
            }
            Self::LogoutStays => "A logout is never undone, with the same exceptions.",
            Self::EverythingEnds => {
                "Every process ends within its deadline, the delays of the comparison loop, and the time for the result of a \
                 worker."
            }
            Self::ClaimFirst => {
                "A claim is durable before the refresh token is sent, and so is the room for the answer."
            }
            Self::WorkingToken => {
                "A failure while the stored access token answers the demand hands out that token."
            }
            Self::NeverAThirdTime => {
                "No process sends one refresh token a third time: it sends it once, and once more if the answer was lost or was \
                 a refusal."
            }
            Self::WholeDocuments => {
                "Only a whole document ever replaces a document, with the exceptions of I2."
            }
            Self::NoFalseVerdict => {
                "No session is cleared or called dead while the server would still refresh it, or while an answer is on its \
                 way to the store."
            }
            Self::NewestToken => {
                "A process that ends with exit 0 hands out a token that works, and that was the newest one when the process read \
                 it or received it."
            }
            Self::GraceLosesNothing => {
                "Where the server has a grace period, no session is lost: the next process gets a token."
            }
            Self::OnlyACrashLoses => {
                "Elsewhere only one event loses a session: between the rotation and the durable copy, the process that holds the \
                 answer is killed, or the answer is lost. Then every process ends with exit 3, or with exit 4 while a failure \
                 is shared."
            }
            Self::FailuresAreShared => {
                "A process that waited for an attempt that failed ends the same way, without a request of its own."
            }
            Self::NoDefect => "No order of events ends with exit 1.",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub invariant: Invariant,
    pub how: String,
}

/// An event that may cost the session, or the order of two writes, without a defect in the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Excuse {
    /// A process was killed between the server's rotation and the durable copy; or a logout after its revocation.
    KilledBetween,
    /// An answer was lost after the server's rotation.
    AnswerLost,
    /// A server ended the grant over a refresh token that was sent twice where that may happen.
    Replayed,
    /// Another change came between a comparison and its rename where that may happen.
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
        let may_pass_until = self.protection() == Protection::Claimed;
        let is_excused = |other: &usize| {
            self.processes[*other].has_lost_an_answer
                || may_pass_until
                    && (self.processes[*other].is_past_until || self.processes[number].is_past_until)
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
        let is_swept = self.has_command(Command::Logout)
            || self.processes[number].is_past_until
            || self.protection() == Protection::Compared;
        if !is_swept && !self.records.values().any(|record| is_own(&record.what)) {
            self.break_with(Invariant::ClaimFirst, format!("{number} sends without an open record"));
        }
    }

    /// Notes that the server ended the grant over a replay that [`Self::check_spend`] permitted.
    pub(super) fn note_answer(&mut self, spent: u8, answer: &Answer) {
        let is_replay = self.sends.iter().filter(|(sent, _)| *sent == spent).count() > 1;
        let is_refused = matches!(answer, Answer::InvalidGrant { .. });
        if is_replay && is_refused && self.scenario.server == Server::EndsTheFamily {
            self.excuses.insert(Excuse::Replayed);
        }
    }

    /// Whether the answer of the server exists only in that process.
    pub(super) fn holds_an_answer_alone(&self, number: usize) -> bool {
        match &self.processes[number].progress {
            Progress::Receives(Answer::Refreshed(_)) => true,
            Progress::Begins(Step::Replace { document, .. }) => document.session.is_some(),
            // The complete answer is a file of one machine. Other machines have only the store.
            Progress::Swaps { document, .. } => {
                self.scenario.presences == Presences::Unknown && document.session.is_some()
            }
            _ => false,
        }
    }

    /// Whether other processes find the last answer to that process, or a newer one, in or beside the document.
    pub(super) fn has_durable_answer(&self, number: usize) -> bool {
        let Some(given) = self.processes[number].given else { return false };
        let is_given =
            |document: &Document| stored_generation(document).is_some_and(|stored| stored >= given);
        self.document.as_ref().is_some_and(|stored| is_given(&stored.document))
            || !(self.scenario.swaps && self.scenario.presences == Presences::Unknown)
                && self.answers.values().any(|file| file.what.document.as_ref().is_some_and(is_given))
    }

    // ---- in the store ----

    /// Whether another change may come between a comparison and its rename, which are two calls of the file store.
    fn may_come_between(&self) -> bool {
        match self.protection() {
            _ if self.scenario.swaps => false,
            Protection::Locked => false,
            // A login waits for claims, and makes none. A logout makes one, unless it has a lock or cannot wait for the claim
            // of another process.
            Protection::Claimed => {
                let has_lock = self.scenario.lock == Lock::GrantsToAll;
                let makes_a_claim =
                    |run: &CommandRun| run.command != Command::Login && run.waits_for_claims && !has_lock;
                self.processes.iter().any(|process| process.is_past_until)
                    || !self.scenario.commands.iter().all(makes_a_claim)
            }
            Protection::Compared => true,
        }
    }

    /// Checks a replacement by `document` before it happens.
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
            // The logout that still runs looks once more, and removes it.
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
            // Nothing excuses a false clearing: that is why only the holder of the lock clears.
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
                self.break_with(Invariant::WholeDocuments, format!("{number} puts half a file in place"))
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
            // A process that is about to look for the first time finds the failure as an earlier one.
            let others =
                others.filter(|(_, other)| !matches!(other.progress, Progress::Begins(Step::Look { .. })));
            self.must_share.extend(others.map(|(other, _)| other).filter(|other| *other != number));
        }
    }

    /// Checks that a session may be called dead: the one with the refresh token of the digest `key`.
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
            let holds = match &process.progress {
                Progress::Receives(Answer::Refreshed(_)) => true,
                Progress::Begins(Step::Replace { document, .. }) => document.session.is_some(),
                Progress::Compares { .. } | Progress::Renames { .. } | Progress::Swaps { .. } => true,
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
            "and its successor is on its way"
        } else if is_left {
            "and its successor lies beside it"
        } else {
            return;
        };
        self.break_with(Invariant::NoFalseVerdict, format!("{number} calls generation {dead} dead, {how}"));
    }

    /// Whether the process is on another machine and past its `until`. Nothing shows that it runs; its commit replaces the
    /// verdict.
    fn is_beyond_sight(&self, number: usize) -> bool {
        self.scenario.presences == Presences::Unknown && self.processes[number].is_past_until
    }

    // ---- at the end of a process ----

    pub(super) fn check_bounds(&mut self, number: usize) {
        let process = &self.processes[number];
        let elapsed = self.clock.saturating_sub(process.started_at.unwrap_or(self.clock));
        let looks: Duration = COMPARISON_DELAYS.iter().sum();
        let bound = process.deadline + looks + LAST_WORD_LIMIT;
        if elapsed.saturating_sub(process.late) > bound {
            self.break_with(Invariant::EverythingEnds, format!("{number} goes on after {elapsed:?}"));
        }
    }

    /// Which token that process demands. Workers have their demand from their caller, and the last process forces a refresh.
    fn kind_for(&self, number: usize) -> TokenKind {
        match number < self.scenario.lock_uses.len() {
            true => self.scenario.demanded.kind(),
            false => TokenKind::AccessToken,
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
                let is_old = expiry_of(&token.session, self.kind_for(number)).is_some_and(|end| end <= wall);
                if is_old && process.late.is_zero() {
                    self.break_with(
                        Invariant::NewestToken,
                        format!("{number} holds a token that has expired"),
                    );
                }
            }
            Err(failure) => {
                let session = self.document.as_ref().and_then(|stored| stored.document.session.as_ref());
                let end = session.and_then(|session| expiry_of(session, self.kind_for(number)));
                let works = end.is_some_and(|end| wall < end);
                // Workers and the last process demand more than this.
                let demands_a_token =
                    self.scenario.unwanted == Unwanted::None && number < self.scenario.lock_uses.len();
                if works && demands_a_token && !self.has_changed_for(&process) {
                    let how = format!("{number} ends with {failure:?} beside a token that works");
                    self.break_with(Invariant::WorkingToken, how);
                }
                let is_of_the_store = self.scenario.budget.failed_replacements
                    + self.scenario.budget.unanswered_replacements
                    > 0;
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

    /// Starts one more process where nothing can happen any more. If it does not get a token by a refresh of its own, the
    /// session is lost.
    pub(super) fn check_next(&mut self) {
        if self.broken.is_some() || self.is_logged_out || self.has_command(Command::Migrate) {
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
            // Another program with the identifier of a killed owner seems to refresh for ever.
            Err(Kind::Temporary) if self.scenario.presences == Presences::Identifiers => {}
            Err(Kind::LoginRequired) => {}
            Err(kind) => {
                self.break_with(Invariant::OnlyACrashLoses, format!("the next process ends with {kind:?}"));
            }
        }
    }

    /// Whether this scenario may lose the session: the server revoked it before, or nothing keeps two processes from
    /// spending one refresh token and the server ends the grant over that.
    fn has_lost_by_design(&self) -> bool {
        match self.scenario.server {
            Server::HasRevoked => true,
            Server::EndsTheFamily => self.protection() == Protection::Compared,
            _ => false,
        }
    }

    /// Checks that no process reports a dead session that is alive, or a failure without a cause.
    pub(super) fn check_failures(&mut self) {
        let has_server = !matches!(self.scenario.server, Server::Down | Server::AsksToComeAgain);
        let is_grace = self.scenario.server == Server::Grace;
        let budget = &self.scenario.budget;
        let lost = budget.lost_requests + budget.lost_answers;
        let is_smooth = has_server
            && lost <= 1
            && (budget.lost_answers == 0 || is_grace)
            && budget.suspensions + budget.failed_replacements + budget.unanswered_replacements == 0
            && self.scenario.presences == Presences::StartTimes
            && (is_grace || self.excuses.is_empty())
            && !self.has_lost_by_design();
        let may_be_gone =
            [Command::Logout, Command::Migrate].into_iter().any(|command| self.has_command(command));
        let is_alive = self.excuses.is_empty() && !self.has_lost_by_design() && !may_be_gone;
        // A grant that brings no ID token is alive all the same.
        let never_comes = self.scenario.demanded == Demanded::IdTokenThatNeverComes;
        let is_a_verdict = |failure: &&Failure| !never_comes || failure.message != NO_OTHER_ID_TOKEN;
        let needs_a_login = |result: &TokenResult| {
            result
                .as_ref()
                .err()
                .filter(is_a_verdict)
                .is_some_and(|failure| failure.kind == Kind::LoginRequired)
        };
        if is_alive && self.results().any(needs_a_login) {
            self.break_with(Invariant::NoFalseVerdict, "a process asks for a login".to_owned());
        }
        let failure = self.results().filter_map(|result| result.as_ref().err()).find(is_a_verdict).cloned();
        if let Some(failure) = failure
            && is_smooth
            && !may_be_gone
        {
            self.break_with(Invariant::OnlyACrashLoses, format!("a process ends with {failure:?}"));
        }
    }

    /// The result of a process that starts after all others and forces a refresh.
    fn next_process(&self) -> (Result<u8, Kind>, Option<Broken>) {
        /// More transitions than one process makes alone.
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
        let demand = Demand::other_than(Unwanted::FirstSeen);
        // Longer than any claim lasts.
        let deadline = Duration::from_secs(3 * LONG_DEADLINE);
        let lock_use = self.scenario.lock_uses[0];
        let scenario = Rc::clone(&world.scenario);
        let process = Process::asking(&scenario, demand, lock_use, Role::InPlace, deadline, number);
        world.processes.push(Rc::new(Process { started_at: Some(world.clock), ..process }));
        world.change(number, |_| {});
        for _ in 0..MOST_MOVES {
            if world.processes[number].is_over() {
                break;
            }
            let next = match world.can_go(number) {
                true => super::world::Transition::Goes(number),
                false => super::world::Transition::TimePasses,
            };
            world = world.after(next);
        }
        let first_read = world.processes[number].first_read;
        let result = match &world.processes[number].progress {
            Progress::Ended(Ok(token)) if Some(generation(&token.session)) != first_read => {
                Ok(generation(&token.session))
            }
            // It got no newer token. The old one works for a while.
            Progress::Ended(Ok(_)) => Err(Kind::LoginRequired),
            Progress::Ended(Err(failure)) => Err(failure.kind),
            _ => {
                let invariant = Invariant::EverythingEnds;
                let how = format!("the next process does not end: {:?}", world.clock);
                world.broken = Some(Broken { invariant, how });
                Err(Kind::Defect)
            }
        };
        (result, world.broken)
    }
}
