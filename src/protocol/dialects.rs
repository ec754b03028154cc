//! How the answers of some servers differ from the RFCs, as data.
//!
//! Every answer is read with every dialect. A profile may not name its provider, many servers run their provider's software
//! under another host, and no word of one dialect means something else in another.

use super::providers::PROVIDERS;

/// What one server says in its own words.
#[derive(Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Error codes of a refresh token that is spent or dead: `invalid_grant` (RFC 6749 section 5.2).
    pub dead_grant: &'static [&'static str],
    /// Error codes that mean this only with a certain description, and that description.
    pub dead_grant_texts: &'static [(&'static str, &'static str)],
    /// Error codes of a person who refused: `access_denied` (RFC 8628 section 3.5).
    pub denied: &'static [&'static str],
    /// Error codes of a device code that has expired: `expired_token` (RFC 8628 section 3.5).
    pub expired: &'static [&'static str],
    /// Members that hold an error, or several: as an object or as an array.
    pub errors: &'static [&'static str],
    /// Members with a text that may be an error code: `error` (RFC 6749 section 5.2).
    pub codes: &'static [&'static str],
    /// Members that a person can read: `error_description` (RFC 6749 section 5.2).
    pub descriptions: &'static [&'static str],
    /// Members of an error, whatever the status is.
    pub signs: &'static [&'static str],
    /// Members that are `false` in an error, whatever the status is.
    pub denials: &'static [&'static str],
    /// Members with the lifetime in seconds, where `expires_in` has another unit (RFC 6749 section 5.1).
    pub expires_in: &'static [&'static str],
    /// Members with the address for a person: `verification_uri` (RFC 8628 section 3.2).
    pub verification_uri: &'static [&'static str],
}

/// The dialect of a server that keeps to the RFCs.
pub const STANDARD: Dialect = Dialect {
    dead_grant: &[],
    dead_grant_texts: &[],
    denied: &[],
    expired: &[],
    errors: &[],
    codes: &[],
    descriptions: &[],
    signs: &[],
    denials: &[],
    expires_in: &[],
    verification_uri: &[],
};

/// Servers that have no row in [`PROVIDERS`], by name.
pub static OTHERS: &[(&str, Dialect)] = &[
    (
        "Apigee",
        Dialect {
            dead_grant: &["invalid_refresh_token"],
            errors: &["fault"],
            codes: &["errorcode"],
            descriptions: &["faultstring"],
            signs: &["fault"],
            ..STANDARD
        },
    ),
    ("Fitbit", Dialect { codes: &["errorType"], signs: &["errorType"], denials: &["success"], ..STANDARD }),
    ("HubSpot", Dialect { dead_grant: &["bad_refresh_token"], ..STANDARD }),
    (
        "OpenAI",
        Dialect {
            dead_grant: &[
                "refresh_token_reused",
                "refresh_token_expired",
                "refresh_token_invalidated",
                "refresh_token_revoked",
            ],
            ..STANDARD
        },
    ),
    ("Ory Hydra", Dialect { dead_grant: &["token_inactive"], ..STANDARD }),
    ("Zoho", Dialect { expires_in: &["expires_in_sec"], ..STANDARD }),
];

/// Every dialect.
pub fn all() -> impl Iterator<Item = &'static Dialect> {
    PROVIDERS.iter().map(|provider| &provider.dialect).chain(OTHERS.iter().map(|(_, dialect)| dialect))
}

/// The words of the RFCs, or of many servers, and then those of the dialects.
pub(super) fn with_words_of_dialects(
    general: &[&'static str],
    words: fn(&'static Dialect) -> &'static [&'static str],
) -> Vec<&'static str> {
    general.iter().copied().chain(all().flat_map(|dialect| words(dialect).iter().copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Response;
    use crate::protocol::server_error::ServerError;
    use std::collections::BTreeSet;

    /// Each of these words ends a session. So the documentation names them all, and each of them counts.
    #[test]
    fn the_documented_words_are_those_for_a_dead_grant() {
        let documentation = include_str!("../../docs/design.md");
        let (_, words) = documentation.split_once("Words for a dead refresh token: ").unwrap();
        let (words, texts) = words.split_once(", in any case,").unwrap();
        let documented = words.split([',', '`']).map(str::trim).filter(|word| !word.is_empty());
        let documented: BTreeSet<&str> = documented.collect();
        let known = with_words_of_dialects(&["invalid_grant"], |dialect| dialect.dead_grant);
        assert_eq!(documented, known.into_iter().collect());
        let said = |error: &str, text: &str| format!(r#"{{"error":"{error}","error_description":"{text}"}}"#);
        let is_dead =
            |body: &str| ServerError::read(&Response::new(400, body).content()).dead_grant().is_some();
        for word in documented {
            assert!(is_dead(&said(word, "d")), "{word}");
        }
        for (error, text) in all().flat_map(|dialect| dialect.dead_grant_texts) {
            assert!(texts.contains(&format!("`{error}`")) && texts.contains(&format!("`{text}`")), "{text}");
            assert!(is_dead(&said(error, text)) && !is_dead(&said(error, "d")), "{error}: {text}");
        }
    }
}
