//! The logout as a state machine without I/O.
//!
//! A *live session* is one whose refresh token the server may still accept, wherever it is stored:
//!
//! | side | why |
//! |---|---|
//! | [`Document::session`] | it is used |
//! | [`Document::moving`] | it is on its way to another store |
//! | an answer beside an attempt record | the process that received it could not store it |
//! | the other store of a migration | it has arrived, and the first store does not know yet |
//!
//! ```text
//! look here ─ revoke ─┬────────────────────────────────────────────▶ remove here ─┬─▶ finish
//!                     └ a move: look there ─ revoke ─ remove there ─┘             └ a move: look at both again …
//! ```
//!
//! Each removal wants the revision that was looked at. Where another process was faster, the logout looks again: a newer
//! session of the same grant is revoked and removed, too; another login stays (I2).
//!
//! During a move the other store is looked at before the removal here, so that a logout that is killed is found and
//! completed by the next one. After it both are looked at some more times: the move may have written meanwhile, and so may
//! a program that it had started before it was killed. A move makes the session usable there only while its mark is still
//! here: see [`super::migration`].

use super::bounds::COMPARISON_DELAYS;
use super::{Revision, Stored};
use crate::error::Failure;
use crate::grant::{Document, Login, Secret, Session, UnixSeconds};
use crate::protocol::revocation::Revocation;
use std::time::Duration;

/// How often a removal that another process prevented is tried again. Both stores count together.
pub const MAX_ROUNDS: u32 = 4;

/// What one store holds of a profile: the document, and the answers that wait beside it, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The document.
    pub stored: Stored,
    /// Complete documents that follow one of its sessions.
    pub answers: Vec<Document>,
}

impl Found {
    /// The live sessions here, the newest first. An answer is newer than the session that it follows.
    pub fn live_sessions(&self) -> impl Iterator<Item = &Session> {
        let answers = self.answers.iter().filter_map(|answer| answer.session.as_ref());
        answers.chain(self.stored.document.sessions())
    }

    /// The session that a migration takes along: the newest one of those that follow `session`.
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

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutStep {
    /// Look at what the store of the profile holds.
    LookHere,
    /// Look at what the store at this address holds.
    LookThere(String),
    /// Revoke the document's session. So many sessions are known that are still to be revoked, with this one.
    Revoke(Box<Document>, u32),
    /// Remove the document.
    Remove {
        /// From where.
        side: Side,
        /// What the store must still hold.
        expected: Revision,
        /// What is to be written where the document cannot be removed.
        mark: Box<Document>,
    },
    /// Wait: a write that was begun there may still arrive.
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
    /// Answers [`LogoutStep::Revoke`]; none where there is no way to revoke.
    Revoked(Option<Revocation>),
    /// Answers [`LogoutStep::Remove`].
    Removed(Removal),
    /// Answers [`LogoutStep::Pause`].
    Paused,
}

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is durable.
    Done,
    /// The store held something else, or it may have happened: look again.
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
    /// The other store of a move failed; its address.
    There(String, Failure),
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogoutReport {
    /// The document as it was looked at first; none where there was no grant.
    pub document: Option<Document>,
    /// What became of each session that was found: its document, and the server's answer.
    pub revocations: Vec<(Document, Option<Revocation>)>,
    /// What is left, and why.
    pub remains: Option<Remains>,
}

/// The logout of one profile. Feed it what happened, do what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logout {
    message: String,
    now: UnixSeconds,
    /// Which store the last step was about.
    side: Side,
    /// The login of the document that was looked at first.
    login: Option<Option<Login>>,
    /// The move that the document takes part in: its identifier, and the address of the other store.
    other: Option<(String, String)>,
    has_looked_there: bool,
    /// What is to be removed when its sessions are revoked.
    here: Option<Found>,
    there: Option<Found>,
    /// The sessions that are to be revoked, the next one last.
    pending: Vec<Document>,
    rounds: u32,
    /// How often both stores were looked at after the removal here.
    looks: usize,
    outcome: LogoutReport,
}

impl Logout {
    /// A logout and its first step. `message` is what later processes read where only a mark can be left.
    pub fn start(message: String, now: UnixSeconds) -> (Self, LogoutStep) {
        let logout = Self {
            message,
            now,
            side: Side::Here,
            login: None,
            other: None,
            has_looked_there: false,
            here: None,
            there: None,
            pending: Vec::new(),
            rounds: 0,
            looks: 0,
            outcome: LogoutReport::default(),
        };
        (logout, LogoutStep::LookHere)
    }

    /// Takes an event, gives the next step. After [`LogoutStep::Finish`] there is none.
    pub fn next(&mut self, event: LogoutEvent) -> LogoutStep {
        match (self.side, event) {
            (Side::Here, LogoutEvent::Looked(Ok(found))) => self.looked_here(found),
            (Side::There, LogoutEvent::Looked(Ok(found))) => self.looked_there(found),
            (_, LogoutEvent::Revoked(revocation)) => {
                let revoked = self.pending.pop().map(|document| (document, revocation));
                self.outcome.revocations.extend(revoked);
                self.revoke()
            }
            (Side::Here, LogoutEvent::Removed(Removal::Done)) => self.leave_here(),
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
            return self.leave_here();
        };
        let document = &found.stored.document;
        if self.login.get_or_insert_with(|| document.login.clone()) != &document.login {
            // A login that is stored after the removal is not the grant of this logout.
            if self.looks == 0 {
                self.outcome.remains = Some(Remains::AnotherLogin);
            }
            return self.leave_here();
        }
        self.outcome.document.get_or_insert_with(|| document.clone());
        self.other = self.other.take().or_else(|| other_store(document));
        self.plan(&found);
        self.here = Some(found);
        self.revoke()
    }

    /// Only what the move brought is this grant. Any other document is another one's.
    fn looked_there(&mut self, found: Option<Found>) -> LogoutStep {
        let id = self.other.as_ref().map(|(id, _)| id);
        let is_of_the_move = |found: &Found| {
            let document = &found.stored.document;
            document.moved.as_ref() == id || document.moving.as_ref().map(|moving| &moving.id) == id
        };
        let Some(found) = found.filter(is_of_the_move) else { return self.leave_there() };
        self.plan(&found);
        self.there = Some(found);
        self.revoke()
    }

    /// Every session that was not revoked yet is to be revoked.
    fn plan(&mut self, found: &Found) {
        let is_known = |logout: &Self, document: &Document| {
            let revoked = logout.outcome.revocations.iter().map(|(document, _)| document);
            revoked.chain(&logout.pending).any(|known| token(known) == token(document))
        };
        for session in found.live_sessions() {
            let document = found.stored.document.with_session(session.clone());
            if !is_known(self, &document) {
                // The newest one first: many servers end the whole grant with it.
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
            _ if self.rounds > MAX_ROUNDS => {
                self.outcome.remains = Some(Remains::KeepsChanging);
                self.finish()
            }
            Side::Here => LogoutStep::LookHere,
            Side::There => self.look_there(),
        }
    }

    fn look_there(&mut self) -> LogoutStep {
        (self.side, self.has_looked_there) = (Side::There, true);
        match &self.other {
            Some((_, address)) => LogoutStep::LookThere(address.clone()),
            None => self.finish(),
        }
    }

    /// Nothing is left here that could be removed. A store that failed is not asked again.
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

/// The identifier of the move that the document takes part in, and the address of the other store.
fn other_store(document: &Document) -> Option<(String, String)> {
    let moving = document.moving.as_ref()?;
    let address = match document.moved.as_ref() == Some(&moving.id) {
        true => moving.from.clone()?,
        false => moving.to.clone(),
    };
    Some((moving.id.clone(), address))
}

/// What a revocation of the session names: without a refresh token, the access token.
fn token(document: &Document) -> Option<&Secret> {
    let session = document.session.as_ref()?;
    Some(session.refresh_token.as_ref().unwrap_or(&session.access_token))
}
