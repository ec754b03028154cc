//! The cryptography of ring; without the ways to sign with a private key, where there is no client certificate.

use rustls::Error;
use rustls::crypto::{CryptoProvider, KeyProvider, ring};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use std::sync::Arc;

/// What TLS is done with.
pub(super) fn provider(signs: bool) -> CryptoProvider {
    match signs {
        true => ring::default_provider(),
        false => CryptoProvider { key_provider: &NoPrivateKeys, ..ring::default_provider() },
    }
}

#[derive(Debug)]
struct NoPrivateKeys;

impl KeyProvider for NoPrivateKeys {
    fn load_private_key(&self, _key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("there are no client certificates".to_owned()))
    }
}
