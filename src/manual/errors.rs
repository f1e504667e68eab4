//! orlop-errors(7): errors, warnings, the log and exit codes. `diagnosis` defines the codes.

use std::fmt::Write as _;

use crate::diagnosis::Code;

/// Returns the text of the topic.
pub(super) fn text() -> String {
    let mut text = include_str!("errors.txt").to_owned();
    for code in Code::ALL {
        let row = code.row();
        let hint = match row.hint {
            "" => String::new(),
            hint => format!(" Hint: {hint}."),
        };
        let phase = row.phase.as_str();
        let _ = writeln!(text, "- {} ({phase}) :: {}{hint}\n", row.word, row.sentence);
    }
    text
}
