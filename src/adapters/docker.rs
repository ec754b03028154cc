//! docker-credential-helpers: `HELPER get|store|erase|list|version`, errors on stdout.

use crate::adapters::formats::bearer;
use crate::adapters::hosts::{is_served, server};
use crate::error::Failure;
use crate::grant::{Document, Session, object};
use serde_json::{Value, json};

/// The user name if the profile names none: Google's registries need this one, most others accept any.
const USERNAME: &str = "oauth2accesstoken";

/// With exactly this text, docker continues without a credential.
pub const NOT_FOUND: &str = "credentials not found in native keychain";

/// The text of the protocol for a request without a server.
pub const NO_SERVER: &str = "no credentials server URL";

/// The answer to `store`.
pub const STORES_NOTHING: &str = "onegrant stores nothing for docker: log in with onegrant login";

/// The answer to any other operation.
pub const UNKNOWN: &str = "unknown credential action";

/// Whether the profile names this registry: `HOST`, or a URL, as Docker Hub still has.
pub fn is_served_registry(document: &Document, registry: &str) -> bool {
    let (protocol, rest) = registry.split_once("://").unwrap_or(("https", registry));
    let host = rest.split('/').next().unwrap_or_default();
    server(protocol, host).is_some_and(|server| is_served(document, &server))
}

/// The credential for a registry.
pub fn answer(session: &Session, document: &Document, registry: &str) -> Result<String, Failure> {
    bearer(session)?;
    let secret = session.access_token.expose();
    Ok(json!({ "ServerURL": registry, "Username": username(document), "Secret": secret }).to_string())
}

/// The registries that have a credential, each with its user name.
pub fn list(document: Option<&Document>) -> String {
    let registries = |document: &Document| {
        let hosts = document.git_hosts.iter().filter(|host| is_served_registry(document, host));
        object(hosts.map(|host| (host.clone(), username(document).into())))
    };
    Value::from(document.map(registries).unwrap_or_default()).to_string()
}

fn username(document: &Document) -> &str {
    document.git_username.as_deref().unwrap_or(USERNAME)
}
