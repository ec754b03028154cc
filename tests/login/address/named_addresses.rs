//! A public server names an address of a private network, of a link or of this machine: no request goes there.

use super::*;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use servers::tls;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The host of the public server. Its certificate is `server.pem`.
const HOST: &str = "idp.test";

/// Everything that came to a server: the own address of each connection, and each request line.
#[derive(Default)]
struct Log {
    addresses: Vec<IpAddr>,
    requests: Vec<String>,
}

/// A server with TLS at every address of this machine. Its documents are those of a resource and its issuer.
struct PublicServer {
    port: u16,
    log: Arc<Mutex<Log>>,
    /// What it answers, by path.
    documents: Arc<Mutex<Vec<(&'static str, Value)>>>,
}

impl PublicServer {
    fn start() -> Self {
        let config = tls::config("server.pem");
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, documents) = (Arc::new(Mutex::new(Log::default())), Arc::default());
        let server = Self { port, log: Arc::clone(&log), documents: Arc::clone(&documents) };
        // The thread ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                log.lock().unwrap().addresses.push(stream.local_addr().unwrap().ip());
                let (config, log, documents) =
                    (Arc::clone(&config), Arc::clone(&log), Arc::clone(&documents));
                // A client that hangs up is what this is about.
                thread::spawn(move || drop(answer(stream, config, &log, &documents)));
            }
        });
        server
    }

    /// Sets its documents: of a resource with this issuer, and of the issuer with these members. In them ORIGIN is `origin`.
    fn serve(&self, origin: &str, issuer: &str, members: &Value) {
        let mut metadata = json!({
            "issuer": "ORIGIN",
            "token_endpoint": "ORIGIN/token",
            "authorization_endpoint": "ORIGIN/authorize",
            "registration_endpoint": "ORIGIN/register",
        });
        metadata.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let resource = json!({ "resource": "ORIGIN/mcp", "authorization_servers": [issuer] });
        let placed = |document: Value| -> Value {
            serde_json::from_str(&document.to_string().replace("ORIGIN", origin)).unwrap()
        };
        *self.documents.lock().unwrap() = vec![
            ("/.well-known/oauth-protected-resource/mcp", placed(resource)),
            ("/.well-known/oauth-authorization-server", placed(metadata)),
        ];
        *self.log.lock().unwrap() = Log::default();
    }
}

fn answer(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    log: &Mutex<Log>,
    documents: &Mutex<Vec<(&'static str, Value)>>,
) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let head = read_head(&mut stream)?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    log.lock().unwrap().requests.push(line.clone());
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    stream.read_exact(&mut vec![0; length.map_or(0, |length| length.parse().unwrap())])?;
    let path = line.split(' ').nth(1).unwrap_or_default();
    let document =
        documents.lock().unwrap().iter().find(|(at, _)| *at == path).map(|(_, text)| text.to_string());
    let (status, body) = document.map_or((404, String::new()), |document| (200, document));
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    stream.flush()
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A login at the resource of the public server fails: exit 2, with a text and a hint, before a person was asked.
#[track_caller]
fn assert_refused(home: &Home, address: &str, proxy: Option<&str>, text: &str) {
    for arguments in [&["login", address, "--no-open"][..], &["doctor", address]] {
        let mut command = home.command(arguments);
        command.env("SSL_CERT_FILE", tls::file("ca.pem"));
        command.envs(proxy.map(|proxy| ("HTTPS_PROXY", proxy)));
        let ran = run(&mut command);
        // What a registration endpoint is, `doctor` does not find out.
        if arguments[0] == "doctor" && text.contains("register") {
            continue;
        }
        assert_eq!(ran.code, 2, "{text}: {ran:?}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(text) && said.contains("hint: "), "{text} in {said}");
        assert!(!said.contains("open  "), "{said}");
        assert_eq!(home.names(), Vec::<String>::new());
    }
}

const PUBLIC: &str = "1.2.3.4";
const PRIVATE: &str = "10.1.2.3";
const METADATA_SERVICE: &str = "169.254.169.254";

#[test]
fn no_request_goes_to_an_address_that_is_less_public_than_the_server_that_names_it() {
    let name = "address::named_addresses::\
                no_request_goes_to_an_address_that_is_less_public_than_the_server_that_names_it";
    let hosts = format!(
        "{PUBLIC} {HOST}\n{PRIVATE} private.test\n{METADATA_SERVICE} metadata.test\n127.0.0.1 own.test\n"
    );
    if ran_in_own_network(name, &[PUBLIC, PRIVATE, METADATA_SERVICE], &hosts) {
        return;
    }
    let server = PublicServer::start();
    let port = server.port;
    let origin = format!("https://{HOST}:{port}");
    let classes = [
        ("10.1.2.3", "private"),
        ("private.test", "private"),
        ("169.254.169.254", "link-local"),
        ("metadata.test", "link-local"),
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("own.test", "loopback"),
        ("[::ffff:10.1.2.3]", "private"),
    ];
    for (host, class) in classes {
        let there = format!("https://{host}:{port}");
        let text = |url: &str| {
            format!("cannot use {url}: its address is {class}, and a server with a public address named it")
        };
        let metadata = "/.well-known/oauth-authorization-server";
        let endpoint = json!({ "registration_endpoint": format!("{there}/register") });
        let mut cases = vec![
            (there.clone(), json!({}), text(&format!("{there}{metadata}"))),
            ("ORIGIN".to_owned(), endpoint, text(&format!("{there}/register"))),
        ];
        // A name is looked up when a request is sent. No request is sent to these before the browser opens.
        if host.starts_with(|first: char| !first.is_ascii_lowercase()) || host == "localhost" {
            for member in ["token_endpoint", "authorization_endpoint", "device_authorization_endpoint"] {
                let url = format!("{there}/{member}");
                cases.push(("ORIGIN".to_owned(), json!({ member: url }), text(&url)));
            }
        }
        for (issuer, members, text) in cases {
            server.serve(&origin, &issuer, &members);
            assert_refused(&Home::new(), &format!("{origin}/mcp"), None, &text);
            let log = server.log.lock().unwrap();
            let public: IpAddr = PUBLIC.parse().unwrap();
            assert!(log.addresses.iter().all(|address| *address == public), "{text}: {:?}", log.addresses);
            assert!(log.requests.len() >= 4, "{text}: {:?}", log.requests);
        }
    }
}

/// A proxy that tells which targets it was asked for. All of them lead to `port`.
fn proxy(port: u16) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let targets = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&targets);
    // The threads end with the test's process.
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, log) = (client.unwrap(), Arc::clone(&log));
            thread::spawn(move || {
                let head = read_head(&mut client).unwrap();
                log.lock().unwrap().push(head.split(' ').nth(1).unwrap().to_owned());
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (mut from_client, mut to_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || io::copy(&mut from_client, &mut to_server));
                let _ = io::copy(&mut server, &mut client);
            });
        }
    });
    (address, targets)
}

/// The proxy looks names up, so a name counts as public. An address shows its class.
#[test]
fn a_proxy_is_not_asked_for_an_address_that_is_less_public() {
    let server = PublicServer::start();
    let (proxy, targets) = proxy(server.port);
    let origin = format!("https://{HOST}");
    for (host, class) in [
        ("10.1.2.3", "private"),
        ("169.254.169.254", "link-local"),
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("[fd00::1]", "private"),
    ] {
        let there = format!("https://{host}/x");
        for (issuer, members) in [
            (there.as_str(), json!({})),
            ("ORIGIN", json!({ "token_endpoint": there })),
            ("ORIGIN", json!({ "registration_endpoint": there })),
        ] {
            server.serve(&origin, issuer, &members);
            let text = format!("its address is {class}, and a server with a public address named it");
            assert_refused(&Home::new(), &format!("{origin}/mcp"), Some(&proxy), &text);
        }
    }
    let targets = targets.lock().unwrap();
    assert!(
        targets.len() > 10 && targets.iter().all(|target| *target == format!("{HOST}:443")),
        "{targets:?}"
    );
}
