//! The command line as types. Their doc comments are the text of `--help`. There is no behaviour here.
//!
//! This is the one table of commands and options. The parser, the suggestions for a mistyped word, `--help`, the
//! completions and the manual read it through [`argh::ArgsInfo`]. A new command is a struct here and a variant of
//! [`Command`].

mod login;
mod programs;

pub use login::Login;
pub use programs::{Exec, GitCredential, GitSetup, Helper, Serve};

use super::values::{Shell, format, non_empty, path, seconds, shell};
use crate::adapters::formats::Format;
use crate::grant::TokenKind;
use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;
use std::time::Duration;

/// one OAuth grant, any number of processes, never logged out
#[derive(Clone, Debug, FromArgs, ArgsInfo)]
#[argh(
    example = "onegrant login https://mcp.example.com/mcp",
    example = "onegrant --for https://mcp.example.com/mcp token",
    example = "onegrant login https://issuer.example --client-id my-cli",
    example = "onegrant token --format header | curl -H @- https://api.example/me",
    example = "onegrant status",
    note = "Help for a command: onegrant COMMAND --help",
    note = "Environment: ONEGRANT_PROFILE, ONEGRANT_FOR, ONEGRANT_STORE, ONEGRANT_HOME (the directory of the file store, \
            default $XDG_STATE_HOME/onegrant, else ~/.local/state/onegrant), ONEGRANT_TIMEOUT, ONEGRANT_LOCK \
            (auto, require, claim or off; default auto), ONEGRANT_LOG (quiet, info or debug). An option wins \
            over its variable. An empty variable counts as unset.",
    note = "ONEGRANT_ON_LOGIN_REQUIRED and ONEGRANT_ON_ROTATE: a command each for /bin/sh -c. No token waits for it. The \
            first runs once when a grant has died, and gets the profile, the message and the hint as JSON on stdin. The \
            second runs when the refresh token was replaced, and gets the new document on stdin.",
    note = "etcd: ONEGRANT_ETCD_USER and ONEGRANT_ETCD_PASSWORD; ONEGRANT_ETCD_CERT and ONEGRANT_ETCD_KEY (PEM files). \
            Kubernetes, outside of a pod: ONEGRANT_KUBERNETES_API (a URL) and ONEGRANT_KUBERNETES_TOKEN_FILE. With \
            ONEGRANT_TRUST_STORE=1, a grant in one of these two stores may name commands to run, and files and variables \
            to read.",
    note = "broker: ONEGRANT_BROKER_KEY (exec --serve gives it to its command).",
    error_code(0, "done"),
    error_code(1, "a defect of onegrant: please report it"),
    error_code(2, "usage or configuration: fix the command line or the configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary (network, 429, 5xx, deadline); the session is untouched: try again"),
    error_code(
        5,
        "the store failed (permissions, disk full, corrupt); nothing was overwritten: fix the store"
    )
)]
pub struct Arguments {
    /// the name of the grant: letters, digits, ".", "_" and "-", no leading dot, at most 64 (default: default)
    #[argh(option, arg_name = "NAME")]
    pub profile: Option<String>,

    /// use the grant whose resource covers this address, instead of a name: the same scheme, host and port, and a path that
    /// begins with the path of the resource. The longest path wins.
    #[argh(option, long = "for", arg_name = "URL")]
    pub resource: Option<String>,

    /// where grants are kept: file:DIR; helper:PROGRAM (a keyring, through docker-credential-PROGRAM);
    /// etcd://HOST:PORT[,HOST:PORT]/PREFIX; kubernetes://NAMESPACE/NAME; broker:unix:PATH or
    /// broker:http://127.0.0.1:PORT (tokens from the other side) (default: file: and the home directory of the file store)
    #[argh(option, arg_name = "URL")]
    pub store: Option<String>,

    /// one deadline for everything that the command waits for, except for a person (default: 30)
    #[argh(option, arg_name = "SECONDS")]
    pub timeout: Option<String>,

    /// print on stderr what happens, never a secret; -vv prints more
    #[argh(switch, short = 'v')]
    pub verbose: u8,

    /// print the version
    #[argh(switch, short = 'V')]
    pub version: bool,

    /// the command
    #[argh(subcommand)]
    pub command: Option<Command>,
}

/// The commands, in the order of the help: first what a newcomer needs.
#[derive(Clone, Debug, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process holds one, and argh describes no boxed ones")]
pub enum Command {
    /// `onegrant login`
    Login(Login),
    /// `onegrant token`
    Token(Token),
    /// `onegrant status`
    Status(Status),
    /// `onegrant refresh`
    Refresh(Refresh),
    /// `onegrant whoami`
    Whoami(Whoami),
    /// `onegrant logout`
    Logout(Logout),
    /// `onegrant profiles`
    Profiles(Profiles),
    /// `onegrant migrate`
    Migrate(Migrate),
    /// `onegrant exec`
    Exec(Exec),
    /// `onegrant serve`
    Serve(Serve),
    /// `onegrant git-credential`
    GitCredential(GitCredential),
    /// `onegrant git-setup`
    GitSetup(GitSetup),
    /// `onegrant helper`
    Helper(Helper),
    /// `onegrant doctor`
    Doctor(Doctor),
    /// `onegrant completions`
    Completions(Completions),
}

/// print a valid access token; refresh it first if necessary
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "token",
    example = "onegrant token --format header | curl -H @- https://api.example/me",
    note = "Reads no stdin, asks nothing, opens nothing. Any number may run at the same time: one of them refreshes, and \
            all print the same token.",
    error_code(0, "a token was printed or written"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct Token {
    /// how long the token must still be valid, if the server grants that much (default: a tenth of its
    /// lifetime, at most 30)
    #[argh(option, arg_name = "SECONDS", from_str_fn(seconds))]
    pub min_ttl: Option<Duration>,

    /// the ID token, which says who logged in, instead of the access token
    #[argh(switch)]
    pub id_token: bool,

    /// raw, bare (raw without a newline), bearer ("Bearer ..."), header ("Authorization: Bearer ..."), headers-json (the
    /// header as a JSON object), json, curl (for curl -K -), netrc (for the servers that the profile names) or exec-credential (for kubectl)
    /// (default: raw)
    #[argh(option, arg_name = "FORMAT", from_str_fn(format))]
    pub format: Option<Format>,

    /// write the token to a file instead of stdout. A new file of mode 0600 replaces the old one atomically. A FIFO or a
    /// terminal is written to directly.
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub write: Option<PathBuf>,
}

impl Token {
    /// Which token is wanted.
    pub fn kind(&self) -> TokenKind {
        kind(self.id_token)
    }
}

/// Which token `--id-token` asks for.
fn kind(id_token: bool) -> TokenKind {
    if id_token { TokenKind::IdToken } else { TokenKind::AccessToken }
}

/// get a new access token, even if the old one is still valid
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "refresh",
    example = "printf %s \"$REFUSED\" | onegrant refresh --rejected",
    note = "Calls at the same time share one refresh: if the access token has changed since this process first read \
            it, the changed token is the answer.",
    error_code(0, "there is a new access token"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct Refresh {
    /// read from stdin the access token that a server refused; refresh only if the store still holds that token
    #[argh(switch)]
    pub rejected: bool,
}

/// show what is stored, without the network and without secrets
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "status",
    example = "onegrant status",
    example = "onegrant status --history   # why was I logged out?",
    error_code(0, "a token can be obtained"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(5, "the store failed")
)]
pub struct Status {
    /// JSON on stdout
    #[argh(switch)]
    pub json: bool,

    /// the last 20 events of the grant, each with the process that caused it
    #[argh(switch)]
    pub history: bool,
}

/// show which account the grant is for, as the server says
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "whoami",
    example = "onegrant whoami --json",
    note = "Asks the userinfo endpoint. If the server has none, shows the claims of the ID token.",
    error_code(0, "an account is logged in"),
    error_code(2, "usage or configuration, neither endpoint nor ID token, or a grant without a person"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct Whoami {
    /// the whole answer as JSON on stdout
    #[argh(switch)]
    pub json: bool,
}

/// revoke the grant and delete it
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "logout",
    example = "onegrant logout",
    note = "Deletes the grant here, whatever the server answers. Says whether the server revoked it, failed to revoke it, \
            or has no revocation endpoint.",
    error_code(0, "deleted here"),
    error_code(2, "usage or configuration"),
    error_code(4, "temporary: a grant is still stored; try again"),
    error_code(5, "the store failed: not deleted")
)]
pub struct Logout {
    /// delete the grant here only; it stays valid at the server
    #[argh(switch)]
    pub local: bool,
}

/// move the grant to another store
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "migrate",
    example = "onegrant migrate --to helper:secretservice",
    note = "The grant is never in two stores at the same time. During the move neither store gives a token; processes that \
            ask for one are told to try again. After an interruption, the same command completes the move.",
    error_code(0, "moved: use the other store from now on"),
    error_code(2, "usage or configuration, or the other store already has a grant of this profile"),
    error_code(3, "there is no grant to move"),
    error_code(4, "another process still held the lock, or refreshed meanwhile: try again"),
    error_code(5, "a store failed; the grant is where it was, unless the message says otherwise")
)]
pub struct Migrate {
    /// the other store, as in --store
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub to: String,
}

/// list the profiles of the store, each with its resource
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "profiles",
    example = "onegrant profiles",
    error_code(0, "listed, one per line: the name, a tab, the resource; there may be none"),
    error_code(2, "usage or configuration"),
    error_code(5, "the store failed")
)]
pub struct Profiles {}

/// print a script that completes the command line in a shell
#[derive(Clone, Debug, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "completions",
    example = "eval \"$(onegrant completions bash)\"",
    example = "onegrant completions zsh > ~/.zfunc/_onegrant",
    example = "onegrant completions fish > ~/.config/fish/completions/onegrant.fish",
    note = "Put the first line into ~/.bashrc. zsh needs fpath+=(~/.zfunc) before compinit in ~/.zshrc.",
    error_code(0, "printed"),
    error_code(2, "no such shell")
)]
pub struct Completions {
    /// bash, zsh or fish
    #[argh(positional, arg_name = "SHELL", from_str_fn(shell))]
    pub shell: Shell,
}

/// check everything that the next token of this profile needs
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "doctor",
    example = "onegrant doctor",
    example = "onegrant doctor https://mcp.example.com/mcp",
    note = "Checks the store and its permissions; the lock, with two processes; copies of the grant and its age; the proxy, \
            TLS and its CA roots; the server's metadata and clock; git's configuration. Changes nothing and sends no \
            credential. Prints one line for each check (ok, warn or fail), and below it how to fix the problem.",
    note = "If several checks fail, the exit code is the first of these that applies: 5, 2, 3, 4.",
    error_code(0, "every check passed, or only warned"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "the server cannot be reached now"),
    error_code(5, "the store fails")
)]
pub struct Doctor {
    /// check this address of a resource or of an authorization server instead: what a login there would find and do
    #[argh(positional, arg_name = "ADDRESS")]
    pub address: Option<String>,

    /// JSON on stdout
    #[argh(switch)]
    pub json: bool,
}
