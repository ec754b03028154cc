//! `ONEGRANT_ON_LOGIN_REQUIRED` and `ONEGRANT_ON_ROTATE`: commands that run on events, and that no token waits for.
//!
//! A process that starts the command of a rotation hands its lock over before it ends. So when a call of onegrant has ended and
//! the lock is free, no command runs and none will.

use crate::support::keyring::Keyring;
use crate::support::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many processes ask at once.
const CROWD: usize = 20;

/// How often a command that fails is run by the next process each time.
const FAILURES_AT_ONCE: usize = 8;

/// How often one runner runs the command.
const MOST_RUNS: usize = 32;

/// Keeps each stdin in a file of its own, whose name is the number of the run.
const KEEP: &str = "n=$(ls runs | wc -l); cat >runs/.$n; mv runs/.$n runs/$n";

/// The same, and then waits until there is a file `gate`.
const WAIT: &str = "until [ -e gate ] || [ ! -d runs ]; do sleep 0.01; done";

/// A home with a command for one event. What the command is given is in `runs`.
struct Events {
    home: Home,
    variable: &'static str,
    script: String,
}

impl Events {
    fn new(home: Home, variable: &'static str, script: &str) -> Self {
        fs::create_dir(home.root.join("runs")).unwrap();
        Self { home, variable, script: script.to_owned() }
    }

    fn on_rotate(server: &AuthorizationServer, left: i64, script: &str) -> Self {
        Self::new(Home::with_grant(server, left).0, "ONEGRANT_ON_ROTATE", script)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        // The command's own words are found, and onegrant.
        let place = PathBuf::from(env!("CARGO_BIN_EXE_onegrant"));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", place.parent().unwrap().display());
        command.env("PATH", path).env(self.variable, &self.script);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// Forces a refresh.
    #[track_caller]
    fn rotate(&self) {
        assert_eq!(self.run(&["refresh"]), Ran::printed(&self.home.tokens().access_token));
    }

    /// Waits until no command of a rotation runs.
    fn settle(&self) {
        let lock = self.home.state.join("default~rotated.lock");
        wait_for("the end of the command", || !lock.exists() || lock_is_free(&lock));
    }

    /// What each run was given, in their order. A run that has not read all of it is not there.
    fn runs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.root.join("runs")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut numbers: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let read = |number| fs::read_to_string(self.home.root.join(format!("runs/{number}"))).unwrap();
        numbers.into_iter().map(read).collect()
    }

    /// The refresh token that each run was given.
    fn delivered(&self) -> Vec<String> {
        let token = |document: String| {
            let document: Value = serde_json::from_str(&document).unwrap();
            document["session"]["refresh_token"].as_str().unwrap().to_owned()
        };
        self.runs().into_iter().map(token).collect()
    }

    fn open_gate(&self) {
        fs::write(self.home.root.join("gate"), "").unwrap();
    }
}

// ---- ONEGRANT_ON_ROTATE ----

#[test]
fn a_replaced_refresh_token_is_delivered_once_as_the_whole_document() {
    for lock in ["auto", "claim", "off"] {
        let server = server(|_| {});
        let events = Events::on_rotate(&server, EXPIRED, KEEP);
        let token = || run(events.command(&["token"]).env("ONEGRANT_LOCK", lock));
        let first = token();
        assert_eq!(first, Ran::printed(&events.home.tokens().access_token), "{lock}");
        events.settle();
        assert_eq!(events.runs(), [String::from_utf8(events.home.bytes()).unwrap()], "{lock}");
        for _ in 0..3 {
            assert_eq!(token(), first, "{lock}");
        }
        events.settle();
        assert_eq!((events.runs().len(), server.counts().token_requests), (1, 1), "{lock}");
    }
}

/// The files lie beside the lock, because a keyring has no room for them.
#[test]
fn a_grant_in_a_keyring_is_delivered_too() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    let given = keyring.home.root.join("given");
    let script = format!("cat >'{0}.new'; mv '{0}.new' '{0}'", given.display());
    let ran = run(keyring.command(&["token"]).env("ONEGRANT_ON_ROTATE", script));
    assert_eq!(ran, Ran::printed(&keyring.access_token()));
    wait_for("the run", || given.exists());
    let document: Value = serde_json::from_slice(&fs::read(&given).unwrap()).unwrap();
    assert_eq!((document, server.counts().token_requests), (keyring.document(), 1));
}

/// Nothing is known of a refresh token that was there before the variable was set: it needs no delivery.
#[test]
fn a_fresh_token_runs_no_command_and_makes_no_file() {
    let server = server(|_| {});
    let events = Events::on_rotate(&server, LIFETIME, KEEP);
    let token = events.home.tokens().access_token;
    assert_eq!(events.run(&["token"]), Ran::printed(&token));
    assert_eq!((events.runs().len(), events.home.names()), (0, vec!["default.json".to_owned()]));
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn without_the_variables_a_refresh_leaves_no_file_of_theirs() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let ran =
        run(home.command(&["token"]).env("ONEGRANT_ON_ROTATE", "").env("ONEGRANT_ON_LOGIN_REQUIRED", ""));
    assert_eq!(ran.code, 0);
    assert_eq!(home.names(), ["default.json", "default.lock"]);
}

/// The first command still runs while the refresh token is replaced again and again. The second run gets the last one.
#[test]
fn of_many_refresh_tokens_in_a_row_the_last_is_delivered_and_one_command_runs_at_a_time() {
    const ROTATIONS: u64 = 6;
    let server = server(|_| {});
    let events = Events::on_rotate(&server, LIFETIME, &format!("{KEEP}; {WAIT}"));
    events.rotate();
    wait_for("the first run", || events.runs().len() == 1);
    let first = events.home.tokens().refresh_token;
    for _ in 1..ROTATIONS {
        events.rotate();
    }
    assert_eq!(events.delivered(), std::slice::from_ref(&first), "one at a time");
    events.open_gate();
    events.settle();
    assert_eq!(events.delivered(), [first, events.home.tokens().refresh_token]);
    assert_eq!(server.counts().rotations, ROTATIONS);
}

#[test]
fn a_crowd_runs_the_command_once_and_does_not_wait_for_it() {
    let server = server(|_| {});
    let events = Events::on_rotate(&server, EXPIRED, &format!("{KEEP}; {WAIT}"));
    let processes: Vec<Process> =
        (0..CROWD).map(|_| Process::start(&mut events.command(&["token"]))).collect();
    let all: Vec<Ran> = processes.into_iter().map(Process::finish).collect();
    assert_all(&all, &Ran::printed(&events.home.tokens().access_token));
    // All have ended, and the command has not.
    assert!(!lock_is_free(&events.home.state.join("default~rotated.lock")));
    events.open_gate();
    events.settle();
    assert_eq!((events.runs().len(), server.counts().token_requests), (1, 1));
}

#[test]
fn what_a_command_could_not_do_is_done_by_the_next_process() {
    let server = server(|_| {});
    let events = Events::on_rotate(&server, EXPIRED, &format!("{KEEP}; [ -e gate ]"));
    let token = events.run(&["token"]);
    let newest = events.home.tokens().refresh_token;
    events.settle();
    assert_eq!(events.delivered(), vec![newest.clone(); 1]);
    assert_eq!(events.run(&["token"]), token);
    events.settle();
    assert_eq!(events.delivered(), vec![newest.clone(); 2]);
    events.open_gate();
    for _ in 0..3 {
        assert_eq!(events.run(&["token"]), token);
        events.settle();
    }
    assert_eq!(events.delivered(), vec![newest; 3], "it succeeded at the third run");
    assert_eq!(server.counts().token_requests, 1);
}

#[test]
fn a_command_that_always_fails_is_not_run_for_each_token() {
    let server = server(|_| {});
    let events = Events::on_rotate(&server, EXPIRED, &format!("{KEEP}; exit 1"));
    let token = events.run(&["token"]);
    assert_eq!(token, Ran::printed(&events.home.tokens().access_token));
    for _ in 0..FAILURES_AT_ONCE + 3 {
        events.settle();
        assert_eq!(events.run(&["token"]), token);
    }
    events.settle();
    assert_eq!(events.runs().len(), FAILURES_AT_ONCE);
    let history = events.run(&["status", "--history"]).stdout;
    let told =
        "  not delivered: the command of ONEGRANT_ON_ROTATE failed: it ended with exit status: 1 (process ";
    assert_eq!(history.matches(told).count(), 1, "{history}");
}

/// The document is larger than a pipe.
#[test]
fn no_command_fails_or_holds_up_a_token_whatever_it_does() {
    for script in [
        ":",
        "exit 3",
        "exec <&-",
        "cat",
        "head -c 10000000 /dev/zero; head -c 10000000 /dev/zero >&2",
        "/nonexistent/command",
        "if",
        "kill -KILL $$",
        "kill -KILL 0",
        "trap '' TERM HUP INT; kill -TERM 0",
        "sleep 300 & echo $! >pid",
        "cd / && rm -f \"$ONEGRANT_HOME/default~rotated.lock\"",
        "chmod 500 \"$ONEGRANT_HOME\"",
    ] {
        let server = server(|_| {});
        let events = Events::on_rotate(&server, EXPIRED, script);
        let mut document = events.home.document();
        document["later"] = json!("x".repeat(1 << 20));
        events.home.write(&document);
        let ran = events.run(&["token"]);
        assert_eq!(ran, Ran::printed(&events.home.tokens().access_token), "{script}");
        events.settle();
        if let Ok(pid) = fs::read_to_string(events.home.root.join("pid")) {
            let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            assert_eq!(kill_process(pid, Signal::KILL), Ok(()), "what it leaves behind lives on");
        }
        assert_eq!(server.counts().token_requests, 1, "{script}");
    }
}

#[test]
fn after_the_kill_of_a_runner_the_next_process_delivers() {
    let server = server(|_| {});
    let events = Events::on_rotate(&server, EXPIRED, &format!("echo $PPID >runner; {KEEP}; {WAIT}"));
    assert_eq!(events.run(&["token"]).code, 0);
    wait_for("the run", || events.runs().len() == 1);
    let runner = fs::read_to_string(events.home.root.join("runner")).unwrap();
    let runner = Pid::from_raw(runner.trim().parse().unwrap()).unwrap();
    kill_process(runner, Signal::KILL).unwrap();
    events.settle();
    assert_eq!(events.run(&["token"]).code, 0);
    events.open_gate();
    events.settle();
    assert_eq!(events.delivered(), vec![events.home.tokens().refresh_token; 2]);
    assert_eq!(server.counts().token_requests, 1);
}

/// The worker commits after its caller is gone, and starts the command.
/// What a command left running may write an older refresh token. So it is waited for, as the command is.
#[test]
fn after_the_kill_of_a_runner_no_command_begins_before_the_last_one_has_ended() {
    let server = server(|_| {});
    let script = format!("echo $PPID >runner; /bin/sh -c 'echo >>begun; {WAIT}; {KEEP}'; :");
    let events = Events::on_rotate(&server, EXPIRED, &script);
    let begun = || fs::read(events.home.root.join("begun")).unwrap_or_default().len();
    assert_eq!(events.run(&["token"]).code, 0);
    wait_for("the run", || begun() == 1);
    let older = events.home.tokens().refresh_token;
    let runner = fs::read_to_string(events.home.root.join("runner")).unwrap();
    let runner = Pid::from_raw(runner.trim().parse().unwrap()).unwrap();
    kill_process(runner, Signal::KILL).unwrap();
    let ran = events.run(&["-vv", "refresh"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stderr.contains("the command of ONEGRANT_ON_ROTATE was started"), "{ran:?}");
    events.open_gate();
    events.settle();
    assert_eq!((events.delivered(), begun()), (vec![older.clone()], 1));
    assert_eq!(events.run(&["token"]).code, 0);
    events.settle();
    assert_eq!(events.delivered(), [older, events.home.tokens().refresh_token]);
    assert_eq!(server.counts().refreshes, 2);
}

#[test]
fn the_command_runs_if_the_caller_was_killed_before_the_commit() {
    let server = server(|settings| settings.replay = Replay::EndFamily);
    let events = Events::on_rotate(&server, EXPIRED, KEEP);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let process = Process::start(&mut events.command(&["token"]));
    server.wait_until(|counts| counts.rotations == 1);
    process.signal(Signal::KILL);
    assert_eq!(process.finish().code, -9);
    gate.open();
    wait_for("the run", || events.runs().len() == 1);
    events.settle();
    assert_eq!(events.delivered(), [events.home.tokens().refresh_token]);
    assert_eq!(server.counts().token_requests, 1);
}

/// The worker was killed after its commit: the next process finds a refresh token that was not delivered.
#[test]
fn a_commit_without_a_run_is_delivered_by_the_next_process() {
    let server = server(|_| {});
    let events = Events::on_rotate(&server, EXPIRED, &format!("{KEEP}; [ -e gate ]"));
    assert_eq!(events.run(&["token"]).code, 0);
    events.settle();
    // Another process, without the variable, replaces it once more.
    assert_eq!(events.home.run(&["refresh"]).code, 0);
    assert_eq!(events.runs().len(), 1);
    events.open_gate();
    assert_eq!(events.run(&["token"]).code, 0);
    events.settle();
    assert_eq!(events.delivered().last(), Some(&events.home.tokens().refresh_token));
    assert_eq!((events.runs().len(), server.counts().token_requests), (2, 2));
}

#[test]
fn a_command_may_run_onegrant_itself_and_ends() {
    let server = server(|_| {});
    let events = Events::on_rotate(&server, EXPIRED, &format!("{KEEP}; onegrant token >printed"));
    let token = events.run(&["token"]);
    events.settle();
    assert_eq!(fs::read_to_string(events.home.root.join("printed")).unwrap(), token.stdout);
    assert_eq!((events.runs().len(), server.counts().token_requests), (1, 1));

    // Each run makes another one necessary.
    let events = Events::on_rotate(&server, EXPIRED, &format!("{KEEP}; onegrant refresh"));
    server.reset_counts();
    assert_eq!(events.run(&["token"]).code, 0);
    events.settle();
    assert_eq!((events.runs().len(), server.counts().rotations), (MOST_RUNS, 33));
}

#[test]
fn a_login_and_an_import_are_delivered_too() {
    let server = server(|settings| settings.auto_approve = true);
    let events = Events::new(Home::new(), "ONEGRANT_ON_ROTATE", KEEP);
    let login = |flow: &str, input: &str| {
        let path = events.home.root.join("input");
        fs::write(&path, input).unwrap();
        let mut command =
            events.command(&["login", &server.issuer(), "--client-id", server.client_id(), flow]);
        let ran = run(command.stdin(fs::File::open(path).unwrap()));
        assert_eq!(ran.code, 0, "{ran:?}");
        events.settle();
    };
    login("--device", "");
    let first = events.home.tokens().refresh_token;
    assert_eq!(events.delivered(), std::slice::from_ref(&first));
    login("--refresh-token-stdin", &server.issue_grant().refresh_token);
    assert_eq!(events.delivered(), [first, events.home.tokens().refresh_token]);
    assert_eq!(events.run(&["logout"]).code, 0);
    events.settle();
    assert_eq!(events.runs().len(), 2);
}

/// The command may take the lock of the refresh itself, and knows the profile.
#[test]
fn a_command_runs_outside_of_the_lock_and_knows_its_profile() {
    let server = server(|settings| settings.auto_approve = true);
    let script = "cat >/dev/null; flock -n \"$ONEGRANT_HOME/work.lock\" echo \"free for $0 $1 $#\" >runs/.new; mv runs/.new runs/$(ls runs | wc -l)";
    for variable in ["ONEGRANT_ON_ROTATE", "ONEGRANT_ON_LOGIN_REQUIRED"] {
        let events = Events::new(Home::new(), variable, script);
        let profile = |words: &[&str]| {
            let ran = events.run(&[&["--profile", "work"], words].concat());
            let lock = events.home.state.join("work~rotated.lock");
            wait_for("the end of the command", || !lock.exists() || lock_is_free(&lock));
            ran.code
        };
        let (issuer, client) = (server.issuer(), server.client_id());
        assert_eq!(profile(&["login", &issuer, "--client-id", client, "--device"]), 0);
        let wanted = match variable {
            "ONEGRANT_ON_ROTATE" => {
                assert_eq!(profile(&["refresh"]), 0);
                2
            }
            _ => {
                let document: Value =
                    serde_json::from_slice(&fs::read(events.home.state.join("work.json")).unwrap()).unwrap();
                server.end_grant(document["session"]["refresh_token"].as_str().unwrap());
                assert_eq!(profile(&["refresh"]), 3);
                1
            }
        };
        wait_for("the runs", || events.runs().len() == wanted);
        assert_eq!(events.runs(), vec!["free for onegrant work 1\n"; wanted], "{variable}");
    }
}

/// The command takes the place of onegrant, and finds no child that it does not know.
#[test]
fn the_command_of_exec_has_no_child_but_its_own() {
    let server = server(|_| {});
    let events = Events::on_rotate(&server, EXPIRED, &format!("{KEEP}; {WAIT}"));
    let ran = events.run(&["exec", "--", "/bin/sh", "-c", "cat /proc/$$/task/$$/children; wait"]);
    events.open_gate();
    events.settle();
    let children = ran.stdout.split_whitespace().count();
    assert_eq!((ran.code, children, events.runs().len()), (0, 1, 1), "only `cat`: {ran:?}");
}

/// The command finds what onegrant was given, and nothing of onegrant's own.
#[test]
fn the_environment_of_a_command_is_the_one_that_onegrant_was_given() {
    let server = server(|_| {});
    let script = "tr '\\0' '\\n' </proc/$$/environ >runs/.new; mv runs/.new runs/0; :";
    let events = Events::on_rotate(&server, EXPIRED, script);
    let token = events.command(&["--timeout", "20", "token"]);
    let mut wanted: Vec<String> = token
        .get_envs()
        .map(|(name, value)| format!("{}={}", name.to_str().unwrap(), value.unwrap().to_str().unwrap()))
        .collect();
    let mut token = token;
    assert_eq!(run(&mut token).code, 0);
    events.settle();
    let mut found: Vec<String> = events.runs()[0].lines().map(str::to_owned).collect();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

// ---- ONEGRANT_ON_LOGIN_REQUIRED ----

#[test]
fn the_command_is_told_once_of_a_dead_grant_and_once_of_the_next_one() {
    for lock in ["auto", "claim", "off"] {
        let server = server(|_| {});
        let home = Home::new();
        let events = Events::new(home, "ONEGRANT_ON_LOGIN_REQUIRED", KEEP);
        for deaths in 1..=2 {
            let issued = events.home.grant(&server, EXPIRED);
            server.end_grant(&issued.refresh_token);
            let words = ["token"];
            let start = |_| Process::start(events.command(&words).env("ONEGRANT_LOCK", lock));
            let processes: Vec<Process> = (0..CROWD).map(start).collect();
            let all: Vec<Ran> = processes.into_iter().map(Process::finish).collect();
            assert!(all.iter().all(|ran| ran.code == 3), "{lock}: {all:?}");
            wait_for("the run", || events.runs().len() == deaths);
            let ran = run(events.command(&words).env("ONEGRANT_LOCK", lock));
            assert_eq!(ran.code, 3, "{lock}");
            let text = events.runs().pop().unwrap();
            for secret in [&issued.refresh_token, &issued.access_token] {
                assert!(!text.contains(secret), "{lock}: {text}");
            }
            let told: Value = serde_json::from_str(&text).unwrap();
            let message = ran.stderr.lines().next().unwrap().strip_prefix("onegrant: ").unwrap();
            let wanted = json!({
                "event": "login_required", "profile": "default", "message": message, "hint": "onegrant login",
            });
            assert_eq!(told, wanted, "{lock}");
            assert_eq!(events.runs().len(), deaths, "{lock}");
            let markers = events.home.names().iter().filter(|name| name.contains("~login-required.")).count();
            assert_eq!(markers, 1, "{lock}: that of the grant before is gone");
        }
    }
}

/// The access token works, so the session is kept: the command runs although only the ID token is asked for.
#[test]
fn a_rejected_refresh_token_is_told_of_if_the_id_token_is_wanted() {
    let server = server(|_| {});
    let events = Events::new(Home::new(), "ONEGRANT_ON_LOGIN_REQUIRED", KEEP);
    let issued = events.home.grant(&server, LIFETIME);
    let mut document = events.home.document();
    let claims = json!({ "iss": server.issuer(), "iat": now() - LIFETIME, "exp": now() - 5 });
    document["session"]["id_token"] = json!(jwt(&claims));
    document["session"]["obtained_at"] = json!(now() - LIFETIME);
    events.home.write(&document);
    server.end_grant(&issued.refresh_token);
    for _ in 0..3 {
        assert_eq!(events.run(&["token", "--id-token"]).code, 3);
        wait_for("the run", || events.runs().len() == 1);
    }
    assert_eq!(events.run(&["token"]), Ran::printed(&issued.access_token));
    assert_eq!(events.runs().len(), 1);
}

#[test]
fn a_login_makes_the_same_command_possible_again() {
    let server = server(|settings| settings.auto_approve = true);
    let events = Events::new(Home::new(), "ONEGRANT_ON_LOGIN_REQUIRED", KEEP);
    let issued = events.home.grant(&server, EXPIRED);
    server.end_grant(&issued.refresh_token);
    assert_eq!(events.run(&["token"]).code, 3);
    wait_for("the run", || events.runs().len() == 1);
    let login = ["login", &server.issuer(), "--client-id", server.client_id(), "--device"];
    assert_eq!(events.run(&login).code, 0);
    assert!(!events.home.names().iter().any(|name| name.contains('~')), "{:?}", events.home.names());
}

/// Many servers keep the refresh token. A refusal that passes is told, and so is the later death of the same refresh token.
#[test]
fn a_refusal_that_passed_does_not_hide_the_death_of_the_same_refresh_token() {
    let server = server(|settings| settings.rotation = false);
    let events = Events::new(Home::new(), "ONEGRANT_ON_LOGIN_REQUIRED", KEEP);
    let issued = events.home.grant(&server, EXPIRED);
    let expired = events.home.document();
    server.script(Endpoint::Token, [Fault::Status(Response::json(400, r#"{"error":"access_denied"}"#))]);
    assert_eq!(events.run(&["token"]).code, 3);
    wait_for("the first run", || events.runs().len() == 1);
    assert_eq!(events.run(&["token"]), Ran::printed(&events.home.tokens().access_token));
    events.home.write(&expired);
    server.end_grant(&issued.refresh_token);
    assert_eq!(events.run(&["token"]).code, 3);
    wait_for("the second run", || events.runs().len() == 2);
    // The second refusal is asked for once more.
    let counts = server.counts();
    assert_eq!((counts.refreshes, counts.unexpected), (4, 0));
}

/// What is no dead grant: no grant at all, a logout, an ID token that is missing, a failure that passes.
#[test]
fn a_grant_that_is_not_dead_runs_no_command() {
    let server = server(|_| {});
    let events = Events::new(Home::new(), "ONEGRANT_ON_LOGIN_REQUIRED", KEEP);
    let says_nothing = |code: i32, arguments: &[&str]| {
        assert_eq!(events.run(arguments).code, code, "{arguments:?}");
        let names = events.home.names();
        assert!(!names.iter().any(|name| name.contains("~login-required")), "{arguments:?}: {names:?}");
    };
    says_nothing(3, &["token"]);
    events.home.grant(&server, LIFETIME);
    says_nothing(3, &["token", "--id-token"]);
    let mut document = events.home.document();
    document["session"].as_object_mut().unwrap().remove("refresh_token");
    events.home.write(&document);
    says_nothing(3, &["refresh"]);
    says_nothing(0, &["logout"]);
    says_nothing(3, &["token"]);
    events.home.grant(&server, EXPIRED);
    server.always(Endpoint::Token, Fault::Status(Response::json(503, "{}")));
    says_nothing(4, &["token"]);
    assert_eq!(events.runs().len(), 0);
}

/// A session without a refresh token ends, too.
#[test]
fn a_grant_without_a_refresh_token_that_has_ended_is_dead() {
    let server = server(|_| {});
    let events = Events::new(Home::new(), "ONEGRANT_ON_LOGIN_REQUIRED", KEEP);
    events.home.grant(&server, EXPIRED);
    let mut document = events.home.document();
    document["session"].as_object_mut().unwrap().remove("refresh_token");
    events.home.write(&document);
    for _ in 0..3 {
        assert_eq!(events.run(&["token"]).code, 3);
    }
    wait_for("the run", || events.runs().len() == 1);
    assert_eq!(events.runs().len(), 1);
    assert_eq!(server.counts().token_requests, 0);
}

/// The hint names the store and the profile that options gave.
#[test]
fn the_hint_works_as_it_stands() {
    let server = server(|_| {});
    let events = Events::new(Home::new(), "ONEGRANT_ON_LOGIN_REQUIRED", KEEP);
    let issued = events.home.grant(&server, EXPIRED);
    server.end_grant(&issued.refresh_token);
    let store = format!("file:{}", events.home.state.display());
    let mut command = events.command(&["--store", &store, "token"]);
    assert_eq!(run(command.env("ONEGRANT_HOME", events.home.root.join("other"))).code, 3);
    wait_for("the run", || events.runs().len() == 1);
    let told: Value = serde_json::from_str(&events.runs()[0]).unwrap();
    assert_eq!(told["hint"], json!(format!("onegrant --store '{store}' login")));
}

#[test]
fn a_command_for_a_dead_grant_holds_up_nothing_whatever_it_does() {
    for script in ["/nonexistent/command", "kill -KILL 0", "exec <&-", "onegrant token; exit 1", WAIT] {
        let server = server(|_| {});
        let events =
            Events::new(Home::new(), "ONEGRANT_ON_LOGIN_REQUIRED", &format!("echo >>told; {script}"));
        let issued = events.home.grant(&server, EXPIRED);
        server.end_grant(&issued.refresh_token);
        let first = events.run(&["token"]);
        assert_eq!(first.code, 3, "{script}: {first:?}");
        let told = || fs::read_to_string(events.home.root.join("told")).unwrap_or_default();
        wait_for("the run", || !told().is_empty());
        assert_eq!(events.run(&["token"]).code, 3, "{script}");
        events.open_gate();
        assert_eq!(told(), "\n", "{script}");
    }
}

// ---- the recipe of docs/containers-and-ci.md ----

const PAGE: &str = include_str!("../../docs/containers-and-ci.md");

/// A stand-in for `gh secret set NAME`: keeps stdin as the secret.
const GH: &str = "#!/bin/sh\n[ \"$1 $2 $#\" = 'secret set 3' ] && [ \"$GH_TOKEN\" = writer ] || exit 1\n\
                  cat >\"$SECRETS/.$3\" && mv \"$SECRETS/.$3\" \"$SECRETS/$3\" && echo >>\"$SECRETS/calls\"\n";

/// The variables and the scripts of the job, in their order.
fn job() -> (Vec<(&'static str, &'static str)>, Vec<String>) {
    let mut blocks = PAGE.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let (_, text) = blocks.find(|(name, _)| *name == "yaml rotation").unwrap();
    let (mut variables, mut scripts) = (Vec::new(), Vec::new());
    let mut indent = None;
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        if indent.is_some_and(|indent| depth > indent) {
            let script: &mut String = scripts.last_mut().unwrap();
            *script += &format!("{}\n", line.trim());
            continue;
        }
        indent = None;
        if let Some(rest) = line.trim().trim_start_matches("- ").strip_prefix("run: |") {
            assert_eq!(rest, "");
            (indent, _) = (Some(depth), scripts.push(String::new()));
        } else if let Some((name, value)) = line.trim().split_once(": ")
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        {
            variables.push((name, value));
        }
    }
    (variables, scripts)
}

/// Where jobs run: the secret store, and a `gh` that writes to it.
struct Runners<'a> {
    server: &'a AuthorizationServer,
    home: Home,
    secrets: PathBuf,
    programs: PathBuf,
}

impl<'a> Runners<'a> {
    fn new(server: &'a AuthorizationServer, gh: &str) -> Self {
        let (home, _) = Home::with_grant(server, EXPIRED);
        let (secrets, programs) = (home.root.join("secrets"), home.root.join("bin"));
        [&secrets, &programs].iter().for_each(|directory| fs::create_dir(directory).unwrap());
        write_program(&programs.join("gh"), gh);
        fs::write(secrets.join("GRANT"), home.bytes()).unwrap();
        Self { server, home, secrets, programs }
    }

    /// The steps of a job on a machine of its own.
    fn job(&self, machine: &Path) -> Vec<Ran> {
        fs::create_dir(machine).unwrap();
        let place = PathBuf::from(env!("CARGO_BIN_EXE_onegrant"));
        let onegrant = place.parent().unwrap().display();
        let (variables, scripts) = job();
        assert_eq!(scripts.len(), 3);
        let step = |script: &String| {
            let mut step = Command::new("bash");
            step.args(["-e", "-o", "pipefail", "-c", script]).env_clear().current_dir(machine);
            step.env("PATH", format!("{onegrant}:{}:/usr/local/bin:/usr/bin:/bin", self.programs.display()));
            step.env("SECRETS", &self.secrets).env("ISSUER", self.server.issuer());
            for (name, value) in &variables {
                let value = match *value {
                    "${{ secrets.GRANT }}" => fs::read_to_string(self.secrets.join("GRANT")).unwrap(),
                    "${{ secrets.GRANT_WRITER }}" => "writer".to_owned(),
                    "${{ github.repository }}" => "owner/name".to_owned(),
                    value => value.replace("/home/runner", machine.to_str().unwrap()),
                };
                step.env(name, value);
            }
            run(&mut step)
        };
        scripts.iter().map(step).collect()
    }
}

/// Each job has a machine of its own, which is thrown away. What it has of the grant comes from the secret store.
#[test]
fn the_job_of_the_page_writes_each_new_refresh_token_back_to_the_secret_store() {
    const JOBS: u64 = 3;
    let server = server(|settings| settings.replay = Replay::EndFamily);
    let runners = Runners::new(&server, GH);
    let secret = runners.secrets.join("GRANT");
    for number in 0..JOBS {
        let machine = runners.home.root.join(format!("machine-{number}"));
        let steps = runners.job(&machine);
        assert!(steps.iter().all(|step| step.code == 0), "{steps:?}");
        let stored = fs::read(machine.join("grant/default.json")).unwrap();
        assert_eq!(fs::read(&secret).unwrap(), stored, "it is there when the last step ends");
        fs::remove_dir_all(&machine).unwrap();
        let mut document: Value = serde_json::from_slice(&stored).unwrap();
        assert!(server.is_alive(document["session"]["refresh_token"].as_str().unwrap()));
        document["session"]["expires_at"] = json!(now() + EXPIRED);
        fs::write(&secret, document.to_string()).unwrap();
    }
    let calls = fs::read_to_string(runners.secrets.join("calls")).unwrap();
    let counts = server.counts();
    assert_eq!((calls.len(), counts.refreshes, counts.unexpected), (3, JOBS, 0));
}

#[test]
fn the_last_step_of_the_job_fails_if_the_secret_store_did_not_get_the_refresh_token() {
    let server = server(|settings| settings.replay = Replay::EndFamily);
    let runners = Runners::new(&server, "#!/bin/sh\nexit 1\n");
    let steps = runners.job(&runners.home.root.join("machine"));
    assert_eq!(steps.iter().map(|step| step.code).collect::<Vec<_>>(), [0, 0, 1], "{steps:?}");
    assert!(steps[2].stdout.contains("not delivered: the command of ONEGRANT_ON_ROTATE failed"), "{steps:?}");
    assert_eq!(server.counts().refreshes, 1);
}

/// A job that needs no refresh has nothing to write back.
#[test]
fn the_job_succeeds_without_a_refresh() {
    let server = server(|_| {});
    let runners = Runners::new(&server, "#!/bin/sh\nexit 1\n");
    let fresh = Home::with_grant(&server, 3600).0;
    fs::write(runners.secrets.join("GRANT"), fresh.bytes()).unwrap();
    let steps = runners.job(&runners.home.root.join("machine"));
    assert!(steps.iter().all(|step| step.code == 0), "{steps:?}");
    assert_eq!(server.counts().refreshes, 0);
}
