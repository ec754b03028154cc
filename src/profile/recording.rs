//! Notes what happens to the grant while the driver works: dependencies that pass everything on. Nothing is written before the
//! driver has ended, so that nothing stands between the server's answer and its durable copy.

use super::Context;
use crate::driver::{self, Clock, Dependencies, TokenEndpoint};
use crate::error::Failure;
use crate::grant::{Credential, Document, Secret};
use crate::history::{self, HistoryEntry, digits};
use crate::lock::{Guard, Locked};
use crate::protocol::token::{Answer, words};
use crate::session::{Level, LockMode, LockUse, Revision, Role, Settings, Token};
use crate::store::{NewRecord, Record, RecordName, Snapshot, Store, WriteResult};
use crate::system::SignalsHeld;
use crate::text::printable;
use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Gets a token, and notes in the history what happened on the way. A token that was fresh is no event.
pub fn obtain(settings: Settings, dependencies: &Dependencies, context: &Context) -> Result<Token, Failure> {
    let level = match (&settings.role, settings.lock_use) {
        (Role::Worker(input), _) => input.level,
        (_, LockUse::Auto | LockUse::Require) => Level::Locked,
        (_, LockUse::Claim) => Level::Claimed,
        (_, LockUse::Off) => Level::Compared,
    };
    // Its caller may be gone by the end.
    if matches!(settings.role, Role::Worker(_)) {
        context.program();
    }
    let recording = Recording {
        store: dependencies.store,
        endpoint: dependencies.endpoint,
        level: Cell::new(level),
        notes: RefCell::default(),
        unstored: Cell::new(None),
    };
    let result =
        driver::obtain(settings, &Dependencies { store: &recording, endpoint: &recording, ..*dependencies });
    let level = recording.level.get();
    for event in recording.events(&result) {
        context.note(event, Some(level), dependencies.tell);
    }
    result
}

struct Recording<'a> {
    store: &'a dyn Store,
    endpoint: &'a dyn TokenEndpoint,
    level: Cell<Level>,
    notes: RefCell<Vec<HistoryEntry>>,
    /// The refresh token that was spent for an answer that is not stored yet.
    unstored: Cell<Option<String>>,
}

impl Recording<'_> {
    fn note(&self, event: &str, outcome: &str, before: Option<String>, after: Option<String>) {
        self.notes.borrow_mut().push(HistoryEntry {
            event: event.to_owned(),
            outcome: printable(outcome),
            refresh_token_sha256: before,
            new_refresh_token_sha256: after,
            ..HistoryEntry::default()
        });
    }

    fn events(self, result: &Result<Token, Failure>) -> Vec<HistoryEntry> {
        if let Some(before) = self.unstored.take() {
            let why = match result {
                Ok(token) => token.warnings.first().map(|warning| warning.message.as_str()),
                Err(failure) => Some(failure.message.as_str()),
            };
            let before = Some(before).filter(|before| !before.is_empty());
            self.note("not stored", why.unwrap_or("somebody else's session is kept"), before, None);
        }
        let mut events = self.notes.into_inner();
        let is_stored = events.iter().any(|event| event.event == "refresh");
        let rejected = events.last_mut().filter(|event| event.event == "rejected");
        if let Some(rejected) = rejected.filter(|_| result.is_ok() && !is_stored) {
            rejected.outcome.push_str("; another process had refreshed: its session is used");
        }
        events
    }
}

fn token_digits(token: Option<&Secret>) -> Option<String> {
    token.map(|token| digits(&token.sha256()))
}

impl TokenEndpoint for Recording<'_> {
    fn refresh(&self, document: &Document, credential: &Credential, timeout: Duration) -> Answer {
        let answer = self.endpoint.refresh(document, credential, timeout);
        let spent = match credential {
            Credential::RefreshToken(token) => token_digits(Some(token)),
            Credential::Client(_) => None,
        };
        match &answer {
            Answer::Refreshed(_) => self.unstored.set(Some(spent.unwrap_or_default())),
            Answer::InvalidGrant { error, description } => {
                // Asked once more, and refused again: one event.
                self.notes.borrow_mut().pop_if(|last| last.event == "rejected");
                self.note("rejected", &words(error, description.as_deref()), spent, None);
            }
            Answer::Unknown { what, .. } => {
                // Once more, with the same refresh token: one event, and its only line.
                let again = self.notes.borrow_mut().pop_if(|last| last.event == "lost answer");
                let twice = again.map(|_| "; it was sent twice").unwrap_or_default();
                self.note("lost answer", &format!("{what}{twice}"), spent, None);
            }
            Answer::Refused { error, description, .. } => {
                self.note("refused", &words(error, description.as_deref()), spent, None);
            }
            Answer::Temporary { .. } | Answer::Failed(_) | Answer::Impossible(_) => {}
        }
        answer
    }

    fn revoke(&self, document: &Document, timeout: Duration) {
        self.endpoint.revoke(document, timeout);
    }
}

impl Store for Recording<'_> {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        self.store.read()
    }

    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult {
        let written = self.store.replace(expected, bytes, attempt);
        if let (WriteResult::Done, Ok(document)) = (&written, Document::parse(bytes)) {
            let before = attempt.map(|name| digits(name.key));
            match (&document.session, document.rejected.as_ref()) {
                (Some(_), _) => {
                    self.unstored.take();
                    let after = token_digits(document.refresh_token());
                    self.note("refresh", "stored", before.filter(|_| after.is_some()), after);
                }
                (None, Some(rejected)) => self.note("cleared", &rejected.message, before, None),
                (None, None) => self.note("cleared", "the session has ended", before, None),
            }
        }
        written
    }

    fn remove(&self, expected: &Revision, mark: &[u8]) -> WriteResult {
        self.store.remove(expected, mark)
    }

    fn lock(&self, mode: LockMode, at_most: Duration) -> Locked {
        let locked = self.store.lock(mode, at_most);
        if matches!(locked, Locked::Refused(_)) {
            self.level.set(Level::Claimed);
        }
        locked
    }

    fn stop_waiting(&self) {
        self.store.stop_waiting();
    }

    fn is_costly(&self) -> bool {
        self.store.is_costly()
    }

    fn records(&self, key: &str) -> Result<Vec<Record>, Failure> {
        self.store.records(key)
    }

    fn create_record(&self, record: &NewRecord) -> Result<Option<u64>, Failure> {
        self.store.create_record(record)
    }

    fn rewrite_record(
        &self,
        name: RecordName,
        ours: &[u8],
        bytes: &[u8],
        is_over: bool,
    ) -> Result<(), Failure> {
        self.store.rewrite_record(name, ours, bytes, is_over)
    }

    fn remove_record(&self, name: RecordName, ours: &[u8]) -> Result<(), Failure> {
        self.store.remove_record(name, ours)
    }

    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure> {
        let adopted = self.store.adopt(name, expected);
        if let Ok(true) = adopted {
            let outcome = "stored the answer that an interrupted process left";
            self.note("adopted", outcome, Some(digits(name.key)), None);
        }
        adopted
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn names(&self, level: Level) -> &'static str {
        self.store.names(level)
    }
}

impl Context {
    /// Where the history of this profile is: beside the real document, or where this store's side files are.
    pub fn history(&self) -> io::Result<PathBuf> {
        let Some(store) = self.store.file() else {
            return Ok(self.directory.join(format!("{}{}", self.globals.profile, history::SUFFIX)));
        };
        let place = store.place().map_err(|failure| io::Error::other(failure.message))?;
        Ok(place.sidecar(history::SUFFIX))
    }

    /// The program that asked for this command.
    fn program(&self) -> Option<&str> {
        self.program.get_or_init(crate::system::caller_program).as_deref()
    }

    /// The level of a login or a logout that `driver::enter` gave this guard.
    pub fn level_under(&self, guard: Option<&Guard>) -> Level {
        match (guard, self.globals.lock) {
            (Some(_), _) => Level::Locked,
            (None, LockUse::Off) => Level::Compared,
            (None, _) => Level::Claimed,
        }
    }

    /// Notes a login or a logout that is done.
    pub fn note_done(&self, event: &str, outcome: &str, document: &Document, level: Option<Level>) {
        let token = token_digits(document.refresh_token());
        let noted =
            HistoryEntry { event: event.to_owned(), outcome: printable(outcome), ..HistoryEntry::default() };
        let noted = match event {
            "login" => HistoryEntry { new_refresh_token_sha256: token, ..noted },
            _ => HistoryEntry { refresh_token_sha256: token, ..noted },
        };
        self.note(noted, level, self.dependencies().tell);
    }

    /// Completes an event, and appends it. What fails is told under `-vv`, and nothing else comes of it.
    fn note(&self, event: HistoryEntry, level: Option<Level>, tell: &dyn Fn(u8, &str)) {
        let me = self.this_process();
        let event = HistoryEntry {
            at: self.now().wall,
            pid: me.pid,
            program: self.program().map(printable),
            host: printable(&me.host),
            level: level.map(|level| self.store.names(level).to_owned()),
            ..event
        };
        // A file size limit is an error of the write, not a death.
        let signals = SignalsHeld::hold();
        let appended = self.history().and_then(|path| history::append(&path, &event));
        drop(signals);
        if let Err(error) = appended {
            tell(2, &format!("the history was not written: {}", crate::text::describe(&error)));
        }
    }
}
