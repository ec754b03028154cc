//! How git send-email reaches a mail server that accepts a token: the settings of git-send-email(1).

use super::hosts::MailServer;
use crate::protocol::metadata::{bracketed, split_host_and_port};

/// Implicit TLS (RFC 8314 section 3.3).
const SUBMISSIONS: u16 = 465;

/// STARTTLS (RFC 6409, RFC 3207).
const SUBMISSION: u16 = 587;

/// The domains of Microsoft's mail servers, in all its clouds. They take only XOAUTH2, and have no implicit TLS for SMTP.
const MICROSOFT: [&str; 4] = ["office365.com", "office365.us", "outlook.com", "outlook.cn"];

/// A server that accepts mail from a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// With brackets if it is an IPv6 address, as git puts it before the port.
    host: String,
    port: u16,
    is_microsoft: bool,
}

impl Submission {
    /// The server at `HOST` or `HOST:PORT`. `None`: it is neither. Without a port it is the one that the server is known for,
    /// or that of implicit TLS.
    pub fn new(address: &str) -> Option<Self> {
        let (host, port) = split_host_and_port(address)?;
        let is_microsoft = MICROSOFT.iter().any(|domain| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        let port = port.unwrap_or(if is_microsoft { SUBMISSION } else { SUBMISSIONS });
        Some(Self { host: bracketed(&host), port, is_microsoft })
    }

    /// The server, as git asks for its credential: git says `smtp` with TLS, too.
    pub fn server(&self) -> Option<MailServer> {
        MailServer::new("smtp", &format!("{}:{}", self.host, self.port))
    }

    /// The SASL mechanism that carries the token: that of RFC 7628, or the older one of Google, which Microsoft took over.
    pub fn mechanism(&self) -> &'static str {
        if self.is_microsoft { "XOAUTH2" } else { "OAUTHBEARER" }
    }

    /// The settings of git, each with its value. TLS in every case: the token goes through it.
    pub fn settings(&self, user: &str) -> [(&'static str, String); 5] {
        let encryption = if self.port == SUBMISSIONS { "ssl" } else { "tls" };
        [
            ("sendemail.smtpServer", self.host.clone()),
            ("sendemail.smtpServerPort", self.port.to_string()),
            ("sendemail.smtpEncryption", encryption.to_owned()),
            ("sendemail.smtpUser", user.to_owned()),
            ("sendemail.smtpAuth", self.mechanism().to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn git_gets_the_port_the_encryption_and_the_mechanism_of_the_server() {
        let cases = [
            ("smtp.gmail.com",            "smtp.gmail.com",       "465",  "ssl", "OAUTHBEARER", "smtp://smtp.gmail.com:465"),
            ("SMTP.example:587",          "smtp.example",         "587",  "tls", "OAUTHBEARER", "smtp://smtp.example:587"),
            ("smtp.example:25",           "smtp.example",         "25",   "tls", "OAUTHBEARER", "smtp://smtp.example:25"),
            ("smtp.office365.com",        "smtp.office365.com",   "587",  "tls", "XOAUTH2",     "smtp://smtp.office365.com:587"),
            ("smtp-mail.outlook.com:587", "smtp-mail.outlook.com", "587", "tls", "XOAUTH2",     "smtp://smtp-mail.outlook.com:587"),
            ("outlook.com.evil.example",  "outlook.com.evil.example", "465", "ssl", "OAUTHBEARER", "smtp://outlook.com.evil.example:465"),
            ("eviloutlook.com",           "eviloutlook.com",      "465",  "ssl", "OAUTHBEARER", "smtp://eviloutlook.com:465"),
            ("[::1]:2525",                "[::1]",                "2525", "tls", "OAUTHBEARER", "smtp://[::1]:2525"),
        ];
        for (address, host, port, encryption, mechanism, url) in cases {
            let submission = Submission::new(address).unwrap();
            let values = submission.settings("me").map(|(_, value)| value);
            assert_eq!(values, [host, port, encryption, "me", mechanism].map(str::to_owned), "{address}");
            assert_eq!(submission.server().unwrap().url(), url);
        }
        for address in ["", "smtp://smtp.example", "smtp.example/", "me@smtp.example", "smtp.example:", "smtp.example:x", "a b"] {
            assert_eq!(Submission::new(address), None, "{address}");
        }
    }
}
