//! The protocols in which other programs ask for a credential: one file each, what is asked and what is answered. And in
//! [`keyring`] the one in which this program asks others.

pub mod bazel;
pub mod cargo;
pub mod docker;
pub mod gcloud;
pub mod go;
pub mod keyring;
pub mod terraform;

use super::hosts::is_served;
use super::metadata::{Address, endpoint_url};
use crate::error::{Failure, Kind, printable};
use crate::grant::Document;

/// The longest that another program may say, in bytes: the head of an HTTP response is far shorter.
pub const ASKED_LIMIT: usize = 64 << 10;

/// The server that a URL points to, where the profile names it.
pub fn served_at(document: &Document, url: &str) -> Option<Address> {
    endpoint_url(url).ok().filter(|server| is_served(document, server))
}

/// Something that is not in the protocol.
fn unknown(program: &str, what: &str) -> Failure {
    let message = format!("cannot answer {program}: {}", printable(what));
    Failure::new(Kind::Usage, message).hint("onegrant helper --help")
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_url_is_served_where_the_profile_names_its_server() {
        let mut document = document();
        document.git_hosts = ["a.example", "127.0.0.1:3000"].map(str::to_owned).to_vec();
        let cases = [
            ("https://a.example", true),
            ("https://a.example/path?query", true),
            ("HTTPS://A.example:443/", true),
            ("https://a.example:444/", false),
            ("https://b.example/a.example", false),
            ("https://a.example@b.example/", false),
            ("https://b.example@a.example/", false),
            ("https://a.example\\@b.example/", false),
            ("http://a.example/", false),
            ("http://127.0.0.1:3000/x", true),
            ("ssh://a.example/", false),
            ("a.example", false),
            ("", false),
        ];
        for (url, wanted) in cases {
            assert_eq!(served_at(&document, url).is_some(), wanted, "{url}");
        }
    }
}
