//! The wire is cut at each byte of an exchange: what that proves, and that the grant lives on.
//!
//! The first tests cut the answer at every byte for the client alone; the later ones put a wire that breaks between a
//! real process and a real server.

use crate::support::*;
use onegrant::environment::NetworkSettings;
use onegrant::grant::{Credential, Document, Secret};
use onegrant::http::HttpClient;
use onegrant::oauth::token::HttpTokenEndpoint;
use onegrant::protocol::token::Answer;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long silence is borne: enough for a busy machine to send a request.
const SILENCE: Duration = Duration::from_secs(3);

/// How many exchanges wait in silence at once.
const AT_ONCE: usize = 100;

/// How a wire ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// In order, as by a process that was killed.
    Close,
    /// By a reset, as by a firewall or a machine that was started again.
    Reset,
    /// Not at all: silence until the client gives up.
    Stall,
}

/// Where a wire ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// So many bytes of the request have been read; the server sees none of it.
    Request(usize),
    /// The server got the whole request, and so many bytes of its answer have passed.
    Answer(usize),
}

/// One connection's end of the client.
struct Caller {
    stream: TcpStream,
}

impl Caller {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream }
    }

    /// Reads a request, and leaves its last byte in the socket: closing with a byte unread resets the connection.
    fn read_request(&mut self) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.extend(self.read(1)?);
        }
        let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        request.extend(self.read(length - 1)?);
        let mut last = [0];
        self.stream.peek(&mut last)?;
        request.extend(last);
        Ok(request)
    }

    fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Ends the wire while at least one byte of the request is unread.
    fn end(mut self, ending: Ending) {
        let mut next = [0];
        // A client that has gone already makes no difference.
        let _ = self.stream.peek(&mut next);
        if ending == Ending::Close {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        if ending != Ending::Reset {
            let _ = io::copy(&mut self.stream, &mut io::sink());
        }
    }
}

/// The bytes of an answer in one of the three ways in which HTTP/1.1 marks the end of a body (RFC 9112 section 6.3).
fn answers() -> [(&'static str, Vec<u8>); 3] {
    let body = "{\"access_token\":\"at_new\",\"token_type\":\"Bearer\",\"expires_in\":3600,\"refresh_token\":\"rt_new\"}";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\n";
    let (one, two) = body.split_at(body.len() / 2);
    let with_length = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    );
    let until_the_end = format!("{head}connection: close\r\n\r\n{body}");
    [
        ("with a length", with_length.into_bytes()),
        ("in chunks", chunked.into_bytes()),
        ("until the end", until_the_end.into_bytes()),
    ]
}

/// Spends a refresh token at a server of one connection that answers these bytes.
fn exchange(listener: &TcpListener, answer: &[u8], ending: Ending, timeout: Duration) -> Answer {
    let port = listener.local_addr().unwrap().port();
    let document = format!(
        r#"{{"version":1,"token_endpoint":"http://127.0.0.1:{port}/token","client_id":"c","session":null}}"#
    );
    let document = Document::parse(document.as_bytes()).unwrap();
    let client = HttpClient::new(&NetworkSettings::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut caller = Caller::new(listener.accept().unwrap().0);
            caller.read_request().unwrap();
            // A client that has seen enough hangs up.
            let _ = caller.stream.write_all(answer);
            caller.end(ending);
        });
        HttpTokenEndpoint::new(&client).refresh(
            &document,
            &Credential::RefreshToken(Secret::new("rt_old")),
            timeout,
            0,
        )
    })
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[track_caller]
fn assert_class(answer: Answer, is_whole: bool, case: &str) {
    match answer {
        Answer::Refreshed(answer) if is_whole => assert_eq!(answer.access_token.expose(), "at_new", "{case}"),
        Answer::Unknown { what, .. } if !is_whole => {
            assert!(!what.contains("rt_") && !what.contains("at_"), "{case}: {what}");
        }
        other => panic!("{case}: {other:?}"),
    }
}

#[test]
fn an_answer_that_is_cut_at_any_byte_is_unknown_until_it_is_whole() {
    let listener = listener();
    let mut exchanges = 0;
    for (name, whole) in answers() {
        // The line of the last chunk ends the body; an empty trailer follows.
        let needed = if name == "in chunks" { whole.len() - 2 } else { whole.len() };
        for length in 0..=whole.len() {
            for ending in [Ending::Close, Ending::Reset] {
                let case = format!("{name}, {length} of {} bytes, {ending:?}", whole.len());
                let answer = exchange(&listener, &whole[..length], ending, LIMIT);
                exchanges += 1;
                // Within the trailer both are true: the body is there, and the answer is not whole.
                if (needed..whole.len()).contains(&length) && matches!(answer, Answer::Refreshed(_)) {
                    continue;
                }
                assert_class(answer, length == whole.len(), &case);
            }
        }
    }
    println!("{exchanges} exchanges");
}

#[test]
fn an_answer_that_stops_at_any_byte_costs_the_timeout_and_is_unknown() {
    let (name, whole) = &answers()[0];
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let listener = listener();
                loop {
                    let length = next.fetch_add(1, Ordering::Relaxed);
                    if length > whole.len() {
                        return;
                    }
                    let case = format!("{name}, {length} of {} bytes, then silence", whole.len());
                    let timeout = if length == whole.len() { LIMIT } else { SILENCE };
                    let answer = exchange(&listener, &whole[..length], Ending::Stall, timeout);
                    assert_class(answer, length == whole.len(), &case);
                }
            });
        }
    });
}

/// A wire between clients and a real server: the first connections are cut as the test says, later ones are not.
struct Wire {
    port: u16,
    cuts: Arc<Mutex<VecDeque<(Cut, Ending)>>>,
    connections: Arc<AtomicUsize>,
}

impl Wire {
    fn to(server: &AuthorizationServer) -> Self {
        let listener = listener();
        let port = listener.local_addr().unwrap().port();
        let upstream = server.issuer().trim_start_matches("http://").to_owned();
        let cuts: Arc<Mutex<VecDeque<(Cut, Ending)>>> = Arc::default();
        let connections = Arc::new(AtomicUsize::new(0));
        // The thread ends with the test's process.
        thread::spawn({
            let (cuts, connections) = (Arc::clone(&cuts), Arc::clone(&connections));
            move || {
                for stream in listener.incoming() {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let cut = cuts.lock().unwrap().pop_front();
                    let upstream = upstream.clone();
                    // A client that goes away is what some of this is about.
                    thread::spawn(move || drop(carry(Caller::new(stream.unwrap()), &upstream, cut)));
                }
            }
        });
        Self { port, cuts, connections }
    }

    fn cut(&self, cut: Cut, ending: Ending) {
        self.cuts.lock().unwrap().push_back((cut, ending));
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A home with a document that leads through this wire.
    fn home(&self, server: &AuthorizationServer) -> Home {
        let home = Home::new();
        let mut document = document(server, &server.issue_grant(), EXPIRED);
        document["token_endpoint"] = format!("http://127.0.0.1:{}/token", self.port).into();
        home.write(&document);
        home
    }
}

fn carry(mut caller: Caller, upstream: &str, cut: Option<(Cut, Ending)>) -> io::Result<()> {
    if let Some((Cut::Request(length), ending)) = cut {
        caller.read(length)?;
        caller.end(ending);
        return Ok(());
    }
    let request = caller.read_request()?;
    let mut server = TcpStream::connect(upstream)?;
    server.write_all(&request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let (length, ending) = match cut {
        Some((Cut::Answer(length), ending)) => (length.min(answer.len()), ending),
        _ => (answer.len(), Ending::Close),
    };
    caller.stream.write_all(&answer[..length])?;
    caller.end(ending);
    Ok(())
}

/// The lengths of a request and of its answer, head and body together.
fn lengths() -> (usize, usize) {
    let server = server(|_| {});
    let issued = server.issue_grant();
    let body = format!(
        "grant_type=refresh_token&refresh_token={}&client_id={}",
        issued.refresh_token,
        server.client_id()
    );
    let request = format!(
        "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(server.issuer().trim_start_matches("http://")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    (body.len(), answer.len())
}

/// How far apart the bytes are at which the wire between processes is cut; the client alone meets every one.
const STRIDE: usize = 23;

const GRACE: Replay = Replay::Grace(Duration::from_secs(3600));

/// The server has rotated, and its answer is lost on the way: the second and last request decides.
#[test]
fn a_process_asks_once_more_for_an_answer_that_was_cut_anywhere() {
    let (_, whole) = lengths();
    for replay in [GRACE, Replay::EndFamily] {
        let server = server(|settings| settings.replay = replay);
        let wire = Wire::to(&server);
        for length in (0..whole).step_by(STRIDE).chain([whole - 1]) {
            for ending in [Ending::Close, Ending::Reset] {
                let case = format!("{replay:?}, {length} of {whole} bytes, {ending:?}");
                server.reset_counts();
                let before = wire.connections();
                let home = wire.home(&server);
                wire.cut(Cut::Answer(length), ending);
                let ran = home.run(&["token"]);
                let counts = server.counts();
                assert_eq!((counts.token_requests, counts.rotations, counts.replays), (2, 1, 1), "{case}");
                assert_eq!(wire.connections() - before, 2, "{case}");
                if replay == GRACE {
                    assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{case}");
                    assert!(server.is_alive(&home.tokens().refresh_token), "{case}");
                } else {
                    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{case}: {ran:?}");
                    assert!(ran.stderr.contains("after an answer was lost"), "{case}: {ran:?}");
                }
            }
        }
    }
}

/// The server never saw the request: whatever it does about replays, the second request is the first to it.
#[test]
fn a_process_asks_once_more_where_the_request_was_cut_anywhere() {
    let (whole, _) = lengths();
    let server = server(|_| {});
    let wire = Wire::to(&server);
    for length in (0..whole).step_by(STRIDE) {
        for ending in [Ending::Close, Ending::Reset] {
            let case = format!("after {length} bytes, {ending:?}");
            server.reset_counts();
            let before = wire.connections();
            let home = wire.home(&server);
            wire.cut(Cut::Request(length), ending);
            let ran = home.run(&["token"]);
            // If the body of a request never left, the request is not known to be lost, and is not repeated.
            let ran = if ran.code == 4 {
                assert_eq!(server.counts().token_requests, 0, "{case}: {ran:?}");
                home.run(&["token"])
            } else {
                ran
            };
            assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{case}");
            assert!(server.is_alive(&home.tokens().refresh_token), "{case}");
            assert_eq!((server.counts().token_requests, server.counts().replays), (1, 0), "{case}");
            assert!(wire.connections() - before == 2, "{case}");
        }
    }
}

/// Silence costs the deadline; the next process finds out what became of it.
#[test]
fn a_process_that_meets_silence_anywhere_leaves_the_rest_to_the_next() {
    let (_, whole) = lengths();
    let cases = [GRACE, Replay::EndFamily].map(|replay| [true, false].map(|by_worker| (replay, by_worker)));
    thread::scope(|scope| {
        // By a worker, and in place: without `/proc` there is no worker.
        for (replay, by_worker) in cases.into_iter().flatten() {
            for length in [0, 1, whole / 3, whole / 2, whole - 1] {
                scope.spawn(move || {
                    let place = if by_worker { "by a worker" } else { "in place" };
                    let case = format!("{replay:?}, {length} of {whole} bytes, then silence, {place}");
                    let server = server(|settings| settings.replay = replay);
                    let wire = Wire::to(&server);
                    let home = wire.home(&server);
                    wire.cut(Cut::Answer(length), Ending::Stall);
                    let mut command = home.command(&["--timeout", "5", "token"]);
                    if !by_worker {
                        command = in_namespace("umount -l /proc && exec \"$@\"", &home, &command);
                    }
                    let ran = run(&mut command);
                    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{case}: {ran:?}");
                    assert!(
                        ran.stderr.contains("may have been spent") && !ran.stderr.contains("session is kept"),
                        "{case}: {ran:?}"
                    );
                    if by_worker {
                        // On a busy machine the caller may not wait for its end. A process that comes before shares its failure.
                        wait_for("the end of the worker", || !is_running(spender(&home)));
                    }
                    assert_eq!(server.counts().token_requests, 1, "{case}");
                    let next = home.run(&["token"]);
                    let refused = if replay == GRACE { 1 } else { 2 };
                    assert_eq!(server.counts().token_requests, 1 + refused, "{case}");
                    if replay == GRACE {
                        assert_eq!(next, Ran::printed(&home.tokens().access_token), "{case}");
                        assert!(server.is_alive(&home.tokens().refresh_token), "{case}");
                    } else {
                        assert_eq!((next.code, next.stdout.as_str()), (3, ""), "{case}: {next:?}");
                        assert!(next.stderr.contains(" and never finished; "), "{case}: {next:?}");
                    }
                });
            }
        }
    });
}

/// Both answers are lost: never a third request from the same process.
#[test]
fn a_wire_that_breaks_twice_is_not_tried_a_third_time() {
    let (_, whole) = lengths();
    let server = server(|settings| settings.replay = GRACE);
    let wire = Wire::to(&server);
    for length in [0, 1, whole / 2, whole - 1] {
        for ending in [Ending::Close, Ending::Reset] {
            let case = format!("{length} of {whole} bytes, {ending:?}");
            server.reset_counts();
            let home = wire.home(&server);
            let before = home.bytes();
            wire.cut(Cut::Answer(length), ending);
            wire.cut(Cut::Answer(length), ending);
            let ran = home.run(&["token"]);
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{case}: {ran:?}");
            assert_eq!((server.counts().token_requests, server.counts().rotations), (2, 1), "{case}");
            assert_eq!(home.bytes(), before, "{case}");
            assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token), "{case}");
            assert!(server.is_alive(&home.tokens().refresh_token), "{case}");
        }
    }
}
