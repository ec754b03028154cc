//! `onegrant helper`: other programs ask in their own protocols, and are answered in them.

use crate::support::*;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The servers that the profile names, beside none of this machine's.
const HOSTS: [&str; 2] = ["registry.example", "other.example:8443"];

struct HelperTest {
    server: AuthorizationServer,
    home: Home,
    token: String,
}

impl HelperTest {
    fn new(left: i64) -> Self {
        let server = server(|_| {});
        let (home, issued) = Home::with_grant_for(&server, left, &HOSTS);
        Self { server, home, token: issued.access_token }
    }

    /// Without a grant.
    fn empty() -> Self {
        Self { server: server(|_| {}), home: Home::new(), token: String::new() }
    }

    /// The program by another name, with this on stdin.
    fn by_name(&self, name: &str, arguments: &[&str], stdin: &str) -> Ran {
        let link = self.home.root.join(name);
        if !link.exists() {
            symlink(env!("CARGO_BIN_EXE_onegrant"), &link).unwrap();
        }
        let mut command = Command::new(link);
        command.args(arguments).env_clear().env("ONEGRANT_HOME", &self.home.state);
        self.ask(&mut command, stdin)
    }

    fn helper(&self, arguments: &[&str], stdin: &str) -> Ran {
        self.ask(self.home.command(&["helper"]).args(arguments), stdin)
    }

    fn ask(&self, command: &mut Command, stdin: &str) -> Ran {
        let asked = self.home.root.join("asked");
        fs::write(&asked, stdin).unwrap();
        run(command.stdin(File::open(asked).unwrap()))
    }

    fn expires_at(&self) -> i64 {
        self.home.document()["session"]["expires_at"].as_i64().unwrap()
    }
}

fn answered(text: &str) -> Ran {
    Ran { code: 0, stdout: text.to_owned(), stderr: String::new() }
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

const NOT_SERVED: &str = "onegrant: no token for this server: the profile does not name it\n\
                          hint: onegrant login --git-host HOST\n";
const NO_GRANT: &str = "onegrant: profile default has no grant\nhint: onegrant login https://ADDRESS\n";

// ---- Bazel ----

#[test]
fn bazel_gets_headers_for_a_server_that_the_profile_names() {
    let test = HelperTest::new(LIFETIME);
    let get = |uri: &str| {
        test.by_name("bazel-credential-onegrant", &["get"], &json!({ "uri": uri, "more": 1 }).to_string())
    };
    let ran = get("https://registry.example/v2/x?y");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let text = object(&ran.stdout);
    assert_eq!(text["headers"], json!({ "Authorization": [format!("Bearer {}", test.token)] }));
    assert!(text["expires"].as_str().unwrap().ends_with('Z'), "{text}");
    for uri in [
        "https://registry.example:8443/",
        "http://registry.example/",
        "https://evil.example/registry.example",
    ] {
        assert_eq!(get(uri), Ran::failed(2, NOT_SERVED), "{uri}");
    }
    assert_eq!(test.helper(&["bazel", "get"], "uri").code, 2);
    assert_eq!(test.helper(&["bazel", "set"], "{}").code, 2);
    assert_eq!(
        HelperTest::empty().helper(&["bazel", "get"], r#"{"uri":"https://a/"}"#),
        Ran::failed(3, NO_GRANT)
    );
}

// ---- cargo ----

fn cargo_request(kind: &str, index: &str, arguments: &[&str]) -> String {
    let registry = json!({ "index-url": index, "name": "mine", "headers": ["WWW-Authenticate: Cargo"] });
    json!({ "v": 1, "kind": kind, "operation": "read", "registry": registry, "args": arguments }).to_string()
        + "\n"
}

#[test]
fn cargo_gets_a_token_for_each_request_of_a_session() {
    let test = HelperTest::new(LIFETIME);
    let requests = [
        cargo_request("get", "sparse+https://registry.example/index/", &[]),
        cargo_request("get", "https://other.example:8443/index", &[]),
        cargo_request("get", "sparse+https://elsewhere.example/index/", &[]),
        cargo_request("login", "sparse+https://registry.example/index/", &[]),
        cargo_request("get", "sparse+https://registry.example/index/", &["--profile", "absent"]),
        cargo_request("get", "sparse+https://registry.example/index/", &["--profile", "../x"]),
    ];
    let ran = test.by_name("cargo-credential-onegrant", &["--cargo-plugin"], &requests.concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<Value> = ran.stdout.lines().map(object).collect();
    let granted = json!({ "Ok": {
        "kind": "get", "token": format!("Bearer {}", test.token), "cache": "expires",
        "expiration": test.expires_at(), "operation_independent": true,
    } });
    let refused = |kind: &str| json!({ "Err": { "kind": kind } });
    let wanted = [
        json!({ "v": [1] }),
        granted.clone(),
        granted,
        refused("url-not-supported"),
        refused("operation-not-supported"),
        refused("url-not-supported"),
    ];
    assert_eq!(lines[..6], wanted);
    assert_eq!(lines[6]["Err"]["kind"], "other", "{}", lines[6]);
    assert_eq!(test.helper(&["cargo", "--cargo-plugin"], "{}\n").code, 2);
}

/// What cargo shows includes the hint.
#[test]
fn cargo_learns_that_a_login_is_required() {
    let test = HelperTest::new(EXPIRED);
    test.server.end_grant(&test.home.tokens().refresh_token);
    let request = cargo_request("get", "sparse+https://registry.example/index/", &[]);
    let ran = test.helper(&["cargo", "--cargo-plugin"], &request);
    let text = object(ran.stdout.lines().nth(1).unwrap());
    assert_eq!(text["Err"]["kind"], "other");
    assert_eq!(text["Err"]["caused-by"], json!(["hint: onegrant login"]));
}

// ---- docker ----

#[test]
fn docker_gets_a_password_or_the_exact_message_that_it_recognizes() {
    let test = HelperTest::new(LIFETIME);
    let docker = |word: &str, stdin: &str| test.by_name("docker-credential-onegrant", &[word], stdin);
    for url in
        ["registry.example", "https://registry.example/v1/", "other.example:8443", "registry.example/team"]
    {
        let ran = docker("get", url);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{url}");
        let wanted = json!({ "ServerURL": url, "Username": "oauth2accesstoken", "Secret": test.token });
        assert_eq!(object(&ran.stdout), wanted);
    }
    let refused = |text: &str| Ran { code: 1, ..answered(&format!("{text}\n")) };
    for url in [
        "https://index.docker.io/v1/",
        "registry.example.evil",
        "registry.example:444",
        "http://registry.example",
    ] {
        assert_eq!(docker("get", url), refused("credentials not found in native keychain"), "{url}");
    }
    assert_eq!(docker("get", "\n"), refused("no credentials server URL"));
    assert_eq!(docker("frobnicate", ""), refused("unknown credential action"));
    assert_eq!(docker("store", r#"{"ServerURL":"a","Username":"b","Secret":"c"}"#).code, 1);
    assert_eq!(docker("erase", "registry.example"), answered(""));
    let wanted =
        json!({ "registry.example": "oauth2accesstoken", "other.example:8443": "oauth2accesstoken" });
    assert_eq!(object(&docker("list", "").stdout), wanted);
    assert_eq!(
        docker("version", "").stdout,
        format!("docker-credential-onegrant {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(test.server.counts(), Default::default());
    let ran = HelperTest::empty().helper(&["docker", "get"], "registry.example");
    assert_eq!(ran, refused("credentials not found in native keychain"));
}

#[test]
fn docker_gets_the_reason_if_there_is_no_token() {
    let test = HelperTest::new(EXPIRED);
    test.server.end_grant(&test.home.tokens().refresh_token);
    let ran = test.helper(&["docker", "get"], "registry.example");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.starts_with("cannot refresh: "), "{ran:?}");
    assert_eq!(ran.stderr, format!("onegrant: {}hint: onegrant login\n", ran.stdout));
}

// ---- gcloud ----

#[test]
fn gcloud_gets_the_id_token_or_a_refusal_that_it_reads() {
    let test = HelperTest::new(LIFETIME);
    let ran = test.helper(&["gcloud"], "");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let wanted = json!({ "version": 1, "success": false, "code": "3",
        "message": "onegrant: the grant has no ID token; onegrant login --scope openid" });
    assert_eq!(object(&ran.stdout), wanted);

    let mut document = test.home.document();
    let end = now() + 600;
    document["session"]["id_token"] = json!(jwt(&json!({ "exp": end })));
    test.home.write(&document);
    let wanted = json!({ "version": 1, "success": true, "id_token": jwt(&json!({ "exp": end })), "expiration_time": end,
        "token_type": "urn:ietf:params:oauth:token-type:id_token" });
    assert_eq!(object(&test.helper(&["gcloud"], "").stdout), wanted);
    let mut command = test.home.command(&["helper", "gcloud"]);
    command.env("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", "urn:ietf:params:oauth:token-type:jwt");
    assert_eq!(object(&run(&mut command).stdout)["id_token"], json!(test.token));
    assert_eq!(test.server.counts(), Default::default());

    let empty = object(&HelperTest::empty().helper(&["gcloud"], "").stdout);
    assert_eq!((&empty["success"], &empty["code"]), (&json!(false), &json!("3")));
}

/// OpenID Connect Core section 12.2: a refresh need not bring an ID token.
#[test]
fn gcloud_never_gets_an_id_token_that_has_expired() {
    let test = HelperTest::new(LIFETIME);
    let (server, home) = (&test.server, &test.home);
    let id_token = |exp: i64| {
        jwt(&json!({ "iss": server.issuer(), "sub": "me", "aud": server.client_id(), "exp": exp }))
    };
    let (old, new) = (id_token(now() - 5), id_token(now() + 600));
    let mut document = home.document();
    document["session"]["id_token"] = json!(old);
    document["session"]["obtained_at"] = json!(now() - 1000);

    // The refresh brings one: one request for all calls.
    home.write(&document);
    server.script(Endpoint::Token, [token_answer(&json!({ "id_token": new }))]);
    for _ in 0..3 {
        assert_eq!(object(&test.helper(&["gcloud"], "").stdout)["id_token"], json!(new));
    }
    assert_eq!(server.counts().token_requests, 1);

    // The refresh brings none, or one that has expired, too: one request for all calls, and the reason.
    let refused = json!({ "version": 1, "success": false, "code": "3",
        "message": "onegrant: the ID token has expired, and the server gives no other one when the grant is refreshed; \
                    onegrant login" });
    for brought in [json!({}), json!({ "id_token": id_token(now() - 4) })] {
        for expires_at in [now() + LIFETIME, now() + EXPIRED] {
            server.reset_counts();
            document["session"]["expires_at"] = json!(expires_at);
            home.write(&document);
            server.script(Endpoint::Token, [token_answer(&brought)]);
            for _ in 0..3 {
                assert_eq!(object(&test.helper(&["gcloud"], "").stdout), refused, "{brought}");
            }
            assert_eq!(server.counts().token_requests, 1, "{brought}");
        }
    }

    // No refresh is possible at the moment.
    document["session"]["expires_at"] = json!(now() + LIFETIME);
    home.write(&document);
    server.script(Endpoint::Token, [Fault::status(503)]);
    let text = object(&test.helper(&["gcloud"], "").stdout);
    assert_eq!((&text["success"], &text["code"]), (&json!(false), &json!("4")));
    assert!(text["message"].as_str().unwrap().contains("status 503"), "{text}");
}

// ---- Go ----

#[test]
fn go_gets_a_header_for_every_server_before_its_first_request() {
    let test = HelperTest::new(LIFETIME);
    let header = |token: &str| format!("\nAuthorization: Bearer {token}\n\n");
    let all = format!(
        "https://registry.example/\nhttps://registry.example:443/\nhttps://other.example:8443/\n{}",
        header(&test.token)
    );
    assert_eq!(test.helper(&["go"], ""), answered(&all));
    assert_eq!(HelperTest::empty().helper(&["go"], ""), Ran::failed(3, NO_GRANT));
}

/// The caller of the helper is this test, which began before the token was obtained; or long after, as Go does.
#[test]
fn a_401_to_go_is_a_rejected_token_once_for_each_go_command() {
    let refused = "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Bearer\r\n\r\n";
    let url = "https://registry.example/mod/@v/list";
    // Obtained an hour ago: Go was given it.
    let test = HelperTest::new(LIFETIME);
    let mut document = test.home.document();
    document["session"]["obtained_at"] = json!(now() - 3600);
    test.home.write(&document);
    assert_eq!(test.helper(&["go", "https://evil.example/"], refused), answered(""));
    for head in ["HTTP/1.1 404 Not Found\r\n\r\n", "", "SSH/1 401"] {
        assert!(test.helper(&["go", url], head).stdout.contains(&test.token), "{head}");
    }
    assert_eq!(test.server.counts().refreshes, 0);
    let first = test.helper(&["go", url], refused);
    let token = test.home.tokens().access_token;
    assert_ne!(token, test.token);
    assert_eq!(first, answered(&format!("https://registry.example/\n\nAuthorization: Bearer {token}\n\n")));
    // Newer than the command: another's refresh, or its own.
    for _ in 0..3 {
        assert_eq!(test.helper(&["go", url], refused), first);
    }
    assert_eq!((test.server.counts().refreshes, test.server.counts().unexpected), (1, 0));
}

// ---- pnpm, Terraform ----

#[test]
fn pnpm_gets_the_value_of_a_header_without_an_argument() {
    let test = HelperTest::new(LIFETIME);
    let wanted = answered(&format!("Bearer {}\n", test.token));
    assert_eq!(test.by_name("pnpm-onegrant", &[], ""), wanted);
}

#[test]
fn terraform_gets_a_token_or_none_and_stores_nothing() {
    let test = HelperTest::new(LIFETIME);
    let terraform =
        |words: &[&str], stdin: &str| test.by_name("terraform-credentials-onegrant", words, stdin);
    for words in [&["get", "registry.example"][..], &["--profile", "default", "get", "other.example:8443"]] {
        assert_eq!(object(&terraform(words, "").stdout), json!({ "token": test.token }), "{words:?}");
    }
    for host in ["app.terraform.io", "registry.example:8443", "registry.example.evil", "", "a b"] {
        assert_eq!(terraform(&["get", host], ""), answered("{}\n"), "{host}");
    }
    let stored = terraform(&["store", "registry.example"], r#"{"token":"s3cret"}"#);
    let said = "onegrant: cannot store the token of terraform login\nhint: onegrant login --git-host HOST\n";
    assert_eq!(stored, Ran::failed(2, said));
    assert_eq!(terraform(&["forget", "registry.example"], "").code, 2);
    assert_eq!(terraform(&["frobnicate", "x"], "").code, 2);
    assert_eq!(HelperTest::empty().helper(&["terraform", "get", "registry.example"], ""), answered("{}\n"));
}

// ---- all of them ----

/// See `fixtures/transcripts/README.md`.
#[test]
fn recorded_transcripts_are_answered_as_they_were() {
    let test = HelperTest::new(LIFETIME);
    let mut document = test.home.document();
    document["session"]["expires_at"] = json!(4_107_542_400_i64);
    test.home.write(&document);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/transcripts");
    let mut played = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap().replace("TOKEN", &test.token);
        for call in text.split("\n\n") {
            let lines = |mark: &str| {
                let of = |line: &str| Some(line.strip_prefix(mark)?.strip_prefix(' ')?.to_owned() + "\n");
                call.lines().filter_map(of).collect::<String>()
            };
            let command = lines("$");
            let words: Vec<&str> = command.split_whitespace().collect();
            let wanted =
                Ran { code: lines("=").trim().parse().unwrap(), stdout: lines(">"), stderr: lines("!") };
            assert_eq!(test.by_name(words[0], &words[1..], &lines("<")), wanted, "{command}");
            played += 1;
        }
    }
    assert!(played >= 15, "{played}");
    assert_eq!(test.server.counts(), Default::default());
}

/// What a caller says is bounded, and where it stops early nothing hangs.
#[test]
fn a_request_is_read_up_to_a_limit() {
    let test = HelperTest::new(LIFETIME);
    let long = "x".repeat(70_000);
    for protocol in [&["bazel", "get"][..], &["docker", "get"], &["go", "https://registry.example/"]] {
        let said = "onegrant: cannot read what is asked on stdin: longer than 65536 bytes\nhint: onegrant helper --help\n";
        assert_eq!(test.helper(protocol, &long), Ran::failed(2, said), "{protocol:?}");
    }
    assert_eq!(test.helper(&["cargo", "--cargo-plugin"], &long).code, 2);
}

#[test]
fn fifty_callers_of_every_kind_share_one_refresh() {
    let test = HelperTest::new(EXPIRED);
    let request = cargo_request("get", "sparse+https://registry.example/index/", &[]);
    let bazel = json!({ "uri": "https://registry.example/" }).to_string();
    let kinds: [(&[&str], &str); 6] = [
        (&["helper", "bazel", "get"], &bazel),
        (&["helper", "cargo", "--cargo-plugin"], &request),
        (&["helper", "docker", "get"], "registry.example"),
        (&["helper", "go"], ""),
        (&["helper", "terraform", "get", "registry.example"], ""),
        (&["token", "--format", "curl"], ""),
    ];
    // One file for stdin: each kind gets a crowd of its own kind, and all of them begin with an expired session.
    for (arguments, stdin) in kinds {
        let issued = test.server.issue_grant();
        let mut expired = document(&test.server, &issued, EXPIRED);
        expired["git_hosts"] = json!(HOSTS);
        test.home.write(&expired);
        test.server.reset_counts();
        let path = test.home.root.join("asked");
        fs::write(&path, stdin).unwrap();
        let commands = (0..50).map(|_| test.home.command(arguments)).collect();
        let ran = start_together(commands, &path).finish();
        let token = test.home.tokens().access_token;
        assert!(ran[0].stdout.contains(&token), "{arguments:?}: {:?}", ran[0]);
        assert_all(&ran, &answered(&ran[0].stdout));
        let counts = test.server.counts();
        assert_eq!((counts.refreshes, counts.unexpected), (1, 0), "{arguments:?}");
    }
}
