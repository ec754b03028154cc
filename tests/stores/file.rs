//! The file store: bad input is refused and stays as it is, and nothing is spent if the answer could not be stored.
//!
//! As root, the tests of permissions drop the capabilities that ignore permissions (setpriv). The tests of mounts make a mount
//! namespace (unshare); another user makes a user namespace with it.

use crate::support::*;
use onegrant::grant::Secret;
use onegrant::store::file::FileStore;
use onegrant::store::{NewRecord, RecordName, Store, WriteResult};
use serde_json::json;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime};

/// The commands that read the document and never replace one that they cannot read.
const READERS: [&[&str]; 5] = [&["token"], &["refresh"], &["status"], &["whoami"], &["logout"]];

#[test]
fn a_file_that_is_no_document_is_refused_and_kept() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let good = home.bytes();
    let with = |name: &str, value: serde_json::Value| {
        let mut document = home.document();
        document[name] = value;
        document.to_string().into_bytes()
    };
    let login = "onegrant login https://ADDRESS   # keeps the old file beside the new one";
    let newer = "onegrant --version   # a newer one wrote this file";
    let foreign = "not a document of onegrant";
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("empty", vec![], "the file is empty", login),
        ("white space", b" \n\n".to_vec(), "the file is empty", login),
        ("truncated", good[..good.len() - 20].to_vec(), "the file ends in the middle of the document", login),
        ("one brace", b"{".to_vec(), "the file ends in the middle of the document", login),
        ("zeroes", vec![0; 300], foreign, login),
        ("an array", b"[]".to_vec(), foreign, login),
        ("a web page", b"<!doctype html><p>hello".to_vec(), foreign, login),
        ("another program's", br#"{"accounts":[]}"#.to_vec(), foreign, login),
        ("a wrong type", with("client_id", json!(7)), foreign, login),
        ("version 0", with("version", json!(0)), foreign, login),
        (
            "version 2",
            with("version", json!(2)),
            "format version 2 is newer than this program knows (1)",
            newer,
        ),
        ("a newer shape", br#"{"version":7,"grants":[]}"#.to_vec(), "format version 7 is newer", newer),
        ("a token with a newline", with("session", json!({"access_token": "a\nb"})), foreign, login),
        ("depth", [&br#"{"version":1,"x":"#[..], &[b'['; 100_000]].concat(), foreign, login),
    ];
    for (case, bytes, why, hint) in cases {
        home.write_bytes(&bytes);
        for arguments in READERS {
            let ran = home.run(arguments);
            let path = home.document_path().display().to_string();
            let start = format!("onegrant: cannot use {path}: {why}");
            let end = format!("; it was left as it is\nhint: {hint}\n");
            assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{case}, {arguments:?}: {ran:?}");
            assert!(ran.stderr.starts_with(&start) && ran.stderr.ends_with(&end), "{case}: {}", ran.stderr);
            assert_eq!(ran.stderr.lines().count(), 2, "{case}: {}", ran.stderr);
            assert_eq!(home.bytes(), bytes, "{case}, {arguments:?}");
        }
    }
    assert_eq!(home.names(), ["default.json"], "nothing else was written");
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn a_document_that_is_no_regular_file_or_too_large_is_refused() {
    let home = Home::new();
    let path = home.document_path();
    let refused = |case: &str, why: &str| {
        for arguments in READERS {
            let text = format!("onegrant: cannot read {}: {why}\n", path.display());
            assert_eq!(home.run(arguments), Ran::failed(5, text), "{case}, {arguments:?}");
        }
        assert_eq!(home.names(), ["default.json"], "{case}");
    };
    fs::create_dir(&path).unwrap();
    refused("a directory", "it is not a regular file");
    fs::remove_dir(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
    refused("a FIFO, which would block", "it is not a regular file");
    fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    refused("a device", "it is not a regular file");
    fs::remove_file(&path).unwrap();
    let file = File::create(&path).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    file.set_len(1 << 40).unwrap();
    refused("huge", "it is larger than 8388608 bytes");
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 40);
}

#[test]
fn a_document_without_read_permission_is_refused() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    fs::set_permissions(home.document_path(), Permissions::from_mode(0o000)).unwrap();
    for arguments in READERS {
        let ran = run(&mut unprivileged(&home.command(arguments)));
        let path = home.document_path();
        let me = rustix::process::geteuid().as_raw();
        let text = format!(
            "onegrant: cannot read {0}: Permission denied\nhint: ls -la {1}   # this process runs as user {me}\n",
            path.display(),
            path.parent().unwrap().display()
        );
        assert_eq!(ran, Ran::failed(5, text), "{arguments:?}");
    }
    assert_eq!(server.counts(), Default::default());
}

/// A call that must not spend ends with exit 5, and the store stays as it was.
#[track_caller]
fn assert_nothing_is_spent(server: &AuthorizationServer, home: &Home, wrap: &dyn Fn(&Command) -> Command) {
    for lock in ["auto", "claim", "off"] {
        let issued = home.tokens();
        let before = home.bytes();
        let names = home.names();
        let call = |arguments: &[&str]| run(&mut wrap(home.command(arguments).env("ONEGRANT_LOCK", lock)));
        let ran = call(&["token"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{lock}: {ran:?}");
        assert!(ran.stderr.starts_with("onegrant: cannot "), "{lock}: {ran:?}");
        assert!(!ran.stderr.contains("os error"), "{lock}: {ran:?}");
        assert_eq!(home.bytes(), before, "{lock}");
        assert_eq!(home.names(), names, "{lock}");
        let ran = call(&["status"]);
        assert_eq!(ran.code, 5, "status says so too: {lock}: {ran:?}");
        assert!(server.is_alive(&issued.refresh_token));
    }
    assert_eq!(server.counts(), Default::default(), "nothing was sent");
}

#[test]
fn nothing_is_spent_if_the_directory_cannot_be_written() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    for lock_exists in [false, true] {
        if lock_exists {
            let lock = File::create(home.state.join("default.lock")).unwrap();
            lock.set_permissions(Permissions::from_mode(0o600)).unwrap();
        }
        fs::set_permissions(&home.state, Permissions::from_mode(0o500)).unwrap();
        assert_nothing_is_spent(&server, &home, &unprivileged);
        fs::set_permissions(&home.state, Permissions::from_mode(0o700)).unwrap();
    }
    // A token that still works is handed out, and a fresh one needs no write.
    home.write(&document(&server, &issued, VALID));
    fs::set_permissions(&home.state, Permissions::from_mode(0o500)).unwrap();
    let ran = run(&mut unprivileged(&home.command(&AGEING)));
    assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", issued.access_token)));
    assert!(ran.stderr.contains("still valid and is used"), "{}", ran.stderr);
    let ran = run(&mut unprivileged(&home.command(&["token"])));
    assert_eq!(ran, Ran::printed(&issued.access_token));
    assert_eq!(server.counts().token_requests, 0);
}

#[test]
fn nothing_is_spent_on_a_read_only_file_system() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let script = "mount --bind \"$0/state\" \"$0/state\"; mount -o remount,bind,ro \"$0/state\"; exec \"$@\"";
    let wrap = |command: &Command| in_namespace(script, &home, command);
    assert_nothing_is_spent(&server, &home, &wrap);
    home.write(&document(&server, &issued, VALID));
    let ran = run(&mut wrap(&home.command(&["token"])));
    assert_eq!(ran, Ran::printed(&issued.access_token));
}

/// Runs a command with the store on a small file system. Then copies the document to `after` and the file names to `names`.
const SMALL_DISK: &str = "mount -t tmpfs -o size=400k,mode=700 none \"$0/disk\"; cp -p \"$0/state/default.json\" \
    \"$0/disk\"; BEFORE; code=0; \"$@\" || code=$?; cp \"$0/disk/default.json\" \"$0/after\"; ls \"$0/disk\" > \
    \"$0/names\"; exit $code";

const FILL: &str = "{ dd if=/dev/zero of=\"$0/disk/filler\" bs=4k 2>/dev/null || true; }";

#[test]
fn nothing_is_spent_on_a_full_disk() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let disk = home.root.join("disk");
    fs::create_dir(&disk).unwrap();
    for lock in ["auto", "claim", "off"] {
        let mut command = home.command(&["token"]);
        command.env("ONEGRANT_HOME", &disk).env("ONEGRANT_LOCK", lock);
        let ran = run(&mut in_namespace(&SMALL_DISK.replace("BEFORE", FILL), &home, &command));
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{lock}: {ran:?}");
        assert!(ran.stderr.contains("No space left on device\nhint: df -h "), "{lock}: {ran:?}");
        assert_eq!(fs::read(home.root.join("after")).unwrap(), home.bytes(), "{lock}");
        let names = fs::read_to_string(home.root.join("names")).unwrap();
        assert_eq!(names.replace("default.lock\n", ""), "default.json\nfiller\n", "{lock}");
    }
    assert_eq!(server.counts().token_requests, 0);
    assert!(server.is_alive(&issued.refresh_token));
}

/// The room for the answer is reserved before the request.
#[test]
fn a_disk_that_fills_up_during_the_request_loses_nothing() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    // More than the one block that every file gets.
    let mut large = home.document();
    large["x_future"] = json!("x".repeat(20_000));
    home.write(&large);
    let disk = home.root.join("disk");
    fs::create_dir(&disk).unwrap();
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    // The process that fills the disk waits at one FIFO, and reports its end at another one.
    let fifos = ["go", "done"].map(|name| home.root.join(name));
    for fifo in &fifos {
        rustix::fs::mkfifoat(rustix::fs::CWD, fifo, 0o600.into()).unwrap();
    }
    let before = format!("{{ {{ read -r go < \"$0/go\"; {FILL}; echo > \"$0/done\"; }} & }}");
    let mut command = home.command(&["token"]);
    command.env("ONEGRANT_HOME", &disk);
    let process = Process::start(&mut in_namespace(&SMALL_DISK.replace("BEFORE", &before), &home, &command));
    server.wait_until(|counts| counts.rotations == 1);
    fs::write(&fifos[0], "\n").unwrap();
    fs::read(&fifos[1]).unwrap();
    gate.open();
    let ran = process.finish();
    home.write_bytes(&fs::read(home.root.join("after")).unwrap());
    let new = home.tokens();
    assert_eq!(ran, Ran::printed(&new.access_token));
    assert!(server.is_alive(&new.refresh_token));
    assert_eq!(server.counts().token_requests, 1);
}

#[test]
fn a_file_size_limit_is_reported_as_store_failure() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let before = home.bytes();
    let command = home.command(&["token"]);
    // Output through pipes: the limit is for files.
    let output = wrapped("/bin/sh", &["-c", "ulimit -f 0; \"$@\"", "sh"], &command).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(5), &b""[..]), "{stderr}");
    assert!(stderr.contains("File too large"), "{stderr}");
    assert_eq!(home.bytes(), before);
    assert_eq!(home.names(), ["default.json", "default.lock"]);
    assert_eq!(server.counts().token_requests, 0);
    assert!(server.is_alive(&issued.refresh_token));
}

/// The limit is high enough for the records, but not for the answer. Room for the answer is reserved before anything is spent.
#[test]
fn nothing_is_spent_if_the_answer_would_exceed_the_file_size_limit() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let before = home.bytes();
    let command = home.command(&["token"]);
    let output = wrapped("/bin/bash", &["-c", "ulimit -f 8; \"$@\"", "sh"], &command).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(5), &b""[..]), "{stderr}");
    assert!(stderr.contains("cannot reserve room"), "{stderr}");
    assert_eq!(home.bytes(), before);
    assert_eq!(home.names(), ["default.json", "default.lock"]);
    assert_eq!(server.counts().token_requests, 0);
    assert!(server.is_alive(&issued.refresh_token));
}

/// The owner of the grant can prepare a link under the name of a sidecar, and root may run onegrant on the grant.
#[test]
fn nothing_is_written_through_a_link_with_the_name_of_an_answer() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let digits = Secret::new(&issued.refresh_token).sha256()[..16].to_owned();
    let target = home.root.join("target");
    fs::write(&target, "precious").unwrap();
    symlink(&target, home.state.join(format!("default~answer.{digits}.1"))).unwrap();
    let ran = home.run(&["token"]);
    assert_eq!(ran, Ran::printed(&home.tokens().access_token));
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert!(fs::symlink_metadata(home.document_path()).unwrap().is_file());
    assert_eq!(server.counts().rotations, 1);
}

#[test]
fn a_record_that_is_no_regular_file_is_reported_and_does_not_block() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let digits = Secret::new(&issued.refresh_token).sha256()[..16].to_owned();
    let fifo = home.state.join(format!("default~attempt.{digits}.1"));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let ran = home.run(&["token"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
    assert!(ran.stderr.contains("not a regular file"), "{ran:?}");
    assert_eq!(server.counts().token_requests, 0);
    assert!(server.is_alive(&issued.refresh_token));
}

/// Root gives what it creates to the owner of the directory. Another user is the owner.
#[test]
fn files_beside_a_document_belong_to_the_owner_of_the_directory() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    if is_root() {
        for path in [&home.state, &home.document_path()] {
            chown(path, Some(65534), Some(65534)).unwrap();
        }
    }
    let owner = |path: &Path| fs::metadata(path).map(|metadata| (metadata.uid(), metadata.gid())).unwrap();
    server.script(Endpoint::Token, [Fault::status(503)]);
    for code in [4, 0] {
        assert_eq!(home.run(&["token"]).code, code);
        for name in home.names() {
            assert_eq!(owner(&home.state.join(&name)), owner(&home.state), "{name}");
        }
    }
}

#[test]
fn a_symlinked_document_stays_a_symlink() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let elsewhere = home.root.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(home.document_path(), elsewhere.join("real.json")).unwrap();
    symlink("../elsewhere/second.json", home.document_path()).unwrap();
    symlink("real.json", elsewhere.join("second.json")).unwrap();
    assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
    assert!(server.is_alive(&home.tokens().refresh_token));
    assert_eq!(fs::read_link(home.document_path()).unwrap(), Path::new("../elsewhere/second.json"));
    assert_eq!(fs::read_link(elsewhere.join("second.json")).unwrap(), Path::new("real.json"));
    assert!(fs::symlink_metadata(elsewhere.join("real.json")).unwrap().is_file());
    assert!(elsewhere.join("real.lock").exists(), "the lock lies beside the real file");
    assert_eq!(home.names(), ["default.json"]);
    // The link stays after a logout. It is no profile then.
    assert_eq!(home.run(&["logout"]).code, 0);
    assert!(!elsewhere.join("real.json").exists());
    assert_eq!(home.run(&["profiles"]).stdout, "");
}

/// With a lock file, and without one.
#[test]
fn a_logout_that_cannot_remove_the_document_still_revokes_and_reports_it() {
    for lock_exists in [false, true] {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, VALID);
        if lock_exists {
            let lock = File::create(home.state.join("default.lock")).unwrap();
            lock.set_permissions(Permissions::from_mode(0o600)).unwrap();
        }
        fs::set_permissions(&home.state, Permissions::from_mode(0o500)).unwrap();
        let ran = run(&mut unprivileged(&home.command(&["logout"])));
        fs::set_permissions(&home.state, Permissions::from_mode(0o700)).unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
        let wanted = "onegrant: revoked at the server, but not deleted here: cannot remove ";
        assert!(ran.stderr.starts_with(wanted), "{ran:?}");
        assert!(!server.is_alive(&issued.refresh_token), "{ran:?}");
        assert!(home.document_path().exists());
    }
}

/// With such a link the other user would decide where the grant is stored. Only root can make a link that belongs to another
/// user.
#[test]
fn a_link_of_another_user_in_a_sticky_directory_is_not_followed_to_a_document() {
    if !is_root() {
        return;
    }
    let server = server(|_| {});
    for left in [LIFETIME, EXPIRED] {
        let (home, issued) = Home::with_grant(&server, left);
        let theirs = home.root.join("theirs.json");
        fs::rename(home.document_path(), &theirs).unwrap();
        symlink(&theirs, home.document_path()).unwrap();
        lchown(home.document_path(), Some(12_345), Some(12_345)).unwrap();
        fs::set_permissions(&home.state, Permissions::from_mode(0o1777)).unwrap();
        let before = fs::read(&theirs).unwrap();
        for arguments in [&["token"][..], &["exec", "--", "true"], &["status"], &["logout", "--local"]] {
            let ran = home.run(arguments);
            assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{arguments:?}: {ran:?}");
            assert!(ran.stderr.contains("another user made the link"), "{arguments:?}: {ran:?}");
        }
        assert_eq!(fs::read(&theirs).unwrap(), before);
        assert_eq!(server.counts().token_requests, 0);
        lchown(home.document_path(), Some(0), Some(0)).unwrap();
        let token = home.run(&["token"]).token().to_owned();
        assert_eq!(token == issued.access_token, left == LIFETIME, "the caller's own link is followed");
    }
}

#[test]
fn mode_and_owner_are_kept_and_a_mode_that_lets_others_read_is_a_warning() {
    let server = server(|_| {});
    for (mode, is_loose) in [(0o600, false), (0o400, false), (0o644, true), (0o660, true)] {
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let path = home.document_path();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        if is_root() {
            chown(&path, Some(12345), Some(23456)).unwrap();
        }
        let before = fs::metadata(&path).unwrap();
        let ran = home.run(&["token"]);
        let stderr = format!(
            "onegrant: warning: others can read {0}: its mode is {mode:04o}\nhint: chmod 600 {0}\n",
            path.display()
        );
        let stderr = if is_loose { stderr } else { String::new() };
        assert_eq!(ran, Ran { stderr, ..Ran::printed(&home.tokens().access_token) });
        let after = fs::metadata(&path).unwrap();
        let of = |metadata: &fs::Metadata| (metadata.mode(), metadata.uid(), metadata.gid());
        assert_eq!(of(&after), of(&before));
        assert_ne!(after.ino(), before.ino(), "it was replaced");
    }
}

#[test]
fn unknown_members_are_kept() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, EXPIRED);
    let mut document = home.document();
    document["x_future"] = json!({ "a": [1, { "b": null }], "ü": 1.5 });
    document["session"]["x_hint"] = json!(["kept"]);
    home.write(&document);
    assert_eq!(home.run(&["token"]).code, 0);
    let after = home.document();
    assert_eq!(after["x_future"], document["x_future"]);
    assert_eq!(after["session"]["x_hint"], document["session"]["x_hint"]);
    // They are also kept when the session is cleared.
    server.end_grant(&home.tokens().refresh_token);
    let mut expired = after;
    expired["session"]["expires_at"] = json!(now() - 5);
    home.write(&expired);
    assert_eq!(home.run(&["token"]).code, 3);
    assert_eq!(home.document()["x_future"], document["x_future"]);
    assert!(!server.is_alive(&issued.refresh_token));
}

/// For example a single file that is mounted into a container.
#[test]
fn a_document_that_is_a_mount_point_is_written_in_place() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let outside = home.root.join("outside.json");
    fs::rename(home.document_path(), &outside).unwrap();
    fs::write(home.document_path(), "").unwrap();
    let inode = fs::metadata(&outside).unwrap().ino();
    let script = "mount --bind \"$0/outside.json\" \"$0/state/default.json\"; exec \"$@\"";
    let ran = run(&mut in_namespace(script, &home, &home.command(&["token"])));
    home.write_bytes(&fs::read(&outside).unwrap());
    let new = home.tokens();
    assert_eq!(ran, Ran::printed(&new.access_token));
    assert!(server.is_alive(&new.refresh_token));
    assert_eq!(fs::metadata(&outside).unwrap().ino(), inode);
    assert_eq!(home.names(), ["default.json"], "the lock is the document's own");
    assert_eq!(server.counts().token_requests, 1);
}

/// The document cannot be removed. The logout writes a mark into it, and no late answer replaces the mark.
#[test]
fn a_logout_of_a_document_that_is_a_mount_point_is_not_undone_by_a_late_answer() {
    let server = server(|_| {});
    let (home, old) = Home::with_grant(&server, EXPIRED);
    let outside = home.root.join("outside.json");
    fs::rename(home.document_path(), &outside).unwrap();
    let mut unknown: serde_json::Value = serde_json::from_slice(&fs::read(&outside).unwrap()).unwrap();
    unknown["a_later_member"] = "stays".into();
    fs::write(&outside, unknown.to_string()).unwrap();
    fs::write(home.document_path(), "").unwrap();
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let script = "mount --bind \"$0/outside.json\" \"$0/state/default.json\"; exec \"$@\"";
    let within = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("ONEGRANT_LOCK", "off");
        Process::start(&mut in_namespace(script, &home, &command))
    };
    let refresher = within(&["token"]);
    server.wait_until(|counts| counts.rotations == 1);
    let new = server.newest_refresh_token(&old.refresh_token).unwrap();
    let said = "revoked at the server, and deleted here: profile default\n";
    assert_eq!(within(&["logout"]).finish().stdout, said);
    gate.open();
    let ran = refresher.finish();
    assert!(ran.code == 3 && ran.stderr.contains("was logged out meanwhile"), "{ran:?}");
    let tokens: Vec<_> = server.requests_to(Endpoint::Revocation);
    let tokens: Vec<_> = tokens.iter().map(|request| request.parameter("token").unwrap()).collect();
    assert_eq!(tokens, [&old.refresh_token, &new], "the late answer's, too");
    let left: serde_json::Value = serde_json::from_slice(&fs::read(&outside).unwrap()).unwrap();
    assert!(left["session"].is_null(), "{left}");
    assert_eq!((&left["version"], &left["a_later_member"]), (&1.into(), &"stays".into()));
    let ran = within(&["token"]).finish();
    let text = "onegrant: no access token: profile default was logged out\nhint: onegrant login\n";
    assert_eq!(ran, Ran::failed(3, text));
    let nothing = "nothing to revoke, nothing to delete: profile default has no grant\n";
    assert_eq!(within(&["logout"]).finish().stdout, nothing);
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
}

/// For example two containers, each with the same file mounted into another directory.
#[test]
fn processes_that_share_only_a_mounted_document_share_its_lock() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let outside = home.root.join("outside.json");
    fs::rename(home.document_path(), &outside).unwrap();
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
    let start = |number: u32| {
        let inside = home.root.join(format!("inside-{number}"));
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("default.json"), "").unwrap();
        let script =
            format!("mount --bind \"$0/outside.json\" \"$0/inside-{number}/default.json\"; exec \"$@\"");
        let mut command = home.command(&["-v", "token"]);
        command.env("ONEGRANT_HOME", &inside);
        Process::start(&mut in_namespace(&script, &home, &command))
    };
    let first = start(1);
    server.wait_until(|counts| counts.refreshes == 1);
    let second = start(2);
    wait_for("a process that waits", || second.said().contains("waiting for it"));
    gate.open();
    let ran = [first.finish(), second.finish()];
    home.write_bytes(&fs::read(&outside).unwrap());
    let token = format!("{}\n", home.tokens().access_token);
    assert!(ran.iter().all(|ran| ran.code == 0 && ran.stdout == token), "{ran:?}");
    assert_eq!(server.counts().token_requests, 1);
    assert!(server.is_alive(&home.tokens().refresh_token));
}

#[test]
fn abandoned_files_are_removed_by_the_next_refresh() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let path = |name: &str| home.state.join(name);
    let old = SystemTime::now() - Duration::from_secs(3600);
    let swept =
        ["default~temporary.0123", "default~attempt.00000000deadbeef.3", "default~answer.00000000deadbeef.3"];
    let kept = [
        "default~temporary.4567",
        "default~unreadable.89ab",
        "other~attempt.00000000deadbeef.1",
        "default-2.json",
    ];
    for name in swept.iter().chain(&kept) {
        fs::write(path(name), "{}").unwrap();
    }
    File::options().write(true).open(path(swept[0])).unwrap().set_modified(old).unwrap();
    assert_eq!(home.run(&["token"]).code, 0);
    assert_eq!(swept.map(|name| path(name).exists()), [false; 3]);
    assert_eq!(
        kept.map(|name| path(name).exists()),
        [true; 4],
        "they are new, or belong to no refresh of this profile"
    );
}

#[test]
fn a_replacement_that_finds_another_document_or_none_changes_nothing() {
    let home = Home::new();
    home.write_bytes(b"old");
    let store = FileStore::new(&home.state, "default");
    let before = store.read().unwrap().unwrap().revision;
    home.write_bytes(b"another one");
    let name = RecordName { key: "refresh token", number: 1 };
    let there = store.read().unwrap();
    assert_eq!(store.replace(&before, b"new", Some(name)), WriteResult::Lost(there));
    assert_eq!(home.bytes(), b"another one");
    fs::remove_file(home.document_path()).unwrap();
    assert_eq!(store.replace(&before, b"new", Some(name)), WriteResult::Lost(None));
    assert!(!home.document_path().exists());
}

/// If the server does not rotate, another process may claim the same refresh token for the next access token while this commit
/// is on its way.
#[test]
fn a_commit_removes_no_later_claim() {
    let home = Home::new();
    home.write_bytes(b"old");
    let store = || FileStore::new(&home.state, "default");
    let (first, second) = (store(), store());
    let before = first.read().unwrap().unwrap().revision;
    let claim = |store: &FileStore, number| {
        let name = RecordName { key: "refresh token", number };
        let (bytes, expected) = (b"claim".as_slice(), &before);
        let record = NewRecord { name, bytes, reserve: 0, exclusive: true, expected, outdated: &[] };
        assert_eq!(store.create_record(&record).unwrap(), Some(number));
        name
    };
    let name = claim(&first, 1);
    claim(&second, 2);
    assert_eq!(first.replace(&before, b"new", Some(name)), WriteResult::Done);
    let records = second.records(name.key).unwrap();
    assert_eq!(records.iter().map(|record| record.number).collect::<Vec<_>>(), [2]);
}

/// Without a lock both can compare before one of them changes anything. The adoption may then rename its answer to the name that
/// the removal has freed, but only before the removal ends, because the removal takes the answer away as its last step. So one
/// look after the removal is enough: what it finds stays.
#[test]
fn a_look_after_a_removal_finds_what_an_adoption_stored_meanwhile() {
    let home = Home::new();
    for round in 0..400 {
        home.write_bytes(b"old");
        let store = || FileStore::new(&home.state, "default");
        let (adopts, removes) = (store(), store());
        let before = adopts.read().unwrap().unwrap().revision;
        let name = RecordName { key: "refresh token", number: 1 };
        let (bytes, expected) = (b"claim".as_slice(), &before);
        let record = NewRecord { name, bytes, reserve: 0, exclusive: true, expected, outdated: &[] };
        assert_eq!(adopts.create_record(&record).unwrap(), Some(1));
        let answer = fs::read_dir(&home.state).unwrap().map(|entry| entry.unwrap().path());
        let mut answer = answer.filter(|path| path.to_string_lossy().contains("~answer."));
        fs::write(answer.next().unwrap(), b"new").unwrap();
        let both = Barrier::new(2);
        let (removed, looked) = thread::scope(|scope| {
            scope.spawn(|| {
                let adopts = store();
                adopts.read().unwrap();
                both.wait();
                let _ = adopts.adopt(name, expected);
            });
            removes.read().unwrap();
            both.wait();
            let removed = removes.remove(expected, b"mark");
            (removed, removes.read().unwrap().map(|there| there.bytes))
        });
        let there = store().read().unwrap().map(|there| there.bytes);
        assert_eq!(looked, there, "round {round}: {removed:?}");
        match removed {
            WriteResult::Done if there.is_none() => {}
            WriteResult::Done | WriteResult::Lost(Some(_)) => {
                assert_eq!(there.as_deref(), Some(b"new".as_slice()), "round {round}")
            }
            other => panic!("round {round}: {other:?}"),
        }
        for entry in fs::read_dir(&home.state).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn nothing_is_read_from_the_current_directory() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let empty = home.root.join("empty");
    fs::create_dir(&empty).unwrap();
    let mut command = home.command(&["token"]);
    command.env("ONEGRANT_HOME", &empty).current_dir(&home.state);
    let text =
        "onegrant: no access token: profile default has no grant\nhint: onegrant login https://ADDRESS\n";
    assert_eq!(run(&mut command), Ran::failed(3, text));
    // A read does not create a missing home directory.
    let missing = home.root.join("missing");
    command.env("ONEGRANT_HOME", &missing);
    assert_eq!(run(&mut command), Ran::failed(3, text));
    assert!(!missing.exists());
}
