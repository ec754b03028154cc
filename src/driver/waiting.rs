//! How a process waits for the lock, and what it reads meanwhile. See "Lock" in `docs/design.md`.

use super::Run;
use crate::error::Failure;
use crate::lock::{Guard, Locked};
use crate::session::{LockMode, LockResult, Stored};
use std::time::Duration;

/// How often a process that waits for the lock glances at the document. Usually the release of the lock wakes it before;
/// the glance is for a document that changes while the lock is held. It costs some system calls, and most refreshes take less.
const GLANCE: Duration = Duration::from_millis(750);

impl Run<'_> {
    pub(super) fn lock(&mut self, mode: LockMode, at_most: Duration) -> LockResult {
        let other = self.other.as_deref().unwrap_or("another process");
        match mode {
            LockMode::Try => {}
            LockMode::AwaitRelease => self.log(1, &format!("{other} is refreshing: waiting for it")),
            LockMode::Queue => self.log(1, "the other process left no answer: queueing for the lock"),
        }
        let locked = self.wait_for_lock(mode, at_most);
        if !matches!(locked, Locked::Granted(_) | Locked::Busy) {
            self.dependencies.store.stop_waiting();
        }
        match locked {
            Locked::Granted(guard) => {
                // A process that waited for a release holds nothing.
                self.guard = (mode != LockMode::AwaitRelease).then_some(guard);
                self.other = None;
                LockResult::Granted
            }
            Locked::Busy => LockResult::Busy,
            Locked::Refused(why) => {
                self.log(1, &format!("no lock here ({why}): the attempt record decides (claimed)"));
                LockResult::Refused(why)
            }
            Locked::Unanswered => LockResult::Unanswered,
            Locked::Failed(failure) => LockResult::Failed(failure),
        }
    }

    /// Waits for the lock or for another document, whichever comes first: no process queues for a lock that it no
    /// longer needs. A changed document counts as a release, and the machine looks.
    fn wait_for_lock(&mut self, mode: LockMode, at_most: Duration) -> Locked {
        let (clock, store) = (self.dependencies.clock, self.dependencies.store);
        let until = clock.now().elapsed.saturating_add(at_most);
        loop {
            let left = until.saturating_sub(clock.now().elapsed);
            let locked = store.lock(mode, left.min(GLANCE));
            if !matches!(locked, Locked::Unanswered) || left <= GLANCE {
                if matches!(locked, Locked::Granted(_)) {
                    // The holder has released the lock, and may have stored something.
                    self.known = None;
                }
                return locked;
            }
            self.log(2, "the lock is still held");
            if self.has_changed() {
                store.stop_waiting();
                return match mode {
                    LockMode::AwaitRelease => Locked::Granted(Guard::default()),
                    LockMode::Try | LockMode::Queue => Locked::Busy,
                };
            }
        }
    }

    /// Whether the document has changed since the machine saw it. A failed read counts as no change.
    fn has_changed(&mut self) -> bool {
        let (key, seen) = (self.key.clone(), self.seen.clone());
        let revision = |stored: &Option<Stored>| stored.as_ref().map(|stored| stored.revision.clone());
        if !self.dependencies.store.is_costly() {
            let read = self.dependencies.store.read();
            return read.is_ok_and(|read| read.map(|snapshot| snapshot.revision) != seen);
        }
        if self.look_at_records(&key).unwrap_or(false) {
            let _ = self.read();
        }
        self.seen = seen;
        self.known.as_ref().is_some_and(|known| revision(known) != self.seen)
    }

    /// Looks at the records on this refresh token. Gives whether one of those that were there has gone: each process
    /// that refreshes leaves a record first, and removes it after it has stored the new session.
    pub(super) fn look_at_records(&mut self, key: &str) -> Result<bool, Failure> {
        let records = self.dependencies.store.records(key)?;
        let is_there = |number| records.iter().any(|record| record.number == number);
        let is_other = !self.key.is_empty() && self.key != key;
        let has_gone = is_other || self.records.iter().any(|record| !is_there(record.number));
        (self.key, self.records) = (key.to_owned(), records);
        Ok(has_gone)
    }
}
