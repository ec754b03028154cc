//! What servers answer, read by content: servers in the field mislabel it.

use crate::error::printable;
use crate::grant::UnixSeconds;
use serde_json::{Map, Value};
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

/// An answer as it came over the wire. `Debug` does not show the body: it may hold tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// The `Retry-After` header: seconds or a date (RFC 9110 section 10.2.3).
    pub retry_after: Option<String>,
    /// The `Date` header (RFC 9110 section 6.6.1).
    pub date: Option<String>,
    /// The `Age` header, in seconds: how long ago that was, where a cache gave the answer (RFC 9111 section 5.1).
    pub age: Option<String>,
    /// The `Location` header (RFC 9110 section 10.2.2).
    pub location: Option<String>,
    /// Nothing but the end of the connection told where the body ends: an empty one may never have begun.
    pub ends_with_connection: bool,
    /// Why the body may be no content: a content coding that is not known here, or gzip that is damaged.
    pub unreadable: Option<String>,
    /// The body, without its content coding where that is gzip.
    pub body: Vec<u8>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Reply {{ status: {}, body: {} bytes }}", self.status, self.body.len())
    }
}

/// What a body turns out to be.
#[derive(Debug)]
pub(crate) enum Content {
    /// A JSON object, or a form read as one. Of a repeated member the last counts.
    Members(Map<String, Value>),
    /// Another JSON value.
    OtherJson,
    /// A JSON object that ends too early: not the whole answer.
    CutShort,
    /// Neither.
    Foreign,
}

/// A server that says to come back later than this is taken to mean this: a day.
pub const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

impl Reply {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// How long the server asks to wait: from the `Retry-After` header, no longer than [`RETRY_AFTER_LIMIT`].
    pub fn wait(&self, now: UnixSeconds) -> Option<Duration> {
        let text = self.retry_after.as_deref()?.trim();
        let wait = if let Ok(seconds) = text.parse::<u64>() {
            Duration::from_secs(seconds)
        } else {
            let then = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            then.saturating_sub(Duration::from_secs(u64::try_from(now).unwrap_or(0)))
        };
        Some(wait.min(RETRY_AFTER_LIMIT))
    }

    /// Reads the body: JSON whatever the content type says, with or without a byte-order mark, and with
    /// whatever stands behind the object; a form only where it can be nothing else. serde_json bounds the
    /// depth (128).
    pub(crate) fn content(&self) -> Content {
        let text = self.text();
        match serde_json::Deserializer::from_str(&text).into_iter::<Value>().next() {
            Some(Ok(Value::Object(members))) => Content::Members(members),
            Some(Err(error)) if error.is_eof() && text.starts_with('{') => Content::CutShort,
            Some(Ok(_)) => Content::OtherJson,
            Some(Err(_)) => form(&text).map_or(Content::Foreign, Content::Members),
            None => Content::Foreign,
        }
    }

    /// Whether the body has no text at all.
    pub(crate) fn is_blank(&self) -> bool {
        self.text().is_empty()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_start_matches('\u{feff}').trim().to_owned()
    }

    /// What a person can make of a body that is not JSON: the title or the text of a web page, or plain text.
    /// Plain text under 2xx could be a token in a foreign format, so it is not shown; nor is any text that
    /// speaks of tokens.
    pub(crate) fn first_text(&self) -> Option<String> {
        let text = self.text();
        let names_a_token = text.to_ascii_lowercase().contains("_token");
        let is_page = text.starts_with('<');
        if text.is_empty() || self.unreadable.is_some() || names_a_token || (self.is_success() && !is_page) {
            return None;
        }
        let text = if is_page { page_text(&text) } else { text };
        Some(text).filter(|text| !printable(text).is_empty())
    }
}

/// A form-encoded answer (GitHub's, without `Accept`): one line with no markup in it, holding one of the two
/// members that matter.
fn form(text: &str) -> Option<Map<String, Value>> {
    if text.contains(|character: char| character.is_whitespace() || "<>{}\"".contains(character)) {
        return None;
    }
    let members: Map<String, Value> = form_urlencoded::parse(text.as_bytes())
        .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
        .collect();
    let is_answer = members.contains_key("access_token") || members.contains_key("error");
    is_answer.then_some(members)
}

/// The title of a page, or else what stands between its tags.
fn page_text(page: &str) -> String {
    // ASCII lower case keeps every byte position.
    let lower = page.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let rest = lower.get(start..)?;
        let end = rest.find("</title>")?;
        page.get(start..start.checked_add(end)?)
    });
    let source = title.unwrap_or(page);
    let mut text = String::new();
    for piece in source.split('<') {
        text.push_str(piece.split_once('>').map_or("", |(_, words)| words));
        text.push(' ');
    }
    text
}

/// The error that a JSON body speaks of, in any of the shapes met in the field.
#[derive(Debug, Default)]
pub(crate) struct ServerError {
    /// The words that may be error codes, the most likely first.
    pub codes: Vec<String>,
    /// A top-level `status` in words: looked at for a dead grant alone (HubSpot).
    pub status: Option<String>,
    /// What a person can read.
    pub description: Option<String>,
    /// Whether the body calls itself an error: a non-empty `error`, or `ok: false` (Slack).
    pub is_error: bool,
}

impl ServerError {
    /// Reads RFC 6749 section 5.2, and: an `error` that is an object with `code` or `type` (OpenAI,
    /// Anthropic), `error_code` (Supabase), `code`, `reason` (Zoom), `message`, `msg`.
    pub fn read(members: &Map<String, Value>) -> Self {
        let error = members.get("error");
        let nested = error.and_then(Value::as_object);
        let top = |name| text(members.get(name));
        let inner = |name| text(nested.and_then(|nested| nested.get(name)));

        let codes = [
            text(error),
            inner("code"),
            inner("error"),
            inner("error_code"),
            inner("type"),
            inner("status"),
            top("error_code"),
            top("code"),
        ];
        let descriptions = [
            top("error_description"),
            inner("error_description"),
            inner("message"),
            top("reason"),
            top("message"),
            top("msg"),
            inner("reason"),
        ];
        let denies = members.get("ok") == Some(&Value::Bool(false));
        let is_silent = match error {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        };
        Self {
            codes: codes.into_iter().flatten().collect(),
            status: top("status"),
            description: descriptions.into_iter().flatten().next(),
            is_error: denies || !is_silent,
        }
    }

    /// Code and description as one text, not yet fit to be shown; none where there is neither.
    pub fn words(&self) -> Option<String> {
        let words: Vec<&str> =
            self.codes.first().into_iter().chain(&self.description).map(String::as_str).collect();
        Some(words.join(": ")).filter(|words| !words.is_empty())
    }

    /// Whether one of the codes is one of these words, in any case.
    pub fn is_any_of(&self, words: &[&str]) -> bool {
        self.find(self.codes.iter(), words).is_some()
    }

    /// The first code, or `status` itself, that is one of these words, in any case.
    pub fn find_dead(&self, words: &[&str]) -> Option<String> {
        self.find(self.codes.iter().chain(&self.status), words)
    }

    fn find<'a>(&self, mut codes: impl Iterator<Item = &'a String>, words: &[&str]) -> Option<String> {
        codes.find(|code| words.iter().any(|word| code.eq_ignore_ascii_case(word))).cloned()
    }
}

/// Text in which there is something to see.
fn text(value: Option<&Value>) -> Option<String> {
    value
        .and_then(Value::as_str)
        .filter(|text| !printable(text).is_empty())
        .map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: body.as_bytes().to_vec(), ..Reply::default() }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_a_day() {
        let now = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:27 GMT", Some(86_400)),
            ("99999999999", Some(86_400)),
            ("99999999999999999999999", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (header, seconds) in cases {
            let reply = Reply { retry_after: Some(header.to_owned()), ..Reply::default() };
            assert_eq!(reply.wait(now), seconds.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn a_body_is_read_by_content() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let cases = [
            ("{\"a\":1}", "Members"),
            ("\u{feff}\n {\"a\":1} trailing", "Members"),
            ("access_token=a&x", "Members"),
            ("error=e", "Members"),
            ("{\"a\":", "CutShort"),
            ("{", "CutShort"),
            ("[1]", "OtherJson"),
            ("[1", "Foreign"),
            ("", "Foreign"),
            ("x=1&y=2", "Foreign"),
            ("<a href=\"?error=1\">", "Foreign"),
            ("an error=1", "Foreign"),
            (&deep, "Foreign"),
        ];
        for (body, wanted) in cases {
            let content = format!("{:?}", reply(200, body).content());
            assert!(content.starts_with(wanted), "{body}: {content}");
        }
    }

    #[test]
    fn the_text_of_a_page_is_shown_and_a_possible_token_is_not() {
        let cases = [
            (502, "<html><TITLE>Bad Gateway</TITLE><p>x</html>", Some("Bad Gateway")),
            (200, "<html><body><h1>Sign in</h1> to WiFi", Some("Sign in to WiFi")),
            (503, "down\nfor repair", Some("down for repair")),
            (200, "eyJhbGciOi", None),
            (500, "<access_token>secret</access_token>", None),
            (500, "", None),
            (500, "<br>", None),
            (500, "\u{200b}", None),
        ];
        for (status, body, wanted) in cases {
            let shown = reply(status, body).first_text().map(|text| crate::error::printable(&text));
            assert_eq!(shown.as_deref(), wanted, "{body}");
        }
    }

    #[test]
    fn a_reply_does_not_print_its_body() {
        assert_eq!(format!("{:?}", reply(200, "secret")), "Reply { status: 200, body: 6 bytes }");
    }
}
