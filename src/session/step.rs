//! The interface of the machine: the steps that it asks for, and the events that answer them.

use super::attempt::{Attempt, AttemptRecord};
use super::freshness::Demand;
use crate::error::Failure;
use crate::grant::{Credential, Document, Secret, Session, UnixSeconds};
use crate::protocol::token::Answer;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock; may jump.
    pub wall: UnixSeconds,
    /// Time since this process started. It never jumps.
    pub elapsed: Duration,
}

/// A state of the stored document that a replacement can be conditional on. Opaque: the store made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision(pub String);

/// A document as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it says.
    pub document: Document,
    /// Which state of the store it was.
    pub revision: Revision,
}

impl Stored {
    /// Whether both hold the same session.
    pub fn has_session_of(&self, other: &Self) -> bool {
        let tokens = |stored: &Self| {
            stored.document.session.as_ref().map(|session| {
                (session.access_token.clone(), session.refresh_token.clone(), session.obtained_at)
            })
        };
        tokens(self) == tokens(other)
    }
}

/// The attempt records on one refresh token, and the document, read **after** the records. The comparison loop relies on
/// this order: a process ends its record only after its commit, so a reader that finds no open record reads the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The records on the refresh token of the look.
    pub attempts: Vec<AttemptRecord>,
    /// The document; `None` if there is none.
    pub stored: Option<Stored>,
}

/// How locks are used (`ONEGRANT_LOCK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LockUse {
    /// The best level that is available.
    #[default]
    Auto,
    /// The same, but at least claimed.
    Require,
    /// No lock call: only the exclusive attempt record.
    Claim,
    /// Neither: claims are written and read, but bind no process.
    Off,
}

/// How concurrent refreshes exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// By an advisory lock and the attempt record.
    #[default]
    Locked,
    /// By the exclusive attempt record.
    Claimed,
    /// Not at all: the comparison loop keeps newer sessions.
    Compared,
}

impl Level {
    /// The word for it in messages and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Claimed => "claimed",
            Self::Compared => "compared",
        }
    }

    /// Whether a look must find out which owners still run. At the level locked a process with neither the lock nor a claim
    /// (`is_outside`) takes over no claim. But it ends as an attempt that `has_ended` did, unless a live claim is beside it.
    pub fn must_know_owners(self, is_outside: bool, has_ended: bool) -> bool {
        self != Self::Locked || !is_outside || has_ended
    }
}

/// How to ask for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    /// Take it if it is free.
    Try,
    /// Wait together with other processes until the holder releases it, and do not take it.
    AwaitRelease,
    /// Queue for it.
    Queue,
}

/// The result of a lock call. The driver keeps the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockResult {
    /// This process holds it. After [`LockMode::AwaitRelease`]: it was released.
    Granted,
    /// Another process holds it.
    Busy,
    /// The store cannot lock; the reason.
    Refused(String),
    /// The call did not return in time.
    Unanswered,
    /// The store failed.
    Failed(Failure),
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimResult {
    /// The record exists with this number, and the room for the answer is reserved.
    Mine(u64),
    /// Another process took the number.
    Taken,
    /// The store failed; nothing was spent.
    Failed(Failure),
}

/// The result of a conditional replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplaceResult {
    /// It is durable.
    Done,
    /// The store held another document, or none.
    Lost(Option<Box<Stored>>),
    /// It may have happened.
    Unknown,
    /// It did not happen, or that is not known and the completed document waits to be adopted.
    Failed {
        /// What failed and why.
        failure: Failure,
        /// The file that waits, if it could be written.
        kept: Option<String>,
    },
}

/// Which process does the exchange with the server, from the claim to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// This process.
    #[default]
    InPlace,
    /// A worker of this process. It continues if this process is killed.
    Caller,
    /// This process, for its caller, which waits.
    Worker(RefreshInput),
}

/// What one refresh starts from. A caller hands it to its worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshInput {
    /// What is wanted.
    pub demand: Demand,
    /// How concurrent refreshes exclude each other. At the level locked the worker gets the lock.
    pub level: Level,
    /// The access token that the caller read first.
    pub first_seen: Option<Secret>,
    /// The attempts that failed before the caller started. Their failures are not shared.
    pub failed_before: Vec<String>,
}

impl RefreshInput {
    /// The input of a process that has read nothing yet.
    pub fn new(demand: Demand, lock_use: LockUse) -> Self {
        let level = match lock_use {
            LockUse::Auto | LockUse::Require => Level::Locked,
            LockUse::Claim => Level::Claimed,
            LockUse::Off => Level::Compared,
        };
        Self { demand, level, ..Self::default() }
    }
}

/// The result of a delegated refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a process holds one")]
pub enum DelegateResult {
    /// The worker ended with this result, and so does the caller.
    Ended(TokenResult),
    /// No worker could be started, or it died.
    NoWorker,
    /// The worker had not ended by the deadline.
    Unanswered,
}

/// A token to hand out, and its warnings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The session that it belongs to.
    pub session: Session,
    /// Warnings for stderr.
    pub warnings: Vec<Failure>,
    /// Whether this process spent the refresh token for it.
    pub refreshed: bool,
}

/// The result of a refresh.
pub type TokenResult = Result<Token, Failure>;

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the document.
    Read,
    /// Read the attempt records on this refresh token, then the document.
    Look {
        /// SHA-256 of the refresh token.
        credential_sha256: String,
    },
    /// Ask for the lock, for at most that long.
    Lock(LockMode, Duration),
    /// Wait.
    Pause(Duration),
    /// Make the completed answer beside that record the document.
    Adopt {
        /// SHA-256 of the refresh token that it follows.
        credential_sha256: String,
        /// The record's number.
        number: u64,
        /// What the store must still hold.
        expected: Revision,
    },
    /// Have a worker do the rest.
    Delegate(RefreshInput),
    /// Create the attempt record, exclusively, and reserve room for the answer.
    Claim {
        /// The record.
        attempt: Attempt,
        /// Its number.
        number: u64,
        /// Whether it must be this number. Otherwise the next free number will do.
        exclusive: bool,
        /// The revision that the claim was decided on.
        expected: Revision,
        /// The numbers of the records on this refresh token that no process needs any more.
        outdated: Vec<u64>,
    },
    /// Rewrite the own record.
    Mark {
        /// What it says now.
        attempt: Attempt,
        /// Its number.
        number: u64,
    },
    /// Remove the own record: nothing was spent, or there is nothing to share.
    Withdraw {
        /// SHA-256 of the refresh token.
        credential_sha256: String,
        /// The record's number.
        number: u64,
    },
    /// Ask for the next access token.
    Spend {
        /// The document with the endpoint and the client.
        document: Document,
        /// What to send.
        credential: Credential,
        /// How long the whole exchange may take.
        timeout: Duration,
    },
    /// Replace the document.
    Replace {
        /// What the store must still hold.
        expected: Revision,
        /// The new document.
        document: Document,
        /// The own record. Its reserved room is used. A success removes it and the records before it.
        attempt: (String, u64),
    },
    /// Revoke the refresh token of the session, which no process will use (RFC 7009).
    Revoke {
        /// The session, its endpoint and its client.
        document: Document,
    },
    /// Stop.
    Finish(TokenResult),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Answers [`Step::Read`].
    Read(Result<Option<Stored>, Failure>),
    /// Answers [`Step::Look`].
    Looked(Result<View, Failure>),
    /// Answers [`Step::Lock`].
    LockAnswered(LockResult),
    /// Answers [`Step::Pause`].
    Paused,
    /// Answers [`Step::Adopt`]: false if another process was faster.
    Adopted(Result<bool, Failure>),
    /// Answers [`Step::Delegate`].
    Delegated(DelegateResult),
    /// Answers [`Step::Claim`].
    Claimed(ClaimResult),
    /// Answers [`Step::Mark`], [`Step::Withdraw`] and [`Step::Revoke`], whether or not they succeeded.
    Noted,
    /// Answers [`Step::Spend`].
    Answered(Answer),
    /// Answers [`Step::Replace`].
    Replaced(ReplaceResult),
}
