//! The identity token of a GitHub Actions job (OpenID Connect in GitHub Actions), which is the subject token of a token
//! exchange.

use super::failure::answered;
use super::response::Content;
use super::{Request, Response};
use crate::error::{Failure, Kind};
use crate::grant::{Secret, is_visible_ascii};
use serde_json::Value;

/// A request for the identity token. `url` and `token` are those of the job.
pub fn github_request(url: &str, token: &Secret, audience: Option<&str>) -> Request {
    let url = match audience {
        Some(audience) => {
            let separator = if url.contains('?') { '&' } else { '?' };
            let audience: String = form_urlencoded::byte_serialize(audience.as_bytes()).collect();
            format!("{url}{separator}audience={audience}")
        }
        None => url.to_owned(),
    };
    Request::get(&url).authorized(Some(&Secret::new(format!("Bearer {}", token.expose()))))
}

/// Reads the response: an object with the token as `value`.
pub fn read_github(request: &Request, response: &Response) -> Result<Secret, Failure> {
    if let Content::Members(members) = response.content() {
        let token = members.get("value").and_then(Value::as_str).filter(|token| is_visible_ascii(token));
        if let (Some(token), true) = (token, response.is_success()) {
            return Ok(Secret::new(token));
        }
    }
    let kind = if matches!(response.status, 429 | 500..) { Kind::Temporary } else { Kind::Usage };
    Err(Failure::new(kind, format!("its endpoint answered with {}", answered(request, response))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_joins_the_query_that_is_there() {
        let url = |url: &str, audience| github_request(url, &Secret::new("t"), audience).url;
        assert_eq!(
            url("https://a/x?api=2", Some("https://b c")),
            "https://a/x?api=2&audience=https%3A%2F%2Fb+c"
        );
        assert_eq!(url("https://a/x", Some("b")), "https://a/x?audience=b");
        assert_eq!(url("https://a/x?api=2", None), "https://a/x?api=2");
    }

    #[test]
    fn the_token_is_taken_from_an_answer_that_has_one() {
        let request = github_request("https://a/x", &Secret::new("s3cret"), None);
        let cases = [
            (200, r#"{"count":1,"value":"eyJ"}"#, "Ok([secret])"),
            (200, r#"{"value":""}"#, "Usage"),
            (200, "<html>", "Usage"),
            (401, r#"{"value":"eyJ"}"#, "Usage"),
            (401, r#"{"message":"s3cret is wrong"}"#, "[secret] is wrong"),
            (503, "", "Temporary"),
        ];
        for (status, body, wanted) in cases {
            let response = Response::new(status, body);
            let found = format!("{:?}", read_github(&request, &response));
            assert!(found.contains(wanted) && !found.contains("s3cret"), "{status} {body}: {found}");
        }
    }
}
