//! A world is a value: processes, the store, the lock, the server and the clock at one moment, and what may happen next.

use super::invariants::{Broken, Excuse};
use super::parts::{Beside, Kept, at_revision, digest, digest_of, document, session, stored_generation};
use super::scenario::{AN_AGE, Budget, Job, Lock, Presences, Protection, Scenario, Visit};
use super::server::Authorizations;
use super::visitor::{Visiting, Visitor};
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
/// The generation that a new login begins with; the one before it began with 0.
pub(super) const LOGIN: u8 = 50;

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Goes(usize),
    Crashes(usize),
    LosesItsRequest(usize),
    LosesItsAnswer(usize),
    FailsToReplace(usize),
    /// The identifier of one who was killed is another program's now.
    IdentifierIsReused(usize),
    Visits(usize),
    KillsVisitor(usize),
    TimePasses,
    AnAgePasses,
}

/// The name of a record: a digest of the refresh token, and a number.
pub(super) type Name = (String, u64);

/// How far a process is with its step: what a driver does in several calls is done in several moves.
#[expect(clippy::large_enum_variant, reason = "most of what a process does is to begin a step")]
#[derive(Clone, Debug)]
pub(super) enum Doing {
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
    /// Its record stands; what is outdated of the list goes.
    SweepsTheOutdated {
        number: u64,
        key: String,
        expected: Revision,
        outdated: Vec<u64>,
        listed: Vec<Name>,
    },
    /// The server has decided.
    Receives(Answer),
    /// The complete document lies beside the record. `then` is what follows when it is in place.
    Compares {
        beside: Name,
        expected: Revision,
        then: Box<Event>,
    },
    /// The store still held what was expected.
    Renames {
        beside: Name,
        expected: Revision,
        then: Box<Event>,
    },
    /// Records of the same refresh token go, up to that one.
    Sweeps {
        last: Name,
        then: Box<Event>,
    },
    WaitsForTheLock {
        queues: bool,
        until: Duration,
    },
    /// The worker holds the lock, where there is one: its caller handed it over.
    WaitsForItsWorker {
        worker: usize,
        until: Duration,
    },
    Rests,
    HasEnded(TokenResult),
    WasKilled,
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub machine: Machine,
    pub doing: Doing,
    pub deadline: Duration,
    pub started_at: Option<Duration>,
    /// It does nothing before.
    pub wakes_at: Duration,
    /// For how long it could have gone on and did not, since it started.
    pub late: Duration,
    /// The generation that it read first.
    pub first_read: Option<u8>,
    /// The document as it was read last.
    pub seen: Option<Revision>,
    /// The newest generation that had been stored when it read last.
    pub newest_when_read: Option<u8>,
    /// The generation that the server gave it last.
    pub given: Option<u8>,
    /// It has the file open in which room was made for its answer.
    pub has_room: bool,
    /// Its claim binds others up to then, by the wall clock.
    pub until: Option<i64>,
    /// That time passed before it had ended.
    pub has_overslept: bool,
    /// It was killed before its answer was durable, or an answer to it was lost: its refresh token may be sent again.
    pub has_lost_an_answer: bool,
    /// The generation whose refresh token was refused to it last: it may be sent once more.
    pub refused: Option<u8>,
    /// A digest of all this.
    pub fingerprint: u128,
}

/// Who may hold the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    Process(usize),
    Visitor(usize),
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub scenario: Rc<Scenario>,
    pub budget: Budget,
    pub clock: Duration,
    pub document: Option<Rc<Stored>>,
    /// What the other store of a move holds. It compares and swaps.
    pub there: Option<Rc<Stored>>,
    pub records: BTreeMap<Name, Rc<Kept<Attempt>>>,
    pub answers: BTreeMap<Name, Rc<Kept<Beside>>>,
    /// The holders of the lock: one at most, unless the lock does not exclude other processes.
    pub held_by: BTreeSet<Party>,
    pub processes: Vec<Rc<Process>>,
    pub visitors: Vec<Visitor>,
    pub server: Authorizations,
    /// Which generation's refresh token the server saw, and from whom.
    pub sends: Vec<(u8, usize)>,
    /// Who had begun to wait when an attempt failed: he sends nothing.
    pub must_share: BTreeSet<usize>,
    /// Whose identifiers are other programs' now.
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
        Self {
            budget: scenario.budget,
            clock: Duration::ZERO,
            document: Some(at_revision(document(scenario, session(0, START + scenario.left)))),
            there: None,
            records: BTreeMap::new(),
            answers: BTreeMap::new(),
            held_by: BTreeSet::new(),
            processes: processes.map(|number| Rc::new(Process::start(scenario, number))).collect(),
            visitors: scenario.visits.iter().map(|visit| Visitor::arrives(*visit)).collect(),
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

    /// What tells this world from others.
    pub(super) fn key(&self) -> u128 {
        let mut bytes = Vec::with_capacity(1024);
        for process in &self.processes {
            bytes.extend_from_slice(&process.fingerprint.to_le_bytes());
        }
        self.put_store(&mut bytes);
        let rest = (&self.visitors, self.budget, &self.sends, &self.must_share, &self.excuses, &self.broken);
        bytes.extend_from_slice(format!("{rest:?}").as_bytes());
        digest_of(&bytes)
    }

    /// What one who comes later can meet.
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
            self.there.as_ref().map(|stored| &stored.revision),
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

    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut can_anybody_go = false;
        for (number, process) in self.processes.iter().enumerate() {
            if self.can_go(number) {
                can_anybody_go = true;
                moves.push(Move::Goes(number));
                moves.extend(self.mishaps(number));
            }
            if self.budget.crashes > 0 && !process.is_over() && process.started_at.is_some() {
                moves.push(Move::Crashes(number));
            }
            if self.budget.reused_identifiers > 0
                && matches!(process.doing, Doing::WasKilled)
                && !self.reused.contains(&number)
            {
                moves.push(Move::IdentifierIsReused(number));
            }
        }
        for number in (0..self.visitors.len()).filter(|number| self.can_visit(*number)) {
            can_anybody_go = true;
            moves.push(Move::Visits(number));
        }
        for (number, visitor) in self.visitors.iter().enumerate() {
            if self.budget.killed_visitors > 0 && !visitor.is_over() && visitor.doing != Visiting::Enters {
                moves.push(Move::KillsVisitor(number));
            }
        }
        if self.next_instant(can_anybody_go).is_some() && (self.budget.hastes > 0 || !can_anybody_go) {
            moves.push(Move::TimePasses);
        }
        if self.budget.ages > 0 && can_anybody_go {
            moves.push(Move::AnAgePasses);
        }
        moves
    }

    fn mishaps(&self, number: usize) -> Vec<Move> {
        let budget = &self.budget;
        let mishap = match &self.processes[number].doing {
            Doing::Begins(Step::Spend { .. }) if budget.lost_requests > 0 => {
                Some(Move::LosesItsRequest(number))
            }
            Doing::Receives(_) if budget.lost_answers > 0 => Some(Move::LosesItsAnswer(number)),
            Doing::Renames { .. } if budget.failed_replacements > 0 => Some(Move::FailsToReplace(number)),
            _ => None,
        };
        mishap.into_iter().collect()
    }

    /// Of those who differ in nothing and have not started, the first one starts first.
    fn may_start(&self, number: usize) -> bool {
        let kind = |other: usize| (self.scenario.lock_uses[other], self.scenario.deadlines[other]);
        let has_started = |other: usize| {
            let process = &self.processes[other];
            process.started_at.is_some() || process.is_over()
        };
        let is_too_early = self.scenario.do_others_come_later
            && number > 0
            && !self.processes[0].is_over()
            && self.budget.ages == self.scenario.budget.ages
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
            && match process.doing {
                Doing::WaitsForTheLock { until, .. } => {
                    self.held_by.is_empty() || until <= self.clock || self.has_changed_for(process)
                }
                Doing::WaitsForItsWorker { worker, until } => {
                    self.processes[worker].is_over() || until <= self.clock
                }
                _ => true,
            }
    }

    /// Who waits for the lock glances at the document now and then.
    pub(super) fn has_changed_for(&self, process: &Process) -> bool {
        self.document.as_ref().map(|stored| &stored.revision) != process.seen.as_ref()
    }

    /// When the next pause ends; where nobody can go on, a wait for the lock ends at its deadline too, and a
    /// person's wait with the claims that he waits for.
    fn next_instant(&self, can_anybody_go: bool) -> Option<Duration> {
        let waiting =
            (0..self.processes.len()).filter(|number| !self.can_go(*number) && self.may_start(*number));
        let waiting = waiting.map(|number| &self.processes[number]).filter(|process| !process.is_over());
        let instant = |process: &Rc<Process>| match process.doing {
            Doing::WaitsForTheLock { until, .. } | Doing::WaitsForItsWorker { until, .. } => {
                (!can_anybody_go).then_some(until.max(process.wakes_at))
            }
            _ => Some(process.wakes_at),
        };
        let first = waiting.filter_map(instant).min();
        match can_anybody_go {
            true => first,
            false => first.into_iter().chain(self.visitors_wait_until()).min(),
        }
    }

    pub(super) fn after(&self, next: Move) -> Self {
        let mut world = self.clone();
        match next {
            Move::Goes(number) => world.go(number),
            Move::Visits(number) => world.visit(number),
            Move::KillsVisitor(number) => {
                world.budget.killed_visitors -= 1;
                world.crash_visitor(number);
            }
            Move::Crashes(number) => {
                world.budget.crashes -= 1;
                world.crash(number);
            }
            Move::LosesItsRequest(number) => {
                world.budget.lost_requests -= 1;
                world.lose("request", number);
            }
            Move::LosesItsAnswer(number) => {
                world.budget.lost_answers -= 1;
                world.lose("answer", number);
            }
            Move::FailsToReplace(number) => {
                world.budget.failed_replacements -= 1;
                world.fail_to_replace(number);
            }
            Move::IdentifierIsReused(number) => {
                world.budget.reused_identifiers -= 1;
                world.reused.insert(number);
            }
            Move::TimePasses => {
                let can_anybody_go = (0..world.processes.len()).any(|number| world.can_go(number))
                    || (0..world.visitors.len()).any(|number| world.can_visit(number));
                if can_anybody_go {
                    world.budget.hastes -= 1;
                }
                let instant = world.next_instant(can_anybody_go).unwrap();
                world.pass(instant);
            }
            Move::AnAgePasses => {
                world.budget.ages -= 1;
                world.pass(world.clock + Duration::from_secs(AN_AGE));
            }
        }
        world
    }

    /// Time passes. Who could have gone on, or would have woken on the way, is late.
    fn pass(&mut self, instant: Duration) {
        for number in 0..self.processes.len() {
            let process = &self.processes[number];
            if process.is_over() || process.started_at.is_none() {
                continue;
            }
            let due = match process.doing {
                _ if self.can_go(number) => self.clock,
                Doing::WaitsForTheLock { until, .. } | Doing::WaitsForItsWorker { until, .. } => until,
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
                && !process.has_overslept
                && process.until.is_some_and(|until| until <= wall)
            {
                self.change(number, |process| process.has_overslept = true);
            }
        }
    }

    pub(super) fn change(&mut self, number: usize, change: impl FnOnce(&mut Process)) {
        let process = Rc::make_mut(&mut self.processes[number]);
        change(process);
        process.fingerprint = 0;
        process.fingerprint = digest(process);
    }

    /// Asks the machine what follows.
    pub(super) fn tell(&mut self, number: usize, event: Event) {
        let (clock, wall) = (self.clock, self.wall());
        self.change(number, |process| {
            let started_at = *process.started_at.get_or_insert(clock);
            let step = process.machine.next(event, Now { wall, elapsed: clock - started_at });
            process.doing = match step {
                Step::Finish(result) => Doing::HasEnded(result),
                Step::Pause(pause) => {
                    process.wakes_at = clock + pause;
                    Doing::Rests
                }
                Step::Lock(mode @ (LockMode::AwaitRelease | LockMode::Queue), at_most) => {
                    Doing::WaitsForTheLock { queues: mode == LockMode::Queue, until: clock + at_most }
                }
                step => Doing::Begins(step),
            };
        });
        self.check_bounds(number);
        if let Doing::HasEnded(result) = self.processes[number].doing.clone() {
            self.held_by.remove(&Party::Process(number));
            self.check_result(number, &result);
        }
    }

    // ---- what others can tell of it ----

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
            _ if Self::is_visitor(owner) => match self.visitor_of(owner).is_over() {
                true => Presence::Gone,
                false => Presence::Alive,
            },
            Presences::Identifiers if is_reused() => Presence::Alive,
            _ if self.process_of(owner).is_over() => Presence::Gone,
            _ => Presence::Alive,
        }
    }

    pub(super) fn attempt_records(&self, key: &str) -> Vec<AttemptRecord> {
        let records = self.records.iter().filter(|((about, _), _)| about == key);
        let record = |(name, record): (&Name, &Rc<Kept<Attempt>>)| {
            let attempt = record.what.clone();
            let owner = match attempt.is_over() {
                true => Presence::Unknown,
                false => self.presence(&attempt.by),
            };
            let has_answer = self.complete(name).is_some_and(|document| document.session.is_some());
            AttemptRecord { number: name.1, attempt, owner, has_answer }
        };
        records.map(record).collect()
    }

    /// The complete document beside a record.
    pub(super) fn complete(&self, name: &Name) -> Option<&Document> {
        self.answers.get(name)?.what.document.as_ref()
    }

    pub(super) fn stored_generation(&self) -> Option<u8> {
        self.document.as_ref().and_then(|stored| stored_generation(&stored.document))
    }

    pub(super) fn results(&self) -> impl Iterator<Item = &TokenResult> {
        self.processes.iter().filter_map(|process| match &process.doing {
            Doing::HasEnded(result) => Some(result),
            _ => None,
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.processes.iter().all(|process| process.is_over()) && self.visitors.iter().all(Visitor::is_over)
    }

    pub(super) fn has_visit(&self, job: Job) -> bool {
        self.scenario.visits.iter().any(|visit: &Visit| visit.job == job)
    }
}

impl Process {
    pub(super) fn start(scenario: &Scenario, number: usize) -> Self {
        let demand = Demand { min_ttl: 0, unwanted: scenario.unwanted.clone() };
        let role = if scenario.has_workers { Role::Caller } else { Role::InPlace };
        let deadline = Duration::from_secs(scenario.deadlines[number]);
        Self::asking(demand, scenario.lock_uses[number], role, deadline, number)
    }

    pub(super) fn asking(
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
            swaps: false,
            role,
            deadline,
            owner: Owner { pid: u32::try_from(number).unwrap(), ..Owner::default() },
            nonce: number.to_string(),
        });
        Self {
            machine,
            doing: Doing::Begins(step),
            deadline,
            started_at: None,
            wakes_at: Duration::ZERO,
            late: Duration::ZERO,
            first_read: None,
            seen: None,
            newest_when_read: None,
            given: None,
            has_room: false,
            until: None,
            has_overslept: false,
            has_lost_an_answer: false,
            refused: None,
            fingerprint: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.doing, Doing::HasEnded(_) | Doing::WasKilled)
    }
}

/// The way to a world, for a person.
pub(super) fn story(scenario: &Rc<Scenario>, moves: &[Move]) -> String {
    let mut world = World::new(scenario);
    let mut told = String::new();
    for next in moves {
        let doing = match next {
            Move::Goes(number) | Move::Crashes(number) => format!("{:?}", world.processes[*number].doing),
            Move::Visits(number) | Move::KillsVisitor(number) => {
                format!("{:?}", world.visitors[*number].doing)
            }
            _ => String::new(),
        };
        let doing: String = doing.chars().take(160).collect();
        writeln!(told, "{:>6} ms {next:?} {doing}", world.clock.as_millis()).unwrap();
        world = world.after(*next);
    }
    for process in &world.processes {
        writeln!(told, "{:?}", process.doing).unwrap();
    }
    told
}
