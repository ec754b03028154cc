//! The other store of a migration, for the same profile.

use super::Context;
use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::globals::Globals;
use crate::store::broker::BrokerStore;
use crate::store_address::StoreAddress;
use crate::text::{describe, in_single_quotes, printable};
use std::ffi::OsStr;
use std::time::Duration;

/// Its name in messages, if no option names it.
pub const OTHER_STORE: &str = "the other store";

/// How long a login or a logout waits for the lock of the other store. A migration that holds this lock sees the change
/// itself.
pub const OTHER_STORE_WAIT: Duration = Duration::from_secs(2);

/// Opens the store at `address`. `name` is the option that gave it, or [`OTHER_STORE`].
pub fn open(name: &str, address: &str, context: &Context) -> Result<Context, Failure> {
    let environment = Environment::read();
    let address = StoreAddress::parse(name, OsStr::new(address), &environment)?;
    if matches!(address, StoreAddress::Broker(_)) {
        return Err(BrokerStore::other_side());
    }
    let store = address.absolute().map_err(|error| {
        Failure::new(Kind::Usage, format!("{name}: {}", describe(&error))).hint("onegrant migrate --help")
    })?;
    Ok(Context::new(Globals { store, ..context.globals.clone() }, context.clock))
}

/// The address of this profile's store, for another process.
pub fn address(context: &Context) -> String {
    let store = context.globals.store.absolute();
    store.unwrap_or_else(|_| context.globals.store.clone()).text().to_string_lossy().into_owned()
}

/// The command `onegrant WORDS` for the store at `address`, for a hint.
pub fn command_at(address: &str, words: &str) -> String {
    format!("onegrant --store {} {words}", in_single_quotes(&printable(address)))
}

/// The command that goes on with a migration to the store at `to`.
pub fn migrate_command(to: &str) -> String {
    format!("onegrant migrate --to {}", in_single_quotes(&printable(to)))
}

/// The same command for a person who works in the store `to`.
pub fn migrate_command_at(from: &str, to: &str) -> String {
    command_at(from, &format!("migrate --to {}", in_single_quotes(&printable(to))))
}
