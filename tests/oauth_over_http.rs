//! Protocol messages against real sockets on loopback: what an exchange that failed means for the grant, and
//! where metadata is looked for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a surprise")]

use onegrant::error::Kind;
use onegrant::grant::{Credential, Document, Secret};
use onegrant::http::Client;
use onegrant::oauth::token::TokenEndpoint;
use onegrant::oauth::{device, discovery, revocation, userinfo};
use onegrant::protocol::revocation::Revocation;
use onegrant::protocol::token::Answer;
use onegrant::protocol::userinfo::Userinfo;
use onegrant::system::Environment;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers one request after the other with these bodies (an empty answer hangs up), and returns the request
/// lines. `BASE` in an answer becomes the server's own address.
fn serve(answers: &[(u16, &str)]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<(u16, String)> =
        answers.iter().map(|(status, body)| (*status, body.replace("BASE", &base))).collect();
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
                    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                    stream.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
                }
                lines.swap_remove(0)
            })
            .collect()
    });
    (base, server)
}

fn client() -> Client {
    Client::new(&Environment::default())
}

/// A document whose every endpoint is at `base`.
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
    TokenEndpoint::new(&client()).refresh(&document(url), &credential, PATIENCE, 0)
}

#[test]
fn a_refresh_means_what_its_exchange_proves() {
    let (base, server) = serve(&[(200, r#"{"access_token":"new"}"#), (0, ""), (503, "")]);
    assert!(matches!(refresh(&base), Answer::Refreshed(_)));
    assert!(matches!(refresh(&base), Answer::Unknown { .. }), "sent, and no answer");
    assert!(matches!(refresh(&base), Answer::Temporary { .. }));
    assert_eq!(server.join().unwrap(), ["POST /token HTTP/1.1"; 3]);
    assert!(matches!(refresh(&base), Answer::Temporary { .. }), "not sent: nobody listens any more");
    let refused = refresh("http://as.invalid");
    let Answer::Impossible(failure) = refused else { panic!("{refused:?}") };
    assert_eq!(failure.kind, Kind::Usage);
}

#[test]
fn metadata_is_found_in_the_last_place_too() {
    let metadata = r#"{"issuer":"BASE/tenant","token_endpoint":"BASE/token"}"#;
    let (base, server) = serve(&[(404, "no"), (200, "<html>"), (200, metadata)]);
    let found = discovery::discover(&client(), &format!("{base}/tenant"), PATIENCE).unwrap();
    assert_eq!(found.token_endpoint, format!("{base}/token"));
    assert_eq!(
        server.join().unwrap(),
        [
            "GET /.well-known/oauth-authorization-server/tenant HTTP/1.1",
            "GET /tenant/.well-known/openid-configuration HTTP/1.1",
            "GET /.well-known/openid-configuration/tenant HTTP/1.1",
        ]
    );
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
        let found = discovery::discover(&client(), &base, PATIENCE).unwrap();
        assert_eq!(found.revocation_endpoint, Some(format!("{base}/revoke")), "{second:?}");
        assert_eq!(found.userinfo_endpoint, userinfo.map(|path| format!("{base}{path}")), "{second:?}");
        assert_eq!(server.join().unwrap().len(), 2);
    }
    let both = r#"{"issuer":"BASE","token_endpoint":"BASE/token","revocation_endpoint":"BASE/r","userinfo_endpoint":"BASE/me"}"#;
    let (base, server) = serve(&[(200, both)]);
    discovery::discover(&client(), &base, PATIENCE).unwrap();
    assert_eq!(server.join().unwrap().len(), 1, "nothing is missing");
}

#[test]
fn discovery_fails_by_what_mends_it() {
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
        let failure = discovery::discover(&client(), &base, PATIENCE).unwrap_err();
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
        device::authorize(&client(), &document, &verifier, PATIENCE, 0).unwrap_err().kind,
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
