//! `-v` reports a refresh in five lines at most: which process waited for which, which one refreshed, what the server
//! answered after how long, what was stored, and how it ended. The whole text, in which only times are replaced.

use crate::support::{
    AuthorizationServer, EXPIRED, Endpoint, Fault, Gate, Home, Process, Ran, Replay, run, server, spender,
    wait_for,
};
use std::process::Command;

/// The most lines of a story, before the failure that may follow.
const MOST_LINES: usize = 5;

fn with_lock(home: &Home, lock: &str) -> Command {
    let mut command = home.command(&["-v", "token"]);
    command.env("ONEGRANT_LOCK", lock);
    command
}

/// The lines of the story, with `T` for each number of milliseconds.
fn story(ran: &Ran) -> String {
    let mut text = String::new();
    for line in ran.stderr.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        for (number, word) in words.iter().enumerate() {
            let is_time = words.get(number + 1).is_some_and(|next| next.trim_end_matches(':') == "ms");
            assert!(!is_time || word.parse::<u64>().is_ok(), "{line}");
            text.push_str(if is_time { "T" } else { word });
            text.push(if number + 1 == words.len() { '\n' } else { ' ' });
        }
    }
    let lines = text.lines().filter(|line| line.starts_with("onegrant: "));
    assert!(lines.count() <= MOST_LINES, "{text}");
    text
}

/// One process with a held request, and one that came after it; the first one's identifier and host.
fn two(server: &AuthorizationServer, home: &Home, lock: &str, sign: &str) -> (Ran, Ran, u32, String) {
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let first = Process::start(&mut with_lock(home, lock));
    server.wait_until(|counts| counts.refreshes == 1);
    let (pid, host) = (spender(home), home.attempts()[0]["by"]["host"].as_str().unwrap().to_owned());
    let second = Process::start(&mut with_lock(home, lock));
    wait_for("the second", || second.said().contains(sign));
    gate.open();
    (first.finish(), second.finish(), pid, host)
}

fn refreshed(pid: u32, server: &AuthorizationServer, level: &str) -> String {
    let host = server.issuer().replace("http://", "");
    format!(
        "onegrant: process {pid} refreshes at {host} ({level})\n\
         onegrant: after T ms: the server gave an access token for 3600 s and a new refresh token\n\
         onegrant: the new session is stored\n\
         onegrant: done after T ms\n"
    )
}

#[test]
fn the_process_that_refreshes_and_the_one_that_waits() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let (first, second, pid, host) = two(&server, &home, "auto", "waiting");
    assert_eq!(story(&first), refreshed(pid, &server, "locked"));
    let wanted = format!(
        "onegrant: process {pid} on {host} is refreshing: waiting for it\n\
         onegrant: done after T ms: the stored token is used\n"
    );
    assert_eq!(story(&second), wanted);
    assert_eq!((first.code, second.code, &second.stdout), (0, 0, &first.stdout));
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (1, 0));
}

#[test]
fn the_winner_and_the_loser_without_a_lock() {
    let server = server(|settings| settings.replay = Replay::Reject);
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let (first, second, pid, _) = two(&server, &home, "off", "refused");
    assert_eq!(story(&first), refreshed(pid, &server, "compared"));
    let own = second.stderr.split(' ').nth(2).unwrap();
    assert_ne!(own, pid.to_string());
    let wanted = format!(
        "onegrant: process {own} refreshes at {} (compared)\n\
         onegrant: after T ms: the server refused the refresh token (invalid_grant: the refresh token was used \
         before): comparing with the store\n\
         onegrant: done after T ms: the stored token is used\n",
        server.issuer().replace("http://", "")
    );
    assert_eq!(story(&second), wanted);
    assert_eq!((first.code, second.code, &second.stdout), (0, 0, &first.stdout));
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (2, 0));
}

#[test]
fn the_process_that_fails_and_the_one_that_shares_the_failure() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    server.end_grant(&issued.refresh_token);
    let (first, second, pid, host) = two(&server, &home, "auto", "waiting");
    let failure = "onegrant: no token after T ms\n\
         onegrant: cannot refresh: the session of profile default has ended (invalid_grant: the grant has ended); a \
         login is required\n\
         hint: onegrant login\n";
    let refused = "onegrant: after T ms: the server refused the refresh token (invalid_grant: the grant has ended): \
                   comparing with the store\n";
    let host_and_port = server.issuer().replace("http://", "");
    let wanted = format!(
        "onegrant: process {pid} refreshes at {host_and_port} (locked)\n{refused}\
         onegrant: the session is cleared\n{failure}"
    );
    assert_eq!(story(&first), wanted);
    let wanted = format!("onegrant: process {pid} on {host} is refreshing: waiting for it\n{failure}");
    assert_eq!(story(&second), wanted);
    assert_eq!((first.code, second.code), (3, 3));
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (2, 0));
}

#[test]
fn the_answer_of_a_failing_server_is_quoted() {
    let server = server(|_| {});
    server.always(Endpoint::Token, Fault::status(503));
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let ran = home.run(&["-v", "token"]);
    let text = story(&ran);
    let (_, rest) = text.split_once('\n').unwrap();
    let wanted = "onegrant: after T ms: the server answered with status 503\n\
                  onegrant: no token after T ms\n\
                  onegrant: cannot refresh now: the server answered with status 503; the session is kept\n\
                  hint: try again\n";
    assert_eq!((ran.code, rest), (4, wanted));
}

/// What happens 999 times of 1,000 is no story.
#[test]
fn for_a_valid_token_nothing_is_reported() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, 3600);
    assert_eq!(run(&mut with_lock(&home, "auto")), Ran::printed(&issued.access_token));
}
