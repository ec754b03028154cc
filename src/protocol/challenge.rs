//! Challenges: what a resource says about the token that it wants (RFC 9110 section 11.6.1, RFC 6750 section 3).

use super::Headers;

/// The most challenges that are read from one response. A real one has a few.
const MOST_CHALLENGES: usize = 32;

/// The most parameters that are read from one challenge.
const MOST_PARAMETERS: usize = 64;

/// One challenge. Its texts are those of the server: any text without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Its scheme, as the server writes it.
    pub scheme: String,
    /// Its parameters in order, without quotes and escapes. Empty if a token68 follows the scheme.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of the first parameter of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether its scheme is this one, in any case.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }
}

/// The challenges of all `WWW-Authenticate` fields, in order. What cannot be read ends the field that it is in.
pub fn challenges(headers: &Headers) -> Vec<Challenge> {
    let found = headers.all("www-authenticate").flat_map(in_field);
    found.take(MOST_CHALLENGES).collect()
}

/// The challenge for a bearer token, if there is one. If there are several, one that names resource metadata (RFC 9728 section
/// 5.1) comes first.
pub fn bearer(headers: &Headers) -> Option<Challenge> {
    let mut found: Vec<Challenge> = challenges(headers);
    found.retain(|challenge| challenge.is("Bearer"));
    let best = found.iter().position(|challenge| challenge.get("resource_metadata").is_some());
    found.into_iter().nth(best.unwrap_or(0))
}

/// The challenges in the value of one `WWW-Authenticate` field, up to what cannot be read.
///
/// Two spellings outside of RFC 9110 are read, because servers write them: white space without a comma between parameters, and
/// values with characters that need quotes but have none.
pub fn in_field(field: &str) -> Vec<Challenge> {
    let mut reader = Reader { rest: field };
    let mut found: Vec<Challenge> = Vec::new();
    while let Some(element) = reader.element() {
        let is_full = found.len() == MOST_CHALLENGES;
        match (element, found.last_mut()) {
            (Element::Scheme(_), _) if is_full => break,
            (Element::Scheme(scheme), _) => {
                found.push(Challenge { scheme: scheme.to_owned(), parameters: Vec::new() });
                reader.skip_token68();
            }
            // It belongs to no challenge.
            (Element::Parameter(..), None) => break,
            (Element::Parameter(name, value), Some(challenge)) => {
                if challenge.parameters.len() < MOST_PARAMETERS {
                    challenge.parameters.push((name.to_owned(), value));
                }
            }
        }
    }
    found
}

/// What a list of challenges consists of. The grammar tells a new challenge from a parameter of the last one only by the `=`.
enum Element<'a> {
    Scheme(&'a str),
    Parameter(&'a str, String),
}

/// Optional and "bad" white space (RFC 9110 section 5.6.3).
const WHITE: [char; 2] = [' ', '\t'];

#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// The next scheme or parameter. `None` at the end, and for what is neither.
    fn element(&mut self) -> Option<Element<'a>> {
        // Empty elements of a list are skipped (RFC 9110 section 5.6.1.2).
        self.take_while(|character| WHITE.contains(&character) || character == ',');
        let word = Some(self.take_while(is_token_character)).filter(|word| !word.is_empty())?;
        let mut ahead = *self;
        ahead.skip_white();
        if ahead.eats('=') {
            ahead.skip_white();
            let value = ahead.value()?;
            *self = ahead;
            return Some(Element::Parameter(word, value));
        }
        let is_whole = self.rest.is_empty() || self.rest.starts_with([' ', '\t', ',']);
        is_whole.then_some(Element::Scheme(word))
    }

    /// The value of a parameter: a token or a quoted string (RFC 9110 section 11.2).
    fn value(&mut self) -> Option<String> {
        if self.eats('"') {
            return self.quoted();
        }
        let is_of_it = |character: char| character.is_ascii_graphic() && !",\"".contains(character);
        let value = self.take_while(is_of_it);
        (!value.starts_with('=')).then(|| value.to_owned())
    }

    /// The rest of a quoted string (RFC 9110 section 5.6.4). `None` if it has no end.
    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut characters = self.rest.chars();
        loop {
            let character = match characters.next()? {
                '"' => break,
                '\\' => characters.next()?,
                other => other,
            };
            if character.is_control() && character != '\t' {
                return None;
            }
            value.push(character);
        }
        self.rest = characters.as_str();
        Some(value)
    }

    /// Skips a token68 behind a scheme (RFC 9110 section 11.2). It fills its element of the list, and a parameter does not.
    fn skip_token68(&mut self) {
        let mut ahead = *self;
        ahead.skip_white();
        let is_of_it = |character: char| character.is_ascii_alphanumeric() || "-._~+/".contains(character);
        let is_empty = ahead.take_while(is_of_it).is_empty();
        ahead.take_while(|character| character == '=');
        ahead.skip_white();
        if !is_empty && (ahead.rest.is_empty() || ahead.rest.starts_with(',')) {
            *self = ahead;
        }
    }

    fn skip_white(&mut self) {
        self.take_while(|character| WHITE.contains(&character));
    }

    fn eats(&mut self, character: char) -> bool {
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, is_taken: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !is_taken(character)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

/// RFC 9110 section 5.6.2, `tchar`.
fn is_token_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[&str]) -> Headers {
        let mut headers = Headers::default();
        fields.iter().for_each(|field| headers.push("WWW-Authenticate", field));
        headers
    }

    /// `SCHEME name=value name=value; SCHEME …`
    fn shown(challenges: &[Challenge]) -> String {
        let one = |challenge: &Challenge| {
            let parameters = challenge.parameters.iter().map(|(name, value)| format!(" {name}={value}"));
            std::iter::once(challenge.scheme.clone()).chain(parameters).collect::<String>()
        };
        challenges.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    #[rustfmt::skip]
    fn challenges_are_read_as_rfc_9110_writes_them() {
        let cases = [
            // Section 11.6.1, the example.
            (r#"Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\"""#,
             r#"Basic realm=simple; Newauth realm=apps type=1 title=Login to "apps""#),
            // RFC 9728 section 5.1 and RFC 6750 section 3, the examples.
            (r#"Bearer resource_metadata="https://r.example/.well-known/oauth-protected-resource""#,
             "Bearer resource_metadata=https://r.example/.well-known/oauth-protected-resource"),
            (r#"Bearer realm="example", error="invalid_token", error_description="The access token expired""#,
             "Bearer realm=example error=invalid_token error_description=The access token expired"),
            // Real servers.
            (r#"Bearer error="invalid_token", error_description="Missing Authorization header", scope="mcp:tools", resource_metadata="http://127.0.0.1:9201/.well-known/oauth-protected-resource/mcp""#,
             "Bearer error=invalid_token error_description=Missing Authorization header scope=mcp:tools resource_metadata=http://127.0.0.1:9201/.well-known/oauth-protected-resource/mcp"),
            // Schemes alone, token68, and lists of them.
            ("Bearer",                                      "Bearer"),
            ("Basic, Bearer",                               "Basic; Bearer"),
            ("Negotiate YWJj/+~.-_==",                      "Negotiate"),
            ("Negotiate abc=, Bearer scope=x",              "Negotiate; Bearer scope=x"),
            ("NTLM abc , Bearer scope=x",                   "NTLM; Bearer scope=x"),
            ("Negotiate , NTLM,Bearer a=b",                 "Negotiate; NTLM; Bearer a=b"),
            // Commas, escapes and white space.
            (r#"Bearer realm="a, Bearer b", scope="x y""#,  "Bearer realm=a, Bearer b scope=x y"),
            (r#"Bearer realm="a\\b\"c\d", x=y"#,            r#"Bearer realm=a\b"cd x=y"#),
            (r#"Bearer realm="", x=y"#,                     "Bearer realm= x=y"),
            (",, Bearer a=b,, ,\tc=d , ,Basic,",            "Bearer a=b c=d; Basic"),
            ("Bearer a = b\t,\tc =\"d\"",                   "Bearer a=b c=d"),
            ("Bearer \t  a=b",                              "Bearer a=b"),
            ("Bearer realm=\"ü\t\"",                        "Bearer realm=ü\t"),
            // What servers write that RFC 9110 does not allow.
            (r#"Bearer realm="x" scope="a" Basic y=z"#,     "Bearer realm=x scope=a; Basic y=z"),
            ("Bearer resource_metadata=https://r.example/.well-known/x?a=b, scope=a",
             "Bearer resource_metadata=https://r.example/.well-known/x?a=b scope=a"),
            ("Bearer a=b, realm=, c=d",                     "Bearer a=b realm= c=d"),
            ("Bearer realm=, c=d",                          "Bearer c=d"),
        ];
        for (field, wanted) in cases {
            assert_eq!(shown(&in_field(field)), wanted, "{field}");
        }
    }

    #[test]
    fn what_is_read_before_garbage_counts() {
        let cases = [
            ("", ""),
            (" , ,", ""),
            ("=", ""),
            ("a=b", ""),
            ("\"Bearer\"", ""),
            ("Bearer\"x\"", ""),
            ("Bearer/2 a=b", ""),
            ("Basic, Bearer:", "Basic"),
            ("Bearer a=b, c=\"d", "Bearer a=b"),
            ("Bearer a=b, c=\"d\\", "Bearer a=b"),
            ("Bearer a=b, c=\"d\u{1b}\", e=f", "Bearer a=b"),
            ("Bearer a=b, c=\"\\\u{7}\"", "Bearer a=b"),
            ("Bearer a=b, c==, e=f", "Bearer a=b"),
            ("Bearer a=b, (x), e=f", "Bearer a=b"),
            ("Bearer a=b, ü=x, e=f", "Bearer a=b"),
            ("Bearer a=b\r\nBasic", "Bearer a=b"),
        ];
        for (field, wanted) in cases {
            assert_eq!(shown(&in_field(field)), wanted, "{field:?}");
        }
    }

    #[test]
    fn every_field_counts_and_garbage_ends_only_its_own() {
        let headers = headers(&["Basic realm=\"x", "a=b", "bearer SCOPE=x", "DPoP algs=\"ES256\", BEARER"]);
        let found = challenges(&headers);
        assert_eq!(shown(&found), "Basic; bearer SCOPE=x; DPoP algs=ES256; BEARER");
        assert_eq!(bearer(&headers).unwrap().get("scope"), Some("x"));
        assert_eq!(bearer(&super::Headers::default()), None);
    }

    #[test]
    fn the_bearer_challenge_that_names_resource_metadata_comes_first() {
        let headers = headers(&["Bearer realm=a, Bearer resource_metadata=b", "Bearer resource_metadata=c"]);
        assert_eq!(shown(&[bearer(&headers).unwrap()]), "Bearer resource_metadata=b");
    }

    #[test]
    fn challenges_and_parameters_are_bounded() {
        let many = "Basic, ".repeat(1000);
        assert_eq!(in_field(&many).len(), MOST_CHALLENGES);
        assert_eq!(challenges(&headers(&[&many, &many])).len(), MOST_CHALLENGES);
        let long = format!("Bearer {}Basic", "a=b, ".repeat(1000));
        let found = in_field(&long);
        assert_eq!(found.iter().map(|challenge| challenge.parameters.len()).collect::<Vec<_>>(), [64, 0]);
    }
}
