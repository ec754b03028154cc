//! What a login needs to know: from the options, from discovery, and from what is stored.

use super::flow;
use super::provider::{self, Target};
use crate::cli::{self, Input};
use crate::error::{Failure, Kind};
use crate::grant::{ClientAuthentication, ClientGrant, ClientKey, Document, SubjectToken, VERSION};
use crate::oauth::discovery;
use crate::profile::Context;
use crate::protocol::loopback::RedirectUri;
use crate::protocol::metadata::{Metadata, endpoint_url, origin};
use crate::protocol::providers::{ClientKind, Provider};
use crate::system::secret::{read_secret, read_secret_if_any};
use crate::text::{describe, printable};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The type of a subject token where none is named (RFC 8693 section 3).
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The document of the login, without a session. What the options do not say is taken from the server's metadata,
/// and what that does not say from the stored document of the same server.
pub fn gather(
    arguments: &cli::Login,
    target: &Target,
    before: Option<&Document>,
    context: &Context,
) -> Result<Document, Failure> {
    let metadata = match (&target.endpoints, &target.issuer) {
        (Some(endpoints), _) => Some(endpoints.clone()),
        (None, Some(issuer)) => {
            let document = target.document.as_deref();
            let found = discovery::discover(context.client(), issuer, document, context.left());
            // What is temporary goes away with the same command.
            let by_name =
                |failure: &Failure| provider::login_by_name(target).filter(|_| failure.kind == Kind::Usage);
            Some(found.map_err(|failure| {
                let hint = by_name(&failure);
                failure.hint_of(hint.as_deref())
            })?)
        }
        (None, None) => None,
    };
    let before = before.filter(|before| is_same_server(arguments, target, metadata.as_ref(), before));
    let mut document = start(arguments, metadata.as_ref(), before, context)?;
    if metadata.is_some() {
        document.issuer_is_assumed = target.endpoints.is_some();
    }
    endpoints(&mut document, arguments);
    client(&mut document, arguments, metadata.as_ref(), target)?;

    document.grant = match flow::is_of_a_person(arguments) {
        true => None,
        false => client_grant(arguments)?.or(document.grant),
    };
    document.scope = arguments.scope.clone().or(document.scope);
    document.audience = arguments.audience.clone().or(document.audience);
    if !arguments.resource.is_empty() {
        document.resource = arguments.resource.clone();
    }
    redirection(&mut document, arguments);
    if !arguments.git_host.is_empty() {
        document.git_hosts = arguments.git_host.clone();
    }
    for parameter in &arguments.param {
        document.parameters.insert(parameter.name.clone(), parameter.value.clone());
    }
    let is_known_client = before.is_some_and(|before| before.client_id == document.client_id);
    provider::fill(&mut document, target, is_known_client || arguments.client_auth.is_some())?;
    // A row without a scope says that the server's own default is the best.
    if document.scope.is_none() && document.grant.is_none() && document.provider.is_none() {
        document.scope = metadata.as_ref().and_then(lasting_scope);
    }
    check(&document)?;
    if let Some(distrust) = document.distrust.take()
        && inherits_sources(&document, arguments)
    {
        return Err(*distrust);
    }
    context.store.check_trust(&document)?;
    Ok(document)
}

/// Whether anything that this login would run or read was named by the stored document and not by an option.
fn inherits_sources(document: &Document, arguments: &cli::Login) -> bool {
    let is_exchange = matches!(document.grant, Some(ClientGrant::TokenExchange { .. }));
    (document.client_secret_env.is_some() && arguments.client_secret_file.is_none())
        || (document.client_key.is_some() && arguments.client_key_file.is_none())
        || (is_exchange && arguments.subject_token.is_none())
}

/// The scope where none is named: without `offline_access` a server that lists it gives no refresh token (OpenID Connect Core
/// section 11).
fn lasting_scope(metadata: &Metadata) -> Option<String> {
    let lists = |scope: &&str| metadata.scopes_supported.iter().any(|listed| listed == scope);
    let scope: Vec<&str> = ["openid", "profile", "offline_access"].into_iter().filter(lists).collect();
    scope.contains(&"offline_access").then(|| scope.join(" "))
}

/// Another server's client, scope and parameters mean nothing to this one. A token endpoint that is given without a client is
/// another one of the same server, if its origin is the same.
fn is_same_server(
    arguments: &cli::Login,
    target: &Target,
    metadata: Option<&Metadata>,
    before: &Document,
) -> bool {
    match (metadata, &arguments.token_endpoint) {
        // One origin may serve many tenants.
        (Some(metadata), _) if target.endpoints.is_some() => before.token_endpoint == metadata.token_endpoint,
        (Some(metadata), _) => before.issuer.as_ref() == Some(&metadata.issuer),
        (None, Some(token_endpoint)) => {
            let is_same_origin =
                || origin(token_endpoint).is_ok_and(|found| Ok(found) == origin(&before.token_endpoint));
            before.token_endpoint == *token_endpoint || (arguments.client_id.is_none() && is_same_origin())
        }
        (None, None) => true,
    }
}

fn start(
    arguments: &cli::Login,
    metadata: Option<&Metadata>,
    before: Option<&Document>,
    context: &Context,
) -> Result<Document, Failure> {
    let mut document = match (before, metadata, &arguments.token_endpoint) {
        (Some(before), _, _) => before.clone(),
        (None, Some(metadata), _) => Document::new(&metadata.issuer, &metadata.token_endpoint),
        (None, None, Some(token_endpoint)) => {
            let assumed = Document::new(&origin(token_endpoint)?, token_endpoint);
            Document { issuer_is_assumed: true, ..assumed }
        }
        (None, None, None) => {
            let message = format!("cannot log in: profile {} knows no server yet", context.globals.profile);
            return Err(Failure::new(Kind::Usage, message)
                .hint("onegrant login https://ISSUER --client-id ID --device"));
        }
    };
    if let Some(metadata) = metadata {
        document.token_endpoint = metadata.token_endpoint.clone();
        document.authorization_endpoint = metadata.authorization_endpoint.clone();
        document.device_authorization_endpoint = metadata.device_authorization_endpoint.clone();
        let is_pushed = metadata.requires_pushed_requests || arguments.pushed;
        let endpoint = &metadata.pushed_authorization_request_endpoint;
        document.pushed_authorization_request_endpoint = endpoint.clone().filter(|_| is_pushed);
        document.authorization_response_iss = metadata.authorization_response_iss;
        document.revocation_endpoint = metadata.revocation_endpoint.clone();
        document.userinfo_endpoint = metadata.userinfo_endpoint.clone();
    }
    document.version = VERSION;
    document.session = None;
    document.rejected = None;
    (document.moving, document.moved) = (None, None);
    document.last_refresh = None;
    Ok(document)
}

fn endpoints(document: &mut Document, arguments: &cli::Login) {
    if let Some(token_endpoint) = &arguments.token_endpoint {
        document.token_endpoint = token_endpoint.clone();
    }
    let given = [
        (&arguments.authorization_endpoint, &mut document.authorization_endpoint),
        (&arguments.device_authorization_endpoint, &mut document.device_authorization_endpoint),
        (&arguments.revocation_endpoint, &mut document.revocation_endpoint),
        (&arguments.userinfo_endpoint, &mut document.userinfo_endpoint),
    ];
    for (given, stored) in given {
        if given.is_some() {
            stored.clone_from(given);
        }
    }
}

fn client(
    document: &mut Document,
    arguments: &cli::Login,
    metadata: Option<&Metadata>,
    target: &Target,
) -> Result<(), Failure> {
    let is_another_client = arguments.client_id.as_ref().is_some_and(|id| *id != document.client_id);
    if is_another_client {
        document.client_secret = None;
        document.client_secret_env = None;
        document.client_key = None;
        document.client_auth = ClientAuthentication::None;
        document.redirect_uri = None;
        document.redirect_port = None;
    }
    if let Some(client_id) = &arguments.client_id {
        document.client_id = client_id.clone();
    }
    if document.client_id.is_empty() {
        let source = target.provider.map_or("the server gave your application".to_owned(), |provider| {
            format!("{} gave you for {}", provider.name, provider.note)
        });
        return Err(Failure::new(Kind::Usage, "cannot log in: --client-id is missing")
            .hint(format!("onegrant login --client-id ID   # the identifier that {source}")));
    }
    if let Some(input) = &arguments.client_secret_file {
        (document.client_secret, document.client_secret_env) = match input {
            Input::Environment(name) => (None, Some(name.clone())),
            // Basic authentication with an empty secret: Reddit's installed apps.
            input if arguments.client_auth == Some(ClientAuthentication::Basic) => {
                (secret(input, read_secret_if_any)?, None)
            }
            input => {
                let empty = "onegrant login --client-auth basic   # if the secret of this client is empty";
                let read = |from: &mut dyn Read, what: &str| {
                    read_secret(from, what).map_err(|failure| failure.hint(empty))
                };
                (Some(secret(input, read)?), None)
            }
        };
        document.client_auth = announced(metadata, target.provider);
    }
    if let Some(file) = &arguments.client_key_file {
        document.client_key = Some(ClientKey {
            file: absolute(file)?,
            id: None,
            audience: None,
            other: serde_json::Map::new(),
        });
        document.client_auth = ClientAuthentication::PrivateKeyJwt;
    }
    if let Some(key) = &mut document.client_key {
        key.id = arguments.client_key_id.clone().or(key.id.take());
        key.audience = arguments.client_key_audience.clone().or(key.audience.take());
    }
    if let Some(client_auth) = arguments.client_auth {
        document.client_auth = client_auth;
    }
    has_what_it_needs(document)
}

/// A redirect URI that is given anew leaves nothing of the one before it.
fn redirection(document: &mut Document, arguments: &cli::Login) {
    if arguments.redirect_uri.is_some() {
        document.redirect_uri.clone_from(&arguments.redirect_uri);
        document.redirect_port = None;
    }
    document.redirect_port = arguments.redirect_port.or(document.redirect_port);
}

fn has_what_it_needs(document: &Document) -> Result<(), Failure> {
    let has_secret = document.client_secret.is_some() || document.client_secret_env.is_some();
    let (message, hint) = match document.client_auth {
        ClientAuthentication::Post if !has_secret => (
            "cannot log in: --client-auth post needs a client secret",
            "onegrant login --client-secret-file FILE",
        ),
        ClientAuthentication::PrivateKeyJwt if document.client_key.is_none() => (
            "cannot log in: --client-auth private_key_jwt needs a private key",
            "onegrant login --client-key-file FILE",
        ),
        _ => return Ok(()),
    };
    Err(Failure::new(Kind::Usage, message).hint(hint))
}

/// The grant that the client asks for in its own name, where it does.
fn client_grant(arguments: &cli::Login) -> Result<Option<ClientGrant>, Failure> {
    let subject_token = match &arguments.subject_token {
        None if arguments.client_credentials => return Ok(Some(ClientGrant::ClientCredentials)),
        None => return Ok(None),
        Some(SubjectToken::File(file)) => SubjectToken::File(absolute(file)?),
        Some(source) => source.clone(),
    };
    let subject_token_type = arguments.subject_token_type.clone().unwrap_or_else(|| JWT.to_owned());
    Ok(Some(ClientGrant::TokenExchange { subject_token, subject_token_type }))
}

/// A path that is stored is read later from another directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        let shown = printable(&path.display().to_string());
        Failure::new(Kind::Usage, format!("cannot use {shown}: {}", describe(&error)))
    })
}

/// RFC 8414 section 2: a server that does not tell its methods takes `client_secret_basic`, where its row knows no better.
fn announced(metadata: Option<&Metadata>, provider: Option<&Provider>) -> ClientAuthentication {
    let methods = metadata.map_or(&[][..], |metadata| &metadata.token_endpoint_auth_methods_supported);
    if methods.is_empty() && provider.is_some_and(|provider| provider.client == ClientKind::Post) {
        return ClientAuthentication::Post;
    }
    let has = |method: &str| methods.iter().any(|announced| announced == method);
    match has("client_secret_post") && !has("client_secret_basic") {
        true => ClientAuthentication::Post,
        false => ClientAuthentication::Basic,
    }
}

fn secret<S>(input: &Input, read: impl Fn(&mut dyn Read, &str) -> Result<S, Failure>) -> Result<S, Failure> {
    match input {
        Input::Environment(_) => Err(Failure::new(Kind::Defect, "a variable is read when it is used")),
        Input::Stdin => read(&mut std::io::stdin().lock(), "the client secret on stdin"),
        Input::File(path) => {
            let shown = printable(&path.display().to_string());
            let mut file = File::open(path).map_err(|error| {
                Failure::new(
                    Kind::Usage,
                    format!("cannot read the client secret from {shown}: {}", describe(&error)),
                )
            })?;
            read(&mut file, &format!("the client secret in {shown}"))
        }
    }
}

fn check(document: &Document) -> Result<(), Failure> {
    endpoint_url(&document.token_endpoint)?;
    let others = [
        &document.authorization_endpoint,
        &document.device_authorization_endpoint,
        &document.pushed_authorization_request_endpoint,
        &document.revocation_endpoint,
        &document.userinfo_endpoint,
    ];
    for url in others.into_iter().flatten() {
        endpoint_url(url)?;
    }
    let registered = document.redirect_uri.as_deref().map(RedirectUri::parse).transpose()?;
    match (registered.and_then(|uri| uri.port), document.redirect_port) {
        (Some(registered), Some(port)) if registered != port => {
            let message =
                format!("cannot use --redirect-port {port}: the redirect URI has the port {registered}");
            Err(Failure::new(Kind::Usage, message)
                .hint("give the --redirect-uri without a port, or with this one"))
        }
        _ => Ok(()),
    }
}
