//! The detached root of a container that has mounts but shares the caller's mount namespace.
//! The mounts are made in a copy of that namespace. They are then cloned as a detached tree, which
//! becomes the root of this process. The caller's mounts don't change.
//!
//! The kernel frees the tree when the last process with this root exits. Nothing can be mounted in
//! the tree, and mountinfo doesn't list it.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::StepResult;
use super::entry::chroot_into;
use crate::error::failed;
use crate::sys::procfs::Procfs;
use crate::sys::{mount, ns};

/// Enters a copy of the mount namespace. Returns the caller's mount namespace.
pub(super) fn enter_mount_namespace_copy() -> StepResult<OwnedFd> {
    let what = || "copy the mount namespace".to_owned();
    let proc = Procfs::private().map_err(failed("fsmount", what))?;
    let callers = proc
        .follow("self/ns/mnt", OFlag::O_RDONLY)
        .map_err(failed("open", what))?;
    ns::unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare", what))?;
    Ok(callers)
}

/// Clones the root of the copy with all mounts below it, and returns to the caller's mount
/// namespace. The clone becomes the root of this process.
pub(super) fn return_with_detached_root(callers: &OwnedFd) -> StepResult {
    let what = || "take the mounts into the mount namespace of the caller".to_owned();
    // A clone of a tree leaves out unbindable mounts, so make all mounts private.
    mount::set_root_propagation(mount::PRIVATE, true).map_err(failed("mount_setattr", what))?;
    let root = mount::open_tree_at(c"/", true).map_err(failed("open_tree", what))?;
    ns::setns(callers.as_fd(), CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))?;
    chroot_into(root.as_fd())
}
