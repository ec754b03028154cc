//! Logins without a person: client credentials (RFC 6749 section 4.4), client assertions (RFC 7523), token exchange (RFC
//! 8693).

use crate::support::*;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const CROWD: usize = 50;

fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys").join(name)
}

/// The login of the confidential client in its own name.
fn with_credentials(home: &Home, server: &AuthorizationServer, more: &[&str]) -> Command {
    let secret = home.root.join("secret");
    fs::write(&secret, format!("{}\n", server.client_secret())).unwrap();
    let mut command = home.command(&["login", &server.issuer(), "--client-id"]);
    command.args([server.confidential_client_id(), "--client-credentials", "--client-secret-file"]);
    command.arg(&secret).args(more);
    command
}

/// The login with a token that another program gives, of the same client.
fn with_exchange(home: &Home, server: &AuthorizationServer, source: &str, more: &[&str]) -> Command {
    let secret = home.root.join("secret");
    fs::write(&secret, server.client_secret()).unwrap();
    let mut command = home.command(&["login", &server.issuer(), "--client-id"]);
    command.args([server.confidential_client_id(), "--subject-token", source, "--client-secret-file"]);
    command.arg(&secret).args(more);
    command
}

fn expire(home: &Home) {
    let mut document = home.document();
    document["session"]["expires_at"] = json!(now() + EXPIRED);
    document["session"]["obtained_at"] = json!(now() + EXPIRED - LIFETIME);
    home.write(&document);
}

/// Servers repeat what they were sent. A secret of a few letters is a part of many words.
#[test]
fn a_short_secret_does_not_break_up_a_message_and_a_long_one_is_removed() {
    let server = server(|_| {});
    let home = Home::new();
    let file = home.root.join("secret");
    let issuer = server.issuer();
    let words = "a bad client: a-long-secret, sent as a%2Fb+a-long-secret";
    for (secret, shown) in [
        ("a", words.to_owned()),
        ("client", words.replace("client", "[secret]")),
        ("a-long-secret", words.replace("a-long-secret", "[secret]")),
    ] {
        fs::write(&file, secret).unwrap();
        let body = json!({ "error": "invalid_client", "error_description": words }).to_string();
        server.script(Endpoint::Token, [Fault::Status(Response::json(401, body))]);
        let mut command = home.command(&["login", &issuer, "--client-id", "x", "--client-credentials"]);
        let ran = run(command.arg("--client-secret-file").arg(&file).args(["--client-auth", "post"]));
        let message = format!(
            "onegrant: cannot log in: the server refused: invalid_client: {shown}; nothing was stored\n"
        );
        assert!(ran.code == 2 && ran.stderr.starts_with(&message), "{ran:?}");
    }
}

/// RFC 6749 section 2.3.1 lets a secret be empty: Reddit's installed apps.
#[test]
fn a_client_with_an_empty_secret_sends_it_by_basic_authentication_with_every_request() {
    let server = server(|settings| settings.auto_approve = true);
    let home = Home::new();
    let empty = home.root.join("empty");
    fs::write(&empty, "\n").unwrap();
    let issuer = server.issuer();
    let login = ["login", &issuer, "--client-id", "installed-app", "--client-auth", "basic", "--device"];
    for more in [&[][..], &["--client-secret-file", empty.to_str().unwrap()]] {
        assert_eq!(run(home.command(&login).args(more)).code, 0, "{more:?}");
    }
    let document = home.document();
    assert_eq!((&document["client_auth"], &document["client_secret"]), (&json!("basic"), &Value::Null));
    expire(&home);
    let token = home.run(&["token"]).token().to_owned();
    assert!(server.access_token_is_valid(&token));
    assert_eq!(home.run(&["login"]).code, 0, "the next login needs no options");
    assert_eq!(home.run(&["logout"]).code, 0);
    let counts = server.counts();
    assert_eq!((counts.refreshes, counts.device_requests, counts.unexpected), (1, 3, 0));
    assert!(counts.revocations > 0);
    for endpoint in [Endpoint::DeviceAuthorization, Endpoint::Token, Endpoint::Revocation] {
        for request in server.requests_to(endpoint) {
            // base64 of "installed-app:"
            assert_eq!(request.header("authorization"), Some("Basic aW5zdGFsbGVkLWFwcDo="), "{endpoint:?}");
            assert_eq!(request.parameter("client_secret"), None, "{endpoint:?}");
        }
    }
    // Another method needs a secret.
    let post = ["login", &issuer, "--client-id", "installed-app", "--client-auth", "post", "--device"];
    let ran = Home::new().run(&post);
    assert!(ran.code == 2 && ran.stderr.contains("--client-auth post needs a client secret"), "{ran:?}");
    let file = ["--client-secret-file", empty.to_str().unwrap()];
    let ran = run(Home::new().command(&post).args(file));
    assert!(ran.code == 2 && ran.stderr.contains("it is empty"), "{ran:?}");
    // The hint is the login with an empty secret.
    let home = Home::new();
    let without = ["login", &issuer, "--client-id", "installed-app", "--device"];
    let ran = run(home.command(&without).args(file));
    let (_, hint) = ran.stderr.rsplit_once("hint: onegrant ").unwrap();
    let (command, _) = hint.split_once("   #").unwrap();
    assert_eq!(home.run(&command.split_whitespace().collect::<Vec<_>>()).code, 0, "{ran:?}");
}

#[test]
fn a_client_logs_in_in_its_own_name_and_gets_the_next_token_without_a_refresh_token() {
    let server = server(|_| {});
    let home = Home::new();
    let ran =
        run(&mut with_credentials(&home, &server, &["--scope", "read write", "--audience", "api", "--json"]));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&object["event"], &object["has_refresh_token"]), (&json!("logged_in"), &json!(false)));
    let first = home.tokens().access_token;
    assert_eq!(home.run(&["token"]), Ran::printed(&first));

    expire(&home);
    let second = home.run(&["token"]).token().to_owned();
    assert_ne!(second, first);
    assert!(server.access_token_is_valid(&second));
    assert_eq!(home.tokens().access_token, second);
    for request in server.requests_to(Endpoint::Token) {
        assert_eq!(request.parameter("grant_type"), Some("client_credentials"));
        assert_eq!(request.parameter("scope"), Some("read write"), "no grant remembers it");
        assert_eq!(request.parameter("audience"), Some("api"));
        assert_eq!(request.parameter("client_id"), None, "only the header has it");
    }
    let counts = server.counts();
    assert_eq!((counts.token_requests, counts.refreshes, counts.unexpected), (2, 0, 0));
    assert_eq!(home.names(), ["default.json", "default.lock"]);

    // A forced refresh, a refused token and another login need nothing else either.
    assert_ne!(home.run(&["refresh"]).token(), second);
    assert_eq!(home.run(&["login"]).code, 0);
    assert_eq!(server.counts().token_requests, 4);
    let ran = home.run(&["logout"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("revoked at the server"), "{ran:?}");
}

#[test]
fn a_crowd_with_a_grant_of_the_client_sends_one_request_at_every_level_but_compared() {
    for lock in ["auto", "claim"] {
        let server = server(|settings| settings.delay_before = std::time::Duration::from_millis(100));
        let home = Home::new();
        assert_eq!(run(&mut with_credentials(&home, &server, &[])).code, 0);
        expire(&home);
        server.reset_counts();
        let commands = (0..CROWD).map(|_| {
            let mut command = home.command(&["token"]);
            command.env("ONEGRANT_LOCK", lock);
            command
        });
        let ran = run_together(commands.collect());
        assert_all(&ran, &Ran::printed(&home.tokens().access_token));
        assert_eq!((server.counts().token_requests, server.counts().unexpected), (1, 0), "{lock}");
        assert_eq!(home.names(), ["default.json", "default.lock"], "{lock}");
    }
}

#[test]
fn a_failure_of_a_grant_of_the_client_clears_nothing_and_is_reported() {
    let cases = [
        (Fault::error(400, "invalid_grant"), 3, "the server refused: invalid_grant"),
        (Fault::error(401, "invalid_client"), 2, "the server refused: invalid_client"),
        (Fault::error(400, "invalid_scope"), 2, "the server refused: invalid_scope"),
        (Fault::status(503), 4, "the server answered with status 503"),
    ];
    for (fault, code, said) in cases {
        let server = server(|_| {});
        let home = Home::new();
        assert_eq!(run(&mut with_credentials(&home, &server, &[])).code, 0);
        expire(&home);
        let before = home.document();
        server.script(Endpoint::Token, [fault]);
        let ran = home.run(&["token"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains(said) && ran.stderr.contains("\nhint: "), "{ran:?}");
        assert_eq!(home.document(), before);
        assert_eq!(home.run(&["token"]).code, 0, "the next call makes its own attempt");
        assert_eq!(server.counts().unexpected, 0);
    }
}

#[test]
fn a_lost_answer_to_client_credentials_costs_nothing() {
    let server = server(|_| {});
    let home = Home::new();
    assert_eq!(run(&mut with_credentials(&home, &server, &[])).code, 0);
    expire(&home);
    server.script(Endpoint::Token, [Fault::DropAfter]);
    let ran = home.run(&["token"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(!ran.stderr.contains("spent"), "{ran:?}");
    assert_eq!(home.run(&["token"]).code, 0);
}

#[test]
fn a_secret_that_a_variable_holds_is_read_at_every_use_and_never_stored() {
    let server = server(|_| {});
    let home = Home::new();
    let mut command = home.command(&["login", &server.issuer(), "--client-id"]);
    command.args([
        server.confidential_client_id(),
        "--client-credentials",
        "--client-secret-file",
        "env:SECRET",
    ]);
    assert_eq!(run(command.env("SECRET", server.client_secret())).code, 0);
    assert!(!String::from_utf8(home.bytes()).unwrap().contains(server.client_secret()));
    expire(&home);
    let missing =
        "onegrant: cannot prove the client: SECRET holds no client secret\nhint: export SECRET=...\n";
    assert_eq!(home.run(&["token"]), Ran::failed(2, missing));
    let ran = run(home.command(&["token"]).env("SECRET", server.client_secret()));
    assert_eq!(ran, Ran::printed(&home.tokens().access_token));
    let text = home.run(&["status"]).stdout;
    assert!(text.contains("confidential:client (its secret in the variable SECRET)"), "{text}");
    assert!(text.contains("not needed: the client asks in its own name"), "{text}");
}

/// RFC 7523 section 3; the fixture checks signature, claims, and that no assertion comes twice.
#[test]
fn a_client_proves_itself_with_either_kind_of_key_in_either_form() {
    let cases = [
        ("p256.pem", "p256.pem"),
        ("p256_sec1.pem", "p256.pem"),
        ("rsa.pem", "rsa.pem"),
        ("rsa_pkcs1.pem", "rsa.pem"),
    ];
    for (used, registered) in cases {
        let server = server(|settings| settings.client_key = fs::read_to_string(key(registered)).unwrap());
        let home = Home::new();
        let mut command = home.command(&["login", &server.issuer(), "--client-id", server.key_client_id()]);
        command
            .args(["--client-credentials", "--client-key-id", "key 1", "--client-key-file"])
            .arg(key(used));
        let ran = run(&mut command);
        assert_eq!(ran.code, 0, "{used}: {ran:?}");
        expire(&home);
        assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token), "{used}");
        assert_eq!(home.run(&["logout"]).code, 0);
        let counts = server.counts();
        assert_eq!((counts.token_requests, counts.revocations, counts.unexpected), (2, 1, 0), "{used}");
    }
}

#[test]
fn an_unusable_key_is_reported_before_anything_is_sent() {
    let server = server(|_| {});
    let home = Home::new();
    let torn = home.root.join("torn.pem");
    fs::write(&torn, "-----BEGIN PRIVATE KEY-----\nAAAA\n").unwrap();
    let cases = [
        (key("p384.pem"), "the key is neither RSA nor P-256"),
        (key("README.md"), "it holds no private key in PEM"),
        (torn, "it holds no private key in PEM"),
        (home.root.join("nothing.pem"), "No such file or directory"),
    ];
    for (file, why) in cases {
        let mut command = home.command(&["login", &server.issuer(), "--client-id", server.key_client_id()]);
        let ran = run(command.args(["--client-credentials", "--client-key-file"]).arg(&file));
        assert_eq!(ran.code, 2, "{ran:?}");
        let said = format!("the private key in {}: {why}\nhint: openssl genpkey ", file.display());
        assert!(ran.stderr.contains(&said), "{ran:?}");
    }
    assert_eq!(server.counts().token_requests, 0);
}

#[test]
fn the_audience_of_client_assertions_can_be_set() {
    let server = server(|settings| {
        settings.client_key = fs::read_to_string(key("p256.pem")).unwrap();
        settings.assertion_audience = Some("urn:the:server".to_owned());
    });
    let home = Home::new();
    let mut command = home.command(&["login", &server.issuer(), "--client-id", server.key_client_id()]);
    command.args(["--client-credentials", "--client-key-audience", "urn:the:server", "--client-key-file"]);
    assert_eq!(run(command.arg(key("p256.pem"))).code, 0);
    expire(&home);
    assert_eq!(home.run(&["token"]).code, 0, "it is stored");
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_subject_token_is_read_anew_for_every_request() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-1".into(), "subject-2".into()]);
    let home = Home::new();
    let file = home.root.join("subject");
    fs::write(&file, "subject-1\n").unwrap();
    let ran =
        run(&mut with_exchange(&home, &server, &format!("file:{}", file.display()), &["--scope", "read"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    expire(&home);
    fs::write(&file, "subject-2\n").unwrap();
    assert_eq!(home.run(&["token"]), Ran::printed(&home.tokens().access_token));
    let requests = server.requests_to(Endpoint::Token);
    let sent = |name| requests.iter().map(|request| request.parameter(name).unwrap()).collect::<Vec<_>>();
    assert_eq!(sent("subject_token"), ["subject-1", "subject-2"]);
    assert_eq!(sent("grant_type"), ["urn:ietf:params:oauth:grant-type:token-exchange"; 2]);
    assert_eq!(sent("subject_token_type"), ["urn:ietf:params:oauth:token-type:jwt"; 2]);
    assert_eq!(sent("scope"), ["read"; 2]);
    assert_eq!(server.counts().unexpected, 0);
    assert!(!String::from_utf8(home.bytes()).unwrap().contains("subject-"), "it is never stored");

    // One that the server does not take, and none at all: the session stays, and the next one is taken.
    expire(&home);
    fs::write(&file, "stranger").unwrap();
    let ran = home.run(&["token"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("invalid_request: the subject_token is not trusted"), "{ran:?}");
    assert!(!ran.stderr.contains("stranger"), "{ran:?}");
    fs::remove_file(&file).unwrap();
    let ran = home.run(&["token"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.starts_with("onegrant: cannot read the subject token in "), "{ran:?}");
    fs::write(&file, "subject-1").unwrap();
    assert_eq!(home.run(&["token"]).code, 0);
}

#[test]
fn a_subject_token_comes_from_a_command_or_a_variable() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-1".to_owned()]);
    for (source, code, said) in [
        ("command:echo subject-1; echo noise", 0, ""),
        ("env:SUBJECT", 0, ""),
        ("command:echo no luck >&2; exit 7", 2, "ended with exit status: 7: no luck\nhint: echo no luck"),
        ("command:true", 2, "is empty or holds control characters"),
        ("command:sleep 50", 4, "did not end within the deadline"),
        ("env:NOTHING", 2, "NOTHING: it is not set"),
    ] {
        let home = Home::new();
        let mut command = with_exchange(&home, &server, source, &["--timeout", "3"]);
        let ran = run(command.env("SUBJECT", "subject-1").env("PATH", "/usr/bin:/bin"));
        assert_eq!(ran.code, code, "{source}: {ran:?}");
        assert!(ran.stderr.contains(said), "{source}: {ran:?}");
        assert_eq!(home.names().is_empty(), code != 0, "{source}");
        // The process that needs the next token has the same environment, and so has its worker.
        if code == 0 {
            expire(&home);
            let ran = run(home.command(&["token"]).env("SUBJECT", "subject-1").env("PATH", "/usr/bin:/bin"));
            assert_eq!(ran, Ran::printed(&home.tokens().access_token), "{source}");
        }
    }
    assert_eq!(server.counts().unexpected, 0);
}

#[test]
fn a_crowd_that_exchanges_tokens_runs_the_command_once() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-1".to_owned()]);
    let home = Home::new();
    let ran_by = home.root.join("ran");
    let source = format!("command:echo ran >>{}; echo subject-1", ran_by.display());
    assert_eq!(run(&mut with_exchange(&home, &server, &source, &[])).code, 0);
    expire(&home);
    fs::remove_file(&ran_by).unwrap();
    server.reset_counts();
    let ran = run_together((0..CROWD).map(|_| home.command(&["token"])).collect());
    assert_all(&ran, &Ran::printed(&home.tokens().access_token));
    assert_eq!(server.counts().token_requests, 1);
    assert_eq!(fs::read_to_string(&ran_by).unwrap(), "ran\n");
}

/// The endpoint is the job's own: an address and a token in two variables, an answer with a `value`.
#[test]
fn a_job_of_github_actions_exchanges_its_identity() {
    let server = server(|settings| settings.subject_tokens = vec!["job-identity".to_owned()]);
    let identity = crate::support::server(|_| {});
    let given = Response::json(200, json!({ "count": 1, "value": "job-identity" }).to_string());
    identity.always(Endpoint::Userinfo, Fault::Status(given));
    let job = |command: &mut Command| {
        command.env(
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            format!("{}?api-version=2.0", identity.url(Endpoint::Userinfo)),
        );
        command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "job-secret");
    };
    let home = Home::new();
    let mut command = with_exchange(&home, &server, "github:https://as.example", &[]);
    job(&mut command);
    let ran = run(&mut command);
    assert_eq!(ran.code, 0, "{ran:?}");
    expire(&home);
    let mut command = home.command(&["token"]);
    job(&mut command);
    assert_eq!(run(&mut command), Ran::printed(&home.tokens().access_token));
    for request in identity.requests_to(Endpoint::Userinfo) {
        assert_eq!(request.header("authorization"), Some("Bearer job-secret"));
        assert_eq!(request.parameter("audience"), Some("https://as.example"));
        assert_eq!(request.parameter("api-version"), Some("2.0"));
    }
    assert_eq!(identity.requests_to(Endpoint::Userinfo).len(), 2);
    assert_eq!(server.counts().unexpected, 0);

    let outside = run(&mut with_exchange(&Home::new(), &server, "github", &[]));
    assert_eq!(outside.code, 2, "{outside:?}");
    assert!(
        outside.stderr.contains("hint: in the workflow file: permissions: { id-token: write }"),
        "{outside:?}"
    );
}

/// A home with a document that names something to run or to read, and the file that a command would leave.
fn naming(server: &AuthorizationServer, names: Value, left: i64) -> (Home, PathBuf) {
    let home = Home::new();
    let mut document = document(server, &server.issue_grant(), left);
    let ran = home.root.join("ran");
    let command = json!({"command": format!("touch {}; echo subject-1", ran.display())});
    let grant = json!({
        "type": "token_exchange",
        "subject_token": if names.is_null() { command } else { names.clone() },
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    });
    let members = match names.get("client_auth") {
        Some(_) => names,
        None => json!({"grant": grant}),
    };
    for (name, value) in members.as_object().unwrap() {
        document[name] = value.clone();
    }
    document["git_hosts"] = json!(["git.example"]);
    home.write(&document);
    (home, ran)
}

/// How another user may write a document: its owner, where root can give it away, and its mode.
fn untrusted() -> Vec<(Option<u32>, u32)> {
    let modes = [0o620, 0o602, 0o666, 0o664];
    let mut all: Vec<_> = modes.into_iter().map(|mode| (None, mode)).collect();
    if is_root() {
        all.extend([(Some(12_345), 0o600), (Some(12_345), 0o660)]);
    }
    all
}

fn expose(home: &Home, (owner, mode): (Option<u32>, u32)) {
    fs::set_permissions(home.document_path(), fs::Permissions::from_mode(mode)).unwrap();
    chown(home.document_path(), owner, None).unwrap();
}

#[test]
fn no_program_is_run_for_a_document_that_another_user_may_write() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-1".to_owned()]);
    for how in untrusted() {
        for arguments in [
            &["token"][..],
            &["refresh"],
            &["exec", "--", "/bin/true"],
            &["whoami"],
            &["helper", "bazel", "get"],
            &["git-credential", "get"],
            &["status"],
            &["doctor"],
            &["login"],
            &["migrate", "--to", "file:/proc/nowhere"],
        ] {
            let (home, ran_by) = naming(&server, Value::Null, EXPIRED);
            expose(&home, how);
            let input = home.root.join("input");
            let asked = match arguments[0] {
                "helper" => "{\"uri\":\"https://git.example/\"}",
                _ => "protocol=https\nhost=git.example\n\n",
            };
            fs::write(&input, asked).unwrap();
            let before = home.bytes();
            // The variable is for stores without owners of documents.
            let mut command = home.command(arguments);
            let ran = run(command.env("ONEGRANT_TRUST_STORE", "1").stdin(fs::File::open(input).unwrap()));
            assert_eq!(ran.code, 5, "{how:?} {arguments:?}: {ran:?}");
            let said = format!("cannot run or read what {} names: ", home.document_path().display());
            assert!(format!("{}{}", ran.stdout, ran.stderr).contains(&said), "{arguments:?}: {ran:?}");
            assert!(!ran_by.exists(), "{how:?} {arguments:?}");
            assert_eq!(home.bytes(), before, "{how:?} {arguments:?}");
        }
    }
    assert_eq!(server.counts().token_requests, 0);
}

#[test]
fn the_hint_of_a_document_that_is_not_trusted_makes_it_trusted() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-1".to_owned()]);
    for how in untrusted() {
        let (home, ran_by) = naming(&server, Value::Null, EXPIRED);
        expose(&home, how);
        let ran = home.run(&["token"]);
        let hint = ran.stderr.rsplit_once("hint: ").unwrap().1;
        assert_eq!(run(Command::new("/bin/sh").args(["-c", hint])).code, 0, "{hint}");
        // The client of the document is a public one, and the server requires client authentication.
        home.run(&["token"]);
        assert!(ran_by.exists(), "{how:?}: {hint}");
    }
}

/// Variables and files of the caller would go to the token endpoint that the same document names.
#[test]
fn no_file_is_read_for_a_document_that_another_user_may_write() {
    let server = server(|_| {});
    let secret = Home::new().root.join("secret");
    for names in [
        json!({"file": secret}),
        json!({"environment": "SECRET"}),
        json!({"github_actions": {"audience": null}}),
        json!({"client_auth": "private_key_jwt", "client_key": {"file": key("p256.pem")}}),
        json!({"client_auth": "post", "client_secret_env": "SECRET"}),
    ] {
        for how in untrusted() {
            let (home, _) = naming(&server, names.clone(), EXPIRED);
            expose(&home, how);
            let ran = run(home.command(&["token"]).env("SECRET", "secret"));
            assert_eq!(ran.code, 5, "{names} {how:?}: {ran:?}");
            assert!(ran.stderr.contains("cannot run or read what "), "{names} {how:?}: {ran:?}");
        }
    }
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn an_untrusted_document_is_still_read_and_refreshed() {
    let server = server(|_| {});
    for how in untrusted() {
        // A fresh token is handed out, and a document that names nothing is refreshed.
        let (home, ran_by) = naming(&server, Value::Null, LIFETIME);
        expose(&home, how);
        let ran = home.run(&["token"]);
        assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", home.tokens().access_token)), "{how:?}");
        assert!(!ran_by.exists());
        let (home, _) = Home::with_grant(&server, EXPIRED);
        expose(&home, how);
        assert_eq!(home.run(&["token"]).code, 0, "{how:?}");
        // A change would make it the caller's own, and then it would be obeyed.
        let (home, _) = naming(&server, Value::Null, LIFETIME);
        expose(&home, how);
        let erased = format!("protocol=https\nhost=git.example\npassword={}\n\n", home.tokens().access_token);
        let input = home.root.join("input");
        fs::write(&input, erased).unwrap();
        let before = home.bytes();
        run(home.command(&["git-credential", "erase"]).stdin(fs::File::open(input).unwrap()));
        assert_eq!(home.bytes(), before, "{how:?}");
        // A logout deletes it, and a login with all its options replaces it.
        assert_eq!(home.run(&["logout", "--local"]).code, 0, "{how:?}");
        assert!(!home.document_path().exists());
    }
}

#[test]
fn a_login_that_names_its_source_anew_replaces_a_document_that_is_not_trusted() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-2".to_owned()]);
    let (home, ran_by) = naming(&server, Value::Null, EXPIRED);
    expose(&home, (None, 0o602));
    let file = home.root.join("subject");
    fs::write(&file, "subject-2").unwrap();
    let ran = run(&mut with_exchange(&home, &server, &format!("file:{}", file.display()), &[]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran_by.exists());
}

/// The program keeps the other store of a move, and the login would take the earlier grant back from there.
#[test]
fn a_login_runs_no_program_of_a_document_that_another_user_may_write() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-2".to_owned()]);
    let own = (None, 0o600);
    for how in untrusted().into_iter().chain([own]) {
        let home = Home::new();
        let (ran_by, program) = (home.root.join("ran"), home.root.join("program"));
        let script = format!(
            "#!/bin/sh\ntouch {}\necho credentials not found in native keychain\nexit 1\n",
            ran_by.display()
        );
        write_program(&program, &script);
        let mut document = document(&server, &server.issue_grant(), EXPIRED);
        let session = document["session"].take();
        let to = format!("helper:{}", program.display());
        document["moving"] = json!({"id": "0", "to": to, "session": session});
        home.write(&document);
        expose(&home, how);
        let file = home.root.join("subject");
        fs::write(&file, "subject-2").unwrap();
        let ran = run(&mut with_exchange(&home, &server, &format!("file:{}", file.display()), &[]));
        assert_eq!(ran.code, 0, "{how:?}: {ran:?}");
        assert_eq!(ran_by.exists(), how == own, "{how:?}: {ran:?}");
        assert_eq!(ran.stderr.contains("may still be in helper:"), how != own, "{how:?}: {ran:?}");
    }
}

/// A person is there at the login alone. What asks at a terminal would work once, and fail at the first refresh.
#[test]
fn a_subject_token_command_has_no_terminal_at_the_login_and_none_later() {
    let server = server(|settings| settings.subject_tokens = vec!["without".to_owned()]);
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    let line = fs::File::from(open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
    let at_terminal = |command: &Command| {
        let mut command = wrapped("setsid", &["--ctty", "--wait"], command);
        run(command.stdin(line.try_clone().unwrap()))
    };
    let probe = "if (: </dev/tty) 2>/dev/null || [ -t 0 ]; then echo with; else echo without; fi";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", probe]).current_dir("/");
    assert_eq!(at_terminal(&shell).stdout, "with\n", "the test has one");
    let home = Home::new();
    let ran = at_terminal(&with_exchange(&home, &server, &format!("command:{probe}"), &[]));
    assert_eq!(ran.code, 0, "{ran:?}");
    for lock in ["auto", "claim", "off"] {
        expire(&home);
        let ran = at_terminal(home.command(&["token"]).env("ONEGRANT_LOCK", lock));
        assert_eq!(ran.code, 0, "{lock}: {ran:?}");
    }
}

/// The command of a profile may be another onegrant, of another profile: the profile of its caller must not reach it.
#[test]
fn a_command_gets_the_environment_that_onegrant_was_given_and_nothing_else() {
    let server = server(|settings| settings.subject_tokens = vec!["subject-1".to_owned()]);
    let home = Home::new();
    let seen = home.root.join("seen");
    let source = format!("command:/usr/bin/env -0 >{}; echo subject-1", seen.display());
    let arguments = ["--profile", "deploy", "--store", "file:state", "--timeout", "20", "-v"];
    let given = |command: &mut Command| {
        command.env("GIVEN", "a value").env("ONEGRANT_PROFILE", "given").env("PATH", "/usr/bin:/bin");
        run(command)
    };
    let variables = || {
        let text = fs::read_to_string(&seen).unwrap();
        fs::remove_file(&seen).unwrap();
        // What the shell sets itself.
        let ours = text.split_terminator('\0').map(str::to_owned);
        let mut ours: Vec<String> = ours
            .filter(|line| !["_=", "PWD=", "SHLVL=", "OLDPWD="].iter().any(|own| line.starts_with(own)))
            .collect();
        ours.sort();
        ours
    };
    let state = home.state.display();
    let wanted =
        ["GIVEN=a value", &format!("ONEGRANT_HOME={state}"), "ONEGRANT_PROFILE=given", "PATH=/usr/bin:/bin"];
    let ran = given(with_exchange(&home, &server, &source, &[]).args(arguments));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(variables(), wanted, "at the login");
    for command in [&["refresh"][..], &["exec", "--file", "token", "--min-ttl", "9999", "--", "/bin/true"]] {
        let path = home.state.join("deploy.json");
        let mut document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        document["session"]["expires_at"] = json!(now() + EXPIRED);
        fs::write(&path, document.to_string()).unwrap();
        let ran = given(home.command(&arguments).args(command));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(variables(), wanted, "{command:?}");
    }
}
