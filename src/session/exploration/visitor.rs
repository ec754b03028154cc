//! A person who logs in or out in the middle, as `driver::enter`, `commands::login` and `commands::logout` do it.

use super::parts::{at_revision, document, session, stored_generation};
use super::scenario::{Errand, Visit};
use super::world::{LOGIN, Party, START, World};
use crate::session::{LockUse, Revision};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Visitor {
    visit: Visit,
    pub doing: Visiting,
}

/// How far he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Visiting {
    Enters,
    /// The lock is his, or there is none.
    WaitsForClaims,
    Reads,
    /// The store holds that.
    Compares(Option<Revision>),
    Renames,
    /// That generation's refresh token goes first at the server.
    Revokes(Option<u8>),
    Removes,
    SweepsEverything,
    HasLeft,
}

impl Visitor {
    pub(super) fn arrives(visit: Visit) -> Self {
        Self { visit, doing: Visiting::Enters }
    }

    fn is_over(&self) -> bool {
        self.doing == Visiting::HasLeft
    }
}

impl World {
    fn visitors_lock_use(&self) -> LockUse {
        self.scenario.lock_uses[0]
    }

    fn visitors_lock(&self) -> bool {
        self.has_locks() && self.visitors_lock_use() == LockUse::Auto
    }

    /// The wall clock's time when the last of the claims ends that a visitor would wait for.
    fn claims_end_at(&self) -> Option<i64> {
        let stored = self.document.as_ref()?;
        let sightings = self.sightings(&stored.document.credential_sha256()?);
        let live = sightings
            .iter()
            .filter(|sighting| sighting.attempt.concerns(&stored.document) && sighting.is_live(self.wall()));
        live.map(|sighting| sighting.attempt.until).max()
    }

    pub(super) fn can_visit(&self, number: usize) -> bool {
        let visitor = &self.visitors[number];
        match visitor.doing {
            Visiting::HasLeft => false,
            Visiting::Enters => !self.visitors_lock() || self.held_by.is_empty(),
            Visiting::WaitsForClaims => {
                self.visitors_lock_use() == LockUse::Off
                    || !visitor.visit.is_patient
                    || self.claims_end_at().is_none()
            }
            _ => true,
        }
    }

    /// When a visitor's wait ends, where only time can end it.
    pub(super) fn visitors_wait_until(&self) -> Option<Duration> {
        let waits = |number: &usize| {
            self.visitors[*number].doing == Visiting::WaitsForClaims && !self.can_visit(*number)
        };
        (0..self.visitors.len()).find(waits)?;
        Some(Duration::from_secs(u64::try_from(self.claims_end_at()? - START).unwrap()))
    }

    pub(super) fn visit(&mut self, number: usize) {
        let there = self.document.clone();
        let revision = there.as_ref().map(|stored| stored.revision.clone());
        let errand = self.visitors[number].visit.errand;
        let next = match self.visitors[number].doing.clone() {
            Visiting::Enters => {
                if self.visitors_lock() {
                    self.held_by.insert(Party::Visitor(number));
                }
                if errand == Errand::Login {
                    self.server.log_in();
                }
                Visiting::WaitsForClaims
            }
            Visiting::WaitsForClaims => Visiting::Reads,
            Visiting::Reads => match (errand, there) {
                (Errand::Login, _) => Visiting::Compares(revision),
                (Errand::Logout, None) => Visiting::HasLeft,
                (Errand::Logout, Some(stored)) => Visiting::Revokes(stored_generation(&stored.document)),
            },
            Visiting::Compares(expected) => match expected == revision {
                true => Visiting::Renames,
                false => Visiting::Reads,
            },
            Visiting::Renames => {
                self.newest = LOGIN;
                self.is_logged_out = false;
                self.document =
                    Some(at_revision(document(&self.scenario, session(LOGIN, self.wall() + 3600))));
                Visiting::HasLeft
            }
            Visiting::Revokes(generation) => {
                if let Some(generation) = generation {
                    self.server.revoke(self.scenario.server, generation);
                }
                Visiting::Removes
            }
            Visiting::Removes => {
                self.document = None;
                self.is_logged_out = true;
                Visiting::SweepsEverything
            }
            Visiting::SweepsEverything => {
                self.records.clear();
                self.answers.clear();
                Visiting::HasLeft
            }
            Visiting::HasLeft => Visiting::HasLeft,
        };
        self.visitors[number].doing = next;
        if self.visitors[number].is_over() {
            self.held_by.remove(&Party::Visitor(number));
        }
    }
}
