//! Where the browser comes back to, and how the request reaches the server.

use super::fake_browser::*;
use crate::support::*;
use onegrant::protocol::providers::{PROVIDERS, Redirect};
use servers::closed_port::ClosedPort;
use std::fs;
use std::net::{Ipv6Addr, TcpListener, TcpStream};

#[test]
fn a_port_that_is_in_use_is_reported() {
    let server = server(|_| {});
    let home = Home::new();
    let reserved = ClosedPort::reserve();
    let port = reserved.number().to_string();
    // The other process listens: a listener of this process would be open in every program that it starts meanwhile.
    let (other_login, _) = start(&mut login(&Home::new(), &server, &["--redirect-port", &port]));
    let text = format!(
        "onegrant: cannot listen on port {port} for the browser: Address already in use\nhint: onegrant \
         login {} --client-id {} --browser --redirect-port N   # one that the server knows; or --device\n",
        server.issuer(),
        server.client_id()
    );
    assert_eq!(run(&mut login(&home, &server, &["--redirect-port", &port])), Ran::failed(2, text));
    assert_eq!(server.requests_to(Endpoint::Authorization).len(), 0);
    drop(other_login);
    let (process, address) = start(&mut login(&home, &server, &["--redirect-port", &port]));
    assert_eq!(value(&address, "redirect_uri"), format!("http://127.0.0.1:{port}/callback"));
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    // The next login has it from the document.
    let (process, address) = start(&mut home.command(&["login", "--browser"]));
    assert_eq!(value(&address, "redirect_uri"), format!("http://127.0.0.1:{port}/callback"));
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_registered_redirect_uri_is_sent_as_it_stands_and_kept() {
    let reserved = ClosedPort::reserve();
    let port = reserved.number();
    let registered = format!("http://localhost:{port}/a/b");
    let server = server(|settings| settings.redirect_uris = vec![registered.clone()]);
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &["--redirect-uri", &registered]));
    assert_eq!(value(&address, "redirect_uri"), registered);
    let callback = redirect(&address);
    // A browser may take `localhost` for either address.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
    }
    assert_eq!(get(&callback).status, 200);
    assert_eq!(process.finish().code, 0);
    assert_eq!(home.document()["redirect_uri"], registered);

    let (process, address) = start(&mut home.command(&["login", "--browser"]));
    assert_eq!(value(&address, "redirect_uri"), registered);
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    let other = (port ^ 1).to_string();
    let ran = run(&mut home.command(&["login", "--browser", "--redirect-port", &other]));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains(&format!("the redirect URI has the port {port}\nhint: ")), "{ran:?}");
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_redirect_uri_without_a_port_takes_any() {
    let server = server(|settings| settings.redirect_path = "/elsewhere".to_owned());
    let home = Home::new();
    let (process, address) =
        start(&mut login(&home, &server, &["--redirect-uri", "http://127.0.0.1/elsewhere"]));
    let redirect_uri = value(&address, "redirect_uri");
    assert!(redirect_uri.starts_with("http://127.0.0.1:") && redirect_uri.ends_with("/elsewhere"));
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    assert_eq!(home.document()["redirect_uri"], "http://127.0.0.1/elsewhere", "without the port of the day");
    for uri in ["https://as.example/callback", "http://10.0.0.1/", "app://x", "https://127.0.0.1/"] {
        let ran = run(&mut login(&Home::new(), &server, &["--redirect-uri", uri]));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.starts_with("onegrant: cannot use ") && ran.stdout.is_empty(), "{ran:?}");
    }
    assert_eq!(server.counts().unexpected, 0);
}

/// RFC 9126: everything goes to the server beforehand, with client authentication, and the address holds nothing of it.
#[test]
fn a_server_that_requires_pushed_requests_gets_one() {
    for method in ["none", "basic", "post"] {
        let server = server(|settings| settings.requires_pushed_requests = true);
        let home = Home::new();
        let secret = home.root.join("secret");
        fs::write(&secret, server.client_secret()).unwrap();
        let mut command = home.command(&["login", &server.issuer(), "--browser", "--scope", "openid"]);
        match method {
            "none" => command.args(["--client-id", server.client_id()]),
            _ => command
                .args(["--client-id", server.confidential_client_id(), "--client-auth", method])
                .arg("--client-secret-file")
                .arg(&secret),
        };
        let (process, address) = start(&mut command);
        let names: Vec<String> = query(&address).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["client_id", "request_uri"]);
        let callback = redirect(&address);
        assert_eq!(get(&callback).status, 200);
        let ran = process.finish();
        assert_eq!(ran.code, 0, "{ran:?}");
        let pushed = server.requests_to(Endpoint::PushedAuthorization);
        assert_eq!(pushed.len(), 1);
        assert!(callback.contains(pushed[0].parameter("state").unwrap()));
        assert!(!ran.stderr.contains(pushed[0].parameter("state").unwrap()));
        let exchange = server.requests_to(Endpoint::Token).pop().unwrap();
        for request in [&pushed[0], &exchange] {
            assert_eq!(request.header("authorization").is_some(), method == "basic");
            assert_eq!(request.parameter("client_secret").is_some(), method == "post");
        }
        assert_eq!(server.counts().unexpected, 0, "{method}");
        assert_eq!(
            home.document()["pushed_authorization_request_endpoint"],
            server.url(Endpoint::PushedAuthorization)
        );
    }
}

/// Some servers want it of single clients, and their metadata does not say so.
#[test]
fn the_option_pushed_pushes_the_request() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &["--pushed"]));
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    assert_eq!(server.requests_to(Endpoint::PushedAuthorization).len(), 1);
    // It is stored: the next login needs no option.
    let (process, address) = start(&mut home.command(&["login", "--no-open"]));
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    assert_eq!(server.requests_to(Endpoint::PushedAuthorization).len(), 2);
    assert_eq!(server.counts().unexpected, 0);
}

/// What the row of a provider says of its authorization requests.
#[test]
fn each_provider_is_asked_with_the_redirect_uri_and_the_parameters_that_it_wants() {
    for provider in PROVIDERS {
        let server = server(|_| {});
        let home = Home::new();
        let port = ClosedPort::reserve();
        let registered = format!("http://localhost:{}/cb", port.number());
        let at = |options: &[&str]| {
            let mut command =
                home.command(&["login", provider.name, "--browser", "--no-open", "--client-id", "c"]);
            command.args([
                "--client-auth",
                "none",
                "--scope",
                "read",
                "--token-endpoint",
                &server.token_endpoint(),
            ]);
            command.args(["--authorization-endpoint", &server.url(Endpoint::Authorization)]).args(options);
            command
        };
        let case = provider.name;
        match provider.redirect {
            Redirect::Nowhere => {
                let ran = run(&mut at(&[]));
                assert_eq!(ran.code, 2, "{case}: {ran:?}");
                continue;
            }
            Redirect::Registered => {
                let ran = run(&mut at(&[]));
                assert_eq!(ran.code, 2, "{case}: {ran:?}");
                let text =
                    format!("cannot log in: {case} takes the redirect URI alone that was registered there");
                assert!(
                    ran.stderr.contains(&text) && ran.stderr.contains(" --redirect-uri http://"),
                    "{ran:?}"
                );
                let (process, address) = start(&mut at(&["--redirect-uri", &registered]));
                assert_eq!(value(&address, "redirect_uri"), registered, "{case}");
                drop(process);
                continue;
            }
            Redirect::AnyPort | Redirect::LocalhostAnyPort => {}
        }
        let (_process, address) = start(&mut at(&[]));
        let host =
            if provider.redirect == Redirect::AnyPort { "http://127.0.0.1:" } else { "http://localhost:" };
        assert!(value(&address, "redirect_uri").starts_with(host), "{case}: {address}");
        for (name, wanted) in provider.authorization_parameters {
            assert_eq!(value(&address, name), *wanted, "{case}: {name}");
        }
    }
}

#[test]
fn a_refused_pushed_request_ends_the_login_before_the_browser_opens() {
    let cases = [
        (Fault::error(400, "invalid_request"), 2, "cannot start the browser flow: invalid_request\n"),
        (Fault::status(503), 4, "cannot start the browser flow: the server answered with status 503\n"),
        (Fault::DropBefore, 4, "cannot start the browser flow: no whole answer from "),
        (Fault::Status(Response::json(201, "{}")), 4, "has no usable request_uri\n"),
    ];
    for (fault, code, text) in cases {
        let server = server(|settings| settings.requires_pushed_requests = true);
        let home = Home::new();
        server.script(Endpoint::PushedAuthorization, [fault]);
        let ran = run(&mut login(&home, &server, &[]));
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        assert!(ran.stderr.contains(text) && !ran.stderr.contains("open  "), "{ran:?}");
        assert_eq!(server.counts().unexpected, 0);
    }
}

#[test]
fn a_confidential_client_proves_itself_with_the_code() {
    for (method, secret_in_body) in [("basic", false), ("post", true)] {
        let server = server(|_| {});
        let home = Home::new();
        let secret = home.root.join("secret");
        fs::write(&secret, server.client_secret()).unwrap();
        let mut command = home.command(&["login", &server.issuer(), "--browser", "--client-id"]);
        command.args([server.confidential_client_id(), "--client-auth", method, "--client-secret-file"]);
        let (process, address) = start(command.arg(&secret));
        assert!(!address.contains("secret"), "{address}");
        get(&redirect(&address));
        assert_eq!(process.finish().code, 0);
        let exchange = server.requests_to(Endpoint::Token).pop().unwrap();
        assert_eq!(exchange.parameter("client_secret").is_some(), secret_in_body);
        assert_eq!(exchange.header("authorization").is_some(), !secret_in_body);
        assert_eq!(server.counts().unexpected, 0);
    }
}
