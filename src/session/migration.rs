//! The migration of a grant to another store: what to do next, from what both stores hold.
//! See "Migration" in `docs/design.md`.
//!
//! ```text
//!     the store that it leaves            the store that it goes to
//! 0   session
//! 1   moving
//! 2   moving                              moving: has arrived, cannot be used
//! 3   moving, has_arrived                 moving
//! 4   moving, has_arrived                 session
//! 5                                       session
//! ```
//!
//! Each line follows from the line before by one durable, conditional write. So the session can be used in at most one
//! store, and a migration that was killed continues from what it left.
//!
//! **I3 during a migration.** At each line a logout removes the document here, and what the migration brought to the other
//! store before and after that ([`super::logout`]). The step from line 3 to 4 replaces the document of line 3. So after a
//! logout there is nothing to make usable.

use crate::grant::{Document, Moving, Session};

/// How many steps a migration takes at most: five, and the repetition of steps that another process prevented.
pub const MAX_STEPS: u32 = 16;

/// What a migration does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrationStep {
    /// Write the document to the other store, with a session that cannot be used yet.
    Arrive,
    /// Note here that the document has arrived.
    Confirm,
    /// Make the session usable there: replace the document with this one.
    Activate(Box<Document>),
    /// Remove the document here: the move is complete then.
    Leave,
    /// Remove from the other store what the migration brought there.
    TakeBack,
    /// Stop.
    End(End),
}

/// How a migration ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The grant is in the other store.
    Moved,
    /// The grant was logged out meanwhile.
    LoggedOut,
    /// Another session is here now. The grant was not migrated.
    Changed,
    /// Another grant is in the other store.
    AnotherThere,
    /// Another session is here, and the other store has a newer session of the migrated grant.
    NewerThere,
}

/// What the other store holds of a migration.
enum There<'a> {
    Nothing,
    Arrived(&'a Document),
    Usable(&'a Session),
    Cleared,
    Another,
}

/// Decides for the migration that `moving` describes. Read the other store (`there`) first, then this one (`here`).
pub fn next(moving: &Moving, here: Option<&Document>, there: Option<&Document>) -> MigrationStep {
    let here = here.filter(|document| !document.has_no_grant());
    let mark = here.and_then(|document| document.moving.as_ref()).filter(|mark| mark.id == moving.id);
    let is_in_use = here.is_some_and(|document| document.session.is_some());
    match (mark.filter(|_| !is_in_use), look(&moving.id, there)) {
        (Some(mark), There::Nothing) if mark.has_arrived => MigrationStep::End(End::LoggedOut),
        (Some(_), There::Nothing) => MigrationStep::Arrive,
        (Some(mark), There::Arrived(document)) if mark.has_arrived => {
            MigrationStep::Activate(Box::new(usable(document)))
        }
        (Some(_), There::Arrived(_)) => MigrationStep::Confirm,
        (Some(_), There::Usable(_) | There::Cleared) => MigrationStep::Leave,
        (Some(_), There::Another) => MigrationStep::End(End::AnotherThere),
        // A login or the late answer of a refresh is stored here: it is the newest session.
        (None, There::Arrived(_)) => MigrationStep::TakeBack,
        (None, There::Usable(session)) if is_in_use => match *session == moving.session {
            true => MigrationStep::TakeBack,
            false => MigrationStep::End(End::NewerThere),
        },
        // Another run of the same command completed the migration. A logout would have removed it there, too.
        (None, There::Usable(_)) => MigrationStep::End(End::Moved),
        (None, _) if here.is_none() => MigrationStep::End(End::LoggedOut),
        (None, _) => MigrationStep::End(End::Changed),
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

/// The document of line 2: everything, but without a usable session. A process that wants a token there reads `reason`.
pub fn arriving(
    marked: &Document,
    session: Session,
    from: String,
    reason: crate::grant::Rejected,
) -> Option<Document> {
    let moving = marked.moving.as_ref()?;
    let (moved, to) = (Some(moving.id.clone()), moving.to.clone());
    let arrived = Moving {
        id: moving.id.clone(),
        to,
        from: Some(from),
        has_arrived: false,
        session,
        other: moving.other.clone(),
    };
    Some(Document { session: None, rejected: Some(reason), moving: Some(arrived), moved, ..marked.clone() })
}

fn usable(arrived: &Document) -> Document {
    let session = arrived.moving.as_ref().map(|moving| moving.session.clone());
    Document { session, rejected: None, moving: None, ..arrived.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Rejected;
    use serde_json::json;

    fn document(session: Option<&str>) -> Document {
        let session = session.map(|name| json!({"access_token": name, "refresh_token": name}));
        let text = json!({"version": 1, "token_endpoint": "t", "client_id": "c", "session": session});
        Document::parse(text.to_string().as_bytes()).unwrap()
    }

    fn moving() -> Moving {
        let session = document(Some("a")).session.unwrap();
        Moving {
            id: "m".to_owned(),
            to: "there".to_owned(),
            from: None,
            has_arrived: false,
            session,
            other: serde_json::Map::new(),
        }
    }

    fn marked(has_arrived: bool) -> Document {
        Document { moving: Some(Moving { has_arrived, ..moving() }), ..document(None) }
    }

    fn arrived() -> Document {
        let reason = Rejected::new("a".to_owned(), 0, "on its way".to_owned());
        arriving(&marked(false), moving().session, "here".to_owned(), reason).unwrap()
    }

    #[test]
    fn each_step_follows_from_what_both_stores_hold() {
        let moved = |name| Document { moved: Some("m".to_owned()), ..document(name) };
        let gone = document(None).without_grant(0, "logged out".to_owned());
        let login = Document { moving: Some(moving()), ..document(Some("b")) };
        let end = MigrationStep::End;
        #[rustfmt::skip]
        let cases = [
            ("the mark alone",                 Some(marked(false)),       None,                      MigrationStep::Arrive),
            ("the mark, and one of a logout",  Some(marked(false)),       Some(gone.clone()),        MigrationStep::Arrive),
            ("it has arrived",                 Some(marked(false)),       Some(arrived()),           MigrationStep::Confirm),
            ("that is noted",                  Some(marked(true)),        Some(arrived()),           MigrationStep::Activate(Box::new(moved(Some("a"))))),
            ("it can be used there",           Some(marked(true)),        Some(moved(Some("a"))),    MigrationStep::Leave),
            ("it was refreshed there",         Some(marked(true)),        Some(moved(Some("b"))),    MigrationStep::Leave),
            ("it has ended there",             Some(marked(true)),        Some(moved(None)),         MigrationStep::Leave),
            ("the move is complete",           None,                      Some(moved(Some("a"))),    end(End::Moved)),
            ("logged out there",               Some(marked(true)),        None,                      end(End::LoggedOut)),
            ("logged out here",                None,                      Some(arrived()),           MigrationStep::TakeBack),
            ("a mark of a logout here",        Some(gone.clone()),        Some(arrived()),           MigrationStep::TakeBack),
            ("logged out, and taken back",     None,                      None,                      end(End::LoggedOut)),
            ("another grant there",            Some(marked(false)),       Some(document(Some("b"))), end(End::AnotherThere)),
            ("a late answer here",             Some(login.clone()),       Some(arrived()),           MigrationStep::TakeBack),
            ("a late answer, and a use there", Some(login.clone()),       Some(moved(Some("c"))),    end(End::NewerThere)),
            ("a login here",                   Some(document(Some("b"))), Some(moved(Some("a"))),    MigrationStep::TakeBack),
            ("a login here, and taken back",   Some(document(Some("b"))), None,                      end(End::Changed)),
        ];
        for (case, here, there, wanted) in cases {
            assert_eq!(next(&moving(), here.as_ref(), there.as_ref()), wanted, "{case}");
        }
    }

    #[test]
    fn a_document_that_has_arrived_has_no_usable_session() {
        let document = arrived();
        assert_eq!((&document.session, document.credential()), (&None, None));
        assert_eq!(Document::parse(&document.to_bytes().unwrap()).unwrap(), document);
        assert!(!document.has_no_grant());
    }
}
