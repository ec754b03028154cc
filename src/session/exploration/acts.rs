//! What each step does to the world, in the same small parts as the driver and the store do it. Any other process may go
//! on between two parts.

use super::invariants::Excuse;
use super::parts::{Beside, Kept, at_revision, id_token, stored_generation};
use super::scenario::{Demanded, Lock};
use super::world::{Name, Party, Process, Progress, World};
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::protocol::token::Answer;
use crate::session::attempt::{Attempt, AttemptOutcome};
use crate::session::{
    ClaimResult, DelegateResult, Event, LockResult, RefreshInput, ReplaceResult, Revision, Role, Step,
    Stored, View,
};
use std::rc::Rc;
use std::time::Duration;

/// How long a caller waits beyond its deadline for the result of its worker, as in `subprocess::worker`.
pub(super) const LAST_WORD_LIMIT: Duration = Duration::from_secs(2);

impl World {
    pub(super) fn go(&mut self, number: usize) {
        match self.processes[number].progress.clone() {
            Progress::Begins(step) => self.begin(number, step),
            Progress::HasReadTheRecords(attempts) => {
                let stored = self.read(number);
                self.feed(number, Event::Looked(Ok(View { attempts, stored })));
            }
            Progress::Claims { attempt, expected, .. } if self.scenario.swaps && !self.holds(&expected) => {
                let _ = attempt;
                self.feed(number, Event::Claimed(ClaimResult::Taken));
            }
            Progress::Claims { attempt, number: wanted, exclusive, expected, outdated, listed } => {
                let key = attempt.credential_sha256.clone();
                match self.create_record(attempt, wanted, exclusive) {
                    Some(record) => self.change(number, |process| {
                        process.progress =
                            Progress::SweepsTheOutdated { number: record, key, expected, outdated, listed };
                    }),
                    None => self.feed(number, Event::Claimed(ClaimResult::Taken)),
                }
            }
            Progress::SweepsTheOutdated { number: record, key, expected, outdated, listed } => {
                if self.scenario.swaps {
                    self.sweep_answers(number, record, &key, &listed);
                } else if self.holds(&expected) {
                    let is_outdated = |name: &&Name| name.0 != key || outdated.contains(&name.1);
                    for name in listed.iter().filter(is_outdated) {
                        self.records.remove(name);
                        self.answers.remove(name);
                    }
                }
                self.feed(number, Event::Claimed(ClaimResult::Mine(record)));
            }
            Progress::Receives(answer) => self.feed(number, Event::Answered(answer)),
            Progress::Compares { beside, expected, then } => match self.holds(&expected) {
                true => {
                    self.change(number, |process| {
                        process.progress = Progress::Renames { beside, expected, then }
                    });
                }
                false => self.lose_the_replacement(number, &beside, *then),
            },
            Progress::Renames { beside, expected, then } => match self.answers.remove(&beside) {
                // Another process has stored a newer session and swept the file, or has adopted it.
                None => self.lose_the_replacement(number, &beside, *then),
                Some(file) => {
                    self.put_in_place(number, &expected, &file.what, &beside.0);
                    let progress = Progress::Sweeps { last: beside, then };
                    self.change(number, |process| process.progress = progress);
                }
            },
            Progress::Swaps { last, document, expected, then } => {
                let is_done = self.swap(number, &last, &document, &expected);
                if is_done || matches!(*then, Event::Replaced(_)) {
                    self.answers.remove(&last);
                }
                match (is_done, *then) {
                    (true, then) => self.feed(number, then),
                    (false, Event::Adopted(_)) => self.feed(number, Event::Adopted(Ok(false))),
                    (false, _) => {
                        let there = self.read(number).map(Box::new);
                        self.feed(number, Event::Replaced(ReplaceResult::Lost(there)));
                    }
                }
            }
            Progress::Sweeps { last: (key, last), then } => {
                let stays = |(about, number): &Name| *about != key || *number > last;
                self.records.retain(|name, _| stays(name));
                self.answers.retain(|name, _| stays(name));
                self.feed(number, *then);
            }
            Progress::WaitsForTheLock { queues, .. } => {
                let has_changed = self.has_changed_for(&self.processes[number]);
                let locking = match (self.held_by.is_empty(), queues) {
                    (true, _) => LockResult::Granted,
                    (false, true) if has_changed => LockResult::Busy,
                    (false, false) if has_changed => LockResult::Granted,
                    _ => LockResult::Unanswered,
                };
                if queues && locking == LockResult::Granted {
                    self.held_by.insert(Party::Process(number));
                    self.change(number, |process| process.has_guard = true);
                }
                self.feed(number, Event::LockAnswered(locking));
            }
            Progress::WaitsForItsWorker { worker, .. } => self.hear_from(worker, number),
            Progress::Rests => self.feed(number, Event::Paused),
            Progress::Ended(_) | Progress::Killed => {}
        }
    }

    fn begin(&mut self, number: usize, step: Step) {
        match step {
            Step::Read => {
                let stored = self.read(number);
                let first_read = stored.as_ref().and_then(|stored| stored_generation(&stored.document));
                self.change(number, |process| process.first_read = process.first_read.or(first_read));
                self.feed(number, Event::Read(Ok(stored)));
            }
            Step::Look { credential_sha256 } => {
                let attempts = self.attempt_records(&credential_sha256, Some(number));
                if self.scenario.swaps {
                    // Records and document are one value.
                    let stored = self.read(number);
                    return self.feed(number, Event::Looked(Ok(View { attempts, stored })));
                }
                self.change(number, |process| process.progress = Progress::HasReadTheRecords(attempts));
            }
            Step::Lock(..) => {
                let locking = match (self.scenario.lock, self.held_by.is_empty()) {
                    (Lock::Refuses, _) => LockResult::Refused("no locks".to_owned()),
                    (Lock::Excludes, false) => LockResult::Busy,
                    (Lock::Excludes, true) => {
                        self.held_by.insert(Party::Process(number));
                        LockResult::Granted
                    }
                    (Lock::GrantsToAll, _) => LockResult::Granted,
                };
                self.change(number, |process| process.has_guard = locking == LockResult::Granted);
                self.feed(number, Event::LockAnswered(locking));
            }
            Step::Adopt { credential_sha256: key, number: record, expected } => {
                let beside = (key, record);
                if self.scenario.swaps {
                    let then = Box::new(Event::Adopted(Ok(true)));
                    let document = self.complete(&beside).cloned();
                    return match document {
                        Some(document) => self.change(number, |process| {
                            process.progress = Progress::Swaps { last: beside, document, expected, then };
                        }),
                        None => self.feed(number, Event::Adopted(Ok(false))),
                    };
                }
                match self.answers.contains_key(&beside) {
                    true => self.change(number, |process| {
                        let then = Box::new(Event::Adopted(Ok(true)));
                        process.progress = Progress::Compares { beside, expected, then };
                    }),
                    false => self.feed(number, Event::Adopted(Ok(false))),
                }
            }
            Step::Delegate(command) => self.delegate(number, command),
            Step::Claim { attempt, number: wanted, exclusive, expected, outdated } => {
                let listed = self.records.keys().chain(self.answers.keys()).cloned().collect();
                self.change(number, |process| {
                    process.until = Some(attempt.until);
                    process.is_past_until = false;
                    process.progress =
                        Progress::Claims { attempt, number: wanted, exclusive, expected, outdated, listed };
                });
            }
            Step::Mark { attempt, number: record } => {
                self.check_mark(number, &attempt);
                let name = (attempt.credential_sha256.clone(), record);
                if self.scenario.swaps {
                    if self.records.contains_key(&name) && self.is_ours(&name, &attempt.id) {
                        self.records.insert(name, Kept::new(attempt));
                    }
                } else if self.is_ours(&name, &attempt.id) {
                    if attempt.is_over() && self.complete(&name).is_none() {
                        self.answers.remove(&name);
                        self.change(number, |process| process.has_room = false);
                    }
                    self.records.insert(name, Kept::new(attempt));
                }
                self.feed(number, Event::Noted);
            }
            Step::Withdraw { credential_sha256, number: record } => {
                let name = (credential_sha256, record);
                self.change(number, |process| process.has_room = false);
                if self.records.get(&name).is_none_or(|record| self.is_by(number, &record.what)) {
                    self.records.remove(&name);
                    if !self.scenario.swaps {
                        self.answers.remove(&name);
                    }
                }
                self.feed(number, Event::Noted);
            }
            Step::Spend { document, .. } => {
                let generation = stored_generation(&document).unwrap();
                self.check_spend(number, generation);
                self.sends.push((generation, number));
                let (server, lifetime) = (self.scenario.server, self.scenario.lifetime);
                let mut answer = self.server.answer(server, generation, lifetime);
                if let (Answer::Refreshed(answer), Demanded::IdToken) = (&mut answer, self.scenario.demanded)
                {
                    answer.id_token = Some(id_token(self.wall() + 3600));
                }
                self.note_answer(generation, &answer);
                self.change(number, |process| {
                    match &answer {
                        Answer::Refreshed(answer) => {
                            process.given = answer.scope.as_deref().map(|scope| scope.parse().unwrap());
                        }
                        Answer::InvalidGrant { .. } => process.refused = Some(generation),
                        _ => {}
                    }
                    process.progress = Progress::Receives(answer);
                });
            }
            Step::Replace { expected, document, attempt: beside } => {
                if self.scenario.swaps {
                    let file = Kept::new(Beside { by: number, document: Some(document.clone()) });
                    self.answers.insert(beside.clone(), file);
                    let then = Box::new(Event::Replaced(ReplaceResult::Done));
                    return self.change(number, |process| {
                        process.progress = Progress::Swaps { last: beside, document, expected, then };
                    });
                }
                // The document goes into the file that is open, which another process may have removed. Without an open file
                // it goes into a new one.
                let is_there = self.answers.get(&beside).is_some_and(|file| file.what.by == number);
                if is_there || !self.processes[number].has_room {
                    let file = Kept::new(Beside { by: number, document: Some(document) });
                    self.answers.insert(beside.clone(), file);
                }
                self.change(number, |process| process.has_room = false);
                let then = Box::new(Event::Replaced(ReplaceResult::Done));
                let progress = Progress::Compares { beside, expected, then };
                self.change(number, |process| process.progress = progress);
            }
            Step::Revoke { document, .. } => {
                self.server.revoke(self.scenario.server, stored_generation(&document).unwrap());
                self.feed(number, Event::Noted);
            }
            Step::Pause(_) | Step::Finish(_) => {}
        }
    }

    // ---- the store ----

    pub(super) fn holds(&self, expected: &Revision) -> bool {
        self.document.as_ref().is_some_and(|stored| stored.revision == *expected)
    }

    fn read(&mut self, number: usize) -> Option<Stored> {
        let stored = self.document.as_deref().cloned();
        let newest = self.newest;
        self.change(number, |process| {
            process.seen = stored.as_ref().map(|stored| stored.revision.clone());
            process.newest_when_read = Some(newest);
        });
        stored
    }

    fn is_by(&self, number: usize, attempt: &Attempt) -> bool {
        usize::try_from(attempt.by.pid) == Ok(number)
    }

    fn is_ours(&self, name: &Name, id: &str) -> bool {
        self.records.get(name).is_none_or(|record| record.what.id == id)
    }

    fn create_record(&mut self, attempt: Attempt, wanted: u64, exclusive: bool) -> Option<u64> {
        let key = attempt.credential_sha256.clone();
        let is_free = |number: &u64| !self.records.contains_key(&(key.clone(), *number));
        let numbers = if exclusive { wanted..=wanted } else { wanted..=u64::MAX };
        let number = numbers.into_iter().find(is_free)?;
        let by = usize::try_from(attempt.by.pid).unwrap();
        if self.scenario.swaps {
            self.records.insert((key, number), Kept::new(attempt));
            return Some(number);
        }
        self.answers.insert((key.clone(), number), Kept::new(Beside { by, document: None }));
        self.records.insert((key, number), Kept::new(attempt));
        self.change(by, |process| process.has_room = true);
        Some(number)
    }

    /// After a claim in a store that swaps: removes the answers on this machine that follow other refresh tokens.
    fn sweep_answers(&mut self, number: usize, record: u64, key: &str, listed: &[Name]) {
        let is_here = |world: &Self, name: &Name| {
            world.answers.get(name).is_some_and(|file| world.share_a_machine(file.what.by, number))
        };
        for name in listed {
            if name.0 != key && is_here(self, name) {
                self.answers.remove(name);
            }
        }
        let own = (key.to_owned(), record);
        if is_here(self, &own) {
            self.answers.remove(&own);
        }
    }

    /// Changes the document and the records up to `last` in one step. Returns whether the store holds `document` now.
    fn swap(&mut self, number: usize, last: &Name, document: &Document, expected: &Revision) -> bool {
        let new = at_revision(document.clone());
        if self.holds(&new.revision) {
            return true;
        }
        if !self.holds(expected) {
            return false;
        }
        self.check_replacement(number, expected, document, &last.0);
        self.document = Some(new);
        self.records.retain(|(about, number), _| *about != last.0 || *number > last.1);
        true
    }

    fn put_in_place(&mut self, number: usize, expected: &Revision, file: &Beside, key: &str) {
        match &file.document {
            Some(document) => {
                self.check_replacement(number, expected, document, key);
                self.document = Some(at_revision(document.clone()));
            }
            None => self.check_torn(number),
        }
    }

    /// The store held another document: removes the file beside it.
    fn lose_the_replacement(&mut self, number: usize, beside: &Name, then: Event) {
        if let Event::Adopted(_) = then {
            return self.feed(number, Event::Adopted(Ok(false)));
        }
        self.answers.remove(beside);
        let there = self.read(number).map(Box::new);
        self.feed(number, Event::Replaced(ReplaceResult::Lost(there)));
    }

    pub(super) fn fail_to_replace(&mut self, number: usize) {
        let (Progress::Renames { then, .. } | Progress::Swaps { then, .. }) =
            self.processes[number].progress.clone()
        else {
            return;
        };
        let failure = Failure::new(Kind::Store, "cannot replace");
        self.feed(
            number,
            match *then {
                Event::Adopted(_) => Event::Adopted(Err(failure)),
                _ => Event::Replaced(ReplaceResult::Failed { failure, kept: Some("beside".to_owned()) }),
            },
        );
    }

    /// The store does not say whether it replaced. The complete answer waits on this machine if it `is_kept`.
    pub(super) fn hear_nothing(&mut self, number: usize, is_done: bool, is_kept: bool) {
        let Progress::Swaps { last, document, expected, then } = self.processes[number].progress.clone()
        else {
            return;
        };
        if is_done {
            self.swap(number, &last, &document, &expected);
        }
        let failure = Failure::new(Kind::Temporary, "the store does not answer");
        let event = match *then {
            Event::Adopted(_) => Event::Adopted(Err(failure)),
            _ if is_kept => {
                Event::Replaced(ReplaceResult::Failed { failure, kept: Some("beside".to_owned()) })
            }
            _ => {
                self.answers.remove(&last);
                Event::Replaced(ReplaceResult::Unknown)
            }
        };
        self.feed(number, event);
    }

    // ---- mishaps ----

    /// Kills a process. Its lock is released.
    pub(super) fn crash(&mut self, number: usize) {
        if self.holds_an_answer_alone(number) {
            self.excuses.insert(Excuse::KilledBetween);
        }
        let has_lost = self.sends.iter().any(|(_, by)| *by == number) && !self.has_durable_answer(number);
        self.change(number, |process| {
            process.has_lost_an_answer |= has_lost;
            process.progress = Progress::Killed;
        });
        self.held_by.remove(&Party::Process(number));
    }

    /// Loses a request before the server sees it, or an answer on its way back.
    pub(super) fn lose(&mut self, what: &str, number: usize) {
        if let Progress::Begins(Step::Spend { document, .. }) = self.processes[number].progress.clone() {
            let generation = stored_generation(&document).unwrap();
            self.check_spend(number, generation);
            self.sends.push((generation, number));
        } else if let Progress::Receives(Answer::Refreshed(_)) = &self.processes[number].progress {
            self.excuses.insert(Excuse::AnswerLost);
        }
        self.change(number, |process| process.has_lost_an_answer = true);
        self.feed(number, Event::Answered(Answer::Unknown { what: format!("{what} lost"), again: true }));
    }

    // ---- workers ----

    /// Starts a worker with the deadline of its caller. If the caller holds the lock, it hands the lock over.
    fn delegate(&mut self, number: usize, input: RefreshInput) {
        let caller = &self.processes[number];
        let (started_at, late, has_guard) = (caller.started_at, caller.late, caller.has_guard);
        let scenario = Rc::clone(&self.scenario);
        let (lock_use, deadline) = (scenario.lock_uses[number], caller.deadline);
        let worker = self.processes.len();
        let demand = input.demand.clone();
        let process = Process::asking(&scenario, demand, lock_use, Role::Worker(input), deadline, worker);
        self.processes.push(Rc::new(Process { started_at, late, has_guard, ..process }));
        if self.held_by.remove(&Party::Process(number)) {
            self.held_by.insert(Party::Process(worker));
        }
        let until = started_at.unwrap_or(self.clock) + deadline + LAST_WORD_LIMIT;
        self.change(worker, |_| {});
        self.change(number, |process| {
            process.has_guard = false;
            process.progress = Progress::WaitsForItsWorker { worker, until };
        });
    }

    fn hear_from(&mut self, worker: usize, number: usize) {
        let worker = Rc::clone(&self.processes[worker]);
        let delegation = match &worker.progress {
            Progress::Ended(result) => DelegateResult::Ended(result.clone()),
            Progress::Killed => DelegateResult::NoWorker,
            _ => DelegateResult::Unanswered,
        };
        if let DelegateResult::Ended(_) = delegation {
            self.change(number, |process| {
                process.given = worker.given;
                process.newest_when_read = worker.newest_when_read;
            });
        }
        self.feed(number, Event::Delegated(delegation));
    }

    /// Whether the record has a failure that waiting processes share.
    pub(super) fn is_shared(attempt: &Attempt) -> bool {
        matches!(attempt.outcome, Some(AttemptOutcome::Temporary))
    }
}
