//! `onegrant logout`: three outcomes told apart, and a deletion whatever the server said.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at a surprise")]

mod support;

use serde_json::json;
use std::fs;
use support::*;

fn done(stdout: &str) -> Ran {
    Ran { code: 0, stdout: stdout.to_owned(), stderr: String::new() }
}

#[test]
fn a_grant_is_revoked_and_deleted() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    assert_eq!(home.run(&["logout"]), done("revoked at the server, and deleted here: profile default\n"));
    assert!(!server.is_alive(&issued.refresh_token) && !server.access_token_is_valid(&issued.access_token));
    assert_eq!(home.names(), ["default.lock"], "the lock is never removed");
    let requests = server.requests_to(Endpoint::Revocation);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].parameter("token"), Some(issued.refresh_token.as_str()));
    assert_eq!(requests[0].parameter("token_type_hint"), Some("refresh_token"));
    assert_eq!(server.counts().unexpected, 0);

    // Again, and from the beginning.
    let nothing = done("nothing to revoke, nothing to delete: profile default has no grant\n");
    assert_eq!(home.run(&["logout"]), nothing);
    let text = "onegrant: no access token: profile default has no grant\nhint: onegrant login ISSUER --client-id ID\n";
    assert_eq!(home.run(&["token"]), Ran::failed(3, text));
    assert_eq!(Home::new().run(&["logout"]), nothing);
    assert_eq!(server.counts().revocations, 1);
}

#[test]
fn a_revocation_that_fails_is_told_and_deletes_all_the_same() {
    for fault in [Fault::status(503), Fault::error(400, "invalid_request"), Fault::DropBefore] {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, LIFETIME);
        server.always(Endpoint::Revocation, fault.clone());
        let ran = home.run(&["logout"]);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, "revocation failed; deleted here: profile default\n"),
            "{fault:?}"
        );
        let (start, end) = ("onegrant: warning: revocation failed: ", " GMT\n");
        assert!(ran.stderr.starts_with(start) && ran.stderr.ends_with(end), "{fault:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("; tokens handed out stay valid until "), "{fault:?}: {}", ran.stderr);
        assert_eq!(home.names(), ["default.lock"], "{fault:?}");
        assert!(server.is_alive(&issued.refresh_token), "{fault:?}");
        assert_eq!(server.counts().revocations, 1, "{fault:?}");
    }
}

#[test]
fn where_there_is_nothing_to_revoke_it_says_so() {
    let server = server(|_| {});
    // No endpoint; a token that has ended needs no word about its end.
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let mut document = home.document();
    document.as_object_mut().unwrap().remove("revocation_endpoint");
    home.write(&document);
    assert_eq!(home.run(&["logout"]), done("nothing to revoke; deleted here: profile default\n"));
    // No session.
    home.grant(&server, LIFETIME);
    let mut document = home.document();
    document["session"] = json!(null);
    home.write(&document);
    assert_eq!(home.run(&["logout"]), done("nothing to revoke; deleted here: profile default\n"));
    assert_eq!(server.counts().revocations, 0);
    // A kind of token that the server does not revoke.
    home.grant(&server, EXPIRED);
    server.script(Endpoint::Revocation, [Fault::error(400, "unsupported_token_type")]);
    let text = "nothing to revoke: the server does not revoke such tokens; deleted here: profile default\n";
    assert_eq!(home.run(&["logout"]), done(text));
}

#[test]
fn local_asks_nobody() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let ran = home.run(&["logout", "--local"]);
    let start = "not revoked (--local); deleted here: profile default; tokens handed out stay valid until ";
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with(start) && ran.stdout.ends_with(" GMT\n"), "{}", ran.stdout);
    assert!(server.is_alive(&issued.refresh_token));
    assert_eq!(server.counts(), Default::default());
    assert_eq!(home.names(), ["default.lock"]);
}

#[test]
fn other_profiles_stay() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    fs::copy(home.document_path(), home.state.join("default-2.json")).unwrap();
    fs::copy(home.document_path(), home.state.join("work.json")).unwrap();
    assert_eq!(home.run(&["profiles"]), done("default\ndefault-2\nwork\n"));
    assert_eq!(home.run(&["logout", "--local"]).code, 0);
    assert_eq!(home.run(&["profiles"]), done("default-2\nwork\n"));
    assert_eq!(home.run(&["--profile", "work", "token"]).code, 0);
    assert_eq!(Home::new().run(&["profiles"]), done(""));
}

/// With a grant that has no refresh token the access token is revoked.
#[test]
fn without_a_refresh_token_the_access_token_is_revoked() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    document["session"].as_object_mut().unwrap().remove("refresh_token");
    home.write(&document);
    assert_eq!(home.run(&["logout"]).stdout, "revoked at the server, and deleted here: profile default\n");
    assert!(!server.access_token_is_valid(&issued.access_token));
    let requests = server.requests_to(Endpoint::Revocation);
    assert_eq!(requests[0].parameter("token_type_hint"), Some("access_token"));
}
