//! The client configuration endpoint over HTTP.

use crate::grant::Registration;
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::client_configuration::{RegistrationRemoval, read};
use crate::protocol::registration::removal;
use std::time::Duration;

/// Ends the registration at the server that made it (RFC 7592 section 2.3). `timeout` bounds the exchange. `None` if the
/// server gave no address for it.
pub fn remove(
    client: &HttpClient,
    registration: &Registration,
    timeout: Duration,
) -> Option<RegistrationRemoval> {
    let request = removal(registration)?;
    Some(match client.send(&request, timeout).and_then(HttpOutcome::response) {
        Ok(response) => read(&request, &response),
        Err(failure) => RegistrationRemoval::Failed(failure),
    })
}
