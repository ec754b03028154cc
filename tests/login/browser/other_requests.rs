//! Other requests to the listener: none of them ends or delays the login.

use super::fake_browser::*;
use crate::support::*;
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn other_requests_get_a_status_and_the_login_continues() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    let redirect_uri = value(&address, "redirect_uri");
    let origin = redirect_uri.strip_suffix("/callback").unwrap();
    let good = redirect(&address);
    let state = value(&address, "state");

    // A client that says nothing, one that stops in the middle, and one that sends a byte at a time.
    let silent = TcpStream::connect(parts(origin).0).unwrap();
    let mut half = TcpStream::connect(parts(origin).0).unwrap();
    half.write_all(b"GET /callback?state=").unwrap();
    let mut dripping = TcpStream::connect(parts(origin).0).unwrap();
    dripping.write_all(b"G").unwrap();
    // A port scanner.
    drop(TcpStream::connect(parts(origin).0).unwrap());

    let cases = [
        ("GET", format!("{origin}/favicon.ico"), 404),
        ("GET", format!("{origin}/"), 404),
        ("GET", format!("{origin}/callback/"), 404),
        ("GET", format!("{origin}/callbac"), 404),
        ("GET", redirect_uri.clone(), 400),
        ("GET", format!("{redirect_uri}?code=x&state=wrong"), 400),
        ("GET", format!("{redirect_uri}?code=x"), 400),
        ("GET", format!("{redirect_uri}?error=access_denied"), 400),
        ("GET", format!("{redirect_uri}?code=x&code=y&state={state}"), 400),
        ("GET", format!("{redirect_uri}?state={state}"), 400),
        ("HEAD", good.clone(), 405),
        ("POST", good.clone(), 405),
        ("OPTIONS", good.clone(), 405),
    ];
    for (method, url, status) in cases {
        let answer = request(method, &url).unwrap();
        assert_eq!(answer.status, status, "{method} {url}");
        if status == 400 {
            assert!(answer.body.contains("This is not the answer to the login"), "{}", answer.body);
        }
    }
    assert_eq!(converse(origin, b"\x16\x03\x01\x02\x00\n\n").unwrap().status, 400, "TLS");
    assert_eq!(converse(origin, b"hello\r\n\r\n").unwrap().status, 400);
    let body = format!("POST /callback HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000));
    assert_eq!(converse(origin, body.as_bytes()).unwrap().status, 405, "a body that is not read");
    dripping.write_all(b"E").unwrap();
    assert_eq!(process.said(), format!("open  {address}\n"), "other requests are not reported");

    assert_eq!(get(&good).status, 200);
    assert_eq!(process.finish().code, 0);
    assert!(request("GET", &good).is_err(), "nothing listens any more");
    let mut rest = Vec::new();
    // Ended in order or reset: both are an end.
    for mut stream in [silent, half, dripping] {
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(rest, b"");
    let counts = server.counts();
    assert_eq!((counts.token_requests, counts.unexpected), (1, 0));
}

#[test]
fn a_head_that_does_not_end_is_cut_off() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    let redirect_uri = value(&address, "redirect_uri");
    let mut stream = TcpStream::connect(parts(&redirect_uri).0).unwrap();
    let piece = [b'x'; 4096];
    let mut sent = 0;
    // It answers and then closes: it does not read any amount.
    while stream.write_all(&piece).is_ok() {
        sent += piece.len();
        assert!(sent < 64 << 20, "no end");
    }
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
}

/// As many silent clients as there is room for, and more: the one that matters gets through.
#[test]
fn a_crowd_of_silent_clients_does_not_delay_the_answer() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    let redirect_uri = value(&address, "redirect_uri");
    let crowd: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(parts(&redirect_uri).0).unwrap()).collect();
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
    drop(crowd);
}

/// One that is silent is not kept for ever: its place is needed.
#[test]
fn a_silent_client_is_disconnected() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    let mut silent = TcpStream::connect(parts(&value(&address, "redirect_uri")).0).unwrap();
    silent.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    get(&redirect(&address));
    assert_eq!(process.finish().code, 0);
}

#[test]
fn the_pages_contain_nothing_from_the_request_and_load_nothing() {
    let server = server(|_| {});
    let home = Home::new();
    let (process, address) = start(&mut login(&home, &server, &[]));
    let redirect_uri = value(&address, "redirect_uri");
    let foreign =
        get(&format!("{redirect_uri}?state=%3Cscript%3E&error_description=%3Cscript%3E&x=<script>"));
    let good = get(&redirect(&address));
    for page in [foreign, good] {
        assert!(!page.body.contains("script") && page.body.starts_with("<!doctype html>"), "{}", page.body);
        assert!(!page.body.contains("http:") && !page.body.contains(&value(&address, "state")));
        for (name, wanted) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("connection", "close"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(page.header(name), Some(wanted), "{}", page.head);
        }
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'; "), "{policy}");
        assert_eq!(page.header("content-length"), Some(page.body.len().to_string().as_str()));
    }
    assert_eq!(process.finish().code, 0);
}
