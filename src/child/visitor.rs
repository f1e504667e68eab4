//! procfs of a pid namespace that this process isn't in. Linux 6.17 takes the namespace as an
//! option; before, a new procfs shows the namespace of who calls fsopen(2), and a visitor goes
//! there to do so.
//!
//! The visitor can be seen there. It has the container's root, and no descriptor but its link and
//! what it opens. fsopen takes CAP_SYS_ADMIN over the mount namespace: the visitor has one of its
//! own, in a user namespace of its own, and no capability elsewhere. It makes this one call.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;

use super::entry::chroot;
use super::{Step, namespaces};
use crate::error::{Failed, failed};
use crate::protocol::{JoinedPidNamespace, Message, receive, send};
use crate::sys::clone::{CloneArgs, Side, clone3};
use crate::sys::mount::Context;
use crate::sys::wait::reap;
use crate::sys::{Errno, ns, process, socket};

fn what() -> String {
    "open a procfs of the pid namespace that is joined".into()
}

/// Opens a new procfs of the namespace, to be configured and mounted.
pub(super) fn procfs(pid_namespace: &JoinedPidNamespace, root: BorrowedFd<'_>) -> Step<Context> {
    let context = Context::open(c"proc").map_err(failed("fsopen", what))?;
    match context.set_fd(c"pidns", pid_namespace.namespace.fd.as_fd()) {
        Ok(()) => Ok(context),
        // An older kernel doesn't know the option.
        Err(Errno::EINVAL) => visited(pid_namespace, root),
        Err(errno) => Err(Failed::new(what(), "fsconfig", errno)),
    }
}

/// A process like this one.
const PLAIN: CloneArgs<'static> = CloneArgs {
    namespaces: CloneFlags::empty(),
    cgroup: None,
    sibling: false,
};

/// What a visitor has opened.
fn visited(pid_namespace: &JoinedPidNamespace, root: BorrowedFd<'_>) -> Step<Context> {
    let (ours, theirs) = socket::pair().map_err(failed("socketpair", what))?;
    let sender = match clone3(&PLAIN).map_err(failed("clone3", what))? {
        Side::Parent(sender) => sender,
        Side::Child => {
            drop(ours);
            finish(&theirs, send_visitor(pid_namespace, root, &theirs))
        }
    };
    drop(theirs);
    let answer = receive(ours.as_fd());
    reap(sender.pidfd.as_fd()).map_err(failed("waitid", what))?;
    match answer.map_err(failed("recvmsg", what))? {
        // Whoever sees the visitor may speak in its place: the mount is checked to be a procfs.
        Some(Message::Context(context)) => Ok(Context::from(context)),
        Some(Message::Failed(failure)) => Err(failure),
        _ => Err(Failed::new(what(), "recvmsg", Errno::EPROTO)),
    }
}

/// Lets go of all that the visitor is not to have, while nobody in the namespace sees this process,
/// and clones the visitor there.
fn send_visitor(pid_namespace: &JoinedPidNamespace, root: BorrowedFd<'_>, link: &OwnedFd) -> Step {
    if !pid_namespace.early {
        namespaces::join(std::slice::from_ref(&pid_namespace.namespace))?;
    }
    // Where user namespaces are switched off, the visitor has CAP_SYS_ADMIN in this one.
    match ns::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Ok(()) | Err(Errno::ENOSPC | Errno::EPERM | Errno::EINVAL) => {}
        Err(errno) => return Err(failed("unshare", what)(errno)),
    }
    chroot(root)?;
    process::close_all_but(3, &mut [link.as_raw_fd()]).map_err(failed("close_range", what))?;
    // As root it would gain by execve what it has dropped.
    process::set_no_new_privs().map_err(failed("prctl", what))?;
    let admin = caps::Capability::CAP_SYS_ADMIN.bitmask();
    process::drop_bounding_set(admin).map_err(failed("prctl", what))?;
    process::capset(admin, admin, 0).map_err(failed("capset", what))?;
    process::erase_environment();
    match clone3(&PLAIN).map_err(failed("clone3", what))? {
        Side::Parent(visitor) => {
            reap(visitor.pidfd.as_fd()).map_err(failed("waitid", what))?;
            Ok(())
        }
        Side::Child => {
            let opened = Context::open(c"proc").map_err(failed("fsopen", what));
            let sent = opened.and_then(|context| {
                let message = Message::Context(context.into());
                send(link.as_fd(), &message).map_err(failed("sendmsg", what))
            });
            finish(link, sent)
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
