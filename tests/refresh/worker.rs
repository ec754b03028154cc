//! The exchange with the server outlives its caller: callers are killed, alone and with their whole process
//! group, while a strict server has rotated the refresh token and its answer is on its way.

use crate::support::*;
use rustix::process::{Pid, Signal, getpgid, getsid, kill_process_group};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const LOCKS: [&str; 3] = ["auto", "claim", "off"];

fn with_lock(home: &Home, lock: &str, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    command.env("ONEGRANT_LOCK", lock);
    command
}

fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap()).unwrap()
}

/// Starts a refresh. The server rotates, and holds the answer back.
fn held(server: &AuthorizationServer, command: &mut Command) -> (Process, Gate) {
    held_by(Fault::HoldAnswer, server, command)
}

fn held_by(
    hold: impl Fn(Gate) -> Fault,
    server: &AuthorizationServer,
    command: &mut Command,
) -> (Process, Gate) {
    let gate = Gate::closed();
    server.script(Endpoint::Token, [hold(gate.clone())]);
    let process = Process::start(command);
    server.wait_until(|counts| counts.rotations == 1);
    (process, gate)
}

/// The worker stores its answer, ends, and the next process needs no request.
fn assert_that_nothing_is_lost(
    server: &AuthorizationServer,
    home: &Home,
    old: &Issued,
    worker: u32,
    lock: &str,
) {
    wait_for("the end of the worker", || !is_running(worker));
    let new = home.tokens();
    assert_ne!(new.refresh_token, old.refresh_token, "{lock}");
    assert_eq!(run(&mut with_lock(home, lock, &["token"])), Ran::printed(&new.access_token), "{lock}");
    assert!(server.is_alive(&new.refresh_token), "{lock}");
    assert_eq!(server.counts().token_requests, 1, "{lock}");
    assert!(!home.names().iter().any(|name| name.contains('~')), "{lock}: {:?}", home.names());
}

#[test]
fn a_caller_that_is_killed_loses_nothing_even_with_a_strict_server() {
    for lock in LOCKS {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let (home, old) = Home::with_grant(&server, EXPIRED);
        let (process, gate) = held(&server, &mut with_lock(&home, lock, &["token"]));
        let worker = spender(&home);
        process.signal(Signal::KILL);
        assert_eq!(process.finish().code, -9, "{lock}");
        gate.open();
        assert_that_nothing_is_lost(&server, &home, &old, worker, lock);
    }
}

#[test]
fn a_process_group_that_is_killed_loses_nothing_even_with_a_strict_server() {
    for lock in LOCKS {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let (home, old) = Home::with_grant(&server, EXPIRED);
        let (process, gate) = held(&server, with_lock(&home, lock, &["token"]).process_group(0));
        let worker = spender(&home);
        assert_eq!(getpgid(Some(pid(worker))), Ok(pid(worker)), "a group of its own");
        assert_eq!(getsid(Some(pid(worker))), Ok(pid(worker)), "a session of its own");
        kill_process_group(pid(process.pid()), Signal::KILL).unwrap();
        assert_eq!(process.finish().code, -9, "{lock}");
        gate.open();
        assert_that_nothing_is_lost(&server, &home, &old, worker, lock);
    }
}

/// Processes that come meanwhile wait for the worker without a caller, and share its answer.
#[test]
fn a_crowd_waits_for_the_worker_of_a_caller_that_was_killed() {
    for lock in ["auto", "claim"] {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let (process, gate) = held(&server, &mut with_lock(&home, lock, &["--timeout", "90", "token"]));
        process.signal(Signal::KILL);
        assert_eq!(process.finish().code, -9, "{lock}");
        let commands =
            (0..20).map(|_| with_lock(&home, lock, &["--timeout", "90", "-vv", "token"])).collect();
        let crowd = start_together(commands, "/dev/null".as_ref());
        wait_for("a crowd that waits", || {
            crowd.processes.iter().all(|process| process.said().contains("waiting"))
        });
        gate.open();
        let ran = crowd.finish();
        let token = format!("{}\n", home.tokens().access_token);
        assert!(ran.iter().all(|ran| ran.code == 0 && ran.stdout == token), "{lock}: {ran:?}");
        assert_eq!(server.counts().token_requests, 1, "{lock}");
    }
}

/// Programs read the stdout and stderr of a helper to their end: the worker must not keep them open.
#[test]
fn the_reader_of_a_killed_caller_does_not_wait_for_its_worker() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let mut command = home.command(&["token"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.wait_until(|counts| counts.rotations == 1);
    let worker = spender(&home);
    child.kill().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    assert_eq!(text, "");
    assert!(is_running(worker), "the reading ended before the worker");
    gate.open();
    wait_for("the end of the worker", || !is_running(worker));
}

/// An imported refresh token may be the only copy of it.
#[test]
fn a_login_that_is_killed_while_it_imports_stores_the_grant_all_the_same() {
    for lock in LOCKS {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let home = Home::new();
        let imported = server.issue_grant();
        let path = home.root.join("imported");
        fs::write(&path, &imported.refresh_token).unwrap();
        let arguments =
            ["login", &server.issuer(), "--client-id", server.client_id(), "--refresh-token-stdin"];
        let mut login = with_lock(&home, lock, &arguments);
        let (process, gate) = held(&server, login.stdin(File::open(path).unwrap()).process_group(0));
        kill_process_group(pid(process.pid()), Signal::KILL).unwrap();
        assert_eq!(process.finish().code, -9, "{lock}");
        assert!(!home.document_path().exists(), "{lock}: not yet");
        gate.open();
        wait_for("the grant", || home.document_path().exists());
        let stored = home.tokens();
        assert_eq!(home.run(&["token"]), Ran::printed(&stored.access_token), "{lock}");
        assert!(server.is_alive(&stored.refresh_token), "{lock}");
        assert_eq!(server.counts().token_requests, 1, "{lock}");
    }
}

/// The worker must hold neither a lock of the shell nor a pipe that collects the output of the shell's children.
#[test]
fn a_worker_keeps_nothing_open_that_its_caller_was_given() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let path = home.root.join("lock of a stranger");
    let command = home.command(&["token"]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec 9>\"$0\" && flock -x 9 && exec \"$@\""]).arg(&path);
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().env("ONEGRANT_HOME", &home.state).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let (process, gate) = held(&server, &mut shell);
    let worker = spender(&home);
    assert!(!lock_is_free(&path));
    process.signal(Signal::KILL);
    assert_eq!(process.finish().code, -9);
    assert!(is_running(worker));
    assert!(lock_is_free(&path));
    gate.open();
    wait_for("the end of the worker", || !is_running(worker));
}

/// If the worker is killed, its caller does the exchange in place.
#[test]
fn the_caller_finishes_the_refresh_of_a_killed_worker() {
    for lock in LOCKS {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [Fault::StallBefore]);
        let process = Process::start(&mut with_lock(&home, lock, &["token"]));
        server.wait_until(|counts| counts.refreshes == 1);
        rustix::process::kill_process(pid(spender(&home)), Signal::KILL).unwrap();
        let ran = process.finish();
        assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
        assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{lock}");
        assert!(!home.names().iter().any(|name| name.contains('~')), "{lock}: {:?}", home.names());
    }
}

/// The same command in a place without `/proc`.
fn without_proc(home: &Home, command: &Command) -> Command {
    in_namespace("umount -l /proc && exec \"$@\"", home, command)
}

#[test]
fn where_no_worker_can_be_started_the_exchange_runs_in_place() {
    for lock in LOCKS {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let ran =
            run(&mut without_proc(&home, &with_lock(&home, lock, &["--timeout", "90", "-vv", "token"])));
        let new = home.tokens();
        assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", new.access_token)), "{lock}: {}", ran.stderr);
        assert!(ran.stderr.contains("going on in place"), "{lock}: {}", ran.stderr);
        assert!(server.is_alive(&new.refresh_token), "{lock}");
        assert_eq!(server.counts().token_requests, 1, "{lock}");
    }
}

/// A container may have no `/dev`.
#[test]
fn a_worker_needs_no_device() {
    for lock in LOCKS {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let command = with_lock(&home, lock, &["-vv", "token"]);
        let ran = run(&mut in_namespace("mount -t tmpfs none /dev && exec \"$@\"", &home, &command));
        let new = home.tokens();
        assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", new.access_token)), "{lock}: {}", ran.stderr);
        assert!(!ran.stderr.contains("going on in place"), "{lock}: {}", ran.stderr);
        assert_eq!(server.counts().token_requests, 1, "{lock}");
    }
}

/// What a process is given whose worker is stopped beyond the deadline. On a machine that is busy, too, the server has rotated
/// and the worker is stopped long before.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `onegrant token` with that deadline.
fn with_timeout(home: &Home, lock: &str) -> Command {
    with_lock(home, lock, &["--timeout", &TIMEOUT.as_secs().to_string(), "token"])
}

/// A container that is paused beyond the deadline: what the server answered meanwhile lies in the socket.
#[test]
fn a_worker_that_is_stopped_beyond_its_deadline_still_reads_the_answer() {
    let stops_and_goes_on = |lock: &str| {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let (home, old) = Home::with_grant(&server, EXPIRED);
        // One that takes several reads: the first begins before the deadline, the others after it.
        let hold = |gate| Fault::HoldHuge(gate, 100 << 10);
        let (process, gate) = held_by(hold, &server, &mut with_timeout(&home, lock));
        let worker = spender(&home);
        process.signal(Signal::STOP);
        rustix::process::kill_process(pid(worker), Signal::STOP).unwrap();
        gate.open();
        server.wait_until(|counts| counts.released == 1);
        // The time until its deadline began before the worker was stopped.
        let stopped = Instant::now();
        wait_for("the deadline", || stopped.elapsed() > TIMEOUT);
        rustix::process::kill_process(pid(worker), Signal::CONT).unwrap();
        // Otherwise a busy machine decides whether the caller gives up first.
        wait_for("the end of the worker", || !is_running(worker));
        process.signal(Signal::CONT);
        let ran = process.finish();
        assert_that_nothing_is_lost(&server, &home, &old, worker, lock);
        assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}");
    };
    with_each_lock(stops_and_goes_on);
}

/// Side by side: each waits for a clock.
fn with_each_lock(test: impl Fn(&str) + Sync) {
    thread::scope(|scope| {
        for lock in LOCKS {
            let test = &test;
            scope.spawn(move || test(lock));
        }
    });
}

/// The same, and beyond the end of its claim: when it goes on, its time is long over.
#[test]
fn a_worker_that_is_stopped_beyond_its_claim_still_stores_the_answer() {
    let stops_and_goes_on = |lock: &str| {
        let server = server(|settings| settings.replay = Replay::EndFamily);
        let (home, old) = Home::with_grant(&server, EXPIRED);
        let (process, gate) = held(&server, &mut with_timeout(&home, lock));
        let worker = spender(&home);
        rustix::process::kill_process(pid(worker), Signal::STOP).unwrap();
        let until = home.attempts()[0]["until"].as_i64().unwrap();
        gate.open();
        assert_eq!(process.finish().code, 4, "{lock}");
        wait_for("the end of the claim", || now() > until);
        rustix::process::kill_process(pid(worker), Signal::CONT).unwrap();
        assert_that_nothing_is_lost(&server, &home, &old, worker, lock);
    };
    with_each_lock(stops_and_goes_on);
}

#[test]
fn no_worker_is_left_behind_past_the_deadline() {
    with_each_lock(|lock| {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [Fault::StallBefore, Fault::StallBefore, Fault::StallBefore]);
        let process = Process::start(&mut with_timeout(&home, lock));
        server.wait_until(|counts| counts.refreshes == 1);
        let worker = spender(&home);
        process.signal(Signal::KILL);
        assert_eq!(process.finish().code, -9, "{lock}");
        wait_for("the end of the worker", || !is_running(worker));
        assert_eq!(server.counts().rotations, 0, "{lock}");
    });
}

/// Nothing is on its way while a server's `Retry-After` passes: Ctrl-C need not wait for that.
#[test]
fn a_signal_ends_a_caller_whose_worker_waits_for_the_server() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let later = Response::new(503).header("Retry-After", "20");
    server.script(Endpoint::Token, [Fault::Status(later.clone()), Fault::Status(later)]);
    let process = Process::start(&mut home.command(&["-vv", "token"]));
    wait_for("a worker that waits", || process.said().contains("waiting 20"));
    process.signal(Signal::INT);
    assert_eq!(process.finish().code, -Signal::INT.as_raw());
    rustix::process::kill_process(pid(spender(&home)), Signal::KILL).unwrap();
}

#[test]
fn the_argument_of_the_worker_is_refused_on_a_command_line() {
    let ran = run(&mut onegrant(&["--exchange-for-caller"]));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.starts_with("onegrant: --exchange-for-caller is for onegrant's own use: "), "{ran:?}");
    assert!(ran.stderr.ends_with("\nhint: onegrant --help\n"), "{ran:?}");
}
