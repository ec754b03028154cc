//! Which flow gets the grant: the one that an option names, else the best one that the server and this machine allow.

use super::client::Client;
use super::server::Server;
use crate::cli::{self, login_flow};
use crate::environment::Desktop;
use crate::error::{Failure, Kind};
use crate::grant::Flow;
use crate::protocol::providers::Redirect;

/// Chooses. If the server offers several flows, the one that is easiest for a person: the browser if there is one, else a
/// code for another device, else an address that is opened elsewhere. `before` is the flow of the earlier login. Fails if the
/// server refuses what every login by browser sends.
pub fn choose(
    arguments: &cli::Login,
    server: &Server,
    client: Option<&Client>,
    before: Option<Flow>,
    desktop: Desktop,
) -> Result<Flow, Failure> {
    // A client that is to be registered gets the device grant only from a server that lists it.
    let may_have_device = client.is_some() || server.grant_types_supported.is_empty();
    let has_device = match may_have_device {
        true => server.endpoints.device_authorization.is_some(),
        false => server.lists_device_grant(),
    };
    let comes_back = server.row().is_none_or(|provider| provider.redirect != Redirect::Nowhere);
    let has_browser = server.endpoints.authorization.is_some()
        && (comes_back || client.is_some_and(|client| client.redirect_uri.is_some()));
    let lacking = |what: &str, option: &str| {
        let message = format!("cannot log in: the server announces no {what}");
        let hint = server.advice().unwrap_or_else(|| format!("onegrant login {option} URL"));
        Err(Failure::new(Kind::Usage, message).hint(hint))
    };
    let chosen = match login_flow(arguments)? {
        Some(Flow::Device) if !has_device => {
            lacking("device authorization endpoint", "--device-authorization-endpoint")
        }
        Some(Flow::Browser) if !has_browser => {
            lacking("authorization endpoint", "--authorization-endpoint")
        }
        Some(flow) => Ok(flow),
        None if client.is_some_and(|client| client.grant.is_some()) => Ok(Flow::Client),
        // `--no-open` implies the browser flow.
        None if has_browser && arguments.no_open => Ok(Flow::Browser),
        None if has_device && before == Some(Flow::Device) => Ok(Flow::Device),
        None if has_browser && (desktop.has_browser || !has_device) => Ok(Flow::Browser),
        None if has_device => Ok(Flow::Device),
        None => Err(Failure::new(
            Kind::Usage,
            "cannot log in: the server announces neither an authorization endpoint nor a device authorization endpoint",
        )
        .hint("onegrant login --refresh-token-stdin < FILE   # imports a refresh token")),
    };
    match chosen {
        Ok(Flow::Browser) if server.refuses_s256 => {
            let message = "cannot log in: the server lists methods of PKCE, and S256 is not one of them";
            let hint = "onegrant login --device   # a login by browser is not safe without it (RFC 9700 section 2.1.1)";
            Err(Failure::new(Kind::Usage, message).hint(hint))
        }
        chosen => chosen,
    }
}

/// Whether an option names a flow in which a person takes part, now or when the refresh token was obtained.
pub fn is_of_a_person(arguments: &cli::Login) -> bool {
    arguments.device || arguments.browser || arguments.refresh_token_stdin
}

/// Whether a client that this login registers can take part: a person agrees to it.
pub fn may_register(arguments: &cli::Login) -> bool {
    let is_without_person = arguments.client_credentials || arguments.subject_token.is_some();
    !is_without_person && !arguments.refresh_token_stdin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::ClientGrant;
    use crate::protocol::metadata::EndpointUrls;

    fn server_with(browser: bool, device: bool) -> Server {
        let endpoints = EndpointUrls {
            authorization: browser.then(|| "https://as.example/authorize".to_owned()),
            device_authorization: device.then(|| "https://as.example/device".to_owned()),
            ..EndpointUrls::default()
        };
        Server { endpoints, ..Server::default() }
    }

    #[test]
    #[rustfmt::skip]
    fn the_best_flow_that_server_and_machine_allow() {
        // (options, server has a browser endpoint, a device endpoint, the client has a grant of its own, a browser here, wanted)
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
        for (options, has_browser, has_device, has_grant, has_browser_here, wanted) in cases {
            let arguments = cli::Login {
                device: options.contains(&"--device"),
                browser: options.contains(&"--browser"),
                no_open: options.contains(&"--no-open"),
                refresh_token_stdin: options.contains(&"--refresh-token-stdin"),
                client_credentials: options.contains(&"--client-credentials"),
                ..cli::Login::default()
            };
            let server = server_with(has_browser, has_device);
            let client = Client { grant: has_grant.then_some(ClientGrant::ClientCredentials), ..Client::default() };
            let desktop = Desktop { has_browser: has_browser_here, ..Desktop::default() };
            let chosen = format!("{:?}", choose(&arguments, &server, Some(&client), None, desktop));
            assert!(chosen.contains(wanted), "{options:?} {has_browser} {has_device} {has_grant} {desktop:?}: {chosen}");
        }
    }

    /// RFC 9700 section 2.1.1. A server that lists no methods is not asked.
    #[test]
    fn no_login_by_browser_at_a_server_that_refuses_s256() {
        let server = Server { refuses_s256: true, ..server_with(true, true) };
        let desktop = Desktop { has_browser: true, ..Desktop::default() };
        let choose = |device, server: &Server| {
            let arguments = cli::Login { device, ..cli::Login::default() };
            choose(&arguments, server, Some(&Client::default()), None, desktop)
        };
        assert_eq!(choose(false, &server).map_err(|failure| failure.kind), Err(Kind::Usage));
        assert_eq!(choose(true, &server), Ok(Flow::Device));
        assert_eq!(choose(false, &Server { refuses_s256: false, ..server }), Ok(Flow::Browser));
    }

    #[test]
    fn a_login_after_one_with_a_device_is_one_with_a_device() {
        let (both, without_device) = (server_with(true, true), server_with(true, false));
        let desktop = Desktop { has_browser: true, ..Desktop::default() };
        let (none, no_open) = (cli::Login::default(), cli::Login { no_open: true, ..cli::Login::default() });
        let cases = [
            (&none, &both, Some(Flow::Device), Flow::Device),
            (&no_open, &both, Some(Flow::Device), Flow::Browser),
            (&none, &without_device, Some(Flow::Device), Flow::Browser),
            (&none, &both, Some(Flow::Browser), Flow::Browser),
            (&none, &both, Some(Flow::Imported), Flow::Browser),
            (&none, &both, None, Flow::Browser),
        ];
        for (arguments, server, before, wanted) in cases {
            let chosen = choose(arguments, server, Some(&Client::default()), before, desktop);
            assert_eq!(chosen, Ok(wanted), "{arguments:?} {server:?} {before:?}");
        }
    }
}
