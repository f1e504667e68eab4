//! Mounts the container's root for CRIU. This happens in the process that becomes CRIU, so that no
//! other process sees the mount.
//! CRIU itself makes the mounts in the root.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, mkdirat};

use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::launch::images::{is_directory, is_in_own_filesystem};
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::rootfs::{MountOp, MountSource};
use crate::sys::mount::{Attributes, Context};
use crate::sys::path::Missing;
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, mount, ns, path, process};

/// The name of the root in the directory of CRIU.
pub(super) const ROOT: &str = "root";

/// The name of the directory in which CRIU looks for all cgroup hierarchies. CRIU mounts those that
/// are missing.
pub(super) const CGROUPS: &str = "cgroups";
/// The name by which CRIU looks for cgroup v2.
const UNIFIED: &str = "unified";

/// The input of `prepare`.
pub(super) struct Place<'a> {
    pub(super) plan: &'a Plan,
    /// An empty directory for the root. CRIU requires a root that is mounted on a different mount
    /// than the one it was cloned from.
    pub(super) at: &'a Path,
    /// The path at which cgroup v2 is mounted.
    pub(super) hierarchy: &'a Path,
    /// True if a cgroup namespace is made for CRIU, which the container's processes inherit.
    pub(super) cgroup_namespace: bool,
    /// The SELinux label of the container's processes.
    pub(super) label: Option<&'a CStr>,
    pub(super) proc: &'a Procfs,
}

/// Prepares everything that the container's processes inherit from CRIU's process, and the root.
pub(super) fn prepare(place: &Place<'_>) -> Result<(), Failed> {
    keyring(place)?;
    if place.cgroup_namespace {
        ns::unshare(CloneFlags::CLONE_NEWCGROUP)
            .map_err(failed("unshare", || "make a cgroup namespace".into()))?;
    }
    mount::set_root_propagation(mount::SLAVE, true)
        .map_err(failed("mount_setattr", || "make / of CRIU a slave".into()))?;
    furnish(place)?;
    if place.plan.namespaces.user.is_some() {
        fit_devices()?;
    }
    let at = path::c_path(place.at.join(ROOT).as_os_str())
        .map_err(failed("open_tree", || place.plan.opening_root()))?;
    let root = attach(place.plan, &at)?;
    for op in &place.plan.rootfs.mounts {
        make_mount_point(op, place.plan, &root)?;
    }
    // This unmount also detaches everything that was mounted in the root.
    umount2(at.as_c_str(), MntFlags::MNT_DETACH)
        .map_err(failed("umount2", || place.plan.attaching_root()))?;
    attach(place.plan, &at).map(drop)
}

/// Mounts a tmpfs with a directory for the root, and with cgroup v2. If CRIU mounted cgroup v2
/// itself, the host's mount options of cgroup v2 would be lost as well, because both mounts are of
/// the same file system.
fn furnish(place: &Place<'_>) -> Result<(), Failed> {
    let what = || format!("mount a tmpfs at {}", place.at.display());
    let mounted = Context::open(c"tmpfs").and_then(|context| {
        context.create()?;
        let tmpfs = context.mount(mount::NOSUID | mount::NODEV | mount::NOEXEC)?;
        mount::move_mount_to(tmpfs.as_fd(), &path::c_path(place.at.as_os_str())?)?;
        mkdirat(&tmpfs, ROOT, Mode::S_IRWXU)?;
        mkdirat(&tmpfs, CGROUPS, Mode::S_IRWXU)?;
        let unified = Path::new(CGROUPS).join(UNIFIED);
        mkdirat(&tmpfs, &unified, Mode::S_IRWXU)?;
        let cgroups = DetachedMount::open(place.hierarchy, false)?;
        let target = path::c_path(place.at.join(unified).as_os_str())?;
        mount::move_mount_to(cgroups.fd.as_fd(), &target)
    });
    mounted.map_err(failed("mount", what))
}

/// Gives /dev the flags with which the device nodes of a container with a user namespace are bound.
/// A node that is bound from /dev must keep the flags of /dev, but CRIU sets the flags of the dump.
fn fit_devices() -> Result<(), Failed> {
    let what = || "set the flags of /dev for CRIU".to_owned();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dev = crate::sys::open(c"/dev", flags, Mode::empty()).map_err(failed("open", what))?;
    let attributes = Attributes {
        set: mount::NOSUID | mount::NOEXEC | mount::RELATIME,
        clear: mount::ATIME_MASK,
        propagation: 0,
    };
    match mount::mount_setattr(dev.as_fd(), false, attributes) {
        // /dev isn't a mount. CRIU may succeed nevertheless, or report its own error.
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(failed("mount_setattr", what)(errno)),
    }
}

/// Joins a new session keyring. No dump contains a keyring, so without a new keyring the container
/// would inherit the caller's.
fn keyring(place: &Place<'_>) -> Result<(), Failed> {
    // The default permissions of a new keyring, plus search for its owner, so that an exec process
    // finds the keyring by name.
    const SEARCHABLE_KEYRING_PERMS: u32 = 0x3f1b_0000;
    const LABEL_OF_KEYS: &CStr = c"thread-self/attr/keycreate";
    let Some(name) = &place.plan.keyring else {
        return Ok(());
    };
    let label = |label: &[u8]| {
        let what = || "set the label of the session keyring".to_owned();
        match place.label {
            Some(_) => place
                .proc
                .write(LABEL_OF_KEYS, label)
                .map_err(failed("write", what)),
            None => Ok(()),
        }
    };
    label(place.label.unwrap_or_default().to_bytes())?;
    match process::join_session_keyring(name, Some(SEARCHABLE_KEYRING_PERMS)) {
        Ok(()) | Err(Errno::ENOSYS) => label(b"\n"),
        Err(errno) => Err(failed("keyctl", || {
            format!("join the session keyring {name:?}")
        })(errno)),
    }
}

fn attach(plan: &Plan, at: &CStr) -> Result<OwnedFd, Failed> {
    let tree = DetachedMount::open(plan.root_path(), true)
        .map_err(failed("open_tree", || plan.opening_root()))?;
    mount::move_mount_to(tree.fd.as_fd(), at)
        .map_err(failed("move_mount", || plan.attaching_root()))?;
    Ok(tree.fd)
}

/// Makes the mount point of a mount in config.json if it is missing, as a create does. Also
/// attaches the sources of bind mounts, so that mount points inside them are found.
fn make_mount_point(op: &MountOp, plan: &Plan, root: &OwnedFd) -> Result<(), Failed> {
    if is_in_own_filesystem(&op.destination, &plan.rootfs.mounts) {
        return Ok(());
    }
    let what = || {
        let origin = config(format!("mounts[{}].destination", op.index));
        origin.asks_to(format!("make {}", op.destination.display()))
    };
    let tree = match &op.source {
        MountSource::Filesystem(_) => None,
        MountSource::Bind { path, recursive } => {
            let tree = DetachedMount::open(path, *recursive);
            Some(
                tree.map_err(failed("open_tree", || op.describe_opening(path)))?
                    .fd,
            )
        }
        MountSource::Inside { path, recursive } => {
            let name = path::c_path(path.as_os_str());
            let found =
                name.and_then(|name| path::open_in_root(root.as_fd(), &name, OFlag::O_PATH));
            let tree = found.and_then(|fd| DetachedMount::copy_of_fd(fd.as_fd(), *recursive));
            Some(
                tree.map_err(failed("open_tree", || op.describe_opening(path)))?
                    .fd,
            )
        }
    };
    let missing = match &tree {
        Some(tree) if !is_directory(tree.as_fd()) => Missing::File,
        _ => Missing::Directory,
    };
    let target = path::open_or_make(root.as_fd(), &op.destination, missing)
        .map_err(failed("openat2", what))?;
    match tree {
        Some(tree) => {
            mount::move_mount(tree.as_fd(), target.as_fd()).map_err(failed("move_mount", what))
        }
        None => Ok(()),
    }
}
