//! `onegrant git-setup`: configures git to ask onegrant for the credentials of some hosts, and to send mail with the token.
//! Prints the commands first.

use crate::adapters::hosts::{self, EXPOSED, MailServer};
use crate::adapters::mail::Submission;
use crate::cli;
use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::output;
use crate::profile::Context;
use crate::profile::amend::amend;
use crate::protocol::hints::shell_word;
use crate::store_address::{ProfileName, StoreAddress};
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

/// Settings that win over those of a mail server and a token.
const OVERRIDES: &str = r"^sendemail\.(smtppass|sendmailcmd|smtpencryption)$";

/// The one of them that is set up here, too. So it counts only where it wins.
const ENCRYPTION: &str = "sendemail.smtpencryption";

/// A key of git's configuration, and the values that it shall have.
type Setting = (String, Vec<OsString>);

/// Prints the commands of git, adds the hosts to the profile, then runs the commands.
pub fn run(arguments: &cli::GitSetup, context: &Context) -> anyhow::Result<()> {
    let mail = mail(arguments)?;
    let mut hosts = arguments.hosts.clone();
    let mut settings = Vec::new();
    if let (Some(submission), Some(user)) = (&mail, &arguments.user) {
        hosts.extend(submission.server().map(|server| server.url()));
        let setting = |(key, value): (&str, String)| (key.to_owned(), vec![value.into()]);
        settings.extend(submission.settings(user).map(setting));
    }
    if hosts.is_empty() {
        return Err(usage("no host is named").into());
    }
    // A broker knows the name of its profile, which git's configuration has to name.
    let served = context.store.broker().map(|store| context.of_served_profile(store)).transpose()?;
    let context = served.as_ref().unwrap_or(context);
    let Some(stored) = context.read()? else {
        return Err(context.no_grant().into());
    };
    let scope = if arguments.local { "--local" } else { "--global" };
    let helper = helper(context)?;
    for host in &hosts {
        // An empty value removes the helpers of all other files.
        let setting = |url| (format!("credential.{url}.helper"), vec![OsString::new(), helper.clone()]);
        settings.extend(urls(host)?.into_iter().map(setting));
    }
    if served.is_some() {
        check_named(&stored.document, &hosts, context)?;
    }
    if mail.is_some() {
        check_overrides(scope)?;
    }
    let mut commands = Vec::new();
    for setting in settings {
        if values(scope, &setting.0)? != setting.1 {
            commands.extend(commands_for(scope, setting));
        }
    }
    show(&hosts, &commands, mail.as_ref(), context)?;
    if arguments.dry_run {
        return Ok(());
    }
    // The profile first: a helper that serves no host is worse than no helper.
    amend(context, |document| add(document, &hosts))?;
    for words in &commands {
        git(words, &[0])?;
    }
    Ok(())
}

/// The mail server of the command line.
fn mail(arguments: &cli::GitSetup) -> Result<Option<Submission>, Failure> {
    let Some(address) = &arguments.mail else {
        return match arguments.user {
            Some(_) => Err(usage("--user is for a mail server: --mail HOST")),
            None => Ok(None),
        };
    };
    if arguments.user.is_none() {
        return Err(usage("--mail needs the user name at the mail server: --user USER"));
    }
    match Submission::new(address) {
        Some(submission) => Ok(Some(submission)),
        None => Err(usage(&format!("{} is not HOST or HOST:PORT", printable(address)))),
    }
}

/// Fails if git send-email would use a stored password, or another program, in the place of the token, or would send the token as
/// another file says. The values are not read.
fn check_overrides(scope: &str) -> Result<(), Failure> {
    let words = ["config", "--show-scope", "--name-only", "--get-regexp", OVERRIDES].map(OsString::from);
    let printed = git(&words, &[0, 1])?;
    let printed = String::from_utf8_lossy(&printed);
    let wins = |set_in: &str| match set_in {
        "system" | "global" => false,
        "local" => scope == "--global",
        _ => true,
    };
    let mut set = printed.lines().filter_map(|line| line.split_once('\t'));
    let Some((scope, key)) = set.find(|(set_in, key)| *key != ENCRYPTION || wins(set_in)) else {
        return Ok(());
    };
    let what = if key == ENCRYPTION { "what is set up" } else { "the token" };
    let message =
        format!("cannot set git up for mail: {} is set, and git uses it in place of {what}", printable(key));
    let failure = Failure::new(Kind::Usage, message);
    Err(match scope {
        "system" | "global" | "local" | "worktree" => {
            failure.hint(format!("git config --{scope} --unset-all {}", printable(key)))
        }
        _ => failure.hint("git config --show-origin --name-only --get-regexp sendemail"),
    })
}

/// The commands that give a key these values and no others.
fn commands_for(scope: &str, (key, values): Setting) -> impl Iterator<Item = Vec<OsString>> {
    let scope = OsString::from(scope);
    let options = ["--replace-all", "--add"].into_iter().chain(std::iter::repeat("--add"));
    values.into_iter().zip(options).map(move |(value, option)| {
        vec!["config".into(), scope.clone(), option.into(), key.clone().into(), value]
    })
}

fn show(
    hosts: &[String],
    commands: &[Vec<OsString>],
    mail: Option<&Submission>,
    context: &Context,
) -> anyhow::Result<()> {
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
    let (hosts, profile) = (hosts.join(" "), &context.globals.profile);
    text.extend_from_slice(format!("# hosts of profile {profile}: {hosts}\n").as_bytes());
    if let Some(submission) = mail {
        let mechanism = submission.mechanism();
        let needed = format!("# git send-email needs Authen::SASL 2.1800 or later for {mechanism}\n");
        text.extend_from_slice(needed.as_bytes());
    }
    output::answer(&text)
}

/// Whether the profile names this host.
fn is_named(document: &Document, host: &str) -> bool {
    match MailServer::named(host) {
        Some(server) => hosts::mail_servers(document).any(|named| named == server),
        None => hosts::server("https", host).is_some_and(|server| hosts::is_served(document, &server)),
    }
}

/// Fails if the profile of a broker does not name one of the hosts: only the other side can add it.
fn check_named(document: &Document, hosts: &[String], context: &Context) -> Result<(), Failure> {
    let Some(host) = hosts.iter().find(|host| !is_named(document, host)) else { return Ok(()) };
    let profile = &context.globals.profile;
    let message =
        format!("profile {profile} does not name {host}: the grant belongs to the other side of the broker");
    let option = match *profile == ProfileName::default() {
        true => String::new(),
        false => format!("--profile {profile} "),
    };
    Err(Failure::new(Kind::Usage, message)
        .hint(format!("where the grant is, run onegrant {option}git-setup {}", shell_word(host))))
}

fn add(document: &mut Document, hosts: &[String]) -> bool {
    let before = document.git_hosts.len();
    for host in hosts {
        if !is_named(document, host) {
            document.git_hosts.push(host.clone());
        }
    }
    document.git_hosts.len() > before
}

/// The URLs that git uses for a host: plain HTTP only for this machine. For mail git names the port in each of them.
fn urls(host: &str) -> Result<Vec<String>, Failure> {
    if let Some(server) = MailServer::named(host) {
        if server.is_exposed() {
            return Err(usage(&format!("cannot serve {host}: {EXPOSED}")));
        }
        if !server.has_port() {
            return Err(usage(&format!("{host} has no port, and git names the port of a mail server")));
        }
        return Ok(vec![server.url()]);
    }
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
