//! The shells complete the command line: everything that the real shell offers after a line.
//!
//! bash is everywhere. `.ci/run completions` installs zsh and fish, and runs the tests that need them.

use crate::support::{Home, Ran, onegrant, run};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Completes the last word of a line, which is `$1`; onegrant is on the path, and its script in the file `script`.
fn offered(shell: &str, program: &str, line: &str) -> Vec<String> {
    let home = Home::new();
    let work = json!({
        "version": 1, "token_endpoint": "https://as.example/token", "client_id": "c",
        "resource": ["https://wiki.example/mcp"], "session": null,
    });
    for (profile, document) in [("default", "{}".to_owned()), ("work", work.to_string())] {
        fs::write(home.state.join(format!("{profile}.json")), document).unwrap();
    }
    fs::create_dir(home.root.join("folder")).unwrap();
    fs::write(home.root.join("token file"), "").unwrap();
    let script = run(&mut onegrant(&["completions", shell]));
    assert_eq!((script.code, script.stderr.as_str()), (0, ""));
    fs::write(home.root.join("script"), script.stdout).unwrap();
    let place = Path::new(env!("CARGO_BIN_EXE_onegrant")).parent().unwrap();
    let mut command = Command::new(shell);
    match shell {
        "zsh" => command.args(["-f", "-c", program, "zsh", line]),
        "bash" => command.args(["--norc", "-c", program, "bash", line]),
        _ => command.args(["--no-config", "-c", program, line]),
    };
    command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", place.display()));
    command.env("HOME", &home.root).env("ONEGRANT_HOME", &home.state).env("TERM", "dumb");
    command.current_dir(&home.root).stdin(std::process::Stdio::null());
    let ran = run(&mut command);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{shell}: {line}");
    let mut words: Vec<String> =
        ran.stdout.lines().filter(|word| !word.is_empty()).map(str::to_owned).collect();
    words.sort();
    words.dedup();
    words
}

/// Splits the line like readline, where `=` and `:` are separate words.
const BASH: &str = r#"
source ./script
rest=$1 COMP_WORDS=('')
while [[ $rest ]]; do
    letter=${rest:0:1} rest=${rest:1} last=$((${#COMP_WORDS[@]} - 1))
    case $letter in
    ' ') COMP_WORDS+=('') ;;
    [=:]) if [[ ${COMP_WORDS[last]} ]]; then COMP_WORDS+=("$letter"); else COMP_WORDS[last]=$letter; fi ;;
    *) if [[ ${COMP_WORDS[last]} == [=:] ]]; then COMP_WORDS+=("$letter"); else COMP_WORDS[last]+=$letter; fi ;;
    esac
done
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_onegrant
printf '%s\n' "${COMPREPLY[@]}"
"#;

const FISH: &str = "source ./script; complete -C $argv[1] | string replace -r '\\t.*' ''; true";

/// zsh completes only in a terminal; `zpty` is one. What `compadd` offers for the word is written to a file.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
print -r >./settings '
PS1= PS2=
autoload -Uz compinit
compinit -u -D
source ./script
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    print -rl -- $hits >>./offered
    builtin compadd "$@"
}
written() { print -r -- DONE }
comppostfuncs=(written)
zstyle ":completion:*" list-separator ""
print REA""DY
'
zpty -w shell 'source ./settings'
zpty -r shell heard '*READY*'
zpty -w -n shell "$1"$'\t'
zpty -r shell heard '*DONE*'
zpty -d shell
[[ ! -e ./offered ]] || cat ./offered
"#;

#[track_caller]
fn assert_offers(shell: &str, program: &str, line: &str, wanted: &str) {
    let wanted: Vec<String> = wanted.lines().map(str::to_owned).collect();
    assert_eq!(offered(shell, program, line), wanted, "{shell}: {line}");
}

/// What every shell offers. The test of each shell has its paths and prefixes.
const LINES: [(&str, &str); 10] = [
    ("onegrant tok", "token"),
    ("onegrant --profile work tok", "token"),
    ("onegrant --profile=work tok", "token"),
    ("onegrant --profile w", "work"),
    ("onegrant token --profile w", "work"),
    (
        "onegrant token --format ",
        "bare\nbearer\ncurl\nexec-credential\nheader\nheaders-json\njson\nnetrc\nraw",
    ),
    ("onegrant login --client-auth p", "post\nprivate_key_jwt"),
    ("onegrant completions ", "bash\nfish\nzsh"),
    ("onegrant helper ", "aws\nbazel\ncargo\ndocker\ngcloud\ngo\npnpm\nterraform"),
    ("onegrant git-credential e", "erase"),
];

#[test]
fn bash_completes_commands_options_values_profiles_and_paths() {
    for (line, wanted) in LINES {
        assert_offers("bash", BASH, line, wanted);
    }
    let cases = [
        (
            "onegrant status --",
            "--for\n--help\n--history\n--json\n--profile\n--store\n--timeout\n--verbose\n--version",
        ),
        ("onegrant --min", ""),
        ("onegrant token --min", "--min-ttl"),
        ("onegrant token --min-ttl ", ""),
        ("onegrant help refr", "refresh"),
        ("onegrant login git", "gitea\ngithub\ngitlab"),
        ("onegrant login github ", ""),
        ("onegrant token --write t", "token file"),
        ("onegrant token --write=f", "folder"),
        ("onegrant token --format=h", "header\nheaders-json"),
        ("onegrant --store f", "file:"),
        ("onegrant --store file:fo", "folder"),
        ("onegrant --store=file:fo", "folder"),
        ("onegrant login --subject-token file:t", "token file"),
        ("onegrant login --subject-token e", "env:"),
    ];
    for (line, wanted) in cases {
        assert_offers("bash", BASH, line, wanted);
    }
}

/// If `COMP_WORDBREAKS` is set without `:` and `=`, the whole word is replaced.
#[test]
fn bash_replaces_the_whole_word_if_it_does_not_split_it() {
    let whole =
        BASH.replace("[=:]) if", "nothing) if").replace("== [=:] ]]; then COMP", "== nothing ]]; then COMP");
    assert_offers("bash", &whole, "onegrant token --format=h", "--format=header\n--format=headers-json");
    assert_offers("bash", &whole, "onegrant --store=file:fo", "--store=file:folder");
}

#[test]
#[ignore = "needs fish: .ci/run completions"]
fn fish_completes_commands_options_values_profiles_and_paths() {
    for (line, wanted) in LINES {
        assert_offers("fish", FISH, line, wanted);
    }
    let cases = [
        ("onegrant token --mi", "--min-ttl"),
        ("onegrant --mi", ""),
        ("onegrant token --js", ""),
        ("onegrant help refr", "refresh"),
        ("onegrant login gith", "github"),
        ("onegrant token --write fo", "folder/"),
        ("onegrant --store f", "file:"),
        ("onegrant --store file:fo", "file:folder/"),
        ("onegrant token --format=h", "--format=header\n--format=headers-json"),
    ];
    for (line, wanted) in cases {
        assert_offers("fish", FISH, line, wanted);
    }
}

#[test]
#[ignore = "needs zsh: .ci/run completions"]
fn zsh_completes_commands_options_values_profiles_and_paths() {
    for (line, wanted) in LINES {
        assert_offers("zsh", ZSH, line, wanted);
    }
    let cases = [
        ("onegrant token --mi", "--min-ttl"),
        ("onegrant --mi", ""),
        ("onegrant token --js", ""),
        ("onegrant login gith", "github"),
        ("onegrant token --write fo", "folder"),
        ("onegrant --store f", "file:"),
        ("onegrant --store file:fo", "folder"),
        ("onegrant token --format=h", "header\nheaders-json"),
    ];
    for (line, wanted) in cases {
        assert_offers("zsh", ZSH, line, wanted);
    }
}

#[test]
fn an_unknown_shell_ends_with_2() {
    let text = "onegrant: completions: not one of bash, zsh, fish\nhint: onegrant completions --help\n";
    assert_eq!(run(&mut onegrant(&["completions", "tcsh"])), Ran::failed(2, text));
    let text = "onegrant: completions needs SHELL\nhint: onegrant completions --help\n";
    assert_eq!(run(&mut onegrant(&["completions"])), Ran::failed(2, text));
}

/// An incomplete script must not look complete.
#[test]
fn a_script_that_cannot_be_written_is_a_failure() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = onegrant(&["completions", "bash"]);
    assert_eq!(command.stdout(full).stderr(std::process::Stdio::null()).status().unwrap().code(), Some(4));
}
