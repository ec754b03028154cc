//! `onegrant refresh`: a forced refresh that coalesces.

use super::token;
use crate::cli::{self, Format};
use crate::output;
use crate::profile::Context;
use crate::session::{Demand, Unwanted};
use crate::system::secret::read_secret;

/// Gets another access token than the one that is stored now, or than the rejected one, and prints it.
pub fn run(arguments: &cli::Refresh, context: &Context) -> anyhow::Result<()> {
    let unwanted = match arguments.rejected {
        true => Unwanted::Rejected(
            read_secret(&mut std::io::stdin().lock(), "the rejected token on stdin")
                .map_err(|failure| failure.hint("printf %s \"$REFUSED\" | onegrant refresh --rejected"))?,
        ),
        false => Unwanted::FirstSeen,
    };
    let token = context.obtain(Demand { min_ttl: 0, unwanted })?;
    output::answer(token::format(&token.session, Format::Raw, context)?.as_bytes())
}
