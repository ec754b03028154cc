//! `onegrant doctor`: every check where all is well and where it is not, and nothing that it changes.

use crate::support::authorization_server::NamedIssuer;
use crate::support::*;
use serde_json::{Value, json};
use servers::closed_port::ClosedPort;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

/// The object of `doctor --json`, and the exit code.
#[track_caller]
fn examine(command: &mut Command) -> (Value, i32) {
    let ran = run(command);
    let failed = ran.code != 0;
    assert_eq!(!ran.stderr.is_empty(), failed, "{ran:?}");
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(object["verdict"] == "fail", failed, "{ran:?}");
    (object, ran.code)
}

fn doctor(home: &Home) -> Command {
    home.command(&["doctor", "--json"])
}

fn find<'a>(object: &'a Value, name: &str) -> &'a Value {
    object["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap_or(&Value::Null)
}

/// The verdict of one check and what it says begins or goes on with; the exit code is the check's own.
#[track_caller]
fn assert_check(command: &mut Command, name: &str, verdict: &str, what: &str) -> Value {
    let (object, code) = examine(command);
    let check = find(&object, name);
    assert_eq!(check["verdict"], verdict, "{name}: {object:#}");
    assert!(check["what"].as_str().unwrap().contains(what), "{name}: {object:#}");
    assert_eq!(check["hint"].is_null(), verdict == "ok", "{name}: {object:#}");
    assert_eq!(i64::from(code), check["exit_code"].as_i64().unwrap_or(0), "{name}: {object:#}");
    check.clone()
}

/// Everything in the home that a change would show in.
fn state(home: &Home) -> Vec<(String, u64, u32, i64, i64, Vec<u8>)> {
    let mut files = Vec::new();
    for path in [home.state.clone()]
        .into_iter()
        .chain(fs::read_dir(&home.state).into_iter().flatten().map(|entry| entry.unwrap().path()))
    {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let bytes = fs::read(&path).unwrap_or_default();
        let name = path.display().to_string();
        files.push((
            name,
            metadata.ino(),
            metadata.mode(),
            metadata.mtime_nsec(),
            metadata.ctime_nsec(),
            bytes,
        ));
    }
    files.sort();
    files
}

#[test]
fn a_healthy_profile_gives_one_line_for_each_check() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    home.run(&["refresh"]);
    server.reset_counts();
    let ran = home.run(&["doctor"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let names: Vec<&str> = ran.stdout.lines().map(|line| line[6..18].trim()).collect();
    let wanted = ["store", "permissions", "lock", "copies", "grant", "proxy", "tls", "discovery", "clock"];
    assert_eq!(names, wanted, "{}", ran.stdout);
    assert!(ran.stdout.lines().all(|line| line.starts_with("ok    ")), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("lock         locked: two processes exclude each other (flock, "),
        "{}",
        ran.stdout
    );
    let (object, code) = examine(&mut doctor(&home));
    assert_eq!((&object["verdict"], &object["profile"], code), (&json!("ok"), &json!("default"), 0));
    assert_eq!(server.counts(), Default::default(), "metadata alone was asked for");
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn doctor_changes_nothing() {
    let server = server(|_| {});
    for has_lock in [true, false] {
        for lock in ["auto", "require", "claim", "off"] {
            let (home, _) = Home::with_grant(&server, EXPIRED);
            if has_lock {
                File::create(home.state.join("default.lock")).unwrap();
            }
            let before = state(&home);
            assert_eq!(home.run_with_lock(lock, &["doctor"]).code, 0);
            assert_eq!(state(&home), before, "{has_lock} {lock}");
        }
    }
    // Where nothing is there, nothing is made.
    let home = Home::new();
    fs::remove_dir(&home.state).unwrap();
    assert_eq!(home.run(&["doctor"]).code, 3);
    assert!(!home.state.exists());
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn without_a_profile_the_directory_is_checked_and_a_login_is_suggested() {
    let home = Home::new();
    let check = assert_check(&mut doctor(&home), "grant", "fail", "profile default has no grant");
    assert_eq!(check["hint"], "onegrant login https://ADDRESS");
    let (object, _) = examine(&mut doctor(&home));
    for name in ["store", "permissions", "lock", "tls"] {
        assert_eq!(find(&object, name)["verdict"], "ok", "{object:#}");
    }
    let ran = home.run(&["--profile", "work", "doctor"]);
    let wanted =
        "onegrant: 1 of 5 checks failed: grant\nhint: onegrant --profile work login https://ADDRESS\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (3, wanted), "{ran:?}");
}

#[test]
fn a_store_that_cannot_take_an_answer_fails() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    assert_check(&mut doctor(&home), "store", "ok", "default.json, on ");

    // No permission.
    fs::set_permissions(&home.state, Permissions::from_mode(0o500)).unwrap();
    let mut command = unprivileged(&doctor(&home));
    let check = assert_check(&mut command, "store", "fail", "cannot write in ");
    assert!(check["hint"].as_str().unwrap().starts_with("ls -la "), "{check}");
    fs::set_permissions(&home.state, Permissions::from_mode(0o700)).unwrap();

    // Read-only, and full.
    let read_only =
        "mount --bind \"$0/state\" \"$0/state\"; mount -o remount,bind,ro \"$0/state\"; exec \"$@\"";
    assert_check(
        &mut in_namespace(read_only, &home, &doctor(&home)),
        "store",
        "fail",
        "Read-only file system",
    );
    let full = "cp -p \"$0/state/default.json\" \"$0/document\"; mount -t tmpfs -o size=64k,mode=700 none \"$0/state\"; \
                cp -p \"$0/document\" \"$0/state/default.json\"; exec \"$@\"";
    let check = assert_check(
        &mut in_namespace(full, &home, &doctor(&home)),
        "store",
        "fail",
        "no space for an answer",
    );
    assert!(check["hint"].as_str().unwrap().starts_with("df -h "), "{check}");

    // No document.
    for bytes in [&b"{\"version\":1,"[..], b"", b"[]"] {
        home.write_bytes(bytes);
        let check = assert_check(&mut doctor(&home), "store", "fail", "it was left as it is");
        assert_eq!(check["exit_code"], 5);
        assert_eq!(home.bytes(), bytes);
    }
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn links_mounts_and_documents_that_a_login_kept_are_reported() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mount = "mount --bind \"$0/state/default.json\" \"$0/state/default.json\"; exec \"$@\"";
    let mut command = in_namespace(mount, &home, &doctor(&home));
    assert_check(&mut command, "store", "ok", ", a mount point that is written in place");

    let real = home.root.join("real");
    fs::create_dir(&real).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o700)).unwrap();
    fs::rename(home.document_path(), real.join("default.json")).unwrap();
    symlink(real.join("default.json"), home.document_path()).unwrap();
    assert_check(&mut doctor(&home), "store", "ok", &format!(", a link to {}", real.display()));

    let aside = real.join("default~unreadable.1");
    fs::write(&aside, "{").unwrap();
    let check = assert_check(&mut doctor(&home), "leftovers", "warn", "an unreadable document was kept as ");
    assert_eq!(check["hint"], format!("rm -i '{}'", aside.display()));
}

#[test]
fn loose_permissions_are_a_warning_with_the_command_that_fixes_them() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let check = assert_check(&mut doctor(&home), "permissions", "ok", "directory 0700, document 0600, user ");
    assert_eq!(check["hint"], Value::Null);
    for (path, mode, wanted) in
        [(home.document_path(), 0o640, "chmod 600"), (home.state.clone(), 0o755, "chmod 700")]
    {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let check =
            assert_check(&mut doctor(&home), "permissions", "warn", &format!("its mode is {mode:04o}"));
        assert_eq!(check["hint"], format!("{wanted} {}", path.display()));
        fs::set_permissions(&path, before).unwrap();
    }
    // A lock that another user made, as after `sudo onegrant`.
    let lock = home.state.join("default.lock");
    File::create(&lock).unwrap();
    fs::set_permissions(&lock, Permissions::from_mode(0o000)).unwrap();
    assert_check(
        &mut unprivileged(&doctor(&home)),
        "permissions",
        "fail",
        "for writing: every refresh needs it",
    );
    fs::set_permissions(&lock, Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        chown(home.document_path(), Some(65534), None).unwrap();
        assert_check(&mut doctor(&home), "permissions", "warn", "belongs to user 65534");
    }
}

#[test]
fn the_level_is_determined_by_two_processes() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    assert_check(&mut doctor(&home), "lock", "ok", "two processes exclude each other");
    let lock = File::create(home.state.join("default.lock")).unwrap();
    assert_check(&mut doctor(&home), "lock", "ok", "two processes exclude each other");
    lock.lock().unwrap();
    assert_check(&mut doctor(&home), "lock", "ok", "another process holds it now");
    // Its own lock is given back.
    lock.unlock().unwrap();
    assert_check(&mut doctor(&home), "lock", "ok", "two processes exclude each other");
    assert!(lock.try_lock().is_ok());
    let with = |value: &str| {
        let mut command = doctor(&home);
        command.env("ONEGRANT_LOCK", value);
        command
    };
    assert_check(&mut with("claim"), "lock", "ok", "claimed (ONEGRANT_LOCK=claim)");
    let ends = "a server that ends the family on replay can still end the grant";
    let check = assert_check(&mut with("off"), "lock", "warn", ends);
    assert_eq!(check["hint"], "unset ONEGRANT_LOCK");
}

#[test]
fn the_lock_is_tested_in_a_directory_with_a_name_of_any_bytes() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let directory = home.root.join(OsStr::from_bytes(b"\xff"));
    fs::rename(&home.state, &directory).unwrap();
    let mut command = doctor(&home);
    assert_check(command.env("ONEGRANT_HOME", &directory), "lock", "ok", "two processes exclude each other");
}

#[test]
fn the_lock_probe_is_for_internal_use_and_creates_nothing() {
    let home = Home::new();
    let path = home.state.join("x.lock");
    let ran = home.run(&["--try-lock-for-doctor", path.to_str().unwrap()]);
    let wanted = "onegrant: --try-lock-for-doctor is for onegrant's own use: stdin has no request\nhint: onegrant --help\n";
    assert_eq!(ran, Ran::failed(2, wanted));
    assert_eq!(home.names(), [""; 0]);
}

#[test]
fn a_copy_of_the_grant_is_found_in_the_store_and_in_other_likely_places() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    fs::write(home.state.join("foreign.json"), "[]").unwrap();
    assert_check(&mut doctor(&home), "copies", "ok", "(1 document compared)");
    fs::hard_link(home.document_path(), home.state.join("same.json")).unwrap();
    assert_check(&mut doctor(&home), "copies", "ok", "no other profile");

    let copy = home.state.join("work.json");
    fs::copy(home.document_path(), &copy).unwrap();
    let check = assert_check(&mut doctor(&home), "copies", "warn", copy.to_str().unwrap());
    let hint = check["hint"].as_str().unwrap().to_owned();
    assert!(
        hint.starts_with(&format!(
            "env ONEGRANT_STORE=file:{} onegrant --profile work ",
            home.state.display()
        ))
    );
    // The hint can be pasted, and fixes the problem.
    let bin = Path::new(env!("CARGO_BIN_EXE_onegrant")).parent().unwrap().to_str().unwrap();
    let pasted =
        Command::new("/bin/sh").args(["-c", &hint]).env("PATH", format!("{bin}:/usr/bin:/bin")).status();
    assert!(pasted.unwrap().success());
    assert_check(&mut doctor(&home), "copies", "ok", "no other profile");
    assert!(!copy.exists() && home.document_path().exists());

    for (variable, value, directory) in
        [("XDG_STATE_HOME", "xdg", "xdg/onegrant"), ("HOME", "user", "user/.local/state/onegrant")]
    {
        let directory = home.root.join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(home.document_path(), directory.join("old.json")).unwrap();
        let mut command = doctor(&home);
        command.env(variable, home.root.join(value));
        assert_check(&mut command, "copies", "warn", directory.join("old.json").to_str().unwrap());
    }
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn the_grant_is_judged_and_its_age_is_reported() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    assert_check(&mut doctor(&home), "grant", "ok", "the refresh token is 0 days old");
    let change = |change: &dyn Fn(&mut Value)| {
        let mut document = document(&server, &issued, LIFETIME);
        change(&mut document);
        home.write(&document);
    };
    change(&|document| {
        document["last_refresh"] = json!({"at": now() - 12 * 86_400 - 5, "host": "h", "pid": 1});
        document["login"] = json!({"id": "x", "at": 1_700_000_000, "flow": "device"});
    });
    let what = "the refresh token is 12 days old, logged in at Tue, 14 Nov 2023 22:13:20 GMT";
    assert_check(&mut doctor(&home), "grant", "ok", what);
    change(&|document| _ = document["session"].as_object_mut().unwrap().remove("refresh_token"));
    assert_check(&mut doctor(&home), "grant", "warn", "there is no refresh token");
    change(&|document| document["session"] = Value::Null);
    let check = assert_check(&mut doctor(&home), "grant", "fail", "a login is required");
    assert_eq!((&check["hint"], &check["exit_code"]), (&json!("onegrant login"), &json!(3)));
}

#[test]
fn a_refresh_that_was_never_finished_is_reported() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let gate = Gate::closed();
    server.script(Endpoint::Token, [Fault::Hold(gate.clone())]);
    let process = home.start(&["token"]);
    server.wait_until(|counts| counts.token_requests == 1);
    assert_check(&mut doctor(&home), "grant", "ok", "days old");
    kill_with_worker(process, &home);
    let before = state(&home);
    assert_check(&mut doctor(&home), "grant", "warn", "and never finished: the refresh token may be spent");
    assert_eq!(state(&home), before);
    gate.open();
}

#[test]
fn the_clock_is_compared_with_the_servers() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    assert_check(&mut doctor(&home), "clock", "ok", "as the server's");
    for (offset, verdict, side) in [
        (120, "warn", "behind"),
        (-120, "warn", "ahead of"),
        (900, "fail", "behind"),
        (-900, "fail", "ahead of"),
    ] {
        server.set_clock_offset_seconds(offset);
        let check = assert_check(&mut doctor(&home), "clock", verdict, side);
        assert!(check["hint"].as_str().unwrap().starts_with("sudo timedatectl set-ntp true"), "{check}");
        assert_eq!(check["exit_code"].as_u64(), (verdict == "fail").then_some(2));
    }
}

#[test]
fn the_servers_metadata_is_compared_with_the_profile() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    assert_check(&mut doctor(&home), "discovery", "ok", "announces the endpoints that the profile uses");
    let written = home.document();
    let change = |name: &str, value: Value| {
        let mut document = written.clone();
        document[name] = value;
        home.write(&document);
    };
    change("userinfo_endpoint", json!(format!("{}/old", server.issuer())));
    let check = assert_check(
        &mut doctor(&home),
        "discovery",
        "warn",
        "another userinfo_endpoint than the profile uses",
    );
    assert_eq!(check["hint"], "onegrant login");
    change("issuer_is_assumed", json!(true));
    assert_check(&mut doctor(&home), "discovery", "ok", "not checked");
    home.write(&written);

    server.always(Endpoint::OauthMetadata, Fault::status(503));
    server.always(Endpoint::OpenidConfiguration, Fault::status(503));
    let check = assert_check(&mut doctor(&home), "discovery", "fail", "answers with status 503");
    assert_eq!(check["exit_code"], 4);
    server.clear_faults();
    server
        .adjust(|settings| settings.metadata_issuer = NamedIssuer::Other("https://other.example".to_owned()));
    let check = assert_check(&mut doctor(&home), "discovery", "fail", "https://other.example");
    assert_eq!(check["exit_code"], 2);
    server.adjust(|settings| {
        settings.serves_oauth_metadata = false;
        settings.serves_openid_configuration = false;
    });
    assert_check(&mut doctor(&home), "discovery", "warn", "no metadata at ");
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_server_that_cannot_be_reached_is_temporary_and_one_that_hangs_costs_the_deadline() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    assert_check(&mut doctor(&home), "tls", "ok", "over plain http, on this machine");
    server.always(Endpoint::OauthMetadata, Fault::StallBefore);
    let mut command = home.command(&["--timeout", "1", "doctor", "--json"]);
    let check = assert_check(&mut command, "tls", "fail", "no whole answer from 127.0.0.1:");
    assert_eq!(check["exit_code"], 4);
    server.stop();
    let check = assert_check(&mut doctor(&home), "tls", "fail", "cannot connect to 127.0.0.1:");
    assert_eq!(check["exit_code"], 4);
}

#[test]
fn the_ca_roots_in_use_and_unreadable_ones_are_reported() {
    let home = Home::new();
    let tls = |file: &str| {
        let (object, _) = examine(doctor(&home).env("SSL_CERT_FILE", file));
        find(&object, "tls").clone()
    };
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/ca.pem");
    let check = tls(ca);
    assert_eq!(check["verdict"], "ok");
    assert!(
        check["what"].as_str().unwrap().contains(&format!("CA roots: 1 from SSL_CERT_FILE {ca}, ")),
        "{check}"
    );
    let check = tls("/nonexistent/ca.pem");
    assert_eq!(check["verdict"], "warn");
    assert!(
        check["what"].as_str().unwrap().starts_with("cannot use SSL_CERT_FILE /nonexistent/ca.pem: "),
        "{check}"
    );
}

#[test]
fn the_proxy_of_the_token_endpoint_is_reported_without_its_password() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let proxied = |name: &str, value: &str| {
        let mut command = doctor(&home);
        command.env(name, value).env("ONEGRANT_TIMEOUT", "5");
        command
    };
    assert_check(&mut doctor(&home), "proxy", "ok", "none: no variable names one for 127.0.0.1:");
    assert_check(&mut proxied("https_proxy", "http://p:1"), "proxy", "ok", "is this machine: no proxy");

    let mut document = home.document();
    for name in ["issuer", "revocation_endpoint", "userinfo_endpoint", "device_authorization_endpoint"] {
        document.as_object_mut().unwrap().remove(name);
    }
    document["token_endpoint"] = json!("https://as.example/token");
    home.write(&document);
    let closed_port = ClosedPort::reserve();
    let closed = closed_port.number();
    let (object, code) = examine(&mut proxied("HTTPS_PROXY", &format!("http://u:secret@127.0.0.1:{closed}")));
    assert_eq!((find(&object, "proxy")["verdict"].as_str(), code), (Some("ok"), 4), "{object:#}");
    let what = format!("as.example:443 is reached through 127.0.0.1:{closed}, as HTTPS_PROXY says");
    assert_eq!(find(&object, "proxy")["what"], what);
    assert!(
        find(&object, "tls")["what"]
            .as_str()
            .unwrap()
            .starts_with("cannot connect to as.example:443 through")
    );
    assert!(!object.to_string().contains("secret"));
    let check = assert_check(
        &mut proxied("ALL_PROXY", "socks5://u:secret@p:1"),
        "proxy",
        "fail",
        "socks proxies are not",
    );
    assert_eq!(check["exit_code"], 2);
}

#[test]
fn the_order_in_which_git_asks_its_helpers_is_judged() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let (object, _) = examine(&mut doctor(&home));
    assert_eq!(find(&object, "git"), &Value::Null, "no host is served");
    let mut document = home.document();
    document["git_hosts"] = json!(["git.example"]);
    home.write(&document);
    let user = home.root.join("user");
    let bin = home.root.join("bin");
    fs::create_dir(&user).unwrap();
    fs::create_dir(&bin).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    let git = |path: &str| {
        let mut command = doctor(&home);
        command.env("HOME", &user).env("GIT_CONFIG_NOSYSTEM", "1").env("PATH", path);
        command
    };
    assert_check(&mut git(bin.to_str().unwrap()), "git", "ok", "not checked: there is no git");
    let paste = |check: &Value| {
        let hint = check["hint"].as_str().unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", hint]).env_clear().env("HOME", &user).env("PATH", &path);
        assert!(shell.status().unwrap().success(), "{hint}");
    };
    let check = assert_check(&mut git(&path), "git", "warn", "git does not ask onegrant for git.example");
    paste(&check);
    assert_check(&mut git(&path), "git", "warn", "git looks for git-credential-onegrant");
    symlink(env!("CARGO_BIN_EXE_onegrant"), bin.join("git-credential-onegrant")).unwrap();
    assert_check(&mut git(&path), "git", "ok", "git asks onegrant first");

    let configuration = user.join(".gitconfig");
    let own = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, format!("[credential]\n\thelper = store\n\tuseHttpPath = true\n{own}"))
        .unwrap();
    let check = assert_check(&mut git(&path), "git", "warn", "git asks 'store' (file:");
    paste(&check);
    assert_check(&mut git(&path), "git", "ok", "credential.useHttpPath is set");
    // A repository's own configuration is not taken for the person's.
    let repository = home.root.join("repository");
    let script = "git init -q \"$0\" && git -C \"$0\" config credential.helper cache";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).arg(&repository).env_clear().env("HOME", &user).env("PATH", &path);
    assert!(shell.status().unwrap().success());
    assert_check(git(&path).current_dir(&repository), "git", "ok", "git asks onegrant first");
}

/// Of several failing classes the store's comes first, and a login is not asked for while a document cannot be read.
#[test]
fn the_exit_code_is_that_of_the_problem_to_fix_first() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    server.set_clock_offset_seconds(900);
    let mut document = home.document();
    document["session"] = Value::Null;
    home.write(&document);
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.stderr.starts_with("onegrant: 2 of 9 checks failed: grant, clock\nhint: sudo timedatectl "),
        "{ran:?}"
    );
    fs::set_permissions(&home.state, Permissions::from_mode(0o500)).unwrap();
    let ran = run(&mut unprivileged(&home.command(&["doctor"])));
    fs::set_permissions(&home.state, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(
        ran.stderr.starts_with("onegrant: 3 of 9 checks failed: store, grant, clock\nhint: ls -la "),
        "{ran:?}"
    );
    let hints = ran.stdout.lines().filter(|line| line.starts_with("      hint: ")).count();
    assert_eq!(hints, 3, "{}", ran.stdout);
}

/// A cache before the server repeats the date of the answer that it keeps.
#[test]
fn the_age_of_a_cached_answer_is_no_skew() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let date = |seconds_ago: u64| {
        httpdate::fmt_http_date(std::time::SystemTime::now() - std::time::Duration::from_secs(seconds_ago))
    };
    let metadata = json!({"issuer": server.issuer(), "token_endpoint": server.token_endpoint()});
    let answer = |age: &str| {
        let date = date(3000);
        let head = format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\n{age}Content-Length: {}\r\n",
            metadata.to_string().len()
        );
        Fault::Raw(format!("{head}Connection: close\r\n\r\n{metadata}").into_bytes())
    };
    server.script(Endpoint::OauthMetadata, [answer("Age: 3000\r\n"), answer("")]);
    assert_check(&mut doctor(&home), "clock", "ok", "");
    assert_check(&mut doctor(&home), "clock", "fail", "ahead of");
}

/// The request to the second process is a file, too: a file in memory.
#[test]
fn a_file_size_limit_ends_no_check() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, VALID);
    let command = home.command(&["doctor"]);
    let output = wrapped("/bin/sh", &["-c", "ulimit -f 0; \"$@\"", "sh"], &command).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("the lock probe gave no answer (File too large"), "{stdout}");
}
