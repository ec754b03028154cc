//! The client configuration endpoint over HTTP.

use crate::grant::Document;
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::client_configuration::{RegistrationRemoval, read};
use crate::protocol::registration::removal;
use std::time::Duration;

/// Ends the registration of the client at the server that made it (RFC 7592 section 2.3). `timeout` bounds the exchange. `None`
/// if there is none, or [`removal`] may not ask for its end.
pub fn remove(client: &HttpClient, document: &Document, timeout: Duration) -> Option<RegistrationRemoval> {
    let request = removal(document)?;
    Some(match client.send(&request, timeout).and_then(HttpOutcome::response) {
        Ok(response) => read(&request, &response),
        Err(failure) => RegistrationRemoval::Failed(failure),
    })
}
