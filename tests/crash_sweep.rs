//! A refresh is killed at each of its system calls in turn, and the next process goes on.
//!
//! `cargo test --test crash_sweep -- --ignored`, where strace is installed and may trace.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at a surprise")]

mod support;

use std::time::Duration;
use support::*;

/// The calls by which a refresh meets the disk, the network and the lock.
const CALLS: [&str; 14] = [
    "openat",
    "write",
    "fsync",
    "link,linkat",
    "unlink,unlinkat",
    "rename,renameat,renameat2",
    "fallocate",
    "close",
    "sendto",
    "recvfrom",
    "getdents64",
    "flock",
    "fchmod",
    "ftruncate",
];

/// More calls of one kind than a refresh makes.
const MOST_CALLS: u32 = 200;

/// The fewest points that a sweep has: with fewer it has shown nothing.
const FEWEST_POINTS: usize = 40;

/// Kills at every point; gives the points, and those of them that cost the grant.
fn sweep(lock: &str, replay: Replay) -> (usize, Vec<String>) {
    let mut points = 0;
    let mut dead = Vec::new();
    for call in CALLS {
        for number in 1..MOST_CALLS {
            let server = server(|settings| settings.replay = replay);
            let (home, _) = Home::with_grant(&server, EXPIRED);
            let mut command = home.command(&["token"]);
            command.env("ONEGRANT_LOCK", lock);
            let trace = format!("-etrace={call}");
            let inject = format!("-einject={call}:signal=KILL:when={number}");
            let options = ["-f", "-qq", "-o/dev/null", &trace, &inject];
            let ran = run(&mut wrapped("strace", &options, &command));
            if ran.code == 0 {
                break;
            }
            let point = format!("{lock}: {call} {number}");
            assert_eq!(ran.code, -9, "{point}: {ran:?}");
            points += 1;
            let next = run(&mut command);
            if next.code == 3 {
                assert_eq!(server.counts().rotations, 1, "{point}: {next:?}");
                assert!(next.stderr.contains(" and never finished; "), "{point}: {next:?}");
                dead.push(point);
                continue;
            }
            let stored = home.tokens();
            assert_eq!(next, Ran::printed(&stored.access_token), "{point}");
            assert!(server.is_alive(&stored.refresh_token), "{point}");
            // The next refresh but one sweeps the records of the old refresh token, and later ones the temporary file.
            let left = home.names().into_iter().filter(|name| name.contains('~'));
            let mut left = left.filter(|name| !name.contains("~temporary.") && !name.contains("~attempt."));
            assert_eq!(left.next(), None, "{point}");
        }
    }
    assert!(points >= FEWEST_POINTS, "{points} points");
    (points, dead)
}

#[test]
#[ignore = "needs strace"]
fn a_kill_at_any_call_costs_nothing_where_the_server_has_a_grace_period() {
    for lock in ["auto", "claim", "off"] {
        let (_, dead) = sweep(lock, Replay::Grace(Duration::from_secs(3600)));
        assert_eq!(dead, Vec::<String>::new());
    }
}

/// What no client can help: between the server's rotation and the write of its answer.
#[test]
#[ignore = "needs strace"]
fn a_kill_at_any_call_but_those_that_carry_the_answer_costs_nothing_at_all() {
    for lock in ["auto", "claim", "off"] {
        let (points, dead) = sweep(lock, Replay::EndFamily);
        assert!(dead.len() <= 4, "{} of {points}: {dead:?}", dead.len());
    }
}
