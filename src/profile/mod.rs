//! One profile of one store: opened, read, refreshed, changed. What every command works with.

pub mod access;
pub mod amend;
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
use crate::globals::Globals;
use crate::grant::{Credential, Document};
use crate::http::HttpClient;
use crate::lock::Guard;
use crate::oauth;
use crate::oauth::token::HttpTokenEndpoint;
use crate::output;
use crate::protocol::hints::login_command;
use crate::protocol::token::Answer;
use crate::session::attempt::{Owner, Presence};
use crate::session::{DelegateResult, Demand, Now, RefreshInput, Role, Settings, Stored, Token};
use crate::subprocess::worker::{self, Message, TaskResult};
use crate::system;
use std::cell::{Cell, OnceCell};
use std::path::PathBuf;
use std::time::Duration;
use store::ProfileStore;

/// What every command works with. Nothing in it is made before it is needed: `token` mostly needs one file.
pub struct Context {
    /// What holds for every command.
    pub globals: Globals,
    /// Where the profile is kept.
    pub store: ProfileStore,
    /// The directory of the side files: the lock, the history.
    pub(crate) directory: PathBuf,
    pub(crate) clock: system::SystemClock,
    this_process: OnceCell<Owner>,
    client: OnceCell<HttpClient>,
    program: OnceCell<Option<String>>,
}

impl Context {
    /// The context of a command; its deadline runs from `clock`'s start.
    pub fn new(globals: Globals, clock: system::SystemClock) -> Self {
        let (store, directory) =
            (ProfileStore::new(&globals, clock.now().elapsed), store::beside(&globals.store));
        let (this_process, client, program) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { globals, store, directory, clock, this_process, client, program }
    }

    /// What is left of the deadline.
    pub fn left(&self) -> Duration {
        self.globals.timeout.saturating_sub(self.clock.now().elapsed)
    }

    /// The same with a deadline that begins now: the wait for a person does not count.
    pub fn begun_anew(&self) -> Self {
        Self::new(self.globals.clone(), system::SystemClock::start())
    }

    /// The HTTP client.
    pub fn client(&self) -> &HttpClient {
        self.client.get_or_init(|| HttpClient::new(&NetworkSettings::read()))
    }

    /// What was wrong with the network's configuration without being an error.
    pub fn network_warnings(&self) -> impl Iterator<Item = Failure> {
        let warnings = self.client.get().map(HttpClient::warnings).unwrap_or_default();
        warnings.iter().map(|warning| Failure::new(Kind::Usage, warning.clone()))
    }

    /// Gets a token, refreshing if it must, and tells the warnings that come with it. A story that was begun is told to
    /// its end: how long it took, and whose refresh it was.
    pub fn obtain(&self, demand: Demand) -> Result<Token, Failure> {
        let (has_begun, dependencies) = (Cell::new(false), self.dependencies());
        let tell = |importance, what: &str| {
            has_begun.set(true);
            (dependencies.tell)(importance, what);
        };
        let token = recording::obtain(
            self.settings(demand, Role::Caller),
            &Dependencies { tell: &tell, ..self.dependencies() },
            self,
        );
        if has_begun.get() {
            let took = self.clock.now().elapsed.as_millis();
            (dependencies.tell)(
                1,
                &match &token {
                    Ok(token) if token.refreshed => format!("done after {took} ms"),
                    Ok(_) => format!("done after {took} ms: the stored token is used"),
                    Err(_) => format!("no token after {took} ms"),
                },
            );
        }
        let token = token?;
        token.warnings.iter().for_each(|warning| self.warn(warning));
        Ok(token)
    }

    /// Prints a warning, with a hint that works on this grant.
    pub fn warn(&self, warning: &Failure) {
        output::warning(&self.completed(warning.clone()));
    }

    /// The same failure; a command in its hint works on the same grant.
    pub fn completed(&self, failure: Failure) -> Failure {
        let environment = Environment::read();
        let hint = failure.hint.as_ref().map(|hint| self.globals.complete(hint, &environment));
        Failure { hint, ..failure }
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

    /// Reads the document without a lock, and warns of loose permissions.
    pub fn read(&self) -> Result<Option<Stored>, Failure> {
        let read = driver::read_document(&*self.store, self)?;
        Ok(read.map(|(stored, warning)| {
            if let Some(warning) = warning {
                output::warning(&warning);
            }
            stored
        }))
    }

    /// The document as it is now, for who has been warned of its permissions or will be.
    pub fn document(&self) -> Result<Option<Document>, Failure> {
        let read = driver::read_document(&*self.store, self)?;
        Ok(read.map(|(stored, _)| stored.document))
    }

    /// The dependencies of the driver.
    pub fn dependencies(&self) -> Dependencies<'_> {
        let tell: &dyn Fn(u8, &str) = match self.globals.verbosity {
            0 => &|_, _| {},
            1 => &|importance, what| tell(importance <= 1, what),
            _ => &|_, what| tell(true, what),
        };
        Dependencies {
            store: &*self.store,
            endpoint: self,
            clock: self,
            peer: self,
            tell,
            warn: &output::warning,
            observe: &|_, _| {},
        }
    }

    /// Has a worker do the task.
    pub(crate) fn run_worker(
        &self,
        task: worker::Task,
        lock: Option<Guard>,
        tell: &dyn Fn(u8, &str),
    ) -> TaskResult {
        worker::run(task, &self.globals, self.clock.now().elapsed, lock, tell)
    }

    /// The command that logs in to this profile.
    pub fn login_command(&self) -> String {
        login_command(self.globals.profile.as_str())
    }

    /// Fails with exit 3: this profile has no grant.
    pub fn no_grant(&self) -> Failure {
        let message = format!("profile {} has no grant", self.globals.profile);
        Failure::new(Kind::LoginRequired, message)
            .hint(format!("{} ISSUER --client-id ID", self.login_command()))
    }
}

fn tell(is_wanted: bool, what: &str) {
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
        match self.run_worker(worker::Task::Refresh(input.clone()), lock, dependencies.tell) {
            TaskResult::Ended(Message::Refreshed(token)) => DelegateResult::Ended(Ok(*token)),
            TaskResult::Ended(Message::Failed(failure)) => DelegateResult::Ended(Err(failure)),
            TaskResult::Ended(_) | TaskResult::NotStarted | TaskResult::Died => DelegateResult::NoWorker,
            TaskResult::Late => DelegateResult::Unanswered,
        }
    }
}
