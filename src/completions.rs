//! What makes a shell complete the command line, from argh's own description of it.
//!
//! Each script is a fixed frame, into which the commands, options and values are written. Profiles are asked for when
//! they are needed: `onegrant profiles`.

use crate::cli::{self, Shell};
use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

/// The script for a shell. Never a part of its caller, through which every run of `token` goes.
#[inline(never)]
pub fn script(program: &CommandInfoWithArgs, shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(program),
        Shell::Zsh => zsh(program),
        Shell::Fish => fish(program),
    }
}

/// What a value is completed with.
enum Values {
    /// One of these. One with a colon at its end goes on; behind `file:` with a path.
    Words(String),
    /// A path.
    Files,
    /// A profile of the store.
    Profiles,
    /// A program, and whatever it takes.
    Programs,
    /// Nobody knows.
    Nothing,
}

/// `name` is what the help calls the value; `option` is empty for an argument.
fn values(option: &str, name: &str) -> Values {
    match (option, name, cli::words(name)) {
        ("--profile", ..) => Values::Profiles,
        ("--store", ..) => Values::Words("file:".to_owned()),
        (_, "FILE" | "PATH" | "DIR", _) => Values::Files,
        (_, "CMD", _) => Values::Programs,
        (.., words) if words.is_empty() => Values::Nothing,
        (.., words) => Values::Words(words.join(" ")),
    }
}

/// What the option's value is called, where it takes one.
fn value_name<'a>(flag: &FlagInfo<'a>) -> Option<&'a str> {
    match flag.kind {
        FlagInfoKind::Option { arg_name } => Some(arg_name),
        FlagInfoKind::Switch => None,
    }
}

/// All commands, each with its name.
fn commands(program: &CommandInfoWithArgs) -> impl Iterator<Item = (&str, &CommandInfoWithArgs)> {
    program.commands.iter().map(|command| (command.name, &command.command))
}

/// The options of the command alone; argh has a `--help` for each.
fn own(command: &CommandInfoWithArgs) -> impl Iterator<Item = &'static FlagInfo<'static>> {
    command.flags.iter().filter(|flag| flag.long != "--help" && !flag.hidden)
}

fn longs<'a>(flags: impl Iterator<Item = &'a FlagInfo<'a>>) -> String {
    flags.map(|flag| flag.long).collect::<Vec<_>>().join(" ")
}

/// The frame with each `@NAME@` replaced.
fn fill(frame: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(frame.to_owned(), |text, (name, part)| text.replace(&format!("@{name}@"), part))
}

/// Readline's word is what stands behind the last `=` or `:`, so the words are put together first, and what it has
/// already is cut off each reply.
const BASH: &str = r#"# bash completion of onegrant: onegrant completions bash
_onegrant() {
    local IFS=$' \t\n' i last word words=() option= command= arguments=0 ended= list= kind=words before= cut
    local takes=' @TAKES@ '
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]} last=$((${#words[@]} - 1))
        if [[ $i -gt 1 && ($word == [=:]* || ${COMP_WORDS[i - 1]} == [=:]) ]]; then
            words[last]+=$word
        else
            words+=("$word")
        fi
    done
    last=$((${#words[@]} - 1))
    for ((i = 0; i < last; i++)); do
        word=${words[i]}
        if [[ $option ]]; then
            option=
        elif [[ $ended || $word != -* ]]; then
            if [[ $command ]]; then
                arguments=$((arguments + 1))
            elif [[ $word != help ]]; then
                command=$word
            fi
        elif [[ $word == -- ]]; then
            ended=yes
        elif [[ $takes == *" $word "* ]]; then
            option=$word
        fi
    done
    word=${words[last]} cut=${COMP_WORDS[COMP_CWORD]}
    [[ $cut == [=:] ]] && cut=
    cut=${word%"$cut"}
    if [[ ! $option && ! $ended && $word == --*=* ]]; then
        option=${word%%=*} before=${word%%=*}= word=${word#*=}
    fi
    if [[ $option ]]; then
        case $option in
@VALUES@        *) return ;;
        esac
    elif [[ ! $ended && $word == -* ]]; then
        list='@GLOBALS@'
        case $command in
@OPTIONS@        esac
    elif [[ ! $command ]]; then
        list='@COMMANDS@'
    else
        case "$command $arguments" in
@ARGUMENTS@        *) return ;;
        esac
    fi
    if [[ " $list" == *' file:'* && $word == file:* ]]; then
        kind=files before+=file: word=${word#file:}
    fi
    COMPREPLY=()
    while IFS= read -r i; do
        i=$before$i
        [[ $i == *: ]] && compopt -o nospace 2>/dev/null
        COMPREPLY+=("${i#"$cut"}")
    done < <(
        case $kind in
        files) compgen -f -- "$word" ;;
        programs) compgen -c -- "$word" ;;
        *) compgen -W "$list" -- "$word" ;;
        esac
    )
    [[ $kind == files ]] && compopt -o filenames 2>/dev/null
}
complete -F _onegrant onegrant
"#;

fn bash(program: &CommandInfoWithArgs) -> String {
    let answer = |values| match values {
        Values::Words(words) => Some(format!("list='{words}'")),
        Values::Files => Some("kind=files".to_owned()),
        Values::Profiles => Some("list=$(command onegrant profiles 2>/dev/null)".to_owned()),
        Values::Programs => Some("kind=programs".to_owned()),
        Values::Nothing => None,
    };
    let (mut takes, mut values_of, mut options, mut arguments) =
        (Vec::new(), String::new(), String::new(), String::new());
    let all = own(program).chain(commands(program).flat_map(|(_, command)| own(command)));
    for (flag, name) in all.filter_map(|flag| Some((flag, value_name(flag)?))) {
        if takes.contains(&flag.long) {
            continue;
        }
        takes.push(flag.long);
        if let Some(answer) = answer(values(flag.long, name)) {
            values_of.push_str(&format!("        {}) {answer} ;;\n", flag.long));
        }
    }
    for (name, command) in commands(program) {
        options.push_str(&format!("        {name}) list+=' {}' ;;\n", longs(own(command))));
        for (number, positional) in command.positionals.iter().enumerate() {
            if let Some(answer) = answer(values("", positional.name)) {
                arguments.push_str(&format!("        '{name} {number}') {answer} ;;\n"));
            }
            if let Values::Programs = values("", positional.name) {
                arguments.push_str(&format!("        '{name} '*) kind=files ;;\n"));
            }
        }
    }
    let names: Vec<&str> = commands(program).map(|(name, _)| name).collect();
    let parts = [
        ("TAKES", takes.join(" ")),
        ("VALUES", values_of),
        ("GLOBALS", longs(program.flags.iter())),
        ("OPTIONS", options),
        ("COMMANDS", names.join(" ")),
        ("ARGUMENTS", arguments),
    ];
    fill(BASH, &parts.each_ref().map(|(name, part)| (*name, part.as_str())))
}

const ZSH: &str = r#"#compdef onegrant
# zsh completion of onegrant: onegrant completions zsh
_onegrant_profiles() {
    compadd -- ${(f)"$(command onegrant profiles 2>/dev/null)"}
}
_onegrant_words() {
    if compset -P 'file:'; then
        _files
    else
        compadd -S '' -- ${(M)@:#*:}
        compadd -- ${@:#*:}
    fi
}
_onegrant() {
    local curcontext=$curcontext state line ret=1
    local -a globals names
    globals=(
@GLOBALS@    )
    names=(
@COMMANDS@    )
    _arguments -C -s -S : $globals ': :->command' '*:: :->rest' && ret=0
    case $state in
    command) _describe command names && ret=0 ;;
    rest)
        case $line[1] in
@OPTIONS@        esac
        ;;
    esac
    return ret
}
if [[ $funcstack[1] == _onegrant ]]; then
    _onegrant "$@"
else
    compdef _onegrant onegrant
fi
"#;

fn zsh(program: &CommandInfoWithArgs) -> String {
    let quoted = |text: &str| {
        ['\\', '[', ']', ':']
            .iter()
            .fold(text.to_owned(), |text, mark| text.replace(*mark, &format!("\\{mark}")))
    };
    let action = |option: &str, name: &str| match values(option, name) {
        Values::Words(words) if words.contains(':') => {
            format!("{{_onegrant_words {}}}", words.replace(':', "\\:"))
        }
        Values::Words(words) => format!("({words})"),
        Values::Files => "_files".to_owned(),
        Values::Profiles => "{_onegrant_profiles}".to_owned(),
        Values::Programs => " _normal".to_owned(),
        Values::Nothing => " ".to_owned(),
    };
    let line = |text: &str| format!("            '{}'\n", text.replace('\'', r"'\''"));
    let option = |flag: &FlagInfo<'_>| {
        let again =
            if flag.optionality == Optionality::Repeating || flag.long == "--verbose" { "*" } else { "" };
        let description = quoted(flag.description);
        let mut text = match value_name(flag) {
            Some(name) => {
                line(&format!("{again}{}=[{description}]:{name}:{}", flag.long, action(flag.long, name)))
            }
            None => line(&format!("{again}{}[{description}]", flag.long)),
        };
        // argh describes `--help` without its letter.
        if let Some(letter) = flag.short.or((flag.long == "--help").then_some('h')) {
            text.push_str(&line(&format!("{again}-{letter}[{description}]")));
        }
        text
    };
    let (mut names, mut options) = (String::new(), String::new());
    for (name, command) in commands(program) {
        names.push_str(&line(&format!("{name}:{}", command.description)));
        let mut all: String = own(command).map(option).collect();
        for positional in command.positionals {
            let many = match positional.optionality {
                Optionality::Repeating | Optionality::Greedy => "*::",
                _ => "",
            };
            all.push_str(&line(&format!("{many}:{}:{}", positional.name, action("", positional.name))));
        }
        options.push_str(&format!("        {name})\n            local -a own=(\n{all}            )\n            _arguments -s -S : $globals $own && ret=0\n            ;;\n"));
    }
    let globals: String = program.flags.iter().map(option).collect();
    fill(ZSH, &[("GLOBALS", &globals), ("COMMANDS", &names), ("OPTIONS", &options)])
}

const FISH: &str = r#"# fish completion of onegrant: onegrant completions fish
function __onegrant_at
    set -l wanted $argv[1]
    set -l words (commandline -opc)
    set -e words[1]
    test "$words[1]" = help; and set -e words[1]
    argparse -s @SPECIFICATIONS@ -- $words 2>/dev/null
    test "$argv[1]" = "$wanted"
end
function __onegrant_words
    set -l word (commandline -ct | string replace -r '^--[^=]*=' '')
    if string match -q 'file:*' -- $word
        printf 'file:%s\n' (__fish_complete_path (string replace 'file:' '' -- $word))
    else
        printf '%s\n' $argv
    end
end
complete -c onegrant -f
"#;

fn fish(program: &CommandInfoWithArgs) -> String {
    let quoted = |text: &str| text.replace('\\', r"\\").replace('\'', r"\'");
    let action = |option: &str, name: &str| match values(option, name) {
        Values::Words(words) if words.contains(':') => format!(" -x -a '(__onegrant_words {words})'"),
        Values::Words(words) => format!(" -x -a '{words}'"),
        Values::Files => " -r -F".to_owned(),
        Values::Profiles => " -x -a '(command onegrant profiles 2>/dev/null)'".to_owned(),
        Values::Programs => " -F -a '(__fish_complete_command)'".to_owned(),
        Values::Nothing => " -x".to_owned(),
    };
    let option = |at: &str, flag: &FlagInfo<'_>| {
        let long = flag.long.trim_start_matches('-');
        let letter = flag.short.or((flag.long == "--help").then_some('h'));
        let letter = letter.map(|letter| format!(" -s {letter}")).unwrap_or_default();
        let action = value_name(flag).map(|name| action(flag.long, name)).unwrap_or_default();
        format!("complete -c onegrant{at} -l {long}{letter}{action} -d '{}'\n", quoted(flag.description))
    };
    let specification = |flag: &FlagInfo<'_>| {
        let letter = flag.short.or((flag.long == "--help").then_some('h'));
        let letter = letter.map(|letter| format!("{letter}/")).unwrap_or_default();
        let value = if value_name(flag).is_some() { "=" } else { "" };
        format!("{letter}{}{value}", flag.long.trim_start_matches('-'))
    };
    let specifications: Vec<String> = program.flags.iter().map(specification).collect();
    let mut text = fill(FISH, &[("SPECIFICATIONS", &specifications.join(" "))]);
    text.extend(program.flags.iter().map(|flag| option("", flag)));
    for (name, command) in commands(program) {
        let description = quoted(command.description);
        text.push_str(&format!(
            "complete -c onegrant -n '__onegrant_at \"\"' -a {name} -d '{description}'\n"
        ));
        let at = format!(" -n '__onegrant_at {name}'");
        text.extend(own(command).map(|flag| option(&at, flag)));
        for positional in command.positionals {
            let action = action("", positional.name);
            text.push_str(&format!("complete -c onegrant{at}{action}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Arguments;
    use argh::{ArgsInfo, FromArgs};

    /// The scripts find the value's kind by the option alone.
    #[test]
    fn an_option_means_the_same_wherever_it_stands() {
        let program = Arguments::get_args_info();
        let all = || own(&program).chain(commands(&program).flat_map(|(_, command)| own(command)));
        for flag in all() {
            for other in all().filter(|other| other.long == flag.long) {
                assert_eq!(value_name(flag), value_name(other), "{}", flag.long);
            }
        }
    }

    #[test]
    fn the_parser_takes_every_word_that_is_offered_and_says_so_of_no_other() {
        for (command, option, name) in [
            ("token", "--format", "FORMAT"),
            ("login", "--client-auth", "METHOD"),
            ("login", "--subject-token-type", "TYPE"),
        ] {
            let accepts = |word: &str| Arguments::from_args(&["onegrant"], &[command, option, word]).is_ok();
            assert!(cli::words(name).into_iter().all(accepts) && !cli::words(name).is_empty(), "{option}");
            assert!(!accepts("nonsense"), "{option}");
        }
        for shell in cli::words("SHELL") {
            assert!(Arguments::from_args(&["onegrant"], &["completions", shell]).is_ok(), "{shell}");
        }
        let issuers = cli::words("ISSUER");
        assert!(issuers.into_iter().all(|name| crate::protocol::providers::named(name).is_some()));
    }
}
