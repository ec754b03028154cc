//! What a login at the address of a resource asks for, and for which resource.

use super::*;
use crate::support::authorization_server::{RefreshTokens, ResourceParameter};
use servers::closed_port::ClosedPort;

/// The scope that a login asks for.
#[track_caller]
fn asked_scope(server: &AuthorizationServer, options: &[&str]) -> Option<String> {
    let home = Home::new();
    let (address, _) = agree(&mut login(&home, server, options));
    let scope = query(&address).into_iter().find_map(|(name, value)| (name == "scope").then_some(value));
    let document = document_of(&home, &profile_name(server));
    assert_eq!(document["scope"].as_str(), scope.as_deref());
    let registered = server.clients().pop().and_then(|client| client.scope);
    assert_eq!(registered, scope, "a client is registered for what the login asks for");
    assert_eq!(server.counts().unexpected, 0);
    scope
}

/// The scope of the challenge, those of the resource's metadata, those of the issuer.
type Scopes = (Option<&'static str>, &'static [&'static str], &'static [&'static str]);

#[test]
fn the_scope_is_of_the_person_else_of_the_challenge_else_of_the_metadata_else_none() {
    let lasting = &["openid", "offline_access", "read", "write"][..];
    // (scopes, options, what the login asks for)
    let cases: [(Scopes, &[&str], Option<&str>); 12] = [
        ((Some("write"), &["read"], &[]), &[], Some("write")),
        ((Some("write"), &["read"], &[]), &["--scope", "email"], Some("email")),
        ((Some(" write  read "), &[], &[]), &[], Some("write read")),
        ((None, &["read", "write"], &[]), &[], Some("read write")),
        ((None, &[], &[]), &[], None),
        // The issuer's list is for all its resources. Only `offline_access` is taken from it, and never alone.
        ((None, &[], lasting), &[], None),
        ((Some(""), &[], lasting), &[], None),
        ((Some("read"), &["write"], lasting), &[], Some("read offline_access")),
        ((None, &["read", "write"], lasting), &[], Some("read write offline_access")),
        ((Some("offline_access read"), &[], lasting), &[], Some("offline_access read")),
        ((None, &["read"], &["read", "write"]), &[], Some("read")),
        // A set that a person gave is sent as it is.
        ((Some("write"), &["write"], lasting), &["--scope", "read"], Some("read")),
    ];
    for ((challenge, of_resource, of_issuer), options, wanted) in cases {
        let server = resource_server(|settings| {
            settings.resources[0].challenge_scope = challenge.map(str::to_owned);
            settings.resources[0].scopes = of_resource.iter().map(|scope| (*scope).to_owned()).collect();
            let listed = if of_issuer.is_empty() { Value::Null } else { json!(of_issuer) };
            settings.metadata_members = json!({ "scopes_supported": listed });
        });
        let scope = asked_scope(&server, options);
        assert_eq!(scope.as_deref(), wanted, "{challenge:?} {of_resource:?} {of_issuer:?} {options:?}");
    }
}

/// OpenID Connect Core section 11: without consent there is no refresh token.
#[test]
fn the_scope_that_a_login_adds_brings_a_refresh_token() {
    let server = resource_server(|settings| settings.refresh_tokens = RefreshTokens::WithOfflineAccess);
    let home = Home::new();
    let (address, _) = agree(&mut login(&home, &server, &[]));
    assert_eq!(
        (value(&address, "scope").as_str(), value(&address, "prompt").as_str()),
        ("read offline_access", "consent")
    );
    assert!(document_of(&home, &profile_name(&server))["session"]["refresh_token"].is_string());
    let (address, _) = agree(&mut login(&home, &server, &["--param", "prompt=login"]));
    assert_eq!(query(&address).iter().filter(|(name, _)| name == "prompt").count(), 1);
}

/// RFC 8707 section 2.
#[test]
fn every_request_names_the_resource() {
    let server = resource_server(|settings| {
        settings.resource_parameter = ResourceParameter::Required;
        settings.requires_pushed_requests = true;
    });
    let resource = server.url(Endpoint::Resource);
    let home = Home::new();
    agree(&mut login(&home, &server, &[]));
    assert_eq!(home.run(&["--for", &resource, "refresh"]).code, 0);
    server.adjust(|settings| (settings.requires_pushed_requests, settings.auto_approve) = (false, true));
    let (address, _) = agree(&mut login(&home, &server, &[]));
    assert_eq!(value(&address, "resource"), resource);
    assert_eq!(run(&mut home.command(&["login", &resource, "--device"])).code, 0);
    assert_eq!(home.run(&["--for", &resource, "refresh"]).code, 0);
    for (endpoint, least) in
        [(Endpoint::PushedAuthorization, 1), (Endpoint::Token, 5), (Endpoint::DeviceAuthorization, 1)]
    {
        let requests = server.requests_to(endpoint);
        assert!(requests.len() >= least, "{endpoint:?}");
        for request in requests {
            let named: Vec<_> = request.parameters.iter().filter(|(name, _)| name == "resource").collect();
            assert_eq!(named.len(), 1, "{endpoint:?}");
            assert_eq!(named[0].1, resource, "{endpoint:?}");
        }
    }
    assert_eq!(server.counts().unexpected, 0);
}

/// The resources that the authorization request of a login names.
fn named(address: &str) -> Vec<String> {
    query(address).into_iter().filter(|(name, _)| name == "resource").map(|(_, value)| value).collect()
}

/// Entra refuses the parameter. The option is stored.
#[test]
fn no_resource_is_named_if_a_person_says_so() {
    let server = resource_server(|settings| settings.resource_parameter = ResourceParameter::Refused);
    let home = Home::new();
    let resource = server.url(Endpoint::Resource);
    let (process, address) = start(&mut login(&home, &server, &[]));
    assert_eq!(named(&address), [resource.as_str()]);
    get(&redirect(&address));
    let ran = process.finish();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("invalid_target: this server takes no resource\nhint: onegrant "), "{ran:?}");
    assert_eq!(home.names(), Vec::<String>::new());

    let address = run_hint(&home, &ran, &[]);
    assert_eq!(named(&address), Vec::<String>::new());
    let name = profile_name(&server);
    let document = document_of(&home, &name);
    assert_eq!((&document["no_resource"], &document["resource"]), (&json!(true), &json!([resource])));
    // It stays so, and the profile is still that of the resource.
    assert_eq!(home.run(&["--for", &resource, "refresh"]).code, 0);
    for arguments in [&["login", &resource, "--no-open"][..], &["--for", &resource, "login", "--no-open"]] {
        let (address, _) = agree(&mut home.command(arguments));
        assert_eq!(named(&address), Vec::<String>::new());
        assert_eq!(document_of(&home, &name)["no_resource"], true);
    }
    assert!(
        server.requests_to(Endpoint::Token).iter().all(|request| request.parameter("resource").is_none())
    );
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_resource_that_a_person_names_takes_the_place_of_the_one_that_was_found() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let options = ["--resource", "https://a.example", "--resource", "https://b.example/x"];
    let (address, _) = agree(&mut login(&home, &server, &options));
    assert_eq!(named(&address), ["https://a.example", "https://b.example/x"]);
    let document = document_of(&home, &profile_name(&server));
    assert_eq!(document["resource"], json!(["https://a.example", "https://b.example/x"]));
    assert_eq!(home.run(&["--for", "https://b.example/x/y", "token"]).code, 0);
    assert_eq!(home.run(&["--for", &server.url(Endpoint::Resource), "token"]).code, 3);
    assert_eq!(server.counts().unexpected, 0);
}

/// RFC 6749 section 4.1.2.1, RFC 8707 section 2: the hint of each refusal is a login that works.
#[test]
fn a_refused_scope_or_resource_has_a_hint_that_works() {
    let server = resource_server(|settings| {
        settings.resources[0].challenge_scope = Some("admin".to_owned());
        settings.registration = Some(Registration { limits_scope: false, ..Registration::default() });
        settings.scopes = vec!["admin"];
    });
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    assert_eq!(value(&address, "scope"), "admin offline_access");
    server.adjust(|settings| settings.scopes = Vec::new());
    get(&redirect(&address));
    let ran = process.finish();
    assert!(ran.code == 2 && ran.stderr.contains("the request was refused: invalid_scope"), "{ran:?}");
    assert_eq!(home.names(), Vec::<String>::new());
    let address = run_hint(&home, &ran, &[("\"A B\"", "read")]);
    assert_eq!(value(&address, "scope"), "read");

    // The registration is refused for the same reason.
    let home = Home::new();
    let ran = run(&mut login(&home, &server, &[]));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(
        ran.stderr.contains("cannot register a client at ") && ran.stderr.contains("\nhint: "),
        "{ran:?}"
    );
    assert_eq!(home.names(), Vec::<String>::new());
}

/// The stored scope of an earlier login does not narrow what the resource demands now, and a client that is registered for less
/// is not used for it.
#[test]
fn a_second_login_asks_for_what_the_resource_demands_then() {
    let server = resource_server(|_| {});
    let (home, reserved) = (Home::new(), ClosedPort::reserve());
    let port = reserved.number().to_string();
    for (demanded, registrations) in [("read", 1), ("read write", 2), ("write", 2), ("read email", 3)] {
        server.adjust(|settings| settings.resources[0].challenge_scope = Some(demanded.to_owned()));
        let (address, _) = agree(&mut login(&home, &server, &["--redirect-port", &port]));
        assert_eq!(value(&address, "scope"), format!("{demanded} offline_access"));
        assert_eq!(
            (server.counts().registrations, server.counts().unexpected),
            (registrations, 0),
            "{demanded}"
        );
    }
}

/// RFC 6750 section 3.1: a refresh cannot widen the scope, so the hint is a login, and the client is registered for it.
#[test]
fn the_hint_after_insufficient_scope_is_a_login_that_brings_the_scope() {
    let server =
        resource_server(|settings| settings.resources[0].challenge_scope = Some("openid".to_owned()));
    let home = Home::new();
    let resource = server.url(Endpoint::Resource);
    agree(&mut login(&home, &server, &["--scope", "read"]));
    server.reset_counts();
    let ran = home.run(&["--for", &resource, "whoami"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.stderr.contains("wants the scope \"openid\"") && ran.stderr.contains(" --scope 'read openid'"),
        "{ran:?}"
    );
    assert_eq!(server.counts().refreshes, 0, "a refresh would not help");
    let address = run_hint(&home, &ran, &[]);
    assert_eq!(value(&address, "scope"), "read openid");
    assert_eq!(home.run(&["--for", &resource, "whoami"]).code, 0);
    assert_eq!(server.counts().unexpected, 0);
}
