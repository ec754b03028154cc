//! Failures: what failed and why, what mends it, and the one table of exit codes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The exit code of what did not fail.
pub const SUCCESS: u8 = 0;

/// What the caller can do next. The number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A defect of ours: report it.
    Defect = 1,
    /// Wrong usage or configuration: mend the call.
    Usage = 2,
    /// A login is required: ask a person.
    LoginRequired = 3,
    /// Network, 429, 5xx or the deadline: the session is untouched, try again.
    Temporary = 4,
    /// The store failed; nothing was overwritten: mend the store.
    Store = 5,
}

impl Kind {
    /// The kind that ends with this exit code; a code that is not ours is a defect.
    pub fn from_code(code: u8) -> Self {
        match code {
            2 => Self::Usage,
            3 => Self::LoginRequired,
            4 => Self::Temporary,
            5 => Self::Store,
            _ => Self::Defect,
        }
    }

    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Defect => 1,
            Self::Usage => 2,
            Self::LoginRequired => 3,
            Self::Temporary => 4,
            Self::Store => 5,
        }
    }
}

/// A failure as a person meets it: `onegrant: MESSAGE`, then `hint: HINT`.
///
/// The message names what failed and why, in that order, and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// What the caller can do next.
    pub kind: Kind,
    /// `what failed: why`, lower case, without a full stop.
    pub message: String,
    /// The command that mends it, where there is one.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Adds the command that mends it, where one is known.
    pub fn hint_of(self, hint: Option<&str>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Adds the command that mends it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A failure that the caller was told in another protocol's way: nothing is left to say, and this is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyReported(pub u8);

impl fmt::Display for AlreadyReported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "exit code {}", self.0)
    }
}

impl std::error::Error for AlreadyReported {}

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

    #[test]
    fn kinds_and_exit_codes_agree() {
        for code in 1..=5 {
            assert_eq!(Kind::from_code(code).code(), code);
        }
    }
}
