//! From words to a command: what argh cannot take is made fit for it, and its complaints are made ours.
//!
//! argh knows neither `--option=value` nor options after the command nor `-vv`, refuses an option given twice,
//! panics on a closed stdout and ends usage errors with 1. So the words are read here, by argh's own
//! description of the options ([`argh::ArgsInfo`]), and handed over in the one order that it accepts.
//!
//! Pure: words and environment values come in, a command or a text goes out.

mod globals;

pub use crate::environment::{Environment, FromOptions, Passed};
pub use globals::{Globals, ProfileName, StoreAddress, named_store, resolve, resolve_environment};

use crate::cli::{self, Arguments, Command};
use crate::completions;
use crate::error::{Failure, Kind};
use crate::grant::Flow;
use crate::help;
use crate::text::printable;
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, FromArgs, Optionality};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names that other programs call this one by, and the words that each stands for: their protocols leave no room for
/// arguments of ours. Whoever is called by any other name is `onegrant`.
const NAMES: [(&str, &[&str]); 6] = [
    ("git-credential-onegrant", &["git-credential"]),
    ("bazel-credential-onegrant", &["helper", "bazel"]),
    ("cargo-credential-onegrant", &["helper", "cargo"]),
    ("docker-credential-onegrant", &["helper", "docker"]),
    ("pnpm-onegrant", &["helper", "pnpm"]),
    ("terraform-credentials-onegrant", &["helper", "terraform"]),
];

/// The words that stand for the name by which the program was called, with or without a path.
pub fn words_of_name(called: &OsStr) -> impl Iterator<Item = OsString> + use<> {
    let name = Path::new(called).file_name().unwrap_or_default();
    let found = NAMES.iter().find(|(known, _)| name == *known);
    found.map_or(&[][..], |(_, words)| words).iter().map(OsString::from)
}

/// What the words ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a process holds one")]
pub enum Parsed {
    /// To run a command.
    Run(Globals, Command),
    /// To print this text on stdout and end with 0: a help, the version.
    Print(String),
    /// To print this text on stdout, which must not be lost: a script for a shell.
    Answer(String),
    /// Nothing at all: this help belongs on stderr, and the exit code is that of [`Kind::Usage`].
    NoCommand(String),
}

/// Reads the arguments without the program's name. Every failure is [`Kind::Usage`].
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Parsed, Failure> {
    let known = Arguments::get_args_info();
    let mut scan = Scan::new(&known);
    scan.read(arguments.into_iter())?;
    if scan.help {
        return Ok(Parsed::Print(match scan.command {
            Some(command) => help::of_command(command),
            None => help::of_program(&known),
        }));
    }
    if scan.has("--version") {
        return Ok(Parsed::Print(concat!("onegrant ", env!("CARGO_PKG_VERSION"), "\n").to_owned()));
    }
    let rest = std::mem::take(&mut scan.rest);
    let mut flags = scan.hand_over()?;
    let Some(mut command) = flags.command.take() else {
        return Ok(Parsed::NoCommand(help::of_program(&known)));
    };
    if let Command::Exec(exec) = &mut command {
        exec.command = rest;
    }
    check(&command)?;
    if let Command::Completions(completions) = &command {
        return Ok(Parsed::Answer(completions::script(&known, completions.shell)));
    }
    Ok(Parsed::Run(resolve(&flags, environment)?, command))
}

/// The words as they are understood so far.
struct Scan<'a> {
    known: &'a CommandInfoWithArgs,
    command: Option<&'a CommandInfoWithArgs>,
    given: Vec<Given>,
    positionals: Vec<String>,
    /// A command to run, and its arguments: of any bytes, which argh does not take.
    rest: Vec<OsString>,
    help: bool,
    /// `onegrant help …`: the next word names a command, whatever it is.
    help_command: bool,
}

/// An option and its value, where it takes one.
struct Given {
    option: &'static FlagInfo<'static>,
    value: Option<String>,
}

impl<'a> Scan<'a> {
    fn new(known: &'a CommandInfoWithArgs) -> Self {
        let (given, positionals, rest) = (Vec::new(), Vec::new(), Vec::new());
        Self { known, command: None, given, positionals, rest, help: false, help_command: false }
    }

    fn read(&mut self, arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
        let mut words = Words { arguments, position: 0 };
        let mut has_more_options = true;
        while let Some(argument) = words.next_argument() {
            let is_option = has_more_options && argument.len() > 1 && argument.as_bytes().starts_with(b"-");
            if has_more_options && argument == "--" {
                has_more_options = false;
                continue;
            }
            if !is_option && self.runs_a_command() {
                self.rest = std::iter::once(argument).chain(words.arguments).collect();
                return Ok(());
            }
            let outcome = words.text(argument).and_then(|word| match has_more_options {
                true => self.word(word, &mut words),
                false => self.positional(word),
            });
            match outcome {
                Ok(()) => {}
                // Who asks for help is not told off for the rest of the line.
                Err(_) if has_more_options && self.help && self.command.is_some() => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Whether the next word is no word of ours any more: it names a program, and what follows is that program's.
    fn runs_a_command(&self) -> bool {
        let last = self.command.and_then(|command| command.positionals.last());
        last.is_some_and(|last| matches!(last.optionality, Optionality::Greedy))
    }

    fn word(
        &mut self,
        word: String,
        words: &mut Words<impl Iterator<Item = OsString>>,
    ) -> Result<(), Failure> {
        if word.starts_with("--") {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let option = self.find(name)?;
            let value = match (&option.kind, inline) {
                (FlagInfoKind::Switch, None) => None,
                (FlagInfoKind::Switch, Some(_)) => {
                    return Err(self.usage(format!("option {name} takes no value")));
                }
                (FlagInfoKind::Option { .. }, Some(value)) => Some(value),
                (FlagInfoKind::Option { arg_name }, None) => match words.next() {
                    Some(value) => Some(value?),
                    None => return Err(self.usage(format!("option {name} needs a value: {name} {arg_name}"))),
                },
            };
            self.give(option, value);
            return Ok(());
        }
        match word.strip_prefix('-') {
            Some(letters) if !letters.is_empty() => {
                for letter in letters.chars() {
                    let option = self.find_short(letter)?;
                    self.give(option, None);
                }
                Ok(())
            }
            _ => self.positional(word),
        }
    }

    /// The last value of an option wins, but for those that may be repeated; a switch counts.
    fn give(&mut self, option: &'static FlagInfo<'static>, value: Option<String>) {
        if option.long == "--help" {
            self.help = true;
            return;
        }
        let earlier = self.given.iter_mut().find(|given| given.option.long == option.long);
        match (earlier, value) {
            (Some(earlier), Some(value)) if option.optionality != Optionality::Repeating => {
                earlier.value = Some(value);
            }
            (_, value) => self.given.push(Given { option, value }),
        }
    }

    fn positional(&mut self, word: String) -> Result<(), Failure> {
        let Some(command) = self.command else {
            if word == "help" && !self.help_command {
                (self.help, self.help_command) = (true, true);
                return Ok(());
            }
            let found = self.known.commands.iter().find(|command| command.name == word);
            self.command = Some(&found.ok_or_else(|| unknown_command(self.known, &word))?.command);
            return Ok(());
        };
        self.positionals.push(word);
        let is_greedy = |last: &argh::PositionalInfo<'_>| {
            matches!(last.optionality, Optionality::Repeating | Optionality::Greedy)
        };
        if self.positionals.len() <= command.positionals.len()
            || command.positionals.last().is_some_and(is_greedy)
        {
            return Ok(());
        }
        // The word itself may be a secret that was meant for stdin.
        let name = command.name;
        Err(self.usage(match command.positionals {
            [] => format!("{name} takes options alone, and here is an argument too many"),
            [only] => format!("{name} takes one argument, {}, and here is another", only.name),
            several => format!("{name} takes {} arguments at most", several.len()),
        }))
    }

    fn find(&self, name: &str) -> Result<&'static FlagInfo<'static>, Failure> {
        self.options().find(|option| option.long == name).ok_or_else(|| self.unknown_option(name))
    }

    fn find_short(&self, letter: char) -> Result<&'static FlagInfo<'static>, Failure> {
        // argh describes `--help` without its letter.
        let is_meant = |option: &&FlagInfo<'_>| {
            option.short == Some(letter) || (letter == 'h' && option.long == "--help")
        };
        self.options().find(is_meant).ok_or_else(|| {
            self.usage(format!("unknown option -{}", printable(letter.encode_utf8(&mut [0; 4]))))
        })
    }

    fn options(&self) -> impl Iterator<Item = &'static FlagInfo<'static>> {
        let own: &'static [FlagInfo<'static>] = self.command.map_or(&[], |command| command.flags);
        self.known.flags.iter().chain(own)
    }

    fn unknown_option(&self, name: &str) -> Failure {
        let shown = printable(name);
        if let Some(nearest) = nearest(name, self.options().map(|option| option.long)) {
            return self.usage(format!("unknown option {shown}: did you mean {nearest}?"));
        }
        let mut owners = self
            .known
            .commands
            .iter()
            .filter(|owner| owner.command.flags.iter().any(|flag| flag.long == name));
        match (self.command, owners.next()) {
            (None, Some(owner)) => self.usage(format!(
                "option {shown} stands behind its command, as in onegrant {} {shown}",
                owner.name
            )),
            (Some(command), Some(owner)) => {
                self.usage(format!("{} has no option {shown}, but {} has", command.name, owner.name))
            }
            (_, None) => self.usage(format!("unknown option {shown}")),
        }
    }

    fn has(&self, long: &str) -> bool {
        self.given.iter().any(|given| given.option.long == long)
    }

    /// argh's turn: options of the program, command, its options, `--`, arguments.
    fn hand_over(self) -> Result<Arguments, Failure> {
        let is_own =
            |given: &&Given| self.known.flags.iter().any(|option| std::ptr::eq(option, given.option));
        let mut words = Vec::with_capacity(2 * self.given.len() + self.positionals.len() + 2);
        for given in self.given.iter().filter(is_own) {
            words.push(given.option.long);
            words.extend(given.value.as_deref());
        }
        if let Some(command) = self.command {
            words.push(command.name);
            for given in self.given.iter().filter(|given| !is_own(given)) {
                words.push(given.option.long);
                words.extend(given.value.as_deref());
            }
            words.push("--");
            words.extend(self.positionals.iter().map(String::as_str));
        }
        Arguments::from_args(&["onegrant"], &words).map_err(|early_exit| self.translate(&early_exit.output))
    }

    /// argh repeats the value in its complaint, which could be a secret.
    fn translate(&self, complaint: &str) -> Failure {
        for Given { option, value } in &self.given {
            let Some(value) = value else { continue };
            let name = option.long;
            let opening = format!("Error parsing option '{name}' with value '{value}': ");
            if let Some(reason) = complaint.strip_prefix(&opening) {
                return self.usage(format!("option {name}: {}", reason.trim_end()));
            }
        }
        let command = self.command.map_or("onegrant", |command| command.name);
        if let Some(missing) = complaint.strip_prefix("Required positional arguments not provided:") {
            let missing: Vec<&str> = missing.split_whitespace().collect();
            return self.usage(format!("{command} needs {}", missing.join(", ")));
        }
        for value in &self.positionals {
            if let Some((_, reason)) = complaint.split_once(&format!(" with value '{value}': ")) {
                return self.usage(format!("{command}: {}", reason.trim_end()));
            }
        }
        self.usage(printable(complaint))
    }

    fn usage(&self, message: String) -> Failure {
        let failure = Failure::new(Kind::Usage, message);
        match self.command {
            Some(command) => failure.hint(format!("onegrant {} --help", command.name)),
            None => failure.hint("onegrant --help"),
        }
    }
}

/// The arguments as text, and where each stands.
struct Words<I> {
    arguments: I,
    position: usize,
}

impl<I: Iterator<Item = OsString>> Words<I> {
    fn next(&mut self) -> Option<Result<String, Failure>> {
        self.next_argument().map(|argument| self.text(argument))
    }

    fn next_argument(&mut self) -> Option<OsString> {
        self.position = self.position.saturating_add(1);
        self.arguments.next()
    }

    /// The argument that was given last, as text.
    fn text(&self, argument: OsString) -> Result<String, Failure> {
        argument.into_string().map_err(|_| {
            let message = format!("argument {} is not UTF-8", self.position);
            Failure::new(Kind::Usage, message).hint("onegrant --help")
        })
    }
}

fn unknown_command(known: &CommandInfoWithArgs, word: &str) -> Failure {
    let shown = printable(word);
    let names = known.commands.iter().map(|command| command.name).chain(["help"]);
    let message = match nearest(word, names) {
        Some(nearest) => format!("unknown command '{shown}': did you mean {nearest}?"),
        None => format!("unknown command '{shown}'"),
    };
    Failure::new(Kind::Usage, message).hint("onegrant --help")
}

/// What was probably meant: the one of which `word` is the beginning, else the one with the fewest slips, if
/// they are at most a third of it.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |word: &str| word.trim_start_matches('-').chars().count();
    let allowed = (letters(word) / 3).max(1);
    let slips = |name: &str| {
        let is_beginning = letters(word) >= 3 && name.starts_with(word);
        if is_beginning { 0 } else { edit_distance(word, name) }
    };
    names.map(|name| (slips(name), name)).filter(|(slips, _)| *slips <= allowed).min().map(|(_, name)| name)
}

/// Letters to insert, remove, replace or swap with their neighbour until `from` is `to`.
fn edit_distance(from: &str, to: &str) -> usize {
    // Nobody's slip is longer, and the work is bounded.
    let from: Vec<char> = from.chars().take(64).collect();
    let to: Vec<char> = to.chars().take(64).collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(from.len() + to.len());
    let mut older = Vec::new();
    let mut old: Vec<usize> = (0..=from.len()).collect();
    for (line, wanted) in to.iter().enumerate() {
        let mut row = vec![line + 1];
        for (column, letter) in from.iter().enumerate() {
            let replaced = at(&old, column) + usize::from(letter != wanted);
            let least = replaced.min(at(&old, column + 1) + 1).min(at(&row, column) + 1);
            let is_swapped =
                |column: usize, line: usize| from.get(column) == Some(wanted) && to.get(line) == Some(letter);
            row.push(match (column.checked_sub(1), line.checked_sub(1)) {
                (Some(column), Some(line)) if is_swapped(column, line) => least.min(at(&older, column) + 1),
                _ => least,
            });
        }
        older = std::mem::replace(&mut old, row);
    }
    at(&old, from.len())
}

/// What can be seen to be wrong from the words alone.
fn check(command: &Command) -> Result<(), Failure> {
    let login = match command {
        Command::Login(login) => login,
        Command::Exec(exec) if exec.command.is_empty() => {
            let message = "exec needs a command to run: onegrant exec -- CMD";
            return Err(Failure::new(Kind::Usage, message).hint("onegrant exec --help"));
        }
        _ => return Ok(()),
    };
    let complain = |message: &str| Err(Failure::new(Kind::Usage, message).hint("onegrant login --help"));
    login_flow(login)?;
    if login.refresh_token_stdin && login.client_secret_file == Some(cli::Input::Stdin) {
        return complain("--refresh-token-stdin and --client-secret-file - cannot both read stdin");
    }
    Ok(())
}

/// The flow that the options of a login ask for, where they do.
pub fn login_flow(arguments: &cli::Login) -> Result<Option<Flow>, Failure> {
    let options = [
        ("--device", Flow::Device, arguments.device),
        ("--browser", Flow::Browser, arguments.browser),
        ("--refresh-token-stdin", Flow::Imported, arguments.refresh_token_stdin),
        ("--client-credentials", Flow::Client, arguments.client_credentials),
        ("--subject-token", Flow::Client, arguments.subject_token.is_some()),
    ];
    let mut given = options.iter().filter(|(_, _, is_given)| *is_given);
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some((_, flow, _)), None) => Ok(Some(*flow)),
        (Some((one, ..)), Some((other, ..))) => {
            let message = format!("more than one way to log in: {one} or {other}, not both");
            Err(Failure::new(Kind::Usage, message).hint("onegrant login --help"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Format, Input, Login, Parameter, Status, Token};
    use crate::grant::ClientAuthentication;
    use crate::session::LockUse;
    use std::path::PathBuf;
    use std::time::Duration;

    fn at_home() -> Environment {
        Environment { home: Some("/home/me".into()), ..Environment::default() }
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
            store: StoreAddress::File("/home/me/.local/state/onegrant".into()),
            timeout: Duration::from_secs(30),
            lock: LockUse::Auto,
            verbosity: 0,
            trusts_store: false,
            given: FromOptions::default(),
        }
    }

    #[test]
    fn hints_work_where_they_are_pasted() {
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
        ];
        for (words, hint, wanted) in cases {
            assert_eq!(run(words).0.complete(hint, &at_home()), wanted, "{words}");
        }
    }

    #[test]
    fn every_option_of_login_arrives() {
        let (_, command) = run("login --device --client-id=id --client-secret-file - --client-auth basic \
             --scope=openid --resource https://a --resource=https://b --audience aud --param a=b=c --param d= \
             --token-endpoint t --authorization-endpoint a --device-authorization-endpoint d \
             --revocation-endpoint r --userinfo-endpoint u --redirect-port 8080 --redirect-uri http://localhost/cb --no-open --git-host g:1 --git-host=h --json https://issuer");
        let text = |text: &str| Some(text.to_owned());
        let parameter =
            |name: &str, value: &str| Parameter { name: name.to_owned(), value: value.to_owned() };
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
    fn options_of_the_program_stand_anywhere() {
        let wanted = Globals {
            profile: ProfileName::new("work").unwrap(),
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
        let wanted = Token { min_ttl: Some(Duration::from_secs(60)), format: None, write: Some("-x".into()) };
        assert_eq!(command, Command::Token(wanted));
        assert_eq!(run("status --json --json").1, Command::Status(Status { json: true, history: false }));
    }

    #[test]
    fn a_value_may_begin_with_a_dash_or_be_a_word_of_ours() {
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
    fn wrong_usage_is_told_with_the_help_that_mends_it() {
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
            ("--min-ttl 3 token", "option --min-ttl stands behind its command, as in onegrant token --min-ttl", ""),
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
            ("token --format xml", "option --format: not one of raw, bearer, header, json, curl, netrc, exec-credential", "token "),
            ("token --write=", "option --write: is empty", "token "),
            ("login --client-auth jwt", "option --client-auth: not one of none, basic, post, private_key_jwt", "login "),
            ("login --param s3cret", "option --param: not of the form KEY=VALUE", "login "),
            ("login --param =s3cret", "option --param: not of the form KEY=VALUE", "login "),
            ("login --git-host https://git.example", "option --git-host: not HOST or HOST:PORT, without a scheme and a path", "login "),
            ("login --client-id=", "option --client-id: is empty", "login "),
            ("login --device --refresh-token-stdin", "more than one way to log in: --device or --refresh-token-stdin, not both", "login "),
            ("login --refresh-token-stdin --client-secret-file -", "--refresh-token-stdin and --client-secret-file - cannot both read stdin", "login "),
            ("token s3cret", "token takes options alone, and here is an argument too many", "token "),
            ("login https://issuer s3cret", "login takes one argument, ISSUER, and here is another", "login "),
            ("exec --env X --", "exec needs a command to run: onegrant exec -- CMD", "exec "),
            ("exec --env 1X ls", "option --env: not the name of a variable", "exec "),
            ("exec --env A=B ls", "option --env: not the name of a variable", "exec "),
            ("helper", "helper needs PROTOCOL", "helper "),
            ("helper npm", "helper: not one of bazel, cargo, docker, gcloud, go, pnpm, terraform", "helper "),
            ("token -- --min-ttl 3", "token takes options alone, and here is an argument too many", "token "),
            ("--profile .x token", "--profile: '.x' is no profile name: letters, digits, \".\", \"_\" and \"-\", no leading dot, 1 to 64 characters", ""),
            ("--timeout 0 token", "--timeout: '0' is not a number of seconds above 0, up to 86400", ""),
            ("--store sftp://h/p token", "--store: 'sftp://h/p': this build knows file:DIR, helper:PROGRAM, etcd://HOST:PORT/PREFIX and kubernetes://NAMESPACE/NAME", ""),
            ("--store etcd://h:1 token", "--store: 'etcd://h:1': write etcd://HOST:PORT[,HOST:PORT]/PREFIX", ""),
            ("--store etcd://u:secret@h:1/p token", "--store: the address: cannot use the URL: it holds a user name or a password", ""),
        ];
        for (line, message, command) in cases {
            let wanted = Failure::new(Kind::Usage, message).hint(format!("onegrant {command}--help"));
            assert_eq!(failure(line), wanted, "{line}");
        }
    }

    #[test]
    fn what_stands_behind_a_command_to_run_is_taken_as_it_is() {
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
    fn names_of_other_programs_protocols_stand_for_words() {
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
    fn help_is_not_refused_for_the_rest_of_the_line() {
        for line in ["token --help --frob", "help token x y", "--help token extra", "token -h --min-ttl"] {
            let Ok(Parsed::Print(text)) = parse(words(line), &Environment::default()) else {
                panic!("{line}");
            };
            assert!(text.starts_with("onegrant token: "), "{line}: {text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_by_their_position() {
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
        type Variables<'a> = &'a [(&'a str, &'a str)];
        let environment = |pairs: Variables<'_>| {
            let pairs: Vec<(String, OsString)> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
            Environment::from_variables(move |wanted| {
                pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
            })
        };
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
            wanted.given =
                FromOptions { profile: has("--profile"), store: has("--store"), timeout: has("--timeout") };
            match parse(words(line), &environment(variables)) {
                Ok(Parsed::Run(globals, _)) => assert_eq!(globals, wanted, "{line} {variables:?}"),
                other => panic!("{line} {variables:?}: {other:?}"),
            }
        }
        let refused: [(Variables<'_>, &str); 21] = [
            (&[], "no place for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute path"),
            (&[("HOME", "me")], "no place for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute path"),
            (&[("ONEGRANT_HOME", "og"), home], "ONEGRANT_HOME: 'og' is not absolute"),
            (&[("ONEGRANT_STORE", "file:s"), home], "ONEGRANT_STORE: the directory of file:DIR is not absolute"),
            (&[("ONEGRANT_STORE", "file:"), home], "ONEGRANT_STORE: file: without a directory"),
            (&[("ONEGRANT_STORE", "file:~/s"), home], "ONEGRANT_STORE: 'file:~/s': nobody expanded the ~; write file:$HOME"),
            (&[("ONEGRANT_STORE", "file://host/s"), home], "ONEGRANT_STORE: 'file://host/s' names a host; write file:/DIR"),
            (&[("ONEGRANT_STORE", "helper:"), home], "ONEGRANT_STORE: 'helper:': write helper:NAME for docker-credential-NAME, or helper: and its absolute path"),
            (&[("ONEGRANT_STORE", "helper:a/pass"), home], "ONEGRANT_STORE: 'helper:a/pass': write helper:NAME for docker-credential-NAME, or helper: and its absolute path"),
            (&[("ONEGRANT_STORE", "helper:docker-credential-pass"), home], "ONEGRANT_STORE: 'helper:docker-credential-pass': write helper:NAME for docker-credential-NAME, or helper: and its absolute path"),
            (&[("ONEGRANT_STORE", "helper:/bin/docker-credential-onegrant"), home], "ONEGRANT_STORE: 'helper:/bin/docker-credential-onegrant' would ask this very program"),
            (&[("ONEGRANT_STORE", "helper:pass")], "no place for the file store: none of ONEGRANT_HOME, XDG_STATE_HOME and HOME is an absolute path"),
            (&[("ONEGRANT_STORE", "/s"), home], "ONEGRANT_STORE: '/s': this build knows file:DIR, helper:PROGRAM, etcd://HOST:PORT/PREFIX and kubernetes://NAMESPACE/NAME"),
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
    fn a_directory_may_have_any_bytes_and_a_profile_may_not() {
        let odd = |prefix: &str| Some(OsStr::from_bytes(&[prefix.as_bytes(), b"\xff"].concat()).to_owned());
        let environment = Environment { store: odd("file:/"), ..Environment::default() };
        let Ok(Parsed::Run(globals, _)) = parse(words("token"), &environment) else { panic!("refused") };
        assert_eq!(globals.store, StoreAddress::File(PathBuf::from(OsStr::from_bytes(b"/\xff"))));
        let environment = Environment { profile: odd(""), ..at_home() };
        assert_eq!(
            parse(words("token"), &environment).unwrap_err().message,
            "ONEGRANT_PROFILE: it is not UTF-8"
        );
    }

    #[test]
    fn a_profile_name_is_a_file_name_and_nothing_else() {
        let long = "x".repeat(64);
        for name in ["a", "A.b_c-9", "-x", "a..b", long.as_str()] {
            assert_eq!(ProfileName::new(name).map(|name| name.to_string()).as_deref(), Some(name));
        }
        for name in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\0", "a\n", &"x".repeat(65)] {
            assert_eq!(ProfileName::new(name), None, "{name:?}");
        }
    }

    #[test]
    fn no_option_of_a_command_hides_one_of_the_program() {
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

    #[test]
    fn slips_are_counted() {
        for (from, to, slips) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("", "ab", 2),
            ("ab", "", 2),
            ("logni", "login", 1),
        ] {
            assert_eq!(edit_distance(from, to), slips, "{from} {to}");
        }
    }
}
