//! The profile of a resource, if the command line names none.

use super::announced::Announced;
use crate::cli;
use crate::error::Failure;
use crate::profile::Context;

/// The context of the profile. `None`: the one of the command line.
pub fn of_resource(
    _arguments: &cli::Login,
    _announced: &Announced,
    _context: &Context,
) -> Result<Option<Context>, Failure> {
    Ok(None)
}

/// The error with hints for the profile of the context.
pub fn completed(mut error: anyhow::Error, context: &Context) -> anyhow::Error {
    if let Some(failure) = error.downcast_mut::<Failure>() {
        *failure = context.completed(failure.clone());
    }
    error
}
