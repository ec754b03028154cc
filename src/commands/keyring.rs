//! The program under the name `keyring`: pip and uv ask it for a password, as they ask the command of Python's keyring. What
//! is not for onegrant goes to the next program of that name.

use crate::adapters::python_keyring::{NAME, Request, answer};
use crate::environment::{Environment, variable};
use crate::error::{AlreadyReported, Failure, Kind};
use crate::globals::{Globals, Selection};
use crate::grant::Secret;
use crate::output;
use crate::profile::Context;
use crate::profile::choice::{self, Need};
use crate::session::Demand;
use crate::system::{SystemClock, as_given, is_in_a_loop, next_programs};
use crate::text::{describe, printable};
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Answers, or hands over. `called` is the name by which the program was called. Not inlined: the caller is on the hot path.
#[inline(never)]
pub fn run(
    called: &OsStr,
    arguments: &[OsString],
    environment: &Environment,
    clock: SystemClock,
) -> anyhow::Result<()> {
    let words: Option<Vec<&str>> = arguments.iter().map(|argument| argument.to_str()).collect();
    let request = words.and_then(Request::parse);
    let password = request.map(|request| password(&request, environment, clock)).transpose()?.flatten();
    match password {
        Some(password) => output::answer(password.expose().as_bytes()),
        None => hand_over(called, arguments, request.is_some()),
    }
}

/// The answer to the request. `None`: it is for a server that the profile does not name, or there is no such profile. The
/// hint of a failure is complete.
fn password(
    request: &Request<'_>,
    environment: &Environment,
    clock: SystemClock,
) -> Result<Option<Secret>, Failure> {
    let globals = Globals::from_environment(environment)?;
    let globals = match &globals.selection {
        Selection::Resource(url) => match choice::find(url, &globals, clock, Need::Required) {
            Ok(globals) => globals,
            Err(failure) if failure.kind == Kind::LoginRequired => return Ok(None),
            Err(failure) => return Err(failure),
        },
        Selection::Default | Selection::Name => globals,
    };
    let context = Context::new(globals, clock);
    let answered = context.document().and_then(|document| {
        let served = document.and_then(|document| Some((request.server(&document)?, document)));
        let Some((server, document)) = served else {
            let what =
                format!("profile {} does not name the server that needs a password", context.globals.profile);
            (context.dependencies().log)(1, &what);
            return Ok(None);
        };
        let token = context.obtain(Demand::default())?;
        answer(request, &token.session, &document, &server).map(Some)
    });
    context.network_warnings().for_each(|warning| output::warning(&warning));
    answered.map_err(|failure| context.completed(failure))
}

/// Replaces this process by the next program of its name. Returns only if there is none that can be run. pip and uv ask for
/// every index that wants a password, so a request without an answer says nothing, like that of the Python program.
fn hand_over(called: &OsStr, arguments: &[OsString], is_request: bool) -> anyhow::Result<()> {
    let none = AlreadyReported(Kind::Defect.code());
    let programs = next_programs(NAME, called, &variable("PATH").unwrap_or_default());
    if !programs.is_empty() && is_in_a_loop() {
        let message = format!("cannot run the next {NAME} on PATH: it always calls onegrant again");
        output::failure(&message, None);
        return Err(none.into());
    }
    let mut why = None;
    for program in &programs {
        let error = as_given(Command::new(program).args(arguments)).exec();
        why = Some(format!("cannot run {}: {}", printable(&program.to_string_lossy()), describe(&error)));
    }
    let is_quiet = why.is_none() && is_request;
    if !is_quiet {
        let message = why.unwrap_or_else(|| {
            format!(
                "cannot do this as {NAME}: onegrant answers only get, and there is no other {NAME} on PATH"
            )
        });
        output::failure(&message, None);
    }
    Err(none.into())
}
