//! Where a grant is kept: the address of a store, and the name of a profile in it.
//!
//! Pure: the text of `--store` or `ONEGRANT_STORE` goes in, an address comes out. [`crate::store`] opens it.

mod broker;
mod cell;
mod naming;

pub use broker::{BrokerAddress, PATH_LIMIT, too_long};
pub use cell::{CellAddress, CellKind, EtcdAddress, KubernetesAddress};
pub use naming::{Candidate, Choice, choose, names};

use crate::adapters::keyring::PROGRAM_PREFIX;
use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::text::printable;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The name of a profile. It can be part of a file name: `[A-Za-z0-9._-]`, no leading dot, 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

impl ProfileName {
    /// The name, if it is valid.
    pub fn new(name: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_valid = (1..=naming::NAME_LIMIT).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(is_allowed);
        is_valid.then(|| Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ProfileName {
    /// The profile of a command that names none.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// A directory. Only `--store` can give a relative one; it is relative to the working directory.
    File(PathBuf),
    /// A program that gives access to a keyring by docker's credential helper protocol.
    Helper {
        /// Its name without `docker-credential-`, or its absolute path.
        program: PathBuf,
        /// The home directory of the file store. It holds the lock and the data that must survive a kill. The runtime
        /// directory cannot hold them: some sessions have none, and it is removed at the last logout of the user.
        home: PathBuf,
    },
    /// A value with compare-and-swap, and the home directory of the file store, which holds this machine's side files.
    Cell(CellAddress, PathBuf),
    /// The other side of a socket, which has the grant. It gives out access tokens and ID tokens only.
    Broker(BrokerAddress),
}

/// The forms of an address, as the help names them.
const FORMS: [&str; 5] = [
    "file:DIR",
    "helper:PROGRAM",
    "etcd://HOST:PORT/PREFIX",
    "kubernetes://NAMESPACE/NAME",
    "broker:unix:PATH",
];

impl StoreAddress {
    /// Parses the address that the option or the variable `source` gives. A failure names `source`.
    pub fn parse(source: &str, address: &OsStr, environment: &Environment) -> Result<Self, Failure> {
        let bytes = address.as_bytes();
        if let Some(directory) = bytes.strip_prefix(b"file:") {
            return file_store(source, address, directory);
        }
        if let Some(program) = bytes.strip_prefix(b"helper:") {
            return helper_store(source, OsStr::from_bytes(program), environment);
        }
        let shown = printable(&address.to_string_lossy());
        if let Some(broker) = bytes.strip_prefix(b"broker:") {
            let parsed = BrokerAddress::parse(broker).map(Self::Broker);
            return parsed.map_err(|why| misconfigured(source, format_args!("'{shown}': {why}")));
        }
        match address.to_str().and_then(CellAddress::parse) {
            Some(Ok(address)) => Ok(Self::Cell(address, home(environment)?)),
            Some(Err(why)) => {
                // An address with user information may hold a password. Show nothing of it.
                let shown = if shown.contains('@') { "the address".to_owned() } else { format!("'{shown}'") };
                Err(misconfigured(source, format_args!("{shown}: {why}")))
            }
            None => {
                let [forms @ .., last] = FORMS;
                let forms = forms.join(", ");
                Err(misconfigured(source, format_args!("'{shown}': this build knows {forms} and {last}")))
            }
        }
    }

    /// The store of a command that names none: the file store in its home directory.
    pub fn usual(environment: &Environment) -> Result<Self, Failure> {
        home(environment).map(Self::File)
    }

    /// The name of a helper program, however the address gives it: the same keyring has the same lock.
    pub fn helper_name(program: &Path) -> &str {
        let name = program.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.strip_prefix(PROGRAM_PREFIX).unwrap_or(name)
    }

    /// The address as `--store` takes it.
    pub fn text(&self) -> OsString {
        match self {
            Self::File(directory) => [OsStr::new("file:"), directory.as_os_str()].into_iter().collect(),
            Self::Helper { program, .. } => {
                [OsStr::new("helper:"), program.as_os_str()].into_iter().collect()
            }
            Self::Cell(address, _) => address.text().into(),
            Self::Broker(address) => [OsStr::new("broker:"), &address.text()].into_iter().collect(),
        }
    }

    /// The same address for a process that may have another working directory.
    pub fn absolute(&self) -> io::Result<Self> {
        match self {
            Self::File(directory) => std::path::absolute(directory).map(Self::File),
            Self::Broker(BrokerAddress::Unix(socket)) => {
                std::path::absolute(socket).map(|socket| Self::Broker(BrokerAddress::Unix(socket)))
            }
            Self::Helper { .. } | Self::Cell(..) | Self::Broker(_) => Ok(self.clone()),
        }
    }
}

/// An option or a variable has a wrong value; `source` is its name.
pub fn misconfigured(source: &str, reason: impl fmt::Display) -> Failure {
    Failure::new(Kind::Usage, format!("{source}: {reason}")).hint("onegrant --help")
}

fn helper_store(source: &str, program: &OsStr, environment: &Environment) -> Result<StoreAddress, Failure> {
    let program = Path::new(program);
    let helper = StoreAddress::helper_name(program);
    let shown = || printable(&program.to_string_lossy());
    if ProfileName::new(helper).is_none() || (program.is_relative() && program != Path::new(helper)) {
        let form = format!("write helper:NAME for {PROGRAM_PREFIX}NAME, or helper: and its absolute path");
        return Err(misconfigured(source, format_args!("'helper:{}': {form}", shown())));
    }
    if helper == "onegrant" {
        return Err(misconfigured(source, format_args!("'helper:{}' is onegrant itself", shown())));
    }
    Ok(StoreAddress::Helper { program: program.to_owned(), home: home(environment)? })
}

fn file_store(source: &str, address: &OsStr, directory: &[u8]) -> Result<StoreAddress, Failure> {
    let shown = || printable(&address.to_string_lossy());
    match directory {
        [] => Err(misconfigured(source, "file: without a directory")),
        // A shell expands a tilde only at the beginning of a word.
        [b'~'] | [b'~', b'/', ..] => Err(misconfigured(
            source,
            format_args!("'{}': the shell does not expand this ~; write file:$HOME", shown()),
        )),
        [b'/', b'/', rest @ ..] if rest.first() != Some(&b'/') => {
            Err(misconfigured(source, format_args!("'{}' names a host; write file:/DIR", shown())))
        }
        _ => Ok(StoreAddress::File(PathBuf::from(OsStr::from_bytes(directory)))),
    }
}

/// The home directory of the file store. It never depends on the working directory.
fn home(environment: &Environment) -> Result<PathBuf, Failure> {
    let set = |variable: &'_ Option<OsString>| {
        variable.as_deref().filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    if let Some(home) = set(&environment.onegrant_home) {
        return if home.is_absolute() {
            Ok(home)
        } else {
            let message = format!("ONEGRANT_HOME: '{}' is not absolute", printable(&home.to_string_lossy()));
            Err(Failure::new(Kind::Usage, message).hint("export ONEGRANT_HOME=/a/directory"))
        };
    }
    // The XDG Base Directory Specification says to ignore a relative path.
    let absolute = |variable| set(variable).filter(|path| path.is_absolute());
    absolute(&environment.xdg_state_home)
        .map(|state| state.join("onegrant"))
        .or_else(|| absolute(&environment.home).map(|home| home.join(".local/state/onegrant")))
        .ok_or_else(|| {
            let message = "no directory for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute path";
            Failure::new(Kind::Usage, message).hint("export ONEGRANT_HOME=/a/directory")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_name_can_be_part_of_a_file_name() {
        let long = "x".repeat(64);
        for name in ["a", "A.b_c-9", "-x", "a..b", long.as_str()] {
            assert_eq!(ProfileName::new(name).map(|name| name.to_string()).as_deref(), Some(name));
        }
        for name in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\0", "a\n", &"x".repeat(65)] {
            assert_eq!(ProfileName::new(name), None, "{name:?}");
        }
    }
}
