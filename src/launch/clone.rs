//! Parent: clones the child along the route of the plan. If the parent is the cloner, it enters
//! some namespaces only for the clone: namespaces that affect only the children of a process, and
//! namespaces that only the parent may enter.
//! `intermediate` and `child::exec` are the other cloners.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::Error;
use super::intermediate::{self, Intermediate};
use crate::error::failed;
use crate::plan::Plan;
use crate::plan::namespaces::{TimeOffsets, UserNamespace};
use crate::plan::route::CloningProcess;
use crate::protocol::OpenNamespace;
use crate::sys::clone::{CloneArgs, Side, clone3};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, ns};
use crate::timens::NewTimeNamespace;

/// Clones the init of a container. `entered` are the opened existing namespaces that the cloner
/// enters.
pub(super) fn clone_init(
    plan: &Plan,
    proc: &Procfs,
    entered: &[OpenNamespace],
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Side, Error> {
    let time = plan.namespaces.time.as_ref();
    let clone = CloneArgs {
        namespaces: plan.route.clones,
        cgroup,
        sibling: false,
    };
    match plan.route.cloner {
        CloningProcess::Parent => {
            let entered = entered
                .iter()
                .map(|namespace| Entered::Enter(&namespace.fd, namespace.kinds));
            let entered: Vec<Entered<'_>> = entered.chain(time.map(Entered::Time)).collect();
            clone_inside(&entered, proc, &clone)
        }
        CloningProcess::Intermediate => {
            let user = match &plan.namespaces.user {
                Some(UserNamespace::New(mappings)) if plan.route.user_is_made_by_intermediate() => {
                    Some(mappings)
                }
                _ => None,
            };
            let intermediate = Intermediate {
                entered,
                user,
                time,
            };
            intermediate::clone(&intermediate, proc, &clone)
        }
        CloningProcess::Child => clone3(&clone).map_err(clone_error),
    }
}

/// A namespace that the parent enters for the moment of the clone.
enum Entered<'a> {
    /// An existing namespace: its descriptor and its kind.
    Enter(&'a OwnedFd, CloneFlags),
    /// A new time namespace. With clone3(CLONE_NEWTIME), its offsets could not be written.
    Time(&'a TimeOffsets),
}

impl Entered<'_> {
    fn kind(&self) -> CloneFlags {
        match self {
            Entered::Enter(_, kind) => *kind,
            Entered::Time(_) => ns::CLONE_NEWTIME,
        }
    }

    fn enter(&self, proc: &Procfs) -> Result<(), Error> {
        match self {
            Entered::Enter(fd, kind) => {
                let what = || format!("enter the container's {} namespace", ns::link(*kind));
                ns::setns(fd.as_fd(), *kind).map_err(failed("setns", what))?;
            }
            Entered::Time(offsets) => {
                NewTimeNamespace::prepare(proc, &offsets.0)?.make_for_children()?
            }
        }
        Ok(())
    }
}

/// Enters these namespaces, clones, and returns to this process's own namespaces. A failure to
/// return is an error even if the clone succeeded. The child then exits, because its link closes.
fn clone_inside(
    namespaces: &[Entered<'_>],
    proc: &Procfs,
    clone: &CloneArgs<'_>,
) -> Result<Side, Error> {
    let moves = |namespace: &Entered<'_>| namespace.kind() == CloneFlags::CLONE_NEWNS;
    let place = namespaces
        .iter()
        .any(moves)
        .then(RootAndCwd::note)
        .transpose()?;
    let mut back = Vec::with_capacity(namespaces.len());
    let mut entered = Ok(());
    for namespace in namespaces {
        let link = format!("{}/ns/{}", std::process::id(), ns::link(namespace.kind()));
        let own = proc
            .follow(&link, OFlag::O_RDONLY)
            .map_err(failed("open", || format!("open /proc/{link}")))?;
        back.push((own, namespace.kind()));
        entered = namespace.enter(proc);
        if entered.is_err() {
            break;
        }
    }
    let cloned = entered.and_then(|()| clone3(clone).map_err(clone_error));
    if matches!(cloned, Ok(Side::Child)) {
        return cloned;
    }
    for (own, kind) in back.iter().rev() {
        let what = || format!("return to the own {} namespace", ns::link(*kind));
        ns::setns(own.as_fd(), *kind).map_err(failed("setns", what))?;
    }
    place.map_or(Ok(()), |place| place.restore())?;
    cloned
}

/// The root and working directory of this process. When a process enters a mount namespace, even
/// its own, the kernel sets both to the root of the namespace. The caller may have others, so they
/// must be restored.
pub(super) struct RootAndCwd {
    root: OwnedFd,
    cwd: OwnedFd,
}

impl RootAndCwd {
    /// Opens the current root and working directory.
    pub(super) fn note() -> Result<RootAndCwd, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open = |path: &std::ffi::CStr| {
            let what = || format!("open {path:?} to come back to it");
            crate::sys::open(path, flags, Mode::empty()).map_err(failed("open", what))
        };
        Ok(RootAndCwd {
            root: open(c"/")?,
            cwd: open(c".")?,
        })
    }

    /// Restores the root and working directory after the return to this process's mount namespace.
    pub(super) fn restore(&self) -> Result<(), Error> {
        let what = || "return to the own root and working directory".to_owned();
        nix::unistd::fchdir(&self.root).map_err(failed("fchdir", what))?;
        nix::unistd::chroot(".").map_err(failed("chroot", what))?;
        nix::unistd::fchdir(&self.cwd).map_err(failed("fchdir", what))?;
        Ok(())
    }
}

/// Returns the error for a failed clone of the container's process, with a likely reason.
pub(super) fn clone_error(errno: Errno) -> Error {
    let why = match errno {
        Errno::ENOSPC => {
            ": the limit of namespaces is reached (sysctl user.max_user_namespaces and the like)"
        }
        Errno::EPERM if super::owner() != 0 => {
            ": are user namespaces switched off for users (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)?"
        }
        _ => "",
    };
    failed("clone3", || format!("clone the container's process{why}"))(errno).into()
}
