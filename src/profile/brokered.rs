//! Gets a token from a broker: executes the questions of [`crate::session::brokered`].

use super::Context;
use crate::adapters::broker::Profile;
use crate::error::Failure;
use crate::globals::{Globals, Selection};
use crate::session::brokered::{Ask, Asking, Next, other_profile};
use crate::session::{Demand, TokenResult};
use crate::store::broker::BrokerStore;
use crate::store_address::ProfileName;
use crate::system::SystemClock;

/// Gets a token. Each question is sent once: the broker's side waits for other processes, and for the server.
pub fn obtain(demand: Demand, store: &BrokerStore, context: &Context, log: &dyn Fn(u8, &str)) -> TokenResult {
    let (mut asking, mut next) = Asking::start(demand, context.globals.lock, context.named_profile());
    loop {
        match next {
            Next::Finish(result) => return result,
            Next::Ask(ask) => {
                log(
                    2,
                    match ask {
                        Ask::Token { .. } => "asks the broker for a token",
                        Ask::Rejected(_) => "asks the broker for another token than the refused one",
                        Ask::Profile => "asks the broker for the level of its store",
                    },
                );
                next = asking.answered(store.ask(&ask));
            }
        }
    }
}

/// The settings of a broker of a broker, with the name of the profile that the other one serves: a process that names another
/// profile gets no token. They stay as they are if the command names a profile, or if the other broker does not answer.
pub fn named(globals: &Globals) -> Globals {
    let served = || {
        globals.known_profile().is_empty().then_some(())?;
        let context = Context::new(globals.clone(), SystemClock::start());
        ProfileName::new(&context.store.broker()?.profile().ok()?.profile?)
    };
    match served() {
        Some(profile) => Globals { profile, selection: Selection::Name, ..globals.clone() },
        None => globals.clone(),
    }
}

impl Context {
    /// The profile that the command line names.
    fn named_profile(&self) -> Option<String> {
        (self.globals.selection == Selection::Name).then(|| self.globals.profile.to_string())
    }

    /// What the broker says about its profile. Fails if the command line names another one.
    pub fn served(&self, store: &BrokerStore) -> Result<Profile, Failure> {
        let profile = store.profile()?;
        match (self.named_profile(), &profile.profile) {
            (Some(named), Some(served)) if named != *served => Err(other_profile(&named, served)),
            _ => Ok(profile),
        }
    }

    /// The same context for the profile that the broker serves, if it has a name that a profile can have.
    pub fn of_served_profile(&self, store: &BrokerStore) -> Result<Self, Failure> {
        let served = self.served(store)?.profile;
        let name = served.and_then(|served| ProfileName::new(&served));
        Ok(self.of_profile(name.unwrap_or_else(|| self.globals.profile.clone())))
    }
}
