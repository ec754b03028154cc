//! What servers answer, read by content: servers in the field mislabel it.

use crate::grant::UnixSeconds;
use crate::text::date;
use crate::text::printable;
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
    OtherJson(Value),
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
        Some(Duration::from_secs(self.asked_wait(now)?).min(RETRY_AFTER_LIMIT))
    }

    /// The `Retry-After` header in seconds.
    fn asked_wait(&self, now: UnixSeconds) -> Option<u64> {
        let text = self.retry_after.as_deref()?.trim();
        text.parse::<u64>().ok().or_else(|| {
            let then = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(then.as_secs().saturating_sub(u64::try_from(now).unwrap_or(0)))
        })
    }

    /// The status for a person, with the time that the server asks to wait, if it asks, and with the reason why the body
    /// cannot be read. `now`: `None` if only the server's clock is known.
    pub fn status_words(&self, now: Option<UnixSeconds>) -> String {
        let mut words = format!("status {}", self.status);
        let now = now.or_else(|| self.server_time());
        // Without a clock a number of seconds says enough.
        if let Some(wait) = self.asked_wait(now.unwrap_or(UnixSeconds::MAX)).filter(|wait| *wait > 0) {
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

    fn server_time(&self) -> Option<UnixSeconds> {
        let date = httpdate::parse_http_date(self.date.as_deref()?).ok()?;
        i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
    }

    /// Reads the body: JSON whatever the content type says, with or without a byte-order mark, and with
    /// whatever stands behind the object; a form only where it can be nothing else. serde_json bounds the
    /// depth (128).
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

/// Members that hold an error, or several: as an object or as an array. What other members hold is not about an error.
const ERRORS: [&str; 11] = [
    "error",
    "errors",
    "fault",
    "detail",
    "details",
    "extensions",
    "errorCauses",
    "data",
    "meta",
    "response",
    "result",
];

/// Members whose text may be an error code, the most likely first. `error` counts before all of them.
const CODES: [&str; 8] =
    ["code", "error", "error_code", "errorCode", "error_type", "errorType", "errorcode", "errcode"];

/// Further such members inside of an error. At the top level they mean other things.
const INNER_CODES: [&str; 2] = ["type", "status"];

/// Members that a person can read, the best first.
const DESCRIPTIONS: [&str; 13] = [
    "error_description",
    "errorDescription",
    "errorSummary",
    "message",
    "reason",
    "error_message",
    "errorMessage",
    "msg",
    "errmsg",
    "faultstring",
    "detail",
    "title",
    "errors",
];

/// Members that say that a body is an error, unless they are empty.
const SIGNS: [&str; 7] = ["error", "errors", "fault", "error_code", "errorCode", "errorType", "errorSummary"];

/// How deep errors are looked for inside of errors.
const ERROR_DEPTH: u32 = 4;

/// How many errors of one array are looked at.
const MOST_ERRORS: usize = 16;

/// The error that a JSON body speaks of, in any of the shapes met in the field.
#[derive(Debug, Default)]
pub(crate) struct ServerError {
    /// The words that may be error codes, the most likely first.
    pub codes: Vec<String>,
    /// What a person can read.
    pub description: Option<String>,
    /// Whether the body calls itself an error: a member of [`SIGNS`], `ok: false` (Slack), `success: false` (Fitbit).
    pub is_error: bool,
    /// All that a person can read, and a top-level `status` in words (HubSpot): looked at for a dead grant alone.
    texts: Vec<String>,
}

impl ServerError {
    /// Reads RFC 6749 section 5.2, and: an `error` that is an object with `code` or `type` (OpenAI, Anthropic),
    /// `errors` with an `errorType` in each (Fitbit), `errorCode` and `errorSummary` (Okta), `error_code` (Supabase),
    /// `fault` (Apigee), `reason` (Zoom), `message`, `msg`, and an array of such objects (Salesforce).
    pub fn read(content: &Content) -> Self {
        let (found, is_error) = match content {
            Content::Members(members) => (Found::in_members(members, 0), is_error(members)),
            Content::OtherJson(value) => (Found::in_value(value, 0), false),
            Content::CutShort | Content::Foreign => return Self::default(),
        };
        let Found { codes, mut descriptions, states } = found;
        descriptions.sort_by_key(|(rank, _)| *rank);
        let texts: Vec<String> = descriptions.into_iter().map(|(_, text)| text).collect();
        let description = texts.first().cloned();
        Self { codes, description, is_error, texts: states.into_iter().chain(texts).collect() }
    }

    /// Code and description as one text, not yet fit to be shown; none where there is neither.
    pub fn words(&self) -> Option<String> {
        let words: Vec<&str> =
            self.codes.first().into_iter().chain(&self.description).map(String::as_str).collect();
        Some(words.join(": ")).filter(|words| !words.is_empty())
    }

    /// Whether one of the codes is one of these words, in any case.
    pub fn is_any_of(&self, words: &[&str]) -> bool {
        self.codes.iter().any(|code| words.iter().any(|word| code.eq_ignore_ascii_case(word)))
    }

    /// One of these words, as the server wrote it: a code, or any other text that is this word or begins with it.
    pub fn find_dead(&self, words: &[&str]) -> Option<String> {
        let found = self.codes.iter().chain(&self.texts).find_map(|text| named(text, words));
        found.map(str::to_owned)
    }

    /// The description without the code that it begins with.
    pub fn description_after(&self, code: &str) -> Option<&str> {
        let description = self.description.as_deref()?;
        let rest = description.strip_prefix(code).unwrap_or(description);
        Some(rest.trim_start_matches([':', '-', ' '])).filter(|rest| !rest.is_empty())
    }
}

/// What was found on the way through a body.
#[derive(Default)]
struct Found {
    codes: Vec<String>,
    /// With the position of the member's name in [`DESCRIPTIONS`].
    descriptions: Vec<(usize, String)>,
    /// [`INNER_CODES`] of the top level.
    states: Vec<String>,
}

impl Found {
    fn in_value(value: &Value, depth: u32) -> Self {
        let mut found = Self::default();
        found.look_into(value, depth);
        found
    }

    fn in_members(members: &Map<String, Value>, depth: u32) -> Self {
        let mut found = Self::default();
        found.look_at(members, depth);
        found
    }

    fn look_into(&mut self, value: &Value, depth: u32) {
        match value {
            Value::Object(members) => self.look_at(members, depth),
            Value::Array(values) if depth < ERROR_DEPTH => {
                values.iter().take(MOST_ERRORS).for_each(|value| self.look_into(value, depth + 1));
            }
            Value::String(_) => match text(Some(value)) {
                Some(words) if words.contains(char::is_whitespace) => {
                    self.descriptions.push((DESCRIPTIONS.len(), words));
                }
                word => self.codes.extend(word),
            },
            _ => {}
        }
    }

    fn look_at(&mut self, members: &Map<String, Value>, depth: u32) {
        self.codes.extend(text(members.get("error")));
        let inner = ERRORS.iter().filter_map(|name| members.get(*name)).filter(|_| depth < ERROR_DEPTH);
        // A text is a code or a description by the name of its member.
        inner.filter(|inner| !inner.is_string()).for_each(|inner| self.look_into(inner, depth + 1));
        self.codes.extend(CODES.iter().filter_map(|name| text(members.get(*name))));
        let states = if depth > 0 { &mut self.codes } else { &mut self.states };
        states.extend(INNER_CODES.iter().filter_map(|name| text(members.get(*name))));
        let descriptions = DESCRIPTIONS.iter().enumerate();
        self.descriptions
            .extend(descriptions.filter_map(|(rank, name)| Some((rank, text(members.get(*name))?))));
    }
}

/// Whether a body calls itself an error.
fn is_error(members: &Map<String, Value>) -> bool {
    let denies = ["ok", "success"].iter().any(|name| members.get(*name) == Some(&Value::Bool(false)));
    let says_so = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(values) => !values.is_empty(),
        Value::Object(_) | Value::Bool(true) => true,
    };
    denies || SIGNS.iter().filter_map(|name| members.get(*name)).any(says_so)
}

/// The one of these words, in any case, that a text names: the first word of a sentence, or a part of a compound such as
/// `keymanagement.service.invalid_refresh_token` (Apigee). The address of a page about an error names none.
fn named<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    if text.contains("://") {
        return None;
    }
    let is_sentence = text.trim().contains(char::is_whitespace);
    let is_between = |character: char| !character.is_ascii_alphanumeric() && character != '_';
    let parts = text.split(is_between).filter(|part| !part.is_empty());
    let mut parts = parts.take(if is_sentence { 1 } else { usize::MAX });
    parts.find(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
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
            let reply = Reply { status: 429, retry_after: header.map(str::to_owned), ..Reply::default() };
            assert_eq!(reply.status_words(Some(now)), format!("status 429{words}"), "{header:?}");
            // No clock is known: an instant says nothing, a number of seconds does.
            let (asked, _) = words.split_once(", until ").unwrap_or((words, ""));
            let is_seconds = header.is_some_and(|header| !header.ends_with("GMT"));
            let wanted = if is_seconds { asked } else { "" };
            assert_eq!(reply.status_words(None), format!("status 429{wanted}"), "{header:?}");
            let reply = Reply { date: Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()), ..reply };
            assert_eq!(reply.status_words(None), format!("status 429{words}"), "{header:?}");
        }
    }

    fn error(body: &str) -> ServerError {
        ServerError::read(&reply(400, body).content())
    }

    #[test]
    #[rustfmt::skip]
    fn the_words_of_an_error_are_found_in_every_member_that_servers_use() {
        let cases = [
            (r#"{"error":"e","error_description":"d"}"#, Some("e: d")),
            (r#"{"errors":[{"errorType":"invalid_token","message":"m"}],"success":false}"#, Some("invalid_token: m")),
            (r#"{"errors":["no_such_app"]}"#, Some("no_such_app")),
            (r#"{"errors":["The token is dead"]}"#, Some("The token is dead")),
            (r#"{"errors":{"code":"c","detail":"d"}}"#, Some("c: d")),
            (r#"{"errorCode":"E0000011","errorSummary":"Invalid token provided","errorCauses":[]}"#, Some("E0000011: Invalid token provided")),
            (r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}"#, Some("INVALID_ARGUMENT: m")),
            (r#"{"type":"error","error":{"type":"not_found_error","message":"m"}}"#, Some("not_found_error: m")),
            (r#"{"fault":{"faultstring":"f","detail":{"errorcode":"a.b.c"}}}"#, Some("a.b.c: f")),
            (r#"{"type":"https://as.example/problem","title":"t","status":400,"detail":"d"}"#, Some("d")),
            (r#"[{"errorCode":"INVALID_SESSION_ID","message":"m"}]"#, Some("INVALID_SESSION_ID: m")),
            (r#"{"message":"m"}"#, Some("m")),
            (r#"{"a":{"b":"c"}}"#, None),
            ("[]", None),
            ("7", None),
        ];
        for (body, words) in cases {
            assert_eq!(error(body).words().as_deref(), words, "{body}");
        }
        let deep = format!("{}\"x\"{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(error(&deep).words(), None, "errors are looked for to a bounded depth");
    }

    #[test]
    #[rustfmt::skip]
    fn a_dead_grant_is_found_wherever_the_word_for_it_is() {
        let dead = ["invalid_grant", "invalid_refresh_token"];
        let cases = [
            (r#"{"errors":[{"errorType":"other"},{"errorType":"invalid_grant","message":"m"}]}"#, Some("invalid_grant")),
            (r#"{"errorCode":"INVALID_GRANT"}"#, Some("INVALID_GRANT")),
            (r#"{"message":"invalid_grant"}"#, Some("invalid_grant")),
            (r#"{"errorSummary":"invalid_grant: the token has expired"}"#, Some("invalid_grant")),
            (r#"{"data":{"error":"invalid_grant"}}"#, Some("invalid_grant")),
            (r#"{"meta":{"error_type":"invalid_grant"}}"#, Some("invalid_grant")),
            (r#"{"errors":[{"message":"m","extensions":{"code":"invalid_grant"}}]}"#, Some("invalid_grant")),
            (r#"{"message":"m","errors":[{"message":"n"},{"message":"invalid_grant"}]}"#, Some("invalid_grant")),
            (r#"{"status":"INVALID_GRANT"}"#, Some("INVALID_GRANT")),
            (r#"{"stranger":{"error":"invalid_grant"}}"#, None),
            (r#"{"fault":{"detail":{"errorcode":"keymanagement.service.invalid_refresh_token"}}}"#, Some("invalid_refresh_token")),
            (r#""invalid_grant""#, Some("invalid_grant")),
            (r#"["invalid_grant"]"#, Some("invalid_grant")),
            (r#"{"error":"invalid_grant_type"}"#, None),
            (r#"{"error":"invalid_request","error_uri":"https://as.example/errors#invalid_grant"}"#, None),
            (r#"{"message":"this is no invalid_grant"}"#, None),
            (r#"{"invalid_grant":true}"#, None),
        ];
        for (body, code) in cases {
            assert_eq!(error(body).find_dead(&dead).as_deref(), code, "{body}");
        }
    }

    #[test]
    fn a_body_calls_itself_an_error_in_several_ways() {
        for body in [r#"{"ok":false}"#, r#"{"success":false}"#, r#"{"errors":[{}]}"#, r#"{"errorCode":"E1"}"#]
        {
            assert!(error(body).is_error, "{body}");
        }
        for body in ["{}", r#"{"errors":[],"error":null,"errorCode":0}"#, r#"{"success":true,"error":""}"#] {
            assert!(!error(body).is_error, "{body}");
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
            let shown = reply(status, body).first_text().map(|text| crate::text::printable(&text));
            assert_eq!(shown.as_deref(), wanted, "{body}");
        }
    }

    #[test]
    fn a_reply_does_not_print_its_body() {
        assert_eq!(format!("{:?}", reply(200, "secret")), "Reply { status: 200, body: 6 bytes }");
    }
}
