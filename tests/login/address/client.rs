//! Which client logs in: one that a person names, one with an address, a stored one, a new one, or none.

use super::*;

/// The client of a login with these options at this server, and how many clients it registered.
#[track_caller]
fn client_of(server: &AuthorizationServer, options: &[&str]) -> (String, u64) {
    let home = Home::new();
    let (address, _) = agree(&mut login(&home, server, options));
    let document = document_of(&home, &profile_name(server));
    assert_eq!(document["client_id"], value(&address, "client_id"));
    assert_eq!(home.run(&["--for", &server.url(Endpoint::Resource), "refresh"]).code, 0);
    assert_eq!(server.counts().unexpected, 0);
    (value(&address, "client_id"), server.counts().registrations)
}

#[test]
fn a_client_that_a_person_names_is_the_first_choice() {
    let server = resource_server(|settings| settings.address_clients = true);
    let metadata_url = server.url(Endpoint::ClientMetadata);
    let named = ["--client-id", server.client_id(), "--client-metadata-url", &metadata_url];
    assert_eq!(client_of(&server, &named), (server.client_id().to_owned(), 0));
    assert_eq!(client_of(&server, &named[..2]), (server.client_id().to_owned(), 0));
    assert_eq!(server.requests_to(Endpoint::ClientMetadata), [], "it is not fetched");
}

/// draft-ietf-oauth-client-id-metadata-document.
#[test]
fn a_client_with_an_address_is_used_where_the_server_announces_that_it_takes_one() {
    let server = resource_server(|settings| settings.address_clients = true);
    let metadata_url = server.url(Endpoint::ClientMetadata);
    let options = ["--client-metadata-url", metadata_url.as_str()];
    assert_eq!(client_of(&server, &options), (metadata_url.clone(), 0));
    // It is stored: the next login needs no option, and has any port.
    let home = Home::new();
    let (first, _) = agree(&mut login(&home, &server, &options));
    let (second, _) = agree(&mut login(&home, &server, &[]));
    assert_eq!(value(&second, "client_id"), metadata_url);
    for address in [first, second] {
        assert!(value(&address, "redirect_uri").starts_with("http://127.0.0.1:"), "{address}");
    }
    let document = document_of(&home, &profile_name(&server));
    assert_eq!((&document["registration"], &document["client_auth"]), (&Value::Null, &json!("none")));
    assert_eq!((server.counts().registrations, server.counts().unexpected), (0, 0));

    // Without support.
    let server = resource_server(|_| {});
    let (client, registrations) = client_of(&server, &options);
    assert_eq!((client, registrations), (server.clients()[0].client_id.clone(), 1));
    let server = resource_server(|settings| settings.registration = None);
    let ran = run(&mut login(&Home::new(), &server, &options));
    assert!(ran.code == 2 && ran.stderr.contains("registers only programs that it knows"), "{ran:?}");
}

#[test]
fn the_address_of_a_client_that_cannot_be_one_is_refused() {
    let server = resource_server(|settings| settings.address_clients = true);
    for (url, why) in [
        ("https://app.example", "it has no path"),
        ("https://app.example/", "it has no path"),
        ("https://app.example/a/../client.json", "its path has a dot segment"),
        ("https://app.example/./client.json", "its path has a dot segment"),
        ("https://me:secret@app.example/client.json", "it holds a user name or a password"),
        ("https://app.example/client.json#x", "it has a fragment"),
        ("http://app.example/client.json", "plain http is for loopback addresses only"),
        ("client.json", "it does not begin with https://"),
    ] {
        let home = Home::new();
        let ran = run(&mut login(&home, &server, &["--client-metadata-url", url]));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{url}: {ran:?}");
        assert!(ran.stderr.contains(why) && !ran.stderr.contains("secret"), "{url}: {ran:?}");
        assert_eq!(home.names(), Vec::<String>::new());
    }
    assert_eq!(server.requests_to(Endpoint::Authorization), []);
    assert_eq!((server.counts().registrations, server.counts().unexpected), (0, 0));
}

/// GitHub, Slack, Google and Entra are here.
#[test]
fn a_server_without_registration_needs_a_client_of_one_s_own() {
    let server = resource_server(|settings| settings.registration = None);
    for options in [&[][..], &["--register"]] {
        let home = Home::new();
        let ran = run(&mut login(&home, &server, options));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        let says = match options {
            [] => {
                "onegrant: cannot log in: this server registers only programs that it knows, and no client is named\n"
            }
            _ => {
                "onegrant: cannot use --register: the server has no registration endpoint for this kind of login\n"
            }
        };
        assert!(ran.stderr.starts_with(says), "{ran:?}");
        assert_eq!(home.names(), Vec::<String>::new());
        if options.is_empty() {
            let address = run_hint(&home, &ran, &[("ID", server.client_id())]);
            assert_eq!(value(&address, "client_id"), server.client_id());
            assert_eq!(
                document_of(&home, &profile_name(&server))["resource"],
                json!([server.url(Endpoint::Resource)])
            );
        }
    }
    assert_eq!((server.requests_to(Endpoint::Registration).len(), server.counts().unexpected), (0, 0));
}

/// RFC 8628: this machine has no browser, so the login takes the device flow if the server lists it.
#[test]
fn without_a_browser_a_registered_client_takes_the_device_flow() {
    let device = "urn:ietf:params:oauth:grant-type:device_code";
    let server = resource_server(|settings| settings.auto_approve = true);
    let resource = server.url(Endpoint::Resource);
    for options in [&[][..], &["--device"]] {
        let home = Home::new();
        let ran = run(home.command(&["login", &resource]).args(options));
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
        let document = document_of(&home, &profile_name(&server));
        assert_eq!(document["login"]["flow"], "device");
        let client = server.clients().pop().unwrap();
        assert!(client.grant_types.iter().any(|grant_type| grant_type == device));
        assert_eq!(document["client_id"], client.client_id);
        let token = document["session"]["access_token"].as_str().unwrap();
        assert_eq!(server.resources_of(token), Some(vec![resource.clone()]));
        // A second login uses the client again.
        assert_eq!(run(&mut home.command(&["login", &resource])).code, 0);
        assert_eq!(document_of(&home, &profile_name(&server))["client_id"], client.client_id);
    }
    assert_eq!((server.counts().registrations, server.counts().unexpected), (2, 0));
    let polls = server.requests_to(Endpoint::Token);
    let begun = server.requests_to(Endpoint::DeviceAuthorization);
    for request in begun.iter().chain(&polls) {
        assert_eq!(request.parameter("resource"), Some(resource.as_str()));
    }
}

#[test]
fn a_server_that_does_not_list_the_device_flow_gets_a_client_for_browsers() {
    let grant_types = json!({ "grant_types_supported": ["authorization_code", "refresh_token"] });
    let server = resource_server(|settings| settings.metadata_members = grant_types);
    let resource = server.url(Endpoint::Resource);
    let home = Home::new();
    let (address, _) = agree(&mut home.command(&["login", &resource]));
    assert!(address.starts_with(&server.url(Endpoint::Authorization)), "{address}");
    assert_eq!(server.clients()[0].grant_types, ["authorization_code", "refresh_token"]);
    let ran = run(&mut Home::new().command(&["login", &resource, "--device"]));
    assert!(
        ran.code == 2 && ran.stderr.contains("the server announces no device authorization endpoint\nhint: "),
        "{ran:?}"
    );
    assert_eq!((server.counts().registrations, server.counts().device_requests), (1, 0));
    assert_eq!(server.counts().unexpected, 0);
}

/// A client that registers itself has no identity of its own that a server could trust.
#[test]
fn no_client_is_registered_for_a_login_without_a_person() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let resource = server.url(Endpoint::Resource);
    for options in [&["--client-credentials"][..], &["--subject-token", "env:TOKEN"]] {
        let ran = run(home.command(&["login", &resource]).args(options));
        assert!(ran.code == 2 && ran.stderr.contains("\nhint: "), "{ran:?}");
    }
    assert_eq!(server.requests_to(Endpoint::Registration), []);
    assert_eq!(home.names(), Vec::<String>::new());
    // A client that a person names can have a token for the resource.
    let secret = home.root.join("secret");
    std::fs::write(&secret, server.client_secret()).unwrap();
    let mut command = home.command(&["login", &resource, "--client-credentials", "--client-secret-file"]);
    let ran = run(command.arg(&secret).args(["--client-id", server.confidential_client_id()]));
    assert_eq!(ran.code, 0, "{ran:?}");
    let request = server.requests_to(Endpoint::Token).pop().unwrap();
    assert_eq!(request.parameter("resource"), Some(resource.as_str()));
    assert_eq!(server.counts().unexpected, 0);
}
