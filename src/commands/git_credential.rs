//! `onegrant git-credential`: the credential helper that git calls.

use crate::adapters::formats::password;
use crate::adapters::git_credential::{CAPABILITIES, QUIT, REQUEST_LIMIT, Request, answer, unusable};
use crate::adapters::hosts::Server;
use crate::cli;
use crate::driver::Clock;
use crate::error::Failure;
use crate::output;
use crate::profile::Context;
use crate::profile::amend::amend;
use crate::session::{Demand, Stored, Unwanted, expiry};
use crate::text::describe;
use std::io::{BufRead, IsTerminal, Read, stdin};
use zeroize::Zeroizing;

/// Executes the operation. An unknown operation is ignored, as gitcredentials(7) asks for.
pub fn run(arguments: &cli::GitCredential, context: &Context) -> anyhow::Result<()> {
    match arguments.operation.as_str() {
        "get" => get(context),
        "erase" => Ok(erase(context)?),
        "capability" => output::answer(CAPABILITIES.as_bytes()),
        _ => {
            // The request is read: an old git is killed by a signal if it cannot write.
            let _ = if stdin().is_terminal() { Ok(Request::default()) } else { request() };
            Ok(())
        }
    }
}

/// Reads an attribute list from stdin, up to its empty line or the end.
fn request() -> Result<Request, Failure> {
    let mut list = Zeroizing::new(Vec::new());
    let limit = u64::try_from(REQUEST_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    let mut stdin = stdin().lock().take(limit);
    loop {
        let before = list.len();
        let read = stdin.read_until(b'\n', &mut list).map_err(|error| unusable(&describe(&error)))?;
        if list.len() > REQUEST_LIMIT {
            return Err(unusable("it is too long"));
        }
        if read == 0 || list.get(before..) == Some(b"\n") {
            return Request::parse(&list);
        }
    }
}

/// The document, if the profile serves the server of the request. Other helpers answer for other servers.
fn served(request: &Request, context: &Context) -> Result<Option<Stored>, Failure> {
    let Some(server) = Server::new(&request.protocol, &request.host) else { return Ok(None) };
    Ok(context.read()?.filter(|stored| server.is_served(&stored.document)))
}

/// Answers with the token. If there is none, the answer tells git to ask no other helper and no person, because they do not
/// have it either. Git reads the answer even if the exit code is not 0.
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

/// Marks the stored access token as rejected, if it is the one that the server refused. The next `get` refreshes.
fn erase(context: &Context) -> Result<(), Failure> {
    let request = request()?;
    let (Some(refused), true) = (request.sent_token(), served(&request, context)?.is_some()) else {
        return Ok(());
    };
    if context.store.broker().is_some() {
        // The other side refreshes only if the grant still has this token.
        return context.obtain(Demand::other_than(Unwanted::Rejected(refused.clone()))).map(drop);
    }
    amend(context, |document| match &mut document.session {
        Some(session) if session.access_token == *refused => {
            !std::mem::replace(&mut session.access_token_rejected, true)
        }
        _ => false,
    })
}
