//! Header fields.

use crate::grant::Secret;
use std::fmt;

/// The header fields of a request or a response, in order (RFC 9110 section 5). A name may occur more than once. Their values
/// never print: they may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Secret)>);

impl Headers {
    /// Adds a field.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), Secret::new(value)));
    }

    /// The value of the first field of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all fields of this name, in any case.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_any_case_and_their_values_do_not_print() {
        let mut headers = Headers::default();
        for (name, value) in [("WWW-Authenticate", "Basic"), ("date", "now"), ("www-authenticate", "Bearer")]
        {
            headers.push(name, value);
        }
        assert_eq!(headers.get("www-Authenticate"), Some("Basic"));
        assert_eq!(headers.all("WWW-AUTHENTICATE").collect::<Vec<_>>(), ["Basic", "Bearer"]);
        assert_eq!((headers.get("Date"), headers.get("age")), (Some("now"), None));
        assert_eq!(format!("{headers:?}"), r#"["WWW-Authenticate", "date", "www-authenticate"]"#);
    }
}
