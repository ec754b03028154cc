//! The search: depth first through every world that a scenario can reach.

use super::invariants::Invariant;
use super::scenario::Scenario;
use super::world::{Transition, World, story};
use std::collections::HashSet;
use std::ops::AddAssign;
use std::rc::Rc;

/// The size of a search.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub worlds: usize,
    pub transitions: usize,
    /// The worlds in which nothing can happen any more.
    pub ends: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.transitions += other.transitions;
        self.ends += other.ends;
    }
}

/// What must hold at each end, in addition to the invariants, which hold everywhere.
pub(super) type Promise = fn(&World) -> bool;

/// A world on the current path, and its transitions that are not explored yet.
struct Stop {
    key: u128,
    world: World,
    moves: Vec<Transition>,
    by: Option<Transition>,
}

/// Visits every world that the scenario can reach.
pub(super) fn explore(scenario: Scenario, promise: Promise) -> Counts {
    let scenario = Rc::new(scenario);
    let mut start = World::new(&scenario);
    let mut path: Vec<Stop> = Vec::new();
    let (mut on_path, mut met, mut left_behind) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut counts = Counts::default();
    let fail = |path: &[Stop], last: Option<Transition>, complaint: &str| -> ! {
        let moves: Vec<Transition> = path.iter().filter_map(|stop| stop.by).chain(last).collect();
        panic!("{complaint}\nin {scenario:?}\n{}", story(&scenario, &moves));
    };
    let mut enter = Some((start.key(), start, None));
    loop {
        if let Some((key, mut world, by)) = enter.take() {
            let is_over = world.is_over();
            let mut moves = world.transitions();
            if is_over {
                moves.clear();
                counts.ends += 1;
                world.check_failures();
                if left_behind.insert(world.key_of_the_rest()) {
                    world.check_next();
                }
            } else if moves.is_empty() {
                fail(&path, by, &format!("{}: a process is stuck", Invariant::EverythingEnds.name()));
            }
            if let Some(broken) = &world.broken {
                fail(&path, by, &format!("{}: {}", broken.invariant.name(), broken.how));
            }
            if is_over && !promise(&world) {
                fail(&path, by, "the promise does not hold");
            }
            met.insert(key);
            on_path.insert(key);
            path.push(Stop { key, world, moves, by });
        }
        let Some(stop) = path.last_mut() else { break };
        match stop.moves.pop() {
            None => {
                on_path.remove(&stop.key);
                path.pop();
            }
            Some(next) => {
                let mut after = stop.world.after(next);
                let key = after.key();
                counts.transitions += 1;
                if on_path.contains(&key) {
                    fail(&path, Some(next), &format!("{}: a loop", Invariant::EverythingEnds.name()));
                }
                if !met.contains(&key) {
                    enter = Some((key, after, Some(next)));
                }
            }
        }
    }
    counts.worlds = met.len();
    println!(
        "{:>8} worlds {:>9} transitions {:>6} ends: {}",
        counts.worlds,
        counts.transitions,
        counts.ends,
        scenario.title()
    );
    counts
}
