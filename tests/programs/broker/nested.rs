//! The inside of one broker as the outside of another.

use super::*;
use std::fs;
use std::time::Duration;

#[test]
fn a_broker_of_a_broker_gives_the_same_tokens_and_the_same_profile() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant_for(&server, LIFETIME, &["git.example"]);
    // No command inside names the profile.
    fs::rename(home.document_path(), home.state.join("work.json")).unwrap();
    let mut command = home.command(&["--profile", "work", "exec", "--serve", "unix:outer", "--"]);
    let outer = Served::of(&home, command.args(SHELL));
    let mut command = outer.client.command(&home, &["exec", "--serve", "unix:inner", "--"]);
    let inner = Served::of(&home, command.args(SHELL));
    assert_ne!(outer.client.key, inner.client.key);
    for path in ["/v1/token", "/v1/token?min_ttl=60", "/v1/profile"] {
        let [of_outer, of_inner] = [&outer.client, &inner.client].map(|client| client.get(path));
        assert_eq!((of_inner.status, of_inner.json()), (200, of_outer.json()), "{path}");
    }
    for profile in [&[][..], &["--profile", "work"]] {
        let mut command = inner.client.command(&home, &[profile, &["token"]].concat());
        assert_eq!(run(&mut command).token(), outer.client.get("/v1/token").token());
    }
    let ran = run(&mut inner.client.command(&home, &["--profile", "home", "token"]));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    let first = inner.client.get("/v1/token").token();
    let second = inner.client.reject(&first).token();
    assert_ne!(first, second);
    assert_eq!(outer.client.reject(&first).token(), second);
    let refused = Client { key: outer.client.key.clone(), ..inner.client.clone() };
    assert_eq!(refused.get("/v1/token").refusal(), (401, 2));
    inner.end(&home);
    outer.end(&home);
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
}

#[test]
fn a_file_inside_is_kept_fresh_whatever_the_name_of_the_profile_is() {
    let server = server(|settings| settings.lifetime = Some(Duration::from_secs(3)));
    let (home, _) = Home::with_grant(&server, EXPIRED);
    fs::rename(home.document_path(), home.state.join("work.json")).unwrap();
    let mut command = home.command(&["--profile", "work", "exec", "--serve", "unix:outer", "--"]);
    let outer = Served::of(&home, command.args(SHELL));
    // The file `end` is there for a moment only.
    let script = "while ! [ -e end-inside ]; do sleep 0.02; done";
    let mut command =
        outer.client.command(&home, &["exec", "--file", "token", "--", "/bin/sh", "-c", script]);
    let process = Process::start(&mut command);
    let read = || fs::read_to_string(home.root.join("token")).unwrap_or_default();
    wait_for("the file", || read().ends_with('\n'));
    let first = read();
    server.adjust(|settings| settings.lifetime = Some(Duration::from_secs(3600)));
    wait_for("another token in the file", || read() != first);
    fs::write(home.root.join("end-inside"), "").unwrap();
    assert_eq!(process.finish().code, 0);
    outer.end(&home);
}
