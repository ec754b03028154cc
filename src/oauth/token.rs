//! The token endpoint over HTTP.

use super::proof::prove;
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
use crate::protocol::{Reply, Request};
use std::time::{Duration, Instant};

/// Asks for access tokens.
pub struct HttpTokenEndpoint<'a> {
    client: &'a HttpClient,
}

impl<'a> HttpTokenEndpoint<'a> {
    /// Sends through this client.
    pub fn new(client: &'a HttpClient) -> Self {
        Self { client }
    }

    /// Asks once for the next access token at the document's token endpoint. `timeout` bounds the whole exchange; `now` is
    /// what a `Retry-After` date is compared with.
    ///
    /// A configuration that lets nothing be sent is [`Answer::Impossible`].
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
        let answer = match self.reply(&request, timeout.saturating_sub(began.elapsed())) {
            Ok(reply) => classify(&request, &reply, now),
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
        let proof = prove(document, now)?;
        Ok(match credential {
            Credential::RefreshToken(refresh_token) => refresh_request(document, refresh_token, &proof),
            Credential::Client(ClientGrant::ClientCredentials) => {
                client_credentials_request(document, &proof)
            }
            Credential::Client(ClientGrant::TokenExchange { subject_token: source, subject_token_type }) => {
                let subject_token = subject_token(self.client, source, timeout)?;
                token_exchange_request(document, &subject_token, subject_token_type, &proof)
            }
        })
    }

    /// Asks once whether the person has decided (RFC 8628 section 3.4).
    pub fn poll(
        &self,
        document: &Document,
        device_code: &Secret,
        code_verifier: &Secret,
        timeout: Duration,
        now: UnixSeconds,
    ) -> PollAnswer {
        let request = match prove(document, now) {
            Ok(proof) => device_token_request(document, device_code, code_verifier, &proof),
            Err(failure) => return PollAnswer::Other(Answer::Impossible(failure)),
        };
        match self.reply(&request, timeout) {
            Ok(reply) => read_poll(&request, &reply, now),
            Err(answer) => PollAnswer::Other(*answer),
        }
    }

    /// Exchanges an authorization code, once (RFC 6749 section 4.1.3).
    pub fn exchange(
        &self,
        authorization: &Authorization,
        document: &Document,
        code: &Secret,
        timeout: Duration,
        now: UnixSeconds,
    ) -> Answer {
        let (redirect_uri, code_verifier) = (authorization.redirect_uri(), authorization.code_verifier());
        let request = match prove(document, now) {
            Ok(proof) => code_token_request(document, code, redirect_uri, code_verifier, &proof),
            Err(failure) => return Answer::Impossible(failure),
        };
        match self.reply(&request, timeout) {
            Ok(reply) => classify(&request, &reply, now),
            Err(answer) => *answer,
        }
    }

    /// The answer, or what it means that none came: not sent is temporary, sent is unknown.
    fn reply(&self, request: &Request, timeout: Duration) -> Result<Reply, Box<Answer>> {
        Err(Box::new(match self.client.send(request, timeout) {
            Ok(HttpOutcome::Answered(reply)) => return Ok(reply),
            Ok(HttpOutcome::NotSent(what)) => Answer::Temporary { what, retry_after: None },
            Ok(HttpOutcome::NoConnection(failure)) => Answer::Failed(failure),
            Ok(HttpOutcome::Lost(what)) => Answer::Unknown { what, again: true },
            Ok(HttpOutcome::TooLong(what)) => Answer::Unknown { what, again: false },
            Err(failure) => Answer::Impossible(failure),
        }))
    }
}
