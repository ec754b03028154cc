//! The authorization code grant (RFC 6749 section 4.1): its request, and the response that the browser brings.

use super::client_authentication::authenticate;
use super::failure::{FailedRequest, START_BROWSER_FLOW};
use super::hints::{REGISTER, login_hint, target_hint};
use super::pkce::{RANDOM_BYTES, push_challenge, random_text};
use super::response::Content;
use super::server_error::ServerError;
use super::token::{classify, words};
use super::{Authentication, Parameters, Request, Response, providers, redact};
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, UnixSeconds, is_visible_ascii};
use crate::text::{cleaned, printable};
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest request_uri, in bytes: it has to fit into an address that a browser takes.
const REQUEST_URI_LIMIT: usize = 2048;

/// One authorization request. Its random parts belong to this login alone, and no store keeps them.
#[derive(Clone, Debug)]
pub struct Authorization<'a> {
    document: &'a Document,
    endpoint: &'a str,
    redirect_uri: String,
    state: Secret,
    code_verifier: Secret,
    nonce: Option<Secret>,
}

/// What came to the redirect URI, or what a person pasted instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationResponse {
    /// Not the response to this request, and why. Any program could have sent it, so the login goes on.
    Foreign(&'static str),
    /// The authorization code (RFC 6749 section 4.1.2).
    Granted(Secret),
    /// There will be no grant (RFC 6749 section 4.1.2.1), or it must not be used (RFC 9207 section 2.4).
    Refused(Failure),
}

impl<'a> Authorization<'a> {
    /// A request to the authorization endpoint of the document. `None` if there is none. `random` becomes the state, the
    /// code_verifier and the nonce.
    pub fn new(document: &'a Document, redirect_uri: &str, random: [[u8; RANDOM_BYTES]; 3]) -> Option<Self> {
        let [state, code_verifier, nonce] = random.map(random_text);
        Some(Self {
            document,
            endpoint: document.authorization_endpoint.as_deref()?,
            redirect_uri: redirect_uri.to_owned(),
            state,
            code_verifier,
            nonce: has_scope(document, "openid").then_some(nonce),
        })
    }

    /// The redirect URI, which the token request repeats letter for letter (RFC 6749 section 4.1.3).
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// The secret that binds the token request to this request (RFC 7636 section 4.5).
    pub fn code_verifier(&self) -> &Secret {
        &self.code_verifier
    }

    /// The value that the ID token must repeat (OpenID Connect Core section 3.1.2.1), if an ID token was requested.
    pub fn nonce(&self) -> Option<&Secret> {
        self.nonce.as_ref()
    }

    /// The address that a person opens (RFC 6749 section 4.1.1).
    pub fn address(&self) -> String {
        let mut parameters = Parameters::default();
        parameters.push("client_id", &self.document.client_id);
        self.push_to(&mut parameters);
        self.with_query(&parameters)
    }

    /// The pushed authorization request (RFC 9126 section 2.1). `None` if the server has no endpoint for it.
    pub fn pushed(&self, authentication: &Authentication) -> Option<Request> {
        let url = self.document.pushed_authorization_request_endpoint.as_deref()?;
        let mut parameters = Parameters::default();
        let authorization = authenticate(self.document, authentication, &mut parameters);
        if parameters.get("client_id").is_none() {
            parameters.push("client_id", &self.document.client_id);
        }
        self.push_to(&mut parameters);
        let request = Request::form(url, parameters).authorized(authorization.as_ref());
        Some(request.hiding(self.document))
    }

    /// The address that a person opens after the request was pushed (RFC 9126 section 4).
    pub fn address_of_pushed(&self, request_uri: &str) -> String {
        let mut parameters = Parameters::default();
        parameters.push("client_id", &self.document.client_id);
        parameters.push("request_uri", request_uri);
        self.with_query(&parameters)
    }

    fn push_to(&self, parameters: &mut Parameters) {
        parameters.push("response_type", "code");
        parameters.push("redirect_uri", &self.redirect_uri);
        parameters.push("scope", self.document.scope.as_deref().unwrap_or_default());
        parameters.push_secret("state", &self.state);
        push_challenge(parameters, &self.code_verifier);
        if let Some(nonce) = &self.nonce {
            parameters.push_secret("nonce", nonce);
        }
        // Without this parameter a server may silently leave out the refresh token (OpenID Connect Core section 11).
        let is_told = self.document.parameters.contains_key("prompt");
        if has_scope(self.document, "offline_access") && !is_told && !self.endpoint_has("prompt") {
            parameters.push("prompt", "consent");
        }
        push_configured(parameters, self.document);
    }

    /// The address of the endpoint with these parameters. A query that it has already is kept (RFC 6749 section 3.1).
    fn with_query(&self, parameters: &Parameters) -> String {
        let joint = match self.endpoint.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some((_, query)) if query.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{}{joint}{}", self.endpoint, parameters.encode().expose())
    }

    fn endpoint_has(&self, parameter: &str) -> bool {
        let query = self.endpoint.split_once('?').map_or("", |(_, query)| query);
        form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == parameter)
    }

    /// Reads the `query` of a request to the redirect URI.
    pub fn read(&self, query: &str) -> AuthorizationResponse {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            // No parameter may be repeated (RFC 6749 section 3.1).
            if parameters.insert(name, value).is_some() {
                return AuthorizationResponse::Foreign("a parameter occurs twice");
            }
        }
        // A parameter without a value counts as none (RFC 6749 section 3.1).
        let get = |name: &str| parameters.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let Some(state) = get("state") else {
            return AuthorizationResponse::Foreign("it has no state");
        };
        // Digests are compared because the time of that says nothing about the texts.
        if Secret::new(state).sha256() != self.state.sha256() {
            return AuthorizationResponse::Foreign("it answers another login (its state is not this one's)");
        }
        let response = match (get("error"), get("code")) {
            (Some(error), _) => AuthorizationResponse::Refused(self.refusal(error, get("error_description"))),
            (None, Some(code)) if is_visible_ascii(code) => AuthorizationResponse::Granted(Secret::new(code)),
            (None, Some(_)) => return AuthorizationResponse::Foreign("its code holds control characters"),
            (None, None) => return AuthorizationResponse::Foreign("it holds neither a code nor an error"),
        };
        match self.check_issuer(get("iss"), matches!(response, AuthorizationResponse::Refused(_))) {
            Ok(()) => response,
            Err(failure) => AuthorizationResponse::Refused(failure),
        }
    }

    /// Checks the issuer in the response (RFC 9207 section 2.4). An error without an issuer is accepted: some servers
    /// that promise the issuer leave it out of errors (django-oauth-toolkit 3.4), and a login that ends early gives an
    /// attacker nothing.
    fn check_issuer(&self, issuer: Option<&str>, is_error: bool) -> Result<(), Failure> {
        let refuse = |why: String| {
            let failure =
                Failure::new(Kind::LoginRequired, format!("cannot trust the answer of the browser: {why}"));
            Err(failure.hint("onegrant login   # another server may have answered in the place of this one"))
        };
        match (issuer, self.document.known_issuer()) {
            (Some(issuer), Some(known)) if issuer != known => {
                refuse(format!("it is of the issuer {}, not of {}", self.shown(issuer), printable(known)))
            }
            (None, _) if self.document.authorization_response_iss && !is_error => {
                refuse("it does not name its issuer (iss), as this server announces".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The failure for an error of the authorization endpoint (RFC 6749 section 4.1.2.1). For all other errors, such as
    /// those of OpenID Connect Core section 3.1.2.6, a person has to log in.
    fn refusal(&self, error: &str, description: Option<&str>) -> Failure {
        let what = words(&self.shown(error), description.map(|text| self.shown(text)).as_deref());
        let hint = match error {
            "invalid_target" => target_hint(!self.document.resource_indicators().is_empty()),
            // A login made the client, so it can make another one.
            "unauthorized_client" | "invalid_client" if self.document.registration.is_some() => REGISTER,
            error => login_hint(error).unwrap_or("onegrant login"),
        };
        let failed = |kind, why: &str| Failure::new(kind, format!("cannot log in{why} {what}")).hint(hint);
        match error {
            "invalid_request"
            | "invalid_scope"
            | "invalid_target"
            | "unauthorized_client"
            | "unsupported_response_type" => failed(Kind::Usage, ": the request was refused:"),
            "server_error" | "temporarily_unavailable" => failed(Kind::Temporary, " now: the server says"),
            _ => failed(Kind::LoginRequired, ": the request was refused:"),
        }
    }

    /// Text that came through the browser, fit to be shown.
    fn shown(&self, text: &str) -> String {
        let own = [&self.state, &self.code_verifier].into_iter().chain(&self.nonce);
        let secrets: Vec<&Secret> = own.chain(self.document.secrets()).collect();
        printable(&redact(&cleaned(text), &secrets))
    }
}

/// Adds what the authorization request carries besides its own parameters: what every request of this document carries, and
/// what its provider needs there.
fn push_configured(parameters: &mut Parameters, document: &Document) {
    parameters.push_configured(document);
    let wanted = providers::of(document).map_or(&[][..], |provider| provider.authorization_parameters);
    for (name, value) in wanted {
        if parameters.get(name).is_none() {
            parameters.push(name, value);
        }
    }
}

fn has_scope(document: &Document, scope: &str) -> bool {
    document.scope.as_deref().unwrap_or_default().split_ascii_whitespace().any(|name| name == scope)
}

/// Reads the response to a pushed request (RFC 9126 section 2.2): the request_uri.
pub fn read_pushed(
    request: &Request,
    response: &Response,
    now: UnixSeconds,
) -> Result<String, FailedRequest> {
    let content = response.content();
    let is_error = ServerError::read(&content).is_error;
    match content {
        Content::Members(members) if response.is_success() && !is_error => {
            let request_uri = members.get("request_uri").and_then(Value::as_str).unwrap_or_default();
            let is_usable = is_visible_ascii(request_uri) && request_uri.len() <= REQUEST_URI_LIMIT;
            let unusable = || {
                let why = "the answer to the pushed request has no usable request_uri";
                Failure::new(Kind::Temporary, format!("cannot start the browser flow: {why}"))
            };
            is_usable.then(|| request_uri.to_owned()).ok_or_else(|| unusable().into())
        }
        _ => Err(classify(request, response, now).failed_request(&START_BROWSER_FLOW)),
    }
}

/// The query in the text that a person pasted: the whole address that the browser was sent to, or only its query.
pub fn pasted_query(line: &str) -> Option<&str> {
    let line = line.trim();
    let is_address = line.starts_with(['?', '/']) || line.contains("://");
    let query = if is_address { line.split_once('?').map(|(_, query)| query) } else { Some(line) };
    query.and_then(|query| query.split('#').next()).filter(|query| query.contains('='))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{document, form};
    use super::*;
    use crate::grant::ClientAuthentication;

    const REDIRECT_URI: &str = "http://127.0.0.1:7/callback";
    const STATE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

    fn with_endpoint(endpoint: &str) -> Document {
        let mut document = document();
        document.issuer = Some("https://as.example".to_owned());
        document.authorization_endpoint = Some(endpoint.to_owned());
        document
    }

    fn authorization(document: &Document) -> Authorization<'_> {
        Authorization::new(document, REDIRECT_URI, [[1; 32], [2; 32], [3; 32]]).unwrap()
    }

    fn parameters(address: &str) -> Vec<(String, String)> {
        let (_, query) = address.split_once('?').unwrap();
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    fn get<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = parameters.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} occurs twice");
        value
    }

    #[test]
    fn an_authorization_request_carries_what_its_provider_wants_and_no_other_request_does() {
        let mut document = document();
        document.provider = Some("google".to_owned());
        document.parameters.insert("prompt".to_owned(), "select_account".to_owned());
        let (mut authorization, mut other) = (Parameters::default(), Parameters::default());
        push_configured(&mut authorization, &document);
        other.push_configured(&document);
        assert_eq!(authorization.encode().expose(), "prompt=select_account&access_type=offline");
        assert_eq!(other.encode().expose(), "prompt=select_account");
        document.provider = Some("a later one".to_owned());
        let mut unknown = Parameters::default();
        push_configured(&mut unknown, &document);
        assert_eq!(unknown, other);
    }

    /// RFC 6749 section 4.1.1, RFC 7636 section 4.3, RFC 8707 section 2.
    #[test]
    fn the_request_says_what_the_standards_ask_for_and_what_was_configured() {
        let mut document = with_endpoint("https://as.example/authorize?tenant=a");
        document.scope = Some("openid offline_access".to_owned());
        document.resource = vec!["https://r1".to_owned(), "https://r2".to_owned()];
        document.audience = Some("aud".to_owned());
        for (name, value) in [("state", "mine"), ("hint", "me & you"), ("code_challenge_method", "plain")] {
            document.parameters.insert(name.to_owned(), value.to_owned());
        }
        let authorization = authorization(&document);
        let address = authorization.address();
        assert!(
            address.starts_with("https://as.example/authorize?tenant=a&client_id=client+1&"),
            "{address}"
        );
        let sent = parameters(&address);
        let verifier = authorization.code_verifier().expose();
        assert_eq!(verifier.len(), 43, "RFC 7636 section 4.1");
        let mut challenge = Parameters::default();
        push_challenge(&mut challenge, authorization.code_verifier());
        for (name, wanted) in [
            ("response_type", "code"),
            ("redirect_uri", REDIRECT_URI),
            ("scope", "openid offline_access"),
            ("state", STATE),
            ("code_challenge", challenge.get("code_challenge").unwrap()),
            ("code_challenge_method", "S256"),
            ("nonce", authorization.nonce().unwrap().expose()),
            ("prompt", "consent"),
            ("audience", "aud"),
            ("hint", "me & you"),
        ] {
            assert_eq!(get(&sent, name), Some(wanted), "{name}");
        }
        assert_eq!(sent.iter().filter(|(name, _)| name == "resource").count(), 2);
        assert!(!address.contains(verifier));
    }

    #[test]
    fn the_scope_adds_prompt_and_nonce_and_a_given_prompt_wins() {
        let cases = [
            (None, None, None, false),
            (Some("openid"), None, None, true),
            (Some("a offline_access"), None, Some("consent"), false),
            (Some("openid offline_access"), Some("login"), Some("login"), true),
            (Some("offline_access_not openid_not"), None, None, false),
        ];
        for (scope, prompt, wanted, has_nonce) in cases {
            let mut document = with_endpoint("https://as.example/authorize");
            document.scope = scope.map(str::to_owned);
            if let Some(prompt) = prompt {
                document.parameters.insert("prompt".to_owned(), prompt.to_owned());
            }
            let sent = parameters(&authorization(&document).address());
            assert_eq!(get(&sent, "prompt"), wanted, "{scope:?}");
            assert_eq!(get(&sent, "nonce").is_some(), has_nonce, "{scope:?}");
        }
        let mut document = with_endpoint("https://as.example/authorize?prompt=login&");
        document.scope = Some("offline_access".to_owned());
        assert_eq!(get(&parameters(&authorization(&document).address()), "prompt"), Some("login"));
    }

    /// RFC 9126 section 2.1: the parameters with client authentication; section 4: two in the address.
    #[test]
    fn a_pushed_request_holds_everything_and_the_address_two_parameters() {
        let mut document = with_endpoint("https://as.example/authorize");
        assert_eq!(authorization(&document).pushed(&Authentication::None), None);
        document.pushed_authorization_request_endpoint = Some("https://as.example/par".to_owned());
        for way in [ClientAuthentication::None, ClientAuthentication::Basic, ClientAuthentication::Post] {
            document.client_auth = way;
            document.client_secret = Some(Secret::new("s3cret"));
            let authorization = authorization(&document);
            let request = authorization.pushed(&Authentication::stored(&document)).unwrap();
            assert_eq!(request.headers.get("authorization").is_some(), way == ClientAuthentication::Basic);
            let sent = parameters(&format!("?{}", form(&request).encode().expose()));
            assert_eq!(get(&sent, "client_id"), Some("client 1"), "{way:?}");
            assert_eq!(get(&sent, "state"), Some(STATE));
            assert_eq!(request.shown(&format!("no {STATE}")), "no [secret]");
            assert_eq!(
                authorization.address_of_pushed("urn:a b"),
                "https://as.example/authorize?client_id=client+1&request_uri=urn%3Aa+b"
            );
        }
    }

    #[test]
    fn the_answer_to_a_pushed_request_is_a_request_uri_or_a_failure() {
        let mut document = with_endpoint("https://as.example/authorize");
        document.pushed_authorization_request_endpoint = Some("https://as.example/par".to_owned());
        let request = authorization(&document).pushed(&Authentication::None).unwrap();
        let cases = [
            (201, r#"{"request_uri":"urn:x","expires_in":60}"#, "Ok(\"urn:x\")"),
            (201, r#"{"request_uri":"a\nb"}"#, "Err(Failure { kind: Temporary"),
            (201, "{}", "Err(Failure { kind: Temporary"),
            (400, r#"{"error":"invalid_request"}"#, "Err(Failure { kind: Usage"),
            (401, r#"{"error":"invalid_client"}"#, "Err(Failure { kind: Usage"),
            (503, "", "Err(Failure { kind: Temporary"),
        ];
        for (status, body, wanted) in cases {
            let response = Response::new(status, body);
            let read = read_pushed(&request, &response, 0).map_err(|failed| failed.failure);
            let found = format!("{read:?}");
            assert!(found.starts_with(wanted), "{status} {body}: {found}");
        }
    }

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let document = with_endpoint("https://as.example/authorize");
        let authorization = authorization(&document);
        let cases = [
            (format!("code=c%2B1&state={STATE}&session_state=x"), "Granted"),
            (format!("code=c&state={STATE}&iss=https%3A%2F%2Fas.example"), "Granted"),
            ("code=c".to_owned(), "Foreign(\"it has no state\")"),
            ("code=c&state=".to_owned(), "Foreign(\"it has no state\")"),
            ("code=c&state=other".to_owned(), "Foreign(\"it answers another login"),
            (format!("code=c&state={STATE}x"), "Foreign(\"it answers another login"),
            (format!("code=c&code=d&state={STATE}"), "Foreign(\"a parameter occurs twice\")"),
            (format!("code=c&state={STATE}&state={STATE}"), "Foreign(\"a parameter occurs twice\")"),
            (format!("state={STATE}"), "Foreign(\"it holds neither"),
            (format!("code=&error=&state={STATE}"), "Foreign(\"it holds neither"),
            (format!("code=a%0ab&state={STATE}"), "Foreign(\"its code holds"),
            (format!("error=access_denied&code=c&state={STATE}"), "Refused"),
            (String::new(), "Foreign(\"it has no state\")"),
        ];
        for (query, wanted) in cases {
            let found = format!("{:?}", authorization.read(&query));
            assert!(found.starts_with(wanted), "{query}: {found}");
        }
        assert_eq!(
            authorization.read(&format!("code=c%2B1&state={STATE}")),
            AuthorizationResponse::Granted(Secret::new("c+1"))
        );
    }

    /// RFC 9207 sections 2.3 and 2.4.
    #[test]
    fn the_issuer_must_match_and_must_be_there_if_it_was_promised() {
        let right = "&iss=https%3A%2F%2Fas.example";
        let cases = [
            (false, false, "", true),
            (false, false, right, true),
            (false, false, "&iss=https%3A%2F%2Fas.example%2F", false),
            (true, false, right, true),
            (true, false, "", false),
            (true, false, "&iss=", false),
            // Without a known issuer nothing is compared.
            (false, true, "&iss=https%3A%2F%2Felsewhere", true),
        ];
        for (is_promised, is_assumed, issuer, is_good) in cases {
            let mut document = with_endpoint("https://as.example/authorize");
            document.authorization_response_iss = is_promised;
            document.issuer_is_assumed = is_assumed;
            let authorization = authorization(&document);
            let granted = authorization.read(&format!("code=c&state={STATE}{issuer}"));
            assert_eq!(
                matches!(granted, AuthorizationResponse::Granted(_)),
                is_good,
                "{is_promised} {issuer}: {granted:?}"
            );
            let refused = authorization.read(&format!("error=server_error&state={STATE}{issuer}"));
            let AuthorizationResponse::Refused(failure) = refused else { panic!("{refused:?}") };
            let names_no_issuer = matches!(issuer, "" | "&iss=");
            assert_eq!(
                failure.kind == Kind::Temporary,
                is_good || names_no_issuer,
                "errors too: {failure:?}"
            );
        }
    }

    #[test]
    fn an_error_shows_no_secret_and_no_escape_sequence() {
        let document = with_endpoint("https://as.example/authorize");
        let authorization = authorization(&document);
        let verifier = authorization.code_verifier().expose();
        let query =
            format!("error=x&error_description=%1b%5b2J+{STATE}+{verifier}+old-refresh&state={STATE}");
        let AuthorizationResponse::Refused(failure) = authorization.read(&query) else { panic!() };
        assert_eq!(
            failure.message,
            "cannot log in: the request was refused: x: [2J [secret] [secret] [secret]"
        );
        assert_eq!(failure.kind, Kind::LoginRequired);
    }

    #[test]
    fn a_person_pastes_an_address_or_its_query() {
        let cases = [
            ("http://127.0.0.1:7/callback?code=c&state=s\r\n", Some("code=c&state=s")),
            ("  http://localhost/?code=a?b&state=s#_=_ ", Some("code=a?b&state=s")),
            ("?code=c&state=s", Some("code=c&state=s")),
            ("/callback?code=c", Some("code=c")),
            ("code=a?b&state=s", Some("code=a?b&state=s")),
            ("http://127.0.0.1:7/callback", None),
            ("yes", None),
            ("", None),
        ];
        for (line, wanted) in cases {
            assert_eq!(pasted_query(line), wanted, "{line}");
        }
    }
}
