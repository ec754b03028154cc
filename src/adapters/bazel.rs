//! EngFlow's credential helper specification, which Bazel follows: `HELPER get`, one JSON object in and one out.

use super::unsupported;
use crate::adapters::formats::{bearer, timestamp};
use crate::error::Failure;
use crate::grant::Session;
use crate::session::expiry;
use serde::Deserialize;
use serde_json::json;

/// The URI that needs a credential.
pub fn requested_uri(arguments: &[&str], stdin: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Request {
        uri: String,
    }
    match arguments.first() {
        Some(&"get") => {}
        _ => return Err(unsupported("bazel", "its request is not get")),
    }
    let request: Result<Request, _> = serde_json::from_str(stdin);
    request.map(|request| request.uri).map_err(|_| unsupported("bazel", "no JSON object with a uri on stdin"))
}

/// The headers for a request to that URI, and how long they may be cached.
pub fn answer(session: &Session) -> Result<String, Failure> {
    let headers = json!({ "Authorization": [bearer(session)?] });
    Ok(match expiry(session) {
        Some(end) => json!({ "headers": headers, "expires": timestamp(end) }),
        None => json!({ "headers": headers }),
    }
    .to_string())
}
