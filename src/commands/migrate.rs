//! `onegrant migrate`: moves the grant to another store, without ever being usable in two.

use crate::cli;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Moving};
use crate::output;
use crate::profile::other_store::{OTHER_STORE, migrate_command, migrate_command_at, open};
use crate::profile::{Context, credential_cache, migration};
use crate::session::migration::End;
use crate::system::SignalsHeld;
use crate::text::printable;

/// Moves the grant of this profile.
pub fn run(arguments: &cli::Migrate, context: &Context) -> anyhow::Result<()> {
    let target = open("--to", &arguments.to, context)?;
    let to = target.globals.store.text().to_string_lossy().into_owned();
    let document = context.read()?.ok_or_else(|| context.no_grant())?.document;
    document.check_trust()?;
    let moving = match to_complete(&document, &to)? {
        Some(moving) => moving,
        None => {
            undo_interrupted(&document, context)?;
            migration::begin(context, &target, &to, &document)?
        }
    };
    // From here to the end is one act: the next signal ends this process after it.
    let signals = SignalsHeld::hold();
    migration::complete(context, &target, &moving).map_err(|stopped| stopped.failure)?;
    credential_cache::remove_all(context);
    drop(signals);
    let (profile, shown) = (&context.globals.profile, printable(&to));
    output::say(&format!("onegrant: from now on: --store {shown}, or export ONEGRANT_STORE={shown}\n"));
    output::answer(format!("moved to {shown}: profile {profile}\n").as_bytes())
}

/// The migration to `to` that is on its way and that this call completes. Fails if another one is on its way.
fn to_complete(document: &Document, to: &str) -> Result<Option<Moving>, Failure> {
    let Some(moving) = document.moving.as_ref().filter(|_| document.session.is_none()) else {
        return Ok(None);
    };
    let usage = |message: String, hint: String| Err(Failure::new(Kind::Usage, message).hint(hint));
    match &moving.from {
        Some(from) => usage(
            "the grant is on its way to this store already".to_owned(),
            migrate_command_at(from, &moving.to),
        ),
        None if moving.to == to => Ok(Some(moving.clone())),
        None => usage(
            format!("the grant is on its way to {} already", printable(&moving.to)),
            migrate_command(&moving.to),
        ),
    }
}

/// Takes back what an earlier migration brought to its target, if a newer session has replaced its mark here.
fn undo_interrupted(document: &Document, context: &Context) -> anyhow::Result<()> {
    let Some(moving) = &document.moving else { return Ok(()) };
    let target = open(OTHER_STORE, &moving.to, context)?;
    match migration::complete(context, &target, moving) {
        Err(stopped) if stopped.end != Some(End::Changed) => Err(stopped.failure),
        Ok(()) | Err(_) => Ok(()),
    }
}
