//! `--browser`: a person agrees in a browser, which comes back to this machine (RFC 8252).

mod listener;
mod opener;
mod page;
mod terminal;

use super::client::Client;
use super::configuration::Configuration;
use super::server::Server;
use super::{Granted, NotGranted, registration};
use crate::cli;
use crate::driver::Clock;
use crate::environment::Desktop;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret};
use crate::oauth;
use crate::oauth::token::HttpTokenEndpoint;
use crate::output;
use crate::profile::Context;
use crate::protocol::authorization::{Authorization, AuthorizationResponse, pasted_query};
use crate::protocol::device::DEFAULT_LIFETIME;
use crate::protocol::failure::LOGIN;
use crate::protocol::loopback::RedirectUri;
use crate::protocol::pkce::RANDOM_BYTES;
use crate::protocol::providers::Redirect;
use crate::protocol::token::Answer;
use crate::system::{SignalsHeld, random};
use crate::text::describe;
use listener::{Listener, ListenerEvent};
use opener::Browser;
use serde_json::json;
use std::time::{Duration, Instant};
use terminal::Terminal;

/// How long the flow waits for a person: as long as a code of the device flow is valid.
const PERSON_LIMIT: Duration = DEFAULT_LIFETIME;

/// What is printed if the browser may be unable to come back to this machine.
const PASTE: &str = "onegrant: if the browser cannot come back here, paste the address that it was sent to\n";

/// The loopback listener that the browser comes back to, and the redirect URI that leads to it.
pub struct Callback {
    listener: Listener,
    redirect_uri: String,
}

impl Callback {
    /// Listens where the redirect URI of this client points to.
    pub fn of(server: &Server, client: &Client) -> Result<Self, Failure> {
        Self::listen(&redirect_uri(server, client)?, client.redirect_port)
    }

    /// Listens where `registered` points to. If it names no port: on `port`, or on any free one.
    pub fn listen(registered: &RedirectUri, port: Option<u16>) -> Result<Self, Failure> {
        let (listener, port) = Listener::bind(registered, port)?;
        Ok(Self { listener, redirect_uri: registered.with_port(port) })
    }

    /// The redirect URI, with the port on which it listens.
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }
}

/// Shows the address, opens it, waits for the answer of the browser, and exchanges the code in it.
pub fn run(
    arguments: &cli::Login,
    configuration: &Configuration,
    callback: Callback,
    context: &Context,
) -> Result<Granted, NotGranted> {
    let document = configuration.document();
    let Some(authorization) = Authorization::new(document, &callback.redirect_uri, random_texts()?) else {
        let message = "cannot start the browser flow: the server names no authorization endpoint";
        return Err(Failure::new(Kind::Usage, message)
            .hint("onegrant login --authorization-endpoint URL")
            .into());
    };
    let address = oauth::authorization::address(
        context.client(),
        document,
        &authorization,
        context.globals.timeout,
        context.now().wall,
    );
    let address = address.map_err(|failed| NotGranted::of(failed, document))?;
    if let Some(endpoint) = &document.pushed_authorization_request_endpoint {
        (context.dependencies().log)(1, &format!("pushed the authorization request to {endpoint}"));
    }
    registration::begin_wait(document, context)?;
    show(arguments, &authorization, &address)?;
    let wait = Wait::begin(callback.listener, arguments, &address);
    let Some(came_back) = wait.run(&authorization, PERSON_LIMIT) else {
        return Err(no_answer(PERSON_LIMIT).into());
    };
    let code = match came_back {
        Ok(code) => code,
        Err(failure) => {
            registration::end_wait(document, context);
            return Err(failure.into());
        }
    };
    exchange(&authorization, document, &code, context)
}

/// Exchanges the code. Signals are held back from here until the grant is stored.
fn exchange(
    authorization: &Authorization,
    document: &Document,
    code: &Secret,
    context: &Context,
) -> Result<Granted, NotGranted> {
    let signals = SignalsHeld::hold();
    let sent_at = context.now().wall;
    let endpoint = HttpTokenEndpoint::new(context.client());
    let answer = endpoint.exchange(authorization, document, code, context.globals.timeout, sent_at);
    let answer = match answer {
        Answer::Refreshed(answer) => answer,
        answer => {
            drop(signals);
            let failed = answer.failed_request(&LOGIN);
            if !failed.rejects_client {
                registration::end_wait(document, context);
            }
            return Err(NotGranted::of(failed, document));
        }
    };
    Ok(Granted { answer, sent_at, nonce: authorization.nonce().cloned(), signals })
}

/// The redirect URI of the client, else the one that the provider accepts.
fn redirect_uri(server: &Server, client: &Client) -> Result<RedirectUri, Failure> {
    let provider = server.row();
    if let Some(registration) = &client.registration {
        return RedirectUri::parse(&registration.redirect_uri);
    }
    match (&client.redirect_uri, provider.map(|provider| provider.redirect)) {
        (Some(uri), _) => RedirectUri::parse(uri),
        (None, Some(Redirect::LocalhostAnyPort)) => RedirectUri::parse("http://localhost/callback"),
        (None, Some(Redirect::Registered)) if client.redirect_port.is_none() => {
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
fn random_texts() -> Result<[[u8; RANDOM_BYTES]; 3], Failure> {
    let failed = |error| Failure::new(Kind::Defect, format!("cannot log in: {}", describe(&error)));
    let text = || random::<RANDOM_BYTES>().map_err(failed);
    Ok([text()?, text()?, text()?])
}

/// Shows the whole address, however long it is. It consists of a checked URL and form-encoded parameters, so no character in
/// it controls a terminal.
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

/// The wait for the answer: the browser brings it, or a person pastes it. The first valid one counts.
struct Wait {
    listener: Listener,
    browser: Option<Browser>,
    terminal: Option<Terminal>,
}

impl Wait {
    /// Opens the address unless `--no-open` was given or there is no browser, and offers to paste its answer.
    fn begin(listener: Listener, arguments: &cli::Login, address: &str) -> Self {
        let desktop = Desktop::here();
        let is_opened = desktop.has_browser && !arguments.no_open;
        let wait = Self {
            listener,
            browser: is_opened.then(|| Browser::open(address)),
            terminal: Terminal::of_stdin(),
        };
        if desktop.is_remote || !is_opened {
            wait.offer_to_paste();
        }
        wait
    }

    fn offer_to_paste(&self) {
        if self.terminal.is_some() {
            output::say(PASTE);
        }
    }

    /// Waits for the answer of the server, no longer than `limit`: the code, or why there is none. `None` if nothing came
    /// back. Closes the listener.
    fn run(mut self, authorization: &Authorization, limit: Duration) -> Option<Result<Secret, Failure>> {
        let began = Instant::now();
        loop {
            let left = limit.checked_sub(began.elapsed()).filter(|left| !left.is_zero())?;
            if let Some(why) = self.browser.as_mut().and_then(Browser::look_after) {
                output::say(&format!(
                    "onegrant: no browser could be opened ({why}): open the address yourself\n"
                ));
                self.offer_to_paste();
            }
            let pause = self.browser.as_ref().and_then(Browser::pause).map_or(left, |pause| pause.min(left));
            match self.listener.next(self.terminal.as_ref(), authorization, pause) {
                ListenerEvent::Answered(answer) => return Some(answer),
                ListenerEvent::Nothing => {}
                ListenerEvent::Typed => {
                    if let Some(answer) = self.typed(authorization) {
                        return Some(answer);
                    }
                }
            }
        }
    }

    /// Reads what was pasted. The end of the input does not end the login.
    fn typed(&mut self, authorization: &Authorization) -> Option<Result<Secret, Failure>> {
        let terminal = self.terminal.as_mut()?;
        let Some(lines) = terminal.read() else {
            self.terminal = None;
            return None;
        };
        for line in lines.iter().map(Secret::expose).filter(|line| !line.trim().is_empty()) {
            let why = match pasted_query(line).map(|query| authorization.read(query)) {
                Some(AuthorizationResponse::Granted(code)) => return Some(Ok(code)),
                Some(AuthorizationResponse::Refused(failure)) => return Some(Err(failure)),
                Some(AuthorizationResponse::Foreign(why)) => why,
                None => "it has no query",
            };
            output::say(&format!("onegrant: that is not the address that the browser was sent to: {why}\n"));
        }
        None
    }
}

fn no_answer(limit: Duration) -> Failure {
    let minutes = limit.as_secs() / 60;
    let message = format!("cannot log in: no answer came from the browser within {minutes} minutes");
    Failure::new(Kind::LoginRequired, message).hint("onegrant login")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test of the whole program can wait for this limit.
    #[test]
    fn the_wait_for_the_browser_ends() {
        let mut document = Document::new("https://as.example", "https://as.example/token");
        document.authorization_endpoint = Some("https://as.example/authorize".to_owned());
        let registered = RedirectUri::default();
        let (listener, port) = Listener::bind(&registered, None).unwrap();
        let authorization =
            Authorization::new(&document, &registered.with_port(port), random_texts().unwrap()).unwrap();
        // A client that sends nothing does not lengthen the wait.
        let silent = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let limit = Duration::from_millis(50);
        let wait = Wait { listener, browser: None, terminal: None };
        let began = Instant::now();
        assert_eq!(wait.run(&authorization, limit), None);
        assert!(began.elapsed() >= limit);
        assert_eq!(no_answer(limit).kind, Kind::LoginRequired);
        assert_eq!(
            no_answer(PERSON_LIMIT).message,
            "cannot log in: no answer came from the browser within 15 minutes"
        );
        drop(silent);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nothing listens any more");
    }
}
