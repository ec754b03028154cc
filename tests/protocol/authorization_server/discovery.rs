//! Metadata: where it is, and what can be wrong with it.

use super::client::{get, post};
use serde_json::json;
use servers::authorization_server::{AuthorizationServer, Endpoint, NamedIssuer, Settings};

const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

#[test]
fn both_metadata_documents_name_the_issuer_and_its_endpoints() {
    let server = AuthorizationServer::start(Settings::default());
    for target in [OAUTH, OPENID] {
        let metadata = get(&server, target, "");
        assert_eq!(metadata.header("content-type"), Some("application/json"));
        assert_eq!(metadata.member("issuer"), server.issuer());
        assert_eq!(metadata.member("token_endpoint"), server.token_endpoint());
        for endpoint in [Endpoint::DeviceAuthorization, Endpoint::Revocation, Endpoint::Userinfo] {
            assert!(metadata.body.contains(&server.url(endpoint)), "{endpoint:?}");
        }
    }
}

// RFC 8414 section 3.1 inserts, OpenID Connect Discovery section 4.1 appends.
#[test]
fn an_issuer_with_a_path_has_its_metadata_where_the_specifications_put_it() {
    let server =
        AuthorizationServer::start(Settings { issuer_path: "/tenant".into(), ..Settings::default() });
    assert!(server.issuer().ends_with("/tenant"));
    for target in [format!("{OAUTH}/tenant"), format!("/tenant{OPENID}")] {
        let metadata = get(&server, &target, "");
        assert_eq!(metadata.member("issuer"), server.issuer());
        assert_eq!(metadata.member("token_endpoint"), format!("{}/token", server.issuer()));
    }
    assert_eq!(get(&server, OAUTH, "").status, 404);
    assert_eq!(server.counts().unexpected, 0, "to probe is no mistake");
    assert_eq!(post(&server, Endpoint::Token, &[]).status, 404);
    assert_eq!(server.counts().unexpected, 1);
}

#[test]
fn either_document_can_be_missing() {
    let server = AuthorizationServer::start(Settings { serves_oauth_metadata: false, ..Settings::default() });
    assert_eq!((get(&server, OAUTH, "").status, get(&server, OPENID, "").status), (404, 200));
    server.adjust(|settings| {
        settings.serves_oauth_metadata = true;
        settings.serves_openid_configuration = false;
    });
    assert_eq!((get(&server, OAUTH, "").status, get(&server, OPENID, "").status), (200, 404));
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn the_metadata_can_lie_about_the_issuer() {
    let lie = NamedIssuer::Other("https://evil.example".to_owned());
    let server = AuthorizationServer::start(Settings { metadata_issuer: lie, ..Settings::default() });
    assert_eq!(get(&server, OAUTH, "").member("issuer"), "https://evil.example");
    server.adjust(|settings| settings.metadata_issuer = NamedIssuer::Other("ORIGIN/".to_owned()));
    assert_eq!(get(&server, OAUTH, "").member("issuer"), format!("{}/", server.issuer()));
    server.adjust(|settings| settings.metadata_issuer = NamedIssuer::Absent);
    assert!(get(&server, OAUTH, "").json().get("issuer").is_none());
}

#[test]
fn the_metadata_can_have_other_members() {
    let server = AuthorizationServer::start(Settings::default());
    server.adjust(|settings| {
        settings.metadata_members = json!({ "scopes_supported": ["a"], "grant_types_supported": null });
    });
    for target in [OAUTH, OPENID] {
        let metadata = get(&server, target, "").json();
        assert_eq!(metadata["scopes_supported"], json!(["a"]));
        assert!(metadata.get("grant_types_supported").is_none());
        assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    }
}
