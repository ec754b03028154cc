//! Runs a hidden mode.

use super::{Mode, companion, lock_call, lock_probe, runner_process, worker_process};
use crate::environment::Environment;
use crate::error::SUCCESS;

/// Runs the mode and returns the exit code.
pub fn run(mode: Mode, environment: &Environment) -> anyhow::Result<u8> {
    match mode {
        Mode::Worker => worker_process::run(environment)?,
        Mode::LockCall => return Ok(lock_call::run()?),
        Mode::LockProbe => lock_probe::run()?,
        Mode::Companion => companion::run(environment)?,
        Mode::Runner => runner_process::run(environment)?,
    }
    Ok(SUCCESS)
}
