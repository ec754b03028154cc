//! `onegrant whoami`: shows what the server says about the person who logged in.

use crate::adapters::formats::Given;
use crate::cli;
use crate::driver::Clock as _;
use crate::error::{Failure, Kind};
use crate::grant::{ClientGrant, Document, TokenKind};
use crate::oauth::userinfo::userinfo;
use crate::output;
use crate::profile::Context;
use crate::protocol::userinfo::Userinfo;
use crate::protocol::{claims, id_token, scope};
use crate::session::{Demand, Unwanted};
use crate::text::printable;
use serde_json::{Map, Value};

/// How often the server is asked: with the stored token, and with a new one.
const MAX_TRIES: u32 = 2;

/// The column of the values unless a name is longer; as in `status`.
const MIN_WIDTH: usize = 14;

/// Shows the answer of the userinfo endpoint, or the claims of the ID token.
pub fn run(arguments: &cli::Whoami, context: &Context) -> anyhow::Result<()> {
    let stored = context.read()?.ok_or_else(|| context.no_grant())?;
    let claims = match stored.document.userinfo_endpoint {
        Some(_) => ask(&stored.document, context)?,
        None => id_token_claims(&stored.document, context)?,
    };
    let text = if arguments.json { format!("{}\n", Value::Object(claims)) } else { show(&claims) };
    output::answer(text.as_bytes())
}

/// The failure for a grant without a person, if the server says nothing about the client either. No login helps.
fn no_person(grant: &ClientGrant, why: &str) -> Failure {
    let grant = match grant {
        ClientGrant::ClientCredentials => "client credentials",
        ClientGrant::TokenExchange { .. } => "token exchange",
    };
    Failure::new(Kind::Usage, format!("cannot tell who it is: the grant has no person ({grant}), and {why}"))
}

/// Asks the userinfo endpoint. A 401 means a rejected token: one refresh, one more request (OpenID Connect Core section 5.3.3).
fn ask(document: &Document, context: &Context) -> Result<Map<String, Value>, Failure> {
    let mut demand = Demand::default();
    for _ in 0..MAX_TRIES {
        let access_token = context.obtain(demand)?.session.access_token;
        let answer = userinfo(context.client(), document, &access_token, context.left()).transpose();
        let answer = answer.map_err(|failure| match &document.grant {
            Some(grant) if failure.kind != Kind::Temporary => no_person(grant, &failure.message),
            _ => failure,
        });
        match answer? {
            Some(Userinfo::Claims(claims)) => match &document.grant {
                Some(grant) if claims.is_empty() => {
                    return Err(no_person(grant, "the userinfo endpoint says nothing about the client"));
                }
                _ => return same_person(claims, document),
            },
            Some(Userinfo::InsufficientScope(scope)) => {
                return Err(insufficient_scope(scope.as_deref(), document));
            }
            Some(Userinfo::Rejected) | None => {
                demand = Demand::other_than(Unwanted::Rejected(access_token));
            }
        }
    }
    if let Some(grant) = &document.grant {
        return Err(no_person(grant, "the userinfo endpoint refuses its access tokens"));
    }
    let message = "cannot ask who it is: the server refuses even a new access token";
    Err(Failure::new(Kind::LoginRequired, message).hint(context.login_command()))
}

/// A server that does not say which scope it demands wants at least `openid` (OpenID Connect Core section 5.3).
fn insufficient_scope(demanded: Option<&str>, document: &Document) -> Failure {
    let has_too_little = match demanded {
        Some(demanded) => {
            let scope = printable(demanded);
            format!(
                "the userinfo endpoint wants the scope \"{scope}\", and the access token does not have it"
            )
        }
        None => "the access token has too little scope for the userinfo endpoint".to_owned(),
    };
    match &document.grant {
        Some(grant) => no_person(grant, &has_too_little),
        None => Failure::new(Kind::LoginRequired, format!("cannot ask who it is: {has_too_little}"))
            .hint(scope::login_with(demanded.unwrap_or("openid"), document)),
    }
}

/// Claims about another person than the one who logged in must not be used (OpenID Connect Core section 5.3.2).
fn same_person(claims: Map<String, Value>, document: &Document) -> Result<Map<String, Value>, Failure> {
    let session = document.session.as_ref();
    let id_token = session.and_then(|session| session.id_token.as_ref());
    let known = id_token.and_then(|token| claims::claims(token.expose()));
    match known.as_ref().and_then(|known| known.get("sub")) {
        Some(subject) if claims.get("sub").is_some_and(|found| found != subject) => Err(Failure::new(
            Kind::LoginRequired,
            "cannot tell who it is: the userinfo endpoint describes another person than the ID token",
        )),
        _ => Ok(claims),
    }
}

/// The claims of the ID token. One that has expired is not used, here as elsewhere: the grant is refreshed for another one.
fn id_token_claims(document: &Document, context: &Context) -> Result<Map<String, Value>, Failure> {
    if document.session.as_ref().is_some_and(|session| session.id_token.is_none()) {
        let why = "the profile has no userinfo endpoint and no ID token";
        return Err(match &document.grant {
            Some(grant) => no_person(grant, why),
            None => Failure::new(Kind::Usage, format!("cannot tell who it is: {why}"))
                .hint(format!("{} --userinfo-endpoint URL --scope openid", context.login_command())),
        });
    }
    let cannot = |failure: Failure| Failure {
        message: format!("cannot tell who it is: {}", failure.message),
        ..failure
    };
    let session = context.obtain(Demand::lasting(TokenKind::IdToken, None)).map_err(cannot)?.session;
    let id_token = Given::new(&session, TokenKind::IdToken)?;
    if context.store.broker().is_some() {
        // The other side has checked it, and knows for which client it is.
        return claims::claims(id_token.token())
            .ok_or_else(|| cannot(Failure::new(Kind::Usage, "the ID token is no JWT")));
    }
    let checked = id_token::check(id_token.secret(), document, None, context.now().wall);
    checked.map_err(|failure| Failure { hint: Some(context.login_command()), ..cannot(failure) })
}

fn show(claims: &Map<String, Value>) -> String {
    let width = claims.keys().map(|name| printable(name).chars().count()).max().unwrap_or(0).max(MIN_WIDTH);
    let mut text = String::new();
    for (name, value) in claims {
        let value = match value {
            Value::String(value) => printable(value),
            other => printable(&other.to_string()),
        };
        text.push_str(&format!("{:<width$} {value}\n", printable(name)));
    }
    text
}
