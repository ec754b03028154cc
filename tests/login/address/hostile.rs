//! Servers that are slow or exaggerate, that refuse the client on their own page, or no longer register any; and options that
//! mean a client which is not named.

use super::*;
use std::time::Duration;

/// The end of a session is a courtesy: the login needs no answer to it.
#[test]
fn a_server_that_does_not_answer_the_end_of_a_session_does_not_end_the_login() {
    let server = resource_server(|settings| {
        (settings.resources[0].initializes_all, settings.resources[0].begins_sessions) = (true, true);
    });
    server.script(Endpoint::Resource, [Fault::Delay(Duration::ZERO), Fault::StallBefore]);
    let home = Home::new();
    let address = server.url(Endpoint::Resource);
    agree(&mut home.command(&["--timeout", "8", "login", &address, "--no-open"]));
    assert_eq!(asked(&server)[3..5], ["DELETE /mcp", "POST /register"]);
    assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0));
}

/// A browser takes an address of some thousand bytes, and the argument of a program is no longer than 128 KiB.
#[test]
fn a_long_list_of_scopes_makes_no_address_that_is_too_long_to_open() {
    let long = (0..500).map(|number| format!("scope:{number}:{}", "x".repeat(200)));
    let scopes: Vec<&str> = long.map(|scope| &*scope.leak()).collect();
    for is_in_challenge in [false, true] {
        let server = resource_server(|settings| {
            settings.scopes.clone_from(&scopes);
            let resource = &mut settings.resources[0];
            resource.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            resource.challenge_scope = is_in_challenge.then(|| scopes[..30].join(" "));
        });
        let (_process, address) = start(&mut login(&Home::new(), &server, &[]));
        let scope = value(&address, "scope");
        let asked: Vec<&str> = scope.split(' ').collect();
        assert!(scope.len() < 4096 + " offline_access".len() && asked.len() > 10, "{}", scope.len());
        let (last, of_resource) = asked.split_last().unwrap();
        assert_eq!((of_resource, *last), (&scopes[..of_resource.len()], "offline_access"));
        assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0));
    }
}

#[test]
fn long_addresses_of_a_server_are_shown_in_part() {
    let long = "a".repeat(4000);
    let issuers: Vec<String> = (0..4).map(|number| format!("ORIGIN/{number}/{long}")).collect();
    let server = resource_server(|settings| {
        settings.resources[0].metadata =
            Some(json!({ "resource": "ORIGIN/mcp", "authorization_servers": issuers }));
    });
    let home = Home::new();
    for arguments in [&["-v", "login"][..], &["doctor"]] {
        let ran = home.run(&[arguments, &[&server.url(Endpoint::Resource)]].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains("(not asked: 7 requests are the most)") || arguments == ["doctor"]);
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!text.contains(&long[..300]), "{text}");
    }
}

/// RFC 6749 section 4.1.2.1: a login made the client, so another login can make another one.
#[test]
fn a_registered_client_that_the_server_refuses_in_the_browser_leads_to_another_registration() {
    let server = resource_server(|_| {});
    let home = Home::new();
    for (error, code) in [("unauthorized_client", 2), ("invalid_client", 3)] {
        let (process, address) = start(&mut login(&home, &server, &[]));
        get(&answer_to(&address, &[("error", error), ("iss", &server.issuer())]));
        let ran = process.finish();
        let hint = format!(
            "hint: onegrant --profile {} login {} --no-open --register   # or --client-id ID: a client of your own that \
             this server accepts\n",
            profile_name(&server),
            server.url(Endpoint::Resource)
        );
        assert!(ran.code == code && ran.stderr.ends_with(&hint), "{ran:?}");
    }
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (0, 0));
}

#[test]
fn what_the_server_answered_is_said_even_if_the_store_cannot_take_a_note_of_it() {
    let server = resource_server(|_| {});
    let home = Home::new();
    agree(&mut login(&home, &server, &[]));
    let document = home.state.join(format!("{}.json", profile_name(&server)));
    let (process, address) = start(&mut login(&home, &server, &[]));
    std::fs::write(&document, "no document").unwrap();
    get(&answer_to(&address, &[("error", "access_denied"), ("iss", &server.issuer())]));
    let ran = process.finish();
    assert!(ran.code == 3 && ran.stderr.contains("the request was refused: access_denied\n"), "{ran:?}");
    assert!(ran.stderr.contains("onegrant: warning: cannot use "), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&document).unwrap(), "no document");
    assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0));
}

/// What the metadata says now counts, not what the stored registration says about the server of that time.
#[test]
fn a_server_that_has_closed_its_registration_gets_no_request_for_one() {
    let server = resource_server(|_| {});
    let home = Home::new();
    agree(&mut login(&home, &server, &[]));
    server.adjust(|settings| settings.metadata_members = json!({ "registration_endpoint": null }));
    server.reset_counts();

    // The stored client is refused.
    let (process, address) = start(&mut login(&home, &server, &[]));
    server.script(Endpoint::Token, [Fault::error(401, "invalid_client")]);
    get(&redirect(&address));
    let ran = process.finish();
    let hint = "login --no-open --client-id ID   # the identifier of an application that you have registered there\n";
    assert!(ran.code == 2 && ran.stderr.ends_with(hint), "{ran:?}");
    assert!(ran.stderr.contains("the server refused: invalid_client"), "{ran:?}");

    // That login has brought nothing, so the stored client is not used again.
    let ran = run(&mut login(&home, &server, &[]));
    assert!(ran.code == 2 && ran.stderr.contains("registers only programs that it knows"), "{ran:?}");
    let counts = server.counts();
    assert_eq!((counts.registrations, counts.token_requests, counts.unexpected), (0, 1, 0));
}

/// Many hosts refuse the requests of servers (draft-ietf-oauth-client-id-metadata-document section 5), and the client hears
/// `invalid_client`.
#[test]
fn a_server_that_cannot_read_the_document_of_the_client_can_register_another_client() {
    let server = resource_server(|settings| settings.address_clients = true);
    let home = Home::new();
    let metadata_url = server.url(Endpoint::ClientMetadata);
    let options = ["--client-metadata-url", metadata_url.as_str()];
    for (metadata, words) in [
        (json!({}), "--no-open --register   # a client that needs no client metadata document\n".to_owned()),
        (
            json!({ "registration_endpoint": null }),
            format!("{} --no-open --client-id ID   # the identifier of an application ", options.join(" ")),
        ),
    ] {
        server.adjust(|settings| settings.metadata_members = metadata);
        let (process, address) = start(&mut login(&home, &server, &options));
        assert_eq!(value(&address, "client_id"), options[1]);
        server.script(Endpoint::Token, [Fault::error(401, "invalid_client")]);
        get(&redirect(&address));
        let ran = process.finish();
        let hint = format!(
            "hint: onegrant --profile {} login {} {words}",
            profile_name(&server),
            server.url(Endpoint::Resource)
        );
        assert!(ran.code == 2 && ran.stderr.contains(&hint), "{ran:?}");
    }
    assert_eq!(server.counts().registrations, 0);
    // The hint.
    server.adjust(|settings| settings.metadata_members = json!({}));
    let (address, _) = agree(&mut login(&home, &server, &["--register"]));
    assert_eq!(value(&address, "client_id"), server.clients()[0].client_id);
    // With both options.
    let (address, _) = agree(&mut login(&home, &server, &[&options[..], &["--register"]].concat()));
    assert_eq!(value(&address, "client_id"), server.clients()[1].client_id);
    assert_eq!((server.counts().registrations, server.counts().unexpected), (2, 0));
}

#[test]
fn options_that_mean_a_known_client_register_none() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let secret = home.root.join("secret");
    std::fs::write(&secret, "s3cret").unwrap();
    let secret = secret.to_str().unwrap();
    let cases: [&[&str]; 3] =
        [&["--client-secret-file", secret], &["--client-credentials"], &["--refresh-token-stdin"]];
    for options in cases {
        let ran = run(&mut login(&home, &server, options));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.starts_with("onegrant: cannot log in: --client-id is missing\n"), "{ran:?}");
        assert!(ran.stderr.contains(" --client-id ID   # the identifier that the server gave "), "{ran:?}");
    }
    assert_eq!((server.counts().registrations, server.counts().unexpected), (0, 0));
    assert_eq!(server.requests_to(Endpoint::Authorization), []);
}
