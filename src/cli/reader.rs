//! Reads the words of the command line, by argh's own description of the options ([`argh::ArgsInfo`]).
//!
//! Done here, because argh does not: `--option=value`, global options after the command, `-h` and `-vv`, an option given
//! twice, arguments that are not UTF-8, and every error about an option that is unknown or a value that is missing.

use super::suggestion::nearest;
use crate::error::{Failure, Kind};
use crate::text::printable;
use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// What the words say.
pub(super) struct CommandLine<'a> {
    program: &'a CommandInfoWithArgs,
    /// The command, if one is named.
    pub(super) command: Option<&'a CommandInfoWithArgs>,
    /// The options, global ones and those of the command.
    pub(super) options: Vec<GivenOption>,
    /// The arguments of the command.
    pub(super) positionals: Vec<String>,
    /// The command that `exec` runs, with its arguments. They may be any bytes, which argh does not accept.
    pub(super) command_to_run: Vec<OsString>,
    /// Whether help is asked for.
    pub(super) help: bool,
    /// Whether the word `help` was read: the next word names a command, even if it is `help` again.
    is_after_help: bool,
}

/// An option, and its value if it takes one.
pub(super) struct GivenOption {
    pub(super) option: &'static FlagInfo<'static>,
    pub(super) value: Option<String>,
}

impl<'a> CommandLine<'a> {
    /// Reads the arguments without the program's name.
    pub(super) fn read(
        program: &'a CommandInfoWithArgs,
        arguments: impl Iterator<Item = OsString>,
    ) -> Result<Self, Failure> {
        let (options, positionals, command_to_run) = (Vec::new(), Vec::new(), Vec::new());
        let (help, is_after_help) = (false, false);
        let mut line =
            Self { program, command: None, options, positionals, command_to_run, help, is_after_help };
        line.read_all(arguments)?;
        Ok(line)
    }

    fn read_all(&mut self, arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
        let mut source = ArgumentSource { arguments, position: 0 };
        let mut has_more_options = true;
        while let Some(argument) = source.next() {
            let is_option = has_more_options && argument.len() > 1 && argument.as_bytes().starts_with(b"-");
            if has_more_options && argument == "--" {
                has_more_options = false;
                continue;
            }
            if !is_option && self.runs_a_command() {
                self.command_to_run = std::iter::once(argument).chain(source.arguments).collect();
                return Ok(());
            }
            let outcome = source.text(argument).and_then(|word| match has_more_options {
                true => self.word(word, &mut source),
                false => self.positional(word),
            });
            match outcome {
                Ok(()) => {}
                // `--help` wins over later usage errors.
                Err(_) if has_more_options && self.help && self.command.is_some() => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Whether the next word that is no option begins the command to run. Everything after it belongs to that command.
    fn runs_a_command(&self) -> bool {
        let last = self.command.and_then(|command| command.positionals.last());
        last.is_some_and(|last| matches!(last.optionality, Optionality::Greedy))
    }

    fn word(
        &mut self,
        word: String,
        source: &mut ArgumentSource<impl Iterator<Item = OsString>>,
    ) -> Result<(), Failure> {
        if word.starts_with("--") {
            return self.long_option(&word, source);
        }
        match word.strip_prefix('-') {
            Some(letters) if !letters.is_empty() => {
                for letter in letters.chars() {
                    let option = self.find_short(letter)?;
                    self.add_option(option, None);
                }
                Ok(())
            }
            _ => self.positional(word),
        }
    }

    fn long_option(
        &mut self,
        word: &str,
        source: &mut ArgumentSource<impl Iterator<Item = OsString>>,
    ) -> Result<(), Failure> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let option = self.find(name)?;
        let value = match (&option.kind, value) {
            (FlagInfoKind::Switch, None) => None,
            (FlagInfoKind::Switch, Some(_)) => {
                return Err(self.usage(format!("option {name} takes no value")));
            }
            (FlagInfoKind::Option { .. }, Some(value)) => Some(value),
            (FlagInfoKind::Option { arg_name }, None) => match source.next() {
                Some(value) => Some(source.text(value)?),
                None => return Err(self.usage(format!("option {name} needs a value: {name} {arg_name}"))),
            },
        };
        self.add_option(option, value);
        Ok(())
    }

    /// The last value of an option counts, unless the option may be repeated. Switches are counted.
    fn add_option(&mut self, option: &'static FlagInfo<'static>, value: Option<String>) {
        if option.long == "--help" {
            self.help = true;
            return;
        }
        let earlier = self.options.iter_mut().find(|given| given.option.long == option.long);
        match (earlier, value) {
            (Some(earlier), Some(value)) if option.optionality != Optionality::Repeating => {
                earlier.value = Some(value);
            }
            (_, value) => self.options.push(GivenOption { option, value }),
        }
    }

    fn positional(&mut self, word: String) -> Result<(), Failure> {
        let Some(command) = self.command else {
            if word == "help" && !self.is_after_help {
                (self.help, self.is_after_help) = (true, true);
                return Ok(());
            }
            let found = self.program.commands.iter().find(|command| command.name == word);
            self.command = Some(&found.ok_or_else(|| unknown_command(self.program, &word))?.command);
            return Ok(());
        };
        self.positionals.push(word);
        let takes_many = |last: &PositionalInfo<'_>| {
            matches!(last.optionality, Optionality::Repeating | Optionality::Greedy)
        };
        if self.positionals.len() <= command.positionals.len()
            || command.positionals.last().is_some_and(takes_many)
        {
            return Ok(());
        }
        // Do not show the word: it may be a secret that was meant for stdin.
        let name = command.name;
        Err(self.usage(match command.positionals {
            [] => format!("{name} takes only options, but an argument was given"),
            [only] => format!("{name} takes only one argument, {}", only.name),
            several => format!("{name} takes at most {} arguments", several.len()),
        }))
    }

    /// Fails if an option or an argument is missing that the command needs.
    pub(super) fn check_required(&self) -> Result<(), Failure> {
        let Some(command) = self.command else { return Ok(()) };
        let options = command.flags.iter().filter(|option| option.optionality == Optionality::Required);
        let options = options.map(|option| option.long).filter(|long| !self.has(long));
        let positionals = command.positionals.iter().skip(self.positionals.len());
        let positionals = positionals.filter(|positional| positional.optionality == Optionality::Required);
        let missing: Vec<&str> = options.chain(positionals.map(|positional| positional.name)).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(self.usage(format!("{} needs {}", command.name, missing.join(", ")))),
        }
    }

    /// Whether the option was given.
    pub(super) fn has(&self, long: &str) -> bool {
        self.options.iter().any(|given| given.option.long == long)
    }

    /// Whether this is an option of every command.
    pub(super) fn is_global(&self, option: &FlagInfo<'_>) -> bool {
        self.program.flags.iter().any(|global| std::ptr::eq(global, option))
    }

    fn find(&self, name: &str) -> Result<&'static FlagInfo<'static>, Failure> {
        self.known_options().find(|option| option.long == name).ok_or_else(|| self.unknown_option(name))
    }

    fn find_short(&self, letter: char) -> Result<&'static FlagInfo<'static>, Failure> {
        // argh describes `--help` without its letter.
        let is_meant = |option: &&FlagInfo<'_>| {
            option.short == Some(letter) || (letter == 'h' && option.long == "--help")
        };
        self.known_options().find(is_meant).ok_or_else(|| {
            self.usage(format!("unknown option -{}", printable(letter.encode_utf8(&mut [0; 4]))))
        })
    }

    fn known_options(&self) -> impl Iterator<Item = &'static FlagInfo<'static>> {
        let own: &'static [FlagInfo<'static>] = self.command.map_or(&[], |command| command.flags);
        self.program.flags.iter().chain(own)
    }

    fn unknown_option(&self, name: &str) -> Failure {
        let shown = printable(name);
        if let Some(nearest) = nearest(name, self.known_options().map(|option| option.long)) {
            return self.usage(format!("unknown option {shown}: did you mean {nearest}?"));
        }
        let mut owners = self
            .program
            .commands
            .iter()
            .filter(|owner| owner.command.flags.iter().any(|option| option.long == name));
        match (self.command, owners.next()) {
            (None, Some(owner)) => {
                self.usage(format!("option {shown} goes after its command: onegrant {} {shown}", owner.name))
            }
            (Some(command), Some(owner)) => {
                self.usage(format!("{} has no option {shown}, but {} has", command.name, owner.name))
            }
            (_, None) => self.usage(format!("unknown option {shown}")),
        }
    }

    /// A usage error of this command.
    pub(super) fn usage(&self, message: String) -> Failure {
        let failure = Failure::new(Kind::Usage, message);
        match self.command {
            Some(command) => failure.hint(format!("onegrant {} --help", command.name)),
            None => failure.hint("onegrant --help"),
        }
    }
}

/// The arguments, and the position of the last one that was read.
struct ArgumentSource<I> {
    arguments: I,
    position: usize,
}

impl<I: Iterator<Item = OsString>> ArgumentSource<I> {
    fn next(&mut self) -> Option<OsString> {
        self.position = self.position.saturating_add(1);
        self.arguments.next()
    }

    /// The last argument as text.
    fn text(&self, argument: OsString) -> Result<String, Failure> {
        argument.into_string().map_err(|_| {
            let message = format!("argument {} is not UTF-8", self.position);
            Failure::new(Kind::Usage, message).hint("onegrant --help")
        })
    }
}

fn unknown_command(program: &CommandInfoWithArgs, word: &str) -> Failure {
    let shown = printable(word);
    let names = program.commands.iter().map(|command| command.name).chain(["help"]);
    let message = match nearest(word, names) {
        Some(nearest) => format!("unknown command '{shown}': did you mean {nearest}?"),
        None => format!("unknown command '{shown}'"),
    };
    Failure::new(Kind::Usage, message).hint("onegrant --help")
}
