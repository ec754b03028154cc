//! Rotation, and what a spent refresh token meets.

use super::client::{Answer, post, refresh};
use servers::authorization_server::{AuthorizationServer, Counts, Endpoint, Issued, Replay, Settings};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn server_with(replay: Replay) -> (AuthorizationServer, Issued) {
    let server = AuthorizationServer::start(Settings { replay, ..Settings::default() });
    let issued = server.issue_grant();
    (server, issued)
}

fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".to_owned())
}

#[test]
fn a_refresh_brings_new_tokens_and_spends_the_old_one() {
    let (server, issued) = server_with(Replay::Reject);
    let answer = refresh(&server, &issued.refresh_token);
    let newest = answer.member("refresh_token");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["expires_in"], 3600);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(server.access_token_is_valid(&answer.member("access_token")));
    assert!(server.is_alive(&newest) && !server.is_alive(&issued.refresh_token));
    assert_eq!(server.newest_refresh_token(&issued.refresh_token), Some(newest));
    assert_eq!(
        server.counts(),
        Counts { token_requests: 1, refreshes: 1, rotations: 1, ..Counts::default() }
    );
}

#[test]
fn a_replay_is_rejected_and_the_family_lives() {
    let (server, issued) = server_with(Replay::Reject);
    let newest = server.rotate(&issued.refresh_token).unwrap();
    assert_eq!(refresh(&server, &issued.refresh_token).error(), invalid_grant());
    assert!(server.is_alive(&newest.refresh_token) && server.access_token_is_valid(&newest.access_token));
    assert_eq!((server.counts().replays, server.counts().unexpected), (1, 0));
}

#[test]
fn a_replay_ends_the_family_with_all_its_tokens() {
    let (server, issued) = server_with(Replay::EndFamily);
    let stranger = server.issue_grant();
    let newest = server.rotate(&issued.refresh_token).unwrap();
    assert_eq!(refresh(&server, &issued.refresh_token).error(), invalid_grant());
    assert!(!server.is_alive(&newest.refresh_token));
    assert!(!server.access_token_is_valid(&newest.access_token));
    assert!(!server.access_token_is_valid(&issued.access_token));
    assert_eq!(refresh(&server, &newest.refresh_token).error(), invalid_grant());
    assert!(server.is_alive(&stranger.refresh_token));
    assert_eq!((server.counts().replays, server.counts().rotations), (1, 0));
}

#[test]
fn a_replay_within_the_grace_period_gets_the_same_answer() {
    let (server, issued) = server_with(Replay::Grace(LONG));
    let first = refresh(&server, &issued.refresh_token);
    let second = refresh(&server, &issued.refresh_token);
    assert_eq!(first.body, second.body);
    assert!(server.is_alive(&first.member("refresh_token")));
    assert_eq!((server.counts().replays, server.counts().rotations), (1, 1));
}

#[test]
fn a_replay_after_the_grace_period_ends_the_family() {
    let (server, issued) = server_with(Replay::Grace(Duration::ZERO));
    let newest = server.rotate(&issued.refresh_token).unwrap();
    assert_eq!(refresh(&server, &issued.refresh_token).error(), invalid_grant());
    assert!(!server.is_alive(&newest.refresh_token));
}

#[test]
fn without_rotation_the_refresh_token_stays_good() {
    let server = AuthorizationServer::start(Settings { rotation: false, ..Settings::default() });
    let issued = server.issue_grant();
    assert!(refresh(&server, &issued.refresh_token).json().get("refresh_token").is_none());
    server.adjust(|settings| settings.repeats_refresh_token = true);
    assert_eq!(refresh(&server, &issued.refresh_token).member("refresh_token"), issued.refresh_token);
    assert!(server.is_alive(&issued.refresh_token));
    assert_eq!((server.counts().rotations, server.counts().replays), (2, 0));
}

/// What twenty threads get that refresh with the same token at once.
fn refresh_twenty_times(server: &AuthorizationServer, refresh_token: &str) -> Vec<Answer> {
    let start = Barrier::new(20);
    thread::scope(|scope| {
        let refresh_at_start = || {
            start.wait();
            refresh(server, refresh_token)
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(refresh_at_start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn twenty_threads_with_one_refresh_token_rotate_it_once() {
    let (server, issued) = server_with(Replay::Reject);
    let answers = refresh_twenty_times(&server, &issued.refresh_token);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.error() == invalid_grant()).count(), 19);
    let counts = server.counts();
    assert_eq!((counts.refreshes, counts.rotations, counts.replays), (20, 1, 19));
}

#[test]
fn twenty_threads_within_the_grace_period_get_one_rotation() {
    let (server, issued) = server_with(Replay::Grace(LONG));
    let answers = refresh_twenty_times(&server, &issued.refresh_token);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    assert_eq!((server.counts().rotations, server.counts().replays), (1, 19));
}

#[test]
fn a_refusal_overtakes_the_delayed_answer_of_the_winner() {
    let (server, issued) = server_with(Replay::Reject);
    server.adjust(|settings| settings.delay_winner = LONG);
    thread::scope(|scope| {
        let winner = scope.spawn(|| super::client::converse(&server, &winner_request(&server, &issued)));
        server.wait_until(|counts| counts.rotations == 1);
        assert_eq!(refresh(&server, &issued.refresh_token).error(), invalid_grant());
        assert!(!winner.is_finished());
        server.stop();
    });
}

fn winner_request(server: &AuthorizationServer, issued: &Issued) -> String {
    super::client::refresh_request(server, &issued.refresh_token)
}

#[test]
fn requests_that_are_delayed_overlap() {
    let (server, issued) = server_with(Replay::Reject);
    server.adjust(|settings| settings.delay_before = LONG);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| super::client::converse(&server, &winner_request(&server, &issued)));
        }
        server.wait_until(|counts| counts.refreshes == 2);
        assert!(server.is_alive(&issued.refresh_token));
        server.stop();
    });
}

#[test]
fn an_access_token_ends_with_its_lifetime_and_the_grant_goes_on() {
    let server =
        AuthorizationServer::start(Settings { lifetime: Some(Duration::ZERO), ..Settings::default() });
    let issued = server.issue_grant();
    assert!(!server.access_token_is_valid(&issued.access_token));
    server.adjust(|settings| settings.lifetime = None);
    let answer = refresh(&server, &issued.refresh_token);
    assert!(answer.json().get("expires_in").is_none());
    assert!(server.access_token_is_valid(&answer.member("access_token")));
}

#[test]
fn a_refresh_narrows_the_scope_and_never_widens_it() {
    let (server, issued) = server_with(Replay::EndFamily);
    let with_scope = |scope| {
        let parameters = [
            ("grant_type", "refresh_token"),
            ("client_id", server.client_id()),
            ("refresh_token", &*issued.refresh_token),
            ("scope", scope),
        ];
        post(&server, Endpoint::Token, &parameters)
    };
    assert_eq!(with_scope("openid write").error(), (400, "invalid_scope".to_owned()));
    assert_eq!(with_scope("openid").member("scope"), "openid");
    assert_eq!((server.counts().unexpected, server.counts().rotations), (1, 1));
}

#[test]
fn a_grant_that_an_administrator_ended_is_dead() {
    let (server, issued) = server_with(Replay::Reject);
    server.end_grant(&issued.refresh_token);
    assert_eq!(refresh(&server, &issued.refresh_token).error(), invalid_grant());
    assert_eq!(server.rotate(&issued.refresh_token), None);
    assert_eq!((server.counts().replays, server.counts().unexpected), (0, 0));
}
