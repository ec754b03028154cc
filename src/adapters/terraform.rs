//! Terraform's and OpenTofu's credentials helper: `HELPER get|store|forget HOST`.

use super::unsupported;
use crate::adapters::formats::bearer;
use crate::error::{Failure, Kind};
use crate::grant::Session;
use serde_json::json;

/// The answer if there is no token. Terraform continues without one.
pub const NO_TOKEN: &str = "{}";

/// The host that needs a token.
pub fn requested_host<'a>(arguments: &[&'a str]) -> Result<&'a str, Failure> {
    let refuse = |what: &str, hint: &str| Err(Failure::new(Kind::Usage, what).hint(hint));
    match arguments {
        ["get", host] => Ok(host),
        ["store", ..] => {
            refuse("cannot store the token of terraform login", "onegrant login --git-host HOST")
        }
        ["forget", ..] => {
            refuse("cannot forget a single host: the grant belongs to the profile", "onegrant logout")
        }
        _ => Err(unsupported("terraform", "its request is not get HOST")),
    }
}

/// The answer with the token.
pub fn answer(session: &Session) -> Result<String, Failure> {
    bearer(session)?;
    Ok(json!({ "token": session.access_token.expose() }).to_string())
}
