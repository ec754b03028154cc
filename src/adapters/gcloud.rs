//! Executable-sourced credentials of Google's libraries: no arguments, one JSON object, version 1.

use crate::error::Failure;
use crate::grant::{Secret, Session, UnixSeconds};
use crate::protocol::claims;
use serde_json::json;

const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The token for Google's token service: the ID token, or the access token if the configuration asks for any JWT.
/// `token_type` is the variable `GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE`.
pub fn subject_token<'a>(session: &'a Session, token_type: Option<&str>) -> Option<&'a Secret> {
    match token_type {
        Some(JWT) => Some(&session.access_token),
        _ => session.id_token.as_ref(),
    }
}

/// Whether the token has expired. A token without an expiry time counts as valid.
pub fn has_expired(token: &Secret, now: UnixSeconds) -> bool {
    claims::expires_at(token.expose()).is_some_and(|end| end <= now)
}

/// Whether a refresh may bring another token than this expired one: there was no refresh since it expired.
pub fn is_worth_a_refresh(session: &Session, token: &Secret) -> bool {
    claims::expires_at(token.expose()).is_none_or(|end| session.obtained_at < end)
}

/// The answer with this token. It expires with the token.
pub fn answer(token: &Secret, token_type: Option<&str>) -> String {
    let token_type = if token_type == Some(JWT) { JWT } else { ID_TOKEN };
    let mut answer = json!({
        "version": 1, "success": true, "token_type": token_type, "id_token": token.expose(),
    });
    if let (Some(end), Some(answer)) = (claims::expires_at(token.expose()), answer.as_object_mut()) {
        answer.insert("expiration_time".to_owned(), end.into());
    }
    answer.to_string()
}

/// The answer if there is no token. Its code is the exit code of the failure.
pub fn refuse(failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let message = format!("onegrant: {}{hint}", failure.message);
    json!({ "version": 1, "success": false, "code": failure.kind.code().to_string(), "message": message })
        .to_string()
}
