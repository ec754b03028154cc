//! The errors that servers write into their responses.

use super::dialects::{self, with_words_of_dialects};
use super::response::Content;
use crate::text::printable;
use serde_json::{Map, Value};

/// Members that hold an error, or several: as an object or as an array. Errors are looked for in no other members.
const ERRORS: [&str; 9] =
    ["error", "errors", "detail", "details", "extensions", "data", "meta", "response", "result"];

/// Members with a text that may be an error code, the most likely first. `error` counts before all of them.
const CODES: [&str; 4] = ["code", "error", "error_type", "errcode"];

/// Further such members inside an error. At the top level they mean other things.
const INNER_CODES: [&str; 2] = ["type", "status"];

/// Members that a person can read, the best first.
const DESCRIPTIONS: [&str; 9] = [
    "error_description",
    "errorDescription",
    "message",
    "error_message",
    "errorMessage",
    "errmsg",
    "detail",
    "title",
    "errors",
];

/// Members of an error, unless they are empty.
const SIGNS: [&str; 2] = ["error", "errors"];

/// The error codes for a refresh token that is spent or dead (RFC 6749 section 5.2).
const DEAD_GRANT: [&str; 1] = ["invalid_grant"];

/// The deepest nesting of errors that is searched.
const ERROR_DEPTH: u32 = 4;

/// The most errors of one array that are read.
const MOST_ERRORS: usize = 16;

/// The error in a JSON body, in any of the forms that servers use.
#[derive(Debug, Default)]
pub(crate) struct ServerError {
    /// The words that may be error codes, the most likely first.
    pub codes: Vec<String>,
    /// What a person can read.
    pub description: Option<String>,
    /// Whether the body says that it is an error, whatever the status is.
    pub is_error: bool,
    /// All that a person can read, and a top-level `type` or `status` in words (HubSpot). Only the search for a dead grant uses
    /// them.
    texts: Vec<String>,
}

impl ServerError {
    /// Reads RFC 6749 section 5.2, the same inside an object or an array (OpenAI, Anthropic, Salesforce), and what the
    /// [dialects](super::dialects) add.
    pub fn read(content: &Content) -> Self {
        let mut found = ErrorParts::new();
        let is_error = match content {
            Content::Members(members) => {
                found.look_at(members, 0);
                is_error(members)
            }
            Content::OtherJson(value) => {
                found.look_into(value, 0);
                false
            }
            Content::CutShort | Content::Foreign => return Self::default(),
        };
        let ErrorParts { codes, descriptions, states, .. } = found;
        let texts: Vec<String> = descriptions.into_iter().map(|(_, text)| text).collect();
        let description = texts.first().cloned();
        Self { codes, description, is_error, texts: states.into_iter().chain(texts).collect() }
    }

    /// Code and description as one text, not yet fit to be shown. `None` if there is neither.
    pub fn words(&self) -> Option<String> {
        let words: Vec<&str> =
            self.codes.first().into_iter().chain(&self.description).map(String::as_str).collect();
        Some(words.join(": ")).filter(|words| !words.is_empty())
    }

    /// Whether one of the codes is one of these words, in any case.
    pub fn is_any_of(&self, words: &[&str]) -> bool {
        self.codes.iter().any(|code| words.iter().any(|word| code.eq_ignore_ascii_case(word)))
    }

    /// The error code of a refresh token that is spent or dead, as the server wrote it: a code, or another text that begins
    /// with the word.
    pub fn dead_grant(&self) -> Option<String> {
        let words = with_words_of_dialects(&DEAD_GRANT, |dialect| dialect.dead_grant);
        let found = self.codes.iter().chain(&self.texts).find_map(|text| named(text, &words));
        found.map(str::to_owned).or_else(|| self.dead_grant_in_words())
    }

    /// The first code, if another code means this with the description that came with it.
    fn dead_grant_in_words(&self) -> Option<String> {
        let description = self.description.as_deref()?;
        let mut texts = dialects::all().flat_map(|dialect| dialect.dead_grant_texts);
        let is_dead = texts.any(|(code, text)| *text == description && self.is_any_of(&[code]));
        self.codes.first().filter(|_| is_dead).cloned()
    }

    /// The description without the code that it begins with.
    pub fn description_after(&self, code: &str) -> Option<&str> {
        let description = self.description.as_deref()?;
        let rest = description.strip_prefix(code).unwrap_or(description);
        Some(rest.trim_start_matches([':', '-', ' '])).filter(|rest| !rest.is_empty())
    }
}

/// What was found in a body so far, and the names of the members to read.
struct ErrorParts {
    errors_in: Vec<&'static str>,
    codes_in: Vec<&'static str>,
    descriptions_in: Vec<&'static str>,
    codes: Vec<String>,
    /// With the position of the member's name in `descriptions_in`.
    descriptions: Vec<(usize, String)>,
    /// [`INNER_CODES`] of the top level.
    states: Vec<String>,
}

impl ErrorParts {
    fn new() -> Self {
        Self {
            errors_in: with_words_of_dialects(&ERRORS, |dialect| dialect.errors),
            codes_in: with_words_of_dialects(&CODES, |dialect| dialect.codes),
            descriptions_in: with_words_of_dialects(&DESCRIPTIONS, |dialect| dialect.descriptions),
            codes: Vec::new(),
            descriptions: Vec::new(),
            states: Vec::new(),
        }
    }

    fn look_into(&mut self, value: &Value, depth: u32) {
        match value {
            Value::Object(members) => self.look_at(members, depth),
            Value::Array(values) if depth < ERROR_DEPTH => {
                values.iter().take(MOST_ERRORS).for_each(|value| self.look_into(value, depth + 1));
            }
            Value::String(_) => match text(Some(value)) {
                Some(words) if words.contains(char::is_whitespace) => {
                    self.descriptions.push((self.descriptions_in.len(), words));
                }
                word => self.codes.extend(word),
            },
            _ => {}
        }
    }

    fn look_at(&mut self, members: &Map<String, Value>, depth: u32) {
        self.codes.extend(text(members.get("error")));
        let inner = self.errors_in.iter().filter_map(|name| members.get(*name));
        // Texts are read below, by the names of their members.
        let inner: Vec<&Value> = inner.filter(|inner| !inner.is_string() && depth < ERROR_DEPTH).collect();
        inner.into_iter().for_each(|inner| self.look_into(inner, depth + 1));
        self.codes.extend(self.codes_in.iter().filter_map(|name| text(members.get(*name))));
        let states = if depth > 0 { &mut self.codes } else { &mut self.states };
        states.extend(INNER_CODES.iter().filter_map(|name| text(members.get(*name))));
        for (rank, name) in self.descriptions_in.iter().enumerate() {
            let Some(text) = text(members.get(*name)) else { continue };
            let place = self.descriptions.partition_point(|(other, _)| *other <= rank);
            self.descriptions.insert(place, (rank, text));
        }
    }
}

/// Whether a body says that it is an error.
fn is_error(members: &Map<String, Value>) -> bool {
    let mut denials = dialects::all().flat_map(|dialect| dialect.denials);
    let denies = denials.any(|name| members.get(*name) == Some(&Value::Bool(false)));
    let says_so = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(values) => !values.is_empty(),
        Value::Object(_) | Value::Bool(true) => true,
    };
    let signs = with_words_of_dialects(&SIGNS, |dialect| dialect.signs);
    denies || signs.into_iter().filter_map(|name| members.get(name)).any(says_so)
}

/// The word of these, in any case, that a text names: the first word of a sentence, or a part of a compound such as
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

/// A text with at least one visible character.
fn text(value: Option<&Value>) -> Option<String> {
    value
        .and_then(Value::as_str)
        .filter(|text| !printable(text).is_empty())
        .map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Response;
    use super::*;

    fn error(body: &str) -> ServerError {
        ServerError::read(&Response::new(400, body).content())
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
            assert_eq!(error(body).dead_grant().as_deref(), code, "{body}");
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
}
