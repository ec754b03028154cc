//! stdout carries the answer and nothing else; everything else goes to stderr.

use crate::error::{Failure, Kind, describe};
use std::io::{self, Write};

/// Writes the answer. A reader who has left and a full disk are told alike: the session is stored by now.
pub fn answer(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    let failed =
        |error| Failure::new(Kind::Temporary, format!("cannot write to stdout: {}", describe(&error)));
    Ok(written.map_err(failed)?)
}

/// Tells a failure: `onegrant: MESSAGE`, then `hint: HINT`. In one write, so that the lines of many processes on
/// one terminal stay whole.
pub fn failure(message: &str, hint: Option<&str>) {
    let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    say(&format!("onegrant: {message}\n{hint}"));
}

/// Tells what a person should know although nothing failed.
pub fn warning(warning: &Failure) {
    failure(&format!("warning: {}", warning.message), warning.hint.as_deref());
}

/// Writes to stderr. If that is closed there is nobody left to tell.
pub fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
