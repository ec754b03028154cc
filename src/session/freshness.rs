//! Is the stored token good enough? Subtracting instants saturates; nothing here can overflow.
//! See "Freshness" in `docs/design.md`.

use super::Now;
use crate::grant::{Secret, Session, TokenKind, UnixSeconds};
use crate::protocol::claims;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The margin before the end of a long-lived token, in seconds: time for a request on its way to arrive.
pub const LEEWAY_SECONDS: i64 = 30;

/// How far `now` may be before `obtained_at`, in seconds. A larger difference means that the clock has moved.
pub const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// What the caller wants.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Demand {
    /// Which token.
    pub token: TokenKind,
    /// How long it should last at least, in seconds.
    pub min_ttl: i64,
    /// Which access token the caller does not accept. Says nothing about an ID token.
    pub unwanted: Unwanted,
}

impl Demand {
    /// Any token of this kind that lasts at least this long.
    pub fn lasting(token: TokenKind, min_ttl: Option<Duration>) -> Self {
        let seconds = min_ttl.unwrap_or_default().as_secs();
        Self { token, min_ttl: i64::try_from(seconds).unwrap_or(i64::MAX), unwanted: Unwanted::None }
    }

    /// An access token, and not this one.
    pub fn other_than(unwanted: Unwanted) -> Self {
        Self { unwanted, ..Self::default() }
    }
}

/// Which access token the caller does not accept.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Unwanted {
    /// None: it accepts any fresh token.
    #[default]
    None,
    /// The one that this process read first: a forced refresh that coalesces.
    FirstSeen,
    /// The one that a resource server refused.
    Rejected(Secret),
}

/// How good the stored token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// Hand it out.
    Fresh,
    /// Hand it out, although it is shorter than `--min-ttl` asks: the server grants no longer tokens.
    FreshButShort,
    /// Refresh. It still works if that fails.
    Ageing,
    /// It works, but the caller wants a newer one. A refresh that fails is a failure.
    Unwanted,
    /// Refresh. It does not work any more.
    Ended,
    /// There is no ID token that works, and a refresh brings none: the last one did not.
    Missing,
}

impl Freshness {
    /// Whether a resource server would still accept the token.
    pub fn is_valid(self) -> bool {
        !matches!(self, Self::Ended | Self::Missing)
    }

    /// Whether the token answers the demand if a refresh fails.
    pub fn is_usable(self) -> bool {
        self.is_valid() && self != Self::Unwanted
    }

    /// Whether it is handed out without a refresh.
    pub fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh | Self::FreshButShort)
    }
}

/// When the access token ends: `expires_at`, otherwise the `exp` of a JWT, otherwise unknown. A token of another type, such as
/// an ID token, ends at its own `exp`, even if the server said that it lasts longer.
pub fn expiry(session: &Session) -> Option<UnixSeconds> {
    let own_end = || claims::expires_at(session.access_token.expose());
    match session.expires_at {
        Some(end) if session.is_access_token() => Some(end),
        end => end.into_iter().chain(own_end()).min(),
    }
}

/// Judges the token by its age, and by whether a resource server refused it. A refused token has ended, but without a refresh
/// token it stays usable: other resource servers may accept it.
pub fn age(session: &Session, min_ttl: i64, now: Now) -> Freshness {
    match (session.access_token_rejected, &session.refresh_token) {
        (false, _) => age_by_clock(session, min_ttl, now),
        (true, Some(_)) => Freshness::Ended,
        (true, None) => age_by_clock(session, min_ttl, now).max(Freshness::Ageing),
    }
}

/// When the token of this kind ends. `None`: it does not say, or there is none.
pub fn expiry_of(session: &Session, kind: TokenKind) -> Option<UnixSeconds> {
    match kind {
        TokenKind::AccessToken => expiry(session),
        TokenKind::IdToken => claims::expires_at(session.id_token.as_ref()?.expose()),
    }
}

fn age_by_clock(session: &Session, min_ttl: i64, now: Now) -> Freshness {
    // Without a known start the lifetime counts from the epoch, which makes every margin below the plain one.
    expiry(session).map_or(Freshness::Fresh, |end| {
        Lifetime { begin: session.obtained_at, end }.age(session, min_ttl, now)
    })
}

/// Judges the ID token by its own `exp`, which every ID token has (OpenID Connect Core section 2). Many servers give none when
/// a grant is refreshed. So if the last refresh was made when this one had begun to age, another refresh is made for the
/// access token only.
pub fn id_token_age(session: &Session, min_ttl: i64, now: Now) -> Freshness {
    let needs_no_refresh = age(session, 0, now).is_valid();
    let Some(end) = expiry_of(session, TokenKind::IdToken) else {
        return if needs_no_refresh { Freshness::Missing } else { Freshness::Ended };
    };
    let issued_at = session.id_token.as_ref().and_then(|token| claims::issued_at(token.expose()));
    let lifetime = Lifetime { begin: issued_at.unwrap_or(session.obtained_at), end };
    let by_clock = lifetime.age(session, min_ttl, now);
    let left = end.saturating_sub(now.wall);
    let is_newest = session.obtained_at >= lifetime.ages_from(min_ttl, left);
    match by_clock {
        Freshness::Ended if is_newest && needs_no_refresh => Freshness::Missing,
        Freshness::Ageing if is_newest && needs_no_refresh => match left < min_ttl {
            true => Freshness::FreshButShort,
            false => Freshness::Fresh,
        },
        other => other,
    }
}

/// From when to when a token works.
struct Lifetime {
    begin: UnixSeconds,
    end: UnixSeconds,
}

impl Lifetime {
    fn leeway(&self) -> i64 {
        LEEWAY_SECONDS.min(self.end.saturating_sub(self.begin) / 10)
    }

    /// From when [`Self::age`] says that the token ages, if it has `left` seconds. In the first tenth of its lifetime it never
    /// does, so the answer that brought it was earlier. One that has ended, or is about to, is replaced whatever `min_ttl` is.
    fn ages_from(&self, min_ttl: i64, left: i64) -> UnixSeconds {
        let leeway = self.leeway();
        let asked = if left > leeway { min_ttl.min(self.nine_tenths().saturating_sub(1)) } else { 0 };
        self.end.saturating_sub(leeway.max(asked))
    }

    fn nine_tenths(&self) -> i64 {
        let lifetime = self.end.saturating_sub(self.begin);
        lifetime.saturating_sub(lifetime / 10)
    }

    /// A token with nine tenths of its lifetime is the longest that the server grants.
    fn age(&self, session: &Session, min_ttl: i64, now: Now) -> Freshness {
        let left = self.end.saturating_sub(now.wall);
        if left <= 0 {
            return Freshness::Ended;
        }
        if session.obtained_at.saturating_sub(now.wall) > CLOCK_TOLERANCE_SECONDS {
            return Freshness::Ageing;
        }
        let leeway = self.leeway();
        if left > leeway.max(min_ttl) {
            return Freshness::Fresh;
        }
        if left > leeway && left >= self.nine_tenths() {
            return Freshness::FreshButShort;
        }
        Freshness::Ageing
    }
}

/// Judges the token that is demanded by its age and by the demand. `first_seen` is the access token that this process read
/// first.
pub fn judge(session: &Session, demand: &Demand, first_seen: Option<&Secret>, now: Now) -> Freshness {
    match demand.token {
        TokenKind::AccessToken => judge_access_token(session, demand, first_seen, now),
        TokenKind::IdToken => id_token_age(session, demand.min_ttl, now),
    }
}

/// Whether the token answers the demand while another process refreshes. A token that lasts shorter than `--min-ttl` does not:
/// the other process is about to get a longer one.
pub fn is_enough_meanwhile(
    session: &Session,
    demand: &Demand,
    first_seen: Option<&Secret>,
    now: Now,
) -> bool {
    let left = expiry_of(session, demand.token).map_or(i64::MAX, |end| end.saturating_sub(now.wall));
    judge(session, demand, first_seen, now).is_usable() && left >= demand.min_ttl
}

/// Judges the access token, whichever token is demanded.
pub fn judge_access_token(
    session: &Session,
    demand: &Demand,
    first_seen: Option<&Secret>,
    now: Now,
) -> Freshness {
    let by_age = age(session, demand.min_ttl, now);
    match &demand.unwanted {
        Unwanted::Rejected(rejected) if *rejected == session.access_token => Freshness::Ended,
        Unwanted::FirstSeen if first_seen == Some(&session.access_token) && by_age.is_valid() => {
            Freshness::Unwanted
        }
        // Another token than the unwanted one is the answer, although it is about to end.
        Unwanted::FirstSeen if first_seen.is_some() && by_age == Freshness::Ageing => Freshness::Fresh,
        Unwanted::Rejected(_) if by_age == Freshness::Ageing => Freshness::Fresh,
        _ => by_age,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn session(obtained_at: i64, expires_at: Option<i64>) -> Session {
        serde_json::from_value(serde_json::json!({
            "access_token": "at", "refresh_token": "rt", "obtained_at": obtained_at, "expires_at": expires_at,
        }))
        .unwrap()
    }

    fn at(wall: i64) -> Now {
        Now { wall, elapsed: Duration::ZERO }
    }

    #[test]
    #[rustfmt::skip]
    fn age_follows_lifetime_leeway_and_clock() {
        use Freshness::{Ageing, Ended, Fresh, FreshButShort};
        // (case, obtained at, expires at, min_ttl, now, wanted)
        let cases = [
            ("no expiry at all",                         1000, None,       0,    9_999_999, Fresh),
            ("one second more than the leeway",          1000, Some(4600), 0,    4569, Fresh),
            ("exactly the leeway",                       1000, Some(4600), 0,    4570, Ageing),
            ("a short life has a short leeway",          1000, Some(1060), 0,    1053, Fresh),
            ("within the short leeway",                  1000, Some(1060), 0,    1054, Ageing),
            ("its very end",                             1000, Some(4600), 0,    4600, Ended),
            ("long past",                                1000, Some(4600), 0,    99_999, Ended),
            ("asked to last longer than is left",        1000, Some(4600), 600,  4100, Ageing),
            ("asked for more than the server ever gives", 1000, Some(4600), 7200, 1010, FreshButShort),
            ("nine tenths left to the second",           1000, Some(4600), 7200, 1360, FreshButShort),
            ("less than nine tenths left",               1000, Some(4600), 7200, 1361, Ageing),
            ("the clock went back a little",             1000, Some(4600), 0,    940,  Fresh),
            ("the clock went back a lot",                1000, Some(4600), 0,    939,  Ageing),
            ("unknown start",                            0,    Some(4600), 0,    4500, Fresh),
            ("absurd instants",                          i64::MAX, Some(i64::MAX), i64::MAX, i64::MIN, Ageing),
        ];
        for (case, obtained_at, expires_at, min_ttl, now, wanted) in cases {
            assert_eq!(age(&session(obtained_at, expires_at), min_ttl, at(now)), wanted, "{case}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn an_id_token_is_refreshed_for_until_a_refresh_has_shown_that_none_comes() {
        use Freshness::{Ageing, Ended, Fresh, FreshButShort, Missing};
        // {"iat":1000,"exp":4600}
        let id_token = Secret::new("e30.eyJpYXQiOjEwMDAsImV4cCI6NDYwMH0.c2ln");
        // (case, last answer, end of the access token, min_ttl, now, wanted)
        let cases = [
            ("it lasts",                                  1000, 9000, 0,        4569, Fresh),
            ("it ages, and nothing was tried",            1000, 9000, 0,        4570, Ageing),
            ("it ages, and the last refresh brought none", 4570, 9000, 0,       4571, Fresh),
            ("it has ended, and nothing was tried",       1000, 9000, 0,        4600, Ended),
            ("it has ended, and the last refresh brought none", 4570, 9000, 0,  4600, Missing),
            ("the access token needs a refresh, too",     4570, 4590, 0,        4600, Ended),
            ("asked for more than the server ever gives", 1000, 9000, 7200,     1360, FreshButShort),
            ("the same, later, and nothing was tried",    1000, 9000, 7200,     1361, Ageing),
            ("the same, and the last refresh brought none", 1361, 9000, 7200,   1362, FreshButShort),
            ("the same, ended, and nothing was tried",    1000, 9000, 7200,     4605, Ended),
            ("the same, and the last refresh brought none", 4605, 9000, 7200,   4606, Missing),
            ("asked for as much as the lifetime",         1000, 9000, 3600,     4605, Ended),
            ("asked for ever",                            1000, 9000, i64::MAX, 4605, Ended),
        ];
        for (case, obtained_at, expires_at, min_ttl, now, wanted) in cases {
            let session = Session { id_token: Some(id_token.clone()), ..session(obtained_at, Some(expires_at)) };
            assert_eq!(id_token_age(&session, min_ttl, at(now)), wanted, "{case}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn while_another_process_refreshes_a_token_that_works_and_lasts_as_asked_is_enough() {
        // (case, expires at, min_ttl, refused before, now, wanted)
        let cases = [
            ("it ages",                        Some(4600), 0,   false, 4590, true),
            ("it ages and lasts as asked",     Some(4600), 10,  false, 4590, true),
            ("it lasts shorter than asked",    Some(4600), 11,  false, 4590, false),
            ("a long one that is too short",   Some(4600), 600, false, 4100, false),
            ("it has ended",                   Some(4600), 0,   false, 4600, false),
            ("a server has refused it",        Some(4600), 0,   true,  1001, false),
            ("the clock went back",            Some(4600), 0,   false, 100,  true),
            ("it has no end",                  None,       600, false, 9999, true),
        ];
        for (case, expires_at, min_ttl, access_token_rejected, now, wanted) in cases {
            let session = Session { access_token_rejected, ..session(1000, expires_at) };
            let demand = Demand { min_ttl, ..Demand::default() };
            assert_eq!(is_enough_meanwhile(&session, &demand, None, at(now)), wanted, "{case}");
        }
        let same = Demand::other_than(Unwanted::Rejected(Secret::new("at")));
        assert!(!is_enough_meanwhile(&session(1000, None), &same, None, at(1001)), "it is refused now");
    }

    #[test]
    fn a_jwt_tells_its_end_where_the_server_did_not() {
        let mut session = session(1000, None);
        // {"exp":2000}
        session.access_token = Secret::new("eyJhbGciOiJub25lIn0.eyJleHAiOjIwMDB9.c2ln");
        assert_eq!(age(&session, 0, at(1500)), Freshness::Fresh);
        assert_eq!(age(&session, 0, at(2000)), Freshness::Ended);
    }

    #[test]
    #[rustfmt::skip]
    fn a_rejected_token_is_refreshed_and_works_on_only_where_nothing_brings_another() {
        use Freshness::{Ageing, Ended};
        for (has_refresh_token, now, wanted) in
            [(true, 1001, Ended), (true, 9999, Ended), (false, 1001, Ageing), (false, 9999, Ended)]
        {
            let mut session = session(1000, Some(4600));
            session.access_token_rejected = true;
            session.refresh_token = session.refresh_token.filter(|_| has_refresh_token);
            assert_eq!(age(&session, 0, at(now)), wanted, "{has_refresh_token} {now}");
        }
    }

    #[test]
    fn unwanted_tokens_are_not_fresh() {
        let stored = session(1000, Some(4600));
        let same = Secret::new("at");
        let other = Secret::new("other");
        let newer = Demand::other_than(Unwanted::FirstSeen);
        let refused = |token: &Secret| Demand::other_than(Unwanted::Rejected(token.clone()));
        let judged = |demand: &Demand, first: &Secret, now| judge(&stored, demand, Some(first), at(now));
        assert_eq!(judged(&newer, &same, 1001), Freshness::Unwanted);
        assert_eq!(judged(&newer, &other, 1001), Freshness::Fresh);
        assert_eq!(judged(&newer, &same, 4600), Freshness::Ended);
        assert_eq!(judged(&refused(&same), &same, 1001), Freshness::Ended);
        assert_eq!(judged(&refused(&other), &same, 1001), Freshness::Fresh);
        assert_eq!(judged(&refused(&other), &same, 4600), Freshness::Ended);
        for changed in [judged(&newer, &other, 4590), judged(&refused(&other), &same, 4590)] {
            assert_eq!(changed, Freshness::Fresh);
        }
    }
}
