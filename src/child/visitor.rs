//! procfs of a pid namespace that this process isn't in. Linux 6.17 takes the namespace as an
//! option; before, procfs shows the namespace of who mounts it, and somebody has to go there.
//!
//! The visitor can be seen there. It has the container's root, no descriptor but its link, and of
//! the capabilities only CAP_SYS_ADMIN, which mounting takes, for the three calls that it makes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::entry::chroot;
use super::{Step, because, namespaces};
use crate::protocol::{Failure, Message, Pids, Tree, receive, send};
use crate::sys::clone::{Clone, Side, clone3};
use crate::sys::mount::Context;
use crate::sys::procfs::is_procfs;
use crate::sys::wait::reap;
use crate::sys::{Errno, process, socket};

/// CAP_SYS_ADMIN.
const ADMIN: u64 = 1 << 21;

const WHAT: &str = "mount a procfs of the pid namespace that is joined";

fn what() -> String {
    WHAT.into()
}

/// Has a new procfs, which is not attached anywhere, show the namespace. False: this kernel can't.
pub(super) fn shows(context: &Context, pids: &Pids) -> Result<bool, Errno> {
    match context.set_fd(c"pidns", pids.namespace.fd.as_fd()) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Does `mount` in the pid namespace; answers with the detached mount that it made.
pub(super) fn mount(
    pids: &Pids,
    root: BorrowedFd<'_>,
    mount: impl FnOnce() -> Step<OwnedFd>,
) -> Step<OwnedFd> {
    let (ours, theirs) = socket::pair().map_err(because("socketpair", what))?;
    let sender = match clone3(&PLAIN).map_err(because("clone3", what))? {
        Side::Parent(sender) => sender,
        Side::Child => {
            drop(ours);
            finish(&theirs, visit(pids, root, &theirs, mount))
        }
    };
    drop(theirs);
    let answer = receive(ours.as_fd());
    reap(sender.pidfd.as_fd()).map_err(because("waitid", what))?;
    match answer.map_err(because("recvmsg", what))? {
        // Whoever sees the visitor may speak in its place.
        Some(Message::Tree(tree)) if is_procfs(tree.fd.as_fd()) => Ok(tree.fd),
        Some(Message::Failed(failure)) => Err(failure),
        _ => Err(Failure::new(what(), "recvmsg", Errno::EPROTO)),
    }
}

/// A process like this one.
const PLAIN: Clone<'static> = Clone {
    namespaces: nix::sched::CloneFlags::empty(),
    cgroup: None,
    sibling: false,
};

/// Lets go of all that the visitor is not to have, while nobody in the namespace sees it, and sends
/// the visitor there.
fn visit(
    pids: &Pids,
    root: BorrowedFd<'_>,
    link: &OwnedFd,
    mount: impl FnOnce() -> Step<OwnedFd>,
) -> Step {
    chroot(root)?;
    if !pids.early {
        namespaces::join(std::slice::from_ref(&pids.namespace))?;
    }
    process::close_all_but(3, &mut [link.as_raw_fd()]).map_err(because("close_range", what))?;
    // As root it would gain by execve what it has dropped.
    process::set_no_new_privs().map_err(because("prctl", what))?;
    process::drop_bounding_set(ADMIN).map_err(because("prctl", what))?;
    process::capset(ADMIN, ADMIN, 0).map_err(because("capset", what))?;
    match clone3(&PLAIN).map_err(because("clone3", what))? {
        Side::Parent(visitor) => {
            reap(visitor.pidfd.as_fd()).map_err(because("waitid", what))?;
            Ok(())
        }
        Side::Child => {
            let mounted = mount().and_then(|fd| {
                let tree = Tree {
                    fd,
                    is_directory: true,
                };
                send(link.as_fd(), &Message::Tree(tree)).map_err(because("sendmsg", what))
            });
            finish(link, mounted)
        }
    }
}

fn finish(link: &OwnedFd, done: Step) -> ! {
    if let Err(failure) = done {
        // Nobody is left to be told of an error in telling.
        let _ = send(link.as_fd(), &Message::Failed(failure));
    }
    process::exit_now(0)
}
