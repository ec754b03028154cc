//! `onegrant token`: the command that runs 999 times of 1,000.

use super::Context;
use crate::cli::{self, Format};
use crate::error::{Failure, Kind, printable};
use crate::grant::Session;
use crate::output;
use crate::session::{Demand, Unwanted, expiry};
use crate::store::setup::write_atomically;
use anyhow::Context as _;
use serde_json::json;

/// Gets a valid access token and prints it, or writes it to a file.
pub fn run(arguments: &cli::Token, context: &Context) -> anyhow::Result<()> {
    let min_ttl = arguments.min_ttl.unwrap_or_default().as_secs();
    let demand = Demand { min_ttl: i64::try_from(min_ttl).unwrap_or(i64::MAX), unwanted: Unwanted::None };
    let token = context.obtain(demand)?;
    let text = format(&token.session, arguments.format.unwrap_or_default())?;
    match &arguments.write {
        Some(path) => write_atomically(path, text.as_bytes()).context("cannot write the token"),
        None => output::answer(text.as_bytes()),
    }
}

/// The text of a token. The only place, with `refresh`, where a command lets a secret out.
pub fn format(session: &Session, format: Format) -> Result<String, Failure> {
    let access_token = session.access_token.expose();
    match format {
        Format::Raw => Ok(format!("{access_token}\n")),
        Format::Header if !session.token_type.eq_ignore_ascii_case("bearer") => {
            let message =
                format!("cannot make a header: the token is of type {}", printable(&session.token_type));
            Err(Failure::new(Kind::Usage, message).hint("onegrant token --format json"))
        }
        Format::Header => Ok(format!("Authorization: Bearer {access_token}\n")),
        Format::Json => {
            let object = json!({
                "access_token": access_token,
                "token_type": session.token_type,
                "expires_at": expiry(session),
                "scope": session.scope,
            });
            let line = serde_json::to_string(&object);
            line.map(|line| line + "\n").map_err(|error| Failure::new(Kind::Defect, error.to_string()))
        }
    }
}
