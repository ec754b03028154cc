//! The logout as a state machine without I/O. See "Login, logout and other changes" in `docs/design.md`.
//!
//! A *live session* has a refresh token that the server may still accept, wherever it is stored:
//!
//! | side | why |
//! |---|---|
//! | [`Document::session`] | it is used |
//! | [`Document::moving`] | it is on its way to another store |
//! | an answer beside an attempt record | the process that received it could not store it |
//! | the other store of a migration | it has arrived, and the first store does not know yet |
//!
//! ```text
//! look here ─ revoke ─┬─────────────────────────────────────────▶ remove here ─ look here ─┬─▶ finish
//!                     └ migration: look there ─ revoke ─ remove ┘                          └ migration: look at both again …
//! ```
//!
//! Each removal expects the revision that was read. If another process was faster, the logout looks again: it also revokes
//! and removes a newer session of the same grant, but not another login (I2). It looks once more after the removal, because
//! without a lock a refresh may store its answer between the comparison and the removal. A login that it finds then came after
//! the logout, and nothing of the grant remains.
//!
//! During a migration the logout looks at the other store before it removes the document here, so that the next logout can
//! complete one that was killed. After the removal it looks at both stores a few more times: the migration, or a program
//! that it had started, may have written meanwhile. A migration makes the session usable there only while its mark is still
//! here: see [`super::migration`].

use super::bounds::COMPARISON_DELAYS;
use super::{Revision, Stored};
use crate::error::Failure;
use crate::grant::{Document, Login, Secret, Session, UnixSeconds};
use crate::protocol::revocation::Revocation;
use std::time::Duration;

/// How often a removal that another process prevented is tried again. Both stores count together.
pub const MAX_ROUNDS: u32 = 4;

/// What one store holds of a profile: the document, and the answers that wait beside it, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The document.
    pub stored: Stored,
    /// Complete documents that follow one of its sessions.
    pub answers: Vec<Document>,
}

impl Found {
    /// The live sessions in this store, newest first. An answer is newer than the session that it follows.
    pub fn live_sessions(&self) -> impl Iterator<Item = &Session> {
        let answers = self.answers.iter().filter_map(|answer| answer.session.as_ref());
        answers.chain(self.stored.document.sessions())
    }

    /// The session that a migration moves: the newest one that follows `session`.
    pub fn newest(&self, session: &Session) -> Session {
        let newest = self.answers.iter().find_map(|answer| answer.session.as_ref());
        newest.unwrap_or(session).clone()
    }
}

/// The credential digests of all sessions in the document: attempt records are named after them.
pub fn credential_digests(document: &Document) -> Vec<String> {
    let named =
        document.sessions().filter_map(|session| document.with_session(session.clone()).credential_sha256());
    named.collect()
}

/// One of the two stores of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The store that the logout is for.
    Here,
    /// The other one.
    There,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutStep {
    /// Read the store of the profile.
    LookHere,
    /// Read the store at this address.
    LookThere(String),
    /// Revoke the session of the document. The number counts the sessions that are left to revoke, with this one.
    Revoke(Box<Document>, u32),
    /// Remove the document.
    Remove {
        /// The store to remove it from.
        side: Side,
        /// The revision that the store must still hold.
        expected: Revision,
        /// What to write if the document cannot be removed.
        mark: Box<Document>,
    },
    /// Wait: a write to the other store may still be on its way.
    Pause(Duration),
    /// Stop.
    Finish(Box<LogoutReport>),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a process holds one")]
pub enum LogoutEvent {
    /// Answers [`LogoutStep::LookHere`] and [`LogoutStep::LookThere`].
    Looked(Result<Option<Found>, Failure>),
    /// Answers [`LogoutStep::Revoke`]; `None` if the server has no way to revoke.
    Revoked(Option<Revocation>),
    /// Answers [`LogoutStep::Remove`].
    Removed(Removal),
    /// Answers [`LogoutStep::Pause`].
    Paused,
}

/// The result of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is durable.
    Done,
    /// The store held another document, or does not say whether it removed it: look again.
    Again,
    /// It did not happen.
    Failed(Failure),
}

/// Why something is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Another login was stored meanwhile. It stays.
    AnotherLogin,
    /// Other processes kept storing newer sessions.
    KeepsChanging,
    /// The store failed.
    Here(Failure),
    /// The other store of a migration failed; its address.
    There(String, Failure),
}

/// The result of a logout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogoutReport {
    /// The document that was read first; `None` without a grant.
    pub document: Option<Document>,
    /// Each session that was found: its document, and the answer of the server.
    pub revocations: Vec<(Document, Option<Revocation>)>,
    /// What is left, and the reason.
    pub remains: Option<Remains>,
}

/// The logout of one profile: takes what happened, returns what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logout {
    message: String,
    now: UnixSeconds,
    /// Which store the last step was about.
    side: Side,
    /// The login of the document that was read first.
    login: Option<Option<Login>>,
    /// The migration of the document: its identifier, and the address of the other store.
    other: Option<(String, String)>,
    has_looked_there: bool,
    /// The document here is gone, or was. What is stored later is another matter, unless it is of the same login.
    was_gone: bool,
    /// What to remove after its sessions are revoked.
    here: Option<Found>,
    there: Option<Found>,
    /// The sessions to revoke, the next one last.
    pending: Vec<Document>,
    rounds: u32,
    /// How often both stores were read after the removal here.
    looks: usize,
    outcome: LogoutReport,
}

impl Logout {
    /// Returns a logout and its first step. Later processes read `message` if only a mark can be left.
    pub fn start(message: String, now: UnixSeconds) -> (Self, LogoutStep) {
        let logout = Self {
            message,
            now,
            side: Side::Here,
            login: None,
            other: None,
            has_looked_there: false,
            was_gone: false,
            here: None,
            there: None,
            pending: Vec::new(),
            rounds: 0,
            looks: 0,
            outcome: LogoutReport::default(),
        };
        (logout, LogoutStep::LookHere)
    }

    /// Takes an event and returns the next step. No event follows [`LogoutStep::Finish`].
    pub fn next(&mut self, event: LogoutEvent) -> LogoutStep {
        match (self.side, event) {
            (Side::Here, LogoutEvent::Looked(Ok(found))) => self.looked_here(found),
            (Side::There, LogoutEvent::Looked(Ok(found))) => self.looked_there(found),
            (_, LogoutEvent::Revoked(revocation)) => {
                let revoked = self.pending.pop().map(|document| (document, revocation));
                self.outcome.revocations.extend(revoked);
                self.revoke()
            }
            (Side::Here, LogoutEvent::Removed(Removal::Done)) => {
                self.was_gone = true;
                LogoutStep::LookHere
            }
            (Side::There, LogoutEvent::Removed(Removal::Done)) => self.leave_there(),
            (_, LogoutEvent::Removed(Removal::Again)) => self.look_again(),
            (
                Side::Here,
                LogoutEvent::Looked(Err(failure)) | LogoutEvent::Removed(Removal::Failed(failure)),
            ) => {
                self.outcome.remains = Some(Remains::Here(failure));
                self.leave_here()
            }
            (
                Side::There,
                LogoutEvent::Looked(Err(failure)) | LogoutEvent::Removed(Removal::Failed(failure)),
            ) => {
                let address = self.other.as_ref().map(|(_, address)| address.clone()).unwrap_or_default();
                self.outcome.remains = Some(Remains::There(address, failure));
                self.leave_there()
            }
            (_, LogoutEvent::Paused) => self.look_there(),
        }
    }

    fn looked_here(&mut self, found: Option<Found>) -> LogoutStep {
        let Some(found) = found.filter(|found| !found.stored.document.has_no_grant()) else {
            self.was_gone = true;
            return self.leave_here();
        };
        let document = &found.stored.document;
        if self.login.get_or_insert_with(|| document.login.clone()) != &document.login {
            if !self.was_gone {
                self.outcome.remains = Some(Remains::AnotherLogin);
            }
            return self.leave_here();
        }
        self.rounds += u32::from(self.was_gone);
        if self.rounds > MAX_ROUNDS {
            return self.give_up();
        }
        self.outcome.document.get_or_insert_with(|| document.clone());
        self.other = self.other.take().or_else(|| other_store(document));
        self.plan(&found);
        self.here = Some(found);
        self.revoke()
    }

    /// A document in the other store belongs to this grant only if the migration brought it.
    fn looked_there(&mut self, found: Option<Found>) -> LogoutStep {
        let id = self.other.as_ref().map(|(id, _)| id);
        let is_of_the_migration = |found: &Found| {
            let document = &found.stored.document;
            document.moved.as_ref() == id || document.moving.as_ref().map(|moving| &moving.id) == id
        };
        let Some(found) = found.filter(is_of_the_migration) else { return self.leave_there() };
        self.plan(&found);
        self.there = Some(found);
        self.revoke()
    }

    /// Plans the revocation of every session that is not revoked yet.
    fn plan(&mut self, found: &Found) {
        let is_known = |logout: &Self, document: &Document| {
            let revoked = logout.outcome.revocations.iter().map(|(document, _)| document);
            revoked.chain(&logout.pending).any(|known| token(known) == token(document))
        };
        for session in found.live_sessions() {
            let document = found.stored.document.with_session(session.clone());
            if !is_known(self, &document) {
                // The newest session is revoked first: many servers end the whole grant with it.
                self.pending.insert(0, document);
            }
        }
    }

    fn revoke(&mut self) -> LogoutStep {
        if let Some(document) = self.pending.last() {
            let left = u32::try_from(self.pending.len()).unwrap_or(u32::MAX);
            return LogoutStep::Revoke(Box::new(document.clone()), left);
        }
        match self.side {
            Side::Here if self.other.is_some() && !self.has_looked_there => self.look_there(),
            Side::Here | Side::There => self.remove(),
        }
    }

    fn remove(&mut self) -> LogoutStep {
        let found = match self.side {
            Side::Here => self.here.take(),
            Side::There => self.there.take(),
        };
        let Some(found) = found else { return self.finish() };
        let mark = Box::new(found.stored.document.without_grant(self.now, self.message.clone()));
        LogoutStep::Remove { side: self.side, expected: found.stored.revision, mark }
    }

    fn look_again(&mut self) -> LogoutStep {
        self.rounds += 1;
        match self.side {
            _ if self.rounds > MAX_ROUNDS => self.give_up(),
            Side::Here => LogoutStep::LookHere,
            Side::There => self.look_there(),
        }
    }

    fn give_up(&mut self) -> LogoutStep {
        self.outcome.remains = Some(Remains::KeepsChanging);
        self.finish()
    }

    fn look_there(&mut self) -> LogoutStep {
        (self.side, self.has_looked_there) = (Side::There, true);
        match &self.other {
            Some((_, address)) => LogoutStep::LookThere(address.clone()),
            None => self.finish(),
        }
    }

    /// Nothing is left here to remove. A store that failed is not read again.
    fn leave_here(&mut self) -> LogoutStep {
        let has_failed = matches!(self.outcome.remains, Some(Remains::There(..)));
        match COMPARISON_DELAYS.get(self.looks).filter(|_| self.other.is_some() && !has_failed) {
            Some(delay) => {
                self.looks += 1;
                LogoutStep::Pause(*delay)
            }
            None => self.finish(),
        }
    }

    fn leave_there(&mut self) -> LogoutStep {
        self.side = Side::Here;
        match self.here {
            Some(_) => self.remove(),
            None => LogoutStep::LookHere,
        }
    }

    fn finish(&mut self) -> LogoutStep {
        LogoutStep::Finish(Box::new(std::mem::take(&mut self.outcome)))
    }
}

/// The identifier of the migration of the document, and the address of the other store.
fn other_store(document: &Document) -> Option<(String, String)> {
    let moving = document.moving.as_ref()?;
    let address = match document.moved.as_ref() == Some(&moving.id) {
        true => moving.from.clone()?,
        false => moving.to.clone(),
    };
    Some((moving.id.clone(), address))
}

/// The token that a revocation names: the refresh token, or without one the access token.
fn token(document: &Document) -> Option<&Secret> {
    let session = document.session.as_ref()?;
    Some(session.refresh_token.as_ref().unwrap_or(&session.access_token))
}
