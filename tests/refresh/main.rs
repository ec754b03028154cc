//! A refresh: one refresh token is spent once, by one process, whatever happens to it and around it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod clock_jumps;
mod comparison_loop;
mod crowds;
mod fleet;
mod interrupted;
mod signals;
mod verbose;
mod worker;
