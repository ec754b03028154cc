//! Small parts of a world: sessions by their generation, files beside the document, digests.

use super::scenario::Scenario;
use crate::grant::{Document, Secret, Session};
use crate::session::{Revision, Stored};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use std::fmt::Debug;
use std::rc::Rc;

/// The file beside a record: room for an answer, then the complete document.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    /// The process that created the file, and has it open.
    pub by: usize,
    pub document: Option<Document>,
}

/// An immutable value and its digest.
#[derive(Clone, Debug)]
pub(super) struct Kept<T> {
    pub what: T,
    pub fingerprint: u128,
}

impl<T: Debug> Kept<T> {
    pub(super) fn new(what: T) -> Rc<Self> {
        let fingerprint = digest(&what);
        Rc::new(Self { what, fingerprint })
    }
}

pub(super) fn session(generation: u8, expires_at: i64) -> Session {
    let session = json!({
        "access_token": format!("a{generation}"), "refresh_token": format!("r{generation}"),
        "obtained_at": expires_at - 3600, "expires_at": expires_at, "scope": generation.to_string(),
    });
    serde_json::from_value(session).unwrap()
}

/// The ID token of an hour that ends then. The session machine reads its claims.
pub(super) fn id_token(expires_at: i64) -> Secret {
    let claims = json!({ "iss": "i", "sub": "s", "aud": "c", "iat": expires_at - 3600, "exp": expires_at });
    Secret::new(format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())))
}

pub(super) fn document(scenario: &Scenario, session: Session) -> Document {
    let grant = scenario.has_client_grant.then(|| json!({ "type": "client_credentials" }));
    let document =
        json!({ "version": 1, "token_endpoint": "t", "client_id": "c", "grant": grant, "session": session });
    serde_json::from_value(document).unwrap()
}

/// As in the file store, equal documents have equal revisions.
pub(super) fn at_revision(document: Document) -> Rc<Stored> {
    let revision = Revision(format!("{:x}", digest(&document)));
    Rc::new(Stored { document, revision })
}

pub(super) fn generation(session: &Session) -> u8 {
    session.scope.as_deref().unwrap().parse().unwrap()
}

pub(super) fn stored_generation(document: &Document) -> Option<u8> {
    document.session.as_ref().map(generation)
}

/// Half of the SHA-256 of the printed value: 128 bits, so that two worlds never count as one.
pub(super) fn digest(what: &impl Debug) -> u128 {
    // `format` is compiled into the standard library, and so it is optimized also in tests.
    digest_of(format!("{what:?}").as_bytes())
}

pub(super) fn digest_of(bytes: &[u8]) -> u128 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    u128::from_le_bytes(digest.as_ref()[..16].try_into().unwrap())
}
