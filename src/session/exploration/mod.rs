//! Every interleaving of a few real machines around one store, one lock and one authorization server.
//!
//! A world is a value. Each [`world::Transition`] makes another world of it. A depth-first [`search`] visits every world
//! that can be reached: at each point any process may make its next small step, be killed, be suspended past its `until`, or
//! lose a request or an answer, as often as the budget of the scenario allows. Commands ([`commands`]) log in, log out and
//! migrate the grant meanwhile.
//!
//! Two stores are explored. The file store makes a step in several calls, and each call is a transition ([`acts`]): it
//! reads the records before the document, sweeps after a claim, writes the answer beside the document, compares, and
//! renames. A store that swaps (etcd, Kubernetes) reads and changes document and records in one step, and keeps an answer
//! that waits as a file of one machine. [`invariants`] has what must hold in each world.
//!
//! Time passes if no process can go on, and a few times (`Budget::delays`) although one could: a process may be slower than
//! the pauses of another one, but not for ever.
//!
//! The `scope` of a session is its generation: it distinguishes worlds, because secrets do not print.
//!
//! No model checker is used: `stateright` explores models that are written as its actors: their state has `Hash` and
//! `Eq`, and their timers have no instants. The machines that are explored here are the product's own, with secrets,
//! deadlines and two clocks. Wrapped into one actor they would leave only the seventy lines of [`search`] to it.

mod acts;
mod commands;
mod families;
mod invariants;
mod parts;
mod scenario;
mod search;
mod server;
mod world;
