//! The broker's side: what a request asks for, and the bytes of an answer.

use super::shape::{Facts, Question, Shape};
use super::{Ask, ID_TOKEN, MIN_TTL, PROFILE, PROFILE_FIELD, Profile, REJECTED, Refusal, TOKEN, status_of};
use crate::adapters::formats::{self, Given};
use crate::error::{Failure, Kind};
use crate::grant::{Secret, Session, TokenKind, UnixSeconds, is_visible_ascii};
use crate::protocol::loopback::in_origin_form;
use form_urlencoded::parse;
use httparse::{EMPTY_HEADER, Error, Header, Status};
use zeroize::Zeroizing;

/// The longest head of a request, in bytes. A client of a broker sends some hundred.
pub const HEAD_LIMIT: usize = 8 << 10;

/// The most header fields of a request.
const FIELDS: usize = 64;

/// What an answer is made of, as a program reads it.
const JSON: &str = "application/json";

/// Where requests arrive, and what a process has to show there.
#[derive(Clone, Debug, Default)]
pub struct Entrance {
    /// The key. `None`: the socket itself tells which user asks.
    pub key: Option<Secret>,
    /// The port on loopback. `None`: a Unix socket, to which no web page leads.
    pub port: Option<u16>,
    /// The name of the profile that is served. Empty: another broker knows it.
    pub profile: String,
}

/// A request that is not answered: the status, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u16, pub &'static str);

/// What a request to one of the broker's own paths asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it is in the head.
    Whole(Ask),
    /// Another token than the one in the body, which has that many bytes.
    OtherThan(usize),
}

/// The fields of a head, before they are read.
pub type Room<'a> = [Header<'a>; FIELDS];

/// An empty [`Room`].
pub fn room<'a>() -> Room<'a> {
    [EMPTY_HEADER; FIELDS]
}

/// The head of a request.
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The path of the target.
    pub path: &'a str,
    /// The query of the target; empty if there is none.
    pub query: &'a str,
    fields: &'a [Header<'a>],
}

impl<'a> Head<'a> {
    /// Reads the head at the beginning of `bytes`, and gives its length, too. `None`: it is not whole yet.
    pub fn read(bytes: &'a [u8], room: &'a mut Room<'a>) -> Result<Option<(Self, usize)>, Refused> {
        let mut request = httparse::Request::new(room);
        match request.parse(bytes) {
            Ok(Status::Complete(length)) if length <= HEAD_LIMIT => {
                let target = in_origin_form(request.path.unwrap_or_default());
                let target = target.ok_or(Refused(400, "its target is no path"))?;
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                let method = request.method.unwrap_or_default();
                Ok(Some((Self { method, path, query, fields: request.headers }, length)))
            }
            Ok(Status::Partial) if bytes.len() <= HEAD_LIMIT => Ok(None),
            Ok(_) | Err(Error::TooManyHeaders) => Err(Refused(431, "its head is too long")),
            Err(_) => Err(Refused(400, "it is not HTTP/1.1")),
        }
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Whether a field of this name is there, whatever its value is.
    fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The values of the fields of this name. One that is no text is empty.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let fields = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| core::str::from_utf8(field.value).unwrap_or_default())
    }

    /// Refuses what a web page in a browser on this machine can send (DNS rebinding, requests to another origin), and what
    /// comes through a proxy. Before anything else is looked at.
    pub fn check_origin(&self, entrance: &Entrance) -> Result<(), Refused> {
        let is_of_a_page =
            self.has("origin") || self.field("sec-fetch-site").is_some_and(|site| site != "none");
        if is_of_a_page {
            return Err(Refused(403, "it comes from a web page"));
        }
        if self.has("x-forwarded-for") {
            return Err(Refused(403, "it comes through a proxy: name 127.0.0.1 in NO_PROXY"));
        }
        let Some(port) = entrance.port else { return Ok(()) };
        let mut hosts = self.all("host");
        let is_own = |host: &str| {
            let (name, its_port) = host.rsplit_once(':').unwrap_or_default();
            its_port == port.to_string()
                && ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
        };
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if is_own(host) => Ok(()),
            _ => Err(Refused(403, "its Host is not that of this broker")),
        }
    }

    /// Refuses a process that does not have the key. Digests are compared: how long that takes tells nothing about the key.
    pub fn check_key(&self, entrance: &Entrance) -> Result<(), Refused> {
        let Some(key) = &entrance.key else { return Ok(()) };
        let shown = self.field("authorization").unwrap_or_default();
        let (scheme, shown) = shown.split_once(' ').unwrap_or_default();
        match scheme.eq_ignore_ascii_case("bearer")
            && Secret::new(shown.trim_start()).sha256() == key.sha256()
        {
            true => Ok(()),
            false => Err(Refused(401, "it does not have the key of this broker")),
        }
    }

    /// What a request to one of the broker's own paths asks for.
    pub fn asked(&self) -> Result<Asked, Refused> {
        let wanted = match self.path {
            TOKEN | PROFILE => "GET",
            REJECTED => "POST",
            _ => return Err(Refused(404, "a broker has no such path")),
        };
        if self.method != wanted {
            return Err(Refused(405, "the path has another method"));
        }
        if self.has("expect") {
            return Err(Refused(417, "its body is expected at once"));
        }
        match self.path {
            PROFILE => Ok(Asked::Whole(Ask::Profile)),
            TOKEN => self.token().map(Asked::Whole),
            _ => self.body_length().map(Asked::OtherThan),
        }
    }

    fn token(&self) -> Result<Ask, Refused> {
        let (mut kind, mut min_ttl) = (TokenKind::AccessToken, 0);
        for (name, value) in parse(self.query.as_bytes()) {
            match &*name {
                MIN_TTL => match value.parse() {
                    Ok(seconds @ 0..) => min_ttl = seconds,
                    _ => return Err(Refused(400, "min_ttl is no number of seconds")),
                },
                ID_TOKEN => match &*value {
                    "1" => kind = TokenKind::IdToken,
                    "0" => kind = TokenKind::AccessToken,
                    _ => return Err(Refused(400, "id_token is neither 0 nor 1")),
                },
                // A later version may ask for more.
                _ => {}
            }
        }
        Ok(Ask::Token { kind, min_ttl })
    }

    fn body_length(&self) -> Result<usize, Refused> {
        let mut lengths = self.all("content-length");
        if self.has("transfer-encoding") {
            return Err(Refused(411, "it has no Content-Length"));
        }
        match (lengths.next().map(str::parse), lengths.next()) {
            (None, _) => Err(Refused(411, "it has no Content-Length")),
            (Some(Ok(0)), None) => Err(Refused(400, "the token that was refused is missing")),
            (Some(Ok(length)), None) if length <= super::BODY_LIMIT => Ok(length),
            (Some(Ok(_)), None) => Err(Refused(413, "a token is not that long")),
            _ => Err(Refused(400, "its Content-Length is no number")),
        }
    }
}

/// The work for a request. Equal work has the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Of one of the broker's own paths.
    Own(Ask),
    /// Of another shape: its facts, and this token.
    Shaped(Shape, Option<TokenKind>),
}

impl Task {
    /// Whether its answer has a token. Otherwise the store is enough.
    pub fn needs_token(&self) -> bool {
        !matches!(self, Self::Own(Ask::Profile) | Self::Shaped(_, None))
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// A session with a token of this kind.
    Token(Session, TokenKind),
    /// What is needed to use the tokens.
    Profile(Profile),
    /// For another shape.
    Shaped(Facts, Option<Session>),
    /// Nothing.
    Failed(Failure),
}

impl Answer {
    /// The whole response to a request: on one of the broker's own paths, or to a question of a shape.
    pub fn reply(
        &self,
        question: Option<&Question>,
        entrance: &Entrance,
        now: UnixSeconds,
    ) -> Zeroizing<Vec<u8>> {
        let token = |session, kind| Given::new(session, kind).map(|given| formats::object(given).to_string());
        let body = match (self, question) {
            (Self::Shaped(facts, session), Some(question)) => {
                return question.reply(facts, session.as_ref(), now);
            }
            (Self::Failed(failure), Some(question)) => return question.failed(failure),
            (Self::Token(session, kind), _) => token(session, *kind),
            (Self::Profile(profile), _) => Ok(serde_json::to_string(profile).unwrap_or_default()),
            (Self::Failed(failure), None) => Err(failure.clone()),
            (Self::Shaped(..), None) => Ok(String::new()),
        };
        match body {
            Ok(body) => own(200, &body, entrance),
            Err(failure) => refusal(status_of(failure.kind), &failure, entrance),
        }
    }
}

impl Refused {
    /// The whole response.
    pub fn reply(self, entrance: &Entrance) -> Zeroizing<Vec<u8>> {
        let Self(status, why) = self;
        let failure = Failure::new(Kind::Usage, format!("the broker refuses the request: {why}"));
        refusal(status, &failure, entrance)
    }
}

fn refusal(status: u16, failure: &Failure, entrance: &Entrance) -> Zeroizing<Vec<u8>> {
    let Failure { kind, message, hint } = failure.clone();
    let refusal = Refusal { code: kind.code(), message, hint };
    own(status, &serde_json::to_string(&refusal).unwrap_or_default(), entrance)
}

/// What a whole body asks for: another token than the one in it. A newline at its end does not count.
pub fn other_than(body: &[u8]) -> Result<Ask, Refused> {
    let token = core::str::from_utf8(body).unwrap_or_default().trim_end_matches(['\r', '\n']);
    match is_visible_ascii(token) {
        true => Ok(Ask::Rejected(Secret::new(token))),
        false => Err(Refused(400, "the token that was refused is empty or has control characters")),
    }
}

fn own(status: u16, body: &str, entrance: &Entrance) -> Zeroizing<Vec<u8>> {
    let profile = [(PROFILE_FIELD, entrance.profile.as_str())];
    let fields = if entrance.profile.is_empty() { &[][..] } else { &profile };
    response(status, JSON, fields, &format!("{body}\n"))
}

/// A whole response. It may hold a token.
pub fn response(status: u16, content_type: &str, fields: &[(&str, &str)], body: &str) -> Zeroizing<Vec<u8>> {
    let reason = if status == 200 { "OK" } else { "Refused" };
    let length = body.len();
    let mut head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n"
    );
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // Allocated once: no copy of the token is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + length));
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::document;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// What the request with these lines asks for, or the status with which it is refused.
    fn asked(lines: &str) -> Result<Asked, u16> {
        let entrance = Entrance { key: Some(Secret::new(KEY)), port: Some(8123), profile: String::new() };
        let text = format!("{}\r\n\r\n", lines.replace('\n', "\r\n"));
        let mut room = room();
        let (head, _) = Head::read(text.as_bytes(), &mut room).map_err(status)?.unwrap();
        head.check_origin(&entrance).map_err(status)?;
        head.check_key(&entrance).map_err(status)?;
        head.asked().map_err(status)
    }

    fn status(refused: Refused) -> u16 {
        refused.0
    }

    /// With the fields that every good request has.
    fn asked_well(line: &str, fields: &str) -> Result<Asked, u16> {
        asked(&format!("{line} HTTP/1.1\nHost: 127.0.0.1:8123\nAuthorization: Bearer {KEY}{fields}"))
    }

    #[test]
    fn a_web_page_and_a_process_without_the_key_are_refused() {
        let host = "Host: localhost:8123";
        let key = format!("Authorization: bearer  {KEY}");
        assert!(asked(&format!("GET /v1/token HTTP/1.1\n{host}\n{key}\nSec-Fetch-Site: none")).is_ok());
        for (fields, status) in [
            (host.to_owned(), 401),
            (format!("{host}\nAuthorization: Basic {KEY}"), 401),
            (format!("{host}\nAuthorization: {KEY}"), 401),
            (format!("{host}\nAuthorization: Bearer {KEY}0"), 401),
            (key.clone(), 403),
            (format!("{key}\n{host}\n{host}"), 403),
            (format!("{key}\nHost: localhost"), 403),
            (format!("{key}\nHost: localhost:80"), 403),
            (format!("{key}\nHost: evil.example:8123"), 403),
            (format!("{key}\n{host}\nOrigin: null"), 403),
            (format!("{key}\n{host}\nSec-Fetch-Site: same-origin"), 403),
            (format!("{key}\n{host}\nX-Forwarded-For: 10.0.0.1"), 403),
        ] {
            assert_eq!(asked(&format!("GET /v1/token HTTP/1.1\n{fields}")), Err(status), "{fields}");
        }
    }

    #[test]
    fn each_path_has_its_method_and_its_parameters() {
        let token = |kind, min_ttl| Ok(Asked::Whole(Ask::Token { kind, min_ttl }));
        for (line, fields, wanted) in [
            ("GET /v1/token", "", token(TokenKind::AccessToken, 0)),
            ("GET /v1/token?min_ttl=60&id_token=1&later=1", "", token(TokenKind::IdToken, 60)),
            ("GET /v1/token?min_ttl=-1", "", Err(400)),
            ("GET /v1/token?id_token=yes", "", Err(400)),
            ("GET /v1/profile", "", Ok(Asked::Whole(Ask::Profile))),
            ("POST /v1/profile", "", Err(405)),
            ("GET /v1/rejected", "", Err(405)),
            ("GET /v1/tokens", "", Err(404)),
            ("POST /v1/rejected", "\nContent-Length: 7", Ok(Asked::OtherThan(7))),
            ("POST /v1/rejected", "", Err(411)),
            ("POST /v1/rejected", "\nContent-Length: 0", Err(400)),
            ("POST /v1/rejected", "\nContent-Length: 7\nContent-Length: 8", Err(400)),
            ("POST /v1/rejected", "\nContent-Length: 7\nTransfer-Encoding: chunked", Err(411)),
            ("POST /v1/rejected", "\nContent-Length: 131073", Err(413)),
            ("POST /v1/rejected", "\nContent-Length: 7\nExpect: 100-continue", Err(417)),
            ("GET http://localhost:8123/v1/token?min_ttl=60", "", token(TokenKind::AccessToken, 60)),
            ("GET /v1/token?id_token=%31", "", token(TokenKind::IdToken, 0)),
            ("GET /v1/token?min_ttl=99999999999999999999", "", Err(400)),
            ("GET v1/token", "", Err(400)),
            ("get /v1/token", "", Err(405)),
            ("HEAD /v1/token", "", Err(405)),
            ("GET /v1/token", "\n folded: x", Err(400)),
            ("GET /v1/token", "\nspace : x", Err(400)),
            ("POST /v1/rejected", "\nContent-Length: 0x1", Err(400)),
            ("POST /v1/rejected", "\nContent-Length: 99999999999999999999999", Err(400)),
        ] {
            assert_eq!(asked_well(line, fields), wanted, "{line}{fields}");
        }
    }

    #[test]
    fn a_head_has_a_length_whether_it_is_whole_or_not() {
        let head = |length: usize| {
            let begin = "GET / HTTP/1.1\r\nx: ";
            format!("{begin}{}\r\n\r\n", "x".repeat(length - begin.len() - 4))
        };
        let read = |text: &str| {
            let mut room = room();
            Head::read(text.as_bytes(), &mut room).map(|read| read.map(|(_, length)| length)).map_err(status)
        };
        assert_eq!(read(&head(HEAD_LIMIT)), Ok(Some(HEAD_LIMIT)));
        assert_eq!(read(&head(HEAD_LIMIT + 1)), Err(431));
        assert_eq!(read(&head(HEAD_LIMIT + 3)[..HEAD_LIMIT]), Ok(None));
        assert_eq!(read(&head(HEAD_LIMIT + 5)[..HEAD_LIMIT + 1]), Err(431));
    }

    #[test]
    fn a_body_is_one_token_with_or_without_the_end_of_its_line() {
        for body in ["t", "t\n", "t\r\n"] {
            assert_eq!(other_than(body.as_bytes()), Ok(Ask::Rejected(Secret::new("t"))), "{body:?}");
        }
        for body in ["\n", "a\nb", "\u{1b}", "ä"] {
            assert!(matches!(other_than(body.as_bytes()), Err(Refused(400, _))), "{body:?}");
        }
    }

    #[test]
    fn an_answer_is_a_whole_response_without_a_refresh_token() {
        let session = document().session.unwrap();
        let refresh_token = session.refresh_token.clone().unwrap();
        let entrance = Entrance { profile: "work".to_owned(), ..Entrance::default() };
        let response = Answer::Token(session, TokenKind::AccessToken).reply(None, &entrance, 0);
        let text = core::str::from_utf8(&response).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("onegrant-profile: work"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(!body.contains(refresh_token.expose()) && body.ends_with("}\n"), "as token prints it");
    }

    #[test]
    fn each_failure_has_its_status() {
        for (kind, status, code) in [
            (Kind::Usage, 400, 2),
            (Kind::LoginRequired, 409, 3),
            (Kind::Temporary, 503, 4),
            (Kind::Store, 500, 5),
        ] {
            let failed = Answer::Failed(Failure::new(kind, "why").hint("onegrant doctor"));
            let bytes = failed.reply(None, &Entrance::default(), 0);
            let text = core::str::from_utf8(&bytes).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            let body = format!("{{\"code\":{code},\"message\":\"why\",\"hint\":\"onegrant doctor\"}}\n");
            assert!(text.ends_with(&body), "{text}");
        }
    }
}
