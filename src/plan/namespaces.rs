//! Which namespaces a container gets: new ones, and existing ones joined by path.
//! What lives in them is planned elsewhere.

use std::path::PathBuf;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, LinuxTimeOffset, Spec};

use super::ids::Mappings;
use crate::sys::ns::CLONE_NEWTIME;

/// The namespaces of a container; every other kind is shared with the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// Made by the clone.
    pub(crate) new: CloneFlags,
    /// Joined, in the order of config.json.
    pub(crate) joined: Vec<Joined>,
    /// The mappings of a new user namespace.
    pub(crate) user: Option<Mappings>,
    /// A new time namespace. It is not in `new`: the clone doesn't make it.
    pub(crate) time: Option<TimeOffsets>,
}

/// The text for /proc/PID/timens_offsets: time_namespaces(7).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TimeOffsets(pub(crate) String);

/// An existing namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) kind: CloneFlags,
    pub(crate) path: PathBuf,
    /// Its index in linux.namespaces.
    pub(crate) index: usize,
}

/// The types of linux.namespaces that are supported.
pub(crate) const SUPPORTED: [&str; 8] = [
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

/// Reads linux.namespaces; duplicates and kinds that aren't supported were refused by validation.
pub(crate) fn plan(spec: &Spec) -> Namespaces {
    let configured = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    let mut namespaces = Namespaces {
        new: CloneFlags::empty(),
        joined: Vec::new(),
        user: None,
        time: None,
    };
    for (index, namespace) in configured.into_iter().flatten().enumerate() {
        let kind = flag(namespace.typ());
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => namespaces.joined.push(Joined {
                kind,
                path: path.clone(),
                index,
            }),
            _ if kind == CLONE_NEWTIME => namespaces.time = Some(time_offsets(spec)),
            _ => namespaces.new |= kind,
        }
    }
    if namespaces.new.contains(CloneFlags::CLONE_NEWUSER) {
        let linux = spec.linux().as_ref();
        let uids = linux.and_then(|l| l.uid_mappings().as_deref());
        let gids = linux.and_then(|l| l.gid_mappings().as_deref());
        namespaces.user = Some(Mappings::new(
            uids.unwrap_or_default(),
            gids.unwrap_or_default(),
        ));
    }
    namespaces
}

/// One line a clock, sorted.
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
    /// True if the container has a mount namespace of its own.
    pub(crate) fn has_new_mount(&self) -> bool {
        self.new.contains(CloneFlags::CLONE_NEWNS)
    }

    /// True if the container has a pid namespace that ends with its init.
    pub(crate) fn has_new_pid(&self) -> bool {
        self.new.contains(CloneFlags::CLONE_NEWPID)
    }

    /// True if the container has its own namespace of this kind, or joins one.
    pub(crate) fn contains(&self, kind: CloneFlags) -> bool {
        self.new.contains(kind) || self.joins(kind)
    }

    /// True if the container joins a namespace of this kind.
    pub(crate) fn joins(&self, kind: CloneFlags) -> bool {
        self.joined.iter().any(|joined| joined.kind == kind)
    }
}

/// The clone flag of a kind; as an nsfs file tells its kind.
fn flag(kind: LinuxNamespaceType) -> CloneFlags {
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
