//! The stores: files, a keyring, etcd, Kubernetes; and how a grant moves from one to another.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod cells;
mod conformance;
mod file;
mod keyring;
mod kubernetes;
mod migrate;
