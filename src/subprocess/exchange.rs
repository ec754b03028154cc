//! What a worker does: one task of its caller's, who may be gone by its end.

use crate::arguments::{Environment, resolve_environment};
use crate::driver::{Dependencies, Peer};
use crate::error::{Failure, Kind};
use crate::lock::Guard;
use crate::output;
use crate::profile::{Context, import, recording};
use crate::session::bounds::UNTIL_MARGIN_SECONDS;
use crate::session::{DelegateResult, RefreshInput, Role, Token};
use crate::subprocess::worker::{ARGUMENT, Request, Task, Word, line, read_line, write_line};
use crate::system::{self, SignalsHeld};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a worker waits for its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long a worker may outlast its deadline: as long as its claim does.
const LAST_BREATH: Duration = Duration::from_secs(UNTIL_MARGIN_SECONDS.unsigned_abs());

/// How much is kept for a caller that does not read, in bytes: thousands of lines. Later lines are dropped.
const UNHEARD_LIMIT: usize = 1 << 20;

/// Does one task, and tells the caller how it ended, if he still lives.
pub fn run(environment: &Environment) -> anyhow::Result<()> {
    system::close_inherited();
    // Its caller waits for its last word.
    let _signals = SignalsHeld::hold();
    let (caller, request) = receive().map_err(|error| {
        let message = format!("{ARGUMENT} is for onegrant's own use: {}", crate::text::describe(&error));
        Failure::new(Kind::Usage, message).hint("onegrant --help")
    })?;
    let globals = resolve_environment(&Environment::with(request.passed, environment))?;
    system::end_after(globals.timeout.saturating_sub(request.elapsed).saturating_add(LAST_BREATH));

    let context = Context::new(globals, system::SystemClock::begun(request.elapsed));
    caller.hear(&Word::Began);
    let done = match request.task {
        Task::Refresh(input) => refresh(input, &context, &caller).map(|token| Word::Token(Box::new(token))),
        Task::Import { document, refresh_token } => {
            caller.rests(true);
            let begins = || caller.rests(false);
            import::exchange(&document, refresh_token, &context, &begins)
                .map(|document| Word::Stored(Box::new(document)))
        }
    };
    context.network_warnings().for_each(|warning| output::warning(&warning));
    caller.hear_at_last(&done.unwrap_or_else(Word::Failed));
    Ok(())
}

fn refresh(input: RefreshInput, context: &Context, caller: &Caller) -> Result<Token, Failure> {
    let tell = |importance, what: &str| caller.hear(&Word::AlreadyReported(importance, what.to_owned()));
    // The caller has read the same document, and warned.
    let dependencies = Dependencies { tell: &tell, warn: &|_| {}, peer: caller, ..context.dependencies() };
    recording::obtain(context.settings(input.demand.clone(), Role::Worker(input)), &dependencies, context)
}

/// The process that waits for this worker.
struct Caller {
    socket: UnixStream,
    /// The lock that it handed over.
    lock: Cell<Option<Guard>>,
    /// The words for which the socket had no room yet: a caller that is stopped reads nothing.
    unheard: RefCell<Vec<u8>>,
}

impl Caller {
    /// Says a word now if the socket has room, else later: this process holds the lock, and must not wait for the caller. If
    /// the caller was killed, the exchange goes on.
    fn hear(&self, word: &Word) {
        let mut unheard = self.unheard.borrow_mut();
        let Ok(line) = line(word) else { return };
        if unheard.is_empty() && output::has_room(&self.socket) {
            let _ = (&self.socket).write_all(&line);
        } else if unheard.len().saturating_add(line.len()) <= UNHEARD_LIMIT {
            unheard.extend_from_slice(&line);
        }
    }

    /// Says the last word, after all others. The lock is released by now.
    fn hear_at_last(&self, word: &Word) {
        let _ = (&self.socket).write_all(&self.unheard.take());
        let _ = write_line(&self.socket, word);
    }
}

impl Peer for Caller {
    /// A worker has no worker.
    fn delegate(&self, _: &RefreshInput, _: Option<Guard>, _: &Dependencies) -> DelegateResult {
        DelegateResult::NoWorker
    }

    fn lock(&self) -> Option<Guard> {
        self.lock.take()
    }

    fn rests(&self, is_resting: bool) {
        self.hear(&Word::Rests(is_resting));
    }
}

/// Reads the request. If stdin is a file, it is the lock, and the guard in the caller holds it.
fn receive() -> io::Result<(Caller, Request)> {
    let socket = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let given = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(&socket)?;
    let lock = given.metadata()?.is_file().then(|| Guard::of(given));
    let line = read_line(&mut BufReader::new(&socket), REQUEST_LIMIT)?;
    let caller = Caller { socket, lock: Cell::new(lock), unheard: RefCell::default() };
    Ok((caller, serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// More words than a socket has room for, and a caller that is stopped.
    #[test]
    fn a_worker_does_not_wait_for_a_caller_that_does_not_listen_and_no_word_is_lost() {
        const WORDS: usize = 9_000;
        let (socket, mut theirs) = UnixStream::pair().unwrap();
        let caller = Caller { socket, lock: Cell::default(), unheard: RefCell::default() };
        let word = |number: usize| Word::AlreadyReported(1, format!("{number} {}", "x".repeat(80)));
        (0..WORDS).for_each(|number| caller.hear(&word(number)));
        assert!(!caller.unheard.borrow().is_empty());
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            theirs.read_to_string(&mut text).unwrap();
            text
        });
        caller.hear_at_last(&Word::Began);
        drop(caller);
        let heard = reading.join().unwrap();
        let wanted: Vec<String> = (0..WORDS)
            .map(word)
            .chain([Word::Began])
            .map(|word| serde_json::to_string(&word).unwrap())
            .collect();
        assert!(heard.lines().eq(wanted.iter()), "{} lines", heard.lines().count());
    }
}
