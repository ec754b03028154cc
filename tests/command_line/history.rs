//! The history: "why was I logged out?" has an answer. Writing it delays no command and never fails one.

use crate::support::*;
use onegrant::history::{self, ENTRIES, HistoryEntry, HistoryEvent};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

fn path(home: &Home) -> PathBuf {
    home.state.join("default~history")
}

fn events(home: &Home) -> Vec<HistoryEntry> {
    history::read(&path(home)).unwrap()
}

/// What happened, in the order in which it did.
fn names(home: &Home) -> Vec<String> {
    events(home).into_iter().map(|event| event.event.to_string()).collect()
}

/// The first digits of a refresh token's hash, as another program computes them.
fn digits(refresh_token: &str) -> Option<String> {
    Some(onegrant::grant::Secret::new(refresh_token).sha256()[..8].to_owned())
}

#[test]
fn a_refresh_is_recorded_with_the_program_and_both_refresh_tokens() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    home.run(&["token"]).token();
    let events = events(&home);
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    let before = digits(&issued.refresh_token);
    let after = digits(&home.tokens().refresh_token);
    assert_eq!((event.event.to_string().as_str(), event.outcome.as_str()), ("refresh", "stored"));
    assert_eq!((&event.refresh_token_sha256, &event.new_refresh_token_sha256), (&before, &after));
    assert_eq!(event.level.as_deref(), Some("locked"));
    let me = fs::read_to_string("/proc/self/comm").unwrap();
    // The thread of a test has its own name, the process that of the test crate.
    let program = event.program.as_deref().unwrap();
    assert!(me.trim() == program || env!("CARGO_CRATE_NAME").starts_with(&program[..7]), "{program}");
    assert_eq!(u64::from(event.pid), home.document()["last_refresh"]["pid"].as_u64().unwrap());
    assert!(event.at <= now() && event.at >= now() - 60, "{event:?}");
    assert_eq!(fs::metadata(path(&home)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(home.run(&["profiles"]).stdout, "default\n");
}

#[test]
fn a_valid_token_adds_no_entry_and_no_secret_is_recorded() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    home.run(&["token"]).token();
    assert!(!path(&home).exists());

    let mut secrets = Vec::new();
    for _ in 0..3 {
        secrets.extend([home.tokens().access_token, home.tokens().refresh_token]);
        assert_eq!(home.run(&["refresh"]).code, 0);
    }
    assert_eq!(home.run(&["logout"]).code, 0);
    let bytes = fs::read_to_string(path(&home)).unwrap();
    let shown =
        home.run(&["status", "--history"]).stdout + &home.run(&["status", "--history", "--json"]).stdout;
    assert_eq!(bytes.lines().count(), 4);
    for secret in secrets {
        assert!(!bytes.contains(&secret) && !shown.contains(&secret));
    }
}

#[test]
fn a_dead_grant_is_recorded_as_rejected_and_cleared() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    server.end_grant(&issued.refresh_token);
    assert_eq!(home.run(&["token"]).code, 3);
    assert_eq!(home.run(&["token"]).code, 3);
    let events = events(&home);
    assert_eq!(names(&home), ["rejected", "cleared"], "recorded once");
    assert!(events[0].outcome.starts_with("invalid_grant"), "{events:?}");
    assert_eq!(events[0].refresh_token_sha256, digits(&issued.refresh_token));
    assert_eq!(events[1].refresh_token_sha256, digits(&issued.refresh_token));
    let ran = home.run(&["status", "--history"]);
    assert_eq!(ran.code, 3);
    let lines: Vec<&str> = ran.stdout.lines().rev().take(2).collect();
    assert!(lines[1].contains("  rejected: invalid_grant") && lines[0].contains("  cleared: "), "{lines:?}");
}

#[test]
fn without_a_lock_only_the_rejection_is_recorded() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    server.end_grant(&issued.refresh_token);
    assert_eq!(home.run_with_lock("off", &["token"]).code, 3);
    assert_eq!(names(&home), ["rejected"]);
    assert_eq!(events(&home)[0].level.as_deref(), Some("compared"));
}

#[test]
fn a_session_of_another_process_that_is_used_after_a_rejection_is_recorded() {
    let server = server(|settings| settings.replay = Replay::Reject);
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    // Another program rotates, and stores while the server refuses our refresh token.
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    let process = home.start(&["token"]);
    server.wait_until(|counts| counts.token_requests == 1);
    let newer = server.rotate(&issued.refresh_token).unwrap();
    home.write(&document(&server, &newer, LIFETIME));
    gate.open();
    assert_eq!(process.finish().token(), newer.access_token);
    assert_eq!(names(&home), ["rejected"]);
    let outcome = &events(&home)[0].outcome;
    assert!(outcome.ends_with("; another process had refreshed: its session is used"), "{outcome}");
}

#[test]
fn a_lost_answer_is_recorded_whatever_followed() {
    let server = server(|settings| settings.replay = Replay::Grace(LIMIT));
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    server.script(Endpoint::Token, [Fault::DropAfter]);
    home.run(&["token"]).token();
    assert_eq!(names(&home), ["lost answer", "refresh"]);
    server.script(Endpoint::Token, [Fault::DropAfter, Fault::DropAfter]);
    assert_eq!(home.run(&["refresh"]).code, 4);
    assert!(events(&home)[2].outcome.ends_with("; it was sent twice"));
    assert_eq!(names(&home), ["lost answer", "refresh", "lost answer"]);
    assert_eq!(events(&home)[0].refresh_token_sha256, digits(&issued.refresh_token));
}

#[test]
fn an_answer_that_an_interrupted_process_left_is_recorded_as_adopted() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    // A process that was killed between the answer and the rename.
    let newer = server.rotate(&issued.refresh_token).unwrap();
    let sha256 = onegrant::grant::Secret::new(issued.refresh_token.as_str()).sha256();
    let by = serde_json::json!({"host": "h", "boot": "", "pid_namespace": "", "pid": 1, "start_time": 0});
    let attempt = serde_json::json!({
        "id": "x", "refresh_token_sha256": sha256, "by": by, "at": now() - 100, "until": now() - 10,
    });
    fs::write(home.state.join(format!("default~attempt.{}.0", &sha256[..16])), attempt.to_string()).unwrap();
    let answer = home.state.join(format!("default~answer.{}.0", &sha256[..16]));
    fs::write(&answer, document(&server, &newer, LIFETIME).to_string()).unwrap();
    fs::set_permissions(&answer, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.run(&["token"]).token(), newer.access_token);
    assert_eq!(names(&home), ["adopted"]);
    assert_eq!(server.counts().token_requests, 0);
}

#[test]
fn a_login_and_a_logout_are_recorded_and_the_history_outlives_both() {
    let server = server(|settings| settings.auto_approve = true);
    let home = Home::new();
    let issuer = server.issuer();
    let login = home.run(&["login", &issuer, "--device", "--client-id", server.client_id()]);
    assert_eq!(login.code, 0, "{login:?}");
    let refresh_token = home.tokens().refresh_token;
    assert_eq!(home.run(&["logout"]).code, 0);
    assert_eq!(names(&home), ["login", "logout"]);
    assert_eq!(events(&home)[0].new_refresh_token_sha256, digits(&refresh_token));
    assert_eq!(events(&home)[1].refresh_token_sha256, digits(&refresh_token));
    assert_eq!(events(&home)[1].outcome, "revoked at the server, and deleted here");

    let ran = home.run(&["status", "--history"]);
    let wanted = "onegrant: profile default has no grant\nhint: onegrant login https://ADDRESS\n";
    assert_eq!((ran.code, ran.stderr.as_str(), ran.stdout.lines().count()), (3, wanted, 2));
    let ran = home.run(&["status", "--history", "--json"]);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&object["profile"], &object["history"][1]["event"]), (&"default".into(), &"logout".into()));

    // An imported refresh token goes through a worker: the entry has the same program's name.
    let issued = server.issue_grant();
    let file = home.root.join("refresh-token");
    fs::write(&file, &issued.refresh_token).unwrap();
    let mut command =
        home.command(&["login", &issuer, "--refresh-token-stdin", "--client-id", server.client_id()]);
    command.stdin(fs::File::open(file).unwrap());
    assert_eq!(run(&mut command).code, 0);
    let events = events(&home);
    assert_eq!(events[2].event, HistoryEvent::Login);
    assert_eq!(events[2].program, events[0].program);
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn status_without_history_does_not_read_it() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    // Without an end: status says how many seconds are left, and the clock goes on.
    let mut document = home.document();
    document["session"].as_object_mut().unwrap().remove("expires_at");
    home.write(&document);
    let before = home.run(&["status"]);
    assert_eq!(
        home.run(&["status", "--history"]).stdout,
        format!("{}\nnothing has happened to this grant yet\n", before.stdout)
    );
    fs::create_dir(path(&home)).unwrap();
    assert_eq!(home.run(&["status"]), before);
    let ran = home.run(&["status", "--history"]);
    assert_eq!(
        (ran.code, ran.stderr.starts_with("onegrant: cannot read the history: ")),
        (5, true),
        "{ran:?}"
    );
}

#[test]
fn a_history_that_cannot_be_written_fails_no_command() {
    let server = server(|_| {});
    for obstacle in ["a directory", "a link", "a FIFO", "full"] {
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let target = home.root.join("target");
        fs::write(&target, "").unwrap();
        match obstacle {
            "a directory" => fs::create_dir(path(&home)).unwrap(),
            "a link" => symlink(&target, path(&home)).unwrap(),
            "a FIFO" => {
                let mut command = Command::new("/usr/bin/mkfifo");
                assert!(command.arg(path(&home)).status().unwrap().success());
            }
            _ => fs::write(path(&home), vec![b'x'; 300 << 10]).unwrap(),
        }
        home.run(&["token"]).token();
        let said = home.run(&["-vv", "refresh"]);
        assert_eq!(said.code, 0, "{obstacle}");
        assert!(said.stderr.contains("the history was not written: "), "{obstacle}: {}", said.stderr);
        assert_eq!(home.run(&["logout"]).code, 0, "{obstacle}");
        assert_eq!(fs::read(&target).unwrap(), b"", "{obstacle}");
    }
    assert_eq!(server.counts().unexpected, 0);
}

/// Appends an entry as the process `pid`.
fn append(path: &Path, pid: u32) {
    let entry = HistoryEntry {
        pid,
        event: HistoryEvent::Refresh,
        outcome: "x".repeat(200),
        ..HistoryEntry::default()
    };
    history::append(path, &entry).unwrap();
}

#[test]
fn no_entry_is_lost_however_many_writers_append_while_the_file_is_cut() {
    if ran_alone("history::no_entry_is_lost_however_many_writers_append_while_the_file_is_cut") {
        return;
    }
    const ROUNDS: u32 = 400;
    let home = Home::new();
    let path = path(&home);
    let append = |pid| append(&path, pid);
    // Fifty at once: no more is kept than is shown.
    thread::scope(|scope| (0..50).for_each(|writer| drop(scope.spawn(move || append(writer)))));
    assert_eq!(history::read(&path).unwrap().len(), ENTRIES);
    // As many at once as are shown, again and again, so that the file is cut meanwhile: each of them is shown.
    let writers = u32::try_from(ENTRIES).unwrap();
    for round in 1..=ROUNDS {
        let wanted: Vec<u32> = (0..writers).map(|writer| round * 1000 + writer).collect();
        thread::scope(|scope| wanted.iter().for_each(|pid| drop(scope.spawn(move || append(*pid)))));
        let mut pids: Vec<u32> = history::read(&path).unwrap().iter().map(|event| event.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, wanted, "round {round}");
        assert!(fs::metadata(&path).unwrap().len() <= 64 << 10, "bounded");
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.lines().all(|line| serde_json::from_str::<HistoryEntry>(line).is_ok()),
        "each line is whole: {text}"
    );
    assert_eq!(fs::read_dir(&home.state).unwrap().count(), 1, "nothing is left beside it");
}

/// A process that was killed while it cut the file, before or after the clock was set back.
#[test]
fn an_abandoned_new_file_does_not_keep_the_history_from_being_cut() {
    if ran_alone("history::an_abandoned_new_file_does_not_keep_the_history_from_being_cut") {
        return;
    }
    for is_ahead in [false, true] {
        let home = Home::new();
        let path = path(&home);
        let append = |pid| append(&path, pid);
        append(0);
        let abandoned = fs::File::create(home.state.join("default~history.new")).unwrap();
        let (now, hour) = (std::time::SystemTime::now(), Duration::from_secs(3600));
        abandoned.set_modified(if is_ahead { now + hour } else { now - hour }).unwrap();
        (1..200).for_each(append);
        assert!(fs::metadata(&path).unwrap().len() <= 17 << 10, "{is_ahead}");
        assert_eq!(history::read(&path).unwrap().last().map(|event| event.pid), Some(199));
        assert_eq!(fs::read_dir(&home.state).unwrap().count(), 1, "{is_ahead}");
    }
}

/// A writer that was killed in the middle of its line, or that had no space left.
#[test]
fn a_torn_line_hides_neither_the_entry_before_it_nor_the_one_after_it() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    home.run(&["token"]).token();
    let mut bytes = fs::read(path(&home)).unwrap();
    bytes.extend_from_slice(&bytes.clone()[..bytes.len() / 2]);
    fs::write(path(&home), &bytes).unwrap();
    assert_eq!(home.run(&["refresh"]).code, 0);
    assert_eq!(home.run(&["logout"]).code, 0);
    assert_eq!(names(&home), ["refresh", "refresh", "logout"]);
}

/// A writer that is stopped while it holds the lock on the history.
#[test]
fn a_history_that_another_process_has_locked_delays_no_command_and_loses_no_entry() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    home.run(&["token"]).token();
    let locked = fs::File::open(path(&home)).unwrap();
    locked.lock().unwrap();
    assert_eq!(home.run(&["refresh"]).code, 0);
    let shown = home.run(&["status", "--history"]);
    assert_eq!((shown.code, names(&home)), (0, vec!["refresh".to_owned(), "refresh".to_owned()]));
    drop(locked);
    assert_eq!(home.run(&["refresh"]).code, 0);
    assert_eq!(names(&home).len(), 3);
}

#[test]
fn fifty_processes_that_share_one_refresh_leave_one_entry() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let commands = (0..50).map(|_| home.command(&["token"])).collect();
    for ran in run_together(commands) {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    assert_eq!(names(&home), ["refresh"], "one refresh, and nothing of the processes that waited for it");
    assert_eq!(server.counts().token_requests, 1);
}

/// A logout between the answer and its commit wins. The history says why there is no session.
#[test]
fn an_answer_that_was_not_stored_is_recorded() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let process = home.start(&["token"]);
    server.wait_until(|counts| counts.rotations == 1);
    fs::remove_file(home.document_path()).unwrap();
    gate.open();
    process.finish();
    assert_eq!(names(&home), ["not stored"]);
    assert_eq!(events(&home)[0].refresh_token_sha256, digits(&issued.refresh_token));
}
