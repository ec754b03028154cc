//! Which flow gets the grant: the one that is asked for, else the best that server and place allow.

use super::provider;
use crate::arguments::login_flow;
use crate::cli;
use crate::environment::Desktop;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Flow};
use crate::protocol::providers::{self, Redirect};

/// Decides. A server that can do several is asked for what costs a person least: the browser where there is one, else
/// the code for another device, else an address to be opened somewhere and its answer to be pasted.
pub fn choose(arguments: &cli::Login, document: &Document, place: Desktop) -> Result<Flow, Failure> {
    let asked_for = login_flow(arguments)?;
    let has_device = document.device_authorization_endpoint.is_some();
    let comes_back = providers::of(document).is_none_or(|provider| provider.redirect != Redirect::Nowhere);
    let has_browser =
        document.authorization_endpoint.is_some() && (comes_back || document.redirect_uri.is_some());
    let before = document.login.as_ref().map(|login| login.flow);
    let lacking = |what: &str, option: &str| {
        let message = format!("cannot log in: the server announces no {what}");
        let hint = provider::advice(document).unwrap_or_else(|| format!("onegrant login {option} URL"));
        Err(Failure::new(Kind::Usage, message).hint(hint))
    };
    match asked_for {
        Some(Flow::Device) if !has_device => {
            lacking("device authorization endpoint", "--device-authorization-endpoint")
        }
        Some(Flow::Browser) if !has_browser => {
            lacking("authorization endpoint", "--authorization-endpoint")
        }
        Some(flow) => Ok(flow),
        None if document.grant.is_some() => Ok(Flow::Client),
        // It means the browser's address.
        None if has_browser && arguments.no_open => Ok(Flow::Browser),
        // As it went before.
        None if has_device && before == Some(Flow::Device) => Ok(Flow::Device),
        None if has_browser && (place.has_browser || !has_device) => Ok(Flow::Browser),
        None if has_device => Ok(Flow::Device),
        None => Err(Failure::new(
            Kind::Usage,
            "cannot log in: the server announces neither an authorization endpoint nor a device authorization endpoint",
        )
        .hint("onegrant login --refresh-token-stdin < FILE   # imports a refresh token")),
    }
}

/// Whether one of the options asks for a flow in which a person takes part, or took part.
pub fn is_of_a_person(arguments: &cli::Login) -> bool {
    arguments.device || arguments.browser || arguments.refresh_token_stdin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::ClientGrant;

    #[test]
    #[rustfmt::skip]
    fn the_best_that_server_and_place_allow() {
        // (options, server has a browser endpoint, a device endpoint, the profile has a client's grant, a browser here, wanted)
        type Case = (&'static [&'static str], bool, bool, bool, bool, &'static str);
        let cases: [Case; 15] = [
            (&[], true, true, false, true, "Ok(Browser)"),
            (&[], true, true, false, false, "Ok(Device)"),
            (&[], true, false, false, false, "Ok(Browser)"),
            (&[], false, true, false, true, "Ok(Device)"),
            (&["--no-open"], true, true, false, false, "Ok(Browser)"),
            (&["--no-open"], false, true, false, false, "Ok(Device)"),
            (&[], true, true, true, true, "Ok(Client)"),
            (&["--device"], true, true, true, true, "Ok(Device)"),
            (&["--browser"], true, true, false, false, "Ok(Browser)"),
            (&["--client-credentials"], false, false, false, false, "Ok(Client)"),
            (&["--refresh-token-stdin"], false, false, false, false, "Ok(Imported)"),
            (&["--device"], true, false, false, true, "no device authorization endpoint"),
            (&["--browser"], false, true, false, true, "no authorization endpoint"),
            (&["--device", "--browser"], true, true, false, true, "--device or --browser, not both"),
            (&[], false, false, false, true, "neither"),
        ];
        for (options, has_browser, has_device, has_grant, place_has_browser, wanted) in cases {
            let arguments = cli::Login {
                device: options.contains(&"--device"),
                browser: options.contains(&"--browser"),
                no_open: options.contains(&"--no-open"),
                refresh_token_stdin: options.contains(&"--refresh-token-stdin"),
                client_credentials: options.contains(&"--client-credentials"),
                ..cli::Login::default()
            };
            let mut document = Document::new("https://as.example", "https://as.example/token");
            document.authorization_endpoint = has_browser.then(|| "https://as.example/authorize".to_owned());
            document.device_authorization_endpoint = has_device.then(|| "https://as.example/device".to_owned());
            document.grant = has_grant.then_some(ClientGrant::ClientCredentials);
            let place = Desktop { has_browser: place_has_browser, ..Desktop::default() };
            let chosen = format!("{:?}", choose(&arguments, &document, place));
            assert!(chosen.contains(wanted), "{options:?} {has_browser} {has_device} {has_grant} {place:?}: {chosen}");
        }
    }
}
