//! The side of a process that asks a broker: its requests, and what the answers mean.

use super::{Ask, ID_TOKEN, MIN_TTL, PROFILE, PROFILE_FIELD, Profile, REJECTED, Refusal, TOKEN};
use crate::error::{Failure, Kind};
use crate::grant::{Secret, Session, TokenKind, UnixSeconds, is_visible_ascii};
use crate::protocol::{Body, Method, Request, Response};
use crate::text::{own_hint, printable};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

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

/// What the broker refuses, with the exit code that a command on its side would have.
fn refusal(response: &Response) -> Failure {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(&response.body) else {
        return no_broker(&response.status_words(None));
    };
    if response.status == 401 {
        let message = "the broker does not accept the key in ONEGRANT_BROKER_KEY";
        return Failure::new(Kind::Usage, message)
            .hint("run this inside of onegrant exec --serve, which sets ONEGRANT_BROKER_KEY");
    }
    let failure = Failure::new(Kind::from_code(refusal.code), printable(&refusal.message));
    match refusal.hint.as_deref().map(own_hint) {
        // The words before it say where, and keep the options of this side out of it.
        Some(hint) if hint.starts_with("onegrant ") => {
            failure.hint(format!("where the grant is, run {hint}"))
        }
        hint => failure.hint_of(hint.as_deref()),
    }
}

/// Something answered that is no broker.
fn no_broker(why: &str) -> Failure {
    Failure::new(Kind::Usage, format!("the broker does not answer as a broker does: {why}"))
        .hint("onegrant doctor")
}
