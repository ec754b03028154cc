//! The formats in which a token is handed out. Each of these texts contains the token: it is a secret.

use super::hosts::served;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, Session, TokenKind, UnixSeconds};
use crate::session::expiry_of;
use crate::text::printable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A format of `onegrant token --format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// The token and a newline.
    #[default]
    Raw,
    /// The token and nothing else. Programs that read a file as it is would send a newline, too.
    Bare,
    /// `Bearer TOKEN`, the value of an `Authorization` header.
    Bearer,
    /// A line for `curl -H`.
    Header,
    /// A JSON object of headers, for a program that asks for headers.
    HeadersJson,
    /// One JSON object.
    Json,
    /// A line for `curl -K`.
    Curl,
    /// A line for each server that the profile names.
    Netrc,
    /// An `ExecCredential` of Kubernetes.
    ExecCredential,
}

/// The name of each format.
pub const FORMATS: &[(&str, Format)] = &[
    ("raw", Format::Raw),
    ("bare", Format::Bare),
    ("bearer", Format::Bearer),
    ("header", Format::Header),
    ("headers-json", Format::HeadersJson),
    ("json", Format::Json),
    ("curl", Format::Curl),
    ("netrc", Format::Netrc),
    ("exec-credential", Format::ExecCredential),
];

impl Format {
    /// The name, as `--format` takes it.
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|(_, format)| *format == self).map_or("raw", |(name, _)| name)
    }
}

/// The user name beside a token if neither the profile nor the request names one. Most servers that accept a token as a
/// password accept any user name, but not an empty one.
pub(super) const USERNAME: &str = "oauth2";

/// A token that is handed out, and the session that it belongs to. An access token, unless a kind is named.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    session: &'a Session,
    kind: TokenKind,
    secret: &'a Secret,
}

impl<'a> Given<'a> {
    /// The token of this kind. The session machine hands out no session without it.
    pub fn new(session: &'a Session, kind: TokenKind) -> Result<Self, Failure> {
        let secret = session.token(kind);
        let secret = secret.ok_or_else(|| Failure::new(Kind::LoginRequired, "the grant has no ID token"))?;
        Ok(Self { session, kind, secret })
    }

    /// The token, kept from being printed.
    pub fn secret(&self) -> &'a Secret {
        self.secret
    }

    /// The token itself.
    pub fn token(&self) -> &'a str {
        self.secret.expose()
    }

    /// When it ends, if it says so.
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        expiry_of(self.session, self.kind)
    }

    /// An ID token is sent like a bearer token, whatever type the access token has.
    fn token_type(&self) -> &'a str {
        match self.kind {
            TokenKind::AccessToken => &self.session.token_type,
            TokenKind::IdToken => "Bearer",
        }
    }
}

impl<'a> From<&'a Session> for Given<'a> {
    fn from(session: &'a Session) -> Self {
        Self { session, kind: TokenKind::AccessToken, secret: &session.access_token }
    }
}

/// The token for a program that sends it as a password.
pub fn password<'a>(given: impl Into<Given<'a>>) -> Result<&'a str, Failure> {
    let given = given.into();
    match given.kind == TokenKind::IdToken || given.session.is_access_token() {
        true => Ok(given.token()),
        false => {
            let message = "cannot give the token as a password: it is of type N_A, which is no access token";
            Err(Failure::new(Kind::Usage, message).hint("onegrant token --format json"))
        }
    }
}

/// `Bearer TOKEN`, the value of an `Authorization` header (RFC 6750 section 2.1).
pub fn bearer<'a>(given: impl Into<Given<'a>>) -> Result<String, Failure> {
    let given = given.into();
    match given.token_type().eq_ignore_ascii_case("bearer") {
        true => Ok(format!("Bearer {}", given.token())),
        false => {
            let message =
                format!("cannot make a header: the token is of type {}", printable(given.token_type()));
            Err(Failure::new(Kind::Usage, message).hint("onegrant token --format json"))
        }
    }
}

/// A JSON object with the header that a request needs. Claude Code (`headersHelper`) reads it.
pub fn headers<'a>(given: impl Into<Given<'a>>) -> Result<Value, Failure> {
    Ok(json!({ "Authorization": bearer(given)? }))
}

/// One object with everything that is known about the token. `extra` has the other members of the token answer.
pub fn object<'a>(given: impl Into<Given<'a>>) -> Value {
    let given = given.into();
    let session = given.session;
    let name = match given.kind {
        TokenKind::AccessToken => "access_token",
        TokenKind::IdToken => "id_token",
    };
    let mut object = json!({
        name: given.token(),
        "token_type": given.token_type(),
        "expires_at": given.expires_at(),
        "scope": session.scope,
    });
    if let (Some(object), true) = (object.as_object_mut(), session.extra.is_object()) {
        object.insert("extra".to_owned(), session.extra.clone());
    }
    object
}

/// A line of a configuration file of curl, for `curl -K -`. So the token is not in an argument.
pub fn curl<'a>(given: impl Into<Given<'a>>) -> Result<String, Failure> {
    let header = bearer(given)?.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!("header = \"Authorization: {header}\"\n"))
}

/// A line of `.netrc` for each server that the profile names. The format has neither ports nor spaces.
pub fn netrc<'a>(given: impl Into<Given<'a>>, document: &Document) -> Result<String, Failure> {
    let username = document.git_username.as_deref().unwrap_or(USERNAME);
    let token = password(given)?;
    let mut hosts: Vec<String> = served(document).map(|server| server.host).collect();
    hosts.dedup();
    let refuse = |why: &str| Err(Failure::new(Kind::Usage, format!("cannot write a netrc: {why}")));
    if hosts.is_empty() {
        let failure = refuse("the profile names no server that may be given the token");
        return failure.map_err(|failure| failure.hint("onegrant login --git-host HOST"));
    }
    if [username, token].iter().any(|word| word.is_empty() || word.contains(char::is_whitespace)) {
        return refuse("the format allows no space in a user name or a token");
    }
    let line = |host: &String| format!("machine {host} login {username} password {token}\n");
    Ok(hosts.iter().map(line).collect())
}

/// The version of an `ExecCredential` if kubectl does not say one.
const EXEC_API_VERSION: &str = "client.authentication.k8s.io/v1";

/// An `ExecCredential` of Kubernetes (client-authentication.v1). `exec_info` is the variable `KUBERNETES_EXEC_INFO`; the
/// answer has the same version.
pub fn exec_credential<'a>(given: impl Into<Given<'a>>, exec_info: Option<&str>) -> Result<String, Failure> {
    let given = given.into();
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ExecInfo {
        api_version: String,
    }
    let exec_info = exec_info.map(serde_json::from_str::<ExecInfo>).transpose();
    let exec_info =
        exec_info.map_err(|_| Failure::new(Kind::Usage, "KUBERNETES_EXEC_INFO: no ExecCredential"))?;
    let api_version = exec_info.map_or_else(|| EXEC_API_VERSION.to_owned(), |info| info.api_version);
    if !["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
        .contains(&api_version.as_str())
    {
        let message =
            format!("KUBERNETES_EXEC_INFO: version {} is neither v1 nor v1beta1", printable(&api_version));
        return Err(Failure::new(Kind::Usage, message));
    }
    // The API server may accept an ID token, also one that was exchanged for another token.
    if given.session.is_access_token() {
        bearer(given)?;
    }
    let mut status = json!({ "token": given.token() });
    if let (Some(end), Some(status)) = (given.expires_at(), status.as_object_mut()) {
        status.insert("expirationTimestamp".to_owned(), timestamp(end).into());
    }
    let credential = json!({ "apiVersion": api_version, "kind": "ExecCredential", "status": status });
    Ok(format!("{credential}\n"))
}

/// An instant in UTC (RFC 3339 section 5.6), limited to what the format can write.
pub fn timestamp(instant: UnixSeconds) -> String {
    // 9999-12-31: the last day of a year with four digits.
    let instant = instant.clamp(0, 253_402_300_799);
    let (days, second) = (instant / 86_400, instant % 86_400);
    // Count years from March, so that the leap day is the last day of a year (proleptic Gregorian calendar).
    let from_march = days + 719_468;
    let (era, day_of_era) = (from_march / 146_097, from_march % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::document;

    fn session(token: &str) -> Session {
        let mut session = document().session.unwrap();
        session.access_token = Secret::new(token);
        session.expires_at = Some(1_700_000_000);
        session
    }

    #[test]
    #[rustfmt::skip]
    fn instants_are_written_as_in_rfc_3339() {
        let cases = [
            (0,               "1970-01-01T00:00:00Z"),
            (-1,              "1970-01-01T00:00:00Z"),
            (86_399,          "1970-01-01T23:59:59Z"),
            (951_782_399,     "2000-02-28T23:59:59Z"),
            (951_782_400,     "2000-02-29T00:00:00Z"),
            (951_868_800,     "2000-03-01T00:00:00Z"),
            (1_700_000_000,   "2023-11-14T22:13:20Z"),
            (1_709_164_800,   "2024-02-29T00:00:00Z"),
            (1_735_689_599,   "2024-12-31T23:59:59Z"),
            (4_107_542_400,   "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (i64::MAX,        "9999-12-31T23:59:59Z"),
        ];
        for (instant, wanted) in cases {
            assert_eq!(timestamp(instant), wanted, "{instant}");
        }
    }

    #[test]
    fn curl_reads_back_the_same_token() {
        assert_eq!(curl(&session(r#"a"b\c"#)).unwrap(), "header = \"Authorization: Bearer a\\\"b\\\\c\"\n");
    }

    #[test]
    fn netrc_has_a_line_for_each_host_and_no_port() {
        let mut document = document();
        document.git_hosts = ["git.example", "git.example:8443", "b.example"].map(str::to_owned).to_vec();
        let wanted =
            "machine git.example login oauth2 password t\nmachine b.example login oauth2 password t\n";
        assert_eq!(netrc(&session("t"), &document).unwrap(), wanted);
        document.git_username = Some("x-token-auth".to_owned());
        assert!(netrc(&session("t"), &document).unwrap().contains(" login x-token-auth password t\n"));
        assert_eq!(netrc(&session("a b"), &document).unwrap_err().kind, Kind::Usage);
        document.git_hosts.clear();
        let failure = netrc(&session("t"), &document).unwrap_err();
        assert_eq!((failure.kind, failure.hint.is_some()), (Kind::Usage, true));
    }

    #[test]
    fn an_exec_credential_has_the_requested_version() {
        let of = |asked: Option<&str>| exec_credential(&session("t"), asked);
        let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let v1beta1 =
            r#"{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential","spec":{}}"#;
        let status = json!({ "token": "t", "expirationTimestamp": "2023-11-14T22:13:20Z" });
        for (asked, version) in [(None, "v1"), (Some(v1beta1), "v1beta1")] {
            let api_version = format!("client.authentication.k8s.io/{version}");
            let wanted = json!({ "apiVersion": api_version, "kind": "ExecCredential", "status": status });
            assert_eq!(read(of(asked).unwrap()), wanted);
        }
        for asked in ["", "{}", r#"{"apiVersion":"client.authentication.k8s.io/v2"}"#] {
            assert_eq!(of(Some(asked)).unwrap_err().kind, Kind::Usage, "{asked}");
        }
        let endless = Session { expires_at: None, ..session("t") };
        assert_eq!(read(exec_credential(&endless, None).unwrap())["status"], json!({ "token": "t" }));
    }

    #[test]
    fn only_a_bearer_token_goes_into_a_header() {
        let of_type = |token_type: &str| Session { token_type: token_type.to_owned(), ..session("t") };
        assert_eq!(bearer(&of_type("bEARER")).unwrap(), "Bearer t");
        for refused in [
            bearer(&of_type("DPoP")).map(drop),
            headers(&of_type("DPoP")).map(drop),
            curl(&of_type("DPoP")).map(drop),
            exec_credential(&of_type("DPoP"), None).map(drop),
            bearer(&of_type("N_A")).map(drop),
            curl(&of_type("n_a")).map(drop),
            password(&of_type("N_A")).map(drop),
        ] {
            assert_eq!(refused.unwrap_err().kind, Kind::Usage);
        }
        assert!(exec_credential(&of_type("N_A"), None).unwrap().contains(r#""token":"t""#));
    }
}
