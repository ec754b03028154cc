//! The protocol without sockets: requests to build and replies to read.
//!
//! Nothing here does I/O or asks a clock; instants are passed in. Parameter names are those of the RFCs.

pub mod assertion;
pub mod authorization;
pub mod claims;
pub mod client;
pub mod device;
pub mod extra;
pub mod hints;
pub mod id_token;
pub mod loopback;
pub mod metadata;
pub mod pkce;
pub mod providers;
pub mod redirect;
pub mod revocation;
pub mod subject_token;
pub mod token;
pub mod userinfo;

mod reply;

pub use client::Proof;
pub use reply::{RETRY_AFTER_LIMIT, Reply, time_words};

use crate::grant::{Document, Secret};
use crate::text::{cleaned, printable};
use std::fmt;

/// The parameters of a request, in order. Their values never print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<Parameter>);

#[derive(Clone, PartialEq, Eq)]
struct Parameter {
    name: String,
    value: Secret,
    is_secret: bool,
}

impl Parameters {
    /// Adds a parameter that a server may repeat in its messages. An empty value counts as none
    /// (RFC 6749 section 3.2).
    pub fn push(&mut self, name: &str, value: &str) {
        self.add(name, value, false);
    }

    /// Adds a parameter that must be hidden in whatever a server says.
    pub fn push_secret(&mut self, name: &str, value: &Secret) {
        self.add(name, value.expose(), true);
    }

    fn add(&mut self, name: &str, value: &str, is_secret: bool) {
        if !value.is_empty() {
            self.0.push(Parameter { name: name.to_owned(), value: Secret::new(value), is_secret });
        }
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|parameter| parameter.name == name).map(|parameter| parameter.value.expose())
    }

    /// The body, `application/x-www-form-urlencoded` (RFC 6749 appendix B).
    pub fn encode(&self) -> Secret {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for parameter in &self.0 {
            form.append_pair(&parameter.name, parameter.value.expose());
        }
        Secret::new(form.finish())
    }

    /// What every token request of this document carries besides its own parameters: resource indicators
    /// (RFC 8707 section 2), the audience, and what `--param` gave. No parameter is repeated (RFC 6749
    /// section 3.2), so that none of these can replace a parameter of the protocol.
    fn push_configured(&mut self, document: &Document) {
        for resource in &document.resource {
            self.push("resource", resource);
        }
        self.push("audience", document.audience.as_deref().unwrap_or_default());
        for (name, value) in &document.parameters {
            if self.get(name).is_none() {
                self.push(name, value);
            }
        }
    }

    /// What the authorization request carries besides its own parameters: what every request does, and what this
    /// provider wants there.
    pub fn push_authorization(&mut self, document: &Document) {
        self.push_configured(document);
        let wanted = providers::of(document).map_or(&[][..], |provider| provider.authorization_parameters);
        for (name, value) in wanted {
            if self.get(name).is_none() {
                self.push(name, value);
            }
        }
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|parameter| &parameter.name)).finish()
    }
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Without a body; the parameters are not used.
    Get,
    /// The parameters are the body.
    Post,
}

/// A request, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How it is sent.
    pub method: Method,
    /// Where it is sent; a query in it is kept (RFC 6749 section 3.2).
    pub url: String,
    /// The body.
    pub parameters: Parameters,
    /// The `Authorization` header.
    pub authorization: Option<Secret>,
    /// The login that gives this endpoint another address, if an option names the endpoint.
    relogin: Option<redirect::Relogin>,
    /// What is hidden besides the secret parameters: what the `Authorization` header holds, and whatever else the
    /// server gave us in confidence and might repeat.
    hidden: Vec<Secret>,
}

impl Request {
    /// A GET request.
    pub fn get(url: &str, authorization: Option<Secret>) -> Self {
        Self {
            method: Method::Get,
            url: url.to_owned(),
            parameters: Parameters::default(),
            relogin: None,
            hidden: authorization.iter().filter_map(credentials).collect(),
            authorization,
        }
    }

    /// A POST request with these parameters, authenticated as the document says.
    fn post(url: &str, mut parameters: Parameters, document: &Document, proof: &Proof) -> Self {
        let authorization = client::authenticate(document, proof, &mut parameters);
        let request = Self { method: Method::Post, parameters, ..Self::get(url, authorization) };
        request.hiding(document)
    }

    /// The same with a parameter that has no value, as some servers want it in spite of RFC 6749 section 3.2.
    fn with_empty(&self, name: &str) -> Self {
        let mut request = self.clone();
        let parameter = Parameter { name: name.to_owned(), value: Secret::new(""), is_secret: false };
        request.parameters.0.push(parameter);
        request
    }

    /// Hides every secret of the document, too: one server has given or got them all.
    fn hiding(mut self, document: &Document) -> Self {
        self.relogin = redirect::Relogin::new(document, &self.url);
        self.hidden.extend(document.secrets().into_iter().cloned());
        self
    }

    /// Every secret that this request tells the server, or that the server told before.
    pub fn secrets(&self) -> Vec<&Secret> {
        let parameters = self.parameters.0.iter();
        let secret = parameters.filter(|parameter| parameter.is_secret).map(|parameter| &parameter.value);
        secret.chain(&self.hidden).collect()
    }

    /// Words of the server that got this request, fit to be shown: without what it was told in confidence,
    /// without control characters, not too long. Cleaned first: a character that is not shown could part a secret.
    pub fn shown(&self, text: &str) -> String {
        printable(&redact(&cleaned(text), &self.secrets()))
    }
}

/// What stands behind the scheme in an `Authorization` header.
fn credentials(authorization: &Secret) -> Option<Secret> {
    authorization.expose().split_once(' ').map(|(_, credentials)| Secret::new(credentials))
}

/// What stands in a text where a secret stood.
const HIDDEN: &str = "[secret]";

/// The shortest secret, in bytes, that is hidden wherever its letters are. A shorter one could be a part of any word.
const SHORTEST_SECRET: usize = 8;

/// The shortest word, in bytes, that is hidden because it is a secret. A shorter one says nothing, and texts are full of it.
const SHORTEST_HIDDEN_WORD: usize = 4;

/// Whether a member of this name holds a secret, or several: `apiKey`, `refresh_tokens`, `token_value`, and not
/// `token_endpoint`.
fn secret_name(name: &str) -> bool {
    const WORDS: [&str; 6] = ["token", "secret", "passw", "assertion", "cookie", "credential"];
    const ENDS: [&str; 4] = ["key", "keys", "ticket", "jwt"];
    // What these words say about a secret is not the secret.
    const ABOUT: [&str; 10] =
        ["type", "expiration", "expiry", "lifetime", "ttl", "scope", "uri", "url", "endpoint", "method"];
    let name = name.to_ascii_lowercase();
    let is_secret =
        WORDS.iter().any(|word| name.contains(word)) || ENDS.iter().any(|end| name.ends_with(end));
    is_secret && !name.contains("expires") && !ABOUT.iter().any(|about| name.ends_with(about))
}

/// The text without these secrets: as they are, as they are shown, and form-encoded. Wherever they overlap, all that
/// any of them covers is hidden at once: what one leaves of another is a secret too. To be called before the text is
/// shortened: so is half a token.
///
/// A secret that is shorter than [`SHORTEST_SECRET`] and could be a word is hidden as a whole word alone, and not at all
/// below [`SHORTEST_HIDDEN_WORD`]: hiding it inside of other words would break up the text, and show where it is.
pub fn redact(text: &str, secrets: &[&Secret]) -> String {
    let mut is_hidden = vec![false; text.len()];
    for secret in secrets.iter().map(|secret| secret.expose()) {
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for spelling in [secret, &cleaned(secret), &encoded] {
            let is_short = spelling.len() < SHORTEST_SECRET && spelling.chars().all(is_of_a_word);
            if spelling.is_empty() || (is_short && spelling.len() < SHORTEST_HIDDEN_WORD) {
                continue;
            }
            for (start, found) in text.match_indices(spelling) {
                if !is_short || is_word(text, start, found.len()) {
                    is_hidden.iter_mut().skip(start).take(found.len()).for_each(|byte| *byte = true);
                }
            }
        }
    }
    let mut shown = String::with_capacity(text.len());
    let mut was_hidden = false;
    for (start, character) in text.char_indices() {
        let is_hidden = is_hidden.get(start) == Some(&true);
        match (is_hidden, was_hidden) {
            (false, _) => shown.push(character),
            (true, false) => shown.push_str(HIDDEN),
            (true, true) => {}
        }
        was_hidden = is_hidden;
    }
    shown
}

fn is_of_a_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether no word goes on before or after this part of the text.
fn is_word(text: &str, start: usize, length: usize) -> bool {
    let before = text.get(..start).and_then(|before| before.chars().next_back());
    let after = text.get(start.saturating_add(length)..).and_then(|after| after.chars().next());
    ![before, after].into_iter().flatten().any(is_of_a_word)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A document for tests: a public client of `https://as.example`.
    pub(crate) fn document() -> Document {
        Document::parse(
            br#"{"version":1,"token_endpoint":"https://as.example/token","client_id":"client 1",
            "session":{"access_token":"old-access","refresh_token":"old-refresh","obtained_at":1}}"#,
        )
        .unwrap()
    }

    #[test]
    fn parameters_are_form_encoded_in_order_and_do_not_print() {
        let mut parameters = Parameters::default();
        parameters.push("scope", "a b&c");
        parameters.push("empty", "");
        parameters.push_secret("token", &Secret::new("s3+cret=ü"));
        assert_eq!(parameters.encode().expose(), "scope=a+b%26c&token=s3%2Bcret%3D%C3%BC");
        assert_eq!(format!("{parameters:?}"), r#"["scope", "token"]"#);
    }

    #[test]
    fn an_authorization_request_carries_what_its_provider_wants_and_no_other_request_does() {
        let mut document = document();
        document.provider = Some("google".to_owned());
        document.parameters.insert("prompt".to_owned(), "select_account".to_owned());
        let (mut authorization, mut other) = (Parameters::default(), Parameters::default());
        authorization.push_authorization(&document);
        other.push_configured(&document);
        assert_eq!(authorization.encode().expose(), "prompt=select_account&access_type=offline");
        assert_eq!(other.encode().expose(), "prompt=select_account");
        document.provider = Some("a later one".to_owned());
        let mut unknown = Parameters::default();
        unknown.push_authorization(&document);
        assert_eq!(unknown, other);
    }

    #[test]
    fn secrets_are_hidden_in_either_spelling() {
        let (token, empty) = (Secret::new("a+b/c"), Secret::new(""));
        assert_eq!(
            redact("no a+b/c, no token=a%2Bb%2Fc&x", &[&token, &empty]),
            "no [secret], no token=[secret]&x"
        );
    }

    #[test]
    fn nothing_is_left_of_secrets_that_overlap() {
        let [token, longer, behind] = ["abcdefgh", "abcdefghijk", "ijklmnop"].map(Secret::new);
        for secrets in [[&token, &longer, &behind], [&behind, &longer, &token]] {
            assert_eq!(redact("<abcdefghijklmnop> <abcdefgh>", &secrets), "<[secret]> <[secret]>");
        }
    }

    #[test]
    fn many_secrets_do_not_make_a_flood() {
        let secret = Secret::new("e+");
        assert_eq!(redact(&"te+".repeat(1000), &[&secret; 9]), "t[secret]".repeat(1000));
    }

    #[test]
    #[rustfmt::skip]
    fn a_secret_that_could_be_a_word_does_not_break_up_other_words() {
        // (secret, text, what is shown of it)
        let cases = [
            ("a",        "a bad client",                  "a bad client"),
            ("bad",      "a bad client",                  "a bad client"),
            ("client",   "the clients of client, client", "the clients of [secret], [secret]"),
            ("client",   "invalid_client: client=client", "invalid_client: [secret]=[secret]"),
            ("pass",     "password pass",                 "password [secret]"),
            ("p+ss",     "xp+ssx p%2Bss",                 "x[secret]x [secret]"),
            ("1234567",  "12345678 1234567",              "12345678 [secret]"),
            ("12345678", "0123456789",                    "0[secret]9"),
            ("password", "passwords",                     "[secret]s"),
            ("éééé",     "éééé",                          "[secret]"),
        ];
        for (secret, text, shown) in cases {
            assert_eq!(redact(text, &[&Secret::new(secret)]), shown, "{secret}");
        }
    }

    #[test]
    fn a_character_that_is_not_shown_parts_no_secret() {
        let request = Request::get("https://a/", Some(Secret::new("Bearer t0ken  t0ken")));
        for text in
            ["t0k\u{200b}en  t0ken", "t0ken\u{1b} \u{ad}t0ken", "t0ken  t0ken", "\u{feff}t0ken\tt0ken"]
        {
            assert_eq!(request.shown(text), "[secret]", "{text:?}");
        }
    }

    #[test]
    fn a_secret_is_hidden_before_the_text_is_shortened() {
        let request = Request::get("https://a/", Some(Secret::new("Bearer t0ken-t0ken")));
        let text = format!("{} t0ken-t0ken", "x".repeat(290));
        assert!(!request.shown(&text).contains("t0k"), "{}", request.shown(&text));
    }
}
