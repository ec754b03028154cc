//! The userinfo endpoint over HTTP.

use super::ask;
use crate::error::Failure;
use crate::grant::{Document, Secret};
use crate::http::HttpClient;
use crate::protocol::userinfo::{Userinfo, read, request};
use std::time::Duration;

/// The claims about the owner of the access token. `None` if the document has no userinfo endpoint.
pub fn userinfo(
    client: &HttpClient,
    document: &Document,
    access_token: &Secret,
    timeout: Duration,
) -> Option<Result<Userinfo, Failure>> {
    let request = request(document, access_token)?;
    let response = ask(client, &request, timeout, "cannot ask the userinfo endpoint");
    Some(response.and_then(|response| read(&request, &response)))
}
