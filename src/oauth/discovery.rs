//! Discovery: finds the metadata of an issuer (RFC 8414, OpenID Connect Discovery 1.0).

use super::ask;
use crate::error::{Failure, Kind, printable};
use crate::http::Client;
use crate::protocol::Request;
use crate::protocol::metadata::{Discovered, Metadata, candidates, read};
use std::time::{Duration, Instant};

/// What to do without metadata.
const HINT: &str = "onegrant login --token-endpoint URL --device-authorization-endpoint URL --client-id ID   \
                    # names the endpoints instead";

/// Asks for the metadata of `issuer` in each of the places where it may stand, and returns the first that is of
/// this issuer, with what it lacks and another place tells. `timeout` bounds all requests together.
///
/// A server that cannot be reached, or is in trouble, is a temporary failure; an issuer without metadata, or
/// with that of another issuer, is one of usage.
pub fn discover(client: &Client, issuer: &str, timeout: Duration) -> Result<Metadata, Failure> {
    let what = format!("cannot discover the endpoints of {}", printable(issuer));
    let began = Instant::now();
    let mut refused = None;
    let mut found: Option<Metadata> = None;
    let mut is_troubled = false;
    let mut places = Vec::new();
    for url in candidates(issuer)? {
        let left = timeout.saturating_sub(began.elapsed());
        if found.as_ref().is_some_and(Metadata::is_complete) {
            break;
        }
        let reply = match ask(client, &Request::get(&url, None), left, &what) {
            Err(_) if found.is_some() => break,
            reply => reply?,
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
            Discovered::Nothing(why) => places.push(format!("{url} ({why})")),
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
    Err(if is_troubled { failure } else { failure.hint(HINT) })
}
