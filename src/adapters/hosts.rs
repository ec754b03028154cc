//! Which servers may be given the tokens of a grant: exactly those that the profile names. Plain HTTP is allowed only for
//! this machine.

use crate::grant::Document;
use crate::protocol::metadata::{Url, authority_of};

/// The server that needs a credential. `None`: its protocol is not HTTP. `host` may have a port.
pub fn server(protocol: &str, host: &str) -> Option<Url> {
    match protocol {
        "https" => authority_of(true, host),
        "http" => authority_of(false, host),
        _ => None,
    }
}

/// Whether the profile names this server.
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
}
