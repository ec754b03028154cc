//! A person who logs in or out, or moves the grant, in the middle: as `commands::access`, `commands::login`,
//! `commands::logout` and `commands::migrate` do it. What a logout and a move do next is decided by the product's own
//! functions.

use super::parts::{Kept, at_revision, document, generation, session, stored_generation};
use super::scenario::{Job, Lock, Visit};
use super::world::{LOGIN, Name, Party, START, World};
use crate::grant::{Document, Login, Moving, Rejected};
use crate::session::attempt::{Attempt, Owner};
use crate::session::logout::{Found, credential_digests};
use crate::session::logout::{Logout, LogoutEvent, LogoutStep, Remains, Removal, Side};
use crate::session::migration::{Next, arriving, next};
use crate::session::{LockUse, Revision, Stored};
use std::rc::Rc;
use std::time::Duration;

/// The process identifiers of visitors begin here.
const FIRST_IDENTIFIER: u32 = 1000;

/// How long a visitor's claim lasts, in seconds.
const CLAIM_SECONDS: i64 = 40;

#[derive(Clone, Debug)]
pub(super) struct Visitor {
    visit: Visit,
    pub doing: Visiting,
    /// The record of its claim.
    claim: Option<(String, u64)>,
}

/// How far it is.
#[expect(clippy::large_enum_variant, reason = "a world has two")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Visiting {
    Enters,
    /// It has the lock, or there is none.
    WaitsForClaims,
    Reads,
    /// A login: the store holds that.
    Compares(Option<Revision>),
    Renames,
    /// A login has replaced a document that was on its way.
    TakesBack(Moving),
    /// A logout.
    LogsOut(Box<Logout>, LogoutStep),
    /// It has read the document, and reads what waits beside it.
    HasRead(Box<Logout>, Option<Stored>),
    /// It has claimed the session of that document, and reads again.
    HasClaimed(Box<Logout>, Stored),
    /// It has removed the document. These records and answers were there before.
    Sweeps(Box<Logout>, Vec<Name>),
    /// A move: it reads the other store first.
    ReadsThere(Moving),
    ReadsHere(Moving, Option<Stored>),
    Moves(Moving, Next, Option<Stored>, Option<Stored>),
    HasLeft,
    WasKilled,
}

impl Visitor {
    pub(super) fn arrives(visit: Visit) -> Self {
        Self { visit, doing: Visiting::Enters, claim: None }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.doing, Visiting::HasLeft | Visiting::WasKilled)
    }
}

impl World {
    fn visitors_lock_use(&self) -> LockUse {
        self.scenario.lock_uses[0]
    }

    /// Whether a visitor to the first store holds a lock that keeps others out.
    fn visitors_lock(&self) -> bool {
        self.has_locks() && self.visitors_lock_use() == LockUse::Auto
    }

    /// The wall clock's time when the last of the claims ends that a visitor would wait for.
    fn claims_end_at(&self, number: usize) -> Option<i64> {
        let stored = self.document.as_ref()?;
        let own = self.visitors[number].claim.as_ref();
        let key = credential_digests(&stored.document).into_iter().next()?;
        let attempt_records = self.attempt_records(&key).into_iter();
        let others = attempt_records.filter(|record| own != Some(&(key.clone(), record.number)));
        let live = others.filter(|record| record.is_live(self.wall()));
        live.map(|record| record.attempt.until).max()
    }

    pub(super) fn can_visit(&self, number: usize) -> bool {
        let visitor = &self.visitors[number];
        let is_free = !self.visitors_lock() || self.held_by.is_empty();
        match &visitor.doing {
            Visiting::HasLeft | Visiting::WasKilled => false,
            Visiting::Enters => is_free || visitor.visit.job == Job::LogoutThere,
            Visiting::WaitsForClaims => {
                self.visitors_lock_use() == LockUse::Off
                    || visitor.visit.job == Job::LogoutThere
                    || !visitor.visit.is_patient
                    || self.claims_end_at(number).is_none()
            }
            // A change of the first store: under its lock, or behind a claim.
            Visiting::Moves(_, Next::Confirm | Next::Leave, ..) => {
                is_free && self.claims_end_at(number).is_none()
            }
            _ => true,
        }
    }

    /// Whether a logout has removed the document, and not looked yet whether another one is there.
    pub(super) fn is_a_logout_sweeping(&self) -> bool {
        self.visitors.iter().any(|visitor| matches!(visitor.doing, Visiting::Sweeps(..)))
    }

    /// When a visitor's wait ends, where only time can end it.
    pub(super) fn visitors_wait_until(&self) -> Option<Duration> {
        let waits = |number: &usize| !self.visitors[*number].is_over() && !self.can_visit(*number);
        let ends = (0..self.visitors.len()).filter(waits).filter_map(|number| self.claims_end_at(number));
        Some(Duration::from_secs(u64::try_from(ends.min()? - START).unwrap()))
    }

    pub(super) fn is_visitor(owner: &Owner) -> bool {
        owner.pid >= FIRST_IDENTIFIER
    }

    pub(super) fn visitor_of(&self, owner: &Owner) -> &Visitor {
        &self.visitors[usize::try_from(owner.pid - FIRST_IDENTIFIER).unwrap()]
    }

    pub(super) fn crash_visitor(&mut self, number: usize) {
        self.visitors[number].doing = Visiting::WasKilled;
        self.held_by.remove(&Party::Visitor(number));
    }

    pub(super) fn visit(&mut self, number: usize) {
        let there = self.document.clone();
        let revision = there.as_ref().map(|stored| stored.revision.clone());
        let job = self.visitors[number].visit.job;
        let next = match self.visitors[number].doing.clone() {
            Visiting::Enters => {
                if self.visitors_lock() && job != Job::LogoutThere {
                    self.held_by.insert(Party::Visitor(number));
                }
                if job == Job::Login {
                    self.server.log_in();
                }
                Visiting::WaitsForClaims
            }
            Visiting::WaitsForClaims => match job {
                Job::Logout | Job::LogoutThere => {
                    let (logout, step) = Logout::start("logged out".to_owned(), self.wall());
                    Visiting::LogsOut(Box::new(logout), step)
                }
                Job::Login | Job::Move => Visiting::Reads,
            },
            Visiting::Reads if job == Job::Move => self.begin_to_move(number),
            Visiting::Reads => Visiting::Compares(revision),
            Visiting::Compares(expected) => match expected == revision {
                true => Visiting::Renames,
                false => Visiting::Reads,
            },
            Visiting::Renames => {
                self.newest = LOGIN;
                self.is_logged_out = false;
                self.has_replaced |= there.is_some();
                let login = Some(Login {
                    id: "l".to_owned(),
                    at: 0,
                    flow: crate::grant::Flow::Imported,
                    other: serde_json::Map::new(),
                });
                let new = document(&self.scenario, session(LOGIN, self.wall() + 3600));
                self.document = Some(at_revision(Document { login, ..new }));
                let moving = there.and_then(|stored| stored.document.moving.clone());
                moving.map_or(Visiting::HasLeft, Visiting::TakesBack)
            }
            Visiting::TakesBack(moving) => {
                let is_brought = |stored: &Rc<Stored>| stored.document.moved.as_ref() == Some(&moving.id);
                self.there.take_if(|stored| is_brought(stored));
                Visiting::HasLeft
            }
            Visiting::LogsOut(logout, step) => self.log_out(number, logout, step),
            Visiting::HasRead(logout, stored) => self.look_beside(number, logout, stored),
            Visiting::HasClaimed(logout, claimed) => match revision == Some(claimed.revision.clone()) {
                true => self.found(logout, claimed),
                false => Visiting::LogsOut(logout, LogoutStep::LookHere),
            },
            Visiting::Sweeps(logout, listed) => {
                self.records.retain(|name, _| !listed.contains(name));
                self.answers.retain(|name, _| !listed.contains(name));
                self.visitors[number].claim = None;
                let removal = if self.document.is_some() { Removal::Again } else { Removal::Done };
                went_on(logout, LogoutEvent::Removed(removal))
            }
            Visiting::ReadsThere(moving) => Visiting::ReadsHere(moving, self.there.as_deref().cloned()),
            Visiting::ReadsHere(moving, there) => {
                let here = self.document.as_deref().cloned();
                let document =
                    |stored: &Option<Stored>| stored.as_ref().map(|stored| stored.document.clone());
                match next(&moving, document(&here).as_ref(), document(&there).as_ref()) {
                    Next::End(_) => Visiting::HasLeft,
                    next => Visiting::Moves(moving, next, here, there),
                }
            }
            Visiting::Moves(moving, next, here, there) => {
                self.go_on_moving(&moving, next, here, there);
                Visiting::ReadsThere(moving)
            }
            over @ (Visiting::HasLeft | Visiting::WasKilled) => over,
        };
        self.visitors[number].doing = next;
        if self.visitors[number].is_over() {
            self.held_by.remove(&Party::Visitor(number));
            if let Some(claim) = self.visitors[number].claim.take() {
                self.records.remove(&claim);
            }
        }
    }

    // ---- a logout ----

    /// Which of the two documents that is.
    fn at(&mut self, number: usize, side: Side) -> &mut Option<Rc<Stored>> {
        match (side, self.visitors[number].visit.job) {
            (Side::Here, Job::LogoutThere) | (Side::There, Job::Logout) => &mut self.there,
            _ => &mut self.document,
        }
    }

    fn log_out(&mut self, number: usize, logout: Box<Logout>, step: LogoutStep) -> Visiting {
        match step {
            LogoutStep::LookHere | LogoutStep::LookThere(_) => {
                let side = if step == LogoutStep::LookHere { Side::Here } else { Side::There };
                let stored = self.at(number, side).as_deref().cloned();
                Visiting::HasRead(logout, stored)
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
                match (side, self.visitors[number].visit.job) {
                    (Side::Here, Job::Logout) | (Side::There, Job::LogoutThere) => {
                        let listed = self.records.keys().chain(self.answers.keys()).cloned().collect();
                        Visiting::Sweeps(logout, listed)
                    }
                    _ => went_on(logout, LogoutEvent::Removed(Removal::Done)),
                }
            }
            LogoutStep::Pause(_) => went_on(logout, LogoutEvent::Paused),
            LogoutStep::Finish(outcome) => {
                self.has_logged_out |= outcome.document.is_some() && outcome.remains.is_none();
                self.has_left_a_login |= outcome.remains == Some(Remains::AnotherLogin);
                Visiting::HasLeft
            }
        }
    }

    /// What waits beside the document; and without a lock a claim, where no other process has one.
    fn look_beside(&mut self, number: usize, logout: Box<Logout>, stored: Option<Stored>) -> Visiting {
        let Some(stored) = stored else { return went_on(logout, LogoutEvent::Looked(Ok(None))) };
        let is_here = self.visitors[number].visit.job == Job::Logout && stored.document.moved.is_none();
        let has_lock = self.visitors_lock_use() == LockUse::Auto && self.scenario.lock != Lock::Refuses;
        if is_here && !has_lock {
            if let Some(claim) = self.visitors[number].claim.take() {
                self.records.remove(&claim);
            }
            let is_binding = self.visitors_lock_use() != LockUse::Off;
            let has_rival = self.claims_end_at(number).is_some();
            if is_binding && has_rival && self.visitors[number].visit.is_patient {
                return Visiting::WaitsForClaims;
            }
            if !(is_binding && has_rival) {
                self.claim_for(number, &stored.document);
                return Visiting::HasClaimed(logout, stored);
            }
        }
        self.found(logout, stored)
    }

    fn found(&self, logout: Box<Logout>, stored: Stored) -> Visiting {
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
        let id = format!("visitor {number}");
        let attempt = Attempt::open(id, key.clone(), access_token, owner, self.wall(), until);
        let name = (key, last.unwrap_or(0) + 1);
        self.records.insert(name.clone(), Kept::new(attempt));
        self.visitors[number].claim = Some(name);
    }

    // ---- a move ----

    /// Takes the session from its side, or goes on with a move that was killed.
    fn begin_to_move(&mut self, number: usize) -> Visiting {
        let stored = self.document.as_deref().cloned();
        let document = stored.map(|stored| stored.document).filter(|document| !document.has_no_grant());
        let target_is_taken = self.there.is_some();
        let next = match document {
            Some(Document { session: None, moving: Some(moving), .. }) => Visiting::ReadsThere(moving),
            Some(marked) if marked.moving.is_none() && marked.session.is_some() && !target_is_taken => {
                let (session, key) = (marked.session.clone().unwrap(), marked.credential_sha256().unwrap());
                let id = format!("move of {number}, {}", generation(&session));
                let to = "there".to_owned();
                let moving =
                    Moving { id, to, from: None, has_arrived: false, session, other: serde_json::Map::new() };
                let rejected = Some(Rejected::new(key, 0, "on its way".to_owned()));
                let document = Document { session: None, rejected, moving: Some(moving.clone()), ..marked };
                self.document = Some(at_revision(document));
                Visiting::ReadsThere(moving)
            }
            _ => Visiting::HasLeft,
        };
        self.held_by.remove(&Party::Visitor(number));
        next
    }

    /// Each change is conditional on what was read.
    fn go_on_moving(&mut self, moving: &Moving, next: Next, here: Option<Stored>, there: Option<Stored>) {
        let revision = |stored: &Option<Rc<Stored>>| stored.as_ref().map(|stored| stored.revision.clone());
        let expected = |stored: &Option<Stored>| stored.as_ref().map(|stored| stored.revision.clone());
        let is_same_there = revision(&self.there) == expected(&there);
        let is_same_here = revision(&self.document) == expected(&here);
        match next {
            Next::Arrive if is_same_there => {
                let marked = here.unwrap().document;
                let answers = credential_digests(&marked).into_iter().flat_map(|key| {
                    let beside = self.answers.iter().rev().filter(move |((about, _), _)| *about == key);
                    beside.filter_map(|(_, file)| file.what.document.as_ref()?.session.clone())
                });
                let session = answers.into_iter().next().unwrap_or_else(|| moving.session.clone());
                let reason = Rejected::new("on its way".to_owned(), 0, String::new());
                let arrived = arriving(&marked, session, "here".to_owned(), reason).unwrap();
                self.there = Some(at_revision(arrived));
            }
            Next::Activate(document) if is_same_there => self.there = Some(at_revision(*document)),
            Next::TakeBack if is_same_there => self.there = None,
            Next::Confirm if is_same_here => {
                let mut document = here.unwrap().document;
                document.moving.as_mut().unwrap().has_arrived = true;
                self.document = Some(at_revision(document));
            }
            Next::Leave if is_same_here => {
                self.document = None;
                self.records.clear();
                self.answers.clear();
            }
            _ => {}
        }
    }

    // ---- what must hold at the ends ----

    /// In how many of the two stores a token can be had.
    fn usable(&self) -> usize {
        let is_usable = |stored: &&Rc<Stored>| stored.document.session.is_some();
        self.document.iter().chain(&self.there).filter(is_usable).count()
    }

    /// A logout that was not killed has left nothing, wherever the move was.
    pub(super) fn nothing_is_left_of_a_logout_in_a_move(&self) -> bool {
        !self.has_logged_out || (self.usable() == 0 && self.server.are_all_gone())
    }

    /// The grant is used in one store at most, and is not lost.
    pub(super) fn one_store_has_the_grant(&self) -> bool {
        let is_on_its_way = self.document.as_ref().is_some_and(|stored| stored.document.moving.is_some());
        self.usable() == 1 || (self.usable() == 0 && is_on_its_way)
    }

    /// A login that replaced a document on its way is the one that can be used. One after the move is another grant.
    pub(super) fn a_login_in_a_move_leaves_one_usable_grant(&self) -> bool {
        !self.has_replaced || self.usable() == 1
    }
}

fn went_on(mut logout: Box<Logout>, event: LogoutEvent) -> Visiting {
    let step = logout.next(event);
    Visiting::LogsOut(logout, step)
}
