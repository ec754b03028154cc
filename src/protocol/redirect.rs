//! Redirects (RFC 9110 section 15.4). A request with a credential is never sent to another address: the message names the
//! target instead. Only the GET for metadata follows redirects, and only within its own origin.

use super::hints::shell_word;
use super::metadata::{URL_LIMIT, Url, address_of, endpoint_url, with_https};
use super::response::Content;
use super::{Request, Response, client_authentication};
use crate::error::{Failure, Kind};
use crate::grant::{ClientAuthentication, ClientGrant, Document, Flow, Secret};
use crate::text::printable;
use serde_json::Value;

/// The most redirects that a GET for metadata follows.
pub const MOST_REDIRECTS: usize = 3;

/// What the response to a GET for metadata asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// It is not a redirect.
    Done,
    /// Send the request there: scheme, host and port are the same.
    Follow(String),
    /// It points to another origin, or to no address.
    Elsewhere {
        /// The address without its query, fit to be shown. `None`: it is no address.
        target: Option<String>,
    },
}

/// Decides what to do after the response to a GET for metadata at `url`.
pub fn redirection(url: &str, response: &Response) -> Redirection {
    if !is_redirect(response.status) {
        return Redirection::Done;
    }
    let Some(target) = response.headers.get("location").and_then(|location| resolved(url, location)) else {
        return Redirection::Elsewhere { target: None };
    };
    match (endpoint_url(url), endpoint_url(&target)) {
        (Ok(from), Ok(to)) if from == to => Redirection::Follow(target),
        _ => Redirection::Elsewhere { target: Some(without_query(&target)) },
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The target of a redirect, fit to be shown: no part of it repeats a secret of the request. The query may hold anything,
/// so it is left out unless it is the one that was sent. `None`: even its origin repeats a secret, or there is no target.
pub fn target(request: &Request, response: &Response) -> Option<String> {
    let target = resolved(&request.url, response.headers.get("location")?)?;
    let query = |url: &str| url.split_once('?').map(|(_, query)| query.to_owned());
    let same = query(&target).filter(|_| query(&target) == query(&request.url));
    let shown = without_query(&target) + &same.map(|query| format!("?{query}")).unwrap_or_default();
    let hiding = hiding_tokens(request, response);
    let has_no_secret = |text: &String| hiding.shown(text) == *text;
    let origin = || address_of(&target).map(|address| origin_of(&address));
    Some(shown).filter(has_no_secret).or_else(|| origin().filter(has_no_secret))
}

/// The request with the tokens that are in the body of the response: the target may repeat them, too.
fn hiding_tokens(request: &Request, response: &Response) -> Request {
    let Content::Members(members) = response.content() else { return request.clone() };
    let tokens = ["access_token", "refresh_token", "id_token"];
    let tokens = tokens.iter().filter_map(|name| members.get(*name).and_then(Value::as_str));
    tokens.fold(request.clone(), |request, token| request.hiding_secret(&Secret::new(token)))
}

/// The message about a redirect that is not followed. `None` for any other response.
pub fn unfollowed(request: &Request, response: &Response) -> Option<String> {
    let target = target(request, response).map(|target| format!(" to {target}")).unwrap_or_default();
    (300..400).contains(&response.status).then(|| {
        let status = response.status_words(None);
        format!("the server answered with {status}, a redirect{target}, which is not followed")
    })
}

/// The failure for a permanent redirect of an endpoint (301, 308). `None` for any other response. The hint is the login
/// that uses the target.
pub fn moved(request: &Request, response: &Response) -> Option<Failure> {
    if !matches!(response.status, 301 | 308) {
        return None;
    }
    let status = format!("the server answered with status {}", response.status);
    let unfollowed = "which is not followed with a credential";
    let Some(target) = target(request, response) else {
        return Some(Failure::new(
            Kind::Usage,
            format!(
                "{status}: the endpoint {} has moved, and it does not say where",
                without_query(&request.url)
            ),
        ));
    };
    let message = format!("{status}: the endpoint has moved to {target}, {unfollowed}");
    let hint = request.relogin.as_ref().and_then(|relogin| relogin.command(&request.url, &target, None));
    Some(Failure::new(Kind::Usage, message).hint_of(hint.as_deref()))
}

/// The failure for another redirect of an endpoint. `None` if no login could use its target. The redirect may be
/// temporary, but many servers that have moved for good respond like this.
pub fn elsewhere(request: &Request, response: &Response) -> Option<Failure> {
    let target = target(request, response).filter(|_| is_redirect(response.status))?;
    let for_good = Some("the endpoint has moved there for good");
    let hint = request.relogin.as_ref()?.command(&request.url, &target, for_good)?;
    Some(Failure::new(Kind::Temporary, unfollowed(request, response)?).hint(hint))
}

/// The login that gives an endpoint of a document another address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relogin {
    /// The option for this endpoint.
    option: &'static str,
    /// The other options that the login needs if the address is of another origin: a login sends nothing that is stored
    /// to another origin unless the command line says so.
    rest: String,
    /// What follows the address in the command.
    input: &'static str,
}

impl Relogin {
    /// The login for the endpoint `url` of this document. `None` if no option names this endpoint.
    pub(super) fn new(document: &Document, url: &str) -> Option<Self> {
        let endpoints = [
            ("--token-endpoint", Some(&document.token_endpoint)),
            ("--device-authorization-endpoint", document.device_authorization_endpoint.as_ref()),
            ("--authorization-endpoint", document.authorization_endpoint.as_ref()),
            ("--revocation-endpoint", document.revocation_endpoint.as_ref()),
            ("--userinfo-endpoint", document.userinfo_endpoint.as_ref()),
        ];
        let is_this = |endpoint: &Option<&String>| endpoint.is_some_and(|endpoint| endpoint == url);
        let (option, _) = endpoints.iter().find(|(_, endpoint)| is_this(endpoint))?;
        let mut rest = String::new();
        let mut add = |option: &str, value: &str| {
            rest.push_str(&format!(
                " {option}{}{}",
                if option.is_empty() { "" } else { " " },
                shell_word(value)
            ));
        };
        match document.issuer.as_ref().filter(|_| !document.issuer_is_assumed) {
            // Its metadata names the other endpoints.
            Some(issuer) => add("", issuer),
            None => endpoints.iter().filter(|(other, _)| other != option).for_each(|(other, endpoint)| {
                endpoint.iter().for_each(|endpoint| add(other, endpoint));
            }),
        }
        for (option, value) in options(document) {
            add(option, &value);
        }
        match &document.grant {
            Some(ClientGrant::ClientCredentials) => rest.push_str(" --client-credentials"),
            Some(ClientGrant::TokenExchange { subject_token, subject_token_type }) => {
                add("--subject-token", &subject_token.to_string());
                add("--subject-token-type", subject_token_type);
            }
            None => {}
        }
        if document.no_resource {
            rest.push_str(" --no-resource");
        }
        // Another login registers another client: what is stored of this one is not sent to another origin.
        if document.registration.is_some() {
            rest.push_str(" --register");
        }
        let is_imported = document.login.as_ref().is_some_and(|login| login.flow == Flow::Imported);
        let input = if is_imported { " --refresh-token-stdin < FILE" } else { "" };
        Some(Self { option, rest, input })
    }

    /// The command for the `target` of a redirect from `url`, with the condition for its use. `None` if no login accepts
    /// the target.
    fn command(&self, url: &str, target: &str, condition: Option<&str>) -> Option<String> {
        // A server behind a proxy may not know that clients reach it by https.
        let usable = with_https(target);
        let to = endpoint_url(&usable).ok().filter(|_| !is_origin(&usable))?;
        let rest = if endpoint_url(url).is_ok_and(|from| from == to) { "" } else { &self.rest };
        let https = (usable != target).then_some("the server has it with https");
        let conditions: Vec<&str> = condition.into_iter().chain(https).collect();
        let comment = match conditions.join(" and ") {
            none if none.is_empty() => none,
            conditions => format!("   # if {conditions}"),
        };
        Some(format!("onegrant login{rest} {} {}{}{comment}", self.option, shell_word(&usable), self.input))
    }
}

/// The options of the login that made this document, without endpoints, flow and switches.
fn options(document: &Document) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone();
    let single = [
        ("--scope", text(&document.scope)),
        ("--audience", text(&document.audience)),
        ("--redirect-uri", text(&document.redirect_uri)),
        ("--redirect-port", document.redirect_port.map(|port| port.to_string())),
    ];
    let single = single.into_iter().filter_map(|(option, value)| Some((option, value?)));
    // The one or the other: `--no-resource` is a switch.
    let resources = document.resource_indicators().iter().map(|resource| ("--resource", resource.clone()));
    let parameters = document.parameters.iter().map(|(name, value)| ("--param", format!("{name}={value}")));
    let hosts = document.git_hosts.iter().map(|host| ("--git-host", host.clone()));
    let client = if document.registration.is_none() { client_options(document) } else { Vec::new() };
    client.into_iter().chain(single).chain(resources).chain(parameters).chain(hosts).collect()
}

/// The options that name the client.
fn client_options(document: &Document) -> Vec<(&'static str, String)> {
    let secret = document.client_secret.as_ref().map(|_| "FILE".to_owned());
    let secret = document.client_secret_env.as_ref().map(|name| format!("env:{name}")).or(secret);
    let key = document.client_key.as_ref();
    let is_public = document.client_auth == ClientAuthentication::None;
    let options = [
        ("--client-id", Some(document.client_id.clone()).filter(|id| !id.is_empty())),
        ("--client-secret-file", secret),
        ("--client-key-file", key.map(|key| key.file.to_string_lossy().into_owned())),
        ("--client-key-id", key.and_then(|key| key.id.clone())),
        ("--client-key-audience", key.and_then(|key| key.audience.clone())),
        (
            "--client-auth",
            Some(client_authentication::name(document.client_auth).to_owned()).filter(|_| !is_public),
        ),
    ];
    options.into_iter().filter_map(|(option, value)| Some((option, value?))).collect()
}

fn origin_of(address: &Url) -> String {
    let (scheme, port) = if address.is_secure { ("https", ":443") } else { ("http", ":80") };
    let host = address.host_and_port();
    format!("{scheme}://{}", host.strip_suffix(port).unwrap_or(&host))
}

fn is_origin(url: &str) -> bool {
    path_of(url).is_empty()
}

/// The path of a URL, with what follows it.
pub(super) fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.find(['/', '?']).and_then(|start| rest.get(start..)).unwrap_or_default()
}

/// The address without its query, and without user information, which may be a password.
fn without_query(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = bare.split_once("://").unwrap_or(("https", bare));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    printable(&format!("{scheme}://{host}{path}"))
}

/// The reference, resolved at `base` (RFC 3986 section 5.2), without its fragment. `None` if it is not an `http` or
/// `https` address, or if it is too long.
fn resolved(base: &str, reference: &str) -> Option<String> {
    let reference = reference.trim().split('#').next().unwrap_or_default();
    if reference.is_empty() {
        return None;
    }
    let scheme = base.split("://").next()?;
    let origin = base.get(..base.len().checked_sub(path_of(base).len())?)?;
    let own_path = path_of(base).split('?').next().unwrap_or_default();
    let (start, rest) = if reference.contains("://") && !reference.starts_with(['/', '?', '.']) {
        let path = path_of(reference);
        (reference.get(..reference.len().checked_sub(path.len())?)?.to_owned(), path.to_owned())
    } else if reference.starts_with("//") {
        let whole = format!("{scheme}:{reference}");
        let path = path_of(&whole).to_owned();
        (whole.get(..whole.len().checked_sub(path.len())?)?.to_owned(), path)
    } else if reference.starts_with('/') {
        (origin.to_owned(), reference.to_owned())
    } else if reference.starts_with('?') {
        (origin.to_owned(), format!("{own_path}{reference}"))
    } else {
        let folder = own_path.rsplit_once('/').map_or("", |(folder, _)| folder);
        (origin.to_owned(), format!("{folder}/{reference}"))
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (rest.as_str(), String::new()),
    };
    let url = format!("{start}{}{query}", without_dots(path));
    let is_http = url.get(..8).is_some_and(|start| {
        let start = start.to_ascii_lowercase();
        start.starts_with("http://") || start == "https://"
    });
    (is_http && url.len() <= URL_LIMIT && address_of(&url).is_some()).then_some(url)
}

/// Removes dot segments (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                // The empty segment before the first slash stays.
                if kept.len() > 1 {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    kept.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;
    use crate::grant::Login;
    use crate::protocol::Authentication;
    use crate::protocol::token::refresh_request;

    fn response(status: u16, location: &str) -> Response {
        match location {
            "" => Response::new(status, ""),
            location => Response::new(status, "").with_header("Location", location),
        }
    }

    #[test]
    fn a_location_is_resolved_as_rfc_3986_says() {
        let base = "https://as.example:8443/a/b/token?tenant=1";
        let cases = [
            ("https://other.example/x", Some("https://other.example/x")),
            ("HTTPS://other.example", Some("HTTPS://other.example")),
            ("//other.example/x", Some("https://other.example/x")),
            ("/x/", Some("https://as.example:8443/x/")),
            ("token/", Some("https://as.example:8443/a/b/token/")),
            ("../c?d=/e/../f", Some("https://as.example:8443/a/c?d=/e/../f")),
            ("../../../..", Some("https://as.example:8443/")),
            ("./", Some("https://as.example:8443/a/b/")),
            ("?x=1#y", Some("https://as.example:8443/a/b/token?x=1")),
            (" /x ", Some("https://as.example:8443/x")),
            (" #here", None),
            ("ftp://as.example/x", None),
            ("https://", None),
            ("https://a b/", None),
        ];
        for (location, wanted) in cases {
            assert_eq!(resolved(base, location).as_deref(), wanted, "{location}");
        }
        assert_eq!(resolved("https://as.example", "token").as_deref(), Some("https://as.example/token"));
        assert_eq!(resolved(base, &"x".repeat(URL_LIMIT)), None);
    }

    #[test]
    fn metadata_is_followed_within_its_origin_alone() {
        let url = "https://as.example/.well-known/openid-configuration";
        let elsewhere = |target: &str| Redirection::Elsewhere { target: Some(target.to_owned()) };
        let cases = [
            (302, "/index.php/x", Redirection::Follow("https://as.example/index.php/x".to_owned())),
            (308, "https://AS.example:443/x", Redirection::Follow("https://AS.example:443/x".to_owned())),
            (301, "https://www.as.example/x?t=1", elsewhere("https://www.as.example/x")),
            (307, "https://as.example:444/x", elsewhere("https://as.example:444/x")),
            (303, "http://as.example/x", elsewhere("http://as.example/x")),
            (301, "https://user:pw@as.example/x", elsewhere("https://as.example/x")),
            (301, "", Redirection::Elsewhere { target: None }),
            (301, "mailto:x", Redirection::Follow("https://as.example/.well-known/mailto:x".to_owned())),
            (304, "/x", Redirection::Done),
            (200, "/x", Redirection::Done),
        ];
        for (status, location, wanted) in cases {
            assert_eq!(redirection(url, &response(status, location)), wanted, "{status} {location}");
        }
    }

    #[test]
    fn the_target_of_a_redirect_is_named_without_what_could_hold_a_secret() {
        let mut document = document();
        document.token_endpoint = "https://as.example/token?tenant=1".to_owned();
        let request = refresh_request(&document, &Secret::new("old-refresh"), &Authentication::None);
        let cases = [
            ("/token/", Some("https://as.example/token/")),
            ("/token/?tenant=1", Some("https://as.example/token/?tenant=1")),
            ("/token/?refresh_token=old-refresh", Some("https://as.example/token/")),
            ("https://evil.example/old-refresh/x", Some("https://evil.example")),
            (
                "https://evil.example:8443/old%2Drefresh?x#old-refresh",
                Some("https://evil.example:8443/old%2Drefresh"),
            ),
            ("https://user:pw@evil.example/x", Some("https://evil.example/x")),
            ("", None),
        ];
        for (location, wanted) in cases {
            assert_eq!(target(&request, &response(301, location)).as_deref(), wanted, "{location}");
        }
    }

    #[test]
    fn a_moved_endpoint_gives_the_login_that_uses_its_new_address() {
        let mut document = document();
        document.client_id = "client 1".to_owned();
        document.issuer_is_assumed = true;
        document.token_endpoint = "https://as.example/token".to_owned();
        let hint = |document: &Document, location: &str| {
            let request = refresh_request(document, &Secret::new("old-refresh"), &Authentication::None);
            let failure = moved(&request, &response(308, location)).unwrap();
            assert_eq!(failure.kind, Kind::Usage);
            failure.hint
        };
        // On the same origin the login uses what is stored.
        let same = [
            ("/token/", "onegrant login --token-endpoint https://as.example/token/"),
            ("/t'x", r"onegrant login --token-endpoint 'https://as.example/t'\''x'"),
        ];
        for (location, wanted) in same {
            assert_eq!(hint(&document, location).as_deref(), Some(wanted));
        }
        let elsewhere = "https://other.example/token";
        assert_eq!(
            hint(&document, elsewhere).as_deref(),
            Some("onegrant login --client-id 'client 1' --token-endpoint https://other.example/token")
        );
        document.device_authorization_endpoint = Some("https://as.example/device?a&b".to_owned());
        document.scope = Some("a ".repeat(200) + "b");
        document.client_secret = Some(Secret::new("s3cret-of-the-client"));
        document.client_auth = ClientAuthentication::Basic;
        document.parameters.insert("tenant".to_owned(), "t 1".to_owned());
        document.resource = vec!["https://r1".to_owned(), "https://r2".to_owned()];
        let wanted = format!(
            "onegrant login --device-authorization-endpoint 'https://as.example/device?a&b' --client-id 'client 1' \
             --client-secret-file FILE --client-auth basic --scope '{}' --resource https://r1 --resource https://r2 \
             --param 'tenant=t 1' --token-endpoint https://other.example/token",
            document.scope.as_deref().unwrap()
        );
        assert_eq!(hint(&document, elsewhere), Some(wanted), "a long word is not cut");
        document.issuer = Some("https://as.example".to_owned());
        document.issuer_is_assumed = false;
        document.login =
            Some(Login { id: "x".to_owned(), at: 1, flow: Flow::Imported, other: serde_json::Map::new() });
        document.scope = None;
        assert_eq!(
            hint(&document, elsewhere).as_deref(),
            Some(
                "onegrant login https://as.example --client-id 'client 1' --client-secret-file FILE --client-auth basic \
                 --resource https://r1 --resource https://r2 --param 'tenant=t 1' \
                 --token-endpoint https://other.example/token --refresh-token-stdin < FILE"
            )
        );
        assert_eq!(
            hint(&document, "http://as.example/token/").as_deref(),
            Some(
                "onegrant login --token-endpoint https://as.example/token/ --refresh-token-stdin < FILE   \
                 # if the server has it with https"
            )
        );
        // No login accepts these.
        for location in ["", "https://as.example/old-refresh", "http://as.example"] {
            assert_eq!(hint(&document, location), None, "{location}");
        }
        let request = refresh_request(&document, &Secret::new("old-refresh"), &Authentication::None);
        for status in [302, 303, 307, 200] {
            assert_eq!(moved(&request, &response(status, "/token/")), None, "{status}");
        }
    }

    /// Another origin gets nothing of the registered client, so the login registers another one.
    #[test]
    fn the_login_of_a_moved_endpoint_registers_again_and_leaves_the_resource_out_as_before() {
        let registration = serde_json::json!({
            "issuer": "https://as.example", "endpoint": "https://as.example/register",
            "redirect_uri": "http://127.0.0.1:7/callback", "registered_at": 1,
        });
        let mut document = Document {
            issuer: Some("https://as.example".to_owned()),
            registration: serde_json::from_value(registration).unwrap(),
            client_secret: Some(Secret::new("s3cret-of-the-client")),
            client_auth: ClientAuthentication::Basic,
            scope: Some("a".to_owned()),
            resource: vec!["https://mcp.example/mcp".to_owned()],
            ..document()
        };
        let hint = |document: &Document, location: &str| {
            let request = refresh_request(document, &Secret::new("old-refresh"), &Authentication::None);
            moved(&request, &response(308, location)).unwrap().hint.unwrap()
        };
        let elsewhere = "https://other.example/token";
        let start = "onegrant login https://as.example --scope a";
        assert_eq!(
            hint(&document, elsewhere),
            format!("{start} --resource https://mcp.example/mcp --register --token-endpoint {elsewhere}")
        );
        document.no_resource = true;
        assert_eq!(
            hint(&document, elsewhere),
            format!("{start} --no-resource --register --token-endpoint {elsewhere}")
        );
        assert_eq!(hint(&document, "/t/"), "onegrant login --token-endpoint https://as.example/t/");
    }
}
