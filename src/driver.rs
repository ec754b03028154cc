//! The only loop: asks the session machine for the next step, and does it through the store, the lock, the clock
//! and the token endpoint. Knows no reasons.

use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, Unreadable};
use crate::lock::{Guard, Locked};
use crate::protocol::token::Answer;
use crate::session::attempt::{Attempt, Outcome, Owner, Presence, Sighting};
use crate::session::{
    Claiming, Event, Level, LockUse, Locking, Machine, Now, Patience, Replacement, Result, Revision,
    Settings, Step, Stored, View,
};
use crate::store::{NewRecord, Record, RecordName, Snapshot, Store, Written};
use crate::system::SignalsHeld;
use std::time::Duration;

/// The room that is reserved for an answer, beyond the present size of the document, in bytes: tokens of many
/// kilobytes exist.
const ANSWER_RESERVE: usize = 64 << 10;

/// How often a torn document is read again: a document that is a mount point is written in place.
const TORN_READS: u32 = 5;
const TORN_DELAY: Duration = Duration::from_millis(20);

/// How often a claim is looked at that a login or a logout waits for.
const CLAIM_WAIT: Duration = Duration::from_millis(50);

/// How long a lock call may take that only finds out whether there are locks.
const LOCK_PROBE: Duration = Duration::from_secs(2);

/// How long a revocation may take that nobody asked for: the logout it follows is done already.
const REVOCATION_LIMIT: Duration = Duration::from_secs(10);

/// Carries token requests. The fourth seam.
pub trait TokenEndpoint {
    /// Spends the refresh token; ends within `timeout`.
    fn refresh(&self, document: &Document, refresh_token: &Secret, timeout: Duration) -> Answer;

    /// Revokes the session's refresh token, which nobody will use (RFC 7009), as well as it can.
    fn revoke(&self, document: &Document, timeout: Duration);
}

/// Time, and who is who in it.
pub trait Clock {
    /// Both clocks.
    fn now(&self) -> Now;
    /// Waits.
    fn pause(&self, duration: Duration);
    /// Whether the process that left a record still runs.
    fn presence(&self, owner: &Owner) -> Presence;
    /// This process.
    fn this_process(&self) -> &Owner;
    /// A random word, as the name of an attempt.
    fn nonce(&self) -> std::result::Result<String, Failure>;
}

/// What the loop works through.
pub struct Seams<'a> {
    /// Where the document is.
    pub store: &'a dyn Store,
    /// Where refresh tokens are spent.
    pub endpoint: &'a dyn TokenEndpoint,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Takes what happens, and how important it is (1: `-v`, 2: `-vv`).
    pub tell: &'a dyn Fn(u8, &str),
    /// Takes what a person should know although nothing failed.
    pub warn: &'a dyn Fn(&Failure),
}

/// What a login meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// No document yet.
    Nothing,
    /// The document of an earlier login.
    Document(Box<Stored>),
    /// Bytes that are no document, and that a login may replace after it kept them aside.
    Unreadable,
}

/// Reads what a login would replace. A newer format version is refused: a newer program works with it.
pub fn read_for_login(store: &dyn Store, clock: &dyn Clock) -> std::result::Result<Existing, Failure> {
    match read_or_say_why(store, clock)? {
        None => Ok(Existing::Nothing),
        Some(Ok((stored, _))) => Ok(Existing::Document(Box::new(stored))),
        Some(Err((Unreadable::Newer(_), failure))) => Err(failure),
        Some(Err(_)) => Ok(Existing::Unreadable),
    }
}

/// A document as it was read, with the warning that came with it.
pub fn read_document(
    store: &dyn Store,
    clock: &dyn Clock,
) -> std::result::Result<Option<WithWarning>, Failure> {
    read_or_say_why(store, clock)?.transpose().map_err(|(_, failure)| failure)
}

type Parsed<T> = std::result::Result<T, (Unreadable, Failure)>;

/// A document, and the warning that came with it.
type WithWarning = (Stored, Option<Failure>);

/// A torn document is read again: one that is a mount point is written in place.
fn read_or_say_why(
    store: &dyn Store,
    clock: &dyn Clock,
) -> std::result::Result<Option<Parsed<WithWarning>>, Failure> {
    let mut reads = 0;
    loop {
        let Some(snapshot) = store.read()? else {
            return Ok(None);
        };
        let warning = snapshot.warning.clone();
        match parse(snapshot, store) {
            Err((Unreadable::Torn | Unreadable::Empty, _)) if reads < TORN_READS => {
                reads += 1;
                clock.pause(TORN_DELAY);
            }
            parsed => return Ok(Some(parsed.map(|stored| (stored, warning)))),
        }
    }
}

fn parse(snapshot: Snapshot, store: &dyn Store) -> Parsed<Stored> {
    match Document::parse(&snapshot.bytes) {
        Ok(document) => Ok(Stored { document, revision: snapshot.revision }),
        Err(unreadable) => {
            let message = format!("cannot use {}: {unreadable}; it was left as it is", store.location());
            let failure = Failure::new(Kind::Store, message);
            let failure = match unreadable {
                Unreadable::Newer(_) => failure.hint("onegrant --version   (a newer one wrote this file)"),
                _ => failure.hint("onegrant login   (keeps the old file beside the new one)"),
            };
            Err((unreadable, failure))
        }
    }
}

/// Gets a token: runs the machine to its end.
pub fn obtain(settings: Settings, seams: &Seams) -> Result {
    let (mut machine, mut step) = Machine::start(settings);
    let mut run = Run { seams, guard: None, signals: None, has_warned: false };
    loop {
        if let Step::Finish(result) = step {
            return result;
        }
        // Who we are costs some reads, and those who find a fresh token never need it.
        if !matches!(step, Step::Read) && !machine.is_identified() {
            machine.identify(seams.clock.this_process().clone(), seams.clock.nonce()?);
        }
        let event = run.perform(step, machine.level());
        step = machine.next(event, seams.clock.now());
    }
}

/// Enters the place where a session changes, for a login or a logout: takes the lock, and where none can be had
/// waits until nobody spends the stored refresh token. A claim that outlasts the deadline is not waited for: its
/// late answer meets a changed store, and gives way.
pub fn enter(
    seams: &Seams,
    lock_use: LockUse,
    deadline: Duration,
) -> std::result::Result<Option<Guard>, Failure> {
    let left = || deadline.saturating_sub(seams.clock.now().elapsed);
    let guard = match lock_use {
        LockUse::Auto | LockUse::Require => match seams.store.lock(Patience::Queue, left()) {
            Locked::Granted(guard) => Some(guard),
            Locked::Refused(_) => None,
            Locked::Failed(failure) => return Err(failure),
            Locked::Busy | Locked::Unanswered => {
                let message = format!("another process still held the lock after {} s", deadline.as_secs());
                return Err(Failure::new(Kind::Temporary, message)
                    .hint("try again, or wait longer: --timeout SECONDS"));
            }
        },
        LockUse::Claim => None,
        LockUse::Off => return Ok(None),
    };
    while !left().is_zero() {
        let Ok(Some((stored, _))) = read_document(seams.store, seams.clock) else {
            break;
        };
        let now = seams.clock.now().wall;
        if !sightings(seams, &stored)?.iter().any(|sighting| sighting.is_live(now)) {
            break;
        }
        seams.clock.pause(CLAIM_WAIT.min(left()));
    }
    Ok(guard)
}

/// The failure that was left when the stored refresh token was found dead, where it was, and nobody is at it now.
pub fn find_rejected(seams: &Seams, stored: &Stored) -> std::result::Result<Option<Failure>, Failure> {
    let now = seams.clock.now().wall;
    let sightings = sightings(seams, stored)?;
    if sightings.iter().any(|sighting| sighting.is_live(now)) {
        return Ok(None);
    }
    let rejected = sightings.iter().find(|sighting| sighting.attempt.outcome == Some(Outcome::Rejected));
    Ok(rejected.and_then(|sighting| sighting.attempt.failure(Kind::LoginRequired)))
}

/// What stands between two spenders here: asks for the lock and gives it back.
pub fn lock_level(store: &dyn Store, lock_use: LockUse) -> std::result::Result<Level, Failure> {
    match lock_use {
        LockUse::Claim => Ok(Level::Claimed),
        LockUse::Off => Ok(Level::Compared),
        LockUse::Auto | LockUse::Require => match store.lock(Patience::Try, LOCK_PROBE) {
            Locked::Granted(_) | Locked::Busy => Ok(Level::Locked),
            Locked::Refused(_) => Ok(Level::Claimed),
            Locked::Failed(failure) => Err(failure),
            Locked::Unanswered => Err(Failure::new(Kind::Temporary, "the lock call does not answer")
                .hint("ONEGRANT_LOCK=claim onegrant status")),
        },
    }
}

/// The records that concern the stored session.
fn sightings(seams: &Seams, stored: &Stored) -> std::result::Result<Vec<Sighting>, Failure> {
    let Some(session) = &stored.document.session else {
        return Ok(Vec::new());
    };
    let Some(refresh_token) = &session.refresh_token else {
        return Ok(Vec::new());
    };
    let records = seams.store.records(&refresh_token.sha256())?;
    let sightings = records.iter().map(|record| sighting(record, seams.clock));
    Ok(sightings.filter(|sighting| sighting.attempt.concerns(session)).collect())
}

struct Run<'a> {
    seams: &'a Seams<'a>,
    guard: Option<Guard>,
    /// From the claim to the end: what was begun is finished (section 4.5 of the contract).
    signals: Option<SignalsHeld>,
    has_warned: bool,
}

impl Run<'_> {
    fn perform(&mut self, step: Step, level: Level) -> Event {
        let store = self.seams.store;
        match step {
            Step::Read => Event::Read(self.read()),
            Step::Look { refresh_token_sha256 } => Event::Looked(self.look(&refresh_token_sha256)),
            Step::Lock(patience, at_most) => Event::Locking(self.lock(patience, at_most)),
            Step::Pause(duration) => {
                self.tell(2, &format!("waiting {} ms", duration.as_millis()));
                self.seams.clock.pause(duration);
                Event::Paused
            }
            Step::Adopt { refresh_token_sha256, number, expected } => {
                self.tell(1, "adopting the session that an interrupted process left");
                Event::Adopted(store.adopt(RecordName { key: &refresh_token_sha256, number }, &expected))
            }
            Step::Claim { attempt, number, exclusive, expected, outdated } => {
                self.signals = SignalsHeld::hold();
                let name = RecordName { key: &attempt.refresh_token_sha256, number };
                let claim = |bytes: &[u8]| {
                    let reserve = ANSWER_RESERVE;
                    let (expected, outdated) = (&expected, outdated.as_slice());
                    store.create_record(&NewRecord { name, bytes, reserve, exclusive, expected, outdated })
                };
                Event::Claiming(match to_bytes(&attempt).and_then(|bytes| claim(&bytes)) {
                    Ok(Some(number)) => Claiming::Mine(number),
                    Ok(None) => Claiming::Taken,
                    Err(failure) => Claiming::Failed(failure),
                })
            }
            Step::Mark { attempt, number } => {
                self.mark(&attempt, number);
                Event::Noted
            }
            Step::Withdraw { refresh_token_sha256, number } => {
                let name = RecordName { key: &refresh_token_sha256, number };
                if let Err(failure) = store.remove_record(name) {
                    self.tell(1, &failure.message);
                }
                Event::Noted
            }
            Step::Spend { document, refresh_token, timeout } => {
                self.tell(1, &format!("refreshing at {} ({})", document.token_endpoint, level.name()));
                let began = self.seams.clock.now().elapsed;
                let answer = self.seams.endpoint.refresh(&document, &refresh_token, timeout);
                let took = self.seams.clock.now().elapsed.saturating_sub(began);
                self.tell(
                    1,
                    &format!("the server answered after {} ms: {}", took.as_millis(), name(&answer)),
                );
                Event::Answered(answer)
            }
            Step::Replace { expected, document, attempt } => {
                Event::Replaced(self.replace(&expected, &document, &attempt))
            }
            Step::Revoke { document } => {
                self.tell(1, "logged out meanwhile: revoking the new refresh token");
                self.seams.endpoint.revoke(&document, REVOCATION_LIMIT);
                Event::Noted
            }
            // The loop ends before it performs this one.
            Step::Finish(_) => Event::Noted,
        }
    }

    fn tell(&self, importance: u8, what: &str) {
        (self.seams.tell)(importance, what);
    }

    fn read(&mut self) -> std::result::Result<Option<Stored>, Failure> {
        let Some((stored, warning)) = read_document(self.seams.store, self.seams.clock)? else {
            return Ok(None);
        };
        if let Some(warning) = warning
            && !std::mem::replace(&mut self.has_warned, true)
        {
            (self.seams.warn)(&warning);
        }
        Ok(Some(stored))
    }

    /// The records first, then the document: see [`View`].
    fn look(&mut self, refresh_token_sha256: &str) -> std::result::Result<View, Failure> {
        let records = self.seams.store.records(refresh_token_sha256)?;
        let attempts = records.iter().map(|record| sighting(record, self.seams.clock)).collect();
        Ok(View { attempts, stored: self.read()? })
    }

    fn lock(&mut self, patience: Patience, at_most: Duration) -> Locking {
        match patience {
            Patience::Try => {}
            Patience::Release => self.tell(1, "another process is refreshing: waiting for it"),
            Patience::Queue => self.tell(1, "the other process left no answer: queueing for the lock"),
        }
        match self.seams.store.lock(patience, at_most) {
            Locked::Granted(guard) => {
                self.guard = Some(guard);
                Locking::Granted
            }
            Locked::Busy => Locking::Busy,
            Locked::Refused(why) => {
                self.tell(
                    1,
                    &format!("no lock can be held here ({why}): the attempt record alone decides (claimed)"),
                );
                Locking::Refused(why)
            }
            Locked::Unanswered => Locking::Unanswered,
            Locked::Failed(failure) => Locking::Failed(failure),
        }
    }

    /// A record that cannot be written stays open: the next process finds it abandoned, and knows as much.
    fn mark(&self, attempt: &Attempt, number: u64) {
        let name = RecordName { key: &attempt.refresh_token_sha256, number };
        let written = to_bytes(attempt).and_then(|bytes| self.seams.store.rewrite_record(name, &bytes));
        if let Err(failure) = written {
            self.tell(1, &failure.message);
        }
    }

    fn replace(&self, expected: &Revision, document: &Document, attempt: &(String, u64)) -> Replacement {
        let bytes = match document.to_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                let failure = Failure::new(Kind::Defect, format!("cannot write the document: {error}"));
                return Replacement::Failed { failure, kept: None };
            }
        };
        let name = RecordName { key: &attempt.0, number: attempt.1 };
        match self.seams.store.replace(expected, &bytes, Some(name)) {
            Written::Done => {
                self.tell(1, "stored");
                Replacement::Done
            }
            Written::Lost(None) => Replacement::Lost(None),
            Written::Lost(Some(snapshot)) => match parse(snapshot, self.seams.store) {
                Ok(stored) => Replacement::Lost(Some(Box::new(stored))),
                Err((_, failure)) => Replacement::Failed { failure, kept: None },
            },
            Written::Unknown => Replacement::Unknown,
            Written::Failed { failure, kept } => Replacement::Failed { failure, kept },
        }
    }
}

/// A record that cannot be read binds nobody, but keeps its number: records appear as a whole, so its bytes were
/// lost after that.
fn sighting(record: &Record, clock: &dyn Clock) -> Sighting {
    let attempt: Attempt = serde_json::from_slice(&record.bytes).unwrap_or_else(|_| Attempt::unreadable());
    let owner = match attempt.is_over() {
        true => Presence::Unknown,
        false => clock.presence(&attempt.by),
    };
    let has_answer = Document::parse(&record.answer).is_ok_and(|document| document.session.is_some());
    Sighting { number: record.number, attempt, owner, has_answer }
}

fn to_bytes(attempt: &Attempt) -> std::result::Result<Vec<u8>, Failure> {
    serde_json::to_vec(attempt)
        .map_err(|error| Failure::new(Kind::Defect, format!("cannot write a record: {error}")))
}

/// The class of an answer, for `-v`.
fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Refreshed(_) => "refreshed",
        Answer::InvalidGrant { .. } => "the refresh token was refused; comparing with the store",
        Answer::Refused { .. } => "refused",
        Answer::Temporary { .. } => "not now",
        Answer::Unknown { .. } => "no whole answer",
    }
}
