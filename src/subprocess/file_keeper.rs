//! The keeper: replaces the file of `exec --file` before its token ends, for as long as the command runs.
//!
//! The command takes the place of the process that started it, so that signals and exit status are its own; the keeper
//! is the same program once more, beside it. It is nobody's child (whoever counts the command's children finds none that
//! he does not know), of a session of its own, and holds none of the command's files: whoever reads the command's output
//! does not wait for it.
//!
//! It ends when the command has ended; a refresh that is on its way then is finished first, within the deadline of any other.
//! It ends, too, when a login is required. The file stays as it is.

use crate::arguments::{Environment, Passed, resolve_environment};
use crate::cli::{self, FORMATS, Format};
use crate::driver::Clock;
use crate::error::{Failure, Kind, SUCCESS};
use crate::grant::Session;
use crate::profile::Context;
use crate::profile::token_file::TokenFile;
use crate::profile::token_text;
use crate::session::{Demand, Unwanted, expiry};
use crate::subprocess::worker::THIS_PROGRAM;
use crate::system::{self, Watched};
use crate::text::describe;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The first argument of a keeper. It is for this program's own use.
pub const ARGUMENT: &str = "--keep-file-for-command";

/// How long before its end a token is replaced, in seconds: time for who has read it a moment ago. A fifth of a shorter
/// lifetime will do; and where `--min-ttl` asks for more, it is half of the lifetime at most.
const MARGIN_SECONDS: i64 = 60;

/// The longest sleep. The clocks that sleeps go by may stand still while the machine is suspended, and a token that another
/// process has replaced before its time gets into the file within this.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The shortest sleep: of who cannot get a token that lasts, and the first of who cannot get any; this one doubles.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// How long the process may last that starts the one that stays.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Starts the keeper of a file for this process and what takes its place.
pub fn start(file: &Path, arguments: &cli::Exec, context: &Context) -> Result<(), Failure> {
    let start = || -> io::Result<bool> {
        let this_process = context.this_process();
        let mut command = program();
        command.arg("start").arg(this_process.pid.to_string()).arg(this_process.start_time.to_string());
        command.arg(Demand::lasting(arguments.min_ttl).min_ttl.to_string());
        command.arg(name_of(arguments.format.unwrap_or_default())).arg(file).args(context.globals.passed()?);
        Ok(command.status()?.success())
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

/// The program once more, with none of the files of this one.
fn program() -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("onegrant").arg(ARGUMENT);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    system::as_given(&mut command);
    command
}

/// The word for a format in the arguments.
pub fn name_of(format: Format) -> &'static str {
    let found = FORMATS.iter().find(|(_, named)| *named == format);
    found.map_or("raw", |(name, _)| name)
}

/// What a keeper is told: in arguments, for whoever wonders what this process is. There is no secret in them.
struct Task {
    pid: u32,
    start_time: u64,
    min_ttl: i64,
    format: Format,
    file: PathBuf,
}

/// Runs a keeper, first as the child of the command's process, which ends as soon as it has started the one that stays.
pub fn run(arguments: impl Iterator<Item = OsString>, environment: &Environment) -> u8 {
    system::close_inherited();
    let mut arguments = arguments.skip_while(|argument| argument == ARGUMENT);
    let stage = arguments.next().unwrap_or_default();
    let words: Vec<OsString> = arguments.collect();
    let Some((task, passed)) = read(&words) else {
        return Kind::Usage.code();
    };
    let Ok(globals) = resolve_environment(&Environment::with(passed, environment)) else {
        return Kind::Usage.code();
    };
    if stage == "start" {
        system::end_after(START_LIMIT);
        // From here on no signal that is meant for the command's group reaches it.
        let _ = rustix::process::setsid();
        return match program().arg("stay").args(words).spawn() {
            Ok(_) => SUCCESS,
            Err(_) => Kind::Temporary.code(),
        };
    }
    if let Some(command) = Watched::new(task.pid, task.start_time) {
        keep(&task, &command, || Context::new(globals.clone(), system::SystemClock::start()));
    }
    SUCCESS
}

fn read(words: &[OsString]) -> Option<(Task, Passed)> {
    let [pid, start_time, min_ttl, format, file, passed @ ..] = words else {
        return None;
    };
    let format = FORMATS.iter().find(|(name, _)| format == *name)?.1;
    let task = Task {
        pid: pid.to_str()?.parse().ok()?,
        start_time: start_time.to_str()?.parse().ok()?,
        min_ttl: min_ttl.to_str()?.parse().ok()?,
        format,
        file: PathBuf::from(file),
    };
    Some((task, passed.to_vec().try_into().ok()?))
}

/// Each turn has a context, and with it a deadline, of its own. The first finds what was written before the command began.
fn keep(task: &Task, command: &Watched, context: impl Fn() -> Context) {
    let mut written = None;
    let mut sleep = Duration::ZERO;
    let mut after_failure = SHORTEST_SLEEP;
    while command.runs_for(sleep) {
        let is_wanted = || command.runs_for(Duration::ZERO);
        let due = match renew(task, &context(), &mut written, is_wanted) {
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

/// Puts a token that lasts into the file, unless it is there, and tells when the next one is due: at once where the server
/// was asked for it already and gave none.
fn renew(
    task: &Task,
    context: &Context,
    written: &mut Option<String>,
    is_wanted: impl Fn() -> bool,
) -> Result<Duration, Kind> {
    let kind = |failure: Failure| failure.kind;
    let stored = context.document().map_err(kind)?.and_then(|document| document.session);
    let min_ttl = stored.map_or(0, |session| margin(&session, task.min_ttl));
    let demand = Demand { min_ttl, unwanted: Unwanted::None };
    let session = context.obtain(demand).map_err(kind)?.session;
    let text = token_text::text(&session, task.format, context).map_err(kind)?;
    if written.as_ref() != Some(&text) && is_wanted() {
        let file = TokenFile::find(&task.file).and_then(|file| file.write(text.as_bytes(), context.left()));
        // What is in the way may be removed later: try again.
        file.map_err(|_| Kind::Store)?;
        *written = Some(text);
    }
    let Some(end) = expiry(&session) else { return Ok(LONGEST_SLEEP) };
    let due = end.saturating_sub(margin(&session, task.min_ttl)).saturating_sub(context.now().wall);
    Ok(Duration::from_secs(u64::try_from(due).unwrap_or(0)))
}

/// How long before its end a token is replaced, in seconds.
fn margin(session: &Session, min_ttl: i64) -> i64 {
    let lifetime = expiry(session).unwrap_or_default().saturating_sub(session.obtained_at);
    MARGIN_SECONDS.min(lifetime / 5).max(min_ttl.min(lifetime / 2))
}
