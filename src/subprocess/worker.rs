//! The worker: the exchange with the server survives the process that asked for it. See "Worker" in `docs/design.md`.
//!
//! Other programs kill onegrant: a build tool after ten seconds, a cancelled CI job, a terminal with its process group. Between the server's rotation and the durable copy, that would lose the session. So a worker claims, spends
//! and commits, in its own session. The caller waits for it. If the caller is killed, only the waiting ends.
//!
//! ```text
//! caller                          worker: stdin is the request, stdout the lock file, stderr the socket
//!   prints   ◀── Happened ──────── what happens, one line each
//!   finishes ◀── Refreshed, … ──── the result; the socket closes
//! ```
//!
//! The lock belongs to the open file. The caller closes it as soon as the worker has it, and the worker closes it before it
//! sends the result: a caller that is stopped or blocks on stderr holds no lock. The worker opens no terminal and
//! keeps neither stdout nor stderr of its caller, so a process that reads those does not wait for the worker.

use super::{Mode, command};
use crate::environment::Passed;
use crate::error::Failure;
use crate::globals::Globals;
use crate::grant::{Document, Secret};
use crate::history::Asker;
use crate::lock::Guard;
use crate::output::{self, NeverWaits};
use crate::session::{RefreshInput, Token};
use crate::system::{SignalsHeld, as_given_in_own_session};
use crate::text::describe;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the caller waits beyond its deadline for a worker that is about to send its result.
const RESULT_LIMIT: Duration = Duration::from_secs(2);

/// The shortest wait for a message. A caller that was stopped until after its deadline reads what was sent meanwhile.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The longest message, in bytes: the largest document, with its characters escaped.
const MESSAGE_LIMIT: u64 = 32 << 20;

/// Takes what happens, and how important it is (1: `-v`, 2: `-vv`).
type Log<'a> = &'a dyn Fn(u8, &str);

/// What the worker is started with. It is not in the environment: the worker, and the programs that it runs, have the
/// environment that the caller was given.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkerRequest {
    /// The grant and the deadline.
    pub passed: Passed,
    /// What is to be done.
    pub task: Task,
    /// The process that asked through a broker, for the history.
    pub asker: Option<Asker>,
    /// How much of the deadline had passed.
    pub elapsed: Duration,
}

/// What a worker does: everything that spends a refresh token.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// Refresh the stored session; the result is [`Message::Refreshed`].
    Refresh(RefreshInput),
    /// Spend a refresh token that another program obtained, and store its session; the result is [`Message::Imported`].
    Import {
        /// The new document, without a session.
        document: Box<Document>,
        /// The refresh token to import.
        refresh_token: Secret,
    },
}

/// A message of the worker: one line of JSON. Any other line is meant for stderr.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The worker has begun.
    Began,
    /// What happens, and how important it is.
    Happened(u8, String),
    /// Whether no request is on its way, so that a signal may end the caller.
    Rests(bool),
    /// The token.
    Refreshed(Box<Token>),
    /// The document that was stored.
    Imported(Box<Document>),
    /// The failure.
    Failed(Failure),
}

/// How a task ended.
#[derive(Debug)]
pub enum TaskResult {
    /// The worker sent its result.
    Ended(Message),
    /// No worker could be started: nothing was done.
    NotStarted,
    /// The worker died. How far it had come is not known.
    Died,
    /// The worker had not ended by the deadline.
    Late,
}

/// Gives the task and the lock to a worker, and waits for its end, at most [`RESULT_LIMIT`] beyond the deadline.
pub fn run(
    task: Task,
    globals: &Globals,
    asker: Option<Asker>,
    elapsed: Duration,
    lock: Option<Guard>,
    log: Log,
) -> TaskResult {
    reap(None);
    // Ctrl-C takes effect after the answer is stored.
    let signals = SignalsHeld::hold();
    let limit = globals.timeout.saturating_sub(elapsed).saturating_add(RESULT_LIMIT);
    let started = globals
        .passed()
        .and_then(|passed| start(&WorkerRequest { passed, task, asker, elapsed }, lock.as_ref()));
    drop(lock);
    match started {
        Ok(worker) => worker.listen(Instant::now() + limit, signals, log),
        Err(error) => {
            log(2, &format!("no worker could be started ({}): going on in place", describe(&error)));
            TaskResult::NotStarted
        }
    }
}

/// Workers that had not ended by the deadline of their caller. A process that lives on, such as a broker, takes note of their
/// end later: each worker ends by itself.
static LATE: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Takes note of the end of late workers, and of another one that is late.
fn reap(late: Option<Child>) {
    let mut workers = LATE.lock().unwrap_or_else(PoisonError::into_inner);
    workers.extend(late);
    workers.retain_mut(|worker| matches!(worker.try_wait(), Ok(None)));
}

struct Worker {
    child: Child,
    socket: UnixStream,
}

fn start(request: &WorkerRequest, lock: Option<&Guard>) -> io::Result<Worker> {
    let (socket, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let stdout = match lock.map(Guard::share).transpose()?.flatten() {
        Some(file) => OwnedFd::from(file),
        // Some containers have no `/dev/null`.
        None => theirs.try_clone()?,
    };
    let mut command = command(Mode::Worker, request)?;
    command.stdout(stdout).stderr(theirs);
    Ok(Worker { child: as_given_in_own_session(&mut command).spawn()?, socket })
}

impl Worker {
    /// Passes on what the worker sends until it has ended. Holds signals back while a request is on its way.
    fn listen(mut self, until: Instant, signals: Option<SignalsHeld>, log: Log) -> TaskResult {
        // In this order: what stderr had no room for is printed after the signals are released.
        let _never_waits = NeverWaits::begin();
        let mut signals = signals;
        let mut reader = BufReader::new(&self.socket);
        let (mut last, mut has_begun) = (None, false);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = match read_line(&mut reader, left.max(SHORTEST_WAIT)) {
                Ok(line) => line,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    reap(Some(self.child));
                    return last.map_or(TaskResult::Late, TaskResult::Ended);
                }
                // The worker has ended.
                Err(_) => {
                    let _ = self.child.wait();
                    let without_result = if has_begun { TaskResult::Died } else { TaskResult::NotStarted };
                    return last.map_or(without_result, TaskResult::Ended);
                }
            };
            match serde_json::from_slice(&line) {
                Ok(Message::Began) => has_begun = true,
                Ok(Message::Happened(importance, what)) => log(importance, &what),
                Ok(Message::Rests(true)) => signals = None,
                Ok(Message::Rests(false)) => signals = signals.take().or_else(SignalsHeld::hold),
                Ok(message) => last = Some(message),
                Err(_) => output::say(&format!("{}\n", String::from_utf8_lossy(&line))),
            }
        }
    }
}

/// One line without its end, within `limit`; [`ErrorKind::UnexpectedEof`] if there is none.
fn read_line(reader: &mut BufReader<&UnixStream>, limit: Duration) -> io::Result<Vec<u8>> {
    reader.get_ref().set_read_timeout(Some(limit))?;
    let mut line = Vec::new();
    reader.by_ref().take(MESSAGE_LIMIT).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}
