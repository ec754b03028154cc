//! The session: the part of the document that a refresh replaces. See "Session" in `docs/design.md`.

use super::{Secret, UnixSeconds, non_empty};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The tokens of one token answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The access token (RFC 6749 section 1.4).
    pub access_token: Secret,
    /// As the server wrote it; `Bearer` if it wrote none.
    #[serde(default = "bearer")]
    pub token_type: String,
    /// The refresh token (RFC 6749 section 1.5), if one was granted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "non_empty")]
    pub refresh_token: Option<Secret>,
    /// When the access token expires, by this machine's clock. `None`: the server did not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub expires_at: Option<UnixSeconds>,
    /// When the request for it was sent; 0 if that is unknown.
    #[serde(default, deserialize_with = "required_seconds")]
    pub obtained_at: UnixSeconds,
    /// The ID token (OpenID Connect Core section 2), if one was granted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "non_empty")]
    pub id_token: Option<Secret>,
    /// The granted scope, if it differs from the requested one or if the server repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// When the refresh token itself expires, by this machine's clock. `None`: the server did not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub refresh_token_expires_at: Option<UnixSeconds>,
    /// The further members of token answers ([`crate::protocol::extra`]), as an object; null if there are none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub extra: Value,
    /// Whether a resource server refused the access token before it expired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub access_token_rejected: bool,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Which token of a session a program needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenKind {
    /// The access token: for a resource server.
    #[default]
    AccessToken,
    /// The ID token: for a program that wants to know who logged in.
    IdToken,
}

impl TokenKind {
    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "access token",
            Self::IdToken => "ID token",
        }
    }
}

/// The type of a token that is not an access token, such as an ID token that was exchanged for another one (RFC 8693
/// section 2.2.1). No resource server accepts it in a header.
const NOT_APPLICABLE: &str = "N_A";

impl Session {
    /// The token of this kind.
    pub fn token(&self, kind: TokenKind) -> Option<&Secret> {
        match kind {
            TokenKind::AccessToken => Some(&self.access_token),
            TokenKind::IdToken => self.id_token.as_ref(),
        }
    }

    /// Whether the token is an access token.
    pub fn is_access_token(&self) -> bool {
        !self.token_type.eq_ignore_ascii_case(NOT_APPLICABLE)
    }
}

fn bearer() -> String {
    "Bearer".to_owned()
}

/// Whole or fractional seconds: other programs write documents too, and some clocks give fractions.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixSeconds>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    match number.as_i64() {
        Some(whole) => Ok(Some(whole)),
        // The cast saturates, which is correct for an absurd instant.
        #[expect(clippy::as_conversions, reason = "saturates; there is no `From` for it")]
        None => Ok(number.as_f64().map(|fraction| fraction as UnixSeconds)),
    }
}

fn required_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixSeconds, D::Error> {
    Ok(seconds(deserializer)?.unwrap_or(0))
}
