//! The client: how it authenticates, and how it gets a token without a refresh token.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::path::PathBuf;

/// How the client authenticates at the token endpoint (RFC 6749 section 2.3). Fixed at login: a refresh token is never
/// spent to find it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthentication {
    /// A public client: `client_id` in the body.
    #[default]
    None,
    /// `client_secret_basic`: both parts form-encoded, then HTTP Basic (RFC 6749 section 2.3.1).
    Basic,
    /// `client_secret_post`: both parts in the body.
    Post,
    /// `private_key_jwt`: a signed assertion in the body (RFC 7523 section 2.2).
    #[serde(rename = "private_key_jwt")]
    PrivateKeyJwt,
}

/// The key of `private_key_jwt`. It stays in its file, which is read for every assertion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientKey {
    /// The file with the private key, in PEM.
    pub file: PathBuf,
    /// The name of the key at the server: the `kid` in the header of the assertion (RFC 7515 section 4.1.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The audience of assertions. `None`: the issuer identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a profile without a refresh token gets its next access token: the client requests it on its own behalf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientGrant {
    /// With its own credentials (RFC 6749 section 4.4).
    ClientCredentials,
    /// With a token from another issuer (RFC 8693).
    TokenExchange {
        /// Where that token comes from.
        subject_token: SubjectToken,
        /// The type of that token (RFC 8693 section 3), as a URI.
        subject_token_type: String,
    },
}

/// Where a subject token comes from. It is read for every request, and never stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectToken {
    /// A file that another program refreshes, such as a Kubernetes projected token.
    File(PathBuf),
    /// The first line that a shell command prints.
    Command(String),
    /// An environment variable of the process that asks for the token, such as those of GitLab's `id_tokens`.
    Environment(String),
    /// The identity endpoint of a GitHub Actions job.
    GithubActions {
        /// Audience of the token. `None`: the endpoint's default.
        audience: Option<String>,
    },
}

impl fmt::Display for SubjectToken {
    /// As `--subject-token` takes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Command(command) => write!(formatter, "command:{command}"),
            Self::Environment(name) => write!(formatter, "env:{name}"),
            Self::GithubActions { audience: None } => formatter.write_str("github"),
            Self::GithubActions { audience: Some(audience) } => write!(formatter, "github:{audience}"),
        }
    }
}
