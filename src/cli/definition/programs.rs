//! The commands that give a token to another program: `exec`, `git-credential`, `git-setup`, `helper`.

use crate::adapters::Protocol;
use crate::adapters::broker::shape::Shape;
use crate::adapters::formats::Format;
use crate::cli::values::{
    ServeAddress, format, non_empty, path, protocol, seconds, serve_address, shape, user, variable,
};
use crate::grant::TokenKind;
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
    example = "onegrant exec --serve unix:/run/user/1000/job.sock -- make",
    note = "The command replaces the onegrant process: arguments, signals and exit status are its own. The token is never \
            in an argument.",
    note = "With --file, the variable ACCESS_TOKEN_FILE has the name of the file. A process beside the command replaces \
            the file before the token expires. It ends with the command, or when a login is required, and leaves the file. A \
            token of more than 128 KiB does not fit into a variable; it is then only in the file.",
    note = "With --serve, that process is a broker: it gives out access tokens and ID tokens, and never the refresh token. \
            ONEGRANT_STORE and ONEGRANT_BROKER_KEY lead the onegrant in a container to it. ACCESS_TOKEN is not set without \
            --env: a token in a variable goes stale. The broker ends with the command, and leaves nothing.",
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

    /// how long the token must still be valid when the command starts, if the server grants that much
    #[argh(option, arg_name = "SECONDS", from_str_fn(seconds))]
    pub min_ttl: Option<Duration>,

    /// keep a valid token in this file while the command runs: mode 0600, replaced atomically
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub file: Option<PathBuf>,

    /// the ID token, which says who logged in, instead of the access token
    #[argh(switch)]
    pub id_token: bool,

    /// serve tokens while the command runs: tcp or tcp:PORT (on 127.0.0.1), or unix:PATH (mode 0600)
    #[argh(option, arg_name = "SOCKET", from_str_fn(serve_address))]
    pub serve: Option<ServeAddress>,

    /// gce: also answer as Google's metadata server, for Google's libraries and gcloud; every process of this user gets a
    /// token there, without a key (needs --serve tcp)
    #[argh(option, long = "as", arg_name = "SHAPE", from_str_fn(shape))]
    pub shape: Option<Shape>,

    /// the format of the file, as in onegrant token --format (default: raw)
    #[argh(option, arg_name = "FORMAT", from_str_fn(format))]
    pub format: Option<Format>,

    /// the command and its arguments, of any bytes; put -- before a command that begins with a dash
    #[argh(positional, greedy, arg_name = "CMD")]
    pub command: Vec<OsString>,
}

impl Exec {
    /// Which token is wanted.
    pub fn kind(&self) -> TokenKind {
        super::kind(self.id_token)
    }
}

/// serve tokens at a socket, for containers and other machines
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "serve",
    example = "onegrant serve --socket ~/.onegrant.sock",
    example = "ssh -R /run/user/1000/onegrant.sock:$HOME/.onegrant.sock host",
    note = "A broker in the foreground: it gives out access tokens and ID tokens, and never the refresh token. Only processes \
            of this user get an answer. Elsewhere: ONEGRANT_STORE=broker:unix:PATH onegrant token",
    note = "A supervisor may open the socket (systemd socket activation). It runs until SIGTERM, SIGINT or SIGHUP, and then \
            removes the socket.",
    error_code(0, "ended by a signal"),
    error_code(2, "usage or configuration, or another process listens there"),
    error_code(4, "the system failed: try again")
)]
pub struct Serve {
    /// where to listen; the new socket has mode 0600
    #[argh(option, arg_name = "PATH", from_str_fn(path))]
    pub socket: Option<PathBuf>,
}

/// answer git as a credential helper
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "git-credential",
    example = "printf 'protocol=https\\nhost=git.example\\n' | onegrant git-credential get",
    note = "onegrant git-setup HOST makes git call it. A link to onegrant with the name git-credential-onegrant does the \
            same: git calls it for credential.helper=onegrant.",
    note = "Answers only for the hosts of the profile (login --git-host, git-setup), over https, or http on this \
            machine, and for mail servers that the profile names with their scheme, such as smtp://smtp.example:465; prints \
            nothing for any other host. A token that git erases is refreshed at the next get.",
    note = "If the server offers Bearer, git 2.46 and later send a bearer token. In all other cases git sends the token as \
            a password. If a push of more than a megabyte with a bearer token fails with HTTP 401: git config --global \
            http.postBuffer 500m",
    error_code(0, "answered, or not meant for onegrant: another host, another operation"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login; git is told to ask no other helper and no person"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct GitCredential {
    /// get, store, erase or capability, as git says; any other operation is ignored
    #[argh(positional, arg_name = "OPERATION")]
    pub operation: String,
}

/// make git ask onegrant for credentials, also for mail
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "git-setup",
    example = "onegrant git-setup --dry-run git.example",
    example = "onegrant git-setup --mail smtp.gmail.com --user me@gmail.com",
    note = "Shows the git commands, then runs them: onegrant becomes the only credential helper for these hosts. Adds \
            the hosts to the profile. Changes nothing that is already set up.",
    note = "With --mail, git send-email logs in with the token: by XOAUTH2 at Microsoft's servers, by OAUTHBEARER at all \
            others. Port 465 means TLS, any other port STARTTLS. This needs the Perl module Authen::SASL 2.1800 or later.",
    error_code(0, "git is set up"),
    error_code(2, "usage, or git is missing or refuses"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "another process still held the lock: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct GitSetup {
    /// a git server that may be given the tokens of this grant: HOST or HOST:PORT; a mail server: imaps://HOST:PORT
    #[argh(positional, arg_name = "HOST")]
    pub hosts: Vec<String>,

    /// the mail server that git send-email uses: HOST or HOST:PORT (default port: 465, or 587 at Microsoft's servers)
    #[argh(option, arg_name = "HOST")]
    pub mail: Option<String>,

    /// the user name at the mail server, which usually is the mail address
    #[argh(option, arg_name = "USER", from_str_fn(user))]
    pub user: Option<String>,

    /// write the configuration of this repository (default: the user's)
    #[argh(switch)]
    pub local: bool,

    /// show the commands; change nothing
    #[argh(switch)]
    pub dry_run: bool,
}

/// answer another program in its own protocol for credentials
#[derive(Clone, Debug, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "helper",
    example = "GOAUTH='onegrant helper go' go mod download",
    example = "ln -s \"$(command -v onegrant)\" /usr/local/bin/docker-credential-onegrant",
    example = "aws configure set credential_process 'onegrant helper aws --role-arn ARN'",
    note = "Only the servers that the profile names (onegrant login --git-host HOST) get a token.",
    note = "Some programs call a helper by its name only, without arguments. For them, make a link to onegrant: \
            bazel-credential-onegrant, cargo-credential-onegrant, docker-credential-onegrant, pnpm-onegrant, \
            terraform-credentials-onegrant. The profile is then that of ONEGRANT_PROFILE.",
    note = "pip and uv ask a program named keyring. A link of that name, in the first directory of PATH that has one, \
            answers them, and runs the next keyring on PATH for everything else.",
    note = "aws prints credentials of a role (credential_process). AWS STS gives them for the ID token of the grant. All \
            processes use the same ones until five minutes before their end. The variables \
            AWS_ENDPOINT_URL_STS, AWS_REGION and AWS_DEFAULT_REGION have an effect if their option is not given. An \
            address wins over a region.",
    error_code(0, "answered; also that there is no token, if the protocol has an answer for that"),
    error_code(1, "no token, in a protocol that says so by this code"),
    error_code(2, "usage or configuration, or a server that the profile does not name"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct Helper {
    /// aws, bazel, cargo, docker, gcloud, go, pnpm or terraform
    #[argh(positional, arg_name = "PROTOCOL", from_str_fn(protocol))]
    pub protocol: Protocol,

    /// the arguments that the other program adds
    #[argh(positional, arg_name = "ARGUMENT")]
    pub arguments: Vec<String>,

    /// aws: the role to assume
    #[argh(option, arg_name = "ARN", from_str_fn(non_empty))]
    pub role_arn: Option<String>,

    /// aws: the name by which the session appears in logs (default: onegrant)
    #[argh(option, arg_name = "NAME", from_str_fn(non_empty))]
    pub session_name: Option<String>,

    /// aws: how long the credentials are wanted for (default: as the server decides, usually 3600)
    #[argh(option, arg_name = "SECONDS", from_str_fn(seconds))]
    pub duration: Option<Duration>,

    /// aws: the region whose server is asked (default: one of the role's partition, such as us-east-1)
    #[argh(option, arg_name = "REGION", from_str_fn(non_empty))]
    pub region: Option<String>,

    /// aws: the address of the server, instead of a region
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub endpoint_url: Option<String>,

    /// cargo adds this option
    #[argh(switch, hidden_help)]
    pub cargo_plugin: bool,
}
