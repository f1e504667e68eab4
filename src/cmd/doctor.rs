//! The command `doctor`: prints what this host offers and lacks for containers, for people or as
//! JSON.
//! The probes are in `doctor`.

use std::fmt::Write as _;

use super::{Error, print_stdout};
use crate::doctor;
use crate::doctor::report::{Item, Report, Status};
use crate::screen::{Colour, Paint, ascii_json, line_columns, visible, wrap};

/// The width of the longest status word.
const WORD: usize = "missing".len();
/// The exit code if the caller can't run containers.
const NO_CONTAINERS: i32 = 1;

/// Prints the report. Returns 0 if this caller can run containers, else 1.
pub(crate) fn doctor(json: bool) -> Result<i32, Error> {
    let report = doctor::examine()?;
    let code = if report.containers { 0 } else { NO_CONTAINERS };
    if json {
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        print_stdout(&(ascii_json(&text) + "\n"))?;
    } else {
        print_stdout(&layout(&report, Paint::of_stdout(), line_columns()))?;
    }
    Ok(code)
}

/// Formats the report in sections. Each item has a line, and further lines if it lacks something.
fn layout(report: &Report, paint: Paint, columns: usize) -> String {
    let who = match report.uid {
        0 => "root".to_owned(),
        uid => format!("user {uid}"),
    };
    let mut text = format!(
        "orlop {} on Linux {} ({}), for {who}\n",
        report.orlop, report.kernel, report.architecture
    );
    let width = |item: &Item| item.names().1.chars().count();
    let width = report.items.iter().map(width).max().unwrap_or(0);
    let mut last = "";
    for item in &report.items {
        let (section, _) = item.names();
        if section != last {
            let _ = write!(text, "\n{}\n", paint.paint(Colour::Bold, section));
            last = section;
        }
        text.push_str(&lines(item, width, paint, columns));
    }
    text + "\n" + &verdict(report)
}

/// Formats the lines of an item. Its name is padded to `width`.
fn lines(item: &Item, width: usize, paint: Paint, columns: usize) -> String {
    let (_, name) = item.names();
    let word = paint.paint(colour(item.status), item.status.as_str());
    let mut text = format!("  {name:width$}  {word}");
    let found = visible(&item.found);
    let indent = 2 + width + 2;
    let room = columns.saturating_sub(indent + WORD + 2);
    for (index, line) in wrap(&found, room).iter().enumerate() {
        let blanks = match index {
            0 if line.is_empty() => continue,
            0 => WORD - item.status.as_str().len() + 2,
            _ => indent + WORD + 2,
        };
        let end = if index == 0 { "" } else { "\n" };
        let _ = write!(text, "{end}{:blanks$}{line}", "");
    }
    text.push('\n');
    for (label, words) in [("means", &item.means), ("hint", &item.hint)] {
        let Some(words) = words else { continue };
        let broken = wrap(&visible(words), columns.saturating_sub(14));
        for (index, line) in broken.iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let _ = writeln!(text, "      {label:<6}{line}");
        }
    }
    text
}

fn colour(status: Status) -> Colour {
    match status {
        Status::Ok => Colour::Green,
        Status::Limited => Colour::Yellow,
        Status::Missing => Colour::Red,
    }
}

fn verdict(report: &Report) -> String {
    let count = |status| {
        report
            .items
            .iter()
            .filter(|item| item.status == status)
            .count()
    };
    let (limited, missing) = (count(Status::Limited), count(Status::Missing));
    if report.containers {
        return format!("Containers can run here; {limited} limited, {missing} missing.\n");
    }
    let lacks = |item: &&Item| item.needed && item.status == Status::Missing;
    let names = report
        .items
        .iter()
        .filter(lacks)
        .map(|item| item.id.as_str());
    let names: Vec<&str> = names.collect();
    format!("Containers can't run here without {}.\n", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_and_missing_is_named_last() {
        let lacking = |id: &str| Item::lacking(id, Status::Missing, "", ("m", "h"));
        let report = Report {
            version: 1,
            orlop: "1".into(),
            kernel: "6".into(),
            architecture: "x".into(),
            uid: 7,
            containers: false,
            items: vec![
                Item::ok("a.one", "\u{1b}[2J"),
                lacking("a.two").needed(true),
                lacking("b.three"),
            ],
        };
        let text = layout(&report, Paint::of_stdout(), 80);
        assert!(
            text.ends_with("Containers can't run here without a.two.\n"),
            "{text}"
        );
        assert!(
            text.contains("user 7") && !text.contains('\u{1b}'),
            "{text}"
        );
    }
}
