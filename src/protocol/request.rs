//! Requests: method, address, header fields, body.

use super::headers::Headers;
use super::redaction::redact;
use super::redirect;
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

    /// Adds a parameter that is hidden in what servers say.
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

    /// The parameters as `application/x-www-form-urlencoded` (RFC 6749 appendix B).
    pub fn encode(&self) -> Secret {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for parameter in &self.0 {
            form.append_pair(&parameter.name, parameter.value.expose());
        }
        Secret::new(form.finish())
    }

    /// Adds what every authorization and token request of this document carries: resource indicators (RFC 8707 section 2), the
    /// audience, and what `--param` gave. A parameter that is there already is not added (RFC 6749 section 3.2), so none of
    /// these replaces a parameter of the protocol.
    pub(super) fn push_configured(&mut self, document: &Document) {
        for resource in document.resource_indicators() {
            self.push("resource", resource);
        }
        self.push("audience", document.audience.as_deref().unwrap_or_default());
        for (name, value) in &document.parameters {
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

/// The method (RFC 9110 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Sends the body to be processed.
    Post,
    /// Changes a part (RFC 5789).
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The body of a request. It never prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// No body. Such a request may be repeated.
    None,
    /// Parameters, form-encoded.
    Form(Parameters),
    /// Text of any other type, such as JSON.
    Text {
        /// Its media type.
        content_type: &'static str,
        /// The text.
        text: Secret,
    },
}

/// The media type of JSON (RFC 8259 section 11).
pub const JSON: &str = "application/json";

/// The media type of parameters.
const FORM: &str = "application/x-www-form-urlencoded";

impl Body {
    /// The media type and the bytes; `None` if there is no body.
    pub fn encoded(&self) -> Option<(&'static str, Secret)> {
        match self {
            Self::None => None,
            Self::Form(parameters) => Some((FORM, parameters.encode())),
            Self::Text { content_type, text } => Some((content_type, text.clone())),
        }
    }
}

/// How much of the response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The longest body, in bytes. A longer one is no response.
    pub limit: u64,
    /// `None`: the whole body. Otherwise this many lines of it: the response to a watch has no end.
    pub lines: Option<usize>,
}

/// The longest body of a response, in bytes. Tokens with many claims take some tens of KiB.
pub const BODY_LIMIT: u64 = 1 << 20;

/// A request, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The address. A query in it is kept (RFC 6749 section 3.2).
    pub url: String,
    /// The header fields, without those that HTTP itself needs.
    pub headers: Headers,
    /// The body.
    pub body: Body,
    /// How much of the response is read.
    pub extent: Extent,
    /// The login that gives this endpoint another address, if an option names the endpoint.
    pub(super) relogin: Option<redirect::Relogin>,
    /// What is hidden besides the secret parameters: the credentials in the `Authorization` header, and what else the server
    /// gave us in confidence and might repeat.
    hidden: Vec<Secret>,
}

impl Request {
    /// A request without a credential. [`BODY_LIMIT`] bounds the response.
    pub fn new(method: Method, url: &str, body: Body) -> Self {
        Self {
            method,
            url: url.to_owned(),
            headers: Headers::default(),
            body,
            extent: Extent { limit: BODY_LIMIT, lines: None },
            relogin: None,
            hidden: Vec::new(),
        }
    }

    /// A GET request.
    pub fn get(url: &str) -> Self {
        Self::new(Method::Get, url, Body::None)
    }

    /// A POST request with these parameters.
    pub(super) fn form(url: &str, parameters: Parameters) -> Self {
        Self::new(Method::Post, url, Body::Form(parameters))
    }

    /// The request with this `Authorization` header, if there is one. Its credentials are hidden in what the server says.
    pub fn authorized(mut self, authorization: Option<&Secret>) -> Self {
        if let Some(authorization) = authorization {
            self.hidden.push(credentials(authorization));
            self.headers.push("authorization", authorization.expose());
        }
        self
    }

    /// The request whose header fields hold this secret, which is hidden in what the server says.
    pub(super) fn hiding_secret(mut self, secret: &Secret) -> Self {
        self.hidden.push(secret.clone());
        self
    }

    /// The request of which no more than this much of the response is read.
    pub fn reading(self, extent: Extent) -> Self {
        Self { extent, ..self }
    }

    /// The request with a parameter that has no value, which some servers demand in spite of RFC 6749 section 3.2.
    pub(super) fn with_empty(&self, name: &str) -> Self {
        let mut request = self.clone();
        if let Body::Form(parameters) = &mut request.body {
            let parameter = Parameter { name: name.to_owned(), value: Secret::new(""), is_secret: false };
            parameters.0.push(parameter);
        }
        request
    }

    /// Hides every secret of the document, too: one server has given or got them all.
    pub(super) fn hiding(mut self, document: &Document) -> Self {
        self.relogin = redirect::Relogin::new(document, &self.url);
        self.hidden.extend(document.secrets().into_iter().cloned());
        self
    }

    /// The first value of a parameter in the body.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        match &self.body {
            Body::Form(parameters) => parameters.get(name),
            Body::None | Body::Text { .. } => None,
        }
    }

    /// Every secret that this request sends to the server, or that the server sent before.
    pub fn secrets(&self) -> Vec<&Secret> {
        let parameters = match &self.body {
            Body::Form(parameters) => parameters.0.as_slice(),
            Body::None | Body::Text { .. } => &[],
        };
        let secret =
            parameters.iter().filter(|parameter| parameter.is_secret).map(|parameter| &parameter.value);
        secret.chain(&self.hidden).collect()
    }

    /// Words of the server that got this request, fit to be shown: without secrets, without control characters, not too long.
    /// Cleaned first: a character that is not shown could divide a secret.
    pub fn shown(&self, text: &str) -> String {
        printable(&redact(&cleaned(text), &self.secrets()))
    }
}

/// The part of an `Authorization` header after the scheme, or all of it: etcd takes its token without a scheme.
fn credentials(authorization: &Secret) -> Secret {
    match authorization.expose().split_once(' ') {
        Some((_, credentials)) => Secret::new(credentials),
        None => authorization.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_character_that_is_not_shown_divides_no_secret() {
        let request = Request::get("https://a/").authorized(Some(&Secret::new("Bearer t0ken  t0ken")));
        for text in
            ["t0k\u{200b}en  t0ken", "t0ken\u{1b} \u{ad}t0ken", "t0ken  t0ken", "\u{feff}t0ken\tt0ken"]
        {
            assert_eq!(request.shown(text), "[secret]", "{text:?}");
        }
    }

    #[test]
    fn credentials_are_hidden_with_and_without_a_scheme() {
        for (authorization, shown) in
            [("Bearer t0ken-t0ken", "Bearer [secret]"), ("t0ken-t0ken", "Bearer [secret]")]
        {
            let request = Request::get("https://a/").authorized(Some(&Secret::new(authorization)));
            assert_eq!(request.shown("Bearer t0ken-t0ken"), shown, "{authorization}");
        }
    }

    #[test]
    fn a_secret_is_hidden_before_the_text_is_shortened() {
        let request = Request::get("https://a/").authorized(Some(&Secret::new("Bearer t0ken-t0ken")));
        let text = format!("{} t0ken-t0ken", "x".repeat(290));
        assert!(!request.shown(&text).contains("t0k"), "{}", request.shown(&text));
    }
}
