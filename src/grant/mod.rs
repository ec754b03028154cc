//! What one login obtained: the document that a store keeps for a profile (format version 1), and the secrets in it.
//! Pure: bytes go in and out. The format: see "Document" in `docs/design.md`.

mod client;
mod document;
mod registration;
mod secret;
mod session;

pub use client::{ClientAuthentication, ClientGrant, ClientKey, SubjectToken};
pub use document::{
    Credential, DOCUMENT_LIMIT, Document, Flow, LastRefresh, Login, Moving, Rejected, Unreadable, VERSION,
};
pub use registration::Registration;
pub use secret::Secret;
pub use session::{Session, TokenKind};

use crate::error::{Failure, Kind};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// An instant in seconds since the Unix epoch.
pub type UnixSeconds = i64;

/// Lower-case hexadecimal digits of `bytes`.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The JSON of a value that is stored. A failure is a defect: every value that is stored has a JSON form.
pub fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value)
        .map_err(|error| Failure::new(Kind::Defect, format!("cannot write what is to be stored: {error}")))
}

/// An object with these members. `collect` would bring a sort of its own into the program.
pub fn object(members: impl IntoIterator<Item = (String, Value)>) -> Map<String, Value> {
    let mut object = Map::new();
    object.extend(members);
    object
}

/// Whether `token` is safe in a header and on a terminal: not empty, and only `VSCHAR` (RFC 6749 appendix A.12).
pub fn is_visible_ascii(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

/// An empty string counts as absent: an empty secret is never stored or sent.
fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(Secret::new))
}
