//! Requests that break an RFC are refused, counted, and spend nothing.

use super::client::{form, get, refresh_request, send};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use servers::authorization_server::{AuthorizationServer, Endpoint, Settings};

const TOKEN: Endpoint = Endpoint::Token;

/// An `Authorization` header line of these two texts as they are.
fn basic(id: &str, secret: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(format!("{id}:{secret}")))
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[test]
fn a_token_request_that_breaks_the_rfc_is_refused_and_spends_nothing() {
    let server = AuthorizationServer::start(Settings::default());
    let token = server.issue_grant().refresh_token;
    let id = server.client_id();
    let right = [("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", &*token)];
    let with = |name, value| form(TOKEN, "", &[&right[..], &[(name, value)]].concat());
    let request = form(TOKEN, "", &right);
    // (what is wrong, the request, status, error)
    let cases = [
        ("JSON", request.replace("x-www-form-urlencoded", "json"), 400, "invalid_request"),
        ("parameters in the query", request.replace("/token", "/token?a=b"), 400, "invalid_request"),
        ("not encoded", request.replace("grant_type", "grant type"), 400, "invalid_request"),
        ("a parameter twice", with("refresh_token", &token), 400, "invalid_request"),
        ("no client_id", form(TOKEN, "", &[right[0], right[2]]), 400, "invalid_request"),
        (
            "an empty client_id",
            form(TOKEN, "", &[right[0], ("client_id", ""), right[2]]),
            400,
            "invalid_request",
        ),
        ("no grant_type", form(TOKEN, "", &right[1..]), 400, "invalid_request"),
        ("no refresh_token", form(TOKEN, "", &right[..2]), 400, "invalid_request"),
        (
            "another grant_type",
            form(TOKEN, "", &[("grant_type", "password"), right[1], right[2]]),
            400,
            "unsupported_grant_type",
        ),
        ("an unknown client", request.replace(id, "onegrant-strange"), 401, "invalid_client"),
        ("a secret of a client that has none", with("client_secret", "s"), 401, "invalid_client"),
        ("a scope that was not granted", with("scope", "write"), 400, "invalid_scope"),
    ];
    for (what, request, status, error) in cases {
        server.reset_counts();
        assert_eq!(send(&server, &request).error(), (status, error.to_owned()), "{what}");
        assert_eq!((server.counts().unexpected, server.counts().rotations), (1, 0), "{what}");
    }
    assert!(server.is_alive(&token));
    assert_eq!(send(&server, &with("resource", "https://a.example")).status, 200);
}

#[test]
fn a_confidential_client_authenticates_in_one_way_and_encodes_it() {
    let server = AuthorizationServer::start(Settings::default());
    let token = server.issue_confidential_grant().refresh_token;
    let (id, secret) = (server.confidential_client_id(), server.client_secret());
    let right = [("grant_type", "refresh_token"), ("refresh_token", &*token)];
    let post = [("client_id", id), ("client_secret", secret)];
    let encoded_basic = basic(&encoded(id), &encoded(secret));
    let cases = [
        ("no secret", form(TOKEN, "", &[right[0], right[1], post[0]]), 401, "invalid_client"),
        ("both ways", form(TOKEN, &encoded_basic, &[right, post].concat()), 400, "invalid_request"),
        ("not encoded", form(TOKEN, &basic(id, secret), &right), 401, "invalid_client"),
        ("secret not encoded", form(TOKEN, &basic(&encoded(id), secret), &right), 401, "invalid_client"),
        ("wrong secret", form(TOKEN, &basic(&encoded(id), "wrong"), &right), 401, "invalid_client"),
        ("not base64", form(TOKEN, "authorization: Basic ???\r\n", &right), 401, "invalid_client"),
        (
            "another client's token",
            form(TOKEN, "", &[right[0], right[1], ("client_id", server.client_id())]),
            400,
            "invalid_grant",
        ),
    ];
    for (what, request, status, error) in cases {
        server.reset_counts();
        let answer = send(&server, &request);
        assert_eq!(answer.error(), (status, error.to_owned()), "{what}");
        assert_eq!((server.counts().unexpected, server.counts().rotations), (1, 0), "{what}");
        let is_challenged = answer.header("www-authenticate").is_some();
        assert_eq!(is_challenged, status == 401 && request.contains("authorization:"), "{what}");
    }
    let answer = send(&server, &form(TOKEN, &encoded_basic, &right));
    let newest = answer.member("refresh_token");
    let parameters = [right[0], ("refresh_token", &newest), post[0], post[1]];
    assert_eq!(send(&server, &form(TOKEN, "", &parameters)).status, 200);
}

#[test]
fn what_is_no_request_for_this_server_is_refused() {
    let server = AuthorizationServer::start(Settings::default());
    let right = refresh_request(&server, &server.issue_grant().refresh_token);
    let cases = [
        ("GET", right.replace("POST", "GET"), 405),
        ("no such place", right.replace("/token", "/elsewhere"), 404),
        ("HTTP/1.0", right.replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("no host", right.replace("host: as\r\n", ""), 400),
        ("a proxy's target", right.replace("/token", "http://as/token"), 400),
        ("no length", right.replace("content-length: ", "content-length: x"), 400),
        ("chunked", right.replace("content-length:", "transfer-encoding: chunked\r\nx:"), 501),
        ("too long", right.replace("content-length: ", "content-length: 99"), 413),
        ("a head without end", format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(70_000)), 431),
    ];
    for (what, request, status) in cases {
        server.reset_counts();
        let mut answered = super::client::converse(&server, &request).unwrap();
        answered.truncate(12);
        assert_eq!(answered, format!("HTTP/1.1 {status}").into_bytes(), "{what}");
        assert_eq!((server.counts().unexpected, server.counts().rotations), (1, 0), "{what}");
    }
}

#[test]
fn what_was_sent_can_be_read_afterwards() {
    let server = AuthorizationServer::start(Settings::default());
    let issued = server.issue_grant();
    super::client::refresh(&server, &issued.refresh_token);
    get(&server, "/userinfo?a=b+c", "x-note: 1\r\n");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].parameter("refresh_token"), Some(&*issued.refresh_token));
    assert_eq!((&*requests[1].method, &*requests[1].path), ("GET", "/userinfo"));
    assert_eq!((requests[1].header("x-note"), requests[1].parameter("a")), (Some("1"), Some("b c")));
    assert_eq!(server.requests_to(Endpoint::Userinfo), requests[1..]);
}
