//! The plan of a container. It holds every decision, made from config.json before any change to the
//! system.
//! This module doesn't change the system. Later modules don't read config.json, except for the
//! record in `state`.

pub(crate) mod caps;
pub(crate) mod description;
pub(crate) mod devices;
pub(crate) mod exec;
pub(crate) mod host;
pub(crate) mod ids;
pub(crate) mod mount_options;
pub(crate) mod namespaces;
pub(crate) mod process;
pub(crate) mod rootfs;
pub(crate) mod route;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod seccomp_arch;
mod words;

use std::ffi::CString;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use crate::annotations::{
    self, Annotations as _, DELEGATE_CGROUP, PIDFD_RECEIVER, SYSTEMD_SUBGROUP,
};
use crate::cgroup::{self, Driver, Limits};
use crate::diagnosis::Code;
use crate::error::{Findings, Violation};
use crate::hooks::Hooks;
use crate::intel_rdt::{self, RdtPlan};
use crate::invocation::{CgroupDriver, RootlessMode};
use crate::net_devices::{self, NetDevice};
use crate::origin::config;
use crate::spec::LoadedConfig;
use crate::spec::paths::has_parent_component;
use crate::sys::mount;
use caps::AvailableCapabilities;
use description::ProcessDescription;
use host::Host;
use namespaces::Namespaces;
use route::Route;

/// The decisions about a container and its first process.
pub(crate) struct Plan {
    pub(crate) namespaces: namespaces::Namespaces,
    /// How init gets into the namespaces.
    pub(crate) route: route::Route,
    /// The name of the session keyring to make; `None` with --no-new-keyring.
    pub(crate) keyring: Option<CString>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) rootfs: rootfs::Rootfs,
    /// Device nodes; empty if /dev is a bind mount or the host's devtmpfs.
    pub(crate) devices: Vec<devices::DeviceNode>,
    /// True if the child makes the symbolic links of /dev.
    pub(crate) device_links: bool,
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) rdt: Option<RdtPlan>,
    pub(crate) process: process::Process,
    /// The number of descriptors, from 3 up, that the container's process inherits.
    pub(crate) preserve_fds: u32,
    pub(crate) hooks: Hooks,
    /// The driver that makes the container's cgroup, with the path of the cgroup.
    pub(crate) driver: Driver,
    pub(crate) limits: Limits,
    /// Whether the container may run without a cgroup if the cgroup can't be made. `None` if
    /// config.json requires a cgroup.
    pub(crate) rootless: Option<RootlessMode>,
    /// True if the container gets a socket for sd_notify(3).
    pub(crate) notifies: bool,
    /// Warnings about ignored values.
    pub(crate) warnings: Vec<Violation>,
    /// The uid of the container's process on the host. `Some` if the process is to own the cgroup
    /// and may make cgroups below it.
    pub(crate) cgroup_owner: Option<u32>,
    /// The path, below the container's cgroup, of the cgroup in which the process starts.
    pub(crate) delegated_cgroup: Option<PathBuf>,
    /// The socket that gets a pidfd of the process, if no flag names another.
    pub(crate) pidfd_receiver: Option<PathBuf>,
}

/// One kernel parameter.
pub(crate) struct Sysctl {
    /// The key in config.json.
    pub(crate) key: String,
    /// The parameter's file, relative to the root of procfs.
    pub(crate) file: CString,
    pub(crate) value: String,
}

/// The values that the command line adds to config.json.
pub(crate) struct CreateOptions<'a> {
    pub(crate) id: &'a str,
    /// The bundle's absolute path.
    pub(crate) bundle: &'a Path,
    pub(crate) cgroup_driver: CgroupDriver,
    pub(crate) rootless: RootlessMode,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) passed: InheritedFds,
    /// The directory on the host with the container's socket for sd_notify(3). `None` if the caller
    /// doesn't listen.
    pub(crate) notify: Option<&'a Path>,
    /// True if the program starts at once. config.json must then have a process.
    pub(crate) runs: bool,
}

/// The caller's descriptors, from 3 up, that a process inherits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InheritedFds {
    /// The number of sockets announced in $LISTEN_FDS: sd_listen_fds(3).
    pub(crate) listen: u32,
    /// The number of other descriptors, which follow the sockets.
    pub(crate) preserve: u32,
}

impl InheritedFds {
    /// Returns the number of all inherited descriptors.
    pub(crate) fn count(self) -> u32 {
        self.listen + self.preserve
    }
}

/// The directory in the container with the socket for sd_notify(3).
const NOTIFY_DIRECTORY_IN_CONTAINER: &str = "/run/notify";

impl Plan {
    /// Plans a container and its first process. An error holds every violation.
    pub(crate) fn for_init(
        loaded: &LoadedConfig,
        host: &Host,
        options: &CreateOptions<'_>,
    ) -> Result<Plan, Vec<Violation>> {
        let mut findings = Findings::with_refused(loaded.violations.clone());
        match plan(&loaded.spec, host, options, &mut findings) {
            Some(mut plan) => {
                plan.warnings = findings.into_warnings()?;
                Ok(plan)
            }
            // A planner that returns `None` has refused something.
            None => Err(findings.into_warnings().err().unwrap_or_default()),
        }
    }

    /// Plans as `for_init` does, but always returns everything that was found: the plan if there is
    /// one, the refused values, and the warnings.
    pub(crate) fn examine(
        spec: &Spec,
        host: &Host,
        options: &CreateOptions<'_>,
    ) -> (Option<Plan>, Vec<Violation>, Vec<Violation>) {
        let mut findings = Findings::default();
        let plan = plan(spec, host, options, &mut findings);
        let (refused, warnings) = findings.into_parts();
        (plan, refused, warnings)
    }

    /// Returns the root file system's path on the host.
    pub(crate) fn root_path(&self) -> &Path {
        &self.rootfs.path
    }

    /// True if the parent attaches the root in the child's mount namespace, false if the child
    /// does. The child, as root of a user namespace, may lack the permission to search the root's
    /// path. If the caller isn't root, the parent has no more rights than the child.
    pub(crate) fn parent_attaches_root(&self) -> bool {
        self.namespaces.user.is_some()
            && !self.namespaces.unprivileged
            && self.rootfs.entry != rootfs::RootEntry::Chroot
    }

    /// Describes the step for errors: `mount the root file system at /r (config.json: root.path)`.
    pub(crate) fn attaching_root(&self) -> String {
        let path = self.root_path().display();
        config("root.path").asks_to(format!("mount the root file system at {path}"))
    }

    /// Describes the step for errors: `open the root file system /r (config.json: root.path)`.
    pub(crate) fn opening_root(&self) -> String {
        let path = self.root_path().display();
        config("root.path").asks_to(format!("open the root file system {path}"))
    }
}

/// Makes the plan. Returns `None` only if something is refused.
fn plan(
    spec: &Spec,
    host: &Host,
    options: &CreateOptions<'_>,
    findings: &mut Findings,
) -> Option<Plan> {
    let linux = spec.linux().as_ref();
    let namespaces = namespaces::plan(spec, host);
    if namespaces.unprivileged && namespaces.user.is_none() {
        let problem = format!(
            "requires a user namespace: the caller (uid {}) isn't root",
            host.euid
        );
        findings.refuse_as(Code::UserNamespaceNeeded, "linux.namespaces", problem);
    }
    // Don't mount the notify socket in a mount namespace that isn't new.
    let notify = options.notify.filter(|_| namespaces.has_new_mount());
    let options = &CreateOptions { notify, ..*options };
    annotations::check(spec.annotations(), findings);
    let hooks = Hooks::from_spec(spec);
    hooks.outputs.check(findings);
    let rootfs = rootfs::plan(spec, host, options, &namespaces, findings);
    let process = init(spec, host, options, &namespaces, findings);
    let net_devices = linux.map(|linux| net_devices::plan(linux, namespaces.unprivileged));
    let net_devices = net_devices.map(|planned| findings.take_planned(planned));
    let rdt = linux.map(|linux| intel_rdt::plan_rdt(linux, options.id));
    let rdt = rdt.map(|planned| findings.take_planned(planned));
    let cgroup = cgroup::plan_driver(options.cgroup_driver, spec, options.id, &host.own_cgroup);
    let (mut limits, driver) = findings.take_planned(cgroup)?;
    let delegated_cgroup = delegated_cgroup(spec, &driver, findings);
    subgroup(spec, &driver, findings);
    findings.warn_all(std::mem::take(&mut limits.warnings));
    let (rootfs, process) = (rootfs?, process?);
    let own_dev = rootfs.entry != rootfs::RootEntry::Chroot && !rootfs.has_foreign_dev();
    let asks = cgroup::requires_cgroup(spec, &limits);
    Some(Plan {
        cgroup_owner: cgroup_owner(&namespaces, &rootfs, &process),
        route: Route::for_init(&namespaces, host, driver.moves_init()),
        namespaces,
        keyring: (!options.no_new_keyring)
            .then(|| keyring_name(options.id))
            .flatten(),
        hostname: non_empty_name(spec.hostname().as_ref()),
        domainname: non_empty_name(spec.domainname().as_ref()),
        rootfs,
        devices: if own_dev {
            devices::plan(spec)
        } else {
            Vec::new()
        },
        device_links: own_dev,
        sysctls: sysctls(spec),
        net_devices: net_devices.flatten().unwrap_or_default(),
        rdt: rdt.flatten().flatten(),
        process,
        preserve_fds: options.passed.count(),
        hooks,
        delegated_cgroup,
        pidfd_receiver: pidfd_receiver(spec),
        rootless: (!asks).then_some(options.rootless),
        driver,
        limits,
        notifies: options.notify.is_some(),
        warnings: Vec::new(),
    })
}

/// Returns the path, below the container's cgroup, of the cgroup that an annotation names.
fn delegated_cgroup(spec: &Spec, driver: &Driver, findings: &mut Findings) -> Option<PathBuf> {
    let path = Path::new(spec.annotations().text(DELEGATE_CGROUP)?);
    let problem = if driver.is_disabled() {
        "the container has no cgroup (--cgroup-manager disabled)"
    } else if has_parent_component(path) {
        "must not contain \"..\""
    } else {
        return path.strip_prefix("/").unwrap_or(path).to_owned().into();
    };
    let place = annotations::place(DELEGATE_CGROUP);
    findings.refuse_as(Code::InvalidAnnotation, place, problem);
    None
}

/// Refuses the annotation that asks for a cgroup between the scope and the process. Only warns if
/// no scope is used.
fn subgroup(spec: &Spec, driver: &Driver, findings: &mut Findings) {
    let annotations = spec.annotations();
    let Some(name) = annotations.text(SYSTEMD_SUBGROUP) else {
        return;
    };
    let place = annotations::place(SYSTEMD_SUBGROUP);
    if driver.moves_init() {
        let problem = format!("{name:?} is not supported: the process is in the scope itself");
        findings.refuse_as(Code::InvalidAnnotation, place, problem);
    } else {
        findings.warn(place, "is ignored without systemd");
    }
}

fn pidfd_receiver(spec: &Spec) -> Option<PathBuf> {
    spec.annotations().text(PIDFD_RECEIVER).map(PathBuf::from)
}

/// Plans the first process. Returns `None` only if something is refused.
fn init(
    spec: &Spec,
    host: &Host,
    options: &CreateOptions<'_>,
    namespaces: &Namespaces,
    findings: &mut Findings,
) -> Option<process::Process> {
    if options.runs && spec.process().is_none() {
        let problem = "is missing; run has nothing to run";
        findings.refuse_as(Code::MissingField, "process", problem);
    }
    let mut description = ProcessDescription::for_init(spec.process().as_ref());
    description.listen_fds = options.passed.listen;
    description.notify = options.notify.map(|_| NOTIFY_DIRECTORY_IN_CONTAINER);
    let available = match namespaces.user {
        Some(_) => AvailableCapabilities::ALL,
        None => host.caps,
    };
    let process = process::Process {
        // process.execCPUAffinity applies only to exec processes.
        affinity: None,
        ..process::plan(&description, spec, available, findings)?
    };
    let listens = process
        .seccomp
        .as_ref()
        .is_some_and(|filter| filter.listener.is_some());
    if listens && namespaces.is_born_last() && !process.is_cloned_filtered() {
        let problem = "SCMP_ACT_NOTIFY with a pid namespace that is joined requires a profile that allows clone and the other calls that start a process";
        findings.refuse("linux.seccomp", problem);
    }
    Some(process)
}

/// Returns `_ses.ID`. Tools look for this name, which comes from runc.
pub(crate) fn keyring_name(id: &str) -> Option<CString> {
    CString::new(format!("_ses.{id}")).ok()
}

/// Returns the uid of the future owner of the cgroup. As in runc, the container may make cgroups if
/// it has its own cgroup namespace and a writable cgroup mount. A caller who isn't root can't
/// change the owner.
fn cgroup_owner(
    namespaces: &Namespaces,
    rootfs: &rootfs::Rootfs,
    process: &process::Process,
) -> Option<u32> {
    let is_writable = |op: &rootfs::MountOp| {
        matches!(&op.source, rootfs::MountSource::Filesystem(made) if made.kind.as_c_str() == c"cgroup2")
            && (op.top.set | op.recursive.set) & mount::RDONLY == 0
    };
    if namespaces.unprivileged
        || !namespaces.new.contains(CloneFlags::CLONE_NEWCGROUP)
        || !rootfs.mounts.iter().any(is_writable)
    {
        return None;
    }
    match &namespaces.user {
        Some(user) => ids::outside_id(&user.mappings()?.uids, process.uid),
        None => Some(process.uid),
    }
}

/// Returns the name unless it is empty. Engines write an empty name to mean no name, but the kernel
/// would set it.
fn non_empty_name(name: Option<&String>) -> Option<String> {
    name.filter(|name| !name.is_empty()).cloned()
}

fn sysctls(spec: &Spec) -> Vec<Sysctl> {
    let configured = spec.linux().as_ref().and_then(|l| l.sysctl().as_ref());
    let mut sysctls: Vec<Sysctl> = configured
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let file =
                CString::new(format!("sys/{}", crate::spec::sysctl::path(key).ok()?)).ok()?;
            Some(Sysctl {
                key: key.clone(),
                file,
                value: value.clone(),
            })
        })
        .collect();
    sysctls.sort_by(|a, b| a.key.cmp(&b.key));
    sysctls
}
