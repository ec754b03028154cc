//! The authorization server of the search: which refresh tokens it accepts, and how it answers the others.

use super::scenario::Server;
use super::world::LOGIN;
use crate::grant::Secret;
use crate::protocol::token::{Answer, TokenAnswer};
use std::collections::BTreeSet;
use std::time::Duration;

/// The login that a generation belongs to.
fn family(generation: u8) -> usize {
    usize::from(generation >= LOGIN)
}

#[derive(Clone, Debug)]
pub(super) struct Authorizations {
    /// The generations of the refresh tokens that are accepted.
    valid: BTreeSet<u8>,
    /// The last generation that was issued, for each login.
    issued: [u8; 2],
    /// How many requests are refused although the refresh token is accepted later.
    refusals: u8,
}

impl Authorizations {
    pub(super) fn first(server: Server) -> Self {
        let valid = (server != Server::HasRevoked).then_some(0);
        let refusals = u8::from(server == Server::RefusesOnce);
        Self { valid: valid.into_iter().collect(), issued: [0, LOGIN], refusals }
    }

    pub(super) fn log_in(&mut self) {
        self.valid.insert(LOGIN);
    }

    /// The generation that brought the refresh token of this generation.
    fn refresh_token(server: Server, generation: u8) -> u8 {
        match server {
            Server::DoesNotRotate if generation >= LOGIN => LOGIN,
            Server::DoesNotRotate => 0,
            _ => generation,
        }
    }

    pub(super) fn are_all_gone(&self) -> bool {
        self.valid.is_empty()
    }

    /// Whether a refresh with that generation's refresh token would bring a token.
    pub(super) fn takes(&self, server: Server, generation: u8) -> bool {
        self.valid.contains(&Self::refresh_token(server, generation))
            || server == Server::Grace && self.valid.contains(&(generation + 1))
    }

    /// Revokes a refresh token; [`Server::EndsTheFamily`] also revokes the rest of the same login (RFC 7009).
    pub(super) fn revoke(&mut self, server: Server, generation: u8) {
        match server {
            Server::EndsTheFamily => self.valid.retain(|other| family(*other) != family(generation)),
            _ => self.valid.retain(|other| *other != Self::refresh_token(server, generation)),
        }
    }

    /// Answers a request with the refresh token of that generation.
    pub(super) fn answer(&mut self, server: Server, generation: u8, lifetime: u64) -> Answer {
        let takes = self.valid.contains(&Self::refresh_token(server, generation));
        if takes && self.refusals > 0 {
            self.refusals -= 1;
            return Answer::InvalidGrant { error: "invalid_grant".to_owned(), description: None };
        }
        let issued = &mut self.issued[family(generation)];
        let next = match server {
            Server::Down | Server::AsksToComeAgain => {
                let retry_after = (server == Server::AsksToComeAgain).then_some(Duration::from_secs(1));
                return Answer::Temporary { what: "HTTP 503".to_owned(), retry_after };
            }
            Server::DoesNotRotate => takes.then(|| *issued + 1),
            Server::Grace if self.valid.contains(&(generation + 1)) => Some(generation + 1),
            _ => takes.then_some(generation + 1),
        };
        let Some(next) = next else {
            if server == Server::EndsTheFamily {
                self.revoke(server, generation);
            }
            return Answer::InvalidGrant { error: "invalid_grant".to_owned(), description: None };
        };
        *issued = next;
        let rotates = server != Server::DoesNotRotate;
        if rotates {
            self.valid.remove(&generation);
            self.valid.insert(next);
        }
        Answer::Refreshed(TokenAnswer {
            access_token: Secret::new(format!("a{next}")),
            token_type: "Bearer".to_owned(),
            expires_in: Some(lifetime),
            refresh_token: rotates.then(|| Secret::new(format!("r{next}"))),
            id_token: None,
            scope: Some(next.to_string()),
            extra: Default::default(),
        })
    }
}
