//! Parent: brings up a process of a container, from the clone until its program may run.
//! The order of the steps is the same for init and exec processes. The steps that differ are in
//! `init` and `exec`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::agent::Agent;
use super::ending::{Undone, undo_process};
use super::link::{self, Link, confirm, out_of_order_error};
use super::{Error, foreground, pid_file, rlimits, scheduling, terminal};
use crate::error::failed;
use crate::plan::host::mappings_of;
use crate::plan::ids::outside_id;
use crate::plan::process::Process;
use crate::plan::route::{CloningProcess, Route};
use crate::protocol::Inherited;
use crate::sys::clone::{Child, Side};
use crate::sys::process;
use crate::sys::procfs::Procfs;
use crate::timeline::{self, Phase};

/// The settings of a process before its clone, and the receivers of its descriptors.
pub(super) struct Launch<'a> {
    pub(super) process: &'a Process,
    pub(super) route: Route,
    pub(super) proc: &'a Procfs,
    /// True if the child inherits its OOM score, because the caller can't set the score later: the
    /// child's file in /proc belongs to root of the host, and the caller isn't root.
    pub(super) inherits_oom_score: bool,
    pub(super) console_socket: Option<&'a OwnedFd>,
    pub(super) own_terminal: Option<&'a OwnedFd>,
    pub(super) pidfd_socket: Option<&'a OwnedFd>,
    pub(super) pid_file: Option<&'a Path>,
    /// True if the process waits for `start`. Otherwise it runs its program at once.
    pub(super) waits_for_start: bool,
}

/// The steps in which init and exec processes differ.
pub(super) trait Steps {
    /// Clones the child. Sets in `inherited` what the child must wait for.
    fn clone(&mut self, inherited: &mut Inherited) -> Result<Side, Error>;

    /// Does the work that the child waits for during its setup.
    fn set_up(&mut self, child: &Child, link: &Link) -> Result<(), Error>;

    /// Records the process that a child has cloned to replace itself.
    fn born(&mut self, process: &Child) -> Result<(), Error>;

    /// Does the remaining work, which needs the pid of the ready process.
    fn place(&mut self, process: &Child) -> Result<(), Error>;

    /// Sends a listener of the process to the seccomp agent, with the state of the container.
    fn tell_agent(
        &self,
        agent: Option<&Agent>,
        listener: OwnedFd,
        process: &Child,
    ) -> Result<(), Error>;

    /// Records that the process is brought up.
    fn finish(&mut self) -> Result<(), Error>;
}

/// A process that waits for `start` or runs its program.
pub(super) struct Running {
    pub(super) process: Child,
    pub(super) master: Option<OwnedFd>,
}

/// Brings up a process. `clone_child` runs in the child, and gets `inherited`.
pub(super) fn bring_up(
    launch: &Launch<'_>,
    steps: &mut impl Steps,
    link: &Link,
    mut inherited: Inherited,
    clone_child: impl FnOnce(Inherited),
) -> Result<Running, Undone> {
    let undo = |error, process: &Child| undo_process(error, process, launch.process);
    let inherits = launch.inherits_oom_score;
    // 1. Before the clone: connect to the agent, and raise the limits that the child inherits.
    let agent = Agent::connect(launch.process)?;
    rlimits::raise_hard_limits(launch.process)?;
    timeline::begin_step(Phase::Clone);
    // 2. Clone the child, on its first CPUs and with its OOM score.
    let side = scheduling::run_on_initial_cpus(launch.process, || {
        scheduling::run_with_oom_score(launch.process, launch.proc, inherits, || {
            steps.clone(&mut inherited)
        })
    })?;
    let child = match side {
        Side::Child => {
            clone_child(inherited);
            process::exit_now(1)
        }
        Side::Parent(child) => child,
    };
    // The child's end of the link must close when the child ends.
    drop(inherited);
    timeline::begin_step(Phase::Ids);
    // 3. Do the work that the child waits for: cgroup, ids, mounts, devices, hooks.
    steps
        .set_up(&child, link)
        .map_err(|error| undo(error, &child))?;
    // 4. Answer the child until it is ready or has cloned the process. If the child is to clone the
    // process, keep the listener for step 8, because the agent needs the pid of the process.
    timeline::begin_step(Phase::AwaitReady);
    let agent = agent.as_ref();
    let is_borne = launch.route.cloner == CloningProcess::Child;
    let mut kept = None;
    let served = link.serve(&child, launch.console_socket, |listener| {
        if !is_borne {
            return steps.tell_agent(agent, listener, &child);
        }
        match kept.replace(listener) {
            None => Ok(()),
            Some(_) => Err(out_of_order_error()),
        }
    });
    let ready = served.map_err(|error| undo(error, &child))?;
    // 5. Find the process: the child itself, or the process that it cloned before it exited.
    let process = match ready.born {
        None if !is_borne => child,
        Some(process) if is_borne && process.pid != child.pid => {
            if let Err(error) = link::reap(&child) {
                undo(Error::Gone, &child);
                return Err(undo(error, &process));
            }
            let noted = steps.born(&process);
            noted.map_err(|error| undo(error, &process))?;
            process
        }
        _ => return Err(undo(out_of_order_error(), &child)),
    };
    let master = ready.master;
    let finish = || {
        timeline::begin_step(Phase::Place);
        // 6. Prepare the terminal of the process, before anything is written to it.
        prepare_terminal(launch, master.as_ref())?;
        // 7. Set the CPUs, then the scheduler, by pid. The process may not set them itself.
        scheduling::set_from_outside(launch.process, launch.proc, process.pid, inherits)?;
        steps.place(&process)?;
        give_standard_fds(launch, process.pid)?;
        // 8. Send the pidfd to the caller's socket, and the listener to the agent.
        if let Some(socket) = launch.pidfd_socket {
            terminal::send_pidfd(socket.as_fd(), process.pidfd.as_fd())?;
        }
        let is_told = kept.is_some();
        if let Some(listener) = kept {
            steps.tell_agent(agent, listener, &process)?;
        }
        timeline::begin_step(Phase::Go);
        // 9. Let the process run its program, or wait for `start`.
        match (launch.waits_for_start, is_borne) {
            (true, false) => {}
            (true, true) => link.release_to_start_socket()?,
            (false, _) => {
                // If the child cloned the process, other processes of the container may have taken
                // control of it, and may send messages on its link. So accept only one listener.
                let mut is_late = is_borne && !is_told && !launch.process.is_cloned_filtered();
                link.go(|listener| match std::mem::take(&mut is_late) {
                    true => steps.tell_agent(agent, listener, &process),
                    false => Err(out_of_order_error()),
                })?;
                if launch.process.seccomp.is_some() {
                    confirm(launch.proc, process.pid, &process.pidfd)?;
                }
            }
        }
        timeline::begin_step(Phase::Finish);
        // 10. Write the record, and then the pid file, which shows callers that all is done.
        steps.finish()?;
        pid_file::write(launch.pid_file, process.pid)
    };
    match finish() {
        Ok(()) => Ok(Running { process, master }),
        Err(error) => Err(undo(error, &process)),
    }
}

/// Prepares the container's terminal, if it will be relayed to the caller's terminal.
fn prepare_terminal(launch: &Launch<'_>, master: Option<&OwnedFd>) -> Result<(), Error> {
    let (Some(master), Some(own)) = (master, launch.own_terminal) else {
        return Ok(());
    };
    let size = launch.process.terminal.and_then(|terminal| terminal.size);
    Ok(foreground::prepare(master.as_fd(), own.as_fd(), size)?)
}

/// Makes the user of the process the owner of the pipes and sockets at its standard descriptors.
/// The child can't do this, because its user namespace has no rights over the host's files.
fn give_standard_fds(launch: &Launch<'_>, pid: i32) -> Result<(), Error> {
    if launch.process.terminal.is_some() || !launch.route.changes_user() {
        return Ok(());
    }
    let uids = mappings_of(launch.proc, pid).map(|mappings| mappings.uids);
    let Some(uid) = uids.and_then(|uids| outside_id(&uids, launch.process.uid)) else {
        return Ok(());
    };
    process::give_standard_fds(uid)
        .map_err(failed("fchown", || {
            "give standard input and output to the user".into()
        }))
        .map_err(Error::from)
}
