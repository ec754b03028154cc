//! What the machine and the network do wrong: kills, failing calls, power cuts, file systems, limits, connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod broken_connections;
mod crash_sweep;
mod fault_sweep;
mod file_systems;
mod limits;
mod minimal_environments;
mod mutations;
mod named_addresses;
mod power_cut;
mod unreachable_servers;
