//! The address of a broker: a store on the other side of a socket.

use crate::protocol::metadata::endpoint_url;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// `http://HOST:PORT` on the loopback network: the key must not leave this machine in clear text.
    Loopback(String),
}

/// The longest path of a socket, in bytes (unix(7)): one less than the kernel's array.
pub const PATH_LIMIT: usize = 107;

/// The forms of an address, for messages.
const FORMS: &str = "write broker:unix:/PATH or broker:http://127.0.0.1:PORT";

impl BrokerAddress {
    /// Parses what follows `broker:`. An error says what is wrong with it.
    pub(super) fn parse(address: &[u8]) -> Result<Self, String> {
        if let Some(path) = address.strip_prefix(b"unix:") {
            return match path {
                [] => Err(FORMS.to_owned()),
                path if path.len() > PATH_LIMIT => Err(too_long(path.len())),
                path => Ok(Self::Unix(PathBuf::from(OsStr::from_bytes(path)))),
            };
        }
        let text = std::str::from_utf8(address).map_err(|_| FORMS.to_owned())?;
        let url = endpoint_url(text).ok().filter(|url| !url.is_secure);
        // `endpoint_url` accepts plain http for loopback hosts only.
        let origin = url.map(|url| format!("http://{}", url.host_and_port()));
        let origin = origin.filter(|origin| origin.eq_ignore_ascii_case(text.trim_end_matches('/')));
        // A broker listens at 127.0.0.1. At the same port of `::1`, which localhost is, too, another user may listen.
        origin
            .map(|origin| Self::Loopback(origin.replacen("//localhost:", "//127.0.0.1:", 1)))
            .ok_or_else(|| format!("{FORMS}; plain http goes to loopback addresses only"))
    }

    /// The address as `--store` takes it, without `broker:`.
    pub fn text(&self) -> std::ffi::OsString {
        match self {
            Self::Unix(path) => [OsStr::new("unix:"), path.as_os_str()].into_iter().collect(),
            Self::Loopback(origin) => origin.into(),
        }
    }
}

/// What is wrong with a path of so many bytes.
pub fn too_long(length: usize) -> String {
    format!("the path has {length} bytes, and a socket's has {PATH_LIMIT} at most")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_at_a_socket_or_on_the_loopback_network() {
        let [longest, too_long] =
            [PATH_LIMIT, PATH_LIMIT + 1].map(|length| format!("unix:/{:0>1$}", "", length - 1));
        for (text, wanted) in [
            ("unix:/run/a b.sock", Some("unix:/run/a b.sock")),
            ("unix:a.sock", Some("unix:a.sock")),
            ("http://127.0.0.1:8123", Some("http://127.0.0.1:8123")),
            ("http://localhost:8123/", Some("http://127.0.0.1:8123")),
            ("http://[::1]:8123", Some("http://[::1]:8123")),
            ("http://127.0.0.1:8123/path", None),
            ("http://user@127.0.0.1:8123", None),
            ("https://127.0.0.1:8123", None),
            ("http://192.0.2.1:8123", None),
            ("http://host.docker.internal:8123", None),
            (&longest, Some(&longest)),
            (&too_long, None),
            ("unix:", None),
            ("", None),
        ] {
            let parsed = BrokerAddress::parse(text.as_bytes()).ok();
            assert_eq!(parsed.map(|address| address.text()), wanted.map(Into::into), "{text}");
        }
    }
}
