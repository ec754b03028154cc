//! `onegrant doctor ADDRESS` and what a login has stored. What it finds out: `tests/command_line/doctor_address.rs`.

use super::*;
use servers::closed_port::ClosedPort;

/// The lines of `doctor ADDRESS`: name, verdict and what it says. It ends with this code.
#[track_caller]
fn examined(home: &Home, address: &str, code: i32) -> Vec<(String, String, String)> {
    let ran = run(&mut home.command(&["doctor", "--json", address]));
    assert_eq!(ran.code, code, "{ran:?}");
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    let text = |check: &Value, member: &str| check[member].as_str().unwrap().to_owned();
    let checks = object["checks"].as_array().unwrap().iter();
    checks.map(|check| (text(check, "name"), text(check, "verdict"), text(check, "what"))).collect()
}

/// What the line of this name says.
#[track_caller]
fn line(home: &Home, address: &str, name: &str) -> String {
    let lines = examined(home, address, 0);
    let line = lines.iter().find(|(found, ..)| found == name);
    line.unwrap_or_else(|| panic!("no {name} in {lines:?}")).2.clone()
}

#[test]
fn it_says_which_client_a_login_uses_with_what_is_stored() {
    let server = resource_server(|_| {});
    let address = server.url(Endpoint::Resource);
    let home = Home::new();
    let new = format!("a login registers one at {}", server.url(Endpoint::Registration));
    assert_eq!(line(&home, &address, "client"), new);
    agree(&mut login(&home, &server, &[]));
    let name = profile_name(&server);
    let mut document = document_of(&home, &name);
    let client = document["client_id"].as_str().unwrap().to_owned();
    assert_eq!(line(&home, &address, "client"), format!("a login uses {client}"));
    document["registration"]["awaited_since"] = json!(now() - 60);
    let path = home.state.join(format!("{name}.json"));
    std::fs::write(&path, document.to_string()).unwrap();
    assert_eq!(line(&home, &address, "client"), new, "the last login did not come back");
    // `doctor` goes on without a document that cannot be read.
    std::fs::write(&path, "{").unwrap();
    assert_eq!(line(&home, &address, "client"), new);
    assert_eq!((server.counts().registrations, server.counts().unexpected), (1, 0));
}

#[test]
fn it_names_the_profile_that_a_login_stores_the_grant_in() {
    let server = resource_server(|_| {});
    let profile = |address: &str| -> Value {
        let ran = Home::new().run(&["doctor", "--json", address]);
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["profile"].clone()
    };
    assert_eq!(profile(&server.url(Endpoint::Resource)), json!(profile_name(&server)));
    assert_eq!(profile(&crate::support::server(|_| {}).issuer()), json!("default"));
    let closed = ClosedPort::reserve();
    assert_eq!(profile(&format!("http://{}/mcp", closed.address())), Value::Null, "nothing is known");
}

#[test]
fn a_request_that_was_not_answered_is_not_ok() {
    let closed = ClosedPort::reserve();
    let lines = examined(&Home::new(), &format!("http://{}/mcp", closed.address()), 4);
    let verdicts: Vec<_> = lines.iter().map(|(name, verdict, _)| (name.as_str(), verdict.as_str())).collect();
    assert_eq!(verdicts, [("probe", "warn"), ("server", "fail")]);
}
