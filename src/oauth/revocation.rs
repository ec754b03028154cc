//! The revocation endpoint over HTTP.

use super::client_authentication::authentication;
use crate::grant::{Document, UnixSeconds};
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::revocation::{self, Revocation};
use std::time::{Duration, Instant};

/// Revokes the refresh token of the session, or its access token if there is no refresh token (RFC 7009 section 2.1).
/// `None` if there is no token, or no revocation endpoint.
pub fn revoke(
    client: &HttpClient,
    document: &Document,
    timeout: Duration,
    now: UnixSeconds,
) -> Option<Revocation> {
    let session = document.session.as_ref()?;
    let authentication = match authentication(document, now) {
        Ok(authentication) => authentication,
        Err(failure) => return Some(Revocation::Failed(failure)),
    };
    let request = match &session.refresh_token {
        Some(refresh_token) => revocation::request(document, refresh_token, &authentication)?,
        None => revocation::access_token_request(document, &session.access_token, &authentication)?,
    };
    let began = Instant::now();
    let send = |request| client.send(request, timeout.saturating_sub(began.elapsed()));
    let mut outcome = send(&request);
    if let Ok(HttpOutcome::Answered(response)) = &outcome
        && let Some(again) = revocation::with_empty_secret(&request, document, response)
        // The first refusal says more than the second one.
        && let Ok(HttpOutcome::Answered(second)) = send(&again)
        && !matches!(revocation::read(&again, &second), Revocation::Failed(_))
    {
        outcome = Ok(HttpOutcome::Answered(second));
    }
    Some(match outcome.and_then(HttpOutcome::response) {
        Ok(response) => revocation::read(&request, &response),
        Err(failure) => Revocation::Failed(failure),
    })
}
