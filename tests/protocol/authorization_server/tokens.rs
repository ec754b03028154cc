//! Revocation and userinfo: what an access token is good for, and how it ends.

use super::client::{Answer, get, post, refresh};
use servers::authorization_server::{AuthorizationServer, Endpoint, Settings};

fn userinfo(server: &AuthorizationServer, access_token: &str) -> Answer {
    get(server, "/userinfo", &format!("authorization: Bearer {access_token}\r\n"))
}

fn revoke(server: &AuthorizationServer, token: &str) -> Answer {
    post(server, Endpoint::Revocation, &[("client_id", server.client_id()), ("token", token)])
}

#[test]
fn an_access_token_opens_userinfo() {
    let server = AuthorizationServer::start(Settings::default());
    let answer = userinfo(&server, &server.issue_grant().access_token);
    assert_eq!((answer.status, answer.member("name")), (200, "Jane Doe".to_owned()));
    assert_eq!(server.counts().userinfo, 1);
}

// RFC 6750 section 3: an error is named only where a token was shown.
#[test]
fn userinfo_says_what_is_wrong_with_a_token() {
    let server = AuthorizationServer::start(Settings::default());
    let issued = server.issue_grant();
    server.revoke_access_token(&issued.access_token);
    let answer = userinfo(&server, &issued.access_token);
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    let answer = get(&server, "/userinfo", "");
    assert!(!answer.header("www-authenticate").unwrap().contains("error"));
    assert!(server.is_alive(&issued.refresh_token), "the grant goes on");
}

// RFC 7009 section 2.1.
#[test]
fn revoking_a_refresh_token_ends_the_family() {
    let server = AuthorizationServer::start(Settings::default());
    let issued = server.issue_grant();
    let newest = server.rotate(&issued.refresh_token).unwrap();
    assert_eq!(revoke(&server, &newest.refresh_token).status, 200);
    assert!(!server.is_alive(&newest.refresh_token) && !server.access_token_is_valid(&issued.access_token));
    assert_eq!(refresh(&server, &newest.refresh_token).member("error"), "invalid_grant");
}

#[test]
fn revoking_a_spent_refresh_token_ends_the_family_too() {
    let server = AuthorizationServer::start(Settings::default());
    let issued = server.issue_grant();
    let newest = server.rotate(&issued.refresh_token).unwrap();
    assert_eq!(revoke(&server, &issued.refresh_token).status, 200);
    assert!(!server.is_alive(&newest.refresh_token));
}

#[test]
fn revoking_an_access_token_ends_it_alone() {
    let server = AuthorizationServer::start(Settings::default());
    let issued = server.issue_grant();
    assert_eq!(revoke(&server, &issued.access_token).status, 200);
    assert!(!server.access_token_is_valid(&issued.access_token) && server.is_alive(&issued.refresh_token));
}

// RFC 7009 section 2.2.
#[test]
fn revoking_what_is_not_known_succeeds() {
    let server = AuthorizationServer::start(Settings::default());
    assert_eq!((revoke(&server, "never issued").status, server.counts().unexpected), (200, 0));
    assert_eq!(server.counts().revocations, 1);
}

#[test]
fn a_token_of_another_client_is_not_revoked() {
    let server = AuthorizationServer::start(Settings::default());
    let issued = server.issue_confidential_grant();
    assert_eq!(revoke(&server, &issued.refresh_token).error(), (400, "invalid_grant".to_owned()));
    assert!(server.is_alive(&issued.refresh_token));
}
