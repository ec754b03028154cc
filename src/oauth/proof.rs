//! What the client proves itself with, got just before it is sent.

use crate::error::Failure;
use crate::grant::Document;
use crate::protocol::Proof;

/// The proof for one request.
pub fn prove(document: &Document) -> Result<Proof, Failure> {
    Ok(Proof::stored(document))
}
