//! `--client-credentials` and `--subject-token`: a grant of the client's own, without a person.

use super::super::Context;
use super::Gained;
use crate::error::{Failure, Kind};
use crate::grant::Document;

/// Not here yet.
pub fn run(_: &Document, _: &Context) -> anyhow::Result<Gained> {
    Err(Failure::new(Kind::Usage, "cannot log in without a person yet")
        .hint("onegrant login --device")
        .into())
}
