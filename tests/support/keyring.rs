//! A keyring behind the helper program of `fixtures/keyring`, which fails as a test wants it.

use super::{AuthorizationServer, Home, Issued, Ran, document, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A home with its grants in a keyring.
pub struct Keyring {
    pub home: Home,
    /// Where the helper keeps its entries.
    pub directory: PathBuf,
    /// As `--store` takes it.
    pub store: String,
}

pub const SERVER: &str = "https://onegrant.invalid/default";

impl Keyring {
    pub fn new() -> Self {
        let home = Home::new();
        let program = home.root.join("docker-credential-test");
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keyring/docker-credential-directory");
        symlink(fixture, &program).unwrap();
        let directory = home.root.join("keyring");
        fs::create_dir(&directory).unwrap();
        Self { store: format!("helper:{}", program.display()), home, directory }
    }

    pub fn with_grant(server: &AuthorizationServer, left: i64) -> (Self, Issued) {
        let keyring = Self::new();
        let issued = server.issue_grant();
        keyring.write(&document(server, &issued, left).to_string());
        (keyring, issued)
    }

    pub fn entry(&self) -> PathBuf {
        self.directory.join("entry.https___onegrant.invalid_default")
    }

    pub fn write(&self, secret: &str) {
        let entry = serde_json::json!({"ServerURL": SERVER, "Username": "onegrant", "Secret": secret});
        // As the program writes it: the fixture is no JSON parser.
        let text = format!(
            "{{\"ServerURL\":\"{SERVER}\",\"Username\":\"onegrant\",\"Secret\":{}}}\n",
            entry["Secret"]
        );
        fs::write(self.entry(), text).unwrap();
    }

    pub fn document(&self) -> Value {
        let entry: Value = serde_json::from_slice(&fs::read(self.entry()).unwrap()).unwrap();
        serde_json::from_str(entry["Secret"].as_str().unwrap()).unwrap()
    }

    pub fn access_token(&self) -> String {
        self.document()["session"]["access_token"].as_str().unwrap().to_owned()
    }

    /// A script that the helper runs before it does what the verb asks for.
    pub fn fault(&self, verb: &str, script: &str) {
        fs::write(self.directory.join(format!("fault.{verb}")), script).unwrap();
    }

    pub fn repair(&self, verb: &str) {
        fs::remove_file(self.directory.join(format!("fault.{verb}"))).unwrap();
    }

    pub fn calls(&self, verb: &str) -> usize {
        let calls = fs::read_to_string(self.directory.join("calls")).unwrap_or_default();
        calls.lines().filter(|line| *line == verb).count()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("ONEGRANT_STORE", &self.store);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// What lies beside: locks, records, answers.
    pub fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.state.join("~helper.test")).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with("~history"));
        names.sort();
        names
    }
}
