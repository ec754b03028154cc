//! The environment variables that this program reads. No other module reads the environment.

pub mod desktop;
pub mod events;
pub mod network;

pub use desktop::Desktop;
pub use events::EventCommands;
pub use network::{EtcdUser, KubernetesServer, NetworkSettings, Setting};

use crate::grant::Secret;
use std::ffi::{OsStr, OsString};

/// The value of a variable; `None` if it is unset. An empty value is returned as it is.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Like [`variable`], as text; `None` if it is unset, empty, or not UTF-8.
pub fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// The key of a broker (`ONEGRANT_BROKER_KEY`).
pub fn broker_key() -> Option<Secret> {
    text("ONEGRANT_BROKER_KEY").map(Secret::new)
}

/// How many sockets a supervisor has opened for this process (sd_listen_fds(3)); the first one is descriptor 3. A program that
/// this process runs is given the variables, too: they name another process there, so they say nothing.
pub fn listening_sockets() -> Option<u32> {
    let number = |name| text(name)?.parse::<u32>().ok();
    number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id()))
}

/// Profile, store and deadline, as one process of onegrant passes them to another: in its request, never in its
/// environment, which is also that of every program that it runs.
pub type Passed = [OsString; 3];

/// Which options were given. An option wins over its variable, and `--profile` and `--for` each over both of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FromOptions {
    /// `--profile` or `--for`
    pub profile: bool,
    /// `--store`
    pub store: bool,
    /// `--timeout`
    pub timeout: bool,
}

/// The variables that decide about every command. An empty one counts as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `ONEGRANT_PROFILE`
    pub profile: Option<OsString>,
    /// `ONEGRANT_FOR`
    pub resource: Option<OsString>,
    /// `ONEGRANT_STORE`
    pub store: Option<OsString>,
    /// `ONEGRANT_HOME`
    pub onegrant_home: Option<OsString>,
    /// `XDG_STATE_HOME`
    pub xdg_state_home: Option<OsString>,
    /// `HOME`
    pub home: Option<OsString>,
    /// `ONEGRANT_TIMEOUT`
    pub timeout: Option<OsString>,
    /// `ONEGRANT_LOCK`
    pub lock: Option<OsString>,
    /// `ONEGRANT_LOG`
    pub log: Option<OsString>,
    /// `ONEGRANT_TRUST_STORE`
    pub trust_store: Option<OsString>,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        Self::from_variables(variable)
    }

    /// Asks `look_up` ([`variable`], except in tests) for each variable.
    pub fn from_variables(look_up: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| look_up(name).filter(|value| !value.is_empty());
        Self {
            profile: set("ONEGRANT_PROFILE"),
            resource: set("ONEGRANT_FOR"),
            store: set("ONEGRANT_STORE"),
            onegrant_home: set("ONEGRANT_HOME"),
            xdg_state_home: set("XDG_STATE_HOME"),
            home: set("HOME"),
            timeout: set("ONEGRANT_TIMEOUT"),
            lock: set("ONEGRANT_LOCK"),
            log: set("ONEGRANT_LOG"),
            trust_store: set("ONEGRANT_TRUST_STORE"),
        }
    }

    /// The same environment, with the values that another process has passed.
    pub fn with([profile, store, timeout]: Passed, environment: &Self) -> Self {
        let (profile, store, timeout) = (Some(profile), Some(store), Some(timeout));
        // The other process has found the profile of the resource.
        Self { profile, resource: None, store, timeout, ..environment.clone() }
    }

    /// The variables that have an effect, with their values: those that are set and that no option overrides.
    pub fn decisive(&self, given: FromOptions) -> Vec<(&'static str, &OsStr)> {
        let home = self.onegrant_home.as_ref().filter(|_| self.store.is_none());
        let variables = [
            ("ONEGRANT_PROFILE", self.profile.as_ref().filter(|_| !given.profile)),
            ("ONEGRANT_FOR", self.resource.as_ref().filter(|_| !given.profile)),
            ("ONEGRANT_STORE", self.store.as_ref().filter(|_| !given.store)),
            ("ONEGRANT_HOME", home.filter(|_| !given.store)),
            ("ONEGRANT_TIMEOUT", self.timeout.as_ref().filter(|_| !given.timeout)),
            ("ONEGRANT_LOCK", self.lock.as_ref()),
            ("ONEGRANT_LOG", self.log.as_ref()),
            ("ONEGRANT_TRUST_STORE", self.trust_store.as_ref()),
        ];
        variables.into_iter().filter_map(|(name, value)| Some((name, value?.as_os_str()))).collect()
    }
}
