//! What a search is given: the processes and commands that take part, the store, the lock, the server, and how often each
//! mishap may happen.

use crate::grant::TokenKind;
use crate::session::{LockUse, Unwanted};

/// How long a suspension of all processes takes, in seconds. It outlasts the claim of a process with the deadline
/// [`SHORT_DEADLINE`], but not the claim of a process with the deadline [`LONG_DEADLINE`].
pub(super) const SUSPENSION: u64 = 15;
pub(super) const SHORT_DEADLINE: u64 = 1;
pub(super) const LONG_DEADLINE: u64 = 20;

/// What the authorization server does about a refresh token that was spent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// It refuses it.
    Rejects,
    /// As [`Server::Rejects`]. In addition it refuses the first refresh token once before it accepts it.
    RefusesOnce,
    /// It refuses it and ends the whole grant (RFC 9700 section 4.14.2).
    EndsTheFamily,
    /// It has a grace period: it answers the last one once more as before.
    Grace,
    /// It does not rotate refresh tokens.
    DoesNotRotate,
    /// It has revoked the grant before the search begins.
    HasRevoked,
    /// It answers every request with status 503.
    Down,
    /// It answers every request with status 503 and a `Retry-After` of one second.
    AsksToComeAgain,
}

/// Which token the processes demand. The stored ID token has expired when the search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demanded {
    AccessToken,
    /// The ID token, and each refresh brings one.
    IdToken,
    /// The ID token, and no refresh brings one (OpenID Connect Core section 12.2).
    IdTokenThatNeverComes,
}

impl Demanded {
    pub(super) fn kind(self) -> TokenKind {
        match self {
            Self::AccessToken => TokenKind::AccessToken,
            Self::IdToken | Self::IdTokenThatNeverComes => TokenKind::IdToken,
        }
    }
}

/// What the advisory lock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Excludes,
    /// It is granted to every process that asks.
    GrantsToAll,
    Refuses,
}

/// What a process can find out about the owner of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presences {
    /// Whether it runs, by process identifier and start time. A reused identifier does not mislead.
    StartTimes,
    /// Whether a process with its identifier runs. The owner of a reused identifier seems to run for ever.
    Identifiers,
    /// Nothing: the owner is on another machine.
    Unknown,
}

/// A command that changes the grant and is no refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Login,
    Logout,
    /// A logout in the store that a migration goes to.
    LogoutAtTarget,
    /// A migration to another store.
    Migrate,
}

/// One run of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommandRun {
    pub command: Command,
    /// Whether its deadline lets it wait until the claims of other processes end.
    pub waits_for_claims: bool,
}

/// How often each mishap may happen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// A process is killed.
    pub crashes: u8,
    /// A command is killed.
    pub killed_commands: u8,
    /// All processes are suspended for [`SUSPENSION`].
    pub suspensions: u8,
    /// A request is lost before the server sees it.
    pub lost_requests: u8,
    /// The server's answer is lost, after it did what it did.
    pub lost_answers: u8,
    /// Time passes although a process could go on.
    pub delays: u8,
    /// Another program gets the identifier of a process that was killed.
    pub reused_identifiers: u8,
    /// A replacement fails after the complete answer lies beside the document.
    pub failed_replacements: u8,
    /// A store that swaps does not answer a replacement, which it made or did not make.
    pub unanswered_replacements: u8,
}

/// How concurrent refreshes exclude each other: the weakest level among the processes.
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
    /// Whether each process delegates the exchange with the server to a worker.
    pub has_workers: bool,
    /// Whether the other processes start only after the first process ended, was killed, or was suspended.
    pub others_start_late: bool,
    pub commands: Vec<CommandRun>,
    pub demanded: Demanded,
    pub unwanted: Unwanted,
    /// Whether the grant belongs to the client itself (client credentials), without a refresh token.
    pub has_client_grant: bool,
    pub server: Server,
    pub lock: Lock,
    /// Whether the store compares and replaces in one step, as etcd and Kubernetes do. Otherwise it is the file store.
    pub swaps: bool,
    pub presences: Presences,
    /// How long the stored access token lasts, in seconds.
    pub left: i64,
    /// How long a new access token lasts, in seconds.
    pub lifetime: u64,
    pub budget: Budget,
}

impl Scenario {
    pub(super) fn of(lock_uses: &[LockUse], server: Server) -> Self {
        Self {
            lock_uses: lock_uses.to_vec(),
            deadlines: vec![30; lock_uses.len()],
            has_workers: false,
            others_start_late: false,
            commands: Vec::new(),
            demanded: Demanded::AccessToken,
            unwanted: Unwanted::None,
            has_client_grant: false,
            server,
            lock: Lock::Excludes,
            swaps: false,
            presences: Presences::StartTimes,
            left: 0,
            lifetime: 3600,
            budget: Budget { delays: 4, ..Budget::default() },
        }
    }

    /// With another budget.
    pub(super) fn with(mut self, spend: impl Fn(&mut Budget)) -> Self {
        spend(&mut self.budget);
        self
    }

    /// With a first process that can run past the end of its claim, and others with a longer deadline.
    pub(super) fn with_one_short_deadline(mut self) -> Self {
        self.deadlines = vec![LONG_DEADLINE; self.lock_uses.len()];
        self.deadlines[0] = SHORT_DEADLINE;
        self
    }

    pub(super) fn with_command(mut self, command: Command, waits_for_claims: bool) -> Self {
        self.commands.push(CommandRun { command, waits_for_claims });
        self
    }

    pub(super) fn with_workers(self) -> Self {
        Self { has_workers: true, ..self }
    }

    /// With a grant of the client itself. No answer spends its credential.
    pub(super) fn with_a_client_grant(self) -> Self {
        Self { has_client_grant: true, ..self }
    }

    /// With processes that demand the ID token, while the access token works.
    pub(super) fn with_a_demand_for(self, demanded: Demanded) -> Self {
        Self { demanded, left: 1800, ..self }
    }

    /// With processes that start only after a mishap of the first process.
    pub(super) fn with_late_starters(self) -> Self {
        Self { others_start_late: true, ..self }
    }

    /// In a store that compares and swaps. It has no locks.
    pub(super) fn where_the_store_swaps(self) -> Self {
        Self { swaps: true, lock: Lock::Refuses, ..self }
    }

    pub(super) fn where_presence_is(self, presences: Presences) -> Self {
        Self { presences, ..self }
    }

    pub(super) fn protection(&self) -> Protection {
        let each = self.lock_uses.iter().map(|lock_use| match (lock_use, self.lock) {
            (LockUse::Off, _) => Protection::Compared,
            (LockUse::Claim, _) | (_, Lock::GrantsToAll | Lock::Refuses) => Protection::Claimed,
            (LockUse::Auto | LockUse::Require, Lock::Excludes) => Protection::Locked,
        });
        each.min().unwrap()
    }

    /// A short description for the output.
    pub(super) fn title(&self) -> String {
        let Budget { crashes, suspensions, lost_requests, lost_answers, delays, .. } = self.budget;
        let mut words = vec![format!(
            "{:?} {:?} lock {:?} server {:?}",
            self.protection(),
            self.lock_uses,
            self.lock,
            self.server
        )];
        let often = [
            ("crashes", crashes),
            ("killed commands", self.budget.killed_commands),
            ("suspensions", suspensions),
            ("lost requests", lost_requests),
            ("lost answers", lost_answers),
            ("reused identifiers", self.budget.reused_identifiers),
            ("failed replacements", self.budget.failed_replacements),
            ("unanswered replacements", self.budget.unanswered_replacements),
            ("delays", delays),
        ];
        words.extend(
            often.iter().filter(|(_, times)| *times > 0).map(|(what, times)| format!("{times} {what}")),
        );
        words.extend(self.commands.iter().map(|run| format!("{run:?}")));
        if self.swaps {
            words.push("swaps".to_owned());
        }
        if self.has_client_grant {
            words.push("client grant".to_owned());
        }
        if self.demanded != Demanded::AccessToken {
            words.push(format!("{:?}", self.demanded));
        }
        if self.has_workers {
            words.push("workers".to_owned());
        }
        if self.others_start_late {
            words.push("late starters".to_owned());
        }
        if self.presences != Presences::StartTimes {
            words.push(format!("presences {:?}", self.presences));
        }
        words.join(", ")
    }
}
