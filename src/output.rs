//! stdout carries the answer and nothing else; everything else goes to stderr.

use crate::error::{Failure, Kind, describe};
use std::io::{self, Write};

/// Writes the answer. A reader who has left and a full disk are told alike: the session is stored by now.
pub fn answer(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| {
        Failure::new(Kind::Temporary, format!("cannot write to stdout: {}", describe(&error)))
    })
}

/// Tells a failure: `onegrant: MESSAGE`, then `hint: HINT`. In one write, so that the lines of many processes on
/// one terminal stay whole.
pub fn failure(failure: &Failure) {
    let mut text = format!("onegrant: {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    say(&text);
}

/// Tells what a person should know although nothing failed.
pub fn warning(warning: &Failure) {
    failure(&Failure { message: format!("warning: {}", warning.message), ..warning.clone() });
}

/// Writes to stderr. If that is closed there is nobody left to tell.
pub fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
