//! Opens an address in a browser, and is not held up by it.

use crate::environment::Desktop;
use crate::system::as_given;
use crate::text::{describe, printable};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may fail after it was started. One that runs on is the browser itself.
const FAILURE_LIMIT: Duration = Duration::from_secs(10);

/// How often is looked whether it has failed.
const LOOK: Duration = Duration::from_millis(100);

/// What opens an address where `BROWSER` says nothing, in the form of that variable. `wslview` is there in the Windows Subsystem
/// for Linux alone; that is not always recognized, so it is tried last elsewhere.
const SYSTEM: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open:wslview" };
const WINDOWS_SUBSYSTEM: &str = "wslview:xdg-open";

/// The opening of an address: programs that are tried one after the other.
pub struct Browser {
    commands: VecDeque<Vec<String>>,
    running: Option<(String, Child, Instant)>,
    /// Why the last program failed.
    why: Option<String>,
}

impl Browser {
    /// Has the address opened by what `BROWSER` names, else by what this system has for it.
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
            // Its own group: Ctrl-C here is not meant for it.
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            match as_given(command.process_group(0)).spawn() {
                Ok(child) => self.running = Some((program.clone(), child, Instant::now())),
                // What is not installed does not hide why another one failed.
                Err(error) if error.kind() == ErrorKind::NotFound && self.why.is_some() => {}
                Err(error) => self.why = Some(printable(&format!("{program}: {}", describe(&error)))),
            }
        }
    }

    /// Looks whether the program has failed, and tries the next. Tells once why none could open the address.
    pub fn look_after(&mut self) -> Option<String> {
        if let Some((program, child, began)) = &mut self.running {
            match child.try_wait() {
                Ok(None) if began.elapsed() < FAILURE_LIMIT => {}
                Ok(Some(status)) if !status.success() => {
                    self.why = Some(printable(&format!("{program}: {status}")));
                    self.running = None;
                    self.start_next();
                }
                // It has done its work, or it is the browser.
                Ok(_) | Err(_) => (self.running, self.why) = (None, None),
            }
        }
        if self.running.is_some() { None } else { self.why.take() }
    }

    /// When to look again; none where nothing can happen any more.
    pub fn pause(&self) -> Option<Duration> {
        self.running.as_ref().map(|_| LOOK)
    }
}

/// The programs and their arguments: each entry of `variable` is a command whose `%s` stands for the address, which comes
/// last where there is none. No shell takes part in it, so that nothing in the address can be taken for a command.
fn commands(
    variable: &str,
    system: &str,
    address: &str,
    is_file: impl Fn(&str) -> bool,
) -> VecDeque<Vec<String>> {
    let variable = if variable.trim().is_empty() { system } else { variable };
    let entries = variable.split(':').map(str::trim).filter(|entry| !entry.is_empty());
    let command = |entry: &str| {
        // A path may hold spaces.
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
