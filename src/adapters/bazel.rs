//! EngFlow's credential helper specification, which Bazel follows: `HELPER get`, one JSON object in and one out.

use super::unknown;
use crate::adapters::formats::{bearer, timestamp};
use crate::error::Failure;
use crate::grant::Session;
use crate::session::expiry;
use serde::Deserialize;
use serde_json::json;

/// The URI that a credential is asked for.
pub fn asked(arguments: &[&str], stdin: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Request {
        uri: String,
    }
    match arguments.first() {
        Some(&"get") => {}
        _ => return Err(unknown("bazel", "it asks for something else than get")),
    }
    let request: Result<Request, _> = serde_json::from_str(stdin);
    request.map(|request| request.uri).map_err(|_| unknown("bazel", "no JSON object with a uri on stdin"))
}

/// The headers for it, and until when they may be kept.
pub fn answer(session: &Session) -> Result<String, Failure> {
    let headers = json!({ "Authorization": [bearer(session)?] });
    Ok(match expiry(session) {
        Some(end) => json!({ "headers": headers, "expires": timestamp(end) }),
        None => json!({ "headers": headers }),
    }
    .to_string())
}
