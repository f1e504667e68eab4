//! `create`, and `run`, which starts what it creates.
//! The order of a create is `launch`'s; here is what comes before and after it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;

use super::{Error, delete, hooks};
use crate::cgroup::{self, Driver, Limits, Program};
use crate::child;
use crate::error::Violation;
use crate::invocation::{CgroupDriver, Create, Globals, RootOrigin, Run};
use crate::launch::notify::{self, Notify};
use crate::launch::signals::{self, Signals};
use crate::launch::{self, Launched, descriptors, foreground, terminal};
use crate::log::Log;
use crate::plan::host::Host;
use crate::plan::rootfs::Entry;
use crate::plan::seccomp::Filter;
use crate::plan::{Options, Plan};
use crate::protocol::Inherited;
use crate::spec;
use crate::state::record::{New, Record};
use crate::state::{Dir, Lock, Root};

/// `create`: all is set up, and init waits for `start`.
pub(crate) fn create(globals: &Globals, args: &Create, log: &Log) -> Result<i32, Error> {
    bring_up(globals, args, Kind::Create, log)?;
    Ok(0)
}

/// `run`: answers with the exit code of the container's process, or 0 if it was detached.
pub(crate) fn run(globals: &Globals, args: &Run, log: &Log) -> Result<i32, Error> {
    if args.detach {
        let up = bring_up(globals, &args.create, Kind::Detached, log)?;
        hooks::poststart(&up.root, &up.dir, up.lock, &up.record, log)?;
        if let Some(notify) = up.notify {
            signals::unblock()?;
            let child = up.launched.child;
            notify.wait(child.pid.unsigned_abs(), child.pidfd.as_fd(), log);
        }
        return Ok(0);
    }
    let subreaper = !args.no_subreaper;
    if subreaper {
        foreground::become_subreaper()?;
    }
    let up = bring_up(globals, &args.create, Kind::Foreground, log)?;
    hooks::poststart(&up.root, &up.dir, up.lock, &up.record, log)?;
    // Whatever fails from here on, the container goes with this process.
    let exit = Signals::new().map_err(Error::from).and_then(|signals| {
        let notify = up.notify.as_ref();
        attend(up.launched, up.terminal, &signals, subreaper, notify)
    });
    if let Ok(KILLED) = exit
        && let Some(reason) = super::cgroup_of(&up.dir, Some(&up.record))?
            .and_then(|cgroup| launch::killed_for_memory(&cgroup, &up.limits))
    {
        // Its exit code alone would leave the caller to guess.
        log.error(&format!("a process of the container was killed: {reason}"));
    }
    if !args.keep {
        delete::remove(&up.root, &up.dir, &up.record, &log.with_warnings())?;
    }
    exit
}

/// The exit code of a process that was killed by SIGKILL.
const KILLED: i32 = 128 + 9;
/// How long a reader of our stdout may let the last output wait.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Stays with a process until it ends; answers with its exit code.
pub(super) fn attend(
    launched: Launched,
    own: Option<OwnedFd>,
    signals: &Signals,
    subreaper: bool,
    notify: Option<&Notify>,
) -> Result<i32, Error> {
    let Launched {
        child,
        master,
        notes: _,
    } = launched;
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let console = match (master, &own) {
        (Some(master), Some(own)) => Some(foreground::Console {
            master,
            terminal: own.as_fd(),
            input: stdin.as_fd(),
            output: stdout.as_fd(),
        }),
        _ => None,
    };
    Ok(foreground::attend(
        &child,
        console,
        signals,
        foreground::Options {
            notify,
            subreaper,
            patience: PATIENCE,
        },
    )?
    .code())
}

/// How a container is brought up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    Detached,
    Foreground,
}

/// A container that is created, or runs.
struct Up {
    root: Root,
    dir: Dir,
    lock: Lock,
    record: Record,
    launched: Launched,
    /// The caller's terminal, if the container's is relayed to it.
    terminal: Option<OwnedFd>,
    notify: Option<Notify>,
    limits: Limits,
}

fn bring_up(globals: &Globals, args: &Create, kind: Kind, log: &Log) -> Result<Up, Error> {
    let id = args.id.as_str();
    let listen_fds = descriptors::take(args.preserve_fds)?;
    signals::block()?;
    let bundle = physical(&args.bundle);
    let config = args.config.as_ref().map(|file| bundle.join(file));
    let spec = load(
        config.as_deref().unwrap_or(&bundle.join(spec::FILE)),
        kind,
        log,
    )?;
    let host = probe(log)?;
    let options = Options {
        id,
        bundle: &bundle,
        waits_for_cgroup: globals.cgroup_driver == CgroupDriver::Systemd,
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        listen_fds,
        preserve_fds: args.preserve_fds,
    };
    let known = spec.violations;
    let mut violations = Vec::new();
    let mut spec = spec.spec;
    let notifies = notify::is_wanted(&spec);
    if notifies {
        notify::announce(&mut spec, &globals.root.join(id));
    }
    let plan = Plan::for_init(&spec, &host, &options).map_err(|found| violations.extend(found));
    let cgroup = cgroup::plan(globals.cgroup_driver, &spec, id, &host.own_cgroup)
        .map_err(|found| violations.extend(found));
    let (Ok(plan), Ok((limits, driver)), true) = (plan, cgroup, known.is_empty()) else {
        spec::Error::if_any(merged(known, violations))?;
        return Err(Error::NothingWrong);
    };
    log_warnings(&limits, &plan, log);
    let asks = cgroup::is_asked_for(&spec, &limits);
    let rootless = (!asks).then_some(globals.rootless);
    log_filter(plan.process.seccomp.as_ref(), log);
    // A created container is detached by its nature.
    let detached = kind != Kind::Foreground;
    log_namespaces(&plan, log);
    let terminal = Consoles::open(
        plan.process.terminal.is_some(),
        detached,
        args.console_socket.as_deref(),
        args.pidfd_socket.as_deref(),
    )?;
    let sticky = globals.root_origin == RootOrigin::RuntimeDir;
    let root = Root::open_or_make(&globals.root, sticky)?;
    let ignored_signals = signals::ignored(&host.proc)?;
    let claim = driver.planned_path().map(|below| host.cgroup_dir(below));
    if driver.is_disabled() {
        log.debug("linux.resources.devices is not applied: there is no cgroup");
    }
    let (dir, lock) = root.create(id, claim.as_deref())?;
    let mut record = new_record(config, &options, &plan, &spec, &host, &driver, &limits);
    let about = hooks::about(&record);
    // Nobody reads the spec from here on; a small heap makes the clone cheaper.
    drop(spec);
    let notify = match notifies.then(|| open_notify(&dir, kind, log)).transpose() {
        Ok(notify) => notify.flatten(),
        Err(error) => {
            give_up(&root, &dir, lock, &record, log);
            return Err(error);
        }
    };
    let request = launch::init::Request {
        plan: &plan,
        host: &host,
        limits: &limits,
        driver: &driver,
        rootless,
        dir: &dir,
        about: &about,
        bundle: &bundle,
        console_socket: terminal.console_socket.as_ref(),
        own_terminal: terminal.own.as_ref(),
        pidfd_socket: terminal.pidfd_socket.as_ref(),
        pid_file: args.pid_file.as_deref(),
        waits_for_start: kind == Kind::Create,
    };
    let clone_child =
        |inherited: Inherited| child::init(&plan, &about, &ignored_signals, inherited);
    match launch::init::create(&request, &mut record, clone_child) {
        Ok(launched) => {
            launched.notes.iter().for_each(|note| log.debug(note));
            Ok(Up {
                root,
                dir,
                lock,
                record,
                launched,
                terminal: terminal.own,
                notify,
                limits,
            })
        }
        Err(error) => {
            give_up(&root, &dir, lock, &record, log);
            Err(error.into())
        }
    }
}

fn probe(log: &Log) -> Result<Host, Error> {
    let host = Host::probe()?;
    log.debug(&format!(
        "cgroup v2 at {}{}",
        host.hierarchy.mount.display(),
        if host.hierarchy.hybrid {
            " of a hybrid host"
        } else {
            ""
        }
    ));
    Ok(host)
}

/// Reads the configuration, which only a create may leave without a process.
fn load(config: &Path, kind: Kind, log: &Log) -> Result<spec::Loaded, Error> {
    let mut loaded = spec::load(config)?;
    loaded.warnings.iter().for_each(|warning| log.warn(warning));
    if kind != Kind::Create && loaded.spec.process().is_none() {
        let problem = "is missing; run has nothing to run";
        loaded.violations.push(Violation::new("process", problem));
    }
    Ok(loaded)
}

/// What is kept of a container, before it has a process.
fn new_record(
    config: Option<PathBuf>,
    options: &Options<'_>,
    plan: &Plan,
    spec: &Spec,
    host: &Host,
    driver: &Driver,
    limits: &Limits,
) -> Record {
    Record::new(New {
        id: options.id.into(),
        bundle: options.bundle.to_owned(),
        config,
        rootfs: plan.root_path().to_owned(),
        created: crate::time::rfc3339_nano(std::time::SystemTime::now()),
        owner: crate::launch::owner(),
        annotations: spec
            .annotations()
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        boot_id: host.boot_id.clone(),
        chroot: plan.rootfs.entry == Entry::Chroot || plan.rootfs.apart,
        own_pids: plan.namespaces.has_new_pid(),
        keyring: plan.keyring.is_some(),
        cgroup: driver.clone(),
        without_process: !plan.process.has_program(),
        rdt: plan.rdt.as_ref().map(|rdt| rdt.groups.clone()),
        device_rules: Program::digest(limits.devices.as_ref()),
        poststart: plan.hooks.poststart.clone(),
        poststop: plan.hooks.poststop.clone(),
    })
}

/// Removes what a create that failed has left: the state. Its error is the one to tell; what can't be removed now is what
/// delete --force is for.
fn give_up(root: &Root, dir: &Dir, lock: Lock, record: &Record, log: &Log) {
    if let Some(groups) = &record.rdt {
        let _ = groups.remove();
    }
    // Without a process no hook has run that poststop could undo.
    let begun = Some(record).filter(|record| record.pid.is_some());
    if let Ok(Some(_lock)) = hooks::poststop(begun, dir, lock, log) {
        let _ = root.remove(&record.id, dir);
    }
}

fn log_warnings(limits: &Limits, plan: &Plan, log: &Log) {
    let ignored = limits.warnings.iter().map(ToString::to_string);
    let of_rootfs = plan.rootfs.warnings.iter().cloned();
    let of_process = plan.process.warnings.iter().cloned();
    let warnings = ignored.chain(of_rootfs).chain(of_process);
    warnings.for_each(|warning| log.warn(&warning));
}

fn log_namespaces(plan: &Plan, log: &Log) {
    let namespaces = &plan.namespaces;
    log.debug(&format!("route: {}; {namespaces:?}", plan.route));
}

/// Engines' profiles name calls of all architectures and kernels: what a machine doesn't know of them is no warning.
pub(super) fn log_filter(filter: Option<&Filter>, log: &Log) {
    if let Some(filter) = filter {
        let (length, flags) = (filter.program.len(), filter.flags);
        log.debug(&format!("seccomp: {length} instructions, flags {flags:#x}"));
        filter
            .warnings
            .iter()
            .for_each(|ignored| log.debug(ignored));
    }
}

/// The violations of all who looked at a config, each place told once: what a planner says of one that the rules of the file
/// already name is a consequence.
fn merged(mut known: Vec<Violation>, mut planned: Vec<Violation>) -> Vec<Violation> {
    let consequence = |planned: &Violation| {
        let field = planned.origin.config_field().unwrap_or_default();
        let mut fields = known.iter().filter_map(|one| one.origin.config_field());
        fields.any(|known| known.starts_with(field))
    };
    planned.retain(|violation| !consequence(violation));
    known.append(&mut planned);
    known
}

/// The directory of the notify socket; and, where nobody will say `start`, the socket.
fn open_notify(dir: &Dir, kind: Kind, log: &Log) -> Result<Option<Notify>, Error> {
    notify::prepare(dir)?;
    match kind {
        Kind::Create => Ok(None),
        Kind::Detached | Kind::Foreground => Ok(Notify::open(dir, log)?),
    }
}

/// A bundle whose path goes up is recorded by where it is, as in runc.
fn physical(bundle: &Path) -> PathBuf {
    let goes_up = bundle.components().any(|part| part == Component::ParentDir);
    let physical = if goes_up {
        bundle.canonicalize().ok()
    } else {
        None
    };
    physical.unwrap_or_else(|| bundle.to_owned())
}

/// What is on the other side of a container's terminal, opened before anything is started.
pub(super) struct Consoles {
    pub(super) console_socket: Option<OwnedFd>,
    pub(super) pidfd_socket: Option<OwnedFd>,
    pub(super) own: Option<OwnedFd>,
}

impl Consoles {
    /// Connects the sockets that are named, after the rules for them.
    pub(super) fn open(
        terminal: bool,
        detached: bool,
        console_socket: Option<&Path>,
        pidfd_socket: Option<&Path>,
    ) -> Result<Consoles, Error> {
        let master = terminal::master(terminal, detached, console_socket.is_some())?;
        let own = if master == terminal::Master::Relayed {
            Some(terminal::own_terminal()?)
        } else {
            None
        };
        Ok(Consoles {
            console_socket: console_socket.map(terminal::connect_console).transpose()?,
            pidfd_socket: pidfd_socket.map(terminal::connect_pidfd).transpose()?,
            own,
        })
    }
}
