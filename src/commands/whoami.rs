//! `onegrant whoami`: whose grant it is, as the server says.

use super::Context;
use crate::cli;
use crate::error::{Failure, Kind, printable};
use crate::grant::Document;
use crate::oauth::userinfo::{self, Answer};
use crate::output;
use crate::protocol::claims;
use crate::session::{Demand, Unwanted};
use serde_json::{Map, Value};

/// Shows the userinfo endpoint's answer, or the ID token's claims.
pub fn run(arguments: &cli::Whoami, context: &Context) -> Result<(), Failure> {
    let stored = context.read()?.ok_or_else(|| context.no_grant())?;
    let claims = match &stored.document.userinfo_endpoint {
        Some(endpoint) => ask(endpoint, context)?,
        None => id_token_claims(&stored.document, context)?,
    };
    let text = if arguments.json { format!("{}\n", Value::Object(claims)) } else { show(&claims) };
    output::answer(text.as_bytes())
}

/// A 401 counts as a rejected token: one refresh, one more try (OpenID Connect Core section 5.3.3).
fn ask(endpoint: &str, context: &Context) -> Result<Map<String, Value>, Failure> {
    let token = context.obtain(Demand::default())?;
    let rejected = token.session.access_token;
    if let Answer::Claims(claims) = userinfo::ask(context.client(), endpoint, &rejected, context.left())? {
        return Ok(claims);
    }
    let demand = Demand { min_ttl: 0, unwanted: Unwanted::Rejected(rejected) };
    let token = context.obtain(demand)?;
    match userinfo::ask(context.client(), endpoint, &token.session.access_token, context.left())? {
        Answer::Claims(claims) => Ok(claims),
        Answer::Rejected(words) => {
            let message = format!("cannot ask who it is: the server refuses even a new access token: {words}");
            Err(Failure::new(Kind::LoginRequired, message).hint(context.login_command()))
        }
    }
}

fn id_token_claims(document: &Document, context: &Context) -> Result<Map<String, Value>, Failure> {
    let session = document.session.as_ref().ok_or_else(|| {
        let message = format!("the session of profile {} has ended", context.globals.profile);
        Failure::new(Kind::LoginRequired, message).hint(context.login_command())
    })?;
    session.id_token.as_ref().and_then(|token| claims::claims(token.expose())).ok_or_else(|| {
        Failure::new(Kind::Usage, "cannot tell who it is: the profile has no userinfo endpoint and no ID token")
            .hint(format!("{} --userinfo-endpoint URL --scope openid", context.login_command()))
    })
}

fn show(claims: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in claims {
        let value = match value {
            Value::String(value) => printable(value),
            other => printable(&other.to_string()),
        };
        text.push_str(&format!("{:<14} {value}\n", printable(name)));
    }
    text
}
