//! `onegrant helper aws`: credentials of a role for the ID token, one request for any number of processes, and never the
//! credentials of another grant.

use crate::support::keyring::Keyring;
use crate::support::*;
use serde_json::{Value, json};
use servers::kubernetes::{Kubernetes, NAME, NAMESPACE};
use servers::sts::{self, FORBIDDEN_ROLE, Fault, StsServer, signed};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

/// How many processes ask at once.
const CROWD: usize = 50;

/// The person at the authorization server.
const SUBJECT: &str = "248289761001";

const ROLE: &str = "arn:aws:iam::123456789012:role/Deploy";

/// An authorization server, an STS that knows it, and a home with a grant.
struct AwsTest {
    server: AuthorizationServer,
    sts: StsServer,
    home: Home,
}

impl AwsTest {
    /// The ID token lasts for so many seconds.
    fn new(left: i64) -> Self {
        Self::with_servers(left, |settings| settings.refreshes_id_tokens = true, |_| {})
    }

    fn with_servers(
        left: i64,
        change: impl FnOnce(&mut Settings),
        change_sts: impl FnOnce(&mut sts::Settings),
    ) -> Self {
        let server = server(change);
        let mut settings = sts::Settings {
            issuer: server.issuer(),
            audience: server.client_id().to_owned(),
            ..sts::Settings::default()
        };
        change_sts(&mut settings);
        let test = Self { sts: StsServer::start(settings), home: Home::new(), server };
        let issued = test.server.issue_grant();
        let mut document = document(&test.server, &issued, LIFETIME);
        // An earlier refresh than the end of the ID token.
        document["session"]["obtained_at"] = json!(now() - LIFETIME);
        document["session"]["id_token"] = json!(test.id_token(SUBJECT, left));
        document["scope"] = json!("openid");
        document["login"] = json!({ "id": "first", "at": now() - LIFETIME, "flow": "device" });
        test.home.write(&document);
        test
    }

    fn id_token(&self, who: &str, left: i64) -> String {
        let (end, issuer) = (now() + left, self.server.issuer());
        let audience = self.server.client_id();
        signed(&json!({ "iss": issuer, "sub": who, "aud": audience, "iat": end - LIFETIME, "exp": end }))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("AWS_ENDPOINT_URL_STS", self.sts.url());
        command
    }

    fn helper(&self) -> Command {
        self.command(&["helper", "aws", "--role-arn", ROLE])
    }

    fn run(&self) -> Ran {
        run(&mut self.helper())
    }

    /// The access key identifier that it prints.
    #[track_caller]
    fn key(&self) -> String {
        key(&self.run())
    }

    /// The file with the credentials. Its lock has another name.
    fn cache(&self) -> PathBuf {
        let names = self.cache_names();
        let name = names.iter().find(|name| !name.ends_with(".lock")).expect("there is no cache");
        self.home.state.join(name)
    }

    fn cache_names(&self) -> Vec<String> {
        self.home.names().into_iter().filter(|name| name.contains("~aws.")).collect()
    }

    /// Changes the file as another program would.
    fn change_cache(&self, change: impl FnOnce(&mut Value)) {
        let mut entry: Value = serde_json::from_slice(&fs::read(self.cache()).unwrap()).unwrap();
        change(&mut entry);
        fs::write(self.cache(), entry.to_string()).unwrap();
    }

    fn change_document(&self, change: impl FnOnce(&mut Value)) {
        let mut document = self.home.document();
        change(&mut document);
        self.home.write(&document);
    }
}

#[track_caller]
fn key(ran: &Ran) -> String {
    ran.token();
    key_of_answer(ran)
}

/// The same where there may be a warning.
#[track_caller]
fn key_of_answer(ran: &Ran) -> String {
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    answer["AccessKeyId"].as_str().unwrap().to_owned()
}

/// Whether it waits in the kernel's lock table.
fn waits_for_a_lock(pid: u32) -> bool {
    let pid = pid.to_string();
    let table = fs::read_to_string("/proc/locks").unwrap();
    table.lines().any(|line| line.contains("->") && line.split_whitespace().any(|word| word == pid))
}

/// Starts so many processes: the first one holds the lock while its request is held, and the others wait for it.
fn crowd_behind_one(test: &AwsTest, others: usize) -> (Vec<Process>, Gate) {
    let gate = Gate::closed();
    test.sts.fail_next([Fault::Hold(gate.clone())]);
    let mut processes = vec![Process::start(&mut test.helper())];
    wait_for("the first request", || test.sts.held() == 1);
    processes.extend((0..others).map(|_| Process::start(&mut test.helper())));
    for process in &processes[1..] {
        wait_for("the wait for the lock", || waits_for_a_lock(process.pid()));
    }
    (processes, gate)
}

#[test]
fn credentials_are_printed_as_a_credential_process_prints_them() {
    for always_xml in [false, true] {
        let test = AwsTest::with_servers(600, |_| {}, |settings| settings.always_xml = always_xml);
        let ran = test.run();
        let answer: Value = serde_json::from_str(ran.token()).unwrap();
        let names: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["AccessKeyId", "Expiration", "SecretAccessKey", "SessionToken", "Version"]);
        assert_eq!((&answer["Version"], &answer["AccessKeyId"]), (&json!(1), &json!("ASIA0000000000000000")));
        assert!(answer["Expiration"].as_str().unwrap().ends_with('Z'), "{answer}");
        assert_eq!(test.run(), ran);
        assert_eq!((test.sts.answered(), test.server.counts().refreshes), (vec!["ok".to_owned()], 0));
        let mode = fs::metadata(test.cache()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
}

#[test]
fn fifty_processes_cost_one_refresh_and_one_request() {
    let test = AwsTest::new(-5);
    let ran = run_together((0..CROWD).map(|_| test.helper()).collect());
    assert_all(&ran, &test.run());
    assert_eq!(key(&ran[0]), "ASIA0000000000000000");
    assert_eq!((test.sts.answered(), test.server.counts().refreshes), (vec!["ok".to_owned()], 1));
}

/// Credentials that end within five minutes are replaced by a later process. Those that waited for them use them.
#[test]
fn processes_that_waited_use_the_credentials_of_the_one_that_asked() {
    let test = AwsTest::new(600);
    let (processes, gate) = crowd_behind_one(&test, 5);
    gate.open();
    for process in processes {
        assert_eq!(key(&process.finish()), "ASIA0000000000000000");
    }
    assert_eq!(test.sts.answered(), ["ok"]);
}

/// For a machine whose clock is far ahead, each answer has ended already.
#[test]
fn processes_that_waited_use_credentials_that_have_ended_by_their_own_clock() {
    let test = AwsTest::with_servers(600, |_| {}, |settings| settings.clock_behind = 7200);
    let (processes, gate) = crowd_behind_one(&test, 5);
    gate.open();
    for process in processes {
        assert_eq!(key(&process.finish()), "ASIA0000000000000000");
    }
    assert_eq!(test.sts.answered(), ["ok"]);
    assert_eq!(test.key(), "ASIA0000000000000001");
}

#[test]
fn processes_that_waited_share_a_failure_and_a_later_one_asks_again() {
    let test = AwsTest::new(600);
    // The identity provider of the account knows another audience.
    test.change_document(|document| {
        let claims = json!({ "iss": test.server.issuer(), "sub": SUBJECT, "aud": "x", "exp": now() + 600 });
        document["session"]["id_token"] = json!(signed(&claims));
    });
    let wanted = Ran::failed(
        2,
        "onegrant: no credentials from AWS STS: status 400: InvalidIdentityToken: Incorrect token audience\n\
         hint: onegrant status   # issuer and audience of the ID token: the identity provider in IAM and the trust \
         policy of the role must name them\n",
    );
    let (processes, gate) = crowd_behind_one(&test, 5);
    gate.open();
    for process in processes {
        assert_eq!(process.finish(), wanted);
    }
    assert_eq!(test.sts.answered(), ["InvalidIdentityToken"]);
    assert_eq!(test.run(), wanted);
    assert_eq!(test.sts.answered().len(), 2);
}

#[test]
fn each_role_session_and_duration_has_credentials_of_its_own() {
    let test = AwsTest::new(600);
    let other = "arn:aws:iam::123456789012:role/Other";
    let calls: [&[&str]; 4] = [
        &["helper", "aws", "--role-arn", ROLE],
        &["helper", "aws", "--role-arn", other],
        &["helper", "aws", "--role-arn", ROLE, "--session-name", "alice@example.com"],
        &["helper", "aws", "--role-arn", ROLE, "--duration", "900"],
    ];
    let keys = |_: &str| calls.map(|call| key(&run(&mut test.command(call))));
    let first = keys("first");
    assert_eq!(keys("again"), first);
    let mut different = first.to_vec();
    different.dedup();
    assert_eq!((different.len(), test.sts.answered().len()), (4, 4));
}

#[test]
fn an_id_token_that_sts_calls_expired_is_replaced_by_one_refresh() {
    let test = AwsTest::new(600);
    test.sts.fail_next([Fault::Expire]);
    test.key();
    assert_eq!(test.sts.answered(), ["ExpiredTokenException", "ok"]);
    assert_eq!(test.server.counts().refreshes, 1);
    let tokens = test.sts.tokens();
    assert_ne!(tokens[0], tokens[1]);

    // The next one is refused, too: no second refresh.
    let test = AwsTest::new(600);
    test.sts.fail_next([Fault::Expire, Fault::Expire]);
    let message = "onegrant: no credentials from AWS STS: status 400: ExpiredTokenException: Token expired";
    assert_eq!(test.run(), Ran::failed(3, format!("{message}\nhint: onegrant login\n")));
    assert_eq!((test.sts.answered().len(), test.server.counts().refreshes), (2, 1));

    // The refresh brings none.
    let test = AwsTest::with_servers(600, |_| {}, |_| {});
    test.sts.fail_next([Fault::Expire]);
    let why = "the server gives no other ID token when the grant is refreshed";
    assert_eq!(test.run(), Ran::failed(3, format!("{message}; {why}\nhint: onegrant login\n")));
    assert_eq!((test.sts.answered().len(), test.server.counts().refreshes), (1, 1));
}

#[test]
#[rustfmt::skip]
fn each_error_of_sts_has_its_exit_code_and_its_number_of_requests() {
    let test = AwsTest::new(600);
    let error = |status, code| Fault::Error(status, code, "why");
    let compare = "onegrant status   # issuer and audience of the ID token: the identity provider in IAM and the trust policy of the role must name them";
    // (what happens, requests, exit code, part of the message, hint)
    let cases = [
        (vec![error(400, "InvalidIdentityToken")],      1, 2, "status 400: InvalidIdentityToken: why", compare),
        (vec![error(403, "AccessDenied")],              1, 2, "status 403: AccessDenied: why",         compare),
        (vec![error(403, "IDPRejectedClaim")],          1, 3, "status 403: IDPRejectedClaim: why",     "onegrant login"),
        (vec![error(400, "ValidationError")],           1, 2, "status 400: ValidationError: why",      "onegrant helper --help"),
        (vec![error(400, "IDPCommunicationError"); 3],  3, 4, "status 400: IDPCommunicationError: why", "try again"),
        (vec![error(400, "Throttling"); 3],             3, 4, "status 400: Throttling: why",           "try again"),
        (vec![Fault::Answer(Response::new(503)); 3],    3, 4, "status 503",                            "try again"),
        (vec![Fault::Answer(Response::new(503).header("retry-after", "600"))], 1, 4, "status 503 and asks to wait", "try again"),
    ];
    for (faults, requests, code, message, hint) in cases {
        let before = test.sts.answered().len();
        test.sts.fail_next(faults);
        let ran = test.run();
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        assert!(ran.stderr.starts_with(&format!("onegrant: no credentials from AWS STS: {message}")), "{ran:?}");
        assert!(ran.stderr.ends_with(&format!("\nhint: {hint}\n")), "{ran:?}");
        assert_eq!(test.sts.answered().len() - before, requests, "{message}");
    }
    for (fault, code, message) in [
        (Fault::HangUp,                                4, "onegrant: no credentials from AWS STS: no whole answer from 127.0.0.1:"),
        (Fault::Answer(Response::new(302).header("location", "/x")), 4, "onegrant: no credentials from AWS STS: the server answered with status 302, a redirect"),
        (Fault::Answer(Response::new(200).body("<html>Sign in")),   4, "onegrant: no credentials from AWS STS: the answer is not one of AssumeRoleWithWebIdentity"),
    ] {
        let before = test.sts.answered().len();
        test.sts.fail_next([fault]);
        let ran = test.run();
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        assert!(ran.stderr.starts_with(message), "{ran:?}");
        assert_eq!(test.sts.answered().len() - before, 1, "{message}");
    }
    let forbidden = format!("arn:aws:iam::123456789012:role/{FORBIDDEN_ROLE}");
    assert_eq!(run(&mut test.command(&["helper", "aws", "--role-arn", &forbidden])).code, 2);
    assert_eq!(test.server.counts().refreshes, 0);
}

#[test]
fn a_temporary_error_is_asked_once_more() {
    let test = AwsTest::new(600);
    test.sts.fail_next([Fault::Error(400, "IDPCommunicationError", "why")]);
    test.key();
    assert_eq!(test.sts.answered(), ["IDPCommunicationError", "ok"]);
}

/// What another person, another program or an accident may leave. Each costs one request.
#[test]
fn stored_credentials_are_used_by_their_own_grant_alone() {
    type Change = fn(&AwsTest);
    let changes: [(&str, Change); 11] = [
        ("another login of the same person", |test| {
            test.change_document(|document| document["login"]["id"] = json!("second"));
        }),
        ("another person", |test| {
            let other = json!(test.id_token("bob", 600));
            test.change_document(|document| document["session"]["id_token"] = other);
        }),
        ("half a file", |test| {
            let text = fs::read(test.cache()).unwrap();
            fs::write(test.cache(), &text[..text.len() / 2]).unwrap();
        }),
        ("an empty file", |test| fs::write(test.cache(), "").unwrap()),
        ("a file of another role", |test| test.change_cache(|entry| entry["key"] = json!("0000"))),
        ("a file that others can read", |test| {
            fs::set_permissions(test.cache(), fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("a link", |test| {
            let (cache, other) = (test.cache(), test.home.root.join("other"));
            fs::rename(&cache, &other).unwrap();
            symlink(other, cache).unwrap();
        }),
        ("a link to nothing", |test| {
            let cache = test.cache();
            fs::remove_file(&cache).unwrap();
            symlink("/nothing/there", cache).unwrap();
        }),
        ("a FIFO", |test| {
            let cache = test.cache();
            fs::remove_file(&cache).unwrap();
            assert!(Command::new("mkfifo").arg(cache).status().unwrap().success());
        }),
        ("credentials that have ended", |test| {
            test.change_cache(|entry| entry["credentials"]["Expiration"] = json!(now() - 1));
        }),
        ("a clock that was set back", |test| {
            test.change_cache(|entry| entry["obtained_at"] = json!(now() + LIFETIME));
        }),
    ];
    for (what, change) in changes {
        let test = AwsTest::new(600);
        let first = test.key();
        change(&test);
        let second = test.key();
        assert_ne!(second, first, "{what}");
        assert_eq!(test.sts.answered().len(), 2, "{what}");
        assert_eq!(test.key(), second, "{what}: the new ones are stored");
        assert_eq!(test.sts.answered().len(), 2, "{what}");
        assert!(fs::symlink_metadata(test.cache()).unwrap().is_file(), "{what}");
    }
}

#[test]
fn a_refresh_keeps_the_credentials() {
    let test = AwsTest::new(600);
    let first = test.key();
    assert_eq!(test.home.run(&["refresh"]).code, 0);
    assert_eq!((test.key(), test.server.counts().refreshes), (first, 1));
    assert_eq!(test.sts.answered(), ["ok"]);
}

#[test]
fn a_logout_removes_the_credentials() {
    let test = AwsTest::new(600);
    test.key();
    assert_eq!(test.home.run(&["logout"]).code, 0);
    assert_eq!(test.home.names(), ["default.lock"]);
    let ran = test.run();
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert_eq!(test.sts.answered(), ["ok"]);
    assert_eq!(test.cache_names(), [""; 0]);
}

#[test]
fn a_login_removes_the_credentials_of_the_grant_that_it_replaces() {
    let test = AwsTest::with_servers(600, |settings| settings.auto_approve = true, |_| {});
    let first = test.key();
    let login = ["login", "--device", "--scope", "openid"];
    assert_eq!(test.home.run(&login).code, 0);
    assert_eq!(test.cache_names(), [""; 0]);
    assert_ne!(test.key(), first);
    assert_eq!(test.sts.answered(), ["ok", "ok"]);
}

/// The credentials come after the logout. They are handed out, as they work, and are not stored.
#[test]
fn a_logout_during_the_request_leaves_no_credentials() {
    let test = AwsTest::new(600);
    let (mut processes, gate) = crowd_behind_one(&test, 0);
    assert_eq!(test.home.run(&["logout"]).code, 0);
    gate.open();
    key(&processes.remove(0).finish());
    let left: Vec<String> = test.cache_names().into_iter().filter(|name| !name.ends_with(".lock")).collect();
    assert_eq!(left, [""; 0]);
    assert_eq!(test.run().code, 3);
}

#[test]
fn credentials_that_still_work_are_used_if_no_others_can_be_had() {
    let test = AwsTest::new(600);
    let first = test.key();
    let ends_soon = || test.change_cache(|entry| entry["credentials"]["Expiration"] = json!(now() + 200));
    ends_soon();
    test.sts.fail_next([Fault::HangUp]);
    let ran = test.run();
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, answer["AccessKeyId"].as_str().unwrap()), (0, first.as_str()));
    let warning = "onegrant: warning: the stored credentials are used, which end at ";
    assert!(ran.stderr.starts_with(warning) && ran.stderr.lines().count() == 1, "{ran:?}");
    assert_eq!(test.sts.answered(), ["ok", "nothing"]);

    // A server that does not answer delays no process until its deadline.
    test.sts.fail_next([Fault::Hold(Gate::closed())]);
    let ran = run(&mut test.helper());
    assert!(
        ran.code == 0 && ran.stdout.contains(&first) && ran.stderr.contains(" within 5.0 s\n"),
        "{ran:?}"
    );
    assert_eq!(test.sts.held(), 1);

    // While another process replaces them, no process waits for it.
    let (mut held, mut answered) = (1, 0);
    let replace = || {
        (held, answered) = (held + 1, test.sts.answered().len());
        let gate = Gate::closed();
        test.sts.fail_next([Fault::Hold(gate.clone())]);
        let other = Process::start(&mut test.helper());
        wait_for("the request", || test.sts.held() == held);
        assert_eq!(test.key(), first);
        gate.open();
        key_of_answer(&other.finish())
    };
    // If the machine stalls, the time for other credentials is over before the gate opens: then once more.
    let second = std::iter::repeat_with(replace).take(3).find(|key| *key != first).unwrap();
    assert_eq!((test.key(), test.sts.answered().len()), (second, answered + 1));
}

#[test]
fn a_process_that_is_killed_or_stopped_keeps_no_other_one_from_its_credentials() {
    use rustix::process::Signal;
    let test = AwsTest::new(600);
    let (mut processes, _gate) = crowd_behind_one(&test, 1);
    processes[0].signal(Signal::KILL);
    assert_eq!(key(&processes.remove(1).finish()), "ASIA0000000000000000");
    assert_eq!(test.sts.answered(), ["ok"]);

    let test = AwsTest::new(600);
    let (processes, _gate) = crowd_behind_one(&test, 0);
    processes[0].signal(Signal::STOP);
    // If the machine stalls, the time that the wait for the lock leaves for a request is over: then once more.
    let attempt = || run(test.helper().args(["--timeout", "8"]));
    let ran = std::iter::repeat_with(attempt).take(3).find(|ran| ran.code != 4).unwrap();
    assert_eq!(test.sts.answered().last().map(String::as_str), Some("ok"));
    assert_eq!(key(&ran), format!("ASIA{:016}", test.sts.answered().len() - 1));
}

#[test]
fn a_directory_that_cannot_be_written_costs_a_warning_and_no_credentials() {
    let test = AwsTest::new(600);
    fs::set_permissions(&test.home.state, fs::Permissions::from_mode(0o500)).unwrap();
    let read_only = unprivileged(&test.helper());
    let script = "cp -p \"$0/state/default.json\" \"$0/document\"; mount -t tmpfs -o size=64k,mode=700 none \"$0/state\"; \
                  cp -p \"$0/document\" \"$0/state/default.json\"; \
                  dd if=/dev/zero of=\"$0/state/x\" 2>/dev/null || true; exec \"$@\"";
    let full = in_namespace(script, &test.home, &test.helper());
    for (mut command, mode) in [(read_only, 0o500), (full, 0o700)] {
        fs::set_permissions(&test.home.state, fs::Permissions::from_mode(mode)).unwrap();
        let before = test.sts.answered().len();
        let ran = run(&mut command);
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, &answer["Version"]), (0, &json!(1)), "{ran:?}");
        let warning = "onegrant: warning: the credentials are not kept for other processes: ";
        assert!(ran.stderr.starts_with(warning), "{ran:?}");
        assert_eq!(test.sts.answered().len() - before, 1);
    }
}

/// The credentials lie in the home, and a logout removes them there.
#[test]
fn a_store_without_files_keeps_the_credentials_in_the_home() {
    let test = AwsTest::new(600);
    let document = test.home.document().to_string();
    let (keyring, kubernetes) = (Keyring::new(), Kubernetes::start());
    keyring.write(&document);
    kubernetes.put("default", &document);
    let token_file = test.home.root.join("token");
    fs::write(&token_file, "first\n").unwrap();
    kubernetes.world().token = "first".to_owned();
    for (store, directory) in
        [(keyring.store.clone(), "~helper.test"), (format!("kubernetes://{NAMESPACE}/{NAME}"), "~kubernetes")]
    {
        let home = test.home.root.join(directory);
        let call = |words: &[&str]| {
            let mut command = test.command(words);
            command.env("ONEGRANT_HOME", &home).env("ONEGRANT_STORE", &store);
            command.env("ONEGRANT_KUBERNETES_API", &kubernetes.url);
            command.env("ONEGRANT_KUBERNETES_TOKEN_FILE", &token_file);
            command
        };
        let names = || {
            let entries = fs::read_dir(home.join(directory)).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.retain(|name| name.starts_with("default~aws."));
            names.len()
        };
        let before = test.sts.answered().len();
        let helper = ["helper", "aws", "--role-arn", ROLE];
        let ran = run_together((0..10).map(|_| call(&helper)).collect());
        assert_all(&ran, &run(&mut call(&helper)));
        assert_eq!((ran[0].code, test.sts.answered().len() - before), (0, 1), "{directory}");
        assert_eq!(names(), 2, "{directory}: the file and its lock");
        assert_eq!(run(&mut call(&["logout", "--local"])).code, 0, "{directory}");
        assert_eq!((names(), run(&mut call(&helper)).code), (0, 3), "{directory}");
    }
}

/// The refresh token is dead. One process finds out, in the two requests of a comparison loop.
#[test]
fn a_refresh_that_fails_is_shared_by_the_processes_that_waited() {
    let test = AwsTest::new(-5);
    let gate = Gate::closed();
    test.server.script(Endpoint::Token, [authorization_server::Fault::Hold(gate.clone())]);
    test.change_document(|document| document["session"]["refresh_token"] = json!("dead"));
    let mut processes = vec![Process::start(&mut test.helper())];
    wait_for("the refresh", || test.server.counts().token_requests == 1);
    processes.extend((0..5).map(|_| Process::start(&mut test.helper())));
    for process in &processes[1..] {
        wait_for("the wait for the lock", || waits_for_a_lock(process.pid()));
    }
    gate.open();
    let ran: Vec<Ran> = processes.into_iter().map(Process::finish).collect();
    assert_eq!((ran[0].code, ran[0].stdout.as_str()), (3, ""), "{ran:?}");
    assert_all(&ran, &ran[0]);
    assert_eq!((test.sts.answered().len(), test.server.counts().token_requests), (0, 2));
}

#[test]
fn no_secret_is_on_stderr_and_the_server_is_told() {
    let test = AwsTest::new(600);
    test.sts.fail_next([Fault::Expire]);
    let ran = run(test.helper().arg("-vv"));
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(ran.stderr.contains(&format!("onegrant: asks {}/ for credentials\n", test.sts.url())), "{ran:?}");
    let secrets = ["SecretAccessKey", "SessionToken"].map(|name| answer[name].as_str().unwrap().to_owned());
    for secret in secrets.into_iter().chain(test.sts.tokens()) {
        assert!(!ran.stderr.contains(&secret), "{ran:?}");
    }
}

#[test]
fn a_grant_without_an_id_token_names_the_scope_that_brings_one() {
    let test = AwsTest::new(600);
    test.change_document(|document| drop(document["session"].as_object_mut().unwrap().remove("id_token")));
    let wanted = Ran::failed(3, "onegrant: the grant has no ID token\nhint: onegrant login --scope openid\n");
    assert_eq!(test.run(), wanted);
    assert_eq!((test.sts.answered().len(), test.server.counts()), (0, Default::default()));
}
