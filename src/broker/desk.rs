//! Which connections a broker has, and what happens next with each of them. Pure: the loop in [`super`] says what arrives, and
//! does the [`Action`]s.
//!
//! There is one request for each connection, and each connection has its bounds. If all seats are taken, the oldest connection
//! without a whole request loses its seat to the next one: a process that connects and says nothing holds up no other one.
//! Requests for the same thing share one piece of work.

use crate::adapters::broker::server::{self, Answer, Asked, Entrance, Head, Refused, Task, other_than};
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

/// For how long a connection keeps its seat without a whole request, if others wait for one. A client sends its request at
/// once, but many clients share few processors.
const PATIENCE: Duration = Duration::from_millis(200);

/// How many pieces of work are done at once that need a token, and may have to wait for the server. The others are read from the
/// store, and there are few different ones: they are done beside these.
const WORK_LIMIT: usize = 4;

/// How much is read and dropped behind a request, in bytes: a connection that is closed before everything was read loses its
/// answer.
const DROPPED_LIMIT: usize = 4 << 20;

/// The room for a request, in bytes: most are not longer.
const USUAL_LENGTH: usize = 512;

/// What the loop does. The number is that of the connection's seat.
#[derive(Debug)]
pub enum Action {
    /// Look whether the store has the answer. Then call [`Desk::answer`], otherwise [`Desk::begin_work`].
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
    /// A desk with so many seats, and without connections.
    pub fn new(entrance: Entrance, shape: Option<Shape>, seats: usize) -> Self {
        let connections = (0..seats).map(|_| None).collect();
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
        free.or_else(|| self.next_to_go().filter(|(_, at)| *at <= now.elapsed).map(|(seat, _)| seat))
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

    /// Bytes of a request. `is_stranger` says whether the process at the other end is another user's. It is asked only about
    /// a request that takes no key.
    pub fn receive(&mut self, seat: usize, bytes: &[u8], is_stranger: &dyn Fn() -> bool, now: Now) {
        let Some(mut connection) = self.connections.get_mut(seat).and_then(Option::take) else { return };
        let request = match &mut connection.stage {
            Stage::Leaving(left) => {
                *left = left.saturating_sub(bytes.len());
                let is_over = *left == 0;
                self.put(seat, connection);
                if is_over {
                    self.close(seat);
                }
                return;
            }
            Stage::Head => {
                connection.received.extend_from_slice(bytes);
                self.read_head(&connection.received, is_stranger)
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

    fn read_head(&self, bytes: &[u8], is_stranger: &dyn Fn() -> bool) -> Result<Request, Zeroizing<Vec<u8>>> {
        let refuse = |refused: Refused| refused.reply(&self.entrance);
        let mut room = server::room();
        let Some((head, length)) = Head::read(bytes, &mut room).map_err(refuse)? else {
            return Ok(Request::Partial);
        };
        head.check_origin(&self.entrance).map_err(refuse)?;
        let shaped = self.shape.and_then(|shape| Some((shape, shape.ask(&head)?)));
        if (shaped.is_some() || self.entrance.key.is_none()) && is_stranger() {
            return Err(refuse(Refused(
                403,
                "another user asks, and only the user of the broker gets an answer",
            )));
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

    /// Begins the work that connections wait for, the oldest first.
    pub fn begin_work(&mut self, now: Now) {
        while !self.is_closing {
            let is_full = self.running.iter().filter(|task| task.needs_token()).count() >= WORK_LIMIT;
            let waiting = self.connections.iter().enumerate().filter_map(|(seat, connection)| {
                let connection = connection.as_ref()?;
                let Stage::Waiting(task, _) = &connection.stage else { return None };
                let waits = self.running.contains(task) || (is_full && task.needs_token());
                (!waits).then_some((seat, connection, task))
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
        for seat in 0..self.connections.len() {
            let is_for = |connection: &Connection| matches!(&connection.stage, Stage::Waiting(other, _) if other == task);
            if self.connection(seat).is_some_and(is_for) {
                self.answer(seat, answer, now);
            }
        }
        self.begin_work(now);
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
        for seat in 0..self.connections.len() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::broker::server::Entrance;
    use crate::adapters::broker::{Ask, BODY_LIMIT};
    use crate::error::{Failure, Kind};
    use crate::grant::{Secret, TokenKind};
    use crate::protocol::tests::document;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn desk() -> Desk {
        let entrance = Entrance { key: Some(Secret::new(KEY)), port: None, profile: "default".to_owned() };
        Desk::new(entrance, None, SEATS)
    }

    fn at(milliseconds: u64) -> Now {
        Now { wall: 1_700_000_000, elapsed: Duration::from_millis(milliseconds) }
    }

    fn get(target: &str) -> Vec<u8> {
        format!("GET {target} HTTP/1.1\r\nauthorization: Bearer {KEY}\r\n\r\n").into_bytes()
    }

    fn post(length: usize) -> Vec<u8> {
        let field = format!("content-length: {length}");
        format!("POST /v1/rejected HTTP/1.1\r\nauthorization: Bearer {KEY}\r\n{field}\r\n\r\n").into_bytes()
    }

    fn receive(desk: &mut Desk, seat: usize, bytes: &[u8], now: Now) {
        desk.receive(seat, bytes, &|| false, now);
    }

    /// A connection whose request is whole, and which waits for work.
    fn waiting(desk: &mut Desk, target: &str, now: Now) -> usize {
        let seat = desk.accept(now).unwrap();
        receive(desk, seat, &get(target), now);
        assert!(matches!(desk.actions.pop_back(), Some(Action::Look { seat: other, .. }) if other == seat));
        desk.begin_work(now);
        seat
    }

    fn token(min_ttl: i64) -> Task {
        Task::Own(Ask::Token { kind: TokenKind::AccessToken, min_ttl })
    }

    fn failed() -> Answer {
        Answer::Failed(Failure::new(Kind::Temporary, "not now"))
    }

    /// What the desk wants, in short.
    fn actions(desk: &mut Desk) -> Vec<String> {
        std::iter::from_fn(|| desk.next_action())
            .map(|action| match action {
                Action::Look { seat, is_running, .. } => format!("look {seat} {is_running}"),
                Action::Work { seat, waited, .. } => format!("work {seat} {}", waited.as_millis()),
                Action::Send(seat, bytes) => format!("send {seat} {}", status(&bytes)),
                Action::Finish(seat) => format!("finish {seat}"),
                Action::Close(seat) => format!("close {seat}"),
            })
            .collect()
    }

    fn status(response: &[u8]) -> String {
        String::from_utf8_lossy(response).split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn a_request_is_answered_once_it_is_whole_and_the_connection_is_closed() {
        let mut desk = desk();
        let seat = desk.accept(at(0)).unwrap();
        let request = get("/v1/token");
        let (first, rest) = request.split_at(30);
        receive(&mut desk, seat, first, at(1));
        assert!(actions(&mut desk).is_empty() && desk.reads(seat));
        receive(&mut desk, seat, rest, at(2));
        assert_eq!(actions(&mut desk), ["look 0 false"]);
        assert!(!desk.reads(seat));
        let session = document().session.unwrap();
        desk.answer(seat, &Answer::Token(session, TokenKind::AccessToken), at(3));
        assert_eq!(actions(&mut desk), ["send 0 200"]);
        desk.sent(seat);
        assert_eq!(actions(&mut desk), ["close 0"]);
        assert_eq!(desk.deadline(at(3)), None, "nothing is left to be done");
    }

    #[test]
    fn equal_requests_share_one_piece_of_work_and_four_are_done_at_once() {
        let mut desk = desk();
        for (number, min_ttl) in (0..).zip([1, 1, 2, 3, 4, 5, 6, 1]) {
            waiting(&mut desk, &format!("/v1/token?min_ttl={min_ttl}"), at(number));
        }
        assert_eq!(actions(&mut desk), ["work 0 0", "work 2 0", "work 3 0", "work 4 0"]);
        desk.done(&token(1), &failed(), at(100));
        let answers = ["send 0 503", "send 1 503", "send 7 503"];
        assert_eq!(actions(&mut desk), [&answers[..], &["work 5 95"]].concat(), "the oldest is next");
        desk.done(&token(4), &failed(), at(100));
        assert_eq!(actions(&mut desk), ["send 4 503", "work 6 94"]);
        let seat = desk.accept(at(101)).unwrap();
        receive(&mut desk, seat, &get("/v1/token?min_ttl=6"), at(101));
        assert_eq!(actions(&mut desk), ["look 8 true"], "it is being done");
    }

    #[test]
    fn the_profile_does_not_wait_for_a_server_that_does_not_answer() {
        let mut desk = desk();
        (1..=5).for_each(|min_ttl| _ = waiting(&mut desk, &format!("/v1/token?min_ttl={min_ttl}"), at(0)));
        assert_eq!(actions(&mut desk).len(), 4);
        (0..2).for_each(|_| _ = waiting(&mut desk, "/v1/profile", at(1)));
        assert_eq!(actions(&mut desk), ["work 5 0"]);
        desk.done(&Task::Own(Ask::Profile), &failed(), at(2));
        assert_eq!(actions(&mut desk), ["send 5 503", "send 6 503"], "no further work for a token begins");
    }

    #[test]
    fn work_for_a_process_that_has_left_does_not_begin() {
        let mut desk = desk();
        let seats: Vec<usize> = (1..=6)
            .map(|min_ttl| waiting(&mut desk, &format!("/v1/token?min_ttl={min_ttl}"), at(0)))
            .collect();
        assert_eq!(actions(&mut desk).len(), 4);
        desk.close(seats[4]);
        desk.close(seats[0]);
        assert_eq!(actions(&mut desk), ["close 4", "close 0"]);
        desk.done(&token(1), &failed(), at(1));
        assert_eq!(actions(&mut desk), ["work 5 1"]);
    }

    #[test]
    fn a_connection_without_a_whole_request_loses_its_seat_to_others_but_not_at_once() {
        let mut desk = desk();
        for number in 0..64 {
            assert_eq!(desk.accept(at(number)), Some(usize::try_from(number).unwrap()));
        }
        receive(&mut desk, 0, &get("/v1/token"), at(64));
        desk.begin_work(at(64));
        assert!(!desk.has_room(at(200)), "its request may be on its way");
        assert_eq!(desk.accept(at(200)), None);
        assert_eq!(desk.deadline(at(200)), Some(Duration::from_millis(201)));
        // The oldest waits for its answer, and stays.
        assert_eq!(desk.accept(at(201)), Some(1));
        assert_eq!(desk.accept(at(201)), None);
        assert_eq!(desk.accept(at(203)), Some(2));
    }

    #[test]
    fn a_connection_keeps_its_seat_until_its_answer_is_sent_and_not_while_the_rest_is_dropped() {
        let mut desk = desk();
        (0..64).for_each(|_| _ = waiting(&mut desk, "/v1/token", at(0)));
        desk.done(&token(0), &failed(), at(1));
        assert!(!desk.has_room(at(5_000)), "none has its answer");
        desk.connections[7].as_mut().unwrap().is_read = false;
        desk.sent(7);
        assert_eq!(desk.accept(at(5_000)), Some(7));
    }

    #[test]
    fn while_all_connections_wait_for_answers_no_other_one_is_accepted() {
        let mut desk = desk();
        (0..64).for_each(|_| _ = waiting(&mut desk, "/v1/token", at(0)));
        assert!(!desk.has_room(at(60_000)));
        assert_eq!(desk.deadline(at(60_000)), None, "only an answer changes that");
        assert_eq!(actions(&mut desk), ["work 0 0"]);
        desk.done(&token(0), &failed(), at(60_000));
        assert_eq!(actions(&mut desk).len(), 64);
    }

    #[test]
    fn a_request_must_be_whole_and_an_answer_received_in_ten_seconds_each() {
        let mut desk = desk();
        let (slow, silent) = (desk.accept(at(0)).unwrap(), desk.accept(at(5)).unwrap());
        for (number, byte) in (0..).zip(get("/v1/token").iter().take(50)) {
            receive(&mut desk, slow, &[*byte], at(number * 100));
        }
        assert_eq!(desk.deadline(at(6)), Some(Duration::from_secs(10)), "seats are free");
        desk.tick(at(9_999));
        assert!(actions(&mut desk).is_empty());
        desk.tick(at(10_000));
        assert_eq!(actions(&mut desk), [format!("close {slow}")]);
        desk.tick(at(10_005));
        assert_eq!(actions(&mut desk), [format!("close {silent}")]);
        let seat = waiting(&mut desk, "/v1/token", at(20_000));
        desk.tick(at(50_000));
        assert_eq!(actions(&mut desk), ["work 0 0"], "work has its own deadline");
        desk.done(&token(0), &failed(), at(50_000));
        desk.tick(at(59_999));
        assert_eq!(actions(&mut desk), ["send 0 503"]);
        desk.tick(at(60_000));
        assert_eq!(actions(&mut desk), [format!("close {seat}")]);
    }

    #[test]
    fn heads_and_bodies_are_bounded_and_what_is_too_long_is_refused_before_it_is_read() {
        let mut desk = desk();
        let seat = desk.accept(at(0)).unwrap();
        receive(&mut desk, seat, b"GET /v1/token HTTP/1.1\r\nx: ", at(0));
        receive(&mut desk, seat, &[b'x'; 8000], at(0));
        assert!(actions(&mut desk).is_empty());
        receive(&mut desk, seat, &[b'x'; 200], at(0));
        assert_eq!(actions(&mut desk), ["send 0 431"]);
        desk.sent(seat);
        assert_eq!(actions(&mut desk), ["finish 0"], "the rest of it is on its way");

        let seat = desk.accept(at(0)).unwrap();
        receive(&mut desk, seat, &post(BODY_LIMIT + 1), at(0));
        assert_eq!(actions(&mut desk), ["send 1 413"]);
        let seat = desk.accept(at(0)).unwrap();
        receive(&mut desk, seat, &post(BODY_LIMIT), at(0));
        receive(&mut desk, seat, &vec![b'x'; BODY_LIMIT - 1], at(0));
        assert!(actions(&mut desk).is_empty() && desk.reads(seat));
        receive(&mut desk, seat, b"x", at(0));
        assert_eq!(actions(&mut desk), ["look 2 false"]);
    }

    #[test]
    fn bytes_behind_a_request_are_dropped_up_to_a_bound() {
        let mut desk = desk();
        let seat = desk.accept(at(0)).unwrap();
        receive(&mut desk, seat, &[get("/v1/token"), get("/v1/profile")].concat(), at(0));
        desk.answer(seat, &failed(), at(0));
        desk.sent(seat);
        assert_eq!(actions(&mut desk), ["look 0 false", "send 0 503", "finish 0"]);
        assert!(desk.reads(seat));
        receive(&mut desk, seat, &vec![b'x'; DROPPED_LIMIT - 1], at(1));
        assert!(actions(&mut desk).is_empty());
        receive(&mut desk, seat, b"x", at(1));
        assert_eq!(actions(&mut desk), ["close 0"]);
        // Usually the other side closes the connection.
        let seat = desk.accept(at(0)).unwrap();
        receive(&mut desk, seat, b"nonsense\r\n\r\n", at(0));
        desk.sent(seat);
        desk.end(seat);
        assert_eq!(actions(&mut desk), ["send 0 400", "finish 0", "close 0"]);
    }

    #[test]
    fn a_connection_that_ends_before_its_request_is_whole_gets_no_answer() {
        let mut desk = desk();
        let seat = desk.accept(at(0)).unwrap();
        receive(&mut desk, seat, &post(5), at(0));
        desk.end(seat);
        assert_eq!(actions(&mut desk), ["close 0"]);
        // One that only says that it sends no more gets its answer.
        let seat = waiting(&mut desk, "/v1/token", at(0));
        desk.end(seat);
        desk.done(&token(0), &failed(), at(0));
        assert_eq!(actions(&mut desk), ["work 0 0", "send 0 503"]);
    }

    /// A web page is refused before the user is looked up, and another user before the key is looked at.
    #[test]
    fn a_request_is_refused_before_anything_is_looked_up_for_it() {
        let page = format!("GET /v1/token HTTP/1.1\r\norigin: null\r\nauthorization: Bearer {KEY}\r\n\r\n");
        for (case, request, wanted) in [
            ("no key", "GET /v1/token HTTP/1.1\r\n\r\n", "send 0 401"),
            ("no key, no path", "GET /v1/secrets HTTP/1.1\r\n\r\n", "send 0 401"),
            ("another key", "GET /v1/token HTTP/1.1\r\nauthorization: Bearer x\r\n\r\n", "send 0 401"),
            ("a web page", &page, "send 0 403"),
        ] {
            let mut desk = desk();
            let seat = desk.accept(at(0)).unwrap();
            desk.receive(seat, request.as_bytes(), &|| panic!("{case}: who asks?"), at(0));
            assert_eq!(actions(&mut desk), [wanted], "{case}");
        }
        let mut desk = desk();
        let seat = desk.accept(at(0)).unwrap();
        receive(&mut desk, seat, &[post(3), b"a\nb".to_vec()].concat(), at(0));
        assert_eq!(actions(&mut desk), ["send 0 400"], "no token has two lines");
    }

    #[test]
    fn without_a_key_the_user_of_the_other_end_is_asked_for_and_with_a_key_it_is_not() {
        let stranger: &dyn Fn() -> bool = &|| true;
        for (key, wanted) in [(Some(Secret::new(KEY)), "look 0 false"), (None, "send 0 403")] {
            let mut desk = Desk::new(Entrance { key, ..Entrance::default() }, None, SEATS);
            let seat = desk.accept(at(0)).unwrap();
            desk.receive(seat, &get("/v1/token"), stranger, at(0));
            assert_eq!(actions(&mut desk), [wanted]);
        }
        let entrance = Entrance { key: Some(Secret::new(KEY)), port: None, profile: String::new() };
        let mut desk = Desk::new(entrance, Some(Shape::Gce), SEATS);
        let seat = desk.accept(at(0)).unwrap();
        desk.receive(seat, b"GET / HTTP/1.1\r\nMetadata-Flavor: Google\r\n\r\n", stranger, at(0));
        assert_eq!(actions(&mut desk), ["send 0 403"]);
    }

    #[test]
    fn after_the_end_running_work_is_finished_and_none_begins() {
        let mut desk = desk();
        for min_ttl in 0..5 {
            waiting(&mut desk, &format!("/v1/token?min_ttl={min_ttl}"), at(0));
        }
        assert!(desk.close_down());
        let seat = desk.connections.iter().position(Option::is_none).unwrap();
        assert!(!desk.has_room(at(0)), "seat {seat} stays free");
        assert_eq!(actions(&mut desk).len(), 4, "the fifth waits");
        for (min_ttl, answer) in (0..).zip(["send 0 503", "send 1 503", "send 2 503", "send 3 503"]) {
            assert!(desk.close_down());
            desk.done(&token(min_ttl), &failed(), at(1));
            assert_eq!(actions(&mut desk), [answer]);
        }
        assert!(!desk.close_down());
    }
}
