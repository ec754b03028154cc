//! Which credential helpers git asks for the hosts of this profile, and in which order.

use super::Check;
use crate::adapters::hosts::{MailServer, Server, server};
use crate::grant::Document;
use crate::profile::Context;
use crate::system::command;
use crate::text::{describe, printable};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long git may take to list its configuration.
const LIMIT: Duration = Duration::from_secs(10);

/// The longest configuration, in bytes.
const CONFIGURATION_LIMIT: usize = 1 << 20;

/// The name by which git calls this program, as `git-credential-NAME`.
const OURS: &str = "onegrant";

/// None if the profile serves no git host.
pub fn check(document: &Document, context: &Context) -> Option<Check> {
    const NAME: &str = "git";
    let hosts: Vec<Host> = document.git_hosts.iter().filter_map(|host| Host::of(host)).collect();
    if hosts.is_empty() {
        return None;
    }
    // Outside of every repository, so that only the configuration of the user and the system counts.
    let mut git = Command::new("git");
    git.args(["config", "--list", "--show-origin", "-z"]).current_dir("/");
    let listed = match command::run(&mut git, LIMIT.min(context.left()), CONFIGURATION_LIMIT) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(Check::ok(NAME, "not checked: there is no git"));
        }
        Err(error) => {
            let what = format!("cannot ask git for its configuration: {}", describe(&error));
            return Some(Check::warn(NAME, what).hint("git config --list --show-origin"));
        }
    };
    let text = String::from_utf8_lossy(&listed.stdout);
    let entries: Vec<Entry> = entries(&text).collect();
    let mut checks: Vec<Check> = hosts.iter().filter_map(|host| of_host(host, &entries)).collect();
    let is_named = entries.iter().any(|entry| entry.value == OURS);
    if checks.is_empty() && is_named && !is_in_path(&format!("git-credential-{OURS}")) {
        let what = "git looks for git-credential-onegrant, which is in no directory of PATH";
        let hint = "ln -s \"$(command -v onegrant)\" ~/.local/bin/git-credential-onegrant   # or another one of PATH";
        return Some(Check::warn(NAME, what).hint(hint));
    }
    let path = match uses_http_path(&entries) {
        true => "; credential.useHttpPath is set, and onegrant ignores paths",
        false => "",
    };
    let names: Vec<&str> = hosts.iter().map(|host| host.name).collect();
    let hosts = names.join(", ");
    let fine = || {
        Check::ok(
            NAME,
            format!("git asks onegrant first, and no other helper stores its tokens: {hosts}{path}"),
        )
    };
    Some(if checks.is_empty() { fine() } else { checks.swap_remove(0) })
}

/// A host of the profile that git can ask for.
struct Host<'a> {
    /// As the profile names it.
    name: &'a str,
    server: Server,
    /// The key of its credential helper.
    key: String,
}

impl<'a> Host<'a> {
    /// None for a mail server without a port, because git names the port, and for one that is never served.
    fn of(name: &'a str) -> Option<Self> {
        let key = |url: &str| format!("credential.{url}.helper");
        if let Some(server) = MailServer::named(name) {
            let key = key(&server.url());
            let is_asked_for = server.has_port() && !server.is_exposed();
            return is_asked_for.then_some(Self { name, server: Server::Mail(server), key });
        }
        let secure = server("https", name)?;
        let (scheme, server) = match secure.is_loopback() {
            true => ("http", server("http", name)?),
            false => ("https", secure),
        };
        Some(Self { name, server: Server::Web(server), key: key(&format!("{scheme}://{name}")) })
    }
}

/// One line of the configuration.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    origin: &'a str,
    /// The address after `credential.`, if there is one.
    address: Option<&'a str>,
    key: &'a str,
    value: &'a str,
}

/// Reads entries of the form `ORIGIN NUL KEY LF VALUE NUL`. The first and last part of a key are in lower case.
fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut parts = text.split('\0');
    std::iter::from_fn(move || Some((parts.next()?, parts.next()?))).filter_map(|(origin, line)| {
        let (name, value) = line.split_once('\n').unwrap_or((line, "true"));
        let rest = name.strip_prefix("credential.")?;
        let (address, key) = match rest.rsplit_once('.') {
            Some((address, key)) => (Some(address), key),
            None => (None, rest),
        };
        Some(Entry { origin, address, key, value })
    })
}

fn uses_http_path(entries: &[Entry]) -> bool {
    let is_set = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1");
    entries.iter().any(|entry| entry.key == "usehttppath" && is_set(entry.value))
}

/// Whether the entry is for this whole host (gitcredentials(7)). An entry with a path is only for a part of it.
fn applies(entry: &Entry, host: &Server) -> bool {
    let Some(address) = entry.address else {
        return true;
    };
    let Some((scheme, rest)) = address.split_once("://") else {
        return false;
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
    let Some(found) = Server::new(scheme, &authority.replace('*', "x")) else {
        return false;
    };
    let wanted = authority.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let is_label = |(wanted, label): (&str, &str)| wanted == "*" || wanted == label;
    let is_host = match wanted.contains('*') {
        false => found.host() == host.host(),
        true => {
            wanted.split('.').count() == host.host().split('.').count()
                && wanted.split('.').zip(host.host().split('.')).all(is_label)
        }
    };
    is_host && found.is_beside(host)
}

/// The warning for this host; none if its configuration is right.
fn of_host(host: &Host, entries: &[Entry]) -> Option<Check> {
    let mut helpers: Vec<&Entry> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.key == "helper" && applies(entry, &host.server)) {
        // An empty value removes the helpers before it.
        if entry.value.is_empty() {
            helpers.clear();
        } else {
            helpers.push(entry);
        }
    }
    let Host { name: host, key, .. } = host;
    let alone =
        format!("git config --global --replace-all {key} '' && git config --global --add {key} {OURS}");
    let shown = |entry: &Entry| {
        let name = entry.value.split_whitespace().next().unwrap_or_default();
        printable(&format!("'{name}' ({})", entry.origin))
    };
    let Some(ours) = helpers.iter().position(|entry| entry.value.contains(OURS)) else {
        let what = format!("git does not ask onegrant for {host}");
        return Some(Check::warn("git", what).hint(format!("git config --global --add {key} {OURS}")));
    };
    let other = helpers.iter().enumerate().find(|(_, entry)| !entry.value.contains(OURS));
    let (place, other) = other?;
    let what = match place < ours {
        true => format!(
            "git asks {} for {host} before onegrant, and may get a token that has ended",
            shown(other)
        ),
        false => format!("git stores the tokens that onegrant gives it for {host} in {}", shown(other)),
    };
    Some(Check::warn("git", what).hint(alone))
}

fn is_in_path(program: &str) -> bool {
    let path = crate::environment::variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory: std::path::PathBuf| is_file(&directory.join(program)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(lines: &[(&str, &str)]) -> String {
        lines.iter().map(|(key, value)| format!("file:/g\0{key}\n{value}\0")).collect()
    }

    #[test]
    #[rustfmt::skip]
    fn warns_if_git_asks_another_helper_first_or_stores_a_token() {
        let ours = ("credential.helper", "onegrant");
        let ours_here = ("credential.https://git.example.helper", "!/usr/bin/onegrant git-credential");
        let store = ("credential.helper", "store --file=/x");
        let reset = ("credential.https://git.example.helper", "");
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: [Case; 11] = [
            (&[], Some("git does not ask onegrant for git.example")),
            (&[ours], None),
            (&[ours_here], None),
            (&[store], Some("git does not ask")),
            (&[store, ours], Some("git asks 'store' (file:/g) for git.example before onegrant")),
            (&[ours, store], Some("git stores the tokens that onegrant gives it for git.example in 'store' (file:/g)")),
            (&[store, reset, ours_here], None),
            (&[ours, ("credential.https://other.example.helper", "store")], None),
            (&[ours, ("credential.https://*.example.helper", "cache")], Some("git stores the tokens that onegrant gives it for git.example in 'cache'")),
            (&[ours, ("credential.http://git.example.helper", "cache")], None),
            (&[ours, ("credential.https://git.example/group.helper", "cache")], None),
        ];
        for (lines, wanted) in cases {
            let text = list(lines);
            let entries: Vec<Entry> = entries(&text).collect();
            let what = of_host(&Host::of("git.example").unwrap(), &entries).map(|check| check.what);
            assert_eq!(what.is_some(), wanted.is_some(), "{lines:?}: {what:?}");
            assert!(what.unwrap_or_default().starts_with(wanted.unwrap_or_default()), "{lines:?}");
        }
        let text = list(&[("credential.usehttppath", "true"), ("user.name", "x")]);
        assert!(uses_http_path(&entries(&text).collect::<Vec<_>>()));
        let text = list(&[("credential.usehttppath", "false")]);
        assert!(!uses_http_path(&entries(&text).collect::<Vec<_>>()));
    }

    #[test]
    #[rustfmt::skip]
    fn warns_about_a_mail_server_that_git_asks_for_elsewhere() {
        let ours = ("credential.smtp://smtp.example:465.helper", "!/usr/bin/onegrant git-credential");
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: [Case; 6] = [
            (&[], Some("git does not ask onegrant for smtp://smtp.example:465")),
            (&[ours], None),
            (&[("credential.helper", "onegrant")], None),
            (&[("credential.smtp://smtp.example.helper", "onegrant")], Some("git does not ask")),
            (&[("credential.https://smtp.example:465.helper", "onegrant")], Some("git does not ask")),
            (&[("credential.helper", "cache"), ours], Some("git asks 'cache' (file:/g) for smtp://smtp.example:465 before")),
        ];
        let host = Host::of("smtp://smtp.example:465").unwrap();
        for (lines, wanted) in cases {
            let text = list(lines);
            let entries: Vec<Entry> = entries(&text).collect();
            let what = of_host(&host, &entries).map(|check| check.what);
            assert_eq!(what.is_some(), wanted.is_some(), "{lines:?}: {what:?}");
            assert!(what.unwrap_or_default().starts_with(wanted.unwrap_or_default()), "{lines:?}");
        }
        for name in ["smtp://smtp.example", "imap://imap.example:143"] {
            assert!(Host::of(name).is_none(), "{name}");
        }
    }
}
