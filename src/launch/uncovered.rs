//! The source of a bind without the mounts below it, for a container with a user namespace.
//!
//! There the kernel clones no directory without what is mounted below it, since root of the user namespace could look under the
//! mounts of others (EINVAL). The caller may, whose mounts they are; but what is cloned outside has no locks, and the container
//! could clear its read-only flag. So it is cloned outside, attached in a copy of the caller's mount namespace, and cloned again in
//! a copy of that which the user namespace owns: the copying sets the locks (mount_namespaces(7)).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sched::CloneFlags;

use super::Error;
use super::intermediate::{die_with, end, hide};
use super::link::Link;
use crate::detached::DetachedMount;
use crate::error::{Failed, failed};
use crate::protocol::Message;
use crate::sys::clone::{Child, CloneArgs, Side, clone3};
use crate::sys::procfs::Procfs;
use crate::sys::wait::reap;
use crate::sys::{mount, ns, path, socket};

/// Who asks for it, and from where.
pub(super) struct Visit<'a> {
    pub(super) proc: &'a Procfs,
    /// The container's process, in whose mount namespace the caller is at the moment.
    pub(super) child: &'a Child,
    /// The caller's own mount namespace.
    pub(super) own: BorrowedFd<'a>,
}

/// Clones a directory of the host alone, by a process that ends with it.
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

/// Clones it twice, in the process that is made for it.
fn copy(
    path: &Path,
    own: BorrowedFd<'_>,
    user: BorrowedFd<'_>,
    parent: nix::unistd::Pid,
) -> Result<DetachedMount, Failed> {
    let what = || format!("open {} without the mounts below it", path.display());
    die_with(parent)?;
    hide()?;
    ns::setns(own, CloneFlags::CLONE_NEWNS).map_err(failed("setns", what))?;
    ns::unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare", what))?;
    mount::set_root_propagation(mount::PRIVATE, true).map_err(failed("mount_setattr", what))?;
    let tree = DetachedMount::open(path, false).map_err(failed("open_tree", what))?;
    path::c_path(path.as_os_str())
        .and_then(|path| mount::move_mount_to(tree.fd.as_fd(), &path))
        .map_err(failed("move_mount", what))?;
    // A working directory is taken along into a copy of a mount namespace.
    nix::unistd::fchdir(&tree.fd).map_err(failed("fchdir", what))?;
    ns::setns(user, CloneFlags::CLONE_NEWUSER).map_err(failed("setns", what))?;
    ns::unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare", what))?;
    DetachedMount::copy(AT_FDCWD, false).map_err(failed("open_tree", what))
}
