//! Hands the words to argh, which fills the types of [`super::definition`].

use super::definition::Arguments;
use super::reader::CommandLine;
use super::values::reason_in;
use crate::error::{Failure, Kind};
use argh::FromArgs;

/// Words in the one order that argh accepts.
#[derive(Default)]
struct OrderedWords<'a> {
    words: Vec<&'a str>,
    /// For each word: the option or the command that it belongs to.
    owners: Vec<&'a str>,
}

impl<'a> OrderedWords<'a> {
    fn push(&mut self, word: &'a str, owner: &'a str) {
        self.words.push(word);
        self.owners.push(owner);
    }
}

/// Fills the types. Fails if a parser of [`super::values`] refuses a value, with its reason.
pub(super) fn fill(line: &CommandLine<'_>) -> Result<Arguments, Failure> {
    line.check_required()?;
    let words = in_order(line);
    parse(&words.words).map_err(|early_exit| {
        match reason_in(&early_exit.output).zip(owner_of_refused_value(&words)) {
            Some((reason, option)) if option.starts_with('-') => {
                line.usage(format!("option {option}: {reason}"))
            }
            Some((reason, command)) => line.usage(format!("{command}: {reason}")),
            None => defect(),
        }
    })
}

fn parse(words: &[&str]) -> Result<Arguments, argh::EarlyExit> {
    Arguments::from_args(&["onegrant"], words)
}

/// Global options, command, its options, `--`, arguments.
fn in_order<'a>(line: &'a CommandLine<'_>) -> OrderedWords<'a> {
    let mut words = OrderedWords::default();
    let add_options = |words: &mut OrderedWords<'a>, is_global: bool| {
        for given in line.options.iter().filter(|given| line.is_global(given.option) == is_global) {
            let name = given.option.long;
            words.push(name, name);
            given.value.iter().for_each(|value| words.push(value, name));
        }
    };
    add_options(&mut words, true);
    if let Some(command) = line.command {
        words.push(command.name, command.name);
        add_options(&mut words, false);
        words.push("--", command.name);
        line.positionals.iter().for_each(|word| words.push(word, command.name));
    }
    words
}

/// The owner of the value that is refused. argh stops at the first such value. So every beginning of the words that
/// contains it is refused for the same cause, and no shorter one is.
fn owner_of_refused_value<'a>(words: &OrderedWords<'a>) -> Option<&'a str> {
    let is_accepted = |end: &usize| {
        let beginning = words.words.get(..=*end).unwrap_or_default();
        !parse(beginning).is_err_and(|early_exit| reason_in(&early_exit.output).is_some())
    };
    let ends: Vec<usize> = (0..words.words.len()).collect();
    words.owners.get(ends.partition_point(is_accepted)).copied()
}

/// argh refuses words that [`super::reader`] found correct. Its message may contain a secret, so it is not shown.
fn defect() -> Failure {
    Failure::new(Kind::Defect, "cannot read the command line").hint("please report it")
}
