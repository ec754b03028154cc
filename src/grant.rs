//! The document: what a store keeps for a profile (format version 1), and the secrets in it.

mod secret;

pub use secret::Secret;

use crate::error::{Failure, Kind};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The format version that this program writes.
pub const VERSION: u64 = 1;

/// The largest document that is read or written, in bytes: an answer of 1 MiB fits in, with every character escaped.
pub const DOCUMENT_LIMIT: usize = 8 << 20;

/// An instant in seconds since the Unix epoch.
pub type UnixSeconds = i64;

/// Lower-case hexadecimal digits of `bytes`.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The JSON of what is stored. A failure is a defect of ours: nothing that is stored can have no JSON.
pub fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value)
        .map_err(|error| Failure::new(Kind::Defect, format!("cannot write what is to be stored: {error}")))
}

/// How the client proves itself at the token endpoint (RFC 6749 section 2.3). Fixed at login: a refresh
/// token is never spent to find it out.
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
    /// The private key, in PEM.
    pub file: PathBuf,
    /// The key's name at the server, the `kid` of the assertion's header (RFC 7515 section 4.1.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the server wants to be called in assertions; none: its issuer identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a profile without a refresh token gets its next access token: the client asks for it in its own name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientGrant {
    /// With its own credentials (RFC 6749 section 4.4).
    ClientCredentials,
    /// With a token that somebody else gave it (RFC 8693).
    TokenExchange {
        /// Where that token is read anew for every request.
        subject_token: SubjectToken,
        /// What kind of token it is (RFC 8693 section 3), as an URI.
        subject_token_type: String,
    },
}

/// Where a subject token comes from. It is read for every request, and never stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectToken {
    /// A file that somebody keeps fresh, such as a Kubernetes projected token.
    File(PathBuf),
    /// The first line that a shell command prints.
    Command(String),
    /// An environment variable of the process that asks for the token, such as those of GitLab's `id_tokens`.
    Environment(String),
    /// The identity endpoint of a GitHub Actions job, asked for this audience.
    GithubActions {
        /// Whom the token is for; none: whom the job's endpoint takes by itself.
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

/// The flow that got a grant; the next `onegrant login` takes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// RFC 8628.
    Device,
    /// RFC 8252.
    Browser,
    /// A refresh token that was got elsewhere.
    Imported,
    /// [`ClientGrant`].
    Client,
}

/// A login, told apart from every other one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Random.
    pub id: String,
    /// When it was stored.
    pub at: UnixSeconds,
    /// How it went.
    pub flow: Flow,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What the next access token is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A refresh token (RFC 6749 section 6).
    RefreshToken(Secret),
    /// What the client has itself. No answer spends it.
    Client(ClientGrant),
}

/// The session: the part of the document that a refresh replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The access token (RFC 6749 section 1.4).
    pub access_token: Secret,
    /// As the server wrote it; `Bearer` where it was silent.
    #[serde(default = "bearer")]
    pub token_type: String,
    /// The refresh token (RFC 6749 section 1.5), where one was granted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "non_empty")]
    pub refresh_token: Option<Secret>,
    /// When the access token ends, by this machine's clock; none where the server did not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub expires_at: Option<UnixSeconds>,
    /// When the request was sent that brought it; 0 where that is unknown.
    #[serde(default, deserialize_with = "required_seconds")]
    pub obtained_at: UnixSeconds,
    /// The ID token (OpenID Connect Core section 2), where one was granted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "non_empty")]
    pub id_token: Option<Secret>,
    /// The granted scope, where it differs from the one asked for or the server repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// When the refresh token itself ends, by this machine's clock; none where the server did not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub refresh_token_expires_at: Option<UnixSeconds>,
    /// The further members of token answers ([`crate::protocol::extra`]), as an object; null where there were none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub extra: Value,
    /// Whether a resource server refused the access token before its time. Goes with the session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub access_token_rejected: bool,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The type of a token that is not an access token, such as an ID token that was exchanged for another one (RFC 8693
/// section 2.2.1). No resource server accepts it in a header.
const NOT_APPLICABLE: &str = "N_A";

impl Session {
    /// Whether the token is an access token.
    pub fn is_access_token(&self) -> bool {
        !self.token_type.eq_ignore_ascii_case(NOT_APPLICABLE)
    }
}

fn bearer() -> String {
    "Bearer".to_owned()
}

/// An empty string counts as absent: an empty token is never stored or sent.
fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(Secret::new))
}

/// Whole or fractional seconds: other programs write documents too, and some clocks give fractions.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixSeconds>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    match number.as_i64() {
        Some(whole) => Ok(Some(whole)),
        // A float-to-integer cast saturates, which is what an absurd instant should do.
        #[expect(clippy::as_conversions, reason = "saturates; there is no `From` for it")]
        None => Ok(number.as_f64().map(|fraction| fraction as UnixSeconds)),
    }
}

fn required_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixSeconds, D::Error> {
    Ok(seconds(deserializer)?.unwrap_or(0))
}

/// The refresh token whose death cleared the session: a late answer to that very token may replace `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which refresh token it was.
    #[serde(rename = "refresh_token_sha256")]
    pub credential_sha256: String,
    /// When it was cleared.
    pub at: UnixSeconds,
    /// What was said about it then; everybody who comes later is told the same.
    pub message: String,
    /// What mends it, where a login does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Rejected {
    /// The death of that refresh token, which a login mends.
    pub fn new(credential_sha256: String, at: UnixSeconds, message: String) -> Self {
        Self { credential_sha256, at, message, hint: None, other: Map::new() }
    }

    /// The mark that a logout or a move leaves where the document itself cannot be removed. It names no refresh token, so
    /// no answer may follow it, from an older version of this program either.
    pub fn farewell(at: UnixSeconds, message: String) -> Self {
        Self::new(String::new(), at, message)
    }
}

/// A session on its way from one store to another. No process uses it while it is here, in either store:
/// see [`crate::session::migration`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Random. [`Document::moved`] has the same value where the session arrives.
    pub id: String,
    /// The address of the store that it goes to.
    pub to: String,
    /// The address of the store that it comes from, where it has arrived and cannot be used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether the other store has it, where it comes from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_arrived: bool,
    /// What is moved.
    pub session: Session,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Who refreshed last; for people (`onegrant status`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRefresh {
    /// When the request was sent.
    pub at: UnixSeconds,
    /// Host name.
    pub host: String,
    /// Process identifier there.
    pub pid: u32,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One profile, as a whole: configuration and session change together, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The format version; [`Document::parse`] refuses a larger one than [`VERSION`].
    pub version: u64,
    /// The authorization server's issuer identifier (RFC 8414 section 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Whether `issuer` stands for an identifier that nobody told: the origin of the token endpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub issuer_is_assumed: bool,
    /// Where refresh tokens are spent (RFC 6749 section 3.2).
    pub token_endpoint: String,
    /// The authorization endpoint (RFC 6749 section 3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    /// The device authorization endpoint (RFC 8628 section 3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<String>,
    /// The pushed authorization request endpoint (RFC 9126 section 2), where the server wants every authorization
    /// request to go there first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_authorization_request_endpoint: Option<String>,
    /// Whether every authorization response names its issuer (RFC 9207 section 3).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub authorization_response_iss: bool,
    /// The revocation endpoint (RFC 7009 section 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// The userinfo endpoint (OpenID Connect Core section 5.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userinfo_endpoint: Option<String>,
    /// The client identifier (RFC 6749 section 2.2).
    pub client_id: String,
    /// The client secret, for a confidential client.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "non_empty")]
    pub client_secret: Option<Secret>,
    /// The environment variable that holds the client secret, where it is not to be stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_env: Option<String>,
    /// The key that signs the client's assertions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<ClientKey>,
    /// How the client authenticates.
    #[serde(default)]
    pub client_auth: ClientAuthentication,
    /// The scope that the login asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Resource indicators (RFC 8707), sent with every token request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource: Vec<String>,
    /// The audience, for the servers that want one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Further parameters of every request, as given by `--param`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The one loopback port that the server lets an authorization response go to; none: any (RFC 8252 section 7.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<u16>,
    /// The loopback redirect URI as the server has registered it; none: `http://127.0.0.1/callback` with any port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// How the client asks for the next access token in its own name; none where a refresh token does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<ClientGrant>,
    /// The git servers that may be given this grant's tokens: `HOST` or `HOST:PORT`, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git_hosts: Vec<String>,
    /// The user name that those servers want beside a token; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_username: Option<String>,
    /// The row of [`crate::protocol::providers`] that the server is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The login that this grant is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// What the last login or refresh left; none after a dead grant was cleared.
    pub session: Option<Session>,
    /// Why the session was cleared; none while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// The session while it is moved away; [`Document::session`] is none then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// Which move brought this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// Who refreshed last; none since the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh: Option<LastRefresh>,
    /// Why the program, the files and the variables that this document names are refused: another user may have named them.
    /// Not stored; none where the store is trusted, or where nothing is named.
    #[serde(skip)]
    pub distrust: Option<Box<Failure>>,
    /// Members that this version does not know: kept through a rewrite.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why bytes are not a document of ours. The bytes stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No bytes at all.
    Empty,
    /// JSON that ends too early: a torn write, by another program or in place.
    Torn,
    /// Something else than a document, and what is wrong with it.
    Foreign(String),
    /// A later format version than [`VERSION`].
    Newer(u64),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("the file is empty"),
            Self::Torn => formatter.write_str("the file ends in the middle of the document"),
            Self::Foreign(why) => write!(formatter, "not a document of onegrant ({why})"),
            Self::Newer(version) => {
                write!(formatter, "format version {version} is newer than this program knows ({VERSION})")
            }
        }
    }
}

impl Document {
    /// A document that knows a server and nothing else yet.
    pub fn new(issuer: &str, token_endpoint: &str) -> Self {
        Self {
            version: VERSION,
            issuer: Some(issuer.to_owned()),
            issuer_is_assumed: false,
            token_endpoint: token_endpoint.to_owned(),
            authorization_endpoint: None,
            device_authorization_endpoint: None,
            pushed_authorization_request_endpoint: None,
            authorization_response_iss: false,
            revocation_endpoint: None,
            userinfo_endpoint: None,
            client_id: String::new(),
            client_secret: None,
            client_secret_env: None,
            client_key: None,
            client_auth: ClientAuthentication::None,
            scope: None,
            resource: Vec::new(),
            audience: None,
            parameters: BTreeMap::new(),
            redirect_port: None,
            redirect_uri: None,
            grant: None,
            git_hosts: Vec::new(),
            git_username: None,
            provider: None,
            login: None,
            session: None,
            rejected: None,
            moving: None,
            moved: None,
            last_refresh: None,
            distrust: None,
            other: Map::new(),
        }
    }

    /// Reads a document. Depth is bounded by serde_json (128), length by the caller ([`DOCUMENT_LIMIT`]).
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Unreadable::Empty);
        }
        let document: Self = match serde_json::from_slice(bytes) {
            Ok(document) => document,
            Err(error) if error.is_eof() => return Err(Unreadable::Torn),
            Err(error) => return Err(foreign(bytes, &error)),
        };
        if document.version > VERSION {
            return Err(Unreadable::Newer(document.version));
        }
        if document.version == 0 {
            return Err(Unreadable::Foreign("version 0".to_owned()));
        }
        match &document.session {
            Some(session) if !is_visible_ascii(session.access_token.expose()) => {
                Err(Unreadable::Foreign("the access token is empty or holds control characters".to_owned()))
            }
            _ => Ok(document),
        }
    }

    /// Whether it names anything that onegrant runs or reads for it: a source, a key, a variable, the program of a store.
    pub fn names_sources(&self) -> bool {
        let is_exchange = matches!(self.grant, Some(ClientGrant::TokenExchange { .. }));
        let mut stores = self.moving.iter().flat_map(|moving| moving.from.iter().chain([&moving.to]));
        let has_program = stores.any(|store| store.starts_with("helper:"));
        is_exchange || self.client_key.is_some() || self.client_secret_env.is_some() || has_program
    }

    /// Fails if what it names must not be run or read. Checked before each use, and before a rewrite makes it the caller's.
    pub fn check_trust(&self) -> Result<(), Failure> {
        self.distrust.as_deref().cloned().map_or(Ok(()), Err)
    }

    /// The bytes of the document, ending in a newline. A failure is a defect of ours.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = json_bytes(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// This configuration with that session, and with nothing that belongs to another one.
    pub fn with_session(&self, session: Session) -> Self {
        Self { session: Some(session), rejected: None, moving: None, ..self.clone() }
    }

    /// This configuration without any session, where the document itself cannot be removed: no answer may follow it.
    pub fn without_grant(&self, at: UnixSeconds, message: String) -> Self {
        let rejected = Some(Rejected::farewell(at, message));
        Self { session: None, rejected, moving: None, moved: None, ..self.clone() }
    }

    /// Whether [`Document::without_grant`] made it: for a commit, a login and a move it counts as no document.
    pub fn has_no_grant(&self) -> bool {
        let is_farewell = |rejected: &Rejected| rejected.credential_sha256.is_empty();
        self.session.is_none() && self.moving.is_none() && self.rejected.as_ref().is_some_and(is_farewell)
    }

    /// The sessions in it, wherever they are: the one that is used, and the one that is on its way.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.session.iter().chain(self.moving.iter().map(|moving| &moving.session))
    }

    /// Whether it holds the grant of the same login as `other`: a refresh and a move leave that as it is.
    pub fn is_same_grant(&self, other: &Self) -> bool {
        self.login == other.login
    }

    /// Every secret in it.
    pub fn secrets(&self) -> Vec<&Secret> {
        let session = self.sessions().flat_map(|session| {
            let others = session.refresh_token.iter().chain(&session.id_token);
            others.chain(std::iter::once(&session.access_token))
        });
        session.chain(&self.client_secret).collect()
    }

    /// The issuer identifier, where it is one.
    pub fn known_issuer(&self) -> Option<&str> {
        self.issuer.as_deref().filter(|_| !self.issuer_is_assumed)
    }

    /// The refresh token of the session, where there is one.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.session.as_ref()?.refresh_token.as_ref()
    }

    /// What the access token after the stored one is asked for with; none where only a login brings another.
    pub fn credential(&self) -> Option<Credential> {
        let session = self.session.as_ref()?;
        match &self.grant {
            Some(grant) => Some(Credential::Client(grant.clone())),
            None => session.refresh_token.clone().map(Credential::RefreshToken),
        }
    }

    /// The name of [`Document::credential`] in attempt records: the refresh token's SHA-256. A client's own grant is named
    /// by whom the client is to whom.
    pub fn credential_sha256(&self) -> Option<String> {
        Some(match self.credential()? {
            Credential::RefreshToken(refresh_token) => refresh_token.sha256(),
            Credential::Client(_) => {
                Secret::new(format!("{} {}", self.token_endpoint, self.client_id)).sha256()
            }
        })
    }
}

/// A later version may have changed any member, so its number is looked for before the complaint is made.
/// serde_json's own messages quote values, which may be secrets: only the position is told.
fn foreign(bytes: &[u8], error: &serde_json::Error) -> Unreadable {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(Versioned { version }) if version > VERSION => Unreadable::Newer(version),
        Ok(_) => Unreadable::Foreign(format!(
            "a member is missing or of the wrong type before line {} column {}",
            error.line(),
            error.column()
        )),
        Err(_) if error.is_syntax() => {
            Unreadable::Foreign(format!("no JSON at line {} column {}", error.line(), error.column()))
        }
        Err(_) => Unreadable::Foreign("it has no format version".to_owned()),
    }
}

/// Whether `token` may stand in a header or on a terminal: not empty, `VSCHAR` alone (RFC 6749 appendix A.12).
pub fn is_visible_ascii(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"version":1,"issuer":"https://as.example","token_endpoint":"https://as.example/token",
        "client_id":"c","client_auth":"none","git_hosts":["git.example:8443"],"later":{"a":[1]},
        "session":{"access_token":"at","token_type":"Bearer","refresh_token":"rt","expires_at":2000.7,"obtained_at":1000,"extra":true}}"#;

    #[test]
    fn unknown_members_survive_a_rewrite() {
        let document = Document::parse(DOCUMENT.as_bytes()).unwrap();
        let again: Value = serde_json::from_slice(&document.to_bytes().unwrap()).unwrap();
        assert_eq!(again["git_hosts"][0], "git.example:8443");
        assert_eq!(again["later"]["a"][0], 1);
        assert_eq!(again["session"]["extra"], true);
        assert_eq!(again["session"]["expires_at"], 2000);
    }

    #[test]
    fn unknown_members_of_inner_objects_survive_a_rewrite() {
        let inner = [
            ("client_key", r#""file":"/key.pem""#),
            ("login", r#""id":"l","at":1,"flow":"device""#),
            ("rejected", r#""refresh_token_sha256":"00","at":1,"message":"m""#),
            ("moving", r#""id":"m","to":"file:/x","session":{"access_token":"at"}"#),
            ("last_refresh", r#""at":1,"host":"h","pid":1"#),
        ];
        for (name, members) in inner {
            let with = format!("\"{name}\":{{{members},\"later\":[1]}},\"session\"");
            let document = Document::parse(DOCUMENT.replace("\"session\"", &with).as_bytes()).unwrap();
            let again: Value = serde_json::from_slice(&document.to_bytes().unwrap()).unwrap();
            assert_eq!(again[name]["later"][0], 1, "{name}");
        }
    }

    /// JSON allows the escape of half a character; serde_json checks it only in text that it keeps.
    #[test]
    fn text_that_is_no_unicode_is_refused_in_inner_objects_too() {
        let with = r#""login":{"id":"l","at":1,"flow":"device","later":"\ud800"},"session""#;
        let Err(Unreadable::Foreign(_)) = Document::parse(DOCUMENT.replace("\"session\"", with).as_bytes())
        else {
            panic!("accepted");
        };
    }

    #[test]
    fn an_unknown_number_is_the_same_after_a_rewrite() {
        let number = "-4.8456228468677253e-57";
        let mut bytes = DOCUMENT.replace("[1]", number).into_bytes();
        for _ in 0..3 {
            bytes = Document::parse(&bytes).unwrap().to_bytes().unwrap();
        }
        let again: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(again["later"]["a"].to_string(), number);
    }

    #[test]
    fn each_kind_of_unreadable_file_is_told_apart() {
        let newer = r#"{"version":2,"session":"moved elsewhere"}"#;
        let cases: [(&str, Unreadable); 5] = [
            ("", Unreadable::Empty),
            (" \n", Unreadable::Empty),
            (&DOCUMENT[..100], Unreadable::Torn),
            (newer, Unreadable::Newer(2)),
            (r#"{"a":1}"#, Unreadable::Foreign("it has no format version".to_owned())),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(Document::parse(bytes.as_bytes()).unwrap_err(), wanted, "{bytes}");
        }
    }

    #[test]
    fn a_token_that_could_forge_a_header_is_refused() {
        let forged = DOCUMENT.replace("\"at\"", "\"a\\r\\nX-Evil: 1\"");
        let Err(Unreadable::Foreign(_)) = Document::parse(forged.as_bytes()) else {
            panic!("accepted");
        };
    }

    #[test]
    fn messages_about_foreign_files_quote_nothing_of_them() {
        let error =
            Document::parse(br#"{"version":1,"session":"s3cret","client_id":"c","token_endpoint":"t"}"#)
                .unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn an_empty_refresh_token_is_none() {
        let document = Document::parse(DOCUMENT.replace("\"rt\"", "\"\"").as_bytes()).unwrap();
        assert_eq!(document.refresh_token(), None);
    }

    #[test]
    fn secrets_do_not_print() {
        let document = Document::parse(DOCUMENT.as_bytes()).unwrap();
        let shown = format!("{document:?}");
        assert!(!shown.contains("\"at\"") && !shown.contains("\"rt\""), "{shown}");
    }
}
