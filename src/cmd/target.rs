//! The containers that a command acts on: one, or all that match a regular expression.
//! The action itself belongs to the command.

use super::Error;
use crate::invocation::{Globals, TargetContainers};
use crate::state::{self, Root};

/// Runs an action on each container in the order of their ids. If an action fails, the actions on
/// the other containers still run.
pub(super) fn for_each_target(
    globals: &Globals,
    target: &TargetContainers,
    mut act: impl FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let pattern = match target {
        TargetContainers::One(id) => return act(id.as_str()),
        TargetContainers::Matching(pattern) => regex::Regex::new(pattern),
    };
    // This doesn't fail: `cli` has compiled the pattern once already.
    let pattern =
        pattern.map_err(|_| Error::BadFlag("--regex: not a regular expression".into()))?;
    let ids = match Root::open(&globals.root)? {
        Some(root) => root.ids()?,
        None => Vec::new(),
    };
    let mut failed = Vec::new();
    for id in ids.iter().filter(|id| pattern.is_match(id)) {
        match act(id) {
            // Another command removed the container first.
            Ok(()) | Err(Error::State(state::Error::Absent)) => {}
            Err(error) => failed.push(format!("container {id}: {error}")),
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::Several(failed.join("; ")))
    }
}
