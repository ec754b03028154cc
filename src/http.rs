//! HTTP: the only user of ureq. One request, one connection, at most one response; no redirect is followed.
//!
//! # What an error proves
//!
//! A refresh token that left this process may be spent. So every failure must tell whether the request can have left.
//! ureq's errors alone do not tell: the same variants occur before and after the request is sent. So ureq reads the body
//! from a reader that records its first use. That is after the connection is made, TLS is done, and the head of the request is
//! sent.
//!
//! | ureq's error | occurs in | proves by itself |
//! |---|---|---|
//! | `BadUri`, `Http`, `RequireHttpsOnly`, `InvalidProxyUrl` | the request itself | nothing was sent |
//! | `HostNotFound`, `Timeout(Resolve)`, `Other` (an address beyond the limit) | the name look-up | nothing was sent |
//! | `ConnectionFailed`, `ConnectProxyFailed`, `Timeout(Connect)` | connecting, the proxy, TLS | nothing was sent |
//! | `TlsRequired` | TLS | nothing was sent |
//! | `Timeout(SendRequest)` | the head of the request | nothing was sent |
//! | `Io(ConnectionRefused)` | connecting | nothing was sent, but this is not relied on |
//! | `Io(Uncategorized)` | the name look-up, and others | nothing |
//! | `Io(InvalidData)` | a bad certificate, a server without TLS; later: garbage inside TLS | nothing |
//! | `Io(UnexpectedEof)`, `Io(ConnectionReset)`, `Io(BrokenPipe)` | the server hangs up, in TLS or later | nothing |
//! | `Timeout(Global)` | any phase | nothing |
//! | `Protocol`, `LargeResponseHeader`, `BodyExceedsLimit`, `BodyStalled` | reading the response | it was sent |
//! | any error while the body of the response is read | a cut, slow or huge response | it was sent |
//!
//! If the reader was used, the outcome is [`HttpOutcome::Lost`]. If it was not, the outcome is [`HttpOutcome::NotSent`], or
//! [`HttpOutcome::NoConnection`] if a repetition does not help. `tests/protocol/http_outcomes.rs` proves this with real sockets. ureq
//! sends a request once: it repeats none on a new connection. The first address of a name that answers is used
//! (`http/connecting.rs`), for TLS and all that follows.

mod coding;
mod connecting;
mod deadline;
mod heads;
mod limit;
pub mod proxy;
mod resolver;
mod roots;
mod socket;
mod tls;
mod trust;

use crate::environment::NetworkSettings;
use crate::error::{Failure, Kind};
use crate::protocol::metadata::{Url, endpoint_url};
use crate::protocol::reach::{Reach, refusal};
use crate::protocol::{Body, Headers, JSON, Request, Response};
use crate::text::{describe, printable, tenths};
use coding::Decoded;
use heads::HEAD_LIMIT;
use limit::Limit;
use roots::Roots;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tls::{ClientCertificate, Tls};
use ureq::http::HeaderMap;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector};
use ureq::{Agent, Error, SendBody};

/// The longest time to connect, TLS included. If a server needs more, a later try is better.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The longest time that `doctor` waits for an address.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The size of the two buffers of a connection, in bytes. A request fits into one.
const BUFFER: usize = 16 << 10;

/// The part of ureq's message that says that a proxy demands a user name and a password (RFC 9110 section 15.5.8). ureq
/// has no type for it.
const PASSWORD_DEMANDED: &str = " 407";

/// The `User-Agent` header.
const USER_AGENT: &str = concat!("onegrant/", env!("CARGO_PKG_VERSION"));

/// What happened to one HTTP exchange. The texts are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpOutcome {
    /// A whole response, of any status.
    Answered(Response),
    /// The body of the request never left this process.
    NotSent(String),
    /// The body of the request never left this process, and a repetition does not help: the server and this process
    /// cannot agree on TLS, a proxy demands a password, or the addresses of the server are beyond the limit of the client.
    NoConnection(Failure),
    /// The request was sent, at least in part, and no whole response came. A GET that fails is always lost.
    Lost(String),
    /// The request was sent, and the response is longer than the limits. The next one would be as long.
    TooLong(String),
}

impl HttpOutcome {
    /// The response. For a request that may be repeated, it is a failure to get none: a temporary one, unless a repetition does
    /// not help.
    pub fn response(self) -> Result<Response, Failure> {
        match self {
            Self::Answered(response) => Ok(response),
            Self::NoConnection(failure) => Err(failure),
            Self::NotSent(why) | Self::Lost(why) => Err(Failure::new(Kind::Temporary, why)),
            Self::TooLong(why) => Err(Failure::new(Kind::Usage, why)),
        }
    }
}

/// Sends requests. It loads nothing before the first one.
pub struct HttpClient {
    environment: NetworkSettings,
    roots: Arc<OnceLock<Roots>>,
    certificate: Option<ClientCertificate>,
    /// `None`: each address may be used, because a person named it.
    limit: Option<Arc<Limit>>,
    /// The Unix socket to which all connections are made, whatever the address.
    socket: Option<Arc<Path>>,
}

impl HttpClient {
    /// A client for this environment. Making it costs nothing.
    pub fn new(environment: &NetworkSettings) -> Self {
        let environment = environment.clone();
        Self { environment, roots: Arc::default(), certificate: None, limit: None, socket: None }
    }

    /// A client for addresses that a document names. It connects to no address beyond `limit`, whichever name the address
    /// has: a request to a host without another address is a failure of usage, and no connection is made. The two clients share
    /// their CA roots.
    ///
    /// If a request goes through a proxy, then the proxy looks the name up. Only a host that is an address, or this machine, by
    /// its text is refused. A name counts as public.
    pub fn limited_to(&self, limit: Reach) -> Self {
        Self {
            environment: self.environment.clone(),
            roots: Arc::clone(&self.roots),
            certificate: self.certificate.clone(),
            limit: Some(Arc::new(Limit::new(limit))),
            socket: None,
        }
    }

    /// The client that makes all connections to this Unix socket.
    pub fn to_socket(self, socket: &Path) -> Self {
        Self { socket: Some(socket.into()), ..self }
    }

    /// The limit for addresses that the answers to this client name: the smallest class of the addresses that it connected to.
    /// Before the first connection this is its own limit. It counts which address answered, and not which addresses the name
    /// has: the owner of a name can give it private addresses, and can change them between two look-ups.
    pub fn reached(&self) -> Reach {
        self.limit.as_ref().map_or(Reach::Loopback, |limit| limit.reached())
    }

    /// The client with this certificate and its private key. Both are PEM files (RFC 7468), and may be one file.
    pub fn with_certificate(self, certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let unusable = |path: &Path, why: &str| {
            let message = printable(&format!("cannot use {}: {why}", path.display()));
            Failure::new(Kind::Usage, message)
        };
        let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, &describe(&error)));
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| unusable(certificate, "there is no certificate in it"))?;
        let private_key = PrivateKeyDer::from_pem_slice(&read(key)?);
        let private_key = private_key.map_err(|_| unusable(key, "there is no private key in it"))?;
        let pair = ClientCertificate::new(chain, private_key);
        let pair = pair
            .map_err(|error| unusable(key, &format!("as the key of {}: {error}", certificate.display())))?;
        Ok(Self { certificate: Some(pair), ..self })
    }

    /// Warnings about the configuration: CA roots that could not be read. Empty before the first request over TLS.
    pub fn warnings(&self) -> &[String] {
        self.roots.get().map(|roots| roots.warnings.as_slice()).unwrap_or_default()
    }

    /// Where the CA roots come from, and the warnings about them. Reads them.
    pub fn ca_roots(&self) -> (&str, &[String]) {
        let roots = self.roots.get_or_init(|| Roots::load(&self.environment));
        (&roots.origin, &roots.warnings)
    }

    /// The way of a request to this address, in words. Fails like a request if the proxy cannot be used.
    pub fn way_to(&self, address: &Url) -> Result<String, Failure> {
        proxy::describe(address, &self.environment)
    }

    /// The host that requests to this address reach first (the proxy, if there is one), and those of its addresses that
    /// do not answer, with the reasons. Empty if all of them answer, or if no address is known.
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

    /// Sends one request once and waits for the whole response, at most `timeout`. Fails if a repetition does not help:
    /// no credential may be sent to this URL, the proxy cannot be used, or the host is by its text beyond the limit.
    pub fn send(&self, request: &Request, timeout: Duration) -> Result<HttpOutcome, Failure> {
        let (address, proxy) = self.route(&request.url)?;
        let mut limit = self.limit.clone();
        if proxy.is_some()
            && let Some(limit) = limit.take()
        {
            let reach = Reach::of_host(&address.host);
            if reach > limit.most() {
                return Err(refusal(&request.url, reach, limit.most()));
            }
            limit.note(reach);
        }
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
            limit,
            socket: self.socket.clone(),
        };
        Ok(exchange.run(request, proxy))
    }
}

/// One request, and what the texts of its failures need.
struct Exchange<'a> {
    address: Url,
    /// The scheme of the proxy, and its host and port.
    via: Option<(String, String)>,
    /// The CA roots, for TLS.
    roots: Option<&'a Roots>,
    /// The certificate for a server that asks for one.
    certificate: Option<&'a ClientCertificate>,
    timeout: Duration,
    deadline: Instant,
    /// The longest time for each of name look-up and connection.
    connect: Duration,
    /// The limit of the connection. A proxy has none: a person named it.
    limit: Option<Arc<Limit>>,
    /// The Unix socket that takes the place of the address.
    socket: Option<Arc<Path>>,
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
                if let Some(refusal) = limit_error(&error) {
                    return HttpOutcome::NoConnection(refusal.clone());
                }
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

    /// An agent for one request. No connection outlives it.
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
            .chain(socket::Connecting { limit: self.limit.clone(), socket: self.socket.clone() })
            .chain(tls)
            .chain(deadline::Deadline(self.deadline))
            .chain(heads::Heads);
        Ok(Agent::with_parts(config, connector, resolver::Resolver(self.limit.clone())))
    }

    fn not_sent(&self, error: &Error) -> HttpOutcome {
        let target = self.target();
        let seconds = tenths(self.connect);
        HttpOutcome::NotSent(match error {
            Error::Timeout(_) => format!("no connection to {target} within {seconds} s"),
            error => format!("cannot connect to {target}: {}", causes(error)),
        })
    }

    /// The usual reason is a missing private CA, so the message names the roots in use.
    fn no_tls(&self, error: &rustls::Error) -> HttpOutcome {
        let roots = self.roots.map_or("none", |roots| roots.origin.as_str());
        let (what, hint) = trust::explained(error, &self.address, roots);
        let message = format!("cannot connect to {}: {what}", self.target());
        HttpOutcome::NoConnection(Failure::new(Kind::Temporary, message).hint(hint))
    }

    fn no_password(&self, (scheme, proxy): &(String, String)) -> HttpOutcome {
        let message =
            format!("cannot connect to {}: the proxy demands a user name and a password", self.target());
        // This variable takes precedence over the others that name a proxy.
        let hint = printable(&format!("export https_proxy={scheme}://USER:PASSWORD@{proxy}"));
        HttpOutcome::NoConnection(Failure::new(Kind::Temporary, message).hint(hint))
    }

    fn lost(&self, error: &Error) -> HttpOutcome {
        let target = self.target();
        match error {
            Error::Timeout(_) => {
                let seconds = tenths(self.timeout);
                HttpOutcome::Lost(format!("no whole answer from {target} within {seconds} s"))
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
        if let Some(socket) = &self.socket {
            return printable(&format!("unix:{}", socket.display()));
        }
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

/// The body of a request, and whether it was read.
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
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound, PermissionDenied};
    match error {
        Error::HostNotFound | Error::ConnectionFailed => true,
        // The last two are of a Unix socket.
        Error::Io(error) => matches!(
            error.kind(),
            ConnectionRefused | HostUnreachable | NetworkUnreachable | NotFound | PermissionDenied
        ),
        _ => false,
    }
}

/// The error of rustls, if it is the reason.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// The refusal of the resolver, if it is the reason.
fn limit_error(error: &Error) -> Option<&Failure> {
    match error {
        Error::Other(error) => error.downcast_ref(),
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
    // The number adds nothing to the words before it.
    let text = match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => words,
        _ => &text,
    };
    printable(text)
}
