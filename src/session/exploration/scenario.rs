//! What a search is given: who takes part, what the place and the server are like, and how often what may go wrong.

use crate::session::{LockUse, Unwanted};

/// How long nobody does anything when an age passes, in seconds: the claim of one with the deadline [`IMPATIENT`]
/// is past its `until` then, the claim of one with the deadline [`PATIENT`] is not.
pub(super) const AN_AGE: u64 = 15;
pub(super) const IMPATIENT: u64 = 1;
pub(super) const PATIENT: u64 = 20;

/// What the authorization server does about a refresh token that was spent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// It is refused.
    Rejects,
    /// As [`Server::Rejects`]; and the first refresh token is refused once before it is taken.
    RefusesOnce,
    /// It is refused, and all that came of the same login ends (RFC 9700 section 4.14.2).
    EndsTheFamily,
    /// The last one is answered once more as before.
    Grace,
    /// Refresh tokens stay as they are.
    DoesNotRotate,
    /// The session is dead from the beginning.
    HasRevoked,
    /// Nobody is answered but with "not now".
    Down,
    /// Nobody is answered but with "come again in a second".
    AsksToComeAgain,
}

/// What the advisory lock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Excludes,
    /// It is granted to everybody.
    Lies,
    Refuses,
}

/// What a process can tell of another one whose record it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presences {
    /// Process identifier and start time: whoever is gone is known to be gone, although his identifier was reused.
    StartTimes,
    /// The identifier alone: where it was reused, its owner seems to live for ever.
    Identifiers,
    /// Nothing: he is on another machine.
    Unknown,
}

/// Who may end a session or begin one, besides those who refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Login,
    Logout,
    /// A logout in the other store of a move.
    LogoutThere,
    /// To the other store.
    Move,
}

/// A person at a keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    pub job: Job,
    /// Whether his deadline lets him wait as long as another one's claim lasts.
    pub is_patient: bool,
}

/// How often what may happen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// A process is killed.
    pub crashes: u8,
    /// A visitor is killed.
    pub killed_visitors: u8,
    /// Nobody does anything for an age.
    pub ages: u8,
    /// A request is lost before the server sees it.
    pub lost_requests: u8,
    /// The server's answer is lost, after it did what it did.
    pub lost_answers: u8,
    /// Time passes although somebody could go on.
    pub hastes: u8,
    /// The identifier of a process that was killed is given to another program.
    pub reused_identifiers: u8,
    /// A replacement fails after the complete answer lies beside the document.
    pub failed_replacements: u8,
}

/// What stands between two spenders: the least of what the processes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protection {
    Compared,
    Claimed,
    Locked,
}

#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// One for each process.
    pub lock_uses: Vec<LockUse>,
    /// The deadline of each process, in seconds.
    pub deadlines: Vec<u64>,
    /// Whether each has a worker do the exchange with the server.
    pub has_workers: bool,
    /// Whether the others come when the first one was killed, or an age has passed.
    pub do_others_come_later: bool,
    pub visits: Vec<Visit>,
    pub unwanted: Unwanted,
    /// Whether the client asks in its own name, without a refresh token.
    pub has_client_grant: bool,
    pub server: Server,
    pub lock: Lock,
    pub presences: Presences,
    /// How long the stored access token lasts, in seconds.
    pub left: i64,
    /// How long the access tokens last that the server gives, in seconds.
    pub lifetime: u64,
    pub budget: Budget,
}

impl Scenario {
    pub(super) fn of(lock_uses: &[LockUse], server: Server) -> Self {
        Self {
            lock_uses: lock_uses.to_vec(),
            deadlines: vec![30; lock_uses.len()],
            has_workers: false,
            do_others_come_later: false,
            visits: Vec::new(),
            unwanted: Unwanted::None,
            has_client_grant: false,
            server,
            lock: Lock::Excludes,
            presences: Presences::StartTimes,
            left: 0,
            lifetime: 3600,
            budget: Budget { hastes: 4, ..Budget::default() },
        }
    }

    /// With another budget, and more pauses.
    pub(super) fn with(mut self, spend: impl Fn(&mut Budget)) -> Self {
        spend(&mut self.budget);
        self
    }

    /// One who is at it for longer than his claim lasts, and others who outlast him.
    pub(super) fn with_one_impatient(mut self) -> Self {
        self.deadlines = vec![PATIENT; self.lock_uses.len()];
        self.deadlines[0] = IMPATIENT;
        self
    }

    pub(super) fn visited(mut self, job: Job, is_patient: bool) -> Self {
        self.visits.push(Visit { job, is_patient });
        self
    }

    pub(super) fn with_workers(self) -> Self {
        Self { has_workers: true, ..self }
    }

    /// What no answer spends is asked with.
    pub(super) fn in_the_client_s_own_name(self) -> Self {
        Self { has_client_grant: true, ..self }
    }

    /// Only the first one, then an accident, then the others.
    pub(super) fn with_takers(self) -> Self {
        Self { do_others_come_later: true, ..self }
    }

    pub(super) fn where_presence_is(self, presences: Presences) -> Self {
        Self { presences, ..self }
    }

    pub(super) fn protection(&self) -> Protection {
        let each = self.lock_uses.iter().map(|lock_use| match (lock_use, self.lock) {
            (LockUse::Off, _) => Protection::Compared,
            (LockUse::Claim, _) | (_, Lock::Lies | Lock::Refuses) => Protection::Claimed,
            (LockUse::Auto | LockUse::Require, Lock::Excludes) => Protection::Locked,
        });
        each.min().unwrap()
    }

    /// In a few words.
    pub(super) fn title(&self) -> String {
        let Budget { crashes, ages, lost_requests, lost_answers, hastes, .. } = self.budget;
        let mut words = vec![format!(
            "{:?} {:?} lock {:?} server {:?}",
            self.protection(),
            self.lock_uses,
            self.lock,
            self.server
        )];
        let often = [
            ("crashes", crashes),
            ("killed visitors", self.budget.killed_visitors),
            ("ages", ages),
            ("lost requests", lost_requests),
            ("lost answers", lost_answers),
            ("reused identifiers", self.budget.reused_identifiers),
            ("failed replacements", self.budget.failed_replacements),
            ("hastes", hastes),
        ];
        words.extend(
            often.iter().filter(|(_, times)| *times > 0).map(|(what, times)| format!("{times} {what}")),
        );
        words.extend(self.visits.iter().map(|visit| format!("{visit:?}")));
        if self.has_client_grant {
            words.push("client grant".to_owned());
        }
        if self.has_workers {
            words.push("workers".to_owned());
        }
        if self.do_others_come_later {
            words.push("takers".to_owned());
        }
        if self.presences != Presences::StartTimes {
            words.push(format!("presences {:?}", self.presences));
        }
        words.join(", ")
    }
}
