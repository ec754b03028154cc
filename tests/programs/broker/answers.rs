//! What a broker answers, and what it refuses.

use super::*;
use serde_json::json;
use std::io::Write;

#[test]
fn a_token_is_what_token_prints_as_json() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let printed = home.run(&["token", "--format", "json"]).stdout;
    for options in [UNIX, TCP] {
        let served = Served::start(&home, &options);
        let answer = served.client.get("/v1/token");
        assert_eq!((answer.status, answer.body.as_str()), (200, printed.as_str()));
        let fields = ["content-type", "cache-control", "connection", "onegrant-profile"];
        let wanted = ["application/json", "no-store", "close", "default"];
        assert_eq!(fields.map(|name| answer.field(name).unwrap()), wanted);
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
        assert_eq!(served.end(&home).code, 0);
    }
    assert_eq!(server.counts(), Default::default(), "a fresh token costs no request");
}

#[test]
fn an_id_token_is_answered_if_the_grant_has_one() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    let answer = served.client.get("/v1/token?id_token=1");
    assert_eq!((answer.refusal(), server.counts().refreshes), ((409, 3), 0));
    let mut document = home.document();
    let id_token = jwt(&json!({ "exp": now() + 1000, "iat": now(), "aud": "me" }));
    document["session"]["id_token"] = id_token.as_str().into();
    home.write(&document);
    let answer = served.client.get("/v1/token?id_token=1&min_ttl=60");
    assert_eq!(answer.json()["id_token"], id_token);
    assert_eq!(
        (answer.json()["access_token"].as_str(), answer.json()["expires_at"].as_i64().is_some()),
        (None, true)
    );
    served.end(&home);
}

#[test]
fn a_profile_has_what_is_needed_inside_and_no_secret() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant_for(&server, LIFETIME, &["git.example", "127.0.0.1:3000"]);
    let mut document = home.document();
    document["git_username"] = "x-token".into();
    document["resource"] = json!(["https://api.example/"]);
    document["client_secret"] = "client-secret".into();
    document["session"]["scope"] = "read write".into();
    home.write(&document);
    let served = Served::start(&home, &UNIX);
    let answer = served.client.get("/v1/profile");
    let wanted = json!({
        "profile": "default",
        "issuer": server.issuer(),
        "scope": "read write",
        "resource": ["https://api.example/"],
        "git_hosts": ["git.example", "127.0.0.1:3000"],
        "git_username": "x-token",
        "level": "locked",
        "state": "valid",
        "expires_at": document["session"]["expires_at"],
    });
    assert_eq!((answer.status, answer.json()), (200, wanted));
    for secret in [issued.access_token.as_str(), &issued.refresh_token, "client-secret"] {
        assert!(!answer.body.contains(secret), "{answer:?}");
    }
    served.end(&home);
}

/// Each with the status and the code; none costs a request.
#[test]
fn each_request_that_is_refused_has_its_status_and_code() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &TCP);
    let client = served.client.clone();
    let (port, key) = (client.port(), format!("Authorization: Bearer {}\r\n", client.key));
    let (fields, host) = (client.fields(), format!("Host: 127.0.0.1:{port}\r\n"));
    let with = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\n{fields}\r\n");
    let rejected = |more: &str| with("POST /v1/rejected", &format!("{fields}{more}"));
    let cases = [
        ("no key", with("GET /v1/token", &host), 401),
        (
            "another key",
            with("GET /v1/token", &format!("{host}Authorization: Bearer {}\r\n", "0".repeat(32))),
            401,
        ),
        (
            "a part of the key",
            with("GET /v1/token", &format!("{host}Authorization: Bearer {}\r\n", &client.key[..31])),
            401,
        ),
        ("the key alone", with("GET /v1/token", &format!("{host}Authorization: {}\r\n", client.key)), 401),
        ("the key in the query", with(&format!("GET /v1/token?key={}", client.key), &host), 401),
        ("an unknown path without a key", with("GET /v1/secrets", &host), 401),
        ("an unknown path", with("GET /v1/refresh_token", &fields), 404),
        ("the root", with("GET /", &fields), 404),
        ("a path below", with("GET /v1/token/", &fields), 404),
        ("another method", with("POST /v1/token", &fields), 405),
        ("another method for a rejection", with("GET /v1/rejected", &fields), 405),
        ("another method for the profile", with("DELETE /v1/profile", &fields), 405),
        ("OPTIONS", with("OPTIONS /v1/token", &fields), 405),
        ("no number", with("GET /v1/token?min_ttl=soon", &fields), 400),
        ("below zero", with("GET /v1/token?min_ttl=-1", &fields), 400),
        ("no ID token or an access token", with("GET /v1/token?id_token=yes", &fields), 400),
        ("no body", rejected(""), 411),
        ("an empty body", rejected("Content-Length: 0\r\n"), 400),
        ("a length that is none", rejected("Content-Length: -5\r\n"), 400),
        ("two lengths", rejected("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        ("chunks", rejected("Transfer-Encoding: chunked\r\n"), 411),
        ("chunks and a length", rejected("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), 411),
        ("a question first", rejected("Expect: 100-continue\r\nContent-Length: 1\r\n"), 417),
        ("a token of two lines", rejected("Content-Length: 3\r\n") + "a\nb", 400),
        ("a token that is no text", rejected("Content-Length: 2\r\n") + "ä", 400),
        ("a long token", rejected("Content-Length: 200000\r\n") + &"x".repeat(200_000), 413),
        ("a long head", with("GET /v1/token", &format!("{fields}X: {}\r\n", "x".repeat(9000))), 431),
        ("many fields", with("GET /v1/token", &format!("{fields}{}", "X: y\r\n".repeat(100))), 431),
        ("no HTTP", "hello\r\n\r\n".to_owned(), 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        ("a web page", with("GET /v1/token", &format!("{fields}Origin: https://evil.example\r\n")), 403),
        ("an unknown web page", with("GET /v1/token", &format!("{fields}Origin: null\r\n")), 403),
        (
            "a page of the same origin",
            with("GET /v1/token", &format!("{fields}Sec-Fetch-Site: same-origin\r\n")),
            403,
        ),
        ("another site", with("GET /v1/token", &format!("{host}Sec-Fetch-Site: cross-site\r\n")), 403),
        ("a proxy", with("GET /v1/token", &format!("{fields}X-Forwarded-For: 10.0.0.1\r\n")), 403),
        ("no host", with("GET /v1/token", &key), 403),
        ("two hosts", with("GET /v1/token", &format!("{fields}{host}")), 403),
        ("a rebound name", with("GET /v1/token", &format!("{key}Host: evil.example:{port}\r\n")), 403),
        ("no port", with("GET /v1/token", &format!("{key}Host: 127.0.0.1\r\n")), 403),
        ("another port", with("GET /v1/token", &format!("{key}Host: 127.0.0.1:80\r\n")), 403),
        (
            "a name that begins so",
            with("GET /v1/token", &format!("{key}Host: 127.0.0.1.evil.example:{port}\r\n")),
            403,
        ),
    ];
    for (case, request, status) in cases {
        let answer = client.send(&request);
        assert_eq!(answer.refusal(), (status, 2), "{case}: {answer:?}");
        assert!(!answer.body.contains(&client.key) && !answer.body.contains(&issued.access_token), "{case}");
    }
    for host in ["127.0.0.1", "localhost", "LocalHost", "[::1]"] {
        let request = with("GET /v1/token", &format!("{key}Host: {host}:{port}\r\nSec-Fetch-Site: none\r\n"));
        assert_eq!(client.send(&request).token(), issued.access_token, "{host}");
    }
    served.end(&home);
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn requests_are_read_as_http_1_says() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    let (client, key) = (&served.client, &served.client.key);
    for request in [
        format!("GET /v1/token HTTP/1.0\r\nAuthorization: Bearer {key}\r\n\r\n"),
        format!("GET /v1/token HTTP/1.1\r\nHOST: anything\r\nauthorization: bearer {key}\r\n\r\n"),
        format!("GET /v1/token?min_ttl=10&later=1 HTTP/1.1\nAUTHORIZATION: Bearer  {key}\n\n"),
        // One request for each connection: what follows is not answered.
        format!("GET /v1/token HTTP/1.1\r\nAuthorization: Bearer {key}\r\n\r\n").repeat(3),
        format!("GET /v1/token HTTP/1.1\r\nAuthorization: Bearer {key}\r\n\r\n{}", "x".repeat(1 << 20)),
    ] {
        assert_eq!(client.send(&request).token(), issued.access_token, "{request:.200}");
    }
    // A client may say that it sends no more.
    let mut connection = client.connect();
    connection.write_all(format!("GET /v1/token HTTP/1.1\r\n{}\r\n", client.fields()).as_bytes()).unwrap();
    connection.end();
    assert_eq!(connection.answer().unwrap().token(), issued.access_token);
    served.end(&home);
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn a_failure_is_that_of_the_command_on_this_side() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    let served = Served::start(&home, &UNIX);
    let assert_as_token = |status: u16, code: i32, name: &str| {
        let (answer, ran) = (served.client.get("/v1/token"), home.run(&["token"]));
        assert_eq!((answer.status, ran.code), (status, code), "{name}: {answer:?}");
        let (refusal, hint) =
            (answer.json(), ran.stderr.split_once("hint: ").map(|(_, hint)| hint.trim_end()));
        assert_eq!(refusal["code"], code, "{name}");
        let message = refusal["message"].as_str().unwrap();
        assert!(
            ran.stderr.starts_with(&format!("onegrant: {message}\n")),
            "{name}: {message}: {}",
            ran.stderr
        );
        assert_eq!(refusal["hint"].as_str(), hint, "{name}");
    };
    home.write_bytes(b"{ \"version\": 1, nonsense");
    assert_as_token(500, 5, "no document");
    document["session"]["expires_at"] = (now() - 10).into();
    document["token_endpoint"] = "http://127.0.0.1:1/token".into();
    home.write(&document);
    assert_as_token(503, 4, "no server");
    document["session"] = json!(null);
    home.write(&document);
    assert_as_token(409, 3, "no session");
    assert_eq!(served.client.get("/v1/profile").json()["state"], "login_required");
    std::fs::remove_file(home.document_path()).unwrap();
    assert_as_token(409, 3, "no grant");
    assert_eq!(served.client.get("/v1/profile").refusal(), (409, 3));
    served.end(&home);
}

/// Google's libraries know no key, so the user of each process is looked up.
#[test]
fn googles_libraries_get_a_token_without_a_key() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let script = "env | grep ^GCE_ | sort; echo $ONEGRANT_STORE";
    let mut command = home.command(&["exec", "--serve", "tcp", "--as", "gce", "--", "/bin/sh", "-c", script]);
    let ran = run(command.env("PATH", "/usr/bin:/bin"));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let place = lines[3].strip_prefix("broker:http://").unwrap();
    let wanted = ["HOST", "IP", "ROOT"].map(|name| format!("GCE_METADATA_{name}={place}"));
    assert_eq!(lines[..3], wanted, "{ran:?}");

    let served = Served::start(&home, &["--serve", "tcp", "--as", "gce"]);
    let client = &served.client;
    let ask = |path: &str, fields: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n{fields}\r\n", client.port()))
    };
    let (path, flavor) =
        ("/computeMetadata/v1/instance/service-accounts/default/token", "Metadata-Flavor: Google\r\n");
    let answer = ask(path, flavor);
    assert_eq!(
        (answer.token(), answer.field("metadata-flavor")),
        (issued.access_token.clone(), Some("Google"))
    );
    let left = answer.json()["expires_in"].as_i64().unwrap();
    assert!((LIFETIME - 60..=LIFETIME).contains(&left), "{left}");
    assert_eq!(ask("/", flavor).status, 200);
    assert_eq!(ask(path, "").status, 403, "a web page cannot send the field");
    for field in ["Origin: https://evil.example", "X-Forwarded-For: 10.0.0.1"] {
        assert_eq!(ask(path, &format!("{flavor}{field}\r\n")).status, 403, "{field}");
    }
    assert_eq!(client.get("/v1/token").token(), issued.access_token, "beside its own paths");
    assert_eq!(ask("/v1/token", flavor).status, 401);
    served.end(&home);
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn a_short_token_is_refreshed_for_googles_libraries_with_one_request() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, 100);
    let served = Served::start(&home, &["--serve", "tcp", "--as", "gce"]);
    let client = &served.client;
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nMetadata-Flavor: Google\r\n\r\n",
        client.port()
    );
    assert_eq!(client.get("/v1/token").token(), issued.access_token);
    let tokens = [client.send(&request).token(), client.send(&request).token()];
    assert_eq!(tokens, [home.tokens().access_token, home.tokens().access_token]);
    assert_ne!(tokens[0], issued.access_token);
    served.end_after(1, &server, &home);
}

/// Longer than the buffer of the socket, for a client that begins to read late.
#[test]
fn a_long_token_is_received_as_a_whole() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    let token = "t".repeat(1 << 20);
    document["session"]["access_token"] = token.as_str().into();
    home.write(&document);
    for options in [UNIX, TCP] {
        let served = Served::start(&home, &options);
        let mut connection = served.client.connect();
        let request = format!("GET /v1/token HTTP/1.1\r\n{}\r\n", served.client.fields());
        connection.write_all(request.as_bytes()).unwrap();
        // Others are answered meanwhile.
        assert_eq!(served.client.get("/v1/profile").status, 200);
        assert!(connection.answer().unwrap().token() == token);
        served.end(&home);
    }
}
