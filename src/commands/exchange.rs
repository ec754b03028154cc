//! What a worker does: one task of its caller's, who may be gone by its end.

use super::{Context, login, recording};
use crate::arguments::{Environment, resolve_environment};
use crate::driver::{Partner, Seams};
use crate::error::{Failure, Kind};
use crate::lock::Guard;
use crate::output;
use crate::session::bounds::UNTIL_MARGIN_SECONDS;
use crate::session::{Delegation, Errand, Role, Token};
use crate::system;
use crate::worker::{ARGUMENT, Request, Task, Word, read_line, write_line};
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a worker waits for its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long a worker may outlast its deadline: as long as its claim does.
const LAST_BREATH: Duration = Duration::from_secs(UNTIL_MARGIN_SECONDS.unsigned_abs());

/// Does one task, and tells the caller how it ended, if he still lives.
pub fn run(environment: &Environment) -> anyhow::Result<()> {
    system::close_inherited();
    let (socket, request) = receive().map_err(|error| {
        let message = format!("{ARGUMENT} is for onegrant's own use: {}", crate::error::describe(&error));
        Failure::new(Kind::Usage, message).hint("onegrant --help")
    })?;
    let globals = resolve_environment(&Environment::with(request.passed, environment))?;
    // From here on no signal that is meant for the caller's group reaches this process.
    rustix::process::setsid()?;
    system::end_after(globals.timeout.saturating_sub(request.elapsed).saturating_add(LAST_BREATH));

    let context = Context::new(globals, system::Clock::begun(request.elapsed));
    let caller = Caller { socket };
    caller.hear(&Word::Began);
    let done = match request.task {
        Task::Refresh(errand) => refresh(errand, &context, &caller).map(|token| Word::Token(Box::new(token))),
        Task::Import { document, refresh_token } => {
            caller.rests(true);
            let begins = || caller.rests(false);
            login::import(*document, refresh_token, &context, &begins)
                .map(|document| Word::Stored(Box::new(document)))
        }
    };
    context.network_warnings().for_each(|warning| output::warning(&warning));
    caller.hear(&done.unwrap_or_else(Word::Failed));
    Ok(())
}

fn refresh(errand: Errand, context: &Context, caller: &Caller) -> Result<Token, Failure> {
    let tell = |importance, what: &str| caller.hear(&Word::Told(importance, what.to_owned()));
    // The caller has read the same document, and warned.
    let seams = Seams { tell: &tell, warn: &|_| {}, partner: caller, ..context.seams() };
    recording::obtain(context.settings(errand.demand.clone(), Role::Worker(errand)), &seams, context)
}

/// Who waits for this worker.
struct Caller {
    socket: UnixStream,
}

impl Caller {
    /// A caller that was killed hears nothing, and the exchange goes on.
    fn hear(&self, word: &Word) {
        let _ = write_line(&self.socket, word);
    }
}

impl Partner for Caller {
    /// A worker has no worker.
    fn delegate(&self, _: &Errand, _: Option<&Guard>, _: &Seams) -> Delegation {
        Delegation::NoWorker
    }

    fn rests(&self, is_resting: bool) {
        self.hear(&Word::Rests(is_resting));
    }
}

fn receive() -> io::Result<(UnixStream, Request)> {
    let socket = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let line = read_line(&mut BufReader::new(&socket), REQUEST_LIMIT)?;
    Ok((socket, serde_json::from_slice(&line)?))
}
