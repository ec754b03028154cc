//! Token revocation (RFC 7009).

use super::client_authentication::authenticate;
use super::dialects::with_words_of_dialects;
use super::failure::answered;
use super::server_error::ServerError;
use super::{Authentication, Parameters, Request, Response, redirect};
use crate::error::{Failure, Kind};
use crate::grant::{ClientAuthentication, Document, Secret};

/// A request to revoke a refresh token (RFC 7009 section 2.1). `None` if the document has no revocation endpoint.
pub fn request(
    document: &Document,
    refresh_token: &Secret,
    authentication: &Authentication,
) -> Option<Request> {
    request_of(document, refresh_token, "refresh_token", authentication)
}

/// A request to revoke an access token, for a grant without a refresh token.
pub fn access_token_request(
    document: &Document,
    access_token: &Secret,
    authentication: &Authentication,
) -> Option<Request> {
    request_of(document, access_token, "access_token", authentication)
}

fn request_of(
    document: &Document,
    token: &Secret,
    hint: &str,
    authentication: &Authentication,
) -> Option<Request> {
    let url = document.revocation_endpoint.as_deref()?;
    let mut parameters = Parameters::default();
    parameters.push_secret("token", token);
    parameters.push("token_type_hint", hint);
    let authorization = authenticate(document, authentication, &mut parameters);
    Some(Request::form(url, parameters).authorized(authorization.as_ref()).hiding(document))
}

/// The request with an empty client secret. Servers made with the Python MCP SDK accept no other request of a public
/// client. `None` if the response is about something else, or if the client is not public.
pub fn with_empty_secret(request: &Request, document: &Document, response: &Response) -> Option<Request> {
    let error = ServerError::read(&response.content());
    let is_public = document.client_auth == ClientAuthentication::None;
    // The server names the parameter as the location of a validation error, or in words.
    let names_it = || String::from_utf8_lossy(&response.body).contains("client_secret");
    let is_about_the_client =
        response.status == 401 || error.is_any_of(&["invalid_client", "unauthorized_client"]);
    let is_refused =
        (400..500).contains(&response.status) && !is_dead(&error) && (is_about_the_client || names_it());
    (is_public && is_refused).then(|| request.with_empty("client_secret"))
}

/// Error codes for a token that is dead already. RFC 7009 section 2.2 demands status 200 for it.
const DEAD: [&str; 7] = [
    "invalid_grant",
    "invalid_token",
    "expired_token",
    "expired_access_token",
    "token_revoked",
    "token_expired",
    "token_not_found",
];

fn is_dead(error: &ServerError) -> bool {
    error.is_any_of(&with_words_of_dialects(&DEAD, |dialect| dialect.dead_grant))
        || error.description.as_deref().is_some_and(says_dead)
}

/// Some servers say it only in words: `Invalid token`, `The token has already been revoked.` A longer text is about
/// something else.
fn says_dead(text: &str) -> bool {
    const FILLERS: [&str; 10] =
        ["the", "this", "given", "provided", "refresh", "is", "was", "has", "been", "already"];
    const STATES: [&str; 5] = ["invalid", "expired", "revoked", "unknown", "inactive"];
    let text = text.to_ascii_lowercase();
    let words = text.split(|character: char| !character.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty() && !FILLERS.contains(word)).collect();
    match words.as_slice() {
        ["token", state] | [state, "token"] => STATES.contains(state),
        ["token", "not", "found"] => true,
        _ => false,
    }
}

/// The outcome of a revocation. The texts are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The token is dead now, or was dead before (RFC 7009 section 2.2).
    Revoked,
    /// The server does not revoke tokens of this kind (section 2.2.1).
    Unsupported,
    /// The token may still work. The failure says why, and what helps if that is known.
    Failed(Failure),
}

impl Revocation {
    /// A revocation that failed for this reason.
    pub fn failed(why: String) -> Self {
        Self::Failed(Failure::new(Kind::Temporary, why))
    }
}

/// Reads the response to `request`.
pub fn read(request: &Request, response: &Response) -> Revocation {
    let error = ServerError::read(&response.content());
    if error.is_any_of(&["unsupported_token_type"]) {
        return Revocation::Unsupported;
    }
    if response.is_success() && !error.is_error {
        return Revocation::Revoked;
    }
    // A dead token is the goal. But a server that fails, or sends nonsense, says nothing about the token.
    if response.status < 500 && is_dead(&error) {
        return Revocation::Revoked;
    }
    if let Some(what) = redirect::unfollowed(request, response) {
        return Revocation::failed(what);
    }
    Revocation::failed(format!("the server answered with {}", answered(request, response)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{document, form};
    use super::*;

    #[test]
    fn the_answer_tells_three_outcomes_apart() {
        let mut document = document();
        assert_eq!(request(&document, &Secret::new("rt-1"), &Authentication::None), None);
        document.revocation_endpoint = Some("https://as.example/revoke".to_owned());
        let request = request(&document, &Secret::new("rt-1"), &Authentication::None).unwrap();
        assert_eq!(request.url, "https://as.example/revoke");
        assert_eq!(
            form(&request).encode().expose(),
            "token=rt-1&token_type_hint=refresh_token&client_id=client+1"
        );
        let failed = |text: &str| Revocation::failed(format!("the server answered with status {text}"));
        let cases = [
            (200, "", Revocation::Revoked),
            (204, "", Revocation::Revoked),
            (200, "{}", Revocation::Revoked),
            (400, r#"{"error":"unsupported_token_type"}"#, Revocation::Unsupported),
            (503, "", failed("503")),
            (302, "", failed("302, a redirect, which is not followed")),
            (
                400,
                r#"{"error":"invalid_request","error_description":"rt-1?"}"#,
                failed("400: invalid_request: [secret]?"),
            ),
            (200, r#"{"ok":false,"error":"nope"}"#, failed("200: nope")),
        ];
        for (status, body, wanted) in cases {
            let response = Response::new(status, body);
            assert_eq!(read(&request, &response), wanted, "{status} {body}");
        }
    }
}
