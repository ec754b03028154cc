//! Executes a migration to another store. [`crate::session::migration`] decides each step; "Migration" in `docs/design.md`
//! shows the states.
//!
//! The mark in the first store contains the session until the end, so a kill loses nothing. Its identifier is also in the other
//! store, so the next call knows what this one did. Meanwhile a process that uses either store finds no session, and the
//! command that continues the migration.

use super::Context;
use super::access::{self, find};
use super::amend::amend;
use super::other_store::{
    OTHER_STORE, OTHER_STORE_WAIT, address, command_at, migrate_command, migrate_command_at, open,
};
use crate::driver::Clock;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Moving, Rejected, Secret};
use crate::history::HistoryEvent;
use crate::session::bounds::COMPARISON_DELAYS;
use crate::session::migration::{End, MAX_STEPS, MigrationStep, arriving, next};
use crate::session::{Stored, no_session};
use crate::store::{WriteResult, absent};
use crate::text::printable;
use std::cell::Cell;
use std::time::Duration;

/// The space that must be free before the session is taken from its store, in bytes.
const SPACE_BYTES: u64 = 128 << 10;

/// The message for a process that uses the other store, if the document cannot be removed there.
const NOT_MOVED: &str = "no access token: the grant was not moved here";

/// Why a migration stopped before its end.
pub struct Stopped {
    /// The end that the machine decided; `None` if a store failed.
    pub end: Option<End>,
    /// The failure to report.
    pub failure: anyhow::Error,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self { end: None, failure: failure.into() }
    }
}

/// Begins a migration of `document` to the address `to`, which is the store of `target`. Fails before any change if the
/// migration would certainly fail.
pub fn begin(context: &Context, target: &Context, to: &str, document: &Document) -> Result<Moving, Failure> {
    check(context, target, document)?;
    mark(context, to)
}

/// Fails if the migration would certainly fail. Changes nothing, except that it removes what an earlier migration left.
fn check(context: &Context, target: &Context, document: &Document) -> Result<(), Failure> {
    if document.session.is_none() {
        return Err(no_session(context.globals.profile.as_str(), document.rejected.as_ref()));
    }
    if let Some(there) = target.document()?.filter(|there| !there.has_no_grant()) {
        let moving =
            there.moving.filter(|moving| there.session.is_none() && moving.from == Some(address(context)));
        if let Some(moving) = moving {
            // An earlier migration from this store left it. It cannot be used there.
            take_back(target, &moving, target.globals.timeout, |there| there.session.is_none())?;
            return check(context, target, document);
        }
        let (profile, there) = (&context.globals.profile, target.store.location());
        let message = format!("cannot move the grant of profile {profile}: there is one in {there} already");
        return Err(Failure::new(Kind::Usage, message).hint("onegrant migrate --help"));
    }
    target.store.check_trust(document)?;
    target.store.check_writable(SPACE_BYTES)
}

/// Replaces the session by a mark. From then on no process uses it.
fn mark(context: &Context, to: &str) -> Result<Moving, Failure> {
    let (id, now) = (context.nonce()?, context.now().wall);
    amend(context, |document| {
        let key = document.credential_sha256().unwrap_or_default();
        let Some(session) = document.session.take() else { return false };
        let message = format!("no access token: the grant is on its way to {}", printable(to));
        // The mark has the digest of the refresh token, so a late answer may become the session again. The next step finds it.
        document.rejected =
            Some(Rejected { hint: Some(migrate_command(to)), ..Rejected::new(key, now, message) });
        document.moving = Some(Moving {
            id: id.clone(),
            to: to.to_owned(),
            from: None,
            has_arrived: false,
            session,
            other: serde_json::Map::new(),
        });
        true
    })?;
    match context.document()?.filter(|document| !document.has_no_grant()) {
        None => Err(failure_of(End::LoggedOut, context, to)),
        Some(here) => here.moving.filter(|moving| moving.id == id).ok_or_else(changed),
    }
}

/// Executes the remaining steps of a migration. Reads both stores before each step.
pub fn complete(context: &Context, target: &Context, moving: &Moving) -> Result<(), Stopped> {
    for _ in 0..MAX_STEPS {
        let (there, here) = (target.document()?, context.document()?);
        here.iter().chain(&there).try_for_each(Document::check_trust)?;
        let done = match next(moving, here.as_ref(), there.as_ref()) {
            MigrationStep::Arrive => arrive(context, target, moving),
            MigrationStep::Confirm => confirm(context, moving),
            MigrationStep::Activate(_) => activate(context, target, moving),
            MigrationStep::TakeBack => {
                take_back(target, moving, target.globals.timeout, |now| match context.document() {
                    Ok(here) => next(moving, here.as_ref(), Some(now)) == MigrationStep::TakeBack,
                    Err(_) => false,
                })
            }
            MigrationStep::Leave => leave(context, target, moving),
            MigrationStep::End(End::Moved) => return Ok(()),
            MigrationStep::End(end) => {
                return Err(Stopped { end: Some(end), failure: failure_of(end, target, &moving.to).into() });
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

fn changed() -> Failure {
    let message = "another process changed the grant meanwhile; it was not moved";
    Failure::new(Kind::Temporary, message).hint("try again")
}

fn failure_of(end: End, target: &Context, to: &str) -> Failure {
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
            Failure::new(Kind::Usage, message).hint(command_at(to, "status"))
        }
    }
}

/// Says where the grant is after a step that failed. If the target certainly has nothing of it, the grant goes back.
fn explain(context: &Context, target: &Context, moving: &Moving, failure: Failure) -> anyhow::Error {
    let is_nowhere = matches!(target.document(), Ok(None));
    let is_back = is_nowhere && put_back(context, moving);
    let is_here = || context.document().is_ok_and(|here| here.is_some_and(|here| is_marked(&here, moving)));
    let (what, failure) = if is_back {
        ("cannot move the grant, the grant is where it was", failure)
    } else if is_here() {
        (
            "cannot move the grant, the grant is on its way",
            Failure { hint: Some(migrate_command(&moving.to)), ..failure },
        )
    } else {
        ("cannot move the grant, which another process changed meanwhile", failure)
    };
    anyhow::Error::from(failure).context(what)
}

/// Puts the session back in place of the mark, if the mark is still there and the session never arrived. Returns whether it did.
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

/// Changes the document of the target under its lock. `change` decides again with the document that is there. If `stays` is
/// false afterwards, the change is undone: a store without compare-and-swap may have made it after a logout.
fn change_there(
    target: &Context,
    change: impl Fn(Option<&Document>) -> Option<Document>,
    stays: impl Fn() -> bool,
) -> Result<Option<Document>, Failure> {
    let _guard = access::enter(target, target.globals.timeout)?;
    let stored = target.stored()?;
    let Some(document) = change(stored.as_ref().map(|stored| &stored.document)) else { return Ok(None) };
    let expected = stored.map_or_else(absent, |stored| stored.revision);
    match target.store.replace(&expected, &document.to_bytes()?, None) {
        WriteResult::Done if stays() => Ok(Some(document)),
        WriteResult::Done => {
            if let Some(stored) = target.stored()? {
                remove(target, &stored, NOT_MOVED)?;
            }
            Ok(None)
        }
        // The next step reads the store again.
        WriteResult::Lost(_) | WriteResult::Unknown => Ok(None),
        WriteResult::Failed { failure, .. } => Err(failure),
    }
}

/// Writes the session into the target. It cannot be used there yet.
fn arrive(context: &Context, target: &Context, moving: &Moving) -> Result<(), Failure> {
    let Some(marked) = find(context)? else { return Ok(()) };
    let session = marked.newest(&moving.session);
    let from = address(context);
    let reason = Rejected {
        hint: Some(migrate_command_at(&from, &moving.to)),
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
            let is_wanted = next(moving, still.as_ref(), there) == MigrationStep::Arrive;
            arrived.clone().filter(|_| is_wanted)
        },
        || true,
    )?;
    Ok(())
}

/// Records in the source that the target has the session.
fn confirm(context: &Context, moving: &Moving) -> Result<(), Failure> {
    amend(context, |document| match &mut document.moving {
        Some(there) if document.session.is_none() && there.id == moving.id => {
            !std::mem::replace(&mut there.has_arrived, true)
        }
        _ => false,
    })
}

/// Makes the session usable in the target.
fn activate(context: &Context, target: &Context, moving: &Moving) -> Result<(), Failure> {
    let is_marked_here =
        || context.document().is_ok_and(|here| here.is_some_and(|here| is_marked(&here, moving)));
    let decide = |there: Option<&Document>| match next(moving, context.document().ok()?.as_ref(), there) {
        MigrationStep::Activate(document) => Some(*document),
        _ => None,
    };
    if let Some(document) = change_there(target, decide, is_marked_here)? {
        target.note_done(HistoryEvent::Moved, "brought here from another store", &document, None);
    }
    Ok(())
}

/// Removes from the target what the migration brought, if `is_outdated` says so. Waits for the lock of the target until
/// `until`.
fn take_back(
    target: &Context,
    moving: &Moving,
    until: Duration,
    is_outdated: impl Fn(&Document) -> bool,
) -> Result<(), Failure> {
    // Without the lock, the removal still compares the revision.
    let _guard = access::enter(target, until).ok();
    let Some(stored) = target.stored()? else { return Ok(()) };
    if stored.document.moved.as_ref() != Some(&moving.id) || !is_outdated(&stored.document) {
        return Ok(());
    }
    remove(target, &stored, NOT_MOVED)
}

/// Ends the migration of a document that a login has `replaced`: removes what it brought to the other store.
pub fn give_up(context: &Context, replaced: &Document) {
    let Some(moving) = replaced.moving.as_ref().filter(|moving| moving.from.is_none()) else { return };
    let end = || {
        replaced.check_trust()?;
        let target = open(OTHER_STORE, &moving.to, context)?;
        let soon = context.now().elapsed.saturating_add(OTHER_STORE_WAIT);
        take_back(&target, moving, soon, |_| true)?;
        // A helper program of a killed migration may still write.
        COMPARISON_DELAYS.iter().try_for_each(|delay| {
            context.pause(*delay);
            take_back(&target, moving, soon, |_| true)
        })
    };
    let given_up: Result<(), Failure> = end();
    if let Err(failure) = given_up {
        let to = printable(&moving.to);
        let message = format!("the grant of the earlier login may still be in {to}: {}", failure.message);
        context.warn(&Failure::new(Kind::Temporary, message).hint(command_at(&moving.to, "logout")));
    }
}

/// Removes the grant from the source. It holds the lock of the target, so that another process that executes the same
/// migration does not take this for a logout.
fn leave(context: &Context, target: &Context, moving: &Moving) -> Result<(), Failure> {
    let _target_guard = access::enter(target, target.globals.timeout)?;
    let guard = access::enter(context, context.globals.timeout)?;
    let Some(stored) = context.stored()? else { return Ok(()) };
    if !is_marked(&stored.document, moving) {
        return Ok(());
    }
    let to = printable(&moving.to);
    remove(context, &stored, &format!("no access token: the grant was moved to {to}"))?;
    let level = context.level_under(guard.as_ref());
    drop(guard);
    let document = stored.document.with_session(moving.session.clone());
    context.note_done(HistoryEvent::Moved, &format!("to {to}"), &document, Some(level));
    Ok(())
}

/// Removes the document if it is still the one that was read. If it is another one, the next step sees that.
fn remove(context: &Context, stored: &Stored, message: &str) -> Result<(), Failure> {
    let mark = stored.document.without_grant(context.now().wall, message.to_owned());
    match context.store.remove(&stored.revision, &mark.to_bytes()?) {
        WriteResult::Failed { failure, .. } => Err(failure),
        WriteResult::Done | WriteResult::Lost(_) | WriteResult::Unknown => Ok(()),
    }
}
