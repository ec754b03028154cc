//! Profiles by resource: `--for`, the list of profiles, and the hint of a command that names no profile.

use crate::support::*;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Writes a grant of the server for these resources as the profile `name`.
fn grant(home: &Home, name: &str, resources: &[&str], server: &AuthorizationServer, left: i64) -> Issued {
    let issued = server.issue_grant();
    let mut document = document(server, &issued, left);
    document["resource"] = json!(resources);
    write(home, name, &document.to_string());
    issued
}

fn write(home: &Home, name: &str, text: &str) {
    let path = home.state.join(format!("{name}.json"));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn read(home: &Home, name: &str) -> Value {
    serde_json::from_slice(&fs::read(home.state.join(format!("{name}.json"))).unwrap()).unwrap()
}

fn nothing(url: &str) -> Ran {
    Ran::failed(3, format!("onegrant: no profile is for {url}\nhint: onegrant login {url}\n"))
}

/// Runs with these variables beside those of the home.
fn run_with(home: &Home, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    run(home.command(arguments).envs(variables.iter().copied()))
}

#[test]
fn for_finds_the_profile_with_the_longest_resource_that_covers_the_address() {
    let server = server(|_| {});
    let home = Home::new();
    let names: [(&str, &[&str]); 6] = [
        ("root", &["https://wiki.example"]),
        ("wiki.example", &["https://wiki.example/mcp"]),
        ("deep", &["https://wiki.example/mcp/v2"]),
        ("port", &["https://wiki.example:8443/mcp"]),
        ("loopback", &["http://127.0.0.1:8080/mcp"]),
        ("default", &[]),
    ];
    let tokens: Vec<(&str, String)> = names
        .iter()
        .map(|(name, resources)| (*name, grant(&home, name, resources, &server, LIFETIME).access_token))
        .collect();
    let cases = [
        ("https://wiki.example", Some("root")),
        ("https://wiki.example/other", Some("root")),
        ("https://wiki.example/mcp2", Some("root")),
        ("https://wiki.example/mcp", Some("wiki.example")),
        ("HTTPS://WIKI.example:443/mcp/?a=b", Some("wiki.example")),
        ("https://wiki.example/mcp/v2/messages", Some("deep")),
        ("https://wiki.example/mcp/v21", Some("wiki.example")),
        ("https://wiki.example:8443/mcp", Some("port")),
        ("https://wiki.example:8443/mcp2", None),
        ("https://wiki.example:8443", None),
        ("http://wiki.example/mcp", None),
        ("http://127.0.0.1:8080/mcp", Some("loopback")),
        ("https://127.0.0.1:8080/mcp", None),
        ("http://127.0.0.1:8081/mcp", None),
        ("https://other.example/mcp", None),
        ("https://wiki.example.other.example/mcp", None),
        ("https://wiki.example/mcp/../../other", None),
    ];
    for (url, profile) in cases {
        let wanted = match profile {
            Some(name) => Ran::printed(&tokens.iter().find(|(other, _)| *other == name).unwrap().1),
            None => nothing(url),
        };
        assert_eq!(home.run(&["--for", url, "token"]), wanted, "{url}");
        assert_eq!(run_with(&home, &[("ONEGRANT_FOR", url)], &["token"]), wanted, "{url}");
    }
    let quoted = "https://other.example/?a=b&c";
    let text = format!("onegrant: no profile is for {quoted}\nhint: onegrant login '{quoted}'\n");
    assert_eq!(home.run(&["token", "--for", quoted]), Ran::failed(3, text));
    assert_eq!(server.counts(), Default::default());
}

/// The worker that refreshes is given the profile that was found, and inherits the variable.
#[test]
fn a_token_for_one_resource_is_never_given_for_another() {
    let (one, two) = (server(|_| {}), server(|_| {}));
    let home = Home::new();
    let url = |server: &AuthorizationServer| format!("{}/mcp", server.issuer());
    let first = grant(&home, "one", &[&url(&one)], &one, EXPIRED);
    let second = grant(&home, "two", &[&url(&two)], &two, EXPIRED);

    let ran = run_with(&home, &[("ONEGRANT_FOR", &url(&one))], &["token"]);
    assert_eq!(ran.token(), read(&home, "one")["session"]["access_token"]);
    assert!(one.access_token_is_valid(ran.token()) && ran.token() != first.access_token);
    assert_eq!((one.counts().refreshes, two.counts().refreshes), (1, 0));

    // An option wins over the variable for the other address.
    let ran = run_with(&home, &[("ONEGRANT_FOR", &url(&one))], &["token", "--for", &url(&two)]);
    assert_eq!(ran.token(), read(&home, "two")["session"]["access_token"]);
    assert!(two.access_token_is_valid(ran.token()) && ran.token() != second.access_token);
    assert_eq!((one.counts().refreshes, two.counts().refreshes), (1, 1));

    let below = format!("{}2", url(&one));
    assert_eq!(home.run(&["token", "--for", &below]), nothing(&below));
    assert_eq!(one.counts().unexpected + two.counts().unexpected, 0);
}

#[test]
fn every_command_works_on_the_profile_of_an_address() {
    const URL: &str = "https://wiki.example/mcp";
    let (server, other) = (server(|_| {}), server(|_| {}));
    let home = Home::new();
    home.grant(&other, LIFETIME);
    let issued = grant(&home, "wiki", &[URL], &server, LIFETIME);
    let mut with_host = read(&home, "wiki");
    with_host["git_hosts"] = json!(["git.example"]);
    write(&home, "wiki", &with_host.to_string());
    let run = |arguments: &[&str]| home.run(&[&["--for", URL], arguments].concat());

    let status: Value = serde_json::from_str(&run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["profile"], "wiki");
    let doctor: Value = serde_json::from_str(&run(&["doctor", "--json"]).stdout).unwrap();
    assert_eq!(doctor["profile"], "wiki");
    let exec = run(&["exec", "--", "/bin/sh", "-c", "printf %s $ACCESS_TOKEN"]);
    assert_eq!((exec.code, exec.stdout), (0, issued.access_token.clone()));
    let asked = home.root.join("asked");
    fs::write(&asked, "protocol=https\nhost=git.example\n\n").unwrap();
    let mut git = home.command(&["git-credential", "--for", URL, "get"]);
    let ran = crate::support::run(git.stdin(fs::File::open(&asked).unwrap()));
    assert!(ran.stdout.contains(&format!("password={}\n", issued.access_token)), "{ran:?}");
    fs::write(&asked, "git.example").unwrap();
    let mut docker = home.command(&["helper", "docker", "get", "--for", URL]);
    let ran = crate::support::run(docker.stdin(fs::File::open(&asked).unwrap()));
    assert!(ran.stdout.contains(&issued.access_token), "{ran:?}");
    assert_eq!(server.counts(), Default::default());

    assert_eq!(run(&["whoami"]).code, 0);
    assert_eq!(server.counts().userinfo, 1);
    assert_eq!(run(&["refresh"]).code, 0);
    assert_eq!(server.counts().refreshes, 1);
    let ran = run(&["logout"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "revoked at the server, and deleted here: profile wiki\n")
    );
    assert_eq!(server.counts().revocations, 1);

    // There is no such profile any more, so no command touches the default profile instead.
    let commands: [&[&str]; 10] = [
        &["token"],
        &["refresh"],
        &["status"],
        &["whoami"],
        &["logout"],
        &["doctor"],
        &["exec", "--", "/bin/true"],
        &["git-credential", "get"],
        &["helper", "docker", "get"],
        &["login"],
    ];
    for command in commands {
        assert_eq!(run(command), nothing(URL), "{command:?}");
    }
    assert_eq!(run(&["profiles"]), Ran { code: 0, stdout: "default\n".to_owned(), stderr: String::new() });
    assert_eq!(other.counts().token_requests + other.counts().revocations, 0);
}

#[test]
fn the_first_login_at_an_address_needs_no_profile_of_it() {
    let server = server(|settings| settings.auto_approve = true);
    let home = Home::new();
    let login = ["login", &server.issuer(), "--client-id", server.client_id(), "--device"];
    let ran = run_with(&home, &[("ONEGRANT_FOR", "https://wiki.example/mcp")], &login);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(server.counts().rotations + server.counts().unexpected, 0);
}

#[test]
fn a_name_and_an_address_exclude_each_other_and_an_option_wins_over_both_variables() {
    const URL: &str = "https://wiki.example/mcp";
    let server = server(|_| {});
    let home = Home::new();
    let work = grant(&home, "work", &[], &server, LIFETIME).access_token;
    let wiki = grant(&home, "wiki", &[URL], &server, LIFETIME).access_token;
    let both = [("ONEGRANT_PROFILE", "work"), ("ONEGRANT_FOR", URL)];
    assert_eq!(run_with(&home, &both, &["token", "--profile", "work"]), Ran::printed(&work));
    assert_eq!(run_with(&home, &both, &["token", "--for", URL]), Ran::printed(&wiki));
    let text = "onegrant: --for and --profile each say which profile to use\nhint: onegrant --help\n";
    assert_eq!(home.run(&["token", "--for", URL, "--profile", "wiki"]), Ran::failed(2, text));
    let text = "onegrant: ONEGRANT_FOR and ONEGRANT_PROFILE each say which profile to use\n\
                hint: unset ONEGRANT_FOR   # or ONEGRANT_PROFILE\n";
    assert_eq!(run_with(&home, &both, &["token"]), Ran::failed(2, text));
    let text = "onegrant: --for: 'wiki.example' is no address of a resource: write https://HOST/PATH, without a user name \
                and a fragment\nhint: onegrant --help\n";
    assert_eq!(home.run(&["token", "--for", "wiki.example"]), Ran::failed(2, text));
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn of_two_profiles_for_one_resource_the_one_named_after_the_host_is_used() {
    const URL: &str = "https://wiki.example/mcp";
    let server = server(|_| {});
    let home = Home::new();
    grant(&home, "a", &[URL], &server, LIFETIME);
    grant(&home, "b", &[URL], &server, LIFETIME);
    let text = format!(
        "onegrant: several profiles are for {URL}: a, b\nhint: onegrant --profile a status   # or another of them\n"
    );
    assert_eq!(home.run(&["token", "--for", URL]), Ran::failed(2, text));
    let named = grant(&home, "wiki.example", &[URL], &server, LIFETIME).access_token;
    assert_eq!(home.run(&["token", "--for", URL]), Ran::printed(&named));
    assert_eq!(server.counts(), Default::default());
}

/// A document of a resource, and beside it what cannot be read, what a logout left, and what is none.
fn home_with_broken_documents(server: &AuthorizationServer, resource: &str) -> (Home, String) {
    let home = Home::new();
    for (name, text) in [
        ("aa-empty", ""),
        ("ab-torn", r#"{"version":1,"resource":["https://wiki.exam"#),
        ("ac-foreign", "{}"),
        ("ad-newer", r#"{"version":2,"resource":["https://wiki.example/mcp"]}"#),
        (".hidden", "{}"),
        ("no name", "{}"),
    ] {
        write(&home, name, text);
    }
    fs::create_dir(home.state.join("ae-directory.json")).unwrap();
    let token = grant(&home, "wiki", &[resource], server, LIFETIME).access_token;
    let mut left = read(&home, "wiki");
    left["session"] = Value::Null;
    left["rejected"] = json!({ "refresh_token_sha256": "", "at": 1, "message": "logged out" });
    write(&home, "af-logged-out", &left.to_string());
    (home, token)
}

#[test]
fn a_document_that_cannot_be_read_keeps_no_other_profile_from_its_token() {
    const URL: &str = "https://wiki.example/mcp";
    let server = server(|_| {});
    let (home, token) = home_with_broken_documents(&server, URL);
    assert_eq!(home.run(&["token", "--for", URL]), Ran::printed(&token));
    let text = "onegrant: no profile is for https://other.example; cannot read the document of aa-empty, ab-torn, ac-foreign, \
                ad-newer, ae-directory\nhint: onegrant login https://other.example\n";
    assert_eq!(home.run(&["token", "--for", "https://other.example"]), Ran::failed(3, text));
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn the_list_has_the_resource_of_each_profile_that_has_one() {
    let server = server(|_| {});
    let (home, _) = home_with_broken_documents(&server, "https://wiki.example/mcp");
    grant(&home, "work", &[], &server, LIFETIME);
    grant(&home, "two", &["https://a.example", "urn:b\u{1b}[31m"], &server, LIFETIME);
    let wanted = "aa-empty\nab-torn\nac-foreign\nad-newer\nae-directory\naf-logged-out\n\
                  two\thttps://a.example urn:b [31m\nwiki\thttps://wiki.example/mcp\nwork\n";
    assert_eq!(home.run(&["profiles"]), Ran { code: 0, stdout: wanted.to_owned(), stderr: String::new() });
    // The list needs no profile, so a variable that finds none does not matter.
    let ran = run_with(&home, &[("ONEGRANT_FOR", "https://other.example")], &["profiles"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, wanted));
}

#[test]
fn the_only_other_profile_is_the_hint_where_there_is_no_default_one() {
    let server = server(|_| {});
    let home = Home::new();
    grant(&home, "work", &[], &server, LIFETIME);
    let no_grant = "profile default has no grant\nhint: onegrant";
    let cases: [(&[&str], String); 6] = [
        (&["token"], format!("onegrant: no access token: {no_grant} --profile work token\n")),
        (&["refresh"], format!("onegrant: no access token: {no_grant} --profile work refresh\n")),
        (&["status"], format!("onegrant: {no_grant} --profile work status\n")),
        (&["whoami"], format!("onegrant: {no_grant} --profile work whoami\n")),
        (
            &["exec", "--", "/bin/true"],
            format!("onegrant: no access token: {no_grant} --profile work status\n"),
        ),
        (
            &["--profile", "default", "token"],
            format!("onegrant: no access token: {no_grant} login https://ADDRESS\n"),
        ),
    ];
    for (arguments, text) in cases {
        assert_eq!(home.run(arguments), Ran::failed(3, text), "{arguments:?}");
    }
    // Nothing to log out of is no failure. But a person who meant the other profile is still logged in.
    let ran = home.run(&["logout"]);
    let nothing = "nothing to revoke, nothing to delete: profile default has no grant\n";
    let warning = "onegrant: warning: profile work is another one, and was not logged out\n\
                   hint: onegrant --profile work logout\n";
    assert_eq!(ran, Ran { code: 0, stdout: nothing.to_owned(), stderr: warning.to_owned() });
    let store = format!("file:{}", home.state.display());
    let ran = run(onegrant(&["--store", &store, "token"]).env("HOME", &home.root));
    assert!(
        ran.stderr.ends_with(&format!("hint: onegrant --store '{store}' --profile work token\n")),
        "{ran:?}"
    );

    // With a second one there is nothing to guess.
    grant(&home, "other", &[], &server, LIFETIME);
    let text = format!("onegrant: no access token: {no_grant} login https://ADDRESS\n");
    assert_eq!(home.run(&["token"]), Ran::failed(3, text));
    // The hint of a default profile is its own.
    fs::remove_file(home.state.join("other.json")).unwrap();
    let mut cleared = read(&home, "work");
    cleared["session"] = Value::Null;
    write(&home, "default", &cleared.to_string());
    let ran = home.run(&["token"]);
    assert!(ran.code == 3 && ran.stderr.ends_with("\nhint: onegrant login\n"), "{ran:?}");
    assert_eq!(server.counts(), Default::default());
}
