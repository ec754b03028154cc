//! Client authentication (RFC 6749 section 2.3).

use super::Parameters;
use crate::grant::{ClientAuthentication, Document, Secret};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The value of `client_assertion_type` (RFC 7523 section 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a client proves itself with in one request; got or made just before that is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: a public client.
    #[default]
    None,
    /// Its secret.
    Secret(Secret),
    /// A signed assertion (RFC 7523 section 2.2).
    Assertion(Secret),
}

impl Proof {
    /// What the document itself holds.
    pub fn stored(document: &Document) -> Self {
        document.client_secret.clone().map_or(Self::None, Self::Secret)
    }

    /// The secret of it; a confidential client without one has an empty one.
    fn secret(&self) -> Secret {
        match self {
            Self::Secret(secret) => secret.clone(),
            Self::None | Self::Assertion(_) => Secret::new(""),
        }
    }
}

/// A way of client authentication as `--client-auth` takes it.
pub fn name(way: ClientAuthentication) -> &'static str {
    match way {
        ClientAuthentication::None => "none",
        ClientAuthentication::Basic => "basic",
        ClientAuthentication::Post => "post",
        ClientAuthentication::PrivateKeyJwt => "private_key_jwt",
    }
}

/// Adds what the document's way of client authentication puts into the body, and returns what it puts into
/// the `Authorization` header. Never both (RFC 6749 section 2.3).
pub fn authenticate(document: &Document, proof: &Proof, parameters: &mut Parameters) -> Option<Secret> {
    match document.client_auth {
        ClientAuthentication::None => parameters.push("client_id", &document.client_id),
        ClientAuthentication::Post => {
            parameters.push("client_id", &document.client_id);
            parameters.push_secret("client_secret", &proof.secret());
        }
        ClientAuthentication::Basic => return Some(basic(&document.client_id, proof.secret().expose())),
        ClientAuthentication::PrivateKeyJwt => {
            parameters.push("client_id", &document.client_id);
            if let Proof::Assertion(assertion) = proof {
                parameters.push("client_assertion_type", JWT_BEARER);
                parameters.push_secret("client_assertion", assertion);
            }
        }
    }
    None
}

/// `client_secret_basic`: both parts form-encoded, joined by a colon, then HTTP Basic (RFC 6749 section 2.3.1).
fn basic(client_id: &str, client_secret: &str) -> Secret {
    let mut pair: String = form_urlencoded::byte_serialize(client_id.as_bytes()).collect();
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(client_secret.as_bytes()));
    let pair = Secret::new(pair);
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair.expose())))
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    #[test]
    fn each_way_of_authentication_says_its_part_in_one_place() {
        // "client 1" and "p:ä%" form-encoded are "client+1" and "p%3A%C3%A4%25".
        let header = format!("Basic {}", BASE64_STANDARD.encode("client+1:p%3A%C3%A4%25"));
        let cases = [
            (ClientAuthentication::None, "client_id=client+1", None),
            (ClientAuthentication::Post, "client_id=client+1&client_secret=p%3A%C3%A4%25", None),
            (ClientAuthentication::Basic, "", Some(header.as_str())),
        ];
        for (way, body, header) in cases {
            let mut document = document();
            document.client_auth = way;
            document.client_secret = Some(Secret::new("p:ä%"));
            let mut parameters = Parameters::default();
            let authorization = authenticate(&document, &Proof::stored(&document), &mut parameters);
            assert_eq!(parameters.encode().expose(), body, "{way:?}");
            assert_eq!(authorization.as_ref().map(Secret::expose), header, "{way:?}");
        }
    }
}
