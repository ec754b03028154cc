//! Documents and answers that cannot be used: what the login says, how it ends, and that it leaves nothing behind.

use super::*;

/// The places that have no other one beside them: the resource itself, its metadata, the issuer's metadata, the registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Resource,
    ResourceMetadata,
    IssuerMetadata,
    Registration,
}

impl Place {
    const ALL: [Self; 4] = [Self::Resource, Self::ResourceMetadata, Self::IssuerMetadata, Self::Registration];

    /// The endpoints where it is.
    fn endpoints(self) -> &'static [Endpoint] {
        match self {
            Self::Resource => &[Endpoint::Resource],
            Self::ResourceMetadata => &[Endpoint::ResourceMetadata],
            Self::IssuerMetadata => &[Endpoint::OauthMetadata, Endpoint::OpenidConfiguration],
            Self::Registration => &[Endpoint::Registration],
        }
    }

    /// The requests of a login that ends there.
    fn requests(self) -> usize {
        match self {
            Self::Resource => 1,
            // The root is asked after the address that the challenge names.
            Self::ResourceMetadata => 3,
            // The two addresses of an issuer without a path.
            Self::IssuerMetadata | Self::Registration => 4,
        }
    }

    /// How the message begins.
    fn what(self) -> &'static str {
        match self {
            Self::Registration => "onegrant: cannot register a client at ORIGIN/register: ",
            _ => "onegrant: cannot find the authorization server of ORIGIN/mcp: ",
        }
    }
}

fn html(status: u16) -> Fault {
    Fault::Status(Response::new(status).header("content-type", "text/html").body("<html>Sign in</html>"))
}

fn redirect_to(location: &str) -> Fault {
    Fault::Status(Response::new(302).header("location", location))
}

/// A login whose place `place` meets `fault`, at its end.
struct Ended {
    home: Home,
    server: AuthorizationServer,
    ran: Ran,
}

impl Ended {
    fn of(place: Place, fault: &Fault, options: &[&str]) -> Self {
        let server = resource_server(|_| {});
        place.endpoints().iter().for_each(|endpoint| server.always(*endpoint, fault.clone()));
        let home = Home::new();
        let address = server.url(Endpoint::Resource);
        let ran = run(home.command(options).args(["login", &address, "--no-open"]));
        Self { home, server, ran }
    }

    /// It failed with this code and this text, in which ORIGIN is the origin of the server, before a person was asked, stored
    /// nothing, and registered at most one client.
    #[track_caller]
    fn assert_failed(&self, case: &str, code: i32, text: &str) {
        let Self { home, server, ran } = self;
        let text = text.replace("ORIGIN", &server.origin());
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{case}: {ran:?}");
        assert!(ran.stderr.contains(&text), "{case}: {text} in {}", ran.stderr);
        assert!(ran.stderr.starts_with("onegrant: cannot "), "{case}: {}", ran.stderr);
        assert!(!ran.stderr.contains("open  "), "{case}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1 + ran.stderr.matches("\nhint: ").count(), "{case}");
        assert_eq!(home.names(), Vec::<String>::new(), "{case}");
        assert!(asked(server).len() <= MOST_REQUESTS, "{case}: {:?}", asked(server));
        assert!(server.requests_to(Endpoint::Registration).len() <= 1, "{case}: {:?}", asked(server));
        assert_eq!((server.counts().token_requests, server.counts().unexpected), (0, 0), "{case}");
    }
}

/// A server that is down, overloaded or slow will be well again: exit 4, and the same command works then.
#[test]
fn a_server_that_does_not_answer_as_it_should_is_a_temporary_failure() {
    // (what happens, text, whether the resource itself ends the login by it)
    let faults = [
        (Fault::DropBefore, "no whole answer from ", true),
        (Fault::ResetBefore, "no whole answer from ", true),
        (Fault::Raw(b"SSH-2.0-x\r\n".to_vec()), "no whole answer from ", true),
        (Fault::Truncate(20), "no whole answer from ", false),
        (Fault::status(429), "status 429", false),
        (Fault::status(500), "status 500", false),
        (html(502), "status 502", false),
        (Fault::status(503), "status 503", false),
        (html(504), "status 504", false),
    ];
    let cases: Vec<_> =
        Place::ALL.into_iter().flat_map(|place| faults.iter().map(move |fault| (place, fault))).collect();
    side_by_side(
        &cases,
        || (),
        |(), (place, (fault, text, ends_at_once))| {
            if *place == Place::Resource && !ends_at_once {
                return;
            }
            let case = format!("{place:?} {fault:?}");
            let ended = Ended::of(*place, fault, &[]);
            ended.assert_failed(&case, 4, place.what());
            ended.assert_failed(&case, 4, text);
            assert!(asked(&ended.server).len() <= place.requests(), "{case}: {:?}", asked(&ended.server));
            ended.server.clear_faults();
            agree(&mut login(&ended.home, &ended.server, &[]));
        },
    );
}

/// The whole login before the browser opens has the time that `--timeout` gives, however slowly a server answers.
#[test]
fn a_slow_server_does_not_hold_the_login_longer_than_the_timeout() {
    let drip = Fault::DripBody { bytes: 1, every: std::time::Duration::from_millis(50) };
    let faults = [Fault::StallBefore, drip];
    let cases: Vec<_> =
        Place::ALL.into_iter().flat_map(|place| faults.iter().map(move |fault| (place, fault))).collect();
    side_by_side(
        &cases,
        || (),
        |(), (place, fault)| {
            // Of the resource's answer the head counts.
            if *place == Place::Resource && *fault != &Fault::StallBefore {
                return;
            }
            let case = format!("{place:?} {fault:?}");
            let ended = Ended::of(*place, fault, &["--timeout", "4"]);
            ended.assert_failed(&case, 4, place.what());
            ended.assert_failed(&case, 4, "no whole answer from ");
        },
    );
}

/// Nothing listens at the address.
#[test]
fn a_refused_connection_is_a_temporary_failure() {
    let server = resource_server(|_| {});
    let closed = servers::closed_port::ClosedPort::reserve();
    let dead = format!("http://{}", closed.address());
    let home = Home::new();
    let ran = run(&mut login_at(&home, &format!("{dead}/mcp"), &[]));
    let text = format!("onegrant: cannot find the authorization server of {dead}/mcp: cannot connect to ");
    assert!(ran.code == 4 && ran.stderr.starts_with(&text), "{ran:?}");

    server.adjust(|settings| {
        settings.resources[0].metadata =
            Some(json!({ "resource": "ORIGIN/mcp", "authorization_servers": [dead] }));
    });
    let ran = run(&mut login(&home, &server, &[]));
    let text = format!("cannot connect to {}: Connection refused", closed.address());
    assert!(ran.code == 4 && ran.stderr.contains(&text), "{ran:?}");
    server.adjust(|settings| {
        settings.resources[0].metadata = None;
        settings.metadata_members = json!({ "registration_endpoint": format!("{dead}/register") });
    });
    let ran = run(&mut login(&home, &server, &[]));
    let text = format!("onegrant: cannot register a client at {dead}/register: cannot connect to ");
    assert!(ran.code == 4 && ran.stderr.starts_with(&text), "{ran:?}");
    assert_eq!(home.names(), Vec::<String>::new());
}

/// What the server answers is wrong, and would be wrong again: exit 2.
#[test]
fn an_answer_that_is_no_document_is_a_failure_of_usage() {
    let none = "no metadata at ORIGIN/.well-known/oauth-";
    // (answer, text, whether a resource without metadata can be asked otherwise)
    let documents = [
        (html(200), format!("{none}PLACE (no JSON object)"), false),
        (Fault::Status(Response::json(200, "[]")), format!("{none}PLACE (no JSON object)"), false),
        (Fault::status(204), format!("{none}PLACE (no JSON object)"), false),
        (Fault::status(401), format!("{none}PLACE (status 401)"), true),
        (html(403), format!("{none}PLACE (status 403)"), true),
        (html(404), format!("{none}PLACE (status 404)"), true),
        (redirect_to("/.well-known/moved"), format!("{none}PLACE (status 404)"), true),
        (
            redirect_to("https://other.example/x"),
            format!("{none}PLACE (status 302, a redirect to https://other.example/x, which is not followed"),
            false,
        ),
        (redirect_to("http://127.0.0.1:1/x"), "which is not followed".to_owned(), false),
        (redirect_to("//169.254.169.254/x"), "which is not followed".to_owned(), false),
        (redirect_to("file:///etc/passwd"), format!("{none}PLACE (status 302, a redirect to "), false),
        (redirect_to("::"), format!("{none}PLACE (status "), true),
        (Fault::Huge(2 << 20), "is longer than 1048576 bytes".to_owned(), false),
    ];
    let places = [
        (Place::ResourceMetadata, "protected-resource/mcp"),
        (Place::IssuerMetadata, "authorization-server"),
    ];
    let documents = places.iter().flat_map(|(place, name)| {
        let documents =
            documents.iter().filter(|(_, _, is_none)| !is_none || *place == Place::IssuerMetadata);
        documents.map(move |(fault, text, _)| (*place, fault.clone(), text.replace("PLACE", name)))
    });
    let registrations = [
        (html(200), "the server answered with status 200: Sign in and no JSON object"),
        (html(201), "the server answered with status 201: Sign in and no JSON object"),
        (Fault::Status(Response::json(201, "{}")), "status 201"),
        (Fault::Status(Response::json(201, r#"{"client_id":7}"#)), "the server gave a client_id that is "),
        (Fault::status(401), "the server answered with status 401"),
        (
            Fault::Status(Response::new(403).body("Forbidden")),
            "the server answered with status 403: Forbidden",
        ),
        (html(404), "the server answered with status 404"),
        (Fault::error(400, "invalid_client_metadata"), "invalid_client_metadata"),
        (redirect_to("/.well-known/moved"), "redirect"),
        (redirect_to("https://other.example/x"), "https://other.example/x"),
        (Fault::Huge(2 << 20), "is longer than 1048576 bytes"),
    ];
    let registrations =
        registrations.into_iter().map(|(fault, text)| (Place::Registration, fault, text.to_owned()));
    let long_head = Fault::Status(Response::new(401).header("x", "y".repeat(70_000)));
    let long_head = (Place::Resource, long_head, "the head of the answer from ".to_owned());
    let cases: Vec<_> = documents.chain(registrations).chain([long_head]).collect();
    side_by_side(
        &cases,
        || (),
        |(), (place, fault, text)| {
            let case = format!("{place:?} {fault:?}");
            let ended = Ended::of(*place, fault, &[]);
            ended.assert_failed(&case, 2, place.what());
            ended.assert_failed(&case, 2, text);
            assert!(ended.ran.stderr.contains("\nhint: onegrant "), "{case}: {}", ended.ran.stderr);
        },
    );
}

/// Of the resource itself only the challenge counts: an answer without one is as good as none.
#[test]
fn whatever_the_resource_answers_its_metadata_is_looked_for() {
    let faults = [
        html(200),
        html(400),
        html(404),
        html(405),
        Fault::status(500),
        Fault::status(503),
        Fault::status(401),
        Fault::Huge(2 << 20),
        redirect_to("/.well-known/moved"),
        redirect_to("https://other.example/x"),
        Fault::Status(Response::new(401).header("www-authenticate", "\u{1}=,,\"")),
        Fault::Status(Response::new(401).header("www-authenticate", "Basic realm=\"x")),
        Fault::Status(
            Response::new(401).header("www-authenticate", format!("Bearer {}", "a=b,".repeat(10_000))),
        ),
        Fault::Status(Response::new(401).header("x", "y".repeat(50_000))),
    ];
    side_by_side(
        &faults,
        || (),
        |(), fault| {
            let server = resource_server(|_| {});
            server.always(Endpoint::Resource, fault.clone());
            agree(&mut login(&Home::new(), &server, &[]));
            let requests = asked(&server);
            assert_eq!(requests[..USUAL.len()], USUAL, "{fault:?}");
            assert_eq!(server.counts().unexpected, 0, "{fault:?}");
        },
    );
}

/// RFC 9728 section 3.3, RFC 8414 section 3.3, RFC 7591 section 3.2.1.
#[test]
fn a_document_that_contradicts_itself_or_is_of_something_else_is_not_used() {
    let metadata = "cannot use the resource metadata at ORIGIN/.well-known/oauth-protected-resource/mcp: ";
    let resource =
        |document: Value, text: &str| (Place::ResourceMetadata, document, format!("{metadata}{text}"));
    let issuer = |document: Value, text: &str| (Place::IssuerMetadata, document, text.to_owned());
    let client = |document: Value, text: &str| (Place::Registration, document, text.to_owned());
    let cases = [
        resource(
            json!({ "resource": "ORIGIN/other", "authorization_servers": ["ORIGIN"] }),
            "it is of the resource ORIGIN/other, not of ORIGIN/mcp\nhint: onegrant login ORIGIN/other --no-open\n",
        ),
        resource(
            json!({ "resource": "https://other.example/mcp", "authorization_servers": ["ORIGIN"] }),
            "it is of the resource https://other.example/mcp, not of ORIGIN/mcp\n\
             hint: onegrant login https://other.example/mcp --no-open\n",
        ),
        resource(
            json!({ "resource": "ORIGIN/mc", "authorization_servers": ["ORIGIN"] }),
            "it is of the resource ",
        ),
        resource(json!({ "authorization_servers": ["ORIGIN"] }), "it does not name its resource\n"),
        resource(json!({ "resource": "ORIGIN/mcp" }), "it names no authorization server\n"),
        resource(
            json!({ "resource": "ORIGIN/mcp", "authorization_servers": [] }),
            "it names no authorization server\nhint: onegrant login ISSUER --no-open --resource ORIGIN/mcp   # ",
        ),
        resource(
            json!({ "resource": "ORIGIN/mcp", "authorization_servers": ["http://as.example", 7] }),
            "no authorization server in it can be used: cannot use http://as.example: plain http is ",
        ),
        issuer(
            json!({ "issuer": "https://other.example", "token_endpoint": "ORIGIN/token" }),
            "it is of the issuer https://other.example\nhint: onegrant login https://other.example --no-open --resource \
             ORIGIN/mcp   # only if you trust this server\n",
        ),
        issuer(json!({ "issuer": "ORIGIN" }), "token_endpoint"),
        issuer(
            json!({ "issuer": "ORIGIN", "token_endpoint": "http://as.example/token" }),
            "token_endpoint of ORIGIN: cannot use http://as.example/token: plain http is ",
        ),
        issuer(
            json!({ "issuer": "ORIGIN", "token_endpoint": "ORIGIN/token", "registration_endpoint": "http://as.example/r",
                    "authorization_endpoint": "ORIGIN/authorize" }),
            "http://as.example/r",
        ),
        client(
            json!({ "client_id": "c", "token_endpoint_auth_method": "client_secret_basic" }),
            "the server wants client_secret_basic of the client, and gave no client_secret\nhint: ",
        ),
        client(
            json!({ "client_id": "c", "client_secret": "s3cret", "token_endpoint_auth_method": "private_key_jwt" }),
            "the server wants a token_endpoint_auth_method that onegrant does not use here: private_key_jwt\nhint: ",
        ),
        client(
            json!({ "client_id": "" }),
            "the server gave a client_id that is empty, too long, or not visible ASCII",
        ),
        client(
            json!({ "client_id": "a\u{1b}[2Jb" }),
            "the server gave a client_id that is empty, too long, or ",
        ),
    ];
    side_by_side(
        &cases,
        || (),
        |(), (place, document, text)| {
            let server = resource_server(|_| {});
            let placed = document.to_string().replace("ORIGIN", &server.origin());
            let fault = Fault::Status(Response::json(200, placed));
            place.endpoints().iter().for_each(|endpoint| server.always(*endpoint, fault.clone()));
            let home = Home::new();
            let ran = run(&mut login(&home, &server, &[]));
            let ended = Ended { home, server, ran };
            ended.assert_failed(&document.to_string(), 2, place.what());
            ended.assert_failed(&document.to_string(), 2, text);
            assert!(!ended.ran.stderr.contains("s3cret"), "{:?}", ended.ran);
        },
    );
}

/// The code is sent once, whatever the answer is.
#[test]
fn a_bad_answer_to_the_code_stores_nothing_and_registers_nothing_again() {
    let cases = [
        (html(200), 4),
        (Fault::status(404), 4),
        (redirect_to("https://other.example/token"), 4),
        (Fault::Huge(2 << 20), 4),
        (Fault::status(429), 4),
        (html(500), 4),
        (html(502), 4),
        (Fault::status(503), 4),
        (Fault::DropBefore, 4),
        (Fault::Truncate(20), 4),
        (Fault::error(400, "invalid_grant"), 3),
        (Fault::error(400, "invalid_target"), 2),
        (Fault::error(400, "invalid_scope"), 2),
    ];
    side_by_side(
        &cases,
        || (),
        |(), (fault, code)| {
            let server = resource_server(|_| {});
            let home = Home::new();
            server.always(Endpoint::Token, fault.clone());
            let (process, address) = start(&mut login(&home, &server, &[]));
            get(&redirect(&address));
            let ran = process.finish();
            assert_eq!((ran.code, ran.stdout.as_str()), (*code, ""), "{fault:?}: {ran:?}");
            assert!(ran.stderr.contains("\nonegrant: cannot log in"), "{fault:?}: {ran:?}");
            assert!(ran.stderr.contains("; nothing was stored") || *code == 2, "{fault:?}: {ran:?}");
            assert_eq!(home.names(), Vec::<String>::new(), "{fault:?}");
            let counts = server.counts();
            assert_eq!(
                (counts.registrations, counts.token_requests, counts.unexpected),
                (1, 1, 0),
                "{fault:?}"
            );
        },
    );
}

#[test]
fn an_address_that_can_be_corrected_has_the_corrected_login_as_its_hint() {
    let cases = [
        ("http://mcp.example.com/mcp", "https://mcp.example.com/mcp"),
        ("http://mcp.example.com/mcp?a=1#part", "'https://mcp.example.com/mcp?a=1'"),
        ("http://127.0.0.1:1/mcp#part", "http://127.0.0.1:1/mcp"),
        ("mcp.example.com/mcp", "https://mcp.example.com/mcp"),
        ("[::1]:8080/mcp", "'http://[::1]:8080/mcp'"),
    ];
    for (address, corrected) in cases {
        for command in ["login", "doctor"] {
            let ran = run(&mut Home::new().command(&[command, address]));
            let hint = format!("hint: onegrant login {corrected}\n");
            assert!(ran.code == 2 && ran.stderr.ends_with(&hint), "{command} {address}: {ran:?}");
        }
    }
}

/// An address that no token may be sent to is refused before anything is asked.
#[test]
fn an_address_that_cannot_be_used_is_refused_without_a_request() {
    let server = resource_server(|_| {});
    let origin = server.origin();
    let host = origin.strip_prefix("http://").unwrap();
    let cases = [
        (format!("{origin}/mcp#part"), "it has a fragment"),
        (format!("http://me:secret@{host}/mcp"), "it holds a user name or a password"),
        (format!("{origin}/a/../mcp"), "its path has a dot segment"),
        (format!("{origin}/%2e%2e/mcp"), "its path has a dot segment"),
        ("http://mcp.example.com/mcp".to_owned(), "plain http is for loopback addresses only; use https"),
        (format!("ftp://{host}/mcp"), "it does not begin with https://"),
        (format!("{origin}/m cp"), "it holds a character that has no place in a URL"),
        (format!("{origin}/m\u{1b}[2Jcp"), "it holds a character that has no place in a URL"),
        ("https:///mcp".to_owned(), "it has no valid host and port"),
        (format!("{origin}/{}", "x".repeat(9000)), "it is too long"),
    ];
    for (address, why) in cases {
        let home = Home::new();
        let ran = run(&mut login_at(&home, &address, &[]));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{address}: {ran:?}");
        assert!(
            ran.stderr.starts_with("onegrant: cannot use ") && ran.stderr.contains(why),
            "{address}: {ran:?}"
        );
        assert!(!ran.stderr.contains("secret") && !ran.stderr.contains('\u{1b}'), "{ran:?}");
        assert!(ran.stderr.len() < 2000, "{}", ran.stderr.len());
        assert_eq!(home.names(), Vec::<String>::new());
    }
    assert_eq!(server.requests(), []);
}
