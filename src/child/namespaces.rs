//! Joins existing namespaces. If a container joins an existing pid namespace, the child also makes
//! the new namespaces itself, and stays in the parent's pid namespace. Otherwise the clone makes
//! the new namespaces.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;

use super::{StepResult, labels};
use crate::error::failed;
use crate::plan::Plan;
use crate::protocol::{JoinedPidNamespace, Message, OpenNamespace, send};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, ns};
use crate::timeline::{self, Phase};
use crate::timens::NewTimeNamespace;

/// Joins existing namespaces, one after the other.
pub(super) fn join_namespaces(joined: &[OpenNamespace]) -> StepResult {
    timeline::begin_step(Phase::Join);
    joined.iter().try_for_each(enter_namespace)
}

fn enter_namespace(namespace: &OpenNamespace) -> StepResult {
    ns::setns(namespace.fd.as_fd(), namespace.kinds)
        .map_err(failed("setns", || namespace.what.clone()))
}

/// Joins and makes all namespaces of the plan, then notifies the parent. Returns the host's procfs.
pub(super) fn join_and_make_namespaces(
    plan: &Plan,
    joined: &[OpenNamespace],
    pid_namespace: &JoinedPidNamespace,
    link: &OwnedFd,
) -> StepResult<Procfs> {
    // Open the host's procfs while this process is still in the host's root. The container's procfs
    // shows another pid namespace, where this process has no entry.
    let proc = labels::open_host_procfs()?;
    let time = plan.namespaces.time.as_ref();
    let time = time.map(|offsets| NewTimeNamespace::prepare(&proc, &offsets.0));
    let time = time.transpose()?;
    let is_user = |one: &&OpenNamespace| one.kinds.contains(CloneFlags::CLONE_NEWUSER);
    let (users, mut others): (Vec<_>, Vec<_>) = joined.iter().partition(is_user);
    if pid_namespace.early {
        others.push(&pid_namespace.namespace);
    }
    // A namespace that the user namespace doesn't own must be entered before the user namespace. A
    // namespace that needs rights from the user namespace must be entered after it.
    let mut later = Vec::new();
    for namespace in others {
        match enter_namespace(namespace) {
            Err(failure) if failure.errno == Errno::EPERM => later.push(namespace),
            other => other?,
        }
    }
    users
        .into_iter()
        .chain(later)
        .try_for_each(enter_namespace)?;
    if let Some(time) = time {
        time.make_for_children()?;
    }
    let new = plan.route.makes - ns::CLONE_NEWTIME;
    if !new.is_empty() {
        ns::unshare(new).map_err(failed("unshare", || "make the namespaces".into()))?;
    }
    send(link.as_fd(), &Message::Entered).map_err(failed("sendmsg", || {
        "tell the parent of the namespaces".into()
    }))?;
    Ok(proc)
}
