//! Protected resources: how they refuse, what they say about themselves, and which tokens open them.

use super::client::{Answer, get, post, post_json, send};
use super::logins::{CODE_VERIFIER, REDIRECT_URI, authorize, value};
use serde_json::{Value, json};
use servers::authorization_server::{
    AuthorizationServer, Endpoint, ProtectedResource, ResourceParameter, Settings,
};

const ACCEPT: &str = "accept: application/json, text/event-stream\r\n";

fn with_resources(resources: Vec<ProtectedResource>) -> AuthorizationServer {
    AuthorizationServer::start(Settings { resources, ..Settings::default() })
}

/// The first request of an MCP client, with further header lines.
fn initialize(server: &AuthorizationServer, path: &str, headers: &str) -> Answer {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {} });
    post_json(server, path, &format!("{ACCEPT}{headers}"), &call)
}

fn bearer(access_token: &str) -> String {
    format!("authorization: Bearer {access_token}\r\n")
}

/// Every challenge of an answer, a header each.
fn challenges(answer: &Answer) -> Vec<&str> {
    answer.head.split("\r\n").filter_map(|line| line.strip_prefix("www-authenticate: ")).collect()
}

#[test]
fn a_resource_says_where_its_metadata_is_and_the_metadata_names_the_issuer() {
    let server = with_resources(vec![ProtectedResource::at("/mcp")]);
    let (resource, metadata) = (server.url(Endpoint::Resource), server.url(Endpoint::ResourceMetadata));
    let answer = initialize(&server, "/mcp", "");
    assert_eq!(answer.status, 401);
    assert_eq!(challenges(&answer), [format!("Bearer resource_metadata=\"{metadata}\", scope=\"read\"")]);
    let answer = get(&server, "/.well-known/oauth-protected-resource/mcp", "");
    let document = json!({
        "resource": resource,
        "authorization_servers": [server.issuer()],
        "scopes_supported": ["read", "write"],
        "bearer_methods_supported": ["header"],
    });
    assert_eq!((answer.status, answer.json()), (200, document));
    assert_eq!(get(&server, "/.well-known/oauth-protected-resource", "").status, 404);
    assert_eq!((server.counts().resource_requests, server.counts().unexpected), (1, 0));
    let endpoints = server.requests().iter().map(|request| request.endpoint).collect::<Vec<_>>();
    let wanted = [Endpoint::Resource, Endpoint::ResourceMetadata, Endpoint::RootResourceMetadata];
    assert_eq!(endpoints, wanted.map(Some));
}

#[test]
fn a_token_opens_only_the_resources_that_it_is_for() {
    let server = with_resources(vec![ProtectedResource::at("/mcp"), ProtectedResource::at("/v2/mcp")]);
    let one = server.url(Endpoint::Resource);
    let (parent, lookalike) = (server.issuer(), format!("{}/mc", server.issuer()));
    // (the resources of the token, what /mcp and /v2/mcp answer)
    let cases = [
        (vec![one.as_str()], [200, 401]),
        (vec![&parent], [200, 200]),
        (vec![&lookalike], [401, 401]),
        (vec![&lookalike, &one], [200, 401]),
        (vec![], [401, 401]),
    ];
    for (resources, statuses) in cases {
        let token = bearer(&server.issue_grant_for(&resources).access_token);
        let answered = ["/mcp", "/v2/mcp"].map(|path| initialize(&server, path, &token).status);
        assert_eq!(answered, statuses, "{resources:?}");
    }
    let issued = server.issue_grant_for(&[&one]);
    server.revoke_access_token(&issued.access_token);
    let answer = initialize(&server, "/mcp", &bearer(&issued.access_token));
    assert_eq!(answer.status, 401);
    assert!(challenges(&answer)[0].starts_with("Bearer error=\"invalid_token\", resource_metadata="));
    assert_eq!(server.counts().unexpected, 0);
}

// RFC 6750 section 3.1.
#[test]
fn a_token_with_too_little_scope_is_told_the_scope_that_it_lacks() {
    let mut resource = ProtectedResource::at("/mcp");
    resource.required_scope = Some("write".to_owned());
    let server = with_resources(vec![resource]);
    let token = server.issue_grant_for(&[&server.url(Endpoint::Resource)]).access_token;
    let answer = get(&server, "/mcp", &bearer(&token));
    assert_eq!(answer.status, 403);
    let challenge = challenges(&answer)[0];
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\""), "{challenge}");
    assert!(challenge.ends_with("scope=\"write\""), "{challenge}");
}

#[test]
fn a_challenge_can_be_anything() {
    let mut resource = ProtectedResource::at("/mcp");
    let texts = ["Basic realm=\"a\"", "Bearer resource_metadata=\"ORIGIN/elsewhere\""];
    resource.challenges = Some(texts.map(str::to_owned).to_vec());
    let server = with_resources(vec![resource, ProtectedResource::without_metadata("/old")]);
    let placed = format!("Bearer resource_metadata=\"{}/elsewhere\"", server.issuer());
    assert_eq!(challenges(&get(&server, "/mcp", "")), ["Basic realm=\"a\"", &placed]);
    assert_eq!(challenges(&get(&server, "/old", "")), ["Bearer"]);
    assert_eq!(get(&server, "/.well-known/oauth-protected-resource/old", "").status, 404);
    server.adjust(|settings| settings.resources[0].challenges = Some(Vec::new()));
    let answer = get(&server, "/mcp", "");
    assert_eq!((answer.status, challenges(&answer)), (401, Vec::new()));
}

#[test]
fn metadata_can_say_anything_and_be_at_the_root_or_elsewhere() {
    let mut resource = ProtectedResource::at("/mcp");
    resource.metadata = Some(json!({ "resource": "ORIGIN", "authorization_servers": ["https://a.example"] }));
    (resource.serves_metadata, resource.serves_root_metadata) = (false, true);
    let server = with_resources(vec![resource]);
    let document = json!({ "resource": server.issuer(), "authorization_servers": ["https://a.example"] });
    let root = "/.well-known/oauth-protected-resource";
    assert_eq!(get(&server, root, "").json(), document);
    assert!(challenges(&get(&server, "/mcp", ""))[0].contains(&format!("{root}\"")));
    assert_eq!(get(&server, &format!("{root}/mcp"), "").status, 404);
    server.adjust(|settings| settings.resources[0].metadata_path = Some("/about".to_owned()));
    assert_eq!(get(&server, "/about", "").json(), document);
    assert!(challenges(&get(&server, "/mcp", ""))[0].contains("/about\""));
    assert_eq!(get(&server, &format!("{root}/mcp"), "").status, 404);
}

#[test]
fn a_resource_at_the_root_has_its_metadata_at_the_root() {
    let server = with_resources(vec![ProtectedResource::at("")]);
    assert_eq!(initialize(&server, "/", "").status, 401);
    let metadata = get(&server, "/.well-known/oauth-protected-resource", "");
    assert_eq!(metadata.member("resource"), server.issuer());
    let token = server.issue_grant_for(&[&server.issuer()]).access_token;
    assert_eq!(initialize(&server, "/", &bearer(&token)).status, 200);
}

// MCP, "Session Management".
#[test]
fn a_session_that_a_resource_begins_is_open_until_it_is_deleted() {
    let mut resource = ProtectedResource::at("/mcp");
    (resource.initializes_all, resource.begins_sessions) = (true, true);
    let server = with_resources(vec![resource]);
    let answer = initialize(&server, "/mcp", "");
    assert_eq!((answer.status, &answer.json()["id"]), (200, &Value::from(1)));
    assert_eq!(server.open_sessions(), 1);
    let delete = |session: &str| {
        send(&server, &format!("DELETE /mcp HTTP/1.1\r\nhost: as\r\nmcp-session-id: {session}\r\n\r\n"))
            .status
    };
    let session = answer.header("mcp-session-id").unwrap();
    assert_eq!((delete("another"), delete(session), delete(session)), (404, 204, 404));
    assert_eq!(server.open_sessions(), 0);
    assert_eq!(get(&server, "/mcp", "").status, 401, "only initialize is open to all");
}

#[test]
fn to_ask_for_a_resource_that_is_not_there_is_a_mistake_unless_it_is_a_probe() {
    let server = AuthorizationServer::start(Settings::default());
    assert_eq!(initialize(&server, "/mcp", "").status, 404);
    assert_eq!(get(&server, "/.well-known/oauth-protected-resource/mcp", "").status, 404);
    assert_eq!(server.counts().unexpected, 0);
    assert_eq!(get(&server, "/mcp", "").status, 404);
    assert_eq!(server.counts().unexpected, 1);
}

fn token(server: &AuthorizationServer, parameters: &[(&str, &str)], resource: Option<&str>) -> Answer {
    let resource = resource.map(|resource| ("resource", resource));
    let all: Vec<_> = [("client_id", server.client_id())].iter().chain(parameters).copied().collect();
    post(server, Endpoint::Token, &all.into_iter().chain(resource).collect::<Vec<_>>())
}

// RFC 8707 sections 2.1 and 2.2.
#[test]
fn tokens_are_for_the_resource_that_the_login_named() {
    let server = AuthorizationServer::start(Settings::default());
    let resource = "https://a.example/mcp";
    let (_, redirect) = authorize(&server, &[("resource", resource)]);
    let parameters = [
        ("grant_type", "authorization_code"),
        ("code", value(&redirect, "code")),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", CODE_VERIFIER),
    ];
    let other = Some("https://b.example");
    assert_eq!(token(&server, &parameters, other).error(), (400, "invalid_target".to_owned()));
    let answer = token(&server, &parameters, Some(resource));
    assert_eq!(server.resources_of(&answer.member("access_token")).unwrap(), [resource]);
    let refresh_token = answer.member("refresh_token");
    let parameters = [("grant_type", "refresh_token"), ("refresh_token", &*refresh_token)];
    assert_eq!(token(&server, &parameters, other).error(), (400, "invalid_target".to_owned()));
    assert!(server.is_alive(&refresh_token), "it is not spent");
    let answer = token(&server, &parameters, None);
    assert_eq!(server.resources_of(&answer.member("access_token")).unwrap(), [resource]);
    assert_eq!(server.counts().unexpected, 2);
}

/// What each endpoint that takes a `resource` says: its error, or nothing.
fn errors(server: &AuthorizationServer, resource: Option<&str>) -> [String; 4] {
    let resource: Vec<_> = resource.map(|resource| ("resource", resource)).into_iter().collect();
    let with = |parameters: &[(&'static str, &str)], endpoint| {
        let all: Vec<_> = parameters.iter().chain(&resource).copied().collect();
        post(server, endpoint, &all).member("error")
    };
    let client = ("client_id", server.client_id());
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let pushed = [
        client,
        ("response_type", "code"),
        ("redirect_uri", REDIRECT_URI),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    let refresh_token = server.issue_grant().refresh_token;
    let refresh = [client, ("grant_type", "refresh_token"), ("refresh_token", refresh_token.as_str())];
    let (_, redirect) = authorize(server, &resource);
    let errors = [
        value(&redirect, "error").to_owned(),
        with(&pushed, Endpoint::PushedAuthorization),
        with(&[client], Endpoint::DeviceAuthorization),
        with(&refresh, Endpoint::Token),
    ];
    assert_eq!(server.is_alive(&refresh_token), !errors[3].is_empty(), "a refused refresh spends nothing");
    errors
}

#[test]
fn a_server_can_require_a_resource_that_it_has_or_refuse_any() {
    let server = with_resources(vec![ProtectedResource::at("/mcp")]);
    let own = server.url(Endpoint::Resource);
    let (fine, invalid) = (["", "", "", ""], ["invalid_target"; 4]);
    // (what the server wants; errors without a resource, with its own, with another)
    let cases = [
        (ResourceParameter::Accepted, [fine, fine, fine]),
        (ResourceParameter::Required, [invalid, fine, invalid]),
        (ResourceParameter::Refused, [fine, invalid, invalid]),
    ];
    for (parameter, wanted) in cases {
        server.adjust(|settings| settings.resource_parameter = parameter);
        let said = [None, Some(&*own), Some("https://a.example")].map(|resource| errors(&server, resource));
        assert_eq!(said, wanted.map(|errors| errors.map(str::to_owned)), "{parameter:?}");
    }
    assert_eq!(server.counts().unexpected, 0);
    assert_eq!(errors(&server, Some("ftp://a#b")), invalid.map(str::to_owned));
    assert_eq!(server.counts().unexpected, 4, "no URI of a resource has a fragment");
}

#[test]
fn without_the_parameter_every_token_opens_every_resource() {
    let server = with_resources(vec![ProtectedResource::at("/mcp")]);
    server.adjust(|settings| settings.resource_parameter = ResourceParameter::Refused);
    let token = server.issue_grant().access_token;
    assert_eq!(initialize(&server, "/mcp", &bearer(&token)).status, 200);
}
