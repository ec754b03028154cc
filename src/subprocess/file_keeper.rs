//! The file keeper: replaces the file of `exec --file` before its token expires, for as long as the command runs.
//!
//! The command takes the place of the process that started it, so that signals and exit status are its own. The keeper runs
//! beside it. It is not a child of the command (a command that counts its children finds none that it does not know), it
//! has its own session, and it holds none of the command's files: a process that reads the command's output does not
//! wait for the keeper.
//!
//! The keeper ends when the command has ended. A refresh that is on its way then is finished first, within the deadline of
//! any other. The keeper also ends when a login is required; the file stays as it is.

use super::{Mode, command, request, start_and_end};
use crate::adapters::formats::{Format, Given};
use crate::cli;
use crate::driver::Clock;
use crate::environment::{Environment, Passed};
use crate::error::{Failure, Kind};
use crate::globals::Globals;
use crate::grant::Session;
use crate::profile::Context;
use crate::profile::token_file::TokenFile;
use crate::profile::token_text;
use crate::session::{Demand, expiry_of};
use crate::system::{self, Watched};
use crate::text::describe;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long before its end a token is replaced, in seconds: time for a program that has just read it. A shorter lifetime
/// leaves a fifth of it. If `--min-ttl` asks for more, it is at most half of the lifetime.
const MARGIN_SECONDS: i64 = 60;

/// The longest sleep. Sleep may not count the time while the machine is suspended. And a token that another process
/// has replaced early gets into the file within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The shortest sleep: if no token lasts longer, and after the first failure. After each further failure it doubles.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// What a keeper is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeeperRequest {
    /// Whether this process is the keeper. Before that it is a child of the command's process, which starts the keeper
    /// and ends.
    is_keeper: bool,
    /// The process of the command.
    pid: u32,
    /// The start time of that process, in clock ticks since boot.
    start_time: u64,
    /// Which token the file holds, and how long it should last.
    demand: Demand,
    format: Format,
    /// Its path, of any bytes.
    file: OsString,
    passed: Passed,
}

/// Starts the keeper of a file for this process and the command that takes its place.
pub fn start(file: &Path, arguments: &cli::Exec, context: &Context) -> Result<(), Failure> {
    let start = || -> io::Result<bool> {
        let this_process = context.this_process();
        let request = KeeperRequest {
            is_keeper: false,
            pid: this_process.pid,
            start_time: this_process.start_time,
            demand: Demand::lasting(arguments.kind(), arguments.min_ttl),
            format: arguments.format.unwrap_or_default(),
            file: file.into(),
            passed: context.globals.passed()?,
        };
        Ok(spawn(&request)?.wait()?.success())
    };
    let failed = |why: &str| {
        Failure::new(Kind::Temporary, format!("cannot keep the token in its file: {why}")).hint("try again")
    };
    match start() {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed("its keeper did not start")),
        Err(error) => Err(failed(&describe(&error))),
    }
}

/// Runs this program once more, with none of the files of this process.
fn spawn(request: &KeeperRequest) -> io::Result<Child> {
    let mut command = command(Mode::FileKeeper, request)?;
    // The argument is for a person who lists processes.
    command.arg(&request.file).stdout(Stdio::null()).stderr(Stdio::null());
    system::as_given(&mut command).spawn()
}

/// Starts the keeper, or is the keeper.
pub(super) fn run(environment: &Environment) -> Result<(), Failure> {
    system::close_inherited();
    let request: KeeperRequest = request(Mode::FileKeeper)?;
    if !request.is_keeper {
        return start_and_end(|| {
            // From here on no signal that is meant for the command's group reaches the keeper.
            let _ = rustix::process::setsid();
            spawn(&KeeperRequest { is_keeper: true, ..request })
        });
    }
    let globals = Globals::from_environment(&Environment::with(request.passed.clone(), environment))?;
    if let Some(command) = Watched::new(request.pid, request.start_time) {
        keep(&request, &command, || Context::new(globals.clone(), system::SystemClock::start()));
    }
    Ok(())
}

/// Each round has its own context and deadline. The first round finds the token that was written before the
/// command began.
fn keep(request: &KeeperRequest, command: &Watched, context: impl Fn() -> Context) {
    let mut written = None;
    let mut sleep = Duration::ZERO;
    let mut after_failure = SHORTEST_SLEEP;
    while command.runs_for(sleep) {
        let is_wanted = || command.runs_for(Duration::ZERO);
        let due = match renew(request, &context(), &mut written, is_wanted) {
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
    request: &KeeperRequest,
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
        let file = TokenFile::find(Path::new(&request.file))
            .and_then(|file| file.write(text.as_bytes(), context.left()));
        // The obstacle may be removed later: try again.
        file.map_err(|_| Kind::Store)?;
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
