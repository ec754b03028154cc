//! Dynamic client registration (RFC 7591), and the end of a registration (RFC 7592).

use super::failure::answered;
use super::hints::login_hint;
use super::metadata::endpoint_url;
use super::response::Content;
use super::server_error::ServerError;
use super::token::DEVICE_CODE;
use super::{Body, JSON, Method, Request, Response, redirect};
use crate::error::{Failure, Kind};
use crate::grant::{ClientAuthentication, Document, Secret, UnixSeconds, is_visible_ascii};
use crate::text::printable;
use serde_json::{Map, Value, json};

/// The longest client identifier, in bytes. It is a part of an address that a browser opens. Servers that keep no list of their
/// clients put the whole registration into it.
const CLIENT_ID_LIMIT: usize = 4096;

/// Identifies this program among all clients of a server, whatever its version is (RFC 7591 section 2).
const SOFTWARE_ID: &str = "0b1c1947-2dc7-445e-b9e8-b443e4cdaffd";

/// The hint if the server refused.
const KNOWN_PROGRAMS: &str = "onegrant login --client-id ID   # this server registers only programs that it knows: use a client of your own";

/// The hint if the server cannot register a client that onegrant can use.
const OWN_CLIENT: &str = "onegrant login --client-id ID   # a client of your own needs no registration";

/// The hint if the server refused every redirect URI.
const OWN_REDIRECT_URI: &str = "onegrant login --client-id ID --redirect-uri URI   # a client of your own, with a redirect URI that this server takes";

/// What a client asks to be registered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The registration endpoint.
    pub endpoint: &'a str,
    /// The redirect URI on which onegrant listens.
    pub redirect_uri: &'a str,
    /// Whether the client also uses the device flow.
    pub uses_devices: bool,
    /// The scope that the login asks for.
    pub scope: Option<&'a str>,
}

/// What the server says about the new client (RFC 7591 section 3.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The client identifier.
    pub client_id: String,
    /// The client secret, if it gave one and the client has to use it.
    pub client_secret: Option<Secret>,
    /// How the client authenticates from now on.
    pub authentication: ClientAuthentication,
    /// When the secret ends. `None`: never.
    pub client_secret_expires_at: Option<UnixSeconds>,
    /// The client configuration endpoint (RFC 7592 section 3). It passed [`super::metadata::endpoint_url`].
    pub management_uri: Option<String>,
    /// The registration access token.
    pub management_token: Option<Secret>,
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRegistered {
    /// The failure, whose message begins with `cannot register a client at`.
    pub failure: Failure,
    /// Whether the server refused the redirect URI (`invalid_redirect_uri`): another one may do.
    pub refuses_redirect_uri: bool,
}

impl NotRegistered {
    /// There was no whole response.
    pub fn unanswered(request: &Request, failure: Failure) -> Self {
        let message = format!("cannot register a client at {}: {}", printable(&request.url), failure.message);
        let own_client = (failure.kind == Kind::Usage).then(|| OWN_CLIENT.to_owned());
        let hint = failure.hint.or(own_client);
        Self { failure: Failure { message, kind: failure.kind, hint }, refuses_redirect_uri: false }
    }
}

/// The request for a new client (RFC 7591 section 3.1). It asks for a public client: a secret that every user of a program
/// could read would be none (RFC 8252 section 8.5). `application_type` is of OpenID Connect Dynamic Client Registration section
/// 2: without it a server may refuse redirect URIs on loopback.
pub fn request(wanted: &Wanted) -> Request {
    let mut grant_types = vec!["authorization_code", "refresh_token"];
    // Strict servers refuse a grant type that they do not know.
    grant_types.extend(wanted.uses_devices.then_some(DEVICE_CODE));
    let mut metadata = json!({
        "client_name": "onegrant",
        "redirect_uris": [wanted.redirect_uri],
        "grant_types": grant_types,
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
        "software_id": SOFTWARE_ID,
        "software_version": env!("CARGO_PKG_VERSION"),
    });
    if let (Some(scope), Some(members)) =
        (wanted.scope.filter(|scope| !scope.is_empty()), metadata.as_object_mut())
    {
        members.insert("scope".to_owned(), scope.into());
    }
    let body = Body::Text { content_type: JSON, text: Secret::new(metadata.to_string()) };
    Request::new(Method::Post, wanted.endpoint, body)
}

/// Reads the response to [`request`] (RFC 7591 section 3.2). Any 2xx with a client identifier is a success. What the server
/// says about the client counts, whatever was asked for.
///
/// The failure is temporary for 429 and 5xx. Any other one is of usage: the same request would be refused again. A redirect is
/// not followed.
pub fn read(request: &Request, response: &Response, now: UnixSeconds) -> Result<Registered, NotRegistered> {
    let content = response.content();
    let error = ServerError::read(&content);
    let refuses_redirect_uri = error.is_any_of(&["invalid_redirect_uri"]);
    let members = match content {
        Content::Members(members) => members,
        _ => Map::new(),
    };
    // The server may repeat the new secrets in its words.
    let secrets =
        ["client_secret", "registration_access_token"].iter().filter_map(|name| text(&members, name));
    let request =
        secrets.fold(request.clone(), |request, secret| request.hiding_secret(&Secret::new(secret)));
    let fail = |kind, why: String, hint: Option<&str>| {
        let message = format!("cannot register a client at {}: {why}", printable(&request.url));
        NotRegistered { failure: Failure::new(kind, message).hint_of(hint), refuses_redirect_uri }
    };
    let said = || format!("the server answered with {}", answered(&request, response));
    match response.status {
        200..300 if members.contains_key("client_id") => {
            registered(&members, now).map_err(|why| fail(Kind::Usage, request.shown(&why), Some(OWN_CLIENT)))
        }
        200..300 if !error.is_error => {
            let why = if members.is_empty() { "no JSON object" } else { "no client_id" };
            Err(fail(Kind::Usage, format!("{} and {why}", said()), Some(OWN_CLIENT)))
        }
        300..400 => {
            let why = redirect::unfollowed(&request, response).unwrap_or_else(said);
            Err(fail(Kind::Usage, why, Some(OWN_CLIENT)))
        }
        429 | 500.. => Err(fail(Kind::Temporary, said(), None)),
        _ => {
            let scope = login_hint("invalid_scope").filter(|_| error.is_any_of(&["invalid_scope"]));
            let hint = if refuses_redirect_uri { OWN_REDIRECT_URI } else { KNOWN_PROGRAMS };
            Err(fail(Kind::Usage, said(), Some(scope.unwrap_or(hint))))
        }
    }
}

/// A member that is a text. An empty one counts as absent.
fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Reads client information (RFC 7591 section 3.2.1). Fails with the reason why no login could use this client.
fn registered(members: &Map<String, Value>, now: UnixSeconds) -> Result<Registered, String> {
    let client_id =
        text(members, "client_id").filter(|id| id.len() <= CLIENT_ID_LIMIT && is_visible_ascii(id));
    let client_id =
        client_id.ok_or("the server gave a client_id that is empty, too long, or not visible ASCII")?;
    let secret = text(members, "client_secret").map(Secret::new);
    let method = text(members, "token_endpoint_auth_method");
    // Without a method `client_secret_basic` is the default (section 2), but servers leave it out for public clients, too.
    let (authentication, client_secret) = match (method, secret) {
        // Some servers give a secret to every client. One that must not be sent is not kept.
        (Some("none"), _) | (None, None) => (ClientAuthentication::None, None),
        (Some("client_secret_basic") | None, Some(secret)) => (ClientAuthentication::Basic, Some(secret)),
        (Some("client_secret_post"), Some(secret)) => (ClientAuthentication::Post, Some(secret)),
        (Some(method @ ("client_secret_basic" | "client_secret_post")), None) => {
            return Err(format!("the server wants {method} of the client, and gave no client_secret"));
        }
        (Some(method), _) => {
            return Err(format!(
                "the server wants a token_endpoint_auth_method that onegrant does not use here: {method}"
            ));
        }
    };
    // A secret that was made just now has not ended: such a time is not meant.
    let ends = members.get("client_secret_expires_at").and_then(instant).filter(|at| *at > now);
    let management_uri = text(members, "registration_client_uri").filter(|uri| endpoint_url(uri).is_ok());
    let management_token = text(members, "registration_access_token").filter(|token| is_visible_ascii(token));
    let (management_uri, management_token) = management_uri.zip(management_token).unzip();
    Ok(Registered {
        client_id: client_id.to_owned(),
        client_secret_expires_at: ends.filter(|_| client_secret.is_some()),
        client_secret,
        authentication,
        management_uri: management_uri.map(str::to_owned),
        management_token: management_token.map(Secret::new),
    })
}

/// An instant as a number or as text, in whole seconds. `None` for anything else, and for 0, which means never.
fn instant(value: &Value) -> Option<UnixSeconds> {
    let digits = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    digits.split('.').next()?.parse().ok().filter(|instant| *instant > 0)
}

/// The request that removes the registration of the client (RFC 7592 section 2.3). `None` if a person named the client, or the
/// server gave no address for it, or an address of another origin than that of its registration endpoint: no server may make
/// onegrant send a DELETE to a service of the network that onegrant runs in.
pub fn removal(document: &Document) -> Option<Request> {
    let registration = document.registration.as_ref()?;
    let uri = registration.management_uri.as_deref()?;
    let (to, endpoint) = (endpoint_url(uri).ok()?, endpoint_url(&registration.endpoint).ok()?);
    if to != endpoint {
        return None;
    }
    let token = registration.management_token.as_ref()?;
    let authorization = Secret::new(format!("Bearer {}", token.expose()));
    // Some servers answer with the whole client, and its secret.
    Some(Request::new(Method::Delete, uri, Body::None).authorized(Some(&authorization)).hiding(document))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = 1_795_900_000;

    fn wanted() -> Wanted<'static> {
        Wanted {
            endpoint: "https://as.example/register",
            redirect_uri: "http://127.0.0.1:49961/callback",
            uses_devices: false,
            scope: None,
        }
    }

    fn body(wanted: &Wanted) -> Value {
        let (content_type, text) = request(wanted).body.encoded().unwrap();
        assert_eq!(content_type, "application/json");
        serde_json::from_str(text.expose()).unwrap()
    }

    #[test]
    fn the_request_asks_for_a_public_native_client_with_this_redirect_uri() {
        let request = request(&wanted());
        assert_eq!((request.method, request.url.as_str()), (Method::Post, "https://as.example/register"));
        assert_eq!(request.headers.iter().count(), 0);
        let plain = json!({
            "client_name": "onegrant",
            "redirect_uris": ["http://127.0.0.1:49961/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
            "software_id": SOFTWARE_ID,
            "software_version": env!("CARGO_PKG_VERSION"),
        });
        assert_eq!(body(&wanted()), plain);
        assert_eq!(body(&Wanted { scope: Some(""), ..wanted() }), plain);
        let devices = body(&Wanted { uses_devices: true, scope: Some("read write"), ..wanted() });
        assert_eq!(
            devices["grant_types"],
            json!(["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"])
        );
        assert_eq!(devices["scope"], "read write");
    }

    fn answer(status: u16, body: &str) -> Result<Registered, NotRegistered> {
        read(&request(&wanted()), &Response::new(status, body), NOW)
    }

    #[test]
    #[rustfmt::skip]
    fn clients_are_read_as_real_servers_give_them() {
        use ClientAuthentication::{Basic, None as Public, Post};
        // (server, status, body, client_id, client_secret, method, end of the secret)
        let cases = [
            ("mcp-ts, public", 201,
             r#"{"redirect_uris":["http://127.0.0.1:49961/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"onegrant","scope":"mcp:tools","client_id":"b4d9f5e3-b98c","client_id_issued_at":1795915471}"#,
             "b4d9f5e3-b98c", None, Public, None),
            ("mcp-ts, confidential, no method", 201,
             r#"{"client_secret":"4397b62242f8b26b06f1","client_secret_expires_at":1798507471,"client_id":"6f7ac2fd-5d92","client_id_issued_at":1795915471}"#,
             "6f7ac2fd-5d92", Some("4397b62242f8b26b06f1"), Basic, Some(1_798_507_471)),
            ("fastmcp, confidential", 201,
             r#"{"token_endpoint_auth_method":"client_secret_post","application_type":"native","client_id":"1de447b2-01f7","client_secret":"00deec6763bc49da6ede","client_id_issued_at":1795913339,"client_secret_expires_at":0}"#,
             "1de447b2-01f7", Some("00deec6763bc49da6ede"), Post, None),
            ("workers, confidential", 201,
             r#"{"client_id":"1ylfIDqNHw5Ap_En","token_endpoint_auth_method":"client_secret_basic","client_secret":"1-EbdIUcdbKU2L","client_secret_expires_at":1803689848,"client_secret_issued_at":1795913848}"#,
             "1ylfIDqNHw5Ap_En", Some("1-EbdIUcdbKU2L"), Basic, Some(1_803_689_848)),
            ("canaille, public with a secret", 201,
             r#"{"client_id":"34c21e0e-bd7c","client_id_issued_at":1795914352,"client_secret":"7e74529b2c9e943e","client_secret_expires_at":0,"token_endpoint_auth_method":"none"}"#,
             "34c21e0e-bd7c", None, Public, None),
            ("a public client's secret that ends", 201,
             r#"{"client_id":"c","client_secret":"7e74529b2c9e943e","client_secret_expires_at":1798507471,"token_endpoint_auth_method":"none"}"#,
             "c", None, Public, None),
            ("glewlwyd", 200,
             r#"{"token_endpoint_auth_method":"none","application_type":"native","client_id":"wpmxji13dsgmrdjr","client_id_issued_at":1795915327,"client_secret_expires_at":0}"#,
             "wpmxji13dsgmrdjr", None, Public, None),
            ("lemonldap", 201,
             r#"{"client_name":"onegrant","client_secret":"4jbqnURWkJZkBTWgBcAHHPa3FRl58i","client_id_expires_at":0,"logo_uri":null,"client_id":"R/JwgghuBpSTR95yW2J3s0ZAG8gucS","client_id_issued_at":"1795914660"}"#,
             "R/JwgghuBpSTR95yW2J3s0ZAG8gucS", Some("4jbqnURWkJZkBTWgBcAHHPa3FRl58i"), Basic, None),
            ("no secret in words", 201, r#"{"client_id":"c","client_secret":"","client_secret_expires_at":0}"#, "c", None, Public, None),
            ("no secret at all", 201, r#"{"client_id":"c","client_secret":null,"token_endpoint_auth_method":null}"#, "c", None, Public, None),
            ("an end as text", 200, r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":" 1798507471 "}"#, "c", Some("s"), Basic, Some(1_798_507_471)),
            ("an end with a fraction", 200, r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":1798507471.9}"#, "c", Some("s"), Basic, Some(1_798_507_471)),
            ("never, as text", 200, r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":"0"}"#, "c", Some("s"), Basic, None),
            ("an end before the beginning", 200, r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":3600}"#, "c", Some("s"), Basic, None),
            ("no end that can be read", 200, r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":"soon"}"#, "c", Some("s"), Basic, None),
        ];
        for (server, status, body, client_id, secret, authentication, ends) in cases {
            let wanted = Registered {
                client_id: client_id.to_owned(),
                client_secret: secret.map(Secret::new),
                authentication,
                client_secret_expires_at: ends,
                management_uri: None,
                management_token: None,
            };
            assert_eq!(answer(status, body), Ok(wanted), "{server}");
        }
    }

    #[test]
    fn a_registration_is_managed_with_both_members_or_not_at_all() {
        let managed = |uri: &str, token: &str| {
            let body =
                json!({"client_id": "c", "registration_client_uri": uri, "registration_access_token": token});
            let registered = answer(201, &body.to_string()).unwrap();
            registered.management_uri.zip(registered.management_token.map(|token| token.expose().to_owned()))
        };
        let uri = "https://as.example/register/c";
        assert_eq!(managed(uri, "t"), Some((uri.to_owned(), "t".to_owned())));
        for (uri, token) in
            [("", "t"), (uri, ""), ("http://as.example/c", "t"), ("/register/c", "t"), (uri, "a\r\nb")]
        {
            let body =
                json!({"client_id": "c", "registration_client_uri": uri, "registration_access_token": token});
            let registered = answer(201, &body.to_string()).unwrap();
            assert_eq!(
                (registered.management_uri, registered.management_token),
                (None, None),
                "{uri} {token}"
            );
        }
    }

    #[test]
    fn a_registration_is_removed_with_its_own_token() {
        let registered = |members: Value| -> Document {
            let endpoint = "https://as.example/register";
            let mut whole =
                json!({"issuer": "i", "endpoint": endpoint, "redirect_uri": "r", "registered_at": 1});
            whole.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            Document {
                client_secret: Some(Secret::new("client-secret")),
                registration: serde_json::from_value(whole).unwrap(),
                ..Document::new("https://as.example", "https://as.example/token")
            }
        };
        let uri = "https://as.example/register/c";
        let request =
            removal(&registered(json!({"management_uri": uri, "management_token": "management-token"})))
                .unwrap();
        assert_eq!((request.method, request.url.as_str(), &request.body), (Method::Delete, uri, &Body::None));
        assert_eq!(request.headers.get("authorization"), Some("Bearer management-token"));
        assert_eq!(request.shown("no management-token, client-secret"), "no [secret], [secret]");
        for members in [json!({}), json!({"management_uri": uri}), json!({"management_token": "t"})] {
            assert_eq!(removal(&registered(members.clone())), None, "{members}");
        }
        let elsewhere =
            ["http://127.0.0.1:8080/c", "https://other.example/c", "https://as.example:444/c", "c"];
        for uri in elsewhere {
            let members = json!({"management_uri": uri, "management_token": "t"});
            assert_eq!(removal(&registered(members)), None, "{uri}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_refusal_names_the_endpoint_and_the_words_of_the_server() {
        let long = format!(r#"{{"client_id":"{}"}}"#, "x".repeat(CLIENT_ID_LIMIT + 1));
        let unusable = "the server gave a client_id that is empty, too long, or not visible ASCII";
        // (status, body, kind, reason, hint)
        let cases = [
            (400, r#"{"error":"invalid_client_metadata","error_description":"grant_types must have…"}"#, Kind::Usage,
             "the server answered with status 400: invalid_client_metadata: grant_types must have…", Some(KNOWN_PROGRAMS)),
            (400, r#"{"error":"invalid_request","error_description":"not on the allow list"}"#, Kind::Usage,
             "the server answered with status 400: invalid_request: not on the allow list", Some(KNOWN_PROGRAMS)),
            (400, r#"{"error":"invalid_redirect_uri"}"#, Kind::Usage,
             "the server answered with status 400: invalid_redirect_uri", Some(OWN_REDIRECT_URI)),
            (400, r#"{"error":"invalid_scope"}"#, Kind::Usage,
             "the server answered with status 400: invalid_scope", login_hint("invalid_scope")),
            (403, "Forbidden", Kind::Usage, "the server answered with status 403: Forbidden", Some(KNOWN_PROGRAMS)),
            (401, "", Kind::Usage, "the server answered with status 401", Some(KNOWN_PROGRAMS)),
            (404, "<html><title>Not \u{1b}[31mFound</title>", Kind::Usage, "the server answered with status 404: Not [31mFound", Some(KNOWN_PROGRAMS)),
            (429, "", Kind::Temporary, "the server answered with status 429", None),
            (503, r#"{"error":"temporarily_unavailable"}"#, Kind::Temporary, "the server answered with status 503: temporarily_unavailable", None),
            (302, "", Kind::Usage, "the server answered with status 302, a redirect, which is not followed", Some(OWN_CLIENT)),
            (200, r#"{"ok":false,"error":"not_allowed"}"#, Kind::Usage, "the server answered with status 200: not_allowed", Some(KNOWN_PROGRAMS)),
            (200, "<html><title>Sign in</title>", Kind::Usage, "the server answered with status 200: Sign in and no JSON object", Some(OWN_CLIENT)),
            (201, "", Kind::Usage, "the server answered with status 201 and no JSON object", Some(OWN_CLIENT)),
            (201, r#"{"client_secret":"s"}"#, Kind::Usage, "the server answered with status 201 and no client_id", Some(OWN_CLIENT)),
            (201, r#"{"client_id":7}"#, Kind::Usage, unusable, Some(OWN_CLIENT)),
            (201, r#"{"client_id":""}"#, Kind::Usage, unusable, Some(OWN_CLIENT)),
            (201, r#"{"client_id":"a\nb"}"#, Kind::Usage, unusable, Some(OWN_CLIENT)),
            (201, &long, Kind::Usage, unusable, Some(OWN_CLIENT)),
            (201, r#"{"client_id":"c","token_endpoint_auth_method":"private_key_jwt"}"#, Kind::Usage,
             "the server wants a token_endpoint_auth_method that onegrant does not use here: private_key_jwt", Some(OWN_CLIENT)),
            (201, r#"{"client_id":"c","client_secret":"","token_endpoint_auth_method":"client_secret_post"}"#, Kind::Usage,
             "the server wants client_secret_post of the client, and gave no client_secret", Some(OWN_CLIENT)),
        ];
        for (status, body, kind, why, hint) in cases {
            let NotRegistered { failure, refuses_redirect_uri } = answer(status, body).unwrap_err();
            let message = format!("cannot register a client at https://as.example/register: {why}");
            assert_eq!(failure, Failure { kind, message, hint: hint.map(str::to_owned) }, "{status} {body}");
            assert_eq!(refuses_redirect_uri, body.contains("invalid_redirect_uri"), "{status} {body}");
        }
    }

    #[test]
    fn a_redirect_is_named_and_not_followed() {
        let response = Response::new(307, "").with_header("Location", "https://other.example/register");
        let failure = read(&request(&wanted()), &response, NOW).unwrap_err().failure;
        assert_eq!(
            failure.message,
            "cannot register a client at https://as.example/register: the server answered with status 307, a redirect to \
             https://other.example/register, which is not followed"
        );
        assert_eq!(failure.kind, Kind::Usage);
    }

    #[test]
    fn a_new_secret_is_not_in_the_message() {
        let body = r#"{"client_id":"","client_secret":"new-secret-1","registration_access_token":"new-token-2",
            "error":"server_error","error_description":"new-secret-1 and new-token-2 are lost"}"#;
        for status in [400, 500] {
            let message = answer(status, body).unwrap_err().failure.message;
            assert!(message.ends_with("server_error: [secret] and [secret] are lost"), "{message}");
        }
    }
}
