//! The claims of a JSON Web Token (RFC 7519), read without verification. They are hints for a person and for the clock,
//! and never evidence.

use crate::grant::{UnixSeconds, is_visible_ascii};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The claims of a signed token (RFC 7515 section 7.1). `None` if `token` is not one, or if it has a character that no header
/// may have, such as a line break.
pub fn claims(token: &str) -> Option<Map<String, Value>> {
    if !is_visible_ascii(token) {
        return None;
    }
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// The `exp` claim: when the token expires by the clock of the server.
pub fn expires_at(token: &str) -> Option<UnixSeconds> {
    instant(&claims(token)?, "exp")
}

/// The `iat` claim: when the token was issued by the clock of the server.
pub fn issued_at(token: &str) -> Option<UnixSeconds> {
    instant(&claims(token)?, "iat")
}

fn instant(claims: &Map<String, Value>, name: &str) -> Option<UnixSeconds> {
    numeric_date(claims.get(name)?)
}

/// A NumericDate (RFC 7519 section 2), which may have a fraction. `None`: it is no number.
pub(crate) fn numeric_date(value: &Value) -> Option<UnixSeconds> {
    let number = value.as_number()?;
    // A float-to-integer cast saturates. That is right for an absurd instant.
    #[expect(clippy::as_conversions, reason = "saturates; there is no `From` for it")]
    number.as_i64().or_else(|| number.as_f64().map(|fraction| fraction as UnixSeconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn exp_and_iat_are_read_and_nothing_else_is_a_token() {
        let cases = [
            (token(r#"{"exp":2000,"iat":1000.9,"sub":"ü"}"#), Some(2000), Some(1000)),
            (token(r#"{"exp":1e300}"#), Some(i64::MAX), None),
            (token(r#"{"exp":"2000"}"#), None, None),
            (token("[]"), None, None),
            (format!("{}\r\nX-Other: 1", token("{\"exp\":1}")), None, None),
            (format!("{}.x", token("{\"exp\":1}")), None, None),
            ("opaque".to_owned(), None, None),
            ("a.b.c".to_owned(), None, None),
            ("..".to_owned(), None, None),
            (String::new(), None, None),
        ];
        for (token, exp, iat) in cases {
            assert_eq!((expires_at(&token), issued_at(&token)), (exp, iat), "{token}");
        }
    }
}
