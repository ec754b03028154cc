//! Protocol messages against real sockets on loopback: what an exchange that failed means for the grant, and
//! where metadata is looked for.

use onegrant::environment::NetworkSettings;
use onegrant::error::{Failure, Kind};
use onegrant::grant::{Credential, Document, Secret};
use onegrant::http::HttpClient;
use onegrant::oauth::token::HttpTokenEndpoint;
use onegrant::oauth::{device, discovery, revocation, userinfo};
use onegrant::protocol::metadata::Metadata;
use onegrant::protocol::revocation::Revocation;
use onegrant::protocol::token::Answer;
use onegrant::protocol::userinfo::Userinfo;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers one request after the other with these bodies (an empty answer hangs up), and returns the request
/// lines. `BASE` in an answer becomes the server's own address, `HOST` its host and port; what begins with `REDIRECT` is a
/// location and no body.
fn serve(answers: &[(u16, &str)]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<(u16, String)> =
        answers.iter().map(|(status, body)| (*status, addressed(body, &base))).collect();
    let server = thread::spawn(move || {
        answers
            .into_iter()
            .map(|(status, body)| {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let mut lines = Vec::new();
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).unwrap();
                    let line = line.trim_end().to_owned();
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                        length = value.parse().unwrap();
                    }
                    if line.is_empty() {
                        break;
                    }
                    lines.push(line);
                }
                stream.read_exact(&mut vec![0; length]).unwrap();
                if status > 0 {
                    let (location, body) = match body.strip_prefix("REDIRECT ") {
                        Some(location) => (format!("Location: {location}\r\n"), String::new()),
                        None => (String::new(), body),
                    };
                    let head =
                        format!("HTTP/1.1 {status} X\r\n{location}Content-Length: {}\r\n\r\n", body.len());
                    stream.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
                }
                lines.swap_remove(0)
            })
            .collect()
    });
    (base, server)
}

fn addressed(text: &str, base: &str) -> String {
    text.replace("BASE", base).replace("HOST", base.trim_start_matches("http://"))
}

fn client() -> HttpClient {
    HttpClient::new(&NetworkSettings::default())
}

/// A document with every endpoint at `base`.
fn document(base: &str) -> Document {
    let document = format!(
        r#"{{"version":1,"token_endpoint":"{base}/token","revocation_endpoint":"{base}/revoke",
        "userinfo_endpoint":"{base}/me","device_authorization_endpoint":"{base}/device","client_id":"c",
        "session":{{"access_token":"at","refresh_token":"rt","obtained_at":1}}}}"#
    );
    Document::parse(document.as_bytes()).unwrap()
}

fn refresh(url: &str) -> Answer {
    let credential = Credential::RefreshToken(Secret::new("rt"));
    HttpTokenEndpoint::new(&client()).refresh(&document(url), &credential, PATIENCE, 0)
}

/// The metadata that a discovery finds.
fn discover(issuer: &str, document: Option<&str>, timeout: Duration) -> Result<Metadata, Failure> {
    discovery::discover(&client(), issuer, document, timeout).map(|(metadata, _)| metadata)
}

#[test]
fn a_refresh_means_what_its_exchange_proves() {
    let (base, server) = serve(&[(200, r#"{"access_token":"new"}"#), (0, ""), (503, "")]);
    assert!(matches!(refresh(&base), Answer::Refreshed(_)));
    assert!(matches!(refresh(&base), Answer::Unknown { .. }), "sent, and no answer");
    assert!(matches!(refresh(&base), Answer::Temporary { .. }));
    assert_eq!(server.join().unwrap(), ["POST /token HTTP/1.1"; 3]);
    assert!(matches!(refresh(&base), Answer::Temporary { .. }), "not sent: no server listens any more");
    let refused = refresh("http://as.invalid");
    let Answer::Impossible(failure) = refused else { panic!("{refused:?}") };
    assert_eq!(failure.kind, Kind::Usage);
}

#[test]
fn metadata_is_found_in_the_last_place_too() {
    let metadata = r#"{"issuer":"BASE/tenant","token_endpoint":"BASE/token"}"#;
    let (base, server) = serve(&[(404, "no"), (200, "<html>"), (200, metadata)]);
    let found = discover(&format!("{base}/tenant"), None, PATIENCE).unwrap();
    assert_eq!(found.endpoints.token, format!("{base}/token"));
    assert_eq!(
        server.join().unwrap(),
        [
            "GET /.well-known/oauth-authorization-server/tenant HTTP/1.1",
            "GET /tenant/.well-known/openid-configuration HTTP/1.1",
            "GET /.well-known/openid-configuration/tenant HTTP/1.1",
        ]
    );
}

/// A status and a location.
type Redirect<'a> = (u16, &'a str);

/// A server that answers with these redirects (status, location), and at last with metadata. It gives the request lines.
fn redirecting(redirects: &[Redirect]) -> (String, JoinHandle<Vec<String>>) {
    let metadata = r#"{"issuer":"BASE","token_endpoint":"BASE/token","userinfo_endpoint":"BASE/me","revocation_endpoint":"BASE/r"}"#;
    let redirects: Vec<(u16, String)> =
        redirects.iter().map(|(status, location)| (*status, format!("REDIRECT {location}"))).collect();
    let answers: Vec<(u16, &str)> = redirects
        .iter()
        .map(|(status, location)| (*status, location.as_str()))
        .chain([(200, metadata)])
        .collect();
    serve(&answers)
}

#[test]
fn metadata_is_followed_within_its_origin() {
    let place = "/.well-known/oauth-authorization-server";
    let cases: [(&[Redirect], &[&str]); 4] = [
        (&[(301, "BASE/index.php/x")], &["/index.php/x"]),
        (&[(302, "/a"), (303, "b"), (307, "?c")], &["/a", "/b", "/b?c"]),
        (&[(308, "../oauth/x")], &["/oauth/x"]),
        (&[(308, "//HOST/x")], &["/x"]),
    ];
    for (redirects, paths) in cases {
        let (base, server) = redirecting(redirects);
        let found = discover(&base, None, PATIENCE).unwrap();
        assert_eq!(found.endpoints.token, format!("{base}/token"), "{redirects:?}");
        let wanted: Vec<String> =
            [place].iter().chain(paths).map(|path| format!("GET {path} HTTP/1.1")).collect();
        assert_eq!(server.join().unwrap(), wanted, "{redirects:?}");
    }
}

/// Some servers have it only where no standard puts it. What it says is checked by its issuer as anywhere.
#[test]
fn metadata_at_the_address_that_was_given_is_asked_for_first() {
    let metadata = r#"{"issuer":"BASE/a","token_endpoint":"BASE/a/token","userinfo_endpoint":"BASE/me","revocation_endpoint":"BASE/r"}"#;
    let place = "/a/.well-known/oauth-authorization-server";
    let (base, server) = serve(&[(200, metadata)]);
    let given = format!("{base}{place}");
    let found = discover(&format!("{base}/a"), Some(&given), PATIENCE).unwrap();
    assert_eq!(found.endpoints.token, format!("{base}/a/token"));
    assert_eq!(server.join().unwrap(), [format!("GET {place} HTTP/1.1")]);
}

/// Its own metadata decides whether it is the one that was meant.
#[test]
fn metadata_of_another_issuer_gives_the_login_there_as_a_hint() {
    for (issuer, hint) in [
        ("https://other.example/a", Some("onegrant login https://other.example/a")),
        ("http://other.example", None),
    ] {
        let body = format!(r#"{{"issuer":"{issuer}","token_endpoint":"https://other.example/t"}}"#);
        let (base, server) = serve(&[(200, &body), (404, "")]);
        let failure = discover(&base, None, PATIENCE).unwrap_err();
        assert!(failure.message.ends_with(&format!("it is of the issuer {issuer}")), "{failure}");
        assert_eq!((failure.kind, failure.hint.as_deref()), (Kind::Usage, hint));
        server.join().unwrap();
    }
}

#[test]
fn metadata_that_is_elsewhere_is_named_and_not_followed() {
    let openid = "/.well-known/openid-configuration";
    let named = "onegrant login --token-endpoint URL --device-authorization-endpoint URL --client-id ID   # names the endpoints";
    let at_target = |target: &str| format!("{named} that {target} lists");
    let endpoints = format!("{named} instead");
    let (https, localhost) = (at_target("https://127.0.0.1:"), at_target("http://localhost:1/x"));
    // The port of the first one is not known here.
    let https = https.trim_end_matches(" lists");
    let other = format!("https://other.example/tenant{openid}?x=1");
    let loops = [(302, "/.well-known/oauth-authorization-server"); 4];
    let no_more: [Redirect; 4] = [(301, "/1"), (301, "/2"), (301, "/3"), (301, "/4")];
    // (redirects of the first place, what the message names, the hint)
    let cases: [(&[Redirect], &str, &str); 7] = [
        (
            &[(301, &other)],
            "status 301, a redirect to https://other.example/tenant/.well-known/openid-configuration, which is not followed",
            "onegrant login https://other.example/tenant",
        ),
        (&[(302, "https://HOST/x")], "a redirect to https://127.0.0.1:", https),
        (&[(307, "http://u:pw@localhost:1/x")], "a redirect to http://localhost:1/x", &localhost),
        (&[(303, "ftp://other.example/x")], "status 303, a redirect to nowhere", &endpoints),
        (&[(308, "")], "status 308, a redirect to nowhere", &endpoints),
        (&loops, "more than 3 redirects, the last one from http://127.0.0.1:", &endpoints),
        (&no_more, "more than 3 redirects, the last one from http://127.0.0.1:", &endpoints),
    ];
    for (redirects, message, hint) in cases {
        let redirects: Vec<(u16, String)> =
            redirects.iter().map(|(status, location)| (*status, format!("REDIRECT {location}"))).collect();
        let answers = redirects.iter().map(|(status, location)| (*status, location.as_str()));
        let answers: Vec<(u16, &str)> = answers.chain([(404, "")]).collect();
        let (base, server) = serve(&answers);
        let failure = discover(&base, None, PATIENCE).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage, "{redirects:?}");
        assert!(failure.message.contains(message), "{redirects:?}: {failure}");
        assert!(
            failure.hint.as_deref().is_some_and(|found| found.starts_with(hint)),
            "{redirects:?}: {failure:?}"
        );
        assert_eq!(server.join().unwrap().len(), answers.len(), "{redirects:?}");
    }
}

#[test]
fn an_endpoint_that_has_moved_is_named_with_its_target_and_gets_no_second_request() {
    let (base, server) = serve(&[
        (301, "REDIRECT /new"),
        (302, "REDIRECT /new"),
        (308, "REDIRECT /new"),
        (301, "REDIRECT /new"),
    ]);
    let document = document(&base);
    let refusal = device::authorize(&client(), &document, &Secret::new("verifier"), PATIENCE, 0);
    let failure = refusal.unwrap_err().failure;
    let moved = |status: u16| {
        format!("the server answered with status {status}: the endpoint has moved to {base}/new")
    };
    assert_eq!(failure.kind, Kind::Usage);
    assert!(
        failure.message.starts_with(&format!("cannot start the device flow: {}", moved(301))),
        "{failure}"
    );
    let hint = failure.hint.unwrap();
    assert!(hint.starts_with("onegrant login "), "{hint}");
    assert!(hint.ends_with(&format!(" --device-authorization-endpoint {base}/new")), "{hint}");

    let Some(Revocation::Failed(why)) = revocation::revoke(&client(), &document, PATIENCE, 0) else {
        panic!()
    };
    let wanted =
        format!("the server answered with status 302, a redirect to {base}/new, which is not followed");
    assert_eq!(why.message, wanted);

    let asked = userinfo::userinfo(&client(), &document, &Secret::new("at"), PATIENCE).unwrap();
    let failure = asked.unwrap_err();
    assert!(failure.message.contains(&moved(308)), "{failure}");
    assert!(failure.hint.unwrap().ends_with(&format!(" --userinfo-endpoint {base}/new")));

    let Answer::Failed(failure) = refresh(&base) else { panic!() };
    assert!(failure.message.starts_with(&moved(301)), "{failure}");
    let lines = server.join().unwrap();
    let wanted =
        ["POST /device", "POST /revoke", "GET /me", "POST /token"].map(|line| format!("{line} HTTP/1.1"));
    assert_eq!(lines, wanted);
}

/// RFC 8414 knows no userinfo endpoint, and OpenID Connect Discovery no revocation endpoint: some servers keep to that.
#[test]
fn what_one_metadata_document_lacks_is_taken_from_the_other_of_the_same_server() {
    let oauth = r#"{"issuer":"BASE","token_endpoint":"BASE/token","revocation_endpoint":"BASE/revoke"}"#;
    let openid = r#"{"issuer":"BASE","token_endpoint":"BASE/token","userinfo_endpoint":"BASE/me"}"#;
    let elsewhere = r#"{"issuer":"BASE","token_endpoint":"BASE/other","userinfo_endpoint":"BASE/me"}"#;
    let stranger = r#"{"issuer":"https://other.example","token_endpoint":"https://other.example/token"}"#;
    for (second, userinfo) in [
        ((200, openid), Some("/me")),
        ((200, elsewhere), None),
        ((200, stranger), None),
        ((404, ""), None),
        ((0, ""), None),
    ] {
        let (base, server) = serve(&[(200, oauth), second]);
        let found = discover(&base, None, PATIENCE).unwrap();
        assert_eq!(found.endpoints.revocation, Some(format!("{base}/revoke")), "{second:?}");
        assert_eq!(found.endpoints.userinfo, userinfo.map(|path| format!("{base}{path}")), "{second:?}");
        assert_eq!(server.join().unwrap().len(), 2);
    }
    let both = r#"{"issuer":"BASE","token_endpoint":"BASE/token","revocation_endpoint":"BASE/r","userinfo_endpoint":"BASE/me"}"#;
    let (base, server) = serve(&[(200, both)]);
    discover(&base, None, PATIENCE).unwrap();
    assert_eq!(server.join().unwrap().len(), 1, "nothing is missing");
}

#[test]
fn each_failure_of_discovery_has_its_kind() {
    let other = r#"{"issuer":"https://other.example","token_endpoint":"https://other.example/token"}"#;
    // (answers, kind, what the message holds)
    let cases = [
        ([(404, ""), (404, "")], Kind::Usage, "no metadata at http://127.0.0.1:"),
        ([(404, ""), (503, "")], Kind::Temporary, "(status 503)"),
        ([(200, other), (404, "")], Kind::Usage, "https://other.example"),
        ([(404, ""), (0, "")], Kind::Temporary, "cannot discover the endpoints of http://127.0.0.1:"),
    ];
    for (answers, kind, text) in cases {
        let (base, server) = serve(&answers);
        let failure = discover(&base, None, PATIENCE).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(text) && failure.message.contains(&base), "{failure}");
        server.join().unwrap();
    }
}

#[test]
fn a_device_flow_begins() {
    let answer = r#"{"device_code":"dc","user_code":"AB","verification_uri":"BASE/d","expires_in":60}"#;
    let (base, _server) = serve(&[(200, answer)]);
    let verifier = Secret::new("verifier");
    let begun = device::authorize(&client(), &document(&base), &verifier, PATIENCE, 0).unwrap();
    assert_eq!((begun.user_code.as_str(), begun.verification_uri), ("AB", format!("{base}/d")));
    let mut document = document(&base);
    document.device_authorization_endpoint = None;
    assert_eq!(
        device::authorize(&client(), &document, &verifier, PATIENCE, 0).unwrap_err().failure.kind,
        Kind::Usage
    );
}

#[test]
fn a_revocation_that_fails_says_so() {
    let (base, server) = serve(&[(200, ""), (503, "")]);
    let mut document = document(&base);
    assert_eq!(revocation::revoke(&client(), &document, PATIENCE, 0), Some(Revocation::Revoked));
    assert!(matches!(revocation::revoke(&client(), &document, PATIENCE, 0), Some(Revocation::Failed(_))));
    server.join().unwrap();
    assert!(matches!(revocation::revoke(&client(), &document, PATIENCE, 0), Some(Revocation::Failed(_))));
    document.revocation_endpoint = None;
    assert_eq!(revocation::revoke(&client(), &document, PATIENCE, 0), None);
}

#[test]
fn userinfo_tells_a_rejected_token_from_a_failure() {
    let (base, server) = serve(&[(200, r#"{"sub":"me"}"#), (401, "")]);
    let document = document(&base);
    let ask = || userinfo::userinfo(&client(), &document, &Secret::new("at"), PATIENCE).unwrap();
    assert!(matches!(ask(), Ok(Userinfo::Claims(_))));
    assert_eq!(ask(), Ok(Userinfo::Rejected));
    server.join().unwrap();
    assert_eq!(ask().unwrap_err().kind, Kind::Temporary);
}
