//! OAuth over HTTP: sends the requests of [`crate::protocol`] through [`crate::http`], and hands back what the responses
//! mean. It decides nothing.

pub mod authorization;
mod client_authentication;
pub mod client_configuration;
pub mod device;
pub mod discovery;
pub mod registration;
pub mod revocation;
mod subject_token;
pub mod token;
pub mod userinfo;

use crate::error::Failure;
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::{Request, Response};
use std::time::Duration;

/// Sends a request that spends nothing. Without a whole response it fails: `what: why`.
fn ask(client: &HttpClient, request: &Request, timeout: Duration, what: &str) -> Result<Response, Failure> {
    let answer = client.send(request, timeout).and_then(HttpOutcome::response);
    answer.map_err(|failure| Failure { message: format!("{what}: {}", failure.message), ..failure })
}
