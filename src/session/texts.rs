//! The messages for a person when there is no token.

use super::attempt::Attempt;
use crate::error::{Failure, Kind};
use crate::grant::{ClientGrant, Document, Rejected, TokenKind};
use crate::protocol::claims::claims;
use crate::protocol::hints::{SCOPE, login_command, target_hint};
use crate::protocol::scope;
use crate::protocol::token::Refusal;
use crate::text::{date, own_hint, own_text, printable, whole_seconds};
use std::time::Duration;

pub(super) fn no_document(profile: &str) -> Failure {
    Failure::new(Kind::LoginRequired, format!("no access token: profile {profile} has no grant"))
        .hint(format!("{} https://ADDRESS", login_command(profile)))
}

/// A cleared session. `rejected` has the reason.
pub fn no_session(profile: &str, rejected: Option<&Rejected>) -> Failure {
    let message = match rejected {
        Some(rejected) => own_text(&rejected.message),
        None => format!("no access token: the session of profile {profile} has ended; a login is required"),
    };
    let hint = rejected.and_then(|rejected| rejected.hint.as_deref().map(own_hint));
    Failure::new(Kind::LoginRequired, message).hint(hint.unwrap_or_else(|| login_command(profile)))
}

/// `works`: the stored token still works, so only a newer one is missing.
pub(super) fn no_refresh_token(profile: &str, token: TokenKind, works: bool) -> Failure {
    let message = match works {
        true => format!("cannot refresh: profile {profile} has no refresh token"),
        false => format!(
            "no {}: it has expired, and profile {profile} has no refresh token; a login is required",
            token.name()
        ),
    };
    Failure::new(Kind::LoginRequired, message).hint(format!(
        "{}   # servers often want --scope offline_access for a refresh token",
        login_command(profile)
    ))
}

/// Why there is no ID token after a refresh.
pub(super) const NO_OTHER_ID_TOKEN: &str =
    "the ID token has expired, and the server gives no other one when the grant is refreshed";

/// The ID token is demanded, and the session has none that works.
pub(super) fn no_id_token(profile: &str, document: &Document) -> Failure {
    let id_token = document.session.as_ref().and_then(|session| session.id_token.as_ref());
    let (why, hint) = match id_token {
        None if document.grant == Some(ClientGrant::ClientCredentials) => {
            let why = "the grant has no ID token, because no person logged in (client credentials)";
            return Failure::new(Kind::LoginRequired, why);
        }
        None => ("the grant has no ID token", scope::login_with("openid", document)),
        Some(token) => {
            let why = match claims(token.expose()) {
                None => "the stored ID token is not a signed token that can be read",
                Some(claims) if !claims.contains_key("exp") => {
                    "the stored ID token does not say when it expires (exp)"
                }
                Some(_) => NO_OTHER_ID_TOKEN,
            };
            (why, login_command(profile))
        }
    };
    Failure::new(Kind::LoginRequired, why).hint(hint)
}

pub(super) fn logged_out(profile: &str) -> Failure {
    Failure::new(Kind::LoginRequired, format!("no access token: profile {profile} was logged out meanwhile"))
        .hint(login_command(profile))
}

/// A dead grant. `unfinished`: an earlier attempt that was begun and never finished.
pub(super) fn dead(profile: &str, words: &str, unfinished: Option<&Attempt>) -> Failure {
    let mut message =
        format!("cannot refresh: the session of profile {profile} has ended ({})", printable(words));
    if let Some(attempt) = unfinished {
        message.push_str(&format!(
            "; a refresh was begun by process {} on {} at {} and never finished",
            attempt.by.pid,
            printable(&attempt.by.host),
            date(attempt.at)
        ));
    }
    message.push_str("; a login is required");
    Failure::new(Kind::LoginRequired, message).hint(login_command(profile))
}

/// `first`: how the first request with this refresh token ended, if this answers the second request.
///
/// A server forgets a client that registered itself, for example after 90 days. Then the configuration is not wrong: a login
/// registers another client.
pub(super) fn refused(
    profile: &str,
    document: Option<&Document>,
    refusal: Refusal,
    words: &str,
    first: Option<&str>,
) -> Failure {
    let what = match first {
        Some(first) => {
            format!("{first}; then the server refused: {words}; the refresh token may have been spent")
        }
        None => format!("the server refused: {words}; the session is kept"),
    };
    let is_registered = document.is_some_and(|document| document.registration.is_some());
    let login = login_command(profile);
    let (kind, hint) = match refusal {
        Refusal::InvalidClient if is_registered => (Kind::LoginRequired, format!("{login} --register")),
        Refusal::InvalidScope => (refusal.kind(), SCOPE.to_owned()),
        Refusal::InvalidTarget { sent_resource } => (refusal.kind(), target_hint(sent_resource).to_owned()),
        Refusal::InvalidClient | Refusal::UnauthorizedClient => {
            let change = format!("to change them: {login} --client-id ID --scope SCOPE");
            (refusal.kind(), format!("onegrant status   # shows client and scope; {change}"))
        }
        Refusal::Other => (refusal.kind(), login),
    };
    Failure::new(kind, format!("cannot refresh: {what}")).hint(hint)
}

pub(super) fn temporary(what: &str) -> Failure {
    Failure::new(Kind::Temporary, format!("cannot refresh now: {what}; the session is kept"))
        .hint("try again".to_owned())
}

/// A failure that has its own hint.
pub(super) fn failed(failure: Failure) -> Failure {
    Failure { message: format!("cannot refresh: {}; the session is kept", failure.message), ..failure }
}

/// `again`: whether another request may bring the answer.
pub(super) fn unknown(profile: &str, what: &str, again: bool) -> Failure {
    let message = format!("cannot refresh: {what}; the refresh token may have been spent");
    let hint =
        format!("onegrant refresh   # asks once more; if the server refuses: {}", login_command(profile));
    Failure::new(Kind::Temporary, message).hint_of(again.then_some(hint.as_str()))
}

/// The deadline passed, and the worker of this process has not said how far it has come.
pub(super) fn no_word_of_the_worker(profile: &str, waited: Duration) -> Failure {
    let waited = whole_seconds(waited);
    let what = format!("no whole answer: the exchange with the server had not ended after {waited} s");
    unknown(profile, &what, true)
}

pub(super) fn too_many_generations() -> Failure {
    let message =
        "cannot refresh: other processes keep storing sessions that have expired; nothing was deleted";
    Failure::new(Kind::Temporary, message).hint("date   # compare this machine's clock with the server's")
}

/// A lock call without a wait did not return.
pub(super) const NO_ANSWER: &str = "the lock call had not been answered";

/// The deadline passed. `reason` says what the process was waiting for.
pub(super) fn deadline(waited: Duration, reason: &str) -> Failure {
    let waited = whole_seconds(waited);
    let message = format!("cannot refresh: {reason} after {waited} s; the session is kept");
    Failure::new(Kind::Temporary, message).hint(match reason {
        NO_ANSWER => "export ONEGRANT_LOCK=claim   # for all processes that share this store",
        _ => "try again, or wait longer: --timeout SECONDS",
    })
}

pub(super) fn less_than_asked() -> Failure {
    Failure::new(Kind::Temporary, "the token lasts less than --min-ttl asks: the server grants no more")
}

/// The token was obtained but could not be stored.
pub(super) fn not_stored(failure: &Failure, kept: Option<&str>) -> Failure {
    let message = match kept {
        Some(path) => format!(
            "the new session could not be stored: {}; it waits in {path}, and the next onegrant adopts it",
            failure.message
        ),
        None => format!(
            "THE NEW SESSION IS LOST: it could not be stored: {}; this token works until it expires, then a login is required",
            failure.message
        ),
    };
    Failure { kind: Kind::Store, message, hint: failure.hint.clone() }
}

/// A completed answer waits, but cannot replace the document.
pub(super) fn not_adopted() -> Failure {
    Failure::new(Kind::Store, "cannot adopt a completed session: the store keeps the old document")
}

/// A refresh failed, and the old token still works.
pub(super) fn still_valid(failure: &Failure, token: TokenKind) -> Failure {
    Failure {
        message: format!("{}; the present {} is still valid and is used", failure.message, token.name()),
        ..failure.clone()
    }
}
