//! The authentication of the client, made just before a request is sent: its secret, or an assertion signed with its key.

use crate::environment;
use crate::error::{Failure, Kind};
use crate::grant::{ClientAuthentication, ClientKey, Document, Secret, UnixSeconds, is_visible_ascii};
use crate::protocol::Authentication;
use crate::protocol::assertion::{Algorithm, assertion, signing_input};
use crate::system;
use crate::system::secret::read_bounded;
use crate::text::{describe, printable};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::{RsaSigningKey, any_ecdsa_type};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{Signer, SigningKey};
use std::path::Path;

/// The longest key file, in bytes: an RSA key of 16,384 bits takes 13 KiB.
const KEY_LIMIT: usize = 64 << 10;

/// The authentication for one request that is sent at `now`. Fails if the configuration is incomplete: a variable that is not set,
/// a key that cannot be read or used.
///
/// Every request for a token or a revocation begins here, so this fails for a document that is not trusted.
pub fn authentication(document: &Document, now: UnixSeconds) -> Result<Authentication, Failure> {
    document.check_trust()?;
    match document.client_auth {
        ClientAuthentication::None => Ok(Authentication::None),
        ClientAuthentication::Basic | ClientAuthentication::Post => match &document.client_secret_env {
            Some(name) => Ok(Authentication::Secret(secret_in(name)?)),
            None => Ok(Authentication::stored(document)),
        },
        ClientAuthentication::PrivateKeyJwt => {
            let key = document.client_key.as_ref().ok_or_else(|| {
                Failure::new(Kind::Usage, "cannot prove the client: the profile names no private key")
                    .hint("onegrant login --client-key-file FILE")
            })?;
            Ok(Authentication::Assertion(signed(document, key, now)?))
        }
    }
}

fn secret_in(name: &str) -> Result<Secret, Failure> {
    let secret = environment::text(name).map(Secret::new);
    secret.filter(|secret| is_visible_ascii(secret.expose())).ok_or_else(|| {
        let message = format!("cannot prove the client: {} holds no client secret", printable(name));
        Failure::new(Kind::Usage, message).hint(format!("export {}=...", printable(name)))
    })
}

fn signed(document: &Document, key: &ClientKey, now: UnixSeconds) -> Result<Secret, Failure> {
    let (algorithm, signer) = signer(&key.file)?;
    let id = system::nonce().map_err(|error| unusable(&key.file, &describe(&error)))?;
    let input = signing_input(document, algorithm, &id, now);
    let signature = signer.sign(input.as_bytes()).map_err(|error| unusable(&key.file, &error.to_string()))?;
    assertion(&input, algorithm, &signature).ok_or_else(|| unusable(&key.file, "it signs in no known way"))
}

/// RSA and P-256, in PEM, as PKCS #8 or in their older forms.
fn signer(file: &Path) -> Result<(Algorithm, Box<dyn Signer>), Failure> {
    let pem = read_bounded(file, KEY_LIMIT).map_err(|error| unusable(file, &describe(&error)))?;
    let key = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
        .map_err(|_| unusable(file, "it holds no private key in PEM"))?;
    // One kind of key at a time: the function that signs with any kind would add the code for all of them to the program.
    let rsa = || RsaSigningKey::new(&key).ok()?.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
    let ecdsa = || any_ecdsa_type(&key).ok()?.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
    let es256 = ecdsa().map(|signer| (Algorithm::Es256, signer));
    es256
        .or_else(|| rsa().map(|signer| (Algorithm::Rs256, signer)))
        .ok_or_else(|| unusable(file, "the key is neither RSA nor P-256"))
}

fn unusable(file: &Path, why: &str) -> Failure {
    let shown = printable(&file.display().to_string());
    Failure::new(Kind::Usage, format!("cannot prove the client: the private key in {shown}: {why}")).hint(
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256   # makes a key that can be used",
    )
}
