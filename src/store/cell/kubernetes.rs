//! A Kubernetes Secret: one member of its `data` for each profile, swapped by `resourceVersion`.
//!
//! Every write is a merge patch (RFC 7386) with the `resourceVersion` that was read. It leaves labels, annotations and other
//! members as they are. A patch without `resourceVersion` is never sent, because the server would apply it unconditionally.
//! The requests use the service account of the pod, which needs `get`, `patch` and `watch` on this Secret.

use super::{ANSWER_LIMIT, Cell, ExchangeResult, RawValue, SwapResult, Version, ahead_of};
use crate::environment::{KubernetesServer, NetworkSettings};
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

/// The time for one request. The server hangs for a minute if its etcd is gone.
const TRY: Duration = Duration::from_secs(5);

/// The pause before the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a server is tried if it cannot be connected to.
const UNREACHABLE: Duration = Duration::from_secs(3);

const MERGE_PATCH: &str = "application/merge-patch+json";

/// The Secret as it was read last.
#[derive(Clone, Debug, Default)]
struct LastRead {
    /// Its `resourceVersion`; `None` if there is no Secret.
    version: Option<String>,
    data: Map<String, Json>,
}

/// The member of one profile.
pub struct KubernetesSecret {
    address: KubernetesAddress,
    member: String,
    connection: OnceCell<(KubernetesServer, HttpClient)>,
    last_read: RefCell<LastRead>,
    /// How many seconds this machine's clock was ahead of the server's clock.
    ahead: Slot<i64>,
}

/// A request to the URL of the Secrets of the namespace.
struct SecretRequest {
    method: Method,
    /// What follows this URL.
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
    /// The member of this profile. Does no I/O.
    pub fn new(address: &KubernetesAddress, profile: &str) -> Self {
        let (connection, last_read, ahead) = (OnceCell::new(), RefCell::default(), Slot::new(0));
        Self { address: address.clone(), member: profile.to_owned(), connection, last_read, ahead }
    }

    /// The same member with these settings instead of the environment of this process.
    pub fn with_settings(self, settings: NetworkSettings) -> Result<Self, Failure> {
        Ok(Self { connection: OnceCell::from(Self::connect(settings)?), ..self })
    }

    /// The profiles that have a member.
    pub fn names(&self, at_most: Duration) -> Result<Vec<String>, Failure> {
        self.read_secret(at_most)?;
        Ok(self.last_read.borrow().data.keys().cloned().collect())
    }

    fn read_secret(&self, at_most: Duration) -> Result<(), Failure> {
        let request = SecretRequest::get(format!("/{}", self.address.name));
        let response = match self.send_until(&request, Instant::now() + at_most) {
            ExchangeResult::Answer(response) => response,
            ExchangeResult::Unknown(why) => return Err(self.unreachable(&why)),
            ExchangeResult::Failed(failure) => return Err(failure),
        };
        let read = match response.status {
            200 => {
                let mut secret: Json = serde_json::from_slice(&response.body).unwrap_or_default();
                let version = secret.pointer("/metadata/resourceVersion").and_then(Json::as_str);
                let version = version.ok_or_else(|| self.unreachable("its answer is no Secret"))?.to_owned();
                let data = secret.get_mut("data").and_then(Json::as_object_mut).map(std::mem::take);
                LastRead { version: Some(version), data: data.unwrap_or_default() }
            }
            404 => LastRead::default(),
            _ => return Err(self.refusal(&response)),
        };
        self.last_read.replace(read);
        Ok(())
    }

    /// Sends the request until the answer is neither 429 nor 5xx. A request with a body is sent only once: if no answer comes,
    /// its result is unknown.
    fn send_until(&self, request: &SecretRequest, until: Instant) -> ExchangeResult<Response> {
        let began = Instant::now();
        let mut is_reached = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (last, was_sent) = match self.send(request, TRY.min(left)) {
                Err(failure) => return ExchangeResult::Failed(failure),
                Ok(HttpOutcome::Answered(response)) if response.status < 500 && response.status != 429 => {
                    return ExchangeResult::Answer(response);
                }
                Ok(HttpOutcome::Answered(response)) => {
                    (format!("HTTP status {}: {}", response.status, error_text(&response)), true)
                }
                Ok(HttpOutcome::Lost(why) | HttpOutcome::TooLong(why)) => (why, true),
                Ok(HttpOutcome::NotSent(why) | HttpOutcome::NoConnection(Failure { message: why, .. })) => {
                    (why, false)
                }
            };
            if was_sent && request.body != Body::None {
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

    fn send(&self, request: &SecretRequest, limit: Duration) -> Result<HttpOutcome, Failure> {
        let (server, client) = self.connection()?;
        // Read each time: it changes about every hour.
        let token = match &server.token_file {
            Some(path) => {
                let token = fs::read_to_string(path).map_err(|error| {
                    let what = printable(&format!("cannot read {}: {}", path.display(), describe(&error)));
                    Failure::new(Kind::Store, what)
                })?;
                Some(Secret::new(format!("Bearer {}", token.trim())))
            }
            None => None,
        };
        let SecretRequest { method, rest, body, lines } = request;
        let url = format!("{}/api/v1/namespaces/{}/secrets{rest}", server.url, self.address.namespace);
        let request = Request::new(*method, &url, body.clone())
            .authorized(token.as_ref())
            .reading(Extent { limit: ANSWER_LIMIT, lines: *lines });
        let outcome = client.send(&request, limit);
        if let Ok(HttpOutcome::Answered(response)) = &outcome {
            self.ahead.set(ahead_of(response).unwrap_or_default());
        }
        outcome
    }

    fn connection(&self) -> Result<&(KubernetesServer, HttpClient), Failure> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection);
        }
        let connection = Self::connect(NetworkSettings::read())?;
        Ok(self.connection.get_or_init(|| connection))
    }

    fn connect(mut settings: NetworkSettings) -> Result<(KubernetesServer, HttpClient), Failure> {
        let server = settings.kubernetes.take().ok_or_else(|| {
            let message = "not in a pod: KUBERNETES_SERVICE_HOST is not set";
            Failure::new(Kind::Usage, message)
                .hint("kubectl proxy & export ONEGRANT_KUBERNETES_API=http://127.0.0.1:8001")
        })?;
        if let Some(roots) = &server.ca_file {
            settings.ssl_cert_file = Some(roots.clone());
        }
        let client = HttpClient::new(&settings);
        Ok((server, client))
    }

    fn unreachable(&self, last: &str) -> Failure {
        let KubernetesAddress { namespace, name } = &self.address;
        Failure::new(Kind::Temporary, format!("cannot reach {}: {last}", self.location()))
            .hint(format!("kubectl -n {namespace} get secret {name}"))
    }

    fn refusal(&self, response: &Response) -> Failure {
        let KubernetesAddress { namespace, name } = &self.address;
        let what = format!(
            "{} was refused, HTTP status {}: {}",
            self.location(),
            response.status,
            error_text(response)
        );
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
    fn read(&self, at_most: Duration) -> Result<RawValue, Failure> {
        self.read_secret(at_most)?;
        let last_read = self.last_read.borrow();
        let Some((value, version)) = last_read.data.get(&self.member).zip(last_read.version.clone()) else {
            return Ok(None);
        };
        let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
        let bytes =
            bytes.ok_or_else(|| Failure::new(Kind::Store, format!("{} is not base64", self.location())))?;
        Ok(Some((bytes, Version(version))))
    }

    fn swap(&self, expected: Option<&Version>, bytes: Option<&[u8]>, at_most: Duration) -> SwapResult {
        let KubernetesAddress { name, .. } = &self.address;
        let data = json!({&self.member: bytes.map(|bytes| STANDARD.encode(bytes))});
        // A Secret without this member has a version, too.
        let last_read = self.last_read.borrow();
        if expected.is_none() && last_read.data.contains_key(&self.member) {
            return SwapResult::Lost;
        }
        let version = expected.map(|Version(version)| version.clone()).or(last_read.version.clone());
        drop(last_read);
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
        let request = SecretRequest { method, rest, body, lines: None };
        match self.send_until(&request, Instant::now() + at_most) {
            ExchangeResult::Answer(Response { status: 200 | 201, .. }) => SwapResult::Done,
            // The Secret has another version, or another process has created or removed it.
            ExchangeResult::Answer(Response { status: 409, .. }) => SwapResult::Lost,
            ExchangeResult::Answer(Response { status: 404, .. }) if method == Method::Patch => {
                SwapResult::Lost
            }
            ExchangeResult::Answer(response) => SwapResult::Failed(self.refusal(&response)),
            ExchangeResult::Unknown(why) => SwapResult::Unknown(why),
            ExchangeResult::Failed(failure) => SwapResult::Failed(failure),
        }
    }

    fn wait(&self, at_most: Duration) -> Option<RawValue> {
        let began = Instant::now();
        let version = self.last_read.borrow().version.clone().unwrap_or_default();
        // A right to one Secret is enough for a watch that selects its name.
        let rest = format!(
            "?watch=1&fieldSelector=metadata.name%3D{}&resourceVersion={version}&timeoutSeconds={}",
            self.address.name,
            at_most.as_secs().max(1)
        );
        let request = SecretRequest { lines: Some(1), ..SecretRequest::get(rest) };
        match self.send(&request, at_most) {
            Ok(HttpOutcome::Answered(response)) if response.status == 200 && is_change(&response.body) => {}
            _ if began.elapsed() >= at_most => {}
            // The server gives no watch now. The reads that follow report why.
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

/// Whether the first line of a watch is a change, not an error.
fn is_change(line: &[u8]) -> bool {
    let event: Json = serde_json::from_slice(line).unwrap_or_default();
    event.get("type").is_some_and(|kind| kind != "ERROR")
}

/// The error text in the server's answer.
fn error_text(response: &Response) -> String {
    let status: Json = serde_json::from_slice(&response.body).unwrap_or_default();
    printable(status.get("message").and_then(Json::as_str).unwrap_or("it says no more"))
}
