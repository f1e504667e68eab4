//! Formats the final error for a terminal, with colours and with the hint on a second line.
//! If stderr is no terminal, the text stays plain, because engines read it.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;

const BOLD_RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// Returns the text for stderr: the line, and on a terminal also the hint.
pub(super) fn for_stderr(line: String, hint: Option<&str>) -> String {
    if !std::io::stderr().is_terminal() {
        return line + "\n";
    }
    let coloured = wants_colour(|name| std::env::var_os(name));
    let paint = |colour, text: &str| match coloured {
        true => format!("{colour}{text}{RESET}"),
        false => text.to_owned(),
    };
    let mut text = paint(BOLD_RED, &line) + "\n";
    if let Some(hint) = hint {
        text += &format!("{} {hint}\n", paint(CYAN, "hint:"));
    }
    text
}

/// Returns whether a terminal gets colours. NO_COLOR turns them off, and otherwise CLICOLOR_FORCE
/// turns them on. Without both, colours are off if TERM is `dumb` or missing, or if CLICOLOR is 0.
fn wants_colour(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    if set("NO_COLOR").is_some() {
        return false;
    }
    if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    let term = set("TERM").is_some_and(|term| term != OsStr::new("dumb"));
    term && set("CLICOLOR").is_none_or(|value| value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_usual_variables() {
        for (variables, expected) in [
            (&[("TERM", "xterm")][..], true),
            (&[], false),
            (&[("TERM", "dumb")], false),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
            (&[("TERM", "xterm"), ("CLICOLOR", "0")], false),
            (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")], true),
            (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "0")], false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            let found = |name: &str| {
                let mut all = variables.iter();
                all.find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            };
            assert_eq!(wants_colour(found), expected, "{variables:?}");
        }
    }
}
