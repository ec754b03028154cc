//! What other programs ask and what they read. One file for each protocol in which a program asks for a credential; the
//! [`formats`] of `token --format`; the [`hosts`] that a profile names; how git reaches a server for [`mail`]. [`keyring`] is
//! the only protocol in which onegrant asks another program: a store. In [`python_keyring`] it answers. Pure: the commands do
//! the reading and printing.

pub mod aws;
pub mod aws_cache;
pub mod bazel;
pub mod broker;
pub mod cargo;
pub mod docker;
pub mod formats;
pub mod gce;
pub mod gcloud;
pub mod git_credential;
pub mod go;
pub mod hosts;
pub mod keyring;
pub mod mail;
pub mod python_keyring;
pub mod terraform;

use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::protocol::metadata::{Url, endpoint_url};
use crate::text::printable;
use hosts::is_served;

/// The protocol of a program that asks for a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `credential_process` of the AWS command line and SDKs.
    Aws,
    /// EngFlow's credential helper specification, which Bazel and others follow.
    Bazel,
    /// Cargo's credential provider protocol.
    Cargo,
    /// docker-credential-helpers.
    Docker,
    /// Executable-sourced credentials of Google's libraries.
    Gcloud,
    /// `GOAUTH`.
    Go,
    /// `tokenHelper`.
    Pnpm,
    /// Terraform's and OpenTofu's credentials helper.
    Terraform,
}

/// The name of each protocol in `onegrant helper PROTOCOL`.
pub const PROTOCOLS: &[(&str, Protocol)] = &[
    ("aws", Protocol::Aws),
    ("bazel", Protocol::Bazel),
    ("cargo", Protocol::Cargo),
    ("docker", Protocol::Docker),
    ("gcloud", Protocol::Gcloud),
    ("go", Protocol::Go),
    ("pnpm", Protocol::Pnpm),
    ("terraform", Protocol::Terraform),
];

/// The longest request of another program, in bytes. The head of an HTTP response is far shorter.
pub const REQUEST_LIMIT: usize = 64 << 10;

/// The server of a URL. `None` if the profile does not name it.
pub fn served_at(document: &Document, url: &str) -> Option<Url> {
    endpoint_url(url).ok().filter(|server| is_served(document, server))
}

/// A request that is not in the protocol, or that onegrant does not support.
fn unsupported(program: &str, what: &str) -> Failure {
    let message = format!("cannot answer {program}: {}", printable(what));
    Failure::new(Kind::Usage, message).hint("onegrant helper --help")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::document;

    #[test]
    #[rustfmt::skip]
    fn a_url_is_served_if_the_profile_names_its_server() {
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
