//! A fleet on paper: what the state machine promises on one machine, it keeps on many, by its own decisions.

#[allow(
    dead_code,
    unused_imports,
    clippy::as_conversions,
    reason = "the page of the simulation uses what the tests do not"
)]
#[path = "../../fixtures/fleet/simulation/mod.rs"]
mod simulation;

use simulation::{Accidents, Arrangement, Figures, Replay, Scenario, run};
use std::time::Duration;

const ARRANGEMENTS: [Arrangement; 3] =
    [Arrangement::FilePerHost, Arrangement::SharedClaims, Arrangement::SharedBehindLocks];

/// Longer than a claim binds: the deadline, and ten seconds.
const GRACE: Replay = Replay::Grace(Duration::from_secs(60));

/// What a process may take beyond its deadline: the last look and an answer that was under way.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Starts over a minute and a half: some wait, and some come after an abandoned claim has run out.
fn drizzle(arrangement: Arrangement, seed: u64) -> Scenario {
    Scenario { start_within: Duration::from_secs(90), seed, ..Scenario::storm(arrangement, 120, 20) }
}

fn assert_one_refresh_each(figures: &Figures, sessions: usize, what: &str) {
    assert_eq!(figures.generations, sessions, "{what}");
    assert_eq!(figures.server_requests, sessions, "{what}");
    assert_eq!((figures.most_sends, figures.replays, figures.lost_grants), (1, 0, 0), "{what}");
    assert_eq!(figures.tokens, figures.processes, "{what}");
}

#[test]
fn each_generation_is_refreshed_once_whatever_the_number_of_processes_and_hosts() {
    for arrangement in ARRANGEMENTS {
        for (processes, hosts) in [(1, 1), (100, 1), (300, 10), (1000, 200)] {
            let scenario = Scenario { expiries: 2, ..Scenario::storm(arrangement, processes, hosts) };
            let grants = if arrangement.is_shared() { 1 } else { hosts };
            let figures = run(&scenario);
            assert_one_refresh_each(&figures, 2 * grants, &format!("{arrangement:?} {processes} {hosts}"));
            assert!(figures.longest_run < scenario.deadline, "{arrangement:?} {processes} {hosts}");
        }
    }
}

#[test]
fn an_expiry_that_comes_while_processes_start_is_refreshed_once() {
    for arrangement in ARRANGEMENTS {
        for seed in 1..=3 {
            // Half a minute before its end the next process refreshes the token.
            let (start_after, start_within) = (Duration::from_secs(26), Duration::from_secs(8));
            let storm = Scenario::storm(arrangement, 600, 20);
            let scenario = Scenario { start_after, start_within, seed, ..storm };
            let grants = if arrangement.is_shared() { 1 } else { scenario.hosts };
            assert_one_refresh_each(&run(&scenario), grants, &format!("{arrangement:?} {seed}"));
        }
    }
}

#[test]
fn a_kill_costs_one_more_request_at_most_and_no_grant_with_a_grace_period() {
    let mut kills = 0;
    for arrangement in ARRANGEMENTS {
        for seed in 1..=5 {
            let accidents = Accidents { killed_spenders: 3, killed_share: 0.05, ..Accidents::default() };
            let scenario = Scenario { accidents, replay: GRACE, ..drizzle(arrangement, seed) };
            let figures = run(&scenario);
            let what = format!("{arrangement:?} {seed}");
            assert!(figures.server_requests <= figures.generations + figures.killed, "{what}");
            assert_eq!(
                (figures.lost_grants, figures.login_required, figures.unexpected),
                (0, 0, 0),
                "{what}"
            );
            assert_eq!(figures.tokens + figures.temporary + figures.killed, figures.processes, "{what}");
            assert!(figures.longest_run <= scenario.deadline + LAST_WORD, "{what}");
            kills += figures.killed_spenders;
        }
    }
    assert!(kills >= 25, "{kills} kills after a claim show little");
}

#[test]
fn a_process_that_sleeps_past_its_claim_costs_no_grant_with_a_grace_period() {
    let mut replays = 0;
    for arrangement in ARRANGEMENTS {
        for seed in 1..=5 {
            let suspension = Duration::from_secs(45);
            let accidents = Accidents { suspended_spenders: 1, suspension, ..Accidents::default() };
            let figures = run(&Scenario { accidents, replay: GRACE, ..drizzle(arrangement, seed) });
            let what = format!("{arrangement:?} {seed}");
            assert_eq!(
                (figures.lost_grants, figures.login_required, figures.unexpected),
                (0, 0, 0),
                "{what}"
            );
            assert!(figures.server_requests <= figures.generations + figures.suspended, "{what}");
            replays += figures.replays;
        }
    }
    assert!(replays > 0, "no live process was taken for dead");
}

#[test]
fn the_same_seed_brings_the_same_figures() {
    let accidents = Accidents { killed_spenders: 2, killed_share: 0.02, ..Accidents::default() };
    for arrangement in ARRANGEMENTS {
        let scenario = |seed| Scenario { accidents, ..drizzle(arrangement, seed) };
        assert_eq!(run(&scenario(1)), run(&scenario(1)));
        assert_ne!(run(&scenario(1)), run(&scenario(2)));
    }
}
