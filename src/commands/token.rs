//! `onegrant token`: prints a valid access token. It runs far more often than any other command.

use crate::cli;
use crate::output;
use crate::profile::Context;
use crate::profile::token_file::TokenFile;
use crate::profile::token_text;
use crate::session::Demand;

/// Gets a valid access token and prints it, or writes it to a file.
pub fn run(arguments: &cli::Token, context: &Context) -> anyhow::Result<()> {
    // A file that cannot be written is refused before any request is sent.
    let file = arguments.write.as_ref().map(|path| TokenFile::open(path, context.left())).transpose()?;
    let token = context.obtain(Demand::lasting(arguments.min_ttl))?;
    let text = token_text::text(&token.session, arguments.format.unwrap_or_default(), context)?;
    match file {
        Some(file) => Ok(file.write(text.as_bytes(), context.left())?),
        None => output::answer(text.as_bytes()),
    }
}
