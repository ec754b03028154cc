//! `GOAUTH`: called without arguments before the first request of a go command, and with a URL and the head of its answer
//! on stdin when a server refused one.

use crate::error::Failure;
use crate::grant::{Session, UnixSeconds};
use crate::protocol::formats::bearer;
use crate::protocol::metadata::Address;

/// Whether the head of that HTTP response refuses the token itself.
pub fn is_unauthorized(head: &str) -> bool {
    let mut words = head.lines().next().unwrap_or_default().split_ascii_whitespace();
    words.next().is_some_and(|version| version.starts_with("HTTP/")) && words.next() == Some("401")
}

/// Whether the stored token is the one that was refused. Go does not say what it sent; but a go command asks for a token
/// before its first request, so what was stored before it began is what it was given. A token that is newer than the
/// command is another's refresh, or this command's own: it is handed out, and one go command causes one refresh at most.
pub fn was_sent(session: &Session, began: UnixSeconds) -> bool {
    session.obtained_at < began
}

/// The header for these servers.
pub fn answer(session: &Session, servers: &[Address]) -> Result<String, Failure> {
    let header = bearer(session)?;
    let line = |server: &Address| {
        let scheme = if server.is_secure { "https" } else { "http" };
        let own_port = if server.is_secure { 443 } else { 80 };
        let host = server.host_and_port();
        let host = host.strip_suffix(&format!(":{own_port}")).unwrap_or(&host);
        format!("{scheme}://{host}/\n")
    };
    let lines: String = servers.iter().map(line).collect();
    Ok(format!("{lines}\nAuthorization: {header}\n\n"))
}
