//! onegrant: one OAuth grant, any number of processes, never logged out.
//!
//! Pure functions decide what to do next. One loop does it.
//!
//! ```text
//! main ─ lib                              parse, dispatch, report
//!         ├ subprocess::modes             the hidden modes: worker, lock call, lock probe, companion, runner
//!         └ commands                      one file for each command: gather, call, print
//!            ├ cli ─ globals              arguments and variables to a command
//!            ├ broker                     serves tokens to processes without a grant
//!            └ profile                    one profile: opened, read, refreshed, changed
//!               ├ history                 what happened to the grant, for people
//!               └ driver                  the loop: executes the steps of the session machine
//!                  ├ store ─ lock         bytes and revisions; the advisory lock
//!                  ├ oauth ─ http         requests and responses over HTTP
//!                  └ output, system, environment, store_address
//! session                                 pure: the machines of a refresh, a logout and a migration
//! protocol, adapters                      pure: OAuth; what other programs ask for and read
//! grant, text, error                      pure: the document, text for people, the exit codes
//! ```
//!
//! Imports point down one list of rooms (`tests/architecture.rs`); `store` and `oauth` never meet. `docs/architecture.md`
//! explains how a refresh, a login and an error flow, and has the glossary. `docs/design.md` describes the protocol between
//! processes, the files, and the invariants I1 to I14.
//!
//! The library exists for the binary and its tests. Its items are no stable interface.
//!
//! RFC 6749 (OAuth 2.0), 6750 (bearer tokens), 7009 (revocation), 7636 (PKCE), 8252 (native apps), 8414 (metadata), 8628
//! (device grant), 8707 (resource indicators), 9126 (pushed requests), 9207 (issuer of an answer), 9700 (best current
//! practice); OpenID Connect Core and Discovery.

pub mod adapters;
pub mod broker;
pub mod cli;
pub mod commands;
pub mod driver;
pub mod environment;
pub mod error;
pub mod globals;
pub mod grant;
pub mod history;
pub mod http;
pub mod lock;
pub mod oauth;
pub mod output;
pub mod profile;
pub mod protocol;
pub mod session;
pub mod store;
pub mod store_address;
pub mod subprocess;
pub mod system;
pub mod text;

use cli::{Command, Parsed};
use environment::Environment;
use error::{AlreadyReported, Failure, Kind, SUCCESS};
use globals::Selection;
use profile::{Context, choice};
use std::ffi::OsString;
use subprocess::{Mode, modes};
use system::SystemClock;
use text::printable;

/// Runs one command and returns its exit code. The first of `arguments` is the name by which the program was called.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let clock = SystemClock::start();
    let environment = Environment::read();
    let mut arguments = arguments.into_iter();
    let called = arguments.next().unwrap_or_default();
    if cli::is_keyring(&called) {
        let arguments: Vec<OsString> = arguments.collect();
        return exit_code(commands::keyring::run(&called, &arguments, &environment, clock), own_hint);
    }
    let mut arguments = cli::words_of_name(&called).chain(arguments).peekable();
    if let Some(mode) = arguments.peek().and_then(|first| Mode::named(first)) {
        return modes::run(mode, &environment).unwrap_or_else(|error| report(&error, own_hint));
    }
    match cli::parse(arguments, &environment) {
        Ok(Parsed::Run(globals, command)) => {
            let globals = match &globals.selection {
                Selection::Resource(url) => choice::find(url, &globals, clock, commands::need(&command)),
                Selection::Default | Selection::Name => Ok(globals),
            };
            match globals {
                Ok(globals) => run_command(&command, &Context::new(globals, clock)),
                Err(failure) => report(&failure.into(), own_hint),
            }
        }
        Ok(Parsed::Print(text)) => {
            // A closed stdout is no failure: `onegrant --help | head` closes it early.
            let _ = output::answer(text.as_bytes());
            SUCCESS
        }
        Ok(Parsed::Answer(text)) => exit_code(output::answer(text.as_bytes()), own_hint),
        Ok(Parsed::NoCommand(text)) => {
            output::say(&text);
            Kind::Usage.code()
        }
        Err(failure) => report(&failure.into(), own_hint),
    }
}

fn run_command(command: &Command, context: &Context) -> u8 {
    let result = commands::run(command, context);
    context.network_warnings().for_each(|warning| output::warning(&warning));
    exit_code(result, |failure| match commands::with_another_profile(command) {
        Some(word) => context.hint(failure, word),
        None => failure.hint.as_ref().map(|hint| context.complete(hint)),
    })
}

fn own_hint(failure: &Failure) -> Option<String> {
    failure.hint.clone()
}

fn exit_code(result: anyhow::Result<()>, hint: impl Fn(&Failure) -> Option<String>) -> u8 {
    result.map_or_else(|error| report(&error, hint), |()| SUCCESS)
}

/// Makes a panic end the process like any other defect: with exit code 1, and a message that names the place.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("a panic");
        let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
        output::failure(
            &format!("a defect of onegrant: {}{place}", printable(what)),
            Some("please report it"),
        );
        output::say_what_was_kept();
        std::process::exit(i32::from(Kind::Defect.code()));
    }));
}

/// Prints what failed, why, and the command that helps. The failure is found under any number of contexts. An error without
/// a failure is a defect of this program.
fn report(error: &anyhow::Error, hint: impl Fn(&Failure) -> Option<String>) -> u8 {
    if let Some(AlreadyReported(code)) = error.downcast_ref() {
        return *code;
    }
    let failure = error.downcast_ref::<Failure>();
    output::failure(&format!("{error:#}"), failure.and_then(hint).as_deref());
    failure.map_or(Kind::Defect, |failure| failure.kind).code()
}
