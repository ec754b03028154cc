//! Text for people and from people: what a terminal may show, how a shell quotes a word, how a duration is written.

use std::fmt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// The text of an error without Rust's suffix `(os error N)`, which adds nothing for a person.
pub fn describe(error: &impl fmt::Display) -> String {
    let mut text = error.to_string();
    text.truncate(text.find(" (os error").unwrap_or(text.len()));
    text
}

/// How much is shown of text from a server, a file or an argument, in characters.
pub const SHOWN_CHARACTERS: usize = 300;

/// Text from a server, a file or an argument, made safe for a terminal: control characters become spaces, invisible
/// formatting characters are removed, runs of white space become one space, and at most [`SHOWN_CHARACTERS`] remain.
pub fn printable(text: &str) -> String {
    shortened(text, SHOWN_CHARACTERS)
}

/// How much is shown of text that another onegrant stored, in characters: a server's text and our own around it.
const OWN_TEXT_CHARACTERS: usize = 1000;

/// Text that another onegrant stored, made safe for a terminal: another program may have changed the file.
pub fn own_text(text: &str) -> String {
    shortened(text, OWN_TEXT_CHARACTERS)
}

/// A hint that another onegrant stored. It is a command, so its spaces stay.
pub fn own_hint(hint: &str) -> String {
    visible(hint).take(OWN_TEXT_CHARACTERS).collect()
}

fn shortened(text: &str, characters: usize) -> String {
    let folded = cleaned(text);
    match folded.char_indices().nth(characters) {
        Some((end, _)) => folded.get(..end).unwrap_or_default().trim_end().to_owned(),
        None => folded,
    }
}

/// The whole text on one line, without characters that control a terminal.
pub(crate) fn cleaned(text: &str) -> String {
    let cleaned: String = visible(text).collect();
    let mut folded = String::new();
    for word in cleaned.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded
}

fn visible(text: &str) -> impl Iterator<Item = char> {
    let visible = text.chars().filter(|character| !is_formatting(*character));
    let ends_line = |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
    visible.map(move |character| if ends_line(character) { ' ' } else { character })
}

/// Characters that reorder or hide the text around them (Unicode "Cf" that terminals obey), and the tag characters,
/// which no terminal shows but every copy contains.
fn is_formatting(character: char) -> bool {
    matches!(character,
        '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// The bytes as one word of a shell, in single quotes only if they need quotes.
pub fn quoted_bytes(word: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(byte);
    // zsh replaces a word that begins with "=" by the path of a program.
    match !word.is_empty() && !word.starts_with(b"=") && word.iter().all(is_plain) {
        true => word.to_vec(),
        false => bytes_in_single_quotes(word),
    }
}

/// The bytes as one word of a shell, always in single quotes. Only a single quote is special between them.
pub fn bytes_in_single_quotes(word: &[u8]) -> Vec<u8> {
    let escaped = word.iter().flat_map(|byte| match byte {
        b'\'' => br"'\''".as_slice(),
        byte => std::slice::from_ref(byte),
    });
    b"'".iter().chain(escaped).chain(b"'").copied().collect()
}

/// [`quoted_bytes`] of a text.
pub fn quoted(word: &str) -> String {
    String::from_utf8_lossy(&quoted_bytes(word.as_bytes())).into_owned()
}

/// [`bytes_in_single_quotes`] of a text.
pub fn in_single_quotes(word: &str) -> String {
    String::from_utf8_lossy(&bytes_in_single_quotes(word.as_bytes())).into_owned()
}

/// A path as one word of a shell, for a hint. `None` if a terminal would show another path than this one.
pub fn shell_word(path: &Path) -> Option<String> {
    path.to_str().filter(|text| printable(text) == *text).map(quoted)
}

/// The longest duration that an option can give, in seconds: about thirty years. A longer one is cut to it.
pub const LONGEST_SECONDS: u32 = 1_000_000_000;

/// Seconds as people write them: digits, with or without a fraction; no sign, exponent or unit.
pub fn parse_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut digits = whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || !digits.all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let longest = u64::from(LONGEST_SECONDS);
    // Digits alone: what does not fit is too long.
    let seconds = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(longest) };
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(Duration::new(seconds.min(longest), nanoseconds).min(Duration::from_secs(longest)))
}

/// Whole seconds, rounded up.
pub fn whole_seconds(duration: Duration) -> i64 {
    let whole = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    whole.saturating_add(i64::from(duration.subsec_nanos() > 0))
}

/// The seconds of a wait with one decimal, for people.
pub fn tenths(duration: Duration) -> String {
    let rounded = duration.saturating_add(Duration::from_millis(50));
    format!("{}.{}", rounded.as_secs(), rounded.subsec_millis() / 100)
}

/// A number in a text, as JSON writes it.
pub fn parse_number(text: &str) -> Option<f64> {
    serde_json::from_str(text).ok()
}

/// An instant for people (RFC 9110 section 5.6.7).
pub fn date(instant: i64) -> String {
    // 9999-12-31: the last instant that the format can write.
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(instant).unwrap_or(0).min(LAST);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_digits_with_or_without_a_fraction() {
        let read = |text| parse_seconds(text).map(|duration| duration.as_nanos());
        assert_eq!(read("30"), Some(30_000_000_000));
        assert_eq!(read("0.25"), Some(250_000_000));
        assert_eq!(read(".5"), Some(500_000_000));
        assert_eq!(read("007."), Some(7_000_000_000));
        assert_eq!(read("1.0000000019"), Some(1_000_000_001));
        for long in ["1000000000", "1000000000.5", "99999999999999999999999"] {
            assert_eq!(parse_seconds(long), Some(Duration::from_secs(LONGEST_SECONDS.into())), "{long}");
        }
        for other in ["", ".", "1.2.3", "-1", "+1", "1e3", " 1", "1s", "inf", "NaN", "١"] {
            assert_eq!(parse_seconds(other), None, "{other}");
        }
    }

    #[test]
    fn a_wait_is_shown_in_whole_seconds_or_tenths() {
        let shown = |milliseconds| {
            let duration = Duration::from_millis(milliseconds);
            (whole_seconds(duration), tenths(duration))
        };
        assert_eq!(shown(0), (0, "0.0".to_owned()));
        assert_eq!(shown(1), (1, "0.0".to_owned()));
        assert_eq!(shown(1960), (2, "2.0".to_owned()));
        assert_eq!(shown(30_000), (30, "30.0".to_owned()));
        assert_eq!(whole_seconds(Duration::MAX), i64::MAX);
        assert_eq!(tenths(Duration::MAX), format!("{}.9", u64::MAX));
    }

    #[test]
    fn untrusted_text_loses_control_characters_and_length() {
        assert_eq!(printable("a\u{1b}[31mb\r\nc\td"), "a [31mb c d");
        assert_eq!(printable("\u{202e}evil\u{200b}\u{e0041}"), "evil");
        assert_eq!(printable(&format!("{} b", "a".repeat(299))).len(), 299, "no space is left at the end");
        assert_eq!(printable(&"é".repeat(1000)).chars().count(), SHOWN_CHARACTERS);
    }

    #[test]
    fn a_stored_hint_keeps_its_spaces_and_loses_control_characters() {
        let hint = "onegrant --store 'file:/a  b' login   # \u{1b}[31mred\u{202e}";
        assert_eq!(own_hint(hint), "onegrant --store 'file:/a  b' login   #  [31mred");
        assert_eq!(own_hint(&"x".repeat(2000)).len(), OWN_TEXT_CHARACTERS);
    }

    #[test]
    fn a_shell_reads_a_quoted_word_back() {
        let cases = [
            ("/a/b.c", "/a/b.c"),
            ("--name=value", "--name=value"),
            ("=ls", "'=ls'"),
            ("", "''"),
            ("two  spaces", "'two  spaces'"),
            ("it's", r"'it'\''s'"),
            ("~/a", "'~/a'"),
            ("ü", "'ü'"),
        ];
        for (word, wanted) in cases {
            assert_eq!(quoted(word), wanted);
        }
        assert_eq!(in_single_quotes("a"), "'a'");
        assert_eq!(quoted_bytes(b"\xff"), b"'\xff'");
        assert_eq!(shell_word(Path::new("/a\u{1b}[2J")), None, "a terminal shows another path");
    }
}
