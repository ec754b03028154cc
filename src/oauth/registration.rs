//! The registration endpoint over HTTP (RFC 7591).

use crate::grant::UnixSeconds;
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::registration::{NotRegistered, Registered, Wanted, read, request};
use std::time::Duration;

/// Registers a client in one request.
pub fn register(
    client: &HttpClient,
    wanted: &Wanted,
    timeout: Duration,
    now: UnixSeconds,
) -> Result<Registered, NotRegistered> {
    let request = request(wanted);
    match client.send(&request, timeout).and_then(HttpOutcome::response) {
        Ok(response) => read(&request, &response, now),
        Err(failure) => Err(NotRegistered::unanswered(&request, failure)),
    }
}
