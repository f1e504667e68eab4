//! `pause` and `resume`: the container's cgroup is frozen, or thawed.

use super::{Error, Found};
use crate::invocation::Globals;
use crate::state::Status;

/// Freezes a created or running container.
pub(crate) fn pause(globals: &Globals, id: &str) -> Result<(), Error> {
    let found = Found::open(globals, id)?;
    match found.status() {
        Status::Created | Status::Running => {}
        Status::Stopped => return Err(Error::NotRunning),
        other => return Err(Error::PauseOther(other.as_str())),
    }
    found.cgroup()?.ok_or(Error::NotRunning)?.freeze()?;
    Ok(())
}

/// Thaws a paused container.
pub(crate) fn resume(globals: &Globals, id: &str) -> Result<(), Error> {
    let found = Found::open(globals, id)?;
    if found.status() != Status::Paused {
        return Err(Error::NotPaused);
    }
    found.cgroup()?.ok_or(Error::NotPaused)?.thaw()?;
    Ok(())
}
