//! The values of options: what they mean, the words that stand for them, and how they are read.

use crate::grant::{ClientAuthentication, SubjectToken};
use crate::protocol::providers::PROVIDERS;
use std::path::PathBuf;
use std::time::Duration;

/// What `onegrant token` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The token and a newline.
    #[default]
    Raw,
    /// `Bearer TOKEN`, the value of an `Authorization` header.
    Bearer,
    /// A line for `curl -H`.
    Header,
    /// One JSON object.
    Json,
    /// A line for `curl -K`.
    Curl,
    /// A line for each server that the profile names.
    Netrc,
    /// An `ExecCredential` of Kubernetes.
    ExecCredential,
}

/// Whose language `onegrant completions` speaks.
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

/// `KEY=VALUE`; the value may be empty and may hold further equals signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The part before the first equals sign.
    pub name: String,
    /// The rest.
    pub value: String,
}

/// The words that a value is one of, and what each means. The parsers below read them, and so do the completions.
pub(super) type Words<T> = &'static [(&'static str, T)];

/// What a token can be printed as.
pub const FORMATS: &[(&str, Format)] = &[
    ("raw", Format::Raw),
    ("bearer", Format::Bearer),
    ("header", Format::Header),
    ("json", Format::Json),
    ("curl", Format::Curl),
    ("netrc", Format::Netrc),
    ("exec-credential", Format::ExecCredential),
];

const SHELLS: Words<Shell> = &[("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

const CLIENT_AUTHENTICATIONS: Words<ClientAuthentication> = &[
    ("none", ClientAuthentication::None),
    ("basic", ClientAuthentication::Basic),
    ("post", ClientAuthentication::Post),
    ("private_key_jwt", ClientAuthentication::PrivateKeyJwt),
];

/// RFC 8693 section 3; a URI stands for any other.
const TOKEN_TYPES: [&str; 5] = ["jwt", "id_token", "access_token", "refresh_token", "saml2"];

/// The words that a value can be that the help calls `name`, where they are known. One with a colon at its end goes on.
pub fn words(name: &str) -> Vec<&'static str> {
    fn names<T>(words: Words<T>) -> Vec<&'static str> {
        words.iter().map(|(name, _)| *name).collect()
    }
    match name {
        "FORMAT" => names(FORMATS),
        "ISSUER" => PROVIDERS.iter().map(|provider| provider.name).collect(),
        "METHOD" => names(CLIENT_AUTHENTICATIONS),
        "OPERATION" => vec!["get", "store", "erase", "capability"],
        "PROTOCOL" => names(super::adapters::PROTOCOLS),
        "SHELL" => names(SHELLS),
        "SOURCE" => vec!["file:", "env:", "command:", "github"],
        "TYPE" => TOKEN_TYPES.to_vec(),
        _ => Vec::new(),
    }
}

pub(super) fn one_of<T: Copy>(words: Words<T>, text: &str) -> Result<T, String> {
    let found = words.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        format!("not one of {}", names.join(", "))
    })
}

/// The longest `--min-ttl` that means anything, in seconds: some thirty years. A longer one is cut to it.
pub const LONGEST_TTL_SECONDS: u32 = 1_000_000_000;

/// Seconds as people write them: digits, with a fraction or without; no sign, exponent or unit.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let complaint = || "not a number of seconds".to_owned();
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(complaint());
    }
    let number: f64 = text.parse().map_err(|_| complaint())?;
    Ok(Duration::from_secs_f64(number.min(f64::from(LONGEST_TTL_SECONDS))))
}

pub(super) fn non_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

pub(super) fn input(text: &str) -> Result<Input, String> {
    match text.strip_prefix("env:") {
        Some(name) => variable(name).map(Input::Environment),
        None if text == "-" => Ok(Input::Stdin),
        None => path(text).map(Input::File),
    }
}

/// The name of an environment variable, as a shell can set one.
pub(super) fn variable(name: &str) -> Result<String, String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match name.bytes().all(is_part) && name.starts_with(|first: char| !first.is_ascii_digit()) {
        true => Ok(name.to_owned()),
        false => Err("not the name of a variable behind env:".to_owned()),
    }
}

pub(super) fn subject_token(text: &str) -> Result<SubjectToken, String> {
    match text.split_once(':') {
        None if text == "github" => Ok(SubjectToken::GithubActions { audience: None }),
        Some(("github", audience)) => {
            Ok(SubjectToken::GithubActions { audience: Some(non_empty(audience)?) })
        }
        Some(("file", file)) => path(file).map(SubjectToken::File),
        Some(("env", name)) => variable(name).map(SubjectToken::Environment),
        Some(("command", command)) => non_empty(command).map(SubjectToken::Command),
        _ => Err("not one of file:PATH, env:NAME, command:COMMAND, github, github:AUDIENCE".to_owned()),
    }
}

/// RFC 8693 section 3.
pub(super) fn token_type(text: &str) -> Result<String, String> {
    match text {
        name if TOKEN_TYPES.contains(&name) => Ok(format!("urn:ietf:params:oauth:token-type:{name}")),
        uri if uri.contains(':') => non_empty(uri),
        _ => Err("not one of jwt, id_token, access_token, or a URI".to_owned()),
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| "not a port from 1 to 65535".to_owned())
}

pub(super) fn format(text: &str) -> Result<Format, String> {
    one_of(FORMATS, text)
}

pub(super) fn client_authentication(text: &str) -> Result<ClientAuthentication, String> {
    one_of(CLIENT_AUTHENTICATIONS, text)
}

pub(super) fn shell(text: &str) -> Result<Shell, String> {
    one_of(SHELLS, text)
}

/// The value never stands in a message: it may be a secret all the same.
pub(super) fn parameter(text: &str) -> Result<Parameter, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(Parameter { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err("not of the form KEY=VALUE".to_owned()),
    }
}

pub(super) fn host(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"/@?#\\".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("not HOST or HOST:PORT, without a scheme and a path".to_owned())
    }
}
