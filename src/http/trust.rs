//! Why there is no TLS connection, in words, and what a person can do about it. A repetition helps in none of these
//! cases.

use crate::protocol::metadata::Url;
use crate::text::printable;
use rustls::{CertificateError, Error, OtherError};
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

/// The hint about a CA that is not trusted.
const TRUST: &str = "export SSL_CERT_FILE=/path/to/ca.pem   # the CA of this server, or of a proxy before it";

/// The most names of a certificate that are shown.
const NAMES: usize = 5;

/// The reason, to follow `cannot connect to HOST: `, and the hint. `roots` is where the CA roots come from.
pub(super) fn explained(error: &Error, address: &Url, roots: &str) -> (String, String) {
    use CertificateError::{
        ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYetContext, Other, UnknownIssuer,
    };
    let look = |rest: &str| format!("{}{rest}", s_client(address));
    let (what, hint) = match error {
        Error::InvalidCertificate(UnknownIssuer) => (
            format!("the CA of its certificate is not trusted here: {error} (CA roots in use: {roots})"),
            TRUST.to_owned(),
        ),
        Error::InvalidCertificate(ExpiredContext { time, not_after }) => (
            format!(
                "its certificate ended at {}, and this machine's clock says {}",
                date(not_after.as_secs()),
                date(time.as_secs())
            ),
            "date   # if this clock is right, the server needs a new certificate".to_owned(),
        ),
        Error::InvalidCertificate(NotValidYetContext { time, not_before }) => (
            format!(
                "its certificate begins at {}, and this machine's clock says {}",
                date(not_before.as_secs()),
                date(time.as_secs())
            ),
            "sudo timedatectl set-ntp true   # sets this machine's clock, if it is wrong".to_owned(),
        ),
        Error::InvalidCertificate(NotValidForNameContext { presented, .. }) => (
            format!("its certificate is not for this host, but for {}", names(presented)),
            look(" | openssl x509 -noout -ext subjectAltName   # shows the names to log in with"),
        ),
        Error::InvalidCertificate(NotValidForName) => (
            "its certificate is not for this host".to_owned(),
            look(" | openssl x509 -noout -ext subjectAltName   # shows the names to log in with"),
        ),
        Error::InvalidCertificate(Other(other)) if is_ca(other) => (
            "its certificate is that of a CA (basicConstraints CA:TRUE): even where this CA is trusted, a server needs a \
             certificate that is no CA"
                .to_owned(),
            certificate_of(address),
        ),
        Error::InvalidMessage(_) => {
            (format!("its answer is not TLS: {error}"), look("   # shows what the server says"))
        }
        error => (format!("no TLS connection: {error}"), look("   # shows what the server says")),
    };
    (printable(&what), hint)
}

/// Whether the certificate is refused because it is that of a CA.
fn is_ca(error: &OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn date(seconds: u64) -> String {
    // 9999-12-31: the last instant that the format can write.
    const LAST: u64 = 253_402_300_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST)))
}

/// The names without the type that rustls prints around them: `DnsName("localhost")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    match presented.iter().take(NAMES).map(bare).collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => "no host at all".to_owned(),
        names => names,
    }
}

/// The command that shows a server's certificate.
fn s_client(address: &Url) -> String {
    let name = match address.host.parse::<IpAddr>() {
        Ok(_) => String::new(),
        Err(_) => format!(" -servername {}", address.host),
    };
    format!("openssl s_client -connect {}{name} </dev/null", address.host_and_port())
}

/// The command that makes a certificate for a server. It is self-signed, so clients trust it as a CA root.
fn certificate_of(address: &Url) -> String {
    let host = &address.host;
    let kind = if host.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
    format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN={host} -addext subjectAltName={kind}:{host} \
         -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.pem   # for the server, and for SSL_CERT_FILE"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::metadata::endpoint_url;
    use rustls::pki_types::UnixTime;

    fn shown(error: CertificateError, url: &str) -> (String, String) {
        let address = endpoint_url(url).unwrap();
        explained(&Error::InvalidCertificate(error), &address, "146 built in")
    }

    #[test]
    fn each_reason_has_its_words_and_its_hint() {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(784_111_777));
        let then = UnixTime::since_unix_epoch(Duration::from_secs(784_111_776));
        let cases = [
            (CertificateError::UnknownIssuer, "not trusted here", "export SSL_CERT_FILE="),
            (
                CertificateError::ExpiredContext { time, not_after: then },
                "ended at Sun, 06 Nov 1994 08:49:36 GMT, and this machine's clock says Sun, 06 Nov 1994 08:49:37 GMT",
                "date   #",
            ),
            (
                CertificateError::NotValidYetContext { time: then, not_before: time },
                "begins at Sun",
                "sudo timedatectl",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: "as.example".try_into().unwrap(),
                    presented: vec![
                        "DnsName(\"other.example\")".to_owned(),
                        "IpAddress(10.0.0.1)".to_owned(),
                    ],
                },
                "not for this host, but for other.example, 10.0.0.1",
                "openssl s_client -connect as.example:443 -servername as.example </dev/null | openssl x509",
            ),
            (
                CertificateError::BadSignature,
                "no TLS connection: ",
                "openssl s_client -connect as.example:443",
            ),
        ];
        for (error, what, hint) in cases {
            let shown = shown(error, "https://as.example/token");
            assert!(shown.0.contains(what) && shown.1.starts_with(hint), "{shown:?}");
        }
        let (_, hint) = shown(CertificateError::BadSignature, "https://[::1]:8443/");
        assert!(hint.starts_with("openssl s_client -connect [::1]:8443 </dev/null"), "{hint}");
    }
}
