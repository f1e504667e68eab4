//! The table of `list` for people, which is printed on a terminal and with `--wide`.
//! `list` has the table for programs, which has the format of runc's table.

use std::time::SystemTime;

use crate::screen::{columns, is_terminal, visible};
use crate::state::record::{Record, State};
use crate::time::ago;

/// The blanks between two columns.
const GAP: usize = 2;
/// No column is shortened to less than this width.
const NARROWEST: usize = 8;
/// Replaces the part of a cell that is cut off.
const CUT: &str = "..";

/// Annotations in which engines store the name of the image. The first that is set is used.
const IMAGE_ANNOTATIONS: [&str; 4] = [
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.Image",
    "org.opencontainers.image.ref.name",
];

/// The values of the columns that `--wide` adds. `None` if a value is unknown.
#[derive(Debug, Default, Clone)]
pub(super) struct Wide {
    pub(super) user: Option<String>,
    pub(super) cgroup: Option<String>,
    /// In bytes.
    pub(super) memory: Option<u64>,
    pub(super) pids: Option<u64>,
}

/// A column, and the end at which its cells are shortened.
struct Column {
    name: &'static str,
    shortened: Shortened,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shortened {
    Never,
    /// For names, because the start of a name is the most useful part.
    AtTheEnd,
    /// For paths, because the end of a path is the most useful part.
    AtTheStart,
}

const fn column(name: &'static str, shortened: Shortened) -> Column {
    Column { name, shortened }
}

const USUAL: [Column; 6] = [
    column("ID", Shortened::AtTheEnd),
    column("PID", Shortened::Never),
    column("STATUS", Shortened::Never),
    column("BUNDLE", Shortened::AtTheStart),
    column("CREATED", Shortened::Never),
    column("OWNER", Shortened::Never),
];

const WIDE: [Column; 11] = [
    column("ID", Shortened::AtTheEnd),
    column("PID", Shortened::Never),
    column("STATUS", Shortened::Never),
    column("IMAGE", Shortened::AtTheStart),
    column("USER", Shortened::Never),
    column("MEMORY", Shortened::Never),
    column("PIDS", Shortened::Never),
    column("CREATED", Shortened::Never),
    column("OWNER", Shortened::Never),
    column("CGROUP", Shortened::AtTheStart),
    column("BUNDLE", Shortened::AtTheStart),
];

/// Formats the table. On a terminal, the table fits its width, and times are relative. Elsewhere
/// nothing is shortened, and times are those of the records.
pub(super) fn format(containers: &[(State<'_>, &Record, Option<Wide>)], wide: bool) -> String {
    let now = is_terminal().then(SystemTime::now);
    let rows = containers.iter().map(|(state, record, more)| {
        let created = now.and_then(|now| ago(state.created, now));
        let created = created.unwrap_or_else(|| state.created.to_owned());
        let bundle = state.bundle.to_string_lossy().into_owned();
        let (id, pid) = (state.id.to_owned(), state.pid.to_string());
        let (status, owner) = (state.status.to_owned(), state.owner.clone());
        if !wide {
            return vec![id, pid, status, bundle, created, owner];
        }
        let Wide {
            user,
            cgroup,
            memory,
            pids,
        } = more.clone().unwrap_or_default();
        let dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        vec![
            id,
            pid,
            status,
            image(record),
            dash(user),
            dash(memory.map(bytes)),
            dash(pids.map(|pids| pids.to_string())),
            created,
            owner,
            dash(cgroup),
            bundle,
        ]
    });
    let rows = rows.map(|row| row.iter().map(|cell| visible(cell)).collect());
    let columns_of: &[Column] = if wide { &WIDE } else { &USUAL };
    layout(columns_of, rows.collect(), columns())
}

/// Returns the image name from the engine's annotations, or else the name of the bundle directory.
fn image(record: &Record) -> String {
    let mut noted = IMAGE_ANNOTATIONS
        .iter()
        .filter_map(|key| record.annotations.get(*key));
    let bundle = record.bundle.file_name().unwrap_or_default();
    let bundle = || bundle.to_string_lossy().into_owned();
    noted
        .find(|name| !name.is_empty())
        .cloned()
        .unwrap_or_else(bundle)
}

/// Formats a number of bytes with a binary unit: `1.5M`.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut rest = bytes;
    let mut tenths = 0;
    let mut place = 0;
    while rest >= 1024 && place + 1 < UNITS.len() {
        tenths = rest % 1024 * 10 / 1024;
        rest /= 1024;
        place += 1;
    }
    let unit = UNITS.get(place).copied().unwrap_or_default();
    match place {
        0 => format!("{rest}{unit}"),
        _ => format!("{rest}.{tenths}{unit}"),
    }
}

/// Pads the columns, and shortens the widest ones until a line has at most `limit` characters.
fn layout(columns: &[Column], rows: Vec<Vec<String>>, limit: Option<usize>) -> String {
    let width_of = |index: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(column.name.len())
    };
    let widths = columns
        .iter()
        .enumerate()
        .map(|(index, column)| width_of(index, column));
    let mut widths: Vec<usize> = widths.collect();
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * (widths.len() - 1);
    while limit.is_some_and(|limit| total(&widths) > limit) {
        let candidates = widths
            .iter_mut()
            .zip(columns)
            .filter(|(width, column)| column.shortened != Shortened::Never && **width > NARROWEST);
        match candidates.max_by_key(|(width, _)| **width) {
            Some((width, _)) => *width -= 1,
            None => break,
        }
    }
    let header: Vec<String> = columns
        .iter()
        .map(|column| column.name.to_owned())
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for ((cell, width), column) in row.iter().zip(&widths).zip(columns) {
            let cell = shorten(cell, *width, column.shortened);
            line.push_str(&format!("{cell:width$}{:GAP$}", ""));
        }
        let line: String = match limit {
            Some(limit) => line.trim_end().chars().take(limit).collect(),
            None => line.trim_end().to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn shorten(cell: &str, width: usize, how: Shortened) -> String {
    let count = cell.chars().count();
    if count <= width {
        return cell.to_owned();
    }
    let kept = width.saturating_sub(CUT.len());
    match how {
        Shortened::AtTheStart => {
            let rest: String = cell.chars().skip(count - kept).collect();
            format!("{CUT}{rest}")
        }
        Shortened::Never | Shortened::AtTheEnd => {
            let start: String = cell.chars().take(kept).collect();
            format!("{start}{CUT}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bundle: &str) -> Vec<String> {
        ["an-id", "12", "running", bundle, "2 hours ago", "root"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn a_table_fits_the_terminal_and_keeps_the_end_of_paths() {
        let path = "/var/lib/containers/storage/overlay/abcdef/userdata";
        let text = layout(&USUAL, vec![row(path), row("/b")], Some(60));
        assert!(
            text.lines().all(|line| line.chars().count() <= 60),
            "{text}"
        );
        assert!(
            text.contains("..") && text.contains("/userdata  2 hours ago  root"),
            "{text}"
        );
        let whole = layout(&USUAL, vec![row(path)], None);
        assert!(whole.contains(path), "{whole}");
        let tiny = layout(&USUAL, vec![row(path)], Some(10));
        assert!(
            tiny.lines().all(|line| line.chars().count() <= 10),
            "{tiny}"
        );
    }

    #[test]
    fn bytes_have_a_unit() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5K"),
            (64 << 20, "64.0M"),
        ];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
    }
}
