//! `delete`: removes a stopped container. With --force it first kills the processes that still run.

use std::borrow::Cow;

use super::{Error, cgroupless_processes, hooks, target};
use crate::cgroup;
use crate::invocation::{DeleteArgs, Globals};
use crate::launch::{self, DEADLINE};
use crate::log::Log;
use crate::state::record::Record;
use crate::state::{self, Dir, FoundContainer, InitState, Lock, Root, Status};

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;

/// Deletes a container. With --force, an absent container is no error, and neither is a record that
/// can't be read.
pub(crate) fn delete(globals: &Globals, args: &DeleteArgs, log: &Log) -> Result<(), Error> {
    target::for_each_target(globals, &args.target, |id| {
        delete_one(globals, id, args, log)
    })
}

fn delete_one(globals: &Globals, id: &str, args: &DeleteArgs, log: &Log) -> Result<(), Error> {
    match delete_existing(globals, id, args.force, log) {
        Err(Error::State(state::Error::Absent)) if args.force => Ok(()),
        other => other,
    }
}

fn delete_existing(globals: &Globals, id: &str, force: bool, log: &Log) -> Result<(), Error> {
    let root = Root::open(&globals.root)?.ok_or(state::Error::Absent)?;
    let dir = root.container(id)?;
    if force {
        // Kill before taking the lock, because a start that hangs may hold the lock.
        kill_container(&dir)?;
    }
    let lock = dir.lock()?;
    let record = if force {
        kill_container(&dir)?
    } else {
        let found = FoundContainer::read_container(&dir)?;
        let status = found.status(&dir);
        if status != Status::Stopped {
            return Err(Error::NotStopped(id.into(), status.as_str()));
        }
        found.record
    };
    destroy_container(&root, &dir, lock, record.as_ref(), &log.with_warnings())
}

/// Kills every process of a container, even if its record can't be read. Returns the record.
pub(super) fn kill_container(dir: &Dir) -> Result<Option<Record>, Error> {
    let found = match FoundContainer::read_container(dir) {
        Err(state::Error::Corrupt { .. }) => None,
        other => Some(other?),
    };
    let record = found.as_ref().and_then(|found| found.record.as_ref());
    if let Some(cgroup) = dir.open_cgroup(record)? {
        cgroup.kill_all()?;
    }
    let Some(found) = found else {
        return Ok(None);
    };
    // If the container has its own pid namespace, all its processes die with init.
    if let Some(members) = cgroupless_processes(&found).filter(|members| !members.own_pids) {
        members.signal(SIGKILL)?;
    }
    // Kill init by its pidfd too, because init may have moved to another cgroup.
    if let InitState::Alive { pid, pidfd } = &found.init {
        launch::end(*pid, pidfd, DEADLINE)?;
    }
    Ok(found.record)
}

/// Removes the cgroup and then the state, so that a retry still finds the container. The poststop
/// hooks run in between.
pub(super) fn destroy_container(
    root: &Root,
    dir: &Dir,
    lock: Lock,
    record: Option<&Record>,
    log: &Log,
) -> Result<(), Error> {
    if let Some(path) = dir.cgroup_path()? {
        let id = record.and_then(|record| record.cgroup_id);
        let driver = record.map(|record| Cow::Borrowed(&record.cgroup));
        driver
            .unwrap_or_default()
            .remove_cgroup(&path, id, DEADLINE)?;
    }
    if let Some(path) = dir.claimed_cgroup_path()? {
        cgroup::remove_claimed(&path, DEADLINE)?;
    }
    if let Some(groups) = record.and_then(|record| record.rdt.as_ref()) {
        groups.remove_dirs().map_err(launch::Error::from)?;
    }
    match hooks::run_poststop(record, dir, lock, log)? {
        Some(_lock) => Ok(root.remove_container_dir(dir)?),
        None => Ok(()),
    }
}

/// Removes a stopped container. Returns no error if another command has just removed it.
pub(super) fn remove_stopped(
    root: &Root,
    dir: &Dir,
    record: &Record,
    log: &Log,
) -> Result<(), Error> {
    match dir.lock() {
        Err(state::Error::Absent) => Ok(()),
        lock => destroy_container(root, dir, lock?, Some(record), log),
    }
}
