//! Executable-sourced credentials of Google's libraries: no arguments, one JSON object, version 1.

use crate::error::Failure;
use crate::grant::{Secret, Session, UnixSeconds};
use crate::protocol::claims;
use serde_json::json;

const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// What Google's token service is to be given: the ID token, but for a configuration that asks for any JWT. `asked` is the
/// variable `GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE`.
pub fn subject_token<'a>(session: &'a Session, asked: Option<&str>) -> Option<&'a Secret> {
    match asked {
        Some(JWT) => Some(&session.access_token),
        _ => session.id_token.as_ref(),
    }
}

/// Whether the token has ended. A token that does not tell its end is taken as good.
pub fn has_ended(token: &Secret, now: UnixSeconds) -> bool {
    claims::expires_at(token.expose()).is_some_and(|end| end <= now)
}

/// Whether a refresh may bring another token than this one, which has ended: none was made since it ended.
pub fn is_worth_a_refresh(session: &Session, token: &Secret) -> bool {
    claims::expires_at(token.expose()).is_none_or(|end| session.obtained_at < end)
}

/// The answer with that token. It ends when the token says.
pub fn answer(token: &Secret, asked: Option<&str>) -> String {
    let token_type = if asked == Some(JWT) { JWT } else { ID_TOKEN };
    let mut answer = json!({
        "version": 1, "success": true, "token_type": token_type, "id_token": token.expose(),
    });
    if let (Some(end), Some(answer)) = (claims::expires_at(token.expose()), answer.as_object_mut()) {
        answer.insert("expiration_time".to_owned(), end.into());
    }
    answer.to_string()
}

/// Why there is none. The code is the exit code of everything else that onegrant does.
pub fn refuse(failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let message = format!("onegrant: {}{hint}", failure.message);
    json!({ "version": 1, "success": false, "code": failure.kind.code().to_string(), "message": message })
        .to_string()
}
