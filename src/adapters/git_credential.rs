//! The attribute lists that git and a credential helper exchange (git-credential, "INPUT/OUTPUT FORMAT"; gitcredentials,
//! "CUSTOM HELPERS").

use super::formats::USERNAME;
use super::hosts::is_mail;
use crate::error::{Failure, Kind};
use crate::grant::{Secret, Session, UnixSeconds, is_visible_ascii};
use crate::protocol::challenge;

/// The longest line that git writes, with its newline, in bytes.
pub const LINE_LIMIT: usize = 65_535;

/// The longest attribute list, in bytes. git repeats every challenge of a server in it.
pub const REQUEST_LIMIT: usize = 1 << 20;

/// Makes git stop with an error. Otherwise it asks other helpers and a person.
pub const QUIT: &str = "quit=1\n";

/// The answer to the operation `capability`.
pub const CAPABILITIES: &str = "version 0\ncapability authtype\n";

/// The attributes that git sends. Attributes that onegrant does not need are dropped. Text that is not UTF-8 counts as
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `https`, …
    pub protocol: String,
    /// With the port, if the URL has one.
    pub host: String,
    /// The user name in the URL.
    pub username: Option<String>,
    /// The password that git used.
    pub password: Option<Secret>,
    /// The credential that git used in an `Authorization` header.
    pub credential: Option<Secret>,
    /// The extensions that git supports.
    pub capabilities: Vec<String>,
    /// The server's `WWW-Authenticate` headers. Git before 2.41 sends none.
    pub wwwauth: Vec<String>,
}

impl Request {
    /// Parses a list up to its empty line or its end. Every failure is [`Kind::Usage`], and quotes nothing.
    pub fn parse(list: &[u8]) -> Result<Self, Failure> {
        let mut request = Self::default();
        for line in list.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()) {
            // With its newline.
            if line.len() >= LINE_LIMIT {
                return Err(unusable("it is too long"));
            }
            let equals = line.iter().position(|byte| *byte == b'=').filter(|_| !line.contains(&0));
            let Some((key, value)) = equals.and_then(|equals| line.split_at_checked(equals)) else {
                return Err(unusable("a line is not of the form KEY=VALUE"));
            };
            let value = value.get(1..).unwrap_or_default();
            request.take(key, std::str::from_utf8(value).unwrap_or_default());
        }
        // A client of mail writes the user name into the message that carries the token.
        let has_control = |name: &String| name.contains(char::is_control);
        match is_mail(&request.protocol) && request.username.as_ref().is_some_and(has_control) {
            true => Err(unusable("the user name has a control character")),
            false => Ok(request),
        }
    }

    fn take(&mut self, key: &[u8], value: &str) {
        // An empty value removes those before it.
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

    /// The token that git sent to the server.
    pub fn sent_token(&self) -> Option<&Secret> {
        self.credential.as_ref().or(self.password.as_ref())
    }

    /// Whether git can send a bearer token, and the server did not ask for another scheme. Some large servers accept a
    /// token only as a password, and say so. A program that sends mail reads only a password.
    fn takes_bearer(&self) -> bool {
        !is_mail(&self.protocol)
            && self.capabilities.iter().any(|capability| capability == "authtype")
            && (self.wwwauth.is_empty() || self.wwwauth.iter().any(|field| offers_bearer(field)))
    }
}

/// The failure of a list that git would not send.
pub fn unusable(why: &str) -> Failure {
    Failure::new(Kind::Usage, format!("cannot use what git says on stdin: {why}"))
}

/// Whether one of the challenges in a `WWW-Authenticate` field is for a bearer token (RFC 6750 section 3).
fn offers_bearer(field: &str) -> bool {
    challenge::in_field(field).iter().any(|challenge| challenge.is("Bearer"))
}

/// The answer to `get`: the access token, and when it expires. Never the refresh token. `username` is the one that the
/// profile's HTTP servers need. A mail server needs the person's, which git knows or asks for.
///
/// git discards a password that has expired by its clock. So an expiry time that is not in the future is left out: there
/// is no other token.
pub fn answer(
    request: &Request,
    session: &Session,
    username: Option<&str>,
    expires_at: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Secret {
    let token = session.access_token.expose();
    let mut text = if request.takes_bearer() && session.token_type.eq_ignore_ascii_case("bearer") {
        // Ephemeral: no other helper may store it.
        format!("capability[]=authtype\nauthtype=Bearer\ncredential={token}\nephemeral=true\n")
    } else {
        let requested = request.username.as_deref();
        let username = match is_mail(&request.protocol) {
            true => requested.filter(|name| !name.is_empty()),
            false => Some(username.or(requested).filter(|name| is_visible_ascii(name)).unwrap_or(USERNAME)),
        };
        let username = username.map(|username| format!("username={username}\n")).unwrap_or_default();
        format!("{username}password={token}\n")
    };
    if let Some(expires_at) = expires_at.filter(|expires_at| *expires_at > now) {
        text.push_str(&format!("password_expiry_utc={expires_at}\n"));
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Request {
        Request::parse(text.as_bytes()).unwrap()
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
    fn a_list_ends_at_its_empty_line_or_at_the_end_of_the_input() {
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
    fn an_empty_value_removes_those_before_it() {
        let request =
            read("capability[]=authtype\ncapability[]=\ncapability[]=state\nwwwauth[]=Basic\nwwwauth[]=\n");
        assert_eq!((request.capabilities, request.wwwauth), (vec!["state".to_owned()], Vec::new()));
    }

    #[test]
    fn a_malformed_list_is_refused_and_not_quoted() {
        let long = format!("password={}\n", "s".repeat(LINE_LIMIT - "password=\n".len()));
        assert!(read(&long).password.is_some());
        for text in ["s3cret\n", "host=a\0s3cret\n", &format!("a{long}")] {
            let failure = Request::parse(text.as_bytes()).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage);
            assert!(!failure.message.contains("s3cret"), "{failure}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_token_is_sent_as_bearer_if_git_and_server_accept_it_and_else_as_password() {
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
    fn an_unknown_or_past_expiry_time_is_left_out() {
        for ends in [None, Some(1000), Some(-1)] {
            assert_eq!(answered("", ends), "username=oauth2\npassword=at\n");
        }
    }

    #[test]
    fn the_profiles_user_name_wins_over_the_urls_and_cannot_add_a_line() {
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

    #[test]
    fn a_mail_server_gets_a_password_and_the_user_name_that_git_asked_for() {
        let cases = [
            (
                "username=me@mail.example\n",
                "username=me@mail.example\npassword=at\npassword_expiry_utc=2000\n",
            ),
            ("username=jos\u{e9}@a\n", "username=jos\u{e9}@a\npassword=at\npassword_expiry_utc=2000\n"),
            ("username=\n", "password=at\npassword_expiry_utc=2000\n"),
            ("", "password=at\npassword_expiry_utc=2000\n"),
        ];
        for protocol in ["smtp", "smtps", "imap", "imaps", "pop3", "pop3s"] {
            for (username, wanted) in cases {
                let text = format!("capability[]=authtype\nprotocol={protocol}\nhost=a\n{username}");
                let answer = answer(&read(&text), &session("Bearer"), Some("x-token-auth"), Some(2000), 1000);
                assert_eq!(answer.expose(), wanted, "{protocol} {username}");
            }
        }
    }

    #[test]
    fn a_user_name_with_a_control_character_is_refused_for_mail() {
        for name in ["me\r", "me\u{1}auth=Bearer x", "me\u{85}", "\t"] {
            let of = |protocol: &str| {
                Request::parse(format!("protocol={protocol}\nhost=a\nusername={name}\n").as_bytes())
            };
            assert_eq!(of("smtp").unwrap_err().kind, Kind::Usage, "{name:?}");
            assert!(of("https").is_ok(), "{name:?}");
        }
    }
}
