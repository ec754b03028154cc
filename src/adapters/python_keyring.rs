//! The `keyring` command of Python's keyring package, which pip and uv run for a password. Under this name onegrant answers
//! in its place.
//!
//! | program | call |
//! |---|---|
//! | pip since 26.2 | `keyring --mode=creds --output=json get SERVICE [USERNAME]` |
//! | older pip | `keyring get SERVICE USERNAME` |
//! | uv | `keyring get SERVICE USERNAME`, `keyring get SERVICE --mode creds` |
//!
//! SERVICE is first the URL of the index, then `HOST` or `HOST:PORT`. uv adds `http://HOST` for plain HTTP.

use super::formats::{USERNAME, password};
use super::hosts::{is_served, server, username_at};
use super::served_at;
use crate::error::Failure;
use crate::grant::{Document, Secret, Session, is_visible_ascii};
use crate::protocol::metadata::Url;
use serde_json::json;

/// The name of the program.
pub const NAME: &str = "keyring";

/// A call that onegrant may answer: `get`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// What needs a password: a URL, `HOST` or `HOST:PORT`.
    pub service: &'a str,
    /// The user name, if the caller has one.
    pub username: Option<&'a str>,
    /// `--mode creds`: the answer has the user name, too.
    pub wants_username: bool,
    /// `--output json`
    pub is_json: bool,
}

impl<'a> Request<'a> {
    /// Reads the arguments. Options may be in any place, and the last of each counts. `None`: another operation, or words that
    /// only the Python program knows.
    pub fn parse(arguments: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut request = Self::default();
        let (mut words, mut has_more_options) = (Vec::new(), true);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument {
                "--" if has_more_options => has_more_options = false,
                _ if has_more_options && argument.len() > 1 && argument.starts_with('-') => {
                    let (name, value) = match argument.split_once('=') {
                        Some((name, value)) => (name, value),
                        None => (argument, arguments.next()?),
                    };
                    match (name, value) {
                        ("--mode", "password") => request.wants_username = false,
                        ("--mode", "creds") => request.wants_username = true,
                        ("--output", "plain") => request.is_json = false,
                        ("--output", "json") => request.is_json = true,
                        _ => return None,
                    }
                }
                word => words.push(word),
            }
        }
        (request.service, request.username) = match words.as_slice() {
            ["get", service] => (service, None),
            ["get", service, username] => (service, Some(*username)),
            _ => return None,
        };
        Some(request)
    }

    /// The server of the service. `None` if the profile does not name it.
    pub fn server(&self, document: &Document) -> Option<Url> {
        match self.service.contains("://") {
            true => served_at(document, self.service),
            false => server("https", self.service).filter(|server| is_served(document, server)),
        }
    }
}

/// The access token as the password for `server`, and the user name if it is asked for.
pub fn answer(
    request: &Request<'_>,
    session: &Session,
    document: &Document,
    server: &Url,
) -> Result<Secret, Failure> {
    let password = password(session)?;
    let required = document.git_username.as_deref().or_else(|| username_at(server));
    // A line break would be read as the end of the name.
    let username = required.or(request.username).filter(|name| is_visible_ascii(name)).unwrap_or(USERNAME);
    Ok(Secret::new(match (request.is_json, request.wants_username) {
        (false, false) => format!("{password}\n"),
        (false, true) => format!("{username}\n{password}\n"),
        (true, false) => format!("{}\n", json!({ "password": password })),
        (true, true) => format!("{}\n", json!({ "username": username, "password": password })),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::protocol::tests::document;

    fn parse(line: &str) -> Option<Request<'_>> {
        Request::parse(line.split_whitespace())
    }

    fn named() -> Document {
        let mut document = document();
        document.git_hosts =
            ["pypi.example", "other.example:8443", "127.0.0.1:3000"].map(str::to_owned).to_vec();
        document
    }

    #[test]
    #[rustfmt::skip]
    fn options_may_be_in_any_place() {
        let password = Request { service: "s", username: Some("u"), ..Request::default() };
        let creds = Request { service: "s", wants_username: true, ..Request::default() };
        let json = Request { is_json: true, ..creds };
        let cases = [
            ("get s u",                              password),
            ("get s",                                Request { username: None, ..password }),
            ("get s --mode creds",                   creds),
            ("--mode=creds --output=json get s",     json),
            ("--mode=creds --output=json get s u",   Request { username: Some("u"), ..json }),
            ("--output json get --mode creds s",     json),
            ("get --output=plain s --mode=creds",    creds),
            ("--mode creds get s u --mode password", password),
            ("--output json get s --output plain u", password),
            ("get -- s u",                           password),
            ("get -- -",                             Request { service: "-", ..Request::default() }),
            ("get - --mode creds",                   Request { service: "-", ..creds }),
        ];
        for (line, wanted) in cases {
            assert_eq!(parse(line), Some(wanted), "{line}");
        }
    }

    #[test]
    fn what_only_the_python_program_knows_is_no_request() {
        for line in [
            "",
            "get",
            "set s u",
            "del s u",
            "diagnose",
            "get s u more",
            "get s --mode",
            "get s --mode all",
            "get s --mode=",
            "get s --output xml",
            "--mode creds",
            "-b keyring.backends.null.Keyring get s u",
            "--keyring-backend=x get s u",
            "--list-backends",
            "--help",
            "-h",
            "get s -- --mode creds",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_service_is_a_url_or_a_host_that_the_profile_names() {
        let cases = [
            ("https://pypi.example/simple/",        true),
            ("https://pypi.example",                true),
            ("https://PYPI.example:443/simple/",    true),
            ("https://other.example:8443/simple/",  true),
            ("pypi.example",                        true),
            ("pypi.example:443",                    true),
            ("other.example:8443",                  true),
            ("http://127.0.0.1:3000",               true),
            ("http://127.0.0.1:3000/simple/",       true),
            ("127.0.0.1:3000",                      true),
            ("http://pypi.example/simple/",         false),
            ("http://pypi.example",                 false),
            ("https://pypi.example:8443/simple/",   false),
            ("https://other.example/simple/",       false),
            ("https://evil.example/pypi.example",   false),
            ("https://pypi.example@evil.example/",  false),
            ("https://evil.example@pypi.example/",  false),
            ("https://pypi.example\\@evil.example", false),
            ("https://pypi.example.evil.example",   false),
            ("ftp://pypi.example/",                 false),
            ("://pypi.example",                     false),
            ("pypi.example:80",                     false),
            ("pypi.example/simple",                 false),
            ("pypi.example@evil.example",           false),
            ("pypi.example\n",                      false),
            ("other.example",                       false),
            ("127.0.0.1",                           false),
            ("127.0.0.1:3001",                      false),
            ("system",                              false),
            ("",                                    false),
        ];
        for (service, wanted) in cases {
            let request = Request { service, ..Request::default() };
            assert_eq!(request.server(&named()).is_some(), wanted, "{service}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_user_name_is_that_of_the_profile_of_the_host_or_of_the_caller() {
        let cases = [
            (None,      "pypi.example",                None,       "oauth2"),
            (None,      "pypi.example",                Some("me"), "me"),
            (None,      "europe-python.pkg.dev",       Some("me"), "oauth2accesstoken"),
            (Some("x"), "europe-python.pkg.dev",       Some("me"), "x"),
            (Some("x"), "pypi.example",                Some("me"), "x"),
            (None,      "pypi.example",                Some(""),   "oauth2"),
            (None,      "pypi.example",                Some("a\nb"), "oauth2"),
            (Some("a\nb"), "pypi.example",             None,       "oauth2"),
        ];
        for (of_profile, host, username, wanted) in cases {
            let mut document = named();
            document.git_hosts.push(host.to_owned());
            document.git_username = of_profile.map(str::to_owned);
            let mut session = document.session.clone().unwrap();
            session.access_token = Secret::new("at");
            let request = Request { service: host, username, wants_username: true, is_json: false };
            let server = request.server(&document).unwrap();
            let answer = |request| answer(&request, &session, &document, &server).unwrap().expose().to_owned();
            assert_eq!(answer(request), format!("{wanted}\nat\n"), "{of_profile:?} {host} {username:?}");
            assert_eq!(answer(Request { wants_username: false, ..request }), "at\n");
            let json = json!({ "username": wanted, "password": "at" });
            assert_eq!(answer(Request { is_json: true, ..request }), format!("{json}\n"));
            assert_eq!(answer(Request { is_json: true, wants_username: false, ..request }), "{\"password\":\"at\"}\n");
        }
    }

    #[test]
    fn a_token_that_is_no_access_token_is_no_password() {
        let (document, request) = (named(), Request { service: "pypi.example", ..Request::default() });
        let session = Session { token_type: "N_A".to_owned(), ..document.session.clone().unwrap() };
        let server = request.server(&document).unwrap();
        assert_eq!(answer(&request, &session, &document, &server).unwrap_err().kind, Kind::Usage);
    }
}
