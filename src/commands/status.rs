//! `onegrant status`: shows what is stored, without the network and without secrets.

pub mod brokered;

use crate::cli;
use crate::driver::{self, Clock};
use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::grant::{ClientAuthentication, ClientGrant, Credential, Document, TokenKind, UnixSeconds, object};
use crate::history;
use crate::output;
use crate::profile::Context;
use crate::profile::access::lock_level;
use crate::protocol::{claims, id_token, time_words};
use crate::session::condition::{Condition, State};
use crate::session::{Level, LockUse, expiry_of, no_session};
use crate::text::{date, describe, printable};
use serde_json::{Value, json};
use std::ffi::OsStr;

/// How long before the end of a client secret `status` warns, in seconds: a week. Servers let them live for a month or more.
const CLIENT_SECRET_ENDS_SOON: i64 = 7 * 24 * 60 * 60;

/// Shows the profile. Fails with exit 3 if no token can be obtained.
pub fn run(arguments: &cli::Status, context: &Context) -> anyhow::Result<()> {
    if let Some(store) = context.store.broker() {
        return brokered::run(arguments, store, context);
    }
    let stored = match context.read().and_then(|read| read.ok_or_else(|| context.no_grant())) {
        Ok(stored) => stored,
        // The history is shown even if there is no document.
        Err(failure) if arguments.history => {
            output::answer(history(arguments, context, json!({}), String::new())?.as_bytes())?;
            return Err(failure.into());
        }
        Err(failure) => return Err(failure.into()),
    };
    let rejected = driver::find_rejected(&context.dependencies(), &stored)?;
    let report = Report::new(context, &stored.document, rejected);
    let text = match (arguments.history, arguments.json) {
        (true, json) => {
            let members = if json { report.json() } else { json!({}) };
            history(arguments, context, members, report.text() + "\n")?
        }
        (false, true) => format!("{}\n", report.json()),
        (false, false) => report.text(),
    };
    output::answer(text.as_bytes())?;
    let warnings = [report.refresh_token_warning(), report.client_secret_warning()];
    warnings.iter().flatten().for_each(|warning| context.warn(warning));
    Ok(report.verdict()?)
}

/// The output with the last entries of the history after the rest.
fn history(
    arguments: &cli::Status,
    context: &Context,
    mut members: Value,
    text: String,
) -> Result<String, Failure> {
    let events = context.history().and_then(|path| history::read(&path)).map_err(|error| {
        Failure::new(Kind::Store, format!("cannot read the history: {}", describe(&error)))
    })?;
    if arguments.json {
        if let Value::Object(members) = &mut members {
            members.insert("profile".to_owned(), context.globals.profile.as_str().into());
            members.insert("history".to_owned(), json!(events));
        }
        return Ok(format!("{members}\n"));
    }
    let lines = events.iter().map(|event| event.line() + "\n");
    let nothing = "nothing has happened to this grant yet\n";
    Ok(text + if events.is_empty() { nothing } else { "" } + &lines.collect::<String>())
}

struct Report<'a> {
    context: &'a Context,
    document: &'a Document,
    condition: Condition,
    level: Result<Level, Failure>,
    rejected: Option<Failure>,
}

impl<'a> Report<'a> {
    fn new(context: &'a Context, document: &'a Document, rejected: Option<Failure>) -> Self {
        Self {
            context,
            document,
            condition: Condition::of(document, rejected.as_ref(), context.now()),
            level: lock_level(&*context.store, context.globals.lock),
            rejected,
        }
    }

    fn id_token(&self) -> Option<IdToken> {
        let session = self.document.session.as_ref()?;
        let audience =
            id_token::audience(&claims::claims(session.id_token.as_ref()?.expose()).unwrap_or_default());
        Some(IdToken { audience, expires_at: expiry_of(session, TokenKind::IdToken) })
    }

    fn verdict(&self) -> Result<(), Failure> {
        match (&self.rejected, self.condition.state) {
            (_, State::Valid) => Ok(()),
            // A refresh needs a store that can be written.
            (_, State::Refreshable) => {
                self.document.check_trust()?;
                self.context.store.check_access()
            }
            (Some(rejected), State::LoginRequired) => Err(rejected.clone()),
            (None, State::LoginRequired) => {
                let rejected = self.document.rejected.as_ref();
                Err(no_session(self.context.globals.profile.as_str(), rejected))
            }
        }
    }

    /// The warning that a login is required at a known time, so that people can plan it.
    fn refresh_token_warning(&self) -> Option<Failure> {
        let (end, left) = self.condition.refresh_token_end?;
        let message = match left {
            ..=0 => format!("the refresh token has expired: the server let it end at {}", date(end)),
            _ => format!(
                "the refresh token expires in {}, at {}: a login is required then, unless a refresh brings another one \
                 before",
                time_words(left.unsigned_abs()),
                date(end)
            ),
        };
        Some(Failure::new(Kind::LoginRequired, message).hint(self.context.login_command()))
    }

    /// The warning that the server of a registered client will refuse its secret.
    fn client_secret_warning(&self) -> Option<Failure> {
        let end = self.client_secret_end()?;
        let message = match end.saturating_sub(self.context.now().wall) {
            ..=0 => format!("the client secret has expired: the server let it end at {}", date(end)),
            left if left > CLIENT_SECRET_ENDS_SOON => return None,
            left => format!(
                "the client secret expires in {}, at {}: the server refuses the client then",
                time_words(left.unsigned_abs()),
                date(end)
            ),
        };
        let hint = format!("{} --register", self.context.login_command());
        Some(Failure::new(Kind::LoginRequired, message).hint(hint))
    }

    /// When the secret of a registered client ends (RFC 7591 section 3.2.1).
    fn client_secret_end(&self) -> Option<UnixSeconds> {
        let registration = self.document.registration.as_ref()?;
        registration.client_secret_expires_at.filter(|_| self.document.client_secret.is_some())
    }

    /// What the server of a registered client said about it, without the registration access token.
    fn registration(&self) -> Option<Value> {
        let registration = self.document.registration.as_ref()?;
        let mut members = json!({
            "issuer": registration.issuer,
            "endpoint": registration.endpoint,
            "redirect_uri": registration.redirect_uri,
            "registered_at": registration.registered_at,
        });
        if let (Some(members), Some(end)) = (members.as_object_mut(), self.client_secret_end()) {
            members.insert("client_secret_expires_at".to_owned(), end.into());
        }
        Some(members)
    }

    /// What the environment decided.
    fn environment(&self) -> Vec<(String, Value)> {
        let environment = Environment::read();
        let decisive = environment.decisive(self.context.globals.given);
        let shown = |value: &OsStr| Value::from(printable(&value.to_string_lossy()));
        decisive.into_iter().map(|(name, value)| (name.to_owned(), shown(value))).collect()
    }

    fn json(&self) -> Value {
        let session = self.document.session.as_ref();
        let grant = match &self.document.grant {
            None => "refresh_token",
            Some(ClientGrant::ClientCredentials) => "client_credentials",
            Some(ClientGrant::TokenExchange { .. }) => "token_exchange",
        };
        let mut report = json!({
            "profile": self.context.globals.profile.as_str(),
            "store": self.context.globals.store.text().to_string_lossy(),
            "document": self.context.store.location(),
            "state": self.condition.state.name(),
            "issuer": self.document.issuer,
            "token_endpoint": self.document.token_endpoint,
            "client_id": self.document.client_id,
            "client_auth": self.document.client_auth,
            "scope": session.and_then(|session| session.scope.as_ref()).or(self.document.scope.as_ref()),
            "expires_at": self.condition.expires_at,
            "valid_for": self.condition.valid_for,
            "obtained_at": session.map(|session| session.obtained_at),
            "has_refresh_token": self.document.refresh_token().is_some(),
            "grant": grant,
            "environment": object(self.environment()),
            "lock": lock_use(self.context.globals.lock),
            "level": self.level.as_ref().ok().map(|level| self.context.store.level_name(*level)),
            "last_refresh": self.document.last_refresh,
        });
        if let Some(members) = report.as_object_mut() {
            let moving_to = self.document.moving.as_ref().map(|moving| moving.to.as_str().into());
            let end = self.condition.refresh_token_end.map(|(end, _)| end.into());
            members.extend(moving_to.map(|to| ("moving_to".to_owned(), to)));
            members.extend(end.map(|end| ("refresh_token_expires_at".to_owned(), end)));
            let Document { resource, no_resource, resource_metadata, .. } = self.document;
            let resources = (!resource.is_empty()).then(|| json!(resource));
            members.extend(resources.map(|resources| ("resource".to_owned(), resources)));
            members.extend(no_resource.then(|| ("no_resource".to_owned(), true.into())));
            let metadata = resource_metadata.as_ref().map(|url| url.as_str().into());
            members.extend(metadata.map(|url| ("resource_metadata".to_owned(), url)));
            let id_token = self
                .id_token()
                .map(|id_token| json!({ "audience": id_token.audience, "expires_at": id_token.expires_at }));
            members.extend(id_token.map(|id_token| ("id_token".to_owned(), id_token)));
            let registration = self.registration();
            members.extend(registration.map(|registration| ("registration".to_owned(), registration)));
        }
        report
    }

    fn text(&self) -> String {
        let session = self.document.session.as_ref();
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            text.push_str(&format!("{name:<14} {}\n", printable(&value)));
        };
        line("profile", self.context.globals.profile.to_string());
        line("document", self.context.store.location());
        let environment = self.environment();
        if !environment.is_empty() {
            let said =
                environment.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("")));
            line("environment", said.collect::<Vec<_>>().join(" "));
        }
        line("issuer", self.document.issuer.clone().unwrap_or_else(|| self.document.token_endpoint.clone()));
        line("client", self.client());
        if let Some(registration) = &self.document.registration {
            let end = self.client_secret_end().map(|end| format!("; its secret expires at {}", date(end)));
            let (at, end) = (date(registration.registered_at), end.unwrap_or_default());
            line("registered", format!("by a login at {at}, with {}{end}", registration.issuer));
        }
        if !self.document.resource.is_empty() {
            let sent = if self.document.no_resource { " (not sent: --no-resource)" } else { "" };
            line("resource", self.document.resource.join(" ") + sent);
        }
        let scope = session.and_then(|session| session.scope.clone()).or_else(|| self.document.scope.clone());
        line("scope", scope.unwrap_or_else(|| "as the server chose".to_owned()));
        line(
            "access token",
            match (self.condition.valid_for, session) {
                (_, None) => "none: the session has ended".to_owned(),
                (_, Some(session)) if session.access_token_rejected => "refused by a server".to_owned(),
                (None, Some(_)) => "valid until a server refuses it".to_owned(),
                (Some(0), Some(_)) => {
                    format!("expired since {}", date(self.condition.expires_at.unwrap_or(0)))
                }
                (Some(left), Some(_)) => {
                    format!("valid for {left} s, until {}", date(self.condition.expires_at.unwrap_or(0)))
                }
            },
        );
        line(
            "refresh token",
            match (&self.rejected, self.document.credential()) {
                (_, None) if let Some(moving) = &self.document.moving => {
                    format!("on its way to {}", moving.to)
                }
                (Some(_), _) => "refused by the server".to_owned(),
                (None, Some(Credential::RefreshToken(_))) => match self.condition.refresh_token_end {
                    None => "stored".to_owned(),
                    Some((end, ..=0)) => format!("expired since {}", date(end)),
                    Some((end, left)) => format!("stored, valid for {left} s, until {}", date(end)),
                },
                (None, Some(Credential::Client(ClientGrant::ClientCredentials))) => {
                    "not needed: the client asks in its own name".to_owned()
                }
                (None, Some(Credential::Client(ClientGrant::TokenExchange { subject_token, .. }))) => {
                    format!("not needed: exchanges the token of {subject_token}")
                }
                (None, None) => "none".to_owned(),
            },
        );
        if let Some(id_token) = self.id_token() {
            line("ID token", id_token.text(self.context.now().wall));
        }
        line(
            "refreshed",
            match &self.document.last_refresh {
                Some(last) => format!("{} by process {} on {}", date(last.at), last.pid, last.host),
                None => "not since the login".to_owned(),
            },
        );
        line("level", match &self.level {
            Ok(level @ Level::Locked) => {
                format!("{}: one process at a time spends a refresh token", self.context.store.level_name(*level))
            }
            Ok(level @ Level::Claimed) => {
                format!("{}: an exclusive record replaces the lock", self.context.store.level_name(*level))
            }
            Ok(Level::Compared) => {
                "compared: two processes can refresh at once; a server that ends the grant on replay can end it"
                    .to_owned()
            }
            Err(failure) => format!("none: {}", failure.message),
        });
        text
    }

    /// The client, and the place of its secret or key if that is not stored.
    fn client(&self) -> String {
        let Document { client_id, client_auth, client_secret_env, client_key, .. } = self.document;
        let proof = match client_auth {
            ClientAuthentication::PrivateKeyJwt => {
                client_key.as_ref().map(|key| format!("its key in {}", key.file.display()))
            }
            ClientAuthentication::Basic | ClientAuthentication::Post => {
                client_secret_env.as_ref().map(|name| format!("its secret in the variable {name}"))
            }
            ClientAuthentication::None => None,
        };
        proof.map_or_else(|| client_id.clone(), |proof| format!("{client_id} ({proof})"))
    }
}

/// What can be said about the stored ID token.
struct IdToken {
    /// For which programs it is.
    audience: Vec<String>,
    expires_at: Option<UnixSeconds>,
}

impl IdToken {
    fn text(&self, now: UnixSeconds) -> String {
        let audience = match self.audience.as_slice() {
            [] => "for no audience that can be read".to_owned(),
            audience => format!("for {}", audience.join(", ")),
        };
        match self.expires_at.map(|end| (end, end.saturating_sub(now))) {
            None => format!("{audience}; it does not say when it expires"),
            Some((end, ..=0)) => format!("{audience}; expired since {}", date(end)),
            Some((end, left)) => format!("{audience}; valid for {left} s, until {}", date(end)),
        }
    }
}

fn lock_use(lock_use: LockUse) -> &'static str {
    match lock_use {
        LockUse::Auto => "auto",
        LockUse::Require => "require",
        LockUse::Claim => "claim",
        LockUse::Off => "off",
    }
}
