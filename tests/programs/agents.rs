//! The recipes of docs/agents.md. Each line is run as the documentation of its program says that the program runs it, and must
//! give what the program reads. `.ci/agents.sh` runs the same page with the real Claude Code, Codex, opencode and gemini-cli.
//! glab and himalaya are run only here: npm, PyPI and Debian have no build of them with these options.

use crate::support::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PAGE: &str = include_str!("../../docs/agents.md");

/// The profile, and the resource of its grant, for each server on the page. A mail server has no address.
const PROFILES: [(&str, &[&str]); 4] = [
    ("mcp.example.com", &["https://mcp.example.com/mcp"]),
    ("models.example.com", &["https://models.example.com"]),
    ("gitlab.example.com", &["https://gitlab.example.com"]),
    ("mail", &[]),
];

/// Claude Code ends a `headersHelper` after this time.
const HEADERS_HELPER_LIMIT: Duration = Duration::from_secs(10);

/// The blocks of the page by what is behind their language: `json opencode.json` is `opencode.json`.
fn blocks() -> BTreeMap<&'static str, &'static str> {
    let blocks = PAGE.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
    blocks.filter_map(|(info, text)| Some((info.split_once(' ')?.1, text))).collect()
}

fn block(name: &str) -> &'static str {
    blocks().get(name).unwrap_or_else(|| panic!("docs/agents.md has no block {name}"))
}

fn json_block(name: &str) -> Value {
    serde_json::from_str(block(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The value of the line `KEY = VALUE` of a TOML block, where the value is JSON as well.
fn toml_value(name: &str, key: &str) -> Value {
    let value = block(name).lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    serde_json::from_str(value.unwrap_or_else(|| panic!("{name} has no {key}"))).unwrap()
}

/// The words of a JSON list.
fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// How a program runs its command.
enum Runs {
    /// As a line of the shell.
    Line(String),
    /// As a program and its arguments, without a shell.
    Words(Vec<String>),
}

/// What a program makes of stdout.
type Reads = fn(&str) -> Option<String>;

struct Hook {
    name: &'static str,
    runs: Runs,
    reads: Reads,
    profile: &'static str,
}

/// All of stdout, in one line, without the space around it.
fn trimmed_line(stdout: &str) -> Option<String> {
    let line = stdout.trim();
    (!line.is_empty() && !line.contains(['\n', '\0'])).then(|| line.to_owned())
}

/// The token of a header's value.
fn bearer(stdout: &str) -> Option<String> {
    trimmed_line(stdout)?.strip_prefix("Bearer ").map(str::to_owned)
}

/// The token of one flat JSON object from header to value, which is all of stdout.
fn headers(stdout: &str) -> Option<String> {
    let headers: BTreeMap<String, String> = serde_json::from_str(stdout).ok()?;
    (headers.len() == 1).then(|| bearer(headers.get("Authorization")?)).flatten()
}

/// Every hook on the page.
fn hooks() -> Vec<Hook> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let argv = |list: &Value| words(list).into_iter().map(str::to_owned).collect::<Vec<_>>();

    let helper = text(&json_block(".mcp.json")["mcpServers"]["example"]["headersHelper"]);
    let every: Value = serde_json::from_str(&format!("{{{}}}", block(".mcp.json for every server"))).unwrap();
    let (codex, arguments) = (text(&toml_value("config.toml", "command")), "args");
    let codex = [vec![codex], argv(&toml_value("config.toml", arguments))].concat();
    let glab = block("config.yml").lines().find_map(|line| line.trim().strip_prefix("valueFromCommand: "));
    let glab = glab.unwrap().split(' ').map(str::to_owned).collect();
    let himalaya = argv(&toml_value("himalaya.toml", "imap.sasl.oauthbearer.token.command"));

    let hook = |name, runs, reads, profile| Hook { name, runs, reads, profile };
    vec![
        hook("headersHelper", Runs::Line(helper), headers, "mcp.example.com"),
        hook(
            "headersHelper for every server",
            Runs::Line(text(&every["headersHelper"])),
            headers,
            "mcp.example.com",
        ),
        hook(
            "apiKeyHelper",
            Runs::Line(text(&json_block("settings.json")["apiKeyHelper"])),
            trimmed_line,
            "models.example.com",
        ),
        hook("auth.command of Codex", Runs::Words(codex), trimmed_line, "models.example.com"),
        hook("valueFromCommand of glab", Runs::Words(glab), bearer, "gitlab.example.com"),
        hook("token.command of himalaya", Runs::Words(himalaya), trimmed_line, "mail"),
    ]
}

/// A machine of a reader: onegrant on the `PATH`, stand-ins for programs, a profile for each server on the page.
struct Reader {
    server: AuthorizationServer,
    home: Home,
}

impl Reader {
    /// No profile is there yet.
    fn new() -> Self {
        let (server, home) = (server(|_| {}), Home::new());
        fs::create_dir(home.root.join("bin")).unwrap();
        Self { server, home }
    }

    /// With a profile for each server, whose sessions last for so many seconds.
    fn with_profiles(left: i64) -> Self {
        let reader = Self::new();
        for (profile, resources) in PROFILES {
            let issued = reader.server.issue_grant_for(resources);
            let mut document = document(&reader.server, &issued, left);
            document["resource"] = json!(resources);
            let path = reader.home.state.join(format!("{profile}.json"));
            fs::write(&path, document.to_string()).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        reader
    }

    fn access_token(&self, profile: &str) -> String {
        let bytes = fs::read(self.home.state.join(format!("{profile}.json"))).unwrap();
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        document["session"]["access_token"].as_str().unwrap().to_owned()
    }

    /// A program that shows what it found instead of doing anything.
    fn stand_in(&self, name: &str, script: &str) {
        write_program(&self.home.root.join("bin").join(name), &format!("#!/bin/sh\n{script}\n"));
    }

    /// The environment of a program.
    fn equipped(&self, mut command: Command) -> Command {
        let onegrant = Path::new(env!("CARGO_BIN_EXE_onegrant")).parent().unwrap();
        let path = format!("{}/bin:{}:/usr/bin:/bin", self.home.root.display(), onegrant.display());
        command.env_clear().env("PATH", path).env("HOME", &self.home.root).stdin(Stdio::null());
        command.env("ONEGRANT_HOME", &self.home.state).current_dir(&self.home.root);
        command.env("CLAUDE_CODE_MCP_SERVER_NAME", "example");
        command.env("CLAUDE_CODE_MCP_SERVER_URL", "https://mcp.example.com/mcp");
        command
    }

    fn line(&self, line: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", line]);
        self.equipped(shell)
    }

    fn hook(&self, hook: &Hook) -> Command {
        match &hook.runs {
            Runs::Line(line) => self.line(line),
            Runs::Words(words) => {
                // The program of the page is found in the `PATH` of the hook's own environment.
                let mut env = Command::new("/usr/bin/env");
                env.args(words);
                self.equipped(env)
            }
        }
    }

    /// What a program reads, and how many requests that costs.
    #[track_caller]
    fn assert_reads(&self, ran: &Ran, hook: &Hook, token_requests: u64) {
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}: {ran:?}", hook.name);
        let token = (hook.reads)(&ran.stdout).unwrap_or_else(|| panic!("{}: {:?}", hook.name, ran.stdout));
        assert_eq!(token, self.access_token(hook.profile), "{}", hook.name);
        assert!(self.server.access_token_is_valid(&token), "{}", hook.name);
        assert_eq!(self.server.counts().token_requests, token_requests, "{}", hook.name);
    }
}

#[test]
fn every_block_of_the_page_has_a_test() {
    let tested = [
        ".mcp.json",
        ".mcp.json for every server",
        "settings.json",
        "config.toml",
        "config.toml for MCP",
        "codex",
        "opencode.json",
        "opencode",
        "config.yml",
        "himalaya.toml",
        "gemini-cli settings.json",
        "gemini-cli",
        "login",
        "refresh",
    ];
    let mut names: Vec<&str> = blocks().into_keys().collect();
    names.sort_by_key(|name| tested.iter().position(|other| other == name));
    assert_eq!(names, tested);
    assert_eq!(
        PAGE.matches("\n```").count(),
        2 * tested.len(),
        "a block without a name, or two with the same"
    );
}

#[test]
fn each_hook_gives_what_its_program_reads_and_an_expired_session_costs_one_refresh() {
    for hook in hooks() {
        let reader = Reader::with_profiles(EXPIRED);
        let began = Instant::now();
        let ran = run(&mut reader.hook(&hook));
        reader.assert_reads(&ran, &hook, 1);
        assert!(began.elapsed() < HEADERS_HELPER_LIMIT, "{}: {:?}", hook.name, began.elapsed());
        // The token is fresh now.
        let ran = run(&mut reader.hook(&hook));
        reader.assert_reads(&ran, &hook, 1);
    }
}

#[test]
fn any_number_of_hooks_at_once_cost_one_refresh() {
    const CROWD: usize = 20;
    for hook in hooks() {
        let reader = Reader::with_profiles(EXPIRED);
        for ran in run_together((0..CROWD).map(|_| reader.hook(&hook)).collect()) {
            reader.assert_reads(&ran, &hook, 1);
        }
        assert_eq!(reader.server.counts().replays, 0, "{}", hook.name);
    }
}

#[test]
fn a_hook_without_a_login_prints_nothing_and_names_the_command_to_run() {
    for hook in hooks() {
        let reader = Reader::new();
        let ran = run(&mut reader.hook(&hook));
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}: {ran:?}", hook.name);
        let login = match hook.profile {
            "mail" => "hint: onegrant --profile mail login ".to_owned(),
            host => format!("hint: onegrant login https://{host}"),
        };
        assert!(ran.stderr.contains(&login), "{}: {ran:?}", hook.name);
        assert_eq!(reader.server.counts(), Default::default(), "{}", hook.name);
    }
}

#[test]
fn the_hook_for_every_server_gives_no_token_for_another_server() {
    let reader = Reader::with_profiles(LIFETIME);
    let hooks = hooks();
    let hook = hooks.iter().find(|hook| hook.name == "headersHelper for every server").unwrap();
    for url in [
        "https://mcp.example.com.evil.example/mcp",
        "https://evil.example/mcp",
        "http://mcp.example.com/mcp",
        "https://mcp.example.com:8443/mcp",
        "https://mcp.example.com/mcp-other",
        "https://mcp.example.com/",
    ] {
        let ran = run(reader.hook(hook).env("CLAUDE_CODE_MCP_SERVER_URL", url));
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{url}: {ran:?}");
    }
    let ran = run(reader.hook(hook).env("CLAUDE_CODE_MCP_SERVER_URL", "https://mcp.example.com/mcp/tools"));
    reader.assert_reads(&ran, hook, 0);
}

/// A program that reads a variable or a file when it starts.
#[test]
fn each_program_that_reads_a_token_once_is_started_with_it() {
    let header = &json_block("opencode.json")["mcp"]["example"]["headers"]["Authorization"];
    let file = header.as_str().unwrap().strip_prefix("{file:~/").unwrap().strip_suffix('}').unwrap();
    let opencode = format!("cat \"$HOME/{file}\"");
    let variable = toml_value("config.toml for MCP", "bearer_token_env_var");
    let codex = format!("printenv {}", variable.as_str().unwrap());
    let headers = &json_block("gemini-cli settings.json")["mcpServers"]["example"]["headers"];
    let gemini = format!("echo \"{}\"", headers["Authorization"].as_str().unwrap());
    let cases: [(&str, &str, &str, Reads); 3] = [
        ("codex", "codex", &codex, trimmed_line),
        ("opencode", "opencode", &opencode, bearer),
        ("gemini-cli", "gemini", &gemini, bearer),
    ];
    for (name, program, script, reads) in cases {
        let reader = Reader::with_profiles(EXPIRED);
        reader.stand_in(program, script);
        let line = block(name);
        let ran = run(&mut reader.line(line));
        let runs = Runs::Line(line.to_owned());
        reader.assert_reads(&ran, &Hook { name, runs, reads, profile: "mcp.example.com" }, 1);
    }
}

#[test]
fn the_lines_of_the_login_and_of_a_refused_token_work() {
    let reader = Reader::with_profiles(LIFETIME);
    let (login, token) = block("login").split_once('\n').unwrap();
    // `.ci/agents.sh` runs the login: it needs the server at the address.
    assert_eq!(login, "onegrant login https://mcp.example.com/mcp");
    let old = run(&mut reader.line(token)).token().to_owned();
    assert_eq!((&old, reader.server.counts().token_requests), (&reader.access_token("mcp.example.com"), 0));
    let ran = run(&mut reader.line(block("refresh")));
    let new = ran.token();
    assert_ne!(old, new);
    assert_eq!(reader.server.counts().token_requests, 1);
    assert_eq!(run(&mut reader.line(token)), Ran::printed(new));
    assert_eq!(reader.server.counts().token_requests, 1);
}
