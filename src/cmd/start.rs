//! `start`: makes a created container run its program.

use std::os::fd::AsFd;

use super::{Error, delete, hooks};
use crate::diagnosis::{Code, Diagnosis};
use crate::invocation::{Globals, StartArgs};
use crate::launch::trace::Trace;
use crate::launch::{self, notify::NotifyRelay};
use crate::log::Log;
use crate::state::{self, FoundContainer, InitState, Root, Status};
use crate::timeline::{self, Phase};

/// Releases the init of a created container. If the start fails, the container is stopped. If a
/// hook fails, the container is removed as well: the runtime-spec ("Lifecycle") requires the
/// runtime to stop and delete it.
pub(crate) fn start(globals: &Globals, args: &StartArgs, log: &Log) -> Result<(), Error> {
    let id = args.id.as_str();
    let trace = Trace::open(args.timeline.as_deref(), "start", id)?;
    timeline::begin_step(Phase::Record);
    let root = Root::open(&globals.root)?.ok_or(state::Error::Absent)?;
    let dir = root.container(id)?;
    // Take the lock before reading the status, so that only one of two concurrent starts succeeds.
    let lock = dir.lock()?;
    let found = FoundContainer::read_container(&dir)?;
    match found.status(&dir) {
        Status::Created => {}
        Status::Stopped => return Err(Error::StartStopped),
        Status::Running => return Err(Error::StartRunning),
        other => return Err(Error::StartOther(other.as_str())),
    }
    if found
        .record
        .as_ref()
        .is_some_and(|record| record.without_process)
    {
        // The runtime-spec requires an error here but not how to report it. OCI's validation suite
        // expects a stopped container and no error status, which is what crun does.
        delete::kill_container(&dir)?;
        let msg = "config.json has no process to start: the container is stopped";
        log.error(msg, &Diagnosis::new(Code::NoProcess));
        return Ok(());
    }
    let notify = NotifyRelay::open(&dir, log)?;
    let InitState::Alive { pid, pidfd } = &found.init else {
        return Err(Error::StartStopped);
    };
    let started = launch::start(&dir, found.proc(), *pid, pidfd);
    if let Some(trace) = trace {
        trace.write(None, &[], log);
    }
    let started = started.map_err(|error| {
        let cgroup = found.open_cgroup_in(&dir).ok().flatten();
        launch::explained(error, None, cgroup.as_ref(), None)
    });
    if let Err(error) = &started {
        delete::kill_container(&dir)?;
        if let Some(record) = found.record.as_ref().filter(|_| error.is_of_hook()) {
            drop(lock);
            // Report the hook's error, even if the removal fails. `delete --force` can remove the
            // rest.
            let _ = delete::remove_stopped(&root, &dir, record, log);
            return Ok(started?);
        }
    }
    match started {
        Err(launch::Error::NotRunning) => return Err(Error::StartStopped),
        other => other?,
    }
    // Release the lock, because the hooks and the wait can take forever. Other commands must be
    // able to kill the container in the meantime.
    drop(lock);
    if let Some(record) = &found.record {
        hooks::run_poststart(&root, &dir, record, log)?;
    }
    if let (Some(notify), InitState::Alive { pid, pidfd }) = (notify, found.init) {
        notify.wait(pid.unsigned_abs(), pidfd.as_fd(), log);
    }
    Ok(())
}
