//! What each answer of the token endpoint means: exit code, text, what is stored, how many requests. One line per
//! kind of answer; each with a session that has ended, and with one that still works.

use crate::support::*;
use serde_json::{Value, json};
use servers::closed_port::ClosedPort;
use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

/// What becomes of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// Its bytes are the same.
    Kept,
    /// The configuration stays, the session is gone; kept where its access token still works.
    Cleared,
}

struct Case {
    name: &'static str,
    faults: Vec<Fault>,
    code: i32,
    /// The message behind `onegrant: `.
    message: String,
    hint: Option<&'static str>,
    requests: u64,
    stored: Stored,
}

const TRY_AGAIN: &str = "try again";
const LOGIN: &str = "onegrant login";
const ASK_ONCE_MORE: &str = "onegrant refresh   # asks once more; if the server refuses: onegrant login";
const CHECK: &str =
    "onegrant status   # shows client and scope; to change them: onegrant login --client-id ID --scope SCOPE";
const RESOURCE: &str = "onegrant login --resource URI   # or --audience: an API that this server knows";
const SCOPE: &str = "onegrant login --scope \"A B\"   # what this server lets this client ask for";

fn answer(status: u16, body: &str) -> Fault {
    Fault::Status(Response::new(status).header("content-type", "application/json").body(body))
}

fn page(status: u16, title: &str) -> Fault {
    let body =
        format!("<!doctype html><html><head><title>{title}</title></head><body><p>x</p></body></html>");
    Fault::Status(Response::new(status).header("content-type", "text/html").body(body))
}

/// The refresh token is spent by another process, or dead: asked once more before the verdict.
fn dead(name: &'static str, status: u16, body: &str, words: &str) -> Case {
    let message =
        format!("cannot refresh: the session of profile default has ended ({words}); a login is required");
    let (faults, hint) = (vec![answer(status, body); 2], Some(LOGIN));
    Case { name, faults, code: 3, message, hint, requests: 2, stored: Stored::Cleared }
}

fn refused(name: &'static str, code: i32, status: u16, body: &str, words: &str) -> Case {
    let message = format!("cannot refresh: the server refused: {words}; the session is kept");
    let hint = if code == 2 { CHECK } else { LOGIN };
    Case {
        name,
        faults: vec![answer(status, body)],
        code,
        message,
        hint: Some(hint),
        requests: 1,
        stored: Stored::Kept,
    }
}

/// A success that cannot be read: the refresh token may have been spent, and is sent once more.
fn unreadable(name: &'static str, fault: Fault, what: &str) -> Case {
    let what = format!("the server answered with status {what}");
    let message = format!("cannot refresh: {what}; then {what}; the refresh token may have been spent");
    let (faults, hint) = (vec![fault; 2], Some(ASK_ONCE_MORE));
    Case { name, faults, code: 4, message, hint, requests: 2, stored: Stored::Kept }
}

fn temporary(name: &'static str, fault: Fault, what: &str) -> Case {
    let message = format!("cannot refresh now: the server answered with status {what}; the session is kept");
    Case {
        name,
        faults: vec![fault],
        code: 4,
        message,
        hint: Some(TRY_AGAIN),
        requests: 1,
        stored: Stored::Kept,
    }
}

/// Meets the case and compares everything.
#[track_caller]
fn check(case: &Case, left: i64) {
    let name = case.name;
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, left);
    let mut document = home.document();
    server.script(Endpoint::Token, case.faults.clone());
    // Nothing may be sent once more than that.
    server.always(Endpoint::Token, Fault::status(418));
    let before = home.bytes();
    let arguments = if left > 0 { &AGEING[..] } else { &["token"] };
    let ran = home.run(arguments);
    let hint = case.hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    if left > 0 {
        let stderr = format!(
            "onegrant: warning: {}; the present access token is still valid and is used\n{hint}",
            case.message
        );
        assert_eq!(ran, Ran { stderr, ..Ran::printed(&issued.access_token) }, "{name}");
    } else {
        assert_eq!(ran, Ran::failed(case.code, format!("onegrant: {}\n{hint}", case.message)), "{name}");
    }
    assert_eq!(server.counts().token_requests, case.requests, "{name}");
    assert_eq!(server.counts().unexpected, 0, "{name}");
    if case.stored == Stored::Kept || left > 0 {
        assert_eq!(home.bytes(), before, "{name}");
    } else {
        document["session"] = Value::Null;
        let mut stored = home.document();
        stored.as_object_mut().unwrap().remove("rejected");
        assert_eq!(stored, document, "{name}");
    }
}

#[track_caller]
fn check_all(cases: &[Case]) {
    // Side by side: a dead grant costs a second.
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case, EXPIRED));
            scope.spawn(|| check(case, VALID));
        }
    });
}

#[rustfmt::skip]
#[test]
fn every_wording_of_a_dead_grant_ends_the_session() {
    check_all(&[
        dead("as the standard wants it",  400, r#"{"error":"invalid_grant","error_description":"Token expired."}"#, "invalid_grant: Token expired."),
        dead("200",                       200, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
        dead("401",                       401, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
        dead("403",                       403, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
        dead("404",                       404, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
        dead("behind a byte-order mark",  400, "\u{feff}{\"error\":\"invalid_grant\"}", "invalid_grant"),
        dead("GitHub",                    200, "error=bad_refresh_token&error_description=The+refresh+token+is+incorrect", "bad_refresh_token: The refresh token is incorrect"),
        dead("Slack",                     200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, "invalid_refresh_token"),
        dead("an object with a code",     401, r#"{"error":{"code":"refresh_token_reused","message":"used before"}}"#, "refresh_token_reused: used before"),
        dead("Supabase",                  400, r#"{"code":400,"error_code":"refresh_token_already_used","msg":"Already Used"}"#, "refresh_token_already_used: Already Used"),
        dead("Fitbit",                    400, r#"{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid: xx."}],"success":false}"#, "invalid_grant: Refresh token invalid: xx."),
        dead("the second of the errors",  400, r#"{"errors":[{"errorType":"validation"},{"errorType":"invalid_grant"}]}"#, "invalid_grant"),
        dead("errorCode",                 400, r#"{"errorCode":"invalid_grant","errorSummary":"The refresh token is invalid."}"#, "invalid_grant: The refresh token is invalid."),
        dead("in the message",            401, r#"{"message":"invalid_grant: revoked"}"#, "invalid_grant: revoked"),
        dead("a message in an object",    400, r#"{"error":{"code":400,"message":"invalid_grant"}}"#, "invalid_grant"),
        dead("a compound (Apigee)",       400, r#"{"fault":{"faultstring":"Dead","detail":{"errorcode":"keymanagement.service.invalid_refresh_token"}}}"#, "invalid_refresh_token: Dead"),
        dead("an array of errors",        400, r#"[{"errorCode":"invalid_grant","message":"m"}]"#, "invalid_grant: m"),
        dead("Hydra",                     401, r#"{"error":"token_inactive"}"#, "token_inactive"),
        dead("control characters",        400, "{\"error\":\"invalid_grant\",\"error_description\":\"a\\u001b[31mb\\nc\"}", "invalid_grant: a [31mb c"),
        dead("a long story",              400, &json!({"error": "invalid_grant", "error_description": "x".repeat(1000)}).to_string(), &format!("invalid_grant: {}", "x".repeat(285))),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_refusal_keeps_the_session() {
    check_all(&[
        refused("the person said no",     3, 403, r#"{"error":"access_denied","error_description":"no"}"#, "access_denied: no"),
        refused("with status 200",        3, 200, r#"{"error":"access_denied"}"#, "access_denied"),
        refused("a word of their own",    3, 400, r#"{"error":"mfa_required"}"#, "mfa_required"),
        refused("a status alone",         3, 404, "{}", "status 404"),
        refused("errorCode (Okta)",       3, 400, r#"{"errorCode":"E0000011","errorSummary":"Invalid token provided"}"#, "E0000011: Invalid token provided"),
        refused("errors (Fitbit)",        3, 401, r#"{"errors":[{"errorType":"expired_token","message":"m"}],"success":false}"#, "expired_token: m"),
        refused("errors with status 200", 3, 200, r#"{"errors":[{"errorType":"insufficient_scope","message":"m"}],"success":false}"#, "insufficient_scope: m"),
        refused("the client, in errors",  2, 401, r#"{"errors":[{"errorType":"invalid_client","message":"m"}]}"#, "invalid_client: m"),
        refused("nested and foreign",     3, 400, r#"{"error":{"type":"invalid_request_error","message":"no"},"x":[1]}"#, "invalid_request_error: no"),
        refused("the client is wrong",    2, 401, r#"{"error":"invalid_client"}"#, "invalid_client"),
        refused("not this client",        2, 400, r#"{"error":"unauthorized_client"}"#, "unauthorized_client"),
        Case { hint: Some(RESOURCE), ..refused("not this resource", 2, 400, r#"{"error":"invalid_target"}"#, "invalid_target") },
        Case { hint: Some(SCOPE), ..refused("not this scope", 2, 400, r#"{"error":"invalid_scope"}"#, "invalid_scope") },
    ]);
}

/// What a login stores that registered its client (RFC 7591).
fn registered(mut document: Value, server: &AuthorizationServer) -> Value {
    document["registration"] = json!({
        "issuer": server.issuer(),
        "endpoint": format!("{}/register", server.issuer()),
        "redirect_uri": "http://127.0.0.1:7/callback",
        "registered_at": 1,
    });
    document
}

/// The configuration is not wrong: a login registers another client.
#[test]
fn a_registered_client_that_the_server_forgot_needs_a_login_and_this_is_shared() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let response = Response::json(401, r#"{"error":"invalid_client"}"#.to_owned());
    server.always(Endpoint::Token, Fault::LateStatus(Duration::from_millis(50), response));
    for (document, code, hint) in
        [(home.document(), 2, CHECK), (registered(home.document(), &server), 3, "onegrant login --register")]
    {
        home.write(&document);
        server.reset_counts();
        let before = home.bytes();
        let what = "the server refused: invalid_client; the session is kept";
        let text = format!("onegrant: cannot refresh: {what}\nhint: {hint}\n");
        let ran = run_together((0..20).map(|_| home.command(&["token"])).collect());
        assert_all(&ran, &Ran::failed(code, text));
        assert_eq!(server.counts().token_requests, 1, "{code}");
        assert_eq!(home.bytes(), before, "{code}");
    }
    // The hint names the profile.
    fs::copy(home.document_path(), home.state.join("work.json")).unwrap();
    let ran = home.run(&["--profile", "work", "refresh"]);
    assert!(ran.stderr.ends_with("\nhint: onegrant --profile work login --register\n"), "{ran:?}");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    // The token that still works is handed out.
    home.write(&registered(document(&server, &issued, VALID), &server));
    let ran = home.run(&AGEING);
    assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", issued.access_token)));
    assert!(ran.stderr.ends_with("\nhint: onegrant login --register\n"), "{}", ran.stderr);
}

/// Some servers refuse every resource indicator (RFC 8707 section 2), and others want one.
#[test]
fn after_invalid_target_the_hint_depends_on_what_was_sent() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    server.always(Endpoint::Token, Fault::error(400, "invalid_target"));
    let without = "onegrant login --no-resource   # or --resource URI: an API that this server knows";
    for (no_resource, hint) in [(false, without), (true, RESOURCE)] {
        let mut document = home.document();
        document["resource"] = json!(["https://api.example/"]);
        document["no_resource"] = json!(no_resource);
        home.write(&document);
        let before = home.bytes();
        let text = format!(
            "onegrant: cannot refresh: the server refused: invalid_target; the session is kept\nhint: {hint}\n"
        );
        assert_eq!(home.run(&["token"]), Ran::failed(2, text), "{no_resource}");
        assert_eq!(home.bytes(), before);
    }
    let requests = server.requests_to(Endpoint::Token);
    let sent: Vec<_> = requests.iter().map(|request| request.parameter("resource")).collect();
    assert_eq!(sent, [Some("https://api.example/"), None]);
}

#[test]
#[rustfmt::skip]
fn a_failing_server_is_temporary_and_keeps_the_session() {
    check_all(&[
        temporary("429",                  answer(429, r#"{"error":"slow_down"}"#), "429: slow_down"),
        temporary("500",                  Fault::status(500), "500"),
        temporary("a gateway's page",     page(502, "502 Bad Gateway"), "502: 502 Bad Gateway"),
        temporary("a page with 404",      page(404, "Not Found"), "404 and no JSON object: Not Found"),
        temporary("a redirect to nowhere", Fault::status(302), "302, a redirect, which is not followed"),
    ]);
}

/// OpenID Connect Core sections 3.1.3.7 and 12.2.
#[test]
fn a_refresh_stores_no_id_token_that_cannot_be_trusted() {
    let server = server(|_| {});
    let good = json!({ "iss": server.issuer(), "sub": "me", "aud": server.client_id(), "exp": now() + 600 });
    let changed = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        jwt(&claims)
    };
    let before = changed("exp", json!(now() - 600));
    let cases = [
        ("good", jwt(&good), true),
        ("of another issuer", changed("iss", json!("https://other.example")), false),
        ("for another client", changed("aud", json!("other")), false),
        ("given to another client", changed("azp", json!("other")), false),
        ("expired", changed("exp", json!(now() - 301)), false),
        ("without an end", changed("exp", Value::Null), false),
    ];
    for (case, id_token, is_taken) in cases {
        for previous in [None, Some(&before)] {
            let (home, _) = Home::with_grant(&server, EXPIRED);
            let mut document = home.document();
            document["session"]["id_token"] = json!(previous);
            home.write(&document);
            server.script(Endpoint::Token, [token_answer(&json!({ "id_token": id_token }))]);
            assert_eq!(home.run(&["token"]), Ran::printed("at-new"), "{case}");
            let stored = if is_taken { json!(id_token) } else { json!(previous) };
            assert_eq!(home.document()["session"]["id_token"], stored, "{case}");
        }
    }
    // About another person than before.
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let mut document = home.document();
    document["session"]["id_token"] = json!(before);
    home.write(&document);
    let other = changed("sub", json!("you"));
    server.script(Endpoint::Token, [token_answer(&json!({ "id_token": other }))]);
    assert_eq!(home.run(&["token"]), Ran::printed("at-new"));
    assert_eq!(home.document()["session"]["id_token"], json!(before));
}

/// RFC 6749 section 5.1: what a client does not know it ignores, and the program that uses the token may need.
#[test]
fn members_beside_the_token_are_kept_and_printed_without_the_secrets_among_them() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let zoho = json!({
        "expires_in_sec": 3600, "expires_in": 3_600_000, "api_domain": "https://www.zohoapis.eu",
        "device_secret": "s3cret-of-the-device", "authed_user": { "id": "U1", "access_token": "xoxp-s3cret" },
    });
    let began = now();
    server.script(Endpoint::Token, [token_answer(&zoho)]);
    let printed = |arguments: &[&str]| serde_json::from_str::<Value>(&home.run(arguments).stdout).unwrap();
    let json = ["token", "--format", "json"];
    let extra = json!({ "api_domain": "https://www.zohoapis.eu", "authed_user": { "id": "U1" } });
    assert_eq!(printed(&json)["extra"], extra);
    let session = home.document()["session"].clone();
    assert_eq!(session["extra"], extra);
    assert!((began + 3600..=now() + 3600).contains(&session["expires_at"].as_i64().unwrap()), "{session}");
    assert!(!String::from_utf8(home.bytes()).unwrap().contains("s3cret"));

    // A refresh that is silent about them keeps them; one that names them again wins.
    server.script(
        Endpoint::Token,
        [token_answer(&json!({})), token_answer(&json!({ "api_domain": "b", "more": [1] }))],
    );
    assert_eq!(home.run(&["refresh"]), Ran::printed("at-new"));
    assert_eq!(printed(&json)["extra"], extra);
    assert_eq!(home.run(&["refresh"]), Ran::printed("at-new"));
    let extra = json!({ "api_domain": "b", "authed_user": { "id": "U1" }, "more": [1] });
    assert_eq!(printed(&json)["extra"], extra);
    assert!(!home.run(&["status", "--json"]).stdout.contains("api_domain"));
    assert_eq!(server.counts().token_requests, 3);

    // Members that another program put into a session stay where they are.
    let mut document = home.document();
    document["session"]["instance_url"] = json!("https://na1.example");
    document["session"]["extra"] = json!(true);
    document["session"]["expires_at"] = json!(now() + EXPIRED);
    home.write(&document);
    let token = home.run(&["token"]);
    assert_eq!(token.code, 0, "{token:?}");
    assert_eq!(home.document()["session"]["instance_url"], "https://na1.example");
}

#[rustfmt::skip]
#[test]
fn a_success_that_cannot_be_read_may_have_spent_the_refresh_token_and_is_asked_for_once_more() {
    check_all(&[
        unreadable("a page",                 page(200, "Welcome to the hotel"), "200 and a body that is not JSON: Welcome to the hotel"),
        unreadable("nothing at all",         answer(200, ""), "200 and no body"),
        unreadable("a status without body",  Fault::status(204), "204 and no body"),
        unreadable("another JSON value",     answer(200, "[]"), "200 and no JSON object"),
        unreadable("no token, no error",     answer(200, r#"{"token_type":"Bearer"}"#), "200 and neither an access token nor an error"),
        unreadable("an empty token",         answer(200, r#"{"access_token":"","refresh_token":"rt_x"}"#), "200 and an access token that is empty or holds control characters"),
        unreadable("a token with a newline", answer(200, r#"{"access_token":"at\r\nx: y","refresh_token":"rt_x"}"#), "200 and an access token that is empty or holds control characters"),
        unreadable("a number out of range",  answer(200, r#"{"access_token":"at_n","expires_in":1e999}"#), "200 and a body that is not JSON"),
    ]);
}

/// The server has rotated. With a grace period, the second request brings the session that the first answer did not.
#[test]
fn a_success_that_cannot_be_read_loses_no_session_of_a_server_with_a_grace_period() {
    for body in ["<html><title>Welcome</title>", "", "{\"token_type\":\"Bearer\"}"] {
        let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [Fault::StatusAfter(Response::new(200).body(body))]);
        assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token), "{body}");
        let counts = server.counts();
        assert_eq!((counts.token_requests, counts.rotations, counts.replays), (2, 1, 1), "{body}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{body}");
    }
}

/// Glewlwyd answers every refresh token that it does not take with 400 and nothing else.
#[test]
fn a_refusal_without_a_body_needs_a_login_and_is_shared() {
    for status in [400, 401] {
        let server = server(|settings| settings.delay_refusal = Duration::from_millis(50));
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        server.always(Endpoint::Token, Fault::LateStatus(Duration::from_millis(50), Response::new(status)));
        let before = home.bytes();
        let text = format!(
            "onegrant: cannot refresh: the server refused: status {status}: no reason was given; the session is kept\n\
             hint: onegrant login\n"
        );
        let ran = run_together((0..20).map(|_| home.command(&["token"])).collect());
        assert_all(&ran, &Ran::failed(3, text));
        assert_eq!(server.counts().token_requests, 1, "{status}");
        assert_eq!(home.bytes(), before, "{status}");
        let doctor = home.run(&["doctor"]).stdout;
        let warning = "the last refresh was refused at ";
        let line = doctor.lines().find(|line| line.contains(warning)).unwrap_or_default();
        assert!(line.starts_with("warn  grant") && line.contains(&format!("status {status}")), "{doctor}");
        let history = home.run(&["status", "--history"]).stdout;
        assert!(history.contains("refused") && history.contains("no reason was given"), "{history}");
        // The token that still works is handed out.
        home.write(&document(&server, &issued, VALID));
        assert_eq!(home.run(&AGEING).stdout, format!("{}\n", issued.access_token), "{status}");
    }
}

/// The caller has a token that works, and asked for another one.
#[test]
fn a_forced_refresh_that_fails_prints_no_token_and_ends_with_the_code_of_its_failure() {
    let faults = [
        (3, vec![answer(400, r#"{"error":"invalid_grant"}"#); 2]),
        (3, vec![answer(400, r#"{"error":"access_denied"}"#)]),
        (2, vec![answer(401, r#"{"error":"invalid_client"}"#)]),
        (4, vec![Fault::status(503)]),
        (4, vec![Fault::DropAfter, Fault::DropAfter]),
    ];
    for (code, faults) in faults {
        for lock in ["auto", "claim", "off"] {
            let server = server(|settings| settings.replay = Replay::Grace(LIMIT));
            let (home, issued) = Home::with_grant(&server, LIFETIME);
            let before = home.bytes();
            server.script(Endpoint::Token, faults.clone());
            let ran = home.run_with_lock(lock, &["refresh"]);
            assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{lock}: {ran:?}");
            assert!(!ran.stderr.contains("still valid"), "{lock}: {ran:?}");
            // Nothing was lost: the token works on.
            assert_eq!(home.bytes(), before, "{lock}: {faults:?}");
            assert_eq!(home.run_with_lock(lock, &["token"]), Ran::printed(&issued.access_token), "{lock}");
        }
    }
}

#[test]
fn retry_after_is_obeyed_inside_the_deadline() {
    let busy = |status, seconds: &str| Fault::Status(Response::new(status).header("retry-after", seconds));
    for status in [429, 503] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [busy(status, "0"), busy(status, "1")]);
        assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
        assert_eq!((server.counts().token_requests, server.counts().rotations), (3, 1));
        assert!(server.is_alive(&home.tokens().refresh_token));

        // Beyond the deadline, and for a token that still works, no process waits.
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        let before = home.bytes();
        server.reset_counts();
        server.always(Endpoint::Token, busy(status, "3600"));
        let ran = home.run(&["token"]);
        let text = format!(
            "cannot refresh now: the server answered with status {status} and asks to wait 1 h 0 min, until "
        );
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""));
        assert!(ran.stderr.starts_with(&format!("onegrant: {text}")), "{ran:?}");
        assert!(ran.stderr.ends_with(" GMT; the session is kept\nhint: try again\n"), "{ran:?}");
        assert_eq!(server.counts().token_requests, 1);
        assert_eq!(home.bytes(), before);
        server.always(Endpoint::Token, busy(status, "10"));
        home.write(&document(&server, &issued, VALID));
        assert_eq!(home.run(&AGEING).stdout, format!("{}\n", issued.access_token));
        assert_eq!(server.counts().token_requests, 2);
    }
}

#[test]
fn retry_after_is_honoured_at_most_ten_times() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    server.always(Endpoint::Token, Fault::Status(Response::new(429).header("retry-after", "0")));
    assert_eq!(home.run(&["token"]).code, 4);
    assert_eq!(server.counts().token_requests, 10);
}

/// No connection at all: nothing was sent.
#[test]
fn an_unreachable_server_is_a_temporary_failure() {
    let port = ClosedPort::reserve();
    let address = port.address();
    let (home, _) = Home::with_grant(&server(|_| {}), EXPIRED);
    let mut document = home.document();
    document["token_endpoint"] = json!(format!("http://{address}/token"));
    home.write(&document);
    let before = home.bytes();
    let text = format!(
        "onegrant: cannot refresh now: cannot connect to {address}: Connection refused; the session is kept\n\
         hint: try again\n"
    );
    assert_eq!(home.run(&["token"]), Ran::failed(4, text));
    assert_eq!(home.bytes(), before);
}

/// A document that was edited: the refresh token does not travel in the clear.
#[test]
fn a_token_endpoint_without_https_is_a_configuration_error() {
    let server = server(|_| {});
    for left in [EXPIRED, VALID] {
        let (home, issued) = Home::with_grant(&server, left);
        let mut document = home.document();
        document["token_endpoint"] = json!("http://as.example/token");
        home.write(&document);
        let before = home.bytes();
        let ran = home.run(if left > 0 { &AGEING[..] } else { &["token"] });
        assert!(ran.stderr.contains("http://as.example/token"), "{ran:?}");
        let stdout = format!("{}\n", issued.access_token);
        assert_eq!((ran.code, ran.stdout), if left > 0 { (0, stdout) } else { (2, String::new()) });
        assert_eq!(home.bytes(), before);
        assert_eq!(home.names(), ["default.json", "default.lock"]);
    }
}

/// The faults that leave it open whether the refresh token was spent, and whether it was.
fn lost_answers() -> Vec<(&'static str, Fault, bool)> {
    vec![
        ("dropped before", Fault::DropBefore, false),
        ("reset before", Fault::ResetBefore, false),
        ("dropped after", Fault::DropAfter, true),
        ("reset after", Fault::ResetAfter, true),
        ("cut short", Fault::Truncate(20), true),
    ]
}

/// The second answer would be as long: one request, whatever the server does about replays, and the next process decides.
#[test]
fn an_answer_beyond_the_size_limits_is_not_requested_again() {
    let long_head = |length: usize| {
        Fault::StatusAfter(Response::json(200, r#"{"access_token":"a"}"#).header("x", "x".repeat(length)))
    };
    for (fault, what) in [
        (Fault::Huge(2 << 20), "the answer from ADDRESS is longer than 1048576 bytes"),
        (long_head(200_000), "the head of the answer from ADDRESS is longer than 65536 bytes"),
    ] {
        for lock in ["auto", "claim", "off"] {
            let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
            let (home, _) = Home::with_grant(&server, EXPIRED);
            let before = home.bytes();
            server.script(Endpoint::Token, [fault.clone()]);
            let ran = home.run_with_lock(lock, &["token"]);
            let what = what.replace("ADDRESS", server.issuer().trim_start_matches("http://"));
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{lock}: {ran:?}");
            assert!(
                ran.stderr.contains(&format!("{what}; the refresh token may have been spent")),
                "{lock}: {ran:?}"
            );
            assert!(
                !ran.stderr.contains("try again") && !ran.stderr.contains("disconnected"),
                "{lock}: {ran:?}"
            );
            assert_eq!((server.counts().token_requests, server.counts().rotations), (1, 1), "{lock}");
            assert_eq!(home.bytes(), before, "{lock}");
            assert_eq!(
                home.run_with_lock(lock, &["token"]),
                Ran::printed(&home.tokens().access_token),
                "{lock}"
            );
        }
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The rotated refresh token is in an answer that is compressed, although the request did not allow that.
#[test]
fn a_compressed_answer_gives_its_token_for_one_request() {
    let tokens = json!({"access_token": "at_zip", "refresh_token": "rt_zip", "expires_in": 3600}).to_string();
    for coding in [None, Some("gzip"), Some("x-gzip")] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let mut compressed = Response::json(200, "").body(gzip(tokens.as_bytes()));
        compressed.headers.extend(coding.map(|coding| ("content-encoding".to_owned(), coding.to_owned())));
        server.script(Endpoint::Token, [Fault::StatusAfter(compressed)]);
        assert_eq!(home.run(&["token"]), Ran::printed("at_zip"), "{coding:?}");
        assert_eq!(home.tokens().refresh_token, "rt_zip", "{coding:?}");
        let requests = server.requests();
        assert_eq!(requests.len(), 1, "{coding:?}");
        assert_eq!(requests[0].header("accept-encoding"), Some("identity"));
    }
}

/// A coding that is not known here: the refresh token may have been spent, so that the answer is asked for once more.
#[test]
fn an_answer_in_an_unknown_coding_is_asked_for_once_more() {
    let unreadable = || {
        let damaged = gzip(&b"{}".repeat(99)).into_iter().take(15).collect::<Vec<u8>>();
        [("br", vec![0x8b, 3, 0x80, b'x', 3]), ("zstd", vec![0x28, 0xb5, 0x2f, 0xfd]), ("gzip", damaged)]
    };
    for (coding, body) in unreadable() {
        let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let answer = Response::json(200, "").header("content-encoding", coding).body(body);
        server.script(Endpoint::Token, [Fault::StatusAfter(answer.clone())]);
        assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token), "{coding}");
        assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{coding}");

        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.reset_counts();
        server.always(Endpoint::Token, Fault::StatusAfter(answer));
        let ran = home.run(&["token"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{coding}: {ran:?}");
        assert!(ran.stderr.contains("status 200 and a body that cannot be read: it"), "{coding}: {ran:?}");
        assert!(ran.stderr.contains("the refresh token may have been spent"), "{coding}: {ran:?}");
        assert_eq!(server.counts().token_requests, 2, "{coding}");
    }
}

/// What the document says about the token endpoint is wrong from now on; nothing is sent to the target.
#[test]
fn a_token_endpoint_that_has_moved_for_good_is_a_configuration_error() {
    for (status, location, target) in [
        (301, "/token/", "BASE/token/"),
        (308, "/oauth/token?refresh_token=rt", "BASE/oauth/token"),
        (301, "https://as.example/token", "https://as.example/token"),
        // A server behind a proxy that does not know its own scheme.
        (301, "http://as.example/token", "https://as.example/token   # if the server has it with https"),
    ] {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        let before = home.bytes();
        server.always(Endpoint::Token, Fault::Status(Response::new(status).header("location", location)));
        let ran = home.run(&["token"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{status}: {ran:?}");
        assert!(ran.stderr.contains("the endpoint has moved to http"), "{status}: {ran:?}");
        assert!(
            ran.stderr.contains("; the session is kept\n") && !ran.stderr.contains("try again"),
            "{ran:?}"
        );
        assert!(!ran.stderr.contains(&issued.refresh_token), "{ran:?}");
        let hint = format!(" --token-endpoint {}\n", target.replace("BASE", &server.issuer()));
        assert!(ran.stderr.ends_with(&hint), "{status}: {ran:?}");
        assert_eq!(home.bytes(), before);
        assert_eq!(server.requests().len(), 1, "the target was not asked");

        home.write(&document(&server, &issued, VALID));
        assert_eq!(home.run(&AGEING).stdout, format!("{}\n", issued.access_token), "it still works");
    }
}

/// Also a command with more than one space in a row.
#[test]
fn all_waiters_report_the_same_failure() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    server.always(Endpoint::Token, Fault::LateStatus(Duration::from_millis(50), Response::new(204)));
    let ran = run_together((0..20).map(|_| home.command(&["token"])).collect());
    let what = "the server answered with status 204 and no body";
    let text = format!(
        "onegrant: cannot refresh: {what}; then {what}; the refresh token may have been spent\nhint: {ASK_ONCE_MORE}\n"
    );
    assert_all(&ran, &Ran::failed(4, text));
    assert_eq!(server.counts().token_requests, 2);
}

#[test]
fn a_redirect_with_retry_after_reports_the_wait() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let later = Response::new(307).header("location", "/later").header("retry-after", "99");
    server.script(Endpoint::Token, [Fault::Status(later)]);
    let ran = home.run(&["token"]);
    let wanted = ["asks to wait 1 min 39 s", "a redirect to ", "/later, which is not followed", TRY_AGAIN];
    assert!(ran.code == 4 && wanted.iter().all(|words| ran.stderr.contains(words)), "{ran:?}");
}

/// The option that names the store is on no command line that is pasted without it.
#[test]
fn a_hint_names_the_store_and_the_profile_also_in_warnings_and_helper_protocols() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, VALID);
    fs::rename(home.document_path(), home.state.join("work.json")).unwrap();
    let store = format!("file:{}", home.state.display());
    let run = |words: &[&str]| {
        let mut command = home.command(&["--store", &store, "--profile", "work"]);
        crate::support::run(command.args(words).env("ONEGRANT_HOME", home.root.join("elsewhere")))
    };
    let refused = || answer(401, r#"{"error":"invalid_client"}"#);
    server.always(Endpoint::Token, refused());
    let options = format!("onegrant --store '{store}' --profile work ");
    let wanted = CHECK.replace("onegrant ", &options);
    let ran = run(&AGEING);
    assert_eq!(ran.stdout.trim_end(), issued.access_token, "{ran:?}");
    assert!(ran.stderr.ends_with(&format!("hint: {wanted}\n")), "{ran:?}");
    let ran = run(&["helper", "gcloud"]);
    assert!(ran.stdout.contains(&options), "{ran:?}");
}

/// A redirect that does not say that it is for good may be so all the same.
#[test]
fn the_hint_of_a_redirected_token_endpoint_is_a_login_that_works() {
    let server = server(|settings| settings.auto_approve = true);
    let redirects = [(true, 308, 2), (false, 301, 2), (true, 302, 4), (false, 303, 4), (true, 307, 4)];
    for (issuer_is_known, status, code) in redirects {
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let mut stored = home.document();
        stored["device_authorization_endpoint"] = json!(format!("{}/device_authorization", server.issuer()));
        stored["audience"] = json!("https://api.example");
        stored["parameters"] = json!({"tenant": "t 1"});
        if !issuer_is_known {
            stored["issuer_is_assumed"] = json!(true);
        }
        home.write(&stored);
        let moved = Response::new(status).header("location", "/token");
        server.script(Endpoint::Token, [Fault::Status(moved)]);
        let ran = home.run(&["token"]);
        assert_eq!((ran.code, &home.document()), (code, &stored), "{ran:?}");
        let (_, hint) = ran.stderr.rsplit_once("hint: onegrant ").unwrap();
        let words: Vec<&str> = hint.split_whitespace().take_while(|word| *word != "#").collect();
        let login = home.run(&words);
        assert_eq!(login.code, 0, "{hint}: {login:?}");
        let found = home.document();
        assert_eq!(found["token_endpoint"], format!("{}/token", server.issuer()), "{hint}");
        for kept in ["audience", "parameters", "client_id", "device_authorization_endpoint"] {
            assert_eq!(found[kept], stored[kept], "{hint}: {kept}");
        }
    }
}

/// Another origin gets what the command line says and nothing that is stored, so the hint says all of it.
#[test]
fn the_hint_of_an_endpoint_at_another_origin_is_a_login_that_works_without_the_resource() {
    let server = server(|settings| settings.auto_approve = true);
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let mut stored = home.document();
    stored["device_authorization_endpoint"] = json!(format!("{}/device_authorization", server.issuer()));
    stored["resource"] = json!(["https://mcp.example/mcp"]);
    stored["no_resource"] = json!(true);
    home.write(&stored);
    let target = server.url(Endpoint::Token).replace("127.0.0.1", "localhost");
    server.script(Endpoint::Token, [Fault::Status(Response::new(308).header("location", &target))]);
    let ran = home.run(&["token"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let (_, hint) = ran.stderr.rsplit_once("hint: onegrant ").unwrap();
    let login = home.run(&hint.split_whitespace().collect::<Vec<_>>());
    assert_eq!(login.code, 0, "{hint}: {login:?}");
    let found = home.document();
    assert_eq!(found["token_endpoint"], target, "{hint}");
    for kept in ["resource", "no_resource"] {
        assert_eq!(found[kept], stored[kept], "{hint}: {kept}");
    }
}

#[test]
fn a_lost_answer_is_asked_for_once_more() {
    for (name, fault, is_spent) in lost_answers() {
        let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [fault]);
        assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token), "{name}");
        let counts = server.counts();
        assert_eq!((counts.token_requests, counts.rotations), (2, 1), "{name}");
        assert_eq!(counts.replays, u64::from(is_spent), "{name}");
        let new = home.tokens();
        assert!(server.is_alive(&new.refresh_token) && new.refresh_token != issued.refresh_token, "{name}");
        assert_eq!(home.names(), ["default.json", "default.lock"], "{name}");
    }
}

/// Without a grace period the second request finds out; there is never a third.
#[test]
fn a_lost_answer_of_a_server_that_ends_the_family_is_asked_for_once_more_and_never_again() {
    for (name, fault, is_spent) in lost_answers() {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [fault]);
        let ran = home.run(&["token"]);
        assert_eq!(server.counts().token_requests, 2, "{name}");
        if is_spent {
            assert_eq!(ran.code, 3, "{name}: {ran:?}");
            assert!(ran.stderr.contains("after an answer was lost"), "{name}: {ran:?}");
            // What is dead stays dead without a request.
            assert_eq!(home.run(&["token"]).code, 3, "{name}");
            assert_eq!(server.counts().token_requests, 2, "{name}");
        } else {
            assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{name}");
        }
    }
}

#[test]
fn after_two_lost_answers_no_third_request_is_sent() {
    for (name, fault, _) in lost_answers() {
        for lock in ["auto", "claim", "off"] {
            let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
            let (home, _) = Home::with_grant(&server, EXPIRED);
            let before = home.bytes();
            server.always(Endpoint::Token, fault.clone());
            let ran = home.run_with_lock(lock, &["token"]);
            let start = "onegrant: cannot refresh: ";
            let end = format!("the refresh token may have been spent\nhint: {ASK_ONCE_MORE}\n");
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{name}, {lock}");
            assert!(ran.stderr.starts_with(start) && ran.stderr.ends_with(&end), "{name}, {lock}: {ran:?}");
            assert_eq!(ran.stderr.lines().count(), 2, "{name}, {lock}");
            assert_eq!(server.counts().token_requests, 2, "{name}, {lock}");
            assert_eq!(home.bytes(), before, "{name}, {lock}");

            // A later call is another attempt, and this server answers the same once more.
            server.clear_faults();
            let ran = home.run_with_lock(lock, &["token"]);
            assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{name}, {lock}");
            assert!(server.is_alive(&home.tokens().refresh_token), "{name}, {lock}");
        }
    }
}

#[test]
fn an_answer_that_drips_beyond_the_deadline_is_lost() {
    // Time enough to send the request on a machine that is busy.
    const TIMEOUT: &str = "5";
    let drip = Fault::DripBody { bytes: 1, every: Duration::from_millis(100) };
    let faults = [drip, Fault::StallBefore, Fault::StallAfter];
    // By a worker, and in place: without `/proc` there is no worker.
    let cases = [true, false].map(|by_worker| faults.each_ref().map(|fault| (fault, by_worker)));
    side_by_side(
        cases.as_flattened(),
        || (),
        |(), (fault, by_worker)| {
            let server = server(|_| {});
            let (home, issued) = Home::with_grant(&server, EXPIRED);
            let before = home.bytes();
            server.always(Endpoint::Token, (*fault).clone());
            let mut command = home.command(&["--timeout", TIMEOUT, "token"]);
            if !by_worker {
                command = in_namespace("umount -l /proc && exec \"$@\"", &home, &command);
            }
            let ran = run(&mut command);
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{fault:?}");
            assert!(ran.stderr.contains("no whole answer"), "{fault:?}: {ran:?}");
            assert_eq!(server.counts().token_requests, 1, "{fault:?}");
            assert_eq!(home.bytes(), before, "{fault:?}");

            // The token that still works is handed out all the same, when the deadline has passed.
            home.write(&document(&server, &issued, VALID));
            let ran = home.run(&["--timeout", TIMEOUT, AGEING[0], AGEING[1], AGEING[2]]);
            assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", issued.access_token)), "{fault:?}");
            assert!(ran.stderr.contains("still valid and is used"), "{fault:?}: {}", ran.stderr);
        },
    );
}

/// What was once lost is not called temporary because of what a second request met.
#[test]
fn a_failure_after_a_lost_answer_reports_both() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let before = home.bytes();
    let cases = [
        (4, Fault::status(503), "then the server answered with status 503"),
        (3, Fault::status(400), "then the server refused: status 400: no reason was given"),
        (2, answer(401, r#"{"error":"invalid_client"}"#), "then the server refused: invalid_client"),
    ];
    for (code, second, words) in cases {
        let requests = server.counts().token_requests;
        server.script(Endpoint::Token, [page(200, "Welcome"), second]);
        let ran = home.run(&["token"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains(": Welcome; ") && ran.stderr.contains(words), "{ran:?}");
        assert!(ran.stderr.contains("may have been spent") && !ran.stderr.contains("is kept"), "{ran:?}");
        assert_eq!(server.counts().token_requests, requests + 2);
        assert_eq!(home.bytes(), before);
    }
}

#[test]
#[rustfmt::skip]
fn unusual_answers_with_a_token_are_accepted() {
    // (case, body, lifetime, refresh token: none is the old one)
    let cases: [(&str, &str, Option<i64>, Option<&str>); 14] = [
        ("as the standard wants it",   r#"{"access_token":"at_n","token_type":"Bearer","expires_in":600,"refresh_token":"rt_n"}"#, Some(600), Some("rt_n")),
        ("no refresh token",           r#"{"access_token":"at_n","token_type":"Bearer","expires_in":600}"#, Some(600), None),
        ("an empty refresh token",     r#"{"access_token":"at_n","expires_in":600,"refresh_token":""}"#, Some(600), None),
        ("a null refresh token",       r#"{"access_token":"at_n","expires_in":600,"refresh_token":null}"#, Some(600), None),
        ("expires_in in quotes",       r#"{"access_token":"at_n","expires_in":"600","refresh_token":"rt_n"}"#, Some(600), Some("rt_n")),
        ("expires_in with a fraction", r#"{"access_token":"at_n","expires_in":600.9,"refresh_token":"rt_n"}"#, Some(600), Some("rt_n")),
        ("an absurd expires_in",       r#"{"access_token":"at_n","expires_in":1e300,"refresh_token":"rt_n"}"#, Some(315_360_000), Some("rt_n")),
        ("no expires_in",              r#"{"access_token":"at_n","refresh_token":"rt_n"}"#, None, Some("rt_n")),
        ("a negative expires_in",      r#"{"access_token":"at_n","expires_in":-5,"refresh_token":"rt_n"}"#, None, Some("rt_n")),
        ("another case",               r#"{"access_token":"at_n","token_type":"bEARER","expires_in":600,"refresh_token":"rt_n"}"#, Some(600), Some("rt_n")),
        ("a byte-order mark",          "\u{feff}{\"access_token\":\"at_n\",\"expires_in\":600,\"refresh_token\":\"rt_n\"}", Some(600), Some("rt_n")),
        ("form-encoded",               "access_token=at_n&expires_in=600&refresh_token=rt_n&token_type=bearer", Some(600), Some("rt_n")),
        ("members of no error",        r#"{"access_token":"at_n","expires_in":600,"refresh_token":"rt_n","error":null,"error_description":""}"#, Some(600), Some("rt_n")),
        ("foreign members",            r#"{"access_token":"at_n","expires_in":600,"refresh_token":"rt_n","a":{"b":[{}]}}"#, Some(600), Some("rt_n")),
    ];
    for (name, body, lifetime, refresh_token) in cases {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [answer(200, body)]);
        let began = now();
        assert_eq!(home.run(&["token"]), Ran::printed("at_n"), "{name}");
        let session = home.document()["session"].clone();
        assert_eq!(session["access_token"], "at_n", "{name}");
        assert_eq!(session["token_type"], "Bearer", "{name}");
        assert_eq!(session["refresh_token"], refresh_token.unwrap_or(&issued.refresh_token), "{name}");
        let obtained_at = session["obtained_at"].as_i64().unwrap();
        assert!((began..=now()).contains(&obtained_at), "{name}");
        assert_eq!(session["expires_at"].as_i64(), lifetime.map(|lifetime| obtained_at + lifetime), "{name}");
        // And the next call finds it.
        assert_eq!(home.run(&["token"]), Ran::printed("at_n"), "{name}");
        assert_eq!(server.counts().token_requests, 1, "{name}");
    }
}

/// A lifetime below every margin: the process that got it hands it out, and the next one refreshes.
#[test]
fn a_new_token_is_printed_even_if_its_lifetime_is_short() {
    let server = server(|settings| settings.lifetime = Some(Duration::from_secs(1)));
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let first = home.run(&["token", "--min-ttl", "3600"]);
    assert_eq!((first.code, first.stdout), (0, format!("{}\n", home.tokens().access_token)));
    assert!(server.is_alive(&home.tokens().refresh_token));
    assert_eq!(server.counts().rotations, 1);
}

#[test]
fn a_grant_that_does_not_rotate_keeps_its_refresh_token() {
    for repeats in [false, true] {
        let server = server(|settings| {
            (settings.rotation, settings.repeats_refresh_token) = (false, repeats);
        });
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        for round in 1..=3 {
            assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
            assert_eq!(home.tokens().refresh_token, issued.refresh_token);
            assert_eq!(server.counts().token_requests, round);
            home.write(&document(&server, &home.tokens(), EXPIRED));
        }
    }
}
