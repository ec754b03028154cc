//! A grant in a Kubernetes Secret: real processes with homes of their own, as in pods, and a server that answers as a real
//! one does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a test may stop at a surprise"
)]

#[path = "../fixtures/kubernetes/mod.rs"]
mod kubernetes;
mod support;

use kubernetes::{Fault, Kubernetes, NAME, NAMESPACE};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use support::*;

/// How many pods ask at once.
const CROWD: usize = 12;

/// One server, its service account's token in a file, and pods.
struct Cluster {
    server: Kubernetes,
    place: Home,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self { server: Kubernetes::start(), place: Home::new() };
        cluster.rotate("first");
        cluster
    }

    /// With the grant of `server`, whose access token lasts for so many seconds.
    fn with_grant(server: &AuthorizationServer, left: i64) -> (Self, Issued) {
        let (cluster, issued) = (Self::new(), server.issue_grant());
        cluster.server.put("default", &document(server, &issued, left).to_string());
        (cluster, issued)
    }

    fn token_file(&self) -> PathBuf {
        self.place.root.join("token")
    }

    fn rotate(&self, token: &str) {
        fs::write(self.token_file(), format!("{token}\n")).unwrap();
        self.server.world().token = token.to_owned();
    }

    fn pod(&self, number: usize, arguments: &[&str]) -> Command {
        let mut command = onegrant(arguments);
        command
            .env("ONEGRANT_HOME", self.place.root.join(format!("pod-{number}")))
            .env("ONEGRANT_STORE", format!("kubernetes://{NAMESPACE}/{NAME}"))
            .env("ONEGRANT_KUBERNETES_API", &self.server.url)
            .env("ONEGRANT_KUBERNETES_TOKEN_FILE", self.token_file());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.pod(0, arguments))
    }

    fn document(&self) -> Value {
        serde_json::from_str(&self.server.member("default").unwrap()).unwrap()
    }

    #[track_caller]
    fn nothing_unexpected(&self, server: &AuthorizationServer) {
        assert_eq!(server.counts().unexpected, 0);
        assert_eq!(self.server.world().unexpected, [""; 0]);
    }
}

#[test]
fn pods_with_homes_of_their_own_send_one_refresh_and_leave_the_rest_of_the_secret_alone() {
    let server = server(|settings| settings.delay_before = Duration::from_millis(300));
    let (cluster, issued) = Cluster::with_grant(&server, EXPIRED);
    cluster.server.put("another.member", "stays");
    let started = (0..CROWD).map(|pod| Process::start(&mut cluster.pod(pod, &["token"])));
    let started: Vec<Process> = started.collect();
    let tokens: Vec<String> =
        started.into_iter().map(|process| process.finish().token().to_owned()).collect();
    let stored = cluster.document();
    assert_eq!(tokens, vec![stored["session"]["access_token"].as_str().unwrap(); CROWD]);
    assert_ne!(tokens[0], issued.access_token);
    assert_eq!(stored.get("attempts"), None);
    assert_eq!(server.counts().refreshes, 1);
    assert_eq!(cluster.server.member("another.member").unwrap(), "stays");
    assert!(cluster.server.world().watches > 0, "who waits watches");
    cluster.nothing_unexpected(&server);
}

#[test]
fn a_patch_that_nobody_answered_is_read_back() {
    let server = server(|_| {});
    for faults in [[Fault::MadeAndCut; 2], [Fault::Timeout; 2], [Fault::MadeAndCut, Fault::Timeout]] {
        let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
        let before = server.counts().refreshes;
        cluster.server.world().faults = faults.into();
        let printed = cluster.run(&["token"]).token().to_owned();
        assert_eq!(cluster.document()["session"]["access_token"], printed.as_str(), "{faults:?}");
        assert_eq!(server.counts().refreshes, before + 1, "{faults:?}");
        cluster.nothing_unexpected(&server);
    }
}

#[test]
fn nothing_is_spent_where_the_secret_cannot_be_had() {
    let server = server(|_| {});
    let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
    cluster.server.world().is_down = true;
    let ran = cluster.run(&["--timeout", "1", "token"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
    assert_eq!(server.counts().refreshes, 0);
    cluster.server.world().is_down = false;
    fs::remove_file(cluster.token_file()).unwrap();
    let ran = cluster.run(&["token"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
    assert_eq!(server.counts().refreshes, 0);
    // The token file changes about every hour.
    cluster.rotate("second");
    cluster.run(&["token"]).token();
    assert_eq!(server.counts().refreshes, 1);
    cluster.nothing_unexpected(&server);
}

#[test]
fn an_empty_secret_is_enough_and_a_logout_takes_its_own_member_alone() {
    let server = server(|settings| settings.auto_approve = true);
    let cluster = Cluster::new();
    let login = ["login", &server.issuer(), "--client-id", server.client_id(), "--device"];
    let ran = cluster.run(&login);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
    let hint = format!("hint: kubectl -n {NAMESPACE} create secret generic {NAME}");
    assert!(ran.stderr.contains(&hint), "{}", ran.stderr);
    assert_eq!(server.counts().device_requests, 0, "nobody was asked for anything");

    cluster.server.put("another.member", "stays");
    assert_eq!(cluster.run(&login).code, 0);
    assert_eq!(cluster.run(&["profiles"]).stdout, "another.member\ndefault\n");
    cluster.run(&["token"]).token();
    assert_eq!(cluster.run(&["logout"]).code, 0);
    assert_eq!(cluster.run(&["profiles"]).stdout, "another.member\n");
    cluster.nothing_unexpected(&server);
}

#[test]
fn where_it_may_be_created_a_login_creates_it() {
    let server = server(|settings| settings.auto_approve = true);
    let cluster = Cluster::new();
    cluster.server.world().may_create = true;
    let login = ["login", &server.issuer(), "--client-id", server.client_id(), "--device"];
    assert_eq!(cluster.run(&login).code, 0);
    cluster.run(&["token"]).token();
    cluster.nothing_unexpected(&server);
}

#[test]
fn a_grant_moves_from_a_file_into_the_secret_and_back() {
    let server = server(|_| {});
    let cluster = Cluster::new();
    cluster.server.put("another.member", "stays");
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let directory = format!("file:{}", home.state.display());
    let secret = format!("kubernetes://{NAMESPACE}/{NAME}");
    let session = home.document()["session"].clone();
    let moved = |from: &str, to: &str| cluster.run(&["--store", from, "migrate", "--to", to]);

    assert_eq!(moved(&directory, &secret).code, 0);
    assert!(!home.document_path().exists());
    assert_eq!(cluster.document()["session"], session);
    cluster.run(&["token"]).token();

    assert_eq!(moved(&secret, &directory).code, 0);
    assert_eq!(cluster.server.member("default"), None);
    assert_eq!(home.document()["session"], session);
    assert_eq!(cluster.server.member("another.member").unwrap(), "stays");
    assert_eq!(server.counts().token_requests, 0);
    cluster.nothing_unexpected(&server);
}

#[test]
fn a_claim_is_enough_where_a_lock_is_required() {
    let server = server(|_| {});
    let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
    let ran = run(cluster.pod(0, &["-v", "token"]).env("ONEGRANT_LOCK", "require"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("(claimed)"), "{ran:?}");
    assert_eq!(server.counts().refreshes, 1);
    cluster.nothing_unexpected(&server);
}
