//! Opens the container's root, attaches it while it is built, and enters it.
//! `rootfs` makes the mounts in the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::{StepResult, add_detail_for};
use crate::detached::DetachedMount;
use crate::error::failed;
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::rootfs::RootEntry;
use crate::sys::mount::Attributes;
use crate::sys::{Errno, mount, ns, path};
use crate::timeline::{self, Phase};
use crate::views;

/// Opens the root in the child, for the cases in which the parent can't: a joined mount namespace
/// or an unprivileged caller.
pub(super) fn open_root(plan: &Plan) -> StepResult<OwnedFd> {
    let what = || {
        let opening = plan.opening_root();
        if plan.namespaces.joins(CloneFlags::CLONE_NEWNS) {
            format!("{opening} in the mount namespace that is joined")
        } else {
            opening
        }
    };
    if plan.rootfs.entry == RootEntry::Chroot {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        return crate::sys::open(plan.root_path(), flags, nix::sys::stat::Mode::empty())
            .map_err(failed("open", what));
    }
    let tree = DetachedMount::open_root(plan.root_path(), plan.rootfs.root_propagation_cut())
        .map_err(failed("open_tree", what))?;
    Ok(tree.fd)
}

/// Attaches the root at the path that config.json names, because hooks look for it there. At this
/// path, only host paths that lead into the root resolve to it. If it were attached on `/`, the
/// path `/` and each path that climbs up through `..` would also resolve to it.
pub(super) fn attach_root(plan: &Plan, root: BorrowedFd<'_>) -> StepResult {
    cut_propagation()?;
    let what = || plan.attaching_root();
    let path = path::c_path(plan.root_path().as_os_str()).map_err(failed("move_mount", what))?;
    if plan.rootfs.clones_while_attached() {
        // Attach an unbindable clone of this directory first. A recursive bind leaves out
        // unbindable mounts and everything mounted on them, so a bind of this directory then shows
        // the host's mounts and no mount of the container. With a user namespace, the clone
        // includes the mounts below, because the kernel may refuse a clone without them.
        let below = plan.namespaces.user.is_some();
        let under =
            DetachedMount::open(plan.root_path(), below).map_err(failed("open_tree", what))?;
        let unbindable = Attributes {
            propagation: mount::UNBINDABLE,
            ..Attributes::default()
        };
        mount::mount_setattr(under.fd.as_fd(), below, unbindable)
            .map_err(failed("mount_setattr", what))?;
        mount::move_mount_to(under.fd.as_fd(), &path).map_err(failed("move_mount", what))?;
    }
    mount::move_mount_to(root, &path).map_err(failed("move_mount", what))
}

/// Changes the propagation of `/` so that the mounts of this process don't propagate to the host.
fn cut_propagation() -> StepResult {
    let what = || "make / a slave of the host's mounts".into();
    mount::set_root_propagation(mount::SLAVE, true)
        .map_err(failed("mount_setattr", what))
        .map_err(|failure| add_detail_for(failure, Errno::EINVAL, mount::NOT_A_MOUNT_POINT_HINT))
}

const INITRAMFS_HINT: &str = "if / is the initramfs, it can't be replaced: use --no-pivot";

/// Makes the built root the root of this process, and detaches the host's root.
pub(super) fn enter_root(plan: &Plan, root: &OwnedFd) -> StepResult {
    timeline::begin_step(Phase::Enter);
    let what = || "enter the root file system".to_owned();
    match plan.rootfs.entry {
        RootEntry::Pivot => {
            mount::pivot_root_to_working_directory()
                .map_err(failed("pivot_root", what))
                .map_err(|failure| add_detail_for(failure, Errno::EINVAL, INITRAMFS_HINT))?;
            // The old root now covers the new one. It is a slave, so the unmount doesn't propagate
            // to the host.
            mount::detach_working_directory()
                .map_err(failed("umount2", || "detach the host's root".into()))?;
            nix::unistd::chdir("/").map_err(failed("chdir", what))?;
        }
        RootEntry::Move => {
            go_to_namespace_root()?;
            match mount::move_mount_to(root.as_fd(), c"/") {
                // The root is already at /.
                Ok(()) | Err(Errno::ELOOP) => {}
                Err(errno) => return Err(failed("move_mount", what)(errno)),
            }
            views::close(root.as_fd())?;
            chroot_into(root.as_fd())?;
        }
        RootEntry::Chroot => chroot_into(root.as_fd())?,
    }
    if let Some((propagation, recursive)) = plan
        .rootfs
        .propagation
        .filter(|_| plan.rootfs.entry != RootEntry::Chroot)
    {
        mount::set_root_propagation(propagation, recursive)
            .map_err(failed("mount_setattr", || {
                config("linux.rootfsPropagation").asks_to("set the root's propagation")
            }))?;
    }
    Ok(())
}

/// Changes to the root of the mount namespace. This is needed because the caller may be in a
/// chroot, and mountinfo shows no mounts outside of it.
fn go_to_namespace_root() -> StepResult {
    let what = || "go to the root of the mount namespace (--no-pivot)".to_owned();
    let proc = views::open_own_procfs().map_err(failed("fsmount", what))?;
    let own = proc
        .follow("self/ns/mnt", OFlag::O_RDONLY)
        .map_err(failed("open", what))?;
    // setns changes root and working directory, even when a process enters its own mount namespace.
    ns::setns(own.as_fd(), CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))
}

/// Makes an open directory the root and the working directory of this process.
pub(super) fn chroot_into(root: BorrowedFd<'_>) -> StepResult {
    let what = || "change the root directory".to_owned();
    nix::unistd::fchdir(root).map_err(failed("fchdir", what))?;
    nix::unistd::chroot(".").map_err(failed("chroot", what))?;
    nix::unistd::chdir("/").map_err(failed("chdir", what))
}
