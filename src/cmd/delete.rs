//! `delete`: what is left of a container is removed, and with --force what still runs is ended first.

use super::{Error, Found};
use crate::cgroup::{self, Cgroup};
use crate::invocation::{Delete, Globals};
use crate::launch::{self, DEADLINE};
use crate::plan::host::Host;
use crate::state::record::Record;
use crate::state::{self, Dir, Init, Root, Status};

/// Deletes a container. With --force an absent one is no error, nor is one whose record can't be read.
pub(crate) fn delete(globals: &Globals, args: &Delete) -> Result<(), Error> {
    let id = args.id.as_str();
    let found = match Found::open(globals, id) {
        Err(Error::State(state::Error::Absent)) if args.force => return Ok(()),
        Err(Error::State(state::Error::Corrupt { .. })) if args.force => {
            return delete_unreadable(globals, id);
        }
        other => other?,
    };
    if args.force {
        // Before the lock, which a start that hangs may hold.
        end(&found)?;
    }
    let _lock = found.dir.lock()?;
    // Looked up anew: another delete, or the create itself, may have come first.
    let found = match Found::open(globals, id) {
        Err(Error::State(state::Error::Absent)) if args.force => return Ok(()),
        other => other?,
    };
    match found.status() {
        Status::Stopped => {}
        _ if args.force => end(&found)?,
        status => return Err(Error::NotStopped(id.into(), status.as_str())),
    }
    destroy(&found.root, &found.dir, id, found.record.as_ref())
}

/// Ends every process of a container.
pub(super) fn end(found: &Found) -> Result<(), Error> {
    if let Some(cgroup) = found.cgroup()? {
        cgroup.kill()?;
    }
    // Also by pidfd: a process that moved itself to another cgroup is still init.
    if let Init::Alive { pid, pidfd } = &found.init {
        launch::end(*pid, pidfd, DEADLINE)?;
    }
    Ok(())
}

/// Removes cgroup and state, in this order: until the last moment the container is known, so that a retry finds it.
pub(super) fn destroy(
    root: &Root,
    dir: &Dir,
    id: &str,
    record: Option<&Record>,
) -> Result<(), Error> {
    if let Some(record) = record {
        if let Some(cgroup) = Cgroup::open(&record.cgroup)? {
            // Init is gone; what it left behind in a pid namespace that it didn't own is ended with it.
            if cgroup.is_populated()? {
                cgroup.kill()?;
            }
            cgroup.delete(DEADLINE)?;
        }
    }
    Ok(root.remove(id, dir)?)
}

/// Removes a container whose record can't be read: its cgroup is looked for where it is by default.
fn delete_unreadable(globals: &Globals, id: &str) -> Result<(), Error> {
    let host = Host::probe()?;
    let root = Root::open(&globals.root)?.ok_or(state::Error::Absent)?;
    let dir = root.container(id)?;
    let _lock = dir.lock()?;
    let path = cgroup::plan_path(None, id, &host.own_cgroup)
        .map_err(|violation| Error::BadFlag(violation.to_string()))?;
    if let Some(cgroup) = Cgroup::open(&host.cgroup_dir(&path))? {
        cgroup.kill()?;
        cgroup.delete(DEADLINE)?;
    }
    Ok(root.remove(id, &dir)?)
}
