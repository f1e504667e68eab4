//! The parent: brings up a container with its first process. The one place with the order of a create: prepare, clone, serve, commit
//! or undo. What the child does meanwhile is in `child`; what both say to each other is in `protocol`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::agent::Agent;
use super::ending::undo_process;
use super::link::{self, Link, Ready, confirm, no_listener, out_of_order};
use super::placement::{self, naming};
use super::{
    DEADLINE, Error, Launched, clone, explained, foreground, network, pid_file, prepare, rlimits,
    scheduling, terminal,
};
use crate::cgroup::Placement;
use crate::error::failed;
use crate::hooks::{self, Kind, Scene};
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::host::Host;
use crate::plan::process::Process;
use crate::protocol::{Inherited, Message};
use crate::state::record::Record;
use crate::state::{self, Dir};
use crate::sys::clone::{Child, Side};
use crate::sys::process;

/// How a container is brought up.
pub(crate) struct Request<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) host: &'a Host,
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
    pub(crate) waits_for_start: bool,
}

/// Creates a container, and runs its program unless it waits for `start`. On any error nothing of it is left but the state
/// directory, which is the caller's.
pub(crate) fn create(
    request: &Request<'_>,
    record: &mut Record,
    clone_child: impl FnOnce(Inherited),
) -> Result<Launched, Error> {
    let prepared = prepare::prepare(request)?;
    let (mut placement, note) = placement::prepare(request, record)?;
    let mut notes = Vec::from_iter(note);
    let mut child = None;
    let launched = bring_up(
        request,
        record,
        &mut placement,
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
            let error = explained(error, exit, placement.cgroup(), Some(&request.plan.limits));
            placement.undo(DEADLINE);
            Err(error)
        }
        (Ok(_), None) => Err(Error::NotRunning),
    }
}

fn bring_up(
    request: &Request<'_>,
    record: &mut Record,
    placement: &mut Placement<'_>,
    prepared: prepare::Prepared,
    slot: &mut Option<Child>,
    notes: &mut Vec<String>,
    clone_child: impl FnOnce(Inherited),
) -> Result<Option<OwnedFd>, Error> {
    let prepare::Prepared {
        link,
        inherited,
        entered,
    } = prepared;
    let (proc, plan) = (&request.host.proc, request.plan);
    let agent = Agent::connect(&plan.process)?;
    rlimits::raise(&plan.process)?;
    let inheriting = plan.namespaces.unprivileged;
    let cloned = scheduling::with_oom_score(&plan.process, proc, inheriting, || {
        clone::clone_init(plan, proc, &entered, placement.for_clone())
    });
    let cloned =
        cloned.map_err(|error| naming(error, placement.cgroup(), &config("linux.cgroupsPath")));
    let child = match cloned? {
        Side::Child => {
            clone_child(inherited);
            process::exit_now(1)
        }
        Side::Parent(child) => &*slot.insert(child),
    };
    // The child's ends: the link must close when the child does.
    drop(inherited);
    begin(request, record, placement, child.pid)?;
    placement::settle(request, record, placement, child.pid, &link)?;
    if plan.namespaces.is_born_last() {
        link.expect(|message| matches!(message, Message::Entered).then_some(()))?;
    }
    prepare::user_namespace(plan, request.host, child, &link)?;
    // While the child mounts.
    notes.extend(placement::apply_devices(request, placement)?);
    network::give_devices(plan, proc, child.pid)?;
    if let Some(rdt) = &plan.rdt {
        rdt.join(child.pid)?;
    }
    prepare::map_inside(plan, proc, child, &link)?;
    if plan.hooks.hold_up_create() {
        hooks_before_entry(request, &link, child)?;
    }
    let mut kept = None;
    let Ready { master, born } = {
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
        link.serve(child, request.console_socket, listened)?
    };
    let child = match born {
        None if !plan.namespaces.is_born_last() => child,
        Some(process) if process.pid != child.pid => {
            link::reap(child)?;
            let process = &*slot.insert(process);
            begin(request, record, placement, process.pid)?;
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
    if !request.waits_for_start {
        link.go(no_listener)?;
    } else if plan.namespaces.is_born_last() {
        link.let_born_go()?;
    }
    if !request.waits_for_start && plan.process.seccomp.is_some() {
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
    placement: &Placement<'_>,
    pid: i32,
) -> Result<(), Error> {
    let what = || format!("read /proc/{pid}/stat");
    record.pid = Some(pid);
    record.start_time = state::start_time(&request.host.proc, pid).map_err(failed("read", what))?;
    record.cgroup_id = placement.cgroup_id()?;
    Ok(request.dir.begin(record)?)
}

/// Waits for the mounts, runs what the parent runs before the child enters its root, and lets it go on.
fn hooks_before_entry(request: &Request<'_>, link: &Link, child: &Child) -> Result<(), Error> {
    link.expect(|message| matches!(message, Message::RootfsMounted).then_some(()))?;
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
    link.send(&Message::HooksDone)
}

/// Sets up a terminal that is relayed, before anything is written to it.
pub(super) fn prepare_terminal(
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
