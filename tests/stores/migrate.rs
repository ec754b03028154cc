//! `onegrant migrate`: a grant moves to another store. It is never usable in both, and a kill at any point loses nothing.

use crate::support::keyring::Keyring;
use crate::support::{
    AuthorizationServer, EXPIRED, Endpoint, Issued, LIFETIME, Process, Ran, VALID, document, run, server,
    side_by_side, wait_for,
};
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Two stores with the same home: a file store and a helper store.
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

    /// With a grant in the store that a migration leaves.
    fn with_grant_to_move(server: &AuthorizationServer, to_keyring: bool) -> (Self, Issued) {
        let (both, issued) = (Self::new(), server.issue_grant());
        let text = document(server, &issued, LIFETIME);
        match to_keyring {
            true => both.keyring.home.write(&text),
            false => both.keyring.write(&text.to_string()),
        }
        (both, issued)
    }

    /// The store that a migration leaves, and the one that it goes to.
    fn ends(&self, to_keyring: bool) -> (String, String) {
        match (self.files.clone(), self.keyring.store.clone()) {
            (files, keyring) if to_keyring => (files, keyring),
            (files, keyring) => (keyring, files),
        }
    }

    fn at(&self, store: &str, arguments: &[&str]) -> Ran {
        run(self.keyring.command(arguments).env("ONEGRANT_STORE", store))
    }

    fn migrate(&self, from: &str, to: &str) -> Ran {
        self.at(from, &["migrate", "--to", to])
    }

    /// How many of the two stores give a token.
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
fn a_grant_in_the_target_store_is_kept() {
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
fn if_the_target_store_fails_the_grant_stays_in_its_store() {
    let server = server(|_| {});
    let (both, issued) = Both::with_grant(&server, LIFETIME);
    let before = both.keyring.home.document();
    // The trial before the migration succeeds.
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
    both.keyring.repair("store");
    assert_eq!(both.migrate(&both.files, &both.keyring.store).code, 0);
}

#[test]
fn a_process_that_wants_a_token_during_a_migration_gets_the_command_that_completes_it() {
    let server = server(|_| {});
    let (both, issued) = Both::with_grant(&server, VALID);
    both.keyring.fault("store", "case $entry in *trial) ;; *) kill -9 $PPID;; esac\n");
    assert_eq!(both.migrate(&both.files, &both.keyring.store).code, -9);
    both.keyring.repair("store");
    let _ = fs::remove_file(both.keyring.entry());
    let ran = both.at(&both.files, &["token"]);
    let store = &both.keyring.store;
    let text = format!(
        "onegrant: no access token: the grant is on its way to {store}\nhint: onegrant migrate --to '{store}'\n"
    );
    assert_eq!(ran, Ran::failed(3, text.clone()));
    assert_eq!(both.at(&both.files, &["refresh"]), Ran::failed(3, text));
    let elsewhere = both.migrate(&both.files, "file:/nowhere");
    assert!(elsewhere.code == 2 && elsewhere.stderr.contains("on its way to"), "{elsewhere:?}");
    assert_eq!(both.migrate(&both.files, store), moved(store));
    assert_eq!(both.at(store, &["token"]), Ran::printed(&issued.access_token));
    assert_eq!(server.counts().refreshes, 0);
}

/// The calls of the helper in a migration.
const VERBS: [&str; 3] = ["get", "store", "erase"];

/// How often a migration that is not interrupted calls the helper.
fn calls_of_a_migration(server: &AuthorizationServer, to_keyring: bool) -> usize {
    let (both, _) = Both::with_grant_to_move(server, to_keyring);
    let (from, to) = both.ends(to_keyring);
    assert_eq!(both.migrate(&from, &to), moved(&to));
    let calls = VERBS.iter().map(|verb| both.keyring.calls(verb)).sum();
    assert!(calls >= 5, "{calls} calls");
    calls
}

/// Kills the migration at each call of the helper program, before and after the call, in both directions.
#[test]
fn the_same_command_completes_a_migration_that_was_killed_at_any_point() {
    let server = server(|_| {});
    for to_keyring in [true, false] {
        let calls = calls_of_a_migration(&server, to_keyring);
        let kills: Vec<_> = (1..=calls).flat_map(|call| [(call, "now"), (call, "trap")]).collect();
        side_by_side(
            &kills,
            || (),
            |(), &(call, moment)| {
                let (both, issued) = Both::with_grant_to_move(&server, to_keyring);
                let (from, to) = both.ends(to_keyring);
                let kill = if moment == "now" { "kill -9 $PPID" } else { "trap 'kill -9 $PPID' EXIT" };
                for verb in VERBS {
                    let script = format!("if [ $(wc -l <\"$keyring/calls\") -eq {call} ]; then {kill}; fi\n");
                    both.keyring.fault(verb, &script);
                }
                let case = format!("call {call} of {calls}, {moment}, to the keyring: {to_keyring}");
                let ran = both.migrate(&from, &to);
                // After the last call the process may have ended before the kill.
                assert!(ran.code == -9 || call == calls, "{case}: {ran:?}");
                VERBS.iter().for_each(|verb| both.keyring.repair(verb));
                assert!(both.usable() <= 1, "{case}");
                let again = both.migrate(&from, &to);
                // The grant may have moved already.
                assert!(again == moved(&to) || again.code == 3, "{case}: {again:?}");
                assert_eq!(both.at(&to, &["token"]), Ran::printed(&issued.access_token), "{case}");
                assert_eq!(both.usable(), 1, "{case}");
            },
        );
    }
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (0, 0));
}

#[test]
fn the_answer_of_an_interrupted_refresh_is_migrated_too() {
    let server = server(|_| {});
    let (keyring, _) = Keyring::with_grant(&server, EXPIRED);
    let both = Both { files: format!("file:{}", keyring.home.state.display()), keyring };
    both.keyring.fault("store", "fail 'the keyring is full'\n");
    let left = both.at(&both.keyring.store, &["token"]);
    assert_eq!(server.counts().refreshes, 1, "{left:?}");
    both.keyring.repair("store");
    assert_eq!(both.migrate(&both.keyring.store, &both.files).code, 0);
    assert!(server.is_alive(&both.keyring.home.tokens().refresh_token), "the newest one was moved");
    assert_eq!(both.at(&both.files, &["token"]).code, 0);
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
}

#[test]
fn a_migration_waits_for_a_refresh() {
    let server = server(|_| {});
    let (both, _) = Both::with_grant(&server, EXPIRED);
    let tokens =
        |count: usize| -> Vec<Process> { (0..count).map(|_| both.keyring.home.start(&["token"])).collect() };
    let before = tokens(5);
    let mut command = both.keyring.command(&["migrate", "--to", &both.keyring.store]);
    let migration = Process::start(command.env("ONEGRANT_STORE", &both.files));
    let after = tokens(5);
    assert_eq!(migration.finish(), moved(&both.keyring.store));
    for ran in before.into_iter().chain(after).map(Process::finish) {
        assert!(matches!(ran.code, 0 | 3), "{ran:?}");
    }
    assert_eq!(both.at(&both.keyring.store, &["token"]).code, 0);
    let document: Value = both.keyring.document();
    assert!(server.is_alive(document["session"]["refresh_token"].as_str().unwrap()));
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
    assert_eq!(both.usable(), 1);
}

/// The migration is killed at each call of the helper program, in both directions. Then a logout runs in the store that the
/// grant leaves, or in the one that it goes to.
#[test]
fn a_logout_during_a_migration_leaves_no_token_and_no_refresh_token_in_either_store() {
    let server = server(|_| {});
    for (to_keyring, in_source) in [(true, true), (true, false), (false, true), (false, false)] {
        let calls = calls_of_a_migration(&server, to_keyring);
        let found = AtomicUsize::new(0);
        let kills: Vec<_> = (1..=calls).collect();
        side_by_side(
            &kills,
            || (),
            |(), &call| {
                let (both, issued) = Both::with_grant_to_move(&server, to_keyring);
                let (from, to) = both.ends(to_keyring);
                for verb in VERBS {
                    let script =
                        format!("if [ $(wc -l <\"$keyring/calls\") -eq {call} ]; then kill -9 $PPID; fi\n");
                    both.keyring.fault(verb, &script);
                }
                let case =
                    format!("call {call} of {calls}, to the keyring: {to_keyring}, source: {in_source}");
                both.migrate(&from, &to);
                VERBS.iter().for_each(|verb| both.keyring.repair(verb));
                let store = if in_source { &from } else { &to };
                let ran = both.at(store, &["logout"]);
                assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{case}: {ran:?}");
                if ran.stdout.starts_with("nothing to revoke") {
                    // The grant was not there yet, or not any more.
                    assert!(both.usable() <= 1, "{case}");
                    return;
                }
                found.fetch_add(1, Ordering::Relaxed);
                assert!(!server.is_alive(&issued.refresh_token), "{case}");
                assert_eq!(both.usable(), 0, "{case}");
                let again = both.migrate(&from, &to);
                assert_eq!(again.code, 3, "{case}: {again:?}");
                assert_eq!(both.usable(), 0, "{case}");
            },
        );
        let found = found.into_inner();
        assert!(found >= 2, "{found} logouts found the grant");
    }
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (0, 0));
}

/// Makes the helper wait in call `number` of its `store`, until the file `hold` is removed.
fn hold_at(both: &Both, number: usize) {
    fs::write(both.keyring.directory.join("hold"), "").unwrap();
    let script = format!(
        "if [ $(grep -c store \"$keyring/calls\") -eq {number} ]; then : >\"$keyring/waits\"; \
         while [ -e \"$keyring/hold\" ]; do sleep 0.02; done; fi\n"
    );
    both.keyring.fault("store", &script);
}

fn release(both: &Both) {
    fs::remove_file(both.keyring.directory.join("hold")).unwrap();
}

/// Starts a migration to the keyring that waits in call `number` of `store`.
fn held_migration(server: &AuthorizationServer, number: usize) -> (Both, Issued, Process) {
    let (both, issued) = Both::with_grant(server, LIFETIME);
    hold_at(&both, number);
    let mut command = both.keyring.command(&["migrate", "--to", &both.keyring.store]);
    let migration = Process::start(command.env("ONEGRANT_STORE", &both.files));
    wait_for("the helper", || both.keyring.directory.join("waits").exists());
    (both, issued, migration)
}

/// The `store` calls of a migration: one for the trial, one that brings the session, one that makes it usable.
const STORES: usize = 3;

#[test]
fn a_migration_that_continues_after_a_logout_reports_the_logout() {
    let server = server(|_| {});
    for number in 1..=STORES {
        let (both, issued, migration) = held_migration(&server, number);
        let ran = both.at(&both.files, &["logout"]);
        assert_eq!(
            ran.stdout, "revoked at the server, and deleted here: profile default\n",
            "{number}: {ran:?}"
        );
        assert!(!server.is_alive(&issued.refresh_token), "{number}");
        release(&both);
        let ran = migration.finish();
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{number}: {ran:?}");
        assert!(ran.stderr.contains("it was logged out meanwhile"), "{number}: {ran:?}");
        assert_eq!(both.usable(), 0, "{number}");
        assert!(!both.keyring.entry().exists(), "{number}");
        assert_eq!(both.keyring.home.names(), ["default.lock", "~helper.test"], "{number}");
    }
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_login_during_a_migration_leaves_one_usable_grant_and_the_migration_can_be_repeated() {
    let server = server(|_| {});
    for (number, is_killed) in (1..=STORES).flat_map(|number| [(number, false), (number, true)]) {
        let case = format!("store {number}, killed: {is_killed}");
        let (both, _, migration) = held_migration(&server, number);
        if is_killed {
            migration.signal(rustix::process::Signal::KILL);
            release(&both);
        }
        let new = server.issue_grant();
        let secret = both.keyring.home.root.join("refresh token");
        fs::write(&secret, format!("{}\n", new.refresh_token)).unwrap();
        let (token, client) = (server.token_endpoint(), server.client_id());
        let login = ["login", "--token-endpoint", &token, "--client-id", client, "--refresh-token-stdin"];
        let mut command = both.keyring.command(&login);
        command.env("ONEGRANT_STORE", &both.files).stdin(fs::File::open(&secret).unwrap());
        let ran = run(&mut command);
        assert_eq!(ran.code, 0, "{case}: {ran:?}");
        if !is_killed {
            release(&both);
        }
        let moved = migration.finish();
        both.keyring.repair("store");
        assert_eq!(both.usable(), 1, "{case}: {moved:?}");
        if moved.code != 0 {
            let tokens = both.keyring.home.tokens();
            assert!(server.is_alive(&tokens.refresh_token), "{case}: the new grant is where it was stored");
            let again = both.migrate(&both.files, &both.keyring.store);
            assert_eq!(again.code, 0, "{case}: {again:?}");
            assert_eq!(both.usable(), 1, "{case}");
        }
    }
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn status_names_the_target_of_an_unfinished_migration() {
    let server = server(|_| {});
    let (both, _) = Both::with_grant(&server, VALID);
    both.keyring.fault("store", "case $entry in *trial) ;; *) kill -9 $PPID;; esac\n");
    assert_eq!(both.migrate(&both.files, &both.keyring.store).code, -9);
    let ran = both.at(&both.files, &["status"]);
    let line = format!("refresh token  on its way to {}\n", both.keyring.store);
    assert!(ran.code == 3 && ran.stdout.contains(&line), "{ran:?}");
    let ran = both.at(&both.files, &["status", "--json"]);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(status["moving_to"], both.keyring.store.as_str());
    assert_eq!(server.requests_to(Endpoint::Token).len(), 0);
}
