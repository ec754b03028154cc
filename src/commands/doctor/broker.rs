//! The broker: what this process talks to, and why it gets no answer.

use super::Check;
use crate::adapters::broker::client::DOCTOR;
use crate::commands::status::brokered::{access_token, login_required};
use crate::driver::Clock as _;
use crate::error::{Failure, Kind};
use crate::profile::Context;
use crate::session::condition::State;
use crate::store::broker::BrokerStore;
use crate::store_address::{BrokerAddress, StoreAddress};
use crate::text::{describe, printable};
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// What starts a broker.
const START: &str = "where the grant is, run onegrant exec --serve, or onegrant serve --socket PATH";

/// The checks of a profile on the other side of a broker.
pub fn checks(store: &BrokerStore, context: &Context) -> Vec<Check> {
    const NAME: &str = "broker";
    let profile = match context.served(store) {
        Ok(profile) => profile,
        Err(failure) if failure.kind == Kind::Temporary => {
            return vec![Check::fail(NAME, unreachable(context).unwrap_or(failure.hint(START)))];
        }
        // The hint of another command is this one.
        Err(failure) if failure.hint.as_deref() == Some(DOCTOR) => {
            return vec![Check::fail(NAME, failure.hint(START))];
        }
        Err(failure) => return vec![Check::fail(NAME, failure)],
    };
    let name = printable(profile.profile.as_deref().unwrap_or("without a name"));
    let issuer =
        profile.issuer.as_ref().map(|issuer| format!(" of {}", printable(issuer))).unwrap_or_default();
    let level = profile.level.as_deref().map_or("not known".to_owned(), printable);
    let what = format!(
        "{} serves profile {name}{issuer}; the level of its store is {level}",
        context.store.location()
    );
    let valid_for = profile.expires_at.map(|end| end.saturating_sub(context.now().wall).max(0));
    let token = match profile.state {
        State::LoginRequired => Check::fail("grant", login_required(&profile)),
        state => Check::ok(
            "grant",
            format!("access token: {}", access_token(state, valid_for, profile.expires_at)),
        ),
    };
    vec![Check::ok(NAME, what), token]
}

/// Why a socket cannot be reached, if its file tells.
fn unreachable(context: &Context) -> Option<Failure> {
    let StoreAddress::Broker(BrokerAddress::Unix(path)) = &context.globals.store else { return None };
    let shown = printable(&path.display().to_string());
    let failed = |why: String| Failure::new(Kind::Temporary, why);
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            let why =
                format!("there is no socket that this process can see at {shown}: {}", describe(&error));
            return Some(failed(why).hint(START));
        }
    };
    // To connect is to write (unix(7)).
    access(path, Access::WRITE_OK).is_err().then(|| {
        let (owner, mode, me) = (metadata.uid(), metadata.mode() & 0o777, geteuid().as_raw());
        let why = format!(
            "{shown} belongs to user {owner} and has mode {mode:04o}, and this process runs as user {me}"
        );
        failed(why).hint(format!("docker run --user {owner}   # podman without root: --userns=keep-id"))
    })
}
