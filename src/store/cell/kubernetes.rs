//! A Kubernetes Secret: one member of its `data` a profile, swapped by `resourceVersion`.
//!
//! Every write is a merge patch (RFC 7386) with the `resourceVersion` that was read, which leaves labels, annotations and
//! other members alone; never one without, which the server would make unconditionally. The pod's service account is
//! asked as, and needs `get`, `patch` and `watch` on this one name.

use super::{ANSWER_LIMIT, Asked, Cell, Swap, Value, Version, ahead_of};
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

/// How long one request may take: the server itself hangs for a minute where its etcd is gone.
const TRY: Duration = Duration::from_secs(5);

/// The pause before the server is asked again that could not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a server is tried that cannot be connected to.
const UNREACHABLE: Duration = Duration::from_secs(3);

const MERGE_PATCH: &str = "application/merge-patch+json";

/// What was read last.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The Secret's `resourceVersion`; none where there is no Secret.
    version: Option<String>,
    data: Map<String, Json>,
}

/// The member of one profile.
pub struct KubernetesSecret {
    address: KubernetesAddress,
    member: String,
    place: OnceCell<(Kubernetes, HttpClient)>,
    seen: RefCell<Seen>,
    /// How many seconds this machine's clock was ahead of the server's.
    ahead: Slot<i64>,
}

/// A request to the address of the Secrets of the namespace.
struct Question {
    method: Method,
    /// What follows that address.
    rest: String,
    body: Body,
    /// How many lines of the response are read; `None`: all.
    lines: Option<usize>,
}

impl Question {
    fn get(rest: String) -> Self {
        Self { method: Method::Get, rest, body: Body::None, lines: None }
    }
}

impl KubernetesSecret {
    /// The member of this profile. Costs nothing.
    pub fn new(address: &KubernetesAddress, profile: &str) -> Self {
        let (place, seen, ahead) = (OnceCell::new(), RefCell::default(), Slot::new(0));
        Self { address: address.clone(), member: profile.to_owned(), place, seen, ahead }
    }

    /// The same, where the environment is another one than this process's own.
    pub fn in_environment(self, environment: NetworkSettings) -> Result<Self, Failure> {
        Ok(Self { place: OnceCell::from(Self::place_in(environment)?), ..self })
    }

    /// The members that are there.
    pub fn names(&self, at_most: Duration) -> Result<Vec<String>, Failure> {
        self.look(at_most)?;
        Ok(self.seen.borrow().data.keys().cloned().collect())
    }

    fn look(&self, at_most: Duration) -> Result<(), Failure> {
        let question = Question::get(format!("/{}", self.address.name));
        let response = match self.ask(&question, Instant::now() + at_most) {
            Asked::Answer(response) => response,
            Asked::Unknown(why) => return Err(self.silent(&why)),
            Asked::Failed(failure) => return Err(failure),
        };
        let seen = match response.status {
            200 => {
                let mut secret: Json = serde_json::from_slice(&response.body).unwrap_or_default();
                let version = secret.pointer("/metadata/resourceVersion").and_then(Json::as_str);
                let version = version.ok_or_else(|| self.silent("its answer is no Secret"))?.to_owned();
                let data = secret.get_mut("data").and_then(Json::as_object_mut).map(std::mem::take);
                Seen { version: Some(version), data: data.unwrap_or_default() }
            }
            404 => Seen::default(),
            _ => return Err(self.refusal(&response)),
        };
        self.seen.replace(seen);
        Ok(())
    }

    /// Asks until there is an answer that is not the server's own trouble; what has a body is sent once, and then there
    /// may be none.
    fn ask(&self, question: &Question, until: Instant) -> Asked<Response> {
        let began = Instant::now();
        let mut is_reached = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (last, was_sent) = match self.send(question, TRY.min(left)) {
                Err(failure) => return Asked::Failed(failure),
                Ok(HttpOutcome::Answered(response)) if response.status < 500 && response.status != 429 => {
                    return Asked::Answer(response);
                }
                Ok(HttpOutcome::Answered(response)) => {
                    (format!("HTTP status {}: {}", response.status, words(&response)), true)
                }
                Ok(HttpOutcome::Lost(why) | HttpOutcome::TooLong(why)) => (why, true),
                Ok(HttpOutcome::NotSent(why) | HttpOutcome::NoConnection(Failure { message: why, .. })) => {
                    (why, false)
                }
            };
            if was_sent && question.body != Body::None {
                return Asked::Unknown(last);
            }
            is_reached |= was_sent;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || (!is_reached && began.elapsed() > UNREACHABLE) {
                return Asked::Failed(self.silent(&last));
            }
            std::thread::sleep(PAUSE.min(left));
        }
    }

    fn send(&self, question: &Question, limit: Duration) -> Result<HttpOutcome, Failure> {
        let (place, client) = self.place()?;
        // It changes about every hour.
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
        let Question { method, rest, body, lines } = question;
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

    fn silent(&self, last: &str) -> Failure {
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
        // A Secret without our member has a version, too.
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
        let question = Question { method, rest, body, lines: None };
        match self.ask(&question, Instant::now() + at_most) {
            Asked::Answer(Response { status: 200 | 201, .. }) => Swap::Done,
            // Another version, another one's creation, or a removal.
            Asked::Answer(Response { status: 409, .. }) => Swap::Lost,
            Asked::Answer(Response { status: 404, .. }) if method == Method::Patch => Swap::Lost,
            Asked::Answer(response) => Swap::Failed(self.refusal(&response)),
            Asked::Unknown(why) => Swap::Unknown(why),
            Asked::Failed(failure) => Swap::Failed(failure),
        }
    }

    fn wait(&self, at_most: Duration) -> Option<Value> {
        let began = Instant::now();
        let version = self.seen.borrow().version.clone().unwrap_or_default();
        // A right to one name is enough for a watch that selects it.
        let rest = format!(
            "?watch=1&fieldSelector=metadata.name%3D{}&resourceVersion={version}&timeoutSeconds={}",
            self.address.name,
            at_most.as_secs().max(1)
        );
        let question = Question { lines: Some(1), ..Question::get(rest) };
        match self.send(&question, at_most) {
            Ok(HttpOutcome::Answered(response)) if response.status == 200 && is_change(&response.body) => {}
            _ if began.elapsed() >= at_most => {}
            // No watch can be had here and now: the reads that follow find out more.
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

/// Whether the first line of a watch tells a change, and not that none can be told.
fn is_change(line: &[u8]) -> bool {
    let event: Json = serde_json::from_slice(line).unwrap_or_default();
    event.get("type").is_some_and(|kind| kind != "ERROR")
}

/// The server's own words for a failure.
fn words(response: &Response) -> String {
    let status: Json = serde_json::from_slice(&response.body).unwrap_or_default();
    printable(status.get("message").and_then(Json::as_str).unwrap_or("it says no more"))
}
