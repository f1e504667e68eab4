//! `list`: prints all containers below --root.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::state::{self, CurrentState};
use super::{Error, print_stdout};
use crate::invocation::{Globals, ListArgs, OutputFormat, RootOrigin};
use crate::state::record::Record;
use crate::state::{Found, Root};

const COLUMN_NAMES: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
/// Columns are at least this wide and separated by this many blanks, as in runc's table.
const MIN_COLUMN_WIDTH: usize = 12;
const COLUMN_GAP: usize = 3;

/// Prints the containers. An unreadable container is reported on stderr and doesn't stop the
/// others.
pub(crate) fn list(globals: &Globals, args: &ListArgs) -> Result<(), Error> {
    let root = Root::open(&globals.root)?;
    let ids = match &root {
        Some(root) => root.ids()?,
        None if globals.root_origin == RootOrigin::Given => {
            return Err(Error::NoRoot(globals.root.clone()));
        }
        None => Vec::new(),
    };
    let mut found = Vec::new();
    for id in &ids {
        match load_container(root.as_ref(), id) {
            Ok(container) => found.push((id, container)),
            // The container was deleted after its name was read.
            Err(Error::State(crate::state::Error::Absent)) => {}
            Err(error) => crate::log::to_stderr(&format!("load container {id}: {error}")),
        }
    }
    if args.quiet {
        return print_stdout(
            &found
                .iter()
                .fold(String::new(), |text, (id, _)| text + id + "\n"),
        );
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let empty = BTreeMap::new();
    let states: Vec<_> = found
        .iter()
        .map(|(id, (now, record))| {
            let owner = user_name(&passwd, record.owner);
            state::container_state(Some(record), *now, id, &empty, owner)
        })
        .collect();
    if args.format == OutputFormat::Json {
        // runc prints `null` if there are no containers.
        let text = if states.is_empty() {
            "null".into()
        } else {
            serde_json::to_string(&states).unwrap_or_default()
        };
        return print_stdout(&text);
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
    print_stdout(&format_table(&rows))
}

/// Reads a container's status and record. No descriptor stays open: there may be more containers
/// than descriptors.
fn load_container(root: Option<&Root>, id: &str) -> Result<(CurrentState, Record), Error> {
    let dir = root.ok_or(crate::state::Error::Absent)?.container(id)?;
    let found = Found::read(&dir)?;
    let now = CurrentState::of(&found, found.status(&dir));
    Ok((now, found.record.ok_or(Error::NoRecord)?))
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

/// The name of a host user, or `#uid` if the user has no name.
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
