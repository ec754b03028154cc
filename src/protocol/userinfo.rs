//! The userinfo endpoint (OpenID Connect Core section 5.3).

use super::failure::answered;
use super::response::Content;
use super::server_error::ServerError;
use super::{Request, Response, challenge, claims, redact, redirect};
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret};
use crate::text::cleaned;
use serde_json::{Map, Value};

/// What the userinfo endpoint said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Userinfo {
    /// The claims about the person.
    Claims(Map<String, Value>),
    /// The access token is not accepted (RFC 6750 section 3.1, `invalid_token`): refresh it and ask again.
    Rejected,
    /// The access token has too little scope (RFC 6750 section 3.1, `insufficient_scope`). A refresh cannot add any. With the
    /// scope that the server demands, if it says so; without secrets, and of any length.
    InsufficientScope(Option<String>),
}

/// A request with the access token as a bearer token (RFC 6750 section 2.1). `None` if the document has no userinfo
/// endpoint.
pub fn request(document: &Document, access_token: &Secret) -> Option<Request> {
    let url = document.userinfo_endpoint.as_deref()?;
    let authorization = Secret::new(format!("Bearer {}", access_token.expose()));
    Some(Request::get(url).authorized(Some(&authorization)).hiding(document))
}

/// Reads the response to `request`: JSON, or a signed token with the claims (OpenID Connect Core section 5.3.2). The
/// signature is not checked, because TLS authenticates the server.
pub fn read(request: &Request, response: &Response) -> Result<Userinfo, Failure> {
    let content = response.content();
    let error = ServerError::read(&content);
    if let Some(insufficient) = insufficient_scope(request, response, &content, &error) {
        return Ok(insufficient);
    }
    if response.status == 401 || error.is_any_of(&["invalid_token"]) {
        return Ok(Userinfo::Rejected);
    }
    if response.is_success() && !error.is_error {
        if let Content::Members(members) = content {
            return Ok(Userinfo::Claims(members));
        }
        if let Some(claims) = claims::claims(String::from_utf8_lossy(&response.body).trim()) {
            return Ok(Userinfo::Claims(claims));
        }
    }
    if let Some(failure) = redirect::moved(request, response) {
        let message = format!("cannot ask the userinfo endpoint: {}", failure.message);
        return Err(Failure { message, ..failure });
    }
    let kind = match response.status {
        // There is no userinfo endpoint at this address, and there will be none later.
        300..400 | 501 => Kind::Usage,
        200..300 if response.is_blank() => Kind::Usage,
        200..300 if error.is_error => Kind::LoginRequired,
        429 | 500.. | ..300 => Kind::Temporary,
        _ => Kind::LoginRequired,
    };
    let message = match redirect::unfollowed(request, response) {
        Some(what) => format!("cannot ask the userinfo endpoint: {what}"),
        None => format!("the userinfo endpoint answered with {}", answered(request, response)),
    };
    Err(Failure::new(kind, message))
}

/// Most servers say it in the challenge, and some in the body.
fn insufficient_scope(
    request: &Request,
    response: &Response,
    content: &Content,
    error: &ServerError,
) -> Option<Userinfo> {
    const CODE: &str = "insufficient_scope";
    let challenges = challenge::challenges(&response.headers);
    let challenge = challenges.iter().find(|challenge| challenge.get("error") == Some(CODE));
    let is_in_body = error.is_any_of(&[CODE]) && (error.is_error || !response.is_success());
    if challenge.is_none() && !is_in_body {
        return None;
    }
    let in_body = || match content {
        Content::Members(members) => members.get("scope").and_then(Value::as_str),
        _ => None,
    };
    let scope = challenge.and_then(|challenge| challenge.get("scope")).or_else(in_body);
    let shown = scope.map(|scope| redact(&cleaned(scope), &request.secrets()));
    Some(Userinfo::InsufficientScope(shown.filter(|scope| !scope.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    #[test]
    fn claims_rejection_and_failure_are_told_apart() {
        let mut document = document();
        assert_eq!(request(&document, &Secret::new("at")), None);
        document.userinfo_endpoint = Some("https://as.example/me".to_owned());
        let request = request(&document, &Secret::new("t0ken")).unwrap();
        assert_eq!(request.headers.get("authorization"), Some("Bearer t0ken"));
        assert_eq!(request.shown("old-refresh, t0ken"), "[secret], [secret]");
        let cases = [
            (200, r#"{"sub":"me"}"#, "Ok(Claims("),
            (200, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2ln", "Ok(Claims("),
            (401, "", "Ok(Rejected)"),
            (400, r#"{"error":"invalid_token"}"#, "Ok(Rejected)"),
            (403, r#"{"error":"insufficient_scope"}"#, "Ok(InsufficientScope(None))"),
            (403, r#"{"error":"insufficient_scope","scope":"a b"}"#, "Ok(InsufficientScope(Some(\"a b\")))"),
            (
                403,
                r#"{"error":"insufficient_scope","scope":"t0ken"}"#,
                "Ok(InsufficientScope(Some(\"[secret]\")))",
            ),
            (403, r#"{"error":"insufficient_scope","scope":""}"#, "Ok(InsufficientScope(None))"),
            (401, r#"{"error":"insufficient_scope"}"#, "Ok(InsufficientScope(None))"),
            (200, r#"{"sub":"me","code":"insufficient_scope"}"#, "Ok(Claims("),
            (403, r#"{"error":"access_denied"}"#, "Err(Failure { kind: LoginRequired"),
            (503, "t0ken", "Err(Failure { kind: Temporary"),
            (429, "", "Err(Failure { kind: Temporary"),
            (302, "", "Err(Failure { kind: Usage"),
            (501, "", "Err(Failure { kind: Usage"),
            (200, "<html>", "Err(Failure { kind: Temporary"),
            (200, r#"{"error":"access_denied"}"#, "Err(Failure { kind: LoginRequired"),
            (204, "", "Err(Failure { kind: Usage"),
            (
                302,
                "",
                "Err(Failure { kind: Usage, message: \"cannot ask the userinfo endpoint: the server answered with status 302, a redirect, which is not followed",
            ),
            (
                308,
                "",
                "Err(Failure { kind: Usage, message: \"cannot ask the userinfo endpoint: the server answered with status 308",
            ),
        ];
        for (status, body, wanted) in cases {
            let response = Response::new(status, body);
            let outcome = format!("{:?}", read(&request, &response));
            assert!(outcome.starts_with(wanted) && !outcome.contains("t0ken"), "{status} {body}: {outcome}");
        }
    }

    /// RFC 6750 section 3.
    #[test]
    fn the_scope_that_is_missing_is_read_from_the_challenge() {
        let request = Request::get("https://as.example/me");
        let cases = [
            (r#"Bearer error="insufficient_scope", scope="openid profile""#, Some("openid profile")),
            (r#"Basic realm="x", bearer scope="a", error=insufficient_scope"#, Some("a")),
            (r#"DPoP error="insufficient_scope""#, None),
        ];
        for (field, scope) in cases {
            for status in [401, 403] {
                let response = Response::new(status, "").with_header("WWW-Authenticate", field);
                let wanted = Userinfo::InsufficientScope(scope.map(str::to_owned));
                assert_eq!(read(&request, &response), Ok(wanted), "{field}");
            }
        }
        let expired =
            Response::new(401, "").with_header("WWW-Authenticate", "Bearer error=\"invalid_token\"");
        assert_eq!(read(&request, &expired), Ok(Userinfo::Rejected));
    }
}
