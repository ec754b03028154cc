//! Every parser of foreign bytes keeps its promises for all bytes.
//!
//! The promises are in `fixtures/fuzz/properties`, where the fuzz targets use them, too. Here they meet inputs that
//! are made up at random but in the right shape, and every input that the fuzzers found worth keeping. A failure is
//! shrunk, and names the seed that makes it again.

#[path = "../../../fixtures/fuzz/properties/mod.rs"]
mod parsers;
mod shapes;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use serde_json::Value;
use shapes::*;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// How many inputs each parser meets, unless `PROPTEST_CASES` asks for more. The fuzz targets are there for that.
const CASES: u32 = 400;

/// The most that is spent on making an input smaller.
const SHRINKING_STEPS: u32 = 2000;

/// What kept inputs may take in the repository.
const CORPUS_FILES: usize = 280;
const CORPUS_BYTES: usize = 200 << 10;

/// Runs the property of `target` on inputs of this shape.
#[track_caller]
fn hold(target: &str, inputs: impl Strategy<Value = Vec<u8>>) {
    let name = "PROPTEST_RNG_SEED";
    let seed = std::env::var(name).ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(target));
    let (_, property) = parsers::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let asked = Config::default();
    let mut runner = TestRunner::new(Config {
        cases: asked.cases.max(CASES),
        max_shrink_iters: SHRINKING_STEPS,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..asked
    });
    let outcome = runner.run(&inputs, |input| {
        property(&input);
        Ok(())
    });
    let again =
        format!("the same inputs again: {name}={seed} cargo test --test protocol properties {target}");
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{why}\n{}\n{again}", input.escape_ascii()),
        Err(TestError::Abort(why)) => panic!("{why}\n{again}"),
    }
}

#[test]
fn token_answer() {
    let base = serde_json::json!({"access_token": "answered-token-1", "token_type": "Bearer", "expires_in": 3600,
        "refresh_token": "answered-token-2"});
    let error = || members(&NAMES[6..16], value());
    let errors = prop_oneof![
        error(),
        error().prop_map(|nested| [("error".to_owned(), nested.into())].into_iter().collect())
    ];
    let granted = like(base, members(&NAMES[..16], value()));
    hold("token_answer", answer(prop_oneof![granted, errors.prop_map(Value::Object), value()]));
}

#[test]
fn device_answer() {
    let base = serde_json::json!({"device_code": "dc", "user_code": "AB-CD", "verification_uri": "https://as.example/d",
        "expires_in": 600, "interval": 5});
    let errors = pick(&["authorization_pending", "slow_down", "access_denied", "expired_token"]);
    let error = (errors, object(value())).prop_map(|(error, mut members)| {
        members.insert("error".to_owned(), error);
        Value::Object(members)
    });
    let begun = like(base, members(&NAMES[16..22], prop_oneof![address(), value()]));
    hold("device_answer", answer(prop_oneof![begun, error]));
}

#[test]
fn userinfo() {
    let base = serde_json::json!({"sub": "me"});
    hold("userinfo", answer(like(base, object(value()))));
}

#[test]
fn sts_answer() {
    let code = pick(&["ExpiredTokenException", "AccessDenied", "IDPCommunicationError", "Throttling", ""]);
    let expiration = prop_oneof![2 => value(), 3 => pick(&["2027-01-15T08:00:00Z", "2027-01-15T08:00:00.5+01:00", "2027-01-15"])];
    let text = || prop_oneof![3 => pick(&["ASIA", "a/b+c=", "a&b", "<a>", "two words"]), 1 => value()];
    let json = (text(), text(), text(), expiration, code, value()).prop_map(
        |(key, secret, session, expiration, code, message)| {
            serde_json::json!({
                "Result": {"Credentials": {"AccessKeyId": key, "SecretAccessKey": secret, "SessionToken": session,
                    "Expiration": expiration}},
                "Error": {"Code": code, "Message": message},
            })
        },
    );
    let xml = json.prop_map(|value| {
        let elements = xml(&value);
        (value, elements)
    });
    let input = (xml, any::<bool>(), select(&[200_u16, 400, 403, 503][..]));
    let written = input.prop_map(|((json, xml), is_json, status)| {
        let body = if is_json { json.to_string() } else { xml };
        format!("HTTP/1.1 {status} x\r\n\r\n{body}").into_bytes()
    });
    hold("sts_answer", prop_oneof![3 => written, 1 => answer(object(value()).prop_map(Value::Object))]);
}

/// The members as elements.
fn xml(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| format!("<{name}>{}</{name}>", xml(value))).collect()
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn metadata() {
    let base =
        serde_json::json!({"issuer": "https://as.example", "token_endpoint": "https://as.example/token"});
    let urls = pick(&[
        "https://as.example",
        "https://as.example/",
        "https://as.example/t?x=1",
        "http://localhost:8/",
        "",
        "http://as.example/",
        "https://u@as.example/",
        "https://AS.example",
        "https://as.example//",
    ]);
    let members = object(prop_oneof![3 => urls, 1 => value()]);
    let issuer = select(
        &["https://as.example", "https://as.example/", "https://as.example//", "", "https://other"][..],
    );
    let input = (issuer, answer(like(base, members)));
    hold("metadata", input.prop_map(|(issuer, answer)| [issuer.as_bytes(), b"\n", &answer].concat()));
}

#[test]
fn challenge() {
    let scheme = select(&["Bearer", "bearer", "Basic", "Negotiate abc==", "DPoP", "(x)", ""][..]);
    let name = select(&["realm", "scope", "ERROR", "resource_metadata", "b~", "ü", ""][..]);
    let value = prop_oneof![
        3 => select(&[r#""""#, "x", r#""a, Bearer b""#, r#""a \"b\" \\ c""#, "https://r.example/x?a=b", "", "==", r#""open"#, "\"\t\u{7}\""][..])
            .prop_map(str::to_owned),
        1 => word().prop_map(|word| format!("{word:?}")),
        1 => word(),
    ];
    let white = || select(&["", "", " ", "\t", "  "][..]);
    let parameter = (name, white(), white(), value)
        .prop_map(|(name, before, after, value)| format!("{name}{before}={after}{value}"));
    let element = prop_oneof![2 => scheme.prop_map(str::to_owned), 4 => parameter, 1 => word()];
    let joint = select(&[", ", ",", " ", " , ", ",,", "\n"][..]);
    let parts = vec((element, joint), 0..12);
    hold(
        "challenge",
        parts.prop_map(|parts| {
            parts
                .into_iter()
                .map(|(element, joint)| format!("{element}{joint}"))
                .collect::<String>()
                .into_bytes()
        }),
    );
}

#[test]
fn resource_metadata() {
    let addresses = &[
        "https://r.example",
        "https://r.example/",
        "https://r.example/mcp",
        "https://R.EXAMPLE:443/mcp/",
        "https://r.example/mcp/v1?x=1",
        "https://r.example/mcp2",
        "https://r.example/mcp/%2e%2e/x",
        "https://r.example/./mcp",
        "https://other.example/mcp",
        "http://localhost:8/mcp",
        "http://r.example/mcp",
        "https://r.example/#x",
        "",
    ][..];
    let issuer = || prop_oneof![4 => pick(&["https://as.example", "https://as.example/t", "http://as.example", ""]), 1 => value()];
    let base = serde_json::json!({"resource": "https://r.example/mcp", "authorization_servers": ["https://as.example"],
        "scopes_supported": ["mcp:tools", "a b"]});
    let issuers = vec(issuer(), 0..7).prop_map(Value::from);
    let other = prop_oneof![pick(addresses), issuer(), issuers.clone(), value()];
    let members = (pick(addresses), issuers, object(other)).prop_map(|(resource, issuers, mut members)| {
        members.insert("resource".to_owned(), resource);
        members.insert("authorization_servers".to_owned(), issuers);
        members
    });
    let input = (select(addresses), answer(like(base, members)));
    hold("resource_metadata", input.prop_map(|(url, answer)| [url.as_bytes(), b"\n", &answer].concat()));
}

#[test]
fn address_search() {
    let places = &[
        "https://r.example",
        "https://r.example/mcp",
        "https://r.example/mcp/?x=1",
        "https://as.example",
        "https://as.example/t",
        "https://as.example/.well-known/oauth-authorization-server",
        "http://localhost:8/mcp",
        "http://as.example",
        "https://10.0.0.1/",
        "",
    ][..];
    let link = select(places);
    let head = prop_oneof![
        4 => Just("HTTP/1.1 200\n\n".to_owned()),
        2 => link.prop_map(|link| format!("HTTP/1.1 401\nWWW-Authenticate: Bearer resource_metadata=\"{link}\", scope=\"a b\"\n\n")),
        1 => select(&["404", "500", "502", "429", "204", "307"][..]).prop_map(|status| format!("HTTP/1.1 {status}\n\n")),
        1 => (0..4_u8).prop_map(|redirects| format!("HTTP/1.1 200\nMcp-Session-Id: s\nRedirects: {redirects}\n\n")),
        1 => select(&["lost\n", "refused\n", "HTTP/1.1 302\nLocation: https://other.example/x\n\n"][..]).prop_map(str::to_owned),
    ];
    let names = prop_oneof![8 => Just("issuer"), 1 => Just("authorization_server")];
    let endpoint = prop_oneof![8 => Just("https://as.example/token"), 1 => select(places)];
    let document = (pick(places), names, pick(places), vec(pick(places), 0..4), endpoint).prop_map(
        |(resource, name, issuer, issuers, endpoint)| {
            serde_json::json!({"resource": resource, "authorization_servers": issuers, name: issuer,
                "token_endpoint": endpoint, "scopes_supported": ["x"], "code_challenge_methods_supported": ["plain"]})
        },
    );
    let body = prop_oneof![6 => document.prop_map(|document| document.to_string()), 1 => Just("<html>".to_owned()), 1 => word()];
    let answers = vec((head, body).prop_map(|(head, body)| format!("{head}{body}")), 0..9);
    let input = (select(places), answers);
    hold(
        "address_search",
        input.prop_map(|(address, answers)| {
            [&[address.to_owned()], &answers[..]].concat().join("\n~\n").into_bytes()
        }),
    );
}

#[test]
fn registration() {
    let base = serde_json::json!({"client_id": "c", "client_secret": "answered-secret-1", "client_secret_expires_at": 0,
        "registration_client_uri": "https://as.example/register/c", "registration_access_token": "answered-token-2"});
    let methods = || {
        pick(&[
            "none",
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
            "answered-secret-1",
            "",
        ])
    };
    let errors =
        || pick(&["invalid_redirect_uri", "invalid_client_metadata", "invalid_scope", "answered-secret-1"]);
    let inner =
        prop_oneof![2 => methods(), 1 => errors(), 1 => pick(&["", "http://as.example/c"]), 2 => value()];
    let members = (prop::option::of(methods()), prop::option::of(errors()), object(inner)).prop_map(
        |(method, error, mut members)| {
            members.extend(method.map(|method| ("token_endpoint_auth_method".to_owned(), method)));
            members.extend(error.map(|error| ("error".to_owned(), error)));
            members
        },
    );
    hold("registration", answer(like(base, members)));
}

#[test]
fn url() {
    let scheme = select(&["https://", "http://", "HTTPS://", "https:/", "ftp://", "https:\\\\", ""][..]);
    let host = prop_oneof![
        4 => select(&["as.example", "localhost", "127.0.0.1", "127.9.9.9", "127.1", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]",
            "localhost.", "LOCALHOST", "a_b", "-", ".", "..", "xn--bcher-kva.example", "ä.example", "0x7f.1", "2130706433"][..])
            .prop_map(str::to_owned),
        1 => "[a-z0-9._:%@\\[\\]-]{0,20}",
    ];
    let port = prop_oneof![3 => Just(String::new()), 2 => "[:@]{1,2}[0-9x+]{0,6}"];
    let rest = prop_oneof![2 => "(/[a-z.]{0,5}){0,3}", 1 => "[ -~]{0,20}", 1 => any::<String>()];
    let user = prop_oneof![4 => Just(""), 1 => select(&["u@", "user:password@", "@"][..])];
    let parts = (scheme, user, host, port, rest);
    hold(
        "url",
        parts.prop_map(|(scheme, user, host, port, rest)| {
            format!("{scheme}{user}{host}{port}{rest}").into_bytes()
        }),
    );
}

#[test]
fn document() {
    let session = serde_json::json!({"access_token": "answered-token-1", "token_type": "Bearer",
        "refresh_token": "answered-token-2", "expires_at": 2000, "obtained_at": 1000});
    let base =
        serde_json::json!({"version": 1, "token_endpoint": "https://as.example/token", "client_id": "c"});
    // Strangers' members are where a document is not ours: no member of ours gets another type.
    let strangers = || btree_map(prop_oneof![word(), Just("stranger".to_owned())], value(), 0..4);
    let whole = (strangers(), strangers(), 0..4_u8).prop_map(move |(around, within, kind)| {
        let extended = |base: &Value, members: std::collections::BTreeMap<String, Value>| {
            let mut object = base.as_object().cloned().unwrap();
            members.into_iter().for_each(|(name, value)| {
                object.entry(name).or_insert(value);
            });
            Value::Object(object)
        };
        let mut document = extended(&base, around);
        document["session"] = if kind == 0 { Value::Null } else { extended(&session, within) };
        document
    });
    let odd =
        like(serde_json::json!({"version": 1, "token_endpoint": "t", "client_id": "c"}), object(value()));
    hold(
        "document",
        prop_oneof![3 => whole.prop_map(|value| value.to_string()), 1 => body(odd)]
            .prop_map(String::into_bytes),
    );
}

#[test]
fn attempt() {
    let base = serde_json::json!({"id": "1", "refresh_token_sha256": "ab", "at": 1000, "until": 1040,
        "by": {"host": "h", "boot": "b", "pid_namespace": "pid:[1]", "pid": 7, "start_time": 9}});
    let outcome = pick(&["looking", "temporary", "refused", "unknown", "rejected", "later"]);
    let ended = (outcome, word(), word(), any::<u8>(), any::<i64>()).prop_map(
        |(outcome, message, hint, code, until)| {
            [
                ("outcome", outcome),
                ("message", message.into()),
                ("hint", hint.into()),
                ("exit_code", code.into()),
                ("until", until.into()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
        },
    );
    hold("attempt", body(like(base, prop_oneof![ended, object(value())])).prop_map(String::into_bytes));
}

#[test]
fn authorization() {
    // The state that the property expects, and others.
    let state =
        select(&["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", "AQEB", ""][..]).prop_map(str::to_owned);
    let issuer = select(&["https://as.example", "https://as.example/", ""][..]).prop_map(str::to_owned);
    let error = select(
        &["access_denied", "invalid_request", "invalid_scope", "server_error", "login_required", ""][..],
    )
    .prop_map(str::to_owned);
    let pair = prop_oneof![
        4 => (Just("state"), state.clone()),
        2 => (Just("iss"), issuer),
        2 => (Just("code"), prop_oneof!["[!-~]{0,20}", word()]),
        2 => (Just("error"), prop_oneof![4 => error, 1 => word()]),
        1 => (Just("error_description"), word()),
        1 => (Just("session_state"), word()),
    ];
    let pairs = vec(pair, 0..5)
        .prop_map(|pairs| form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish());
    let before = select(&["", "", "?", "http://127.0.0.1:7/callback?", "/callback?"][..]);
    let input = prop_oneof![
        4 => (before, pairs).prop_map(|(before, pairs)| format!("{before}{pairs}")),
        1 => any::<String>(),
    ];
    hold("authorization", input.prop_map(String::into_bytes));
}

#[test]
fn loopback() {
    let method = select(&["GET", "GET", "GET", "HEAD", "POST", "get", ""][..]);
    let target = prop_oneof![
        4 => "/[a-z]{0,8}([?][!-~]{0,20})?",
        1 => "http://(127\\.0\\.0\\.1|\\[::1\\]|x):[0-9]{0,5}[/?]{0,2}[a-z?=&]{0,8}",
        1 => word(),
    ];
    let version = select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", ""][..]);
    let end = select(&["\r\n\r\n", "\r\n\r\n", "\n\n", "\r\nhost: x\r\n\r\n", "\r\n", "\r\n\r\nbody"][..]);
    let request = (method, target, version, end)
        .prop_map(|(method, target, version, end)| format!("{method} {target} {version}{end}"));
    let scheme = select(&["http://", "http://", "HTTP://", "https://", "app:/"][..]);
    let host = select(
        &["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "[0::1]", "127.0.0.2", "as.example", "[::"][..],
    );
    let uri = (scheme, host, "(:[0-9]{0,6})?", "([/?][!-~]{0,12})?")
        .prop_map(|(scheme, host, port, rest)| format!("{scheme}{host}{port}{rest}"));
    hold("loopback", prop_oneof![request, uri].prop_map(String::into_bytes));
}

#[test]
fn broker_request() {
    let method = select(&["GET", "GET", "POST", "PUT", "OPTIONS", ""][..]);
    let target = select(
        &[
            "/v1/token",
            "/v1/token?min_ttl=60&id_token=1",
            "/v1/token?min_ttl=-1",
            "/v1/rejected",
            "/v1/profile",
            "/computeMetadata/v1/instance/service-accounts/default/token",
            "/computeMetadata/v1/instance/service-accounts/default/identity?audience=a",
            "http://127.0.0.1:4711/v1/token",
            "/",
        ][..],
    );
    let field = prop_oneof![
        6 => select(
            &[
                "Host: 127.0.0.1:4711",
                "host: localhost:4711",
                "Host: attacker.example:4711",
                "Authorization: Bearer planted-key-of-the-broker",
                "Authorization: Bearer planted-key",
                "Origin: null",
                "Sec-Fetch-Site: cross-site",
                "X-Forwarded-For: 10.0.0.1",
                "Metadata-Flavor: Google",
                "Content-Length: 7",
                "Content-Length: 99999999999999999999",
                "Transfer-Encoding: chunked",
                "Expect: 100-continue",
            ][..],
        )
        .prop_map(str::to_owned),
        1 => "[!-~]{0,20}",
        1 => word(),
    ];
    let end = select(&["\r\n\r\n", "\r\n\r\n", "\r\n\r\nrefused", "\r\n", ""][..]);
    let request =
        (method, target, select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "x"][..]), vec(field, 0..8), end);
    let request = request.prop_map(|(method, target, version, fields, end)| {
        let fields: String = fields.iter().map(|field| format!("\r\n{field}")).collect();
        format!("{method} {target} {version}{fields}{end}").into_bytes()
    });
    hold("broker_request", prop_oneof![5 => request, 1 => vec(any::<u8>(), 0..100)]);
}

#[test]
fn broker_answer() {
    let token = || prop_oneof![3 => pick(&["a-token", "a.b.c", "two words", "a\nb", ""]), 1 => value()];
    let answer_of_token = (token(), token(), number(), value()).prop_map(|(access, id, end, extra)| {
        serde_json::json!({"access_token": access, "id_token": id, "expires_at": end, "token_type": "Bearer",
            "refresh_token": "never", "scope": extra, "extra": extra})
    });
    let refusal = (number(), value(), prop_oneof![pick(&["onegrant login", "try again"]), value()]).prop_map(
        |(code, message, hint)| serde_json::json!({"code": code, "message": message, "hint": hint}),
    );
    let profile = (value(), value(), pick(&["valid", "refreshable", "login_required", "later"])).prop_map(
        |(issuer, hosts, state)| serde_json::json!({"issuer": issuer, "git_hosts": hosts, "state": state}),
    );
    hold("broker_answer", answer(prop_oneof![answer_of_token, refusal, profile]));
}

#[test]
fn claims() {
    let payload = like(serde_json::json!({"exp": 2000, "iat": 1000.5, "sub": "me"}), object(value()));
    let token = "[A-Za-z0-9_=.-]{0,40}".prop_map(String::into_bytes);
    hold("claims", prop_oneof![payload.prop_map(|value| value.to_string().into_bytes()), token]);
}

#[test]
fn retry_after() {
    let date = (any::<prop::sample::Index>(), 0..253_402_300_799_i64).prop_map(|(cut, instant)| {
        let date = onegrant::text::date(instant);
        let mut changed = date.clone().into_bytes();
        let position = cut.index(changed.len());
        changed[position] = b'9';
        if instant % 2 == 0 { date } else { String::from_utf8(changed).unwrap() }
    });
    let other = prop_oneof![
        "[ +-]?[0-9]{0,25}",
        "[A-Za-z]{3,9}, ?[0-9]{1,2}[ -][A-Z][a-z]{2}[ -][0-9]{2,5} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        word()
    ];
    hold("retry_after", prop_oneof![date, other].prop_map(String::into_bytes));
}

#[test]
fn freshness() {
    let instant = || {
        prop_oneof![
            any::<i64>(),
            -100..8000_i64,
            select(&[0, i64::MIN, i64::MAX, i64::MIN + 1, i64::MAX - 1][..])
        ]
    };
    let token = prop_oneof![Just("x"), Just("eyJleHAiOjIwMDB9"), Just("eyJleHAiOjFlMzAwfQ")];
    let input = (vec(instant(), 5), token).prop_map(|(instants, token)| {
        let mut data: Vec<u8> = instants.iter().flat_map(|instant| instant.to_le_bytes()).collect();
        data.extend(token.bytes());
        data
    });
    hold("freshness", input);
}

#[test]
fn git_credential() {
    let key = select(
        &[
            "protocol",
            "host",
            "username",
            "password",
            "credential",
            "capability[]",
            "wwwauth[]",
            "state[]",
            "path",
            "later",
            "",
        ][..],
    );
    let value = prop_oneof![
        3 => select(
            &[
                "", "https", "http", "git.example", "git.example:8443", "authtype", "state", "Basic realm=\"a, Bearer b\"",
                "Bearer", "Basic, bearer realm=\"x\"", "me",
            ][..]
        )
        .prop_map(str::to_owned),
        1 => word(),
    ];
    let line = (key, value).prop_map(|(key, value)| format!("{key}={value}\n"));
    let line = prop_oneof![12 => line, 1 => Just("\n".to_owned()), 1 => word()];
    hold("git_credential", vec(line, 0..12).prop_map(|lines| lines.concat().into_bytes()));
}

#[test]
fn text() {
    let words = prop_oneof![word(), vec(word(), 0..30).prop_map(|words| words.join(" "))];
    hold("text", (word(), words).prop_map(|(secret, words)| format!("{secret}\n{words}").into_bytes()));
}

#[test]
fn environment() {
    let url = select(
        &[
            "https://as.example/token",
            "https://10.0.0.1:8443/",
            "http://localhost:9/",
            "https://[2001:db8::1]/",
            "https://a.b.as.example",
        ][..],
    );
    let value = prop_oneof![
        select(
            &[
                "http://proxy:3128",
                "proxy",
                "https://user:pass%40word@proxy:1/",
                "socks5h://proxy",
                "http://",
                "*",
                "as.example",
                ".example,10.0.0.0/8",
                "[2001:db8::1]",
                " ",
                "localhost, as.example:443",
                "http://proxy:99999",
                "http://[::1]:8"
            ][..]
        )
        .prop_map(str::to_owned),
        word(),
    ];
    let name = select(
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "http_proxy"][..],
    );
    let lines = vec((name, value), 0..4);
    let input = (url, lines).prop_map(|(url, lines)| {
        let lines: String =
            lines.iter().map(|(name, value)| format!("\n{name}={}", value.replace('\n', ""))).collect();
        format!("{url}{lines}").into_bytes()
    });
    hold("environment", input);
}

#[test]
fn arguments() {
    let variable = (
        select(
            &[
                "ONEGRANT_PROFILE",
                "ONEGRANT_STORE",
                "ONEGRANT_HOME",
                "XDG_STATE_HOME",
                "ONEGRANT_TIMEOUT",
                "ONEGRANT_LOCK",
                "ONEGRANT_LOG",
            ][..],
        ),
        select(
            &[
                "",
                "work",
                "file:/s",
                "file:s",
                "/home/it's",
                "relative",
                "5",
                "require",
                "info",
                "/odd/\u{1b}/two  spaces",
            ][..],
        ),
    )
        .prop_map(|(name, value)| format!("{name}={value}"));
    let command = prop_oneof![
        8 => select(&["login", "token", "token", "status", "refresh", "logout"][..]),
        1 => select(&["whoami", "profiles", "help", "--help", "--version", "tokne", "--", "https://as.example"][..]),
    ];
    let global = prop_oneof![
        3 => (Just("--profile"), select(&["work", "w.o-r_k", ".work", "a/b", ""][..]).prop_map(str::to_owned)),
        3 => (Just("--store"), select(&["file:/s", "file:it's here", "file:/odd\u{1b}", "file:/two  spaces", "file:~/x", "file:", "helper:x"][..]).prop_map(str::to_owned)),
        1 => (Just("--store"), word().prop_map(|word| format!("file:{word}"))),
        2 => (Just("--timeout"), "[0-9]{0,6}[.]?[0-9]{0,3}"),
    ];
    let own = prop_oneof![
        (Just("--min-ttl"), "[0-9]{1,6}[.]?[0-9]{0,3}"),
        (
            select(
                &["--client-id", "--scope", "--param", "--write", "--git-host", "--resource", "--audience"][..]
            ),
            prop_oneof![Just("a=b".to_owned()), Just("--json".to_owned()), Just("-".to_owned()), word()]
        ),
        (Just("--format"), select(&["raw", "json", "xml"][..]).prop_map(str::to_owned)),
        (Just("--client-auth"), select(&["none", "post", "jwt"][..]).prop_map(str::to_owned)),
    ];
    let switch =
        select(&["--device", "--json", "-v", "-vv", "-vV", "--local", "--rejected", "--min-tll", "-h"][..]);
    let pair =
        (prop_oneof![4 => global, 1 => own], any::<bool>()).prop_map(|((option, value), is_joined)| {
            match is_joined {
                true => vec![format!("{option}={value}")],
                false => vec![option.to_owned(), value],
            }
        });
    let pair = prop_oneof![6 => pair, 1 => switch.prop_map(|switch| vec![switch.to_owned()])];
    let pair = pair.boxed();
    let pairs = || vec(pair.clone(), 0..3).prop_map(|pairs| pairs.concat());
    let words =
        (vec(variable, 0..3), pairs(), command, pairs()).prop_map(|(variables, before, command, after)| {
            [vec!["HOME=/home/me".to_owned()], variables, before, vec![command.to_owned()], after].concat()
        });
    let input = (words, prop::option::weighted(0.1, any::<u8>()), any::<prop::sample::Index>());
    hold(
        "arguments",
        input.prop_map(|(words, byte, index)| {
            let mut data: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
            if let Some(byte) = byte {
                let position = index.index(data.len());
                data[position] = byte;
            }
            data
        }),
    );
}

/// Any bytes at all, for every parser.
#[test]
fn noise() {
    for (target, _) in parsers::TARGETS {
        hold(target, vec(any::<u8>(), 0..200));
    }
}

/// What the fuzzers kept: every path that they found, and every input that once broke a property.
#[test]
fn the_kept_corpus_holds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz");
    let names = |folder: &str| {
        let entries = fs::read_dir(fuzz.join(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let known: Vec<&str> = parsers::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("corpus"), known, "each parser has a corpus");

    let (mut files, mut bytes) = (0, 0);
    for (target, property) in parsers::TARGETS {
        let mut kept = 0;
        for entry in fs::read_dir(fuzz.join("corpus").join(target)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            // The name of the input that breaks a property is printed above the panic.
            println!("{}", path.display());
            property(&input);
            kept += 1;
            bytes += input.len();
        }
        assert!(kept > 0, "the corpus of {target} is empty");
        files += kept;
    }
    assert!(files <= CORPUS_FILES && bytes <= CORPUS_BYTES, "{files} files of {bytes} bytes in all");
}
