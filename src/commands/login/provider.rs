//! Whom a login is with: an issuer, or a provider by name; and what its row adds.

use crate::arguments::nearest;
use crate::cli;
use crate::error::{Failure, Kind};
use crate::grant::{ClientAuthentication, Document};
use crate::protocol::metadata::{Metadata, address_of, issuer_of_document, origin};
use crate::protocol::providers::{
    ClientKind, Endpoints, PROVIDERS, Provider, Server, Tenant, expand, is_tenant, named, of, of_issuer,
};
use crate::text::printable;

/// Whom a login is with, as far as the command line tells.
#[derive(Debug, Default)]
pub struct Target {
    /// Its row.
    pub provider: Option<&'static Provider>,
    /// Whose metadata is to be discovered.
    pub issuer: Option<String>,
    /// The address of the metadata, if that was given.
    pub document: Option<String>,
    /// The endpoints of the row, which has them instead of metadata.
    pub endpoints: Option<Metadata>,
}

/// Reads the argument: a URL, or a provider's name, perhaps with a host or a tenant behind a colon.
pub fn target(arguments: &cli::Login) -> Result<Target, Failure> {
    let Some(word) = arguments.issuer.as_deref() else { return Ok(Target::default()) };
    let (name, tenant) = word.split_once(':').map_or((word, None), |(name, tenant)| (name, Some(tenant)));
    if let Some(provider) = named(name) {
        return at(provider, tenant, arguments);
    }
    if !word.contains("://") {
        return Err(unknown(name));
    }
    let issuer = issuer_of_document(word);
    let document = issuer.as_ref().map(|_| word.trim_end_matches('/').to_owned());
    let word = issuer.as_deref().unwrap_or(word);
    match of_issuer(word) {
        // Its one server, in other words.
        Some(provider)
            if matches!(provider.server, Server::Endpoints(_)) && is_its_origin(word, provider) =>
        {
            at(provider, None, arguments)
        }
        provider => Ok(Target { provider, issuer: Some(word.to_owned()), document, endpoints: None }),
    }
}

/// The command that names the provider, for an address of a provider whose metadata cannot be used: Entra's names another
/// issuer than the one that was asked for.
pub fn login_by_name(target: &Target) -> Option<String> {
    let (provider, issuer) = (target.provider?, target.issuer.as_deref()?);
    let Server::Endpoints(endpoints) = provider.server else { return None };
    let rest = endpoints.token.split_once("{}").and_then(|(before, _)| issuer.strip_prefix(before));
    let told = rest.and_then(|rest| rest.split('/').next()).filter(|tenant| is_tenant(tenant));
    let name = provider.name;
    Some(match (told, provider.tenant) {
        (_, Tenant::None) | (None, Tenant::Default(_)) => format!("onegrant login {name}"),
        (Some(told), Tenant::Default(tenant)) if told == tenant => format!("onegrant login {name}"),
        (Some(tenant), _) | (None, Tenant::Required(tenant)) => format!("onegrant login {name}:{tenant}"),
    })
}

fn is_its_origin(issuer: &str, provider: &Provider) -> bool {
    let is_root = issuer.trim_end_matches('/').matches('/').count() == 2;
    let is_host = address_of(issuer).is_some_and(|address| address.host == provider.hosts);
    is_root && is_host && !matches!(provider.tenant, Tenant::Required(_))
}

/// A server of the provider. Who names a token endpoint himself gets nothing discovered.
fn at(provider: &'static Provider, told: Option<&str>, arguments: &cli::Login) -> Result<Target, Failure> {
    let usage = |message: String, hint: &str| Err(Failure::new(Kind::Usage, message).hint(hint));
    let name = provider.name;
    let target = Target { provider: Some(provider), ..Target::default() };
    let tenant = match (told, provider.tenant) {
        (Some(_), Tenant::None) => {
            return usage(
                format!("cannot log in: {name} is one server, and nothing stands behind its name"),
                &format!("onegrant login {name} --client-id ID"),
            );
        }
        (Some(told), Tenant::Required(_) | Tenant::Default(_)) if is_tenant(told) => {
            told.trim_end_matches('/')
        }
        (None, Tenant::Default(tenant)) => tenant,
        (None, Tenant::None) => "",
        (None, Tenant::Required(_)) if arguments.token_endpoint.is_some() => return Ok(target),
        (told, Tenant::Required(example) | Tenant::Default(example)) => {
            let message = match told {
                Some(told) => format!("cannot log in: '{}' is no host or tenant of {name}", printable(told)),
                None => format!("cannot log in: {name} is many servers, and none is named"),
            };
            return usage(message, &format!("onegrant login {name}:{example} --client-id ID"));
        }
    };
    match provider.server {
        Server::Issuer(_) if arguments.token_endpoint.is_some() => Ok(target),
        Server::Issuer(issuer) => Ok(Target { issuer: Some(expand(issuer, tenant)), ..target }),
        Server::Endpoints(endpoints) => {
            let metadata = documented(provider, &endpoints, tenant, arguments)?;
            Ok(Target { endpoints: Some(metadata), ..target })
        }
    }
}

/// The row as if it were metadata. The token endpoint's origin stands for the issuer, which nobody tells.
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
        token_endpoint,
        authorization_endpoint: address(endpoints.authorization),
        device_authorization_endpoint: address(endpoints.device_authorization),
        revocation_endpoint: address(endpoints.revocation),
        userinfo_endpoint: address(endpoints.userinfo),
        token_endpoint_auth_methods_supported: vec![method.to_owned()],
        ..Metadata::default()
    })
}

fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = PROVIDERS.iter().map(|provider| provider.name).collect();
    let mut message = format!("unknown provider '{}'", printable(name));
    if let Some(nearest) = nearest(name, names.iter().copied()) {
        message.push_str(&format!(": did you mean {nearest}?"));
    }
    // A host was meant to be an issuer.
    let issuer = if name.contains('.') { printable(name) } else { "ISSUER".to_owned() };
    Failure::new(Kind::Usage, message)
        .hint(format!("onegrant login https://{issuer} --client-id ID   # or one of {}", names.join(", ")))
}

/// Fills in what neither the options nor metadata nor the stored document say. `is_settled`: how the client proves
/// itself was said, now or at the login before.
pub fn fill(document: &mut Document, target: &Target, is_settled: bool) -> Result<(), Failure> {
    if let Some(provider) = target.provider {
        document.provider = Some(provider.name.to_owned());
    }
    let Some(provider) = of(document) else { return Ok(()) };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // The scopes are those of a person.
    if document.scope.is_none() && document.grant.is_none() {
        document.scope = text(provider.scope);
    }
    if document.git_username.is_none() {
        document.git_username = text(provider.git_username);
    }
    let is_without_secret = document.client_auth == ClientAuthentication::None;
    if provider.client != ClientKind::Any && is_without_secret && !is_settled {
        let message = format!("cannot log in: {} knows no clients without a secret", provider.name);
        return Err(Failure::new(Kind::Usage, message).hint(
            "add --client-secret-file FILE   # or --client-auth none, where this one has none after all",
        ));
    }
    Ok(())
}

/// What has to be set up at this provider, as a hint.
pub fn advice(document: &Document) -> Option<String> {
    of(document).map(|Provider { name, note, source, .. }| format!("{name} needs {note} ({source})"))
}

/// Adds that hint where the configuration is wrong and nothing better is known.
pub fn advise(mut error: anyhow::Error, advice: Option<String>) -> anyhow::Error {
    let failure = error.downcast_mut::<Failure>().filter(|failure| failure.kind == Kind::Usage);
    if let Some(failure) = failure.filter(|failure| failure.hint.is_none()) {
        failure.hint = advice;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(issuer: &str, token_endpoint: Option<&str>) -> cli::Login {
        let token_endpoint = token_endpoint.map(str::to_owned);
        cli::Login { issuer: Some(issuer.to_owned()), token_endpoint, ..cli::Login::default() }
    }

    #[test]
    fn a_word_is_a_provider_and_an_address_an_issuer_that_may_be_one_s() {
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
            ("https://as.example", None, "", Some("https://as.example"), None),
        ];
        for (word, token_endpoint, name, issuer, endpoint) in cases {
            let target = target(&login(word, token_endpoint)).unwrap();
            assert_eq!(target.provider.map_or("", |provider| provider.name), name, "{word}");
            assert_eq!(target.issuer.as_deref(), issuer, "{word}");
            let found = target.endpoints.as_ref().map(|metadata| metadata.token_endpoint.as_str());
            assert_eq!(found, endpoint, "{word}");
        }
    }

    #[test]
    fn an_address_without_usable_metadata_is_named_as_the_provider_takes_it() {
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
                login_by_name(&target(&login(&address, None)).unwrap()).as_deref(),
                wanted,
                "{address}"
            );
        }
    }

    #[test]
    fn a_row_fills_in_what_is_not_there() {
        let target = target(&login("https://accounts.google.com", None)).unwrap();
        let mut document =
            Document::new("https://accounts.google.com", "https://oauth2.googleapis.com/token");
        document.client_auth = ClientAuthentication::Basic;
        fill(&mut document, &target, false).unwrap();
        assert_eq!(document.provider.as_deref(), Some("google"));
        assert_eq!(document.scope.as_deref(), Some("openid email"));
        let mut asked = Document { scope: Some("mine".to_owned()), ..document.clone() };
        fill(&mut asked, &target, false).unwrap();
        assert_eq!(asked.scope.as_deref(), Some("mine"));
        // A client's own grant has no scope of a person.
        let mut own = Document {
            scope: None,
            grant: Some(crate::grant::ClientGrant::ClientCredentials),
            ..document.clone()
        };
        fill(&mut own, &Target::default(), false).unwrap();
        assert_eq!(own.scope, None);
        // A client without a secret is one that Google does not know, but who asks for it means it.
        document.client_auth = ClientAuthentication::None;
        assert!(fill(&mut document, &target, false).is_err());
        assert_eq!(fill(&mut document, &target, true), Ok(()));
    }
}
