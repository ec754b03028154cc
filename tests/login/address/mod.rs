//! `onegrant login ADDRESS`: what is at the address, which client logs in there, and what it asks for.

mod bad_input;
mod client;
mod doctor;
mod finding;
mod hostile;
mod named_addresses;
mod profiles;
mod registration;
mod scope_and_resource;

pub use crate::browser::fake_browser::*;
pub use crate::support::authorization_server::{ProtectedResource, Registration};
pub use crate::support::*;
pub use serde_json::{Value, json};
use std::process::Command;

/// The most requests of a login before the browser opens.
const MOST_REQUESTS: usize = 9;

/// The requests of a login at the usual resource before the browser opens.
const USUAL: [&str; 4] = [
    "POST /mcp",
    "GET /.well-known/oauth-protected-resource/mcp",
    "GET /.well-known/oauth-authorization-server",
    "POST /register",
];

/// A server that has a resource at `/mcp` and registers clients, with these settings that differ.
fn resource_server(change: impl FnOnce(&mut Settings)) -> AuthorizationServer {
    server(|settings| {
        settings.resources = vec![ProtectedResource::at("/mcp")];
        settings.registration = Some(Registration::default());
        change(settings);
    })
}

/// A login with a browser at the resource, without anything but its address and these options.
fn login(home: &Home, server: &AuthorizationServer, more: &[&str]) -> Command {
    login_at(home, &server.url(Endpoint::Resource), more)
}

/// A login with a browser at any address.
fn login_at(home: &Home, address: &str, more: &[&str]) -> Command {
    let mut command = home.command(&["login", address, "--no-open"]);
    command.args(more);
    command
}

/// A person agrees in the browser. The login has to succeed. Gives the address that the browser opened.
#[track_caller]
fn agree(command: &mut Command) -> (String, Ran) {
    let (process, address) = start(command);
    assert_eq!(get(&redirect(&address)).status, 200);
    let ran = process.finish();
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    (address, ran)
}

/// Method and path of every request that came.
fn asked(server: &AuthorizationServer) -> Vec<String> {
    server.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

/// The name of the profile of a resource on this server, if no other grant has it.
fn profile_name(server: &AuthorizationServer) -> String {
    server.origin().replace("http://", "").replace(':', "-")
}

/// The document of this profile.
#[track_caller]
fn document_of(home: &Home, profile: &str) -> Value {
    let path = home.state.join(format!("{profile}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The names of the profiles in the store, sorted.
fn profiles(home: &Home) -> Vec<String> {
    let names = home.names().into_iter();
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    names.sort();
    names
}

/// Runs the hint of a failure in a shell, with its place holders filled in. A person agrees to that login in the browser. Gives
/// the address that the browser opened.
#[track_caller]
fn run_hint(home: &Home, ran: &Ran, values: &[(&str, &str)]) -> String {
    let hint = ran.stderr.split_once("hint: onegrant ").unwrap().1;
    let command = hint.split("   #").next().unwrap().trim();
    let filled = values.iter().fold(format!(" {command} "), |command, (name, value)| {
        assert!(command.contains(&format!(" {name} ")), "{name} in {hint}");
        command.replace(&format!(" {name} "), &format!(" {value} "))
    });
    let no_open = if filled.contains(" --no-open ") { "" } else { "--no-open" };
    let script = format!("exec \"$0\"{filled}{no_open}");
    agree(&mut wrapped("/bin/sh", &["-c", &script], &home.command(&[]))).0
}

#[test]
fn an_address_and_a_person_who_agrees_are_enough() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let (resource, name) = (server.url(Endpoint::Resource), profile_name(&server));
    let (process, address) = start(&mut login(&home, &server, &[]));
    assert_eq!(asked(&server), USUAL);
    assert_eq!(process.said(), format!("open  {address}\n"));
    assert_eq!(home.names(), Vec::<String>::new(), "nothing is stored before the person agrees");
    assert_eq!(get(&redirect(&address)).status, 200);
    let ran = process.finish();
    let said = format!("open  {address}\nonegrant: logged in: profile {name}, access token valid until ");
    assert!(ran.code == 0 && ran.stdout.is_empty() && ran.stderr.starts_with(&said), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 2, "{ran:?}");

    let client = server.clients().remove(0);
    let document = document_of(&home, &name);
    assert_eq!(profiles(&home), [name.as_str()]);
    assert_eq!(document["issuer"], server.issuer());
    assert_eq!(document["client_id"], client.client_id);
    assert_eq!((&document["client_auth"], &document["client_secret"]), (&json!("none"), &Value::Null));
    assert_eq!(document["resource"], json!([resource]));
    assert_eq!(document["resource_metadata"], server.url(Endpoint::ResourceMetadata));
    let registration = document["registration"].as_object().unwrap();
    let names: Vec<&str> = registration.keys().map(String::as_str).collect();
    assert_eq!(names, ["endpoint", "issuer", "redirect_uri", "registered_at"]);
    assert_eq!(registration["issuer"], server.issuer());
    assert_eq!(registration["endpoint"], server.url(Endpoint::Registration));
    assert_eq!(registration["redirect_uri"], value(&address, "redirect_uri"));

    // The token is for the resource and is found by its address.
    let token = document["session"]["access_token"].as_str().unwrap().to_owned();
    assert_eq!(server.resources_of(&token), Some(vec![resource.clone()]));
    assert_eq!(home.run(&["--for", &resource, "token"]), Ran::printed(&token));
    let refreshed = home.run(&["--for", &resource, "refresh"]);
    assert_eq!(refreshed.code, 0, "{refreshed:?}");
    let counts = server.counts();
    assert_eq!((counts.registrations, counts.token_requests, counts.rotations), (1, 2, 1));
    assert_eq!(counts.unexpected, 0);
}

/// Each detour that a server can cause, alone and together with the others.
#[test]
fn a_login_makes_at_most_nine_requests_before_the_browser_opens_and_says_which() {
    type Detour = fn(&mut Settings);
    let detours: [Detour; 5] = [
        |settings| {
            let resource = ProtectedResource::without_metadata("/mcp");
            settings.resources =
                vec![ProtectedResource { begins_sessions: true, initializes_all: true, ..resource }];
        },
        |settings| settings.serves_oauth_metadata = false,
        |settings| settings.requires_pushed_requests = true,
        |settings| {
            let registration = Registration { refuses_addresses: true, ..Registration::default() };
            settings.registration = Some(registration);
        },
        |settings| settings.resources[0].challenges = Some(Vec::new()),
    ];
    for chosen in 0..1 << detours.len() {
        let server = resource_server(|settings| {
            let chosen = detours.iter().enumerate().filter(|(number, _)| chosen & (1 << number) != 0);
            chosen.for_each(|(_, detour)| detour(settings));
        });
        let home = Home::new();
        let mut process =
            Process::start(&mut home.command(&["-v", "login", &server.url(Endpoint::Resource), "--no-open"]));
        wait_for("the browser, or the end", || {
            process.said().contains("open  ") || process.said().contains("hint: ")
        });
        let said = process.said();
        let requests = server.requests();
        assert!(requests.len() <= MOST_REQUESTS, "{chosen:b}: {:?}", asked(&server));
        for request in &requests {
            let url = format!("{}{}", server.origin(), request.path);
            assert!(said.contains(&url), "{chosen:b}: {url} in {said}");
        }
        assert_eq!(server.counts().unexpected, 0, "{chosen:b}");
        // A server that takes no numeric address, and has used up the requests.
        if process.is_over() {
            assert!(
                said.contains("invalid_redirect_uri") && requests.len() >= MOST_REQUESTS - 1,
                "{chosen:b}: {said}"
            );
            assert_eq!(home.names(), Vec::<String>::new());
        }
    }
}

#[test]
fn a_verbose_login_says_each_request_and_its_answer() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let (_, ran) = agree(&mut home.command(&["-v", "login", &server.url(Endpoint::Resource), "--no-open"]));
    let lines = |text: &str| ran.stderr.lines().filter(|line| line.contains(text)).count();
    for request in &USUAL[..3] {
        let (method, path) = request.split_once(' ').unwrap();
        let request = format!("{method} {}{path}: ", server.origin());
        assert_eq!(lines(&request), 1, "{request} in {}", ran.stderr);
    }
    assert_eq!(
        lines(&format!("registered a client at {}", server.url(Endpoint::Registration))),
        1,
        "{ran:?}"
    );
}
