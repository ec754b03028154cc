//! The revocation endpoint over HTTP.

use super::proof::prove;
use crate::grant::{Document, UnixSeconds};
use crate::http::{Client, Outcome};
use crate::protocol::revocation::{self, Revocation};
use std::time::Duration;

/// Revokes the session's refresh token, or its access token where it has no other (RFC 7009 section 2.1). None
/// where there is nothing to revoke, or nowhere to do it.
pub fn revoke(
    client: &Client,
    document: &Document,
    timeout: Duration,
    now: UnixSeconds,
) -> Option<Revocation> {
    let session = document.session.as_ref()?;
    let proof = match prove(document, now) {
        Ok(proof) => proof,
        Err(failure) => return Some(Revocation::Failed(failure.message)),
    };
    let request = match &session.refresh_token {
        Some(refresh_token) => revocation::request(document, refresh_token, &proof)?,
        None => revocation::access_token_request(document, &session.access_token, &proof)?,
    };
    Some(match client.send(&request, timeout) {
        Ok(Outcome::Answered(reply)) => revocation::read(&request, &reply),
        Ok(Outcome::NotSent(why) | Outcome::Lost(why) | Outcome::TooLong(why)) => Revocation::Failed(why),
        Ok(Outcome::NoTls(failure)) | Err(failure) => Revocation::Failed(failure.message),
    })
}
