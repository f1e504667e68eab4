//! The commands `create` and `run`. `run` also starts the container.
//! `launch` carries out the create. This file does the steps before and after it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::terminal::{ProcessEndpoints, wait_in_foreground};
use super::{Error, delete, hooks, log_warnings};
use crate::cgroup::{DeviceProgram, Limits};
use crate::child;
use crate::diagnosis::{Code, Diagnosis};
use crate::invocation::{CreateArgs, Globals, RestoreArgs, RootOrigin, RunArgs};
use crate::launch::notify::{self, NotifyRelay};
use crate::launch::restore::Dumped;
use crate::launch::signals::{self, Signals};
use crate::launch::trace::Trace;
use crate::launch::{self, Launched, descriptors, foreground};
use crate::log::Log;
use crate::plan::host::Host;
use crate::plan::rootfs::RootEntry;
use crate::plan::seccomp::SeccompFilter;
use crate::plan::{CreateOptions, InheritedFds, Plan};
use crate::protocol::Inherited;
use crate::spec;
use crate::spec::paths::has_parent_component;
use crate::state::record::{self, Record};
use crate::state::{Dir, Lock, Root};
use crate::timeline::{self, Phase};

/// Carries out `create`: sets everything up. Init then waits for `start`.
pub(crate) fn create(globals: &Globals, args: &CreateArgs, log: &Log) -> Result<i32, Error> {
    create_container(globals, args, StartMode::Create, None, log)?;
    Ok(0)
}

/// Carries out `run`. Returns the exit code of the container's process, or 0 if the container is
/// detached.
pub(crate) fn run(globals: &Globals, args: &RunArgs, log: &Log) -> Result<i32, Error> {
    if args.detach {
        let created = create_container(globals, &args.create, StartMode::Detached, None, log)?;
        created.run_poststart(log)?;
        if let Some(notify) = created.notify {
            signals::unblock()?;
            let child = created.launched.child;
            notify.wait(child.pid.unsigned_abs(), child.pidfd.as_fd(), log);
        }
        return Ok(0);
    }
    let subreaper = !args.no_subreaper;
    if subreaper {
        foreground::become_subreaper()?;
    }
    let created = create_container(globals, &args.create, StartMode::Foreground, None, log)?;
    created.run_poststart(log)?;
    // Return an error of this wait only at the end, because the container must be removed first
    // unless --keep is given.
    let (launched, terminal) = (created.launched, created.terminal);
    let exit = Signals::new().map_err(Error::from).and_then(|signals| {
        let notify = created.notify.as_ref();
        wait_in_foreground(launched, terminal, &signals, subreaper, notify)
    });
    if let Ok(SIGKILL_EXIT_CODE) = exit
        && let Some(reason) = created
            .dir
            .open_cgroup(Some(&created.record))
            .ok()
            .flatten()
            .and_then(|cgroup| launch::killed_for_memory(&cgroup, &created.limits))
    {
        // The exit code alone wouldn't tell the caller that memory ran out.
        let msg = format!("a process of the container was killed: {reason}");
        log.error(&msg, &Diagnosis::new(Code::KilledForMemory));
    }
    if !args.keep {
        let log = log.with_warnings();
        delete::remove_stopped(&created.root, &created.dir, &created.record, &log)?;
    }
    exit
}

/// The exit code of a process that was killed by SIGKILL.
const SIGKILL_EXIT_CODE: i32 = 128 + 9;

/// How a new container runs, and whether this program waits for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StartMode {
    /// The container waits for `start`.
    Create,
    /// The container runs, and this program exits.
    Detached,
    /// The container runs, and this program waits until it stops.
    Foreground,
}

impl StartMode {
    /// Returns the name of the command, for the title of a trace.
    fn command(self) -> &'static str {
        match self {
            StartMode::Create => "create",
            StartMode::Detached | StartMode::Foreground => "run",
        }
    }
}

/// A created container. It runs unless it waits for `start`.
pub(super) struct CreatedContainer {
    pub(super) root: Root,
    pub(super) dir: Dir,
    pub(super) record: Record,
    pub(super) launched: Launched,
    /// The caller's terminal, if the container's terminal is relayed to it.
    pub(super) terminal: Option<OwnedFd>,
    notify: Option<NotifyRelay>,
    limits: Limits,
}

impl CreatedContainer {
    fn run_poststart(&self, log: &Log) -> Result<(), Error> {
        hooks::run_poststart(&self.root, &self.dir, &self.record, log)
    }
}

/// A planned container. It doesn't keep the spec, because a smaller heap makes the clone cheaper.
struct PlannedContainer {
    bundle: PathBuf,
    host: Host,
    plan: Plan,
    record: Record,
}

fn plan_container(
    globals: &Globals,
    args: &CreateArgs,
    mode: StartMode,
    restored: bool,
    log: &Log,
) -> Result<PlannedContainer, Error> {
    let id = args.id.as_str();
    let passed = InheritedFds {
        listen: descriptors::take(args.preserve_fds)?,
        preserve: args.preserve_fds,
    };
    signals::block()?;
    let bundle = resolve_bundle(&args.bundle);
    let config = args.config.as_ref().map(|file| bundle.join(file));
    let config_file = config.clone().unwrap_or_else(|| bundle.join(spec::FILE));
    timeline::begin_step(Phase::Config);
    let loaded = spec::load_config(&config_file)?;
    timeline::begin_step(Phase::Plan);
    log_warnings(&loaded.warnings, log);
    let host = Host::read_host()?;
    // A restored process already reported that it was ready, before its checkpoint was made.
    let notifies = !restored && notify::caller_listens();
    let notify_directory = notifies.then(|| globals.root.join(id).join("notify"));
    let options = CreateOptions {
        id,
        bundle: &bundle,
        cgroup_driver: globals.cgroup_driver,
        rootless: globals.rootless,
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        passed,
        notify: notify_directory.as_deref(),
        runs: mode != StartMode::Create,
    };
    let plan = Plan::for_init(&loaded, &host, &options).map_err(spec::Error::Violations)?;
    log_plan(&plan, &host, log);
    let record = new_record(&options, config, &plan, &loaded.spec, &host);
    Ok(PlannedContainer {
        bundle,
        host,
        plan,
        record,
    })
}

/// Creates a container. If `restore` is given, the container's processes are restored from a dump.
pub(super) fn create_container(
    globals: &Globals,
    args: &CreateArgs,
    mode: StartMode,
    restore: Option<&RestoreArgs>,
    log: &Log,
) -> Result<CreatedContainer, Error> {
    let PlannedContainer {
        bundle,
        host,
        plan,
        mut record,
    } = plan_container(globals, args, mode, restore.is_some(), log)?;
    let dumped = restore.map(|restore| open_dump(&plan, &host, restore, log));
    let dumped = dumped.transpose()?;
    let id = args.id.as_str();
    let trace = Trace::open(args.timeline.as_deref(), mode.command(), id)?;
    timeline::begin_step(Phase::Record);
    let endpoints = ProcessEndpoints::open(
        plan.process.terminal.is_some(),
        // A created container is always detached.
        mode != StartMode::Foreground,
        args.console_socket.as_deref(),
        args.pidfd_socket
            .as_deref()
            .or(plan.pidfd_receiver.as_deref()),
    )?;
    let sticky = globals.root_origin == RootOrigin::RuntimeDir;
    let root = Root::open_or_make(&globals.root, sticky)?;
    let ignored_signals = signals::ignored(&host.proc)?;
    let cgroup = plan.driver.planned_path();
    let cgroup = cgroup.map(|below| host.cgroup_dir(below));
    let (dir, lock) = root.create(id, cgroup.as_deref())?;
    let about = hooks::state_template(&record);
    let request = launch::init::CreateRequest {
        plan: &plan,
        host: &host,
        dir: &dir,
        about: &about,
        bundle: &bundle,
        console_socket: endpoints.console_socket.as_ref(),
        own_terminal: endpoints.terminal.as_ref(),
        pidfd_socket: endpoints.pidfd_socket.as_ref(),
        pid_file: args.pid_file.as_deref(),
        waits_for_start: mode == StartMode::Create,
    };
    let clone_child =
        |inherited: Inherited| child::become_init(&plan, &about, &ignored_signals, inherited);
    let created = open_notify_socket(&plan, &dir, mode, log).and_then(|notify| {
        let launched = match &dumped {
            None => launch::init::create(&request, &mut record, clone_child)?,
            Some(dumped) => launch::restore::restore(&request, &mut record, dumped)?,
        };
        Ok((notify, launched))
    });
    if let Some(trace) = trace {
        let process = created
            .as_ref()
            .ok()
            .map(|(_, launched)| launched.child.pid);
        let process = process.map(|pid| (&host.proc, pid));
        trace.write(process, &plan.rootfs.mounts, log);
    }
    match created {
        Ok((notify, launched)) => {
            launched.notes.iter().for_each(|note| log.debug(note));
            drop(lock);
            Ok(CreatedContainer {
                root,
                dir,
                record,
                launched,
                terminal: endpoints.terminal,
                notify,
                limits: plan.limits,
            })
        }
        Err(error) => {
            remove_failed_create(&root, &dir, lock, &record, log);
            Err(error)
        }
    }
}

/// Finds CRIU and opens the dump.
fn open_dump<'a>(
    plan: &Plan,
    host: &Host,
    restore: &'a RestoreArgs,
    log: &Log,
) -> Result<Dumped<'a>, Error> {
    let dumped = Dumped::open(plan, host, restore)?;
    log.debug(&dumped.criu());
    Ok(dumped)
}

fn log_plan(plan: &Plan, host: &Host, log: &Log) {
    let hybrid = if host.hierarchy.hybrid {
        " of a hybrid host"
    } else {
        ""
    };
    let mount = host.hierarchy.mount.display();
    log.debug(&format!("cgroup v2 at {mount}{hybrid}"));
    log_warnings(&plan.warnings, log);
    log_filter(plan.process.seccomp.as_ref(), log);
    let namespaces = &plan.namespaces;
    log.debug(&format!("route: {}; {namespaces:?}", plan.route));
    if plan.driver.is_disabled() {
        log.debug("linux.resources.devices is not applied: there is no cgroup");
    }
}

/// Logs the filter. Its warnings are logged at debug level only, because engines' profiles name
/// system calls of all architectures and kernels, so unknown names are normal.
pub(super) fn log_filter(filter: Option<&SeccompFilter>, log: &Log) {
    if let Some(filter) = filter {
        let (length, flags) = (filter.program.len(), filter.flags);
        log.debug(&format!("seccomp: {length} instructions, flags {flags:#x}"));
        filter
            .warnings
            .iter()
            .for_each(|ignored| log.debug(&ignored.to_string()));
    }
}

/// Makes the record of a container that has no process yet.
fn new_record(
    options: &CreateOptions<'_>,
    config: Option<PathBuf>,
    plan: &Plan,
    spec: &Spec,
    host: &Host,
) -> Record {
    Record {
        version: record::RECORD_VERSION,
        id: options.id.into(),
        bundle: options.bundle.to_owned(),
        config,
        rootfs: plan.root_path().to_owned(),
        created: crate::time::rfc3339_nano(std::time::SystemTime::now()),
        owner: launch::owner(),
        annotations: spec
            .annotations()
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        creating: true,
        pid: None,
        start_time: None,
        boot_id: host.boot_id.clone(),
        chroot: plan.rootfs.entry == RootEntry::Chroot || plan.rootfs.detached_root,
        own_pids: plan.namespaces.has_new_pid(),
        keyring: plan.keyring.is_some(),
        cgroup: plan.driver.clone(),
        cgroup_id: None,
        mount_label: plan
            .rootfs
            .label
            .as_ref()
            .map(|label| label.to_string_lossy().into_owned()),
        added_mounts: Vec::new(),
        without_process: !plan.process.has_program(),
        rdt: plan.rdt.as_ref().map(|rdt| rdt.groups.clone()),
        device_rules: DeviceProgram::digest_of(plan.limits.devices.as_ref()),
        poststart: plan.hooks.poststart.clone(),
        poststop: plan.hooks.poststop.clone(),
    }
}

/// Removes the state left by a failed create. The caller reports the error of the create. If the
/// cgroup or the resctrl groups could not be removed, the state stays, so that `delete` can find
/// them.
fn remove_failed_create(root: &Root, dir: &Dir, lock: Lock, record: &Record, log: &Log) {
    let groups_are_gone = record
        .rdt
        .as_ref()
        .is_none_or(|groups| groups.remove_dirs().is_ok());
    let cgroup_is_gone = matches!(dir.open_cgroup(Some(record)), Ok(None));
    // No hook runs before the container has a process. Without one, poststop has nothing to undo.
    let begun = Some(record).filter(|record| record.pid.is_some());
    let unlocked = hooks::run_poststop(begun, dir, lock, log);
    if let Ok(Some(_lock)) = unlocked
        && groups_are_gone
        && cgroup_is_gone
    {
        let _ = root.remove_container_dir(dir);
    }
}

/// Makes the directory of the notify socket, and the socket too if no `start` will follow.
fn open_notify_socket(
    plan: &Plan,
    dir: &Dir,
    mode: StartMode,
    log: &Log,
) -> Result<Option<NotifyRelay>, Error> {
    if !plan.notifies {
        return Ok(None);
    }
    notify::prepare(dir)?;
    match mode {
        StartMode::Create => Ok(None),
        StartMode::Detached | StartMode::Foreground => Ok(NotifyRelay::open(dir, log)?),
    }
}

/// Returns the bundle's path for the record. A path with `..` is resolved, as in runc.
fn resolve_bundle(bundle: &Path) -> PathBuf {
    let physical = has_parent_component(bundle).then(|| bundle.canonicalize().ok());
    physical.flatten().unwrap_or_else(|| bundle.to_owned())
}
