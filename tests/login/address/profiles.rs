//! The profile of a resource: its name, who has it already, and how it is found again.

use super::*;
use servers::closed_port::ClosedPort;

/// Two resources on one server.
fn two_resources() -> AuthorizationServer {
    resource_server(|settings| settings.resources.push(ProtectedResource::at("/v2/mcp")))
}

fn token_of(home: &Home, profile: &str) -> String {
    document_of(home, profile)["session"]["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn a_second_resource_of_one_host_has_a_profile_with_its_path() {
    let server = two_resources();
    let home = Home::new();
    let (one, two) = (server.url(Endpoint::Resource), format!("{}/v2/mcp", server.origin()));
    let name = profile_name(&server);
    let names = [name.clone(), format!("{name}-v2-mcp")];
    let reserved = [ClosedPort::reserve(), ClosedPort::reserve()];
    let ports = reserved.each_ref().map(|port| port.number().to_string());
    for ((resource, name), port) in [&one, &two].into_iter().zip(&names).zip(&ports) {
        let (_, ran) = agree(&mut login_at(&home, resource, &["--redirect-port", port]));
        assert!(ran.stderr.contains(&format!("onegrant: logged in: profile {name}, ")), "{ran:?}");
    }
    assert_eq!(profiles(&home), names);
    // A token for one is never given for the other.
    for (resource, name) in [&one, &two].into_iter().zip(&names) {
        let token = token_of(&home, name);
        assert_eq!(server.resources_of(&token), Some(vec![resource.clone()]));
        for below in ["", "/", "/x?y=1"] {
            assert_eq!(home.run(&["--for", &format!("{resource}{below}"), "token"]), Ran::printed(&token));
        }
    }
    let ran = home.run(&["--for", &format!("{}/v2", server.origin()), "token"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.ends_with(&format!("\nhint: onegrant login {}/v2\n", server.origin())), "{ran:?}");

    // Each resource keeps its profile, in any order.
    for (resource, name) in [(&two, &names[1]), (&one, &names[0])] {
        let before = token_of(&home, name);
        agree(&mut login_at(&home, resource, &[]));
        assert_ne!(token_of(&home, name), before);
        assert_eq!(profiles(&home), names);
    }
    assert_eq!((server.counts().registrations, server.counts().unexpected), (2, 0));
}

#[test]
fn a_name_that_another_grant_has_is_not_taken() {
    let server = resource_server(|_| {});
    let name = profile_name(&server);
    let resource = server.url(Endpoint::Resource);
    // Of a person who chose this name for a grant of an issuer, and files that are no document.
    let issued = server.issue_grant();
    let grant = document(&server, &issued, LIFETIME).to_string();
    for content in [grant.as_str(), "", "{\"version\":1", "[]"] {
        let home = Home::new();
        let path = home.state.join(format!("{name}.json"));
        home.write_bytes(content.as_bytes());
        std::fs::rename(home.document_path(), &path).unwrap();
        let (_, ran) = agree(&mut login(&home, &server, &[]));
        assert!(
            ran.stderr.contains(&format!("onegrant: logged in: profile {name}-mcp, ")),
            "{content}: {ran:?}"
        );
        assert_eq!(profiles(&home), [name.clone(), format!("{name}-mcp")]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "it is as it was");
    }
    assert_eq!(server.counts().unexpected, 0);

    // All its names.
    let home = Home::new();
    let mut taken = Vec::new();
    while taken.len() < 3 {
        agree(&mut login(&home, &server, &[]));
        let name = profiles(&home).into_iter().find(|name| !taken.contains(name)).unwrap();
        home.write_bytes(grant.as_bytes());
        std::fs::rename(home.document_path(), home.state.join(format!("{name}.json"))).unwrap();
        taken.push(name);
    }
    let before = (home.names(), server.counts().registrations);
    let ran = run(&mut login(&home, &server, &[]));
    let says = format!(
        "onegrant: cannot log in: other grants have the names of the profile for {resource}\nhint: onegrant "
    );
    assert!(ran.code == 2 && ran.stderr.starts_with(&says), "{ran:?}");
    assert_eq!((home.names(), server.counts().registrations), before);
    run_hint(&home, &ran, &[("NAME", "mine")]);
    assert_eq!(document_of(&home, "mine")["resource"], json!([resource]));
}

#[test]
fn a_profile_that_a_person_names_wins() {
    let server = resource_server(|_| {});
    let resource = server.url(Endpoint::Resource);
    let home = Home::new();
    let (_, ran) = agree(&mut home.command(&["--profile", "work", "login", &resource, "--no-open"]));
    assert!(ran.stderr.contains("onegrant: logged in: profile work, "), "{ran:?}");
    let mut command = home.command(&["login", &resource, "--no-open"]);
    agree(command.env("ONEGRANT_PROFILE", "home"));
    agree(&mut home.command(&["--profile", "default", "login", &resource, "--no-open"]));
    assert_eq!(profiles(&home), ["default", "home", "work"]);
    assert_eq!(server.counts().unexpected, 0);
}

/// The variable may stay set in a shell. A login at another server must not end the grant of the resource that it names.
#[test]
fn a_login_at_another_server_does_not_take_the_profile_that_for_means() {
    let (server, other) = (resource_server(|_| {}), server(|settings| settings.auto_approve = true));
    let home = Home::new();
    let (resource, name) = (server.url(Endpoint::Resource), profile_name(&server));
    agree(&mut login(&home, &server, &[]));
    let before = document_of(&home, &name);
    let mut command = home.command(&["login", &other.issuer(), "--client-id", other.client_id(), "--device"]);
    let ran = run(command.env("ONEGRANT_FOR", &resource));
    let text = format!(
        "onegrant: cannot log in: --for (or ONEGRANT_FOR) means the grant for {resource}, not one of {0}\n\
         hint: onegrant login {0} --profile NAME   # instead of --for\n",
        other.issuer()
    );
    assert_eq!(ran, Ran::failed(2, text));
    assert_eq!((document_of(&home, &name), profiles(&home)), (before, vec![name.clone()]));
    assert_eq!((other.counts().token_requests, other.counts().unexpected), (0, 0));
    // At the issuer of the resource it is the same grant.
    let mut command = home.command(&["login", &server.issuer(), "--no-open"]);
    agree(command.env("ONEGRANT_FOR", &resource));
    assert_eq!(profiles(&home), [name]);
}

/// A profile with no grant in it is free.
#[test]
fn the_name_of_a_profile_that_was_logged_out_is_used_again() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let (resource, name) = (server.url(Endpoint::Resource), profile_name(&server));
    agree(&mut login(&home, &server, &[]));
    assert_eq!(home.run(&["--for", &resource, "logout"]).code, 0);
    assert_eq!(home.run(&["--for", &resource, "token"]).code, 3);
    agree(&mut login(&home, &server, &[]));
    assert_eq!(profiles(&home), [name]);
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn the_result_of_a_login_for_a_program_has_the_profile_and_the_resource() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let process = Process::start(&mut login(&home, &server, &["--json"]));
    wait_for("an event", || process.printed().ends_with('\n'));
    let asked: Value = serde_json::from_str(&process.printed()).unwrap();
    get(&redirect(asked["authorization_uri"].as_str().unwrap()));
    let ran = process.finish();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let done: Value = serde_json::from_str(ran.stdout.lines().nth(1).unwrap()).unwrap();
    assert_eq!(done["profile"], profile_name(&server));
    assert_eq!(
        (&done["resource"], &done["issuer"]),
        (&json!([server.url(Endpoint::Resource)]), &json!(server.issuer()))
    );
}

/// Two terminals: one client each, and one grant that is kept.
#[test]
fn of_two_first_logins_at_one_resource_one_is_kept() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let (first, first_address) = start(&mut login(&home, &server, &[]));
    let (second, second_address) = start(&mut login(&home, &server, &[]));
    get(&redirect(&second_address));
    assert_eq!(second.finish().code, 0);
    let name = profile_name(&server);
    let kept = document_of(&home, &name);
    get(&redirect(&first_address));
    let ran = first.finish();
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains(&format!("another login of profile {name}, begun at ")), "{ran:?}");
    assert_eq!((document_of(&home, &name), profiles(&home)), (kept, vec![name]));
    assert_eq!((server.counts().revocations, server.counts().unexpected), (1, 0), "the other one is revoked");
}
