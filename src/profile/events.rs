//! Starts the commands of `ONEGRANT_ON_LOGIN_REQUIRED` and `ONEGRANT_ON_ROTATE`. Whatever fails here fails no token.

use super::Context;
use super::store::ProfileStore;
use crate::driver::Clock;
use crate::environment::EventCommands;
use crate::error::{Failure, Kind};
use crate::grant::{Document, Secret, TokenKind};
use crate::lock::{Guard, Locked, Locker};
use crate::session::events::{Delivery, Observed, dead_grant};
use crate::session::{Event, LockMode, Step, TokenResult};
use crate::store::Store as _;
use crate::store::files::digits;
use crate::subprocess::runner::{self, Occasion};
use crate::system::SignalsHeld;
use crate::system::answers_lock_calls_at_once;
use crate::system::small_files::{create_directory_of, create_exclusively, open_regular, with_suffix};
use crate::text::describe;
use serde_json::json;
use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What the command of `ONEGRANT_ON_ROTATE` was given last.
const ROTATED: &str = "~rotated";

/// A dead grant that the command of `ONEGRANT_ON_LOGIN_REQUIRED` was told of; digits of its digest follow.
const LOGIN_REQUIRED: &str = "~login-required";

/// The longest [`Delivery`] that is read, in bytes.
const DELIVERY_LIMIT: usize = 4096;

/// How long a runner waits for the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(2);

/// How long the file of a runner excludes others where there is no lock: longer than a command may run.
const RUN_FILE_LASTS: Duration = Duration::from_secs(90);

/// Excludes other runners of the command of `ONEGRANT_ON_ROTATE` until it is dropped.
pub enum RunLock {
    /// The lock.
    Held(Guard),
    /// A file, where this place cannot lock.
    File(PathBuf),
}

impl RunLock {
    /// The lock for a command: if its runner is killed, no other command begins before the last program of it has ended.
    pub fn for_command(&self) -> Option<File> {
        match self {
            Self::Held(guard) => guard.share().ok().flatten(),
            Self::File(_) => None,
        }
    }

    /// Says that another command begins to run.
    pub fn renew(&self) {
        if let Self::File(path) = self {
            let file = OpenOptions::new().write(true).open(path);
            let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if let Self::File(path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

/// The files of the commands: beside the document, or in the directory of the store's files.
pub struct EventFiles {
    rotated: PathBuf,
}

impl EventFiles {
    /// The files of this profile.
    pub fn of(context: &Context) -> io::Result<Self> {
        Ok(Self { rotated: context.local_file(&in_place(context, ROTATED))? })
    }

    /// What was delivered last. `None`: this machine has neither delivered nor replaced a refresh token.
    pub fn delivery(&self) -> Option<Delivery> {
        let opened = open_regular(&self.rotated, OpenOptions::new().read(true));
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return None;
        }
        let mut bytes = [0; DELIVERY_LIMIT];
        let length = opened.and_then(|mut file| file.read(&mut bytes)).unwrap_or_default();
        // Of a file that cannot be read nothing is known: deliver once more.
        Some(Delivery::parse(bytes.get(..length).unwrap_or_default()))
    }

    /// Notes the refresh token that is stored before the first one is replaced. From now on another one is to be delivered,
    /// even if all processes are killed.
    fn begin(&self, refresh_token_sha256: &str) -> io::Result<()> {
        create_directory_of(&self.rotated)?;
        let mut file = create_exclusively(&self.rotated)?;
        let written = file.write_all(Delivery::of(refresh_token_sha256.to_owned()).to_json().as_bytes());
        written.inspect_err(|_| drop(fs::remove_file(&self.rotated)))
    }

    /// Replaces the note as a whole. It is not synced: after a power cut the command may run once more.
    pub fn write(&self, delivery: &Delivery) -> io::Result<()> {
        let beside = self.beside(".new");
        let _ = fs::remove_file(&beside);
        let mut file = create_exclusively(&beside)?;
        file.write_all(delivery.to_json().as_bytes())?;
        fs::rename(&beside, &self.rotated)
    }

    /// The lock of the command, for a runner. `None`: another runner has the lock.
    pub fn lock(&self) -> Option<RunLock> {
        // A program that waits for the end of a command (flock(1)) holds the lock for a moment.
        match self.ask_for_lock(LockMode::Queue) {
            Locked::Granted(guard) => Some(RunLock::Held(guard.shared())),
            Locked::Refused(_) => self.create_run_file(),
            Locked::Busy | Locked::Unanswered | Locked::Failed(_) => None,
        }
    }

    /// The lock for a runner that is about to be started. `None`: another one runs. If this place cannot lock, or may not
    /// answer, the runner sees to it.
    fn lock_for_runner(&self) -> Option<Guard> {
        if !answers_lock_calls_at_once(&self.rotated) {
            return Some(Guard::default());
        }
        match self.ask_for_lock(LockMode::Try) {
            Locked::Granted(guard) => Some(guard),
            Locked::Refused(_) => Some(Guard::default()),
            Locked::Busy | Locked::Unanswered | Locked::Failed(_) => None,
        }
    }

    fn ask_for_lock(&self, mode: LockMode) -> Locked {
        let path = self.beside(".lock");
        let is_local = answers_lock_calls_at_once(&path);
        let fail = |error: &io::Error| Failure::new(Kind::Store, describe(error));
        Locker::new(path, is_local).lock(mode, LOCK_LIMIT, fail)
    }

    /// If this place cannot lock, a file that is created exclusively excludes other runners. One that a kill left counts for
    /// [`RUN_FILE_LASTS`].
    fn create_run_file(&self) -> Option<RunLock> {
        let path = self.beside(".running");
        let changed_at = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        // A file of the future is left by a clock that was set back.
        if changed_at.is_some_and(|at| at.elapsed().unwrap_or(Duration::MAX) > RUN_FILE_LASTS) {
            let _ = fs::remove_file(&path);
        }
        create_exclusively(&path).ok().map(|_| RunLock::File(path))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.rotated, suffix)
    }
}

/// The name with the store's place. The directory is the same for all cells of a kind.
fn in_place(context: &Context, name: &str) -> String {
    match &context.store {
        ProfileStore::Cell(store) => format!("{name}.{}", digits(&Secret::new(store.location()).sha256())),
        ProfileStore::File(_) | ProfileStore::Helper(_) | ProfileStore::Broker(_) => name.to_owned(),
    }
}

/// Watches one refresh for events. Without the variables there is none.
pub struct EventWatch<'a> {
    context: &'a Context,
    commands: EventCommands,
    wanted: TokenKind,
    observed: RefCell<Observed>,
    /// The refresh token that was stored first, if it could not be noted. Without a note no command runs.
    not_noted: RefCell<Option<String>>,
}

impl<'a> EventWatch<'a> {
    /// For a refresh that wants this token. `None`: neither variable is set.
    pub fn of(context: &'a Context, wanted: TokenKind) -> Option<Self> {
        let commands = EventCommands::read();
        (!commands.is_empty()).then(|| Self {
            context,
            commands,
            wanted,
            observed: RefCell::default(),
            not_noted: RefCell::default(),
        })
    }

    /// Takes a step and its event.
    pub fn observe(&self, step: &Step, event: &Event) {
        let replaceable = self.observed.borrow_mut().observe(step, event);
        if let Some(replaceable) = replaceable.filter(|_| self.commands.rotate.is_some())
            && self.note(&replaceable).is_err()
        {
            self.not_noted.replace(Some(replaceable));
        }
    }

    fn note(&self, refresh_token_sha256: &str) -> io::Result<()> {
        // A file size limit is an error of the write, and does not end this process.
        let _signals = SignalsHeld::hold();
        match EventFiles::of(self.context).and_then(|files| files.begin(refresh_token_sha256)) {
            // It exists after the first refresh.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            noted => noted,
        }
    }

    /// Starts the commands after the refresh, which has released the lock.
    pub fn finish(self, result: &TokenResult, log: &dyn Fn(u8, &str)) {
        let observed = self.observed.take();
        if observed.is_delegated() {
            return;
        }
        if self.commands.rotate.is_some()
            && let Some(stored) = observed.refresh_token_sha256()
        {
            // What could not be created then may be possible now.
            let noted = self.not_noted.take().map_or(Ok(()), |replaced| self.note(&replaced));
            let started = noted.and_then(|()| deliver(self.context, &stored));
            report("ONEGRANT_ON_ROTATE", started, log);
        }
        if self.commands.login_required.is_some() {
            let grant = || dead_grant(result.as_ref().err()?, &observed, self.wanted, self.context.now());
            match (result, grant()) {
                (Err(failure), Some(digest)) => {
                    report("ONEGRANT_ON_LOGIN_REQUIRED", tell(self.context, failure, &digest), log);
                }
                // A refusal has passed. If the refresh token stays the same, its death is another event.
                _ if observed.has_stored_session() => forget(self.context, None),
                _ => {}
            }
        }
    }
}

/// Says under `-vv` whether a command was started.
fn report(variable: &str, started: io::Result<bool>, log: &dyn Fn(u8, &str)) {
    match started {
        Ok(true) => log(2, &format!("the command of {variable} was started")),
        Ok(false) => {}
        Err(error) => log(1, &format!("the command of {variable} was not started: {}", describe(&error))),
    }
}

/// Starts a runner if the stored refresh token is to be delivered and no other runner runs.
fn deliver(context: &Context, stored: &str) -> io::Result<bool> {
    let files = EventFiles::of(context)?;
    if !files.delivery().is_some_and(|delivery| delivery.is_due(stored, context.now().wall)) {
        return Ok(false);
    }
    let Some(lock) = files.lock_for_runner() else { return Ok(false) };
    runner::start(Occasion::Rotated, context.globals.passed()?, Some(&lock)).map(|()| true)
}

/// Starts a runner unless the command was told of this dead grant. Of many processes, the one that creates the file does so.
fn tell(context: &Context, failure: &Failure, digest: &str) -> io::Result<bool> {
    let path = context.local_file(&format!("{}.{}", in_place(context, LOGIN_REQUIRED), digits(digest)))?;
    create_directory_of(&path)?;
    match create_exclusively(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        created => created?,
    };
    forget(context, Some(&path));
    let told = json!({
        "event": "login_required",
        "profile": context.globals.profile.as_str(),
        "message": failure.message,
        "hint": failure.hint.as_ref().map(|hint| context.complete(hint)),
    });
    let started =
        runner::start(Occasion::LoginRequired(format!("{told}\n")), context.globals.passed()?, None);
    // The command was not run: the next process tries.
    started.inspect_err(|_| drop(fs::remove_file(&path))).map(|()| true)
}

/// Removes the files of dead grants, but not `kept`: there is another grant.
fn forget(context: &Context, kept: Option<&Path>) {
    let all = context.local_files(&format!("{}.", in_place(context, LOGIN_REQUIRED))).into_iter();
    all.filter(|path| Some(path.as_path()) != kept).for_each(|path| drop(fs::remove_file(path)));
}

/// A login is about to store a grant: from now on its refresh token is to be delivered.
pub fn login_begins(context: &Context) {
    if EventCommands::read().rotate.is_some() {
        let before = context.document().ok().flatten();
        let before = before.and_then(|document| Some(document.refresh_token()?.sha256()));
        let _signals = SignalsHeld::hold();
        let _ = EventFiles::of(context).and_then(|files| files.begin(&before.unwrap_or_default()));
    }
}

/// A login has stored this document.
pub fn login_ended(context: &Context, document: &Document) {
    forget(context, None);
    if EventCommands::read().rotate.is_some()
        && let Some(refresh_token) = document.refresh_token()
    {
        report("ONEGRANT_ON_ROTATE", deliver(context, &refresh_token.sha256()), context.dependencies().log);
    }
}
