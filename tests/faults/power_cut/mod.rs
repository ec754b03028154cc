//! The power is cut at each point of a refresh, a login, a clearing and a logout, and the next process goes on from
//! what a disk may have kept.
//!
//! A real process does its work under strace. Its calls are played back on a disk that forgets what was not synced
//! ([`disk`]); each state that may remain after the power came back is written out, the server is put back to what
//! it knew at that moment, and a real process has to go on from there.
//!
//! `cargo test --test faults power_cut -- --ignored --nocapture`, where strace is installed and may trace.

mod disk;
mod trace;

use crate::support::authorization_server::Memory;
use crate::support::*;
use disk::{Disk, Remains};
use onegrant::grant::Document;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use trace::{Call, record};

/// A server that answers a lost answer's request once more.
const GRACE: Replay = Replay::Grace(Duration::from_secs(3600));

/// What one process did, and what the server knew before and after.
struct Recording<'a> {
    home: &'a Home,
    server: &'a AuthorizationServer,
    lock: &'a str,
    ran: Ran,
    calls: Vec<Call>,
    began: Disk,
    before: Memory,
    after: Memory,
}

/// One thing that may be met when the power is back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Aftermath {
    remains: Remains,
    /// Whether the server has acted on the request.
    has_acted: bool,
}

/// What is expected of it.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    /// At which call the power was cut first.
    at: usize,
    /// The bytes of the server's answer, or what else was to be stored, were not synced yet.
    may_be_lost: bool,
    /// The process had ended: what it said must be true for ever.
    is_over: bool,
}

impl<'a> Recording<'a> {
    /// Records the command on a disk where everything that is there is safe.
    fn of(
        home: &'a Home,
        server: &'a AuthorizationServer,
        lock: &'a str,
        command: &mut Command,
        stdin: Option<&Path>,
    ) -> Self {
        Self::on(Disk::holding(&remains(&home.root)), home, server, lock, command, stdin)
    }

    /// Records the command on a disk that may still forget what others did.
    fn on(
        began: Disk,
        home: &'a Home,
        server: &'a AuthorizationServer,
        lock: &'a str,
        command: &mut Command,
        stdin: Option<&Path>,
    ) -> Self {
        let before = server.memory();
        command.env("ONEGRANT_LOCK", lock);
        let (ran, calls) = record(home, command, stdin);
        let after = server.memory();
        let recording = Self { home, server, lock, ran, calls, began, before, after };
        let end = recording.disk_before(recording.calls.len());
        assert_eq!(end.seen(), remains(&home.root), "the model is right");
        recording
    }

    fn disk_before(&self, call: usize) -> Disk {
        let mut disk = self.began.clone();
        self.calls[..call].iter().for_each(|call| disk.perform(call));
        disk
    }

    fn first(&self, is_wanted: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().position(is_wanted).unwrap_or(self.calls.len())
    }

    /// Everything that may be met after a power cut at any point. `safe_from`: the call after which nothing may
    /// be lost any more; none where nothing may be lost at all.
    fn aftermaths(&self, safe_from: Option<usize>) -> BTreeMap<Aftermath, Expected> {
        let sent = self.first(|call| *call == Call::Sent);
        let received = self.first(|call| *call == Call::Received);
        let mut all: BTreeMap<Aftermath, Expected> = BTreeMap::new();
        for at in 0..=self.calls.len() {
            let is_over = at == self.calls.len();
            let may_be_lost = safe_from.is_some_and(|safe_from| at <= safe_from);
            let may_have_acted = [(at <= received).then_some(false), (at > sent).then_some(true)];
            for remains in self.disk_before(at).after_a_power_cut() {
                for has_acted in may_have_acted.into_iter().flatten() {
                    let expected = all
                        .entry(Aftermath { remains: remains.clone(), has_acted })
                        .or_insert(Expected { at, may_be_lost, is_over });
                    expected.may_be_lost &= may_be_lost;
                    expected.is_over |= is_over;
                }
            }
        }
        all
    }

    /// The call at which it was met first, in words.
    fn point(&self, aftermath: &Aftermath, expected: &Expected) -> String {
        let size = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or("directory".to_owned(), |bytes| bytes.len().to_string())
        };
        let found =
            aftermath.remains.iter().map(|(path, bytes)| format!("  {} {}\n", path.display(), size(bytes)));
        let calls = self.calls.iter().enumerate().map(|(at, call)| format!("  {at} {call}\n"));
        format!(
            "{}, cut before call {} of {}, the server has{} acted; on the disk:\n{}after:\n{}",
            self.lock,
            expected.at,
            self.calls.len(),
            if aftermath.has_acted { "" } else { " not" },
            found.collect::<String>(),
            calls.take(expected.at).collect::<String>(),
        )
    }
}

/// Another home and another server, to go on from an aftermath beside others.
struct Stage {
    home: Home,
    server: AuthorizationServer,
}

impl Stage {
    fn of(recording: &Recording) -> Self {
        Self { home: Home::new(), server: AuthorizationServer::start(recording.server.settings()) }
    }

    /// Writes it out, as it is found after a reboot that took longer than any claim, and asks for a token.
    fn next_process(&self, recording: &Recording, aftermath: &Aftermath) -> Ran {
        let root = |path: &PathBuf| self.home.root.join(path.strip_prefix(&recording.home.root).unwrap());
        let remains = aftermath.remains.iter().map(|(path, bytes)| (root(path), bytes.clone())).collect();
        let [old, new] = [recording.server, &self.server].map(AuthorizationServer::issuer);
        let here = |bytes: &[u8]| String::from_utf8_lossy(&rebooted(bytes)).replace(&old, &new).into_bytes();
        write_out(&self.home.root, &remains, here);
        self.server.go_back_to(if aftermath.has_acted { &recording.after } else { &recording.before });
        self.server.reset_counts();
        run(self.home.command(&["token"]).env("ONEGRANT_LOCK", recording.lock))
    }
}

/// Everything below a directory but the histories, which nothing is decided by.
fn remains(root: &Path) -> Remains {
    let mut all = Remains::from([(root.to_owned(), None)]);
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("~history") {
            continue;
        }
        match path.is_dir() {
            true => all.extend(remains(&path)),
            false => drop(all.insert(path.clone(), Some(fs::read(&path).unwrap()))),
        }
    }
    all
}

fn write_out(root: &Path, remains: &Remains, change: impl Fn(&[u8]) -> Vec<u8>) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    for (path, bytes) in remains {
        match bytes {
            None => {
                fs::create_dir_all(path).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
            }
            Some(bytes) => {
                fs::write(path, change(bytes)).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
}

/// A record from before a reboot that took longer than its claim; anything else as it is.
fn rebooted(bytes: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut record) if record.get("refresh_token_sha256").is_some() => {
            record["by"]["boot"] = json!("the boot before");
            record["until"] = json!(now() - 1);
            record.to_string().into_bytes()
        }
        _ => bytes.to_vec(),
    }
}

/// Whether the bytes are a whole document.
fn is_document(bytes: &[u8]) -> bool {
    Document::parse(bytes).is_ok()
}

fn document_in<'a>(home: &Home, remains: &'a Remains) -> Option<&'a [u8]> {
    remains.get(&home.document_path()).map(|bytes| bytes.as_deref().unwrap())
}

/// What the next process may come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A token is printed, and the session is the newest.
    Alive,
    /// The grant died with the answer that only the process knew; exit 3 says that a refresh was never finished.
    Lost,
    /// There is nothing stored.
    Absent,
    /// The grant is over, and exit 3 says so.
    Ended,
}

impl Outcome {
    #[track_caller]
    fn of(next: &Ran, Stage { home, server }: &Stage, point: &dyn Fn() -> String) -> Self {
        match next.code {
            0 => {
                let stored = home.tokens();
                assert_eq!(*next, Ran::printed(&stored.access_token), "{}", point());
                assert!(server.is_alive(&stored.refresh_token), "{}", point());
                assert!(server.access_token_is_valid(&stored.access_token), "{}", point());
                Self::Alive
            }
            3 if next.stderr.contains(" and never finished; ") => Self::Lost,
            3 if next.stderr.contains(" has no grant\n") => Self::Absent,
            3 if next.stderr.contains(" has ended") => Self::Ended,
            _ => panic!("{}: {next:?}", point()),
        }
    }
}

/// Goes on from everything that may be met. Gives how many there were, and how many of them were not alive.
#[track_caller]
fn sweep(
    recording: &Recording,
    safe_from: Option<usize>,
    may_be: impl Fn(&Aftermath, &Expected, Outcome) -> bool + Sync,
) -> (usize, usize) {
    let home = recording.home;
    let old = document_in(home, &recording.began.seen()).map(<[u8]>::to_vec);
    let end = recording.disk_before(recording.calls.len()).seen();
    let new = document_in(home, &end).map(<[u8]>::to_vec);
    let all: Vec<(Aftermath, Expected)> = recording.aftermaths(safe_from).into_iter().collect();
    let dead = AtomicUsize::new(0);
    side_by_side(
        &all,
        || Stage::of(recording),
        |stage, (aftermath, expected)| {
            let point = || recording.point(aftermath, expected);
            let document = document_in(home, &aftermath.remains);
            assert!(document.is_none_or(is_document), "torn: {}", point());
            let found = document.map(<[u8]>::to_vec);
            assert!(found == old || found == new, "neither old nor new: {}", point());
            assert!(!expected.is_over || found == new, "what was reported was not durable: {}", point());
            let next = stage.next_process(recording, aftermath);
            // A refresh token that is refused is sent once more before the verdict.
            let most = if next.code == 3 { 2 } else { 1 };
            assert!(stage.server.counts().token_requests <= most, "{}: {next:?}", point());
            let outcome = Outcome::of(&next, stage, &point);
            assert!(may_be(aftermath, expected, outcome), "{}: {next:?}", point());
            dead.fetch_add(usize::from(outcome != Outcome::Alive), Ordering::Relaxed);
        },
    );
    (all.len(), dead.into_inner())
}

/// The call that makes the server's answer safe: the first sync of a file after it came.
fn answer_synced(recording: &Recording) -> usize {
    let received = recording.calls.iter().position(|call| *call == Call::Received).unwrap_or(0);
    let syncs =
        |call: &Call| matches!(call, Call::Sync { path } if path.to_string_lossy().contains("~answer."));
    received + recording.calls[received..].iter().position(syncs).unwrap()
}

/// I5: wherever the power is cut once the refresh token may have left, the record that says so is found whole.
#[track_caller]
fn assert_evidence(recording: &Recording) {
    let sent = recording.first(|call| *call == Call::Sent);
    assert!(sent < recording.calls.len(), "nothing was sent");
    for remains in recording.disk_before(sent).after_a_power_cut() {
        let mut records = remains.iter().filter(|(path, _)| path.to_string_lossy().contains("~attempt."));
        let is_claim = |bytes: &Vec<u8>| {
            serde_json::from_slice::<Value>(bytes).is_ok_and(|record| record.get("outcome").is_none())
        };
        let found = records.any(|(_, bytes)| bytes.as_ref().is_some_and(is_claim));
        assert!(found, "a claim that a power cut takes away: {:?}", remains.keys());
        let has_room = remains.keys().any(|path| path.to_string_lossy().contains("~answer."));
        assert!(has_room, "a room that a power cut takes away: {:?}", remains.keys());
    }
}

/// Fewer states than this show nothing.
const FEWEST_STATES: usize = 3;

#[track_caller]
fn report(what: &str, (states, dead): (usize, usize), began: Instant) {
    assert!(states >= FEWEST_STATES, "{what}: {states} states show nothing");
    println!(
        "{what}: {states} states, {dead} of them without a token, {:.1} s",
        began.elapsed().as_secs_f32()
    );
}

/// The bytes of a refresh are safe from the sync of the answer on; before that, a server without mercy may have
/// spent the refresh token in vain.
fn survives_a_refresh(replay: Replay) -> impl Fn(&Aftermath, &Expected, Outcome) -> bool + Sync {
    move |aftermath, expected, outcome| match outcome {
        Outcome::Alive => true,
        Outcome::Lost => replay != GRACE && aftermath.has_acted && expected.may_be_lost,
        Outcome::Absent | Outcome::Ended => false,
    }
}

/// At the same time, because much of it is waiting.
fn at_each_level(test: impl Fn(&'static str) + Sync) {
    let test = &test;
    thread::scope(|scope| ["auto", "claim", "off"].map(|lock| drop(scope.spawn(move || test(lock)))));
}

const SERVERS: [(&str, Replay); 2] = [("grace", GRACE), ("strict", Replay::EndFamily)];

#[test]
#[ignore = "cuts the power after each write of a run, which takes strace and minutes: .ci/run power-cut"]
fn a_power_cut_during_a_refresh_costs_nothing_once_the_answer_is_synced() {
    at_each_level(|lock| {
        for (name, replay) in SERVERS {
            let began = Instant::now();
            let server = server(|settings| settings.replay = replay);
            let (home, _) = Home::with_grant(&server, EXPIRED);
            let recording = Recording::of(&home, &server, lock, &mut home.command(&["token"]), None);
            assert_eq!(recording.ran, Ran::printed(&home.tokens().access_token));
            assert_evidence(&recording);
            let swept = sweep(&recording, Some(answer_synced(&recording)), survives_a_refresh(replay));
            assert_eq!(swept.1 > 0, replay != GRACE, "what cannot be helped is seen, and nothing else");
            report(&format!("refresh, {lock}, {name} server"), swept, began);
        }
    });
}

/// A process was killed with its answer written, and the power is cut while the next one adopts that.
#[test]
#[ignore = "cuts the power after each write of a run, which takes strace and minutes: .ci/run power-cut"]
fn a_power_cut_during_an_adoption_costs_nothing_once_the_answer_is_synced() {
    at_each_level(|lock| {
        for is_synced in [false, true] {
            let began = Instant::now();
            let server = server(|_| {});
            let (home, _) = Home::with_grant(&server, EXPIRED);
            let killed = Recording::of(&home, &server, lock, &mut home.command(&["token"]), None);
            let left = killed.disk_before(answer_synced(&killed) + usize::from(is_synced));
            write_out(&home.root, &left.seen(), <[u8]>::to_vec);
            let mut command = home.command(&["token"]);
            let next = Recording::on(left, &home, &server, lock, &mut command, None);
            assert_eq!(next.ran, Ran::printed(&home.tokens().access_token));
            assert_eq!(next.first(|call| *call == Call::Sent), next.calls.len(), "no request");
            let safe_from = if is_synced { None } else { Some(answer_synced(&next)) };
            let swept = sweep(&next, safe_from, |_, expected, outcome| match outcome {
                Outcome::Alive => true,
                Outcome::Lost => expected.may_be_lost,
                Outcome::Absent | Outcome::Ended => false,
            });
            let state = if is_synced { "synced" } else { "not synced" };
            report(&format!("adoption of an answer that was {state}, {lock}"), swept, began);
        }
    });
}

#[test]
#[ignore = "cuts the power after each write of a run, which takes strace and minutes: .ci/run power-cut"]
fn a_power_cut_during_a_temporary_failure_costs_nothing() {
    at_each_level(|lock| {
        let began = Instant::now();
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [Fault::status(503)]);
        let recording = Recording::of(&home, &server, lock, &mut home.command(&["token"]), None);
        assert_eq!(recording.ran.code, 4);
        assert_evidence(&recording);
        let swept = sweep(&recording, None, |_, _, outcome| outcome == Outcome::Alive);
        report(&format!("temporary failure, {lock}"), swept, began);
    });
}

#[test]
#[ignore = "cuts the power after each write of a run, which takes strace and minutes: .ci/run power-cut"]
fn a_power_cut_while_a_dead_session_is_cleared_leaves_the_old_document_or_the_cleared_one() {
    at_each_level(|lock| {
        let began = Instant::now();
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        server.end_grant(&issued.refresh_token);
        let recording = Recording::of(&home, &server, lock, &mut home.command(&["token"]), None);
        assert_eq!(recording.ran.code, 3);
        let swept =
            sweep(&recording, None, |_, _, outcome| matches!(outcome, Outcome::Ended | Outcome::Lost));
        report(&format!("clearing, {lock}"), swept, began);
    });
}

/// As the command line of an import; the refresh token is in the file.
fn import(home: &Home, server: &AuthorizationServer, refresh_token: &str, state: &Path) -> Command {
    fs::write(home.root.join("stdin"), refresh_token).unwrap();
    let token_endpoint = server.token_endpoint();
    let options = ["login", "--token-endpoint", &token_endpoint, "--client-id", server.client_id()];
    let mut command = home.command(&[&options[..], &["--refresh-token-stdin"]].concat());
    command.env("ONEGRANT_HOME", state);
    command
}

/// A grant that was stored before stays until the new one is there. What a login was given, it has to spend before
/// it can store anything: a server without mercy may take that along.
#[test]
#[ignore = "cuts the power after each write of a run, which takes strace and minutes: .ci/run power-cut"]
fn a_power_cut_during_a_login_leaves_the_old_session_or_the_new_one() {
    let began = Instant::now();
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let given = server.issue_grant().refresh_token;
    let mut command = import(&home, &server, &given, &home.state);
    let recording = Recording::of(&home, &server, "auto", &mut command, Some(&home.root.join("stdin")));
    assert_eq!(recording.ran.code, 0, "{:?}", recording.ran);
    let swept = sweep(&recording, None, |_, _, outcome| outcome == Outcome::Alive);
    report("login over an old session", swept, began);
}

#[test]
#[ignore = "cuts the power after each write of a run, which takes strace and minutes: .ci/run power-cut"]
fn a_power_cut_during_a_first_login_leaves_nothing_or_the_session() {
    for is_missing in [false, true] {
        let began = Instant::now();
        let server = server(|_| {});
        let home = Home::new();
        if is_missing {
            fs::remove_dir(&home.state).unwrap();
        }
        let given = server.issue_grant().refresh_token;
        let mut command = import(&home, &server, &given, &home.state);
        let recording = Recording::of(&home, &server, "auto", &mut command, Some(&home.root.join("stdin")));
        assert_eq!(recording.ran.code, 0, "{:?}", recording.ran);
        let is_allowed = |_: &Aftermath, expected: &Expected, outcome| match outcome {
            Outcome::Absent => !expected.is_over,
            outcome => outcome == Outcome::Alive,
        };
        let swept = sweep(&recording, None, is_allowed);
        report(
            &format!("first login, directory {}", if is_missing { "missing" } else { "there" }),
            swept,
            began,
        );
    }
}

/// I3: a logout that was reported is not undone by a power cut.
#[test]
#[ignore = "cuts the power after each write of a run, which takes strace and minutes: .ci/run power-cut"]
fn a_power_cut_during_a_logout_leaves_nothing_or_a_session_that_is_reported_dead() {
    let began = Instant::now();
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let recording = Recording::of(&home, &server, "auto", &mut home.command(&["logout"]), None);
    assert_eq!(recording.ran.code, 0, "{:?}", recording.ran);
    let is_allowed = |aftermath: &Aftermath, expected: &Expected, outcome| match outcome {
        Outcome::Alive => !aftermath.has_acted,
        Outcome::Ended => aftermath.has_acted && !expected.is_over,
        Outcome::Absent => aftermath.has_acted,
        Outcome::Lost => false,
    };
    let swept = sweep(&recording, None, is_allowed);
    report("logout", swept, began);
}
