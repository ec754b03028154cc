//! Stores the grant of a login. It replaces the document of the profile.

use super::{Context, access, credential_cache, events, migration};
use crate::driver::{self, Existing};
use crate::error::{Failure, Kind};
use crate::grant::{Document, Login};
use crate::history::HistoryEvent;
use crate::lock::Guard;
use crate::output;
use crate::store::{WriteResult, revision_of};
use crate::text::date;

/// How often the store is written again because another process changed the document first.
const MAX_WRITES: u32 = 8;

/// The context of a failure after the server gave a grant.
pub const NOT_STORED: &str = "logged in, but the grant could not be stored";

/// What a login may replace.
#[derive(Clone, Copy)]
pub enum Replaces<'a> {
    /// Any document.
    Anything,
    /// The login that was stored when this one began, and what a refresh or a logout made of it. So if two logins run at
    /// once, the one that is stored first wins.
    Login(Option<&'a Login>),
}

/// Why a grant is not stored.
pub struct NotStored {
    /// The failure.
    pub failure: Failure,
    /// Whether the grant may be stored all the same, because a store did not answer. Then it must not be revoked.
    pub may_be_stored: bool,
}

impl From<Failure> for NotStored {
    fn from(failure: Failure) -> Self {
        Self { failure, may_be_stored: false }
    }
}

/// Stores the document of a login. `guard` is the lock, if the caller holds it.
pub fn store(
    document: &Document,
    replaces: Replaces,
    guard: Option<Guard>,
    context: &Context,
) -> Result<(), NotStored> {
    let guard = match guard {
        Some(guard) => Some(guard),
        None => access::enter(context, context.globals.timeout)?,
    };
    let level = context.level_under(guard.as_ref());
    events::login_begins(context);
    // This is the only copy of the grant: if the store fails, try once more.
    let replaced =
        replace(document, replaces, context).or_else(|not_stored| match not_stored.failure.kind {
            Kind::Store => replace(document, replaces, context),
            _ => Err(not_stored),
        })?;
    drop(guard);
    if let Some(replaced) = replaced {
        credential_cache::remove_all(context);
        migration::give_up(context, &replaced);
    }
    context.note_done(HistoryEvent::Login, "stored", document, Some(level));
    events::login_ended(context, document);
    Ok(())
}

/// Writes the document. Returns the one that it replaced.
fn replace(
    document: &Document,
    replaces: Replaces,
    context: &Context,
) -> Result<Option<Document>, NotStored> {
    let bytes = document.to_bytes()?;
    if driver::read_for_login(&*context.store, context)? == Existing::Unreadable {
        let aside = context.store.set_aside()?;
        let message = format!("the unreadable document was kept as {aside}");
        output::warning(&Failure::new(Kind::Store, message));
    }
    let mut may_be_stored = false;
    for _ in 0..MAX_WRITES {
        let snapshot = context.store.read().map_err(|failure| NotStored { failure, may_be_stored })?;
        let expected = revision_of(snapshot.as_ref());
        let replaced = snapshot.and_then(|snapshot| driver::parse(snapshot, &*context.store).ok());
        let replaced = replaced.map(|replaced| replaced.document);
        if let (Some(stored), Replaces::Login(before)) = (&replaced, replaces)
            && let Some(other) = stored.login.as_ref().filter(|other| Some(*other) != before)
            && document.login.as_ref() != Some(other)
        {
            return Err(another_login(other, context).into());
        }
        match context.store.replace(&expected, &bytes, None) {
            WriteResult::Done => return Ok(replaced),
            WriteResult::Lost(_) => {}
            WriteResult::Unknown => may_be_stored = true,
            WriteResult::Failed { failure, .. } => return Err(NotStored { failure, may_be_stored }),
        }
    }
    let failure = Failure::new(Kind::Store, "the document keeps changing under the login");
    Err(NotStored { failure, may_be_stored })
}

fn another_login(other: &Login, context: &Context) -> Failure {
    let message = format!(
        "another login of profile {}, begun at {}, was stored first and is kept; this one was given up",
        context.globals.profile,
        date(other.at)
    );
    Failure::new(Kind::Temporary, message).hint("onegrant status   # shows the one that is kept")
}
