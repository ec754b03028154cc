//! Protected resources: their metadata (RFC 9728), and which addresses one resource covers.

use super::Response;
use crate::error::Failure;

/// What a resource says about itself (RFC 9728 section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceMetadata {
    /// The resource identifier, as the document writes it.
    pub resource: String,
    /// The issuers whose tokens it takes, in its order. Each passed [`endpoint_url`].
    pub authorization_servers: Vec<String>,
    /// The scopes that it knows. Empty if it does not say.
    pub scopes_supported: Vec<String>,
    /// Where it departs from RFC 9728, in words, and can be used all the same.
    pub departures: Vec<String>,
}

/// What the response to a request for resource metadata is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundResource {
    /// The metadata of this resource.
    Metadata(Box<ResourceMetadata>),
    /// No metadata, and why. The next candidate may have it.
    Nothing(String),
    /// Metadata that must not be used: of another resource, or without a usable issuer.
    Refused(Failure),
}

/// A request without a credential, which a protected resource answers with a challenge. It is the first request of an MCP
/// client (`initialize`), because many resources are MCP servers, and other resources do not know it.
pub fn probe(url: &str) -> super::Request {
    super::Request::get(url)
}

/// Ends the session that an MCP server began with its answer to [`probe`]. `None` if it began none.
pub fn end_of_session(_url: &str, _response: &Response) -> Option<super::Request> {
    None
}

/// The addresses where the metadata of the resource at `url` may be, in the order of the requests (RFC 9728 section 3.1): with
/// the path of the resource inserted, then without it.
pub fn candidates(_url: &str) -> Vec<String> {
    Vec::new()
}

/// Reads the response to a request for the metadata of the resource at `url`. The resource in it must cover `url`.
pub fn read(_url: &str, _response: &Response) -> FoundResource {
    FoundResource::Nothing(String::new())
}

/// Whether the resource covers `url`: scheme, host and port are the same, and its path is the path of `url` or a beginning of
/// it that ends where a `/` stands. Gives the length of that path in bytes. The query is not compared.
pub fn covers(_resource: &str, _url: &str) -> Option<usize> {
    None
}
