//! Completion for fish.

use super::{Values, commands, fill, letter, own, value_name, values};
use argh::{CommandInfoWithArgs, FlagInfo};

const FRAME: &str = r#"# fish completion of onegrant: onegrant completions fish
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

pub(super) fn script(program: &CommandInfoWithArgs) -> String {
    let quoted = |text: &str| text.replace('\\', r"\\").replace('\'', r"\'");
    let action = |option: &str, name: &str| match values(option, name) {
        Values::Words(words) if words.contains(':') => format!(" -x -a '(__onegrant_words {words})'"),
        Values::Words(words) => format!(" -x -a '{words}'"),
        Values::Files => " -r -F".to_owned(),
        // fish shows what follows a tab, the resource, as the description.
        Values::Profiles => " -x -a '(command onegrant profiles 2>/dev/null)'".to_owned(),
        Values::Programs => " -F -a '(__fish_complete_command)'".to_owned(),
        Values::Nothing => " -x".to_owned(),
    };
    let option = |at: &str, flag: &FlagInfo<'_>| {
        let long = flag.long.trim_start_matches('-');
        let letter = letter(flag).map(|letter| format!(" -s {letter}")).unwrap_or_default();
        let action = value_name(flag).map(|name| action(flag.long, name)).unwrap_or_default();
        format!("complete -c onegrant{at} -l {long}{letter}{action} -d '{}'\n", quoted(flag.description))
    };
    let specification = |flag: &FlagInfo<'_>| {
        let letter = letter(flag).map(|letter| format!("{letter}/")).unwrap_or_default();
        let value = if value_name(flag).is_some() { "=" } else { "" };
        format!("{letter}{}{value}", flag.long.trim_start_matches('-'))
    };
    let specifications: Vec<String> = program.flags.iter().map(specification).collect();
    let mut text = fill(FRAME, &[("SPECIFICATIONS", &specifications.join(" "))]);
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
