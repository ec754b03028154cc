//! Inputs at random, in the shapes that parsers expect.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

/// Words that mean something to some parser, or that some parser must not take for what it looks like.
pub const WORDS: [&str; 47] = [
    "",
    " ",
    "0",
    "3600",
    "1e309",
    "-1",
    "NaN",
    "default",
    "Bearer",
    "bearer",
    "DPoP",
    "S256",
    "openid offline_access",
    "repo,user",
    "invalid_grant",
    "bad_refresh_token",
    "invalid_client",
    "access_denied",
    "authorization_pending",
    "slow_down",
    "expired_token",
    "invalid_token",
    "unsupported_token_type",
    "temporarily_unavailable",
    "AB-CD",
    "answered-token-1",
    "answered-token-2",
    "token\r\nX-Evil: 1",
    "\u{1b}[2J\u{7}\u{9b}31m",
    "\u{202e}\u{200b}\u{e0041}\u{ad}",
    "a\u{2028}b\u{85}c",
    "planted-access-token",
    "planted-access-token+refresh/token",
    "planted-access-token%2Brefresh%2Ftoken",
    "planted-access-\u{200b}token",
    "planted-id-token",
    "planted client=secret",
    "planted client=sec\u{ad}ret",
    "planted-device-code",
    "https://as.example",
    "https://as.example/",
    "https://as.example/token",
    "http://127.0.0.1:9/d?code=AB-CD",
    "http://as.example/token",
    "https://user:password@as.example/",
    "https://as.example/a b",
    "e30.eyJleHAiOjIwMDAsInN1YiI6Im1lIn0.c2ln",
];

/// The members that some parser looks for.
pub const NAMES: [&str; 64] = [
    "access_token",
    "token_type",
    "refresh_token",
    "expires_in",
    "id_token",
    "scope",
    "error",
    "error_description",
    "error_code",
    "code",
    "type",
    "status",
    "reason",
    "message",
    "msg",
    "ok",
    "device_code",
    "user_code",
    "verification_uri",
    "verification_url",
    "verification_uri_complete",
    "interval",
    "issuer",
    "token_endpoint",
    "authorization_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "grant_types_supported",
    "scopes_supported",
    "sub",
    "exp",
    "iat",
    "version",
    "client_id",
    "client_secret",
    "client_auth",
    "resource",
    "audience",
    "parameters",
    "git_hosts",
    "session",
    "rejected",
    "last_refresh",
    "expires_at",
    "obtained_at",
    "refresh_token_sha256",
    "at",
    "host",
    "pid",
    "id",
    "by",
    "until",
    "outcome",
    "exit_code",
    "hint",
    "stranger",
    "authorization_servers",
    "authorization_server",
    "client_secret_expires_at",
    "token_endpoint_auth_method",
    "registration_client_uri",
    "registration_access_token",
    "redirect_uris",
];

pub fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(&WORDS[..]).prop_map(str::to_owned),
        1 => select(&WORDS[..]).prop_map(|word| word.repeat(40)),
        2 => vec(select(&WORDS[..]), 0..4).prop_map(|words| words.concat()),
        1 => "\\PC{0,12}",
        1 => any::<String>(),
    ]
}

pub fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(&[0_i64, 1, 5, 3600, -1, i64::MAX, i64::MIN, 1_800_000_000][..]).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ]
}

pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => word().prop_map(Value::from),
        3 => number(),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::from), object(inner).prop_map(Value::from)]
    })
}

pub fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    members(&NAMES, inner)
}

/// Members of these names, and now and then of another.
pub fn members(
    names: &'static [&'static str],
    inner: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![9 => select(names).prop_map(str::to_owned), 1 => word()];
    btree_map(name, inner, 0..8).prop_map(|members| members.into_iter().collect())
}

/// What a person is asked to open, or something that only begins like it.
pub fn address() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        "[a-z]{0,8}",
        "[a-z]{260,300}",
        word(),
        "[a-z ]{2,6}",
        Just("\u{200b}\u{202e}".to_owned())
    ];
    path.prop_map(|path| Value::from(format!("https://as.example/{path}")))
}

pub fn pick<'a>(words: &'a [&'a str]) -> impl Strategy<Value = Value> + use<'a> {
    let words: Vec<Value> = words.iter().map(|word| Value::from(*word)).collect();
    select(words)
}

/// `base` with some members set to other values and some left out: mostly what a parser takes, never all of it alike.
pub fn like(base: Value, members: impl Strategy<Value = Map<String, Value>>) -> impl Strategy<Value = Value> {
    (members, vec(select(&NAMES[..]), 0..2)).prop_map(move |(members, absent)| {
        let mut object = base.as_object().cloned().unwrap();
        object.extend(members);
        object.retain(|name, _| !absent.contains(&name.as_str()));
        Value::Object(object)
    })
}

pub fn form(value: &Value) -> String {
    let members = value.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(members.map(|(name, value)| (name, text(value))))
        .finish()
}

/// The value as servers write it: JSON, JSON that is cut short or decorated, a form, a page.
pub fn body(value: impl Strategy<Value = Value>) -> impl Strategy<Value = String> {
    (value, 0..14_u8, any::<prop::sample::Index>()).prop_map(|(value, spelling, cut)| {
        let json = value.to_string();
        match spelling {
            0 => form(&value),
            1 => format!("\u{feff} {json}"),
            2 => format!("{json}\n<!-- 3 ms -->"),
            3 => json.chars().take(cut.index(json.chars().count() + 1)).collect(),
            4 => format!("<html><title>{json}</title></html>"),
            5 => serde_json::to_string_pretty(&value).unwrap(),
            6 => form(&value).replace('&', "\n"),
            _ => json,
        }
    })
}

pub fn answer(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        4 => Just(200_u16),
        4 => select(&[201_u16, 204, 302, 307, 400, 401, 403, 404, 428, 429, 500, 502, 503][..]),
        1 => 0..1000_u16,
    ];
    let header = prop_oneof![
        4 => Just(String::new()),
        1 => word().prop_map(|word| format!("Retry-After: {word}\r\n")),
        1 => word().prop_map(|word| format!("Location: {word}\r\n")),
        1 => "[a-z0-9.-]{1,400}".prop_map(|host| format!("Location: https://{host}/?token=1\r\n")),
    ];
    (status, header, body(value)).prop_map(|(status, header, body)| {
        format!("HTTP/1.1 {status:03} X\r\n{header}\r\n{body}").into_bytes()
    })
}
