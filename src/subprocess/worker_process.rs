//! The process of a worker: does one task for a caller that may be killed before the end.

use super::worker::{Message, Task, WorkerRequest};
use super::{Mode, request};
use crate::driver::{Dependencies, Peer};
use crate::environment::Environment;
use crate::error::Failure;
use crate::globals::Globals;
use crate::lock::Guard;
use crate::output;
use crate::profile::{Context, import, recording};
use crate::session::bounds::UNTIL_MARGIN_SECONDS;
use crate::session::{DelegateResult, RefreshInput, Role, Token};
use crate::system::{self, SignalsHeld};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a worker may run beyond its deadline: as long as its claim lasts.
const BEYOND_DEADLINE: Duration = Duration::from_secs(UNTIL_MARGIN_SECONDS.unsigned_abs());

/// How much is kept for a caller that does not read, in bytes: thousands of messages. Later messages are dropped.
const UNSENT_LIMIT: usize = 1 << 20;

/// Does one task and sends the result to the caller, if the caller still runs.
pub(super) fn run(environment: &Environment) -> anyhow::Result<()> {
    system::close_inherited();
    // The caller waits for the result.
    let _signals = SignalsHeld::hold();
    let request: WorkerRequest = request(Mode::Worker)?;
    let caller = Caller::of_this_process()?;
    let globals = Globals::from_environment(&Environment::with(request.passed, environment))?;
    system::end_after(globals.timeout.saturating_sub(request.elapsed).saturating_add(BEYOND_DEADLINE));

    let context = Context::new(globals, system::SystemClock::begun(request.elapsed)).asked_by(request.asker);
    caller.send(&Message::Began);
    let done = match request.task {
        Task::Refresh(input) => {
            refresh(input, &context, &caller).map(|token| Message::Refreshed(Box::new(token)))
        }
        Task::Import { document, refresh_token } => {
            caller.rests(true);
            let begins = || caller.rests(false);
            import::exchange(&document, refresh_token, &context, &begins)
                .map(|document| Message::Imported(Box::new(document)))
        }
    };
    if context.is_heard() {
        context.network_warnings().for_each(|warning| output::warning(&warning));
    }
    caller.send_result(&done.unwrap_or_else(Message::Failed));
    Ok(())
}

fn refresh(input: RefreshInput, context: &Context, caller: &Caller) -> Result<Token, Failure> {
    let log = |importance, what: &str| caller.send(&Message::Happened(importance, what.to_owned()));
    // The caller has read the same document and printed its warning.
    let dependencies = Dependencies { log: &log, warn: &|_| {}, peer: caller, ..context.dependencies() };
    recording::obtain(context.settings(input.demand.clone(), Role::Worker(input)), &dependencies, context)
}

/// The process that waits for this worker.
struct Caller {
    socket: UnixStream,
    /// The lock that it gave to this process.
    lock: Cell<Option<Guard>>,
    /// The messages for which the socket had no room yet: a stopped caller reads nothing.
    unsent: RefCell<Vec<u8>>,
}

impl Caller {
    /// The caller at the other end of stderr. If stdout is a file, it is the lock file, and the caller holds the lock.
    fn of_this_process() -> io::Result<Self> {
        let socket = UnixStream::from(io::stderr().as_fd().try_clone_to_owned()?);
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let lock = stdout.metadata()?.is_file().then(|| Guard::given(stdout));
        // What is printed goes to the caller, never into the lock file.
        rustix::stdio::dup2_stdout(&socket)?;
        Ok(Self { socket, lock: Cell::new(lock), unsent: RefCell::default() })
    }

    /// Sends a message now if the socket has room, otherwise later: this process holds the lock, and must not wait for the
    /// caller. If the caller was killed, the exchange goes on.
    fn send(&self, message: &Message) {
        let mut unsent = self.unsent.borrow_mut();
        let line = line(message);
        if unsent.is_empty() && output::has_room(&self.socket) {
            let _ = (&self.socket).write_all(&line);
        } else if unsent.len().saturating_add(line.len()) <= UNSENT_LIMIT {
            unsent.extend_from_slice(&line);
        }
    }

    /// Sends the result, after all other messages. The lock is released by now.
    fn send_result(&self, result: &Message) {
        let _ = (&self.socket).write_all(&self.unsent.take());
        let _ = (&self.socket).write_all(&line(result));
    }
}

/// One line of JSON; empty if the message cannot be written as JSON.
fn line(message: &Message) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
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
        self.send(&Message::Rests(is_resting));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// More messages than a socket has room for, and a caller that does not read.
    #[test]
    fn a_worker_does_not_wait_for_a_caller_that_does_not_read_and_no_message_is_lost() {
        const MESSAGES: usize = 9_000;
        let (socket, mut theirs) = UnixStream::pair().unwrap();
        let caller = Caller { socket, lock: Cell::default(), unsent: RefCell::default() };
        let message = |number: usize| Message::Happened(1, format!("{number} {}", "x".repeat(80)));
        (0..MESSAGES).for_each(|number| caller.send(&message(number)));
        assert!(!caller.unsent.borrow().is_empty());
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            theirs.read_to_string(&mut text).unwrap();
            text
        });
        caller.send_result(&Message::Began);
        drop(caller);
        let received = reading.join().unwrap();
        let wanted: Vec<String> = (0..MESSAGES)
            .map(message)
            .chain([Message::Began])
            .map(|message| serde_json::to_string(&message).unwrap())
            .collect();
        assert!(received.lines().eq(wanted.iter()), "{} lines", received.lines().count());
    }
}
