//! The settings of every command: an option wins over its variable, a variable over the default.
//!
//! Pure: the values of options and variables go in, [`Globals`] come out.

use crate::environment::{Environment, FromOptions, Passed};
use crate::error::{Failure, Kind};
use crate::protocol::metadata::endpoint_url;
use crate::session::LockUse;
use crate::store_address::{BrokerAddress, ProfileName, StoreAddress, misconfigured};
use crate::text::{in_single_quotes, parse_seconds, printable};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// The settings of a command, from options, environment and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    /// The grant to work on. With [`Selection::Resource`] it is not known before [`crate::profile`] has looked for it.
    pub profile: ProfileName,
    /// How the command says which grant that is.
    pub selection: Selection,
    /// Where grants are kept.
    pub store: StoreAddress,
    /// One deadline for everything that the command waits for, except for a person.
    pub timeout: Duration,
    /// Which lock the command needs.
    pub lock: LockUse,
    /// 0 is quiet, 1 `-v`, 2 `-vv`.
    pub verbosity: u8,
    /// Whether a document in etcd or Kubernetes may name commands to run and files to read.
    pub trusts_store: bool,
    /// Which of these come from an option.
    pub given: FromOptions,
}

/// How a command says which profile it works on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// It does not: the default profile.
    #[default]
    Default,
    /// By its name: `--profile`, `ONEGRANT_PROFILE`.
    Name,
    /// By an address that the resource of the profile covers: `--for`, `ONEGRANT_FOR`.
    Resource(String),
}

/// The global options as the command line gives them; `None` where it does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalOptions<'a> {
    /// `--profile`
    pub profile: Option<&'a str>,
    /// `--for`
    pub resource: Option<&'a str>,
    /// `--store`
    pub store: Option<&'a str>,
    /// `--timeout`
    pub timeout: Option<&'a str>,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// The deadline if none is given, in seconds.
pub const DEFAULT_TIMEOUT_SECONDS: u64 = 30;

/// The longest deadline, in seconds: a day. No command has a reason to wait longer.
pub const LONGEST_TIMEOUT_SECONDS: u64 = 86_400;

/// The text before a command in the middle of a hint.
const BEFORE_COMMAND: [&str; 4] = [": ", "; ", "| ", "=claim "];

impl Globals {
    /// Combines options, variables and defaults. An empty variable counts as unset.
    pub fn resolve(options: &GlobalOptions<'_>, environment: &Environment) -> Result<Self, Failure> {
        let variables = environment;
        let (profile, selection) = select(options, variables)?;
        Ok(Self {
            profile,
            selection,
            store: store(options.store, variables)?,
            timeout: timeout(NamedValue::new(
                "--timeout",
                options.timeout,
                "ONEGRANT_TIMEOUT",
                &variables.timeout,
            )?)?,
            lock: lock(set(&variables.lock))?,
            verbosity: verbosity(options.verbose, set(&variables.log))?,
            trusts_store: trusts_store(set(&variables.trust_store))?,
            given: FromOptions {
                profile: options.profile.or(options.resource).is_some(),
                store: options.store.is_some(),
                timeout: options.timeout.is_some(),
            },
        })
    }

    /// The settings of a command without options.
    pub fn from_environment(environment: &Environment) -> Result<Self, Failure> {
        Self::resolve(&GlobalOptions::default(), environment)
    }

    /// The settings that another process of onegrant needs to work on the same grant. Its working directory may be another one.
    pub fn passed(&self) -> io::Result<Passed> {
        let timeout = format!("{}.{:09}", self.timeout.as_secs(), self.timeout.subsec_nanos());
        Ok([self.known_profile().into(), self.store.absolute()?.text(), timeout.into()])
    }

    /// The name of the profile; empty if only the broker knows it: it serves one profile, and the command names none.
    pub fn known_profile(&self) -> &str {
        let is_any = self.selection == Selection::Default && matches!(self.store, StoreAddress::Broker(_));
        if is_any { "" } else { self.profile.as_str() }
    }

    /// Completes the onegrant commands in a hint, so that they work on the same grant in the shell that made this call:
    /// each names the profile, and the store if `--store` gave it. The placeholder DIR replaces a directory that a
    /// terminal cannot show.
    pub fn complete(&self, hint: &str, environment: &Environment) -> String {
        let (mut completed, mut rest) = (String::new(), hint);
        while let Some((before, command)) = rest.split_once("onegrant ") {
            completed.push_str(before);
            let is_command = completed.is_empty() || BEFORE_COMMAND.iter().any(|end| before.ends_with(end));
            completed.push_str("onegrant ");
            if is_command {
                completed.push_str(&self.missing_options(command, environment));
            }
            rest = command;
        }
        completed + rest
    }

    /// The options that `command` needs to work on the same grant and does not have.
    fn missing_options(&self, command: &str, environment: &Environment) -> String {
        let mut options = String::new();
        let command = command.split_once("onegrant ").map_or(command, |(command, _)| command);
        let is_usual = store(None, environment).ok().as_ref() == Some(&self.store);
        if !is_usual && !command.contains("--store ") {
            match self.store.text().to_str().filter(|text| printable(text) == *text) {
                Some(text) => options.push_str(&format!("--store {} ", in_single_quotes(text))),
                None => options.push_str("--store file:DIR "),
            }
        }
        let is_set = set(&environment.profile).or(set(&environment.resource)).is_some();
        // A profile that was not found yet is in no hint.
        let is_default =
            self.profile == ProfileName::default() && !(is_set && self.selection == Selection::Name);
        if !is_default && !command.contains("--profile ") {
            options.push_str(&format!("--profile {} ", self.profile));
        }
        options
    }
}

/// The value of an option or of its variable, and the name of where it comes from.
struct NamedValue<'a> {
    source: &'static str,
    value: &'a str,
}

impl<'a> NamedValue<'a> {
    /// `None` if neither the option nor the variable is set. A variable that is not UTF-8 is a failure.
    fn new(
        option: &'static str,
        given: Option<&'a str>,
        variable: &'static str,
        value: &'a Option<OsString>,
    ) -> Result<Option<Self>, Failure> {
        if let Some(value) = given {
            return Ok(Some(Self { source: option, value }));
        }
        let Some(value) = set(value) else { return Ok(None) };
        match value.to_str() {
            Some(value) => Ok(Some(Self { source: variable, value })),
            None => Err(misconfigured(variable, "it is not UTF-8")),
        }
    }
}

fn set(variable: &Option<OsString>) -> Option<&OsStr> {
    variable.as_deref().filter(|value| !value.is_empty())
}

/// The profile, and how it was said. An option wins over both variables.
fn select(
    options: &GlobalOptions<'_>,
    environment: &Environment,
) -> Result<(ProfileName, Selection), Failure> {
    let is_given = options.profile.or(options.resource).is_some();
    let (profile, resource) = match is_given {
        true => (&None, &None),
        false => (&environment.profile, &environment.resource),
    };
    let named = NamedValue::new("--profile", options.profile, "ONEGRANT_PROFILE", profile)?;
    let covering = NamedValue::new("--for", options.resource, "ONEGRANT_FOR", resource)?;
    match (named, covering) {
        (None, None) => Ok((ProfileName::default(), Selection::Default)),
        (Some(named), None) => Ok((profile_name(&named)?, Selection::Name)),
        (None, Some(covering)) => Ok((ProfileName::default(), Selection::Resource(url(&covering)?))),
        (Some(named), Some(covering)) => {
            let message = format!("{} and {} each say which profile to use", covering.source, named.source);
            Err(Failure::new(Kind::Usage, message).hint(match is_given {
                true => "onegrant --help",
                false => "unset ONEGRANT_FOR   # or ONEGRANT_PROFILE",
            }))
        }
    }
}

fn profile_name(NamedValue { source, value }: &NamedValue<'_>) -> Result<ProfileName, Failure> {
    ProfileName::new(value).ok_or_else(|| {
        let rule = "letters, digits, \".\", \"_\" and \"-\", no leading dot, 1 to 64 characters";
        misconfigured(source, format_args!("'{}' is no profile name: {rule}", printable(value)))
    })
}

/// An `http` or `https` URL, whether or not a credential may go there: it is only compared.
fn url(NamedValue { source, value }: &NamedValue<'_>) -> Result<String, Failure> {
    let secure = match value.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => format!("https://{rest}"),
        _ => (*value).to_owned(),
    };
    match endpoint_url(&secure) {
        Ok(_) => Ok((*value).to_owned()),
        Err(_) => {
            // A URL with user information may hold a password. Show nothing of it.
            let shown = if value.contains('@') { "it".to_owned() } else { format!("'{}'", printable(value)) };
            let rule = "write https://HOST/PATH, without a user name and a fragment";
            Err(misconfigured(source, format_args!("{shown} is no address of a resource: {rule}")))
        }
    }
}

fn store(option: Option<&str>, environment: &Environment) -> Result<StoreAddress, Failure> {
    if let Some(address) = option {
        return StoreAddress::parse("--store", OsStr::new(address), environment);
    }
    let Some(address) = set(&environment.store) else { return StoreAddress::usual(environment) };
    match StoreAddress::parse("ONEGRANT_STORE", address, environment)? {
        // A variable may be read in any working directory.
        StoreAddress::File(directory) if directory.is_relative() => {
            Err(misconfigured("ONEGRANT_STORE", "the directory of file:DIR is not absolute"))
        }
        StoreAddress::Broker(BrokerAddress::Unix(socket)) if socket.is_relative() => {
            Err(misconfigured("ONEGRANT_STORE", "the path of broker:unix:PATH is not absolute"))
        }
        address => Ok(address),
    }
}

fn timeout(named: Option<NamedValue<'_>>) -> Result<Duration, Failure> {
    let Some(NamedValue { source, value }) = named else {
        return Ok(Duration::from_secs(DEFAULT_TIMEOUT_SECONDS));
    };
    let longest = Duration::from_secs(LONGEST_TIMEOUT_SECONDS);
    parse_seconds(value).filter(|timeout| !timeout.is_zero() && *timeout <= longest).ok_or_else(|| {
        let rule = format!("not a number of seconds above 0, up to {LONGEST_TIMEOUT_SECONDS}");
        misconfigured(source, format_args!("'{}' is {rule}", printable(value)))
    })
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
