//! The library against real sockets and against any bytes. No test here starts a program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

mod authorization_server;
mod http_outcomes;
mod oauth_over_http;
mod properties;
