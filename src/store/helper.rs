//! The helper store: the document lies in a keyring, behind a program that speaks docker's credential helper protocol;
//! the lock, the attempt records and the answers on their way lie in a directory of this machine.
//!
//! The protocol has no lock and no comparison, and its programs may be killed while they write. So every document that
//! is stored lies complete in a file beforehand, and is got again afterwards:
//!
//! ```text
//! file (synced) ─▶ get: still what was expected? ─▶ store ─▶ get: what was stored? ─▶ file removed
//! ```
//!
//! A kill leaves the file: the next process adopts it by its record, or, where the keyring's entry cannot be read any
//! more, stores it again. A `get` that fails is tried again, and is never taken for an absent document.

use super::durable::{nonce, sync_directory, write_new};
use super::file::FileStore;
use super::files::{ProfileFiles, answer_prefix, failure};
use super::open::{self, Links};
use super::{NewRecord, Record, RecordName, Snapshot, Store, WriteResult, absent, revision};
use crate::adapters::keyring::{self, ANSWER_LIMIT, GetAnswer, PROGRAM_PREFIX};
use crate::error::{Failure, Kind};
use crate::lock::{Locked, Locker};
use crate::session::{Level, LockMode, Revision};
use crate::system::{self, command};
use crate::text::{describe, printable};
use std::cell::OnceCell;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// How long a program may take that nobody has to unlock: those that were measured take a tenth of a second.
const PROGRAM_LIMIT: Duration = Duration::from_secs(15);

/// How long it may take while a person is there, who may be asked to unlock the keyring.
const PERSON_LIMIT: Duration = Duration::from_secs(120);

/// What a call gets at least, whatever is left of the deadline.
const LEAST_CALL: Duration = Duration::from_secs(1);

/// The pauses before each `get`: some programs write their entry in place, and who reads it then meets half of it.
const GET_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(200),
];

/// How long is waited for another process that may be hints a broken entry.
const MENDING_LIMIT: Duration = Duration::from_secs(5);

/// How often a document is stored that cannot be got afterwards.
const STORES: u32 = 3;

/// The key of the file for a document that no attempt brought, as a login's.
const WITHOUT_ATTEMPT: RecordName = RecordName { key: "login", number: 0 };

/// Where a document of this store is.
#[derive(Debug)]
pub struct HelperStore {
    program: PathBuf,
    profile: String,
    /// Lock, records and answers; it never has a document.
    local: FileStore,
    is_created: OnceCell<()>,
    /// How long a `get` or an `erase` may take at most.
    limit: Duration,
    /// The deadline of the command.
    deadline: Instant,
    /// A lock was asked for that other machines would see.
    is_refused: bool,
}

impl HelperStore {
    /// The store of one profile behind `program`, a name or an absolute path, with its files in `directory`. A document is
    /// waited for at most that long.
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

    /// The same where so much is left of the deadline.
    pub fn ending_in(self, left: Duration) -> Self {
        Self { deadline: Instant::now() + left, ..self }
    }

    /// The same where a lock is required that binds other machines, too: no session is changed then.
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

    /// Where the lock is.
    pub(crate) fn place(&self) -> Result<&ProfileFiles, Failure> {
        self.local()?.place()
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

    /// Whether a refresh could be stored, as far as that can be told without a change.
    pub fn check_access(&self) -> Result<(), Failure> {
        self.check_required()?;
        self.local()?.check_access()
    }

    /// Finds out before anything is asked of a person whether a document can be written: one that is of no use is stored
    /// beside, got and erased.
    pub fn check_writable(&self) -> Result<(), Failure> {
        self.check_required()?;
        let trial = Self {
            program: self.program.clone(),
            // No profile's name.
            profile: format!("{}~trial", self.profile),
            local: FileStore::new(&self.local.directory, &self.profile),
            is_created: OnceCell::new(),
            limit: PERSON_LIMIT,
            deadline: Instant::now() + PERSON_LIMIT,
            is_refused: false,
        };
        trial.local()?.check_access()?;
        let document = format!("{{\"trial\":\"{}\"}}\n", nonce(self.place()?)?);
        match trial.put(None, document.as_bytes()) {
            WriteResult::Done => trial.erase(),
            WriteResult::Failed { failure, .. } => Err(failure),
            WriteResult::Lost(_) | WriteResult::Unknown => {
                Err(self.broken("store", "it does not keep what it is told"))
            }
        }
    }

    /// Keeps unreadable bytes beside, so that a login can write a new document. Gives the new path.
    pub fn set_aside(&self) -> Result<PathBuf, Failure> {
        let place = self.place()?;
        let aside = place.set_aside(&nonce(place)?);
        let bytes = self.get()?.map(|snapshot| snapshot.bytes).unwrap_or_default();
        write_new(&aside, &bytes).map_err(|error| failure("keep the old document in", &aside, &error))?;
        Ok(aside)
    }

    // ---- the program ----

    fn call(&self, verb: &str, input: &[u8], limit: Duration) -> Result<command::Printed, Failure> {
        call(&self.program, verb, input, limit)
    }

    /// What a failure is told as that the program told.
    fn broken(&self, verb: &str, why: &str) -> Failure {
        let message =
            format!("cannot {verb} the document of profile {}: {} says: {why}", self.profile, self.shown());
        let hint = format!("printf %s {} | {} get", keyring::server(&self.profile), self.shown());
        Failure::new(Kind::Store, message).hint(hint)
    }

    fn shown(&self) -> String {
        printable(&self.program.display().to_string())
    }

    /// What is left for a call that can be made again.
    fn left(&self) -> Duration {
        self.limit.min(self.deadline.saturating_duration_since(Instant::now()).max(LEAST_CALL))
    }

    /// The document, whose absence the program must have told.
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
                GetAnswer::Failed(said) => why = said,
            }
        }
        Err(self.broken("read", &why))
    }

    /// Stores the document, and gets it again. What is there instead of `expected` is somebody else's, and stays.
    fn put(&self, expected: Option<&Revision>, bytes: &[u8]) -> WriteResult {
        let line = match keyring::line(&self.profile, bytes) {
            Ok(line) => line,
            Err(failure) => return WriteResult::Failed { failure, kept: None },
        };
        let wanted = revision(bytes);
        let mut failure = self.broken("store", "it does not keep what it is told");
        for _ in 0..STORES {
            match self.call("store", &line, PROGRAM_LIMIT.max(self.limit)) {
                Ok(printed) if printed.status.success() => {}
                Ok(printed) => {
                    failure = self.broken("store", &printable(&String::from_utf8_lossy(&printed.stdout)));
                }
                Err(told) => failure = told,
            }
            match self.get_within(self.limit) {
                Ok(Some(found)) if found.revision == wanted => return WriteResult::Done,
                Ok(found) => {
                    let there = found.as_ref().map_or_else(absent, |found| found.revision.clone());
                    if expected.is_some_and(|expected| *expected != there) {
                        return WriteResult::Lost(found);
                    }
                }
                // It is asked no more often than it answers.
                Err(told) if told.kind == Kind::Temporary => {
                    return WriteResult::Failed { failure: told, kept: None };
                }
                // A program that was killed while it wrote leaves half an entry: the whole one goes over it.
                Err(told) => failure = told,
            }
            // It cannot be run, or has had all the time that there is.
            if failure.kind == Kind::Temporary {
                break;
            }
        }
        WriteResult::Failed { failure, kept: None }
    }

    /// Some programs fail for what is not there: what counts is that it is gone.
    fn erase(&self) -> Result<(), Failure> {
        let server = keyring::server(&self.profile);
        let printed = self.call("erase", server.as_bytes(), self.left())?;
        match self.get()? {
            None => Ok(()),
            Some(_) => Err(self.broken("erase", &printable(&String::from_utf8_lossy(&printed.stdout)))),
        }
    }

    // ---- what a kill leaves ----

    /// Stores the newest document on its way once more, where the entry cannot be read: a kill in the middle of a `store`
    /// has broken it. Only under the lock, so that no newer one is overwritten.
    fn mend(&self, failure: Failure) -> Result<Option<Snapshot>, Failure> {
        let Ok(place) = self.place() else { return Err(failure) };
        if self.newest_on_its_way(place).is_none() {
            return Err(failure);
        }
        let lock = place.lock();
        let mut locker = Locker::new(lock.clone(), !place.is_shared);
        let _guard = match system::holds_lock(&lock) {
            true => None,
            false => match locker.lock(LockMode::Queue, MENDING_LIMIT, |_| failure.clone()) {
                Locked::Granted(guard) => Some(guard),
                _ => return Err(failure),
            },
        };
        // Whoever was at it may have ended in the meantime.
        if let Ok(found) = self.get() {
            return Ok(found);
        }
        let Some(bytes) = self.newest_on_its_way(place) else { return Err(failure) };
        match self.put(None, &bytes) {
            WriteResult::Done => self.get(),
            _ => Err(failure),
        }
    }

    fn newest_on_its_way(&self, place: &ProfileFiles) -> Option<Vec<u8>> {
        let of_any = answer_prefix("");
        let of_any = of_any.trim_end_matches('.');
        let answers = place.sidecars().ok()?.into_iter().filter(|(suffix, _)| suffix.starts_with(of_any));
        let mut newest: Option<(SystemTime, Vec<u8>)> = None;
        for (_, path) in answers {
            let Ok((bytes, metadata)) = open::read(&path, Links::Refuse) else { continue };
            let Ok(modified) = metadata.modified() else { continue };
            // A document ends in a newline, and one that was being written does not yet.
            if bytes.ends_with(b"\n") && newest.as_ref().is_none_or(|(other, _)| *other <= modified) {
                newest = Some((modified, bytes));
            }
        }
        newest.map(|(_, bytes)| bytes)
    }

    /// Writes the document into the room of its attempt, durably. Gives its path.
    fn keep(&self, name: RecordName, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let local = self.local()?;
        let place = local.place()?;
        let path = place.answer(name.key, name.number);
        let write = || local.write_beside(place, &path, bytes).and_then(|file| file.sync_all());
        write()
            .or_else(|_| write())
            .and_then(|()| sync_directory(place))
            .map_err(|error| failure("write", &path, &error))?;
        Ok(path)
    }

    /// Whether the store holds `expected`; else what it holds.
    fn holds(&self, expected: &Revision) -> Result<Result<(), Option<Snapshot>>, Failure> {
        self.holds_within(expected, self.left())
    }

    fn holds_within(
        &self,
        expected: &Revision,
        limit: Duration,
    ) -> Result<Result<(), Option<Snapshot>>, Failure> {
        let found = self.get_within(limit)?;
        let there = found.as_ref().map_or_else(absent, |found| found.revision.clone());
        Ok(if there == *expected { Ok(()) } else { Err(found) })
    }
}

/// What is run for the words `helper:PROGRAM`.
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
                let message = format!("{shown} {verb} had not ended after {:.1} s", limit.as_secs_f32());
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
            Err(failure) if failure.kind == Kind::Store => self.mend(failure),
            got => got,
        }
    }

    fn replace(&self, expected: &Revision, bytes: &[u8], attempt: Option<RecordName>) -> WriteResult {
        let name = attempt.unwrap_or(WITHOUT_ATTEMPT);
        // The keyring may take what the disk does not: the answer is nowhere else.
        let kept = self.keep(name, bytes).ok();
        let shown = kept.as_ref().map(|path| printable(&path.display().to_string()));
        // So it is not given up at the deadline.
        let written = match self.holds_within(expected, self.limit) {
            Ok(Ok(())) => self.put(Some(expected), bytes),
            Ok(Err(current)) => WriteResult::Lost(current),
            Err(failure) => WriteResult::Failed { failure, kept: None },
        };
        match (written, kept) {
            (WriteResult::Failed { failure, .. }, _) if attempt.is_some() => {
                WriteResult::Failed { failure, kept: shown }
            }
            (written @ WriteResult::Done, _) if attempt.is_some() => {
                if let Ok(place) = self.place() {
                    self.local.sweep(place, name);
                }
                written
            }
            (written, Some(path)) => {
                // It is nobody's, unless it is all that is left.
                if !matches!(written, WriteResult::Failed { .. }) || self.get().is_ok() {
                    let _ = fs::remove_file(path);
                }
                written
            }
            (written, None) => written,
        }
    }

    fn remove(&self, expected: &Revision, mark: &[u8]) -> WriteResult {
        let removed = match self.holds(expected) {
            Ok(Ok(())) => self.erase().and_then(|()| self.local()),
            Ok(Err(current)) => return WriteResult::Lost(current),
            Err(failure) => Err(failure),
        };
        match removed {
            Ok(local) => local.remove(&absent(), mark),
            Err(failure) if failure.kind == Kind::Store => match self.holds(expected) {
                // It was erased, and another document was stored.
                Ok(Err(Some(current))) => WriteResult::Lost(Some(current)),
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
        let place = local.place()?;
        // Listed before the document is seen: see `FileStore::sweep_outdated`.
        let listed = place.sidecars().map_err(|error| failure("read", &place.directory, &error))?;
        let number = local.create_record(record)?;
        if number.is_some() && matches!(self.holds(record.expected), Ok(Ok(()))) {
            FileStore::sweep_outdated(&listed, record);
        }
        Ok(number)
    }

    fn rewrite_record(
        &self,
        name: RecordName,
        ours: &[u8],
        bytes: &[u8],
        is_over: bool,
    ) -> Result<(), Failure> {
        self.local()?.rewrite_record(name, ours, bytes, is_over)
    }

    fn remove_record(&self, name: RecordName, ours: &[u8]) -> Result<(), Failure> {
        self.local()?.remove_record(name, ours)
    }

    fn adopt(&self, name: RecordName, expected: &Revision) -> Result<bool, Failure> {
        let local = self.local()?;
        let record = local.records(name.key)?.into_iter().find(|record| record.number == name.number);
        let Some(answer) = record.map(|record| record.answer).filter(|answer| !answer.is_empty()) else {
            return Ok(false);
        };
        if self.holds(expected)?.is_err() {
            return Ok(false);
        }
        match self.put(Some(expected), &answer) {
            WriteResult::Done => {
                local.sweep(local.place()?, name);
                Ok(true)
            }
            WriteResult::Lost(_) | WriteResult::Unknown => Ok(false),
            WriteResult::Failed { failure, .. } => Err(failure),
        }
    }

    fn location(&self) -> String {
        format!("{} in {}", keyring::server(&self.profile), self.shown())
    }

    fn names(&self, level: Level) -> &'static str {
        match level {
            Level::Locked => "locked here",
            Level::Claimed => "claimed here",
            Level::Compared => level.name(),
        }
    }
}
