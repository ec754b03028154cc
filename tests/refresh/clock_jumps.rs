//! The wall clock jumps between any two readings of it: the machine at each of its steps, and real processes that meet what
//! other clocks have written.

use crate::support::*;
use onegrant::error::{Failure, Kind};
use onegrant::grant::{Document, Secret};
use onegrant::protocol::token::{Answer, TokenAnswer};
use onegrant::session::attempt::{Attempt, AttemptRecord, Owner, Presence};
use onegrant::session::{
    ClaimResult, Demand, Event, LockResult, LockUse, Machine, Now, ReplaceResult, Revision, Role, Settings,
    Step, Stored, TokenResult, View, age,
};
use serde_json::{Value, json};
use std::time::Duration;

/// The wall clock before it jumps.
const BEGAN: i64 = 1_800_000_000;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const YEARS: i64 = 3650 * DAY;

/// More steps than any run takes: a loop shows as a run that reaches it.
const MOST_STEPS: usize = 1000;

/// What may pass beyond the deadline: the time for which a failure is held back, and the end of the comparison loop.
const BEYOND_THE_DEADLINE: Duration = Duration::from_secs(1);

/// The steps from a decision to the end: the decision, and the record of it.
const LAST_STEPS: usize = 2;

/// How long the server takes.
const EXCHANGE: Duration = Duration::from_secs(1);

/// A run that waits for the claim of another process has many equal steps: jumps are made in so many of the first steps and
/// of the last steps.
const FIRST_STEPS: usize = 10;

/// Two jumps are made in the first steps only, because there are many pairs.
const PAIRED_STEPS: usize = 6;

const DEADLINE: Duration = Duration::from_secs(30);

/// A shorter deadline for a process that waits for a claim: each look at the claim is a step.
const DEADLINE_BESIDE_A_CLAIM: Duration = Duration::from_secs(6);

/// What the wall clock does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jump {
    By(i64),
    To(i64),
}

const JUMPS: [Jump; 13] = [
    Jump::By(-HOUR),
    Jump::By(HOUR),
    Jump::By(-DAY - HOUR),
    Jump::By(DAY + HOUR),
    Jump::By(-YEARS),
    Jump::By(YEARS),
    Jump::To(0),
    Jump::To(-1),
    Jump::To(1 << 31),
    Jump::To(1 << 33),
    Jump::To(i64::MAX - LIFETIME - 1000),
    Jump::To(i64::MAX),
    Jump::To(i64::MIN),
];

/// The jumps of which all pairs are tried: back and forward, small and large.
const PAIRED: [Jump; 4] = [Jump::By(-HOUR), Jump::By(HOUR), Jump::By(-YEARS), Jump::To(1 << 33)];

impl Jump {
    fn apply(self, wall: i64) -> i64 {
        match self {
            Self::By(seconds) => wall.saturating_add(seconds),
            Self::To(wall) => wall,
        }
    }
}

/// What the server does about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Grants,
    LosesItsAnswer,
    IsBusy,
    RefusesTheGrant,
}

/// Where a run begins.
#[derive(Clone, Debug)]
struct Scenario {
    lock_use: LockUse,
    /// Whether the store compares and swaps in one step. Such a store has no locks.
    swaps: bool,
    /// Seconds left of the stored access token.
    left: i64,
    min_ttl: i64,
    reactions: &'static [Reaction],
    /// Whether a process on another machine made a claim ten seconds ago.
    is_claimed: bool,
}

impl Scenario {
    fn deadline(&self) -> Duration {
        if self.is_claimed { DEADLINE_BESIDE_A_CLAIM } else { DEADLINE }
    }
}

/// A store, a server and a clock, without other processes.
#[derive(Clone, Debug)]
struct World {
    stored: Stored,
    records: Vec<AttemptRecord>,
    now: Now,
    sends: usize,
    /// What the wall clock said at each request.
    sent_at: Vec<i64>,
    /// What it said at each step.
    walls: Vec<i64>,
}

fn stored(generation: usize, wall: i64, left: i64) -> Stored {
    let document = json!({
        "version": 1, "token_endpoint": "https://as.example/token", "client_id": "c",
        "session": {
            "access_token": format!("at_{generation}"), "refresh_token": format!("rt_{generation}"),
            "expires_at": wall + left, "obtained_at": wall + left - LIFETIME,
        },
    });
    let document = Document::parse(document.to_string().as_bytes()).unwrap();
    Stored { document, revision: Revision(generation.to_string()) }
}

fn digest(token: &str) -> String {
    Secret::new(token).sha256()
}

impl World {
    fn of(scenario: &Scenario) -> Self {
        let mut records = Vec::new();
        if scenario.is_claimed {
            let (at, until) = (BEGAN - 10, BEGAN + 40);
            let owner = Owner { host: "another".to_owned(), ..Owner::default() };
            let attempt = Attempt::open("other".to_owned(), digest("rt_0"), digest("at_0"), owner, at, until);
            records.push(AttemptRecord { number: 1, attempt, owner: Presence::Unknown, has_answer: false });
        }
        Self {
            stored: stored(0, BEGAN, scenario.left),
            records,
            now: Now { wall: BEGAN, elapsed: Duration::ZERO },
            sends: 0,
            sent_at: Vec::new(),
            walls: Vec::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.elapsed += time;
        self.now.wall = self.now.wall.saturating_add(i64::try_from(time.as_secs()).unwrap());
    }

    fn perform(&mut self, step: Step, scenario: &Scenario) -> Event {
        let reactions = scenario.reactions;
        match step {
            Step::Read => Event::Read(Ok(Some(self.stored.clone()))),
            Step::Look { credential_sha256 } => {
                let concerned =
                    |record: &&AttemptRecord| record.attempt.credential_sha256 == credential_sha256;
                let attempts = self.records.iter().filter(concerned).cloned().collect();
                Event::Looked(Ok(View { attempts, stored: Some(self.stored.clone()) }))
            }
            // No process holds the lock.
            Step::Lock(..) => Event::LockAnswered(match scenario.swaps {
                true => LockResult::Refused("no locks".to_owned()),
                false => LockResult::Granted,
            }),
            Step::Pause(time) => {
                self.pass(time);
                Event::Paused
            }
            Step::Claim { attempt, number, .. } => {
                self.records.push(AttemptRecord {
                    number,
                    attempt,
                    owner: Presence::Alive,
                    has_answer: false,
                });
                Event::Claimed(ClaimResult::Mine(number))
            }
            Step::Mark { attempt, number } => {
                let mut records = self.records.iter_mut();
                records.find(|record| record.number == number).unwrap().attempt = attempt;
                Event::Noted
            }
            Step::Withdraw { number, .. } => {
                self.records.retain(|record| record.number != number);
                Event::Noted
            }
            Step::Spend { timeout, .. } => {
                self.sent_at.push(self.now.wall);
                let reaction = *reactions.get(self.sends).or(reactions.last()).unwrap();
                self.sends += 1;
                self.pass(EXCHANGE.min(timeout));
                let reaction = if timeout < EXCHANGE { Reaction::LosesItsAnswer } else { reaction };
                Event::Answered(self.answer(reaction))
            }
            Step::Replace { expected, document, .. } => {
                assert_eq!(expected, self.stored.revision);
                self.stored = Stored { document, revision: Revision(format!("{} again", expected.0)) };
                self.records.clear();
                Event::Replaced(ReplaceResult::Done)
            }
            other => panic!("nothing to do about {other:?}"),
        }
    }

    fn answer(&self, reaction: Reaction) -> Answer {
        match reaction {
            Reaction::Grants => Answer::Refreshed(TokenAnswer {
                access_token: Secret::new(format!("at_new_{}", self.sends)),
                token_type: "Bearer".to_owned(),
                expires_in: Some(LIFETIME.unsigned_abs()),
                refresh_token: Some(Secret::new(format!("rt_new_{}", self.sends))),
                id_token: None,
                scope: None,
                extra: Default::default(),
            }),
            Reaction::LosesItsAnswer => {
                Answer::Unknown { what: "the connection broke".to_owned(), again: true }
            }
            Reaction::IsBusy => Answer::Temporary {
                what: "the server answered with status 503".to_owned(),
                retry_after: Some(Duration::from_secs(1)),
            },
            Reaction::RefusesTheGrant => {
                Answer::InvalidGrant { error: "invalid_grant".to_owned(), description: None }
            }
        }
    }

    /// Runs one process to its end, and makes each jump before the step with its number. Returns the number of steps.
    fn run(&mut self, scenario: &Scenario, jumps: &[(usize, Jump)]) -> (usize, TokenResult) {
        let (mut machine, mut step) = Machine::start(Settings {
            profile: "default".to_owned(),
            demand: Demand { min_ttl: scenario.min_ttl, ..Demand::default() },
            lock_use: scenario.lock_use,
            swaps: scenario.swaps,
            role: Role::InPlace,
            deadline: scenario.deadline(),
            owner: Owner { host: "here".to_owned(), pid: 1, ..Owner::default() },
            nonce: "me".to_owned(),
        });
        self.now.elapsed = Duration::ZERO;
        for number in 0..MOST_STEPS {
            let event = self.perform(step, scenario);
            let jump = jumps.iter().filter(|(at, _)| *at == number);
            jump.for_each(|(_, jump)| self.now.wall = jump.apply(self.now.wall));
            self.walls.push(self.now.wall);
            step = machine.next(event, self.now);
            if let Step::Finish(result) = step {
                assert!(self.now.elapsed <= scenario.deadline() + BEYOND_THE_DEADLINE, "{:?}", self.now);
                return (number + 1, result);
            }
        }
        panic!("a loop");
    }
}

fn scenarios() -> Vec<Scenario> {
    use Reaction::{Grants, IsBusy, LosesItsAnswer, RefusesTheGrant};
    let servers: [&'static [Reaction]; 5] =
        [&[Grants], &[LosesItsAnswer, Grants], &[IsBusy, Grants], &[LosesItsAnswer], &[RefusesTheGrant]];
    let mut all = Vec::new();
    let places = [
        (LockUse::Auto, false),
        (LockUse::Claim, false),
        (LockUse::Off, false),
        (LockUse::Auto, true),
        (LockUse::Off, true),
    ];
    for (lock_use, swaps) in places {
        for (left, min_ttl) in [(LIFETIME, 0), (20, 0), (0, 0), (VALID, 900)] {
            for reactions in servers {
                for is_claimed in [false, true] {
                    all.push(Scenario { lock_use, swaps, left, min_ttl, reactions, is_claimed });
                }
            }
        }
    }
    all
}

/// What must hold at the end of any run.
#[track_caller]
fn assert_sound(scenario: &Scenario, world: &World, result: &TokenResult, case: &str) {
    let requests = if scenario.reactions[0] == Reaction::Grants { 1 } else { 2 };
    assert!(world.sends <= requests, "{} requests: {case}", world.sends);
    match result {
        Ok(token) if token.refreshed => {}
        // A token that is handed out without a refresh worked when that was decided. Only the clock is read after that.
        Ok(token) => {
            let decided = world.walls.iter().rev().take(LAST_STEPS);
            let mut then = decided.map(|wall| Now { wall: *wall, ..world.now });
            assert!(then.any(|now| age(&token.session, 0, now).is_valid()), "an ended token: {case}");
        }
        Err(Failure { kind: Kind::LoginRequired, .. }) => {
            assert_eq!(scenario.reactions, [Reaction::RefusesTheGrant], "{case}: {result:?}");
            assert!(world.sends > 0, "{case}");
            // Only a lock, and a store that swaps, make looking and clearing one step.
            let may_clear = scenario.swaps || scenario.lock_use == LockUse::Auto;
            assert!(may_clear || world.stored.document.session.is_some(), "cleared: {case}");
        }
        Err(Failure { kind: Kind::Temporary, .. }) => {
            // A failure stays a failure, although the clock that made it a small one has moved.
            let has_failed = scenario.reactions[0] != Reaction::Grants;
            assert!(scenario.is_claimed || has_failed, "a token could be had: {case}: {result:?}");
        }
        Err(failure) => panic!("{case}: {failure:?}"),
    }
    // The claim of another process binds until it ends, unless an absurd clock made it.
    if scenario.is_claimed && scenario.lock_use != LockUse::Off {
        for wall in &world.sent_at {
            let is_free = *wall >= BEGAN + 40 || (BEGAN - 10).saturating_sub(*wall) > DAY;
            assert!(is_free, "spent beside a live claim at {wall}: {case}");
        }
    }
}

/// Checks that, without another jump, a second process may refresh once, and a third finds a fresh token.
#[track_caller]
fn assert_settles(scenario: &Scenario, mut world: World, case: &str) {
    let calm = Scenario { reactions: &[Reaction::Grants], is_claimed: false, ..scenario.clone() };
    // At the end of time no new token can be fresh.
    if world.now.wall > i64::MAX - 2 * LIFETIME || world.stored.document.session.is_none() {
        return;
    }
    world.records.clear();
    world.sends = 0;
    let (_, result) = world.run(&calm, &[]);
    assert!(result.is_ok(), "{case}: {result:?}");
    world.sends = 0;
    let (steps, result) = world.run(&calm, &[]);
    assert!(result.is_ok_and(|token| !token.refreshed), "{case}");
    assert_eq!((steps, world.sends), (1, 0), "it never settles: {case}");
}

fn check(scenario: &Scenario, jumps: &[(usize, Jump)]) -> usize {
    let case = format!("{scenario:?}, {jumps:?}");
    let mut world = World::of(scenario);
    let (steps, result) = world.run(scenario, jumps);
    assert_sound(scenario, &world, &result, &case);
    if scenario.min_ttl == 0 {
        assert_settles(scenario, world, &case);
    }
    steps
}

#[test]
fn a_jump_before_any_step_loops_nowhere_spends_nothing_twice_and_hands_out_nothing_ended() {
    let mut runs = 0;
    for scenario in scenarios() {
        let steps = check(&scenario, &[]);
        for at in (0..steps).filter(|at| *at < FIRST_STEPS || steps - at <= FIRST_STEPS) {
            for jump in JUMPS {
                check(&scenario, &[(at, jump)]);
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
    assert!(runs > 10_000, "{runs} runs show nothing");
}

#[test]
fn two_jumps_before_any_two_steps_neither() {
    let mut runs = 0;
    for scenario in scenarios().into_iter().filter(|scenario| scenario.left == 0) {
        let steps = check(&scenario, &[]).min(PAIRED_STEPS);
        for first in 0..steps {
            for second in first..steps {
                for a in PAIRED {
                    for b in PAIRED {
                        check(&scenario, &[(first, a), (second, b)]);
                        runs += 1;
                    }
                }
            }
        }
    }
    println!("{runs} runs");
    assert!(runs > 10_000, "{runs} runs show nothing");
}

/// How far the clock of the writer was ahead, in seconds.
const AHEAD: [i64; 9] = [-YEARS, -DAY, -HOUR, HOUR, 12 * HOUR, 2 * DAY, YEARS, 1 << 33, i64::MAX / 2];

/// A session that another clock dated is refreshed once, and then is as fresh as any.
#[test]
fn a_session_of_another_clock_is_handed_out_refreshed_and_once() {
    for ahead in AHEAD {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, LIFETIME);
        let mut document = home.document();
        for name in ["obtained_at", "expires_at"] {
            let then = document["session"][name].as_i64().unwrap().saturating_add(ahead);
            document["session"][name] = then.into();
        }
        home.write(&document);
        let ran = home.run(&["token"]);
        assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{ahead}");
        assert_eq!(home.run(&["token"]), ran, "{ahead}");
        assert_eq!((server.counts().token_requests, server.counts().rotations), (1, 1), "{ahead}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{ahead}");
    }
}

/// Numbers that no clock says: nothing is answered with a panic, and no command but a login writes over them.
#[test]
fn absurd_instants_are_no_defect() {
    let absurd = [i64::MIN, i64::MIN + 1, -1, 0, 1, 1 << 33, i64::MAX - 1, i64::MAX];
    for obtained_at in absurd {
        for expires_at in absurd {
            let server = server(|_| {});
            let (home, _) = Home::with_grant(&server, LIFETIME);
            let mut document = home.document();
            document["session"]["obtained_at"] = obtained_at.into();
            document["session"]["expires_at"] = expires_at.into();
            home.write(&document);
            let case = format!("obtained at {obtained_at}, expires at {expires_at}");
            for arguments in [&["status"][..], &["status", "--json"], &["token", "--min-ttl", "9000"]] {
                let ran = home.run(arguments);
                assert_eq!(ran.code, 0, "{case}, {arguments:?}: {ran:?}");
            }
            assert!(server.access_token_is_valid(&home.tokens().access_token), "{case}");
            assert!(server.is_alive(&home.tokens().refresh_token), "{case}");
            assert!(server.counts().token_requests <= 1, "{case}");
            assert_eq!(home.run(&["logout"]).code, 0, "{case}");
        }
    }
}

/// Writes the claim of another process on the stored refresh token. It lasts `lasting` seconds by a clock that is `ahead`.
fn claim(home: &Home, ahead: i64, lasting: i64) -> Value {
    let at = now().saturating_add(ahead);
    let sha256 = digest(&home.tokens().refresh_token);
    let record = json!({
        "id": "0", "refresh_token_sha256": sha256, "at": at, "until": at.saturating_add(lasting),
        "by": { "host": "another", "boot": "another", "pid_namespace": "", "pid": 1, "start_time": 1 },
    });
    let path = home.state.join(format!("default~attempt.{}.1", &sha256[..16]));
    std::fs::write(path, record.to_string()).unwrap();
    record
}

/// A claim binds for some seconds, or for some hours if a time zone was wrong. The claim of a clock that was years ahead does
/// not bind for years.
#[test]
fn the_claim_of_another_clock_binds_for_a_day_at_most() {
    for lock in ["auto", "claim"] {
        for ahead in AHEAD {
            let server = server(|_| {});
            let (home, _) = Home::with_grant(&server, EXPIRED);
            claim(&home, ahead, 40);
            let binds = (0..=DAY).contains(&ahead);
            let timeout = if binds { "1" } else { "30" };
            let ran = home.run_with_lock(lock, &["--timeout", timeout, "token"]);
            if binds {
                assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{lock}, {ahead}: {ran:?}");
                assert_eq!(server.counts().token_requests, 0, "{lock}, {ahead}");
                continue;
            }
            assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}, {ahead}");
            assert_eq!(server.counts().rotations, 1, "{lock}, {ahead}");
            assert!(server.is_alive(&home.tokens().refresh_token), "{lock}, {ahead}");
        }
    }
}
