//! One refresh token is spent by one process, however many need it. A failed attempt counts for all that waited.

use crate::support::*;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

/// How many processes need the token at once.
const CROWD: usize = 200;

/// The most requests of a crowd to a server that fails: all processes that start together share one,
/// and on a busy machine some start late.
const HANDFUL: u64 = 5;

fn crowd(home: &Home, count: usize, lock: &str, arguments: &[&str]) -> Vec<Command> {
    let command = || {
        let mut command = home.command(arguments);
        command.env("ONEGRANT_LOCK", lock);
        command
    };
    (0..count).map(|_| command()).collect()
}

/// The server ends the family on a replay: a second request would be seen in every way.
#[track_caller]
fn assert_one_refresh_serves_a_crowd(lock: &str, delay: Duration) {
    let server = server(|settings| settings.delay_before = delay);
    let (home, old) = Home::with_grant(&server, EXPIRED);
    let ran = run_together(crowd(&home, CROWD, lock, &["token"]));
    let new = home.tokens();
    assert_all(&ran, &Ran::printed(&new.access_token));
    assert_ne!(new.access_token, old.access_token);
    let counts = server.counts();
    assert_eq!((counts.token_requests, counts.rotations, counts.unexpected), (1, 1, 0));
    assert!(server.is_alive(&new.refresh_token) && server.access_token_is_valid(&new.access_token));
    let names = if lock == "claim" { vec!["default.json"] } else { vec!["default.json", "default.lock"] };
    assert_eq!(home.names(), names, "records and temporary files are swept");
}

#[test]
fn a_crowd_sends_one_refresh_to_a_fast_server() {
    assert_one_refresh_serves_a_crowd("auto", Duration::ZERO);
}

#[test]
fn a_crowd_sends_one_refresh_to_a_slow_server() {
    assert_one_refresh_serves_a_crowd("auto", Duration::from_millis(100));
}

#[test]
fn a_crowd_without_locks_sends_one_refresh_to_a_fast_server() {
    assert_one_refresh_serves_a_crowd("claim", Duration::ZERO);
}

#[test]
fn a_crowd_without_locks_sends_one_refresh_to_a_slow_server() {
    assert_one_refresh_serves_a_crowd("claim", Duration::from_millis(100));
}

#[test]
fn forced_refreshes_coalesce() {
    for (lock, waiting) in [("auto", "waiting for it"), ("claim", "waiting 100 ms")] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, LIFETIME);
        let gate = Gate::closed();
        server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
        let crowd = start_together(crowd(&home, 20, lock, &["-vv", "refresh"]), "/dev/null".as_ref());
        // All but the one with the request that is held have read the old token and wait.
        wait_for("19 waiting processes", || {
            crowd.processes.iter().filter(|process| process.said().contains(waiting)).count() == 19
        });
        server.wait_until(|counts| counts.refreshes == 1);
        gate.open();
        let token = format!("{}\n", home_token_after(&home, &server));
        for ran in crowd.finish() {
            assert_eq!((ran.code, &ran.stdout), (0, &token), "{lock}: {}", ran.stderr);
        }
        assert_eq!((server.counts().token_requests, server.counts().rotations), (1, 1), "{lock}");
        // One that starts now wants another one than it finds.
        let ran = home.run(&["refresh"]);
        assert_ne!(ran.token(), token.trim_end());
        assert_eq!(server.counts().rotations, 2, "{lock}");
    }
}

/// The stored access token after the first rotation.
fn home_token_after(home: &Home, server: &AuthorizationServer) -> String {
    server.wait_until(|counts| counts.rotations == 1);
    wait_for("the stored session", || server.is_alive(&home.tokens().refresh_token));
    home.tokens().access_token
}

#[test]
fn a_rejected_token_is_refreshed_once_and_only_while_it_is_stored() {
    let server = server(|_| {});
    let (home, old) = Home::with_grant(&server, LIFETIME);
    let rejected = home.root.join("rejected");
    fs::write(&rejected, format!("{}\n", old.access_token)).unwrap();
    let commands = crowd(&home, 20, "auto", &["refresh", "--rejected"]);
    let ran = start_together(commands, &rejected).finish();
    let new = home.tokens();
    assert_all(&ran, &Ran::printed(&new.access_token));
    assert_ne!(new.access_token, old.access_token);
    assert_eq!((server.counts().token_requests, server.counts().rotations), (1, 1));
    // Late, and with any other token.
    for text in [old.access_token.as_str(), "at_never-seen"] {
        fs::write(&rejected, text).unwrap();
        let mut command = home.command(&["refresh", "--rejected"]);
        assert_eq!(run(command.stdin(File::open(&rejected).unwrap())), Ran::printed(&new.access_token));
    }
    assert_eq!(server.counts().token_requests, 1);
}

/// Opens and holds the lock of the document, as another process would.
fn hold_lock(home: &Home) -> File {
    let mut options = OpenOptions::new();
    let lock =
        options.read(true).write(true).create(true).truncate(false).open(home.state.join("default.lock"));
    let lock = lock.unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn a_token_that_still_works_is_not_kept_waiting_by_a_busy_lock() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, 25);
    let _lock = hold_lock(&home);
    // A process that waited for the lock would outlast the test.
    let ran = home.run(&["--timeout", "3600", "token"]);
    assert_eq!(ran, Ran::printed(&issued.access_token));
    assert_eq!(server.counts().token_requests, 0);
}

#[test]
fn a_process_that_asks_for_a_longer_token_waits_for_the_one_that_another_process_gets() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, VALID);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    let first = home.start(&AGEING);
    server.wait_until(|counts| counts.token_requests == 1);
    let second = home.start(&["-v", AGEING[0], AGEING[1], AGEING[2]]);
    wait_for("a process that waits", || second.said().contains("waiting for it"));
    gate.open();
    assert_eq!(first.finish(), Ran::printed(&home.tokens().access_token));
    let second = second.finish();
    assert_eq!((second.code, second.stdout), (0, format!("{}\n", home.tokens().access_token)));
    assert_eq!((server.counts().token_requests, server.counts().rotations), (1, 1));
}

#[test]
fn a_process_that_asks_for_a_longer_token_gets_the_stored_one_at_its_deadline() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, VALID);
    let _lock = hold_lock(&home);
    let ran = home.run(&["--timeout", "1", AGEING[0], AGEING[1], AGEING[2]]);
    assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", issued.access_token)));
    let warning = "onegrant: warning: cannot refresh: another process still held the lock after 1 s; the session is kept; \
                   the present access token is still valid and is used\n";
    assert!(ran.stderr.starts_with(warning), "{}", ran.stderr);
    assert_eq!(server.counts().token_requests, 0);
}

/// The holder never leaves: a process that only waited for the lock would outlast the test.
#[test]
fn a_process_stops_waiting_for_a_lock_that_it_no_longer_needs() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let _lock = hold_lock(&home);
    let process = home.start(&["-v", "--timeout", "3600", "token"]);
    wait_for("a process that waits", || process.said().contains("waiting for it"));
    let issued = home.grant(&server, VALID);
    let ran = process.finish();
    assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", issued.access_token)));
    assert_eq!(server.counts().token_requests, 0);

    home.grant(&server, EXPIRED);
    let process = home.start(&["-v", "--timeout", "3600", "token"]);
    wait_for("a process that waits", || process.said().contains("waiting for it"));
    fs::remove_file(home.document_path()).unwrap();
    assert_eq!(process.finish().code, 3, "a logout is noticed, too");
}

/// Ways to the same document: its own directory, a link to that, a link to the document from another directory, and
/// the directory that a home or a state home implies.
fn ways(home: &Home, arguments: &[&str]) -> Vec<Command> {
    let directory = home.root.join("linked-directory");
    symlink(&home.state, &directory).unwrap();
    let other = home.root.join("other");
    fs::create_dir(&other).unwrap();
    symlink("../state/default.json", other.join("default.json")).unwrap();
    fs::create_dir_all(home.root.join("home/.local/state")).unwrap();
    symlink(&home.state, home.root.join("home/.local/state/onegrant")).unwrap();

    let with = |name: &str, value: &std::path::Path| {
        let mut command = onegrant(arguments);
        command.env(name, value).current_dir(&home.root);
        command
    };
    let by_option = {
        let mut command = onegrant(&["--store", "file:state"]);
        command.args(arguments).current_dir(&home.root);
        command
    };
    vec![
        with("ONEGRANT_HOME", &home.state),
        with("ONEGRANT_HOME", &directory),
        with("ONEGRANT_HOME", &other),
        with("HOME", &home.root.join("home")),
        with("XDG_STATE_HOME", &home.root.join("home/.local/state")),
        by_option,
    ]
}

#[test]
fn every_path_to_a_document_uses_the_same_lock() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let lock = hold_lock(&home);
    let processes: Vec<Process> =
        ways(&home, &["--timeout", "1", "token"]).iter_mut().map(Process::start).collect();
    for process in processes {
        let text = "onegrant: cannot refresh: another process still held the lock after 1 s; the session is kept\n\
                    hint: try again, or wait longer: --timeout SECONDS\n";
        assert_eq!(process.finish(), Ran::failed(4, text));
    }
    assert_eq!(server.counts().token_requests, 0);
    drop(lock);
    let name = "default.lock";
    assert!(home.names().contains(&name.to_owned()));
    assert!(!home.root.join("other").join(name).exists(), "no second lock beside the link");
}

#[test]
fn a_crowd_on_all_paths_to_a_document_sends_one_refresh() {
    for lock in ["auto", "claim"] {
        let server = server(|settings| settings.delay_before = Duration::from_millis(50));
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let ways = ways(&home, &["token"]);
        let commands = (0..60).map(|number| {
            let way = &ways[number % ways.len()];
            let mut command = Command::new(way.get_program());
            command.args(way.get_args()).env_clear().current_dir(&home.root).env("ONEGRANT_LOCK", lock);
            command.envs(way.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command
        });
        let ran = run_together(commands.collect());
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_eq!((server.counts().token_requests, server.counts().rotations), (1, 1), "{lock}");
    }
}

#[track_caller]
fn assert_a_crowd_shares_a_temporary_failure(lock: &str, delay: Duration) {
    let server = server(|_| {});
    server.always(Endpoint::Token, Fault::LateStatus(delay, Response::new(503)));
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let before = home.bytes();
    let ran = run_together(crowd(&home, CROWD, lock, &["token"]));
    let text = "onegrant: cannot refresh now: the server answered with status 503; the session is kept\nhint: try again\n";
    assert_all(&ran, &Ran::failed(4, text));
    let requests = server.counts().token_requests;
    assert!((1..=HANDFUL).contains(&requests), "{requests} requests");
    assert_eq!(home.bytes(), before);

    // A later process makes its own attempt, at once.
    server.clear_faults();
    let ran = home.run(&["token"]);
    assert_eq!(ran, Ran::printed(&home.tokens().access_token));
    assert_eq!(server.counts().token_requests, requests + 1);
    assert!(server.is_alive(&home.tokens().refresh_token) && !server.is_alive(&issued.refresh_token));
}

#[test]
fn a_crowd_shares_a_temporary_failure() {
    assert_a_crowd_shares_a_temporary_failure("auto", Duration::ZERO);
}

#[test]
fn a_crowd_shares_a_slow_temporary_failure() {
    assert_a_crowd_shares_a_temporary_failure("auto", Duration::from_millis(50));
}

#[test]
fn a_crowd_without_locks_shares_a_temporary_failure() {
    assert_a_crowd_shares_a_temporary_failure("claim", Duration::from_millis(50));
}

#[track_caller]
fn assert_a_crowd_shares_a_dead_grant(lock: &str, delay: Duration) {
    let server = server(|settings| settings.delay_refusal = delay);
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    server.end_grant(&issued.refresh_token);
    let ran = run_together(crowd(&home, CROWD, lock, &["token"]));
    let dead = "onegrant: cannot refresh: the session of profile default has ended (invalid_grant: the grant has ended); a \
                login is required\nhint: onegrant login\n";
    assert_all(&ran, &Ran::failed(3, dead));
    assert_eq!(server.counts().token_requests, 2, "once, and once more before anything is cleared");
    // From now on without a request.
    assert_eq!(home.run_with_lock(lock, &["token"]), Ran::failed(3, dead));
    assert_eq!(server.counts().token_requests, 2);
}

#[test]
fn a_crowd_shares_a_dead_grant() {
    assert_a_crowd_shares_a_dead_grant("auto", Duration::ZERO);
}

#[test]
fn a_crowd_shares_a_grant_that_is_slowly_found_dead() {
    assert_a_crowd_shares_a_dead_grant("auto", Duration::from_millis(50));
}

#[test]
fn a_crowd_without_locks_shares_a_dead_grant() {
    assert_a_crowd_shares_a_dead_grant("claim", Duration::ZERO);
}
