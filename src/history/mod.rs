//! The history of a profile: what happened to its grant and which process did it. It answers "why was I logged out?".

mod file;
mod observer;

pub use file::{ENTRIES, SUFFIX, append, read};
pub use observer::{Observer, digits_of};

use crate::grant::UnixSeconds;
use crate::text::{date, own_text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum HistoryEvent {
    /// A login was stored.
    Login,
    /// A refreshed session was stored.
    #[default]
    Refresh,
    /// The answer that an interrupted process left was stored.
    Adopted,
    /// The server answered `invalid_grant` or another word for a dead refresh token.
    Rejected,
    /// The server refused for another reason.
    Refused,
    /// The session was cleared.
    Cleared,
    /// The refresh token was sent, and no whole answer came.
    LostAnswer,
    /// The server answered, and the new session could not be stored.
    NotStored,
    /// The grant was moved to another store, or came from one.
    Moved,
    /// A logout.
    Logout,
    /// The command of `ONEGRANT_ON_ROTATE` did not succeed.
    NotDelivered,
    /// An event that a later version of onegrant wrote.
    Other(String),
}

impl HistoryEvent {
    /// All events of this version, as they are written.
    const NAMES: [(Self, &str); 11] = [
        (Self::Login, "login"),
        (Self::Refresh, "refresh"),
        (Self::Adopted, "adopted"),
        (Self::Rejected, "rejected"),
        (Self::Refused, "refused"),
        (Self::Cleared, "cleared"),
        (Self::LostAnswer, "lost answer"),
        (Self::NotStored, "not stored"),
        (Self::Moved, "moved"),
        (Self::Logout, "logout"),
        (Self::NotDelivered, "not delivered"),
    ];

    fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => Self::NAMES.iter().find(|(event, _)| event == known).map_or("", |(_, name)| name),
        }
    }
}

impl From<String> for HistoryEvent {
    fn from(name: String) -> Self {
        let known = Self::NAMES.into_iter().find(|(_, known)| *known == name);
        known.map_or(Self::Other(name), |(event, _)| event)
    }
}

impl From<HistoryEvent> for String {
    fn from(event: HistoryEvent) -> Self {
        event.name().to_owned()
    }
}

impl fmt::Display for HistoryEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A process that asked through a broker, as far as its socket shows: the members `pid`, `user` and `program`. One that is not
/// known is null. Through TCP only the user is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asker(Value);

impl Asker {
    /// The process, its user, and the program that it does it for.
    pub fn new(pid: Option<u32>, user: Option<u32>, program: Option<String>) -> Self {
        Self(json!({ "pid": pid, "user": user, "program": program }))
    }

    /// For people: `make (process 4711 of user 1000)`.
    pub fn words(&self) -> String {
        let Self(members) = self;
        let program = members.get("program").and_then(Value::as_str).unwrap_or("a program");
        let number = |name| members.get(name).and_then(Value::as_u64);
        let process = number("pid").map_or("a process".to_owned(), |pid| format!("process {pid}"));
        let user = number("user").map(|user| format!(" of user {user}")).unwrap_or_default();
        format!("{program} ({process}{user})")
    }
}

/// One entry. No member is a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was written.
    pub at: UnixSeconds,
    /// What happened.
    pub event: HistoryEvent,
    /// How it ended, in words.
    pub outcome: String,
    /// The process that did it.
    pub pid: u32,
    /// The program that asked for it.
    #[serde(default)]
    pub program: Option<String>,
    /// The process that asked through a broker, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<Asker>,
    /// The host on which the process ran.
    pub host: String,
    /// How concurrent refreshes excluded each other.
    #[serde(default)]
    pub level: Option<String>,
    /// The refresh token before: the first digits of its SHA-256.
    #[serde(default)]
    pub refresh_token_sha256: Option<String>,
    /// The refresh token after: the first digits of its SHA-256.
    #[serde(default)]
    pub new_refresh_token_sha256: Option<String>,
}

impl HistoryEntry {
    /// One line for people.
    pub fn line(&self) -> String {
        let Self { event, outcome, pid, host, .. } = self;
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let program = match (&self.asker, &self.program) {
            (Some(asker), _) => format!(" for {} through a broker", asker.words()),
            (None, Some(program)) => format!(" for {program}"),
            (None, None) => String::new(),
        };
        let token = match (&self.refresh_token_sha256, &self.new_refresh_token_sha256) {
            (None, None) => String::new(),
            (before, after) if before == after || after.is_none() => {
                format!(", refresh token {}", or_dash(before))
            }
            (None, after) => format!(", refresh token {}", or_dash(after)),
            (before, after) => format!(", refresh token {} to {}", or_dash(before), or_dash(after)),
        };
        let level = self.level.as_ref().map(|level| format!(", {level}")).unwrap_or_default();
        let date = date(self.at);
        let text = format!("{event}: {outcome} (process {pid}{program} on {host}{level}{token})");
        format!("{date}  {}", own_text(&text))
    }
}
