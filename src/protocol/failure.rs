//! The one place where an answer of a server becomes a failure.

use super::hints::{login_hint, target_hint};
use super::server_error::ServerError;
use super::token::{Answer, Refusal, TokenAnswer, words};
use super::{Request, Response};
use crate::error::{Failure, Kind};

/// What a request was for, in the words of its failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// What failed, such as `cannot log in`.
    pub what: &'static str,
    /// What failed, if the same command may succeed later.
    pub what_now: &'static str,
    /// Comes before the words of a server that refused.
    pub refused: &'static str,
    /// The kind of every refusal. `None`: the kind of the answer, and [`Kind::LoginRequired`] for a dead grant.
    pub refusal: Option<Kind>,
    /// What the server may have done if its answer is lost.
    pub lost: &'static str,
    /// The end of every message.
    pub end: &'static str,
    /// The hint of a temporary failure.
    pub temporary_hint: Option<&'static str>,
    /// The hint of a lost answer, if asking once more may bring it.
    pub lost_hint: Option<&'static str>,
}

/// Starts the device flow. No person was asked yet, so a refusal is about the request.
pub const START_DEVICE_FLOW: Purpose = Purpose {
    what: "cannot start the device flow",
    what_now: "cannot start the device flow",
    refused: "",
    refusal: Some(Kind::Usage),
    lost: "",
    end: "",
    temporary_hint: None,
    lost_hint: None,
};

/// Starts the browser flow with a pushed request. No person was asked yet, so a refusal is about the request.
pub const START_BROWSER_FLOW: Purpose = Purpose {
    what: "cannot start the browser flow",
    what_now: "cannot start the browser flow",
    ..START_DEVICE_FLOW
};

/// Polls for the grant of a device.
pub const POLL: Purpose = Purpose {
    what: "cannot log in",
    what_now: "cannot log in now",
    refused: "the server refused: ",
    refusal: None,
    lost: "",
    end: "",
    temporary_hint: None,
    lost_hint: None,
};

/// Gets the first tokens of a grant.
pub const LOGIN: Purpose = Purpose {
    lost: "; the server may have given the grant",
    end: "; nothing was stored",
    temporary_hint: Some("try again"),
    lost_hint: Some("onegrant login   # gets another one"),
    ..POLL
};

/// Spends an imported refresh token.
pub const IMPORT: Purpose = Purpose {
    refused: "the server refused the refresh token: ",
    lost: "; the refresh token may have been spent",
    temporary_hint: Some("try again with the same refresh token"),
    lost_hint: Some(
        "try again with the same refresh token: servers with a grace period answer the same once more",
    ),
    ..LOGIN
};

/// A request of a login that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRequest {
    /// The failure.
    pub failure: Failure,
    /// Whether the server does not accept the client: [`Answer::rejects_client`].
    pub rejects_client: bool,
}

impl From<Failure> for FailedRequest {
    fn from(failure: Failure) -> Self {
        Self { failure, rejects_client: false }
    }
}

impl Answer {
    /// The request that got this answer instead of what it was for.
    pub fn failed_request(self, purpose: &Purpose) -> FailedRequest {
        FailedRequest { rejects_client: self.rejects_client(), failure: self.failure(purpose) }
    }

    /// The tokens, or the failure of a request that got another answer.
    pub fn tokens(self, purpose: &Purpose) -> Result<TokenAnswer, Failure> {
        match self {
            Self::Refreshed(answer) => Ok(answer),
            answer => Err(answer.failure(purpose)),
        }
    }

    /// The failure of a request that got this answer instead of what it was for.
    pub fn failure(self, purpose: &Purpose) -> Failure {
        let Purpose { what, what_now, refused, refusal, lost, end, temporary_hint, lost_hint } = purpose;
        let refusal = |reason: Refusal, error: &str, description: Option<&str>| {
            let message = format!("{what}: {refused}{}{end}", words(error, description));
            let hint = match reason {
                Refusal::InvalidTarget { sent_resource } => Some(target_hint(sent_resource)),
                _ => login_hint(error),
            };
            Failure::new(refusal.unwrap_or(reason.kind()), message).hint_of(hint)
        };
        match self {
            Self::Refused { refusal: reason, error, description } => {
                refusal(reason, &error, description.as_deref())
            }
            Self::InvalidGrant { error, description } => {
                refusal(Refusal::Other, &error, description.as_deref())
            }
            Self::Temporary { what: why, .. } => {
                Failure::new(Kind::Temporary, format!("{what_now}: {why}{end}")).hint_of(*temporary_hint)
            }
            Self::Unknown { what: why, again } => {
                let failure = Failure::new(Kind::Temporary, format!("{what}: {why}{lost}{end}"));
                failure.hint_of(lost_hint.filter(|_| again))
            }
            Self::Failed(failure) => {
                Failure { message: format!("{what}: {}{end}", failure.message), ..failure }
            }
            Self::Impossible(failure) => failure,
            Self::Refreshed(_) => {
                Failure::new(Kind::Temporary, format!("{what}: the server answered with a token{end}"))
            }
        }
    }
}

/// What the server answered, fit to be shown: the status, then its own words.
pub(super) fn answered(request: &Request, response: &Response) -> String {
    let status = response.status_words(None);
    match ServerError::read(&response.content()).words().or_else(|| response.first_text()) {
        Some(said) => format!("{status}: {}", request.shown(&said)),
        None => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn each_answer_is_told_with_its_purpose() {
        let text = |text: &str| text.to_owned();
        let refused = Answer::Refused { refusal: Refusal::Other, error: text("access_denied"), description: Some(text("no")) };
        let target = |sent_resource| Answer::Refused {
            refusal: Refusal::InvalidTarget { sent_resource },
            error: text("invalid_target"),
            description: None,
        };
        let dead = Answer::InvalidGrant { error: text("invalid_grant"), description: None };
        let busy = Answer::Temporary { what: text("status 503"), retry_after: None };
        let lost = |again| Answer::Unknown { what: text("no whole answer"), again };
        let moved = Answer::Failed(Failure::new(Kind::Usage, "the endpoint has moved").hint("onegrant login URL"));
        let cases = [
            (&refused,     &START_DEVICE_FLOW,  Kind::Usage,         "cannot start the device flow: access_denied: no",                                            login_hint("access_denied")),
            (&dead,        &START_BROWSER_FLOW, Kind::Usage,         "cannot start the browser flow: invalid_grant",                                               Some("onegrant login")),
            (&refused,     &POLL,               Kind::LoginRequired, "cannot log in: the server refused: access_denied: no",                                       login_hint("access_denied")),
            (&dead,        &LOGIN,              Kind::LoginRequired, "cannot log in: the server refused: invalid_grant; nothing was stored",                       Some("onegrant login")),
            (&target(true),  &LOGIN,            Kind::Usage,         "cannot log in: the server refused: invalid_target; nothing was stored",                      Some(target_hint(true))),
            (&target(false), &LOGIN,            Kind::Usage,         "cannot log in: the server refused: invalid_target; nothing was stored",                      login_hint("invalid_target")),
            (&busy,        &LOGIN,              Kind::Temporary,     "cannot log in now: status 503; nothing was stored",                                          Some("try again")),
            (&busy,        &START_DEVICE_FLOW,  Kind::Temporary,     "cannot start the device flow: status 503",                                                   None),
            (&lost(true),  &LOGIN,              Kind::Temporary,     "cannot log in: no whole answer; the server may have given the grant; nothing was stored",    LOGIN.lost_hint),
            (&lost(false), &IMPORT,             Kind::Temporary,     "cannot log in: no whole answer; the refresh token may have been spent; nothing was stored",  None),
            (&moved,       &IMPORT,             Kind::Usage,         "cannot log in: the endpoint has moved; nothing was stored",                                  Some("onegrant login URL")),
        ];
        for (answer, purpose, kind, message, hint) in cases {
            let wanted = Failure { kind, message: message.to_owned(), hint: hint.map(str::to_owned) };
            assert_eq!(answer.clone().failure(purpose), wanted);
        }
    }
}
