//! Discovery: finds the metadata of an issuer (RFC 8414, OpenID Connect Discovery 1.0).

use super::ask;
use crate::error::{Failure, Kind};
use crate::http::HttpClient;
use crate::protocol::hints::login_at;
use crate::protocol::metadata::{Discovered, Metadata, candidates, endpoint_url, issuer_of_document, read};
use crate::protocol::redirect::{self, MOST_REDIRECTS, Next};
use crate::protocol::{Reply, Request};
use crate::text::printable;
use std::time::{Duration, Instant};

/// What to do without metadata.
const HINT: &str =
    "onegrant login --token-endpoint URL --device-authorization-endpoint URL --client-id ID   # names the ";

/// What a place of metadata answered, and where it points instead.
pub struct Fetched {
    /// The answer, behind the redirects that were followed.
    pub reply: Reply,
    /// Set where it is a redirect that is not followed.
    pub stray: Option<Stray>,
}

/// A redirect that is not followed.
pub struct Stray {
    /// In words.
    pub what: String,
    /// Where it points, if that is an address.
    pub target: Option<String>,
}

/// Asks for metadata at `url`. Redirects are followed within the origin of `url`, at most [`MOST_REDIRECTS`] of them: the
/// request carries no credential, and what it brings is checked by its issuer.
pub fn fetch<E>(url: &str, mut ask: impl FnMut(&str) -> Result<Reply, E>) -> Result<Fetched, E> {
    let mut url = url.to_owned();
    let mut reply = ask(&url)?;
    let mut followed = 0;
    loop {
        let status = reply.status;
        let (what, target) = match redirect::next(&url, &reply) {
            Next::Done => return Ok(Fetched { reply, stray: None }),
            Next::Follow(target) if followed < MOST_REDIRECTS => {
                followed += 1;
                reply = ask(&target)?;
                url = target;
                continue;
            }
            Next::Follow(_) => {
                (format!("more than {MOST_REDIRECTS} redirects, the last one from {}", printable(&url)), None)
            }
            Next::Elsewhere { target: None } => (format!("status {status}, a redirect to nowhere"), None),
            Next::Elsewhere { target: Some(target) } => {
                let what = format!(
                    "status {status}, a redirect to {target}, which is not followed: it is no address of this origin"
                );
                (what, Some(target))
            }
        };
        return Ok(Fetched { reply, stray: Some(Stray { what, target }) });
    }
}

/// Asks for the metadata of `issuer` in each of the places where it may be, and returns the first that is of
/// this issuer, with what it lacks and another place tells. `document` is the address of its metadata, if that was given: it
/// is asked for first. `timeout` bounds all requests together.
///
/// A server that cannot be reached, or is in trouble, is a temporary failure; an issuer without metadata, or
/// with that of another issuer, is one of usage.
pub fn discover(
    client: &HttpClient,
    issuer: &str,
    document: Option<&str>,
    timeout: Duration,
) -> Result<Metadata, Failure> {
    let what = format!("cannot discover the endpoints of {}", printable(issuer));
    let began = Instant::now();
    let mut refused = None;
    let mut found: Option<Metadata> = None;
    let mut is_troubled = false;
    let mut places = Vec::new();
    let mut elsewhere = None;
    let others = candidates(issuer)?.into_iter().filter(|url| Some(url.as_str()) != document);
    for url in document.map(str::to_owned).into_iter().chain(others) {
        if found.as_ref().is_some_and(Metadata::is_complete) {
            break;
        }
        let get =
            |url: &str| ask(client, &Request::get(url, None), timeout.saturating_sub(began.elapsed()), &what);
        let Fetched { reply, stray } = match fetch(&url, get) {
            Err(_) if found.is_some() => break,
            fetched => fetched?,
        };
        is_troubled |= matches!(reply.status, 429 | 500..);
        match read(issuer, &reply) {
            Discovered::Metadata(metadata) => {
                found = Some(match found {
                    Some(found) => found.completed_by(*metadata),
                    None => *metadata,
                });
            }
            Discovered::Refused(failure) => refused = refused.or(Some(failure)),
            Discovered::Nothing(why) => {
                let why = stray.as_ref().map_or(why, |stray| stray.what.clone());
                places.push(format!("{url} ({why})"));
                elsewhere = elsewhere.or(stray.and_then(|stray| stray.target));
            }
        }
    }
    if let Some(metadata) = found {
        return Ok(metadata);
    }
    if let Some(failure) = refused {
        return Err(failure);
    }
    let kind = if is_troubled { Kind::Temporary } else { Kind::Usage };
    let failure = Failure::new(kind, format!("{what}: no metadata at {}", places.join(", ")));
    let issuer = elsewhere.as_deref().and_then(issuer_of_document);
    let hint = match (issuer.filter(|issuer| endpoint_url(issuer).is_ok()), elsewhere) {
        (Some(issuer), _) => login_at(&issuer),
        (None, Some(target)) => format!("{HINT}endpoints that {target} tells"),
        (None, None) => format!("{HINT}endpoints instead"),
    };
    Err(if is_troubled { failure } else { failure.hint(hint) })
}
