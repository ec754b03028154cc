//! Addresses that a document names: a client connects to no address beyond its limit, whichever name the address has. The
//! network is one of the test's own, because a public address has to be reached.

use crate::support::*;
use onegrant::environment::NetworkSettings;
use onegrant::error::Kind;
use onegrant::http::{HttpClient, HttpOutcome};
use onegrant::protocol::Request;
use onegrant::protocol::reach::Reach;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// The addresses of this machine in the test's network, beside loopback, and the names of all of them.
const PUBLIC: &str = "1.2.3.4";
const PRIVATE: &str = "10.1.2.3";
const METADATA_SERVICE: &str = "169.254.169.254";
const HOSTS: &str = "1.2.3.4 public.test\n10.1.2.3 private.test\n169.254.169.254 metadata.test\n\
                     127.0.0.1 loopback.test\n10.1.2.3 both.test\n1.2.3.4 both.test\n";

/// Runs the test in a process with these addresses.
#[track_caller]
fn is_run(name: &str) -> bool {
    ran_in_own_network(name, &[PUBLIC, PRIVATE, METADATA_SERVICE], HOSTS)
}

/// A server that hangs up, at every address of this machine. It reports the address of each connection first.
fn listener() -> (u16, Receiver<IpAddr>) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, connections) = mpsc::channel();
    // The thread ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            sender.send(stream.unwrap().local_addr().unwrap().ip()).unwrap();
        }
    });
    (port, connections)
}

#[test]
fn a_name_is_reached_at_those_of_its_addresses_that_are_within_the_limit() {
    if is_run("named_addresses::a_name_is_reached_at_those_of_its_addresses_that_are_within_the_limit") {
        return;
    }
    let (port, connections) = listener();
    let client = HttpClient::new(&NetworkSettings::default());
    // (limit, host, the address that is connected to)
    let cases = [
        (Reach::Public, "public.test", Some(PUBLIC)),
        (Reach::Public, "both.test", Some(PUBLIC)),
        (Reach::Public, "private.test", None),
        (Reach::Public, "metadata.test", None),
        (Reach::Public, "loopback.test", None),
        (Reach::Private, "public.test", Some(PUBLIC)),
        (Reach::Private, "private.test", Some(PRIVATE)),
        (Reach::Private, "metadata.test", None),
        (Reach::LinkLocal, "metadata.test", Some(METADATA_SERVICE)),
        (Reach::LinkLocal, "loopback.test", None),
        (Reach::Loopback, "metadata.test", Some(METADATA_SERVICE)),
        (Reach::Loopback, "loopback.test", Some("127.0.0.1")),
    ];
    for (limit, host, wanted) in cases {
        let case = format!("{host} for {limit}");
        let limited = client.limited_to(limit);
        let url = format!("https://{host}:{port}/document");
        let outcome = limited.send(&Request::get(&url), LIMIT).unwrap();
        // Proves that there was no other connection before it.
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        let connected: Vec<IpAddr> = connections.iter().take(1 + usize::from(wanted.is_some())).collect();
        let last: IpAddr = "127.0.0.1".parse().unwrap();
        let wanted: Option<IpAddr> = wanted.map(|wanted| wanted.parse().unwrap());
        assert_eq!(connected, wanted.into_iter().chain([last]).collect::<Vec<_>>(), "{case}");
        match wanted {
            Some(address) => {
                assert!(matches!(outcome, HttpOutcome::Lost(_)), "{case}: {outcome:?}");
                assert_eq!(limited.reached(), Reach::of(address), "{case}");
            }
            None => {
                let failure = outcome.response().unwrap_err();
                let start = format!("cannot use {url}: its address is ");
                assert_eq!((failure.kind, failure.hint), (Kind::Usage, None), "{case}");
                assert!(failure.message.starts_with(&start), "{case}: {}", failure.message);
                assert_eq!(limited.reached(), limit, "{case}");
            }
        }
    }

    let outcome = client.send(&Request::get(&format!("https://private.test:{port}/")), LIMIT).unwrap();
    assert!(matches!(outcome, HttpOutcome::Lost(_)), "{outcome:?}");
    assert_eq!(connections.recv().unwrap().to_string(), PRIVATE, "a person may name any address");
}

/// The owner of a name can add the address of this machine to those of a server of its own.
#[test]
fn the_address_that_answered_decides_what_its_documents_may_name() {
    if is_run("named_addresses::the_address_that_answered_decides_what_its_documents_may_name") {
        return;
    }
    let (port, connections) = listener();
    let named = HttpClient::new(&NetworkSettings::default()).limited_to(Reach::Loopback);
    assert_eq!(named.reached(), Reach::Loopback, "nothing is known yet");
    let mut least = Reach::Loopback;
    for host in ["loopback.test", "both.test", "private.test", "public.test", "loopback.test"] {
        let _ = named.send(&Request::get(&format!("https://{host}:{port}/document")), LIMIT).unwrap();
        least = least.min(Reach::of(connections.recv().unwrap()));
        assert_eq!(named.reached(), least, "{host}");
    }
    assert_eq!(least, Reach::Public);
}
