//! The scripts that complete the command line in a shell, made from argh's description of it.
//!
//! Each script is a fixed frame, into which the commands, options and values are written. It asks `onegrant profiles` for
//! the profiles when it needs them.

mod bash;
mod fish;
mod zsh;

use super::values::{Shell, words};
use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind};

/// The script for a shell. Not inlined: the caller is on the hot path of `token`.
#[inline(never)]
pub fn script(program: &CommandInfoWithArgs, shell: Shell) -> String {
    match shell {
        Shell::Bash => bash::script(program),
        Shell::Zsh => zsh::script(program),
        Shell::Fish => fish::script(program),
    }
}

/// What completes a value.
enum Values {
    /// These words, separated by spaces. A word that ends with a colon is the beginning of a value; a path follows `file:`.
    Words(String),
    /// A path.
    Files,
    /// A profile of the store.
    Profiles,
    /// A program and its arguments.
    Programs,
    /// The shell cannot know.
    Nothing,
}

/// What completes the value that the help calls `name`. `option` is empty for an argument.
fn values(option: &str, name: &str) -> Values {
    match (option, name, words(name)) {
        ("--profile", ..) => Values::Profiles,
        ("--store", ..) => Values::Words("file:".to_owned()),
        (_, "FILE", _) => Values::Files,
        (_, "CMD", _) => Values::Programs,
        (.., words) if words.is_empty() => Values::Nothing,
        (.., words) => Values::Words(words.join(" ")),
    }
}

/// The name of the option's value, if it takes one.
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

/// The options without `--help`, which argh adds to every command.
fn own(command: &CommandInfoWithArgs) -> impl Iterator<Item = &'static FlagInfo<'static>> {
    command.flags.iter().filter(|flag| flag.long != "--help" && !flag.hidden)
}

/// The letter of an option. argh describes `--help` without its letter.
fn letter(flag: &FlagInfo<'_>) -> Option<char> {
    flag.short.or((flag.long == "--help").then_some('h'))
}

/// The frame with each `@NAME@` replaced.
fn fill(frame: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(frame.to_owned(), |text, (name, part)| text.replace(&format!("@{name}@"), part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition::Arguments;
    use argh::{ArgsInfo, FromArgs};

    /// The scripts find the kind of a value by its option only.
    #[test]
    fn an_option_has_the_same_kind_of_value_in_every_command() {
        let program = Arguments::get_args_info();
        let all = || own(&program).chain(commands(&program).flat_map(|(_, command)| own(command)));
        for flag in all() {
            for other in all().filter(|other| other.long == flag.long) {
                assert_eq!(value_name(flag), value_name(other), "{}", flag.long);
            }
        }
    }

    #[test]
    fn the_parser_accepts_every_word_that_is_offered() {
        for (command, option, name) in [
            ("token", "--format", "FORMAT"),
            ("login", "--client-auth", "METHOD"),
            ("login", "--subject-token-type", "TYPE"),
        ] {
            let accepts = |word: &str| Arguments::from_args(&["onegrant"], &[command, option, word]).is_ok();
            assert!(words(name).into_iter().all(accepts) && !words(name).is_empty(), "{option}");
            assert!(!accepts("nonsense"), "{option}");
        }
        for shell in words("SHELL") {
            assert!(Arguments::from_args(&["onegrant"], &["completions", shell]).is_ok(), "{shell}");
        }
        let providers = words("ADDRESS");
        assert!(providers.into_iter().all(|name| crate::protocol::providers::named(name).is_some()));
    }
}
