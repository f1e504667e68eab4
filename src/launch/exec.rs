//! A further process in a container that runs: its namespaces and cgroup joined, then as for init.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::detour::{Detour, clone_by};
use super::{
    Agent, Error, Launched, confirm, explained, pid_file, prepare_terminal, run, scheduling, serve,
    set_from_outside, terminal, undo_process,
};
use crate::cgroup::systemd::{Systemd, Unit};
use crate::cgroup::{self, Cgroup, Hierarchy};
use crate::error::failed;
use crate::plan::process::Process;
use crate::protocol::{Inherited, Namespace};
use crate::state::record::State;
use crate::sys::clone::{Child, Clone, Exit, Side, pidfd_wait};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, ns, process};

/// How a process is run in a container.
pub(crate) struct Request<'a> {
    pub(crate) process: &'a Process,
    /// The state of the container, for a seccomp agent.
    pub(crate) state: State<'a>,
    pub(crate) proc: &'a Procfs,
    /// The container's init: the process of the record, as its pidfd proves.
    pub(crate) init: (i32, &'a OwnedFd),
    /// True if the container only has a chroot.
    pub(crate) chroot: bool,
    /// `None`: where the caller is.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// The unit that has the cgroup, with the path below it of a cgroup in it. systemd can move a process where this one may not.
    pub(crate) unit: Option<(&'a Unit, &'a str)>,
    /// True: in that cgroup or not at all; false: where it takes no processes, in the one that init is in now.
    pub(crate) exact_cgroup: bool,
    pub(crate) console_socket: Option<&'a OwnedFd>,
    pub(crate) own_terminal: Option<&'a OwnedFd>,
    pub(crate) pidfd_socket: Option<&'a OwnedFd>,
    pub(crate) pid_file: Option<&'a Path>,
}

/// Runs a process in a container; it runs its program when this returns.
pub(crate) fn exec(
    request: &Request<'_>,
    clone_child: impl FnOnce(Inherited),
) -> Result<Launched, Error> {
    let (init, pidfd) = request.init;
    let kinds = foreign(request.proc, init)?;
    let root = if request.chroot {
        let what = || format!("open /proc/{init}/root");
        Some(
            request
                .proc
                .follow(&format!("{init}/root"), OFlag::O_PATH | OFlag::O_DIRECTORY)
                .map_err(failed("open", what))?,
        )
    } else {
        None
    };
    let (link, childs) = super::link::make()?;
    let others = kinds - CloneFlags::CLONE_NEWPID;
    let mut joined = Vec::new();
    if !others.is_empty() {
        let fd = pidfd.try_clone().map_err(|e| {
            failed("fcntl", || "copy the pidfd of init".into())(crate::sys::procfs::errno_of(&e))
        })?;
        joined.push(Namespace {
            fd,
            kinds: others,
            what: "join the namespaces of the container".into(),
        });
    }
    let inherited = Inherited {
        link: childs,
        gate: None,
        root,
        trees: Vec::new(),
        joined,
    };
    let pid_namespace = kinds
        .contains(CloneFlags::CLONE_NEWPID)
        .then_some(Detour::Enter(pidfd, CloneFlags::CLONE_NEWPID));
    let agent = Agent::connect(request.process)?;
    let clone = |cgroup: Option<&Cgroup>| {
        let clone = Clone {
            namespaces: CloneFlags::empty(),
            cgroup: cgroup.map(Cgroup::dir),
            sibling: false,
        };
        scheduling::on_initial_cpus(request.process, || {
            clone_by(pid_namespace.as_slice(), request.proc, &clone)
        })
    };
    let mut attach = None;
    let side = match clone(request.cgroup) {
        Err(Error::Failed(failed)) if request.unit.is_some() && failed.errno == Errno::EACCES => {
            attach = request.unit;
            clone(None)
        }
        Err(Error::Failed(failed))
            if !request.exact_cgroup
                && request.cgroup.is_some()
                && takes_no_processes(failed.errno) =>
        {
            clone(Some(&current_cgroup(request.proc, init)?))
        }
        other => other,
    };
    let side = side.map_err(|error| blamed(error, None, request));
    let child = match side? {
        Side::Child => {
            clone_child(inherited);
            process::exit_now(1)
        }
        Side::Parent(child) => child,
    };
    drop(inherited);
    let listened = |listener| Agent::tell(agent.as_ref(), listener, child.pid, &request.state);
    let attached = attach.map_or(Ok(()), |(unit, below)| {
        let mut systemd = Systemd::connect(unit).map_err(cgroup::Error::from)?;
        Ok(systemd
            .attach(child.pid, below)
            .map_err(cgroup::Error::from)?)
    });
    let served =
        attached.and_then(|()| serve(link.as_fd(), request.console_socket, listened, Error::Exec));
    let master = served.and_then(|master| {
        prepare_terminal(master.as_ref(), request.own_terminal, request.process)?;
        set_from_outside(request.process, request.proc, child.pid)?;
        scheduling::set_final_cpus(request.process, child.pid)?;
        if let Some(socket) = request.pidfd_socket {
            terminal::send_pidfd(socket.as_fd(), child.pidfd.as_fd())?;
        }
        run(link.as_fd(), Error::Exec)?;
        if request.process.seccomp.is_some() {
            confirm(request.proc, child.pid, &child.pidfd)?;
        }
        pid_file::write(request.pid_file, child.pid)?;
        Ok(master)
    });
    match master {
        Ok(master) => Ok(Launched { child, master }),
        Err(error) => Err(undo(error, &child, request)),
    }
}

/// Ends the process, and finds out what the error was due to.
fn undo(error: Error, child: &Child, request: &Request<'_>) -> Error {
    let (error, exit) = undo_process(error, child, request.process);
    blamed(error, exit, request)
}

/// Tells with an error which limit was too low, if one was.
fn blamed(error: Error, exit: Option<Exit>, request: &Request<'_>) -> Error {
    // The end of init ends all in its pid namespace and makes a clone into it ENOMEM, whatever the limits are.
    let ended = pidfd_wait(request.init.1.as_fd(), 0).unwrap_or(false);
    let cgroup = request.cgroup.filter(|_| !ended);
    explained(error, exit, cgroup, None)
}

/// What clone3(CLONE_INTO_CGROUP) says of a cgroup that is gone, that has controllers enabled for cgroups below it (as where
/// init is a systemd), or that is part of a threaded tree.
fn takes_no_processes(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EBUSY | Errno::ENODEV | Errno::ENOENT | Errno::EACCES | Errno::EOPNOTSUPP
    )
}

/// The cgroup that a process is in now.
pub(crate) fn current_cgroup(proc: &Procfs, pid: i32) -> Result<Cgroup, Error> {
    let text = proc
        .read(&format!("{pid}/cgroup"))
        .map_err(failed("read", || format!("read /proc/{pid}/cgroup")))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = Hierarchy::probe()?
        .mount
        .join(path.ok_or(Error::NotRunning)?);
    Cgroup::open(&path)?.ok_or(Error::NotRunning)
}

/// The kinds of namespaces in which a process is not where we are; joining the own one again can be refused.
fn foreign(proc: &Procfs, pid: i32) -> Result<CloneFlags, Error> {
    let mut kinds = CloneFlags::empty();
    for (name, kind) in ns::LINKS {
        let look = |link: String| {
            proc.namespace(&link)
                .map_err(failed("stat", || format!("look at /proc/{link}")))
        };
        if look(format!("{pid}/ns/{name}"))? != look(format!("self/ns/{name}"))? {
            kinds |= kind;
        }
    }
    Ok(kinds)
}
