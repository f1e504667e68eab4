//! Plans a process of a container: its program, its identity and its limits.
//! Init and exec processes share this plan. Other modules plan the namespaces and the root.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

use oci_spec::runtime::{LinuxPersonalityDomain, PosixRlimit, Process as Configured, Spec};

use super::description::{ProcessDescription, WithOrigin};
use super::scheduling::{self, CpuAffinity, IoPriority, MemoryPolicy};
use super::{caps, seccomp, words};
use crate::annotations::{Annotations as _, KEEP_ORIGINAL_GROUPS};
use crate::diagnosis::Code;
use crate::error::Findings;
use crate::lsm::{self, Labels};
use crate::origin::Origin;
use crate::sys::process::{
    CStringArray, PER_LINUX, PER_LINUX32, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NOFILE, RLIMIT_NPROC,
    Rlimit, find_rlimit,
};
use crate::sys::sched::Scheduler;
use crate::sys::tty::Size;

/// The process that the child becomes.
pub(crate) struct Process {
    /// Empty if config.json has no process. Init then waits for `start` and exits.
    pub(crate) argv: CStringArray,
    pub(crate) env: CStringArray,
    /// True if HOME comes from the container's /etc/passwd.
    pub(crate) wants_home: bool,
    /// The files to try for `argv[0]`, in the order of PATH. Only one file if `argv[0]` has a
    /// slash.
    pub(crate) candidates: Vec<CString>,
    pub(crate) cwd: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// True to keep the caller's supplementary groups instead of setting `groups`.
    pub(crate) keeps_groups: bool,
    pub(crate) umask: u32,
    pub(crate) caps: caps::CapabilitySets,
    pub(crate) no_new_privs: bool,
    /// The seccomp filter.
    pub(crate) seccomp: Option<seccomp::SeccompFilter>,
    /// The resource limits, in the order of process.rlimits.
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) io_priority: Option<IoPriority>,
    /// The CPU affinity. Set only for an exec process.
    pub(crate) affinity: Option<CpuAffinity>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// A `PER_` number.
    pub(crate) personality: Option<u32>,
    /// Set if the process gets a terminal.
    pub(crate) terminal: Option<Terminal>,
    pub(crate) labels: Labels,
    pub(crate) origins: ProcessOrigins,
}

/// The origins of values, for error messages.
pub(crate) struct ProcessOrigins {
    pub(crate) cwd: Origin,
    pub(crate) uid: Origin,
    pub(crate) gid: Origin,
    pub(crate) groups: Origin,
    /// The origin of the whole list. Messages add an index.
    pub(crate) rlimits: Origin,
    pub(crate) apparmor: Origin,
    pub(crate) selinux: Origin,
}

impl Process {
    /// Returns the name, for messages, of the step that sets a resource limit.
    pub(crate) fn describe_limit(&self, index: usize, limit: &Rlimit) -> String {
        let (soft, hard, name) = (limit.soft, limit.hard, limit.name());
        let list = &self.origins.rlimits;
        format!("set {name} to {soft} and {hard} ({list}[{index}])")
    }

    /// True if the filter is set before the process is cloned. This applies if other processes can
    /// see the process from its birth.
    ///
    /// With no_new_privs, the process sets the filter itself as the last step, without any
    /// capability. Without no_new_privs, it would need CAP_SYS_ADMIN to do this, and the other
    /// processes could use that capability. If the profile doesn't allow a clone, the process must
    /// set the filter itself. A listener is sent before the clone, so its filter is set before the
    /// clone too.
    pub(crate) fn is_cloned_filtered(&self) -> bool {
        self.seccomp.as_ref().is_some_and(|filter| {
            (!self.no_new_privs || filter.listener.is_some()) && filter.allows_early_install()
        })
    }

    /// False if config.json has no process.
    pub(crate) fn has_program(&self) -> bool {
        !self.argv.as_slice().is_empty()
    }
}

/// The terminal of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// `None` for the size of the caller's terminal, or else the kernel's default.
    pub(crate) size: Option<Size>,
}

/// The child needs at least this many descriptors.
const MIN_FDS: u64 = 16;

/// True for a limit that could stop the child itself. Such a limit is set just before exec.
pub(crate) fn is_set_before_exec(limit: &Rlimit) -> bool {
    matches!(limit.resource, RLIMIT_AS | RLIMIT_DATA)
        || limit.resource == RLIMIT_NOFILE && limit.soft < MIN_FDS
}

/// True for a limit that also counts the parent of the process. Such a limit is set after the
/// parent has exited.
pub(crate) fn is_set_after_parent_exit(limit: &Rlimit) -> bool {
    limit.resource == RLIMIT_NPROC
}

/// Plans a process in a container with this configuration. `available` has the capabilities that
/// the process can get. Returns `None` only if something is refused.
pub(super) fn plan(
    description: &ProcessDescription<'_>,
    spec: &Spec,
    available: caps::AvailableCapabilities,
    findings: &mut Findings,
) -> Option<Process> {
    let call = words::plan(description);
    let linux = spec.linux().as_ref();
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let seccomp = seccomp::plan_with(profile, spec.annotations());
    let seccomp = seccomp.map(|planned| findings.take_planned(planned));
    let (apparmor, selinux) = (description.apparmor(), description.selinux());
    let labels = lsm::labels(&apparmor, &selinux, lsm::HOST_MODULES, findings);
    let WithOrigin {
        value: cwd,
        origin: cwd_origin,
    } = description.cwd();
    let (uid, gid, groups) = (description.uid(), description.gid(), description.groups());
    let rlimits = description.rlimits();
    Some(Process {
        argv: CStringArray::new(call.argv),
        env: CStringArray::new(call.env),
        wants_home: call.wants_home,
        candidates: call.candidates,
        cwd: CString::new(cwd.as_os_str().as_bytes()).ok()?,
        uid: uid.value,
        gid: gid.value,
        groups: groups.value,
        // podman's --group-add keep-groups: a user may need the caller's groups to access files.
        keeps_groups: spec.annotations().is_on(KEEP_ORIGINAL_GROUPS),
        // runc's default, independent of the caller's umask.
        umask: description
            .optional_value(|process| process.user().umask())
            .unwrap_or(0o022),
        caps: granted_capabilities(description, available, findings),
        no_new_privs: description.no_new_privs(),
        seccomp: seccomp.flatten(),
        rlimits: rlimits.value.iter().filter_map(convert_rlimit).collect(),
        oom_score_adj: description.optional_value(Configured::oom_score_adj),
        scheduler: description
            .optional_value(|process| process.scheduler().as_ref())
            .map(scheduling::convert_scheduler),
        affinity: description
            .optional_value(|process| process.exec_cpu_affinity().as_ref())
            .map(scheduling::convert_affinity),
        io_priority: description
            .optional_value(|process| process.io_priority().as_ref())
            .map(scheduling::convert_io_priority),
        memory_policy: linux
            .and_then(|linux| linux.memory_policy().as_ref())
            .map(scheduling::convert_memory_policy),
        personality: linux
            .and_then(|linux| linux.personality().as_ref())
            .map(|personality| match personality.domain() {
                LinuxPersonalityDomain::PerLinux => PER_LINUX,
                LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
            }),
        terminal: description.terminal().then(|| Terminal {
            size: description.console_size().and_then(convert_console_size),
        }),
        labels,
        origins: ProcessOrigins {
            cwd: cwd_origin,
            uid: uid.origin,
            gid: gid.origin,
            groups: groups.origin,
            rlimits: rlimits.origin,
            apparmor: apparmor.origin,
            selinux: selinux.origin,
        },
    })
}

/// Returns the capabilities that the kernel grants, and warns of the others.
fn granted_capabilities(
    description: &ProcessDescription<'_>,
    available: caps::AvailableCapabilities,
    findings: &mut Findings,
) -> caps::CapabilitySets {
    let (granted, missing) = description.caps(findings).restrict_to(available);
    if let Some(problem) = missing {
        findings.warn_as(Code::InvalidCapability, "process.capabilities", problem);
    }
    granted
}

fn convert_rlimit(limit: &PosixRlimit) -> Option<Rlimit> {
    Some(Rlimit {
        resource: find_rlimit(&limit.typ().to_string())?,
        soft: limit.soft(),
        hard: limit.hard(),
    })
}

fn convert_console_size((height, width): (u64, u64)) -> Option<Size> {
    let (rows, columns) = (u16::try_from(height).ok()?, u16::try_from(width).ok()?);
    // A zero height or width means no size, as in runc and crun.
    (rows > 0 && columns > 0).then_some(Size { rows, columns })
}
