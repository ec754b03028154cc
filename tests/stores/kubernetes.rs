//! A grant in a Kubernetes Secret: real processes, each with its own home, as in pods; and a server that answers as a real one.

use crate::support::*;
use serde_json::{Value, json};
use servers::kubernetes::{Fault, Kubernetes, NAME, NAMESPACE, Outage, RIGHTS};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many pods run at once.
const CROWD: usize = 12;

/// One server, its service account's token in a file, and pods.
struct Cluster {
    server: Kubernetes,
    home: Home,
}

impl Cluster {
    fn new() -> Self {
        Self::with_secret(NAME)
    }

    fn with_secret(name: &'static str) -> Self {
        let cluster = Self { server: Kubernetes::start_with(name), home: Home::new() };
        cluster.rotate("first");
        cluster
    }

    /// With a grant of `server`. Its access token has `left` seconds.
    fn with_grant(server: &AuthorizationServer, left: i64) -> (Self, Issued) {
        let (cluster, issued) = (Self::new(), server.issue_grant());
        cluster.server.put("default", &document(server, &issued, left).to_string());
        (cluster, issued)
    }

    fn token_file(&self) -> PathBuf {
        self.home.root.join("token")
    }

    fn rotate(&self, token: &str) {
        fs::write(self.token_file(), format!("{token}\n")).unwrap();
        self.server.world().token = token.to_owned();
    }

    fn pod(&self, number: usize, arguments: &[&str]) -> Command {
        let mut command = onegrant(arguments);
        command
            .env("ONEGRANT_HOME", self.home.root.join(format!("pod-{number}")))
            .env("ONEGRANT_STORE", format!("kubernetes://{NAMESPACE}/{}", self.server.name))
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

/// The store needs no home, and a pod may have none that it can write. The command needs a note there.
#[test]
fn a_pod_that_cannot_note_a_refresh_token_says_that_its_command_is_not_run() {
    for becomes_writable in [false, true] {
        let server = server(|_| {});
        let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
        let (home, runs) = (cluster.home.root.join("pod-0"), cluster.home.root.join("runs"));
        let allow = |mode| fs::set_permissions(&home, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(&home).unwrap();
        allow(0o500);
        let gate = Gate::closed();
        server.script(Endpoint::Token, [crate::support::Fault::Hold(gate.clone())]);
        let mut command = cluster.pod(0, &["-v", "token"]);
        command.env("ONEGRANT_ON_ROTATE", format!("echo >>'{}'", runs.display()));
        command.current_dir(&cluster.home.root);
        let process = Process::start(&mut unprivileged(&command));
        wait_for("the refresh", || server.counts().refreshes == 1);
        if becomes_writable {
            allow(0o700);
        }
        gate.open();
        let ran = process.finish();
        let token = cluster.document()["session"]["access_token"].clone();
        assert_eq!((ran.code, json!(ran.stdout.trim_end())), (0, token), "{ran:?}");
        if becomes_writable {
            wait_for("the run", || runs.exists());
        }
        let why = "onegrant: the command of ONEGRANT_ON_ROTATE was not started: Permission denied\n";
        assert_eq!(
            (ran.stderr.contains(why), runs.exists()),
            (!becomes_writable, becomes_writable),
            "{ran:?}"
        );
        assert_eq!(server.counts().refreshes, 1);
    }
}

/// The limit counts for the note, and not for the grant, which is in the Secret.
#[test]
fn a_file_size_limit_costs_the_run_of_a_command_and_no_token() {
    let server = server(|_| {});
    let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
    let mut command = cluster.pod(0, &["token"]);
    command.env("ONEGRANT_ON_ROTATE", "true").current_dir(&cluster.home.root);
    let ran = run(&mut wrapped("prlimit", &["--fsize=100"], &command));
    let token = cluster.document()["session"]["access_token"].clone();
    assert_eq!((ran.code, json!(ran.stdout.trim_end())), (0, token), "{ran:?}");
    assert_eq!(server.counts().refreshes, 1);
}

/// The files of both grants are in one directory, and both profiles have the same name.
#[test]
fn two_dead_grants_in_two_secrets_are_told_once_each_in_one_home() {
    let server = server(|_| {});
    let clusters = ["onegrant-main", "onegrant-other"].map(|name| {
        let (cluster, issued) = (Cluster::with_secret(name), server.issue_grant());
        cluster.server.put("default", &document(&server, &issued, EXPIRED).to_string());
        server.end_grant(&issued.refresh_token);
        cluster
    });
    let root = &clusters[0].home.root;
    let runs = || fs::read(root.join("runs")).unwrap_or_default().len();
    for round in 0..3 {
        for (cluster, told) in clusters.iter().zip(1..) {
            let mut command = cluster.pod(0, &["token"]);
            command.env("ONEGRANT_HOME", root.join("home"));
            command.env("ONEGRANT_ON_LOGIN_REQUIRED", format!("echo >>'{}'", root.join("runs").display()));
            assert_eq!(run(&mut command).code, 3);
            wait_for("the run", || runs() >= told);
            assert_eq!(runs(), if round == 0 { told } else { clusters.len() });
        }
    }
    // A run more may be under way. It would have removed the file of the other grant.
    let files = fs::read_dir(root.join("home/~kubernetes")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("default~login-required.")).count(), clusters.len());
}

/// What was delivered is known in one home. So each pod delivers what it finds, once, whichever pod refreshed.
#[test]
fn each_pod_gives_a_replaced_refresh_token_to_its_command_once() {
    let server = server(|_| {});
    let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
    let home = |pod| cluster.home.root.join(format!("pod-{pod}"));
    let runs = |pod| fs::read(home(pod).join("runs")).unwrap_or_default().len();
    let token = |pod| {
        let script = format!("cat >/dev/null; echo >>'{}'", home(pod).join("runs").display());
        let ran = run(cluster.pod(pod, &["token"]).env("ONEGRANT_ON_ROTATE", script));
        assert_eq!(ran.token(), cluster.document()["session"]["access_token"]);
        // The lock is held until the command has ended.
        for entry in fs::read_dir(home(pod).join("~kubernetes")).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().ends_with(".lock") {
                wait_for("the end of the command", || lock_is_free(&path));
            }
        }
    };
    for (pod, wanted) in [(0, [1, 0]), (1, [1, 0]), (0, [1, 0])] {
        token(pod);
        assert_eq!([runs(0), runs(1)], wanted);
    }
    let mut expired = cluster.document();
    expired["session"]["expires_at"] = json!(now() + EXPIRED);
    cluster.server.put("default", &expired.to_string());
    for (pod, wanted) in [(1, [1, 1]), (0, [2, 1]), (1, [2, 1])] {
        token(pod);
        assert_eq!([runs(0), runs(1)], wanted);
    }
    assert_eq!(server.counts().refreshes, 2);
    cluster.nothing_unexpected(&server);
}

#[test]
fn pods_with_homes_of_their_own_send_one_refresh_and_leave_the_rest_of_the_secret_alone() {
    let server = server(|_| {});
    let gate = Gate::closed();
    server.script(Endpoint::Token, [authorization_server::Fault::Hold(gate.clone())]);
    let (cluster, issued) = Cluster::with_grant(&server, EXPIRED);
    cluster.server.put("another.member", "stays");
    let started = (0..CROWD).map(|pod| Process::start(&mut cluster.pod(pod, &["token"])));
    let started: Vec<Process> = started.collect();
    wait_for("a pod that waits watches", || cluster.server.world().watches > 0);
    gate.open();
    let tokens: Vec<String> =
        started.into_iter().map(|process| process.finish().token().to_owned()).collect();
    let stored = cluster.document();
    assert_eq!(tokens, vec![stored["session"]["access_token"].as_str().unwrap(); CROWD]);
    assert_ne!(tokens[0], issued.access_token);
    assert_eq!(stored.get("attempts"), None);
    assert_eq!(server.counts().refreshes, 1);
    assert_eq!(cluster.server.member("another.member").unwrap(), "stays");
    cluster.nothing_unexpected(&server);
}

#[test]
fn an_unanswered_patch_is_read_back() {
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
fn nothing_is_spent_if_the_secret_cannot_be_read() {
    let server = server(|_| {});
    let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
    for outage in [Outage::Stopped, Outage::Gone] {
        cluster.server.world().outage = Some(outage);
        let ran = cluster.run(&["--timeout", "1", "token"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{outage:?}: {ran:?}");
        assert_eq!(server.counts().refreshes, 0, "{outage:?}");
    }
    cluster.server.world().outage = None;
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
fn an_empty_secret_is_enough_and_a_logout_removes_only_its_own_member() {
    let server = server(|settings| settings.auto_approve = true);
    let cluster = Cluster::new();
    let login = ["login", &server.issuer(), "--client-id", server.client_id(), "--device"];
    let ran = cluster.run(&login);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
    let hint = format!("hint: kubectl -n {NAMESPACE} create secret generic {NAME}");
    assert!(ran.stderr.contains(&hint), "{}", ran.stderr);
    assert_eq!(server.counts().device_requests, 0, "no person was asked for anything");

    cluster.server.put("another.member", "stays");
    assert_eq!(cluster.run(&login).code, 0);
    assert_eq!(cluster.run(&["profiles"]).stdout, "another.member\ndefault\n");
    cluster.run(&["token"]).token();
    assert_eq!(cluster.run(&["logout"]).code, 0);
    assert_eq!(cluster.run(&["profiles"]).stdout, "another.member\n");
    cluster.nothing_unexpected(&server);
}

#[test]
fn a_login_creates_the_secret_if_it_has_the_right_to() {
    let server = server(|settings| settings.auto_approve = true);
    let cluster = Cluster::new();
    cluster.server.world().rights.push("create");
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
fn a_claim_is_enough_if_a_lock_is_required() {
    let server = server(|_| {});
    let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
    let ran = run(cluster.pod(0, &["-v", "token"]).env("ONEGRANT_LOCK", "require"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("(claimed)"), "{ran:?}");
    assert_eq!(server.counts().refreshes, 1);
    cluster.nothing_unexpected(&server);
}

#[test]
fn a_missing_right_is_reported_and_nothing_is_spent() {
    let server = server(|_| {});
    let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
    for right in ["get", "patch"] {
        cluster.server.world().rights.retain(|other| *other != right);
        let ran = cluster.run(&["token"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
        for part in [&format!("cannot {right} resource"), "a Role with get, patch and watch on it"] {
            assert!(ran.stderr.contains(part), "{}", ran.stderr);
        }
        assert_eq!(server.counts().refreshes, 0);
        cluster.server.world().rights = RIGHTS.to_vec();
    }
    // Without the right to watch a process reads again and again.
    cluster.server.world().rights = vec!["get", "patch"];
    let started: Vec<Process> = (0..3).map(|pod| Process::start(&mut cluster.pod(pod, &["token"]))).collect();
    started.into_iter().for_each(|process| drop(process.finish().token().to_owned()));
    assert_eq!(server.counts().refreshes, 1);
    cluster.nothing_unexpected(&server);
}

#[test]
fn a_secret_that_is_deleted_has_no_grant() {
    let server = server(|_| {});
    let (cluster, _) = Cluster::with_grant(&server, EXPIRED);
    cluster.server.delete();
    assert_eq!(cluster.run(&["token"]).code, 3);
    assert_eq!(server.counts().refreshes, 0);
    cluster.nothing_unexpected(&server);
}

/// A request that was made of the real server, and its answer. See `fixtures/kubernetes/transcripts/README.md`.
struct Transcript {
    name: String,
    request: Vec<String>,
    answer: Answer,
}

#[derive(Debug, PartialEq)]
struct Answer {
    status_line: String,
    /// The headers that a client reads.
    headers: BTreeMap<String, String>,
    /// One JSON value for each line.
    body: Vec<Value>,
}

impl Answer {
    fn new(head: &str, body: &str) -> Self {
        let mut lines = head.lines();
        let status_line = lines.next().unwrap().to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.filter(|(name, _)| ["Content-Type", "Transfer-Encoding"].contains(name));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self {
            status_line,
            headers,
            body: body.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        }
    }

    /// Removes what is different in each answer, and returns the versions that were in it.
    fn versions(&mut self) -> Vec<String> {
        let mut versions = Vec::new();
        for line in &mut self.body {
            let object = if line.get("object").is_some() { &mut line["object"] } else { line };
            let is_too_old = object["code"] == 410;
            if let Some(message) = object["message"].as_str().filter(|_| is_too_old) {
                let (words, oldest) = message.split_once(" (").unwrap();
                assert!(oldest.trim_end_matches(')').parse::<u64>().is_ok(), "{message}");
                object["message"] = words.into();
            }
            let Some(version) = object["metadata"].get_mut("resourceVersion") else { continue };
            versions.push(version.as_str().unwrap().to_owned());
            *version = Value::Null;
            for name in ["uid", "creationTimestamp"] {
                assert!(object["metadata"][name].is_string(), "{name}");
                object["metadata"][name] = Value::Null;
            }
            assert!(object["metadata"]["managedFields"].is_array());
            object["metadata"]["managedFields"] = json!([]);
        }
        versions
    }
}

impl Transcript {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let lines = |mark: char| text.lines().filter_map(move |line| line.strip_prefix(mark));
        let lines = |mark| lines(mark).map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned());
        let answer = lines('<').collect::<Vec<_>>().join("\n");
        let (head, body) = answer.split_once("\n\n").unwrap_or((&answer, ""));
        Self {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            request: lines('>').collect(),
            answer: Answer::new(head.trim_end(), body),
        }
    }

    /// Sends the request with the versions of this server instead of those of the real one.
    fn send(&self, server: &Kubernetes, token: &str, versions: &BTreeMap<String, String>) -> Answer {
        let translated = |version: &str| versions.get(version).map_or(version, String::as_str).to_owned();
        let mut head = self.request.split(String::is_empty).next().unwrap().join("\r\n");
        if let Some((_, rest)) = head.split_once("resourceVersion=") {
            let version = rest.split('&').next().unwrap();
            head = head.replace(&format!("Version={version}&"), &format!("Version={}&", translated(version)));
        }
        let (line, headers) = head.split_once("\r\n").unwrap();
        let headers = headers.replace("Bearer onegrant", token).replace("Bearer administrator", token);
        let mut body = self.request.split(String::is_empty).nth(1).unwrap_or_default().concat();
        if let Ok(mut json) = serde_json::from_str::<Value>(&body)
            && let Some(version) = json["metadata"].get_mut("resourceVersion")
        {
            *version = translated(version.as_str().unwrap()).into();
            body = json.to_string();
        }
        let length = body.len();
        let mut connection = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
        let request = format!("{line} HTTP/1.1\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{body}");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let is_chunked = head.contains("chunked");
        Answer::new(head, &if is_chunked { without_chunks(body) } else { body.to_owned() })
    }
}

fn without_chunks(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").unwrap();
        match usize::from_str_radix(length, 16).unwrap() {
            0 => return whole,
            length => {
                whole += &rest[..length];
                body = rest[length..].strip_prefix("\r\n").unwrap();
            }
        }
    }
}

/// The server of these tests answers all recorded requests as the real one did, in the same order. Each version of the real
/// server corresponds to one version of this server in all answers.
#[test]
fn the_server_of_the_tests_answers_as_the_real_one_did() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kubernetes/transcripts");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() >= 25, "{}", paths.len());
    let server = Kubernetes::start();
    let mut versions = BTreeMap::new();
    for mut transcript in paths.iter().map(|path| Transcript::read(path)) {
        let name = transcript.name.clone();
        let is_sent_by = |user: &str| transcript.request[1] == format!("Authorization: Bearer {user}");
        let mut world = server.world();
        world.rights = match name.as_str() {
            _ if is_sent_by("administrator") => vec!["create"],
            name if name.ends_with("-403") => Vec::new(),
            _ => RIGHTS.to_vec(),
        };
        world.outage = match name.split_once('-').unwrap().1 {
            "read-500" | "patch-504" => Some(Outage::Stopped),
            "read-504" => Some(Outage::Gone),
            _ => None,
        };
        drop(world);
        if name.ends_with("-watch-deleted") {
            server.delete();
        }
        let mut found = transcript.send(&server, "Bearer first", &versions);
        let recorded = transcript.answer.versions();
        let versions_here = found.versions();
        assert_eq!(found, transcript.answer, "{name}");
        for (recorded, here) in recorded.into_iter().zip(versions_here) {
            assert_eq!(versions.entry(recorded).or_insert_with(|| here.clone()), &here, "{name}");
        }
    }
    let different: BTreeSet<_> = versions.values().collect();
    assert_eq!(different.len(), versions.len(), "two versions of the real server are two here: {versions:?}");
    assert_eq!(server.world().unexpected.len(), 1, "the wrong token");
}

#[test]
fn one_pod_sends_two_requests_and_clears_a_dead_grant_for_all_pods() {
    let server = server(|_| {});
    let (cluster, issued) = Cluster::with_grant(&server, EXPIRED);
    cluster.server.put("another.member", "stays");
    server.end_grant(&issued.refresh_token);
    let started: Vec<Process> =
        (0..CROWD).map(|pod| Process::start(&mut cluster.pod(pod, &["token"]))).collect();
    for process in started {
        let ran = process.finish();
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    }
    let document = cluster.document();
    assert_eq!((&document["session"], document.get("attempts")), (&Value::Null, None), "{document}");
    assert_eq!(document["client_id"], server.client_id(), "a login needs no options again");
    assert_eq!(cluster.server.member("another.member").unwrap(), "stays");
    assert_eq!(cluster.run(&["token"]).code, 3);
    assert_eq!(server.counts().refreshes, 2);
    cluster.nothing_unexpected(&server);
}

/// Otherwise every process that can write the Secret could run commands in every pod, and read its variables and files.
#[test]
fn programs_and_files_that_a_shared_store_names_are_used_only_if_the_store_is_trusted() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-1".to_owned()]);
    let (cluster, issued) = Cluster::with_grant(&server, EXPIRED);
    let ran_by = cluster.home.root.join("ran");
    let document = document(&server, &issued, EXPIRED);
    let source = |source: Value| {
        let mut document = document.clone();
        document["grant"] = json!({
            "type": "token_exchange",
            "subject_token": source,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        });
        document
    };
    let with = |name: &str, value: Value, auth: &str| {
        let mut document = document.clone();
        (document[name], document["client_auth"]) = (value, auth.into());
        document
    };
    for named in [
        source(json!({"command": format!("touch {}; echo subject-1", ran_by.display())})),
        source(json!({"environment": "SECRET"})),
        source(json!({"file": cluster.token_file()})),
        with("client_key", json!({"file": cluster.token_file()}), "private_key_jwt"),
        with("client_secret_env", "SECRET".into(), "post"),
    ] {
        let stored = named.to_string();
        cluster.server.put("default", &stored);
        for arguments in [&["token"][..], &["refresh"], &["exec", "--", "/bin/true"], &["status"], &["login"]]
        {
            let ran = run(cluster.pod(0, arguments).env("SECRET", "secret"));
            assert_eq!(ran.code, 5, "{arguments:?}: {ran:?}");
            assert!(ran.stderr.contains("\nhint: export ONEGRANT_TRUST_STORE=1 "), "{arguments:?}: {ran:?}");
        }
        assert!(!ran_by.exists());
        assert_eq!(cluster.server.member("default").unwrap(), stored);
    }
    assert_eq!(server.counts().token_requests, 0);
    // A login that would store such a source fails before it sends a request.
    cluster.server.world().data.as_mut().unwrap().remove("default");
    let arguments = ["login", &server.issuer(), "--client-id", "c", "--subject-token", "env:SECRET"];
    let ran = run(cluster.pod(0, &arguments).env("SECRET", "subject-1"));
    assert!(ran.code == 5 && ran.stderr.contains("ONEGRANT_TRUST_STORE=1"), "{ran:?}");
    assert_eq!(server.counts().token_requests, 0);

    // If the caller trusts the store, the command runs, also in the worker.
    let secret = cluster.home.root.join("secret");
    fs::write(&secret, server.client_secret()).unwrap();
    let command = format!("command:touch {}; echo subject-1", ran_by.display());
    let mut login =
        cluster.pod(0, &["login", &server.issuer(), "--client-id", server.confidential_client_id()]);
    login.args(["--subject-token", &command, "--client-secret-file"]).arg(&secret);
    let ran = run(login.env("ONEGRANT_TRUST_STORE", "1"));
    assert_eq!(ran.code, 0, "{ran:?}");
    fs::remove_file(&ran_by).unwrap();
    let mut document = cluster.document();
    document["session"]["expires_at"] = (now() + EXPIRED).into();
    cluster.server.put("default", &document.to_string());
    assert_eq!(cluster.run(&["token"]).code, 5);
    assert!(!ran_by.exists());
    assert_eq!(run(cluster.pod(0, &["token"]).env("ONEGRANT_TRUST_STORE", "1")).code, 0);
    assert!(ran_by.exists());
    cluster.nothing_unexpected(&server);
}

#[test]
fn the_profile_of_an_address_is_found_in_a_secret() {
    let (one, two) = (server(|_| {}), server(|_| {}));
    let cluster = Cluster::new();
    let url = |server: &AuthorizationServer| format!("{}/mcp", server.issuer());
    for (member, server) in [("one", &one), ("two", &two)] {
        let mut document = document(server, &server.issue_grant(), EXPIRED);
        document["resource"] = json!([url(server)]);
        cluster.server.put(member, &document.to_string());
    }
    cluster.server.put("another.member", "stays");
    let ran = cluster.run(&["token", "--for", &url(&two)]);
    assert!(two.access_token_is_valid(ran.token()));
    assert_eq!((one.counts().refreshes, two.counts().refreshes), (0, 1));
    assert_eq!(cluster.run(&["token", "--for", "https://wiki.example"]).code, 3);
    let listed = format!("another.member\none\t{}\ntwo\t{}\n", url(&one), url(&two));
    assert_eq!(cluster.run(&["profiles"]).stdout, listed);
    cluster.nothing_unexpected(&one);
    cluster.nothing_unexpected(&two);
}
