//! `list`: prints all containers below --root.
//! The table for people is in `people`.

mod people;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::state::{self, CurrentState};
use super::{Error, print_stdout};
use crate::invocation::{Globals, ListArgs, OutputFormat, RootOrigin};
use crate::state::record::Record;
use crate::state::{Dir, FoundContainer, InitState, Root};
use crate::{inspect, screen};
use people::Wide;

const COLUMN_NAMES: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
/// Columns are at least this wide and separated by this many blanks, as in runc's table.
const MIN_COLUMN_WIDTH: usize = 12;
const COLUMN_GAP: usize = 3;

/// How often `--watch` reads the containers again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Moves the cursor of a terminal to the top left corner, and clears the screen.
const CLEAR_SCREEN: &str = "\u{1b}[H\u{1b}[J";

/// What the list shows of a container.
struct Listed {
    id: String,
    now: CurrentState,
    record: Record,
    wide: Option<Wide>,
}

/// Prints the containers, and with `--watch` prints them again whenever they change. A container
/// that can't be read is reported on stderr and left out.
pub(crate) fn list(globals: &Globals, args: &ListArgs) -> Result<(), Error> {
    if !args.watch {
        return print_stdout(&text(globals, args)?);
    }
    let mut shown = None;
    loop {
        let text = text(globals, args)?;
        if shown.as_ref() != Some(&text) {
            if screen::is_terminal() {
                print_stdout(&(CLEAR_SCREEN.to_owned() + &first_lines(&text)))?;
            } else {
                let separator = if shown.is_some() { "\n" } else { "" };
                print_stdout(&(separator.to_owned() + &text))?;
            }
            shown = Some(text);
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// Returns as many lines as fit on the terminal. If lines are left out, the last line has their
/// number.
fn first_lines(text: &str) -> String {
    let count = text.lines().count();
    match screen::rows() {
        Some(rows) if count >= rows => {
            let kept = rows.saturating_sub(2);
            let lines: Vec<&str> = text.lines().take(kept).collect();
            format!("{}\n({} more)", lines.join("\n"), count - kept)
        }
        _ => text.to_owned(),
    }
}

/// Formats the containers as the flags request.
fn text(globals: &Globals, args: &ListArgs) -> Result<String, Error> {
    let found = load_containers(globals, args)?;
    if args.quiet {
        let ids = found.iter().map(|container| container.id.as_str());
        return Ok(ids.fold(String::new(), |text, id| text + id + "\n"));
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let empty = BTreeMap::new();
    let states: Vec<_> = found
        .iter()
        .map(|container| {
            let Listed {
                id, now, record, ..
            } = container;
            let owner = user_name(&passwd, record.owner);
            state::container_state(Some(record), *now, id, &empty, owner)
        })
        .collect();
    if args.format == OutputFormat::Json {
        // runc prints `null` if there are no containers.
        return Ok(if states.is_empty() {
            "null".into()
        } else {
            serde_json::to_string(&states).unwrap_or_default()
        });
    }
    if args.wide || screen::is_terminal() {
        let rows = states.into_iter().zip(&found);
        let rows: Vec<_> = rows
            .map(|(state, container)| (state, &container.record, container.wide.clone()))
            .collect();
        return Ok(people::format(&rows, args.wide));
    }
    let mut rows = vec![COLUMN_NAMES.map(str::to_owned)];
    rows.extend(states.iter().map(|state| {
        let bundle = state.bundle.display().to_string();
        [
            state.id.to_owned(),
            state.pid.to_string(),
            state.status.to_owned(),
            bundle,
            state.created.to_owned(),
            state.owner.clone(),
        ]
    }));
    Ok(format_table(&rows))
}

/// Reads all containers. Reports those that can't be read on stderr.
fn load_containers(globals: &Globals, args: &ListArgs) -> Result<Vec<Listed>, Error> {
    let root = Root::open(&globals.root)?;
    let ids = match &root {
        Some(root) => root.ids()?,
        None if globals.root_origin == RootOrigin::Given => {
            return Err(Error::NoRoot(globals.root.clone()));
        }
        None => Vec::new(),
    };
    let mut found = Vec::new();
    for id in ids {
        match load_container(root.as_ref(), &id, args.wide) {
            Ok((now, record, wide)) => found.push(Listed {
                id,
                now,
                record,
                wide,
            }),
            // The container was deleted after its name was read.
            Err(Error::State(crate::state::Error::Absent)) => {}
            Err(error) => crate::log::print_stderr_line(&format!("load container {id}: {error}")),
        }
    }
    Ok(found)
}

/// Reads a container's status and record. Keeps no descriptor open, because there may be more
/// containers than descriptors.
fn load_container(
    root: Option<&Root>,
    id: &str,
    wide: bool,
) -> Result<(CurrentState, Record, Option<Wide>), Error> {
    let dir = root.ok_or(crate::state::Error::Absent)?.container(id)?;
    let found = FoundContainer::read_container(&dir)?;
    let now = CurrentState::of(&found, found.status(&dir));
    let wide = wide.then(|| more_about(&dir, &found));
    Ok((now, found.record.ok_or(Error::NoRecord)?, wide))
}

/// Reads the additional columns of `--wide`. They are empty for a stopped container.
fn more_about(dir: &Dir, found: &FoundContainer) -> Wide {
    if matches!(found.init, InitState::Gone) {
        return Wide::default();
    }
    let cgroup = found.open_cgroup_in(dir).ok().flatten();
    let number = |file| {
        let text = cgroup.as_ref()?.read_file(file).ok()?;
        text.trim().parse().ok()
    };
    Wide {
        user: inspect::user_of(found),
        cgroup: cgroup
            .as_ref()
            .map(|cgroup| cgroup.path().display().to_string()),
        memory: number(c"memory.current"),
        pids: number(c"pids.current"),
    }
}

/// Pads all columns but the last to their widest cell.
fn format_table(rows: &[[String; 6]]) -> String {
    let mut widths = [MIN_COLUMN_WIDTH; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + COLUMN_GAP);
        }
    }
    let mut text = String::new();
    for row in rows {
        let (last, others) = row
            .split_last()
            .map(|(last, others)| (last.as_str(), others))
            .unwrap_or_default();
        for (cell, width) in others.iter().zip(widths) {
            let _ = write!(text, "{cell:width$}");
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

/// Returns the name of a host user, or `#uid` if the user has no name.
fn user_name(passwd: &str, uid: u32) -> String {
    let is_users = |line: &&str| line.split(':').nth(2).map(str::parse) == Some(Ok(uid));
    let line = passwd.lines().find(is_users);
    line.and_then(|line| line.split(':').next())
        .map_or_else(|| format!("#{uid}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = [
            "a".repeat(20),
            "1".into(),
            "running".into(),
            "/b".into(),
            "t".into(),
            "root".into(),
        ];
        let text = format_table(&[COLUMN_NAMES.map(str::to_owned), row]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first().and_then(|l| l.find("PID")), Some(23));
        assert!(lines.iter().all(|line| !line.ends_with(' ')));
    }

    #[test]
    fn an_unknown_owner_is_shown_by_number() {
        assert_eq!(user_name("root:x:0:0::/root:/bin/sh\n", 0), "root");
        assert_eq!(user_name("root:x:0:0::/root:/bin/sh\n", 7), "#7");
    }
}
