//! Each provider of the table against a server that behaves as that provider is documented to.
//!
//! A row without a behaviour fails. Where only code or reports in the field tell how a provider answers, it says so.

use crate::support::authorization_server::RefreshTokens;
use crate::support::*;
use onegrant::protocol::dialects::{self, Dialect, STANDARD};
use onegrant::protocol::providers::{ClientKind, PROVIDERS, Provider, Redirect, Server, Tenant};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// How a provider behaves, and what the login there sends.
struct Behaviour {
    /// The arguments after the name; `{}` is the server's issuer without its path.
    place: &'static str,
    /// The path of its issuer.
    issuer_path: &'static str,
    /// Where its endpoints are, where that is no answer of discovery.
    paths: &'static [(Endpoint, &'static str)],
    /// Its host cannot be set: options give the endpoints.
    is_elsewhere: bool,
    /// Whether it has the device flow of RFC 8628; else a refresh token is imported.
    has_device_flow: bool,
    /// The scope of a login that names none.
    scope: Option<&'static str>,
    git_username: Option<&'static str>,
    /// How the client proves itself; `none` for one without a secret.
    client_auth: &'static str,
    /// What is said about a dead grant, after this status and body.
    dead: (u16, &'static str, &'static str),
    settings: fn(&mut Settings),
}

const USUAL: Behaviour = Behaviour {
    place: ":{}",
    issuer_path: "",
    paths: &[],
    is_elsewhere: false,
    has_device_flow: true,
    scope: Some("openid offline_access"),
    git_username: None,
    client_auth: "none",
    dead: (400, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
    settings: |_| {},
};

/// An old refresh token answers the same for a while.
fn with_grace(settings: &mut Settings) {
    settings.replay = Replay::Grace(Duration::from_secs(600));
}

fn members(settings: &mut Settings, members: &'static str) {
    settings.dialect.members = Some(members);
}

const AUTH0_S: (u16, &str, &str) = (
    403,
    r#"{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}"#,
    "invalid_grant: Unknown or invalid refresh token.",
);

const ENTRA: Behaviour = Behaviour {
    place: ":contoso.onmicrosoft.com",
    // The tenant's number, whatever name was asked for.
    issuer_path: "/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
    is_elsewhere: true,
    dead: (
        400,
        r#"{"error":"invalid_grant","error_description":"AADSTS700082: The refresh token has expired due to inactivity.","error_codes":[700082],"suberror":"bad_token"}"#,
        "invalid_grant: AADSTS700082: The refresh token has expired due to inactivity.",
    ),
    // Each refresh brings a new refresh token, and the old ones stay good; `expires_in` was a string in version 1.
    settings: |settings| {
        with_grace(settings);
        members(settings, r#"{"expires_in":"3599","ext_expires_in":"3599"}"#);
    },
    ..USUAL
};

const OUTLOOK_SCOPE: &str = "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/POP.AccessAsUser.All https://outlook.office.com/SMTP.Send offline_access";

const GOOGLE: Behaviour = Behaviour {
    place: "",
    is_elsewhere: true,
    client_auth: "post",
    dead: (
        400,
        r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#,
        "invalid_grant: Token has been expired or revoked.",
    ),
    settings: |settings| settings.rotation = false,
    ..USUAL
};

/// By Gitea's tests and source; with the refresh tokens invalidated, which is a setting of the server.
const GITEA: Behaviour = Behaviour {
    has_device_flow: false,
    scope: None,
    git_username: Some("oauth2"),
    dead: (
        400,
        r#"{"error":"unauthorized_client","error_description":"token was already used"}"#,
        "unauthorized_client: token was already used",
    ),
    ..USUAL
};

fn behaviour(name: &str) -> Behaviour {
    match name {
        "atlassian" => Behaviour {
            place: "",
            is_elsewhere: true,
            has_device_flow: false,
            scope: Some("offline_access"),
            client_auth: "post",
            dead: AUTH0_S,
            settings: with_grace,
            ..USUAL
        },
        "auth0" => Behaviour { dead: AUTH0_S, settings: with_grace, ..USUAL },
        "azure-devops" => Behaviour {
            scope: Some("499b84ac-1321-427f-aa17-267ca6975798/.default offline_access"),
            settings: |settings| {
                (ENTRA.settings)(settings);
                settings.scopes = vec!["499b84ac-1321-427f-aa17-267ca6975798/.default"];
            },
            ..ENTRA
        },
        // What it says about a dead grant is not documented.
        "bitbucket" => Behaviour {
            place: "",
            is_elsewhere: true,
            has_device_flow: false,
            scope: None,
            git_username: Some("x-token-auth"),
            client_auth: "basic",
            settings: |settings| {
                (settings.rotation, settings.repeats_refresh_token) = (false, true);
                members(settings, r#"{"scopes":"repository"}"#);
            },
            ..USUAL
        },
        "clerk" => USUAL,
        "cognito" => Behaviour {
            issuer_path: "/eu-west-1_POOL",
            place: ":{}/eu-west-1_POOL",
            has_device_flow: false,
            scope: None,
            settings: |settings| {
                with_grace(settings);
                settings.serves_oauth_metadata = false;
            },
            ..USUAL
        },
        "entra" => ENTRA,
        "forgejo" | "gitea" => GITEA,
        "github" => Behaviour {
            paths: &[
                (Endpoint::Token, "/login/oauth/access_token"),
                (Endpoint::Authorization, "/login/oauth/authorize"),
                (Endpoint::DeviceAuthorization, "/login/device/code"),
            ],
            scope: None,
            git_username: Some("x-access-token"),
            dead: (
                200,
                r#"{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired.","error_uri":"https://docs.github.com"}"#,
                "bad_refresh_token: The refresh token passed is incorrect or expired.",
            ),
            settings: |settings| {
                settings.refresh_ends_access_tokens = true;
                settings.dialect.form_unless_json_is_asked_for = true;
                settings.dialect.pending_status = Some(200);
                members(
                    settings,
                    r#"{"expires_in":28800,"refresh_token_expires_in":15897600,"token_type":"bearer","scope":""}"#,
                );
            },
            ..USUAL
        },
        "gitlab" => Behaviour {
            paths: &[
                (Endpoint::Token, "/oauth/token"),
                (Endpoint::Authorization, "/oauth/authorize"),
                (Endpoint::DeviceAuthorization, "/oauth/authorize_device"),
                (Endpoint::Revocation, "/oauth/revoke"),
                (Endpoint::Userinfo, "/oauth/userinfo"),
            ],
            scope: Some("read_repository write_repository"),
            git_username: Some("oauth2"),
            dead: (
                400,
                r#"{"error":"invalid_grant","error_description":"The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client."}"#,
                "invalid_grant: The provided authorization grant is invalid, expired, revoked, does not match the redirection \
                 URI used in the authorization request, or was issued to another client.",
            ),
            settings: |settings| {
                settings.refresh_ends_access_tokens = true;
                settings.lifetime = Some(Duration::from_secs(7200));
                settings.scopes = vec!["read_repository", "write_repository"];
                members(settings, r#"{"created_at":1607635748}"#);
            },
            ..USUAL
        },
        "google" => Behaviour {
            scope: Some("openid email"),
            settings: |settings| {
                (GOOGLE.settings)(settings);
                settings.dialect.pending_status = Some(428);
                settings.dialect.says_verification_url = true;
            },
            ..GOOGLE
        },
        "google-mail" => {
            Behaviour { has_device_flow: false, scope: Some("https://mail.google.com/"), ..GOOGLE }
        }
        "keycloak" => Behaviour {
            issuer_path: "/realms/r",
            place: ":{}/realms/r",
            dead: (
                400,
                r#"{"error":"invalid_grant","error_description":"Maximum allowed refresh token reuse exceeded"}"#,
                "invalid_grant: Maximum allowed refresh token reuse exceeded",
            ),
            settings: |settings| {
                settings.serves_oauth_metadata = false;
                members(settings, r#"{"refresh_expires_in":1800,"not-before-policy":0,"session_state":"s"}"#);
            },
            ..USUAL
        },
        "okta" => Behaviour {
            dead: (
                400,
                r#"{"error":"invalid_grant","error_description":"The refresh token is invalid or expired."}"#,
                "invalid_grant: The refresh token is invalid or expired.",
            ),
            settings: with_grace,
            ..USUAL
        },
        "outlook" => Behaviour {
            place: "",
            scope: Some(OUTLOOK_SCOPE),
            settings: |settings| {
                (ENTRA.settings)(settings);
                settings.scopes = OUTLOOK_SCOPE.split(' ').collect();
            },
            ..ENTRA
        },
        // Without rotation, which is a setting of the app; the words are those that clients report.
        "salesforce" => Behaviour {
            paths: &[
                (Endpoint::Token, "/services/oauth2/token"),
                (Endpoint::Authorization, "/services/oauth2/authorize"),
                (Endpoint::Revocation, "/services/oauth2/revoke"),
                (Endpoint::Userinfo, "/services/oauth2/userinfo"),
            ],
            has_device_flow: false,
            scope: Some("api refresh_token"),
            dead: (
                400,
                r#"{"error":"invalid_grant","error_description":"expired access/refresh token"}"#,
                "invalid_grant: expired access/refresh token",
            ),
            settings: |settings| {
                (settings.lifetime, settings.rotation) = (None, false);
                members(
                    settings,
                    r#"{"issued_at":"1278448384422","instance_url":"https://a.example","id":"https://b.example"}"#,
                );
            },
            ..USUAL
        },
        "slack" => Behaviour {
            paths: &[
                (Endpoint::Token, "/api/oauth.v2.access"),
                (Endpoint::Authorization, "/oauth/v2/authorize"),
            ],
            has_device_flow: false,
            scope: None,
            client_auth: "post",
            dead: (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, "invalid_refresh_token"),
            settings: |settings| {
                let answer =
                    r#"{"ok":true,"token_type":"user","scope":"chat:write,users:read","expires_in":43200}"#;
                members(settings, answer);
            },
            ..USUAL
        },
        "supabase" => Behaviour {
            issuer_path: "/auth/v1",
            has_device_flow: false,
            scope: None,
            dead: (
                400,
                r#"{"code":400,"error_code":"refresh_token_already_used","msg":"Invalid Refresh Token: Already Used"}"#,
                "refresh_token_already_used: Invalid Refresh Token: Already Used",
            ),
            settings: with_grace,
            ..USUAL
        },
        "zoom" => Behaviour {
            paths: &[
                (Endpoint::Token, "/oauth/token"),
                (Endpoint::Authorization, "/oauth/authorize"),
                (Endpoint::DeviceAuthorization, "/oauth/devicecode"),
                (Endpoint::Revocation, "/oauth/revoke"),
            ],
            scope: None,
            client_auth: "basic",
            dead: (
                400,
                r#"{"reason":"Invalid Token!","error":"invalid_grant"}"#,
                "invalid_grant: Invalid Token!",
            ),
            ..USUAL
        },
        _ => panic!("{name} has no behaviour: how is it documented to answer?"),
    }
}

/// One provider, its server and a home.
struct Stage {
    provider: &'static Provider,
    behaviour: Behaviour,
    settings: Settings,
    server: AuthorizationServer,
    home: Home,
}

impl Stage {
    fn new(provider: &'static Provider) -> Self {
        let behaviour = behaviour(provider.name);
        let mut settings = Settings {
            issuer_path: behaviour.issuer_path.to_owned(),
            paths: behaviour.paths.to_vec(),
            ..Settings::default()
        };
        settings.dialect.dead_grant = Some((behaviour.dead.0, behaviour.dead.1));
        (behaviour.settings)(&mut settings);
        let server = AuthorizationServer::start(settings.clone());
        Self { provider, behaviour, settings, server, home: Home::new() }
    }

    fn has_secret(&self) -> bool {
        self.behaviour.client_auth != "none"
    }

    fn login(&self) -> Command {
        let origin = self.server.issuer().replace(self.behaviour.issuer_path, "");
        let place = self.behaviour.place.replace("{}", &origin);
        let mut command =
            self.home.command(&["login", &format!("{}{place}", self.provider.name), "--client-id"]);
        if self.has_secret() {
            let secret = self.home.root.join("secret");
            fs::write(&secret, self.server.client_secret()).unwrap();
            command.arg(self.server.confidential_client_id()).arg("--client-secret-file").arg(secret);
        } else {
            command.arg(self.server.client_id());
        }
        if self.behaviour.is_elsewhere {
            command.args(["--token-endpoint", &self.server.token_endpoint()]);
            let device = self.server.url(Endpoint::DeviceAuthorization);
            if self.behaviour.has_device_flow {
                command.args(["--device-authorization-endpoint", &device]);
            }
        }
        command
    }

    fn log_in(&self) {
        let name = self.provider.name;
        let mut command = self.login();
        let ran = if self.behaviour.has_device_flow {
            let gate = Gate::closed();
            self.server.script(Endpoint::Token, [Fault::HoldAnswer(gate.clone())]);
            let process = Process::start(command.arg("--device"));
            wait_for("a code", || process.said().ends_with('\n') && process.said().contains("\ncode  "));
            let code = process.said().lines().find_map(|line| line.strip_prefix("code  ").map(str::to_owned));
            // The person decides when the first poll has been answered.
            self.server.wait_until(|counts| counts.device_polls == 1);
            gate.open();
            self.server.wait_until(|counts| counts.released == 1);
            assert!(self.server.approve(&code.unwrap()), "{name}");
            process.finish()
        } else {
            let issued = match self.has_secret() {
                true => self.server.issue_confidential_grant(),
                false => self.server.issue_grant(),
            };
            let path = self.home.root.join("stdin");
            fs::write(&path, issued.refresh_token).unwrap();
            run(command.arg("--refresh-token-stdin").stdin(File::open(path).unwrap()))
        };
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{name}: {ran:?}");
        assert!(!ran.stderr.contains("warning"), "{name}: {ran:?}");
    }

    /// What the last request to an endpoint sent, and how the client proved itself in it.
    fn assert_sent(&self, endpoint: Endpoint, parameters: &[&str]) {
        let name = self.provider.name;
        let request = self.server.requests_to(endpoint).pop().unwrap();
        let mut sent: Vec<&str> = request.parameters.iter().map(|(name, _)| name.as_str()).collect();
        let mut wanted = parameters.to_vec();
        match self.behaviour.client_auth {
            "basic" if endpoint == Endpoint::DeviceAuthorization => wanted.push("client_id"),
            "basic" => {}
            "post" => wanted.extend(["client_id", "client_secret"]),
            _ => wanted.push("client_id"),
        }
        sent.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(sent, wanted, "{name}: {endpoint:?}");
        assert_eq!(
            request.header("authorization").is_some(),
            self.behaviour.client_auth == "basic",
            "{name}"
        );
        assert_eq!(request.header("accept"), Some("application/json"), "{name}");
    }

    fn expire(&self) {
        let mut document = self.home.document();
        document["session"]["expires_at"] = json!(now() - 5);
        self.home.write(&document);
    }
}

#[test]
fn every_provider_grants_refreshes_and_ends_as_it_is_documented_to() {
    thread::scope(|scope| {
        for provider in PROVIDERS {
            let test = move || lives_and_ends(&Stage::new(provider));
            thread::Builder::new().name(provider.name.to_owned()).spawn_scoped(scope, test).unwrap();
        }
    });
}

fn lives_and_ends(stage: &Stage) {
    let Stage { provider, behaviour, settings, server, home } = stage;
    let name = provider.name;

    stage.log_in();
    let counts = server.counts();
    if behaviour.has_device_flow {
        assert_eq!((counts.device_requests, counts.device_polls, counts.refreshes), (1, 2, 0), "{name}");
        let scope = behaviour.scope.map(|_| "scope");
        let challenge = ["code_challenge", "code_challenge_method"];
        stage.assert_sent(Endpoint::DeviceAuthorization, &[scope.as_slice(), &challenge].concat());
        let request = server.requests_to(Endpoint::DeviceAuthorization).pop().unwrap();
        assert_eq!(request.parameter("scope"), behaviour.scope, "{name}");
        stage.assert_sent(Endpoint::Token, &["grant_type", "device_code", "code_verifier"]);
    } else {
        assert_eq!((counts.device_requests, counts.token_requests, counts.refreshes), (0, 1, 1), "{name}");
    }
    let document = home.document();
    assert_eq!(document["provider"], json!(name));
    assert_eq!(document["scope"], json!(behaviour.scope), "{name}");
    assert_eq!(document["git_username"], json!(behaviour.git_username), "{name}");
    assert_eq!(document["client_auth"], json!(behaviour.client_auth), "{name}");
    assert!(
        document.get("parameters").is_none(),
        "{name}: those of an authorization request are of no other"
    );
    for (endpoint, member) in [
        (Endpoint::Token, "token_endpoint"),
        (Endpoint::Authorization, "authorization_endpoint"),
        (Endpoint::DeviceAuthorization, "device_authorization_endpoint"),
        (Endpoint::Revocation, "revocation_endpoint"),
        (Endpoint::Userinfo, "userinfo_endpoint"),
    ] {
        if behaviour.paths.iter().any(|(other, _)| *other == endpoint) {
            assert_eq!(document[member], json!(server.url(endpoint)), "{name}");
        } else if !behaviour.paths.is_empty() {
            assert!(document.get(member).is_none(), "{name} {member}");
        }
    }

    // One refresh, and nothing else is asked for.
    let before = (home.tokens(), server.counts().refreshes);
    let lifetime_is_told = document["session"].get("expires_at").is_some();
    assert_eq!(lifetime_is_told, settings.lifetime.is_some(), "{name}");
    let refreshed = home.run(&["refresh"]);
    let after = home.tokens();
    assert_eq!(refreshed, Ran::printed(&after.access_token), "{name}");
    assert_eq!(server.counts().refreshes, before.1 + 1, "{name}");
    stage.assert_sent(Endpoint::Token, &["grant_type", "refresh_token"]);
    assert_eq!(after.refresh_token != before.0.refresh_token, settings.rotation, "{name}");
    let is_left = server.access_token_is_valid(&before.0.access_token);
    assert_eq!(is_left, !settings.refresh_ends_access_tokens, "{name}");
    assert_eq!(home.run(&["token"]), refreshed, "{name}: valid, and left alone");

    // An answer that was lost is had again where the provider repeats it.
    if matches!(settings.replay, Replay::Grace(_)) {
        server.script(Endpoint::Token, [Fault::DropAfter]);
        let repeated = home.run(&["refresh"]);
        assert_eq!((repeated.code, server.counts().replays), (0, 1), "{name}: {repeated:?}");
        assert!(server.is_alive(&home.tokens().refresh_token), "{name}");
    }

    // The end, met once.
    server.end_grant(&home.tokens().refresh_token);
    stage.expire();
    let refreshes = server.counts().refreshes;
    let text = format!(
        "onegrant: cannot refresh: the session of profile default has ended ({}); a login is required\n\
         hint: onegrant login\n",
        behaviour.dead.2
    );
    for _ in 0..2 {
        assert_eq!(home.run(&["token"]), Ran::failed(3, text.as_str()), "{name}");
        assert_eq!(server.counts().refreshes, refreshes + 2, "{name}: asked once more before the verdict");
    }
    assert_eq!(home.document()["session"], Value::Null, "{name}");
    assert_eq!((server.counts().unexpected, server.counts().hasty_polls), (0, 0), "{name}");
}

/// A second login needs no options, and knows the provider still.
#[test]
fn stored_values_and_options_win_over_the_table() {
    let stage = Stage::new(named("gitlab"));
    stage.server.adjust(|settings| settings.auto_approve = true);
    let ran = run(stage.login().args(["--device", "--scope", "openid read"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut document = stage.home.document();
    document["git_username"] = json!("me");
    stage.home.write(&document);
    let scope = |stage: &Stage| {
        let request = stage.server.requests_to(Endpoint::DeviceAuthorization).pop().unwrap();
        request.parameter("scope").map(str::to_owned)
    };
    assert_eq!(scope(&stage).as_deref(), Some("openid read"));
    for again in [stage.home.command(&["login", "--device"]), stage.login()] {
        let mut again = again;
        assert_eq!(run(&mut again).code, 0);
        assert_eq!(scope(&stage).as_deref(), Some("openid read"), "the stored one");
        let document = stage.home.document();
        assert_eq!((&document["provider"], &document["git_username"]), (&json!("gitlab"), &json!("me")));
    }
    assert_eq!((stage.server.counts().device_requests, stage.server.counts().unexpected), (3, 0));
}

/// Tenants share an origin, and have their clients each for itself.
#[test]
fn the_client_of_another_tenant_is_not_used() {
    let stage = Stage::new(named("entra"));
    stage.log_in();
    let requests = stage.server.requests().len();
    let endpoint = format!("{}?another", stage.server.token_endpoint());
    let ran = stage.home.run(&["login", "entra:another.example", "--token-endpoint", &endpoint]);
    assert!(ran.code == 2 && ran.stderr.contains("--client-id is missing"), "{ran:?}");
    assert_eq!(stage.server.requests().len(), requests);
}

#[test]
fn a_refusal_and_a_missing_refresh_token_say_what_to_set_up() {
    let Provider { note, source, .. } = named("github");
    let stage = Stage::new(named("github"));
    let refusal = json!({"error": "device_flow_disabled", "error_description": "Device Flow must be explicitly enabled"});
    let answer = Response::json(400, refusal.to_string());
    stage.server.script(Endpoint::DeviceAuthorization, [Fault::Status(answer)]);
    let text = format!(
        "onegrant: cannot start the device flow: device_flow_disabled: Device Flow must be explicitly enabled\n\
         hint: github needs {note} ({source})\n"
    );
    assert_eq!(run(stage.login().arg("--device")), Ran::failed(2, text));

    stage.server.adjust(|settings| {
        (settings.auto_approve, settings.refresh_tokens) = (true, RefreshTokens::Never);
    });
    let warning = format!(
        "onegrant: warning: the server gave NO REFRESH TOKEN: this login ends with its access token\n\
         hint: github needs {note} ({source})\n"
    );
    for mut login in [stage.login(), stage.home.command(&["login"])] {
        let ran = run(login.arg("--device"));
        assert!(ran.code == 0 && ran.stderr.contains(&warning), "{ran:?}");
    }
    // A name that this version does not know is kept.
    let mut document = stage.home.document();
    document["provider"] = json!("absent");
    stage.home.write(&document);
    let ran = stage.home.run(&["login", "--device"]);
    assert!(ran.code == 0 && ran.stderr.contains("--scope \"offline_access\""), "{ran:?}");
    assert_eq!(stage.home.document()["provider"], json!("absent"));
    assert_eq!(stage.server.counts().unexpected, 0);
}

#[test]
fn an_unknown_provider_and_a_missing_part_are_reported_with_a_command() {
    let names = PROVIDERS.iter().map(|provider| provider.name).collect::<Vec<_>>().join(", ");
    let home = Home::new();
    let client = "--client-id";
    let Provider { note, source, .. } = named("bitbucket");
    let cases: [(&[&str], String); 15] = [
        (&["gihub"], format!("unknown provider 'gihub': did you mean github?\nhint: onegrant login https://ADDRESS   # or one of {names}")),
        (&["as.example"], "cannot use as.example: it does not begin with https://\nhint: onegrant login https://as.example".to_owned()),
        (&["mcp.example:8443/mcp?a=1"], "cannot use mcp.example:8443/mcp?a=1: it does not begin with https://\nhint: onegrant login 'https://mcp.example:8443/mcp?a=1'".to_owned()),
        (&["127.0.0.1:9/mcp"], "cannot use 127.0.0.1:9/mcp: it does not begin with http://\nhint: onegrant login http://127.0.0.1:9/mcp".to_owned()),
        (&["as.example/ü x"], format!("unknown provider 'as.example/ü x'\nhint: onegrant login https://ADDRESS   # or one of {names}")),
        (&["localhost:8080/mcp"], "cannot use localhost:8080/mcp: it does not begin with http://\nhint: onegrant login http://localhost:8080/mcp".to_owned()),
        (&["as.example/mcp", "--scope", "a b"], "cannot use as.example/mcp: it does not begin with https://\nhint: onegrant login https://as.example/mcp --scope 'a b'".to_owned()),
        (&["okta", client, "x", "--device"], "cannot log in: okta is many servers, and none is named\nhint: onegrant login okta:dev-1.okta.com --client-id x --device".to_owned()),
        (&["\u{1b}[31mx:y"], format!("unknown provider '[31mx'\nhint: onegrant login https://ADDRESS   # or one of {names}")),
        (&["okta"], "cannot log in: okta is many servers, and none is named\nhint: onegrant login okta:dev-1.okta.com --client-id ID".to_owned()),
        (&["github:a@b"], "cannot log in: 'a@b' is no host or tenant of github\nhint: onegrant login github:github.com --client-id ID".to_owned()),
        (&["google:x"], "cannot log in: google is one server: nothing may follow its name\nhint: onegrant login google --client-id ID".to_owned()),
        (&["bitbucket"], format!("cannot log in: --client-id is missing\nhint: onegrant login bitbucket --client-id ID   # the identifier that bitbucket gave you for {note}")),
        (&["https://bitbucket.org", client, "x"], "cannot log in: bitbucket knows no clients without a secret\nhint: add --client-secret-file FILE   # or --client-auth none, if this client has none after all".to_owned()),
        (&["bitbucket", client, "x", "--client-auth", "none", "--device"], format!("cannot log in: the server announces no device authorization endpoint\nhint: bitbucket needs {note} ({source})")),
    ];
    for (arguments, text) in cases {
        let ran = home.run(&[&["login"], arguments].concat());
        assert_eq!(ran, Ran::failed(2, format!("onegrant: {text}\n")), "{arguments:?}");
    }
    assert_eq!(home.names(), Vec::<String>::new());
}

/// The table of `docs/providers.md`.
#[test]
fn the_documentation_matches_the_table() {
    let wanted: String = PROVIDERS.iter().map(documented).collect();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md")).unwrap();
    let (_, table) = text.split_once("|---|---|---|---|---|---|\n").unwrap();
    let table = table.split_once("\n\n").map_or(table.trim_end(), |(table, _)| table);
    assert_eq!(table, wanted.trim_end(), "the table of docs/providers.md should be:\n{wanted}");
}

fn documented(provider: &Provider) -> String {
    let Provider { name, note, source, .. } = provider;
    let call = match provider.tenant {
        Tenant::None => format!("`{name}`"),
        Tenant::Required(tenant) => format!("`{name}:{tenant}`"),
        Tenant::Default(tenant) => {
            let word = if tenant.contains('.') { "HOST" } else { "TENANT" };
            format!("`{name}` or `{name}:{word}` (default: {tenant})")
        }
    };
    let flows = match provider.server {
        Server::Issuer(_) => "by discovery",
        Server::Endpoints(endpoints) if endpoints.device_authorization.is_empty() => "no device flow",
        Server::Endpoints(_) => "device flow",
    };
    let sent = match provider.scope {
        "" => "the server's default".to_owned(),
        scope => format!("`{scope}`"),
    };
    let client = match provider.client {
        ClientKind::Any => "",
        ClientKind::Post => "secret needed (post); ",
        ClientKind::Basic => "secret needed (basic); ",
    };
    let redirect = match provider.redirect {
        Redirect::AnyPort => "`http://127.0.0.1`, any port",
        Redirect::LocalhostAnyPort => "`http://localhost`, any port",
        Redirect::Registered => "as registered, port included",
        Redirect::Nowhere => "none on this machine",
    };
    format!("| {call} | {flows} | {sent} | {redirect} | {client}{note} | [documentation]({source}) |\n")
}

/// The second table of `docs/providers.md`.
#[test]
fn the_documentation_lists_the_dialects() {
    let named = PROVIDERS.iter().map(|provider| (provider.name, &provider.dialect));
    let others = dialects::OTHERS.iter().map(|(name, dialect)| (*name, dialect));
    let wanted: String =
        named.chain(others).filter(|(_, dialect)| **dialect != STANDARD).map(understood).collect();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md")).unwrap();
    let (_, table) = text.split_once("\n|---|---|---|---|\n").unwrap();
    let table = table.split_once("\n\n").map_or(table.trim_end(), |(table, _)| table);
    assert_eq!(table, wanted.trim_end(), "the table of docs/providers.md should be:\n{wanted}");
}

fn understood((name, dialect): (&str, &Dialect)) -> String {
    let list = |lists: &[&[&str]]| {
        let mut words: Vec<String> = Vec::new();
        for word in lists.concat() {
            let word = format!("`{word}`");
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words.join(", ")
    };
    let texts: Vec<&str> = dialect.dead_grant_texts.iter().map(|(_, text)| *text).collect();
    let dead = list(&[dialect.dead_grant, &texts]);
    let denials: Vec<String> = dialect.denials.iter().map(|name| format!("{name}: false")).collect();
    let denials: Vec<&str> = denials.iter().map(String::as_str).collect();
    let error = list(&[dialect.errors, dialect.codes, dialect.descriptions, dialect.signs, &denials]);
    let other = list(&[dialect.denied, dialect.expired, dialect.expires_in, dialect.verification_uri]);
    format!("| {name} | {dead} | {error} | {other} |\n")
}

fn named(name: &str) -> &'static Provider {
    onegrant::protocol::providers::named(name).unwrap()
}
