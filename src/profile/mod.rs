//! One profile of one store: opened, read, refreshed, changed. What every command works with.

pub mod access;
pub mod amend;
pub mod brokered;
pub mod choice;
pub mod credential_cache;
pub mod events;
pub mod import;
pub mod migration;
pub mod new_grant;
pub mod other_store;
pub(crate) mod recording;
pub mod store;
pub mod token_file;
pub mod token_text;

use crate::driver::{self, Clock, Dependencies};
use crate::environment::{Environment, NetworkSettings};
use crate::error::{Failure, Kind};
use crate::globals::{Globals, Selection};
use crate::grant::{Credential, Document};
use crate::history::Asker;
use crate::http::HttpClient;
use crate::lock::Guard;
use crate::oauth;
use crate::oauth::token::HttpTokenEndpoint;
use crate::output;
use crate::protocol::hints::login_command;
use crate::protocol::token::Answer;
use crate::session::attempt::{Owner, Presence};
use crate::session::{DelegateResult, Demand, Now, RefreshInput, Role, Settings, Stored, Token};
use crate::store::broker::BrokerStore;
use crate::store::open::names_in;
use crate::store_address::ProfileName;
use crate::subprocess::worker::{self, Message, TaskResult};
use crate::system;
use std::cell::{Cell, OnceCell};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::ProfileStore;

/// What every command works with. Its parts are made when they are needed: `token` usually needs only one file.
pub struct Context {
    /// The settings of the command.
    pub globals: Globals,
    /// The store of the profile.
    pub store: ProfileStore,
    /// The directory of the files that the store has on this machine: the lock, the history.
    pub(crate) directory: PathBuf,
    pub(crate) clock: system::SystemClock,
    this_process: OnceCell<Owner>,
    client: OnceCell<HttpClient>,
    limited_client: OnceCell<HttpClient>,
    program: OnceCell<Option<String>>,
    asker: Option<Asker>,
}

impl Context {
    /// The context of a command. Its deadline counts from the start of `clock`.
    pub fn new(globals: Globals, clock: system::SystemClock) -> Self {
        let (store, directory) = (ProfileStore::new(&globals, clock), store::local_directory(&globals.store));
        let (client, limited_client) = (OnceCell::new(), OnceCell::new());
        let (this_process, program) = (OnceCell::new(), OnceCell::new());
        let asker = None;
        Self { globals, store, directory, clock, this_process, client, limited_client, program, asker }
    }

    /// The same context for a process that asks through a broker: the history names it. No person reads the warnings of each
    /// request.
    pub fn asked_by(self, asker: Option<Asker>) -> Self {
        Self { asker, ..self }
    }

    /// Whether warnings are printed.
    pub(crate) fn is_heard(&self) -> bool {
        self.asker.is_none() || self.globals.verbosity > 0
    }

    /// The time until the deadline.
    pub fn left(&self) -> Duration {
        self.globals.timeout.saturating_sub(self.clock.now().elapsed)
    }

    /// The same context with a deadline that begins now: waiting for a person does not count.
    pub fn begun_anew(&self) -> Self {
        Self::new(self.globals.clone(), system::SystemClock::start())
    }

    /// The same context for another profile. The deadline stays.
    pub fn of_profile(&self, profile: ProfileName) -> Self {
        let globals = Globals { profile, selection: Selection::Name, ..self.globals.clone() };
        let context = Self::new(globals, self.clock);
        if let Some(client) = self.limited_client.get() {
            context.go_on_with(client.limited_to(client.reached()));
        }
        context
    }

    /// A file of this profile on this machine: beside the real document, or in the directory of this store's files.
    fn local_file(&self, suffix: &str) -> io::Result<PathBuf> {
        if self.store.broker().is_some() {
            return Err(io::Error::other("it is on the other side of the broker"));
        }
        let Some(store) = self.store.file() else {
            return Ok(self.directory.join(format!("{}{suffix}", self.globals.profile)));
        };
        let files = store.files().map_err(|failure| io::Error::other(failure.message))?;
        Ok(files.sidecar(suffix))
    }

    /// The files of this profile on this machine whose suffix begins with `prefix`.
    fn local_files(&self, prefix: &str) -> Vec<PathBuf> {
        let listed = |first: &Path| {
            let (directory, begin) = (first.parent()?, first.file_name()?.as_encoded_bytes());
            let names = names_in(directory).ok()?.into_iter();
            let of_profile = names.filter(|name| name.as_encoded_bytes().starts_with(begin));
            Some(of_profile.map(|name| directory.join(name)).collect())
        };
        self.local_file(prefix).ok().and_then(|first| listed(&first)).unwrap_or_default()
    }

    /// The HTTP client.
    pub fn client(&self) -> &HttpClient {
        let usual = || self.client.get_or_init(|| HttpClient::new(&NetworkSettings::read()));
        self.limited_client.get().unwrap_or_else(usual)
    }

    /// Uses this client from now on: what a server named is reached through it. A second call changes nothing.
    pub fn go_on_with(&self, client: HttpClient) {
        let _ = self.limited_client.set(client);
    }

    /// Warnings about the network settings.
    pub fn network_warnings(&self) -> impl Iterator<Item = Failure> {
        let warnings = self.client.get().map(HttpClient::warnings).unwrap_or_default();
        warnings.iter().map(|warning| Failure::new(Kind::Usage, warning.clone()))
    }

    /// Gets a token, and prints the warnings that come with it. If lines were logged, the last one says how long it took and
    /// whether this process refreshed.
    pub fn obtain(&self, demand: Demand) -> Result<Token, Failure> {
        let (has_logged, dependencies) = (Cell::new(false), self.dependencies());
        let log = |importance, what: &str| {
            has_logged.set(true);
            (dependencies.log)(importance, what);
        };
        let logged = Dependencies { log: &log, ..dependencies };
        let token = match self.store.broker() {
            Some(store) => brokered::obtain(demand, store, self, &log),
            None => recording::obtain(self.settings(demand, Role::Caller), &logged, self),
        };
        if has_logged.get() {
            let took = self.clock.now().elapsed.as_millis();
            let line = match &token {
                Ok(token) if token.refreshed || self.store.broker().is_some() => {
                    format!("done after {took} ms")
                }
                Ok(_) => format!("done after {took} ms: the stored token is used"),
                Err(_) => format!("no token after {took} ms"),
            };
            (dependencies.log)(1, &line);
        }
        let token = token?;
        token.warnings.iter().for_each(|warning| self.warn(warning));
        Ok(token)
    }

    /// Prints a warning, with a hint that works on this grant.
    pub fn warn(&self, warning: &Failure) {
        if self.is_heard() {
            output::warning(&self.completed(warning.clone()));
        }
    }

    /// The failure with a hint that works on this grant.
    pub fn completed(&self, failure: Failure) -> Failure {
        Failure { hint: self.hint(&failure, "status"), ..failure }
    }

    /// The hint with the options that its commands need to work on this grant.
    pub fn complete(&self, hint: &str) -> String {
        self.globals.complete(hint, &Environment::read())
    }

    pub(crate) fn settings(&self, demand: Demand, role: Role) -> Settings {
        Settings {
            profile: self.globals.profile.to_string(),
            demand,
            lock_use: self.globals.lock,
            swaps: self.store.swaps(),
            role,
            deadline: self.globals.timeout,
            owner: Owner::default(),
            nonce: String::new(),
        }
    }

    /// Reads the document without a lock. Prints a warning if others can read it.
    pub fn read(&self) -> Result<Option<Stored>, Failure> {
        let read = driver::read_document(&*self.store, self)?;
        Ok(read.map(|(stored, warning)| {
            if let Some(warning) = warning {
                output::warning(&warning);
            }
            stored
        }))
    }

    /// Reads the document and its revision without a lock. Prints no warning.
    pub fn stored(&self) -> Result<Option<Stored>, Failure> {
        let read = driver::read_document(&*self.store, self)?;
        Ok(read.map(|(stored, _)| stored))
    }

    /// Reads the document without a lock. Prints no warning.
    pub fn document(&self) -> Result<Option<Document>, Failure> {
        Ok(self.stored()?.map(|stored| stored.document))
    }

    /// The dependencies of the driver.
    pub fn dependencies(&self) -> Dependencies<'_> {
        let log: &dyn Fn(u8, &str) = match self.globals.verbosity {
            0 => &|_, _| {},
            1 => &|importance, what| log(importance <= 1, what),
            _ => &|_, what| log(true, what),
        };
        Dependencies {
            store: &*self.store,
            endpoint: self,
            clock: self,
            peer: self,
            log,
            warn: if self.is_heard() { &output::warning } else { &|_| {} },
            observe: &|_, _| {},
        }
    }

    /// Runs the task in a worker.
    pub(crate) fn run_worker(
        &self,
        task: worker::Task,
        lock: Option<Guard>,
        log: &dyn Fn(u8, &str),
    ) -> TaskResult {
        worker::run(task, &self.globals, self.asker.clone(), self.clock.now().elapsed, lock, log)
    }

    /// The command that logs in to this profile.
    pub fn login_command(&self) -> String {
        login_command(self.globals.profile.as_str())
    }

    /// The failure with exit code 3: this profile has no grant.
    pub fn no_grant(&self) -> Failure {
        // The broker knows which profile it is, and what to run.
        if let Some(Err(failure)) = self.store.broker().map(BrokerStore::profile) {
            return failure;
        }
        let message = format!("profile {} has no grant", self.globals.profile);
        Failure::new(Kind::LoginRequired, message).hint(format!("{} https://ADDRESS", self.login_command()))
    }
}

fn log(is_wanted: bool, what: &str) {
    if is_wanted {
        output::say(&format!("onegrant: {what}\n"));
    }
}

impl Clock for Context {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn pause(&self, duration: Duration) {
        self.store.pause(duration);
    }

    fn presence(&self, owner: &Owner) -> Presence {
        system::presence(owner, self.this_process())
    }

    fn this_process(&self) -> &Owner {
        self.this_process.get_or_init(system::this_process)
    }

    fn nonce(&self) -> Result<String, Failure> {
        system::nonce()
            .map_err(|error| Failure::new(Kind::Defect, format!("cannot begin a refresh: {error}")))
    }
}

impl driver::TokenEndpoint for Context {
    fn refresh(&self, document: &Document, credential: &Credential, timeout: Duration) -> Answer {
        HttpTokenEndpoint::new(self.client()).refresh(document, credential, timeout, self.clock.now().wall)
    }

    fn revoke(&self, document: &Document, timeout: Duration) {
        oauth::revocation::revoke(self.client(), document, timeout, self.clock.now().wall);
    }
}

impl driver::Peer for Context {
    fn delegate(
        &self,
        input: &RefreshInput,
        lock: Option<Guard>,
        dependencies: &Dependencies,
    ) -> DelegateResult {
        match self.run_worker(worker::Task::Refresh(input.clone()), lock, dependencies.log) {
            TaskResult::Ended(Message::Refreshed(token)) => DelegateResult::Ended(Ok(*token)),
            TaskResult::Ended(Message::Failed(failure)) => DelegateResult::Ended(Err(failure)),
            TaskResult::Ended(_) | TaskResult::NotStarted | TaskResult::Died => DelegateResult::NoWorker,
            TaskResult::Late => DelegateResult::Unanswered,
        }
    }
}
