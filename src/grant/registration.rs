//! The registration of a client that a login registered by itself (RFC 7591).

use super::{Secret, UnixSeconds, non_empty};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the server that registered the client said about it, except for its identifier and its secret, which the document
/// has as those of any client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The issuer that the client is registered with. To another one its identifier means nothing.
    pub issuer: String,
    /// The registration endpoint (RFC 7591 section 3).
    pub endpoint: String,
    /// The one redirect URI that is registered. Without a port only the device flow can use the client.
    pub redirect_uri: String,
    /// When it was registered.
    pub registered_at: UnixSeconds,
    /// When the secret of the client ends (RFC 7591 section 3.2.1). `None`: never, or there is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_expires_at: Option<UnixSeconds>,
    /// The client configuration endpoint of this client (RFC 7592 section 2), where the server can be asked to forget it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_uri: Option<String>,
    /// The registration access token, for that endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "non_empty")]
    pub management_token: Option<Secret>,
    /// When the login began that sent a person to the server with this client, and from which no answer has come back.
    /// `None`: every one has come back. A server that no longer knows a client says so on its own page, to the person alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited_since: Option<UnixSeconds>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
