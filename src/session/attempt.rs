//! The attempt record: which process spends which refresh token, or how the last attempt ended.
//! See "Attempt record" in `docs/design.md`.

use crate::error::{Failure, Kind};
use crate::grant::{Document, Session, UnixSeconds};
use crate::text::{own_hint, own_text};
use serde::{Deserialize, Serialize};

/// How far in the future a claim of an unknown owner may begin, in seconds. A wrong time zone explains some hours. A clock
/// that was wrong by more than a day could bind other processes for years.
const CLOCKS_APART_SECONDS: i64 = 24 * 60 * 60;

/// Identifies one process among all that ever ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Host name; for people.
    pub host: String,
    /// The kernel's boot identifier; empty if it cannot be read.
    pub boot: String,
    /// The process identifier namespace; empty if it cannot be read.
    pub pid_namespace: String,
    /// Process identifier within that namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot: distinguishes processes with the same identifier.
    pub start_time: u64,
}

/// Whether the process that left a record still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It runs.
    Alive,
    /// It is known to be gone: same boot, same namespace, no such process.
    Gone,
    /// It has another boot, namespace or machine: this process cannot know.
    Unknown,
}

/// How an attempt ended, or that it compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// The server refused the refresh token, and the process compares. It binds no process, and is no verdict yet.
    Looking,
    /// The server could not be reached, or asked for a later request.
    Temporary,
    /// The server refused for another reason than a dead grant.
    Refused,
    /// The request was sent, but no whole answer came: the refresh token may have been spent.
    Unknown,
    /// The grant is dead.
    Rejected,
}

impl AttemptOutcome {
    /// The outcome of an attempt that ends with this failure.
    pub fn of(failure: &Failure) -> Self {
        match failure.kind {
            Kind::Temporary => Self::Temporary,
            _ => Self::Refused,
        }
    }
}

/// The record. Without `outcome` it is open: a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Random; another one for each attempt.
    pub id: String,
    /// The credential digest ([`Document::credential_sha256`]).
    #[serde(rename = "refresh_token_sha256")]
    pub credential_sha256: String,
    /// SHA-256 of the access token of the same session. If the server does not rotate, it distinguishes old records from new ones.
    #[serde(default)]
    pub access_token_sha256: String,
    /// Which process spends it.
    pub by: Owner,
    /// When the attempt began.
    pub at: UnixSeconds,
    /// When the claim stops to bind other processes.
    pub until: UnixSeconds,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixSeconds>,
    /// The exit code, for the processes that waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The message, for the processes that waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The hint, for the processes that waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// An attempt record as it was read from a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its number among the records of the same refresh token; a later claim has a higher one.
    pub number: u64,
    /// Its content.
    pub attempt: Attempt,
    /// Whether its owner still runs.
    pub owner: Presence,
    /// Whether a completed answer waits beside it to be adopted.
    pub has_answer: bool,
}

impl Attempt {
    /// An open attempt: a claim.
    pub fn open(
        id: String,
        credential_sha256: String,
        access_token_sha256: String,
        by: Owner,
        at: UnixSeconds,
        until: UnixSeconds,
    ) -> Self {
        Self {
            id,
            credential_sha256,
            access_token_sha256,
            by,
            at,
            until,
            outcome: None,
            ended_at: None,
            exit_code: None,
            message: None,
            hint: None,
        }
    }

    /// Replaces a record that cannot be read. It concerns no refresh token and never binds.
    pub fn unreadable() -> Self {
        Self::open(String::new(), String::new(), String::new(), Owner::default(), 0, 0)
    }

    /// Whether it has ended, so that its owner does not matter any more.
    pub fn is_over(&self) -> bool {
        !matches!(self.outcome, None | Some(AttemptOutcome::Looking))
    }

    /// Whether the record is about the session of this document. Other records mean nothing.
    pub fn concerns(&self, document: &Document) -> bool {
        let same = |session: &Session| {
            self.access_token_sha256.is_empty() || session.access_token.sha256() == self.access_token_sha256
        };
        document.credential_sha256().as_deref() == Some(&self.credential_sha256)
            && document.session.as_ref().is_some_and(same)
    }

    /// The failure that the processes share that waited for this attempt; `None` if it is open, looking, or rejected.
    pub fn shared_failure(&self) -> Option<Failure> {
        let fallback = match self.outcome? {
            AttemptOutcome::Looking | AttemptOutcome::Rejected => return None,
            AttemptOutcome::Temporary | AttemptOutcome::Unknown => Kind::Temporary,
            AttemptOutcome::Refused => Kind::LoginRequired,
        };
        self.failure(fallback)
    }

    /// The failure that the owner recorded, with its text and exit code.
    pub fn failure(&self, fallback: Kind) -> Option<Failure> {
        Some(Failure {
            kind: self.exit_code.map_or(fallback, Kind::from_code),
            message: own_text(self.message.as_ref()?),
            hint: self.hint.as_deref().map(own_hint),
        })
    }

    /// Reopens the attempt: its refresh token is sent once more.
    pub fn reopen(&mut self) {
        (self.outcome, self.ended_at) = (None, None);
    }

    /// Ends the attempt, with a failure that other processes may share.
    pub fn end(&mut self, outcome: AttemptOutcome, failure: Option<&Failure>, now: UnixSeconds) {
        self.outcome = Some(outcome);
        self.ended_at = Some(now);
        self.exit_code = failure.map(|failure| failure.kind.code());
        self.message = failure.map(|failure| failure.message.clone());
        self.hint = failure.and_then(|failure| failure.hint.clone());
    }
}

impl AttemptRecord {
    /// Whether this claim binds other processes: it is open, its owner is not known to be gone, and `until` has not passed.
    pub fn is_live(&self, now: UnixSeconds) -> bool {
        self.attempt.outcome.is_none() && self.may_run(now)
    }

    /// Whether an answer may still come. An owner past `until` binds no process, but while it runs the grant is not called
    /// dead (I9).
    pub fn may_answer(&self, now: UnixSeconds) -> bool {
        self.attempt.outcome.is_none() && (self.owner == Presence::Alive || self.may_run(now))
    }

    /// Whether its owner is in the comparison loop.
    pub fn is_looking(&self, now: UnixSeconds) -> bool {
        self.attempt.outcome == Some(AttemptOutcome::Looking) && self.may_run(now)
    }

    /// Whether it was begun and never finished.
    pub fn is_abandoned(&self, now: UnixSeconds) -> bool {
        self.attempt.outcome.is_none() && !self.may_run(now)
    }

    fn may_run(&self, now: UnixSeconds) -> bool {
        let ahead = self.attempt.at.saturating_sub(now);
        match self.owner {
            Presence::Gone => false,
            Presence::Alive => now < self.attempt.until,
            Presence::Unknown => now < self.attempt.until && ahead <= CLOCKS_APART_SECONDS,
        }
    }
}
