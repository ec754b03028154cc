//! Failures: what failed, why, and how to fix it. The one table of exit codes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The exit code of success.
pub const SUCCESS: u8 = 0;

/// What the caller can do next. The number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A defect of onegrant: report it.
    Defect = 1,
    /// Wrong usage or configuration: fix the command line or the configuration.
    Usage = 2,
    /// A login is required: ask a person.
    LoginRequired = 3,
    /// Network, 429, 5xx or the deadline: the session is untouched. Try again.
    Temporary = 4,
    /// The store failed; nothing was overwritten: fix the store.
    Store = 5,
}

impl Kind {
    /// The kind with this exit code. An unknown code is a defect.
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

/// A failure as a person sees it: `onegrant: MESSAGE`, then `hint: HINT`.
///
/// The message says what failed and then why. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// What the caller can do next.
    pub kind: Kind,
    /// `what failed: why`, lower case, without a full stop.
    pub message: String,
    /// The command that fixes the problem, if there is one.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Adds the command that fixes the problem, if one is known.
    pub fn hint_of(self, hint: Option<&str>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Adds the command that fixes the problem.
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

/// A failure that was already reported to the caller, in another way. Only its exit code is left.
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
