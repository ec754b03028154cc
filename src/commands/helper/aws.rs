//! `onegrant helper aws`: credentials of a role for the ID token of the grant.
//!
//! All processes use the credentials of one request, until five minutes before their end. The lock of the cache only keeps
//! requests apart: where there is none, or where its holder is stopped, a process makes a request of its own.

use crate::adapters::aws::{self, Options, Variables};
use crate::adapters::aws_cache::{self, Cached, Entry, Owner};
use crate::adapters::formats::Given;
use crate::cli;
use crate::driver::Clock;
use crate::environment;
use crate::error::Failure;
use crate::grant::{Document, Secret, TokenKind, UnixSeconds};
use crate::http::HttpOutcome;
use crate::lock::{Guard, Locked};
use crate::output;
use crate::profile::Context;
use crate::profile::credential_cache::CredentialCache;
use crate::protocol::sts::{self, Answer, Credentials, Role};
use crate::session::{Demand, LockMode, Unwanted};
use crate::text::date;
use std::time::Duration;

/// The most requests of one process. One of them may have another ID token, and the others follow a temporary error.
const MAX_REQUESTS: u32 = 3;

/// The pause before a request is repeated if the server names none.
const PAUSE: Duration = Duration::from_secs(1);

/// The part of the deadline that a wait for the lock leaves for a request: at most a quarter of it.
const REQUEST_RESERVE: Duration = Duration::from_secs(5);

/// The longest time for requests to STS while the stored credentials still work. A refresh of the grant before them has the
/// whole deadline: to end it early could lose its answer.
const REPLACEMENT_LIMIT: Duration = Duration::from_secs(5);

/// Prints the credentials.
pub fn run(arguments: &cli::Helper, context: &Context) -> anyhow::Result<()> {
    let options = Options {
        role_arn: arguments.role_arn.as_deref(),
        session_name: arguments.session_name.as_deref(),
        duration: arguments.duration,
        region: arguments.region.as_deref(),
        endpoint_url: arguments.endpoint_url.as_deref(),
    };
    let variables = Variables {
        region: environment::text("AWS_REGION").or_else(|| environment::text("AWS_DEFAULT_REGION")),
        endpoint_url: environment::text("AWS_ENDPOINT_URL_STS"),
    };
    let role = aws::role(&options, &variables)?;
    let cache = CredentialCache::new(&role, context);
    let credentials = RoleSession { role, cache, context }.credentials()?;
    output::answer(format!("{}\n", aws::answer(&credentials)).as_bytes())
}

/// The session of a role that a process asks for with the grant of a profile.
struct RoleSession<'a> {
    role: Role,
    cache: CredentialCache,
    context: &'a Context,
}

/// The credentials of a request, and the ID token that it had.
struct Obtained {
    credentials: Credentials,
    id_token: Secret,
    requested_at: UnixSeconds,
}

/// The tokens of a session.
struct Tokens {
    access_token: Secret,
    id_token: Secret,
}

impl RoleSession<'_> {
    fn credentials(&self) -> Result<Credentials, Failure> {
        let Some((_, owner)) = self.owner()? else { return self.without_session() };
        let before = self.cache.read();
        let entry = parsed(before.as_ref(), &owner);
        let cached = entry.map_or(Cached::Nothing, |entry| entry.judge(self.now()));
        let (mode, wait) = match cached {
            Cached::Fresh(credentials) => {
                self.log("the stored credentials are used");
                return Ok(credentials);
            }
            Cached::Ageing(_) => (LockMode::Try, Duration::ZERO),
            Cached::Nothing => (LockMode::Queue, self.context.left().saturating_sub(self.reserve())),
        };
        let guard = match (self.cache.lock(mode, wait), cached.credentials()) {
            (Locked::Granted(guard), _) => Some(guard),
            (Locked::Busy, Some(credentials)) => {
                self.log("the stored credentials are used: another process replaces them");
                return Ok(credentials);
            }
            _ => {
                self.log("there is no lock for the credentials: this process makes a request of its own");
                None
            }
        };
        self.replaced(before.as_ref(), guard)
    }

    /// A logout, or the end of the grant: the failure says which. No stored credentials are used.
    fn without_session(&self) -> Result<Credentials, Failure> {
        self.cache.remove();
        Ok(self.request(self.context.left())?.credentials)
    }

    fn reserve(&self) -> Duration {
        REQUEST_RESERVE.min(self.context.globals.timeout / 4)
    }

    /// The credentials of a new request, or the result of the request that another process made since the cache had `before`.
    fn replaced(&self, before: Option<&Secret>, guard: Option<Guard>) -> Result<Credentials, Failure> {
        let Some((document, owner)) = self.owner()? else { return self.without_session() };
        let text = self.cache.read();
        let is_new = text.as_ref() != before;
        let entry = parsed(text.as_ref(), &owner);
        let lasting = entry.as_ref().and_then(|entry| entry.judge(self.now()).credentials());
        if is_new && let Some(entry) = &entry {
            match (entry.failure(), entry.newest()) {
                (Some(failure), _) => return self.used_instead(lasting, failure.clone()),
                (None, Some(credentials)) => return Ok(credentials.clone()),
                (None, None) => {}
            }
        }
        let left = self.context.left();
        // The requests of the holder end before the wait of the other processes does.
        let limit = match guard {
            Some(_) => left.saturating_sub(self.reserve() * 2).max(left / 2),
            None => left,
        };
        let limit = if lasting.is_some() { limit.min(REPLACEMENT_LIMIT) } else { limit };
        match self.request(limit) {
            Ok(Obtained { credentials, id_token, requested_at }) => {
                let grant = aws_cache::grant(&document, Some(&id_token));
                let owner = Owner { grant, ..owner };
                let entry = Entry::new(&owner, self.context.nonce()?, requested_at);
                self.keep(&owner, &entry.with_credentials(&credentials));
                Ok(credentials)
            }
            Err(failure) => {
                let next = Entry::new(&owner, self.context.nonce()?, self.now());
                self.keep(&owner, &next.with_failure(&failure, entry, self.now()));
                self.used_instead(lasting, failure)
            }
        }
    }

    /// Stores the entry. A logout that came before did not see it, so it is removed again. A login that came before leaves a
    /// document that the entry does not belong to.
    fn keep(&self, owner: &Owner, entry: &Entry) {
        let written = self.cache.write(entry.text().expose().as_bytes(), self.context.left());
        if let Err(failure) = written {
            self.context.warn(&failure);
        }
        let is_of_another = |stored: Option<(Document, Owner)>| stored.is_none_or(|(_, now)| now != *owner);
        if self.owner().is_ok_and(is_of_another) {
            self.cache.remove();
        }
    }

    /// The credentials that still work, with a warning; otherwise the failure.
    fn used_instead(&self, lasting: Option<Credentials>, failure: Failure) -> Result<Credentials, Failure> {
        let Some(credentials) = lasting else { return Err(failure) };
        let end = date(credentials.expires_at);
        let message = format!("the stored credentials are used, which end at {end}: {}", failure.message);
        self.context.warn(&Failure { message, ..failure });
        Ok(credentials)
    }

    /// Gets credentials within this time, in a bounded number of requests.
    fn request(&self, limit: Duration) -> Result<Obtained, Failure> {
        let began = self.context.now().elapsed;
        let left = || limit.saturating_sub(self.context.now().elapsed.saturating_sub(began));
        let mut tokens = self.tokens(Demand::lasting(TokenKind::IdToken, None))?;
        let mut has_other_token = false;
        let mut number = 0;
        loop {
            number += 1;
            let request = sts::request(&self.role, &tokens.id_token);
            let requested_at = self.now();
            self.log(&format!("asks {} for credentials", request.shown(&self.role.endpoint)));
            let response = self.context.client().send(&request, left()).and_then(HttpOutcome::response);
            let response = response.map_err(|failure| Failure {
                message: format!("no credentials from AWS STS: {}", failure.message),
                ..failure
            })?;
            match sts::read(&self.role, &request, &response, self.now()) {
                Answer::Credentials(credentials) => {
                    return Ok(Obtained { credentials, id_token: tokens.id_token, requested_at });
                }
                Answer::TokenExpired(failure) if !has_other_token && number < MAX_REQUESTS => {
                    has_other_token = true;
                    tokens = self.refreshed(&tokens, failure)?;
                }
                Answer::Later(failure, pause) if number < MAX_REQUESTS && pause.unwrap_or(PAUSE) < left() => {
                    let pause = pause.unwrap_or(PAUSE);
                    self.log(&format!("{failure}; once more after {} ms", pause.as_millis()));
                    self.context.pause(pause);
                }
                Answer::TokenExpired(failure) | Answer::Later(failure, _) | Answer::Refused(failure) => {
                    return Err(failure);
                }
            }
        }
    }

    fn tokens(&self, demand: Demand) -> Result<Tokens, Failure> {
        let session = self.context.obtain(demand)?.session;
        let id_token = Given::new(&session, TokenKind::IdToken)?.secret().clone();
        Ok(Tokens { access_token: session.access_token, id_token })
    }

    /// The tokens after a refresh for an ID token that was refused as expired. The refresh is shared, as for an access token
    /// that a server refused: if another process has refreshed meanwhile, no request is made.
    fn refreshed(&self, refused: &Tokens, failure: Failure) -> Result<Tokens, Failure> {
        let unwanted = Unwanted::Rejected(refused.access_token.clone());
        self.context.obtain(Demand::other_than(unwanted))?;
        let next = self.tokens(Demand::lasting(TokenKind::IdToken, None))?;
        if next.id_token == refused.id_token {
            let why = "the server gives no other ID token when the grant is refreshed";
            return Err(Failure { message: format!("{}; {why}", failure.message), ..failure });
        }
        Ok(next)
    }

    /// The document, and whose credentials this process may use. `None`: the profile has no session.
    fn owner(&self) -> Result<Option<(Document, Owner)>, Failure> {
        let Some(document) = self.context.document()? else { return Ok(None) };
        let session = document.session.as_ref();
        let grant = session.map(|session| aws_cache::grant(&document, session.id_token.as_ref()));
        Ok(grant.map(|grant| (document, Owner { key: self.cache.key.clone(), grant })))
    }

    fn now(&self) -> UnixSeconds {
        self.context.now().wall
    }

    fn log(&self, what: &str) {
        (self.context.dependencies().log)(1, what);
    }
}

fn parsed(text: Option<&Secret>, owner: &Owner) -> Option<Entry> {
    Entry::parse(text?.expose().as_bytes(), owner)
}
