//! `--browser`: a person agrees in a browser that comes back to this machine (RFC 8252).

mod listener;
mod opener;
mod page;
mod terminal;

use super::{Gained, refused};
use crate::cli;
use crate::driver::Clock;
use crate::environment::Desktop;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret};
use crate::oauth;
use crate::oauth::token::HttpTokenEndpoint;
use crate::output;
use crate::profile::Context;
use crate::protocol::authorization::{Authorization, Response, pasted_query};
use crate::protocol::device::DEFAULT_LIFETIME;
use crate::protocol::loopback::RedirectUri;
use crate::protocol::pkce::RANDOM_BYTES;
use crate::protocol::providers::{self, Redirect};
use crate::protocol::token::Answer;
use crate::system::{SignalsHeld, random};
use crate::text::describe;
use listener::{Listener, ListenerEvent};
use opener::Browser;
use serde_json::json;
use std::time::{Duration, Instant};
use terminal::Terminal;

/// How long a person is waited for: as long as the code of the device flow lives.
const PERSON_LIMIT: Duration = DEFAULT_LIFETIME;

/// Where the browser cannot come back to this machine.
const PASTE: &str = "onegrant: if the browser cannot come back here, paste the address that it was sent to\n";

/// Listens, shows the address, opens it, waits for its answer, and exchanges the code in it.
pub fn run(arguments: &cli::Login, document: &Document, context: &Context) -> anyhow::Result<Gained> {
    let registered = redirect_uri(document)?;
    let (listener, port) = Listener::bind(&registered, document.redirect_port)?;
    let Some(authorization) = Authorization::new(document, &registered.with_port(port), texts()?) else {
        let message = "cannot start the browser flow: the server names no authorization endpoint";
        return Err(Failure::new(Kind::Usage, message)
            .hint("onegrant login --authorization-endpoint URL")
            .into());
    };
    let timeout = context.globals.timeout;
    let address = oauth::authorization::address(
        context.client(),
        document,
        &authorization,
        timeout,
        context.now().wall,
    )?;
    show(arguments, &authorization, &address)?;
    let code = Race::begin(listener, arguments, &address).run(&authorization, PERSON_LIMIT)?;

    let signals = SignalsHeld::hold();
    let sent_at = context.now().wall;
    let endpoint = HttpTokenEndpoint::new(context.client());
    match endpoint.exchange(&authorization, document, &code, timeout, sent_at) {
        Answer::Refreshed(answer) => {
            Ok(Gained { answer, sent_at, nonce: authorization.nonce().cloned(), signals })
        }
        answer => Err(refused(answer).into()),
    }
}

/// As it was told, else as the provider takes it.
fn redirect_uri(document: &Document) -> Result<RedirectUri, Failure> {
    let provider = providers::of(document);
    match (&document.redirect_uri, provider.map(|provider| provider.redirect)) {
        (Some(uri), _) => RedirectUri::parse(uri),
        (None, Some(Redirect::LocalhostAnyPort)) => RedirectUri::parse("http://localhost/callback"),
        (None, Some(Redirect::Registered)) if document.redirect_port.is_none() => {
            let name = provider.map_or("the server", |provider| provider.name);
            let message =
                format!("cannot log in: {name} takes the redirect URI alone that was registered there");
            Err(Failure::new(Kind::Usage, message)
                .hint("onegrant login --redirect-uri http://localhost:PORT/PATH"))
        }
        (None, _) => Ok(RedirectUri::default()),
    }
}

/// State, code_verifier and nonce.
fn texts() -> Result<[[u8; RANDOM_BYTES]; 3], Failure> {
    let failed = |error| Failure::new(Kind::Defect, format!("cannot log in: {}", describe(&error)));
    let text = || random::<RANDOM_BYTES>().map_err(failed);
    Ok([text()?, text()?, text()?])
}

/// The address holds nothing that steers a terminal: it is of a checked URL and form-encoded parameters. It is shown
/// whole, however long it is.
fn show(arguments: &cli::Login, authorization: &Authorization, address: &str) -> anyhow::Result<()> {
    if arguments.json {
        let event = json!({
            "event": "authorization",
            "authorization_uri": address,
            "redirect_uri": authorization.redirect_uri(),
        });
        return output::answer(format!("{event}\n").as_bytes());
    }
    output::say(&format!("open  {address}\n"));
    Ok(())
}

/// What the answer can come through: the browser, or a person who pastes it. The first that is valid counts.
struct Race {
    listener: Listener,
    browser: Option<Browser>,
    terminal: Option<Terminal>,
}

impl Race {
    /// Opens the address, where it is to be opened, and says where else its answer is taken.
    fn begin(listener: Listener, arguments: &cli::Login, address: &str) -> Self {
        let place = Desktop::here();
        let is_opened = place.has_browser && !arguments.no_open;
        let race = Self {
            listener,
            browser: is_opened.then(|| Browser::open(address)),
            terminal: Terminal::of_stdin(),
        };
        if place.is_remote || !is_opened {
            race.offer_to_paste();
        }
        race
    }

    fn offer_to_paste(&self) {
        if self.terminal.is_some() {
            output::say(PASTE);
        }
    }

    /// Waits for the code, no longer than `limit`. Nothing listens any more when this returns.
    fn run(mut self, authorization: &Authorization, limit: Duration) -> Result<Secret, Failure> {
        let began = Instant::now();
        loop {
            let Some(left) = limit.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(nobody(limit));
            };
            if let Some(why) = self.browser.as_mut().and_then(Browser::look_after) {
                output::say(&format!(
                    "onegrant: no browser could be opened ({why}): open the address yourself\n"
                ));
                self.offer_to_paste();
            }
            let pause = self.browser.as_ref().and_then(Browser::pause).map_or(left, |pause| pause.min(left));
            match self.listener.next(self.terminal.as_ref(), authorization, pause) {
                ListenerEvent::Answered(answer) => return answer,
                ListenerEvent::Nothing => {}
                ListenerEvent::Typed => {
                    if let Some(code) = self.typed(authorization)? {
                        return Ok(code);
                    }
                }
            }
        }
    }

    /// What was pasted. The end of the input is not the end of the login.
    fn typed(&mut self, authorization: &Authorization) -> Result<Option<Secret>, Failure> {
        let Some(terminal) = &mut self.terminal else { return Ok(None) };
        let Some(lines) = terminal.read() else {
            self.terminal = None;
            return Ok(None);
        };
        for line in lines.iter().map(Secret::expose).filter(|line| !line.trim().is_empty()) {
            let why = match pasted_query(line).map(|query| authorization.read(query)) {
                Some(Response::Granted(code)) => return Ok(Some(code)),
                Some(Response::Refused(failure)) => return Err(failure),
                Some(Response::Foreign(why)) => why,
                None => "it has no query",
            };
            output::say(&format!("onegrant: that is not the address that the browser was sent to: {why}\n"));
        }
        Ok(None)
    }
}

fn nobody(limit: Duration) -> Failure {
    let minutes = limit.as_secs() / 60;
    let message = format!("cannot log in: no answer came from the browser within {minutes} minutes");
    Failure::new(Kind::LoginRequired, message).hint("onegrant login")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of the wait, which no test of the whole can wait for.
    #[test]
    fn nobody_is_waited_for_for_ever() {
        let mut document = Document::new("https://as.example", "https://as.example/token");
        document.authorization_endpoint = Some("https://as.example/authorize".to_owned());
        let registered = RedirectUri::default();
        let (listener, port) = Listener::bind(&registered, None).unwrap();
        let authorization =
            Authorization::new(&document, &registered.with_port(port), texts().unwrap()).unwrap();
        // A client that says nothing does not lengthen it.
        let silent = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let limit = Duration::from_millis(50);
        let race = Race { listener, browser: None, terminal: None };
        let began = Instant::now();
        let failure = race.run(&authorization, limit).unwrap_err();
        assert!(began.elapsed() >= limit);
        assert_eq!(failure.kind, Kind::LoginRequired);
        assert_eq!(
            nobody(PERSON_LIMIT).message,
            "cannot log in: no answer came from the browser within 15 minutes"
        );
        drop(silent);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nothing listens any more");
    }
}
