//! The command line as types. Their doc comments are the text of `--help`; there is no behaviour here.
//!
//! A new command is a struct beside the others and a variant of [`Command`]: what options there are, which of
//! them take a value, what is suggested for a slip of the pen and what `--help` prints all follow from that.

mod adapters;
mod values;

pub use adapters::{Exec, Helper, Protocol};
pub use values::{FORMATS, Format, Input, LONGEST_TTL_SECONDS, Parameter, Shell, seconds, words};

use crate::grant::{ClientAuthentication, SubjectToken};
use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;
use std::time::Duration;
use values::{
    client_authentication, format, host, input, non_empty, parameter, path, port, shell, subject_token,
    token_type,
};

/// one OAuth grant, any number of processes, never logged out
#[derive(Clone, Debug, FromArgs, ArgsInfo)]
#[argh(
    example = "onegrant login https://issuer.example --client-id my-cli",
    example = "onegrant token --format header | curl -H @- https://api.example/me",
    example = "onegrant status",
    note = "Every command explains itself: onegrant COMMAND --help",
    note = "Environment: ONEGRANT_PROFILE, ONEGRANT_STORE, ONEGRANT_HOME (the directory of the file store, \
            default $XDG_STATE_HOME/onegrant, else ~/.local/state/onegrant), ONEGRANT_TIMEOUT, ONEGRANT_LOCK \
            (auto, require, claim or off; default auto), ONEGRANT_LOG (quiet, info or debug). An option wins \
            over its variable, and an empty variable counts as unset.",
    note = "With etcd: ONEGRANT_ETCD_USER and ONEGRANT_ETCD_PASSWORD; ONEGRANT_ETCD_CERT and ONEGRANT_ETCD_KEY, files of \
            PEM. With Kubernetes from outside of a pod: ONEGRANT_KUBERNETES_API (a URL) and \
            ONEGRANT_KUBERNETES_TOKEN_FILE. ONEGRANT_TRUST_STORE=1 lets a grant of these two name commands to run, and \
            files and variables to read.",
    error_code(0, "done"),
    error_code(1, "a defect of onegrant: please report it"),
    error_code(2, "usage or configuration: mend the call"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary (network, 429, 5xx, deadline); the session is untouched: try again"),
    error_code(
        5,
        "the store failed (permissions, disk full, corrupt); nothing was overwritten: mend the store"
    )
)]
pub struct Arguments {
    /// the grant to work on: letters, digits, ".", "_" and "-", no leading dot, 64 at most (default: default)
    #[argh(option, arg_name = "NAME")]
    pub profile: Option<String>,

    /// where grants are kept: file:DIR; helper:PROGRAM, a keyring behind docker-credential-PROGRAM;
    /// etcd://HOST:PORT[,HOST:PORT]/PREFIX; kubernetes://NAMESPACE/NAME (default: file: and the home directory of the file
    /// store)
    #[argh(option, arg_name = "URL")]
    pub store: Option<String>,

    /// one deadline over everything that the command waits for, but not for a person (default: 30)
    #[argh(option, arg_name = "SECONDS")]
    pub timeout: Option<String>,

    /// say on stderr what happens, never a secret; -vv says more
    #[argh(switch, short = 'v')]
    pub verbose: u8,

    /// print the version
    #[argh(switch, short = 'V')]
    pub version: bool,

    /// the command
    #[argh(subcommand)]
    pub command: Option<Command>,
}

/// The commands, in the order of the help: what a newcomer needs comes first.
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

/// get a grant and store it
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "login",
    example = "onegrant login https://issuer.example --client-id my-cli \\\n    \
               --device --scope \"openid offline_access\"",
    example = "onegrant login github --client-id CLIENT_ID",
    example = "onegrant login --token-endpoint https://as.example/token \\\n    \
               --client-id my-cli --refresh-token-stdin < refresh-token",
    note = "A profile that was logged in before needs no options again: onegrant login",
    note = "Without --json the address to open and the code stand on stderr. With it stdout carries one JSON \
            object a line: what a person is asked to do, then the result.",
    error_code(0, "the grant is stored"),
    error_code(2, "usage or configuration, or the server refuses this client or scope"),
    error_code(3, "the person or the server said no, or nobody answered in time"),
    error_code(4, "temporary: try again"),
    error_code(5, "the store cannot be written; nobody was asked for anything")
)]
pub struct Login {
    /// the authorization server's address, or that of its metadata, from which its endpoints are discovered; or a
    /// provider, whose needs are known: NAME or NAME:HOST, such as github, gitlab:git.example or okta:dev-1.okta.com (a wrong name lists all)
    #[argh(positional, arg_name = "ISSUER")]
    pub issuer: Option<String>,

    /// log in with a code on any other device (RFC 8628)
    #[argh(switch)]
    pub device: bool,

    /// log in with a browser that comes back to this machine (RFC 8252)
    #[argh(switch)]
    pub browser: bool,

    /// store the refresh token that stands on stdin; it is spent once to prove it
    #[argh(switch)]
    pub refresh_token_stdin: bool,

    /// no person: the client's own grant (RFC 6749 section 4.4), asked for anew whenever it ends
    #[argh(switch)]
    pub client_credentials: bool,

    /// no person: exchange the token in file:PATH, env:NAME, command:COMMAND or github[:AUDIENCE] (the identity of a
    /// GitHub Actions job), which is read anew every time (RFC 8693); COMMAND has no terminal and an empty stdin
    #[argh(option, arg_name = "SOURCE", from_str_fn(subject_token))]
    pub subject_token: Option<SubjectToken>,

    /// what kind of token that is: jwt, id_token, access_token or a URI (default: jwt)
    #[argh(option, arg_name = "TYPE", from_str_fn(token_type))]
    pub subject_token_type: Option<String>,

    /// the client identifier
    #[argh(option, arg_name = "ID", from_str_fn(non_empty))]
    pub client_id: Option<String>,

    /// read the client secret from a file ("-": from stdin) and store it, or from a variable at every use (env:NAME)
    #[argh(option, arg_name = "FILE", from_str_fn(input))]
    pub client_secret_file: Option<Input>,

    /// how the client proves itself: none, basic (without a secret: an empty one), post or private_key_jwt (default: none
    /// without a secret or a key, else what the server announces)
    #[argh(option, arg_name = "METHOD", from_str_fn(client_authentication))]
    pub client_auth: Option<ClientAuthentication>,

    /// the private key (PEM; RSA or P-256) that signs the client's assertions (RFC 7523); it is read at every use
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub client_key_file: Option<PathBuf>,

    /// the name of that key at the server
    #[argh(option, arg_name = "KID", from_str_fn(non_empty))]
    pub client_key_id: Option<String>,

    /// what the server calls itself in assertions (default: its issuer; some want the token endpoint's address)
    #[argh(option, arg_name = "AUDIENCE", from_str_fn(non_empty))]
    pub client_key_audience: Option<String>,

    /// the scope to ask for, in one word: "openid offline_access"
    #[argh(option, arg_name = "SCOPE")]
    pub scope: Option<String>,

    /// an API that the token is for (RFC 8707); repeatable
    #[argh(option, arg_name = "URI", from_str_fn(non_empty))]
    pub resource: Vec<String>,

    /// the audience, for servers that want one
    #[argh(option, arg_name = "AUDIENCE", from_str_fn(non_empty))]
    pub audience: Option<String>,

    /// a further parameter of every request, no secret; repeatable
    #[argh(option, arg_name = "KEY=VALUE", from_str_fn(parameter))]
    pub param: Vec<Parameter>,

    /// where refresh tokens are spent, instead of an ISSUER to discover it from
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub token_endpoint: Option<String>,

    /// the authorization endpoint
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub authorization_endpoint: Option<String>,

    /// where a device login begins
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub device_authorization_endpoint: Option<String>,

    /// where logout revokes the grant
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub revocation_endpoint: Option<String>,

    /// where whoami asks
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub userinfo_endpoint: Option<String>,

    /// send the browser's request to the server first (RFC 9126), where it wants that of this client alone
    #[argh(switch)]
    pub pushed: bool,

    /// the loopback port that the browser comes back to, where the server was told one (default: any free one)
    #[argh(option, arg_name = "N", from_str_fn(port))]
    pub redirect_port: Option<u16>,

    /// the redirect URI exactly as the server has registered it: http:// and 127.0.0.1, [::1] or localhost, with a
    /// port or without (default: http://127.0.0.1/callback and a free port)
    #[argh(option, arg_name = "URI", from_str_fn(non_empty))]
    pub redirect_uri: Option<String>,

    /// print the address alone, and open no browser
    #[argh(switch)]
    pub no_open: bool,

    /// a git server that may be given this grant's tokens: HOST or HOST:PORT; repeatable
    #[argh(option, arg_name = "HOST", from_str_fn(host))]
    pub git_host: Vec<String>,

    /// JSON on stdout, one object a line
    #[argh(switch)]
    pub json: bool,
}

/// print a valid access token, refreshing it if it must
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "token",
    example = "onegrant token --format header | curl -H @- https://api.example/me",
    note = "Reads no stdin, asks nothing, opens nothing. Any number may run at once: one of them refreshes, all \
            print the same token.",
    error_code(0, "a token was printed or written"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct Token {
    /// how long the token must still be valid, where the server grants that much (default: a tenth of its
    /// lifetime, 30 at most)
    #[argh(option, arg_name = "SECONDS", from_str_fn(seconds))]
    pub min_ttl: Option<Duration>,

    /// raw, bearer ("Bearer ..."), header ("Authorization: Bearer ..."), json, curl (for curl -K -), netrc (for the
    /// servers that the profile names) or exec-credential (for kubectl) (default: raw)
    #[argh(option, arg_name = "FORMAT", from_str_fn(format))]
    pub format: Option<Format>,

    /// write it to a file instead of stdout: a new file of mode 0600 replaces the old one atomically; a FIFO or a terminal
    /// is written through
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub write: Option<PathBuf>,
}

/// get a new access token, though the old one may be valid yet
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "refresh",
    example = "printf %s \"$REFUSED\" | onegrant refresh --rejected",
    note = "Calls at the same time share one refresh: if the access token changed since this process first read \
            it, that one is the answer.",
    error_code(0, "there is a new access token"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct Refresh {
    /// read the access token that a server refused from stdin: refresh only if the store still holds it
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
    error_code(0, "a token can be had"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(5, "the store failed")
)]
pub struct Status {
    /// JSON on stdout
    #[argh(switch)]
    pub json: bool,

    /// the last 20 things that happened to the grant, and who did them
    #[argh(switch)]
    pub history: bool,
}

/// show whose grant it is, as the server says
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "whoami",
    example = "onegrant whoami --json",
    note = "Asks the userinfo endpoint; where there is none, shows the claims of the ID token.",
    error_code(0, "somebody is logged in"),
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
    note = "Deletes here whatever the server answers, and says whether the server has revoked the grant, failed to, \
            or offers nothing to revoke it with.",
    error_code(0, "deleted here"),
    error_code(2, "usage or configuration"),
    error_code(4, "another process still held the lock; nothing was deleted: try again"),
    error_code(5, "the store failed: not deleted")
)]
pub struct Logout {
    /// delete here only, and leave the grant valid at the server
    #[argh(switch)]
    pub local: bool,
}

/// move the grant to another store
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "migrate",
    example = "onegrant migrate --to helper:secretservice",
    note = "The grant is never in two stores at once: while it is on its way, neither has a token, and whoever asks is \
            told to come back. After an interruption the same command completes the move.",
    error_code(0, "moved: from now on the other store is the one to name"),
    error_code(2, "usage or configuration, or the other store has a grant of this profile already"),
    error_code(3, "there is no grant to move"),
    error_code(4, "another process still held the lock, or refreshed meanwhile: try again"),
    error_code(5, "a store failed; the grant is where it was, or the message says otherwise")
)]
pub struct Migrate {
    /// the other store, as --store takes it
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub to: String,
}

/// list the profiles of the store
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "profiles",
    example = "onegrant profiles",
    error_code(0, "listed, one a line; there may be none"),
    error_code(2, "usage or configuration"),
    error_code(5, "the store failed")
)]
pub struct Profiles {}

/// be the credential helper that git asks
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "git-credential",
    example = "printf 'protocol=https\\nhost=git.example\\n' | onegrant git-credential get",
    note = "onegrant git-setup HOST has git call it. A link to onegrant by the name git-credential-onegrant does the \
            same: git calls it for credential.helper=onegrant.",
    note = "Answers for the hosts of the profile only (login --git-host, git-setup), over https, or http on this \
            machine; says nothing about any other. A token that git erases is refreshed at the next get.",
    note = "A server that offers Bearer gets a bearer token from git 2.46 on, every other one the token as a password. \
            Where such a git fails to push more than a megabyte with HTTP 401: git config --global \
            http.postBuffer 500m",
    error_code(0, "answered, or not asked: another host, another operation"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login; git is told to ask nobody else"),
    error_code(4, "temporary; the session is untouched: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct GitCredential {
    /// get, store, erase or capability; git says which, and any other one is ignored
    #[argh(positional, arg_name = "OPERATION")]
    pub operation: String,
}

/// have git ask onegrant for the credentials of a host
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "git-setup",
    example = "onegrant git-setup --dry-run git.example",
    note = "Shows the git commands, then runs them: for these hosts onegrant becomes the only credential helper. Adds \
            them to the profile's hosts. What is so already is left alone.",
    error_code(0, "git is set up"),
    error_code(2, "usage, or git is missing or refuses"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "another process still held the lock: try again"),
    error_code(5, "the store failed; nothing was overwritten")
)]
pub struct GitSetup {
    /// a git server that may be given this grant's tokens: HOST or HOST:PORT
    #[argh(positional, arg_name = "HOST")]
    pub hosts: Vec<String>,

    /// write the configuration of this repository (default: the user's)
    #[argh(switch)]
    pub local: bool,

    /// show the commands, and change nothing
    #[argh(switch)]
    pub dry_run: bool,
}

/// print what completes these words in a shell
#[derive(Clone, Debug, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "completions",
    example = "eval \"$(onegrant completions bash)\"",
    example = "onegrant completions zsh > ~/.zfunc/_onegrant",
    example = "onegrant completions fish > ~/.config/fish/completions/onegrant.fish",
    note = "The first line belongs into ~/.bashrc. zsh wants fpath+=(~/.zfunc) before compinit in ~/.zshrc.",
    error_code(0, "printed"),
    error_code(2, "no such shell")
)]
pub struct Completions {
    /// bash, zsh or fish
    #[argh(positional, arg_name = "SHELL", from_str_fn(shell))]
    pub shell: Shell,
}

/// check what could keep this profile from its next token
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "doctor",
    example = "onegrant doctor",
    note = "Looks at the store, its permissions and its lock, which two processes ask for; at copies of the grant, its \
            age, the proxy, TLS and its CA roots, the server's metadata and clock, and git's configuration. Changes \
            nothing, and sends no credential. One line each: ok, warn or fail, and below it what mends it.",
    note = "Of several failing classes the exit code is that of the first in this order: 5, 2, 3, 4.",
    error_code(0, "all is well, or only warned about"),
    error_code(2, "usage or configuration"),
    error_code(3, "a login is required: onegrant login"),
    error_code(4, "the server cannot be reached now"),
    error_code(5, "the store fails")
)]
pub struct Doctor {
    /// JSON on stdout
    #[argh(switch)]
    pub json: bool,
}
