//! Clients whose identifier is the address of their metadata.

use super::client::{Answer, get, post};
use super::logins::{CODE_VERIFIER, REDIRECT_URI, authorize, value};
use serde_json::{Value, json};
use servers::authorization_server::{AuthorizationServer, Endpoint, Fault, Response, Settings};

fn with_address_clients() -> AuthorizationServer {
    AuthorizationServer::start(Settings { address_clients: true, ..Settings::default() })
}

fn exchange(server: &AuthorizationServer, client_id: &str, code: &str) -> Answer {
    let parameters = [
        ("grant_type", "authorization_code"),
        ("client_id", client_id),
        ("code", code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", CODE_VERIFIER),
    ];
    post(server, Endpoint::Token, &parameters)
}

#[test]
fn the_server_reads_the_metadata_of_a_client_once_and_takes_its_redirect_uri_with_any_port() {
    let server = with_address_clients();
    let metadata = get(&server, "/.well-known/oauth-authorization-server", "").json();
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
    let id = server.url(Endpoint::ClientMetadata);
    let (status, redirect) = authorize(&server, &[("client_id", &id)]);
    assert_eq!((status, value(&redirect, "error")), (302, ""));
    assert_eq!(exchange(&server, &id, value(&redirect, "code")).status, 200);
    assert_eq!(server.requests_to(Endpoint::ClientMetadata).len(), 1);
    assert_eq!(server.counts().unexpected, 0);
    server.forget_clients();
    assert_eq!(authorize(&server, &[("client_id", &id)]).0, 302, "it reads the metadata again");
    assert_eq!(server.requests_to(Endpoint::ClientMetadata).len(), 2);
}

#[test]
fn another_path_is_no_redirect_uri_of_the_client_and_a_web_application_has_no_free_port() {
    let server = with_address_clients();
    let id = server.url(Endpoint::ClientMetadata);
    let other = REDIRECT_URI.replace("callback", "other");
    assert_eq!(authorize(&server, &[("client_id", &id), ("redirect_uri", &other)]).0, 400);
    server.forget_clients();
    server.adjust(|settings| settings.client_metadata = json!({ "application_type": "web" }));
    assert_eq!(authorize(&server, &[("client_id", &id)]).0, 400);
}

#[test]
fn metadata_that_cannot_be_used_makes_the_client_an_invalid_one() {
    let server = with_address_clients();
    let id = server.url(Endpoint::ClientMetadata);
    let refused = |what: &str| {
        let (status, redirect) = authorize(&server, &[("client_id", &id)]);
        assert_eq!((status, redirect), (400, Vec::new()), "{what}");
        assert_eq!(exchange(&server, &id, "c").error(), (401, "invalid_client".to_owned()), "{what}");
    };
    let faults = [
        Fault::status(404),
        Fault::Status(Response::new(302).header("location", "/client.json")),
        Fault::Status(Response::new(200).header("content-type", "text/html").body("<p>")),
        Fault::Huge(6 << 10),
        Fault::DropBefore,
    ];
    for fault in faults {
        server.always(Endpoint::ClientMetadata, fault.clone());
        refused(&format!("{fault:?}"));
    }
    server.clear_faults();
    let members = [
        json!({ "client_id": "http://127.0.0.1:1/client.json" }),
        json!({ "client_secret": "s" }),
        json!({ "token_endpoint_auth_method": "client_secret_basic" }),
        json!({ "redirect_uris": null }),
    ];
    for members in members {
        server.adjust(|settings| settings.client_metadata = members.clone());
        refused(&members.to_string());
    }
    server.adjust(|settings| settings.client_metadata = Value::Null);
    assert_eq!(authorize(&server, &[("client_id", &id)]).0, 302);
    assert_eq!(server.counts().unexpected, 0, "the host of the metadata is no part of the client");
}

#[test]
fn an_address_that_the_server_has_read_before_can_be_anywhere() {
    let server = with_address_clients();
    let id = "https://a.example/client.json";
    server.adjust(|settings| settings.known_client_addresses = vec![id.to_owned()]);
    let (_, redirect) = authorize(&server, &[("client_id", id)]);
    assert_eq!(exchange(&server, id, value(&redirect, "code")).status, 200);
    assert_eq!(server.requests_to(Endpoint::ClientMetadata).len(), 0);
}

#[test]
fn an_address_off_loopback_or_of_a_server_without_such_clients_is_no_client() {
    let server = with_address_clients();
    for id in ["https://a.example/client.json", "http://192.0.2.1/client.json", "http://127.0.0.1:1"] {
        assert_eq!(exchange(&server, id, "c").error(), (401, "invalid_client".to_owned()), "{id}");
    }
    server.adjust(|settings| settings.address_clients = false);
    let metadata = get(&server, "/.well-known/oauth-authorization-server", "").json();
    assert!(metadata.get("client_id_metadata_document_supported").is_none());
    let id = server.url(Endpoint::ClientMetadata);
    assert_eq!(exchange(&server, &id, "c").error(), (401, "invalid_client".to_owned()));
    assert_eq!(server.requests_to(Endpoint::ClientMetadata).len(), 0);
}
