//! Small changes to the document, such as its hosts or a refused token.

use super::Context;
use super::access::{self, ClaimGuard};
use crate::driver::Clock as _;
use crate::error::{Failure, Kind};
use crate::grant::{Document, UnixSeconds};
use crate::session::Stored;
use crate::store::WriteResult;
use crate::store::broker::BrokerStore;
use crate::system::SignalsHeld;
use std::time::Duration;

/// How long the claim of a change binds other processes, in seconds. A change waits only for the disk.
const CLAIM_SECONDS: UnixSeconds = 10;

/// The pause before a change is tried again after another process changed the document.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Changes the document of this profile, if there is one. `change` edits the document, and returns whether it has to be
/// written. It is called after each read.
///
/// A change is made under the lock or, if this place cannot lock, with a claim. So no refresh runs at the same time, and no
/// newer session is overwritten.
pub fn amend(context: &Context, change: impl Fn(&mut Document) -> bool) -> Result<(), Failure> {
    loop {
        let Some(mut stored) = context.stored()? else { return Ok(()) };
        if !change(&mut stored.document) {
            return Ok(());
        }
        if context.store.broker().is_some() {
            return Err(BrokerStore::other_side());
        }
        let guard = access::enter(context, context.globals.timeout)?;
        let signals = SignalsHeld::hold();
        let written = match &guard {
            Some(_) => write(context, None, &change)?,
            None => write_with_claim(context, &change)?,
        };
        drop((guard, signals));
        match written {
            WriteResult::Done => return Ok(()),
            WriteResult::Failed { failure, .. } => return Err(failure),
            WriteResult::Lost(_) | WriteResult::Unknown if context.left().is_zero() => {
                let message = "other processes kept changing the document";
                return Err(Failure::new(Kind::Temporary, message).hint("try again"));
            }
            WriteResult::Lost(_) | WriteResult::Unknown => context.pause(TRY_AGAIN.min(context.left())),
        }
    }
}

/// Writes the change. `claimed` is the document that this process has a claim for; the claim does not protect another one.
fn write(
    context: &Context,
    claimed: Option<&Stored>,
    change: &impl Fn(&mut Document) -> bool,
) -> Result<WriteResult, Failure> {
    let Some(mut stored) = context.stored()? else {
        return Ok(WriteResult::Done);
    };
    if claimed.is_some_and(|claimed| claimed.revision != stored.revision) {
        return Ok(WriteResult::Lost(None));
    }
    match change(&mut stored.document) {
        true => {
            stored.document.check_trust()?;
            Ok(context.store.replace(&stored.revision, &stored.document.to_bytes()?, None))
        }
        false => Ok(WriteResult::Done),
    }
}

fn write_with_claim(
    context: &Context,
    change: &impl Fn(&mut Document) -> bool,
) -> Result<WriteResult, Failure> {
    let Some(stored) = context.stored()? else {
        return Ok(WriteResult::Done);
    };
    match ClaimGuard::make(context, &stored, CLAIM_SECONDS, true)? {
        Some(_claim) => write(context, Some(&stored), change),
        None => Ok(WriteResult::Lost(None)),
    }
}
