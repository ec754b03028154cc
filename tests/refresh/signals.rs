//! The signals that a parent ignores or blocks: they change nothing for onegrant, and each program that onegrant runs finds
//! them as onegrant did.

use crate::support::keyring::Keyring;
use crate::support::*;
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Signals that some parents leave ignored or blocked.
const CARELESS: [&str; 2] =
    ["--ignore-signal=CHLD,ALRM,PIPE,URG,USR1", "--block-signal=CHLD,ALRM,TERM,URG,USR2,RTMIN"];

/// The same command, with these signals ignored or blocked.
fn under(signals: &[&str], command: &Command) -> Command {
    wrapped("/usr/bin/env", signals, command)
}

/// A line of a script, which writes down the state of the shell. A shell changes some of it: a shell is compared with a shell.
fn notes(file: &Path) -> String {
    format!("cp /proc/$$/status '{0}.new'; mv '{0}.new' '{0}'", file.display())
}

/// The signals that are blocked and ignored, in a copy of `/proc/PID/status`.
fn signals_in(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let is_wanted = |line: &&str| line.starts_with("SigBlk") || line.starts_with("SigIgn");
    text.lines().filter(is_wanted).map(str::to_owned).collect()
}

/// The same of a shell, which blocks signals for a moment whenever it starts a program.
fn ignored_in(file: &Path) -> String {
    signals_in(file).pop().unwrap()
}

/// What a program finds that is started in the same way, without onegrant.
fn wanted(signals: &[&str], home: &Home) -> Vec<String> {
    let file = home.root.join("wanted");
    let mut copy = Command::new("/bin/cp");
    copy.arg("/proc/self/status").arg(&file).current_dir(&home.root);
    assert_eq!(run(&mut under(signals, &copy)).code, 0);
    signals_in(&file)
}

/// What a shell finds.
fn ignored_by_a_shell(signals: &[&str], home: &Home) -> String {
    let file = home.root.join("wanted");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &notes(&file)]).current_dir(&home.root);
    assert_eq!(run(&mut under(signals, &shell)).code, 0);
    ignored_in(&file)
}

#[test]
fn ignored_and_blocked_signals_change_nothing() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    let (home, _) = Home::with_grant(&server, EXPIRED);
    for command in [keyring.command(&["token"]), home.command(&["token"])] {
        let ran = run(&mut under(&CARELESS, &command));
        assert!(server.access_token_is_valid(ran.token()));
    }
    assert_eq!(run(&mut under(&CARELESS, &keyring.command(&["status"]))).code, 0);
    let file = home.root.join("token file");
    let file = file.to_str().unwrap();
    let ran = run(&mut under(&CARELESS, &home.command(&["exec", "--file", file, "--", "/bin/cat", file])));
    assert_eq!(ran.stdout.trim_end(), home.tokens().access_token, "{ran:?}");
    let ran = run(&mut under(&CARELESS, &home.command(&["doctor"])));
    assert!(ran.stdout.contains("two processes exclude each other"), "{ran:?}");
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (2, 0));
}

/// The timer that ends the wait sends a signal of its own.
#[test]
fn a_wait_for_the_lock_ends_at_the_deadline_under_ignored_and_blocked_signals() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let lock = File::create(home.state.join("default.lock")).unwrap();
    lock.lock().unwrap();
    let ran = run(&mut under(&CARELESS, &home.command(&["--timeout", "0.2", "token"])));
    assert_eq!((ran.code, server.counts().token_requests), (4, 0), "{ran:?}");
    assert!(ran.stderr.contains("another process still held the lock"), "{ran:?}");
}

/// As `timeout` in a shell that has none: `perl -e 'alarm 1; exec @ARGV'`.
#[test]
fn an_alarm_that_the_parent_has_set_ends_a_wait_for_the_lock() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let lock = File::create(home.state.join("default.lock")).unwrap();
    lock.lock().unwrap();
    let script = "use Time::HiRes; Time::HiRes::ualarm(300_000); exec @ARGV";
    let perl = Path::new("/usr/bin/perl");
    if !perl.exists() {
        println!("not tested: there is no perl");
        return;
    }
    let command = wrapped(perl.to_str().unwrap(), &["-e", script], &home.command(&["token"]));
    let ran = run(&mut { command });
    assert_eq!(ran.code, -14, "{ran:?}");
}

#[test]
fn a_helper_starts_with_the_signals_that_onegrant_was_given() {
    for signals in [&CARELESS[..], &["--ignore-signal=HUP,INT"], &["--default-signal"]] {
        let server = server(|_| {});
        let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
        for verb in ["get", "store"] {
            keyring.fault(verb, &format!("{}\n", notes(&keyring.directory.join(format!("signals.{verb}")))));
        }
        assert_eq!(run(&mut under(signals, &keyring.command(&["token"]))).code, 0);
        for verb in ["get", "store"] {
            let found = ignored_in(&keyring.directory.join(format!("signals.{verb}")));
            assert_eq!(found, ignored_by_a_shell(signals, &keyring.home), "{verb}, {signals:?}");
        }
    }
}

/// After a refresh, in which signals were held back.
#[test]
fn the_command_of_exec_starts_with_the_signals_that_onegrant_was_given() {
    for signals in [&CARELESS[..], &["--ignore-signal=HUP,INT"], &["--default-signal"]] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let exec = home.command(&["exec", "--", "/bin/cp", "/proc/self/status", "found"]);
        assert_eq!(run(&mut under(signals, &exec)).code, 0);
        let found = signals_in(&home.root.join("found"));
        assert_eq!(found, wanted(signals, &home), "{signals:?}");
        assert_eq!(server.counts().token_requests, 1);
    }
}

#[test]
fn a_browser_starts_with_the_signals_that_onegrant_was_given() {
    let server = server(|settings| settings.auto_approve = true);
    let home = Home::new();
    let found = home.root.join("found");
    let mut login =
        home.command(&["login", &server.issuer(), "--browser", "--client-id", server.client_id()]);
    login.env("BROWSER", "/bin/cp --suffix=%s /proc/self/status found");
    let process = Process::start(&mut under(&CARELESS, &login));
    let has_ended = || fs::read_to_string(&found).is_ok_and(|text| text.contains("nonvoluntary_ctxt"));
    wait_for("the browser", has_ended);
    process.signal(Signal::KILL);
    process.finish();
    let found = signals_in(&found);
    assert_eq!(found, wanted(&CARELESS, &home));
}

/// `nohup`, and background jobs of a shell: the parent ignores these signals for this program, too.
#[test]
fn a_signal_that_the_parent_ignores_to_protect_its_children_stays_ignored() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let process = Process::start(&mut under(&["--ignore-signal=HUP,INT,TERM"], &home.command(&["token"])));
    server.wait_until(|counts| counts.rotations == 1);
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        process.signal(signal);
    }
    gate.open();
    assert_eq!(process.finish(), Ran::printed(&home.tokens().access_token));
}

/// At the login, and in the worker of a later refresh, which holds signals back.
#[test]
fn a_subject_token_command_starts_with_the_signals_that_onegrant_was_given() {
    for signals in [&CARELESS[..], &["--default-signal"]] {
        let server = server(|settings| settings.subject_tokens = vec!["subject-1".to_owned()]);
        let home = Home::new();
        let secret = home.root.join("secret");
        fs::write(&secret, server.client_secret()).unwrap();
        let found = home.root.join("found");
        let source = format!("command:{}; echo subject-1", notes(&found));
        let mut login = home.command(&["login", &server.issuer(), "--client-id"]);
        login.args([server.confidential_client_id(), "--subject-token", &source, "--client-secret-file"]);
        for command in [login.arg(&secret), &mut home.command(&["refresh"])] {
            let ran = run(&mut under(signals, command));
            assert_eq!(ran.code, 0, "{ran:?}");
            assert_eq!(ignored_in(&found), ignored_by_a_shell(signals, &home), "{signals:?}");
            fs::remove_file(&found).unwrap();
        }
    }
}
