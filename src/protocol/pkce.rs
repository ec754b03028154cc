//! Proof Key for Code Exchange (RFC 7636), for the authorization code grant and the device grant.

use super::Parameters;
use crate::grant::Secret;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

/// Random bytes in each text that must not be guessable: what RFC 7636 section 4.1 recommends for a code_verifier.
pub const RANDOM_BYTES: usize = 32;

/// Random bytes as text of unreserved characters, such as a code_verifier (RFC 7636 section 4.1).
pub fn random_text(bytes: [u8; RANDOM_BYTES]) -> Secret {
    Secret::new(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Adds the challenge for this code_verifier, by S256 (RFC 7636 section 4.2).
pub fn push_challenge(parameters: &mut Parameters, code_verifier: &Secret) {
    let digest = digest(&SHA256, code_verifier.expose().as_bytes());
    parameters.push("code_challenge", &BASE64_URL_SAFE_NO_PAD.encode(digest));
    parameters.push("code_challenge_method", "S256");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636 appendix B.
    #[test]
    fn the_challenge_is_the_one_of_the_standard() {
        let mut parameters = Parameters::default();
        push_challenge(&mut parameters, &Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert_eq!(parameters.get("code_challenge"), Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"));
        assert_eq!(parameters.get("code_challenge_method"), Some("S256"));
        assert_eq!(random_text([0xff; RANDOM_BYTES]).expose().len(), 43);
    }
}
