//! Makes the completions for bash, zsh and fish. clap_complete generates the scripts, and this file
//! adds the ids of containers.
//! `pages` lists the scripts with the other files that packages install.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};
use clap_complete::Generator;
use clap_complete::aot::{Bash, Fish, Zsh};

use super::full_grammar;

/// The paths of the scripts below PREFIX/share.
pub(super) const FILES: [&str; 3] = [
    "bash-completion/completions/orlop",
    "zsh/site-functions/_orlop",
    "fish/vendor_completions.d/orlop.fish",
];

/// Commands whose id argument names a container that doesn't exist yet.
const MAKERS: [&str; 3] = ["create", "run", "restore"];

/// Returns the script with this path.
pub(super) fn script(path: &str) -> Option<String> {
    let at = FILES.iter().position(|file| *file == path)?;
    let grammar = grammar();
    Some(match at {
        0 => written(Bash, &grammar) + &bash_ids(&grammar),
        1 => zsh(&grammar),
        _ => written(Fish, &grammar) + &fish_ids(&grammar),
    })
}

/// Returns the grammar for completion, in which the global flags are accepted after the command
/// too.
fn grammar() -> Command {
    let is_version = |arg: &Arg| arg.get_id() == "version";
    let mut grammar = full_grammar()
        .bin_name("orlop")
        .mut_args(|arg| match is_version(&arg) {
            true => arg,
            false => arg.global(true),
        });
    grammar.build();
    grammar
}

fn written(shell: impl Generator, grammar: &Command) -> String {
    let mut script = Vec::new();
    match shell.try_generate(grammar, &mut script) {
        Ok(()) => String::from_utf8_lossy(&script).into_owned(),
        Err(_) => String::new(),
    }
}

/// Returns the commands that take the id of an existing container, each with the index of that
/// argument.
fn takers(grammar: &Command) -> impl Iterator<Item = (&Command, usize)> {
    let index = |command: &Command| command.get_positionals().position(is_id);
    grammar
        .get_subcommands()
        .filter(|command| !MAKERS.contains(&command.get_name()))
        .filter_map(move |command| Some((command, index(command)?)))
}

fn is_id(arg: &Arg) -> bool {
    let mut names = arg.get_value_names().into_iter().flatten();
    names.any(|name| name == "CONTAINER-ID")
}

/// Returns the names of the flags whose value is the next word.
fn flags_with_value(command: &Command) -> String {
    let takes = |arg: &&Arg| {
        !arg.is_positional()
            && !arg.is_require_equals_set()
            && matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
    };
    let mut names = String::new();
    for arg in command.get_arguments().filter(takes) {
        let long = arg.get_long().map(|long| format!(" --{long}"));
        let short = arg.get_short().map(|short| format!(" -{short}"));
        names.extend(long.into_iter().chain(short));
    }
    names
}

/// Returns a bash function that calls clap_complete's function and completes ids itself.
fn bash_ids(grammar: &Command) -> String {
    let mut cases = String::new();
    for (command, index) in takers(grammar) {
        let names = std::iter::once(command.get_name()).chain(command.get_visible_aliases());
        let names = names.collect::<Vec<_>>().join("|");
        let values = flags_with_value(command);
        let _ = writeln!(
            cases,
            "                {names}) place={index} values=\"{values} \" ;;"
        );
    }
    BASH.replace("@CASES@\n", &cases)
        .replace("@VALUES@", &flags_with_value(grammar))
}

const BASH: &str = r#"
# Ids of containers, from `orlop list`, with the --root of the line.
_orlop_with_ids() {
    _orlop "$@"
    local word command= place= seen=0 pending= root= values="@VALUES@ "
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word == = ]]; then
            continue
        elif [[ -n $pending ]]; then
            [[ $pending != --root ]] || root=${word/#\~/$HOME}
            pending=
        elif [[ $word == -* ]]; then
            [[ $values != *" $word "* ]] || pending=$word
        elif [[ -z $command ]]; then
            command=$word
            case $command in
@CASES@
            esac
        else
            seen=$((seen + 1))
        fi
    done
    if [[ -z $pending && $2 != -* && -n $place && $seen == "$place" ]]; then
        COMPREPLY=($(compgen -W "$("$1" ${root:+--root "$root"} list --quiet 2>/dev/null)" -- "$2"))
        return
    fi
    # Names of arguments are no words to type.
    local kept=()
    for word in "${COMPREPLY[@]}"; do
        [[ $word == [\<\[]* ]] || kept+=("$word")
    done
    COMPREPLY=("${kept[@]}")
}
complete -F _orlop_with_ids -o bashdefault -o default orlop
"#;

/// Returns the zsh script, in which `_orlop_ids` completes ids.
fn zsh(grammar: &Command) -> String {
    let script = written(Zsh, grammar);
    let mut command = "";
    let mut lines = String::new();
    for line in script.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
        {
            command = name;
        }
        let is_id = trimmed.starts_with("':id") && !MAKERS.contains(&command);
        match line.strip_suffix(":_default' \\").filter(|_| is_id) {
            Some(start) => {
                lines.push_str(start);
                lines.push_str(":_orlop_ids' \\");
            }
            None => lines.push_str(line),
        }
        lines.push('\n');
    }
    // Insert `_orlop_ids` before the end, because the last lines of the script call the program's
    // function.
    lines.replace(
        "\n_orlop_commands() {",
        &format!("\n{ZSH}\n_orlop_commands() {{"),
    )
}

const ZSH: &str = r#"# Ids of containers, from `orlop list`, with the --root of the line.
_orlop_ids() {
    local -a ids root line=(${(Q)${(z)LBUFFER}})
    local -i at
    for ((at = 2; at < $#line; at++)); do
        case $line[at] in
            (--root) root=(--root ${line[at + 1]/#\~/$HOME}) ;;
            (--root=*) root=(--root ${line[at]#--root=}) ;;
        esac
    done
    ids=(${(f)"$(_call_program containers orlop ${(q)root} list --quiet 2>/dev/null)"})
    compadd -a ids
}
"#;

/// Returns the fish lines that complete ids in the commands that take an id.
fn fish_ids(grammar: &Command) -> String {
    let mut lines = FISH.to_owned();
    for (command, index) in takers(grammar) {
        let name = command.get_name();
        let values = flags_with_value(command);
        let _ = writeln!(
            lines,
            "complete -c orlop -n '__orlop_wants_id {name} {index}{values}' -f -a '(__orlop_ids)'"
        );
    }
    lines.replace("@VALUES@", &flags_with_value(grammar))
}

const FISH: &str = r"
# Ids of containers, from `orlop list`, with the --root of the line.
function __orlop_words
    # The words of the line without flags and their values; a root is printed as `=ROOT`.
    set -l pending
    for word in (commandline -opc)[2..]
        if set -q pending[1]
            test $pending = --root; and echo =$word
            set -e pending
        else if string match -q -- '--root=*' $word
            echo =(string replace -- --root= '' $word)
        else if string match -q -- '-*' $word
            contains -- $word $argv; and set pending $word
        else
            echo $word
        end
    end
    set -q pending[1]; and echo --
end
function __orlop_wants_id
    set -l words (__orlop_words@VALUES@ $argv[3..] | string match -v -- '=*')
    test (count $words) = (math $argv[2] + 1); and test $words[1] = $argv[1]
    and not string match -q -- '-*' (commandline -ct)
end
function __orlop_ids
    set -l root (__orlop_words@VALUES@ | string match -- '=*' | string sub -s 2)
    set -q root[1]; and set root --root $root[-1]
    set -l program (commandline -opc)[1]
    $program $root list --quiet 2>/dev/null
end
";
