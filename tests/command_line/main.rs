//! What a person reads: help, manual, completions, status, doctor, history, and the commands in the documentation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod completions;
mod doctor;
mod doctor_address;
mod documented_commands;
mod guarantees;
mod help_text;
mod history;
mod man_pages;
mod profiles;
mod status;
mod whoami;
