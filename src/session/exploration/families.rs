//! What is searched: families of scenarios, each with what must hold at its ends beside the invariants.

use super::invariants::{Excuse, Invariant};
use super::parts::generation;
use super::scenario::{AN_AGE, Budget, Job, Lock, PATIENT, Presences, Protection, Scenario, Server};
use super::search::{Counts, Promise, explore};
use super::world::{LOGIN, World};
use crate::error::Kind;
use crate::session::{LockUse, TokenResult, Unwanted};
use std::sync::OnceLock;

/// The fewest transitions that all families have together: with fewer, somebody has thinned the proof out.
const FEWEST_TRANSITIONS: usize = 800_000;

/// A family: its scenarios, and the fewest transitions that it has.
struct Family {
    scenarios: fn() -> Vec<(Scenario, Promise)>,
    fewest_transitions: usize,
    /// Searched once, whoever asks for it first.
    counts: OnceLock<Counts>,
}

impl Family {
    fn counts(&self) -> Counts {
        *self.counts.get_or_init(|| {
            let mut counts = Counts::default();
            for (scenario, promise) in (self.scenarios)() {
                counts += explore(scenario, promise);
            }
            counts
        })
    }
}

macro_rules! families {
    ($table:ident: $($(#[$attribute:meta])* $name:ident, at_least $fewest:literal, $scenarios:expr;)*) => {
        static $table: [(&str, Family); [$(stringify!($name)),*].len()] = [$((
            stringify!($name),
            Family { scenarios: || $scenarios, fewest_transitions: $fewest, counts: OnceLock::new() },
        )),*];

        $(#[test]
        $(#[$attribute])*
        fn $name() {
            search(&$table, stringify!($name));
        })*
    };
}

/// The levels whose claims bind, and what holds them up. A lock that is refused leads to what `Claim` is.
const BINDING: [(LockUse, Lock); 3] =
    [(LockUse::Auto, Lock::Excludes), (LockUse::Auto, Lock::Lies), (LockUse::Claim, Lock::Excludes)];

/// The harshest server that rotates, and the kindest.
const ROTATING: [Server; 2] = [Server::EndsTheFamily, Server::Grace];

const EVERY: [Server; 4] = [Server::EndsTheFamily, Server::Rejects, Server::Grace, Server::DoesNotRotate];

/// One scenario for each level that binds and each server, changed alike.
fn binding(
    processes: usize,
    servers: &[Server],
    promise: Promise,
    change: impl Fn(Scenario) -> Scenario,
) -> Vec<(Scenario, Promise)> {
    let levels = BINDING.iter().flat_map(|level| servers.iter().map(move |server| (level, *server)));
    let scenario = |((lock_use, lock), server): (&(LockUse, Lock), Server)| Scenario {
        lock: *lock,
        ..Scenario::of(&vec![*lock_use; processes], server)
    };
    levels.map(scenario).map(|scenario| (change(scenario), promise)).collect()
}

/// A move, and what comes in between, where the lock or a claim keeps them apart. The stored token lasts `left` seconds:
/// a process that finds it expired refreshes.
fn moves(left: i64, job: Job, killed_visitors: u8, promise: Promise) -> Vec<(Scenario, Promise)> {
    let levels =
        [(LockUse::Auto, Lock::Excludes), (LockUse::Auto, Lock::Refuses), (LockUse::Claim, Lock::Excludes)];
    let scenario = |(lock_use, lock)| {
        let scenario = Scenario { lock, left, ..Scenario::of(&[lock_use], Server::Rejects) };
        let scenario = scenario.visited(Job::Move, true).visited(job, true);
        (scenario.with(|budget| (budget.killed_visitors, budget.hastes) = (killed_visitors, 0)), promise)
    };
    levels.into_iter().map(scenario).collect()
}

/// Two who are not kept apart by anything that both heed.
const COMPARED: [[LockUse; 2]; 3] =
    [[LockUse::Off, LockUse::Off], [LockUse::Off, LockUse::Auto], [LockUse::Off, LockUse::Claim]];

fn compared(
    servers: &[Server],
    promise: Promise,
    change: impl Fn(Scenario) -> Scenario,
) -> Vec<(Scenario, Promise)> {
    let each = COMPARED.iter().flat_map(|lock_uses| servers.iter().map(move |server| (lock_uses, *server)));
    each.map(|(lock_uses, server)| (change(Scenario::of(lock_uses, server)), promise)).collect()
}

families! { FAMILIES:
    two_processes_refresh_once_and_have_the_same_token, at_least 11_000, {
        let servers = [Server::EndsTheFamily, Server::DoesNotRotate];
        let mut all = binding(2, &servers, World::everyone_has_the_same_token, |scenario| scenario);
        let refused = Scenario::of(&[LockUse::Auto; 2], Server::EndsTheFamily);
        all.push((Scenario { lock: Lock::Refuses, ..refused }, World::everyone_has_the_same_token));
        let mixed = Scenario::of(&[LockUse::Auto, LockUse::Claim], Server::EndsTheFamily);
        all.push((mixed, World::everyone_has_the_same_token));
        all
    };

    a_client_s_own_grant_is_asked_for_once_and_survives_kills_and_logins, at_least 15_000, {
        let servers = [Server::DoesNotRotate];
        let own = Scenario::in_the_client_s_own_name;
        let mut all = binding(2, &servers, World::everyone_has_the_same_token, own);
        all.extend(binding(2, &servers, World::nothing_more, |scenario| {
            own(scenario).with(|budget| (budget.crashes, budget.hastes) = (1, 2))
        }));
        all.extend(binding(1, &servers, World::nothing_more, |scenario| {
            own(scenario).visited(Job::Login, true).with(|budget| budget.hastes = 2)
        }));
        all
    };

    three_processes_refresh_once_and_have_the_same_token, at_least 25_000,
        binding(3, &[Server::EndsTheFamily], World::everyone_has_the_same_token, |scenario| {
            scenario.with(|budget| budget.hastes = 0)
        });

    whoever_is_killed_takes_no_session_along_that_was_written_down, at_least 40_000,
        binding(2, &EVERY, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.hastes) = (1, 2))
        });

    all_may_be_killed_and_the_next_one_goes_on, at_least 12_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.hastes) = (2, 0))
        });

    answers_that_are_lost_after_the_rotation_are_asked_for_once_more, at_least 20_000,
        binding(2, &EVERY, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.lost_answers, budget.hastes) = (1, 1))
        });

    requests_that_are_lost_before_the_rotation_are_sent_once_more, at_least 13_000,
        binding(2, &EVERY, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.lost_requests, budget.hastes) = (1, 1))
        });

    two_answers_are_lost_and_none_is_asked_for_a_third_time, at_least 7_200,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.lost_answers, budget.lost_requests, budget.hastes) = (1, 1, 0))
        });

    whoever_wakes_past_his_until_overwrites_nothing_newer, at_least 110_000,
        binding(2, &[Server::EndsTheFamily, Server::Grace, Server::DoesNotRotate], World::nothing_more, |scenario| {
            scenario.with_one_impatient().with(|budget| (budget.ages, budget.hastes) = (1, 1))
        });

    // The second request of a loser costs two more hastes.
    an_owner_who_sleeps_with_the_answer_is_awaited_before_the_verdict, at_least 14_900,
        binding(2, &[Server::Rejects], World::nothing_more, |scenario| {
            scenario.with_takers().with_one_impatient().with(|budget| (budget.ages, budget.hastes) = (1, 5))
        });

    two_take_over_one_stale_claim_and_one_gets_it, at_least 22_000,
        binding(3, &ROTATING, World::nothing_more, |scenario| {
            scenario.with_takers().with(|budget| (budget.crashes, budget.hastes) = (1, 0))
        });

    whoever_was_killed_on_another_machine_is_waited_for_until_his_claim_ends, at_least 32_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            let scenario = scenario.with_one_impatient().where_presence_is(Presences::Unknown);
            scenario.with(|budget| (budget.crashes, budget.hastes) = (1, 0))
        });

    whoever_sleeps_on_another_machine_costs_nobody_a_session, at_least 45_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            let scenario = scenario.with_one_impatient().where_presence_is(Presences::Unknown);
            scenario.with(|budget| (budget.ages, budget.hastes) = (1, 0))
        });

    a_reused_process_identifier_is_told_by_its_start_time, at_least 16_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            let often = |budget: &mut Budget| {
                (budget.crashes, budget.reused_identifiers, budget.hastes) = (1, 1, 0);
            };
            scenario.with(often)
        });

    a_reused_process_identifier_without_a_start_time_costs_time_and_no_session, at_least 47_000,
        binding(2, &[Server::EndsTheFamily], World::nothing_more, |scenario| {
            let scenario = scenario.with_one_impatient().where_presence_is(Presences::Identifiers);
            let often = |budget: &mut Budget| {
                (budget.crashes, budget.reused_identifiers, budget.hastes) = (1, 1, 0);
            };
            scenario.with(often)
        });

    without_lock_and_claim_nobody_overwrites_what_he_could_see, at_least 44_000, {
        let mut all = compared(&EVERY, World::nothing_more, |scenario| scenario);
        let kind = [Server::Rejects, Server::Grace];
        all.extend(compared(&kind, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.hastes) = (1, 1))
        }));
        all
    };

    a_sibling_s_session_that_has_expired_meanwhile_is_spent, at_least 30_000,
        compared(&[Server::Rejects], World::nothing_more, |scenario| {
            let scenario = Scenario { lifetime: AN_AGE - 1, deadlines: vec![PATIENT; 2], ..scenario };
            scenario.with(|budget| (budget.ages, budget.hastes) = (1, 0))
        });

    a_new_login_survives_every_refresh, at_least 62_000, {
        let mut all = Vec::new();
        for is_patient in [true, false] {
            all.extend(binding(2, &ROTATING, World::the_login_is_kept, |scenario| {
                scenario.visited(Job::Login, is_patient).with(|budget| budget.hastes = 1)
            }));
        }
        all
    };

    a_logout_survives_every_refresh_and_leaves_no_refresh_token_behind, at_least 120_000, {
        let mut all = Vec::new();
        for is_patient in [true, false] {
            all.extend(binding(2, &ROTATING, World::nothing_is_left_of_a_logout, |scenario| {
                scenario.visited(Job::Logout, is_patient).with(|budget| budget.hastes = 1)
            }));
        }
        all
    };

    a_logout_in_a_move_leaves_nothing_in_either_store, at_least 80_000, {
        let mut all = Vec::new();
        for (job, kills) in [(Job::Logout, 0), (Job::Logout, 1), (Job::LogoutThere, 0)] {
            all.extend(moves(3600, job, kills, World::nothing_is_left_of_a_logout_in_a_move));
        }
        all
    };

    a_move_that_is_killed_is_completed_by_the_next_one, at_least 27_000,
        moves(3600, Job::Move, 1, World::one_store_has_the_grant);

    a_login_in_a_move_leaves_one_usable_grant, at_least 3_600,
        moves(3600, Job::Login, 0, World::a_login_in_a_move_leaves_one_usable_grant);

    a_refresh_in_a_move_costs_no_session, at_least 90_000,
        moves(0, Job::Move, 0, World::one_store_has_the_grant);

    a_logout_in_a_move_and_a_refresh_leaves_nothing_in_either_store, at_least 150_000,
        moves(0, Job::Logout, 0, World::nothing_is_left_of_a_logout_in_a_move);

    whoever_waited_for_a_failure_makes_no_request, at_least 12_000,
        binding(2, &[Server::Down, Server::AsksToComeAgain], World::nothing_more, |scenario| {
            scenario.with_one_impatient().with(|budget| budget.hastes = 1)
        });

    an_answer_that_could_not_be_put_in_place_is_adopted, at_least 9_300,
        binding(2, &EVERY, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.failed_replacements, budget.hastes) = (1, 1))
        });

    forced_refreshes_coalesce, at_least 8_200,
        binding(2, &[Server::EndsTheFamily, Server::DoesNotRotate], World::one_refresh_for_each_first_read, |scenario| {
            Scenario { unwanted: Unwanted::FirstSeen, left: 3600, ..scenario }
        });

    while_the_token_works_nobody_waits_and_one_refreshes, at_least 1_300,
        binding(2, &[Server::EndsTheFamily], World::everyone_has_a_token_of_one_refresh, |scenario| {
            Scenario { left: 20, ..scenario }
        });

    a_caller_that_is_killed_loses_nothing_because_its_worker_goes_on, at_least 65_000,
        binding(2, &[Server::EndsTheFamily], World::nothing_more, |scenario| {
            scenario.with_workers().with(|budget| (budget.crashes, budget.hastes) = (1, 0))
        });

    a_refusal_that_the_server_withdraws_costs_no_session, at_least 33_000, {
        let mut all = binding(2, &[Server::RefusesOnce], World::everyone_has_the_same_token_after_a_refusal, |scenario| {
            scenario.with(|budget| budget.hastes = 1)
        });
        all.extend(binding(2, &[Server::RefusesOnce], World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.hastes) = (1, 0))
        }));
        all
    };

    what_is_dead_is_cleared_and_a_new_login_is_not, at_least 600, {
        // Not where a lock lies: there who clears believes that nobody can come between.
        let promise: Promise = World::the_login_is_kept;
        let each = [LockUse::Auto, LockUse::Claim, LockUse::Off].iter().map(|lock_use| {
            let scenario = Scenario::of(&[*lock_use], Server::HasRevoked).visited(Job::Login, false);
            (scenario.with(|budget| budget.hastes = 4), promise)
        });
        each.collect()
    };

    what_is_dead_is_asked_for_twice_by_one_process, at_least 29_000,
        binding(3, &[Server::HasRevoked], World::one_was_refused_twice_and_all_were_told, |scenario| {
            scenario.with(|budget| budget.hastes = 0)
        });

    caller_and_worker_are_killed_and_the_next_one_goes_on, at_least 1_000,
        binding(2, &[Server::EndsTheFamily], World::nothing_more, |scenario| {
            let scenario = Scenario { lock_uses: scenario.lock_uses[..1].to_vec(), ..scenario };
            scenario.with_workers().with(|budget| (budget.crashes, budget.hastes) = (2, 0))
        });
}

// More of the same, half a million transitions together: `.ci/exploration.sh`.
families! { LONGER_FAMILIES:
    #[ignore = "too many transitions for every run of the tests: .ci/exploration.sh"]
    two_take_over_the_claim_of_one_who_wakes_again, at_least 180_000, {
        let scenario = Scenario::of(&[LockUse::Claim; 3], Server::EndsTheFamily).with_takers();
        let scenario = scenario.with_one_impatient().with(|budget| (budget.ages, budget.hastes) = (1, 0));
        vec![(scenario, World::nothing_more)]
    };

    #[ignore = "too many transitions for every run of the tests: .ci/exploration.sh"]
    one_of_three_is_killed, at_least 170_000,
        binding(3, &[Server::EndsTheFamily], World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.hastes) = (1, 0))
        });

    #[ignore = "too many transitions for every run of the tests: .ci/exploration.sh"]
    one_is_killed_and_another_one_loses_an_answer, at_least 61_000,
        binding(2, &[Server::Rejects, Server::Grace], World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.lost_answers, budget.hastes) = (1, 1, 1))
        });

    #[ignore = "too many transitions for every run of the tests: .ci/exploration.sh"]
    one_wakes_past_his_until_and_another_one_is_killed, at_least 69_000,
        binding(2, &[Server::DoesNotRotate], World::nothing_more, |scenario| {
            scenario.with_one_impatient().with(|budget| (budget.ages, budget.crashes, budget.hastes) = (1, 1, 0))
        });

    #[ignore = "too many transitions for every run of the tests: .ci/exploration.sh"]
    one_is_killed_while_somebody_logs_out, at_least 52_000,
        binding(2, &[Server::Rejects], World::nothing_more, |scenario| {
            scenario.visited(Job::Logout, true).with(|budget| (budget.crashes, budget.hastes) = (1, 0))
        });

    #[ignore = "too many transitions for every run of the tests: .ci/exploration.sh"]
    two_of_two_callers_and_their_workers_are_killed, at_least 16_000, {
        let scenario = Scenario::of(&[LockUse::Auto; 2], Server::Rejects).with_workers();
        let scenario = scenario.with(|budget| (budget.crashes, budget.hastes) = (2, 0));
        vec![(scenario, World::nothing_more)]
    };
}

fn search(families: &[(&str, Family)], name: &str) {
    let (_, family) = families.iter().find(|(family, _)| *family == name).unwrap();
    let Counts { worlds, transitions, ends } = family.counts();
    println!("{worlds:>8} worlds {transitions:>9} transitions {ends:>6} ends: {name}");
    assert!(transitions >= family.fewest_transitions, "{name} has {transitions} transitions");
}

/// The last family first, so that this test and the others share the work.
#[test]
fn all_families_together_are_as_large_as_they_were() {
    let mut total = Counts::default();
    for (_, family) in FAMILIES.iter().rev() {
        total += family.counts();
    }
    let Counts { worlds, transitions, ends } = total;
    println!("{worlds:>8} worlds {transitions:>9} transitions {ends:>6} ends in all");
    assert!(transitions >= FEWEST_TRANSITIONS, "the proof has become thinner: {total:?}");
}

/// What the page promises is what is checked here, word for word.
#[test]
fn each_invariant_stands_in_the_page_of_guarantees() {
    let page = include_str!("../../../docs/guarantees.md").split_whitespace().collect::<Vec<_>>().join(" ");
    for invariant in Invariant::ALL {
        let entry = format!("**{}** {}", invariant.name(), invariant.sentence());
        assert!(page.contains(&entry), "docs/guarantees.md does not say: {entry}");
    }
}

// ---- what must hold at the ends of some ----

impl World {
    fn nothing_more(&self) -> bool {
        true
    }

    /// With one refresh.
    fn everyone_has_the_same_token(&self) -> bool {
        let has_it =
            |result: &TokenResult| result.as_ref().is_ok_and(|token| generation(&token.session) == 1);
        self.sends.len() == 1 && self.results().all(has_it)
    }

    /// With one request that was refused, and a second one by the same process.
    fn everyone_has_the_same_token_after_a_refusal(&self) -> bool {
        let has_it =
            |result: &TokenResult| result.as_ref().is_ok_and(|token| generation(&token.session) == 1);
        self.sends.len() == 2 && self.sends[0] == self.sends[1] && self.results().all(has_it)
    }

    fn the_login_is_kept(&self) -> bool {
        let is_kept = self.stored_generation().is_some_and(|stored| stored >= LOGIN);
        is_kept || self.excuses.contains(&Excuse::CameBetween)
    }

    fn nothing_is_left_of_a_logout(&self) -> bool {
        match self.protection() {
            Protection::Locked => self.document.is_none() && self.server.are_all_gone(),
            _ => self.document.is_none() || self.excuses.contains(&Excuse::CameBetween),
        }
    }

    fn one_was_refused_twice_and_all_were_told(&self) -> bool {
        let needs_a_login =
            |result: &TokenResult| result.as_ref().is_err_and(|failure| failure.kind == Kind::LoginRequired);
        let is_one = self.sends.iter().all(|(_, by)| *by == self.sends[0].1);
        self.sends.len() == 2 && is_one && self.results().all(needs_a_login)
    }

    fn everyone_has_a_token_of_one_refresh(&self) -> bool {
        self.sends.len() == 1 && self.results().all(Result::is_ok)
    }

    fn one_refresh_for_each_first_read(&self) -> bool {
        let readers_of_the_first =
            self.processes.iter().filter(|process| process.first_read == Some(0)).count();
        let refreshes = if readers_of_the_first == 2 { 1 } else { 2 };
        self.results().all(Result::is_ok) && self.sends.len() == refreshes
    }
}
