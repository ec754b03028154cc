//! Cargo's credential provider protocol, version 1: a greeting, then one line for each request until the end of stdin.

use crate::adapters::formats::bearer;
use crate::error::Failure;
use crate::grant::Session;
use crate::session::expiry;
use serde::Deserialize;
use serde_json::json;

/// The greeting: the versions of the protocol that onegrant supports.
pub const GREETING: &str = "{\"v\":[1]}";

/// A request of cargo.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// A token for the registry with this index.
    Get {
        /// The URL of the index, without the kind of index before it.
        url: String,
        /// The arguments after the provider's name in cargo's configuration.
        arguments: Vec<String>,
    },
    /// A login, a logout, or an operation of a later version.
    Other,
}

/// Parses one request. `None`: it is not of this protocol.
pub fn parse_request(line: &str) -> Option<Request> {
    #[derive(Deserialize)]
    struct Line {
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
    let request: Line = serde_json::from_str(line).ok().filter(|request: &Line| request.v == 1)?;
    if request.kind != "get" {
        return Some(Request::Other);
    }
    let index = request.registry.index_url;
    let url = ["sparse+", "registry+"].iter().find_map(|kind| index.strip_prefix(kind)).unwrap_or(&index);
    Some(Request::Get { url: url.to_owned(), arguments: request.args })
}

/// The token, which is the whole value of the header, and how long cargo may cache it. Every operation uses the same
/// token.
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
    /// The profile does not name the registry. Cargo asks the next provider.
    UrlNotSupported,
    /// Not a request for a token. Cargo asks the next provider.
    OperationNotSupported,
    /// Another failure. Cargo stops, and shows it.
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
