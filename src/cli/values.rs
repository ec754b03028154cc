//! The values of options and arguments: their types, the words that some of them are chosen from, and their parsers.
//!
//! argh calls the parsers, and puts the reason of a refusal into a sentence of its own. [`reason_in`] finds it again.

use crate::adapters::broker::shape::{SHAPES, Shape};
use crate::adapters::formats::{FORMATS, Format};
use crate::adapters::hosts::{EXPOSED, MailServer};
use crate::adapters::{PROTOCOLS, Protocol};
use crate::grant::{ClientAuthentication, SubjectToken};
use crate::protocol::providers::PROVIDERS;
use crate::text::parse_seconds;
use std::path::PathBuf;
use std::time::Duration;

/// The shell that `onegrant completions` prints a script for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Where a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input, written `-`.
    Stdin,
    /// A file.
    File(PathBuf),
    /// An environment variable, written `env:NAME`. It is read at every use.
    Environment(String),
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeAddress {
    /// At this port of 127.0.0.1; 0 is any free port. Written `tcp` or `tcp:PORT`.
    Loopback(u16),
    /// At this path. Written `unix:PATH`.
    File(PathBuf),
}

/// `KEY=VALUE`. The value may be empty and may contain further equals signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The part before the first equals sign.
    pub name: String,
    /// The rest.
    pub value: String,
}

/// The words that a value is chosen from, each with its meaning. The parsers and the completions use the same list.
type Choices<T> = &'static [(&'static str, T)];

const SHELLS: Choices<Shell> = &[("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

const CLIENT_AUTHENTICATIONS: Choices<ClientAuthentication> = &[
    ("none", ClientAuthentication::None),
    ("basic", ClientAuthentication::Basic),
    ("post", ClientAuthentication::Post),
    ("private_key_jwt", ClientAuthentication::PrivateKeyJwt),
];

/// Token types of RFC 8693 section 3. A URI can name any other type.
const TOKEN_TYPES: [&str; 5] = ["jwt", "id_token", "access_token", "refresh_token", "saml2"];

/// The words for the value that the help calls `name`; empty if there is no list. A word that ends with a colon is the
/// beginning of a value.
pub fn words(name: &str) -> Vec<&'static str> {
    match name {
        "ADDRESS" => PROVIDERS.iter().map(|provider| provider.name).collect(),
        "FORMAT" => names(FORMATS),
        "METHOD" => names(CLIENT_AUTHENTICATIONS),
        "OPERATION" => vec!["get", "store", "erase", "capability"],
        "PROTOCOL" => names(PROTOCOLS),
        "SHAPE" => names(SHAPES),
        "SHELL" => names(SHELLS),
        "SOCKET" => vec!["tcp", "tcp:", "unix:"],
        "SOURCE" => vec!["file:", "env:", "command:", "github"],
        "TYPE" => TOKEN_TYPES.to_vec(),
        _ => Vec::new(),
    }
}

fn names<T>(choices: Choices<T>) -> Vec<&'static str> {
    choices.iter().map(|(name, _)| *name).collect()
}

/// Precedes the reason of every refusal in this file. No reason contains it.
const REASON_FOLLOWS: char = '\u{1}';

/// The error of a parser. A reason never repeats the value: it may be a secret that was given to the wrong option.
fn refused(reason: &str) -> String {
    format!("{REASON_FOLLOWS}{reason}")
}

/// The reason of a refusal in the message that argh makes of it. `None`: the message is about something else.
pub(super) fn reason_in(message: &str) -> Option<&str> {
    // The value may contain the mark. It precedes the reason.
    message.rsplit_once(REASON_FOLLOWS).map(|(_, reason)| reason.trim_end())
}

fn one_of<T: Copy>(choices: Choices<T>, text: &str) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| refused(&format!("not one of {}", names(choices).join(", "))))
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    parse_seconds(text).ok_or_else(|| refused("not a number of seconds"))
}

pub(super) fn non_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err(refused("is empty")) } else { Ok(text.to_owned()) }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err(refused("is empty")) } else { Ok(PathBuf::from(text)) }
}

pub(super) fn input(text: &str) -> Result<Input, String> {
    match text.strip_prefix("env:") {
        Some(name) => variable_after_env(name).map(Input::Environment),
        None if text == "-" => Ok(Input::Stdin),
        None => path(text).map(Input::File),
    }
}

/// Whether a shell can set a variable of this name.
fn is_variable_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_allowed) && name.starts_with(|first: char| !first.is_ascii_digit())
}

pub(super) fn variable(name: &str) -> Result<String, String> {
    is_variable_name(name).then(|| name.to_owned()).ok_or_else(|| refused("not the name of a variable"))
}

fn variable_after_env(name: &str) -> Result<String, String> {
    let refused = || refused("not the name of a variable after env:");
    is_variable_name(name).then(|| name.to_owned()).ok_or_else(refused)
}

pub(super) fn subject_token(text: &str) -> Result<SubjectToken, String> {
    match text.split_once(':') {
        None if text == "github" => Ok(SubjectToken::GithubActions { audience: None }),
        Some(("github", audience)) => {
            Ok(SubjectToken::GithubActions { audience: Some(non_empty(audience)?) })
        }
        Some(("file", file)) => path(file).map(SubjectToken::File),
        Some(("env", name)) => variable_after_env(name).map(SubjectToken::Environment),
        Some(("command", command)) => non_empty(command).map(SubjectToken::Command),
        _ => Err(refused("not one of file:PATH, env:NAME, command:COMMAND, github, github:AUDIENCE")),
    }
}

/// RFC 8693 section 3.
pub(super) fn token_type(text: &str) -> Result<String, String> {
    match text {
        name if TOKEN_TYPES.contains(&name) => Ok(format!("urn:ietf:params:oauth:token-type:{name}")),
        uri if uri.contains(':') => non_empty(uri),
        _ => Err(refused("not one of jwt, id_token, access_token, or a URI")),
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| refused("not a port from 1 to 65535"))
}

pub(super) fn serve_address(text: &str) -> Result<ServeAddress, String> {
    match text.split_once(':') {
        None if text == "tcp" => Ok(ServeAddress::Loopback(0)),
        Some(("tcp", port)) => match port.parse() {
            Ok(port) => Ok(ServeAddress::Loopback(port)),
            Err(_) => Err(refused("not a port from 0 to 65535 after tcp:")),
        },
        Some(("unix", file)) => path(file).map(ServeAddress::File),
        _ => Err(refused("not one of tcp, tcp:PORT, unix:PATH")),
    }
}

pub(super) fn shape(text: &str) -> Result<Shape, String> {
    one_of(SHAPES, text)
}

pub(super) fn format(text: &str) -> Result<Format, String> {
    one_of(FORMATS, text)
}

pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    one_of(PROTOCOLS, text)
}

pub(super) fn client_authentication(text: &str) -> Result<ClientAuthentication, String> {
    one_of(CLIENT_AUTHENTICATIONS, text)
}

pub(super) fn shell(text: &str) -> Result<Shell, String> {
    one_of(SHELLS, text)
}

pub(super) fn parameter(text: &str) -> Result<Parameter, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(Parameter { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err(refused("not of the form KEY=VALUE")),
    }
}

pub(super) fn user(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(char::is_control) {
        true => Err(refused("empty, or it has a control character")),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn host(text: &str) -> Result<String, String> {
    if let Some(server) = MailServer::named(text) {
        return match server.is_exposed() {
            true => Err(refused(EXPOSED)),
            false => Ok(text.to_owned()),
        };
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"/@?#\\".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(refused("not HOST, HOST:PORT or, for mail, smtp://HOST:PORT and the like"))
    }
}
