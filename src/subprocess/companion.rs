//! The companion of a command that `exec` runs: it replaces the file of `--file` before its token expires, and is the broker of
//! `--serve`, for as long as the command runs.
//!
//! The command takes the place of the process that started it, so that signals and exit status are its own. The companion runs
//! beside it. It is not a child of the command (a command that counts its children finds none that it does not know), it
//! has its own session, and it holds none of the command's files: a process that reads the command's output does not
//! wait for the companion.
//!
//! The companion ends when the command has ended. A refresh that is on its way then is finished first, within the deadline of
//! any other. The file is no longer replaced when a login is required; it stays as it is.

use super::{Mode, command, request, start_and_end};
use crate::adapters::broker::server::Entrance;
use crate::adapters::broker::shape::Shape;
use crate::adapters::formats::{Format, Given};
use crate::broker::Service;
use crate::broker::listener::{Listener, Place};
use crate::cli;
use crate::driver::Clock;
use crate::environment::{Environment, Passed};
use crate::error::{Failure, Kind};
use crate::globals::Globals;
use crate::grant::{Secret, Session};
use crate::profile::Context;
use crate::profile::brokered;
use crate::profile::token_file::TokenFile;
use crate::profile::token_text;
use crate::session::{Demand, expiry_of};
use crate::system::{self, Watched};
use crate::text::describe;
use rustix::stdio::dup2_stdout;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::scope;
use std::time::Duration;

/// How long before its end a token is replaced, in seconds: time for a program that has just read it. A shorter lifetime
/// leaves a fifth of it. If `--min-ttl` asks for more, it is at most half of the lifetime.
const MARGIN_SECONDS: i64 = 60;

/// The longest sleep. Sleep may not count the time while the machine is suspended. And a token that another process
/// has replaced early gets into the file within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The shortest sleep: if no token lasts longer, and after the first failure. After each further failure it doubles.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// What a companion is started with. If it is a broker, its stdout is the socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CompanionRequest {
    /// Whether this process is the companion. Before that it is a child of the command's process, which starts the companion
    /// and ends.
    is_companion: bool,
    /// The process of the command.
    pid: u32,
    /// The start time of that process, in clock ticks since boot.
    start_time: u64,
    /// The path of the file that is kept fresh, of any bytes.
    file: Option<OsString>,
    /// Which token the file holds, and how long it should last.
    demand: Demand,
    format: Format,
    broker: Option<BrokerRequest>,
    passed: Passed,
}

/// The broker that a companion is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BrokerRequest {
    key: Secret,
    place: Place,
    /// The other server that it looks like.
    shape: Option<Shape>,
}

/// The socket and the key of a broker that the companion is to be.
pub struct Served<'a> {
    /// The socket.
    pub listener: &'a Listener,
    /// The key.
    pub key: Secret,
}

/// Starts the companion of this process and of the command that takes its place.
pub fn start(
    file: Option<&Path>,
    served: Option<Served>,
    arguments: &cli::Exec,
    context: &Context,
) -> Result<(), Failure> {
    let start = || -> io::Result<bool> {
        let this_process = context.this_process();
        let broker = served.as_ref().map(|served| BrokerRequest {
            key: served.key.clone(),
            place: served.listener.place.clone(),
            shape: arguments.shape,
        });
        let request = CompanionRequest {
            is_companion: false,
            pid: this_process.pid,
            start_time: this_process.start_time,
            file: file.map(Into::into),
            demand: Demand::lasting(arguments.kind(), arguments.min_ttl),
            format: arguments.format.unwrap_or_default(),
            broker,
            passed: context.globals.passed()?,
        };
        let socket = served.map(|served| served.listener.socket.try_clone()).transpose()?;
        Ok(spawn(&request, socket.map_or_else(Stdio::null, Stdio::from))?.wait()?.success())
    };
    let failed = |why: &str| {
        Failure::new(Kind::Temporary, format!("cannot stay beside the command: {why}")).hint("try again")
    };
    match start() {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed("its companion did not start")),
        Err(error) => Err(failed(&describe(&error))),
    }
}

/// Runs this program once more, with none of the files of this process but `stdout`.
fn spawn(request: &CompanionRequest, stdout: Stdio) -> io::Result<Child> {
    let mut command = command(Mode::Companion, request)?;
    // The argument is for a person who lists processes.
    command.args(&request.file).stdout(stdout).stderr(Stdio::null());
    system::as_given(&mut command).spawn()
}

/// Starts the companion, or is the companion.
pub(super) fn run(environment: &Environment) -> Result<(), Failure> {
    system::close_inherited();
    let request: CompanionRequest = request(Mode::Companion)?;
    if !request.is_companion {
        return start_and_end(|| {
            // From here on no signal that is meant for the command's group reaches the companion.
            let _ = rustix::process::setsid();
            spawn(&CompanionRequest { is_companion: true, ..request }, Stdio::inherit())
        });
    }
    let globals = Globals::from_environment(&Environment::with(request.passed.clone(), environment))?;
    // No person reads what it says.
    let globals = Globals { verbosity: 0, ..globals };
    let failed = |error: io::Error| Failure::new(Kind::Temporary, describe(&error));
    // Its socket is removed even if the command has ended by now.
    let listener = request.broker.as_ref().map(|broker| listener(broker.place.clone()));
    let listener = listener.transpose().map_err(failed)?;
    let Some(command) = Watched::new(request.pid, request.start_time) else { return Ok(()) };
    let context = || Context::new(globals.clone(), system::SystemClock::start());
    let keep = |file| keep(Path::new(file), &request, &command, context);
    let (Some(listener), Some(broker)) = (listener, &request.broker) else {
        request.file.iter().for_each(keep);
        return Ok(());
    };
    let globals = brokered::named(&globals);
    let profile = globals.known_profile().to_owned();
    let port = match &broker.place {
        Place::Loopback(port) => Some(*port),
        Place::File(_) | Place::Given => None,
    };
    let entrance = Entrance { key: Some(broker.key.clone()), port, profile };
    let service = Service { entrance, shape: broker.shape, globals: &globals, command: Some(&command) };
    let serve = || -> io::Result<()> {
        // Held back before the thread begins.
        let signals = system::end_signals()?;
        scope(|scope| {
            if let Some(file) = &request.file {
                scope.spawn(move || keep(file));
            }
            service.run(listener, &signals)?;
            // After a signal the thread would go on for as long as the command runs.
            if command.runs_for(Duration::ZERO) {
                std::process::exit(0);
            }
            Ok(())
        })
    };
    serve().map_err(failed)
}

/// The socket of a broker, which the process before this one gave as stdout.
fn listener(place: Place) -> io::Result<Listener> {
    Ok(Listener { socket: stdout()?, place })
}

/// Takes the socket that is stdout.
fn stdout() -> io::Result<OwnedFd> {
    let socket = io::stdout().as_fd().try_clone_to_owned()?;
    dup2_stdout(io::stderr())?;
    Ok(socket)
}

/// Each round has its own context and deadline. The first round finds the token that was written before the
/// command began.
fn keep(file: &Path, request: &CompanionRequest, command: &Watched, context: impl Fn() -> Context) {
    let mut written = None;
    let mut sleep = Duration::ZERO;
    let mut after_failure = SHORTEST_SLEEP;
    while command.runs_for(sleep) {
        let is_wanted = || command.runs_for(Duration::ZERO);
        let due = match renew(file, request, &context(), &mut written, is_wanted) {
            Ok(due) => due,
            Err(Kind::LoginRequired | Kind::Usage) => return,
            Err(_) => Duration::ZERO,
        };
        if due.is_zero() {
            sleep = after_failure;
            after_failure = (after_failure * 2).min(LONGEST_SLEEP);
        } else {
            (sleep, after_failure) = (due.clamp(SHORTEST_SLEEP, LONGEST_SLEEP), SHORTEST_SLEEP);
        }
    }
}

/// Puts a token that lasts into the file, unless it is there, and returns when the next one is due. That is at once if the
/// server issued none that lasts longer.
fn renew(
    file: &Path,
    request: &CompanionRequest,
    context: &Context,
    written: &mut Option<String>,
    is_wanted: impl Fn() -> bool,
) -> Result<Duration, Kind> {
    let kind = |failure: Failure| failure.kind;
    let stored = context.document().map_err(kind)?.and_then(|document| document.session);
    let min_ttl = stored.map_or(0, |session| margin(&session, &request.demand));
    let session = context.obtain(Demand { min_ttl, ..request.demand.clone() }).map_err(kind)?.session;
    let given = Given::new(&session, request.demand.token).map_err(kind)?;
    let text = token_text::text(given, request.format, context).map_err(kind)?;
    if written.as_ref() != Some(&text) && is_wanted() {
        let replaced = TokenFile::find(file).and_then(|found| found.write(text.as_bytes(), context.left()));
        // The obstacle may be removed later: try again.
        replaced.map_err(|_| Kind::Store)?;
        *written = Some(text);
    }
    let Some(end) = given.expires_at() else { return Ok(LONGEST_SLEEP) };
    let due = end.saturating_sub(margin(&session, &request.demand)).saturating_sub(context.now().wall);
    Ok(Duration::from_secs(u64::try_from(due).unwrap_or(0)))
}

/// How long before its end a token is replaced, in seconds.
fn margin(session: &Session, demand: &Demand) -> i64 {
    let end = expiry_of(session, demand.token).unwrap_or_default();
    let lifetime = end.saturating_sub(session.obtained_at);
    MARGIN_SECONDS.min(lifetime / 5).max(demand.min_ttl.min(lifetime / 2))
}
