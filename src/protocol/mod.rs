//! OAuth without sockets: requests to send, and what the responses mean.
//!
//! Nothing here does I/O or reads a clock; instants are passed in. Parameter names are those of the RFCs.

pub mod address_search;
pub mod assertion;
pub mod authorization;
pub mod challenge;
pub mod claims;
pub mod client_authentication;
pub mod client_configuration;
pub mod device;
pub mod dialects;
pub mod extra;
pub mod failure;
pub mod hints;
pub mod id_token;
pub mod loopback;
pub mod metadata;
pub mod pkce;
pub mod providers;
pub mod reach;
pub mod redirect;
pub mod registration;
pub mod resource;
pub mod revocation;
pub mod scope;
pub mod sts;
pub mod subject_token;
pub mod token;
pub mod userinfo;

mod headers;
mod redaction;
mod request;
mod response;
mod server_error;

pub use client_authentication::Authentication;
pub use headers::Headers;
pub use redaction::redact;
pub use request::{BODY_LIMIT, Body, Extent, JSON, Method, Parameters, Request};
pub use response::{RETRY_AFTER_LIMIT, Response, time_words};

#[cfg(test)]
pub(crate) mod tests {
    use super::{Body, Parameters, Request};
    use crate::grant::Document;

    /// The parameters in the body of a request.
    pub(crate) fn form(request: &Request) -> &Parameters {
        match &request.body {
            Body::Form(parameters) => parameters,
            other => panic!("{other:?} is no form"),
        }
    }

    /// A document for tests: a public client of `https://as.example`.
    pub(crate) fn document() -> Document {
        Document::parse(
            br#"{"version":1,"token_endpoint":"https://as.example/token","client_id":"client 1",
            "session":{"access_token":"old-access","refresh_token":"old-refresh","obtained_at":1}}"#,
        )
        .unwrap()
    }
}
