//! What is begun is finished, or found by the next process: kills, signals, readers that left, and logins and
//! logouts that cross a refresh.

use crate::support::*;
use rustix::fs::OFlags;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LOCKS: [&str; 3] = ["auto", "claim", "off"];

fn with_lock(home: &Home, lock: &str, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    command.env("ONEGRANT_LOCK", lock);
    command
}

/// Starts a refresh and kills it, worker and all, when its request has met this fault. What it left is on the disk.
fn killed(server: &AuthorizationServer, home: &Home, lock: &str, fault: Fault) -> u32 {
    let before = server.counts();
    let acts = u64::from(fault.acts());
    server.script(Endpoint::Token, [fault]);
    let process = Process::start(&mut with_lock(home, lock, &["token"]));
    server.wait_until(|counts| {
        counts.refreshes > before.refreshes && counts.rotations == before.rotations + acts
    });
    let worker = kill_with_worker(process, home);
    assert_eq!(home.attempts().len(), 1, "the claim was on disk before the refresh token left");
    worker
}

#[test]
fn after_a_kill_the_next_process_goes_on() {
    for lock in LOCKS {
        for fault in [Fault::StallBefore, Fault::StallAfter] {
            let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
            let (home, _) = Home::with_grant(&server, EXPIRED);
            let before = home.bytes();
            killed(&server, &home, lock, fault.clone());
            assert_eq!(home.bytes(), before);
            let ran = run(&mut with_lock(&home, lock, &["token"]));
            let new = home.tokens();
            assert_eq!(ran, Ran::printed(&new.access_token), "{lock}, {fault:?}");
            assert!(server.is_alive(&new.refresh_token), "{lock}, {fault:?}");
            let names =
                if lock == "auto" { vec!["default.json", "default.lock"] } else { vec!["default.json"] };
            assert_eq!(home.names(), names, "{fault:?}");
            assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{lock}");
        }
    }
}

/// The token was spent, its answer died with the process, and the server has no mercy: say so.
#[test]
fn after_a_kill_that_cost_the_grant_the_next_process_names_the_refresher_and_the_time() {
    for lock in LOCKS {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let pid = killed(&server, &home, lock, Fault::StallAfter);
        let ran = run(&mut with_lock(&home, lock, &["token"]));
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let start = "onegrant: cannot refresh: the session of profile default has ended (invalid_grant: the refresh token \
                     was used before); a refresh was begun by process ";
        let start = format!("{start}{pid} on {host} at ");
        let end = " GMT and never finished; a login is required\nhint: onegrant login\n";
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{lock}: {ran:?}");
        assert!(ran.stderr.starts_with(&start) && ran.stderr.ends_with(end), "{lock}: {}", ran.stderr);
        // Each process reports the same, without a request.
        assert_eq!(run(&mut with_lock(&home, lock, &["token"])), ran, "{lock}");
        let refused = if lock == "off" { 1 } else { 2 };
        assert_eq!(server.counts().token_requests, 1 + refused, "{lock}");
    }
}

#[test]
fn a_crowd_goes_on_after_a_kill_with_one_request() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        killed(&server, &home, lock, Fault::StallBefore);
        let ran = run_together((0..50).map(|_| with_lock(&home, lock, &["token"])).collect());
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
    }
}

/// The processes that waited for the killed process continue.
#[test]
fn a_crowd_that_waits_for_a_process_that_is_killed_goes_on_with_one_request() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [Fault::StallBefore]);
        let first = Process::start(&mut with_lock(&home, lock, &["--timeout", "90", "token"]));
        server.wait_until(|counts| counts.refreshes == 1);
        let commands =
            (0..20).map(|_| with_lock(&home, lock, &["--timeout", "90", "-vv", "token"])).collect();
        let crowd = start_together(commands, "/dev/null".as_ref());
        wait_for("a crowd that waits", || {
            crowd.processes.iter().all(|process| process.said().contains("waiting"))
        });
        kill_with_worker(first, &home);
        let ran = crowd.finish();
        let token = format!("{}\n", home.tokens().access_token);
        assert!(ran.iter().all(|ran| ran.code == 0 && ran.stdout == token), "{lock}: {ran:?}");
        assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{lock}");
    }
}

/// A process that was killed between writing its answer and giving it its name. The answer is written by the test
/// into the very room that a real process reserved.
fn killed_before_the_rename(server: &AuthorizationServer, home: &Home, lock: &str) -> (Issued, Value) {
    let old = home.tokens();
    killed(server, home, lock, Fault::StallAfter);
    let newest = server.newest_refresh_token(&old.refresh_token).unwrap();
    let new = Issued { access_token: "at_of-the-answer".to_owned(), refresh_token: newest };
    let answer = document(server, &new, LIFETIME);
    let names = home.names();
    let room = names.iter().find(|name| name.starts_with("default~answer.")).unwrap();
    assert_eq!(fs::metadata(home.state.join(room)).unwrap().len(), 0);
    fs::write(home.state.join(room), answer.to_string()).unwrap();
    (new, answer)
}

#[test]
fn a_completed_answer_is_adopted_without_a_request() {
    for lock in LOCKS {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let (new, answer) = killed_before_the_rename(&server, &home, lock);
        let ran = run(&mut with_lock(&home, lock, &["token"]));
        assert_eq!(ran, Ran::printed(&new.access_token), "{lock}");
        assert_eq!(home.document(), answer, "{lock}");
        assert_eq!(server.counts().token_requests, 1, "{lock}");
        assert!(server.is_alive(&new.refresh_token), "{lock}");
        assert!(home.attempts().is_empty() && !home.names().iter().any(|name| name.contains('~')), "{lock}");
    }
}

#[test]
fn a_crowd_adopts_a_completed_answer_without_a_request() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let (new, answer) = killed_before_the_rename(&server, &home, lock);
        let ran = run_together((0..50).map(|_| with_lock(&home, lock, &["token"])).collect());
        assert_all(&ran, &Ran::printed(&new.access_token));
        assert_eq!(home.document(), answer, "{lock}");
        assert_eq!(server.counts().token_requests, 1, "{lock}");
    }
}

#[test]
fn an_answer_that_follows_another_refresh_token_is_not_adopted() {
    for lock in LOCKS {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        killed_before_the_rename(&server, &home, lock);
        // A login since then.
        home.grant(&server, EXPIRED);
        let ran = run(&mut with_lock(&home, lock, &["token"]));
        assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}");
        assert_ne!(home.tokens().access_token, "at_of-the-answer", "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
        assert!(!home.names().iter().any(|name| name.contains('~')), "{lock}: {:?}", home.names());
    }
}

#[test]
fn half_an_answer_is_not_adopted() {
    for lock in LOCKS {
        let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
        let (home, _) = Home::with_grant(&server, EXPIRED);
        killed_before_the_rename(&server, &home, lock);
        let room = home.names().into_iter().find(|name| name.starts_with("default~answer.")).unwrap();
        let room = File::options().write(true).open(home.state.join(room)).unwrap();
        room.set_len(room.metadata().unwrap().len() - 5).unwrap();
        let ran = run(&mut with_lock(&home, lock, &["token"]));
        assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
        assert_eq!((server.counts().token_requests, server.counts().replays), (2, 1), "{lock}");
    }
}

/// Ctrl-C, a polite kill and a closed terminal end the process, but only when the answer is stored.
#[test]
fn signals_wait_until_the_answer_is_stored() {
    for lock in LOCKS {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let server = server(|_| {});
            let (home, issued) = Home::with_grant(&server, EXPIRED);
            let gate = Gate::closed();
            server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
            let process = Process::start(&mut with_lock(&home, lock, &["token"]));
            server.wait_until(|counts| counts.rotations == 1);
            process.signal(signal);
            gate.open();
            assert_eq!(process.finish().code, -signal.as_raw(), "{lock}");
            let new = home.tokens();
            assert_ne!(new.refresh_token, issued.refresh_token, "{lock}, {signal:?}");
            assert!(server.is_alive(&new.refresh_token), "{lock}, {signal:?}");
            assert!(!home.names().iter().any(|name| name.contains('~')), "{lock}, {signal:?}");
            assert_eq!(run(&mut with_lock(&home, lock, &["token"])), Ran::printed(&new.access_token));
            assert_eq!(server.counts().token_requests, 1, "{lock}, {signal:?}");
        }
    }
}

/// A process that only waits has nothing to lose, and goes at once.
#[test]
fn a_signal_ends_a_process_that_waits_for_another() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let gate = Gate::closed();
        server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
        let first = Process::start(&mut with_lock(&home, lock, &["token"]));
        server.wait_until(|counts| counts.rotations == 1);
        let second = Process::start(&mut with_lock(&home, lock, &["--timeout", "90", "-vv", "token"]));
        wait_for("a process that waits", || second.said().contains("waiting"));
        second.signal(Signal::INT);
        assert_eq!(second.finish().code, -Signal::INT.as_raw(), "{lock}");
        gate.open();
        assert_eq!(first.finish(), Ran::printed(&home.tokens().access_token), "{lock}");
    }
}

#[test]
fn a_closed_stdout_costs_the_token_and_not_the_session() {
    let server = server(|_| {});
    let stored = |home: &Home, old: &Issued| {
        assert_ne!(home.tokens().refresh_token, old.refresh_token);
        assert!(server.is_alive(&home.tokens().refresh_token));
        assert_eq!(home.names(), ["default.json", "default.lock"]);
        assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
    };

    let (home, old) = Home::with_grant(&server, EXPIRED);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = Process::start_to_its_stdout(home.command(&["token"]).stdout(writer)).finish();
    assert_eq!(ran, Ran::failed(4, "onegrant: cannot write to stdout: Broken pipe\n"));
    stored(&home, &old);

    let (home, old) = Home::with_grant(&server, EXPIRED);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ran = Process::start_to_its_stdout(home.command(&["token"]).stdout(full)).finish();
    assert_eq!(ran, Ran::failed(4, "onegrant: cannot write to stdout: No space left on device\n"));
    stored(&home, &old);

    // No stdout, stdin and stderr at all.
    let (home, old) = Home::with_grant(&server, EXPIRED);
    let command = home.command(&["token"]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().env("ONEGRANT_HOME", &home.state).stdin(Stdio::null());
    run(&mut shell);
    stored(&home, &old);
}

/// A process that waits for an answer that the server holds.
fn held(server: &AuthorizationServer, home: &Home, lock: &str) -> (Process, Gate) {
    let gate = Gate::closed();
    let before = server.counts().rotations;
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let process = Process::start(&mut with_lock(home, lock, &["token"]));
    server.wait_until(|counts| counts.rotations > before);
    (process, gate)
}

fn revoked(server: &AuthorizationServer) -> Vec<String> {
    let requests = server.requests_to(Endpoint::Revocation);
    requests.iter().map(|request| request.parameter("token").unwrap().to_owned()).collect()
}

/// Without a lock the logout comes first: the late answer is revoked, and nothing is stored.
#[test]
fn a_logout_that_a_refresh_crosses_is_not_undone() {
    let server = server(|_| {});
    let (home, old) = Home::with_grant(&server, EXPIRED);
    let (refresher, gate) = held(&server, &home, "off");
    let new = server.newest_refresh_token(&old.refresh_token).unwrap();
    let ran = run(&mut with_lock(&home, "off", &["logout"]));
    assert_eq!(
        ran,
        Ran {
            code: 0,
            stdout: "revoked at the server, and deleted here: profile default\n".to_owned(),
            stderr: String::new()
        }
    );
    assert!(!home.document_path().exists());
    gate.open();
    let text = "onegrant: no access token: profile default was logged out meanwhile\nhint: onegrant login\n";
    assert_eq!(refresher.finish(), Ran::failed(3, text));
    assert_eq!(home.names(), Vec::<String>::new());
    assert_eq!(revoked(&server), [old.refresh_token, new.clone()], "the new refresh token, too");
    assert!(!server.is_alive(&new));
}

/// Where there is a lock, or a claim, the logout waits, and revokes what the refresh has brought.
#[test]
fn a_logout_waits_for_a_refresh() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, old) = Home::with_grant(&server, EXPIRED);
        let (refresher, gate) = held(&server, &home, lock);
        let new = server.newest_refresh_token(&old.refresh_token).unwrap();
        let mut logout = Process::start(&mut with_lock(&home, lock, &["logout"]));
        if lock == "auto" {
            wait_for("a logout that waits for the lock", || waits_for_a_lock(logout.pid()));
        }
        assert!(!logout.is_over() && home.document_path().exists(), "{lock}");
        gate.open();
        assert_eq!(refresher.finish().code, 0, "{lock}");
        let ran = logout.finish();
        assert_eq!(
            ran.stdout, "revoked at the server, and deleted here: profile default\n",
            "{lock}: {ran:?}"
        );
        assert_eq!(revoked(&server), std::slice::from_ref(&new), "{lock}");
        assert!(!server.is_alive(&new), "{lock}");
        assert!(!home.document_path().exists(), "{lock}");
    }
}

/// Whether it, or its worker, waits in the kernel's lock table.
fn waits_for_a_lock(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let children =
        |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let workers: String = threads.filter_map(Result::ok).map(children).collect();
    let own = pid.to_string();
    let is_its = |word: &str| word == own || workers.split_whitespace().any(|worker| worker == word);
    let table = fs::read_to_string("/proc/locks").unwrap();
    table.lines().any(|line| line.contains("->") && line.split_whitespace().any(is_its))
}

/// The most system calls of a process that waits for the refresh of another one, from exec to exit: 60 in a directory of a
/// usual depth. These are without the one call for each directory of the path, and without the looks during a long wait.
const MOST_CALLS: usize = 52;

/// The most system calls of one look at the document during the wait, the timer for the next one included.
const MOST_CALLS_OF_A_LOOK: usize = 10;

#[test]
fn a_process_that_waits_for_a_refresh_makes_few_system_calls() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let trace = home.root.join("trace");
    let traced =
        |command: &Command| wrapped("/usr/bin/strace", &["-f", "-o", trace.to_str().unwrap(), "--"], command);
    if !traced(Command::new("/bin/true").current_dir("/")).status().is_ok_and(|status| status.success()) {
        println!("not counted: strace cannot be used here");
        return;
    }
    let (refresher, gate) = held(&server, &home, "auto");
    let waiter = Process::start(&mut traced(&home.command(&["token"])));
    wait_for("a process that waits for the lock", || waits_for_a_lock(waiter.pid()));
    gate.open();
    assert_eq!(refresher.finish().code, 0);
    assert_eq!(waiter.finish(), Ran::printed(&home.tokens().access_token));
    let text = fs::read_to_string(&trace).unwrap();
    // A debug build looks at each descriptor before it closes it. The C library resolves a path directory by directory.
    let others = ["+++", "---", "resumed>", "F_GETFD", "= -1 EINVAL"];
    let count = text.lines().filter(|line| !others.iter().any(|other| line.contains(other))).count();
    let looks = text.lines().filter(|line| line.contains("flock(") && line.contains("ERESTARTSYS")).count();
    let most = MOST_CALLS + looks * MOST_CALLS_OF_A_LOOK;
    assert!(count <= most, "{count} system calls, and at most {most} are allowed:\n{text}");
    let starts = ["clone(", "clone3(", "fork("].iter().any(|call| text.contains(call));
    assert!(!starts, "it starts a thread or a process:\n{text}");
    println!("{count} system calls");
}

// ---- a process that is stopped, or has a stderr that is not read, holds no lock ----

fn is_stopped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
}

/// Both ends of a pipe without room. The read end is not read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let is_blocking = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, is_blocking | OFlags::NONBLOCK).unwrap();
    for size in [4096, 1] {
        while writer.write(&vec![b'x'; size]).is_ok() {}
    }
    rustix::fs::fcntl_setfl(&writer, is_blocking).unwrap();
    (reader, writer)
}

/// Ctrl-Z in the middle of a refresh, and SIGSTOP, which cannot be held back.
#[test]
fn a_process_that_is_stopped_in_a_refresh_holds_no_lock_when_its_answer_is_stored() {
    for signal in [Signal::TSTP, Signal::STOP] {
        // Its answer fits into no socket's buffer: the worker cannot say its last word.
        for size in [0, 600 << 10] {
            let server = server(|_| {});
            let (home, old) = Home::with_grant(&server, EXPIRED);
            let gate = Gate::closed();
            server.script(Endpoint::Token, [Fault::HoldHuge(gate.clone(), size)]);
            let process = Process::start(home.command(&["-vv", "token"]).process_group(0));
            server.wait_until(|counts| counts.rotations == 1);
            process.signal(signal);
            gate.open();
            wait_for("the new session", || home.tokens().refresh_token != old.refresh_token);
            wait_for("a free lock", || lock_is_free(&home.state.join("default.lock")));
            assert_eq!(home.run(&["refresh"]).code, 0, "{signal:?}");
            let newer = home.tokens();
            assert_eq!(home.run(&["logout", "--local"]).code, 0, "{signal:?}");
            assert_eq!(server.counts().token_requests, 2, "{signal:?}");
            process.signal(Signal::CONT);
            let ran = process.finish();
            assert_eq!(ran.code, 0, "{signal:?}: {ran:?}");
            assert_ne!(ran.stdout.trim_end(), newer.access_token, "{signal:?}");
        }
    }
}

/// A caller that is stopped between the start of its worker and the end of its own copy of the lock.
#[test]
fn a_caller_that_is_stopped_when_its_worker_has_begun_holds_no_lock_when_its_answer_is_stored() {
    let server = server(|_| {});
    let (home, old) = Home::with_grant(&server, EXPIRED);
    let process = Process::start(&mut home.command(&["token"]));
    let children = format!("/proc/{0}/task/{0}/children", process.pid());
    // Without a pause: the moment is short.
    while fs::read_to_string(&children).unwrap().is_empty()
        && home.tokens().refresh_token == old.refresh_token
    {}
    process.signal(Signal::STOP);
    wait_for("the new session", || home.tokens().refresh_token != old.refresh_token);
    wait_for("a free lock", || lock_is_free(&home.state.join("default.lock")));
    process.signal(Signal::CONT);
    assert_eq!(process.finish(), Ran::printed(&home.tokens().access_token));
    assert_eq!(server.counts().token_requests, 1);
}

#[test]
fn a_process_whose_stderr_is_not_read_holds_no_lock() {
    for arguments in [&["-vv", "token"][..], &["-v", "refresh"]] {
        let server = server(|_| {});
        let (home, old) = Home::with_grant(&server, EXPIRED);
        let (reader, writer) = full_pipe();
        let mut command = home.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        drop(command);
        wait_for("the new session", || home.tokens().refresh_token != old.refresh_token);
        wait_for("a free lock", || lock_is_free(&home.state.join("default.lock")));
        assert_eq!(home.run(&["refresh"]).code, 0);
        drop(reader);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(server.counts().token_requests, 2);
    }
}

/// What it had begun is done, so it does not wait for its reader first.
#[test]
fn a_signal_ends_a_process_whose_stderr_is_not_read() {
    for arguments in [&["-vv", "token"][..], &["-v", "exec", "--", "/bin/true"]] {
        let server = server(|_| {});
        let (home, old) = Home::with_grant(&server, EXPIRED);
        let gate = Gate::closed();
        server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
        let (_reader, writer) = full_pipe();
        let mut command = home.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        drop(command);
        server.wait_until(|counts| counts.rotations == 1);
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(child.try_wait().unwrap(), None, "not before the answer is stored");
        gate.open();
        wait_for("the end of the process", || !is_running(child.id()));
        let ended = child.wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()), "{arguments:?}");
        assert_ne!(home.tokens().refresh_token, old.refresh_token, "{arguments:?}");
        assert_eq!(server.counts().token_requests, 1);
    }
}

/// Its worker said everything while it was stopped, and the token ended meanwhile.
#[test]
fn a_process_that_is_stopped_until_after_its_deadline_prints_the_token_that_was_obtained_for_it() {
    let server = server(|settings| settings.lifetime = Some(Duration::from_secs(1)));
    let (home, old) = Home::with_grant(&server, EXPIRED);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let began = Instant::now();
    let process = Process::start(&mut home.command(&["-v", "--timeout", "5", "token"]));
    server.wait_until(|counts| counts.rotations == 1);
    process.signal(Signal::STOP);
    gate.open();
    wait_for("the new session", || home.tokens().refresh_token != old.refresh_token);
    wait_for("the deadline, and the time that a worker has beyond it", || began.elapsed().as_secs() > 7);
    process.signal(Signal::CONT);
    let ran = process.finish();
    assert_eq!((ran.code, ran.stdout.trim_end()), (0, &*home.tokens().access_token), "{ran:?}");
    assert_eq!(server.counts().token_requests, 1);
}

/// A file system with lock calls that may hang, so that another process makes them: ramfs is none of those that are known to
/// answer at once.
struct Ramfs<'a>(&'a Path);

impl<'a> Ramfs<'a> {
    /// In the place of the home's root.
    fn mount(home: &'a Home) -> Self {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-t", "ramfs", "ramfs"]).arg(&home.root).status().unwrap().success());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&home.state).unwrap();
        Self(&home.root)
    }
}

impl Drop for Ramfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// It gets the lock after it is continued, not while it is stopped.
#[test]
fn a_process_that_is_stopped_while_it_waits_for_the_lock_does_not_get_it() {
    for waiting in [&["logout", "--local"][..], &["--timeout", "50", "token"]] {
        for signal in [Signal::TSTP, Signal::STOP] {
            for calls_may_hang in [false, true] {
                // Only root may mount.
                if calls_may_hang && !is_root() {
                    continue;
                }
                let server = server(|_| {});
                let home = Home::new();
                let _mounted = calls_may_hang.then(|| Ramfs::mount(&home));
                home.grant(&server, EXPIRED);
                let (refresher, gate) = held(&server, &home, "auto");
                let waiter = Process::start(home.command(waiting).process_group(0));
                wait_for("a process that waits for the lock", || waits_for_a_lock(waiter.pid()));
                waiter.signal(signal);
                wait_for("a stopped process", || is_stopped(waiter.pid()));
                gate.open();
                assert_eq!(refresher.finish().code, 0, "{waiting:?}");
                assert_eq!(home.run(&["refresh"]).code, 0, "{waiting:?}, {signal:?}");
                wait_for("a free lock", || lock_is_free(&home.state.join("default.lock")));
                waiter.signal(Signal::CONT);
                assert_eq!(waiter.finish().code, 0, "{waiting:?}, {signal:?}");
            }
        }
    }
}

/// Its wait ended at the deadline, and it cannot write the error to its stderr.
#[test]
fn a_process_that_has_given_up_waiting_for_the_lock_does_not_get_it_later() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let (refresher, gate) = held(&server, &home, "auto");
    let (reader, writer) = full_pipe();
    let mut command = home.command(&["--timeout", "0.2", "logout"]);
    let mut child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    drop(command);
    // It waits for its reader.
    let waits_to_write = || {
        let channel = fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
        channel.contains("pipe_write")
    };
    wait_for("a process that writes to a full pipe", waits_to_write);
    gate.open();
    assert_eq!(refresher.finish().code, 0);
    wait_for("a free lock", || lock_is_free(&home.state.join("default.lock")));
    assert_eq!(home.run(&["refresh"]).code, 0);
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

fn import(home: &Home, server: &AuthorizationServer, lock: &str, refresh_token: &str) -> Command {
    let path = home.root.join("imported");
    fs::write(&path, refresh_token).unwrap();
    let token_endpoint = server.token_endpoint();
    let arguments = [
        "login",
        "--token-endpoint",
        &token_endpoint,
        "--client-id",
        server.client_id(),
        "--refresh-token-stdin",
    ];
    let mut command = with_lock(home, lock, &arguments);
    command.stdin(File::open(path).unwrap());
    command
}

#[test]
fn a_login_that_a_refresh_crosses_wins() {
    let server = server(|_| {});
    let (home, old) = Home::with_grant(&server, EXPIRED);
    let (refresher, gate) = held(&server, &home, "off");
    let other = server.issue_grant();
    let ran = run(&mut import(&home, &server, "off", &other.refresh_token));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let after = home.bytes();
    gate.open();
    // Its token works, and is printed; but the login is what the person wanted last.
    let ran = refresher.finish();
    assert!(server.access_token_is_valid(ran.token()));
    assert_eq!(home.bytes(), after);
    let stored = home.tokens();
    assert_ne!(stored.access_token, ran.token());
    assert!(server.is_alive(&stored.refresh_token));
    assert_eq!(server.newest_refresh_token(&other.refresh_token), Some(stored.refresh_token));
    assert!(!server.is_alive(&old.refresh_token));
}

#[test]
fn a_login_waits_for_a_refresh_and_wins() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let (refresher, gate) = held(&server, &home, lock);
        let other = server.issue_grant();
        let login = Process::start(&mut import(&home, &server, lock, &other.refresh_token));
        if lock == "auto" {
            wait_for("a login that waits for the lock", || waits_for_a_lock(login.pid()));
        }
        gate.open();
        assert_eq!(refresher.finish().code, 0, "{lock}");
        assert_eq!(login.finish().code, 0, "{lock}");
        let stored = home.tokens();
        assert_eq!(server.newest_refresh_token(&other.refresh_token).as_ref(), Some(&stored.refresh_token));
        assert!(server.is_alive(&stored.refresh_token), "{lock}");
    }
}

/// A record without content binds no process.
#[test]
fn a_broken_record_blocks_no_process() {
    for lock in LOCKS {
        for bytes in ["", "{", "[]", r#"{"id":7}"#] {
            let server = server(|_| {});
            let (home, _) = Home::with_grant(&server, EXPIRED);
            killed(&server, &home, lock, Fault::StallBefore);
            let record = home.names().into_iter().find(|name| name.starts_with("default~attempt.")).unwrap();
            fs::write(home.state.join(&record), bytes).unwrap();
            let ran = run(&mut with_lock(&home, lock, &["token"]));
            assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}, {bytes}");
            assert_eq!(server.counts().rotations, 1, "{lock}, {bytes}");
            assert!(!home.names().iter().any(|name| name.contains('~')), "{lock}, {bytes}");
        }
    }
}

/// The claim of a killed process does not hide what a later process found out, even if the lock is never released.
#[test]
fn a_verdict_beside_the_claim_of_a_killed_process_needs_no_lock() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    killed(&server, &home, "auto", Fault::StallBefore);
    let first = home.names().into_iter().find(|name| name.starts_with("default~attempt.")).unwrap();
    let mut rejected = home.attempts().remove(0);
    rejected["id"] = json!("another");
    rejected["outcome"] = json!("rejected");
    rejected["message"] = json!("the grant has ended");
    fs::write(home.state.join(format!("{}2", first.trim_end_matches('1'))), rejected.to_string()).unwrap();
    assert_eq!(home.attempts().len(), 2);
    let lock = File::options().read(true).write(true).open(home.state.join("default.lock")).unwrap();
    lock.lock().unwrap();
    let ran = home.run(&["--timeout", "1", "token"]);
    assert_eq!(ran, Ran::failed(3, "onegrant: the grant has ended\n"));
    assert_eq!(server.counts().token_requests, 1);
}

/// The claim of another machine binds until its `until`. Then the next process reports it.
#[test]
fn the_claim_of_another_machine_binds_until_it_has_run_out() {
    for lock in ["auto", "claim"] {
        let server = server(|settings| settings.replay = Replay::Reject);
        let (home, _) = Home::with_grant(&server, EXPIRED);
        killed(&server, &home, lock, Fault::StallBefore);
        let record = home.names().into_iter().find(|name| name.starts_with("default~attempt.")).unwrap();
        let record = home.state.join(record);
        let mut attempt: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
        attempt["by"]["boot"] = json!("another");
        attempt["by"]["host"] = json!("elsewhere");
        attempt["until"] = json!(now() + 3600);
        fs::write(&record, attempt.to_string()).unwrap();
        let ran = run(&mut with_lock(&home, lock, &["--timeout", "1", "token"]));
        let text = "onegrant: cannot refresh: another process's refresh had not ended after 1 s; the session is kept\n\
                    hint: try again, or wait longer: --timeout SECONDS\n";
        assert_eq!(ran, Ran::failed(4, text), "{lock}");
        assert_eq!(server.counts().token_requests, 1, "{lock}");

        attempt["until"] = json!(now() - 1);
        fs::write(&record, attempt.to_string()).unwrap();
        let ran = run(&mut with_lock(&home, lock, &["token"]));
        assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}");
        assert_eq!(server.counts().token_requests, 2, "{lock}");
    }
}
