//! `onegrant whoami`: the server's answer, and what a refused token leads to.

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const CLAIMS: &str =
    "name               Jane Doe\npreferred_username j.doe\nsub                248289761001\n";

fn shown() -> Ran {
    Ran { code: 0, stdout: CLAIMS.to_owned(), stderr: String::new() }
}

#[test]
fn the_userinfo_endpoint_is_asked() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    assert_eq!(home.run(&["whoami"]), shown());
    let ran = home.run(&["whoami", "--json"]);
    let claims: Value = serde_json::from_str(ran.stdout.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(claims, json!({ "sub": "248289761001", "name": "Jane Doe", "preferred_username": "j.doe" }));
    let counts = server.counts();
    assert_eq!((counts.userinfo, counts.token_requests, counts.unexpected), (2, 0, 0));
    let request = &server.requests_to(Endpoint::Userinfo)[0];
    assert_eq!(request.header("authorization"), Some(format!("Bearer {}", issued.access_token).as_str()));
}

#[test]
fn an_expired_token_is_refreshed_first() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    assert_eq!(home.run(&["whoami"]), shown());
    assert_eq!((server.counts().userinfo, server.counts().token_requests), (1, 1));
}

#[test]
fn a_refused_token_is_refreshed_once_and_tried_once_more() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    server.revoke_access_token(&issued.access_token);
    assert_eq!(home.run(&["whoami"]), shown());
    assert_eq!((server.counts().userinfo, server.counts().token_requests), (2, 1));
    assert!(server.access_token_is_valid(&home.tokens().access_token));
    // And never a third time.
    server.reset_counts();
    server.always(Endpoint::Userinfo, Fault::status(401));
    let text =
        "onegrant: cannot ask who it is: the server refuses even a new access token\nhint: onegrant login\n";
    assert_eq!(home.run(&["whoami"]), Ran::failed(3, text));
    assert_eq!((server.counts().userinfo, server.counts().token_requests), (2, 1));
    assert!(server.is_alive(&home.tokens().refresh_token));
}

#[test]
fn other_refusals_and_failures_spend_nothing() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let before = home.bytes();
    for (status, code) in [(403, 3), (404, 3), (500, 4), (503, 4), (429, 4)] {
        server.script(Endpoint::Userinfo, [Fault::status(status)]);
        let text = format!("onegrant: the userinfo endpoint answered with status {status}\n");
        assert_eq!(home.run(&["whoami"]), Ran::failed(code, text));
    }
    server.script(Endpoint::Userinfo, [Fault::DropBefore]);
    assert_eq!(home.run(&["whoami"]).code, 4);
    assert_eq!(server.counts().token_requests, 0);
    assert_eq!(home.bytes(), before);
}

/// A refresh cannot add a scope (RFC 6749 section 6), so none is made. Most servers name the scope in the challenge.
#[test]
fn a_token_with_too_little_scope_is_not_refreshed_and_the_hint_asks_for_more() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    document["scope"] = json!("openid offline_access");
    home.write(&document);
    let before = home.bytes();
    let named =
        "the userinfo endpoint wants the scope \"profile openid\", and the access token does not have it";
    let unnamed = "the access token has too little scope for the userinfo endpoint";
    let challenge = |status| {
        let scope = r#"Bearer realm="api", error="insufficient_scope", scope="profile openid""#;
        Response::new(status).header("www-authenticate", scope)
    };
    let body = |body: Value| Response::json(403, body.to_string());
    let cases = [
        (challenge(403), named, "'openid offline_access profile'"),
        (challenge(401), named, "'openid offline_access profile'"),
        (
            body(json!({ "error": "insufficient_scope", "scope": "profile openid" })),
            named,
            "'openid offline_access profile'",
        ),
        (body(json!({ "error": "insufficient_scope" })), unnamed, "'openid offline_access'"),
    ];
    for (response, why, scope) in cases {
        server.script(Endpoint::Userinfo, [Fault::Status(response)]);
        let text = format!("onegrant: cannot ask who it is: {why}\nhint: onegrant login --scope {scope}\n");
        assert_eq!(home.run(&["whoami"]), Ran::failed(3, text));
    }
    assert_eq!((server.counts().userinfo, server.counts().token_requests), (4, 0));
    assert_eq!(home.bytes(), before);
}

/// A login does not help here: exit 2, without a hint.
#[test]
fn a_grant_without_a_person_ends_with_2_where_the_server_says_nothing_about_the_client() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    document["client_id"] = json!(server.confidential_client_id());
    document["client_secret"] = json!(server.client_secret());
    document["client_auth"] = json!("basic");
    document["session"].as_object_mut().unwrap().remove("refresh_token");
    let exchange = json!({ "type": "token_exchange", "subject_token": { "environment": "SUBJECT" }, "subject_token_type": "x" });
    for (grant, name) in
        [(json!({ "type": "client_credentials" }), "client credentials"), (exchange, "token exchange")]
    {
        document["grant"] = grant;
        home.write(&document);
        let message = |why: &str| {
            format!("onegrant: cannot tell who it is: the grant has no person ({name}), and {why}\n")
        };
        server.script(Endpoint::Userinfo, [Fault::status(302)]);
        let why = "cannot ask the userinfo endpoint: the server answered with status 302, a redirect, which is not followed";
        assert_eq!(home.run(&["whoami"]), Ran::failed(2, message(why)));
        for status in [400, 403, 404, 405, 501] {
            server.script(Endpoint::Userinfo, [Fault::status(status)]);
            let why = format!("the userinfo endpoint answered with status {status}");
            assert_eq!(home.run(&["whoami"]), Ran::failed(2, message(&why)));
        }
        let silent = [
            (Response::new(204), "answered with status 204"),
            (Response::json(200, "{}".to_owned()), "says nothing about the client"),
            (Response::json(200, r#"{"error":"no_user"}"#.to_owned()), "answered with status 200: no_user"),
        ];
        for (response, why) in silent {
            server.script(Endpoint::Userinfo, [Fault::Status(response)]);
            let why = format!("the userinfo endpoint {why}");
            assert_eq!(home.run(&["whoami"]), Ran::failed(2, message(&why)));
        }
        server.script(Endpoint::Userinfo, [Fault::status(503)]);
        assert_eq!(home.run(&["whoami"]).code, 4);
        assert_eq!(server.counts().token_requests, 0);
        // What it does say is shown.
        server.script(
            Endpoint::Userinfo,
            [Fault::Status(Response::json(200, r#"{"sub":"robot"}"#.to_owned()))],
        );
        assert_eq!(home.run(&["whoami"]).stdout, "sub            robot\n");
    }
    // A 401 counts only if a new token gets it, too.
    document["grant"] = json!({ "type": "client_credentials" });
    home.write(&document);
    server.reset_counts();
    server.always(Endpoint::Userinfo, Fault::status(401));
    let text = "onegrant: cannot tell who it is: the grant has no person (client credentials), and the userinfo endpoint \
                refuses its access tokens\n";
    assert_eq!(home.run(&["whoami"]), Ran::failed(2, text));
    assert_eq!((server.counts().userinfo, server.counts().token_requests), (2, 1));

    document.as_object_mut().unwrap().remove("userinfo_endpoint");
    home.write(&document);
    let text = "onegrant: cannot tell who it is: the grant has no person (client credentials), and the profile has no \
                userinfo endpoint and no ID token\n";
    assert_eq!(home.run(&["whoami"]), Ran::failed(2, text));
}

#[test]
fn without_a_userinfo_endpoint_the_id_token_is_shown() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    document.as_object_mut().unwrap().remove("userinfo_endpoint");
    document["session"]["obtained_at"] = json!(now() - LIFETIME);
    home.write(&document);
    let text = "onegrant: cannot tell who it is: the profile has no userinfo endpoint and no ID token\n\
                hint: onegrant login --userinfo-endpoint URL --scope openid\n";
    assert_eq!(home.run(&["whoami"]), Ran::failed(2, text));
    let claims = json!({
        "iss": server.issuer(), "aud": server.client_id(), "iat": now(), "exp": now() + LIFETIME,
        "sub": "me\u{1b}[31m", "name": "A\nB",
    });
    let token = |claims: &Value| json!(format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string())));
    document["session"]["id_token"] = token(&claims);
    home.write(&document);
    let ran = home.run(&["whoami"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(ran.stdout.ends_with("\nname           A B\nsub            me [31m\n"), "{ran:?}");

    // OpenID Connect Core section 3.1.3.7: of another server, for another client, or without a subject.
    for (name, value, why) in [
        ("iss", json!("https://other.example"), "it is of the issuer https://other.example, not of "),
        ("aud", json!("other"), "it is for other, not for this client"),
        ("sub", json!(null), "it names no person (sub)"),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        document["session"]["id_token"] = token(&claims);
        home.write(&document);
        let ran = home.run(&["whoami"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
        let text = format!("onegrant: cannot tell who it is: cannot trust the ID token: {why}");
        assert!(ran.stderr.starts_with(&text) && ran.stderr.ends_with("\nhint: onegrant login\n"), "{ran:?}");
    }
    assert_eq!(server.counts(), Default::default());

    // One that has expired is judged as by `token --id-token`: the grant is refreshed for another one.
    let mut expired = claims.clone();
    expired["exp"] = json!(now() - 5);
    document["session"]["id_token"] = token(&expired);
    home.write(&document);
    server.script(Endpoint::Token, [token_answer(&json!({ "id_token": token(&claims) }))]);
    let ran = home.run(&["whoami"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    home.write(&document);
    server.script(Endpoint::Token, [token_answer(&json!({}))]);
    let text = "onegrant: cannot tell who it is: the ID token has expired, and the server gives no other one when the grant is \
                refreshed\nhint: onegrant login\n";
    assert_eq!(home.run(&["whoami"]), Ran::failed(3, text));
    assert_eq!(server.counts().token_requests, 2);
}

#[test]
fn without_a_grant_a_login_is_required() {
    let text = "onegrant: profile default has no grant\nhint: onegrant login https://ADDRESS\n";
    assert_eq!(Home::new().run(&["whoami"]), Ran::failed(3, text));
}
