//! `onegrant git-setup`: configures git to ask onegrant for the credentials of some hosts. Prints the commands first.

use crate::adapters::hosts;
use crate::cli;
use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::output;
use crate::profile::Context;
use crate::profile::amend::amend;
use crate::store_address::StoreAddress;
use crate::system::command;
use crate::text::{bytes_in_single_quotes, describe, printable, quoted_bytes};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long one call of git may take: it changes a small file.
const GIT_LIMIT: Duration = Duration::from_secs(30);

/// The most that git may print of the values of a key, in bytes.
const VALUES_LIMIT: usize = 1 << 20;

/// Prints the commands of git, adds the hosts to the profile, then runs the commands.
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
            // An empty value removes the helpers of all other files.
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
    // The profile first: a helper that serves no host is worse than no helper.
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
            text.extend_from_slice(&quoted_bytes(word.as_bytes()));
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

/// The URLs that git uses for a host: plain HTTP only for this machine.
fn urls(host: &str) -> Result<Vec<String>, Failure> {
    let Some(server) = hosts::server("https", host) else {
        return Err(usage(&format!("{} is not HOST or HOST:PORT", printable(host))));
    };
    let schemes: &[&str] = if server.is_loopback() { &["https", "http"] } else { &["https"] };
    Ok(schemes.iter().map(|scheme| format!("{scheme}://{host}")).collect())
}

/// The helper, a command for the shell; git appends the operation. It names store and profile itself, because git may be
/// started with other variables later.
fn helper(context: &Context) -> Result<OsString, Failure> {
    let cannot =
        |error| Failure::new(Kind::Usage, format!("cannot find onegrant itself: {}", describe(&error)));
    let program = this_program().map_err(cannot)?;
    let mut text = b"!".to_vec();
    text.extend_from_slice(&bytes_in_single_quotes(program.as_os_str().as_bytes()));
    let variables = Environment::read();
    let Environment { xdg_state_home, home, .. } = variables;
    let usual = StoreAddress::usual(&Environment { xdg_state_home, home, ..Environment::default() });
    if usual.as_ref() != Ok(&context.globals.store) {
        let store = context.globals.store.absolute().map_err(|error| {
            Failure::new(Kind::Usage, format!("cannot find the working directory: {}", describe(&error)))
        })?;
        text.extend_from_slice(b" --store ");
        text.extend_from_slice(&quoted_bytes(store.text().as_bytes()));
    }
    text.extend_from_slice(format!(" --profile {} git-credential", context.globals.profile).as_bytes());
    Ok(OsString::from_vec(text))
}

/// The path of this program that stays valid after an update: the link in `PATH`, if a package manager made one.
fn this_program() -> std::io::Result<PathBuf> {
    let program = fs::canonicalize(std::env::current_exe()?)?;
    let path = crate::environment::variable("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("onegrant"))
        .find(|candidate| fs::canonicalize(candidate).is_ok_and(|found| found == program));
    Ok(named.unwrap_or(program))
}

/// The values that a key has now. git ends with 1 if it has none.
fn values(scope: &str, key: &str) -> Result<Vec<OsString>, Failure> {
    let words = ["config", scope, "--null", "--get-all", key].map(OsString::from);
    let printed = git(&words, &[0, 1])?;
    let values = printed.strip_suffix(b"\0").map(|values| values.split(|byte| *byte == 0));
    Ok(values.into_iter().flatten().map(|value| OsStr::from_bytes(value).to_owned()).collect())
}

/// Runs git and gives its output. `expected` are the exit codes that are no failure.
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
