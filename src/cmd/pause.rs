//! `pause` and `resume`: the container's cgroup is frozen, or thawed.

use super::{Error, Found, open};
use crate::invocation::Globals;
use crate::state::Status;

/// Freezes a created or running container.
pub(crate) fn pause(globals: &Globals, id: &str) -> Result<(), Error> {
    let dir = open(globals, id)?;
    let found = Found::read(&dir)?;
    match found.status(&dir) {
        Status::Created | Status::Running => {}
        Status::Stopped => return Err(Error::NotRunning),
        other => return Err(Error::PauseOther(other.as_str())),
    }
    if found.members().is_some() {
        return Err(Error::NoCgroup);
    }
    found.cgroup(&dir)?.ok_or(Error::NotRunning)?.freeze()?;
    Ok(())
}

/// Thaws a paused container.
pub(crate) fn resume(globals: &Globals, id: &str) -> Result<(), Error> {
    let dir = open(globals, id)?;
    let found = Found::read(&dir)?;
    if found.status(&dir) != Status::Paused {
        return Err(Error::NotPaused);
    }
    found.cgroup(&dir)?.ok_or(Error::NotPaused)?.thaw()?;
    Ok(())
}
