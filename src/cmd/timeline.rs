//! `timeline`: draws a trace that `--timeline` has written as bars in the terminal.
//! `launch::trace` writes and reads traces.

use std::path::Path;

use serde_json::Value;

use super::{Error, print_stdout};
use crate::launch::trace;
use crate::screen::{self, Colour, Paint, visible};

/// The numbers of columns for the names and for the times after the bars.
const NAME: usize = 34;
const TIME: usize = 10;

/// Prints a trace as bars.
pub(crate) fn draw_trace(path: &Path) -> Result<(), Error> {
    let trace = trace::read(path)?;
    let drawn = drawing(
        &trace,
        screen::line_columns(),
        screen::is_terminal(),
        Paint::of_stdout(),
    );
    let none = || Error::BadFlag(format!("{}: no trace: it has no events", path.display()));
    print_stdout(&drawn.ok_or_else(none)?)
}

/// An event of a trace, in microseconds.
struct Event<'a> {
    name: &'a str,
    thread: u64,
    is_step: bool,
    begin: f64,
    duration: f64,
}

/// Draws a trace. Returns `None` if it has no events.
fn drawing(trace: &Value, columns: usize, blocks: bool, paint: Paint) -> Option<String> {
    let all = trace.get("traceEvents")?.as_array()?;
    let text =
        |event: &'_ Value, key: &str| event.get(key).and_then(Value::as_str).map(str::to_owned);
    let title = |key: &str, thread: Option<u64>| {
        let event = all.iter().find(|event| {
            text(event, "name").as_deref() == Some(key)
                && thread
                    .is_none_or(|thread| event.get("tid").and_then(Value::as_u64) == Some(thread))
        });
        event?.get("args")?.get("name")?.as_str().map(visible)
    };
    let number = |event: &Value, key: &str| {
        event
            .get(key)
            .and_then(Value::as_f64)
            .filter(|number| number.is_finite() && *number >= 0.0)
    };
    let events = all.iter().filter_map(|event| {
        Some(Event {
            name: event.get("name")?.as_str()?,
            thread: event.get("tid")?.as_u64()?,
            is_step: event.get("cat").and_then(Value::as_str) != Some("part"),
            begin: number(event, "ts")?,
            duration: number(event, "dur")?,
        })
    });
    let mut events: Vec<Event<'_>> = events.collect();
    events.sort_by(|a, b| {
        (a.thread, a.begin)
            .partial_cmp(&(b.thread, b.begin))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let whole = events
        .iter()
        .map(|event| event.begin + event.duration)
        .fold(0.0, f64::max);
    let first = events.first()?.thread;
    let room = columns.saturating_sub(NAME + TIME + 2).max(10);
    let name = title("process_name", None).unwrap_or_default();
    let mut drawn = format!(
        "{}: {} ms\n",
        paint.paint(Colour::Bold, &name),
        milliseconds(whole)
    );
    let mut thread = first.wrapping_add(1);
    for event in &events {
        if event.thread != thread {
            thread = event.thread;
            let name = title("thread_name", Some(thread)).unwrap_or_default();
            drawn += &format!("\n{}\n", paint.paint(Colour::Bold, &name));
        }
        let indent = if event.is_step { 2 } else { 4 };
        let label: String = visible(event.name).chars().take(NAME - indent).collect();
        let width = NAME - indent;
        let bar = bar(event, whole, room, blocks);
        let colour = if event.is_step {
            Colour::Green
        } else {
            Colour::Yellow
        };
        let time = milliseconds(event.duration);
        let (before, bar) = bar;
        let blank = room.saturating_sub(before + bar.chars().count());
        drawn += &format!(
            "{:indent$}{label:width$} {:before$}{}{:blank$}{time:>TIME$}\n",
            "",
            "",
            paint.paint(colour, &bar),
            ""
        );
    }
    Some(drawn)
}

/// Returns the number of blanks before a bar, and the bar, which has at least one column.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to `room`"
)]
fn bar(event: &Event<'_>, whole: f64, room: usize, blocks: bool) -> (usize, String) {
    let scale = room as f64 / whole.max(f64::MIN_POSITIVE);
    let before = ((event.begin * scale) as usize).min(room - 1);
    let length = ((event.duration * scale).round() as usize).clamp(1, room - before);
    (before, if blocks { "█" } else { "#" }.repeat(length))
}

fn milliseconds(microseconds: f64) -> String {
    format!("{:.3}", microseconds / 1000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn bars_lie_where_the_events_were() {
        let trace = json!({"traceEvents": [
            {"name": "process_name", "tid": 1, "args": {"name": "orlop run x"}},
            {"name": "thread_name", "tid": 1, "args": {"name": "parent"}},
            {"name": "clone", "ts": 0, "dur": 500, "tid": 1},
            {"name": "go", "ts": 500, "dur": 500, "tid": 1},
        ]});
        let drawn = drawing(&trace, NAME + TIME + 2 + 20, false, Paint::of_stdout()).unwrap();
        let clone = format!("{:34} {:20}{:>10}", "  clone", "##########", "0.500");
        let go = format!("{:34} {:20}{:>10}", "  go", "          ##########", "0.500");
        assert_eq!(
            drawn,
            format!("orlop run x: 1.000 ms\n\nparent\n{clone}\n{go}\n")
        );
    }

    #[test]
    fn a_trace_of_others_draws_no_escapes_and_no_panic() {
        for text in [
            "{}",
            "[]",
            r#"{"traceEvents": []}"#,
            r#"{"traceEvents": [{"name": 1}]}"#,
        ] {
            let trace = serde_json::from_str(text).unwrap();
            assert_eq!(
                drawing(&trace, 80, false, Paint::of_stdout()),
                None,
                "{text}"
            );
        }
        let hostile = json!({"traceEvents": [
            {"name": "\u{1b}[2J", "ph": "X", "ts": 1e308, "dur": 1e308, "tid": u64::MAX},
            {"name": "ä".repeat(99), "ph": "X", "ts": 0, "dur": 0, "tid": 0},
        ]});
        let drawn = drawing(&hostile, 80, true, Paint::of_stdout()).unwrap();
        assert!(!drawn.contains('\u{1b}'), "{drawn}");
    }
}
