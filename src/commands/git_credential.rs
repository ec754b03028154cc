//! `onegrant git-credential`: what git asks a credential helper.

use crate::adapters::formats::password;
use crate::adapters::git_credential::{CAPABILITIES, QUIT, Request, answer};
use crate::adapters::hosts;
use crate::cli;
use crate::driver::Clock;
use crate::error::Failure;
use crate::output;
use crate::profile::Context;
use crate::profile::amend::amend;
use crate::session::{Demand, Stored, Unwanted, expiry};
use std::io::{IsTerminal, stdin};

/// Does what git asks for. Operations that nobody here knows are for helpers that do.
pub fn run(arguments: &cli::GitCredential, context: &Context) -> anyhow::Result<()> {
    match arguments.operation.as_str() {
        "get" => get(context),
        "erase" => Ok(erase(context)?),
        "capability" => output::answer(CAPABILITIES.as_bytes()),
        _ => {
            // An old git ends by a signal where nobody reads what it says.
            let _ = if stdin().is_terminal() { Ok(Request::default()) } else { request() };
            Ok(())
        }
    }
}

fn request() -> Result<Request, Failure> {
    Request::read(&mut stdin().lock())
}

/// The document, if the profile serves the server that is meant. Every other one is none of our business.
fn served(request: &Request, context: &Context) -> Result<Option<Stored>, Failure> {
    let Some(server) = hosts::server(&request.protocol, &request.host) else { return Ok(None) };
    Ok(context.read()?.filter(|stored| hosts::is_served(&stored.document, &server)))
}

/// Whatever keeps the token back, no other helper and no person has it: git must ask none of them. It reads the answer
/// whatever the exit code is.
fn get(context: &Context) -> anyhow::Result<()> {
    let request = request()?;
    let Some(stored) = served(&request, context)? else { return Ok(()) };
    let rejected = stored.document.session.filter(|session| session.access_token_rejected);
    let unwanted = rejected.map_or(Unwanted::None, |session| Unwanted::Rejected(session.access_token));
    let token = context.obtain(Demand { unwanted, ..Demand::default() });
    match token.and_then(|token| password(&token.session).map(drop).map(|()| token)) {
        Ok(token) => {
            let username = stored.document.git_username.as_deref();
            let ends = expiry(&token.session);
            let text = answer(&request, &token.session, username, ends, Clock::now(context).wall);
            output::answer(text.expose().as_bytes())
        }
        Err(failure) => {
            output::answer(QUIT.as_bytes())?;
            Err(failure.into())
        }
    }
}

/// Marks the stored access token as rejected, if it is the one that the server refused. Whoever needs a token next
/// refreshes.
fn erase(context: &Context) -> Result<(), Failure> {
    let request = request()?;
    let (Some(refused), true) = (request.shown(), served(&request, context)?.is_some()) else {
        return Ok(());
    };
    amend(context, |document| match &mut document.session {
        Some(session) if session.access_token == *refused => {
            !std::mem::replace(&mut session.access_token_rejected, true)
        }
        _ => false,
    })
}
