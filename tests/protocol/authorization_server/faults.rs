//! Every fault acts, or does not, as its documentation says, and shows the client what it is named after.

use super::client::{converse, parse, refresh, refresh_request};
use servers::authorization_server::{AuthorizationServer, Endpoint, Fault, Gate, Issued, Response, Settings};
use std::io;
use std::thread;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(1);

fn server_and_grant() -> (AuthorizationServer, Issued) {
    let server = AuthorizationServer::start(Settings::default());
    let issued = server.issue_grant();
    (server, issued)
}

/// What the client saw of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A whole one, of this status.
    Whole(u16),
    /// One that ends before its announced length, after this many bytes of body.
    Part(usize),
    /// Bytes that are no HTTP.
    Garbage,
    /// The end of the connection.
    End,
    /// The reset of the connection.
    Reset,
}

fn seen(outcome: io::Result<Vec<u8>>) -> Seen {
    let bytes = match outcome {
        Ok(bytes) if bytes.is_empty() => return Seen::End,
        Ok(bytes) if !bytes.starts_with(b"HTTP/1.1 ") => return Seen::Garbage,
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Seen::Reset,
        Err(error) => panic!("{error}"),
    };
    let answer = parse(&bytes);
    let announced: usize = answer.header("content-length").unwrap().parse().unwrap();
    if answer.body.len() == announced { Seen::Whole(answer.status) } else { Seen::Part(answer.body.len()) }
}

#[test]
#[rustfmt::skip]
fn each_fault_acts_and_answers_as_documented() {
    let unavailable = Response::new(503).header("retry-after", "1");
    // (fault, whether it acts, what the client sees)
    let cases = [
        (Fault::Delay(SHORT),                       true,  Seen::Whole(200)),
        (Fault::DelayAnswer(SHORT),                 true,  Seen::Whole(200)),
        (Fault::DropBefore,                         false, Seen::End),
        (Fault::DropAfter,                          true,  Seen::End),
        (Fault::ResetBefore,                        false, Seen::Reset),
        (Fault::ResetAfter,                         true,  Seen::Reset),
        (Fault::Truncate(10),                       true,  Seen::Part(10)),
        (Fault::DripBody { bytes: 50, every: SHORT }, true, Seen::Whole(200)),
        (Fault::Huge(100_000),                      true,  Seen::Whole(200)),
        (Fault::status(429),                        false, Seen::Whole(429)),
        (Fault::Status(unavailable.clone()),        false, Seen::Whole(503)),
        (Fault::StatusAfter(unavailable),           true,  Seen::Whole(503)),
        (Fault::Raw(b"SSH-2.0-server\r\n".into()),  false, Seen::Garbage),
    ];
    for (fault, acts, wanted) in cases {
        let (server, issued) = server_and_grant();
        server.script(Endpoint::Token, [fault.clone()]);
        let request = refresh_request(&server, &issued.refresh_token);
        assert_eq!(seen(converse(&server, &request)), wanted, "{fault:?}");
        assert_eq!(fault.acts(), acts, "{fault:?}");
        assert_eq!(server.is_alive(&issued.refresh_token), !acts, "{fault:?}");
        let counts = server.counts();
        assert_eq!((counts.refreshes, counts.rotations), (1, u64::from(acts)), "{fault:?}");
    }
}

#[test]
fn a_request_without_a_body_is_reset_as_well() {
    let (server, _) = server_and_grant();
    server.script(Endpoint::Userinfo, [Fault::ResetBefore]);
    assert_eq!(seen(converse(&server, "GET /userinfo HTTP/1.1\r\nhost: as\r\n\r\n")), Seen::Reset);
}

#[test]
fn a_stalled_request_is_never_answered() {
    for (fault, acts) in [(Fault::StallBefore, false), (Fault::StallAfter, true)] {
        let (server, issued) = server_and_grant();
        server.script(Endpoint::Token, [fault]);
        thread::scope(|scope| {
            let client = scope.spawn(|| converse(&server, &refresh_request(&server, &issued.refresh_token)));
            server.wait_until(|counts| (counts.refreshes, counts.rotations) == (1, u64::from(acts)));
            assert_eq!(server.is_alive(&issued.refresh_token), !acts);
            assert!(!client.is_finished());
            server.stop();
            assert!(client.join().unwrap().is_ok_and(|bytes| bytes.is_empty()));
        });
    }
}

#[test]
fn a_gate_holds_a_request_before_it_acts() {
    let (server, issued) = server_and_grant();
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    thread::scope(|scope| {
        let client = scope.spawn(|| refresh(&server, &issued.refresh_token));
        server.wait_until(|counts| counts.refreshes == 1);
        assert!(server.is_alive(&issued.refresh_token));
        gate.open();
        assert_eq!(client.join().unwrap().status, 200);
    });
    assert!(!server.is_alive(&issued.refresh_token));
}

#[test]
fn a_gate_holds_an_answer_after_it_acted() {
    let (server, issued) = server_and_grant();
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    thread::scope(|scope| {
        let client = scope.spawn(|| refresh(&server, &issued.refresh_token));
        server.wait_until(|counts| counts.rotations == 1);
        assert!(!server.is_alive(&issued.refresh_token) && !client.is_finished());
        gate.open();
        assert_eq!(client.join().unwrap().status, 200);
    });
}

#[test]
fn a_server_that_stops_closes_every_connection() {
    let (server, issued) = server_and_grant();
    let gate = Gate::closed();
    let faults = [Fault::Hold(gate.clone()), Fault::StallBefore, Fault::Delay(Duration::from_secs(3600))];
    server.script(Endpoint::Token, faults);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| drop(converse(&server, &refresh_request(&server, &issued.refresh_token))));
        }
        server.wait_until(|counts| counts.refreshes == 3);
        server.stop();
    });
    assert!(gate.is_open());
}

#[test]
fn a_script_is_used_up_in_order_and_then_the_rule_holds() {
    let (server, issued) = server_and_grant();
    server.script(Endpoint::Token, [Fault::status(500), Fault::error(400, "slow_down")]);
    server.script(Endpoint::Token, [Fault::status(502)]);
    server.always(Endpoint::Token, Fault::status(503));
    let statuses = [(); 5].map(|()| refresh(&server, &issued.refresh_token).status);
    assert_eq!(statuses, [500, 400, 502, 503, 503]);
    assert_eq!(super::client::get(&server, "/userinfo", "").status, 401, "other endpoints are spared");
    server.script(Endpoint::Token, [Fault::status(500)]);
    server.clear_faults();
    assert_eq!(refresh(&server, &issued.refresh_token).status, 200);
}

#[test]
fn the_date_header_goes_by_a_clock_that_can_be_wrong() {
    let (server, _) = server_and_grant();
    let date = || {
        let answer = super::client::get(&server, "/userinfo", "");
        httpdate::parse_http_date(answer.header("date").unwrap()).unwrap()
    };
    let right = date();
    server.set_clock_offset_seconds(3600);
    assert!(date() >= right + Duration::from_secs(3600));
    server.set_clock_offset_seconds(-7200);
    assert!(date() < right);
}
