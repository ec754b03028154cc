//! The token endpoint (RFC 6749 sections 3.2, 5 and 6): its requests, and what its answers mean.
//! See "What each answer means" in `docs/design.md`.

use super::client_authentication::authenticate;
use super::redirect;
use super::response::Content;
use super::server_error::ServerError;
use super::{Authentication, Parameters, Request, Response, dialects, extra, id_token};
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, Session, UnixSeconds, is_visible_ascii};
use crate::text::{parse_number, printable};
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest lifetime that is believed, in seconds: ten years. It keeps `expires_at` from overflowing.
pub const EXPIRES_IN_LIMIT: u64 = 10 * 365 * 24 * 60 * 60;

/// The grant type of RFC 8628 section 3.4.
pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A refresh (RFC 6749 section 6). Without `scope` the server keeps the scope of the grant. The request carries no secret
/// but the refresh token and the client authentication.
pub fn refresh_request(
    document: &Document,
    refresh_token: &Secret,
    authentication: &Authentication,
) -> Request {
    let mut parameters = Parameters::default();
    parameters.push("grant_type", "refresh_token");
    parameters.push_secret("refresh_token", refresh_token);
    token_request(document, parameters, authentication)
}

/// The grant type of RFC 8693 section 2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// A client credentials request (RFC 6749 section 4.4.2). It always carries the scope, because there is no grant to
/// remember it.
pub fn client_credentials_request(document: &Document, authentication: &Authentication) -> Request {
    let mut parameters = Parameters::default();
    parameters.push("grant_type", "client_credentials");
    parameters.push("scope", document.scope.as_deref().unwrap_or_default());
    token_request(document, parameters, authentication)
}

/// A token exchange request with a token that another server issued (RFC 8693 section 2.1).
pub fn token_exchange_request(
    document: &Document,
    subject_token: &Secret,
    subject_token_type: &str,
    authentication: &Authentication,
) -> Request {
    let mut parameters = Parameters::default();
    parameters.push("grant_type", TOKEN_EXCHANGE);
    parameters.push_secret("subject_token", subject_token);
    parameters.push("subject_token_type", subject_token_type);
    parameters.push("scope", document.scope.as_deref().unwrap_or_default());
    token_request(document, parameters, authentication)
}

/// A poll for the grant of a device (RFC 8628 section 3.4), with the code_verifier (RFC 7636 section 4.5).
pub fn device_token_request(
    document: &Document,
    device_code: &Secret,
    code_verifier: &Secret,
    authentication: &Authentication,
) -> Request {
    let mut parameters = Parameters::default();
    parameters.push("grant_type", DEVICE_CODE);
    parameters.push_secret("device_code", device_code);
    parameters.push_secret("code_verifier", code_verifier);
    token_request(document, parameters, authentication)
}

/// A request that exchanges an authorization code (RFC 6749 section 4.1.3), with the code_verifier (RFC 7636 section
/// 4.5).
pub fn code_token_request(
    document: &Document,
    code: &Secret,
    redirect_uri: &str,
    code_verifier: &Secret,
    authentication: &Authentication,
) -> Request {
    let mut parameters = Parameters::default();
    parameters.push("grant_type", "authorization_code");
    parameters.push_secret("code", code);
    parameters.push("redirect_uri", redirect_uri);
    parameters.push_secret("code_verifier", code_verifier);
    token_request(document, parameters, authentication)
}

fn token_request(
    document: &Document,
    mut parameters: Parameters,
    authentication: &Authentication,
) -> Request {
    let authorization = authenticate(document, authentication, &mut parameters);
    parameters.push_configured(document);
    Request::form(&document.token_endpoint, parameters).authorized(authorization.as_ref()).hiding(document)
}

/// A successful answer (RFC 6749 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAnswer {
    /// The access token. It fits into a header field.
    pub access_token: Secret,
    /// `Bearer`, if the server named no type or wrote this one in another case.
    pub token_type: String,
    /// The lifetime in seconds. `None`: the server gave no usable one.
    pub expires_in: Option<u64>,
    /// A new refresh token. `None`: the old one stays valid.
    pub refresh_token: Option<Secret>,
    /// The ID token, if the server gave one.
    pub id_token: Option<Secret>,
    /// The granted scope, separated by single spaces.
    pub scope: Option<String>,
    /// Further members ([`extra`]).
    pub extra: Map<String, Value>,
}

impl TokenAnswer {
    fn read(access_token: &str, members: &Map<String, Value>) -> Self {
        let secret =
            |name| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(Secret::new);
        Self {
            access_token: Secret::new(access_token),
            token_type: token_type(members.get("token_type")),
            expires_in: dialects::all()
                .flat_map(|dialect| dialect.expires_in)
                .chain(&["expires_in"])
                .find_map(|name| members.get(*name).and_then(lifetime)),
            refresh_token: secret("refresh_token"),
            id_token: secret("id_token"),
            scope: members.get("scope").and_then(scope),
            extra: extra::read(members),
        }
    }

    /// The session that this answer makes of `document`. What the answer leaves out stays as it was: the refresh token
    /// (RFC 6749 section 6), the scope (section 5.1), the ID token, further members, and members that this version does
    /// not know. An ID token that cannot be trusted is left out, too. The lifetime counts from before the request, so it
    /// never ends later than on the server.
    pub fn session(self, document: &Document, sent_at: UnixSeconds) -> Session {
        let previous = document.session.as_ref();
        let lifetime = self.expires_in.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        // The expiry time of another refresh token does not apply to this one.
        let same = |previous: &&Session| {
            self.refresh_token.is_none() || self.refresh_token == previous.refresh_token
        };
        let old_end = previous.filter(same).and_then(|previous| previous.refresh_token_expires_at);
        let refresh_token_expires_at = extra::refresh_token_end(&self.extra, sent_at).or(old_end);
        let extra = Some(extra::merged(previous, self.extra)).filter(|extra| !extra.is_empty());
        Session {
            access_token: self.access_token,
            token_type: self.token_type,
            refresh_token: self
                .refresh_token
                .or_else(|| previous.and_then(|previous| previous.refresh_token.clone())),
            expires_at: lifetime.map(|lifetime| sent_at.saturating_add(lifetime)),
            obtained_at: sent_at,
            id_token: next_id_token(self.id_token, document, sent_at),
            scope: self.scope.or_else(|| previous.and_then(|previous| previous.scope.clone())),
            refresh_token_expires_at,
            extra: extra.map(Value::Object).unwrap_or_default(),
            access_token_rejected: false,
            other: previous.map(|previous| previous.other.clone()).unwrap_or_default(),
        }
    }
}

/// The next ID token. One that is for another client, has expired or is about another login is not taken. The session is,
/// because its refresh token was spent for it.
fn next_id_token(next: Option<Secret>, document: &Document, now: UnixSeconds) -> Option<Secret> {
    let previous = document.session.as_ref().and_then(|session| session.id_token.as_ref());
    let is_trusted = |next: &Secret| {
        id_token::check(next, document, None, now).is_ok()
            && previous.is_none_or(|previous| id_token::follows(next, previous))
    };
    next.filter(is_trusted).or_else(|| previous.cloned())
}

/// The token type. RFC 6749 section 5.1 requires it in any case, but some servers leave it out.
fn token_type(value: Option<&Value>) -> String {
    let text = value.and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if text.is_empty() || text.eq_ignore_ascii_case("bearer") || !is_visible_ascii(text) {
        "Bearer".to_owned()
    } else {
        text.to_owned()
    }
}

/// A number of seconds: an integer, a fraction, or either in quotes. `None` if it is not above zero.
pub(super) fn lifetime(value: &Value) -> Option<u64> {
    let seconds: f64 = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => parse_number(text)?,
        _ => return None,
    };
    if !seconds.is_finite() {
        return None;
    }
    // A float-to-integer cast saturates at both ends.
    #[expect(clippy::as_conversions, reason = "saturates; there is no `From` for it")]
    let whole = seconds as u64;
    Some(whole.min(EXPIRES_IN_LIMIT)).filter(|seconds| *seconds > 0)
}

/// The scope in any of the ways in which servers write it: separated by spaces (RFC 6749 section 3.3), by commas (GitHub,
/// Slack), or as an array (Twitch).
fn scope(value: &Value) -> Option<String> {
    let parts: Vec<&str> = match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let words = parts.iter().flat_map(|part| part.split([' ', ',', '\t', '\r', '\n']));
    let scope = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    Some(scope).filter(|scope| !scope.is_empty())
}

/// Why the server refused, if the reason decides what helps (RFC 6749 section 5.2, RFC 8707 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `invalid_client`: the server does not know the client, or refuses its authentication.
    InvalidClient,
    /// `unauthorized_client`: the client may not use this grant.
    UnauthorizedClient,
    /// `invalid_scope`
    InvalidScope,
    /// `invalid_target`
    InvalidTarget {
        /// Whether the request carried a resource indicator.
        sent_resource: bool,
    },
    /// Any other reason.
    Other,
}

impl Refusal {
    fn read(request: &Request, error: &ServerError) -> Self {
        let sent_resource = request.parameter("resource").is_some();
        let reasons = [
            ("invalid_client", Self::InvalidClient),
            ("unauthorized_client", Self::UnauthorizedClient),
            ("invalid_scope", Self::InvalidScope),
            ("invalid_target", Self::InvalidTarget { sent_resource }),
        ];
        let found = reasons.into_iter().find(|(code, _)| error.is_any_of(&[code]));
        found.map_or(Self::Other, |(_, reason)| reason)
    }

    /// What it means if a person named the client: the configuration is wrong, or a login is required.
    pub fn kind(self) -> Kind {
        match self {
            Self::Other => Kind::LoginRequired,
            _ => Kind::Usage,
        }
    }
}

/// What a response of the token endpoint means. The texts are fit to be shown and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A new access token.
    Refreshed(TokenAnswer),
    /// The refresh token is dead, or another process has spent it.
    InvalidGrant {
        /// The server's error code.
        error: String,
        /// What it says about it.
        description: Option<String>,
    },
    /// The server refused for another reason. The session stays.
    Refused {
        /// The reason, if it is one of the RFCs.
        refusal: Refusal,
        /// The error code of the server, or the status if there is no error code.
        error: String,
        /// What it says about it.
        description: Option<String>,
    },
    /// The same request may succeed later. According to the response, the refresh token was not spent.
    Temporary {
        /// What happened.
        what: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The request was sent, but no whole response came, or a success that cannot be read: the refresh token may have
    /// been spent.
    Unknown {
        /// What happened.
        what: String,
        /// Whether the same request may bring the answer. It does not if the response was too long.
        again: bool,
    },
    /// Repeating the request may not help, and the failure says what does: no TLS with this server, or an endpoint that
    /// has moved. Nothing was spent, so the session stays.
    Failed(Failure),
    /// Nothing was sent, and repeating the request does not help: no credential may be sent to this endpoint, or the
    /// proxy cannot be used.
    Impossible(Failure),
}

impl Answer {
    /// What the answer means if the client acts on its own behalf. Nothing was spent, so nothing can be lost or dead, and
    /// the client can ask again. No refresh token is kept (RFC 6749 section 4.4.3).
    pub fn to_client(self) -> Self {
        match self {
            Self::Refreshed(answer) => Self::Refreshed(TokenAnswer { refresh_token: None, ..answer }),
            Self::InvalidGrant { error, description } => {
                Self::Refused { refusal: Refusal::Other, error, description }
            }
            Self::Unknown { what, .. } => Self::Temporary { what, retry_after: None },
            same => same,
        }
    }

    /// Whether the server does not accept the client: it does not know it any more, or lets it do nothing (RFC 6749 section 5.2).
    pub fn rejects_client(&self) -> bool {
        let rejects =
            |refusal: &Refusal| matches!(refusal, Refusal::InvalidClient | Refusal::UnauthorizedClient);
        matches!(self, Self::Refused { refusal, .. } if rejects(refusal))
    }

    /// What the server said, for the log of `-v`.
    pub fn story(&self) -> String {
        let said = |error: &str, description: &Option<String>| match description {
            Some(description) => format!("{error}: {description}"),
            None => error.to_owned(),
        };
        match self {
            Self::Refreshed(answer) => {
                let lifetime =
                    answer.expires_in.map(|seconds| format!(" for {seconds} s")).unwrap_or_default();
                let rotated = answer.refresh_token.as_ref().map_or("", |_| " and a new refresh token");
                format!("the server gave an access token{lifetime}{rotated}")
            }
            Self::InvalidGrant { error, description } => {
                format!(
                    "the server refused the refresh token ({}): comparing with the store",
                    said(error, description)
                )
            }
            Self::Refused { error, description, .. } => {
                format!("the server refused: {}", said(error, description))
            }
            Self::Temporary { what, .. } | Self::Unknown { what, .. } => what.clone(),
            Self::Failed(failure) | Self::Impossible(failure) => failure.message.clone(),
        }
    }
}

/// Reads a response of the token endpoint: first its body, then its status. The texts hide the secrets of `request`. A
/// `Retry-After` date is compared with `now`.
///
/// A 2xx response with a usable access token is a success, whatever else it holds: otherwise its new refresh token would
/// be lost. Any other 2xx response without an error is unknown, because the server may have rotated.
pub fn classify(request: &Request, response: &Response, now: UnixSeconds) -> Answer {
    let content = response.content();
    let mut has_token = false;
    if let Content::Members(members) = &content {
        match members.get("access_token") {
            Some(Value::String(token)) if response.is_success() && is_visible_ascii(token) => {
                return Answer::Refreshed(TokenAnswer::read(token, members));
            }
            token => has_token = token.is_some_and(|token| !token.is_null()),
        }
    }
    let error = ServerError::read(&content);
    if let Some(code) = error.dead_grant() {
        let description = error.description_after(&code).map(|text| request.shown(text));
        return Answer::InvalidGrant { error: request.shown(&code), description };
    }
    let description = error.description.as_deref().map(|text| request.shown(text));

    let status = request.shown(&response.status_words(Some(now)));
    let status = format!("the server answered with {status}");
    let retry_after = response.wait(now);
    let temporary = |why: &str| Answer::Temporary {
        what: with_text(format!("{status}{why}"), request, response, &error),
        retry_after,
    };
    match (response.status, &content) {
        (429 | 500.., _) => temporary(""),
        // The target of the redirect says more than the body.
        (300..400, _) => match redirect::moved(request, response)
            .or_else(|| redirect::elsewhere(request, response).filter(|_| retry_after.is_none()))
        {
            Some(failure) => Answer::Failed(failure),
            None => Answer::Temporary {
                what: redirect::unfollowed(request, response).unwrap_or(status),
                retry_after,
            },
        },
        (200..300, Content::Members(_)) if error.is_error => refused(request, response, &error, description),
        (200..300, content) => {
            let why = match content {
                _ if response.unreadable.is_some() => String::new(),
                Content::CutShort => " and JSON that ends too early".to_owned(),
                Content::Foreign if response.is_blank() => " and no body".to_owned(),
                Content::Foreign => " and a body that is not JSON".to_owned(),
                Content::OtherJson(_) => " and no JSON object".to_owned(),
                Content::Members(_) if has_token => {
                    " and an access token that is empty or holds control characters".to_owned()
                }
                Content::Members(_) => " and neither an access token nor an error".to_owned(),
            };
            let what = with_text(format!("{status}{why}"), request, response, &error);
            Answer::Unknown { what, again: true }
        }
        (400..500, Content::Members(_) | Content::OtherJson(_)) => {
            refused(request, response, &error, description)
        }
        // Glewlwyd responds like this to every refresh token that it does not know.
        (400 | 401, Content::Foreign) if response.is_blank() => {
            let words = Some("no reason was given".to_owned());
            refused(request, response, &error, words)
        }
        _ if response.unreadable.is_some() => temporary(""),
        _ => temporary(" and no JSON object"),
    }
}

fn refused(
    request: &Request,
    response: &Response,
    error: &ServerError,
    description: Option<String>,
) -> Answer {
    let code = error.codes.first().map(|code| request.shown(code));
    Answer::Refused {
        refusal: Refusal::read(request, error),
        error: code.unwrap_or_else(|| format!("status {}", response.status)),
        description,
    }
}

/// Adds what the server said, or the first text of a body that is not JSON.
fn with_text(mut what: String, request: &Request, response: &Response, error: &ServerError) -> String {
    let is_foreign = matches!(response.content(), Content::Foreign);
    if let Some(words) = error.words().or_else(|| response.first_text().filter(|_| is_foreign)) {
        what.push_str(": ");
        what.push_str(&request.shown(&words));
    }
    what
}

/// `error: description` as one text, no longer than each of them may be.
pub fn words(error: &str, description: Option<&str>) -> String {
    match description {
        Some(description) => printable(&format!("{error}: {description}")),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{document, form};
    use super::*;
    use crate::text::SHOWN_CHARACTERS;

    fn response(status: u16, body: &str) -> Response {
        Response::new(status, body)
    }

    fn refresh() -> Request {
        refresh_request(&document(), &Secret::new("old-refresh"), &Authentication::None)
    }

    fn answer(status: u16, body: &str) -> Answer {
        classify(&refresh(), &response(status, body), 0)
    }

    fn tokens(body: &str) -> TokenAnswer {
        match answer(200, body) {
            Answer::Refreshed(tokens) => tokens,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_refresh_sends_what_was_configured_and_no_scope() {
        let mut document = document();
        document.scope = Some("a b".to_owned());
        document.resource = vec!["https://r1".to_owned(), "https://r2".to_owned()];
        document.audience = Some("aud".to_owned());
        for (name, value) in [("grant_type", "password"), ("refresh_token", "x"), ("tenant", "t 1")] {
            document.parameters.insert(name.to_owned(), value.to_owned());
        }
        let request = refresh_request(&document, &Secret::new("r+t"), &Authentication::None);
        assert_eq!(request.url, "https://as.example/token");
        assert_eq!(
            form(&request).encode().expose(),
            "grant_type=refresh_token&refresh_token=r%2Bt&client_id=client+1&resource=https%3A%2F%2Fr1\
             &resource=https%3A%2F%2Fr2&audience=aud&tenant=t+1"
        );
        let verifier = Secret::new("verifier");
        let redirect_uri = "http://127.0.0.1:7/callback";
        let exchange =
            code_token_request(&document, &Secret::new("c"), redirect_uri, &verifier, &Authentication::None);
        assert_eq!(
            form(&exchange).encode().expose(),
            "grant_type=authorization_code&code=c&redirect_uri=http%3A%2F%2F127.0.0.1%3A7%2Fcallback&code_verifier=verifier\
             &client_id=client+1&resource=https%3A%2F%2Fr1&resource=https%3A%2F%2Fr2&audience=aud\
             &refresh_token=x&tenant=t+1"
        );
        assert_eq!(exchange.shown("no verifier"), "no [secret]");
        let poll = device_token_request(&document, &Secret::new("dc"), &verifier, &Authentication::None);
        assert_eq!(form(&poll).get("grant_type"), Some(DEVICE_CODE));
        assert_eq!(form(&poll).get("device_code"), Some("dc"));
        assert_eq!(form(&poll).get("code_verifier"), Some("verifier"));
    }

    /// Each kind of response, and what it means for the refresh token.
    #[test]
    #[rustfmt::skip]
    fn each_answer_has_its_meaning() {
        let cases = [
            (200, r#"{"access_token":"a"}"#, "Refreshed"),
            (201, "\u{feff} {\"access_token\":\"a\",\"error\":null} \n", "Refreshed"),
            (200, r#"{"access_token":"a","error":""}"#, "Refreshed"),
            (200, "access_token=a&token_type=bearer&scope=x%2Cy", "Refreshed"),
            // Dead, at any status.
            (400, r#"{"error":"invalid_grant"}"#, "InvalidGrant"),
            (403, r#"{"error":"INVALID_GRANT","error_description":"no"}"#, "InvalidGrant"),
            (200, r#"{"error":"bad_refresh_token"}"#, "InvalidGrant"),
            (200, "error=bad_refresh_token&error_description=x", "InvalidGrant"),
            (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, "InvalidGrant"),
            (401, r#"{"error":{"code":"refresh_token_reused","message":"m"}}"#, "InvalidGrant"),
            (400, r#"{"code":400,"error_code":"refresh_token_already_used","msg":"Already Used"}"#, "InvalidGrant"),
            (400, r#"{"code":"refresh_token_not_found"}"#, "InvalidGrant"),
            (400, r#"{"status":"BAD_REFRESH_TOKEN","message":"m"}"#, "InvalidGrant"),
            (401, r#"{"error":"token_inactive"}"#, "InvalidGrant"),
            (503, r#"{"error":"invalid_grant"}"#, "InvalidGrant"),
            (400, r#"{"error":"unauthorized_client","error_description":"token was already used"}"#, "InvalidGrant"),
            (400, r#"{"error":"unauthorized_client","error_description":"unable to parse refresh token"}"#, "InvalidGrant"),
            (200, r#"{"access_token":"","error":"invalid_grant"}"#, "InvalidGrant"),
            (400, r#"{"access_token":"a","error":"invalid_grant"}"#, "InvalidGrant"),
            // Refused.
            (400, r#"{"error":"access_denied"}"#, "Refused { refusal: Other, error: \"access_denied\""),
            (404, r#"{"type":"error","error":{"type":"not_found_error"}}"#, "Refused { refusal: Other, error: \"not_found_error\""),
            (401, r#"{"message":"Unauthorized"}"#, "Refused { refusal: Other, error: \"status 401\", description: Some(\"Unauthorized\")"),
            (400, "[]", "Refused { refusal: Other"),
            (401, r#"{"error":"invalid_client"}"#, "Refused { refusal: InvalidClient"),
            (400, r#"{"error":"unauthorized_client"}"#, "Refused { refusal: UnauthorizedClient"),
            (400, r#"{"error":"unauthorized_client","error_description":"the token was already used"}"#, "Refused { refusal: UnauthorizedClient"),
            (400, r#"{"error":"access_denied","error_description":"token was already used"}"#, "Refused { refusal: Other"),
            (200, r#"{"error":"invalid_scope"}"#, "Refused { refusal: InvalidScope"),
            (400, r#"{"error":"invalid_target"}"#, "Refused { refusal: InvalidTarget { sent_resource: false }"),
            (200, r#"{"error":"access_denied"}"#, "Refused { refusal: Other"),
            (200, r#"{"ok":false}"#, "Refused { refusal: Other"),
            (400, "{\"error\":\"\u{200b}\"}", "Refused { refusal: Other, error: \"status 400\", description: None"),
            (400, r#"{"status":"access_denied"}"#, "Refused { refusal: Other, error: \"status 400\""),
            // Without a body: a refusal that gives no reason (Glewlwyd).
            (400, "", "Refused { refusal: Other, error: \"status 400\", description: Some(\"no reason was given\")"),
            (401, " \r\n", "Refused { refusal: Other, error: \"status 401\""),
            // Temporary.
            (429, r#"{"error":"rate_limited"}"#, "Temporary { what: \"the server answered with status 429: rate_limited\""),
            (503, r#"{"error":"access_denied"}"#, "Temporary"),
            (500, r#"{"access_token":"a"}"#, "Temporary"),
            (502, "<html><title>Bad Gateway</title>", "Temporary { what: \"the server answered with status 502: Bad Gateway\""),
            (401, "Unauthorized", "Temporary"),
            (400, r#"{"error":"inva"#, "Temporary"),
            (403, "", "Temporary"),
            (307, r#"{"error":"x"}"#, "Temporary"),
            // Moved for good.
            (301, "", "Failed(Failure { kind: Usage, message: \"the server answered with status 301: the endpoint https://as.example/token has moved"),
            (308, r#"{"error":"x"}"#, "Failed(Failure { kind: Usage"),
            (301, r#"{"error":"invalid_grant"}"#, "InvalidGrant"),
            // A success that cannot be read: the refresh token may have been spent.
            (200, "<html><body>Welcome to WiFi", "Unknown { what: \"the server answered with status 200 and a body that is not JSON: Welcome to WiFi\""),
            (200, "", "Unknown"),
            (204, "", "Unknown"),
            (200, "{}", "Unknown"),
            (200, r#"{"error":false}"#, "Unknown"),
            (200, "[]", "Unknown"),
            (200, "\"at\"", "Unknown"),
            (200, r#"{"access_token":"a\r\nb"}"#, "Unknown"),
            (200, r#"{"access_token":""}"#, "Unknown"),
            (200, r#"{"access_token":7}"#, "Unknown"),
            (200, r#"{"access_token":"a","expires_in":1e999}"#, "Unknown"),
            (200, "\u{1f}\u{8b}\u{8}", "Unknown"),
            (200, r#"{"access_token":"a","refresh_tok"#, "Unknown"),
            (200, "{", "Unknown"),
        ];
        for (status, body, wanted) in cases {
            let answer = format!("{:?}", answer(status, body));
            assert!(answer.starts_with(wanted), "{status} {body}: {answer}");
        }
    }

    #[test]
    fn a_redirect_names_its_target_without_its_query() {
        let response =
            response(302, "").with_header("Location", "https://evil.example/cb?refresh_token=old-refresh");
        let wanted = "the server answered with status 302, a redirect to https://evil.example/cb, which is not followed";
        let Answer::Failed(failure) = classify(&refresh(), &response, 0) else { panic!() };
        let hint = failure.hint.unwrap_or_default();
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::Temporary, wanted));
        assert!(hint.contains(" --token-endpoint https://evil.example/cb   # if "), "{hint}");
        let later = classify(&refresh(), &response.with_header("Retry-After", "7"), 0);
        let retry_after = Some(Duration::from_secs(7));
        let what = wanted.replace("302,", "302 and asks to wait 7 s,");
        assert_eq!(later, Answer::Temporary { what, retry_after });
    }

    #[test]
    fn no_answer_makes_a_long_text() {
        let long = "x".repeat(SHOWN_CHARACTERS);
        for error in ["invalid_grant", "access_denied", &long] {
            let body = format!(r#"{{"error":"{error}","error_description":"{long}"}}"#);
            let (Answer::InvalidGrant { error, description } | Answer::Refused { error, description, .. }) =
                answer(400, &body)
            else {
                panic!("{body}")
            };
            assert_eq!(words(&error, description.as_deref()).len(), SHOWN_CHARACTERS);
        }
        let response = response(302, &long).with_header("Location", &format!("https://{long}/"));
        let shown = format!("{:?}", classify(&refresh(), &response, 0));
        assert!(!shown.contains('x'), "{shown}");
    }

    #[test]
    fn retry_after_is_part_of_the_answer() {
        let response = response(503, "").with_header("Retry-After", "7");
        let Answer::Temporary { retry_after, .. } = classify(&refresh(), &response, 0) else { panic!() };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn the_servers_words_are_sanitised_and_hold_nothing_that_was_sent() {
        let answers = [
            answer(
                400,
                "{\"error\":\"invalid_grant\",\"error_description\":\"token old-refresh\\u001b[2J is dead\"}",
            ),
            answer(400, r#"{"error":"old-refresh","error_description":"old-refresh"}"#),
            answer(503, "refresh=old-refresh failed"),
            answer(503, r#"{"error":{"code":"old-refresh"}}"#),
        ];
        for answer in answers {
            let shown = format!("{answer:?}");
            assert!(!shown.contains("old-refresh") && !shown.contains('\u{1b}'), "{shown}");
        }
    }

    #[test]
    fn absurd_bodies_do_not_panic() {
        let deep = format!("{{\"error\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let bodies = [
            deep.as_str(),
            "{\"error\":{\"error\":{\"code\":[]}}}",
            "\u{0}",
            "=&=&error",
            r#"{"access_token":"a","access_token":null,"error":[1]}"#,
        ];
        for body in bodies {
            for status in [0, 100, 200, 204, 302, 400, 429, 599, 999] {
                let _ = answer(status, body);
            }
        }
        let _ = classify(&refresh(), &Response::new(0, vec![0xff, 0xfe, b'{']), i64::MIN);
    }

    #[test]
    #[rustfmt::skip]
    fn lifetimes_are_read_in_every_spelling() {
        let cases = [
            ("3600", Some(3600)), ("\"3600\"", Some(3600)), ("3599.9", Some(3599)), ("\" 60 \"", Some(60)),
            ("1e300", Some(EXPIRES_IN_LIMIT)), ("18446744073709551615", Some(EXPIRES_IN_LIMIT)),
            ("0", None), ("-5", None), ("null", None), ("\"soon\"", None), ("\"\"", None), ("\"NaN\"", None),
            ("\"inf\"", None), ("[]", None), ("{}", None), ("true", None),
        ];
        for (written, wanted) in cases {
            let body = format!(r#"{{"access_token":"a","expires_in":{written}}}"#);
            assert_eq!(tokens(&body).expires_in, wanted, "{written}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_lifetime_in_seconds_by_its_name_counts_before_one_that_may_be_in_milliseconds() {
        let cases = [
            (r#""expires_in":3600000,"expires_in_sec":3600"#, Some(3600)),
            (r#""expires_in":"3600000","expires_in_sec":"3600""#, Some(3600)),
            (r#""expires_in_sec":3600"#, Some(3600)),
            (r#""expires_in":3600,"expires_in_sec":3600"#, Some(3600)),
            (r#""expires_in":3600,"expires_in_sec":null"#, Some(3600)),
            (r#""expires_in":3600,"expires_in_sec":0"#, Some(3600)),
            (r#""expires_in_sec":1e300"#, Some(EXPIRES_IN_LIMIT)),
        ];
        for (members, wanted) in cases {
            assert_eq!(tokens(&format!(r#"{{"access_token":"a",{members}}}"#)).expires_in, wanted, "{members}");
        }
    }

    #[test]
    fn scopes_and_token_types_are_read_in_every_spelling() {
        let cases = [
            (r#""scope":"a b""#, Some("a b"), "Bearer"),
            (r#""scope":"a,b, c","token_type":"BEARER""#, Some("a b c"), "Bearer"),
            (r#""scope":["a","b c"],"token_type":"bot""#, Some("a b c"), "bot"),
            (r#""scope":"","token_type":null"#, None, "Bearer"),
            (r#""scope":7,"token_type":"DPoP""#, None, "DPoP"),
        ];
        for (members, scope, token_type) in cases {
            let tokens = tokens(&format!(r#"{{"access_token":"a",{members}}}"#));
            assert_eq!(
                (tokens.scope.as_deref(), tokens.token_type.as_str()),
                (scope, token_type),
                "{members}"
            );
        }
    }

    #[test]
    fn a_session_keeps_what_the_response_leaves_out() {
        let mut profile = document();
        let previous = profile.session.as_mut().unwrap();
        previous.id_token = Some(Secret::new("id"));
        previous.other.insert("later".to_owned(), Value::Bool(true));
        for silent in ["", r#","refresh_token":null"#, r#","refresh_token":"""#] {
            let tokens = tokens(&format!(r#"{{"access_token":"new","expires_in":60{silent}}}"#));
            let session = tokens.session(&profile, 1000);
            assert_eq!(session.refresh_token, Some(Secret::new("old-refresh")), "{silent}");
            assert_eq!(session.id_token, Some(Secret::new("id")));
            assert_eq!((session.expires_at, session.obtained_at), (Some(1060), 1000));
            assert_eq!(session.other.get("later"), Some(&Value::Bool(true)));
        }
        let rotated = tokens(r#"{"access_token":"new","refresh_token":"r2"}"#).session(&profile, 1000);
        assert_eq!((rotated.refresh_token, rotated.expires_at), (Some(Secret::new("r2")), None));
        let ends =
            |body: &str, profile: &Document| tokens(body).session(profile, 1000).refresh_token_expires_at;
        let first = r#"{"access_token":"new","refresh_token_expires_in":60}"#;
        assert_eq!(ends(first, &profile), Some(1060));
        profile.session.as_mut().unwrap().refresh_token_expires_at = Some(5000);
        assert_eq!(ends(first, &profile), Some(1060));
        assert_eq!(ends(r#"{"access_token":"new"}"#, &profile), Some(5000));
        assert_eq!(ends(r#"{"access_token":"new","refresh_token":"old-refresh"}"#, &profile), Some(5000));
        assert_eq!(ends(r#"{"access_token":"new","refresh_token":"r2"}"#, &profile), None, "another token");
        profile.session = None;
        let late = tokens(r#"{"access_token":"new","expires_in":60}"#).session(&profile, i64::MAX);
        assert_eq!(late.expires_at, Some(i64::MAX));
    }
}
