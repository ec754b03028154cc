//! A world is a value: processes, the store, the lock, the server and the clock at one moment, and what may happen next.

use super::commands::{CommandProgress, RunningCommand};
use super::invariants::{Broken, Excuse};
use super::parts::{
    Beside, Kept, at_revision, digest, digest_of, document, id_token, session, stored_generation,
};
use super::scenario::{
    Budget, Command, CommandRun, Demanded, Lock, Presences, Protection, SUSPENSION, Scenario,
};
use super::server::Authorizations;
use crate::grant::Document;
use crate::protocol::token::Answer;
use crate::session::attempt::{Attempt, AttemptRecord, Owner, Presence};
use crate::session::{
    Demand, Event, LockMode, LockUse, Machine, Now, Revision, Role, Settings, Step, Stored, TokenResult,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::rc::Rc;
use std::time::Duration;

pub(super) const START: i64 = 1_800_000_000;
/// The first generation of a new login. The stored session has generation 0 at the beginning.
pub(super) const LOGIN: u8 = 50;

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    Goes(usize),
    Crashes(usize),
    LosesItsRequest(usize),
    LosesItsAnswer(usize),
    FailsToReplace(usize),
    /// The store does not say whether it replaced.
    HearsNothingOfTheReplacement {
        by: usize,
        is_done: bool,
        is_kept: bool,
    },
    /// Another program gets the identifier of a process that was killed.
    IdentifierIsReused(usize),
    CommandGoes(usize),
    KillsCommand(usize),
    TimePasses,
    AllAreSuspended,
}

/// The name of a record: a digest of the refresh token, and a number.
pub(super) type Name = (String, u64);

/// What a process does next. A step that a driver executes in several calls has several parts here.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    Begins(Step),
    HasReadTheRecords(Vec<AttemptRecord>),
    /// It has listed what lies beside the document, and is about to create its record.
    Claims {
        attempt: Attempt,
        number: u64,
        exclusive: bool,
        expected: Revision,
        outdated: Vec<u64>,
        listed: Vec<Name>,
    },
    /// Its record exists. It removes the outdated files of its list.
    SweepsTheOutdated {
        number: u64,
        key: String,
        expected: Revision,
        outdated: Vec<u64>,
        listed: Vec<Name>,
    },
    /// The server has decided.
    Receives(Answer),
    /// The complete document is in the file beside the record. `then` is the event after it is in place.
    Compares {
        beside: Name,
        expected: Revision,
        then: Box<Event>,
    },
    /// The store held what was expected when it was compared.
    Renames {
        beside: Name,
        expected: Revision,
        then: Box<Event>,
    },
    /// A store that compares and replaces in one step, which also removes the records up to `last`.
    Swaps {
        last: Name,
        document: Document,
        expected: Revision,
        then: Box<Event>,
    },
    /// It removes the records of the same refresh token up to `last`.
    Sweeps {
        last: Name,
        then: Box<Event>,
    },
    WaitsForTheLock {
        queues: bool,
        until: Duration,
    },
    /// A caller that handed its lock over.
    WaitsForItsWorker {
        worker: usize,
        until: Duration,
    },
    Rests,
    Ended(TokenResult),
    Killed,
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub machine: Machine,
    pub progress: Progress,
    pub deadline: Duration,
    pub started_at: Option<Duration>,
    /// It does nothing before this time.
    pub wakes_at: Duration,
    /// For how long it could have gone on and did not. The bounds do not count this time.
    pub late: Duration,
    /// The generation that it read first.
    pub first_read: Option<u8>,
    /// The revision that it read last.
    pub seen: Option<Revision>,
    /// The newest generation that was stored when it read last.
    pub newest_when_read: Option<u8>,
    /// The generation that the server gave it last.
    pub given: Option<u8>,
    /// It was granted the lock and has not handed it on. Locks that do not exclude are granted to several processes.
    pub has_guard: bool,
    /// It has an open file with room for its answer.
    pub has_room: bool,
    /// When its claim ends, by the wall clock.
    pub until: Option<i64>,
    /// Whether its claim ended while it ran.
    pub is_past_until: bool,
    /// It was killed before its answer was durable, or an answer to it was lost: its refresh token may be sent again.
    pub has_lost_an_answer: bool,
    /// The generation of the refresh token that the server refused last: it may be sent once more.
    pub refused: Option<u8>,
    /// A digest of all this; 0 after a change.
    pub fingerprint: u128,
}

/// The process that may hold the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    Process(usize),
    Command(usize),
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub scenario: Rc<Scenario>,
    pub budget: Budget,
    pub clock: Duration,
    pub document: Option<Rc<Stored>>,
    /// What the store holds that a migration goes to. It compares and swaps.
    pub target: Option<Rc<Stored>>,
    pub records: BTreeMap<Name, Rc<Kept<Attempt>>>,
    pub answers: BTreeMap<Name, Rc<Kept<Beside>>>,
    /// The holders of the lock: one at most, unless the lock does not exclude other processes.
    pub held_by: BTreeSet<Party>,
    pub processes: Vec<Rc<Process>>,
    pub commands: Vec<Rc<RunningCommand>>,
    pub server: Authorizations,
    /// Each request: the generation of its refresh token, and the process that sent it.
    pub sends: Vec<(u8, usize)>,
    /// The processes that were waiting when an attempt failed. They send nothing.
    pub must_share: BTreeSet<usize>,
    /// The processes that have ended, and another program has the identifier now.
    pub reused: BTreeSet<usize>,
    /// The newest generation that was ever stored.
    pub newest: u8,
    pub is_logged_out: bool,
    /// A logout has ended, and said that nothing is left.
    pub has_logged_out: bool,
    /// A logout has ended, and said that another login is left.
    pub has_left_a_login: bool,
    /// A login has replaced a document.
    pub has_replaced: bool,
    /// Why the session may be lost.
    pub excuses: BTreeSet<Excuse>,
    pub broken: Option<Broken>,
}

// ---- what may happen, and when ----

impl World {
    pub(super) fn new(scenario: &Rc<Scenario>) -> Self {
        let processes = 0..scenario.lock_uses.len();
        let mut first = session(0, START + scenario.left);
        first.id_token = (scenario.demanded != Demanded::AccessToken).then(|| id_token(START));
        Self {
            budget: scenario.budget,
            clock: Duration::ZERO,
            document: Some(at_revision(document(scenario, first))),
            target: None,
            records: BTreeMap::new(),
            answers: BTreeMap::new(),
            held_by: BTreeSet::new(),
            processes: processes.map(|number| Rc::new(Process::start(scenario, number))).collect(),
            commands: scenario.commands.iter().map(|run| Rc::new(RunningCommand::new(*run))).collect(),
            server: Authorizations::first(scenario.server),
            sends: Vec::new(),
            must_share: BTreeSet::new(),
            reused: BTreeSet::new(),
            newest: 0,
            is_logged_out: false,
            has_logged_out: false,
            has_left_a_login: false,
            has_replaced: false,
            excuses: BTreeSet::new(),
            broken: None,
            scenario: Rc::clone(scenario),
        }
    }

    pub(super) fn wall(&self) -> i64 {
        START + i64::try_from(self.clock.as_secs()).unwrap()
    }

    /// Identifies this world.
    pub(super) fn key(&mut self) -> u128 {
        let mut bytes = Vec::with_capacity(1024);
        for process in &mut self.processes {
            if process.fingerprint == 0 {
                Rc::make_mut(process).fingerprint = digest(process);
            }
            bytes.extend_from_slice(&process.fingerprint.to_le_bytes());
        }
        for command in &mut self.commands {
            if command.fingerprint == 0 {
                Rc::make_mut(command).fingerprint = digest(command);
            }
            bytes.extend_from_slice(&command.fingerprint.to_le_bytes());
        }
        self.put_store(&mut bytes);
        let rest = (self.budget, &self.sends, &self.must_share, &self.excuses, &self.broken);
        bytes.extend_from_slice(format!("{rest:?}").as_bytes());
        digest_of(&bytes)
    }

    /// Identifies what a process that starts now can find.
    pub(super) fn key_of_the_rest(&self) -> u128 {
        let mut bytes = Vec::with_capacity(512);
        self.put_store(&mut bytes);
        let rest =
            (self.processes.iter().map(|process| process.is_over()).collect::<Vec<_>>(), &self.excuses);
        bytes.extend_from_slice(format!("{rest:?}").as_bytes());
        digest_of(&bytes)
    }

    fn put_store(&self, bytes: &mut Vec<u8>) {
        let records = self.records.iter().map(|(name, record)| (0, name, record.fingerprint));
        let answers = self.answers.iter().map(|(name, answer)| (1, name, answer.fingerprint));
        for (kind, (key, number), fingerprint) in records.chain(answers) {
            bytes.push(kind);
            bytes.extend_from_slice(key.as_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&fingerprint.to_le_bytes());
        }
        let revision = self.document.as_ref().map(|stored| &stored.revision);
        let rest = (
            revision,
            self.target.as_ref().map(|stored| &stored.revision),
            (self.has_logged_out, self.has_left_a_login, self.has_replaced),
            &self.held_by,
            self.clock,
            &self.server,
            &self.reused,
            self.newest,
            self.is_logged_out,
        );
        bytes.extend_from_slice(format!("{rest:?}").as_bytes());
    }

    pub(super) fn transitions(&self) -> Vec<Transition> {
        let mut moves = Vec::new();
        let mut can_anybody_go = false;
        for (number, process) in self.processes.iter().enumerate() {
            if self.can_go(number) {
                can_anybody_go = true;
                moves.push(Transition::Goes(number));
                moves.extend(self.mishaps(number));
            }
            if self.budget.crashes > 0 && !process.is_over() && process.started_at.is_some() {
                moves.push(Transition::Crashes(number));
            }
            if self.budget.reused_identifiers > 0
                && matches!(process.progress, Progress::Killed)
                && !self.reused.contains(&number)
            {
                moves.push(Transition::IdentifierIsReused(number));
            }
        }
        for number in (0..self.commands.len()).filter(|number| self.can_command_go(*number)) {
            can_anybody_go = true;
            moves.push(Transition::CommandGoes(number));
        }
        for (number, command) in self.commands.iter().enumerate() {
            if self.budget.killed_commands > 0
                && !command.is_over()
                && command.progress != CommandProgress::Enters
            {
                moves.push(Transition::KillsCommand(number));
            }
        }
        if self.next_instant(can_anybody_go).is_some() && (self.budget.delays > 0 || !can_anybody_go) {
            moves.push(Transition::TimePasses);
        }
        if self.budget.suspensions > 0 && can_anybody_go {
            moves.push(Transition::AllAreSuspended);
        }
        moves
    }

    fn mishaps(&self, number: usize) -> Vec<Transition> {
        let budget = &self.budget;
        let mishap = match &self.processes[number].progress {
            Progress::Begins(Step::Spend { .. }) if budget.lost_requests > 0 => {
                Some(Transition::LosesItsRequest(number))
            }
            Progress::Receives(_) if budget.lost_answers > 0 => Some(Transition::LosesItsAnswer(number)),
            Progress::Renames { .. } | Progress::Swaps { .. } if budget.failed_replacements > 0 => {
                Some(Transition::FailsToReplace(number))
            }
            Progress::Swaps { .. } if budget.unanswered_replacements > 0 => {
                let kinds = [(true, true), (true, false), (false, false)];
                return kinds
                    .map(|(is_done, is_kept)| Transition::HearsNothingOfTheReplacement {
                        by: number,
                        is_done,
                        is_kept,
                    })
                    .into();
            }
            _ => None,
        };
        mishap.into_iter().collect()
    }

    /// Of processes that are alike, the first one starts first.
    fn may_start(&self, number: usize) -> bool {
        let kind = |other: usize| (self.scenario.lock_uses[other], self.scenario.deadlines[other]);
        let has_started = |other: usize| {
            let process = &self.processes[other];
            process.started_at.is_some() || process.is_over()
        };
        let is_too_early = self.scenario.others_start_late
            && number > 0
            && !self.processes[0].is_over()
            && self.budget.suspensions == self.scenario.budget.suspensions
            && self.budget.crashes == self.scenario.budget.crashes;
        if is_too_early && !has_started(number) {
            return false;
        }
        has_started(number) || (0..number).all(|other| kind(other) != kind(number) || has_started(other))
    }

    pub(super) fn can_go(&self, number: usize) -> bool {
        let process = &self.processes[number];
        !process.is_over()
            && process.wakes_at <= self.clock
            && self.may_start(number)
            && match process.progress {
                Progress::WaitsForTheLock { until, .. } => {
                    self.held_by.is_empty() || until <= self.clock || self.has_changed_for(process)
                }
                Progress::WaitsForItsWorker { worker, until } => {
                    self.processes[worker].is_over() || until <= self.clock
                }
                _ => true,
            }
    }

    /// Whether the document has changed since the process read it: a process that waits for the lock looks now and then.
    pub(super) fn has_changed_for(&self, process: &Process) -> bool {
        self.document.as_ref().map(|stored| &stored.revision) != process.seen.as_ref()
    }

    /// When the next pause ends. If no process can go on, it can also be the deadline of a wait for the lock, or the end of
    /// a claim that a command waits for.
    fn next_instant(&self, can_anybody_go: bool) -> Option<Duration> {
        let waiting =
            (0..self.processes.len()).filter(|number| !self.can_go(*number) && self.may_start(*number));
        let waiting = waiting.map(|number| &self.processes[number]).filter(|process| !process.is_over());
        let instant = |process: &Rc<Process>| match process.progress {
            Progress::WaitsForTheLock { until, .. } | Progress::WaitsForItsWorker { until, .. } => {
                (!can_anybody_go).then_some(until.max(process.wakes_at))
            }
            _ => Some(process.wakes_at),
        };
        let first = waiting.filter_map(instant).min();
        match can_anybody_go {
            true => first,
            false => first.into_iter().chain(self.commands_wait_until()).min(),
        }
    }

    pub(super) fn after(&self, next: Transition) -> Self {
        let mut world = self.clone();
        match next {
            Transition::Goes(number) => world.go(number),
            Transition::CommandGoes(number) => world.command_goes(number),
            Transition::KillsCommand(number) => {
                world.budget.killed_commands -= 1;
                world.kill_command(number);
            }
            Transition::Crashes(number) => {
                world.budget.crashes -= 1;
                world.crash(number);
            }
            Transition::LosesItsRequest(number) => {
                world.budget.lost_requests -= 1;
                world.lose("request", number);
            }
            Transition::LosesItsAnswer(number) => {
                world.budget.lost_answers -= 1;
                world.lose("answer", number);
            }
            Transition::FailsToReplace(number) => {
                world.budget.failed_replacements -= 1;
                world.fail_to_replace(number);
            }
            Transition::HearsNothingOfTheReplacement { by, is_done, is_kept } => {
                world.budget.unanswered_replacements -= 1;
                world.hear_nothing(by, is_done, is_kept);
            }
            Transition::IdentifierIsReused(number) => {
                world.budget.reused_identifiers -= 1;
                world.reused.insert(number);
            }
            Transition::TimePasses => {
                let can_anybody_go = (0..world.processes.len()).any(|number| world.can_go(number))
                    || (0..world.commands.len()).any(|number| world.can_command_go(number));
                if can_anybody_go {
                    world.budget.delays -= 1;
                }
                let instant = world.next_instant(can_anybody_go).unwrap();
                world.pass(instant);
            }
            Transition::AllAreSuspended => {
                world.budget.suspensions -= 1;
                world.pass(world.clock + Duration::from_secs(SUSPENSION));
            }
        }
        world
    }

    /// Time passes. A process that could have gone on meanwhile is late.
    fn pass(&mut self, instant: Duration) {
        for number in 0..self.processes.len() {
            let process = &self.processes[number];
            if process.is_over() || process.started_at.is_none() {
                continue;
            }
            let due = match process.progress {
                _ if self.can_go(number) => self.clock,
                Progress::WaitsForTheLock { until, .. } | Progress::WaitsForItsWorker { until, .. } => until,
                _ => process.wakes_at,
            };
            let late = instant.saturating_sub(due.max(self.clock));
            if !late.is_zero() {
                self.change(number, |process| process.late += late);
            }
        }
        self.clock = instant;
        let wall = self.wall();
        for number in 0..self.processes.len() {
            let process = &self.processes[number];
            if !process.is_over()
                && !process.is_past_until
                && process.until.is_some_and(|until| until <= wall)
            {
                self.change(number, |process| process.is_past_until = true);
            }
        }
    }

    pub(super) fn change(&mut self, number: usize, change: impl FnOnce(&mut Process)) {
        let process = Rc::make_mut(&mut self.processes[number]);
        change(process);
        process.fingerprint = 0;
    }

    /// Gives the event to the machine, and takes its next step.
    pub(super) fn feed(&mut self, number: usize, event: Event) {
        let (clock, wall) = (self.clock, self.wall());
        self.change(number, |process| {
            let started_at = *process.started_at.get_or_insert(clock);
            let step = process.machine.next(event, Now { wall, elapsed: clock - started_at });
            process.progress = match step {
                Step::Finish(result) => Progress::Ended(result),
                Step::Pause(pause) => {
                    process.wakes_at = clock + pause;
                    Progress::Rests
                }
                Step::Lock(mode @ (LockMode::AwaitRelease | LockMode::Queue), at_most) => {
                    Progress::WaitsForTheLock { queues: mode == LockMode::Queue, until: clock + at_most }
                }
                step => Progress::Begins(step),
            };
        });
        self.check_bounds(number);
        if let Progress::Ended(result) = self.processes[number].progress.clone() {
            self.held_by.remove(&Party::Process(number));
            self.check_result(number, &result);
        }
    }

    // ---- what processes can read ----

    pub(super) fn protection(&self) -> Protection {
        self.scenario.protection()
    }

    pub(super) fn has_locks(&self) -> bool {
        self.scenario.lock == Lock::Excludes
    }

    pub(super) fn process_of(&self, owner: &Owner) -> &Process {
        &self.processes[usize::try_from(owner.pid).unwrap()]
    }

    pub(super) fn presence(&self, owner: &Owner) -> Presence {
        let is_reused = || self.reused.contains(&usize::try_from(owner.pid).unwrap());
        match self.scenario.presences {
            Presences::Unknown => Presence::Unknown,
            _ if Self::is_command(owner) => match self.command_of(owner).is_over() {
                true => Presence::Gone,
                false => Presence::Alive,
            },
            Presences::Identifiers if is_reused() => Presence::Alive,
            _ if self.process_of(owner).is_over() => Presence::Gone,
            _ => Presence::Alive,
        }
    }

    /// Whether two processes see the same files. A store that swaps keeps answers that wait as files of one machine.
    pub(super) fn share_a_machine(&self, one: usize, other: usize) -> bool {
        !self.scenario.swaps || self.scenario.presences != Presences::Unknown || one == other
    }

    /// The records on that refresh token as `reader` sees them. `None`: as a command sees them.
    pub(super) fn attempt_records(&self, key: &str, reader: Option<usize>) -> Vec<AttemptRecord> {
        let records = || self.records.iter().filter(|((about, _), _)| about == key);
        let has_ended = records().any(|(_, record)| record.what.is_over());
        let must_know = reader.is_none_or(|number| self.must_know_owners(number, has_ended));
        let record = |(name, record): (&Name, &Rc<Kept<Attempt>>)| {
            let attempt = record.what.clone();
            let owner = match attempt.is_over() || !must_know {
                true => Presence::Unknown,
                false => self.presence(&attempt.by),
            };
            let is_here = |by| reader.is_none_or(|reader| self.share_a_machine(by, reader));
            let answer = self.answers.get(name).filter(|answer| is_here(answer.what.by));
            let has_answer = answer
                .and_then(|answer| answer.what.document.as_ref())
                .is_some_and(|document| document.session.is_some());
            AttemptRecord { number: name.1, attempt, owner, has_answer }
        };
        records().map(record).collect()
    }

    /// Whether a look of that process finds out which owners still run, as in `driver`.
    fn must_know_owners(&self, number: usize, has_ended: bool) -> bool {
        let process = &self.processes[number];
        let is_outside = !process.has_guard && process.until.is_none();
        process.machine.level().must_know_owners(is_outside, has_ended)
    }

    /// The complete document beside a record.
    pub(super) fn complete(&self, name: &Name) -> Option<&Document> {
        self.answers.get(name)?.what.document.as_ref()
    }

    pub(super) fn stored_generation(&self) -> Option<u8> {
        self.document.as_ref().and_then(|stored| stored_generation(&stored.document))
    }

    pub(super) fn results(&self) -> impl Iterator<Item = &TokenResult> {
        self.processes.iter().filter_map(|process| match &process.progress {
            Progress::Ended(result) => Some(result),
            _ => None,
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.processes.iter().all(|process| process.is_over())
            && self.commands.iter().all(|command| command.is_over())
    }

    pub(super) fn has_command(&self, command: Command) -> bool {
        self.scenario.commands.iter().any(|run: &CommandRun| run.command == command)
    }
}

impl Process {
    pub(super) fn start(scenario: &Scenario, number: usize) -> Self {
        let demand =
            Demand { token: scenario.demanded.kind(), min_ttl: 0, unwanted: scenario.unwanted.clone() };
        let role = if scenario.has_workers { Role::Caller } else { Role::InPlace };
        let deadline = Duration::from_secs(scenario.deadlines[number]);
        Self::asking(scenario, demand, scenario.lock_uses[number], role, deadline, number)
    }

    pub(super) fn asking(
        scenario: &Scenario,
        demand: Demand,
        lock_use: LockUse,
        role: Role,
        deadline: Duration,
        number: usize,
    ) -> Self {
        let (machine, step) = Machine::start(Settings {
            profile: "default".to_owned(),
            demand,
            lock_use,
            swaps: scenario.swaps,
            role,
            deadline,
            owner: Owner { pid: u32::try_from(number).unwrap(), ..Owner::default() },
            nonce: number.to_string(),
        });
        Self {
            machine,
            progress: Progress::Begins(step),
            deadline,
            started_at: None,
            wakes_at: Duration::ZERO,
            late: Duration::ZERO,
            first_read: None,
            seen: None,
            newest_when_read: None,
            given: None,
            has_guard: false,
            has_room: false,
            until: None,
            is_past_until: false,
            has_lost_an_answer: false,
            refused: None,
            fingerprint: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.progress, Progress::Ended(_) | Progress::Killed)
    }
}

/// The transitions that lead to a world, for the message of a failed search.
pub(super) fn story(scenario: &Rc<Scenario>, moves: &[Transition]) -> String {
    let mut world = World::new(scenario);
    let mut text = String::new();
    for next in moves {
        let progress = match next {
            Transition::Goes(number) | Transition::Crashes(number) => {
                format!("{:?}", world.processes[*number].progress)
            }
            Transition::CommandGoes(number) | Transition::KillsCommand(number) => {
                format!("{:?}", world.commands[*number].progress)
            }
            _ => String::new(),
        };
        let progress: String = progress.chars().take(160).collect();
        writeln!(text, "{:>6} ms {next:?} {progress}", world.clock.as_millis()).unwrap();
        world = world.after(*next);
    }
    for process in &world.processes {
        writeln!(text, "{:?}", process.progress).unwrap();
    }
    text
}
