//! `onegrant status` where the grant is on the other side of a broker: what the broker says about it.

use super::lock_use;
use crate::adapters::broker::Profile;
use crate::cli;
use crate::driver::Clock as _;
use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::grant::UnixSeconds;
use crate::output;
use crate::profile::Context;
use crate::protocol::hints::login_command;
use crate::session::condition::State;
use crate::store::broker::BrokerStore;
use crate::text::{date, printable};
use serde_json::{Value, json};

/// Shows the profile. Fails with exit 3 if no token can be obtained.
pub fn run(arguments: &cli::Status, store: &BrokerStore, context: &Context) -> anyhow::Result<()> {
    if arguments.history {
        return Err(BrokerStore::other_side().into());
    }
    let profile = context.served(store)?;
    let valid_for = profile.expires_at.map(|end| end.saturating_sub(context.now().wall).max(0));
    let text = match arguments.json {
        true => format!("{}\n", json(&profile, valid_for, context)),
        false => text(&profile, valid_for, context),
    };
    output::answer(text.as_bytes())?;
    match profile.state {
        State::Valid | State::Refreshable => Ok(()),
        State::LoginRequired => Err(login_required(&profile).into()),
    }
}

/// The failure of a profile whose session has ended.
pub fn login_required(profile: &Profile) -> Failure {
    let name = printable(profile.profile.as_deref().unwrap_or("default"));
    let message = format!("no access token: the session of profile {name} has ended; a login is required");
    Failure::new(Kind::LoginRequired, message)
        .hint(format!("where the grant is, run {}", login_command(&name)))
}

fn json(profile: &Profile, valid_for: Option<i64>, context: &Context) -> Value {
    let environment = Environment::read();
    let decisive = environment.decisive(context.globals.given).into_iter();
    let environment =
        decisive.map(|(name, value)| (name.to_owned(), printable(&value.to_string_lossy()).into()));
    let environment: serde_json::Map<String, Value> = environment.collect();
    json!({
        "profile": profile.profile,
        "store": context.globals.store.text().to_string_lossy(),
        "document": context.store.location(),
        "state": profile.state.name(),
        "issuer": profile.issuer,
        "scope": profile.scope,
        "resource": profile.resource,
        "git_hosts": profile.git_hosts,
        "git_username": profile.git_username,
        "expires_at": profile.expires_at,
        "valid_for": valid_for,
        "environment": environment,
        "lock": lock_use(context.globals.lock),
        "level": profile.level,
    })
}

fn text(profile: &Profile, valid_for: Option<i64>, context: &Context) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<14} {}\n", printable(value)));
    line("profile", profile.profile.as_deref().unwrap_or("not named"));
    line("document", &format!("on the other side of {}", context.store.location()));
    line("issuer", profile.issuer.as_deref().unwrap_or("not named"));
    if !profile.resource.is_empty() {
        line("resource", &profile.resource.join(" "));
    }
    line("scope", profile.scope.as_deref().unwrap_or("as the server chose"));
    if !profile.git_hosts.is_empty() {
        line("hosts", &profile.git_hosts.join(" "));
    }
    line("access token", &access_token(profile.state, valid_for, profile.expires_at));
    line("refresh token", "on the other side");
    line(
        "level",
        &match &profile.level {
            Some(level) => format!("{level}, on the other side"),
            None => "not known: the store of the other side does not answer".to_owned(),
        },
    );
    text
}

/// What can be said about the access token.
pub fn access_token(state: State, valid_for: Option<i64>, expires_at: Option<UnixSeconds>) -> String {
    match (state, valid_for.zip(expires_at)) {
        (State::LoginRequired, _) => "none: the session has ended".to_owned(),
        (State::Valid, None) => "valid until a server refuses it".to_owned(),
        (_, Some((left @ 1.., end))) => format!("valid for {left} s, until {}", date(end)),
        (_, _) => "the next call brings a new one".to_owned(),
    }
}
