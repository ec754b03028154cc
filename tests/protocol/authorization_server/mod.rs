//! The authorization server of the fixtures keeps its promises: what other tests conclude from it holds.

mod address_clients;
mod client;
mod discovery;
mod faults;
mod logins;
mod refresh;
mod refusals;
mod registration;
mod resources;
mod tokens;
