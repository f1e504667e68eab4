//! `state`: prints the state of a container in the runtime-spec's format.

use super::{Error, open, print};
use crate::invocation::Globals;
use crate::state::record::{OCI_VERSION, Record, State};
use crate::state::{Found, Init, Status};

/// Prints the state as JSON in runc's layout: indented by two, without a final newline.
pub(crate) fn state(globals: &Globals, id: &str) -> Result<(), Error> {
    let dir = open(globals, id)?;
    let found = Found::read(&dir)?;
    let empty = std::collections::BTreeMap::new();
    let now = Now::of(&found, found.status(&dir));
    let state = describe(found.record.as_ref(), now, id, &empty, String::new());
    print(&serde_json::to_string_pretty(&state).unwrap_or_default())
}

/// A container's current status and pid.
#[derive(Clone, Copy)]
pub(super) struct Now {
    status: Status,
    /// 0 once the container has stopped.
    pid: i32,
}

impl Now {
    pub(super) fn of(found: &Found, status: Status) -> Now {
        let pid = match (&found.init, status) {
            (_, Status::Stopped) | (Init::Gone, _) => 0,
            (Init::Alive { pid, .. }, _) => *pid,
        };
        Now { status, pid }
    }
}

/// The state of a container. If its create was killed early, only the id is known.
pub(super) fn describe<'a>(
    record: Option<&'a Record>,
    now: Now,
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
