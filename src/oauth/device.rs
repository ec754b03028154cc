//! The device authorization endpoint over HTTP. [`super::token::HttpTokenEndpoint::poll`] does the polling.

use super::ask;
use super::client_authentication::authentication;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, UnixSeconds};
use crate::http::HttpClient;
use crate::protocol::device::{self, DeviceAuthorization};
use crate::protocol::failure::FailedRequest;
use std::time::Duration;

/// Starts a device flow at the device authorization endpoint of the document (RFC 8628 section 3.1).
pub fn authorize(
    client: &HttpClient,
    document: &Document,
    code_verifier: &Secret,
    timeout: Duration,
    now: UnixSeconds,
) -> Result<DeviceAuthorization, FailedRequest> {
    let Some(request) = device::request(document, code_verifier, &authentication(document, now)?) else {
        let message = "cannot start the device flow: the server names no device authorization endpoint";
        let hint = "onegrant login --device-authorization-endpoint URL";
        return Err(Failure::new(Kind::Usage, message).hint(hint).into());
    };
    let response = ask(client, &request, timeout, "cannot start the device flow")?;
    device::read(&request, &response, now)
}
