//! Which namespaces a container gets: new ones, and existing ones joined by path.
//! What lives in them is planned elsewhere.

use std::path::PathBuf;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

/// The namespaces of a container; every other kind is shared with the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// Made by the clone.
    pub(crate) new: CloneFlags,
    /// Joined, in the order of config.json.
    pub(crate) joined: Vec<Joined>,
}

/// An existing namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) kind: CloneFlags,
    pub(crate) path: PathBuf,
    /// Its index in linux.namespaces.
    pub(crate) index: usize,
}

/// The types of linux.namespaces that are supported.
pub(crate) const SUPPORTED: [&str; 6] = ["cgroup", "ipc", "mount", "network", "pid", "uts"];

/// Reads linux.namespaces; duplicates and kinds that aren't supported were refused by validation.
pub(crate) fn plan(spec: &Spec) -> Namespaces {
    let configured = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    let mut namespaces = Namespaces {
        new: CloneFlags::empty(),
        joined: Vec::new(),
    };
    for (index, namespace) in configured.into_iter().flatten().enumerate() {
        let kind = flag(namespace.typ());
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => namespaces.joined.push(Joined {
                kind,
                path: path.clone(),
                index,
            }),
            _ => namespaces.new |= kind,
        }
    }
    namespaces
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
        self.new.contains(kind) || self.joined.iter().any(|joined| joined.kind == kind)
    }
}

/// The clone flag of a kind; as an nsfs file tells its kind.
fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    const CLONE_NEWTIME: i32 = 0x80;
    match kind {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => CloneFlags::from_bits_retain(CLONE_NEWTIME),
    }
}
