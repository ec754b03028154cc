//! How a process gets a token from a broker. Pure: the questions go out, the answers come in. The broker's side spends the
//! refresh token, so there is nothing to lock, to claim or to compare here. See "Brokers" in `docs/design.md`.

use super::{Demand, LockUse, Token, TokenResult, Unwanted};
use crate::error::{Failure, Kind};
use crate::grant::{Secret, Session, TokenKind};
use crate::text::printable;

/// What a process asks a broker for. Two equal questions have the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A token that is valid.
    Token {
        /// Which token.
        kind: TokenKind,
        /// How long it should last at least, in seconds.
        min_ttl: i64,
    },
    /// An access token, and not this one, which a resource server refused.
    Rejected(Secret),
    /// What is needed to use the tokens.
    Profile,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A token.
    Token {
        /// Its session, without a refresh token.
        session: Box<Session>,
        /// The profile that the broker serves, if it says so.
        profile: Option<String>,
    },
    /// The level of the broker's store, in answer to [`Ask::Profile`].
    Level(Option<String>),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this.
    Ask(Ask),
    /// It is over.
    Finish(TokenResult),
}

/// The levels at which one process at a time spends a refresh token: what `ONEGRANT_LOCK=require` accepts.
const EXCLUSIVE: [&str; 2] = ["locked", "claimed"];

/// One process that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    demand: Demand,
    /// The profile that the caller named.
    profile: Option<String>,
    /// Whether the next token is the one to replace, and not the answer.
    is_first: bool,
}

impl Asking {
    /// Begins. `profile` is the profile that the caller named.
    pub fn start(demand: Demand, lock_use: LockUse, profile: Option<String>) -> (Self, Next) {
        // A token that this process has not read yet cannot have been refused.
        let is_first = match &demand.unwanted {
            Unwanted::None => false,
            Unwanted::FirstSeen => true,
            Unwanted::Rejected(token) => token.expose().is_empty(),
        };
        let asking = Self { demand, profile, is_first };
        let next = match lock_use {
            LockUse::Require => Next::Ask(Ask::Profile),
            LockUse::Auto | LockUse::Claim | LockUse::Off => asking.ask(),
        };
        (asking, next)
    }

    fn ask(&self) -> Next {
        Next::Ask(match &self.demand.unwanted {
            Unwanted::Rejected(token) if !self.is_first => Ask::Rejected(token.clone()),
            _ => Ask::Token { kind: self.demand.token, min_ttl: self.demand.min_ttl },
        })
    }

    /// Takes the answer to the last question.
    pub fn answered(&mut self, answer: Result<Answer, Failure>) -> Next {
        match answer {
            Err(failure) => Next::Finish(Err(failure)),
            Ok(Answer::Level(level)) => match level.as_deref() {
                Some(level) if EXCLUSIVE.contains(&level) => self.ask(),
                level => Next::Finish(Err(not_exclusive(level))),
            },
            Ok(Answer::Token { session, profile }) => self.given(session, profile),
        }
    }

    fn given(&mut self, session: Box<Session>, served: Option<String>) -> Next {
        if let (Some(named), Some(served)) = (&self.profile, served)
            && *named != served
        {
            return Next::Finish(Err(other_profile(named, &served)));
        }
        match std::mem::take(&mut self.is_first) {
            // The broker refreshes only if the grant still has this token, so calls at the same time share one refresh.
            true => Next::Ask(Ask::Rejected(session.access_token.clone())),
            false => Next::Finish(Ok(Token { session: *session, warnings: Vec::new(), refreshed: false })),
        }
    }
}

fn not_exclusive(level: Option<&str>) -> Failure {
    let level = level.map_or_else(|| "not known".to_owned(), |level| format!("\"{}\"", printable(level)));
    let message = format!("ONEGRANT_LOCK=require: the level of the broker's store is {level}");
    Failure::new(Kind::Store, message).hint("onegrant doctor   # where the grant is")
}

fn other_profile(named: &str, served: &str) -> Failure {
    let served = printable(served);
    Failure::new(Kind::Usage, format!("the broker has no profile {named}: it serves profile {served}"))
        .hint(format!("onegrant --profile {served} token"))
}
