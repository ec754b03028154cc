//! Every error answer of RFC 6749 section 5.2 and RFC 8628 section 3.5, wherever a login or a refresh can meet it: its exit
//! code, the server's words, and a hint. Those of section 4.1.2.1 are in `login_browser.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a surprise")]

mod support;

use std::fs;
use std::process::Command;
use support::*;

/// Where an error is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// At the device authorization endpoint.
    DeviceAuthorization,
    /// At the token endpoint, while the device polls.
    Poll,
    /// With an imported refresh token.
    Import,
    /// With the client's own credentials.
    Client,
    /// With the stored refresh token.
    Refresh,
}

use Stage::{Client, DeviceAuthorization, Import, Poll, Refresh};

const EVERYWHERE: [Stage; 5] = [DeviceAuthorization, Poll, Import, Client, Refresh];

/// The command that meets the error, with all that it needs.
fn command(stage: Stage, home: &Home, server: &AuthorizationServer) -> Command {
    let secret = home.root.join("secret");
    fs::write(&secret, server.client_secret()).unwrap();
    let issuer = server.issuer();
    let login = |client: &str, more: &[&str]| {
        let mut command = home.command(&["login", &issuer, "--client-id", client]);
        command.args(more);
        command
    };
    match stage {
        DeviceAuthorization | Poll => login(server.client_id(), &["--device"]),
        Import => {
            let refresh_token = home.root.join("refresh-token");
            fs::write(&refresh_token, server.issue_grant().refresh_token).unwrap();
            let mut command = login(server.client_id(), &["--refresh-token-stdin"]);
            command.stdin(fs::File::open(refresh_token).unwrap());
            command
        }
        Client => {
            let mut command = login(server.confidential_client_id(), &["--client-credentials"]);
            command.arg("--client-secret-file").arg(secret);
            command
        }
        Refresh => {
            home.grant(server, EXPIRED);
            home.command(&["token"])
        }
    }
}

/// RFC 9110 section 10.2.3. Nobody knows when to try again without the time.
#[test]
fn a_wait_beyond_the_deadline_is_told_with_its_time_wherever_it_is_met() {
    let busy = || Fault::Status(Response::new(429).header("retry-after", "892"));
    for stage in EVERYWHERE {
        let server = server(|settings| settings.auto_approve = true);
        let home = Home::new();
        let mut command = command(stage, &home, &server);
        let endpoint =
            if stage == DeviceAuthorization { Endpoint::DeviceAuthorization } else { Endpoint::Token };
        server.script(endpoint, [busy()]);
        let ran = run(&mut command);
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{stage:?}: {ran:?}");
        assert!(ran.stderr.contains("status 429 and asks to wait 14 min 52 s, until "), "{stage:?}: {ran:?}");
        assert!(server.counts().token_requests <= 1, "{stage:?}");
    }
    // While the endpoints are discovered, and where whoami asks.
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    server.script(Endpoint::OauthMetadata, [busy()]);
    server.script(Endpoint::OpenidConfiguration, [busy()]);
    server.script(Endpoint::Userinfo, [busy()]);
    for arguments in [&["login", &server.issuer(), "--client-id", "x"][..], &["whoami"]] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.stderr.contains("status 429 and asks to wait 14 min 52 s, until "), "{ran:?}");
    }
}

#[test]
fn every_error_of_the_token_endpoint_has_an_exit_code_and_a_hint() {
    // (error, where, exit code); what a device authorization is refused for is how it was asked.
    let cases: [(&str, &[Stage], i32); 10] = [
        ("invalid_request", &[Poll, Import, Client, Refresh], 3),
        ("invalid_request", &[DeviceAuthorization], 2),
        ("invalid_client", &EVERYWHERE, 2),
        ("invalid_grant", &[Poll, Import, Client], 3),
        ("unauthorized_client", &EVERYWHERE, 2),
        ("unsupported_grant_type", &[Poll, Import, Client, Refresh], 3),
        ("invalid_scope", &EVERYWHERE, 2),
        ("access_denied", &[Poll, Refresh], 3),
        ("expired_token", &[Poll], 3),
        ("invalid_target", &[Poll, Import, Client, Refresh], 3),
    ];
    for (error, stages, code) in cases {
        for stage in stages {
            let server = server(|settings| settings.auto_approve = true);
            let home = Home::new();
            let mut command = command(*stage, &home, &server);
            let endpoint =
                if *stage == DeviceAuthorization { Endpoint::DeviceAuthorization } else { Endpoint::Token };
            let status = if error == "invalid_client" { 401 } else { 400 };
            server.script(endpoint, [Fault::error(status, error)]);
            let ran = run(&mut command);
            let case = format!("{error} at {stage:?}: {ran:?}");
            assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{case}");
            assert!(ran.stderr.contains(error), "{case}");
            let (_, hint) = ran.stderr.rsplit_once("\nhint: ").unwrap_or_else(|| panic!("{case}"));
            assert!(hint.contains("onegrant login") && hint.lines().count() == 1, "{case}");
            if *stage == Refresh {
                assert!(server.is_alive(&home.tokens().refresh_token), "the session is kept: {case}");
            } else {
                assert!(!home.document_path().exists(), "{case}");
            }
            assert_eq!(server.counts().unexpected, 0, "{case}");
        }
    }
}
