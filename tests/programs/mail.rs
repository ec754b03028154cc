//! Mail: what git asks for at a mail server, `git-setup --mail`, and the recipes of docs/mail.md. `.ci/mail.sh` installs the
//! mail programs and runs the tests that need them. They are real, and so is the login at a mail server of the tests, which
//! reads the message of the SASL mechanism.

use crate::support::*;
use rustix::process::Signal;
use servers::mail_server::{BOTH, Login, MailServer, Service};
use servers::tls;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;

const PROGRAM: &str = env!("CARGO_BIN_EXE_onegrant");

const PAGE: &str = include_str!("../../docs/mail.md");

/// The person of the page.
const USER: &str = "me@gmail.com";

/// The profile of the page.
const PROFILE: &str = "mail";

const NOTHING: Ran = Ran { code: 0, stdout: String::new(), stderr: String::new() };

/// A block of the page, by what is behind its language.
fn block(name: &str) -> &'static str {
    let blocks = PAGE.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
    let named: BTreeMap<&str, &str> =
        blocks.filter_map(|(info, text)| Some((info.split_once(' ')?.1, text))).collect();
    named.get(name).unwrap_or_else(|| panic!("docs/mail.md has no block {name}"))
}

/// A person's machine with the login of the page, and the servers.
struct Place {
    home: Home,
    authorization_server: Arc<AuthorizationServer>,
    mail: MailServer,
    issued: Issued,
}

impl Place {
    /// With a session that has so many seconds left.
    fn new(left: i64) -> Self {
        Self::at(left, BOTH)
    }

    fn at(left: i64, mechanisms: &'static [&'static str]) -> Self {
        let authorization_server = Arc::new(server(|_| {}));
        let (home, issued) = Home::with_grant(&authorization_server, left);
        fs::rename(home.document_path(), home.state.join(format!("{PROFILE}.json"))).unwrap();
        let mail = MailServer::start(&authorization_server, mechanisms);
        let bin = home.root.join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(PROGRAM, bin.join("onegrant")).unwrap();
        // What git and mail programs would ask a person with.
        let asked = home.root.join("asked");
        write_program(&bin.join("askpass"), &format!("#!/bin/sh\necho \"$@\" >>'{}'\n", asked.display()));
        Self { home, authorization_server, mail, issued }
    }

    /// A program as the person has it.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        command.args(arguments).env_clear().current_dir(&self.home.root);
        command.env("PATH", format!("{}:{path}", self.home.root.join("bin").display()));
        command.env("HOME", &self.home.root).env("ONEGRANT_HOME", &self.home.state).env("LC_ALL", "C");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CEILING_DIRECTORIES", &self.home.root);
        command.env("GIT_ASKPASS", self.home.root.join("bin/askpass")).env("GIT_TERMINAL_PROMPT", "0");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Me").env(format!("GIT_{role}_EMAIL"), USER);
        }
        if let Some(library) = perl_library() {
            command.env("PERL5LIB", library);
        }
        command
    }

    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        run(&mut self.command(program, arguments))
    }

    fn onegrant(&self, arguments: &[&str]) -> Ran {
        self.run("onegrant", &[&["--profile", PROFILE], arguments].concat())
    }

    /// The address of a service, as the person names it.
    fn host(&self, service: Service) -> String {
        format!("127.0.0.1:{}", self.mail.port(service))
    }

    fn document(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.home.state.join(format!("{PROFILE}.json"))).unwrap()).unwrap()
    }

    fn write(&self, document: &serde_json::Value) {
        self.home.write(document);
        fs::rename(self.home.document_path(), self.home.state.join(format!("{PROFILE}.json"))).unwrap();
    }

    fn access_token(&self) -> String {
        self.document()["session"]["access_token"].as_str().unwrap().to_owned()
    }

    /// The profile names these servers.
    fn serve(&self, hosts: &[&str]) {
        let mut document = self.document();
        document["git_hosts"] = serde_json::json!(hosts);
        self.write(&document);
    }

    /// Asks the helper without git.
    fn ask(&self, operation: &str, attributes: &str) -> Ran {
        let input = self.home.root.join(format!("input-{operation}"));
        fs::write(&input, attributes).unwrap();
        let mut command = self.command("onegrant", &["--profile", PROFILE, "git-credential", operation]);
        run(command.stdin(fs::File::open(input).unwrap()))
    }

    /// `git credential OPERATION` for a server of mail.
    fn git_credential(&self, operation: &str, scheme: &str, host: &str, more: &str) -> Ran {
        let input = self.home.root.join("asked-by-git");
        fs::write(&input, format!("protocol={scheme}\nhost={host}\nusername={USER}\n{more}")).unwrap();
        let mut git = self.command("git", &["credential", operation]);
        run(git.stdin(fs::File::open(input).unwrap()))
    }

    /// A recipe of the page in a file, for this server; what the client has to trust is added.
    fn recipe(&self, name: &str, path: &str, more: &str) {
        let (smtps, imaps) = (self.mail.port(Service::Smtps), self.mail.port(Service::Imaps));
        let text = block(name).replace("smtp.gmail.com", "localhost").replace("imap.gmail.com", "localhost");
        let text = text.replace("465", &smtps.to_string()).replace("993", &imaps.to_string());
        let path = self.home.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{more}{text}")).unwrap();
        // Programs refuse a configuration that others may read.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// Mail of the person, on stdin.
    fn message(&self, subject: &str) -> fs::File {
        let path = self.home.root.join(format!("message-{subject}"));
        let text = format!("From: {USER}\nTo: you@mail.example\nSubject: {subject}\n\nThe text.\n");
        fs::write(&path, text).unwrap();
        fs::File::open(path).unwrap()
    }

    /// What holds at the end of every test: so many refreshes, so many logins with the token of now, each in TLS and with the
    /// name of the person, and no question.
    #[track_caller]
    fn end(&self, refreshes: u64, logins: usize) {
        let counts = self.authorization_server.counts();
        assert_eq!((counts.refreshes, counts.replays, counts.unexpected), (refreshes, 0, 0));
        assert!(!self.home.root.join("asked").exists(), "a person was asked for a password");
        assert_eq!(self.mail.malformed(), Vec::<String>::new());
        let token = self.access_token();
        let all = self.mail.logins();
        assert!(all.iter().all(|login| login.was_encrypted && login.user == USER), "{all:?}");
        let let_in: Vec<&Login> = all.iter().filter(|login| login.was_let_in).collect();
        assert_eq!(let_in.len(), logins, "{all:?}");
        assert!(let_in.iter().all(|login| login.token == token), "{all:?}");
    }

    #[track_caller]
    fn subjects(&self) -> Vec<String> {
        let messages = self.mail.messages();
        let subject = |message: &String| {
            let line = message.lines().find_map(|line| line.strip_prefix("Subject: "));
            line.unwrap_or("none").to_owned()
        };
        let mut subjects: Vec<String> = messages.iter().map(subject).collect();
        subjects.sort();
        subjects
    }
}

/// Mechanisms for an Authen::SASL before 2.1800, which lacks them.
fn perl_library() -> Option<String> {
    let has_them = Command::new("perl")
        .args(["-MAuthen::SASL=2.1800", "-e1"])
        .output()
        .is_ok_and(|output| output.status.success());
    (!has_them).then(|| concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mail/perl").to_owned())
}

#[test]
fn git_gets_the_token_as_a_password_and_an_expired_one_costs_one_refresh() {
    for scheme in ["smtp", "smtps", "imap", "imaps", "pop3", "pop3s"] {
        let place = Place::new(EXPIRED);
        place.serve(&[&format!("{scheme}://127.0.0.1:2525")]);
        let helper = format!("credential.{scheme}://127.0.0.1:2525.helper");
        let value = format!("!onegrant --profile {PROFILE} git-credential");
        assert_eq!(place.run("git", &["config", "--global", &helper, &value]), NOTHING);
        let ask = || place.git_credential("fill", scheme, "127.0.0.1:2525", "");
        for _ in 0..3 {
            let ran = ask();
            let wanted = format!("username={USER}\npassword={}\n", place.access_token());
            assert!(ran.code == 0 && ran.stdout.contains(&wanted), "{scheme}: {ran:?}");
            let ends = place.document()["session"]["expires_at"].as_i64().unwrap();
            assert!(ran.stdout.contains(&format!("password_expiry_utc={ends}\n")), "{scheme}: {ran:?}");
        }
        place.end(1, 0);

        // What worked changes nothing. What was refused is refreshed by the next one that asks.
        let used = format!("password={}\n", place.access_token());
        for (operation, refreshes) in [("approve", 1), ("reject", 2)] {
            assert_eq!(place.git_credential(operation, scheme, "127.0.0.1:2525", &used), NOTHING);
            assert!(place.document()["session"]["access_token"].is_string(), "{operation} deletes nothing");
            assert_eq!(ask().code, 0);
            place.end(refreshes, 0);
        }
        assert!(!used.contains(&place.access_token()), "{scheme}");
    }
}

#[test]
fn a_mail_server_that_the_profile_does_not_name_gets_nothing() {
    let place = Place::new(LIFETIME);
    place.serve(&[
        "smtp://smtp.example:587",
        "imaps://imap.example:993",
        "imap://imap.example:143",
        "pop3://pop.example:110",
        "web.example",
    ]);
    for (scheme, host) in [
        ("smtp", "smtp.example:465"),
        ("smtp", "smtp.example.evil:587"),
        ("smtp", "other.example:587"),
        ("smtps", "smtp.example:587"),
        ("smtps", "smtp.example"),
        ("smtp", "web.example"),
        ("imaps", "imap.example:143"),
        // Named, and in clear text.
        ("imap", "imap.example:143"),
        ("pop3", "pop.example:110"),
        ("pop3s", "pop.example:995"),
        ("https", "smtp.example:587"),
        ("https", "imap.example:993"),
        ("http", "smtp.example:587"),
        ("sieve", "smtp.example:587"),
        ("smtp", ""),
    ] {
        let request = format!("protocol={scheme}\nhost={host}\nusername={USER}\n");
        for operation in ["get", "erase", "store"] {
            let request = format!("{request}password={}\n", place.issued.access_token);
            assert_eq!(place.ask(operation, &request), NOTHING, "{operation} {scheme}://{host}");
        }
    }
    assert!(place.document()["session"]["access_token_rejected"].is_null());
    let asked = place.ask("get", "protocol=smtp\nhost=smtp.example:587\nusername=me\ru\n");
    assert_eq!((asked.code, asked.stdout.as_str()), (2, ""), "{asked:?}");
    // Neither docker nor a netrc has a name for a mail server.
    let listed = place.run("onegrant", &["--profile", PROFILE, "helper", "docker", "list"]);
    assert_eq!(listed.stdout, "{\"web.example\":\"oauth2accesstoken\"}\n");
    assert!(place.onegrant(&["token", "--format", "netrc"]).stdout.starts_with("machine web.example login "));
    place.end(0, 0);
}

#[test]
fn a_dead_grant_ends_git_without_a_question() {
    let place = Place::new(EXPIRED);
    place.serve(&["smtp://127.0.0.1:2525"]);
    place.authorization_server.end_grant(&place.issued.refresh_token);
    let helper = format!("!onegrant --profile {PROFILE} git-credential");
    place.run("git", &["config", "--global", "credential.helper", &helper]);
    for _ in 0..2 {
        let ran = place.git_credential("fill", "smtp", "127.0.0.1:2525", "");
        assert_eq!((ran.code, ran.stdout.as_str()), (128, ""), "{ran:?}");
        assert!(ran.stderr.contains("hint: onegrant --profile mail login"), "{}", ran.stderr);
    }
    // The first command asked once more before it gave the verdict.
    assert_eq!(place.authorization_server.counts().refreshes, 2);
    assert!(!place.home.root.join("asked").exists());
}

#[test]
fn a_login_names_mail_servers_and_none_in_clear_text_elsewhere() {
    let place = Place::new(LIFETIME);
    let issuer = place.authorization_server.issuer();
    let login = |host: &str| {
        let client = place.authorization_server.client_id();
        place.onegrant(&["login", &issuer, "--client-id", client, "--git-host", host, "--device"])
    };
    for host in
        ["imap://imap.example", "pop3://pop.example:110", "smtp://smtp.example/x", "mailto://a", "smtp://"]
    {
        let ran = login(host);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{host}: {ran:?}");
        assert!(ran.stderr.contains("--git-host"), "{host}: {ran:?}");
    }
    assert_eq!(place.authorization_server.requests().len(), 0);
    place.authorization_server.adjust(|settings| settings.auto_approve = true);
    let ran = login("smtp://smtp.example:465");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(place.document()["git_hosts"], serde_json::json!(["smtp://smtp.example:465"]));
}

#[test]
fn setup_of_mail_shows_what_it_does_does_it_once_and_leaves_the_rest_alone() {
    let place = Place::new(LIFETIME);
    for (key, value) in [("sendemail.to", "list@mail.example"), ("sendemail.smtpServer", "old.example")] {
        place.run("git", &["config", "--global", key, value]);
    }
    let configured = || fs::read_to_string(place.home.root.join(".gitconfig")).unwrap();
    let before = (configured(), place.document());
    let setup = |more: &[&str]| {
        place.onegrant(
            &[&["git-setup", "--mail", "smtp.office365.com", "--user", "me@x.example"], more].concat(),
        )
    };
    let dry = setup(&["--dry-run", "imaps://outlook.office365.com:993"]);
    assert_eq!((dry.code, dry.stderr.as_str()), (0, ""), "{dry:?}");
    assert_eq!((configured(), place.document()), before, "a dry run changes nothing");
    assert!(!dry.stdout.contains(&place.issued.access_token));

    let ran = setup(&["imaps://outlook.office365.com:993"]);
    assert_eq!(ran, dry, "what is done is what was shown");
    let of = |key: &str| place.run("git", &["config", "--global", "--get-all", key]).stdout;
    for (key, value) in [
        ("sendemail.to", "list@mail.example"),
        ("sendemail.smtpServer", "smtp.office365.com"),
        ("sendemail.smtpServerPort", "587"),
        ("sendemail.smtpEncryption", "tls"),
        ("sendemail.smtpUser", "me@x.example"),
        ("sendemail.smtpAuth", "XOAUTH2"),
    ] {
        assert_eq!(of(key), format!("{value}\n"), "{key}");
    }
    let hosts = ["imaps://outlook.office365.com:993", "smtp://smtp.office365.com:587"];
    assert_eq!(place.document()["git_hosts"], serde_json::json!(hosts));
    for url in hosts {
        let values = of(&format!("credential.{url}.helper"));
        assert!(values.starts_with("\n!'") && values.ends_with(" git-credential\n"), "{values:?}");
    }
    assert_eq!(place.document()["session"], before.1["session"], "the session stays");

    // The commands that were shown do the same where they are pasted.
    let first = configured();
    fs::write(place.home.root.join(".gitconfig"), &before.0).unwrap();
    assert_eq!(place.run("/bin/sh", &["-euc", &dry.stdout]).code, 0);
    assert_eq!(configured(), first);

    let again = setup(&["imaps://outlook.office365.com:993"]);
    assert!(again.stdout.starts_with("# git is set up already\n"), "{again:?}");
    assert_eq!(configured(), first);

    // In one repository.
    let repository = place.home.root.join("repository");
    place.run("git", &["init", "-q", repository.to_str().unwrap()]);
    let arguments =
        ["--profile", PROFILE, "git-setup", "--local", "--mail", "localhost:2525", "--user", USER];
    let ran = run(place.command("onegrant", &arguments).current_dir(&repository));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(configured(), first);
    let local = place.run("git", &["-C", "repository", "config", "--local", "--list"]).stdout;
    for line in
        ["sendemail.smtpserver=localhost", "sendemail.smtpserverport=2525", "sendemail.smtpauth=OAUTHBEARER"]
    {
        assert!(local.lines().any(|found| found == line), "{local}");
    }
    place.end(0, 0);
}

#[test]
fn setup_of_mail_says_what_is_wrong_and_changes_nothing() {
    let place = Place::new(LIFETIME);
    let before = place.document();
    let usage =
        |message: &str| format!("onegrant: {message}\nhint: onegrant --profile mail git-setup --help\n");
    let option = |message: &str| format!("onegrant: option {message}\nhint: onegrant git-setup --help\n");
    let cases: [(&[&str], String); 9] = [
        (&["--mail", "smtp.example"], usage("--mail needs the user name at the mail server: --user USER")),
        (&["--user", "me"], usage("--user is for a mail server: --mail HOST")),
        (&["git.example", "--user", "me"], usage("--user is for a mail server: --mail HOST")),
        (
            &["--mail", "smtp://smtp.example", "--user", "me"],
            usage("smtp://smtp.example is not HOST or HOST:PORT"),
        ),
        (&["--mail", "smtp.example:x", "--user", "me"], usage("smtp.example:x is not HOST or HOST:PORT")),
        (
            &["--mail", "smtp.example", "--user", "me\nsmtpServer = evil"],
            option("--user: empty, or it has a control character"),
        ),
        (&["--mail", "smtp.example", "--user", ""], option("--user: empty, or it has a control character")),
        (
            &["imap://imap.example:143"],
            usage(
                "cannot serve imap://imap.example:143: imap and pop3 are clear text, which is for this machine only; use \
                 imaps or pop3s",
            ),
        ),
        (
            &["imaps://imap.example"],
            usage("imaps://imap.example has no port, and git names the port of a mail server"),
        ),
    ];
    for (arguments, stderr) in cases {
        let ran = place.onegrant(&[&["git-setup"], arguments].concat());
        assert_eq!(ran, Ran::failed(2, stderr), "{arguments:?}");
    }
    for (key, name) in [("sendemail.smtpPass", "smtppass"), ("sendemail.sendmailCmd", "sendmailcmd")] {
        place.run("git", &["config", "--global", key, "s3cret"]);
        let ran = place.onegrant(&["git-setup", "--mail", "smtp.example", "--user", "me"]);
        let wanted = format!(
            "onegrant: cannot set git up for mail: sendemail.{name} is set, and git uses it in place of the token\n\
             hint: git config --global --unset-all sendemail.{name}\n"
        );
        assert_eq!(ran, Ran::failed(2, wanted));
        // The hint works as it stands.
        let hint = ran.stderr.lines().last().unwrap().strip_prefix("hint: ").unwrap().to_owned();
        assert_eq!(place.run("/bin/sh", &["-euc", &hint]), NOTHING);
    }
    // In this repository git would send the token in clear text.
    place.run("git", &["init", "--quiet"]);
    place.run("git", &["config", "--local", "sendemail.smtpEncryption", "none"]);
    let ran = place.onegrant(&["git-setup", "--mail", "smtp.example", "--user", "me"]);
    let wanted = "onegrant: cannot set git up for mail: sendemail.smtpencryption is set, and git uses it in place of what \
                  is set up\nhint: git config --local --unset-all sendemail.smtpencryption\n";
    assert_eq!(ran, Ran::failed(2, wanted));
    let ran =
        place.onegrant(&["git-setup", "--local", "--dry-run", "--mail", "smtp.example", "--user", "me"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert_eq!(place.document(), before);
    assert_eq!(place.run("git", &["config", "--global", "--list"]).stdout, "");
}

/// git, set up by onegrant for a service, and a patch to send.
fn with_git(place: &Place, service: Service) -> impl Fn(&str, &[&str]) -> Command {
    let host = place.host(service);
    let ran = place.onegrant(&["git-setup", "--mail", &host, "--user", USER]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let authority = tls::file("ca.pem");
    let encryption = if service == Service::Smtps { "ssl" } else { "tls" };
    for (key, value) in [
        ("sendemail.smtpSSLCertPath", authority.to_str().unwrap()),
        ("sendemail.smtpEncryption", encryption),
        ("sendemail.confirm", "never"),
        ("sendemail.to", "you@mail.example"),
    ] {
        place.run("git", &["config", "--global", key, value]);
    }
    move |subject, options| {
        let patch = place.home.root.join(format!("patch-{subject}"));
        let text = format!("From: {USER}\nSubject: {subject}\n\nThe text.\n.\nAfter a dot.\n");
        fs::write(&patch, text).unwrap();
        place.command("git", &[options, &["send-email", "--quiet", patch.to_str().unwrap()]].concat())
    }
}

#[test]
#[ignore = "needs git send-email and its Perl modules: .ci/mail.sh"]
fn git_send_email_logs_in_with_the_token_by_both_mechanisms_and_both_kinds_of_tls() {
    for service in [Service::Smtp, Service::Smtps] {
        let place = Place::new(EXPIRED);
        let send = with_git(&place, service);
        let ran = run(&mut send("first", &[]));
        assert_eq!(ran.code, 0, "{service:?}: {ran:?}");
        let ran = run(&mut send("second", &["-c", "sendemail.smtpAuth=XOAUTH2"]));
        assert_eq!(ran.code, 0, "{service:?}: {ran:?}");
        assert_eq!(place.subjects(), ["first", "second"]);
        let used: Vec<(Service, String)> =
            place.mail.logins().into_iter().map(|login| (login.service, login.mechanism)).collect();
        assert_eq!(used, BOTH.iter().map(|name| (service, (*name).to_owned())).collect::<Vec<_>>());
        place.end(1, 2);
    }
}

#[test]
#[ignore = "needs git send-email and its Perl modules: .ci/mail.sh"]
fn a_crowd_of_git_send_email_on_an_expired_session_makes_one_refresh() {
    let place = Place::new(EXPIRED);
    let send = with_git(&place, Service::Smtp);
    let ran = run_together((0..10).map(|number| send(&number.to_string(), &[])).collect());
    assert!(ran.iter().all(|ran| ran.code == 0), "{ran:?}");
    assert_eq!(place.subjects(), (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
    place.end(1, 10);
}

#[test]
#[ignore = "needs git send-email and its Perl modules: .ci/mail.sh"]
fn a_token_that_the_mail_server_refuses_costs_git_one_mail_and_one_refresh() {
    for mechanism in BOTH {
        let place = Place::new(LIFETIME);
        let send = with_git(&place, Service::Smtp);
        place.authorization_server.revoke_access_token(&place.issued.access_token);
        let with = format!("sendemail.smtpAuth={mechanism}");
        let ran = run(&mut send("refused", &["-c", &with]));
        assert!(ran.code != 0, "{mechanism}: {ran:?}");
        assert_eq!(place.document()["session"]["access_token_rejected"], true, "{mechanism}: marked");
        assert_eq!(place.authorization_server.counts().refreshes, 0);
        for subject in ["later", "at last"] {
            let ran = run(&mut send(subject, &["-c", &with]));
            assert_eq!(ran.code, 0, "{mechanism}: {ran:?}");
        }
        assert_eq!(place.subjects(), ["at last", "later"]);
        let let_in: Vec<bool> = place.mail.logins().iter().map(|login| login.was_let_in).collect();
        assert_eq!(let_in, [false, true, true], "{mechanism}");
        place.end(1, 2);
    }
}

#[test]
#[ignore = "needs git send-email and its Perl modules: .ci/mail.sh"]
fn git_send_email_stops_without_a_question_if_a_login_is_required() {
    let place = Place::new(EXPIRED);
    let send = with_git(&place, Service::Smtp);
    place.authorization_server.end_grant(&place.issued.refresh_token);
    let ran = run(&mut send("never", &[]));
    // The exit code is not looked at: git 2.47 ends with 0.
    assert!(ran.stderr.contains("hint: onegrant --profile mail login"), "{ran:?}");
    assert_eq!((place.mail.messages().len(), place.mail.logins().len()), (0, 0));
    assert!(!place.home.root.join("asked").exists());
}

#[test]
#[ignore = "needs git send-email and its Perl modules: .ci/mail.sh"]
fn git_send_email_gives_no_token_to_a_server_that_it_cannot_verify() {
    for service in [Service::Smtp, Service::Smtps] {
        let place = Place::new(LIFETIME);
        let send = with_git(&place, service);
        // The authority of the tests is known to no machine.
        place.run("git", &["config", "--global", "--unset", "sendemail.smtpSSLCertPath"]);
        let ran = run(&mut send("never", &[]));
        assert!(ran.code != 0, "{service:?}: {ran:?}");
        assert_eq!((place.mail.messages().len(), place.mail.logins().len()), (0, 0), "{service:?}");
        assert!(!place.home.root.join("asked").exists());
    }
}

#[test]
#[ignore = "needs msmtp: .ci/mail.sh"]
fn msmtp_sends_with_the_recipe_of_the_page() {
    let place = Place::new(EXPIRED);
    let trust = format!("defaults\ntls_trust_file {}\n", tls::file("ca.pem").display());
    place.recipe("msmtprc", ".msmtprc", &trust);
    // Those that run together have no stdin of their own.
    let send = |subject: &str, options: &str| {
        place.message(subject);
        let line = format!("exec msmtp {options} you@mail.example <'message-{subject}'");
        place.command("/bin/sh", &["-c", &line])
    };
    let ran = run_together((0..10).map(|number| send(&number.to_string(), "")).collect());
    assert!(ran.iter().all(|ran| ran.code == 0), "{ran:?}");
    // As the page says it for Microsoft.
    let port = place.mail.port(Service::Smtp);
    let ran = run(&mut send("other", &format!("--auth=xoauth2 --port={port} --tls-starttls=on")));
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut wanted: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    wanted.push("other".to_owned());
    assert_eq!(place.subjects(), wanted);
    let last = place.mail.logins().pop().unwrap();
    assert_eq!((last.service, last.mechanism.as_str()), (Service::Smtp, "XOAUTH2"));
    assert_eq!(place.mail.logins()[0].mechanism, "OAUTHBEARER");
    place.end(1, 11);
}

#[test]
#[ignore = "needs git send-email and msmtp: .ci/mail.sh"]
fn git_sends_with_msmtp_where_the_perl_module_is_too_old() {
    let place = Place::new(EXPIRED);
    let trust = format!("defaults\ntls_trust_file {}\n", tls::file("ca.pem").display());
    place.recipe("msmtprc", ".msmtprc", &trust);
    let line = PAGE.lines().find(|line| line.contains("sendemail.sendmailCmd")).unwrap();
    assert_eq!(place.run("/bin/sh", &["-euc", line]), NOTHING);
    let patch = place.home.root.join("patch");
    fs::write(&patch, format!("From: {USER}\nSubject: patch\n\nThe text.\n")).unwrap();
    let arguments = ["send-email", "--quiet", "--confirm=never", "--to=you@mail.example"];
    let ran = place.run("git", &[&arguments[..], &[patch.to_str().unwrap()]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(place.subjects(), ["patch"]);
    place.end(1, 1);
}

#[test]
#[ignore = "needs mbsync and a plug-in of Cyrus SASL: .ci/mail.sh"]
fn mbsync_reads_with_the_recipe_of_the_page() {
    let place = Place::new(EXPIRED);
    place.recipe("mbsyncrc", ".mbsyncrc", "");
    let recipe = place.home.root.join(".mbsyncrc");
    let trust = format!("CertificateFile {}\nUser ", tls::file("ca.pem").display());
    let text = fs::read_to_string(&recipe).unwrap().replace("User ", &trust);
    fs::write(&recipe, text).unwrap();
    fs::create_dir(place.home.root.join("Mail")).unwrap();
    let ran = place.run("mbsync", &["mail"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let new = place.home.root.join("Mail/Inbox/new");
    let got = fs::read_dir(new).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read_to_string(got).unwrap().contains("The message of the tests."));
    assert_eq!(place.mail.logins()[0].mechanism, "XOAUTH2");
    place.end(1, 1);
}

#[test]
#[ignore = "needs mutt and neomutt: .ci/mail.sh"]
fn mutt_and_neomutt_send_and_read_with_the_recipe_of_the_page() {
    for program in ["mutt", "neomutt"] {
        let place = Place::new(EXPIRED);
        let trust = format!(
            "set ssl_ca_certificates_file = \"{}\"\nset record = \"\"\nset ssl_usesystemcerts = no\n",
            tls::file("ca.pem").display()
        );
        place.recipe("muttrc", "muttrc", &trust);
        let arguments = ["-n", "-F", "muttrc", "-s", "sent", "--", "you@mail.example"];
        let ran = run(place.command(program, &arguments).stdin(place.message("body")));
        assert_eq!(ran.code, 0, "{program}: {ran:?}");
        assert_eq!(place.subjects(), ["sent"], "{program}");
        // A terminal, a person who quits at once, and an INBOX.
        let line = format!("{program} -n -F muttrc -e 'push <quit>'");
        let ran = run(place.command("script", &["-qec", &line, "/dev/null"]).env("TERM", "xterm"));
        assert_eq!(ran.code, 0, "{program}: {ran:?}");
        let used: Vec<(Service, String)> =
            place.mail.logins().into_iter().map(|login| (login.service, login.mechanism)).collect();
        let wanted = [Service::Smtps, Service::Imaps].map(|service| (service, "OAUTHBEARER".to_owned()));
        assert_eq!(used, wanted, "{program}");
        place.end(1, 2);
    }
}

#[test]
#[ignore = "needs aerc: .ci/mail.sh"]
fn aerc_reads_with_the_recipe_of_the_page() {
    let place = Place::new(EXPIRED);
    place.recipe("accounts.conf", ".config/aerc/accounts.conf", "");
    let mut terminal = place.command("script", &["-qec", "exec aerc", "/dev/null"]);
    terminal.env("TERM", "xterm").env("SSL_CERT_FILE", tls::file("ca.pem"));
    terminal.env("XDG_RUNTIME_DIR", &place.home.root).stdin(Stdio::null()).stdout(Stdio::null());
    let aerc = Process::start_to_its_stdout(&mut terminal);
    wait_for("a login of aerc", || place.mail.logins().iter().any(|login| login.was_let_in));
    aerc.signal(Signal::TERM);
    aerc.finish();
    let logins = place.mail.logins();
    assert!(logins.iter().all(|login| login.service == Service::Imaps), "{logins:?}");
    assert_eq!(logins[0].mechanism, "OAUTHBEARER");
    place.end(1, logins.len());
}

#[test]
#[ignore = "needs a curl with IMAP: .ci/mail.sh"]
fn curl_reads_with_the_recipe_of_the_page() {
    let place = Place::new(EXPIRED);
    place.recipe("curl", "recipe", "");
    let mut shell = place.command("bash", &["-eu", "-o", "pipefail", "recipe"]);
    let ran = run(shell.env("CURL_CA_BUNDLE", tls::file("ca.pem")));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("1 EXISTS"), "{ran:?}");
    assert_eq!(place.mail.logins()[0].mechanism, "OAUTHBEARER");
    place.end(1, 1);
}

/// imapsync is a stand-in here. It shows the file that it was told to read, after the first refresh.
#[test]
fn imapsync_finds_a_token_in_the_file_of_the_recipe() {
    let place = Place::new(EXPIRED);
    let script = "#!/bin/sh\nwhile [ \"$1\" != --oauthaccesstoken1 ]; do shift || exit; done\ncat \"$2\"\n";
    write_program(&place.home.root.join("bin/imapsync"), script);
    let ran = place.run("/bin/sh", &["-euc", block("imapsync")]);
    assert_eq!((ran.code, ran.stdout.trim_end()), (0, place.access_token().as_str()), "{ran:?}");
    place.end(1, 0);
}

/// What the recipes make programs run, and what the programs read.
#[test]
fn the_command_of_the_recipes_prints_a_token() {
    let place = Place::new(EXPIRED);
    let command = "onegrant --profile mail token";
    let recipes = [("msmtprc", 1), ("mbsyncrc", 1), ("muttrc", 2), ("accounts.conf", 2), ("curl", 1)];
    for (name, times) in recipes {
        assert_eq!(block(name).matches(command).count(), times, "{name}");
    }
    let ran = place.run("/bin/sh", &["-c", command]);
    assert_eq!(ran, Ran::printed(&place.access_token()));
    place.end(1, 0);
}
