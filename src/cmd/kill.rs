//! `kill`: sends a signal to init, or to every process of the container.

use super::{Error, cgroupless_processes, open_container, target};
use crate::invocation::{Globals, KillArgs};
use crate::state::{FoundContainer, InitState};

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;

/// Sends the signal. Takes no lock, because a kill must not wait for a start that hangs.
pub(crate) fn kill(globals: &Globals, args: &KillArgs) -> Result<(), Error> {
    target::for_each_target(globals, &args.target, |id| kill_one(globals, id, args))
}

fn kill_one(globals: &Globals, id: &str, args: &KillArgs) -> Result<(), Error> {
    let dir = open_container(globals, id)?;
    let found = FoundContainer::read_container(&dir)?;
    // If the container has no pid namespace of its own, its other processes survive init. The
    // cgroup lists them.
    let shared = found.record.as_ref().is_some_and(|record| !record.own_pids);
    let all = args.all || shared && args.signal == SIGKILL;
    if all {
        if let Some(members) = cgroupless_processes(&found) {
            return Ok(members.signal(args.signal)?);
        }
        let Some(cgroup) = found.open_cgroup_in(&dir)? else {
            return no_process_result(args);
        };
        if !cgroup.is_populated()? {
            return no_process_result(args);
        }
        return Ok(cgroup.signal_all(args.signal)?);
    }
    match &found.init {
        InitState::Alive { pid, pidfd } => Ok(crate::launch::kill(*pid, pidfd, args.signal)?),
        InitState::Gone => Err(Error::NotRunning),
    }
}

/// Returns the result for a container without processes. With --all this is no error, as in runc.
fn no_process_result(args: &KillArgs) -> Result<(), Error> {
    if args.all {
        Ok(())
    } else {
        Err(Error::NotRunning)
    }
}
