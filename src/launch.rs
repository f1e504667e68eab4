//! The parent: prepare, clone, serve, commit or undo. The one place with the order of a create.
//! What the child does meanwhile is in `child`; what both say to each other is in `protocol`.

mod agent;
mod bridge;
pub(crate) mod descriptors;
mod detour;
pub(crate) mod exec;
pub(crate) mod foreground;
mod home;
mod id_map_tools;
mod ids;
mod link;
pub(crate) mod members;
mod network;
mod nodes;
pub(crate) mod notify;
mod pid_file;
pub(crate) mod prepare;
mod relay;
mod rlimits;
mod scheduling;
mod shortage;
pub(crate) mod signals;
pub(crate) mod terminal;
mod uncovered;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;

use crate::cgroup::{self, Driver, Limits, Place};
use crate::error::{Failed, failed};
use crate::hooks::{self, Kind, Scene};
use crate::invocation::Rootless;
use crate::plan::Plan;
use crate::plan::host::Host;
use crate::plan::process::Process;
use crate::protocol::{self, Failure, Inherited, Message};
use crate::state::record::Record;
use crate::state::{self, Dir, START_SOCKET};
use crate::sys::clone::{Child, Clone, Exit, Side, pidfd_send_signal, pidfd_wait};
use crate::sys::procfs::Procfs;
use crate::sys::wait::reap;
use crate::sys::{Errno, process, signal, socket};
use agent::Agent;
use home::Home;
pub(crate) use home::naming;
use link::{confirm, no_listener, out_of_order, receive, run, serve};
pub(crate) use shortage::{explained, killed_for_memory};

/// How long a container may take to leave its cgroup once all its processes were killed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Why a container or a process in it could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Terminal(#[from] terminal::Error),
    #[error(transparent)]
    Hook(#[from] hooks::Error),
    #[error(transparent)]
    NetDevice(#[from] crate::net_devices::Error),
    #[error(transparent)]
    Rdt(#[from] crate::intel_rdt::Error),
    /// Something on the host that config.json names isn't what it should be.
    #[error("{0} (config.json: {1}): {2}")]
    Unusable(String, String, String),
    /// What the child said before it ended.
    #[error("unable to start container process: error during container init: {0}")]
    Init(Failure),
    #[error("unable to start container process: {0}")]
    Exec(Failure),
    #[error("unable to start container process: it was {0} before it could run the program{1}")]
    Died(String, String),
    /// An error, and the limit that was too low.
    #[error("{0}: {1}")]
    Limit(Box<Error>, String),
    #[error("map ids by {tool} (config.json: {place}): {problem}")]
    IdMapTool {
        tool: String,
        place: String,
        problem: String,
    },
    #[error(
        "the container can be entered by root only: it was not started yet, or its program may not be read by its user"
    )]
    Closed,
    #[error("container not running")]
    NotRunning,
    #[error(
        "process {0} does not end {1} s after it was killed: it is in an uninterruptible sleep, or the init of a pid namespace in which nobody reaps another process"
    )]
    Undying(i32, u64),
    #[error("the start socket of the container is gone")]
    NoStartSocket,
    #[error("interrupted by signal {0} ({name})", name = Signal::try_from(*.0).map_or("unknown", Signal::as_str))]
    Interrupted(i32),
}

impl Error {
    /// The signal by which the command was asked to end, if that was the reason.
    pub(crate) fn signal(&self) -> Option<i32> {
        match self {
            Error::Interrupted(signal)
            | Error::Cgroup(cgroup::Error::Systemd(cgroup::systemd::Error::Interrupted(signal))) => {
                Some(*signal)
            }
            Error::Hook(error) => error.signal(),
            _ => None,
        }
    }
}

/// How a container is brought up.
pub(crate) struct Request<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) host: &'a Host,
    pub(crate) limits: &'a Limits,
    pub(crate) place: &'a Place,
    /// Whether a cgroup that can't be made is done without; `None`: config.json asks for one.
    pub(crate) rootless: Option<Rootless>,
    pub(crate) dir: &'a Dir,
    /// What the hooks are told.
    pub(crate) about: &'a hooks::About,
    /// Where the hooks of the parent run.
    pub(crate) bundle: &'a Path,
    /// Where the master of a terminal goes; `None`: it is kept for the foreground.
    pub(crate) console_socket: Option<&'a OwnedFd>,
    /// The caller's terminal, if the container's is relayed to it.
    pub(crate) own_terminal: Option<&'a OwnedFd>,
    pub(crate) pidfd_socket: Option<&'a OwnedFd>,
    pub(crate) pid_file: Option<&'a Path>,
    /// True: wait for `start`; false: run the program at once.
    pub(crate) gated: bool,
}

/// A process of a container, set up or running.
pub(crate) struct Launched {
    pub(crate) child: Child,
    /// The master of its terminal, unless that went to a console socket.
    pub(crate) master: Option<OwnedFd>,
    /// What could not be done and is done without.
    pub(crate) notes: Vec<String>,
}

/// Holds every signal back from here on, and makes SIGCHLD what waiting for a child needs. The child lets all through again.
pub(crate) fn hold_signals() -> Result<(), Error> {
    signal::block_all().map_err(failed("sigprocmask", || "block the signals".into()))?;
    signal::default_sigchld().map_err(failed("sigaction", || "reset SIGCHLD".into()))?;
    Ok(())
}

/// Lets them take their usual effect again.
pub(crate) fn let_signals_through() -> Result<(), Error> {
    signal::unblock_all()
        .map_err(failed("sigprocmask", || "unblock the signals".into()))
        .map_err(Error::from)
}

/// What the container's processes leave behind becomes a child of this process, to be reaped by `foreground`.
pub(crate) fn become_subreaper() -> Result<(), Error> {
    process::set_child_subreaper()
        .map_err(failed("prctl", || "adopt orphans".into()))
        .map_err(Error::from)
}

/// Creates a container, and runs its program if the request isn't gated. On any error nothing of it is left but the state
/// directory, which is the caller's.
pub(crate) fn create(
    request: &Request<'_>,
    record: &mut Record,
    clone_child: impl FnOnce(Inherited),
) -> Result<Launched, Error> {
    let prepared = prepare::prepare(request)?;
    let mut notes = Vec::new();
    let mut home = Home::prepare(request, &mut notes)?;
    if matches!(home, Home::Shared) {
        record.cgroup = Driver::Disabled;
    }
    let mut child = None;
    let launched = bring_up(
        request,
        record,
        &mut home,
        prepared,
        &mut child,
        &mut notes,
        clone_child,
    );
    match (launched, child) {
        (Ok(master), Some(child)) => Ok(Launched {
            child,
            master,
            notes,
        }),
        (Err(error), child) => {
            // The first error stays the one that is told.
            let (error, exit) = match child {
                Some(child) => undo_process(error, &child, &request.plan.process),
                None => (error, None),
            };
            let error = explained(error, exit, home.cgroup(), Some(request.limits));
            home.undo();
            Err(error)
        }
        (Ok(_), None) => Err(Error::NotRunning),
    }
}

const SIGKILL: i32 = Signal::SIGKILL as i32;
const SIGSEGV: i32 = Signal::SIGSEGV as i32;
const SIGSYS: i32 = Signal::SIGSYS as i32;
/// Why a process that is set up dies of SIGSYS.
const FILTERED: &str = ": the filter forbids what starting it takes (config.json: linux.seccomp)";

/// Ends and reaps one process; says how it ended if that was the error, and whether its filter may have been the reason.
fn undo_process(error: Error, child: &Child, process: &Process) -> (Error, Option<Exit>) {
    let _ = send_signal(&child.pidfd, SIGKILL);
    let exit = reap(child.pidfd.as_fd()).ok();
    let error = match (error, exit) {
        (Error::Died(..), Some(exit)) => {
            // What ends by itself and without a word was kept from saying why; and where exit is refused as well, glibc halts.
            let silent = matches!(exit, Exit::Code(_) | Exit::Signal(SIGSEGV));
            let silent = process.seccomp.is_some() && silent;
            let filtered = silent || matches!(exit, Exit::Signal(SIGSYS));
            let reason = if filtered { FILTERED } else { "" };
            Error::Died(how(exit), reason.into())
        }
        (error, _) => error,
    };
    (error, exit)
}

/// Sends a signal to the process behind a pidfd.
fn send_signal(pidfd: &OwnedFd, signal: i32) -> Result<(), Errno> {
    pidfd_send_signal(pidfd.as_fd(), signal)
}

/// Sends a signal to a container's init.
pub(crate) fn kill(pid: i32, pidfd: &OwnedFd, signal: i32) -> Result<(), Error> {
    match send_signal(pidfd, signal) {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(Error::NotRunning),
        Err(errno) => {
            let what = || format!("send signal {signal} to process {pid}");
            Err(failed("pidfd_send_signal", what)(errno).into())
        }
    }
}

/// Kills the process behind a pidfd, if it is still there, and waits for its end.
pub(crate) fn end(pid: i32, pidfd: &OwnedFd, deadline: Duration) -> Result<(), Error> {
    let what = || format!("end process {pid}");
    match send_signal(pidfd, SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(failed("pidfd_send_signal", what)(errno).into()),
    }
    let milliseconds = i32::try_from(deadline.as_millis()).unwrap_or(i32::MAX);
    if pidfd_wait(pidfd.as_fd(), milliseconds).map_err(failed("poll", what))? {
        Ok(())
    } else {
        Err(Error::Undying(pid, deadline.as_secs()))
    }
}

/// The user on whose behalf containers are made.
pub(crate) fn owner() -> u32 {
    process::effective_uid()
}

/// The signals that this process ignores, and a container's process must not.
pub(crate) fn ignored_signals(proc: &Procfs) -> Result<Vec<i32>, Error> {
    let name = format!("{}/status", std::process::id());
    let status = proc
        .read(&name)
        .map_err(failed("read", || format!("read /proc/{name}")))?;
    Ok(signal::ignored_in(&status))
}

/// How a process ended, in words.
fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with code {code}"),
        Exit::Signal(signal) => {
            let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
            format!("killed by signal {signal} ({name})")
        }
    }
}

fn bring_up(
    request: &Request<'_>,
    record: &mut Record,
    home: &mut Home<'_>,
    prepared: prepare::Prepared,
    slot: &mut Option<Child>,
    notes: &mut Vec<String>,
    clone_child: impl FnOnce(Inherited),
) -> Result<Option<OwnedFd>, Error> {
    let prepare::Prepared {
        link,
        inherited,
        detours,
    } = prepared;
    let (proc, plan) = (&request.host.proc, request.plan);
    let clone = Clone {
        namespaces: match home.comes_later() {
            // It is rooted at the cgroup of the process that makes it: the child does so when it is there.
            true => plan.namespaces.new - CloneFlags::CLONE_NEWCGROUP,
            false => plan.namespaces.new,
        },
        cgroup: home.for_clone(),
        sibling: false,
    };
    let agent = Agent::connect(&plan.process)?;
    rlimits::raise(&plan.process)?;
    let inheriting = plan.namespaces.unprivileged;
    let cloned = scheduling::with_oom_score(&plan.process, proc, inheriting, || {
        bridge::clone_init(plan, proc, &detours, &clone)
    });
    let cloned =
        cloned.map_err(|error| naming(error, home.cgroup(), "config.json: linux.cgroupsPath"));
    let child = match cloned? {
        Side::Child => {
            clone_child(inherited);
            process::exit_now(1)
        }
        Side::Parent(child) => &*slot.insert(child),
    };
    // The child's ends: the link must close when the child does.
    drop(inherited);
    begin(request, record, home, child.pid)?;
    if let Some(limits) = home.settle(request, child.pid)? {
        record.cgroup_id = home.cgroup_id()?;
        request.dir.begin(record)?;
        home.furnish(request, &limits, link.as_fd())?;
    }
    if plan.namespaces.is_born_last() {
        entered(link.as_fd())?;
    }
    prepare::user_namespace(plan, request.host, child, link.as_fd())?;
    // While the child mounts.
    home.apply_devices(request, notes)?;
    network::give_devices(plan, proc, child.pid)?;
    if let Some(rdt) = &plan.rdt {
        rdt.join(child.pid)?;
    }
    prepare::map_inside(plan, proc, child, link.as_fd())?;
    if plan.hooks.hold_up_create() {
        hooks_before_entry(request, link.as_fd(), child)?;
    }
    let mut kept = None;
    let (master, born) = {
        let state = record.state("creating", child.pid);
        let listened = |listener| {
            // The agent is told of the process that it has to do with.
            if plan.namespaces.is_born_last() {
                return match kept.replace(listener) {
                    None => Ok(()),
                    Some(_) => Err(out_of_order()),
                };
            }
            Agent::tell(agent.as_ref(), listener, child.pid, &state)
        };
        serve(link.as_fd(), request.console_socket, listened, Error::Init)?
    };
    let child = match born {
        None if !plan.namespaces.is_born_last() => child,
        Some(process) if process.pid != child.pid => {
            link::reap(child)?;
            let process = &*slot.insert(process);
            begin(request, record, home, process.pid)?;
            process
        }
        _ => return Err(out_of_order()),
    };
    prepare_terminal(master.as_ref(), request.own_terminal, &plan.process)?;
    scheduling::set_from_outside(&plan.process, None, proc, child.pid, inheriting)?;
    prepare::give_standard_fds(plan, request.host, child.pid)?;
    if let Some(socket) = request.pidfd_socket {
        terminal::send_pidfd(socket.as_fd(), child.pidfd.as_fd())?;
    }
    if let Some(listener) = kept {
        let state = record.state("creating", child.pid);
        Agent::tell(agent.as_ref(), listener, child.pid, &state)?;
    }
    // A listener was handed on by now: the plan sees to that.
    if !request.gated {
        run(link.as_fd(), no_listener, Error::Init)?;
    } else if plan.namespaces.is_born_last() {
        link::let_born_go(link.as_fd())?;
    }
    if !request.gated && plan.process.seccomp.is_some() {
        confirm(proc, child.pid, &child.pidfd)?;
    }
    request.dir.finish(record)?;
    pid_file::write(request.pid_file, child.pid)?;
    Ok(master)
}

/// Records the process that the container has now, so that a `delete --force` finds it.
fn begin(
    request: &Request<'_>,
    record: &mut Record,
    home: &Home<'_>,
    pid: i32,
) -> Result<(), Error> {
    let what = || format!("read /proc/{pid}/stat");
    record.pid = Some(pid);
    record.start_time = state::start_time(&request.host.proc, pid).map_err(failed("read", what))?;
    record.cgroup_id = home.cgroup_id()?;
    Ok(request.dir.begin(record)?)
}

/// Waits until the child has joined and made its namespaces.
fn entered(link: BorrowedFd<'_>) -> Result<(), Error> {
    match receive(link)? {
        Some(Message::Entered) => Ok(()),
        Some(Message::Failed(failure)) => Err(Error::Init(failure)),
        Some(_) => Err(out_of_order()),
        None => Err(Error::Died("gone".into(), String::new())),
    }
}

/// Waits for the mounts, runs what the parent runs before the child enters its root, and lets it go on.
fn hooks_before_entry(
    request: &Request<'_>,
    link: BorrowedFd<'_>,
    child: &Child,
) -> Result<(), Error> {
    match receive(link)? {
        Some(Message::RootfsMounted) => {}
        Some(Message::Failed(failure)) => return Err(Error::Init(failure)),
        Some(_) => return Err(out_of_order()),
        None => return Err(Error::Died("gone".into(), String::new())),
    }
    let scene = Scene {
        about: request.about,
        pid: child.pid,
        env: None,
        cwd: Some(request.bundle),
        // Or a hook that hangs would outlast a delete --force, which kills the child and then waits for our lock.
        only_while: Some(child.pidfd.as_fd()),
        interruptible: true,
    };
    let hooks = &request.plan.hooks;
    hooks::run(Kind::Prestart, &hooks.prestart, scene)?;
    hooks::run(Kind::CreateRuntime, &hooks.create_runtime, scene)?;
    protocol::send(link, &Message::HooksDone).map_err(|_| Error::Died("gone".into(), String::new()))
}

/// Sets up a terminal that is relayed, before anything is written to it.
fn prepare_terminal(
    master: Option<&OwnedFd>,
    own: Option<&OwnedFd>,
    process: &Process,
) -> Result<(), Error> {
    match (master, own) {
        (Some(master), Some(own)) => {
            let size = process.terminal.and_then(|terminal| terminal.size);
            Ok(foreground::prepare(master.as_fd(), own.as_fd(), size)?)
        }
        _ => Ok(()),
    }
}

/// Connects to an init that waits for its start.
fn gate(dir: &Dir) -> Result<OwnedFd, Error> {
    socket::connect(dir.fd(), START_SOCKET).map_err(|errno| match errno {
        Errno::ECONNREFUSED => Error::NotRunning,
        Errno::ENOENT => Error::NoStartSocket,
        errno => failed("connect", || "connect to the start socket".into())(errno).into(),
    })
}

/// Releases a created container: the program runs when this returns.
pub(crate) fn start(dir: &Dir, proc: &Procfs, pid: i32, pidfd: &OwnedFd) -> Result<(), Error> {
    let socket = gate(dir)?;
    // Before Go: if we are killed in between, the child sees its end of the connection close, and ends.
    dir.used_start_socket()?;
    run(socket.as_fd(), no_listener, Error::Init)?;
    confirm(proc, pid, pidfd)
}
