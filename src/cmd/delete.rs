//! `delete`: what is left of a container is removed, and with --force what still runs is ended first.

use super::{Error, Found, cgroup_of};
use crate::invocation::{Delete, Globals};
use crate::launch::{self, DEADLINE};
use crate::state::{self, Dir, Init, Root, Status};

/// Deletes a container. With --force an absent one is no error, nor is one whose record can't be read.
pub(crate) fn delete(globals: &Globals, args: &Delete) -> Result<(), Error> {
    let id = args.id.as_str();
    match delete_existing(globals, id, args.force) {
        Err(Error::State(state::Error::Absent)) if args.force => Ok(()),
        other => other,
    }
}

fn delete_existing(globals: &Globals, id: &str, force: bool) -> Result<(), Error> {
    let root = Root::open(&globals.root)?.ok_or(state::Error::Absent)?;
    let dir = root.container(id)?;
    if force {
        // Before the lock, which a start that hangs may hold.
        end(&dir)?;
    }
    let _lock = dir.lock()?;
    if force {
        end(&dir)?;
    } else {
        let status = Found::read(&dir)?.status(&dir);
        if status != Status::Stopped {
            return Err(Error::NotStopped(id.into(), status.as_str()));
        }
    }
    destroy(&root, &dir, id)
}

/// Ends every process of a container, also of one whose record can't be read.
pub(super) fn end(dir: &Dir) -> Result<(), Error> {
    if let Some(cgroup) = cgroup_of(dir)? {
        cgroup.kill()?;
    }
    let found = match Found::read(dir) {
        Err(Error::State(state::Error::Corrupt { .. })) => return Ok(()),
        other => other?,
    };
    // Also by pidfd: a process that moved itself to another cgroup is still init.
    if let Init::Alive { pid, pidfd } = &found.init {
        launch::end(*pid, pidfd, DEADLINE)?;
    }
    Ok(())
}

/// Removes cgroup and state, in this order: until the last moment the container is known, so that a retry finds it.
pub(super) fn destroy(root: &Root, dir: &Dir, id: &str) -> Result<(), Error> {
    if let Some(cgroup) = cgroup_of(dir)? {
        // Init is gone; what it left behind in a pid namespace that it didn't own is ended with it.
        if cgroup.is_populated()? {
            cgroup.kill()?;
        }
        cgroup.delete(DEADLINE)?;
    }
    Ok(root.remove(id, dir)?)
}
