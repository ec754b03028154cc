//! `onegrant serve`: in the foreground, for a supervisor and for `ssh -R`.

use super::*;
use rustix::process::Signal;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

/// `onegrant OPTIONS serve --socket sock`, once it listens.
fn serve_here(home: &Home, options: &[&str]) -> (Process, Client) {
    let mut command = home.command(&[options, &["serve", "--socket", "sock"]].concat());
    (listening(&mut command), client_here(home))
}

fn client_here(home: &Home) -> Client {
    Client::at(&format!("unix:{}", home.root.join("sock").display()))
}

fn said(home: &Home) -> String {
    format!("onegrant: serving profile default at unix:{}\n", home.root.join("sock").display())
}

#[test]
fn it_serves_without_a_key_until_a_signal_and_removes_its_socket() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let script = "exec env --default-signal \"$@\"";
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_onegrant"), "serve", "--socket", "sock"])
            .env_clear();
        command.env("ONEGRANT_HOME", &home.state).env("PATH", "/usr/bin:/bin").current_dir(&home.root);
        let (process, client) = (listening(&mut command), client_here(&home));
        let mode = fs::metadata(home.root.join("sock")).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode, client.get("/v1/token").token()), (0o600, issued.access_token.clone()));
        assert_eq!(client.get("/v1/profile").json()["state"], "valid");
        assert_eq!(client.get("/computeMetadata/v1/").status, 404);
        let silent = client.connect();
        process.signal(signal);
        assert_eq!(process.finish(), Ran { code: 0, stdout: String::new(), stderr: said(&home) });
        assert!(!home.root.join("sock").exists());
        drop(silent);
    }
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn a_signal_that_its_parent_ignores_does_not_end_it() {
    let home = Home::new();
    let mut command = Command::new("/bin/sh");
    command.args([
        "-c",
        "trap '' HUP; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_onegrant"),
        "serve",
        "--socket",
        "sock",
    ]);
    command.env_clear().env("ONEGRANT_HOME", &home.state).current_dir(&home.root);
    let (process, client) = (listening(&mut command), client_here(&home));
    process.signal(Signal::HUP);
    assert_eq!(client.get("/v1/token").refusal(), (409, 3));
    process.signal(Signal::TERM);
    assert_eq!(process.finish().code, 0);
}

#[test]
fn it_serves_before_a_person_has_logged_in_and_after_a_logout() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, client) = serve_here(&home, &[]);
    let answer = client.get("/v1/token");
    assert_eq!(
        (answer.refusal(), answer.json()["hint"].as_str()),
        ((409, 3), Some("onegrant login https://ADDRESS"))
    );
    let issued = home.grant(&server, LIFETIME);
    assert_eq!(client.get("/v1/token").token(), issued.access_token);
    assert_eq!(home.run(&["logout"]).code, 0);
    assert_eq!(client.get("/v1/token").refusal(), (409, 3));
    process.signal(Signal::TERM);
    assert_eq!(process.finish(), Ran { code: 0, stdout: String::new(), stderr: said(&home) });
}

#[test]
fn a_second_one_at_the_same_place_says_that_one_is_running() {
    let home = Home::new();
    let (process, client) = serve_here(&home, &[]);
    let place = home.root.join("sock");
    let wanted = format!(
        "onegrant: cannot listen at unix:{0}: another process listens there\n\
         hint: ls -ld {0}   # or choose another path\n",
        place.display()
    );
    assert_eq!(home.run(&["serve", "--socket", place.to_str().unwrap()]), Ran::failed(2, wanted));
    assert_eq!(client.get("/v1/token").status, 409, "the first one still serves");
    process.signal(Signal::TERM);
    assert_eq!(process.finish().code, 0);
    let ran = home.run(&["serve"]);
    let wanted =
        "onegrant: serve needs a socket: onegrant serve --socket PATH\nhint: onegrant serve --help\n";
    assert_eq!(ran, Ran::failed(2, wanted));
}

#[test]
fn with_v_it_says_who_asks_for_what_and_no_secret() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let (process, client) = serve_here(&home, &["-v"]);
    client.get("/v1/token");
    client.get("/v1/profile");
    client.reject(&issued.access_token);
    process.signal(Signal::TERM);
    let ran = process.finish();
    let (me, user) = (std::process::id(), rustix::process::geteuid().as_raw());
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    let who = format!("onegrant: {} (process {me} of user {user}) asks for", comm.trim_end());
    for what in ["an access token", "the profile", "another access token than a refused one"] {
        assert_eq!(ran.stderr.matches(&format!("{who} {what}\n")).count(), 1, "{}", ran.stderr);
    }
    for secret in [issued.access_token, issued.refresh_token, home.tokens().access_token] {
        assert!(!ran.stderr.contains(&secret), "{}", ran.stderr);
    }
    assert_eq!((ran.code, server.counts().refreshes), (0, 1));
}

/// As a supervisor starts it: the socket is descriptor 3. What runs for it has the variables, which name another process, and not
/// the socket.
#[test]
fn it_takes_the_socket_that_a_supervisor_has_opened_and_leaves_it() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let path = home.root.join("sock");
    let command = |socket: OwnedFd, fds: &str, pid: &str| {
        let script =
            format!("exec 3<&0 </dev/null; LISTEN_FDS={fds} LISTEN_FDNAMES=x LISTEN_PID={pid} exec \"$@\"");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_onegrant"), "serve"]);
        command.env_clear().env("ONEGRANT_HOME", &home.state).env("PATH", "/usr/bin:/bin");
        command.env(
            "ONEGRANT_ON_ROTATE",
            "(env; ls -l /proc/self/fd) >environment.new; mv environment.new environment",
        );
        command.current_dir(&home.root).stdin(Stdio::from(socket));
        command
    };
    let listener = UnixListener::bind(&path).unwrap();
    let socket = || OwnedFd::from(listener.try_clone().unwrap());
    let (process, client) = (listening(&mut command(socket(), "1", "$$")), client_here(&home));
    assert_eq!(process.said(), "onegrant: serving profile default at the socket of its supervisor\n");
    assert_ne!(client.reject(&issued.access_token).token(), issued.access_token);
    wait_for("the command of the rotation", || home.root.join("environment").exists());
    let environment = fs::read_to_string(home.root.join("environment")).unwrap();
    let pid = process.pid();
    assert!(environment.contains(&format!("LISTEN_PID={pid}\n")), "{environment}");
    assert!(!environment.contains("socket:"), "{environment}");
    process.signal(Signal::TERM);
    assert_eq!(process.finish().code, 0);
    assert!(path.exists(), "it is the supervisor's");
    // Meant for another process, more than one, or no listening Unix socket.
    let file = || OwnedFd::from(fs::File::open(home.document_path()).unwrap());
    let tcp = || OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    for (socket, fds, pid, why) in [
        (socket(), "1", "1", "serve needs a socket"),
        (socket(), "2", "$$", "LISTEN_FDS is 2, not 1"),
        (file(), "1", "$$", "Socket operation on non-socket"),
        (tcp(), "1", "$$", "it is no listening Unix stream socket"),
    ] {
        let ran = run(&mut command(socket, fds, pid));
        assert!(ran.code == 2 && ran.stderr.contains(why), "{why}: {ran:?}");
    }
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
}

/// A worker that ends after its caller's deadline: the broker lives on, and takes note of it.
#[test]
fn a_late_worker_is_no_zombie_after_the_next_one() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    server.script(Endpoint::Token, [Fault::StallBefore]);
    let (process, client) = serve_here(&home, &["--timeout", "1"]);
    assert_eq!(client.get("/v1/token").refusal(), (503, 4));
    let worker = spender(&home);
    let entry = format!("/proc/{worker}/stat");
    if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(worker).unwrap()) {
        // It may have ended by now.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    wait_for("the end of the worker", || !is_running(worker));
    let answered = || client.get("/v1/token").status == 200;
    wait_for("another refresh", answered);
    assert!(!fs::exists(entry).unwrap());
    process.signal(Signal::TERM);
    assert_eq!(process.finish().code, 0);
}
