//! The protocol between a broker and the processes that ask it for tokens: three paths over HTTP. The [`client`] is the store
//! of those processes; the [`server`] is the broker's side, and has the [`shape`] of another server beside it. See "Brokers"
//! in `docs/design.md`.

pub mod client;
pub mod server;
pub mod shape;

pub use crate::session::brokered::Ask;

use crate::error::Kind;
use crate::grant::UnixSeconds;
use crate::session::condition::State;
use serde::{Deserialize, Serialize};

/// The path of a token.
pub const TOKEN: &str = "/v1/token";

/// The path where a refused token is exchanged for another one.
pub const REJECTED: &str = "/v1/rejected";

/// The path of what is needed to use the tokens.
pub const PROFILE: &str = "/v1/profile";

/// The parameters of [`TOKEN`].
const MIN_TTL: &str = "min_ttl";
const ID_TOKEN: &str = "id_token";

/// The header field with the name of the profile that the broker serves.
pub const PROFILE_FIELD: &str = "onegrant-profile";

/// The longest token that a request may bring, in bytes. Tokens with many claims take some tens of KiB.
pub const BODY_LIMIT: usize = 128 << 10;

/// What a broker says about its profile. No member is a secret, and none is a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name of the profile on the broker's side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The issuer.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The granted scope, if it is known.
    #[serde(default)]
    pub scope: Option<String>,
    /// The resources that the tokens are for (RFC 8707).
    #[serde(default)]
    pub resource: Vec<String>,
    /// The hosts that may be given the token.
    #[serde(default)]
    pub git_hosts: Vec<String>,
    /// The user name beside the token.
    #[serde(default)]
    pub git_username: Option<String>,
    /// How refreshes exclude each other in the store of the broker: the name of its level. `None`: its store does not answer.
    #[serde(default)]
    pub level: Option<String>,
    /// Whether a token can be obtained.
    #[serde(default)]
    pub state: State,
    /// When the access token ends.
    #[serde(default)]
    pub expires_at: Option<UnixSeconds>,
}

/// What a broker says instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The exit code of a command that fails for this reason.
    pub code: u8,
    /// What failed and why.
    pub message: String,
    /// The command that helps, on the broker's side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The status of an answer that refuses for this reason.
pub fn status_of(kind: Kind) -> u16 {
    match kind {
        Kind::Usage => 400,
        Kind::LoginRequired => 409,
        Kind::Temporary => 503,
        Kind::Store | Kind::Defect => 500,
    }
}
