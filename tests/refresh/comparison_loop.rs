//! A refusal proves nothing while another process may have rotated. The cases of the comparison loop, with real processes.
//!
//! `ONEGRANT_TEST_ROUNDS=50` runs the unprotected crowds so many times; 10 is the default.

use crate::support::*;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::Duration;

const DEFAULT_ROUNDS: u32 = 10;

/// How many processes race without a lock.
const CROWD: usize = 20;

/// The message for a dead grant with a refresh token that the server does not know.
const DEAD: &str = "onegrant: cannot refresh: the session of profile default has ended (invalid_grant: the grant has \
                    ended); a login is required\nhint: onegrant login\n";

fn rounds() -> u32 {
    std::env::var("ONEGRANT_TEST_ROUNDS").map_or(DEFAULT_ROUNDS, |rounds| rounds.parse().unwrap())
}

fn unprotected_crowd(home: &Home) -> Vec<Command> {
    let command = |_| {
        let mut command = home.command(&["token"]);
        command.env("ONEGRANT_LOCK", "off");
        command
    };
    (0..CROWD).map(command).collect()
}

/// The server rejects a replay. Many spend the same refresh token, one wins, and all print its token.
#[track_caller]
fn assert_no_session_is_lost(delay_before: Duration, delay_winner: Duration) {
    let server = server(|settings| {
        settings.replay = Replay::Reject;
        (settings.delay_before, settings.delay_winner) = (delay_before, delay_winner);
    });
    let mut replays = 0;
    for round in 0..rounds() {
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.reset_counts();
        let ran = run_together(unprotected_crowd(&home));
        let new = home.tokens();
        assert_all(&ran, &Ran::printed(&new.access_token));
        assert_eq!(server.counts().rotations, 1, "round {round}");
        assert!(server.is_alive(&new.refresh_token), "round {round}");
        assert_eq!(home.names(), ["default.json"], "round {round}");
        replays += server.counts().replays;
    }
    assert!(replays > 0, "no two processes raced: this test has shown nothing");
}

#[test]
fn an_unprotected_crowd_loses_no_session() {
    assert_no_session_is_lost(Duration::from_millis(20), Duration::ZERO);
}

#[test]
fn an_unprotected_crowd_waits_for_a_winner_whose_answer_is_slower_than_the_refusals() {
    assert_no_session_is_lost(Duration::ZERO, Duration::from_millis(600));
}

/// A process that has spent its refresh token. The gate holds the answer.
fn held(server: &AuthorizationServer, home: &Home, lock: &str) -> (Process, Gate) {
    let gate = Gate::closed();
    let before = server.counts().refreshes;
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let process = Process::start(home.command(&["token"]).env("ONEGRANT_LOCK", lock));
    server.wait_until(|counts| counts.refreshes > before);
    (process, gate)
}

#[test]
fn a_loser_waits_for_the_winner_and_prints_its_token() {
    let server = server(|settings| settings.replay = Replay::Reject);
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let (winner, gate) = held(&server, &home, "off");
    let loser = home_start(&home, "off");
    server.wait_until(|counts| counts.replays == 1);
    // It looks, and there is nothing yet.
    wait_for("a loser that looks", || home.attempts().iter().any(|attempt| attempt["outcome"] == "looking"));
    gate.open();
    let (winner, loser) = (winner.finish(), loser.finish());
    assert_eq!(winner, Ran::printed(&home.tokens().access_token));
    assert_eq!(loser, winner);
    assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1));
    assert!(server.is_alive(&home.tokens().refresh_token));
}

fn home_start(home: &Home, lock: &str) -> Process {
    Process::start(home.command(&["token"]).env("ONEGRANT_LOCK", lock))
}

/// A process, on another machine for example, that leaves no record and takes no lock.
#[test]
fn a_loser_uses_a_session_that_another_process_stored_in_time() {
    for lock in ["auto", "claim", "off"] {
        let server = server(|settings| settings.replay = Replay::Reject);
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        let newer = server.rotate(&issued.refresh_token).unwrap();
        let (loser, gate) = held(&server, &home, lock);
        home.write(&document(&server, &newer, LIFETIME));
        let before = home.bytes();
        gate.open();
        assert_eq!(loser.finish(), Ran::printed(&newer.access_token), "{lock}");
        assert_eq!(home.bytes(), before, "{lock}");
        assert_eq!(server.counts().token_requests, 1, "{lock}");
    }
}

#[test]
fn a_dead_session_is_cleared_under_the_lock() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    server.end_grant(&issued.refresh_token);
    let mut wanted = home.document();
    assert_eq!(home.run(&["token"]), Ran::failed(3, DEAD));
    wanted["session"] = Value::Null;
    let mut stored = home.document();
    assert!(stored.as_object_mut().unwrap().remove("rejected").is_some());
    assert_eq!(stored, wanted, "the configuration stays");
    assert_eq!(home.names(), ["default.json", "default.lock"]);
    // No process asks again, and each one reports why.
    let before = home.bytes();
    assert_eq!(home.run(&["token"]), Ran::failed(3, DEAD));
    assert_eq!(home.bytes(), before);
    assert_eq!(server.counts().token_requests, 2, "the second one before anything was cleared");
}

/// Entra does so (AADSTS70000).
#[test]
fn a_refusal_that_the_server_withdraws_a_moment_later_loses_no_session() {
    for lock in ["auto", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        server.script(Endpoint::Token, [Fault::error(400, "invalid_grant")]);
        let commands = (0..CROWD).map(|_| {
            let mut command = home.command(&["token"]);
            command.env("ONEGRANT_LOCK", lock);
            command
        });
        let ran = run_together(commands.collect());
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
    }
}

/// Without a lock and a claim a second request could meet another process's, and nothing is cleared anyway.
#[test]
fn a_refusal_is_final_where_nothing_excludes_other_processes() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let before = home.bytes();
    server.script(Endpoint::Token, [Fault::error(400, "invalid_grant")]);
    assert_eq!(home.run_with_lock("off", &["token"]).code, 3);
    assert_eq!(server.counts().token_requests, 1);
    assert_eq!(home.bytes(), before);
}

#[test]
fn a_dead_session_is_marked_alone_where_looking_and_clearing_are_two_steps() {
    for (lock, requests) in [("claim", 2), ("off", 1)] {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        server.end_grant(&issued.refresh_token);
        let before = home.bytes();
        for _ in 0..3 {
            assert_eq!(home.run_with_lock(lock, &["token"]), Ran::failed(3, DEAD), "{lock}");
            assert_eq!(home.bytes(), before, "{lock}");
        }
        assert_eq!(server.counts().token_requests, requests, "{lock}");
        // A new login has another refresh token, and the mark means nothing to it.
        let fresh = home.grant(&server, EXPIRED);
        assert_eq!(home.run_with_lock(lock, &["token"]).code, 0, "{lock}");
        assert!(!server.is_alive(&fresh.refresh_token) && server.is_alive(&home.tokens().refresh_token));
    }
}

/// Each answer is a refusal. Before it arrives, another process stores another session that has ended, too.
#[test]
fn newer_sessions_that_have_expired_too_end_it_after_two_generations() {
    for lock in ["auto", "claim", "off"] {
        let server = server(|_| {});
        let home = Home::new();
        let dead = |number: u64| Issued {
            access_token: format!("at_{number}"),
            refresh_token: format!("rt_{number}"),
        };
        let gates: Vec<Gate> = (0..4).map(|_| Gate::closed()).collect();
        server.script(Endpoint::Token, gates.iter().cloned().map(Fault::HoldAnswer));
        home.write(&document(&server, &dead(0), EXPIRED));
        let process = home_start(&home, lock);
        for number in 1..=2 {
            server.wait_until(|counts| counts.refreshes == number);
            home.write(&document(&server, &dead(number), EXPIRED));
            gates[usize::try_from(number).unwrap() - 1].open();
        }
        let before = home.bytes();
        let text = "onegrant: cannot refresh: other processes keep storing sessions that have expired; nothing was \
                    deleted\nhint: date   # compare this machine's clock with the server's\n";
        assert_eq!(process.finish(), Ran::failed(4, text), "{lock}");
        assert_eq!(server.counts().token_requests, 2, "{lock}");
        assert_eq!(home.bytes(), before, "{lock}");
    }
}

#[test]
fn a_newer_session_that_has_expired_is_refreshed_in_its_turn() {
    for lock in ["auto", "claim", "off"] {
        let server = server(|settings| settings.replay = Replay::Reject);
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        let newer = server.rotate(&issued.refresh_token).unwrap();
        let (process, gate) = held(&server, &home, lock);
        home.write(&document(&server, &newer, EXPIRED));
        gate.open();
        let ran = process.finish();
        assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}");
        assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
    }
}

#[test]
fn a_store_that_fails_during_the_loop_is_reported_with_the_refusal() {
    let dead = "onegrant: cannot refresh: the session of profile default has ended (invalid_grant: the grant has ended; \
                and the store failed: ";
    let end = "); a login is required\nhint: onegrant login\n";
    for lock in ["auto", "claim", "off"] {
        for (case, why) in [("garbage", "not a document of onegrant"), ("directory", "not a regular file")] {
            let server = server(|_| {});
            let (home, issued) = Home::with_grant(&server, EXPIRED);
            server.end_grant(&issued.refresh_token);
            let (process, gate) = held(&server, &home, lock);
            if case == "garbage" {
                home.write_bytes(b"[1]");
            } else {
                fs::remove_file(home.document_path()).unwrap();
                fs::create_dir(home.document_path()).unwrap();
            }
            gate.open();
            let ran = process.finish();
            assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{lock}, {case}: {ran:?}");
            let text = ran.stderr.as_str();
            assert!(text.starts_with(dead) && text.ends_with(end), "{lock}, {case}: {text}");
            assert!(text.contains(why) && text.lines().count() == 2, "{lock}, {case}: {text}");
            if case == "garbage" {
                assert_eq!(home.bytes(), b"[1]", "{lock}: nothing is written over what cannot be read");
            }
            assert_eq!(server.counts().token_requests, 1, "{lock}, {case}");
        }
    }
}

/// The answer of the other process comes after all looks: its session is stored after the verdict.
#[test]
fn a_session_that_arrives_after_the_last_look_is_used_by_the_next() {
    for lock in ["auto", "claim", "off"] {
        let server = server(|settings| settings.replay = Replay::Reject);
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        let newer = server.rotate(&issued.refresh_token).unwrap();
        let ran = home.run_with_lock(lock, &["token"]);
        assert_eq!(ran.code, 3, "{lock}");
        home.write(&document(&server, &newer, LIFETIME));
        let before = home.bytes();
        assert_eq!(home.run_with_lock(lock, &["token"]), Ran::printed(&newer.access_token), "{lock}");
        assert_eq!(home.bytes(), before, "{lock}");
        // And when that one ends, it is refreshed: the verdict was about another refresh token.
        home.write(&document(&server, &newer, EXPIRED));
        assert_eq!(home.run_with_lock(lock, &["token"]).code, 0, "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
        let refused = if lock == "off" { 1 } else { 2 };
        assert_eq!(server.counts().token_requests, refused + 1, "{lock}");
    }
}

/// Another process's session arrives at some moment while the loser looks, or after that: it is never deleted.
#[test]
fn a_session_that_arrives_during_the_looks_is_never_deleted() {
    for lock in ["auto", "off"] {
        let server = server(|settings| settings.replay = Replay::Reject);
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        let newer = server.rotate(&issued.refresh_token).unwrap();
        let loser = home_start(&home, lock);
        wait_for("a loser that looks, or has looked", || {
            let looks = |attempt: &Value| attempt["outcome"] != Value::Null;
            home.attempts().iter().any(looks) || home.document()["session"] == Value::Null
        });
        home.write(&document(&server, &newer, LIFETIME));
        let before = home.bytes();
        let ran = loser.finish();
        assert!([0, 3].contains(&ran.code), "{lock}: {ran:?}");
        assert_eq!(home.bytes(), before, "{lock}");
        assert_eq!(home.run_with_lock(lock, &["token"]), Ran::printed(&newer.access_token), "{lock}");
    }
}

/// Nothing can save a grant that its server ends. But no process deletes anything, and the next call reports the state.
#[test]
fn without_a_lock_a_server_that_ends_the_family_costs_the_grant_and_nothing_else() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let (winner, gate) = held(&server, &home, "off");
    let loser = home_start(&home, "off");
    server.wait_until(|counts| counts.replays == 1);
    gate.open();
    let (winner, loser) = (winner.finish(), loser.finish());
    let stored = home.tokens();
    assert_eq!(winner, Ran::printed(&stored.access_token));
    assert_eq!(loser, winner, "it cannot know that its own request ended the grant");
    assert!(!server.is_alive(&stored.refresh_token));
    home.write(&document(&server, &stored, EXPIRED));
    assert_eq!(home.run(&["token"]), Ran::failed(3, DEAD));
    assert_eq!(home.document()["session"], Value::Null);
}

/// The same race where locks are to be had: there is none.
#[test]
fn a_lock_keeps_the_second_request_from_a_server_that_ends_the_family() {
    for lock in ["auto", "require", "claim"] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let (winner, gate) = held(&server, &home, lock);
        let mut second = home.command(&["-vv", "token"]);
        let second = Process::start(second.env("ONEGRANT_LOCK", lock));
        wait_for("a process that waits", || second.said().contains("waiting"));
        gate.open();
        assert_eq!(winner.finish(), Ran::printed(&home.tokens().access_token), "{lock}");
        let second = second.finish();
        assert_eq!((second.code, second.stdout), (0, format!("{}\n", home.tokens().access_token)), "{lock}");
        assert_eq!(server.counts().token_requests, 1, "{lock}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
    }
}

/// One with the lock and one without: the second sees the record of the first and waits for its answer.
#[test]
fn a_session_that_was_cleared_for_the_token_just_spent_is_replaced_by_its_late_answer() {
    let server = server(|settings| settings.replay = Replay::Reject);
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let (winner, gate) = held(&server, &home, "off");
    // A process that could not see the record found the same token dead, and cleared.
    let sha256 = winner_sha256(&home);
    let mut cleared = home.document();
    cleared["session"] = Value::Null;
    cleared["rejected"] = json!({ "refresh_token_sha256": sha256, "at": now(), "message": "it has ended" });
    home.write(&cleared);
    gate.open();
    let ran = winner.finish();
    let stored = home.tokens();
    assert_eq!(ran, Ran::printed(&stored.access_token));
    assert!(server.is_alive(&stored.refresh_token) && stored.refresh_token != issued.refresh_token);
    assert_eq!(server.counts().token_requests, 1);
}

fn winner_sha256(home: &Home) -> String {
    home.attempts()[0]["refresh_token_sha256"].as_str().unwrap().to_owned()
}
