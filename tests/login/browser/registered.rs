//! A client that registered itself, from its login to its logout.

use super::fake_browser::*;
use crate::support::authorization_server::{AuthMethod, Registration};
use crate::support::*;
use serde_json::json;

/// Runs a login, with a person who agrees in the browser.
#[track_caller]
fn log_in(home: &Home, arguments: &[&str]) {
    let (process, address) = start(&mut home.command(arguments));
    assert_eq!(get(&redirect(&address)).status, 200);
    let ran = process.finish();
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// RFC 7591 and 7592. Many servers forget a client after some months.
#[test]
fn a_client_that_the_server_forgot_is_registered_again_by_the_hint_and_removed_by_the_logout() {
    for method in [AuthMethod::None, AuthMethod::ClientSecretPost, AuthMethod::ClientSecretBasic] {
        let server = server(|settings| {
            let registration = Registration { method, is_managed: true, ..Registration::default() };
            settings.registration = Some(registration);
        });
        let home = Home::new();
        log_in(&home, &["login", &server.issuer(), "--browser"]);
        let forgotten = server.clients().pop().unwrap();
        assert_eq!(home.document()["client_id"], json!(forgotten.client_id));

        server.forget_clients();
        let mut document = home.document();
        document["session"]["expires_at"] = json!(now() + EXPIRED);
        home.write(&document);
        server.reset_counts();
        let ran = home.run(&["token"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
        assert!(ran.stderr.contains("the server refused: invalid_client"), "{ran:?}");
        assert_eq!(server.counts().token_requests, 1, "{method:?}");
        assert_eq!(home.document(), document, "the session is kept");

        let hint = ran.stderr.split_once("hint: onegrant ").unwrap().1.trim_end();
        // This machine has no browser that the login would choose by itself.
        log_in(&home, &hint.split(' ').chain(["--browser"]).collect::<Vec<_>>());
        let client = server.clients().pop().unwrap();
        assert_ne!(client.client_id, forgotten.client_id);
        assert_eq!(home.document()["client_id"], json!(client.client_id));
        assert_eq!(home.run(&["refresh"]).code, 0);
        let said = home.run(&["status", "--json"]);
        let secrets = client.client_secret.iter().chain([&client.registration_access_token]);
        secrets.for_each(|secret| assert!(!said.stdout.contains(secret), "{said:?}"));

        let before = server.requests().len();
        assert_eq!(home.run(&["logout"]).code, 0);
        assert!(server.clients().is_empty(), "{method:?}");
        let requests = server.requests();
        let endpoints: Vec<_> = requests[before..].iter().map(|request| request.endpoint).collect();
        assert_eq!(endpoints, [Some(Endpoint::Revocation), Some(Endpoint::ClientConfiguration)]);
        assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0), "{method:?}");
    }
}
