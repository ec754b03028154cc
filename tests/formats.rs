//! `onegrant token --format`: each text is read by whom it is for.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at a surprise")]

mod support;

use serde_json::{Value, json};
use std::fs;
use support::*;

/// A home whose profile names servers.
fn home_with_hosts(server: &AuthorizationServer, left: i64, hosts: &[&str]) -> (Home, Issued) {
    let home = Home::new();
    let issued = server.issue_grant();
    let mut document = document(server, &issued, left);
    document["git_hosts"] = json!(hosts);
    home.write(&document);
    (home, issued)
}

#[test]
fn each_format_holds_the_token_in_its_own_way() {
    let server = server(|_| {});
    let (home, issued) = home_with_hosts(&server, LIFETIME, &["git.example", "other.example:8443"]);
    let token = issued.access_token;
    for (format, wanted) in [
        ("raw", format!("{token}\n")),
        ("bearer", format!("Bearer {token}\n")),
        ("header", format!("Authorization: Bearer {token}\n")),
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
        // A file holds the very same.
        assert_eq!(home.run(&["token", "--format", format, "--write", "file"]).code, 0);
        assert_eq!(fs::read_to_string(home.root.join("file")).unwrap(), wanted);
    }
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn an_exec_credential_ends_when_the_token_does_and_is_of_kubectls_version() {
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
