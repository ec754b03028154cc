//! Faults that a kernel makes by itself: no inodes, no descriptors, no threads. What a full disk, a read-only one and a
//! file size limit do is in `stores/file.rs`, and what file systems without locks do in `file_systems.rs`.

use crate::support::*;
use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

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
/// bind root: as root the test uses a user without processes, and mounts the home where that user may read it.
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
        copy_program(&home.root.join("onegrant"));
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
