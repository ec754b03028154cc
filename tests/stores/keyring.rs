//! The helper store: real processes, the fixture server, and a helper program that keeps entries in a directory and fails in
//! the ways of real ones. `.ci/keyring.sh` runs two real ones.

use crate::support::keyring::Keyring;
use crate::support::{
    EXPIRED, Endpoint, Fault, Gate, LIFETIME, Process, Ran, VALID, assert_all, document, run, run_together,
    server, start_together, wait_for,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn twenty_processes_share_one_refresh() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
        let commands = (0..20).map(|_| {
            let mut command = keyring.command(&["token"]);
            command.env("ONEGRANT_LOCK", lock);
            command
        });
        let ran = run_together(commands.collect());
        assert_all(&ran, &Ran::printed(&keyring.access_token()));
        assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0), "{lock}");
        assert_eq!(keyring.calls("store"), 1, "{lock}");
        assert_eq!(keyring.beside(), if lock == "auto" { &["default.lock"][..] } else { &[] }, "{lock}");
    }
}

/// A hundred processes that each run the program several times a second would slow the machine down.
/// How often a process that waits must have looked before its reads are counted.
const LOOKS: usize = 2;

#[test]
fn processes_that_wait_for_a_refresh_do_not_run_the_helper() {
    const CROWD: usize = 20;
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
        let gate = Gate::closed();
        server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
        let command = |arguments: &[&str]| {
            let mut command = keyring.command(arguments);
            command.env("ONEGRANT_LOCK", lock);
            command
        };
        let first = Process::start(&mut command(&["--timeout", "90", "token"]));
        server.wait_until(|counts| counts.rotations == 1);
        let commands = (0..CROWD).map(|_| command(&["--timeout", "90", "-vv", "token"])).collect();
        let crowd = start_together(commands, "/dev/null".as_ref());
        wait_for("a crowd that waits", || {
            crowd.processes.iter().all(|process| process.said().contains("waiting"))
        });
        let before = keyring.calls("get");
        // Each of them looks some more times, at the records or at the lock.
        let looks = |process: &Process| {
            let said = process.said();
            said.matches("waiting").count() + said.matches("the lock is still held").count()
        };
        let seen: Vec<usize> = crowd.processes.iter().map(looks).collect();
        wait_for("more looks of each", || {
            crowd.processes.iter().zip(&seen).all(|(process, seen)| looks(process) >= seen + LOOKS)
        });
        assert_eq!(keyring.calls("get"), before, "{lock}: they look at the records beside the lock");
        gate.open();
        let token = first.finish().token().to_owned();
        assert!(crowd.finish().iter().all(|ran| ran.code == 0 && ran.stdout.trim_end() == token), "{lock}");
        let calls = keyring.calls("get") + keyring.calls("store");
        assert!(calls <= 3 * CROWD, "{lock}: {calls} programs for {CROWD} processes that wait");
        assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0), "{lock}");
    }
}

#[test]
fn a_logout_that_waits_for_a_claim_does_not_run_the_helper() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let first = Process::start(keyring.command(&["token"]).env("ONEGRANT_LOCK", "claim"));
    server.wait_until(|counts| counts.rotations == 1);
    let before = keyring.calls("get");
    let mut logout = keyring.command(&["logout", "--local", "-vv"]);
    let logout = Process::start(logout.env("ONEGRANT_LOCK", "claim"));
    wait_for("a logout that looks again and again", || {
        logout.said().matches("waiting for its claim to end").count() > 10 * LOOKS
    });
    assert!(keyring.calls("get") <= before + 2, "it reads only the records");
    gate.open();
    assert_eq!((first.finish().code, logout.finish().code), (0, 0));
    assert!(!keyring.entry().exists());
}

#[test]
fn the_level_is_reported_as_locked_here() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, VALID);
    for (lock, level) in [("auto", "locked here"), ("claim", "claimed here"), ("off", "compared")] {
        let ran = run(keyring.command(&["status", "--json"]).env("ONEGRANT_LOCK", lock));
        let status: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, status["level"].as_str()), (0, Some(level)), "{ran:?}");
        assert_eq!(status["store"], keyring.store.as_str());
    }
    let text = keyring.run(&["-v", "refresh"]).stderr;
    assert!(text.contains("(locked here)"), "{text}");
    let text = keyring.run(&["doctor"]).stdout;
    assert!(text.contains("locked here: two processes exclude each other"), "{text}");
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    let before = server.counts();
    for arguments in [&["refresh"][..], &["logout"], &["login", "https://as.invalid", "--client-id", "c"]] {
        let ran = run(keyring.command(arguments).env("ONEGRANT_LOCK", "require"));
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains("on this machine alone"), "{arguments:?}: {}", ran.stderr);
        assert_eq!(server.counts(), before, "nothing was sent");
    }
    let (keyring, _) = Keyring::with_grant(&server, VALID);
    let ran = run(keyring.command(&["token"]).env("ONEGRANT_LOCK", "require"));
    assert_eq!(ran, Ran::printed(&keyring.access_token()), "what is fresh changes nothing");
}

#[test]
fn a_get_that_fails_is_tried_again_and_never_means_that_there_is_no_grant() {
    let server = server(|_| {});
    let (keyring, issued) = Keyring::with_grant(&server, VALID);
    let twice = "n=$(grep -c get \"$keyring/calls\"); [ $n -gt 2 ] || fail 'exit status 2: gpg: decrypt_message failed'\n";
    keyring.fault("get", twice);
    assert_eq!(keyring.run(&["token"]), Ran::printed(&issued.access_token));
    assert_eq!(keyring.calls("get"), 3);

    keyring.fault("get", "fail 'Cannot autolaunch D-Bus without X11 $DISPLAY'\n");
    for arguments in [&["token"][..], &["status"], &["refresh"], &["logout"], &["login"]] {
        let ran = keyring.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains("says: Cannot autolaunch D-Bus"), "{}", ran.stderr);
    }
    keyring.repair("get");
    assert_eq!(keyring.access_token(), issued.access_token);
    assert_eq!((server.counts().refreshes, keyring.calls("store"), keyring.calls("erase")), (0, 0, 0));
}

#[test]
fn both_messages_for_a_missing_entry_are_recognized() {
    let keyring = Keyring::new();
    let absent = keyring.run(&["token"]);
    assert_eq!(absent.code, 3, "{absent:?}");
    assert!(absent.stderr.contains("has no grant"), "{}", absent.stderr);
    keyring.fault(
        "get",
        "printf '{\"ServerURL\":\"%s\",\"Username\":\"\",\"Secret\":\"\"}\\n' \"$server\"; exit\n",
    );
    assert_eq!(keyring.run(&["token"]), absent);
    assert_eq!(keyring.run(&["logout"]).code, 0);
}

#[test]
fn a_helper_that_is_missing_or_does_not_answer_is_reported_with_a_hint() {
    let server = server(|_| {});
    let (keyring, issued) = Keyring::with_grant(&server, VALID);
    let ran = run(keyring.command(&["token"]).env("ONEGRANT_STORE", "helper:nowhere"));
    let text = "onegrant: cannot run docker-credential-nowhere, which keeps the grants: No such file or directory\n\
                hint: command -v docker-credential-nowhere\n";
    assert_eq!(ran, Ran::failed(5, text));

    keyring.fault("get", "sleep 50\n");
    let ran = keyring.run(&["--timeout", "0.3", "token"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
    assert!(ran.stderr.contains("get had not ended after 0.3 s\nhint: unlock the keyring"), "{}", ran.stderr);
    keyring.repair("get");
    assert_eq!(keyring.run(&["token"]), Ran::printed(&issued.access_token));
}

#[test]
fn a_new_session_that_the_keyring_refuses_is_kept_and_adopted() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    keyring.fault("store", "fail 'the keyring is full'\n");
    let ran = keyring.run(&["token"]);
    assert!(ran.stderr.contains("the keyring is full"), "{ran:?}");
    assert_eq!(server.counts().refreshes, 1);
    assert_eq!(keyring.beside().len(), 3, "the lock, a record and its answer: {:?}", keyring.beside());
    keyring.repair("store");
    let ran = keyring.run(&["token"]);
    assert_eq!(ran, Ran::printed(&keyring.access_token()));
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0), "no second refresh");
    assert_eq!(keyring.beside(), ["default.lock"]);
}

#[test]
fn an_entry_that_a_kill_broke_is_stored_again_from_its_copy() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    // The program is killed while its entry is half written. After that a `get` fails.
    keyring.fault("store", "printf half >\"$entry\"; touch \"$keyring/broken\"; sleep 50\n");
    keyring.fault("get", "[ \"$(cat \"$entry\")\" != half ] || fail 'gpg: decrypt_message failed'\n");
    let process = Process::start(&mut keyring.command(&["token"]));
    wait_for("a store", || keyring.directory.join("broken").exists());
    let records = fs::read_dir(keyring.home.state.join("~helper.test")).unwrap();
    let record = records
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("~attempt."))
        .unwrap();
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let worker = i32::try_from(record["by"]["pid"].as_i64().unwrap()).unwrap();
    process.signal(Signal::KILL);
    let worker = rustix::process::Pid::from_raw(worker).unwrap();
    rustix::process::kill_process(worker, Signal::KILL).unwrap();
    process.finish();
    keyring.repair("store");
    let ran = run_together((0..5).map(|_| keyring.command(&["token"])).collect());
    assert_all(&ran, &Ran::printed(&keyring.access_token()));
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0), "its answer was not lost");
}

#[test]
fn ctrl_c_does_not_reach_a_helper_program() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    keyring.fault("store", "ps -o pgid= -p $$ >\"$keyring/group\"\n");
    let ran = keyring.run(&["token"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let group = fs::read_to_string(keyring.directory.join("group")).unwrap();
    let mine = rustix::process::getpgrp().as_raw_nonzero().to_string();
    assert_ne!(group.trim(), mine);
}

#[test]
fn a_document_that_is_too_long_for_a_helper_is_refused() {
    let server = server(|_| {});
    let keyring = Keyring::new();
    let mut long = document(&server, &server.issue_grant(), EXPIRED);
    long["odd"] = "x".repeat(70_000).into();
    // Another program stored it.
    keyring.write(&long.to_string());
    let ran = keyring.run(&["token"]);
    assert!(ran.stderr.contains("a helper program reads at most 65535 bytes, but the line has 7"), "{ran:?}");
    assert_eq!(server.counts().refreshes, 1);
}

#[test]
fn login_refresh_and_logout_work_as_in_any_other_store() {
    let server = server(|_| {});
    let keyring = Keyring::new();
    let issued = server.issue_grant();
    let login = [
        "login",
        "--token-endpoint",
        &server.token_endpoint(),
        "--client-id",
        server.client_id(),
        "--refresh-token-stdin",
    ];
    let stdin = keyring.home.root.join("refresh-token");
    fs::write(&stdin, &issued.refresh_token).unwrap();
    // No request is sent before the keyring has stored and returned a trial entry.
    keyring.fault("store", "fail 'pass not initialized'\n");
    let ran = run(keyring.command(&login).stdin(fs::File::open(&stdin).unwrap()));
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("pass not initialized"), "{}", ran.stderr);
    assert_eq!(server.counts().refreshes, 0);
    keyring.repair("store");
    let ran = run(keyring.command(&login).stdin(fs::File::open(&stdin).unwrap()));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(keyring.run(&["profiles"]).stdout, "default\n");
    assert_eq!(keyring.run(&["token"]), Ran::printed(&keyring.access_token()));
    assert_eq!(keyring.home.names(), ["~helper.test"], "nothing is in the file store");
    let mode = fs::metadata(keyring.home.state.join("~helper.test")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(keyring.run(&["logout", "--local"]).code, 0);
    assert!(!keyring.entry().exists());
    assert_eq!(keyring.run(&["profiles"]).stdout, "");
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn the_profile_of_an_address_is_found_in_a_keyring_and_an_unlock_that_is_missing_is_temporary() {
    const URL: &str = "https://wiki.example/mcp";
    let server = server(|_| {});
    let (keyring, issued) = Keyring::with_grant(&server, LIFETIME);
    assert_eq!(keyring.run(&["token", "--for", URL]).code, 3);
    let mut document = keyring.document();
    document["resource"] = json!([URL]);
    keyring.write(&document.to_string());
    assert_eq!(keyring.run(&["token", "--for", URL]), Ran::printed(&issued.access_token));
    assert_eq!(keyring.run(&["profiles"]).stdout, format!("default\t{URL}\n"));
    // The keyring waits for a person. So it is unknown whether a profile covers the address.
    keyring.fault("get", "exec sleep 600\n");
    let ran = keyring.run(&["token", "--for", URL, "--timeout", "1"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
    assert_eq!(keyring.run(&["profiles", "--timeout", "1"]).stdout, "default\n");
    assert_eq!(server.counts(), Default::default());
}
