//! Brokers, and processes that ask them: through plain sockets, so that each byte is the test's.

use super::{AuthorizationServer, Home, LIMIT, Process, Ran, is_running, onegrant, wait_for};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde_json::Value;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

/// What a process in a container knows.
#[derive(Clone)]
pub struct Client {
    /// `ONEGRANT_STORE`.
    pub store: String,
    /// `ONEGRANT_BROKER_KEY`; empty for `serve`.
    pub key: String,
}

/// A connection to a broker.
pub enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// What a broker answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The access token of a good answer.
    #[track_caller]
    pub fn token(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// The status, and the code in the body.
    #[track_caller]
    pub fn refusal(&self) -> (u16, u64) {
        (self.status, self.json()["code"].as_u64().unwrap())
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    pub fn at(store: &str) -> Self {
        Self { store: format!("broker:{store}"), key: String::new() }
    }

    /// `onegrant ARGUMENTS` as a process that the broker serves.
    pub fn command(&self, home: &Home, arguments: &[&str]) -> Command {
        let mut command = onegrant(arguments);
        command.env("ONEGRANT_STORE", &self.store).env("ONEGRANT_BROKER_KEY", &self.key);
        command.env("ONEGRANT_HOME", &home.state).env("PATH", "/usr/bin:/bin").current_dir(&home.root);
        command
    }

    /// The port of a broker on loopback.
    pub fn port(&self) -> u16 {
        self.store.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn connect(&self) -> Connection {
        match self.store.strip_prefix("broker:unix:") {
            Some(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                Connection::Unix(stream)
            }
            None => {
                let stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                Connection::Tcp(stream)
            }
        }
    }

    /// The fields that every good request has.
    pub fn fields(&self) -> String {
        let host = self.store.trim_start_matches("broker:http://").trim_start_matches("broker:");
        let authorization = match self.key.as_str() {
            "" => String::new(),
            key => format!("Authorization: Bearer {key}\r\n"),
        };
        format!("Host: {host}\r\n{authorization}")
    }

    /// The answer to these bytes.
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut connection = self.connect();
        // A broker may answer before it has read everything.
        let _ = connection.write_all(bytes.as_ref());
        connection
            .answer()
            .unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(bytes.as_ref())))
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\n{}\r\n", self.fields()))
    }

    #[track_caller]
    pub fn reject(&self, token: &str) -> Answer {
        self.send(self.rejection(token))
    }

    /// The request that refuses a token.
    pub fn rejection(&self, token: &str) -> String {
        let (fields, length) = (self.fields(), token.len());
        format!("POST /v1/rejected HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{token}")
    }
}

impl Connection {
    /// The answer; none if the connection ends without one.
    #[track_caller]
    pub fn answer(mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        // A connection that is closed before everything was read may be reset.
        let _ = self.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
        let length: usize = answer.field("content-length").unwrap().parse().unwrap();
        assert_eq!(length, answer.body.len(), "{answer:?}");
        Some(answer)
    }

    /// Whether the other side has neither answered nor closed it.
    pub fn is_open(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let received = match self {
            Self::Unix(stream) => recv(stream, &mut [0; 1][..], flags),
            Self::Tcp(stream) => recv(stream, &mut [0; 1][..], flags),
        };
        received == Err(Errno::AGAIN)
    }

    /// Says that no more is sent.
    pub fn end(&self) {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(buffer),
            Self::Tcp(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A command under `exec --serve` that runs until the file `end` is there, and its broker.
pub struct Served {
    pub process: Process,
    pub client: Client,
    /// The companion: the process of the broker.
    pub companion: u32,
}

/// The command of [`Served`]: what it prints first, and how it ends.
pub const SHELL: [&str; 3] = ["/bin/sh", "-c", SCRIPT];
const SCRIPT: &str = "echo \"$ONEGRANT_STORE $ONEGRANT_BROKER_KEY\"; while ! [ -e end ]; do sleep 0.02; done";

impl Served {
    #[track_caller]
    pub fn start(home: &Home, options: &[&str]) -> Self {
        let mut command = home.command(&["exec"]);
        command.args(options).arg("--").args(SHELL);
        Self::of(home, &mut command)
    }

    #[track_caller]
    pub fn of(home: &Home, command: &mut Command) -> Self {
        let before = companions(home);
        let process = Process::start(command.env("PATH", "/usr/bin:/bin"));
        wait_for("the command", || process.printed().ends_with('\n') || !is_running(process.pid()));
        let printed = process.printed();
        let (store, key) =
            printed.trim_end().split_once(' ').unwrap_or_else(|| panic!("{printed}{}", process.said()));
        let client = Client { store: store.to_owned(), key: key.to_owned() };
        let new = || companions(home).into_iter().find(|pid| !before.contains(pid));
        wait_for("the companion", || new().is_some());
        Self { client, companion: new().unwrap(), process }
    }

    /// Lets the command end, and waits for its companion.
    #[track_caller]
    pub fn end(self, home: &Home) -> Ran {
        fs::write(home.root.join("end"), "").unwrap();
        let ran = self.process.finish();
        wait_for("the end of the companion", || !is_running(self.companion));
        fs::remove_file(home.root.join("end")).unwrap();
        ran
    }

    /// The same, at a server that has seen so many refreshes and nothing that it did not expect.
    #[track_caller]
    pub fn end_after(self, refreshes: u64, server: &AuthorizationServer, home: &Home) {
        self.end(home);
        assert_eq!((server.counts().refreshes, server.counts().unexpected), (refreshes, 0));
    }
}

/// Starts a broker in the foreground, and waits until it says that it listens.
#[track_caller]
pub fn listening(command: &mut Command) -> Process {
    let process = Process::start(command);
    wait_for("the socket", || process.said().ends_with('\n'));
    process
}

/// `onegrant serve` at this place.
#[track_caller]
pub fn serve(home: &Home, socket: &Path) -> Process {
    listening(&mut home.command(&["serve", "--socket", socket.to_str().unwrap()]))
}

/// The companions of commands that were started from this home, once they are what they are.
pub fn companions(home: &Home) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let variable = [b"ONEGRANT_HOME=", home.state.as_os_str().as_bytes()].concat();
    let is_companion = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_leader = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            // Behind the name: state, parent, group, session. The one that starts it leads the session.
            let fields = stat
                .rsplit_once(')')
                .map(|(_, fields)| fields.split_whitespace().nth(3) == Some(&pid.to_string()));
            fields == Some(true)
        });
        let has = |bytes: &[u8], wanted: &[u8]| bytes.split(|byte| *byte == 0).any(|word| word == wanted);
        has(&line, b"--stay-beside-command") && has(&environment, &variable) && !is_leader && is_running(*pid)
    };
    pids.filter(is_companion).collect()
}
