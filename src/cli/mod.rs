//! The command line: the arguments and the environment go in, a command or a text comes out. Pure.
//!
//! ```text
//! parse ─ reader        words to options and arguments, by the table below
//!       ├ through_argh  options and arguments to types
//!       ├ help, completions   texts that are made from the table
//!       └ definition    the table: commands, options, exit codes, as types for argh
//!          └ values     the values of options, their words and parsers
//! ```

mod completions;
mod definition;
pub mod help;
mod names;
mod reader;
mod suggestion;
mod through_argh;
mod values;

pub use crate::adapters::Protocol;
pub use crate::adapters::formats::Format;
pub use definition::{
    Arguments, Command, Completions, Doctor, Exec, GitCredential, GitSetup, Helper, Login, Logout, Migrate,
    Profiles, Refresh, Serve, Status, Token, Whoami,
};
pub use names::{is_keyring, words_of_name};
pub use suggestion::nearest;
pub use values::{Input, Parameter, ServeAddress, Shell, words};

use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::globals::{GlobalOptions, Globals};
use crate::grant::Flow;
use argh::ArgsInfo;
use reader::CommandLine;
use std::ffi::OsString;

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a process holds one")]
pub enum Parsed {
    /// To run a command.
    Run(Globals, Command),
    /// To print this text on stdout and end with 0: a help, the version. A failed write does not matter.
    Print(String),
    /// To print this text on stdout: a script for a shell. A failed write is a failure.
    Answer(String),
    /// There is no command. Print this help on stderr and end with the exit code of [`Kind::Usage`].
    NoCommand(String),
}

/// Parses the arguments without the program's name. Every failure is [`Kind::Usage`].
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Parsed, Failure> {
    let program = Arguments::get_args_info();
    let mut line = CommandLine::read(&program, arguments.into_iter())?;
    if line.help {
        return Ok(Parsed::Print(match line.command {
            Some(command) => help::of_command(command),
            None => help::of_program(&program),
        }));
    }
    if line.has("--version") {
        return Ok(Parsed::Print(concat!("onegrant ", env!("CARGO_PKG_VERSION"), "\n").to_owned()));
    }
    let mut options = through_argh::fill(&line)?;
    let Some(mut command) = options.command.take() else {
        return Ok(Parsed::NoCommand(help::of_program(&program)));
    };
    if let Command::Exec(exec) = &mut command {
        exec.command = std::mem::take(&mut line.command_to_run);
    }
    check(&command)?;
    if let Command::Completions(completions) = &command {
        return Ok(Parsed::Answer(completions::script(&program, completions.shell)));
    }
    Ok(Parsed::Run(Globals::resolve(&global_options(&options), environment)?, command))
}

fn global_options(options: &Arguments) -> GlobalOptions<'_> {
    GlobalOptions {
        profile: options.profile.as_deref(),
        resource: options.resource.as_deref(),
        store: options.store.as_deref(),
        timeout: options.timeout.as_deref(),
        verbose: options.verbose,
    }
}

/// Finds usage errors that concern several options of a command.
fn check(command: &Command) -> Result<(), Failure> {
    let login = match command {
        Command::Login(login) => login,
        Command::Exec(exec) if exec.command.is_empty() => {
            let message = "exec needs a command to run: onegrant exec -- CMD";
            return Err(Failure::new(Kind::Usage, message).hint("onegrant exec --help"));
        }
        Command::Exec(exec)
            if exec.shape.is_some() && !matches!(exec.serve, Some(ServeAddress::Loopback(_))) =>
        {
            let message = "--as needs --serve tcp: the programs that it is for know no other socket";
            return Err(Failure::new(Kind::Usage, message).hint("onegrant exec --help"));
        }
        Command::Helper(helper) => return check_helper(helper),
        _ => return Ok(()),
    };
    login_flow(login)?;
    let contradictions = [
        ("--register", login.register, "--client-id", login.client_id.is_some()),
        ("--no-resource", login.no_resource, "--resource", !login.resource.is_empty()),
    ];
    if let Some((one, _, other, _)) = contradictions.iter().find(|(_, one, _, other)| *one && *other) {
        let message = format!("{one} or {other}, not both");
        return Err(Failure::new(Kind::Usage, message).hint("onegrant login --help"));
    }
    if login.refresh_token_stdin && login.client_secret_file == Some(Input::Stdin) {
        let message = "--refresh-token-stdin and --client-secret-file - cannot both read stdin";
        return Err(Failure::new(Kind::Usage, message).hint("onegrant login --help"));
    }
    Ok(())
}

/// Finds options of `helper aws` beside another protocol, and arguments beside `aws`.
fn check_helper(helper: &Helper) -> Result<(), Failure> {
    let is_aws = helper.protocol == Protocol::Aws;
    let options = [
        ("--role-arn", helper.role_arn.is_some()),
        ("--session-name", helper.session_name.is_some()),
        ("--duration", helper.duration.is_some()),
        ("--region", helper.region.is_some()),
        ("--endpoint-url", helper.endpoint_url.is_some()),
    ];
    let message = match options.iter().find(|(_, is_given)| *is_given && !is_aws) {
        Some((option, _)) => format!("{option} is an option of helper aws only"),
        None if is_aws && helper.role_arn.is_none() => {
            "helper aws needs the role to assume: --role-arn ARN".to_owned()
        }
        None if is_aws && !helper.arguments.is_empty() => "helper aws takes no arguments".to_owned(),
        None => return Ok(()),
    };
    Err(Failure::new(Kind::Usage, message).hint("onegrant helper --help"))
}

/// The flow that the options of a login ask for, if any do.
pub fn login_flow(arguments: &Login) -> Result<Option<Flow>, Failure> {
    let options = [
        ("--device", Flow::Device, arguments.device),
        ("--browser", Flow::Browser, arguments.browser),
        ("--refresh-token-stdin", Flow::Imported, arguments.refresh_token_stdin),
        ("--client-credentials", Flow::Client, arguments.client_credentials),
        ("--subject-token", Flow::Client, arguments.subject_token.is_some()),
    ];
    let mut given = options.iter().filter(|(_, _, is_given)| *is_given);
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some((_, flow, _)), None) => Ok(Some(*flow)),
        (Some((one, ..)), Some((other, ..))) => {
            let message = format!("more than one way to log in: {one} or {other}, not both");
            Err(Failure::new(Kind::Usage, message).hint("onegrant login --help"))
        }
    }
}

#[cfg(test)]
mod parse_tests;
