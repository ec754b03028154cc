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
}
