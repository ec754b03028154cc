//! etcd through its JSON gateway (`/v3/…`, etcd 3.4 and later): one key for each profile.
//!
//! Every write is a transaction that compares the `mod_revision` of the key. So a request that a paused member applies later
//! finds another revision, and changes nothing.
//!
//! The members are tried in turn. A transaction is sent to another member only if none of it can have left this process.
//! Otherwise its result is unknown, and the caller reads the key.

use super::{ANSWER_LIMIT, Cell, ExchangeResult, RawValue, SwapResult, Version, ahead_of};
use crate::environment::{EtcdUser, NetworkSettings};
use crate::error::{Failure, Kind};
use crate::grant::Secret;
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::{Body, Extent, JSON, Method, Request, Response};
use crate::store::sorted;
use crate::store_address::EtcdAddress;
use crate::text::printable;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use std::cell::{Cell as Slot, OnceCell, RefCell};
use std::time::{Duration, Instant};

/// The time for one member in the first round: a paused member never answers, and one that waits for a dead leader hangs
/// for seven seconds. Each round adds the same time, up to [`LONGEST_TRY`], for a slow machine.
const TRY: Duration = Duration::from_secs(1);
const LONGEST_TRY: Duration = Duration::from_secs(4);

/// The pause after a round in which no member answered.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// How long members are tried if none of them can be connected to. A cluster starts in a second or two.
const UNREACHABLE: Duration = Duration::from_secs(3);

/// The gRPC code of a request without a valid token.
const UNAUTHENTICATED: u64 = 16;

/// The key of one profile.
pub struct Etcd {
    address: EtcdAddress,
    key: String,
    client: OnceCell<HttpClient>,
    settings: OnceCell<NetworkSettings>,
    token: RefCell<Option<Secret>>,
    /// The member that is asked next.
    member: Slot<usize>,
    /// The revision of the whole store at the last read. A watch begins after it.
    revision: Slot<u64>,
    /// How many seconds this machine's clock was ahead of the clock of the member that answered last.
    ahead: Slot<i64>,
}

impl Etcd {
    /// The key of this profile. Does no I/O.
    pub fn new(address: &EtcdAddress, profile: &str) -> Self {
        Self {
            key: format!("{}{profile}", address.prefix),
            address: address.clone(),
            client: OnceCell::new(),
            settings: OnceCell::new(),
            token: RefCell::default(),
            member: Slot::new(0),
            revision: Slot::new(0),
            ahead: Slot::new(0),
        }
    }

    /// The profiles that have a key.
    pub fn names(&self, at_most: Duration) -> Result<Vec<String>, Failure> {
        let prefix = &self.address.prefix;
        let mut end = prefix.clone();
        end.pop();
        end.push('0'); // the character after the slash
        let range = json!({"key": encoded(prefix), "range_end": encoded(&end), "keys_only": true});
        let answer = self.query_repeatedly("/v3/kv/range", &range, at_most)?;
        let kvs = answer.get("kvs").and_then(Json::as_array);
        let name = |kv: &Json| {
            let key = String::from_utf8(decoded(kv.get("key"))?).ok()?;
            key.strip_prefix(prefix.as_str()).map(str::to_owned)
        };
        Ok(kvs.into_iter().flatten().filter_map(name).collect())
    }

    /// Sends a request that may be sent more than once.
    fn query_repeatedly(&self, path: &str, query: &Json, at_most: Duration) -> Result<Json, Failure> {
        match self.query(path, query, Instant::now() + at_most, true) {
            ExchangeResult::Answer(answer) => Ok(answer),
            ExchangeResult::Failed(failure) => Err(failure),
            ExchangeResult::Unknown(why) => Err(self.unreachable(&why)),
        }
    }

    fn query(&self, path: &str, query: &Json, until: Instant, is_repeatable: bool) -> ExchangeResult<Json> {
        let client = match self.client() {
            Ok(client) => client,
            Err(failure) => return ExchangeResult::Failed(failure),
        };
        let body = query.to_string();
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
                    last = format!("HTTP status {}: {}", response.status, error_text(&response));
                    is_reached = true;
                }
                Ok(HttpOutcome::NotSent(why) | HttpOutcome::NoConnection(Failure { message: why, .. })) => {
                    last = why;
                    self.use_next_member();
                    continue;
                }
                Ok(HttpOutcome::Lost(why) | HttpOutcome::TooLong(why)) => (last, is_reached) = (why, true),
            }
            self.use_next_member();
            if !is_repeatable {
                return ExchangeResult::Unknown(last);
            }
        }
        ExchangeResult::Failed(self.unreachable(&last))
    }

    fn use_next_member(&self) {
        self.member.set((self.member.get() + 1) % self.address.endpoints.len());
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
        let endpoint = self.address.endpoints.get(self.member.get()).map(String::as_str).unwrap_or_default();
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

    fn settings(&self) -> &NetworkSettings {
        self.settings.get_or_init(NetworkSettings::read)
    }

    fn client(&self) -> Result<&HttpClient, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let settings = self.settings();
        let client = HttpClient::new(settings);
        let client = match (&settings.etcd_certificate, &settings.etcd_key) {
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
        let Some(EtcdUser { name, password }) = self.settings().etcd_user.as_ref() else {
            return Ok(None);
        };
        if path == AUTHENTICATE {
            return Ok(None);
        }
        if let Some(token) = self.token.borrow().as_ref() {
            return Ok(Some(token.clone()));
        }
        let query = json!({"name": name, "password": password.expose()});
        let left = until.saturating_duration_since(Instant::now());
        let answer = self.query_repeatedly(AUTHENTICATE, &query, left)?;
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
        let what = format!("{} refused {path}: {}", self.location(), error_text(response));
        let hint = match self.settings().etcd_user {
            Some(_) => "etcdctl user get USER --detail   # it needs readwrite on this key",
            None => "export ONEGRANT_ETCD_USER=NAME ONEGRANT_ETCD_PASSWORD=…",
        };
        Failure::new(Kind::Store, what).hint(hint)
    }
}

impl Cell for Etcd {
    fn read(&self, at_most: Duration) -> Result<RawValue, Failure> {
        let answer = self.query_repeatedly("/v3/kv/range", &json!({"key": encoded(&self.key)}), at_most)?;
        let unreadable = || Failure::new(Kind::Store, format!("{} gave no value", self.location()));
        self.revision.set(number(answer.pointer("/header/revision")).ok_or_else(unreadable)?);
        answer.pointer("/kvs/0").map(|kv| parse_key_value(kv).ok_or_else(unreadable)).transpose()
    }

    fn swap(&self, expected: Option<&Version>, bytes: Option<&[u8]>, at_most: Duration) -> SwapResult {
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
        match self.query("/v3/kv/txn", &transaction, Instant::now() + at_most, false) {
            ExchangeResult::Answer(answer) if answer.get("succeeded") == Some(&Json::Bool(true)) => {
                SwapResult::Done
            }
            ExchangeResult::Answer(_) => SwapResult::Lost,
            ExchangeResult::Unknown(why) => SwapResult::Unknown(why),
            ExchangeResult::Failed(failure) => SwapResult::Failed(failure),
        }
    }

    fn wait(&self, at_most: Duration) -> Option<RawValue> {
        let began = Instant::now();
        let from = self.revision.get().saturating_add(1).to_string();
        let watch =
            json!({"create_request": {"key": encoded(&self.key), "start_revision": from}}).to_string();
        let token = self.token("", began + at_most).ok().flatten();
        // The first line says that the watch was created, the second one what has changed.
        let sent = self
            .client()
            .and_then(|client| self.send(client, "/v3/watch", &watch, token.as_ref(), Some(2), at_most));
        let change = match &sent {
            Ok(HttpOutcome::Answered(response)) => last_event(&response.body),
            Ok(HttpOutcome::Lost(_)) if began.elapsed() >= at_most => return None,
            _ => None,
        };
        if let Some((revision, value)) = change {
            self.revision.set(revision);
            return Some(value);
        }
        // This member gives no watch now. The reads that follow report why.
        self.use_next_member();
        std::thread::sleep(ROUND_PAUSE.min(at_most.saturating_sub(began.elapsed())));
        None
    }

    fn ahead(&self) -> i64 {
        self.ahead.get()
    }

    fn location(&self) -> String {
        let host = |endpoint: &String| endpoint.split_once("://").map(|(_, host)| host.to_owned());
        // The order of the members in the address does not matter.
        let hosts = sorted(self.address.endpoints.iter().filter_map(host), String::clone);
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

/// Parses a key with its value. The gateway leaves out an empty value.
fn parse_key_value(kv: &Json) -> Option<(Vec<u8>, Version)> {
    let bytes = kv.get("value").map_or_else(|| Some(Vec::new()), |value| decoded(Some(value)))?;
    Some((bytes, Version(kv.get("mod_revision")?.as_str()?.to_owned())))
}

/// The last change in the second line of a watch: its revision, and the new value of the key.
fn last_event(lines: &[u8]) -> Option<(u64, RawValue)> {
    let line = lines.split(|byte| *byte == b'\n').nth(1)?;
    let message: Json = serde_json::from_slice(line).ok()?;
    let event = message.pointer("/result/events")?.as_array()?.last()?;
    let kv = event.get("kv")?;
    // The revision in the header may belong to a later change, which is in the next line.
    let revision = number(kv.get("mod_revision"))?;
    match event.get("type") {
        None => Some((revision, Some(parse_key_value(kv)?))),
        Some(_) => Some((revision, None)),
    }
}

/// Whether another try is useless: the request itself is refused, not because of the load of the cluster.
fn is_refusal(response: &Response) -> bool {
    match response.status {
        429 => error_text(response).contains("database space exceeded"),
        status => (400..500).contains(&status),
    }
}

fn is_expired(response: &Response) -> bool {
    let code =
        serde_json::from_slice::<Json>(&response.body).ok().and_then(|answer| answer.get("code")?.as_u64());
    response.status == 401 && code.is_none_or(|code| code == UNAUTHENTICATED)
}

/// The error text in etcd's answer.
fn error_text(response: &Response) -> String {
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
    fn the_last_event_of_a_watch_has_the_new_value_of_the_key() {
        let put = r#"{"kv":{"key":"aw==","create_revision":"12","mod_revision":"13","version":"2","value":"dg=="}}"#;
        let empty = r#"{"kv":{"key":"aw==","mod_revision":"14"}}"#;
        let delete = r#"{"type":"DELETE","kv":{"key":"aw==","mod_revision":"15"}}"#;
        let value = |text: &[u8], version: &str| Some((text.to_vec(), Version(version.to_owned())));
        let cases = [
            (format!("[{put}]"), Some((13, value(b"v", "13")))),
            (format!("[{put},{empty}]"), Some((14, value(b"", "14")))),
            (format!("[{put},{delete}]"), Some((15, None))),
            ("[]".to_owned(), None),
        ];
        for (events, expected) in cases {
            let lines = format!(
                "{{\"result\":{{\"created\":true}}}}\n{{\"result\":{{\"header\":{{\"revision\":\"99\"}},\"events\":{events}}}}}\n"
            );
            assert_eq!(last_event(lines.as_bytes()), expected, "{events}");
        }
        let canceled = br#"{"result":{"created":true,"canceled":true}}"#;
        assert_eq!(last_event(canceled), None);
    }
}
