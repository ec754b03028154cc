//! A broker: gives the tokens of one profile to processes that must not have its refresh token. See "Brokers" in
//! `docs/design.md`.
//!
//! One loop waits for everything: connections, the end of the command, signals, the answers of its threads. What it does with a
//! connection, the [`desk`] decides. A token that is fresh in a file of this machine is answered by the loop itself; a thread does
//! all other work, as a command would do it ([`answer`]).

mod answer;
mod desk;
pub mod listener;
mod peer;

use crate::adapters::broker::Ask;
use crate::adapters::broker::server::{Answer, Entrance, Task};
use crate::adapters::broker::shape::Shape;
use crate::error::{Failure, Kind};
use crate::globals::Globals;
use crate::grant::TokenKind;
use crate::output::{has_room, say};
use crate::session::Now;
use crate::system::{GLANCE, SystemClock, Watched};
use crate::text::{describe, printable};
use desk::{Action, Desk, SEATS};
use listener::{Listener, Place};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketFlags, accept_with, send, shutdown};
use std::io::{self, stderr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope, scope};
use std::time::Duration;
use zeroize::Zeroizing;

/// How much is read at once, in bytes.
const READ_LENGTH: usize = 4096;

/// The pause after a connection could not be accepted: the process is out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// The stack of a thread that gets a token, in bytes: enough for an exchange with the server, should no worker start.
const WORK_STACK: usize = 1 << 20;

/// What a broker serves, and to which processes.
pub struct Service<'a> {
    /// What a process has to show.
    pub entrance: Entrance,
    /// The other server that the broker looks like.
    pub shape: Option<Shape>,
    /// The grant, and the deadline of each request.
    pub globals: &'a Globals,
    /// The command that is served. `None`: until a signal comes.
    pub command: Option<&'a Watched>,
}

/// A connection and what is still to be sent.
struct Connection {
    socket: OwnedFd,
    unsent: Zeroizing<Vec<u8>>,
    sent: usize,
}

/// What the loop and its threads share.
struct Shared<'a> {
    globals: &'a Globals,
    /// The answers of the threads.
    done: Mutex<Vec<(Task, Answer)>>,
    /// Becomes readable when there is one.
    bell: OwnedFd,
}

struct Loop<'s, 'a> {
    service: &'s Service<'a>,
    shared: &'s Shared<'a>,
    clock: SystemClock,
    desk: Desk,
    connections: Vec<Option<Connection>>,
    is_tcp: bool,
    is_near: bool,
}

/// What is ready.
struct Ready {
    has_ended: bool,
    is_called: bool,
    is_asked: bool,
    connections: Vec<(usize, PollFlags)>,
}

impl Service<'_> {
    /// Serves until the command has ended, or until `signals` ([`crate::system::end_signals`]) is readable. Then the socket is gone at once, and what is being done is finished
    /// within its deadline.
    pub fn run(&self, listener: Listener, signals: &impl AsFd) -> io::Result<()> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared { globals: self.globals, done: Mutex::default(), bell };
        let mut serving = Loop {
            service: self,
            shared: &shared,
            clock: SystemClock::start(),
            desk: Desk::new(self.entrance.clone(), self.shape),
            connections: (0..SEATS).map(|_| None).collect(),
            is_tcp: matches!(listener.place, Place::Loopback(_)),
            is_near: answer::is_near(self.globals),
        };
        scope(|scope| serving.go(listener, signals, scope))
    }
}

impl<'s> Loop<'s, '_> {
    fn go<'scope>(
        &mut self,
        listener: Listener,
        signals: &impl AsFd,
        scope: &'scope Scope<'scope, '_>,
    ) -> io::Result<()>
    where
        's: 'scope,
    {
        let (mut listener, mut rests_until) = (Some(listener), Duration::ZERO);
        loop {
            let now = self.clock.now();
            self.desk.tick(now);
            self.act(scope);
            if listener.is_none() && !self.desk.close_down() {
                return Ok(());
            }
            let rest = rests_until.checked_sub(now.elapsed).filter(|rest| !rest.is_zero());
            let is_open = rest.is_none() && self.desk.has_room(now);
            // The end stays readable: it is not waited for a second time.
            let ends = listener.is_some().then(|| signals.as_fd());
            let ready = self.wait(listener.as_ref().filter(|_| is_open), ends, rest, now)?;
            if ready.has_ended && listener.take().is_some() {
                self.desk.close_down();
            }
            if ready.is_called {
                self.take_answers(scope);
            }
            for (seat, events) in ready.connections {
                self.advance(seat, events);
                self.act(scope);
            }
            if let Some(listener) = listener.as_ref().filter(|_| ready.is_asked)
                && self.accept(listener, scope).is_err()
            {
                rests_until = now.elapsed + EXHAUSTED_PAUSE;
            }
        }
    }

    /// `signals` is `None` after the end: then only connections and answers are waited for.
    fn wait(
        &self,
        listener: Option<&Listener>,
        signals: Option<BorrowedFd>,
        rest: Option<Duration>,
        now: Now,
    ) -> io::Result<Ready> {
        let command = self.service.command.filter(|_| signals.is_some());
        let end = command.and_then(Watched::end);
        let watched = [Some(self.shared.bell.as_fd()), signals, end];
        let first = watched.into_iter().chain([listener.map(|listener| listener.socket.as_fd())]);
        // Nothing is ready on the bell of a place that is not watched: it stands for it with no flags.
        let mut polled: Vec<PollFd> = first
            .map(|file| match file {
                Some(file) => PollFd::from_borrowed_fd(file, PollFlags::IN),
                None => PollFd::new(&self.shared.bell, PollFlags::empty()),
            })
            .collect();
        let fixed = polled.len();
        let mut seats = Vec::new();
        for (seat, connection) in self.connections.iter().enumerate() {
            let Some(connection) = connection else { continue };
            let flags = match (self.desk.reads(seat), connection.unsent.is_empty()) {
                (true, _) => PollFlags::IN,
                (false, false) => PollFlags::OUT,
                (false, true) => PollFlags::empty(),
            };
            polled.push(PollFd::new(&connection.socket, flags));
            seats.push(seat);
        }
        let until = self.desk.deadline(now).map(|until| until.saturating_sub(now.elapsed));
        let glance = command.filter(|_| end.is_none()).map(|_| GLANCE);
        let limit = until.into_iter().chain(rest).chain(glance).min();
        // A millisecond more, because the limit is checked with a clock that is read afterwards.
        let limit = limit.and_then(|limit| Timespec::try_from(limit + Duration::from_millis(1)).ok());
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut events = polled.iter().map(PollFd::revents);
        let mut is_ready = || events.next().is_some_and(|events| !events.is_empty());
        let [is_called, is_signalled, is_over, is_asked] = [(); 4].map(|()| is_ready());
        let is_gone = || command.is_some_and(|command| !command.runs_for(Duration::ZERO));
        let has_ended = is_signalled || is_over || (glance.is_some() && is_gone());
        let connections = seats.into_iter().zip(polled.iter().skip(fixed).map(PollFd::revents));
        let connections = connections.filter(|(_, events)| !events.is_empty()).collect();
        Ok(Ready { has_ended, is_called, is_asked, connections })
    }

    /// Accepts what waits. Fails if the system has no resources for it.
    fn accept<'scope>(
        &mut self,
        listener: &Listener,
        scope: &'scope Scope<'scope, '_>,
    ) -> rustix::io::Result<()>
    where
        's: 'scope,
    {
        for _ in 0..SEATS {
            let now = self.clock.now();
            if !self.desk.has_room(now) {
                return Ok(());
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match accept_with(&listener.socket, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                // The client left before its connection was accepted.
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let seat = self.desk.accept(now);
            if let Some((seat, place)) = seat.and_then(|seat| Some((seat, self.connections.get_mut(seat)?))) {
                *place = Some(Connection { socket, unsent: Zeroizing::default(), sent: 0 });
                // A client sends its request at once.
                self.advance(seat, PollFlags::IN);
                self.act(scope);
            }
        }
        Ok(())
    }

    /// Something happened at a connection.
    fn advance(&mut self, seat: usize, events: PollFlags) {
        if !self.desk.reads(seat) {
            return match events.contains(PollFlags::OUT) && !events.contains(PollFlags::ERR) {
                true => self.send(seat),
                false => self.desk.close(seat),
            };
        }
        let Some(connection) = self.connections.get(seat).and_then(Option::as_ref) else { return };
        let mut buffer = Zeroizing::new([0; READ_LENGTH]);
        match rustix::io::read(&connection.socket, &mut buffer[..]) {
            Ok(0) => self.desk.end(seat),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                let is_stranger = || peer::is_stranger(&connection.socket, self.is_tcp);
                self.desk.receive(seat, bytes, &is_stranger, self.clock.now());
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.desk.close(seat),
        }
    }

    /// Does what the desk says.
    fn act<'scope>(&mut self, scope: &'scope Scope<'scope, '_>)
    where
        's: 'scope,
    {
        while let Some(action) = self.desk.next_action() {
            match action {
                Action::Look { seat, task, is_running } => {
                    self.log(seat, &task);
                    let near = self.is_near.then_some(self.service.globals);
                    match near.and_then(|globals| answer::at_once(&task, globals, is_running)) {
                        Some(answer) => self.desk.answer(seat, &answer, self.clock.now()),
                        None => self.desk.wait(self.clock.now()),
                    }
                }
                Action::Work { seat, task, waited } => self.work(seat, task, waited, scope),
                Action::Send(seat, bytes) => {
                    if let Some(connection) = self.connections.get_mut(seat).and_then(Option::as_mut) {
                        (connection.unsent, connection.sent) = (bytes, 0);
                    }
                    self.send(seat);
                }
                Action::Finish(seat) => {
                    if let Some(connection) = self.connections.get(seat).and_then(Option::as_ref) {
                        let _ = shutdown(&connection.socket, Shutdown::Write);
                    }
                }
                Action::Close(seat) => {
                    if let Some(place) = self.connections.get_mut(seat) {
                        *place = None;
                    }
                }
            }
        }
    }

    /// Sends as much as the socket takes.
    fn send(&mut self, seat: usize) {
        let Some(connection) = self.connections.get_mut(seat).and_then(Option::as_mut) else { return };
        let rest = connection.unsent.get(connection.sent..).unwrap_or_default();
        match send(&connection.socket, rest, SendFlags::NOSIGNAL) {
            Ok(length) => connection.sent = connection.sent.saturating_add(length),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return self.desk.close(seat),
        }
        if connection.sent >= connection.unsent.len() {
            connection.unsent = Zeroizing::default();
            self.desk.sent(seat);
        }
    }

    /// Begins a piece of work in a thread.
    fn work<'scope>(&mut self, seat: usize, task: Task, waited: Duration, scope: &'scope Scope<'scope, '_>)
    where
        's: 'scope,
    {
        let connection = self.connections.get(seat).and_then(Option::as_ref);
        let asker = connection.map(|connection| peer::asker(&connection.socket, self.is_tcp));
        let (shared, clock, of_thread) = (self.shared, SystemClock::begun(waited), task.clone());
        let begun = Builder::new().stack_size(WORK_STACK).spawn_scoped(scope, move || {
            let answer = answer::of(&of_thread, shared.globals, asker, clock);
            shared.done.lock().unwrap_or_else(PoisonError::into_inner).push((of_thread, answer));
            let _ = rustix::io::write(&shared.bell, &1_u64.to_ne_bytes());
        });
        if let Err(error) = begun {
            let why = format!("cannot begin to get a token: {}", describe(&error));
            let failed = Answer::Failed(Failure::new(Kind::Temporary, why).hint("try again"));
            self.desk.done(&task, &failed, self.clock.now());
        }
    }

    fn take_answers<'scope>(&mut self, scope: &'scope Scope<'scope, '_>)
    where
        's: 'scope,
    {
        let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        let done = std::mem::take(&mut *self.shared.done.lock().unwrap_or_else(PoisonError::into_inner));
        for (task, answer) in done {
            self.desk.done(&task, &answer, self.clock.now());
            self.act(scope);
        }
    }

    /// With `-v`: who asks for what. A line for which stderr has no room is left out: no request waits for a reader of it.
    fn log(&self, seat: usize, task: &Task) {
        let connection = self.connections.get(seat).and_then(Option::as_ref);
        if let Some(connection) =
            connection.filter(|_| self.service.globals.verbosity > 0 && has_room(&stderr()))
        {
            let asker = peer::asker(&connection.socket, self.is_tcp);
            say(&format!("onegrant: {} asks for {}\n", printable(&asker.words()), words(task)));
        }
    }
}

fn words(task: &Task) -> &'static str {
    match task {
        Task::Own(Ask::Token { kind, .. }) | Task::Shaped(_, Some(kind)) => match kind {
            TokenKind::AccessToken => "an access token",
            TokenKind::IdToken => "an ID token",
        },
        Task::Own(Ask::Rejected(_)) => "another access token than a refused one",
        Task::Own(Ask::Profile) | Task::Shaped(_, None) => "the profile",
    }
}
