//! The helper store: a program with docker's credential helper protocol keeps the document in a keyring. The lock, the
//! attempt records and the answers are files of this machine. See "Helper store" in `docs/design.md`.
//!
//! The protocol has no lock and no comparison, and the program may be killed while it writes. So a document is first written
//! to a file as a whole, and is read back after it was stored:
//!
//! ```text
//! file (synced) ─▶ get: still what was expected? ─▶ store ─▶ get: what was stored? ─▶ file removed
//! ```
//!
//! A kill leaves the file. The next process finds it beside its record and adopts it. If the entry in the keyring cannot be
//! read any more, the next process stores the file again. A `get` that fails is tried again, and never means that there is no
//! document.

use super::durable::{nonce, sync_directory, write_new};
use super::file::FileStore;
use super::files::{ProfileFiles, Sidecar, failure};
use super::open::{self, Symlink};
use super::{
    Comparison, NewRecord, Record, RecordName, Snapshot, Store, WriteResult, absent, revision, revision_of,
};
use crate::adapters::keyring::{self, ANSWER_LIMIT, GetAnswer, PROGRAM_PREFIX};
use crate::error::{Failure, Kind};
use crate::lock::{Locked, Locker};
use crate::session::{Level, LockMode, Revision};
use crate::system::{self, command};
use crate::text::{describe, printable, tenths};
use std::cell::OnceCell;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// The time limit of a call while the keyring is unlocked. Calls take about a tenth of a second.
const PROGRAM_LIMIT: Duration = Duration::from_secs(15);

/// The time limit of a call during a login: a person may have to unlock the keyring.
const PERSON_LIMIT: Duration = Duration::from_secs(120);

/// The shortest time limit of a call, even after the deadline.
const LEAST_CALL: Duration = Duration::from_secs(1);

/// The pauses before each `get`. Some programs write their entry in place, so a `get` may read half of it.
const GET_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(200),
];

/// How long a repair waits for the lock: its holder may be about to replace the broken entry.
const REPAIR_LOCK_LIMIT: Duration = Duration::from_secs(5);

/// How often a document is stored if it cannot be read back.
const MAX_STORES: u32 = 3;

/// The name of the answer file for a document without an attempt, such as that of a login.
const WITHOUT_ATTEMPT: RecordName = RecordName { key: "login", number: 0 };

/// The store of one profile behind a helper program.
#[derive(Debug)]
pub struct HelperStore {
    program: PathBuf,
    profile: String,
    /// Keeps the lock, the records and the answers. It never has a document.
    local: FileStore,
    is_created: OnceCell<()>,
    /// The time limit of a `get` or an `erase`.
    limit: Duration,
    /// The deadline of the command.
    deadline: Instant,
    /// `ONEGRANT_LOCK=require`: this store cannot give a lock that other machines see.
    is_refused: bool,
}

impl HelperStore {
    /// The store of one profile behind `program`, a name or an absolute path. Its files are in `directory`. A call may take
    /// `limit`.
    pub fn new(program: &Path, directory: &Path, profile: &str, limit: Duration) -> Self {
        Self {
            program: executable(program),
            profile: profile.to_owned(),
            local: FileStore::new(directory, profile),
            is_created: OnceCell::new(),
            limit: limit.min(PROGRAM_LIMIT),
            deadline: Instant::now() + limit,
            is_refused: false,
        }
    }

    /// The same store for a command that has `left` until its deadline.
    pub fn ending_in(self, left: Duration) -> Self {
        Self { deadline: Instant::now() + left, ..self }
    }

    /// The same store if a lock is required that other machines see. It changes no session.
    pub fn refused(self) -> Self {
        Self { is_refused: true, ..self }
    }

    fn local(&self) -> Result<&FileStore, Failure> {
        if self.is_created.get().is_none() {
            self.local.create_directory()?;
            let _ = self.is_created.set(());
        }
        Ok(&self.local)
    }

    /// The files of this machine.
    pub(crate) fn files(&self) -> Result<&ProfileFiles, Failure> {
        self.local()?.files()
    }

    fn check_required(&self) -> Result<(), Failure> {
        match self.is_refused {
            true => Err(Failure::new(
                Kind::Store,
                format!("{} locks on this machine alone (ONEGRANT_LOCK=require)", self.program.display()),
            )
            .hint("unset ONEGRANT_LOCK, or name another store")),
            false => Ok(()),
        }
    }

    /// Whether a refresh could be stored, as far as this can be found out without a change.
    pub fn check_access(&self) -> Result<(), Failure> {
        self.check_required()?;
        self.local()?.check_access()
    }

    /// Whether a document can be written: stores a trial entry, reads it back and erases it. A login checks this before it
    /// asks a person for anything.
    pub fn check_writable(&self) -> Result<(), Failure> {
        self.check_required()?;
        let trial = Self {
            program: self.program.clone(),
            // A profile name has no tilde.
            profile: format!("{}~trial", self.profile),
            local: FileStore::new(&self.local.directory, &self.profile),
            is_created: OnceCell::new(),
            limit: PERSON_LIMIT,
            deadline: Instant::now() + PERSON_LIMIT,
            is_refused: false,
        };
        trial.local()?.check_access()?;
        let document = format!("{{\"trial\":\"{}\"}}\n", nonce(self.files()?)?);
        match trial.store_and_check(None, document.as_bytes()) {
            WriteResult::Done => trial.erase(),
            WriteResult::Failed { failure, .. } => Err(failure),
            WriteResult::Lost(_) | WriteResult::Unknown => {
                Err(self.failure_of("store", "it does not keep what it is given"))
            }
        }
    }

    /// Copies an unreadable document to a file, so that a login can replace it. Returns the path of the copy.
    pub fn set_aside(&self) -> Result<PathBuf, Failure> {
        let files = self.files()?;
        let aside = files.set_aside(&nonce(files)?);
        let bytes = self.get()?.map(|snapshot| snapshot.bytes).unwrap_or_default();
        write_new(&aside, &bytes).map_err(|error| failure("keep the old document in", &aside, &error))?;
        Ok(aside)
    }

    // ---- the program ----

    fn call(&self, verb: &str, input: &[u8], limit: Duration) -> Result<command::Printed, Failure> {
        call(&self.program, verb, input, limit)
    }

    /// The failure for an answer of the program.
    fn failure_of(&self, verb: &str, why: &str) -> Failure {
        let message =
            format!("cannot {verb} the document of profile {}: {} says: {why}", self.profile, self.shown());
        let hint = format!("printf %s {} | {} get", keyring::server(&self.profile), self.shown());
        Failure::new(Kind::Store, message).hint(hint)
    }

    fn shown(&self) -> String {
        printable(&self.program.display().to_string())
    }

    /// The time limit of a call that can be made again.
    fn left(&self) -> Duration {
        self.limit.min(self.deadline.saturating_duration_since(Instant::now()).max(LEAST_CALL))
    }

    /// The document. `None` only if the program said that there is none.
    fn get(&self) -> Result<Option<Snapshot>, Failure> {
        self.get_within(self.left())
    }

    fn get_within(&self, limit: Duration) -> Result<Option<Snapshot>, Failure> {
        let mut why = String::new();
        for pause in GET_PAUSES {
            std::thread::sleep(pause);
            let server = keyring::server(&self.profile);
            let printed = self.call("get", server.as_bytes(), limit)?;
            match keyring::parse_get_answer(printed.status.success(), &printed.stdout) {
                GetAnswer::Absent => return Ok(None),
                GetAnswer::Secret(secret) => {
                    let bytes = format!("{}\n", secret.expose().trim_end()).into_bytes();
                    return Ok(Some(Snapshot {
                        revision: revision(&bytes),
                        bytes,
                        warning: None,
                        distrust: None,
                    }));
                }
                GetAnswer::Failed(message) => why = message,
            }
        }
        Err(self.failure_of("read", &why))
    }

    /// Stores the document and reads it back. If the store holds neither the document nor `expected`, another process was
    /// faster, and its document stays.
    fn store_and_check(&self, expected: Option<&Revision>, bytes: &[u8]) -> WriteResult {
        let line = match keyring::line(&self.profile, bytes) {
            Ok(line) => line,
            Err(failure) => return WriteResult::Failed { failure, kept: None },
        };
        let wanted = revision(bytes);
        let mut failure = self.failure_of("store", "it does not keep what it is given");
        for _ in 0..MAX_STORES {
            match self.call("store", &line, PROGRAM_LIMIT.max(self.limit)) {
                Ok(printed) if printed.status.success() => {}
                Ok(printed) => {
                    failure = self.failure_of("store", &printable(&String::from_utf8_lossy(&printed.stdout)));
                }
                Err(error) => failure = error,
            }
            match self.get_within(self.limit) {
                Ok(Some(found)) if found.revision == wanted => return WriteResult::Done,
                Ok(found) => {
                    if expected.is_some_and(|expected| *expected != revision_of(found.as_ref())) {
                        return WriteResult::Lost(found);
                    }
                }
                // The program does not answer any more.
                Err(failure) if failure.kind == Kind::Temporary => {
                    return WriteResult::Failed { failure, kept: None };
                }
                // The program may have been killed while it wrote, and left half an entry: store the document again.
                Err(error) => failure = error,
            }
            // `store` took all of its time.
            if failure.kind == Kind::Temporary {
                break;
            }
        }
        WriteResult::Failed { failure, kept: None }
    }

    /// Some programs fail if there is no entry. So `get` decides whether the entry is gone.
    fn erase(&self) -> Result<(), Failure> {
        let server = keyring::server(&self.profile);
        let printed = self.call("erase", server.as_bytes(), self.left())?;
        match self.get()? {
            None => Ok(()),
            Some(_) => Err(self.failure_of("erase", &printable(&String::from_utf8_lossy(&printed.stdout)))),
        }
    }

    // ---- after a kill ----

    /// Stores the newest complete answer again if the entry cannot be read: a kill during a `store` may have broken the entry.
    /// This needs the lock, so that no newer document is overwritten.
    fn repair(&self, failure: Failure) -> Result<Option<Snapshot>, Failure> {
        let Ok(files) = self.files() else { return Err(failure) };
        if self.newest_answer(files).is_none() {
            return Err(failure);
        }
        let lock = files.lock();
        let mut locker = Locker::new(lock.clone(), !files.is_shared);
        let _guard = match system::holds_lock(&lock) {
            true => None,
            false => match locker.lock(LockMode::Queue, REPAIR_LOCK_LIMIT, |_| failure.clone()) {
                Locked::Granted(guard) => Some(guard),
                _ => return Err(failure),
            },
        };
        // The process that held the lock may have replaced the entry.
        if let Ok(found) = self.get() {
            return Ok(found);
        }
        let Some(bytes) = self.newest_answer(files) else { return Err(failure) };
        match self.store_and_check(None, &bytes) {
            WriteResult::Done => self.get(),
            _ => Err(failure),
        }
    }

    fn newest_answer(&self, files: &ProfileFiles) -> Option<Vec<u8>> {
        let mut newest: Option<(SystemTime, Vec<u8>)> = None;
        for answer in files.sidecars().ok()?.into_iter().filter(Sidecar::is_answer) {
            let Ok((bytes, metadata)) = open::read(&answer.path, Symlink::Refuse) else { continue };
            let Ok(modified) = metadata.modified() else { continue };
            // A complete document ends in a newline.
            if bytes.ends_with(b"\n") && newest.as_ref().is_none_or(|(other, _)| *other <= modified) {
                newest = Some((modified, bytes));
            }
        }
        newest.map(|(_, bytes)| bytes)
    }

    /// Writes the document into the answer file of its attempt, durably. Returns the path.
    fn write_answer(&self, name: RecordName, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let local = self.local()?;
        let files = local.files()?;
        let path = files.answer(name.key, name.number);
        let write = || local.write_beside(files, &path, bytes).and_then(|file| file.sync_all());
        write()
            .or_else(|_| write())
            .and_then(|()| sync_directory(files))
            .map_err(|error| failure("write", &path, &error))?;
        Ok(path)
    }

    fn compare(&self, expected: &Revision) -> Result<Comparison, Failure> {
        Ok(Comparison::of(self.get()?, expected))
    }
}

/// The program that the address `helper:PROGRAM` names.
fn executable(program: &Path) -> PathBuf {
    match program.is_absolute() {
        true => program.to_owned(),
        false => PathBuf::from(format!("{PROGRAM_PREFIX}{}", program.display())),
    }
}

fn call(program: &Path, verb: &str, input: &[u8], limit: Duration) -> Result<command::Printed, Failure> {
    let shown = printable(&program.display().to_string());
    command::ask(Command::new(program).arg(verb), input, limit, ANSWER_LIMIT).map_err(|error| {
        match error.kind() {
            ErrorKind::TimedOut => {
                let message = format!("{shown} {verb} had not ended after {} s", tenths(limit));
                Failure::new(Kind::Temporary, message).hint("unlock the keyring, then try again")
            }
            ErrorKind::NotFound => {
                let message = format!("cannot run {shown}, which keeps the grants: {}", describe(&error));
                Failure::new(Kind::Store, message).hint(format!("command -v {shown}"))
            }
            _ => Failure::new(Kind::Store, format!("cannot use {shown} {verb}: {}", describe(&error))),
        }
    })
}

/// The profiles behind `program`, a name or an absolute path, sorted.
pub fn profiles(program: &Path) -> Result<Vec<String>, Failure> {
    let program = executable(program);
    let printed = call(&program, "list", &[], PROGRAM_LIMIT)?;
    let listed = keyring::profiles(&printed.stdout).filter(|_| printed.status.success());
    listed.ok_or_else(|| {
        let (shown, said) = (program.display(), String::from_utf8_lossy(&printed.stdout));
        let message = format!("cannot list the profiles: {shown} says: {said}");
        Failure::new(Kind::Store, printable(&message)).hint(printable(&format!("{} list", program.display())))
    })
}

impl Store for HelperStore {
    fn read(&self) -> Result<Option<Snapshot>, Failure> {
        match self.get() {
            Err(failure) if failure.kind == Kind::Store => self.repair(failure),
            got => got,
        }
    }

    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult {
        let name = attempt.unwrap_or(WITHOUT_ATTEMPT);
        // This is the only copy of the answer: if the disk cannot take it, the keyring still may.
        let kept = self.write_answer(name, bytes).ok();
        let shown = kept.as_ref().map(|path| printable(&path.display().to_string()));
        // Not given up at the deadline.
        let compared = self.get_within(self.limit).map(|current| Comparison::of(current, expected));
        let written = match compared {
            Ok(Comparison::Equal) => self.store_and_check(Some(expected), bytes),
            Ok(Comparison::Different(current)) => WriteResult::Lost(current),
            Err(failure) => WriteResult::Failed { failure, kept: None },
        };
        match (written, kept) {
            (WriteResult::Failed { failure, .. }, _) if attempt.is_some() => {
                WriteResult::Failed { failure, kept: shown }
            }
            (written @ WriteResult::Done, _) if attempt.is_some() => {
                if let Ok(files) = self.files() {
                    self.local.sweep(files, name);
                }
                written
            }
            (written, Some(path)) => {
                // No record refers to it. It stays only if the entry in the keyring is broken: then it is the only copy.
                if !matches!(written, WriteResult::Failed { .. }) || self.get().is_ok() {
                    let _ = fs::remove_file(path);
                }
                written
            }
            (written, None) => written,
        }
    }

    fn remove(&self, expected: &Revision, mark: &[u8]) -> WriteResult {
        let removed = match self.compare(expected) {
            Ok(Comparison::Equal) => self.erase().and_then(|()| self.local()),
            Ok(Comparison::Different(current)) => return WriteResult::Lost(current),
            Err(failure) => Err(failure),
        };
        match removed {
            Ok(local) => local.remove(&absent(), mark),
            Err(failure) if failure.kind == Kind::Store => match self.compare(expected) {
                // Another process stored a document after the entry was erased.
                Ok(Comparison::Different(Some(current))) => WriteResult::Lost(Some(current)),
                _ => WriteResult::Failed { failure, kept: None },
            },
            Err(failure) => WriteResult::Failed { failure, kept: None },
        }
    }

    fn lock(&self, mode: LockMode, at_most: Duration) -> Locked {
        match self.check_required().and_then(|()| self.local()) {
            Ok(local) => local.lock(mode, at_most),
            Err(failure) => Locked::Failed(failure),
        }
    }

    fn stop_waiting(&self) {
        self.local.stop_waiting();
    }

    fn records(&self, key: &str) -> Result<Vec<Record>, Failure> {
        self.local()?.records(key)
    }

    fn is_costly(&self) -> bool {
        true
    }

    fn create_record(&self, record: &NewRecord) -> Result<Option<u64>, Failure> {
        let local = self.local()?;
        let files = local.files()?;
        // Listed before the document is read: see `FileStore::sweep_outdated`.
        let listed = files.sidecars().map_err(|error| failure("read", &files.directory, &error))?;
        let number = local.create_record(record)?;
        if number.is_some() && self.compare(record.expected) == Ok(Comparison::Equal) {
            FileStore::sweep_outdated(&listed, record);
        }
        Ok(number)
    }

    fn rewrite_record(&self, name: RecordName, old: &[u8], new: &[u8], is_over: bool) -> Result<(), Failure> {
        self.local()?.rewrite_record(name, old, new, is_over)
    }

    fn remove_record(&self, name: RecordName, old: &[u8]) -> Result<(), Failure> {
        self.local()?.remove_record(name, old)
    }

    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure> {
        let local = self.local()?;
        let record = local.records(name.key)?.into_iter().find(|record| record.number == name.number);
        let Some(answer) = record.map(|record| record.answer).filter(|answer| !answer.is_empty()) else {
            return Ok(false);
        };
        if self.compare(expected)? != Comparison::Equal {
            return Ok(false);
        }
        match self.store_and_check(Some(expected), &answer) {
            WriteResult::Done => {
                local.sweep(local.files()?, name);
                Ok(true)
            }
            WriteResult::Lost(_) | WriteResult::Unknown => Ok(false),
            WriteResult::Failed { failure, .. } => Err(failure),
        }
    }

    fn location(&self) -> String {
        format!("{} in {}", keyring::server(&self.profile), self.shown())
    }

    fn level_name(&self, level: Level) -> &'static str {
        match level {
            Level::Locked => "locked here",
            Level::Claimed => "claimed here",
            Level::Compared => level.name(),
        }
    }
}
