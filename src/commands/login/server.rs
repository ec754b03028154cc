//! The authorization server of a login: its identity, its endpoints, and what it says about clients and scopes.

use super::announced::Announced;
use super::destination::Destination;
use crate::cli;
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::profile::Context;
use crate::protocol::address_search::LocatedResource;
use crate::protocol::hints::login_command;
use crate::protocol::metadata::{EndpointUrls, Metadata, endpoint_url, origin};
use crate::protocol::providers::{self, Provider};
use crate::protocol::token::DEVICE_CODE;

/// A server that a grant can be requested from. Each endpoint passed [`endpoint_url`].
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// The issuer identifier (RFC 8414 section 2).
    pub issuer: Option<String>,
    /// Whether no server said so: the issuer is the origin of the token endpoint.
    pub issuer_is_assumed: bool,
    /// The name of its row in [`providers`].
    pub provider: Option<String>,
    /// Its endpoints. That for pushed requests is there only if every authorization request has to go there first.
    pub endpoints: EndpointUrls,
    /// Whether every authorization response names its issuer (RFC 9207 section 3).
    pub authorization_response_iss: bool,
    /// The scopes that its metadata lists; empty if unknown.
    pub scopes_supported: Vec<String>,
    /// The methods of client authentication that its metadata lists; empty if unknown.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// The grant types that its metadata lists; empty if unknown.
    pub grant_types_supported: Vec<String>,
    /// [`Metadata::refuses_s256`].
    pub refuses_s256: bool,
    /// Whether its metadata was read just now.
    pub is_announced: bool,
    /// Whether it takes the address of a client metadata document for a client identifier.
    pub knows_client_metadata: bool,
    /// The resource that the login is for, if an address named it.
    pub resource: Option<LocatedResource>,
    /// How many requests have found it, if it was searched for.
    pub requests: usize,
}

impl Server {
    /// The server: as announced, by the given endpoints, or of the stored document. Also gives the stored document if it is of
    /// the same server: the client, the scope and the parameters in it mean nothing to another one.
    pub fn find<'a>(
        arguments: &cli::Login,
        destination: &Destination,
        announced: Announced,
        stored: Option<&'a Document>,
        context: &Context,
    ) -> Result<(Self, Option<&'a Document>), Failure> {
        let Announced { metadata, resource, requests } = announced;
        let stored =
            stored.filter(|stored| is_same_server(arguments, destination, metadata.as_ref(), stored));
        let server = match (metadata, stored, &arguments.token_endpoint) {
            (Some(metadata), stored, _) => Self::of_metadata(metadata, stored, destination, arguments),
            (None, Some(stored), _) => Self::of_document(stored),
            (None, None, Some(token_endpoint)) => {
                let (issuer, token) = (Some(origin(token_endpoint)?), token_endpoint.clone());
                let endpoints = EndpointUrls { token, ..EndpointUrls::default() };
                Self { issuer, issuer_is_assumed: true, endpoints, ..Self::default() }
            }
            (None, None, None) => return Err(unknown(context)),
        };
        let named = destination.provider.map(|provider| provider.name.to_owned());
        // The issuer that a resource names may be that of a provider.
        let of_resource = resource.as_ref().and(server.issuer.as_deref()).and_then(providers::of_issuer);
        let named = named.or(of_resource.map(|provider| provider.name.to_owned()));
        let provider = named.or(server.provider.clone());
        let server = Self { provider, resource, requests, ..server }.with_given(arguments);
        server.check()?;
        Ok((server, stored))
    }

    /// The issuer of a stored document stays: the row of a provider only assumes one.
    fn of_metadata(
        metadata: Metadata,
        stored: Option<&Document>,
        destination: &Destination,
        arguments: &cli::Login,
    ) -> Self {
        let is_pushed = metadata.requires_pushed_requests || arguments.pushed;
        let refuses_s256 = metadata.refuses_s256();
        let pushed = metadata.endpoints.pushed_authorization_request.clone();
        Self {
            issuer: stored.map_or(Some(metadata.issuer), |stored| stored.issuer.clone()),
            issuer_is_assumed: destination.endpoints.is_some(),
            provider: stored.and_then(|stored| stored.provider.clone()),
            endpoints: EndpointUrls {
                pushed_authorization_request: pushed.filter(|_| is_pushed),
                ..metadata.endpoints
            },
            authorization_response_iss: metadata.authorization_response_iss,
            scopes_supported: metadata.scopes_supported,
            token_endpoint_auth_methods_supported: metadata.token_endpoint_auth_methods_supported,
            refuses_s256,
            grant_types_supported: metadata.grant_types_supported,
            is_announced: destination.endpoints.is_none(),
            knows_client_metadata: metadata.client_id_metadata_document_supported,
            resource: None,
            requests: 0,
        }
    }

    fn of_document(stored: &Document) -> Self {
        Self {
            issuer: stored.issuer.clone(),
            issuer_is_assumed: stored.issuer_is_assumed,
            provider: stored.provider.clone(),
            endpoints: EndpointUrls {
                token: stored.token_endpoint.clone(),
                authorization: stored.authorization_endpoint.clone(),
                device_authorization: stored.device_authorization_endpoint.clone(),
                pushed_authorization_request: stored.pushed_authorization_request_endpoint.clone(),
                revocation: stored.revocation_endpoint.clone(),
                userinfo: stored.userinfo_endpoint.clone(),
                registration: stored.registration.as_ref().map(|client| client.endpoint.clone()),
            },
            authorization_response_iss: stored.authorization_response_iss,
            ..Self::default()
        }
    }

    /// With the endpoints that options give.
    fn with_given(self, arguments: &cli::Login) -> Self {
        let given = |option: &Option<String>, found: Option<String>| option.clone().or(found);
        let found = self.endpoints;
        let endpoints = EndpointUrls {
            token: arguments.token_endpoint.clone().unwrap_or(found.token),
            authorization: given(&arguments.authorization_endpoint, found.authorization),
            device_authorization: given(&arguments.device_authorization_endpoint, found.device_authorization),
            revocation: given(&arguments.revocation_endpoint, found.revocation),
            userinfo: given(&arguments.userinfo_endpoint, found.userinfo),
            ..found
        };
        Self { endpoints, ..self }
    }

    fn check(&self) -> Result<(), Failure> {
        self.endpoints.all().try_for_each(|url| endpoint_url(url).map(drop))
    }

    /// Its row.
    pub fn row(&self) -> Option<&'static Provider> {
        providers::named(self.provider.as_deref()?)
    }

    /// Whether its metadata lists the grant type of the device flow (RFC 8628 section 4).
    pub fn lists_device_grant(&self) -> bool {
        let is_listed = self.grant_types_supported.iter().any(|grant_type| grant_type == DEVICE_CODE);
        self.endpoints.device_authorization.is_some() && is_listed
    }

    /// The hint that says what has to be set up at this provider.
    pub fn advice(&self) -> Option<String> {
        self.row().map(advice)
    }
}

/// The hint that says what has to be set up at this provider.
pub fn advice(provider: &Provider) -> String {
    let Provider { name, note, source, .. } = provider;
    format!("{name} needs {note} ({source})")
}

/// Whether `stored` is a document of the server that this login is at. A token endpoint that is given without a client is
/// another one of the same server, if its origin is the same.
fn is_same_server(
    arguments: &cli::Login,
    destination: &Destination,
    metadata: Option<&Metadata>,
    stored: &Document,
) -> bool {
    match (metadata, &arguments.token_endpoint) {
        // One origin may serve many tenants.
        (Some(metadata), _) if destination.endpoints.is_some() => {
            stored.token_endpoint == metadata.endpoints.token
        }
        (Some(metadata), _) => stored.issuer.as_ref() == Some(&metadata.issuer),
        (None, Some(token_endpoint)) => {
            let is_same_origin =
                || origin(token_endpoint).is_ok_and(|found| Ok(found) == origin(&stored.token_endpoint));
            stored.token_endpoint == *token_endpoint || (arguments.client_id.is_none() && is_same_origin())
        }
        (None, None) => true,
    }
}

fn unknown(context: &Context) -> Failure {
    let message = format!("cannot log in: profile {} knows no server yet", context.globals.profile);
    let hint = match context.only_other_profile() {
        Some(other) => login_command(other.as_str()),
        None => "onegrant login https://ADDRESS".to_owned(),
    };
    Failure::new(Kind::Usage, message).hint(hint)
}
