//! File systems with locks that are refused, do not exclude, or hang. Two FUSE mounts of one directory are two machines
//! that share it: each has its own server and its own caches, and neither sees the other's locks.

use crate::support::*;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How many processes meet on each of two mounts.
const SIDE: usize = 25;

/// The answer to a lock call that is granted to every process.
const LIE: &str = "0";

/// The same, and the kernel remembers which file a name led to.
const REMEMBERS: &str = "remembers";

/// What a process is given that meets a lock call without an answer, and by when it has to have ended on a machine that
/// is busy.
const TIMEOUT: &str = "3";
const ENDED_BY: Duration = Duration::from_secs(20);

/// Compiles a FUSE server of the fixtures, once for a home. Needs a C compiler and the headers of FUSE 3.
fn compiled(home: &Home, source: &str) -> PathBuf {
    let program = home.root.join(source).with_extension("");
    if !program.exists() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/no_locks").join(source);
        let command = "cc -O1 -Wall -Wextra -Werror -o \"$1\" \"$2\" $(pkg-config --cflags --libs fuse3)";
        let ran = run(Command::new("sh").args(["-c", command, "sh"]).arg(&program).arg(source));
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    program
}

/// A home's store, shown by a FUSE server of its own. Dropping it takes it away.
struct Mount {
    point: PathBuf,
    file_system: Option<Process>,
}

impl Mount {
    /// The source of the server explains `answer`; [`REMEMBERS`] is the other server.
    fn show(home: &Home, answer: &str, name: &str) -> Self {
        let point = home.root.join(name);
        fs::create_dir(&point).unwrap();
        let (source, before, behind): (_, &[&str], &[&str]) = match answer {
            REMEMBERS => ("inodes.c", &[], &[]),
            _ => ("main.c", &[answer], &["-f", "-o", "max_threads=100"]),
        };
        let mut command = Command::new(compiled(home, source));
        command.args(before).arg(&home.state).arg(&point).args(behind);
        let mount = Self { file_system: Some(Process::start(&mut command)), point };
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
        wait_for("the mount", || device(&mount.point) != device(&home.root));
        mount
    }

    /// Two of them.
    fn show_twice(home: &Home, answer: &str) -> [Self; 2] {
        [Self::show(home, answer, "here"), Self::show(home, answer, "there")]
    }

    /// The program under test on this side.
    fn command(&self, home: &Home, lock: &str, arguments: &[&str]) -> Command {
        let mut command = home.command(arguments);
        command.env("ONEGRANT_HOME", &self.point).env("ONEGRANT_LOCK", lock);
        command
    }

    /// No process uses it any more.
    fn hide(mut self) {
        assert_eq!(run(Command::new("umount").arg(&self.point)).code, 0);
        assert_eq!(self.file_system.take().unwrap().finish().code, 0);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.file_system.take().is_some() {
            let _ = Command::new("umount").arg("-l").arg(&self.point).status();
        }
    }
}

/// As many commands on each side.
fn on_both(mounts: &[Mount; 2], home: &Home, lock: &str, arguments: &[&str]) -> Vec<Command> {
    let side = |mount: &Mount| (0..SIDE).map(|_| mount.command(home, lock, arguments)).collect::<Vec<_>>();
    mounts.iter().flat_map(side).collect()
}

/// The server ends the family on a replay: a second request would be seen in every way.
#[track_caller]
fn assert_one_refresh(server: &AuthorizationServer, home: &Home, what: &str) {
    let counts = server.counts();
    assert_eq!((counts.token_requests, counts.rotations, counts.unexpected), (1, 1, 0), "{what}");
    assert!(server.is_alive(&home.tokens().refresh_token), "{what}");
}

#[track_caller]
fn assert_one_refresh_for_two_machines(answer: &str, lock: &str, delay: Duration) {
    let server = server(|settings| settings.delay_before = delay);
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let mounts = Mount::show_twice(&home, answer);
    let ran = run_together(on_both(&mounts, &home, lock, &["token"]));
    assert_all(&ran, &Ran::printed(&home.tokens().access_token));
    assert_one_refresh(&server, &home, &format!("{answer}, {lock}"));
    mounts.into_iter().for_each(Mount::hide);
    println!("{answer}, {lock}, {delay:?}: {} processes on two mounts, one refresh", 2 * SIDE);
}

#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn two_machines_with_locks_that_do_not_exclude_send_one_refresh() {
    for delay in [Duration::ZERO, Duration::from_millis(100)] {
        for answer in [LIE, "local"] {
            for lock in ["auto", "claim"] {
                assert_one_refresh_for_two_machines(answer, lock, delay);
            }
        }
    }
}

/// A machine that has read the document sees that file until it looks the name up again.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn a_cached_file_name_costs_no_second_refresh() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let [here, there] = Mount::show_twice(&home, REMEMBERS);
        let document = here.point.join("default.json");
        let old = fs::read(&document).unwrap();
        assert_eq!(run(&mut there.command(&home, lock, &["token"])).code, 0);
        assert_eq!(fs::read(&document).unwrap(), old, "it is remembered");
        let ran = run_together((0..SIDE).map(|_| here.command(&home, lock, &["token"])).collect());
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_one_refresh(&server, &home, lock);
        [here, there].into_iter().for_each(Mount::hide);
    }
}

/// What a file system says that has no locks.
const REFUSALS: [Errno; 5] = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::BADF];

/// What a broken one says.
const FAILURES: [Errno; 2] = [Errno::IO, Errno::STALE];

/// What `doctor` finds out about the lock there.
fn lock_check(command: &mut Command) -> (Value, i32) {
    let ran = run(command);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    (checks.iter().find(|check| check["name"] == "lock").unwrap().clone(), ran.code)
}

/// The file system also knows no hard links, no fallocate and no sync of a directory.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn a_file_system_without_locks_has_the_level_claimed() {
    for errno in REFUSALS {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let mounts = Mount::show_twice(&home, &errno.raw_os_error().to_string());
        let onegrant = |arguments: &[&str]| mounts[0].command(&home, "auto", arguments);
        let status = run(&mut onegrant(&["status", "--json"]));
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["level"], "claimed", "{errno}: {status}");
        let (check, _) = lock_check(&mut onegrant(&["doctor", "--json"]));
        assert_eq!(check["verdict"], "warn", "{errno}: {check}");
        assert!(check["what"].as_str().unwrap().starts_with("claimed: fuse refuses locks ("), "{check}");
        let ran = run_together(on_both(&mounts, &home, "auto", &["token"]));
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_one_refresh(&server, &home, &errno.to_string());
        assert_eq!(run(&mut onegrant(&["logout"])).code, 0, "{errno}");
        assert!(!home.document_path().exists(), "{errno}");
        mounts.into_iter().for_each(Mount::hide);
        println!("{errno}: {} processes on two mounts, one refresh", 2 * SIDE);
    }
}

/// The store is broken then, and a lock that is not asked for cannot fail.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn a_lock_call_that_fails_for_another_reason_spends_nothing() {
    for errno in FAILURES {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let before = home.bytes();
        let mounts = Mount::show_twice(&home, &errno.raw_os_error().to_string());
        let ran = run_together(on_both(&mounts, &home, "auto", &["token"]));
        for (number, ran) in ran.iter().enumerate() {
            let lock = mounts[number / SIDE].point.join("default.lock");
            let text = format!("onegrant: cannot lock {}: {errno}", lock.display());
            assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{errno}: {ran:?}");
            let text = text.split(" (os error").next().unwrap();
            assert!(ran.stderr.starts_with(text), "{errno}: {ran:?}");
        }
        assert_eq!((home.bytes(), server.counts().token_requests), (before, 0), "{errno}");
        let ran = run_together(on_both(&mounts, &home, "claim", &["token"]));
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_one_refresh(&server, &home, &errno.to_string());
        mounts.into_iter().for_each(Mount::hide);
        println!("{errno}: nothing spent, and with claim one refresh");
    }
}

/// The processes that have an open file of this mount, except for its server.
fn users(mount: &Mount) -> Vec<u32> {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let is_inside = |link: PathBuf| fs::read_link(link).is_ok_and(|file| file.starts_with(&mount.point));
    let uses = |process: &u32| {
        let open = fs::read_dir(format!("/proc/{process}/fd"));
        open.is_ok_and(|open| open.filter_map(Result::ok).any(|descriptor| is_inside(descriptor.path())))
    };
    processes.filter(uses).collect()
}

/// A call that the server has taken ignores every signal, SIGKILL too: what is left behind is the process
/// that made the call for another one, until the server answers or ends.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn a_lock_call_that_is_never_answered_costs_the_deadline_and_no_more() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let silence = home.root.join("silence");
    fs::write(&silence, "").unwrap();
    let mounts = Mount::show_twice(&home, &format!("silent:{}", silence.display()));
    let token = |lock: &str, arguments: &[&str]| mounts[0].command(&home, lock, arguments);

    // A process with a fresh token asks for no lock. A process with a token that works does not wait for the lock.
    assert_eq!(run(&mut token("auto", &["--timeout", "3600", "token"])), Ran::printed(&issued.access_token));
    let issued = home.grant(&server, 25);
    let ran = run(&mut token("auto", &["--timeout", "3600", "token"]));
    assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", issued.access_token)), "{}", ran.stderr);

    home.grant(&server, EXPIRED);
    let before = home.bytes();
    let began = Instant::now();
    let mut waiting: Vec<Process> =
        (0..5).map(|_| Process::start(&mut token("auto", &["--timeout", TIMEOUT, "token"]))).collect();
    // A signal ends a process that has spent nothing.
    let ended = waiting.pop().unwrap();
    wait_for("a lock call", || !users(&mounts[0]).is_empty());
    ended.signal(Signal::TERM);
    assert_eq!(ended.finish().code, -15);
    for process in waiting {
        let text = "onegrant: cannot refresh: the lock call had not been answered after 3 s; the session is kept\n\
                    hint: export ONEGRANT_LOCK=claim   # for all processes that share this store\n";
        assert_eq!(process.finish(), Ran::failed(4, text));
    }
    assert!(began.elapsed() < ENDED_BY, "{:?}", began.elapsed());
    assert_eq!((&home.bytes(), server.counts().token_requests), (&before, 0));
    let ran = run(&mut token("auto", &["status"]));
    assert!(ran.code == 0 && ran.stdout.contains("none: the lock call does not answer\n"), "{ran:?}");
    let (check, code) = lock_check(&mut token("auto", &["doctor", "--json"]));
    assert_eq!((&check["what"], code), (&"the lock call does not answer".into(), 4), "{check}");
    let ran = run(&mut token("auto", &["--timeout", "1", "logout"]));
    assert_eq!((ran.code, home.bytes()), (4, before), "{ran:?}");

    // As the hint says.
    let ran = run_together(on_both(&mounts, &home, "claim", &["token"]));
    assert_all(&ran, &Ran::printed(&home.tokens().access_token));
    assert_one_refresh(&server, &home, "claim");

    fs::remove_file(&silence).unwrap();
    wait_for("the end of the lock calls", || users(&mounts[0]).is_empty());
    home.grant(&server, EXPIRED);
    let ran = run_together(on_both(&mounts, &home, "auto", &["token"]));
    assert_all(&ran, &Ran::printed(&home.tokens().access_token));
    assert_eq!(server.counts().token_requests, 2, "the lock answers again");
    mounts.into_iter().for_each(Mount::hide);
}

/// Another mount, another process: all it may know of the owner is that it is gone.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn the_claim_of_a_killed_owner_is_taken_over_on_the_other_machine() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let [here, there] = Mount::show_twice(&home, LIE);
        // Its request never takes effect: a strict server would tell a second one that did.
        server.script(Endpoint::Token, [Fault::StallBefore]);
        let owner = Process::start(&mut here.command(&home, lock, &["token"]));
        server.wait_until(|counts| counts.refreshes == 1);
        kill_with_worker(owner, &home);
        let ran = run_together((0..SIDE).map(|_| there.command(&home, lock, &["token"])).collect());
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
        assert_eq!(home.attempts(), Vec::<Value>::new(), "{lock}");
        [here, there].into_iter().for_each(Mount::hide);
    }
}

/// The answer reaches an owner that sleeps. Meanwhile its claim runs out, and another process refreshes, twice.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn an_owner_that_wakes_after_its_claim_ended_overwrites_nothing_newer() {
    let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(60)));
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let [here, there] = Mount::show_twice(&home, LIE);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let owner = Process::start(&mut here.command(&home, "claim", &["--timeout", "5", "token"]));
    server.wait_until(|counts| counts.rotations == 1);
    let worker = spender(&home);
    signal(worker, Signal::STOP);
    gate.open();
    server.wait_until(|counts| counts.released == 1);
    // Only the end of its claim is awaited here.
    let taken = run(&mut there.command(&home, "claim", &["--timeout", "50", "token"]));
    assert_eq!(taken, Ran::printed(&home.tokens().access_token));
    assert_eq!(server.counts().token_requests, 2, "the owner's and the taker's");
    assert_eq!(run(&mut there.command(&home, "claim", &["refresh"])).code, 0);
    let newest = home.bytes();
    signal(worker, Signal::CONT);
    assert_eq!(owner.finish().code, 4, "its deadline has passed");
    wait_for("the end of the worker", || !is_running(worker));
    assert_eq!(home.bytes(), newest);
    assert_eq!(server.counts().token_requests, 3);
    assert!(server.is_alive(&home.tokens().refresh_token));
    assert_eq!(home.attempts(), Vec::<Value>::new());
    [here, there].into_iter().for_each(Mount::hide);
}

/// The same where the other machine's clock is ahead: for the owner there is time enough to commit.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn a_late_commit_does_not_replace_a_newer_session() {
    let server = server(|settings| settings.replay = Replay::Grace(Duration::from_secs(60)));
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let [here, there] = Mount::show_twice(&home, LIE);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let owner = Process::start(&mut here.command(&home, "claim", &["token"]));
    server.wait_until(|counts| counts.rotations == 1);
    let worker = spender(&home);
    signal(worker, Signal::STOP);
    run_out(&home);
    assert_eq!(run(&mut there.command(&home, "claim", &["token"])).code, 0);
    assert_eq!(run(&mut there.command(&home, "claim", &["refresh"])).code, 0);
    let newest = home.bytes();
    gate.open();
    server.wait_until(|counts| counts.released == 1);
    signal(worker, Signal::CONT);
    let owner = owner.finish();
    assert_eq!(owner.code, 0, "its token works, too: {owner:?}");
    assert_eq!(home.bytes(), newest);
    assert_eq!(server.counts().token_requests, 3);
    assert!(server.is_alive(&home.tokens().refresh_token));
    [here, there].into_iter().for_each(Mount::hide);
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal).unwrap();
}

/// Lets the only claim run out by the clock of its reader.
fn run_out(home: &Home) {
    let name = home.names().into_iter().find(|name| name.contains("~attempt.")).unwrap();
    let path = home.state.join(name);
    let mut attempt: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    attempt["until"] = (now() - 1).into();
    fs::write(&path, attempt.to_string()).unwrap();
}

/// Both of the two processes get the lock, or would on another mount.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn doctor_reports_locks_that_do_not_exclude() {
    let lie = ("fail", 5, "two processes hold the lock at once: locks have no effect on this fuse");
    let doubt =
        "locked: processes exclude each other here, but on fuse another machine or mount may not see it";
    for (answer, (verdict, code, what)) in [(LIE, lie), ("local", ("warn", 0, doubt))] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, LIFETIME);
        let mount = Mount::show(&home, answer, "here");
        let check = |lock: &str| lock_check(&mut mount.command(&home, lock, &["doctor", "--json"]));
        let (report, ended) = check("auto");
        assert_eq!((&report["verdict"], ended), (&verdict.into(), code), "{report}");
        assert_eq!(report["what"], what);
        assert!(report["hint"].as_str().unwrap().starts_with("export ONEGRANT_LOCK=claim"), "{report}");
        let (report, ended) = check("claim");
        assert_eq!((&report["verdict"], ended), (&"ok".into(), 0), "the hint fixes it: {report}");
        mount.hide();
    }
}

/// Two processes hold the lock, and one of them has claimed.
#[test]
#[ignore = "needs a FUSE server: .ci/run file-systems"]
fn a_claim_found_under_the_lock_is_reported_as_a_lock_that_does_not_exclude() {
    for answer in [LIE, "local"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let [here, there] = Mount::show_twice(&home, answer);
        let gate = Gate::closed();
        server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
        let first = Process::start(&mut here.command(&home, "auto", &["token"]));
        server.wait_until(|counts| counts.refreshes == 1);
        let text = format!("this process holds the lock, and process {} on ", spender(&home));
        let hint = "if locks do not exclude other processes here: export ONEGRANT_LOCK=claim\n";
        let second = Process::start(&mut there.command(&home, "auto", &["-v", "token"]));
        // It holds the lock, and says nothing before it has released it.
        let sleeps = || {
            let channel = fs::read_to_string(format!("/proc/{}/wchan", second.pid())).unwrap_or_default();
            channel.contains("nanosleep")
        };
        wait_for("a pause of the second process", sleeps);
        gate.open();
        let (first, second) = (first.finish(), second.finish());
        let token = home.tokens().access_token;
        assert!(second.stderr.contains(&text), "{}", second.stderr);
        assert_eq!(first, Ran::printed(&token), "{answer}");
        assert_eq!((second.code, second.stdout), (0, format!("{token}\n")), "{answer}");
        assert_eq!(second.stderr.matches(hint).count(), 1, "reported once: {}", second.stderr);
        assert_one_refresh(&server, &home, answer);
        [here, there].into_iter().for_each(Mount::hide);
    }
}
