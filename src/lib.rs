//! onegrant: one OAuth grant, any number of processes, never logged out.
//!
//! What to do next is decided by pure functions; doing it is one dull loop.
//!
//! ```text
//! main ─ lib ─ arguments, cli              words to a command
//!          ├── help, completions         what cli says, for people and for shells
//!          └── commands                   gather, call, print
//!               ├── driver                the loop: does what session says, through
//!               │    ├── worker           the exchange in a process that outlives its caller
//!               │    ├── store ─ lock     bytes and revisions; the advisory lock
//!               │    └── oauth ─ http     protocol messages over HTTP
//!               ├── history               what became of the grant, for people
//!               ├── visit                 pure: what a logout and a move do next
//!               ├── session               pure: use, wait, claim, spend, compare, commit, clear
//!               ├── protocol              pure: requests to build, answers to read
//!               └── grant, error          pure: the document, the exit codes
//! system                                  clock, processes, signals, environment: read at the edge
//! ```
//!
//! Imports point downwards; `store` and `oauth` never meet. The invariants I1 to I6 stand in [`session`], the files
//! and the order of a commit in [`store::file`], what a network failure proves in [`http`].
//!
//! The library is there for the binary and its tests: its items are no interface, and change with any version.
//!
//! RFC 6749 (OAuth 2.0), 6750 (bearer tokens), 7009 (revocation), 7636 (PKCE), 8252 (native apps), 8414 (metadata), 8628
//! (device grant), 8707 (resource indicators), 9126 (pushed requests), 9207 (issuer of an answer), 9700 (best current
//! practice); OpenID Connect Core and Discovery.

pub mod adapters;
pub mod arguments;
pub mod cli;
pub mod commands;
mod completions;
pub mod driver;
pub mod environment;
pub mod error;
pub mod grant;
pub mod help;
pub mod history;
pub mod http;
pub mod lock;
pub mod oauth;
pub mod output;
pub mod profile;
pub mod protocol;
pub mod session;
pub mod store;
pub mod subprocess;
pub mod system;
pub mod text;

use arguments::{Environment, Parsed};
use cli::Command;
use error::{AlreadyReported, Failure, Kind, SUCCESS};
use profile::Context;
use std::ffi::OsString;
use text::printable;

/// Runs one command and gives its exit code. The first of `arguments` is the name that the program was called by.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let clock = system::SystemClock::start();
    let environment = Environment::read();
    let mut arguments = arguments.into_iter();
    let called = arguments.next().unwrap_or_default();
    let mut arguments = arguments::words_of_name(&called).chain(arguments).peekable();
    if arguments.peek().is_some_and(|first| first == subprocess::worker::ARGUMENT) {
        let ended = subprocess::exchange::run(&environment);
        return ended.map_or_else(|error| report(&error, str::to_owned), |()| SUCCESS);
    }
    if arguments.next_if(|first| first == subprocess::lock_call::ARGUMENT).is_some() {
        return subprocess::lock_call::make_for_caller(
            &arguments.next().unwrap_or_default().to_string_lossy(),
        );
    }
    if arguments.next_if(|first| first == commands::doctor::lock::ARGUMENT).is_some() {
        let ended = commands::doctor::lock::try_once(arguments);
        return ended.map_or_else(|error| report(&error, str::to_owned), |()| SUCCESS);
    }
    if arguments.peek().is_some_and(|first| first == subprocess::file_keeper::ARGUMENT) {
        return subprocess::file_keeper::run(arguments.skip(1), &environment);
    }
    match arguments::parse(arguments, &environment) {
        Ok(Parsed::Run(globals, command)) => {
            let context = Context::new(globals, clock);
            let result = dispatch(&command, &context);
            context.network_warnings().for_each(|warning| output::warning(&warning));
            match result {
                Ok(()) => SUCCESS,
                Err(error) => report(&error, |hint| context.globals.complete(hint, &environment)),
            }
        }
        // A reader who has seen enough, as in `onegrant --help | head`, is no failure.
        Ok(Parsed::Print(text)) => {
            let _ = output::answer(text.as_bytes());
            SUCCESS
        }
        Ok(Parsed::Answer(text)) => {
            output::answer(text.as_bytes()).map_or_else(|error| report(&error, str::to_owned), |()| SUCCESS)
        }
        Ok(Parsed::NoCommand(text)) => {
            output::say(&text);
            Kind::Usage.code()
        }
        Err(failure) => report(&failure.into(), str::to_owned),
    }
}

/// Has a panic end the process as every other defect of ours does: with exit code 1, and a word about where.
pub fn tell_defects() {
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

fn dispatch(command: &Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::Token(arguments) => commands::token::run(arguments, context),
        command => dispatch_other(command, context),
    }
}

/// Not inlined: the frame of all these commands has five pages, and `token` would touch each of them.
#[inline(never)]
fn dispatch_other(command: &Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::Refresh(arguments) => commands::refresh::run(arguments, context),
        Command::Login(arguments) => commands::login::run(arguments, context),
        Command::Status(arguments) => commands::status::run(arguments, context),
        Command::Whoami(arguments) => commands::whoami::run(arguments, context),
        Command::Logout(arguments) => commands::logout::run(arguments, context),
        Command::Doctor(arguments) => commands::doctor::run(arguments, context),
        Command::Migrate(arguments) => commands::migrate::run(arguments, context),
        Command::Profiles(_) => commands::profiles::run(context),
        Command::GitCredential(arguments) => commands::git_credential::run(arguments, context),
        Command::GitSetup(arguments) => commands::git_setup::run(arguments, context),
        Command::Exec(arguments) => commands::exec::run(arguments, context),
        Command::Helper(arguments) => commands::helper::run(arguments, context),
        // `dispatch` and `arguments::parse` have answered.
        Command::Token(_) | Command::Completions(_) => Ok(()),
    }
}

/// Tells a person what failed, why, and what mends it. The failure is found under any number of contexts; an error
/// without one is a defect of ours.
fn report(error: &anyhow::Error, complete: impl Fn(&str) -> String) -> u8 {
    if let Some(AlreadyReported(code)) = error.downcast_ref() {
        return *code;
    }
    let failure = error.downcast_ref::<Failure>();
    let hint = failure.and_then(|failure| failure.hint.as_deref()).map(complete);
    output::failure(&format!("{error:#}"), hint.as_deref());
    failure.map_or(Kind::Defect, |failure| failure.kind).code()
}
