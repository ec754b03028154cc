//! The grant: whether the next token can be obtained, and how old the refresh token is.

use super::Check;
use crate::driver::{self, Clock};
use crate::grant::Document;
use crate::profile::Context;
use crate::session::attempt::{Attempt, AttemptOutcome, Presence};
use crate::session::{Demand, Freshness, Stored, age, no_session};
use crate::text::{date, own_hint, own_text, printable};

/// Checks the session, the attempt records and the age of the refresh token.
pub fn check(stored: Option<&Stored>, context: &Context) -> Check {
    const NAME: &str = "grant";
    let Some(stored) = stored else {
        return Check::fail(NAME, context.no_grant());
    };
    let (document, now) = (&stored.document, context.now());
    if let Err(failure) = document.check_trust() {
        return Check::fail(NAME, failure);
    }
    let rejected = match driver::find_rejected(&context.dependencies(), stored) {
        Err(failure) => return Check::fail(NAME, failure),
        Ok(rejected) => rejected,
    };
    if let Some(failure) = rejected {
        return Check::fail(NAME, failure);
    }
    let profile = context.globals.profile.as_str();
    let Some(session) = &document.session else {
        return Check::fail(NAME, no_session(profile, document.rejected.as_ref()));
    };
    let is_over = age(session, Demand::default().min_ttl, now) == Freshness::Ended;
    if document.credential().is_none() {
        return match is_over {
            true => Check::fail(NAME, no_session(profile, None)),
            false => Check::warn(NAME, "there is no refresh token: the grant ends with its access token")
                .hint(context.login_command()),
        };
    }
    if let Some(check) = last_attempt(document, context) {
        return check;
    }
    if document.refresh_token().is_none() {
        return Check::ok(NAME, "the client asks for each access token in its own name");
    }
    let since = document.last_refresh.as_ref().map(|last| last.at).unwrap_or(session.obtained_at);
    if since == 0 {
        return Check::ok(NAME, "the age of the refresh token is not known");
    }
    let days = now.wall.saturating_sub(since).max(0) / 86_400;
    let logged_in = document.login.as_ref().map(|login| format!(", logged in at {}", date(login.at)));
    Check::ok(NAME, format!("the refresh token is {days} days old{}", logged_in.unwrap_or_default()))
}

/// The warning about the last attempt with the stored session: its process is gone, so the server may have given an answer
/// that no process stored; or the server refused it and the session was kept.
fn last_attempt(document: &Document, context: &Context) -> Option<Check> {
    let records = context.store.records(&document.credential_sha256()?).ok()?;
    let mut attempts =
        records.iter().filter_map(|record| serde_json::from_slice::<Attempt>(&record.bytes).ok());
    let attempt = attempts.rfind(|attempt| attempt.concerns(document))?;
    if attempt.outcome == Some(AttemptOutcome::Refused) {
        let why = attempt.message.as_deref().map(own_text).unwrap_or_default();
        let what = format!(
            "the last refresh was refused at {}: {why}",
            date(attempt.ended_at.unwrap_or(attempt.at))
        );
        return Some(Check::warn("grant", what).hint_of(attempt.hint.as_deref().map(own_hint)));
    }
    let is_late = context.now().wall > attempt.until;
    if attempt.is_over() || !is_late && context.presence(&attempt.by) != Presence::Gone {
        return None;
    }
    let what = format!(
        "a refresh was begun at {} by process {} on {} and never finished: the refresh token may be spent",
        date(attempt.at),
        attempt.by.pid,
        printable(&attempt.by.host)
    );
    Some(Check::warn("grant", what).hint("onegrant refresh   # finds out; onegrant login, if it was"))
}
