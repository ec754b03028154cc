//! Commands that change the grant while processes refresh it: login, logout, migration. They do what `profile::access` and
//! `commands` do. The product's own machines decide what a logout and a migration do next.

use super::invariants::Excuse;
use super::parts::{Kept, at_revision, document, generation, session, stored_generation};
use super::scenario::{Command, CommandRun, Lock};
use super::world::{LOGIN, Name, Party, START, World};
use crate::grant::{Document, Login, Moving, Rejected};
use crate::session::attempt::{Attempt, Owner};
use crate::session::logout::{Found, credential_digests};
use crate::session::logout::{Logout, LogoutEvent, LogoutStep, Remains, Removal, Side};
use crate::session::migration::{MigrationStep, arriving, next};
use crate::session::{LockUse, Revision, Stored};
use std::rc::Rc;
use std::time::Duration;

/// The process identifiers of commands begin here.
const FIRST_IDENTIFIER: u32 = 1000;

/// How long a command's claim lasts, in seconds.
const CLAIM_SECONDS: i64 = 40;

#[derive(Clone, Debug)]
pub(super) struct RunningCommand {
    run: CommandRun,
    pub progress: CommandProgress,
    /// The record of its claim.
    claim: Option<(String, u64)>,
    /// A digest of all this; 0 after a change.
    pub fingerprint: u128,
}

/// What a command does next.
#[expect(clippy::large_enum_variant, reason = "a world has two")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandProgress {
    Enters,
    /// It holds the lock, or there is none.
    WaitsForClaims,
    Reads,
    /// A login has read this revision, and compares it with the stored one.
    Compares(Option<Revision>),
    Renames,
    /// A login has replaced a document that was being migrated, and removes what the migration brought to the target.
    TakesBack(Moving),
    /// A logout executes this step.
    LogsOut(Box<Logout>, LogoutStep),
    /// A logout has read the document, and reads the answers beside it.
    HasRead(Box<Logout>, Option<Stored>),
    /// A logout has claimed the session of that document, and reads again.
    HasClaimed(Box<Logout>, Stored),
    /// A logout has removed the document. It removes these records and answers, which were there before.
    Sweeps(Box<Logout>, Vec<Name>),
    /// A migration reads the store that it goes to, then the store that it leaves.
    ReadsTarget(Moving),
    ReadsSource(Moving, Option<Stored>),
    Migrates(Moving, MigrationStep, Option<Stored>, Option<Stored>),
    Ended,
    Killed,
}

impl RunningCommand {
    pub(super) fn new(run: CommandRun) -> Self {
        Self { run, progress: CommandProgress::Enters, claim: None, fingerprint: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.progress, CommandProgress::Ended | CommandProgress::Killed)
    }
}

impl World {
    fn commands_lock_use(&self) -> LockUse {
        self.scenario.lock_uses[0]
    }

    /// Whether a command takes a lock of the first store that excludes processes.
    fn commands_lock(&self) -> bool {
        self.has_locks() && self.commands_lock_use() == LockUse::Auto
    }

    /// When the last claim ends that the command would wait for, by the wall clock.
    fn claims_end_at(&self, number: usize) -> Option<i64> {
        let stored = self.document.as_ref()?;
        let own = self.commands[number].claim.as_ref();
        let key = credential_digests(&stored.document).into_iter().next()?;
        let attempt_records = self.attempt_records(&key, None).into_iter();
        let others = attempt_records.filter(|record| own != Some(&(key.clone(), record.number)));
        let live = others.filter(|record| record.is_live(self.wall()));
        live.map(|record| record.attempt.until).max()
    }

    pub(super) fn can_command_go(&self, number: usize) -> bool {
        let command = &self.commands[number];
        let is_free = !self.commands_lock() || self.held_by.is_empty();
        match &command.progress {
            CommandProgress::Ended | CommandProgress::Killed => false,
            CommandProgress::Enters => is_free || command.run.command == Command::LogoutAtTarget,
            CommandProgress::WaitsForClaims => {
                self.commands_lock_use() == LockUse::Off
                    || command.run.command == Command::LogoutAtTarget
                    || !command.run.waits_for_claims
                    || self.claims_end_at(number).is_none()
            }
            // A change of the first store needs its lock, or no open claim.
            CommandProgress::Migrates(_, MigrationStep::Confirm | MigrationStep::Leave, ..) => {
                is_free && self.claims_end_at(number).is_none()
            }
            _ => true,
        }
    }

    /// Whether a logout has removed the document, and not the answers yet: until then another process can store one. The logout
    /// looks afterwards.
    pub(super) fn is_a_logout_sweeping(&self) -> bool {
        let sweeps = |command: &Rc<RunningCommand>| matches!(command.progress, CommandProgress::Sweeps(..));
        !self.scenario.swaps && self.commands.iter().any(sweeps)
    }

    /// When the first claim ends that a command waits for.
    pub(super) fn commands_wait_until(&self) -> Option<Duration> {
        let waits = |number: &usize| !self.commands[*number].is_over() && !self.can_command_go(*number);
        let ends = (0..self.commands.len()).filter(waits).filter_map(|number| self.claims_end_at(number));
        Some(Duration::from_secs(u64::try_from(ends.min()? - START).unwrap()))
    }

    pub(super) fn is_command(owner: &Owner) -> bool {
        owner.pid >= FIRST_IDENTIFIER
    }

    pub(super) fn command_of(&self, owner: &Owner) -> &RunningCommand {
        &self.commands[usize::try_from(owner.pid - FIRST_IDENTIFIER).unwrap()]
    }

    fn command(&mut self, number: usize) -> &mut RunningCommand {
        let command = Rc::make_mut(&mut self.commands[number]);
        command.fingerprint = 0;
        command
    }

    pub(super) fn kill_command(&mut self, number: usize) {
        if let CommandProgress::LogsOut(_, LogoutStep::Remove { .. }) = self.commands[number].progress {
            self.excuses.insert(Excuse::KilledBetween);
        }
        self.command(number).progress = CommandProgress::Killed;
        self.held_by.remove(&Party::Command(number));
    }

    pub(super) fn command_goes(&mut self, number: usize) {
        let there = self.document.clone();
        let revision = there.as_ref().map(|stored| stored.revision.clone());
        let command = self.commands[number].run.command;
        let next = match self.commands[number].progress.clone() {
            CommandProgress::Enters => {
                if self.commands_lock() && command != Command::LogoutAtTarget {
                    self.held_by.insert(Party::Command(number));
                }
                if command == Command::Login {
                    self.server.log_in();
                }
                CommandProgress::WaitsForClaims
            }
            CommandProgress::WaitsForClaims => match command {
                Command::Logout | Command::LogoutAtTarget => {
                    let (logout, step) = Logout::start("logged out".to_owned(), self.wall());
                    CommandProgress::LogsOut(Box::new(logout), step)
                }
                Command::Login | Command::Migrate => CommandProgress::Reads,
            },
            CommandProgress::Reads if command == Command::Migrate => self.begin_migration(number),
            CommandProgress::Reads => CommandProgress::Compares(revision),
            CommandProgress::Compares(expected) => match expected == revision {
                true if self.scenario.swaps => self.store_the_login(),
                true => CommandProgress::Renames,
                false => CommandProgress::Reads,
            },
            CommandProgress::Renames => self.store_the_login(),
            CommandProgress::TakesBack(moving) => {
                let is_brought = |stored: &Rc<Stored>| stored.document.moved.as_ref() == Some(&moving.id);
                self.target.take_if(|stored| is_brought(stored));
                CommandProgress::Ended
            }
            CommandProgress::LogsOut(logout, step) => self.log_out(number, logout, step),
            CommandProgress::HasRead(logout, stored) => self.look_beside(number, logout, stored),
            CommandProgress::HasClaimed(logout, claimed) => {
                match revision == Some(claimed.revision.clone()) {
                    true => self.found(logout, claimed),
                    false => CommandProgress::LogsOut(logout, LogoutStep::LookHere),
                }
            }
            CommandProgress::Sweeps(logout, listed) => {
                self.records.retain(|name, _| !listed.contains(name));
                self.answers.retain(|name, _| !listed.contains(name));
                self.command(number).claim = None;
                went_on(logout, LogoutEvent::Removed(Removal::Done))
            }
            CommandProgress::ReadsTarget(moving) => {
                CommandProgress::ReadsSource(moving, self.target.as_deref().cloned())
            }
            CommandProgress::ReadsSource(moving, there) => {
                let here = self.document.as_deref().cloned();
                let document =
                    |stored: &Option<Stored>| stored.as_ref().map(|stored| stored.document.clone());
                match next(&moving, document(&here).as_ref(), document(&there).as_ref()) {
                    MigrationStep::End(_) => CommandProgress::Ended,
                    next => CommandProgress::Migrates(moving, next, here, there),
                }
            }
            CommandProgress::Migrates(moving, next, here, there) => {
                self.continue_migration(&moving, next, here, there);
                CommandProgress::ReadsTarget(moving)
            }
            over @ (CommandProgress::Ended | CommandProgress::Killed) => over,
        };
        self.command(number).progress = next;
        if self.commands[number].is_over() {
            self.held_by.remove(&Party::Command(number));
            if let Some(claim) = self.command(number).claim.take() {
                self.records.remove(&claim);
            }
        }
    }

    fn store_the_login(&mut self) -> CommandProgress {
        let before = self.document.take();
        self.newest = LOGIN;
        self.is_logged_out = false;
        self.has_replaced |= before.is_some();
        let login = Some(Login {
            id: "l".to_owned(),
            at: 0,
            flow: crate::grant::Flow::Imported,
            other: serde_json::Map::new(),
        });
        let new = document(&self.scenario, session(LOGIN, self.wall() + 3600));
        self.document = Some(at_revision(Document { login, ..new }));
        let moving = before.and_then(|stored| stored.document.moving.clone());
        moving.map_or(CommandProgress::Ended, CommandProgress::TakesBack)
    }

    // ---- a logout ----

    /// The document of that store.
    fn at(&mut self, number: usize, side: Side) -> &mut Option<Rc<Stored>> {
        match (side, self.commands[number].run.command) {
            (Side::Here, Command::LogoutAtTarget) | (Side::There, Command::Logout) => &mut self.target,
            _ => &mut self.document,
        }
    }

    fn log_out(&mut self, number: usize, logout: Box<Logout>, step: LogoutStep) -> CommandProgress {
        match step {
            LogoutStep::LookHere | LogoutStep::LookThere(_) => {
                let side = if step == LogoutStep::LookHere { Side::Here } else { Side::There };
                let stored = self.at(number, side).as_deref().cloned();
                CommandProgress::HasRead(logout, stored)
            }
            LogoutStep::Revoke(document, _) => {
                self.server.revoke(self.scenario.server, stored_generation(&document).unwrap());
                went_on(logout, LogoutEvent::Revoked(None))
            }
            LogoutStep::Remove { side, expected, .. } => {
                let document = self.at(number, side);
                if document.as_ref().is_none_or(|stored| stored.revision != expected) {
                    return went_on(logout, LogoutEvent::Removed(Removal::Again));
                }
                *document = None;
                self.is_logged_out |= side == Side::Here;
                match (side, self.commands[number].run.command) {
                    (Side::Here, Command::Logout) | (Side::There, Command::LogoutAtTarget) => {
                        let listed = self.records.keys().chain(self.answers.keys()).cloned().collect();
                        if self.scenario.swaps {
                            self.records.clear();
                        }
                        CommandProgress::Sweeps(logout, listed)
                    }
                    _ => went_on(logout, LogoutEvent::Removed(Removal::Done)),
                }
            }
            LogoutStep::Pause(_) => went_on(logout, LogoutEvent::Paused),
            LogoutStep::Finish(outcome) => {
                self.has_logged_out |= outcome.document.is_some() && outcome.remains.is_none();
                self.has_left_a_login |= outcome.remains == Some(Remains::AnotherLogin);
                CommandProgress::Ended
            }
        }
    }

    /// Reads the answers beside the document. Without a lock it claims the session first, unless another process has.
    fn look_beside(&mut self, number: usize, logout: Box<Logout>, stored: Option<Stored>) -> CommandProgress {
        let Some(stored) = stored else { return went_on(logout, LogoutEvent::Looked(Ok(None))) };
        let is_here = self.commands[number].run.command == Command::Logout && stored.document.moved.is_none();
        let has_lock = self.commands_lock_use() == LockUse::Auto && self.scenario.lock != Lock::Refuses;
        if is_here && !has_lock {
            if let Some(claim) = self.command(number).claim.take() {
                self.records.remove(&claim);
            }
            let is_binding = self.commands_lock_use() != LockUse::Off;
            let has_rival = self.claims_end_at(number).is_some();
            if is_binding && has_rival && self.commands[number].run.waits_for_claims {
                return CommandProgress::WaitsForClaims;
            }
            if !(is_binding && has_rival) {
                // A store that swaps creates no record for a document that has changed.
                if self.scenario.swaps && !self.holds(&stored.revision) {
                    return CommandProgress::LogsOut(logout, LogoutStep::LookHere);
                }
                self.claim_for(number, &stored.document);
                return CommandProgress::HasClaimed(logout, stored);
            }
        }
        self.found(logout, stored)
    }

    fn found(&self, logout: Box<Logout>, stored: Stored) -> CommandProgress {
        let mut answers = Vec::new();
        if stored.document.moved.is_none() {
            for key in credential_digests(&stored.document) {
                let beside = self.answers.iter().rev().filter(|((about, _), _)| *about == key);
                answers.extend(beside.filter_map(|(_, file)| file.what.document.clone()));
            }
        }
        went_on(logout, LogoutEvent::Looked(Ok(Some(Found { stored, answers }))))
    }

    fn claim_for(&mut self, number: usize, document: &Document) {
        let Some(key) = credential_digests(document).into_iter().next() else { return };
        let last = self.records.keys().filter(|(about, _)| *about == key).map(|(_, number)| *number).max();
        let owner = Owner { pid: FIRST_IDENTIFIER + u32::try_from(number).unwrap(), ..Owner::default() };
        let access_token =
            document.sessions().next().map(|session| session.access_token.sha256()).unwrap_or_default();
        let until = self.wall() + CLAIM_SECONDS;
        let id = format!("command {number}");
        let attempt = Attempt::open(id, key.clone(), access_token, owner, self.wall(), until);
        let name = (key, last.unwrap_or(0) + 1);
        self.records.insert(name.clone(), Kept::new(attempt));
        self.command(number).claim = Some(name);
    }

    // ---- a migration ----

    /// Marks the document, or continues a migration that was killed.
    fn begin_migration(&mut self, number: usize) -> CommandProgress {
        let stored = self.document.as_deref().cloned();
        let document = stored.map(|stored| stored.document).filter(|document| !document.has_no_grant());
        let target_is_taken = self.target.is_some();
        let next = match document {
            Some(Document { session: None, moving: Some(moving), .. }) => {
                CommandProgress::ReadsTarget(moving)
            }
            Some(marked) if marked.moving.is_none() && marked.session.is_some() && !target_is_taken => {
                let (session, key) = (marked.session.clone().unwrap(), marked.credential_sha256().unwrap());
                let id = format!("migration of {number}, {}", generation(&session));
                let to = "there".to_owned();
                let moving =
                    Moving { id, to, from: None, has_arrived: false, session, other: serde_json::Map::new() };
                let rejected = Some(Rejected::new(key, 0, "on its way".to_owned()));
                let document = Document { session: None, rejected, moving: Some(moving.clone()), ..marked };
                self.document = Some(at_revision(document));
                CommandProgress::ReadsTarget(moving)
            }
            _ => CommandProgress::Ended,
        };
        self.held_by.remove(&Party::Command(number));
        next
    }

    /// Makes one change, if the store still holds what was read.
    fn continue_migration(
        &mut self,
        moving: &Moving,
        next: MigrationStep,
        here: Option<Stored>,
        there: Option<Stored>,
    ) {
        let revision = |stored: &Option<Rc<Stored>>| stored.as_ref().map(|stored| stored.revision.clone());
        let expected = |stored: &Option<Stored>| stored.as_ref().map(|stored| stored.revision.clone());
        let is_same_there = revision(&self.target) == expected(&there);
        let is_same_here = revision(&self.document) == expected(&here);
        match next {
            MigrationStep::Arrive if is_same_there => {
                let marked = here.unwrap().document;
                let answers = credential_digests(&marked).into_iter().flat_map(|key| {
                    let beside = self.answers.iter().rev().filter(move |((about, _), _)| *about == key);
                    beside.filter_map(|(_, file)| file.what.document.as_ref()?.session.clone())
                });
                let session = answers.into_iter().next().unwrap_or_else(|| moving.session.clone());
                let reason = Rejected::new("on its way".to_owned(), 0, String::new());
                let arrived = arriving(&marked, session, "here".to_owned(), reason).unwrap();
                self.target = Some(at_revision(arrived));
            }
            MigrationStep::Activate(document) if is_same_there => self.target = Some(at_revision(*document)),
            MigrationStep::TakeBack if is_same_there => self.target = None,
            MigrationStep::Confirm if is_same_here => {
                let mut document = here.unwrap().document;
                document.moving.as_mut().unwrap().has_arrived = true;
                self.document = Some(at_revision(document));
            }
            MigrationStep::Leave if is_same_here => {
                self.document = None;
                self.records.clear();
                self.answers.clear();
            }
            _ => {}
        }
    }

    // ---- what must hold at the end ----

    /// How many of the two stores hold a usable session.
    fn usable(&self) -> usize {
        let is_usable = |stored: &&Rc<Stored>| stored.document.session.is_some();
        self.document.iter().chain(&self.target).filter(is_usable).count()
    }

    /// A logout that said that nothing is left has left nothing, in every step of the migration.
    pub(super) fn nothing_is_left_of_a_completed_logout(&self) -> bool {
        !self.has_logged_out || (self.usable() == 0 && self.server.are_all_gone())
    }

    /// The grant is usable in one store at most, and is not lost.
    pub(super) fn one_store_has_the_grant(&self) -> bool {
        let is_on_its_way = self.document.as_ref().is_some_and(|stored| stored.document.moving.is_some());
        self.usable() == 1 || (self.usable() == 0 && is_on_its_way)
    }

    /// After a login that replaced a document, one grant is usable. A login after the migration stores another grant.
    pub(super) fn one_grant_is_usable_after_a_login(&self) -> bool {
        !self.has_replaced || self.usable() == 1
    }
}

fn went_on(mut logout: Box<Logout>, event: LogoutEvent) -> CommandProgress {
    let step = logout.next(event);
    CommandProgress::LogsOut(logout, step)
}
