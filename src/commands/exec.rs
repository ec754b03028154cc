//! `onegrant exec`: runs a command with a token in its environment or in a file. The command replaces this process.

use crate::adapters::broker::shape::Shape;
use crate::adapters::formats::Given;
use crate::broker::listener::{Listener, Place};
use crate::cli::{self, ServeAddress};
use crate::error::{AlreadyReported, Failure, Kind};
use crate::grant::{Secret, hexadecimal};
use crate::output;
use crate::profile::Context;
use crate::profile::token_file::TokenFile;
use crate::profile::token_text;
use crate::session::Demand;
use crate::subprocess::companion::{self, Served};
use crate::system::{self, as_given};
use crate::text::{describe, printable, shell_word};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable for the token if no option names one.
const VARIABLE: &str = "ACCESS_TOKEN";

/// The variable for the path of a file that holds the token.
const FILE_VARIABLE: &str = "ACCESS_TOKEN_FILE";

/// The longest string that Linux passes to a program, with its name and its end: 32 pages of 4 KiB (execve(2)).
const STRING_LIMIT: usize = 128 << 10;

/// The length of a broker's key, in bytes.
const KEY_LENGTH: usize = 16;

/// A shell's exit codes for a command that cannot be run, and for one that is not there (POSIX, XCU 2.8.2).
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Gets a token and replaces this process by the command. Returns only if that fails.
pub fn run(arguments: &cli::Exec, context: &Context) -> anyhow::Result<()> {
    let Some((program, words)) = arguments.command.split_first() else {
        return Err(Failure::new(Kind::Usage, "exec needs a command to run").into());
    };
    let path = arguments.file.as_deref().map(absolute).transpose()?;
    // A file that cannot be kept fresh is refused before any request is sent.
    let file = path.as_deref().map(TokenFile::find).transpose()?;
    // The same for an address that is taken.
    let listener = arguments.serve.as_ref().map(Listener::bind).transpose()?;
    let kind = arguments.kind();
    let token = context.obtain(Demand::lasting(kind, arguments.min_ttl))?;
    let given = Given::new(&token.session, kind)?;
    context.network_warnings().for_each(|warning| output::warning(&warning));

    let mut command = Command::new(program);
    command.args(words);
    let default = (arguments.env.is_empty() && listener.is_none()).then_some(VARIABLE);
    let names: Vec<&str> = arguments.env.iter().map(String::as_str).chain(default).collect();
    for name in &names {
        command.env(name, given.token());
    }
    if let (Some(path), Some(file)) = (&path, file) {
        let text = token_text::text(given, arguments.format.unwrap_or_default(), context)?;
        file.write(text.as_bytes(), context.left())?;
        command.env(FILE_VARIABLE, path);
    }
    let served = |listener| Ok::<_, Failure>(Served { listener, key: key()? });
    let served = listener.as_ref().map(served).transpose()?;
    if let Some(served) = &served {
        lead_to(&mut command, served, arguments.shape);
    }
    if path.is_some() || served.is_some() {
        companion::start(path.as_deref(), served, arguments, context)?;
    }
    let mut error = as_given(&mut command).exec();
    let length = given.token().len();
    let longest = names.iter().map(|name| name.len() + "=\0".len() + length).max().unwrap_or_default();
    let mut is_too_long = error.kind() == ErrorKind::ArgumentListTooLong && longest > STRING_LIMIT;
    // The command can still read the token from the file.
    if let Some(name) = default.filter(|_| is_too_long && arguments.file.is_some()) {
        error = command.env_remove(name).exec();
        is_too_long = false;
    }
    let (why, hint) = match is_too_long {
        true => (
            format!("the token has {length} bytes, and a variable of Linux has {STRING_LIMIT} at most"),
            Some(with_file(arguments, context)),
        ),
        false => (describe(&error), None),
    };
    output::failure(&format!("cannot run {}: {why}", shown(program)), hint.as_deref());
    let is_missing = error.kind() == ErrorKind::NotFound;
    Err(AlreadyReported(if is_missing { NOT_FOUND } else { CANNOT_RUN }).into())
}

/// A key that nothing else has.
fn key() -> Result<Secret, Failure> {
    let random = system::random::<KEY_LENGTH>();
    let key = random.map(|bytes| Secret::new(hexadecimal(&bytes)));
    key.map_err(|error| Failure::new(Kind::Defect, format!("cannot make a key: {}", describe(&error))))
}

/// Leads the onegrant that the command runs to the broker, and to nothing else: the variables of this side say nothing there.
fn lead_to(command: &mut Command, served: &Served, shape: Option<Shape>) {
    let Served { listener, key } = served;
    let mut store = OsString::from("broker:");
    match &listener.place {
        Place::File(file) => store.extend([OsStr::new("unix:"), &file.path]),
        Place::Loopback(_) | Place::Given => store.push(listener.place.text()),
    }
    for name in [VARIABLE, "ONEGRANT_PROFILE", "ONEGRANT_FOR", "ONEGRANT_HOME"] {
        command.env_remove(name);
    }
    command.env("ONEGRANT_STORE", store).env("ONEGRANT_BROKER_KEY", key.expose());
    if let (Some(shape), Place::Loopback(port)) = (shape, &listener.place) {
        command.envs(shape.variables(*port));
    }
}

/// The same call with a file instead of a variable, for a hint.
fn with_file(arguments: &cli::Exec, context: &Context) -> String {
    let file = arguments.file.as_deref().and_then(shell_word).unwrap_or_else(|| "FILE".to_owned());
    let format = arguments.format.map(|format| format!("--format {} ", format.name()));
    let lasting = arguments.min_ttl.map(|time| format!("--min-ttl {} ", time.as_secs()));
    let id_token = arguments.id_token.then(|| "--id-token ".to_owned());
    let serve = arguments.serve.as_ref().map(|address| match address {
        ServeAddress::Loopback(port) => format!("--serve tcp:{port} "),
        ServeAddress::File(path) => {
            let path = shell_word(path).unwrap_or_else(|| "PATH".to_owned());
            format!("--serve unix:{path} ")
        }
    });
    let shape = arguments.shape.map(|shape| format!("--as {} ", shape.name()));
    let options = [serve, shape, id_token, lasting, format].map(Option::unwrap_or_default).concat();
    let command = format!("onegrant exec {options}--file {file} -- {}", quoted(&arguments.command));
    context.complete(&command)
}

fn absolute(file: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(file).map_err(|error| {
        let message = format!("cannot find {}: {}", shown(file.as_os_str()), describe(&error));
        Failure::new(Kind::Usage, message).hint("onegrant exec --help")
    })
}

/// The command as a shell reads it, or `CMD` if a terminal would show another one.
fn quoted(command: &[OsString]) -> String {
    let words: Option<Vec<String>> = command.iter().map(|word| shell_word(Path::new(word))).collect();
    words.map_or("CMD".to_owned(), |words| words.join(" "))
}

fn shown(name: &OsStr) -> String {
    printable(&name.to_string_lossy())
}
