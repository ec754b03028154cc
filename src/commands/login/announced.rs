//! What servers say about the address of a login, before the store is asked what it knows.

use super::destination::Destination;
use crate::error::{Failure, Kind};
use crate::oauth::discovery;
use crate::profile::Context;
use crate::protocol::address_search::{Finding, LocatedResource};
use crate::protocol::metadata::Metadata;

/// The metadata of the server, and the resource, as far as there is any.
#[derive(Clone, Debug, Default)]
pub struct Announced {
    /// The metadata of the server: of its row, or discovered. `None` if the command line names no server.
    pub metadata: Option<Metadata>,
    /// The resource behind the address. `None` if the address is that of a server.
    pub resource: Option<LocatedResource>,
}

impl Announced {
    /// Asks the servers that the destination needs. `note` is told what each answer of a search was.
    pub fn find(
        destination: &Destination,
        context: &Context,
        note: impl FnMut(&Finding),
    ) -> Result<Self, Failure> {
        Ok(match (&destination.endpoints, &destination.issuer, &destination.address) {
            (Some(endpoints), ..) => Self { metadata: Some(endpoints.clone()), ..Self::default() },
            (None, Some(issuer), _) => {
                Self { metadata: Some(discover(issuer, destination, context)?), resource: None }
            }
            (None, None, Some(address)) => search(address, context, note)?,
            (None, None, None) => Self::default(),
        })
    }
}

fn discover(issuer: &str, destination: &Destination, context: &Context) -> Result<Metadata, Failure> {
    let document = destination.metadata_url.as_deref();
    discovery::discover(context.client(), issuer, document, context.left()).map_err(|failure| {
        // After a temporary failure the same command works later.
        match failure.kind {
            Kind::Usage => failure.hint_of(destination.login_by_name().as_deref()),
            _ => failure,
        }
    })
}

fn search(address: &str, context: &Context, note: impl FnMut(&Finding)) -> Result<Announced, Failure> {
    let (located, client) = discovery::search(context.client(), address, || context.left(), note)?;
    context.go_on_with(client);
    Ok(Announced { metadata: Some(located.metadata), resource: located.resource })
}
