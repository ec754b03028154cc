//! At a terminal the address that the browser was sent to can be pasted: it and the listener race.

use super::fake_browser::*;
use crate::support::*;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const OFFER: &str = "onegrant: if the browser cannot come back here, paste the address that it was sent to\n";

/// A pseudo-terminal, and what was written to it.
struct Terminal {
    keyboard: File,
    /// Kept open, so that the terminal outlives the process.
    line: File,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn new() -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let line = File::from(open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
        let keyboard = File::from(keyboard);
        let mut reader = keyboard.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends with an error when the last one has closed the line.
            while let Ok(length) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).replace('\r', "");
                shared.lock().unwrap().push_str(&text);
            }
        });
        Self { keyboard, line, screen }
    }

    /// Starts a process with this terminal as stdin and stderr.
    fn start(&self, command: &mut Command) -> std::process::Child {
        let line = || Stdio::from(self.line.try_clone().unwrap());
        command.stdin(line()).stderr(line()).stdout(Stdio::null()).spawn().unwrap()
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    fn type_line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn mode(&self) -> Termios {
        tcgetattr(&self.line).unwrap()
    }
}

#[track_caller]
fn finish(mut child: std::process::Child, terminal: &Terminal) -> i32 {
    let child = Mutex::new(&mut child);
    wait_for("the end", || child.lock().unwrap().try_wait().unwrap().is_some());
    let status = child.lock().unwrap().try_wait().unwrap().unwrap();
    status.code().unwrap_or_else(|| panic!("{status}: {}", terminal.screen()))
}

#[test]
fn the_address_can_be_pasted_instead() {
    for is_whole in [true, false] {
        let server = server(|_| {});
        let home = Home::new();
        let mut terminal = Terminal::new();
        let before = format!("{:?}", terminal.mode());
        let child = terminal.start(&mut login(&home, &server, &[]));
        let address = shown(|| terminal.screen());
        wait_for("the offer", || terminal.screen().contains(OFFER));
        let callback = redirect(&address);
        let pasted = if is_whole { callback.clone() } else { callback.split_once('?').unwrap().1.to_owned() };
        terminal.type_line(&pasted);
        assert_eq!(finish(child, &terminal), 0, "{}", terminal.screen());
        assert!(server.is_alive(&home.tokens().refresh_token));
        assert!(request("GET", &callback).is_err(), "nothing listens any more");
        assert_eq!(format!("{:?}", terminal.mode()), before, "the terminal is as it was");
        assert_eq!((server.counts().token_requests, server.counts().unexpected), (1, 0));
    }
}

#[test]
fn a_wrong_paste_is_reported_and_the_browser_still_works() {
    let server = server(|_| {});
    let home = Home::new();
    let mut terminal = Terminal::new();
    let child = terminal.start(&mut login(&home, &server, &[]));
    let address = shown(|| terminal.screen());
    let callback = redirect(&address);
    let long = "x".repeat(3000);
    for (line, why) in [
        ("yes", "it has no query"),
        (
            "http://127.0.0.1/callback?code=c&state=s",
            "it answers another login (its state is not this one's)",
        ),
        (&address.replace("state=", "other="), "it has no state"),
        (&long, "it has no query"),
        ("", ""),
    ] {
        let text = format!("onegrant: that is not the address that the browser was sent to: {why}\n");
        let count = || terminal.screen().matches(&text).count();
        let before = count();
        terminal.keyboard.try_clone().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
        if !why.is_empty() {
            wait_for(&text, || count() == before + 1);
        }
    }
    // The end of the input is not the end of the login.
    terminal.keyboard.write_all(b"\x04").unwrap();
    for _ in 0..20 {
        assert_eq!(get(&callback.replace("/callback?", "/else?")).status, 404);
    }
    assert_eq!(get(&callback).status, 200);
    assert_eq!(finish(child, &terminal), 0, "{}", terminal.screen());
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (1, 0));
}

#[test]
fn a_refusal_can_be_pasted_too() {
    let server = server(|_| {});
    let home = Home::new();
    let mut terminal = Terminal::new();
    let child = terminal.start(&mut login(&home, &server, &[]));
    let address = shown(|| terminal.screen());
    terminal.type_line(&answer_to(&address, &[("error", "access_denied"), ("iss", &server.issuer())]));
    assert_eq!(finish(child, &terminal), 3, "{}", terminal.screen());
    wait_for("the reason", || terminal.screen().contains("the request was refused: access_denied\n"));
}

/// Only a terminal is read: a pipe or a file on stdin belongs to another program.
#[test]
fn without_a_terminal_nothing_is_offered_or_read() {
    let server = server(|_| {});
    let home = Home::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (process, address) = start(login(&home, &server, &[]).stdin(reader));
    let callback = redirect(&address);
    writeln!(writer, "{callback}").unwrap();
    drop(writer);
    // The listener is still there, although the pipe has ended.
    assert_eq!(get(&callback).status, 200);
    let ran = process.finish();
    assert!(ran.code == 0 && !ran.stderr.contains(OFFER), "{ran:?}");
}

#[test]
fn a_browser_that_was_opened_here_needs_no_offer() {
    let server = server(|_| {});
    for (is_remote, is_offered) in [(false, false), (true, true)] {
        let home = Home::new();
        let terminal = Terminal::new();
        let mut command = login(&home, &server, &[]);
        command.env("BROWSER", "/bin/true");
        if is_remote {
            command.env("SSH_CONNECTION", "1");
        }
        let child = terminal.start(&mut command);
        let address = shown(|| terminal.screen());
        if is_offered {
            wait_for("the offer", || terminal.screen().contains(OFFER));
        }
        get(&redirect(&address));
        assert_eq!(finish(child, &terminal), 0);
        wait_for("the last word", || terminal.screen().contains("logged in"));
        assert_eq!(terminal.screen().contains(OFFER), is_offered, "{}", terminal.screen());
    }
}
