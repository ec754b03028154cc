//! The broker store: a grant on one side of a socket, the processes that use it on the other. Nothing is written through it, no
//! refresh token comes through it, and whatever the processes do costs one refresh.

use crate::support::broker::{listening, serve};
use crate::support::*;
use onegrant::error::Kind;
use onegrant::lock::Locked;
use onegrant::session::{LockMode, Revision};
use onegrant::store::broker::BrokerStore;
use onegrant::store::{NewRecord, RecordName, Store, WriteResult};
use onegrant::store_address::{BrokerAddress, StoreAddress};
use onegrant::system::SystemClock;
use rustix::process::Signal;
use serde_json::{Value, json};
use servers::authorization_server::{AuthorizationServer, Endpoint, Fault};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A host that the profile names.
const HOST: &str = "git.example";

/// A grant, and a broker that serves it until this is dropped.
struct Broker {
    home: Home,
    socket: PathBuf,
    serving: Process,
}

impl Broker {
    fn start(home: Home) -> Self {
        let socket = home.root.join("broker");
        let serving = serve(&home, &socket);
        Self { home, socket, serving }
    }

    fn with_grant(server: &AuthorizationServer, left: i64) -> Self {
        let (home, _) = Home::with_grant_for(server, left, &[HOST]);
        Self::start(home)
    }

    /// The program on the other side: nothing in its environment but the address of the broker.
    fn command(&self, arguments: &[&str]) -> Command {
        inside(&self.home, &self.socket, arguments)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// The same with this text on stdin.
    fn run_with(&self, arguments: &[&str], stdin: &str) -> Ran {
        let path = self.home.root.join(format!("stdin.{}", arguments.join("-")));
        std::fs::write(&path, stdin).unwrap();
        run(self.command(arguments).stdin(std::fs::File::open(path).unwrap()))
    }

    /// The store, as a process on the other side opens it.
    fn store(&self) -> BrokerStore {
        BrokerStore::new(&BrokerAddress::Unix(self.socket.clone()), LIMIT, SystemClock::start())
    }
}

fn inside(home: &Home, socket: &Path, arguments: &[&str]) -> Command {
    let mut command = onegrant(arguments);
    let store = StoreAddress::Broker(BrokerAddress::Unix(socket.to_owned())).text();
    command.env("ONEGRANT_STORE", store).current_dir(&home.root);
    command
}

#[test]
fn the_document_of_a_broker_has_no_credential() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let mut document = broker.home.document();
    document["client_secret"] = json!("s3cret-of-the-client");
    broker.home.write(&document);
    let snapshot = broker.store().read().unwrap().unwrap();
    let text = String::from_utf8(snapshot.bytes).unwrap();
    let Issued { access_token, refresh_token } = broker.home.tokens();
    for secret in [&*access_token, &refresh_token, "s3cret-of-the-client"] {
        assert!(!text.contains(secret), "{text}");
    }
    let read: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&read["git_hosts"], &read["issuer"]), (&json!([HOST]), &document["issuer"]));
    assert_eq!(broker.store().read().unwrap().unwrap().revision, snapshot.revision);
    document["git_hosts"] = json!(["other.example"]);
    broker.home.write(&document);
    assert_ne!(broker.store().read().unwrap().unwrap().revision, snapshot.revision);
    assert_eq!(server.counts().token_requests, 0);
}

#[test]
fn nothing_is_written_through_a_broker() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let store = broker.store();
    let revision = store.read().unwrap().unwrap().revision;
    let (before, names) = (broker.home.bytes(), broker.home.names());
    let name = RecordName { key: "key", number: 1 };
    for expected in [&revision, &Revision("other".to_owned())] {
        for result in [store.replace(expected, b"{}\n", None), store.remove(expected, b"{}\n")] {
            assert!(
                matches!(&result, WriteResult::Failed { failure, kept: None } if failure.kind == Kind::Usage)
            );
        }
        let record = NewRecord { name, bytes: b"{}", reserve: 1, exclusive: true, expected, outdated: &[] };
        assert_eq!(store.create_record(&record).unwrap_err().kind, Kind::Usage);
        assert_eq!(store.adopt(name, expected).unwrap_err().kind, Kind::Usage);
    }
    assert!(
        matches!(store.lock(LockMode::Try, LIMIT), Locked::Failed(failure) if failure.kind == Kind::Usage)
    );
    assert_eq!(store.records("key").unwrap(), []);
    assert_eq!(store.rewrite_record(name, b"", b"", true).unwrap_err().kind, Kind::Usage);
    assert_eq!(store.remove_record(name, b"").unwrap_err().kind, Kind::Usage);
    assert_eq!((broker.home.bytes(), broker.home.names()), (before, names));
}

#[test]
fn doctor_says_why_a_socket_cannot_be_reached() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let Broker { home, socket, serving: _serving } = &broker;
    fs::set_permissions(socket, Permissions::from_mode(0o000)).unwrap();
    let doctor = run(&mut unprivileged(&inside(home, socket, &["doctor"])));
    let why = "has mode 0000, and this process runs as user ";
    let hint = "\n      hint: docker run --user ";
    assert!(doctor.stdout.contains(why) && doctor.stdout.contains(hint), "{doctor:?}");
    let absent = run(&mut inside(home, &home.root.join("absent"), &["doctor"]));
    let why = "there is no socket that this process can see at ";
    let hint = "\n      hint: where the grant is, run onegrant exec --serve, ";
    assert!(absent.stdout.contains(why) && absent.stdout.contains(hint), "{absent:?}");
    let other = run(onegrant(&["doctor"]).env("ONEGRANT_STORE", format!("broker:{}", server.issuer())));
    let why = "the broker does not answer as a broker does: status 404";
    assert!(other.stdout.contains(why) && other.stdout.contains(hint), "{other:?}");
    assert_eq!((doctor.code, absent.code, other.code), (4, 4, 2));
}

#[test]
fn a_broker_that_has_gone_is_not_an_empty_store() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let Broker { home, socket, serving } = broker;
    let token = home.tokens().access_token;
    serving.signal(Signal::KILL);
    assert_eq!(serving.finish().code, -9);
    for arguments in [&["token"][..], &["status"], &["refresh"], &["doctor"]] {
        let ran = run(&mut inside(&home, &socket, arguments));
        assert_eq!(ran.code, 4, "{arguments:?}: {ran:?}");
    }
    let ran = run(&mut inside(&home, &socket, &["token"]));
    let wanted =
        format!("onegrant: no answer from the broker: cannot connect to unix:{}: ", socket.display());
    assert!(ran.stderr.starts_with(&wanted) && ran.stderr.ends_with("\nhint: onegrant doctor\n"), "{ran:?}");
    let store = BrokerStore::new(&BrokerAddress::Unix(socket.clone()), LIMIT, SystemClock::start());
    assert_eq!(store.read().unwrap_err().kind, Kind::Temporary);

    // The next one takes the place that the killed one left.
    let _serving = serve(&home, &socket);
    assert_eq!(run(&mut inside(&home, &socket, &["token"])), Ran::printed(&token));
}

#[test]
fn each_command_works_and_the_refresh_token_stays_on_the_other_side() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let first = broker.home.tokens();
    let token = first.access_token.as_str();
    assert_eq!(broker.run(&["token"]), Ran::printed(token));
    let git = broker.run_with(&["git-credential", "get"], &format!("protocol=https\nhost={HOST}\n\n"));
    let docker = broker.run_with(&["helper", "docker", "get"], HOST);
    let cargo = broker.run_with(
        &["helper", "cargo"],
        &format!("{}\n", json!({"v": 1, "kind": "get", "operation": "read", "registry": {"index-url": format!("sparse+https://{HOST}/")}})),
    );
    let json = broker.run(&["token", "--format", "json"]);
    let netrc = broker.run(&["token", "--format", "netrc"]);
    let exec = broker.run(&["exec", "--", "/bin/sh", "-c", "printf %s \"$ACCESS_TOKEN\""]);
    for ran in [&git, &docker, &cargo, &json, &netrc, &exec] {
        assert!(ran.code == 0 && ran.stdout.contains(token), "{ran:?}");
        assert!(!ran.stdout.contains(&first.refresh_token), "{ran:?}");
    }
    let outside = broker.home.run(&["token", "--format", "json"]);
    assert_eq!(json, outside, "both sides print the same");
    assert_eq!(broker.run(&["profiles"]).stdout, "default\n");
    let status: Value = serde_json::from_str(&broker.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!((&status["state"], &status["level"]), (&json!("valid"), &json!("locked")));
    let doctor = broker.run(&["doctor"]);
    assert!(doctor.code == 0 && doctor.stdout.contains(" serves profile default of "), "{doctor:?}");
    assert_eq!(server.counts().token_requests, 0);

    let forced = broker.run(&["refresh"]);
    let second = broker.home.tokens();
    assert_eq!(forced, Ran::printed(&second.access_token));
    assert_ne!(second, first);
    // The refused token is not the stored one any more: no request.
    assert_eq!(broker.run_with(&["refresh", "--rejected"], token), Ran::printed(&second.access_token));
    assert_eq!(server.counts().refreshes, 1);
}

#[test]
fn what_git_refused_is_refreshed_for_all() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let refused = broker.home.tokens().access_token;
    let erase = format!("protocol=https\nhost={HOST}\npassword={refused}\n\n");
    assert_eq!(broker.run_with(&["git-credential", "erase"], &erase).code, 0);
    let ran = broker.run_with(&["git-credential", "get"], &format!("protocol=https\nhost={HOST}\n\n"));
    assert!(
        ran.stdout.contains(&broker.home.tokens().access_token) && !ran.stdout.contains(&refused),
        "{ran:?}"
    );
    assert_eq!(server.counts().refreshes, 1);
}

#[test]
fn what_changes_the_grant_belongs_to_the_other_side() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let before = broker.home.bytes();
    let to = format!("broker:unix:{}", broker.socket.display());
    let said = "onegrant: the grant belongs to the other side of the broker\n\
                hint: where the grant is, run this without broker: in --store and ONEGRANT_STORE\n";
    for arguments in [
        &["login", "https://as.example"][..],
        &["logout"],
        &["logout", "--local"],
        &["migrate", "--to", "file:/tmp"],
        &["status", "--history"],
    ] {
        assert_eq!(broker.run(arguments), Ran::failed(2, said), "{arguments:?}");
    }
    assert_eq!(broker.home.run(&["migrate", "--to", &to]), Ran::failed(2, said));
    // git is set up on this side, for hosts that the profile names.
    let set_up = |host| run(broker.command(&["git-setup", host]).env("HOME", &broker.home.root));
    let said = "onegrant: profile default does not name other.example: the grant belongs to the other side of the broker\n\
                hint: where the grant is, run onegrant git-setup other.example\n";
    assert_eq!(set_up("other.example"), Ran::failed(2, said));
    assert!(!broker.home.root.join(".gitconfig").exists());
    assert_eq!(set_up(HOST).code, 0);
    assert!(broker.home.root.join(".gitconfig").exists());
    assert_eq!((broker.home.bytes(), server.counts().token_requests), (before, 0));
}

#[test]
fn git_is_set_up_for_the_profile_that_the_broker_serves() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant_for(&server, VALID, &[HOST]);
    fs::rename(home.document_path(), home.document_path().with_file_name("work.json")).unwrap();
    let socket = home.root.join("broker");
    let command = ["--profile", "work", "serve", "--socket", socket.to_str().unwrap()];
    let _serving = listening(&mut home.command(&command));
    let set_up = run(inside(&home, &socket, &["git-setup", HOST]).env("HOME", &home.root));
    assert!(set_up.code == 0 && set_up.stdout.contains(" --profile work git-credential"), "{set_up:?}");
    let other = run(&mut inside(&home, &socket, &["git-setup", "other.example"]));
    assert!(other.stderr.ends_with("run onegrant --profile work git-setup other.example\n"), "{other:?}");
    let named = run(&mut inside(&home, &socket, &["--profile", "default", "git-setup", HOST]));
    assert_eq!((named.code, named.stdout.as_str()), (2, ""), "{named:?}");
}

#[test]
fn any_number_of_processes_behind_two_brokers_cost_one_refresh() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, EXPIRED);
    let second = broker.home.root.join("second");
    let _serving = serve(&broker.home, &second);
    let commands = |arguments: &'static [&'static str]| {
        let socket = |number: usize| if number.is_multiple_of(2) { &broker.socket } else { &second };
        (0..50).map(|number| inside(&broker.home, socket(number), arguments)).collect()
    };
    let ran = run_together(commands(&["token"]));
    let token = broker.home.tokens().access_token;
    assert_all(&ran, &Ran::printed(&token));
    assert_eq!(server.counts().refreshes, 1);

    let stdin = broker.home.root.join("refused");
    std::fs::write(&stdin, &token).unwrap();
    let ran = start_together(commands(&["refresh", "--rejected"]), &stdin).finish();
    assert_all(&ran, &Ran::printed(&broker.home.tokens().access_token));
    assert_eq!(server.counts().refreshes, 2);
}

#[test]
fn a_dead_grant_says_that_the_login_is_on_the_other_side() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, EXPIRED);
    server.end_grant(&broker.home.tokens().refresh_token);
    let ran = broker.run(&["token"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert!(ran.stderr.ends_with("\nhint: where the grant is, run onegrant login\n"), "{ran:?}");
    let requests = server.counts().token_requests;
    for arguments in [&["status"][..], &["doctor"], &["token"]] {
        let ran = broker.run(arguments);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.stderr.ends_with("\nhint: where the grant is, run onegrant login\n"), "{ran:?}");
    }
    let get = broker.run_with(&["git-credential", "get"], &format!("protocol=https\nhost={HOST}\n\n"));
    assert_eq!((get.code, get.stdout.as_str()), (3, "quit=1\n"));
    assert_eq!(server.counts().token_requests, requests, "nothing more is sent for a dead grant");

    std::fs::remove_file(broker.home.document_path()).unwrap();
    let ran = broker.run(&["status"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.stderr.ends_with("\nhint: where the grant is, run onegrant login https://ADDRESS\n"),
        "{ran:?}"
    );

    // The login is for the profile that the broker serves.
    let socket = broker.home.root.join("second");
    let command = ["--profile", "work", "serve", "--socket", socket.to_str().unwrap()];
    let _serving = listening(&mut broker.home.command(&command));
    for arguments in [&["status"][..], &["doctor"], &["token"], &["git-setup", HOST]] {
        let ran = run(&mut inside(&broker.home, &socket, arguments));
        assert_eq!(ran.code, 3, "{ran:?}");
        let hint = "\nhint: where the grant is, run onegrant --profile work login https://ADDRESS\n";
        assert!(ran.stderr.ends_with(hint), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_broker_of_a_profile_without_a_grant_names_the_only_other_one() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, VALID);
    fs::rename(home.document_path(), home.document_path().with_file_name("work.json")).unwrap();
    let broker = Broker::start(home);
    for arguments in [&["token"][..], &["status"], &["doctor"], &["whoami"]] {
        let ran = broker.run(arguments);
        let hint = "\nhint: where the grant is, run onegrant --profile work serve --socket PATH\n";
        assert!(ran.code == 3 && ran.stderr.ends_with(hint), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_a_temporary_failure_on_both_sides() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, EXPIRED);
    server.script(Endpoint::Token, [Fault::status(503)]);
    let ran = broker.run(&["token"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(broker.run(&["token"]), Ran::printed(&broker.home.tokens().access_token));
}

#[test]
fn a_required_lock_is_decided_by_the_level_of_the_other_side() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let token = broker.home.tokens().access_token;
    let required =
        |socket: &Path| run(inside(&broker.home, socket, &["token"]).env("ONEGRANT_LOCK", "require"));
    assert_eq!(required(&broker.socket), Ran::printed(&token));
    let compared = broker.home.root.join("compared");
    let mut command = broker.home.command(&["serve", "--socket", compared.to_str().unwrap()]);
    let _serving = listening(command.env("ONEGRANT_LOCK", "off"));
    let ran = required(&compared);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(
        ran.stderr.contains("ONEGRANT_LOCK=require: the level of the broker's store is \"compared\""),
        "{ran:?}"
    );
}

#[test]
fn the_profile_and_the_resource_are_those_that_the_broker_serves() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, VALID);
    let mut document = broker.home.document();
    document["resource"] = json!(["https://api.example/v1"]);
    broker.home.write(&document);
    let token = Ran::printed(&broker.home.tokens().access_token);
    assert_eq!(broker.run(&["--profile", "default", "token"]), token);
    assert_eq!(broker.run(&["--for", "https://api.example/v1/users", "token"]), token);
    let said = "onegrant: the broker has no profile work: it serves profile default\nhint: onegrant --profile default token\n";
    for command in ["token", "status"] {
        assert_eq!(broker.run(&["--profile", "work", command]), Ran::failed(2, said));
    }
    assert_eq!(broker.run(&["--profile", "work", "doctor"]).code, 2);
    let said = "onegrant: no profile is for https://other.example/\n\
                hint: where the grant is, run onegrant login https://other.example/   # then serve this profile\n";
    assert_eq!(broker.run(&["--for", "https://other.example/", "token"]), Ran::failed(3, said));
}

/// Hints are commands, and people run them as they stand.
#[test]
fn the_name_of_a_profile_that_a_broker_makes_up_gets_into_no_hint() {
    let home = Home::new();
    let socket = home.root.join("liar");
    let listener = UnixListener::bind(&socket).unwrap();
    let name = "x; touch ran #";
    let body = json!({
        "profile": name, "state": "login_required", "access_token": "t", "token_type": "Bearer", "expires_at": now() + 3600,
    });
    let (head, body) = (format!("HTTP/1.1 200 OK\r\nOnegrant-Profile: {name}\r\n"), body.to_string());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).unwrap();
            }
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            stream.into_inner().write_all(answer.as_bytes()).unwrap();
        }
    });
    for (arguments, hint) in [
        (&["--profile", "work", "token"][..], "onegrant --profile work doctor"),
        (&["token"], "onegrant doctor"),
        (&["status"], "onegrant doctor"),
        (&["profiles"], "onegrant doctor"),
    ] {
        let why = "the broker does not answer as a broker does: no profile can have the name that it says";
        let wanted = Ran::failed(2, format!("onegrant: {why}\nhint: {hint}\n"));
        assert_eq!(run(&mut inside(&home, &socket, arguments)), wanted, "{arguments:?}");
    }
    let ran = run(&mut inside(&home, &socket, &["doctor"]));
    assert!(ran.code == 2 && !ran.stdout.contains(name) && !ran.stderr.contains(name), "{ran:?}");
}

/// As a file with a newline at its end gives it.
#[test]
fn a_key_that_fits_into_no_header_is_a_mistake_in_the_configuration() {
    let server = server(|_| {});
    let broker = Broker::with_grant(&server, 3600);
    for key in ["0123abcd\n", "0123abcd\r\nx: y", "0123abcd\u{e9}"] {
        for options in [&["token"][..], &["-vv", "status"]] {
            let ran = run(broker.command(options).env("ONEGRANT_BROKER_KEY", key));
            let why = "onegrant: the key in ONEGRANT_BROKER_KEY has a character that no key has, such as a newline\n";
            assert!(ran.code == 2 && ran.stderr.contains(why) && !ran.stderr.contains("0123abcd"), "{ran:?}");
        }
    }
    assert_eq!(server.counts(), Default::default());
}
