//! onegrant by the name `keyring`, as pip and uv call it.

use crate::support::*;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many processes ask at once.
const CROWD: usize = 20;

/// The servers that the profile names, beside none of this machine's.
const HOSTS: [&str; 3] = ["pypi.example", "other.example:8443", "127.0.0.1:3000"];

/// The next `keyring`: shows its name, its arguments, its stdin and its environment, and ends with 9.
const NEXT: &str =
    "#!/bin/sh\necho \"$0\"\nprintf '<%s>\\n' \"$@\"\n/bin/cat\n/usr/bin/env | /usr/bin/sort\nexit 9\n";

struct KeyringTest {
    server: AuthorizationServer,
    home: Home,
    token: String,
    /// The directories of `PATH`, in this order. The first has a link to onegrant.
    path: Vec<PathBuf>,
}

impl KeyringTest {
    fn new(left: i64) -> Self {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant_for(&server, left, &HOSTS);
        let mut test = Self { server, home, token: issued.access_token, path: Vec::new() };
        let own = test.directory("own");
        symlink(env!("CARGO_BIN_EXE_onegrant"), own.join("keyring")).unwrap();
        test
    }

    /// Another directory at the end of `PATH`.
    fn directory(&mut self, name: &str) -> PathBuf {
        let directory = self.home.root.join(name);
        fs::create_dir(&directory).unwrap();
        self.path.push(directory.clone());
        directory
    }

    /// A directory at the end of `PATH` with this program.
    fn program(&mut self, name: &str, script: &str) -> PathBuf {
        let program = self.directory(name).join("keyring");
        write_program(&program, script);
        program
    }

    /// A call as pip makes it: by the path that it has found.
    fn command(&self, arguments: &[&str]) -> Command {
        self.called(&self.path[0].join("keyring"), arguments)
    }

    fn called(&self, program: &Path, arguments: &[&str]) -> Command {
        let path = std::env::join_paths(&self.path).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("ONEGRANT_HOME", &self.home.state).env("PATH", path);
        command.current_dir(&self.home.root).stdin(File::open("/dev/null").unwrap());
        command
    }

    fn ask(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// What [`NEXT`] shows.
    fn next(&self, program: &Path, arguments: &[&str]) -> Ran {
        let mut stdout = format!("{}\n", program.display());
        arguments.iter().for_each(|argument| stdout.push_str(&format!("<{argument}>\n")));
        stdout.push_str(&format!("ONEGRANT_HOME={}\n", self.home.state.display()));
        stdout.push_str(&format!("PATH={}\n", std::env::join_paths(&self.path).unwrap().to_str().unwrap()));
        stdout.push_str(&format!("PWD={}\n", self.home.root.display()));
        Ran { code: 9, stdout, stderr: String::new() }
    }
}

fn answered(text: &str) -> Ran {
    Ran { code: 0, stdout: text.to_owned(), stderr: String::new() }
}

/// There is no next `keyring`, and the caller goes on without a password.
fn nothing() -> Ran {
    Ran::failed(1, "")
}

// ---- what is answered ----

#[test]
fn pip_gets_the_user_name_and_the_token_as_json() {
    let test = KeyringTest::new(LIFETIME);
    for (service, username, wanted) in [
        ("https://pypi.example/simple/", None, "oauth2"),
        ("https://other.example:8443/team/simple/", Some("me"), "me"),
        ("http://127.0.0.1:3000/simple/", None, "oauth2"),
        ("pypi.example", Some("me"), "me"),
        ("other.example:8443", None, "oauth2"),
    ] {
        let arguments = ["--mode=creds", "--output=json", "get", service].into_iter().chain(username);
        let ran = test.ask(&arguments.collect::<Vec<_>>());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{service}");
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(answer, json!({ "username": wanted, "password": test.token }), "{service}");
    }
    assert_eq!(test.server.counts(), Default::default());
}

/// pip before 26.2, and uv with a user name in the URL of the index.
#[test]
fn older_pip_and_uv_get_the_token_alone() {
    let test = KeyringTest::new(LIFETIME);
    for service in ["https://pypi.example/simple/", "pypi.example", "http://127.0.0.1:3000", "127.0.0.1:3000"]
    {
        assert_eq!(test.ask(&["get", service, "me"]), Ran::printed(&test.token), "{service}");
    }
    assert_eq!(test.server.counts(), Default::default());
}

/// uv with `authenticate = "always"` and without a user name.
#[test]
fn uv_gets_the_user_name_and_the_token_on_two_lines() {
    let test = KeyringTest::new(LIFETIME);
    for service in ["https://pypi.example/simple/", "pypi.example", "http://127.0.0.1:3000"] {
        let wanted = answered(&format!("oauth2\n{}\n", test.token));
        assert_eq!(test.ask(&["get", service, "--mode", "creds"]), wanted, "{service}");
    }
    assert_eq!(test.server.counts(), Default::default());
}

#[test]
fn a_user_name_of_the_profile_or_of_a_known_registry_wins_over_that_of_the_caller() {
    let test = KeyringTest::new(LIFETIME);
    let mut document = test.home.document();
    document["git_hosts"] = json!(["europe-west1-python.pkg.dev"]);
    let creds = ["get", "https://europe-west1-python.pkg.dev/team/simple/", "me", "--mode", "creds"];
    for (of_profile, wanted) in [(None, "oauth2accesstoken"), (Some("robot"), "robot")] {
        document["git_username"] = json!(of_profile);
        test.home.write(&document);
        assert_eq!(test.ask(&creds), answered(&format!("{wanted}\n{}\n", test.token)));
    }
}

#[test]
fn the_profile_is_that_of_the_environment() {
    let test = KeyringTest::new(LIFETIME);
    let mut document = test.home.document();
    document["resource"] = json!(["https://pypi.example/simple"]);
    let path = test.home.state.join("work.json");
    fs::rename(test.home.document_path(), &path).unwrap();
    let arguments = ["get", "pypi.example", "me"];
    assert_eq!(test.ask(&arguments), nothing());
    let with = |name: &str, value: &str| run(test.command(&arguments).env(name, value));
    assert_eq!(with("ONEGRANT_PROFILE", "work"), Ran::printed(&test.token));
    fs::write(&path, document.to_string()).unwrap();
    assert_eq!(with("ONEGRANT_FOR", "https://pypi.example/simple/"), Ran::printed(&test.token));
    assert_eq!(with("ONEGRANT_FOR", "https://elsewhere.example/"), nothing());
}

#[test]
fn a_crowd_of_callers_shares_one_refresh() {
    let test = KeyringTest::new(EXPIRED);
    let forms =
        [&["get", "pypi.example", "me"][..], &["--mode=password", "get", "https://pypi.example/simple/"]];
    let commands = (0..CROWD).map(|number| test.command(forms[number % forms.len()]));
    let ran = run_together(commands.collect());
    let token = test.home.tokens().access_token;
    assert_ne!(token, test.token);
    assert_all(&ran, &Ran::printed(&token));
    assert_eq!(test.server.counts().token_requests, 1);
}

// ---- failures ----

/// The next program has no password for a server of onegrant, and could ask a person for one.
#[test]
fn a_named_server_without_a_token_is_a_failure_with_an_empty_stdout() {
    let mut test = KeyringTest::new(EXPIRED);
    test.program("next", NEXT);
    test.server.end_grant(&test.home.tokens().refresh_token);
    let pip = ["--mode=creds", "--output=json", "get", "https://pypi.example/simple/"];
    let uv = ["get", "https://pypi.example/simple/", "--mode", "creds"];
    for arguments in [&pip[..], &uv, &["get", "pypi.example", "me"]] {
        let ran = test.ask(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
        assert!(ran.stderr.ends_with("hint: onegrant login\n"), "{ran:?}");
    }
    assert_eq!(test.ask(&["get", "elsewhere.example", "me"]).code, 9);
}

#[test]
fn a_server_that_is_down_is_a_temporary_failure() {
    let test = KeyringTest::new(EXPIRED);
    test.server.script(Endpoint::Token, [Fault::Status(Response::json(503, "{}"))]);
    let ran = run(test.command(&["get", "pypi.example", "me"]).env("ONEGRANT_TIMEOUT", "1"));
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
}

/// Nothing says whether the profile names the server.
#[test]
fn a_profile_that_cannot_be_read_is_a_failure_and_only_for_get() {
    let mut test = KeyringTest::new(LIFETIME);
    test.program("next", NEXT);
    test.home.write_bytes(b"{");
    let get = ["get", "pypi.example", "me"];
    let ran = test.ask(&get);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
    let ran = run(test.command(&get).env("ONEGRANT_PROFILE", "../x"));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(!ran.stderr.contains("unrecognized arguments"), "pip would call it an old keyring: {ran:?}");
    assert_eq!(test.ask(&["--list-backends"]).code, 9);
}

// ---- the next program ----

#[test]
fn what_is_not_for_onegrant_goes_to_the_next_keyring_with_everything_that_it_was_given() {
    let mut test = KeyringTest::new(LIFETIME);
    let next = test.program("next", NEXT);
    test.program("later", "#!/bin/sh\nexit 8\n");
    for arguments in [
        &["get", "https://elsewhere.example/simple/", "me"][..],
        &["get", "http://pypi.example/simple/", "--mode", "creds"],
        &["--mode=creds", "--output=json", "get", "pypi.example:8443"],
        &["set", "pypi.example", "me"],
        &["del", "pypi.example", "me"],
        &["--list-backends"],
        &["-b", "a.b.Keyring", "get", "pypi.example", "me"],
        &["--exchange-for-caller"],
        &["--help"],
        &[],
    ] {
        let wanted = match arguments {
            [] => test.next(&next, &[""]),
            arguments => test.next(&next, arguments),
        };
        assert_eq!(test.ask(arguments), wanted);
    }
    let input = test.home.root.join("input");
    fs::write(&input, "the password\n").unwrap();
    let ran = run(test.command(&["set", "pypi.example", "me"]).stdin(File::open(input).unwrap()));
    assert!(ran.stdout.contains("\n<me>\nthe password\n"), "{ran:?}");
    let mut odd = test.command(&["get"]);
    odd.arg(OsStr::from_bytes(b"\xff")).arg("me").stdout(File::create("/dev/null").unwrap());
    assert_eq!(Process::start_to_its_stdout(&mut odd).finish().code, 9);
    fs::remove_file(test.home.document_path()).unwrap();
    assert_eq!(test.ask(&["get", "pypi.example", "me"]), test.next(&next, &["get", "pypi.example", "me"]));
    assert_eq!(test.server.counts(), Default::default());
}

#[test]
fn without_another_keyring_get_ends_with_1_and_is_silent() {
    let mut test = KeyringTest::new(LIFETIME);
    let get = ["--mode=creds", "--output=json", "get", "https://elsewhere.example/simple/"];
    assert_eq!(test.ask(&get), nothing());
    assert_eq!(run(test.command(&get).env_remove("PATH")), nothing());
    let ran = test.ask(&["set", "pypi.example", "me"]);
    let why = "cannot do this as keyring: onegrant answers only get, and there is no other keyring on PATH";
    assert_eq!(ran, Ran::failed(1, format!("onegrant: {why}\n")));

    // Nothing of this is a program, or it is onegrant.
    let root = test.home.root.clone();
    let link = test.directory("link").join("keyring");
    symlink(test.path[0].join("keyring"), link).unwrap();
    let hard_link = test.directory("hard-link").join("keyring");
    fs::hard_link(env!("CARGO_BIN_EXE_onegrant"), hard_link).unwrap();
    let dangling = test.directory("dangling").join("keyring");
    symlink("nowhere", dangling).unwrap();
    let looping = test.directory("looping").join("keyring");
    symlink("keyring", looping).unwrap();
    fs::create_dir(test.directory("directory").join("keyring")).unwrap();
    fs::write(test.directory("file").join("keyring"), NEXT).unwrap();
    let fifo = test.directory("fifo").join("keyring");
    assert_eq!(run(Command::new("/usr/bin/mkfifo").arg("-m").arg("700").arg(fifo)).code, 0);
    // A relative entry means the working directory, which may be that of another person.
    write_program(&root.join("keyring"), NEXT);
    test.path.extend(["", ".", "own/..", "/nowhere", "/dev/null"].map(PathBuf::from));
    assert_eq!(test.ask(&get), nothing());
}

#[test]
fn a_next_program_that_cannot_be_run_is_skipped() {
    let mut test = KeyringTest::new(LIFETIME);
    let broken = test.program("broken", "#!/nowhere/interpreter\n");
    let get = ["get", "elsewhere.example", "me"];
    let ran = test.ask(&get);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.starts_with(&format!("onegrant: cannot run {}: ", broken.display())), "{ran:?}");
    let next = test.program("next", NEXT);
    assert_eq!(test.ask(&get), test.next(&next, &get));
}

// ---- loops ----

#[test]
fn only_a_later_directory_has_the_next_keyring() {
    let mut test = KeyringTest::new(LIFETIME);
    let earlier = test.program("earlier", NEXT);
    let get = ["get", "elsewhere.example", "me"];
    test.path.swap(0, 1);
    let own = test.path[1].join("keyring");
    assert_eq!(run(&mut test.called(&own, &get)), nothing());
    // As uv calls it: without a path.
    let shell = ["-c", "exec -a keyring \"$0\" \"$@\"", own.to_str().unwrap()];
    let by_name = |test: &KeyringTest| run(test.called(Path::new("/bin/bash"), &shell).args(get));
    assert_eq!(by_name(&test), nothing());
    let next = test.program("next", NEXT);
    assert_eq!(run(&mut test.called(&own, &get)).code, 9);
    assert!(by_name(&test).stdout.starts_with(&format!("{}\n", next.display())));
    // Where onegrant is not on PATH, every directory counts.
    test.path.remove(1);
    assert!(run(&mut test.called(&own, &get)).stdout.starts_with(&format!("{}\n", earlier.display())));
}

#[test]
fn two_copies_of_onegrant_do_not_call_each_other_for_ever() {
    let mut test = KeyringTest::new(LIFETIME);
    let copy = test.directory("copy").join("keyring");
    copy_program(&copy);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let get = ["get", "elsewhere.example", "me"];
    let first = test.path[0].clone();
    test.path.push(first);
    assert_eq!(test.ask(&get), nothing());
    assert_eq!(run(&mut test.called(&copy, &get)), nothing());
    let next = test.program("next", NEXT);
    assert_eq!(test.ask(&get), test.next(&next, &get));
    assert_eq!(test.ask(&["get", "pypi.example", "me"]), Ran::printed(&test.token));
}

#[test]
fn a_script_that_calls_onegrant_is_not_the_next_keyring() {
    let mut test = KeyringTest::new(LIFETIME);
    let own = test.path.remove(0).join("keyring");
    let script = format!("#!/bin/sh\nONEGRANT_TIMEOUT=20 exec '{}' \"$@\"\n", own.display());
    let wrapper = test.program("wrapper", &script);
    let next = test.program("next", NEXT);
    let named = ["get", "pypi.example", "me"];
    assert_eq!(run(&mut test.called(&wrapper, &named)), Ran::printed(&test.token));
    let ran = run(&mut test.called(&wrapper, &["get", "elsewhere.example", "me"]));
    assert!(ran.stdout.starts_with(&format!("{}\n<get>\n", next.display())), "{ran:?}");
}

/// The script is replaced by onegrant, and onegrant by the script.
#[test]
fn a_program_that_always_takes_the_place_of_onegrant_is_stopped() {
    let ran = called_again_and_again("exec \"$OTHER\" \"$@\"");
    let why = "cannot run the next keyring on PATH: it always calls onegrant again";
    assert_eq!(ran, Ran::failed(1, format!("onegrant: {why}\n")));
}

/// The script waits for onegrant, which is replaced by the script.
#[test]
fn a_program_that_always_starts_onegrant_is_stopped() {
    let ran = called_again_and_again("\"$OTHER\" \"$@\"; exit $?");
    let why = "cannot run the next keyring on PATH: it always calls onegrant again";
    assert_eq!(ran, Ran::failed(1, format!("onegrant: {why}\n")));
}

fn called_again_and_again(line: &str) -> Ran {
    let mut test = KeyringTest::new(LIFETIME);
    let own = test.path.remove(0).join("keyring");
    let wrapper = test.program("wrapper", &format!("#!/bin/sh\n{line}\n"));
    run(test.called(&wrapper, &["get", "elsewhere.example", "me"]).env("OTHER", own))
}
