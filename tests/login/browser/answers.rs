//! What the server answers instead of a code, or to it.

use super::fake_browser::*;
use crate::support::authorization_server::NamedIssuer;
use crate::support::*;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

/// RFC 6749 section 4.1.2.1, and what else servers send.
#[test]
#[rustfmt::skip]
fn every_error_has_its_exit_code_and_a_hint() {
    let server = server(|_| {});
    let later = "   # once more, a little later";
    let person = " --param prompt=login   # and do in the browser what the server asks for";
    let refused = "cannot log in: the request was refused";
    let cases = [
        ("access_denied", 3, refused, "   # and agree this time"),
        ("invalid_request", 2, refused, " --param KEY=VALUE   # or --redirect-uri, or --pushed: what this server wants, by its documentation"),
        ("unauthorized_client", 2, refused, " --device   # or --browser: whichever the server lets this client do"),
        ("unsupported_response_type", 2, refused, " --device   # this server gives this client no codes by a browser"),
        ("invalid_scope", 2, refused, " --scope \"A B\"   # what this server lets this client ask for"),
        ("invalid_target", 2, refused, " --resource URI   # or --audience: an API that this server knows"),
        ("server_error", 4, "cannot log in now: the server says", later),
        ("temporarily_unavailable", 4, "cannot log in now: the server says", later),
        ("login_required", 3, refused, person),
        ("interaction_required", 3, refused, person),
        ("consent_required", 3, refused, person),
        ("something_new", 3, refused, ""),
    ];
    for (error, code, what, hint) in cases {
        let home = Home::new();
        let (process, address) = start(&mut login(&home, &server, &[]));
        let parameters =
            [("error", error), ("error_description", "no \u{1b}[2J<b>way</b>"), ("iss", &server.issuer())];
        let page = get(&answer_to(&address, &parameters));
        assert!(page.body.contains("Nothing was granted") && !page.body.contains("way"), "{}", page.body);
        let what = what.strip_suffix(" says").map_or(format!("{what}:"), |what| format!("{what} says"));
        // The hint to take another flow takes no other flow.
        let hint = format!("{}{hint}", first(&server)).replace("--browser --device", "--device");
        let text = format!("onegrant: {what} {error}: no [2J<b>way</b>\nhint: {hint}\n");
        assert_eq!(process.finish(), Ran::failed(code, format!("open  {address}\n{text}")));
        assert_eq!(home.names(), Vec::<String>::new());
    }
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &["--param", "prompt=none"]));
    assert_eq!(value(&address, "prompt"), "none");
    get(&answer_to(&address, &[("error", "login_required"), ("iss", &server.issuer())]));
    let ran = process.finish();
    assert!(ran.stderr.contains(&format!("\nhint: {} --param prompt=login   # ", first(&server))), "{ran:?}");
    // Some servers refuse every resource indicator (RFC 8707 section 2).
    let (process, address) = start(&mut login(&home, &server, &["--resource", "https://api.example"]));
    assert_eq!(value(&address, "resource"), "https://api.example");
    get(&answer_to(&address, &[("error", "invalid_target"), ("iss", &server.issuer())]));
    let ran = process.finish();
    let hint = "--no-resource   # or --resource URI: an API that this server knows";
    assert!(ran.code == 2 && ran.stderr.ends_with(&format!("\nhint: {} {hint}\n", first(&server))), "{ran:?}");
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (0, 0));
}

/// The command that logs in where nothing is stored yet.
fn first(server: &AuthorizationServer) -> String {
    format!("onegrant login {} --client-id {} --browser", server.issuer(), server.client_id())
}

/// RFC 9207 section 2.4: the code is not used. An error that names no issuer ends the login as what it is.
#[test]
fn the_answer_of_another_issuer_is_not_used() {
    let other = "it is of the issuer https://evil.example, not of ";
    let missing = "it does not name its issuer (iss), as this server announces";
    for (issuer, why) in [(Some("https://evil.example"), other), (None, missing)] {
        for answer in [("code", "c"), ("error", "access_denied")] {
            let server = server(|_| {});
            let home = Home::new();
            let (process, address) = start(&mut login(&home, &server, &[]));
            let mut parameters = vec![answer];
            parameters.extend(issuer.map(|issuer| ("iss", issuer)));
            assert!(get(&answer_to(&address, &parameters)).body.contains("Nothing was granted"));
            let ran = process.finish();
            assert_eq!(ran.code, 3, "{ran:?}");
            let is_believed = issuer.is_none() && answer.0 == "error";
            let why = if is_believed {
                "cannot log in: the request was refused: access_denied".to_owned()
            } else {
                format!("cannot trust the answer of the browser: {why}")
            };
            assert!(ran.stderr.contains(&why), "{ran:?}");
            assert!(ran.stderr.contains(&format!("\nhint: {}   # ", first(&server))), "{ran:?}");
            assert_eq!((server.counts().token_requests, server.counts().unexpected), (0, 0));
            assert_eq!(home.names(), Vec::<String>::new());
        }
    }
    // A server that promises nothing need not name itself.
    let server = server(|settings| settings.response_issuer = NamedIssuer::Absent);
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
}

#[test]
fn a_code_without_a_grant_ends_the_login() {
    let again = "hint: try again\n";
    let cases = [
        (
            Fault::error(400, "invalid_grant"),
            3,
            "cannot log in: the server refused: invalid_grant; nothing was stored",
            "hint: onegrant login ",
        ),
        (
            Fault::error(400, "access_denied"),
            3,
            "cannot log in: the server refused: access_denied",
            "hint: onegrant login ",
        ),
        (
            Fault::error(401, "invalid_client"),
            2,
            "cannot log in: the server refused: invalid_client",
            "hint: ",
        ),
        (Fault::error(400, "invalid_scope"), 2, "cannot log in: the server refused: invalid_scope", "hint: "),
        (Fault::status(503), 4, "cannot log in now: the server answered with status 503", again),
        (Fault::DropAfter, 4, "cannot log in: no whole answer from ", "hint: onegrant login "),
        (
            Fault::StatusAfter(Response::new(200)),
            4,
            "cannot log in: the server answered with status 200 and no body; the server may have given the grant",
            "hint: onegrant login ",
        ),
    ];
    for (fault, code, what, hint) in cases {
        let server = server(|_| {});
        let home = Home::new();
        server.script(Endpoint::Token, [fault]);
        let (process, address) = start(&mut login(&home, &server, &[]));
        let callback = redirect(&address);
        get(&callback);
        let ran = process.finish();
        let said = ran.stderr.strip_prefix(&format!("open  {address}\nonegrant: ")).unwrap();
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(said.starts_with(what) && said.contains(hint), "{said}");
        assert!(!said.contains(&value(&callback, "code")));
        assert_eq!(home.names(), Vec::<String>::new());
        assert_eq!(
            (server.counts().token_requests, server.counts().unexpected),
            (1, 0),
            "a code is sent once"
        );
    }
}

/// OpenID Connect Core section 3.1.3.7: the ID token of another request is not stored, and its grant does not live on.
#[test]
fn an_id_token_that_repeats_another_nonce_is_refused() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &["--scope", "openid"]));
    let issued = server.issue_grant();
    let claims = json!({
        "iss": server.issuer(), "sub": "me", "aud": server.client_id(), "exp": now() + 60, "nonce": "another",
    });
    let id_token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
    let answer = json!({
        "access_token": issued.access_token, "refresh_token": issued.refresh_token, "id_token": id_token,
    });
    server.script(Endpoint::Token, [Fault::Status(Response::json(200, answer.to_string()))]);
    get(&redirect(&address));
    let ran = process.finish();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("cannot trust the ID token: it answers another request (nonce)"), "{ran:?}");
    assert!(!server.is_alive(&issued.refresh_token));
    assert!(!home.document_path().exists());
    assert_eq!(server.counts().unexpected, 0);
}
