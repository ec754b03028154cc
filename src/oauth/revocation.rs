//! The revocation endpoint over HTTP.

use super::proof::prove;
use crate::grant::{Document, UnixSeconds};
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::revocation::{self, Revocation};
use std::time::{Duration, Instant};

/// Revokes the session's refresh token, or its access token where it has no other (RFC 7009 section 2.1). None
/// where there is nothing to revoke, or nowhere to do it.
pub fn revoke(
    client: &HttpClient,
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
    if let Ok(HttpOutcome::Answered(reply)) = &outcome
        && let Some(again) = revocation::with_empty_secret(&request, document, reply)
        // A second refusal says less than the first one.
        && let Ok(HttpOutcome::Answered(second)) = send(&again)
        && !matches!(revocation::read(&again, &second), Revocation::Failed(_))
    {
        outcome = Ok(HttpOutcome::Answered(second));
    }
    Some(match outcome {
        Ok(HttpOutcome::Answered(reply)) => revocation::read(&request, &reply),
        Ok(HttpOutcome::NotSent(why) | HttpOutcome::Lost(why) | HttpOutcome::TooLong(why)) => {
            Revocation::failed(why)
        }
        Ok(HttpOutcome::NoConnection(failure)) | Err(failure) => Revocation::Failed(failure),
    })
}
