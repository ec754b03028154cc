//! The authorization server of the fixtures keeps its promises: what other tests conclude from it holds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect has failed"
)]

#[path = "../../fixtures/authorization_server/mod.rs"]
mod authorization_server;

mod client;
mod discovery;
mod faults;
mod logins;
mod refresh;
mod refusals;
mod tokens;
