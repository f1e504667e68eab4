//! `delete`: what is left of a container is removed, and with --force what still runs is ended first.

use super::{Error, Found, cgroup_of, hooks, target};
use crate::cgroup::systemd::{Systemd, Unit};
use crate::cgroup::{self, Cgroup, Driver};
use crate::invocation::{Delete, Globals};
use crate::launch::{self, DEADLINE};
use crate::log::Log;
use crate::state::record::Record;
use crate::state::{self, Dir, Init, Lock, Root, Status};

const SIGKILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;

/// Deletes a container. With --force an absent one is no error, nor is one whose record can't be read.
pub(crate) fn delete(globals: &Globals, args: &Delete, log: &Log) -> Result<(), Error> {
    target::each(globals, &args.target, |id| one(globals, id, args, log))
}

fn one(globals: &Globals, id: &str, args: &Delete, log: &Log) -> Result<(), Error> {
    match delete_existing(globals, id, args.force, log) {
        Err(Error::State(state::Error::Absent)) if args.force => Ok(()),
        other => other,
    }
}

fn delete_existing(globals: &Globals, id: &str, force: bool, log: &Log) -> Result<(), Error> {
    let root = Root::open(&globals.root)?.ok_or(state::Error::Absent)?;
    let dir = root.container(id)?;
    if force {
        // Before the lock, which a start that hangs may hold.
        end(&dir)?;
    }
    let lock = dir.lock()?;
    let record = if force {
        end(&dir)?
    } else {
        let found = Found::read(&dir)?;
        let status = found.status(&dir);
        if status != Status::Stopped {
            return Err(Error::NotStopped(id.into(), status.as_str()));
        }
        found.record
    };
    destroy(&root, &dir, lock, id, record.as_ref(), &log.with_warnings())
}

/// Ends every process of a container, also of one whose record can't be read; answers with the record.
pub(super) fn end(dir: &Dir) -> Result<Option<Record>, Error> {
    let found = match Found::read(dir) {
        Err(Error::State(state::Error::Corrupt { .. })) => None,
        other => Some(other?),
    };
    let record = found.as_ref().and_then(|found| found.record.as_ref());
    if let Some(cgroup) = cgroup_of(dir, record)? {
        cgroup.kill()?;
    }
    let Some(found) = found else {
        return Ok(None);
    };
    // With a pid namespace of its own all ends with init.
    if let Some(members) = found.members().filter(|members| !members.own_pids) {
        members.signal(SIGKILL)?;
    }
    // Also by pidfd: a process that moved itself to another cgroup is still init.
    if let Init::Alive { pid, pidfd } = &found.init {
        launch::end(*pid, pidfd, DEADLINE)?;
    }
    Ok(found.record)
}

/// Removes cgroup and state, in this order: until the last moment the container is known, so that a retry finds it. The poststop
/// hooks run in between.
pub(super) fn destroy(
    root: &Root,
    dir: &Dir,
    lock: Lock,
    id: &str,
    record: Option<&Record>,
    log: &Log,
) -> Result<(), Error> {
    let mut cgroup = cgroup_of(dir, record)?;
    let unit = match record.map(|record| &record.cgroup) {
        Some(Driver::Systemd(unit)) => Some(unit),
        _ => None,
    };
    // Nearly always nothing is left in it, and this is all.
    if unit.is_none() && cgroup.as_ref().is_some_and(Cgroup::remove_unused) {
        cgroup = None;
    }
    if let Some(cgroup) = &cgroup {
        // Init is gone; what it left behind in a pid namespace that it didn't own is ended with it.
        if cgroup.is_populated()? {
            cgroup.kill()?;
        }
    }
    // The link to the cgroup is what proves that the unit was made for this container; one that has another cgroup now isn't ours.
    if let Some(unit) = unit
        && let Some(path) = dir.cgroup()?
        && (cgroup.is_some() || Cgroup::open(&path)?.is_none())
    {
        give_back(unit, cgroup.as_ref())?;
    }
    if let Some(cgroup) = &cgroup {
        cgroup.delete(DEADLINE)?;
    }
    // A create that was killed may have made this one. It would have refused what isn't free.
    let claimed = dir.claimed_cgroup()?.map(|path| Cgroup::open(&path));
    if let Some(cgroup) = claimed.transpose()?.flatten()
        && cgroup.refuse_in_use().is_ok()
    {
        cgroup.delete(DEADLINE)?;
    }
    if let Some(groups) = record.and_then(|record| record.rdt.as_ref()) {
        groups.remove().map_err(launch::Error::from)?;
    }
    match hooks::poststop(record, dir, lock, log)? {
        Some(_lock) => Ok(root.remove(id, dir)?),
        None => Ok(()),
    }
}

/// Removes a container that has ended, unless somebody else just did.
pub(super) fn remove(root: &Root, dir: &Dir, record: &Record, log: &Log) -> Result<(), Error> {
    match dir.lock() {
        Err(state::Error::Absent) => Ok(()),
        lock => destroy(root, dir, lock?, &record.id, Some(record), log),
    }
}

/// Has systemd stop a unit, if it is still the one with the container's cgroup. One whose cgroup is gone has stopped by itself:
/// then only the memory of a failure is taken away, which is harmless to a unit that has the name now.
fn give_back(unit: &Unit, cgroup: Option<&Cgroup>) -> Result<(), Error> {
    let given_back = Systemd::connect(unit).and_then(|mut systemd| match cgroup {
        Some(cgroup) if systemd.owns(cgroup)? => systemd.stop(),
        Some(_) => Ok(()),
        None => systemd.forget(),
    });
    Ok(given_back.map_err(cgroup::Error::from)?)
}
