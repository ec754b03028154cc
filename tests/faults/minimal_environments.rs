//! Where little is there: an empty root, a user in no passwd file, no HOME, no `/proc`, `/dev`, `/tmp` and CA
//! file, a read-only root, a document that is mounted alone. And the recipes for hooks, a CI job and an image, as they
//! are in docs/git.md and docs/containers-and-ci.md.

use crate::support::{
    AuthorizationServer, EXPIRED, Home, Issued, Ran, VALID, copy_program, document, in_namespace, is_root,
    now, onegrant, run, server, write_program,
};
use std::fs::{self, Permissions};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// The pages with recipes.
const PAGES: &str =
    concat!(include_str!("../../docs/git.md"), include_str!("../../docs/containers-and-ci.md"));

/// A user and a group that no file names.
const USER: u32 = 12345;

/// Where the state is mounted.
const MOUNTED: &str = "mount --bind \"$0/state\" \"$0/root/grant\"";

/// The same, and nothing else can be written.
const READ_ONLY: &str = "mount --bind \"$0/root\" \"$0/root\"; mount -o remount,bind,ro \"$0/root\"";

/// A home with `root`, where the program and an empty directory `grant` are all that there is, and the state of a user.
struct Container {
    home: Home,
    server: AuthorizationServer,
    issued: Issued,
}

impl Container {
    /// With a session that lasts for so many seconds.
    fn new(left: i64) -> Self {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant(&server, left);
        fs::create_dir_all(home.root.join("root/grant")).unwrap();
        copy_program(&home.root.join("root/onegrant"));
        let container = Self { home, server, issued };
        container.give_away();
        container
    }

    /// Makes the state the user's, where that can be done.
    fn give_away(&self) {
        if is_root() {
            for path in [&self.home.state, &self.home.document_path()] {
                chown(path, Some(USER), Some(USER)).unwrap();
            }
        }
    }

    fn grant(&mut self, left: i64) {
        self.issued = self.home.grant(&self.server, left);
        self.give_away();
    }

    /// The same command in the root, after `mounts`, with no other variables than its own.
    fn command(&self, mounts: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Command {
        self.command_as(USER, "", mounts, environment, arguments)
    }

    fn command_as(
        &self,
        user: u32,
        redirections: &str,
        mounts: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Command {
        let who = if is_root() { format!("--userspec={user}:{user}") } else { String::new() };
        let variables: Vec<String> =
            environment.iter().map(|(name, value)| format!("'{name}={value}'")).collect();
        let variables = variables.join(" ");
        let script = format!(
            "{mounts}; exec env -i {variables} \"$(command -v chroot)\" {who} \"$0/root\" \"$@\" {redirections}"
        );
        let mut command = Command::new("/onegrant");
        command.args(arguments).current_dir(&self.home.root);
        in_namespace(&script, &self.home, &command)
    }

    #[track_caller]
    fn assert_refreshed(&self, ran: &Ran, what: &str) {
        let new = self.home.tokens();
        assert_eq!(*ran, Ran::printed(&new.access_token), "{what}");
        self.assert_stored(what);
    }

    #[track_caller]
    fn assert_stored(&self, what: &str) {
        let new = self.home.tokens();
        assert_ne!(new.refresh_token, self.issued.refresh_token, "{what}");
        assert!(self.server.is_alive(&new.refresh_token), "{what}");
        let metadata = fs::metadata(self.home.document_path()).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600, "{what}");
        assert!(!is_root() || metadata.uid() == USER, "{what}");
        assert!(!self.home.names().iter().any(|name| name.contains('~')), "{what}: {:?}", self.home.names());
    }

    #[track_caller]
    fn assert_counts(&self, token_requests: u64, what: &str) {
        let counts = self.server.counts();
        assert_eq!((counts.token_requests, counts.unexpected), (token_requests, 0), "{what}");
    }
}

const GRANT: (&str, &str) = ("ONEGRANT_HOME", "/grant");

#[test]
fn an_empty_root_is_enough_also_if_it_is_read_only() {
    for mounts in [MOUNTED, &format!("{READ_ONLY}; {MOUNTED}")] {
        for lock in ["auto", "claim", "off"] {
            let container = Container::new(EXPIRED);
            let ran = run(&mut container.command(mounts, &[GRANT, ("ONEGRANT_LOCK", lock)], &["token"]));
            container.assert_refreshed(&ran, &format!("{mounts}, {lock}"));
            container.assert_counts(1, lock);
            let names = fs::read_dir(container.home.root.join("root")).unwrap().count();
            assert_eq!(names, 2, "nothing is left in the root");
        }
    }
}

#[test]
fn without_a_directory_for_its_files_the_variable_that_names_one_is_reported() {
    let container = Container::new(EXPIRED);
    let ran = run(&mut container.command(MOUNTED, &[], &["token"]));
    let text = "onegrant: no directory for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute \
                path\nhint: export ONEGRANT_HOME=/a/directory\n";
    assert_eq!(ran, Ran::failed(2, text));
    // As a container's runtime sets it for a user without a passwd entry.
    let ran = run(&mut container.command(MOUNTED, &[("HOME", "/")], &["token"]));
    let text =
        "onegrant: no access token: profile default has no grant\nhint: onegrant login https://ADDRESS\n";
    assert_eq!(ran, Ran::failed(3, text));
    container.assert_counts(0, "");
}

#[test]
fn a_state_that_cannot_be_written_gives_a_valid_token_and_spends_nothing() {
    let mounts = format!("{MOUNTED}; mount -o remount,bind,ro \"$0/root/grant\"");
    for lock in ["auto", "claim", "off"] {
        let mut container = Container::new(VALID);
        let environment = [GRANT, ("ONEGRANT_LOCK", lock)];
        let ran = run(&mut container.command(&mounts, &environment, &["token"]));
        assert_eq!(ran, Ran::printed(&container.issued.access_token), "{lock}");
        container.grant(EXPIRED);
        let before = container.home.bytes();
        let ran = run(&mut container.command(&mounts, &environment, &["token"]));
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{lock}: {ran:?}");
        assert!(ran.stderr.contains("Read-only file system\nhint: "), "{lock}: {ran:?}");
        assert_eq!(container.home.bytes(), before, "{lock}");
        container.assert_counts(0, lock);
    }
}

/// A single file in a directory of the container's own.
#[test]
fn a_document_that_is_mounted_alone_is_written_in_place() {
    for lock in ["auto", "claim", "off"] {
        let container = Container::new(EXPIRED);
        let inside = container.home.root.join("root/grant");
        fs::write(inside.join("default.json"), "").unwrap();
        if is_root() {
            chown(&inside, Some(USER), Some(USER)).unwrap();
        }
        fs::set_permissions(&inside, Permissions::from_mode(0o700)).unwrap();
        let inode = fs::metadata(container.home.document_path()).unwrap().ino();
        let mounts = "mount --bind \"$0/state/default.json\" \"$0/root/grant/default.json\"";
        let ran = run(&mut container.command(mounts, &[GRANT, ("ONEGRANT_LOCK", lock)], &["token"]));
        container.assert_refreshed(&ran, lock);
        assert_eq!(fs::metadata(container.home.document_path()).unwrap().ino(), inode, "{lock}");
        container.assert_counts(1, lock);

        // The same file in a root that cannot be written: there is no place for the copy that would be left by a crash.
        let mut container = container;
        container.issued = container.server.issue_grant();
        let expired = document(&container.server, &container.issued, EXPIRED).to_string();
        fs::write(container.home.document_path(), &expired).unwrap();
        let mounts = format!("{READ_ONLY}; {mounts}");
        let ran = run(&mut container.command(&mounts, &[GRANT, ("ONEGRANT_LOCK", lock)], &["token"]));
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{lock}: {ran:?}");
        assert_eq!(container.home.bytes(), expired.as_bytes(), "{lock}");
        container.assert_counts(1, lock);
    }
}

/// What is opened in their place would get the answer: a document is no place for a message.
#[test]
fn closed_standard_descriptors_cost_nothing() {
    let closed = "<&- >&- 2>&-";
    for redirections in [closed, "<&-", ">&-", "2>&-"] {
        let container = Container::new(EXPIRED);
        let ran = run(&mut container.command_as(USER, redirections, MOUNTED, &[GRANT], &["-vv", "token"]));
        assert_eq!(ran.code, 0, "{redirections}: {ran:?}");
        container.assert_stored(redirections);
        let lock = fs::read_to_string(container.home.state.join("default.lock")).unwrap();
        assert_eq!(lock, "", "{redirections}");
        container.assert_counts(1, redirections);
    }
}

/// The built-in roots are there: the handshake begins, and ends without an answer.
#[test]
fn without_a_ca_file_https_is_spoken_with_the_roots_that_are_built_in() {
    const CLIENT_HANDSHAKE: u8 = 22; // RFC 8446 section 5.1
    let container = Container::new(EXPIRED);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let mut first = [0];
        listener.accept().unwrap().0.read_exact(&mut first).unwrap();
        first[0]
    });
    let mut https = container.home.document();
    https["token_endpoint"] = format!("https://{address}/token").into();
    container.home.write(&https);
    container.give_away();
    let ran = run(&mut container.command(MOUNTED, &[GRANT, ("ONEGRANT_TIMEOUT", "5")], &["token"]));
    assert_eq!(peer.join().unwrap(), CLIENT_HANDSHAKE);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
    assert!(ran.stderr.starts_with("onegrant: cannot refresh"), "{ran:?}");
}

// ---- the recipes of the pages ----

/// The block of this kind.
fn recipe(kind: &str) -> &'static str {
    let mut blocks = PAGES.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let (_, text) =
        blocks.find(|(found, _)| *found == kind).unwrap_or_else(|| panic!("no {kind} in the pages"));
    text
}

/// A repository with the hooks of the pages, and another one to push to; the program is on the path.
struct Repository<'a> {
    home: &'a Home,
    server: &'a AuthorizationServer,
}

impl<'a> Repository<'a> {
    fn new(home: &'a Home, server: &'a AuthorizationServer) -> Self {
        let repository = Self { home, server };
        for arguments in [&["init", "-q", "--bare", "remote"][..], &["init", "-q", "-b", "main", "here"]] {
            assert_eq!(run(Self::git(home, server, &home.root).args(arguments)).code, 0);
        }
        repository.succeed(&["remote", "add", "origin", "../remote"]);
        let hooks = home.root.join("here/.git/hooks");
        fs::create_dir_all(&hooks).unwrap();
        for hook in ["pre-push", "prepare-commit-msg"] {
            write_program(&hooks.join(hook), recipe(&format!("sh {hook}")));
        }
        repository
    }

    /// Without HOME.
    fn git(home: &Home, server: &AuthorizationServer, directory: &Path) -> Command {
        let mut git = Command::new("git");
        let onegrant = Path::new(env!("CARGO_BIN_EXE_onegrant")).parent().unwrap();
        git.env_clear().current_dir(directory).stdin(Stdio::null());
        git.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", onegrant.display()));
        git.env("ONEGRANT_HOME", &home.state).env("ISSUER", server.issuer());
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "A").env(format!("GIT_{who}_EMAIL"), "a@example.org");
        }
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        git
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(Self::git(self.home, self.server, &self.home.root.join("here")).args(arguments))
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.stdout
    }

    fn pushed(&self) -> String {
        self.succeed(&["ls-remote", "origin"])
    }
}

#[test]
fn a_commit_and_a_push_run_the_hooks_of_the_pages() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let repository = Repository::new(&home, &server);
    repository.succeed(&["commit", "-q", "--allow-empty", "-m", "One"]);
    let message = repository.succeed(&["log", "-1", "--format=%B"]);
    assert_eq!(message.trim_end(), "One\n\nSigned-in-as: Jane Doe");
    repository.succeed(&["push", "-q", "origin", "main"]);
    let pushed = repository.pushed();
    assert!(pushed.ends_with("\trefs/heads/main\n"), "{pushed}");
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (1, 0));

    // A login that has ended is in no commit's way, and in every push's.
    server.end_grant(&home.tokens().refresh_token);
    let mut ended = home.document();
    ended["session"]["expires_at"] = (now() + EXPIRED).into();
    home.write(&ended);
    repository.succeed(&["commit", "-q", "--allow-empty", "-m", "Two"]);
    assert_eq!(repository.succeed(&["log", "-1", "--format=%B"]).trim_end(), "Two");
    let ran = repository.run(&["push", "-q", "origin", "main"]);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("a login is required\nhint: onegrant login\n"), "{ran:?}");
    assert_eq!(repository.pushed(), pushed);
    // The commit's hook was refused, and asked once more before it gave the verdict.
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (3, 0));
}

/// Several hooks at once, as with a push of several repositories.
#[test]
fn pushes_at_once_send_one_refresh() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let repository = Repository::new(&home, &server);
    repository.succeed(&["-c", "core.hooksPath=none", "commit", "-q", "--allow-empty", "-m", "One"]);
    let pushes = (0..10).map(|number| {
        let mut git = Repository::git(&home, &server, &home.root.join("here"));
        git.args(["push", "-q", "origin", &format!("main:{number}")]);
        git
    });
    for ran in crate::support::run_together(pushes.collect()) {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    assert_eq!(repository.pushed().lines().count(), 10);
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (1, 0));
}

/// The step's environment and its lines, with the state mounted where the recipe has it.
#[test]
fn the_job_of_the_pages_runs() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let (step, environment) = recipe("yaml").split_once("  env:\n").unwrap();
    let lines =
        step.strip_prefix("- run: |\n").unwrap().lines().map(|line| line.strip_prefix("    ").unwrap());
    let script: Vec<&str> = lines.collect();
    let place = Path::new(env!("CARGO_BIN_EXE_onegrant")).parent().unwrap();
    let temporary = home.root.join("temporary");
    fs::create_dir(&temporary).unwrap();
    let mounts = "mount -t tmpfs none /var/lib; mkdir -p /var/lib/ci/grant; mount --bind \"$0/state\" /var/lib/ci/grant";
    let set = format!("PATH={}:$PATH", place.display());
    let mut command = Command::new("/bin/sh");
    command.args(["-eu", "-c", &script.join("\n")]).current_dir(&home.root).env_clear();
    command.env("RUNNER_TEMP", &temporary).env("ISSUER", server.issuer());
    for variable in environment.trim_end().lines() {
        let (name, value) = variable.trim().split_once(": ").unwrap();
        command.env(name, value);
    }
    let ran = run(&mut in_namespace(&format!("{mounts}; {set}; exec \"$@\""), &home, &command));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("Jane Doe"), "{ran:?}");
    assert_eq!(fs::metadata(temporary.join("header")).unwrap().mode() & 0o777, 0o600);
    assert_eq!((server.counts().token_requests, server.counts().unexpected), (1, 0));
}

/// The instructions of the Dockerfile, done in an empty root that is read-only then.
#[test]
fn the_image_of_the_pages_runs() {
    let container = Container::new(EXPIRED);
    let root = container.home.root.join("root");
    fs::remove_file(root.join("onegrant")).unwrap();
    let (mut environment, mut user, mut words) = (Vec::new(), None, Vec::new());
    let parsed = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap();
    for line in recipe("dockerfile").lines() {
        match line.split_once(' ').unwrap() {
            ("FROM", base) => assert_eq!(base, "scratch"),
            ("COPY", names) => {
                let (from, to) = names.split_once(' ').unwrap();
                assert_eq!(from, "onegrant");
                copy_program(&root.join(to.trim_start_matches('/')));
            }
            ("ENV", variable) => environment.push(variable.split_once('=').unwrap()),
            ("USER", who) => user = who.split(':').next().map(|user| user.parse::<u32>().unwrap()),
            ("ENTRYPOINT", entry) => words.splice(0..0, parsed(entry)).for_each(drop),
            ("CMD", arguments) => words.extend(parsed(arguments)),
            (unknown, _) => panic!("{unknown}"),
        }
    }
    assert_ne!(user.unwrap(), 0, "not as root");
    assert_eq!(words.remove(0), "/onegrant");
    let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    // As `docker run --user` has it: the owner of what is mounted.
    let mounts = format!("{READ_ONLY}; {MOUNTED}");
    let ran = run(&mut container.command_as(USER, "", &mounts, &environment, &arguments));
    container.assert_refreshed(&ran, "");
    container.assert_counts(1, "");
}

/// The version needs nothing at all.
#[test]
fn help_version_and_completions_need_neither_home_nor_store() {
    for arguments in [&["--version"][..], &["--help"], &["completions", "bash"]] {
        let ran = run(&mut onegrant(arguments));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    }
}
