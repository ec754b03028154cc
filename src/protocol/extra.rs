//! Members of a token response that no standard defines: `instance_url`, `api_domain`, `refresh_token_expires_in` … A
//! client must ignore members that it does not know (RFC 6749 section 5.1), but the program that uses the token may need
//! them.

use super::claims::claims;
use super::redaction::{SHORTEST_SECRET, secret_name};
use super::token::lifetime;
use crate::grant::{Session, UnixSeconds, object};
use crate::text::parse_number;
use serde_json::{Map, Value};

/// The most that is kept, in bytes of JSON. A keyring takes lines of 64 KiB, which must hold the tokens, too.
pub const EXTRA_LIMIT: usize = 4 << 10;

/// The deepest nesting of a member that is kept. The document that holds it is read to a depth of 128.
const DEPTH_LIMIT: usize = 16;

/// Members that have their own place in a session, or that say nothing about a token.
const STANDARD: [&str; 10] = [
    "access_token",
    "token_type",
    "expires_in",
    "expires_in_sec",
    "refresh_token",
    "id_token",
    "scope",
    "error",
    "error_description",
    "error_uri",
];

/// Members with the lifetime of the refresh token in seconds: those of GitHub, Google, Keycloak, Intuit and others.
/// Written as [`bare`] makes it.
const REFRESH_TOKEN_LIFETIMES: [&str; 6] = [
    "refreshtokenexpiresinsec",
    "refreshtokenexpiresin",
    "refreshexpiresin",
    "xrefreshtokenexpiresin",
    "refreshtokenlifetime",
    "refreshtokenttl",
];

/// Members with the end of the refresh token, in seconds since the Unix epoch.
const REFRESH_TOKEN_ENDS: [&str; 3] = ["refreshtokenexpiresat", "refreshexpiresat", "refreshtokenexpireson"];

/// The name in lower case, without underscores: `refresh_token_expires_in` and `refreshTokenExpiresIn` become the same.
fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|character| character.to_ascii_lowercase()).collect()
}

/// Instants from here on are in milliseconds: in seconds they are after the year 5000.
const MILLISECONDS_FROM: f64 = 1e11;

/// The members of a response that are kept.
pub fn read(answer: &Map<String, Value>) -> Map<String, Value> {
    let tokens: Vec<&str> = ["access_token", "refresh_token", "id_token"]
        .iter()
        .filter_map(|name| answer.get(*name)?.as_str())
        .filter(|token| token.len() >= SHORTEST_SECRET)
        .collect();
    let further =
        answer.iter().filter(|(name, value)| !STANDARD.contains(&name.as_str()) && !value.is_null());
    bounded(further.filter_map(|(name, value)| Some((name.clone(), public(name, value, &tokens, 0)?))))
}

/// A member without the secrets in it. `None` if nothing is left, or if it is nested too deep.
fn public(name: &str, value: &Value, tokens: &[&str], depth: usize) -> Option<Value> {
    if secret_name(name) || depth > DEPTH_LIMIT {
        return None;
    }
    match value {
        Value::String(text) => {
            let is_secret = claims(text).is_some() || tokens.iter().any(|token| text.contains(token));
            (!is_secret).then(|| value.clone())
        }
        Value::Array(values) => {
            let kept: Vec<Value> =
                values.iter().filter_map(|value| public(name, value, tokens, depth + 1)).collect();
            (values.is_empty() || !kept.is_empty()).then_some(Value::Array(kept))
        }
        Value::Object(members) => {
            let further = members.iter();
            let kept =
                object(further.filter_map(|(name, value)| {
                    Some((name.clone(), public(name, value, tokens, depth + 1)?))
                }));
            (members.is_empty() || !kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.clone()),
    }
}

/// As many whole members as fit into [`EXTRA_LIMIT`].
fn bounded(members: impl Iterator<Item = (String, Value)>) -> Map<String, Value> {
    let mut left = EXTRA_LIMIT;
    let fits = |(name, value): &(String, Value)| {
        let length = name.len() + value.to_string().len();
        let fits = length <= left;
        left -= if fits { length } else { 0 };
        fits
    };
    object(members.filter(fits))
}

/// What the next session keeps: the members of the response, and the earlier members that the response leaves out. Some
/// servers give `instance_url` only at the login. A lifetime is not kept: it counts from an older response.
pub fn merged(previous: Option<&Session>, next: Map<String, Value>) -> Map<String, Value> {
    let before = previous.and_then(|previous| previous.extra.as_object());
    let mut missing: Vec<(String, Value)> = Vec::new();
    for (name, value) in before.into_iter().flatten() {
        if !next.contains_key(name) && !REFRESH_TOKEN_LIFETIMES.contains(&bare(name).as_str()) {
            missing.push((name.clone(), value.clone()));
        }
    }
    bounded(next.into_iter().chain(missing))
}

/// When the refresh token expires that came with these members. The request was sent at `sent_at`.
pub fn refresh_token_end(members: &Map<String, Value>, sent_at: UnixSeconds) -> Option<UnixSeconds> {
    let relative = find(members, &REFRESH_TOKEN_LIFETIMES, lifetime);
    let relative = relative.map(|seconds| sent_at.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)));
    relative.or_else(|| find(members, &REFRESH_TOKEN_ENDS, instant))
}

/// The first usable value of a member with one of these names, which are written as [`bare`] makes them.
fn find<T>(members: &Map<String, Value>, names: &[&str], read: fn(&Value) -> Option<T>) -> Option<T> {
    names.iter().find_map(|name| {
        let mut values = members.iter().filter(|(other, _)| bare(other) == *name);
        values.find_map(|(_, value)| read(value))
    })
}

fn instant(value: &Value) -> Option<UnixSeconds> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => parse_number(text)?,
        _ => return None,
    };
    let seconds = if number > MILLISECONDS_FROM { number / 1000.0 } else { number };
    // A float-to-integer cast saturates. That is right for an absurd instant.
    #[expect(clippy::as_conversions, reason = "saturates; there is no `From` for it")]
    (seconds.is_finite() && seconds > 0.0).then_some(seconds as UnixSeconds)
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;
    use serde_json::json;

    fn kept(answer: Value) -> Value {
        Value::Object(read(answer.as_object().unwrap()))
    }

    #[test]
    fn members_of_the_standards_and_secrets_are_not_kept() {
        let answer = json!({
            "access_token": "the-access-token", "token_type": "Bearer", "expires_in": 1, "expires_in_sec": 1,
            "refresh_token": "the-refresh-token", "scope": "a", "error": "", "nothing": null,
            "instance_url": "https://na1.example", "api_domain": "https://api.example", "issued_at": "17",
            "refresh_token_expires_in": 604_800, "issued_token_type": "urn:x", "session_state": "s",
            "list": [1, { "a": true }],
            "device_secret": "x", "apiKey": "x", "accessToken": "x", "session_key": "x", "password": "x",
            "raw": "Bearer the-access-token", "unnamed": "e30.e30.c2ln",
            "authed_user": { "id": "U1", "access_token": "xoxp", "team": { "refreshToken": "x", "name": "T" } },
            "refresh_tokens": ["x"], "refresh_token_value": "x", "clientSecretHash": "x", "token_endpoint": "https://as.example/t",
            "refreshTokenExpiresIn": 60,
            "only": { "secrets": [{ "token": "x" }] }, "empty": {},
        });
        let wanted = json!({
            "instance_url": "https://na1.example", "api_domain": "https://api.example", "issued_at": "17",
            "refresh_token_expires_in": 604_800, "issued_token_type": "urn:x", "session_state": "s",
            "list": [1, { "a": true }],
            "token_endpoint": "https://as.example/t", "refreshTokenExpiresIn": 60,
            "authed_user": { "id": "U1", "team": { "name": "T" } }, "empty": {},
        });
        assert_eq!(kept(answer), wanted);
    }

    #[test]
    fn what_is_kept_is_bounded_in_size_and_depth() {
        let long = "x".repeat(EXTRA_LIMIT);
        assert_eq!(kept(json!({ "a": long, "b": 1 })), json!({ "b": 1 }));
        let many: Map<String, Value> =
            (0..10_000).map(|number| (number.to_string(), json!(number))).collect();
        let kept = read(&many);
        assert!(!kept.is_empty() && Value::Object(kept.clone()).to_string().len() < 2 * EXTRA_LIMIT);
        let nested = |depth: usize| {
            let text = format!(r#"{{"deep":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
            read(&serde_json::from_str(&text).unwrap())
        };
        assert_eq!(nested(100), Map::new());
        let mut document = document();
        document.session.as_mut().unwrap().extra = Value::Object(nested(DEPTH_LIMIT));
        assert!(document.session.as_ref().unwrap().extra["deep"].is_array());
        let bytes = document.to_bytes().unwrap();
        assert_eq!(crate::grant::Document::parse(&bytes), Ok(document));
    }

    #[test]
    fn a_refresh_keeps_what_the_response_leaves_out_but_no_lifetime() {
        let mut session = document().session.unwrap();
        let of = |value: Value| value.as_object().unwrap().clone();
        let first = of(json!({ "instance_url": "https://a", "refresh_expires_in": 60, "n": 1 }));
        session.extra = Value::Object(merged(None, first));
        let next = of(json!({ "n": 2, "more": true }));
        let wanted = json!({ "instance_url": "https://a", "n": 2, "more": true });
        assert_eq!(Value::Object(merged(Some(&session), next)), wanted);
        session.extra = Value::Bool(true);
        assert_eq!(merged(Some(&session), Map::new()), Map::new(), "another program's member of that name");
    }

    #[test]
    #[rustfmt::skip]
    fn the_end_of_a_refresh_token_is_read_in_every_spelling() {
        let cases = [
            (json!({ "refresh_token_expires_in": 60 }), Some(1060)),
            (json!({ "refresh_token_expires_in": "60" }), Some(1060)),
            (json!({ "refresh_expires_in": 60 }), Some(1060)),
            (json!({ "x_refresh_token_expires_in": 60 }), Some(1060)),
            (json!({ "refreshTokenExpiresIn": 60 }), Some(1060)),
            (json!({ "refresh_token_expires_in": 60_000, "refresh_token_expires_in_sec": 60 }), Some(1060)),
            (json!({ "refresh_token_expires_at": 1_800_000_000 }), Some(1_800_000_000)),
            (json!({ "refresh_token_expires_at": 1_800_000_000_000_i64 }), Some(1_800_000_000)),
            // Keycloak's offline tokens do not end.
            (json!({ "refresh_expires_in": 0 }), None),
            (json!({ "refresh_token_expires_in": "never", "refresh_token_expires_at": [] }), None),
            (json!({ "expires_in": 60 }), None),
        ];
        for (members, wanted) in cases {
            assert_eq!(refresh_token_end(members.as_object().unwrap(), 1000), wanted, "{members}");
        }
    }
}
