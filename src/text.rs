//! Text for people: what a terminal may show, and what a shell takes as one word.

use std::fmt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// The system's words without Rust's `(os error N)`, which says nothing that they do not.
pub fn describe(error: &impl fmt::Display) -> String {
    let mut text = error.to_string();
    text.truncate(text.find(" (os error").unwrap_or(text.len()));
    text
}

/// How much of a stranger's text is shown, in characters.
pub const SHOWN_CHARACTERS: usize = 300;

/// Text from a server or a file, fit for a terminal: control characters become spaces, invisible
/// formatting characters go, runs of white space fold, and at most [`SHOWN_CHARACTERS`] remain.
pub fn printable(text: &str) -> String {
    shortened(text, SHOWN_CHARACTERS)
}

/// How much of a text is shown that another onegrant left in a file, in characters: a stranger's words and ours.
const OWN_TEXT_CHARACTERS: usize = 1000;

/// Text that another onegrant left in a file, fit for a terminal: whoever could write the file wrote it.
pub fn own_text(text: &str) -> String {
    shortened(text, OWN_TEXT_CHARACTERS)
}

/// A hint that another onegrant left in a file. It is a command, so its spaces stay.
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

/// The whole of a stranger's text, on one line and without what steers a terminal.
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

/// Characters that reorder or hide their neighbours (Unicode "Cf" that terminals obey), and the tags, which no
/// terminal shows and every copy holds.
fn is_formatting(character: char) -> bool {
    matches!(character,
        '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// A path for a hint: as a shell takes it. None where a terminal would show another path than there is.
pub fn shell_word(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if printable(text) != text {
        return None;
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte);
    Some(match text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    })
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
    fn strangers_text_loses_control_characters_and_length() {
        assert_eq!(printable("a\u{1b}[31mb\r\nc\td"), "a [31mb c d");
        assert_eq!(printable("\u{202e}evil\u{200b}\u{e0041}"), "evil");
        assert_eq!(printable(&format!("{} b", "a".repeat(299))).len(), 299, "no space is left at the end");
        assert_eq!(printable(&"é".repeat(1000)).chars().count(), SHOWN_CHARACTERS);
    }

    #[test]
    fn a_hint_from_a_file_keeps_its_spaces_and_loses_what_steers_a_terminal() {
        let hint = "onegrant --store 'file:/a  b' login   # \u{1b}[31mred\u{202e}";
        assert_eq!(own_hint(hint), "onegrant --store 'file:/a  b' login   #  [31mred");
        assert_eq!(own_hint(&"x".repeat(2000)).len(), OWN_TEXT_CHARACTERS);
    }
}
