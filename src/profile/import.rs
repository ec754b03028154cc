//! Imports a refresh token that another program obtained: spends it once, and stores the new session.

use super::new_grant::{NOT_STORED, NotStored, Replaces, store};
use super::{Context, access};
use crate::driver::{Clock, TokenEndpoint};
use crate::error::Failure;
use crate::grant::{Credential, Document, Secret};
use crate::output;
use crate::protocol::failure::IMPORT;
use crate::protocol::id_token;
use crate::protocol::token::Answer;
use crate::system::SignalsHeld;

/// Spends the refresh token under the lock, because it may be the stored one, and stores the new session. Returns the new
/// document. `configuration` is this document without a session. `begins` is called when no other process has to be waited for
/// any more.
pub fn exchange(
    configuration: &Document,
    refresh_token: Secret,
    context: &Context,
    begins: &dyn Fn(),
) -> Result<Document, Failure> {
    let guard = access::enter(context, context.globals.timeout)?;
    begins();
    let _signals = SignalsHeld::hold();
    let mut sent_at = context.now().wall;
    let credential = Credential::RefreshToken(refresh_token.clone());
    let mut answer = context.refresh(configuration, &credential, context.left());
    if matches!(answer, Answer::Unknown { again: true, .. }) && !context.left().is_zero() {
        // Servers with a grace period give the same answer again. A third request could end the grant.
        sent_at = context.now().wall;
        answer = context.refresh(configuration, &credential, context.left());
    }
    let is_dead = matches!(answer, Answer::InvalidGrant { .. });
    let answer = answer.tokens(&IMPORT).map_err(|failure| match is_dead {
        true => failure.hint(another_grant(configuration)),
        false => failure,
    })?;
    let id_token = answer.id_token.clone();
    let mut session = answer.session(configuration, sent_at);
    session.refresh_token = session.refresh_token.or(Some(refresh_token));
    // The session is still stored: its refresh token may be the only valid one.
    if let Some(Err(failure)) = id_token.map(|token| id_token::check(&token, configuration, None, sent_at)) {
        let message = format!("{}; it was not stored", failure.message);
        output::warning(&Failure { message, ..failure });
    }
    let document = configuration.with_session(session);
    // If that fails, the grant is not revoked: the person may have no other one.
    store(&document, Replaces::Anything, guard, context).map_err(|NotStored { failure, .. }| Failure {
        message: format!("{NOT_STORED}: {}", failure.message),
        ..failure
    })?;
    Ok(document)
}

/// The command that gets a grant in place of a dead refresh token. It uses only a flow that has an endpoint.
fn another_grant(document: &Document) -> &'static str {
    match (&document.device_authorization_endpoint, &document.authorization_endpoint) {
        (Some(_), _) => "onegrant login --device   # gets a new grant",
        (None, Some(_)) => "onegrant login --browser   # gets a new grant",
        (None, None) => "onegrant login --refresh-token-stdin < FILE   # with another refresh token",
    }
}
