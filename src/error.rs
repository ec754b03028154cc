//! Failures: what failed and why, what mends it, and the one table of exit codes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The exit code of what did not fail.
pub const SUCCESS: u8 = 0;

/// What the caller can do next. The number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A defect of ours: report it.
    Defect = 1,
    /// Wrong usage or configuration: mend the call.
    Usage = 2,
    /// A login is required: ask a person.
    LoginRequired = 3,
    /// Network, 429, 5xx or the deadline: the session is untouched, try again.
    Temporary = 4,
    /// The store failed; nothing was overwritten: mend the store.
    Store = 5,
}

impl Kind {
    /// The kind that ends with this exit code; a code that is not ours is a defect.
    pub fn from_code(code: u8) -> Self {
        match code {
            2 => Self::Usage,
            3 => Self::LoginRequired,
            4 => Self::Temporary,
            5 => Self::Store,
            _ => Self::Defect,
        }
    }

    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Defect => 1,
            Self::Usage => 2,
            Self::LoginRequired => 3,
            Self::Temporary => 4,
            Self::Store => 5,
        }
    }
}

/// A failure as a person meets it: `onegrant: MESSAGE`, then `hint: HINT`.
///
/// The message names what failed and why, in that order, and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// What the caller can do next.
    pub kind: Kind,
    /// `what failed: why`, lower case, without a full stop.
    pub message: String,
    /// The command that mends it, where there is one.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Adds the command that mends it, where one is known.
    pub fn hint_of(self, hint: Option<&str>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Adds the command that mends it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A failure that the caller was told in another protocol's way: nothing is left to say, and this is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyReported(pub u8);

impl fmt::Display for AlreadyReported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "exit code {}", self.0)
    }
}

impl std::error::Error for AlreadyReported {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_exit_codes_agree() {
        for code in 1..=5 {
            assert_eq!(Kind::from_code(code).code(), code);
        }
    }
}
