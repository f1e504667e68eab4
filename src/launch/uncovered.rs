//! Parent and a helper process: open the source of a bind mount without the mounts below it, for a
//! container with a user namespace.
//!
//! In such a container's mount namespace, the kernel refuses to clone a directory without the
//! mounts below it (EINVAL), since the container's root could then see the covered files. The
//! caller's mount namespace allows the clone. But the flags of this clone aren't locked, so the
//! container could make it writable.
//!
//! So the directory is cloned twice. The first clone is attached in a copy of the caller's mount
//! namespace. The second clone is made from the first in a further copy, which the user namespace
//! owns. The kernel locks the flags in that copy (mount_namespaces(7)).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sched::CloneFlags;

use super::Error;
use super::intermediate::{die_with, end, make_undumpable};
use super::link::Link;
use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::protocol::Message;
use crate::sys::clone::{Child, CloneArgs, Side, clone3};
use crate::sys::procfs::Procfs;
use crate::sys::wait::reap;
use crate::sys::{mount, ns, path, socket};

/// What the parent needs while it is in the container's mount namespace.
pub(super) struct Visit<'a> {
    pub(super) proc: &'a Procfs,
    /// The child, in whose mount namespace the parent is.
    pub(super) child: &'a Child,
    /// The parent's own mount namespace.
    pub(super) own: BorrowedFd<'a>,
}

/// Clones a directory of the host without the mounts below it, in a process that exits afterwards.
pub(super) fn open(path: &Path, visit: &Visit<'_>) -> Result<DetachedMount, Error> {
    let what = || format!("open {} without the mounts below it", path.display());
    let (ours, theirs) = socket::pair().map_err(failed("socketpair", what))?;
    let user = format!("{}/ns/user", visit.child.pid);
    let user = visit.proc.follow(&user, OFlag::O_RDONLY);
    let user = user.map_err(failed("open", what))?;
    let parent = nix::unistd::getpid();
    let clone = CloneArgs {
        namespaces: CloneFlags::empty(),
        cgroup: None,
        sibling: false,
    };
    let process = match clone3(&clone).map_err(failed("clone3", what))? {
        Side::Parent(process) => process,
        Side::Child => match copy(path, visit.own, user.as_fd(), parent) {
            Ok(tree) => end(&theirs, &Message::DetachedMount(tree)),
            Err(failed) => end(&theirs, &Message::Failed(failed)),
        },
    };
    drop(theirs);
    let tree = Link::over(ours, Error::Init).expect(Message::detached_mount);
    reap(process.pidfd.as_fd()).map_err(failed("waitid", what))?;
    tree
}

/// Clones the directory twice, in a process of its own.
fn copy(
    path: &Path,
    own: BorrowedFd<'_>,
    user: BorrowedFd<'_>,
    parent: nix::unistd::Pid,
) -> Result<DetachedMount, Failed> {
    let what = || format!("open {} without the mounts below it", path.display());
    die_with(parent)?;
    make_undumpable()?;
    ns::setns(own, CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))?;
    ns::unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare", what))?;
    mount::set_root_propagation(mount::PRIVATE, true).map_err(failed("mount_setattr", what))?;
    let tree = DetachedMount::open(path, false).map_err(failed("open_tree", what))?;
    path::c_path(path.as_os_str())
        .and_then(|path| mount::move_mount_to(tree.fd.as_fd(), &path))
        .map_err(failed("move_mount", what))?;
    // A process keeps its working directory when it enters a copy of its mount namespace.
    nix::unistd::fchdir(&tree.fd).map_err(failed("fchdir", what))?;
    ns::setns(user, CloneFlags::CLONE_NEWUSER).map_err(failed("setns", what))?;
    ns::unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare", what))?;
    DetachedMount::copy_of_fd(AT_FDCWD, false).map_err(failed("open_tree", what))
}
