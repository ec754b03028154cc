//! `onegrant migrate`: a grant goes to another store, is never usable in two, and a kill at any point loses nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

mod support;

use serde_json::Value;
use std::fs;
use support::keyring::Keyring;
use support::{AuthorizationServer, EXPIRED, Issued, LIFETIME, Process, Ran, VALID, document, run, server};

/// Two stores at one home: the files' and the keyring's.
struct Both {
    keyring: Keyring,
    files: String,
}

impl Both {
    fn new() -> Self {
        let keyring = Keyring::new();
        Self { files: format!("file:{}", keyring.home.state.display()), keyring }
    }

    /// With a grant in the file store.
    fn with_grant(server: &AuthorizationServer, left: i64) -> (Self, Issued) {
        let both = Self::new();
        let issued = both.keyring.home.grant(server, left);
        (both, issued)
    }

    fn at(&self, store: &str, arguments: &[&str]) -> Ran {
        run(self.keyring.command(arguments).env("ONEGRANT_STORE", store))
    }

    fn migrate(&self, from: &str, to: &str) -> Ran {
        self.at(from, &["migrate", "--to", to])
    }

    /// In how many of the two a token can be had.
    fn usable(&self) -> usize {
        let stores = [&self.files, &self.keyring.store];
        stores.iter().filter(|store| self.at(store, &["token"]).code == 0).count()
    }
}

fn moved(to: &str) -> Ran {
    Ran {
        code: 0,
        stdout: format!("moved to {to}: profile default\n"),
        stderr: format!("onegrant: from now on: --store {to}, or export ONEGRANT_STORE={to}\n"),
    }
}

#[test]
fn a_grant_goes_to_a_keyring_and_back_without_the_network() {
    let server = server(|_| {});
    let (both, issued) = Both::with_grant(&server, LIFETIME);
    let before = both.keyring.home.document();
    let (files, keyring) = (both.files.clone(), both.keyring.store.clone());
    assert_eq!(both.migrate(&files, &keyring), moved(&keyring));
    assert_eq!(both.keyring.home.names(), ["default.lock", "~helper.test"], "nothing is left but the lock");
    assert_eq!(both.at(&keyring, &["token"]), Ran::printed(&issued.access_token));
    assert_eq!(both.at(&files, &["token"]).code, 3);
    assert_eq!(both.migrate(&keyring, &files), moved(&files));
    assert_eq!(both.keyring.beside(), ["default.lock"]);
    assert!(!both.keyring.entry().exists());
    let mut after = both.keyring.home.document();
    assert!(after.as_object_mut().unwrap().remove("moved").is_some());
    assert_eq!(after, before, "nothing else was changed");
    assert_eq!(both.at(&files, &["refresh"]).code, 0);
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
    let history = both.at(&files, &["status", "--history"]).stdout;
    assert!(history.contains("moved"), "{history}");
}

#[test]
fn what_is_in_the_other_store_already_stays_there() {
    let server = server(|_| {});
    let (both, issued) = Both::with_grant(&server, LIFETIME);
    let other = server.issue_grant();
    both.keyring.write(&document(&server, &other, LIFETIME).to_string());
    let before = both.keyring.home.bytes();
    let ran = both.migrate(&both.files, &both.keyring.store);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains("there is one in https://onegrant.invalid/default in"), "{}", ran.stderr);
    assert_eq!(both.keyring.home.bytes(), before);
    assert_eq!(both.at(&both.files, &["token"]), Ran::printed(&issued.access_token));
    assert_eq!(both.at(&both.keyring.store, &["token"]), Ran::printed(&other.access_token));
    let ran = both.migrate(&both.files, &both.files);
    assert_eq!(ran.code, 2, "to itself: {ran:?}");
    let ran = both.migrate(&both.files, "nowhere:x");
    assert!(ran.code == 2 && ran.stderr.contains("--to: 'nowhere:x'"), "{ran:?}");
    assert_eq!(Both::new().migrate(&both.files.replace("state", "none"), &both.keyring.store).code, 3);
    assert_eq!(both.keyring.home.bytes(), before);
}

#[test]
fn a_store_that_takes_nothing_leaves_the_grant_where_it_was() {
    let server = server(|_| {});
    let (both, issued) = Both::with_grant(&server, LIFETIME);
    let before = both.keyring.home.document();
    // The trial before the move succeeds.
    for fault in
        ["fail 'the keyring is full'", "case $entry in *trial) ;; *) fail 'the keyring is full';; esac"]
    {
        both.keyring.fault("store", &format!("{fault}\n"));
        let ran = both.migrate(&both.files, &both.keyring.store);
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
        assert!(ran.stderr.contains("the keyring is full"), "{}", ran.stderr);
        assert_eq!(both.keyring.home.document(), before, "{ran:?}");
        assert_eq!(both.at(&both.files, &["token"]), Ran::printed(&issued.access_token));
    }
    both.keyring.mended("store");
    assert_eq!(both.migrate(&both.files, &both.keyring.store).code, 0);
}

#[test]
fn whoever_asks_meanwhile_is_told_where_it_goes_and_what_completes_the_move() {
    let server = server(|_| {});
    let (both, issued) = Both::with_grant(&server, VALID);
    both.keyring.fault("store", "case $entry in *trial) ;; *) kill -9 $PPID;; esac\n");
    assert_eq!(both.migrate(&both.files, &both.keyring.store).code, -9);
    both.keyring.mended("store");
    let _ = fs::remove_file(both.keyring.entry());
    let ran = both.at(&both.files, &["token"]);
    let store = &both.keyring.store;
    let said = format!(
        "onegrant: no access token: the grant is on its way to {store}\nhint: onegrant migrate --to '{store}'\n"
    );
    assert_eq!(ran, Ran::failed(3, said.clone()));
    assert_eq!(both.at(&both.files, &["refresh"]), Ran::failed(3, said));
    let elsewhere = both.migrate(&both.files, "file:/nowhere");
    assert!(elsewhere.code == 2 && elsewhere.stderr.contains("on its way to"), "{elsewhere:?}");
    assert_eq!(both.migrate(&both.files, store), moved(store));
    assert_eq!(both.at(store, &["token"]), Ran::printed(&issued.access_token));
    assert_eq!(server.counts().refreshes, 0);
}

/// Kills the mover at each call of the helper program, before it and after it, in both directions.
#[test]
fn a_kill_at_any_point_is_mended_by_the_same_command() {
    let server = server(|_| {});
    let prepare = |to_keyring: bool| {
        let (both, issued) = (Both::new(), server.issue_grant());
        let text = document(&server, &issued, LIFETIME);
        match to_keyring {
            true => both.keyring.home.write(&text),
            false => both.keyring.write(&text.to_string()),
        }
        (both, issued)
    };
    for to_keyring in [true, false] {
        let ends = |both: &Both| match (both.files.clone(), both.keyring.store.clone()) {
            (files, keyring) if to_keyring => (files, keyring),
            (files, keyring) => (keyring, files),
        };
        let (both, _) = prepare(to_keyring);
        let (from, to) = ends(&both);
        assert_eq!(both.migrate(&from, &to), moved(&to));
        let calls: usize = VERBS.iter().map(|verb| both.keyring.calls(verb)).sum();
        assert!(calls >= 5, "{calls} calls");
        for (call, moment) in (1..=calls).flat_map(|call| [(call, "now"), (call, "trap")]) {
            let (both, issued) = prepare(to_keyring);
            let (from, to) = ends(&both);
            let kill = if moment == "now" { "kill -9 $PPID" } else { "trap 'kill -9 $PPID' EXIT" };
            for verb in VERBS {
                let script = format!("if [ $(wc -l <\"$keyring/calls\") -eq {call} ]; then {kill}; fi\n");
                both.keyring.fault(verb, &script);
            }
            let case = format!("call {call} of {calls}, {moment}, to the keyring: {to_keyring}");
            let ran = both.migrate(&from, &to);
            // Who dies behind the last call may have ended before.
            assert!(ran.code == -9 || call == calls, "{case}: {ran:?}");
            VERBS.iter().for_each(|verb| both.keyring.mended(verb));
            assert!(both.usable() <= 1, "{case}");
            let again = both.migrate(&from, &to);
            // Nothing is left to be moved where the grant had gone.
            assert!(again == moved(&to) || again.code == 3, "{case}: {again:?}");
            assert_eq!(both.at(&to, &["token"]), Ran::printed(&issued.access_token), "{case}");
            assert_eq!(both.usable(), 1, "{case}");
        }
    }
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (0, 0));
}

/// What the mover has the helper do.
const VERBS: [&str; 3] = ["get", "store", "erase"];

#[test]
fn the_answer_that_an_interrupted_refresh_left_goes_along() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    let both = Both { files: format!("file:{}", keyring.home.state.display()), keyring };
    both.keyring.fault("store", "fail 'the keyring is full'\n");
    let left = both.at(&both.keyring.store, &["token"]);
    assert_eq!(server.counts().refreshes, 1, "{left:?}");
    both.keyring.mended("store");
    assert_eq!(both.migrate(&both.keyring.store, &both.files).code, 0);
    assert!(server.is_alive(&both.keyring.home.tokens().refresh_token), "the newest one was moved");
    assert_eq!(both.at(&both.files, &["token"]).code, 0);
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
}

#[test]
fn a_move_waits_for_the_refresh_that_is_on_its_way() {
    let server = server(|_| {});
    let (both, _) = Both::with_grant(&server, EXPIRED);
    let tokens =
        |count: usize| -> Vec<Process> { (0..count).map(|_| both.keyring.home.start(&["token"])).collect() };
    let before = tokens(5);
    let mut command = both.keyring.command(&["migrate", "--to", &both.keyring.store]);
    let mover = Process::start(command.env("ONEGRANT_STORE", &both.files));
    let after = tokens(5);
    assert_eq!(mover.finish(), moved(&both.keyring.store));
    for ran in before.into_iter().chain(after).map(Process::finish) {
        assert!(matches!(ran.code, 0 | 3), "{ran:?}");
    }
    assert_eq!(both.at(&both.keyring.store, &["token"]).code, 0);
    let document: Value = both.keyring.document();
    assert!(server.is_alive(document["session"]["refresh_token"].as_str().unwrap()));
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
    assert_eq!(both.usable(), 1);
}
