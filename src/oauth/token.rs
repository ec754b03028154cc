//! The token endpoint over HTTP.

use super::client_authentication::authentication;
use super::subject_token::subject_token;
use crate::error::Failure;
use crate::grant::{ClientGrant, Credential, Document, Secret, UnixSeconds};
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::authorization::Authorization;
use crate::protocol::device::{PollAnswer, read_poll};
use crate::protocol::token::{
    Answer, classify, client_credentials_request, code_token_request, device_token_request, refresh_request,
    token_exchange_request,
};
use crate::protocol::{Request, Response};
use std::time::{Duration, Instant};

/// The token endpoint.
pub struct HttpTokenEndpoint<'a> {
    client: &'a HttpClient,
}

impl<'a> HttpTokenEndpoint<'a> {
    /// The token endpoint, reached through this client.
    pub fn new(client: &'a HttpClient) -> Self {
        Self { client }
    }

    /// Sends one request for the next access token. `timeout` bounds the whole exchange. A `Retry-After` date is compared
    /// with `now`.
    ///
    /// If the configuration allows no request, the answer is [`Answer::Impossible`].
    pub fn refresh(
        &self,
        document: &Document,
        credential: &Credential,
        timeout: Duration,
        now: UnixSeconds,
    ) -> Answer {
        let began = Instant::now();
        let request = match self.request(document, credential, timeout, now) {
            Ok(request) => request,
            Err(failure) => return Answer::Impossible(failure),
        };
        let answer = match self.response(&request, timeout.saturating_sub(began.elapsed())) {
            Ok(response) => classify(&request, &response, now),
            Err(answer) => *answer,
        };
        match credential {
            Credential::RefreshToken(_) => answer,
            Credential::Client(_) => answer.to_client(),
        }
    }

    fn request(
        &self,
        document: &Document,
        credential: &Credential,
        timeout: Duration,
        now: UnixSeconds,
    ) -> Result<Request, Failure> {
        let authentication = authentication(document, now)?;
        Ok(match credential {
            Credential::RefreshToken(refresh_token) => {
                refresh_request(document, refresh_token, &authentication)
            }
            Credential::Client(ClientGrant::ClientCredentials) => {
                client_credentials_request(document, &authentication)
            }
            Credential::Client(ClientGrant::TokenExchange { subject_token: source, subject_token_type }) => {
                let subject_token = subject_token(self.client, source, timeout)?;
                token_exchange_request(document, &subject_token, subject_token_type, &authentication)
            }
        })
    }

    /// Sends one poll (RFC 8628 section 3.4).
    pub fn poll(
        &self,
        document: &Document,
        device_code: &Secret,
        code_verifier: &Secret,
        timeout: Duration,
        now: UnixSeconds,
    ) -> PollAnswer {
        let request = match authentication(document, now) {
            Ok(authentication) => device_token_request(document, device_code, code_verifier, &authentication),
            Err(failure) => return PollAnswer::Other(Answer::Impossible(failure)),
        };
        match self.response(&request, timeout) {
            Ok(response) => read_poll(&request, &response, now),
            Err(answer) => PollAnswer::Other(*answer),
        }
    }

    /// Exchanges an authorization code in one request (RFC 6749 section 4.1.3).
    pub fn exchange(
        &self,
        authorization: &Authorization,
        document: &Document,
        code: &Secret,
        timeout: Duration,
        now: UnixSeconds,
    ) -> Answer {
        let (redirect_uri, code_verifier) = (authorization.redirect_uri(), authorization.code_verifier());
        let request = match authentication(document, now) {
            Ok(authentication) => {
                code_token_request(document, code, redirect_uri, code_verifier, &authentication)
            }
            Err(failure) => return Answer::Impossible(failure),
        };
        match self.response(&request, timeout) {
            Ok(response) => classify(&request, &response, now),
            Err(answer) => *answer,
        }
    }

    /// The response. Without one, the answer is temporary if the request was not sent, and unknown if it was.
    fn response(&self, request: &Request, timeout: Duration) -> Result<Response, Box<Answer>> {
        Err(Box::new(match self.client.send(request, timeout) {
            Ok(HttpOutcome::Answered(response)) => return Ok(response),
            Ok(HttpOutcome::NotSent(what)) => Answer::Temporary { what, retry_after: None },
            Ok(HttpOutcome::NoConnection(failure)) => Answer::Failed(failure),
            Ok(HttpOutcome::Lost(what)) => Answer::Unknown { what, again: true },
            Ok(HttpOutcome::TooLong(what)) => Answer::Unknown { what, again: false },
            Err(failure) => Answer::Impossible(failure),
        }))
    }
}
