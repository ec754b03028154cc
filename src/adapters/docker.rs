//! docker-credential-helpers: `HELPER get|store|erase|list|version`, errors on stdout.

use crate::adapters::formats::bearer;
use crate::adapters::hosts::{is_served, server};
use crate::error::Failure;
use crate::grant::{Document, Session};
use serde_json::{Map, json};

/// The user name where the profile names none: Google's registries want this one, and most others take any.
const USERNAME: &str = "oauth2accesstoken";

/// By this very text docker knows that it may go on without a credential.
pub const NOT_FOUND: &str = "credentials not found in native keychain";

/// The very text for a question without a server.
pub const NO_SERVER: &str = "no credentials server URL";

/// What store is answered.
pub const STORES_NOTHING: &str = "onegrant stores nothing for docker: log in with onegrant login";

/// What is answered to any other word.
pub const UNKNOWN: &str = "unknown credential action";

/// Whether the profile names that registry: `HOST`, or a URL as the first registry of all still has it.
pub fn is_asked_for(document: &Document, registry: &str) -> bool {
    let (protocol, rest) = registry.split_once("://").unwrap_or(("https", registry));
    let host = rest.split('/').next().unwrap_or_default();
    server(protocol, host).is_some_and(|server| is_served(document, &server))
}

/// The credential for it.
pub fn answer(session: &Session, document: &Document, registry: &str) -> Result<String, Failure> {
    bearer(session)?;
    let secret = session.access_token.expose();
    Ok(json!({ "ServerURL": registry, "Username": username(document), "Secret": secret }).to_string())
}

/// The registries that there are credentials for, each with its user name.
pub fn list(document: Option<&Document>) -> String {
    let all = document
        .iter()
        .flat_map(|document| document.git_hosts.iter().map(|host| (host.clone(), username(document).into())));
    serde_json::Value::from(all.collect::<Map<_, _>>()).to_string()
}

fn username(document: &Document) -> &str {
    document.git_username.as_deref().unwrap_or(USERNAME)
}
