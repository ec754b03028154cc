//! One file for each command: gather, call, print.

pub mod doctor;
pub mod exec;
pub mod git_credential;
pub mod git_setup;
pub mod helper;
pub mod keyring;
pub mod login;
pub mod logout;
pub mod migrate;
pub mod profiles;
pub mod refresh;
pub mod serve;
pub mod status;
pub mod token;
pub mod whoami;

use crate::cli::Command;
use crate::profile::Context;
use crate::profile::choice::Need;
use crate::store::broker::BrokerStore;

/// What the command does with the profile that `--for` means.
pub fn need(command: &Command) -> Need {
    match command {
        Command::Profiles(_) | Command::Completions(_) => Need::Nothing,
        Command::Doctor(arguments) if arguments.address.is_some() => Need::Nothing,
        // The first login at an address has no profile yet.
        Command::Login(arguments) if arguments.issuer.is_some() => Need::IfAny,
        _ => Need::Required,
    }
}

/// The command in the hint to use another profile. `None`: the command makes a profile, or needs none.
pub fn with_another_profile(command: &Command) -> Option<&'static str> {
    match command {
        Command::Login(_) => None,
        Command::Doctor(arguments) if arguments.address.is_some() => None,
        Command::Token(_) => Some("token"),
        Command::Refresh(_) => Some("refresh"),
        Command::Whoami(_) => Some("whoami"),
        Command::Doctor(_) => Some("doctor"),
        // Those that need arguments.
        _ => Some("status"),
    }
}

/// Runs the command.
pub fn run(command: &Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::Token(arguments) => token::run(arguments, context),
        command => run_other(command, context),
    }
}

/// Not inlined: the frame of all these commands has five pages of stack, and `token` would touch each of them.
#[inline(never)]
fn run_other(command: &Command, context: &Context) -> anyhow::Result<()> {
    let changes_grant = matches!(command, Command::Login(_) | Command::Logout(_) | Command::Migrate(_));
    if changes_grant && context.store.broker().is_some() {
        return Err(BrokerStore::other_side().into());
    }
    match command {
        Command::Refresh(arguments) => refresh::run(arguments, context),
        Command::Login(arguments) => login::run(arguments, context),
        Command::Status(arguments) => status::run(arguments, context),
        Command::Whoami(arguments) => whoami::run(arguments, context),
        Command::Logout(arguments) => logout::run(arguments, context),
        Command::Doctor(arguments) => doctor::run(arguments, context),
        Command::Migrate(arguments) => migrate::run(arguments, context),
        Command::Profiles(_) => profiles::run(context),
        Command::GitCredential(arguments) => git_credential::run(arguments, context),
        Command::GitSetup(arguments) => git_setup::run(arguments, context),
        Command::Exec(arguments) => exec::run(arguments, context),
        Command::Helper(arguments) => helper::run(arguments, context),
        Command::Serve(arguments) => serve::run(arguments, context),
        // `run` and `cli::parse` have answered.
        Command::Token(_) | Command::Completions(_) => Ok(()),
    }
}
