//! Scopes: sets of words, separated by single spaces (RFC 6749 section 3.3).

use super::hints::shell_word;
use crate::grant::Document;

/// How much of a scope that a server names is used, in bytes. The scopes of one API take some hundred, and the scope of a login
/// is a part of an address that a browser opens: browsers and servers take some thousand bytes.
pub const NAMED_LIMIT: usize = 4096;

/// The words of a server that are scopes, in order, as far as [`NAMED_LIMIT`] goes.
pub fn named<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let mut length: usize = 0;
    let is_within_limit = move |word: &&str| {
        length = length.saturating_add(word.len()).saturating_add(1);
        length <= NAMED_LIMIT
    };
    words.filter(|word| is_scope_token(word)).take_while(is_within_limit)
}

/// Everything of `requested`, and then what is new in `demanded`, the text of a server, in order.
pub fn union(requested: &str, demanded: &str) -> String {
    let mut union: Vec<&str> = Vec::new();
    let mut add = |word| {
        if !union.contains(&word) {
            union.push(word);
        }
    };
    requested.split_ascii_whitespace().for_each(&mut add);
    named(demanded.split_ascii_whitespace()).for_each(&mut add);
    union.join(" ")
}

/// Whether each word of `scope` is in `other`.
pub fn is_subset(scope: &str, other: &str) -> bool {
    scope.split_ascii_whitespace().all(|word| other.split_ascii_whitespace().any(|known| known == word))
}

/// The login after `insufficient_scope` (RFC 6750 section 3.1): what the earlier login requested, or without that what the
/// server granted, and what is demanded now. A refresh cannot add a scope (RFC 6749 section 6).
pub fn login_with(demanded: &str, document: &Document) -> String {
    let granted = document.session.as_ref().and_then(|session| session.scope.as_deref());
    let scope = union(document.scope.as_deref().or(granted).unwrap_or_default(), demanded);
    format!("onegrant login --scope {}", shell_word(&scope))
}

/// Whether this is one scope (RFC 6749 section 3.3, `scope-token`).
pub fn is_scope_token(word: &str) -> bool {
    let is_of_it = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !word.is_empty() && word.bytes().all(is_of_it)
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    #[test]
    fn a_scope_is_a_set_of_words() {
        for (scope, other) in [("", ""), ("", "a"), ("a", "a"), (" b  a b", "a b c"), ("a", " a")] {
            assert!(is_subset(scope, other), "{scope} {other}");
        }
        for (scope, other) in [("a", ""), ("a b", "a"), ("a", "ab"), ("A", "a")] {
            assert!(!is_subset(scope, other), "{scope} {other}");
        }
    }

    #[test]
    fn a_union_keeps_the_order_and_has_each_scope_once() {
        let cases = [
            ("", "", ""),
            ("a b", "", "a b"),
            ("", "a b", "a b"),
            ("b a", "a c b d", "b a c d"),
            ("a", "A", "a A"),
            ("read  read", "read", "read"),
            ("files:read", "files:write files:read", "files:read files:write"),
            ("a", "b\"c d\\e f\u{1b}[2J ü g", "a g"),
        ];
        for (requested, demanded, wanted) in cases {
            assert_eq!(union(requested, demanded), wanted, "{requested} + {demanded}");
        }
    }

    #[test]
    fn a_server_cannot_make_the_union_long() {
        let demanded: Vec<String> = (0..10_000).map(|number| format!("s{number}")).collect();
        let union = union("mine", &demanded.join(" "));
        assert!(union.starts_with("mine s0 s1 ") && union.len() <= NAMED_LIMIT + 5, "{}", union.len());
    }

    #[test]
    fn the_login_after_insufficient_scope_asks_for_what_was_there_before_and_for_more() {
        let mut document = document();
        assert_eq!(login_with("a", &document), "onegrant login --scope a");
        document.session.as_mut().unwrap().scope = Some("granted".to_owned());
        assert_eq!(login_with("a", &document), "onegrant login --scope 'granted a'");
        document.scope = Some("openid requested".to_owned());
        assert_eq!(login_with("a openid", &document), "onegrant login --scope 'openid requested a'");
    }
}
