//! `onegrant login --device`: what a person sees, what is stored, and what ends it.

use crate::support::authorization_server::RefreshTokens;
use crate::support::*;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

fn login(home: &Home, server: &AuthorizationServer, more: &[&str]) -> Command {
    let mut command =
        home.command(&["login", &server.issuer(), "--client-id", server.client_id(), "--device"]);
    command.args(more);
    command
}

/// The code that the process shows.
fn user_code(process: &Process) -> String {
    wait_for("a code", || process.said().ends_with('\n') && process.said().contains("\ncode  "));
    process.said().lines().find_map(|line| line.strip_prefix("code  ")).unwrap().to_owned()
}

#[test]
fn a_person_is_shown_an_address_and_a_code_and_then_is_logged_in() {
    let server = server(|_| {});
    let home = Home::new();
    fs::remove_dir(&home.state).unwrap();
    let began = now();
    let process = Process::start(&mut login(&home, &server, &["--scope", "openid offline_access"]));
    let code = user_code(&process);
    let address = server.url(Endpoint::Verification);
    let shown = format!("open  {address}?user_code={code}\ncode  {code}\n");
    assert_eq!(process.said(), shown);
    // The person takes the time of a poll.
    server.wait_until(|counts| counts.device_polls == 1);
    assert!(server.approve(&code));
    let ran = process.finish();
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let rest = ran.stderr.strip_prefix(&shown).unwrap();
    assert!(rest.starts_with("onegrant: logged in: profile default, access token valid until "), "{rest}");
    assert!(rest.ends_with(" GMT\n") && rest.lines().count() == 1, "{rest}");

    let mut document = home.document();
    let (session, login) = (document["session"].take(), document["login"].take());
    assert_eq!(login["flow"], "device");
    assert!((began..=now()).contains(&login["at"].as_i64().unwrap()));
    assert_eq!(document, document_after_login(&server));
    assert!(server.access_token_is_valid(session["access_token"].as_str().unwrap()));
    assert!(server.is_alive(session["refresh_token"].as_str().unwrap()));
    assert!(session["id_token"].is_string());
    let obtained_at = session["obtained_at"].as_i64().unwrap();
    assert!((began..=now()).contains(&obtained_at));
    assert_eq!(session["expires_at"], json!(obtained_at + 3600));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home.state), mode(&home.document_path())), (0o700, 0o600));
    assert_eq!(home.names(), ["default.json", "default.lock"]);
    let counts = server.counts();
    assert_eq!((counts.device_requests, counts.hasty_polls, counts.unexpected), (1, 0, 0));
}

/// RFC 7636: a server may demand it in the device flow, too. The challenge goes with the first request, and what answers it
/// with every poll.
#[test]
fn a_device_login_proves_with_every_poll_that_it_began_the_login() {
    let server = server(|settings| (settings.auto_approve, settings.demands_device_pkce) = (true, true));
    let home = Home::new();
    let mut verifiers = Vec::new();
    for _ in 0..2 {
        server.script(Endpoint::Token, [Fault::error(400, "authorization_pending")]);
        let ran = run(&mut login(&home, &server, &[]));
        assert_eq!(ran.code, 0, "{ran:?}");
        let polls = server.requests_to(Endpoint::Token);
        let sent: Vec<_> = polls.iter().rev().take(2).map(|poll| poll.parameter("code_verifier")).collect();
        assert!(sent[0].is_some() && sent[0] == sent[1], "{sent:?}");
        verifiers.push(sent[0].unwrap().to_owned());
    }
    let counts = server.counts();
    assert_eq!((counts.device_requests, counts.device_polls, counts.unexpected), (2, 4, 0));
    assert_ne!(verifiers[0], verifiers[1], "each login has its own");
}

/// OpenID Connect Discovery section 4.1, RFC 8414 section 3.1.
#[test]
fn the_address_of_a_metadata_document_is_taken_as_its_issuer() {
    let server = server(|settings| {
        settings.auto_approve = true;
        settings.issuer_path = "/tenant".to_owned();
    });
    let issuer = server.issuer();
    let (origin, path) = issuer.split_at(issuer.len() - "/tenant".len());
    for address in [
        format!("{issuer}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ] {
        let home = Home::new();
        let ran = home.run(&["login", &address, "--client-id", server.client_id(), "--device"]);
        assert_eq!(ran.code, 0, "{address}: {ran:?}");
        assert_eq!(home.document()["issuer"], json!(issuer));
    }
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn metadata_with_http_endpoints_is_refused_with_the_command_that_names_them() {
    let server = server(|_| {});
    let endpoints = json!({
        "issuer": server.issuer(), "token_endpoint": "http://as.example/token",
        "device_authorization_endpoint": "http://as.example/device?a=1&b=2",
    });
    for endpoint in [Endpoint::OauthMetadata, Endpoint::OpenidConfiguration] {
        server.always(endpoint, Fault::Status(Response::json(200, endpoints.to_string())));
    }
    let home = Home::new();
    let ran = run(&mut login(&home, &server, &["--scope", "a b"]));
    let text = format!(
        "onegrant: cannot find the authorization server of {issuer}: token_endpoint of {issuer}: cannot use \
         http://as.example/token: plain http is for loopback addresses only; use https\nhint: onegrant login --client-id {} \
         --scope 'a b' --device --token-endpoint https://as.example/token \
         --device-authorization-endpoint 'https://as.example/device?a=1&b=2'   # if the server has them with https\n",
        server.client_id(),
        issuer = server.issuer(),
    );
    assert_eq!(ran, Ran::failed(2, text));
    assert_eq!(server.counts().token_requests, 0);
}

#[test]
fn a_program_reads_one_object_a_line() {
    let server = server(|settings| settings.auto_approve = true);
    let home = Home::new();
    let ran = run(&mut login(&home, &server, &["--json"]));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [asked, done] = lines.as_slice() else { panic!("{}", ran.stdout) };
    let address = server.url(Endpoint::Verification);
    let code = asked["user_code"].as_str().unwrap();
    assert_eq!(
        *asked,
        json!({
            "event": "device_authorization",
            "verification_uri": address,
            "verification_uri_complete": format!("{address}?user_code={code}"),
            "user_code": code,
            "expires_in": 600,
            "interval": 1,
        })
    );
    assert_eq!(
        *done,
        json!({
            "event": "logged_in",
            "profile": "default",
            "issuer": server.issuer(),
            "resource": [],
            "expires_at": home.document()["session"]["expires_at"],
            "has_refresh_token": true,
            "scope": "openid profile offline_access",
        })
    );
}

/// RFC 8628 section 3.5: five seconds more than the interval before.
#[test]
fn slow_down_slows_down() {
    let server = server(|settings| settings.auto_approve = true);
    let home = Home::new();
    server.script(Endpoint::Token, [Fault::error(400, "slow_down")]);
    let began = Instant::now();
    assert_eq!(run(&mut login(&home, &server, &[])).code, 0);
    // A second before the first poll, and six before the next one. A bound from below: no machine is too slow for it.
    assert!(began.elapsed() >= Duration::from_secs(7), "{:?}", began.elapsed());
    assert_eq!((server.counts().device_polls, server.counts().hasty_polls), (2, 0));
}

/// A server that names no interval means five seconds, and answers `slow_down` to faster polls.
#[test]
fn no_interval_means_five_seconds() {
    let server = server(|settings| {
        (settings.device_interval, settings.auto_approve) = (None, true);
        settings.verification_uri_complete = false;
    });
    let home = Home::new();
    let ran = run(&mut login(&home, &server, &[]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr.starts_with(&format!("open  {}\ncode  ", server.url(Endpoint::Verification))),
        "{ran:?}"
    );
    assert_eq!((server.counts().device_polls, server.counts().hasty_polls), (1, 0));
}

#[test]
fn a_poll_that_fails_temporarily_is_repeated() {
    for fault in [Fault::status(503), Fault::DropBefore] {
        let server = server(|settings| settings.auto_approve = true);
        let home = Home::new();
        server.script(Endpoint::Token, [fault]);
        assert_eq!(run(&mut login(&home, &server, &[])).code, 0);
        assert_eq!(server.counts().device_polls, 2);
        assert!(server.is_alive(&home.tokens().refresh_token));
    }
}

#[test]
fn a_denied_or_expired_device_login_stores_nothing() {
    let denied = "onegrant: cannot log in: the request was refused: access_denied: the person said no\nhint: AGAIN   # and agree \
                  this time\n";
    let expired = "onegrant: cannot log in: the code expired before the request was confirmed (expired_token)\nhint: AGAIN\n";
    let again = |server: &AuthorizationServer| {
        format!("onegrant login {} --client-id {} --device", server.issuer(), server.client_id())
    };
    for (is_denied, text) in [(true, denied), (false, expired)] {
        let server = server(|_| {});
        let text = text.replace("AGAIN", &again(&server));
        let home = Home::new();
        let process = Process::start(&mut login(&home, &server, &[]));
        let code = user_code(&process);
        assert!(if is_denied { server.deny(&code) } else { server.expire(&code) });
        let ran = process.finish();
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
        assert!(ran.stderr.ends_with(&format!("\ncode  {code}\n{text}")), "{}", ran.stderr);
        assert_eq!(home.names(), Vec::<String>::new());
    }
    // Without a decision the login ends with the code.
    let server = server(|settings| settings.device_lifetime = Duration::from_secs(2));
    let home = Home::new();
    let ran = run(&mut login(&home, &server, &[]));
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.ends_with(&expired.replace("AGAIN", &again(&server))), "{}", ran.stderr);
    assert_eq!(home.names(), Vec::<String>::new());
}

#[test]
fn a_login_without_a_refresh_token_is_a_warning() {
    let server = server(|settings| {
        (settings.refresh_tokens, settings.auto_approve) = (RefreshTokens::WithOfflineAccess, true);
    });
    let home = Home::new();
    let ran = run(&mut login(&home, &server, &["--scope", "openid"]));
    assert_eq!(ran.code, 0);
    let warning = "onegrant: warning: the server gave NO REFRESH TOKEN: this login ends with its access token\n\
                   hint: onegrant login --scope \"openid offline_access\"   # Google wants --param access_type=offline \
                   instead\n";
    assert!(ran.stderr.contains(warning), "{}", ran.stderr);
    assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
    assert!(home.document()["session"].get("refresh_token").is_none());
    // The hint is the very command: it gets one.
    let ran = run(&mut home.command(&["login", "--scope", "openid offline_access"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stderr.contains("NO REFRESH TOKEN"));
    assert!(server.is_alive(&home.tokens().refresh_token));
}

#[test]
fn a_second_login_needs_no_options() {
    let server = server(|settings| settings.auto_approve = true);
    let home = Home::new();
    assert_eq!(
        run(&mut login(&home, &server, &["--scope", "openid offline_access", "--param", "x=1"])).code,
        0
    );
    let first = home.document();
    server.end_grant(&home.tokens().refresh_token);
    let mut expired = first.clone();
    expired["session"]["expires_at"] = json!(now() - 5);
    home.write(&expired);
    assert_eq!(home.run(&["token"]).code, 3);
    assert_eq!(home.document()["session"], Value::Null);
    let ran = home.run(&["login"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut second = home.document();
    assert!(server.is_alive(second["session"]["refresh_token"].as_str().unwrap()));
    let mut first = first;
    assert_ne!(first["login"]["id"].take(), second["login"]["id"].take());
    for document in [&mut first, &mut second] {
        (document["session"], document["login"]["at"]) = (Value::Null, Value::Null);
    }
    assert_eq!(second, first, "the configuration is the same, and the verdict on the old grant is gone");
    assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
    // A first login without an issuer has no server to ask.
    let empty = Home::new();
    let text = "onegrant: cannot log in: profile default knows no server yet\nhint: onegrant login https://ADDRESS\n";
    assert_eq!(empty.run(&["login"]), Ran::failed(2, text));
}

/// Two terminals, one profile: the login that is confirmed first is stored, and the other one says so.
#[test]
fn of_two_logins_at_once_one_wins_and_the_other_says_so() {
    let server = server(|_| {});
    let home = Home::new();
    let first = Process::start(&mut login(&home, &server, &[]));
    let second = Process::start(&mut login(&home, &server, &[]));
    let (first_code, second_code) = (user_code(&first), user_code(&second));
    assert!(server.approve(&second_code));
    assert_eq!(second.finish().code, 0);
    let kept = home.bytes();
    assert!(server.approve(&first_code));
    let ran = first.finish();
    assert_eq!(ran.code, 4, "{ran:?}");
    let said =
        "onegrant: logged in, but the grant could not be stored: another login of profile default, begun at ";
    assert!(ran.stderr.contains(said), "{ran:?}");
    let rest = ", was stored first and is kept; this one was given up\nhint: onegrant status   # shows the one that is kept\n";
    assert!(ran.stderr.ends_with(rest), "{ran:?}");
    assert_eq!(home.bytes(), kept);
    assert!(server.is_alive(&home.tokens().refresh_token), "the one that is kept");
    let counts = server.counts();
    assert_eq!((counts.revocations, counts.unexpected), (1, 0), "the other one is revoked");
}

#[test]
fn if_nothing_can_be_stored_no_code_is_shown() {
    let server = server(|settings| settings.auto_approve = true);
    let home = Home::new();
    let refused = |case: &str, ran: Ran| {
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{case}: {ran:?}");
        assert!(ran.stderr.starts_with("onegrant: cannot "), "{case}: {ran:?}");
        assert_eq!(server.requests_to(Endpoint::DeviceAuthorization), [], "{case}");
    };
    fs::set_permissions(&home.state, Permissions::from_mode(0o500)).unwrap();
    refused("no permission", run(&mut unprivileged(&login(&home, &server, &[]))));
    fs::set_permissions(&home.state, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(home.names(), Vec::<String>::new());

    fs::write(home.root.join("file"), "").unwrap();
    let mut command = login(&home, &server, &[]);
    refused("no directory", run(command.env("ONEGRANT_HOME", home.root.join("file/state"))));

    let script = "mount -t tmpfs -o size=8k none \"$0/state\"; dd if=/dev/zero of=\"$0/state/x\" 2>/dev/null || true; \
                  exec \"$@\"";
    refused("a full disk", run(&mut in_namespace(script, &home, &login(&home, &server, &[]))));

    assert_eq!(server.requests(), []);

    // A newer program's document is not replaced, and what is no file cannot be. The address of the server decides which
    // document that is.
    home.write_bytes(br#"{"version":2,"anything":[]}"#);
    refused("newer", run(&mut login(&home, &server, &[])));
    assert_eq!(home.bytes(), br#"{"version":2,"anything":[]}"#);
    fs::remove_file(home.document_path()).unwrap();
    fs::create_dir(home.document_path()).unwrap();
    refused("a directory", run(&mut login(&home, &server, &[])));
}

#[test]
fn an_unreadable_document_is_kept_beside_the_new_one() {
    for bytes in [&b""[..], b"{\"version\":1,", b"<html>"] {
        let server = server(|settings| settings.auto_approve = true);
        let home = Home::new();
        home.write_bytes(bytes);
        let ran = run(&mut login(&home, &server, &[]));
        assert_eq!(ran.code, 0, "{ran:?}");
        let aside = home.names().into_iter().find(|name| name.starts_with("default~unreadable.")).unwrap();
        let path = home.state.join(&aside);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let text = format!("onegrant: warning: the unreadable document was kept as {}\n", path.display());
        assert!(ran.stderr.contains(&text), "{}", ran.stderr);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
        assert_eq!(home.names(), ["default.json", "default.lock", &aside]);
    }
}

#[test]
fn a_confidential_client_proves_itself_as_it_did_at_login() {
    for (method, secret_in_body) in [("basic", false), ("post", true)] {
        let server = server(|settings| settings.auto_approve = true);
        let home = Home::new();
        let secret = home.root.join("secret");
        fs::write(&secret, format!("{}\n", server.client_secret())).unwrap();
        let mut command = home.command(&["login", &server.issuer(), "--client-id"]);
        command.args([server.confidential_client_id(), "--client-auth", method, "--client-secret-file"]);
        assert_eq!(run(command.arg(&secret)).code, 0);
        let mut expired = home.document();
        expired["session"]["expires_at"] = json!(now() - 5);
        home.write(&expired);
        assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
        let last = server.requests_to(Endpoint::Token).pop().unwrap();
        assert_eq!(last.parameter("client_secret").is_some(), secret_in_body);
        assert_eq!(last.header("authorization").is_some(), !secret_in_body);
        assert_eq!(server.counts().unexpected, 0);
    }
}

#[test]
fn metadata_of_another_issuer_is_refused() {
    let server = server(|settings| {
        settings.metadata_issuer =
            crate::support::authorization_server::NamedIssuer::Other("https://other.example".to_owned());
        settings.auto_approve = true;
    });
    let home = Home::new();
    let ran = run(&mut login(&home, &server, &[]));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("https://other.example"), "{}", ran.stderr);
    assert_eq!(server.counts().device_requests, 0);
    assert_eq!(home.names(), Vec::<String>::new());
}
