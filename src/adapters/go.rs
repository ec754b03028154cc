//! `GOAUTH`: go calls it without arguments before the first request of a command, and with a URL, and the head of the
//! response on stdin, after a server refused a request.

use crate::adapters::formats::bearer;
use crate::error::Failure;
use crate::grant::{Session, UnixSeconds};
use crate::protocol::metadata::Url;

/// Whether the head of an HTTP response says that the server refused the token.
pub fn is_unauthorized(head: &str) -> bool {
    let mut words = head.lines().next().unwrap_or_default().split_ascii_whitespace();
    words.next().is_some_and(|version| version.starts_with("HTTP/")) && words.next() == Some("401")
}

/// Whether the stored token is the refused one. Go does not say which token it sent. But a go command asks for a token
/// before its first request, so it was given a token that was stored before it began. A newer token comes from a later
/// refresh: hand it out. So one go command causes at most one refresh.
pub fn was_sent(session: &Session, began: UnixSeconds) -> bool {
    session.obtained_at < began
}

/// The header for requests to these origins.
pub fn answer(session: &Session, origins: &[String]) -> Result<String, Failure> {
    let header = bearer(session)?;
    let lines: String = origins.iter().map(|origin| format!("{origin}\n")).collect();
    Ok(format!("{lines}\nAuthorization: {header}\n\n"))
}

/// The ways to write the origin of a request to this server. Go compares the text, so an explicit default port is a
/// different origin.
pub fn origins(server: &Url) -> Vec<String> {
    let written = server.host_and_port();
    let short = written.strip_suffix(":443").map(|host| format!("https://{host}/"));
    short.into_iter().chain([format!("https://{written}/")]).collect()
}

/// The part of the URL before its path, exactly as Go wrote it.
pub fn origin(url: &str) -> String {
    let authority = url.split(['/', '?']).nth(2).unwrap_or_default();
    format!("https://{authority}/")
}
