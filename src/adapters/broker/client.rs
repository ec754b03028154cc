//! The side of a process that asks a broker: its requests, and what the answers mean.

use super::{Ask, ID_TOKEN, MIN_TTL, PROFILE, PROFILE_FIELD, Profile, REJECTED, Refusal, TOKEN};
use crate::error::{Failure, Kind};
use crate::grant::{Secret, Session, TokenKind, UnixSeconds, is_visible_ascii};
use crate::protocol::{Body, Method, Request, Response};
use crate::text::{own_hint, own_text};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The hint of a failure to get an answer.
pub const DOCTOR: &str = "onegrant doctor";

/// How a hint begins that is for the other side.
const OTHER_SIDE: &str = "where the grant is";

/// The request to the broker at `address`, such as `http://127.0.0.1:8123`.
pub fn request(ask: &Ask, address: &str, key: Option<&Secret>) -> Request {
    let url = |path: &str| format!("{address}{path}");
    let request = match ask {
        Ask::Profile => Request::get(&url(PROFILE)),
        Ask::Token { kind, min_ttl } => {
            let mut url = format!("{}?{MIN_TTL}={min_ttl}", url(TOKEN));
            if *kind == TokenKind::IdToken {
                url.push_str(&format!("&{ID_TOKEN}=1"));
            }
            Request::get(&url)
        }
        Ask::Rejected(token) => {
            let body = Body::Text { content_type: "text/plain", text: token.clone() };
            Request::new(Method::Post, &url(REJECTED), body)
        }
    };
    request.authorized(key.map(|key| Secret::new(format!("Bearer {}", key.expose()))).as_ref())
}

/// The session of a token answer, received at `now`. It never has a refresh token, and only the token that was asked for: the
/// access token is empty in the answer to a request for an ID token.
pub fn session(response: &Response, kind: TokenKind, now: UnixSeconds) -> Result<Session, Failure> {
    let mut answer: Map<String, Value> = read(response)?;
    let text = |name| answer.get(name).and_then(Value::as_str);
    let token = |name| text(name).filter(|token| is_visible_ascii(token)).map(Secret::new);
    let (name, access_token, id_token) = match kind {
        TokenKind::AccessToken => ("access_token", token("access_token"), None),
        TokenKind::IdToken => ("id_token", Some(Secret::new("")), token("id_token")),
    };
    let (Some(access_token), true) = (access_token, token(name).is_some()) else {
        return Err(no_broker(&format!("the answer has no {}", kind.name())));
    };
    Ok(Session {
        access_token,
        token_type: text("token_type").unwrap_or("Bearer").to_owned(),
        refresh_token: None,
        expires_at: answer.get("expires_at").and_then(Value::as_i64),
        obtained_at: now,
        id_token,
        scope: text("scope").map(str::to_owned),
        refresh_token_expires_at: None,
        extra: answer.remove("extra").unwrap_or_default(),
        access_token_rejected: false,
        other: Map::new(),
    })
}

/// The profile of a profile answer.
pub fn profile(response: &Response) -> Result<Profile, Failure> {
    read(response)
}

/// The name of the profile that the broker serves, if it says one.
pub fn served_profile(response: &Response) -> Option<&str> {
    response.headers.get(PROFILE_FIELD)
}

fn read<T: DeserializeOwned>(response: &Response) -> Result<T, Failure> {
    match response.is_success() {
        true => {
            serde_json::from_slice(&response.body).map_err(|_| no_broker("the answer is no JSON of a broker"))
        }
        false => Err(refusal(response)),
    }
}

/// Whether a broker refused the request, and no other server.
pub fn is_refusal(response: &Response) -> bool {
    serde_json::from_slice::<Refusal>(&response.body).is_ok()
}

/// What the broker refuses, with the exit code that a command on its side would have.
fn refusal(response: &Response) -> Failure {
    if response.status == 401 && is_refusal(response) {
        let message = "the broker does not accept the key in ONEGRANT_BROKER_KEY";
        return Failure::new(Kind::Usage, message)
            .hint("run this inside of onegrant exec --serve, which sets ONEGRANT_BROKER_KEY");
    }
    let shown = |refusal: Refusal| {
        let failure = Failure::new(Kind::from_code(refusal.code), own_text(&refusal.message));
        let hint = own_hint(refusal.hint.as_deref().unwrap_or_default().trim());
        // The words before a hint say where, and keep the options of this side out of it.
        match hint.as_str() {
            "" => failure,
            command if command.starts_with("onegrant ") => failure.hint(format!("{OTHER_SIDE}, run {hint}")),
            words if words.starts_with("try again") || words.starts_with(OTHER_SIDE) => failure.hint(hint),
            // A path or a variable is one of that side, too.
            _ => failure.hint(format!("{OTHER_SIDE}: {hint}")),
        }
    };
    let refusal = serde_json::from_slice(&response.body).ok();
    let refusal = refusal.filter(|refusal: &Refusal| (1..=5).contains(&refusal.code)).map(shown);
    let refusal = refusal.filter(|failure| !failure.message.is_empty());
    refusal.unwrap_or_else(|| no_broker(&response.status_words(None)))
}

/// Something answered that is no broker.
pub fn no_broker(why: &str) -> Failure {
    Failure::new(Kind::Usage, format!("the broker does not answer as a broker does: {why}")).hint(DOCTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(ask: Ask) -> Request {
        request(&ask, "http://127.0.0.1:1", Some(&Secret::new("k3y-k3y-k3y")))
    }

    #[test]
    fn each_question_has_its_path_and_the_key_is_hidden() {
        let token = |kind, min_ttl| asked(Ask::Token { kind, min_ttl });
        assert_eq!(token(TokenKind::AccessToken, 0).url, "http://127.0.0.1:1/v1/token?min_ttl=0");
        assert_eq!(token(TokenKind::IdToken, 60).url, "http://127.0.0.1:1/v1/token?min_ttl=60&id_token=1");
        assert_eq!(asked(Ask::Profile).url, "http://127.0.0.1:1/v1/profile");
        let rejected = asked(Ask::Rejected(Secret::new("refused")));
        assert_eq!(
            (rejected.method, rejected.url.as_str()),
            (Method::Post, "http://127.0.0.1:1/v1/rejected")
        );
        assert_eq!(rejected.headers.get("authorization"), Some("Bearer k3y-k3y-k3y"));
        assert_eq!(rejected.shown("k3y-k3y-k3y"), "[secret]");
        assert!(!format!("{rejected:?}").contains("refused"), "{rejected:?}");
    }

    #[test]
    fn an_answer_has_the_token_that_was_asked_for_and_never_a_refresh_token() {
        let text = r#"{"access_token":"a","id_token":"i","refresh_token":"r","token_type":"Bearer","expires_at":9,"scope":"s","extra":{"x":1}}"#;
        let read = |kind| session(&Response::new(200, text), kind, 5).unwrap();
        let access = read(TokenKind::AccessToken);
        assert_eq!((access.access_token.expose(), &access.id_token), ("a", &None));
        assert_eq!((access.expires_at, access.obtained_at, access.scope.as_deref()), (Some(9), 5, Some("s")));
        assert_eq!(access.extra, serde_json::json!({"x": 1}));
        let id = read(TokenKind::IdToken);
        assert_eq!((id.access_token.expose(), id.id_token), ("", Some(Secret::new("i"))));
        assert!([access.refresh_token, id.refresh_token].iter().all(Option::is_none));
    }

    #[test]
    fn an_answer_without_a_token_that_fits_into_a_header_is_a_failure() {
        for (kind, text) in [
            (TokenKind::AccessToken, "{}"),
            (TokenKind::AccessToken, r#"{"access_token":""}"#),
            (TokenKind::AccessToken, r#"{"access_token":"a\nb"}"#),
            (TokenKind::AccessToken, r#"{"access_token":7}"#),
            (TokenKind::IdToken, r#"{"access_token":"a"}"#),
            (TokenKind::AccessToken, "[]"),
            (TokenKind::AccessToken, "<html>"),
            (TokenKind::AccessToken, ""),
        ] {
            let failure = session(&Response::new(200, text), kind, 0).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage, "{text}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_exit_code_and_its_command_is_for_the_other_side() {
        let refused = |status, text: &str| profile(&Response::new(status, text)).unwrap_err();
        let dead = refused(409, r#"{"code":3,"message":"it has\u001b[2J ended","hint":"onegrant login"}"#);
        assert_eq!((dead.kind, dead.message.as_str()), (Kind::LoginRequired, "it has [2J ended"));
        assert_eq!(dead.hint.as_deref(), Some("where the grant is, run onegrant login"));
        let later = refused(503, r#"{"code":4,"message":"no network","hint":"try again"}"#);
        assert_eq!((later.kind, later.hint.as_deref()), (Kind::Temporary, Some("try again")));
        // Those of a broker of a broker say it already.
        for (hint, shown) in [
            ("df -h /state", "where the grant is: df -h /state"),
            ("where the grant is, run onegrant login", "where the grant is, run onegrant login"),
            ("where the grant is: df -h /state", "where the grant is: df -h /state"),
        ] {
            let full = refused(500, &format!(r#"{{"code":5,"message":"no space","hint":"{hint}"}}"#));
            assert_eq!((full.kind, full.hint.as_deref()), (Kind::Store, Some(shown)));
        }
        let wrong = refused(401, r#"{"code":2,"message":"no"}"#);
        assert_eq!(wrong.kind, Kind::Usage);
        assert!(wrong.message.contains("ONEGRANT_BROKER_KEY"), "{wrong:?}");
        for (status, text) in [
            (404, "nothing here"),
            (502, "<html>"),
            (500, r#"{"code":"x"}"#),
            (500, r#"{"code":9,"message":"m"}"#),
        ] {
            assert_eq!(refused(status, text).kind, Kind::Usage, "{status}");
        }
    }
}
