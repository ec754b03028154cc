//! What holds for every command: options over environment over defaults.

use crate::adapters::keyring::PROGRAM_PREFIX;
use crate::cli::{self, Arguments};
use crate::environment::{Environment, FromOptions, Passed};
use crate::error::{Failure, Kind};
use crate::session::LockUse;
use crate::store::cell;
use crate::text::printable;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What holds for every command, from options, environment and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    /// The grant to work on.
    pub profile: ProfileName,
    /// Where grants are kept.
    pub store: StoreAddress,
    /// One deadline over everything that the command waits for, but not for a person.
    pub timeout: Duration,
    /// How much of a lock is asked for.
    pub lock: LockUse,
    /// 0 is quiet, 1 `-v`, 2 `-vv`.
    pub verbosity: u8,
    /// Whether what a document in etcd or Kubernetes names may be run and read.
    pub trusts_store: bool,
    /// What options said, so that variables did not.
    pub given: FromOptions,
}

/// What is before a command in the middle of a hint.
const BEFORE_COMMAND: [&str; 4] = [": ", "; ", "| ", "=claim "];

impl Globals {
    /// What another process needs to work on the same grant. Its working directory may be another one.
    pub fn passed(&self) -> io::Result<Passed> {
        let timeout = self.timeout.as_secs_f64().to_string();
        Ok([self.profile.as_str().into(), self.store.absolute()?.text(), timeout.into()])
    }

    /// Makes the commands of onegrant in a hint work on the same grant, pasted where this call was made: each names the
    /// profile, and the store where `--store` did. A directory that a terminal would show as another one is left to the
    /// person.
    pub fn complete(&self, hint: &str, environment: &Environment) -> String {
        let (mut completed, mut rest) = (String::new(), hint);
        while let Some((before, command)) = rest.split_once("onegrant ") {
            completed.push_str(before);
            let is_command = completed.is_empty() || BEFORE_COMMAND.iter().any(|end| before.ends_with(end));
            completed.push_str("onegrant ");
            if is_command {
                completed.push_str(&self.options(command, environment));
            }
            rest = command;
        }
        completed + rest
    }

    /// What `command` lacks to work on the same grant.
    fn options(&self, command: &str, environment: &Environment) -> String {
        let mut options = String::new();
        let command = command.split_once("onegrant ").map_or(command, |(command, _)| command);
        let is_usual = store(None, environment).ok().as_ref() == Some(&self.store);
        if !is_usual && !command.contains("--store ") {
            match self.store.text().to_str().filter(|text| printable(text) == *text) {
                Some(text) => options.push_str(&format!("--store '{}' ", text.replace('\'', r"'\''"))),
                None => options.push_str("--store file:DIR "),
            }
        }
        if self.profile.as_str() != "default" && !command.contains("--profile ") {
            options.push_str(&format!("--profile {} ", self.profile));
        }
        options
    }
}

/// A profile's name, fit to be a part of a file name: `[A-Za-z0-9._-]`, no leading dot, 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

impl ProfileName {
    /// The name, if it is one.
    pub fn new(name: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_fit = (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_allowed);
        is_fit.then(|| Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
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
    /// A directory. It is relative only where `--store` said so: to the working directory.
    File(PathBuf),
    /// A program that speaks docker's credential helper protocol to a keyring.
    Helper {
        /// Its name without `docker-credential-`, or its absolute path.
        program: PathBuf,
        /// The home directory of the file store: there are the lock and what a kill must not lose. Not the runtime directory,
        /// which a session without a login lacks, and which goes when the last login ends.
        home: PathBuf,
    },
    /// A value that can be compared and swapped, as `--store` named it, and the directory of this machine's side files.
    Cell(cell::CellAddress, PathBuf),
}

impl StoreAddress {
    /// What stands before the colon, with what comes after it, as the help names it.
    const SCHEMES: [&str; 4] =
        ["file:DIR", "helper:PROGRAM", "etcd://HOST:PORT/PREFIX", "kubernetes://NAMESPACE/NAME"];

    /// The name of a helper program, whichever way it was given: the same keyring has the same lock.
    pub fn helper_name(program: &Path) -> &str {
        let name = program.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.strip_prefix(PROGRAM_PREFIX).unwrap_or(name)
    }

    /// As `--store` takes it.
    pub fn text(&self) -> OsString {
        match self {
            Self::File(directory) => [OsStr::new("file:"), directory.as_os_str()].into_iter().collect(),
            Self::Helper { program, .. } => {
                [OsStr::new("helper:"), program.as_os_str()].into_iter().collect()
            }
            Self::Cell(address, _) => address.text().into(),
        }
    }

    /// As another process takes it, which may have another working directory.
    pub fn absolute(&self) -> io::Result<Self> {
        match self {
            Self::File(directory) => std::path::absolute(directory).map(Self::File),
            Self::Helper { .. } | Self::Cell(..) => Ok(self.clone()),
        }
    }
}

/// The deadline where none is given, in seconds.
pub const DEFAULT_TIMEOUT_SECONDS: u64 = 30;

/// The longest deadline, in seconds: a day. Whoever waits longer than that waits for something else.
pub const LONGEST_TIMEOUT_SECONDS: u64 = 86_400;

/// What holds for every command. Options win over variables, variables over defaults; an empty variable is none.
pub fn resolve(flags: &Arguments, environment: &Environment) -> Result<Globals, Failure> {
    Ok(Globals {
        profile: profile(flags.profile.as_deref(), set(&environment.profile))?,
        store: store(flags.store.as_deref(), environment)?,
        timeout: timeout(flags.timeout.as_deref(), set(&environment.timeout))?,
        lock: lock(set(&environment.lock))?,
        verbosity: verbosity(flags.verbose, set(&environment.log))?,
        trusts_store: trusts_store(set(&environment.trust_store))?,
        given: FromOptions {
            profile: flags.profile.is_some(),
            store: flags.store.is_some(),
            timeout: flags.timeout.is_some(),
        },
    })
}

/// What holds for a command without options.
pub fn resolve_environment(environment: &Environment) -> Result<Globals, Failure> {
    let (profile, store, timeout) = (None, None, None);
    resolve(&Arguments { profile, store, timeout, verbose: 0, version: false, command: None }, environment)
}

fn set(variable: &Option<OsString>) -> Option<&OsStr> {
    variable.as_deref().filter(|value| !value.is_empty())
}

/// An option's value, else the variable's, and the name to blame; text, or a failure.
fn text<'a>(
    option: (&'static str, Option<&'a str>),
    variable: (&'static str, Option<&'a OsStr>),
) -> Result<Option<(&'static str, &'a str)>, Failure> {
    match (option, variable) {
        ((name, Some(value)), _) => Ok(Some((name, value))),
        ((_, None), (name, Some(value))) => match value.to_str() {
            Some(value) => Ok(Some((name, value))),
            None => Err(misconfigured(name, "it is not UTF-8")),
        },
        _ => Ok(None),
    }
}

fn misconfigured(name: &str, reason: impl fmt::Display) -> Failure {
    Failure::new(Kind::Usage, format!("{name}: {reason}")).hint("onegrant --help")
}

fn profile(option: Option<&str>, variable: Option<&OsStr>) -> Result<ProfileName, Failure> {
    let Some((name, value)) = text(("--profile", option), ("ONEGRANT_PROFILE", variable))? else {
        return Ok(ProfileName("default".to_owned()));
    };
    ProfileName::new(value).ok_or_else(|| {
        misconfigured(
            name,
            format_args!(
                "'{}' is no profile name: letters, digits, \".\", \"_\" and \"-\", no leading dot, 1 to 64 characters",
                printable(value)
            ),
        )
    })
}

fn timeout(option: Option<&str>, variable: Option<&OsStr>) -> Result<Duration, Failure> {
    let Some((name, value)) = text(("--timeout", option), ("ONEGRANT_TIMEOUT", variable))? else {
        return Ok(Duration::from_secs(DEFAULT_TIMEOUT_SECONDS));
    };
    match cli::seconds(value) {
        Ok(timeout) if !timeout.is_zero() && timeout <= Duration::from_secs(LONGEST_TIMEOUT_SECONDS) => {
            Ok(timeout)
        }
        _ => Err(misconfigured(
            name,
            format_args!(
                "'{}' is not a number of seconds above 0, up to {LONGEST_TIMEOUT_SECONDS}",
                printable(value)
            ),
        )),
    }
}

fn lock(variable: Option<&OsStr>) -> Result<LockUse, Failure> {
    match variable.map(OsStr::as_bytes) {
        None | Some(b"auto") => Ok(LockUse::Auto),
        Some(b"require") => Ok(LockUse::Require),
        Some(b"claim") => Ok(LockUse::Claim),
        Some(b"off") => Ok(LockUse::Off),
        Some(_) => Err(misconfigured("ONEGRANT_LOCK", "not one of auto, require, claim, off")),
    }
}

fn trusts_store(variable: Option<&OsStr>) -> Result<bool, Failure> {
    match variable.map(OsStr::as_bytes) {
        None | Some(b"0") => Ok(false),
        Some(b"1") => Ok(true),
        Some(_) => Err(misconfigured("ONEGRANT_TRUST_STORE", "not one of 0, 1")),
    }
}

fn verbosity(flags: u8, variable: Option<&OsStr>) -> Result<u8, Failure> {
    let variable = match variable.map(OsStr::as_bytes) {
        None | Some(b"quiet" | b"0") => 0,
        Some(b"info" | b"1") => 1,
        Some(b"debug" | b"2") => 2,
        Some(_) => return Err(misconfigured("ONEGRANT_LOG", "not one of quiet, info, debug")),
    };
    Ok(flags.min(2).max(variable))
}

fn store(option: Option<&str>, environment: &Environment) -> Result<StoreAddress, Failure> {
    if let Some(address) = option {
        return named_store("--store", OsStr::new(address), environment);
    }
    match set(&environment.store) {
        Some(address) => match named_store("ONEGRANT_STORE", address, environment)? {
            // Whoever sets a variable does not know in which directory it will be read.
            StoreAddress::File(directory) if directory.is_relative() => {
                Err(misconfigured("ONEGRANT_STORE", "the directory of file:DIR is not absolute"))
            }
            address => Ok(address),
        },
        None => Ok(StoreAddress::File(home(environment)?)),
    }
}

/// The store at an address that somebody wrote down; `name` is where.
pub fn named_store(name: &str, address: &OsStr, environment: &Environment) -> Result<StoreAddress, Failure> {
    let bytes = address.as_bytes();
    if let Some(directory) = bytes.strip_prefix(b"file:") {
        return file_store(name, address, directory);
    }
    if let Some(program) = bytes.strip_prefix(b"helper:") {
        return helper_store(name, OsStr::from_bytes(program), environment);
    }
    let shown = printable(&address.to_string_lossy());
    match address.to_str().and_then(cell::CellAddress::parse) {
        Some(Ok(address)) => Ok(StoreAddress::Cell(address, home(environment)?)),
        Some(Err(why)) => {
            // Of an address with user information nothing is repeated: it may hold a password.
            let shown = if shown.contains('@') { "the address".to_owned() } else { format!("'{shown}'") };
            Err(misconfigured(name, format_args!("{shown}: {why}")))
        }
        None => {
            let [schemes @ .., last] = StoreAddress::SCHEMES;
            let schemes = schemes.join(", ");
            Err(misconfigured(name, format_args!("'{shown}': this build knows {schemes} and {last}")))
        }
    }
}

fn helper_store(name: &str, program: &OsStr, environment: &Environment) -> Result<StoreAddress, Failure> {
    let program = Path::new(program);
    let helper = StoreAddress::helper_name(program);
    let shown = || printable(&program.to_string_lossy());
    if ProfileName::new(helper).is_none() || (program.is_relative() && program != Path::new(helper)) {
        return Err(misconfigured(
            name,
            format_args!(
                "'helper:{}': write helper:NAME for {PROGRAM_PREFIX}NAME, or helper: and its absolute path",
                shown()
            ),
        ));
    }
    if helper == "onegrant" {
        return Err(misconfigured(name, format_args!("'helper:{}' would ask this very program", shown())));
    }
    Ok(StoreAddress::Helper { program: program.to_owned(), home: home(environment)? })
}

fn file_store(name: &str, address: &OsStr, directory: &[u8]) -> Result<StoreAddress, Failure> {
    let shown = || printable(&address.to_string_lossy());
    match directory {
        [] => Err(misconfigured(name, "file: without a directory")),
        // A shell expands a tilde at the beginning of a word, and here it is not.
        [b'~'] | [b'~', b'/', ..] => {
            Err(misconfigured(name, format_args!("'{}': nobody expanded the ~; write file:$HOME", shown())))
        }
        [b'/', b'/', rest @ ..] if rest.first() != Some(&b'/') => {
            Err(misconfigured(name, format_args!("'{}' names a host; write file:/DIR", shown())))
        }
        _ => Ok(StoreAddress::File(PathBuf::from(OsStr::from_bytes(directory)))),
    }
}

/// The file store's directory where nothing names another. Never the working directory, nor below it.
fn home(environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(home) = set(&environment.onegrant_home) {
        let home = Path::new(home);
        return if home.is_absolute() {
            Ok(home.to_owned())
        } else {
            let message = format!("ONEGRANT_HOME: '{}' is not absolute", printable(&home.to_string_lossy()));
            Err(Failure::new(Kind::Usage, message).hint("export ONEGRANT_HOME=/a/directory"))
        };
    }
    let absolute = |variable| set(variable).map(Path::new).filter(|path| path.is_absolute());
    // The XDG Base Directory Specification has a relative path ignored.
    absolute(&environment.xdg_state_home)
        .map(|state| state.join("onegrant"))
        .or_else(|| absolute(&environment.home).map(|home| home.join(".local/state/onegrant")))
        .ok_or_else(|| {
            let message = "no place for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute path";
            Failure::new(Kind::Usage, message).hint("export ONEGRANT_HOME=/a/directory")
        })
}
