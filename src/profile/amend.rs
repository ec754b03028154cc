//! A small change to the document that is there: what a login does not write and a refresh does not know.

use super::Context;
use super::access::{self, Claim};
use crate::driver::{self, Clock as _};
use crate::error::{Failure, Kind};
use crate::grant::{Document, UnixSeconds};
use crate::session::Stored;
use crate::store::WriteResult;
use crate::system::SignalsHeld;
use std::time::Duration;

/// How long a claim binds others that is made for a change, in seconds: a change waits for nothing but the disk.
const CLAIM_SECONDS: UnixSeconds = 10;

/// How long is waited before a change is tried again that met somebody else's.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Changes the document of this profile; `change` says whether there is anything to write, and is asked again
/// whenever the document was read again. Nothing happens where there is no document.
///
/// A change never meets a refresh: it is made under the lock, and where none can be had, behind a claim like that of a
/// refresh. So it overwrites no newer session than it has read.
pub fn amend(context: &Context, change: impl Fn(&mut Document) -> bool) -> Result<(), Failure> {
    loop {
        let Some((mut stored, _)) = driver::read_document(&*context.store, context)? else { return Ok(()) };
        if !change(&mut stored.document) {
            return Ok(());
        }
        let guard = access::enter(context, context.globals.timeout)?;
        let signals = SignalsHeld::hold();
        let written = match &guard {
            Some(_) => write(context, None, &change)?,
            None => behind_a_claim(context, &change)?,
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

/// `claimed` is the document that a claim was made for: for another one it binds nobody.
fn write(
    context: &Context,
    claimed: Option<&Stored>,
    change: &impl Fn(&mut Document) -> bool,
) -> Result<WriteResult, Failure> {
    let Some((mut stored, _)) = driver::read_document(&*context.store, context)? else {
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

fn behind_a_claim(
    context: &Context,
    change: &impl Fn(&mut Document) -> bool,
) -> Result<WriteResult, Failure> {
    let Some((stored, _)) = driver::read_document(&*context.store, context)? else {
        return Ok(WriteResult::Done);
    };
    match Claim::make(context, &stored, CLAIM_SECONDS, true)? {
        Some(_claim) => write(context, Some(&stored), change),
        None => Ok(WriteResult::Lost(None)),
    }
}
