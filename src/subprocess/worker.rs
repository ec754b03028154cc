//! The worker: the exchange with the server outlives the process that asked for it.
//!
//! Callers kill their helpers: a build tool after ten seconds, a CI job that is cancelled, a terminal's whole process
//! group. Between the server's rotation and the durable copy that would cost the session. So the program runs
//! itself once more, in a session of its own, to claim, spend and commit; whoever needs the token waits for it, and
//! if he is killed, only the waiting ends.
//!
//! ```text
//! caller                                     worker: stdin is the lock's file, stdout the socket
//!   Request  ── one line of JSON ──────────▶ leaves the process group, limits its time, runs the machine
//!   prints   ◀── AlreadyReported, a line each ────────── what happens
//!   finishes ◀── Token, Stored, Failed ────── the result; the socket closes
//! ```
//!
//! The lock belongs to the open file. The caller closes it as soon as the worker has it, and the worker closes it before
//! its last word: a caller that is stopped, or whose stderr blocks, holds no lock. The worker opens no terminal and keeps
//! no stdout or stderr of its caller's, so a process that reads those does not wait for it.

use crate::environment::Passed;
use crate::error::Failure;
use crate::globals::Globals;
use crate::grant::{Document, Secret};
use crate::lock::Guard;
use crate::output::{self, NeverWaits};
use crate::session::{RefreshInput, Token};
use crate::system::{SignalsHeld, as_given_in_own_session};
use crate::text::describe;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The one argument of a worker. It is for this program's own use.
pub const ARGUMENT: &str = "--exchange-for-caller";

/// This very program, even where its file was replaced or removed since.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// How long the caller waits beyond its deadline for a worker whose last word is on its way.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(2);

/// The shortest wait for a word. A caller that was stopped until after its deadline hears what was said meanwhile.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Takes what happens, and how important it is.
type Tell<'a> = &'a dyn Fn(u8, &str);

/// The longest line between the two, in bytes: a document as large as one may be, and its quotes.
const LINE_LIMIT: u64 = 32 << 20;

/// What the caller asks for. It is not in the environment: the worker, and the programs that it runs, have the environment
/// that the caller was given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The grant and the deadline.
    pub passed: Passed,
    /// What is to be done.
    pub task: Task,
    /// How much of the deadline had passed.
    pub elapsed: Duration,
}

/// What is done by a worker: all that spends a refresh token.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// To refresh the stored session; the answer is [`Word::Token`].
    Refresh(RefreshInput),
    /// To prove a refresh token that was got elsewhere, and to store its session; the answer is [`Word::Stored`].
    Import {
        /// The new document, without a session.
        document: Box<Document>,
        /// What is imported.
        refresh_token: Secret,
    },
}

/// What the worker says. Any other line is meant for stderr.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// It begins.
    Began,
    /// What happens, and how important it is.
    AlreadyReported(u8, String),
    /// Whether nothing is on its way now.
    Rests(bool),
    /// It got a token.
    Token(Box<Token>),
    /// It logged in.
    Stored(Box<Document>),
    /// It failed.
    Failed(Failure),
}

// ---- the caller ----

/// What became of a task.
#[derive(Debug)]
pub enum Ended {
    /// The worker's last word.
    Saying(Word),
    /// None could be started: nothing was done.
    NotStarted,
    /// It died, and how far it had come is not known.
    WithoutAWord,
    /// It had not ended by the deadline.
    Late,
}

/// Hands the task and the lock over to a worker, and waits for its end, at most until the deadline has passed by
/// [`LAST_WORD_LIMIT`].
pub fn send(task: Task, globals: &Globals, elapsed: Duration, lock: Option<Guard>, tell: Tell) -> Ended {
    // Ctrl-C waits until the answer is stored.
    let signals = SignalsHeld::hold();
    let limit = globals.timeout.saturating_sub(elapsed).saturating_add(LAST_WORD_LIMIT);
    let ask = |worker: Worker| {
        let request = Request { passed: globals.passed()?, task, elapsed };
        write_line(&worker.socket, &request).map(|()| worker)
    };
    let started = start(lock.as_ref()).and_then(ask);
    drop(lock);
    match started {
        Ok(worker) => worker.listen(Instant::now() + limit, signals, tell),
        Err(error) => {
            tell(2, &format!("no worker could be started ({}): going on in place", describe(&error)));
            Ended::NotStarted
        }
    }
}

struct Worker {
    child: Child,
    socket: UnixStream,
}

fn start(lock: Option<&Guard>) -> io::Result<Worker> {
    let (socket, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let stdin = match lock.map(Guard::share).transpose()?.flatten() {
        Some(file) => OwnedFd::from(file),
        None => theirs.try_clone()?,
    };
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("onegrant").arg(ARGUMENT);
    command.stdin(stdin).stderr(theirs.try_clone()?).stdout(theirs);
    Ok(Worker { child: as_given_in_own_session(&mut command).spawn()?, socket })
}

impl Worker {
    /// Passes on what it says until it has ended; holds signals back unless nothing is on its way.
    fn listen(mut self, until: Instant, signals: Option<SignalsHeld>, tell: Tell) -> Ended {
        // In this order: what had no room on stderr is said after the signals are let go.
        let _never_waits = NeverWaits::begin();
        let mut signals = signals;
        let mut reader = BufReader::new(&self.socket);
        let (mut last, mut has_begun) = (None, false);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = match read_line(&mut reader, left.max(SHORTEST_WAIT)) {
                Ok(line) => line,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return last.map_or(Ended::Late, Ended::Saying);
                }
                // It has ended: by the end of the lines, or, where it had not read the request, by a reset.
                Err(_) => {
                    let _ = self.child.wait();
                    let silent = if has_begun { Ended::WithoutAWord } else { Ended::NotStarted };
                    return last.map_or(silent, Ended::Saying);
                }
            };
            match serde_json::from_slice(&line) {
                Ok(Word::Began) => has_begun = true,
                Ok(Word::AlreadyReported(importance, what)) => tell(importance, &what),
                Ok(Word::Rests(true)) => signals = None,
                Ok(Word::Rests(false)) => signals = signals.take().or_else(SignalsHeld::hold),
                Ok(word) => last = Some(word),
                Err(_) => output::say(&format!("{}\n", String::from_utf8_lossy(&line))),
            }
        }
    }
}

// ---- lines between the two ----

/// Writes one line.
pub fn write_line(mut socket: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    socket.write_all(&line(value)?)
}

/// One line.
pub fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// One line without its end, within `limit`; [`ErrorKind::UnexpectedEof`] where there is none.
pub fn read_line(reader: &mut BufReader<&UnixStream>, limit: Duration) -> io::Result<Vec<u8>> {
    if limit.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    reader.get_ref().set_read_timeout(Some(limit))?;
    let mut line = Vec::new();
    reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}
