//! What each failure of an exchange proves, against real sockets on loopback: one test per row of the table in
//! `src/http.rs`, and the bounds on time and size.

use onegrant::environment::{NetworkSettings, Setting};
use onegrant::error::{Failure, Kind};
use onegrant::grant::{Document, Secret};
use onegrant::http::{HttpClient, HttpOutcome};
use onegrant::protocol::reach::Reach;
use onegrant::protocol::token::refresh_request;
use onegrant::protocol::{Authentication, BODY_LIMIT, Request, Response};
use rustls::{ServerConnection, StreamOwned};
use servers::closed_port::ClosedPort;
use servers::tls;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Long enough for a loaded machine, short enough for a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The total for the tests that run into it.
const SHORT: Duration = Duration::from_secs(4);

/// How much later than its bound an exchange may end on a loaded machine.
const SLACK: Duration = Duration::from_secs(5);

/// A server for one connection. Joining it waits for its end.
fn serve<T: Send + 'static>(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        script(stream)
    });
    (port, server)
}

/// Reads a whole request, head and body.
fn read_request(stream: &mut impl Read) -> io::Result<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    request.extend(body);
    Ok(String::from_utf8(request).unwrap())
}

/// A server that reads the request, sends these bytes and closes; it returns the request.
fn answering(bytes: impl Into<Vec<u8>>) -> (u16, JoinHandle<String>) {
    let bytes = bytes.into();
    serve(move |mut stream| {
        let request = read_request(&mut stream).unwrap();
        // A client that has seen enough hangs up.
        let _ = stream.write_all(&bytes);
        request
    })
}

fn refresh(url: &str) -> Request {
    let document = format!(r#"{{"version":1,"token_endpoint":"{url}","client_id":"c","session":null}}"#);
    let document = Document::parse(document.as_bytes()).unwrap();
    refresh_request(&document, &Secret::new("s3cret-refresh"), &Authentication::None)
}

fn client() -> HttpClient {
    HttpClient::new(&NetworkSettings::default())
}

fn send(url: &str, timeout: Duration) -> HttpOutcome {
    let outcome = client().send(&refresh(url), timeout).unwrap();
    assert!(!format!("{outcome:?}").contains("s3cret"), "{outcome:?}");
    outcome
}

fn http(port: u16) -> String {
    format!("http://127.0.0.1:{port}/token")
}

fn https(port: u16) -> String {
    format!("https://127.0.0.1:{port}/token")
}

fn answered(outcome: HttpOutcome) -> Response {
    match outcome {
        HttpOutcome::Answered(response) => response,
        other => panic!("{other:?}"),
    }
}

fn not_sent(outcome: HttpOutcome) -> String {
    match outcome {
        HttpOutcome::NotSent(text) => text,
        HttpOutcome::NoConnection(failure) => failure.message,
        other => panic!("{other:?}"),
    }
}

fn lost(outcome: HttpOutcome) -> String {
    match outcome {
        HttpOutcome::Lost(text) => text,
        other => panic!("{other:?}"),
    }
}

fn too_long(outcome: HttpOutcome) -> String {
    match outcome {
        HttpOutcome::TooLong(text) => text,
        other => panic!("{other:?}"),
    }
}

fn assert_bounded(began: Instant) {
    assert!(began.elapsed() < SHORT + SLACK, "took {:?}", began.elapsed());
}

#[test]
fn a_request_is_one_plain_form_and_its_answer_comes_whole() {
    let (port, server) = answering(
        "HTTP/1.1 400 Bad Request\r\nRetry-After: 7\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         WWW-Authenticate: Basic\r\nwww-authenticate: Bearer\r\n\
         Content-Length: 2\r\n\r\n{}",
    );
    let response = answered(send(&format!("{}?tenant=a", http(port)), PATIENCE));
    assert_eq!((response.status, response.body.as_slice()), (400, &b"{}"[..]));
    assert_eq!(response.headers.get("retry-after"), Some("7"));
    assert_eq!(response.headers.get("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(response.headers.all("WWW-Authenticate").collect::<Vec<_>>(), ["Basic", "Bearer"]);
    let request = server.join().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /token?tenant=a HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, "grant_type=refresh_token&refresh_token=s3cret-refresh&client_id=c");
    let head = head.to_ascii_lowercase();
    for line in [
        "\r\naccept: application/json",
        "\r\ncontent-type: application/x-www-form-urlencoded",
        concat!("\r\nuser-agent: onegrant/", env!("CARGO_PKG_VERSION")),
        &format!("\r\ncontent-length: {}", body.len()),
    ] {
        assert_eq!(head.matches(line).count(), 1, "{line:?} in {head}");
    }
    assert!(!head.contains("transfer-encoding") && !head.contains("expect"), "{head}");
}

#[test]
fn a_get_carries_its_authorization_and_no_body() {
    let (port, server) = answering("HTTP/1.0 200 OK\r\n\r\n{\"sub\":\"me\"}");
    let request = Request::get(&http(port)).authorized(Some(&Secret::new("Bearer at")));
    let response = answered(client().send(&request, PATIENCE).unwrap());
    assert_eq!(response.body, b"{\"sub\":\"me\"}", "an answer that ends with the connection");
    let sent = server.join().unwrap().to_ascii_lowercase();
    assert!(sent.starts_with("get /token ") && sent.contains("\r\nauthorization: bearer at\r\n"), "{sent}");
}

#[test]
fn a_refused_connection_proves_that_nothing_was_sent() {
    let port = ClosedPort::reserve();
    let text = not_sent(send(&http(port.number()), PATIENCE));
    assert_eq!(text, format!("cannot connect to 127.0.0.1:{}: Connection refused", port.number()));
}

#[test]
fn localhost_is_this_machine_without_a_look_up() {
    let (port, _server) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answered(send(&format!("http://localhost:{port}/"), PATIENCE)).status, 200);
}

#[test]
fn a_name_that_does_not_exist_proves_that_nothing_was_sent() {
    let text = not_sent(send("https://nowhere.invalid/token", PATIENCE));
    assert!(text.contains("nowhere.invalid:443"), "{text}");
}

#[test]
fn a_peer_without_tls_proves_that_nothing_was_sent() {
    let (port, _server) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let text = not_sent(send(&https(port), PATIENCE));
    assert!(text.starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{text}");
}

#[test]
fn a_peer_that_hangs_up_in_tls_proves_that_nothing_was_sent() {
    let (port, _server) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
    });
    not_sent(send(&https(port), PATIENCE));
}

#[test]
fn a_peer_that_is_silent_in_tls_costs_the_timeout_and_proves_that_nothing_was_sent() {
    let (port, _server) = serve(|mut stream| stream.read_to_end(&mut Vec::new()));
    let began = Instant::now();
    let text = not_sent(send(&https(port), SHORT));
    assert_eq!(text, format!("no connection to 127.0.0.1:{port} within 2.0 s"));
    assert_bounded(began);
}

#[test]
fn no_time_at_all_proves_that_nothing_was_sent() {
    not_sent(send("http://127.0.0.1:9/", Duration::ZERO));
}

/// A TLS server of the private CA that answers one request. It returns whether it has seen it.
fn answering_tls(bytes: &'static [u8]) -> (u16, JoinHandle<bool>) {
    serve(move |stream| {
        let connection = ServerConnection::new(tls::config("server.pem")).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        // A client that refuses the certificate ends here.
        let has_seen = read_request(&mut stream).is_ok();
        if has_seen {
            let _ = stream.write_all(bytes);
            let _ = stream.flush();
        }
        has_seen
    })
}

fn private_ca() -> NetworkSettings {
    NetworkSettings { ssl_cert_file: Some(tls::file("ca.pem")), ..NetworkSettings::default() }
}

#[test]
fn a_private_ca_is_trusted_when_it_is_named() {
    for host in ["127.0.0.1", "localhost"] {
        let (port, _server) = answering_tls(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        let client = HttpClient::new(&private_ca());
        let outcome = client.send(&refresh(&format!("https://{host}:{port}/token")), PATIENCE).unwrap();
        assert_eq!(answered(outcome).status, 200);
        assert_eq!(client.warnings(), [""; 0]);
    }
}

#[test]
fn an_unknown_ca_proves_that_nothing_was_sent_and_names_the_roots() {
    let (port, _server) = answering_tls(b"");
    let environment = NetworkSettings {
        ssl_cert_file: Some(PathBuf::from("/nonexistent/ca.pem")),
        ..NetworkSettings::default()
    };
    let client = HttpClient::new(&environment);
    let text = not_sent(client.send(&refresh(&https(port)), PATIENCE).unwrap());
    assert!(text.contains("UnknownIssuer (CA roots in use: ") && text.ends_with(" built in)"), "{text}");
    assert!(client.warnings()[0].starts_with("cannot use SSL_CERT_FILE /nonexistent/ca.pem: "));
}

#[test]
fn a_tls_connection_that_ends_too_early_loses_the_answer() {
    let (port, _server) =
        answering_tls(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\":\"a\"");
    lost(HttpClient::new(&private_ca()).send(&refresh(&https(port)), PATIENCE).unwrap());
}

/// Carries bytes between one client and a server, and `length` of the server's. It returns how many of these there
/// were.
fn carrying(upstream: u16, length: usize) -> (u16, JoinHandle<usize>) {
    serve(move |mut client| {
        let mut server = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let passed = io::copy(&mut (&mut server).take(u64::try_from(length).unwrap()), &mut client);
        // Both hear that it is over.
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        usize::try_from(passed.unwrap_or_default()).unwrap()
    })
}

/// How far apart the bytes are at which TLS is cut: each of them costs a handshake.
const TLS_STRIDE: usize = 13;

/// What proves that nothing was sent must be true: then the server has seen no request.
#[test]
fn tls_that_is_cut_at_any_byte_proves_that_nothing_was_sent_or_loses_the_answer() {
    let exchange = |length| {
        let (upstream, server) = answering_tls(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        let (port, carrier) = carrying(upstream, length);
        let outcome = HttpClient::new(&private_ca()).send(&refresh(&https(port)), PATIENCE).unwrap();
        (outcome, carrier.join().unwrap(), server.join().unwrap())
    };
    let (outcome, whole, _) = exchange(usize::MAX);
    assert_eq!(answered(outcome).body, b"{}");
    let (mut unsent, mut lost) = (0, 0);
    for length in (0..whole).step_by(TLS_STRIDE) {
        match exchange(length) {
            (
                HttpOutcome::NotSent(text) | HttpOutcome::NoConnection(Failure { message: text, .. }),
                _,
                has_seen,
            ) => {
                assert!(!has_seen, "after {length} of {whole} bytes: {text}");
                unsent += 1;
            }
            (HttpOutcome::Lost(_) | HttpOutcome::TooLong(_), ..) => lost += 1,
            // What is missing is TLS's own farewell.
            (HttpOutcome::Answered(response), ..) => {
                assert_eq!(response.body, b"{}", "after {length} of {whole} bytes")
            }
        }
    }
    assert!(unsent > 10 && lost > 0, "{unsent} not sent, {lost} lost");
}

#[test]
fn a_peer_that_reads_the_request_and_hangs_up_loses_the_answer() {
    let (port, _server) = answering("");
    let text = lost(send(&http(port), PATIENCE));
    assert!(text.starts_with(&format!("no whole answer from 127.0.0.1:{port}: ")), "{text}");
}

#[test]
fn a_reset_after_the_request_loses_the_answer() {
    let (port, _server) = serve(|stream| {
        let mut seen = [0; 4096];
        let began = Instant::now();
        // Closing a socket with unread bytes in it sends a reset. All must have come before.
        while began.elapsed() < PATIENCE {
            let length = stream.peek(&mut seen).unwrap();
            if seen[..length].ends_with(b"client_id=c") {
                return;
            }
            thread::yield_now();
        }
    });
    let text = lost(send(&http(port), PATIENCE));
    assert!(text.ends_with("Connection reset by peer"), "{text}");
}

#[test]
fn an_answer_that_is_cut_short_is_lost() {
    let cases = [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\":",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"acc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\n",
    ];
    for answer in cases {
        let (port, _server) = answering(answer);
        lost(send(&http(port), PATIENCE));
    }
}

#[test]
fn garbage_is_no_answer() {
    for answer in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "\0\0\0", "HTTP/1.1 abc\r\n\r\n", "<html></html>\r\n\r\n"] {
        let (port, _server) = answering(answer);
        lost(send(&http(port), PATIENCE));
    }
}

#[test]
fn a_silent_server_costs_the_timeout() {
    let (port, _server) = serve(|mut stream| {
        read_request(&mut stream).unwrap();
        stream.read_to_end(&mut Vec::new())
    });
    let began = Instant::now();
    let text = lost(send(&http(port), SHORT));
    assert_eq!(text, format!("no whole answer from 127.0.0.1:{port} within 4.0 s"));
    assert_bounded(began);
}

/// A server that sends the beginning, then the drop again and again until the client hangs up.
fn dripping(beginning: &'static str, drop: &'static str) -> u16 {
    serve(move |mut stream| {
        read_request(&mut stream).unwrap();
        let _ = stream.write_all(beginning.as_bytes());
        while stream.write_all(drop.as_bytes()).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    })
    .0
}

#[test]
fn a_dripping_server_costs_the_timeout_and_no_more() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "x"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n"),
    ];
    thread::scope(|scope| {
        for (beginning, drop) in cases {
            scope.spawn(move || {
                let port = dripping(beginning, drop);
                let began = Instant::now();
                lost(send(&http(port), SHORT));
                assert_bounded(began);
            });
        }
    });
}

/// A server that sends the beginning, then `length` bytes.
fn long(beginning: String, length: u64) -> u16 {
    serve(move |mut stream| {
        read_request(&mut stream).unwrap();
        let _ = stream.write_all(beginning.as_bytes());
        let _ = io::copy(&mut io::repeat(b'x').take(length), &mut stream);
    })
    .0
}

#[test]
fn an_answer_is_read_up_to_its_limit_and_no_further() {
    let whole = long(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_LIMIT}\r\n\r\n"), BODY_LIMIT);
    let response = answered(send(&http(whole), PATIENCE));
    assert_eq!(u64::try_from(response.body.len()).unwrap(), BODY_LIMIT);

    let more = BODY_LIMIT + 1;
    for head in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {more}\r\n\r\n"),
        "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n".to_owned(),
    ] {
        let text = too_long(send(&http(long(head, more)), PATIENCE));
        assert!(text.ends_with(" is longer than 1048576 bytes"), "{text}");
    }
    let began = Instant::now();
    too_long(send(&http(long("HTTP/1.1 200 OK\r\n\r\n".to_owned(), u64::MAX)), PATIENCE));
    assert!(began.elapsed() < PATIENCE, "stopped by the size, not by the time");
}

/// A head of exactly that many bytes, with a body behind it.
fn head_of(length: usize, field: &str) -> String {
    let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
    let end = "Content-Length: 2\r\n\r\n";
    let last = "X: \r\n";
    while head.len() + field.len() + last.len() + end.len() <= length {
        head.push_str(field);
    }
    let rest = length - head.len() - end.len() - last.len();
    head.push_str(&format!("X: {}\r\n", "x".repeat(rest)));
    format!("{head}{end}{{}}")
}

/// The longest head that is read, in bytes.
const HEAD_LIMIT: usize = 64 << 10;

#[test]
fn a_head_of_64_kib_is_read_whatever_is_in_it() {
    let cookie = format!("Set-Cookie: {}\r\n", "c".repeat(4000));
    for field in
        ["X: y\r\n", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "a:\r\n", &cookie, &"x".repeat(HEAD_LIMIT)]
    {
        let (port, _server) = answering(head_of(HEAD_LIMIT, field));
        let response = answered(send(&http(port), PATIENCE));
        assert_eq!((response.status, response.body.as_slice()), (200, &b"{}"[..]), "{} bytes", field.len());
    }
}

#[test]
fn a_head_beyond_64_kib_is_named_as_too_long() {
    let wanted = |port| format!("the head of the answer from 127.0.0.1:{port} is longer than 65536 bytes");
    for answer in [head_of(HEAD_LIMIT + 1, "X: y\r\n"), head_of(200_000, &"x".repeat(200_000))] {
        let (port, _server) = answering(answer);
        assert_eq!(too_long(send(&http(port), PATIENCE)), wanted(port));
    }
    for beginning in ["HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 "] {
        let port = long(beginning.to_owned(), 1 << 20);
        assert_eq!(too_long(send(&http(port), PATIENCE)), wanted(port));
    }
    // Interim answers count, too.
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n".repeat(2000);
    let (port, _server) = answering(interim);
    assert_eq!(too_long(send(&http(port), PATIENCE)), wanted(port));
}

#[test]
fn interim_answers_are_skipped_whatever_they_hold() {
    let answer = "HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}";
    let (port, _server) = answering(answer);
    assert_eq!(answered(send(&http(port), PATIENCE)).status, 400);
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A server that answers 200 with this body, in one of the three ways in which HTTP/1.1 marks the end of a body.
fn answering_body(framing: usize, fields: &str, body: &[u8]) -> u16 {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}");
    let bytes = match framing {
        0 => [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat(),
        1 => {
            let start = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
            [start.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
        }
        _ => [format!("{head}Connection: close\r\n\r\n").as_bytes(), body].concat(),
    };
    answering(bytes).0
}

#[test]
fn every_request_asks_for_no_content_coding_and_gzip_is_decoded_all_the_same() {
    for framing in 0..3 {
        for fields in ["", "Content-Encoding: gzip\r\n", "content-encoding: x-gzip\r\n"] {
            let port = answering_body(framing, fields, &gzip(b"{\"a\":1}"));
            let response = answered(send(&http(port), PATIENCE));
            assert_eq!(
                (response.body.as_slice(), response.unreadable),
                (&b"{\"a\":1}"[..], None),
                "{framing} {fields}"
            );
        }
    }
    for request in [refresh, |url: &str| Request::get(url)] {
        let (port, server) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        answered(client().send(&request(&http(port)), PATIENCE).unwrap());
        let sent = server.join().unwrap().to_ascii_lowercase();
        assert_eq!(sent.matches("\r\naccept-encoding: identity\r\n").count(), 1, "{sent}");
    }
}

#[test]
fn an_answer_in_an_unknown_coding_keeps_its_status_and_says_which() {
    for (fields, body, why) in [
        ("Content-Encoding: br\r\n", &b"\x8b\x03\x80{}\x03"[..], "its content coding is br"),
        (
            "Content-Encoding: deflate\r\nContent-Encoding: zstd\r\n",
            b"x",
            "its content coding is deflate, zstd",
        ),
        ("Content-Encoding: gzip\r\n", &gzip(b"{}")[..12], "it is gzip that is cut short or damaged"),
    ] {
        let response = answered(send(&http(answering_body(0, fields, body)), PATIENCE));
        assert_eq!((response.status, response.unreadable.as_deref()), (200, Some(why)), "{fields}");
    }
}

#[test]
fn gzip_beyond_the_limit_of_a_body_is_named_as_too_long() {
    let body = gzip(&vec![b' '; usize::try_from(BODY_LIMIT).unwrap() + 1]);
    let text = too_long(send(&http(answering_body(0, "Content-Encoding: gzip\r\n", &body)), PATIENCE));
    assert!(text.ends_with(" is longer than 1048576 bytes"), "{text}");
}

#[test]
fn no_redirect_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let target = format!("http://{}/stolen", listener.local_addr().unwrap());
        let (port, _server) = answering(format!(
            "HTTP/1.1 {status} Elsewhere\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
        ));
        let response = answered(send(&http(port), PATIENCE));
        assert_eq!((response.status, response.headers.get("location")), (status, Some(target.as_str())));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{status} was followed");
    }
}

#[test]
fn a_proxy_that_refuses_proves_that_nothing_was_sent() {
    let (port, server) = answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let setting = Setting { variable: "https_proxy", value: format!("http://user:pa55@127.0.0.1:{port}") };
    let environment = NetworkSettings { https_proxy: Some(setting), ..NetworkSettings::default() };
    let outcome = HttpClient::new(&environment).send(&refresh("https://as.invalid/token"), PATIENCE).unwrap();
    let text = not_sent(outcome);
    assert!(text.contains(&format!("as.invalid:443 through the proxy 127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("pa55"), "{text}");
    let request = server.join().unwrap();
    assert!(request.starts_with("CONNECT as.invalid:443 HTTP/1.1\r\n"), "{request}");
    assert!(!request.contains("s3cret"), "{request}");
}

/// To ask again does not help.
#[test]
fn a_proxy_that_demands_a_password_gets_a_hint_of_its_own() {
    for post in [true, false] {
        let head = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        let (port, _server) = answering(head);
        let setting = Setting { variable: "HTTPS_PROXY", value: format!("http://127.0.0.1:{port}") };
        let client =
            HttpClient::new(&NetworkSettings { https_proxy: Some(setting), ..NetworkSettings::default() });
        let url = "https://as.invalid/token";
        let request = if post { refresh(url) } else { Request::get(url) };
        let outcome = client.send(&request, PATIENCE).unwrap();
        let HttpOutcome::NoConnection(failure) = outcome else { panic!("{outcome:?}") };
        assert!(failure.message.ends_with("the proxy demands a user name and a password"), "{failure}");
        let hint = format!("export https_proxy=http://USER:PASSWORD@127.0.0.1:{port}");
        assert_eq!(failure.hint, Some(hint));
    }
}

#[test]
fn a_proxy_that_cannot_be_used_and_a_url_that_must_not_be_fail_before_anything_happens() {
    let setting = Setting { variable: "all_proxy", value: "socks5://127.0.0.1:1".to_owned() };
    let client = HttpClient::new(&NetworkSettings { all_proxy: Some(setting), ..NetworkSettings::default() });
    for (url, culprit) in [("https://as.invalid/token", "all_proxy"), ("http://as.invalid/token", "https")] {
        let failure = client.send(&refresh(url), PATIENCE).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage, "{failure}");
        assert!(failure.message.contains(culprit), "{failure}");
    }
}

#[test]
fn an_address_beyond_the_limit_gets_no_connection_however_it_is_written() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "127.1", "0x7f000001"] {
        for (request, limit) in [
            (refresh(&format!("https://{host}:{port}/token")), Reach::Public),
            (Request::get(&format!("https://{host}:{port}/token")), Reach::LinkLocal),
        ] {
            let outcome = client().limited_to(limit).send(&request, PATIENCE).unwrap();
            let failure = outcome.response().unwrap_err();
            let message = format!(
                "cannot use https://{host}:{port}/token: its address is loopback, and a server with a {limit} address \
                 named it"
            );
            assert_eq!(failure, Failure::new(Kind::Usage, message));
            assert_eq!(
                listener.accept().unwrap_err().kind(),
                ErrorKind::WouldBlock,
                "{host} was connected to"
            );
        }
        let (port, server) = serve(drop);
        let within = client().limited_to(Reach::Loopback);
        lost(within.send(&Request::get(&format!("https://{host}:{port}/token")), PATIENCE).unwrap());
        server.join().unwrap();
    }
}

#[test]
fn a_proxy_is_not_asked_for_an_address_beyond_the_limit() {
    let (port, server) = answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let setting = Setting { variable: "https_proxy", value: format!("http://127.0.0.1:{port}") };
    let environment = NetworkSettings { https_proxy: Some(setting), ..NetworkSettings::default() };
    let client = HttpClient::new(&environment);
    for (host, reach) in [
        ("10.0.0.5", "private"),
        ("[fd00::1]", "private"),
        ("169.254.169.254", "link-local"),
        ("127.1", "loopback"),
        ("2130706433", "loopback"),
        ("as.localhost", "loopback"),
    ] {
        let url = format!("https://{host}/token");
        let failure = client.limited_to(Reach::Public).send(&refresh(&url), PATIENCE).unwrap_err();
        let message =
            format!("cannot use {url}: its address is {reach}, and a server with a public address named it");
        assert_eq!(failure, Failure::new(Kind::Usage, message));
    }
    // The first request that the proxy gets. Its own address has no limit, because a person named it.
    let limited = client.limited_to(Reach::Private);
    not_sent(limited.send(&refresh("https://as.invalid/token"), PATIENCE).unwrap());
    let request = server.join().unwrap();
    assert!(request.starts_with("CONNECT as.invalid:443 HTTP/1.1\r\n"), "{request}");
    assert_eq!(limited.reached(), Reach::Public, "a name that the proxy looks up counts as public");
}

#[test]
fn a_client_certificate_that_cannot_be_used_is_reported_before_any_connection() {
    let file = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let certificate = || file("tls/server.pem");
    let cases = [
        (file("tls/none.pem"), file("tls/server.key"), "No such file"),
        (file("tls/README.md"), file("tls/server.key"), "there is no certificate in it"),
        (certificate(), file("tls/ca.pem"), "there is no private key in it"),
        (certificate(), file("keys/rsa.pem"), "as the key of "),
    ];
    for (certificate, key, why) in cases {
        let client = HttpClient::new(&NetworkSettings::default()).with_certificate(&certificate, &key);
        let failure = client.err().unwrap();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.message.starts_with("cannot use ") && failure.message.contains(why), "{failure:?}");
    }
    assert!(
        HttpClient::new(&NetworkSettings::default())
            .with_certificate(&certificate(), &file("tls/server.key"))
            .is_ok()
    );
}
