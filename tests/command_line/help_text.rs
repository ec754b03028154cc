//! What `--help`, `--version` and usage errors print: whole text, stream and exit code. All of it is part of the interface.
//!
//! `BLESS=1 cargo test --test command_line help_text` renews the fixtures.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const COMMANDS: [&str; 15] = [
    "login",
    "token",
    "status",
    "refresh",
    "whoami",
    "logout",
    "profiles",
    "migrate",
    "exec",
    "serve",
    "git-credential",
    "git-setup",
    "helper",
    "doctor",
    "completions",
];

fn onegrant(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onegrant"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    onegrant(arguments).output().unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/help").join(format!("{name}.txt"))
}

/// Exit code, stdout, stderr.
fn whole(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn assert_is_fixture(text: &str, name: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(fixture(name), text).unwrap();
    }
    let wanted = std::fs::read_to_string(fixture(name)).unwrap();
    assert_eq!(text, wanted, "fixtures/help/{name}.txt");
}

#[test]
fn every_way_to_ask_for_help_prints_the_fixture() {
    let (code, text, stderr) = whole(&output(&["--help"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_is_fixture(&text, "onegrant");
    for spelling in [&["-h"][..], &["help"], &["-v", "--help"], &["help", "--help"]] {
        assert_eq!(whole(&output(spelling)), (Some(0), text.clone(), String::new()), "{spelling:?}");
    }
    for command in COMMANDS {
        let (code, text, stderr) = whole(&output(&["help", command]));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
        assert_is_fixture(&text, command);
        for spelling in [[command, "--help"], [command, "-h"], ["--help", command], ["-h", command]] {
            assert_eq!(whole(&output(&spelling)), (Some(0), text.clone(), String::new()), "{spelling:?}");
        }
    }
}

#[test]
fn every_help_fits_a_terminal() {
    for name in COMMANDS.into_iter().chain(["onegrant"]) {
        for line in std::fs::read_to_string(fixture(name)).unwrap().lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
            assert_eq!(line.trim_end(), line, "{name}");
        }
    }
}

#[test]
fn without_a_command_the_help_goes_to_stderr_and_the_exit_code_is_2() {
    let help = std::fs::read_to_string(fixture("onegrant")).unwrap();
    for arguments in [&[][..], &["-v"], &["--profile", "work"]] {
        assert_eq!(whole(&output(arguments)), (Some(2), String::new(), help.clone()), "{arguments:?}");
    }
}

#[test]
fn a_usage_error_has_a_message_a_hint_and_exit_code_2() {
    let cases: [(&[&str], &str); 3] = [
        (&["tokn"], "onegrant: unknown command 'tokn': did you mean token?\nhint: onegrant --help\n"),
        (
            &["token", "--min-tl", "5"],
            "onegrant: unknown option --min-tl: did you mean --min-ttl?\nhint: onegrant token --help\n",
        ),
        (
            &["token"],
            "onegrant: no directory for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute \
             path\nhint: export ONEGRANT_HOME=/a/directory\n",
        ),
    ];
    for (arguments, stderr) in cases {
        let wanted = (Some(2), String::new(), stderr.to_owned());
        assert_eq!(whole(&output(arguments)), wanted, "{arguments:?}");
    }
}

#[test]
fn help_and_version_end_with_0_with_a_closed_stdout() {
    for arguments in [["--help"], ["--version"]] {
        // A pipe without a reader.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = onegrant(&arguments).stdout(writer).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
        if let Ok(full) = std::fs::File::options().write(true).open("/dev/full") {
            assert_eq!(onegrant(&arguments).stdout(full).status().unwrap().code(), Some(0), "{arguments:?}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    for spelling in ["--version", "-V"] {
        let wanted = (Some(0), format!("onegrant {}\n", env!("CARGO_PKG_VERSION")), String::new());
        assert_eq!(whole(&output(&[spelling])), wanted);
        assert_eq!(whole(&output(&["token", spelling])), wanted);
    }
}
