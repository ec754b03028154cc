//! `onegrant exec`: a command with a token in its environment, which takes this process's place.

pub mod keeper;

use super::{Context, token};
use crate::cli;
use crate::error::{Failure, Kind, Told, describe, printable};
use crate::output;
use crate::store::setup::write_atomically;
use crate::system::as_given;
use anyhow::Context as _;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
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
    let Some((program, words)) = arguments.command.split_first() else {
        return Err(Failure::new(Kind::Usage, "exec needs a command to run").into());
    };
    let token = context.obtain(token::lasting(arguments.min_ttl))?;
    context.network_warnings().for_each(|warning| output::warning(&warning));

    let mut command = Command::new(program);
    command.args(words);
    let names = arguments.env.iter().map(String::as_str);
    let default = arguments.env.is_empty().then_some(VARIABLE);
    for name in names.chain(default) {
        command.env(name, token.session.access_token.expose());
    }
    if let Some(file) = &arguments.file {
        let path = std::path::absolute(file).map_err(|error| {
            let message = format!("cannot find {}: {}", shown(file.as_os_str()), describe(&error));
            Failure::new(Kind::Usage, message).hint("onegrant exec --help")
        })?;
        let text = token::format(&token.session, arguments.format.unwrap_or_default(), context)?;
        write_atomically(&path, text.as_bytes()).context("cannot write the token")?;
        keeper::start(&path, arguments, context)?;
        command.env(FILE_VARIABLE, path);
    }
    let error = as_given(&mut command).exec();
    output::failure(&format!("cannot run {}: {}", shown(program), describe(&error)), None);
    let is_missing = error.kind() == ErrorKind::NotFound;
    Err(Told(if is_missing { NOT_FOUND } else { CANNOT_RUN }).into())
}

fn shown(name: &OsStr) -> String {
    printable(&name.to_string_lossy())
}
