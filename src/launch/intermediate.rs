//! Parent and intermediate process: the intermediate process enters the user namespace, which the
//! parent could not leave again. It clones the child there with CLONE_PARENT, and exits.
//! CLONE_PARENT makes the child a child of the parent.
//! The plan's route decides whether there is an intermediate process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;

use super::clone::clone_error;
use super::ending::{self, describe_exit};
use super::link::Link;
use super::{Error, ids};
use crate::error::{Failed, failed};
use crate::plan::ids::Mappings;
use crate::plan::namespaces::TimeOffsets;
use crate::protocol::{self, Message, OpenNamespace};
use crate::sys::clone::{Child, CloneArgs, Side, clone3};
use crate::sys::procfs::Procfs;
use crate::sys::wait::reap;
use crate::sys::{Errno, ns, process, socket};
use crate::timeline::{self, Phase};
use crate::timens::NewTimeNamespace;

/// The namespaces that an intermediate process enters before it clones the child.
pub(super) struct Intermediate<'a> {
    /// Existing namespaces to enter.
    pub(super) entered: &'a [OpenNamespace],
    /// The ids of a new user namespace, which the parent maps. `None` means that the intermediate
    /// process enters an existing user namespace, or that the clone of the child makes a new one.
    pub(super) user: Option<&'a Mappings>,
    /// A new time namespace.
    pub(super) time: Option<&'a TimeOffsets>,
}

/// Clones the child through an intermediate process.
///
/// The child is cloned into its cgroup, so that only the child counts for a limit. The right to do
/// so comes from the caller's user id, or from a capability. A capability is lost when the user
/// namespace changes. In that case the intermediate process is cloned into the cgroup, and the
/// child inherits the cgroup. The same happens if a cgroup namespace is entered, because from
/// inside the kernel can refuse to put processes into the cgroup (nsdelegate, cgroups(7)).
pub(super) fn clone(
    intermediate: &Intermediate<'_>,
    proc: &Procfs,
    clone: &CloneArgs<'_>,
) -> Result<Side, Error> {
    let is_cgroup = |one: &OpenNamespace| one.kinds.contains(CloneFlags::CLONE_NEWCGROUP);
    if intermediate.entered.iter().any(is_cgroup) {
        return cross_once(intermediate, proc, clone, true);
    }
    match cross_once(intermediate, proc, clone, false) {
        Err(Error::Failed(failed)) if failed.errno == Errno::EACCES && clone.cgroup.is_some() => {
            cross_once(intermediate, proc, clone, true)
        }
        other => other,
    }
}

/// Tries once to clone the child. If `early` is true, clones the intermediate process instead of
/// the child into the cgroup.
fn cross_once(
    intermediate: &Intermediate<'_>,
    proc: &Procfs,
    clone: &CloneArgs<'_>,
    early: bool,
) -> Result<Side, Error> {
    let what = || "make an intermediate process".to_owned();
    // Use a separate link, because on the child's link the child may send a message before the
    // intermediate process does.
    let (ours, theirs) = socket::pair().map_err(failed("socketpair", what))?;
    let own_user = if intermediate.user.is_some() {
        CloneFlags::CLONE_NEWUSER
    } else {
        CloneFlags::empty()
    };
    let first = CloneArgs {
        namespaces: own_user,
        cgroup: clone.cgroup.filter(|_| early),
        sibling: false,
    };
    let last = CloneArgs {
        namespaces: clone.namespaces - own_user,
        cgroup: clone.cgroup.filter(|_| !early),
        sibling: true,
    };
    let parent = nix::unistd::getpid();
    let process = match clone3(&first).map_err(clone_error)? {
        Side::Parent(process) => process,
        Side::Child => match cross(intermediate, proc, theirs.as_fd(), parent, &last) {
            Ok(Side::Child) => return Ok(Side::Child),
            Ok(Side::Parent(child)) => end(&theirs, &Message::Born(child)),
            Err(failed) => end(&theirs, &Message::Failed(failed)),
        },
    };
    drop(theirs);
    let link = Link::over(ours, Error::Init);
    let answer = attend(intermediate, proc, &process, &link);
    let exit = reap(process.pidfd.as_fd()).map_err(failed("waitid", what))?;
    let born = |message| match message {
        Message::Born(child) => Some(child),
        _ => None,
    };
    // The intermediate process has ended, so its last message has arrived.
    let told = socket::has_message(link.as_fd()).map_err(failed("poll", what))?;
    let cloned = answer.and_then(|()| {
        if told {
            link.expect(born)
        } else {
            Err(Error::Gone)
        }
    });
    match cloned {
        Ok(child) => Ok(Side::Parent(child)),
        Err(Error::Init(failure)) if failure.call == CLONE => Err(clone_error(failure.errno)),
        Err(Error::Gone) => Err(Error::Died(describe_exit(exit), String::new())),
        Err(error) => Err(error),
    }
}

const CLONE: &str = "clone3";

/// Sends the last message of an intermediate process, and exits.
pub(super) fn end(link: &OwnedFd, message: &Message) -> ! {
    let sent = protocol::send(link.as_fd(), message);
    process::exit_now(i32::from(sent.is_err()))
}

/// Does the parent's part: maps the ids of the intermediate process. If the mapping fails, kills
/// that process.
fn attend(
    intermediate: &Intermediate<'_>,
    proc: &Procfs,
    process: &Child,
    link: &Link,
) -> Result<(), Error> {
    let Some(mappings) = intermediate.user else {
        return Ok(());
    };
    // The intermediate process makes a user namespace only for a caller who isn't root.
    let mapped = ids::write_as_user(proc, process.pid, mappings, "linux");
    if mapped.is_ok() {
        link.send(&Message::IdsMapped)?;
    } else {
        let _ = ending::send_signal(&process.pidfd, ending::SIGKILL);
    }
    mapped
}

/// Runs in the intermediate process: enters the namespaces and clones the child. Returns in both
/// processes.
fn cross(
    intermediate: &Intermediate<'_>,
    proc: &Procfs,
    link: BorrowedFd<'_>,
    parent: nix::unistd::Pid,
    clone: &CloneArgs<'_>,
) -> Result<Side, Failed> {
    timeline::become_side(timeline::Side::Intermediate);
    timeline::begin_step(Phase::Join);
    die_with(parent)?;
    let time = intermediate
        .time
        .map(|time| NewTimeNamespace::prepare(proc, &time.0));
    let time = time.transpose()?;
    if intermediate.user.is_some() {
        match protocol::receive(link) {
            Ok(Some(Message::IdsMapped)) => {}
            // The parent reports the reason.
            _ => process::exit_now(1),
        }
    }
    // Processes in the user namespace may have the same user id, which gives them rights over this
    // process.
    make_undumpable()?;
    let (users, others): (Vec<_>, Vec<_>) = intermediate
        .entered
        .iter()
        .partition(|namespace| namespace.kinds.contains(CloneFlags::CLONE_NEWUSER));
    // A namespace that the user namespace doesn't own must be entered before the user namespace. A
    // namespace that needs rights from the user namespace must be entered after it.
    let mut later = Vec::new();
    for namespace in others {
        match enter_namespace(namespace) {
            Err(failed) if failed.errno == Errno::EPERM => later.push(namespace),
            other => other?,
        }
    }
    for namespace in users.into_iter().chain(later) {
        enter_namespace(namespace)?;
    }
    // Entering the user namespace has cleared the parent death signal, and undone
    // `make_undumpable`.
    die_with(parent)?;
    make_undumpable()?;
    timeline::begin_step(Phase::Clone);
    time.map_or(Ok(()), NewTimeNamespace::make_for_children)?;
    clone3(clone).map_err(failed(CLONE, || "clone the container's process".into()))
}

fn enter_namespace(namespace: &OpenNamespace) -> Result<(), Failed> {
    ns::setns(namespace.fd.as_fd(), namespace.kinds)
        .map_err(failed("setns", || namespace.what.clone()))
}

pub(super) fn make_undumpable() -> Result<(), Failed> {
    process::set_dumpable(false).map_err(failed("prctl", || {
        "make the intermediate process undumpable".into()
    }))
}

/// Sets the parent death signal. Exits if the parent has already ended, which getppid shows here
/// because the process is in the parent's pid namespace.
pub(super) fn die_with(parent: nix::unistd::Pid) -> Result<(), Failed> {
    process::set_dies_with_parent(true)
        .map_err(failed("prctl", || "set the parent death signal".into()))?;
    if nix::unistd::getppid() != parent {
        process::exit_now(1);
    }
    Ok(())
}
