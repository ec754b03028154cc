//! `onegrant helper`: answers other programs in their own protocols.
//!
//! The rooms of [`crate::adapters`] read the requests and write the answers. This file reads stdin, gets the token, prints.

mod aws;

use crate::adapters::cargo::{Refusal, Request};
use crate::adapters::hosts::{is_served, served, server};
use crate::adapters::{REQUEST_LIMIT, bazel, cargo, docker, gcloud, go, served_at, terraform};
use crate::cli::{self, Format, Parsed, Protocol, parse};
use crate::driver::Clock;
use crate::environment::{self, Environment};
use crate::error::{AlreadyReported, Failure, Kind};
use crate::grant::{Document, Secret};
use crate::output;
use crate::profile::{Context, token_text};
use crate::session::{Demand, Token, Unwanted};
use crate::system::secret::read_text;
use crate::system::{self, caller_began};
use crate::text::describe;
use std::io::{self, BufRead, Read};

/// The most requests that one cargo may send: far more than it has registries and operations.
const MOST_REQUESTS: usize = 10_000;

/// Answers one call.
pub fn run(arguments: &cli::Helper, context: &Context) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.arguments.iter().map(String::as_str).collect();
    match arguments.protocol {
        Protocol::Aws => aws::run(arguments, context),
        Protocol::Bazel => for_bazel(&words, context),
        Protocol::Cargo => for_cargo(context),
        Protocol::Docker => for_docker(&words, context),
        Protocol::Gcloud => for_gcloud(context),
        Protocol::Go => for_go(&words, context),
        Protocol::Pnpm => {
            let token = context.obtain(Demand::default())?;
            output::answer(token_text::text(&token.session, Format::Bearer, context)?.as_bytes())
        }
        Protocol::Terraform => for_terraform(&words, context),
    }
}

fn for_bazel(words: &[&str], context: &Context) -> anyhow::Result<()> {
    let url = bazel::requested_uri(words, stdin()?.expose())?;
    served_at(&document(context)?, &url).ok_or_else(not_served)?;
    answer(&bazel::answer(&obtain(context)?.session)?)
}

fn for_cargo(context: &Context) -> anyhow::Result<()> {
    answer(cargo::GREETING)?;
    let mut stdin = io::stdin().lock();
    for _ in 0..MOST_REQUESTS {
        let mut line = String::new();
        let limit = u64::try_from(REQUEST_LIMIT).unwrap_or(u64::MAX);
        let length = stdin.by_ref().take(limit).read_line(&mut line).map_err(|error| unread(&error))?;
        if length == 0 {
            break;
        }
        let answered = match cargo::parse_request(&line) {
            None => return Err(unread(&"it is no request of cargo's").into()),
            Some(Request::Other) => Err(Refusal::OperationNotSupported),
            Some(Request::Get { url, arguments }) => cargo_token(&url, arguments, context),
        };
        answer(&answered.unwrap_or_else(|refusal| cargo::refuse(&refusal)))?;
    }
    Ok(())
}

/// Answers one request. Each has its own deadline, because a whole build may run between two requests.
fn cargo_token(url: &str, arguments: Vec<String>, context: &Context) -> Result<String, Refusal> {
    let globals = match arguments.is_empty() {
        true => context.globals.clone(),
        false => {
            let environment = Environment::read();
            let words = arguments.into_iter().chain(["status".to_owned()]).map(Into::into);
            match parse(words, &environment).map_err(Refusal::Other)? {
                Parsed::Run(globals, _) => globals,
                _ => return Err(Refusal::Other(unread(&"its arguments are not options of onegrant"))),
            }
        }
    };
    let context = Context::new(globals, system::SystemClock::start());
    let refuse = |failure| Refusal::Other(context.completed(failure));
    let document = context.document().map_err(refuse)?;
    document.and_then(|document| served_at(&document, url)).ok_or(Refusal::UrlNotSupported)?;
    let token = obtain(&context).map_err(refuse)?;
    cargo::answer(&token.session).map_err(refuse)
}

fn for_docker(words: &[&str], context: &Context) -> anyhow::Result<()> {
    match words {
        ["get"] => docker_token(context),
        ["list"] => answer(&docker::list(context.document()?.as_ref())),
        ["version"] => answer(concat!("docker-credential-onegrant ", env!("CARGO_PKG_VERSION"))),
        // Docker must not end the grant. Its request is read, so that its write does not fail.
        ["erase"] => stdin().map(drop).map_err(Into::into),
        ["store"] => stdin().map_err(Into::into).and_then(|_| refuse_docker(docker::STORES_NOTHING)),
        _ => refuse_docker(docker::UNKNOWN),
    }
}

fn docker_token(context: &Context) -> anyhow::Result<()> {
    let asked = stdin()?;
    let registry = asked.expose().trim();
    if registry.is_empty() {
        return refuse_docker(docker::NO_SERVER);
    }
    // Docker asks for every registry, and continues without a credential if there is none.
    let document = context.document()?.filter(|document| docker::is_served_registry(document, registry));
    let Some(document) = document else {
        return refuse_docker(docker::NOT_FOUND);
    };
    let answered = obtain(context).and_then(|token| docker::answer(&token.session, &document, registry));
    match answered {
        Ok(text) => answer(&text),
        Err(failure) => {
            // Docker shows stdout to a person.
            answer(&failure.message)?;
            Err(failure.into())
        }
    }
}

fn refuse_docker(text: &str) -> anyhow::Result<()> {
    answer(text)?;
    Err(AlreadyReported(Kind::Defect.code()).into())
}

/// A refusal is an answer, too: the libraries read stdout only if the exit code is 0.
fn for_gcloud(context: &Context) -> anyhow::Result<()> {
    let asked = environment::text("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE");
    let kind = gcloud::requested(asked.as_deref());
    let answered =
        context.obtain(Demand::lasting(kind, None)).and_then(|token| gcloud::answer(&token.session, kind));
    answer(&answered.unwrap_or_else(|failure| gcloud::refuse(&context.completed(failure))))
}

fn for_go(words: &[&str], context: &Context) -> anyhow::Result<()> {
    let document = document(context)?;
    let Some(url) = words.first() else {
        let origins: Vec<_> = served(&document).flat_map(|server| go::origins(&server)).collect();
        if origins.is_empty() {
            return Err(not_served().into());
        }
        return output::answer(go::answer(&obtain(context)?.session, &origins)?.as_bytes());
    };
    let is_refused = go::is_unauthorized(stdin()?.expose());
    if !served_at(&document, url).is_some_and(|server| server.is_secure) {
        return Ok(());
    }
    let mut token = obtain(context)?;
    let began = caller_began(context.now().wall);
    if is_refused && !token.refreshed && began.is_some_and(|began| go::was_sent(&token.session, began)) {
        let unwanted = Unwanted::Rejected(token.session.access_token.clone());
        token = context.obtain(Demand::other_than(unwanted))?;
    }
    output::answer(go::answer(&token.session, &[go::origin(url)])?.as_bytes())
}

fn for_terraform(words: &[&str], context: &Context) -> anyhow::Result<()> {
    if words.first() == Some(&"store") {
        stdin()?;
    }
    let host = terraform::requested_host(words)?;
    let document = context.document()?;
    let server = server("https", host);
    let is_served = document.zip(server).is_some_and(|(document, server)| is_served(&document, &server));
    match is_served {
        true => answer(&terraform::answer(&obtain(context)?.session)?),
        false => answer(terraform::NO_TOKEN),
    }
}

fn obtain(context: &Context) -> Result<Token, Failure> {
    context.obtain(Demand::default())
}

fn document(context: &Context) -> Result<Document, Failure> {
    context.document()?.ok_or_else(|| context.no_grant())
}

fn answer(line: &str) -> anyhow::Result<()> {
    output::answer(format!("{line}\n").as_bytes())
}

/// Everything on stdin. It may hold a secret of another program, so its memory is wiped.
fn stdin() -> Result<Secret, Failure> {
    read_text(&mut io::stdin().lock(), REQUEST_LIMIT).map_err(|error| unread(&error))
}

fn unread(why: &impl std::fmt::Display) -> Failure {
    let message = format!("cannot read what is asked on stdin: {}", describe(why));
    Failure::new(Kind::Usage, message).hint("onegrant helper --help")
}

fn not_served() -> Failure {
    Failure::new(Kind::Usage, "no token for this server: the profile does not name it")
        .hint("onegrant login --git-host HOST")
}
