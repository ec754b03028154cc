//! The work for a request: as a command on this side would do it.

use crate::adapters::broker::server::{Answer, Task};
use crate::adapters::broker::shape::{Facts, Shape};
use crate::adapters::broker::{Ask, Profile};
use crate::driver::{self, Clock};
use crate::environment;
use crate::error::Failure;
use crate::globals::Globals;
use crate::grant::{Document, Session};
use crate::history::Asker;
use crate::profile::Context;
use crate::profile::access::lock_level;
use crate::session::condition::Condition;
use crate::session::freshness::{is_enough_meanwhile, judge};
use crate::session::{Demand, Unwanted};
use crate::store::file::FileStore;
use crate::system::{SystemClock, answers_lock_calls_at_once};

/// Whether the document is read as fast as a request: it is a file on this machine.
pub fn is_near(globals: &Globals) -> bool {
    let context = Context::new(globals.clone(), SystemClock::start());
    let files = context.store.file().map(FileStore::files);
    files.is_some_and(|files| files.is_ok_and(|files| answers_lock_calls_at_once(&files.document)))
}

/// The answer if the document has it. One read, and no lock: what `onegrant token` does 999 times out of 1,000.
/// `is_refreshing`: the same is being requested now. Then a token that still works is an answer, as it is for a process that
/// finds the lock taken.
pub fn at_once(task: &Task, globals: &Globals, is_refreshing: bool) -> Option<Answer> {
    let demand = demand(task)?;
    let context = Context::new(globals.clone(), SystemClock::start());
    let snapshot = context.store.read().ok()??;
    let document = driver::parse(snapshot, &*context.store).ok()?.document;
    let now = context.now();
    let is_good = |session: &Session| {
        judge(session, &demand, None, now).is_fresh()
            || (is_refreshing && is_enough_meanwhile(session, &demand, None, now))
    };
    match task {
        Task::Shaped(shape, None) => Some(Answer::Shaped(facts(*shape, Some(&document)), None)),
        Task::Shaped(shape, Some(_)) => {
            let session = document.session.clone().filter(is_good)?;
            Some(Answer::Shaped(facts(*shape, Some(&document)), Some(session)))
        }
        Task::Own(_) => Some(Answer::Token(document.session.filter(is_good)?, demand.token)),
    }
}

/// What a task demands of the session. `None`: it is about something else.
fn demand(task: &Task) -> Option<Demand> {
    match task {
        Task::Own(Ask::Token { kind, min_ttl }) => {
            Some(Demand { token: *kind, min_ttl: *min_ttl, ..Demand::default() })
        }
        Task::Own(Ask::Rejected(token)) => Some(Demand::other_than(Unwanted::Rejected(token.clone()))),
        Task::Own(Ask::Profile) => None,
        Task::Shaped(shape, kind) => {
            let (token, min_ttl) = (kind.unwrap_or_default(), shape.min_ttl());
            Some(Demand { token, min_ttl, ..Demand::default() })
        }
    }
}

/// Does the work. The deadline is that of a command which began with `clock`.
pub fn of(task: &Task, globals: &Globals, asker: Option<Asker>, clock: SystemClock) -> Answer {
    let context = Context::new(globals.clone(), clock).asked_by(asker);
    let answer = match (task, demand(task)) {
        (Task::Shaped(shape, None), _) => {
            context.document().map(|document| Answer::Shaped(facts(*shape, document.as_ref()), None))
        }
        (Task::Shaped(shape, Some(_)), Some(demand)) => context.obtain(demand).and_then(|token| {
            let document = context.document()?;
            Ok(Answer::Shaped(facts(*shape, document.as_ref()), Some(token.session)))
        }),
        (_, Some(demand)) => {
            let kind = demand.token;
            context.obtain(demand).map(|token| Answer::Token(token.session, kind))
        }
        (_, None) => profile(&context).map(Answer::Profile),
    };
    answer.unwrap_or_else(|failure| {
        // Another profile needs a broker of its own.
        let hint = context.hint(&failure, "serve --socket PATH");
        Answer::Failed(Failure { hint, ..failure })
    })
}

fn facts(shape: Shape, document: Option<&Document>) -> Facts {
    shape.facts(document, environment::text)
}

fn profile(context: &Context) -> Result<Profile, Failure> {
    if let Some(store) = context.store.broker() {
        return context.served(store);
    }
    let stored = context.stored()?.ok_or_else(|| context.no_grant())?;
    let rejected = driver::find_rejected(&context.dependencies(), &stored)?;
    let document = stored.document;
    let condition = Condition::of(&document, rejected.as_ref(), context.now());
    let level = lock_level(&*context.store, context.globals.lock).ok();
    let granted = document.session.and_then(|session| session.scope);
    Ok(Profile {
        profile: Some(context.globals.profile.to_string()),
        issuer: document.issuer,
        scope: granted.or(document.scope),
        resource: document.resource,
        git_hosts: document.git_hosts,
        git_username: document.git_username,
        level: level.map(|level| context.store.level_name(level).to_owned()),
        state: condition.state,
        expires_at: condition.expires_at,
    })
}
