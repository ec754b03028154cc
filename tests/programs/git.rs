//! The credential helper with the real git, over a real smart-HTTP server that wants the current access token.

use crate::support::*;
use servers::git_server::GitServer;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const PROGRAM: &str = env!("CARGO_BIN_EXE_onegrant");

/// What servers answer with that take both.
const BOTH: [&str; 2] = ["Bearer realm=\"git\"", "Basic realm=\"git\""];

/// A person's machine, an authorization server, and a git server with some repositories.
struct Place {
    home: Home,
    authorization_server: Arc<AuthorizationServer>,
    git_server: GitServer,
    issued: Issued,
}

impl Place {
    /// With a session that has so many seconds left, and git set up for the host.
    fn new(left: i64, challenges: &[&'static str]) -> Self {
        let place = Self::before_setup(left, challenges);
        let host = place.git_server.host();
        let ran = run(&mut place.command(Path::new(PROGRAM), &["git-setup", &host]));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        place
    }

    fn before_setup(left: i64, challenges: &[&'static str]) -> Self {
        let authorization_server = Arc::new(server(|_| {}));
        let (home, issued) = Home::with_grant(&authorization_server, left);
        let repositories = home.root.join("repositories");
        fs::create_dir(&repositories).unwrap();
        let git_server = GitServer::start(&authorization_server, &repositories, challenges);
        // Where git would ask a person, it asks this.
        let askpass = home.root.join("askpass");
        let script =
            format!("#!/bin/sh\necho \"$@\" >>'{}'\necho person\n", home.root.join("asked").display());
        write_program(&askpass, &script);
        let place = Self { home, authorization_server, git_server, issued };
        place.repository("project.git");
        place
    }

    /// A repository at the server with one commit.
    fn repository(&self, name: &str) {
        let source = self.home.root.join("source");
        let target = self.home.root.join("repositories").join(name);
        let text = source.to_str().unwrap();
        if !source.exists() {
            self.locally(&["init", "-q", "-b", "main", text]);
            fs::write(source.join("file"), "content\n").unwrap();
            self.locally(&["-C", text, "add", "file"]);
            self.locally(&["-C", text, "commit", "-q", "-m", "first"]);
        }
        self.locally(&["clone", "-q", "--bare", text, target.to_str().unwrap()]);
    }

    /// git as the person has it, with a credential helper that says which grant it is of.
    fn git(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        git.env("HOME", &self.home.root).env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
        git.env("GIT_CEILING_DIRECTORIES", self.home.root.parent().unwrap());
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "Me").env(format!("GIT_{role}_EMAIL"), "me@example");
        }
        git.env("GIT_ASKPASS", self.home.root.join("askpass")).current_dir(&self.home.root);
        git
    }

    /// git, which has to succeed, without any server.
    #[track_caller]
    fn locally(&self, arguments: &[&str]) -> Ran {
        let ran = run(&mut self.git(arguments));
        assert_eq!(ran.code, 0, "git {arguments:?}: {}", ran.stderr);
        ran
    }

    fn ls_remote(&self) -> Command {
        self.git(&["ls-remote", &self.git_server.url("project.git"), "HEAD"])
    }

    /// `onegrant` where there is a git.
    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = self.git(arguments);
        let mut program = Command::new(program);
        program.args(arguments).env_clear().current_dir(&self.home.root);
        program.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command = program;
        command.env("ONEGRANT_HOME", &self.home.state);
        command
    }

    /// Asks the helper without git.
    fn ask(&self, lock: &str, operation: &str, attributes: &str) -> Ran {
        let input = self.home.root.join(format!("input-{operation}"));
        fs::write(&input, attributes).unwrap();
        let mut command = self.home.command(&["git-credential", operation]);
        run(command.env("ONEGRANT_LOCK", lock).stdin(fs::File::open(input).unwrap()))
    }

    /// The request that git makes for this server.
    fn request(&self) -> String {
        format!("protocol=http\nhost={}\n", self.git_server.host())
    }

    fn was_asked(&self) -> bool {
        self.home.root.join("asked").exists()
    }

    fn refreshes(&self) -> u64 {
        self.authorization_server.counts().refreshes
    }

    /// What holds at the end of every test, except the one in which git asks a person.
    #[track_caller]
    fn end(&self, refreshes: u64) {
        let counts = self.authorization_server.counts();
        assert_eq!((counts.refreshes, counts.replays, counts.unexpected), (refreshes, 0, 0));
        assert!(!self.was_asked(), "a person was asked for a password");
        let spent = self.home.tokens().refresh_token;
        for seen in self.git_server.seen() {
            let shown = seen.token.map(|(_, token)| token).unwrap_or_default();
            assert!(shown != self.issued.refresh_token && (shown != spent || spent.is_empty()));
        }
    }
}

/// The first line that git printed.
fn is_listed(ran: &Ran) -> bool {
    ran.code == 0 && ran.stdout.ends_with("\tHEAD\n")
}

/// A helper that hides what this git can and onegrant knows: as every git before 2.46.
fn old_git(place: &Place) -> String {
    let program = PROGRAM;
    let state = place.home.state.display();
    format!(
        "!f() {{ sed '/^capability/d;/^wwwauth/d' | ONEGRANT_HOME='{state}' '{program}' git-credential \"$1\"; }}; f"
    )
}

fn with_helper(place: &Place, helper: &str, arguments: &[&str]) -> Command {
    let key = format!("credential.http://{}.helper", place.git_server.host());
    let (reset, set) = (format!("{key}="), format!("{key}={helper}"));
    place.git(&[&["-c", &reset, "-c", &set], arguments].concat())
}

fn git_knows_authtype() -> bool {
    let version = Command::new("git").arg("--version").output().unwrap().stdout;
    let text = String::from_utf8(version).unwrap();
    let numbers = text.trim().rsplit(' ').next().unwrap().split('.').map(|part| part.parse().unwrap_or(0));
    numbers.take(2).collect::<Vec<u32>>() >= vec![2, 46]
}

#[test]
fn fifty_fetches_at_once_on_an_expired_session_make_one_refresh() {
    let place = Place::new(EXPIRED, &BOTH);
    place.authorization_server.revoke_access_token(&place.issued.access_token);
    let ran = run_together((0..50).map(|_| place.ls_remote()).collect());
    let failed: Vec<&Ran> = ran.iter().filter(|ran| !is_listed(ran)).collect();
    assert!(failed.is_empty(), "{} of 50: {failed:?}", failed.len());
    assert_eq!(place.git_server.tokens(), [place.home.tokens().access_token]);
    let wanted = if git_knows_authtype() { "bearer" } else { "basic" };
    assert_eq!(place.git_server.schemes(), [wanted]);
    place.end(1);
}

#[test]
fn a_token_that_is_revoked_in_the_middle_costs_one_command_and_one_refresh() {
    for is_old in [false, true] {
        let place = Place::new(LIFETIME, &BOTH);
        let helper = old_git(&place);
        let ls_remote = || {
            let url = place.git_server.url("project.git");
            if is_old {
                with_helper(&place, &helper, &["ls-remote", &url, "HEAD"])
            } else {
                place.ls_remote()
            }
        };
        assert!(is_listed(&run(&mut ls_remote())));
        assert_eq!(place.refreshes(), 0, "a fresh token needs none");
        place.authorization_server.revoke_access_token(&place.issued.access_token);

        let refused = run(&mut ls_remote());
        assert_eq!(refused.code, 128, "{refused:?}");
        let document = place.home.document();
        assert_eq!(document["session"]["access_token_rejected"], true, "marked");
        assert_eq!(place.home.tokens(), place.issued, "and nothing is deleted");
        assert_eq!(place.refreshes(), 0);

        // A status says so, and the mark goes with the session.
        assert!(place.home.run(&["status"]).stdout.contains("\naccess token   refused by a server\n"));
        let ran = run_together((0..8).map(|_| ls_remote()).collect());
        assert!(ran.iter().all(is_listed), "{ran:?}");
        assert!(place.home.document()["session"]["access_token_rejected"].is_null());
        let tokens = [place.issued.access_token.clone(), place.home.tokens().access_token];
        assert_eq!(place.git_server.tokens(), tokens);
        let wanted = if git_knows_authtype() && !is_old { "bearer" } else { "basic" };
        assert_eq!(place.git_server.schemes(), [wanted]);
        place.end(1);
    }
}

#[test]
fn a_token_that_one_command_found_rejected_is_rejected_for_all() {
    let place = Place::new(LIFETIME, &BOTH);
    place.authorization_server.revoke_access_token(&place.issued.access_token);
    assert_eq!(run(&mut place.ls_remote()).code, 128);
    let printed = place.home.run(&["token"]);
    assert_ne!(printed.token(), place.issued.access_token);
    assert_eq!(printed.token(), place.home.tokens().access_token);
    assert!(is_listed(&run(&mut place.ls_remote())));
    place.end(1);
}

#[test]
fn submodules_in_parallel_share_one_refresh() {
    let place = Place::new(EXPIRED, &BOTH);
    let parent = place.home.root.join("parent");
    let text = parent.to_str().unwrap();
    place.locally(&["init", "-q", "-b", "main", text]);
    for number in 0..6 {
        let name = format!("module{number}.git");
        place.repository(&name);
        let local = format!("{}/repositories/{name}", place.home.root.display());
        let folder = format!("module{number}");
        place.locally(&[
            "-C",
            text,
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            &local,
            &folder,
        ]);
        let key = format!("submodule.{folder}.url");
        place.locally(&["-C", text, "config", "-f", ".gitmodules", &key, &place.git_server.url(&name)]);
    }
    place.locally(&["-C", text, "add", "."]);
    place.locally(&["-C", text, "commit", "-q", "-m", "modules"]);
    let target = place.home.root.join("repositories/parent.git");
    place.locally(&["clone", "-q", "--bare", text, target.to_str().unwrap()]);

    let url = place.git_server.url("parent.git");
    let ran = run(&mut place.git(&["clone", "-q", "--recurse-submodules", "--jobs", "6", &url, "clone"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    for number in 0..6 {
        assert!(place.home.root.join(format!("clone/module{number}/file")).exists());
    }
    place.authorization_server.revoke_access_token(&place.home.tokens().access_token);
    let fetch = ["-C", "clone", "fetch", "-q", "--recurse-submodules=yes", "--jobs=6"];
    assert_ne!(run(&mut place.git(&fetch)).code, 0);
    let ran = run(&mut place.git(&fetch));
    assert_eq!(ran.code, 0, "{ran:?}");
    place.end(2);
}

#[test]
fn a_push_works_and_no_trace_of_git_shows_the_refresh_token() {
    // A git that knows authtype sends no bearer token with the probe before a request that it does not hold whole.
    for (challenges, buffer) in [(&BOTH[..], "16m"), (&BOTH[1..], "64k")] {
        let place = Place::new(EXPIRED, challenges);
        let url = place.git_server.url("project.git");
        let mut text = String::new();
        let mut traced = |arguments: &[&str]| {
            let mut git = place.git(arguments);
            for name in ["GIT_TRACE", "GIT_TRACE_CURL", "GIT_TRACE2", "GIT_TRACE_PACKET"] {
                git.env(name, "1");
            }
            let ran = run(git.env("GIT_TRACE_REDACT", "0"));
            assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr.lines().last().unwrap_or_default());
            text.push_str(&ran.stderr);
        };
        traced(&["clone", "-q", &url, "clone"]);
        let noise = (0..400_000_u32).map(|number| format!("{:x}\n", number.wrapping_mul(2_654_435_761)));
        fs::write(place.home.root.join("clone/file"), noise.collect::<String>()).unwrap();
        place.locally(&["-C", "clone", "commit", "-q", "-a", "-m", "second"]);
        let buffer = format!("http.postBuffer={buffer}");
        traced(&["-c", &buffer, "-C", "clone", "push", "-q", "origin", "main"]);
        let here = place.locally(&["-C", "clone", "rev-parse", "main"]).stdout;
        let there = place.locally(&["-C", "repositories/project.git", "rev-parse", "main"]).stdout;
        assert_eq!(here, there);
        let now = place.home.tokens();
        assert!(text.contains(" get'"), "the trace shows the helper");
        assert!(!text.contains(&now.refresh_token) && !text.contains(&place.issued.refresh_token));
        place.end(1);
    }
}

/// What a person types in the container, as the README says. The directory of the grant is not there.
const IN_CONTAINER: &str = r#"
mount -t tmpfs none "$0/state"
mkdir "$0/inside"
export HOME="$0/inside" PATH="$0/bin:$PATH"
git config --global credential.helper '!onegrant git-credential'
for number in 1 2; do
    echo $number >"$0/clone/file"
    git -C "$0/clone" commit -q -a -m $number
    GIT_TRACE=1 GIT_TRACE_CURL=1 GIT_TRACE_REDACT=0 git -C "$0/clone" push -q origin main
done
echo state: $(ls "$0/state")
env
find "$0/inside" "$0/clone" -type f -exec cat {} + >"$0/seen"
"#;

#[test]
fn a_container_pushes_through_a_broker_and_never_has_the_refresh_token() {
    let place = Place::new(EXPIRED, &BOTH);
    let root = place.home.root.to_str().unwrap();
    place.locally(&["clone", "-q", &format!("{root}/repositories/project.git"), "clone"]);
    place.locally(&["-C", "clone", "remote", "set-url", "origin", &place.git_server.url("project.git")]);
    fs::create_dir(place.home.root.join("bin")).unwrap();
    copy_program(&place.home.root.join("bin/onegrant"));
    let address = format!("unix:{root}/broker");
    let exec = ["exec", "--serve", &address, "--"];
    let container =
        ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-euc", IN_CONTAINER, root];
    let ran = run(&mut place.command(Path::new(PROGRAM), &[&exec[..], &container[..]].concat()));
    assert_eq!(ran.code, 0, "{ran:?}");

    let there = place.locally(&["-C", "repositories/project.git", "log", "--format=%s", "main"]).stdout;
    assert_eq!(there, "2\n1\nfirst\n");
    assert!(
        ran.stdout.contains("state:\n") && ran.stdout.contains("\nONEGRANT_STORE=broker:unix:"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("ONEGRANT_HOME"), "{ran:?}");
    let now = place.home.tokens();
    let seen = String::from_utf8_lossy(&fs::read(place.home.root.join("seen")).unwrap()).into_owned();
    let seen = [seen, ran.stdout, ran.stderr].concat();
    assert!(seen.contains(" get'"), "the trace shows the helper");
    for spent in [&place.issued, &now] {
        assert!(!seen.contains(&spent.refresh_token));
    }
    assert_eq!(place.git_server.tokens(), [now.access_token]);
    wait_for("the end of the broker", || !place.home.root.join("broker").exists());
    place.end(1);
}

#[test]
fn a_dead_grant_fails_at_once_without_a_prompt() {
    let place = Place::new(EXPIRED, &BOTH);
    place.authorization_server.end_grant(&place.issued.refresh_token);
    for _ in 0..2 {
        let ran = run(&mut place.ls_remote());
        assert_eq!((ran.code, ran.stdout.as_str()), (128, ""), "{ran:?}");
        assert!(ran.stderr.contains("hint: onegrant"), "{}", ran.stderr);
        assert!(ran.stderr.contains("told us to quit"), "{}", ran.stderr);
    }
    let asked = place.ask("auto", "get", &place.request());
    assert_eq!((asked.code, asked.stdout.as_str()), (3, "quit=1\n"));
    // The first command asked once more before it gave the verdict.
    place.end(2);
}

#[test]
fn an_unreachable_server_fails_the_command_without_a_prompt() {
    let place = Place::new(EXPIRED, &BOTH);
    place.authorization_server.always(Endpoint::Token, Fault::status(503));
    let asked = place.ask("auto", "get", &place.request());
    assert_eq!((asked.code, asked.stdout.as_str()), (4, "quit=1\n"), "{asked:?}");
    let ran = run(&mut place.ls_remote());
    assert_eq!(ran.code, 128, "{ran:?}");
    assert!(ran.stderr.contains("onegrant: ") && ran.stderr.contains("told us to quit"), "{}", ran.stderr);
    assert_eq!(place.home.tokens(), place.issued);
    place.authorization_server.clear_faults();
    let before = place.refreshes();
    assert!(is_listed(&run(&mut place.ls_remote())));
    place.end(before + 1);
}

#[test]
fn a_server_that_offers_basic_alone_gets_the_token_as_a_password() {
    let place = Place::new(LIFETIME, &["Basic realm=\"git\""]);
    assert!(is_listed(&run(&mut place.ls_remote())));
    assert_eq!(place.git_server.schemes(), ["basic"]);
    let names: Vec<String> = place.git_server.seen().into_iter().map(|seen| seen.username).collect();
    assert!(names.contains(&"oauth2".to_owned()), "{names:?}");
    place.end(0);
}

#[test]
fn another_host_gets_nothing() {
    let place = Place::new(LIFETIME, &BOTH);
    let port = place.git_server.host().split_once(':').unwrap().1.to_owned();
    for (protocol, host) in [
        ("http", format!("localhost:{port}")),
        ("http", "127.0.0.1".to_owned()),
        ("http", "127.0.0.1:1".to_owned()),
        ("https", "git.example".to_owned()),
        ("ssh", place.git_server.host()),
        ("", String::new()),
    ] {
        let request = format!("capability[]=authtype\nprotocol={protocol}\nhost={host}\n");
        for operation in ["get", "erase", "store", "later"] {
            let request = format!("{request}password={}\n", place.issued.access_token);
            let nothing = Ran { code: 0, stdout: String::new(), stderr: String::new() };
            assert_eq!(place.ask("auto", operation, &request), nothing, "{operation} {protocol}://{host}");
        }
    }
    assert!(place.home.document()["session"]["access_token_rejected"].is_null());

    // The same helper for all hosts: git goes on and asks the person.
    let other = place.home.root.join("repositories");
    let other = GitServer::start(&place.authorization_server, &other, &BOTH);
    let mut git = place.git(&["-c", "credential.helper=onegrant", "ls-remote", &other.url("project.git")]);
    git.env("PATH", path_with_helper(&place)).env("ONEGRANT_HOME", &place.home.state);
    assert_eq!(run(&mut git).code, 128);
    assert!(place.was_asked());
    assert_eq!(other.tokens(), ["person"]);
}

/// A directory with the name that git looks for, before the others.
fn path_with_helper(place: &Place) -> std::ffi::OsString {
    let links = place.home.root.join("links");
    fs::create_dir_all(&links).unwrap();
    let _ = std::os::unix::fs::symlink(PROGRAM, links.join("git-credential-onegrant"));
    let path = std::env::var_os("PATH").unwrap();
    std::env::join_paths(std::iter::once(links).chain(std::env::split_paths(&path))).unwrap()
}

#[test]
fn git_finds_the_helper_by_its_name() {
    let place = Place::before_setup(LIFETIME, &BOTH);
    let mut document = place.home.document();
    document["git_hosts"] = serde_json::json!([place.git_server.host()]);
    place.home.write(&document);
    let url = place.git_server.url("project.git");
    let mut git = place.git(&["-c", "credential.helper=onegrant", "ls-remote", &url, "HEAD"]);
    let ran = run(git.env("PATH", path_with_helper(&place)).env("ONEGRANT_HOME", &place.home.state));
    assert!(is_listed(&ran), "{ran:?}");
    place.end(0);
}

#[test]
fn the_transcripts_are_those_of_gits_documentation() {
    let place = Place::new(LIFETIME, &BOTH);
    let token = &place.issued.access_token;
    let ends = place.home.document()["session"]["expires_at"].as_i64().unwrap();
    let request = place.request();
    let printed = |stdout: String| Ran { code: 0, stdout, stderr: String::new() };
    let password = format!("username=oauth2\npassword={token}\npassword_expiry_utc={ends}\n");
    let bearer = format!(
        "capability[]=authtype\nauthtype=Bearer\ncredential={token}\nephemeral=true\npassword_expiry_utc={ends}\n"
    );
    assert_eq!(place.ask("auto", "get", &request), printed(password));
    assert_eq!(place.ask("auto", "get", &format!("capability[]=authtype\n{request}\n")), printed(bearer));
    assert_eq!(place.ask("auto", "capability", ""), printed("version 0\ncapability authtype\n".to_owned()));
    for operation in ["store", "approve", ""] {
        let used = format!("{request}username=oauth2\npassword={token}\n");
        assert_eq!(place.ask("auto", operation, &used), printed(String::new()));
    }
    let odd = place.ask("auto", "get", "host=a\0b\n");
    assert_eq!((odd.code, odd.stdout.as_str()), (2, ""), "{odd:?}");

    let mut document = place.home.document();
    document["session"]["expires_at"] = serde_json::Value::Null;
    document["git_username"] = "x-token-auth".into();
    place.home.write(&document);
    let unknown = format!("username=x-token-auth\npassword={token}\n");
    assert_eq!(place.ask("auto", "get", &request), printed(unknown));
    place.end(0);
}

#[test]
fn a_rejected_token_is_not_handed_out_again_though_no_other_can_be_had() {
    for lock in ["auto", "claim", "off"] {
        let place = Place::new(LIFETIME, &BOTH);
        let (token, request) = (&place.issued.access_token, place.request());
        let nothing = Ran { code: 0, stdout: String::new(), stderr: String::new() };
        let erase = |token: &str| place.ask(lock, "erase", &format!("{request}password={token}\n"));
        assert_eq!(erase("another"), nothing);
        assert!(place.ask(lock, "get", &request).stdout.contains(token), "{lock}");
        for _ in 0..2 {
            assert_eq!(erase(token), nothing, "{lock}");
        }
        assert_eq!(place.home.names(), ["default.json", "default.lock"], "{lock}: nothing is left behind");
        place.authorization_server.always(Endpoint::Token, Fault::status(400));
        for arguments in [&["git-credential", "get"][..], &["token"]] {
            let ran = match arguments {
                ["token"] => place.home.run_with_lock(lock, arguments),
                _ => place.ask(lock, "get", &request),
            };
            assert!(ran.code != 0 && !ran.stdout.contains(token), "{lock}: {ran:?}");
        }
        place.authorization_server.clear_faults();
        let newer = place.ask(lock, "get", &request);
        assert!(newer.stdout.contains(&place.home.tokens().access_token), "{lock}: {newer:?}");
        // It comes late.
        let before = place.home.bytes();
        assert_eq!(erase(token), nothing, "{lock}");
        assert_eq!(place.home.bytes(), before, "{lock}");
        place.end(3);
    }
}

#[test]
fn without_a_refresh_token_git_gets_nothing_more_and_others_go_on() {
    let place = Place::new(LIFETIME, &BOTH);
    let mut document = place.home.document();
    document["session"]["refresh_token"] = serde_json::Value::Null;
    place.home.write(&document);
    let erased = format!("{}password={}\n", place.request(), place.issued.access_token);
    assert_eq!(place.ask("auto", "erase", &erased).code, 0);
    let ran = place.ask("auto", "get", &place.request());
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "quit=1\n"));
    let ran = place.home.run(&["token"]);
    assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", place.issued.access_token)));
    assert!(ran.stderr.starts_with("onegrant: warning: "), "{}", ran.stderr);
    place.end(0);
}

#[test]
fn an_erase_never_overwrites_a_newer_session() {
    for lock in ["auto", "claim", "off"] {
        let place = Place::new(LIFETIME, &BOTH);
        let gate = Gate::closed();
        place.authorization_server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
        let refresh = Process::start(place.home.command(&["refresh"]).env("ONEGRANT_LOCK", lock));
        place.authorization_server.wait_until(|counts| counts.rotations == 1);
        // The refresh token is spent, and its answer is not here yet.
        let input = place.home.root.join("erased");
        fs::write(&input, format!("{}password={}\n", place.request(), place.issued.access_token)).unwrap();
        let erase = |timeout| {
            let mut erase = place.home.command(&["--timeout", timeout, "git-credential", "erase"]);
            erase.env("ONEGRANT_LOCK", lock).stdin(fs::File::open(&input).unwrap());
            Process::start(&mut erase)
        };
        let before = place.home.bytes();
        assert_eq!(erase("0.3").finish().code, 4, "{lock}: it waits for the refresh");
        assert_eq!(place.home.bytes(), before, "{lock}");
        let erase = erase("60");
        gate.open();
        let newer = refresh.finish().token().to_owned();
        assert_eq!(erase.finish(), Ran { code: 0, stdout: String::new(), stderr: String::new() }, "{lock}");
        assert_eq!(place.home.tokens().access_token, newer, "{lock}");
        assert!(place.authorization_server.is_alive(&place.home.tokens().refresh_token), "{lock}");
        assert!(place.home.document()["session"]["access_token_rejected"].is_null(), "{lock}");
        place.end(1);
    }
}

#[test]
fn many_erasures_at_once_leave_one_mark_and_cost_one_refresh() {
    for lock in ["auto", "claim", "off"] {
        let place = Place::new(LIFETIME, &BOTH);
        let input = place.home.root.join("used");
        fs::write(&input, format!("{}password={}\n", place.request(), place.issued.access_token)).unwrap();
        let crowd = |operation: &str| {
            let commands = (0..20).map(|_| {
                let mut command = place.home.command(&["git-credential", operation]);
                command.env("ONEGRANT_LOCK", lock);
                command
            });
            start_together(commands.collect(), &input).finish()
        };
        assert_all(&crowd("erase"), &Ran { code: 0, stdout: String::new(), stderr: String::new() });
        assert_eq!(place.home.document()["session"]["access_token_rejected"], true, "{lock}");
        assert_eq!(place.home.tokens(), place.issued, "{lock}");
        assert_eq!(place.home.names(), ["default.json", "default.lock"], "{lock}");
        // Without a lock and a binding claim, more than one may spend: the comparison loop is for that.
        if lock != "off" {
            let answers = crowd("get");
            let token = place.home.tokens().access_token;
            assert!(answers.iter().all(|ran| ran.stdout.contains(&token)), "{lock}: {answers:?}");
            place.end(1);
        }
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn large_files_go_both_ways_and_a_revoked_token_makes_no_loop() {
    if !is_installed("git-lfs") {
        println!("SKIPPED: git-lfs is not installed");
        return;
    }
    let place = Place::new(EXPIRED, &BOTH);
    let url = place.git_server.url("project.git");
    place.locally(&["lfs", "install", "--skip-repo"]);
    let git = |arguments: &[&str]| {
        let ran = run(&mut place.git(arguments));
        assert_eq!(ran.code, 0, "git {arguments:?}: {ran:?}");
    };
    git(&["clone", "-q", &url, "clone"]);
    place.locally(&["-C", "clone", "lfs", "install", "--local"]);
    place.locally(&["-C", "clone", "lfs", "track", "*.large"]);
    for number in 0..8 {
        fs::write(place.home.root.join(format!("clone/{number}.large")), format!("large {number}\n"))
            .unwrap();
    }
    place.locally(&["-C", "clone", "add", "."]);
    place.locally(&["-C", "clone", "commit", "-q", "-m", "large"]);
    git(&["-C", "clone", "push", "-q", "origin", "main"]);
    assert_eq!(place.git_server.objects().len(), 8);
    assert_eq!(place.refreshes(), 1);

    // The token ends, and no other is to be had: git-lfs gives up.
    place.authorization_server.revoke_access_token(&place.home.tokens().access_token);
    place.authorization_server.always(Endpoint::Token, Fault::status(400));
    let ran = run(&mut place.git(&["clone", "-q", &url, "failed"]));
    assert_eq!(ran.code, 128, "{ran:?}");
    place.authorization_server.clear_faults();
    git(&["clone", "-q", &url, "again"]);
    for number in 0..8 {
        let text = fs::read_to_string(place.home.root.join(format!("again/{number}.large"))).unwrap();
        assert_eq!(text, format!("large {number}\n"));
    }
    assert!(!place.was_asked());
}

/// A copy of the program at a path that a shell would take apart.
fn odd_program(place: &Place) -> PathBuf {
    let directory = place.home.root.join("it's \"an\" $odd `place`; \\");
    fs::create_dir(&directory).unwrap();
    let program = directory.join("onegrant");
    copy_program(&program);
    program
}

fn setup(place: &Place, program: &Path, arguments: &[&str]) -> Ran {
    run(&mut place.command(program, arguments))
}

#[test]
fn setup_shows_what_it_does_does_it_once_and_leaves_the_rest_alone() {
    let place = Place::before_setup(LIFETIME, &BOTH);
    let program = odd_program(&place);
    let host = place.git_server.host();
    let kept = [
        ("credential.helper", "!false"),
        ("credential.https://other.example.helper", "!true"),
        ("user.name", "Me"),
    ];
    for (key, value) in kept {
        place.locally(&["config", "--global", key, value]);
    }
    let configured = || fs::read_to_string(place.home.root.join(".gitconfig")).unwrap();
    let before = (configured(), place.home.bytes());

    let dry = setup(&place, &program, &["git-setup", "--dry-run", "git.example", &host]);
    assert_eq!((dry.code, dry.stderr.as_str()), (0, ""));
    assert_eq!((configured(), place.home.bytes()), before, "a dry run changes nothing");

    let ran = setup(&place, &program, &["git-setup", "git.example", &host]);
    assert_eq!(ran, dry, "what is done is what was shown");
    assert_eq!(place.home.document()["git_hosts"], serde_json::json!(["git.example", host]));
    assert_eq!(place.home.tokens(), place.issued, "the session stays");
    for (key, value) in kept {
        assert_eq!(place.locally(&["config", "--global", "--get-all", key]).stdout, format!("{value}\n"));
    }
    for url in ["https://git.example".to_owned(), format!("http://{host}"), format!("https://{host}")] {
        let key = format!("credential.{url}.helper");
        let values = place.locally(&["config", "--global", "--null", "--get-all", &key]).stdout;
        assert!(values.starts_with("\0!'") && values.ends_with("git-credential\0"), "{values:?}");
    }
    assert!(is_listed(&run(&mut place.ls_remote())), "the helper at the odd path answers");

    // The commands that were shown do the same where they are pasted.
    let first = configured();
    fs::write(place.home.root.join(".gitconfig"), &before.0).unwrap();
    assert_eq!(setup(&place, Path::new("/bin/sh"), &["-euc", &dry.stdout]).code, 0);
    assert_eq!(configured(), first);

    let again = setup(&place, &program, &["git-setup", "git.example", &host]);
    assert!(again.stdout.starts_with("# git is set up already\n"), "{again:?}");
    assert_eq!(configured(), first);
    place.end(0);
}

#[test]
fn setup_of_one_repository_touches_no_other() {
    let place = Place::before_setup(LIFETIME, &BOTH);
    let program = Path::new(PROGRAM);
    let outside = setup(&place, program, &["--profile", "default", "git-setup", "--local", "git.example"]);
    assert_eq!(outside.code, 2, "{outside:?}");
    assert!(place.home.document()["git_hosts"].is_null());
    let source = place.home.root.join("source");
    let mut command = place.command(program, &["git-setup", "--local", "git.example"]);
    assert_eq!(run(command.current_dir(&source)).code, 0);
    let local = place.locally(&[
        "-C",
        "source",
        "config",
        "--local",
        "--get-all",
        "credential.https://git.example.helper",
    ]);
    assert_eq!(local.stdout.lines().count(), 2);
    assert!(!place.home.root.join(".gitconfig").exists());
}

#[test]
fn setup_says_what_is_missing() {
    let place = Place::before_setup(LIFETIME, &BOTH);
    let program = Path::new(PROGRAM);
    let cases: [(&[&str], i32, &str); 4] = [
        (&["git-setup"], 2, "onegrant: no host is named\nhint: onegrant git-setup --help\n"),
        (
            &["git-setup", "https://git.example"],
            2,
            "onegrant: https://git.example is not HOST or HOST:PORT\nhint: onegrant git-setup --help\n",
        ),
        (
            &["git-setup", "a:b"],
            2,
            "onegrant: a:b is not HOST or HOST:PORT\nhint: onegrant git-setup --help\n",
        ),
        (
            &["--profile", "absent", "git-setup", "git.example"],
            3,
            "onegrant: profile absent has no grant\nhint: onegrant --profile absent login https://ADDRESS\n",
        ),
    ];
    for (arguments, code, stderr) in cases {
        assert_eq!(setup(&place, program, arguments), Ran::failed(code, stderr), "{arguments:?}");
    }
    let empty = place.home.root.join("empty");
    fs::create_dir(&empty).unwrap();
    let mut command = place.command(program, &["git-setup", "git.example"]);
    let wanted = Ran::failed(2, "onegrant: cannot set git up: there is no git here\nhint: git --version\n");
    assert_eq!(run(command.env("PATH", &empty)), wanted);
    assert!(place.home.document()["git_hosts"].is_null());
}
