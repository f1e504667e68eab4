//! `inspect`: prints the settings in force in a container next to those that config.json asks for,
//! as text or as JSON.
//! The module `inspect` reads both.

use std::fmt::Write as _;

use super::{Error, print_stdout};
use crate::inspect;
use crate::inspect::report::{Entry, Inspection};
use crate::invocation::{Globals, InspectArgs};
use crate::screen::{Colour, Paint, ascii_json, line_columns, visible, wrap};
use crate::state::Root;

/// Prints a container.
pub(crate) fn inspect(globals: &Globals, args: &InspectArgs) -> Result<(), Error> {
    let root = Root::open(&globals.root)?.ok_or(crate::state::Error::Absent)?;
    let dir = root.container(args.id.as_str())?;
    let inspection = inspect::inspect(&root, &dir, args.id.as_str())?;
    if args.json {
        let text = serde_json::to_string_pretty(&inspection).unwrap_or_default();
        return print_stdout(&(ascii_json(&text) + "\n"));
    }
    print_stdout(&layout(&inspection, Paint::of_stdout(), line_columns()))
}

/// Lays out the sections, with a line for each entry. An entry that differs from config.json is
/// marked with `!` and has both values.
fn layout(inspection: &Inspection, paint: Paint, columns: usize) -> String {
    let mut text = format!("{}  {}", inspection.id, inspection.status);
    if inspection.pid != 0 {
        let _ = write!(text, "  pid {}", inspection.pid);
    }
    let _ = writeln!(text, "\nconfiguration  {}", visible(&inspection.config));
    if let Some(problem) = &inspection.unreadable {
        let _ = writeln!(text, "not compared   {}", visible(problem));
    }
    for (name, entries) in inspection.sections() {
        if entries.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{}\n", paint.paint(Colour::Bold, name));
        let width = |entry: &Entry| visible(&entry.name).chars().count();
        let width = entries
            .iter()
            .map(width)
            .max()
            .unwrap_or(0)
            .min(NAME_COLUMNS);
        for entry in entries {
            text.push_str(&lines(entry, width, paint, columns));
        }
    }
    let verdict = match inspection.differences() {
        0 if inspection.pid == 0 => "Nothing is in force: the container does not run.".to_owned(),
        0 => "Nothing differs from what was asked.".to_owned(),
        1 => paint.paint(Colour::Red, "1 difference, marked with !."),
        count => paint.paint(Colour::Red, &format!("{count} differences, marked with !.")),
    };
    text + "\n" + &verdict + "\n"
}

/// Names are padded to at most this many columns.
const NAME_COLUMNS: usize = 28;

fn lines(entry: &Entry, width: usize, paint: Paint, columns: usize) -> String {
    let shown = |value: &Option<String>| match value.as_deref() {
        None => "-".to_owned(),
        Some("") => "none".to_owned(),
        Some(value) => visible(value),
    };
    let mark = if entry.differs {
        paint.paint(Colour::Red, "!")
    } else {
        " ".into()
    };
    let mut values = Vec::new();
    if entry.differs {
        values.push(format!("actual {}", shown(&entry.actual)));
        values.push(format!("asked  {}", shown(&entry.asked)));
    } else if entry.actual.is_none() && entry.asked.is_some() {
        values.push(format!("asked  {}", shown(&entry.asked)));
    } else if entry.actual == entry.asked || entry.asked.is_none() {
        values.push(shown(&entry.actual));
    } else {
        values.push(format!(
            "{} (asked: {})",
            shown(&entry.actual),
            shown(&entry.asked)
        ));
    }
    values.extend(
        entry
            .note
            .as_deref()
            .map(|note| format!("({})", visible(note))),
    );
    let name = visible(&entry.name);
    let mut text = format!("{mark} {name:width$}");
    let indent = 2 + width + 2;
    if name.chars().count() > width {
        let _ = write!(text, "\n{:width$}", "", width = 2 + width);
    }
    let broken = values
        .iter()
        .flat_map(|value| wrap(value, columns.saturating_sub(indent)));
    for (index, line) in broken.enumerate() {
        match index {
            0 => text.push_str(&format!("  {line}")),
            _ => text.push_str(&format!("\n{:indent$}{line}", "")),
        }
    }
    text.push('\n');
    text
}
