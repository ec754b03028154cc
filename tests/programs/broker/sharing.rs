//! Any number of processes behind any number of brokers of one grant cost one refresh.

use super::*;
use rustix::process::{Pid, Signal, kill_process};
use std::thread;

/// How many processes ask at once.
const MANY: usize = 50;

/// Asks in many threads, each over its own connection.
fn ask_together(clients: &[&Client], ask: impl Fn(&Client) -> Answer + Sync) -> Vec<Answer> {
    thread::scope(|scope| {
        let asking: Vec<_> =
            clients.iter().cycle().take(MANY).map(|client| scope.spawn(|| ask(client))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    })
}

#[track_caller]
fn assert_all_have(answers: &[Answer], token: &str) {
    for answer in answers {
        assert_eq!(answer.token(), token);
    }
}

#[test]
fn many_that_find_the_token_expired_cost_one_refresh() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    let mut document = home.document();
    document["session"]["expires_at"] = (now() + EXPIRED).into();
    home.write(&document);
    let answers = thread::scope(|scope| {
        let asking = scope.spawn(|| ask_together(&[&served.client], |client| client.get("/v1/token")));
        server.wait_until(|counts| counts.refreshes == 1);
        gate.open();
        asking.join().unwrap()
    });
    assert_ne!(home.tokens().access_token, issued.access_token);
    assert_all_have(&answers, &home.tokens().access_token);
    served.end_after(1, &server, &home);
}

#[test]
fn a_token_that_many_report_as_refused_is_refreshed_once() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &TCP);
    let answers = ask_together(&[&served.client], |client| client.reject(&issued.access_token));
    assert_all_have(&answers, &home.tokens().access_token);
    let late = served.client.reject(&format!("{}\n", issued.access_token));
    assert_all_have(&[late], &home.tokens().access_token);
    let another = served.client.reject("never a token of this grant");
    assert_all_have(&[another], &home.tokens().access_token);
    served.end_after(1, &server, &home);
}

#[test]
fn several_brokers_and_processes_of_one_grant_cost_one_refresh() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let brokers = [Served::start(&home, &UNIX), Served::start(&home, &TCP)];
    home.write(&document(&server, &home.tokens(), EXPIRED));
    let clients = [&brokers[0].client, &brokers[1].client];
    let process = home.start(&["token"]);
    let answers = ask_together(&clients, |client| client.get("/v1/token"));
    assert_eq!(process.finish().token(), home.tokens().access_token);
    assert_all_have(&answers, &home.tokens().access_token);
    for served in brokers {
        served.end(&home);
    }
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
}

#[test]
fn a_token_that_still_works_is_answered_while_another_process_refreshes() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    home.write(&document(&server, &issued, 20));
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    thread::scope(|scope| {
        let first = scope.spawn(|| served.client.get("/v1/token"));
        server.wait_until(|counts| counts.refreshes == 1);
        assert_all_have(
            &ask_together(&[&served.client], |client| client.get("/v1/token")),
            &issued.access_token,
        );
        gate.open();
        assert_eq!(first.join().unwrap().token(), home.tokens().access_token);
    });
    served.end_after(1, &server, &home);
}

/// git asks for the profile first, to know whether it may have the token.
#[test]
fn what_needs_no_refresh_is_answered_while_the_server_does_not_answer() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    let mut document = document(&server, &issued, 900);
    document["session"]["obtained_at"] = (now() - 900).into();
    home.write(&document);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    let client = &served.client;
    thread::scope(|scope| {
        let asking: Vec<_> = (1..=8)
            .map(|number| scope.spawn(move || client.get(&format!("/v1/token?min_ttl={}", 1000 + number))))
            .collect();
        server.wait_until(|counts| counts.refreshes == 1);
        for _ in 0..2 {
            assert_eq!(client.get("/v1/profile").json()["state"], "valid");
            assert_eq!(client.get("/v1/token").token(), issued.access_token);
        }
        gate.open();
        for asking in asking {
            assert_eq!(asking.join().unwrap().token(), home.tokens().access_token);
        }
    });
    served.end_after(1, &server, &home);
}

#[test]
fn a_broker_that_is_killed_in_the_middle_of_a_refresh_loses_nothing() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    home.write(&document(&server, &issued, EXPIRED));
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    let client = served.client.clone();
    let asking = thread::spawn(move || {
        let mut connection = client.connect();
        std::io::Write::write_all(
            &mut connection,
            format!("GET /v1/token HTTP/1.1\r\n{}\r\n", client.fields()).as_bytes(),
        )
        .unwrap();
        connection.answer().is_none()
    });
    server.wait_until(|counts| counts.refreshes == 1);
    kill_process(Pid::from_raw(i32::try_from(served.companion).unwrap()).unwrap(), Signal::KILL).unwrap();
    assert!(asking.join().unwrap(), "there is no answer");
    gate.open();
    // The worker stores what the server answered.
    wait_for("the new token", || home.tokens().access_token != issued.access_token);
    assert_eq!(home.run(&["token"]).token(), home.tokens().access_token);
    // The socket that it left is replaced.
    let again = Served::start(&home, &["--serve", "unix:sock", "--min-ttl", "1"]);
    assert_eq!(again.client.get("/v1/token").token(), home.tokens().access_token);
    again.end(&home);
    drop(served);
    assert_eq!((server.counts().refreshes, server.counts().replays, server.counts().unexpected), (1, 0, 0));
}

/// Whether the first thread of the process waits for something.
fn is_asleep(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('S'))
}

#[test]
fn the_command_that_ends_during_a_refresh_leaves_a_whole_session() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &UNIX);
    home.write(&document(&server, &issued, EXPIRED));
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    thread::scope(|scope| {
        let asking = scope.spawn(|| served.client.get("/v1/token"));
        server.wait_until(|counts| counts.refreshes == 1);
        served.process.signal(Signal::KILL);
        wait_for("the end of the socket", || !home.root.join("sock").exists());
        assert!(is_running(served.companion), "it finishes what it does");
        wait_for("a companion that uses no processor time", || is_asleep(served.companion));
        gate.open();
        assert_eq!(asking.join().unwrap().token(), home.tokens().access_token);
    });
    wait_for("the end of the companion", || !is_running(served.companion));
    assert_ne!(home.tokens().access_token, issued.access_token);
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
}

/// With the process that asked, and not with the companion's parent.
#[test]
fn the_history_names_the_process_that_asked() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    for options in [UNIX, TCP] {
        let served = Served::start(&home, &options);
        served.client.reject(&home.tokens().access_token).token();
        served.end(&home);
    }
    assert_ne!(home.tokens().access_token, issued.access_token);
    let ran = home.run(&["status", "--history", "--json"]);
    let history: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let entries = history["history"].as_array().unwrap();
    let user = rustix::process::geteuid().as_raw();
    let me = std::fs::read_to_string("/proc/self/comm").unwrap();
    let wanted = serde_json::json!({ "pid": std::process::id(), "user": user, "program": me.trim_end() });
    assert_eq!(
        (&entries[0]["asker"], &entries[0]["program"]),
        (&wanted, &serde_json::Value::Null),
        "{ran:?}"
    );
    let wanted = serde_json::json!({ "pid": null, "user": user, "program": null });
    assert_eq!((entries.len(), &entries[1]["asker"]), (2, &wanted), "loopback tells the user alone");
    let lines = home.run(&["status", "--history"]).stdout;
    let words =
        format!("for {} (process {} of user {user}) through a broker", me.trim_end(), std::process::id());
    assert!(lines.contains(&words), "{lines}");
    assert!(lines.contains(&format!("for a program (a process of user {user}) through a broker")), "{lines}");
}
