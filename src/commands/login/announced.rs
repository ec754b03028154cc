//! What servers say about the address of a login, before the store is asked what it knows.

use super::destination::Destination;
use crate::cli;
use crate::error::{Failure, Kind};
use crate::http::HttpClient;
use crate::oauth::discovery;
use crate::profile::Context;
use crate::protocol::address_search::{Finding, Located, LocatedResource};
use crate::protocol::metadata::Metadata;

/// The metadata of the server, and the resource, as far as there is any.
#[derive(Clone, Debug, Default)]
pub struct Announced {
    /// The metadata of the server: of its row, or discovered. `None` if the command line names no server.
    pub metadata: Option<Metadata>,
    /// The resource behind the address. `None` if the address is that of a server.
    pub resource: Option<LocatedResource>,
    /// How many requests the search took.
    pub requests: usize,
}

impl Announced {
    /// Asks the servers that the destination needs. `note` is told what each answer of a search was. What a server names is
    /// reached with a limit from then on, unless options name endpoints.
    pub fn find(
        arguments: &cli::Login,
        destination: &Destination,
        context: &Context,
        note: impl FnMut(&Finding),
    ) -> Result<Self, Failure> {
        let (announced, client) = match (&destination.endpoints, &destination.issuer, &destination.address) {
            (Some(endpoints), ..) => {
                return Ok(Self { metadata: Some(endpoints.clone()), ..Self::default() });
            }
            (None, Some(issuer), _) => {
                let (metadata, client) = discover(issuer, destination, context)?;
                (Self { metadata: Some(metadata), ..Self::default() }, client)
            }
            (None, None, Some(address)) => {
                let left = || context.left();
                let (located, client) = discovery::search(context.client(), address, left, note)?;
                let Located { metadata, resource, requests } = located;
                (Self { metadata: Some(metadata), resource, requests }, client)
            }
            (None, None, None) => return Ok(Self::default()),
        };
        if !names_endpoints(arguments) {
            context.go_on_with(client);
        }
        Ok(announced)
    }
}

/// Whether a person names an endpoint, which may be anywhere.
fn names_endpoints(arguments: &cli::Login) -> bool {
    let endpoints = [
        &arguments.token_endpoint,
        &arguments.authorization_endpoint,
        &arguments.device_authorization_endpoint,
        &arguments.revocation_endpoint,
        &arguments.userinfo_endpoint,
    ];
    endpoints.into_iter().any(Option::is_some)
}

fn discover(
    issuer: &str,
    destination: &Destination,
    context: &Context,
) -> Result<(Metadata, HttpClient), Failure> {
    let document = destination.metadata_url.as_deref();
    discovery::discover(context.client(), issuer, document, context.left()).map_err(|failure| {
        // After a temporary failure the same command works later.
        match failure.kind {
            Kind::Usage => failure.hint_of(destination.login_by_name().as_deref()),
            _ => failure,
        }
    })
}
