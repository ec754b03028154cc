//! Completion for zsh.

use super::{Values, commands, fill, letter, own, value_name, values};
use crate::text::in_single_quotes;
use argh::{CommandInfoWithArgs, FlagInfo, Optionality};

const FRAME: &str = r#"#compdef onegrant
# zsh completion of onegrant: onegrant completions zsh
_onegrant_profiles() {
    compadd -- ${${(f)"$(command onegrant profiles 2>/dev/null)"}%%$'\t'*}
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

pub(super) fn script(program: &CommandInfoWithArgs) -> String {
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
    let line = |text: &str| format!("            {}\n", in_single_quotes(text));
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
        if let Some(letter) = letter(flag) {
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
    fill(FRAME, &[("GLOBALS", &globals), ("COMMANDS", &names), ("OPTIONS", &options)])
}
