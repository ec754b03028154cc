//! How a grant is obtained and given back: each way to log in, each provider, and the logout.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod address;
mod browser;
mod device;
mod errors;
mod import;
mod logout;
mod providers;
mod without_a_person;
