//! The device flow, the code flow and client credentials.

use super::client::{Answer, form, get, post, send};
use servers::authorization_server::{
    AuthorizationServer, Consent, Endpoint, NamedIssuer, RefreshTokens, Settings,
};
use std::time::Duration;

pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
pub const REDIRECT_URI: &str = "http://127.0.0.1:49152/callback";

/// The verifier and the challenge of RFC 7636 appendix B.
pub const CODE_VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CODE_CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A server that can be polled without a pause, and a device authorization.
fn server_and_device() -> (AuthorizationServer, Answer) {
    let server =
        AuthorizationServer::start(Settings { device_interval: Some(Duration::ZERO), ..Settings::default() });
    let device = authorize_device(&server);
    (server, device)
}

fn authorize_device(server: &AuthorizationServer) -> Answer {
    post(server, Endpoint::DeviceAuthorization, &[("client_id", server.client_id())])
}

fn poll(server: &AuthorizationServer, device: &Answer) -> Answer {
    let device_code = device.member("device_code");
    let parameters =
        [("grant_type", DEVICE_CODE), ("client_id", server.client_id()), ("device_code", &device_code)];
    post(server, Endpoint::Token, &parameters)
}

fn refused(error: &str) -> (u16, String) {
    (400, error.to_owned())
}

#[test]
fn a_device_gets_its_tokens_once_a_person_approves() {
    let (server, device) = server_and_device();
    assert_eq!(poll(&server, &device).error(), refused("authorization_pending"));
    assert!(server.approve(&device.member("user_code")));
    let answer = poll(&server, &device);
    assert!(server.is_alive(&answer.member("refresh_token")));
    assert_eq!(answer.member("id_token").split('.').count(), 3);
    let counts = server.counts();
    assert_eq!((counts.device_requests, counts.device_polls, counts.unexpected), (1, 2, 0));
    assert_eq!(
        poll(&server, &device).error(),
        refused("invalid_grant"),
        "a device code is good for one grant"
    );
}

#[test]
fn a_device_learns_of_a_denial_and_of_an_expiry() {
    let (server, device) = server_and_device();
    assert!(server.deny(&device.member("user_code")));
    assert_eq!(poll(&server, &device).error(), refused("access_denied"));
    let device = authorize_device(&server);
    assert!(server.expire(&device.member("user_code")));
    assert_eq!(poll(&server, &device).error(), refused("expired_token"));
    assert!(!server.approve(&device.member("user_code")), "no device waits for it any more");
    server.adjust(|settings| settings.device_lifetime = Duration::ZERO);
    assert_eq!(poll(&server, &authorize_device(&server)).error(), refused("expired_token"));
}

// RFC 8628 section 3.5.
#[test]
fn a_device_that_polls_faster_than_the_interval_is_told_to_slow_down() {
    let (server, _) = server_and_device();
    server.adjust(|settings| settings.device_interval = Some(Duration::from_secs(3600)));
    let device = authorize_device(&server);
    assert_eq!(device.json()["interval"], 3600);
    assert_eq!(poll(&server, &device).error(), refused("authorization_pending"));
    assert!(server.approve(&device.member("user_code")));
    assert_eq!(poll(&server, &device).error(), refused("slow_down"));
    assert_eq!((server.counts().hasty_polls, server.counts().unexpected), (1, 0));
}

// RFC 8628 section 6.1.
#[test]
fn a_person_types_the_user_code_without_case_and_punctuation() {
    let (server, device) = server_and_device();
    let typed = device.member("user_code").replace('-', "").to_lowercase();
    assert_eq!(get(&server, &format!("/device?user_code={typed}&approve=1"), "").status, 200);
    assert_eq!(poll(&server, &device).status, 200);
    // A user code has no vowel.
    assert_eq!(get(&server, "/device?user_code=AEIO-AEIO&approve=1", "").status, 404);
}

#[test]
fn the_page_for_a_person_shows_no_markup_of_a_link() {
    let (server, device) = server_and_device();
    let complete = device.member("verification_uri_complete").replace(&server.issuer(), "");
    assert!(get(&server, &complete, "").body.contains(&device.member("user_code")));
    assert!(!get(&server, "/device?user_code=%22%3E%3Cscript%3E", "").body.contains("<script>"));
}

#[test]
fn what_may_be_left_out_of_a_device_authorization_can_be() {
    let server = AuthorizationServer::start(Settings {
        device_interval: None,
        verification_uri_complete: false,
        auto_approve: true,
        ..Settings::default()
    });
    let device = authorize_device(&server);
    assert!(device.json().get("interval").is_none());
    assert!(device.json().get("verification_uri_complete").is_none());
    assert_eq!(poll(&server, &device).status, 200, "approved by itself");
}

#[test]
fn a_refresh_token_can_depend_on_offline_access() {
    let (server, _) = server_and_device();
    server.adjust(|settings| {
        settings.auto_approve = true;
        settings.refresh_tokens = RefreshTokens::WithOfflineAccess;
    });
    let login = |scope| {
        let parameters = [("client_id", server.client_id()), ("scope", scope)];
        poll(&server, &post(&server, Endpoint::DeviceAuthorization, &parameters))
    };
    assert!(login("openid").json().get("refresh_token").is_none());
    assert!(login("openid offline_access").json().get("refresh_token").is_some());
    server.adjust(|settings| settings.refresh_tokens = RefreshTokens::Never);
    assert!(login("offline_access").json().get("refresh_token").is_none());
}

/// Goes to the authorization endpoint, some parameters replaced, and returns where it leads.
pub fn authorize(server: &AuthorizationServer, replaced: &[(&str, &str)]) -> (u16, Vec<(String, String)>) {
    let right = [
        ("response_type", "code"),
        ("client_id", server.client_id()),
        ("redirect_uri", REDIRECT_URI),
        ("state", "a state"),
        ("code_challenge", CODE_CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let kept = right.into_iter().filter(|(name, _)| replaced.iter().all(|(other, _)| other != name));
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept.chain(replaced.iter().copied()))
        .finish();
    let answer = get(server, &format!("/authorize?{query}"), "");
    let location = answer.header("location").unwrap_or_default();
    let query = location.strip_prefix(REDIRECT_URI).and_then(|rest| rest.strip_prefix('?'));
    let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    (answer.status, parameters.into_owned().collect())
}

pub fn value<'a>(parameters: &'a [(String, String)], name: &str) -> &'a str {
    parameters.iter().find_map(|(key, value)| (key == name).then_some(value)).map_or("", String::as_str)
}

fn exchange(server: &AuthorizationServer, code: &str, redirect_uri: &str, code_verifier: &str) -> Answer {
    let parameters = [
        ("grant_type", "authorization_code"),
        ("client_id", server.client_id()),
        ("code", code),
        ("redirect_uri", redirect_uri),
        ("code_verifier", code_verifier),
    ];
    post(server, Endpoint::Token, &parameters)
}

#[test]
fn a_code_is_exchanged_for_tokens() {
    let server = AuthorizationServer::start(Settings::default());
    let (status, redirect) = authorize(&server, &[]);
    assert_eq!((status, value(&redirect, "state")), (302, "a state"));
    assert_eq!(value(&redirect, "iss"), server.issuer());
    let answer = exchange(&server, value(&redirect, "code"), REDIRECT_URI, CODE_VERIFIER);
    assert!(server.is_alive(&answer.member("refresh_token")));
    assert_eq!(server.counts().unexpected, 0);
}

// RFC 7636 section 4.6, RFC 6749 section 4.1.3.
#[test]
fn a_code_is_bound_to_its_verifier_and_redirect_uri() {
    let server = AuthorizationServer::start(Settings::default());
    let (_, redirect) = authorize(&server, &[]);
    let code = value(&redirect, "code");
    let other_verifier = CODE_VERIFIER.replace('d', "e");
    let other_port = REDIRECT_URI.replace("49152", "49153");
    assert_eq!(exchange(&server, code, REDIRECT_URI, &other_verifier).error(), refused("invalid_grant"));
    assert_eq!(exchange(&server, code, REDIRECT_URI, "short").error(), refused("invalid_request"));
    assert_eq!(exchange(&server, code, &other_port, CODE_VERIFIER).error(), refused("invalid_grant"));
    assert_eq!(server.counts().unexpected, 3);
    assert_eq!(exchange(&server, code, REDIRECT_URI, CODE_VERIFIER).status, 200);
}

// RFC 6749 section 4.1.2.
#[test]
fn a_code_that_is_used_twice_ends_what_it_began() {
    let server = AuthorizationServer::start(Settings::default());
    let (_, redirect) = authorize(&server, &[]);
    let code = value(&redirect, "code");
    let refresh_token = exchange(&server, code, REDIRECT_URI, CODE_VERIFIER).member("refresh_token");
    assert!(server.is_alive(&refresh_token));
    assert_eq!(exchange(&server, code, REDIRECT_URI, CODE_VERIFIER).error(), refused("invalid_grant"));
    assert!(!server.is_alive(&refresh_token));
}

#[test]
fn an_authorization_request_that_is_wrong_is_answered_to_the_client() {
    let server = AuthorizationServer::start(Settings::default());
    let cases = [
        ("response_type", "token", "unsupported_response_type"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", CODE_VERIFIER, ""),
        ("code_challenge", "short", "invalid_request"),
        ("scope", "everything", "invalid_scope"),
    ];
    for (name, wrong, error) in cases {
        let (status, redirect) = authorize(&server, &[(name, wrong)]);
        assert_eq!((status, value(&redirect, "error")), (302, error), "{name}={wrong}");
        assert_eq!(value(&redirect, "state"), "a state");
    }
    assert_eq!(server.counts().unexpected, 4);
}

// RFC 6749 section 4.1.2.1.
#[test]
fn an_unregistered_redirect_uri_gets_no_redirect() {
    let server = AuthorizationServer::start(Settings::default());
    let uris = [
        "https://evil.example/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://127.0.0.1:49152/other",
        "http://127.0.0.1:x@evil.example/callback",
        "http://localhost:49152/callback",
    ];
    for uri in uris {
        assert_eq!(authorize(&server, &[("redirect_uri", uri)]), (400, Vec::new()), "{uri}");
    }
    assert_eq!(authorize(&server, &[("client_id", "stranger")]).0, 400);
}

#[test]
fn consent_can_be_denied_and_the_issuer_of_an_answer_can_be_wrong() {
    let server = AuthorizationServer::start(Settings {
        consent: Consent::Denied,
        response_issuer: NamedIssuer::Other("https://evil.example".to_owned()),
        ..Settings::default()
    });
    let (_, redirect) = authorize(&server, &[]);
    assert_eq!(value(&redirect, "error"), "access_denied");
    assert_eq!(value(&redirect, "iss"), "https://evil.example");
    assert_eq!(server.counts().unexpected, 0);
}

// RFC 6749 section 4.4.
#[test]
fn a_confidential_client_gets_an_access_token_for_itself() {
    let server = AuthorizationServer::start(Settings::default());
    let parameters = [
        ("grant_type", "client_credentials"),
        ("client_id", server.confidential_client_id()),
        ("client_secret", server.client_secret()),
    ];
    let answer = send(&server, &form(Endpoint::Token, "", &parameters));
    assert!(server.access_token_is_valid(&answer.member("access_token")));
    assert!(answer.json().get("refresh_token").is_none());
}
