//! Faults that a kernel makes by itself: no inodes, no descriptors, no threads, no locks. What a full disk, a read-only
//! one and a file size limit do is in `store.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may stop at a surprise"
)]

mod support;

use rustix::io::Errno;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;
use support::*;

/// The store on a file system of its own with room for so many files, the root of it among them.
fn with_inodes(home: &Home, command: &Command, inodes: u32) -> Command {
    let script = format!(
        "mount -t tmpfs -o nr_inodes={inodes},mode=700 none \"$0/disk\"; cp -p \"$0/state/default.json\" \"$0/disk\"; \
         code=0; \"$@\" || code=$?; cp \"$0/disk/default.json\" \"$0/after\"; ls \"$0/disk\" > \"$0/names\"; exit $code"
    );
    in_namespace(&script, home, command)
}

#[test]
fn nothing_is_spent_where_no_file_can_be_created() {
    for lock in ["auto", "claim", "off"] {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, EXPIRED);
        let disk = home.root.join("disk");
        fs::create_dir(&disk).unwrap();
        let mut refreshed = 0;
        // The root, the document, the lock, the record, the room for the answer: one more each time.
        for inodes in 2..=8 {
            let before = home.bytes();
            let spent = server.counts().rotations;
            let mut command = home.command(&["token"]);
            command.env("ONEGRANT_HOME", &disk).env("ONEGRANT_LOCK", lock);
            let ran = run(&mut with_inodes(&home, &command, inodes));
            let after = fs::read(home.root.join("after")).unwrap();
            let names = fs::read_to_string(home.root.join("names")).unwrap();
            let names = names.replace("default.lock\n", "").replace("default~history\n", "");
            assert_eq!(names, "default.json\n", "{lock}, {inodes}");
            if ran.code == 0 {
                home.write_bytes(&after);
                assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{lock}, {inodes}");
                refreshed += 1;
                break;
            }
            assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{lock}, {inodes}: {ran:?}");
            assert!(
                ran.stderr.contains("No space left on device\nhint: df -h "),
                "{lock}, {inodes}: {ran:?}"
            );
            assert_eq!((after, server.counts().rotations), (before, spent), "{lock}, {inodes}");
            assert!(server.is_alive(&issued.refresh_token), "{lock}, {inodes}");
        }
        assert_eq!((refreshed, server.counts().token_requests), (1, 1), "{lock}: at last there was room");
        assert!(server.is_alive(&home.tokens().refresh_token), "{lock}");
    }
}

/// Under any limit on descriptors a token is printed, or nothing was spent.
#[test]
fn a_limit_on_descriptors_costs_no_grant() {
    for lock in ["auto", "claim", "off"] {
        let mut refused = 0;
        for limit in 3..16 {
            let server = server(|_| {});
            let (home, _) = Home::with_grant(&server, EXPIRED);
            let mut command = home.command(&["token"]);
            command.env("ONEGRANT_LOCK", lock);
            // The shell needs its descriptors to start the program, not the other way round.
            let script = format!("ulimit -n {limit}; exec \"$@\"");
            let ran = run(&mut wrapped("/bin/sh", &["-c", &script, "sh"], &command));
            match ran.code {
                0 => assert_eq!(
                    ran.stdout,
                    format!("{}\n", home.tokens().access_token),
                    "{lock}, {limit}: {ran:?}"
                ),
                4 | 5 => {
                    assert!(ran.stderr.starts_with("onegrant: "), "{lock}, {limit}: {ran:?}");
                    assert_eq!(server.counts().rotations, 0, "{lock}, {limit}: {ran:?}");
                    refused += 1;
                }
                _ => unreachable!("{lock}, {limit}: {ran:?}"),
            }
            let next = home.run(&["token"]);
            assert_eq!(next, Ran::printed(&home.tokens().access_token), "{lock}, {limit}: after {ran:?}");
            assert!(server.is_alive(&home.tokens().refresh_token), "{lock}, {limit}");
            assert_eq!(server.counts().rotations, 1, "{lock}, {limit}");
        }
        assert!(refused > 0, "{lock}: no limit was too low");
    }
}

/// Where no thread can be started the lock is taken without one. The limit counts all of a user's processes and does not
/// bind root: as root a user is borrowed that has none, and the home is shown where he may go.
#[test]
fn a_limit_on_processes_costs_no_grant() {
    const USER: u32 = 64_999;
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let limit = ["-c", "ulimit -u 1; exec \"$@\"", "bash"];
    let ran = if is_root() {
        for path in [&home.root, &home.state, &home.document_path()] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_onegrant"), home.root.join("onegrant")).unwrap();
        let mut command = Command::new("/mnt/onegrant");
        command.arg("token").env("ONEGRANT_HOME", "/mnt/state").current_dir(&home.root);
        let user = USER.to_string();
        let options = ["--reuid", &user, "--regid", &user, "--clear-groups"];
        let limited = wrapped("setpriv", &options, &wrapped("/bin/bash", &limit, &command));
        run(&mut in_namespace("mount --bind \"$0\" /mnt; cd /mnt; exec \"$@\"", &home, &limited))
    } else {
        run(&mut wrapped("/bin/bash", &limit, &home.command(&["token"])))
    };
    assert_eq!(ran, Ran::printed(&home.tokens().access_token));
    assert_eq!(server.counts().token_requests, 1);
    assert!(server.is_alive(&home.tokens().refresh_token));
}

/// How many processes meet on a file system without locks.
const CROWD: usize = 20;

/// Shows the home's store through a FUSE server that answers every lock call with this; 0 is a lie.
fn show(home: &Home, errno: i32, mount_point: &Path) -> Process {
    let program = std::env::var_os("ONEGRANT_NO_LOCKS").expect("the path of the FUSE server");
    fs::create_dir(mount_point).unwrap();
    let mut command = Command::new(&program);
    command.arg(errno.to_string()).arg(&home.state).arg(mount_point).arg("-f");
    let file_system = Process::start(&mut command);
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    wait_for("the mount", || device(mount_point) != device(&home.root));
    file_system
}

fn hide(file_system: Process, mount_point: &Path) {
    assert_eq!(run(Command::new("umount").arg(mount_point)).code, 0);
    assert_eq!(file_system.finish().code, 0);
}

/// What `doctor` finds out about the lock there.
fn lock_check(command: &mut Command) -> (Value, i32) {
    let ran = run(command);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = told["checks"].as_array().unwrap();
    (checks.iter().find(|check| check["name"] == "lock").unwrap().clone(), ran.code)
}

/// Both of the two processes get the lock: as on some network file systems, but told here.
#[test]
#[ignore = "needs a FUSE server: .ci/no-locks.sh"]
fn a_file_system_whose_locks_lie_is_told_by_doctor() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mount_point = home.root.join("mounted");
    let file_system = show(&home, 0, &mount_point);
    let mut command = home.command(&["doctor", "--json"]);
    command.env("ONEGRANT_HOME", &mount_point);
    let (check, code) = lock_check(&mut command);
    assert_eq!((&check["verdict"], code), (&"fail".into(), 5), "{check}");
    assert_eq!(check["what"], "two processes hold the lock at once: locks mean nothing on this fuse");
    assert!(check["hint"].as_str().unwrap().starts_with("export ONEGRANT_LOCK=claim"), "{check}");
    let (check, code) = lock_check(command.env("ONEGRANT_LOCK", "claim"));
    assert_eq!((&check["verdict"], code), (&"ok".into(), 0), "the hint mends it: {check}");
    hide(file_system, &mount_point);
}

/// The file system also knows no hard links, no fallocate and no sync of a directory.
#[test]
#[ignore = "needs a FUSE server: .ci/no-locks.sh"]
fn a_file_system_without_locks_is_no_less_than_claimed() {
    for errno in [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS] {
        let server = server(|_| {});
        let (home, _) = Home::with_grant(&server, EXPIRED);
        let mount_point = home.root.join("mounted");
        let file_system = show(&home, errno.raw_os_error(), &mount_point);

        let onegrant = |arguments: &[&str]| {
            let mut command = home.command(arguments);
            command.env("ONEGRANT_HOME", &mount_point);
            command
        };
        let status = run(&mut onegrant(&["status", "--json"]));
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["level"], "claimed", "{errno}: {status}");
        let (check, _) = lock_check(&mut onegrant(&["doctor", "--json"]));
        assert_eq!(check["verdict"], "warn", "{errno}: {check}");
        assert!(check["what"].as_str().unwrap().starts_with("claimed: fuse refuses locks ("), "{check}");
        let ran = run_together((0..CROWD).map(|_| onegrant(&["token"])).collect());
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_eq!((server.counts().token_requests, server.counts().rotations), (1, 1), "{errno}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{errno}");
        assert_eq!(run(&mut onegrant(&["logout"])).code, 0, "{errno}");
        assert!(!home.document_path().exists(), "{errno}");

        hide(file_system, &mount_point);
        println!("{errno}: {CROWD} processes, one refresh");
    }
}
