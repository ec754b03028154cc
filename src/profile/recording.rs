//! Writes the history of a profile.

use super::Context;
use super::events::EventWatch;
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

/// Gets a token, and adds to the history what happened. A fresh token adds nothing.
pub fn obtain(settings: Settings, dependencies: &Dependencies, context: &Context) -> Result<Token, Failure> {
    let input = match &settings.role {
        Role::Worker(input) => {
            // Read now: the caller may have ended when the refresh ends.
            context.program();
            input.clone()
        }
        Role::Caller | Role::InPlace => RefreshInput::new(settings.demand.clone(), settings.lock_use),
    };
    let observer = RefCell::new(Observer::new(input.level));
    let watch = EventWatch::of(context, input.demand.token);
    let observe = |step: &_, event: &_| {
        observer.borrow_mut().observe(step, event);
        watch.iter().for_each(|watch| watch.observe(step, event));
    };
    let result = driver::obtain(settings, &Dependencies { observe: &observe, ..*dependencies });
    let observer = observer.into_inner();
    let level = observer.level();
    for entry in observer.finish(&result) {
        context.note(entry, Some(level), dependencies.log);
    }
    if let Some(watch) = watch {
        watch.finish(&result, dependencies.log);
    }
    result
}

impl Context {
    /// The path of the history.
    pub fn history(&self) -> io::Result<PathBuf> {
        self.local_file(history::SUFFIX)
    }

    /// The program that asked for this command.
    fn program(&self) -> Option<&str> {
        self.program.get_or_init(caller_program).as_deref()
    }

    /// The level of a login or logout for which [`super::access::enter`] returned this guard.
    pub fn level_under(&self, guard: Option<&Guard>) -> Level {
        match (guard, self.globals.lock) {
            (Some(_), _) => Level::Locked,
            (None, LockUse::Off) => Level::Compared,
            (None, _) => Level::Claimed,
        }
    }

    /// Adds a login, a migration or a logout to the history.
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
        self.note(entry, level, self.dependencies().log);
    }

    /// Adds to the history that the command of `ONEGRANT_ON_ROTATE` did not succeed.
    pub fn note_not_delivered(&self, why: &str, document: &Document) {
        let entry = HistoryEntry {
            event: HistoryEvent::NotDelivered,
            outcome: printable(&format!("the command of ONEGRANT_ON_ROTATE failed: {why}")),
            refresh_token_sha256: document.refresh_token().map(digits_of),
            ..HistoryEntry::default()
        };
        self.note(entry, None, self.dependencies().log);
    }

    /// Completes an entry and appends it. A failure is only shown under `-vv`.
    fn note(&self, entry: HistoryEntry, level: Option<Level>, log: &dyn Fn(u8, &str)) {
        let this_process = self.this_process();
        let entry = HistoryEntry {
            at: self.now().wall,
            pid: this_process.pid,
            program: self.program().map(printable).filter(|_| self.asker.is_none()),
            asker: self.asker.clone(),
            host: printable(&this_process.host),
            level: level.map(|level| self.store.level_name(level).to_owned()),
            ..entry
        };
        // With signals held, a file size limit is an error of the write and does not end this process.
        let signals = SignalsHeld::hold();
        let appended = self.history().and_then(|path| history::append(&path, &entry));
        drop(signals);
        if let Err(error) = appended {
            log(2, &format!("the history was not written: {}", describe(&error)));
        }
    }
}
