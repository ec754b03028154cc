//! `onegrant token`: prints a valid access token or ID token. It runs far more often than any other command.

use crate::adapters::formats::Given;
use crate::cli;
use crate::output;
use crate::profile::Context;
use crate::profile::token_file::TokenFile;
use crate::profile::token_text;
use crate::session::Demand;

/// Gets a valid token and prints it, or writes it to a file.
pub fn run(arguments: &cli::Token, context: &Context) -> anyhow::Result<()> {
    // A file that cannot be written is refused before any request is sent.
    let file = arguments.write.as_ref().map(|path| TokenFile::open(path, context.left())).transpose()?;
    let kind = arguments.kind();
    let token = context.obtain(Demand::lasting(kind, arguments.min_ttl))?;
    let given = Given::new(&token.session, kind)?;
    let text = token_text::text(given, arguments.format.unwrap_or_default(), context)?;
    match file {
        Some(file) => Ok(file.write(text.as_bytes(), context.left())?),
        None => output::answer(text.as_bytes()),
    }
}
