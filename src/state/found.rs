//! A container as a command finds it: record, init and status.

use std::io::Read;
use std::os::fd::AsFd;

use nix::fcntl::OFlag;

use super::record::Record;
use super::{Dir, Error, InitState, MAX_RECORD_BYTES, RECORD_FILE, Status, init};
use crate::cgroup::Cgroup;
use crate::plan::host;
use crate::sys::path;
use crate::sys::procfs::Procfs;

/// The record and the init of a container.
pub(crate) struct FoundContainer {
    proc: Procfs,
    pub(crate) record: Option<Record>,
    pub(crate) init: InitState,
}

impl FoundContainer {
    /// Reads the record, and finds init.
    pub(crate) fn read_container(dir: &Dir) -> Result<FoundContainer, Error> {
        let proc = host::open_proc()?;
        let mut record = match dir.read_record() {
            Ok(Some(record)) => Some(record),
            other => match foreign_runtime(dir) {
                Some(runtime) => return Err(Error::Foreign(runtime)),
                None => other?,
            },
        };
        let init = match &mut record {
            Some(record) => {
                let boot_id = host::boot_id(&proc)?;
                if !record.is_of_boot(&boot_id) {
                    // The cgroup was of an earlier boot. No cgroup at its path now has the id 0.
                    record.cgroup_id = Some(0);
                }
                init(record, &proc, &boot_id)?
            }
            None => InitState::Gone,
        };
        Ok(FoundContainer { proc, record, init })
    }

    /// The host's /proc.
    pub(crate) fn proc(&self) -> &Procfs {
        &self.proc
    }

    /// Opens the container's cgroup. Returns `None` if the container never had one or has lost it.
    pub(crate) fn open_cgroup_in(&self, dir: &Dir) -> Result<Option<Cgroup>, Error> {
        dir.open_cgroup(self.record.as_ref())
    }

    /// Returns the status.
    pub(crate) fn status(&self, dir: &Dir) -> Status {
        let frozen = || {
            let cgroup = self.open_cgroup_in(dir).ok().flatten();
            cgroup.is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false))
        };
        dir.status(self.record.as_ref(), &self.init, frozen)
    }
}

impl Dir {
    /// Opens the container's cgroup, but not a different cgroup that was made at its path later.
    /// Without a record, any cgroup at the path counts.
    pub(crate) fn open_cgroup(&self, record: Option<&Record>) -> Result<Option<Cgroup>, Error> {
        let Some(path) = self.cgroup_path()? else {
            return Ok(None);
        };
        match Cgroup::open(&path)? {
            Some(cgroup) if cgroup.has_id(record.and_then(|record| record.cgroup_id))? => {
                Ok(Some(cgroup))
            }
            _ => Ok(None),
        }
    }
}

/// The runtime that made the directory, if it is another one. Its container may have processes that
/// this runtime does not find, so nothing of it may be removed.
fn foreign_runtime(dir: &Dir) -> Option<&'static str> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    if path::open_child(dir.fd.as_fd(), c"status", flags, 0).is_ok() {
        return Some("crun");
    }
    let file = path::open_child(dir.fd.as_fd(), RECORD_FILE, flags, 0).ok()?;
    let mut text = Vec::new();
    let file = std::fs::File::from(file);
    file.take(MAX_RECORD_BYTES).read_to_end(&mut text).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
    record.get("init_process_pid").map(|_| "runc")
}
