//! `onegrant logout`: revokes every live refresh token of the profile, then deletes what it looked at, even if the
//! revocation failed. [`crate::session::logout`] decides each step. This file executes the steps and prints the result. Then
//! it ends the registration of the client, if a login made one.

use crate::cli;
use crate::driver::{self, Clock as _};
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::history::HistoryEvent;
use crate::lock::{Guard, Locked};
use crate::oauth::{client_configuration, revocation};
use crate::output;
use crate::profile::Context;
use crate::profile::access::{self, ClaimGuard, find};
use crate::profile::credential_cache;
use crate::profile::other_store::{OTHER_STORE, OTHER_STORE_WAIT, command_at, open};
use crate::protocol::client_configuration::RegistrationRemoval;
use crate::protocol::revocation::Revocation;
use crate::session::bounds::UNTIL_MARGIN_SECONDS;
use crate::session::logout::Found;
use crate::session::logout::{Logout, LogoutEvent, LogoutReport, LogoutStep, Remains, Removal, Side};
use crate::session::{LockMode, LockUse, Revision, expiry};
use crate::store::{WriteResult, absent};
use crate::system::SignalsHeld;
use crate::text::{date, printable};
use anyhow::Context as _;
use std::time::Duration;

/// The part of the deadline that the wait for other processes leaves for the revocation: at most half of it.
const REVOCATION_RESERVE: Duration = Duration::from_secs(5);

/// How often a claim of another process is read.
const CLAIM_WAIT: Duration = Duration::from_millis(50);

/// Logs out. A refresh that is on its way ends first, so that its new refresh token is the one that is revoked.
pub fn run(arguments: &cli::Logout, context: &Context) -> anyhow::Result<()> {
    let stored = context.read()?;
    if stored.is_none_or(|stored| stored.document.has_no_grant()) {
        return nothing(context);
    }
    let timeout = context.globals.timeout;
    let wait = timeout.saturating_sub(REVOCATION_RESERVE.min(timeout / 2));
    let guard = match access::enter(context, wait) {
        // If no lock file can be made (the disk is full, the directory is read-only), the grant can still be revoked.
        Err(failure) if failure.kind == Kind::Store && context.globals.lock == LockUse::Auto => None,
        entered => entered.context("cannot log out")?,
    };
    let level = context.level_under(guard.as_ref());
    let execution = Execution {
        context,
        is_local: arguments.local,
        wait,
        guard,
        claim: None,
        other: None,
        distrust: None,
    };
    let report = execution.run()?;
    credential_cache::remove_all(context);
    let Some(document) = &report.document else {
        return report
            .remains
            .as_ref()
            .map_or_else(|| nothing(context), |remains| Err(failed(remains, &report)));
    };
    context.note_done(HistoryEvent::Logout, history_outcome(&report), document, Some(level));
    if !arguments.local && report.remains.is_none() {
        remove_registrations(&report, context);
    }
    print(arguments, &report, context)
}

/// Executes the steps of one logout.
struct Execution<'a> {
    context: &'a Context,
    is_local: bool,
    /// When the wait for other processes ends, since the start of this one.
    wait: Duration,
    guard: Option<Guard>,
    /// Made if there is no lock.
    claim: Option<ClaimGuard<'a>>,
    /// The other store of a migration, and its lock.
    other: Option<(Context, Option<Guard>)>,
    /// Why the document must not name that store.
    distrust: Option<Failure>,
}

impl Execution<'_> {
    fn run(mut self) -> Result<LogoutReport, Failure> {
        // From here to the deletion is one act: a half would leave a dead refresh token stored.
        let _signals = SignalsHeld::hold();
        let message = format!("no access token: profile {} was logged out", self.context.globals.profile);
        let (mut logout, mut step) = Logout::start(message, self.context.now().wall);
        loop {
            let event = match step {
                LogoutStep::Finish(report) => return Ok(*report),
                LogoutStep::LookHere => LogoutEvent::Looked(self.look_here()),
                LogoutStep::LookThere(address) => LogoutEvent::Looked(self.look_there(&address)),
                LogoutStep::Revoke(document, pending) => {
                    LogoutEvent::Revoked(self.revoke(&document, pending))
                }
                LogoutStep::Remove { side, expected, mark } => {
                    LogoutEvent::Removed(self.remove(side, &expected, &mark))
                }
                LogoutStep::Pause(duration) => {
                    self.context.pause(duration.min(self.context.left()));
                    LogoutEvent::Paused
                }
            };
            step = logout.next(event);
        }
    }

    /// Without the lock, it makes a claim, so that neither a refresh nor a migration begins meanwhile. What is read after the
    /// claim counts. A claim of another process is waited for only until `wait`: its late answer then finds a changed store.
    fn look_here(&mut self) -> Result<Option<Found>, Failure> {
        self.claim = None;
        loop {
            let Some(found) = find(self.context)? else { return Ok(None) };
            self.distrust = found.stored.document.check_trust().err();
            let is_late = self.context.now().elapsed >= self.wait;
            if self.guard.is_some() || is_late {
                return Ok(Some(found));
            }
            let lasts = i64::try_from(self.context.left().as_secs()).unwrap_or(0);
            let lasts = lasts.saturating_add(UNTIL_MARGIN_SECONDS);
            // With `ONEGRANT_LOCK=off` no process waits for a claim.
            let is_exclusive = self.context.globals.lock != LockUse::Off;
            match ClaimGuard::make(self.context, &found.stored, lasts, is_exclusive) {
                Ok(Some(claim)) => {
                    let again = find(self.context)?;
                    let is_same =
                        again.as_ref().is_some_and(|again| again.stored.revision == found.stored.revision);
                    if is_same {
                        self.claim = Some(claim);
                        return Ok(again);
                    }
                }
                Ok(None) => self.context.pause(CLAIM_WAIT),
                // A store that cannot write a record may still be able to delete.
                Err(_) => return Ok(Some(found)),
            }
        }
    }

    fn look_there(&mut self, address: &str) -> Result<Option<Found>, Failure> {
        if let Some(failure) = &self.distrust {
            return Err(failure.clone());
        }
        let is_first = self.other.is_none();
        let (other, mut guard) = match self.other.take() {
            Some(other) => other,
            None => (open(OTHER_STORE, address, self.context)?, None),
        };
        if guard.is_none() {
            let most = if is_first { OTHER_STORE_WAIT.min(self.context.left() / 2) } else { Duration::ZERO };
            let until = self.context.now().elapsed.saturating_add(most);
            guard = access::enter(&other, until).ok().flatten();
        }
        let found = find(&other);
        self.other = Some((other, guard));
        found
    }

    /// Each revocation gets an equal share of the remaining time, and so does the deletion.
    fn revoke(&self, document: &Document, pending: u32) -> Option<Revocation> {
        if self.is_local {
            return None;
        }
        let timeout = self.context.left() / pending.saturating_add(1);
        revocation::revoke(self.context.client(), document, timeout, self.context.now().wall)
    }

    fn remove(&mut self, side: Side, expected: &Revision, mark: &Document) -> Removal {
        let store = match (side, &self.other) {
            (Side::There, Some((other, _))) => &other.store,
            _ => &self.context.store,
        };
        let bytes = match mark.to_bytes() {
            Ok(bytes) => bytes,
            Err(failure) => return Removal::Failed(failure),
        };
        match store.remove(expected, &bytes) {
            WriteResult::Done => {
                if let (Side::Here, Some(claim)) = (side, self.claim.take()) {
                    claim.was_removed();
                }
                Removal::Done
            }
            WriteResult::Lost(_) | WriteResult::Unknown => Removal::Again,
            WriteResult::Failed { failure, .. } => Removal::Failed(failure),
        }
    }
}

/// Ends the registrations of the clients that were logged out, as well as it can: what happens here changes nothing of the
/// logout. The lock is released already, so a login that waited for it is stored now, and a registration that it uses stays.
fn remove_registrations(report: &LogoutReport, context: &Context) {
    let dependencies = context.dependencies();
    let log = |what: &str| (dependencies.log)(1, what);
    let documents = report.document.iter().chain(report.revocations.iter().map(|(document, _)| document));
    let mut seen: Vec<&str> = Vec::new();
    for document in documents {
        let registration = document.registration.as_ref();
        let Some(management_uri) = registration.and_then(|client| client.management_uri.as_deref()) else {
            continue;
        };
        if seen.contains(&management_uri) {
            continue;
        }
        seen.push(management_uri);
        // A store that cannot be read may hold such a login.
        let stored = context.document();
        let is_free = stored.is_ok_and(|stored| {
            let used = stored.and_then(|stored| stored.registration);
            used.is_none_or(|used| used.management_uri.as_deref() != Some(management_uri))
        });
        if !is_free {
            log("the registration of the client stays: another login uses it");
            continue;
        }
        match client_configuration::remove(context.client(), document, context.left()) {
            Some(RegistrationRemoval::Removed) => log("the registration of the client was removed"),
            Some(RegistrationRemoval::Kept(why)) => {
                log(&format!("the server keeps the registration of the client: {why}"));
            }
            Some(RegistrationRemoval::Failed(why)) => {
                let message = format!("the registration of the client could not be removed: {}", why.message);
                context.warn(&Failure { message, ..why });
            }
            None => {}
        }
    }
}

/// Nothing to log out of is no failure: the last step of a script must not fail for it.
fn nothing(context: &Context) -> anyhow::Result<()> {
    credential_cache::remove_all(context);
    // Removes what an interrupted logout left. Only under the lock, because a login may be storing a grant.
    if let Locked::Granted(_guard) = context.store.lock(LockMode::Try, Duration::ZERO)
        && let Ok(read) = driver::read_document(&*context.store, context)
        && read.as_ref().is_none_or(|(stored, _)| stored.document.has_no_grant())
    {
        let (expected, mark) = match read {
            Some((stored, _)) => (stored.revision, stored.document.to_bytes()?),
            None => (absent(), Vec::new()),
        };
        let _ = context.store.remove(&expected, &mark);
    }
    let text =
        format!("nothing to revoke, nothing to delete: profile {} has no grant\n", context.globals.profile);
    output::answer(text.as_bytes())?;
    if let Some(other) = context.only_other_profile() {
        let failure =
            Failure::new(Kind::Usage, format!("profile {other} is another one, and was not logged out"));
        context.warn(&failure.hint(format!("onegrant --profile {other} logout")));
    }
    Ok(())
}

/// The result of all revocations together. A failure counts before a success.
enum RevocationResult<'a> {
    Revoked,
    Failed(&'a Failure),
    Unsupported,
    /// No revocation was requested: `--local`, or the server has no revocation endpoint.
    NotRequested,
    NoSession,
}

fn revocation_result(report: &LogoutReport) -> RevocationResult<'_> {
    let each = || report.revocations.iter().map(|(_, revocation)| revocation.as_ref());
    let failed = each().find_map(|revocation| match revocation {
        Some(Revocation::Failed(why)) => Some(why),
        _ => None,
    });
    match failed {
        Some(why) => RevocationResult::Failed(why),
        None if report.revocations.is_empty() => RevocationResult::NoSession,
        None if each().any(|revocation| revocation == Some(&Revocation::Revoked)) => {
            RevocationResult::Revoked
        }
        None if each().any(|revocation| revocation.is_some()) => RevocationResult::Unsupported,
        None => RevocationResult::NotRequested,
    }
}

/// Says which tokens can still be used although they are deleted here.
fn still_usable(report: &LogoutReport, context: &Context) -> String {
    let sessions = || report.revocations.iter().filter_map(|(document, _)| document.session.as_ref());
    let mut text = String::new();
    if sessions().any(|session| session.refresh_token.is_some()) {
        text.push_str("; the refresh token stays usable until the server ends it");
    }
    let last = sessions().filter_map(expiry).max();
    if let Some(end) = last.filter(|end| *end > context.now().wall) {
        text.push_str(&format!("; tokens handed out stay valid until {}", date(end)));
    }
    text
}

/// The outcome for the history.
fn history_outcome(report: &LogoutReport) -> &'static str {
    match (revocation_result(report), &report.remains) {
        (_, Some(_)) => "not everything was deleted",
        (RevocationResult::Revoked, None) => "revoked at the server, and deleted here",
        (RevocationResult::Failed(_), None) => "deleted here; the revocation failed",
        (_, None) => "deleted here; not revoked",
    }
}

/// Prints what was revoked and what was deleted.
fn print(arguments: &cli::Logout, report: &LogoutReport, context: &Context) -> anyhow::Result<()> {
    let profile = &context.globals.profile;
    let still_usable = still_usable(report, context);
    if let RevocationResult::Failed(why) = revocation_result(report) {
        let message = format!("revocation failed: {}{still_usable}", why.message);
        context.warn(&Failure { message, ..why.clone() });
    }
    if let Some(remains) = &report.remains {
        return Err(failed(remains, report));
    }
    let done = match revocation_result(report) {
        RevocationResult::Revoked => format!("revoked at the server, and deleted here: profile {profile}"),
        RevocationResult::Failed(_) => format!("revocation failed; deleted here: profile {profile}"),
        RevocationResult::NoSession => format!("nothing to revoke; deleted here: profile {profile}"),
        RevocationResult::Unsupported => format!(
            "not revoked: the server does not revoke such tokens; deleted here: profile {profile}{still_usable}"
        ),
        RevocationResult::NotRequested if arguments.local => {
            format!("not revoked (--local); deleted here: profile {profile}{still_usable}")
        }
        RevocationResult::NotRequested => format!(
            "not revoked: the server has no revocation endpoint; deleted here: profile {profile}{still_usable}"
        ),
    };
    output::answer(format!("{done}\n").as_bytes())
}

/// The failure of a logout that could not delete everything.
fn failed(remains: &Remains, report: &LogoutReport) -> anyhow::Error {
    let is_revoked = matches!(revocation_result(report), RevocationResult::Revoked);
    let again = |message: &str| Failure::new(Kind::Temporary, message).hint("onegrant logout   # once more");
    match remains {
        Remains::Here(failure) => {
            let what =
                if is_revoked { "revoked at the server, but not deleted here" } else { "cannot log out" };
            anyhow::Error::from(failure.clone()).context(what)
        }
        Remains::AnotherLogin => {
            let earlier = if is_revoked { "the earlier grant was revoked at the server, but" } else { "" };
            let message = format!("cannot log out: {earlier} another login was stored meanwhile, and stays");
            again(&message.replace("  ", " ")).into()
        }
        Remains::KeepsChanging => again(
            "cannot log out: other processes kept storing newer sessions, and the last one is still stored",
        )
        .into(),
        Remains::There(address, failure) => {
            let shown = printable(address);
            let message = format!(
                "deleted here, but not in {shown}, where the grant was on its way: {}",
                failure.message
            );
            Failure::new(Kind::Temporary, message).hint(command_at(address, "logout")).into()
        }
    }
}
