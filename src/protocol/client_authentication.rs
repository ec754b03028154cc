//! Client authentication (RFC 6749 section 2.3).

use super::Parameters;
use crate::grant::{ClientAuthentication, Document, Secret};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The value of `client_assertion_type` (RFC 7523 section 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What authenticates the client in one request. It is read or made just before the request is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing: a public client.
    #[default]
    None,
    /// The client secret.
    Secret(Secret),
    /// A signed assertion (RFC 7523 section 2.2).
    Assertion(Secret),
}

impl Authentication {
    /// The authentication that the document itself holds.
    pub fn stored(document: &Document) -> Self {
        document.client_secret.clone().map_or(Self::None, Self::Secret)
    }

    /// The client secret. Without one a confidential client sends an empty one.
    fn secret(&self) -> Secret {
        match self {
            Self::Secret(secret) => secret.clone(),
            Self::None | Self::Assertion(_) => Secret::new(""),
        }
    }
}

/// The method of client authentication as `--client-auth` takes it.
pub fn name(method: ClientAuthentication) -> &'static str {
    match method {
        ClientAuthentication::None => "none",
        ClientAuthentication::Basic => "basic",
        ClientAuthentication::Post => "post",
        ClientAuthentication::PrivateKeyJwt => "private_key_jwt",
    }
}

/// Adds the parameters of the document's method of client authentication, or returns its `Authorization` header. Never both
/// (RFC 6749 section 2.3).
pub fn authenticate(
    document: &Document,
    authentication: &Authentication,
    parameters: &mut Parameters,
) -> Option<Secret> {
    match document.client_auth {
        ClientAuthentication::None => parameters.push("client_id", &document.client_id),
        ClientAuthentication::Post => {
            parameters.push("client_id", &document.client_id);
            parameters.push_secret("client_secret", &authentication.secret());
        }
        ClientAuthentication::Basic => {
            return Some(basic(&document.client_id, authentication.secret().expose()));
        }
        ClientAuthentication::PrivateKeyJwt => {
            parameters.push("client_id", &document.client_id);
            if let Authentication::Assertion(assertion) = authentication {
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
    fn each_method_uses_the_body_or_the_header() {
        // "client 1" and "p:ä%" form-encoded are "client+1" and "p%3A%C3%A4%25".
        let header = format!("Basic {}", BASE64_STANDARD.encode("client+1:p%3A%C3%A4%25"));
        let cases = [
            (ClientAuthentication::None, "client_id=client+1", None),
            (ClientAuthentication::Post, "client_id=client+1&client_secret=p%3A%C3%A4%25", None),
            (ClientAuthentication::Basic, "", Some(header.as_str())),
        ];
        for (method, body, header) in cases {
            let mut document = document();
            document.client_auth = method;
            document.client_secret = Some(Secret::new("p:ä%"));
            let mut parameters = Parameters::default();
            let authorization = authenticate(&document, &Authentication::stored(&document), &mut parameters);
            assert_eq!(parameters.encode().expose(), body, "{method:?}");
            assert_eq!(authorization.as_ref().map(Secret::expose), header, "{method:?}");
        }
    }
}
