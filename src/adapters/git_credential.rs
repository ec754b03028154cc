//! The attribute lists that git and a credential helper exchange (git-credential, "INPUT/OUTPUT FORMAT"; gitcredentials,
//! "CUSTOM HELPERS").

use crate::error::{Failure, Kind};
use crate::grant::{Secret, Session, UnixSeconds, is_visible_ascii};
use crate::text::describe;
use std::io::{BufRead, Read};
use zeroize::Zeroizing;

/// The longest line that git writes, with its newline, in bytes.
pub const LINE_LIMIT: usize = 65_535;

/// The longest attribute list, in bytes: git repeats every challenge of a server.
pub const REQUEST_LIMIT: usize = 1 << 20;

/// Has git end with an error instead of asking other helpers and a person.
pub const QUIT: &str = "quit=1\n";

/// Answers the operation `capability`.
pub const CAPABILITIES: &str = "version 0\ncapability authtype\n";

/// The user name where neither the profile nor the request has one: the servers that take a token as a password
/// mostly take any, and none may be empty.
const USERNAME: &str = "oauth2";

/// What git says about the credential that it asks for, or tells of. Attributes that nobody here needs are dropped;
/// text that is not UTF-8 counts as empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `https`, …
    pub protocol: String,
    /// With the port where the URL has one.
    pub host: String,
    /// The one in the URL.
    pub username: Option<String>,
    /// What was used as a password.
    pub password: Option<Secret>,
    /// What was used in an `Authorization` header.
    pub credential: Option<Secret>,
    /// Which extensions git understands.
    pub capabilities: Vec<String>,
    /// The server's `WWW-Authenticate` headers; none from a git that passes none on (before 2.41).
    pub wwwauth: Vec<String>,
}

impl Request {
    /// Reads a list up to its empty line or the end of `input`, whichever comes first. Every failure is [`Kind::Usage`],
    /// and quotes nothing.
    pub fn read(mut input: &mut dyn BufRead) -> Result<Self, Failure> {
        let refuse =
            |why: String| Failure::new(Kind::Usage, format!("cannot use what git says on stdin: {why}"));
        let most = u64::try_from(LINE_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
        let (mut request, mut length) = (Self::default(), 0_usize);
        loop {
            let mut line = Zeroizing::new(Vec::new());
            let read = Read::take(&mut input, most).read_until(b'\n', &mut line);
            length = length.saturating_add(read.map_err(|error| refuse(describe(&error)))?);
            if line.len() > LINE_LIMIT || length > REQUEST_LIMIT {
                return Err(refuse("it is too long".to_owned()));
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if text.is_empty() {
                return Ok(request);
            }
            let Some(equals) = text.iter().position(|byte| *byte == b'=').filter(|_| !text.contains(&0))
            else {
                return Err(refuse("a line is not of the form KEY=VALUE".to_owned()));
            };
            let (key, value) = text.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            request.take(key, std::str::from_utf8(value).unwrap_or_default());
        }
    }

    fn take(&mut self, key: &[u8], value: &str) {
        // An empty one forgets those before it.
        let push = |list: &mut Vec<String>| match value {
            "" => list.clear(),
            _ => list.push(value.to_owned()),
        };
        match key {
            b"protocol" => self.protocol = value.to_owned(),
            b"host" => self.host = value.to_owned(),
            b"username" => self.username = Some(value.to_owned()),
            b"password" => self.password = Some(Secret::new(value)),
            b"credential" => self.credential = Some(Secret::new(value)),
            b"capability[]" => push(&mut self.capabilities),
            b"wwwauth[]" => push(&mut self.wwwauth),
            _ => {}
        }
    }

    /// What the server was shown.
    pub fn shown(&self) -> Option<&Secret> {
        self.credential.as_ref().or(self.password.as_ref())
    }

    /// Whether git can send the token as what it is, and the server did not ask for something else. Some of the large
    /// ones take a token as a password alone, and say so.
    fn takes_bearer(&self) -> bool {
        self.capabilities.iter().any(|capability| capability == "authtype")
            && (self.wwwauth.is_empty() || self.wwwauth.iter().any(|challenges| offers_bearer(challenges)))
    }
}

/// Whether one of the challenges is of the scheme Bearer (RFC 9110 section 11.6.1, RFC 6750 section 3).
fn offers_bearer(challenges: &str) -> bool {
    let mut is_quoted = false;
    let mut parts = challenges.split(|character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    });
    parts.any(|part| part.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("bearer")))
}

/// The answer to `get`: the access token, and when it ends. Never the refresh token. `username` is the one that the
/// profile's servers want.
///
/// git throws a password away that has ended by its clock, so an end that is not ahead is not told: the token is what
/// there is.
pub fn answer(
    request: &Request,
    session: &Session,
    username: Option<&str>,
    ends: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Secret {
    let token = session.access_token.expose();
    let mut text = if request.takes_bearer() && session.token_type.eq_ignore_ascii_case("bearer") {
        // Ephemeral: no other helper is to keep it.
        format!("capability[]=authtype\nauthtype=Bearer\ncredential={token}\nephemeral=true\n")
    } else {
        let asked = request.username.as_deref();
        let username = username.or(asked).filter(|name| is_visible_ascii(name)).unwrap_or(USERNAME);
        format!("username={username}\npassword={token}\n")
    };
    if let Some(ends) = ends.filter(|ends| *ends > now) {
        text.push_str(&format!("password_expiry_utc={ends}\n"));
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Request {
        Request::read(&mut text.as_bytes()).unwrap()
    }

    fn session(token_type: &str) -> Session {
        serde_json::from_value(serde_json::json!({
            "access_token": "at", "token_type": token_type, "refresh_token": "rt", "obtained_at": 1000,
        }))
        .unwrap()
    }

    fn answered(request: &str, ends: Option<i64>) -> String {
        answer(&read(request), &session("bearer"), None, ends, 1000).expose().to_owned()
    }

    #[test]
    fn a_list_ends_at_its_empty_line_or_with_the_input() {
        let wanted = Request {
            protocol: "https".to_owned(),
            host: "git.example:8443".to_owned(),
            ..Request::default()
        };
        for text in [
            "protocol=https\nhost=git.example:8443\n",
            "protocol=https\nhost=git.example:8443",
            "protocol=https\nhost=git.example:8443\n\nhost=evil\n",
            "protocol=ssh\nprotocol=https\npath=a=b\nlater[]=x\n=\nhost=git.example:8443\n\n",
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_empty_value_forgets_those_before_it() {
        let request =
            read("capability[]=authtype\ncapability[]=\ncapability[]=state\nwwwauth[]=Basic\nwwwauth[]=\n");
        assert_eq!((request.capabilities, request.wwwauth), (vec!["state".to_owned()], Vec::new()));
    }

    #[test]
    fn what_is_no_list_is_refused_without_a_quote() {
        let long = format!("password={}\n", "s".repeat(LINE_LIMIT - "password=\n".len()));
        assert!(read(&long).password.is_some());
        for text in
            ["s3cret\n", "host=a\0s3cret\n", &format!("a{long}"), &"wwwauth[]=s3cret s3cret\n".repeat(50_000)]
        {
            let failure = Request::read(&mut text.as_bytes()).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage);
            assert!(!failure.message.contains("s3cret"), "{failure}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_token_is_a_bearer_where_git_and_server_take_one_and_else_a_password() {
        const BEARER: &str = "capability[]=authtype\nauthtype=Bearer\ncredential=at\nephemeral=true\npassword_expiry_utc=2000\n";
        const PASSWORD: &str = "username=oauth2\npassword=at\npassword_expiry_utc=2000\n";
        let cases = [
            ("",                                                                                BEARER),
            ("wwwauth[]=Basic realm=\"a\"\nwwwauth[]=bearer\n",                                 BEARER),
            ("wwwauth[]=Basic realm=\"a\", Bearer realm=\"b\"\n",                               BEARER),
            ("wwwauth[]=Basic realm=\"git\"\n",                                                 PASSWORD),
            ("wwwauth[]=Basic realm=\"a, Bearer b\"\n",                                         PASSWORD),
            ("capability[]=\n",                                                                 PASSWORD),
        ];
        for (more, wanted) in cases {
            assert_eq!(answered(&format!("capability[]=authtype\n{more}"), Some(2000)), wanted, "{more}");
        }
        assert_eq!(answered("capability[]=state\n", Some(2000)), PASSWORD);
        let other = answer(&read("capability[]=authtype\n"), &session("DPoP"), None, None, 1000);
        assert_eq!(other.expose(), "username=oauth2\npassword=at\n");
    }

    #[test]
    fn an_end_that_is_unknown_or_passed_is_not_told() {
        for ends in [None, Some(1000), Some(-1)] {
            assert_eq!(answered("", ends), "username=oauth2\npassword=at\n");
        }
    }

    #[test]
    fn the_profiles_user_name_wins_over_the_urls_and_forges_no_line() {
        let cases = [
            (None, "", "oauth2"),
            (None, "username=me\n", "me"),
            (None, "username=\n", "oauth2"),
            (Some("x-token-auth"), "username=me\n", "x-token-auth"),
            (Some("a\nquit=1"), "", "oauth2"),
        ];
        for (profile, request, wanted) in cases {
            let answer = answer(&read(request), &session("Bearer"), profile, None, 1000);
            assert_eq!(answer.expose(), format!("username={wanted}\npassword=at\n"), "{profile:?} {request}");
        }
    }
}
