//! Cargo's credential provider protocol, version 1: a greeting, then a line for each request until stdin ends.

use crate::adapters::formats::bearer;
use crate::error::Failure;
use crate::grant::Session;
use crate::session::expiry;
use serde::Deserialize;
use serde_json::json;

/// What is said before anything is asked: the versions that are spoken.
pub const GREETING: &str = "{\"v\":[1]}";

/// What cargo wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// A token for the registry with this index.
    Get {
        /// The URL of the index, without the kind of index before it.
        url: String,
        /// What stands behind the provider's name in cargo's configuration.
        arguments: Vec<String>,
    },
    /// A login, a logout, or what a later version may bring.
    Other,
}

/// Reads one request; none where it is not of this protocol.
pub fn asked(line: &str) -> Option<Asked> {
    #[derive(Deserialize)]
    struct Request {
        v: u32,
        kind: String,
        registry: Registry,
        #[serde(default)]
        args: Vec<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Registry {
        index_url: String,
    }
    let request: Request = serde_json::from_str(line).ok().filter(|request: &Request| request.v == 1)?;
    if request.kind != "get" {
        return Some(Asked::Other);
    }
    let index = request.registry.index_url;
    let url = ["sparse+", "registry+"].iter().find_map(|kind| index.strip_prefix(kind)).unwrap_or(&index);
    Some(Asked::Get { url: url.to_owned(), arguments: request.args })
}

/// The token, which is the whole value of the header, and how long cargo may keep it. It is the same for every operation.
pub fn answer(session: &Session) -> Result<String, Failure> {
    let mut answer = json!({
        "kind": "get", "token": bearer(session)?, "cache": "session", "operation_independent": true,
    });
    if let (Some(end), Some(answer)) = (expiry(session), answer.as_object_mut()) {
        answer.insert("cache".to_owned(), "expires".into());
        answer.insert("expiration".to_owned(), end.into());
    }
    Ok(json!({ "Ok": answer }).to_string())
}

/// Why there is no token.
#[derive(Debug)]
pub enum Refusal {
    /// Cargo asks the next provider.
    UrlNotSupported,
    /// Cargo asks the next provider.
    OperationNotSupported,
    /// Cargo stops, and shows it.
    Other(Failure),
}

/// A refusal as cargo reads it.
pub fn refuse(refusal: &Refusal) -> String {
    let error = match refusal {
        Refusal::UrlNotSupported => json!({ "kind": "url-not-supported" }),
        Refusal::OperationNotSupported => json!({ "kind": "operation-not-supported" }),
        Refusal::Other(failure) => {
            let hint = failure.hint.iter().map(|hint| format!("hint: {hint}"));
            json!({ "kind": "other", "message": failure.message, "caused-by": hint.collect::<Vec<_>>() })
        }
    };
    json!({ "Err": error }).to_string()
}
