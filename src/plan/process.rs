//! A process of a container: its program, its identity and its limits.
//! For init and exec processes alike. Namespaces and root are planned elsewhere.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

use oci_spec::runtime::{LinuxPersonalityDomain, PosixRlimit, Process as Configured, Spec};

use super::description::{Description, Given};
use super::scheduling::{self, Affinity, IoPriority, MemoryPolicy};
use super::{caps, seccomp, words};
use crate::error::Findings;
use crate::lsm::{self, Labels};
use crate::origin::Origin;
use crate::sys::process::{
    PER_LINUX, PER_LINUX32, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NOFILE, RLIMIT_NPROC, Rlimit, Strings,
    rlimit_number,
};
use crate::sys::sched::Scheduler;
use crate::sys::tty::Size;

/// The process that the child becomes.
pub(crate) struct Process {
    /// Empty if config.json has no process. Init then waits, and ends at `start`.
    pub(crate) argv: Strings,
    pub(crate) env: Strings,
    /// True if HOME comes from the container's /etc/passwd.
    pub(crate) wants_home: bool,
    /// The files to try for `argv[0]`, in the order of PATH; only one if it has a slash.
    pub(crate) candidates: Vec<CString>,
    pub(crate) cwd: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// True: keep the caller's supplementary groups instead.
    pub(crate) keeps_groups: bool,
    pub(crate) umask: u32,
    pub(crate) caps: caps::Sets,
    pub(crate) no_new_privs: bool,
    /// The seccomp filter.
    pub(crate) seccomp: Option<seccomp::Filter>,
    /// In the order of process.rlimits.
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) io_priority: Option<IoPriority>,
    /// For an exec process only.
    pub(crate) affinity: Option<Affinity>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// A `PER_` number.
    pub(crate) personality: Option<u32>,
    /// Set if the process gets a terminal.
    pub(crate) terminal: Option<Terminal>,
    pub(crate) labels: Labels,
    pub(crate) origins: Origins,
}

/// The origins of values, for messages.
pub(crate) struct Origins {
    pub(crate) cwd: Origin,
    pub(crate) uid: Origin,
    pub(crate) gid: Origin,
    pub(crate) groups: Origin,
    /// The origin of the list. Messages add an index.
    pub(crate) rlimits: Origin,
    pub(crate) apparmor: Origin,
    pub(crate) selinux: Origin,
}

impl Process {
    /// What a message calls the setting of a resource limit.
    pub(crate) fn limit_name(&self, index: usize, limit: &Rlimit) -> String {
        let (soft, hard, name) = (limit.soft, limit.hard, limit.name());
        let list = &self.origins.rlimits;
        format!("set {name} to {soft} and {hard} ({list}[{index}])")
    }

    /// True if the filter is set before the process is cloned, where other processes can see it.
    /// With no_new_privs the process sets the filter itself as the last step, without any
    /// capability. Otherwise it would need CAP_SYS_ADMIN, which the others could use. If the
    /// profile doesn't allow a clone, there is no other way. A listener is sent before the clone.
    pub(crate) fn is_born_filtered(&self) -> bool {
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
    /// `None`: the size of the caller's terminal, or the kernel's default.
    pub(crate) size: Option<Size>,
}

/// The child needs at least this many descriptors.
const FEWEST_FDS: u64 = 16;

/// True for a limit that could stop the child itself. It is set just before exec.
pub(crate) fn is_for_the_last_step(limit: &Rlimit) -> bool {
    matches!(limit.resource, RLIMIT_AS | RLIMIT_DATA)
        || limit.resource == RLIMIT_NOFILE && limit.soft < FEWEST_FDS
}

/// True for a limit that counts the parent of the process as well. It is set when the parent has
/// ended.
pub(crate) fn is_for_the_born(limit: &Rlimit) -> bool {
    limit.resource == RLIMIT_NPROC
}

/// crun's annotation for podman's `--group-add keep-groups`: a user may need the groups to reach
/// files.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Plans a process in a container with this configuration. `available` are the capabilities that it
/// can get. Returns `None` only if something is refused.
pub(super) fn plan(
    description: &Description<'_>,
    spec: &Spec,
    available: caps::Available,
    findings: &mut Findings,
) -> Option<Process> {
    let call = words::plan(description);
    let linux = spec.linux().as_ref();
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let seccomp = profile.map(|profile| findings.take(seccomp::plan(profile)));
    let (apparmor, selinux) = (description.apparmor(), description.selinux());
    let labels = lsm::labels(&apparmor, &selinux, lsm::OF_HOST, findings);
    let Given {
        value: cwd,
        origin: cwd_origin,
    } = description.cwd();
    let (uid, gid, groups) = (description.uid(), description.gid(), description.groups());
    let rlimits = description.rlimits();
    Some(Process {
        argv: Strings::new(call.argv),
        env: Strings::new(call.env),
        wants_home: call.wants_home,
        candidates: call.candidates,
        cwd: CString::new(cwd.as_os_str().as_bytes()).ok()?,
        uid: uid.value,
        gid: gid.value,
        groups: groups.value,
        keeps_groups: keeps_groups(spec),
        // runc's default, independent of the caller's umask.
        umask: description
            .value(|process| process.user().umask())
            .unwrap_or(0o022),
        caps: granted(description, available, findings),
        no_new_privs: description.no_new_privs(),
        seccomp: seccomp.flatten(),
        rlimits: rlimits.value.iter().filter_map(rlimit).collect(),
        oom_score_adj: description.value(Configured::oom_score_adj),
        scheduler: description
            .value(|process| process.scheduler().as_ref())
            .map(scheduling::scheduler),
        affinity: description
            .value(|process| process.exec_cpu_affinity().as_ref())
            .map(scheduling::affinity),
        io_priority: description
            .value(|process| process.io_priority().as_ref())
            .map(scheduling::io_priority),
        memory_policy: linux
            .and_then(|linux| linux.memory_policy().as_ref())
            .map(scheduling::memory_policy),
        personality: linux
            .and_then(|linux| linux.personality().as_ref())
            .map(|personality| match personality.domain() {
                LinuxPersonalityDomain::PerLinux => PER_LINUX,
                LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
            }),
        terminal: description.terminal().then(|| Terminal {
            size: description.console_size().and_then(size),
        }),
        labels,
        origins: Origins {
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

/// The capabilities, as far as the kernel grants them.
fn granted(
    description: &Description<'_>,
    available: caps::Available,
    findings: &mut Findings,
) -> caps::Sets {
    let (granted, missing) = description.caps(findings).within(available);
    if let Some(problem) = missing {
        findings.warn("process.capabilities", problem);
    }
    granted
}

fn keeps_groups(spec: &Spec) -> bool {
    let annotations = spec.annotations().as_ref();
    let value = annotations.and_then(|all| all.get(KEEP_GROUPS));
    value.is_some_and(|value| value == "1")
}

fn rlimit(limit: &PosixRlimit) -> Option<Rlimit> {
    Some(Rlimit {
        resource: rlimit_number(&limit.typ().to_string())?,
        soft: limit.soft(),
        hard: limit.hard(),
    })
}

fn size((height, width): (u64, u64)) -> Option<Size> {
    let (rows, columns) = (u16::try_from(height).ok()?, u16::try_from(width).ok()?);
    // A zero on either side means no size, as in runc and crun.
    (rows > 0 && columns > 0).then_some(Size { rows, columns })
}
