//! `onegrant login --refresh-token-stdin`: spent once to prove it, then stored.

use crate::support::*;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

fn import(home: &Home, server: &AuthorizationServer, stdin: &str) -> Command {
    let path = home.root.join("stdin");
    fs::write(&path, stdin).unwrap();
    let token_endpoint = server.token_endpoint();
    let mut command = home.command(&["login", "--token-endpoint", &token_endpoint, "--client-id"]);
    command.args([server.client_id(), "--refresh-token-stdin"]).stdin(File::open(path).unwrap());
    command
}

#[test]
fn an_imported_refresh_token_is_spent_once_and_its_successor_stored() {
    for end in ["", "\n", "\r\n"] {
        let server = server(|_| {});
        let home = Home::new();
        let issued = server.issue_grant();
        let ran = run(&mut import(&home, &server, &format!("{}{end}", issued.refresh_token)));
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
        assert!(ran.stderr.starts_with("onegrant: logged in: profile default, access token valid until "));
        assert_eq!((server.counts().token_requests, server.counts().rotations), (1, 1));
        let stored = home.tokens();
        assert_eq!(server.newest_refresh_token(&issued.refresh_token).as_ref(), Some(&stored.refresh_token));
        assert!(server.is_alive(&stored.refresh_token));
        assert_eq!(home.run(&["token"]), Ran::printed(&stored.access_token));
        assert_eq!(home.document()["issuer"], json!(server.issuer()), "the origin is used");
        assert_eq!(server.counts().token_requests, 1);
    }
}

#[test]
fn a_server_that_does_not_rotate_leaves_the_imported_one() {
    let server = server(|settings| settings.rotation = false);
    let home = Home::new();
    let issued = server.issue_grant();
    let ran = run(&mut import(&home, &server, &issued.refresh_token));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stderr.contains("NO REFRESH TOKEN"), "{}", ran.stderr);
    assert_eq!(home.tokens().refresh_token, issued.refresh_token);
}

#[test]
fn what_the_server_refuses_is_not_stored_and_leaves_the_old_session() {
    let dead = "onegrant: cannot log in: the server refused the refresh token: invalid_grant: no such refresh token; nothing \
                was stored\nhint: onegrant login --device   # gets a new grant\n";
    let busy = "onegrant: cannot log in now: the server answered with status 503; nothing was stored\n\
                hint: try again with the same refresh token\n";
    for (token, fault, code, text) in
        [("rt_dead", None, 3, dead), ("rt_x", Some(Fault::status(503)), 4, busy)]
    {
        let server = server(|_| {});
        let home = Home::new();
        server.script(Endpoint::Token, fault.clone());
        // Where nothing is stored the command has to name the server.
        let first = format!(
            "onegrant login --token-endpoint {} --client-id {}",
            server.token_endpoint(),
            server.client_id()
        );
        let named = text.replace("onegrant login", &first);
        let named = named.replace(
            "--device   # gets a new grant",
            "--refresh-token-stdin < FILE   # with another refresh token",
        );
        assert_eq!(run(&mut import(&home, &server, token)), Ran::failed(code, named));
        assert!(!home.document_path().exists());
        let issued = home.grant(&server, LIFETIME);
        let before = home.bytes();
        server.script(Endpoint::Token, fault);
        assert_eq!(run(&mut import(&home, &server, token)), Ran::failed(code, text));
        assert_eq!(home.bytes(), before);
        assert!(server.is_alive(&issued.refresh_token));
        assert_eq!(server.counts().token_requests, 2);
    }
}

/// OpenID Connect Core section 3.1.3.7. The session is kept: its refresh token may be the only one that is left.
#[test]
fn an_imported_login_stores_no_id_token_that_cannot_be_trusted() {
    let server = server(|_| {});
    let good = json!({ "iss": server.issuer(), "sub": "me", "aud": server.client_id(), "exp": now() + 600 });
    let changed = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        jwt(&claims)
    };
    let cases = [
        ("good", jwt(&good), None),
        ("of another issuer", changed("iss", json!("https://other.example")), None),
        ("for another client", changed("aud", json!("other")), Some("it is for other, not for this client")),
        ("expired", changed("exp", json!(now() - 3600)), Some("by this machine's clock it has expired")),
        ("without an end", changed("exp", Value::Null), Some("it does not say when it expires (exp)")),
        ("without a subject", changed("sub", json!("")), Some("it names no person (sub)")),
        ("encrypted", "e30.a.b.c.d".to_owned(), Some("it is not a signed token")),
        ("no token", "opaque".to_owned(), Some("it is not a signed token")),
    ];
    for (case, id_token, why) in cases {
        let is_stored = why.is_none();
        let home = Home::new();
        server.script(Endpoint::Token, [token_answer(&json!({ "id_token": id_token }))]);
        let ran = run(&mut import(&home, &server, "rt_imported"));
        assert_eq!(ran.code, 0, "{case}: {ran:?}");
        let session = &home.document()["session"];
        let stored = if is_stored { json!(id_token) } else { Value::Null };
        assert_eq!(
            (&session["id_token"], &session["refresh_token"]),
            (&stored, &json!("rt_imported")),
            "{case}"
        );
        let warning = why
            .map(|why| format!("onegrant: warning: cannot trust the ID token: {why}; it was not stored\n"));
        assert_eq!(ran.stderr.contains("warning"), !is_stored, "{case}: {ran:?}");
        assert!(ran.stderr.starts_with(&warning.unwrap_or_default()), "{case}: {ran:?}");
    }
    // Where the server's metadata names the issuer, it is compared, too.
    let home = Home::new();
    let path = home.root.join("stdin");
    fs::write(&path, "rt_imported").unwrap();
    let foreign = changed("iss", json!("https://other.example"));
    server.script(Endpoint::Token, [token_answer(&json!({ "id_token": foreign }))]);
    let issuer = server.issuer();
    let mut command =
        home.command(&["login", &issuer, "--client-id", server.client_id(), "--refresh-token-stdin"]);
    assert_eq!(run(command.stdin(File::open(path).unwrap())).code, 0);
    assert_eq!(home.document()["session"]["id_token"], Value::Null);
}

#[test]
fn a_lost_answer_is_asked_for_once_more_and_never_again() {
    let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
    let home = Home::new();
    let issued = server.issue_grant();
    server.script(Endpoint::Token, [Fault::DropAfter]);
    assert_eq!(run(&mut import(&home, &server, &issued.refresh_token)).code, 0);
    assert!(server.is_alive(&home.tokens().refresh_token));
    assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1));

    let home = Home::new();
    let issued = server.issue_grant();
    server.reset_counts();
    server.always(Endpoint::Token, Fault::DropAfter);
    let ran = run(&mut import(&home, &server, &issued.refresh_token));
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("may have been spent; nothing was stored"), "{}", ran.stderr);
    assert_eq!(server.counts().token_requests, 2);
    assert!(!home.document_path().exists());
}

#[test]
fn input_that_is_no_refresh_token_is_not_sent() {
    let server = server(|_| {});
    let home = Home::new();
    for (stdin, why) in [
        ("", "it is empty or holds control characters"),
        ("\n", "it is empty or holds control characters"),
        ("rt_1\nrt_2\n", "it is empty or holds control characters"),
        (&"x".repeat(70_000), "longer than 65536 bytes"),
    ] {
        let text = format!("onegrant: cannot use the refresh token on stdin: {why}\n");
        assert_eq!(run(&mut import(&home, &server, stdin)), Ran::failed(2, text));
    }
    assert_eq!(server.counts().token_requests, 0);
    assert!(!home.document_path().exists());
}

#[test]
fn a_plain_address_that_is_not_loopback_is_refused_before_anything_is_sent() {
    let home = Home::new();
    fs::write(home.root.join("stdin"), "rt_secret").unwrap();
    let mut command =
        home.command(&["login", "--token-endpoint", "http://as.example/token", "--client-id", "c"]);
    command.arg("--refresh-token-stdin").stdin(File::open(home.root.join("stdin")).unwrap());
    let ran = run(&mut command);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains("http://as.example/token") && !ran.stderr.contains("rt_secret"), "{ran:?}");
}
