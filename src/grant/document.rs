//! The document: one profile as a store keeps it.

use super::client::{ClientAuthentication, ClientGrant, ClientKey};
use super::{Registration, Secret, Session, UnixSeconds, is_visible_ascii, json_bytes, non_empty};
use crate::error::Failure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// The format version that this program writes.
pub const VERSION: u64 = 1;

/// The largest document that is read or written, in bytes: an answer of 1 MiB fits, even if every character is escaped.
pub const DOCUMENT_LIMIT: usize = 8 << 20;

/// The flow of a login. The next `onegrant login` uses the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// RFC 8628.
    Device,
    /// RFC 8252.
    Browser,
    /// A refresh token from another program.
    Imported,
    /// [`ClientGrant`].
    Client,
}

/// One login. Its identifier distinguishes it from every other login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Random.
    pub id: String,
    /// When it began.
    pub at: UnixSeconds,
    /// Its flow.
    pub flow: Flow,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What the next access token is requested with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A refresh token (RFC 6749 section 6).
    RefreshToken(Secret),
    /// The client's own credentials. No request spends them.
    Client(ClientGrant),
}

/// Why the session was cleared: the server rejected this refresh token. A late answer to exactly this refresh token may
/// still replace the cleared session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The digest of the credential.
    #[serde(rename = "refresh_token_sha256")]
    pub credential_sha256: String,
    /// When it was cleared.
    pub at: UnixSeconds,
    /// The message of the failure. Every later call ends with the same message.
    pub message: String,
    /// The hint. `None`: a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Rejected {
    /// This refresh token was rejected; a login is required.
    pub fn new(credential_sha256: String, at: UnixSeconds, message: String) -> Self {
        Self { credential_sha256, at, message, hint: None, other: Map::new() }
    }

    /// The mark of a logout or a migration in a document that cannot be removed. It names no credential, so no late answer
    /// may replace it. Older versions of this program respect it, too.
    pub fn tombstone(at: UnixSeconds, message: String) -> Self {
        Self::new(String::new(), at, message)
    }
}

/// A session on its way from one store to another. No process uses it in this place, in either store: see
/// [`crate::session::migration`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Random. [`Document::moved`] gets the same value in the store where the session arrives.
    pub id: String,
    /// The address of the target store.
    pub to: String,
    /// The address of the source store. Only in the target store, before the session can be used there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether the target store has the session. Only in the source store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_arrived: bool,
    /// The session that is moved.
    pub session: Session,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Which process refreshed last; for people (`onegrant status`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRefresh {
    /// When the request was sent.
    pub at: UnixSeconds,
    /// Host name.
    pub host: String,
    /// Process identifier on that host.
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
    /// Whether `issuer` is only assumed: it is the origin of the token endpoint, because no issuer is known.
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
    /// The pushed authorization request endpoint (RFC 9126 section 2), if every authorization request must be sent there
    /// first.
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
    /// The environment variable that holds the client secret, if it is not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_env: Option<String>,
    /// The key that signs the client's assertions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<ClientKey>,
    /// How the client authenticates.
    #[serde(default)]
    pub client_auth: ClientAuthentication,
    /// The registration of the client, if a login registered it. `None`: a person named the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// The scope that the login requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The resources that the tokens are for, as resource indicators (RFC 8707).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource: Vec<String>,
    /// Whether `resource` is left out of every request, because the server refuses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_resource: bool,
    /// The address of the protected resource metadata (RFC 9728) that named the resource and the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_metadata: Option<String>,
    /// The audience, for servers that need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Further parameters of every request, as given by `--param`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The only loopback port that the server accepts in a redirect. `None`: any port (RFC 8252 section 7.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<u16>,
    /// The loopback redirect URI that is registered at the server. `None`: `http://127.0.0.1/callback` with any port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// How the client requests the next access token on its own behalf. `None`: with a refresh token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<ClientGrant>,
    /// The git servers that may be given this grant's tokens: `HOST` or `HOST:PORT`, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git_hosts: Vec<String>,
    /// The user name that those servers need beside a token. `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_username: Option<String>,
    /// The provider of the server: a row of [`crate::protocol::providers`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The login that obtained this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// The session of the last login or refresh. `None` after a dead grant was cleared.
    pub session: Option<Session>,
    /// Why the session was cleared. `None` while there is a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// The session during a migration; [`Document::session`] is `None` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// The identifier of the migration that brought this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// The last refresh. `None`: none since the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh: Option<LastRefresh>,
    /// Why the program, the files and the variables that this document names must not be used: another user may have named
    /// them. Not stored. `None`: the store is trusted, or the document names nothing.
    #[serde(skip)]
    pub distrust: Option<Box<Failure>>,
    /// Members that this version does not know. A rewrite keeps them.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why bytes are not a document. They are never overwritten, except by a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No bytes at all.
    Empty,
    /// JSON that ends too early: the write was interrupted.
    Torn,
    /// Not a document; the text says what is wrong.
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
    /// A document that has only a server.
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
            registration: None,
            scope: None,
            resource: Vec::new(),
            no_resource: false,
            resource_metadata: None,
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

    /// Parses a document. serde_json bounds the depth (128), the caller bounds the length ([`DOCUMENT_LIMIT`]).
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

    /// Whether the document names anything that onegrant would run or read: a source of subject tokens, a key, a variable,
    /// the program of a store.
    pub fn names_sources(&self) -> bool {
        let is_exchange = matches!(self.grant, Some(ClientGrant::TokenExchange { .. }));
        let mut stores = self.moving.iter().flat_map(|moving| moving.from.iter().chain([&moving.to]));
        let has_program = stores.any(|store| store.starts_with("helper:"));
        is_exchange || self.client_key.is_some() || self.client_secret_env.is_some() || has_program
    }

    /// Fails if what the document names must not be run or read. Call it before each use, and before a rewrite, which makes
    /// the caller the owner of the file.
    pub fn check_trust(&self) -> Result<(), Failure> {
        self.distrust.as_deref().cloned().map_or(Ok(()), Err)
    }

    /// The bytes of the document, with a newline at the end. A failure is a defect.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = json_bytes(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// This configuration with that session. What belongs to another session is removed.
    pub fn with_session(&self, session: Session) -> Self {
        Self { session: Some(session), rejected: None, moving: None, ..self.clone() }
    }

    /// This configuration without a session, for a document that cannot be removed. No late answer may replace it. It forgets
    /// a client that a login registered: the registration ends with the grant, or belongs to the store that has it now.
    pub fn without_grant(&self, at: UnixSeconds, message: String) -> Self {
        let rejected = Some(Rejected::tombstone(at, message));
        let gone = Self { session: None, rejected, moving: None, moved: None, ..self.clone() };
        match self.registration {
            None => gone,
            Some(_) => Self {
                client_id: String::new(),
                client_secret: None,
                client_auth: ClientAuthentication::None,
                registration: None,
                ..gone
            },
        }
    }

    /// Whether this is the result of [`Document::without_grant`]. A commit, a login and a migration treat it as no document.
    pub fn has_no_grant(&self) -> bool {
        let is_tombstone = |rejected: &Rejected| rejected.credential_sha256.is_empty();
        self.session.is_none() && self.moving.is_none() && self.rejected.as_ref().is_some_and(is_tombstone)
    }

    /// All sessions in the document: the one in use, and the one that is moved.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.session.iter().chain(self.moving.iter().map(|moving| &moving.session))
    }

    /// Whether this and `other` hold the grant of the same login. A refresh and a migration do not change the login.
    pub fn is_same_grant(&self, other: &Self) -> bool {
        self.login == other.login
    }

    /// Every secret in the document.
    pub fn secrets(&self) -> Vec<&Secret> {
        let session = self.sessions().flat_map(|session| {
            let others = session.refresh_token.iter().chain(&session.id_token);
            others.chain(std::iter::once(&session.access_token))
        });
        let registration = self.registration.iter().filter_map(|client| client.management_token.as_ref());
        session.chain(&self.client_secret).chain(registration).collect()
    }

    /// The resource indicators that every request carries (RFC 8707 section 2).
    pub fn resource_indicators(&self) -> &[String] {
        if self.no_resource { &[] } else { &self.resource }
    }

    /// The issuer identifier, unless it is only assumed.
    pub fn known_issuer(&self) -> Option<&str> {
        self.issuer.as_deref().filter(|_| !self.issuer_is_assumed)
    }

    /// The refresh token of the session, if there is one.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.session.as_ref()?.refresh_token.as_ref()
    }

    /// What the next access token is requested with. `None`: only a login brings another one.
    pub fn credential(&self) -> Option<Credential> {
        let session = self.session.as_ref()?;
        match &self.grant {
            Some(grant) => Some(Credential::Client(grant.clone())),
            None => session.refresh_token.clone().map(Credential::RefreshToken),
        }
    }

    /// The digest of [`Document::credential`], which names it in attempt records: SHA-256 of the refresh token, or of
    /// `TOKEN_ENDPOINT CLIENT_ID` for the client's own credentials.
    pub fn credential_sha256(&self) -> Option<String> {
        Some(match self.credential()? {
            Credential::RefreshToken(refresh_token) => refresh_token.sha256(),
            Credential::Client(_) => {
                Secret::new(format!("{} {}", self.token_endpoint, self.client_id)).sha256()
            }
        })
    }
}

/// What is wrong with bytes that do not parse. A later version may have changed any member, so look for its number first.
/// serde_json's messages quote values, which may be secrets: use only the position.
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
            Unreadable::Foreign(format!("not JSON at line {} column {}", error.line(), error.column()))
        }
        Err(_) => Unreadable::Foreign("it has no format version".to_owned()),
    }
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
            ("registration", r#""issuer":"i","endpoint":"e","redirect_uri":"r","registered_at":1"#),
        ];
        for (name, members) in inner {
            let with = format!("\"{name}\":{{{members},\"later\":[1]}},\"session\"");
            let document = Document::parse(DOCUMENT.replace("\"session\"", &with).as_bytes()).unwrap();
            let again: Value = serde_json::from_slice(&document.to_bytes().unwrap()).unwrap();
            assert_eq!(again[name]["later"][0], 1, "{name}");
        }
    }

    /// JSON can escape half a character. serde_json checks that only in text that it keeps.
    #[test]
    fn text_that_is_not_unicode_is_refused_in_inner_objects_too() {
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
    fn each_kind_of_unreadable_file_is_distinguished() {
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

    /// A client that a person named stays for the next login.
    #[test]
    fn a_document_without_its_grant_forgets_a_registered_client_alone() {
        let mut document = Document::parse(DOCUMENT.as_bytes()).unwrap();
        document.client_secret = Some(Secret::new("secret"));
        let gone = |document: &Document| document.without_grant(1, "logged out".to_owned());
        assert!(gone(&document).has_no_grant());
        assert_eq!(
            (gone(&document).client_id.as_str(), gone(&document).client_secret.is_some()),
            ("c", true)
        );
        document.registration = serde_json::from_str(
            r#"{"issuer":"i","endpoint":"e","redirect_uri":"r","registered_at":1,"management_token":"management"}"#,
        )
        .unwrap();
        let gone = gone(&document);
        assert!(gone.has_no_grant() && gone.registration.is_none());
        assert_eq!((gone.client_id.as_str(), &gone.client_secret), ("", &None));
        assert_eq!(gone.issuer, document.issuer);
        assert_eq!(Document::parse(&gone.to_bytes().unwrap()), Ok(gone));
        let management = Secret::new("management");
        assert!(document.secrets().contains(&&management), "it is hidden like every other secret");
    }

    #[test]
    fn messages_about_foreign_files_do_not_quote_them() {
        let error =
            Document::parse(br#"{"version":1,"session":"s3cret","client_id":"c","token_endpoint":"t"}"#)
                .unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn an_empty_refresh_token_counts_as_absent() {
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
