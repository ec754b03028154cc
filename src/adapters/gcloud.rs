//! Executable-sourced credentials of Google's libraries: no arguments, one JSON object, version 1.

use super::formats::Given;
use crate::error::Failure;
use crate::grant::{Session, TokenKind};
use serde_json::json;

const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The token for Google's token service: the ID token, or the access token if the configuration asks for any JWT.
/// `token_type` is the variable `GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE`.
pub fn requested(token_type: Option<&str>) -> TokenKind {
    match token_type {
        Some(JWT) => TokenKind::AccessToken,
        _ => TokenKind::IdToken,
    }
}

/// The answer with the token of this kind. It expires with the token.
pub fn answer(session: &Session, kind: TokenKind) -> Result<String, Failure> {
    let token_type = if kind == TokenKind::IdToken { ID_TOKEN } else { JWT };
    let given = Given::new(session, kind)?;
    let mut answer = json!({
        "version": 1, "success": true, "token_type": token_type, "id_token": given.token(),
    });
    if let (Some(end), Some(answer)) = (given.expires_at(), answer.as_object_mut()) {
        answer.insert("expiration_time".to_owned(), end.into());
    }
    Ok(answer.to_string())
}

/// The answer if there is no token. Its code is the exit code of the failure.
pub fn refuse(failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let message = format!("onegrant: {}{hint}", failure.message);
    json!({ "version": 1, "success": false, "code": failure.kind.code().to_string(), "message": message })
        .to_string()
}
