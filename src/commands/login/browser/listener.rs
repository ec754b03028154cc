//! The loopback listener (RFC 8252 section 7.3): one path, one answer. No client can delay it.

use super::page::{Page, answer, status_alone};
use super::terminal::Terminal;
use crate::error::{Failure, Kind};
use crate::grant::Secret;
use crate::protocol::authorization::{Authorization, AuthorizationResponse};
use crate::protocol::loopback::{HEAD_LIMIT, Host, Received, RedirectUri, read};
use crate::text::describe;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long one connection may take, from its beginning to its end.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// The most connections at once. A further one replaces the oldest, because it may be the browser.
const CONNECTIONS: usize = 64;

/// The most bytes that are read from one connection: a head, and a body that is ignored.
const CONNECTION_BYTES: usize = 2 * HEAD_LIMIT;

/// How often another port is tried until one is free in both address families.
const PORT_TRIES: u32 = 16;

/// The pause after a connection could not be accepted: the process is out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Listens for one answer.
pub struct Listener {
    sockets: Vec<TcpListener>,
    path: String,
    /// The oldest first.
    connections: Vec<Connection>,
}

/// What happened next.
pub enum ListenerEvent {
    /// The answer of the server: its code, or why there will be none.
    Answered(Result<Secret, Failure>),
    /// Something was typed at the terminal.
    Typed,
    /// Nothing for the login.
    Nothing,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    bytes: usize,
    began: Instant,
    is_answered: bool,
}

impl Listener {
    /// Listens where the redirect URI points to. Gives the port, too.
    pub fn bind(uri: &RedirectUri, port: Option<u16>) -> Result<(Self, u16), Failure> {
        let wanted = uri.port.or(port);
        let failed = |error: &io::Error| {
            let port = wanted.map_or("a free port".to_owned(), |port| format!("port {port}"));
            let failure = Failure::new(
                Kind::Usage,
                format!("cannot listen on {port} for the browser: {}", describe(error)),
            );
            failure.hint("onegrant login --redirect-port N   # one that the server knows; or --device")
        };
        let tries = if wanted.is_some() { 1 } else { PORT_TRIES };
        let mut bound = Err(io::Error::from(ErrorKind::AddrInUse));
        for _ in 0..tries {
            bound = sockets(uri.host, wanted.unwrap_or(0));
            if !bound.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse) {
                break;
            }
        }
        let (sockets, port) = bound.map_err(|error| failed(&error))?;
        Ok((Self { sockets, path: uri.path.clone(), connections: Vec::new() }, port))
    }

    /// Waits for the next event, no longer than `limit`.
    pub fn next(
        &mut self,
        terminal: Option<&Terminal>,
        authorization: &Authorization,
        limit: Duration,
    ) -> ListenerEvent {
        let now = Instant::now();
        self.connections.retain(|connection| connection.left(now).is_some());
        let first_end = self.connections.iter().filter_map(|connection| connection.left(now)).min();
        let ready = self.wait(terminal, first_end.map_or(limit, |end| end.min(limit)));

        // From the newest to the oldest: a removal does not change the numbers of the older ones.
        for number in ready.connections.into_iter().rev() {
            let Some(connection) = self.connections.get_mut(number) else { continue };
            let (answer, is_over) = connection.advance(&self.path, authorization);
            if is_over {
                self.connections.remove(number);
            }
            if let Some(answer) = answer {
                return ListenerEvent::Answered(answer);
            }
        }
        for number in ready.sockets {
            if let Some(Err(_)) = self.sockets.get(number).map(|socket| accept(socket, &mut self.connections))
            {
                std::thread::sleep(EXHAUSTED_PAUSE);
            }
        }
        if ready.is_typed { ListenerEvent::Typed } else { ListenerEvent::Nothing }
    }

    fn wait(&self, terminal: Option<&Terminal>, limit: Duration) -> Ready {
        let stdin = terminal.map(Terminal::descriptor);
        let sockets = self.sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN));
        let streams =
            self.connections.iter().map(|connection| PollFd::new(&connection.stream, PollFlags::IN));
        let typed = stdin.iter().map(|stdin| PollFd::new(stdin, PollFlags::IN));
        let mut polled: Vec<PollFd> = sockets.chain(streams).chain(typed).collect();
        // A millisecond more, because the limit is checked with a clock that is read afterwards.
        let limit = Timespec::try_from(limit.saturating_add(Duration::from_millis(1))).ok();
        // Interrupted, or out of memory: the next call reports the same events.
        if poll(&mut polled, limit.as_ref()).is_err() {
            return Ready::default();
        }
        let mut is_ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let mut numbers = |count: usize| -> Vec<usize> {
            is_ready
                .by_ref()
                .take(count)
                .enumerate()
                .filter_map(|(number, is_ready)| is_ready.then_some(number))
                .collect()
        };
        Ready {
            sockets: numbers(self.sockets.len()),
            connections: numbers(self.connections.len()),
            is_typed: is_ready.next() == Some(true),
        }
    }
}

/// Which of them have data.
#[derive(Default)]
struct Ready {
    sockets: Vec<usize>,
    connections: Vec<usize>,
    is_typed: bool,
}

/// A socket for each address of the host, all on one port.
fn sockets(host: Host, port: u16) -> io::Result<(Vec<TcpListener>, u16)> {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let first = listen(if host == Host::V6 { v6 } else { v4 }, port)?;
    let port = first.local_addr()?.port();
    let mut sockets = vec![first];
    if host == Host::Localhost {
        match listen(v6, port) {
            Ok(socket) => sockets.push(socket),
            // The browser could connect to the other program that listens there.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            // This machine has no IPv6.
            Err(_) => {}
        }
    }
    Ok((sockets, port))
}

fn listen(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(SocketAddr::new(address, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Accepts every connection that waits. Fails if the system has no resources for it.
fn accept(socket: &TcpListener, connections: &mut Vec<Connection>) -> io::Result<()> {
    for _ in 0..CONNECTIONS {
        match socket.accept() {
            Ok((stream, _)) => {
                if stream.set_nonblocking(true).is_err() {
                    continue;
                }
                if connections.len() >= CONNECTIONS {
                    connections.remove(0);
                }
                connections.push(Connection::new(stream));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The client left before its connection was accepted.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, received: Vec::new(), bytes: 0, began: Instant::now(), is_answered: false }
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        let left = CONNECTION_LIMIT.checked_sub(now.saturating_duration_since(self.began));
        left.filter(|left| !left.is_zero())
    }

    /// Reads the data that is there and answers a complete request. Gives whether the connection is over, too.
    fn advance(
        &mut self,
        path: &str,
        authorization: &Authorization,
    ) -> (Option<Result<Secret, Failure>>, bool) {
        let mut buffer = [0; 4096];
        let mut is_over = false;
        while !is_over {
            match self.stream.read(&mut buffer) {
                Ok(0) => is_over = true,
                Ok(length) => {
                    self.bytes = self.bytes.saturating_add(length);
                    is_over = self.bytes > CONNECTION_BYTES;
                    if !self.is_answered {
                        self.received.extend(buffer.iter().take(length));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => is_over = true,
            }
        }
        if self.is_answered {
            return (None, is_over);
        }
        let (outcome, bytes) = match read(&self.received) {
            Received::Partial => return (None, is_over),
            Received::Get { path: asked_for, query } if asked_for == path => {
                match authorization.read(query) {
                    AuthorizationResponse::Granted(code) => (Some(Ok(code)), answer(200, Page::Granted)),
                    AuthorizationResponse::Refused(failure) => {
                        (Some(Err(failure)), answer(200, Page::Refused))
                    }
                    AuthorizationResponse::Foreign(_) => (None, answer(400, Page::Foreign)),
                }
            }
            Received::Get { .. } => (None, status_alone(404)),
            Received::Refused(status) => (None, status_alone(status)),
        };
        // The answer fits into the empty buffer of the socket. A client that has left needs none.
        let is_written = self.stream.write_all(&bytes).and_then(|()| self.stream.shutdown(Shutdown::Write));
        self.is_answered = true;
        self.received.clear();
        (outcome, is_over || is_written.is_err())
    }
}
