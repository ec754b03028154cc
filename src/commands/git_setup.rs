//! `onegrant git-setup`: has git ask onegrant for the credentials of some hosts, and shows how first.

use crate::adapters::hosts;
use crate::arguments::{Environment, resolve_environment};
use crate::cli;
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::output;
use crate::profile::Context;
use crate::profile::amend::amend;
use crate::system::command;
use crate::text::{describe, printable};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long one call of git may take: it changes a small file.
const GIT_LIMIT: Duration = Duration::from_secs(30);

/// The most that git prints of a key's values, in bytes.
const VALUES_LIMIT: usize = 1 << 20;

/// Shows the commands; then adds the hosts to the profile and has git run them.
pub fn run(arguments: &cli::GitSetup, context: &Context) -> anyhow::Result<()> {
    if arguments.hosts.is_empty() {
        return Err(usage("no host is named").into());
    }
    if context.read()?.is_none() {
        return Err(context.no_grant().into());
    }
    let scope = if arguments.local { "--local" } else { "--global" };
    let helper = helper(context)?;
    let mut keys = Vec::new();
    for host in &arguments.hosts {
        keys.extend(urls(host)?.into_iter().map(|url| format!("credential.{url}.helper")));
    }
    let mut commands = Vec::new();
    for key in keys {
        let wanted = [OsString::new(), helper.clone()];
        if values(scope, &key)? != wanted {
            // An empty value forgets the helpers of all other files.
            let [nothing, helper] = wanted;
            commands.push(
                ["config", scope, "--replace-all", &key]
                    .map(OsString::from)
                    .into_iter()
                    .chain([nothing])
                    .collect(),
            );
            commands.push(
                ["config", scope, "--add", &key].map(OsString::from).into_iter().chain([helper]).collect(),
            );
        }
    }
    show(arguments, &commands, context)?;
    if arguments.dry_run {
        return Ok(());
    }
    // The profile first: a helper that refuses is worse than none.
    amend(context, |document| add(document, &arguments.hosts))?;
    for words in &commands {
        git(words, &[0])?;
    }
    Ok(())
}

fn show(arguments: &cli::GitSetup, commands: &[Vec<OsString>], context: &Context) -> anyhow::Result<()> {
    let mut text = Vec::new();
    for words in commands {
        text.extend_from_slice(b"git");
        for word in words {
            text.push(b' ');
            text.extend_from_slice(&quoted(word.as_bytes()));
        }
        text.push(b'\n');
    }
    if commands.is_empty() {
        text.extend_from_slice(b"# git is set up already\n");
    }
    let (hosts, profile) = (arguments.hosts.join(" "), &context.globals.profile);
    text.extend_from_slice(format!("# hosts of profile {profile}: {hosts}\n").as_bytes());
    output::answer(&text)
}

fn add(document: &mut Document, hosts: &[String]) -> bool {
    let served = |document: &Document, host: &str| {
        hosts::server("https", host).is_some_and(|server| hosts::is_served(document, &server))
    };
    let before = document.git_hosts.len();
    for host in hosts {
        if !served(document, host) {
            document.git_hosts.push(host.clone());
        }
    }
    document.git_hosts.len() > before
}

/// The URLs that git knows a host by: plain HTTP is for this machine.
fn urls(host: &str) -> Result<Vec<String>, Failure> {
    let Some(server) = hosts::server("https", host) else {
        return Err(usage(&format!("{} is not HOST or HOST:PORT", printable(host))));
    };
    let schemes: &[&str] = if server.is_loopback() { &["https", "http"] } else { &["https"] };
    Ok(schemes.iter().map(|scheme| format!("{scheme}://{host}")).collect())
}

/// What git has a shell run, with the operation behind it. It says itself which grant it is of: whoever starts git
/// next may have other variables.
fn helper(context: &Context) -> Result<OsString, Failure> {
    let cannot =
        |error| Failure::new(Kind::Usage, format!("cannot find onegrant itself: {}", describe(&error)));
    let program = this_program().map_err(cannot)?;
    let mut text = b"!".to_vec();
    text.extend_from_slice(&in_quotes(program.as_os_str().as_bytes()));
    let variables = Environment::read();
    let Environment { xdg_state_home, home, .. } = variables;
    let usual = resolve_environment(&Environment { xdg_state_home, home, ..Environment::default() });
    if usual.map(|usual| usual.store).as_ref() != Ok(&context.globals.store) {
        let store = context.globals.store.absolute().map_err(|error| {
            Failure::new(Kind::Usage, format!("cannot find the working directory: {}", describe(&error)))
        })?;
        text.extend_from_slice(b" --store ");
        text.extend_from_slice(&quoted(store.text().as_bytes()));
    }
    text.extend_from_slice(format!(" --profile {} git-credential", context.globals.profile).as_bytes());
    Ok(OsString::from_vec(text))
}

/// The path of this program that lasts: package managers put a link in `PATH` that an update leads elsewhere.
fn this_program() -> std::io::Result<PathBuf> {
    let program = fs::canonicalize(std::env::current_exe()?)?;
    let path = crate::environment::variable("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("onegrant"))
        .find(|candidate| fs::canonicalize(candidate).is_ok_and(|found| found == program));
    Ok(named.unwrap_or(program))
}

/// The values that a key has now. git ends with 1 where it has none.
fn values(scope: &str, key: &str) -> Result<Vec<OsString>, Failure> {
    let words = ["config", scope, "--null", "--get-all", key].map(OsString::from);
    let printed = git(&words, &[0, 1])?;
    let values = printed.strip_suffix(b"\0").map(|values| values.split(|byte| *byte == 0));
    Ok(values.into_iter().flatten().map(|value| OsStr::from_bytes(value).to_owned()).collect())
}

/// Runs git; gives what it printed. `expected` are the exit codes that are no failure.
fn git(words: &[OsString], expected: &[i32]) -> Result<Vec<u8>, Failure> {
    let printed = command::run(Command::new("git").args(words), GIT_LIMIT, VALUES_LIMIT);
    let printed = printed.map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Failure::new(Kind::Usage, "cannot set git up: there is no git here").hint("git --version")
        }
        _ => Failure::new(Kind::Usage, format!("cannot run git: {}", describe(&error))),
    })?;
    match printed.status.code() {
        Some(code) if expected.contains(&code) => Ok(printed.stdout.to_vec()),
        _ => {
            let why = printable(&String::from_utf8_lossy(&printed.stderr));
            Err(Failure::new(Kind::Usage, format!("git refuses to be set up: {why}")))
        }
    }
}

fn usage(message: &str) -> Failure {
    Failure::new(Kind::Usage, message).hint("onegrant git-setup --help")
}

/// As a shell takes it, plain where it is plain.
fn quoted(word: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
    if !word.is_empty() && word.iter().all(is_plain) { word.to_vec() } else { in_quotes(word) }
}

/// Between single quotes, of which there is no other way out.
fn in_quotes(word: &[u8]) -> Vec<u8> {
    let mut quoted = b"'".to_vec();
    for byte in word {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}
