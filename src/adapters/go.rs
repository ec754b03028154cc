//! `GOAUTH`: called without arguments before the first request of a go command, and with a URL and the head of its answer
//! on stdin when a server refused one.

use crate::adapters::formats::bearer;
use crate::error::Failure;
use crate::grant::{Session, UnixSeconds};
use crate::protocol::metadata::Url;

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

/// The header for these origins.
pub fn answer(session: &Session, origins: &[String]) -> Result<String, Failure> {
    let header = bearer(session)?;
    let lines: String = origins.iter().map(|origin| format!("{origin}\n")).collect();
    Ok(format!("{lines}\nAuthorization: {header}\n\n"))
}

/// How a request to this server may be written. Go compares the text: a port that goes without saying is another prefix.
pub fn origins(server: &Url) -> Vec<String> {
    let written = server.host_and_port();
    let short = written.strip_suffix(":443").map(|host| format!("https://{host}/"));
    short.into_iter().chain([format!("https://{written}/")]).collect()
}

/// The part of the URL before its path, as Go wrote it: in capitals, too.
pub fn origin(url: &str) -> String {
    let authority = url.split(['/', '?']).nth(2).unwrap_or_default();
    format!("https://{authority}/")
}
