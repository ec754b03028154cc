//! The hint after a login that the server refused, by its error code.

use crate::text::{cleaned, printable, quoted};

/// The command to run after each error code of RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5, RFC 8707 section
/// 2, and OpenID Connect Core section 3.1.2.6. If nothing is stored yet, server and client are added later.
const HINTS: [(&str, &str); 16] = [
    (
        "invalid_request",
        "onegrant login --param KEY=VALUE   # or --redirect-uri, or --pushed: what this server wants, by its documentation",
    ),
    (
        "invalid_client",
        "onegrant login --client-secret-file FILE   # and --client-auth basic or post, as this server wants it",
    ),
    ("invalid_grant", "onegrant login"),
    (
        "unauthorized_client",
        "onegrant login --device   # or --browser: whichever the server lets this client do",
    ),
    ("unsupported_grant_type", "onegrant login --browser   # or --device: whichever this server knows"),
    (
        "unsupported_response_type",
        "onegrant login --device   # this server gives this client no codes by a browser",
    ),
    ("invalid_scope", SCOPE),
    ("invalid_target", RESOURCE),
    ("access_denied", "onegrant login   # and agree this time"),
    ("expired_token", "onegrant login"),
    ("server_error", "onegrant login   # once more, a little later"),
    ("temporarily_unavailable", "onegrant login   # once more, a little later"),
    ("login_required", LOOK),
    ("interaction_required", LOOK),
    ("consent_required", LOOK),
    ("account_selection_required", LOOK),
];

/// For a scope that the server refuses.
pub const SCOPE: &str = "onegrant login --scope \"A B\"   # what this server lets this client ask for";

const RESOURCE: &str = "onegrant login --resource URI   # or --audience: an API that this server knows";

/// For a server that refuses a client that a login registered.
pub const REGISTER: &str =
    "onegrant login --register   # or --client-id ID: a client of your own that this server accepts";

/// For errors that a person must resolve in the browser.
const LOOK: &str = "onegrant login --param prompt=login   # and do in the browser what the server asks for";

/// A word of a command, quoted for a shell. Characters that steer a terminal are left out: no such word needs them.
pub fn shell_word(word: &str) -> String {
    let shown = match cleaned(word) == word.split_whitespace().collect::<Vec<_>>().join(" ") {
        true if !word.contains(char::is_control) => word.to_owned(),
        _ => cleaned(word),
    };
    quoted(&shown)
}

/// A word of a server, quoted for a shell. `None` if it is too long to be shown: a hint holds the whole word or nothing of it.
pub fn whole_shell_word(word: &str) -> Option<String> {
    Some(shell_word(word)).filter(|word| printable(word) == *word)
}

/// The command that logs in to this profile.
pub fn login_command(profile: &str) -> String {
    match profile {
        "default" => "onegrant login".to_owned(),
        profile => format!("onegrant --profile {profile} login"),
    }
}

/// The command that logs in at this issuer.
pub fn login_at(issuer: &str) -> String {
    format!("onegrant login {}", shell_word(issuer))
}

/// The command to run after `invalid_target` (RFC 8707 section 2). `sent_resource`: the request carried a resource indicator.
/// Some servers refuse every one.
pub fn target_hint(sent_resource: bool) -> &'static str {
    match sent_resource {
        true => "onegrant login --no-resource   # or --resource URI: an API that this server knows",
        false => RESOURCE,
    }
}

/// The command to run after a login was refused with this error code. `None` for a code of no RFC.
pub fn login_hint(error: &str) -> Option<&'static str> {
    HINTS.iter().find(|(code, _)| code.eq_ignore_ascii_case(error)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_would_change_it() {
        let cases = [
            ("https://as.example/a", "https://as.example/a"),
            ("read write", "'read write'"),
            ("two  spaces", "'two  spaces'"),
            ("it's", r"'it'\''s'"),
            ("$(date);*?&|<>~`!#\"\\", "'$(date);*?&|<>~`!#\"\\'"),
            ("", "''"),
            ("a\u{1b}[2Jb\nc", "'a [2Jb c'"),
            ("a\u{202e}b", "ab"),
            ("ü", "'ü'"),
        ];
        for (word, wanted) in cases {
            assert_eq!(shell_word(word), wanted);
        }
    }

    #[test]
    fn every_error_of_the_standards_has_a_hint_of_its_own() {
        let of_codes =
            ["invalid_request", "unauthorized_client", "access_denied", "unsupported_response_type"];
        let of_codes =
            of_codes.into_iter().chain(["invalid_scope", "server_error", "temporarily_unavailable"]);
        let of_tokens = ["invalid_client", "invalid_grant", "unsupported_grant_type"];
        let of_devices = ["access_denied", "expired_token"];
        for error in of_codes.chain(of_tokens).chain(of_devices).chain(["invalid_target", "login_required"]) {
            assert_ne!(login_hint(error), None, "{error}");
        }
        assert_eq!(login_hint("INVALID_GRANT"), Some("onegrant login"));
        assert_eq!(login_hint("device_flow_disabled"), None);
    }
}
