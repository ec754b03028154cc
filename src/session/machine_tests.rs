//! The refresh and the comparison loop as stories: what happened, and the step that must follow.
//!
//! Refresh tokens are called `A`, `B`, `C`; the access token beside each is `a`, `b`, `c`. A claim is `A#1`. Steps
//! are written by [`shown`]; the end is `ok a`, `ok b refreshed`, `ok a, warned` or `exit 4`.

use super::attempt::{Attempt, AttemptOutcome, AttemptRecord, Owner, Presence};
use super::bounds::{MAX_ADOPTIONS, MAX_CREDENTIAL_CHANGES, MAX_REBASES, MAX_SENDS};
use super::{
    ClaimResult, DelegateResult, Demand, Event, Level, LockMode, LockResult, LockUse, Machine, Now,
    RefreshInput, ReplaceResult, Revision, Role, Settings, Step, Stored, Token, Unwanted, View,
};
use crate::error::{Failure, Kind};
use crate::grant::{Credential, Document, Rejected, Secret};
use crate::protocol::token::{Answer, Refusal, TokenAnswer};
use serde_json::json;
use std::time::Duration;

const NOW: i64 = 1_800_000_000;
const LIFETIME: i64 = 3600;

// ---- what is stored ----

/// The session of refresh token `name`, with an access token that lasts for `left` more seconds.
fn stored(name: &str, left: i64) -> Stored {
    let document = json!({
        "version": 1, "token_endpoint": "https://as.example/token", "client_id": "c",
        "session": {
            "access_token": name.to_lowercase(), "refresh_token": name,
            "expires_at": NOW + left, "obtained_at": NOW + left - LIFETIME,
        },
    });
    let document: Document = serde_json::from_value(document).unwrap();
    Stored { document, revision: Revision(name.to_owned()) }
}

fn fresh(name: &str) -> Stored {
    stored(name, LIFETIME)
}

/// Within the leeway: to be refreshed, but it still works.
fn ageing(name: &str) -> Stored {
    stored(name, 20)
}

fn expired(name: &str) -> Stored {
    stored(name, 0)
}

fn without_refresh_token(mut stored: Stored) -> Stored {
    stored.document.session.as_mut().unwrap().refresh_token = None;
    stored
}

/// Why a session was cleared: this refresh token was found dead.
fn rejected(name: &str) -> Rejected {
    let message = "the session has ended (invalid_grant)".to_owned();
    Rejected::new(digest(name), NOW, message)
}

fn cleared(name: &str) -> Stored {
    let mut stored = expired(name);
    stored.document.session = None;
    stored.document.rejected = Some(rejected(name));
    at_revision("null", stored)
}

/// The same session beside another configuration.
fn at_revision(revision: &str, mut stored: Stored) -> Stored {
    stored.document.issuer = Some(revision.to_owned());
    Stored { revision: Revision(revision.to_owned()), ..stored }
}

fn digest(token: &str) -> String {
    Secret::new(token).sha256()
}

// ---- the records beside it ----

fn owner() -> Owner {
    Owner { host: "ci-7".to_owned(), pid: 4711, ..Owner::default() }
}

/// An open attempt on `A`.
fn open(number: u64, owner_is: Presence) -> AttemptRecord {
    let id = format!("other-{number}");
    let attempt = Attempt::open(id, digest("A"), digest("a"), owner(), NOW - 10, NOW + 40);
    AttemptRecord { number, attempt, owner: owner_is, has_answer: false }
}

fn live(number: u64) -> AttemptRecord {
    open(number, Presence::Alive)
}

fn abandoned(number: u64) -> AttemptRecord {
    open(number, Presence::Gone)
}

fn looking(number: u64) -> AttemptRecord {
    let mut record = live(number);
    record.attempt.end(AttemptOutcome::Looking, None, NOW);
    record
}

fn ended(number: u64, outcome: AttemptOutcome, kind: Kind) -> AttemptRecord {
    let failure = Failure::new(kind, format!("failure of other-{number}")).hint("the hint of it");
    let mut record = open(number, Presence::Gone);
    record.attempt.end(outcome, Some(&failure), NOW);
    record
}

fn with_answer(record: AttemptRecord) -> AttemptRecord {
    AttemptRecord { has_answer: true, ..record }
}

/// On another refresh token than `A`.
fn on(name: &str, mut record: AttemptRecord) -> AttemptRecord {
    record.attempt.credential_sha256 = digest(name);
    record.attempt.access_token_sha256 = digest(&name.to_lowercase());
    record
}

// ---- what happens ----

fn read(stored: impl Into<Option<Stored>>) -> Event {
    Event::Read(Ok(stored.into()))
}

fn looked(stored: impl Into<Option<Stored>>, attempts: &[AttemptRecord]) -> Event {
    Event::Looked(Ok(View { attempts: attempts.to_vec(), stored: stored.into() }))
}

fn look_fails() -> Event {
    Event::Looked(Err(disk()))
}

fn locking(locking: LockResult) -> Event {
    Event::LockAnswered(locking)
}

fn mine(number: u64) -> Event {
    Event::Claimed(ClaimResult::Mine(number))
}

fn replaced(replacement: ReplaceResult) -> Event {
    Event::Replaced(replacement)
}

fn lost_to(stored: impl Into<Option<Stored>>) -> Event {
    replaced(ReplaceResult::Lost(stored.into().map(Box::new)))
}

fn disk() -> Failure {
    Failure::new(Kind::Store, "cannot write the store: disk full")
}

/// The server gives the session `name`, without a new refresh token where `rotates` is false.
fn refreshed(name: &str, rotates: bool) -> Event {
    Event::Answered(Answer::Refreshed(TokenAnswer {
        access_token: Secret::new(name.to_lowercase()),
        token_type: "Bearer".to_owned(),
        expires_in: Some(LIFETIME.unsigned_abs()),
        refresh_token: rotates.then(|| Secret::new(name)),
        id_token: None,
        scope: None,
        extra: Default::default(),
    }))
}

fn invalid_grant() -> Event {
    let description = Some("Token is not active".to_owned());
    Event::Answered(Answer::InvalidGrant { error: "invalid_grant".to_owned(), description })
}

fn refused(refusal: Refusal, error: &str) -> Event {
    Event::Answered(Answer::Refused { refusal, error: error.to_owned(), description: None })
}

fn temporary(retry_after: Option<u64>) -> Event {
    let retry_after = retry_after.map(Duration::from_secs);
    Event::Answered(Answer::Temporary { what: "HTTP 503".to_owned(), retry_after })
}

fn failed(kind: Kind) -> Event {
    Event::Answered(Answer::Failed(Failure::new(kind, "moved").hint("the way out")))
}

fn no_answer() -> Event {
    Event::Answered(Answer::Unknown { what: "the connection broke".to_owned(), again: true })
}

// ---- the story ----

struct Story {
    machine: Machine,
    step: Step,
    now: Now,
    /// The number of the present claim.
    claimed: Option<u64>,
}

impl Story {
    fn of(unwanted: Unwanted, min_ttl: i64, lock_use: LockUse, deadline: Duration) -> Self {
        Self::in_the_role_of(
            Role::InPlace,
            Demand { min_ttl, ..Demand::other_than(unwanted) },
            lock_use,
            deadline,
        )
    }

    fn in_the_role_of(role: Role, demand: Demand, lock_use: LockUse, deadline: Duration) -> Self {
        Self::start(role, demand, lock_use, false, deadline)
    }

    /// In a store that compares and swaps, without a lock.
    fn swapping(lock_use: LockUse) -> Self {
        Self::start(Role::InPlace, Demand::default(), lock_use, true, seconds(30))
    }

    fn start(role: Role, demand: Demand, lock_use: LockUse, swaps: bool, deadline: Duration) -> Self {
        let (machine, step) = Machine::start(Settings {
            profile: "default".to_owned(),
            demand,
            lock_use,
            swaps,
            role,
            deadline,
            owner: Owner { host: "here".to_owned(), pid: 1, ..Owner::default() },
            nonce: "me".to_owned(),
        });
        assert_eq!(step, Step::Read);
        Self { machine, step, now: Now { wall: NOW, elapsed: Duration::ZERO }, claimed: None }
    }

    /// `onegrant token`, with the default deadline of 30 s.
    fn token() -> Self {
        Self::using(LockUse::Auto)
    }

    fn using(lock_use: LockUse) -> Self {
        Self::of(Unwanted::None, 0, lock_use, seconds(30))
    }

    fn within(deadline: Duration) -> Self {
        Self::of(Unwanted::None, 0, LockUse::Auto, deadline)
    }

    fn min_ttl(min_ttl: i64) -> Self {
        Self::of(Unwanted::None, min_ttl, LockUse::Auto, seconds(30))
    }

    /// `onegrant token`, with a worker.
    fn calling(unwanted: Unwanted, lock_use: LockUse) -> Self {
        Self::in_the_role_of(Role::Caller, Demand::other_than(unwanted), lock_use, seconds(30))
    }

    /// The worker that starts from this input.
    fn working(input: &RefreshInput) -> Self {
        let role = Role::Worker(input.clone());
        Self::in_the_role_of(role, input.demand.clone(), LockUse::Auto, seconds(30))
    }

    /// The input that a caller delegates.
    #[track_caller]
    fn delegated(&self) -> RefreshInput {
        let Step::Delegate(input) = &self.step else { panic!("no input, but {}", shown(&self.step)) };
        input.clone()
    }

    /// `onegrant refresh`.
    fn forced() -> Self {
        Self::of(Unwanted::FirstSeen, 0, LockUse::Auto, seconds(30))
    }

    /// `onegrant refresh --rejected`.
    fn rejected(access_token: &str) -> Self {
        Self::of(Unwanted::Rejected(Secret::new(access_token)), 0, LockUse::Auto, seconds(30))
    }

    #[track_caller]
    fn then(mut self, event: Event, expected: &str) -> Self {
        let text = format!("{event:?}");
        self.feed(event);
        assert_eq!(shown(&self.step), expected, "after {text}");
        self
    }

    fn feed(&mut self, event: Event) {
        match &event {
            Event::Claimed(ClaimResult::Mine(number)) => self.claimed = Some(*number),
            _ if matches!(self.step, Step::Withdraw { .. }) => self.claimed = None,
            _ => {}
        }
        self.step = self.machine.next(event, self.now);
    }

    /// Both clocks go on.
    fn after(mut self, duration: Duration) -> Self {
        self.now.elapsed += duration;
        self.now.wall += i64::try_from(duration.as_secs()).unwrap();
        self
    }

    /// The wall clock alone is set.
    fn clock_jumps(mut self, seconds: i64) -> Self {
        self.now.wall += seconds;
        self
    }

    /// The pause ends.
    #[track_caller]
    fn rested(self, expected: &str) -> Self {
        let Step::Pause(pause) = self.step else { panic!("no pause, but {}", shown(&self.step)) };
        self.after(pause).then(Event::Paused, expected)
    }

    #[track_caller]
    fn saying(self, words: &str) -> Self {
        let said = match &self.step {
            Step::Finish(Ok(Token { warnings, .. })) => format!("{warnings:?}"),
            other => format!("{other:?}"),
        };
        assert!(said.contains(words), "{words:?} is not in {said}");
        self
    }

    #[track_caller]
    fn at_level(self, level: Level) -> Self {
        assert_eq!(self.machine.level(), level);
        self
    }

    /// What the own record says from now on.
    #[track_caller]
    fn marked(&self) -> Attempt {
        let Step::Mark { attempt, .. } = &self.step else { panic!("no mark, but {}", shown(&self.step)) };
        attempt.clone()
    }

    /// The document that is to be stored.
    #[track_caller]
    fn storing(&self) -> Document {
        let Step::Replace { document, .. } = &self.step else { panic!("{}", shown(&self.step)) };
        document.clone()
    }

    /// No other process runs: goes on to the first step that `is_there`.
    #[track_caller]
    fn alone(mut self, with: &Stored, is_there: impl Fn(&Step) -> bool) -> Self {
        while !is_there(&self.step) {
            let own = self.claimed.map(live);
            let event = match &self.step {
                Step::Read => read(with.clone()),
                Step::Look { .. } => looked(with.clone(), own.as_slice()),
                Step::Lock(LockMode::Try, _) => locking(LockResult::Granted),
                Step::Claim { number, .. } => mine(*number),
                Step::Mark { .. } | Step::Withdraw { .. } => Event::Noted,
                Step::Pause(pause) => {
                    let pause = *pause;
                    self = self.after(pause);
                    Event::Paused
                }
                step => panic!("nothing to do about {}", shown(step)),
            };
            self.feed(event);
        }
        self
    }

    /// Goes on to the claim.
    fn claims(self, with: &Stored) -> Self {
        self.alone(with, |step| matches!(step, Step::Claim { .. }))
    }

    /// Goes on to the request.
    fn spends(self, with: &Stored) -> Self {
        self.alone(with, |step| matches!(step, Step::Spend { .. }))
    }

    /// Is refused, and makes the first look.
    #[track_caller]
    fn compares(self, with: &Stored) -> Self {
        self.spends(with).then(invalid_grant(), "mark A#1 looking").then(Event::Noted, "look A")
    }

    /// Is refused, and makes the fourth look.
    #[track_caller]
    fn compares_to_the_end(self, with: &Stored) -> Self {
        let own = [looking(1)];
        self.compares(with)
            .then(looked(with.clone(), &own), "pause 25ms")
            .rested("look A")
            .then(looked(with.clone(), &own), "pause 50ms")
            .rested("look A")
            .then(looked(with.clone(), &own), "pause 100ms")
            .rested("look A")
    }

    /// Is refused twice, and makes the last look.
    #[track_caller]
    fn refused_twice(self, with: &Stored) -> Self {
        self.compares_to_the_end(with)
            .then(looked(with.clone(), &[looking(1)]), "pause 1s")
            .rested("mark A#1 open")
            .then(Event::Noted, "look A")
            .then(looked(with.clone(), &[live(1)]), "spend A within 28.825s")
            .then(invalid_grant(), "mark A#1 looking")
            .then(Event::Noted, "look A")
    }

    /// Receives the session `B`, and stores it.
    #[track_caller]
    fn commits() -> Self {
        Self::token().spends(&expired("A")).then(refreshed("B", true), "store B over A as A#1")
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn name_of(credential_sha256: &str) -> &str {
    let names = ["A", "B", "C", "D"];
    names.into_iter().find(|name| digest(name) == credential_sha256).unwrap_or("?")
}

fn shown(step: &Step) -> String {
    match step {
        Step::Read => "read".to_owned(),
        Step::Look { credential_sha256 } => format!("look {}", name_of(credential_sha256)),
        Step::Lock(LockMode::Try, at_most) => format!("try the lock for {at_most:?}"),
        Step::Lock(LockMode::AwaitRelease, at_most) => format!("await the release for {at_most:?}"),
        Step::Lock(LockMode::Queue, at_most) => format!("queue for {at_most:?}"),
        Step::Pause(duration) => format!("pause {duration:?}"),
        Step::Adopt { credential_sha256, number, expected } => {
            format!("adopt {}#{number} over {}", name_of(credential_sha256), expected.0)
        }
        Step::Delegate(input) => format!("delegate, {}", input.level.name()),
        Step::Claim { attempt, number, exclusive, expected, .. } => {
            let verb = if *exclusive { "claim" } else { "leave" };
            format!("{verb} {}#{number} over {}", name_of(&attempt.credential_sha256), expected.0)
        }
        Step::Mark { attempt, number } => {
            let outcome =
                attempt.outcome.map_or("open".to_owned(), |outcome| format!("{outcome:?}").to_lowercase());
            let code = attempt.exit_code.map(|code| format!(", exit {code}")).unwrap_or_default();
            format!("mark {}#{number} {outcome}{code}", name_of(&attempt.credential_sha256))
        }
        Step::Withdraw { credential_sha256, number } => {
            format!("withdraw {}#{number}", name_of(credential_sha256))
        }
        Step::Spend { credential: Credential::RefreshToken(refresh_token), timeout, .. } => {
            format!("spend {} within {timeout:?}", refresh_token.expose())
        }
        Step::Spend { credential: Credential::Client(_), timeout, .. } => {
            format!("ask in the client's name within {timeout:?}")
        }
        Step::Replace { expected, document, attempt } => {
            let what = document
                .refresh_token()
                .map_or("clear".to_owned(), |token| format!("store {}", token.expose()));
            format!("{what} over {} as {}#{}", expected.0, name_of(&attempt.0), attempt.1)
        }
        Step::Revoke { document } => {
            format!("revoke {}", document.refresh_token().map_or("nothing", |token| token.expose()))
        }
        Step::Finish(Ok(token)) => {
            let refreshed = if token.refreshed { " refreshed" } else { "" };
            let warned = if token.warnings.is_empty() { "" } else { ", warned" };
            format!("ok {}{refreshed}{warned}", token.session.access_token.expose())
        }
        Step::Finish(Err(failure)) => format!("exit {}", failure.kind.code()),
    }
}

// ---- the first read, without a lock ----

#[test]
fn a_fresh_token_costs_one_read() {
    Story::token().then(read(fresh("A")), "ok a");
}

#[test]
fn a_fresh_token_needs_no_refresh_token() {
    Story::token().then(read(without_refresh_token(fresh("A"))), "ok a");
}

#[test]
fn an_expired_token_without_a_refresh_token_needs_a_login() {
    Story::token()
        .then(read(without_refresh_token(expired("A"))), "exit 3")
        .saying("has no refresh token")
        .saying("onegrant login");
}

#[test]
fn an_ageing_token_without_a_refresh_token_is_handed_out_with_a_warning() {
    let warned = Story::token()
        .then(read(without_refresh_token(ageing("A"))), "ok a, warned")
        .saying("has no refresh token")
        .saying("still valid");
    assert!(!format!("{:?}", warned.step).contains("has expired"));
}

#[test]
fn no_document_and_no_session_need_a_login() {
    Story::token().then(read(None), "exit 3").saying("has no grant");
    Story::token().then(read(cleared("A")), "exit 3").saying("has ended");
}

#[test]
fn a_store_that_cannot_be_read_is_reported() {
    Story::token().then(Event::Read(Err(disk())), "exit 5").saying("disk full");
}

#[test]
fn a_token_with_nine_tenths_of_its_life_left_is_not_refreshed_for_min_ttl() {
    Story::min_ttl(7200).then(read(fresh("A")), "ok a, warned").saying("grants no more");
    Story::min_ttl(7200).then(read(stored("A", 3239)), "look A");
}

#[test]
fn a_clock_before_the_login_makes_nothing_fresh() {
    Story::token().clock_jumps(-61).then(read(fresh("A")), "look A");
    Story::token().clock_jumps(-60).then(read(fresh("A")), "ok a");
}

// ---- the whole way, at each level ----

#[test]
fn under_a_lock_a_refresh_is_look_lock_look_claim_look_spend_store() {
    let before = expired("A");
    Story::token()
        .then(read(before.clone()), "look A")
        .then(looked(before.clone(), &[]), "try the lock for 30s")
        .then(locking(LockResult::Granted), "look A")
        .then(looked(before.clone(), &[]), "claim A#1 over A")
        .then(mine(1), "look A")
        .then(looked(before, &[live(1)]), "spend A within 20s")
        .then(refreshed("B", true), "store B over A as A#1")
        .then(replaced(ReplaceResult::Done), "ok b refreshed")
        .at_level(Level::Locked);
}

#[test]
fn with_claims_alone_no_lock_is_used() {
    let before = expired("A");
    Story::using(LockUse::Claim)
        .then(read(before.clone()), "look A")
        .then(looked(before.clone(), &[]), "claim A#1 over A")
        .then(mine(1), "look A")
        .then(looked(before, &[live(1)]), "spend A within 20s")
        .then(refreshed("B", true), "store B over A as A#1")
        .then(replaced(ReplaceResult::Done), "ok b refreshed")
        .at_level(Level::Claimed);
}

#[test]
fn with_lock_off_a_claim_is_made_beside_the_others() {
    let before = expired("A");
    Story::using(LockUse::Off)
        .then(read(before.clone()), "look A")
        .then(looked(before.clone(), &[live(1), looking(2)]), "leave A#3 over A")
        .then(mine(4), "look A")
        .then(looked(before, &[live(1), looking(2), live(3), live(4), live(5)]), "spend A within 20s")
        .then(refreshed("B", true), "store B over A as A#4")
        .then(replaced(ReplaceResult::Done), "ok b refreshed")
        .at_level(Level::Compared);
}

#[test]
fn the_claim_names_process_refresh_token_and_end() {
    let story = Story::token().claims(&expired("A"));
    let Step::Claim { attempt, .. } = &story.step else { panic!() };
    assert_eq!(attempt.id, "me-1");
    assert_eq!(attempt.credential_sha256, digest("A"));
    assert_eq!(attempt.access_token_sha256, digest("a"));
    assert_eq!(attempt.by.host, "here");
    assert_eq!((attempt.at, attempt.until), (NOW, NOW + 30 + 10));
    assert_eq!(attempt.outcome, None);
}

#[test]
fn no_record_number_is_used_twice() {
    let foreign = on("B", ended(7, AttemptOutcome::Temporary, Kind::Temporary));
    Story::token()
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[]), "try the lock for 30s")
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[foreign]), "claim A#8 over A");
}

// ---- the lock ----

fn at_the_lock(story: Story, before: &Stored) -> Story {
    story.alone(before, |step| matches!(step, Step::Lock(..)))
}

#[test]
fn a_token_that_is_fresh_before_the_lock_needs_no_lock() {
    Story::token().then(read(expired("A")), "look A").then(looked(fresh("B"), &[]), "ok b");
}

#[test]
fn a_waiter_that_finds_a_fresh_document_takes_no_lock() {
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Busy), "await the release for 30s")
        .after(millis(300))
        .then(locking(LockResult::Granted), "read")
        .then(read(fresh("B")), "ok b");
}

#[test]
fn a_waiter_that_finds_a_failure_shares_its_exit_code_and_text() {
    let cases = [
        (AttemptOutcome::Temporary, Kind::Temporary, "exit 4"),
        (AttemptOutcome::Unknown, Kind::Temporary, "exit 4"),
        (AttemptOutcome::Refused, Kind::LoginRequired, "exit 3"),
        (AttemptOutcome::Refused, Kind::Usage, "exit 2"),
        (AttemptOutcome::Rejected, Kind::LoginRequired, "exit 3"),
        (AttemptOutcome::Unknown, Kind::Store, "exit 5"),
    ];
    for (outcome, kind, exit) in cases {
        at_the_lock(Story::token(), &expired("A"))
            .then(locking(LockResult::Busy), "await the release for 30s")
            .then(locking(LockResult::Granted), "read")
            .then(read(expired("A")), "look A")
            .then(looked(expired("A"), &[ended(1, outcome, kind)]), exit)
            .saying("failure of other-1")
            .saying("the hint of it");
    }
}

#[test]
fn a_waiter_that_finds_no_result_queues_because_the_holder_died() {
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Busy), "await the release for 30s")
        .after(seconds(1))
        .then(locking(LockResult::Granted), "read")
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[abandoned(1)]), "queue for 29s")
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[abandoned(1)]), "claim A#2 over A");
}

#[test]
fn a_process_that_queued_shares_the_failure_of_the_process_before_it() {
    let failed = ended(2, AttemptOutcome::Temporary, Kind::Temporary);
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Busy), "await the release for 30s")
        .then(locking(LockResult::Granted), "read")
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[abandoned(1)]), "queue for 30s")
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[abandoned(1), failed]), "exit 4")
        .saying("failure of other-2");
}

#[test]
fn without_locks_the_level_is_claimed() {
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Refused("no locks available".to_owned())), "look A")
        .at_level(Level::Claimed)
        .then(looked(expired("A"), &[]), "claim A#1 over A");
}

#[test]
fn a_lock_that_stays_busy_is_exit_4_after_a_last_look() {
    let waits = || {
        at_the_lock(Story::token(), &expired("A"))
            .then(locking(LockResult::Busy), "await the release for 30s")
            .after(seconds(30))
            .then(locking(LockResult::Unanswered), "look A")
    };
    waits().then(looked(expired("A"), &[live(1)]), "exit 4").saying("after 30 s");
    waits().then(looked(expired("A"), &[]), "exit 4");
    waits().then(looked(expired("A"), &[with_answer(abandoned(1))]), "exit 4");
    waits().then(looked(expired("B"), &[]), "exit 4");
    waits().then(looked(fresh("B"), &[]), "ok b");
    waits().then(looked(None, &[]), "exit 3");
    waits().then(looked(expired("A"), &[ended(1, AttemptOutcome::Refused, Kind::Usage)]), "exit 2");
    waits().then(look_fails(), "exit 5");
}

#[test]
fn a_lock_without_a_wait_is_retried_until_the_deadline() {
    let busy = || locking(LockResult::Busy);
    at_the_lock(Story::within(millis(45)), &expired("A"))
        .then(busy(), "await the release for 45ms")
        .then(busy(), "pause 10ms")
        .rested("try the lock for 35ms")
        .then(busy(), "await the release for 35ms")
        .then(busy(), "pause 20ms")
        .rested("try the lock for 15ms")
        .then(busy(), "await the release for 15ms")
        .then(busy(), "pause 15ms")
        .rested("try the lock for 0ns")
        .then(busy(), "await the release for 0ns")
        .then(busy(), "look A")
        .then(looked(expired("A"), &[]), "exit 4")
        .saying("still held the lock");
}

#[test]
fn a_token_that_ends_while_the_lock_call_hangs_makes_the_process_wait() {
    at_the_lock(Story::token(), &stored("A", 1))
        .after(seconds(1))
        .then(locking(LockResult::Unanswered), "await the release for 29s");
}

#[test]
fn a_lock_that_fails_is_exit_5_unless_the_token_still_works() {
    at_the_lock(Story::token(), &expired("A")).then(locking(LockResult::Failed(disk())), "exit 5");
    at_the_lock(Story::token(), &ageing("A"))
        .then(locking(LockResult::Failed(disk())), "ok a, warned")
        .saying("still valid");
}

#[test]
fn a_working_token_is_handed_out_without_a_wait() {
    at_the_lock(Story::token(), &ageing("A")).then(locking(LockResult::Busy), "ok a");
    at_the_lock(Story::token(), &ageing("A")).then(locking(LockResult::Unanswered), "ok a");
}

#[test]
fn a_lock_call_that_hangs_delays_a_working_token_for_a_moment_only() {
    Story::token().then(read(ageing("A")), "look A").then(looked(ageing("A"), &[]), "try the lock for 100ms");
}

#[test]
fn a_token_too_short_for_min_ttl_waits_for_the_refresh_of_another_process() {
    for left in [500, 40] {
        let waits = || {
            at_the_lock(Story::min_ttl(600), &stored("A", left))
                .then(locking(LockResult::Busy), "await the release for 30s")
        };
        waits().then(locking(LockResult::Granted), "read").then(read(fresh("B")), "ok b");
        waits()
            .after(seconds(30))
            .then(locking(LockResult::Unanswered), "look A")
            .then(looked(stored("A", left), &[]), "ok a, warned")
            .saying("still valid");
    }
    // It lasts as long as `--min-ttl` asks, but less than the usual margin.
    at_the_lock(Story::min_ttl(5), &ageing("A")).then(locking(LockResult::Busy), "ok a");
}

#[test]
fn a_forced_refresh_waits_although_the_token_works() {
    at_the_lock(Story::forced(), &fresh("A"))
        .then(locking(LockResult::Busy), "await the release for 30s")
        .then(locking(LockResult::Granted), "read")
        .then(read(fresh("B")), "ok b");
}

// ---- the look under the lock ----

#[test]
fn a_token_that_is_fresh_under_the_lock_is_handed_out() {
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Granted), "look A")
        .then(looked(fresh("B"), &[]), "ok b");
}

#[test]
fn a_store_that_fails_under_the_lock_is_exit_5() {
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Granted), "look A")
        .then(look_fails(), "exit 5");
}

#[test]
fn a_live_claim_binds_also_under_the_lock() {
    for other in [live(1), looking(1), open(1, Presence::Unknown)] {
        let seen = || looked(expired("A"), std::slice::from_ref(&other));
        at_the_lock(Story::token(), &expired("A"))
            .then(locking(LockResult::Granted), "look A")
            .then(seen(), "pause 10ms")
            .rested("look A")
            .then(seen(), "pause 20ms")
            .rested("look A")
            .then(seen(), "pause 40ms")
            .rested("look A")
            .then(seen(), "pause 80ms")
            .rested("look A")
            .then(seen(), "pause 100ms")
            .rested("look A")
            .then(seen(), "pause 100ms")
            .rested("look A")
            .then(looked(fresh("B"), &[]), "ok b");
    }
}

#[test]
fn a_live_claim_is_waited_for_up_to_the_deadline() {
    at_the_lock(Story::within(millis(50)), &expired("A"))
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[live(1)]), "pause 10ms")
        .rested("look A")
        .then(looked(expired("A"), &[live(1)]), "pause 20ms")
        .rested("look A")
        .then(looked(expired("A"), &[live(1)]), "pause 20ms")
        .rested("look A")
        .then(looked(expired("A"), &[live(1)]), "look A")
        .then(looked(expired("A"), &[live(1)]), "exit 4")
        .saying("another process's refresh had not ended");
}

#[test]
fn a_live_claim_is_not_waited_for_while_the_token_works() {
    at_the_lock(Story::token(), &ageing("A"))
        .then(locking(LockResult::Granted), "look A")
        .then(looked(ageing("A"), &[live(1)]), "ok a");
}

#[test]
fn a_claim_is_taken_over_when_its_owner_is_gone_or_past_until() {
    let mut late = open(3, Presence::Unknown);
    late.attempt.until = NOW;
    let mut alive_and_late = live(3);
    alive_and_late.attempt.until = NOW;
    for stale in [abandoned(3), late, alive_and_late] {
        at_the_lock(Story::token(), &expired("A"))
            .then(locking(LockResult::Granted), "look A")
            .then(looked(expired("A"), &[stale]), "claim A#4 over A");
    }
}

#[test]
fn a_record_about_another_session_means_nothing() {
    let mut same_refresh_token = live(1);
    same_refresh_token.attempt.access_token_sha256 = digest("an older one");
    for foreign in [on("B", live(1)), same_refresh_token] {
        at_the_lock(Story::token(), &expired("A"))
            .then(locking(LockResult::Granted), "look A")
            .then(looked(expired("A"), &[foreign]), "claim A#2 over A");
    }
}

#[test]
fn a_dead_grant_names_the_attempt_that_was_never_finished() {
    let expired = || expired("A");
    at_the_lock(Story::token(), &expired())
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired(), &[abandoned(1)]), "claim A#2 over A")
        .then(mine(2), "look A")
        .then(looked(expired(), &[abandoned(1), live(2)]), "spend A within 20s")
        .then(invalid_grant(), "mark A#2 looking")
        .alone(&expired(), |step| matches!(step, Step::Spend { .. }))
        .then(invalid_grant(), "mark A#2 looking")
        .alone(&expired(), |step| matches!(step, Step::Replace { .. }))
        .then(replaced(ReplaceResult::Done), "exit 3")
        .saying("(invalid_grant: Token is not active)")
        .saying(
            "a refresh was begun by process 4711 on ci-7 at Fri, 15 Jan 2027 07:59:50 GMT and never finished",
        );
}

#[test]
fn a_dead_grant_names_an_answer_that_was_lost_before() {
    let unknown = ended(1, AttemptOutcome::Unknown, Kind::Temporary);
    Story::token()
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), std::slice::from_ref(&unknown)), "try the lock for 30s")
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[unknown]), "claim A#2 over A")
        .spends(&expired("A"))
        .then(invalid_grant(), "mark A#2 looking")
        .alone(&expired("A"), |step| matches!(step, Step::Spend { .. }))
        .then(invalid_grant(), "mark A#2 looking")
        .alone(&expired("A"), |step| matches!(step, Step::Replace { .. }))
        .then(replaced(ReplaceResult::Done), "exit 3")
        .saying("begun by process 4711");
}

#[test]
fn an_unfinished_attempt_on_an_older_refresh_token_is_not_named() {
    let story = Story::using(LockUse::Claim)
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[abandoned(1)]), "claim A#2 over A")
        .then(mine(2), "look A")
        .then(looked(expired("B"), &[]), "withdraw A#2")
        .then(Event::Noted, "look B")
        .then(looked(expired("B"), &[]), "claim B#1 over B")
        .then(mine(1), "look B")
        .then(looked(expired("B"), &[on("B", live(1))]), "spend B within 20s")
        .then(invalid_grant(), "mark B#1 looking")
        .alone(&expired("B"), |step| matches!(step, Step::Spend { .. }))
        .then(invalid_grant(), "mark B#1 looking")
        .alone(&expired("B"), |step| matches!(step, Step::Finish(_)));
    assert_eq!(shown(&story.step), "exit 3");
    assert!(!format!("{:?}", story.step).contains("never finished"));
}

#[test]
fn a_completed_answer_is_adopted() {
    for finished in [abandoned(1), ended(1, AttemptOutcome::Unknown, Kind::Store)] {
        at_the_lock(Story::token(), &expired("A"))
            .then(locking(LockResult::Granted), "look A")
            .then(looked(expired("A"), &[with_answer(finished)]), "adopt A#1 over A")
            .then(Event::Adopted(Ok(true)), "look A")
            .then(looked(fresh("B"), &[]), "ok b");
    }
}

#[test]
fn the_answer_of_a_running_owner_is_not_adopted() {
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[with_answer(live(1))]), "pause 10ms");
    Story::using(LockUse::Off)
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[with_answer(live(1))]), "leave A#2 over A");
}

#[test]
fn after_a_lost_adoption_the_machine_looks_again() {
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[with_answer(abandoned(1))]), "adopt A#1 over A")
        .then(Event::Adopted(Ok(false)), "look A")
        .then(looked(fresh("B"), &[]), "ok b");
}

#[test]
fn adopting_ends_by_its_bound_and_spends_nothing() {
    let seen = || looked(expired("A"), &[with_answer(abandoned(1))]);
    let mut story = at_the_lock(Story::token(), &expired("A")).then(locking(LockResult::Granted), "look A");
    for _ in 0..MAX_ADOPTIONS {
        story = story.then(seen(), "adopt A#1 over A").then(Event::Adopted(Ok(false)), "look A");
    }
    story.then(seen(), "exit 5").saying("cannot adopt");
}

#[test]
fn an_adoption_that_fails_spends_nothing() {
    let adopts = |before: Stored| {
        at_the_lock(Story::token(), &before)
            .then(locking(LockResult::Granted), "look A")
            .then(looked(before, &[with_answer(abandoned(1))]), "adopt A#1 over A")
    };
    adopts(expired("A")).then(Event::Adopted(Err(disk())), "exit 5");
    adopts(ageing("A")).then(Event::Adopted(Err(disk())), "ok a, warned");
}

// ---- the claim, and the look after it ----

#[test]
fn a_lost_claim_makes_the_process_wait() {
    Story::using(LockUse::Claim)
        .claims(&expired("A"))
        .then(Event::Claimed(ClaimResult::Taken), "pause 10ms")
        .rested("look A")
        .then(looked(expired("A"), &[live(1)]), "pause 20ms")
        .rested("look A")
        .then(looked(fresh("B"), &[]), "ok b");
}

#[test]
fn claims_that_are_always_taken_end_at_the_deadline() {
    Story::of(Unwanted::None, 0, LockUse::Claim, millis(25))
        .claims(&expired("A"))
        .then(Event::Claimed(ClaimResult::Taken), "pause 10ms")
        .after(millis(15))
        .rested("look A")
        .then(looked(expired("A"), &[]), "look A")
        .then(looked(expired("A"), &[]), "exit 4")
        .saying("no time was left for a request");
}

#[test]
fn without_room_for_the_answer_nothing_is_spent() {
    let fails = || Event::Claimed(ClaimResult::Failed(disk()));
    Story::token().claims(&expired("A")).then(fails(), "exit 5").saying("disk full");
    Story::token().claims(&ageing("A")).then(fails(), "ok a, warned").saying("still valid");
}

#[test]
fn a_document_that_changed_before_the_claim_is_not_spent() {
    let confirms = || Story::token().claims(&expired("A")).then(mine(1), "look A");
    let changes = [
        (Some(fresh("B")), "look B", "ok b"),
        (None, "look A", "exit 3"),
        (Some(cleared("A")), "look A", "exit 3"),
    ];
    for (found, look, end) in changes {
        confirms()
            .then(looked(found.clone(), &[live(1)]), "withdraw A#1")
            .then(Event::Noted, look)
            .then(looked(found, &[]), end);
    }
    confirms()
        .then(looked(expired("B"), &[live(1)]), "withdraw A#1")
        .then(Event::Noted, "look B")
        .then(looked(expired("B"), &[]), "claim B#1 over B")
        .then(mine(1), "look B")
        .then(looked(expired("B"), &[on("B", live(1))]), "spend B within 20s");
}

#[test]
fn a_claim_that_was_overtaken_is_not_spent() {
    for level in [LockUse::Auto, LockUse::Claim] {
        let confirms = || Story::using(level).claims(&expired("A")).then(mine(1), "look A");
        confirms()
            .then(looked(expired("A"), &[live(1), live(2)]), "withdraw A#1")
            .then(Event::Noted, "look A")
            .then(looked(expired("A"), &[live(2)]), "pause 10ms");
        confirms()
            .then(looked(expired("A"), &[live(1), abandoned(2)]), "withdraw A#1")
            .then(Event::Noted, "look A")
            .then(looked(expired("A"), &[abandoned(2)]), "claim A#3 over A");
    }
}

#[test]
fn a_claim_that_ends_too_soon_is_replaced() {
    Story::token()
        .claims(&expired("A"))
        .then(mine(1), "look A")
        .clock_jumps(11)
        .then(looked(expired("A"), &[live(1)]), "withdraw A#1")
        .then(Event::Noted, "look A")
        .then(looked(expired("A"), &[]), "claim A#1 over A")
        .then(mine(1), "look A")
        .then(looked(expired("A"), &[live(1)]), "spend A within 20s");
}

#[test]
fn nothing_is_spent_after_the_deadline() {
    Story::token()
        .claims(&expired("A"))
        .then(mine(1), "look A")
        .after(millis(29_981))
        .then(looked(expired("A"), &[live(1)]), "withdraw A#1")
        .then(Event::Noted, "look A")
        .then(looked(expired("A"), &[]), "look A")
        .then(looked(expired("A"), &[]), "exit 4");
}

#[test]
fn a_store_that_fails_before_the_spend_costs_nothing() {
    Story::token()
        .claims(&expired("A"))
        .then(mine(1), "look A")
        .then(look_fails(), "withdraw A#1")
        .then(Event::Noted, "exit 5");
}

// ---- the request, and what its answer means ----

#[test]
fn a_part_of_a_long_deadline_is_kept_for_a_second_request() {
    let cases = [(60, "50s"), (30, "20s"), (20, "10s"), (19, "19s"), (1, "1s")];
    for (deadline, timeout) in cases {
        let story = Story::within(seconds(deadline)).spends(&expired("A"));
        assert_eq!(shown(&story.step), format!("spend A within {timeout}"));
    }
}

#[test]
fn a_failure_is_held_back_then_recorded_then_reported() {
    let cases = [
        (temporary(None), "temporary", 4, "HTTP 503"),
        (refused(Refusal::Other, "access_denied"), "refused", 3, "access_denied"),
        (refused(Refusal::InvalidClient, "invalid_client"), "refused", 2, "invalid_client"),
    ];
    for (answer, outcome, code, words) in cases {
        let mark = format!("mark A#1 {outcome}, exit {code}");
        let story = Story::token()
            .spends(&expired("A"))
            .after(seconds(2))
            .then(answer.clone(), "pause 250ms")
            .rested(&mark)
            .saying(words);
        assert_eq!(story.marked().ended_at, Some(NOW + 2));
        story.then(Event::Noted, &format!("exit {code}")).saying("the session is kept");

        let story = Story::token().spends(&ageing("A")).then(answer, "pause 250ms").rested(&mark);
        let message = story.marked().message.unwrap();
        assert!(!message.contains("still valid"), "others may not have it: {message}");
        story.then(Event::Noted, "ok a, warned").saying(words).saying("still valid");
    }
}

/// Of a client that a person named, the configuration is wrong. A client that registered itself was forgotten by the server.
#[test]
fn what_a_refusal_asks_for_depends_on_its_reason_and_on_the_client() {
    let registered = |mut stored: Stored| {
        let registration = json!({
            "issuer": "https://as.example", "endpoint": "https://as.example/register",
            "redirect_uri": "http://127.0.0.1:7/callback", "registered_at": 1,
        });
        stored.document.registration = serde_json::from_value(registration).unwrap();
        stored
    };
    let named = |stored: Stored| stored;
    let target = |sent_resource| Refusal::InvalidTarget { sent_resource };
    let named_client = "to change them: onegrant login --client-id ID --scope SCOPE";
    type Client<'a> = &'a dyn Fn(Stored) -> Stored;
    let cases: [(Refusal, Client, i32, &str); 8] = [
        (Refusal::InvalidClient, &named, 2, named_client),
        (Refusal::InvalidClient, &registered, 3, "onegrant login --register"),
        (Refusal::UnauthorizedClient, &registered, 2, named_client),
        (Refusal::InvalidScope, &registered, 2, "what this server lets this client ask for"),
        (target(true), &registered, 2, "onegrant login --no-resource   # or --resource URI"),
        (target(false), &named, 2, "onegrant login --resource URI"),
        (Refusal::Other, &registered, 3, "onegrant login"),
        (Refusal::Other, &named, 3, "onegrant login"),
    ];
    for (refusal, client, code, hint) in cases {
        let stored = client(expired("A"));
        let mark = format!("mark A#1 refused, exit {code}");
        Story::token()
            .spends(&stored)
            .then(refused(refusal, "why"), "pause 250ms")
            .rested(&mark)
            .saying(hint)
            .then(Event::Noted, &format!("exit {code}"))
            .saying("the server refused: why; the session is kept")
            .saying(hint);
        let stored = client(ageing("A"));
        Story::token()
            .spends(&stored)
            .then(refused(refusal, "why"), "pause 250ms")
            .rested(&mark)
            .then(Event::Noted, "ok a, warned")
            .saying(hint);
    }
}

#[test]
fn a_failure_at_the_deadline_is_reported_at_once() {
    Story::token()
        .spends(&expired("A"))
        .after(seconds(31))
        .then(temporary(Some(1)), "pause 0ns")
        .rested("mark A#1 temporary, exit 4")
        .then(Event::Noted, "exit 4");
}

#[test]
fn a_token_that_ends_while_a_failure_is_held_back_is_not_handed_out() {
    Story::token()
        .spends(&ageing("A"))
        .then(temporary(None), "pause 250ms")
        .clock_jumps(20)
        .rested("mark A#1 temporary, exit 4")
        .then(Event::Noted, "exit 4");
}

#[test]
fn retry_after_is_obeyed_inside_the_deadline() {
    Story::token()
        .spends(&expired("A"))
        .then(temporary(Some(7)), "pause 7s")
        .rested("look A")
        .then(looked(expired("A"), &[live(1)]), "spend A within 13s")
        .then(refreshed("B", true), "store B over A as A#1");
}

#[test]
fn retry_after_beyond_the_deadline_or_beside_a_working_token_is_not_waited_for() {
    for beyond in [30, 3600, u64::MAX] {
        Story::token().spends(&expired("A")).then(temporary(Some(beyond)), "pause 250ms");
    }
    Story::token().spends(&ageing("A")).then(temporary(Some(1)), "pause 250ms");
}

#[test]
fn retry_after_is_obeyed_at_most_ten_times() {
    let mut story = Story::within(seconds(19)).spends(&expired("A"));
    for _ in 1..MAX_SENDS {
        story = story.then(temporary(Some(1)), "pause 1s").rested("look A").spends(&expired("A"));
    }
    story.then(temporary(Some(1)), "pause 250ms").rested("mark A#1 temporary, exit 4");
}

#[test]
fn a_session_that_appears_before_a_retry_is_used() {
    Story::token()
        .spends(&expired("A"))
        .then(temporary(Some(7)), "pause 7s")
        .rested("look A")
        .then(looked(fresh("B"), &[live(1)]), "withdraw A#1")
        .then(Event::Noted, "look B")
        .then(looked(fresh("B"), &[]), "ok b");
}

#[test]
fn a_lost_answer_is_asked_for_once_more() {
    Story::token()
        .spends(&expired("A"))
        .after(seconds(20))
        .then(no_answer(), "look A")
        .then(looked(expired("A"), &[live(1)]), "spend A within 10s")
        .then(refreshed("B", true), "store B over A as A#1")
        .then(replaced(ReplaceResult::Done), "ok b refreshed");
}

#[test]
fn an_answer_that_was_too_long_is_not_asked_for_again() {
    let too_long = || Event::Answered(Answer::Unknown { what: "too long".to_owned(), again: false });
    Story::token()
        .spends(&expired("A"))
        .then(too_long(), "pause 250ms")
        .rested("mark A#1 unknown, exit 4")
        .saying("too long; the refresh token may have been spent")
        .then(Event::Noted, "exit 4");
    Story::token()
        .spends(&ageing("A"))
        .then(too_long(), "pause 250ms")
        .rested("mark A#1 unknown, exit 4")
        .then(Event::Noted, "ok a, warned");
}

#[test]
fn a_failure_with_its_own_hint_is_recorded_and_costs_one_request() {
    for (kind, outcome, code) in [(Kind::Usage, "refused", 2), (Kind::Temporary, "temporary", 4)] {
        Story::token()
            .spends(&expired("A"))
            .then(failed(kind), "pause 250ms")
            .rested(&format!("mark A#1 {outcome}, exit {code}"))
            .saying("the way out")
            .then(Event::Noted, &format!("exit {code}"))
            .saying("cannot refresh: moved; the session is kept");
        Story::token()
            .spends(&ageing("A"))
            .then(failed(kind), "pause 250ms")
            .rested(&format!("mark A#1 {outcome}, exit {code}"))
            .then(Event::Noted, "ok a, warned");
    }
}

#[test]
fn a_lost_answer_never_leads_to_a_third_request() {
    let cases = [
        (no_answer(), "then the connection broke"),
        (temporary(None), "then HTTP 503"),
        (temporary(Some(1)), "then HTTP 503"),
        (failed(Kind::Usage), "then moved"),
        (Event::Answered(Answer::Impossible(Failure::new(Kind::Usage, "no proxy"))), "then no proxy"),
    ];
    for (second, words) in cases {
        Story::token()
            .spends(&expired("A"))
            .then(no_answer(), "look A")
            .then(looked(expired("A"), &[live(1)]), "spend A within 30s")
            .then(second.clone(), "pause 250ms")
            .rested("mark A#1 unknown, exit 4")
            .saying("the connection broke")
            .then(Event::Noted, "exit 4")
            .saying(words)
            .saying("may have been spent");
        Story::token()
            .spends(&ageing("A"))
            .then(no_answer(), "look A")
            .then(looked(ageing("A"), &[live(1)]), "spend A within 30s")
            .then(second, "pause 250ms")
            .rested("mark A#1 unknown, exit 4")
            .then(Event::Noted, "ok a, warned");
    }
}

#[test]
fn a_lost_answer_is_not_requested_after_the_deadline_or_a_later_claim() {
    Story::token()
        .spends(&expired("A"))
        .after(millis(29_981))
        .then(no_answer(), "pause 19ms")
        .rested("mark A#1 unknown, exit 4")
        .then(Event::Noted, "exit 4");
    Story::token()
        .spends(&expired("A"))
        .then(no_answer(), "look A")
        .then(looked(expired("A"), &[live(1), live(2)]), "pause 250ms")
        .rested("mark A#1 unknown, exit 4");
}

#[test]
fn a_store_that_fails_after_a_lost_answer_does_not_hide_that_it_was_lost() {
    let fails = |before: &Stored| {
        Story::token()
            .spends(before)
            .then(no_answer(), "look A")
            .then(look_fails(), "pause 250ms")
            .rested("mark A#1 unknown, exit 4")
    };
    fails(&expired("A"))
        .then(Event::Noted, "exit 4")
        .saying("the connection broke; then the store failed")
        .saying("may have been spent");
    fails(&ageing("A")).then(Event::Noted, "ok a, warned");
}

#[test]
fn a_lost_answer_and_a_refusal_are_a_dead_grant_that_names_both() {
    Story::token()
        .spends(&expired("A"))
        .then(no_answer(), "look A")
        .then(looked(expired("A"), &[live(1)]), "spend A within 30s")
        .then(invalid_grant(), "mark A#1 looking")
        .alone(&expired("A"), |step| matches!(step, Step::Replace { .. }))
        .then(replaced(ReplaceResult::Done), "exit 3")
        .saying("invalid_grant: Token is not active, after an answer was lost: the connection broke");
}

#[test]
fn a_lost_answer_is_not_requested_if_another_session_is_stored() {
    Story::token()
        .spends(&expired("A"))
        .then(no_answer(), "look A")
        .then(looked(fresh("B"), &[live(1)]), "withdraw A#1")
        .then(Event::Noted, "look B")
        .then(looked(fresh("B"), &[]), "ok b");
}

// ---- the comparison loop ----

#[test]
fn a_session_of_another_process_is_used_at_each_look() {
    let pauses = ["pause 25ms", "pause 50ms", "pause 100ms"];
    for looks in 0..=pauses.len() {
        let mut story = Story::token().compares(&expired("A"));
        for pause in &pauses[..looks] {
            story = story.then(looked(expired("A"), &[looking(1)]), pause).rested("look A");
        }
        story.then(looked(fresh("B"), &[looking(1)]), "withdraw A#1").then(Event::Noted, "ok b");
    }
}

#[test]
fn the_own_record_says_looking_and_binds_no_process() {
    let mark = Story::token().spends(&expired("A")).then(invalid_grant(), "mark A#1 looking").marked();
    assert_eq!((mark.id.as_str(), mark.message), ("me-1", None));
}

#[test]
fn a_session_of_another_process_that_still_works_is_used() {
    Story::token()
        .compares(&expired("A"))
        .then(looked(ageing("B"), &[looking(1)]), "withdraw A#1")
        .then(Event::Noted, "ok b");
}

#[test]
fn a_newer_session_that_expired_is_refreshed_and_a_third_one_is_not() {
    let second = || {
        Story::token()
            .compares(&expired("A"))
            .then(looked(expired("B"), &[looking(1)]), "withdraw A#1")
            .then(Event::Noted, "look B")
            .then(looked(expired("B"), &[]), "claim B#1 over B")
            .then(mine(1), "look B")
            .then(looked(expired("B"), &[on("B", live(1))]), "spend B within 20s")
    };
    second().then(refreshed("C", true), "store C over B as B#1");
    second()
        .then(invalid_grant(), "mark B#1 looking")
        .then(Event::Noted, "look B")
        .then(looked(expired("C"), &[on("B", looking(1))]), "withdraw B#1")
        .then(Event::Noted, "look C")
        .then(looked(expired("C"), &[]), "exit 4")
        .saying("nothing was deleted");
}

#[test]
fn under_the_lock_a_dead_session_is_cleared_and_the_configuration_kept() {
    let story = Story::token()
        .refused_twice(&expired("A"))
        .then(looked(expired("A"), &[looking(1)]), "clear over A as A#1");
    let document = story.storing();
    assert_eq!(document.rejected.clone().unwrap().credential_sha256, digest("A"));
    assert_eq!(Document { rejected: None, ..document }, Document { session: None, ..expired("A").document });
    story
        .then(replaced(ReplaceResult::Done), "exit 3")
        .saying("has ended (invalid_grant: Token is not active)");
}

#[test]
fn without_a_lock_a_dead_session_is_not_cleared() {
    let refused = [
        Story::using(LockUse::Claim).refused_twice(&expired("A")),
        Story::using(LockUse::Off).compares_to_the_end(&expired("A")),
    ];
    for story in refused {
        story
            .then(looked(expired("A"), &[looking(1)]), "mark A#1 rejected, exit 3")
            .saying("has ended")
            .then(Event::Noted, "exit 3");
    }
}

#[test]
fn a_store_that_swaps_clears_a_dead_session_without_a_lock() {
    let refused = [
        Story::swapping(LockUse::Claim).refused_twice(&expired("A")),
        Story::swapping(LockUse::Off).compares_to_the_end(&expired("A")),
    ];
    for story in refused {
        story
            .then(looked(expired("A"), &[looking(1)]), "clear over A as A#1")
            .then(replaced(ReplaceResult::Done), "exit 3");
    }
}

#[test]
fn a_dead_grant_whose_access_token_works_is_not_cleared() {
    let refused = [
        Story::using(LockUse::Auto).refused_twice(&ageing("A")),
        Story::using(LockUse::Claim).refused_twice(&ageing("A")),
        Story::using(LockUse::Off).compares_to_the_end(&ageing("A")),
    ];
    for story in refused {
        story
            .then(looked(ageing("A"), &[looking(1)]), "mark A#1 rejected, exit 3")
            .then(Event::Noted, "ok a, warned")
            .saying("has ended")
            .saying("still valid");
    }
}

#[test]
fn a_refusal_that_the_server_withdraws_a_moment_later_costs_nothing() {
    for lock_use in [LockUse::Auto, LockUse::Claim] {
        Story::using(lock_use)
            .compares_to_the_end(&expired("A"))
            .then(looked(expired("A"), &[looking(1)]), "pause 1s")
            .rested("mark A#1 open")
            .then(Event::Noted, "look A")
            .then(looked(expired("A"), &[live(1)]), "spend A within 28.825s")
            .then(refreshed("B", true), "store B over A as A#1")
            .then(replaced(ReplaceResult::Done), "ok b refreshed");
    }
}

#[test]
fn a_store_that_fails_before_the_second_request_leaves_the_refusal_as_the_answer() {
    Story::token()
        .compares_to_the_end(&expired("A"))
        .then(looked(expired("A"), &[looking(1)]), "pause 1s")
        .rested("mark A#1 open")
        .then(Event::Noted, "look A")
        .then(look_fails(), "withdraw A#1")
        .then(Event::Noted, "exit 3")
        .saying("has ended")
        .saying("invalid_grant: Token is not active; and the store failed");
}

#[test]
fn a_session_that_appears_before_the_second_request_is_used() {
    let waits = || {
        Story::token()
            .compares_to_the_end(&expired("A"))
            .then(looked(expired("A"), &[looking(1)]), "pause 1s")
            .rested("mark A#1 open")
            .then(Event::Noted, "look A")
    };
    waits()
        .then(looked(fresh("B"), &[live(1)]), "withdraw A#1")
        .then(Event::Noted, "look B")
        .then(looked(fresh("B"), &[]), "ok b");
    waits()
        .then(looked(None, &[]), "withdraw A#1")
        .then(Event::Noted, "look A")
        .then(looked(None, &[]), "exit 3");
}

#[test]
fn a_refused_refresh_token_is_never_sent_a_third_time() {
    let asks_again = |before: &Stored| {
        Story::token().compares(before).alone(before, |step| matches!(step, Step::Spend { .. }))
    };
    for (second, words) in [
        (no_answer(), "then the connection broke"),
        (temporary(None), "then HTTP 503"),
        (temporary(Some(1)), "then HTTP 503"),
    ] {
        asks_again(&expired("A"))
            .then(second.clone(), "pause 250ms")
            .rested("mark A#1 unknown, exit 4")
            .then(Event::Noted, "exit 4")
            .saying("the server refused the refresh token (invalid_grant: Token is not active)")
            .saying(words)
            .saying("may have been spent");
        asks_again(&ageing("A"))
            .then(second, "pause 250ms")
            .rested("mark A#1 unknown, exit 4")
            .then(Event::Noted, "ok a, warned");
    }
    asks_again(&expired("A"))
        .then(refused(Refusal::Other, "access_denied"), "pause 250ms")
        .rested("mark A#1 refused, exit 3");
    // Refused after an answer was lost: it has been sent twice.
    Story::token()
        .spends(&expired("A"))
        .then(no_answer(), "look A")
        .then(looked(expired("A"), &[live(1)]), "spend A within 30s")
        .then(invalid_grant(), "mark A#1 looking")
        .alone(&expired("A"), |step| matches!(step, Step::Replace { .. }));
}

#[test]
fn a_refusal_is_final_without_exclusive_access_or_time() {
    // Nothing excludes other processes.
    Story::using(LockUse::Off)
        .compares_to_the_end(&expired("A"))
        .then(looked(expired("A"), &[looking(1)]), "mark A#1 rejected, exit 3");
    // Another process has claimed since.
    Story::using(LockUse::Claim)
        .compares_to_the_end(&expired("A"))
        .then(looked(expired("A"), &[looking(1), abandoned(2)]), "mark A#1 rejected, exit 3");
    // No time is left for a pause and a request.
    Story::token()
        .compares_to_the_end(&expired("A"))
        .after(millis(28_810))
        .then(looked(expired("A"), &[looking(1)]), "clear over A as A#1");
}

#[test]
fn the_second_generation_gets_a_second_request_too() {
    Story::token()
        .compares(&expired("A"))
        .then(looked(expired("B"), &[looking(1)]), "withdraw A#1")
        .then(Event::Noted, "look B")
        .then(looked(expired("B"), &[]), "claim B#1 over B")
        .then(mine(1), "look B")
        .then(looked(expired("B"), &[on("B", live(1))]), "spend B within 20s")
        .then(invalid_grant(), "mark B#1 looking")
        .alone(&expired("B"), |step| matches!(step, Step::Spend { .. }))
        .then(refreshed("C", true), "store C over B as B#1");
}

#[test]
fn an_answer_longer_than_the_limits_is_not_requested_again() {
    let too_long = Answer::Unknown { what: "the answer is too long".to_owned(), again: false };
    Story::token()
        .spends(&expired("A"))
        .then(Event::Answered(too_long), "pause 250ms")
        .rested("mark A#1 unknown, exit 4")
        .then(Event::Noted, "exit 4")
        .saying("may have been spent");
}

#[test]
fn an_open_attempt_of_another_process_is_awaited_beyond_the_four_looks() {
    for lock_use in [LockUse::Auto, LockUse::Claim, LockUse::Off] {
        let seen = || looked(expired("A"), &[looking(1), live(2)]);
        Story::using(lock_use)
            .compares_to_the_end(&expired("A"))
            .then(seen(), "pause 100ms")
            .rested("look A")
            .then(seen(), "pause 100ms")
            .after(seconds(20))
            .rested("look A")
            .then(seen(), "pause 100ms")
            .rested("look A")
            .then(looked(fresh("B"), &[]), "withdraw A#1")
            .then(Event::Noted, "ok b");
    }
}

#[test]
fn an_open_attempt_of_another_process_is_awaited_up_to_the_deadline_without_a_verdict() {
    let seen = || looked(expired("A"), &[looking(1), live(2)]);
    Story::token()
        .compares_to_the_end(&expired("A"))
        .after(millis(29_775))
        .then(seen(), "pause 50ms")
        .rested("look A")
        .then(seen(), "pause 0ns")
        .rested("mark A#1 temporary, exit 4")
        .then(Event::Noted, "exit 4")
        .saying("another process's refresh had not ended");
}

#[test]
fn an_attempt_of_another_process_that_looks_or_ended_is_not_awaited() {
    let others = [
        looking(2),
        abandoned(2),
        ended(2, AttemptOutcome::Temporary, Kind::Temporary),
        ended(2, AttemptOutcome::Rejected, Kind::LoginRequired),
    ];
    for other in others {
        Story::using(LockUse::Off)
            .compares_to_the_end(&expired("A"))
            .then(looked(expired("A"), &[looking(1), other]), "mark A#1 rejected, exit 3");
    }
}

#[test]
fn an_answer_that_appears_during_the_loop_is_adopted() {
    let answered = with_answer(abandoned(2));
    Story::token()
        .compares(&expired("A"))
        .then(looked(expired("A"), &[looking(1), answered.clone()]), "withdraw A#1")
        .then(Event::Noted, "look A")
        .then(looked(expired("A"), &[answered]), "adopt A#2 over A")
        .then(Event::Adopted(Ok(true)), "look A")
        .then(looked(fresh("B"), &[]), "ok b");
}

#[test]
fn a_logout_and_a_clearing_during_the_loop_end_it() {
    Story::token()
        .compares(&expired("A"))
        .then(looked(None, &[]), "withdraw A#1")
        .then(Event::Noted, "exit 3")
        .saying("logged out");
    Story::token()
        .compares(&expired("A"))
        .then(looked(cleared("A"), &[]), "withdraw A#1")
        .then(Event::Noted, "exit 3")
        .saying("has ended (invalid_grant");
}

#[test]
fn a_store_that_fails_during_the_loop_changes_nothing() {
    Story::token()
        .compares(&expired("A"))
        .then(look_fails(), "withdraw A#1")
        .then(Event::Noted, "exit 3")
        .saying("a login is required")
        .saying("disk full");
    Story::token()
        .compares(&ageing("A"))
        .then(look_fails(), "withdraw A#1")
        .then(Event::Noted, "ok a, warned")
        .saying("disk full")
        .saying("still valid");
}

#[test]
fn clearing_never_meets_a_newer_session() {
    let clears = || {
        Story::token()
            .refused_twice(&expired("A"))
            .then(looked(expired("A"), &[looking(1)]), "clear over A as A#1")
    };
    clears()
        .then(lost_to(fresh("B")), "look A")
        .then(looked(fresh("B"), &[looking(1)]), "withdraw A#1")
        .then(Event::Noted, "ok b");
    clears()
        .then(lost_to(None), "look A")
        .then(looked(None, &[]), "withdraw A#1")
        .then(Event::Noted, "exit 3");
    let reconfigured = at_revision("A2", expired("A"));
    clears()
        .then(lost_to(reconfigured.clone()), "look A")
        .then(looked(reconfigured, &[looking(1)]), "clear over A2 as A#1")
        .then(replaced(ReplaceResult::Done), "exit 3");
}

#[test]
fn clearing_ends_by_its_bound_and_leaves_the_verdict_in_the_record() {
    let mut story = Story::token().refused_twice(&expired("A"));
    for turn in 0..MAX_REBASES {
        let (at, next) = (format!("A{turn}"), at_revision(&format!("A{}", turn + 1), expired("A")));
        story = story
            .then(looked(at_revision(&at, expired("A")), &[looking(1)]), &format!("clear over {at} as A#1"))
            .then(lost_to(next), "look A");
    }
    story
        .then(looked(at_revision("A3", expired("A")), &[looking(1)]), "clear over A3 as A#1")
        .then(lost_to(at_revision("A4", expired("A"))), "mark A#1 rejected, exit 3")
        .then(Event::Noted, "exit 3");
}

#[test]
fn a_clearing_that_fails_leaves_the_verdict_in_the_record() {
    for replacement in [ReplaceResult::Unknown, ReplaceResult::Failed { failure: disk(), kept: None }] {
        Story::token()
            .refused_twice(&expired("A"))
            .then(looked(expired("A"), &[looking(1)]), "clear over A as A#1")
            .then(replaced(replacement), "mark A#1 rejected, exit 3")
            .then(Event::Noted, "exit 3");
    }
}

#[test]
fn a_refresh_token_that_was_rejected_is_not_sent_again() {
    let rejected = || ended(1, AttemptOutcome::Rejected, Kind::LoginRequired);
    for lock_use in [LockUse::Auto, LockUse::Claim, LockUse::Off] {
        Story::using(lock_use)
            .then(read(expired("A")), "look A")
            .then(looked(expired("A"), &[rejected()]), "exit 3")
            .saying("failure of other-1");
        Story::using(lock_use)
            .then(read(ageing("A")), "look A")
            .then(looked(ageing("A"), &[rejected()]), "ok a, warned");
    }
    let mut without_text = rejected();
    without_text.attempt.message = None;
    Story::token()
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[without_text]), "exit 3")
        .saying("refused before");
}

#[test]
fn beside_a_rejection_an_open_attempt_of_another_process_is_awaited() {
    let seen = || looked(expired("A"), &[ended(1, AttemptOutcome::Rejected, Kind::LoginRequired), live(2)]);
    Story::token().then(read(expired("A")), "look A").then(seen(), "await the release for 30s");
    for lock_use in [LockUse::Claim, LockUse::Off] {
        Story::using(lock_use)
            .then(read(expired("A")), "look A")
            .then(seen(), "pause 10ms")
            .rested("look A")
            .then(looked(fresh("B"), &[]), "ok b");
    }
}

// ---- the commit ----

#[test]
fn a_commit_keeps_the_configuration_and_names_the_process_that_refreshed() {
    let mut before = expired("A");
    before.document.rejected = Some(rejected("older"));
    before.document.other.insert("git_hosts".to_owned(), json!(["git.example"]));
    let document =
        Story::token().spends(&before).then(refreshed("B", true), "store B over A as A#1").storing();
    let last = document.last_refresh.clone().unwrap();
    assert_eq!((last.at, last.host.as_str(), last.pid), (NOW, "here", 1));
    assert_eq!(document.rejected, None);
    assert_eq!(document.other, before.document.other);
    assert_eq!(document.client_id, before.document.client_id);
}

#[test]
fn the_lifetime_counts_from_before_the_request() {
    let document = Story::token()
        .spends(&expired("A"))
        .after(seconds(5))
        .then(refreshed("B", true), "store B over A as A#1")
        .storing();
    let session = document.session.unwrap();
    assert_eq!((session.obtained_at, session.expires_at), (NOW, Some(NOW + LIFETIME)));
}

#[test]
fn the_second_request_s_lifetime_counts_from_the_second_request() {
    let document = Story::token()
        .spends(&expired("A"))
        .after(seconds(5))
        .then(no_answer(), "look A")
        .spends(&expired("A"))
        .then(refreshed("B", true), "store B over A as A#1")
        .storing();
    assert_eq!(document.session.unwrap().obtained_at, NOW + 5);
}

#[test]
fn without_a_new_refresh_token_the_old_one_stays() {
    let story = Story::token().spends(&expired("A")).then(refreshed("B", false), "store A over A as A#1");
    assert_eq!(story.storing().session.unwrap().access_token.expose(), "b");
    story.then(replaced(ReplaceResult::Done), "ok b refreshed");
}

#[test]
fn a_token_that_was_just_obtained_is_handed_out_whatever_its_lifetime() {
    Story::min_ttl(100_000)
        .spends(&expired("A"))
        .then(refreshed("B", true), "store B over A as A#1")
        .after(seconds(9999))
        .then(replaced(ReplaceResult::Done), "ok b refreshed");
}

#[test]
fn a_new_login_wins_over_a_commit_and_the_token_is_printed() {
    Story::commits().then(lost_to(fresh("C")), "withdraw A#1").then(Event::Noted, "ok b refreshed");
}

#[test]
fn a_late_commit_does_not_overwrite_a_newer_session_with_the_same_refresh_token() {
    let mut newer = fresh("A");
    newer.document.session.as_mut().unwrap().access_token = Secret::new("newer");
    Story::using(LockUse::Claim)
        .spends(&expired("A"))
        .then(refreshed("B", false), "store A over A as A#1")
        .then(lost_to(newer), "withdraw A#1")
        .then(Event::Noted, "ok b refreshed");
}

#[test]
fn a_session_that_was_cleared_for_that_very_token_is_replaced() {
    Story::commits()
        .then(lost_to(cleared("A")), "store B over null as A#1")
        .then(replaced(ReplaceResult::Done), "ok b refreshed");
    Story::commits().then(lost_to(cleared("C")), "withdraw A#1").then(Event::Noted, "ok b refreshed");
}

#[test]
fn a_logout_is_never_undone_and_the_new_refresh_token_is_revoked() {
    Story::commits()
        .then(lost_to(None), "revoke B")
        .then(Event::Noted, "withdraw A#1")
        .then(Event::Noted, "exit 3")
        .saying("logged out");
}

/// A document that is a mount point cannot be removed: a logout leaves a mark in it.
#[test]
fn a_commit_that_meets_the_mark_of_a_logout_stores_nothing_and_revokes_the_new_refresh_token() {
    let marked = expired("A").document.without_grant(NOW, "logged out".to_owned());
    let marked = Stored { document: marked, revision: Revision("mark".to_owned()) };
    Story::commits()
        .then(Event::Replaced(ReplaceResult::Lost(Some(Box::new(marked)))), "revoke B")
        .then(Event::Noted, "withdraw A#1")
        .then(Event::Noted, "exit 3")
        .saying("logged out");
}

#[test]
fn a_commit_goes_on_top_of_a_new_configuration() {
    let story = Story::commits().then(lost_to(at_revision("A2", expired("A"))), "store B over A2 as A#1");
    assert_eq!(story.storing().issuer.as_deref(), Some("A2"));
    story.then(replaced(ReplaceResult::Done), "ok b refreshed");
}

#[test]
fn a_configuration_that_keeps_changing_costs_the_session_and_the_warning_says_so() {
    let mut story = Story::commits();
    for turn in 0..MAX_REBASES {
        let at = format!("A{turn}");
        story = story.then(lost_to(at_revision(&at, expired("A"))), &format!("store B over {at} as A#1"));
    }
    story
        .then(lost_to(at_revision("A9", expired("A"))), "mark A#1 unknown, exit 5")
        .then(Event::Noted, "ok b refreshed, warned")
        .saying("THE NEW SESSION IS LOST");
}

#[test]
fn a_commit_that_may_have_happened_is_read_back() {
    let unsure = || Story::commits().then(replaced(ReplaceResult::Unknown), "read");
    let committed = Story::commits().storing();
    let there = Stored { document: committed, revision: Revision("B".to_owned()) };
    unsure().then(read(there), "ok b refreshed");
    unsure().then(read(expired("A")), "store B over A as A#1");
    unsure().then(read(None), "revoke B");
    unsure().then(read(fresh("C")), "withdraw A#1").then(Event::Noted, "ok b refreshed");
    unsure()
        .then(Event::Read(Err(disk())), "mark A#1 unknown, exit 5")
        .then(Event::Noted, "ok b refreshed, warned");
}

#[test]
fn a_commit_that_fails_prints_the_token_and_warns_that_the_session_is_lost() {
    let fails = |kept: Option<&str>| {
        let kept = kept.map(str::to_owned);
        Story::commits()
            .then(replaced(ReplaceResult::Failed { failure: disk(), kept }), "mark A#1 unknown, exit 5")
            .then(Event::Noted, "ok b refreshed, warned")
    };
    fails(None).saying("THE NEW SESSION IS LOST").saying("disk full");
    fails(Some("/s/kept")).saying("waits in /s/kept").saying("adopts it");
}

// ---- a failure is shared with the processes that waited, and with no others ----

#[test]
fn earlier_failures_are_not_shared() {
    for outcome in [AttemptOutcome::Temporary, AttemptOutcome::Refused, AttemptOutcome::Unknown] {
        let before = ended(1, outcome, Kind::Temporary);
        let seen = || looked(expired("A"), std::slice::from_ref(&before));
        Story::token()
            .then(read(expired("A")), "look A")
            .then(seen(), "try the lock for 30s")
            .then(locking(LockResult::Granted), "look A")
            .then(seen(), "claim A#2 over A")
            .then(mine(2), "look A")
            .then(looked(expired("A"), &[before.clone(), live(2)]), "spend A within 20s");
    }
}

#[test]
fn a_shared_failure_is_a_warning_beside_a_working_token_and_ends_a_forced_refresh() {
    let ends = |story: Story, before: &Stored, end: &str| {
        at_the_lock(story, before)
            .then(locking(LockResult::Busy), "await the release for 30s")
            .then(locking(LockResult::Granted), "read")
            .then(read(before.clone()), "look A")
            .then(looked(before.clone(), &[ended(1, AttemptOutcome::Temporary, Kind::Temporary)]), end)
            .saying("failure of other-1");
    };
    ends(Story::min_ttl(600), &stored("A", 500), "ok a, warned");
    ends(Story::forced(), &fresh("A"), "exit 4");
}

#[test]
fn where_claims_do_not_bind_failures_are_not_shared() {
    Story::using(LockUse::Off)
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[]), "leave A#1 over A")
        .then(mine(2), "look A")
        .then(
            looked(expired("A"), &[ended(1, AttemptOutcome::Temporary, Kind::Temporary), live(2)]),
            "spend A within 20s",
        );
}

// ---- a forced refresh coalesces ----

#[test]
fn a_forced_refresh_refreshes_a_fresh_token() {
    Story::forced()
        .spends(&fresh("A"))
        .then(refreshed("B", true), "store B over A as A#1")
        .then(replaced(ReplaceResult::Done), "ok b refreshed");
}

#[test]
fn a_forced_refresh_accepts_any_token_that_is_newer_than_its_first_read() {
    at_the_lock(Story::forced(), &fresh("A"))
        .then(locking(LockResult::Granted), "look A")
        .then(looked(ageing("B"), &[]), "ok b");
    at_the_lock(Story::forced(), &fresh("A"))
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("B"), &[]), "look B");
}

#[test]
fn a_rejected_token_is_refreshed_only_if_the_store_still_holds_it() {
    Story::rejected("a").then(read(fresh("B")), "ok b");
    Story::rejected("b").then(read(expired("A")), "look A");
    at_the_lock(Story::rejected("a"), &fresh("A"))
        .then(locking(LockResult::Busy), "await the release for 30s")
        .then(locking(LockResult::Granted), "read")
        .then(read(fresh("B")), "ok b");
}

#[test]
fn a_rejected_token_is_never_handed_out_whatever_fails() {
    let spends = || Story::rejected("a").spends(&fresh("A"));
    spends()
        .then(temporary(None), "pause 250ms")
        .rested("mark A#1 temporary, exit 4")
        .then(Event::Noted, "exit 4");
    Story::rejected("a")
        .refused_twice(&fresh("A"))
        .then(looked(fresh("A"), &[looking(1)]), "clear over A as A#1")
        .then(replaced(ReplaceResult::Done), "exit 3");
}

#[test]
fn a_forced_refresh_that_fails_is_a_failure_although_the_token_still_works() {
    Story::forced()
        .spends(&fresh("A"))
        .then(temporary(None), "pause 250ms")
        .rested("mark A#1 temporary, exit 4")
        .then(Event::Noted, "exit 4");
    Story::forced()
        .refused_twice(&fresh("A"))
        .then(looked(fresh("A"), &[looking(1)]), "mark A#1 rejected, exit 3")
        .then(Event::Noted, "exit 3");
    at_the_lock(Story::forced(), &fresh("A"))
        .then(locking(LockResult::Busy), "await the release for 30s")
        .after(seconds(30))
        .then(locking(LockResult::Unanswered), "look A")
        .then(looked(fresh("A"), &[]), "exit 4");
    let without = without_refresh_token(fresh("A"));
    Story::forced().then(read(without), "exit 3").saying("cannot refresh");
    Story::forced()
        .then(read(fresh("A")), "look A")
        .then(looked(fresh("A"), &[ended(1, AttemptOutcome::Rejected, Kind::LoginRequired)]), "exit 3");
}

// ---- the exchange in a worker ----

fn worked(delegation: DelegateResult) -> Event {
    Event::Delegated(delegation)
}

#[test]
fn a_caller_decides_under_the_lock_and_its_worker_claims_and_spends() {
    let token = Token { session: fresh("B").document.session.unwrap(), warnings: vec![], refreshed: true };
    Story::calling(Unwanted::None, LockUse::Auto)
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[]), "try the lock for 30s")
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[]), "delegate, locked")
        .then(worked(DelegateResult::Ended(Ok(token))), "ok b refreshed");
}

#[test]
fn a_caller_fails_as_its_worker_does() {
    for kind in [Kind::LoginRequired, Kind::Temporary, Kind::Store] {
        let failure = Failure::new(kind, "failure of the worker");
        Story::calling(Unwanted::None, LockUse::Claim)
            .then(read(expired("A")), "look A")
            .then(looked(expired("A"), &[]), "delegate, claimed")
            .then(worked(DelegateResult::Ended(Err(failure))), &format!("exit {}", kind.code()))
            .saying("failure of the worker");
    }
}

#[test]
fn a_caller_that_finds_a_fresh_token_needs_no_worker() {
    Story::calling(Unwanted::None, LockUse::Auto).then(read(fresh("A")), "ok a");
}

/// A worker that died may have spent the refresh token. Its caller finds the record like any other process.
#[test]
fn a_caller_without_a_worker_does_the_exchange_itself() {
    Story::calling(Unwanted::None, LockUse::Off)
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[]), "delegate, compared")
        .then(worked(DelegateResult::NoWorker), "look A")
        .then(looked(expired("A"), &[abandoned(1)]), "leave A#2 over A")
        .then(mine(2), "look A")
        .then(looked(expired("A"), &[abandoned(1), live(2)]), "spend A within 20s");
    Story::calling(Unwanted::None, LockUse::Claim)
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), &[]), "delegate, claimed")
        .then(worked(DelegateResult::NoWorker), "look A")
        .then(looked(fresh("B"), &[]), "ok b");
}

/// Finding out which process this is reads several files of `/proc`.
#[test]
fn only_a_process_that_may_claim_is_identified() {
    let unidentified = |mut story: Story| {
        story.machine.identify(Owner::default(), String::new());
        story
    };
    for lock_use in [LockUse::Claim, LockUse::Off] {
        let caller = unidentified(Story::calling(Unwanted::None, lock_use));
        assert!(!caller.machine.wants_identity());
        let caller = caller.then(read(expired("A")), "look A");
        assert!(!caller.machine.wants_identity());
        let level = RefreshInput::new(Demand::default(), lock_use).level.name();
        let caller = caller.then(looked(expired("A"), &[]), &format!("delegate, {level}"));
        assert!(!caller.machine.wants_identity());
        let worker = unidentified(Story::working(&caller.delegated()));
        assert!(!worker.machine.wants_identity());
        assert!(worker.then(read(expired("A")), "look A").machine.wants_identity());
        let alone = caller.then(worked(DelegateResult::NoWorker), "look A");
        assert!(alone.machine.wants_identity());
    }
}

/// The worker was the only holder of the lock, so its death released the lock.
#[test]
fn a_caller_whose_worker_died_asks_for_the_lock_again() {
    let caller = || {
        Story::calling(Unwanted::None, LockUse::Auto)
            .then(read(expired("A")), "look A")
            .then(looked(expired("A"), &[]), "try the lock for 30s")
            .then(locking(LockResult::Granted), "look A")
            .then(looked(expired("A"), &[]), "delegate, locked")
            .then(worked(DelegateResult::NoWorker), "try the lock for 30s")
    };
    caller()
        .then(locking(LockResult::Granted), "look A")
        .then(looked(expired("A"), &[abandoned(1)]), "claim A#2 over A");
    caller().then(locking(LockResult::Busy), "await the release for 30s");
}

#[test]
fn a_worker_that_does_not_end_costs_its_caller_the_deadline_and_no_more() {
    let caller = || {
        Story::calling(Unwanted::None, LockUse::Claim)
            .then(read(expired("A")), "look A")
            .then(looked(expired("A"), &[]), "delegate, claimed")
            .after(seconds(30))
            .then(worked(DelegateResult::Unanswered), "look A")
    };
    // The worker may have sent the refresh token.
    caller()
        .then(looked(expired("A"), &[live(1)]), "exit 4")
        .saying("had not ended after 30 s; the refresh token may have been spent");
    caller().then(looked(fresh("B"), &[]), "ok b");
}

#[test]
fn a_worker_starts_under_the_lock_of_its_caller() {
    for (lock_use, level) in [(LockUse::Claim, "claimed"), (LockUse::Off, "compared")] {
        let input = Story::calling(Unwanted::None, lock_use)
            .then(read(expired("A")), "look A")
            .then(looked(expired("A"), &[]), &format!("delegate, {level}"))
            .delegated();
        let worker = Story::working(&input).then(read(expired("A")), "look A");
        assert_eq!(worker.machine.level().name(), level);
        let claim = if level == "claimed" { "claim A#1 over A" } else { "leave A#1 over A" };
        worker.then(looked(expired("A"), &[]), claim);
    }
}

#[test]
fn a_worker_knows_the_first_read_of_its_caller() {
    let input = Story::calling(Unwanted::FirstSeen, LockUse::Claim)
        .then(read(fresh("A")), "look A")
        .then(looked(fresh("A"), &[]), "delegate, claimed")
        .delegated();
    Story::working(&input).then(read(fresh("B")), "ok b");
    Story::working(&input).then(read(fresh("A")), "look A").then(looked(fresh("A"), &[]), "claim A#1 over A");
}

#[test]
fn a_worker_shares_the_same_failures_as_its_caller() {
    let before = ended(1, AttemptOutcome::Temporary, Kind::Temporary);
    let input = Story::calling(Unwanted::None, LockUse::Claim)
        .then(read(expired("A")), "look A")
        .then(looked(expired("A"), std::slice::from_ref(&before)), "delegate, claimed")
        .delegated();
    let worker = || Story::working(&input).then(read(expired("A")), "look A");
    worker().then(looked(expired("A"), std::slice::from_ref(&before)), "claim A#2 over A");
    worker()
        .then(
            looked(expired("A"), &[before.clone(), ended(2, AttemptOutcome::Temporary, Kind::Temporary)]),
            "exit 4",
        )
        .saying("failure of other-2");
}

// ---- the refresh token changes between two looks ----

#[test]
fn after_a_change_of_the_refresh_token_its_records_are_read() {
    Story::token()
        .then(read(expired("A")), "look A")
        .then(looked(expired("B"), &[]), "look B")
        .then(looked(expired("B"), &[]), "try the lock for 30s")
        .then(locking(LockResult::Granted), "look B")
        .then(looked(expired("C"), &[]), "look C")
        .then(looked(expired("C"), &[]), "claim C#1 over C");
    at_the_lock(Story::token(), &expired("A"))
        .then(locking(LockResult::Busy), "await the release for 30s")
        .then(locking(LockResult::Granted), "read")
        .then(read(expired("B")), "look B")
        .then(looked(expired("C"), &[]), "look C")
        .then(looked(expired("C"), &[]), "queue for 30s");
}

#[test]
fn repeated_looks_end_by_their_bound() {
    let mut story = Story::token().then(read(expired("A")), "look A");
    for turn in 0..MAX_CREDENTIAL_CHANGES {
        let name = if turn % 2 == 0 { "B" } else { "A" };
        story = story.then(looked(expired(name), &[]), &format!("look {name}"));
    }
    story.then(looked(expired("B"), &[]), "exit 4").saying("nothing was deleted");
}

// ---- an event that cannot follow ----

#[test]
fn an_event_out_of_turn_is_a_defect() {
    Story::token().then(Event::Paused, "exit 1").saying("defect");
    Story::token().spends(&expired("A")).then(Event::Paused, "withdraw A#1").then(Event::Noted, "exit 1");
}
