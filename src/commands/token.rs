//! `onegrant token`: the command that runs 999 times of 1,000.

use crate::adapters::formats;
use crate::cli::{self, Format};
use crate::environment::variable;
use crate::error::{Failure, Kind};
use crate::grant::Session;
use crate::output;
use crate::profile::Context;
use crate::profile::token_file::TokenFile;
use crate::session::{Demand, Unwanted};
use std::ffi::OsString;
use std::time::Duration;

/// Gets a valid access token and prints it, or writes it to a file.
pub fn run(arguments: &cli::Token, context: &Context) -> anyhow::Result<()> {
    // What cannot be written is refused before anything is requested.
    let file = arguments.write.as_ref().map(|path| TokenFile::open(path, context.left())).transpose()?;
    let token = context.obtain(lasting(arguments.min_ttl))?;
    let text = format(&token.session, arguments.format.unwrap_or_default(), context)?;
    match file {
        Some(file) => Ok(file.write(text.as_bytes(), context.left())?),
        None => output::answer(text.as_bytes()),
    }
}

/// Any token that lasts so long.
pub fn lasting(min_ttl: Option<Duration>) -> Demand {
    let seconds = min_ttl.unwrap_or_default().as_secs();
    Demand { min_ttl: i64::try_from(seconds).unwrap_or(i64::MAX), unwanted: Unwanted::None }
}

/// The text of a token. The only place, with the helpers, where a command lets a secret out.
pub fn format(session: &Session, format: Format, context: &Context) -> Result<String, Failure> {
    match format {
        Format::Raw => Ok(format!("{}\n", session.access_token.expose())),
        Format::Bearer => Ok(formats::bearer(session)? + "\n"),
        Format::Header => Ok(format!("Authorization: {}\n", formats::bearer(session)?)),
        Format::Json => Ok(format!("{}\n", formats::object(session))),
        Format::Curl => formats::curl(session),
        Format::Netrc => {
            let document = context.document()?.ok_or_else(|| context.no_grant())?;
            formats::netrc(session, &document)
        }
        Format::ExecCredential => match variable("KUBERNETES_EXEC_INFO").map(OsString::into_string) {
            Some(Ok(request)) => formats::exec_credential(session, Some(&request)),
            None => formats::exec_credential(session, None),
            Some(Err(_)) => Err(Failure::new(Kind::Usage, "KUBERNETES_EXEC_INFO: it is not UTF-8")),
        },
    }
}
