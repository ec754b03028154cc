//! Every interleaving of a few real machines around one store, one lock and one authorization server.
//!
//! A world is a value. Each [`Move`] makes another world of it, and a depth-first search meets every world that
//! can be: at each point any process may go on by its smallest step, be killed, be paused past its `until`, or lose
//! an answer, as often as the scenario's [`Budget`] allows. What a driver does in several calls is several steps
//! here: the records are read before the document, a server decides before its answer arrives, an answer is
//! written beside the record before it becomes the document, and the records are swept after that.
//!
//! Time passes when nobody can go on, and a few times ([`Budget::hastes`]) although somebody could: a process may
//! be slower than another one's pauses, but not for ever.
//!
//! A session's `scope` is its generation, so that worlds can be told apart although secrets do not print.

use super::attempt::{Attempt, Outcome, Owner, Presence, Sighting};
use super::{
    Claiming, Demand, Event, LockUse, Locking, Machine, Now, Patience, Replacement, Result, Revision, Role,
    Settings, Step, Stored, Unwanted, View,
};
use crate::error::Kind;
use crate::grant::{Document, Secret, Session};
use crate::protocol::token::{Answer, TokenAnswer};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;
use std::time::Duration;

const START: i64 = 1_800_000_000;
/// A time in which processes do nothing: the claim of one with the deadline [`IMPATIENT`] is past its `until`
/// then, the claim of one with the deadline [`PATIENT`] is not. In seconds.
const AN_AGE: u64 = 45;
const IMPATIENT: u64 = 5;
const PATIENT: u64 = 60;
/// The generation that a new login begins with; the one before it began with 0.
const LOGIN: u8 = 50;

/// What the authorization server does about a refresh token that was spent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// It is refused.
    Rejects,
    /// It is refused, and all that came of the same login ends (RFC 9700 section 4.14.2).
    EndsTheFamily,
    /// The last one is answered once more as before.
    Grace,
    /// Refresh tokens stay as they are.
    DoesNotRotate,
    /// Nobody is answered but with "not now".
    Down,
}

/// What the advisory lock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Excludes,
    /// It is granted to everybody.
    Lies,
    Refuses,
}

/// How often what may happen.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    /// A process is killed.
    crashes: u8,
    /// Nobody does anything for an age.
    ages: u8,
    /// The server's answer is lost.
    lost_answers: u8,
    /// Time passes although somebody could go on.
    hastes: u8,
    logins: u8,
    logouts: u8,
}

#[derive(Clone, Debug)]
struct Scenario {
    /// One for each process.
    lock_uses: Vec<LockUse>,
    /// The deadline of each process, in seconds.
    deadlines: Vec<u64>,
    unwanted: Unwanted,
    server: Server,
    lock: Lock,
    /// Whether a process can tell that another one is gone.
    is_presence_known: bool,
    /// How long the stored access token lasts, in seconds.
    left: i64,
    budget: Budget,
}

impl Scenario {
    fn of(lock_uses: &[LockUse], server: Server) -> Self {
        let budget = Budget { hastes: 4, ..Budget::default() };
        Self {
            lock_uses: lock_uses.to_vec(),
            deadlines: vec![30; lock_uses.len()],
            unwanted: Unwanted::None,
            server,
            lock: Lock::Excludes,
            is_presence_known: true,
            left: 0,
            budget,
        }
    }

    /// Whether claims bind everybody: then a refresh token is spent by one process at a time.
    fn is_binding(&self) -> bool {
        !self.lock_uses.contains(&LockUse::Off)
    }
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Goes(usize),
    Crashes(usize),
    LosesItsAnswer(usize),
    TimePasses,
    AnAgePasses,
    SomebodyLogsIn,
    SomebodyLogsOut,
}

/// How far a process is with its step.
#[derive(Clone, Debug)]
enum Doing {
    Begins(Step),
    HasReadTheRecords(Vec<Sighting>),
    /// The server has decided.
    Receives(Answer),
    /// The new document lies beside the record.
    Replaces {
        expected: Revision,
        document: Document,
        attempt: (String, u64),
    },
    Sweeps {
        key: String,
        then: Event,
    },
    WaitsForTheLock {
        queues: bool,
        until: Duration,
    },
    Rests,
    HasEnded(Result),
    WasKilled,
}

#[derive(Clone, Debug)]
struct Process {
    machine: Machine,
    doing: Doing,
    started_at: Option<Duration>,
    first_read: Option<u8>,
    /// It does nothing before.
    wakes_at: Duration,
    /// It was killed or paused, or an answer to it was lost: a refresh token may be sent after it, or by it, again.
    is_excused: bool,
    /// A digest of all this.
    fingerprint: u64,
}

#[derive(Clone, Debug)]
struct Record {
    attempt: Attempt,
    answer: Option<Document>,
}

#[derive(Clone, Debug)]
struct World {
    scenario: Rc<Scenario>,
    budget: Budget,
    clock: Duration,
    document: Option<Rc<Stored>>,
    records: BTreeMap<(String, u64), Rc<Record>>,
    held_by: Option<usize>,
    processes: Vec<Rc<Process>>,
    /// The generations whose refresh tokens the server takes.
    valid: BTreeSet<u8>,
    /// The last generation that the server gave.
    issued: u8,
    /// Which generation's refresh token was sent, and by whom.
    sends: Vec<(u8, usize)>,
    /// Who had begun to wait when an attempt failed: he sends nothing.
    must_share: BTreeSet<usize>,
    /// The newest generation that was ever stored.
    newest: u8,
    /// A promise that did not hold.
    broken: Option<String>,
}

// ---- what the parts look like ----

fn session(generation: u8, expires_at: i64) -> Session {
    let session = json!({
        "access_token": format!("a{generation}"), "refresh_token": format!("r{generation}"),
        "obtained_at": expires_at - 3600, "expires_at": expires_at, "scope": generation.to_string(),
    });
    serde_json::from_value(session).unwrap()
}

fn stored(session: Option<Session>) -> Rc<Stored> {
    let document = json!({ "version": 1, "token_endpoint": "t", "client_id": "c", "session": session });
    at_revision(serde_json::from_value(document).unwrap())
}

/// As in the file store, equal documents have equal revisions.
fn at_revision(document: Document) -> Rc<Stored> {
    let revision = Revision(format!("{:x}", digest(&document)));
    Rc::new(Stored { document, revision })
}

fn generation(session: &Session) -> u8 {
    session.scope.as_deref().unwrap().parse().unwrap()
}

fn stored_generation(document: &Document) -> Option<u8> {
    document.session.as_ref().map(generation)
}

/// Hashes what is printed.
struct Digest(DefaultHasher);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// 64 bits: among a million worlds two are taken for one with a chance of one in ten million.
fn digest(what: &impl fmt::Debug) -> u64 {
    let mut digest = Digest(DefaultHasher::new());
    write!(digest, "{what:?}").unwrap();
    digest.0.finish()
}

// ---- what happens ----

impl World {
    fn new(scenario: Scenario) -> Self {
        let process = |(number, lock_use): (usize, &LockUse)| {
            let (machine, step) = Machine::start(Settings {
                profile: "default".to_owned(),
                demand: Demand { min_ttl: 0, unwanted: scenario.unwanted.clone() },
                lock_use: *lock_use,
                role: Role::InPlace,
                deadline: Duration::from_secs(scenario.deadlines[number]),
                owner: Owner { pid: u32::try_from(number).unwrap(), ..Owner::default() },
                nonce: number.to_string(),
            });
            let (doing, wakes_at) = (Doing::Begins(step), Duration::ZERO);
            let process = Process {
                machine,
                doing,
                started_at: None,
                first_read: None,
                wakes_at,
                is_excused: false,
                fingerprint: 0,
            };
            Rc::new(process)
        };
        Self {
            budget: scenario.budget,
            clock: Duration::ZERO,
            document: Some(stored(Some(session(0, START + scenario.left)))),
            records: BTreeMap::new(),
            held_by: None,
            processes: scenario.lock_uses.iter().enumerate().map(process).collect(),
            valid: BTreeSet::from([0]),
            issued: 0,
            sends: Vec::new(),
            must_share: BTreeSet::new(),
            newest: 0,
            broken: None,
            scenario: Rc::new(scenario),
        }
    }

    fn wall(&self) -> i64 {
        START + i64::try_from(self.clock.as_secs()).unwrap()
    }

    /// What tells this world from others.
    fn key(&self) -> u64 {
        let processes: Vec<u64> = self.processes.iter().map(|process| process.fingerprint).collect();
        let revision = self.document.as_ref().map(|stored| &stored.revision);
        let store = (revision, &self.records, self.held_by, self.newest, &self.broken);
        digest(&(
            processes,
            store,
            self.clock,
            self.budget,
            &self.valid,
            self.issued,
            &self.sends,
            &self.must_share,
        ))
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut can_anybody_go = false;
        for (number, process) in self.processes.iter().enumerate() {
            if process.is_over() {
                continue;
            }
            if self.can_go(process) {
                can_anybody_go = true;
                moves.push(Move::Goes(number));
                if self.budget.lost_answers > 0 && matches!(process.doing, Doing::Receives(_)) {
                    moves.push(Move::LosesItsAnswer(number));
                }
            }
            if self.budget.crashes > 0 && process.started_at.is_some() {
                moves.push(Move::Crashes(number));
            }
        }
        if self.next_instant(can_anybody_go).is_some() && (self.budget.hastes > 0 || !can_anybody_go) {
            moves.push(Move::TimePasses);
        }
        if self.budget.ages > 0 && can_anybody_go {
            moves.push(Move::AnAgePasses);
        }
        if self.budget.logins > 0 {
            moves.push(Move::SomebodyLogsIn);
        }
        if self.budget.logouts > 0 {
            moves.push(Move::SomebodyLogsOut);
        }
        moves
    }

    fn can_go(&self, process: &Process) -> bool {
        process.wakes_at <= self.clock
            && match process.doing {
                Doing::WaitsForTheLock { until, .. } => self.held_by.is_none() || until <= self.clock,
                _ => !process.is_over(),
            }
    }

    /// When the next pause ends; where nobody can go on, a wait for the lock ends at its deadline too.
    fn next_instant(&self, can_anybody_go: bool) -> Option<Duration> {
        let waiting = self.processes.iter().filter(|process| !process.is_over() && !self.can_go(process));
        let instant = |process: &Rc<Process>| match process.doing {
            Doing::WaitsForTheLock { until, .. } if !can_anybody_go => Some(until.max(process.wakes_at)),
            Doing::WaitsForTheLock { .. } => None,
            _ => Some(process.wakes_at),
        };
        waiting.filter_map(instant).min()
    }

    fn after(&self, next: Move) -> Self {
        let mut world = self.clone();
        let scenario = Rc::clone(&self.scenario);
        match next {
            Move::Goes(number) => world.go(number),
            Move::Crashes(number) => {
                world.budget.crashes -= 1;
                world.change(number, |process| {
                    process.is_excused = true;
                    process.doing = Doing::WasKilled;
                });
                world.unlock(number);
            }
            Move::LosesItsAnswer(number) => {
                world.budget.lost_answers -= 1;
                world.change(number, |process| process.is_excused = true);
                let answer = Answer::Unknown { what: "lost".to_owned() };
                world.tell(number, Event::Answered(answer));
            }
            Move::TimePasses => {
                let can_anybody_go = world.processes.iter().any(|process| world.can_go(process));
                if can_anybody_go {
                    world.budget.hastes -= 1;
                }
                world.clock = world.next_instant(can_anybody_go).unwrap();
            }
            Move::AnAgePasses => {
                world.budget.ages -= 1;
                world.clock += Duration::from_secs(AN_AGE);
                let deadlines = &scenario.deadlines;
                for number in (0..deadlines.len()).filter(|number| deadlines[*number] < AN_AGE) {
                    world.change(number, |process| process.is_excused |= process.started_at.is_some());
                }
            }
            Move::SomebodyLogsIn => {
                world.budget.logins -= 1;
                world.valid.insert(LOGIN);
                world.newest = LOGIN;
                world.document = Some(stored(Some(session(LOGIN, world.wall() + 3600))));
            }
            Move::SomebodyLogsOut => {
                world.budget.logouts -= 1;
                let generation = world.document.take().and_then(|stored| stored_generation(&stored.document));
                generation.map(|generation| world.valid.remove(&generation));
                world.records.clear();
            }
        }
        world
    }

    fn change(&mut self, number: usize, change: impl FnOnce(&mut Process)) {
        let process = Rc::make_mut(&mut self.processes[number]);
        change(process);
        process.fingerprint = 0;
        process.fingerprint = digest(process);
    }

    fn unlock(&mut self, number: usize) {
        self.held_by = self.held_by.filter(|holder| *holder != number);
    }

    fn tell(&mut self, number: usize, event: Event) {
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
                Step::Lock(patience @ (Patience::Release | Patience::Queue), at_most) => {
                    Doing::WaitsForTheLock { queues: patience == Patience::Queue, until: clock + at_most }
                }
                step => Doing::Begins(step),
            };
        });
        if let Doing::HasEnded(result) = &self.processes[number].doing {
            if let Ok(token) = result
                && token.session.expires_at.is_none_or(|expires_at| expires_at <= wall)
            {
                self.broken = Some(format!("process {number} hands out a token that has expired"));
            }
            self.unlock(number);
        }
    }

    fn go(&mut self, number: usize) {
        match self.processes[number].doing.clone() {
            Doing::Begins(step) => self.begin(number, step),
            Doing::HasReadTheRecords(attempts) => {
                let stored = self.document.as_deref().cloned();
                self.tell(number, Event::Looked(Ok(View { attempts, stored })));
            }
            Doing::Receives(answer) => self.tell(number, Event::Answered(answer)),
            Doing::Replaces { expected, document, attempt } => {
                if let Some(record) = self.records.get_mut(&attempt) {
                    Rc::make_mut(record).answer = None;
                }
                match self.swap(number, &expected, document, &attempt.0) {
                    true => {
                        let then = Event::Replaced(Replacement::Done);
                        self.change(number, |process| process.doing = Doing::Sweeps { key: attempt.0, then });
                    }
                    false => {
                        let there = self.document.as_deref().cloned().map(Box::new);
                        self.tell(number, Event::Replaced(Replacement::Lost(there)));
                    }
                }
            }
            Doing::Sweeps { key, then } => {
                self.records.retain(|(about, _), _| *about != key);
                self.tell(number, then);
            }
            Doing::WaitsForTheLock { queues, .. } => {
                let locking = if self.held_by.is_none() { Locking::Granted } else { Locking::Unanswered };
                if queues && locking == Locking::Granted {
                    self.held_by = Some(number);
                }
                self.tell(number, Event::Locking(locking));
            }
            Doing::Rests => self.tell(number, Event::Paused),
            Doing::HasEnded(_) | Doing::WasKilled => {}
        }
    }

    fn begin(&mut self, number: usize, step: Step) {
        match step {
            Step::Read => {
                let stored = self.document.as_deref().cloned();
                let first_read = stored.as_ref().and_then(|stored| stored_generation(&stored.document));
                self.change(number, |process| process.first_read = first_read);
                self.tell(number, Event::Read(Ok(stored)));
            }
            Step::Look { refresh_token_sha256 } => {
                let attempts = self.sightings(&refresh_token_sha256);
                self.change(number, |process| process.doing = Doing::HasReadTheRecords(attempts));
            }
            Step::Lock(..) => {
                let locking = match (self.scenario.lock, self.held_by) {
                    (Lock::Refuses, _) => Locking::Refused("no locks".to_owned()),
                    (Lock::Excludes, Some(_)) => Locking::Busy,
                    (Lock::Excludes, None) => {
                        self.held_by = Some(number);
                        Locking::Granted
                    }
                    (Lock::Lies, _) => Locking::Granted,
                };
                self.tell(number, Event::Locking(locking));
            }
            Step::Adopt { refresh_token_sha256: key, number: record, expected } => {
                let beside = self.records.get_mut(&(key.clone(), record));
                let answer = beside.and_then(|record| Rc::make_mut(record).answer.clone());
                match answer.is_some_and(|answer| self.swap(number, &expected, answer, &key)) {
                    true => {
                        let then = Event::Adopted(Ok(true));
                        self.change(number, |process| process.doing = Doing::Sweeps { key, then });
                    }
                    false => self.tell(number, Event::Adopted(Ok(false))),
                }
            }
            Step::Claim { attempt, number: wanted, exclusive, expected, outdated } => {
                for record in outdated {
                    self.records.remove(&(attempt.refresh_token_sha256.clone(), record));
                }
                let claiming = self.claim(attempt, wanted, exclusive, &expected);
                self.tell(number, Event::Claiming(claiming));
            }
            Step::Mark { attempt, number: record } => {
                if self.scenario.is_binding() && attempt.outcome == Some(Outcome::Temporary) {
                    let waiting = |other: &Process| !other.is_over() && other.started_at.is_some();
                    let others = self.processes.iter().enumerate().filter(|(_, other)| waiting(other));
                    let others =
                        others.filter(|(_, other)| !matches!(other.doing, Doing::Begins(Step::Look { .. })));
                    self.must_share.extend(others.map(|(other, _)| other));
                }
                let key = (attempt.refresh_token_sha256.clone(), record);
                let answer = self.records.get(&key).and_then(|record| record.answer.clone());
                self.records.insert(key, Rc::new(Record { attempt, answer }));
                self.tell(number, Event::Noted);
            }
            Step::Withdraw { refresh_token_sha256, number: record } => {
                self.records.remove(&(refresh_token_sha256, record));
                self.tell(number, Event::Noted);
            }
            Step::Spend { document, .. } => {
                let answer = self.answer(number, stored_generation(&document).unwrap());
                self.change(number, |process| process.doing = Doing::Receives(answer));
            }
            Step::Replace { expected, document, attempt } => {
                if let Some(record) = self.records.get_mut(&attempt) {
                    Rc::make_mut(record).answer = document.session.is_some().then(|| document.clone());
                }
                let doing = Doing::Replaces { expected, document, attempt };
                self.change(number, |process| process.doing = doing);
            }
            Step::Revoke { document, .. } => {
                let generation = stored_generation(&document).unwrap();
                self.valid.remove(&generation);
                self.tell(number, Event::Noted);
            }
            Step::Delegate(_) | Step::Pause(_) | Step::Finish(_) => {}
        }
    }

    fn sightings(&self, key: &str) -> Vec<Sighting> {
        let records = self.records.iter().filter(|((about, _), _)| about == key);
        let sighting = |((_, number), record): (&(String, u64), &Rc<Record>)| {
            let attempt = record.attempt.clone();
            let owner = match (self.scenario.is_presence_known, self.is_over(&attempt.by)) {
                (false, _) => Presence::Unknown,
                (true, true) => Presence::Gone,
                (true, false) => Presence::Alive,
            };
            Sighting { number: *number, attempt, owner, has_answer: record.answer.is_some() }
        };
        records.map(sighting).collect()
    }

    fn is_over(&self, owner: &Owner) -> bool {
        self.processes[usize::try_from(owner.pid).unwrap()].is_over()
    }

    fn claim(&mut self, attempt: Attempt, wanted: u64, exclusive: bool, expected: &Revision) -> Claiming {
        let key = attempt.refresh_token_sha256.clone();
        let is_free = |number: &u64| !self.records.contains_key(&(key.clone(), *number));
        let numbers = if exclusive { wanted..=wanted } else { wanted..=u64::MAX };
        let Some(number) = numbers.into_iter().find(is_free) else {
            return Claiming::Taken;
        };
        if self.document.as_ref().is_some_and(|stored| stored.revision == *expected) {
            self.records.retain(|(about, _), _| *about == key);
        }
        self.records.insert((key, number), Rc::new(Record { attempt, answer: None }));
        Claiming::Mine(number)
    }

    /// What the server says to that generation's refresh token, and what that does to it.
    fn answer(&mut self, number: usize, generation: u8) -> Answer {
        let before: Vec<usize> =
            self.sends.iter().filter(|(sent, _)| *sent == generation).map(|(_, by)| *by).collect();
        let is_excused =
            self.processes[number].is_excused || before.iter().all(|by| self.processes[*by].is_excused);
        let own = before.iter().filter(|by| **by == number).count();
        let is_down = self.scenario.server == Server::Down;
        if self.scenario.is_binding() && !is_excused && !is_down {
            self.broken = Some(format!("I1: {number} sends generation {generation} after {before:?}"));
        }
        if own >= 2 {
            self.broken = Some(format!("{number} sends generation {generation} for the third time"));
        }
        if self.must_share.contains(&number) {
            self.broken = Some(format!("{number} waited for a failure and makes a request of its own"));
        }
        self.sends.push((generation, number));

        let takes = self.valid.contains(&generation);
        let next = match self.scenario.server {
            Server::Down => {
                return Answer::Temporary { what: "HTTP 503".to_owned(), retry_after: None };
            }
            Server::DoesNotRotate => Some(self.issued + 1),
            Server::Grace if self.valid.contains(&(generation + 1)) => Some(generation + 1),
            _ => takes.then_some(generation + 1),
        };
        let Some(next) = next else {
            if self.scenario.server == Server::EndsTheFamily {
                self.valid.retain(|other| (*other < LOGIN) != (generation < LOGIN));
            }
            return Answer::InvalidGrant { error: "invalid_grant".to_owned(), description: None };
        };
        self.valid.remove(&generation);
        self.valid.insert(next);
        self.issued = next;
        let rotates = self.scenario.server != Server::DoesNotRotate;
        Answer::Refreshed(TokenAnswer {
            access_token: Secret::new(format!("a{next}")),
            token_type: "Bearer".to_owned(),
            expires_in: Some(3600),
            refresh_token: rotates.then(|| Secret::new(format!("r{next}"))),
            id_token: None,
            scope: Some(next.to_string()),
        })
    }

    /// I2 and I3 are looked after here: each change of the document goes forward.
    fn swap(&mut self, number: usize, expected: &Revision, document: Document, key: &str) -> bool {
        let Some(there) = self.document.clone().filter(|there| there.revision == *expected) else {
            return false;
        };
        match stored_generation(&document) {
            Some(generation) if generation <= self.newest => {
                self.broken =
                    Some(format!("I2: {number} stores generation {generation} over {}", self.newest));
            }
            Some(generation) => self.newest = generation,
            None => {
                let cleared = stored_generation(&there.document);
                let is_alive = cleared.is_some_and(|generation| self.valid.contains(&generation));
                // A living owner puts his answer over the `null`.
                let is_left_behind =
                    |record: &Record| record.answer.is_some() && self.is_over(&record.attempt.by);
                let has_answer =
                    self.records.iter().any(|((about, _), record)| about == key && is_left_behind(record));
                if is_alive || has_answer {
                    self.broken = Some(format!("I2: {number} clears {cleared:?}, which was not dead"));
                }
            }
        }
        self.document = Some(at_revision(document));
        true
    }

    // ---- the promises, for the end ----

    fn results(&self) -> impl Iterator<Item = &Result> {
        self.processes.iter().filter_map(|process| match &process.doing {
            Doing::HasEnded(result) => Some(result),
            _ => None,
        })
    }

    fn everyone_has_a_token(&self) -> bool {
        self.results().all(|result| result.is_ok())
    }

    fn stored_generation(&self) -> Option<u8> {
        self.document.as_ref().and_then(|stored| stored_generation(&stored.document))
    }

    /// The refresh token that is stored is one that the server takes.
    fn session_survives(&self) -> bool {
        self.stored_generation().is_some_and(|stored| self.valid.contains(&stored))
    }

    fn everyone_has_a_token_and_the_session_survives(&self) -> bool {
        self.everyone_has_a_token() && self.session_survives()
    }

    /// With one refresh.
    fn everyone_has_the_same_token(&self) -> bool {
        let has_it = |result: &Result| result.as_ref().is_ok_and(|token| generation(&token.session) == 1);
        self.sends.len() == 1 && self.session_survives() && self.results().all(has_it)
    }

    /// Where an answer was lost with its reader, and the server gives it only once, nobody can do better than ask
    /// for a login (or to try again).
    fn everyone_has_a_token_if_that_can_be(&self) -> bool {
        let is_gone = self.scenario.server != Server::Grace
            && !self.sends.is_empty()
            && self.stored_generation().is_none_or(|stored| stored < self.issued);
        let is_friendly = |result: &Result| match result {
            Ok(_) => true,
            Err(failure) => matches!(failure.kind, Kind::LoginRequired | Kind::Temporary),
        };
        match is_gone {
            true => self.results().all(is_friendly),
            false => self.everyone_has_a_token_and_the_session_survives(),
        }
    }

    fn nobody_meets_a_defect(&self) -> bool {
        let is_defect = |result: &Result| result.as_ref().is_err_and(|failure| failure.kind == Kind::Defect);
        !self.results().any(is_defect)
    }
}

impl Process {
    fn is_over(&self) -> bool {
        matches!(self.doing, Doing::HasEnded(_) | Doing::WasKilled)
    }
}

// ---- the search ----

/// Meets every world that the scenario can lead to. `promise` must hold in each where nothing can happen any more.
fn explore(scenario: Scenario, promise: impl Fn(&World) -> bool) {
    let start = World::new(scenario.clone());
    let mut path: Vec<(u64, World, Vec<Move>, Vec<Move>)> = Vec::new();
    let (mut on_path, mut met) = (HashSet::new(), HashSet::new());
    let mut ends = 0_u64;
    let mut enter = Some((start.key(), start, None));
    loop {
        if let Some((key, world, by)) = enter.take() {
            let moves = world.moves();
            let mut story: Vec<Move> = path.last().map(|(_, _, _, story)| story.clone()).unwrap_or_default();
            story.extend(by);
            let is_end = world.processes.iter().all(|process| process.is_over());
            ends += u64::from(is_end);
            let complaint = match &world.broken {
                Some(broken) => Some(broken.clone()),
                None if moves.is_empty() && !is_end => Some("I4: somebody is stuck".to_owned()),
                None if is_end && !promise(&world) => Some("the promise does not hold".to_owned()),
                None => None,
            };
            if let Some(complaint) = complaint {
                panic!("{complaint} in {scenario:?}\n{}", tell(&scenario, &story));
            }
            met.insert(key);
            on_path.insert(key);
            path.push((key, world, if is_end { Vec::new() } else { moves }, story));
        }
        let Some((key, world, moves, story)) = path.last_mut() else { break };
        match moves.pop() {
            None => {
                on_path.remove(key);
                path.pop();
            }
            Some(next) => {
                let after = world.after(next);
                let key = after.key();
                if on_path.contains(&key) {
                    panic!("I4: without end in {scenario:?}\n{}", tell(&scenario, story));
                }
                if !met.contains(&key) {
                    enter = Some((key, after, Some(next)));
                }
            }
        }
    }
    println!("{} worlds, {ends} ends: {scenario:?}", met.len());
}

/// What happened on the way, for a person.
fn tell(scenario: &Scenario, story: &[Move]) -> String {
    let mut world = World::new(scenario.clone());
    let mut told = String::new();
    for next in story {
        let doing = match next {
            Move::Goes(number) => format!("{:?}", world.processes[*number].doing),
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

/// The levels whose claims bind, and what holds them up. A lock that is refused leads to what `Claim` is.
const BINDING: [(LockUse, Lock); 3] =
    [(LockUse::Auto, Lock::Excludes), (LockUse::Auto, Lock::Lies), (LockUse::Claim, Lock::Excludes)];

/// The kindest server that rotates, and the harshest.
const ROTATING: [Server; 2] = [Server::EndsTheFamily, Server::Grace];

fn binding(processes: usize, servers: &[Server]) -> Vec<Scenario> {
    let levels = BINDING.iter().flat_map(|level| servers.iter().map(move |server| (level, server)));
    let scenario = |((lock_use, lock), server): (&(LockUse, Lock), &Server)| Scenario {
        lock: *lock,
        ..Scenario::of(&vec![*lock_use; processes], *server)
    };
    levels.map(scenario).collect()
}

fn with(scenario: Scenario, spend: impl Fn(&mut Budget)) -> Scenario {
    let mut budget = scenario.budget;
    spend(&mut budget);
    Scenario { budget, ..scenario }
}

#[test]
fn two_processes_refresh_once_and_have_the_same_token() {
    for scenario in binding(2, &[Server::EndsTheFamily, Server::DoesNotRotate]) {
        explore(scenario, World::everyone_has_the_same_token);
    }
    let refused = Scenario::of(&[LockUse::Auto; 2], Server::EndsTheFamily);
    explore(Scenario { lock: Lock::Refuses, ..refused }, World::everyone_has_the_same_token);
    let mixed = Scenario::of(&[LockUse::Auto, LockUse::Claim], Server::EndsTheFamily);
    explore(mixed, World::everyone_has_the_same_token);
}

#[test]
fn three_processes_refresh_once_and_have_the_same_token() {
    for scenario in binding(3, &[Server::EndsTheFamily]) {
        explore(with(scenario, |budget| budget.hastes = 0), World::everyone_has_the_same_token);
    }
}

#[test]
fn whoever_is_killed_takes_no_session_along_that_was_written_down() {
    for scenario in binding(2, &ROTATING) {
        let scenario = with(scenario, |budget| (budget.crashes, budget.hastes) = (1, 3));
        explore(scenario, World::everyone_has_a_token_if_that_can_be);
    }
}

#[test]
fn lost_answers_are_asked_for_once_more_and_never_a_third_time() {
    for scenario in binding(2, &ROTATING) {
        let scenario = with(scenario, |budget| (budget.lost_answers, budget.hastes) = (1, 3));
        explore(scenario, World::everyone_has_a_token_if_that_can_be);
    }
    for scenario in binding(2, &[Server::Grace]) {
        let scenario = with(scenario, |budget| (budget.lost_answers, budget.hastes) = (2, 3));
        explore(scenario, World::nobody_meets_a_defect);
    }
}

#[test]
fn whoever_is_paused_past_his_claim_overwrites_nothing_newer() {
    for scenario in binding(2, &[Server::EndsTheFamily, Server::DoesNotRotate]) {
        let scenario = with(scenario, |budget| (budget.ages, budget.hastes) = (1, 1));
        explore(Scenario { deadlines: vec![IMPATIENT, PATIENT], ..scenario }, World::nobody_meets_a_defect);
    }
}

#[test]
fn whoever_was_killed_on_another_machine_is_waited_for_until_his_claim_ends() {
    for scenario in binding(2, &ROTATING) {
        let scenario = with(scenario, |budget| (budget.crashes, budget.hastes) = (1, 0));
        let scenario = Scenario { is_presence_known: false, deadlines: vec![IMPATIENT, PATIENT], ..scenario };
        explore(scenario, World::nobody_meets_a_defect);
    }
}

#[test]
fn without_lock_and_claim_a_server_that_rejects_costs_nobody_anything() {
    let levels =
        [[LockUse::Off, LockUse::Off], [LockUse::Off, LockUse::Auto], [LockUse::Off, LockUse::Claim]];
    for lock_uses in levels {
        for server in [Server::Rejects, Server::Grace] {
            let scenario = Scenario::of(&lock_uses, server);
            explore(scenario.clone(), World::everyone_has_a_token_and_the_session_survives);
            let scenario = with(scenario, |budget| (budget.crashes, budget.hastes) = (1, 3));
            explore(scenario, World::everyone_has_a_token_if_that_can_be);
        }
        explore(Scenario::of(&lock_uses, Server::EndsTheFamily), World::nobody_meets_a_defect);
        explore(Scenario::of(&lock_uses, Server::DoesNotRotate), World::everyone_has_a_token);
    }
}

#[test]
fn a_new_login_survives_every_refresh() {
    for scenario in binding(2, &ROTATING) {
        let scenario = with(scenario, |budget| (budget.logins, budget.hastes) = (1, 2));
        let is_kept =
            |world: &World| world.newest == LOGIN && world.everyone_has_a_token_and_the_session_survives();
        explore(scenario, |world| world.budget.logins > 0 || is_kept(world));
    }
}

#[test]
fn a_logout_survives_every_refresh_and_leaves_no_refresh_token_behind() {
    for scenario in binding(2, &ROTATING) {
        let scenario = with(scenario, |budget| (budget.logouts, budget.hastes) = (1, 2));
        let is_kept = |world: &World| world.document.is_none() && world.valid.is_empty();
        explore(scenario, |world| world.budget.logouts > 0 || is_kept(world));
    }
}

#[test]
fn whoever_waited_for_a_failure_makes_no_request() {
    for scenario in binding(2, &[Server::Down]) {
        explore(scenario, World::nobody_meets_a_defect);
    }
}

#[test]
fn forced_refreshes_coalesce() {
    for scenario in binding(2, &[Server::EndsTheFamily]) {
        explore(Scenario { unwanted: Unwanted::FirstSeen, left: 3600, ..scenario }, |world| {
            let readers_of_the_first =
                world.processes.iter().filter(|process| process.first_read == Some(0)).count();
            let refreshes = if readers_of_the_first == 2 { 1 } else { 2 };
            world.everyone_has_a_token_and_the_session_survives() && world.sends.len() == refreshes
        });
    }
}

#[test]
fn while_the_token_works_nobody_waits_and_one_refreshes() {
    for scenario in binding(2, &[Server::EndsTheFamily]) {
        let promise =
            |world: &World| world.everyone_has_a_token_and_the_session_survives() && world.sends.len() == 1;
        explore(Scenario { left: 20, ..scenario }, promise);
    }
}
