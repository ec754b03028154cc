//! Whether a token can be obtained from a stored document, without any request.

use super::{Demand, Freshness, Now, age, expiry};
use crate::error::Failure;
use crate::grant::{Credential, Document, UnixSeconds};
use serde::{Deserialize, Serialize};

/// Whether a token can be obtained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The stored token works.
    Valid,
    /// A refresh brings one.
    Refreshable,
    /// A person has to log in.
    #[default]
    LoginRequired,
}

impl State {
    /// Its name in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Refreshable => "refreshable",
            Self::LoginRequired => "login_required",
        }
    }
}

/// What is known about the tokens of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether a token can be obtained.
    pub state: State,
    /// When the access token ends.
    pub expires_at: Option<UnixSeconds>,
    /// For how many seconds more it is valid.
    pub valid_for: Option<i64>,
    /// When the refresh token itself ends, and how many seconds that is from now.
    pub refresh_token_end: Option<(UnixSeconds, i64)>,
}

impl Condition {
    /// Judges the document. `rejected` is the verdict of an earlier attempt on its refresh token.
    pub fn of(document: &Document, rejected: Option<&Failure>, now: Now) -> Self {
        let session = document.session.as_ref();
        let freshness =
            session.map_or(Freshness::Ended, |session| age(session, Demand::default().min_ttl, now));
        let is_refreshed = matches!(document.credential(), Some(Credential::RefreshToken(_)));
        let refresh_token_end = session
            .and_then(|session| session.refresh_token_expires_at)
            .filter(|_| is_refreshed)
            .map(|end| (end, end.saturating_sub(now.wall)));
        let can_refresh = document.credential().is_some()
            && rejected.is_none()
            && refresh_token_end.is_none_or(|(_, left)| left > 0);
        let state = match freshness {
            Freshness::Fresh | Freshness::FreshButShort => State::Valid,
            _ if can_refresh => State::Refreshable,
            Freshness::Ageing | Freshness::Unwanted => State::Valid,
            Freshness::Ended | Freshness::Missing => State::LoginRequired,
        };
        let expires_at = session.and_then(expiry);
        let valid_for = expires_at.map(|end| end.saturating_sub(now.wall).max(0));
        Self { state, expires_at, valid_for, refresh_token_end }
    }
}
