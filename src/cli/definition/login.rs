//! `onegrant login`: the flow, the client, the request, the endpoints, the browser.

use crate::cli::values::{
    Input, Parameter, client_authentication, host, input, non_empty, parameter, path, port, subject_token,
    token_type,
};
use crate::grant::{ClientAuthentication, SubjectToken};
use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;

/// get a grant and store it
#[derive(Clone, Debug, Default, PartialEq, Eq, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "login",
    example = "onegrant login https://mcp.example.com/mcp",
    example = "onegrant login https://issuer.example --client-id my-cli \\\n    \
               --device --scope \"openid offline_access\"",
    example = "onegrant login github --client-id CLIENT_ID",
    example = "onegrant login --token-endpoint https://as.example/token \\\n    \
               --client-id my-cli --refresh-token-stdin < refresh-token",
    note = "The address of a resource needs no options. The profile is then named after its host, and --for finds it: \
            onegrant --for https://mcp.example.com/mcp token",
    note = "A profile that was logged in before needs no options: onegrant login",
    note = "Without --json, the address to open and the code are printed on stderr. With --json, stdout has one JSON \
            object per line: first what a person is asked to do, then the result.",
    error_code(0, "the grant is stored"),
    error_code(2, "usage or configuration, or the server refuses this client or scope"),
    error_code(3, "the person or the server refused, or the login was not completed in time"),
    error_code(4, "temporary: try again"),
    error_code(5, "the store failed; if it cannot be written, the login is not started")
)]
pub struct Login {
    /// the address of a resource, such as an MCP server or another API, or of an authorization server or its metadata: the
    /// rest is discovered from there. Or a known provider: NAME or NAME:HOST, such as github, gitlab:git.example or
    /// okta:dev-1.okta.com (a wrong name lists all)
    #[argh(positional, arg_name = "ADDRESS")]
    pub issuer: Option<String>,

    /// log in with a code on any other device (RFC 8628)
    #[argh(switch)]
    pub device: bool,

    /// log in with a browser on this machine (RFC 8252)
    #[argh(switch)]
    pub browser: bool,

    /// read a refresh token from stdin and store it; it is spent once to prove that it works
    #[argh(switch)]
    pub refresh_token_stdin: bool,

    /// without a person: use the client's own grant (RFC 6749 section 4.4), which is requested again whenever it expires
    #[argh(switch)]
    pub client_credentials: bool,

    /// without a person: exchange a token (RFC 8693) from file:PATH, env:NAME, command:COMMAND or github[:AUDIENCE] (the
    /// identity of a GitHub Actions job); it is read again for every request. COMMAND has no terminal and an empty stdin
    #[argh(option, arg_name = "SOURCE", from_str_fn(subject_token))]
    pub subject_token: Option<SubjectToken>,

    /// the type of that token: jwt, id_token, access_token or a URI (default: jwt)
    #[argh(option, arg_name = "TYPE", from_str_fn(token_type))]
    pub subject_token_type: Option<String>,

    /// the client identifier (default: that of the earlier login; else a client is registered, if the server allows it)
    #[argh(option, arg_name = "ID", from_str_fn(non_empty))]
    pub client_id: Option<String>,

    /// read the client secret from a file ("-": stdin) and store it; or read it from a variable at every use (env:NAME)
    #[argh(option, arg_name = "FILE", from_str_fn(input))]
    pub client_secret_file: Option<Input>,

    /// how the client authenticates: none, basic (without a secret: an empty one), post or private_key_jwt (default:
    /// private_key_jwt with a key; with a secret, what the server announces; else none)
    #[argh(option, arg_name = "METHOD", from_str_fn(client_authentication))]
    pub client_auth: Option<ClientAuthentication>,

    /// the private key (PEM; RSA or P-256) that signs the client's assertions (RFC 7523); it is read at every use
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub client_key_file: Option<PathBuf>,

    /// the name of that key at the server
    #[argh(option, arg_name = "KID", from_str_fn(non_empty))]
    pub client_key_id: Option<String>,

    /// the audience of the client's assertions (default: the issuer; some servers need the address of the token endpoint)
    #[argh(option, arg_name = "AUDIENCE", from_str_fn(non_empty))]
    pub client_key_audience: Option<String>,

    /// the address of a client metadata document: the client identifier, if the server supports that
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub client_metadata_url: Option<String>,

    /// register a new client at the server (RFC 7591), even if this profile has one
    #[argh(switch)]
    pub register: bool,

    /// the scope to ask for, as one argument: "openid offline_access" (default: what the resource at ADDRESS names; else
    /// that of the earlier login)
    #[argh(option, arg_name = "SCOPE")]
    pub scope: Option<String>,

    /// an API that the token is for (RFC 8707), instead of the one at ADDRESS; repeatable
    #[argh(option, arg_name = "URI", from_str_fn(non_empty))]
    pub resource: Vec<String>,

    /// leave the resource out of every request, for servers that refuse it
    #[argh(switch)]
    pub no_resource: bool,

    /// the audience, for servers that need one
    #[argh(option, arg_name = "AUDIENCE", from_str_fn(non_empty))]
    pub audience: Option<String>,

    /// a further parameter of every request, not a secret; repeatable
    #[argh(option, arg_name = "KEY=VALUE", from_str_fn(parameter))]
    pub param: Vec<Parameter>,

    /// the token endpoint, instead of an ADDRESS to discover it from
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub token_endpoint: Option<String>,

    /// the authorization endpoint
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub authorization_endpoint: Option<String>,

    /// the device authorization endpoint, for --device
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub device_authorization_endpoint: Option<String>,

    /// the revocation endpoint, for logout
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub revocation_endpoint: Option<String>,

    /// the userinfo endpoint, for whoami
    #[argh(option, arg_name = "URL", from_str_fn(non_empty))]
    pub userinfo_endpoint: Option<String>,

    /// send the browser's request to the server first (RFC 9126), if the server requires it of this client only
    #[argh(switch)]
    pub pushed: bool,

    /// the loopback port of the redirect, if one is registered at the server (default: any free port)
    #[argh(option, arg_name = "N", from_str_fn(port))]
    pub redirect_port: Option<u16>,

    /// the redirect URI exactly as it is registered at the server: http:// and 127.0.0.1, [::1] or localhost, with or
    /// without a port (default: http://127.0.0.1/callback and a free port)
    #[argh(option, arg_name = "URI", from_str_fn(non_empty))]
    pub redirect_uri: Option<String>,

    /// print the address only; open no browser
    #[argh(switch)]
    pub no_open: bool,

    /// a git server that may be given the tokens of this grant: HOST or HOST:PORT; for a mail server smtp://HOST:PORT
    /// and the like; repeatable
    #[argh(option, arg_name = "HOST", from_str_fn(host))]
    pub git_host: Vec<String>,

    /// JSON on stdout, one object per line
    #[argh(switch)]
    pub json: bool,
}
