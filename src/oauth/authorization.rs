//! The pushed authorization request endpoint over HTTP.

use super::ask;
use super::proof::prove;
use crate::error::Failure;
use crate::grant::{Document, UnixSeconds};
use crate::http::HttpClient;
use crate::protocol::authorization::{Authorization, read_pushed};
use std::time::Duration;

/// The address that a person opens. Where the server wants the request beforehand it is pushed to it (RFC 9126 section 2).
pub fn address(
    client: &HttpClient,
    document: &Document,
    authorization: &Authorization,
    timeout: Duration,
    now: UnixSeconds,
) -> Result<String, Failure> {
    // A client that cannot prove itself learns that before a person is asked.
    let Some(request) = authorization.pushed(&prove(document, now)?) else {
        return Ok(authorization.address());
    };
    let reply = ask(client, &request, timeout, "cannot start the browser flow")?;
    read_pushed(&request, &reply, now).map(|request_uri| authorization.address_of_pushed(&request_uri))
}
