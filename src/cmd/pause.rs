//! `pause` and `resume`: freeze and thaw the container's cgroup.

use super::{Error, cgroupless_processes, open_container};
use crate::cgroup;
use crate::invocation::Globals;
use crate::state::{Dir, FoundContainer, Status};

/// Freezes a created or running container.
pub(crate) fn pause(globals: &Globals, id: &str) -> Result<(), Error> {
    let dir = open_container(globals, id)?;
    let found = FoundContainer::read_container(&dir)?;
    match found.status(&dir) {
        Status::Created | Status::Running => {}
        Status::Stopped => return Err(Error::NotRunning),
        other => return Err(Error::PauseOther(other.as_str())),
    }
    if cgroupless_processes(&found).is_some() {
        return Err(Error::NoCgroup);
    }
    let cgroup = found.open_cgroup_in(&dir)?.ok_or(Error::NotRunning)?;
    replace_error_if_gone(cgroup.freeze_all(), &dir, Error::NotRunning)
}

/// Thaws a paused container.
pub(crate) fn resume(globals: &Globals, id: &str) -> Result<(), Error> {
    let dir = open_container(globals, id)?;
    let found = FoundContainer::read_container(&dir)?;
    let status = found.status(&dir);
    if !matches!(status, Status::Created | Status::Running | Status::Paused) {
        return Err(Error::NotPaused);
    }
    let cgroup = found.open_cgroup_in(&dir)?.ok_or(Error::NotPaused)?;
    // A container can be thawed as soon as its freezer is set, even if not all of its processes
    // have stopped. A process may be ending, changing its cgroup, or in an uninterruptible sleep.
    if status != Status::Paused && !cgroup.stops_processes() {
        return Err(Error::NotPaused);
    }
    replace_error_if_gone(cgroup.thaw_all(), &dir, Error::NotPaused)
}

/// Returns the result, or `gone` if the container was stopped or deleted in the meantime.
fn replace_error_if_gone(
    done: Result<(), cgroup::Error>,
    dir: &Dir,
    gone: Error,
) -> Result<(), Error> {
    let lives = |status| matches!(status, Status::Created | Status::Running | Status::Paused);
    let is_gone =
        || FoundContainer::read_container(dir).is_ok_and(|found| !lives(found.status(dir)));
    match done {
        Err(_) if is_gone() => Err(gone),
        done => Ok(done?),
    }
}
