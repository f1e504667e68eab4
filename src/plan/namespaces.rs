//! The namespaces of a container: new ones, and existing ones joined by path.
//! `route` plans how a process gets into them.

use std::path::PathBuf;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, LinuxTimeOffset, Spec};

use super::host::Host;
use super::ids::Mappings;
use crate::sys::ns::CLONE_NEWTIME;

/// The namespaces of a container. All other kinds are shared with the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// New namespaces, made by the clone.
    pub(crate) new: CloneFlags,
    /// Existing namespaces in the order of config.json, except the user namespace.
    pub(crate) joined: Vec<JoinedNamespace>,
    /// A user namespace other than the caller's.
    pub(crate) user: Option<UserNamespace>,
    /// A new time namespace. It isn't in `new`, because the clone can't make it.
    pub(crate) time: Option<TimeOffsets>,
    /// True if the caller isn't root. In that case only the child, as root of the user namespace,
    /// may mount file systems, join namespaces and open sources.
    pub(crate) unprivileged: bool,
}

/// The user namespace of a container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UserNamespace {
    New(Mappings),
    /// An existing namespace. Its mappings are known if config.json repeats them, or if the path
    /// names a process in the namespace.
    Joined(JoinedNamespace, Option<Mappings>),
}

impl UserNamespace {
    /// Returns the mappings, if they are known before the namespace is joined.
    pub(crate) fn mappings(&self) -> Option<&Mappings> {
        match self {
            UserNamespace::New(mappings) => Some(mappings),
            UserNamespace::Joined(_, mappings) => mappings.as_ref(),
        }
    }
}

/// The text for /proc/PID/timens_offsets: time_namespaces(7).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TimeOffsets(pub(crate) String);

/// An existing namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JoinedNamespace {
    pub(crate) kind: CloneFlags,
    pub(crate) path: PathBuf,
    /// The index of the entry in linux.namespaces.
    pub(crate) index: usize,
}

/// The supported types of linux.namespaces.
pub(crate) const SUPPORTED: [&str; 8] = [
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

/// Plans linux.namespaces, which validation has checked.
pub(crate) fn plan(spec: &Spec, host: &Host) -> Namespaces {
    let configured = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    let mut namespaces = Namespaces {
        new: CloneFlags::empty(),
        joined: Vec::new(),
        user: None,
        time: None,
        unprivileged: host.is_unprivileged(),
    };
    for (index, namespace) in configured.into_iter().flatten().enumerate() {
        let kind = flag(namespace.typ());
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                let path = path.clone();
                let joined = JoinedNamespace { kind, path, index };
                if kind != CloneFlags::CLONE_NEWUSER {
                    namespaces.joined.push(joined);
                } else if !host.is_own_user_namespace(&joined.path) {
                    let mappings = mappings(spec).or_else(|| host.mappings_at(&joined.path));
                    namespaces.user = Some(UserNamespace::Joined(joined, mappings));
                }
            }
            _ if kind == CLONE_NEWTIME => namespaces.time = Some(time_offsets(spec)),
            _ => namespaces.new |= kind,
        }
    }
    if namespaces.new.contains(CloneFlags::CLONE_NEWUSER) {
        let none = || Mappings::new(&[], &[]);
        namespaces.user = Some(UserNamespace::New(mappings(spec).unwrap_or_else(none)));
    }
    namespaces
}

/// Returns linux.uidMappings and linux.gidMappings, if there are any.
fn mappings(spec: &Spec) -> Option<Mappings> {
    let linux = spec.linux().as_ref()?;
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    let gids = linux.gid_mappings().as_deref().unwrap_or_default();
    (!uids.is_empty() || !gids.is_empty()).then(|| Mappings::new(uids, gids))
}

/// Returns the offsets with one line per clock, sorted.
fn time_offsets(spec: &Spec) -> TimeOffsets {
    let offsets = spec
        .linux()
        .as_ref()
        .and_then(|l| l.time_offsets().as_ref());
    let line = |(clock, offset): (&String, &LinuxTimeOffset)| {
        format!(
            "{clock} {} {}\n",
            offset.secs().unwrap_or(0),
            offset.nanosecs().unwrap_or(0)
        )
    };
    let mut lines: Vec<String> = offsets.into_iter().flatten().map(line).collect();
    lines.sort_unstable();
    TimeOffsets(lines.concat())
}

impl Namespaces {
    /// Returns the namespaces of an existing container. `kinds` are the kinds that it doesn't share
    /// with the caller. `mappings` are those of its user namespace, if it has its own.
    pub(crate) fn of_container(
        kinds: CloneFlags,
        mappings: Option<Mappings>,
        unprivileged: bool,
    ) -> Namespaces {
        Namespaces {
            new: kinds,
            joined: Vec::new(),
            user: mappings.map(UserNamespace::New),
            time: None,
            unprivileged,
        }
    }

    /// True if the process is cloned into an existing pid namespace.
    pub(crate) fn is_born_last(&self) -> bool {
        self.joins(CloneFlags::CLONE_NEWPID)
    }

    /// True if a caller who isn't root joins the child's user namespace and writes its id mappings.
    /// This requires a dumpable child. At that time no other process is in the user namespace.
    pub(crate) fn is_mapped_by_user(&self) -> bool {
        self.unprivileged && matches!(self.user, Some(UserNamespace::New(_)))
    }

    /// True if the container has a mount namespace of its own.
    pub(crate) fn has_new_mount(&self) -> bool {
        self.new.contains(CloneFlags::CLONE_NEWNS)
    }

    /// True if the container has a pid namespace of its own, in which no process outlives init.
    pub(crate) fn has_new_pid(&self) -> bool {
        self.new.contains(CloneFlags::CLONE_NEWPID)
    }

    /// True if the container makes or joins a namespace of this kind.
    pub(crate) fn contains(&self, kind: CloneFlags) -> bool {
        self.new.contains(kind) || self.joins(kind)
    }

    /// True if the container joins a namespace of this kind.
    pub(crate) fn joins(&self, kind: CloneFlags) -> bool {
        self.joined.iter().any(|joined| joined.kind == kind)
    }
}

/// Returns the clone flag of a namespace type. ioctl_nsfs(2) reports the type by the same flag.
pub(crate) fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    match kind {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => CLONE_NEWTIME,
    }
}
