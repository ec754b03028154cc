//! What the machine is told, and what it asks for.

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
    /// Time since this process began; never jumps.
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
    /// Whether the session is the very one of `other`.
    pub fn has_session_of(&self, other: &Self) -> bool {
        let tokens = |stored: &Self| {
            stored.document.session.as_ref().map(|session| {
                (session.access_token.clone(), session.refresh_token.clone(), session.obtained_at)
            })
        };
        tokens(self) == tokens(other)
    }
}

/// The attempt records on one refresh token, and the document read **after** them. That order is what makes the
/// comparison loop sound: a winner ends its record only after its commit, so who sees no open record reads its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The records that concern the refresh token that was asked about.
    pub attempts: Vec<AttemptRecord>,
    /// The document; none where there is none.
    pub stored: Option<Stored>,
}

/// How locks are used (`ONEGRANT_LOCK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LockUse {
    /// The best that can be had.
    #[default]
    Auto,
    /// The same, and never less than claimed.
    Require,
    /// No lock call at all: the exclusive attempt record alone.
    Claim,
    /// Neither: claims are left and read, but bind nobody.
    Off,
}

/// What stands between two spenders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// An advisory lock, and the attempt record behind it.
    #[default]
    Locked,
    /// The exclusive attempt record.
    Claimed,
    /// The comparison loop alone.
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
}

/// How to ask for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    /// Take it if it is free.
    Try,
    /// Wait until the holder leaves, together with all others, and take nothing.
    AwaitRelease,
    /// Queue for it.
    Queue,
}

/// What became of a lock call. The guard itself stays with the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockResult {
    /// It is held; after [`LockMode::AwaitRelease`]: it was free for a moment.
    Granted,
    /// Somebody else holds it.
    Busy,
    /// This place cannot lock, and why.
    Refused(String),
    /// The call did not return in time.
    Unanswered,
    /// The store failed.
    Failed(Failure),
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimResult {
    /// It stands, under this number, and the room for the answer is reserved.
    Mine(u64),
    /// Somebody else took the number.
    Taken,
    /// The store failed; nothing was spent.
    Failed(Failure),
}

/// What became of a conditional replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplaceResult {
    /// It is durable.
    Done,
    /// The store held something else, and what.
    Lost(Option<Box<Stored>>),
    /// It may have happened.
    Unknown,
    /// It did not happen. `kept` is where the completed document waits to be adopted.
    Failed {
        /// What failed and why.
        failure: Failure,
        /// The completed temporary file, where it could be written.
        kept: Option<String>,
    },
}

/// Who does the exchange with the server, from the claim to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// This process.
    #[default]
    InPlace,
    /// A worker of this process, which lives on where this one is killed.
    Caller,
    /// This process, for its caller, who waits.
    Worker(RefreshInput),
}

/// What a worker has to know to stand where its caller stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshInput {
    /// What is wanted.
    pub demand: Demand,
    /// What stands between this process and other spenders; the lock is the worker's too.
    pub level: Level,
    /// The access token that the caller read first.
    pub first_seen: Option<Secret>,
    /// The attempts that had failed before the caller came.
    pub failed_before: Vec<String>,
}

impl RefreshInput {
    /// What a process knows that has seen nothing yet.
    pub fn new(demand: Demand, lock_use: LockUse) -> Self {
        let level = match lock_use {
            LockUse::Auto | LockUse::Require => Level::Locked,
            LockUse::Claim => Level::Claimed,
            LockUse::Off => Level::Compared,
        };
        Self { demand, level, ..Self::default() }
    }
}

/// What became of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a process holds one")]
pub enum DelegateResult {
    /// The worker's end is the caller's.
    Ended(TokenResult),
    /// None could be started, or it died.
    NoWorker,
    /// It had not ended by the deadline.
    Unanswered,
}

/// A token to hand out, and what a person should know beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The session that it belongs to.
    pub session: Session,
    /// Warnings for stderr.
    pub warnings: Vec<Failure>,
    /// Whether this process spent the refresh token for it.
    pub refreshed: bool,
}

/// How it all ends.
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
    /// Wait: nothing but time will help.
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
        /// Whether exactly this number will do; else the next free one.
        exclusive: bool,
        /// What the store held when the claim was decided.
        expected: Revision,
        /// The numbers of records on this refresh token that nobody needs any more.
        outdated: Vec<u64>,
    },
    /// Rewrite the own record.
    Mark {
        /// What it says now.
        attempt: Attempt,
        /// Its number.
        number: u64,
    },
    /// Remove the own record: nothing was spent, or nothing is left to tell.
    Withdraw {
        /// SHA-256 of the refresh token.
        credential_sha256: String,
        /// The record's number.
        number: u64,
    },
    /// Ask for the next access token.
    Spend {
        /// Whose endpoint and client.
        document: Document,
        /// What to ask with.
        credential: Credential,
        /// How long the whole exchange may take.
        timeout: Duration,
    },
    /// Replace the document.
    Replace {
        /// What the store must still hold.
        expected: Revision,
        /// What it shall hold.
        document: Document,
        /// The own record, whose reserved room is used; with a success it ends, and those before it.
        attempt: (String, u64),
    },
    /// Revoke the session's refresh token, which nobody will use (RFC 7009).
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
    /// Answers [`Step::Adopt`]: false where somebody else was first.
    Adopted(Result<bool, Failure>),
    /// Answers [`Step::Delegate`].
    Delegated(DelegateResult),
    /// Answers [`Step::Claim`].
    Claimed(ClaimResult),
    /// Answers [`Step::Mark`], [`Step::Withdraw`] and [`Step::Revoke`]: whether it went well changes nothing.
    Noted,
    /// Answers [`Step::Spend`].
    Answered(Answer),
    /// Answers [`Step::Replace`].
    Replaced(ReplaceResult),
}
