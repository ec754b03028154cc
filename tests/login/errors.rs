//! Every error answer of RFC 6749 section 5.2 and RFC 8628 section 3.5, wherever a login or a refresh can meet it: its exit
//! code, the server's words, and a hint. Those of section 4.1.2.1 are in `browser`.

use crate::support::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// The request that is answered with the error.
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

/// What the shell of a person does with a hint.
fn run_hint(ran: &Ran, home: &Home) -> Ran {
    let hint = ran.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap();
    let programs = home.root.join("programs");
    if !programs.exists() {
        fs::create_dir(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_onegrant"), programs.join("onegrant")).unwrap();
    }
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", hint]).env_clear().env("PATH", programs).env("ONEGRANT_HOME", &home.state);
    run(shell.current_dir(&home.root))
}

/// Nothing is stored yet that the second login could take its options from.
#[test]
fn the_hint_of_a_first_login_by_endpoints_is_the_command_that_works() {
    let client = ["--client-secret-file", "the client's secret", "--client-auth", "post"];
    let flows: [(&[&str], Endpoint, &str); 4] = [
        (&["--device"], Endpoint::Token, "access_denied"),
        (&["--device"], Endpoint::Token, "expired_token"),
        (&["--device"], Endpoint::DeviceAuthorization, "access_denied"),
        (&["--client-credentials"], Endpoint::Token, "access_denied"),
    ];
    for (flow, endpoint, error) in flows {
        let server = server(|settings| settings.auto_approve = true);
        let home = Home::new();
        fs::write(home.root.join("the client's secret"), server.client_secret()).unwrap();
        let [token, device] = [Endpoint::Token, Endpoint::DeviceAuthorization].map(|it| server.url(it));
        let mut command = home.command(&["login", "--token-endpoint", &token, "--client-id"]);
        command.args([server.confidential_client_id(), "--device-authorization-endpoint", &device]);
        command.args(["--scope", "read write", "--resource", "https://api.example/a?b=1&c=2"]);
        command.args([
            "--resource",
            "https://other.example",
            "--audience",
            "it's",
            "--param",
            "tenant=$HOME *",
        ]);
        command.args(["--git-host", "git.example:8443"]).args(client).args(flow);
        server.script(endpoint, [Fault::error(400, error)]);
        let ran = run(&mut command);
        assert!(!home.document_path().exists(), "{ran:?}");
        let ran = run_hint(&ran, &home);
        assert_eq!(ran.code, 0, "{flow:?} {error}: {ran:?}");
        let sent: Vec<_> =
            server.requests_to(endpoint).into_iter().map(|request| request.parameters).collect();
        let own = ["device_code", "code_challenge", "code_verifier"];
        let configured = |parameters: &Vec<(String, String)>| -> Vec<_> {
            let all = parameters.iter().filter(|(name, _)| !own.contains(&name.as_str()));
            all.cloned().collect()
        };
        assert_eq!((sent.len(), configured(&sent[0])), (2, configured(&sent[1])), "{flow:?}");
        assert_eq!(home.document()["git_hosts"][0], "git.example:8443");
        assert_eq!(server.counts().unexpected, 0);
    }
}

/// RFC 9110 section 10.2.3. Without the time the caller cannot know when to try again.
#[test]
fn a_wait_beyond_the_deadline_is_reported_with_its_length_by_every_command() {
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
        ("invalid_target", &[Poll, Import, Client, Refresh], 2),
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

/// Another issuer's metadata is never used for this one; a person can decide to log in there.
#[test]
fn metadata_that_redirects_to_another_issuer_gives_the_login_there_as_a_hint_that_works() {
    let (old, new) = (server(|_| {}), server(|settings| settings.auto_approve = true));
    for (endpoint, place) in [
        (Endpoint::OauthMetadata, "oauth-authorization-server"),
        (Endpoint::OpenidConfiguration, "openid-configuration"),
    ] {
        let target = format!("{}/.well-known/{place}", new.issuer());
        old.always(endpoint, Fault::Status(Response::new(301).header("location", target)));
    }
    let home = Home::new();
    let ran = home.run(&["login", &old.issuer(), "--client-id", new.client_id()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains(&format!("a redirect to {}/.well-known/", new.issuer())), "{ran:?}");
    assert_eq!(new.requests().len(), 0, "it was not followed");
    let (_, hint) = ran.stderr.rsplit_once("\nhint: onegrant ").unwrap();
    assert_eq!(home.run(&hint.split_whitespace().collect::<Vec<_>>()).code, 0, "{hint}");
    assert_eq!(home.document()["issuer"], new.issuer());
}
