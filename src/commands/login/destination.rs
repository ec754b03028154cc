//! What a login names: a provider by its name, an issuer by its metadata, or an address that may be anything.

use crate::cli::{self, nearest};
use crate::error::{Failure, Kind};
use crate::protocol::hints::login_at;
use crate::protocol::metadata::{
    EndpointUrls, Metadata, address_of, endpoint_url, issuer_of_document, origin,
};
use crate::protocol::providers::{
    ClientKind, Endpoints, PROVIDERS, Provider, Server, Tenant, expand, is_tenant, named, of_issuer,
};
use crate::text::printable;

/// What the command line says about the server. Empty if it names none.
#[derive(Debug, Default)]
pub struct Destination {
    /// The row of the provider.
    pub provider: Option<&'static Provider>,
    /// The issuer that is to be discovered.
    pub issuer: Option<String>,
    /// An address: of a resource, or of an issuer.
    pub address: Option<String>,
    /// The address of its metadata, if that was given.
    pub metadata_url: Option<String>,
    /// The endpoints of the row, if it has them instead of metadata.
    pub endpoints: Option<Metadata>,
}

impl Destination {
    /// Reads the argument: a URL, or the name of a provider, which a colon and a host or a tenant may follow.
    pub fn read(arguments: &cli::Login) -> Result<Self, Failure> {
        let Some(word) = arguments.issuer.as_deref() else { return Ok(Self::default()) };
        let (name, tenant) = word.split_once(':').map_or((word, None), |(name, tenant)| (name, Some(tenant)));
        if let Some(provider) = named(name) {
            return at_provider(provider, tenant, arguments);
        }
        if !word.contains("://") {
            return Err(without_scheme(word).unwrap_or_else(|| unknown(name)));
        }
        let issuer = issuer_of_document(word);
        let metadata_url = issuer.as_ref().map(|_| word.trim_end_matches('/').to_owned());
        let word = issuer.as_deref().unwrap_or(word);
        match of_issuer(word) {
            // The address of a provider that has one server and endpoints in its row.
            Some(provider)
                if matches!(provider.server, Server::Endpoints(_)) && is_its_origin(word, provider) =>
            {
                at_provider(provider, None, arguments)
            }
            None if metadata_url.is_none() => Ok(Self { address: Some(word.to_owned()), ..Self::default() }),
            provider => Ok(Self { provider, issuer: Some(word.to_owned()), metadata_url, ..Self::default() }),
        }
    }

    /// The command that names the provider, for an address of a provider without usable metadata: the metadata of Entra names
    /// another issuer than the one that was asked for.
    pub fn login_by_name(&self) -> Option<String> {
        let (provider, issuer) = (self.provider?, self.issuer.as_deref()?);
        let Server::Endpoints(endpoints) = provider.server else { return None };
        let rest = endpoints.token.split_once("{}").and_then(|(before, _)| issuer.strip_prefix(before));
        let named = rest.and_then(|rest| rest.split('/').next()).filter(|tenant| is_tenant(tenant));
        let name = provider.name;
        Some(match (named, provider.tenant) {
            (_, Tenant::None) | (None, Tenant::Default(_)) => format!("onegrant login {name}"),
            (Some(named), Tenant::Default(tenant)) if named == tenant => format!("onegrant login {name}"),
            (Some(tenant), _) | (None, Tenant::Required(tenant)) => format!("onegrant login {name}:{tenant}"),
        })
    }
}

fn is_its_origin(issuer: &str, provider: &Provider) -> bool {
    let is_root = issuer.trim_end_matches('/').matches('/').count() == 2;
    let is_host = address_of(issuer).is_some_and(|address| address.host == provider.hosts);
    is_root && is_host && !matches!(provider.tenant, Tenant::Required(_))
}

/// A server of the provider. With `--token-endpoint` nothing is discovered.
fn at_provider(
    provider: &'static Provider,
    given: Option<&str>,
    arguments: &cli::Login,
) -> Result<Destination, Failure> {
    let usage = |message: String, hint: &str| Err(Failure::new(Kind::Usage, message).hint(hint));
    let name = provider.name;
    let destination = Destination { provider: Some(provider), ..Destination::default() };
    let tenant = match (given, provider.tenant) {
        (Some(_), Tenant::None) => {
            return usage(
                format!("cannot log in: {name} is one server: nothing may follow its name"),
                &format!("onegrant login {name} --client-id ID"),
            );
        }
        (Some(given), Tenant::Required(_) | Tenant::Default(_)) if is_tenant(given) => {
            given.trim_end_matches('/')
        }
        (None, Tenant::Default(tenant)) => tenant,
        (None, Tenant::None) => "",
        (None, Tenant::Required(_)) if arguments.token_endpoint.is_some() => return Ok(destination),
        (given, Tenant::Required(example) | Tenant::Default(example)) => {
            let message = match given {
                Some(given) => {
                    format!("cannot log in: '{}' is no host or tenant of {name}", printable(given))
                }
                None => format!("cannot log in: {name} is many servers, and none is named"),
            };
            return usage(message, &format!("onegrant login {name}:{example} --client-id ID"));
        }
    };
    match provider.server {
        Server::Issuer(_) if arguments.token_endpoint.is_some() => Ok(destination),
        Server::Issuer(issuer) => Ok(Destination { issuer: Some(expand(issuer, tenant)), ..destination }),
        Server::Endpoints(endpoints) => {
            let metadata = documented(provider, &endpoints, tenant, arguments)?;
            Ok(Destination { endpoints: Some(metadata), ..destination })
        }
    }
}

/// The row as if it were metadata. Its issuer is the origin of the token endpoint, because no server names one.
fn documented(
    provider: &Provider,
    endpoints: &Endpoints,
    tenant: &str,
    arguments: &cli::Login,
) -> Result<Metadata, Failure> {
    let address = |address: &str| (!address.is_empty()).then(|| expand(address, tenant));
    let token_endpoint = arguments.token_endpoint.clone().unwrap_or_else(|| expand(endpoints.token, tenant));
    let method = match provider.client {
        ClientKind::Any | ClientKind::Post => "client_secret_post",
        ClientKind::Basic => "client_secret_basic",
    };
    Ok(Metadata {
        issuer: origin(&token_endpoint)?,
        endpoints: EndpointUrls {
            token: token_endpoint,
            authorization: address(endpoints.authorization),
            device_authorization: address(endpoints.device_authorization),
            revocation: address(endpoints.revocation),
            userinfo: address(endpoints.userinfo),
            ..EndpointUrls::default()
        },
        token_endpoint_auth_methods_supported: vec![method.to_owned()],
        ..Metadata::default()
    })
}

/// An address whose scheme is missing: no name of a provider has a dot.
fn without_scheme(word: &str) -> Option<Failure> {
    let scheme = match endpoint_url(&format!("http://{word}")) {
        Ok(_) => "http",
        Err(_) => "https",
    };
    let address = format!("{scheme}://{word}");
    let url = endpoint_url(&address).ok()?;
    (url.is_loopback() || url.host.contains('.')).then(|| {
        let message = format!("cannot use {}: it does not begin with {scheme}://", printable(word));
        Failure::new(Kind::Usage, message).hint(login_at(&address))
    })
}

fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = PROVIDERS.iter().map(|provider| provider.name).collect();
    let mut message = format!("unknown provider '{}'", printable(name));
    if let Some(nearest) = nearest(name, names.iter().copied()) {
        message.push_str(&format!(": did you mean {nearest}?"));
    }
    Failure::new(Kind::Usage, message)
        .hint(format!("onegrant login https://ADDRESS   # or one of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(issuer: &str, token_endpoint: Option<&str>) -> cli::Login {
        let token_endpoint = token_endpoint.map(str::to_owned);
        cli::Login { issuer: Some(issuer.to_owned()), token_endpoint, ..cli::Login::default() }
    }

    #[test]
    fn a_word_names_a_provider_and_an_address_an_issuer() {
        let elsewhere = Some("https://as.example/t");
        let github = "https://github.com/login/oauth/access_token";
        // (argument, --token-endpoint, row, issuer to discover, token endpoint of the row)
        let cases = [
            ("github", None, "github", None, Some(github)),
            ("https://github.com/", None, "github", None, Some(github)),
            (
                "github:ghe.example/",
                None,
                "github",
                None,
                Some("https://ghe.example/login/oauth/access_token"),
            ),
            ("github", elsewhere, "github", None, elsewhere),
            ("google", None, "google", Some("https://accounts.google.com"), None),
            ("google", elsewhere, "google", None, None),
            ("okta", elsewhere, "okta", None, None),
            (
                "keycloak:http://localhost:8080/realms/r",
                None,
                "keycloak",
                Some("http://localhost:8080/realms/r"),
                None,
            ),
            ("supabase:p.supabase.co", None, "supabase", Some("https://p.supabase.co/auth/v1"), None),
            ("entra:t", None, "entra", None, Some("https://login.microsoftonline.com/t/oauth2/v2.0/token")),
            ("https://accounts.google.com", None, "google", Some("https://accounts.google.com"), None),
            (
                "https://login.microsoftonline.com/t/v2.0",
                None,
                "entra",
                Some("https://login.microsoftonline.com/t/v2.0"),
                None,
            ),
            (
                "https://login.microsoftonline.com",
                None,
                "entra",
                Some("https://login.microsoftonline.com"),
                None,
            ),
            ("https://github.com/x", None, "github", Some("https://github.com/x"), None),
            (
                "https://as.example/.well-known/openid-configuration",
                None,
                "",
                Some("https://as.example"),
                None,
            ),
            ("https://as.example", None, "", None, None),
        ];
        for (word, token_endpoint, name, issuer, endpoint) in cases {
            let destination = Destination::read(&login(word, token_endpoint)).unwrap();
            assert_eq!(destination.provider.map_or("", |provider| provider.name), name, "{word}");
            assert_eq!(destination.issuer.as_deref(), issuer, "{word}");
            let found = destination.endpoints.as_ref().map(|metadata| metadata.endpoints.token.as_str());
            assert_eq!(found, endpoint, "{word}");
        }
    }

    #[test]
    fn an_address_without_usable_metadata_leads_to_the_name_of_the_provider() {
        let entra = "https://login.microsoftonline.com";
        let cases = [
            (format!("{entra}/common"), Some("onegrant login entra:common")),
            (format!("{entra}/common/v2.0"), Some("onegrant login entra:common")),
            (format!("{entra}/organizations/v2.0/"), Some("onegrant login entra:organizations")),
            (
                format!("{entra}/common/v2.0/.well-known/openid-configuration"),
                Some("onegrant login entra:common"),
            ),
            (
                format!("{entra}/contoso.onmicrosoft.com/v2.0"),
                Some("onegrant login entra:contoso.onmicrosoft.com"),
            ),
            (entra.to_owned(), Some("onegrant login entra:contoso.onmicrosoft.com")),
            ("https://github.com/login/oauth".to_owned(), Some("onegrant login github")),
            ("https://ghe.github.com/x".to_owned(), Some("onegrant login github:ghe.github.com")),
            ("https://accounts.google.com".to_owned(), None),
            ("https://as.example".to_owned(), None),
        ];
        for (address, wanted) in cases {
            assert_eq!(
                Destination::read(&login(&address, None)).unwrap().login_by_name().as_deref(),
                wanted,
                "{address}"
            );
        }
    }
}
