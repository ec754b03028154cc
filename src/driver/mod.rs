//! The only loop: asks the session machine for the next step, and does it through the store, the lock, the clock
//! and the token endpoint. Knows no reasons.

mod reading;
mod visiting;
mod waiting;

pub use reading::{Existing, attempt_records, parse, read_document, read_for_login};
pub use visiting::find_rejected;

use crate::error::Failure;
use crate::grant::{Credential, Document, json_bytes};
use crate::lock::Guard;
use crate::output::Undisturbed;
use crate::protocol::metadata::endpoint_url;
use crate::protocol::token::Answer;
use crate::session::attempt::{Attempt, Owner, Presence};
use crate::session::{
    ClaimResult, DelegateResult, Event, Level, Machine, Now, RefreshInput, ReplaceResult, Revision, Settings,
    Step, Stored, TokenResult, View,
};
use crate::store::{NewRecord, Record, RecordName, Store, WriteResult};
use crate::system::SignalsHeld;
use reading::{attempt_record, spender};
use std::time::Duration;

/// The room that is reserved for an answer, beyond the present size of the document, in bytes: tokens of many
/// kilobytes exist.
const ANSWER_RESERVE: u64 = 64 << 10;

/// How long a revocation may take that nobody asked for: the logout it follows is done already.
const REVOCATION_LIMIT: Duration = Duration::from_secs(10);

/// Carries token requests. The fourth seam.
pub trait TokenEndpoint {
    /// Asks for the next access token; ends within `timeout`.
    fn refresh(&self, document: &Document, credential: &Credential, timeout: Duration) -> Answer;

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
    fn nonce(&self) -> Result<String, Failure>;
}

/// The other process of an exchange with the server: for a caller its worker, for a worker its caller. The fifth seam.
pub trait Peer {
    /// Starts a worker that outlives this process if it must, hands `lock` over to it, and waits for its end. Where no
    /// worker can be started the lock is released.
    fn delegate(
        &self,
        input: &RefreshInput,
        lock: Option<Guard>,
        dependencies: &Dependencies,
    ) -> DelegateResult;

    /// The lock that the caller of a worker handed over.
    fn lock(&self) -> Option<Guard> {
        None
    }

    /// Tells a caller whether nothing is on its way now, so that a signal may end it.
    fn rests(&self, _is_resting: bool) {}
}

/// What the loop works through.
pub struct Dependencies<'a> {
    /// Where the document is.
    pub store: &'a dyn Store,
    /// Where refresh tokens are spent.
    pub endpoint: &'a dyn TokenEndpoint,
    /// Time.
    pub clock: &'a dyn Clock,
    /// With whom an exchange is done.
    pub peer: &'a dyn Peer,
    /// Takes what happens, and how important it is (1: `-v`, 2: `-vv`).
    pub tell: &'a dyn Fn(u8, &str),
    /// Takes what a person should know although nothing failed.
    pub warn: &'a dyn Fn(&Failure),
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
        has_asked: false,
        heard: None,
        seen: None,
        known: None,
        records: Vec::new(),
        key: String::new(),
        record: Vec::new(),
        other: None,
    };
    loop {
        if let Step::Finish(result) = step {
            return result;
        }
        // Identifying this process reads `/proc`.
        if machine.wants_identity() {
            machine.identify(dependencies.clock.this_process().clone(), dependencies.clock.nonce()?);
        }
        let event = run.perform(step, machine.level());
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
    /// A second request and its answer are shown under `-vv` alone.
    has_asked: bool,
    /// What the server said. It is printed after the answer is stored: nothing comes between the answer and its durable copy.
    heard: Option<(u8, String)>,
    /// The document as it was read last.
    seen: Option<Revision>,
    /// The document, kept if the store is costly to read. It is current as long as none of the `records` on `key` has gone.
    known: Option<Option<Stored>>,
    records: Vec<Record>,
    key: String,
    /// The bytes of the own record as they were written last.
    record: Vec<u8>,
    /// Who else is at it, for people.
    other: Option<String>,
}

impl Run<'_> {
    fn perform(&mut self, step: Step, level: Level) -> Event {
        let store = self.dependencies.store;
        if !matches!(step, Step::Replace { .. }) {
            self.tell_heard();
        }
        match step {
            Step::Read => Event::Read(self.read()),
            Step::Look { credential_sha256 } => Event::Looked(self.look(&credential_sha256, level)),
            Step::Lock(mode, at_most) => Event::LockAnswered(self.lock(mode, at_most)),
            Step::Pause(duration) => {
                self.tell(2, &format!("waiting {} ms", duration.as_millis()));
                // No request is under way: Ctrl-C may end this process. Ctrl-Z still waits: a stopped process would keep its claim.
                let was_holding = self.signals.take().is_some();
                self.dependencies.peer.rests(true);
                self.dependencies.clock.pause(duration);
                self.dependencies.peer.rests(false);
                self.signals = was_holding.then(SignalsHeld::hold).flatten();
                Event::Paused
            }
            Step::Adopt { credential_sha256, number, expected } => {
                self.tell(1, "adopting the session that an interrupted process left");
                Event::Adopted(store.adopt(RecordName { key: &credential_sha256, number }, &expected))
            }
            Step::Delegate(input) => Event::Delegated(self.dependencies.peer.delegate(
                &input,
                self.guard.take(),
                self.dependencies,
            )),
            Step::Claim { attempt, number, exclusive, expected, outdated } => {
                self.signals = SignalsHeld::hold();
                self.undisturbed = Some(Undisturbed::begin());
                let name = RecordName { key: &attempt.credential_sha256, number };
                let (reserve, expected, outdated) = (ANSWER_RESERVE, &expected, outdated.as_slice());
                let claimed = json_bytes(&attempt).and_then(|bytes| {
                    self.record = bytes;
                    let bytes = &self.record;
                    store.create_record(&NewRecord { name, bytes, reserve, exclusive, expected, outdated })
                });
                let numbered = |number: Option<u64>| number.map_or(ClaimResult::Taken, ClaimResult::Mine);
                Event::Claimed(claimed.map_or_else(ClaimResult::Failed, numbered))
            }
            Step::Mark { attempt, number } => {
                self.mark(&attempt, number);
                Event::Noted
            }
            Step::Withdraw { credential_sha256, number } => {
                let name = RecordName { key: &credential_sha256, number };
                if let Err(failure) = store.remove_record(name, &self.record) {
                    self.tell(1, &failure.message);
                }
                Event::Noted
            }
            Step::Spend { document, credential, timeout } => {
                let host = endpoint_url(&document.token_endpoint).map(|address| address.host_and_port());
                let host = host.unwrap_or_else(|_| "the token endpoint".to_owned());
                let pid = self.dependencies.clock.this_process().pid;
                let importance = if std::mem::replace(&mut self.has_asked, true) { 2 } else { 1 };
                let level = self.dependencies.store.names(level);
                self.tell(importance, &format!("process {pid} refreshes at {host} ({level})"));
                let began = self.dependencies.clock.now().elapsed;
                let answer = self.dependencies.endpoint.refresh(&document, &credential, timeout);
                let took = self.dependencies.clock.now().elapsed.saturating_sub(began);
                self.heard = Some((importance, format!("after {} ms: {}", took.as_millis(), answer.story())));
                Event::Answered(answer)
            }
            Step::Replace { expected, document, attempt } => {
                Event::Replaced(self.replace(&expected, &document, &attempt))
            }
            Step::Revoke { document } => {
                self.tell(1, "logged out meanwhile: revoking the new refresh token");
                self.dependencies.endpoint.revoke(&document, REVOCATION_LIMIT);
                Event::Noted
            }
            // The loop ends before it performs this one.
            Step::Finish(_) => Event::Noted,
        }
    }

    fn tell_heard(&mut self) {
        if let Some((importance, heard)) = self.heard.take() {
            self.tell(importance, &heard);
        }
    }

    fn tell(&self, importance: u8, what: &str) {
        (self.dependencies.tell)(importance, what);
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
        // Without the lock this process takes over no claim. So it need not know whether the owner still runs.
        let clock = (level != Level::Locked || !is_outside).then_some(self.dependencies.clock);
        let attempts: Vec<_> = self.records.iter().map(|record| attempt_record(record, clock)).collect();
        let other = spender(&attempts, &self.records, &self.record, self.dependencies.clock.now().wall);
        let known = std::mem::replace(&mut self.other, other);
        // Possible only where locks lie, where somebody does without them, or where a claim was left on another machine.
        if let (Some(other), Some(_), None) = (&self.other, &self.guard, known) {
            let all_the_same = "waiting for it; if locks keep nobody out here: export ONEGRANT_LOCK=claim";
            self.tell(1, &format!("this process holds the lock, and {other} refreshes: {all_the_same}"));
        }
        // A process that only waits does not read a store whose reads are costly. A process with the lock or a claim reads.
        let stored = match &self.known {
            Some(known) if is_outside && !has_gone => known.clone(),
            _ => self.read()?,
        };
        self.seen = stored.as_ref().map(|stored| stored.revision.clone());
        Ok(View { attempts, stored })
    }

    /// A record that cannot be written stays open: the next process finds it abandoned, and knows as much.
    fn mark(&mut self, attempt: &Attempt, number: u64) {
        let name = RecordName { key: &attempt.credential_sha256, number };
        let rewritten = json_bytes(attempt).and_then(|bytes| {
            self.dependencies.store.rewrite_record(name, &self.record, &bytes, attempt.is_over())?;
            self.record = bytes;
            Ok(())
        });
        if let Err(failure) = rewritten {
            self.tell(1, &failure.message);
        }
    }

    fn replace(
        &mut self,
        expected: &Revision,
        document: &Document,
        attempt: &(String, u64),
    ) -> ReplaceResult {
        let bytes = match document.check_trust().and_then(|()| document.to_bytes()) {
            Ok(bytes) => bytes,
            Err(failure) => return ReplaceResult::Failed { failure, kept: None },
        };
        let name = RecordName { key: &attempt.0, number: attempt.1 };
        let written = self.dependencies.store.replace(expected, &bytes, Some(name));
        self.tell_heard();
        match written {
            WriteResult::Done => {
                let is_session = document.session.is_some();
                self.tell(1, if is_session { "the new session is stored" } else { "the session is cleared" });
                ReplaceResult::Done
            }
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
