//! What a logout and a move do next: pure, so that the search of [`crate::session`] runs them beside the refresh.
//!
//! Both work with one notion of a *live session*: one whose refresh token the server may still take, wherever it is
//! stored. A profile has such sessions in these places:
//!
//! | place | why |
//! |---|---|
//! | [`Document::session`] | it is used |
//! | [`Document::moving`](crate::grant::Document::moving) | it is on its way to another store |
//! | an answer beside an attempt record | the process that got it could not store it |
//! | the other store of a move | it has arrived, and the first store does not know yet |

pub mod logout;
pub mod moving;

use crate::grant::{Document, Session};
use crate::session::Stored;

/// What one store holds of a profile: the document, and the answers that wait beside it, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The document.
    pub stored: Stored,
    /// Complete documents that follow one of its sessions.
    pub answers: Vec<Document>,
}

impl Found {
    /// The live sessions here, the newest first. An answer is newer than the session that it follows.
    pub fn live_sessions(&self) -> impl Iterator<Item = &Session> {
        let answers = self.answers.iter().filter_map(|answer| answer.session.as_ref());
        answers.chain(self.stored.document.sessions())
    }

    /// The session that a move takes along: the newest one of those that follow `session`.
    pub fn newest(&self, session: &Session) -> Session {
        let newest = self.answers.iter().find_map(|answer| answer.session.as_ref());
        newest.unwrap_or(session).clone()
    }
}

/// The names in attempt records of all sessions in the document.
pub fn record_keys(document: &Document) -> Vec<String> {
    let named =
        document.sessions().filter_map(|session| document.with_session(session.clone()).credential_sha256());
    named.collect()
}
