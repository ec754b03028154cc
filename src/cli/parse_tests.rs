//! From the command line as a person types it to a command, or to the whole text of the failure.

use super::names::NAMES;
use super::*;
use crate::environment::FromOptions;
use crate::globals::Selection;
use crate::grant::ClientAuthentication;
use crate::session::LockUse;
use crate::store_address::{ProfileName, StoreAddress};
use argh::FlagInfo;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

fn at_home() -> Environment {
    Environment { home: Some("/home/me".into()), ..Environment::default() }
}

type Variables<'a> = &'a [(&'a str, &'a str)];

fn environment(pairs: Variables<'_>) -> Environment {
    Environment::from_variables(|wanted| {
        pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| OsString::from(value))
    })
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn run(line: &str) -> (Globals, Command) {
    match parse(words(line), &at_home()) {
        Ok(Parsed::Run(globals, command)) => (globals, command),
        other => panic!("{line}: {other:?}"),
    }
}

fn failure(line: &str) -> Failure {
    match parse(words(line), &at_home()) {
        Err(failure) => failure,
        Ok(parsed) => panic!("{line}: {parsed:?}"),
    }
}

fn defaults() -> Globals {
    Globals {
        profile: ProfileName::new("default").unwrap(),
        selection: Selection::Default,
        store: StoreAddress::File("/home/me/.local/state/onegrant".into()),
        timeout: Duration::from_secs(30),
        lock: LockUse::Auto,
        verbosity: 0,
        trusts_store: false,
        given: FromOptions::default(),
    }
}

#[test]
fn a_hint_works_in_the_shell_that_made_the_call() {
    #[rustfmt::skip]
    let cases = [
        ("token",                     "onegrant login",               "onegrant login"),
        ("token --profile a",         "onegrant login --device",      "onegrant --profile a login --device"),
        ("token --profile a",         "onegrant --profile a login",   "onegrant --profile a login"),
        ("token --store file:/s",     "onegrant login",               "onegrant --store 'file:/s' login"),
        ("token --store=file:it's -v", "onegrant --profile a login",  r"onegrant --store 'file:it'\''s' --profile a login"),
        ("token --store file:/s",     "onegrant --store 'x' logout", "onegrant --store 'x' logout"),
        ("token --store file:/s",     "try again",                    "try again"),
        ("token --profile a",         "onegrant status   # then: onegrant login", "onegrant --profile a status   # then: onegrant --profile a login"),
        ("token --profile a",         "printf x | onegrant refresh --rejected", "printf x | onegrant --profile a refresh --rejected"),
        ("token --store file:/s",     "ONEGRANT_LOCK=claim onegrant status", "ONEGRANT_LOCK=claim onegrant --store 'file:/s' status"),
        ("token --profile a",         "onegrant --store 'file:/t' status", "onegrant --profile a --store 'file:/t' status"),
        ("token --profile a",         "onegrant --store x --profile b status", "onegrant --store x --profile b status"),
        ("token --profile a",         "onegrant exec --file F -- echo onegrant x", "onegrant --profile a exec --file F -- echo onegrant x"),
        ("token --store file:/\u{1b}s", "onegrant login",             "onegrant --store file:DIR login"),
        ("token --for https://a/b",   "onegrant login https://a/b",   "onegrant login https://a/b"),
    ];
    for (words, hint, wanted) in cases {
        assert_eq!(run(words).0.complete(hint, &at_home()), wanted, "{words}");
    }
    let default = run("token --profile default").0;
    assert_eq!(default.complete("onegrant login", &at_home()), "onegrant login");
    for variable in [&["ONEGRANT_PROFILE", "a"], &["ONEGRANT_FOR", "https://a"]] {
        let environment = environment(&[("HOME", "/home/me"), (variable[0], variable[1])]);
        assert_eq!(default.complete("onegrant login", &environment), "onegrant --profile default login");
    }
}

#[test]
fn a_profile_is_named_or_is_the_one_that_covers_an_address() {
    let name = |name: &str| (ProfileName::new(name).unwrap(), Selection::Name);
    let covers = |url: &str| (ProfileName::default(), Selection::Resource(url.to_owned()));
    let (a, for_a) = (("ONEGRANT_PROFILE", "a"), ("ONEGRANT_FOR", "https://a.example/mcp"));
    #[rustfmt::skip]
    let cases: [(&str, Variables<'_>, _); 9] = [
        ("token",                                     &[],                   (ProfileName::default(), Selection::Default)),
        ("token",                                     &[a],                  name("a")),
        ("token",                                     &[for_a],              covers("https://a.example/mcp")),
        ("token",                                     &[a, ("ONEGRANT_FOR", "")], name("a")),
        ("token",                                     &[for_a, ("ONEGRANT_PROFILE", "")], covers("https://a.example/mcp")),
        ("--profile b token",                         &[a, for_a],           name("b")),
        ("--profile b token",                         &[("ONEGRANT_FOR", "?")], name("b")),
        ("token --for=HTTP://[::1]:80/x?y",           &[a, for_a],           covers("HTTP://[::1]:80/x?y")),
        ("token --for http://b.example",              &[("ONEGRANT_PROFILE", "/")], covers("http://b.example")),
    ];
    for (line, variables, wanted) in cases {
        let variables = [&[("HOME", "/home/me")], variables].concat();
        match parse(words(line), &environment(&variables)) {
            Ok(Parsed::Run(globals, _)) => {
                assert_eq!(globals.given.profile, line != "token", "{line}");
                assert_eq!((globals.profile, globals.selection), wanted, "{line} {variables:?}");
            }
            other => panic!("{line} {variables:?}: {other:?}"),
        }
    }
    let rule = "is no address of a resource: write https://HOST/PATH, without a user name and a fragment";
    let both = "each say which profile to use";
    #[rustfmt::skip]
    let refused: [(&str, Variables<'_>, String, &str); 7] = [
        ("token --for https://a --profile a", &[],                    format!("--for and --profile {both}"), "onegrant --help"),
        ("token",                             &[a, for_a],            format!("ONEGRANT_FOR and ONEGRANT_PROFILE {both}"), "unset ONEGRANT_FOR   # or ONEGRANT_PROFILE"),
        ("token --for a.example/mcp",         &[],                    format!("--for: 'a.example/mcp' {rule}"), "onegrant --help"),
        ("token --for=",                      &[],                    format!("--for: '' {rule}"), "onegrant --help"),
        ("token --for https://a/#b",          &[],                    format!("--for: 'https://a/#b' {rule}"), "onegrant --help"),
        ("token --for https://me:s3cret@a",   &[],                    format!("--for: it {rule}"), "onegrant --help"),
        ("token",                             &[("ONEGRANT_FOR", "/")], format!("ONEGRANT_FOR: '/' {rule}"), "onegrant --help"),
    ];
    for (line, variables, message, hint) in refused {
        let variables = [&[("HOME", "/home/me")], variables].concat();
        let failure = parse(words(line), &environment(&variables)).unwrap_err();
        assert_eq!((failure.kind, failure.message), (Kind::Usage, message), "{line}");
        assert_eq!(failure.hint.as_deref(), Some(hint), "{line}");
    }
}

#[test]
fn every_option_of_login_is_parsed() {
    let (_, command) = run("login --device --client-id=id --client-secret-file - --client-auth basic \
         --scope=openid --resource https://a --resource=https://b --audience aud --param a=b=c --param d= \
         --token-endpoint t --authorization-endpoint a --device-authorization-endpoint d \
         --revocation-endpoint r --userinfo-endpoint u --redirect-port 8080 --redirect-uri http://localhost/cb --no-open --git-host g:1 --git-host=h --json https://issuer");
    let text = |text: &str| Some(text.to_owned());
    let parameter = |name: &str, value: &str| Parameter { name: name.to_owned(), value: value.to_owned() };
    let wanted = Login {
        issuer: text("https://issuer"),
        device: true,
        redirect_port: Some(8080),
        redirect_uri: Some("http://localhost/cb".to_owned()),
        no_open: true,
        client_id: text("id"),
        client_secret_file: Some(Input::Stdin),
        client_auth: Some(ClientAuthentication::Basic),
        scope: text("openid"),
        resource: vec!["https://a".to_owned(), "https://b".to_owned()],
        audience: text("aud"),
        param: vec![parameter("a", "b=c"), parameter("d", "")],
        token_endpoint: text("t"),
        authorization_endpoint: text("a"),
        device_authorization_endpoint: text("d"),
        revocation_endpoint: text("r"),
        userinfo_endpoint: text("u"),
        git_host: vec!["g:1".to_owned(), "h".to_owned()],
        json: true,
        ..Login::default()
    };
    assert_eq!(command, Command::Login(wanted));
}

#[test]
fn global_options_may_be_anywhere() {
    let wanted = Globals {
        profile: ProfileName::new("work").unwrap(),
        selection: Selection::Name,
        store: StoreAddress::File("here".into()),
        timeout: Duration::from_millis(1500),
        verbosity: 2,
        given: FromOptions { profile: true, store: true, timeout: true },
        ..defaults()
    };
    for line in [
        "--profile work --store file:here --timeout 1.5 -vv token --format json",
        "token --format json --profile work --store file:here --timeout 1.5 -vv",
        "-v token --profile=work --format=json --timeout=1.5 -v --store=file:here --",
        "--profile=work -v --store file:here token --verbose --format json --timeout 1.5",
    ] {
        let token = Token { format: Some(Format::Json), ..Token::default() };
        assert_eq!(run(line), (wanted.clone(), Command::Token(token)), "{line}");
    }
}

#[test]
fn the_last_value_wins_and_a_switch_may_be_repeated() {
    let (globals, command) =
        run("--profile a token --min-ttl 1 --profile b --write x --min-ttl=60 --write=-x");
    assert_eq!(globals.profile.as_str(), "b");
    let wanted =
        Token { min_ttl: Some(Duration::from_secs(60)), write: Some("-x".into()), ..Token::default() };
    assert_eq!(command, Command::Token(wanted));
    assert_eq!(run("status --json --json").1, Command::Status(Status { json: true, history: false }));
}

#[test]
fn a_value_may_begin_with_a_dash_or_be_the_word_help() {
    for (line, scope) in [
        ("login --scope --json", "--json"),
        ("login --scope=--help", "--help"),
        ("login --scope -h", "-h"),
        ("login --scope --", "--"),
        ("login --scope help", "help"),
        ("login --scope=", ""),
    ] {
        let wanted = Login { scope: Some(scope.to_owned()), ..Login::default() };
        assert_eq!(run(line).1, Command::Login(wanted), "{line}");
    }
}

#[test]
fn two_dashes_end_the_options() {
    for (line, issuer) in [
        ("login -- --device", "--device"),
        ("login -- help", "help"),
        ("login help", "help"),
        ("login -", "-"),
        ("login -- --", "--"),
        ("-- login https://issuer", "https://issuer"),
    ] {
        let wanted = Login { issuer: Some(issuer.to_owned()), ..Login::default() };
        assert_eq!(run(line).1, Command::Login(wanted), "{line}");
    }
}

#[test]
#[rustfmt::skip]
fn a_usage_error_has_a_message_and_names_the_help_to_read() {
    // (line, message, command of the hint)
    let cases = [
        ("tokens", "unknown command 'tokens': did you mean token?", ""),
        ("logni", "unknown command 'logni': did you mean login?", ""),
        ("prof", "unknown command 'prof': did you mean profiles?", ""),
        ("frobnicate", "unknown command 'frobnicate'", ""),
        ("help frobnicate", "unknown command 'frobnicate'", ""),
        ("--help frobnicate", "unknown command 'frobnicate'", ""),
        ("--frob token", "unknown option --frob", ""),
        ("--profil x token", "unknown option --profil: did you mean --profile?", ""),
        ("token --min-tll 3", "unknown option --min-tll: did you mean --min-ttl?", "token "),
        ("token --tiemout=3", "unknown option --tiemout: did you mean --timeout?", "token "),
        ("login --refresh-token=s3cret", "unknown option --refresh-token: did you mean --refresh-token-stdin?", "login "),
        ("--min-ttl 3 token", "option --min-ttl goes after its command: onegrant token --min-ttl", ""),
        ("whoami --device", "whoami has no option --device, but login has", "whoami "),
        ("token -x", "unknown option -x", "token "),
        ("token -vx", "unknown option -x", "token "),
        ("token -min-ttl", "unknown option -m", "token "),
        ("token --min-ttl", "option --min-ttl needs a value: --min-ttl SECONDS", "token "),
        ("token --profile", "option --profile needs a value: --profile NAME", "token "),
        ("status --json=yes", "option --json takes no value", "status "),
        ("status --json=", "option --json takes no value", "status "),
        ("token --min-ttl 1m", "option --min-ttl: not a number of seconds", "token "),
        ("token --min-ttl=-1", "option --min-ttl: not a number of seconds", "token "),
        ("token --min-ttl=", "option --min-ttl: not a number of seconds", "token "),
        ("token --format xml", "option --format: not one of raw, bare, bearer, header, headers-json, json, curl, netrc, exec-credential", "token "),
        ("token --write=", "option --write: is empty", "token "),
        ("login --client-auth jwt", "option --client-auth: not one of none, basic, post, private_key_jwt", "login "),
        ("login --param s3cret", "option --param: not of the form KEY=VALUE", "login "),
        ("login --param =s3cret", "option --param: not of the form KEY=VALUE", "login "),
        ("login --git-host https://git.example", "option --git-host: not HOST, HOST:PORT or, for mail, smtp://HOST:PORT and the like", "login "),
        ("login --git-host smtp://mail.example/inbox", "option --git-host: not HOST, HOST:PORT or, for mail, smtp://HOST:PORT and the like", "login "),
        ("login --git-host imap://mail.example", "option --git-host: imap and pop3 are clear text, which is for this machine only; use imaps or pop3s", "login "),
        ("login --git-host pop3://mail.example:110", "option --git-host: imap and pop3 are clear text, which is for this machine only; use imaps or pop3s", "login "),
        ("git-setup --mail smtp.example --user=", "option --user: empty, or it has a control character", "git-setup "),
        ("login --client-id=", "option --client-id: is empty", "login "),
        ("login --device --refresh-token-stdin", "more than one way to log in: --device or --refresh-token-stdin, not both", "login "),
        ("login --refresh-token-stdin --client-secret-file -", "--refresh-token-stdin and --client-secret-file - cannot both read stdin", "login "),
        ("token s3cret", "token takes only options, but an argument was given", "token "),
        ("login https://issuer s3cret", "login takes only one argument, ADDRESS", "login "),
        ("exec --env X --", "exec needs a command to run: onegrant exec -- CMD", "exec "),
        ("exec --env 1X ls", "option --env: not the name of a variable", "exec "),
        ("exec --env A=B ls", "option --env: not the name of a variable", "exec "),
        ("helper", "helper needs PROTOCOL", "helper "),
        ("migrate", "migrate needs --to", "migrate "),
        ("login --param '--format' --git-host /", "option --param: not of the form KEY=VALUE", "login "),
        ("login --scope \u{1}x --git-host a --param \u{1}x", "option --param: not of the form KEY=VALUE", "login "),
        ("helper npm", "helper: not one of aws, bazel, cargo, docker, gcloud, go, pnpm, terraform", "helper "),
        ("helper aws", "helper aws needs the role to assume: --role-arn ARN", "helper "),
        ("helper aws --role-arn=", "option --role-arn: is empty", "helper "),
        ("helper aws --role-arn arn:aws:iam::1:role/r --duration 1h", "option --duration: not a number of seconds", "helper "),
        ("helper aws --role-arn arn:aws:iam::1:role/r get", "helper aws takes no arguments", "helper "),
        ("helper go --region eu-west-1", "--region is an option of helper aws only", "helper "),
        ("token -- --min-ttl 3", "token takes only options, but an argument was given", "token "),
        ("--profile .x token", "--profile: '.x' is no profile name: letters, digits, \".\", \"_\" and \"-\", no leading dot, 1 to 64 characters", ""),
        ("--timeout 0 token", "--timeout: '0' is not a number of seconds above 0, up to 86400", ""),
        ("--store sftp://h/p token", "--store: 'sftp://h/p': this build knows file:DIR, helper:PROGRAM, etcd://HOST:PORT/PREFIX, kubernetes://NAMESPACE/NAME and broker:unix:PATH", ""),
        ("--store etcd://h:1 token", "--store: 'etcd://h:1': write etcd://HOST:PORT[,HOST:PORT]/PREFIX", ""),
        ("--store etcd://u:secret@h:1/p token", "--store: the address: cannot use the URL: it holds a user name or a password", ""),
    ];
    for (line, message, command) in cases {
        let wanted = Failure::new(Kind::Usage, message).hint(format!("onegrant {command}--help"));
        assert_eq!(failure(line), wanted, "{line}");
    }
}

#[test]
fn arguments_of_the_command_to_run_are_passed_unchanged() {
    let odd = OsStr::from_bytes(b"\xff").to_owned();
    let of = |line: &str| words(line).into_iter().chain([odd.clone()]);
    for (line, command) in [
        ("exec --", ""),
        ("exec", ""),
        ("exec -- ls -l --help --", "ls -l --help --"),
        ("exec ls -l --help -- --env X", "ls -l --help -- --env X"),
        ("--profile p exec -v -- --profile q", "--profile q"),
        ("exec -- -- x", "-- x"),
        ("-- exec -x", "-x"),
    ] {
        match parse(of(line), &at_home()) {
            Ok(Parsed::Run(_, Command::Exec(exec))) => {
                assert_eq!(exec.command, of(command).collect::<Vec<_>>(), "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn other_names_of_the_program_are_short_for_commands() {
    let of = |name: &str| words_of_name(OsStr::new(name)).collect::<Vec<_>>();
    assert_eq!(of("/usr/bin/docker-credential-onegrant"), words("helper docker"));
    assert_eq!(of("onegrant"), words(""));
    for (name, _) in NAMES {
        let line = of(name).into_iter().chain([OsString::from("get")]);
        if name != "git-credential-onegrant" {
            assert!(matches!(parse(line, &at_home()), Ok(Parsed::Run(_, Command::Helper(_)))), "{name}");
        }
    }
    let parsed = parse(words("helper cargo --cargo-plugin --profile p"), &at_home());
    assert!(matches!(parsed, Ok(Parsed::Run(_, Command::Helper(helper))) if helper.cargo_plugin));
}

#[test]
fn help_wins_over_later_usage_errors() {
    for line in ["token --help --frob", "help token x y", "--help token extra", "token -h --min-ttl"] {
        let Ok(Parsed::Print(text)) = parse(words(line), &Environment::default()) else {
            panic!("{line}");
        };
        assert!(text.starts_with("onegrant token: "), "{line}: {text}");
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_named_by_its_position() {
    let odd = || OsStr::from_bytes(b"\xff--help").to_owned();
    let cases: [(Vec<OsString>, u8); 4] = [
        (vec![odd()], 1),
        (vec!["token".into(), odd()], 2),
        (vec!["token".into(), "--write".into(), odd()], 3),
        (vec!["login".into(), "--".into(), odd()], 3),
    ];
    for (arguments, position) in cases {
        let shown = format!("{arguments:?}");
        let failure = parse(arguments, &at_home()).unwrap_err();
        assert_eq!(failure.message, format!("argument {position} is not UTF-8"), "{shown}");
        assert_eq!(failure.kind, Kind::Usage);
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    for argument in ["\u{1b}[31mx", "--\u{1b}[31mx", "-\u{1b}"] {
        let failure = parse([OsString::from(argument)], &at_home()).unwrap_err();
        assert!(!failure.message.contains('\u{1b}'), "{failure}");
    }
}

#[test]
#[rustfmt::skip]
fn options_win_over_variables_and_variables_over_defaults() {
    let home = ("HOME", "/home/me");
    let file = |directory: &str| StoreAddress::File(directory.into());
    let helper = |program: &str| StoreAddress::Helper {
        program: program.into(),
        home: "/home/me/.local/state/onegrant".into(),
    };
    let name = |name: &str| ProfileName::new(name).unwrap();
    let cases: [(&str, Variables<'_>, Globals); 22] = [
        ("token", &[home], defaults()),
        ("token", &[home, ("ONEGRANT_PROFILE", "a"), ("ONEGRANT_TIMEOUT", ".5"), ("ONEGRANT_LOCK", "claim")],
            Globals { profile: name("a"), timeout: Duration::from_millis(500), lock: LockUse::Claim, ..defaults() }),
        ("token --profile b --timeout 2", &[home, ("ONEGRANT_PROFILE", "/"), ("ONEGRANT_TIMEOUT", "x")],
            Globals { profile: name("b"), timeout: Duration::from_secs(2), ..defaults() }),
        ("token", &[home, ("ONEGRANT_PROFILE", ""), ("ONEGRANT_STORE", ""), ("ONEGRANT_HOME", ""), ("ONEGRANT_TIMEOUT", ""), ("ONEGRANT_LOCK", ""), ("ONEGRANT_LOG", ""), ("XDG_STATE_HOME", "")],
            defaults()),
        ("token", &[("XDG_STATE_HOME", "/state"), home], Globals { store: file("/state/onegrant"), ..defaults() }),
        ("token", &[("XDG_STATE_HOME", "state"), home], defaults()),
        ("token", &[("ONEGRANT_HOME", "/og"), ("XDG_STATE_HOME", "/state"), home], Globals { store: file("/og"), ..defaults() }),
        ("token", &[("ONEGRANT_STORE", "file:/s"), ("ONEGRANT_HOME", "relative")], Globals { store: file("/s"), ..defaults() }),
        ("token", &[("ONEGRANT_STORE", "file:///s"), home], Globals { store: file("///s"), ..defaults() }),
        ("token --store file:/t", &[("ONEGRANT_STORE", "helper:x")], Globals { store: file("/t"), ..defaults() }),
        ("token", &[home, ("ONEGRANT_STORE", "helper:pass")], Globals { store: helper("pass"), ..defaults() }),
        ("token --store helper:/b/docker-credential-x", &[home], Globals { store: helper("/b/docker-credential-x"), ..defaults() }),
        ("token --store=file:t", &[], Globals { store: file("t"), ..defaults() }),
        ("token", &[home, ("ONEGRANT_LOCK", "require"), ("ONEGRANT_LOG", "quiet")], Globals { lock: LockUse::Require, ..defaults() }),
        ("token", &[home, ("ONEGRANT_LOCK", "off"), ("ONEGRANT_LOG", "0")], Globals { lock: LockUse::Off, ..defaults() }),
        ("token", &[home, ("ONEGRANT_TRUST_STORE", "1")], Globals { trusts_store: true, ..defaults() }),
        ("token", &[home, ("ONEGRANT_TRUST_STORE", "0")], defaults()),
        ("token -v", &[home, ("ONEGRANT_LOCK", "auto")], Globals { verbosity: 1, ..defaults() }),
        ("token -vvv", &[home], Globals { verbosity: 2, ..defaults() }),
        ("token", &[home, ("ONEGRANT_LOG", "info")], Globals { verbosity: 1, ..defaults() }),
        ("token -v", &[home, ("ONEGRANT_LOG", "2")], Globals { verbosity: 2, ..defaults() }),
        ("token --timeout 86400", &[home, ("ONEGRANT_LOG", "1")], Globals { timeout: Duration::from_secs(86_400), verbosity: 1, ..defaults() }),
    ];
    for (line, variables, mut wanted) in cases {
        let has = |option| line.contains(option);
        wanted.selection = match wanted.profile == ProfileName::default() {
            true => Selection::Default,
            false => Selection::Name,
        };
        wanted.given =
            FromOptions { profile: has("--profile"), store: has("--store"), timeout: has("--timeout") };
        match parse(words(line), &environment(variables)) {
            Ok(Parsed::Run(globals, _)) => assert_eq!(globals, wanted, "{line} {variables:?}"),
            other => panic!("{line} {variables:?}: {other:?}"),
        }
    }
    let refused: [(Variables<'_>, &str); 21] = [
        (&[], "no directory for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute path"),
        (&[("HOME", "me")], "no directory for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute path"),
        (&[("ONEGRANT_HOME", "og"), home], "ONEGRANT_HOME: 'og' is not absolute"),
        (&[("ONEGRANT_STORE", "file:s"), home], "ONEGRANT_STORE: the directory of file:DIR is not absolute"),
        (&[("ONEGRANT_STORE", "file:"), home], "ONEGRANT_STORE: file: without a directory"),
        (&[("ONEGRANT_STORE", "file:~/s"), home], "ONEGRANT_STORE: 'file:~/s': the shell does not expand this ~; write file:$HOME"),
        (&[("ONEGRANT_STORE", "file://host/s"), home], "ONEGRANT_STORE: 'file://host/s' names a host; write file:/DIR"),
        (&[("ONEGRANT_STORE", "helper:"), home], "ONEGRANT_STORE: 'helper:': write helper:NAME for docker-credential-NAME, or helper: and its absolute path"),
        (&[("ONEGRANT_STORE", "helper:a/pass"), home], "ONEGRANT_STORE: 'helper:a/pass': write helper:NAME for docker-credential-NAME, or helper: and its absolute path"),
        (&[("ONEGRANT_STORE", "helper:docker-credential-pass"), home], "ONEGRANT_STORE: 'helper:docker-credential-pass': write helper:NAME for docker-credential-NAME, or helper: and its absolute path"),
        (&[("ONEGRANT_STORE", "helper:/bin/docker-credential-onegrant"), home], "ONEGRANT_STORE: 'helper:/bin/docker-credential-onegrant' is onegrant itself"),
        (&[("ONEGRANT_STORE", "helper:pass")], "no directory for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute path"),
        (&[("ONEGRANT_STORE", "/s"), home], "ONEGRANT_STORE: '/s': this build knows file:DIR, helper:PROGRAM, etcd://HOST:PORT/PREFIX, kubernetes://NAMESPACE/NAME and broker:unix:PATH"),
        (&[("ONEGRANT_PROFILE", "a/b"), home], "ONEGRANT_PROFILE: 'a/b' is no profile name: letters, digits, \".\", \"_\" and \"-\", no leading dot, 1 to 64 characters"),
        (&[("ONEGRANT_TIMEOUT", "1e3"), home], "ONEGRANT_TIMEOUT: '1e3' is not a number of seconds above 0, up to 86400"),
        (&[("ONEGRANT_TIMEOUT", "86401"), home], "ONEGRANT_TIMEOUT: '86401' is not a number of seconds above 0, up to 86400"),
        (&[("ONEGRANT_TIMEOUT", "0.0000000001"), home], "ONEGRANT_TIMEOUT: '0.0000000001' is not a number of seconds above 0, up to 86400"),
        (&[("ONEGRANT_TIMEOUT", "inf"), home], "ONEGRANT_TIMEOUT: 'inf' is not a number of seconds above 0, up to 86400"),
        (&[("ONEGRANT_LOCK", "on"), home], "ONEGRANT_LOCK: not one of auto, require, claim, off"),
        (&[("ONEGRANT_LOG", "trace"), home], "ONEGRANT_LOG: not one of quiet, info, debug"),
        (&[("ONEGRANT_TRUST_STORE", "yes"), home], "ONEGRANT_TRUST_STORE: not one of 0, 1"),
    ];
    for (variables, message) in refused {
        let failure = parse(words("token"), &environment(variables)).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::Usage, message), "{variables:?}");
    }
}

#[test]
fn a_directory_may_have_any_bytes_but_a_profile_may_not() {
    let odd = |prefix: &str| Some(OsStr::from_bytes(&[prefix.as_bytes(), b"\xff"].concat()).to_owned());
    let environment = Environment { store: odd("file:/"), ..Environment::default() };
    let Ok(Parsed::Run(globals, _)) = parse(words("token"), &environment) else { panic!("refused") };
    assert_eq!(globals.store, StoreAddress::File(PathBuf::from(OsStr::from_bytes(b"/\xff"))));
    let environment = Environment { profile: odd(""), ..at_home() };
    assert_eq!(parse(words("token"), &environment).unwrap_err().message, "ONEGRANT_PROFILE: it is not UTF-8");
}

#[test]
fn no_option_of_a_command_hides_a_global_option() {
    let known = Arguments::get_args_info();
    for command in &known.commands {
        for option in command.command.flags.iter().filter(|option| option.long != "--help") {
            let is_same = |own: &FlagInfo<'_>| {
                own.long == option.long || (own.short.is_some() && own.short == option.short)
            };
            assert!(!known.flags.iter().any(is_same), "{} {}", command.name, option.long);
        }
    }
}
