//! Hints that log in again. A login that failed has stored nothing, so the next one needs the same options.

use super::client::Client;
use super::server::Server;
use crate::cli::{self, Input};
use crate::error::Failure;
use crate::grant::{Document, Flow};
use crate::protocol::client_authentication;
use crate::protocol::hints::{SCOPE, shell_word};
use crate::text::printable;
use std::fmt::Display;
use std::path::Path;

/// What every hint of a login begins with.
const LOGIN: &str = "onegrant login";

/// What comes between a command and a comment in a hint.
const COMMENT: &str = "   #";

/// The options that choose a flow: a hint that has one of them means that one.
const FLOWS: [&str; 5] =
    ["--device", "--browser", "--refresh-token-stdin", "--client-credentials", "--subject-token"];

/// An option of the failed login, as the next command line has it.
struct RepeatedOption {
    /// Empty: the server, which has no name before it.
    name: &'static str,
    value: Option<String>,
}

/// Completes the hints of one login.
pub struct RetryHint {
    options: Vec<RepeatedOption>,
    /// Whether the endpoints of the server were not found: those that a hint names take the place of the server.
    is_undiscovered: bool,
    /// The flows without an endpoint, each with the option that gives it.
    without_endpoint: Vec<(&'static str, &'static str)>,
    /// What the comment of a hint about the scope says besides: the scopes that the resource lists.
    scopes: String,
}

impl RetryHint {
    /// For a login that found its server and its client. `stored` is the document in the store: what it says in the same way
    /// need not be said again.
    pub fn new(
        arguments: &cli::Login,
        stored: Option<&Document>,
        server: &Server,
        client: Option<&Client>,
    ) -> Self {
        let is_known = |(stored, client): &(&Document, &Client)| {
            stored.token_endpoint == server.endpoints.token && stored.client_id == client.id
        };
        let known = stored.zip(client).filter(is_known);
        let flows = [
            ("--device", "--device-authorization-endpoint", &server.endpoints.device_authorization),
            ("--browser", "--authorization-endpoint", &server.endpoints.authorization),
        ];
        let missing = flows.into_iter().filter(|(.., endpoint)| endpoint.is_none());
        Self {
            options: options(arguments, known),
            is_undiscovered: false,
            without_endpoint: missing.map(|(flow, option, _)| (flow, option)).collect(),
            scopes: match server.resource.as_ref().map(|resource| resource.scopes_supported.as_slice()) {
                None | Some([]) => String::new(),
                Some(scopes) => format!("; the resource lists: {}", printable(&scopes.join(" "))),
            },
        }
    }

    /// For a login that did not find its server or its client. Every option is said again.
    pub fn undiscovered(arguments: &cli::Login) -> Self {
        Self {
            options: options(arguments, None),
            is_undiscovered: true,
            without_endpoint: Vec::new(),
            scopes: String::new(),
        }
    }

    /// If the hint of the error logs in again: adds the options of this login, except for those that the hint replaces.
    pub fn complete(&self, mut error: anyhow::Error) -> anyhow::Error {
        let hint = error.downcast_mut::<Failure>().and_then(|failure| failure.hint.as_mut());
        if let Some(hint) = hint
            && let Some(rest) = hint.strip_prefix(LOGIN)
        {
            let is_about_scope = *hint == SCOPE;
            *hint = self.command(rest);
            if is_about_scope {
                hint.push_str(&self.scopes);
            }
        }
        error
    }

    /// `rest` is what the hint says after `onegrant login`.
    fn command(&self, rest: &str) -> String {
        let (words, comment) = rest.find(COMMENT).map_or((rest, ""), |start| rest.split_at(start));
        // A placeholder for a known value is not needed.
        let words = match self.options.iter().any(|option| option.name == "--client-id") {
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
        let is_replaced = |option: &RepeatedOption| match (option.name, &option.value) {
            ("", _) => !server.is_empty() || (self.is_undiscovered && has("--token-endpoint")),
            ("--param", Some(value)) => {
                let name = value.split('=').next().unwrap_or_default();
                words.contains(&format!("--param {name}="))
            }
            ("--resource", _) => has("--resource") || has("--no-resource"),
            ("--no-resource", _) => has("--no-resource") || has("--resource"),
            ("--register", _) => has("--client-id"),
            // Another client has nothing of this one.
            (name, _) if name.starts_with("--client-") && has("--register") => true,
            ("--subject-token-type", _) => FLOWS.iter().any(|flow| has(flow)),
            (name, _) if FLOWS.contains(&name) => FLOWS.iter().any(|flow| has(flow)),
            (name, _) => has(name),
        };
        let kept = self.options.iter().filter(|option| !is_replaced(option));
        let kept = kept.flat_map(|option| {
            let name = Some(option.name.to_owned()).filter(|name| !name.is_empty());
            name.into_iter().chain(option.value.as_deref().map(shell_word))
        });
        let all = [LOGIN, server].into_iter().map(str::to_owned).chain(kept).chain([words.to_owned()]);
        all.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ") + comment
    }
}

/// The options of the command line. `known` is the stored document of the same client, and the client as options name it:
/// an option that changes nothing of them is left out.
fn options(arguments: &cli::Login, known: Option<(&Document, &Client)>) -> Vec<RepeatedOption> {
    let is_stored = |is_same: &dyn Fn(&Document, &Client) -> bool| {
        known.is_some_and(|(stored, client)| is_same(stored, client))
    };
    let mut options = Vec::new();
    let mut add = |name, value: Option<String>, is_stored: bool| {
        let value = value.filter(|_| !is_stored);
        options.extend(value.map(|value| RepeatedOption { name, value: Some(value) }));
    };
    let is_same_client = known.is_some();
    add("", arguments.issuer.clone(), is_same_client);
    add("--token-endpoint", arguments.token_endpoint.clone(), is_same_client);
    let stored = known.map(|(stored, _)| stored);
    let endpoints = [
        (
            "--authorization-endpoint",
            &arguments.authorization_endpoint,
            stored.map(|stored| &stored.authorization_endpoint),
        ),
        (
            "--device-authorization-endpoint",
            &arguments.device_authorization_endpoint,
            stored.map(|stored| &stored.device_authorization_endpoint),
        ),
        (
            "--revocation-endpoint",
            &arguments.revocation_endpoint,
            stored.map(|stored| &stored.revocation_endpoint),
        ),
        ("--userinfo-endpoint", &arguments.userinfo_endpoint, stored.map(|stored| &stored.userinfo_endpoint)),
    ];
    for (name, given, stored) in endpoints {
        add(name, given.clone(), stored == Some(given));
    }
    add("--client-id", arguments.client_id.clone(), is_same_client);
    let is_same_proof = is_stored(&|stored, client| {
        (&stored.client_secret, &stored.client_secret_env, &stored.client_key, stored.client_auth)
            == (&client.secret, &client.secret_variable, &client.key, client.authentication)
    });
    add("--client-secret-file", arguments.client_secret_file.as_ref().map(input), is_same_proof);
    let method = arguments.client_auth.map(|method| client_authentication::name(method).to_owned());
    add("--client-auth", method, is_same_proof);
    add("--client-key-file", arguments.client_key_file.as_deref().map(path), is_same_proof);
    add("--client-key-id", arguments.client_key_id.clone(), is_same_proof);
    add("--client-key-audience", arguments.client_key_audience.clone(), is_same_proof);
    add("--client-metadata-url", arguments.client_metadata_url.clone(), is_same_client);
    add("--scope", arguments.scope.clone(), is_stored(&|stored, _| stored.scope == arguments.scope));
    for resource in &arguments.resource {
        let is_stored = is_stored(&|stored, _| stored.resource == arguments.resource);
        add("--resource", Some(resource.clone()), is_stored);
    }
    add(
        "--audience",
        arguments.audience.clone(),
        is_stored(&|stored, _| stored.audience == arguments.audience),
    );
    for parameter in &arguments.param {
        let is_stored =
            is_stored(&|stored, _| stored.parameters.get(&parameter.name) == Some(&parameter.value));
        add("--param", Some(format!("{}={}", parameter.name, parameter.value)), is_stored);
    }
    let is_same_redirect = is_stored(&|stored, client| {
        (&stored.redirect_uri, stored.redirect_port) == (&client.redirect_uri, client.redirect_port)
    });
    add("--redirect-port", arguments.redirect_port.as_ref().map(text), is_same_redirect);
    add("--redirect-uri", arguments.redirect_uri.clone(), is_same_redirect);
    for host in &arguments.git_host {
        let is_stored = is_stored(&|stored, _| stored.git_hosts == arguments.git_host);
        add("--git-host", Some(host.clone()), is_stored);
    }
    let is_same_grant = is_stored(&|stored, client| stored.grant == client.grant);
    add("--subject-token", arguments.subject_token.as_ref().map(text), is_same_grant);
    add("--subject-token-type", arguments.subject_token_type.clone(), is_same_grant);
    let flow_before = known.and_then(|(stored, _)| stored.login.as_ref()).map(|login| login.flow);
    let switches = [
        ("--device", arguments.device, flow_before == Some(Flow::Device)),
        ("--browser", arguments.browser, flow_before == Some(Flow::Browser)),
        ("--refresh-token-stdin", arguments.refresh_token_stdin, false),
        ("--client-credentials", arguments.client_credentials, is_same_grant),
        ("--register", arguments.register, false),
        ("--no-resource", arguments.no_resource, stored.is_some_and(|stored| stored.no_resource)),
        ("--pushed", arguments.pushed, false),
        ("--no-open", arguments.no_open, false),
    ];
    let switches = switches.into_iter().filter(|(_, is_given, is_stored)| *is_given && !*is_stored);
    options.extend(switches.map(|(name, ..)| RepeatedOption { name, value: None }));
    options
}

fn text(value: &impl Display) -> String {
    value.to_string()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// As `--client-secret-file` takes it.
fn input(input: &Input) -> String {
    match input {
        Input::Stdin => "-".to_owned(),
        Input::File(file) => path(file),
        Input::Environment(name) => format!("env:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Parameter;
    use crate::error::Kind;
    use crate::grant::{ClientAuthentication, SubjectToken};
    use crate::protocol::address_search::LocatedResource;
    use crate::protocol::metadata::EndpointUrls;
    use argh::ArgsInfo;

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
    fn a_hint_repeats_the_options_except_those_that_it_replaces() {
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
            (" --no-resource", format!("{first} {client} {scope} --param prompt=none --device --no-resource")),
            (" entra:common", format!(r"onegrant login entra:common {} {client} {scope} {rest} --param prompt=none --device", &first[15..])),
            (" --client-id ID   # yours", format!("{first} {client} {scope} {rest} --param prompt=none --device   # yours")),
            (" --register   # another", format!("onegrant login --token-endpoint 'https://as.example/t?a=1&b=2' {scope} {rest} --param prompt=none --device --register   # another")),
        ];
        for (hint, wanted) in cases {
            assert_eq!(RetryHint::undiscovered(&arguments()).command(hint), wanted, "{hint}");
        }
        let imported = cli::Login { refresh_token_stdin: true, device: false, ..arguments() };
        let server = Server {
            endpoints: EndpointUrls {
                authorization: Some("https://as.example/a".to_owned()),
                ..EndpointUrls::default()
            },
            ..Server::default()
        };
        let imported = RetryHint::new(&imported, None, &server, Some(&Client::default()));
        let ends = [
            (" --device   # or --browser", " --device --device-authorization-endpoint URL   # or --browser"),
            (" --browser", " --param prompt=none --browser"),
        ];
        for (hint, end) in ends {
            assert!(imported.command(hint).ends_with(end), "{}", imported.command(hint));
        }
        let none = RetryHint::undiscovered(&cli::Login::default());
        assert_eq!(none.command(" --client-id ID   # yours"), "onegrant login --client-id ID   # yours");
        assert_eq!(none.command(" https://ISSUER --client-id ID --device"), "onegrant login https://ISSUER --client-id ID --device");
    }

    /// Not those that its issuer lists: they are for all its resources.
    #[test]
    fn the_hint_about_a_refused_scope_says_which_ones_the_resource_lists() {
        let scopes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let resource = |names: &[&str]| LocatedResource {
            identifier: "https://r.example".to_owned(),
            metadata_url: None,
            challenge_scope: None,
            scopes_supported: scopes(names),
        };
        let cases = [
            (None, ""),
            (Some(resource(&["c", "\u{1b}[31md"])), "; the resource lists: c [31md"),
            (Some(resource(&[])), ""),
        ];
        for (resource, end) in cases {
            let server = Server { resource, scopes_supported: scopes(&["a"]), ..Server::default() };
            let hint = RetryHint::new(&cli::Login::default(), None, &server, None);
            let completed = |text: &str| {
                let failure = Failure::new(Kind::Usage, "refused").hint(text);
                hint.complete(failure.into()).downcast::<Failure>().unwrap().hint.unwrap()
            };
            assert_eq!(completed(SCOPE), format!("{SCOPE}{end}"));
            assert_eq!(completed("onegrant login"), "onegrant login");
        }
    }

    /// All fields are written here: a new option does not compile until it is added, and then this test looks for it.
    #[test]
    fn a_hint_repeats_every_option_of_login_but_json() {
        let text = || Some("x".to_owned());
        let all = cli::Login {
            issuer: text(),
            device: true,
            browser: true,
            refresh_token_stdin: true,
            client_credentials: true,
            subject_token: Some(SubjectToken::Environment("X".to_owned())),
            subject_token_type: text(),
            client_id: text(),
            client_secret_file: Some(Input::Stdin),
            client_auth: Some(ClientAuthentication::Post),
            client_key_file: Some("x".into()),
            client_key_id: text(),
            client_key_audience: text(),
            client_metadata_url: text(),
            register: true,
            scope: text(),
            resource: vec!["x".to_owned()],
            no_resource: true,
            audience: text(),
            param: vec![Parameter { name: "x".to_owned(), value: "y".to_owned() }],
            token_endpoint: text(),
            authorization_endpoint: text(),
            device_authorization_endpoint: text(),
            revocation_endpoint: text(),
            userinfo_endpoint: text(),
            pushed: true,
            redirect_port: Some(1),
            redirect_uri: text(),
            no_open: true,
            git_host: vec!["x".to_owned()],
            json: true,
        };
        let command = RetryHint::undiscovered(&all).command("");
        let words: Vec<&str> = command.split(' ').collect();
        for option in cli::Login::get_args_info().flags {
            let is_repeated = !["--json", "--help"].contains(&option.long);
            assert_eq!(words.contains(&option.long), is_repeated, "{} in {command}", option.long);
        }
        assert!(command.starts_with("onegrant login x "), "{command}");
    }

    #[test]
    fn an_option_that_changes_nothing_is_not_repeated() {
        let server = Server {
            endpoints: EndpointUrls {
                token: "https://as.example/t?a=1&b=2".to_owned(),
                ..EndpointUrls::default()
            },
            ..Server::default()
        };
        let client = Client { id: "it's me".to_owned(), ..Client::default() };
        let stored = Document {
            client_id: client.id.clone(),
            resource: arguments().resource,
            parameters: [("prompt".to_owned(), "none".to_owned())].into(),
            ..Document::new("https://as.example", &server.endpoints.token)
        };
        let hint = RetryHint::new(&arguments(), Some(&stored), &server, Some(&client));
        let without_endpoint = "--device-authorization-endpoint URL";
        assert_eq!(hint.command(""), "onegrant login --scope 'read write' --device");
        let stored = Document { scope: arguments().scope, ..stored };
        let hint = RetryHint::new(&arguments(), Some(&stored), &server, Some(&client));
        assert_eq!(hint.command(" --device"), format!("onegrant login --device {without_endpoint}"));
        let another = Document { client_id: "another".to_owned(), ..stored };
        let hint = RetryHint::new(&arguments(), Some(&another), &server, Some(&client));
        assert!(hint.command("").starts_with("onegrant login --token-endpoint"), "{}", hint.command(""));
    }
}
