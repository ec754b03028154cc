//! Responses. The content of a body decides how it is read, because many servers label it wrongly.

use super::headers::Headers;
use crate::grant::{UnixSeconds, object};
use crate::text::{date, printable};
use serde_json::{Map, Value};
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

/// A whole response. `Debug` does not show the body: it may hold tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// The header fields that are text.
    pub headers: Headers,
    /// The body. Gzip is decoded.
    pub body: Vec<u8>,
    /// Why the body may not be the content: a content coding that is not known here, or damaged gzip.
    pub unreadable: Option<String>,
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Response {{ status: {}, body: {} bytes }}", self.status, self.body.len())
    }
}

/// What a body holds.
#[derive(Debug)]
pub(crate) enum Content {
    /// A JSON object, or a form read as one. The last of several members of one name counts.
    Members(Map<String, Value>),
    /// Another JSON value.
    OtherJson(Value),
    /// A JSON object that ends too early: the response is not complete.
    CutShort,
    /// Anything else.
    Foreign,
}

/// The longest wait that a server can demand: a day.
pub const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

impl Response {
    /// A response without header fields.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    /// The response with one more header field.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// How long the server asks to wait: the `Retry-After` header (RFC 9110 section 10.2.3), at most
    /// [`RETRY_AFTER_LIMIT`].
    pub fn wait(&self, now: UnixSeconds) -> Option<Duration> {
        Some(Duration::from_secs(self.asked_wait(now)?).min(RETRY_AFTER_LIMIT))
    }

    /// The `Retry-After` header in seconds.
    fn asked_wait(&self, now: UnixSeconds) -> Option<u64> {
        let text = self.headers.get("retry-after")?.trim();
        text.parse::<u64>().ok().or_else(|| {
            let then = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(then.as_secs().saturating_sub(u64::try_from(now).unwrap_or(0)))
        })
    }

    /// The status for a person, with the time that the server asks to wait (after a success it means nothing), and with the
    /// reason why the body cannot be read. `now` is `None` if only the clock of the server is known.
    pub fn status_words(&self, now: Option<UnixSeconds>) -> String {
        let mut words = format!("status {}", self.status);
        let now = now.or_else(|| self.date());
        // A number of seconds needs no clock.
        let wait = self.asked_wait(now.unwrap_or(UnixSeconds::MAX));
        if let Some(wait) = wait.filter(|wait| *wait > 0 && !self.is_success()) {
            words.push_str(&format!(" and asks to wait {}", time_words(wait)));
            if let Some(now) = now {
                let until = now.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
                words.push_str(&format!(", until {}", date(until)));
            }
        }
        if let Some(why) = &self.unreadable {
            words.push_str(&format!(" and a body that cannot be read: {}", printable(why)));
        }
        words
    }

    /// The server's clock when it made the response: the `Date` header (RFC 9110 section 6.6.1).
    pub fn date(&self) -> Option<UnixSeconds> {
        let date = httpdate::parse_http_date(self.headers.get("date")?).ok()?;
        i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
    }

    /// How long a cache has kept the response, in seconds: the `Age` header (RFC 9111 section 5.1).
    pub fn age(&self) -> Option<u64> {
        self.headers.get("age")?.trim().parse().ok()
    }

    /// Reads the body as JSON, whatever the content type is, with or without a byte-order mark, and whatever follows the
    /// object. A body that is not JSON may be a form. serde_json bounds the depth (128).
    pub(crate) fn content(&self) -> Content {
        let text = self.text();
        match serde_json::Deserializer::from_str(&text).into_iter::<Value>().next() {
            Some(Ok(Value::Object(members))) => Content::Members(members),
            Some(Err(error)) if error.is_eof() && text.starts_with('{') => Content::CutShort,
            Some(Ok(value)) => Content::OtherJson(value),
            Some(Err(_)) => form(&text).map_or(Content::Foreign, Content::Members),
            None => Content::Foreign,
        }
    }

    /// Whether the body has no text at all.
    pub fn is_blank(&self) -> bool {
        self.text().is_empty()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_start_matches('\u{feff}').trim().to_owned()
    }

    /// The readable part of a body that is not JSON: the title or the text of a web page, or plain text. Text that
    /// mentions tokens is not shown, nor is plain text under 2xx: it could be a token in an unknown format.
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

/// A form-encoded response (GitHub sends one if the request has no `Accept`): one line without markup that has one of the
/// two members that matter.
fn form(text: &str) -> Option<Map<String, Value>> {
    if text.contains(|character: char| character.is_whitespace() || "<>{}\"".contains(character)) {
        return None;
    }
    let parsed = form_urlencoded::parse(text.as_bytes());
    let members = object(parsed.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))));
    let is_answer = members.contains_key("access_token") || members.contains_key("error");
    is_answer.then_some(members)
}

/// The title of a page, or else the text between its tags.
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

/// The longest duration that is written in hours, in seconds: two days.
const HOURS_LIMIT: u64 = 48 * 3600;

/// A duration for a person, in its two largest units.
pub fn time_words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..HOURS_LIMIT => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response::new(status, body)
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
            let response = Response::default().with_header("Retry-After", header);
            assert_eq!(response.wait(now), seconds.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn the_time_that_a_server_asks_to_wait_is_in_the_message() {
        let now = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        let cases = [
            (None, ""),
            (Some("soon"), ""),
            (Some("0"), ""),
            (Some("Sun, 06 Nov 1994 08:49:27 GMT"), ""),
            (Some("59"), " and asks to wait 59 s, until Sun, 06 Nov 1994 08:50:36 GMT"),
            (Some("892"), " and asks to wait 14 min 52 s, until Sun, 06 Nov 1994 09:04:29 GMT"),
            (
                Some("Sun, 06 Nov 1994 10:54:37 GMT"),
                " and asks to wait 2 h 5 min, until Sun, 06 Nov 1994 10:54:37 GMT",
            ),
            (Some("259200"), " and asks to wait 3 days, until Wed, 09 Nov 1994 08:49:37 GMT"),
            (
                Some("18446744073709551615"),
                " and asks to wait 213503982334601 days, until Fri, 31 Dec 9999 23:59:59 GMT",
            ),
        ];
        for (header, words) in cases {
            let response = header
                .into_iter()
                .fold(Response::new(429, ""), |response, header| response.with_header("Retry-After", header));
            assert_eq!(response.status_words(Some(now)), format!("status 429{words}"), "{header:?}");
            // Without a clock an instant says nothing, but a number of seconds does.
            let (asked, _) = words.split_once(", until ").unwrap_or((words, ""));
            let is_seconds = header.is_some_and(|header| !header.ends_with("GMT"));
            let wanted = if is_seconds { asked } else { "" };
            assert_eq!(response.status_words(None), format!("status 429{wanted}"), "{header:?}");
            let response = response.with_header("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
            assert_eq!(response.status_words(None), format!("status 429{words}"), "{header:?}");
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
            let content = format!("{:?}", response(200, body).content());
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
            let shown = response(status, body).first_text().map(|text| crate::text::printable(&text));
            assert_eq!(shown.as_deref(), wanted, "{body}");
        }
    }

    #[test]
    fn a_response_does_not_print_its_body() {
        assert_eq!(format!("{:?}", response(200, "secret")), "Response { status: 200, body: 6 bytes }");
    }
}
