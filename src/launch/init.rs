//! Parent: brings up a container with its first process. A failure leaves nothing behind.
//! `bring_up` has the order of the steps, for init and exec processes alike. This module has the
//! steps that only init needs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::agent::Agent;
use super::bring_up::{Launch, Running, Steps, bring_up};
use super::ending::Undone;
use super::link::Link;
use super::placement::{self, name_cgroup_in_error};
use super::{DEADLINE, Error, Launched, clone, explained, network, prepare};
use crate::cgroup::Placement;
use crate::error::failed;
use crate::hooks::{self, HookContext, HookKind};
use crate::origin::config;
use crate::plan::Plan;
use crate::plan::host::Host;
use crate::plan::route::CloningProcess;
use crate::protocol::{Inherited, Message, OpenNamespace};
use crate::state::record::Record;
use crate::state::{self, Dir};
use crate::sys::clone::{Child, Side};
use crate::timeline::{self, Phase};

/// The input of `create`.
pub(crate) struct CreateRequest<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) host: &'a Host,
    pub(crate) dir: &'a Dir,
    /// The constant part of the state that hooks get.
    pub(crate) about: &'a hooks::StateTemplate,
    /// The working directory of the parent's hooks.
    pub(crate) bundle: &'a Path,
    /// The socket for the master of a terminal. `None`: the master is kept for the foreground.
    pub(crate) console_socket: Option<&'a OwnedFd>,
    /// The caller's terminal, if the container's terminal is relayed to it.
    pub(crate) own_terminal: Option<&'a OwnedFd>,
    pub(crate) pidfd_socket: Option<&'a OwnedFd>,
    pub(crate) pid_file: Option<&'a Path>,
    /// True: wait for `start`; false: run the program at once.
    pub(crate) waits_for_start: bool,
}

/// Creates a container, and runs its program unless it waits for `start`. After an error, nothing
/// of the container is left but the state directory, which belongs to the caller.
pub(crate) fn create(
    request: &CreateRequest<'_>,
    record: &mut Record,
    clone_child: impl FnOnce(Inherited),
) -> Result<Launched, Error> {
    timeline::begin_step(Phase::Prepare);
    let prepare::PreparedDescriptors {
        link,
        inherited,
        entered,
    } = prepare::prepare(request)?;
    timeline::begin_step(Phase::Cgroup);
    let (placement, note) = placement::prepare_cgroup(request, record)?;
    let mut init = Init {
        request,
        record,
        placement,
        entered,
        notes: Vec::from_iter(note),
    };
    let plan = request.plan;
    let launch = Launch {
        process: &plan.process,
        route: plan.route,
        proc: &request.host.proc,
        inherits_oom_score: plan.namespaces.unprivileged,
        console_socket: request.console_socket,
        own_terminal: request.own_terminal,
        pidfd_socket: request.pidfd_socket,
        pid_file: request.pid_file,
        waits_for_start: request.waits_for_start,
    };
    match bring_up(&launch, &mut init, &link, inherited, clone_child) {
        Ok(Running { process, master }) => Ok(Launched {
            child: process,
            master,
            notes: init.notes,
        }),
        Err(Undone { error, exit }) => {
            let error = explained(*error, exit, init.placement.cgroup(), Some(&plan.limits));
            init.placement.undo_placement(DEADLINE);
            Err(error)
        }
    }
}

/// A container that is being brought up.
struct Init<'a> {
    request: &'a CreateRequest<'a>,
    record: &'a mut Record,
    placement: Placement<'a>,
    /// Existing namespaces that the cloner enters.
    entered: Vec<OpenNamespace>,
    /// Notes about steps that were skipped because the host does not allow them.
    notes: Vec<String>,
}

impl Init<'_> {
    /// Records the container's current process, so that a `delete --force` finds it.
    fn begin(&mut self, pid: i32) -> Result<(), Error> {
        let what = || format!("read /proc/{pid}/stat");
        let start_time = state::read_start_time(&self.request.host.proc, pid);
        self.record.pid = Some(pid);
        self.record.start_time = start_time.map_err(failed("read", what))?;
        self.record.cgroup_id = self.placement.cgroup_id()?;
        Ok(self.request.dir.write_unfinished_record(self.record)?)
    }
}

impl Steps for Init<'_> {
    fn clone(&mut self, _: &mut Inherited) -> Result<Side, Error> {
        let (plan, proc) = (self.request.plan, &self.request.host.proc);
        let cloned = clone::clone_init(plan, proc, &self.entered, self.placement.clone_target());
        let asked = config("linux.cgroupsPath");
        cloned.map_err(|error| name_cgroup_in_error(error, self.placement.cgroup(), &asked))
    }

    fn set_up(&mut self, child: &Child, link: &Link) -> Result<(), Error> {
        let request = self.request;
        let (plan, proc) = (request.plan, &request.host.proc);
        self.begin(child.pid)?;
        if placement::move_init_into_scope(request, self.record, &mut self.placement, child.pid)? {
            link.send(&Message::CgroupJoined)?;
        }
        if plan.route.cloner == CloningProcess::Child {
            link.expect(|message| matches!(message, Message::Entered).then_some(()))?;
        }
        prepare::set_up_user_namespace(plan, request.host, child, link)?;
        // Set the device rules now, while the child mounts.
        timeline::begin_step(Phase::DeviceRules);
        self.notes
            .extend(placement::set_device_rules(request, &self.placement)?);
        network::give_devices(plan, proc, child.pid)?;
        if let Some(rdt) = &plan.rdt {
            rdt.join_group(child.pid)?;
        }
        prepare::map_inside(&plan.rootfs.mounts, proc, child, link)?;
        if plan.hooks.hold_up_create() {
            hooks_before_entry(request, link, child)?;
        }
        Ok(())
    }

    fn born(&mut self, process: &Child) -> Result<(), Error> {
        self.begin(process.pid)
    }

    /// Moves the process into the cgroup that an annotation names. Everything else that init needs
    /// was already done for the child.
    fn place(&mut self, process: &Child) -> Result<(), Error> {
        let plan = self.request.plan;
        match (&plan.delegated_cgroup, self.placement.cgroup()) {
            (Some(below), Some(cgroup)) => {
                let owner = plan.cgroup_owner.filter(|uid| *uid != super::owner());
                Ok(cgroup.move_below(below, process.pid, owner)?)
            }
            _ => Ok(()),
        }
    }

    fn tell_agent(
        &self,
        agent: Option<&Agent>,
        listener: OwnedFd,
        process: &Child,
    ) -> Result<(), Error> {
        let state = self.record.state("creating", process.pid);
        Agent::tell(agent, listener, process.pid, &state)
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(self.request.dir.finish_record(self.record)?)
    }
}

/// Waits for the mounts, runs the parent's hooks before the child enters its root, and then lets
/// the child continue.
fn hooks_before_entry(
    request: &CreateRequest<'_>,
    link: &Link,
    child: &Child,
) -> Result<(), Error> {
    link.expect(|message| matches!(message, Message::RootfsMounted).then_some(()))?;
    let outputs = request.plan.hooks.outputs.open()?;
    let scene = HookContext {
        outputs: Some(&outputs),
        about: request.about,
        pid: child.pid,
        env: None,
        cwd: Some(request.bundle),
        // Stop a hanging hook if the child is killed, because `delete --force` kills the child and
        // then waits for the lock that this process holds.
        only_while: Some(child.pidfd.as_fd()),
        interruptible: true,
    };
    let hooks = &request.plan.hooks;
    timeline::begin_step(Phase::ParentHooks);
    hooks::run_hooks(HookKind::Prestart, &hooks.prestart, scene)?;
    hooks::run_hooks(HookKind::CreateRuntime, &hooks.create_runtime, scene)?;
    link.send(&Message::HooksDone)
}
