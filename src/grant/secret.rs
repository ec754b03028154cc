//! Secrets: tokens, client secrets, keys.

use super::hexadecimal;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// A secret text. `Debug` shows a placeholder, and dropping it wipes the memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes ownership of the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Check every caller: here a secret can leave the program.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Hexadecimal SHA-256 of the text, for records and comparisons. Not reversible for a random token.
    pub fn sha256(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.0.as_bytes());
        hexadecimal(digest.as_ref())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
