//! `onegrant refresh`: a forced refresh. Calls at the same time share one refresh.

use crate::cli::{self, Format};
use crate::output;
use crate::profile::{Context, token_text};
use crate::session::{Demand, Unwanted};
use crate::system::secret::read_secret;

/// Prints an access token that is not the one stored now, or not the rejected one.
pub fn run(arguments: &cli::Refresh, context: &Context) -> anyhow::Result<()> {
    let unwanted = match arguments.rejected {
        true => Unwanted::Rejected(
            read_secret(&mut std::io::stdin().lock(), "the rejected token on stdin")
                .map_err(|failure| failure.hint("printf %s \"$REFUSED\" | onegrant refresh --rejected"))?,
        ),
        false => Unwanted::FirstSeen,
    };
    let token = context.obtain(Demand::other_than(unwanted))?;
    output::answer(token_text::text(&token.session, Format::Raw, context)?.as_bytes())
}
