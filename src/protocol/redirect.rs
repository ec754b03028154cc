//! Redirects (RFC 9110 section 15.4). A request that carries a credential is never sent on: the target is named instead. The
//! one request that follows is the GET for metadata, within its own origin.

use super::metadata::{Address, URL_LIMIT, address_of, endpoint_url};
use super::{Reply, Request};
use crate::error::{Failure, Kind, printable};
use crate::grant::Document;

/// How many redirects a GET for metadata follows.
pub const MOST_REDIRECTS: usize = 3;

/// What an answer to a GET for metadata asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is no redirect.
    Done,
    /// Ask there: the same scheme, host and port.
    Follow(String),
    /// It points elsewhere; `target` is where, if that is an address at all.
    Elsewhere {
        /// The address, without a query, fit to be shown.
        target: Option<String>,
    },
}

/// Decides about an answer to a GET for metadata at `url`.
pub fn next(url: &str, reply: &Reply) -> Next {
    if !is_redirect(reply.status) {
        return Next::Done;
    }
    let Some(target) = reply.location.as_deref().and_then(|location| resolved(url, location)) else {
        return Next::Elsewhere { target: None };
    };
    match (endpoint_url(url), endpoint_url(&target)) {
        (Ok(from), Ok(to)) if from == to => Next::Follow(target),
        _ => Next::Elsewhere { target: Some(without_query(&target)) },
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The target of a redirect, fit to be shown: nothing in it repeats a secret of the request. Its query is left out, which
/// could hold anything, unless it is the one that was sent.
pub fn target(request: &Request, reply: &Reply) -> Option<String> {
    let target = resolved(&request.url, reply.location.as_deref()?)?;
    let query = |url: &str| url.split_once('?').map(|(_, query)| query.to_owned());
    let bare = without_query(&target);
    let shown = if query(&target) == query(&request.url) { &target } else { &bare };
    match request.shown(shown) == *shown {
        true => Some(shown.clone()),
        false => address_of(&target).map(|address| origin_of(&address)),
    }
}

/// The words for a redirect that is not followed; `None` for any other answer.
pub fn unfollowed(request: &Request, reply: &Reply) -> Option<String> {
    let target = target(request, reply).map(|target| format!(" to {target}")).unwrap_or_default();
    (300..400).contains(&reply.status).then(|| {
        let status = reply.status_words(None);
        format!("the server answered with {status}, a redirect{target}, which is not followed")
    })
}

/// The failure that a permanent redirect of an endpoint is (301, 308); `None` for any other answer. The hint is the login
/// that uses the target.
pub fn moved(request: &Request, reply: &Reply) -> Option<Failure> {
    if !matches!(reply.status, 301 | 308) {
        return None;
    }
    let status = format!("the server answered with status {}", reply.status);
    let unfollowed = "which is not followed with a credential";
    let Some(target) = target(request, reply) else {
        return Some(Failure::new(
            Kind::Usage,
            format!(
                "{status}: the endpoint {} has moved, and it does not say where",
                without_query(&request.url)
            ),
        ));
    };
    let message = format!("{status}: the endpoint has moved to {target}, {unfollowed}");
    Some(Failure::new(Kind::Usage, message).hint_of(login_at(request, &target).as_deref()))
}

/// The failure that another redirect of an endpoint is; `None` if no login could use its target. It may go away by itself, or
/// never: many servers that have moved for good answer like this.
pub fn elsewhere(request: &Request, reply: &Reply) -> Option<Failure> {
    let login = login_at(request, &target(request, reply)?)?;
    let hint = format!("{login}   # if the endpoint has moved there for good");
    Some(Failure::new(Kind::Temporary, unfollowed(request, reply)?).hint(hint))
}

/// The login that uses this address for the endpoint of the request.
fn login_at(request: &Request, target: &str) -> Option<String> {
    let usable = endpoint_url(target).is_ok() && !is_origin(target);
    request.relogin.as_ref().filter(|_| usable).map(|login| format!("{login} {}", word(target)))
}

/// What the command line of a login needs to use another address for the endpoint `url` of this document, without that
/// address, which comes last; `None` where no option names this endpoint.
pub(super) fn relogin(document: &Document, url: &str) -> Option<String> {
    let endpoints = [
        ("--token-endpoint", Some(&document.token_endpoint)),
        ("--device-authorization-endpoint", document.device_authorization_endpoint.as_ref()),
        ("--authorization-endpoint", document.authorization_endpoint.as_ref()),
        ("--revocation-endpoint", document.revocation_endpoint.as_ref()),
        ("--userinfo-endpoint", document.userinfo_endpoint.as_ref()),
    ];
    let (option, _) =
        endpoints.iter().find(|(_, endpoint)| endpoint.is_some_and(|endpoint| endpoint == url))?;
    let mut command = "onegrant login".to_owned();
    let mut add = |text: &str| {
        command.push(' ');
        command.push_str(text);
    };
    match document.issuer.as_ref().filter(|_| !document.issuer_is_assumed) {
        // All else comes from its metadata.
        Some(issuer) => add(&word(issuer)),
        None => endpoints.iter().filter(|(other, _)| other != option).for_each(|(other, endpoint)| {
            endpoint.iter().for_each(|endpoint| add(&format!("{other} {}", word(endpoint))));
        }),
    }
    if !document.client_id.is_empty() {
        add(&format!("--client-id {}", word(&document.client_id)));
    }
    if let Some(scope) = &document.scope {
        add(&format!("--scope {}", word(scope)));
    }
    add(option);
    Some(command)
}

/// The issuer whose metadata would be at this address, if it is a well-known one.
pub fn issuer_at(url: &str) -> Option<String> {
    const OPENID: &str = "/.well-known/openid-configuration";
    const OAUTH: &str = "/.well-known/oauth-authorization-server";
    let address = endpoint_url(url).ok()?;
    let whole = url.trim_end_matches('/');
    // OpenID Connect Discovery section 4.1 appends it, RFC 8414 section 3.1 inserts it before the path.
    if let Some(issuer) = whole.strip_suffix(OPENID) {
        return Some(issuer.to_owned());
    }
    let origin = origin_of(&address);
    let path = path_of(whole);
    [OAUTH, OPENID].iter().find_map(|well_known| {
        let rest = path.strip_prefix(well_known)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{origin}{rest}"))
    })
}

fn origin_of(address: &Address) -> String {
    let (scheme, port) = if address.is_secure { ("https", ":443") } else { ("http", ":80") };
    let host = address.host_and_port();
    format!("{scheme}://{}", host.strip_suffix(port).unwrap_or(&host))
}

fn is_origin(url: &str) -> bool {
    path_of(url).is_empty()
}

/// The path of a URL, with what follows it.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.find(['/', '?']).and_then(|start| rest.get(start..)).unwrap_or_default()
}

fn without_query(url: &str) -> String {
    printable(url.split(['?', '#']).next().unwrap_or_default())
}

/// A word for a shell, as it is where no shell reads anything into it.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/%+,=@".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", printable(text).replace('\'', r"'\''")),
    }
}

/// A reference as it is meant at `base` (RFC 3986 section 5.2), without its fragment; `None` where it is no `http` or
/// `https` address, or an endless one.
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

/// RFC 3986 section 5.2.4.
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
    use crate::grant::Secret;
    use crate::protocol::Proof;
    use crate::protocol::token::refresh_request;

    fn reply(status: u16, location: &str) -> Reply {
        let location = Some(location.to_owned()).filter(|location| !location.is_empty());
        Reply { status, location, ..Reply::default() }
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
        let elsewhere = |target: &str| Next::Elsewhere { target: Some(target.to_owned()) };
        let cases = [
            (302, "/index.php/x", Next::Follow("https://as.example/index.php/x".to_owned())),
            (308, "https://AS.example:443/x", Next::Follow("https://AS.example:443/x".to_owned())),
            (301, "https://www.as.example/x?t=1", elsewhere("https://www.as.example/x")),
            (307, "https://as.example:444/x", elsewhere("https://as.example:444/x")),
            (303, "http://as.example/x", elsewhere("http://as.example/x")),
            (301, "https://user@as.example/x", elsewhere("https://user@as.example/x")),
            (301, "", Next::Elsewhere { target: None }),
            (301, "mailto:x", Next::Follow("https://as.example/.well-known/mailto:x".to_owned())),
            (304, "/x", Next::Done),
            (200, "/x", Next::Done),
        ];
        for (status, location, wanted) in cases {
            assert_eq!(next(url, &reply(status, location)), wanted, "{status} {location}");
        }
    }

    #[test]
    fn the_target_of_a_redirect_is_named_without_what_could_hold_a_secret() {
        let mut document = document();
        document.token_endpoint = "https://as.example/token?tenant=1".to_owned();
        let request = refresh_request(&document, &Secret::new("old-refresh"), &Proof::None);
        let cases = [
            ("/token/", Some("https://as.example/token/")),
            ("/token/?tenant=1", Some("https://as.example/token/?tenant=1")),
            ("/token/?refresh_token=old-refresh", Some("https://as.example/token/")),
            ("https://evil.example/old-refresh/x", Some("https://evil.example")),
            (
                "https://evil.example:8443/old%2Drefresh?x#old-refresh",
                Some("https://evil.example:8443/old%2Drefresh"),
            ),
            ("", None),
        ];
        for (location, wanted) in cases {
            assert_eq!(target(&request, &reply(301, location)).as_deref(), wanted, "{location}");
        }
    }

    #[test]
    fn a_moved_endpoint_gives_the_login_that_uses_its_new_address() {
        let mut document = document();
        document.client_id = "client 1".to_owned();
        document.issuer_is_assumed = true;
        let hint = |document: &Document, location: &str| {
            let request = refresh_request(document, &Secret::new("old-refresh"), &Proof::None);
            let failure = moved(&request, &reply(308, location)).unwrap();
            assert_eq!(failure.kind, Kind::Usage);
            failure.hint
        };
        assert_eq!(
            hint(&document, "/token/").as_deref(),
            Some("onegrant login --client-id 'client 1' --token-endpoint https://as.example/token/")
        );
        document.device_authorization_endpoint = Some("https://as.example/device?a&b".to_owned());
        document.scope = Some("a b".to_owned());
        assert_eq!(
            hint(&document, "/t'x").as_deref(),
            Some(
                "onegrant login --device-authorization-endpoint 'https://as.example/device?a&b' --client-id 'client 1' \
                 --scope 'a b' --token-endpoint 'https://as.example/t'\\''x'"
            )
        );
        document.issuer = Some("https://as.example".to_owned());
        document.issuer_is_assumed = false;
        assert_eq!(
            hint(&document, "/token/").as_deref(),
            Some(
                "onegrant login https://as.example --client-id 'client 1' --scope 'a b' --token-endpoint https://as.example/token/"
            )
        );
        // No login takes these.
        for location in ["http://as.example/token/", "", "https://as.example/old-refresh"] {
            assert_eq!(hint(&document, location), None, "{location}");
        }
        let request = refresh_request(&document, &Secret::new("old-refresh"), &Proof::None);
        for status in [302, 303, 307, 200] {
            assert_eq!(moved(&request, &reply(status, "/token/")), None, "{status}");
        }
    }

    #[test]
    fn a_well_known_address_tells_its_issuer() {
        let cases = [
            ("https://as.example/.well-known/openid-configuration", Some("https://as.example")),
            ("https://as.example/a/.well-known/openid-configuration", Some("https://as.example/a")),
            ("https://as.example/.well-known/openid-configuration/a", Some("https://as.example/a")),
            ("https://as.example/.well-known/oauth-authorization-server/a/b", Some("https://as.example/a/b")),
            ("https://as.example/.well-known/oauth-authorization-server", Some("https://as.example")),
            ("https://as.example/login", None),
            ("http://as.example/.well-known/openid-configuration", None),
        ];
        for (url, wanted) in cases {
            assert_eq!(issuer_at(url).as_deref(), wanted, "{url}");
        }
    }
}
