//! Secrets that come from outside: bounded, checked, and wiped when they are dropped.

use crate::error::{Failure, Kind};
use crate::grant::{Secret, is_visible_ascii};
use crate::text::describe;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest secret that is read, in bytes.
pub const SECRET_LIMIT: usize = 64 << 10;

/// Reads one secret: bounded, one line, without the newline at its end. `whence` is for messages.
pub fn read_secret(input: &mut dyn Read, whence: &str) -> Result<Secret, Failure> {
    one_line(read_all(input, whence)?.expose(), whence)
}

/// The same where there may be no secret: `None` if the input is empty.
pub fn read_secret_if_any(input: &mut dyn Read, whence: &str) -> Result<Option<Secret>, Failure> {
    let text = read_all(input, whence)?;
    let is_empty = text.expose().trim_end_matches(['\r', '\n']).is_empty();
    if is_empty { Ok(None) } else { one_line(text.expose(), whence).map(Some) }
}

fn read_all(input: &mut dyn Read, whence: &str) -> Result<Secret, Failure> {
    read_text(input, SECRET_LIMIT).map_err(|error| {
        let verb = if error.kind() == io::ErrorKind::FileTooLarge { "use" } else { "read" };
        Failure::new(Kind::Usage, format!("cannot {verb} {whence}: {}", describe(&error)))
    })
}

/// A text as a secret, without the newline at its end.
pub fn one_line(text: &str, whence: &str) -> Result<Secret, Failure> {
    let secret = Secret::new(text.trim_end_matches(['\r', '\n']));
    match is_visible_ascii(secret.expose()) {
        true => Ok(secret),
        false => Err(Failure::new(
            Kind::Usage,
            format!("cannot use {whence}: it is empty or holds control characters"),
        )),
    }
}

/// The whole of a file.
pub fn read_bounded(path: &Path, limit: usize) -> io::Result<Secret> {
    read_text(&mut File::open(path)?, limit)
}

/// Everything that there is to read; longer than `limit` bytes is an error.
pub fn read_text(input: &mut dyn Read, limit: usize) -> io::Result<Secret> {
    let mut text = String::new();
    let read =
        input.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_string(&mut text);
    let text = Secret::new(text);
    read?;
    match text.expose().len() > limit {
        true => {
            let why = format!("longer than {limit} bytes");
            Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
        }
        false => Ok(text),
    }
}
