//! Every interleaving of a few real machines around one store, one lock and one authorization server.
//!
//! A world is a value. Each [`world::Move`] makes another world of it, and a depth-first [`search`] meets every world
//! that can be: at each point any process may go on by its smallest step, be killed, be suspended past its `until`,
//! lose a request or an answer, as often as the scenario's budget allows. What a driver and a file store do in
//! several calls is several moves here ([`acts`]): the records are read before the document, a claim sweeps after it
//! stands, a server decides before its answer arrives, an answer lies beside the document before it is compared, and
//! is compared before it is renamed. What must hold stands in [`invariants`], by name.
//!
//! Time passes when nobody can go on, and a few times (`Budget::hastes`) although somebody could: a process may
//! be slower than another one's pauses, but not for ever.
//!
//! A session's `scope` is its generation, so that worlds can be told apart although secrets do not print.
//!
//! Why no model checker from the shelf: `stateright` explores models that are written as its actors, whose state
//! has `Hash` and `Eq` and whose timers have no instants. The machines explored here are the product's own, with
//! secrets that do not hash, deadlines, and two clocks that move with what the others do; wrapped into one actor
//! they would leave to it a set of digests and a stack, which is the seventy lines of [`search`].

mod acts;
mod families;
mod invariants;
mod parts;
mod scenario;
mod search;
mod server;
mod visitor;
mod world;
