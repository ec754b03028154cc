//! From the address to the authorization server: where it is looked for, in which order, and what is found.

use super::*;
use crate::support::authorization_server::NamedIssuer;

const PROBE: &str = "POST /mcp";
const INSERTED: &str = "GET /.well-known/oauth-protected-resource/mcp";
const ROOT: &str = "GET /.well-known/oauth-protected-resource";
const OAUTH: &str = "GET /.well-known/oauth-authorization-server";
const OPENID: &str = "GET /.well-known/openid-configuration";
const REGISTER: &str = "POST /register";

/// A person logs in at `address`, which is a resource of the server. Gives its document.
#[track_caller]
fn resource_at(server: &AuthorizationServer, address: &str) -> Value {
    let home = Home::new();
    agree(&mut login_at(&home, address, &[]));
    assert_eq!(server.counts().unexpected, 0);
    document_of(&home, profiles(&home)[0].as_str())
}

/// The settings of one resource.
type Change = fn(&mut ProtectedResource);

/// RFC 9728 sections 3.1 and 5.1.
#[test]
fn the_metadata_is_read_where_the_challenge_names_it_else_at_the_well_known_addresses() {
    let at_the_root: Change =
        |resource| (resource.serves_metadata, resource.serves_root_metadata) = (false, true);
    let cases: [(&str, Change, &[&str]); 9] = [
        ("the usual challenge", |_| {}, &[PROBE, INSERTED, OAUTH]),
        (
            "an address of its own",
            |resource| resource.metadata_path = Some("/about".to_owned()),
            &[PROBE, "GET /about", OAUTH],
        ),
        (
            "a challenge without an address",
            |resource| resource.challenges = Some(vec!["Bearer".to_owned()]),
            &[PROBE, INSERTED, OAUTH],
        ),
        ("no challenge", |resource| resource.challenges = Some(Vec::new()), &[PROBE, INSERTED, OAUTH]),
        ("no refusal", |resource| resource.initializes_all = true, &[PROBE, INSERTED, OAUTH]),
        ("at the root", at_the_root, &[PROBE, ROOT, OAUTH]),
        (
            "at the root, and no header says so",
            |resource| {
                (resource.serves_metadata, resource.serves_root_metadata) = (false, true);
                resource.challenges = Some(vec!["Bearer".to_owned()]);
            },
            &[PROBE, INSERTED, ROOT, OAUTH],
        ),
        (
            "several challenges, one of them as RFC 9110 allows to write it",
            |resource| {
                let basic = r#"Basic realm="a, Bearer resource_metadata=\"ORIGIN/no\"", Negotiate YQ=="#;
                let bearer = r#"bearer  Realm="\"x\"" ,, RESOURCE_METADATA = "ORIGIN\/about", scope=read"#;
                resource.challenges = Some(vec![basic.to_owned(), bearer.to_owned()]);
                resource.metadata_path = Some("/about".to_owned());
            },
            &[PROBE, "GET /about", OAUTH],
        ),
        (
            "the metadata of another origin",
            |resource| {
                let other = r#"Bearer resource_metadata="http://127.0.0.1:1/about", scope="read""#;
                resource.challenges = Some(vec![other.to_owned()]);
            },
            &[PROBE, INSERTED, OAUTH],
        ),
    ];
    for (case, change, requests) in cases {
        let server = resource_server(|settings| change(&mut settings.resources[0]));
        let document = resource_at(&server, &server.url(Endpoint::Resource));
        assert_eq!(document["resource"], json!([server.url(Endpoint::Resource)]), "{case}");
        let (path, asked) = (requests[requests.len() - 2].strip_prefix("GET ").unwrap(), asked(&server));
        assert_eq!(document["resource_metadata"], format!("{}{path}", server.origin()), "{case}");
        assert_eq!(asked[..requests.len() + 1], [requests, &[REGISTER]].concat(), "{case}");
    }
}

/// RFC 9728 section 3.3 demands the address itself. Real servers name a parent.
#[test]
fn the_identifier_is_sent_as_the_metadata_writes_it() {
    for (address, identifier) in [
        ("/mcp", "ORIGIN"),
        ("/mcp", "ORIGIN/"),
        ("/mcp", "ORIGIN/mcp/"),
        ("/mcp?tenant=a", "ORIGIN/mcp"),
        ("/mcp/", "ORIGIN/mcp"),
    ] {
        let server = resource_server(|settings| {
            settings.resources[0].metadata =
                Some(json!({ "resource": identifier, "authorization_servers": ["ORIGIN"] }));
            settings.resources[0].challenges = Some(Vec::new());
        });
        let document = resource_at(&server, &format!("{}{address}", server.origin()));
        let identifier = identifier.replace("ORIGIN", &server.origin());
        assert_eq!(document["resource"], json!([identifier]), "{address}");
        let token = document["session"]["access_token"].as_str().unwrap();
        assert_eq!(server.resources_of(token), Some(vec![identifier]), "{address}");
    }
}

/// MCP, "Session Management".
#[test]
fn a_session_that_the_probe_began_is_ended() {
    let server = resource_server(|settings| {
        (settings.resources[0].initializes_all, settings.resources[0].begins_sessions) = (true, true);
    });
    let (_process, _) = start(&mut login(&Home::new(), &server, &[]));
    assert_eq!(asked(&server), [PROBE, INSERTED, OAUTH, "DELETE /mcp", REGISTER]);
    assert_eq!(server.open_sessions(), 0);
}

/// RFC 8414 section 3.1, OpenID Connect Discovery section 4.
#[test]
fn the_issuer_of_a_resource_has_its_metadata_where_the_standards_put_it() {
    type Change = fn(&mut Settings);
    let cases: [(&str, Change, &[&str]); 4] = [
        ("", |_| {}, &[OAUTH]),
        ("", |settings| settings.serves_oauth_metadata = false, &[OAUTH, OPENID]),
        ("/tenant", |_| {}, &["GET /.well-known/oauth-authorization-server/tenant"]),
        (
            "/tenant",
            |settings| settings.serves_oauth_metadata = false,
            &[
                "GET /.well-known/oauth-authorization-server/tenant",
                "GET /tenant/.well-known/openid-configuration",
            ],
        ),
    ];
    for (path, change, requests) in cases {
        let server = resource_server(|settings| {
            settings.issuer_path = path.to_owned();
            change(settings);
        });
        let document = resource_at(&server, &server.url(Endpoint::Resource));
        assert_eq!(document["issuer"], server.issuer());
        assert_eq!(asked(&server)[2..2 + requests.len()], *requests);
        assert_eq!(asked(&server)[2 + requests.len()], format!("POST {path}/register"));
    }
}

#[test]
fn the_first_issuer_that_can_be_used_is_the_one() {
    let dead = servers::closed_port::ClosedPort::reserve();
    let dead = format!("http://{}", dead.address());
    let another =
        server(|settings| settings.metadata_issuer = NamedIssuer::Other("https://other.example".to_owned()));
    let empty = server(|settings| {
        (settings.serves_oauth_metadata, settings.serves_openid_configuration) = (false, false);
    });
    let (another, empty) = (another.issuer(), empty.issuer());
    let cases = [
        json!([dead, "ORIGIN"]),
        json!([another, "ORIGIN"]),
        json!([empty, "ORIGIN"]),
        json!(["http://as.example", 7, "", "ORIGIN"]),
        json!(["ORIGIN", "ORIGIN", dead]),
        json!(["ORIGIN/"]),
        json!(["ORIGIN/.well-known/oauth-authorization-server"]),
        json!(["ORIGIN/.well-known/openid-configuration"]),
        json!("ORIGIN"),
    ];
    for issuers in cases {
        let server = resource_server(|settings| {
            settings.resources[0].metadata =
                Some(json!({ "resource": "ORIGIN/mcp", "authorization_servers": issuers }));
        });
        let (process, address) = start(&mut login(&Home::new(), &server, &[]));
        assert!(address.starts_with(&server.url(Endpoint::Authorization)), "{issuers}: {address}");
        assert!(asked(&server).len() <= MOST_REQUESTS, "{issuers}");
        assert_eq!(server.requests_to(Endpoint::Registration).len(), 1, "{issuers}");
        drop(process);
    }
    // The member of a draft of RFC 9728.
    let server = resource_server(|settings| {
        settings.resources[0].metadata =
            Some(json!({ "resource": "ORIGIN/mcp", "authorization_server": "ORIGIN" }));
    });
    resource_at(&server, &server.url(Endpoint::Resource));
}

#[test]
fn many_issuers_without_metadata_are_not_asked_without_end() {
    let empty = server(|settings| {
        (settings.serves_oauth_metadata, settings.serves_openid_configuration) = (false, false);
    });
    let server = resource_server(|settings| {
        let issuers: Vec<String> = (0..50).map(|number| format!("{}/{number}", empty.origin())).collect();
        settings.resources[0].metadata =
            Some(json!({ "resource": "ORIGIN/mcp", "authorization_servers": issuers }));
    });
    let home = Home::new();
    let ran = run(&mut login(&home, &server, &[]));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert_eq!(server.requests().len() + empty.requests().len(), 7);
    let first =
        format!("no metadata at {}/.well-known/oauth-authorization-server/0 (status 404), ", empty.origin());
    assert!(ran.stderr.contains(&first), "{ran:?}");
    assert!(ran.stderr.contains(" (not asked: 7 requests are the most)"), "{ran:?}");
    assert_eq!(home.names(), Vec::<String>::new());
}

/// Redirects are followed within the origin, for metadata alone. They count as requests.
#[test]
fn metadata_may_have_moved_within_its_origin() {
    let moved = |to: &str| Fault::Status(Response::new(307).header("location", to));
    let server = resource_server(|settings| settings.resources[0].metadata_path = Some("/about".to_owned()));
    server.script(Endpoint::ResourceMetadata, [moved("/.well-known/oauth-protected-resource/mcp")]);
    server.script(Endpoint::OauthMetadata, [moved("/.well-known/openid-configuration")]);
    let document = resource_at(&server, &server.url(Endpoint::Resource));
    assert_eq!(document["issuer"], server.issuer());
    assert_eq!(asked(&server)[..6], [PROBE, "GET /about", INSERTED, OAUTH, OPENID, REGISTER]);

    // Without end.
    for (endpoint, path) in [
        (Endpoint::ResourceMetadata, "/.well-known/oauth-protected-resource/mcp"),
        (Endpoint::OauthMetadata, "/.well-known/oauth-authorization-server"),
    ] {
        let server = resource_server(|settings| settings.serves_openid_configuration = false);
        server.always(endpoint, moved(path));
        let ran = run(&mut login(&Home::new(), &server, &[]));
        assert!(ran.code == 2 && ran.stderr.contains("redirects, the last one from "), "{ran:?}");
        assert!(server.requests().len() <= 7, "{:?}", asked(&server));
    }
}

/// Each redirect is a request, also if nothing answers behind it.
#[test]
fn redirects_to_silence_do_not_go_beyond_the_bound() {
    let silent: Vec<AuthorizationServer> = (0..4).map(|_| server(|_| {})).collect();
    for server in &silent {
        let moved = Response::new(307).header("location", "/.well-known/openid-configuration");
        server.always(Endpoint::OauthMetadata, Fault::Status(moved));
        server.always(Endpoint::OpenidConfiguration, Fault::DropBefore);
    }
    let server = resource_server(|settings| {
        let issuers: Vec<String> = silent.iter().map(AuthorizationServer::issuer).collect();
        settings.resources[0].metadata =
            Some(json!({ "resource": "ORIGIN/mcp", "authorization_servers": issuers }));
    });
    let ran = run(&mut login(&Home::new(), &server, &[]));
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
    let sent: usize = silent.iter().map(|server| server.requests().len()).sum();
    assert_eq!(sent + server.requests().len(), 7, "{ran:?}");
}

/// Resources that are older than RFC 9728.
#[test]
fn the_origin_of_a_resource_without_metadata_is_its_issuer() {
    let server = resource_server(|settings| {
        settings.resources = vec![ProtectedResource::without_metadata("/mcp")];
    });
    let resource = server.url(Endpoint::Resource);
    let document = resource_at(&server, &resource);
    assert_eq!(document["issuer"], server.issuer());
    assert_eq!((&document["resource"], &document["resource_metadata"]), (&json!([resource]), &Value::Null));
    let token = document["session"]["access_token"].as_str().unwrap();
    assert_eq!(server.resources_of(token), Some(vec![resource]));
    let asked = asked(&server);
    let found = asked.iter().position(|request| request == OAUTH).unwrap();
    assert_eq!(asked[..3], [PROBE, INSERTED, ROOT]);
    assert!(found < 7 && asked[found + 1] == REGISTER, "{asked:?}");
}

/// An authorization server is no resource. Then the profile, the scope and the requests are those of a login at an issuer.
#[test]
fn an_issuer_is_found_at_its_address() {
    for path in ["", "/tenant"] {
        let server = server(|settings| {
            settings.issuer_path = path.to_owned();
            settings.registration = Some(Registration::default());
        });
        let home = Home::new();
        let (address, _) = agree(&mut login_at(&home, &server.issuer(), &[]));
        assert_eq!(value(&address, "resource"), "");
        let document = home.document();
        assert_eq!(document["issuer"], server.issuer());
        assert_eq!((&document["resource"], &document["resource_metadata"]), (&Value::Null, &Value::Null));
        assert!(asked(&server).len() <= MOST_REQUESTS);
        assert_eq!(server.counts().unexpected, 0);
    }
}

#[test]
fn an_address_without_anything_is_answered_with_all_that_was_asked() {
    let server = server(|settings| {
        (settings.serves_oauth_metadata, settings.serves_openid_configuration) = (false, false);
    });
    let home = Home::new();
    let address = format!("{}/api", server.origin());
    let ran = run(&mut login_at(&home, &address, &[]));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    let what = format!(
        "onegrant: cannot find the authorization server of {address}: status 404, and no metadata at "
    );
    assert!(ran.stderr.starts_with(&what), "{ran:?}");
    let asked = asked(&server);
    assert!(asked.len() <= 7, "{asked:?}");
    for path in asked.iter().filter_map(|request| request.strip_prefix("GET ")) {
        assert!(ran.stderr.contains(&format!("{}{path} (status 404)", server.origin())), "{path} in {ran:?}");
    }
    assert!(ran.stderr.contains("\nhint: onegrant login --no-open --token-endpoint URL "), "{ran:?}");
    assert_eq!(home.names(), Vec::<String>::new());
    assert_eq!(server.counts().unexpected, 0);
}

/// A challenge that names metadata says that this is a resource with metadata. It may be wrong about that, but what is there
/// instead has to be nothing.
#[test]
fn metadata_that_a_challenge_names_may_be_missing_and_must_not_be_broken() {
    for status in [401, 403, 404, 410] {
        let server = resource_server(|_| {});
        server.always(Endpoint::ResourceMetadata, Fault::status(status));
        let document = resource_at(&server, &server.url(Endpoint::Resource));
        assert_eq!(
            (&document["issuer"], &document["resource_metadata"]),
            (&json!(server.issuer()), &Value::Null)
        );
        assert_eq!(document["scope"], "read offline_access", "that of the challenge");
    }
    for status in [200, 302] {
        let server = resource_server(|_| {});
        server.always(Endpoint::ResourceMetadata, Fault::status(status));
        let ran = run(&mut login(&Home::new(), &server, &[]));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert_eq!(asked(&server), [PROBE, INSERTED, ROOT]);
    }
}
