//! Opens a procfs of a pid namespace that this process isn't in. Linux 6.17 accepts the namespace
//! as an option. On older kernels, a new procfs shows the namespace of the process that calls
//! fsopen(2). So a helper process, the visitor, enters the namespace and makes the call.
//!
//! Others in the namespace see the visitor. It has the container's root, and no descriptors but its
//! link and the new procfs. fsopen requires CAP_SYS_ADMIN over the mount namespace, so the visitor
//! has a user and a mount namespace of its own, and no capabilities elsewhere. It makes only this
//! one call.

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

/// A clone without new namespaces.
const PLAIN: CloneArgs<'static> = CloneArgs {
    namespaces: CloneFlags::empty(),
    cgroup: None,
    sibling: false,
};

/// Has a visitor open the procfs.
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
        // Others may send messages in the visitor's name. The mount is later checked to be a
        // procfs.
        Some(Message::Context(context)) => Ok(Context::from(context)),
        Some(Message::Failed(failure)) => Err(failure),
        _ => Err(Failed::new(what(), "recvmsg", Errno::EPROTO)),
    }
}

/// Drops everything that the visitor must not have, while nobody in the namespace sees this
/// process. Then clones the visitor into the namespace.
fn send_visitor(pid_namespace: &JoinedPidNamespace, root: BorrowedFd<'_>, link: &OwnedFd) -> Step {
    if !pid_namespace.early {
        namespaces::join(std::slice::from_ref(&pid_namespace.namespace))?;
    }
    // Where user namespaces are disabled, the visitor has CAP_SYS_ADMIN in the current one.
    match ns::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Ok(()) | Err(Errno::ENOSPC | Errno::EPERM | Errno::EINVAL) => {}
        Err(errno) => return Err(failed("unshare", what)(errno)),
    }
    chroot(root)?;
    process::close_all_but(3, &mut [link.as_raw_fd()]).map_err(failed("close_range", what))?;
    // As root, the visitor would regain capabilities through execve.
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
        // If this fails too, there is nobody left to report to.
        let _ = send(link.as_fd(), &Message::Failed(failure));
    }
    process::exit_now(0)
}
