//! The README's commands do what it says.
//!
//! Its `sh` blocks are run one after the other, as a reader would, in a home directory that is empty at first, with
//! nothing in the environment but what the README names: `ISSUER`, `CLIENT`, `REFRESH_TOKEN`, what a CI job has, and a
//! browser. Blocks that begin with `cargo` build or serve; they are `.ci/run`'s. In a `console` block `…` stands for what
//! differs.

use crate::support::write_program;
use servers::authorization_server::{AuthorizationServer, Settings};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const README: &str = include_str!("../../README.md");

/// The fenced blocks: language and text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    README.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap()).collect()
}

/// A reader's machine: a server, an empty home, and onegrant on the path.
struct Reader {
    server: AuthorizationServer,
    home: PathBuf,
}

impl Reader {
    fn new() -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{}", std::process::id()));
        fs::create_dir(&home).unwrap();
        let browser = home.join("browser");
        write_program(&browser, "#!/bin/sh\nexec curl -fsSL \"$1\"\n");
        let settings = Settings {
            auto_approve: true,
            subject_tokens: vec!["the identity of a job".to_owned()],
            ..Settings::default()
        };
        Self { server: AuthorizationServer::start(settings), home }
    }

    /// Exit code, stdout, stderr.
    fn run(&self, script: &str) -> (Option<i32>, String, String) {
        let onegrant = Path::new(env!("CARGO_BIN_EXE_onegrant")).parent().unwrap();
        let refresh_token = self.server.issue_grant().refresh_token;
        let output = Command::new("bash")
            .args(["-eu", "-o", "pipefail", "-c", script])
            .current_dir(&self.home)
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", onegrant.display()))
            .envs([("ISSUER", self.server.issuer().as_str()), ("CLIENT", self.server.client_id())])
            .env("REFRESH_TOKEN", refresh_token)
            .env("BROWSER", self.home.join("browser"))
            .env("CI_CLIENT", self.server.confidential_client_id())
            .env("CI_CLIENT_SECRET", self.server.client_secret())
            .env("CI_JOB_TOKEN", "the identity of a job")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Whether `text` is `pattern`, where `…` in the pattern stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let (first, rest) = match pattern.split_once('…') {
        None => return text == pattern,
        Some((first, rest)) => (first, rest),
    };
    text.strip_prefix(first).is_some_and(|text| {
        text.char_indices().any(|(start, _)| is_like(&text[start..], rest)) || is_like("", rest)
    })
}

#[test]
fn the_commands_of_the_readme_work() {
    let reader = Reader::new();
    let mut commands = 0;
    for (language, text) in blocks() {
        match language {
            "sh" if text.starts_with("cargo ") => {}
            "sh" => {
                let (code, stdout, stderr) = reader.run(text);
                assert_eq!(code, Some(0), "{text}\n{stdout}{stderr}");
                commands += 1;
            }
            "console" => {
                let (command, wanted) = text.split_once('\n').unwrap();
                let (code, stdout, stderr) = reader.run(command.strip_prefix("$ ").unwrap());
                assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
                assert!(is_like(stdout.trim_end(), wanted), "{command}\nprinted:\n{stdout}README:\n{wanted}");
                commands += 1;
            }
            // These are run by tests/faults/minimal_environments.rs.
            "sh pre-push" | "sh prepare-commit-msg" | "yaml" | "dockerfile" => {}
            _ => assert_eq!(language, "text", "{text}"),
        }
    }
    assert!(commands >= 8, "the README has lost its commands, or this test finds them no more");
    assert_eq!(reader.server.counts().unexpected, 0);
}

/// A packaged crate comes without `.ci`.
#[test]
fn the_two_first_commands_are_run_by_ci() {
    let Ok(ci) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run")) else {
        return;
    };
    let (_, text) = blocks()[0];
    assert_eq!(text.trim_end(), "cargo demo\ncargo test");
    for command in text.lines() {
        assert!(ci.lines().any(|line| line.trim_end().ends_with(command)), "{command} is not in .ci/run");
    }
}

#[test]
fn dots_stand_for_anything() {
    for (text, pattern, is_wanted) in
        [("ab", "ab", true), ("ab", "a", false), ("abc", "a…c", true), ("a", "a…", true), ("ab", "…c", false)]
    {
        assert_eq!(is_like(text, pattern), is_wanted, "{text} {pattern}");
    }
}
