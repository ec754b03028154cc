//! Each call by which a command meets its store fails once, with each error that it can have.
//!
//! A clean run under strace lists the calls. Then each of them is made to fail in a run of its own, and a process that
//! meets no fault has to go on from there. The server ends the family at a replay: nothing is forgiven.
//!
//! `cargo test --test faults fault_sweep -- --ignored --nocapture`, where strace is installed and may trace.

use crate::support::*;
use onegrant::grant::{Document, Secret, Session};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

/// What each call can fail with (its manual page, and what NFS and FUSE let through), of the errors that a store
/// meets.
///
/// Left out everywhere: what only a caller's mistake brings (`EBADF`, `EFAULT`, `EINVAL`, `ENAMETOOLONG`), and what a
/// test with a real file system shows (`ENOENT`, `EEXIST`, `ELOOP`, `EISDIR`).
const ERRORS: [(&str, &[&str]); 24] = [
    // Without a name to create, no space, quota or read-only mount can fail the call; see `creating`.
    ("openat", &["EACCES", "EIO", "EMFILE", "EINTR", "ESTALE"]),
    ("read", &["EIO", "EINTR", "ESTALE"]),
    ("pread64", &["EIO", "EINTR", "ESTALE"]),
    // A descriptor that was opened for writing was not on a read-only mount, and needs no permission any more.
    ("write", &["ENOSPC", "EDQUOT", "EIO", "EINTR", "ESTALE"]),
    ("pwrite64", &["ENOSPC", "EDQUOT", "EIO", "EINTR", "ESTALE"]),
    // Late: what delayed allocation, a quota or a server finds out only now.
    ("fsync", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR", "ESTALE"]),
    ("fallocate", &["ENOSPC", "EDQUOT", "EIO", "EINTR", "EOPNOTSUPP", "ENOSYS", "ESTALE"]),
    ("ftruncate", &["EIO", "EINTR", "ESTALE"]),
    // EPERM is what a file system without hard links says.
    ("link", &["EACCES", "EDQUOT", "EIO", "ENOSPC", "EOPNOTSUPP", "ENOSYS", "EPERM", "EROFS", "ESTALE"]),
    ("linkat", &["EACCES", "EDQUOT", "EIO", "ENOSPC", "EOPNOTSUPP", "ENOSYS", "EPERM", "EROFS", "ESTALE"]),
    // EBUSY is a mount point's.
    ("rename", &["EACCES", "EBUSY", "EDQUOT", "EIO", "ENOSPC", "EROFS", "ESTALE"]),
    ("renameat2", &["EACCES", "EBUSY", "EDQUOT", "EIO", "ENOSPC", "ENOSYS", "EROFS", "ESTALE"]),
    ("unlink", &["EACCES", "EBUSY", "EIO", "EROFS", "ESTALE"]),
    ("mkdir", &["EACCES", "EDQUOT", "EIO", "ENOSPC", "EROFS", "ESTALE"]),
    // FUSE and vfat know no owners and modes.
    ("fchmod", &["EIO", "ENOSYS", "EOPNOTSUPP", "EPERM", "EROFS", "ESTALE"]),
    ("fchown", &["EDQUOT", "EIO", "ENOSYS", "EPERM", "EROFS", "ESTALE"]),
    ("flock", &["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EIO", "EINTR", "ESTALE"]),
    ("getdents64", &["EIO", "ESTALE"]),
    ("statx", &["EACCES", "EIO", "ESTALE"]),
    ("newfstatat", &["EACCES", "EIO", "ESTALE"]),
    ("readlink", &["EACCES", "EIO", "ESTALE"]),
    ("statfs", &["EACCES", "EIO", "EINTR", "ENOSYS", "ESTALE"]),
    // The answer of a close is no answer: what counts was synced before.
    ("close", &["EIO", "ENOSPC", "EDQUOT", "EINTR"]),
    ("access", &["EACCES", "EIO", "EROFS", "ESTALE"]),
];

/// What `openat` can have besides where it creates.
const CREATING: [&str; 3] = ["ENOSPC", "EDQUOT", "EROFS"];

/// Calls on the store that no file system refuses: they ask for what the kernel holds itself.
const INFALLIBLE: [&str; 6] = ["dup2", "fcntl", "lseek", "execve", "chdir", "getcwd"];

/// Fewer injections than this have shown nothing.
const FEWEST: usize = 100;

/// What replaces the digits of the refresh token in a file name.
const DIGITS: &str = "DIGITS";

/// One call of a clean run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Point {
    call: String,
    /// The file below the home's root, where its name does not change from run to run: the fault goes by it.
    path: Option<String>,
    /// Which call of this name in its thread it is, of those on the path where there is one.
    number: usize,
    creates: bool,
}

impl Point {
    fn errors(&self) -> Vec<&'static str> {
        let known = ERRORS.iter().find(|(call, _)| *call == self.call);
        let (_, errors) = known.unwrap_or_else(|| panic!("no errors are known of {}", self.call));
        let creating: &[&str] = if self.creates { &CREATING } else { &[] };
        errors.iter().chain(creating).copied().collect()
    }
}

/// A command with what it needs around it, new for each run.
struct Stage {
    server: AuthorizationServer,
    home: Home,
    /// The refresh token that is spent or revoked.
    issued: Issued,
    command: Command,
    stdin: Option<File>,
}

type Setup = fn() -> Stage;

fn strict() -> AuthorizationServer {
    server(|settings| settings.replay = Replay::EndFamily)
}

fn stage(arguments: &[&str]) -> Stage {
    let server = strict();
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let command = home.command(arguments);
    Stage { server, home, issued, command, stdin: None }
}

fn refresh() -> Stage {
    stage(&["token"])
}

fn refresh_by_claim() -> Stage {
    let mut stage = refresh();
    stage.command.env("ONEGRANT_LOCK", "claim");
    stage
}

fn refresh_that_is_refused() -> Stage {
    let stage = refresh();
    stage.server.end_grant(&stage.issued.refresh_token);
    stage
}

fn logout() -> Stage {
    stage(&["logout"])
}

fn login() -> Stage {
    let mut stage = stage(&[]);
    stage.issued = stage.server.issue_grant();
    let endpoint = stage.server.token_endpoint();
    let client = stage.server.client_id();
    let options = ["login", "--token-endpoint", &endpoint, "--client-id", client, "--refresh-token-stdin"];
    let path = stage.home.root.join("stdin");
    fs::write(&path, &stage.issued.refresh_token).unwrap();
    stage.command = stage.home.command(&options);
    stage.stdin = Some(File::open(path).unwrap());
    stage
}

impl Stage {
    fn digits(&self) -> String {
        Secret::new(&self.issued.refresh_token).sha256()[..16].to_owned()
    }

    fn run_under_strace(&mut self, options: &[&str]) -> Ran {
        let mut traced = wrapped("strace", options, &self.command);
        if let Some(stdin) = self.stdin.take() {
            traced.stdin(stdin);
        }
        run(&mut traced)
    }

    /// The exit code of a clean run, and its calls on the store.
    fn points(mut self) -> (i32, Vec<Point>) {
        let log = self.home.root.join("trace");
        let output = format!("-o{}", log.display());
        let ran = self.run_under_strace(&["-f", "-qq", "-y", "-s0", "-etrace=%file,%desc", &output]);
        let text = fs::read_to_string(log).unwrap();
        let state = self.home.state.to_str().unwrap().to_owned();
        let digits = self.digits();
        let mut counts: HashMap<(String, String, Option<String>), usize> = HashMap::new();
        let mut points = Vec::new();
        for line in text.lines() {
            let (thread, line) = line.split_once(' ').unwrap();
            let Some((call, _)) = line.trim_start().split_once('(') else { continue };
            let mut count = |path: Option<&str>| {
                let key = (thread.to_owned(), call.to_owned(), path.map(str::to_owned));
                let count = counts.entry(key).or_default();
                *count += 1;
                *count
            };
            let in_all = count(None);
            let arguments = line.rsplit_once(" = ").map_or(line, |(arguments, _)| arguments);
            let mut paths: Vec<&str> = paths_in(arguments, &state).collect();
            // strace goes by the first of two paths.
            paths.truncate(1);
            let fixed: Vec<(&str, usize)> = paths.iter().map(|path| (*path, count(Some(path)))).collect();
            if paths.is_empty() || INFALLIBLE.contains(&call) {
                continue;
            }
            let lasting = fixed.iter().find(|(path, _)| !path.contains("~temporary."));
            points.push(Point {
                call: call.to_owned(),
                path: lasting.map(|(path, _)| path.replace(&digits, DIGITS)),
                number: lasting.map_or(in_all, |(_, number)| *number),
                creates: line.contains("O_CREAT"),
            });
        }
        points.sort();
        points.dedup();
        (ran.code, points)
    }

    /// Runs with one call failing.
    fn run_failing(&mut self, point: &Point, error: &str) -> Ran {
        let inject = format!("-einject={}:error={error}:when={}", point.call, point.number);
        let trace = format!("-etrace={}", point.call);
        let path = point
            .path
            .as_ref()
            .map(|path| format!("-P{}{}", self.home.state.display(), path.replace(DIGITS, &self.digits())));
        let log = format!("-o{}", self.home.root.join("trace").display());
        let mut options = vec!["-f", "-qq", &log, &trace, &inject];
        options.extend(path.as_deref());
        self.run_under_strace(&options)
    }

    fn was_injected(&self) -> bool {
        !self.injected().is_empty()
    }

    /// A fault that is chosen by its number alone hits the worker at the store, and then its caller, which would report it.
    fn is_muted(&self) -> bool {
        self.injected().iter().any(|call| call.contains(" write(2, "))
    }

    fn injected(&self) -> Vec<String> {
        let trace = fs::read_to_string(self.home.root.join("trace")).unwrap();
        trace.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect()
    }
}

/// What follows the store's directory in the paths of a line: empty for the directory itself.
fn paths_in<'a>(line: &'a str, state: &'a str) -> impl Iterator<Item = &'a str> {
    let after = line.split(state).skip(1);
    after.filter_map(|rest| Some(&rest[..rest.find(['"', '>'])?]))
}

/// What holds whatever failed.
#[track_caller]
fn assert_decent(stage: &Stage, ran: &Ran, point: &str) {
    assert!([0, 2, 3, 4, 5].contains(&ran.code), "{point}: {ran:?}");
    let words = ["onegrant: ", "hint: "];
    let said = |line: &str| words.iter().any(|start| line.starts_with(start)) && !line.contains('\x1b');
    assert!(ran.stderr.lines().all(said), "{point}: {ran:?}");
    let is_told = ran.stderr.starts_with("onegrant: ") || stage.is_muted();
    assert!(ran.code == 0 || is_told, "{point}: {ran:?}");
    assert!(ran.code == 0 || ran.stdout.is_empty(), "{point}: {ran:?}");
    assert!(!ran.stderr.contains("os error"), "{point}: {ran:?}");
    let newest = stage.server.newest_refresh_token(&stage.issued.refresh_token).unwrap();
    let stored = document_of(stage).map(|_| stage.home.tokens());
    let mut secrets = vec![stage.issued.refresh_token.clone(), stage.issued.access_token.clone(), newest];
    secrets.extend(stored.into_iter().flat_map(|stored| [stored.refresh_token, stored.access_token]));
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        assert!(!ran.stderr.contains(secret), "{point}: a secret is printed: {ran:?}");
    }
    // A refresh token that is refused is sent once more before the verdict.
    let most = if ran.code == 3 { 2 } else { 1 };
    assert!(stage.server.counts().token_requests <= most, "{point}: {:?}", stage.server.counts());
    assert_eq!(stage.server.counts().unexpected, 0, "{point}");
}

/// The document, which is never torn; none where there is none.
fn document_of(stage: &Stage) -> Option<Document> {
    let bytes = fs::read(stage.home.document_path()).ok()?;
    Some(Document::parse(&bytes).unwrap())
}

fn session_of(stage: &Stage) -> Option<Session> {
    document_of(stage)?.session
}

/// One call fails in one way: what was wrong about it.
type Check = fn(&mut Stage, &Ran, &str);

/// Makes each call fail in each way. Gives the number of injections and how the runs ended.
fn sweep(name: &str, setup: Setup, check: Check) {
    let began = Instant::now();
    let (clean, points) = setup().points();
    let cases: Vec<(&Point, &str)> =
        points.iter().flat_map(|point| point.errors().into_iter().map(move |error| (point, error))).collect();
    let ends: Mutex<BTreeMap<i32, usize>> = Mutex::default();
    let missed: Mutex<Vec<String>> = Mutex::default();
    let wrong: Mutex<Vec<String>> = Mutex::default();
    side_by_side(
        &cases,
        || (),
        |(), (point, error)| {
            let path = point.path.as_deref().unwrap_or("/default~temporary.*");
            let shown = format!("{name}: {} {} on {path}: {error}", point.call, point.number);
            let mut stage = setup();
            let ran = stage.run_failing(point, error);
            if !stage.was_injected() {
                missed.lock().unwrap().push(shown);
                return;
            }
            *ends.lock().unwrap().entry(ran.code).or_default() += 1;
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_decent(&stage, &ran, &shown);
                // A signal is no fault of the store: an interrupted process asks again.
                assert!(*error != "EINTR" || ran.code == clean, "{shown}: {ran:?}");
                check(&mut stage, &ran, &shown);
            }));
            if checked.is_err() {
                wrong.lock().unwrap().push(format!("{shown}: {ran:?}"));
            }
        },
    );
    let (ends, missed, wrong) =
        (ends.into_inner().unwrap(), missed.into_inner().unwrap(), wrong.into_inner().unwrap());
    let count: usize = ends.values().sum();
    let seconds = began.elapsed().as_secs_f32();
    println!("{name}: {} calls, {count} injections, by exit code {ends:?}, {seconds:.1} s", points.len());
    assert!(wrong.is_empty(), "{} of {count}: {wrong:#?}", wrong.len());
    assert!(missed.is_empty(), "{} were not reached: {missed:#?}", missed.len());
    assert!(count >= FEWEST, "{count} injections show nothing");
}

/// The token is had, now or by the next process, and the grant lives on.
fn check_refresh(stage: &mut Stage, ran: &Ran, point: &str) {
    let (home, server) = (&stage.home, &stage.server);
    match ran.code {
        0 => {
            let token = ran.stdout.strip_suffix('\n').unwrap();
            assert!(server.access_token_is_valid(token), "{point}: {ran:?}");
        }
        4 | 5 => assert_eq!(server.counts().rotations, 0, "nothing was spent: {point}: {ran:?}"),
        _ => panic!("{point}: {ran:?}"),
    }
    // A place that cannot lock is no failure: the attempt record alone decides.
    let cannot_lock = ["ENOLCK", "EOPNOTSUPP", "ENOSYS"].iter().any(|error| point.ends_with(error));
    assert!(ran.code == 0 || !point.contains(" flock ") || !cannot_lock, "{point}: {ran:?}");
    let spent = server.counts().rotations;
    let next = home.run(&["token"]);
    let stored = home.tokens();
    assert_eq!(next, Ran::printed(&stored.access_token), "{point}, then: {next:?}");
    assert!(server.is_alive(&stored.refresh_token), "{point}");
    assert!(server.access_token_is_valid(&stored.access_token), "{point}");
    assert_eq!(server.counts().token_requests, 1, "{point}: spent {spent} at first");
}

#[test]
#[ignore = "fails each system call on the store once, which takes strace and minutes: .ci/run faults"]
fn no_fault_during_a_refresh_costs_the_grant() {
    sweep("refresh", refresh, check_refresh);
}

#[test]
#[ignore = "fails each system call on the store once, which takes strace and minutes: .ci/run faults"]
fn no_fault_during_a_refresh_without_locks_costs_the_grant() {
    sweep("refresh by claim", refresh_by_claim, check_refresh);
}

/// A grant that is dead stays dead, and is reported dead: by the process that meets the fault if it got that far, and by
/// the next in any case.
#[test]
#[ignore = "fails each system call on the store once, which takes strace and minutes: .ci/run faults"]
fn no_fault_while_a_dead_session_is_cleared_hides_that_it_is_dead() {
    sweep("clear", refresh_that_is_refused, |stage, ran, point| {
        assert!(ran.code == 3 || ran.code == 5, "{point}: {ran:?}");
        assert!(
            ran.code == 3 || stage.server.counts().token_requests == 0,
            "it was reported dead: {point}: {ran:?}"
        );
        let next = stage.home.run(&["token"]);
        assert_eq!((next.code, next.stdout.as_str()), (3, ""), "{point}: {next:?}");
        // Two of the process that met the fault, and two of the next one.
        assert!(stage.server.counts().token_requests <= 4, "{point}");
    });
}

/// What the login was given is in the store, or is reported lost. What was stored before stays until then.
#[test]
#[ignore = "fails each system call on the store once, which takes strace and minutes: .ci/run faults"]
fn no_fault_during_a_login_costs_the_grant() {
    sweep("login", login, |stage, ran, point| {
        let (home, server) = (&stage.home, &stage.server);
        let has_rotated = server.counts().rotations == 1;
        assert!([0, 5].contains(&ran.code), "{point}: {ran:?}");
        assert_eq!(ran.code == 0, has_rotated, "{point}: {ran:?}");
        let next = home.run(&["token"]);
        assert_eq!(next, Ran::printed(&home.tokens().access_token), "{point}: {next:?}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{point}");
        let newest = server.newest_refresh_token(&stage.issued.refresh_token).unwrap();
        assert_eq!(home.tokens().refresh_token == newest, has_rotated, "{point}");
    });
}

#[test]
#[ignore = "fails each system call on the store once, which takes strace and minutes: .ci/run faults"]
fn no_fault_during_a_logout_hides_what_was_not_done() {
    sweep("logout", logout, |stage, ran, point| {
        let is_revoked = !stage.server.is_alive(&stage.issued.refresh_token);
        match ran.code {
            // What cannot be removed, because it is a mount point, is overwritten.
            0 => assert!(is_revoked && session_of(stage).is_none(), "{point}: {ran:?}"),
            5 => assert!(!is_revoked || ran.stderr.contains("revoked at the server"), "{point}: {ran:?}"),
            _ => panic!("{point}: {ran:?}"),
        }
        let again = stage.home.run(&["logout"]);
        assert_eq!(again.code, 0, "{point}: {again:?}");
        assert!(document_of(stage).is_none(), "{point}");
        assert!(!stage.server.is_alive(&stage.issued.refresh_token), "{point}");
    });
}
