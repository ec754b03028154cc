//! Dynamic client registration (RFC 7591), and the end of a registration (RFC 7592).

use super::{Request, Response};
use crate::error::{Failure, Kind};
use crate::grant::{ClientAuthentication, Registration, Secret, UnixSeconds};
use crate::text::printable;

/// What a client asks to be registered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The registration endpoint.
    pub endpoint: &'a str,
    /// The redirect URI on which onegrant listens.
    pub redirect_uri: &'a str,
    /// Whether the client also uses the device flow.
    pub uses_devices: bool,
    /// The scope that the login asks for.
    pub scope: Option<&'a str>,
}

/// What the server says about the new client (RFC 7591 section 3.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The client identifier.
    pub client_id: String,
    /// The client secret, if it gave one and the client has to use it.
    pub client_secret: Option<Secret>,
    /// How the client authenticates from now on.
    pub authentication: ClientAuthentication,
    /// When the secret ends. `None`: never.
    pub client_secret_expires_at: Option<UnixSeconds>,
    /// The client configuration endpoint (RFC 7592 section 3). It passed [`super::metadata::endpoint_url`].
    pub management_uri: Option<String>,
    /// The registration access token.
    pub management_token: Option<Secret>,
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRegistered {
    /// The failure, whose message begins with `cannot register a client at`.
    pub failure: Failure,
    /// Whether the server refused the redirect URI (`invalid_redirect_uri`): another one may do.
    pub refuses_redirect_uri: bool,
}

impl NotRegistered {
    /// There was no whole response.
    pub fn unanswered(request: &Request, failure: Failure) -> Self {
        let message = format!("cannot register a client at {}: {}", printable(&request.url), failure.message);
        Self { failure: Failure { message, ..failure }, refuses_redirect_uri: false }
    }
}

/// The request for a new client (RFC 7591 section 3.1).
pub fn request(wanted: &Wanted) -> Request {
    Request::get(wanted.endpoint)
}

/// Reads the response to [`request`].
pub fn read(request: &Request, _response: &Response, _now: UnixSeconds) -> Result<Registered, NotRegistered> {
    let failure = Failure::new(Kind::Usage, format!("cannot register a client at {}", request.url));
    Err(NotRegistered { failure, refuses_redirect_uri: false })
}

/// The request that removes the registration (RFC 7592 section 2.3). `None` if the server gave no address for it.
pub fn removal(_registration: &Registration) -> Option<Request> {
    None
}
