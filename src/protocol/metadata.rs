//! Authorization server metadata (RFC 8414, OpenID Connect Discovery 1.0), and which endpoints may be used.

use super::Response;
use super::hints::{login_at, shell_word};
use super::response::Content;
use crate::error::{Failure, Kind};
use crate::text::printable;
// From `core`: addresses as values, no sockets.
use core::net::{Ipv4Addr, Ipv6Addr};
use serde_json::{Map, Value};

/// The longest URL, in bytes: what common servers accept.
pub const URL_LIMIT: usize = 8192;

/// The longest host, in bytes: the longest name of RFC 1035 section 2.3.4 as text.
const HOST_LIMIT: usize = 253;

/// The parts of a URL that decide where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether the scheme is `https`. Otherwise it is `http`.
    pub is_secure: bool,
    /// The host in lower case. An IPv6 address has no brackets.
    pub host: String,
    /// The port. If the URL names none, it is the default of the scheme.
    pub port: u16,
}

impl Url {
    /// Whether the host is this machine: 127.0.0.0/8, `::1` or `localhost`.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// `HOST:PORT`, as in a URL.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

/// A host as in a URL: an IPv6 address has brackets there (RFC 3986 section 3.2.2).
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Whether a host, in lower case and without brackets, is this machine: 127.0.0.0/8, `::1` or `localhost`.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

/// Checks a URL that a credential may be sent to: `https`, or `http` for a loopback host; visible ASCII; no fragment (RFC
/// 6749 section 3.2); no user information, because messages show URLs.
pub fn endpoint_url(url: &str) -> Result<Url, Failure> {
    let refuse = |why: &str| {
        // A URL with user information is not repeated, because it may hold a password.
        let shown = if url.contains('@') { "the URL".to_owned() } else { printable(url) };
        Err(Failure::new(Kind::Usage, format!("cannot use {shown}: {why}")))
    };
    let refused = ['\\', '"', '<', '>', '^', '`', '{', '|', '}'];
    if url.len() > URL_LIMIT {
        return refuse("it is too long");
    }
    if !url.chars().all(|character| character.is_ascii_graphic() && !refused.contains(&character)) {
        return refuse("it holds a character that has no place in a URL");
    }
    if url.contains('#') {
        return refuse("it has a fragment");
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse("it does not begin with https://");
    };
    let is_secure = scheme.eq_ignore_ascii_case("https");
    if !is_secure && !scheme.eq_ignore_ascii_case("http") {
        return refuse("it does not begin with https://");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return refuse("it holds a user name or a password");
    }
    let Some(address) = authority_of(is_secure, authority) else {
        return refuse("it has no valid host and port");
    };
    if !is_secure && !address.is_loopback() {
        return refuse("plain http is for loopback addresses only; use https");
    }
    Ok(address)
}

/// The origin of the token endpoint. It takes the place of an unknown issuer.
pub fn origin(token_endpoint: &str) -> Result<String, Failure> {
    let address = endpoint_url(token_endpoint)?;
    let (scheme, port) = if address.is_secure { ("https", ":443") } else { ("http", ":80") };
    let host = address.host_and_port();
    Ok(format!("{scheme}://{}", host.strip_suffix(port).unwrap_or(&host)))
}

/// Where any `http` or `https` URL points, even if no credential may go there.
pub(crate) fn address_of(url: &str) -> Option<Url> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit('@').next()?;
    authority_of(scheme.eq_ignore_ascii_case("https"), host)
}

pub(crate) fn authority_of(is_secure: bool, authority: &str) -> Option<Url> {
    let (host, port) = split_host_and_port(authority)?;
    Some(Url { is_secure, host, port: port.unwrap_or(if is_secure { 443 } else { 80 }) })
}

/// The parts of `HOST` or `HOST:PORT`: the host in lower case and without brackets, and the port if there is one.
pub(crate) fn split_host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
        if labels.any(str::is_empty) || host.len() > HOST_LIMIT || !host.bytes().all(is_name) {
            return None;
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    Some((host.to_ascii_lowercase(), port))
}

/// The addresses where the metadata of an issuer may be, in the order of the requests: inserted between host and path
/// (RFC 8414 section 3.1), appended (OpenID Connect Discovery section 4.1), and the name of OpenID inserted (RFC 8414
/// section 5). A closing slash of the issuer is dropped.
pub fn candidates(issuer: &str) -> Result<Vec<String>, Failure> {
    endpoint_url(issuer)?;
    if issuer.contains('?') {
        let message = format!("cannot use the issuer {}: it has a query", printable(issuer));
        return Err(Failure::new(Kind::Usage, message));
    }
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    let path_start = issuer
        .find("://")
        .and_then(|scheme| scheme.checked_add(3))
        .and_then(|start| issuer.get(start..)?.find('/')?.checked_add(start))
        .unwrap_or(issuer.len());
    let (origin, path) = issuer.split_at(path_start);
    let mut urls = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{issuer}/.well-known/openid-configuration"),
    ];
    if !path.is_empty() {
        urls.push(format!("{origin}/.well-known/openid-configuration{path}"));
    }
    Ok(urls)
}

/// Whether two issuer identifiers are the same, letter by letter. Only a closing slash may differ.
pub(super) fn is_same_issuer(one: &str, other: &str) -> bool {
    one.strip_suffix('/').unwrap_or(one) == other.strip_suffix('/').unwrap_or(other)
}

/// The path of a metadata document begins or ends with one of these.
const DOCUMENTS: [&str; 2] = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];

/// The issuer that has its metadata document at this address: the inverse of [`candidates`]. `None` for any other address.
pub fn issuer_of_document(url: &str) -> Option<String> {
    DOCUMENTS.iter().find_map(|document| {
        let (origin, path) = url.split_once(document)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        (path.is_empty() || path.starts_with('/')).then(|| format!("{origin}{path}"))
    })
}

/// The endpoints of an authorization server. A credential may be sent to each that passes [`endpoint_url`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointUrls {
    /// The token endpoint (RFC 6749 section 3.2).
    pub token: String,
    /// The authorization endpoint (RFC 6749 section 3.1).
    pub authorization: Option<String>,
    /// The device authorization endpoint (RFC 8628 section 3.1).
    pub device_authorization: Option<String>,
    /// The pushed authorization request endpoint (RFC 9126 section 2).
    pub pushed_authorization_request: Option<String>,
    /// The revocation endpoint (RFC 7009 section 2).
    pub revocation: Option<String>,
    /// The userinfo endpoint (OpenID Connect Core section 5.3).
    pub userinfo: Option<String>,
    /// The registration endpoint (RFC 7591 section 3).
    pub registration: Option<String>,
}

impl EndpointUrls {
    /// Each one that is there.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let others = [
            &self.authorization,
            &self.device_authorization,
            &self.pushed_authorization_request,
            &self.revocation,
            &self.userinfo,
            &self.registration,
        ];
        std::iter::once(self.token.as_str()).chain(others.into_iter().flatten().map(String::as_str))
    }
}

/// What a server says about itself (RFC 8414 section 2). [`endpoint_url`] accepts every endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The issuer identifier, as the server writes it.
    pub issuer: String,
    /// Its endpoints.
    pub endpoints: EndpointUrls,
    /// Whether every authorization request must be pushed there first.
    pub requires_pushed_requests: bool,
    /// Whether every authorization response names its issuer (RFC 9207 section 3).
    pub authorization_response_iss: bool,
    /// The scopes that a client can request. Empty if the server does not say.
    pub scopes_supported: Vec<String>,
    /// The methods of client authentication. Empty if the server does not say.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// The grant types. Empty if the server does not say.
    pub grant_types_supported: Vec<String>,
    /// The methods of PKCE (RFC 7636 section 4.2). Empty if the server does not say.
    pub code_challenge_methods_supported: Vec<String>,
    /// Whether a client identifier may be the address of a client metadata document.
    pub client_id_metadata_document_supported: bool,
}

impl Metadata {
    /// Whether the other document of the server could add nothing: RFC 8414 has no userinfo endpoint, and OpenID Connect
    /// Discovery no revocation endpoint.
    pub fn is_complete(&self) -> bool {
        self.endpoints.userinfo.is_some() && self.endpoints.revocation.is_some()
    }

    /// Whether the server refuses the one method of PKCE that onegrant uses (RFC 7636 section 4.2): it lists others only.
    pub fn refuses_s256(&self) -> bool {
        let methods = &self.code_challenge_methods_supported;
        !methods.is_empty() && !methods.iter().any(|method| method == "S256")
    }

    /// This metadata with the endpoints that only the other document of the same server names.
    pub fn completed_by(self, other: Self) -> Self {
        if other.issuer != self.issuer || other.endpoints.token != self.endpoints.token {
            return self;
        }
        let (own, others) = (self.endpoints, other.endpoints);
        let endpoints = EndpointUrls {
            token: own.token,
            authorization: own.authorization.or(others.authorization),
            device_authorization: own.device_authorization.or(others.device_authorization),
            pushed_authorization_request: own.pushed_authorization_request,
            revocation: own.revocation.or(others.revocation),
            userinfo: own.userinfo.or(others.userinfo),
            registration: own.registration.or(others.registration),
        };
        Self { endpoints, ..self }
    }
}

/// What the response to a metadata request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovered {
    /// The metadata of this issuer.
    Metadata(Box<Metadata>),
    /// No metadata, and why. The next candidate may have it.
    Nothing(String),
    /// Metadata that must not be used: of another issuer, or with an endpoint that no credential may be sent to.
    Refused(Failure),
}

/// Reads the response to a metadata request. The issuer in it must be the requested one, letter for letter (RFC 8414
/// section 3.3). Exception: issuers that differ only in a closing slash have their metadata at the same address (section
/// 3.1). The spelling of the server is stored.
pub fn read(issuer: &str, response: &Response) -> Discovered {
    let members = match (response.status, response.content()) {
        (200..300, Content::Members(members)) => members,
        (200..300, _) if response.unreadable.is_none() => {
            return Discovered::Nothing("no JSON object".to_owned());
        }
        _ => return Discovered::Nothing(response.status_words(None)),
    };
    let Some(found) = members.get("issuer").and_then(Value::as_str) else {
        return Discovered::Nothing("no issuer in it".to_owned());
    };
    if !is_same_issuer(found, issuer) {
        let failure = Failure::new(
            Kind::Usage,
            format!(
                "cannot trust the metadata of {}: it is of the issuer {}",
                printable(issuer),
                printable(found)
            ),
        );
        // The same server, which does not know that it is behind a proxy for https. Another issuer has its own metadata.
        let hint = match is_same_issuer(&with_https(found), issuer) {
            true => by_hand(&members),
            false => (endpoint_url(found).is_ok() && printable(found) == found).then(|| login_at(found)),
        };
        return Discovered::Refused(failure.hint_of(hint.as_deref()));
    }
    match endpoints(found, &members) {
        Ok(metadata) => Discovered::Metadata(Box::new(metadata)),
        Err(failure) => Discovered::Refused(failure),
    }
}

fn endpoints(issuer: &str, members: &Map<String, Value>) -> Result<Metadata, Failure> {
    let endpoint = |name: &str| match members.get(name).and_then(Value::as_str) {
        None | Some("") => Ok(None),
        Some(url) => match endpoint_url(url) {
            Ok(_) => Ok(Some(url.to_owned())),
            Err(failure) => {
                let failure =
                    Failure::new(Kind::Usage, format!("{name} of {}: {failure}", printable(issuer)));
                Err(failure.hint_of(by_hand(members).as_deref()))
            }
        },
    };
    let list = |name: &str| {
        let words = members.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let flag = |name: &str| members.get(name).and_then(Value::as_bool).unwrap_or(false);
    let token = endpoint("token_endpoint")?.ok_or_else(|| {
        let message = format!("cannot use the issuer {}: it names no token_endpoint", printable(issuer));
        Failure::new(Kind::Usage, message)
    })?;
    Ok(Metadata {
        issuer: issuer.to_owned(),
        endpoints: EndpointUrls {
            token,
            authorization: endpoint("authorization_endpoint")?,
            device_authorization: endpoint("device_authorization_endpoint")?,
            pushed_authorization_request: endpoint("pushed_authorization_request_endpoint")?,
            revocation: endpoint("revocation_endpoint")?,
            userinfo: endpoint("userinfo_endpoint")?,
            registration: endpoint("registration_endpoint")?,
        },
        requires_pushed_requests: flag("require_pushed_authorization_requests"),
        authorization_response_iss: flag("authorization_response_iss_parameter_supported"),
        scopes_supported: list("scopes_supported"),
        token_endpoint_auth_methods_supported: list("token_endpoint_auth_methods_supported"),
        grant_types_supported: list("grant_types_supported"),
        code_challenge_methods_supported: list("code_challenge_methods_supported"),
        client_id_metadata_document_supported: flag("client_id_metadata_document_supported"),
    })
}

/// The endpoints that an option can give, and that option.
const BY_HAND: [(&str, &str); 5] = [
    ("token_endpoint", "--token-endpoint"),
    ("authorization_endpoint", "--authorization-endpoint"),
    ("device_authorization_endpoint", "--device-authorization-endpoint"),
    ("revocation_endpoint", "--revocation-endpoint"),
    ("userinfo_endpoint", "--userinfo-endpoint"),
];

/// The command that gives the endpoints of this metadata by options. A server behind a proxy may not know its own scheme,
/// so `http` becomes `https`. `None` if that does not make them usable.
fn by_hand(members: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|url| !url.is_empty());
    let mut command = "onegrant login".to_owned();
    for (name, option) in BY_HAND {
        if let Some(url) = text(name).map(with_https) {
            endpoint_url(&url).ok()?;
            command.push_str(&format!(" {option} {}", shell_word(&url)));
        }
    }
    let is_changed = BY_HAND.iter().filter_map(|(name, _)| text(name)).any(|url| with_https(url) != url);
    let is_usable = is_changed && text("token_endpoint").is_some();
    is_usable.then(|| format!("{command} --client-id ID   # if the server has them with https"))
}

/// The beginning of the hint for a server without metadata.
const ENDPOINTS: &str =
    "onegrant login --token-endpoint URL --device-authorization-endpoint URL --client-id ID   # names the ";

/// The login for a server without metadata; `elsewhere` is where a redirect pointed.
pub fn without_metadata(elsewhere: Option<&str>) -> String {
    let issuer = elsewhere.and_then(issuer_of_document);
    match (issuer.filter(|issuer| endpoint_url(issuer).is_ok()), elsewhere) {
        (Some(issuer), _) => login_at(&issuer),
        (None, Some(target)) => format!("{ENDPOINTS}endpoints that {target} lists"),
        (None, None) => format!("{ENDPOINTS}endpoints instead"),
    }
}

/// The address with `https` instead of `http`. Loopback addresses keep `http`.
pub(super) fn with_https(url: &str) -> String {
    match url.strip_prefix("http://") {
        Some(rest) if endpoint_url(url).is_err() => format!("https://{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_metadata_document_names_its_issuer() {
        let issuers = ["https://as.example", "https://as.example:8443/realms/a", "http://127.0.0.1:9/a/b"];
        for issuer in issuers {
            for url in candidates(issuer).unwrap() {
                assert_eq!(issuer_of_document(&url).as_deref(), Some(issuer), "{url}");
                assert_eq!(issuer_of_document(&format!("{url}/")).as_deref(), Some(issuer), "{url}/");
            }
            assert_eq!(issuer_of_document(issuer), None);
        }
        for url in [
            "https://as.example/.well-known/jwks.json",
            "https://as.example/.well-known/openid-configuration?p=x",
            "https://as.example/.well-known/openid-configuration-2",
        ] {
            assert_eq!(issuer_of_document(url), None, "{url}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn endpoints_with_http_are_given_by_hand_with_https() {
        let hint = |body: &str| match discover("https://as.example", 200, body) {
            Discovered::Refused(failure) => failure.hint,
            other => panic!("{body}: {other:?}"),
        };
        let all = "onegrant login --token-endpoint 'https://as.example/t?a=1&b' --device-authorization-endpoint https://as.example/d \
                   --client-id ID   # if the server has them with https";
        let token = "onegrant login --token-endpoint https://as.example/t --client-id ID   # if the server has them with https";
        let cases = [
            (r#"{"issuer":"https://as.example","token_endpoint":"http://as.example/t?a=1&b","device_authorization_endpoint":"https://as.example/d"}"#, Some(all)),
            (r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/t?a=1&b","device_authorization_endpoint":"http://as.example/d"}"#, Some(all)),
            (r#"{"issuer":"http://as.example","token_endpoint":"http://as.example/t"}"#, Some(token)),
            (r#"{"issuer":"http://other.example","token_endpoint":"http://as.example/t"}"#, None),
            (r#"{"issuer":"https://as.example","token_endpoint":"ftp://as.example/t"}"#, None),
            (r#"{"issuer":"https://as.example","userinfo_endpoint":"http://as.example/u"}"#, None),
        ];
        for (body, wanted) in cases {
            assert_eq!(hint(body).as_deref(), wanted, "{body}");
        }
    }

    #[test]
    fn a_credential_goes_over_tls_or_stays_on_this_machine() {
        let good = [
            ("https://as.example", "as.example:443"),
            ("HTTPS://AS.example:8443/token?x=1", "as.example:8443"),
            ("http://127.0.0.1:9/", "127.0.0.1:9"),
            ("http://127.9.9.9", "127.9.9.9:80"),
            ("http://[::1]:9/token", "[::1]:9"),
            ("http://localhost:9", "localhost:9"),
            ("https://a/p?user=a@b", "a:443"),
        ];
        for (url, address) in good {
            assert_eq!(
                endpoint_url(url).map(|address| address.host_and_port()).as_deref(),
                Ok(address),
                "{url}"
            );
        }
        let bad = [
            "http://as.example/token",
            "http://127.0.0.1.evil.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://127.1/",
            "http://[::ffff:127.0.0.1]/",
            "https://user:pw@as.example/",
            "https://as.example/#f",
            "https://as.example/\r\nX: y",
            "https://as.example/ x",
            "https://as.example\\@evil.example/",
            "https://ä.example/",
            "https://as.example:0x1/",
            "https://as.example:99999/",
            "https://as.example:/",
            "https://[::1/",
            "https://[x]/",
            "https:///token",
            "https://a%2eb/",
            "https://./",
            "https://a..b/",
            "ftp://as.example",
            "as.example",
            "",
        ];
        for url in bad {
            let failure = endpoint_url(url).expect_err(url);
            assert_eq!(failure.kind, Kind::Usage);
            assert!(!failure.message.contains("pw"), "{failure}");
        }
        assert!(endpoint_url(&format!("https://a/{}", "x".repeat(URL_LIMIT))).is_err());
        assert!(endpoint_url(&format!("https://{}/", "x".repeat(HOST_LIMIT))).is_ok());
        assert!(endpoint_url(&format!("https://{}/", "x".repeat(HOST_LIMIT + 1))).is_err());
    }

    #[test]
    fn the_candidates_are_the_addresses_of_the_standards() {
        let root = [
            "https://as.example/.well-known/oauth-authorization-server",
            "https://as.example/.well-known/openid-configuration",
        ];
        assert_eq!(candidates("https://as.example").unwrap(), root);
        assert_eq!(candidates("https://as.example/").unwrap(), root);
        let tenant = [
            "https://as.example:8443/.well-known/oauth-authorization-server/realms/a",
            "https://as.example:8443/realms/a/.well-known/openid-configuration",
            "https://as.example:8443/.well-known/openid-configuration/realms/a",
        ];
        assert_eq!(candidates("https://as.example:8443/realms/a").unwrap(), tenant);
        assert!(candidates("https://as.example?x").is_err());
        assert!(candidates("http://as.example").is_err());
    }

    fn discover(issuer: &str, status: u16, body: &str) -> Discovered {
        read(issuer, &Response::new(status, body))
    }

    #[test]
    #[rustfmt::skip]
    fn metadata_of_another_issuer_is_refused_by_name() {
        let body = r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/t","userinfo_endpoint":"",
            "grant_types_supported":["refresh_token",7]}"#;
        let http = r#"{"issuer":"https://as.example","token_endpoint":"http://as.example/t"}"#;
        let device = r#"{"issuer":"https://as.example","token_endpoint":"https://a/t","device_authorization_endpoint":"x"}"#;
        let bare = r#"{"issuer":"https://as.example"}"#;
        // (requested issuer, status, body, beginning of the outcome, text in the outcome)
        let cases = [
            ("https://as.example", 200, body, "Metadata", "grant_types_supported: [\"refresh_token\"]"),
            ("https://as.example/", 200, body, "Metadata", "issuer: \"https://as.example\""),
            ("https://AS.example", 200, body, "Refused", "https://AS.example: it is of the issuer https://as.example"),
            ("https://as.example//", 200, body, "Refused", "of the issuer"),
            ("https://as.example", 404, body, "Nothing", "status 404"),
            ("https://as.example", 302, body, "Nothing", "status 302"),
            ("https://as.example", 200, "<html>", "Nothing", "no JSON object"),
            ("https://as.example", 200, "{}", "Nothing", "no issuer"),
            ("https://as.example", 200, bare, "Refused", "no token_endpoint"),
            ("https://as.example", 200, http, "Refused", "token_endpoint of https://as.example: cannot use http://as.example/t"),
            ("https://as.example", 200, device, "Refused", "device_authorization_endpoint"),
        ];
        for (issuer, status, body, variant, text) in cases {
            let outcome = format!("{:?}", discover(issuer, status, body));
            assert!(outcome.starts_with(variant) && outcome.contains(text), "{issuer} {status} {body}: {outcome}");
        }
    }
}
