//! When the commands of `ONEGRANT_ON_LOGIN_REQUIRED` and `ONEGRANT_ON_ROTATE` run. See "Commands on events" in
//! `docs/design.md`.
//!
//! The machine does not know of them: a refresh is the same with and without them.

use super::attempt::{Attempt, AttemptOutcome};
use super::freshness::age;
use super::step::{DelegateResult, Event, Now, ReplaceResult, Step};
use crate::error::{Failure, Kind};
use crate::grant::{Document, TokenKind, UnixSeconds};
use serde_json::{Value, json};

/// How often in a row the command of `ONEGRANT_ON_ROTATE` may fail before it is run less often.
const FAILURES_AT_ONCE: u32 = 8;

/// How long it is not run after any further failure, in seconds. Otherwise a command that always fails would run once for
/// each token.
const FAILURE_PAUSE_SECONDS: UnixSeconds = 60;

/// Which refresh token the command of `ONEGRANT_ON_ROTATE` was given last, and how often it has failed since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// SHA-256 of that refresh token; empty if it was given none.
    pub refresh_token_sha256: String,
    /// The runs since then that did not succeed. A run counts from its beginning, so one that was killed counts.
    pub failures: u32,
    /// When the last of them began.
    pub at: UnixSeconds,
}

impl Delivery {
    /// Reads a note. A member that cannot be read has its default. So a note that was torn by a kill says that nothing was
    /// delivered.
    pub fn parse(bytes: &[u8]) -> Self {
        let note: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let number = |name: &str| note.get(name).and_then(Value::as_i64).unwrap_or_default();
        let digest = note.get("refresh_token_sha256").and_then(Value::as_str);
        Self {
            refresh_token_sha256: digest.unwrap_or_default().to_owned(),
            failures: u32::try_from(number("failures")).unwrap_or_default(),
            at: number("at"),
        }
    }

    /// The note as JSON.
    pub fn to_json(&self) -> String {
        let Self { refresh_token_sha256, failures, at } = self;
        json!({ "refresh_token_sha256": refresh_token_sha256, "failures": failures, "at": at }).to_string()
    }

    /// This refresh token needs no delivery: it was delivered, or was there before the first refresh.
    pub fn of(refresh_token_sha256: String) -> Self {
        Self { refresh_token_sha256, ..Self::default() }
    }

    /// The same after one more run has begun.
    pub fn begun(&self, now: UnixSeconds) -> Self {
        Self { failures: self.failures.saturating_add(1), at: now, ..self.clone() }
    }

    /// Whether the command has to run because the store holds this refresh token.
    pub fn is_due(&self, refresh_token_sha256: &str, now: UnixSeconds) -> bool {
        // A clock that was set back ends the pause.
        let is_paused = self.failures >= FAILURES_AT_ONCE
            && (self.at..self.at.saturating_add(FAILURE_PAUSE_SECONDS)).contains(&now);
        self.refresh_token_sha256 != refresh_token_sha256 && !is_paused
    }
}

/// The digest that identifies the grant that has died, if `failure` says that a login is required and there was a grant.
///
/// A grant that only lacks an ID token is not dead. Neither is one whose refresh is refused only because it has no refresh token.
pub fn dead_grant(failure: &Failure, observed: &Observed, wanted: TokenKind, now: Now) -> Option<String> {
    if failure.kind != Kind::LoginRequired {
        return None;
    }
    let document = observed.document.as_ref()?;
    match (&document.session, document.credential_sha256()) {
        // Without a session and a reason there was no grant yet. The mark of a logout names no credential.
        (None, _) => {
            let digest = document.rejected.as_ref().map(|rejected| rejected.credential_sha256.clone());
            digest.filter(|digest| !digest.is_empty())
        }
        // The session is kept: it could not be cleared safely, or the server refused for another reason. A session that is
        // cleared later has the same digest.
        (Some(_), Some(digest)) => {
            let is_rejected = observed.rejected.as_ref().is_some_and(|attempt| attempt.concerns(document));
            (wanted == TokenKind::AccessToken || is_rejected).then_some(digest)
        }
        (Some(session), None) => (!age(session, 0, now).is_valid()).then(|| session.access_token.sha256()),
    }
}

/// What one refresh showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// What the store held last.
    document: Option<Document>,
    /// The record that says that the server rejects the credential.
    rejected: Option<Attempt>,
    is_delegated: bool,
    has_looked: bool,
    has_stored_session: bool,
}

impl Observed {
    /// Takes a step and its event. At the first look, before anything is spent, it returns the SHA-256 of the refresh token
    /// that is about to be replaced.
    pub fn observe(&mut self, step: &Step, event: &Event) -> Option<String> {
        let mut replaceable = None;
        if let Step::Look { credential_sha256 } = step {
            let is_first = !std::mem::replace(&mut self.has_looked, true);
            let is_stored = self.refresh_token_sha256().as_ref() == Some(credential_sha256);
            replaceable = (is_first && is_stored).then(|| credential_sha256.clone());
        }
        match (step, event) {
            (_, Event::Read(Ok(stored))) => {
                self.document = stored.as_ref().map(|stored| stored.document.clone());
            }
            (_, Event::Looked(Ok(view))) => {
                self.document = view.stored.as_ref().map(|stored| stored.document.clone());
                view.attempts.iter().for_each(|record| self.take_attempt(&record.attempt));
            }
            (Step::Mark { attempt, .. }, _) => self.take_attempt(attempt),
            (Step::Replace { document, .. }, Event::Replaced(ReplaceResult::Done)) => {
                self.has_stored_session |= document.session.is_some();
                self.document = Some(document.clone());
            }
            (_, Event::Replaced(ReplaceResult::Lost(stored))) => {
                self.document = stored.as_ref().map(|stored| stored.document.clone());
            }
            (_, Event::Delegated(delegation)) => {
                self.is_delegated = matches!(delegation, DelegateResult::Ended(_));
            }
            _ => {}
        }
        replaceable
    }

    fn take_attempt(&mut self, attempt: &Attempt) {
        if attempt.outcome == Some(AttemptOutcome::Rejected) {
            self.rejected = Some(attempt.clone());
        }
    }

    /// SHA-256 of the refresh token that the store held last.
    pub fn refresh_token_sha256(&self) -> Option<String> {
        Some(self.document.as_ref()?.refresh_token()?.sha256())
    }

    /// Whether the grant was refreshed: it is not dead, whatever was refused before.
    pub fn has_stored_session(&self) -> bool {
        self.has_stored_session
    }

    /// Whether a worker did the refresh, and so also what follows from it.
    pub fn is_delegated(&self) -> bool {
        self.is_delegated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::attempt::{AttemptRecord, Presence};
    use crate::session::step::{RefreshInput, Revision, Stored, View};
    use std::time::Duration;

    const NOW: UnixSeconds = 1_000_000;

    fn document(session: &serde_json::Value, rejected: &serde_json::Value) -> Document {
        let text = json!({
            "version": 1, "token_endpoint": "https://issuer.example/token", "client_id": "client",
            "client_auth": "none", "session": session, "rejected": rejected,
        });
        Document::parse(text.to_string().as_bytes()).unwrap()
    }

    /// A session that has ended.
    fn session(refresh_token: Option<&str>) -> serde_json::Value {
        json!({
            "access_token": "access", "token_type": "Bearer", "refresh_token": refresh_token, "obtained_at": 1,
            "expires_at": NOW - 1,
        })
    }

    #[test]
    fn a_refresh_token_is_due_until_it_is_delivered_and_a_command_that_fails_has_pauses() {
        let of =
            |token: &str, failures, at| Delivery { refresh_token_sha256: token.to_owned(), failures, at };
        let (most, pause) = (FAILURES_AT_ONCE, FAILURE_PAUSE_SECONDS);
        let cases = [
            ("it is delivered", of("new", 0, 0), false),
            ("it is not delivered", of("old", 0, 0), true),
            ("nothing was delivered", of("", 0, 0), true),
            ("it failed, and may fail once more at once", of("old", most - 1, NOW), true),
            ("it failed too often", of("old", most, NOW), false),
            ("in the last second of the pause", of("old", most, NOW + 1 - pause), false),
            ("the pause is over", of("old", most, NOW - pause), true),
            ("the clock was set back", of("old", most, NOW + 1), true),
            ("no number overflows", of("old", u32::MAX, i64::MAX), true),
            ("it failed too often, and is delivered", of("new", most, NOW), false),
        ];
        for (case, delivery, is_due) in cases {
            assert_eq!(delivery.is_due("new", NOW), is_due, "{case}");
        }
        let mut delivery = Delivery::of("old".to_owned());
        for _ in 0..most {
            assert!(delivery.is_due("new", NOW));
            delivery = delivery.begun(NOW);
        }
        assert!(!delivery.is_due("new", NOW));
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_one_that_is_torn_says_that_nothing_was_delivered() {
        let delivery = Delivery { refresh_token_sha256: "00ff".to_owned(), failures: 3, at: NOW };
        assert_eq!(Delivery::parse(delivery.to_json().as_bytes()), delivery);
        let torn = ["", "{", "[]", "null", r#"{"refresh_token_sha256":7,"failures":-1,"at":"x"}"#, "\u{1}"];
        for torn in torn {
            assert_eq!(Delivery::parse(torn.as_bytes()), Delivery::default(), "{torn}");
        }
    }

    /// A worker that has ended did what follows. If it died, its caller does.
    #[test]
    fn what_the_store_held_last_is_known_and_the_caller_of_a_worker_that_ended_does_nothing() {
        let stored = |token: &str| Stored {
            document: document(&session(Some(token)), &json!(null)),
            revision: Revision::default(),
        };
        let (old, new) = (stored("old"), stored("new"));
        let digest = |stored: &Stored| stored.document.credential_sha256().unwrap();
        let look = Step::Look { credential_sha256: digest(&old) };
        let looked =
            |stored: &Stored| Event::Looked(Ok(View { attempts: vec![], stored: Some(stored.clone()) }));
        let replace = Step::Replace {
            expected: Revision::default(),
            document: new.document.clone(),
            attempt: (digest(&old), 1),
        };

        let mut observed = Observed::default();
        assert_eq!(observed.observe(&Step::Read, &Event::Read(Ok(Some(old.clone())))), None);
        assert_eq!(observed.observe(&look, &looked(&old)), Some(digest(&old)), "before the first refresh");
        assert_eq!(observed.observe(&look, &looked(&old)), None, "once");
        observed.observe(&replace, &Event::Replaced(ReplaceResult::Unknown));
        assert_eq!(observed.refresh_token_sha256(), Some(digest(&old)));
        observed.observe(&replace, &Event::Replaced(ReplaceResult::Done));
        assert_eq!(observed.refresh_token_sha256(), Some(digest(&new)));
        observed.observe(&replace, &Event::Replaced(ReplaceResult::Lost(None)));
        assert_eq!(observed.document, None, "it was logged out");

        let failure = Failure::new(Kind::Temporary, "no answer");
        for (delegation, is_delegated) in [
            (DelegateResult::Ended(Err(failure)), true),
            (DelegateResult::NoWorker, false),
            (DelegateResult::Unanswered, false),
        ] {
            let mut observed = Observed::default();
            let delegate = Step::Delegate(RefreshInput::default());
            observed.observe(&delegate, &Event::Delegated(delegation));
            assert_eq!(observed.is_delegated(), is_delegated);
        }
    }

    /// Another process was faster: its refresh token was not there before this refresh.
    #[test]
    fn a_look_at_another_refresh_token_than_the_one_that_was_read_is_no_beginning() {
        let mut observed = Observed::default();
        let other = Step::Look { credential_sha256: "of another one".to_owned() };
        assert_eq!(observed.observe(&other, &Event::Paused), None);
    }

    #[test]
    fn a_grant_is_dead_if_there_was_one_and_only_a_login_helps() {
        use TokenKind::{AccessToken, IdToken};
        let digest = document(&session(Some("refresh")), &json!(null)).credential_sha256().unwrap();
        let rejected = json!({ "refresh_token_sha256": digest, "at": 1, "message": "dead" });
        let logged_out = json!({ "refresh_token_sha256": "", "at": 1, "message": "was logged out" });
        let access = document(&session(None), &json!(null)).session.unwrap().access_token.sha256();
        let (null, kept) = (json!(null), session(Some("refresh")));
        let mut works = session(None);
        works["expires_at"] = json!(NOW + 3600);
        let dead = Some(digest);
        let cases = [
            ("no document", None, AccessToken, None),
            ("cleared", Some(document(&null, &rejected)), AccessToken, dead.clone()),
            ("cleared, and the ID token is wanted", Some(document(&null, &rejected)), IdToken, dead.clone()),
            ("refused, and kept", Some(document(&kept, &null)), AccessToken, dead),
            ("no ID token", Some(document(&kept, &null)), IdToken, None),
            ("no refresh token", Some(document(&session(None), &null)), AccessToken, Some(access.clone())),
            (
                "no refresh token and no ID token",
                Some(document(&session(None), &null)),
                IdToken,
                Some(access),
            ),
            ("no refresh token, and the token works", Some(document(&works, &null)), AccessToken, None),
            ("logged out", Some(document(&null, &logged_out)), AccessToken, None),
            ("no login was completed", Some(document(&null, &null)), AccessToken, None),
        ];
        let now = Now { wall: NOW, elapsed: Duration::ZERO };
        for (case, document, wanted, digest) in cases {
            let failure = Failure::new(Kind::LoginRequired, "a login is required");
            let observed = Observed { document, ..Observed::default() };
            assert_eq!(dead_grant(&failure, &observed, wanted, now), digest, "{case}");
            for kind in [Kind::Defect, Kind::Usage, Kind::Temporary, Kind::Store] {
                let other = Failure::new(kind, "another failure");
                assert_eq!(dead_grant(&other, &observed, wanted, now), None, "{case}");
            }
        }
    }

    /// The access token works, so the session is kept. A process that wants the ID token cannot go on.
    #[test]
    fn a_grant_whose_refresh_token_is_rejected_is_dead_for_the_id_token_too() {
        let document = document(&session(Some("refresh")), &json!(null));
        let digest = document.credential_sha256().unwrap();
        let stored = || Some(Stored { document: document.clone(), revision: Revision::default() });
        let attempt = |credential: &str, outcome| {
            let (owner, access) = (Default::default(), String::new());
            let open = Attempt::open("1".to_owned(), credential.to_owned(), access, owner, NOW, NOW + 60);
            Attempt { outcome: Some(outcome), ..open }
        };
        let failure = Failure::new(Kind::LoginRequired, "a login is required");
        let now = Now { wall: NOW, elapsed: Duration::ZERO };
        for (credential, outcome, wanted) in [
            (digest.as_str(), AttemptOutcome::Rejected, Some(digest.clone())),
            (digest.as_str(), AttemptOutcome::Refused, None),
            ("another", AttemptOutcome::Rejected, None),
        ] {
            let attempt = attempt(credential, outcome);
            let record = AttemptRecord {
                number: 1,
                attempt: attempt.clone(),
                owner: Presence::Gone,
                has_answer: false,
            };
            let view = View { attempts: vec![record], stored: stored() };
            // This process has found it out, or another one.
            let (mut this, mut other) = (Observed::default(), Observed::default());
            this.observe(&Step::Read, &Event::Read(Ok(stored())));
            this.observe(&Step::Mark { attempt, number: 1 }, &Event::Noted);
            other.observe(&Step::Look { credential_sha256: digest.clone() }, &Event::Looked(Ok(view)));
            for observed in [this, other] {
                assert_eq!(dead_grant(&failure, &observed, TokenKind::IdToken, now), wanted, "{outcome:?}");
            }
        }
    }
}
