//! The move of a grant to another store: what to do next, from what both stores hold.
//!
//! ```text
//!     the store that it leaves            the store that it goes to
//! 0   session
//! 1   moving
//! 2   moving                              moving: it has arrived, and cannot be used
//! 3   moving, has_arrived                 moving
//! 4   moving, has_arrived                 session
//! 5                                       session
//! ```
//!
//! Each line is one durable, conditional write after the one before. So the session can be used in one store at most,
//! and a move that was killed goes on from what it left.
//!
//! **I3 across a move.** A logout removes the document that it is for, whatever line the move is at, and what the move
//! brought to the other store before and after that ([`super::logout`]). The step from line 3 to 4 replaces the document
//! of line 3. So after a logout there is nothing to make usable.

use crate::grant::{Document, Moving, Session};

/// How many steps a move takes at most: five, and again what another process prevented.
pub const MAX_STEPS: u32 = 16;

/// What a move does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write the document there, with the session that cannot be used yet.
    Arrive,
    /// Note here that the other store has it.
    Confirm,
    /// Make the session usable there: replace the document by this one.
    Activate(Box<Document>),
    /// Remove the document here: the move is complete then.
    Leave,
    /// Remove from the other store what was brought there.
    TakeBack,
    /// Stop.
    End(End),
}

/// How a move ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The grant is in the other store.
    Moved,
    /// The grant was logged out meanwhile.
    LoggedOut,
    /// Another session is here now. The grant was not moved.
    Changed,
    /// Another grant is in the other store.
    AnotherThere,
    /// Another session is here, and a newer one of the grant that was moved is there.
    NewerThere,
}

/// What the other store holds of a move.
enum There<'a> {
    Nothing,
    Arrived(&'a Document),
    Usable(&'a Session),
    Cleared,
    Another,
}

/// Decides for the move that `moving` describes. Read the other store (`there`) first, then this one (`here`).
pub fn next(moving: &Moving, here: Option<&Document>, there: Option<&Document>) -> Next {
    let here = here.filter(|document| !document.has_no_grant());
    let mark = here.and_then(|document| document.moving.as_ref()).filter(|mark| mark.id == moving.id);
    let is_in_use = here.is_some_and(|document| document.session.is_some());
    match (mark.filter(|_| !is_in_use), look(&moving.id, there)) {
        (Some(mark), There::Nothing) if mark.has_arrived => Next::End(End::LoggedOut),
        (Some(_), There::Nothing) => Next::Arrive,
        (Some(mark), There::Arrived(document)) if mark.has_arrived => {
            Next::Activate(Box::new(usable(document)))
        }
        (Some(_), There::Arrived(_)) => Next::Confirm,
        (Some(_), There::Usable(_) | There::Cleared) => Next::Leave,
        (Some(_), There::Another) => Next::End(End::AnotherThere),
        // A login, or the late answer of a refresh: the session here is the newest one.
        (None, There::Arrived(_)) => Next::TakeBack,
        (None, There::Usable(session)) if is_in_use => match *session == moving.session {
            true => Next::TakeBack,
            false => Next::End(End::NewerThere),
        },
        // A process that ran the same command completed the move: a logout would have removed it there, too.
        (None, There::Usable(_)) => Next::End(End::Moved),
        (None, _) if here.is_none() => Next::End(End::LoggedOut),
        (None, _) => Next::End(End::Changed),
    }
}

fn look<'a>(id: &str, there: Option<&'a Document>) -> There<'a> {
    let Some(document) = there.filter(|document| !document.has_no_grant()) else { return There::Nothing };
    let has_arrived = document.moving.as_ref().is_some_and(|moving| moving.id == id);
    match &document.session {
        _ if document.moved.as_deref() != Some(id) => There::Another,
        Some(session) => There::Usable(session),
        None if has_arrived => There::Arrived(document),
        None => There::Cleared,
    }
}

/// What arrives: everything but the right to use it. `reason` is what a process reads that asks for a token there.
pub fn arriving(
    marked: &Document,
    session: Session,
    from: String,
    reason: crate::grant::Rejected,
) -> Option<Document> {
    let moving = marked.moving.as_ref()?;
    let (moved, to) = (Some(moving.id.clone()), moving.to.clone());
    let arrived = Moving { id: moving.id.clone(), to, from: Some(from), has_arrived: false, session };
    Some(Document { session: None, rejected: Some(reason), moving: Some(arrived), moved, ..marked.clone() })
}

fn usable(arrived: &Document) -> Document {
    let session = arrived.moving.as_ref().map(|moving| moving.session.clone());
    Document { session, rejected: None, moving: None, ..arrived.clone() }
}
