//! `mounts add` and `mounts remove`: change the mounts of a container that exists.
//! `plan::rootfs::added` plans them, `child::mounts` makes and removes them.

use std::path::Path;

use super::{Error, log_warnings, open_container};
use crate::child;
use crate::invocation::{Change, Globals, Mounts};
use crate::launch::mounts::{self, Way};
use crate::launch::signals;
use crate::log::Log;
use crate::plan::host::{Host, mappings_of};
use crate::plan::ids::Mappings;
use crate::plan::rootfs::added::{self, AddedMounts, Container, RemovedMounts};
use crate::protocol::Inherited;
use crate::spec;
use crate::state::record::Record;
use crate::state::{Dir, FoundContainer, InitState, Status};

/// Adds or removes the mounts that a file lists. Changes either all of them or none.
pub(crate) fn mounts(globals: &Globals, args: &Mounts, log: &Log) -> Result<(), Error> {
    signals::block()?;
    let dir = open_container(globals, args.id.as_str())?;
    // Without the lock, two concurrent changes would overwrite each other's records.
    let _lock = dir.lock()?;
    let found = FoundContainer::read_container(&dir)?;
    let status = found.status(&dir);
    let running = matches!(status, Status::Created | Status::Running);
    let waits = status == Status::Created;
    let (Some(record), InitState::Alive { pid, pidfd }, true) =
        (&found.record, &found.init, running)
    else {
        return Err(Error::MountsOther(status.as_str()));
    };
    let way = Way::open(&dir, found.proc(), (*pid, pidfd), waits)?;
    if record.chroot || !way.has_mounts() {
        return Err(Error::NoOwnMounts);
    }
    let mappings = way.has_user().then(|| mappings_of(found.proc(), *pid));
    let mappings = mappings.map(|mappings| mappings.ok_or(Error::NotRunning));
    let mappings = mappings.transpose()?;
    let mut changed = record.clone();
    match args.change {
        Change::Add => add(way, &args.file, &dir, (&mut changed, mappings), log),
        Change::Remove => remove(way, &args.file, &dir, (&mut changed, mappings)),
    }
}

fn add(
    way: Way,
    file: &Path,
    dir: &Dir,
    (record, mappings): (&mut Record, Option<Mappings>),
    log: &Log,
) -> Result<(), Error> {
    let (entries, warnings) = spec::load_mounts(file)?;
    log_warnings(&warnings, log);
    let host = Host::read_host()?;
    let container = Container {
        host: &host,
        bundle: &record.bundle,
        root: &record.rootfs,
        namespaces: way.kinds(),
        mappings,
        label: record.mount_label.as_deref(),
        annotations: &record.annotations,
    };
    let planned = added::plan(&file.display().to_string(), &entries, container);
    let planned: AddedMounts = planned.map_err(spec::Error::Violations)?;
    log_warnings(&planned.warnings, log);
    let save = |ids: Vec<u64>| {
        record.added_mounts.extend(ids);
        Ok(dir.replace_record(record)?)
    };
    let child = |inherited: Inherited| child::add_mounts(&planned, inherited);
    Ok(mounts::add(way, &planned, &host.proc, save, child)?)
}

fn remove(
    way: Way,
    file: &Path,
    dir: &Dir,
    (record, mappings): (&mut Record, Option<Mappings>),
) -> Result<(), Error> {
    let destinations = spec::load_destinations(file)?;
    let file = file.display().to_string();
    let known = record.added_mounts.clone();
    let planned = RemovedMounts::plan(&file, &destinations, known, mappings.as_ref());
    let removed = mounts::remove(way, |inherited| child::remove_mounts(&planned, inherited))?;
    record.added_mounts.retain(|id| !removed.contains(id));
    Ok(dir.replace_record(record)?)
}
