//! etcd through its JSON gateway (`/v3/…`, etcd 3.4 and later). Each profile is one key.
//!
//! Every write is a transaction that compares the `mod_revision` of the key. So a request that hangs in a paused member
//! and is applied later finds another revision and changes nothing. There is no lease: see [`super`].
//!
//! The members are tried in turn. A transaction is repeated with another member only if no part of it can have left this
//! process. Otherwise its outcome is unknown, and the caller reads the value again.

use super::{ANSWER_LIMIT, Cell, ExchangeResult, Swap, Value, Version, ahead_of};
use crate::environment::{EtcdUser, NetworkSettings};
use crate::error::{Failure, Kind};
use crate::grant::Secret;
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::{Body, Extent, JSON, Method, Request, Response};
use crate::store_address::EtcdAddress;
use crate::text::printable;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use std::cell::{Cell as Slot, OnceCell, RefCell};
use std::time::{Duration, Instant};

/// The longest time for one member in the first round: a paused member accepts a connection and never responds, and one
/// that waits for a dead leader hangs for seven seconds. Each further round adds as much, up to [`LONGEST_TRY`], because
/// a machine may be slow.
const TRY: Duration = Duration::from_secs(1);
const LONGEST_TRY: Duration = Duration::from_secs(4);

/// The pause after a round without a response.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// How long the members are tried if no connection to any of them can be made. A cluster that starts takes a second or
/// two.
const UNREACHABLE: Duration = Duration::from_secs(3);

/// gRPC's code for a request without a valid token.
const UNAUTHENTICATED: u64 = 16;

/// The key of one profile.
pub struct Etcd {
    address: EtcdAddress,
    key: String,
    client: OnceCell<HttpClient>,
    environment: OnceCell<NetworkSettings>,
    token: RefCell<Option<Secret>>,
    /// The member that responded last.
    current: Slot<usize>,
    /// The revision of the whole store at the last read. A watch starts after it.
    revision: Slot<u64>,
    /// How many seconds this machine's clock was ahead of the clock of that member.
    ahead: Slot<i64>,
}

impl Etcd {
    /// The key of this profile. Making it costs nothing.
    pub fn new(address: &EtcdAddress, profile: &str) -> Self {
        Self {
            key: format!("{}{profile}", address.prefix),
            address: address.clone(),
            client: OnceCell::new(),
            environment: OnceCell::new(),
            token: RefCell::default(),
            current: Slot::new(0),
            revision: Slot::new(0),
            ahead: Slot::new(0),
        }
    }

    /// The names after the prefix of the keys that exist.
    pub fn names(&self, at_most: Duration) -> Result<Vec<String>, Failure> {
        let prefix = &self.address.prefix;
        let mut end = prefix.clone();
        end.pop();
        end.push('0'); // the character behind the slash
        let range = json!({"key": encoded(prefix), "range_end": encoded(&end), "keys_only": true});
        let answer = self.ask_repeatedly("/v3/kv/range", &range, at_most)?;
        let kvs = answer.get("kvs").and_then(Json::as_array);
        let name = |kv: &Json| {
            let key = String::from_utf8(decoded(kv.get("key"))?).ok()?;
            key.strip_prefix(prefix.as_str()).map(str::to_owned)
        };
        Ok(kvs.into_iter().flatten().filter_map(name).collect())
    }

    /// Sends a request that may be repeated.
    fn ask_repeatedly(&self, path: &str, request: &Json, at_most: Duration) -> Result<Json, Failure> {
        match self.ask(path, request, Instant::now() + at_most, true) {
            ExchangeResult::Answer(answer) => Ok(answer),
            ExchangeResult::Failed(failure) => Err(failure),
            ExchangeResult::Unknown(why) => Err(self.unreachable(&why)),
        }
    }

    fn ask(&self, path: &str, request: &Json, until: Instant, is_repeatable: bool) -> ExchangeResult<Json> {
        let client = match self.client() {
            Ok(client) => client,
            Err(failure) => return ExchangeResult::Failed(failure),
        };
        let body = request.to_string();
        let members = self.address.endpoints.len();
        let began = Instant::now();
        let (mut last, mut is_reached, mut was_refused) = (String::new(), false, false);
        for turn in 0.. {
            let left = until.saturating_duration_since(Instant::now());
            let round = u32::try_from(turn / members).unwrap_or(u32::MAX);
            let is_hopeless = round > 0 && !is_reached && began.elapsed() > UNREACHABLE;
            if turn > 0 && (left.is_zero() || is_hopeless) {
                break;
            }
            if turn > 0 && turn % members == 0 {
                std::thread::sleep(ROUND_PAUSE.min(left));
            }
            let token = match self.token(path, until) {
                Ok(token) => token,
                Err(failure) => return ExchangeResult::Failed(failure),
            };
            let limit = TRY.saturating_mul(round.saturating_add(1)).min(LONGEST_TRY).min(left);
            match self.send(client, path, &body, token.as_ref(), None, limit) {
                Err(failure) => return ExchangeResult::Failed(failure),
                Ok(HttpOutcome::Answered(response)) if response.status == 200 => {
                    match serde_json::from_slice(&response.body) {
                        Ok(answer) => return ExchangeResult::Answer(answer),
                        Err(_) => last = "its answer is not JSON".to_owned(),
                    }
                }
                Ok(HttpOutcome::Answered(response))
                    if is_expired(&response) && token.is_some() && !was_refused =>
                {
                    self.token.take();
                    was_refused = true;
                    continue;
                }
                Ok(HttpOutcome::Answered(response)) if is_refusal(&response) => {
                    return ExchangeResult::Failed(self.refusal(path, &response));
                }
                Ok(HttpOutcome::Answered(response)) => {
                    last = format!("HTTP status {}: {}", response.status, words(&response));
                    is_reached = true;
                }
                Ok(HttpOutcome::NotSent(why) | HttpOutcome::NoConnection(Failure { message: why, .. })) => {
                    last = why;
                    self.turn();
                    continue;
                }
                Ok(HttpOutcome::Lost(why) | HttpOutcome::TooLong(why)) => (last, is_reached) = (why, true),
            }
            self.turn();
            if !is_repeatable {
                return ExchangeResult::Unknown(last);
            }
        }
        ExchangeResult::Failed(self.unreachable(&last))
    }

    fn turn(&self) {
        self.current.set((self.current.get() + 1) % self.address.endpoints.len());
    }

    fn send(
        &self,
        client: &HttpClient,
        path: &str,
        body: &str,
        token: Option<&Secret>,
        lines: Option<usize>,
        limit: Duration,
    ) -> Result<HttpOutcome, Failure> {
        let endpoint = self.address.endpoints.get(self.current.get()).map(String::as_str).unwrap_or_default();
        let body = Body::Text { content_type: JSON, text: Secret::new(body) };
        let request = Request::new(Method::Post, &format!("{endpoint}{path}"), body)
            .authorized(token)
            .reading(Extent { limit: ANSWER_LIMIT, lines });
        let outcome = client.send(&request, limit);
        if let Ok(HttpOutcome::Answered(response)) = &outcome {
            self.ahead.set(ahead_of(response).unwrap_or_default());
        }
        outcome
    }

    fn environment(&self) -> &NetworkSettings {
        self.environment.get_or_init(NetworkSettings::read)
    }

    fn client(&self) -> Result<&HttpClient, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let environment = self.environment();
        let client = HttpClient::new(environment);
        let client = match (&environment.etcd_certificate, &environment.etcd_key) {
            (Some(certificate), key) => {
                client.with_certificate(certificate, key.as_ref().unwrap_or(certificate))?
            }
            (None, Some(_)) => {
                let message = "ONEGRANT_ETCD_KEY is set, and ONEGRANT_ETCD_CERT is not";
                return Err(Failure::new(Kind::Usage, message).hint("export ONEGRANT_ETCD_CERT=FILE"));
            }
            (None, None) => client,
        };
        Ok(self.client.get_or_init(|| client))
    }

    /// The token of the user that the environment names. It is requested once.
    fn token(&self, path: &str, until: Instant) -> Result<Option<Secret>, Failure> {
        const AUTHENTICATE: &str = "/v3/auth/authenticate";
        let Some(EtcdUser { name, password }) = self.environment().etcd_user.as_ref() else {
            return Ok(None);
        };
        if path == AUTHENTICATE {
            return Ok(None);
        }
        if let Some(token) = self.token.borrow().as_ref() {
            return Ok(Some(token.clone()));
        }
        let request = json!({"name": name, "password": password.expose()});
        let left = until.saturating_duration_since(Instant::now());
        let answer = self.ask_repeatedly(AUTHENTICATE, &request, left)?;
        let token = answer
            .get("token")
            .and_then(Json::as_str)
            .filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        let token = token.map(Secret::new).ok_or_else(|| self.unreachable("its answer has no token"))?;
        self.token.replace(Some(token.clone()));
        Ok(Some(token))
    }

    fn unreachable(&self, last: &str) -> Failure {
        let what = format!("cannot reach {}: {last}", self.location());
        let endpoints = self.address.endpoints.join(",");
        Failure::new(Kind::Temporary, what).hint(format!("etcdctl --endpoints {endpoints} endpoint status"))
    }

    fn refusal(&self, path: &str, response: &Response) -> Failure {
        let what = format!("{} refused {path}: {}", self.location(), words(response));
        let hint = match self.environment().etcd_user {
            Some(_) => "etcdctl user get USER --detail   # it needs readwrite on this key",
            None => "export ONEGRANT_ETCD_USER=NAME ONEGRANT_ETCD_PASSWORD=…",
        };
        Failure::new(Kind::Store, what).hint(hint)
    }
}

impl Cell for Etcd {
    fn read(&self, at_most: Duration) -> Result<Value, Failure> {
        let answer = self.ask_repeatedly("/v3/kv/range", &json!({"key": encoded(&self.key)}), at_most)?;
        let unreadable = || Failure::new(Kind::Store, format!("{} gave no value", self.location()));
        self.revision.set(number(answer.pointer("/header/revision")).ok_or_else(unreadable)?);
        answer.pointer("/kvs/0").map(|kv| value(kv).ok_or_else(unreadable)).transpose()
    }

    fn swap(&self, expected: Option<&Version>, bytes: Option<&[u8]>, at_most: Duration) -> Swap {
        let key = encoded(&self.key);
        let compare = match expected {
            Some(Version(revision)) => {
                json!({"target": "MOD", "key": key, "result": "EQUAL", "mod_revision": revision})
            }
            None => json!({"target": "VERSION", "key": key, "result": "EQUAL", "version": "0"}),
        };
        let change = match bytes {
            Some(bytes) => json!({"requestPut": {"key": key, "value": STANDARD.encode(bytes)}}),
            None => json!({"requestDeleteRange": {"key": key}}),
        };
        let transaction = json!({"compare": [compare], "success": [change]});
        match self.ask("/v3/kv/txn", &transaction, Instant::now() + at_most, false) {
            ExchangeResult::Answer(answer) if answer.get("succeeded") == Some(&Json::Bool(true)) => {
                Swap::Done
            }
            ExchangeResult::Answer(_) => Swap::Lost,
            ExchangeResult::Unknown(why) => Swap::Unknown(why),
            ExchangeResult::Failed(failure) => Swap::Failed(failure),
        }
    }

    fn wait(&self, at_most: Duration) -> Option<Value> {
        let began = Instant::now();
        let from = self.revision.get().saturating_add(1).to_string();
        let watch =
            json!({"create_request": {"key": encoded(&self.key), "start_revision": from}}).to_string();
        let token = self.token("", began + at_most).ok().flatten();
        // The first line confirms the watch, the second one tells the change.
        let sent = self
            .client()
            .and_then(|client| self.send(client, "/v3/watch", &watch, token.as_ref(), Some(2), at_most));
        let told = match &sent {
            Ok(HttpOutcome::Answered(response)) => last_event(&response.body),
            Ok(HttpOutcome::Lost(_)) if began.elapsed() >= at_most => return None,
            _ => None,
        };
        if let Some((revision, value)) = told {
            self.revision.set(revision);
            return Some(value);
        }
        // The watch failed. The reads that follow find out more.
        self.turn();
        std::thread::sleep(ROUND_PAUSE.min(at_most.saturating_sub(began.elapsed())));
        None
    }

    fn ahead(&self) -> i64 {
        self.ahead.get()
    }

    fn location(&self) -> String {
        let host = |endpoint: &String| endpoint.split_once("://").map(|(_, host)| host.to_owned());
        let mut hosts: Vec<String> = self.address.endpoints.iter().filter_map(host).collect();
        // The order of the members does not change the location.
        hosts.sort_unstable();
        format!("the key {} of etcd at {}", self.key, hosts.join(", "))
    }
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn decoded(text: Option<&Json>) -> Option<Vec<u8>> {
    STANDARD.decode(text?.as_str()?).ok()
}

fn number(text: Option<&Json>) -> Option<u64> {
    text?.as_str()?.parse().ok()
}

/// The value of an existing key. An empty value is left out of the JSON.
fn value(kv: &Json) -> Option<(Vec<u8>, Version)> {
    let bytes = kv.get("value").map_or_else(|| Some(Vec::new()), |value| decoded(Some(value)))?;
    Some((bytes, Version(kv.get("mod_revision")?.as_str()?.to_owned())))
}

/// The change that the second line of a watch tells: the revision, and the value since then.
fn last_event(lines: &[u8]) -> Option<(u64, Value)> {
    let line = lines.split(|byte| *byte == b'\n').nth(1)?;
    let told: Json = serde_json::from_slice(line).ok()?;
    let event = told.pointer("/result/events")?.as_array()?.last()?;
    let kv = event.get("kv")?;
    // The revision in the header may be that of a change in the next line.
    let revision = number(kv.get("mod_revision"))?;
    match event.get("type") {
        None => Some((revision, Some(value(kv)?))),
        Some(_) => Some((revision, None)),
    }
}

/// Whether a repetition is useless. 429 is either overload, which passes, or a full database. gRPC has one code for both,
/// so the message decides.
fn is_refusal(response: &Response) -> bool {
    match response.status {
        429 => words(response).contains("database space exceeded"),
        status => (400..500).contains(&status),
    }
}

fn is_expired(response: &Response) -> bool {
    let code =
        serde_json::from_slice::<Json>(&response.body).ok().and_then(|answer| answer.get("code")?.as_u64());
    response.status == 401 && code.is_none_or(|code| code == UNAUTHENTICATED)
}

/// The message of etcd about a failure.
fn words(response: &Response) -> String {
    let answer: Json = serde_json::from_slice(&response.body).unwrap_or_default();
    let message = answer.get("message").or_else(|| answer.pointer("/error/message")).and_then(Json::as_str);
    match message {
        Some(message) => printable(message),
        None => printable(&String::from_utf8_lossy(&response.body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_tells_what_the_key_holds() {
        let put = r#"{"kv":{"key":"aw==","create_revision":"12","mod_revision":"13","version":"2","value":"dg=="}}"#;
        let empty = r#"{"kv":{"key":"aw==","mod_revision":"14"}}"#;
        let delete = r#"{"type":"DELETE","kv":{"key":"aw==","mod_revision":"15"}}"#;
        let held = |text: &[u8], version: &str| Some((text.to_vec(), Version(version.to_owned())));
        let cases = [
            (format!("[{put}]"), Some((13, held(b"v", "13")))),
            (format!("[{put},{empty}]"), Some((14, held(b"", "14")))),
            (format!("[{put},{delete}]"), Some((15, None))),
            ("[]".to_owned(), None),
        ];
        for (events, told) in cases {
            let lines = format!(
                "{{\"result\":{{\"created\":true}}}}\n{{\"result\":{{\"header\":{{\"revision\":\"99\"}},\"events\":{events}}}}}\n"
            );
            assert_eq!(last_event(lines.as_bytes()), told, "{events}");
        }
        let canceled = br#"{"result":{"created":true,"canceled":true}}"#;
        assert_eq!(last_event(canceled), None);
    }
}
