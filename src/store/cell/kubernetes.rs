//! A Kubernetes Secret. Each profile is one member of its `data`, swapped by `resourceVersion`.
//!
//! Every write is a merge patch (RFC 7386) with the `resourceVersion` that was read. It leaves labels, annotations and
//! other members unchanged. Without a `resourceVersion` the server would write unconditionally, so there is always one.
//! Requests use the service account of the pod, which needs `get`, `patch` and `watch` on this one name.

use super::{ANSWER_LIMIT, Cell, ExchangeResult, Swap, Value, Version, ahead_of};
use crate::environment::{Kubernetes, NetworkSettings};
use crate::error::{Failure, Kind};
use crate::grant::Secret;
use crate::http::{HttpClient, HttpOutcome};
use crate::protocol::{Body, Extent, JSON, Method, Request, Response};
use crate::store_address::KubernetesAddress;
use crate::text::{describe, printable};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};
use std::cell::{Cell as Slot, OnceCell, RefCell};
use std::fs;
use std::time::{Duration, Instant};

/// The longest time for one request: the server itself hangs for a minute if its etcd is gone.
const TRY: Duration = Duration::from_secs(5);

/// The pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the server is tried if no connection can be made.
const UNREACHABLE: Duration = Duration::from_secs(3);

const MERGE_PATCH: &str = "application/merge-patch+json";

/// The Secret as it was read last.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The `resourceVersion` of the Secret. `None` if there is no Secret.
    version: Option<String>,
    data: Map<String, Json>,
}

/// The member of one profile.
pub struct KubernetesSecret {
    address: KubernetesAddress,
    member: String,
    place: OnceCell<(Kubernetes, HttpClient)>,
    seen: RefCell<Seen>,
    /// How many seconds this machine's clock was ahead of the clock of the server.
    ahead: Slot<i64>,
}

/// A request to the address of the Secrets of the namespace.
struct SecretRequest {
    method: Method,
    /// What follows that address.
    rest: String,
    body: Body,
    /// How many lines of the response are read; `None`: all.
    lines: Option<usize>,
}

impl SecretRequest {
    fn get(rest: String) -> Self {
        Self { method: Method::Get, rest, body: Body::None, lines: None }
    }
}

impl KubernetesSecret {
    /// The member of this profile. Making it costs nothing.
    pub fn new(address: &KubernetesAddress, profile: &str) -> Self {
        let (place, seen, ahead) = (OnceCell::new(), RefCell::default(), Slot::new(0));
        Self { address: address.clone(), member: profile.to_owned(), place, seen, ahead }
    }

    /// The member, with these settings instead of those of this process.
    pub fn in_environment(self, environment: NetworkSettings) -> Result<Self, Failure> {
        Ok(Self { place: OnceCell::from(Self::place_in(environment)?), ..self })
    }

    /// The names of the members that exist.
    pub fn names(&self, at_most: Duration) -> Result<Vec<String>, Failure> {
        self.look(at_most)?;
        Ok(self.seen.borrow().data.keys().cloned().collect())
    }

    fn look(&self, at_most: Duration) -> Result<(), Failure> {
        let secret_request = SecretRequest::get(format!("/{}", self.address.name));
        let response = match self.ask(&secret_request, Instant::now() + at_most) {
            ExchangeResult::Answer(response) => response,
            ExchangeResult::Unknown(why) => return Err(self.unreachable(&why)),
            ExchangeResult::Failed(failure) => return Err(failure),
        };
        let seen = match response.status {
            200 => {
                let mut secret: Json = serde_json::from_slice(&response.body).unwrap_or_default();
                let version = secret.pointer("/metadata/resourceVersion").and_then(Json::as_str);
                let version = version.ok_or_else(|| self.unreachable("its answer is no Secret"))?.to_owned();
                let data = secret.get_mut("data").and_then(Json::as_object_mut).map(std::mem::take);
                Seen { version: Some(version), data: data.unwrap_or_default() }
            }
            404 => Seen::default(),
            _ => return Err(self.refusal(&response)),
        };
        self.seen.replace(seen);
        Ok(())
    }

    /// Sends a request until the server responds with something else than 429 or 5xx. A request with a body is sent only
    /// once, so its outcome may be unknown.
    fn ask(&self, secret_request: &SecretRequest, until: Instant) -> ExchangeResult<Response> {
        let began = Instant::now();
        let mut is_reached = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (last, was_sent) = match self.send(secret_request, TRY.min(left)) {
                Err(failure) => return ExchangeResult::Failed(failure),
                Ok(HttpOutcome::Answered(response)) if response.status < 500 && response.status != 429 => {
                    return ExchangeResult::Answer(response);
                }
                Ok(HttpOutcome::Answered(response)) => {
                    (format!("HTTP status {}: {}", response.status, words(&response)), true)
                }
                Ok(HttpOutcome::Lost(why) | HttpOutcome::TooLong(why)) => (why, true),
                Ok(HttpOutcome::NotSent(why) | HttpOutcome::NoConnection(Failure { message: why, .. })) => {
                    (why, false)
                }
            };
            if was_sent && secret_request.body != Body::None {
                return ExchangeResult::Unknown(last);
            }
            is_reached |= was_sent;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || (!is_reached && began.elapsed() > UNREACHABLE) {
                return ExchangeResult::Failed(self.unreachable(&last));
            }
            std::thread::sleep(PAUSE.min(left));
        }
    }

    fn send(&self, secret_request: &SecretRequest, limit: Duration) -> Result<HttpOutcome, Failure> {
        let (place, client) = self.place()?;
        // The token changes about every hour.
        let token = match &place.token_file {
            Some(path) => {
                let token = fs::read_to_string(path).map_err(|error| {
                    let what = printable(&format!("cannot read {}: {}", path.display(), describe(&error)));
                    Failure::new(Kind::Store, what)
                })?;
                Some(Secret::new(format!("Bearer {}", token.trim())))
            }
            None => None,
        };
        let SecretRequest { method, rest, body, lines } = secret_request;
        let url = format!("{}/api/v1/namespaces/{}/secrets{rest}", place.server, self.address.namespace);
        let request = Request::new(*method, &url, body.clone())
            .authorized(token.as_ref())
            .reading(Extent { limit: ANSWER_LIMIT, lines: *lines });
        let outcome = client.send(&request, limit);
        if let Ok(HttpOutcome::Answered(response)) = &outcome {
            self.ahead.set(ahead_of(response).unwrap_or_default());
        }
        outcome
    }

    fn place(&self) -> Result<&(Kubernetes, HttpClient), Failure> {
        if let Some(place) = self.place.get() {
            return Ok(place);
        }
        let place = Self::place_in(NetworkSettings::read())?;
        Ok(self.place.get_or_init(|| place))
    }

    fn place_in(mut environment: NetworkSettings) -> Result<(Kubernetes, HttpClient), Failure> {
        let kubernetes = environment.kubernetes.take().ok_or_else(|| {
            let message = "not in a pod: KUBERNETES_SERVICE_HOST is not set";
            Failure::new(Kind::Usage, message)
                .hint("kubectl proxy & export ONEGRANT_KUBERNETES_API=http://127.0.0.1:8001")
        })?;
        if let Some(roots) = &kubernetes.ca_file {
            environment.ssl_cert_file = Some(roots.clone());
        }
        let client = HttpClient::new(&environment);
        Ok((kubernetes, client))
    }

    fn unreachable(&self, last: &str) -> Failure {
        let KubernetesAddress { namespace, name } = &self.address;
        Failure::new(Kind::Temporary, format!("cannot reach {}: {last}", self.location()))
            .hint(format!("kubectl -n {namespace} get secret {name}"))
    }

    fn refusal(&self, response: &Response) -> Failure {
        let KubernetesAddress { namespace, name } = &self.address;
        let what =
            format!("{} was refused, HTTP status {}: {}", self.location(), response.status, words(response));
        let failure = Failure::new(Kind::Store, what);
        match response.status {
            403 | 404 => failure.hint(format!(
                "kubectl -n {namespace} create secret generic {name}   # and a Role with get, patch and watch on it"
            )),
            _ => failure,
        }
    }
}

impl Cell for KubernetesSecret {
    fn read(&self, at_most: Duration) -> Result<Value, Failure> {
        self.look(at_most)?;
        let seen = self.seen.borrow();
        let Some((value, version)) = seen.data.get(&self.member).zip(seen.version.clone()) else {
            return Ok(None);
        };
        let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
        let bytes =
            bytes.ok_or_else(|| Failure::new(Kind::Store, format!("{} is not base64", self.location())))?;
        Ok(Some((bytes, Version(version))))
    }

    fn swap(&self, expected: Option<&Version>, bytes: Option<&[u8]>, at_most: Duration) -> Swap {
        let KubernetesAddress { name, .. } = &self.address;
        let data = json!({&self.member: bytes.map(|bytes| STANDARD.encode(bytes))});
        // A Secret without this member has a version, too.
        let seen = self.seen.borrow();
        if expected.is_none() && seen.data.contains_key(&self.member) {
            return Swap::Lost;
        }
        let version = expected.map(|Version(version)| version.clone()).or(seen.version.clone());
        drop(seen);
        let (method, rest, content_type, body) = match version {
            Some(version) => {
                let patch = json!({"metadata": {"resourceVersion": version}, "data": data});
                (Method::Patch, format!("/{name}"), MERGE_PATCH, patch)
            }
            None => {
                let metadata = json!({"name": name});
                let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data});
                (Method::Post, String::new(), JSON, secret)
            }
        };
        let body = Body::Text { content_type, text: Secret::new(body.to_string()) };
        let secret_request = SecretRequest { method, rest, body, lines: None };
        match self.ask(&secret_request, Instant::now() + at_most) {
            ExchangeResult::Answer(Response { status: 200 | 201, .. }) => Swap::Done,
            // The Secret has another version, another process created it, or it was removed.
            ExchangeResult::Answer(Response { status: 409, .. }) => Swap::Lost,
            ExchangeResult::Answer(Response { status: 404, .. }) if method == Method::Patch => Swap::Lost,
            ExchangeResult::Answer(response) => Swap::Failed(self.refusal(&response)),
            ExchangeResult::Unknown(why) => Swap::Unknown(why),
            ExchangeResult::Failed(failure) => Swap::Failed(failure),
        }
    }

    fn wait(&self, at_most: Duration) -> Option<Value> {
        let began = Instant::now();
        let version = self.seen.borrow().version.clone().unwrap_or_default();
        // The right to one name is enough for a watch that selects this name.
        let rest = format!(
            "?watch=1&fieldSelector=metadata.name%3D{}&resourceVersion={version}&timeoutSeconds={}",
            self.address.name,
            at_most.as_secs().max(1)
        );
        let secret_request = SecretRequest { lines: Some(1), ..SecretRequest::get(rest) };
        match self.send(&secret_request, at_most) {
            Ok(HttpOutcome::Answered(response)) if response.status == 200 && is_change(&response.body) => {}
            _ if began.elapsed() >= at_most => {}
            // The watch failed. The reads that follow find out more.
            _ => std::thread::sleep(PAUSE.min(at_most.saturating_sub(began.elapsed()))),
        }
        None
    }

    fn ahead(&self) -> i64 {
        self.ahead.get()
    }

    fn location(&self) -> String {
        let KubernetesAddress { namespace, name } = &self.address;
        format!("{} in the Secret {namespace}/{name}", self.member)
    }
}

/// Whether the first line of a watch tells a change, and not an error.
fn is_change(line: &[u8]) -> bool {
    let event: Json = serde_json::from_slice(line).unwrap_or_default();
    event.get("type").is_some_and(|kind| kind != "ERROR")
}

/// The message of the server about a failure.
fn words(response: &Response) -> String {
    let status: Json = serde_json::from_slice(&response.body).unwrap_or_default();
    printable(status.get("message").and_then(Json::as_str).unwrap_or("it says no more"))
}
