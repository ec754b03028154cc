//! The client that a login registers by itself: when it makes one, when it uses it again, and what it never says.

use super::*;
use crate::support::authorization_server::{AuthMethod, Consent, NamedIssuer};
use rustix::process::Signal;
use servers::closed_port::ClosedPort;

/// A login at the resource that is stored already: the home, the profile, and the port of its redirect URI. No other program gets
/// that port while it is reserved.
#[track_caller]
fn logged_in(server: &AuthorizationServer) -> (Home, String, ClosedPort) {
    let (home, port) = (Home::new(), ClosedPort::reserve());
    agree(&mut login(&home, server, &["--redirect-port", &port.number().to_string()]));
    assert_eq!(server.counts().registrations, 1);
    (home, profile_name(server), port)
}

/// Waits for the second address that a process shows.
#[track_caller]
fn second_address(process: &Process) -> String {
    let addresses = || -> Vec<String> {
        let said = process.said();
        let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.filter_map(|line| Some(line.strip_prefix("open  ")?.trim_end().to_owned())).collect()
    };
    wait_for("a second address", || addresses().len() == 2);
    addresses().remove(1)
}

/// RFC 7591 section 2, RFC 8252 section 7.3.
#[test]
fn the_client_is_registered_with_the_redirect_uri_on_which_the_login_listens() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    let redirect_uri = value(&address, "redirect_uri");
    let request = server.requests_to(Endpoint::Registration).remove(0);
    assert_eq!(request.header("authorization"), None);
    let mut asked_for = request.json.unwrap();
    for own in ["software_id", "software_version"] {
        assert!(asked_for[own].take().is_string(), "{own}");
    }
    let device = "urn:ietf:params:oauth:grant-type:device_code";
    assert_eq!(
        asked_for,
        json!({
            "client_name": "onegrant",
            "application_type": "native",
            "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token", device],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "scope": value(&address, "scope"),
            "software_id": null,
            "software_version": null,
        })
    );
    assert_eq!(value(&address, "client_id"), server.clients()[0].client_id);
    assert_eq!(request_to(&redirect_uri), 400, "it listens there");
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    let exchange = server.requests_to(Endpoint::Token).remove(0);
    assert_eq!(exchange.parameter("redirect_uri"), Some(redirect_uri.as_str()));
}

fn request_to(url: &str) -> u16 {
    request("GET", url).unwrap().status
}

#[test]
fn a_later_login_uses_the_client_again() {
    let server = resource_server(|_| {});
    let (home, name, _port) = logged_in(&server);
    let before = document_of(&home, &name);
    // (the options of the program, those of the login)
    let resource = server.url(Endpoint::Resource);
    for (options, argument) in [
        (&[][..], Some(&resource)),
        (&["--profile", &name], Some(&resource)),
        (&["--profile", &name], None),
        (&["--for", &resource], None),
    ] {
        let mut command = home.command(options);
        command.arg("login").args(argument).arg("--no-open");
        let (address, _) = agree(&mut command);
        assert_eq!(value(&address, "client_id"), before["client_id"].as_str().unwrap(), "{options:?}");
        assert_eq!(value(&address, "redirect_uri"), before["registration"]["redirect_uri"].as_str().unwrap());
        let after = document_of(&home, &name);
        assert_eq!(after["registration"], before["registration"], "{options:?} {argument:?}");
        assert_eq!(profiles(&home), [name.as_str()]);
    }
    // The only profile is not the default one, so the hint names it.
    let ran = home.run(&["login"]);
    let text = format!(
        "cannot log in: profile default knows no server yet\nhint: onegrant --profile {name} login\n"
    );
    assert_eq!(ran, Ran::failed(2, format!("onegrant: {text}")));
    assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0));
}

/// Each reason for a new client, as `-v` gives it.
#[test]
fn a_client_that_cannot_be_used_again_is_replaced() {
    type Change = fn(&mut Value);
    let cases: [(&str, &[&str], Change); 4] = [
        // The server lets a client ask for the scope of its registration alone.
        ("the stored client is registered for less", &["--scope", "read write"], |_| {}),
        ("the secret of the stored client has expired", &[], |document| {
            document["registration"]["client_secret_expires_at"] = json!(now() - 1);
        }),
        (
            "the stored client has another redirect URI",
            &["--redirect-uri", "http://127.0.0.1/elsewhere"],
            |_| {},
        ),
        ("no answer came back from the last login with the stored client", &[], |document| {
            document["registration"]["awaited_since"] = json!(now() - 60);
        }),
    ];
    for (reason, options, change) in cases {
        let method = AuthMethod::ClientSecretPost;
        let server = resource_server(|settings| {
            settings.registration = Some(Registration { method, ..Registration::default() });
        });
        let (home, name, reserved) = logged_in(&server);
        let port = reserved.number().to_string();
        let mut document = document_of(&home, &name);
        let first = document["client_id"].as_str().unwrap().to_owned();
        change(&mut document);
        std::fs::write(home.state.join(format!("{name}.json")), document.to_string()).unwrap();
        // The next login but one uses the new client again.
        for registrations in [2, 2] {
            let mut command =
                home.command(&["-v", "login", &server.url(Endpoint::Resource), "--redirect-port", &port]);
            command.arg("--no-open");
            let is_new = server.counts().registrations < registrations;
            let (address, ran) = agree(command.args(options));
            let said = format!("registering a new client: {reason}\n");
            assert_eq!(ran.stderr.contains(&said), is_new, "{ran:?}");
            assert_eq!(server.counts().registrations, registrations, "{reason}");
            assert_ne!(value(&address, "client_id"), first, "{reason}");
        }
        assert_eq!(document_of(&home, &name)["registration"].get("awaited_since"), None, "{reason}");
        assert_eq!(server.counts().unexpected, 0, "{reason}");
    }
}

#[test]
fn the_option_register_makes_a_new_client_each_time() {
    let server = resource_server(|_| {});
    let (home, name, _port) = logged_in(&server);
    let mut clients = vec![document_of(&home, &name)["client_id"].clone()];
    for address in [Some(server.url(Endpoint::Resource)), None] {
        let mut command = home.command(&["--profile", &name, "login", "--no-open", "--register"]);
        agree(command.args(address));
        let client = document_of(&home, &name)["client_id"].clone();
        assert!(!clients.contains(&client), "{clients:?}");
        clients.push(client);
    }
    assert_eq!((server.counts().registrations, server.counts().unexpected), (3, 0));
}

#[test]
fn if_the_port_of_the_client_is_taken_a_new_client_is_registered() {
    let server = resource_server(|_| {});
    let (home, name, reserved) = logged_in(&server);
    let port = reserved.number().to_string();
    let registered = document_of(&home, &name)["registration"]["redirect_uri"].as_str().unwrap().to_owned();
    let (_other, _) =
        start(&mut crate::browser::fake_browser::login(&Home::new(), &server, &["--redirect-port", &port]));
    let (address, _) = agree(&mut login(&home, &server, &[]));
    assert_ne!(value(&address, "redirect_uri"), registered);
    assert_eq!(document_of(&home, &name)["registration"]["redirect_uri"], value(&address, "redirect_uri"));
    assert_eq!((server.counts().registrations, server.counts().unexpected), (2, 0));
}

/// A server that has forgotten the client says so on its own page, so nothing comes back.
#[test]
fn after_a_login_that_did_not_come_back_the_next_one_registers_again() {
    for signal in [Signal::INT, Signal::KILL] {
        let server = resource_server(|_| {});
        let (home, name, reserved) = logged_in(&server);
        let port = reserved.number().to_string();
        let stored = document_of(&home, &name);
        server.forget_clients();
        let (process, address) = start(&mut login(&home, &server, &[]));
        assert_eq!(value(&address, "client_id"), stored["client_id"].as_str().unwrap());
        assert_eq!(get(&address).status, 400, "the server's own page");
        let mut marked = document_of(&home, &name);
        assert!(marked["registration"]["awaited_since"].as_i64().unwrap() <= now());
        process.signal(signal);
        assert_eq!(process.finish().code, -signal.as_raw());
        // Everything else is as it was, and the grant can be used.
        marked["registration"].as_object_mut().unwrap().remove("awaited_since");
        assert_eq!(marked, stored);
        let token = home.run(&["--profile", &name, "token"]);
        assert_eq!(token, Ran::printed(stored["session"]["access_token"].as_str().unwrap()));

        let (address, _) = agree(&mut login(&home, &server, &["--redirect-port", &port]));
        assert_ne!(value(&address, "client_id"), stored["client_id"].as_str().unwrap());
        assert_eq!((server.counts().registrations, server.counts().unexpected), (2, 0));
        // The new client is as good as any.
        agree(&mut login(&home, &server, &["--redirect-port", &port]));
        assert_eq!(server.counts().registrations, 2);
    }
}

/// Nothing of a first login is stored, so its client is lost with it.
#[test]
fn a_first_login_that_did_not_come_back_leaves_nothing() {
    let server = resource_server(|_| {});
    let home = Home::new();
    let (process, _) = start(&mut login(&home, &server, &[]));
    process.signal(Signal::INT);
    process.finish();
    assert_eq!(home.names(), Vec::<String>::new());
    agree(&mut login(&home, &server, &[]));
    assert_eq!(server.counts().registrations, 2);
}

#[test]
fn a_login_that_came_back_without_a_grant_keeps_the_client() {
    let server = resource_server(|_| {});
    let (home, name, _port) = logged_in(&server);
    let stored = document_of(&home, &name);
    server.adjust(|settings| settings.consent = Consent::Denied);
    let (process, address) = start(&mut login(&home, &server, &[]));
    get(&redirect(&address));
    let ran = process.finish();
    assert!(ran.code == 3 && ran.stderr.contains("access_denied"), "{ran:?}");
    assert_eq!(document_of(&home, &name), stored);
    server.adjust(|settings| settings.consent = Consent::Granted);
    agree(&mut login(&home, &server, &[]));
    // A code that brings no tokens.
    server.script(Endpoint::Token, [Fault::error(400, "invalid_grant"), Fault::status(503)]);
    for code in [3, 4] {
        let (process, address) = start(&mut login(&home, &server, &[]));
        get(&redirect(&address));
        let ran = process.finish();
        assert_eq!(ran.code, code, "{ran:?}");
    }
    agree(&mut login(&home, &server, &[]));
    assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0));
}

/// RFC 6749 section 5.2.
#[test]
fn if_the_server_does_not_know_the_client_of_the_code_the_person_is_asked_once_more() {
    for error in ["invalid_client", "unauthorized_client"] {
        for is_first_login in [true, false] {
            let server = resource_server(|_| {});
            let (home, _port) = match is_first_login {
                true => (Home::new(), None),
                false => {
                    let (home, _, port) = logged_in(&server);
                    (home, Some(port))
                }
            };
            server.reset_counts();
            let (process, first) = start(&mut login(&home, &server, &[]));
            let callback = redirect(&first);
            server.script(Endpoint::Token, [Fault::error(401, error)]);
            get(&callback);
            let second = second_address(&process);
            assert_ne!(value(&second, "client_id"), value(&first, "client_id"));
            get(&redirect(&second));
            let ran = process.finish();
            assert_eq!(ran.code, 0, "{ran:?}");
            let document = document_of(&home, &profile_name(&server));
            assert_eq!(document["client_id"], value(&second, "client_id"));
            assert_eq!(document["registration"].get("awaited_since"), None);
            let counts = server.counts();
            let registrations = 1 + u64::from(is_first_login);
            assert_eq!(
                (counts.registrations, counts.token_requests, counts.unexpected),
                (registrations, 2, 0)
            );
        }
    }
}

/// The server says so before a person is asked, so no person notices.
#[test]
fn if_the_server_does_not_know_the_client_of_the_first_request_a_new_one_is_registered() {
    for (options, endpoint) in
        [(&["--no-open"][..], Endpoint::PushedAuthorization), (&["--device"], Endpoint::DeviceAuthorization)]
    {
        let server = resource_server(|settings| {
            settings.requires_pushed_requests = true;
            settings.auto_approve = true;
        });
        let home = Home::new();
        let resource = server.url(Endpoint::Resource);
        let log_in = || {
            let mut command = home.command(&["login", &resource]);
            match endpoint {
                Endpoint::DeviceAuthorization => assert_eq!(run(command.args(options)).code, 0),
                _ => drop(agree(command.args(options))),
            }
            document_of(&home, &profile_name(&server))["client_id"].as_str().unwrap().to_owned()
        };
        let first = log_in();
        server.forget_clients();
        let before = server.requests().len();
        assert_ne!(log_in(), first, "{endpoint:?}");
        let requests = server.requests();
        let after = requests[before..].iter().map(|request| request.endpoint.unwrap()).collect::<Vec<_>>();
        assert_eq!(after[3..6], [endpoint, Endpoint::Registration, endpoint]);
        assert_eq!((server.counts().registrations, server.counts().unexpected), (2, 0), "{endpoint:?}");
    }
}

/// A long search leaves few requests of a login, or none, for another client.
#[test]
fn after_a_long_search_the_login_or_its_hint_registers_another_client() {
    for search in [6, 7] {
        let server = resource_server(|settings| {
            let resource = ProtectedResource::without_metadata("/mcp");
            settings.resources = vec![ProtectedResource { initializes_all: true, ..resource }];
            settings.serves_oauth_metadata = search == 6;
            settings.requires_pushed_requests = true;
        });
        let home = Home::new();
        agree(&mut login(&home, &server, &[]));
        assert_eq!(asked(&server)[search], "POST /register");
        let name = profile_name(&server);
        let first = document_of(&home, &name)["client_id"].as_str().unwrap().to_owned();
        server.forget_clients();
        let before = server.requests().len();
        if search == 6 {
            let (_process, address) = start(&mut login(&home, &server, &[]));
            assert_ne!(value(&address, "client_id"), first);
            assert_eq!(server.requests().len() - before, MOST_REQUESTS);
        } else {
            let ran = run(&mut login(&home, &server, &[]));
            assert!(ran.code == 2 && ran.stderr.contains("invalid_client"), "{ran:?}");
            assert_ne!(value(&run_hint(&home, &ran, &[]), "client_id"), first);
        }
        assert_eq!((server.counts().registrations, server.counts().unexpected), (2, 0));
    }
}

#[test]
fn a_server_that_knows_no_client_at_all_ends_the_login_after_the_second_one() {
    let server = resource_server(|_| {});
    server.always(Endpoint::Token, Fault::error(401, "invalid_client"));
    let home = Home::new();
    let (process, first) = start(&mut login(&home, &server, &[]));
    get(&redirect(&first));
    get(&redirect(&second_address(&process)));
    let ran = process.finish();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.stderr.contains("the server refused: invalid_client") && ran.stderr.contains("\nhint: "),
        "{ran:?}"
    );
    assert_eq!((server.counts().registrations, server.counts().token_requests), (2, 2));
    assert_eq!(home.names(), Vec::<String>::new());

    // A client that a person named is theirs to put right.
    let (process, address) = start(&mut login(&home, &server, &["--client-id", server.client_id()]));
    get(&redirect(&address));
    assert_eq!(process.finish().code, 2);
    assert_eq!(server.counts().registrations, 2);
}

/// RFC 8252 section 8.3 advises against the name, and some servers take nothing else.
#[test]
fn a_server_that_refuses_the_numeric_address_gets_the_name() {
    let server = resource_server(|settings| {
        settings.registration = Some(Registration { refuses_addresses: true, ..Registration::default() });
    });
    let (home, name, _port) = logged_in(&server);
    let registered = document_of(&home, &name)["registration"]["redirect_uri"].clone();
    assert!(registered.as_str().unwrap().starts_with("http://localhost:"), "{registered}");
    assert_eq!(server.requests_to(Endpoint::Registration).len(), 2);
    let (address, _) = agree(&mut login(&home, &server, &[]));
    assert_eq!(value(&address, "redirect_uri"), registered.as_str().unwrap());
    assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0));

    // It refuses both, or the one that a person named.
    let server = resource_server(|_| {});
    server.always(Endpoint::Registration, Fault::error(400, "invalid_redirect_uri"));
    for (options, requests) in [(&[][..], 2), (&["--redirect-uri", "http://127.0.0.1/x"], 1)] {
        let before = server.requests_to(Endpoint::Registration).len();
        let home = Home::new();
        let ran = run(&mut login(&home, &server, options));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains("status 400: invalid_redirect_uri\nhint: onegrant "), "{ran:?}");
        assert!(ran.stderr.contains(" --client-id ID --redirect-uri URI   # "), "{ran:?}");
        assert_eq!(server.requests_to(Endpoint::Registration).len() - before, requests, "{options:?}");
        assert_eq!(home.names(), Vec::<String>::new());
    }
}

/// Servers that register only programs that they know say so in many ways.
#[test]
fn a_server_that_refuses_to_register_is_reported_with_a_hint_that_works() {
    let forbidden = || Response::new(403).header("content-type", "text/plain").body("Forbidden");
    let cases = [
        (Fault::Status(forbidden()), "the server answered with status 403: Forbidden"),
        (Fault::error(400, "unapproved_software_statement"), "unapproved_software_statement"),
        (
            Fault::Status(Response::json(
                400,
                r#"{"error":"invalid_request","error_description":"ask\u001b[2J us"}"#,
            )),
            "invalid_request: ask [2J us",
        ),
        (Fault::status(401), "the server answered with status 401"),
    ];
    for (fault, text) in cases {
        let server = resource_server(|_| {});
        server.always(Endpoint::Registration, fault);
        let home = Home::new();
        let ran = run(&mut login(&home, &server, &[]));
        let what = format!("onegrant: cannot register a client at {}: ", server.url(Endpoint::Registration));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.starts_with(&what) && ran.stderr.contains(text), "{text} in {ran:?}");
        assert_eq!(server.requests_to(Endpoint::Registration).len(), 1);
        assert_eq!(home.names(), Vec::<String>::new());
        run_hint(&home, &ran, &[("ID", server.client_id())]);
        assert_eq!(profiles(&home), [profile_name(&server)]);
        assert_eq!(server.requests_to(Endpoint::Registration).len(), 1);
    }
}

/// The issuer of the registration is a part of it.
#[test]
fn a_client_is_not_used_at_another_issuer() {
    let another = server(|settings| settings.registration = Some(Registration::default()));
    let server = resource_server(|_| {});
    let (home, name, _port) = logged_in(&server);
    let first = document_of(&home, &name);
    let moved = json!({ "resource": "ORIGIN/mcp", "authorization_servers": [another.issuer()] });
    server.adjust(|settings| settings.resources[0].metadata = Some(moved));
    let (address, _) = agree(&mut login(&home, &server, &[]));
    assert!(address.starts_with(&another.url(Endpoint::Authorization)), "{address}");
    let second = document_of(&home, &name);
    assert_eq!(second["issuer"], another.issuer());
    assert_eq!(second["registration"]["issuer"], another.issuer());
    assert_ne!(second["client_id"], first["client_id"]);
    assert_eq!((server.counts().registrations, another.counts().registrations), (1, 1));
    assert_eq!(another.counts().unexpected, 0);
}

#[test]
fn a_client_with_a_secret_uses_it_and_never_shows_it() {
    for (method, authentication) in
        [(AuthMethod::ClientSecretPost, "post"), (AuthMethod::ClientSecretBasic, "basic")]
    {
        let server = resource_server(|settings| {
            let secret_lifetime = Some(std::time::Duration::from_secs(3600));
            settings.registration = Some(Registration {
                method,
                secret_lifetime,
                is_managed: true,
                status: 200,
                ..Registration::default()
            });
        });
        let home = Home::new();
        let resource = server.url(Endpoint::Resource);
        let (_, ran) = agree(&mut home.command(&["-vv", "login", &resource, "--no-open"]));
        let client = server.clients().remove(0);
        let name = profile_name(&server);
        let document = document_of(&home, &name);
        let secret = client.client_secret.unwrap();
        assert_eq!(
            (&document["client_secret"], &document["client_auth"]),
            (&json!(secret), &json!(authentication))
        );
        assert!(document["registration"]["client_secret_expires_at"].as_i64().unwrap() > now());
        let management = &document["registration"];
        assert_eq!(management["management_token"], client.registration_access_token);
        assert!(
            management["management_uri"].as_str().unwrap().starts_with(&server.url(Endpoint::Registration))
        );
        let mut said = vec![ran];
        for arguments in [
            &["refresh"][..],
            &["status"],
            &["status", "--json"],
            &["doctor", "--json"],
            &["profiles"],
            &["token", "--format", "json"],
        ] {
            let mut command = home.command(&["-vv", "--profile", &name]);
            said.push(run(command.args(arguments)));
        }
        server.always(Endpoint::Token, Fault::error(401, &format!("invalid_client {secret}")));
        said.push(home.run(&["-vv", "--profile", &name, "refresh"]));
        for ran in &said {
            for secret in [&secret, &client.registration_access_token] {
                let text = format!("{}{}", ran.stdout, ran.stderr);
                assert!(!text.contains(secret.as_str()), "{text}");
            }
        }
        assert_eq!(said.iter().map(|ran| ran.code).collect::<Vec<_>>()[..7], [0; 7], "{said:#?}");
        assert_eq!(server.counts().unexpected, 0);
    }
}

/// A registration that the server cannot keep a promise about: the answer counts, not the request.
#[test]
fn a_secret_for_a_public_client_is_not_kept() {
    let server = resource_server(|settings| {
        let members = json!({ "client_secret": "s3cret", "client_secret_expires_at": 0 });
        settings.registration = Some(Registration { members, ..Registration::default() });
    });
    let (home, name, _port) = logged_in(&server);
    let document = document_of(&home, &name);
    assert_eq!((&document["client_auth"], &document["client_secret"]), (&json!("none"), &Value::Null));
    assert!(!document.to_string().contains("s3cret"));
    assert_eq!(home.run(&["--profile", &name, "refresh"]).code, 0);
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn an_authorization_answer_of_another_issuer_does_not_count_as_an_answer_of_the_server() {
    let server = resource_server(|settings| {
        settings.response_issuer = NamedIssuer::Other("https://evil.example".to_owned());
    });
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    get(&redirect(&address));
    let ran = process.finish();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!((server.counts().token_requests, server.counts().registrations), (0, 1));
    assert_eq!(home.names(), Vec::<String>::new());
}
