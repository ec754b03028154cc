//! The revocation endpoint over HTTP.

use super::proof::prove;
use crate::grant::{Document, UnixSeconds};
use crate::http::{Client, Outcome};
use crate::protocol::revocation::{self, Revocation};
use std::time::{Duration, Instant};

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
        Err(failure) => return Some(Revocation::Failed(failure)),
    };
    let request = match &session.refresh_token {
        Some(refresh_token) => revocation::request(document, refresh_token, &proof)?,
        None => revocation::access_token_request(document, &session.access_token, &proof)?,
    };
    let began = Instant::now();
    let send = |request| client.send(request, timeout.saturating_sub(began.elapsed()));
    let mut outcome = send(&request);
    if let Ok(Outcome::Answered(reply)) = &outcome
        && let Some(again) = revocation::with_empty_secret(&request, document, reply)
        // A second refusal says less than the first one.
        && let Ok(Outcome::Answered(second)) = send(&again)
        && !matches!(revocation::read(&again, &second), Revocation::Failed(_))
    {
        outcome = Ok(Outcome::Answered(second));
    }
    Some(match outcome {
        Ok(Outcome::Answered(reply)) => revocation::read(&request, &reply),
        Ok(Outcome::NotSent(why) | Outcome::Lost(why) | Outcome::TooLong(why)) => Revocation::failed(why),
        Ok(Outcome::NoConnection(failure)) | Err(failure) => Revocation::Failed(failure),
    })
}
