//! The container's process: what it runs, as whom, and within which limits.
//! Serves init and exec alike; the namespaces and the root are planned elsewhere.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

use oci_spec::runtime::{Linux, LinuxPersonalityDomain, PosixRlimit, Process as Configured, Spec};

use super::scheduling::{self, Affinity, IoPriority, MemoryPolicy};
use super::words::{self, Words};
use super::{caps, seccomp};
use crate::error::Violation;
use crate::lsm::{self, Labels};
use crate::sys::process::{
    PER_LINUX, PER_LINUX32, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NOFILE, RLIMIT_NPROC, Rlimit, Strings,
    rlimit_number,
};
use crate::sys::sched::Scheduler;
use crate::sys::tty::Size;

/// The process that the child becomes.
pub(crate) struct Process {
    /// Empty if config.json has no process: then the child waits, and ends when it is started.
    pub(crate) argv: Strings,
    pub(crate) env: Strings,
    /// True if HOME is to be looked up in the container's /etc/passwd.
    pub(crate) wants_home: bool,
    /// The files to try as `argv[0]`, in the order of PATH; one if that has a slash.
    pub(crate) candidates: Vec<CString>,
    pub(crate) cwd: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// True: it has the caller's supplementary groups instead.
    pub(crate) keeps_groups: bool,
    pub(crate) umask: u32,
    pub(crate) caps: caps::Sets,
    pub(crate) no_new_privs: bool,
    /// The filter of its system calls.
    pub(crate) seccomp: Option<seccomp::Filter>,
    /// By their index in process.rlimits.
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
    pub(crate) places: Places,
    /// What is left out.
    pub(crate) warnings: Vec<String>,
}

/// Where it was said what the process is like, for messages.
pub(crate) struct Places {
    pub(crate) cwd: &'static str,
    pub(crate) uid: &'static str,
    pub(crate) gid: &'static str,
    pub(crate) groups: &'static str,
    /// Of the list; an index comes behind it.
    pub(crate) rlimits: &'static str,
    pub(crate) apparmor: &'static str,
    pub(crate) selinux: &'static str,
}

pub(crate) const OF_CONFIG: Places = Places {
    cwd: "config.json: process.cwd",
    uid: "config.json: process.user.uid",
    gid: "config.json: process.user.gid",
    groups: "config.json: process.user.additionalGids",
    rlimits: "config.json: process.rlimits",
    apparmor: "config.json: process.apparmorProfile",
    selinux: "config.json: process.selinuxLabel",
};

impl Process {
    /// With what the annotations of its container say.
    pub(crate) fn with_annotations(mut self, spec: &Spec) -> Process {
        let annotations = spec.annotations().as_ref();
        let value = annotations.and_then(|all| all.get(KEEP_GROUPS));
        self.keeps_groups = value.is_some_and(|value| value == "1");
        self
    }

    /// With the capabilities that whoever makes it can give.
    pub(crate) fn granted(mut self, available: caps::Available) -> Process {
        let (caps, warning) = self.caps.within(available);
        self.caps = caps;
        self.warnings.extend(warning);
        self
    }

    /// What the setting of one of its limits is called.
    pub(crate) fn limit_name(&self, index: usize, limit: &Rlimit) -> String {
        let (soft, hard, place) = (limit.soft, limit.hard, self.places.rlimits);
        let name = limit.name();
        format!("set {name} to {soft} and {hard} ({place}[{index}])")
    }

    /// True if the process has its filter from its birth, where others see it born. With
    /// no_new_privs it sets the filter itself, without any capability, as the last step; otherwise
    /// it would need CAP_SYS_ADMIN for that, which the others could make use of. A profile that
    /// allows too little for a birth leaves no other way. A listener is handed on before the birth.
    pub(crate) fn is_born_filtered(&self) -> bool {
        self.seccomp.as_ref().is_some_and(|filter| {
            (!self.no_new_privs || filter.listener.is_some()) && filter.allows_birth()
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
    /// `None`: as the caller's terminal, or the kernel's default.
    pub(crate) size: Option<Size>,
}

/// Below this many descriptors the child could not go on.
const FEWEST_FDS: u64 = 16;

/// True for a limit that could stop the child itself: such a one is set as the last step before exec.
pub(crate) fn is_for_the_last_step(limit: &Rlimit) -> bool {
    matches!(limit.resource, RLIMIT_AS | RLIMIT_DATA)
        || limit.resource == RLIMIT_NOFILE && limit.soft < FEWEST_FDS
}

/// True for a limit that also counts whoever bears a process: it is set when that one is gone.
pub(crate) fn is_for_the_born(limit: &Rlimit) -> bool {
    limit.resource == RLIMIT_NPROC
}

/// crun's annotation, by which podman asks for `--group-add keep-groups`: a user's groups are what lets it reach its files.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// What stands for the process of a config.json that has none; the type's own default is a shell with some capabilities.
pub(crate) fn nothing() -> Configured {
    let mut process = Configured::default();
    process
        .set_terminal(None)
        .set_args(None)
        .set_env(None)
        .set_capabilities(None)
        .set_rlimits(None)
        .set_no_new_privileges(None);
    process
}

/// Plans a process in a container with these properties, which is called with these words.
pub(crate) fn plan(
    process: &Configured,
    linux: Option<&Linux>,
    words: &Words<'_>,
) -> Result<Process, Vec<Violation>> {
    let mut violations = Vec::new();
    let call = words::plan(words, &mut violations);
    let cwd = CString::new(process.cwd().as_os_str().as_bytes()).unwrap_or_else(|_| {
        violations.push(Violation::new("process.cwd", "holds a NUL byte"));
        CString::default()
    });
    let profile = linux.and_then(|l| l.seccomp().as_ref());
    let seccomp = profile.map(seccomp::plan).transpose();
    let seccomp = seccomp.unwrap_or_else(|found| {
        violations.extend(found);
        None
    });
    if !violations.is_empty() {
        return Err(violations);
    }
    let labels = lsm::labels(process, lsm::OF_HOST)?;
    let user = process.user();
    Ok(Process {
        argv: Strings::new(call.argv),
        env: Strings::new(call.env),
        wants_home: call.wants_home,
        candidates: call.candidates,
        cwd,
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        keeps_groups: false,
        // runc's default, whatever the caller's own umask is.
        umask: user.umask().unwrap_or(0o022),
        caps: caps::plan(process.capabilities().as_ref()),
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        seccomp,
        rlimits: process
            .rlimits()
            .iter()
            .flatten()
            .filter_map(rlimit)
            .collect(),
        oom_score_adj: process.oom_score_adj(),
        scheduler: process.scheduler().as_ref().map(scheduling::scheduler),
        affinity: process
            .exec_cpu_affinity()
            .as_ref()
            .map(scheduling::affinity),
        io_priority: process.io_priority().as_ref().map(scheduling::io_priority),
        memory_policy: linux
            .and_then(|linux| linux.memory_policy().as_ref())
            .map(scheduling::memory_policy),
        personality: linux
            .and_then(|linux| linux.personality().as_ref())
            .map(|personality| match personality.domain() {
                LinuxPersonalityDomain::PerLinux => PER_LINUX,
                LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
            }),
        terminal: process.terminal().unwrap_or(false).then(|| Terminal {
            size: size(process),
        }),
        labels,
        places: OF_CONFIG,
        warnings: Vec::new(),
    })
}

fn rlimit(limit: &PosixRlimit) -> Option<Rlimit> {
    Some(Rlimit {
        resource: rlimit_number(&limit.typ().to_string())?,
        soft: limit.soft(),
        hard: limit.hard(),
    })
}

fn size(process: &Configured) -> Option<Size> {
    let size = process.console_size()?;
    let (rows, columns) = (
        u16::try_from(size.height()).ok()?,
        u16::try_from(size.width()).ok()?,
    );
    // One without the other is no size, as in runc and crun.
    (rows > 0 && columns > 0).then_some(Size { rows, columns })
}
