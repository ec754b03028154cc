//! The subject token of a token exchange (RFC 8693). It is read again for every request, because its source keeps it
//! fresh.

use super::ask;
use crate::environment;
use crate::error::{Failure, Kind};
use crate::grant::{Secret, SubjectToken};
use crate::http::HttpClient;
use crate::protocol::subject_token;
use crate::system::command::{self, Printed};
use crate::system::secret::{SECRET_LIMIT, one_line, read_bounded};
use crate::text::{describe, printable};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Gets the token within `timeout`.
///
/// It is a failure of usage if the token is missing or malformed. It is a temporary one if a command takes too long or an
/// endpoint does not respond.
pub fn subject_token(
    client: &HttpClient,
    source: &SubjectToken,
    timeout: Duration,
) -> Result<Secret, Failure> {
    match source {
        SubjectToken::File(path) => in_file(path),
        SubjectToken::Environment(name) => in_variable(name),
        SubjectToken::Command(script) => of_command(script, timeout),
        SubjectToken::GithubActions { audience } => of_github(client, audience.as_deref(), timeout),
    }
}

fn in_file(path: &Path) -> Result<Secret, Failure> {
    let shown = printable(&path.display().to_string());
    let text = read_bounded(path, SECRET_LIMIT).map_err(|error| {
        let message = format!("cannot read the subject token in {shown}: {}", describe(&error));
        Failure::new(Kind::Usage, message).hint("onegrant login --subject-token file:PATH")
    })?;
    one_line(text.expose(), &format!("the subject token in {shown}"))
}

fn in_variable(name: &str) -> Result<Secret, Failure> {
    let whence = format!("the subject token in the variable {}", printable(name));
    let value = environment::variable(name).and_then(|value| value.into_string().ok());
    let text = value.map(Secret::new).ok_or_else(|| {
        Failure::new(Kind::Usage, format!("cannot use {whence}: it is not set"))
            .hint(format!("export {}=...", printable(name)))
    })?;
    one_line(text.expose(), &whence)
}

fn of_command(script: &str, timeout: Duration) -> Result<Secret, Failure> {
    let shown = printable(script);
    let failed = |kind, why: &str| {
        let message = format!("cannot get the subject token: the command {shown} {why}");
        Failure::new(kind, message).hint(shown.clone())
    };
    // The command never has a terminal. So a command that needs one fails at the login, where a person notices, and not
    // later.
    let mut shell = Command::new("/bin/sh");
    let shell = shell.arg("-c").arg(script);
    let Printed { status, stdout, stderr } = command::run_without_terminal(shell, timeout, SECRET_LIMIT)
        .map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => failed(Kind::Temporary, "did not end within the deadline"),
            _ => failed(Kind::Usage, &format!("cannot be used: {}", describe(&error))),
        })?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let first = said.lines().next().map(printable).filter(|line| !line.is_empty());
        let said = first.map(|line| format!(": {line}")).unwrap_or_default();
        return Err(failed(Kind::Usage, &format!("ended with {}{said}", printable(&status.to_string()))));
    }
    let text = String::from_utf8_lossy(&stdout);
    one_line(text.lines().next().unwrap_or_default(), &format!("what the command {shown} printed"))
}

/// The two variables of a job that may ask for its identity.
const GITHUB_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

fn of_github(client: &HttpClient, audience: Option<&str>, timeout: Duration) -> Result<Secret, Failure> {
    let (Some(url), Some(token)) = (environment::text(GITHUB_URL), environment::text(GITHUB_TOKEN)) else {
        let message = format!("cannot get the subject token: {GITHUB_URL} and {GITHUB_TOKEN} are not set");
        return Err(Failure::new(Kind::Usage, message)
            .hint("in the workflow file: permissions: { id-token: write }; the job then has both"));
    };
    let request = subject_token::github_request(&url, &Secret::new(token), audience);
    let what = "cannot get the subject token of this GitHub Actions job";
    let response = ask(client, &request, timeout, what)?;
    subject_token::read_github(&request, &response)
        .map_err(|failure| Failure { message: format!("{what}: {}", failure.message), ..failure })
}
