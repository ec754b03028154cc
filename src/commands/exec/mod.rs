//! `onegrant exec`: a command with a token in its environment, which takes this process's place.

pub mod keeper;

use super::token_file::TokenFile;
use super::{Context, token};
use crate::cli;
use crate::error::{Failure, Kind, Told, describe, printable};
use crate::output;
use crate::system::SignalsAsGiven;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable for the token where none is named.
const VARIABLE: &str = "ACCESS_TOKEN";

/// The variable for the path of a file that holds the token.
const FILE_VARIABLE: &str = "ACCESS_TOKEN_FILE";

/// A shell's exit codes for a command that cannot be run, and for one that is not there (POSIX, XCU 2.8.2).
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Gets a token and becomes the command. What it returns is why it did not.
pub fn run(arguments: &cli::Exec, context: &Context) -> anyhow::Result<()> {
    let signals = SignalsAsGiven::read();
    let Some((program, words)) = arguments.command.split_first() else {
        return Err(Failure::new(Kind::Usage, "exec needs a command to run").into());
    };
    let path = arguments.file.as_deref().map(absolute).transpose()?;
    // What cannot be kept fresh is refused before anything is requested.
    let file = path.as_deref().map(TokenFile::find).transpose()?;
    let token = context.obtain(token::lasting(arguments.min_ttl))?;
    context.network_warnings().for_each(|warning| output::warning(&warning));

    let mut command = Command::new(program);
    command.args(words);
    let names = arguments.env.iter().map(String::as_str);
    let default = arguments.env.is_empty().then_some(VARIABLE);
    for name in names.chain(default) {
        command.env(name, token.session.access_token.expose());
    }
    if let (Some(path), Some(file)) = (path, file) {
        let text = token::format(&token.session, arguments.format.unwrap_or_default(), context)?;
        file.write(text.as_bytes(), context.left())?;
        keeper::start(&path, arguments, context)?;
        command.env(FILE_VARIABLE, path);
    }
    signals.give_to(&mut command);
    let error = command.exec();
    output::failure(&format!("cannot run {}: {}", shown(program), describe(&error)), None);
    let is_missing = error.kind() == ErrorKind::NotFound;
    Err(Told(if is_missing { NOT_FOUND } else { CANNOT_RUN }).into())
}

fn absolute(file: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(file).map_err(|error| {
        let message = format!("cannot find {}: {}", shown(file.as_os_str()), describe(&error));
        Failure::new(Kind::Usage, message).hint("onegrant exec --help")
    })
}

fn shown(name: &OsStr) -> String {
    printable(&name.to_string_lossy())
}
