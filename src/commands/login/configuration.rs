//! The document of a login without its session, made once from everything that is known by then.

use super::client::Client;
use super::server::Server;
use crate::cli;
use crate::error::Failure;
use crate::grant::{Document, Login, Session, VERSION};
use crate::profile::Context;

/// The document of a login without its session. Requests to the server are built from it.
pub struct Configuration(Document);

impl Configuration {
    /// Puts the parts together. What neither an option nor the server says is taken from `stored`, the document of an
    /// earlier login at the same server. Fails if the store must not name what this document names.
    pub fn new(
        arguments: &cli::Login,
        server: Server,
        client: Client,
        stored: Option<&Document>,
        login: Login,
        context: &Context,
    ) -> Result<Self, Failure> {
        let configuration = Self(document(arguments, server, client, stored, login));
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
    stored: Option<&Document>,
    login: Login,
) -> Document {
    let row = server.row();
    let username = row.map(|provider| provider.git_username).filter(|name| !name.is_empty());
    let mut parameters = stored.map(|stored| stored.parameters.clone()).unwrap_or_default();
    parameters
        .extend(arguments.param.iter().map(|parameter| (parameter.name.clone(), parameter.value.clone())));
    Document {
        version: VERSION,
        scope: scope(arguments, &server, &client, stored),
        resource: given(&arguments.resource, stored.map(|stored| &stored.resource)),
        audience: arguments.audience.clone().or_else(|| stored.and_then(|stored| stored.audience.clone())),
        parameters,
        git_hosts: given(&arguments.git_host, stored.map(|stored| &stored.git_hosts)),
        git_username: stored
            .and_then(|stored| stored.git_username.clone())
            .or_else(|| username.map(str::to_owned)),
        issuer: server.issuer,
        issuer_is_assumed: server.issuer_is_assumed,
        provider: server.provider,
        token_endpoint: server.token_endpoint,
        authorization_endpoint: server.authorization_endpoint,
        device_authorization_endpoint: server.device_authorization_endpoint,
        pushed_authorization_request_endpoint: server.pushed_authorization_request_endpoint,
        authorization_response_iss: server.authorization_response_iss,
        revocation_endpoint: server.revocation_endpoint,
        userinfo_endpoint: server.userinfo_endpoint,
        client_id: client.id,
        client_secret: client.secret,
        client_secret_env: client.secret_variable,
        client_key: client.key,
        client_auth: client.authentication,
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

/// The scope to request: of the option, of the earlier login, of the provider's row. Otherwise, if the server lists
/// `offline_access`: without it such a server gives no refresh token (OpenID Connect Core section 11). A client's own grant
/// has no scope of a person.
fn scope(
    arguments: &cli::Login,
    server: &Server,
    client: &Client,
    stored: Option<&Document>,
) -> Option<String> {
    let said = arguments.scope.clone().or_else(|| stored.and_then(|stored| stored.scope.clone()));
    match (said, server.row()) {
        (Some(scope), _) => Some(scope),
        (None, _) if client.grant.is_some() => None,
        // A row without a scope says that the server's own default is the best.
        (None, Some(provider)) => Some(provider.scope.to_owned()).filter(|scope| !scope.is_empty()),
        (None, None) if server.provider.is_some() => None,
        (None, None) => lasting_scope(&server.scopes_supported),
    }
}

fn lasting_scope(scopes_supported: &[String]) -> Option<String> {
    let lists = |scope: &&str| scopes_supported.iter().any(|listed| listed == scope);
    let scope: Vec<&str> = ["openid", "profile", "offline_access"].into_iter().filter(lists).collect();
    scope.contains(&"offline_access").then(|| scope.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::ClientGrant;

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
            let found = scope(&arguments, server, client, stored);
            assert_eq!(found.as_deref(), wanted, "{option:?} {server:?} {client:?}");
        }
    }
}
