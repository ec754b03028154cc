//! The commands that serve other programs: what these call is in their protocols, not here.

use super::values::{Format, Words, format, one_of, path, seconds};
use argh::{ArgsInfo, FromArgs};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// run a command with a valid access token in its environment
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "exec",
    example = "onegrant exec --env NPM_TOKEN -- npm publish",
    example = "onegrant exec --file token --min-ttl 600 -- prometheus",
    note = "The command takes the place of onegrant: arguments, signals and exit status are its own. The token never \
            stands in an argument.",
    note = "With --file the variable ACCESS_TOKEN_FILE names the file, and a process beside the command replaces it \
            before the token ends. It ends with the command, or when a login is required, and leaves the file. A token of more \
            than 128 KiB, which no variable takes, is then in the file alone.",
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten"),
    error_code(126, "the command cannot be run"),
    error_code(127, "the command is not found")
)]
pub struct Exec {
    /// the variable that holds the token; repeatable (default: ACCESS_TOKEN)
    #[argh(option, arg_name = "NAME", from_str_fn(variable))]
    pub env: Vec<String>,

    /// how long the token must still be valid when the command starts, where the server grants that much
    #[argh(option, arg_name = "SECONDS", from_str_fn(seconds))]
    pub min_ttl: Option<Duration>,

    /// keep a valid token in this file for as long as the command runs: mode 0600, replaced atomically
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub file: Option<PathBuf>,

    /// what the file holds, as in onegrant token --format (default: raw)
    #[argh(option, arg_name = "FORMAT", from_str_fn(format))]
    pub format: Option<Format>,

    /// the command and its arguments, of any bytes; behind -- where it begins with a dash
    #[argh(positional, greedy, arg_name = "CMD")]
    pub command: Vec<OsString>,
}

/// answer another program in its own protocol for credentials
#[derive(Clone, Debug, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "helper",
    example = "GOAUTH='onegrant helper go' go mod download",
    example = "ln -s \"$(command -v onegrant)\" /usr/local/bin/docker-credential-onegrant",
    note = "Only the servers that the profile names (onegrant login --git-host HOST) are given a token.",
    note = "Programs that give no arguments of ours call it by a name, which is a link to onegrant: \
            bazel-credential-onegrant, cargo-credential-onegrant, docker-credential-onegrant, pnpm-onegrant, \
            terraform-credentials-onegrant. The profile is then that of ONEGRANT_PROFILE.",
    error_code(0, "answered; where the protocol has a word for it, that there is no token"),
    error_code(1, "no token, in a protocol that says so by this code"),
    error_code(2, "usage or configuration, or a server that the profile does not name"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct Helper {
    /// bazel, cargo, docker, gcloud, go, pnpm or terraform
    #[argh(positional, arg_name = "PROTOCOL", from_str_fn(protocol))]
    pub protocol: Protocol,

    /// what that program adds
    #[argh(positional, arg_name = "ARGUMENT")]
    pub arguments: Vec<String>,

    /// what cargo adds
    #[argh(switch, hidden_help)]
    pub cargo_plugin: bool,
}

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// EngFlow's credential helper specification, which Bazel and others follow.
    Bazel,
    /// Cargo's credential provider protocol.
    Cargo,
    /// docker-credential-helpers.
    Docker,
    /// Executable-sourced credentials of Google's libraries.
    Gcloud,
    /// `GOAUTH`.
    Go,
    /// `tokenHelper`.
    Pnpm,
    /// Terraform's and OpenTofu's credentials helper.
    Terraform,
}

pub(super) const PROTOCOLS: Words<Protocol> = &[
    ("bazel", Protocol::Bazel),
    ("cargo", Protocol::Cargo),
    ("docker", Protocol::Docker),
    ("gcloud", Protocol::Gcloud),
    ("go", Protocol::Go),
    ("pnpm", Protocol::Pnpm),
    ("terraform", Protocol::Terraform),
];

fn protocol(text: &str) -> Result<Protocol, String> {
    one_of(PROTOCOLS, text)
}

/// The name of a variable, as a shell can set one.
fn variable(name: &str) -> Result<String, String> {
    super::values::variable(name).map_err(|_| "not the name of a variable".to_owned())
}
