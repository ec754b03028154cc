//! Which profile belongs to which resource: the name of a new profile, and the profile that covers an address.
//!
//! The rules: "Profile of a resource" in `docs/design.md`.

use super::ProfileName;
use crate::grant::Secret;
use crate::protocol::metadata::address_of;
use crate::protocol::resource::covers;
use std::cmp::Ordering;

/// The longest name of a profile, in characters.
pub(super) const NAME_LIMIT: usize = 64;

/// How many hexadecimal digits of a digest distinguish two names: 64 bits. A store has far fewer profiles.
const DIGEST_DIGITS: usize = 16;

/// The names for the profile of a resource, the best first. A login takes the first name that no other resource has.
///
/// 1. The host, and the port if it is not the default of the scheme: `mcp.example.com`, `mcp.example.com-8443`.
/// 2. The same with the path: `mcp.example.com-v2-mcp`.
/// 3. The same with a digest of the resource. No other resource has this name.
///
/// A character that no name may have becomes `-`. A text that is too long ends in a digest of what it stands for.
pub fn names(resource: &str) -> Vec<ProfileName> {
    let (server, path) = server_and_path(resource);
    let with_path = match path {
        "" => server.clone(),
        path => format!("{server}-{path}"),
    };
    let mut names = vec![fitting(&server), fitting(&with_path), with_digest(&with_path, resource)];
    names.dedup();
    names
}

/// `HOST` or `HOST-PORT`, and the path without the slashes at its ends. A resource that is no URL is all host.
fn server_and_path(resource: &str) -> (String, &str) {
    let Some((address, (_, rest))) = address_of(resource).zip(resource.split_once("://")) else {
        return (resource.to_owned(), "");
    };
    let default_port = if address.is_secure { 443 } else { 80 };
    let server = match address.port == default_port {
        true => address.host,
        false => format!("{}-{}", address.host, address.port),
    };
    let before_query = rest.split(['?', '#']).next().unwrap_or_default();
    let path = before_query.split_once('/').map_or("", |(_, path)| path);
    (server, path.trim_matches('/'))
}

/// The text as a name. If it is too long, its end is replaced by a digest of it.
fn fitting(text: &str) -> ProfileName {
    let name = allowed(text);
    match (1..=NAME_LIMIT).contains(&name.len()) {
        true => ProfileName(name),
        false => with_digest(text, text),
    }
}

/// The beginning of the text as a name, and a digest of `whole`.
fn with_digest(text: &str, whole: &str) -> ProfileName {
    let digest: String = Secret::new(whole).sha256().chars().take(DIGEST_DIGITS).collect();
    let room = NAME_LIMIT.saturating_sub(DIGEST_DIGITS).saturating_sub(1);
    let beginning: String = allowed(text).chars().take(room).collect();
    ProfileName(format!("{beginning}-{digest}").trim_start_matches('-').to_owned())
}

/// The text with `-` in place of each character that no name may have. It begins with neither a dot nor, because a name is
/// the value of an option, a dash.
fn allowed(text: &str) -> String {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let replaced = |character| if is_allowed(character) { character } else { '-' };
    text.trim_start_matches(|first| first == '.' || replaced(first) == '-').chars().map(replaced).collect()
}

/// A profile, and the resources that its tokens are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: ProfileName,
    /// The resources in its document.
    pub resources: Vec<String>,
}

/// Which profile covers an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one.
    One(ProfileName),
    /// No profile.
    Nothing,
    /// Several with the same resource, and none has one of its [`names`].
    Several(Vec<ProfileName>),
}

/// Chooses the profile whose resource covers `url` with the longest path. If several do, the one with the first of the
/// [`names`] of that resource wins.
pub fn choose(candidates: &[Candidate], url: &str) -> Choice {
    let mut longest = 0;
    let mut found: Vec<(&ProfileName, &str)> = Vec::new();
    for candidate in candidates {
        let lengths =
            candidate.resources.iter().filter_map(|resource| Some((covers(resource, url)?, resource)));
        let Some((length, resource)) = lengths.max_by_key(|(length, _)| *length) else { continue };
        match length.cmp(&longest) {
            Ordering::Less => continue,
            Ordering::Greater => found.clear(),
            Ordering::Equal => {}
        }
        longest = length;
        found.push((&candidate.name, resource));
    }
    match found.as_slice() {
        [] => Choice::Nothing,
        [(name, _)] => Choice::One((*name).clone()),
        [(_, resource), ..] => {
            let is_found = |name: &ProfileName| found.iter().any(|(found, _)| *found == name);
            names(resource).into_iter().find(is_found).map_or_else(
                || Choice::Several(found.iter().map(|(name, _)| (*name).clone()).collect()),
                Choice::One,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(resource: &str) -> Vec<String> {
        names(resource).iter().map(ToString::to_string).collect()
    }

    #[test]
    #[rustfmt::skip]
    fn a_profile_is_named_after_the_host_and_then_the_path_of_its_resource() {
        let cases = [
            ("https://mcp.example.com/mcp",         "mcp.example.com",       "mcp.example.com-mcp"),
            ("https://mcp.example.com/v2/mcp",      "mcp.example.com",       "mcp.example.com-v2-mcp"),
            ("https://mcp.example.com/v2/mcp/",     "mcp.example.com",       "mcp.example.com-v2-mcp"),
            ("https://MCP.Example.com:443/mcp?a=b", "mcp.example.com",       "mcp.example.com-mcp"),
            ("https://mcp.example.com:8443/mcp",    "mcp.example.com-8443",  "mcp.example.com-8443-mcp"),
            ("http://127.0.0.1:80/mcp",             "127.0.0.1",             "127.0.0.1-mcp"),
            ("http://127.0.0.1:443/a%20b~c",        "127.0.0.1-443",         "127.0.0.1-443-a-20b-c"),
            ("http://[::1]:8080/mcp",               "1-8080",                "1-8080-mcp"),
            ("https://[2001:db8::1]/mcp",           "2001-db8--1",           "2001-db8--1-mcp"),
            ("api://app/read",                      "app",                   "app-read"),
        ];
        for (resource, first, second) in cases {
            let [a, b, c] = texts(resource).try_into().unwrap();
            assert_eq!((a.as_str(), b.as_str()), (first, second), "{resource}");
            assert!(c.starts_with(&format!("{second}-")), "{resource}: {c}");
        }
        for (resource, first) in [("https://mcp.example.com", "mcp.example.com"), ("urn:a:b", "urn-a-b")] {
            let [a, b] = texts(resource).try_into().unwrap();
            assert_eq!(a, first);
            assert!(b.starts_with(&format!("{first}-")), "{b}");
        }
    }

    #[test]
    fn every_name_is_valid_and_the_last_one_belongs_to_one_resource() {
        let long = "x".repeat(300);
        let resources = [
            format!("https://{}.example/mcp", "label.".repeat(35)),
            format!("https://a.example/{long}"),
            format!("https://a.example/{long}y"),
            format!("https://a.example/{}", "ü/".repeat(90)),
            "https://a.example/v2/mcp".to_owned(),
            "https://a.example/v2-mcp".to_owned(),
            "https://a.example/v2/mcp?x".to_owned(),
            "https://a.example/v2/mcp/".to_owned(),
            "https://.example/".to_owned(),
            "...".to_owned(),
            "--".to_owned(),
            String::new(),
        ];
        let mut last = Vec::new();
        for resource in &resources {
            for name in names(resource) {
                assert_eq!(ProfileName::new(name.as_str()).as_ref(), Some(&name), "{resource}");
                assert!(!name.as_str().starts_with('-'), "{name}");
            }
            last.extend(names(resource).pop());
        }
        last.sort();
        last.dedup();
        assert_eq!(last.len(), resources.len());
    }

    #[test]
    #[rustfmt::skip]
    fn the_longest_path_that_covers_the_address_wins() {
        let profile = |name: &str, resources: &[&str]| Candidate {
            name: ProfileName::new(name).unwrap(),
            resources: resources.iter().map(|resource| (*resource).to_owned()).collect(),
        };
        let profiles = [
            profile("root", &["https://a.example"]),
            profile("a.example", &["https://a.example/mcp"]),
            profile("copy", &["https://a.example/mcp"]),
            profile("deep", &["https://other.example/", "https://a.example/mcp/deep/"]),
            profile("port", &["https://a.example:8443/mcp"]),
            profile("local", &["http://127.0.0.1:8080/mcp"]),
            profile("b.example-v2-mcp", &["https://b.example/v2/mcp"]),
            profile("b.example", &["https://b.example/v1/mcp"]),
            profile("b2", &["https://b.example/v2/mcp"]),
            profile("one", &["https://c.example/mcp"]),
            profile("two", &["https://c.example/mcp"]),
            profile("audience", &["api://a.example/mcp", "urn:a"]),
            profile("default", &[]),
        ];
        let cases: [(&str, &[&str]); 20] = [
            ("https://a.example",               &["root"]),
            ("https://a.example/",              &["root"]),
            ("https://a.example/other?x=/mcp",  &["root"]),
            ("https://a.example/mcp",           &["a.example"]),
            ("https://A.example:443/mcp?x",     &["a.example"]),
            ("https://a.example/mcp/",          &["a.example"]),
            ("https://a.example/mcp2",          &["root"]),
            ("https://a.example/mcp/deeper",    &["a.example"]),
            ("https://a.example/mcp/deep/x",    &["deep"]),
            ("https://other.example/mcp",       &["deep"]),
            ("https://a.example:8443/mcp/x",    &["port"]),
            ("https://a.example:8443/",         &[]),
            ("http://a.example/mcp",            &[]),
            ("http://127.0.0.1:8080/mcp",       &["local"]),
            ("https://127.0.0.1:8080/mcp",      &[]),
            ("http://127.0.0.1:8081/mcp",       &[]),
            ("https://b.example/v2/mcp",        &["b.example-v2-mcp"]),
            ("https://b.example/v1/mcp/x",      &["b.example"]),
            ("https://c.example/mcp",           &["one", "two"]),
            ("https://sub.a.example/mcp",       &[]),
        ];
        for (url, wanted) in cases {
            let wanted: Vec<ProfileName> = wanted.iter().filter_map(|name| ProfileName::new(name)).collect();
            let wanted = match wanted.as_slice() {
                [] => Choice::Nothing,
                [one] => Choice::One(one.clone()),
                _ => Choice::Several(wanted),
            };
            assert_eq!(choose(&profiles, url), wanted, "{url}");
            let reversed: Vec<Candidate> = profiles.iter().rev().cloned().collect();
            match (choose(&reversed, url), &wanted) {
                (Choice::Several(mut names), Choice::Several(wanted)) => {
                    names.reverse();
                    assert_eq!(names, *wanted, "{url}");
                }
                (chosen, wanted) => assert_eq!(chosen, *wanted, "{url}"),
            }
        }
    }

    #[test]
    fn two_long_texts_that_differ_only_at_the_end_have_different_names() {
        let [one, other] =
            ["y", "z"].map(|end| names(&format!("https://a.example/{}{end}", "x".repeat(100))));
        assert_eq!(one[0], other[0]);
        assert_ne!(one[1], other[1]);
        assert_eq!(one[1].as_str().len(), NAME_LIMIT);
    }
}
