//! `onegrant doctor ADDRESS`: each step of a login at the address, what departs from a standard, and nothing that it changes.

use crate::support::authorization_server::{ProtectedResource, Registration};
use crate::support::*;
use serde_json::{Value, json};
use servers::closed_port::ClosedPort;
use std::fs;

/// A server that has a resource at `/mcp` and registers clients, with these settings that differ.
fn resource_server(change: impl FnOnce(&mut Settings)) -> AuthorizationServer {
    server(|settings| {
        settings.resources = vec![ProtectedResource::at("/mcp")];
        settings.registration = Some(Registration::default());
        change(settings);
    })
}

/// The checks of `doctor ADDRESS --json`: verdict, name, what, hint; and the exit code. The home does not come to be.
#[track_caller]
fn examine(address: &str) -> (Vec<[String; 4]>, i32) {
    let home = Home::new();
    fs::remove_dir(&home.state).unwrap();
    let ran = home.run(&["doctor", "--json", address]);
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let line = |check: &Value| ["verdict", "name", "what", "hint"].map(|name| text(check, name));
    let checks: Vec<_> = object["checks"].as_array().unwrap().iter().map(line).collect();
    let has = |verdict| checks.iter().any(|[found, ..]| found == verdict);
    let worst = if has("fail") {
        "fail"
    } else if has("warn") {
        "warn"
    } else {
        "ok"
    };
    assert_eq!((&object["verdict"], ran.code == 0), (&json!(worst), worst != "fail"), "{ran:?}");
    assert_eq!(ran.stderr.is_empty(), ran.code == 0, "{ran:?}");
    let codes = object["checks"].as_array().unwrap().iter().filter_map(|check| check["exit_code"].as_i64());
    assert!(codes.into_iter().all(|code| code == i64::from(ran.code)), "{ran:?}");
    assert!(!home.state.exists(), "nothing is stored");
    (checks, ran.code)
}

/// Method and path of every request that came.
fn asked(server: &AuthorizationServer) -> Vec<String> {
    server.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

#[test]
fn a_sound_resource_gives_one_line_for_each_step_of_a_login() {
    let server = resource_server(|_| {});
    let (origin, resource) = (server.origin(), server.url(Endpoint::Resource));
    let home = Home::new();
    let ran = home.run(&["doctor", &resource]);
    let text = format!(
        "ok    probe        POST {resource}: status 401 and a challenge for a bearer token with the scope read\n\
         ok    resource     GET {origin}/.well-known/oauth-protected-resource/mcp: metadata of the resource {resource}, \
         issuer {origin}\n\
         ok    issuer       GET {origin}/.well-known/oauth-authorization-server: metadata of the issuer {origin}\n\
         ok    server       a resource: {resource}; its issuer is {origin}\n\
         ok    client       a login registers one at {origin}/register\n\
         ok    flow         a login shows a code for any device\n\
         ok    scope        a login asks for read offline_access\n"
    );
    assert_eq!(ran, Ran { code: 0, stdout: text, stderr: String::new() });
    assert_eq!(
        asked(&server),
        [
            "POST /mcp",
            "GET /.well-known/oauth-protected-resource/mcp",
            "GET /.well-known/oauth-authorization-server"
        ]
    );
    assert_eq!((server.counts().registrations, server.counts().unexpected), (0, 0));
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(home.names(), Vec::<String>::new());
}

#[test]
fn an_authorization_server_is_called_one() {
    let server = server(|_| {});
    let (checks, code) = examine(&server.issuer());
    assert_eq!(code, 0);
    let find = |name: &str| checks.iter().find(|[_, found, ..]| found == name).unwrap();
    assert_eq!(find("server")[2], format!("an authorization server: {}", server.issuer()));
    // A person can name a client, so nothing is broken.
    let [verdict, _, what, hint] = find("client");
    assert_eq!(verdict, "warn");
    assert!(what.contains("this server registers only programs that it knows"), "{what}");
    assert!(hint.starts_with(&format!("onegrant login {} --client-id ID   # ", server.issuer())), "{hint}");
    // The hint works.
    let (home, command) = (Home::new(), hint.split("   #").next().unwrap().replace(" ID", " CLIENT"));
    server.adjust(|settings| settings.auto_approve = true);
    let words: Vec<&str> = command
        .split(' ')
        .skip(1)
        .map(|word| if word == "CLIENT" { server.client_id() } else { word })
        .collect();
    assert_eq!(home.run(&words).code, 0);
}

/// What is changed, the verdict, the text, and whether the departure matters.
type Departure = (fn(&mut Settings), &'static str, bool);

#[test]
fn each_departure_from_a_standard_is_named_with_the_standard() {
    fn members(settings: &mut Settings, members: Value) {
        settings.resources[0].metadata = Some(members);
    }
    let departures: [Departure; 11] = [
        (
            |settings| settings.resources[0].challenges = Some(Vec::new()),
            "RFC 9110 section 11.6.1, RFC 6750 section 3: a 401 without a challenge for a bearer token",
            false,
        ),
        (
            |settings| settings.resources[0].challenges = Some(vec!["Bearer".to_owned()]),
            "RFC 9728 section 5.1: the challenge does not name the resource metadata",
            false,
        ),
        (
            |settings| {
                let other = "Bearer resource_metadata=\"https://other.example/x\"";
                settings.resources[0].challenges = Some(vec![other.to_owned()]);
            },
            "RFC 9728 section 5.1: the resource metadata that the challenge names is not used: \
             https://other.example/x is of another origin",
            true,
        ),
        (
            |settings| {
                members(settings, json!({ "resource": "ORIGIN", "authorization_servers": ["ORIGIN"] }))
            },
            "RFC 9728 section 3.3: the resource ORIGIN is a parent of the address",
            false,
        ),
        (
            |settings| {
                members(settings, json!({ "resource": "ORIGIN/mcp/", "authorization_servers": ["ORIGIN"] }))
            },
            "RFC 9728 section 3.3: the resource is written ORIGIN/mcp/, not as its address",
            false,
        ),
        (
            |settings| {
                members(settings, json!({ "resource": "ORIGIN/mcp", "authorization_server": "ORIGIN" }))
            },
            "RFC 9728 section 2: authorization_server takes the place of authorization_servers",
            false,
        ),
        (
            |settings| {
                let issuers = json!(["http://as.example", "ORIGIN"]);
                members(settings, json!({ "resource": "ORIGIN/mcp", "authorization_servers": issuers }));
            },
            "RFC 8414 section 2: an authorization server is left out: cannot use http://as.example: ",
            false,
        ),
        (
            |settings| {
                let scopes = json!(["read", "a b"]);
                members(
                    settings,
                    json!({ "resource": "ORIGIN/mcp", "authorization_servers": ["ORIGIN"], "scopes_supported": scopes }),
                );
            },
            "RFC 6749 section 3.3: an entry of scopes_supported is no scope, and is left out",
            false,
        ),
        (
            |settings| settings.metadata_members = json!({ "issuer": "ORIGIN/" }),
            "RFC 8414 section 3.3: the issuer is written ORIGIN/",
            false,
        ),
        (
            |settings| settings.metadata_members = json!({ "code_challenge_methods_supported": null }),
            "RFC 8414 section 2: it lists no methods of PKCE",
            false,
        ),
        (
            |settings| settings.metadata_members = json!({ "code_challenge_methods_supported": ["plain"] }),
            "RFC 7636 section 4.2: it does not list the method S256 of PKCE",
            true,
        ),
    ];
    for (change, what, matters) in departures {
        let server = resource_server(change);
        let (checks, code) = examine(&server.url(Endpoint::Resource));
        assert_eq!(code, 0, "{what}: {checks:#?}");
        let departures: Vec<_> = checks.iter().filter(|[_, name, ..]| name == "departure").collect();
        let [[verdict, _, found, _]] = departures[..] else { panic!("{what}: {departures:#?}") };
        let what = what.replace("ORIGIN", &server.origin());
        let (wanted, end) =
            if matters { ("warn", " (this matters)") } else { ("ok", " (this does not matter)") };
        assert!(found.starts_with(&what) && found.ends_with(end), "{what}: {found}");
        assert_eq!(verdict, wanted, "{what}");
        assert_eq!((server.counts().registrations, server.counts().unexpected), (0, 0), "{what}");
    }
}

/// A server that is broken: the person who runs it learns at which step and by which answer. `login` ends with the same code.
#[test]
fn a_broken_server_is_explained() {
    let html = || Response::new(200).header("content-type", "text/html").body("<html>");
    let other =
        json!({ "resource": "https://other.example/mcp", "authorization_servers": ["https://as.example"] });
    let issuer = json!({ "issuer": "https://as.example", "token_endpoint": "https://as.example/t" });
    let metadata = Endpoint::ResourceMetadata;
    // (endpoints, answer, exit code, the step, its text, the text of the failure)
    let cases = [
        (metadata, Fault::Status(html()), 2, "resource", "no JSON object", "no metadata at "),
        (metadata, Fault::status(503), 4, "resource", "status 503", "answered with status 503"),
        (metadata, Fault::DropBefore, 4, "resource", "no whole answer from ", "no whole answer from "),
        (
            metadata,
            Fault::Huge(2 << 20),
            2,
            "resource",
            "longer than 1048576 bytes",
            "longer than 1048576 bytes",
        ),
        (
            metadata,
            Fault::Status(Response::json(200, other.to_string())),
            2,
            "departure",
            "it is of the resource https://other.example/mcp, not of ",
            "it is of the resource https://other.example/mcp, not of ",
        ),
        (Endpoint::OauthMetadata, Fault::Status(html()), 2, "issuer", "no JSON object", "no metadata at "),
        (Endpoint::OauthMetadata, Fault::status(500), 4, "issuer", "status 500", "answered with status 500"),
        (
            Endpoint::OauthMetadata,
            Fault::Status(Response::json(200, issuer.to_string())),
            2,
            "departure",
            "https://as.example",
            "https://as.example",
        ),
        (Endpoint::Resource, Fault::DropBefore, 4, "probe", "no whole answer from ", "no whole answer from "),
    ];
    for (endpoint, fault, code, step, text, failure) in cases {
        let server = resource_server(|settings| settings.serves_openid_configuration = false);
        server.always(endpoint, fault.clone());
        let address = server.url(Endpoint::Resource);
        let case = format!("{endpoint:?} {fault:?}");
        let (checks, ended) = examine(&address);
        assert_eq!(ended, code, "{case}: {checks:#?}");
        let is_there = checks.iter().any(|[_, name, what, _]| name == step && what.contains(text));
        assert!(is_there, "{case}: {checks:#?}");
        let [verdict, name, what, hint] = checks.last().unwrap();
        assert_eq!((verdict.as_str(), name.as_str()), ("fail", "server"), "{case}");
        let begin = format!("cannot find the authorization server of {address}: ");
        assert!(what.starts_with(&begin) && what.contains(failure), "{case}: {what}");
        assert_eq!(hint.is_empty(), code == 4, "{case}: {hint}");
        assert_eq!(server.counts().registrations, 0, "{case}");
        let home = Home::new();
        let ran = home.run(&["login", &address]);
        assert!(ran.code == code && ran.stderr.contains(failure), "{case}: {ran:?}");
    }
}

#[test]
fn an_address_where_nothing_is_fails() {
    let closed = ClosedPort::reserve();
    let (checks, code) = examine(&format!("http://{}/mcp", closed.address()));
    assert_eq!(code, 4, "{checks:#?}");
    assert!(checks[0][1] == "probe" && checks[0][2].contains("cannot connect to "), "{checks:#?}");
    for address in
        ["https://mcp.example.com/mcp#x", "http://mcp.example.com/mcp", "https://me:s3cret@mcp.example.com"]
    {
        let (checks, code) = examine(address);
        assert_eq!((checks.len(), code), (1, 2), "{checks:#?}");
        assert!(checks[0][2].starts_with("cannot use ") && !checks[0][2].contains("s3cret"), "{checks:#?}");
    }
}
