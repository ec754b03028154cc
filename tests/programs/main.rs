//! What other programs get: git, adapters, token formats, token files and commands with a token.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod aws;
mod broker;
mod events;
mod exec;
mod formats;
mod git;
mod helpers;
mod id_token;
mod mail;
mod python_keyring;
mod token_file;
