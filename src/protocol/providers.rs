//! Providers: what each needs beyond the RFCs, as data with a source. What the source does not say, or was not read
//! there, is marked as not verified.
//!
//! `docs/providers.md` shows this table to people, and a test compares the two.

use super::dialects::{Dialect, STANDARD};
use crate::grant::Document;

/// One provider.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// The word after `onegrant login`.
    pub name: &'static str,
    /// What may follow the name and a colon.
    pub tenant: Tenant,
    /// Where its endpoints are.
    pub server: Server,
    /// The host of its issuers, or the domain of their hosts. Empty: the host does not identify the provider.
    pub hosts: &'static str,
    /// The default scope. Empty: the default of the server is the best.
    pub scope: &'static str,
    /// How its clients authenticate.
    pub client: ClientKind,
    /// Parameters that only the authorization request carries (RFC 6749 section 4.1.1).
    pub authorization_parameters: &'static [(&'static str, &'static str)],
    /// Which redirect URIs of this machine it accepts.
    pub redirect: Redirect,
    /// The user name that its git servers require besides a token. Empty: any, or it has no git servers.
    pub git_username: &'static str,
    /// How its answers differ from the RFCs.
    pub dialect: Dialect,
    /// What a person has to set up there.
    pub note: &'static str,
    /// The documentation.
    pub source: &'static str,
}

/// What replaces `{}` in the addresses of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// There is one server. The addresses have no `{}`.
    None,
    /// A person must name it; such as this one.
    Required(&'static str),
    /// The default, if a person names none.
    Default(&'static str),
}

/// Where endpoints are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// In the metadata of this issuer.
    Issuer(&'static str),
    /// In this row: there is no metadata, or it lacks an endpoint.
    Endpoints(Endpoints),
}

/// Addresses of endpoints. An empty one means that there is no such endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// RFC 6749 section 3.2.
    pub token: &'static str,
    /// RFC 6749 section 3.1.
    pub authorization: &'static str,
    /// RFC 8628 section 3.1.
    pub device_authorization: &'static str,
    /// RFC 7009 section 2.
    pub revocation: &'static str,
    /// OpenID Connect Core section 5.3.
    pub userinfo: &'static str,
}

/// The clients that a provider registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// With or without a secret. The secret is sent in the body.
    Any,
    /// With a secret, sent in the body (`client_secret_post`).
    Post,
    /// With a secret, sent by HTTP Basic (`client_secret_basic`).
    Basic,
}

/// Which redirect URIs lead to this machine (RFC 8252 section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// `http://127.0.0.1` with any port.
    AnyPort,
    /// `http://localhost` with any port.
    LocalhostAnyPort,
    /// Exactly the registered URI, port included.
    Registered,
    /// None: it accepts only `https`.
    Nowhere,
}

/// An address of a row with the tenant in the place of `{}`. If the tenant is the host, it may bring its own scheme,
/// which a server on this machine needs.
pub fn expand(address: &str, tenant: &str) -> String {
    let (scheme, host) = tenant.split_once("://").unwrap_or(("", tenant));
    match address.strip_prefix("https://{}") {
        Some(rest) if !scheme.is_empty() => format!("{scheme}://{host}{rest}"),
        _ => address.replace("{}", host),
    }
}

/// Whether `tenant` fits into an address: a host, a port and a path, or a name.
pub fn is_tenant(tenant: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| tenant.strip_prefix(scheme));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]".contains(&byte);
    let rest = rest.unwrap_or(tenant);
    !rest.is_empty() && !rest.contains("//") && !rest.starts_with('/') && rest.bytes().all(is_plain)
}

/// The row of this name.
pub fn named(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

/// The row of the server with this issuer identifier.
pub fn of_issuer(issuer: &str) -> Option<&'static Provider> {
    let host = super::metadata::address_of(issuer)?.host;
    let is_of = |provider: &&Provider| {
        let rest = host.strip_suffix(provider.hosts).filter(|_| !provider.hosts.is_empty());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    PROVIDERS.iter().find(is_of)
}

/// The hosts of Entra, in all its clouds: their token requests fail with `resource`, unless it is the very application whose
/// scopes are asked for.
const WITHOUT_RESOURCE: [&str; 3] =
    ["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"];

/// Whether this issuer refuses resource indicators (RFC 8707).
pub fn refuses_resource(issuer: &str) -> bool {
    let host = super::metadata::address_of(issuer).map(|address| address.host);
    host.is_some_and(|host| WITHOUT_RESOURCE.contains(&host.as_str()))
}

/// The row of a document. `None` if the document names no provider, or one that this version does not know.
pub fn of(document: &Document) -> Option<&'static Provider> {
    named(document.provider.as_deref()?)
}

const NO_ENDPOINTS: Endpoints =
    Endpoints { token: "", authorization: "", device_authorization: "", revocation: "", userinfo: "" };

/// The defaults of a row: a person names the host, the metadata is there, and `offline_access` brings a refresh token.
const USUAL: Provider = Provider {
    name: "",
    tenant: Tenant::Required("HOST"),
    server: Server::Issuer("https://{}"),
    hosts: "",
    scope: "openid offline_access",
    client: ClientKind::Any,
    authorization_parameters: &[],
    redirect: Redirect::Registered,
    git_username: "",
    dialect: STANDARD,
    note: "",
    source: "",
};

/// The metadata of Entra names the number of the tenant as issuer, or a placeholder for `common`. Neither is the
/// requested identifier (RFC 8414 section 3.3), so the endpoints are here.
const ENTRA: Provider = Provider {
    tenant: Tenant::Required("contoso.onmicrosoft.com"),
    server: Server::Endpoints(Endpoints {
        token: "https://login.microsoftonline.com/{}/oauth2/v2.0/token",
        authorization: "https://login.microsoftonline.com/{}/oauth2/v2.0/authorize",
        device_authorization: "https://login.microsoftonline.com/{}/oauth2/v2.0/devicecode",
        ..NO_ENDPOINTS
    }),
    redirect: Redirect::LocalhostAnyPort,
    dialect: Dialect { denied: &["authorization_declined"], expired: &["code_expired"], ..STANDARD },
    ..USUAL
};

const GITEA: Provider = Provider {
    // Forgejo has no OAuth scopes yet: the token has all rights of the person.
    scope: "",
    redirect: Redirect::AnyPort,
    // As in git-credential-oauth. Not verified: the name of the switch in the note.
    git_username: "oauth2",
    // For a spent refresh token, and for an expired one.
    dialect: Dialect {
        dead_grant_texts: &[
            ("unauthorized_client", "token was already used"),
            ("unauthorized_client", "unable to parse refresh token"),
        ],
        ..STANDARD
    },
    ..USUAL
};

/// Every provider, by name.
pub static PROVIDERS: &[Provider] = &[
    Provider {
        name: "atlassian",
        tenant: Tenant::None,
        server: Server::Endpoints(Endpoints {
            token: "https://auth.atlassian.com/oauth/token",
            authorization: "https://auth.atlassian.com/authorize",
            ..NO_ENDPOINTS
        }),
        hosts: "auth.atlassian.com",
        // The products have scopes of their own. Without one of these a token gives access to nothing.
        scope: "offline_access",
        // The documentation sends JSON. Other clients send forms, as RFC 6749 section 4.1.3 says.
        client: ClientKind::Post,
        authorization_parameters: &[("audience", "api.atlassian.com"), ("prompt", "consent")],
        note: "an OAuth 2.0 (3LO) app with its secret, and --scope with offline_access and the products' own scopes; \
               there is no device flow",
        source: "https://developer.atlassian.com/cloud/jira/software/oauth-2-3lo-apps/",
        ..USUAL
    },
    Provider {
        // Not verified: the redirect URI.
        name: "auth0",
        tenant: Tenant::Required("TENANT.eu.auth0.com"),
        hosts: "auth0.com",
        note: "a Native application with the grant types Device Code and Refresh Token, an API with Allow Offline \
               Access, and --audience with that API's identifier",
        source: "https://auth0.com/docs/quickstart/native/device/interactive",
        ..USUAL
    },
    Provider {
        // Not verified: the names of the permission and of the switch.
        name: "azure-devops",
        // The number of Azure DevOps is the same in every tenant.
        scope: "499b84ac-1321-427f-aa17-267ca6975798/.default offline_access",
        note: "an app registration in Entra with the permission for Azure DevOps and \"Allow public client flows\"; \
               Azure DevOps' own OAuth takes no new apps",
        source: "https://learn.microsoft.com/azure/devops/integrate/get-started/authentication/oauth",
        ..ENTRA
    },
    Provider {
        name: "bitbucket",
        tenant: Tenant::None,
        server: Server::Endpoints(Endpoints {
            token: "https://bitbucket.org/site/oauth2/access_token",
            authorization: "https://bitbucket.org/site/oauth2/authorize",
            ..NO_ENDPOINTS
        }),
        hosts: "bitbucket.org",
        // Not verified: the scopes of the consumer.
        scope: "",
        client: ClientKind::Basic,
        git_username: "x-token-auth",
        note: "an OAuth consumer of a workspace, with a callback URL and its secret; there is no device flow",
        source: "https://developer.atlassian.com/cloud/bitbucket/oauth-2",
        ..USUAL
    },
    Provider {
        // Not verified: the scope, the redirect URI.
        name: "clerk",
        tenant: Tenant::Required("NAME.clerk.accounts.dev"),
        hosts: "clerk.accounts.dev",
        note: "an OAuth application, public for a client without a secret; the device flow is enabled by Clerk's \
               support",
        source: "https://clerk.com/docs/guides/configure/auth-strategies/oauth/how-clerk-implements-oauth",
        ..USUAL
    },
    Provider {
        name: "cognito",
        tenant: Tenant::Required("cognito-idp.eu-west-1.amazonaws.com/eu-west-1_POOL"),
        // Not verified: every scope of the app client is the default, and Cognito has no offline_access.
        scope: "",
        note: "an app client with the authorization code grant on a user pool with a domain; there is no device flow",
        source: "https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-refresh-token.html",
        ..USUAL
    },
    Provider {
        // Not verified: the name of the switch.
        name: "entra",
        hosts: "login.microsoftonline.com",
        note: "an app registration with \"Allow public client flows\" for the device flow, and --scope with the API's \
               own scopes",
        source: "https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code",
        ..ENTRA
    },
    Provider {
        name: "forgejo",
        tenant: Tenant::Required("codeberg.org"),
        hosts: "codeberg.org",
        note: "an OAuth2 application (Settings, Applications); clear \"Confidential Client\" for a client without a \
               secret; there is no device flow",
        source: "https://forgejo.org/docs/latest/user/oauth2-provider",
        ..GITEA
    },
    Provider {
        name: "gitea",
        tenant: Tenant::Required("gitea.com"),
        hosts: "gitea.com",
        note: "an OAuth2 application (Settings, Applications); clear \"Confidential Client\" for a client without a \
               secret; there is no device flow",
        source: "https://docs.gitea.com/development/oauth2-provider",
        ..GITEA
    },
    Provider {
        name: "github",
        tenant: Tenant::Default("github.com"),
        server: Server::Endpoints(Endpoints {
            token: "https://{}/login/oauth/access_token",
            authorization: "https://{}/login/oauth/authorize",
            device_authorization: "https://{}/login/device/code",
            ..NO_ENDPOINTS
        }),
        hosts: "github.com",
        // The tokens of a GitHub App have permissions instead.
        scope: "",
        // Not verified.
        redirect: Redirect::AnyPort,
        git_username: "x-access-token",
        dialect: Dialect { dead_grant: &["bad_refresh_token"], ..STANDARD },
        note: "a GitHub App (an OAuth App gives no refresh token) with \"Enable Device Flow\" and, under Optional \
               Features, \"User-to-server token expiration\"",
        source: "https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens",
        ..USUAL
    },
    Provider {
        name: "gitlab",
        tenant: Tenant::Default("gitlab.com"),
        // The documentation does not say whether the metadata names the device authorization endpoint.
        server: Server::Endpoints(Endpoints {
            token: "https://{}/oauth/token",
            authorization: "https://{}/oauth/authorize",
            device_authorization: "https://{}/oauth/authorize_device",
            revocation: "https://{}/oauth/revoke",
            userinfo: "https://{}/oauth/userinfo",
        }),
        hosts: "gitlab.com",
        // What git needs, as in git-credential-oauth.
        scope: "read_repository write_repository",
        git_username: "oauth2",
        note: "an application with the scopes that are asked for; clear \"Confidential\" for a client without a secret; \
               the device flow needs GitLab 17.1",
        source: "https://docs.gitlab.com/api/oauth2/",
        ..USUAL
    },
    Provider {
        name: "google",
        tenant: Tenant::None,
        server: Server::Issuer("https://accounts.google.com"),
        hosts: "accounts.google.com",
        // Google has no offline_access.
        scope: "openid email",
        client: ClientKind::Post,
        // An installed app gets a refresh token without these. Not verified: a web client gets one only at the first
        // consent; the 7 days.
        authorization_parameters: &[("access_type", "offline"), ("prompt", "consent")],
        redirect: Redirect::AnyPort,
        dialect: Dialect { verification_uri: &["verification_url"], ..STANDARD },
        note: "a client of the type Desktop app, or TVs and Limited Input devices for --device (few scopes), with its \
               secret; while the app is in testing its refresh tokens live for 7 days",
        source: "https://developers.google.com/identity/protocols/oauth2/limited-input-device",
        ..USUAL
    },
    Provider {
        name: "google-mail",
        tenant: Tenant::None,
        // Without the device authorization endpoint: it refuses the scope of mail.
        server: Server::Endpoints(Endpoints {
            token: "https://oauth2.googleapis.com/token",
            authorization: "https://accounts.google.com/o/oauth2/v2/auth",
            revocation: "https://oauth2.googleapis.com/revoke",
            ..NO_ENDPOINTS
        }),
        // For SMTP, IMAP and POP.
        scope: "https://mail.google.com/",
        client: ClientKind::Post,
        authorization_parameters: &[("access_type", "offline"), ("prompt", "consent")],
        redirect: Redirect::AnyPort,
        note: "a client of the type Desktop app, with its secret, in a project with the Gmail API; the device flow refuses \
               this scope; while the app is in testing its refresh tokens live for 7 days",
        source: "https://developers.google.com/workspace/gmail/imap/xoauth2-protocol",
        ..USUAL
    },
    Provider {
        // Not verified: the note.
        name: "keycloak",
        tenant: Tenant::Required("sso.example/realms/REALM"),
        note: "a client with \"OAuth 2.0 Device Authorization Grant\" for --device; without the scope offline_access \
               the refresh token ends with the session",
        source: "https://www.keycloak.org/securing-apps/oidc-layers",
        ..USUAL
    },
    Provider {
        // Not verified: the redirect URI, the names of the grant types.
        name: "okta",
        tenant: Tenant::Required("dev-1.okta.com"),
        hosts: "okta.com",
        dialect: Dialect {
            errors: &["errorCauses"],
            codes: &["errorCode"],
            descriptions: &["errorSummary"],
            signs: &["errorCode", "errorSummary"],
            ..STANDARD
        },
        note: "a Native app with the grant types Device Authorization and Refresh Token",
        source: "https://developer.okta.com/docs/guides/refresh-tokens/refresh-token-rotation/",
        ..USUAL
    },
    Provider {
        // Not verified: the names of the account types and of the switch.
        name: "outlook",
        // Accounts of organisations and of persons.
        tenant: Tenant::Default("common"),
        scope: "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/POP.AccessAsUser.All https://outlook.office.com/SMTP.Send offline_access",
        note: "an app registration in Entra for organisations and personal accounts, with \"Allow public client flows\" for \
               the device flow; an organisation must allow authenticated SMTP for the mailbox",
        source: "https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth",
        ..ENTRA
    },
    Provider {
        name: "salesforce",
        tenant: Tenant::Default("login.salesforce.com"),
        // As in other clients. Not verified: its device flow is older than RFC 8628 and differs from it.
        server: Server::Endpoints(Endpoints {
            token: "https://{}/services/oauth2/token",
            authorization: "https://{}/services/oauth2/authorize",
            revocation: "https://{}/services/oauth2/revoke",
            userinfo: "https://{}/services/oauth2/userinfo",
            ..NO_ENDPOINTS
        }),
        hosts: "salesforce.com",
        dialect: Dialect { codes: &["errorCode"], signs: &["errorCode"], ..STANDARD },
        scope: "api refresh_token",
        note: "a connected app or external client app with the scopes api and refresh_token; its device flow is not \
               that of RFC 8628",
        source: "https://help.salesforce.com/apex/HTViewHelpDoc?id=remoteaccess_oauth_refresh_token_flow.htm",
        ..USUAL
    },
    Provider {
        name: "slack",
        tenant: Tenant::Default("slack.com"),
        // The response to a login holds the user token in `authed_user`; the response to a refresh does not.
        server: Server::Endpoints(Endpoints {
            token: "https://{}/api/oauth.v2.access",
            authorization: "https://{}/oauth/v2/authorize",
            ..NO_ENDPOINTS
        }),
        hosts: "slack.com",
        scope: "",
        client: ClientKind::Post,
        // Not verified: the redirect URI, and that rotation cannot be turned off again.
        redirect: Redirect::Nowhere,
        dialect: Dialect { dead_grant: &["invalid_refresh_token"], denials: &["ok"], ..STANDARD },
        note: "an app with token rotation, which cannot be turned off again; import the refresh token of its \
               installation: --refresh-token-stdin",
        source: "https://docs.slack.dev/authentication/using-token-rotation",
        ..USUAL
    },
    Provider {
        name: "supabase",
        tenant: Tenant::Required("PROJECT.supabase.co"),
        server: Server::Issuer("https://{}/auth/v1"),
        hosts: "supabase.co",
        // Not verified: a refresh token comes with every grant.
        scope: "",
        dialect: Dialect {
            dead_grant: &["refresh_token_already_used", "refresh_token_not_found"],
            codes: &["error_code"],
            descriptions: &["msg"],
            signs: &["error_code"],
            ..STANDARD
        },
        note: "the OAuth 2.1 server of the project (Authentication, OAuth Server) and a client there; there is no \
               device flow",
        source: "https://supabase.com/docs/guides/auth/oauth-server/oauth-flows",
        ..USUAL
    },
    Provider {
        name: "zoom",
        tenant: Tenant::Default("zoom.us"),
        server: Server::Endpoints(Endpoints {
            token: "https://{}/oauth/token",
            authorization: "https://{}/oauth/authorize",
            device_authorization: "https://{}/oauth/devicecode",
            // As in other clients.
            revocation: "https://{}/oauth/revoke",
            ..NO_ENDPOINTS
        }),
        hosts: "zoom.us",
        // Not verified: the scopes of the app.
        scope: "",
        client: ClientKind::Basic,
        dialect: Dialect { descriptions: &["reason"], ..STANDARD },
        note: "a private app with its secret, for which Zoom's support has enabled the device flow",
        source: "https://developers.zoom.us/blog/device-authorization",
        ..USUAL
    },
];

#[cfg(test)]
mod tests {
    use super::super::metadata::endpoint_url;
    use super::*;

    fn addresses(provider: &Provider) -> Vec<&'static str> {
        match provider.server {
            Server::Issuer(issuer) => vec![issuer],
            Server::Endpoints(endpoints) => vec![
                endpoints.token,
                endpoints.authorization,
                endpoints.device_authorization,
                endpoints.revocation,
                endpoints.userinfo,
            ],
        }
    }

    #[test]
    fn every_row_is_complete_and_found_by_its_name_alone() {
        for provider in PROVIDERS {
            let name = provider.name;
            assert!(std::ptr::eq(named(name).unwrap(), provider), "{name}");
            assert!(provider.source.starts_with("https://") && !provider.note.is_empty(), "{name}");
            let tenant = match provider.tenant {
                Tenant::None => "",
                Tenant::Required(tenant) | Tenant::Default(tenant) => tenant,
            };
            assert!(provider.tenant == Tenant::None || is_tenant(tenant), "{name}");
            for address in addresses(provider).into_iter().filter(|address| !address.is_empty()) {
                assert_eq!(address.contains("{}"), provider.tenant != Tenant::None, "{name} {address}");
                assert!(endpoint_url(&expand(address, tenant)).unwrap().is_secure, "{name} {address}");
            }
        }
        assert!(PROVIDERS.is_sorted_by(|one, other| one.name < other.name));
        assert_eq!(named(""), None);
    }

    #[test]
    fn a_tenant_is_a_name_or_a_host_and_cannot_change_the_address() {
        let template = "https://{}/token";
        for (tenant, address) in [
            ("ghe.example", "https://ghe.example/token"),
            ("https://ghe.example:8443", "https://ghe.example:8443/token"),
            ("http://localhost:8080/realms/r", "http://localhost:8080/realms/r/token"),
            ("[::1]:9", "https://[::1]:9/token"),
        ] {
            assert!(is_tenant(tenant));
            assert_eq!(expand(template, tenant), address);
        }
        assert_eq!(expand("https://as.example/{}/token", "http://t"), "https://as.example/t/token");
        for tenant in
            ["", "https://", "/x", "a//b", "a@b", "a?b", "a#b", "a b", "a\\b", "ftp://a", "ä", "a%2fb"]
        {
            assert!(!is_tenant(tenant), "{tenant}");
        }
    }

    #[test]
    fn the_host_of_an_issuer_tells_its_row() {
        for (issuer, name) in [
            ("https://accounts.google.com", Some("google")),
            ("https://dev-1.okta.com/oauth2/default", Some("okta")),
            ("https://x.eu.auth0.com/", Some("auth0")),
            ("https://github.com", Some("github")),
            ("https://evilokta.com", None),
            ("https://okta.com.evil.example", None),
            ("https://issuer.example", None),
            ("accounts.google.com", None),
        ] {
            assert_eq!(of_issuer(issuer).map(|provider| provider.name), name, "{issuer}");
        }
    }
}
