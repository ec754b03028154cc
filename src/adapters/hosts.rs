//! Which servers may be given the tokens of a grant: exactly those that the profile names. Protocols in clear text are
//! allowed only for this machine.
//!
//! A profile names an HTTP server by `HOST` or `HOST:PORT`, and a mail server by `SCHEME://HOST` or `SCHEME://HOST:PORT`. A
//! name of the one kind never means a server of the other kind.

use crate::grant::Document;
use crate::protocol::metadata::{Url, authority_of, bracketed, is_loopback, split_host_and_port};

/// A mail protocol, as git names it.
#[derive(Debug, PartialEq, Eq)]
struct MailProtocol {
    scheme: &'static str,
    /// The ports that a server without a port means (RFC 6409, RFC 8314, RFC 9051, RFC 1939).
    ports: &'static [u16],
    /// Whether a client of this protocol sends the token in clear text. `smtp` does not count, because git says `smtp` for
    /// STARTTLS and for implicit TLS, too.
    is_clear_text: bool,
}

static MAIL_PROTOCOLS: [MailProtocol; 6] = [
    MailProtocol { scheme: "smtp", ports: &[25, 465, 587], is_clear_text: false },
    MailProtocol { scheme: "smtps", ports: &[465], is_clear_text: false },
    MailProtocol { scheme: "imap", ports: &[143], is_clear_text: true },
    MailProtocol { scheme: "imaps", ports: &[993], is_clear_text: false },
    MailProtocol { scheme: "pop3", ports: &[110], is_clear_text: true },
    MailProtocol { scheme: "pop3s", ports: &[995], is_clear_text: false },
];

/// Why a server that [`MailServer::is_exposed`] is refused.
pub const EXPOSED: &str = "imap and pop3 are clear text, which is for this machine only; use imaps or pop3s";

/// A mail server that a profile names, or that git asks a credential for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    protocol: &'static MailProtocol,
    /// In lower case, without brackets.
    host: String,
    port: Option<u16>,
}

impl MailServer {
    /// The server of a scheme, and of `HOST` or `HOST:PORT`. `None`: the scheme is not one of mail, or the host is malformed.
    pub fn new(scheme: &str, host: &str) -> Option<Self> {
        let protocol = MAIL_PROTOCOLS.iter().find(|protocol| protocol.scheme == scheme)?;
        let (host, port) = split_host_and_port(host)?;
        Some(Self { protocol, host, port })
    }

    /// The server that a profile names by `SCHEME://HOST` or `SCHEME://HOST:PORT`.
    pub fn named(name: &str) -> Option<Self> {
        let (scheme, host) = name.split_once("://")?;
        Self::new(scheme, host)
    }

    /// Whether the token would go through a network in clear text.
    pub fn is_exposed(&self) -> bool {
        self.protocol.is_clear_text && !is_loopback(&self.host)
    }

    /// Whether the name has a port.
    pub fn has_port(&self) -> bool {
        self.port.is_some()
    }

    /// `SCHEME://HOST` or `SCHEME://HOST:PORT`.
    pub fn url(&self) -> String {
        let Self { protocol, host, port } = self;
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", protocol.scheme, bracketed(host))
    }

    fn ports(&self) -> &[u16] {
        self.port.as_ref().map_or(self.protocol.ports, std::slice::from_ref)
    }

    /// Whether both may mean the same server: the same scheme, the same host, and a port in common.
    fn is_like(&self, other: &Self) -> bool {
        let is_common = |port: &u16| other.ports().contains(port);
        (self.protocol, &self.host) == (other.protocol, &other.host) && self.ports().iter().any(is_common)
    }
}

/// A server that a program asks a credential for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Over HTTP.
    Web(Url),
    /// Over a mail protocol.
    Mail(MailServer),
}

impl Server {
    /// The server of a protocol, and of `HOST` or `HOST:PORT`. `None`: the protocol is unknown, or the host is malformed.
    pub fn new(protocol: &str, host: &str) -> Option<Self> {
        let web = || server(protocol, host).map(Self::Web);
        MailServer::new(protocol, host).map(Self::Mail).or_else(web)
    }

    /// The host, in lower case and without brackets.
    pub fn host(&self) -> &str {
        match self {
            Self::Web(server) => &server.host,
            Self::Mail(server) => &server.host,
        }
    }

    /// Whether both have the same protocol and the same port, whatever their hosts are.
    pub fn is_beside(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Web(one), Self::Web(other)) => (one.is_secure, one.port) == (other.is_secure, other.port),
            (Self::Mail(one), Self::Mail(other)) => (one.protocol, one.port) == (other.protocol, other.port),
            _ => false,
        }
    }

    /// Whether the profile names this server, and a token may go there.
    pub fn is_served(&self, document: &Document) -> bool {
        match self {
            Self::Web(server) => is_served(document, server),
            Self::Mail(server) => {
                !server.is_exposed() && mail_servers(document).any(|named| named.is_like(server))
            }
        }
    }
}

/// Whether git uses this protocol for mail.
pub fn is_mail(protocol: &str) -> bool {
    MAIL_PROTOCOLS.iter().any(|known| known.scheme == protocol)
}

/// The HTTP server that needs a credential. `None`: its protocol is not HTTP. `host` may have a port.
pub fn server(protocol: &str, host: &str) -> Option<Url> {
    match protocol {
        "https" => authority_of(true, host),
        "http" => authority_of(false, host),
        _ => None,
    }
}

/// Whether the profile names this HTTP server.
pub fn is_served(document: &Document, server: &Url) -> bool {
    let is_named = |host: &String| authority_of(server.is_secure, host).as_ref() == Some(server);
    (server.is_secure || server.is_loopback()) && document.git_hosts.iter().any(is_named)
}

/// The user name that the package registries of a provider need beside a token, and the labels of their hosts; `*` is one
/// label or more.
const USERNAMES: [(&str, &[&str]); 3] = [
    // Google's Artifact Registry.
    ("oauth2accesstoken", &["*", "pkg", "dev"]),
    // Azure Artifacts.
    ("VssSessionToken", &["pkgs", "dev", "azure", "com"]),
    // AWS CodeArtifact.
    ("aws", &["*", "codeartifact", "*", "amazonaws", "com"]),
];

/// The user name that this server needs beside a token. `None`: it is none of the known ones.
pub fn username_at(server: &Url) -> Option<&'static str> {
    let labels: Vec<&str> = server.host.split('.').collect();
    USERNAMES.iter().find(|(_, pattern)| is_like(&labels, pattern)).map(|(username, _)| *username)
}

fn is_like(labels: &[&str], pattern: &[&str]) -> bool {
    match (labels.split_first(), pattern.split_first()) {
        (None, None) => true,
        (Some((_, labels)), Some((&"*", rest))) => is_like(labels, rest) || is_like(labels, pattern),
        (Some((label, labels)), Some((wanted, pattern))) => label == wanted && is_like(labels, pattern),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The mail servers that the profile names.
pub fn mail_servers(document: &Document) -> impl Iterator<Item = MailServer> {
    document.git_hosts.iter().filter_map(|host| MailServer::named(host))
}

/// The servers that the profile names, over HTTPS.
pub fn served(document: &Document) -> impl Iterator<Item = Url> {
    document.git_hosts.iter().filter_map(|host| authority_of(true, host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::document;

    #[test]
    #[rustfmt::skip]
    fn a_server_is_served_only_if_the_profile_names_exactly_it() {
        let mut document = document();
        document.git_hosts = ["git.example", "other.example:8443", "127.0.0.1:3000", "[::1]:80"].map(str::to_owned).to_vec();
        let cases = [
            ("https", "git.example", true),
            ("https", "GIT.example:443", true),
            ("https", "git.example:444", false),
            ("https", "git.example.evil", false),
            ("https", "a.git.example", false),
            ("https", "git.example@evil", false),
            ("https", "git.example/evil", false),
            ("http", "git.example", false),
            ("ssh", "git.example", false),
            ("https", "other.example:8443", true),
            ("https", "other.example", false),
            ("http", "127.0.0.1:3000", true),
            ("https", "127.0.0.1:3000", true),
            ("http", "127.0.0.1", false),
            ("http", "[::1]", true),
            ("https", "", false),
        ];
        for (protocol, host, wanted) in cases {
            let found = server(protocol, host).is_some_and(|server| is_served(&document, &server));
            assert_eq!(found, wanted, "{protocol}://{host}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn registries_of_three_providers_need_a_user_name_of_their_own() {
        let cases = [
            ("europe-west1-python.pkg.dev",                       Some("oauth2accesstoken")),
            ("a.b.pkg.dev",                                       Some("oauth2accesstoken")),
            ("pkg.dev",                                           None),
            ("pkg.dev.evil.example",                              None),
            ("notpkg.dev",                                        None),
            ("PKGS.dev.azure.com:443",                            Some("VssSessionToken")),
            ("a.pkgs.dev.azure.com",                              None),
            ("dev.azure.com",                                     None),
            ("team-123.d.codeartifact.eu-west-1.amazonaws.com",   Some("aws")),
            ("codeartifact.eu-west-1.amazonaws.com",              None),
            ("team-123.d.codeartifact.amazonaws.com",             None),
            ("s3.eu-west-1.amazonaws.com",                        None),
            ("pypi.example",                                      None),
            ("127.0.0.1:8080",                                    None),
        ];
        for (host, wanted) in cases {
            assert_eq!(username_at(&server("https", host).unwrap()), wanted, "{host}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_mail_server_is_served_only_if_the_profile_names_its_scheme_host_and_port() {
        let mut document = document();
        document.git_hosts = [
            "smtp://smtp.example:587", "smtps://smtp.example:465", "smtp://any.example", "imaps://imap.example",
            "imap://imap.example", "imap://127.0.0.1:1143", "pop3://localhost", "pop3://pop.example:110", "pop3s://pop.example",
            "smtp://[::1]:2525", "web.example", "SMTP://upper.example", "smtp://me@user.example", "smtp://path.example/",
        ].map(str::to_owned).to_vec();
        let cases = [
            ("smtp", "smtp.example:587", true),
            ("smtp", "SMTP.example:587", true),
            ("smtp", "smtp.example:465", false),
            ("smtp", "smtp.example:5870", false),
            ("smtp", "a.smtp.example:587", false),
            ("smtp", "smtp.example.evil:587", false),
            ("smtp", "smtp.example:587@evil", false),
            ("smtp", "smtp.example:587/evil", false),
            ("smtps", "smtp.example:587", false),
            ("smtps", "smtp.example:465", true),
            ("smtps", "smtp.example", true),
            // Without a port: one of 25, 465 and 587.
            ("smtp", "smtp.example", true),
            ("smtp", "any.example", true),
            ("smtp", "any.example:25", true),
            ("smtp", "any.example:465", true),
            ("smtp", "any.example:587", true),
            ("smtp", "any.example:2525", false),
            ("smtps", "any.example", false),
            ("imaps", "imap.example:993", true),
            ("imaps", "imap.example", true),
            ("imaps", "imap.example:143", false),
            // Clear text is for this machine only.
            ("imap", "imap.example", false),
            ("imap", "imap.example:143", false),
            ("imap", "127.0.0.1:1143", true),
            ("imap", "127.0.0.1", false),
            ("imap", "localhost:1143", false),
            ("pop3", "pop.example:110", false),
            ("pop3", "localhost:110", true),
            ("pop3", "localhost", true),
            ("pop3s", "pop.example:995", true),
            ("smtp", "[::1]:2525", true),
            ("smtp", "[::1]", false),
            ("smtp", "", false),
            // The one kind of name is not the other.
            ("smtp", "web.example", false),
            ("smtps", "web.example:465", false),
            ("https", "smtp.example:587", false),
            ("https", "any.example", false),
            ("https", "smtp", false),
            ("https", "web.example", true),
            ("http", "127.0.0.1:1143", false),
            ("SMTP", "any.example", false),
            ("smtp", "upper.example", false),
            ("smtp", "user.example", false),
            ("smtp", "path.example", false),
            ("submission", "any.example", false),
        ];
        for (protocol, host, wanted) in cases {
            let found = Server::new(protocol, host).is_some_and(|server| server.is_served(&document));
            assert_eq!(found, wanted, "{protocol}://{host}");
        }
        let hosts: Vec<String> = served(&document).map(|server| server.host).collect();
        assert_eq!(hosts, ["web.example"], "a mail server gets no token over https");
    }

    #[test]
    fn the_name_of_a_mail_server_is_written_in_one_way() {
        let named = |name| MailServer::named(name).map(|server| server.url());
        assert_eq!(named("smtp://SMTP.example:0587").as_deref(), Some("smtp://smtp.example:587"));
        assert_eq!(named("imaps://[::1]").as_deref(), Some("imaps://[::1]"));
        for name in ["smtp.example", "smtp:smtp.example", "smtp://", "smtp://a:b", "smtp://a\nb", "https://a"]
        {
            assert_eq!(named(name), None, "{name}");
        }
    }
}
