//! What the answer to the token request of a login means for the person who logs in.

use super::hints::login_hint;
use super::token::{Answer, TokenAnswer, words};
use crate::error::{Failure, Kind};
use crate::grant::Document;

/// What the token request of a login is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginGrant {
    /// An authorization code, or what the client has itself. The next login gets another one.
    New,
    /// A refresh token that was obtained elsewhere. There may be no other one.
    Imported,
}

/// The tokens in the answer, or the failure of the login. `document` is the configuration of the login.
pub fn tokens_of_login(
    answer: Answer,
    grant: LoginGrant,
    document: &Document,
) -> Result<TokenAnswer, Failure> {
    let refused = |kind, error: &str, description: Option<&str>| {
        let what = match grant {
            LoginGrant::New => "the server refused",
            LoginGrant::Imported => "the server refused the refresh token",
        };
        let words = words(error, description);
        Failure::new(kind, format!("cannot log in: {what}: {words}; nothing was stored"))
    };
    Err(match (answer, grant) {
        (Answer::Refreshed(answer), _) => return Ok(answer),
        (Answer::InvalidGrant { error, description }, LoginGrant::Imported) => {
            refused(Kind::LoginRequired, &error, description.as_deref()).hint(another_grant(document))
        }
        (Answer::InvalidGrant { error, description }, LoginGrant::New) => {
            refused(Kind::LoginRequired, &error, description.as_deref()).hint_of(login_hint(&error))
        }
        (Answer::Refused { kind, error, description }, _) => {
            refused(kind, &error, description.as_deref()).hint_of(login_hint(&error))
        }
        (Answer::Temporary { what, .. }, grant) => {
            let failure =
                Failure::new(Kind::Temporary, format!("cannot log in now: {what}; nothing was stored"));
            failure.hint(match grant {
                LoginGrant::New => "try again",
                LoginGrant::Imported => "try again with the same refresh token",
            })
        }
        (Answer::Unknown { what, again }, grant) => {
            let (lost, hint) = match grant {
                LoginGrant::New => {
                    ("the server may have given the grant", "onegrant login   # gets another one")
                }
                LoginGrant::Imported => (
                    "the refresh token may have been spent",
                    "try again with the same refresh token: servers with a grace period answer the same once more",
                ),
            };
            let message = format!("cannot log in: {what}; {lost}; nothing was stored");
            Failure::new(Kind::Temporary, message).hint_of(again.then_some(hint))
        }
        (Answer::Failed(failure), _) => {
            let message = format!("cannot log in: {}; nothing was stored", failure.message);
            Failure { message, ..failure }
        }
        (Answer::Impossible(failure), _) => failure,
    })
}

/// The command that gets a grant in place of a refresh token that is dead: only a flow that has its endpoint.
fn another_grant(document: &Document) -> &'static str {
    match (&document.device_authorization_endpoint, &document.authorization_endpoint) {
        (Some(_), _) => "onegrant login --device   # gets a new grant",
        (None, Some(_)) => "onegrant login --browser   # gets a new grant",
        (None, None) => "onegrant login --refresh-token-stdin < FILE   # with another refresh token",
    }
}
