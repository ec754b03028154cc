//! Google's metadata server, as Google's libraries and gcloud ask it on a virtual machine: paths below `/computeMetadata/v1/`,
//! which need no key. The grant is the account `default`. What is not known is not there (404); each client goes on without it.
//! See "The libraries of Google" in `docs/containers-and-ci.md`.

use super::formats::bearer;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Session, TokenKind, UnixSeconds};
use crate::protocol::claims::claims;
use crate::protocol::id_token::audience;
use crate::session::expiry_of;
use crate::text::printable;
use serde_json::{Value, json};

/// The header field that every request and every answer has. A web page cannot send it to another origin.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

/// How long a token should last at least that one of these libraries gets, in seconds. With less, the library for Node.js asks
/// again before each request of its program; those for Python, Go and Java do so below 225 seconds.
pub const MIN_TTL_SECONDS: u64 = 300;

/// What a token whose end is not known is said to last, in seconds. Every library needs a number. They keep such a token for
/// little more than a minute, and the broker knows whether it was replaced.
const UNKNOWN_SECONDS: i64 = 300;

/// The longest lifetime that is told, in seconds. The library for Java multiplies it by 1000 in 32 bits.
const LONGEST_SECONDS: i64 = 86_400;

/// The account if no ID token names one. gcloud uses no account that is called `default`. No domain ends with `.invalid`
/// (RFC 6761 section 6.4).
const UNKNOWN_EMAIL: &str = "default@onegrant.invalid";

/// The number of a project that is not known. gcloud only looks whether it is a number, and otherwise takes the server for
/// none of Google's. No project has it.
const UNKNOWN_PROJECT: u64 = 0;

const TEXT: &str = "application/text";
const JSON: &str = "application/json";

/// The names of members in JSON that differ from those in paths.
const NAMES: [(&str, &str); 3] = [
    ("service-accounts", "serviceAccounts"),
    ("project-id", "projectId"),
    ("numeric-project-id", "numericProjectId"),
];

/// What is known about the grant without a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whose grant it is: the address in the ID token.
    pub email: Option<String>,
    /// The granted scopes.
    pub scopes: Vec<String>,
    /// The project that programs use, if a variable names it.
    pub project: Option<String>,
}

impl Facts {
    /// What the document says.
    pub fn of(document: &Document, project: Option<String>) -> Self {
        let session = document.session.as_ref();
        let scope = session.and_then(|session| session.scope.as_ref()).or(document.scope.as_ref());
        let claims = session.and_then(|session| claims(session.id_token.as_ref()?.expose()));
        let email = claims.and_then(|claims| claims.get("email")?.as_str().map(str::to_owned));
        // It becomes a line and a part of a path.
        let email = email.filter(|email| email.contains('@') && email.bytes().all(is_of_address));
        let scopes =
            scope.into_iter().flat_map(|scope| scope.split_whitespace()).map(str::to_owned).collect();
        Self { email, scopes, project }
    }

    fn email(&self) -> &str {
        self.email.as_deref().unwrap_or(UNKNOWN_EMAIL)
    }

    /// Whether a part of a path is the account of the grant.
    fn is_account(&self, part: &str) -> bool {
        let encoded = || form_urlencoded::byte_serialize(self.email().as_bytes()).collect::<String>();
        part == "default" || part == self.email() || part == encoded()
    }

    /// Everything that has a path, but the tokens.
    fn tree(&self) -> Value {
        let account = json!({ "aliases": ["default"], "email": self.email(), "scopes": self.scopes });
        let mut project = json!({ "numericProjectId": UNKNOWN_PROJECT });
        if let (Some(id), Some(project)) = (&self.project, project.as_object_mut()) {
            project.insert("projectId".to_owned(), id.as_str().into());
        }
        let instance = json!({ "serviceAccounts": { "default": account, self.email(): account } });
        json!({ "computeMetadata": { "v1": { "instance": instance, "project": project } } })
    }
}

/// What an address may have here. A slash would divide a path, and a question mark would end it.
fn is_of_address(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"/?#%\"\\".contains(&byte)
}

/// An answer. Its body may be a token: it is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The field `Content-Type`. The libraries tell a JSON object from a text by it.
    pub content_type: &'static str,
    /// The other fields that belong to this protocol.
    pub fields: &'static [(&'static str, &'static str)],
    /// The content.
    pub body: String,
}

impl Reply {
    fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, fields: &[FLAVOR], body }
    }

    /// A refusal: one line of text, which most of the libraries show.
    fn refuse(status: u16, why: &str) -> Self {
        Self::new(status, TEXT, format!("onegrant: {why}\n"))
    }

    fn not_there() -> Self {
        Self::refuse(404, "this is not known here")
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The parts of the path.
    path: Vec<String>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    AccessToken,
    /// For this audience.
    IdToken(String),
    /// What is known, below the path too if it is `recursive`.
    Known {
        recursive: bool,
        as_json: bool,
    },
}

/// Reads a request. `field` looks a header field up by its name in lower case. `None`: the path is not of this protocol.
pub fn ask<'a>(
    method: &str,
    path: &str,
    query: &str,
    field: impl Fn(&str) -> Option<&'a str>,
) -> Option<Result<Question, Reply>> {
    let path: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if path.first().is_some_and(|first| first != "computeMetadata") {
        return None;
    }
    if field("metadata-flavor") != Some(FLAVOR.1) {
        return Some(Err(Reply::refuse(403, "the request has no field Metadata-Flavor: Google")));
    }
    if method != "GET" {
        return Some(Err(Reply::refuse(405, "only GET is answered")));
    }
    let (mut asked_audience, mut recursive, mut as_json) = (String::new(), false, false);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "audience" => asked_audience = value.into_owned(),
            "recursive" => recursive = value.eq_ignore_ascii_case("true"),
            "alt" => as_json = value == "json",
            // The scopes of a grant are what they are, as those of a virtual machine.
            _ => {}
        }
    }
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let what = match parts.as_slice() {
        [_, "v1", "instance", "service-accounts", _, "token"] => What::AccessToken,
        [_, "v1", "instance", "service-accounts", _, "identity"] => {
            if asked_audience.is_empty() {
                return Some(Err(Reply::refuse(400, "the request names no audience")));
            }
            What::IdToken(asked_audience)
        }
        _ => What::Known { recursive, as_json },
    };
    Some(Ok(Question { path, what }))
}

impl Question {
    /// The token that the answer needs, if it needs one.
    pub fn needs(&self) -> Option<TokenKind> {
        match self.what {
            What::AccessToken => Some(TokenKind::AccessToken),
            What::IdToken(_) => Some(TokenKind::IdToken),
            What::Known { .. } => None,
        }
    }

    /// The answer. `session` has the token that the question [needs](Self::needs).
    pub fn reply(&self, facts: &Facts, session: Option<&Session>, now: UnixSeconds) -> Reply {
        let is_account = || self.path.get(4).is_some_and(|account| facts.is_account(account));
        match (&self.what, session) {
            (What::Known { recursive, as_json }, _) => self.known(facts, *recursive, *as_json),
            (What::AccessToken, Some(session)) if is_account() => match bearer(session) {
                Ok(_) => access_token(session, now),
                Err(failure) => self.failed(&failure),
            },
            (What::IdToken(asked), Some(session)) if is_account() => id_token(session, asked),
            _ => Reply::not_there(),
        }
    }

    /// The answer if there is no token. The libraries ask again after 503, and fail at once with the text of another status.
    /// gcloud asks for an ID token whenever it has a new access token, and goes on without one only after 404.
    pub fn failed(&self, failure: &Failure) -> Reply {
        let status = match (failure.kind, &self.what) {
            (Kind::Temporary, _) => 503,
            (_, What::IdToken(_)) => 404,
            _ => 409,
        };
        let hint = failure.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        Reply::refuse(status, &format!("{}{hint}", failure.message))
    }

    fn known(&self, facts: &Facts, recursive: bool, as_json: bool) -> Reply {
        let tree = facts.tree();
        let mut found = Some(&tree);
        for (depth, part) in self.path.iter().enumerate() {
            let name = match NAMES.iter().find(|(in_path, _)| in_path == part) {
                Some((_, in_json)) => in_json,
                None if depth == 4 && facts.is_account(part) => "default",
                None => part,
            };
            found = found.and_then(|found| found.get(name));
        }
        match found {
            None => Reply::not_there(),
            Some(found) if recursive || (as_json && !found.is_object()) => {
                Reply::new(200, JSON, found.to_string())
            }
            Some(found) => Reply::new(200, TEXT, text(found)),
        }
    }
}

/// A value as text: a list has a line for each of its members, and so has a directory. Those of a directory that are
/// directories end with a slash.
fn text(value: &Value) -> String {
    let line = |(name, member): (&String, &Value)| {
        let name = NAMES.iter().find(|(_, in_json)| in_json == name).map_or(name.as_str(), |(name, _)| name);
        format!("{name}{}\n", if member.is_object() { "/" } else { "" })
    };
    match value {
        Value::Object(members) => members.iter().map(line).collect(),
        Value::Array(members) => members.iter().map(|member| format!("{}\n", text(member))).collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The library for Go takes a lifetime of 0 for a missing one.
fn access_token(session: &Session, now: UnixSeconds) -> Reply {
    let end = expiry_of(session, TokenKind::AccessToken);
    let left = end.map_or(UNKNOWN_SECONDS, |end| end.saturating_sub(now).clamp(1, LONGEST_SECONDS));
    let token = session.access_token.expose();
    let answer = json!({ "access_token": token, "expires_in": left, "token_type": "Bearer" });
    Reply::new(200, JSON, answer.to_string())
}

/// The ID token, if it is for this audience: a server has to refuse one that is for another.
fn id_token(session: &Session, asked: &str) -> Reply {
    let Some(token) = &session.id_token else {
        return Reply::refuse(404, "the grant has no ID token");
    };
    let audience = claims(token.expose()).map(|claims| audience(&claims)).unwrap_or_default();
    if audience.iter().any(|party| party == asked) {
        return Reply::new(200, TEXT, token.expose().to_owned());
    }
    let (has, asked) = (printable(&audience.join(", ")), printable(asked));
    Reply::refuse(404, &format!("the ID token of the grant is for the audience {has}, not for {asked}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Secret;
    use crate::protocol::tests::document;
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    const V1: &str = "/computeMetadata/v1";
    const ACCOUNTS: &str = "/computeMetadata/v1/instance/service-accounts";
    const NOW: UnixSeconds = 1_700_000_000;

    fn facts() -> Facts {
        Facts {
            email: Some("me+x@example.com".to_owned()),
            scopes: ["openid", "https://www.googleapis.com/auth/cloud-platform"].map(str::to_owned).to_vec(),
            project: Some("example-1".to_owned()),
        }
    }

    fn session() -> Session {
        Session {
            expires_at: Some(NOW + 3000),
            id_token: Some(id_token_for("me")),
            ..document().session.unwrap()
        }
    }

    fn id_token_for(audience: &str) -> Secret {
        let claims = json!({ "aud": [audience, "also"], "email": "me@example.com" }).to_string();
        Secret::new(format!("eyJhbGciOiJub25lIn0.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims)))
    }

    fn question(address: &str) -> Question {
        asked("GET", address, &[("metadata-flavor", "Google")])
            .unwrap()
            .unwrap_or_else(|_| panic!("{address}"))
    }

    fn asked(
        method: &str,
        address: &str,
        fields: &[(&str, &'static str)],
    ) -> Option<Result<Question, Reply>> {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        ask(method, path, query, |name| {
            fields.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
        })
    }

    fn answer(address: &str, facts: &Facts) -> (u16, &'static str, String) {
        let question = question(address);
        let session = question.needs().map(|_| session());
        let reply = question.reply(facts, session.as_ref(), NOW);
        assert_eq!(reply.fields, [("Metadata-Flavor", "Google")], "{address}");
        (reply.status, reply.content_type, reply.body)
    }

    #[test]
    #[rustfmt::skip]
    fn each_path_has_the_answer_of_google_s_server() {
        let account = r#"{"aliases":["default"],"email":"me+x@example.com","scopes":["openid","https://www.googleapis.com/auth/cloud-platform"]}"#;
        let accounts = format!(r#"{{"default":{account},"me+x@example.com":{account}}}"#);
        let instance = format!(r#"{{"serviceAccounts":{accounts}}}"#);
        let project = r#"{"numericProjectId":0,"projectId":"example-1"}"#;
        let scopes = "openid\nhttps://www.googleapis.com/auth/cloud-platform\n";
        let cases = [
            ("/".to_owned(),                                    200, TEXT, "computeMetadata/\n"),
            ("/computeMetadata/".to_owned(),                    200, TEXT, "v1/\n"),
            (format!("{V1}/"),                                  200, TEXT, "instance/\nproject/\n"),
            (format!("{V1}/instance"),                          200, TEXT, "service-accounts/\n"),
            (format!("{V1}/instance/?recursive=true"),          200, JSON, &*instance),
            (format!("{ACCOUNTS}/"),                            200, TEXT, "default/\nme+x@example.com/\n"),
            (format!("{ACCOUNTS}/?recursive=TRUE"),             200, JSON, &*accounts),
            (format!("{ACCOUNTS}/default/"),                    200, TEXT, "aliases\nemail\nscopes\n"),
            (format!("{ACCOUNTS}/default/?recursive=true"),     200, JSON, account),
            (format!("{ACCOUNTS}/me+x@example.com/?recursive=true"), 200, JSON, account),
            (format!("{ACCOUNTS}/me%2Bx%40example.com/?recursive=true"), 200, JSON, account),
            (format!("{ACCOUNTS}/you@example.com/?recursive=true"), 404, TEXT, "onegrant: this is not known here\n"),
            (format!("{ACCOUNTS}/default/email"),               200, TEXT, "me+x@example.com"),
            (format!("{ACCOUNTS}/default/email/"),              200, TEXT, "me+x@example.com"),
            (format!("{ACCOUNTS}/me+x@example.com/email"),      200, TEXT, "me+x@example.com"),
            (format!("{ACCOUNTS}/default/email?alt=json"),      200, JSON, "\"me+x@example.com\""),
            (format!("{ACCOUNTS}/default/email?alt=text"),      200, TEXT, "me+x@example.com"),
            (format!("{ACCOUNTS}/default/scopes"),              200, TEXT, scopes),
            (format!("{ACCOUNTS}/default/aliases"),             200, TEXT, "default\n"),
            (format!("{ACCOUNTS}/default/aliases?alt=json"),    200, JSON, "[\"default\"]"),
            (format!("{ACCOUNTS}/default/other"),               404, TEXT, "onegrant: this is not known here\n"),
            (format!("{V1}/project/project-id"),                200, TEXT, "example-1"),
            (format!("{V1}/project/numeric-project-id"),        200, TEXT, "0"),
            (format!("{V1}/project/?recursive=true"),           200, JSON, project),
            (format!("{V1}/project/project-id/more"),           404, TEXT, "onegrant: this is not known here\n"),
            (format!("{V1}/universe/universe-domain"),          404, TEXT, "onegrant: this is not known here\n"),
            (format!("{V1}/universe/universe_domain"),          404, TEXT, "onegrant: this is not known here\n"),
            (format!("{V1}/instance/id"),                       404, TEXT, "onegrant: this is not known here\n"),
            (format!("{V1}/instance/zone"),                     404, TEXT, "onegrant: this is not known here\n"),
            ("/computeMetadata/v1beta1/instance/".to_owned(),   404, TEXT, "onegrant: this is not known here\n"),
        ];
        for (address, status, content_type, body) in cases {
            assert_eq!(question(&address).needs(), None, "{address}");
            assert_eq!(answer(&address, &facts()), (status, content_type, body.to_owned()), "{address}");
        }
    }

    #[test]
    fn without_an_id_token_the_account_has_an_address_of_no_person() {
        let unknown = Facts::default();
        let listed = "default/\ndefault@onegrant.invalid/\n".to_owned();
        assert_eq!(answer(&format!("{ACCOUNTS}/"), &unknown), (200, TEXT, listed));
        assert_eq!(answer(&format!("{ACCOUNTS}/default/scopes"), &unknown), (200, TEXT, String::new()));
        assert_eq!(answer(&format!("{ACCOUNTS}/default@onegrant.invalid/token"), &unknown).0, 200);
        assert_eq!(answer(&format!("{V1}/project/project-id"), &unknown).0, 404);
    }

    #[test]
    fn the_facts_are_those_of_the_document() {
        let mut document = document();
        document.scope = Some("asked for".to_owned());
        let with =
            |session: Session| Facts::of(&Document { session: Some(session), ..document.clone() }, None);
        let granted = with(Session { scope: Some("a  b".to_owned()), ..session() });
        assert_eq!(granted.email.as_deref(), Some("me@example.com"));
        assert_eq!(granted.scopes, ["a", "b"]);
        assert_eq!(with(Session { scope: None, ..session() }).scopes, ["asked", "for"]);
        assert_eq!(with(Session { id_token: None, ..session() }).email, None);
        for address in ["no address", "a@b\n", "a@b/token", "a@b?x", "a%40b@c"] {
            let claims = BASE64_URL_SAFE_NO_PAD.encode(json!({ "email": address }).to_string());
            let id_token = Some(Secret::new(format!("a.{claims}.c")));
            assert_eq!(with(Session { id_token, ..session() }).email, None, "{address}");
        }
        document.session = None;
        assert_eq!(Facts::of(&document, Some("p".to_owned())).project.as_deref(), Some("p"));
    }

    #[test]
    #[rustfmt::skip]
    fn an_access_token_lasts_as_long_as_the_grant_says_and_never_0_seconds() {
        let cases = [
            (Some(NOW + 3000), 3000),
            (Some(NOW),        1),
            (Some(NOW - 5),    1),
            (Some(i64::MIN),   1),
            (Some(i64::MAX),   86_400),
            (None,             300),
        ];
        for address in ["default/token", "default/token?scopes=a,b", "me+x@example.com/token", "default/token?alt=json"] {
            let question = question(&format!("{ACCOUNTS}/{address}"));
            assert_eq!(question.needs(), Some(TokenKind::AccessToken));
            for (expires_at, left) in cases {
                let session = Session { expires_at, ..session() };
                let reply = question.reply(&facts(), Some(&session), NOW);
                let wanted = json!({ "access_token": session.access_token.expose(), "expires_in": left, "token_type": "Bearer" });
                assert_eq!((reply.status, reply.content_type), (200, JSON));
                assert_eq!(serde_json::from_str::<Value>(&reply.body).unwrap(), wanted);
            }
        }
        let of_another = question(&format!("{ACCOUNTS}/you@example.com/token"));
        assert_eq!(of_another.reply(&facts(), Some(&session()), NOW).status, 404);
        let bound = Session { token_type: "DPoP".to_owned(), ..session() };
        let reply = question(&format!("{ACCOUNTS}/default/token")).reply(&facts(), Some(&bound), NOW);
        assert_eq!((reply.status, reply.body.contains("of type DPoP")), (409, true));
    }

    #[test]
    #[rustfmt::skip]
    fn an_id_token_is_given_for_its_own_audience_only() {
        let other = "https://api.example/";
        let refusal = "onegrant: the ID token of the grant is for the audience https://x.example, also, not for https://api.example/\n";
        let cases = [
            ("audience=https://x.example&format=full",              Some("https://x.example"), 200, None),
            ("audience=https%3A%2F%2Fx.example&format=full",        Some("https://x.example"), 200, None),
            ("audience=also&format=standard&licenses=FALSE",        Some("https://x.example"), 200, None),
            ("format=full&audience=https://x.example",              Some("https://x.example"), 200, None),
            ("audience=https://api.example/",                       Some("https://x.example"), 404, Some(refusal)),
            ("audience=https://api.example/",                       Some(other),               200, None),
            ("audience=https://api.example",                        Some(other),               404, None),
            ("audience=https://x.example",                          None,                      404, Some("onegrant: the grant has no ID token\n")),
        ];
        for (query, has, status, body) in cases {
            let question = question(&format!("{ACCOUNTS}/default/identity?{query}"));
            assert_eq!(question.needs(), Some(TokenKind::IdToken), "{query}");
            let session = Session { id_token: has.map(id_token_for), ..session() };
            let reply = question.reply(&facts(), Some(&session), NOW);
            assert_eq!((reply.status, reply.content_type), (status, TEXT), "{query}");
            if status == 200 {
                assert_eq!(reply.body, session.id_token.unwrap().expose(), "{query}");
            }
            assert!(body.is_none_or(|body| body == reply.body), "{query}: {}", reply.body);
        }
        let opaque = Session { id_token: Some(Secret::new("opaque")), ..session() };
        let reply = question(&format!("{ACCOUNTS}/default/identity?audience=x")).reply(&facts(), Some(&opaque), NOW);
        assert_eq!((reply.status, reply.body.contains("opaque")), (404, false));
    }

    #[test]
    #[rustfmt::skip]
    fn a_failure_is_asked_about_again_only_if_it_is_temporary() {
        // (question, kind, status)
        let cases = [
            ("default/token",               Kind::LoginRequired, 409),
            ("default/token",               Kind::Usage,         409),
            ("default/token",               Kind::Store,         409),
            ("default/token",               Kind::Temporary,     503),
            ("default/identity?audience=x", Kind::LoginRequired, 404),
            ("default/identity?audience=x", Kind::Usage,         404),
            ("default/identity?audience=x", Kind::Temporary,     503),
        ];
        for (address, kind, status) in cases {
            let failure = Failure::new(kind, "the grant is dead: invalid_grant").hint("onegrant login");
            let reply = question(&format!("{ACCOUNTS}/{address}")).failed(&failure);
            let body = "onegrant: the grant is dead: invalid_grant; onegrant login\n".to_owned();
            assert_eq!((reply.status, reply.content_type, reply.body), (status, TEXT, body), "{address}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_request_has_the_field_of_google_s_server() {
        let flavor = ("metadata-flavor", "Google");
        let token = format!("{ACCOUNTS}/default/token");
        let identity = format!("{ACCOUNTS}/default/identity");
        let cases = [
            ("GET",  &*token,                         &[flavor][..],                       Some(200)),
            ("GET",  &token,                          &[],                                 Some(403)),
            ("GET",  "/",                             &[],                                 Some(403)),
            ("GET",  &token,                          &[("metadata-flavor", "google")],    Some(403)),
            ("POST", &token,                          &[flavor],                           Some(405)),
            ("HEAD", "/",                             &[flavor],                           Some(405)),
            ("GET",  &identity,                       &[flavor],                           Some(400)),
            ("GET",  &format!("{identity}?audience="), &[flavor],                          Some(400)),
            ("GET",  "/v1/token",                     &[flavor],                           None),
            ("GET",  "/computeMetadataX/v1/",         &[flavor],                           None),
            ("GET",  "/latest/meta-data/",            &[flavor],                           None),
            ("GET",  "/x/../computeMetadata/v1/",     &[flavor],                           None),
        ];
        for (method, address, fields, status) in cases {
            let found = asked(method, address, fields).map(|asked| match asked {
                Ok(_) => 200,
                Err(reply) => {
                    assert_eq!(reply.fields, [("Metadata-Flavor", "Google")]);
                    reply.status
                }
            });
            assert_eq!(found, status, "{method} {address} {fields:?}");
        }
    }
}
