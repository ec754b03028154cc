//! `--id-token` (OpenID Connect Core section 2): the other token of a grant, judged by its own `exp`.

use crate::support::*;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// How many processes ask at once.
const CROWD: usize = 20;

/// The lifetime of an ID token that is replaced in the test, and that of one that is not. The short one is longer than a busy
/// machine may stall, because an ID token that has ended is not handed out.
const SHORT: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(3600);

/// Whether a refresh brings an ID token.
#[derive(Clone, Copy, PartialEq)]
enum Refreshes {
    BringOne,
    BringNone,
}

/// A home whose access token lasts and whose ID token lasts `left` seconds.
fn home_with_id_token(refreshes: Refreshes, left: i64) -> (AuthorizationServer, Home, String) {
    let server = server(|settings| settings.refreshes_id_tokens = refreshes == Refreshes::BringOne);
    let issued = server.issue_grant();
    let id_token = id_token(&server, left);
    let home = Home::new();
    let mut document = document(&server, &issued, LIFETIME);
    // An earlier refresh than the end of the ID token.
    document["session"]["obtained_at"] = json!(now() - LIFETIME);
    document["session"]["id_token"] = json!(id_token);
    document["scope"] = json!("openid");
    home.write(&document);
    (server, home, id_token)
}

fn id_token(server: &AuthorizationServer, left: i64) -> String {
    let end = now() + left;
    jwt(
        &json!({ "iss": server.issuer(), "sub": "248289761001", "aud": server.client_id(), "iat": end - LIFETIME, "exp": end }),
    )
}

fn stored(home: &Home) -> String {
    home.document()["session"]["id_token"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn each_format_contains_the_id_token_and_its_own_end() {
    let (server, home, token) = home_with_id_token(Refreshes::BringNone, 600);
    let run = |format: &str| home.run(&["token", "--id-token", "--format", format]);
    for (format, wanted) in [
        ("raw", format!("{token}\n")),
        ("bare", token.clone()),
        ("bearer", format!("Bearer {token}\n")),
        ("header", format!("Authorization: Bearer {token}\n")),
        ("curl", format!("header = \"Authorization: Bearer {token}\"\n")),
    ] {
        assert_eq!(run(format), Ran { code: 0, stdout: wanted, stderr: String::new() });
    }
    let read = |format: &str| serde_json::from_str::<Value>(&run(format).stdout).unwrap();
    let object = read("json");
    assert_eq!((&object["id_token"], object.get("access_token")), (&json!(token), None));
    assert_eq!(object["expires_at"].as_i64(), onegrant::protocol::claims::expires_at(&token));
    let status = read("exec-credential")["status"].clone();
    assert_eq!(status["token"], json!(token));
    assert!(status["expirationTimestamp"].is_string(), "{status}");
    assert_eq!(server.counts(), Default::default());
}

/// The access token has ended and the ID token has not: it is printed without a request. The other way round, both are asked
/// for at once, and one refresh brings both.
#[test]
fn each_token_is_judged_by_its_own_end() {
    let (server, home, token) = home_with_id_token(Refreshes::BringOne, 600);
    let mut document = home.document();
    document["session"]["expires_at"] = json!(now() + EXPIRED);
    home.write(&document);
    assert_eq!(home.run(&["token", "--id-token"]), Ran::printed(&token));
    assert_eq!(server.counts(), Default::default());
    assert_eq!(home.run(&["token"]).code, 0);
    assert_eq!(server.counts().refreshes, 1);

    let (server, home, expired) = home_with_id_token(Refreshes::BringOne, -5);
    let access_token = home.tokens().access_token;
    assert_eq!(home.run(&["token"]), Ran::printed(&access_token));
    assert_eq!(server.counts(), Default::default());
    let ran = home.run(&["token", "--id-token"]);
    assert_ne!(stored(&home), expired);
    assert_eq!(ran, Ran::printed(&stored(&home)));
    assert_eq!(server.counts().refreshes, 1);
}

#[test]
fn a_crowd_shares_one_refresh_of_an_id_token_that_has_expired() {
    let (server, home, expired) = home_with_id_token(Refreshes::BringOne, -5);
    let words = ["token", "--id-token"];
    let processes: Vec<Process> = (0..CROWD).map(|_| Process::start(&mut home.command(&words))).collect();
    let all: Vec<Ran> = processes.into_iter().map(Process::finish).collect();
    let new = stored(&home);
    assert_ne!(new, expired);
    for ran in all {
        assert_eq!(ran, Ran::printed(&new));
    }
    assert_eq!(server.counts().refreshes, 1);
}

#[test]
fn an_answer_without_an_id_token_is_reported_to_all_after_one_refresh() {
    let (server, home, expired) = home_with_id_token(Refreshes::BringNone, -5);
    let wanted = Ran::failed(
        3,
        "onegrant: the ID token has expired, and the server gives no other one when the grant is refreshed\n\
         hint: onegrant login\n",
    );
    let words = ["token", "--id-token"];
    let processes: Vec<Process> = (0..CROWD).map(|_| Process::start(&mut home.command(&words))).collect();
    let all: Vec<Ran> = processes.into_iter().map(Process::finish).collect();
    for ran in all {
        assert_eq!(ran, wanted);
    }
    // A later process knows it, too. The access token of the refresh is stored and works.
    assert_eq!(home.run(&words), wanted);
    assert_eq!((stored(&home), server.counts().refreshes), (expired, 1));
    assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
    assert_eq!(server.counts().refreshes, 1);
}

#[test]
fn a_grant_without_an_id_token_names_the_scope_that_brings_one() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let ran = home.run(&["token", "--id-token"]);
    assert_eq!(
        ran,
        Ran::failed(3, "onegrant: the grant has no ID token\nhint: onegrant login --scope openid\n")
    );
    let mut document = home.document();
    document["scope"] = json!("read write");
    home.write(&document);
    let hint = "hint: onegrant login --scope 'read write openid'\n";
    assert!(home.run(&["token", "--id-token"]).stderr.ends_with(hint));
    // No login brings one here.
    document["grant"] = json!({ "type": "client_credentials" });
    home.write(&document);
    let why = "the grant has no ID token, because no person logged in (client credentials)";
    assert_eq!(home.run(&["token", "--id-token"]), Ran::failed(3, format!("onegrant: {why}\n")));
    assert_eq!(server.counts(), Default::default());
}

/// What another program, or an earlier version, may have stored. None of it is ever printed.
#[test]
fn an_id_token_whose_end_cannot_be_read_is_not_handed_out() {
    for (stored_token, why) in [
        (
            jwt(&json!({ "iss": "i", "sub": "s", "aud": "c" })),
            "the stored ID token does not say when it expires (exp)",
        ),
        (
            "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d".to_owned(),
            "the stored ID token is not a signed token that can be read",
        ),
        ("opaque".to_owned(), "the stored ID token is not a signed token that can be read"),
        // A line break would end the header that the token is sent in.
        (
            jwt(&json!({ "iss": "i", "sub": "s", "aud": "c", "exp": now() + 600 })) + "\r\nX-Other: 1",
            "the stored ID token is not a signed token that can be read",
        ),
    ] {
        let (server, home, _) = home_with_id_token(Refreshes::BringNone, 600);
        let mut document = home.document();
        document["session"]["id_token"] = json!(stored_token);
        home.write(&document);
        let wanted = Ran::failed(3, format!("onegrant: {why}\nhint: onegrant login\n"));
        assert_eq!(home.run(&["token", "--id-token"]), wanted, "{stored_token}");
        assert_eq!(server.counts(), Default::default());
    }
}

/// OpenID Connect Core sections 3.1.3.7 and 12.2: one of another server, for another client, of another person, without an
/// end, encrypted, with a line break. The refresh token was spent for the answer, so the rest of it is stored.
#[test]
fn an_id_token_of_a_refresh_that_cannot_be_trusted_is_not_taken() {
    let claims = |change: &Value| {
        let (server, home, expired) = home_with_id_token(Refreshes::BringNone, -5);
        let mut claims = json!({ "iss": server.issuer(), "sub": "248289761001", "aud": server.client_id(), "exp": now() + 600 });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        (server, home, expired, jwt(&claims))
    };
    for change in [
        json!({ "iss": "https://other.example" }),
        json!({ "aud": "other" }),
        json!({ "sub": "john" }),
        json!({ "exp": null }),
    ] {
        let (server, home, expired, brought) = claims(&change);
        server.script(Endpoint::Token, [token_answer(&json!({ "id_token": brought }))]);
        let ran = home.run(&["token", "--id-token"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{change}: {ran:?}");
        assert_eq!((stored(&home), home.tokens().access_token.as_str()), (expired, "at-new"), "{change}");
        assert_eq!(server.counts().token_requests, 1);
    }
    for change in [|_| "e30.a.b.c.d".to_owned(), |brought: String| brought + "\r\nX-Other: 1"] {
        let (server, home, expired, brought) = claims(&json!({}));
        server.script(Endpoint::Token, [token_answer(&json!({ "id_token": change(brought) }))]);
        assert_eq!(home.run(&["token", "--id-token", "--format", "header"]).code, 3);
        assert_eq!(stored(&home), expired);
    }
}

/// While the ID token lasts, a failed refresh is no error. Afterwards it is one, although the access token works.
#[test]
fn a_failed_refresh_costs_no_id_token_that_works() {
    for (left, code) in [(28, 0), (-5, 4)] {
        let (server, home, token) = home_with_id_token(Refreshes::BringNone, left);
        server.script(Endpoint::Token, [Fault::status(503)]);
        let ran = home.run(&["token", "--id-token"]);
        let printed = if code == 0 { format!("{token}\n") } else { String::new() };
        assert_eq!((ran.code, ran.stdout.as_str()), (code, printed.as_str()), "{ran:?}");
        assert!(ran.stderr.contains("status 503"), "{ran:?}");
        assert_eq!(ran.stderr.contains("; the present ID token is still valid and is used"), code == 0);
        assert_eq!(server.counts().token_requests, 1);
    }
}

/// In its last seconds it is replaced if the server gives another one. If not, one refresh has shown that.
#[test]
fn an_id_token_that_is_about_to_end_costs_one_refresh_at_most() {
    let (server, home, token) = home_with_id_token(Refreshes::BringNone, 28);
    for _ in 0..3 {
        assert_eq!(home.run(&["token", "--id-token"]), Ran::printed(&token));
    }
    assert_eq!(server.counts().refreshes, 1);
    let ran = home.run(&["token", "--id-token", "--min-ttl", "60"]);
    assert_eq!((ran.code, ran.stdout), (0, format!("{token}\n")));
    assert!(ran.stderr.contains("the token lasts less than --min-ttl asks"), "{}", ran.stderr);
    assert_eq!(server.counts().refreshes, 1);
}

/// The answer of the login was within `--min-ttl` of the end, and showed nothing about refreshes.
#[test]
fn an_id_token_that_has_expired_is_replaced_however_long_it_should_last() {
    for min_ttl in ["3600", "1000000000"] {
        let (server, home, expired) = home_with_id_token(Refreshes::BringOne, -5);
        let ran = home.run(&["token", "--id-token", "--min-ttl", min_ttl]);
        assert_ne!(stored(&home), expired);
        assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", stored(&home))), "{min_ttl}");
        assert_eq!(server.counts().refreshes, 1);
    }
}

/// It asks for one refresh, as for an access token, and never keeps an ID token that has ended from being replaced.
#[test]
fn a_min_ttl_that_no_id_token_reaches_costs_one_refresh() {
    let words = ["token", "--id-token", "--min-ttl", "7200"];
    for left in [-5, 20, 600, 3000] {
        let (server, home, before) = home_with_id_token(Refreshes::BringOne, left);
        let mut document = home.document();
        document["session"]["obtained_at"] = json!(now() + left - LIFETIME);
        home.write(&document);
        for _ in 0..3 {
            let ran = home.run(&words);
            assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", stored(&home))), "{left}: {}", ran.stderr);
        }
        assert_ne!(stored(&home), before, "{left}");
        assert_eq!(server.counts().refreshes, 1, "{left}");
    }
    for (left, code) in [(-5, 3), (600, 0)] {
        let (server, home, _) = home_with_id_token(Refreshes::BringNone, left);
        let mut document = home.document();
        document["session"]["obtained_at"] = json!(now() + left - LIFETIME);
        home.write(&document);
        for _ in 0..3 {
            assert_eq!(home.run(&words).code, code, "{left}");
        }
        assert_eq!(server.counts().refreshes, 1, "{left}");
    }
}

#[test]
fn exec_gives_the_id_token_in_a_variable_and_in_a_file() {
    let (server, home, token) = home_with_id_token(Refreshes::BringNone, 600);
    let script = "printf '%s\\n' \"$AZURE\"; cat \"$ACCESS_TOKEN_FILE\"";
    let words = ["exec", "--id-token", "--env", "AZURE", "--file", "token", "--", "/bin/sh", "-c", script];
    let ran = home.run(&words);
    assert_eq!(ran, Ran { code: 0, stdout: format!("{token}\n{token}\n"), stderr: String::new() });
    assert_eq!(fs::read_to_string(home.root.join("token")).unwrap(), format!("{token}\n"));
    assert_eq!(server.counts(), Default::default());
}

/// The access token lasts, so the end of the ID token is the only reason to refresh. `bare` has no newline, because many
/// programs send what is in the file as it is.
#[test]
fn the_file_of_an_id_token_is_replaced_before_the_id_token_ends_with_one_refresh_for_each() {
    let (server, home, expired) = home_with_id_token(Refreshes::BringOne, -5);
    server.adjust(|settings| settings.id_token_lifetime = SHORT);
    let gates: [Gate; 3] = std::array::from_fn(|_| Gate::closed());
    server.script(Endpoint::Token, gates.iter().map(|gate| Fault::Hold(gate.clone())));
    gates[0].open();
    let file = home.root.join("token");
    let read = || fs::read_to_string(&file).unwrap_or_default();
    let script = "cat token; while ! [ -e end ]; do sleep 0.02; done";
    // The file is replaced in the middle of the lifetime.
    let options = ["--id-token", "--min-ttl", "3600", "--format", "bare", "--file", "token"];
    let words = [&["exec"], &options[..], &["--", "/bin/sh", "-c", script]].concat();
    let process = Process::start(&mut home.command(&words));
    wait_for("what the command reads first", || !process.printed().is_empty());
    let mut tokens = vec![expired, read()];
    assert_eq!((process.printed(), &stored(&home)), (tokens[1].clone(), &tokens[1]));
    for gate in &gates[1..] {
        // The last one lasts, so nothing changes while the command ends.
        server.adjust(|settings| settings.id_token_lifetime = if tokens.len() == 2 { SHORT } else { LONG });
        gate.open();
        wait_for("another token in the file", || !tokens.contains(&read()));
        tokens.push(read());
    }
    fs::write(home.root.join("end"), "").unwrap();
    assert_eq!(process.finish().code, 0);
    assert_eq!(tokens.last(), Some(&stored(&home)));
    let counts = server.counts();
    assert_eq!((counts.refreshes, counts.rotations, counts.replays, counts.unexpected), (3, 3, 0, 0));
}

#[test]
fn status_shows_for_whom_the_id_token_is_and_when_it_ends() {
    let (_server, home, _) = home_with_id_token(Refreshes::BringNone, 600);
    let client = home.document()["client_id"].as_str().unwrap().to_owned();
    let object: Value = serde_json::from_str(&home.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(object["id_token"]["audience"], json!([client]));
    assert!(object["id_token"]["expires_at"].as_i64().unwrap() > now());
    let line = |home: &Home| {
        let text = home.run(&["status"]).stdout;
        text.lines().find_map(|line| line.strip_prefix("ID token")).map(|line| line.trim().to_owned())
    };
    assert!(line(&home).unwrap().starts_with(&format!("for {client}; valid for ")));
    let mut document = home.document();
    document["session"]["id_token"] = json!(jwt(&json!({ "aud": ["a\u{1b}[31m", "b"], "exp": 1000 })));
    home.write(&document);
    assert_eq!(line(&home).unwrap(), "for a [31m, b; expired since Thu, 01 Jan 1970 00:16:40 GMT");
    document["session"]["id_token"] = json!("e30.a.b.c.d");
    home.write(&document);
    assert_eq!(line(&home).unwrap(), "for no audience that can be read; it does not say when it expires");
    document["session"].as_object_mut().unwrap().remove("id_token");
    home.write(&document);
    assert_eq!(line(&home), None);
}
