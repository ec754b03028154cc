//! The only loop: executes the steps of the session machine through the store, the lock, the clock and the token
//! endpoint. The machine decides which.

mod log;
mod reading;
mod waiting;

pub use reading::{
    Existing, TORN_DELAY, TORN_READS, attempt_records, find_rejected, parse, read_document, read_for_login,
    read_record,
};

use crate::error::Failure;
use crate::grant::{Credential, Document, json_bytes};
use crate::lock::Guard;
use crate::output::Undisturbed;
use crate::protocol::token::Answer;
use crate::session::attempt::{Attempt, Owner, Presence};
use crate::session::{
    ClaimResult, DelegateResult, Event, Level, Machine, Now, RefreshInput, ReplaceResult, Revision, Settings,
    Step, Stored, TokenResult, View,
};
use crate::store::{NewRecord, Record, RecordName, Store, WriteResult};
use crate::system::SignalsHeld;
use log::Log;
use reading::{attempt_record, find_owner, spender};
use std::time::Duration;

/// The room that is reserved for an answer, in addition to the size of the document, in bytes: some tokens have many
/// kilobytes.
const ANSWER_RESERVE: u64 = 64 << 10;

/// How long the revocation of a new refresh token may take after a logout by another process.
const REVOCATION_LIMIT: Duration = Duration::from_secs(10);

/// The token endpoint.
pub trait TokenEndpoint {
    /// Requests the next access token. Ends within `timeout`.
    fn refresh(&self, document: &Document, credential: &Credential, timeout: Duration) -> Answer;

    /// Revokes the session's refresh token (RFC 7009). A failure is not reported.
    fn revoke(&self, document: &Document, timeout: Duration);
}

/// The clocks, and what depends on this process.
pub trait Clock {
    /// The time of both clocks.
    fn now(&self) -> Now;
    /// Waits.
    fn pause(&self, duration: Duration);
    /// Whether the process that left a record still runs.
    fn presence(&self, owner: &Owner) -> Presence;
    /// This process.
    fn this_process(&self) -> &Owner;
    /// A random identifier for an attempt.
    fn nonce(&self) -> Result<String, Failure>;
}

/// The other process of an exchange with the server: for a caller its worker, for a worker its caller.
pub trait Peer {
    /// Starts a worker, gives `lock` to it, and waits for its end. If no worker can be started, the lock is released.
    fn delegate(
        &self,
        input: &RefreshInput,
        lock: Option<Guard>,
        dependencies: &Dependencies,
    ) -> DelegateResult;

    /// The lock that the caller gave to this worker.
    fn lock(&self) -> Option<Guard> {
        None
    }

    /// Tells a caller whether no request is on its way. Then a signal may end it.
    fn rests(&self, _is_resting: bool) {}
}

/// What the driver works through.
pub struct Dependencies<'a> {
    /// Where the document is.
    pub store: &'a dyn Store,
    /// Where refresh tokens are spent.
    pub endpoint: &'a dyn TokenEndpoint,
    /// The clocks.
    pub clock: &'a dyn Clock,
    /// The other process of the exchange.
    pub peer: &'a dyn Peer,
    /// Logs what happens, with its importance (1: `-v`, 2: `-vv`).
    pub log: &'a dyn Fn(u8, &str),
    /// Prints a warning.
    pub warn: &'a dyn Fn(&Failure),
    /// Sees each step and its result. It decides nothing.
    pub observe: &'a dyn Fn(&Step, &Event),
}

/// Gets a token: runs the machine to its end.
pub fn obtain(settings: Settings, dependencies: &Dependencies) -> TokenResult {
    let (mut machine, mut step) = Machine::start(settings);
    let mut run = Run {
        dependencies,
        guard: dependencies.peer.lock(),
        signals: None,
        undisturbed: None,
        has_warned: false,
        seen: None,
        known: None,
        records: Vec::new(),
        key: String::new(),
        record: Vec::new(),
        other: None,
    };
    let mut log = Log::new(dependencies);
    loop {
        if let Step::Finish(result) = step {
            return result;
        }
        // Identifying this process reads `/proc`.
        if machine.wants_identity() {
            machine.identify(dependencies.clock.this_process().clone(), dependencies.clock.nonce()?);
        }
        log.begins(&step, machine.level());
        let event = run.perform(&step, machine.level());
        log.ended(&step, &event);
        (dependencies.observe)(&step, &event);
        step = machine.next(event, dependencies.clock.now());
    }
}

struct Run<'a> {
    dependencies: &'a Dependencies<'a>,
    guard: Option<Guard>,
    /// From the claim to the end: a signal takes effect after the answer is stored.
    signals: Option<SignalsHeld>,
    /// From the claim to the end, pauses included: other processes wait for a claim as for a lock.
    undisturbed: Option<Undisturbed>,
    has_warned: bool,
    /// The revision of the document that the machine saw last.
    seen: Option<Revision>,
    /// The document, kept if the store is costly to read. It is current as long as none of the `records` is removed.
    known: Option<Option<Stored>>,
    /// The attempt records that were read last, and their key.
    records: Vec<Record>,
    key: String,
    /// The bytes of this process's record as they were written last.
    record: Vec<u8>,
    /// The other process that refreshes, for people.
    other: Option<String>,
}

impl Run<'_> {
    fn perform(&mut self, step: &Step, level: Level) -> Event {
        let store = self.dependencies.store;
        match *step {
            Step::Read => Event::Read(self.read()),
            Step::Look { ref credential_sha256 } => Event::Looked(self.look(credential_sha256, level)),
            Step::Lock(mode, at_most) => Event::LockAnswered(self.lock(mode, at_most)),
            Step::Pause(duration) => {
                // No request is on its way: Ctrl-C may end this process. Ctrl-Z must not stop it while it has a claim.
                let was_holding = self.signals.take().is_some();
                self.dependencies.peer.rests(true);
                self.dependencies.clock.pause(duration);
                self.dependencies.peer.rests(false);
                self.signals = was_holding.then(SignalsHeld::hold).flatten();
                Event::Paused
            }
            Step::Adopt { ref credential_sha256, number, ref expected } => {
                Event::Adopted(store.adopt(RecordName { key: credential_sha256, number }, expected))
            }
            Step::Delegate(ref input) => {
                let guard = self.guard.take();
                Event::Delegated(self.dependencies.peer.delegate(input, guard, self.dependencies))
            }
            Step::Claim { ref attempt, number, exclusive, ref expected, ref outdated } => {
                self.signals = SignalsHeld::hold();
                self.undisturbed = Some(Undisturbed::begin());
                let name = RecordName { key: &attempt.credential_sha256, number };
                let reserve = ANSWER_RESERVE;
                let claimed = json_bytes(attempt).and_then(|bytes| {
                    self.record = bytes;
                    let bytes = &self.record;
                    store.create_record(&NewRecord { name, bytes, reserve, exclusive, expected, outdated })
                });
                let numbered = |number: Option<u64>| number.map_or(ClaimResult::Taken, ClaimResult::Mine);
                Event::Claimed(claimed.map_or_else(ClaimResult::Failed, numbered))
            }
            Step::Mark { ref attempt, number } => {
                let marked = self.mark(attempt, number);
                self.noted(marked)
            }
            Step::Withdraw { ref credential_sha256, number } => {
                let name = RecordName { key: credential_sha256, number };
                self.noted(store.remove_record(name, &self.record))
            }
            Step::Spend { ref document, ref credential, timeout } => {
                Event::Answered(self.dependencies.endpoint.refresh(document, credential, timeout))
            }
            Step::Replace { ref expected, ref document, ref attempt } => {
                Event::Replaced(self.replace(expected, document, attempt))
            }
            Step::Revoke { ref document } => {
                self.dependencies.endpoint.revoke(document, REVOCATION_LIMIT);
                Event::Noted
            }
            // The loop ends before this step is performed.
            Step::Finish(_) => Event::Noted,
        }
    }

    fn log(&self, importance: u8, what: &str) {
        (self.dependencies.log)(importance, what);
    }

    fn read(&mut self) -> Result<Option<Stored>, Failure> {
        let read = read_document(self.dependencies.store, self.dependencies.clock)?;
        self.seen = read.as_ref().map(|(stored, _)| stored.revision.clone());
        let (stored, warning) = read.unzip();
        if let Some(warning) = warning.flatten().filter(|_| !std::mem::replace(&mut self.has_warned, true)) {
            (self.dependencies.warn)(&warning);
        }
        self.known = self.dependencies.store.is_costly().then(|| stored.clone());
        Ok(stored)
    }

    /// The records first, then the document: see [`View`].
    fn look(&mut self, credential_sha256: &str, level: Level) -> Result<View, Failure> {
        let has_gone = self.look_at_records(credential_sha256)?;
        let is_outside = self.guard.is_none() && self.signals.is_none();
        let mut attempts: Vec<_> = self.records.iter().map(attempt_record).collect();
        let has_ended = attempts.iter().any(|record| record.attempt.is_over());
        if level.must_know_owners(is_outside, has_ended) {
            attempts.iter_mut().for_each(|record| find_owner(record, self.dependencies.clock));
        }
        let other = spender(&attempts, &self.records, &self.record, self.dependencies.clock.now().wall);
        let known = std::mem::replace(&mut self.other, other);
        // Only possible if the lock does not exclude (some network file systems), if another process runs with
        // `ONEGRANT_LOCK=off`, or if another machine left a claim.
        if let (Some(other), Some(_), None) = (&self.other, &self.guard, known) {
            let all_the_same =
                "waiting for it; if locks do not exclude other processes here: export ONEGRANT_LOCK=claim";
            self.log(1, &format!("this process holds the lock, and {other} refreshes: {all_the_same}"));
        }
        // A process that only waits does not read a store that is costly to read. A process with the lock or a claim reads.
        let stored = match &self.known {
            Some(known) if is_outside && !has_gone => known.clone(),
            _ => self.read()?,
        };
        self.seen = stored.as_ref().map(|stored| stored.revision.clone());
        Ok(View { attempts, stored })
    }

    /// A record that cannot be rewritten stays open. The next process treats it as abandoned.
    fn mark(&mut self, attempt: &Attempt, number: u64) -> Result<(), Failure> {
        let name = RecordName { key: &attempt.credential_sha256, number };
        let bytes = json_bytes(attempt)?;
        self.dependencies.store.rewrite_record(name, &self.record, &bytes, attempt.is_over())?;
        self.record = bytes;
        Ok(())
    }

    /// A failure to change this process's own record is only logged.
    fn noted(&self, changed: Result<(), Failure>) -> Event {
        changed.unwrap_or_else(|failure| self.log(1, &failure.message));
        Event::Noted
    }

    fn replace(&self, expected: &Revision, document: &Document, attempt: &(String, u64)) -> ReplaceResult {
        let bytes = match document.check_trust().and_then(|()| document.to_bytes()) {
            Ok(bytes) => bytes,
            Err(failure) => return ReplaceResult::Failed { failure, kept: None },
        };
        let name = RecordName { key: &attempt.0, number: attempt.1 };
        match self.dependencies.store.replace(expected, &bytes, Some(name)) {
            WriteResult::Done => ReplaceResult::Done,
            WriteResult::Lost(None) => ReplaceResult::Lost(None),
            WriteResult::Lost(Some(snapshot)) => match parse(snapshot, self.dependencies.store) {
                Ok(stored) => ReplaceResult::Lost(Some(Box::new(stored))),
                Err((_, failure)) => ReplaceResult::Failed { failure, kept: None },
            },
            WriteResult::Unknown => ReplaceResult::Unknown,
            WriteResult::Failed { failure, kept } => ReplaceResult::Failed { failure, kept },
        }
    }
}
