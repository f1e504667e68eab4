//! Output for people: whether stdout is a terminal, its width and colours, and the escaping of text
//! that others wrote.
//! The commands decide what is printed. `log` writes it.

use std::os::fd::AsFd as _;

use crate::sys::tty;

/// The width of text if stdout is no terminal, and the largest width on a terminal.
const USUAL_COLUMNS: usize = 100;

/// Returns the columns of the terminal at stdout; `None` if stdout is no terminal, or if its size
/// is unknown.
pub(crate) fn columns() -> Option<usize> {
    let stdout = std::io::stdout();
    if !tty::is_terminal(stdout.as_fd()) {
        return None;
    }
    let size = tty::size(stdout.as_fd()).ok()?;
    (size.columns > 0).then_some(usize::from(size.columns))
}

/// Returns the rows of the terminal at stdout; `None` in the same cases as `columns`.
pub(crate) fn rows() -> Option<usize> {
    let stdout = std::io::stdout();
    let size = tty::size(stdout.as_fd()).ok()?;
    (size.rows > 0).then_some(usize::from(size.rows))
}

/// True if stdout is a terminal.
pub(crate) fn is_terminal() -> bool {
    tty::is_terminal(std::io::stdout().as_fd())
}

/// Returns the column at which long lines are broken.
pub(crate) fn line_columns() -> usize {
    columns().unwrap_or(USUAL_COLUMNS).clamp(40, USUAL_COLUMNS)
}

/// A colour that every terminal has, or bold type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Bold,
}

/// Colours text on a terminal, unless NO_COLOR is set or the terminal is dumb (no-color.org).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Returns the setting for stdout.
    pub(crate) fn of_stdout() -> Paint {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Paint {
            on: is_terminal() && !set("NO_COLOR") && !dumb,
        }
    }

    /// Returns the text with the escape sequences of a colour, if colours are on.
    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        if !self.on {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Bold => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Escapes text that others wrote, for a terminal: the backslash, and characters that aren't
/// visible.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' => visible.push(c),
            c => visible.extend(c.escape_debug()),
        }
    }
    visible
}

/// Converts JSON to ASCII. Other characters could control a terminal or change the writing
/// direction, and serde_json doesn't escape them. They occur only within strings, and become JSON
/// escapes.
pub(crate) fn ascii_json(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            ascii.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            ascii.push_str(&format!("\\u{unit:04x}"));
        }
    }
    ascii
}

/// Breaks text at blanks into lines of at most `columns` characters. A longer word has a line of
/// its own.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_of_others_cannot_steer_a_terminal() {
        let hostile = "a\u{1b}[2Jb\nc\u{9b}d\u{202e}e\\f\u{7f}g'h\"ü";
        let shown = visible(hostile);
        assert_eq!(
            shown,
            "a\\u{1b}[2Jb\\nc\\u{9b}d\\u{202e}e\\\\f\\u{7f}g'h\"ü"
        );
        assert!(!shown.chars().any(char::is_control));
    }

    #[test]
    fn json_in_ascii_says_the_same() {
        let text = "a\u{1b}\u{9b}\u{202e}\u{7f}😀";
        let json = serde_json::to_string(text).unwrap();
        let ascii = ascii_json(&json);
        assert!(
            ascii.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
            "{ascii}"
        );
        assert_eq!(serde_json::from_str::<String>(&ascii).unwrap(), text);
    }

    #[test]
    fn lines_break_at_blanks() {
        assert_eq!(wrap("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcdefgh", "ij"]);
    }
}
