//! onegrant: one OAuth grant, any number of processes, never logged out.

pub mod arguments;
pub mod cli;
pub mod error;
pub mod grant;
mod help;

use arguments::{Environment, Parsed};
use error::{Failure, Kind};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Runs one command and says how it ended. `arguments` come without the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match arguments::parse(arguments, &Environment::from_variables(|name| std::env::var_os(name))) {
        Ok(Parsed::Run(..)) => report(&Failure::new(Kind::Defect, "this command is not there yet")),
        Ok(Parsed::Print(text)) => {
            // A reader who has seen enough, as in `onegrant --help | head`, is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Parsed::NoCommand(text)) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            Kind::Usage.into()
        }
        Err(failure) => report(&failure),
    }
}

/// Tells a person what failed and what mends it.
fn report(failure: &Failure) -> ExitCode {
    // If stderr is closed there is nobody left to tell.
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "onegrant: {failure}");
    if let Some(hint) = &failure.hint {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    failure.kind.into()
}
