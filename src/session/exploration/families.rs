//! The families of scenarios that are searched, each with what must hold at its ends in addition to the invariants.

use super::invariants::{Excuse, Invariant};
use super::parts::generation;
use super::scenario::{
    Budget, Command, Demanded, LONG_DEADLINE, Lock, Presences, Protection, SUSPENSION, Scenario, Server,
};
use super::search::{Counts, Promise, explore};
use super::world::{LOGIN, World};
use crate::error::Kind;
use crate::session::texts::NO_OTHER_ID_TOKEN;
use crate::session::{LockUse, TokenResult, Unwanted};
use std::sync::OnceLock;

/// The fewest transitions of all families together. Fewer transitions prove less.
const FEWEST_TRANSITIONS: usize = 3_800_000;

/// A family: its scenarios, and the fewest transitions that it has.
struct Family {
    scenarios: fn() -> Vec<(Scenario, Promise)>,
    fewest_transitions: usize,
    /// Filled by the first test that needs it.
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
    ($($name:ident, at_least $fewest:literal, $scenarios:expr;)*) => {
        static FAMILIES: [(&str, Family); [$(stringify!($name)),*].len()] = [$((
            stringify!($name),
            Family { scenarios: || $scenarios, fewest_transitions: $fewest, counts: OnceLock::new() },
        )),*];

        $(#[test]
        fn $name() {
            search(stringify!($name));
        })*
    };
}

/// Where a grant is kept, and how its processes use locks.
#[derive(Clone, Copy)]
struct Place {
    lock_use: LockUse,
    lock: Lock,
    swaps: bool,
}

impl Place {
    const fn file(lock_use: LockUse, lock: Lock) -> Self {
        Self { lock_use, lock, swaps: false }
    }

    /// A store that compares and swaps has no locks.
    const fn cell(lock_use: LockUse) -> Self {
        Self { lock_use, lock: Lock::Refuses, swaps: true }
    }

    fn scenario(self, processes: usize, server: Server) -> Scenario {
        let Self { lock_use, lock, swaps } = self;
        Scenario { lock, swaps, ..Scenario::of(&vec![lock_use; processes], server) }
    }
}

/// The places where claims bind. In the file store a lock that is refused leads to what `Claim` is.
const BINDING: [Place; 4] = [
    Place::file(LockUse::Auto, Lock::Excludes),
    Place::file(LockUse::Auto, Lock::GrantsToAll),
    Place::file(LockUse::Claim, Lock::Excludes),
    Place::cell(LockUse::Auto),
];

/// The harshest server that rotates, and the kindest.
const ROTATING: [Server; 2] = [Server::EndsTheFamily, Server::Grace];

const EVERY: [Server; 4] = [Server::EndsTheFamily, Server::Rejects, Server::Grace, Server::DoesNotRotate];

/// Leaves out the scenarios that equal another one: a command with an excluding lock meets no claim to wait for.
fn without_equal_waits(mut scenarios: Vec<(Scenario, Promise)>) -> Vec<(Scenario, Promise)> {
    scenarios.retain(|(scenario, _)| {
        scenario.protection() != Protection::Locked
            || scenario.commands.iter().all(|run| run.waits_for_claims)
    });
    scenarios
}

/// Keeps the scenarios in which a comparison and its replacement are one step. Elsewhere two commands can come between them.
fn with_atomic_changes(mut scenarios: Vec<(Scenario, Promise)>) -> Vec<(Scenario, Promise)> {
    scenarios.retain(|(scenario, _)| scenario.swaps || scenario.protection() == Protection::Locked);
    scenarios
}

/// One scenario for each place where claims bind and each server, changed alike.
fn binding(
    processes: usize,
    servers: &[Server],
    promise: Promise,
    change: impl Fn(Scenario) -> Scenario,
) -> Vec<(Scenario, Promise)> {
    let each = BINDING.iter().flat_map(|place| servers.iter().map(move |server| (place, *server)));
    each.map(|(place, server)| (change(place.scenario(processes, server)), promise)).collect()
}

/// A migration and another command at the same time, where a lock or claims bind. The stored token lasts `left` seconds:
/// with 0 a process refreshes it meanwhile.
fn migrations(
    left: i64,
    command: Command,
    killed_commands: u8,
    promise: Promise,
) -> Vec<(Scenario, Promise)> {
    let places = [
        Place::file(LockUse::Auto, Lock::Excludes),
        Place::file(LockUse::Claim, Lock::Excludes),
        Place::cell(LockUse::Auto),
    ];
    let scenario = |place: Place| {
        let scenario = Scenario { left, ..place.scenario(1, Server::Rejects) };
        let scenario = scenario.with_command(Command::Migrate, true).with_command(command, true);
        (scenario.with(|budget| (budget.killed_commands, budget.delays) = (killed_commands, 0)), promise)
    };
    places.into_iter().map(scenario).collect()
}

/// Pairs of processes that share neither a lock nor binding claims.
const COMPARED: [[LockUse; 2]; 3] =
    [[LockUse::Off, LockUse::Off], [LockUse::Off, LockUse::Auto], [LockUse::Off, LockUse::Claim]];

fn compared(
    servers: &[Server],
    promise: Promise,
    change: impl Fn(Scenario) -> Scenario,
) -> Vec<(Scenario, Promise)> {
    let each = COMPARED.iter().flat_map(|lock_uses| servers.iter().map(move |server| (lock_uses, *server)));
    let scenarios = each.flat_map(|(lock_uses, server)| {
        let scenario = Scenario::of(lock_uses, server);
        [scenario.clone(), scenario.where_the_store_swaps()]
    });
    scenarios.map(|scenario| (change(scenario), promise)).collect()
}

families! {
    two_processes_refresh_once_and_have_the_same_token, at_least 19_000, {
        let servers = [Server::EndsTheFamily, Server::DoesNotRotate];
        let mut all = binding(2, &servers, World::everyone_has_the_same_token, |scenario| scenario);
        let refused = Scenario::of(&[LockUse::Auto; 2], Server::EndsTheFamily);
        all.push((Scenario { lock: Lock::Refuses, ..refused }, World::everyone_has_the_same_token));
        let mixed = Scenario::of(&[LockUse::Auto, LockUse::Claim], Server::EndsTheFamily);
        all.push((mixed, World::everyone_has_the_same_token));
        all
    };

    a_client_grant_is_requested_once_and_survives_kills_and_logins, at_least 24_000, {
        let servers = [Server::DoesNotRotate];
        let own = Scenario::with_a_client_grant;
        let mut all = binding(2, &servers, World::everyone_has_the_same_token, own);
        all.extend(binding(2, &servers, World::nothing_more, |scenario| {
            own(scenario).with(|budget| (budget.crashes, budget.delays) = (1, 2))
        }));
        all.extend(binding(1, &servers, World::nothing_more, |scenario| {
            own(scenario).with_command(Command::Login, true).with(|budget| budget.delays = 2)
        }));
        all
    };

    three_processes_refresh_once_and_have_the_same_token, at_least 61_000,
        binding(3, &[Server::EndsTheFamily], World::everyone_has_the_same_token, |scenario| {
            scenario.with(|budget| budget.delays = 0)
        });

    a_killed_process_loses_no_session_that_was_written, at_least 73_000,
        binding(2, &EVERY, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.delays) = (1, 2))
        });

    the_next_process_continues_after_all_were_killed, at_least 21_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.delays) = (2, 0))
        });

    an_answer_that_is_lost_after_the_rotation_is_requested_once_more, at_least 35_000,
        binding(2, &EVERY, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.lost_answers, budget.delays) = (1, 1))
        });

    a_request_that_is_lost_before_the_rotation_is_sent_once_more, at_least 22_000,
        binding(2, &EVERY, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.lost_requests, budget.delays) = (1, 1))
        });

    after_two_lost_answers_there_is_no_third_request, at_least 12_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.lost_answers, budget.lost_requests, budget.delays) = (1, 1, 0))
        });

    a_process_that_wakes_after_its_claim_ended_overwrites_nothing_newer, at_least 170_000,
        binding(2, &[Server::EndsTheFamily, Server::Grace, Server::DoesNotRotate], World::nothing_more, |scenario| {
            scenario.with_one_short_deadline().with(|budget| (budget.suspensions, budget.delays) = (1, 1))
        });

    // The second request after a refusal needs two more delays.
    a_suspended_process_with_the_answer_is_awaited_before_the_verdict, at_least 18_000,
        binding(2, &[Server::Rejects], World::nothing_more, |scenario| {
            scenario.with_late_starters().with_one_short_deadline().with(|budget| (budget.suspensions, budget.delays) = (1, 5))
        });

    of_two_processes_that_take_over_a_stale_claim_one_succeeds, at_least 36_000,
        binding(3, &ROTATING, World::nothing_more, |scenario| {
            scenario.with_late_starters().with(|budget| (budget.crashes, budget.delays) = (1, 0))
        });

    the_claim_of_a_process_killed_on_another_machine_binds_until_it_ends, at_least 57_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            let scenario = scenario.with_one_short_deadline().where_presence_is(Presences::Unknown);
            scenario.with(|budget| (budget.crashes, budget.delays) = (1, 0))
        });

    a_suspended_process_on_another_machine_loses_no_session, at_least 68_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            let scenario = scenario.with_one_short_deadline().where_presence_is(Presences::Unknown);
            scenario.with(|budget| (budget.suspensions, budget.delays) = (1, 0))
        });

    a_reused_process_identifier_is_recognized_by_its_start_time, at_least 29_000,
        binding(2, &ROTATING, World::nothing_more, |scenario| {
            let often = |budget: &mut Budget| {
                (budget.crashes, budget.reused_identifiers, budget.delays) = (1, 1, 0);
            };
            scenario.with(often)
        });

    a_reused_process_identifier_without_a_start_time_costs_time_and_no_session, at_least 100_000,
        binding(2, &[Server::EndsTheFamily], World::nothing_more, |scenario| {
            let scenario = scenario.with_one_short_deadline().where_presence_is(Presences::Identifiers);
            let often = |budget: &mut Budget| {
                (budget.crashes, budget.reused_identifiers, budget.delays) = (1, 1, 0);
            };
            scenario.with(often)
        });

    without_lock_and_claim_no_visible_newer_session_is_overwritten, at_least 74_000, {
        let mut all = compared(&EVERY, World::nothing_more, |scenario| scenario);
        let kind = [Server::Rejects, Server::Grace];
        all.extend(compared(&kind, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.delays) = (1, 1))
        }));
        all
    };

    a_newer_session_that_has_expired_is_refreshed, at_least 48_000,
        compared(&[Server::Rejects], World::nothing_more, |scenario| {
            let scenario = Scenario { lifetime: SUSPENSION - 1, deadlines: vec![LONG_DEADLINE; 2], ..scenario };
            scenario.with(|budget| (budget.suspensions, budget.delays) = (1, 0))
        });

    a_new_login_survives_every_refresh, at_least 100_000, {
        let mut all = Vec::new();
        for waits_for_claims in [true, false] {
            all.extend(binding(2, &ROTATING, World::the_login_is_kept, |scenario| {
                scenario.with_command(Command::Login, waits_for_claims).with(|budget| budget.delays = 1)
            }));
        }
        without_equal_waits(all)
    };

    a_killed_login_loses_no_session, at_least 1_400,
        binding(1, &ROTATING, World::nothing_more, |scenario| {
            let scenario = scenario.with_command(Command::Login, true);
            scenario.with(|budget| (budget.killed_commands, budget.delays) = (1, 1))
        });

    a_login_and_a_logout_leave_the_new_grant_or_none, at_least 2_800,
        with_atomic_changes(binding(1, &[Server::Rejects], World::the_new_grant_is_left_or_none, |scenario| {
            let scenario = scenario.with_command(Command::Login, true).with_command(Command::Logout, true);
            scenario.with(|budget| budget.delays = 0)
        }));

    a_logout_survives_every_refresh_and_leaves_no_refresh_token_behind, at_least 440_000, {
        let mut all = Vec::new();
        for waits_for_claims in [true, false] {
            all.extend(binding(2, &ROTATING, World::nothing_is_left_of_a_logout, |scenario| {
                scenario.with_command(Command::Logout, waits_for_claims).with(|budget| budget.delays = 1)
            }));
        }
        without_equal_waits(all)
    };

    a_killed_logout_is_completed_by_the_next_one, at_least 9_800,
        with_atomic_changes(binding(1, &[Server::Rejects], World::nothing_is_left_of_a_completed_logout, |scenario| {
            let scenario = scenario.with_command(Command::Logout, true).with_command(Command::Logout, true);
            scenario.with(|budget| (budget.killed_commands, budget.delays) = (1, 0))
        }));

    a_logout_during_a_migration_leaves_nothing_in_either_store, at_least 86_000, {
        let mut all = Vec::new();
        for (command, kills) in [(Command::Logout, 0), (Command::Logout, 1), (Command::LogoutAtTarget, 0)] {
            all.extend(migrations(3600, command, kills, World::nothing_is_left_of_a_completed_logout));
        }
        all
    };

    a_migration_that_is_killed_is_completed_by_the_next_one, at_least 24_000,
        migrations(3600, Command::Migrate, 1, World::one_store_has_the_grant);

    a_login_during_a_migration_leaves_one_usable_grant, at_least 3_100,
        migrations(3600, Command::Login, 0, World::one_grant_is_usable_after_a_login);

    a_refresh_during_a_migration_loses_no_session, at_least 74_000,
        migrations(0, Command::Migrate, 0, World::one_store_has_the_grant);

    a_logout_during_a_migration_and_a_refresh_leaves_nothing_in_either_store, at_least 140_000,
        migrations(0, Command::Logout, 0, World::nothing_is_left_of_a_completed_logout);

    a_process_that_waited_for_a_failed_attempt_sends_no_request, at_least 21_000,
        binding(2, &[Server::Down, Server::AsksToComeAgain], World::nothing_more, |scenario| {
            scenario.with_one_short_deadline().with(|budget| budget.delays = 1)
        });

    an_answer_that_could_not_be_put_in_place_is_adopted, at_least 15_000,
        binding(2, &EVERY, World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.failed_replacements, budget.delays) = (1, 1))
        });

    a_replacement_that_the_store_does_not_answer_loses_no_session, at_least 5_500, {
        let each = EVERY.iter().map(|server| Place::cell(LockUse::Auto).scenario(2, *server));
        let often = |budget: &mut Budget| (budget.unanswered_replacements, budget.delays) = (1, 1);
        let promise: Promise = World::nothing_more;
        each.map(|scenario| (scenario.with(often), promise)).collect()
    };

    forced_refreshes_coalesce, at_least 14_000,
        binding(2, &[Server::EndsTheFamily, Server::DoesNotRotate], World::one_refresh_for_each_first_read, |scenario| {
            Scenario { unwanted: Unwanted::FirstSeen, left: 3600, ..scenario }
        });

    processes_that_demand_the_id_token_share_one_refresh, at_least 43_000, {
        let servers = [Server::EndsTheFamily, Server::DoesNotRotate];
        let demand = |scenario: Scenario| scenario.with_a_demand_for(Demanded::IdToken);
        let mut all = binding(2, &servers, World::everyone_has_the_same_token, demand);
        all.extend(binding(2, &ROTATING, World::nothing_more, |scenario| {
            demand(scenario).with(|budget| (budget.crashes, budget.delays) = (1, 1))
        }));
        all
    };

    a_refresh_without_an_id_token_is_made_once_and_all_say_so, at_least 100_000, {
        let demand = |scenario: Scenario| scenario.with_a_demand_for(Demanded::IdTokenThatNeverComes);
        let mut all = binding(3, &[Server::EndsTheFamily], World::one_refresh_and_no_id_token, |scenario| {
            demand(scenario).with(|budget| budget.delays = 0)
        });
        all.extend(binding(2, &ROTATING, World::nothing_more, |scenario| {
            demand(scenario).with(|budget| (budget.crashes, budget.delays) = (1, 1))
        }));
        all
    };

    a_refusal_over_the_id_token_keeps_the_access_token_that_works, at_least 3_000,
        binding(2, &[Server::HasRevoked], World::all_need_a_login_and_the_session_stays, |scenario| {
            scenario.with_a_demand_for(Demanded::IdToken).with(|budget| budget.delays = 0)
        });

    while_the_token_works_no_process_waits_and_one_refreshes, at_least 3_800,
        {
            let kind = [Server::EndsTheFamily];
            let mut all = binding(2, &kind, World::everyone_has_a_token_of_one_refresh, |scenario| {
                Scenario { left: 20, ..scenario }
            });
            all.extend(binding(2, &[Server::Down], World::everyone_has_the_old_token, |scenario| {
                Scenario { left: 20, ..scenario }
            }));
            all
        };

    a_killed_caller_loses_nothing_because_its_worker_continues, at_least 110_000,
        binding(2, &[Server::EndsTheFamily], World::nothing_more, |scenario| {
            scenario.with_workers().with(|budget| (budget.crashes, budget.delays) = (1, 0))
        });

    a_refusal_that_the_server_withdraws_costs_no_session, at_least 51_000, {
        let mut all = binding(2, &[Server::RefusesOnce], World::everyone_has_the_same_token_after_a_refusal, |scenario| {
            scenario.with(|budget| budget.delays = 1)
        });
        all.extend(binding(2, &[Server::RefusesOnce], World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.delays) = (1, 0))
        }));
        all
    };

    a_dead_session_is_cleared_and_a_new_login_is_not, at_least 1_200, {
        // Not for a lock that is granted to all: its holder clears because it relies on the lock.
        let promise: Promise = World::the_login_is_kept;
        let files = [LockUse::Auto, LockUse::Claim, LockUse::Off].map(|lock_use| Place::file(lock_use, Lock::Excludes));
        let cells = [LockUse::Auto, LockUse::Off].map(Place::cell);
        let each = files.into_iter().chain(cells).map(|place| {
            let scenario = place.scenario(1, Server::HasRevoked).with_command(Command::Login, false);
            (scenario.with(|budget| budget.delays = 4), promise)
        });
        each.collect()
    };

    a_dead_session_costs_two_requests_of_one_process, at_least 66_000,
        binding(3, &[Server::HasRevoked], World::one_was_refused_twice_and_all_know_it, |scenario| {
            scenario.with(|budget| budget.delays = 0)
        });

    the_next_process_continues_after_caller_and_worker_were_killed, at_least 1_500,
        binding(2, &[Server::EndsTheFamily], World::nothing_more, |scenario| {
            let scenario = Scenario { lock_uses: scenario.lock_uses[..1].to_vec(), ..scenario };
            scenario.with_workers().with(|budget| (budget.crashes, budget.delays) = (2, 0))
        });

    two_processes_take_over_the_claim_of_a_suspended_one, at_least 180_000, {
        let scenario = Scenario::of(&[LockUse::Claim; 3], Server::EndsTheFamily).with_late_starters();
        let scenario = scenario.with_one_short_deadline().with(|budget| (budget.suspensions, budget.delays) = (1, 0));
        vec![(scenario, World::nothing_more)]
    };

    one_of_three_processes_is_killed, at_least 170_000,
        binding(3, &[Server::EndsTheFamily], World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.delays) = (1, 0))
        });

    one_process_is_killed_and_another_one_loses_an_answer, at_least 61_000,
        binding(2, &[Server::Rejects, Server::Grace], World::nothing_more, |scenario| {
            scenario.with(|budget| (budget.crashes, budget.lost_answers, budget.delays) = (1, 1, 1))
        });

    one_process_wakes_after_its_claim_ended_and_another_one_is_killed, at_least 69_000,
        binding(2, &[Server::DoesNotRotate], World::nothing_more, |scenario| {
            scenario.with_one_short_deadline().with(|budget| (budget.suspensions, budget.crashes, budget.delays) = (1, 1, 0))
        });

    a_process_is_killed_during_a_logout, at_least 52_000,
        binding(2, &[Server::Rejects], World::nothing_more, |scenario| {
            scenario.with_command(Command::Logout, true).with(|budget| (budget.crashes, budget.delays) = (1, 0))
        });

    two_of_two_callers_and_two_workers_are_killed, at_least 16_000, {
        let scenario = Scenario::of(&[LockUse::Auto; 2], Server::Rejects).with_workers();
        let scenario = scenario.with(|budget| (budget.crashes, budget.delays) = (2, 0));
        vec![(scenario, World::nothing_more)]
    };
}

fn search(name: &str) {
    let (_, family) = FAMILIES.iter().find(|(family, _)| *family == name).unwrap();
    let Counts { worlds, transitions, ends } = family.counts();
    println!("{worlds:>8} worlds {transitions:>9} transitions {ends:>6} ends: {name}");
    assert!(transitions >= family.fewest_transitions, "{name} has {transitions} transitions");
}

/// It begins with the last family, so that this test and the others share the work.
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

#[test]
fn code_and_documentation_have_the_same_list_of_invariants() {
    let page = include_str!("../../../docs/guarantees.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let design = include_str!("../../../docs/design.md");
    let code = include_str!("../mod.rs");
    for invariant in Invariant::ALL {
        let name = format!("**{}**", invariant.name());
        assert!(code.contains(&name), "src/session/mod.rs does not name {name}");
        let entry = format!("{name} {}", invariant.sentence());
        assert!(page.contains(&entry), "docs/guarantees.md does not say: {entry}");
    }
    let entries = code.lines().filter_map(|line| line.strip_prefix("//! - **")?.split_once("** "));
    assert_eq!(entries.clone().count(), Invariant::ALL.len());
    for (name, sentence) in entries {
        let (number, words) = name.split_once(' ').unwrap();
        let row = format!("\n| {number} | {words} | {sentence} |");
        assert!(design.contains(&row), "docs/design.md has no row {row}");
    }
}

// ---- what must hold at the ends of some families ----

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

    /// And the session of the refresh is stored.
    fn one_refresh_and_no_id_token(&self) -> bool {
        let is_missing = |result: &TokenResult| {
            result.as_ref().is_err_and(|failure| {
                failure.kind == Kind::LoginRequired && failure.message == NO_OTHER_ID_TOKEN
            })
        };
        self.sends.len() == 1 && self.stored_generation() == Some(1) && self.results().all(is_missing)
    }

    fn all_need_a_login_and_the_session_stays(&self) -> bool {
        let needs_a_login =
            |result: &TokenResult| result.as_ref().is_err_and(|failure| failure.kind == Kind::LoginRequired);
        self.stored_generation() == Some(0) && self.results().all(needs_a_login)
    }

    fn the_login_is_kept(&self) -> bool {
        let is_kept = self.stored_generation().is_some_and(|stored| stored >= LOGIN);
        is_kept || self.excuses.contains(&Excuse::CameBetween)
    }

    /// The login is stored and works, or the logout removed it.
    fn the_new_grant_is_left_or_none(&self) -> bool {
        match self.stored_generation() {
            Some(stored) => stored >= LOGIN && self.server.takes(self.scenario.server, stored),
            None => self.is_logged_out,
        }
    }

    fn everyone_has_the_old_token(&self) -> bool {
        let has_it =
            |result: &TokenResult| result.as_ref().is_ok_and(|token| generation(&token.session) == 0);
        self.results().all(has_it)
    }

    fn nothing_is_left_of_a_logout(&self) -> bool {
        match self.protection() {
            Protection::Locked => self.document.is_none() && self.server.are_all_gone(),
            _ => self.document.is_none() || self.excuses.contains(&Excuse::CameBetween),
        }
    }

    /// The session is cleared wherever looking and clearing is one step.
    fn one_was_refused_twice_and_all_know_it(&self) -> bool {
        let needs_a_login =
            |result: &TokenResult| result.as_ref().is_err_and(|failure| failure.kind == Kind::LoginRequired);
        let is_one = self.sends.iter().all(|(_, by)| *by == self.sends[0].1);
        // A lock that is granted to all is a lock for the process that has it.
        let has_lock = self.scenario.lock_uses[0] == LockUse::Auto && self.scenario.lock != Lock::Refuses;
        let is_cleared = self.stored_generation().is_none() == (has_lock || self.scenario.swaps);
        self.sends.len() == 2 && is_one && is_cleared && self.results().all(needs_a_login)
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
