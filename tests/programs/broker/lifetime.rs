//! From the socket to the end of the command: what is there meanwhile, and that nothing is left.

use super::*;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// `onegrant exec --serve ADDRESS -- /bin/sh -c SCRIPT`
fn shell(home: &Home, address: &str, script: &str) -> Command {
    let mut command = home.command(&["exec", "--serve", address, "--", "/bin/sh", "-c", script]);
    command.env("PATH", "/usr/bin:/bin");
    command
}

#[test]
fn the_command_is_led_to_the_broker_and_to_nothing_else() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    fs::rename(home.document_path(), home.state.join("work.json")).unwrap();
    let mut command = shell(&home, "unix:a socket", "env; ls -l 'a socket'");
    command
        .env("ONEGRANT_PROFILE", "work")
        .env("ONEGRANT_TIMEOUT", "20")
        .env("ACCESS_TOKEN", "of another grant");
    let ran = run(command.env("MORE", "as it was"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let (environment, list): (Vec<&str>, Vec<&str>) = ran.stdout.lines().partition(|line| line.contains('='));
    let names: Vec<&str> = environment.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let ours = ["MORE", "ONEGRANT_BROKER_KEY", "ONEGRANT_STORE", "ONEGRANT_TIMEOUT", "PATH"];
    // A shell adds some of its own.
    let mut names: Vec<&str> =
        names.into_iter().filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    names.sort_unstable();
    assert_eq!(names, ours);
    let value =
        |name: &str| environment.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
    let socket = home.root.join("a socket");
    assert_eq!(value("ONEGRANT_STORE"), format!("broker:unix:{}", socket.display()), "absolute");
    let key = value("ONEGRANT_BROKER_KEY");
    assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert!(list[0].starts_with("srw-------"), "{list:?}");
    assert!(!ran.stdout.contains(&issued.access_token));
    wait_for("the end of the companion", || companions(&home).is_empty());
    assert!(!socket.exists());
}

/// The companion removes its socket when the command has ended. The next run may begin before that.
#[test]
fn a_socket_whose_broker_is_about_to_end_is_waited_for() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let path = home.root.join("sock");
    let ending = UnixListener::bind(&path).unwrap();
    let next = Process::start(&mut shell(&home, "unix:sock", "echo ran"));
    let _seen = ending.accept().unwrap();
    fs::remove_file(&path).unwrap();
    drop(ending);
    assert_eq!(next.finish(), Ran::printed("ran"));
}

#[test]
fn a_key_that_is_wrong_and_a_key_that_is_absent_have_their_own_messages() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let served = Served::start(&home, &["--serve", "unix:sock"]);
    for (key, said) in [
        (
            "",
            "onegrant: the broker wants a key, and ONEGRANT_BROKER_KEY is not set\n\
             hint: pass ONEGRANT_BROKER_KEY on, as docker run -e ONEGRANT_BROKER_KEY does\n",
        ),
        (
            "of-another-run",
            "onegrant: the broker does not accept the key in ONEGRANT_BROKER_KEY\n\
             hint: run this inside of onegrant exec --serve, which sets ONEGRANT_BROKER_KEY\n",
        ),
    ] {
        let client = Client { key: key.to_owned(), ..served.client.clone() };
        for command in ["token", "status"] {
            assert_eq!(run(&mut client.command(&home, &[command])), Ran::failed(2, said));
        }
    }
    served.end(&home);
}

#[test]
fn the_token_is_in_a_variable_and_in_a_file_only_if_they_are_named() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let script = "echo \"$ACCESS_TOKEN,$A,$(cat \"$ACCESS_TOKEN_FILE\")\"";
    let options = ["exec", "--serve", "tcp", "--env", "A", "--file", "token", "--", "/bin/sh", "-c", script];
    let ran = run(home.command(&options).env("PATH", "/usr/bin:/bin"));
    assert_eq!(ran.token(), format!(",{0},{0}", issued.access_token));
    wait_for("the end of the companion", || companions(&home).is_empty());
}

#[test]
fn a_broker_also_keeps_the_file_of_its_command_fresh() {
    let server = server(|settings| settings.lifetime = Some(std::time::Duration::from_secs(3)));
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let served = Served::start(&home, &["--serve", "unix:sock", "--file", "token"]);
    let read = || fs::read_to_string(home.root.join("token")).unwrap();
    let first = read();
    server.adjust(|settings| settings.lifetime = Some(std::time::Duration::from_secs(3600)));
    wait_for("another token in the file", || read() != first);
    assert_eq!(served.client.get("/v1/token").token() + "\n", read());
    served.end_after(2, &server, &home);
}

#[test]
fn nothing_is_left_when_the_command_has_ended_however_it_ended() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let before = names_in(&home.root);
    for signal in [None, Some(Signal::KILL), Some(Signal::TERM)] {
        let served = Served::start(&home, &UNIX);
        assert!(home.root.join("sock").exists());
        match signal {
            None => assert_eq!(served.end(&home).code, 0),
            Some(signal) => {
                served.process.signal(signal);
                assert!(served.process.finish().code < 0);
                wait_for("the end of the companion", || !is_running(served.companion));
            }
        }
        assert_eq!(names_in(&home.root), before, "{signal:?}");
    }
    for (program, code) in [("/no/such/program", 127), ("/", 126)] {
        let ran = home.run(&["exec", "--serve", "unix:sock", "--", program]);
        assert_eq!((ran.code, names_in(&home.root)), (code, before.clone()));
        wait_for("the end of the companion", || companions(&home).is_empty());
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The broker of a command ends after the command, and the next one waits for it.
#[test]
fn one_command_after_another_has_the_same_address() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for address in ["unix:sock".to_owned(), format!("tcp:{free}")] {
        for _ in 0..20 {
            assert_eq!(
                run(&mut shell(&home, &address, "echo $ONEGRANT_STORE >>stores")).code,
                0,
                "{address}"
            );
        }
    }
    let stores = fs::read_to_string(home.root.join("stores")).unwrap();
    assert_eq!(stores.lines().collect::<std::collections::BTreeSet<_>>().len(), 2, "{stores}");
    assert_eq!(stores.lines().count(), 40);
}

#[test]
fn a_companion_that_is_ended_removes_its_socket_and_the_command_goes_on() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    for options in [&UNIX[..], &["--serve", "unix:sock", "--file", "token"]] {
        let mut served = Served::start(&home, options);
        // It has its socket before it serves. Until then a signal ends it as it ends any program.
        assert_eq!(served.client.get("/v1/profile").status, 200);
        let pid = rustix::process::Pid::from_raw(i32::try_from(served.companion).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        wait_for("the end of the companion", || !is_running(served.companion));
        assert!(!home.root.join("sock").exists() && !served.process.is_over());
        served.end(&home);
    }
}

/// The key is in the environment of the command, and nowhere else.
#[test]
fn the_key_is_in_no_argument_message_history_or_other_environment() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let mut command = home.command(&["-vv", "exec", "--serve", "unix:sock", "--"]);
    command.args(SHELL);
    let served = Served::of(&home, &mut command);
    let key = served.client.key.clone();
    let stored = home.tokens().access_token;
    assert_ne!(served.client.reject(&stored).token(), stored);
    assert_eq!(
        served.client.send(format!("GET /v1/token HTTP/1.1\r\nAuthorization: Bearer {key}0\r\n\r\n")).status,
        401
    );
    let companion = served.companion;
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{companion}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&key), "{file}");
    }
    let arguments = fs::read(format!("/proc/{}/cmdline", served.process.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(&key));
    let ran = served.end(&home);
    assert!(ran.stderr.contains("onegrant: ") && !ran.stderr.contains(&key), "{}", ran.stderr);
    for name in fs::read_dir(&home.state).unwrap() {
        let text = fs::read_to_string(name.unwrap().path()).unwrap();
        assert!(!text.contains(&key), "{text}");
    }
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (2, 0));
}

#[test]
fn the_companion_holds_none_of_the_commands_files() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let script = "sleep 60 >/dev/null 2>&1 & echo $!; exec >&- 2>&-; wait";
    let mut child =
        shell(&home, "unix:sock", script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    // The reading ended before the command, so its companion is there, or on its way to its own arguments.
    wait_for("the companion", || companions(&home).len() == 1);
    let companion = companions(&home)[0];
    let status = fs::read_to_string(format!("/proc/{companion}/status")).unwrap();
    assert!(!status.contains(&format!("PPid:\t{}\n", child.id())), "{status}");
    let sleeper = rustix::process::Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(sleeper, Signal::KILL).unwrap();
    assert!(child.wait().is_ok());
    wait_for("the end of the companion", || !is_running(companion));
}

#[test]
fn without_a_session_the_command_does_not_run_and_no_socket_is_left() {
    let home = Home::new();
    let wanted = home.run(&["token"]);
    assert_eq!(wanted.code, 3);
    for address in ["unix:sock", "tcp"] {
        assert_eq!(run(&mut shell(&home, address, "touch ran")), wanted);
        assert_eq!(names_in(&home.root), ["state"]);
    }
    wait_for("the end of the companion", || companions(&home).is_empty());
}

#[test]
fn where_it_cannot_listen_it_sends_no_request_and_changes_nothing() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    fs::write(home.root.join("file"), "a file").unwrap();
    fs::create_dir(home.root.join("directory")).unwrap();
    let _listening = UnixListener::bind(home.root.join("listening")).unwrap();
    let long = format!("unix:{}", home.root.join("x".repeat(120)).display());
    let tcp = format!("tcp:{port}");
    let cases = [
        (tcp.as_str(), "Address already in use"),
        ("unix:file", "what is there is no socket of this user, and stays"),
        ("unix:directory", "what is there is no socket of this user, and stays"),
        ("unix:listening", "another process listens there"),
        ("unix:missing/sock", "No such file or directory\nhint: mkdir -p -m 700 "),
        (&long, "and a socket's has 107 at most"),
        ("udp", "not one of tcp, tcp:PORT, unix:PATH"),
        ("tcp:70000", "not a port from 0 to 65535"),
        ("unix:", "is empty"),
    ];
    let before = names_in(&home.root);
    for (address, why) in cases {
        let ran = run(&mut shell(&home, address, "touch ran"));
        assert!(ran.code == 2 && ran.stderr.contains(why), "{address}: {ran:?}");
    }
    for options in
        [&["--as", "gce"][..], &["--as", "gce", "--serve", "unix:sock"], &["--serve", "tcp", "--as", "aws"]]
    {
        let ran = home.run(&[&["exec"], options, &["--", "touch", "ran"]].concat());
        assert_eq!(ran.code, 2, "{options:?}: {ran:?}");
    }
    assert_eq!((names_in(&home.root), server.counts()), (before, Default::default()));
}

/// As a broker leaves it that was killed.
#[test]
fn a_socket_on_which_no_process_listens_is_replaced_and_has_its_mode_from_the_beginning() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    drop(UnixListener::bind(home.root.join("sock")).unwrap());
    fs::set_permissions(home.root.join("sock"), fs::Permissions::from_mode(0o777)).unwrap();
    let served = Served::start(&home, &UNIX);
    let mode = fs::metadata(home.root.join("sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode, served.client.get("/v1/token").token()), (0o600, issued.access_token.clone()));
    // The companion removes its own socket alone.
    fs::rename(home.root.join("sock"), home.root.join("moved")).unwrap();
    fs::write(home.root.join("sock"), "another program's").unwrap();
    served.end(&home);
    assert_eq!(fs::read(home.root.join("sock")).unwrap(), b"another program's");
    // The umask of the caller changes nothing, in either direction, and the command has it as it was.
    for umask in ["000", "022", "777"] {
        let mut command = Command::new("/bin/sh");
        let script = "umask $0; exec \"$@\"";
        command.args(["-c", script, umask]).arg(env!("CARGO_BIN_EXE_onegrant"));
        command.args(["exec", "--serve", "unix:other", "--", "/bin/sh", "-c", "ls -l other; umask"]);
        command
            .env_clear()
            .env("ONEGRANT_HOME", &home.state)
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&home.root);
        let ran = run(&mut command);
        assert!(ran.stdout.starts_with("srw-------"), "{umask}: {ran:?}");
        assert!(ran.stdout.ends_with(&format!("0{umask}\n")), "{umask}: {ran:?}");
    }
}

/// A script sees the end of a command as soon as its broker does, which may be slow.
#[test]
fn the_next_command_has_the_address_that_the_one_before_it_is_about_to_leave() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for address in ["unix:sock", &format!("tcp:{free}")] {
        let Served { process, companion, .. } = Served::start(&home, &["--serve", address]);
        let signal = |signal| {
            let pid = rustix::process::Pid::from_raw(i32::try_from(companion).unwrap()).unwrap();
            rustix::process::kill_process(pid, signal).unwrap();
        };
        signal(Signal::STOP);
        fs::write(home.root.join("end"), "").unwrap();
        assert_eq!(process.finish().code, 0);
        let next = home.start(&["exec", "--serve", address, "--env", "A", "--", "/usr/bin/printenv", "A"]);
        wait_for("its first try", || matches!(state(next.pid()), None | Some('S' | 'Z')));
        signal(Signal::CONT);
        assert_eq!(next.finish().token(), issued.access_token, "{address}");
        wait_for("the end of the companions", || !is_running(companion) && companions(&home).is_empty());
        fs::remove_file(home.root.join("end")).unwrap();
    }
    assert!(!home.root.join("sock").exists());
    assert_eq!(server.counts(), Default::default());
}

/// Each of them finds the socket that a killed broker has left, and replaces it or waits for the one that did.
#[test]
fn brokers_that_begin_together_at_one_place_follow_each_other() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let place = home.root.join("sock");
    let command = || {
        let mut command = home.command(&["exec", "--serve", "unix:sock", "--"]);
        command.args([env!("CARGO_BIN_EXE_onegrant"), "token"]);
        command
    };
    for _ in 0..10 {
        drop(UnixListener::bind(&place).unwrap());
        assert_all(&run_together((0..3).map(|_| command()).collect()), &Ran::printed(&issued.access_token));
        wait_for("the end of the socket", || !place.exists());
    }
    assert_eq!(server.counts(), Default::default());
}

/// As `sudo -u` leaves it: the caller's directory is not this user's.
#[test]
fn a_working_directory_that_cannot_be_entered_again_is_no_obstacle() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    fs::create_dir(home.root.join("closed")).unwrap();
    let place = home.root.join("sock");
    // The second call replaces a socket on which no process listens.
    for _ in 0..2 {
        let mut inner = home.command(&["exec", "--serve", &format!("unix:{}", place.display()), "--"]);
        inner.args([env!("CARGO_BIN_EXE_onegrant"), "token"]);
        let script = "(cd closed; chmod 000 .; \"$@\"); code=$?; chmod 700 closed; exit $code";
        let ran = run(&mut unprivileged(&wrapped("/bin/sh", &["-c", script, "sh"], &inner)));
        assert_eq!(ran, Ran::printed(&issued.access_token));
        wait_for("the end of the socket", || !place.exists());
        drop(UnixListener::bind(&place).unwrap());
    }
}

/// Such a list takes the place of the umask for other files (acl(5)).
#[test]
fn an_access_control_list_of_the_directory_opens_the_socket_to_no_other_user() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let directory = home.root.join("listed");
    fs::create_dir(&directory).unwrap();
    // Version 2. Entries: the owner, user 65534, the group, the mask, all others. Each has all rights.
    let entries = [(1_u16, u32::MAX), (2, 65_534), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &7_u16.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&directory, "system.posix_acl_default", &list, flags).is_err() {
        eprintln!("NOT TESTED: the file system has no access control lists");
        return;
    }
    fs::write(directory.join("file"), "").unwrap();
    let mode = |name| fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("file"), 0o666, "the list applies");
    let served = Served::start(&home, &["--serve", "unix:listed/sock"]);
    // With a list, the bits of the group are its mask: nobody that it names has a right.
    assert_eq!(mode("sock"), 0o600);
    served.end(&home);
    assert_eq!(names_in(&directory), ["file"]);
}

/// In a directory like `/tmp`: nothing of another user is followed, replaced or removed.
#[test]
fn in_a_shared_directory_nothing_of_another_user_is_used() {
    if !is_root() {
        eprintln!("NOT TESTED: only root can make files of another user");
        return;
    }
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let shared = home.root.join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    let target = home.root.join("target");
    fs::create_dir(&target).unwrap();
    drop(UnixListener::bind(shared.join("stale")).unwrap());
    symlink(&target, shared.join("link")).unwrap();
    symlink(target.join("sock"), shared.join("sock")).unwrap();
    for name in ["stale", "link", "sock"] {
        std::os::unix::fs::lchown(shared.join(name), Some(65_534), Some(65_534)).unwrap();
    }
    let before = names_in(&shared);
    for (path, why) in [
        ("stale", "no socket of this user"),
        ("link/sock", "user 65534 made 'link', a link"),
        ("sock", "user 65534 made 'sock', a link"),
    ] {
        let ran = run(&mut shell(&home, &format!("unix:shared/{path}"), "touch ran"));
        assert!(ran.code == 2 && ran.stderr.contains(why), "{path}: {ran:?}");
    }
    assert_eq!((names_in(&shared), names_in(&target)), (before, Vec::new()));
    assert_eq!(server.counts(), Default::default());
}
