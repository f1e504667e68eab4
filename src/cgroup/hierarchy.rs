//! The hierarchy that contains the cgroups: its mount point, and the controllers of its cgroups.
//! Operations on a single cgroup are in `cgroup`.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

use super::{CGROUP2_SUPER_MAGIC, Cgroup, Error, Limit, Limits, tree};
use crate::error::failed;
use crate::sys::Errno;

/// The cgroup v2 hierarchy of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// The root of the cgroup2 mount.
    pub(crate) mount: PathBuf,
    /// True if cgroup v1 hierarchies are mounted too. The controllers of a v1 hierarchy are missing
    /// from the v2 hierarchy.
    pub(crate) hybrid: bool,
}

impl Hierarchy {
    /// Finds the hierarchy at one of the two paths where distributions mount it.
    pub(crate) fn probe() -> Result<Hierarchy, Error> {
        let mut reasons = Vec::new();
        for (mount, hybrid) in [("/sys/fs/cgroup", false), ("/sys/fs/cgroup/unified", true)] {
            match nix::sys::statfs::statfs(mount) {
                Ok(stat) if stat.filesystem_type().0 == CGROUP2_SUPER_MAGIC => {
                    return Ok(Hierarchy {
                        mount: mount.into(),
                        hybrid,
                    });
                }
                Ok(_) => reasons.push(format!("{mount}: another file system")),
                Err(errno) => reasons.push(format!("{mount}: {}", errno.desc().to_lowercase())),
            }
        }
        Err(Error::NoHierarchy(reasons.join(", ")))
    }
}

impl Cgroup {
    /// Enables the controllers of the mount's root in every cgroup above this cgroup. A controller
    /// that can't be enabled is no error here, because a limit that needs it is refused later, with
    /// the reason.
    pub(super) fn enable_controllers(&self, mount: &Path, below: &Path) -> Result<(), Error> {
        let root = format!("{}/cgroup.controllers", mount.display());
        let root = CString::new(root).map_err(|_| Error::NotCgroup(mount.to_owned()))?;
        let offered = tree::read_file(AT_FDCWD, &root).map_err(failed("read", || {
            format!("read {}", root.to_string_lossy())
        }))?;
        if offered.trim().is_empty() {
            return Ok(());
        }
        let here = self.read_file(c"cgroup.controllers")?;
        if missing_names(&offered, &here).is_empty() {
            return Ok(());
        }
        let mut ancestor = mount.to_owned();
        for component in below.components() {
            if let Ok(Some(cgroup)) = Cgroup::open(&ancestor)
                && let (Ok(has), Ok(enabled)) = (
                    cgroup.read_file(c"cgroup.controllers"),
                    cgroup.read_file(c"cgroup.subtree_control"),
                )
            {
                let missing = missing_names(&has, &enabled);
                let all: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
                if !all.is_empty()
                    && cgroup
                        .write_file(c"cgroup.subtree_control", &all.join(" "))
                        .is_err()
                {
                    for one in &all {
                        let _ = cgroup.write_file(c"cgroup.subtree_control", one);
                    }
                }
            }
            ancestor.push(component);
        }
        // A new cgroup below a threaded one accepts no process until it becomes threaded too.
        if self
            .read_file(c"cgroup.type")
            .is_ok_and(|kind| kind.trim() == "domain invalid")
        {
            let _ = self.write_file(c"cgroup.type", "threaded");
        }
        Ok(())
    }

    /// Calls `enable_controllers` if this cgroup, which is in use, lacks a controller that the
    /// limits need. Somebody may have disabled the controller since the cgroup was made. Also, a
    /// user's systemd enables only the controllers that it knows.
    pub(super) fn enable_controllers_for(&self, limits: &Limits) -> Result<(), Error> {
        let here = self.read_file(c"cgroup.controllers")?;
        let has = |controller: &str| here.split_whitespace().any(|name| name == controller);
        let lacks = |limit: &Limit| !limit.no_limit && !has(&limit.controller);
        if !limits.files.iter().any(lacks) {
            return Ok(());
        }
        let mount = Hierarchy::probe()?.mount;
        match self.path.strip_prefix(&mount) {
            Ok(below) => self.enable_controllers(&mount, below),
            Err(_) => Ok(()),
        }
    }

    /// Returns the error for a controller's file that is missing although the controller should be
    /// enabled. The error has the reason.
    pub(super) fn unavailable_file_error(&self, limit: &Limit, file: &str) -> Error {
        let controller = limit.controller.as_str();
        let has = |cgroup: &Cgroup| {
            cgroup
                .read_file(c"cgroup.controllers")
                .is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
        };
        if controller == "cgroup" || has(self) {
            return Error::NoFile {
                origin: limit.origin.clone(),
                file: file.into(),
                cgroup: self.path.clone(),
            };
        }
        let mut cgroup = self.path.clone();
        let mut reason = String::new();
        for ancestor in self.path.ancestors().skip(1) {
            let Ok(Some(above)) = Cgroup::open(ancestor) else {
                break;
            };
            cgroup = ancestor.to_owned();
            if has(&above) {
                reason =
                    match above.write_file(c"cgroup.subtree_control", &format!("+{controller}")) {
                        Ok(()) => "it was not enabled".into(),
                        Err(error) => format!("it can't be enabled: {error}"),
                    };
                break;
            }
        }
        if reason.is_empty() {
            reason = reason_of_absence(controller).into();
        }
        Error::Unavailable {
            origin: limit.origin.clone(),
            controller: controller.into(),
            cgroup,
            reason,
        }
    }
}

/// Returns the reason why no cgroup of this host has a controller.
fn reason_of_absence(controller: &str) -> &'static str {
    match is_v1_controller(controller) {
        true => "it is mounted as cgroup v1",
        false => "it is not in cgroup.controllers",
    }
}

/// Returns an error for each limit whose controller this host doesn't have.
pub(crate) fn missing_controllers(hierarchy: &Hierarchy, limits: &Limits) -> Vec<Error> {
    let list = std::fs::read_to_string(hierarchy.mount.join("cgroup.controllers"));
    let list = list.unwrap_or_default();
    let is_missing = |limit: &&Limit| {
        let has = |name: &str| list.split_whitespace().any(|listed| listed == name);
        !limit.no_limit && limit.controller != "cgroup" && !has(&limit.controller)
    };
    let missing = limits.files.iter().filter(is_missing);
    let unavailable = |limit: &Limit| Error::Unavailable {
        origin: limit.origin.clone(),
        controller: limit.controller.clone(),
        cgroup: hierarchy.mount.clone(),
        reason: reason_of_absence(&limit.controller).into(),
    };
    missing.map(unavailable).collect()
}

/// Returns the names in `list` that are not in `other`.
fn missing_names<'a>(list: &'a str, other: &str) -> Vec<&'a str> {
    list.split_whitespace()
        .filter(|name| !other.split_whitespace().any(|have| have == *name))
        .collect()
}

/// True if this process is in a cgroup v1 hierarchy that has the controller.
fn is_v1_controller(controller: &str) -> bool {
    let v1_name = if controller == "io" {
        "blkio"
    } else {
        controller
    };
    std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| {
        text.lines()
            .filter_map(|line| line.split(':').nth(1))
            .any(|names| names.split(',').any(|name| name == v1_name))
    })
}

/// Makes a cgroup and any missing cgroups above it. Returns the paths of the new cgroups, top
/// first. On an error, removes the new cgroups again.
pub(super) fn make_cgroups(mount: &Path, below: &Path) -> Result<Vec<PathBuf>, Error> {
    let whole = mount.join(below);
    match make_cgroup(&whole) {
        Err(Errno::ENOENT) => {}
        other => {
            let is_new = other.map_err(failed("mkdir", || describe_making(&whole)))?;
            return Ok(is_new.then_some(whole).into_iter().collect());
        }
    }
    let mut made = Vec::new();
    let mut path = mount.to_owned();
    for component in below {
        path.push(component);
        match make_cgroup(&path) {
            Ok(true) => made.push(path.clone()),
            Ok(false) => {}
            Err(errno) => {
                remove_new_cgroups(&made);
                return Err(failed("mkdir", || describe_making(&path))(errno).into());
            }
        }
    }
    Ok(made)
}

/// Removes cgroups that `make_cgroups` made. A cgroup that can't be removed is in use by somebody
/// else now.
pub(super) fn remove_new_cgroups(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let _ = nix::unistd::unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir);
    }
}

/// Makes a cgroup. Returns false if it already exists.
fn make_cgroup(path: &Path) -> Result<bool, Errno> {
    match nix::unistd::mkdir(path, Mode::from_bits_retain(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn describe_making(path: &Path) -> String {
    format!("make cgroup {}", path.display())
}
