//! The command that logs in again: a login that failed has stored nothing, so the next one needs the same options.

use crate::cli::{self, Input};
use crate::error::Failure;
use crate::grant::{Document, Flow};
use crate::protocol::client;
use crate::protocol::hints::shell_word;
use std::fmt::Display;

/// What every hint of a login begins with.
const LOGIN: &str = "onegrant login";

/// What comes between a command and a comment in a hint.
const COMMENT: &str = "   #";

/// The options that choose a flow: a hint that has one of them means that one.
const FLOWS: [&str; 5] =
    ["--device", "--browser", "--refresh-token-stdin", "--client-credentials", "--subject-token"];

/// An option of the failed call as it is written again.
struct Given {
    /// Empty: the server, which has no name before it.
    name: &'static str,
    value: Option<String>,
}

/// The options of a login that failed.
pub struct Again {
    given: Vec<Given>,
    /// Whether the endpoints of the server were not found: those that a hint names take the place of the server.
    is_undiscovered: bool,
    /// Flows that no endpoint is known for, each with the option that names it.
    without_endpoint: Vec<(&'static str, &'static str)>,
}

impl Again {
    /// What the call said. `known`: the stored document of the same client and the one of this login; what is stored in the
    /// same way need not be said again.
    pub fn new(arguments: &cli::Login, known: Option<(&Document, &Document)>) -> Self {
        let is_new = |differs: fn(&Document, &Document) -> bool| {
            known.is_none_or(|(before, now)| differs(before, now))
        };
        let mut given = Vec::new();
        let mut add = |name, value: Option<String>, is_new: bool| {
            given.extend(value.filter(|_| is_new).map(|value| Given { name, value: Some(value) }));
        };
        let path = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
        let is_another_server = known.is_none();
        add("", arguments.issuer.clone(), is_another_server);
        let urls = [
            ("--token-endpoint", &arguments.token_endpoint, is_another_server),
            (
                "--authorization-endpoint",
                &arguments.authorization_endpoint,
                is_new(|a, b| a.authorization_endpoint != b.authorization_endpoint),
            ),
            (
                "--device-authorization-endpoint",
                &arguments.device_authorization_endpoint,
                is_new(|a, b| a.device_authorization_endpoint != b.device_authorization_endpoint),
            ),
            (
                "--revocation-endpoint",
                &arguments.revocation_endpoint,
                is_new(|a, b| a.revocation_endpoint != b.revocation_endpoint),
            ),
            (
                "--userinfo-endpoint",
                &arguments.userinfo_endpoint,
                is_new(|a, b| a.userinfo_endpoint != b.userinfo_endpoint),
            ),
            ("--client-id", &arguments.client_id, is_another_server),
        ];
        for (name, url, is_new) in urls {
            add(name, url.clone(), is_new);
        }
        let is_new_client = is_new(|a, b| {
            (&a.client_secret, &a.client_secret_env, &a.client_key, a.client_auth)
                != (&b.client_secret, &b.client_secret_env, &b.client_key, b.client_auth)
        });
        add("--client-secret-file", arguments.client_secret_file.as_ref().map(input), is_new_client);
        add(
            "--client-auth",
            arguments.client_auth.map(|method| client::name(method).to_owned()),
            is_new_client,
        );
        add("--client-key-file", arguments.client_key_file.as_ref().map(path), is_new_client);
        add("--client-key-id", arguments.client_key_id.clone(), is_new_client);
        add("--client-key-audience", arguments.client_key_audience.clone(), is_new_client);
        add("--scope", arguments.scope.clone(), is_new(|a, b| a.scope != b.scope));
        for resource in &arguments.resource {
            add("--resource", Some(resource.clone()), is_new(|a, b| a.resource != b.resource));
        }
        add("--audience", arguments.audience.clone(), is_new(|a, b| a.audience != b.audience));
        for parameter in &arguments.param {
            let value = format!("{}={}", parameter.name, parameter.value);
            add("--param", Some(value), is_new(|a, b| a.parameters != b.parameters));
        }
        let is_new_redirect =
            is_new(|a, b| (&a.redirect_uri, a.redirect_port) != (&b.redirect_uri, b.redirect_port));
        add("--redirect-port", arguments.redirect_port.as_ref().map(text), is_new_redirect);
        add("--redirect-uri", arguments.redirect_uri.clone(), is_new_redirect);
        for host in &arguments.git_host {
            add("--git-host", Some(host.clone()), is_new(|a, b| a.git_hosts != b.git_hosts));
        }
        let is_new_grant = is_new(|a, b| a.grant != b.grant);
        add("--subject-token", arguments.subject_token.as_ref().map(text), is_new_grant);
        add("--subject-token-type", arguments.subject_token_type.clone(), is_new_grant);
        let flow_before = known.and_then(|(before, _)| before.login.as_ref()).map(|login| login.flow);
        let switches = [
            ("--device", arguments.device, flow_before != Some(Flow::Device)),
            ("--browser", arguments.browser, flow_before != Some(Flow::Browser)),
            ("--refresh-token-stdin", arguments.refresh_token_stdin, true),
            ("--client-credentials", arguments.client_credentials, is_new_grant),
            ("--pushed", arguments.pushed, true),
            ("--no-open", arguments.no_open, true),
        ];
        let switches = switches.into_iter().filter(|(_, is_given, is_new)| *is_given && *is_new);
        given.extend(switches.map(|(name, ..)| Given { name, value: None }));
        Self { given, is_undiscovered: false, without_endpoint: Vec::new() }
    }

    /// A hint that chooses a flow names its endpoint too, if this document of the login has none.
    pub fn for_endpoints_of(self, document: &Document) -> Self {
        let flows = [
            ("--device", "--device-authorization-endpoint", &document.device_authorization_endpoint),
            ("--browser", "--authorization-endpoint", &document.authorization_endpoint),
        ];
        let missing = flows.into_iter().filter(|(.., endpoint)| endpoint.is_none());
        Self { without_endpoint: missing.map(|(flow, option, _)| (flow, option)).collect(), ..self }
    }

    /// The same of a login that did not find out what it needs to know. Nothing of the server is stored.
    pub fn undiscovered(arguments: &cli::Login) -> Self {
        Self { is_undiscovered: true, ..Self::new(arguments, None) }
    }

    /// Makes a hint that would log in again do so: with all that this call said, but for what the hint changes.
    pub fn complete(&self, mut error: anyhow::Error) -> anyhow::Error {
        let hint = error.downcast_mut::<Failure>().and_then(|failure| failure.hint.as_mut());
        if let Some(hint) = hint
            && let Some(rest) = hint.strip_prefix(LOGIN)
        {
            *hint = self.command(rest);
        }
        error
    }

    /// `rest` is what the hint says after `onegrant login`.
    fn command(&self, rest: &str) -> String {
        let (words, comment) = rest.find(COMMENT).map_or((rest, ""), |start| rest.split_at(start));
        // A placeholder for what is known is not needed.
        let words = match self.given.iter().any(|given| given.name == "--client-id") {
            true => words.replace(" --client-id ID", ""),
            false => words.to_owned(),
        };
        let words = self.without_endpoint.iter().fold(words, |words, (flow, option)| {
            let is_needed = words.split(' ').any(|word| word == *flow) && !words.contains(option);
            if is_needed { words.replacen(flow, &format!("{flow} {option} URL"), 1) } else { words }
        });
        let has = |name: &str| words.split(' ').any(|word| word == name);
        let (server, words) = match words.trim_start().split_once(' ') {
            _ if words.trim_start().starts_with('-') || words.trim().is_empty() => ("", words.trim()),
            Some((server, words)) => (server, words.trim()),
            None => (words.trim(), ""),
        };
        let is_replaced = |given: &Given| match (given.name, &given.value) {
            ("", _) => !server.is_empty() || (self.is_undiscovered && has("--token-endpoint")),
            ("--param", Some(value)) => {
                let name = value.split('=').next().unwrap_or_default();
                words.contains(&format!("--param {name}="))
            }
            ("--subject-token-type", _) => FLOWS.iter().any(|flow| has(flow)),
            (name, _) if FLOWS.contains(&name) => FLOWS.iter().any(|flow| has(flow)),
            (name, _) => has(name),
        };
        let kept = self.given.iter().filter(|given| !is_replaced(given));
        let kept = kept.flat_map(|given| {
            let name = Some(given.name.to_owned()).filter(|name| !name.is_empty());
            name.into_iter().chain(given.value.as_deref().map(shell_word))
        });
        let all = [LOGIN, server].into_iter().map(str::to_owned).chain(kept).chain([words.to_owned()]);
        all.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ") + comment
    }
}

fn text(value: &impl Display) -> String {
    value.to_string()
}

/// As `--client-secret-file` takes it.
fn input(input: &Input) -> String {
    match input {
        Input::Stdin => "-".to_owned(),
        Input::File(path) => path.to_string_lossy().into_owned(),
        Input::Environment(name) => format!("env:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Parameter;
    use crate::grant::ClientAuthentication;

    fn arguments() -> cli::Login {
        cli::Login {
            token_endpoint: Some("https://as.example/t?a=1&b=2".to_owned()),
            client_id: Some("it's me".to_owned()),
            client_secret_file: Some(Input::File("a b".into())),
            client_auth: Some(ClientAuthentication::Post),
            scope: Some("read write".to_owned()),
            resource: vec!["https://r1".to_owned(), "https://r2".to_owned()],
            param: vec![Parameter { name: "prompt".to_owned(), value: "none".to_owned() }],
            device: true,
            ..cli::Login::default()
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_hint_repeats_what_the_call_said_but_for_what_the_hint_changes() {
        let first = r"onegrant login --token-endpoint 'https://as.example/t?a=1&b=2' --client-id 'it'\''s me'";
        let client = "--client-secret-file 'a b' --client-auth post";
        let scope = "--scope 'read write'";
        let rest = "--resource https://r1 --resource https://r2";
        let cases = [
            ("", format!("{first} {client} {scope} {rest} --param prompt=none --device")),
            ("   # and agree this time", format!("{first} {client} {scope} {rest} --param prompt=none --device   # and agree this time")),
            (" --browser   # or --scope X", format!("{first} {client} {scope} {rest} --param prompt=none --browser   # or --scope X")),
            (r#" --scope "A B""#, format!(r#"{first} {client} {rest} --param prompt=none --device --scope "A B""#)),
            (" --param prompt=login", format!("{first} {client} {scope} {rest} --device --param prompt=login")),
            (" --resource URI", format!("{first} {client} {scope} --param prompt=none --device --resource URI")),
            (" entra:common", format!(r"onegrant login entra:common {} {client} {scope} {rest} --param prompt=none --device", &first[15..])),
            (" --client-id ID   # yours", format!("{first} {client} {scope} {rest} --param prompt=none --device   # yours")),
        ];
        for (hint, wanted) in cases {
            assert_eq!(Again::new(&arguments(), None).command(hint), wanted, "{hint}");
        }
        let imported = cli::Login { refresh_token_stdin: true, device: false, ..arguments() };
        let document = Document {
            authorization_endpoint: Some("https://as.example/a".to_owned()),
            ..Document::new("https://as.example", "https://as.example/t")
        };
        let imported = Again::new(&imported, None).for_endpoints_of(&document);
        let ends = [
            (" --device   # or --browser", " --device --device-authorization-endpoint URL   # or --browser"),
            (" --browser", " --param prompt=none --browser"),
        ];
        for (hint, end) in ends {
            assert!(imported.command(hint).ends_with(end), "{}", imported.command(hint));
        }
        let none = Again::new(&cli::Login::default(), None);
        assert_eq!(none.command(" --client-id ID   # yours"), "onegrant login --client-id ID   # yours");
        assert_eq!(none.command(" https://ISSUER --client-id ID --device"), "onegrant login https://ISSUER --client-id ID --device");
    }

    #[test]
    fn what_is_stored_in_the_same_way_is_not_repeated() {
        let before = Document::new("https://as.example", "https://as.example/t");
        let now = Document { scope: Some("read write".to_owned()), ..before.clone() };
        let again = Again::new(&arguments(), Some((&before, &now)));
        assert_eq!(again.command(""), "onegrant login --scope 'read write' --device");
        let again = Again::new(&arguments(), Some((&now, &now)));
        assert_eq!(again.command(" --browser"), "onegrant login --browser");
    }
}
