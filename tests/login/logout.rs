//! `onegrant logout`: three outcomes with different messages, and a deletion after every answer of the server.

use crate::support::keyring::Keyring;
use crate::support::*;
use serde_json::{Value, json};
use servers::authorization_server::Registration;
use std::fs;
use std::time::Duration;

fn done(stdout: &str) -> Ran {
    Ran { code: 0, stdout: stdout.to_owned(), stderr: String::new() }
}

/// The tokens that were to be revoked, in order.
fn revoked(server: &AuthorizationServer) -> Vec<String> {
    let requests = server.requests_to(Endpoint::Revocation);
    requests.iter().map(|request| request.parameter("token").unwrap().to_owned()).collect()
}

fn with_lock(home: &Home, lock: &str, arguments: &[&str]) -> Process {
    Process::start(home.command(arguments).env("ONEGRANT_LOCK", lock))
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
    let text =
        "onegrant: no access token: profile default has no grant\nhint: onegrant login https://ADDRESS\n";
    assert_eq!(home.run(&["token"]), Ran::failed(3, text));
    assert_eq!(Home::new().run(&["logout"]), nothing);
    assert_eq!(server.counts().revocations, 1);
}

#[test]
fn a_failed_revocation_is_reported_and_the_grant_is_deleted() {
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
        let usable =
            "; the refresh token stays usable until the server ends it; tokens handed out stay valid until ";
        assert!(ran.stderr.contains(usable), "{fault:?}: {}", ran.stderr);
        assert_eq!(home.names(), ["default.lock"], "{fault:?}");
        assert!(server.is_alive(&issued.refresh_token), "{fault:?}");
        assert_eq!(server.counts().revocations, 1, "{fault:?}");
    }
}

#[test]
fn without_a_revocation_the_tokens_that_stay_usable_are_named() {
    let server = server(|_| {});
    let usable = "the refresh token stays usable until the server ends it";
    // No endpoint; a token that has ended needs no word about its end.
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let mut document = home.document();
    document.as_object_mut().unwrap().remove("revocation_endpoint");
    home.write(&document);
    let text = format!(
        "not revoked: the server has no revocation endpoint; deleted here: profile default; {usable}\n"
    );
    assert_eq!(home.run(&["logout"]), done(&text));
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
    let text = format!(
        "not revoked: the server does not revoke such tokens; deleted here: profile default; {usable}\n"
    );
    assert_eq!(home.run(&["logout"]), done(&text));
    // No refresh token: the access token is all that there is.
    home.grant(&server, EXPIRED);
    let mut document = home.document();
    document["session"].as_object_mut().unwrap().remove("refresh_token");
    document.as_object_mut().unwrap().remove("revocation_endpoint");
    home.write(&document);
    let text = "not revoked: the server has no revocation endpoint; deleted here: profile default\n";
    assert_eq!(home.run(&["logout"]), done(text));
}

#[test]
fn local_sends_no_request() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let ran = home.run(&["logout", "--local"]);
    let start = "not revoked (--local); deleted here: profile default; the refresh token stays usable until the server \
                 ends it; tokens handed out stay valid until ";
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with(start) && ran.stdout.ends_with(" GMT\n"), "{}", ran.stdout);
    assert!(server.is_alive(&issued.refresh_token));
    assert_eq!(server.counts(), Default::default());
    assert_eq!(home.names(), ["default.lock"]);
}

#[test]
fn a_logout_keeps_other_profiles() {
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

/// Servers made with the Python MCP SDK want it.
#[test]
fn a_public_client_that_is_refused_revokes_once_more_with_an_empty_secret() {
    let refusals = [
        Fault::error(401, "unauthorized_client"),
        Fault::error(401, "invalid_client"),
        Fault::error(400, "invalid_client"),
        Fault::status(401),
        Fault::Status(Response::json(
            400,
            json!({"error": "invalid_request", "error_description": "client_secret: Field required"})
                .to_string(),
        )),
        // A framework that validates forms.
        Fault::Status(Response::json(
            422,
            json!({"detail": [{"loc": ["body", "client_secret"], "msg": "Field required"}]}).to_string(),
        )),
    ];
    for refusal in refusals {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, LIFETIME);
        server.script(Endpoint::Revocation, [refusal.clone()]);
        let ran = home.run(&["logout"]);
        assert_eq!(ran, done("revoked at the server, and deleted here: profile default\n"), "{refusal:?}");
        assert!(!server.is_alive(&issued.refresh_token), "{refusal:?}");
        let requests = server.requests_to(Endpoint::Revocation);
        let secrets: Vec<_> = requests.iter().map(|request| request.parameter("client_secret")).collect();
        assert_eq!(secrets, [None, Some("")], "{refusal:?}");
        assert_eq!(server.counts().unexpected, 0);
    }
    // After two refusals no third request is sent, and the message has the first refusal.
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    server.script(Endpoint::Revocation, [Fault::error(401, "invalid_client"), Fault::error(400, "odd")]);
    let ran = home.run(&["logout"]);
    assert!(
        ran.stderr.contains("revocation failed: the server answered with status 401: invalid_client"),
        "{ran:?}"
    );
    assert_eq!((ran.code, server.counts().revocations), (0, 2), "{ran:?}");
}

/// A confidential client has a secret, and an empty one proves nothing.
#[test]
fn a_confidential_client_that_is_refused_does_not_revoke_without_its_secret() {
    let server = server(|_| {});
    let home = Home::new();
    let mut document = document(&server, &server.issue_confidential_grant(), LIFETIME);
    document["client_id"] = json!(server.confidential_client_id());
    document["client_secret"] = json!(server.client_secret());
    document["client_auth"] = json!("basic");
    home.write(&document);
    server.always(Endpoint::Revocation, Fault::error(401, "invalid_client"));
    let ran = home.run(&["logout"]);
    assert!(ran.code == 0 && ran.stderr.contains("revocation failed"), "{ran:?}");
    assert_eq!(server.counts().revocations, 1);
}

#[test]
fn a_token_that_the_server_calls_dead_counts_as_revoked() {
    let words = |status, body: serde_json::Value| Fault::Status(Response::json(status, body.to_string()));
    let dead = [
        Fault::error(400, "invalid_grant"),
        Fault::error(400, "invalid_token"),
        Fault::error(401, "invalid_token"),
        Fault::error(403, "token_inactive"),
        words(400, json!({"error": "invalid_request", "error_description": "Token expired."})),
        words(400, json!({"status": 400, "message": "Invalid token"})),
        words(404, json!({"detail": "The refresh token has already been revoked."})),
        words(200, json!({"ok": false, "error": "token_revoked"})),
    ];
    for fault in dead {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, LIFETIME);
        server.always(Endpoint::Revocation, fault.clone());
        let ran = home.run(&["logout"]);
        assert_eq!(ran, done("revoked at the server, and deleted here: profile default\n"), "{fault:?}");
        assert_eq!(server.counts().revocations, 1, "{fault:?}");
    }
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    server.always(Endpoint::Revocation, Fault::error(500, "invalid_token"));
    let ran = home.run(&["logout"]);
    assert!(ran.stderr.contains("revocation failed"), "a server that fails proves nothing: {ran:?}");
}

/// A server with one client that registered itself, and a home with the grant of that client.
fn registered() -> (AuthorizationServer, Home, Issued, Value) {
    let server = server(|settings| settings.registration = Some(Registration::default()));
    let home = Home::new();
    let (client, issued) = server.issue_registered_grant();
    let mut document = document(&server, &issued, LIFETIME);
    document["client_id"] = json!(client.client_id);
    document["registration"] = json!({
        "issuer": server.issuer(),
        "endpoint": server.url(Endpoint::Registration),
        "redirect_uri": client.redirect_uris[0],
        "registered_at": now(),
        "management_uri": format!("{}{}", server.url(Endpoint::ClientConfiguration), client.client_id),
        "management_token": client.registration_access_token,
    });
    home.write(&document);
    (server, home, issued, document)
}

const REVOKED: &str = "revoked at the server, and deleted here: profile default\n";

/// RFC 7592 section 2.3.
#[test]
fn the_registration_of_the_client_ends_with_its_grant() {
    let (server, home, issued, document) = registered();
    let ran = home.run(&["-v", "logout"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, REVOKED), "{ran:?}");
    assert!(ran.stderr.contains("onegrant: the registration of the client was removed\n"), "{ran:?}");
    assert!(server.clients().is_empty() && !server.is_alive(&issued.refresh_token));
    assert_eq!(home.names(), ["default.lock"]);
    let requests = server.requests();
    let endpoints: Vec<_> = requests.iter().map(|request| request.endpoint).collect();
    assert_eq!(endpoints, [Some(Endpoint::Revocation), Some(Endpoint::ClientConfiguration)]);
    let token = document["registration"]["management_token"].as_str().unwrap();
    assert_eq!(requests[1].method, "DELETE");
    assert_eq!(requests[1].header("authorization"), Some(format!("Bearer {token}").as_str()));
    assert_eq!(server.counts().unexpected, 0);

    // A session that was found dead leaves the registration.
    let (server, home, _, mut document) = registered();
    document["session"] = Value::Null;
    home.write(&document);
    assert_eq!(home.run(&["logout"]), done("nothing to revoke; deleted here: profile default\n"));
    assert!(server.clients().is_empty());
    assert_eq!(server.requests().len(), 1);

    let (server, home, ..) = registered();
    assert_eq!(home.run(&["logout", "--local"]).code, 0);
    assert_eq!((server.requests().len(), server.clients().len()), (0, 1));
}

#[test]
fn a_registration_that_cannot_be_removed_changes_nothing_of_the_logout() {
    let warned = |why: &str| {
        format!("onegrant: warning: the registration of the client could not be removed: {why}\n")
    };
    let cases = [
        (Fault::status(503), warned("the server answered with status 503")),
        (
            Fault::error(400, "invalid_request"),
            warned("the server answered with status 400: invalid_request"),
        ),
        // The server says so, and no person can change it.
        (Fault::status(401), String::new()),
        (Fault::status(403), String::new()),
        (Fault::status(405), String::new()),
        // It is gone already.
        (Fault::status(404), String::new()),
        (Fault::status(410), String::new()),
    ];
    for (fault, stderr) in cases {
        let (server, home, ..) = registered();
        server.always(Endpoint::ClientConfiguration, fault.clone());
        let ran = home.run(&["logout"]);
        assert_eq!(ran, Ran { stderr, ..done(REVOKED) }, "{fault:?}");
        assert_eq!(home.names(), ["default.lock"], "{fault:?}");
        assert_eq!(server.requests_to(Endpoint::ClientConfiguration).len(), 1, "{fault:?}");
    }
    let (server, home, ..) = registered();
    server.always(Endpoint::ClientConfiguration, Fault::status(405));
    let ran = home.run(&["-v", "logout"]);
    let kept = "the server keeps the registration of the client: the server answered with status 405\n";
    assert!(ran.code == 0 && ran.stderr.contains(kept), "{ran:?}");

    // An answer that does not come.
    let (server, home, ..) = registered();
    server.always(Endpoint::ClientConfiguration, Fault::StallBefore);
    let ran = home.run(&["--timeout", "5", "logout"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, REVOKED), "{ran:?}");
    assert!(ran.stderr.starts_with(&warned("")[..warned("").len() - 1]), "{ran:?}");
    assert!(!home.document_path().exists());
}

/// The registration is not removed if the grant of another login needs it.
#[test]
fn several_sessions_of_one_registration_end_it_once_and_another_login_keeps_it() {
    for same_login in [true, false] {
        let (server, home, old, mut document) = registered();
        let gate = Gate::closed();
        server.script(Endpoint::Revocation, [Fault::HoldAnswer(gate.clone())]);
        let logout = with_lock(&home, "off", &["logout"]);
        server.wait_until(|counts| counts.revocations == 1);
        // As a refresh, or as the login of another process, stores it.
        document["session"]["refresh_token"] = json!("rt-newer");
        if !same_login {
            document["login"] = json!({ "id": "another", "at": 1, "flow": "browser" });
        }
        home.write(&document);
        gate.open();
        let ran = logout.finish();
        let removals = server.requests_to(Endpoint::ClientConfiguration).len();
        if same_login {
            assert_eq!(ran, done(REVOKED));
            assert_eq!(revoked(&server), [old.refresh_token.as_str(), "rt-newer"]);
            assert_eq!((removals, server.clients().len()), (1, 0));
        } else {
            assert_eq!(ran.code, 4, "{ran:?}");
            assert_eq!(revoked(&server), [old.refresh_token.as_str()]);
            assert_eq!((removals, server.clients().len()), (0, 1));
        }
    }
}

/// If claims bind, the refresh waits and reports the logout. If they do not, the logout finds the newer session.
#[test]
fn a_refresh_during_a_logout_without_a_lock_leaves_no_refresh_token_behind() {
    for lock in ["claim", "off"] {
        let server = server(|_| {});
        let (home, old) = Home::with_grant(&server, EXPIRED);
        let gate = Gate::closed();
        server.script(Endpoint::Revocation, [Fault::HoldAnswer(gate.clone())]);
        let logout = with_lock(&home, lock, &["logout"]);
        server.wait_until(|counts| counts.revocations == 1);
        let other = server.issue_grant();
        let newer = document(&server, &other, LIFETIME);
        match lock {
            "claim" => {
                let token = with_lock(&home, lock, &["token"]);
                gate.open();
                assert_eq!(token.finish().code, 3);
                assert_eq!(server.counts().refreshes, 0, "it waited for the logout");
            }
            _ => {
                // As a refresh of another process stores it.
                home.write(&newer);
                gate.open();
            }
        }
        let ran = logout.finish();
        assert_eq!(ran, done("revoked at the server, and deleted here: profile default\n"), "{lock}");
        assert!(!home.document_path().exists(), "{lock}");
        let wanted = match lock {
            "claim" => vec![old.refresh_token],
            _ => vec![old.refresh_token, other.refresh_token],
        };
        assert_eq!(revoked(&server), wanted, "{lock}");
        assert!(home.attempts().is_empty(), "{lock}");
    }
}

#[test]
fn a_login_during_a_logout_without_a_lock_stays() {
    for lock in ["claim", "off"] {
        let server = server(|_| {});
        let (home, old) = Home::with_grant(&server, LIFETIME);
        let gate = Gate::closed();
        server.script(Endpoint::Revocation, [Fault::HoldAnswer(gate.clone())]);
        let logout = with_lock(&home, lock, &["logout"]);
        server.wait_until(|counts| counts.revocations == 1);
        let new = server.issue_grant();
        let secret = home.root.join("refresh token");
        fs::write(&secret, format!("{}\n", new.refresh_token)).unwrap();
        let (token, revocation) = (server.token_endpoint(), server.url(Endpoint::Revocation));
        let endpoints = ["--token-endpoint", &token, "--revocation-endpoint", &revocation];
        let client = ["--client-id", server.client_id(), "--refresh-token-stdin"];
        let mut command = home.command(&[&["login"][..], &endpoints, &client].concat());
        command.env("ONEGRANT_LOCK", lock).stdin(fs::File::open(&secret).unwrap());
        let login = Process::start(&mut command);
        let ran = match lock {
            // The login waits for the claim, so it comes after the logout, however soon.
            "claim" => {
                gate.open();
                let ran = logout.finish();
                assert_eq!(login.finish().code, 0);
                ran
            }
            _ => {
                assert_eq!(login.finish().code, 0);
                gate.open();
                logout.finish()
            }
        };
        let said = match lock {
            "claim" => done("revoked at the server, and deleted here: profile default\n"),
            _ => Ran::failed(
                4,
                "onegrant: cannot log out: the earlier grant was revoked at the server, but another login was stored \
                 meanwhile, and stays\nhint: onegrant logout   # once more\n",
            ),
        };
        assert_eq!(ran, said, "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
        assert_eq!(revoked(&server), [old.refresh_token], "{lock}");
        assert_eq!(run(home.command(&["logout"]).env("ONEGRANT_LOCK", lock)).code, 0, "{lock}");
        assert!(!home.document_path().exists(), "{lock}");
    }
}

/// A store where each revocation meets a newer session: the logout gives up after a bounded number of them, and says so.
#[test]
fn other_processes_that_keep_storing_sessions_end_a_logout_with_exit_4() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let gates: Vec<Gate> = (0..8).map(|_| Gate::closed()).collect();
    server.script(Endpoint::Revocation, gates.iter().map(|gate| Fault::HoldAnswer(gate.clone())));
    let logout = with_lock(&home, "off", &["logout"]);
    let mut held = 0;
    for gate in &gates {
        held += 1;
        wait_for("the next revocation or the end", || {
            server.counts().revocations == held || logout.printed() != "" || logout.said() != ""
        });
        if server.counts().revocations < held {
            break;
        }
        home.grant(&server, LIFETIME);
        gate.open();
    }
    let text = "onegrant: cannot log out: other processes kept storing newer sessions, and the last one is still stored\n\
                hint: onegrant logout   # once more\n";
    assert_eq!(logout.finish(), Ran::failed(4, text));
    assert!(server.is_alive(&home.tokens().refresh_token), "what was not looked at stays");
    assert_eq!(server.counts().revocations, 5);
}

#[test]
fn an_answer_that_waits_beside_the_document_is_revoked_too() {
    let server = server(|_| {});
    let (keyring, old) = Keyring::with_grant(&server, EXPIRED);
    keyring.fault("store", "fail 'the keyring is full'\n");
    let left = keyring.run(&["token"]);
    assert_eq!(server.counts().refreshes, 1, "{left:?}");
    keyring.repair("store");
    let new = server.newest_refresh_token(&old.refresh_token).unwrap();
    let ran = keyring.run(&["logout"]);
    assert_eq!(ran, done("revoked at the server, and deleted here: profile default\n"));
    assert_eq!(revoked(&server), [new, old.refresh_token], "the newest one first");
    assert_eq!(keyring.beside(), ["default.lock"]);
    assert_eq!(keyring.run(&["token"]).code, 3);
}

/// The answer comes after the deadline. Were it waited for, the revocation would have succeeded.
#[test]
fn a_revocation_is_not_waited_for_past_the_deadline() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    server.script(Endpoint::Revocation, [Fault::DelayAnswer(Duration::from_secs(3))]);
    let ran = home.run(&["--timeout", "2", "logout"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "revocation failed; deleted here: profile default\n"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("revocation failed: "), "{ran:?}");
    assert_eq!(home.names(), ["default.lock"]);
    // Several of them share what there is.
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    keyring.fault("store", "fail 'the keyring is full'\n");
    keyring.run(&["token"]);
    keyring.repair("store");
    server.always(Endpoint::Revocation, Fault::DelayAnswer(Duration::from_secs(10)));
    let ran = keyring.run(&["--timeout", "8", "logout"]);
    assert_eq!(ran.stdout, "revocation failed; deleted here: profile default\n", "{ran:?}");
}

/// The message says how long the program was waited for.
#[test]
fn a_keyring_that_does_not_answer_gets_what_the_revocation_left_of_the_deadline() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, LIFETIME);
    server.always(Endpoint::Revocation, Fault::DelayAnswer(Duration::from_secs(60)));
    keyring.fault("erase", "sleep 50\n");
    let ran = keyring.run(&["--timeout", "4", "logout"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
    let (_, seconds) = ran.stderr.split_once("erase had not ended after ").unwrap();
    let seconds: f32 = seconds.split_once(" s").unwrap().0.parse().unwrap();
    assert!(seconds <= 2.0, "{ran:?}");
}
