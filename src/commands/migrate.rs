//! `onegrant migrate`: moves the grant to another store, without ever being usable in two.
//!
//! ```text
//! source: session ──▶ source: moving, no session ──▶ target: session ──▶ source: removed
//! ```
//!
//! Each arrow is one durable write. Whoever reads the marked source finds no session, and the command that goes on;
//! an older version finds none either. The mark carries the session, so that a kill loses nothing, and an identifier that
//! the target keeps, so that the second call knows what the first has done.

use super::{Context, amend::amend};
use crate::arguments::{Environment, Globals, StoreAddress, named_store};
use crate::cli;
use crate::driver::{self, Clock};
use crate::error::{Failure, Kind, describe, printable};
use crate::grant::{Document, Moving, Rejected, Session};
use crate::output;
use crate::session::no_session;
use crate::store::{Written, absent};
use crate::system::SignalsHeld;
use anyhow::Context as _;
use std::ffi::OsStr;

/// The room that must be there before the session is taken from its place, in bytes.
const ROOM: u64 = 128 << 10;

/// Moves the grant of this profile.
pub fn run(arguments: &cli::Migrate, context: &Context) -> anyhow::Result<()> {
    let target = open("--to", &arguments.to, context)?;
    let to = target.globals.store.text().to_string_lossy().into_owned();
    let stored = context.read()?.ok_or_else(|| context.no_grant())?;
    stored.document.check_trust()?;
    let moving = match stored.document.moving.clone() {
        Some(moving) if stored.document.session.is_none() && moving.to == to => moving,
        Some(moving) if stored.document.session.is_none() => {
            let message = format!("the grant is on its way to {} already", printable(&moving.to));
            return Err(Failure::new(Kind::Usage, message).hint(command(&moving.to)).into());
        }
        interrupted => {
            if let Some(moving) = interrupted {
                give_back(&open("the other store", &moving.to, context)?, &moving)?;
            }
            check(context, &target, &stored.document)?;
            begin(context, to.clone())?
        }
    };
    // What is begun is completed: the next signal ends this process after it.
    let signals = SignalsHeld::hold();
    let document = arrive(context, &target, &moving)?;
    leave(context, &target, &moving, &document)?;
    drop(signals);
    let (profile, shown) = (&context.globals.profile, printable(&to));
    output::say(&format!("onegrant: from now on: --store {shown}, or export ONEGRANT_STORE={shown}\n"));
    output::answer(format!("moved to {shown}: profile {profile}\n").as_bytes())
}

/// The other store, for the same profile.
fn open(name: &str, address: &str, context: &Context) -> Result<Context, Failure> {
    let environment = Environment::from_variables(|name| std::env::var_os(name));
    let address: StoreAddress = named_store(name, OsStr::new(address), &environment)?;
    let store = address.absolute().map_err(|error| {
        Failure::new(Kind::Usage, format!("{name}: {}", describe(&error))).hint("onegrant migrate --help")
    })?;
    Ok(Context::new(Globals { store, ..context.globals.clone() }, context.clock))
}

fn command(to: &str) -> String {
    format!("onegrant migrate --to {}", quoted(to))
}

fn quoted(store: &str) -> String {
    format!("'{}'", printable(store).replace('\'', r"'\''"))
}

/// Finds out what can be known before anything is changed.
fn check(context: &Context, target: &Context, document: &Document) -> Result<(), Failure> {
    if document.session.is_none() {
        return Err(no_session(context.globals.profile.as_str(), document.rejected.as_ref()));
    }
    if target.document()?.is_some() {
        let (profile, there) = (&context.globals.profile, target.store.location());
        let message = format!("cannot move the grant of profile {profile}: there is one in {there} already");
        return Err(Failure::new(Kind::Usage, message).hint("onegrant migrate --help"));
    }
    target.store.check_trust(document)?;
    target.store.check_writable(ROOM)
}

/// Takes the session from its place: from here on nobody uses it.
fn begin(context: &Context, to: String) -> Result<Moving, Failure> {
    let (id, now) = (context.nonce()?, context.now().wall);
    amend(context, |document| {
        let key = document.credential_sha256().unwrap_or_default();
        let Some(session) = document.session.take() else { return false };
        let message = format!("no access token: the grant is on its way to {}", printable(&to));
        // A late answer to this very refresh token may come back into its place: `leave` finds it.
        document.rejected = Some(Rejected { hint: Some(command(&to)), ..Rejected::new(key, now, message) });
        document.moving = Some(Moving { id: id.clone(), to: to.clone(), session });
        true
    })?;
    let moving = context.document()?.and_then(|document| document.moving);
    moving.filter(|moving| moving.id == id).ok_or_else(changed)
}

fn changed() -> Failure {
    let message = "another process changed the grant meanwhile; it was not moved";
    Failure::new(Kind::Temporary, message).hint("try again")
}

/// Writes the session into the target, where it is not yet, and reads it back. Where that fails for certain, it goes back.
fn arrive(context: &Context, target: &Context, moving: &Moving) -> anyhow::Result<Document> {
    let marked = context.document()?.ok_or_else(changed)?;
    let session = newest(context, &marked, moving)?;
    let document = Document {
        session: Some(session),
        rejected: None,
        moving: None,
        moved: Some(moving.id.clone()),
        ..marked
    };
    let (failure, is_certain) = match write(target, moving, &document) {
        Ok(Arrival::Certain) => return Ok(document),
        Ok(Arrival::Unknown) => {
            let message = format!("{} did not say whether it has it", target.store.location());
            (Failure::new(Kind::Temporary, message), false)
        }
        Err(failure) => (failure, true),
    };
    let is_nowhere = is_certain && matches!(target.document(), Ok(None));
    let is_back = is_nowhere && put_back(context, moving).is_ok();
    let place = if is_back { "the grant is where it was" } else { "the grant is on its way" };
    let failure = match is_back {
        true => failure,
        false => Failure { hint: Some(command(&moving.to)), ..failure },
    };
    Err(failure).context(format!("cannot move the grant, {place}"))
}

/// What is known of a document that was written.
enum Arrival {
    Certain,
    /// It may come yet, and the grant must not be in two stores.
    Unknown,
}

fn write(target: &Context, moving: &Moving, document: &Document) -> Result<Arrival, Failure> {
    let guard = driver::enter(&target.seams(), target.globals.lock, target.globals.timeout)?;
    let there = |target: &Context| match target.document()? {
        Some(there) if there.moved.as_ref() == Some(&moving.id) => Ok(true),
        Some(_) => Err(Failure::new(
            Kind::Usage,
            format!("another grant was stored in {} meanwhile", target.store.location()),
        )
        .hint("onegrant migrate --help")),
        None => Ok(false),
    };
    if there(target)? {
        return Ok(Arrival::Certain);
    }
    document.check_trust()?;
    let written = target.store.replace(&absent(), &document.to_bytes()?, None);
    if let Written::Failed { failure, .. } = written {
        return Err(failure);
    }
    let level = target.level_under(guard.as_ref());
    // What counts is what can be read.
    match (there(target), written) {
        (Ok(true), _) => {}
        (Ok(false) | Err(_), Written::Unknown) => return Ok(Arrival::Unknown),
        (Ok(false), _) => {
            let message = format!("{} does not keep what it is given", target.store.location());
            return Err(Failure::new(Kind::Store, message));
        }
        (Err(failure), _) => return Err(failure),
    }
    drop(guard);
    target.note_done("moved", "brought here from another store", document, Some(level));
    Ok(Arrival::Certain)
}

/// The session that is moved, or the one that an interrupted refresh has left: then the first one is spent.
fn newest(context: &Context, marked: &Document, moving: &Moving) -> Result<Session, Failure> {
    let before = Document { session: Some(moving.session.clone()), ..marked.clone() };
    let Some(key) = before.credential_sha256() else { return Ok(moving.session.clone()) };
    let records = context.store.records(&key)?;
    let mut answers = records.iter().rev().filter_map(|record| Document::parse(&record.answer).ok()?.session);
    Ok(answers.next().unwrap_or_else(|| moving.session.clone()))
}

fn put_back(context: &Context, moving: &Moving) -> Result<(), Failure> {
    amend(context, |document| {
        let is_ours = document.moving.as_ref().is_some_and(|there| there.id == moving.id);
        if !is_ours || document.session.is_some() {
            return false;
        }
        document.session = document.moving.take().map(|moving| moving.session);
        document.rejected = None;
        true
    })
}

/// Removes the grant from the source.
fn leave(context: &Context, target: &Context, moving: &Moving, document: &Document) -> anyhow::Result<()> {
    let guard = driver::enter(&context.seams(), context.globals.lock, context.globals.timeout)?;
    let still_there = match context.document()? {
        None => return Ok(()),
        Some(there) => there,
    };
    if still_there.moving.as_ref().is_none_or(|there| there.id != moving.id) {
        return Err(changed().into());
    }
    if still_there.session.is_some() {
        // Below a lock, somebody's answer may come long after his claim has ended: his token is the newest.
        give_back(target, moving)?;
        return Err(changed().into());
    }
    let gone = Document { moving: None, ..still_there };
    context.store.remove(&gone.to_bytes()?)?;
    let level = context.level_under(guard.as_ref());
    drop(guard);
    context.note_done("moved", &format!("to {}", printable(&moving.to)), document, Some(level));
    Ok(())
}

/// Removes from the target what a move has brought that did not come to its end, unless it was used since.
fn give_back(target: &Context, moving: &Moving) -> Result<(), Failure> {
    let _guard = driver::enter(&target.seams(), target.globals.lock, target.globals.timeout)?;
    match target.document()? {
        Some(there) if there.moved.as_ref() == Some(&moving.id) => {
            if there.session.as_ref() != Some(&moving.session) {
                let message = format!("{} has a newer session of this grant", target.store.location());
                let hint = format!("onegrant --store {} status", quoted(&moving.to));
                return Err(Failure::new(Kind::Usage, message).hint(hint));
            }
            let gone = Document { session: None, ..there };
            target.store.remove(&gone.to_bytes()?)
        }
        _ => Ok(()),
    }
}
