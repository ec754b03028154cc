//! Which connections a broker has, and what happens next with each of them. Pure: the loop in [`super`] says what arrives, and
//! does the [`Action`]s.
//!
//! There is one request for each connection, and each connection has its bounds. If all seats are taken, the oldest connection
//! without a whole request loses its seat to the next one: a process that connects and says nothing holds up no other one.
//! Requests for the same thing share one piece of work.

use crate::adapters::broker::server::{
    self, Answer, Asked, Entrance, Head, Refused, Task, other_than, refused,
};
use crate::adapters::broker::shape::{Question, Shape};
use crate::session::Now;
use std::collections::VecDeque;
use std::time::Duration;
use zeroize::Zeroizing;

/// The most connections at once. More of them wait in the queue of the socket.
pub const SEATS: usize = 64;

/// How long it may take until a request is whole.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take until an answer is received.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// For how long a connection keeps its seat without a whole request, if others wait for one. A client sends its request at once,
/// but many clients share few processors.
const PATIENCE: Duration = Duration::from_millis(200);

/// How many pieces of work are done at once.
const WORK_LIMIT: usize = 4;

/// How much is read and dropped behind a request, in bytes: a connection that is closed before everything was read loses its
/// answer.
const DROPPED_LIMIT: usize = 4 << 20;

/// The room for a request, in bytes: most are not longer.
const USUAL_LENGTH: usize = 512;

/// What the loop does. The number is that of the connection's seat.
#[derive(Debug)]
pub enum Action {
    /// Look whether the store has the answer. Then call [`Desk::answer`], otherwise [`Desk::wait`].
    Look {
        /// Which connection asks.
        seat: usize,
        /// What it asks for.
        task: Task,
        /// Whether the same work is being done now. Then a token that is about to end is an answer, too.
        is_running: bool,
    },
    /// Begin this work. Then call [`Desk::done`].
    Work {
        /// The connection that asked first.
        seat: usize,
        /// What is to be done.
        task: Task,
        /// For how long it has waited.
        waited: Duration,
    },
    /// Send these bytes. Then call [`Desk::sent`].
    Send(usize, Zeroizing<Vec<u8>>),
    /// Say that nothing more is sent.
    Finish(usize),
    /// Close the connection.
    Close(usize),
}

struct Connection {
    stage: Stage,
    received: Zeroizing<Vec<u8>>,
    /// The oldest has the lowest number.
    number: u64,
    began: Duration,
    /// When it is closed. `None`: the work has its own deadline.
    until: Option<Duration>,
    /// Whether nothing of it is left to be read.
    is_read: bool,
}

enum Stage {
    /// The head of the request is not whole.
    Head,
    /// The body is not whole.
    Body { begin: usize, length: usize },
    /// The request is whole.
    Waiting(Task, Option<Question>),
    /// The answer is being sent.
    Answered,
    /// The answer was sent. So many bytes may still be dropped.
    Leaving(usize),
}

/// What a whole or a partial request comes to.
enum Request {
    Partial,
    Body { begin: usize, length: usize },
    Whole { task: Task, question: Option<Question>, length: usize },
}

/// See the module.
pub struct Desk {
    entrance: Entrance,
    shape: Option<Shape>,
    connections: Vec<Option<Connection>>,
    running: Vec<Task>,
    actions: VecDeque<Action>,
    arrived: u64,
    is_closing: bool,
}

impl Desk {
    /// A desk without connections.
    pub fn new(entrance: Entrance, shape: Option<Shape>) -> Self {
        let connections = (0..SEATS).map(|_| None).collect();
        let (running, actions) = (Vec::new(), VecDeque::new());
        Self { entrance, shape, connections, running, actions, arrived: 0, is_closing: false }
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether a connection can be accepted.
    pub fn has_room(&self, now: Now) -> bool {
        !self.is_closing && self.seat(now).is_some()
    }

    /// A seat for a new connection. It replaces the one that has the seat.
    pub fn accept(&mut self, now: Now) -> Option<usize> {
        let seat = self.seat(now)?;
        self.arrived += 1;
        let connection = Connection {
            stage: Stage::Head,
            received: Zeroizing::new(Vec::with_capacity(USUAL_LENGTH)),
            number: self.arrived,
            began: now.elapsed,
            until: Some(now.elapsed + REQUEST_LIMIT),
            is_read: false,
        };
        *self.connections.get_mut(seat)? = Some(connection);
        Some(seat)
    }

    /// A seat that is free, or that of the oldest connection that may lose it.
    fn seat(&self, now: Now) -> Option<usize> {
        let free = self.connections.iter().position(Option::is_none);
        free.or_else(|| {
            let (seat, at) = self.next_to_go()?;
            (at <= now.elapsed).then_some(seat)
        })
    }

    /// The connection that loses its seat next, and when.
    fn next_to_go(&self) -> Option<(usize, Duration)> {
        let connections = self.connections.iter().enumerate();
        let incomplete = connections.filter_map(|(seat, connection)| {
            let connection = connection.as_ref()?;
            (!matches!(connection.stage, Stage::Waiting(..) | Stage::Answered)).then_some((seat, connection))
        });
        let (seat, oldest) = incomplete.min_by_key(|(_, connection)| connection.number)?;
        Some((seat, oldest.began + PATIENCE))
    }

    /// Whether the loop should read from this connection. Otherwise it only looks whether the other side has closed it.
    pub fn reads(&self, seat: usize) -> bool {
        self.connection(seat).is_some_and(|connection| {
            matches!(connection.stage, Stage::Head | Stage::Body { .. } | Stage::Leaving(_))
        })
    }

    /// Bytes of a request. `stranger` is asked only about a request that takes no key: why the process at the other end gets no
    /// answer.
    pub fn receive(&mut self, seat: usize, bytes: &[u8], stranger: impl Fn() -> Option<String>, now: Now) {
        let Some(mut connection) = self.connections.get_mut(seat).and_then(Option::take) else { return };
        let request = match &mut connection.stage {
            Stage::Leaving(left) => {
                *left = left.saturating_sub(bytes.len());
                let is_over = *left == 0;
                self.put(seat, connection);
                return if is_over { self.close(seat) } else { () };
            }
            Stage::Head => {
                connection.received.extend_from_slice(bytes);
                self.read_head(&connection.received, stranger)
            }
            &mut Stage::Body { begin, length } => {
                connection.received.extend_from_slice(bytes);
                Ok(Request::Body { begin, length })
            }
            Stage::Waiting(..) | Stage::Answered => Ok(Request::Partial),
        };
        let request = match request {
            Ok(Request::Body { begin, length }) => self.read_body(&connection.received, begin, length),
            request => request,
        };
        match request {
            Ok(Request::Whole { task, question, length }) => {
                connection.is_read = connection.received.len() == length;
                connection.received = Zeroizing::default();
                connection.until = None;
                let is_running = self.running.contains(&task);
                self.actions.push_back(Action::Look { seat, task: task.clone(), is_running });
                connection.stage = Stage::Waiting(task, question);
                self.put(seat, connection);
            }
            Ok(Request::Body { begin, length }) => {
                connection.stage = Stage::Body { begin, length };
                self.put(seat, connection);
            }
            Ok(Request::Partial) => self.put(seat, connection),
            Err(response) => {
                self.put(seat, connection);
                self.send(seat, response, now);
            }
        }
    }

    fn read_head(
        &self,
        bytes: &[u8],
        stranger: impl Fn() -> Option<String>,
    ) -> Result<Request, Zeroizing<Vec<u8>>> {
        let refuse = |refused: Refused| refused.reply(&self.entrance);
        let mut room = server::room();
        let Some((head, length)) = Head::read(bytes, &mut room).map_err(refuse)? else {
            return Ok(Request::Partial);
        };
        head.check_origin(&self.entrance).map_err(refuse)?;
        let shaped = self.shape.and_then(|shape| Some((shape, shape.ask(&head)?)));
        if let Some(why) = (shaped.is_some() || self.entrance.key.is_none()).then(stranger).flatten() {
            return Err(refuse(refused(403, &why)));
        }
        if let Some((shape, question)) = shaped {
            let question = question?;
            let task = Task::Shaped(shape, question.needs());
            return Ok(Request::Whole { task, question: Some(question), length });
        }
        head.check_key(&self.entrance).map_err(refuse)?;
        Ok(match head.asked().map_err(refuse)? {
            Asked::Whole(ask) => Request::Whole { task: Task::Own(ask), question: None, length },
            Asked::OtherThan(body) => Request::Body { begin: length, length: body },
        })
    }

    fn read_body(&self, bytes: &[u8], begin: usize, length: usize) -> Result<Request, Zeroizing<Vec<u8>>> {
        let end = begin.saturating_add(length);
        match bytes.get(begin..end) {
            None => Ok(Request::Body { begin, length }),
            Some(body) => match other_than(body) {
                Ok(ask) => Ok(Request::Whole { task: Task::Own(ask), question: None, length: end }),
                Err(refused) => Err(refused.reply(&self.entrance)),
            },
        }
    }

    /// The other side sends no more.
    pub fn end(&mut self, seat: usize) {
        if self.reads(seat) {
            self.close(seat);
        }
    }

    /// The connection is closed or broken, or its time is over.
    pub fn close(&mut self, seat: usize) {
        if self.connections.get_mut(seat).and_then(Option::take).is_some() {
            self.actions.push_back(Action::Close(seat));
        }
    }

    /// The answer for one connection.
    pub fn answer(&mut self, seat: usize, answer: &Answer, now: Now) {
        let response = self.connection(seat).and_then(|connection| match &connection.stage {
            Stage::Waiting(_, question) => Some(answer.reply(question.as_ref(), &self.entrance, now.wall)),
            _ => None,
        });
        if let Some(response) = response {
            self.send(seat, response, now);
        }
    }

    /// There is work to be done for this connection.
    pub fn wait(&mut self, now: Now) {
        while self.running.len() < WORK_LIMIT && !self.is_closing {
            let waiting = self.connections.iter().enumerate().filter_map(|(seat, connection)| {
                let connection = connection.as_ref()?;
                match &connection.stage {
                    Stage::Waiting(task, _) if !self.running.contains(task) => Some((seat, connection, task)),
                    _ => None,
                }
            });
            let Some((seat, connection, task)) = waiting.min_by_key(|(_, connection, _)| connection.number)
            else {
                return;
            };
            let (task, waited) = (task.clone(), now.elapsed.saturating_sub(connection.began));
            self.running.push(task.clone());
            self.actions.push_back(Action::Work { seat, task, waited });
        }
    }

    /// What came of a piece of work: the answer for all connections that wait for it.
    pub fn done(&mut self, task: &Task, answer: &Answer, now: Now) {
        self.running.retain(|running| running != task);
        for seat in 0..SEATS {
            let is_for = |connection: &Connection| matches!(&connection.stage, Stage::Waiting(other, _) if other == task);
            if self.connection(seat).is_some_and(is_for) {
                self.answer(seat, answer, now);
            }
        }
        self.wait(now);
    }

    /// All bytes were sent.
    pub fn sent(&mut self, seat: usize) {
        let Some(connection) = self.connections.get_mut(seat).and_then(Option::as_mut) else { return };
        if connection.is_read {
            return self.close(seat);
        }
        connection.stage = Stage::Leaving(DROPPED_LIMIT);
        self.actions.push_back(Action::Finish(seat));
    }

    /// Closes the connections whose time is over.
    pub fn tick(&mut self, now: Now) {
        for seat in 0..SEATS {
            let until = self.connection(seat).and_then(|connection| connection.until);
            if until.is_some_and(|until| until <= now.elapsed) {
                self.close(seat);
            }
        }
    }

    /// When [`Self::tick`] or [`Self::has_room`] has something to say next. `None`: not before something arrives.
    pub fn deadline(&self, now: Now) -> Option<Duration> {
        let ends = self.connections.iter().flatten().filter_map(|connection| connection.until);
        let is_full = self.connections.iter().all(Option::is_some);
        let next =
            is_full.then(|| self.next_to_go()).flatten().map(|(_, at)| at).filter(|at| *at > now.elapsed);
        ends.chain(next).min()
    }

    /// No work begins any more. Gives whether some is still being done.
    pub fn close_down(&mut self) -> bool {
        self.is_closing = true;
        !self.running.is_empty()
    }

    fn send(&mut self, seat: usize, response: Zeroizing<Vec<u8>>, now: Now) {
        if let Some(connection) = self.connections.get_mut(seat).and_then(Option::as_mut) {
            connection.stage = Stage::Answered;
            connection.until = Some(now.elapsed + ANSWER_LIMIT);
            self.actions.push_back(Action::Send(seat, response));
        }
    }

    fn connection(&self, seat: usize) -> Option<&Connection> {
        self.connections.get(seat)?.as_ref()
    }

    fn put(&mut self, seat: usize, connection: Connection) {
        if let Some(place) = self.connections.get_mut(seat) {
            *place = Some(connection);
        }
    }
}
