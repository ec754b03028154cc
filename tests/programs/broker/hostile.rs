//! Processes and people that a broker must not serve, and clients that do not behave.

use super::*;
use rustix::process::Uid;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Another user.
const OTHER_USER: u32 = 65_534;

/// Does something in a thread of another user. `None`, and a loud word, if this process may not.
fn as_another_user<T: Send>(act: impl FnOnce() -> T + Send) -> Option<T> {
    if !is_root() {
        eprintln!("NOT TESTED: only root can be another user");
        return None;
    }
    let user = Uid::from_raw(OTHER_USER);
    let other = move || {
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        act()
    };
    Some(thread::scope(|scope| scope.spawn(other).join().unwrap()))
}

/// A directory that every user can enter. It removes itself.
struct Public(PathBuf);

impl Public {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("onegrant-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn another_user_cannot_connect_to_the_socket_and_gets_no_answer_if_it_is_opened_to_all() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let public = Public::new("serve");
    let socket = public.0.join("sock");
    let (process, client) = (serve(&home, &socket), Client::at(&format!("unix:{}", socket.display())));
    let refused = as_another_user(|| UnixStream::connect(&socket).unwrap_err().kind());
    assert!(refused.is_none_or(|kind| kind == ErrorKind::PermissionDenied), "{refused:?}");
    fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
    for request in [
        "GET /v1/token HTTP/1.1\r\n\r\n",
        "GET /v1/profile HTTP/1.1\r\n\r\n",
        "POST /v1/rejected HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
    ] {
        if let Some(answer) = as_another_user(|| client.send(request)) {
            assert_eq!(answer.refusal(), (403, 2), "{answer:?}");
            assert!(answer.body.contains("another user asks"), "{answer:?}");
        }
    }
    assert_eq!(client.get("/v1/token").token(), issued.access_token);
    drop(process);
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn another_user_gets_nothing_from_the_paths_that_take_no_key() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &["--serve", "tcp", "--as", "gce"]);
    let client = &served.client;
    let host = format!("Host: 127.0.0.1:{}\r\nMetadata-Flavor: Google\r\n", client.port());
    for path in ["/", "/computeMetadata/v1/instance/service-accounts/default/token"] {
        let request = format!("GET {path} HTTP/1.1\r\n{host}\r\n");
        assert_eq!(client.send(&request).status, 200);
        if let Some(answer) = as_another_user(|| client.send(&request)) {
            assert_eq!(answer.refusal(), (403, 2), "{answer:?}");
            assert!(!answer.body.contains(&issued.access_token));
        }
    }
    // With the key it is one of the containers that the command has started.
    if let Some(answer) = as_another_user(|| client.get("/v1/token")) {
        assert_eq!(answer.token(), issued.access_token);
    }
    served.end(&home);
}

#[test]
fn a_hundred_connections_that_say_nothing_hold_up_no_other() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    for options in [UNIX, TCP] {
        let served = Served::start(&home, &options);
        let client = &served.client;
        let silent: Vec<Connection> = (0..100).map(|_| client.connect()).collect();
        assert_eq!(client.get("/v1/token").token(), issued.access_token);
        // Of 64 seats the oldest are given up, one for each that needs it. No request waited until their time was over.
        assert!(silent[40..].iter().all(Connection::is_open), "they were waited for");
        let partial: Vec<Connection> = (0..100)
            .map(|_| {
                let mut connection = client.connect();
                // Its seat may be another's by now.
                let _ =
                    connection.write_all(format!("GET /v1/token HTTP/1.1\r\n{}", client.fields()).as_bytes());
                connection
            })
            .collect();
        assert_eq!(client.get("/v1/token").token(), issued.access_token);
        drop((silent, partial));
        assert_eq!(client.get("/v1/token").token(), issued.access_token);
        served.end(&home);
    }
    assert_eq!(server.counts(), Default::default());
}

/// Many at once: no honest client loses its seat.
#[test]
fn two_hundred_clients_at_once_are_all_answered() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    for options in [UNIX, TCP] {
        let served = Served::start(&home, &options);
        thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| assert_eq!(served.client.get("/v1/token").token(), issued.access_token));
            }
        });
        served.end(&home);
    }
    assert_eq!(server.counts(), Default::default());
}

/// It comes in pieces and never becomes whole.
#[test]
fn a_request_that_drips_is_closed_after_its_time_and_holds_up_no_other() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    let (mut connection, began) = (served.client.connect(), Instant::now());
    let Connection::Unix(stream) = &connection else { panic!() };
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut bytes = b"GET /v1/token HTTP/1.1\r\nx: ".to_vec();
    bytes.resize(8000, b'x');
    let mut pieces = bytes.iter();
    loop {
        // Where the other side has closed, neither works.
        if pieces.next().is_some_and(|byte| connection.write_all(&[*byte]).is_err()) {
            break;
        }
        assert_eq!(served.client.get("/v1/token").token(), issued.access_token);
        match connection.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            ended => {
                assert!(!matches!(ended, Ok(1..)), "there is no answer");
                break;
            }
        }
        assert!(began.elapsed() < LIMIT);
    }
    assert!(began.elapsed() > Duration::from_secs(9));
    served.end(&home);
}

#[test]
fn a_client_that_leaves_at_any_point_changes_nothing() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    for options in [UNIX, TCP] {
        let served = Served::start(&home, &options);
        let client = &served.client;
        let request = client.rejection("not the token of this grant");
        for length in (0..request.len()).step_by(7) {
            let mut connection = client.connect();
            connection.write_all(&request.as_bytes()[..length]).unwrap();
            if length % 2 == 0 {
                connection.end();
                assert!(connection.answer().is_none(), "{length}");
            }
        }
        // After a whole request, without waiting for the answer.
        for _ in 0..100 {
            client.connect().write_all(request.as_bytes()).unwrap();
        }
        assert_eq!(client.get("/v1/token").token(), issued.access_token);
        served.end(&home);
    }
    assert_eq!(server.counts(), Default::default());
}

/// What many short requests may need beside what an idle broker needs, in KiB: the buffers of all seats, and some threads.
const SHORT_KIB: u64 = 2048;

/// The same for the longest requests: 64 seats with 128 KiB, which are copied once.
const LONG_KIB: u64 = 24 << 10;

/// With many clients at once. `cargo bench` has the whole of it.
#[test]
fn a_broker_needs_little_memory() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    let peak = || {
        let status = fs::read_to_string(format!("/proc/{}/status", served.companion)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap()
    };
    let at_once = |ask: &(dyn Fn() -> String + Sync)| {
        thread::scope(|scope| (0..200).for_each(|_| drop(scope.spawn(ask))));
    };
    // One of each kind, so that all code is in memory.
    served.client.get("/v1/token").token();
    served.client.reject(&issued.access_token).token();
    let idle = peak();
    home.write(&document(&server, &home.tokens(), EXPIRED));
    at_once(&|| served.client.get("/v1/token").token());
    assert!(peak() < idle + SHORT_KIB, "{idle} KiB, then {} KiB", peak());
    at_once(&|| served.client.reject(&"x".repeat(128 << 10)).token());
    assert!(peak() < idle + LONG_KIB, "{idle} KiB, then {} KiB", peak());
    served.end_after(2, &server, &home);
}

/// A system that gives the broker few descriptors.
#[test]
fn connections_that_say_nothing_take_no_descriptor_from_others() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 24; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_onegrant")]);
    command.args(["exec", "--serve", "unix:sock", "--"]).args(SHELL);
    command.env_clear().env("ONEGRANT_HOME", &home.state).current_dir(&home.root);
    let served = Served::of(&home, &mut command);
    let silent: Vec<Connection> = (0..50).map(|_| served.client.connect()).collect();
    assert_eq!(served.client.get("/v1/token").token(), issued.access_token);
    assert!(silent[48..].iter().all(Connection::is_open), "the oldest go first");
    drop(silent);
    served.end(&home);
}
