//! The authorization server of the fixtures keeps its promises: what other tests conclude from it holds.

mod client;
mod discovery;
mod faults;
mod logins;
mod refresh;
mod refusals;
mod tokens;
