//! Client authentication (RFC 6749 section 2.3).

use super::Parameters;
use crate::grant::{ClientAuthentication, Document, Secret};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Adds what the document's way of client authentication puts into the body, and returns what it puts into
/// the `Authorization` header. Never both (RFC 6749 section 2.3). A confidential client without a stored
/// secret has an empty one.
pub fn authenticate(document: &Document, parameters: &mut Parameters) -> Option<Secret> {
    match document.client_auth {
        ClientAuthentication::None => parameters.push("client_id", &document.client_id),
        ClientAuthentication::Post => {
            parameters.push("client_id", &document.client_id);
            if let Some(secret) = &document.client_secret {
                parameters.push_secret("client_secret", secret);
            }
        }
        ClientAuthentication::Basic => {
            let secret = document.client_secret.as_ref().map_or("", Secret::expose);
            return Some(basic(&document.client_id, secret));
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
            let authorization = authenticate(&document, &mut parameters);
            assert_eq!(parameters.encode().expose(), body, "{way:?}");
            assert_eq!(authorization.as_ref().map(Secret::expose), header, "{way:?}");
        }
    }
}
