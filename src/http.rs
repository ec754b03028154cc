//! HTTP: the only user of ureq. One request, one connection, one answer or none; no redirect is followed.
//!
//! # What an error proves
//!
//! A refresh token that left this process may be spent, so every failure must tell whether it can have left.
//! ureq's errors alone do not tell: the same variants come before and after the request is sent. The body is
//! therefore handed over through a reader that notices its first use; ureq reads it only after the connection
//! stands, TLS is done and the head of the request is out.
//!
//! | ureq's error | comes from | alone it proves |
//! |---|---|---|
//! | `BadUri`, `Http`, `RequireHttpsOnly`, `InvalidProxyUrl` | the request itself | nothing was sent |
//! | `HostNotFound`, `Timeout(Resolve)` | looking the name up | nothing was sent |
//! | `ConnectionFailed`, `ConnectProxyFailed`, `Timeout(Connect)` | connecting, the proxy, TLS | nothing was sent |
//! | `TlsRequired` | TLS | nothing was sent |
//! | `Timeout(SendRequest)` | the head of the request | nothing was sent |
//! | `Io(ConnectionRefused)` | connecting | nothing was sent; not relied on |
//! | `Io(Uncategorized)` | looking a name up, and others | nothing |
//! | `Io(InvalidData)` | a bad certificate, a peer without TLS; garbage inside TLS later | nothing |
//! | `Io(UnexpectedEof)`, `Io(ConnectionReset)`, `Io(BrokenPipe)` | the peer hangs up, in TLS or later | nothing |
//! | `Timeout(Global)` | any phase | nothing |
//! | `Protocol`, `LargeResponseHeader`, `BodyExceedsLimit`, `BodyStalled` | reading the answer | it was sent |
//! | any error while the body of the answer is read | a cut, slow or huge answer | it was sent |
//!
//! So: the reader was used → [`HttpOutcome::Lost`]; it was not → [`HttpOutcome::NotSent`], or [`HttpOutcome::NoConnection`] where asking again
//! does not help. Proved against real sockets in `tests/protocol/http_outcomes.rs`. ureq sends a request once: it repeats none on a
//! new connection. Of the addresses of a name the first that answers is used (`http/connecting.rs`), for TLS and all that follows.

mod coding;
mod connecting;
mod deadline;
mod heads;
pub mod proxy;
mod resolver;
mod roots;
mod socket;
mod tls;
mod trust;

use crate::environment::NetworkSettings;
use crate::error::{Failure, Kind};
use crate::protocol::metadata::{Url, endpoint_url};
use crate::protocol::{Body, Headers, JSON, Request, Response};
use crate::text::{describe, printable};
use coding::Decoded;
use heads::HEAD_LIMIT;
use roots::Roots;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tls::{ClientCertificate, Tls};
use ureq::http::HeaderMap;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector};
use ureq::{Agent, Error, SendBody};

/// How long a connection may take, TLS included. A server that cannot even do that is better tried again later.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long an address may take to answer `doctor`.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The size of the two buffers of a connection, in bytes: a request fits into one.
const BUFFER: usize = 16 << 10;

/// How ureq words a proxy's answer that a user name and a password are needed (RFC 9110 section 15.5.8).
const PASSWORD_DEMANDED: &str = " 407";

/// Who asks.
const USER_AGENT: &str = concat!("onegrant/", env!("CARGO_PKG_VERSION"));

/// What became of a request. The texts are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpOutcome {
    /// A whole answer, whatever its status.
    Answered(Response),
    /// The body of the request never left this process.
    NotSent(String),
    /// The same, and asking again does not help: the server and this process cannot agree on TLS, or a proxy demands a
    /// password. The failure has a hint.
    NoConnection(Failure),
    /// The request was sent, or began to be, and no whole answer came. Always so for a GET that fails.
    Lost(String),
    /// The request was sent, and its answer is longer than the limits; the next one would be as long.
    TooLong(String),
}

impl HttpOutcome {
    /// The answer; of a request that may be repeated it is a failure not to have one.
    pub fn response(self) -> Result<Response, Failure> {
        match self {
            Self::Answered(response) => Ok(response),
            Self::NoConnection(failure) => Err(failure),
            Self::NotSent(why) | Self::Lost(why) | Self::TooLong(why) => {
                Err(Failure::new(Kind::Temporary, why))
            }
        }
    }
}

/// Sends requests. Nothing is loaded before the first one.
pub struct HttpClient {
    environment: NetworkSettings,
    roots: OnceLock<Roots>,
    certificate: Option<ClientCertificate>,
}

impl HttpClient {
    /// A client for this environment. Costs nothing.
    pub fn new(environment: &NetworkSettings) -> Self {
        Self { environment: environment.clone(), roots: OnceLock::new(), certificate: None }
    }

    /// The same, which shows servers this certificate and proves it by this key; both are files of PEM (RFC 7468), and
    /// may be one.
    pub fn with_certificate(self, certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let unusable = |path: &Path, why: &str| {
            let message = printable(&format!("cannot use {}: {why}", path.display()));
            Failure::new(Kind::Usage, message)
        };
        let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, &describe(&error)));
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| unusable(certificate, "there is no certificate in it"))?;
        let proof = PrivateKeyDer::from_pem_slice(&read(key)?);
        let proof = proof.map_err(|_| unusable(key, "there is no private key in it"))?;
        let pair = ClientCertificate::new(chain, proof);
        let pair = pair
            .map_err(|error| unusable(key, &format!("as the key of {}: {error}", certificate.display())))?;
        Ok(Self { certificate: Some(pair), ..self })
    }

    /// What was wrong with the configuration without being an error: CA roots that could not be read. Empty
    /// before the first request over TLS.
    pub fn warnings(&self) -> &[String] {
        self.roots.get().map(|roots| roots.warnings.as_slice()).unwrap_or_default()
    }

    /// Where the CA roots come from, and what was wrong with those that were named. Reads them.
    pub fn ca_roots(&self) -> (&str, &[String]) {
        let roots = self.roots.get_or_init(|| Roots::load(&self.environment));
        (&roots.origin, &roots.warnings)
    }

    /// How a request gets to this address, in words; fails as a request would where the proxy cannot be used.
    pub fn way_to(&self, address: &Url) -> Result<String, Failure> {
        proxy::describe(address, &self.environment)
    }

    /// The host that requests to this address go to, which is a proxy's where one is used, and those of its addresses that
    /// do not answer, with the reasons. None where all of them answer, or no address is known.
    pub fn silent_addresses(
        &self,
        address: &Url,
        timeout: Duration,
    ) -> (String, Vec<(SocketAddr, io::Error)>) {
        let proxy = proxy::proxy_for(address, &self.environment).ok().flatten();
        let (host, port) = match &proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (address.host.as_str(), address.port),
        };
        let limit = ANSWER_LIMIT.min(timeout / 2);
        let addresses = resolver::addresses(host, port, limit).ok().flatten().unwrap_or_default();
        (printable(host), connecting::silent(&addresses, limit))
    }

    fn route(&self, url: &str) -> Result<(Url, Option<ureq::Proxy>), Failure> {
        let address = endpoint_url(url)?;
        let proxy = proxy::proxy_for(&address, &self.environment)?;
        Ok((address, proxy))
    }

    /// Sends one request once and waits for the whole answer, no longer than `timeout` in all. Fails where no
    /// repetition helps: a URL that no credential may be sent to, a proxy that cannot be used.
    pub fn send(&self, request: &Request, timeout: Duration) -> Result<HttpOutcome, Failure> {
        let (address, proxy) = self.route(&request.url)?;
        let exchange = Exchange {
            roots: address.is_secure.then(|| self.roots.get_or_init(|| Roots::load(&self.environment))),
            via: proxy.as_ref().map(|proxy| {
                let scheme = proxy.uri().scheme_str().unwrap_or("http").to_owned();
                (scheme, format!("{}:{}", proxy.host(), proxy.port()))
            }),
            timeout,
            deadline: Instant::now() + timeout,
            connect: CONNECT_LIMIT.min(timeout / 2),
            address,
            certificate: self.certificate.as_ref(),
        };
        Ok(exchange.run(request, proxy))
    }
}

/// One request and what its failure texts need to know.
struct Exchange<'a> {
    address: Url,
    /// The scheme of the proxy, and its host and port.
    via: Option<(String, String)>,
    /// The CA roots, for TLS.
    roots: Option<&'a Roots>,
    /// What is shown to a server that asks who is there.
    certificate: Option<&'a ClientCertificate>,
    timeout: Duration,
    deadline: Instant,
    /// How long the looking up and the connecting may each take.
    connect: Duration,
}

impl Exchange<'_> {
    fn run(&self, request: &Request, proxy: Option<ureq::Proxy>) -> HttpOutcome {
        let agent = match self.agent(proxy) {
            Ok(agent) => agent,
            Err(error) => return self.not_sent(&error),
        };
        let encoded = request.body.encoded();
        let bytes = encoded.as_ref().map_or(&[][..], |(_, text)| text.expose().as_bytes());
        let mut body = Watched { rest: bytes, is_read: false };
        let mut head = ureq::http::Request::builder().method(request.method.as_str()).uri(&request.url);
        // Without this field any content coding is allowed (RFC 9110 section 12.5.3).
        head = head.header("accept-encoding", "identity");
        for (name, value) in request.headers.iter() {
            head = head.header(name, value);
        }
        let answer = match &encoded {
            None => head.body(()).map_err(Error::from).and_then(|request| agent.run(request)),
            // A body of known length is not sent in chunks, which some servers do not read.
            Some((content_type, _)) => head
                .header("content-type", *content_type)
                .header("content-length", bytes.len().to_string())
                .body(SendBody::from_reader(&mut body))
                .map_err(Error::from)
                .and_then(|request| agent.run(request)),
        };
        let is_sent = body.is_read || request.body == Body::None;
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => {
                return match (tls_error(&error), &error, &self.via) {
                    (Some(error), ..) if !body.is_read => self.no_tls(error),
                    (None, Error::ConnectProxyFailed(said), Some(via))
                        if said.contains(PASSWORD_DEMANDED) =>
                    {
                        self.no_password(via)
                    }
                    _ if is_sent => self.lost(&error),
                    _ => self.not_sent(&error),
                };
            }
        };
        let (status, headers) = (response.status().as_u16(), headers(response.headers()));
        let coding = codings(&headers);
        let limit = request.extent.limit;
        let body = response.body_mut().with_config().limit(limit);
        let read = match request.extent.lines {
            None => body.read_to_vec(),
            Some(lines) => read_lines(BufReader::new(body.reader()), lines).map_err(Error::from),
        };
        match read.map(|body| coding::decoded(body, coding.as_deref(), limit)) {
            Ok(Decoded::Body(body, unreadable)) => {
                HttpOutcome::Answered(Response { status, headers, body, unreadable })
            }
            Ok(Decoded::TooLong) => self.lost(&Error::BodyExceedsLimit(limit)),
            Err(error) => self.lost(&error),
        }
    }

    /// An agent for one request: no connection outlives it.
    fn agent(&self, proxy: Option<ureq::Proxy>) -> Result<Agent, Error> {
        let tls = Tls::new(Roots::anchors(self.roots), self.certificate).map_err(io::Error::other)?;
        let config = Agent::config_builder()
            .proxy(proxy)
            .https_only(self.address.is_secure)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .max_response_header_size(HEAD_LIMIT)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .user_agent(USER_AGENT)
            .accept(JSON)
            .timeout_resolve(Some(self.connect))
            .timeout_connect(Some(self.connect))
            .build();
        let connector = ConnectProxyConnector::default()
            .chain(socket::Connecting)
            .chain(tls)
            .chain(deadline::Deadline(self.deadline))
            .chain(heads::Heads);
        Ok(Agent::with_parts(config, connector, resolver::Resolver))
    }

    fn not_sent(&self, error: &Error) -> HttpOutcome {
        let target = self.target();
        let seconds = self.connect.as_secs_f32();
        HttpOutcome::NotSent(match error {
            Error::Timeout(_) => format!("no connection to {target} within {seconds:.1} s"),
            error => format!("cannot connect to {target}: {}", causes(error)),
        })
    }

    /// A missing private CA is the usual reason, so that the roots that were used are named.
    fn no_tls(&self, error: &rustls::Error) -> HttpOutcome {
        let roots = self.roots.map_or("none", |roots| roots.origin.as_str());
        let (what, hint) = trust::explained(error, &self.address, roots);
        let message = format!("cannot connect to {}: {what}", self.target());
        HttpOutcome::NoConnection(Failure::new(Kind::Temporary, message).hint(hint))
    }

    fn no_password(&self, (scheme, proxy): &(String, String)) -> HttpOutcome {
        let message =
            format!("cannot connect to {}: the proxy demands a user name and a password", self.target());
        // Of the variables that name a proxy this one counts first.
        let hint = printable(&format!("export https_proxy={scheme}://USER:PASSWORD@{proxy}"));
        HttpOutcome::NoConnection(Failure::new(Kind::Temporary, message).hint(hint))
    }

    fn lost(&self, error: &Error) -> HttpOutcome {
        let target = self.target();
        match error {
            Error::Timeout(_) => {
                let seconds = self.timeout.as_secs_f32();
                HttpOutcome::Lost(format!("no whole answer from {target} within {seconds:.1} s"))
            }
            Error::BodyExceedsLimit(limit) => {
                HttpOutcome::TooLong(format!("the answer from {target} is longer than {limit} bytes"))
            }
            Error::LargeResponseHeader(..) => HttpOutcome::TooLong(format!(
                "the head of the answer from {target} is longer than {HEAD_LIMIT} bytes"
            )),
            error if is_unreachable(error) => {
                HttpOutcome::Lost(format!("cannot connect to {target}: {}", causes(error)))
            }
            error => HttpOutcome::Lost(format!("no whole answer from {target}: {}", causes(error))),
        }
    }

    fn target(&self) -> String {
        let target = self.address.host_and_port();
        match &self.via {
            Some((_, proxy)) => printable(&format!("{target} through the proxy {proxy}")),
            None => target,
        }
    }
}

fn read_lines(mut reader: impl BufRead, lines: usize) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    for _ in 0..lines {
        reader.read_until(b'\n', &mut read)?;
    }
    Ok(read)
}

/// The fields that are text, in order.
fn headers(fields: &HeaderMap) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in fields {
        if let Ok(value) = value.to_str() {
            headers.push(name.as_str(), value);
        }
    }
    headers
}

/// All content codings, in the order in which they were applied (RFC 9110 section 8.4).
fn codings(headers: &Headers) -> Option<String> {
    let lines: Vec<&str> = headers.all("content-encoding").collect();
    Some(lines.join(", ")).filter(|codings| !codings.is_empty())
}

/// The body of a request, and whether anybody has looked at it.
struct Watched<'a> {
    rest: &'a [u8],
    is_read: bool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.is_read = true;
        self.rest.read(buffer)
    }
}

fn is_unreachable(error: &Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    match error {
        Error::HostNotFound | Error::ConnectionFailed => true,
        Error::Io(error) => matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable),
        _ => false,
    }
}

/// What rustls says, where it is the reason.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// The error with all its causes, fit to be shown.
fn causes(error: &Error) -> String {
    let Error::Io(error) = error else {
        return printable(&error.to_string());
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    // The number says nothing that the words before it do not.
    let text = match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => words,
        _ => &text,
    };
    printable(text)
}
