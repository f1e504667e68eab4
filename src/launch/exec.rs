//! A further process in a container that runs: its namespaces and cgroup joined, then as for init.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::bridge::{self, Bridge};
use super::detour::{Detour, clone_by};
use super::link::confirm;
use super::{
    Agent, Error, Launched, explained, gate, out_of_order, owner, pid_file, prepare_terminal,
    rlimits, run, scheduling, serve, terminal, undo_process,
};
use crate::cgroup::systemd::{Systemd, Unit};
use crate::cgroup::{self, Cgroup, Hierarchy};
use crate::error::failed;
use crate::intel_rdt::Groups;
use crate::plan::host::is_in_user_namespace;
use crate::plan::process::Process;
use crate::protocol::{self, Inherited, Message, Namespace};
use crate::state::Dir;
use crate::state::record::State;
use crate::sys::clone::{Child, Clone, Exit, Side, pidfd_wait};
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{Errno, ns, process};

/// How a process is run in a container.
pub(crate) struct Request<'a> {
    pub(crate) process: &'a Process,
    /// The state of the container, for a seccomp agent.
    pub(crate) state: State<'a>,
    pub(crate) proc: &'a Procfs,
    /// The container's init: the process of the record, as its pidfd proves.
    pub(crate) init: (i32, &'a OwnedFd),
    /// The container's groups of linux.intelRdt.
    pub(crate) rdt: Option<&'a Groups>,
    /// The container's state directory, if init waits there for its start.
    pub(crate) waiting: Option<&'a Dir>,
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
    let root = if request.chroot {
        let what = || format!("open /proc/{init}/root");
        Some(
            request
                .proc
                .follow(&format!("{init}/root"), OFlag::O_PATH | OFlag::O_DIRECTORY)
                .map_err(|errno| of_init(errno, "open", what))?,
        )
    } else {
        None
    };
    let (link, childs) = super::link::make()?;
    let (way, joined) = match (foreign(request.proc, init), request.waiting) {
        (Err(Error::Closed), Some(dir)) => (Way::Bridge(told(dir, request.proc)?), Vec::new()),
        (kinds, _) => Way::plan(kinds?, pidfd, request.proc)?,
    };
    let inherited = Inherited {
        link: childs,
        gate: None,
        root,
        trees: Vec::new(),
        joined,
        null: super::descriptors::null(request.process),
    };
    let agent = Agent::connect(request.process)?;
    rlimits::raise(request.process)?;
    let clone =
        |cgroup| scheduling::on_initial_cpus(request.process, || way.clone(request, cgroup));
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
        let (plan, inherited) = (request.process, way.is_bridge());
        let cpus = plan.affinity.as_ref();
        scheduling::set_from_outside(plan, cpus, request.proc, child.pid, inherited)?;
        request.rdt.map_or(Ok(()), |rdt| rdt.add(child.pid))?;
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
        Ok(master) => Ok(Launched {
            child,
            master,
            notes: Vec::new(),
        }),
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

/// How a process comes into the container's namespaces; what a way of the parent leaves out, the child joins by itself.
enum Way<'a> {
    /// By the pid namespace, if it isn't ours.
    Direct(Option<Detour<'a>>),
    /// By all at once. Who isn't root is let into the pid namespace only from inside the user namespace; and root of a user
    /// namespace is not let back into the pid namespace that he is in, where that is the host's.
    Bridge(Vec<Namespace>),
}

impl Way<'_> {
    /// Chooses for namespaces of these kinds; answers with those that the child joins.
    fn plan<'a>(
        kinds: CloneFlags,
        pidfd: &'a OwnedFd,
        proc: &Procfs,
    ) -> Result<(Way<'a>, Vec<Namespace>), Error> {
        let namespaces = |kinds: CloneFlags| {
            if kinds.is_empty() {
                return Ok(Vec::new());
            }
            let what = || "copy the pidfd of init".to_owned();
            let fd = pidfd
                .try_clone()
                .map_err(|error| failed("fcntl", what)(errno_of(&error)))?;
            let what = "join the namespaces of the container".into();
            Ok::<_, Error>(vec![Namespace { fd, kinds, what }])
        };
        let pid = CloneFlags::CLONE_NEWPID;
        let from_outside = owner() != 0 && kinds.contains(CloneFlags::CLONE_NEWUSER);
        if from_outside || kinds.contains(pid) && is_in_user_namespace(proc) {
            return Ok((Way::Bridge(namespaces(kinds)?), Vec::new()));
        }
        let detour = kinds.contains(pid).then_some(Detour::Enter(pidfd, pid));
        Ok((Way::Direct(detour), namespaces(kinds - pid)?))
    }

    fn is_bridge(&self) -> bool {
        matches!(self, Way::Bridge(_))
    }

    fn clone(&self, request: &Request<'_>, cgroup: Option<&Cgroup>) -> Result<Side, Error> {
        let clone = Clone {
            namespaces: CloneFlags::empty(),
            cgroup: cgroup.map(Cgroup::dir),
            sibling: false,
        };
        match self {
            Way::Direct(detour) => clone_by(detour.as_slice(), request.proc, &clone),
            Way::Bridge(joined) => {
                let bridge = Bridge {
                    joined,
                    user: None,
                    time: None,
                };
                scheduling::with_oom_score(request.process, request.proc, true, || {
                    bridge::clone_over(&bridge, request.proc, &clone, Error::Exec)
                })
            }
        }
    }
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
        .map_err(|errno| of_init(errno, "read", || format!("read /proc/{pid}/cgroup")))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = Hierarchy::probe()?
        .mount
        .join(path.ok_or(Error::NotRunning)?);
    Cgroup::open(&path)?.ok_or(Error::NotRunning)
}

/// The namespaces of an init that waits for its start, where they aren't ours, by asking it.
fn told(dir: &Dir, proc: &Procfs) -> Result<Vec<Namespace>, Error> {
    let socket = gate(dir)?;
    let what = || "ask init for its namespaces".to_owned();
    protocol::send(socket.as_fd(), &Message::Enter).map_err(failed("sendmsg", what))?;
    let mut namespaces = Vec::new();
    while let Some(message) = protocol::receive(socket.as_fd()).map_err(failed("recvmsg", what))? {
        let Message::Namespace(fd) = message else {
            return Err(out_of_order());
        };
        let kinds = ns::kind(fd.as_fd()).map_err(failed("ioctl", what))?;
        let name = ns::link(kinds);
        let stat = nix::sys::stat::fstat(&fd).map_err(failed("fstat", what))?;
        let own = proc.namespace(&format!("self/ns/{name}"));
        if own.map_err(failed("stat", what))? != (stat.st_dev, stat.st_ino) {
            namespaces.push(Namespace {
                fd,
                kinds,
                what: format!("join the container's {name} namespace"),
            });
        }
    }
    let has_user = |one: &Namespace| one.kinds.contains(CloneFlags::CLONE_NEWUSER);
    if namespaces.iter().any(has_user) {
        Ok(namespaces)
    } else {
        Err(Error::Closed)
    }
}

/// The kinds of namespaces in which a process is not where we are; joining the own one again can be refused.
fn foreign(proc: &Procfs, pid: i32) -> Result<CloneFlags, Error> {
    let mut kinds = CloneFlags::empty();
    for (name, kind) in ns::LINKS {
        let what = |of: &str| format!("look at /proc/{of}/ns/{name}");
        let own = proc.namespace(&format!("self/ns/{name}"));
        let own = own.map_err(failed("stat", || what("self")))?;
        let its = proc.namespace(&format!("{pid}/ns/{name}"));
        let its = its.map_err(|errno| match errno {
            Errno::EACCES if owner() != 0 => Error::Closed,
            errno => of_init(errno, "stat", || what(&pid.to_string())),
        })?;
        if its != own {
            kinds |= kind;
        }
    }
    Ok(kinds)
}

/// What a look at init's files failed with. That they are missing means that it ended since it was found alive; engines would
/// take the ENOENT for a missing program.
fn of_init(errno: Errno, call: &'static str, what: impl FnOnce() -> String) -> Error {
    match errno {
        Errno::ENOENT | Errno::ESRCH => Error::NotRunning,
        errno => failed(call, what)(errno).into(),
    }
}
