//! Parent: brings up an additional process in a running container.
//! `bring_up` has the order of the steps, for init and exec processes alike. This module has the
//! steps that only exec processes need.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use super::agent::Agent;
use super::bring_up::{Launch, Running, Steps, bring_up};
use super::clone::clone_error;
use super::ending::Undone;
use super::link::{Link, out_of_order_error};
use super::start;
use super::{Error, Launched, explained, owner};
use crate::cgroup::{Cgroup, Driver, Hierarchy};
use crate::error::failed;
use crate::intel_rdt::ResctrlGroups;
use crate::plan::host::is_in_user_namespace;
use crate::plan::process::Process;
use crate::plan::route::Route;
use crate::protocol::{self, ChildDescriptors, Inherited, Message, OpenNamespace};
use crate::state::Dir;
use crate::state::record::State;
use crate::sys::clone::{Child, CloneArgs, Exit, Side, clone3, pidfd_wait};
use crate::sys::procfs::{Procfs, errno_of};
use crate::sys::{Errno, ns};
use crate::timeline::{self, Phase};

/// The input of an exec.
pub(crate) struct ExecRequest<'a> {
    pub(crate) process: &'a Process,
    /// The state of the container, for a seccomp agent.
    pub(crate) state: State<'a>,
    pub(crate) proc: &'a Procfs,
    /// The pid and the pidfd of the container's init. The pidfd proves that the pid still belongs
    /// to the process in the record.
    pub(crate) init: (i32, &'a OwnedFd),
    /// The container's groups of linux.intelRdt.
    pub(crate) rdt: Option<&'a ResctrlGroups>,
    pub(crate) route: Route,
    /// The container's state directory.
    pub(crate) dir: &'a Dir,
    /// True if the container only has a chroot.
    pub(crate) chroot: bool,
    /// The cgroup in which the process starts, or `None` for the caller's cgroup.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// The driver of the container's cgroup, or `None` if the cgroup is gone. systemd can move a
    /// process into cgroups that are closed to the caller.
    pub(crate) driver: Option<&'a Driver>,
    /// The path of `cgroup`, relative to the container's cgroup.
    pub(crate) below: &'a str,
    /// True: fail if `cgroup` accepts no processes. False: use init's current cgroup in that case.
    pub(crate) exact_cgroup: bool,
    /// True: wait for a frozen process without a time limit.
    pub(crate) ignore_paused: bool,
    pub(crate) console_socket: Option<&'a OwnedFd>,
    pub(crate) own_terminal: Option<&'a OwnedFd>,
    pub(crate) pidfd_socket: Option<&'a OwnedFd>,
    pub(crate) pid_file: Option<&'a Path>,
}

/// Runs a process in a container. When this function returns, the process runs its program.
///
/// The child stays in the caller's pid namespace, where the container doesn't see it. It joins the
/// other namespaces, sets everything up, and clones the process (`child::exec`).
pub(crate) fn exec(
    request: &ExecRequest<'_>,
    clone_child: impl FnOnce(Inherited),
) -> Result<Launched, Error> {
    timeline::begin_step(Phase::Prepare);
    let root = request.chroot.then(|| root_of(request)).transpose()?;
    let (mut link, other) = Link::make(Error::Exec)?;
    // With --ignore-paused, a process waits in a paused container until the container is resumed.
    if let Some(cgroup) = request.cgroup.filter(|_| !request.ignore_paused) {
        link.give_up_if_frozen(cgroup.path());
    }
    let joined = if request.route.asks_init {
        handed_out(request.dir, request.proc)?
    } else {
        namespaces_of(request.init.1, request.route.enters)?
    };
    let descriptors = ChildDescriptors {
        root,
        joined,
        null: super::descriptors::null(request.process),
        ..ChildDescriptors::default()
    };
    let inherited = Inherited {
        link: other,
        descriptors,
    };
    let launch = Launch {
        process: request.process,
        route: request.route,
        proc: request.proc,
        inherits_oom_score: request.process.oom_score_adj.is_some()
            && (owner() != 0 || is_in_user_namespace(request.proc)),
        console_socket: request.console_socket,
        own_terminal: request.own_terminal,
        pidfd_socket: request.pidfd_socket,
        pid_file: request.pid_file,
        waits_for_start: false,
    };
    let mut exec = Exec {
        request,
        attaches: None,
    };
    match bring_up(&launch, &mut exec, &link, inherited, clone_child) {
        Ok(Running { process, master }) => Ok(Launched {
            child: process,
            master,
            notes: Vec::new(),
        }),
        Err(Undone { error, exit }) => Err(blamed(*error, exit, request)),
    }
}

/// An additional process during its setup.
struct Exec<'a> {
    request: &'a ExecRequest<'a>,
    /// The driver that moves the child into its cgroup, if the child can't be cloned into it.
    attaches: Option<&'a Driver>,
}

impl Steps for Exec<'_> {
    fn clone(&mut self, inherited: &mut Inherited) -> Result<Side, Error> {
        let request = self.request;
        let clone = |cgroup: Option<&Cgroup>| {
            let clone = CloneArgs {
                namespaces: request.route.clones,
                cgroup: cgroup.map(Cgroup::dir_fd),
                sibling: false,
            };
            clone3(&clone).map_err(clone_error)
        };
        let attaches = request.driver.filter(|driver| driver.can_attach());
        match clone(request.cgroup) {
            Err(Error::Failed(failed)) if attaches.is_some() && failed.errno == Errno::EACCES => {
                self.attaches = attaches;
                inherited.descriptors.waits_for_cgroup = true;
                clone(None)
            }
            Err(Error::Failed(failed))
                if !request.exact_cgroup
                    && request.cgroup.is_some()
                    && takes_no_processes(failed.errno) =>
            {
                clone(Some(&current_cgroup(request.proc, request.init.0)?))
            }
            other => other,
        }
    }

    /// Has systemd move the child into the container's cgroup, if only systemd may do so.
    fn set_up(&mut self, child: &Child, link: &Link) -> Result<(), Error> {
        let Some(driver) = self.attaches else {
            return Ok(());
        };
        driver.attach_process(child.pid, self.request.below)?;
        link.send(&Message::CgroupJoined)
    }

    /// Does nothing, because no record has the pid of an exec process.
    fn born(&mut self, _: &Child) -> Result<(), Error> {
        Ok(())
    }

    fn place(&mut self, process: &Child) -> Result<(), Error> {
        let rdt = self.request.rdt;
        Ok(rdt.map_or(Ok(()), |rdt| rdt.add_process(process.pid))?)
    }

    fn tell_agent(
        &self,
        agent: Option<&Agent>,
        listener: OwnedFd,
        process: &Child,
    ) -> Result<(), Error> {
        Agent::tell(agent, listener, process.pid, &self.request.state)
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Returns the root directory of a container that only has a chroot.
fn root_of(request: &ExecRequest<'_>) -> Result<OwnedFd, Error> {
    let link = format!("{}/root", request.init.0);
    let what = || format!("open /proc/{link}");
    let opened = request
        .proc
        .follow(&link, OFlag::O_PATH | OFlag::O_DIRECTORY);
    opened.map_err(|errno| of_init(errno, "open", what))
}

/// Adds to an error the limit that was too low, if a limit is the reason.
fn blamed(error: Error, exit: Option<Exit>, request: &ExecRequest<'_>) -> Error {
    // When init exits, the kernel kills all processes of its pid namespace, and a clone into the
    // namespace fails with ENOMEM. Then no limit is to blame.
    let ended = pidfd_wait(request.init.1.as_fd(), 0).unwrap_or(false);
    let error = match error {
        // An exiting init drops its namespaces before its pidfd reports the exit.
        Error::Exec(failed) if failed.call == "setns" && failed.errno == Errno::ESRCH => {
            Error::NotRunning
        }
        error => error,
    };
    let cgroup = request.cgroup.filter(|_| !ended);
    explained(error, exit, cgroup, None)
}

/// Returns init's namespaces of these kinds. All are joined at once, through init's pidfd.
pub(super) fn namespaces_of(
    pidfd: &OwnedFd,
    kinds: CloneFlags,
) -> Result<Vec<OpenNamespace>, Error> {
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let what = || "copy the pidfd of init".to_owned();
    let fd = pidfd
        .try_clone()
        .map_err(|error| failed("fcntl", what)(errno_of(&error)))?;
    let what = "join the namespaces of the container".into();
    Ok(vec![OpenNamespace { fd, kinds, what }])
}

/// True for the errors with which clone3(CLONE_INTO_CGROUP) rejects a cgroup. The cgroup may be
/// gone, may be in a threaded subtree, or may have controllers enabled for cgroups below it (as
/// with a systemd in the container).
pub(super) fn takes_no_processes(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EBUSY | Errno::ENODEV | Errno::ENOENT | Errno::EACCES | Errno::EOPNOTSUPP
    )
}

/// Returns the cgroup that a process is in now.
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

/// Asks an init that waits for `start` for its namespaces. Returns those that aren't the caller's.
pub(super) fn handed_out(dir: &Dir, proc: &Procfs) -> Result<Vec<OpenNamespace>, Error> {
    let socket = start::connect(dir)?;
    let what = || "ask init for its namespaces".to_owned();
    protocol::send(socket.as_fd(), &Message::Enter).map_err(failed("sendmsg", what))?;
    let mut namespaces = Vec::new();
    while let Some(message) = protocol::receive(socket.as_fd()).map_err(failed("recvmsg", what))? {
        let Message::Namespace(fd) = message else {
            return Err(out_of_order_error());
        };
        let kinds = ns::kind(fd.as_fd()).map_err(failed("ioctl", what))?;
        let name = ns::link(kinds);
        let stat = nix::sys::stat::fstat(&fd).map_err(failed("fstat", what))?;
        let own = proc.namespace(&format!("self/ns/{name}"));
        if own.map_err(failed("stat", what))? != (stat.st_dev, stat.st_ino) {
            namespaces.push(OpenNamespace {
                fd,
                kinds,
                what: format!("join the container's {name} namespace"),
            });
        }
    }
    // Enter the user namespace first, because a caller who isn't root gains rights over the other
    // namespaces only there.
    let is_user = |one: &OpenNamespace| one.kinds.contains(CloneFlags::CLONE_NEWUSER);
    namespaces.sort_by_key(|one| !is_user(one));
    match namespaces.first() {
        Some(first) if is_user(first) => Ok(namespaces),
        _ => Err(Error::Closed),
    }
}

/// Makes the error for a failed access to init's files in procfs. If the files are missing, init
/// has ended. ENOENT is not reported, because engines would take it for a missing program.
fn of_init(errno: Errno, call: &'static str, what: impl FnOnce() -> String) -> Error {
    match errno {
        Errno::ENOENT | Errno::ESRCH => Error::NotRunning,
        errno => failed(call, what)(errno).into(),
    }
}
