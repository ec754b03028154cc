//! Protected resources: their metadata (RFC 9728), and which addresses one resource covers.

use super::hints::whole_shell_word;
use super::metadata::{self, Url, endpoint_url};
use super::redirect::path_of;
use super::response::Content;
use super::scope::{NAMED_LIMIT, is_scope_token, named};
use super::{Body, Extent, JSON, Method, Request, Response};
use crate::error::{Failure, Kind};
use crate::grant::Secret;
use crate::text::printable;
use serde_json::{Map, Value, json};

/// The most issuers that are tried for one resource. Real resources name one or two.
const MOST_ISSUERS: usize = 4;

/// The most entries of `authorization_servers` that are looked at, usable or not.
const MOST_ENTRIES: usize = 16;

/// The longest identifier of an MCP session, in bytes. Real ones are UUIDs, or tokens of some hundred bytes.
const SESSION_ID_LIMIT: usize = 2048;

/// The revision of MCP that the probe offers. A server that knows only others still answers with its challenge.
const MCP_VERSION: &str = "2025-11-25";

/// The header field of an MCP session (MCP, "Streamable HTTP", "Session Management").
const SESSION_ID: &str = "Mcp-Session-Id";

/// Where the metadata of a resource is: inserted between host and path (RFC 9728 section 3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What a resource says about itself (RFC 9728 section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceMetadata {
    /// The resource identifier, as the document writes it.
    pub resource: String,
    /// The issuers whose tokens it takes, in its order: one at least, and no more than a few. Each has [`metadata::candidates`].
    /// An entry may be the address of a metadata document instead of an issuer.
    pub authorization_servers: Vec<String>,
    /// The scopes that it knows. Empty if it does not say.
    pub scopes_supported: Vec<String>,
    /// Where it departs from the standards, in words, and can be used all the same. Fit to be shown.
    pub departures: Vec<String>,
}

/// What the response to a request for resource metadata is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundResource {
    /// The metadata of this resource.
    Metadata(Box<ResourceMetadata>),
    /// No metadata, and why. The next candidate may have it.
    Nothing(String),
    /// Metadata that must not be used: of another resource, or without a usable issuer.
    Refused(Failure),
}

/// Checks the address of a resource: what [`endpoint_url`] checks, and that its path has no dot segment (RFC 3986 section
/// 3.3). A server may resolve such a segment or not, so the address may be of another resource than it seems.
pub fn resource_url(url: &str) -> Result<Url, Failure> {
    let address = endpoint_url(url)?;
    match has_dot_segment(path_and_query(url).0) {
        false => Ok(address),
        true => Err(Failure::new(
            Kind::Usage,
            format!("cannot use {}: its path has a dot segment", printable(url)),
        )),
    }
}

/// Whether some server could read a dot segment in this path: as it is, after percent-decoding once, with `\` for `/`, or
/// without the parameters of its segments (RFC 3986 section 3.3).
fn has_dot_segment(path: &str) -> bool {
    let mut path = path.to_ascii_lowercase();
    for (encoded, character) in [("%2e", "."), ("%2f", "/"), ("%5c", "/"), ("%3b", ";")] {
        path = path.replace(encoded, character);
    }
    path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

/// The path of a URL without its closing slash, and the query with its question mark. Both may be empty.
fn path_and_query(url: &str) -> (&str, &str) {
    let rest = path_of(url);
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    (path.strip_suffix('/').unwrap_or(path), query)
}

/// A request without a credential, which a protected resource answers with a challenge. It is the first request of an MCP
/// client (`initialize`), because many resources are MCP servers. Other resources do not know it, and answer with a challenge
/// too. Status and header fields are the whole answer: the body may be a stream without an end.
pub fn probe(url: &str) -> Request {
    let initialize = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": MCP_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "onegrant", "version": env!("CARGO_PKG_VERSION")},
        },
    });
    let body = Body::Text { content_type: JSON, text: Secret::new(initialize.to_string()) };
    let mut request = Request::new(Method::Post, url, body);
    request.headers.push("accept", "application/json, text/event-stream");
    let limit = request.extent.limit;
    request.reading(Extent { limit, lines: Some(0) })
}

/// Ends the session that an MCP server began with its answer to [`probe`]. `None` if it began none.
pub fn end_of_session(url: &str, response: &Response) -> Option<Request> {
    let id = response.headers.get(SESSION_ID).filter(|_| response.is_success())?;
    let is_usable =
        (1..=SESSION_ID_LIMIT).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    is_usable.then(|| {
        let mut request = Request::new(Method::Delete, url, Body::None).hiding_secret(&Secret::new(id));
        request.headers.push(SESSION_ID, id);
        let limit = request.extent.limit;
        request.reading(Extent { limit, lines: Some(0) })
    })
}

/// The addresses where the metadata of the resource at `url` may be, in the order of the requests (RFC 9728 section 3.1): with
/// the path and the query of the resource, then without them. A closing slash is dropped. Empty if [`resource_url`] refuses
/// the address.
pub fn candidates(url: &str) -> Vec<String> {
    if resource_url(url).is_err() {
        return Vec::new();
    }
    let origin = url.strip_suffix(path_of(url)).unwrap_or(url);
    let (path, query) = path_and_query(url);
    let mut urls = vec![format!("{origin}{WELL_KNOWN}{path}{query}")];
    if !path.is_empty() {
        urls.push(format!("{origin}{WELL_KNOWN}"));
    }
    urls
}

/// Reads the response to a request for the metadata of the resource at `url`. `document` is the address that was asked. The
/// resource in the metadata must cover `url` (RFC 9728 section 3.3 demands that they are equal).
pub fn read(url: &str, document: &str, response: &Response) -> FoundResource {
    let members = match (response.status, response.content()) {
        (200..300, Content::Members(members)) => members,
        (200..300, _) if response.unreadable.is_none() => {
            return FoundResource::Nothing("no JSON object".to_owned());
        }
        _ => return FoundResource::Nothing(response.status_words(None)),
    };
    if ["resource", "authorization_servers", "authorization_server"]
        .iter()
        .all(|name| !members.contains_key(*name))
    {
        return FoundResource::Nothing("no resource in it".to_owned());
    }
    match usable(url, &members) {
        Ok(metadata) => FoundResource::Metadata(Box::new(metadata)),
        Err(failure) => {
            let what = format!("cannot use the resource metadata at {}", printable(document));
            FoundResource::Refused(Failure { message: format!("{what}: {}", failure.message), ..failure })
        }
    }
}

fn usable(url: &str, members: &Map<String, Value>) -> Result<ResourceMetadata, Failure> {
    let refuse = |why: String| Failure::new(Kind::Usage, why);
    let resource = members.get("resource").and_then(Value::as_str).filter(|resource| !resource.is_empty());
    let resource = resource.ok_or_else(|| refuse("it does not name its resource".to_owned()))?;
    if resource.contains('#') {
        return Err(refuse(format!("its resource {} has a fragment", printable(resource))));
    }
    let word = whole_shell_word(resource);
    let Some(length) = covers(resource, url) else {
        let why = format!("it is of the resource {}, not of {}", printable(resource), printable(url));
        let hint =
            word.filter(|_| resource_url(resource).is_ok()).map(|word| format!("onegrant login {word}"));
        return Err(refuse(why).hint_of(hint.as_deref()));
    };
    let mut departures = Vec::new();
    if resource != url {
        let (shown, same_path) = (printable(resource), length == path_and_query(url).0.len());
        departures.push(match same_path {
            true => format!("RFC 9728 section 3.3: the resource is written {shown}, not as its address"),
            false => format!("RFC 9728 section 3.3: the resource {shown} is a parent of the address"),
        });
    }
    let authorization_servers = issuers(members, &mut departures).map_err(|why| {
        let hint = word.map(|word| {
            format!("onegrant login ISSUER --resource {word}   # names the authorization server")
        });
        refuse(why).hint_of(hint.as_deref())
    })?;
    let scopes_supported = scopes(members, &mut departures);
    Ok(ResourceMetadata {
        resource: resource.to_owned(),
        authorization_servers,
        scopes_supported,
        departures,
    })
}

/// The issuers that a credential may be sent to, in order and without repetitions. Fails with the reason if there are none.
fn issuers(members: &Map<String, Value>, departures: &mut Vec<String>) -> Result<Vec<String>, String> {
    let entries = match (members.get("authorization_servers"), members.get("authorization_server")) {
        (Some(Value::Array(entries)), _) => entries.iter().take(MOST_ENTRIES).collect(),
        (Some(entry @ Value::String(_)), _) => {
            departures.push("RFC 9728 section 2: authorization_servers is one text and no list".to_owned());
            vec![entry]
        }
        (None, Some(entry @ Value::String(_))) => {
            departures.push(
                "RFC 9728 section 2: authorization_server takes the place of authorization_servers"
                    .to_owned(),
            );
            vec![entry]
        }
        _ => Vec::new(),
    };
    let mut issuers: Vec<String> = Vec::new();
    let mut why = None;
    for entry in entries {
        let checked = match entry.as_str().filter(|issuer| !issuer.is_empty()) {
            Some(issuer) => metadata::candidates(issuer).map(|_| issuer).map_err(|failure| failure.message),
            None => Err("an entry is no address".to_owned()),
        };
        match checked {
            Ok(issuer) if issuers.len() == MOST_ISSUERS || issuers.iter().any(|known| known == issuer) => {}
            Ok(issuer) => issuers.push(issuer.to_owned()),
            Err(unusable) => {
                departures
                    .push(format!("RFC 8414 section 2: an authorization server is left out: {unusable}"));
                why = why.or(Some(unusable));
            }
        }
    }
    match (issuers.is_empty(), why) {
        (false, _) => Ok(issuers),
        (true, Some(unusable)) => Err(format!("no authorization server in it can be used: {unusable}")),
        (true, None) => Err("it names no authorization server".to_owned()),
    }
}

/// The entries of `scopes_supported` that can be a part of `scope`.
fn scopes(members: &Map<String, Value>, departures: &mut Vec<String>) -> Vec<String> {
    let entries =
        members.get("scopes_supported").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let words = || entries.iter().filter_map(Value::as_str).filter(|word| is_scope_token(word));
    if words().count() < entries.len() {
        departures.push(
            "RFC 6749 section 3.3: an entry of scopes_supported is no scope, and is left out".to_owned(),
        );
    }
    let scopes: Vec<String> = named(words()).map(str::to_owned).collect();
    if scopes.len() < words().count() {
        departures.push(format!(
            "RFC 9728 section 2: scopes_supported has more than {NAMED_LIMIT} bytes, and the rest is left out"
        ));
    }
    scopes
}

/// Whether the resource covers `url`: scheme, host and port are the same, and its path is the path of `url` or a beginning of
/// it that ends where a `/` stands. Gives the length of that path in bytes. The query and a closing slash of the resource's
/// path are not compared. The rest of the path is compared byte by byte: another spelling of the same path is another path.
/// [`resource_url`] must accept both.
pub fn covers(resource: &str, url: &str) -> Option<usize> {
    let is_same_origin = resource_url(resource).ok()? == resource_url(url).ok()?;
    let (path, _) = path_and_query(resource);
    let rest = path_of(url).strip_prefix(path)?;
    (is_same_origin && (rest.is_empty() || rest.starts_with(['/', '?']))).then_some(path.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn a_resource_covers_the_paths_below_its_own_on_its_own_origin() {
        // (resource, address, bytes of the path)
        let cases = [
            ("https://r.example",            "https://r.example",                    Some(0)),
            ("https://r.example/",           "https://r.example",                    Some(0)),
            ("https://r.example",            "https://r.example/",                   Some(0)),
            ("https://r.example",            "https://r.example/mcp",                Some(0)),
            ("https://r.example",            "https://r.example?x=/..",              Some(0)),
            ("https://r.example/mcp",        "https://r.example/mcp",                Some(4)),
            ("https://r.example/mcp/",       "https://r.example/mcp",                Some(4)),
            ("https://r.example/mcp",        "https://r.example/mcp/",               Some(4)),
            ("https://r.example/mcp",        "https://r.example/mcp/v1?x",           Some(4)),
            ("https://r.example/mcp?a=1",    "https://r.example/mcp?a=2",            Some(4)),
            ("https://r.example/a%20b",      "https://r.example/a%20b/c",            Some(6)),
            ("HTTPS://R.example:443/mcp",    "https://r.EXAMPLE/mcp",                Some(4)),
            ("http://127.0.0.1:80/mcp",      "http://127.0.0.1/mcp",                 Some(4)),
            ("https://r.example/.well",      "https://r.example/.well/...",          Some(6)),
            ("https://r.example/mcp",        "https://r.example/mcp2",               None),
            ("https://r.example/mcp",        "https://r.example/MCP",                None),
            ("https://r.example/mcp",        "https://r.example/m%63p",              None),
            ("https://r.example/a%2Fb",      "https://r.example/a%2fb",              None),
            ("https://r.example/mcp/v1",     "https://r.example/mcp",                None),
            ("https://r.example/mcp//",      "https://r.example/mcp/v1",             None),
            ("https://r.example/mcp",        "https://r.example",                    None),
            ("https://r.example",            "https://r.example.evil.example",       None),
            ("https://r.example",            "https://other.example",                None),
            ("https://r.example",            "https://r.example:8443",               None),
            ("http://127.0.0.1/mcp",         "https://127.0.0.1/mcp",                None),
            ("http://127.0.0.1/mcp",         "http://localhost/mcp",                 None),
            // No credential may go there.
            ("http://r.example",             "http://r.example",                     None),
            ("https://r.example",            "https://r.example@evil.example/",      None),
            ("https://r.example",            "https://r.example\\@evil.example/",    None),
            ("https://r.example",            "https://r.example/#x",                 None),
            ("r.example",                    "r.example",                            None),
            ("",                             "",                                     None),
            // A server may take these for another path.
            ("https://r.example/mcp",        "https://r.example/mcp/../admin",       None),
            ("https://r.example/mcp",        "https://r.example/mcp/..",             None),
            ("https://r.example/mcp",        "https://r.example/mcp/./",             None),
            ("https://r.example/mcp",        "https://r.example/mcp/%2e%2E/admin",   None),
            ("https://r.example/mcp",        "https://r.example/mcp/.%2e/admin",     None),
            ("https://r.example/mcp",        "https://r.example/mcp/x%2f..%2fadmin", None),
            ("https://r.example/mcp",        "https://r.example/mcp/x%5c..%5Cadmin", None),
            ("https://r.example/mcp",        "https://r.example/mcp/..;x/admin",     None),
            ("https://r.example/mcp",        "https://r.example/mcp/..%3B/admin",    None),
            ("https://r.example",            "https://r.example/x/../mcp",           None),
            ("https://r.example/mcp/..",     "https://r.example/mcp/../mcp",         None),
        ];
        for (resource, url, wanted) in cases {
            assert_eq!(covers(resource, url), wanted, "{resource} {url}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_candidates_are_the_addresses_of_rfc_9728() {
        const ROOT: &str = "https://r.example:8443/.well-known/oauth-protected-resource";
        let cases = [
            ("https://r.example:8443",           vec![""]),
            ("https://r.example:8443/",          vec![""]),
            ("https://r.example:8443?x=1",       vec!["?x=1"]),
            ("https://r.example:8443/?x=1",      vec!["?x=1"]),
            ("https://r.example:8443/mcp",       vec!["/mcp", ""]),
            ("https://r.example:8443/a/mcp/",    vec!["/a/mcp", ""]),
            ("https://r.example:8443/mcp/?x=/",  vec!["/mcp?x=/", ""]),
            ("https://r.example:8443/a/../mcp",  vec![]),
            ("http://r.example:8443/mcp",        vec![]),
        ];
        for (url, paths) in cases {
            let wanted: Vec<String> = paths.iter().map(|path| format!("{ROOT}{path}")).collect();
            assert_eq!(candidates(url), wanted, "{url}");
        }
    }

    #[test]
    fn the_probe_begins_an_mcp_session_without_a_credential_and_reads_no_body() {
        let request = probe("https://r.example/mcp?x=1");
        assert_eq!((request.method, request.url.as_str()), (Method::Post, "https://r.example/mcp?x=1"));
        let headers: Vec<(&str, &str)> = request.headers.iter().collect();
        assert_eq!(headers, [("accept", "application/json, text/event-stream")]);
        let (content_type, text) = request.body.encoded().unwrap();
        assert_eq!(content_type, "application/json");
        let message: Value = serde_json::from_str(text.expose()).unwrap();
        assert_eq!((&message["method"], &message["id"]), (&json!("initialize"), &json!(1)));
        assert_eq!(message["params"]["clientInfo"]["name"], "onegrant");
        assert_eq!(request.extent.lines, Some(0));
    }

    #[test]
    fn only_a_session_that_the_probe_began_is_ended() {
        let end = |status: u16, id: &str| {
            let response = Response::new(status, "").with_header("mcp-session-id", id);
            end_of_session("https://r.example/mcp", &response)
        };
        let request = end(200, "1868a90c-0").unwrap();
        assert_eq!((request.method, request.body), (Method::Delete, Body::None));
        assert_eq!(request.headers.iter().collect::<Vec<_>>(), [("Mcp-Session-Id", "1868a90c-0")]);
        assert!(end(202, &"x".repeat(SESSION_ID_LIMIT)).is_some());
        for (status, id) in [(401, "1"), (302, "1"), (200, ""), (200, "a b"), (200, "a\r\nx: y"), (200, "ü")]
        {
            assert_eq!(end(status, id), None, "{status} {id:?}");
        }
        assert_eq!(end(200, &"x".repeat(SESSION_ID_LIMIT + 1)), None);
        assert_eq!(end_of_session("https://r.example/mcp", &Response::new(200, "")), None);
    }

    const URL: &str = "https://r.example/mcp";
    const AT: &str = "https://r.example/.well-known/oauth-protected-resource/mcp";

    fn found(body: &str) -> ResourceMetadata {
        match read(URL, AT, &Response::new(200, body)) {
            FoundResource::Metadata(metadata) => *metadata,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn metadata_is_read_as_real_servers_write_it() {
        // (body, issuers, scopes)
        let cases = [
            (
                r#"{"resource":"https://r.example/mcp","authorization_servers":["https://as.example/"],"scopes_supported":["mcp:tools"]}"#,
                vec!["https://as.example/"],
                vec!["mcp:tools"],
            ),
            (
                r#"{"resource":"https://r.example/mcp","authorization_servers":["https://as.example"],"bearer_methods_supported":["header"]}"#,
                vec!["https://as.example"],
                vec![],
            ),
            (
                r#"{"resource":"https://r.example/mcp","authorization_servers":["https://a.example/.well-known/oauth-authorization-server","https://b.example/t","https://b.example/t"]}"#,
                vec!["https://a.example/.well-known/oauth-authorization-server", "https://b.example/t"],
                vec![],
            ),
        ];
        for (body, authorization_servers, scopes_supported) in cases {
            let wanted = ResourceMetadata {
                resource: URL.to_owned(),
                authorization_servers: authorization_servers.into_iter().map(str::to_owned).collect(),
                scopes_supported: scopes_supported.into_iter().map(str::to_owned).collect(),
                departures: Vec::new(),
            };
            assert_eq!(found(body), wanted, "{body}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn departures_from_the_standards_are_named() {
        let cases = [
            (r#"{"resource":"https://r.example","authorization_servers":["https://a"]}"#,
             "RFC 9728 section 3.3: the resource https://r.example is a parent of the address"),
            (r#"{"resource":"https://r.example/mcp/","authorization_servers":["https://a"]}"#,
             "RFC 9728 section 3.3: the resource is written https://r.example/mcp/, not as its address"),
            (r#"{"resource":"https://r.example/mcp","authorization_server":"https://a"}"#,
             "RFC 9728 section 2: authorization_server takes the place of authorization_servers"),
            (r#"{"resource":"https://r.example/mcp","authorization_servers":"https://a"}"#,
             "RFC 9728 section 2: authorization_servers is one text and no list"),
            (r#"{"resource":"https://r.example/mcp","authorization_servers":["http://b","https://a"]}"#,
             "RFC 8414 section 2: an authorization server is left out: cannot use http://b: plain http is for loopback addresses only; use https"),
            (r#"{"resource":"https://r.example/mcp","authorization_servers":["https://a",7]}"#,
             "RFC 8414 section 2: an authorization server is left out: an entry is no address"),
            (r#"{"resource":"https://r.example/mcp","authorization_servers":["https://b/?x=1","https://a"]}"#,
             "RFC 8414 section 2: an authorization server is left out: cannot use the issuer https://b/?x=1: it has a query"),
            (r#"{"resource":"https://r.example/mcp","authorization_servers":["https://a"],"scopes_supported":["x","a b","",7]}"#,
             "RFC 6749 section 3.3: an entry of scopes_supported is no scope, and is left out"),
        ];
        for (body, departure) in cases {
            let metadata = found(body);
            assert_eq!(metadata.departures, [departure], "{body}");
            assert_eq!(metadata.authorization_servers, ["https://a"], "{body}");
            assert!(metadata.scopes_supported.iter().all(|scope| scope == "x"), "{body}");
        }
    }

    /// A browser opens an address with all of them.
    #[test]
    fn as_many_scopes_are_used_as_fit_into_an_address() {
        let scopes: Vec<String> = (0..10_000).map(|number| format!("s{number}")).collect();
        let body =
            json!({"resource": URL, "authorization_servers": ["https://a"], "scopes_supported": scopes});
        let metadata = found(&body.to_string());
        let used = metadata.scopes_supported.join(" ").len();
        assert!((NAMED_LIMIT - 6..NAMED_LIMIT).contains(&used), "{used}");
        assert_eq!(
            metadata.departures,
            ["RFC 9728 section 2: scopes_supported has more than 4096 bytes, and the rest is left out"]
        );
    }

    #[test]
    fn a_few_issuers_are_enough() {
        let many = |entry: &str, count: usize| -> String {
            let entries: Vec<Value> = (0..count).map(|n| json!(format!("{entry}{n}"))).collect();
            json!({"resource": URL, "authorization_servers": entries}).to_string()
        };
        let metadata = found(&many("https://a", 1000));
        assert_eq!(metadata.authorization_servers, ["https://a0", "https://a1", "https://a2", "https://a3"]);
        let refused = format!("{:?}", read(URL, AT, &Response::new(200, many("http://a", 1000))));
        assert!(
            refused.contains("no authorization server in it can be used: cannot use http://a0"),
            "{refused}"
        );
    }

    #[test]
    #[rustfmt::skip]
    fn metadata_that_must_not_be_used_is_told_from_no_metadata() {
        let another = "https://r.example/.well-known/oauth-protected-resource/mcp: it is of the resource https://r.example/mcp2, not of https://r.example/mcp";
        // (status, body, beginning of the outcome, text in the outcome)
        let cases = [
            (404, "{}",                                                     "Nothing", "status 404"),
            (302, "",                                                       "Nothing", "status 302"),
            (401, r#"{"resource":"https://r.example/mcp"}"#,                "Nothing", "status 401"),
            (200, "<html>",                                                 "Nothing", "no JSON object"),
            (200, "[]",                                                     "Nothing", "no JSON object"),
            (200, r#"{"resource":"https://r.exam"#,                         "Nothing", "no JSON object"),
            (200, r#"{"status":"ok"}"#,                                     "Nothing", "no resource in it"),
            (200, r#"{"authorization_servers":["https://a"]}"#,             "Refused", "it does not name its resource"),
            (200, r#"{"resource":["https://r.example/mcp"]}"#,              "Refused", "it does not name its resource"),
            (200, r#"{"resource":""}"#,                                     "Refused", "it does not name its resource"),
            (200, r#"{"resource":"https://r.example/mcp#x"}"#,              "Refused", "its resource https://r.example/mcp#x has a fragment"),
            (200, r#"{"resource":"https://r.example/mcp2"}"#,               "Refused", another),
            (200, r#"{"resource":"http://r.example/mcp"}"#,                 "Refused", "it is of the resource http://r.example/mcp, not of"),
            (200, r#"{"resource":"api://r"}"#,                              "Refused", "it is of the resource api://r, not of"),
            (200, r#"{"resource":"https://r.example/mcp"}"#,                "Refused", "it names no authorization server"),
            (200, r#"{"resource":"https://r.example","authorization_servers":[]}"#,         "Refused", "it names no authorization server"),
            (200, r#"{"resource":"https://r.example","authorization_servers":["x"]}"#,      "Refused", "can be used: cannot use x: it does not begin with https://"),
            (200, r#"{"resource":"https://r.example","authorization_servers":["https://a?x"]}"#, "Refused", "can be used: cannot use the issuer https://a?x: it has a query"),
        ];
        for (status, body, variant, text) in cases {
            let outcome = read(URL, AT, &Response::new(status, body));
            let shown = format!("{outcome:?}");
            assert!(shown.starts_with(variant) && shown.contains(text), "{status} {body}: {shown}");
            if let FoundResource::Refused(failure) = outcome {
                assert_eq!(failure.kind, Kind::Usage, "{body}");
            }
        }
    }

    #[test]
    fn the_hint_logs_in_at_the_resource_that_the_metadata_names() {
        let hint = |resource: &str| {
            let body = json!({"resource": resource, "authorization_servers": []}).to_string();
            match read(URL, AT, &Response::new(200, body)) {
                FoundResource::Refused(failure) => failure.hint,
                other => panic!("{other:?}"),
            }
        };
        let cases = [
            ("https://other.example/mcp", Some("onegrant login https://other.example/mcp")),
            ("http://r.example/mcp", None),
            ("api://r", None),
            (
                "https://r.example/mcp",
                Some(
                    "onegrant login ISSUER --resource https://r.example/mcp   # names the authorization server",
                ),
            ),
        ];
        for (resource, wanted) in cases {
            assert_eq!(hint(resource).as_deref(), wanted, "{resource}");
        }
        // A quote becomes four characters between quotes.
        for long in ["x".repeat(400), "'".repeat(100)] {
            assert_eq!(hint(&format!("https://r.example/{long}")), None);
        }
    }
}
