//! `onegrant logout`: revokes at the server, then deletes here whatever the server said.

use super::Context;
use crate::cli;
use crate::driver::{self, Clock};
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::oauth::revocation;
use crate::output;
use crate::protocol::revocation::Revocation;
use crate::session::date;
use crate::system::SignalsHeld;
use anyhow::Context as _;
use std::time::Duration;

/// How long the server is given at least, whatever the wait for others left of the deadline.
const REVOCATION_LEAST: Duration = Duration::from_secs(5);

/// Logs out under the lock: a refresh on its way ends first, and its refresh token is the one that is revoked.
pub fn run(arguments: &cli::Logout, context: &Context) -> anyhow::Result<()> {
    if context.read()?.is_none() {
        return nothing(context);
    }
    let guard = driver::enter(&context.seams(), context.globals.lock, context.globals.timeout)
        .context("cannot log out")?;
    let Some(stored) = context.read()? else {
        drop(guard);
        return nothing(context);
    };
    // From here to the deletion is one act: half of it would leave a dead refresh token behind.
    let signals = SignalsHeld::hold();
    let revocation = match arguments.local {
        true => None,
        false => {
            let timeout = context.left().max(REVOCATION_LEAST);
            revocation::revoke(context.client(), &stored.document, timeout, context.now().wall)
        }
    };
    let logged_out = Document { session: None, rejected: None, ..stored.document.clone() };
    let placeholder = logged_out.to_bytes()?;
    let at_server = match revocation {
        Some(Revocation::Revoked) => "revoked at the server, but not deleted here",
        _ => "cannot log out",
    };
    context.store.remove(&placeholder).context(at_server)?;
    let level = context.level_under(guard.as_ref());
    drop(guard);
    drop(signals);
    let outcome = match &revocation {
        Some(Revocation::Revoked) => "revoked at the server, and deleted here",
        Some(Revocation::Failed(_)) => "deleted here; the revocation failed",
        Some(Revocation::Unsupported) | None => "deleted here; not revoked",
    };
    context.note_done("logout", outcome, &stored.document, Some(level));
    tell(arguments, &stored.document, revocation.as_ref(), context)
}

/// Logging out of nothing is done at once: a script's last step must not fail for it.
fn nothing(context: &Context) -> anyhow::Result<()> {
    let text =
        format!("nothing to revoke, nothing to delete: profile {} has no grant\n", context.globals.profile);
    output::answer(text.as_bytes())
}

fn tell(
    arguments: &cli::Logout,
    document: &Document,
    revocation: Option<&Revocation>,
    context: &Context,
) -> anyhow::Result<()> {
    let profile = &context.globals.profile;
    let still_valid = || match document.session.as_ref().and_then(crate::session::expiry) {
        Some(end) if end > driver::Clock::now(context).wall => {
            format!("; tokens handed out stay valid until {}", date(end))
        }
        _ => String::new(),
    };
    match revocation {
        Some(Revocation::Revoked) => {
            output::answer(format!("revoked at the server, and deleted here: profile {profile}\n").as_bytes())
        }
        Some(Revocation::Failed(why)) => {
            let failed = format!("revocation failed: {why}{}", still_valid());
            output::warning(&Failure::new(Kind::Temporary, failed));
            output::answer(format!("revocation failed; deleted here: profile {profile}\n").as_bytes())
        }
        Some(Revocation::Unsupported) | None => {
            let why = match (arguments.local, revocation) {
                (true, _) => "not revoked (--local)",
                (false, Some(_)) => "nothing to revoke: the server does not revoke such tokens",
                (false, None) => "nothing to revoke",
            };
            output::answer(format!("{why}; deleted here: profile {profile}{}\n", still_valid()).as_bytes())
        }
    }
}
