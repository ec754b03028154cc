//! TLS as ureq's transport. ureq's own connector accepts CA roots only as whole certificates. This one accepts trust
//! anchors. The built-in ones are a third of the size and need no parsing.

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// A client certificate with its private key.
#[derive(Clone, Debug)]
pub(super) struct ClientCertificate(Arc<SingleCertAndKey>);

impl ClientCertificate {
    /// Fails if the kind of key is not known, or if it is not the key of the first certificate.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, Error> {
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        Ok(Self(Arc::new(certified.into())))
    }
}

/// Wraps a connection in TLS, if the request asks for it.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// The certificate of the server must descend from `roots`. `certificate` is for a server that asks for one.
    pub fn new(roots: Arc<RootCertStore>, certificate: Option<&ClientCertificate>) -> Result<Self, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(ClientCertificate(certificate)) => {
                let resolver: Arc<dyn ResolvesClientCert> = certificate.clone();
                builder.with_client_cert_resolver(resolver)
            }
        };
        Ok(Self { config: Arc::new(config) })
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Encrypted>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        made: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(made) = made else { return Ok(None) };
        if !details.needs_tls() || made.is_tls() {
            return Ok(Some(Either::A(made)));
        }
        let name = ServerName::try_from(host(details)).map_err(io::Error::other)?.to_owned();
        let connection = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let adapter = TransportAdapter::new(made.boxed(), details.current_time.clone());
        let mut stream = StreamOwned::new(connection, adapter);
        stream.sock.set_timeout(details.timeout);
        stream.conn.complete_io(&mut stream.sock)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Encrypted { stream, buffers })))
    }
}

/// The host of the request. rustls expects an IPv6 address without its brackets.
fn host<'a>(details: &'a ConnectionDetails) -> &'a str {
    let host = details.uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// A connection with TLS.
pub(super) struct Encrypted {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Encrypted").finish_non_exhaustive()
    }
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Never called: no connection is used twice.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        true
    }
}
