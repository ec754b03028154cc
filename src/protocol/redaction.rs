//! Hiding secrets in texts that other programs wrote.

use crate::grant::Secret;
use crate::text::cleaned;

/// What is shown in the place of a secret.
const HIDDEN: &str = "[secret]";

/// The shortest secret, in bytes, that is hidden wherever it occurs. A shorter one could be a part of any word.
pub(super) const SHORTEST_SECRET: usize = 8;

/// The shortest word, in bytes, that is hidden because it is a secret. A shorter one says nothing, and texts are full of it.
const SHORTEST_HIDDEN_WORD: usize = 4;

/// Whether a member of this name holds a secret, or several: `apiKey`, `refresh_tokens`, `token_value`, but not
/// `token_endpoint`.
pub(super) fn secret_name(name: &str) -> bool {
    const WORDS: [&str; 6] = ["token", "secret", "passw", "assertion", "cookie", "credential"];
    const ENDS: [&str; 4] = ["key", "keys", "ticket", "jwt"];
    // A member with such an ending describes a secret and does not hold it.
    const ABOUT: [&str; 10] =
        ["type", "expiration", "expiry", "lifetime", "ttl", "scope", "uri", "url", "endpoint", "method"];
    let name = name.to_ascii_lowercase();
    let is_secret =
        WORDS.iter().any(|word| name.contains(word)) || ENDS.iter().any(|end| name.ends_with(end));
    is_secret && !name.contains("expires") && !ABOUT.iter().any(|about| name.ends_with(about))
}

/// The text without these secrets: as they are, as they are shown, and form-encoded. Secrets that overlap are hidden
/// together, because what is left of one is a secret too. Call it before the text is shortened: half a token is a secret too.
///
/// A secret that is shorter than [`SHORTEST_SECRET`] and could be a word is hidden only as a whole word, and not at all below
/// [`SHORTEST_HIDDEN_WORD`]. Hiding it inside other words would break up the text and show where the secret is.
pub fn redact(text: &str, secrets: &[&Secret]) -> String {
    let mut is_hidden = vec![false; text.len()];
    for secret in secrets.iter().map(|secret| secret.expose()) {
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for spelling in [secret, &cleaned(secret), &encoded] {
            let is_short = spelling.len() < SHORTEST_SECRET && spelling.chars().all(is_of_a_word);
            if spelling.is_empty() || (is_short && spelling.len() < SHORTEST_HIDDEN_WORD) {
                continue;
            }
            for (start, found) in text.match_indices(spelling) {
                if !is_short || is_word(text, start, found.len()) {
                    is_hidden.iter_mut().skip(start).take(found.len()).for_each(|byte| *byte = true);
                }
            }
        }
    }
    let mut shown = String::with_capacity(text.len());
    let mut was_hidden = false;
    for (start, character) in text.char_indices() {
        let is_hidden = is_hidden.get(start) == Some(&true);
        match (is_hidden, was_hidden) {
            (false, _) => shown.push(character),
            (true, false) => shown.push_str(HIDDEN),
            (true, true) => {}
        }
        was_hidden = is_hidden;
    }
    shown
}

fn is_of_a_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether this part of the text is not a part of a longer word.
fn is_word(text: &str, start: usize, length: usize) -> bool {
    let before = text.get(..start).and_then(|before| before.chars().next_back());
    let after = text.get(start.saturating_add(length)..).and_then(|after| after.chars().next());
    ![before, after].into_iter().flatten().any(is_of_a_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_either_spelling() {
        let (token, empty) = (Secret::new("a+b/c"), Secret::new(""));
        assert_eq!(
            redact("no a+b/c, no token=a%2Bb%2Fc&x", &[&token, &empty]),
            "no [secret], no token=[secret]&x"
        );
    }

    #[test]
    fn nothing_is_left_of_secrets_that_overlap() {
        let [token, longer, behind] = ["abcdefgh", "abcdefghijk", "ijklmnop"].map(Secret::new);
        for secrets in [[&token, &longer, &behind], [&behind, &longer, &token]] {
            assert_eq!(redact("<abcdefghijklmnop> <abcdefgh>", &secrets), "<[secret]> <[secret]>");
        }
    }

    #[test]
    fn the_same_secret_several_times_is_hidden_once() {
        let secret = Secret::new("e+");
        assert_eq!(redact(&"te+".repeat(1000), &[&secret; 9]), "t[secret]".repeat(1000));
    }

    #[test]
    #[rustfmt::skip]
    fn a_secret_that_could_be_a_word_does_not_break_up_other_words() {
        // (secret, text, what is shown of it)
        let cases = [
            ("a",        "a bad client",                  "a bad client"),
            ("bad",      "a bad client",                  "a bad client"),
            ("client",   "the clients of client, client", "the clients of [secret], [secret]"),
            ("client",   "invalid_client: client=client", "invalid_client: [secret]=[secret]"),
            ("pass",     "password pass",                 "password [secret]"),
            ("p+ss",     "xp+ssx p%2Bss",                 "x[secret]x [secret]"),
            ("1234567",  "12345678 1234567",              "12345678 [secret]"),
            ("12345678", "0123456789",                    "0[secret]9"),
            ("password", "passwords",                     "[secret]s"),
            ("éééé",     "éééé",                          "[secret]"),
        ];
        for (secret, text, shown) in cases {
            assert_eq!(redact(text, &[&Secret::new(secret)]), shown, "{secret}");
        }
    }
}
