//! The ID token (OpenID Connect Core section 2). Section 3.1.3.7 says how to check one that came from the token endpoint
//! over TLS: the connection replaces the check of the signature, and everything else is checked.

use super::claims::claims;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, UnixSeconds};
use crate::text::printable;
use serde_json::{Map, Value};

/// How far this machine's clock may be ahead of the server's, in seconds.
pub const CLOCK_TOLERANCE_SECONDS: i64 = 300;

/// Checks the token and returns its claims. `nonce` is the one of the authorization request.
pub fn check(
    id_token: &Secret,
    document: &Document,
    nonce: Option<&Secret>,
    now: UnixSeconds,
) -> Result<Map<String, Value>, Failure> {
    let refuse = |why: String| Failure::new(Kind::LoginRequired, format!("cannot trust the ID token: {why}"));
    let claims = claims(id_token.expose()).ok_or_else(|| refuse("it is not a signed token".to_owned()))?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let shown = |name: &str| printable(text(name));
    let client_id = document.client_id.as_str();

    // Number 2, if the issuer is known and not assumed.
    if document.known_issuer().is_some_and(|issuer| issuer != text("iss")) {
        let issuer = document.known_issuer().unwrap_or_default();
        return Err(refuse(format!("it is of the issuer {}, not of {}", shown("iss"), printable(issuer))));
    }
    if text("sub").is_empty() {
        return Err(refuse("it names no person (sub)".to_owned()));
    }
    // Numbers 3 to 5. Another audience besides this client is one that the server trusts, too, if the token names the
    // party that asked.
    let audience = audience(&claims);
    if !audience.iter().any(|party| party == client_id) {
        return Err(refuse(format!("it is for {}, not for this client", printable(&audience.join(", ")))));
    }
    let authorized_party = claims.get("azp").and_then(Value::as_str);
    if authorized_party.is_some_and(|party| party != client_id) {
        return Err(refuse(format!("it was given to the client {}", shown("azp"))));
    }
    // Number 9.
    let expires_at = super::claims::expires_at(id_token.expose());
    let Some(expires_at) = expires_at else {
        return Err(refuse("it does not say when it expires (exp)".to_owned()));
    };
    if expires_at.saturating_add(CLOCK_TOLERANCE_SECONDS) <= now {
        let failure = refuse("by this machine's clock it has expired".to_owned());
        return Err(failure.hint("date   # compare this machine's clock with the server's"));
    }
    // Number 11.
    if nonce.is_some_and(|nonce| nonce.expose() != text("nonce")) {
        return Err(refuse("it answers another request (nonce)".to_owned()));
    }
    Ok(claims)
}

/// Whether the ID token of a refresh is about the same login as the previous one (OpenID Connect Core section 12.2). It
/// need not repeat the nonce.
pub fn follows(next: &Secret, previous: &Secret) -> bool {
    match (claims(next.expose()), claims(previous.expose())) {
        (Some(next), Some(previous)) => {
            let repeats = |name: &str| next.get(name) == previous.get(name);
            let has_nonce = [&next, &previous].iter().all(|claims| claims.contains_key("nonce"));
            ["iss", "sub", "aud"].into_iter().all(repeats) && (!has_nonce || repeats("nonce"))
        }
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

/// For which parties it is (`aud`): one, or several.
pub fn audience(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::json;

    fn token(claims: &Value) -> Secret {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        Secret::new(format!("eyJhbGciOiJub25lIn0.{payload}.c2ln"))
    }

    fn with(change: Value) -> Secret {
        let mut claims =
            json!({ "iss": "https://as.example", "sub": "me", "aud": "c", "exp": 2000, "nonce": "n" });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        token(&claims)
    }

    /// The numbers are those of OpenID Connect Core section 3.1.3.7.
    #[test]
    fn each_claim_is_checked() {
        let mut document = Document::new("https://as.example", "https://as.example/token");
        document.client_id = "c".to_owned();
        let judged = |id_token: &Secret, document: &Document| {
            let nonce = Secret::new("n");
            check(id_token, document, Some(&nonce), 1000)
                .map_or_else(|failure| failure.message, |_| "good".to_owned())
        };
        let cases = [
            (json!({}), "good"),
            (json!({ "aud": ["other", "c"], "azp": "c" }), "good"),
            (json!({ "exp": 701 }), "good"),
            (json!({ "iss": "https://as.example/" }), "2: it is of the issuer https://as.example/"),
            (json!({ "iss": null }), "2: it is of the issuer"),
            (json!({ "sub": "" }), "it names no person"),
            (json!({ "aud": "other" }), "3: it is for other, not for this client"),
            (json!({ "aud": null }), "3: not for this client"),
            (json!({ "aud": ["c"], "azp": "other" }), "5: it was given to the client other"),
            (json!({ "exp": 700 }), "9: it has expired"),
            (json!({ "exp": null }), "9: it does not say when it expires"),
            (json!({ "nonce": "other" }), "11: it answers another request"),
            (json!({ "nonce": null }), "11: it answers another request"),
        ];
        for (change, wanted) in cases {
            let found = judged(&with(change.clone()), &document);
            let words = wanted.split_once(": ").map_or(wanted, |(_, words)| words);
            let words = words.split_once("it has").map_or(words, |_| "it has expired");
            assert!(found.contains(words), "{change}: {found}");
        }
        assert!(judged(&Secret::new("opaque"), &document).contains("not a signed token"));
        document.issuer_is_assumed = true;
        assert_eq!(judged(&with(json!({ "iss": "https://elsewhere" })), &document), "good");
    }

    #[test]
    fn the_token_of_a_refresh_is_about_the_same_login() {
        let first = with(json!({}));
        let bare = token(&json!({ "iss": "https://as.example", "sub": "me", "aud": "c", "exp": 9 }));
        assert!(follows(&bare, &first) && follows(&first, &bare));
        assert!(!follows(&with(json!({ "nonce": "of another login" })), &first));
        for change in [json!({ "sub": "you" }), json!({ "iss": "x" }), json!({ "aud": "x" })] {
            assert!(!follows(&with(change.clone()), &first), "{change}");
        }
        assert!(!follows(&Secret::new("opaque"), &first));
        assert!(follows(&first, &Secret::new("opaque")));
    }
}
