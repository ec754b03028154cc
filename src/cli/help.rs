//! The text of `--help`, from argh's own description of the command line.
//!
//! argh's own rendering leaves out the names of values and puts all options into one usage line.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

/// Columns of a line.
const WIDTH: usize = 80;

/// The column of the descriptions. A longer option has a line of its own.
const COLUMN: usize = 25;

/// The help of the program.
pub fn of_program(program: &CommandInfoWithArgs) -> String {
    let mut text = format!("onegrant: {}\n\nUsage: onegrant [OPTION]... COMMAND ...\n", program.description);
    text.push_str("\nStart here:\n");
    lines(&mut text, program.examples);
    text.push_str("\nCommands:\n");
    for command in &program.commands {
        entry(&mut text, command.name, command.command.description);
    }
    text.push_str("\nOptions, before or after the command:\n");
    options(program.flags).for_each(|(name, description)| entry(&mut text, &name, description));
    ending(&mut text, program);
    text
}

/// The help of one command.
pub fn of_command(command: &CommandInfoWithArgs) -> String {
    let mut text =
        format!("onegrant {}: {}\n\nUsage: {}\n", command.name, command.description, usage(command));
    if !command.positionals.is_empty() {
        text.push_str("\nArguments:\n");
        for positional in command.positionals {
            entry(&mut text, positional.name, positional.description);
        }
    }
    text.push_str("\nOptions (for those of every command: onegrant --help):\n");
    options(command.flags).for_each(|(name, description)| entry(&mut text, &name, description));
    text.push_str(if command.examples.len() == 1 { "\nExample:\n" } else { "\nExamples:\n" });
    lines(&mut text, command.examples);
    ending(&mut text, command);
    text
}

/// Notes and exit codes.
fn ending(text: &mut String, command: &CommandInfoWithArgs) {
    for note in command.notes {
        text.push('\n');
        wrap(text, note, 0);
    }
    text.push_str("\nExit codes:\n");
    let width = command.error_codes.iter().map(|code| code.code.to_string().len()).max().unwrap_or(0);
    for code in command.error_codes {
        text.push_str(&format!("  {:>width$}  ", code.code));
        wrap(text, code.description, width + 4);
    }
}

/// Examples; each may have several lines.
fn lines(text: &mut String, examples: &[&str]) {
    for line in examples.iter().flat_map(|example| example.lines()) {
        text.extend(["  ", line, "\n"]);
    }
}

/// The usage line of a command.
pub fn usage(command: &CommandInfoWithArgs) -> String {
    let mut text = format!("onegrant {}", command.name);
    // Every command has at least `--help`.
    if command.flags.len() > 1 {
        text.push_str(" [OPTION]...");
    }
    for positional in command.positionals {
        match positional.optionality {
            Optionality::Required => text.extend([" ", positional.name]),
            Optionality::Optional => text.extend([" [", positional.name, "]"]),
            Optionality::Repeating | Optionality::Greedy => text.extend([" [", positional.name, "]..."]),
        }
    }
    text
}

/// Each option (its letter, name and value) with its description. `--help` is last: argh describes it first, and without
/// its letter.
pub fn options<'a>(flags: &'a [FlagInfo<'a>]) -> impl Iterator<Item = (String, &'a str)> {
    let is_help = |flag: &&FlagInfo<'_>| flag.long == "--help";
    let shown = move |flag: &&FlagInfo<'_>| !is_help(flag) && !flag.hidden;
    let others = flags.iter().filter(shown).map(|flag| {
        let mut name = flag.short.map_or_else(String::new, |short| format!("-{short}, "));
        name.push_str(flag.long);
        if let FlagInfoKind::Option { arg_name } = flag.kind {
            name.extend([" ", arg_name]);
        }
        (name, flag.description)
    });
    let help = flags.iter().filter(is_help).map(|_| ("-h, --help".to_owned(), "print this help"));
    others.chain(help)
}

/// A name and its description.
fn entry(text: &mut String, name: &str, description: &str) {
    let width = 2 + name.chars().count();
    text.extend(["  ", name]);
    if width + 2 > COLUMN {
        text.push('\n');
        text.push_str(&" ".repeat(COLUMN));
    } else {
        text.push_str(&" ".repeat(COLUMN.saturating_sub(width)));
    }
    wrap(text, description, COLUMN);
}

/// Appends words. The first line continues the text, which ends at column `indent`.
fn wrap(text: &mut String, words: &str, indent: usize) {
    let mut column = indent;
    for (number, word) in words.split_whitespace().enumerate() {
        let length = word.chars().count();
        if number > 0 {
            if column + 1 + length > WIDTH {
                text.push('\n');
                text.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                text.push(' ');
                column += 1;
            }
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}
