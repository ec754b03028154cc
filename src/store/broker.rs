//! A broker as a store: the document without what only the grant's own side may have. It cannot lock and cannot be written, so
//! whatever would change the grant ends with exit 2. See "Brokers" in `docs/design.md`.

use super::{NewRecord, Record, RecordName, Snapshot, Store, WriteResult, revision};
use crate::adapters::broker::{Ask, Profile, client};
use crate::environment::{self, NetworkSettings};
use crate::error::{Failure, Kind};
use crate::grant::{Secret, TokenKind, is_visible_ascii, json_bytes};
use crate::http::HttpClient;
use crate::lock::Locked;
use crate::protocol::Response;
use crate::session::brokered::Answer;
use crate::session::{LockMode, Revision};
use crate::store_address::{BrokerAddress, ProfileName, StoreAddress};
use crate::system::SystemClock;
use crate::text::printable;
use serde_json::json;
use std::time::Duration;

/// Where HTTP requests go that are sent over a Unix socket. No connection is made to this address.
const OVER_SOCKET: &str = "http://127.0.0.1";

/// The shortest time for a question, even after the deadline: one try.
const LEAST_ASK: Duration = Duration::from_secs(1);

/// The broker, for one command.
pub struct BrokerStore {
    address: BrokerAddress,
    client: HttpClient,
    key: Option<Secret>,
    timeout: Duration,
    clock: SystemClock,
}

impl BrokerStore {
    /// The broker at this address. Each question ends by `timeout`, counted from the start of `clock`.
    pub fn new(address: &BrokerAddress, timeout: Duration, clock: SystemClock) -> Self {
        // Loopback needs neither a proxy nor CA roots.
        let client = HttpClient::new(&NetworkSettings::default());
        let client = match address {
            BrokerAddress::Unix(socket) => client.to_socket(socket),
            BrokerAddress::Loopback(_) => client,
        };
        Self { address: address.clone(), client, key: environment::broker_key(), timeout, clock }
    }

    /// Asks the broker, once.
    pub fn ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        let response = self.response(ask)?;
        match ask {
            Ask::Profile => Ok(Answer::Level(profile_of(&response)?.level)),
            Ask::Token { kind, .. } => self.token(&response, *kind),
            Ask::Rejected(_) => self.token(&response, TokenKind::AccessToken),
        }
    }

    fn token(&self, response: &Response, kind: TokenKind) -> Result<Answer, Failure> {
        let session = client::session(response, kind, self.clock.now().wall)?;
        let profile = client::served_profile(response).map(str::to_owned);
        profile.as_deref().map_or(Ok(()), check_name)?;
        Ok(Answer::Token { session: Box::new(session), profile })
    }

    /// What the broker says about its profile. A profile without a grant is a failure with exit code 3.
    pub fn profile(&self) -> Result<Profile, Failure> {
        profile_of(&self.response(&Ask::Profile)?)
    }

    /// The same. `None`: the profile has no grant.
    pub fn profile_if_any(&self) -> Result<Option<Profile>, Failure> {
        match self.profile() {
            Err(failure) if failure.kind == Kind::LoginRequired => Ok(None),
            read => read.map(Some),
        }
    }

    fn response(&self, ask: &Ask) -> Result<Response, Failure> {
        let origin = match &self.address {
            BrokerAddress::Unix(_) => OVER_SOCKET,
            BrokerAddress::Loopback(origin) => origin,
        };
        if self.key.as_ref().is_some_and(|key| !is_visible_ascii(key.expose())) {
            let message = "the key in ONEGRANT_BROKER_KEY has a character that no key has, such as a newline";
            return Err(
                Failure::new(Kind::Usage, message).hint("onegrant exec --help   # --serve sets the key")
            );
        }
        let left = self.timeout.saturating_sub(self.clock.now().elapsed).max(LEAST_ASK);
        let response = self.client.send(&client::request(ask, origin, self.key.as_ref()), left)?.response();
        let response = response.map_err(|failure| {
            let message = format!("no answer from the broker: {}", failure.message);
            Failure::new(failure.kind, message).hint(client::DOCTOR)
        })?;
        match (response.status, &self.key) {
            (401, None) if client::is_refusal(&response) => {
                Err(Failure::new(Kind::Usage, "the broker wants a key, and ONEGRANT_BROKER_KEY is not set")
                    .hint("pass ONEGRANT_BROKER_KEY on, as docker run -e ONEGRANT_BROKER_KEY does"))
            }
            _ => Ok(response),
        }
    }

    /// The failure of whatever would change the grant.
    pub fn other_side() -> Failure {
        Failure::new(Kind::Usage, "the grant belongs to the other side of the broker")
            .hint("where the grant is, run this without broker: in --store and ONEGRANT_STORE")
    }
}

fn profile_of(response: &Response) -> Result<Profile, Failure> {
    let profile = client::profile(response)?;
    profile.profile.as_deref().map_or(Ok(()), check_name)?;
    Ok(profile)
}

/// Refuses a name that no profile has. Hints are commands with this name: the other side must not write them.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_valid = ProfileName::new(name).is_some();
    is_valid.then_some(()).ok_or_else(|| client::no_broker("no profile can have the name that it says"))
}

impl Store for BrokerStore {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        let Some(profile) = self.profile_if_any()? else { return Ok(None) };
        let document = json!({
            "version": 1,
            "issuer": profile.issuer,
            "token_endpoint": "",
            "client_id": "",
            "scope": profile.scope,
            "resource": profile.resource,
            "git_hosts": profile.git_hosts,
            "git_username": profile.git_username,
            "session": null,
        });
        let bytes = json_bytes(&document)?;
        Ok(Some(Snapshot { revision: revision(&bytes), bytes, warning: None, distrust: None }))
    }

    fn replace(&self, _: &Revision, _: &[u8], _: Option<RecordName>) -> WriteResult {
        WriteResult::Failed { failure: Self::other_side(), kept: None }
    }

    fn remove(&self, _: &Revision, _: &[u8]) -> WriteResult {
        WriteResult::Failed { failure: Self::other_side(), kept: None }
    }

    fn lock(&self, _: LockMode, _: Duration) -> Locked {
        Locked::Failed(Self::other_side())
    }

    fn records(&self, _: &str) -> Result<Vec<Record>, Failure> {
        Ok(Vec::new())
    }

    fn create_record(&self, _: &NewRecord) -> Result<Option<u64>, Failure> {
        Err(Self::other_side())
    }

    fn rewrite_record(&self, _: RecordName, _: &[u8], _: &[u8], _: bool) -> Result<(), Failure> {
        Err(Self::other_side())
    }

    fn remove_record(&self, _: RecordName, _: &[u8]) -> Result<(), Failure> {
        Err(Self::other_side())
    }

    fn adopt(&self, _: RecordName, _: &Revision) -> Result<bool, Failure> {
        Err(Self::other_side())
    }

    fn location(&self) -> String {
        let address = StoreAddress::Broker(self.address.clone()).text();
        format!("the broker at {}", printable(&address.to_string_lossy().replacen("broker:", "", 1)))
    }
}
