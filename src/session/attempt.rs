//! The attempt record: who spends which refresh token, or how the last try ended.

use crate::error::{Failure, Kind};
use crate::grant::{Document, Session, UnixSeconds};
use crate::text::{own_hint, own_text};
use serde::{Deserialize, Serialize};

/// How far ahead a claim may lie whose owner cannot be seen, in seconds. A wrong time zone makes some hours; a claim
/// from beyond a day was made by a clock that has been set right since, and would bind everybody for years.
const CLOCKS_APART_SECONDS: i64 = 24 * 60 * 60;

/// A process, told apart from every other one that ever ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Host name; for people.
    pub host: String,
    /// The kernel's boot identifier; empty where it cannot be read.
    pub boot: String,
    /// The process identifier namespace; empty where it cannot be read.
    pub pid_namespace: String,
    /// Process identifier within that namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot: tells a reused process identifier.
    pub start_time: u64,
}

/// Whether the process that left a record still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It runs.
    Alive,
    /// It is known to be gone: same boot, same namespace, no such process.
    Gone,
    /// Another boot, another namespace, another machine: nobody can tell from here.
    Unknown,
}

/// How a try ended, or how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// The server refused the refresh token; its owner compares. Claims nothing, and is no verdict yet.
    Looking,
    /// The server could not be asked, or asked to come again.
    Temporary,
    /// The server refused for another reason than a dead grant.
    Refused,
    /// Sent, but no whole answer: the refresh token may have been spent.
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
    /// Random, one for each try.
    pub id: String,
    /// Which refresh token is spent, or what stands for it ([`Document::credential_sha256`]).
    #[serde(rename = "refresh_token_sha256")]
    pub credential_sha256: String,
    /// Which access token stood beside it: where a server does not rotate, this tells an old record from a new one.
    #[serde(default)]
    pub access_token_sha256: String,
    /// Who spends it.
    pub by: Owner,
    /// Since when.
    pub at: UnixSeconds,
    /// Until when the claim binds others.
    pub until: UnixSeconds,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixSeconds>,
    /// With which exit code, so that all who waited for it end alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// With which text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// With which hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A record as it was met in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its number among the records of the same refresh token; a later claim has a higher one.
    pub number: u64,
    /// What it says.
    pub attempt: Attempt,
    /// Whether its owner still runs.
    pub owner: Presence,
    /// Whether a completed answer lies beside it, ready to be adopted.
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

    /// What stands for a record whose bytes say nothing: about no refresh token, by nobody, never live.
    pub fn unreadable() -> Self {
        Self::open(String::new(), String::new(), String::new(), Owner::default(), 0, 0)
    }

    /// Whether its end is a fact, and its owner matters no more.
    pub fn is_over(&self) -> bool {
        !matches!(self.outcome, None | Some(AttemptOutcome::Looking))
    }

    /// Whether the record is about the session of this document. A record for another one means nothing.
    pub fn concerns(&self, document: &Document) -> bool {
        let same = |session: &Session| {
            self.access_token_sha256.is_empty() || session.access_token.sha256() == self.access_token_sha256
        };
        document.credential_sha256().as_deref() == Some(&self.credential_sha256)
            && document.session.as_ref().is_some_and(same)
    }

    /// The failure that all share who waited for this attempt; none while it is open, looking, or rejected.
    pub fn shared_failure(&self) -> Option<Failure> {
        let fallback = match self.outcome? {
            AttemptOutcome::Looking | AttemptOutcome::Rejected => return None,
            AttemptOutcome::Temporary | AttemptOutcome::Unknown => Kind::Temporary,
            AttemptOutcome::Refused => Kind::LoginRequired,
        };
        self.failure(fallback)
    }

    /// The text and exit code that the owner left.
    pub fn failure(&self, fallback: Kind) -> Option<Failure> {
        Some(Failure {
            kind: self.exit_code.map_or(fallback, Kind::from_code),
            message: own_text(self.message.as_ref()?),
            hint: self.hint.as_deref().map(own_hint),
        })
    }

    /// Opens the attempt again: its refresh token is about to be sent once more.
    pub fn reopen(&mut self) {
        (self.outcome, self.ended_at) = (None, None);
    }

    /// Ends the attempt with a failure that others may share.
    pub fn end(&mut self, outcome: AttemptOutcome, failure: Option<&Failure>, now: UnixSeconds) {
        self.outcome = Some(outcome);
        self.ended_at = Some(now);
        self.exit_code = failure.map(|failure| failure.kind.code());
        self.message = failure.map(|failure| failure.message.clone());
        self.hint = failure.and_then(|failure| failure.hint.clone());
    }
}

impl AttemptRecord {
    /// Whether somebody is at it and must be waited for: open, its owner not known to be gone, and not past `until`.
    pub fn is_live(&self, now: UnixSeconds) -> bool {
        self.attempt.outcome.is_none() && self.may_run(now)
    }

    /// Whether an answer may still come of it: a paused owner who is past `until` binds nobody, but while he is seen
    /// alive, nobody should call the grant dead.
    pub fn may_answer(&self, now: UnixSeconds) -> bool {
        self.attempt.outcome.is_none() && (self.owner == Presence::Alive || self.may_run(now))
    }

    /// Whether a loser is comparing right now.
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
