//! Servers that are hard to reach: certificates that are not accepted, and names with addresses that do not answer. Nothing
//! is sent to a server that did not prove itself, and the message says what helps.

use crate::support::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use servers::tls;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What the server answers to a client that has accepted its certificate.
const TOKENS: &str = r#"{"access_token":"at_tls","refresh_token":"rt_tls","expires_in":3600}"#;

/// A token endpoint behind TLS, with a certificate of `fixtures/tls`. It counts connections and requests.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn with(certificate: &str) -> Self {
        let config = tls::config(certificate);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // The thread ends with the test's process.
        thread::spawn({
            let (connections, requests) = (Arc::clone(&connections), Arc::clone(&requests));
            move || {
                for stream in listener.incoming() {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (config, requests) = (Arc::clone(&config), Arc::clone(&requests));
                    // A client that refuses the certificate is what this is about.
                    thread::spawn(move || drop(answer(stream.unwrap(), config, &requests)));
                }
            }
        });
        Self { port, connections, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// A home with a session that has ended. Its token endpoint is this server under that name.
    fn home(&self, host: &str) -> Home {
        let home = Home::new();
        let origin = format!("https://{host}:{}", self.port);
        home.write(&json!({
            "version": 1, "issuer": origin, "token_endpoint": format!("{origin}/token"), "client_id": "c",
            "userinfo_endpoint": format!("{origin}/me"), "revocation_endpoint": format!("{origin}/revoke"),
            "session": {"access_token": "at_old", "token_type": "Bearer", "refresh_token": "rt_old",
                        "expires_at": now() - 60, "obtained_at": now() - 3660},
        }));
        home
    }
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, requests: &AtomicUsize) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    stream.read_exact(&mut vec![0; length.map_or(0, |length| length.parse().unwrap())])?;
    let (status, body) = if head.starts_with("post /token") { (200, TOKENS) } else { (404, "") };
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    stream.flush()
}

/// The certificates that are not accepted: the file, what is trusted, the words, the beginning of the hint.
const REFUSED: [(&str, &str, &str, &str); 5] = [
    ("server.pem", "other.pem", "the CA of its certificate is not trusted here", "export SSL_CERT_FILE="),
    ("expired.pem", "ca.pem", "its certificate ended at Fri, 01 Jan 2021", "date   #"),
    ("early.pem", "ca.pem", "its certificate begins at Wed, 01 Jan 2110", "sudo timedatectl set-ntp true"),
    (
        "other.pem",
        "ca.pem",
        "its certificate is not for this host, but for other.test",
        "openssl s_client -connect 127.0.0.1:",
    ),
    ("own-ca.pem", "own-ca.pem", "its certificate is that of a CA", "openssl req -x509 "),
];

#[test]
fn a_certificate_that_is_not_accepted_is_explained_and_nothing_is_sent() {
    for (certificate, trusted, words, hint) in REFUSED {
        let server = Server::with(certificate);
        let token_endpoint = format!("https://127.0.0.1:{}/token", server.port);
        let logins: [&[&str]; 2] = [
            &[
                "--profile",
                "b",
                "login",
                "--token-endpoint",
                &token_endpoint,
                "--client-id",
                "c",
                "--client-credentials",
            ],
            &[
                "--profile",
                "b",
                "login",
                &token_endpoint.replace("/token", ""),
                "--client-id",
                "c",
                "--device",
            ],
        ];
        for arguments in [&["token"][..], &["refresh"], &["whoami"]].into_iter().chain(logins) {
            let home = server.home("127.0.0.1");
            let before = home.bytes();
            let ran = run(home.command(arguments).env("SSL_CERT_FILE", tls::file(trusted)));
            let case = format!("{certificate} {arguments:?}: {ran:?}");
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{case}");
            assert!(ran.stderr.contains(&format!("cannot connect to 127.0.0.1:{}: ", server.port)), "{case}");
            assert!(ran.stderr.contains(words) && !ran.stderr.contains("try again"), "{case}");
            let (_, found) = ran.stderr.rsplit_once("\nhint: ").unwrap_or_else(|| panic!("{case}"));
            assert!(found.starts_with(hint) && found.lines().count() == 1, "{case}");
            assert_eq!(home.bytes(), before, "{case}");
        }
        // A logout deletes all the same.
        let home = server.home("127.0.0.1");
        let mut document = home.document();
        document["revocation_endpoint"] = json!(token_endpoint.replace("/token", "/revoke"));
        home.write(&document);
        let ran = run(home.command(&["logout"]).env("SSL_CERT_FILE", tls::file(trusted)));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stderr.contains("revocation failed: ") && ran.stderr.contains(words), "{ran:?}");
        assert!(ran.stderr.contains(&format!("\nhint: {hint}")), "{ran:?}");
        assert_eq!(server.requests(), 0, "{certificate}");
    }
}

#[test]
fn doctor_explains_a_certificate_in_the_same_words() {
    for (certificate, trusted, words, hint) in REFUSED {
        let server = Server::with(certificate);
        let home = server.home("127.0.0.1");
        let ran = run(home.command(&["doctor", "--json"]).env("SSL_CERT_FILE", tls::file(trusted)));
        let check = check(&ran, "tls");
        assert_eq!((check[0]["verdict"].as_str(), ran.code), (Some("fail"), 4), "{ran:?}");
        assert!(check[0]["what"].as_str().unwrap().contains(words), "{ran:?}");
        assert!(check[0]["hint"].as_str().unwrap().starts_with(hint), "{ran:?}");
    }
}

#[test]
fn with_its_ca_named_the_server_is_asked_once() {
    let server = Server::with("server.pem");
    let home = server.home("127.0.0.1");
    let ran = run(home.command(&["token"]).env("SSL_CERT_FILE", tls::file("ca.pem")));
    assert_eq!(ran, Ran::printed("at_tls"));
    assert_eq!(server.requests(), 1);
}

/// A proxy that answers `CONNECT` with this head, then carries bytes to that port of this machine.
fn proxy(head: String, port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own_port = listener.local_addr().unwrap().port();
    // The threads end with the test's process.
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            client.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        client.write_all(head.as_bytes()).unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut from_client, &mut to_server));
        let _ = io::copy(&mut server, &mut client);
    });
    own_port
}

#[test]
fn the_head_of_a_proxy_s_answer_may_be_as_long_as_any_other() {
    let server = Server::with("server.pem");
    for fields in ["X: y\r\n".repeat(3000), format!("X: {}\r\n", "x".repeat(60_000))] {
        let home = server.home("idp.test");
        let proxy = proxy(format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), server.port);
        let mut command = home.command(&["token"]);
        command
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{proxy}"))
            .env("SSL_CERT_FILE", tls::file("ca.pem"));
        assert_eq!(run(&mut command), Ran::printed("at_tls"));
    }
    assert_eq!(server.requests(), 2);
}

/// A listener that accepts no further connection, at this address: an attempt to connect gets no answer.
struct Silent {
    _socket: OwnedFd,
    _held: Vec<OwnedFd>,
}

impl Silent {
    fn at(address: SocketAddr) -> Self {
        let socket = |flags| socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        let listener = socket(SocketFlags::CLOEXEC);
        bind(&listener, &address).unwrap();
        listen(&listener, 0).unwrap();
        // The queue takes one connection; those after it wait in vain.
        let fill = |_| {
            let held = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
            let _ = connect(&held, &address);
            held
        };
        Self { _held: (0..4).map(fill).collect(), _socket: listener }
    }
}

/// The command with these addresses for `idp.test`.
fn with_hosts(home: &Home, addresses: &[String], command: &mut Command) -> Command {
    let lines = addresses.iter().map(|address| format!("{address} idp.test\n"));
    fs::write(home.root.join("hosts"), lines.collect::<String>()).unwrap();
    command.env("SSL_CERT_FILE", tls::file("ca.pem"));
    in_namespace("mount --bind \"$0/hosts\" /etc/hosts; exec \"$@\"", home, command)
}

/// The checks of this name in what `doctor --json` printed.
fn check(ran: &Ran, name: &str) -> Vec<Value> {
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = object["checks"].as_array().unwrap();
    checks.iter().filter(|check| check["name"] == name).cloned().collect()
}

#[test]
fn eight_addresses_that_do_not_answer_cost_no_token() {
    let server = Server::with("server.pem");
    let dead: Vec<String> = (10..18).map(|last| format!("127.0.0.{last}")).collect();
    let _silent: Vec<Silent> = dead
        .iter()
        .map(|address| Silent::at(SocketAddr::new(address.parse().unwrap(), server.port)))
        .collect();
    let addresses: Vec<String> = dead.into_iter().chain(["127.0.0.1".to_owned()]).collect();
    for timeout in ["30", "5"] {
        let home = server.home("idp.test");
        let before = server.connections.load(Ordering::SeqCst);
        let ran =
            run(&mut with_hosts(&home, &addresses, &mut home.command(&["--timeout", timeout, "token"])));
        assert_eq!(ran, Ran::printed("at_tls"), "--timeout {timeout}");
        assert_eq!(server.connections.load(Ordering::SeqCst) - before, 1, "--timeout {timeout}");
    }
    assert_eq!(server.requests(), 2);
}

#[test]
fn doctor_names_each_address_that_does_not_answer_although_another_one_does() {
    let server = Server::with("server.pem");
    let _silent = Silent::at(SocketAddr::from(([127, 0, 0, 30], server.port)));
    let addresses = ["127.0.0.30", "127.0.0.31", "127.0.0.1"].map(str::to_owned);
    let home = server.home("idp.test");
    let ran = run(&mut with_hosts(&home, &addresses, &mut home.command(&["doctor", "--json"])));
    assert_eq!((ran.code, check(&ran, "tls")[0]["verdict"].as_str()), (0, Some("ok")), "{ran:?}");
    let checks = check(&ran, "addresses");
    let said: Vec<&str> = checks.iter().map(|check| check["what"].as_str().unwrap()).collect();
    assert_eq!(said.len(), 2, "{ran:?}");
    let port = server.port;
    let dead = format!("127.0.0.30:{port} of idp.test does not answer, which costs a quarter of a second");
    assert!(said.iter().any(|said| said.starts_with(&dead)), "{said:?}");
    let refuses = format!("127.0.0.31:{port} of idp.test cannot be reached: Connection refused");
    assert!(said.contains(&refuses.as_str()), "{said:?}");
    for check in &checks {
        let hint = "getent ahosts idp.test";
        assert!(check["hint"].as_str().unwrap().starts_with(hint), "{check}");
        assert_eq!(check["verdict"], "warn");
    }

    let home = server.home("idp.test");
    let alive = ["127.0.0.1".to_owned()];
    let ran = run(&mut with_hosts(&home, &alive, &mut home.command(&["doctor", "--json"])));
    assert_eq!(check(&ran, "addresses"), [Value::Null; 0], "{ran:?}");
}
