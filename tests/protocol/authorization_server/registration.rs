//! Clients that register themselves: what is refused, what they may do, and how they are forgotten.

use super::client::{Answer, form, get, post, post_json, send};
use super::logins::{CODE_VERIFIER, DEVICE_CODE, REDIRECT_URI, authorize, value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use servers::authorization_server::{
    AuthMethod, AuthorizationServer, Endpoint, Fault, Registration, Response, Settings,
};
use std::time::Duration;

fn with_registration(registration: Registration) -> AuthorizationServer {
    AuthorizationServer::start(Settings { registration: Some(registration), ..Settings::default() })
}

/// What a native program registers with.
fn wanted() -> Value {
    json!({
        "client_name": "onegrant",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    })
}

fn register(server: &AuthorizationServer, document: &Value) -> Answer {
    post_json(server, "/register", "", document)
}

/// The token answer to a code that this client asks for and exchanges, with further header lines and parameters.
fn login(
    server: &AuthorizationServer,
    client_id: &str,
    headers: &str,
    parameters: &[(&str, &str)],
) -> Answer {
    let (status, redirect) = authorize(server, &[("client_id", client_id)]);
    assert_eq!((status, value(&redirect, "error")), (302, ""));
    let exchange = [
        ("grant_type", "authorization_code"),
        ("code", value(&redirect, "code")),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", CODE_VERIFIER),
    ];
    send(server, &form(Endpoint::Token, headers, &[&exchange, parameters].concat()))
}

// RFC 7591 section 3.2.1.
#[test]
fn a_client_registers_itself_and_logs_in_with_its_redirect_uri() {
    let server = with_registration(Registration::default());
    let metadata = get(&server, "/.well-known/oauth-authorization-server", "");
    assert_eq!(metadata.member("registration_endpoint"), server.url(Endpoint::Registration));
    let answer = register(&server, &wanted());
    assert_eq!((answer.status, answer.header("cache-control")), (201, Some("no-store")));
    let id = answer.member("client_id");
    assert_eq!(answer.member("token_endpoint_auth_method"), "none");
    assert_eq!(answer.json()["redirect_uris"], json!([REDIRECT_URI]));
    for absent in ["client_secret", "client_secret_expires_at", "registration_client_uri"] {
        assert!(answer.json().get(absent).is_none(), "{absent}");
    }
    let clients = server.clients();
    assert_eq!((clients.len(), &clients[0].client_id, &clients[0].request), (1, &id, &wanted()));
    assert_eq!(server.requests_to(Endpoint::Registration)[0].json, Some(wanted()));
    assert_eq!(login(&server, &id, "", &[("client_id", &id)]).status, 200);
    assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0));
    assert_eq!(register(&server, &wanted()).status, 201);
    assert_ne!(server.clients()[1].client_id, id, "each registration is another client");
}

#[test]
fn the_redirect_uri_of_a_registered_client_is_compared_with_its_port_unless_the_settings_say_otherwise() {
    let server = with_registration(Registration::default());
    let mut document = wanted();
    document["redirect_uris"] = json!([REDIRECT_URI.replace("49152", "1")]);
    let id = register(&server, &document).member("client_id");
    assert_eq!(authorize(&server, &[("client_id", &id)]).0, 400);
    assert_eq!(server.counts().unexpected, 1);
    server.adjust(|settings| settings.registration.as_mut().unwrap().any_port = true);
    assert_eq!(authorize(&server, &[("client_id", &id)]).0, 302);
}

#[test]
fn a_registration_that_is_not_in_order_is_refused_and_leaves_no_client() {
    let server = with_registration(Registration::default());
    let with = |name: &str, value: Value| {
        let mut document = wanted();
        document[name] = value;
        document
    };
    let (metadata, redirect_uri) = ("invalid_client_metadata", "invalid_redirect_uri");
    let cases = [
        ("no object", json!([]), metadata),
        ("no application_type", with("application_type", Value::Null), metadata),
        ("a web application", with("application_type", json!("web")), metadata),
        ("an unknown grant type", with("grant_types", json!(["authorization_code", "x"])), metadata),
        ("no grant type", with("grant_types", json!([])), metadata),
        ("another response type", with("response_types", json!(["token"])), metadata),
        ("an unknown method", with("token_endpoint_auth_method", json!("x")), metadata),
        ("an unknown scope", with("scope", json!("read x")), metadata),
        ("no redirect URI", with("redirect_uris", json!([])), redirect_uri),
        ("a number as redirect URI", with("redirect_uris", json!([1])), metadata),
        ("https", with("redirect_uris", json!(["https://a.example/callback"])), redirect_uri),
        ("another host", with("redirect_uris", json!(["http://127.0.0.1.a.example/"])), redirect_uri),
        ("a user as port", with("redirect_uris", json!(["http://127.0.0.1:x@a.example/"])), redirect_uri),
    ];
    for (what, document, error) in cases {
        server.reset_counts();
        assert_eq!(register(&server, &document).error(), (400, error.to_owned()), "{what}");
        assert_eq!((server.counts().unexpected, server.counts().registrations), (1, 0), "{what}");
    }
    let as_form = form(Endpoint::Registration, "", &[("client_name", "onegrant")]);
    assert_eq!(send(&server, &as_form).error().1, metadata);
    let answer = post_json(&server, "/register", "authorization: Bearer t\r\n", &wanted());
    assert_eq!(answer.error().1, metadata, "no credential belongs to a registration");
    assert!(server.clients().is_empty());
}

#[test]
fn every_loopback_redirect_uri_can_be_registered_and_a_server_can_refuse_addresses() {
    let server = with_registration(Registration::default());
    let hosts = ["127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535", "localhost", "localhost:49152"];
    let register = |host: &str| {
        let mut document = wanted();
        document["redirect_uris"] = json!([format!("http://{host}/callback")]);
        register(&server, &document)
    };
    hosts.iter().for_each(|host| assert_eq!(register(host).status, 201, "{host}"));
    server.adjust(|settings| settings.registration.as_mut().unwrap().refuses_addresses = true);
    let statuses = hosts.map(|host| register(host).status);
    assert_eq!(statuses, [400, 400, 400, 400, 201, 201]);
    assert_eq!(register(hosts[0]).error().1, "invalid_redirect_uri");
    assert_eq!(server.counts().unexpected, 0, "that is the server's choice");
}

fn basic(id: &str, secret: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(format!("{id}:{secret}")))
}

#[test]
fn a_registered_client_authenticates_only_as_the_answer_says() {
    for method in [AuthMethod::None, AuthMethod::ClientSecretBasic, AuthMethod::ClientSecretPost] {
        let server = with_registration(Registration { method, ..Registration::default() });
        let answer = register(&server, &wanted());
        let (id, secret) = (answer.member("client_id"), answer.member("client_secret"));
        assert_eq!(secret.is_empty(), method == AuthMethod::None);
        let in_body = [("client_id", id.as_str()), ("client_secret", secret.as_str())];
        let statuses = [
            login(&server, &id, "", &in_body[..1]).status,
            login(&server, &id, &basic(&id, &secret), &[]).status,
            login(&server, &id, "", &in_body).status,
        ];
        let wanted = match method {
            // An empty parameter counts as omitted.
            AuthMethod::None => [200, 401, 200],
            AuthMethod::ClientSecretBasic => [401, 200, 401],
            AuthMethod::ClientSecretPost => [401, 401, 200],
        };
        assert_eq!(statuses, wanted, "{method:?}");
    }
}

#[test]
fn a_secret_can_expire() {
    let lives = |secret_lifetime| {
        let method = AuthMethod::ClientSecretPost;
        let server = with_registration(Registration { method, secret_lifetime, ..Registration::default() });
        let answer = register(&server, &wanted()).json();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        let (id, secret) = (text("client_id"), text("client_secret"));
        let tokens = login(&server, &id, "", &[("client_id", &id), ("client_secret", &secret)]);
        let ends = answer["client_secret_expires_at"].as_u64().unwrap();
        let left = ends.saturating_sub(answer["client_id_issued_at"].as_u64().unwrap());
        (ends == 0, left, tokens.status, server.counts().unexpected)
    };
    assert_eq!(lives(None), (true, 0, 200, 0));
    assert_eq!(lives(Some(Duration::from_secs(60))), (false, 60, 200, 0));
    assert_eq!(lives(Some(Duration::ZERO)), (false, 0, 401, 0));
}

#[test]
fn an_answer_can_say_anything() {
    let members = json!({ "client_secret": "", "token_endpoint_auth_method": null, "note": 1 });
    let server = with_registration(Registration { members, status: 200, ..Registration::default() });
    let answer = register(&server, &wanted());
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!((&answer["client_secret"], &answer["note"]), (&json!(""), &json!(1)));
    assert!(answer.get("token_endpoint_auth_method").is_none());
    server.script(Endpoint::Registration, [Fault::Status(Response::new(403).body("Forbidden"))]);
    let answer = register(&server, &wanted());
    assert_eq!((answer.status, &*answer.body), (403, "Forbidden"));
    assert_eq!(server.clients().len(), 1, "a fault that does not act registers nothing");
}

#[test]
fn a_client_may_use_the_grant_types_that_it_registered_for() {
    let server = with_registration(Registration::default());
    let mut document = wanted();
    document["grant_types"] = json!(["authorization_code"]);
    let id = register(&server, &document).member("client_id");
    assert!(login(&server, &id, "", &[("client_id", &id)]).json().get("refresh_token").is_none());
    let answer = post(&server, Endpoint::DeviceAuthorization, &[("client_id", &id)]);
    assert_eq!(answer.error(), (400, "unauthorized_client".to_owned()));

    let document = json!({ "application_type": "native", "grant_types": [DEVICE_CODE] });
    let id = register(&server, &document).member("client_id");
    assert_eq!(post(&server, Endpoint::DeviceAuthorization, &[("client_id", &id)]).status, 200);
    assert_eq!(authorize(&server, &[("client_id", &id)]).0, 400, "it has no redirect URI");

    server.adjust(|settings| {
        settings.metadata_members = json!({ "grant_types_supported": ["authorization_code"] });
    });
    assert_eq!(register(&server, &document).error().1, "invalid_client_metadata");
}

#[test]
fn a_client_has_the_scope_that_it_registered_for() {
    let server = with_registration(Registration::default());
    let mut document = wanted();
    document["scope"] = json!("read offline_access");
    let id = register(&server, &document).member("client_id");
    let tokens = login(&server, &id, "", &[("client_id", &id)]);
    assert_eq!(tokens.member("scope"), "read offline_access");
    let wider = [("client_id", &*id), ("scope", "read write")];
    assert_eq!(value(&authorize(&server, &wider).1, "error"), "invalid_scope");
    server.adjust(|settings| settings.registration.as_mut().unwrap().limits_scope = false);
    assert_eq!(value(&authorize(&server, &wider).1, "error"), "");
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_forgotten_client_gets_a_page_without_a_redirect_and_no_token() {
    let server = with_registration(Registration::default());
    let id = register(&server, &wanted()).member("client_id");
    let refresh_token = login(&server, &id, "", &[("client_id", &id)]).member("refresh_token");
    server.forget_clients();
    assert!(server.clients().is_empty());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("client_id", &*id), ("redirect_uri", REDIRECT_URI), ("state", "s")])
        .finish();
    let page = get(&server, &format!("/authorize?{query}"), "");
    assert_eq!((page.status, page.header("location")), (400, None));
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let parameters =
        [("grant_type", "refresh_token"), ("client_id", &*id), ("refresh_token", &*refresh_token)];
    assert_eq!(post(&server, Endpoint::Token, &parameters).error(), (401, "invalid_client".to_owned()));
    assert!(server.is_alive(&refresh_token), "the grant is there, but no client for it");
    assert_eq!(server.counts().unexpected, 0, "a client cannot know");
}

/// A request to the client configuration endpoint.
fn configure(server: &AuthorizationServer, method: &str, uri: &str, token: &str) -> Answer {
    let target = uri.strip_prefix(&server.issuer()).unwrap();
    let authorization = format!("authorization: Bearer {token}\r\n");
    send(server, &format!("{method} {target} HTTP/1.1\r\nhost: as\r\n{authorization}\r\n"))
}

// RFC 7592 sections 2.1 and 2.3.
#[test]
fn a_client_is_removed_with_its_registration_access_token() {
    let server = with_registration(Registration { is_managed: true, ..Registration::default() });
    let answer = register(&server, &wanted());
    let (id, uri) = (answer.member("client_id"), answer.member("registration_client_uri"));
    let token = answer.member("registration_access_token");
    let refresh_token = login(&server, &id, "", &[("client_id", &id)]).member("refresh_token");
    assert_eq!(configure(&server, "GET", &uri, &token).member("client_id"), id);
    assert_eq!(configure(&server, "DELETE", &uri, "wrong").status, 401);
    assert_eq!((server.clients().len(), server.is_alive(&refresh_token)), (1, true));
    assert_eq!(configure(&server, "DELETE", &uri, &token).status, 204);
    assert_eq!((server.clients().len(), server.is_alive(&refresh_token)), (0, false));
    assert_eq!(configure(&server, "DELETE", &uri, &token).status, 401);
    assert_eq!(server.requests_to(Endpoint::ClientConfiguration).len(), 4);
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn without_registration_there_is_no_endpoint_for_it() {
    let server = AuthorizationServer::start(Settings::default());
    let metadata = get(&server, "/.well-known/oauth-authorization-server", "").json();
    assert!(metadata.get("registration_endpoint").is_none());
    assert_eq!(register(&server, &wanted()).status, 404);
    assert_eq!(server.counts().unexpected, 1);
}
