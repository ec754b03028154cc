//! `--client-credentials` and `--subject-token`: a grant of the client's own, without a person.

use super::Granted;
use super::configuration::Configuration;
use crate::driver::{Clock, TokenEndpoint};
use crate::error::{Failure, Kind};
use crate::grant::Credential;
use crate::profile::Context;
use crate::protocol::failure::LOGIN;
use crate::system::SignalsHeld;

/// Requests the first access token. A refresh requests the later ones in the same way.
pub fn run(configuration: &Configuration, context: &Context) -> Result<Granted, Failure> {
    let document = configuration.document();
    let Some(grant) = document.grant.clone() else {
        return Err(Failure::new(Kind::Defect, "cannot log in: the client has no grant of its own"));
    };
    let signals = SignalsHeld::hold();
    let sent_at = context.now().wall;
    let answer = context.refresh(document, &Credential::Client(grant), context.left());
    let answer = answer.tokens(&LOGIN)?;
    Ok(Granted { answer, sent_at, nonce: None, signals })
}
