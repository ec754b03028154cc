//! Brokers: `exec --serve` and `serve`, asked through plain sockets.

mod answers;
mod hostile;
mod lifetime;
mod nested;
mod serving;
mod sharing;

use crate::support::broker::*;
use crate::support::*;

/// The options of a broker at a Unix socket, and of one on loopback.
const UNIX: [&str; 2] = ["--serve", "unix:sock"];
const TCP: [&str; 2] = ["--serve", "tcp"];
