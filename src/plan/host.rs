//! Facts about the host that a plan depends on, read once before planning.
//! Nothing is decided here.

use std::path::{Path, PathBuf};

use super::caps::AvailableCapabilities;
use super::ids::{self, Mappings};
use crate::cgroup::Hierarchy;
use crate::error::{Failed, failed};
use crate::sys::procfs::{Procfs, namespace_at};
use crate::sys::{Errno, process};

/// The oldest kernel with every interface that orlop uses. cgroup.kill was added in 5.14.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// The facts about the host.
pub(crate) struct Host {
    /// The host's /proc, verified to be a procfs.
    pub(crate) proc: Procfs,
    /// The cgroup v2 hierarchy.
    pub(crate) hierarchy: Hierarchy,
    /// The text of /proc/self/cgroup.
    pub(crate) own_cgroup: String,
    /// An id that differs for each boot.
    pub(crate) boot_id: String,
    /// The caller's capabilities.
    pub(crate) caps: AvailableCapabilities,
    /// The caller's effective user id.
    pub(crate) euid: u32,
}

/// The reason why a host can't run containers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the kernel is Linux {0}, orlop needs {major}.{minor} or newer", major = OLDEST_KERNEL.0, minor = OLDEST_KERNEL.1)]
    Kernel(String),
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error("/proc is not a procfs mount")]
    NotProcfs,
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
}

impl Host {
    /// Reads the facts about the host.
    pub(crate) fn read_host() -> Result<Host, Error> {
        check_kernel()?;
        let proc = open_proc()?;
        let hierarchy = Hierarchy::probe()?;
        let own_cgroup = proc
            .read(&format!("{}/cgroup", std::process::id()))
            .map_err(failed("read", || "read /proc/self/cgroup".into()))?;
        let boot_id = boot_id(&proc)?;
        let caps = AvailableCapabilities::probe(&proc)?;
        Ok(Host {
            proc,
            hierarchy,
            own_cgroup,
            boot_id,
            caps,
            euid: process::effective_uid(),
        })
    }

    /// True if the caller isn't root in its user namespace.
    pub(crate) fn is_unprivileged(&self) -> bool {
        self.euid != 0
    }

    /// True if the caller isn't in the initial user namespace. In that case, even root has no
    /// rights over the host.
    pub(crate) fn is_in_user_namespace(&self) -> bool {
        is_in_user_namespace(&self.proc)
    }

    /// True if the path is the caller's own user namespace, which no process can join.
    pub(crate) fn is_own_user_namespace(&self, path: &Path) -> bool {
        let own = self.proc.namespace("self/ns/user");
        own.is_ok() && own == namespace_at(path)
    }

    /// Returns the mappings of the user namespace at /proc/PID/ns/user, or `None` for any other
    /// path.
    pub(crate) fn mappings_at(&self, path: &Path) -> Option<Mappings> {
        let inside = path.to_str()?.strip_prefix("/proc/")?;
        self.mappings_of(inside.strip_suffix("/ns/user")?.parse().ok()?)
    }

    /// Returns the mappings of a process's user namespace, as seen by the caller.
    pub(crate) fn mappings_of(&self, pid: i32) -> Option<Mappings> {
        mappings_of(&self.proc, pid)
    }

    /// Returns the directory of a cgroup from its path below the mount.
    pub(crate) fn cgroup_dir(&self, path: &std::path::Path) -> PathBuf {
        self.hierarchy.mount.join(path)
    }
}

/// Refuses a kernel that is older than the oldest one that orlop can use.
pub(crate) fn check_kernel() -> Result<(), Error> {
    let release = nix::sys::utsname::uname()
        .map_err(failed("uname", || "read the kernel's version".into()))?;
    let release = release.release().to_string_lossy().into_owned();
    if version(&release).is_none_or(|version| version < OLDEST_KERNEL) {
        return Err(Error::Kernel(release));
    }
    Ok(())
}

/// Returns the mappings of a process's user namespace, as seen by the caller.
pub(crate) fn mappings_of(proc: &Procfs, pid: i32) -> Option<Mappings> {
    let ranges = |list| ids::parse(&proc.read(&format!("{pid}/{list}")).ok()?);
    Some(Mappings {
        uids: ranges("uid_map")?,
        gids: ranges("gid_map")?,
    })
}

/// True if this process isn't in the initial user namespace.
pub(crate) fn is_in_user_namespace(proc: &Procfs) -> bool {
    const INITIAL_UID_MAP: [&str; 3] = ["0", "0", "4294967295"];
    let map = proc.read(&format!("{}/uid_map", std::process::id()));
    map.is_ok_and(|map| !map.split_whitespace().eq(INITIAL_UID_MAP))
}

/// Opens the host's /proc and checks that it is a procfs.
pub(crate) fn open_proc() -> Result<Procfs, Error> {
    Procfs::open().map_err(|errno| match errno {
        Errno::ENOTSUP => Error::NotProcfs,
        errno => failed("open", || "open /proc".into())(errno).into(),
    })
}

/// Returns the id of this boot, or an empty string if the id can't be read.
///
/// A /proc with subset=pid has no sysctls. A private procfs has them, but the kernel may refuse to
/// create one for root of a user namespace. In that case, boots can't be distinguished.
pub(crate) fn boot_id(proc: &Procfs) -> Result<String, Error> {
    const BOOT_ID_FILE: &str = "sys/kernel/random/boot_id";
    let id = match proc.read(BOOT_ID_FILE) {
        Err(Errno::ENOENT) => match Procfs::private() {
            Err(Errno::EPERM) => Ok(String::new()),
            own => own.and_then(|own| own.read(BOOT_ID_FILE)),
        },
        read => read,
    };
    let id = id.map_err(failed("read", || format!("read /proc/{BOOT_ID_FILE}")))?;
    Ok(id.trim_end().to_owned())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_version_is_compared_by_number() {
        assert_eq!(version("6.18.44-custom"), Some((6, 18)));
        assert_eq!(version("5.9"), Some((5, 9)));
        assert!(version("5.9").unwrap_or_default() < OLDEST_KERNEL);
        assert_eq!(version("six"), None);
    }
}
