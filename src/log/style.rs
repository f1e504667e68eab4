//! The final error as a person reads it at a terminal: colours, and the hint in a second line.
//! Engines read plain text, so nothing is added where stderr is no terminal.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;

const BOLD_RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// Returns the text for stderr: the line, and on a terminal its hint.
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

/// Whether a terminal gets colours: not with NO_COLOR; with CLICOLOR_FORCE in any case; otherwise
/// unless TERM or CLICOLOR say no.
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
