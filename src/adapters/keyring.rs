//! docker-credential-helpers, where onegrant is the client: `PROGRAM get|store|erase|list`, the request on stdin, the answer
//! or the error on stdout. In [`super::docker`] onegrant is the helper.
//!
//! A document is stored as the secret of `https://onegrant.invalid/PROFILE`. No such host can exist (RFC 2606).

use super::docker::NOT_FOUND;
use crate::error::{Failure, Kind};
use crate::grant::Secret;
use crate::text::printable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The prefix of the name of every helper.
pub const PROGRAM_PREFIX: &str = "docker-credential-";

/// The prefix of the server URL of every profile.
const SERVERS: &str = "https://onegrant.invalid/";

/// The user name. It is constant, because some helpers use it in the name of the entry.
const USERNAME: &str = "onegrant";

/// The longest line that a helper reads, in bytes. This is the limit of Go's `bufio.Scanner`.
pub const LINE_LIMIT: usize = 65_535;

/// A limit for the output of a helper, in bytes: the longest line that it can store, escaped.
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
struct Entry {
    secret: Option<Secret>,
}

/// The answer of a helper to `get`.
#[derive(Debug, PartialEq, Eq)]
pub enum GetAnswer {
    /// The secret.
    Secret(Secret),
    /// The helper has no secret. Some helpers print an empty secret instead.
    Absent,
    /// The helper failed, with this text. The secret may exist.
    Failed(String),
}

/// The request of `get` and `erase`: the server URL of a profile.
pub fn server(profile: &str) -> String {
    format!("{SERVERS}{profile}")
}

/// The request of `store`, on one line. Fails if a helper would not accept it.
pub fn line(profile: &str, document: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let cannot = |why: String| Err(Failure::new(Kind::Store, format!("cannot store the document: {why}")));
    // Some helpers remove white space at the end of a line; some read only one line.
    let Ok(secret) = str::from_utf8(document).map(str::trim_end) else {
        return cannot("it is not UTF-8; a helper program accepts nothing else".to_owned());
    };
    if secret.is_empty() || secret.contains(['\n', '\r']) {
        return cannot("it is not one line; a helper program accepts nothing else".to_owned());
    }
    let credential = Credential { server: &server(profile), username: USERNAME, secret };
    let line = Zeroizing::new(crate::grant::json_bytes(&credential)?);
    if line.len() > LINE_LIMIT {
        return cannot(format!(
            "a helper program reads at most {LINE_LIMIT} bytes, but the line has {}",
            line.len()
        ));
    }
    Ok(line)
}

/// Parses the output of `get`.
pub fn parse_get_answer(is_success: bool, printed: &[u8]) -> GetAnswer {
    let text = String::from_utf8_lossy(printed);
    if !is_success {
        return match text.trim() {
            NOT_FOUND => GetAnswer::Absent,
            text => GetAnswer::Failed(printable(text)),
        };
    }
    match serde_json::from_slice::<Entry>(printed) {
        Ok(Entry { secret }) => match secret.filter(|secret| !secret.expose().trim().is_empty()) {
            Some(secret) => GetAnswer::Secret(secret),
            None => GetAnswer::Absent,
        },
        // Do not show the output: it may contain a secret.
        Err(_) => GetAnswer::Failed("its answer is not a credential".to_owned()),
    }
}

/// The profiles in the output of `list`, sorted. `None`: it is not a list.
pub fn profiles(printed: &[u8]) -> Option<Vec<String>> {
    let all: BTreeMap<String, String> = serde_json::from_slice(printed).ok()?;
    Some(all.keys().filter_map(|server| Some(server.strip_prefix(SERVERS)?.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_has_two_forms_and_nothing_else_counts_as_absence() {
        assert_eq!(parse_get_answer(false, b"credentials not found in native keychain\n"), GetAnswer::Absent);
        let empty = br#"{"ServerURL":"https://onegrant.invalid/a","Username":"","Secret":""}"#;
        assert_eq!(parse_get_answer(true, empty), GetAnswer::Absent);
        assert_eq!(
            parse_get_answer(true, br#"{"Secret":"{}"}"#),
            GetAnswer::Secret(Secret::new("{}".to_owned()))
        );
        for broken in ["", "exit status 2: gpg: decrypt_message failed", "no credentials server URL"] {
            assert_eq!(parse_get_answer(false, broken.as_bytes()), GetAnswer::Failed(broken.to_owned()));
        }
        for broken in ["", "{", "[]", "null", r#"{"Secret":7}"#] {
            assert!(matches!(parse_get_answer(true, broken.as_bytes()), GetAnswer::Failed(_)), "{broken}");
        }
    }

    #[test]
    fn a_line_is_at_most_as_long_as_a_helper_reads() {
        let most = LINE_LIMIT - line("a", b"x").unwrap().len() + 1;
        assert_eq!(line("a", &vec![b'x'; most]).unwrap().len(), LINE_LIMIT);
        let failure = line("a", &vec![b'x'; most + 1]).unwrap_err();
        assert_eq!(failure.kind, Kind::Store);
        assert!(failure.message.contains("65535") && failure.message.contains("65536"), "{failure}");
        // A quote takes two bytes of the line.
        assert!(line("a", &vec![b'"'; most / 2 + 1]).is_err());
    }

    #[test]
    fn a_document_is_stored_as_one_line_without_its_newline() {
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
    fn only_entries_of_onegrant_are_listed() {
        let listed = br#"{"https://index.docker.io/v1/":"me","https://onegrant.invalid/b":"onegrant","https://onegrant.invalid/a":"onegrant"}"#;
        assert_eq!(profiles(listed), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(profiles(b"{}"), Some(Vec::new()));
        assert_eq!(profiles(b"no"), None);
    }
}
