//! `onegrant status`: what is stored, without the network; and no secret in anything that any command says.

use crate::support::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};

fn object(ran: &Ran) -> Value {
    serde_json::from_str(ran.stdout.strip_suffix('\n').unwrap()).unwrap()
}

/// What is done to a document before it is written.
type Change = fn(&mut Value);

fn without_refresh_token(document: &mut Value) {
    document["session"].as_object_mut().unwrap().remove("refresh_token");
}

fn cleared(document: &mut Value) {
    document["session"] = Value::Null;
}

#[test]
fn the_state_and_the_exit_code_say_whether_a_token_can_be_had() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let with = |left: i64, change: Change| {
        let mut document = document(&server, &issued, left);
        change(&mut document);
        home.write(&document);
    };
    let cases: [(&str, i64, Change, &str, i32); 7] = [
        ("fresh", LIFETIME, |_| {}, "valid", 0),
        ("ageing", 20, |_| {}, "refreshable", 0),
        ("expired", EXPIRED, |_| {}, "refreshable", 0),
        ("fresh alone", LIFETIME, without_refresh_token, "valid", 0),
        ("ageing alone", 20, without_refresh_token, "valid", 0),
        ("expired alone", EXPIRED, without_refresh_token, "login_required", 3),
        ("cleared", EXPIRED, cleared, "login_required", 3),
    ];
    for (case, left, change, state, code) in cases {
        with(left, change);
        let before = home.bytes();
        let ran = home.run(&["status", "--json"]);
        assert_eq!((ran.code, &object(&ran)["state"]), (code, &json!(state)), "{case}");
        let text = home.run(&["status"]);
        assert_eq!((text.code, &text.stderr), (code, &ran.stderr), "{case}");
        assert_eq!(ran.stderr.is_empty(), code == 0, "{case}: {}", ran.stderr);
        if code == 3 {
            assert!(ran.stderr.ends_with("\nhint: onegrant login\n"), "{case}: {}", ran.stderr);
        }
        assert_eq!(home.bytes(), before, "{case}");
    }
    assert_eq!(server.counts(), Default::default(), "without the network");
    let text = "onegrant: profile default has no grant\nhint: onegrant login https://ADDRESS\n";
    assert_eq!(Home::new().run(&["status"]), Ran::failed(3, text));
}

#[test]
fn a_grant_that_was_found_dead_needs_a_login() {
    for lock in ["auto", "claim", "off"] {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        server.end_grant(&issued.refresh_token);
        let dead = home.run_with_lock(lock, &["token"]);
        assert_eq!(dead.code, 3);
        let ran = home.run_with_lock(lock, &["status", "--json"]);
        assert_eq!((ran.code, &ran.stderr), (3, &dead.stderr), "{lock}");
        assert_eq!(object(&ran)["state"], "login_required", "{lock}");
    }
}

#[test]
fn status_shows_everything_but_the_secrets() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    assert_eq!(home.run(&["token"]).code, 0);
    let stored = home.document();
    let ran = home.run(&["status", "--json"]);
    let mut text = object(&ran);
    let valid_for = text["valid_for"].take().as_i64().unwrap();
    assert!((1..=3600).contains(&valid_for));
    let last_refresh = text["last_refresh"].take();
    assert_eq!(last_refresh, stored["last_refresh"]);
    let host = rustix::system::uname();
    assert_eq!(last_refresh["host"], json!(host.nodename().to_string_lossy()));
    assert_eq!(
        text,
        json!({
            "profile": "default",
            "store": format!("file:{}", home.state.display()),
            "document": home.document_path().display().to_string(),
            "state": "valid",
            "issuer": server.issuer(),
            "token_endpoint": server.token_endpoint(),
            "client_id": server.client_id(),
            "client_auth": "none",
            "scope": "openid profile offline_access",
            "expires_at": stored["session"]["expires_at"],
            "valid_for": null,
            "obtained_at": stored["session"]["obtained_at"],
            "has_refresh_token": true,
            "grant": "refresh_token",
            "environment": { "ONEGRANT_HOME": home.state.display().to_string() },
            "lock": "auto",
            "level": "locked",
            "last_refresh": null,
        })
    );
    let text = home.run(&["status"]).stdout;
    let names: Vec<&str> = text.lines().map(|line| line.get(..14).unwrap().trim_end()).collect();
    assert_eq!(
        names,
        [
            "profile",
            "document",
            "environment",
            "issuer",
            "client",
            "scope",
            "access token",
            "refresh token",
            "refreshed",
            "level"
        ]
    );
    assert!(text.contains(&format!("by process {} on ", last_refresh["pid"])), "{text}");
}

#[test]
fn a_refresh_token_that_expires_soon_is_a_warning() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    // (member of the answer, its name at which servers)
    for member in ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"] {
        let before = now();
        let mut document = home.document();
        document["session"]["expires_at"] = json!(now() + EXPIRED);
        home.write(&document);
        server.script(Endpoint::Token, [token_answer(&json!({ member: 604_799 }))]);
        assert_eq!(home.run(&["token"]), Ran::printed("at-new"));
        let end = home.document()["session"]["refresh_token_expires_at"].as_i64().unwrap();
        assert!((before + 604_799..=now() + 604_799).contains(&end), "{member}");
        let json = home.run(&["status", "--json"]);
        assert_eq!(object(&json)["refresh_token_expires_at"], json!(end), "{member}");
        for ran in [json, home.run(&["status"])] {
            assert_eq!(ran.code, 0, "{ran:?}");
            assert!(ran.stderr.starts_with("onegrant: warning: the refresh token expires in "), "{ran:?}");
            assert!(ran.stderr.contains(" GMT: a login is required then, unless a refresh "), "{ran:?}");
        }
        // The hint of a warning works on this store, too.
        let store = format!("file:{}", home.state.display());
        let mut elsewhere = home.command(&["--store", &store, "status"]);
        let ran = run(elsewhere.env("ONEGRANT_HOME", home.root.join("elsewhere")));
        let hint = format!("\nhint: onegrant --store '{store}' login");
        assert!(ran.stderr.contains(&hint), "{ran:?}");
    }
    // A refresh that is silent about it has not changed it; one that brings another refresh token has.
    let end = home.document()["session"]["refresh_token_expires_at"].clone();
    for (members, wanted) in [(json!({}), end), (json!({ "refresh_token": "rt-next" }), Value::Null)] {
        server.script(Endpoint::Token, [token_answer(&members)]);
        assert_eq!(home.run(&["refresh"]), Ran::printed("at-new"));
        assert_eq!(home.document()["session"]["refresh_token_expires_at"], wanted);
    }
    assert_eq!(home.run(&["status"]).stderr, "");

    // It has expired: the access token works on, and then a login is required.
    for (left, state, code) in [(LIFETIME, "valid", 0), (EXPIRED, "login_required", 3)] {
        let mut document = home.document();
        document["session"]["refresh_token_expires_at"] = json!(now() - 5);
        document["session"]["expires_at"] = json!(now() + left);
        home.write(&document);
        let ran = home.run(&["status", "--json"]);
        assert_eq!((ran.code, &object(&ran)["state"]), (code, &json!(state)));
        assert!(ran.stderr.starts_with("onegrant: warning: the refresh token has expired: "), "{ran:?}");
    }
}

#[test]
fn status_shows_the_resource_and_the_registration_without_its_secrets() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    let resource = json!(["https://mcp.example/mcp"]);
    let metadata = "https://mcp.example/.well-known/oauth-protected-resource/mcp";
    let mut registration = json!({
        "issuer": server.issuer(),
        "endpoint": format!("{}/register", server.issuer()),
        "redirect_uri": "http://127.0.0.1:7/callback",
        "registered_at": 784_111_777,
    });
    document["resource"] = resource.clone();
    document["resource_metadata"] = json!(metadata);
    document["client_secret"] = json!("s3cret-of-the-client");
    document["client_auth"] = json!("post");
    let secrets =
        json!({ "management_uri": "https://as.example/register/c", "management_token": "s3cret-token" });
    let set = |document: &mut Value, registration: &Value| {
        document["registration"] = registration.clone();
        document["registration"].as_object_mut().unwrap().extend(secrets.as_object().unwrap().clone());
        home.write(document);
    };
    set(&mut document, &registration);
    let ran = home.run(&["status", "--json"]);
    let shown = object(&ran);
    assert_eq!(shown["resource"], resource);
    assert_eq!(shown["resource_metadata"], json!(metadata));
    assert_eq!(shown["no_resource"], Value::Null);
    assert_eq!(shown["registration"], registration);
    let text = home.run(&["status"]);
    assert_eq!((ran.code, text.code, ran.stderr + &text.stderr), (0, 0, String::new()));
    let line =
        format!("\nregistered     by a login at Sun, 06 Nov 1994 08:49:37 GMT, with {}\n", server.issuer());
    assert!(text.stdout.contains(&line), "{text:?}");
    assert!(text.stdout.contains("\nresource       https://mcp.example/mcp\n"), "{text:?}");
    document["no_resource"] = json!(true);

    // (seconds left of the client secret, the warning)
    let (minute, day) = (60, 24 * 60 * 60);
    let cases = [
        (8 * day, None),
        (6 * day + minute, Some("the client secret expires in ")),
        (-5, Some("the client secret has expired: the server let it end at ")),
    ];
    for (left, warning) in cases {
        let end = now() + left;
        registration["client_secret_expires_at"] = json!(end);
        set(&mut document, &registration);
        let ran = home.run(&["status", "--json"]);
        assert_eq!(object(&ran)["registration"], registration, "{left}");
        assert_eq!(object(&ran)["no_resource"], json!(true));
        let text = home.run(&["status"]);
        assert!(text.stdout.contains("; its secret expires at "), "{left}: {text:?}");
        assert!(text.stdout.contains("https://mcp.example/mcp (not sent: --no-resource)\n"), "{text:?}");
        for ran in [ran, text] {
            assert_eq!(ran.code, 0, "{left}: {ran:?}");
            assert!(!ran.stdout.contains("s3cret") && !ran.stderr.contains("s3cret"), "{ran:?}");
            match warning {
                None => assert_eq!(ran.stderr, "", "{left}"),
                Some(warning) => {
                    let start = format!("onegrant: warning: {warning}");
                    assert!(ran.stderr.starts_with(&start), "{left}: {ran:?}");
                    assert!(ran.stderr.ends_with("\nhint: onegrant login --register\n"), "{left}: {ran:?}");
                }
            }
        }
    }
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn status_names_the_variables_that_take_effect() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let status = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.envs([
            ("ONEGRANT_PROFILE", "default"),
            ("ONEGRANT_LOCK", "claim"),
            ("ONEGRANT_TIMEOUT", "7"),
        ]);
        object(&run(&mut command))["environment"].clone()
    };
    let state = home.state.display().to_string();
    let (lock, timeout, profile) = ("claim", "7", "default");
    assert_eq!(
        status(&["status", "--json"]),
        json!({
            "ONEGRANT_HOME": state, "ONEGRANT_LOCK": lock, "ONEGRANT_PROFILE": profile, "ONEGRANT_TIMEOUT": timeout,
        })
    );
    let store = format!("--store=file:{state}");
    assert_eq!(
        status(&["status", "--json", "--profile", "default", "--timeout", "8", &store]),
        json!({ "ONEGRANT_LOCK": lock })
    );
    let text = run(home.command(&["status"]).env("ONEGRANT_LOCK", "claim")).stdout;
    assert!(text.contains(&format!("environment    ONEGRANT_HOME={state} ONEGRANT_LOCK=claim\n")), "{text}");
}

#[test]
fn status_shows_the_level() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    for (lock, level) in
        [("auto", "locked"), ("require", "locked"), ("claim", "claimed"), ("off", "compared")]
    {
        let text = object(&home.run_with_lock(lock, &["status", "--json"]));
        assert_eq!((&text["lock"], &text["level"]), (&json!(lock), &json!(level)));
        let text = home.run_with_lock(lock, &["status"]).stdout;
        assert!(text.lines().last().unwrap().starts_with(&format!("level          {level}: ")), "{text}");
    }
}

/// Collects what is printed, and the secrets that must not be in it.
#[derive(Default)]
struct OutputCheck {
    printed: Vec<(String, String)>,
    secrets: BTreeSet<String>,
}

impl OutputCheck {
    /// Everything but the one place where a token belongs.
    fn add_output(&mut self, what: &str, ran: &Ran, stdout_is_a_token: bool) {
        self.printed.push((format!("{what}: stderr"), ran.stderr.clone()));
        if !stdout_is_a_token {
            self.printed.push((format!("{what}: stdout"), ran.stdout.clone()));
        }
    }

    fn add_secrets(&mut self, home: &Home) {
        let Ok(bytes) = fs::read(home.document_path()) else { return };
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        for name in ["access_token", "refresh_token", "id_token"] {
            self.secrets.extend(document["session"][name].as_str().map(str::to_owned));
        }
    }
}

#[test]
fn no_output_contains_a_secret() {
    let server = server(|settings| (settings.auto_approve, settings.replay) = (true, Replay::Reject));
    let home = Home::new();
    let mut check = OutputCheck::default();
    let secret = home.root.join("secret");
    fs::write(&secret, server.client_secret()).unwrap();
    let issuer = server.issuer();
    let secret_file = secret.to_str().unwrap();
    let login = [
        "-vv",
        "login",
        &issuer,
        "--client-id",
        server.confidential_client_id(),
        "--client-secret-file",
        secret_file,
        "--scope",
        "openid offline_access",
    ];
    for more in [&[][..], &["--json"]] {
        let ran = run(home.command(&login).args(more));
        assert_eq!(ran.code, 0, "{ran:?}");
        check.add_output("login", &ran, false);
        check.add_secrets(&home);
    }
    let expire = |home: &Home| {
        let mut document = home.document();
        document["session"]["expires_at"] = json!(now() - 5);
        home.write(&document);
    };
    // A server that repeats what it was sent, in every answer that is shown.
    let echo = |status: u16, home: &Home| {
        let words = format!("{} {}", home.tokens().refresh_token, server.client_secret());
        let body = json!({ "error": "x", "error_description": words }).to_string();
        Fault::Status(Response::json(status, body))
    };
    for status in [400, 500, 200] {
        expire(&home);
        server.script(Endpoint::Token, [echo(status, &home)]);
        check.add_output("refused", &home.run(&["-vv", "token"]), false);
    }
    for fault in [Fault::DropAfter, Fault::Truncate(30), Fault::status(503)] {
        expire(&home);
        let newest = |home: &Home| server.newest_refresh_token(&home.tokens().refresh_token);
        server.script(Endpoint::Token, [fault, Fault::status(503)]);
        check.add_output("trouble", &home.run(&["-vv", "token"]), false);
        check.secrets.extend(newest(&home));
        // As if the answer had come after all.
        let mut document = home.document();
        document["session"]["refresh_token"] = json!(newest(&home));
        home.write(&document);
    }
    server.clear_faults();
    let ran = home.run(&["-vv", "token"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    check.add_output("token", &ran, true);
    check.add_secrets(&home);
    let rejected = home.root.join("rejected");
    fs::write(&rejected, &home.tokens().access_token).unwrap();
    let mut refresh = home.command(&["-vv", "refresh", "--rejected"]);
    check.add_output("refresh", &run(refresh.stdin(File::open(&rejected).unwrap())), true);
    check.add_secrets(&home);
    for arguments in
        [&["-vv", "status"][..], &["-vv", "status", "--json"], &["-vv", "whoami"], &["-vv", "profiles"]]
    {
        let ran = home.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        check.add_output(arguments[1], &ran, false);
    }
    // A secret on the command line, by mistake; a torn document; a dead grant.
    let token = home.tokens().refresh_token;
    check.add_output("usage", &home.run(&["login", "--refresh-token-stdin", &issuer, &token]), false);
    check.add_output("usage", &home.run(&["refresh", &token]), false);
    let good = home.bytes();
    home.write_bytes(&good[..good.len() - 3]);
    check.add_output("torn", &home.run(&["-vv", "token"]), false);
    home.write_bytes(
        String::from_utf8(good.clone())
            .unwrap()
            .replace("\"client_id\":\"", "\"client_id\":7,\"x\":\"")
            .as_bytes(),
    );
    check.add_output("foreign", &home.run(&["-vv", "token"]), false);
    home.write_bytes(&good);
    expire(&home);
    server.end_grant(&home.tokens().refresh_token);
    server.script(Endpoint::Token, [echo(400, &home)]);
    check.add_output("refused", &home.run(&["-vv", "token"]), false);
    let ran = home.run(&["-vv", "token"]);
    assert_eq!(ran.code, 3);
    check.add_output("dead", &ran, false);
    check.add_output("logout", &home.run(&["-vv", "logout"]), false);

    for request in server.requests() {
        for name in ["refresh_token", "device_code", "client_secret", "token"] {
            check.secrets.extend(request.parameter(name).map(str::to_owned));
        }
        let authorization = request.header("authorization").and_then(|header| header.split(' ').nth(1));
        check.secrets.extend(authorization.map(str::to_owned));
    }
    check.secrets.insert(server.client_secret().to_owned());
    assert!(check.secrets.len() > 10, "{} secrets were in play", check.secrets.len());
    for (what, text) in &check.printed {
        for secret in &check.secrets {
            assert!(!text.contains(secret.as_str()), "{what}: {secret} in {text}");
        }
    }
}
