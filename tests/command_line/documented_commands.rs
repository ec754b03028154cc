//! The commands of the README and of the pages in `docs` do what is said.
//!
//! The `sh` blocks of a page are run one after the other, as a reader would, in a home directory of their own. The
//! environment has what the pages name: `ISSUER`, `CLIENT`, `SCOPE`, `REFRESH_TOKEN`, what a CI job has, and a browser. The service
//! at `https://mcp.example.com` is a resource of the test's server. Before a page of `docs` there is a login. Blocks that begin with `cargo` build or serve: `.ci/run` runs them. In a `console` block `…`
//! replaces what differs. Other blocks are not run, but their `onegrant` commands must parse.

use crate::support::write_program;
use onegrant::cli::{Parsed, parse};
use onegrant::environment::Environment;
use serde_json::Value;
use servers::authorization_server::{
    AuthorizationServer, Endpoint, ProtectedResource, Registration, Settings,
};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const README: &str = include_str!("../../README.md");

/// The login of the README, which a reader of another page has made.
const LOGIN: &str = "onegrant login \"$ISSUER\" --client-id \"$CLIENT\"";

/// The service of the pages, and the profile that a login there makes.
const SERVICE: (&str, &str) = ("https://mcp.example.com", "mcp.example.com");

/// The fenced blocks: language and text.
fn blocks(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap())
}

/// The pages of `docs`: name and text.
fn pages() -> Vec<(String, String)> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|end| end == "md"));
    pages.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

/// A reader's machine: a server, an empty home, and onegrant on the path.
struct Reader {
    server: AuthorizationServer,
    home: PathBuf,
}

impl Reader {
    fn new(name: &str) -> Self {
        let settings = Settings {
            auto_approve: true,
            subject_tokens: vec!["the identity of a job".to_owned()],
            resources: vec![ProtectedResource::at("/mcp")],
            registration: Some(Registration { is_managed: true, ..Registration::default() }),
            ..Settings::default()
        };
        Self::at(name, settings)
    }

    fn at(name: &str, settings: Settings) -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&home).unwrap();
        let browser = home.join("browser");
        write_program(&browser, "#!/bin/sh\nexec curl -fsSL \"$1\"\n");
        Self { server: AuthorizationServer::start(settings), home }
    }

    /// Exit code, stdout, stderr.
    fn run(&self, script: &str) -> (Option<i32>, String, String) {
        let origin = self.server.origin();
        let profile = origin.trim_start_matches("http://").replace(':', "-");
        let script = script.replace(SERVICE.0, &origin);
        let onegrant = Path::new(env!("CARGO_BIN_EXE_onegrant")).parent().unwrap();
        let refresh_token = self.server.issue_grant().refresh_token;
        let output = Command::new("bash")
            .args(["-eu", "-o", "pipefail", "-c", &script])
            .current_dir(&self.home)
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", onegrant.display()))
            .envs([("ISSUER", self.server.issuer().as_str()), ("CLIENT", self.server.client_id())])
            .env("SCOPE", "read offline_access")
            .env("REFRESH_TOKEN", refresh_token)
            .env("BROWSER", self.home.join("browser"))
            .env("CI_CLIENT", self.server.confidential_client_id())
            .env("CI_CLIENT_SECRET", self.server.client_secret())
            .env("CI_JOB_TOKEN", "the identity of a job")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(&origin, SERVICE.0).replace(&profile, SERVICE.1)
        };
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Whether `text` is `pattern`, where `…` in the pattern matches anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let (first, rest) = match pattern.split_once('…') {
        None => return text == pattern,
        Some((first, rest)) => (first, rest),
    };
    text.strip_prefix(first).is_some_and(|text| {
        text.char_indices().any(|(start, _)| is_like(&text[start..], rest)) || is_like("", rest)
    })
}

/// Runs the commands of a page and gives their number.
fn run_commands(reader: &Reader, page: &str) -> usize {
    let mut commands = 0;
    for (language, text) in blocks(page) {
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
                assert!(is_like(stdout.trim_end(), wanted), "{command}\nprinted:\n{stdout}wanted:\n{wanted}");
                commands += 1;
            }
            // The recipes for hooks, a CI job and an image have tests of their own: tests/faults/minimal_environments.rs.
            "sh pre-push" | "sh prepare-commit-msg" | "yaml" | "dockerfile" => {}
            // A block with a name is a recipe for an agent: tests/programs/agents.rs.
            _ if language.contains(' ') => {}
            _ => assert!(["text", "json", "mermaid"].contains(&language), "{language}: {text}"),
        }
    }
    assert_eq!(reader.server.counts().unexpected, 0);
    commands
}

#[test]
fn the_commands_of_the_readme_work() {
    let commands = run_commands(&Reader::new("readme"), README);
    assert!(commands >= 6, "the README has lost its commands, or this test finds them no more");
}

/// A home without anything in it, an address, and no other word: the first commands of a reader. Each request is made once.
#[test]
fn the_first_login_of_the_readme_needs_an_address_and_nothing_else() {
    let mut logins = blocks(README).filter(|(language, text)| *language == "sh" && text.contains(" login "));
    let (_, text) = logins.next().unwrap();
    let (login, token) = text.trim_end().split_once('\n').unwrap();
    assert_eq!(login, format!("onegrant login {}/mcp", SERVICE.0));
    let reader = Reader::new("first-login");
    let (code, stdout, stderr) = reader.run(text);
    assert_eq!(code, Some(0), "{stderr}");
    let asked: Vec<Endpoint> =
        reader.server.requests().iter().filter_map(|request| request.endpoint).collect();
    let wanted = [
        Endpoint::Resource,
        Endpoint::ResourceMetadata,
        Endpoint::OauthMetadata,
        Endpoint::Registration,
        Endpoint::Authorization,
        Endpoint::Token,
    ];
    assert_eq!(asked, wanted);
    assert_eq!(reader.run(token).1, stdout, "the same token for each process");
    let told = format!("onegrant: logged in: profile {}, access token valid until ", SERVICE.1);
    assert!(stderr.contains(&told), "{stderr}");
    assert_eq!((reader.server.requests().len(), reader.server.counts().unexpected), (wanted.len(), 0));
}

#[test]
fn the_commands_of_the_pages_in_docs_work() {
    let commands: usize = std::thread::scope(|scope| {
        let run = |(name, page): (String, String)| {
            if !blocks(&page).any(|(language, _)| ["sh", "console"].contains(&language)) {
                return 0;
            }
            let reader = Reader::new(Path::new(&name).file_stem().unwrap().to_str().unwrap());
            assert_eq!(reader.run(LOGIN).0, Some(0));
            run_commands(&reader, &page)
        };
        let runs: Vec<_> = pages().into_iter().map(|page| scope.spawn(move || run(page))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert!(commands >= 15, "the pages have lost their commands, or this test finds them no more");
}

/// The server reads the document as an organisation would publish it, and there is no other way to a client.
#[test]
fn the_client_metadata_document_of_the_page_is_a_client_at_a_server_that_supports_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/login.md")).unwrap();
    let (_, text) = blocks(&page).find(|(_, text)| text.contains("\"application_type\"")).unwrap();
    let mut document: Value = serde_json::from_str(text).unwrap();
    let published = document["client_id"].as_str().unwrap();
    let command = page.lines().find(|line| line.contains("login") && line.contains("--client-metadata-url"));
    assert!(command.is_some_and(|line| line.ends_with(&format!("--client-metadata-url {published}"))));
    assert!(text.len() < 5 << 10 && published.starts_with("https://") && document["client_secret"].is_null());

    let resources = vec![ProtectedResource::at("/mcp")];
    let reader = Reader::at("address", Settings { address_clients: true, resources, ..Settings::default() });
    let client_id = reader.server.url(Endpoint::ClientMetadata);
    document["client_id"] = client_id.as_str().into();
    reader.server.adjust(|settings| settings.client_metadata = document);
    let login = format!("onegrant login {}/mcp --client-metadata-url {client_id}", SERVICE.0);
    let (code, _, stderr) = reader.run(&login);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(reader.server.requests_to(Endpoint::ClientMetadata).len(), 1);
    assert_eq!((reader.server.counts().registrations, reader.server.counts().unexpected), (0, 0));
}

/// The words of a line as a shell gives them to a program, if the line calls onegrant.
fn words_of_call(line: &str) -> Option<Vec<OsString>> {
    let line = line.trim_start().trim_start_matches("$ ");
    let call = line.starts_with("onegrant ").then_some(line)?.split(['|', '>']).next()?;
    let output = Command::new("bash")
        .args(["-c", &format!("onegrant() {{ printf '%s\\0' \"$@\"; }}\n{}", call.trim_end_matches('\\'))])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.split_terminator('\0').map(OsString::from).collect())
}

#[test]
fn the_commands_that_are_not_run_parse() {
    let environment = Environment { home: Some("/home/reader".into()), ..Environment::default() };
    let mut found = 0;
    for (name, page) in pages().into_iter().chain([("README.md".to_owned(), README.to_owned())]) {
        let texts = blocks(&page).filter(|(language, _)| language.split(' ').next() == Some("text"));
        for line in texts.flat_map(|(_, text)| text.lines()) {
            let Some(words) = words_of_call(line) else { continue };
            let parsed = parse(words, &environment);
            assert!(!matches!(parsed, Err(_) | Ok(Parsed::NoCommand(_))), "{name}: {line}: {parsed:?}");
            found += 1;
        }
    }
    assert!(found >= 5, "only {found} commands");
}

/// A path in this repository, without a part to be replaced.
fn is_path(code: &str) -> bool {
    let is_inside =
        ["src/", "tests/", "fixtures/", "docs/", ".ci/"].iter().any(|room| code.starts_with(room));
    is_inside && !code.contains([' ', '*', '…']) && !code.contains("NAME")
}

/// Relative links, the headings behind `#`, and the paths that are named as code.
#[test]
fn each_link_and_path_of_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let at_root = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root.join(name));
    let in_docs = pages().into_iter().map(|(name, _)| PathBuf::from(name));
    for page in at_root.into_iter().chain(in_docs) {
        let text = fs::read_to_string(&page).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        for target in targets.filter(|target| !target.contains(':')) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.with_file_name("").join(file) };
            assert!(path.exists(), "{}: {target}", page.display());
            let anchor = |line: &str| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-");
            let is_heading = |line: &str| line.starts_with('#') && anchor(line) == heading;
            let is_there = heading.is_empty() || fs::read_to_string(&path).unwrap().lines().any(is_heading);
            assert!(is_there, "{}: {target}", page.display());
        }
        for path in text.split('`').skip(1).step_by(2).filter(|code| is_path(code)) {
            assert!(root.join(path).exists(), "{}: {path}", page.display());
        }
    }
}

/// The last column of the table of bounds.
#[test]
fn each_bound_that_the_design_names_is_in_the_code() {
    fn code(path: &Path) -> String {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let text = |path: PathBuf| match path.is_dir() {
            true => code(&path),
            false => fs::read_to_string(path).unwrap(),
        };
        entries.map(text).collect()
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, design) = (code(&root.join("src")), fs::read_to_string(root.join("docs/design.md")).unwrap());
    let (_, bounds) = design.split_once("\n## Bounds\n").unwrap();
    let names: Vec<&str> =
        bounds.split('`').skip(1).step_by(2).filter(|code| !code.contains(['-', ' '])).collect();
    assert!(names.len() >= 20, "only {names:?}");
    for name in names {
        assert!(code.contains(&format!("const {name}: ")), "{name} is no bound of the code");
    }
}

/// A packaged crate comes without `.ci`.
#[test]
fn the_two_first_commands_are_run_by_ci() {
    let Ok(ci) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run")) else {
        return;
    };
    let (_, text) = blocks(README).next().unwrap();
    assert_eq!(text.trim_end(), "cargo demo\ncargo test");
    for command in text.lines() {
        assert!(ci.lines().any(|line| line.trim_end().ends_with(command)), "{command} is not in .ci/run");
    }
}

#[test]
fn dots_match_anything() {
    for (text, pattern, is_wanted) in
        [("ab", "ab", true), ("ab", "a", false), ("abc", "a…c", true), ("a", "a…", true), ("ab", "…c", false)]
    {
        assert_eq!(is_like(text, pattern), is_wanted, "{text} {pattern}");
    }
}
