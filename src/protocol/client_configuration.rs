//! The client configuration endpoint (RFC 7592): what a server answers if a client ends its registration.

use super::failure::answered;
use super::server_error::ServerError;
use super::{Request, Response, redirect};
use crate::error::{Failure, Kind};

/// What became of a registration. The texts are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationRemoval {
    /// The server does not know the client any more, or did not know it before.
    Removed,
    /// The server keeps the registration, and another request would not change that.
    Kept(String),
    /// The server may still have it.
    Failed(Failure),
}

/// Reads the response to [`super::registration::removal`] (RFC 7592 section 2.3).
pub fn read(request: &Request, response: &Response) -> RegistrationRemoval {
    let is_error = ServerError::read(&response.content()).is_error;
    let said = || format!("the server answered with {}", answered(request, response));
    match response.status {
        200..300 if !is_error => RegistrationRemoval::Removed,
        404 | 410 => RegistrationRemoval::Removed,
        // 401: the registration access token is not accepted, or the client is not known. 403 and 405: no client may do so.
        401 | 403 | 405 | 501 => RegistrationRemoval::Kept(said()),
        _ => {
            let why = redirect::unfollowed(request, response).unwrap_or_else(said);
            RegistrationRemoval::Failed(Failure::new(Kind::Temporary, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Secret;

    #[test]
    fn the_answer_to_a_removal_has_three_outcomes() {
        let management_token = Secret::new("Bearer management-1");
        let request = Request::get("https://as.example/register/c").authorized(Some(&management_token));
        let kept =
            |status: &str| RegistrationRemoval::Kept(format!("the server answered with status {status}"));
        let failed = |why: &str| {
            let why = format!("the server answered with status {why}");
            RegistrationRemoval::Failed(Failure::new(Kind::Temporary, why))
        };
        let cases = [
            (204, "", RegistrationRemoval::Removed),
            (200, "{}", RegistrationRemoval::Removed),
            (404, "<html>", RegistrationRemoval::Removed),
            (410, "", RegistrationRemoval::Removed),
            (401, r#"{"error":"invalid_token"}"#, kept("401: invalid_token")),
            (403, "", kept("403")),
            (405, "", kept("405")),
            (200, r#"{"error":"no"}"#, failed("200: no")),
            (400, r#"{"error":"management-1"}"#, failed("400: [secret]")),
            (429, "", failed("429")),
            (503, "", failed("503")),
            (302, "", failed("302, a redirect, which is not followed")),
        ];
        for (status, body, wanted) in cases {
            assert_eq!(read(&request, &Response::new(status, body)), wanted, "{status} {body}");
        }
    }
}
