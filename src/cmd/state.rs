//! `state`: prints the state of a container in the runtime-spec's format.

use super::{Error, open_container, print_stdout};
use crate::invocation::Globals;
use crate::state::record::{OCI_VERSION, Record, State};
use crate::state::{FoundContainer, InitState, Status};

/// Prints the state as JSON in runc's layout: indented by two spaces, without a final newline.
pub(crate) fn state(globals: &Globals, id: &str) -> Result<(), Error> {
    let dir = open_container(globals, id)?;
    let found = FoundContainer::read_container(&dir)?;
    let empty = std::collections::BTreeMap::new();
    let now = CurrentState::of(&found, found.status(&dir));
    let state = container_state(found.record.as_ref(), now, id, &empty, String::new());
    print_stdout(&serde_json::to_string_pretty(&state).unwrap_or_default())
}

/// A container's current status and pid.
#[derive(Clone, Copy)]
pub(super) struct CurrentState {
    status: Status,
    /// 0 once the container has stopped.
    pid: i32,
}

impl CurrentState {
    pub(super) fn of(found: &FoundContainer, status: Status) -> CurrentState {
        let pid = match (&found.init, status) {
            (_, Status::Stopped) | (InitState::Gone, _) => 0,
            (InitState::Alive { pid, .. }, _) => *pid,
        };
        CurrentState { status, pid }
    }
}

/// Returns the state of a container. If its create was killed early, only the id is known.
pub(super) fn container_state<'a>(
    record: Option<&'a Record>,
    now: CurrentState,
    id: &'a str,
    empty: &'a std::collections::BTreeMap<String, String>,
    owner: String,
) -> State<'a> {
    let nothing = std::path::Path::new("");
    State {
        oci_version: OCI_VERSION,
        id,
        pid: now.pid,
        status: now.status.as_str(),
        bundle: record.map_or(nothing, |r| &r.bundle),
        rootfs: record.map_or(nothing, |r| &r.rootfs),
        created: record.map_or("", |r| &r.created),
        annotations: record.map_or(empty, |r| &r.annotations),
        owner,
    }
}
