//! The process of a command runner.

use super::runner::{Occasion, RunnerRequest, start_runner};
use super::{Mode, request, start_and_end};
use crate::driver::Clock;
use crate::environment::{Environment, EventCommands};
use crate::error::Failure;
use crate::globals::Globals;
use crate::grant::Document;
use crate::lock::Guard;
use crate::profile::Context;
use crate::profile::events::{EventFiles, RunLock};
use crate::session::events::Delivery;
use crate::system::command::{file_in_memory, run_unheard};
use crate::system::{self, SystemClock};
use crate::text::describe;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a command may run. Then it is killed, with its process group.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// How often one runner runs the command of `ONEGRANT_ON_ROTATE`: a command that itself refreshes would never end. What is
/// left is done by the next process.
const MOST_RUNS: u32 = 32;

/// Starts the runner, or is the runner.
pub(super) fn run(environment: &Environment) -> Result<(), Failure> {
    system::close_inherited();
    let request: RunnerRequest = request(Mode::Runner)?;
    if !request.is_runner {
        return start_and_end(|| start_runner(request));
    }
    // A disk may hang.
    system::end_after(COMMAND_LIMIT * (MOST_RUNS + 1));
    let (commands, RunnerRequest { passed, occasion, .. }) = (EventCommands::read(), request);
    let [profile, ..] = &passed;
    match occasion {
        Occasion::LoginRequired(told) => {
            if let Some(command) = commands.login_required {
                // No process sees the end of it.
                let _ = run_command(&command, profile, told.as_bytes(), None);
            }
        }
        Occasion::Rotated => {
            let lock = lock_of_stdout();
            if let Some(command) = commands.rotate {
                let globals = Globals::from_environment(&Environment::with(passed, environment))?;
                deliver(&command, &globals, lock);
            }
        }
    }
    Ok(())
}

/// The lock that the process gave that started this one: stdout, if it is a file.
fn lock_of_stdout() -> Option<RunLock> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    stdout.metadata().is_ok_and(|metadata| metadata.is_file()).then(|| RunLock::Held(Guard::given(stdout)))
}

/// Runs a command with this stdin and the profile as `$1`. Otherwise returns why it did not succeed. The file lies in memory: a
/// command that does not read it holds up nothing.
fn run_command(command: &OsStr, profile: &OsStr, stdin: &[u8], lock: Option<File>) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).arg("onegrant").arg(profile);
    let ran = file_in_memory(stdin).and_then(|stdin| run_unheard(&mut shell, stdin, lock, COMMAND_LIMIT));
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("it ended with {status}")),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(format!("it was killed after {} s", COMMAND_LIMIT.as_secs()))
        }
        Err(error) => Err(describe(&error)),
    }
}

/// A document that the command has not been given.
struct Due {
    context: Context,
    document: Document,
    refresh_token_sha256: String,
    bytes: Zeroizing<Vec<u8>>,
    /// What was delivered before.
    before: Delivery,
}

/// The newest document, if it is due. Each look has its own deadline.
fn due(globals: &Globals, files: &EventFiles) -> Option<Due> {
    let context = Context::new(globals.clone(), SystemClock::start());
    let document = context.document().ok()??;
    let refresh_token_sha256 = document.refresh_token()?.sha256();
    let before = files.delivery()?;
    let is_due = before.is_due(&refresh_token_sha256, context.now().wall);
    let bytes = Zeroizing::new(document.to_bytes().ok()?);
    is_due.then_some(Due { context, document, refresh_token_sha256, bytes, before })
}

/// Runs the command with the newest document until it has been given that one. Intermediate ones may be skipped.
///
/// A process that finds the lock taken leaves its rotation to this one. So this one looks again after it has released the
/// lock. If the command fails, only a newer document is another reason to run it: the rest is for the next process.
fn deliver(command: &OsStr, globals: &Globals, mut lock: Option<RunLock>) {
    let Ok(files) = EventFiles::of(&Context::new(globals.clone(), SystemClock::start())) else { return };
    let (mut runs, mut failed) = (0, None);
    while runs < MOST_RUNS {
        let Some(guard) = lock.take().or_else(|| files.lock()) else { return };
        while runs < MOST_RUNS
            && let Some(due) = due(globals, &files)
            && failed.as_ref() != Some(&due.refresh_token_sha256)
        {
            runs += 1;
            guard.renew();
            let now = SystemClock::start().now().wall;
            // If this cannot be written, the command would run again and again.
            if files.write(&due.before.begun(now)).is_err() {
                return;
            }
            let profile = globals.profile.as_str().as_ref();
            failed = match run_command(command, profile, &due.bytes, guard.for_command()) {
                Ok(()) => {
                    let _ = files.write(&Delivery::of(due.refresh_token_sha256));
                    None
                }
                Err(why) => {
                    // The history has room for a few entries: the first failure is enough.
                    if due.before.failures == 0 {
                        due.context.note_not_delivered(&why, &due.document);
                    }
                    Some(due.refresh_token_sha256)
                }
            };
        }
        drop(guard);
        let is_due = due(globals, &files).is_some_and(|due| failed != Some(due.refresh_token_sha256));
        if !is_due {
            return;
        }
    }
}
