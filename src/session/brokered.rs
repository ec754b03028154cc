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
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::document;

    fn token(access_token: &str, profile: Option<&str>) -> Result<Answer, Failure> {
        let session = Session { access_token: Secret::new(access_token), ..document().session.unwrap() };
        Ok(Answer::Token { session: Box::new(session), profile: profile.map(str::to_owned) })
    }

    fn any_token() -> Next {
        Next::Ask(Ask::Token { kind: TokenKind::AccessToken, min_ttl: 0 })
    }

    fn given(next: Next) -> String {
        match next {
            Next::Finish(Ok(token)) => token.session.access_token.expose().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn failed(next: Next) -> Failure {
        match next {
            Next::Finish(Err(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_is_one_question() {
        let demand = Demand { min_ttl: 600, token: TokenKind::IdToken, ..Demand::default() };
        let (mut asking, next) = Asking::start(demand, LockUse::Auto, None);
        assert_eq!(next, Next::Ask(Ask::Token { kind: TokenKind::IdToken, min_ttl: 600 }));
        assert_eq!(given(asking.answered(token("t", Some("work")))), "t");
    }

    #[test]
    fn a_forced_refresh_replaces_the_token_that_this_process_reads_first() {
        // An empty token comes with an ID token of a broker: it was never read.
        for unwanted in [Unwanted::FirstSeen, Unwanted::Rejected(Secret::new(""))] {
            let (mut asking, next) = Asking::start(Demand::other_than(unwanted), LockUse::Auto, None);
            assert_eq!(next, any_token());
            let next = asking.answered(token("first", None));
            assert_eq!(next, Next::Ask(Ask::Rejected(Secret::new("first"))));
            assert_eq!(given(asking.answered(token("second", None))), "second");
        }
    }

    #[test]
    fn a_refused_token_is_replaced_with_one_question() {
        let demand = Demand::other_than(Unwanted::Rejected(Secret::new("refused")));
        let (mut asking, next) = Asking::start(demand, LockUse::Auto, None);
        assert_eq!(next, Next::Ask(Ask::Rejected(Secret::new("refused"))));
        assert_eq!(given(asking.answered(token("other", None))), "other");
    }

    #[test]
    fn a_failure_of_the_broker_is_the_result() {
        let failure = Failure::new(Kind::LoginRequired, "the session has ended");
        let (mut asking, _) = Asking::start(Demand::default(), LockUse::Auto, None);
        assert_eq!(failed(asking.answered(Err(failure.clone()))), failure);
    }

    #[test]
    fn a_required_lock_is_decided_by_the_level_that_the_broker_names() {
        for (level, is_enough) in [
            (Some("locked"), true),
            (Some("claimed"), true),
            (Some("compared"), false),
            (Some("locked here"), false),
            (None, false),
        ] {
            let (mut asking, next) = Asking::start(Demand::default(), LockUse::Require, None);
            assert_eq!(next, Next::Ask(Ask::Profile));
            let next = asking.answered(Ok(Answer::Level(level.map(str::to_owned))));
            match is_enough {
                true => assert_eq!(next, any_token(), "{level:?}"),
                false => assert_eq!(failed(next).kind, Kind::Store, "{level:?}"),
            }
        }
    }

    #[test]
    fn the_token_of_another_profile_than_the_named_one_is_not_used() {
        let start = || Asking::start(Demand::default(), LockUse::Auto, Some("work".to_owned())).0;
        let failure = failed(start().answered(token("t", Some("home"))));
        assert_eq!(failure.kind, Kind::Usage);
        assert_eq!(failure.hint.as_deref(), Some("onegrant --profile home token"));
        for served in [Some("work"), None] {
            assert_eq!(given(start().answered(token("t", served))), "t", "{served:?}");
        }
    }
}
