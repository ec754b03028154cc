//! `--browser`: a person agrees in a browser that comes back to this machine (RFC 8252).

use super::super::Context;
use super::Gained;
use crate::cli;
use crate::error::{Failure, Kind};
use crate::grant::Document;

/// Not here yet.
pub fn run(_: &cli::Login, _: &Document, _: &Context) -> anyhow::Result<Gained> {
    Err(Failure::new(Kind::Usage, "cannot log in with a browser yet").hint("onegrant login --device").into())
}
