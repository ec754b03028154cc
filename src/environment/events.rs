//! The commands that run on events. They come from the environment alone, and are never stored.

use super::variable;
use std::ffi::OsString;

/// The two commands, for `/bin/sh -c`. An empty variable counts as unset.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EventCommands {
    /// `ONEGRANT_ON_LOGIN_REQUIRED`
    pub login_required: Option<OsString>,
    /// `ONEGRANT_ON_ROTATE`
    pub rotate: Option<OsString>,
}

impl EventCommands {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        Self { login_required: set("ONEGRANT_ON_LOGIN_REQUIRED"), rotate: set("ONEGRANT_ON_ROTATE") }
    }

    /// Whether neither is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
