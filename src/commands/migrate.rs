//! `onegrant migrate`: moves the grant to another store, without ever being usable in two.
//!
//! [`crate::session::migration`] decides what comes next, and has the picture. The mark that the source keeps until the end carries
//! the session, so that a kill loses nothing, and an identifier that the target keeps, so that the second call knows what
//! the first one has done. A process that asks either store meanwhile finds no session, and the command that goes on.

use crate::arguments::{Environment, Globals, StoreAddress, named_store};
use crate::cli;
use crate::driver::{self, Clock};
use crate::error::{Failure, Kind};
use crate::grant::{Document, Moving, Rejected, Secret};
use crate::history::HistoryEvent;
use crate::output;
use crate::profile::access::{self, find};
use crate::profile::{Context, amend::amend};
use crate::session::bounds::COMPARISON_DELAYS;
use crate::session::migration::{End, MAX_STEPS, Next, arriving, next};
use crate::session::{Stored, no_session};
use crate::store::{WriteResult, absent};
use crate::system::SignalsHeld;
use crate::text::{describe, printable};
use std::cell::Cell;
use std::ffi::OsStr;
use std::time::Duration;

/// The room that must be there before the session is taken from its place, in bytes.
const ROOM: u64 = 128 << 10;

/// How long a login or a logout waits for the lock of the other store. A move that holds this lock finds out by itself what
/// happened.
pub(super) const OTHER_STORE_WAIT: Duration = Duration::from_secs(2);

/// What a process reads in the target where the document itself cannot be removed.
const NOT_MOVED: &str = "no access token: the grant was not moved here";

/// Moves the grant of this profile.
pub fn run(arguments: &cli::Migrate, context: &Context) -> anyhow::Result<()> {
    let target = open("--to", &arguments.to, context)?;
    let to = target.globals.store.text().to_string_lossy().into_owned();
    let stored = context.read()?.ok_or_else(|| context.no_grant())?;
    stored.document.check_trust()?;
    let moving = match stored.document.moving.clone() {
        Some(moving) if stored.document.session.is_none() && moving.from.is_some() => {
            let message = "the grant is on its way to this store already";
            let from = moving.from.unwrap_or_default();
            let hint = format!("onegrant --store {} migrate --to {}", quoted(&from), quoted(&moving.to));
            return Err(Failure::new(Kind::Usage, message).hint(hint).into());
        }
        Some(moving) if stored.document.session.is_none() && moving.to == to => moving,
        Some(moving) if stored.document.session.is_none() => {
            let message = format!("the grant is on its way to {} already", printable(&moving.to));
            return Err(Failure::new(Kind::Usage, message).hint(command(&moving.to)).into());
        }
        interrupted => {
            if let Some(moving) = interrupted {
                // What an earlier move brought is taken back first.
                go_on(context, &open("the other store", &moving.to, context)?, &moving).or_else(
                    |stopped| match stopped.end {
                        Some(End::Changed) => Ok(()),
                        _ => Err(stopped.failure),
                    },
                )?;
            }
            check(context, &target, &stored.document)?;
            begin(context, to.clone())?
        }
    };
    // What is begun is completed: the next signal ends this process after it.
    let signals = SignalsHeld::hold();
    go_on(context, &target, &moving).map_err(|stopped| stopped.failure)?;
    drop(signals);
    let (profile, shown) = (&context.globals.profile, printable(&to));
    output::say(&format!("onegrant: from now on: --store {shown}, or export ONEGRANT_STORE={shown}\n"));
    output::answer(format!("moved to {shown}: profile {profile}\n").as_bytes())
}

/// The other store, for the same profile.
pub(super) fn open(name: &str, address: &str, context: &Context) -> Result<Context, Failure> {
    let environment = Environment::read();
    let address: StoreAddress = named_store(name, OsStr::new(address), &environment)?;
    let store = address.absolute().map_err(|error| {
        Failure::new(Kind::Usage, format!("{name}: {}", describe(&error))).hint("onegrant migrate --help")
    })?;
    Ok(Context::new(Globals { store, ..context.globals.clone() }, context.clock))
}

/// The address of this profile's store, for another process.
fn address(context: &Context) -> String {
    let store = context.globals.store.absolute();
    store.unwrap_or_else(|_| context.globals.store.clone()).text().to_string_lossy().into_owned()
}

fn command(to: &str) -> String {
    format!("onegrant migrate --to {}", quoted(to))
}

/// A store's address as a word for the shell.
pub(super) fn quoted(store: &str) -> String {
    format!("'{}'", printable(store).replace('\'', r"'\''"))
}

/// Finds out what can be known before anything is changed.
fn check(context: &Context, target: &Context, document: &Document) -> Result<(), Failure> {
    if document.session.is_none() {
        return Err(no_session(context.globals.profile.as_str(), document.rejected.as_ref()));
    }
    if let Some(there) = target.document()?.filter(|there| !there.has_no_grant()) {
        let moving =
            there.moving.filter(|moving| there.session.is_none() && moving.from == Some(address(context)));
        if let Some(moving) = moving {
            // An earlier move from here left it. It cannot be used there.
            take_back(target, &moving, target.globals.timeout, |there| there.session.is_none())?;
            return check(context, target, document);
        }
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
        // A late answer to this very refresh token may come back into its place: the next step finds it.
        document.rejected = Some(Rejected { hint: Some(command(&to)), ..Rejected::new(key, now, message) });
        document.moving = Some(Moving {
            id: id.clone(),
            to: to.clone(),
            from: None,
            has_arrived: false,
            session,
            other: serde_json::Map::new(),
        });
        true
    })?;
    match context.document()?.filter(|document| !document.has_no_grant()) {
        None => Err(stopped(End::LoggedOut, context, &to)),
        Some(here) => here.moving.filter(|moving| moving.id == id).ok_or_else(changed),
    }
}

fn changed() -> Failure {
    let message = "another process changed the grant meanwhile; it was not moved";
    Failure::new(Kind::Temporary, message).hint("try again")
}

/// Why a move did not come to its end.
struct Stopped {
    /// What was decided; none where a store failed.
    end: Option<End>,
    failure: anyhow::Error,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self { end: None, failure: failure.into() }
    }
}

/// Does one step after the other. After each one both stores are read again.
fn go_on(context: &Context, target: &Context, moving: &Moving) -> Result<(), Stopped> {
    for _ in 0..MAX_STEPS {
        let (there, here) = (target.document()?, context.document()?);
        here.iter().chain(&there).try_for_each(Document::check_trust)?;
        let done = match next(moving, here.as_ref(), there.as_ref()) {
            Next::Arrive => arrive(context, target, moving),
            Next::Confirm => confirm(context, moving),
            Next::Activate(_) => activate(context, target, moving),
            Next::TakeBack => {
                take_back(target, moving, target.globals.timeout, |now| match context.document() {
                    Ok(here) => next(moving, here.as_ref(), Some(now)) == Next::TakeBack,
                    Err(_) => false,
                })
            }
            Next::Leave => leave(context, target, moving),
            Next::End(End::Moved) => return Ok(()),
            Next::End(end) => {
                return Err(Stopped { end: Some(end), failure: stopped(end, target, &moving.to).into() });
            }
        };
        if let Err(failure) = done {
            return Err(Stopped { end: None, failure: explain(context, target, moving, failure) });
        }
    }
    let message = format!("{} does not keep what it is given", target.store.location());
    let failure = Failure::new(Kind::Store, message);
    Err(Stopped { end: None, failure: explain(context, target, moving, failure) })
}

fn stopped(end: End, target: &Context, to: &str) -> Failure {
    let location = target.store.location();
    match end {
        End::Moved | End::Changed => changed(),
        End::LoggedOut => {
            let message = "cannot move the grant: it was logged out meanwhile";
            Failure::new(Kind::LoginRequired, message).hint(target.login_command())
        }
        End::AnotherThere => {
            let message = format!("another grant was stored in {location} meanwhile");
            Failure::new(Kind::Usage, message).hint("onegrant migrate --help")
        }
        End::NewerThere => {
            let message = format!("{location} has a newer session of this grant");
            Failure::new(Kind::Usage, message).hint(format!("onegrant --store {} status", quoted(to)))
        }
    }
}

/// Says where the grant is after a step that failed. Where the target has nothing of it for certain, it goes back.
fn explain(context: &Context, target: &Context, moving: &Moving, failure: Failure) -> anyhow::Error {
    let is_nowhere = matches!(target.document(), Ok(None));
    let is_back = is_nowhere && put_back(context, moving);
    let is_here = || context.document().is_ok_and(|here| here.is_some_and(|here| is_marked(&here, moving)));
    let (what, failure) = if is_back {
        ("cannot move the grant, the grant is where it was", failure)
    } else if is_here() {
        (
            "cannot move the grant, the grant is on its way",
            Failure { hint: Some(command(&moving.to)), ..failure },
        )
    } else {
        ("cannot move the grant, which another process changed meanwhile", failure)
    };
    anyhow::Error::from(failure).context(what)
}

/// Takes the mark off, if it is still there and the session never arrived; whether it was so.
fn put_back(context: &Context, moving: &Moving) -> bool {
    let was_ours = Cell::new(false);
    let amended = amend(context, |document| {
        let has_arrived = document.moving.as_ref().is_some_and(|there| there.has_arrived);
        was_ours.set(is_marked(document, moving) && !has_arrived);
        if !was_ours.get() {
            return false;
        }
        document.session = document.moving.take().map(|moving| moving.session);
        document.rejected = None;
        true
    });
    amended.is_ok() && was_ours.get()
}

fn is_marked(document: &Document, moving: &Moving) -> bool {
    document.session.is_none() && document.moving.as_ref().is_some_and(|there| there.id == moving.id)
}

/// Changes the document of the target, under its lock, if that still is what `next` decided on. What was written is removed
/// again where it must not `stay`: a store that only puts one document over another may have done so after a logout.
fn change_there(
    target: &Context,
    change: impl Fn(Option<&Document>) -> Option<Document>,
    stays: impl Fn() -> bool,
) -> Result<Option<Document>, Failure> {
    let _guard = access::enter(target, target.globals.timeout)?;
    let stored = driver::read_document(&*target.store, target)?.map(|(stored, _)| stored);
    let Some(document) = change(stored.as_ref().map(|stored| &stored.document)) else { return Ok(None) };
    let expected = stored.map_or_else(absent, |stored| stored.revision);
    match target.store.replace(&expected, &document.to_bytes()?, None) {
        WriteResult::Done if stays() => Ok(Some(document)),
        WriteResult::Done => {
            if let Some((stored, _)) = driver::read_document(&*target.store, target)? {
                removed(target, &stored, NOT_MOVED)?;
            }
            Ok(None)
        }
        // What is there is read again.
        WriteResult::Lost(_) | WriteResult::Unknown => Ok(None),
        WriteResult::Failed { failure, .. } => Err(failure),
    }
}

/// Writes the session into the target, where it cannot be used yet.
fn arrive(context: &Context, target: &Context, moving: &Moving) -> Result<(), Failure> {
    let Some(marked) = find(context)? else { return Ok(()) };
    let session = marked.newest(&moving.session);
    let from = address(context);
    let reason = Rejected {
        hint: Some(format!("onegrant --store {} migrate --to {}", quoted(&from), quoted(&moving.to))),
        ..Rejected::new(
            session.refresh_token.as_ref().map(Secret::sha256).unwrap_or_default(),
            context.now().wall,
            format!("no access token: the grant is on its way from {}", printable(&from)),
        )
    };
    let arrived = arriving(&marked.stored.document, session, from, reason);
    change_there(
        target,
        |there| {
            let still = context.document().ok()?;
            let is_wanted = next(moving, still.as_ref(), there) == Next::Arrive;
            arrived.clone().filter(|_| is_wanted)
        },
        || true,
    )?;
    Ok(())
}

/// Notes in the source that the target has the session.
fn confirm(context: &Context, moving: &Moving) -> Result<(), Failure> {
    amend(context, |document| match &mut document.moving {
        Some(there) if document.session.is_none() && there.id == moving.id => {
            !std::mem::replace(&mut there.has_arrived, true)
        }
        _ => false,
    })
}

fn activate(context: &Context, target: &Context, moving: &Moving) -> Result<(), Failure> {
    let is_marked_here =
        || context.document().is_ok_and(|here| here.is_some_and(|here| is_marked(&here, moving)));
    let decide = |there: Option<&Document>| match next(moving, context.document().ok()?.as_ref(), there) {
        Next::Activate(document) => Some(*document),
        _ => None,
    };
    if let Some(document) = change_there(target, decide, is_marked_here)? {
        target.note_done(HistoryEvent::Moved, "brought here from another store", &document, None);
    }
    Ok(())
}

/// Removes from the target what the move has brought, if that is still `wanted` there. The lock is waited for until then.
fn take_back(
    target: &Context,
    moving: &Moving,
    until: Duration,
    wanted: impl Fn(&Document) -> bool,
) -> Result<(), Failure> {
    // Without the lock, the removal compares all the same.
    let _guard = access::enter(target, until).ok();
    let Some((stored, _)) = driver::read_document(&*target.store, target)? else { return Ok(()) };
    if stored.document.moved.as_ref() != Some(&moving.id) || !wanted(&stored.document) {
        return Ok(());
    }
    removed(target, &stored, NOT_MOVED)
}

/// Ends the move of a document that a login has `replaced` here: what it brought to the other store cannot be used any more.
pub(super) fn give_up(context: &Context, replaced: &Document) {
    let Some(moving) = replaced.moving.as_ref().filter(|moving| moving.from.is_none()) else { return };
    let end = || {
        replaced.check_trust()?;
        let target = open("the other store", &moving.to, context)?;
        let soon = context.now().elapsed.saturating_add(OTHER_STORE_WAIT);
        take_back(&target, moving, soon, |_| true)?;
        // A program that a killed migrate had started may still write.
        COMPARISON_DELAYS.iter().try_for_each(|delay| {
            context.pause(*delay);
            take_back(&target, moving, soon, |_| true)
        })
    };
    let given_up: Result<(), Failure> = end();
    if let Err(failure) = given_up {
        let to = printable(&moving.to);
        let message = format!("the grant of the earlier login may still be in {to}: {}", failure.message);
        let hint = format!("onegrant --store {} logout", quoted(&moving.to));
        context.warn(&Failure::new(Kind::Temporary, message).hint(hint));
    }
}

/// Removes the grant from the source. The lock of the target is held, so that a move that makes the session usable there
/// can tell this from a logout.
fn leave(context: &Context, target: &Context, moving: &Moving) -> Result<(), Failure> {
    let _there = access::enter(target, target.globals.timeout)?;
    let guard = access::enter(context, context.globals.timeout)?;
    let Some((stored, _)) = driver::read_document(&*context.store, context)? else { return Ok(()) };
    if !is_marked(&stored.document, moving) {
        return Ok(());
    }
    let to = printable(&moving.to);
    removed(context, &stored, &format!("no access token: the grant was moved to {to}"))?;
    let level = context.level_under(guard.as_ref());
    drop(guard);
    let document = stored.document.with_session(moving.session.clone());
    context.note_done(HistoryEvent::Moved, &format!("to {to}"), &document, Some(level));
    Ok(())
}

/// Removes the document if it still is the one that was read. If it is not, the next step finds out.
fn removed(context: &Context, stored: &Stored, message: &str) -> Result<(), Failure> {
    let mark = stored.document.without_grant(context.now().wall, message.to_owned());
    match context.store.remove(&stored.revision, &mark.to_bytes()?) {
        WriteResult::Failed { failure, .. } => Err(failure),
        WriteResult::Done | WriteResult::Lost(_) | WriteResult::Unknown => Ok(()),
    }
}
