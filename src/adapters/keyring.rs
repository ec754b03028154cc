//! docker-credential-helpers from the asking side: `PROGRAM get|store|erase|list`, the question on stdin, the answer and any
//! complaint on stdout. [`super::docker`] is the side that answers.
//!
//! A document is kept as the secret of `https://onegrant.invalid/PROFILE`, a host that nobody has (RFC 2606).

use super::docker::NOT_FOUND;
use crate::error::{Failure, Kind};
use crate::grant::Secret;
use crate::text::printable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// What the name of every helper begins with.
pub const PROGRAM_PREFIX: &str = "docker-credential-";

/// Below it every profile has its address.
const SERVERS: &str = "https://onegrant.invalid/";

/// Some helpers make the user name a part of the entry's own name: it is always the same.
const USERNAME: &str = "onegrant";

/// The longest line that a helper reads, in bytes: Go's `bufio.Scanner` takes no more, and Windows far less.
pub const LINE_LIMIT: usize = 65_535;

/// More than a helper prints, in bytes: the line that it may be told, and quotes.
pub const ANSWER_LIMIT: usize = 4 * LINE_LIMIT;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Credential<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    secret: Option<Secret>,
}

/// What a helper said to `get`.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// The secret.
    Secret(Secret),
    /// It has none. Some say so with an empty one.
    Absent,
    /// It cannot tell: never to be taken for absence.
    Broken(String),
}

/// What `get` and `erase` read.
pub fn server(profile: &str) -> String {
    format!("{SERVERS}{profile}")
}

/// The line that `store` reads. Fails where a helper would not take it.
pub fn line(profile: &str, document: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let cannot = |why: String| Err(Failure::new(Kind::Store, format!("cannot store the document: {why}")));
    // Some helpers trim what ends a line, and some read one line alone.
    let Ok(secret) = str::from_utf8(document).map(str::trim_end) else {
        return cannot("it is not UTF-8, which a helper program takes alone".to_owned());
    };
    if secret.is_empty() || secret.contains(['\n', '\r']) {
        return cannot("it is not one line, which a helper program takes alone".to_owned());
    }
    let credential = Credential { server: &server(profile), username: USERNAME, secret };
    let line = Zeroizing::new(crate::grant::json_bytes(&credential)?);
    if line.len() > LINE_LIMIT {
        return cannot(format!(
            "a helper program reads lines of {LINE_LIMIT} bytes, and this one has {}",
            line.len()
        ));
    }
    Ok(line)
}

/// Reads what `get` answered.
pub fn got(is_success: bool, printed: &[u8]) -> Got {
    let text = String::from_utf8_lossy(printed);
    if !is_success {
        return match text.trim() {
            NOT_FOUND => Got::Absent,
            said => Got::Broken(printable(said)),
        };
    }
    match serde_json::from_slice::<Kept>(printed) {
        Ok(Kept { secret }) => match secret.filter(|secret| !secret.expose().trim().is_empty()) {
            Some(secret) => Got::Secret(secret),
            None => Got::Absent,
        },
        // Whatever it is, it may hold a secret.
        Err(_) => Got::Broken("it answers with something else than a credential".to_owned()),
    }
}

/// The profiles in what `list` answered, sorted.
pub fn profiles(printed: &[u8]) -> Option<Vec<String>> {
    let all: BTreeMap<String, String> = serde_json::from_slice(printed).ok()?;
    Some(all.keys().filter_map(|server| Some(server.strip_prefix(SERVERS)?.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_is_told_in_two_ways_and_nothing_else_is_taken_for_it() {
        assert_eq!(got(false, b"credentials not found in native keychain\n"), Got::Absent);
        let empty = br#"{"ServerURL":"https://onegrant.invalid/a","Username":"","Secret":""}"#;
        assert_eq!(got(true, empty), Got::Absent);
        assert_eq!(got(true, br#"{"Secret":"{}"}"#), Got::Secret(Secret::new("{}".to_owned())));
        for broken in ["", "exit status 2: gpg: decrypt_message failed", "no credentials server URL"] {
            assert_eq!(got(false, broken.as_bytes()), Got::Broken(broken.to_owned()));
        }
        for broken in ["", "{", "[]", "null", r#"{"Secret":7}"#] {
            assert!(matches!(got(true, broken.as_bytes()), Got::Broken(_)), "{broken}");
        }
    }

    #[test]
    fn a_line_is_as_long_as_a_helper_reads_and_no_longer() {
        let most = LINE_LIMIT - line("a", b"x").unwrap().len() + 1;
        assert_eq!(line("a", &vec![b'x'; most]).unwrap().len(), LINE_LIMIT);
        let failure = line("a", &vec![b'x'; most + 1]).unwrap_err();
        assert_eq!(failure.kind, Kind::Store);
        assert!(failure.message.contains("65535") && failure.message.contains("65536"), "{failure}");
        // A quote takes two bytes of the line.
        assert!(line("a", &vec![b'"'; most / 2 + 1]).is_err());
    }

    #[test]
    fn a_document_is_one_line_and_its_newline_does_not_count() {
        let text = String::from_utf8(line("a", b"{\"b\":1}\n").unwrap().to_vec()).unwrap();
        assert_eq!(
            text,
            r#"{"ServerURL":"https://onegrant.invalid/a","Username":"onegrant","Secret":"{\"b\":1}"}"#
        );
        for refused in [&b"a\nb"[..], b"a\rb", b"\xff", b"", b"\n"] {
            assert!(line("a", refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn profiles_are_listed_among_strangers() {
        let listed = br#"{"https://index.docker.io/v1/":"me","https://onegrant.invalid/b":"onegrant","https://onegrant.invalid/a":"onegrant"}"#;
        assert_eq!(profiles(listed), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(profiles(b"{}"), Some(Vec::new()));
        assert_eq!(profiles(b"no"), None);
    }
}
