//! The assertion that authenticates a client by its private key (RFC 7523 sections 2.2 and 3, `private_key_jwt` in OpenID
//! Connect Core section 9).

use crate::grant::{Document, Secret, UnixSeconds};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

/// The lifetime of an assertion, in seconds. It is made for one request, but clocks differ.
pub const LIFETIME_SECONDS: i64 = 60;

/// How the assertion is signed (RFC 7518 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// The text to sign: header and claims (RFC 7515 section 5.1). `id` is random and used once.
pub fn signing_input(document: &Document, algorithm: Algorithm, id: &str, now: UnixSeconds) -> String {
    let key = document.client_key.as_ref();
    let mut header = json!({ "alg": algorithm.name(), "typ": "JWT" });
    if let (Some(name), Some(header)) = (key.and_then(|key| key.id.as_deref()), header.as_object_mut()) {
        header.insert("kid".to_owned(), name.into());
    }
    let claims = json!({
        "iss": document.client_id,
        "sub": document.client_id,
        "aud": key.and_then(|key| key.audience.as_deref()).unwrap_or_else(|| audience(document)),
        "jti": id,
        "iat": now,
        "exp": now.saturating_add(LIFETIME_SECONDS),
    });
    let part = |value: String| BASE64_URL_SAFE_NO_PAD.encode(value);
    format!("{}.{}", part(header.to_string()), part(claims.to_string()))
}

/// The audience of the assertion (RFC 7523 section 3, number 3): the server by its own name, or by its token endpoint if
/// it has none.
fn audience(document: &Document) -> &str {
    document.known_issuer().unwrap_or(&document.token_endpoint)
}

/// The whole assertion (RFC 7515 section 7.1). `None` if the signature does not belong to this algorithm.
pub fn assertion(signing_input: &str, algorithm: Algorithm, signature: &[u8]) -> Option<Secret> {
    let signature = match algorithm {
        Algorithm::Rs256 => signature.to_vec(),
        Algorithm::Es256 => fixed(signature)?,
    };
    Some(Secret::new(format!("{signing_input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))))
}

/// The length of each of the two numbers of an ES256 signature, in bytes (RFC 7518 section 3.4).
const HALF: usize = 32;

/// Converts an ECDSA signature from the form of TLS, a DER sequence of two integers, to that of RFC 7518 section 3.4: two
/// numbers of [`HALF`] bytes.
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let (sequence, rest) = element(der, 0x30)?;
    let (first, numbers) = element(sequence, 0x02)?;
    let (second, end) = element(numbers, 0x02)?;
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    let mut signature = Vec::with_capacity(2 * HALF);
    for number in [first, second] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let digits = number.get(zeros..)?;
        signature.resize(signature.len().checked_add(HALF.checked_sub(digits.len())?)?, 0);
        signature.extend_from_slice(digits);
    }
    Some(signature)
}

/// The content of a DER element with this tag and a length below 128, and the bytes after the element.
fn element(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, der) = der.split_first()?;
    let (length, der) = der.split_first()?;
    if *tag != wanted || *length >= 128 {
        return None;
    }
    der.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;
    use crate::grant::ClientKey;
    use serde_json::Value;

    fn parts(text: &str) -> Vec<Value> {
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        text.split('.').map(|part| serde_json::from_slice(&decode(part)).unwrap()).collect()
    }

    /// RFC 7523 section 3: issuer and subject are the client, the audience is the server, and it ends.
    #[test]
    fn the_claims_are_those_of_a_client() {
        let mut document = document();
        let text = signing_input(&document, Algorithm::Es256, "once", 1000);
        let claims = json!({
            "iss": "client 1", "sub": "client 1", "aud": "https://as.example/token", "jti": "once", "iat": 1000, "exp": 1060,
        });
        assert_eq!(parts(&text), [json!({ "alg": "ES256", "typ": "JWT" }), claims]);

        document.issuer = Some("https://as.example".to_owned());
        document.client_key = Some(ClientKey {
            file: "key.pem".into(),
            id: Some("k1".to_owned()),
            audience: None,
            other: serde_json::Map::new(),
        });
        let [header, claims] = parts(&signing_input(&document, Algorithm::Rs256, "x", 1)).try_into().unwrap();
        assert_eq!(header, json!({ "alg": "RS256", "kid": "k1", "typ": "JWT" }));
        assert_eq!(claims["aud"], "https://as.example");
        if let Some(key) = &mut document.client_key {
            key.audience = Some("https://as.example/oauth".to_owned());
        }
        assert_eq!(
            parts(&signing_input(&document, Algorithm::Rs256, "x", 1))[1]["aud"],
            "https://as.example/oauth"
        );
    }

    #[test]
    fn a_signature_becomes_two_numbers_of_one_length() {
        let der = |first: &[u8], second: &[u8]| {
            let mut der = vec![0x02, u8::try_from(first.len()).unwrap()];
            der.extend_from_slice(first);
            der.extend([0x02, u8::try_from(second.len()).unwrap()]);
            der.extend_from_slice(second);
            let mut sequence = vec![0x30, u8::try_from(der.len()).unwrap()];
            sequence.extend(der);
            sequence
        };
        let long = [&[0][..], &[0xff; 32]].concat();
        let wanted = [&[0xff; 32][..], &[0; 31], &[7]].concat();
        assert_eq!(fixed(&der(&long, &[7])), Some(wanted));
        let whole = der(&[1; 32], &[2; 32]);
        assert_eq!(fixed(&whole).unwrap().len(), 64);
        let longer = [&whole[..], &[0]].concat();
        for broken in [&[][..], &whole[..10], &longer, &der(&[1; 33], &[2]), &[0x31, 0], &[0x30, 0x81, 1, 0]]
        {
            assert_eq!(fixed(broken), None, "{broken:?}");
        }
    }
}
