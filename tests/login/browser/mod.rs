//! `onegrant login --browser`: what a person sees, what comes back from the browser, and what ends it.

mod answers;
pub mod fake_browser;
mod opening;
mod other_requests;
mod pasting;
mod registered;
mod requests;

use crate::support::authorization_server::Consent;
use crate::support::*;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fake_browser::*;
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn a_person_agrees_in_the_browser_and_then_is_logged_in() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &["--scope", "openid offline_access"]));
    assert!(address.starts_with(&format!("{}?", server.url(Endpoint::Authorization))), "{address}");
    let shown = format!("open  {address}\n");
    assert_eq!(process.said(), shown);

    let callback = redirect(&address);
    let redirect_uri = value(&address, "redirect_uri");
    assert!(
        redirect_uri.starts_with("http://127.0.0.1:") && redirect_uri.ends_with("/callback"),
        "{redirect_uri}"
    );
    let page = get(&callback);
    assert_eq!(page.status, 200);
    assert!(page.body.contains("You can close this tab"), "{}", page.body);
    let ran = process.finish();
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let rest = ran.stderr.strip_prefix(&shown).unwrap();
    assert!(rest.starts_with("onegrant: logged in: profile default, access token valid until "), "{rest}");
    assert_eq!(rest.lines().count(), 1, "{rest}");

    // RFC 6749 section 4.1.3: the redirect_uri of the request, letter for letter.
    let exchange = server.requests_to(Endpoint::Token).pop().unwrap();
    assert_eq!(exchange.parameter("redirect_uri"), Some(redirect_uri.as_str()));
    let verifier = exchange.parameter("code_verifier").unwrap();
    // 32 random bytes each: state, nonce and verifier differ.
    let texts = [verifier.to_owned(), value(&address, "state"), value(&address, "nonce")];
    for (number, text) in texts.iter().enumerate() {
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(text).unwrap().len(), 32, "{text}");
        assert!(!texts[..number].contains(text));
    }
    assert_eq!(value(&address, "prompt"), "consent");
    assert_eq!(value(&address, "code_challenge_method"), "S256");

    let mut document = home.document();
    let (session, login) = (document["session"].take(), document["login"].take());
    assert_eq!(login["flow"], "browser");
    assert_eq!(document, document_after_login(&server), "nothing of the request itself is stored");
    assert!(server.access_token_is_valid(session["access_token"].as_str().unwrap()));
    assert!(server.is_alive(session["refresh_token"].as_str().unwrap()));
    assert_eq!(claims(&session)["nonce"].as_str().unwrap(), texts[2]);
    assert_eq!(home.names(), ["default.json", "default.lock"]);

    // The code and the verifier are in nothing that a log keeps.
    let code = value(&callback, "code");
    assert!(!ran.stderr.contains(&code) && !ran.stderr.contains(verifier), "{}", ran.stderr);
    assert!(!page.body.contains(&code) && !page.body.contains(&texts[1]), "{}", page.body);
    let counts = server.counts();
    assert_eq!((counts.token_requests, counts.unexpected), (1, 0));
    assert_eq!(server.requests_to(Endpoint::Authorization).len(), 1);

    // The grant is as good as any.
    let refreshed = home.run(&["refresh"]);
    assert_eq!((refreshed.code, server.counts().rotations), (0, 1), "{refreshed:?}");
    assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
    // A second login needs no options.
    let (process, address) = start(&mut home.command(&["login", "--browser"]));
    assert_eq!(get(&redirect(&address)).status, 200);
    assert_eq!(process.finish().code, 0);
    assert_eq!(server.counts().unexpected, 0);
}

fn claims(session: &Value) -> Value {
    let payload = session["id_token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn a_program_reads_one_object_a_line() {
    let server = server(|_| {});
    let home = Home::new();
    let process = Process::start(&mut login(&home, &server, &["--json"]));
    wait_for("an event", || process.printed().ends_with('\n'));
    let asked: Value = serde_json::from_str(&process.printed()).unwrap();
    let address = asked["authorization_uri"].as_str().unwrap().to_owned();
    assert_eq!(
        asked,
        json!({
            "event": "authorization",
            "authorization_uri": address,
            "redirect_uri": value(&address, "redirect_uri"),
        })
    );
    get(&redirect(&address));
    let ran = process.finish();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let done: Value = serde_json::from_str(ran.stdout.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&done["event"], &done["has_refresh_token"]), (&json!("logged_in"), &json!(true)));
    assert_eq!(ran.stdout.lines().count(), 2);
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_denied_login_in_the_browser_stores_nothing() {
    let server = server(|settings| settings.consent = Consent::Denied);
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    let page = get(&redirect(&address));
    assert!(page.status == 200 && page.body.contains("Nothing was granted"), "{page:?}");
    let text = format!(
        "onegrant: cannot log in: the request was refused: access_denied: the person said no\n\
         hint: onegrant login {} --client-id {} --browser   # and agree this time\n",
        server.issuer(),
        server.client_id()
    );
    assert_eq!(process.finish(), Ran::failed(3, format!("open  {address}\n{text}")));
    assert_eq!(home.names(), Vec::<String>::new());
    let counts = server.counts();
    assert_eq!((counts.token_requests, counts.unexpected), (0, 0));
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let server = server(|_| {});
        let home = Home::new();
        let (process, address) = start(&mut login(&home, &server, &[]));
        let redirect_uri = value(&address, "redirect_uri");
        assert_eq!(request("GET", &redirect_uri).unwrap().status, 400, "it listens");
        process.signal(signal);
        assert_eq!(process.finish().code, -signal.as_raw());
        assert!(request("GET", &redirect_uri).is_err(), "nothing listens any more");
        assert_eq!(home.names(), Vec::<String>::new());
        assert_eq!(server.counts().unexpected, 0);
    }
}

/// A grant that the server has given is stored, whatever the person presses meanwhile.
#[test]
fn ctrl_c_between_the_answer_and_the_store_waits() {
    let server = server(|_| {});
    let home = Home::new();
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let (process, address) = start(&mut login(&home, &server, &[]));
    get(&redirect(&address));
    server.wait_until(|counts| counts.token_requests == 1);
    process.signal(Signal::INT);
    gate.open();
    assert_eq!(process.finish().code, -Signal::INT.as_raw());
    assert!(server.is_alive(&home.tokens().refresh_token), "it was stored first");
    assert_eq!(server.counts().unexpected, 0);
}
