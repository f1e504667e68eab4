//! Cgroups of version 2: makes a cgroup, sets its limits, freezes it, kills its processes, and
//! removes it.
//! Its path (`paths`) and its limits (`resources`, `devices_bpf`) are planned elsewhere, before
//! anything is changed.
//!
//! Processes enter a cgroup only through clone3(CLONE_INTO_CGROUP). Nothing here writes to
//! cgroup.procs: such a write waits for an RCU grace period, about 10 ms on an idle machine.

mod access;
mod dbus;
mod delegate;
mod devices_bpf;
mod driver;
mod hierarchy;
mod paths;
mod placement;
mod processes;
mod resources;
mod shortage;
mod stats;
pub(crate) mod systemd;
#[cfg(test)]
mod tests;
mod tree;
mod update;
mod watch;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;

pub(crate) use devices_bpf::DeviceProgram;
pub(crate) use driver::{Driver, plan_driver, remove_claimed, requires_cgroup};
pub(crate) use hierarchy::{Hierarchy, missing_controllers};
use paths::plan_path;
pub(crate) use placement::Placement;
use resources::Limit;
pub(crate) use resources::{Limits, plan_limits, plan_update};
pub(crate) use shortage::{NeededResource, Shortage};
pub(crate) use stats::Stats;
pub(crate) use systemd::property_names as scope_property_names;
pub(crate) use systemd::reach as reach_systemd;
pub(crate) use watch::WatchEvent;

use crate::error::{Failed, failed};
use crate::origin::{Origin, config};
use crate::sys::{Errno, bpf, path};

const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "cgroup v2 is not available: neither /sys/fs/cgroup nor /sys/fs/cgroup/unified is a cgroup2 mount ({0}); a host with cgroup v1 only can't run containers with this runtime"
    )]
    NoHierarchy(String),
    #[error("{0} is not a cgroup of version 2")]
    NotCgroup(PathBuf),
    #[error("container's cgroup is not empty: {path}: {holders}")]
    Occupied { path: PathBuf, holders: String },
    #[error("container's cgroup unexpectedly frozen: {0}")]
    Frozen(PathBuf),
    #[error("{origin}: the {controller} controller is not available in {cgroup} ({reason})")]
    Unavailable {
        origin: Origin,
        controller: String,
        cgroup: PathBuf,
        reason: String,
    },
    #[error("{origin}: this kernel has no {file} in {cgroup}")]
    NoFile {
        origin: Origin,
        file: String,
        cgroup: PathBuf,
    },
    #[error("{origin}: {failed}")]
    Limit { origin: Origin, failed: Failed },
    /// The text is that of runc's checkBeforeUpdate.
    #[error("{origin}: rejecting {what} {limit} <= usage {usage}")]
    InUse {
        origin: Origin,
        what: &'static str,
        limit: u64,
        usage: u64,
    },
    /// A call of bpf(2) for the device rules failed. A caller that is in a user namespace or isn't
    /// root may ignore EPERM, because the kernel doesn't let it load a device program.
    #[error("{devices}: {0}", devices = config("linux.resources.devices"))]
    Devices(Failed),
    #[error("{path} did not {verb} within {} s: {holders}", processes::FREEZER_TIMEOUT.as_secs())]
    Freezer {
        path: PathBuf,
        verb: &'static str,
        holders: String,
    },
    /// Another process changed cgroup.freeze while this program waited for the effect.
    #[error("{path} was {done} by another meanwhile")]
    FreezerUndone { path: PathBuf, done: &'static str },
    #[error("process {pid} is in {found} and not in systemd unit {unit}, which was started for it")]
    Elsewhere {
        pid: i32,
        found: String,
        unit: String,
    },
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
    #[error("remove cgroup {path}: it is still in use: {holders}")]
    Busy { path: PathBuf, holders: String },
    #[error(transparent)]
    Call(#[from] Failed),
}

impl Error {
    /// The signal that interrupted the command, if a signal is the reason for the error.
    pub(crate) fn interrupting_signal(&self) -> Option<i32> {
        match self {
            Error::Systemd(systemd::Error::Interrupted(signal)) => Some(*signal),
            _ => None,
        }
    }

    /// True if cgroupfs or bpf(2) returned an error that means that the caller lacks permission.
    pub(crate) fn is_denied(&self) -> bool {
        match self {
            Error::Call(failed) | Error::Devices(failed) | Error::Limit { failed, .. } => {
                matches!(failed.errno, Errno::EACCES | Errno::EPERM | Errno::EROFS)
            }
            _ => false,
        }
    }
}

/// Loads the device program of the default rules, and attaches it to a cgroup if one is given.
pub(crate) fn try_device_program(cgroup: Option<BorrowedFd<'_>>) -> crate::sys::Result<()> {
    let Ok(Some(program)) = devices_bpf::plan_program(&[]) else {
        return Ok(());
    };
    let program = bpf::load_device_program(&program.instructions)?;
    cgroup.map_or(Ok(()), |cgroup| {
        bpf::attach_device_program(cgroup, &program, None)
    })
}

/// A cgroup that exists.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// The absolute path on the host.
    path: PathBuf,
    dir: OwnedFd,
    /// True if the cgroup existed before the container. Then it may already have other device
    /// rules.
    taken_over: bool,
}

impl Cgroup {
    /// Makes the cgroup at `below`, a path below the mount (see `plan_path`), and sets all limits
    /// except the device rules. On an error, removes the cgroups that it made. An existing cgroup
    /// is used if it is empty and not frozen. `own` is the text of /proc/self/cgroup if the kernel
    /// restricts the cgroups that the caller's processes can enter.
    pub(crate) fn create(
        hierarchy: &Hierarchy,
        below: &Path,
        limits: &Limits,
        own: Option<&str>,
    ) -> Result<Cgroup, Error> {
        let made = hierarchy::make_cgroups(&hierarchy.mount, below)?;
        let path = hierarchy.mount.join(below);
        let taken_over = made.last() != Some(&path);
        Cgroup::set_up(hierarchy, below, taken_over, limits, own)
            .inspect_err(|_| hierarchy::remove_new_cgroups(&made))
    }

    fn set_up(
        hierarchy: &Hierarchy,
        below: &Path,
        taken_over: bool,
        limits: &Limits,
        own: Option<&str>,
    ) -> Result<Cgroup, Error> {
        let path = hierarchy.mount.join(below);
        let mut cgroup = Cgroup::open(&path)?.ok_or(Error::NotCgroup(path))?;
        cgroup.taken_over = taken_over;
        cgroup.refuse_in_use()?;
        if let Some(own) = own {
            cgroup.refuse_unenterable(&hierarchy.mount, below, own)?;
        }
        cgroup.enable_controllers(&hierarchy.mount, below)?;
        cgroup.refuse_below_usage(&limits.above_usage)?;
        match taken_over && cgroup.is_idle() {
            true => cgroup.apply_limits(&limits.for_idle_cgroup())?,
            false => cgroup.apply_limits(limits)?,
        }
        Ok(cgroup)
    }

    /// Sets all limits except the device rules in a cgroup that this program didn't make.
    pub(crate) fn take_over(&self, hierarchy: &Hierarchy, limits: &Limits) -> Result<(), Error> {
        // systemd doesn't enable the controllers that it doesn't know: hugetlb, rdma and misc.
        if let Ok(below) = self.path.strip_prefix(&hierarchy.mount) {
            self.enable_controllers(&hierarchy.mount, below)?;
        }
        self.refuse_below_usage(&limits.above_usage)?;
        self.apply_limits(limits)
    }

    /// Opens the cgroup at an absolute path. Returns `None` if the path doesn't exist.
    pub(crate) fn open(path: &Path) -> Result<Option<Cgroup>, Error> {
        let opening = || format!("open cgroup {}", path.display());
        let name = path::c_path(path.as_os_str()).map_err(failed("open", opening))?;
        let dir = match tree::open_dir(AT_FDCWD, &name) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.map_err(failed("open", opening))?,
        };
        if path::filesystem(dir.as_fd()).map_err(failed("fstatfs", opening))? != CGROUP2_SUPER_MAGIC
        {
            return Err(Error::NotCgroup(path.to_owned()));
        }
        Ok(Some(Cgroup {
            path: path.to_owned(),
            dir,
            taken_over: false,
        }))
    }

    /// The directory, for CLONE_INTO_CGROUP.
    pub(crate) fn dir_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The absolute path on the host.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// True if the cgroup has this id. After a container's cgroup is removed, somebody may make
    /// another one at its path. Without an id, returns true, because only paths can be compared.
    pub(crate) fn has_id(&self, id: Option<u64>) -> Result<bool, Error> {
        match id {
            Some(id) => Ok(self.id()? == id),
            None => Ok(true),
        }
    }

    /// The inode number of the cgroup. No other cgroup since boot has had this number, even at the
    /// same path (cgroup_id in bpf-helpers(7)).
    pub(crate) fn id(&self) -> Result<u64, Error> {
        let what = || format!("look at cgroup {}", self.path.display());
        let stat = nix::sys::stat::fstat(&self.dir).map_err(failed("fstat", what))?;
        Ok(stat.st_ino)
    }

    /// Reads the whole text of a file.
    pub(crate) fn read_file(&self, file: &CStr) -> Result<String, Error> {
        Ok(tree::read_file(self.dir_fd(), file)
            .map_err(failed("read", || self.describe_access("read", file)))?)
    }

    fn write_file(&self, file: &CStr, value: &str) -> Result<(), Error> {
        let what = || self.describe_access(&format!("write {value:?} to"), file);
        Ok(tree::write_file(self.dir_fd(), file, value).map_err(failed("write", what))?)
    }

    fn describe_access(&self, verb: &str, file: &CStr) -> String {
        format!("{verb} {}/{}", self.path.display(), file.to_string_lossy())
    }

    fn read_events(&self) -> Result<tree::CgroupEvents, Error> {
        match tree::read_events(self.dir_fd()) {
            // The cgroup was removed in the meantime.
            Err(Errno::ENODEV | Errno::ENOENT) => Ok(tree::CgroupEvents::default()),
            other => Ok(other.map_err(failed("read", || {
                self.describe_access("read", c"cgroup.events")
            }))?),
        }
    }

    /// Refuses a cgroup that has processes, because the container would share it with them. Also
    /// refuses a frozen cgroup, because the child would never run in it.
    pub(crate) fn refuse_in_use(&self) -> Result<(), Error> {
        let events = self.read_events()?;
        if events.populated {
            return Err(Error::Occupied {
                path: self.path.clone(),
                holders: self.describe_processes(),
            });
        }
        if events.frozen {
            return Err(Error::Frozen(self.path.clone()));
        }
        Ok(())
    }

    /// Writes all limits except the device rules, in order.
    fn apply_limits(&self, limits: &Limits) -> Result<(), Error> {
        limits
            .files
            .iter()
            .try_for_each(|limit| self.apply_limit(limit))
    }

    fn apply_limit(&self, limit: &Limit) -> Result<(), Error> {
        let (mut file, mut value) = (&limit.file, &limit.value);
        let mut result = self.write_value(file, value);
        // The first file may exist but not support this device: each device has its own I/O
        // scheduler.
        if let (Err(Errno::ENOENT | Errno::EOPNOTSUPP), Some((other, converted))) =
            (&result, &limit.or_else)
        {
            (file, value) = (other, converted);
            result = self.write_value(file, value);
        }
        match result {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) if limit.no_limit => Ok(()),
            Err(Errno::EINVAL) if limit.again_later => Ok(()),
            Err(Errno::ENOENT) => Err(self.unavailable_file_error(limit, file)),
            Err(errno) => Err(Error::Limit {
                origin: limit.origin.clone(),
                failed: Failed::new(
                    format!("write {value:?} to {}/{file}", self.path.display()),
                    "write",
                    errno,
                ),
            }),
        }
    }

    fn write_value(&self, file: &str, value: &str) -> crate::sys::Result<()> {
        let file = CString::new(file).map_err(|_| Errno::EINVAL)?;
        tree::write_file(self.dir_fd(), &file, value)
    }

    /// Sets the device rules for all present and future processes of the cgroup. Loads no program
    /// if all devices are allowed.
    pub(crate) fn set_device_rules(&self, limits: &Limits) -> Result<(), Error> {
        if self.taken_over {
            return self.replace_devices(limits.devices.as_ref());
        }
        let Some(program) = &limits.devices else {
            return Ok(());
        };
        let program = bpf::load_device_program(&program.instructions)
            .map_err(failed("bpf", || "load the device program".into()))
            .map_err(Error::Devices)?;
        bpf::attach_device_program(self.dir_fd(), &program, None)
            .map_err(failed("bpf", || {
                format!("attach the device program to {}", self.path.display())
            }))
            .map_err(Error::Devices)
    }
}
