//! Completion for bash.

use super::{Values, commands, fill, own, value_name, values};
use argh::{CommandInfoWithArgs, FlagInfo};

/// Readline splits words at `=` and `:`. So the script first joins the words, and then removes from each reply the part
/// that is already on the line.
const FRAME: &str = r#"# bash completion of onegrant: onegrant completions bash
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

pub(super) fn script(program: &CommandInfoWithArgs) -> String {
    let answer = |values| match values {
        Values::Words(words) => Some(format!("list='{words}'")),
        Values::Files => Some("kind=files".to_owned()),
        // Each line is a name, and after a tab the resource.
        Values::Profiles => {
            let names = "while IFS=$'\\t' read -r i word; do printf '%s\\n' \"$i\"; done";
            Some(format!("list=$(command onegrant profiles 2>/dev/null | {names})"))
        }
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
    fill(FRAME, &parts.each_ref().map(|(name, part)| (*name, part.as_str())))
}

fn longs<'a>(flags: impl Iterator<Item = &'a FlagInfo<'a>>) -> String {
    flags.map(|flag| flag.long).collect::<Vec<_>>().join(" ")
}
