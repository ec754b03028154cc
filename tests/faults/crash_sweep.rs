//! SIGKILL at every single system call of a refresh, a clearing, a login and a logout; then the next process goes on.
//!
//! `cargo test --test faults crash_sweep -- --ignored --nocapture`, where strace is installed and may trace.

use crate::support::*;
use rustix::fs::{Timespec, Timestamps};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Which process the kill ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// The process that was called, while its worker does the exchange.
    Caller,
    /// The process that comes to the call first: the caller or the worker.
    Either,
    /// The only one: no worker can be started.
    InPlace,
}

/// A system call, by its name and how often the process made it before, counting from 1.
type Point = (String, u32);

/// The calls by which a process can be started. Where these fail the exchange runs in place.
const STARTS: &str = "clone,clone3,vfork,fork";

/// What the kernel does not count as the process's own: it gets this before its first instruction, or not at all.
const NOT_OURS: [&str; 3] = ["execve", "restart_syscall", "rt_sigreturn"];

/// The fewest points that a sweep has: with fewer it has shown nothing.
const FEWEST_POINTS: usize = 50;

/// What lies between the server's rotation and the copy of its answer: the bound on the wait for it, its arrival, the end
/// of the connection, the write. Rust checks a descriptor before it closes it in builds with debug assertions.
const WINDOW: [&str; 5] = ["setsockopt", "recvfrom", "fcntl", "close", "pwrite64"];

/// Which calls are killed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Every single one.
    Every,
    /// Those by which a process meets the disk, the lock, the network and its worker.
    Meetings,
}

const MEETINGS: [&str; 24] = [
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "fallocate",
    "close",
    "sendto",
    "recvfrom",
    "connect",
    "getdents64",
    "flock",
    "fchmod",
    "ftruncate",
    "socketpair",
    "setsid",
    "wait4",
    "waitid",
];

fn strace(options: &[String], victim: Victim, command: &Command) -> Command {
    let mut all = vec!["-qq".to_owned()];
    if victim != Victim::Caller {
        all.push("-f".to_owned());
    }
    if victim == Victim::InPlace {
        all.push(format!("-einject={STARTS}:error=EAGAIN"));
    }
    all.extend_from_slice(options);
    wrapped("strace", &all.iter().map(String::as_str).collect::<Vec<_>>(), command)
}

/// Every call that the command makes in a run without faults.
fn points(home: &Home, victim: Victim, reach: Reach, command: &Command) -> Vec<Point> {
    let path = home.root.join("calls");
    let ran = run(strace(&[format!("-o{}", path.display())], victim, command).stdin(input(home)));
    assert!(ran.code == 0 || ran.code == 3, "{ran:?}");
    let mut counts: BTreeMap<(String, String), u32> = BTreeMap::new();
    for line in fs::read_to_string(&path).unwrap().lines() {
        let (process, call) = match line.split_once(' ') {
            Some((process, call)) if process.bytes().all(|byte| byte.is_ascii_digit()) => (process, call),
            _ => ("", line),
        };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !NOT_OURS.contains(&name)
        {
            *counts.entry((name.to_owned(), process.to_owned())).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, u32> = BTreeMap::new();
    for ((name, _), count) in counts {
        let most = most.entry(name).or_default();
        *most = count.max(*most);
    }
    most.into_iter()
        .filter(|(name, _)| victim != Victim::InPlace || !STARTS.split(',').any(|start| start == name))
        .filter(|(name, _)| reach == Reach::Every || MEETINGS.contains(&name.as_str()))
        .flat_map(|(name, count)| (1..=count).map(move |number| (name.clone(), number)))
        .collect()
}

fn input(home: &Home) -> File {
    let path = home.root.join("input");
    if !path.exists() {
        fs::write(&path, "").unwrap();
    }
    File::open(path).unwrap()
}

/// Runs the command and kills the victim at the point. A run that never comes there ends as if nothing was.
fn kill_at(home: &Home, victim: Victim, command: &Command, (name, number): &Point) -> Ran {
    let mut options = vec!["-o/dev/null".to_owned(), format!("-einject={name}:signal=KILL:when={number}")];
    let starts = if victim == Victim::InPlace { format!(",{STARTS}") } else { String::new() };
    options.push(format!("-etrace={name}{starts}"));
    run(strace(&options, victim, command).stdin(input(home)))
}

fn with_lock(home: &Home, lock: &str, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    command.env("ONEGRANT_LOCK", lock);
    command
}

/// The worker of a caller that was killed goes on; if nothing binds other processes, they do not wait for it.
fn wait_for_the_worker(home: &Home) {
    wait_for("the end of the worker", || !has_worker(home));
}

/// Whether a worker works on this home, or is about to: the caller may be killed before its child has become the worker. The
/// kernel sets the program of a process first and its environment a moment later.
fn has_worker(home: &Home) -> bool {
    let state = home.state.to_str().unwrap();
    let program = fs::canonicalize(env!("CARGO_BIN_EXE_onegrant")).unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let mut ours =
        processes.filter(|process| fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program));
    ours.any(|process| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.is_empty() || String::from_utf8_lossy(&environment).contains(state)
    })
}

/// No file stays for ever: after the time in which a file on its way is given up, one refresh sweeps everything.
fn assert_that_leftovers_are_swept(home: &Home, server: &AuthorizationServer, point: &str) {
    let long_ago = Timespec { tv_sec: now() - 3600, tv_nsec: 0 };
    for name in home.names().iter().filter(|name| name.contains("~temporary.")) {
        let file = File::options().write(true).open(home.state.join(name)).unwrap();
        rustix::fs::futimens(&file, &Timestamps { last_access: long_ago, last_modification: long_ago })
            .unwrap();
    }
    home.grant(server, EXPIRED);
    assert_eq!(home.run(&["token"]).code, 0, "{point}");
    let left: Vec<String> = home.names().into_iter().filter(|name| name.contains('~')).collect();
    assert_eq!(left, Vec::<String>::new(), "{point}");
}

/// What a sweep came to.
struct Swept {
    points: usize,
    /// Those that cost the grant.
    dead: Vec<String>,
}

/// Kills a refresh at each of its calls. Every next process has the stored token, and the session is alive, or it reports
/// that a refresh was begun and never finished.
fn refreshes(victim: Victim, reach: Reach, lock: &str, replay: Replay) -> Swept {
    let expired = || {
        let server = server(|settings| settings.replay = replay);
        let (home, _) = Home::with_grant(&server, EXPIRED);
        (server, home)
    };
    let (_server, home) = expired();
    let points = points(&home, victim, reach, &with_lock(&home, lock, &["token"]));
    let dead = Mutex::new(Vec::new());
    side_by_side(
        &points,
        || (),
        |(), (name, number)| {
            let (server, home) = expired();
            let command = with_lock(&home, lock, &["token"]);
            let ran = kill_at(&home, victim, &command, &(name.clone(), *number));
            // The request of a process that was killed may still be on its way. If the server acted on it after that of the next
            // process, it would take it for a replay and end the grant: no client can help that.
            server.settle();
            let point = format!("{victim:?}, {lock}: {name} {number}");
            assert!([0, 3, -9].contains(&ran.code), "{point}: {ran:?}");
            assert!(victim == Victim::Either || ran.code != 3, "{point}: {ran:?}");
            if lock == "off" {
                wait_for_the_worker(&home);
            }
            let next = run(&mut with_lock(&home, lock, &["token"]));
            if next.code == 3 {
                assert_eq!(server.counts().rotations, 1, "{point}: {next:?}");
                assert!(next.stderr.contains(" and never finished; "), "{point}: {next:?}");
                dead.lock().unwrap().push(name.clone());
                return;
            }
            let stored = home.tokens();
            assert_eq!(next, Ran::printed(&stored.access_token), "{point}");
            assert!(server.is_alive(&stored.refresh_token), "{point}");
            if victim == Victim::Caller {
                assert_eq!(server.counts().token_requests, 1, "{point}");
            }
            assert_that_leftovers_are_swept(&home, &server, &point);
        },
    );
    let dead = dead.into_inner().unwrap();
    println!(
        "{victim:?}, {lock}, {replay:?}: {} kills, {} cost the grant: {dead:?}",
        points.len(),
        dead.len()
    );
    assert!(points.len() >= FEWEST_POINTS, "{} points", points.len());
    Swept { points: points.len(), dead }
}

#[test]
#[ignore = "kills a process at each of its system calls, which takes strace and minutes: .ci/run crash-sweep"]
fn a_caller_that_is_killed_at_any_call_loses_nothing_even_with_a_strict_server() {
    for lock in ["auto", "claim", "off"] {
        let swept = refreshes(Victim::Caller, Reach::Every, lock, Replay::EndFamily);
        assert_eq!(swept.dead, Vec::<String>::new(), "of {}", swept.points);
    }
}

#[test]
#[ignore = "kills a process at each of its system calls, which takes strace and minutes: .ci/run crash-sweep"]
fn a_kill_at_any_call_costs_nothing_where_the_server_has_a_grace_period() {
    for lock in ["auto", "claim", "off"] {
        for victim in [Victim::Either, Victim::InPlace] {
            let swept = refreshes(victim, Reach::Meetings, lock, Replay::Grace(Duration::from_secs(3600)));
            assert_eq!(swept.dead, Vec::<String>::new(), "of {}", swept.points);
        }
    }
}

/// What no client can help: between the server's rotation and the write of its answer.
#[test]
#[ignore = "kills a process at each of its system calls, which takes strace and minutes: .ci/run crash-sweep"]
fn a_kill_of_the_exchange_costs_nothing_but_between_the_answer_and_its_copy() {
    for lock in ["auto", "claim", "off"] {
        for victim in [Victim::Either, Victim::InPlace] {
            let reach = if lock == "auto" { Reach::Every } else { Reach::Meetings };
            let swept = refreshes(victim, reach, lock, Replay::EndFamily);
            let is_there = |name: &String| WINDOW.contains(&name.as_str());
            let is_once = swept.dead.len() <= WINDOW.len();
            assert!(is_once && swept.dead.iter().all(is_there), "{:?} of {}", swept.dead, swept.points);
        }
    }
}

/// The grant is dead. A process that is killed while it finds that out leaves a whole document, and the next one says the
/// same.
#[test]
#[ignore = "kills a process at each of its system calls, which takes strace and minutes: .ci/run crash-sweep"]
fn a_clearing_that_is_killed_at_any_call_leaves_a_whole_document_and_the_verdict_to_the_next() {
    let dead = || {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        server.end_grant(&issued.refresh_token);
        (server, home)
    };
    for (victim, reach) in [(Victim::Either, Reach::Meetings), (Victim::InPlace, Reach::Every)] {
        let (_server, home) = dead();
        let points = points(&home, victim, reach, &home.command(&["token"]));
        side_by_side(
            &points,
            || (),
            |(), point| {
                let (server, home) = dead();
                let ran = kill_at(&home, victim, &home.command(&["token"]), point);
                let point = format!("{victim:?}: {} {}", point.0, point.1);
                assert!([3, -9].contains(&ran.code), "{point}: {ran:?}");
                let next = home.run(&["token"]);
                assert_eq!((next.code, next.stdout.as_str()), (3, ""), "{point}: {next:?}");
                assert!(home.document()["session"].is_null(), "{point}: cleared under the lock");
                let requests = server.counts().token_requests;
                // Two each of the worker, of its caller, which goes on without it, and of the next process.
                assert!(requests <= 6, "{point}: {requests} requests");
                assert_eq!(home.run(&["token"]).code, 3, "{point}");
                assert_eq!(server.counts().token_requests, requests, "{point}: known by now");
                assert_that_leftovers_are_swept(&home, &server, &point);
            },
        );
        println!("{victim:?}: {} kills of a clearing", points.len());
        assert!(points.len() >= FEWEST_POINTS, "{} points", points.len());
    }
}

/// A login replaces the grant of an earlier one as a whole, or not at all.
#[test]
#[ignore = "kills a process at each of its system calls, which takes strace and minutes: .ci/run crash-sweep"]
fn a_login_that_is_killed_at_any_call_leaves_the_old_grant_or_the_new_one() {
    let began = || {
        let server = server(|settings| settings.auto_approve = true);
        let (home, old) = Home::with_grant(&server, VALID);
        fs::write(home.root.join("input"), server.issue_grant().refresh_token).unwrap();
        (server, home, old)
    };
    for flow in ["--device", "--refresh-token-stdin"] {
        let login = |server: &AuthorizationServer, home: &Home| {
            home.command(&["login", &server.issuer(), "--client-id", server.client_id(), flow])
        };
        let (server, home, _) = began();
        let points = points(&home, Victim::InPlace, Reach::Every, &login(&server, &home));
        side_by_side(
            &points,
            || (),
            |(), point| {
                let (server, home, old) = began();
                let ran = kill_at(&home, Victim::InPlace, &login(&server, &home), point);
                let point = format!("{flow}: {} {}", point.0, point.1);
                assert!([0, -9].contains(&ran.code), "{point}: {ran:?}");
                let stored = home.tokens();
                assert!(server.is_alive(&stored.refresh_token), "{point}");
                assert!(ran.code != 0 || stored.refresh_token != old.refresh_token, "{point}");
                assert_eq!(home.run(&["token"]), Ran::printed(&stored.access_token), "{point}");
                assert_that_leftovers_are_swept(&home, &server, &point);
            },
        );
        println!("{flow}: {} kills of a login", points.len());
        assert!(points.len() >= FEWEST_POINTS, "{} points", points.len());
    }
}

/// The next logout completes one that was killed, whether the server has revoked or not.
#[test]
#[ignore = "kills a process at each of its system calls, which takes strace and minutes: .ci/run crash-sweep"]
fn a_logout_that_is_killed_at_any_call_is_finished_by_the_next_one() {
    let began = || {
        let server = server(|_| {});
        let (home, old) = Home::with_grant(&server, VALID);
        (server, home, old)
    };
    let (_server, home, _) = began();
    let points = points(&home, Victim::InPlace, Reach::Every, &home.command(&["logout"]));
    side_by_side(
        &points,
        || (),
        |(), point| {
            let (server, home, old) = began();
            let ran = kill_at(&home, Victim::InPlace, &home.command(&["logout"]), point);
            let point = format!("{} {}", point.0, point.1);
            assert!([0, -9].contains(&ran.code), "{point}: {ran:?}");
            let is_there = home.document_path().exists();
            assert!(is_there || !server.is_alive(&old.refresh_token), "{point}: deleted, but not revoked");
            if is_there {
                assert_eq!(home.tokens().refresh_token, old.refresh_token, "{point}");
            }
            assert_eq!(home.run(&["logout"]).code, 0, "{point}");
            assert!(!home.document_path().exists() && !server.is_alive(&old.refresh_token), "{point}");
            assert_that_leftovers_are_swept(&home, &server, &point);
        },
    );
    println!("{} kills of a logout", points.len());
    assert!(points.len() >= FEWEST_POINTS, "{} points", points.len());
}

/// Keeps each stdin in a file of its own in `runs`.
const KEEP: &str = "n=$(ls runs | wc -l); cat >runs/.$n; mv runs/.$n runs/$n";

/// A refresh with a command for a replaced refresh token.
fn with_command(home: &Home, script: &str) -> Command {
    let mut command = home.command(&["token"]);
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("ONEGRANT_ON_ROTATE", script);
    command
}

/// What each run of the command was given.
fn runs(home: &Home) -> Vec<String> {
    let names = fs::read_dir(home.root.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let whole = names.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    whole.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// A kill ends whichever process comes to the call: the caller, its worker, the runner, the shell, the command.
#[test]
#[ignore = "kills a process at each of its system calls, which takes strace and minutes: .ci/run crash-sweep"]
fn a_delivery_that_is_killed_at_any_call_is_done_by_the_next_process() {
    let expired = || {
        let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(3600)));
        let (home, _) = Home::with_grant(&server, EXPIRED);
        fs::create_dir(home.root.join("runs")).unwrap();
        (server, home)
    };
    let (_server, home) = expired();
    let points = points(&home, Victim::Either, Reach::Meetings, &with_command(&home, KEEP));
    side_by_side(
        &points,
        || (),
        |(), point| {
            let (_server, home) = expired();
            // strace ends after all processes that it traces.
            let ran = kill_at(&home, Victim::Either, &with_command(&home, KEEP), point);
            let point = format!("{} {}", point.0, point.1);
            assert!([0, -9].contains(&ran.code), "{point}: {ran:?}");
            let next = run(&mut with_command(&home, KEEP));
            assert_eq!(next, Ran::printed(&home.tokens().access_token), "{point}");
            wait_for("the end of the runner", || !has_worker(&home));
            let newest = home.tokens().refresh_token;
            let delivered = runs(&home).iter().filter(|document| document.contains(&newest)).count();
            // The note of a run can be lost in a kill after it.
            assert!((1..=2).contains(&delivered), "{point}: {delivered} runs with the newest");
            let whole =
                runs(&home).into_iter().all(|document| serde_json::from_str::<Value>(&document).is_ok());
            assert!(whole, "{point}");
        },
    );
    println!("{} kills of a delivery", points.len());
    assert!(points.len() >= FEWEST_POINTS, "{} points", points.len());
}

/// At most once, also where the process is killed that was about to say so. The grant has no refresh token, so no request
/// comes before.
#[test]
#[ignore = "kills a process at each of its system calls, which takes strace and minutes: .ci/run crash-sweep"]
fn a_kill_at_any_call_tells_nothing_twice_of_a_dead_grant() {
    let dead = || {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let mut document = home.document();
        document["session"].as_object_mut().unwrap().remove("refresh_token");
        home.write(&document);
        fs::create_dir(home.root.join("runs")).unwrap();
        (server, home)
    };
    let token = |home: &Home| {
        let mut command = home.command(&["token"]);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("ONEGRANT_ON_LOGIN_REQUIRED", KEEP);
        command
    };
    let (_server, home) = dead();
    let points = points(&home, Victim::Either, Reach::Every, &token(&home));
    let told = AtomicUsize::new(0);
    side_by_side(
        &points,
        || (),
        |(), point| {
            let (_server, home) = dead();
            let ran = kill_at(&home, Victim::Either, &token(&home), point);
            let point = format!("{} {}", point.0, point.1);
            assert!([3, -9].contains(&ran.code), "{point}: {ran:?}");
            for _ in 0..2 {
                assert_eq!(run(&mut token(&home)).code, 3, "{point}");
                wait_for("the end of the runner", || !has_worker(&home));
            }
            assert!(runs(&home).len() <= 1, "{point}: {:?}", runs(&home));
            told.fetch_add(runs(&home).len(), Ordering::Relaxed);
        },
    );
    let told = told.into_inner();
    println!("{} kills, {told} times the command was told of it", points.len());
    // Some kills come before the command, and some after it.
    assert!(points.len() >= FEWEST_POINTS && (1..points.len()).contains(&told), "{told} of {}", points.len());
}

#[test]
#[ignore = "makes lock calls fail, which takes strace: .ci/run crash-sweep"]
fn where_locks_are_refused_one_command_runs_at_a_time() {
    const CROWD: usize = 6;
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    fs::create_dir(home.root.join("runs")).unwrap();
    let waiting = format!("{KEEP}; until [ -e gate ]; do sleep 0.01; done");
    let refused = ["-e", "inject=flock:error=ENOLCK", "-o", "/dev/null"].map(str::to_owned);
    let start = |_| Process::start(&mut strace(&refused, Victim::Either, &with_command(&home, &waiting)));
    let processes: Vec<RefCell<Process>> = (0..CROWD).map(start).map(RefCell::new).collect();
    wait_for("the run", || runs(&home).len() == 1);
    // strace ends after all processes that it traces, and the one that runs the command does not.
    let are_over = || processes.iter().filter(|process| process.borrow_mut().is_over()).count();
    wait_for("the end of the others", || are_over() == CROWD - 1);
    assert_eq!(runs(&home).len(), 1, "the others left it to the one that runs");
    fs::write(home.root.join("gate"), "").unwrap();
    for process in processes {
        assert_eq!(process.into_inner().finish().code, 0);
    }
    let newest = home.tokens().refresh_token;
    let given = runs(&home);
    assert!(given.len() == 1 && given[0].contains(&newest), "{given:?}");
    assert!(!home.state.join("default~rotated.running").exists());
    assert_eq!(server.counts().token_requests, 1);
}
