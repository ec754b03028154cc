//! The device flow (RFC 8628): its request, its response, and when to poll.

use super::client_authentication::authenticate;
use super::dialects::with_words_of_dialects;
use super::failure::{FailedRequest, LOGIN, POLL, START_DEVICE_FLOW};
use super::hints::login_hint;
use super::pkce::push_challenge;
use super::response::Content;
use super::server_error::ServerError;
use super::token::{Answer, TokenAnswer, classify, lifetime, words};
use super::{Authentication, Parameters, Request, Response};
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, UnixSeconds};
use crate::text::{parse_number, printable};
use serde_json::Value;
use std::time::Duration;

/// The polling interval, if the server names none (RFC 8628 section 3.2).
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest interval. If a server says 0, the program still does not poll in a busy loop.
pub const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// What `slow_down` adds to the interval of all later polls (RFC 8628 section 3.5).
pub const SLOW_DOWN: Duration = Duration::from_secs(5);

/// The longest wait after failed polls: a person who has agreed should not wait longer. A longer wait that the server
/// demands is kept.
pub const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// The lifetime of a code, if the server names none: what common servers grant. RFC 8628 section 3.2 requires
/// `expires_in`.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The longest lifetime of a code that is believed: a day.
pub const LIFETIME_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A device authorization request (RFC 8628 section 3.1). `None` if the document has no endpoint for it. The request
/// carries the challenge for `code_verifier` (RFC 7636), because some servers demand it. The others ignore it (RFC 6749
/// section 3.1).
pub fn request(
    document: &Document,
    code_verifier: &Secret,
    authentication: &Authentication,
) -> Option<Request> {
    let url = document.device_authorization_endpoint.as_deref()?;
    let mut parameters = Parameters::default();
    parameters.push("scope", document.scope.as_deref().unwrap_or_default());
    push_challenge(&mut parameters, code_verifier);
    let authorization = authenticate(document, authentication, &mut parameters);
    // RFC 8628 section 3.1 requires it only of clients that do not authenticate, but Zoom requires it of all clients.
    if parameters.get("client_id").is_none() {
        parameters.push("client_id", &document.client_id);
    }
    parameters.push_configured(document);
    Some(Request::form(url, parameters).authorized(authorization.as_ref()).hiding(document))
}

/// What a person and the poll loop need to know (RFC 8628 section 3.2). The texts are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAuthorization {
    /// Identifies this device at the token endpoint.
    pub device_code: Secret,
    /// The code that a person types.
    pub user_code: String,
    /// The address where a person types it.
    pub verification_uri: String,
    /// The address with the code in it.
    pub verification_uri_complete: Option<String>,
    /// How long the codes live.
    pub expires_in: Duration,
    /// How long to wait between polls.
    pub interval: Duration,
}

/// Reads the response to `request`.
pub fn read(
    request: &Request,
    response: &Response,
    now: UnixSeconds,
) -> Result<DeviceAuthorization, FailedRequest> {
    let unusable =
        |why: &str| Failure::new(Kind::Temporary, format!("cannot start the device flow: the answer {why}"));
    let content = response.content();
    let is_error = ServerError::read(&content).is_error;
    let members = match content {
        Content::Members(members) if response.is_success() && !is_error => members,
        _ => return Err(classify(request, response, now).failed_request(&START_DEVICE_FLOW)),
    };
    let text = |name| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    // A person opens these addresses, perhaps with a program. So only web addresses are taken, and only those that can be
    // shown whole.
    let address = |name| {
        let is_web = |url: &&str| url.starts_with("https://") || url.starts_with("http://");
        let is_whole = |url: &&str| printable(url) == *url && !url.contains(' ');
        text(name).filter(is_web).filter(is_whole).map(str::to_owned)
    };
    Ok(DeviceAuthorization {
        device_code: text("device_code").map(Secret::new).ok_or_else(|| unusable("has no device_code"))?,
        user_code: text("user_code")
            .map(printable)
            .filter(|code| !code.is_empty())
            .ok_or_else(|| unusable("has no user_code"))?,
        verification_uri: with_words_of_dialects(&["verification_uri"], |dialect| dialect.verification_uri)
            .into_iter()
            .find_map(address)
            .ok_or_else(|| unusable("has no verification_uri that begins with https://"))?,
        verification_uri_complete: address("verification_uri_complete"),
        expires_in: members
            .get("expires_in")
            .and_then(lifetime)
            .map_or(DEFAULT_LIFETIME, Duration::from_secs)
            .min(LIFETIME_LIMIT),
        interval: members.get("interval").and_then(interval).unwrap_or(DEFAULT_INTERVAL),
    })
}

/// An interval in seconds, in any spelling. Zero and fractions of a second become [`SHORTEST_INTERVAL`].
fn interval(value: &Value) -> Option<Duration> {
    let is_number = value.is_number() || value.as_str().is_some_and(|text| parse_number(text).is_some());
    let seconds = lifetime(value).map(Duration::from_secs);
    is_number.then(|| seconds.unwrap_or(SHORTEST_INTERVAL).clamp(SHORTEST_INTERVAL, LIFETIME_LIMIT))
}

/// What the response to a poll means (RFC 8628 section 3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollAnswer {
    /// `authorization_pending`: the person has not decided yet.
    Pending,
    /// `slow_down`, with the new interval if the server names one (GitHub).
    SlowDown(Option<Duration>),
    /// `access_denied`: the person said no.
    Denied(Option<String>),
    /// `expired_token`: no person decided in time.
    Expired,
    /// A success that cannot be read, and the reason. The server may have given the grant.
    Unreadable(String),
    /// Anything else: tokens, a refusal, or no answer.
    Other(Answer),
}

/// Reads the response to a poll, whatever its status is (Google sends 428 with `authorization_pending`).
pub fn read_poll(request: &Request, response: &Response, now: UnixSeconds) -> PollAnswer {
    let answer = classify(request, response, now);
    if !matches!(answer, Answer::Refreshed(_)) {
        let content = response.content();
        let error = ServerError::read(&content);
        if error.is_any_of(&["authorization_pending"]) {
            return PollAnswer::Pending;
        }
        if error.is_any_of(&["slow_down"]) {
            let Content::Members(members) = content else { return PollAnswer::SlowDown(None) };
            return PollAnswer::SlowDown(members.get("interval").and_then(interval));
        }
        if error.is_any_of(&with_words_of_dialects(&["access_denied"], |dialect| dialect.denied)) {
            return PollAnswer::Denied(error.description.map(|text| request.shown(&text)));
        }
        if error.is_any_of(&with_words_of_dialects(&["expired_token"], |dialect| dialect.expired)) {
            return PollAnswer::Expired;
        }
    }
    match answer {
        Answer::Unknown { what, again: true } => PollAnswer::Unreadable(what),
        answer => PollAnswer::Other(answer),
    }
}

/// What happened since the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollEvent {
    /// The device authorization has just been answered, or the time of a [`PollStep::Wait`] is over.
    Waited,
    /// A poll was answered.
    Answered(PollAnswer),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollStep {
    /// Wait this long, then report [`PollEvent::Waited`].
    Wait(Duration),
    /// Send the token request, then report [`PollEvent::Answered`].
    Poll,
    /// The server gave the grant.
    Granted(TokenAnswer),
    /// There will be no grant.
    Ended(Failure),
}

/// Decides when to poll, without a clock of its own. The first step is a wait, because some servers answer an immediate
/// poll with `slow_down`. The lifetime of the code bounds the loop.
#[derive(Clone, Debug)]
pub struct Polling {
    expires_in: Duration,
    /// It grows with every `slow_down` and never shrinks.
    interval: Duration,
    /// How many polls in a row got no response.
    failures: u32,
    /// Why a response could not be read that may have held the grant.
    unreadable: Option<String>,
    is_begun: bool,
}

impl Polling {
    /// The machine for this authorization.
    pub fn new(authorization: &DeviceAuthorization) -> Self {
        Self {
            expires_in: authorization.expires_in,
            interval: authorization.interval,
            failures: 0,
            unreadable: None,
            is_begun: false,
        }
    }

    /// The next step. `elapsed` is the time since the device authorization request.
    ///
    /// After a response that could not be read there is one more poll. If that brings no grant, the first response is the
    /// reason of the failure: a server gives a grant once, and then says that the code has expired.
    pub fn next(&mut self, event: PollEvent, elapsed: Duration) -> PollStep {
        let before = self.unreadable.clone();
        match (self.step(event, elapsed), before) {
            (PollStep::Ended(_), Some(what)) => {
                PollStep::Ended(Answer::Unknown { what, again: true }.failure(&LOGIN))
            }
            (step, _) => step,
        }
    }

    fn step(&mut self, event: PollEvent, elapsed: Duration) -> PollStep {
        let answer = match event {
            PollEvent::Waited if elapsed >= self.expires_in => return expired(),
            PollEvent::Waited if self.is_begun => return PollStep::Poll,
            PollEvent::Waited => {
                self.is_begun = true;
                return self.wait(self.interval, elapsed);
            }
            PollEvent::Answered(answer) => answer,
        };
        let wait = match answer {
            PollAnswer::Pending => self.heard(),
            PollAnswer::SlowDown(wanted) => {
                let slower = self.interval.saturating_add(SLOW_DOWN).max(wanted.unwrap_or_default());
                self.interval = slower.min(LIFETIME_LIMIT);
                self.heard()
            }
            PollAnswer::Denied(description) => {
                return denied("access_denied", description.as_deref());
            }
            PollAnswer::Expired => return expired(),
            PollAnswer::Unreadable(_) if self.unreadable.is_some() => return expired(),
            PollAnswer::Unreadable(what) => {
                self.unreadable = Some(what);
                self.interval
            }
            PollAnswer::Other(Answer::Refreshed(tokens)) => return PollStep::Granted(tokens),
            PollAnswer::Other(Answer::InvalidGrant { error, description }) => {
                return denied(&error, description.as_deref());
            }
            // An earlier poll is not allowed, and a later one comes after the end of the code.
            PollAnswer::Other(Answer::Temporary { what, retry_after: Some(wait) })
                if self.expires_in.checked_sub(elapsed).is_some_and(|left| wait >= left) =>
            {
                let message = format!("cannot log in now: {what}; the code expires before");
                let failure = Failure::new(Kind::Temporary, message);
                return PollStep::Ended(failure.hint_of(login_hint("temporarily_unavailable")));
            }
            PollAnswer::Other(Answer::Temporary { retry_after, .. }) => self.unheard(retry_after),
            PollAnswer::Other(Answer::Unknown { again: true, .. }) => self.unheard(None),
            // The flow began over TLS. So a later poll may succeed, for example from another network.
            PollAnswer::Other(Answer::Failed(failure)) if failure.kind == Kind::Temporary => {
                self.unheard(None)
            }
            PollAnswer::Other(answer) => return PollStep::Ended(answer.failure(&POLL)),
        };
        self.wait(wait, elapsed)
    }

    fn heard(&mut self) -> Duration {
        self.failures = 0;
        self.interval
    }

    /// Without a response the wait between polls doubles (RFC 8628 section 3.5).
    fn unheard(&mut self, retry_after: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = self.interval.saturating_mul(2_u32.saturating_pow(self.failures));
        doubled.min(LONGEST_BACK_OFF).max(self.interval).max(retry_after.unwrap_or_default())
    }

    /// A wait ends no later than the code.
    fn wait(&self, wait: Duration, elapsed: Duration) -> PollStep {
        match self.expires_in.checked_sub(elapsed) {
            None | Some(Duration::ZERO) => expired(),
            Some(left) => PollStep::Wait(wait.min(left)),
        }
    }
}

fn denied(error: &str, description: Option<&str>) -> PollStep {
    let why = words(error, description);
    let message = format!("cannot log in: the request was refused: {why}");
    PollStep::Ended(Failure::new(Kind::LoginRequired, message).hint_of(login_hint(error)))
}

fn expired() -> PollStep {
    let message = "cannot log in: the code expired before the request was confirmed (expired_token)";
    PollStep::Ended(Failure::new(Kind::LoginRequired, message).hint_of(login_hint("expired_token")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{document, form};
    use super::super::token::device_token_request;
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response::new(status, body)
    }

    fn verifier() -> Secret {
        Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    }

    fn authorization(body: &str) -> Result<DeviceAuthorization, FailedRequest> {
        let mut document = document();
        document.device_authorization_endpoint = Some("https://as.example/device".to_owned());
        read(&request(&document, &verifier(), &Authentication::None).unwrap(), &response(200, body), 0)
    }

    const ANSWER: &str = r#"{"device_code":"dc","user_code":"AB-CD","verification_uri":"https://as.example/d","expires_in":600"#;

    #[test]
    fn the_request_names_the_client_the_scope_and_a_challenge() {
        let mut document = document();
        assert_eq!(request(&document, &verifier(), &Authentication::None), None);
        document.device_authorization_endpoint = Some("https://as.example/device".to_owned());
        document.scope = Some("a b".to_owned());
        document.client_auth = crate::grant::ClientAuthentication::Basic;
        let request = request(&document, &verifier(), &Authentication::None).unwrap();
        assert_eq!(
            form(&request).encode().expose(),
            "scope=a+b&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&client_id=client+1"
        );
        assert!(request.headers.get("authorization").is_some());
    }

    #[test]
    fn the_answer_is_read_with_its_defaults() {
        let plain = authorization(&format!("{ANSWER}}}")).unwrap();
        assert_eq!((plain.interval, plain.expires_in), (DEFAULT_INTERVAL, Duration::from_secs(600)));
        let cases = [("2", 2), ("\"7\"", 7), ("0", 1), ("0.2", 1), ("-3", 1), ("null", 5), ("\"x\"", 5)];
        for (written, seconds) in cases {
            let read = authorization(&format!("{ANSWER},\"interval\":{written}}}")).unwrap();
            assert_eq!(read.interval, Duration::from_secs(seconds), "{written}");
        }
        let google = ANSWER.replace("verification_uri", "verification_url");
        assert_eq!(authorization(&format!("{google}}}")).unwrap().verification_uri, "https://as.example/d");
    }

    #[test]
    fn an_address_is_shown_whole_or_not_at_all() {
        for complete in [
            &format!("https://as.example/{}", "x".repeat(300)),
            "https://as.example/\\u200bd",
            "https://as.example/ d",
        ] {
            let body = format!(r#"{ANSWER},"verification_uri_complete":"{complete}"}}"#);
            assert_eq!(authorization(&body).unwrap().verification_uri_complete, None, "{complete}");
            let body = ANSWER.replace("https://as.example/d", complete);
            assert_eq!(
                authorization(&format!("{body}}}")).unwrap_err().failure.kind,
                Kind::Temporary,
                "{complete}"
            );
        }
    }

    #[test]
    fn an_unusable_answer_is_a_failure() {
        let cases = [
            ("{}", Kind::Temporary),
            (
                "{\"device_code\":\"d\",\"user_code\":\"\u{200b}\",\"verification_uri\":\"https://a\"}",
                Kind::Temporary,
            ),
            ("<html>", Kind::Temporary),
            (
                r#"{"device_code":"d","user_code":"u","verification_uri":"file:///etc/passwd"}"#,
                Kind::Temporary,
            ),
            (r#"{"error":"invalid_client"}"#, Kind::Usage),
            (r#"{"error":"unauthorized_client"}"#, Kind::Usage),
        ];
        for (body, kind) in cases {
            assert_eq!(authorization(body).unwrap_err().failure.kind, kind, "{body}");
        }
    }

    fn polling() -> Polling {
        Polling::new(&authorization(&format!("{ANSWER}}}")).unwrap())
    }

    fn poll(status: u16, body: &str) -> PollEvent {
        let request =
            device_token_request(&document(), &Secret::new("dc"), &verifier(), &Authentication::None);
        PollEvent::Answered(read_poll(&request, &response(status, body), 0))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    #[rustfmt::skip]
    fn the_interval_follows_the_servers_words() {
        let pending = r#"{"error":"authorization_pending"}"#;
        let mut polling = polling();
        assert_eq!(polling.next(PollEvent::Waited, seconds(0)), PollStep::Wait(seconds(5)), "waits before the first poll");
        assert_eq!(polling.next(PollEvent::Waited, seconds(5)), PollStep::Poll);
        // (status, body, seconds to wait)
        let cases = [
            (400, pending, 5),
            (428, pending, 5),
            (200, "error=authorization_pending", 5),
            (400, r#"{"error":"slow_down"}"#, 10),
            (400, pending, 10),
            (429, r#"{"error":"slow_down","interval":30}"#, 30),
            (400, r#"{"error":"slow_down","interval":1}"#, 35),
            (502, "<html>", 60),
            (400, pending, 35),
        ];
        for (status, body, wait) in cases {
            assert_eq!(polling.next(poll(status, body), seconds(20)), PollStep::Wait(seconds(wait)), "{status} {body}");
            assert_eq!(polling.next(PollEvent::Waited, seconds(20)), PollStep::Poll);
        }
    }

    #[test]
    fn without_an_answer_the_wait_doubles_up_to_a_minute() {
        let mut polling = polling();
        let lost =
            || PollEvent::Answered(PollAnswer::Other(Answer::Unknown { what: String::new(), again: true }));
        for wait in [10, 20, 40, 60, 60] {
            assert_eq!(polling.next(lost(), seconds(1)), PollStep::Wait(seconds(wait)));
        }
        let later = Answer::Temporary { what: String::new(), retry_after: Some(seconds(120)) };
        let later = PollEvent::Answered(PollAnswer::Other(later));
        assert_eq!(polling.next(later, seconds(1)), PollStep::Wait(seconds(120)));
        assert_eq!(polling.next(lost(), seconds(599)), PollStep::Wait(seconds(1)), "never outlasts the code");
    }

    #[test]
    fn polling_ends_with_tokens_or_with_a_reason() {
        let granted = polling().next(poll(200, r#"{"access_token":"a"}"#), seconds(1));
        assert!(matches!(granted, PollStep::Granted(_)));
        let cases = [
            (400, r#"{"error":"access_denied"}"#, Kind::LoginRequired),
            (403, r#"{"error":"access_denied"}"#, Kind::LoginRequired),
            (400, r#"{"error":"expired_token"}"#, Kind::LoginRequired),
            (400, r#"{"error":"invalid_grant"}"#, Kind::LoginRequired),
            (401, r#"{"error":"invalid_client"}"#, Kind::Usage),
            (301, "", Kind::Usage),
        ];
        for (status, body, kind) in cases {
            let PollStep::Ended(failure) = polling().next(poll(status, body), seconds(1)) else {
                panic!("{body}")
            };
            assert_eq!(failure.kind, kind, "{body}");
        }
        let ended = |error: &str| {
            polling()
                .next(poll(400, &format!(r#"{{"error":"{error}","error_description":"d"}}"#)), seconds(1))
        };
        assert_eq!(ended("authorization_declined"), ended("access_denied"), "the word of Entra");
        assert_eq!(ended("code_expired"), ended("expired_token"), "the word of Entra");
        // A response that cannot be read may have held the grant. It stays the reason, whatever the server says to the
        // next poll.
        for second in
            [(200, ""), (400, r#"{"error":"invalid_grant"}"#), (400, r#"{"error":"expired_token"}"#)]
        {
            let mut polling = polling();
            assert_eq!(
                polling.next(poll(200, "<html>"), seconds(1)),
                PollStep::Wait(seconds(5)),
                "asked once more"
            );
            let PollStep::Ended(failure) = polling.next(poll(second.0, second.1), seconds(6)) else {
                panic!()
            };
            assert!(failure.message.contains("not JSON; the server may have given the grant"), "{failure}");
            assert_eq!(failure.kind, Kind::Temporary);
        }
        let mut late = polling();
        let _ = late.next(poll(200, "<html>"), seconds(1));
        assert!(matches!(late.next(poll(200, r#"{"access_token":"a"}"#), seconds(6)), PollStep::Granted(_)));
        let too_long = Answer::Unknown { what: "too long".to_owned(), again: false };
        let too_long = PollEvent::Answered(PollAnswer::Other(too_long));
        let PollStep::Ended(failure) = polling().next(too_long, seconds(1)) else { panic!() };
        assert_eq!(failure, Failure::new(Kind::Temporary, "cannot log in: too long"));
        let no_tls = Answer::Failed(Failure::new(Kind::Temporary, "another network"));
        let no_tls = PollEvent::Answered(PollAnswer::Other(no_tls));
        assert!(matches!(polling().next(no_tls, seconds(1)), PollStep::Wait(_)));
        let busy = response(429, "").with_header("Retry-After", "892");
        let request =
            device_token_request(&document(), &Secret::new("dc"), &verifier(), &Authentication::None);
        let busy =
            |elapsed| polling().next(PollEvent::Answered(read_poll(&request, &busy, 0)), seconds(elapsed));
        let PollStep::Ended(late) = busy(0) else { panic!() };
        assert_eq!(late.kind, Kind::Temporary);
        assert!(late.message.contains("asks to wait 14 min 52 s, until "), "{late}");
        let PollStep::Ended(late) = polling().next(PollEvent::Waited, seconds(600)) else { panic!() };
        assert!(late.hint.is_some());
    }
}
