//! Terraform's and OpenTofu's credentials helper: `HELPER get|store|forget HOST`.

use super::unknown;
use crate::adapters::formats::bearer;
use crate::error::{Failure, Kind};
use crate::grant::Session;
use serde_json::json;

/// The answer where there is no token, and Terraform may go on without one.
pub const NO_TOKEN: &str = "{}";

/// The host that a token is asked for.
pub fn asked<'a>(arguments: &[&'a str]) -> Result<&'a str, Failure> {
    let refuse = |what: &str, hint: &str| Err(Failure::new(Kind::Usage, what).hint(hint));
    match arguments {
        ["get", host] => Ok(host),
        ["store", ..] => refuse("cannot store what terraform logged in to", "onegrant login --git-host HOST"),
        ["forget", ..] => refuse("cannot forget a host alone: it is the profile's grant", "onegrant logout"),
        _ => Err(unknown("terraform", "it asks for something else than get HOST")),
    }
}

/// The token.
pub fn answer(session: &Session) -> Result<String, Failure> {
    bearer(session)?;
    Ok(json!({ "token": session.access_token.expose() }).to_string())
}
