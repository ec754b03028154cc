//! Gets a token from a broker: executes the questions of [`crate::session::brokered`].

use super::Context;
use crate::globals::Selection;
use crate::session::brokered::{Ask, Asking, Next};
use crate::session::{Demand, TokenResult};
use crate::store::broker::BrokerStore;

/// Gets a token. Each question is sent once: the broker's side waits for other processes, and for the server.
pub fn obtain(demand: Demand, store: &BrokerStore, context: &Context, log: &dyn Fn(u8, &str)) -> TokenResult {
    let globals = &context.globals;
    let named = (globals.selection == Selection::Name).then(|| globals.profile.to_string());
    let (mut asking, mut next) = Asking::start(demand, globals.lock, named);
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
