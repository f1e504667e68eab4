//! Opens a procfs of a pid namespace that this process isn't in. Linux 6.17 accepts the pid
//! namespace as an option. On older kernels, a new procfs shows the pid namespace of the process
//! that calls fsopen(2). So a helper process, the visitor, enters the pid namespace and makes the
//! call.
//!
//! Other processes in the pid namespace can see the visitor. It has the container's root, and no
//! descriptors except its link and the new procfs. fsopen requires CAP_SYS_ADMIN over the mount
//! namespace, so the visitor has a user and a mount namespace of its own, and no capabilities
//! elsewhere. The visitor makes only the fsopen call.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;

use super::entry::chroot_into;
use super::{StepResult, namespaces};
use crate::error::{Failed, failed};
use crate::protocol::{JoinedPidNamespace, Message, receive, send};
use crate::sys::clone::{CloneArgs, Side, clone3};
use crate::sys::mount::Context;
use crate::sys::wait::reap;
use crate::sys::{Errno, ns, process, socket};

fn describe_opening() -> String {
    "open a procfs of the pid namespace that is joined".into()
}

/// Opens a new procfs of the pid namespace. The caller configures and mounts it.
pub(super) fn open_procfs_of(
    pid_namespace: &JoinedPidNamespace,
    root: BorrowedFd<'_>,
) -> StepResult<Context> {
    let context = Context::open(c"proc").map_err(failed("fsopen", describe_opening))?;
    match context.set_fd(c"pidns", pid_namespace.namespace.fd.as_fd()) {
        Ok(()) => Ok(context),
        // An older kernel doesn't know the option.
        Err(Errno::EINVAL) => open_by_visitor(pid_namespace, root),
        Err(errno) => Err(Failed::new(describe_opening(), "fsconfig", errno)),
    }
}

/// A clone without new namespaces.
const PLAIN_CLONE_ARGS: CloneArgs<'static> = CloneArgs {
    namespaces: CloneFlags::empty(),
    cgroup: None,
    sibling: false,
};

/// Has a visitor open the procfs.
fn open_by_visitor(
    pid_namespace: &JoinedPidNamespace,
    root: BorrowedFd<'_>,
) -> StepResult<Context> {
    let (ours, theirs) = socket::pair().map_err(failed("socketpair", describe_opening))?;
    let sender = match clone3(&PLAIN_CLONE_ARGS).map_err(failed("clone3", describe_opening))? {
        Side::Parent(sender) => sender,
        Side::Child => {
            drop(ours);
            report_and_exit(&theirs, clone_visitor(pid_namespace, root, &theirs))
        }
    };
    drop(theirs);
    let answer = receive(ours.as_fd());
    reap(sender.pidfd.as_fd()).map_err(failed("waitid", describe_opening))?;
    match answer.map_err(failed("recvmsg", describe_opening))? {
        // Other processes in the pid namespace may forge this message. The mount is later checked
        // to be a procfs.
        Some(Message::Context(context)) => Ok(Context::from(context)),
        Some(Message::Failed(failure)) => Err(failure),
        _ => Err(Failed::new(describe_opening(), "recvmsg", Errno::EPROTO)),
    }
}

/// Drops everything that the visitor must not have, while this process is still invisible in the
/// pid namespace. Then clones the visitor into the pid namespace.
fn clone_visitor(
    pid_namespace: &JoinedPidNamespace,
    root: BorrowedFd<'_>,
    link: &OwnedFd,
) -> StepResult {
    if !pid_namespace.early {
        namespaces::join_namespaces(std::slice::from_ref(&pid_namespace.namespace))?;
    }
    // If user namespaces are disabled, the visitor has CAP_SYS_ADMIN in the current one.
    match ns::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Ok(()) | Err(Errno::ENOSPC | Errno::EPERM | Errno::EINVAL) => {}
        Err(errno) => return Err(failed("unshare", describe_opening)(errno)),
    }
    chroot_into(root)?;
    process::close_all_but(3, &mut [link.as_raw_fd()])
        .map_err(failed("close_range", describe_opening))?;
    // Without no_new_privs, a visitor that is root would regain capabilities through execve.
    process::set_no_new_privs().map_err(failed("prctl", describe_opening))?;
    let admin = caps::Capability::CAP_SYS_ADMIN.bitmask();
    process::drop_bounding_set(admin).map_err(failed("prctl", describe_opening))?;
    process::capset(admin, admin, 0).map_err(failed("capset", describe_opening))?;
    process::erase_environment();
    match clone3(&PLAIN_CLONE_ARGS).map_err(failed("clone3", describe_opening))? {
        Side::Parent(visitor) => {
            reap(visitor.pidfd.as_fd()).map_err(failed("waitid", describe_opening))?;
            Ok(())
        }
        Side::Child => {
            let opened = Context::open(c"proc").map_err(failed("fsopen", describe_opening));
            let sent = opened.and_then(|context| {
                let message = Message::Context(context.into());
                send(link.as_fd(), &message).map_err(failed("sendmsg", describe_opening))
            });
            report_and_exit(link, sent)
        }
    }
}

fn report_and_exit(link: &OwnedFd, done: StepResult) -> ! {
    if let Err(failure) = done {
        // If this fails too, there is nobody left to report to.
        let _ = send(link.as_fd(), &Message::Failed(failure));
    }
    process::exit_now(0)
}
