//! Protocol messages carried over HTTP: what [`crate::protocol`] builds is sent by [`crate::http`], and what
//! comes back is read. No loops and no decisions but the order of the places where metadata may stand.

pub mod authorization;
mod client_authentication;
pub mod device;
pub mod discovery;
pub mod revocation;
mod subject_token;
pub mod token;
pub mod userinfo;

use crate::error::Failure;
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::{Request, Response};
use std::time::Duration;

/// Sends a request that spends nothing: without a whole answer it is a failure, `what: why`.
fn ask(client: &HttpClient, request: &Request, timeout: Duration, what: &str) -> Result<Response, Failure> {
    let answer = client.send(request, timeout).and_then(HttpOutcome::response);
    answer.map_err(|failure| Failure { message: format!("{what}: {}", failure.message), ..failure })
}
