//! The document of a login without its session, made once from everything that is known by then.

use super::client::Client;
use super::server::Server;
use crate::cli;
use crate::error::Failure;
use crate::grant::{ClientGrant, Document, Login, Session, VERSION};
use crate::profile::Context;
use crate::protocol::address_search::LocatedResource;
use crate::protocol::providers::refuses_resource;
use crate::protocol::scope::named;

/// The document of a login without its session. Requests to the server are built from it.
pub struct Configuration(Document);

impl Configuration {
    /// Puts the parts together. What neither an option nor the server says is taken from `stored`, the document of an
    /// earlier login at the same server. Fails if the store must not name what this document names.
    pub fn new(
        arguments: &cli::Login,
        server: Server,
        client: Client,
        scope: Option<String>,
        stored: Option<&Document>,
        login: Login,
        context: &Context,
    ) -> Result<Self, Failure> {
        let configuration = Self(document(arguments, server, client, scope, stored, login));
        context.store.check_trust(&configuration.0)?;
        Ok(configuration)
    }

    /// What requests are built from.
    pub fn document(&self) -> &Document {
        &self.0
    }

    /// The document that is stored.
    pub fn with_session(&self, session: Session) -> Document {
        self.0.with_session(session)
    }
}

fn document(
    arguments: &cli::Login,
    server: Server,
    client: Client,
    scope: Option<String>,
    stored: Option<&Document>,
    login: Login,
) -> Document {
    let (resource, no_resource) = resource(arguments, &server, stored);
    let metadata_url = |resource: &LocatedResource| resource.metadata_url.clone();
    let resource_metadata = match &server.resource {
        Some(resource) => metadata_url(resource),
        None => stored.and_then(|stored| stored.resource_metadata.clone()),
    };
    let row = server.row();
    let username = row.map(|provider| provider.git_username).filter(|name| !name.is_empty());
    let mut parameters = stored.map(|stored| stored.parameters.clone()).unwrap_or_default();
    parameters
        .extend(arguments.param.iter().map(|parameter| (parameter.name.clone(), parameter.value.clone())));
    Document {
        version: VERSION,
        scope,
        resource,
        no_resource,
        resource_metadata,
        audience: arguments.audience.clone().or_else(|| stored.and_then(|stored| stored.audience.clone())),
        parameters,
        git_hosts: given(&arguments.git_host, stored.map(|stored| &stored.git_hosts)),
        git_username: stored
            .and_then(|stored| stored.git_username.clone())
            .or_else(|| username.map(str::to_owned)),
        issuer: server.issuer,
        issuer_is_assumed: server.issuer_is_assumed,
        provider: server.provider,
        token_endpoint: server.endpoints.token,
        authorization_endpoint: server.endpoints.authorization,
        device_authorization_endpoint: server.endpoints.device_authorization,
        pushed_authorization_request_endpoint: server.endpoints.pushed_authorization_request,
        authorization_response_iss: server.authorization_response_iss,
        revocation_endpoint: server.endpoints.revocation,
        userinfo_endpoint: server.endpoints.userinfo,
        client_id: client.id,
        client_secret: client.secret,
        client_secret_env: client.secret_variable,
        client_key: client.key,
        client_auth: client.authentication,
        registration: client.registration,
        redirect_uri: client.redirect_uri,
        redirect_port: client.redirect_port,
        grant: client.grant,
        login: Some(login),
        session: None,
        rejected: None,
        moving: None,
        moved: None,
        last_refresh: None,
        distrust: None,
        other: stored.map(|stored| stored.other.clone()).unwrap_or_default(),
    }
}

/// The values of a repeatable option, else the stored ones.
fn given(values: &[String], stored: Option<&Vec<String>>) -> Vec<String> {
    match values {
        [] => stored.cloned().unwrap_or_default(),
        values => values.to_vec(),
    }
}

/// The resources that the tokens are for, and whether no request names them.
fn resource(arguments: &cli::Login, server: &Server, stored: Option<&Document>) -> (Vec<String>, bool) {
    let kept = || stored.map(|stored| stored.resource.clone()).unwrap_or_default();
    let is_kept_out = stored.is_some_and(|stored| stored.no_resource);
    match (arguments.resource.as_slice(), &server.resource) {
        ([], None) => (kept(), arguments.no_resource || is_kept_out),
        ([], Some(resource)) => {
            let is_refused = server.issuer.as_deref().is_some_and(refuses_resource);
            (vec![resource.identifier.clone()], arguments.no_resource || is_kept_out || is_refused)
        }
        (given, _) => (given.to_vec(), arguments.no_resource),
    }
}

/// The scope to request. At the address of a resource: of the option, of the challenge, of the resource's metadata; never the
/// scopes that the issuer lists, which are for all its resources. Elsewhere: of the option, of the earlier login, of the
/// provider's row. Otherwise, if the server lists `offline_access`: without it such a server gives no refresh token (OpenID
/// Connect Core section 11). A client's own grant has no scope of a person.
pub fn scope(
    arguments: &cli::Login,
    server: &Server,
    grant: Option<&ClientGrant>,
    stored: Option<&Document>,
) -> Option<String> {
    if let (None, Some(resource)) = (&arguments.scope, &server.resource) {
        return scope_of_resource(resource, &server.scopes_supported);
    }
    let said = arguments.scope.clone().or_else(|| stored.and_then(|stored| stored.scope.clone()));
    match (said, server.row()) {
        (Some(scope), _) => Some(scope),
        (None, _) if grant.is_some() => None,
        // A row without a scope says that the server's own default is the best.
        (None, Some(provider)) => Some(provider.scope.to_owned()).filter(|scope| !scope.is_empty()),
        (None, None) if server.provider.is_some() => None,
        (None, None) => lasting_scope(&server.scopes_supported),
    }
}

/// The scope that the resource demands or lists, with `offline_access` if the issuer lists that. `None` if the resource says
/// nothing: then the server's default is the best, and `offline_access` alone would narrow it.
fn scope_of_resource(resource: &LocatedResource, listed_by_issuer: &[String]) -> Option<String> {
    const LASTING: &str = "offline_access";
    let demanded = resource.challenge_scope.iter().flat_map(|scope| scope.split_ascii_whitespace());
    let mut words: Vec<&str> = named(demanded).collect();
    if words.is_empty() {
        words = resource.scopes_supported.iter().map(String::as_str).collect();
    }
    let is_lasting = listed_by_issuer.iter().any(|listed| listed == LASTING);
    if !words.is_empty() && is_lasting && !words.contains(&LASTING) {
        words.push(LASTING);
    }
    Some(words.join(" ")).filter(|scope| !scope.is_empty())
}

fn lasting_scope(scopes_supported: &[String]) -> Option<String> {
    let lists = |scope: &&str| scopes_supported.iter().any(|listed| listed == scope);
    let scope: Vec<&str> = ["openid", "profile", "offline_access"].into_iter().filter(lists).collect();
    scope.contains(&"offline_access").then(|| scope.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Input, Parameter};
    use crate::commands::login::client::ClientChoice;
    use crate::grant::{ClientAuthentication, ClientKey, Flow, LastRefresh, Rejected, Secret, SubjectToken};
    use crate::protocol::metadata::EndpointUrls;
    use serde_json::{Map, json};
    use std::path::Path;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn key(file: &str, id: &str) -> Option<ClientKey> {
        Some(ClientKey { file: file.into(), id: text(id), audience: text("stored"), other: Map::new() })
    }

    fn login() -> Login {
        Login { id: "new".to_owned(), at: 2, flow: Flow::Browser, other: Map::new() }
    }

    /// A document of an earlier login. Each member that a login decides on has a value.
    fn stored() -> Document {
        Document {
            client_id: "client".to_owned(),
            client_secret: Some(Secret::new("secret")),
            client_secret_env: text("SECRET"),
            client_key: key("/stored.pem", "stored"),
            client_auth: ClientAuthentication::Post,
            scope: text("stored"),
            resource: vec!["https://stored".to_owned()],
            audience: text("stored"),
            parameters: [("a", "1"), ("b", "2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            redirect_uri: text("http://localhost/stored"),
            redirect_port: Some(1),
            grant: Some(ClientGrant::ClientCredentials),
            git_hosts: vec!["stored.example".to_owned()],
            git_username: text("stored"),
            provider: text("gitlab"),
            login: Some(Login { id: "old".to_owned(), at: 1, flow: Flow::Device, other: Map::new() }),
            rejected: Some(Rejected::new("00".to_owned(), 1, "dead".to_owned())),
            last_refresh: Some(LastRefresh { at: 1, host: "h".to_owned(), pid: 1, other: Map::new() }),
            other: Map::from_iter([("later".to_owned(), json!(true))]),
            ..Document::new("https://as.example", "https://as.example/t")
        }
    }

    /// The document of a login at the server of [`stored`].
    fn of_login(arguments: &cli::Login) -> Document {
        let stored = stored();
        let server = Server {
            issuer: stored.issuer.clone(),
            provider: stored.provider.clone(),
            endpoints: EndpointUrls { token: stored.token_endpoint.clone(), ..EndpointUrls::default() },
            ..Server::default()
        };
        let client = ClientChoice::make(arguments, &server, Some(&stored)).unwrap().known().unwrap().clone();
        let scope = scope(arguments, &server, client.grant.as_ref(), Some(&stored));
        document(arguments, server, client, scope, Some(&stored), login())
    }

    #[test]
    fn a_login_without_options_keeps_the_configuration_and_nothing_of_the_earlier_grant() {
        let wanted = Document { login: Some(login()), rejected: None, last_refresh: None, ..stored() };
        assert_eq!(of_login(&cli::Login::default()), wanted);
    }

    #[test]
    fn another_client_of_the_same_server_takes_the_request_and_nothing_of_the_stored_client() {
        let arguments = cli::Login {
            client_id: text("another"),
            client_auth: Some(ClientAuthentication::None),
            ..cli::Login::default()
        };
        let wanted = Document {
            client_id: "another".to_owned(),
            client_secret: None,
            client_secret_env: None,
            client_key: None,
            client_auth: ClientAuthentication::None,
            redirect_uri: None,
            redirect_port: None,
            ..of_login(&cli::Login::default())
        };
        assert_eq!(of_login(&arguments), wanted);
    }

    #[test]
    fn an_option_wins_over_the_stored_value() {
        let arguments = cli::Login {
            client_secret_file: Some(Input::Environment("NEW".to_owned())),
            client_key_id: text("new"),
            scope: text("new"),
            resource: vec!["https://new".to_owned()],
            audience: text("new"),
            param: vec![Parameter { name: "b".to_owned(), value: "3".to_owned() }],
            git_host: vec!["new.example".to_owned()],
            redirect_port: Some(2),
            subject_token: Some(SubjectToken::Environment("TOKEN".to_owned())),
            ..cli::Login::default()
        };
        let wanted = Document {
            client_secret: None,
            client_secret_env: text("NEW"),
            client_key: key("/stored.pem", "new"),
            // The server lists no method.
            client_auth: ClientAuthentication::Basic,
            scope: text("new"),
            resource: arguments.resource.clone(),
            audience: text("new"),
            parameters: [("a", "1"), ("b", "3")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            git_hosts: arguments.git_host.clone(),
            redirect_port: Some(2),
            grant: Some(ClientGrant::TokenExchange {
                subject_token: SubjectToken::Environment("TOKEN".to_owned()),
                subject_token_type: "urn:ietf:params:oauth:token-type:jwt".to_owned(),
            }),
            ..of_login(&cli::Login::default())
        };
        assert_eq!(of_login(&arguments), wanted);
        // A new key or redirect URI leaves nothing of the stored one, and a flow of a person ends the client's own grant.
        let arguments = cli::Login {
            client_key_file: Some("/new.pem".into()),
            redirect_uri: text("http://localhost/new"),
            browser: true,
            ..cli::Login::default()
        };
        let found = of_login(&arguments);
        let new_key = found.client_key.unwrap();
        assert_eq!(
            (new_key.file.as_path(), new_key.id, new_key.audience),
            (Path::new("/new.pem"), None, None)
        );
        assert_eq!(found.client_auth, ClientAuthentication::PrivateKeyJwt);
        assert_eq!(
            (found.redirect_uri.as_deref(), found.redirect_port),
            (Some("http://localhost/new"), None)
        );
        assert_eq!(found.grant, None);
    }

    /// RFC 8707 section 2. Entra refuses the parameter.
    #[test]
    fn requests_name_the_resource_unless_a_person_or_the_issuer_wants_none() {
        let found = "https://r.example/mcp";
        let at = |issuer: &str| Server {
            issuer: text(issuer),
            resource: Some(LocatedResource { identifier: found.to_owned(), ..LocatedResource::default() }),
            ..Server::default()
        };
        let (usual, entra) = (at("https://as.example"), at("https://login.microsoftonline.com/t/v2.0"));
        let china = at("https://login.partner.microsoftonline.cn/t/v2.0");
        let other = at("https://login.microsoftonline.com.evil.example/t/v2.0");
        let none = Server::default();
        let stored = |resource: &str, no_resource| Document {
            resource: vec![resource.to_owned()],
            no_resource,
            ..Document::new("https://as.example", "https://as.example/t")
        };
        let (kept, kept_out) = (stored("https://stored", false), stored("https://stored", true));
        // (--resource, --no-resource, server, stored, resource, whether no request names it)
        let cases = [
            (None, false, &usual, None, Some(found), false),
            (None, true, &usual, None, Some(found), true),
            (None, false, &entra, None, Some(found), true),
            (None, false, &china, None, Some(found), true),
            (None, false, &other, None, Some(found), false),
            (Some("https://mine"), false, &entra, None, Some("https://mine"), false),
            (Some("https://mine"), false, &usual, Some(&kept_out), Some("https://mine"), false),
            (None, false, &usual, Some(&kept_out), Some(found), true),
            (None, false, &usual, Some(&kept), Some(found), false),
            (None, false, &none, Some(&kept), Some("https://stored"), false),
            (None, false, &none, Some(&kept_out), Some("https://stored"), true),
            (None, true, &none, None, None, true),
        ];
        for (option, no_resource, server, stored, wanted, is_left_out) in cases {
            let resource_option = option.map(str::to_owned).into_iter().collect();
            let arguments = cli::Login { resource: resource_option, no_resource, ..cli::Login::default() };
            let found = resource(&arguments, server, stored);
            let wanted: Vec<String> = wanted.map(str::to_owned).into_iter().collect();
            assert_eq!(found, (wanted, is_left_out), "{option:?} {no_resource} {server:?} {stored:?}");
        }
    }

    #[test]
    fn the_scope_is_that_of_the_option_else_the_stored_one_else_the_one_of_the_server() {
        let google = Server { provider: Some("google".to_owned()), ..Server::default() };
        let listed = ["offline_access", "openid", "email"].map(str::to_owned).to_vec();
        let lists = Server { scopes_supported: listed, ..Server::default() };
        let unknown = Server { provider: Some("later".to_owned()), ..lists.clone() };
        let person = Client::default();
        let own = Client { grant: Some(ClientGrant::ClientCredentials), ..Client::default() };
        let stored = Document {
            scope: Some("stored".to_owned()),
            ..Document::new("https://as.example", "https://as.example/t")
        };
        let cases = [
            (Some("mine"), &google, &person, Some(&stored), Some("mine")),
            (None, &google, &person, Some(&stored), Some("stored")),
            (None, &google, &own, Some(&stored), Some("stored")),
            (None, &google, &person, None, Some("openid email")),
            (None, &google, &own, None, None),
            (None, &lists, &person, None, Some("openid offline_access")),
            (None, &lists, &own, None, None),
            (None, &unknown, &person, None, None),
            (None, &Server::default(), &person, None, None),
        ];
        for (option, server, client, stored, wanted) in cases {
            let arguments = cli::Login { scope: option.map(str::to_owned), ..cli::Login::default() };
            let found = scope(&arguments, server, client.grant.as_ref(), stored);
            assert_eq!(found.as_deref(), wanted, "{option:?} {server:?} {client:?}");
        }
    }
}
