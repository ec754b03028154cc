//! Notes in the history of a profile what happens to its grant.

use super::Context;
use crate::driver::{self, Clock, Dependencies};
use crate::error::Failure;
use crate::grant::Document;
use crate::history::{self, HistoryEntry, HistoryEvent, Observer, digits_of};
use crate::lock::Guard;
use crate::session::{Level, LockUse, RefreshInput, Role, Settings, Token};
use crate::system::{SignalsHeld, caller_program};
use crate::text::{describe, printable};
use std::cell::RefCell;
use std::io;
use std::path::PathBuf;

/// Gets a token, and notes in the history what happened on the way. A token that was fresh is not noted.
pub fn obtain(settings: Settings, dependencies: &Dependencies, context: &Context) -> Result<Token, Failure> {
    let input = match &settings.role {
        Role::Worker(input) => {
            // The caller may be gone by the end.
            context.program();
            input.clone()
        }
        Role::Caller | Role::InPlace => RefreshInput::new(settings.demand.clone(), settings.lock_use),
    };
    let observer = RefCell::new(Observer::new(input.level));
    let observe = |step: &_, event: &_| observer.borrow_mut().observe(step, event);
    let result = driver::obtain(settings, &Dependencies { observe: &observe, ..*dependencies });
    let observer = observer.into_inner();
    let level = observer.level();
    for entry in observer.finish(&result) {
        context.note(entry, Some(level), dependencies.tell);
    }
    result
}

impl Context {
    /// Where the history of this profile is: beside the real document, or where this store's side files are.
    pub fn history(&self) -> io::Result<PathBuf> {
        let Some(store) = self.store.file() else {
            return Ok(self.directory.join(format!("{}{}", self.globals.profile, history::SUFFIX)));
        };
        let files = store.place().map_err(|failure| io::Error::other(failure.message))?;
        Ok(files.sidecar(history::SUFFIX))
    }

    /// The program that asked for this command.
    fn program(&self) -> Option<&str> {
        self.program.get_or_init(caller_program).as_deref()
    }

    /// The level of a login or a logout that [`super::access::enter`] gave this guard.
    pub fn level_under(&self, guard: Option<&Guard>) -> Level {
        match (guard, self.globals.lock) {
            (Some(_), _) => Level::Locked,
            (None, LockUse::Off) => Level::Compared,
            (None, _) => Level::Claimed,
        }
    }

    /// Notes a login, a migration or a logout that is done.
    pub fn note_done(&self, event: HistoryEvent, outcome: &str, document: &Document, level: Option<Level>) {
        let token = document.refresh_token().map(digits_of);
        let (before, after) = match event {
            HistoryEvent::Login => (None, token),
            _ => (token, None),
        };
        let entry = HistoryEntry {
            event,
            outcome: printable(outcome),
            refresh_token_sha256: before,
            new_refresh_token_sha256: after,
            ..HistoryEntry::default()
        };
        self.note(entry, level, self.dependencies().tell);
    }

    /// Completes an entry and appends it. A failure is shown under `-vv`, and changes nothing else.
    fn note(&self, entry: HistoryEntry, level: Option<Level>, tell: &dyn Fn(u8, &str)) {
        let me = self.this_process();
        let entry = HistoryEntry {
            at: self.now().wall,
            pid: me.pid,
            program: self.program().map(printable),
            host: printable(&me.host),
            level: level.map(|level| self.store.names(level).to_owned()),
            ..entry
        };
        // A file size limit is then an error of the write. It does not end this process.
        let signals = SignalsHeld::hold();
        let appended = self.history().and_then(|path| history::append(&path, &entry));
        drop(signals);
        if let Err(error) = appended {
            tell(2, &format!("the history was not written: {}", describe(&error)));
        }
    }
}
