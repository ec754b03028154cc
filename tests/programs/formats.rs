//! `onegrant token --format`: each format as its program reads it.

use crate::support::*;
use serde_json::{Value, json};
use std::fs;

#[test]
fn each_format_contains_the_token() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant_for(&server, LIFETIME, &["git.example", "other.example:8443"]);
    let token = issued.access_token;
    for (format, wanted) in [
        ("raw", format!("{token}\n")),
        ("bare", token.clone()),
        ("bearer", format!("Bearer {token}\n")),
        ("header", format!("Authorization: Bearer {token}\n")),
        ("headers-json", format!("{{\"Authorization\":\"Bearer {token}\"}}\n")),
        ("curl", format!("header = \"Authorization: Bearer {token}\"\n")),
        (
            "netrc",
            format!(
                "machine git.example login oauth2 password {token}\nmachine other.example login oauth2 password {token}\n"
            ),
        ),
    ] {
        let ran = home.run(&["token", "--format", format]);
        assert_eq!(ran, Ran { code: 0, stdout: wanted.clone(), stderr: String::new() }, "{format}");
        // A file gets the same text.
        assert_eq!(home.run(&["token", "--format", format, "--write", "file"]).code, 0);
        assert_eq!(fs::read_to_string(home.root.join("file")).unwrap(), wanted);
    }
    assert_eq!(server.counts(), Default::default());
}

/// RFC 8693 section 2.2.1: a token that is not an access token, such as an exchanged ID token.
#[test]
fn a_token_of_type_n_a_gives_no_header_and_no_password_but_kubectl_gets_it() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant_for(&server, LIFETIME, &["git.example"]);
    let mut document = home.document();
    document["session"]["token_type"] = json!("N_A");
    home.write(&document);
    let token = issued.access_token;
    assert_eq!(home.run(&["token"]), Ran::printed(&token));
    let ran = home.run(&["token", "--format", "exec-credential"]);
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap()["status"]["token"], json!(token));
    let exec = home.run(&["exec", "--", "/bin/sh", "-c", "printf '%s\\n' \"$ACCESS_TOKEN\""]);
    assert_eq!(exec.stdout, format!("{token}\n"));

    let asked = home.root.join("asked");
    let git = "protocol=https\nhost=git.example\ncapability[]=authtype\n\n";
    let cases: [(&[&str], &str, &str); 9] = [
        (&["token", "--format", "header"], "", ""),
        (&["token", "--format", "headers-json"], "", ""),
        (&["token", "--format", "bearer"], "", ""),
        (&["token", "--format", "curl"], "", ""),
        (&["token", "--format", "netrc"], "", ""),
        (&["git-credential", "get"], git, "quit=1\n"),
        (&["git-credential", "get"], "protocol=https\nhost=git.example\n\n", "quit=1\n"),
        (&["helper", "docker", "get"], "git.example", "cannot make a header: the token is of type N_A\n"),
        (&["helper", "bazel", "get"], r#"{"uri":"https://git.example/"}"#, ""),
    ];
    for (arguments, stdin, stdout) in cases {
        fs::write(&asked, stdin).unwrap();
        let ran = run(home.command(arguments).stdin(fs::File::open(&asked).unwrap()));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, stdout), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains("type N_A") && !ran.stderr.contains(&token), "{ran:?}");
        assert!(ran.stderr.ends_with("\nhint: onegrant token --format json\n"), "{ran:?}");
    }
    assert_eq!(server.counts(), Default::default());
}

/// OpenID Connect Core section 2: an ID token is of no use past its `exp`, however long the server said that it lasts.
#[test]
fn an_exchanged_id_token_past_its_exp_is_not_handed_out() {
    let server = server(|_| {});
    let ended = jwt(&json!({ "exp": now() - 60 }));
    for format in ["exec-credential", "raw", "json"] {
        let (home, _) = Home::with_grant(&server, LIFETIME);
        let mut document = home.document();
        document["session"]["token_type"] = json!("N_A");
        document["session"]["access_token"] = json!(ended);
        home.write(&document);
        let ran = home.run(&["token", "--format", format]);
        assert_eq!((ran.code, ran.stdout.contains(&ended)), (0, false), "{format}: {ran:?}");
        assert!(ran.stdout.contains(&home.tokens().access_token), "{format}: {ran:?}");
    }
    assert_eq!(server.counts().token_requests, 3);
}

#[test]
fn an_exec_credential_expires_with_the_token_and_has_the_version_of_kubectl() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    document["session"]["expires_at"] = json!(4_107_542_400_i64);
    home.write(&document);
    for version in ["v1", "v1beta1"] {
        let api_version = format!("client.authentication.k8s.io/{version}");
        let info =
            json!({ "apiVersion": api_version, "kind": "ExecCredential", "spec": { "interactive": false } });
        let mut command = home.command(&["token", "--format", "exec-credential"]);
        let ran = run(command.env("KUBERNETES_EXEC_INFO", info.to_string()));
        let wanted = json!({
            "apiVersion": api_version, "kind": "ExecCredential",
            "status": { "token": issued.access_token, "expirationTimestamp": "2100-03-01T00:00:00Z" },
        });
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), wanted);
    }
    let mut command = home.command(&["token", "--format", "exec-credential"]);
    let ran = run(command.env("KUBERNETES_EXEC_INFO", "{"));
    assert_eq!(ran, Ran::failed(2, "onegrant: KUBERNETES_EXEC_INFO: no ExecCredential\n"));
}

#[test]
fn a_netrc_needs_a_server_that_the_profile_names() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let said = "onegrant: cannot write a netrc: the profile names no server that may be given the token\n\
                hint: onegrant login --git-host HOST\n";
    assert_eq!(home.run(&["token", "--format", "netrc"]), Ran::failed(2, said));
}
