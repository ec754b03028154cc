//! Which program opens the address, and that nothing depends on it.

use super::fake_browser::*;
use crate::support::*;
use std::fs;
use std::path::PathBuf;

/// A program that records each of its arguments, and where its streams go.
fn recorder(home: &Home, name: &str, ending: &str) -> PathBuf {
    let program = home.root.join(name);
    let script = format!(
        "#!/bin/sh\nfor argument; do printf '%s\\n' \"$argument\"; done >'{0}.part'\n\
         readlink /proc/self/fd/0 /proc/self/fd/2 >>'{0}.part'\nmv '{0}.part' '{0}.record'\n{ending}\n",
        program.display()
    );
    write_program(&program, &script);
    program
}

fn record(program: &std::path::Path) -> PathBuf {
    PathBuf::from(format!("{}.record", program.display()))
}

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[test]
fn browser_is_given_the_address_as_one_argument_and_none_of_our_streams() {
    let server = server(|_| {});
    let home = Home::new();
    let program = recorder(&home, "browser", "echo noise; echo noise >&2");
    let mut command = login(&home, &server, &["--param", "x=$(touch pwned);`touch pwned`'\"&|"]);
    command
        .env("PATH", PATH)
        .env("BROWSER", format!("/does/not/exist:/bin/false:{} --new %s", program.display()));
    let (reader, _writer) = std::io::pipe().unwrap();
    let (process, address) = start(command.stdin(reader));
    wait_for("the browser", || record(&program).exists());
    let recorded = fs::read_to_string(record(&program)).unwrap();
    assert_eq!(recorded, format!("--new\n{address}\n/dev/null\n/dev/null\n"));
    assert!(!home.root.join("pwned").exists());
    get(&redirect(&address));
    let ran = process.finish();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stderr.contains("noise") && !ran.stderr.contains("no browser"), "{ran:?}");
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn no_open_prints_the_address_alone() {
    let server = server(|_| {});
    let home = Home::new();
    let program = recorder(&home, "browser", "");
    let mut command = login(&home, &server, &["--no-open"]);
    let (process, address) = start(command.env("PATH", PATH).env("BROWSER", &program));
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    assert!(!record(&program).exists());
}

/// It is missing, fails, is killed or never ends: the address is on stderr, and the login continues.
#[test]
fn a_browser_that_does_not_open_is_a_note_and_no_failure() {
    let server = server(|_| {});
    let cases = [
        (None, "no browser could be opened (xdg-open: No such file or directory"),
        (Some("exit 3"), "browser: exit status: 3): open the address yourself\n"),
        (Some("kill -9 $$"), "browser: signal: 9 (SIGKILL)): open the address yourself\n"),
    ];
    for (ending, note) in cases {
        let home = Home::new();
        let mut command = login(&home, &server, &[]);
        match ending {
            // There is none to be found.
            None => command.env("BROWSER", "xdg-open").env("PATH", &home.root),
            Some(ending) => command.env("PATH", PATH).env("BROWSER", recorder(&home, "browser", ending)),
        };
        let (process, address) = start(&mut command);
        wait_for("a note", || process.said().contains(note));
        get(&redirect(&address));
        assert_eq!(process.finish().code, 0);
    }
}

/// In the Windows Subsystem for Linux, where the browser is that of Windows, there may be no display and no `xdg-open`.
#[test]
fn wslview_opens_the_address_in_the_windows_subsystem_for_linux() {
    let server = server(|_| {});
    for (variable, ending) in [("WSL_DISTRO_NAME", ""), ("WSL_INTEROP", "exit 3")] {
        let home = Home::new();
        let (wslview, other) = (recorder(&home, "wslview", ending), recorder(&home, "xdg-open", ""));
        let mut command = login(&home, &server, &[]);
        command.env(variable, "Ubuntu").env("PATH", format!("{}:{PATH}", home.root.display()));
        let (process, address) = start(&mut command);
        let is_last = if ending.is_empty() { &wslview } else { &other };
        wait_for("the browser", || record(is_last).exists());
        for program in [&wslview, is_last] {
            let recorded = fs::read_to_string(record(program)).unwrap();
            assert!(recorded.starts_with(&format!("{address}\n")), "{variable}: {recorded}");
        }
        assert_eq!(record(&other).exists(), !ending.is_empty(), "{variable}");
        get(&redirect(&address));
        let ran = process.finish();
        assert!(ran.code == 0 && !ran.stderr.contains("no browser"), "{variable}: {ran:?}");
    }
}

/// One that runs on is the browser itself: it is not waited for, and outlives the login.
#[test]
fn a_browser_that_keeps_running_does_not_delay_the_login() {
    let server = server(|_| {});
    let home = Home::new();
    let ends = home.root.join("ends");
    let ending = format!(
        "while ! [ -e '{0}' ] && [ -d '{1}' ]; do sleep 0.05; done; : >'{0}.seen'",
        ends.display(),
        home.root.display()
    );
    let program = recorder(&home, "browser", &ending);
    let (process, address) = start(login(&home, &server, &[]).env("PATH", PATH).env("BROWSER", &program));
    wait_for("the browser", || record(&program).exists());
    get(&redirect(&address));
    let ran = process.finish();
    assert!(ran.code == 0 && !ran.stderr.contains("no browser"), "{ran:?}");
    fs::write(&ends, "").unwrap();
    wait_for("the browser's end", || home.root.join("ends.seen").exists());
}
