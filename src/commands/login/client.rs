//! The client of a login (RFC 6749 section 2): its identifier, how it authenticates, and its redirect URI.

use super::flow;
use super::registration::NewClient;
use super::server::Server;
use crate::cli::{self, Input};
use crate::error::{Failure, Kind};
use crate::grant::{
    ClientAuthentication, ClientGrant, ClientKey, Document, Registration, Secret, SubjectToken,
};
use crate::protocol::loopback::RedirectUri;
use crate::protocol::providers::{ClientKind, Provider};
use crate::protocol::resource::resource_url;
use crate::system::secret::{read_secret, read_secret_if_any};
use crate::text::{describe, printable};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The type of a subject token if no option names it (RFC 8693 section 3).
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A client that the server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// RFC 6749 section 2.2.
    pub id: String,
    /// Its secret, if that is stored.
    pub secret: Option<Secret>,
    /// The variable that holds its secret, if that is not stored.
    pub secret_variable: Option<String>,
    /// The key that signs its assertions.
    pub key: Option<ClientKey>,
    /// RFC 6749 section 2.3.
    pub authentication: ClientAuthentication,
    /// Its registration, if a login registered it.
    pub registration: Option<Registration>,
    /// The loopback redirect URI as the server has registered it.
    pub redirect_uri: Option<String>,
    /// The one loopback port that the server accepts.
    pub redirect_port: Option<u16>,
    /// The grant that it requests in its own name.
    pub grant: Option<ClientGrant>,
}

/// Which client a login uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a login has one")]
pub enum ClientChoice {
    /// One that the server knows.
    Known(Client),
    /// One that is to be registered.
    New(NewClient),
}

impl ClientChoice {
    /// The first of these: the client that options name, the stored one, a new one. `stored` is of the same server.
    pub fn make(arguments: &cli::Login, server: &Server, stored: Option<&Document>) -> Result<Self, Failure> {
        let metadata_url = arguments.client_metadata_url.as_deref().map(client_metadata_url).transpose()?;
        let named = arguments.client_id.as_deref();
        let named = named.or(metadata_url.filter(|_| server.knows_client_metadata));
        let endpoint = server.endpoints.registration.as_ref();
        let new = endpoint.map(|endpoint| Self::New(NewClient { endpoint: endpoint.clone() }));
        // Another flow than that of a person needs a client that the server trusts.
        let new = new.filter(|_| flow::may_register(arguments));
        match (named, stored, new) {
            // The command line refuses `--client-id` beside it. The address of a client metadata document comes second.
            (_, _, Some(new)) if arguments.register => Ok(new),
            _ if arguments.register => Err(no_registration()),
            (None, None, Some(_)) if has_proof(arguments) => Err(missing(server.row())),
            (None, None, Some(new)) => Ok(new),
            (None, None, None) if server.is_announced && endpoint.is_none() && server.row().is_none() => {
                Err(unregistered())
            }
            _ => Client::find(arguments, named, server, stored).map(Self::Known),
        }
    }

    /// The client, as far as it is known.
    pub fn known(&self) -> Option<&Client> {
        match self {
            Self::Known(client) => Some(client),
            Self::New(_) => None,
        }
    }
}

impl Client {
    /// The client that options name, else the stored one. `named` is its identifier, if they name one.
    fn find(
        arguments: &cli::Login,
        named: Option<&str>,
        server: &Server,
        stored: Option<&Document>,
    ) -> Result<Self, Failure> {
        let is_same_client = |stored: &&Document| named.is_none_or(|id| id == stored.client_id);
        let same = stored.filter(is_same_client);
        let id = named.map(str::to_owned).or_else(|| same.map(|same| same.client_id.clone()));
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| missing(server.row()))?;
        let (secret, secret_variable) = secret(arguments, same)?;
        let (redirect_uri, redirect_port) = redirection(arguments, same)?;
        let client = Self {
            id,
            secret,
            secret_variable,
            key: key(arguments, same)?,
            authentication: authentication(arguments, server, same),
            registration: same.and_then(|same| same.registration.clone()),
            redirect_uri,
            redirect_port,
            grant: match flow::is_of_a_person(arguments) {
                true => None,
                false => own_grant(arguments)?.or_else(|| stored.and_then(|stored| stored.grant.clone())),
            },
        };
        client.check(server, same.is_some() || arguments.client_auth.is_some())?;
        client.check_trust(arguments, stored)?;
        Ok(client)
    }

    /// Whether the client has what its authentication needs. `is_settled`: the method was chosen by an option, or at an
    /// earlier login.
    fn check(&self, server: &Server, is_settled: bool) -> Result<(), Failure> {
        let usage = |message: &str, hint: &str| Err(Failure::new(Kind::Usage, message).hint(hint));
        let has_secret = self.secret.is_some() || self.secret_variable.is_some();
        match self.authentication {
            ClientAuthentication::Post if !has_secret => usage(
                "cannot log in: --client-auth post needs a client secret",
                "onegrant login --client-secret-file FILE",
            ),
            ClientAuthentication::PrivateKeyJwt if self.key.is_none() => usage(
                "cannot log in: --client-auth private_key_jwt needs a private key",
                "onegrant login --client-key-file FILE",
            ),
            ClientAuthentication::None if !is_settled => match server.row() {
                Some(provider) if provider.client != ClientKind::Any => usage(
                    &format!("cannot log in: {} knows no clients without a secret", provider.name),
                    "add --client-secret-file FILE   # or --client-auth none, if this client has none after all",
                ),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Fails if this login would run or read something that only a stored document names, and another user may have written
    /// that document.
    fn check_trust(&self, arguments: &cli::Login, stored: Option<&Document>) -> Result<(), Failure> {
        let is_exchange = matches!(self.grant, Some(ClientGrant::TokenExchange { .. }));
        let inherits = (self.secret_variable.is_some() && arguments.client_secret_file.is_none())
            || (self.key.is_some() && arguments.client_key_file.is_none())
            || (is_exchange && arguments.subject_token.is_none());
        stored.filter(|_| inherits).map_or(Ok(()), Document::check_trust)
    }
}

/// Checks the address of a client metadata document (draft-ietf-oauth-client-id-metadata-document section 3).
fn client_metadata_url(url: &str) -> Result<&str, Failure> {
    const HINT: &str = "onegrant login --client-metadata-url https://HOST/PATH";
    resource_url(url).map_err(|failure| failure.hint(HINT))?;
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    match path {
        "" => {
            let message = format!("cannot use --client-metadata-url {}: it has no path", printable(url));
            Err(Failure::new(Kind::Usage, message).hint(HINT))
        }
        _ => Ok(url),
    }
}

/// The hint for a server that registers no client that it accepts.
pub const NAME_A_CLIENT: &str =
    "onegrant login --client-id ID   # the identifier of an application that you have registered there";

/// Whether options say how a client proves itself. They mean a client that the server knows.
fn has_proof(arguments: &cli::Login) -> bool {
    arguments.client_secret_file.is_some() || arguments.client_key_file.is_some()
}

/// The hint for a server that cannot use the client metadata document, and registers clients.
pub const REGISTER_ONE: &str =
    "onegrant login --register   # a client that needs no client metadata document";

/// The server announces no registration, and no client is named.
pub fn unregistered() -> Failure {
    let message = "cannot log in: this server registers only programs that it knows, and no client is named";
    Failure::new(Kind::Usage, message).hint(NAME_A_CLIENT)
}

/// `--register` at such a server.
fn no_registration() -> Failure {
    let message = "cannot use --register: the server has no registration endpoint for this kind of login";
    Failure::new(Kind::Usage, message).hint(NAME_A_CLIENT)
}

fn missing(provider: Option<&Provider>) -> Failure {
    let source = provider.map_or("the server gave your application".to_owned(), |provider| {
        format!("{} gave you for {}", provider.name, provider.note)
    });
    Failure::new(Kind::Usage, "cannot log in: --client-id is missing")
        .hint(format!("onegrant login --client-id ID   # the identifier that {source}"))
}

/// The secret, or the variable that holds it.
fn secret(
    arguments: &cli::Login,
    same: Option<&Document>,
) -> Result<(Option<Secret>, Option<String>), Failure> {
    Ok(match &arguments.client_secret_file {
        None => {
            same.map_or((None, None), |same| (same.client_secret.clone(), same.client_secret_env.clone()))
        }
        Some(Input::Environment(name)) => (None, Some(name.clone())),
        Some(Input::Stdin) => {
            let read = reader(arguments);
            (read(&mut std::io::stdin().lock(), "the client secret on stdin")?, None)
        }
        Some(Input::File(path)) => {
            let shown = printable(&path.display().to_string());
            let mut file = File::open(path).map_err(|error| {
                let message = format!("cannot read the client secret from {shown}: {}", describe(&error));
                Failure::new(Kind::Usage, message)
            })?;
            (reader(arguments)(&mut file, &format!("the client secret in {shown}"))?, None)
        }
    })
}

type SecretReader = fn(&mut dyn Read, &str) -> Result<Option<Secret>, Failure>;

/// Only HTTP Basic knows an empty secret: Reddit's installed apps use it.
fn reader(arguments: &cli::Login) -> SecretReader {
    match arguments.client_auth {
        Some(ClientAuthentication::Basic) => |from, what| read_secret_if_any(from, what),
        _ => |from, what| {
            let hint = "onegrant login --client-auth basic   # if the secret of this client is empty";
            read_secret(from, what).map(Some).map_err(|failure| failure.hint(hint))
        },
    }
}

fn key(arguments: &cli::Login, same: Option<&Document>) -> Result<Option<ClientKey>, Failure> {
    let key = match &arguments.client_key_file {
        Some(file) => {
            Some(ClientKey { file: absolute(file)?, id: None, audience: None, other: serde_json::Map::new() })
        }
        None => same.and_then(|same| same.client_key.clone()),
    };
    Ok(key.map(|key| ClientKey {
        id: arguments.client_key_id.clone().or(key.id),
        audience: arguments.client_key_audience.clone().or(key.audience),
        ..key
    }))
}

fn authentication(arguments: &cli::Login, server: &Server, same: Option<&Document>) -> ClientAuthentication {
    match arguments.client_auth {
        Some(given) => given,
        None if arguments.client_key_file.is_some() => ClientAuthentication::PrivateKeyJwt,
        None if arguments.client_secret_file.is_some() => announced(server),
        None => same.map_or(ClientAuthentication::None, |same| same.client_auth),
    }
}

/// How a client with a secret authenticates. A server that lists no methods in its metadata accepts `client_secret_basic` (RFC
/// 8414 section 2), unless its row says otherwise.
fn announced(server: &Server) -> ClientAuthentication {
    let methods = &server.token_endpoint_auth_methods_supported;
    if methods.is_empty() && server.row().is_some_and(|provider| provider.client == ClientKind::Post) {
        return ClientAuthentication::Post;
    }
    let has = |method: &str| methods.iter().any(|announced| announced == method);
    match has("client_secret_post") && !has("client_secret_basic") {
        true => ClientAuthentication::Post,
        false => ClientAuthentication::Basic,
    }
}

/// The redirect URI and its port. A new redirect URI leaves nothing of the stored one.
fn redirection(
    arguments: &cli::Login,
    same: Option<&Document>,
) -> Result<(Option<String>, Option<u16>), Failure> {
    let (uri, stored_port) = match &arguments.redirect_uri {
        Some(uri) => (Some(uri.clone()), None),
        None => same.map_or((None, None), |same| (same.redirect_uri.clone(), same.redirect_port)),
    };
    let port = arguments.redirect_port.or(stored_port);
    let registered = uri.as_deref().map(RedirectUri::parse).transpose()?.and_then(|uri| uri.port);
    match (registered, port) {
        (Some(registered), Some(port)) if registered != port => {
            let message =
                format!("cannot use --redirect-port {port}: the redirect URI has the port {registered}");
            Err(Failure::new(Kind::Usage, message)
                .hint("give the --redirect-uri without a port, or with this one"))
        }
        _ => Ok((uri, port)),
    }
}

/// The grant that options have the client request in its own name.
fn own_grant(arguments: &cli::Login) -> Result<Option<ClientGrant>, Failure> {
    let subject_token = match &arguments.subject_token {
        None if arguments.client_credentials => return Ok(Some(ClientGrant::ClientCredentials)),
        None => return Ok(None),
        Some(SubjectToken::File(file)) => SubjectToken::File(absolute(file)?),
        Some(source) => source.clone(),
    };
    let subject_token_type = arguments.subject_token_type.clone().unwrap_or_else(|| JWT.to_owned());
    Ok(Some(ClientGrant::TokenExchange { subject_token, subject_token_type }))
}

/// A stored path is read later from another directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        let shown = printable(&path.display().to_string());
        Failure::new(Kind::Usage, format!("cannot use {shown}: {}", describe(&error)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_wants_a_secret_gets_one_unless_the_method_was_chosen() {
        let google = Server { provider: Some("google".to_owned()), ..Server::default() };
        let login = |client_auth| cli::Login {
            client_id: Some("c".to_owned()),
            client_auth,
            ..cli::Login::default()
        };
        let failure = Client::find(&login(None), Some("c"), &google, None).unwrap_err();
        assert_eq!(failure.message, "cannot log in: google knows no clients without a secret");
        assert!(Client::find(&login(Some(ClientAuthentication::None)), Some("c"), &google, None).is_ok());
        let stored = Document {
            client_id: "c".to_owned(),
            ..Document::new("https://accounts.google.com", "https://oauth2.googleapis.com/token")
        };
        assert!(Client::find(&login(None), Some("c"), &google, Some(&stored)).is_ok());
        let another = Document { client_id: "another".to_owned(), ..stored };
        assert!(Client::find(&login(None), Some("c"), &google, Some(&another)).is_err());
    }
}
