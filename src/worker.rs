//! The worker: the exchange with the server outlives the process that asked for it.
//!
//! Callers kill their helpers: a build tool after ten seconds, a CI job that is cancelled, a terminal's whole process
//! group. Between the server's rotation and the durable copy that would cost the session. So the program runs
//! itself once more, in a session of its own, to claim, spend and commit; whoever needs the token waits for it, and
//! if he is killed, only the waiting ends.
//!
//! ```text
//! caller                                     worker: stdin is the lock's file, stdout the socket
//!   Request  ── one line of JSON ──────────▶ leaves the process group, sets its alarm, runs the machine
//!   prints   ◀── Told, a line each ────────── what happens, warnings
//!   finishes ◀── Ended ────────────────────── the result; the socket closes
//! ```
//!
//! The lock belongs to the open file, which both hold: it is free when both have ended. The worker opens no terminal and
//! keeps no stdout or stderr of its caller's, so nobody who reads those waits for it.

use crate::arguments::{Globals, StoreAddress};
use crate::driver::Seams;
use crate::error::Failure;
use crate::lock::Guard;
use crate::session::{Delegation, Errand, Token};
use crate::system::SignalsHeld;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The one argument of a worker. It is for this program's own use.
pub const ARGUMENT: &str = "--exchange-for-caller";

/// This very program, even where its file was replaced or removed since.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// How long the caller waits beyond its deadline for a worker whose last word is on its way.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(2);

/// The longest line between the two, in bytes: a document as large as one may be, and its quotes.
const LINE_LIMIT: u64 = 32 << 20;

/// What the caller asks for. Profile, store, lock use and deadline stand in the environment, as for any process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The errand.
    pub errand: Errand,
    /// How much of the deadline had passed.
    pub elapsed: Duration,
}

/// What the worker says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// What happens, and how important it is.
    Told(u8, String),
    /// What a person should know although nothing failed.
    Warned(Failure),
    /// Whether nothing is on its way now.
    Rests(bool),
    /// It got a token.
    Token(Box<Token>),
    /// It failed.
    Failed(Failure),
}

// ---- the caller ----

/// Has a worker do the errand, and waits for it, at most until the deadline has passed by [`LAST_WORD_LIMIT`].
pub fn delegate(
    errand: &Errand,
    globals: &Globals,
    elapsed: Duration,
    lock: Option<&Guard>,
    seams: &Seams,
) -> Delegation {
    // Ctrl-C waits for the answer (section 4.5 of the contract).
    let signals = SignalsHeld::hold();
    let limit = globals.timeout.saturating_sub(elapsed).saturating_add(LAST_WORD_LIMIT);
    let request = Request { errand: errand.clone(), elapsed };
    match start(globals, lock).and_then(|worker| worker.ask(&request).map(|()| worker)) {
        Ok(worker) => worker.listen(Instant::now() + limit, signals, seams),
        Err(error) => {
            (seams.tell)(2, &format!("no worker could be started ({error}): going on in place"));
            Delegation::NoWorker
        }
    }
}

struct Worker {
    child: Child,
    socket: UnixStream,
}

fn start(globals: &Globals, lock: Option<&Guard>) -> io::Result<Worker> {
    let (socket, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let stdin = match lock.map(Guard::share).transpose()?.flatten() {
        Some(file) => OwnedFd::from(file),
        None => theirs.try_clone()?,
    };
    let StoreAddress::File(directory) = &globals.store;
    let mut store = OsString::from("file:");
    store.push(std::path::absolute(directory)?);
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("onegrant").arg(ARGUMENT);
    command.env("ONEGRANT_PROFILE", globals.profile.as_str()).env("ONEGRANT_STORE", store);
    command.env("ONEGRANT_TIMEOUT", globals.timeout.as_secs_f64().to_string());
    command.stdin(stdin).stderr(theirs.try_clone()?).stdout(theirs);
    Ok(Worker { child: command.spawn()?, socket })
}

impl Worker {
    fn ask(&self, request: &Request) -> io::Result<()> {
        write_line(&self.socket, request)
    }

    /// Passes on what it says until it has ended; holds signals back unless nothing is on its way.
    fn listen(mut self, until: Instant, mut signals: Option<SignalsHeld>, seams: &Seams) -> Delegation {
        let mut reader = BufReader::new(&self.socket);
        let mut ended = None;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = read_line(&mut reader, left);
            match line.map(|line| serde_json::from_slice(&line).ok()) {
                Ok(Some(Word::Told(importance, what))) => (seams.tell)(importance, &what),
                Ok(Some(Word::Warned(warning))) => (seams.warn)(&warning),
                Ok(Some(Word::Rests(true))) => signals = None,
                Ok(Some(Word::Rests(false))) => signals = signals.take().or_else(SignalsHeld::hold),
                Ok(Some(Word::Token(token))) => ended = Some(Ok(*token)),
                Ok(Some(Word::Failed(failure))) => ended = Some(Err(failure)),
                // What is none of its words: the system's, say, about a program that it cannot run.
                Ok(None) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return ended.map_or(Delegation::Unanswered, Delegation::Ended);
                }
                // It has ended: by the end of the lines, or, where it had not read the request, by a reset.
                Err(_) => {
                    let _ = self.child.wait();
                    return ended.map_or(Delegation::NoWorker, Delegation::Ended);
                }
            }
        }
    }
}

// ---- lines between the two ----

/// Writes one line.
pub fn write_line(mut socket: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    socket.write_all(&line)
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
