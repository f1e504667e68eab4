//! A container in the caller's mount namespace that has mounts all the same: they are made in a copy of that namespace, and leave
//! it as a tree that is attached nowhere and is the root of this process. The caller's mounts stay as they are.
//!
//! The tree goes with the last process whose root it is. Until then nothing can be mounted in it, and mountinfo, which lists the
//! mounts of a namespace, does not list it.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::Step;
use super::entry::chroot;
use crate::error::failed;
use crate::sys::procfs::Procfs;
use crate::sys::{mount, ns};

/// Goes on in a copy of the mount namespace; answers with the way back.
pub(super) fn enter() -> Step<OwnedFd> {
    let what = || "copy the mount namespace".to_owned();
    let proc = Procfs::private().map_err(failed("fsmount", what))?;
    let callers = proc
        .follow("self/ns/mnt", OFlag::O_RDONLY)
        .map_err(failed("open", what))?;
    ns::unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare", what))?;
    Ok(callers)
}

/// Goes back, with the root of the copy and all that is mounted below it.
pub(super) fn leave(callers: &OwnedFd) -> Step {
    let what = || "take the mounts into the mount namespace of the caller".to_owned();
    // A tree is cloned without what is unbindable in it.
    mount::set_root_propagation(mount::PRIVATE, true).map_err(failed("mount_setattr", what))?;
    let root = mount::open_tree_at(c"/", true).map_err(failed("open_tree", what))?;
    ns::setns(callers.as_fd(), CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))?;
    chroot(root.as_fd())
}
