//! `--client-credentials` and `--subject-token`: a grant of the client's own, without a person.

use super::{Gained, refused};
use crate::driver::{Clock, TokenEndpoint};
use crate::error::{Failure, Kind};
use crate::grant::{Credential, Document};
use crate::profile::Context;
use crate::protocol::token::Answer;
use crate::system::SignalsHeld;

/// Asks for the first access token. Those after it are asked for in the same way, by whoever needs one.
pub fn run(document: &Document, context: &Context) -> Result<Gained, Failure> {
    let Some(grant) = document.grant.clone() else {
        return Err(Failure::new(Kind::Defect, "cannot log in: the client has no grant of its own"));
    };
    let signals = SignalsHeld::hold();
    let sent_at = context.now().wall;
    match context.refresh(document, &Credential::Client(grant), context.left()) {
        Answer::Refreshed(answer) => Ok(Gained { answer, sent_at, nonce: None, signals }),
        answer => Err(refused(answer)),
    }
}
