//! The manual pages in `docs/man` match the command line.
//!
//! `BLESS=1 cargo test --test command_line man_pages` renews them.

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo};
use onegrant::cli::{Arguments, help};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The environment variables. No option describes them.
const ENVIRONMENT: [(&str, &str); 21] = [
    ("ONEGRANT_PROFILE", "the profile, without --profile and --for"),
    ("ONEGRANT_FOR", "an address that the resource of the profile covers, without --profile and --for"),
    ("ONEGRANT_STORE", "the store, without --store; DIR of file:DIR must be absolute"),
    ("ONEGRANT_HOME", "the directory of the file store"),
    ("XDG_STATE_HOME", "the directory of the file store is its subdirectory onegrant"),
    ("HOME", "without the two above, the directory is .local/state/onegrant in it"),
    ("ONEGRANT_TIMEOUT", "the deadline in seconds, without --timeout"),
    (
        "ONEGRANT_LOCK",
        "auto (the lock, else the claim), require (the same or exit code 5), claim (no lock call) or off",
    ),
    ("ONEGRANT_LOG", "quiet, info (as -v) or debug (as -vv)"),
    (
        "ONEGRANT_ON_LOGIN_REQUIRED",
        "a command for /bin/sh -c that runs once when a grant has died; stdin: profile, message and hint as JSON",
    ),
    (
        "ONEGRANT_ON_ROTATE",
        "a command for /bin/sh -c that runs when the refresh token was replaced; stdin: the new document",
    ),
    (
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "further certification authorities, beside the system's or the built-in ones",
    ),
    ("ONEGRANT_ETCD_USER", "the user name for etcd"),
    ("ONEGRANT_ETCD_PASSWORD", "the password of that user"),
    ("ONEGRANT_ETCD_CERT", "the client certificate for etcd: a PEM file"),
    ("ONEGRANT_ETCD_KEY", "its private key, if that is in another file"),
    ("ONEGRANT_KUBERNETES_API", "the URL of the Kubernetes server, outside of a pod"),
    (
        "ONEGRANT_KUBERNETES_TOKEN_FILE",
        "a file with the token for that server; in a pod, the token of the service account is used",
    ),
    (
        "ONEGRANT_TRUST_STORE",
        "1: a grant in etcd or Kubernetes may name a command to run, and files and variables to read",
    ),
    ("ONEGRANT_BROKER_KEY", "the key of a broker; exec --serve gives it to its command"),
    ("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY", "the proxies"),
];

const FILES: [(&str, &str); 2] = [
    ("PROFILE.json", "the document of a profile, mode 0600: the server, the client and the session"),
    ("PROFILE.lock", "the lock of the profile; it is never removed"),
];

/// Text for roff. No line becomes a request, and a hyphen stays a hyphen.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    let text = text.replace('~', "\\(ti").replace('^', "\\(ha").replace('…', "...");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

fn paragraph(page: &mut String, name: &str, description: &str) {
    writeln!(page, ".TP\n.B {}\n{}", escaped(name), escaped(description)).unwrap();
}

fn section(page: &mut String, name: &str) {
    writeln!(page, ".SH {name}").unwrap();
}

fn options(page: &mut String, flags: &[FlagInfo<'_>]) {
    for (name, description) in help::options(flags) {
        paragraph(page, &name, description);
    }
}

fn page(command: &CommandInfoWithArgs, program: Option<&CommandInfoWithArgs>) -> String {
    let (name, usage) = match program {
        Some(_) => (format!("onegrant-{}", command.name), help::usage(command)),
        None => ("onegrant".to_owned(), "onegrant [OPTION]... COMMAND ...".to_owned()),
    };
    let mut page = format!(".TH {} 1 \"\" \"onegrant {}\"\n", name.to_uppercase(), env!("CARGO_PKG_VERSION"));
    section(&mut page, "NAME");
    writeln!(page, "{} \\- {}", escaped(&name), escaped(command.description)).unwrap();
    section(&mut page, "SYNOPSIS");
    writeln!(page, "{}", escaped(&usage)).unwrap();
    if !command.positionals.is_empty() {
        section(&mut page, "ARGUMENTS");
        for positional in command.positionals {
            paragraph(&mut page, positional.name, positional.description);
        }
    }
    if program.is_none() {
        section(&mut page, "COMMANDS");
        for command in &command.commands {
            paragraph(&mut page, command.name, command.command.description);
        }
    }
    section(&mut page, "OPTIONS");
    options(&mut page, command.flags);
    if program.is_some() {
        writeln!(page, ".P\nThe options of every command are in onegrant(1).").unwrap();
    }
    let notes: Vec<&&str> = command.notes.iter().filter(|note| !note.starts_with("Environment: ")).collect();
    if !notes.is_empty() {
        section(&mut page, "NOTES");
        for note in notes {
            writeln!(page, ".P\n{}", escaped(note)).unwrap();
        }
    }
    section(&mut page, "EXAMPLES");
    for example in command.examples {
        writeln!(page, ".P\n.nf").unwrap();
        example.lines().for_each(|line| writeln!(page, "{}", escaped(line)).unwrap());
        writeln!(page, ".fi").unwrap();
    }
    section(&mut page, "EXIT STATUS");
    for code in command.error_codes {
        paragraph(&mut page, &code.code.to_string(), code.description);
    }
    if program.is_none() {
        section(&mut page, "ENVIRONMENT");
        ENVIRONMENT.iter().for_each(|(name, description)| paragraph(&mut page, name, description));
        section(&mut page, "FILES");
        FILES.iter().for_each(|(name, description)| paragraph(&mut page, name, description));
    }
    section(&mut page, "SEE ALSO");
    let others: Vec<String> = match program {
        Some(_) => vec!["onegrant(1)".to_owned()],
        None => command.commands.iter().map(|other| format!("onegrant-{}(1)", other.name)).collect(),
    };
    writeln!(page, "{}", escaped(&others.join(", "))).unwrap();
    // The first paragraph of a section needs no request.
    let sections = ["NOTES", "EXAMPLES"].map(|name| format!(".SH {name}\n"));
    sections.iter().fold(page, |page, section| page.replace(&format!("{section}.P\n"), section))
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man")
}

#[test]
fn the_manual_pages_match_the_command_line() {
    let program = Arguments::get_args_info();
    let mut wanted = vec![("onegrant.1".to_owned(), page(&program, None))];
    for command in &program.commands {
        wanted.push((format!("onegrant-{}.1", command.name), page(&command.command, Some(&program))));
    }
    wanted.sort();
    if std::env::var_os("BLESS").is_some() {
        let _ = fs::remove_dir_all(directory());
        fs::create_dir_all(directory()).unwrap();
        for (name, text) in &wanted {
            fs::write(directory().join(name), text).unwrap();
        }
    }
    let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap());
    let mut there: Vec<(String, String)> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    there.sort();
    let names = |pages: &[(String, String)]| pages.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&there), names(&wanted));
    for ((name, there), (_, wanted)) in there.iter().zip(&wanted) {
        assert_eq!(there, wanted, "docs/man/{name}: BLESS=1 cargo test --test command_line man_pages");
    }
}

/// The manual explains each variable that the help of the program names.
#[test]
fn every_variable_is_in_the_manual() {
    let program = Arguments::get_args_info();
    let words = program
        .notes
        .iter()
        .flat_map(|note| note.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_'));
    let mut count = 0;
    for variable in words.filter(|word| word.starts_with("ONEGRANT_")) {
        assert!(ENVIRONMENT.iter().any(|(name, _)| *name == variable), "{variable}");
        count += 1;
    }
    assert!(count >= 6, "this test finds only {count} variables in the help");
}
