//! Makes history entries of the steps of a refresh and their results. Pure: entries are written after the refresh has ended, so
//! they do not delay the durable copy of the server's answer.

use super::{HistoryEntry, HistoryEvent};
use crate::grant::{Credential, Document, Secret};
use crate::protocol::token::{Answer, words};
use crate::session::{Event, Level, LockResult, ReplaceResult, Step, TokenResult};
use crate::text::printable;

/// How many hexadecimal digits of a refresh token's SHA-256 an entry has. They distinguish two tokens.
const DIGITS: usize = 8;

/// The first digits of a token's SHA-256.
pub fn digits_of(token: &Secret) -> String {
    first_digits(&token.sha256())
}

fn first_digits(sha256: &str) -> String {
    sha256.get(..DIGITS).unwrap_or(sha256).to_owned()
}

/// Collects the entries of one refresh. A fresh token makes none.
#[derive(Debug)]
pub struct Observer {
    level: Level,
    entries: Vec<HistoryEntry>,
    /// The server answered, and the new session is not stored yet.
    unstored: Option<Unstored>,
    /// The document of a write of which the store did not say whether it happened, with the digits of the refresh token
    /// before it. The next read shows it.
    unverified: Option<(Document, String)>,
}

/// The digits of the refresh token that was spent; `None` for a grant without refresh tokens.
#[derive(Debug)]
struct Unstored(Option<String>);

impl Observer {
    /// For a refresh that begins at this level.
    pub fn new(level: Level) -> Self {
        Self { level, entries: Vec::new(), unstored: None, unverified: None }
    }

    /// The present level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Takes a step of the refresh and its result.
    pub fn observe(&mut self, step: &Step, event: &Event) {
        match (step, event) {
            (Step::Lock(..), Event::LockAnswered(LockResult::Refused(_))) => self.level = Level::Claimed,
            (Step::Spend { credential, .. }, Event::Answered(answer)) => self.answered(credential, answer),
            (Step::Replace { document, attempt: (sha256, _), .. }, Event::Replaced(ReplaceResult::Done)) => {
                self.replaced(document, first_digits(sha256));
            }
            (
                Step::Replace { document, attempt: (sha256, _), .. },
                Event::Replaced(ReplaceResult::Unknown),
            ) => {
                self.unverified = Some((document.clone(), first_digits(sha256)));
            }
            (Step::Read, Event::Read(Ok(Some(stored)))) => {
                let written = self.unverified.take().filter(|(document, _)| *document == stored.document);
                if let Some((document, before)) = written {
                    self.replaced(&document, before);
                }
            }
            (Step::Adopt { credential_sha256, .. }, Event::Adopted(Ok(true))) => {
                let outcome = "stored the answer that an interrupted process left";
                self.note(HistoryEvent::Adopted, outcome, Some(first_digits(credential_sha256)), None);
            }
            _ => {}
        }
    }

    fn answered(&mut self, credential: &Credential, answer: &Answer) {
        let spent = match credential {
            Credential::RefreshToken(token) => Some(digits_of(token)),
            Credential::Client(_) => None,
        };
        match answer {
            Answer::Refreshed(_) => self.unstored = Some(Unstored(spent)),
            Answer::InvalidGrant { error, description } => {
                // Refused twice: one entry.
                self.entries.pop_if(|last| last.event == HistoryEvent::Rejected);
                self.note(HistoryEvent::Rejected, &words(error, description.as_deref()), spent, None);
            }
            Answer::Unknown { what, .. } => {
                // The same refresh token was sent twice: one entry.
                let first = self.entries.pop_if(|last| last.event == HistoryEvent::LostAnswer);
                let twice = first.map(|_| "; it was sent twice").unwrap_or_default();
                self.note(HistoryEvent::LostAnswer, &format!("{what}{twice}"), spent, None);
            }
            Answer::Refused { error, description, .. } => {
                self.note(HistoryEvent::Refused, &words(error, description.as_deref()), spent, None);
            }
            Answer::Temporary { .. } | Answer::Failed(_) | Answer::Impossible(_) => {}
        }
    }

    fn replaced(&mut self, document: &Document, before: String) {
        match (&document.session, &document.rejected) {
            (Some(_), _) => {
                self.unstored = None;
                let after = document.refresh_token().map(digits_of);
                self.note(HistoryEvent::Refresh, "stored", Some(before).filter(|_| after.is_some()), after);
            }
            (None, Some(rejected)) => {
                self.note(HistoryEvent::Cleared, &rejected.message, Some(before), None);
            }
            (None, None) => {
                self.note(HistoryEvent::Cleared, "the session has ended", Some(before), None);
            }
        }
    }

    fn note(&mut self, event: HistoryEvent, outcome: &str, before: Option<String>, after: Option<String>) {
        self.entries.push(HistoryEntry {
            event,
            outcome: printable(outcome),
            refresh_token_sha256: before,
            new_refresh_token_sha256: after,
            ..HistoryEntry::default()
        });
    }

    /// The entries of the refresh, which ended with `result`.
    pub fn finish(mut self, result: &TokenResult) -> Vec<HistoryEntry> {
        if let Some(Unstored(before)) = self.unstored.take() {
            let why = match result {
                Ok(token) => token.warnings.first().map(|warning| warning.message.as_str()),
                Err(failure) => Some(failure.message.as_str()),
            };
            let why = why.unwrap_or("another process had stored a session, which is kept");
            self.note(HistoryEvent::NotStored, why, before, None);
        }
        let is_stored = self.entries.iter().any(|entry| entry.event == HistoryEvent::Refresh);
        let rejected = self.entries.last_mut().filter(|entry| entry.event == HistoryEvent::Rejected);
        if let Some(rejected) = rejected.filter(|_| result.is_ok() && !is_stored) {
            rejected.outcome.push_str("; another process had refreshed: its session is used");
        }
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::token::TokenAnswer;
    use crate::session::{Revision, Stored, Token};
    use serde_json::json;
    use std::time::Duration;

    fn document(number: u32) -> Document {
        let session = json!({
            "access_token": format!("access {number}"),
            "token_type": "Bearer",
            "refresh_token": format!("refresh {number}"),
            "obtained_at": 1,
        });
        let text = json!({
            "version": 1,
            "token_endpoint": "https://issuer.example/token",
            "client_id": "client",
            "client_auth": "none",
            "session": session,
        });
        Document::parse(text.to_string().as_bytes()).unwrap()
    }

    /// What is recorded of a refresh if the store does not say whether it wrote document 2, and then holds `stored`.
    fn entries_after_an_unknown_write(stored: Document) -> Vec<(String, String)> {
        let (before, new) = (document(1), document(2));
        let token = before.refresh_token().unwrap().clone();
        let sha256 = token.sha256();
        let answer: TokenAnswer = TokenAnswer {
            access_token: Secret::new("access 2"),
            token_type: "Bearer".to_owned(),
            expires_in: None,
            refresh_token: Some(Secret::new("refresh 2")),
            id_token: None,
            scope: None,
            extra: serde_json::Map::new(),
        };
        let revision = || Revision(String::new());
        let mut observer = Observer::new(Level::Claimed);
        let credential = Credential::RefreshToken(token);
        let spend = Step::Spend { document: before, credential, timeout: Duration::ZERO };
        observer.observe(&spend, &Event::Answered(Answer::Refreshed(answer)));
        let replace = Step::Replace { expected: revision(), document: new.clone(), attempt: (sha256, 1) };
        observer.observe(&replace, &Event::Replaced(ReplaceResult::Unknown));
        let read = Stored { document: stored, revision: revision() };
        observer.observe(&Step::Read, &Event::Read(Ok(Some(read))));
        let session = new.session.unwrap();
        let result = Ok(Token { session, warnings: Vec::new(), refreshed: true });
        let entries = observer.finish(&result).into_iter();
        entries.map(|entry| (entry.event.to_string(), entry.outcome)).collect()
    }

    #[test]
    fn a_write_without_an_answer_is_recorded_as_the_store_shows_it() {
        let entry = |event: &str, outcome: &str| vec![(event.to_owned(), outcome.to_owned())];
        assert_eq!(entries_after_an_unknown_write(document(2)), entry("refresh", "stored"));
        let kept = "another process had stored a session, which is kept";
        assert_eq!(entries_after_an_unknown_write(document(3)), entry("not stored", kept));
    }
}
