//! Opens an address in a browser without waiting for it.

use crate::environment::Desktop;
use crate::system::as_given;
use crate::text::{describe, printable};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program that was started is watched for a failure. One that runs longer is the browser itself.
const FAILURE_LIMIT: Duration = Duration::from_secs(10);

/// How often it is checked whether the program has failed.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The programs that open an address if `BROWSER` is not set, in the form of that variable. Only the Windows Subsystem for Linux
/// has `wslview`. That system is not always recognized, so elsewhere `wslview` is tried last.
const SYSTEM: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open:wslview" };
const WINDOWS_SUBSYSTEM: &str = "wslview:xdg-open";

/// The programs that can open an address, tried one after the other.
pub struct Browser {
    commands: VecDeque<Vec<String>>,
    running: Option<(String, Child, Instant)>,
    /// Why the last program failed.
    why: Option<String>,
}

impl Browser {
    /// Opens the address with the programs that `BROWSER` names, else with those of this system.
    pub fn open(address: &str) -> Self {
        let variable = crate::environment::variable("BROWSER").unwrap_or_default();
        let system = if Desktop::is_windows_subsystem() { WINDOWS_SUBSYSTEM } else { SYSTEM };
        let is_file = |path: &str| Path::new(path).is_file();
        let commands = commands(&variable.to_string_lossy(), system, address, is_file);
        let mut browser = Self { commands, running: None, why: None };
        browser.start_next();
        browser
    }

    /// Starts the first of the programs that can be started.
    fn start_next(&mut self) {
        while self.running.is_none() {
            let Some(command) = self.commands.pop_front() else { return };
            let [program, arguments @ ..] = command.as_slice() else { continue };
            // In a process group of its own, so that Ctrl-C does not end the browser.
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            match as_given(command.process_group(0)).spawn() {
                Ok(child) => self.running = Some((program.clone(), child, Instant::now())),
                // A program that is not installed does not hide the failure of another one.
                Err(error) if error.kind() == ErrorKind::NotFound && self.why.is_some() => {}
                Err(error) => self.why = Some(printable(&format!("{program}: {}", describe(&error)))),
            }
        }
    }

    /// Checks whether the program has failed, and starts the next. Gives the reason, once, if none could open the address.
    pub fn look_after(&mut self) -> Option<String> {
        if let Some((program, child, began)) = &mut self.running {
            match child.try_wait() {
                Ok(None) if began.elapsed() < FAILURE_LIMIT => {}
                Ok(Some(status)) if !status.success() => {
                    self.why = Some(printable(&format!("{program}: {status}")));
                    self.running = None;
                    self.start_next();
                }
                // It opened the address, or it is the browser.
                Ok(_) | Err(_) => (self.running, self.why) = (None, None),
            }
        }
        if self.running.is_some() { None } else { self.why.take() }
    }

    /// The time until the next check; none if nothing can fail any more.
    pub fn pause(&self) -> Option<Duration> {
        self.running.as_ref().map(|_| CHECK_INTERVAL)
    }
}

/// The programs and their arguments. Each entry of `variable` is a command with `%s` in the place of the address; without `%s`
/// the address is the last argument. No shell is involved, so nothing in the address can become a command.
fn commands(
    variable: &str,
    system: &str,
    address: &str,
    is_file: impl Fn(&str) -> bool,
) -> VecDeque<Vec<String>> {
    let variable = if variable.trim().is_empty() { system } else { variable };
    let entries = variable.split(':').map(str::trim).filter(|entry| !entry.is_empty());
    let command = |entry: &str| {
        // A path may contain spaces.
        let words: Vec<&str> = if is_file(entry) { vec![entry] } else { entry.split_whitespace().collect() };
        let mut command: Vec<String> = words.iter().map(|word| word.replace("%s", address)).collect();
        if !words.iter().any(|word| word.contains("%s")) {
            command.push(address.to_owned());
        }
        command
    };
    entries.map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_is_a_list_of_commands_and_the_address_is_one_argument() {
        let address = "https://as.example/?a=$(id)&b=;x";
        let cases: [(&str, &[&[&str]]); 6] = [
            ("", &[&["xdg-open", address], &["wslview", address]]),
            (" ", &[&["xdg-open", address], &["wslview", address]]),
            ("firefox", &[&["firefox", address]]),
            ("w3m -M %s:lynx", &[&["w3m", "-M", address], &["lynx", address]]),
            ("/with space/b", &[&["/with space/b", address]]),
            ("::a  --url=%s", &[&["a", "--url=https://as.example/?a=$(id)&b=;x"]]),
        ];
        for (variable, wanted) in cases {
            assert_eq!(
                commands(variable, "xdg-open:wslview", address, |path| path == "/with space/b"),
                wanted,
                "{variable}"
            );
        }
    }
}
