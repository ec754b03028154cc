//! `onegrant doctor`: checks what could keep this profile from its next token. One line per check. Changes nothing.

mod address;
mod broker;
mod copies;
mod git;
mod grant;
mod lock;
mod server;
mod store;

use crate::cli;
use crate::driver;
use crate::error::{Failure, Kind};
use crate::grant::Document;
use crate::output;
use crate::profile::Context;
use crate::protocol::metadata::{Url, endpoint_url};
use crate::store_address::ProfileName;
use crate::text::{printable, shell_word};
use serde_json::json;
use std::path::Path;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing to do, or nothing to check.
    Ok,
    /// It works now, and may fail later.
    Warn,
    /// It does not work. A command would end with this kind of failure.
    Fail(Kind),
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail(_) => "fail",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    /// What was found.
    what: String,
    /// The command that repairs it.
    hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, what: what.into(), hint: None }
    }

    fn warn(name: &'static str, what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, ..Self::ok(name, what) }
    }

    fn fail(name: &'static str, failure: Failure) -> Self {
        Self { name, verdict: Verdict::Fail(failure.kind), what: failure.message, hint: failure.hint }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn hint_of(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint.clone()), ..self }
    }
}

/// The kinds of failure in the order in which a person has to repair them: without a store no login helps, and with a wrong
/// configuration no second try.
const ORDER: [Kind; 5] = [Kind::Defect, Kind::Store, Kind::Usage, Kind::LoginRequired, Kind::Temporary];

/// Checks everything, prints the results, and fails with the first kind of `ORDER` that occurred.
pub fn run(arguments: &cli::Doctor, context: &Context) -> anyhow::Result<()> {
    let (checks, profile) = match &arguments.address {
        Some(address) => address::checks(address, context),
        None => (checks_of_profile(context), Some(context.globals.profile.clone())),
    };
    let worst = |kind| checks.iter().find(|check| check.verdict == Verdict::Fail(kind));
    let worst = ORDER.into_iter().find_map(worst);
    let text =
        if arguments.json { json(&checks, worst, profile.as_ref(), context) } else { text(&checks, context) };
    output::answer(text.as_bytes())?;
    match (worst, worst.map(|check| check.verdict)) {
        (Some(worst), Some(Verdict::Fail(kind))) => Err(summary(&checks, kind, worst).into()),
        _ => Ok(()),
    }
}

fn checks_of_profile(context: &Context) -> Vec<Check> {
    if let Some(store) = context.store.broker() {
        return broker::checks(store, context);
    }
    let read = driver::read_document(&*context.store, context);
    let stored = read.as_ref().ok().and_then(|read| read.as_ref()).map(|(stored, _)| stored);
    let document = stored.map(|stored| &stored.document);

    let mut checks = store::checks(context, read.as_ref().err());
    checks.push(lock::check(context));
    checks.extend(document.map(|document| copies::check(document, context)));
    checks.extend(read.is_ok().then(|| grant::check(stored, context)));
    checks.extend(document.and_then(|document| git::check(document, context)));
    // Last, because it may use the deadline up.
    checks.extend(server::checks(document, context));
    checks
}

fn summary(checks: &[Check], kind: Kind, worst: &Check) -> Failure {
    let failed = checks.iter().filter(|check| matches!(check.verdict, Verdict::Fail(_)));
    let names: Vec<&str> = failed.map(|check| check.name).collect();
    let message = format!("{} of {} checks failed: {}", names.len(), checks.len(), names.join(", "));
    Failure::new(kind, message).hint_of(worst.hint.as_deref())
}

fn completed(check: &Check, context: &Context) -> Option<String> {
    match check.verdict {
        Verdict::Fail(kind) => context.hint(&Failure::new(kind, "").hint_of(check.hint.as_deref()), "doctor"),
        Verdict::Ok | Verdict::Warn => check.hint.as_ref().map(|hint| context.complete(hint)),
    }
}

fn text(checks: &[Check], context: &Context) -> String {
    let mut text = String::new();
    for check in checks {
        text.push_str(&format!(
            "{:<5} {:<12} {}\n",
            check.verdict.name(),
            check.name,
            printable(&check.what)
        ));
        if let Some(hint) = completed(check, context).filter(|_| check.verdict != Verdict::Ok) {
            text.push_str(&format!("{:<5} hint: {hint}\n", ""));
        }
    }
    text
}

fn json(checks: &[Check], worst: Option<&Check>, profile: Option<&ProfileName>, context: &Context) -> String {
    let has_warning = checks.iter().any(|check| check.verdict == Verdict::Warn);
    let verdict = match worst {
        Some(_) => "fail",
        None if has_warning => "warn",
        None => "ok",
    };
    let checks: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "verdict": check.verdict.name(),
                "exit_code": match check.verdict { Verdict::Fail(kind) => Some(kind.code()), _ => None },
                "what": printable(&check.what),
                "hint": completed(check, context),
            })
        })
        .collect();
    let profile = profile.map(ProfileName::as_str);
    format!("{}\n", json!({ "profile": profile, "verdict": verdict, "checks": checks }))
}

/// The hint `COMMAND PATH`, if a terminal can show the path.
fn path_hint(command: &str, path: &Path) -> Option<String> {
    shell_word(path).map(|path| format!("{command} {path}"))
}

/// The host and port of the token endpoint.
fn token_host(document: &Document) -> Result<Url, Failure> {
    endpoint_url(&document.token_endpoint)
}
