//! The pushed authorization request endpoint over HTTP.

use super::ask;
use super::client_authentication::authentication;
use crate::grant::{Document, UnixSeconds};
use crate::http::HttpClient;
use crate::protocol::authorization::{Authorization, read_pushed};
use crate::protocol::failure::FailedRequest;
use std::time::Duration;

/// The address that a person opens. If the server has an endpoint for it, the request is pushed there first (RFC 9126 section 2).
pub fn address(
    client: &HttpClient,
    document: &Document,
    authorization: &Authorization,
    timeout: Duration,
    now: UnixSeconds,
) -> Result<String, FailedRequest> {
    // Client authentication fails before a person is asked.
    let Some(request) = authorization.pushed(&authentication(document, now)?) else {
        return Ok(authorization.address());
    };
    let response = ask(client, &request, timeout, "cannot start the browser flow")?;
    read_pushed(&request, &response, now).map(|request_uri| authorization.address_of_pushed(&request_uri))
}
