//! The loopback redirection (RFC 8252 section 7.3): its URI, and the HTTP requests that arrive there.

use super::metadata::endpoint_url;
use crate::error::{Failure, Kind};
use crate::text::printable;
// From `core`: addresses as values, no sockets.
use core::net::Ipv6Addr;

/// The longest head of a request, in bytes: an authorization code, and all cookies for this machine, which browsers send
/// along.
pub const HEAD_LIMIT: usize = 64 << 10;

/// The host of a redirect URI. It says on which addresses to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// 127.0.0.1
    V4,
    /// `[::1]`
    V6,
    /// `localhost`: either of them, as the browser decides.
    Localhost,
}

/// A loopback redirect URI. It may leave the port open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri {
    /// The host to listen on.
    pub host: Host,
    /// The port, if the URI names one.
    pub port: Option<u16>,
    /// The path that is served.
    pub path: String,
    origin: String,
    rest: String,
}

impl RedirectUri {
    /// Reads a redirect URI as it is registered with the server.
    pub fn parse(uri: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::new(Kind::Usage, format!("cannot use the redirect URI {}: {why}", printable(uri)))
                .hint("onegrant login --redirect-uri http://127.0.0.1/callback   # or [::1], or localhost, with any port")
        };
        let address = endpoint_url(uri)?;
        let host = match address.host.as_str() {
            _ if address.is_secure => return Err(refuse("nothing here can answer over TLS")),
            "127.0.0.1" => Host::V4,
            "localhost" => Host::Localhost,
            host if host.parse() == Ok(Ipv6Addr::LOCALHOST) => Host::V6,
            _ => return Err(refuse("its host is not this machine's loopback address")),
        };
        let behind_scheme = uri.find("://").map_or(0, |start| start.saturating_add(3));
        let start = uri.get(behind_scheme..).and_then(|rest| rest.find(['/', '?']));
        let (origin, rest) =
            uri.split_at(start.map_or(uri.len(), |start| behind_scheme.saturating_add(start)));
        let behind_host = origin.rsplit(']').next().unwrap_or_default();
        let has_port = behind_host.get(if behind_host == origin { behind_scheme } else { 0 }..);
        let port = has_port.is_some_and(|text| text.contains(':')).then_some(address.port);
        if port == Some(0) {
            return Err(refuse("its port is 0"));
        }
        let path = rest.split('?').next().filter(|path| !path.is_empty()).unwrap_or("/");
        Ok(Self { host, port, path: path.to_owned(), origin: origin.to_owned(), rest: rest.to_owned() })
    }

    /// The URI with this port, or with its own.
    pub fn with_port(&self, port: u16) -> String {
        match self.port {
            Some(_) => format!("{}{}", self.origin, self.rest),
            None => format!("{}:{port}{}", self.origin, self.rest),
        }
    }
}

impl Default for RedirectUri {
    /// `http://127.0.0.1/callback`: the default, if no URI with a port or a path of its own is registered.
    fn default() -> Self {
        let [origin, path] = ["http://127.0.0.1", "/callback"].map(str::to_owned);
        Self { host: Host::V4, port: None, path: path.clone(), origin, rest: path }
    }
}

/// What has arrived over one connection so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The head of the request is not complete yet.
    Partial,
    /// A GET request.
    Get {
        /// The path.
        path: &'a str,
        /// The query. Empty if there is none.
        query: &'a str,
    },
    /// Anything else, and the status to answer with (RFC 9110 section 15.5).
    Refused(u16),
}

/// Reads the head of an HTTP/1 request (RFC 9112 sections 2 and 3). No header field is needed.
pub fn read(bytes: &[u8]) -> Received<'_> {
    let is_whole = bytes.windows(4).any(|window| window == b"\r\n\r\n")
        || bytes.windows(2).any(|window| window == b"\n\n");
    if !is_whole {
        return if bytes.len() > HEAD_LIMIT { Received::Refused(431) } else { Received::Partial };
    }
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_visible = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let Some(line) = std::str::from_utf8(line).ok().filter(|line| line.as_bytes().iter().all(is_visible))
    else {
        return Received::Refused(400);
    };
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Received::Refused(400);
    };
    if !version.starts_with("HTTP/1.") || method.is_empty() {
        return Received::Refused(400);
    }
    let Some(target) = in_origin_form(target) else {
        return Received::Refused(400);
    };
    if method != "GET" {
        return Received::Refused(405);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Received::Get { path, query }
}

/// The target without scheme and host. A server must accept a target with them (RFC 9112 section 3.2.2).
pub fn in_origin_form(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let (_, rest) = target.split_once("://")?;
    rest.find(['/', '?']).and_then(|start| rest.get(start..)).filter(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_is_this_machines_and_keeps_its_spelling() {
        let good = [
            ("http://127.0.0.1/callback", Host::V4, None, "/callback", "http://127.0.0.1:7/callback"),
            ("http://127.0.0.1:80/", Host::V4, Some(80), "/", "http://127.0.0.1:80/"),
            ("http://localhost:8080", Host::Localhost, Some(8080), "/", "http://localhost:8080"),
            ("http://LocalHost", Host::Localhost, None, "/", "http://LocalHost:7"),
            ("http://[::1]/a/b?x=1", Host::V6, None, "/a/b", "http://[::1]:7/a/b?x=1"),
            ("http://[::1]:9?x=:1", Host::V6, Some(9), "/", "http://[::1]:9?x=:1"),
            ("HTTP://localhost/a:b", Host::Localhost, None, "/a:b", "HTTP://localhost:7/a:b"),
        ];
        for (uri, host, port, path, with_port) in good {
            let read = RedirectUri::parse(uri).unwrap();
            assert_eq!((read.host, read.port, read.path.as_str()), (host, port, path), "{uri}");
            assert_eq!(read.with_port(7), with_port);
        }
        for uri in [
            "https://localhost/",
            "http://127.0.0.2/",
            "http://as.example/",
            "https://as.example/",
            "http://127.0.0.1:0/",
            "http://u@127.0.0.1/",
            "http://127.0.0.1/#f",
            "app:/callback",
            "",
        ] {
            assert_eq!(RedirectUri::parse(uri).map_err(|failure| failure.kind), Err(Kind::Usage), "{uri}");
        }
        assert_eq!(RedirectUri::default(), RedirectUri::parse("http://127.0.0.1/callback").unwrap());
    }

    #[test]
    fn a_request_is_read_by_its_first_line_once_its_head_is_whole() {
        let get = |path, query| Received::Get { path, query };
        let long = format!("GET /{}", "x".repeat(HEAD_LIMIT));
        let cases: [(&str, Received); 16] = [
            ("", Received::Partial),
            ("GET /callback?code=c HTTP/1.1\r\nhost: x\r\n", Received::Partial),
            ("GET /callback?code=c HTTP/1.1\r\nhost: x\r\n\r\n", get("/callback", "code=c")),
            ("GET /callback HTTP/1.0\n\n", get("/callback", "")),
            ("GET http://127.0.0.1:7/a?b?c HTTP/1.1\r\n\r\n", get("/a", "b?c")),
            ("HEAD / HTTP/1.1\r\n\r\n", Received::Refused(405)),
            ("POST /callback HTTP/1.1\r\n\r\ncode=c", Received::Refused(405)),
            ("get / HTTP/1.1\r\n\r\n", Received::Refused(405)),
            ("GET  / HTTP/1.1\r\n\r\n", Received::Refused(400)),
            ("GET /\r\n\r\n", Received::Refused(400)),
            ("GET x HTTP/1.1\r\n\r\n", Received::Refused(400)),
            ("GET http://x?y HTTP/1.1\r\n\r\n", Received::Refused(400)),
            ("PRI * HTTP/2.0\r\n\r\n", Received::Refused(400)),
            ("GET /\u{e4} HTTP/1.1\r\n\r\n", Received::Refused(400)),
            ("\r\n\r\n", Received::Refused(400)),
            (&long, Received::Refused(431)),
        ];
        for (text, wanted) in cases {
            assert_eq!(read(text.as_bytes()), wanted, "{text:.60}");
        }
    }
}
