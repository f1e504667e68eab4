//! The container's file system: the root, its mounts in order, masked and read-only paths.
//! `devices` plans the device nodes, and `mount_options` parses mount options.

pub(crate) mod added;
mod mounts;
mod peers;
mod source;

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{Mount, Spec};

use super::host::Host;
use super::ids::Mappings;
use super::mount_options::LinkHandling;
use super::namespaces::Namespaces;
use super::{CreateOptions, NOTIFY_DIRECTORY_IN_CONTAINER};
use crate::annotations::{self, Annotations, MOUNT_CONTEXT_TYPE};
use crate::diagnosis::Code;
use crate::error::Findings;
use crate::lsm;
use crate::origin::{Origin, config};
use crate::spec::paths::clean;
use crate::spec::propagation;
use crate::sys::mount::{Attributes, PRIVATE, RDONLY, SHARED, SLAVE};
use mounts::{MountContext, MountEntry};

/// The file system of a container.
pub(crate) struct Rootfs {
    /// The absolute path of the root on the host.
    pub(crate) path: PathBuf,
    pub(crate) readonly: bool,
    /// linux.rootfsPropagation as `MS_` bits, and true if it is recursive.
    pub(crate) propagation: Option<(u64, bool)>,
    pub(crate) entry: RootEntry,
    /// True if the root is built in a copy of the caller's mount namespace. The root is then
    /// detached from the copy as a tree that only the process sees.
    pub(crate) detached_root: bool,
    pub(crate) mounts: Vec<MountOp>,
    /// Absolute paths in the container, each with the index of its first entry.
    pub(crate) readonly_paths: Vec<(usize, PathBuf)>,
    pub(crate) masked_paths: Vec<(usize, PathBuf)>,
    /// The SELinux label of new file systems.
    pub(crate) label: Option<CString>,
}

/// The way in which the process gets its root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootEntry {
    /// The mounts are made, and pivot_root changes the root.
    ///
    /// In a joined mount namespace, this changes the root of all processes that have the old root:
    /// pivot_root(2). runc does the same.
    Pivot,
    /// The mounts are made, but pivot_root isn't called (--no-pivot). The root is moved over `/`,
    /// and then chroot enters it.
    Move,
    /// Only chroot is called. Nothing is mounted, because the mount namespace isn't the
    /// container's.
    Chroot,
}

/// One mount.
#[derive(Debug)]
pub(crate) struct MountOp {
    /// The index of the mount's entry in mounts.
    pub(crate) index: usize,
    /// The file that lists the mount; `None` for config.json.
    pub(crate) file: Option<Box<str>>,
    /// The absolute path in the container.
    pub(crate) destination: PathBuf,
    /// True if a procfs may already be mounted at the destination.
    pub(crate) may_find_procfs: bool,
    pub(crate) source: MountSource,
    /// The attributes of the mount itself.
    pub(crate) top: Attributes,
    /// The attributes of the mount and all mounts below it. They are set before `top`.
    pub(crate) recursive: Attributes,
    /// `Some` if the mount starts its own peer group after it is cut off from its source's peers.
    /// True if the mounts below it do so too.
    pub(crate) own_peers: Option<bool>,
    pub(crate) idmap: Option<Idmap>,
    pub(crate) links: LinkHandling,
}

/// The id mapping of a bind mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Idmap {
    /// True if the mapping also applies to all mounts below it.
    pub(crate) recursive: bool,
    /// `None` for the mappings of the container's user namespace.
    pub(crate) mappings: Option<Mappings>,
}

impl MountOp {
    /// True if a symbolic link as the source is mounted itself, instead of its target.
    pub(crate) fn mounts_link_itself(&self) -> bool {
        self.links.copied || self.links.source_is_itself
    }

    /// Returns the mount's entry in config.json, or in the file that lists it.
    pub(crate) fn origin(&self) -> Origin {
        self.field("")
    }

    fn field(&self, name: &str) -> Origin {
        match &self.file {
            None => config(format!("mounts[{}]{name}", self.index)),
            Some(file) => Origin::file(&**file, format!("[{}]{name}", self.index)),
        }
    }

    /// Describes the opening of the source for messages, such as
    /// `open /src for /dest (config.json: mounts[3].source)`.
    pub(crate) fn describe_opening(&self, source: &Path) -> String {
        let (source, destination) = (source.display(), self.destination.display());
        self.field(".source")
            .asks_to(format!("open {source} for {destination}"))
    }

    /// True if the parent opens the source, false if the child does. The child opens one source at
    /// a time, in the order of config.json.
    ///
    /// The parent must open the source in three cases: the mount stays a peer of its source, from
    /// which the child is cut off; the mount maps ids; or only the parent can reach the path. A
    /// parent that isn't root leaves all sources to the child, because it can't do more than the
    /// child.
    pub(crate) fn is_opened_by_parent(&self, namespaces: &Namespaces) -> bool {
        let stays_peer = self.recursive.propagation == 0;
        matches!(self.source, MountSource::Bind { .. })
            && !namespaces.unprivileged
            && (stays_peer || self.idmap.is_some() || namespaces.user.is_some())
    }
}

/// The source of a mount.
#[derive(Debug)]
pub(crate) enum MountSource {
    /// A file or directory of the host.
    Bind { path: PathBuf, recursive: bool },
    /// A path inside the container's root, relative to that root. It refers to the state after all
    /// earlier mounts.
    Inside { path: PathBuf, recursive: bool },
    /// A new file system.
    Filesystem(NewFilesystem),
}

impl MountSource {
    /// True if the mount shows an existing tree at another path.
    fn is_bind(&self) -> bool {
        matches!(self, MountSource::Bind { .. } | MountSource::Inside { .. })
    }
}

/// A new file system.
#[derive(Debug)]
pub(crate) struct NewFilesystem {
    pub(crate) kind: CString,
    /// The source as mountinfo shows it.
    pub(crate) source: Option<CString>,
    pub(crate) options: Vec<(CString, Option<CString>)>,
    /// True if a tmpfs without mode= gets the mode of the directory that it covers.
    pub(crate) copies_mode: bool,
    /// True if a tmpfs gets a copy of the directory that it covers.
    pub(crate) copies_up: bool,
    /// The host's mount to bind if the kernel refuses a new mount. A new mount requires ownership
    /// of the namespace that the file system shows.
    pub(crate) stand_in: Option<PathBuf>,
    /// The label to set on the root of a new mqueue, which doesn't accept context=.
    pub(crate) label: Option<CString>,
    /// True for proc and sysfs. They are mounted only on ordinary directories, never through a
    /// symbolic link (CVE-2019-19921, CVE-2023-27561).
    pub(crate) ordinary_directory: bool,
}

impl NewFilesystem {
    /// Adds the label of the container's file systems, if this kind accepts a label. The kernel
    /// labels procfs, sysfs and cgroup2 itself. If config.json has the `option`, which is mostly
    /// context=, that option has precedence. If the ipc namespace isn't the container's own, the
    /// host's mqueue keeps its label.
    fn take_label(&mut self, label: &CStr, option: &CStr, own_ipc: bool) {
        match self.kind.to_bytes() {
            b"proc" | b"sysfs" | b"cgroup2" => {}
            _ if self.is_hosts_filesystem() => {}
            b"mqueue" if own_ipc => self.label = Some(label.into()),
            b"mqueue" => {}
            _ if self.options.iter().any(|(key, _)| key.as_c_str() == option) => {}
            _ => self.options.push((option.into(), Some(label.into()))),
        }
    }

    /// True for a kind of file system whose mounts all show the host's own file system. Changes of
    /// its files and options affect the host.
    pub(crate) fn is_hosts_filesystem(&self) -> bool {
        source::is_hosts_filesystem(&self.kind.to_string_lossy())
    }

    /// Returns the attributes to set last. /dev and a tmpfs become read-only only after the mounts
    /// and nodes in them are made.
    pub(crate) fn late_attributes(&self, op: &MountOp) -> u64 {
        if self.is_hosts_filesystem() {
            return 0;
        }
        if self.kind.as_c_str() == c"tmpfs" || op.destination == Path::new("/dev") {
            (op.top.set | op.recursive.set) & RDONLY
        } else {
            0
        }
    }
}

impl Rootfs {
    /// Returns the propagation, as `MS_` bits, that cuts the root off from its source.
    pub(crate) fn root_propagation_cut(&self) -> u64 {
        match self.propagation {
            Some((SLAVE, _)) => SLAVE,
            _ => PRIVATE,
        }
    }

    /// True if the child clones recursive trees while the root is attached. Such a tree may contain
    /// the path at which the root is attached.
    pub(crate) fn clones_while_attached(&self) -> bool {
        let clones = |op: &MountOp| {
            matches!(
                op.source,
                MountSource::Bind {
                    recursive: true,
                    ..
                }
            )
        };
        self.mounts.iter().any(clones)
    }

    /// True if /dev is a bind mount or the host's devtmpfs. The caller is then responsible for the
    /// nodes and links in it, as in runc.
    pub(crate) fn has_foreign_dev(&self) -> bool {
        let is_foreign = |source: &MountSource| match source {
            MountSource::Filesystem(made) => made.is_hosts_filesystem(),
            MountSource::Bind { .. } | MountSource::Inside { .. } => true,
        };
        self.mounts
            .iter()
            .any(|m| m.destination == Path::new("/dev") && is_foreign(&m.source))
    }
}

/// Plans the file system. Returns `None` only if something is refused.
pub(super) fn plan(
    spec: &Spec,
    host: &Host,
    options: &CreateOptions<'_>,
    namespaces: &Namespaces,
    findings: &mut Findings,
) -> Option<Rootfs> {
    let linux = spec.linux().as_ref();
    let root = spec.root().as_ref()?;
    let word = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    let propagation = word.and_then(propagation::parse);
    // A joined mount namespace is cut off from propagation, so no mount in it has peers outside of
    // it. As in runc, a recursive rootfsPropagation also applies to the sources of mounts.
    let keeps_peers = namespaces.has_new_mount()
        && propagation.is_some_and(|root| root.kind == SHARED || !root.recursive);
    let builds = namespaces.has_new_mount() || mounts_something(spec);
    let detached_root = builds && !namespaces.contains(CloneFlags::CLONE_NEWNS);
    if detached_root && propagation.is_some_and(|root| root.kind != PRIVATE) {
        findings.refuse("linux.rootfsPropagation", NO_PROPAGATION_REASON);
    }
    let path = options.bundle.join(root.path());
    let surroundings = MountContext {
        host,
        bundle: options.bundle,
        root: &path,
        namespaces,
        keeps_peers,
        detached_root,
    };
    let label = lsm::plan_mount_label(linux, lsm::HOST_MODULES, findings);
    let label_option = label_option(spec.annotations(), findings);
    let notify = options.notify.map(notify_mount);
    let entries = spec.mounts().iter().flatten().chain(&notify);
    let refused = findings.refused_count();
    let mut mounts = Vec::new();
    for (index, mount) in entries.enumerate() {
        mounts.extend(surroundings.plan(&MountEntry::new(index, mount), findings));
    }
    if findings.refused_count() > refused {
        return None;
    }
    if let Some(label) = &label {
        take_label(&mut mounts, label, label_option, namespaces);
    }
    Some(Rootfs {
        path,
        readonly: root.readonly().unwrap_or(false),
        propagation: propagation.map(|root| (root.kind, root.recursive)),
        entry: match (builds, options.no_pivot) {
            (true, false) => RootEntry::Pivot,
            (true, true) => RootEntry::Move,
            (false, _) => RootEntry::Chroot,
        },
        detached_root,
        mounts,
        readonly_paths: unique_paths(linux.and_then(|l| l.readonly_paths().as_ref())),
        masked_paths: unique_paths(linux.and_then(|l| l.masked_paths().as_ref())),
        label,
    })
}

/// Returns the mount option that takes the label of the container's file systems.
pub(super) fn label_option(
    annotations: &impl Annotations,
    findings: &mut Findings,
) -> &'static CStr {
    match annotations.text(MOUNT_CONTEXT_TYPE) {
        None | Some("context") => c"context",
        Some("fscontext") => c"fscontext",
        Some("defcontext") => c"defcontext",
        Some("rootcontext") => c"rootcontext",
        Some(word) => {
            let problem = format!(
                "unknown type {word:?} (expected context, fscontext, defcontext or rootcontext)"
            );
            let place = annotations::place(MOUNT_CONTEXT_TYPE);
            findings.refuse_as(Code::InvalidAnnotation, place, problem);
            c"context"
        }
    }
}

/// Gives new file systems the label of the container's file systems.
fn take_label(mounts: &mut [MountOp], label: &CStr, option: &CStr, namespaces: &Namespaces) {
    let own_ipc = namespaces.contains(CloneFlags::CLONE_NEWIPC);
    for mount in mounts {
        if let MountSource::Filesystem(filesystem) = &mut mount.source {
            filesystem.take_label(label, option, own_ipc);
        }
    }
}

/// Returns the mount that gives the container its socket for sd_notify(3). `directory` is the
/// source on the host.
fn notify_mount(directory: &Path) -> Mount {
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"];
    let mut mount = Mount::default();
    mount
        .set_destination(NOTIFY_DIRECTORY_IN_CONTAINER.into())
        .set_typ(Some("bind".into()))
        .set_source(Some(directory.to_owned()))
        .set_options(Some(options.map(String::from).into()));
    mount
}

/// Returns each path once, with its index. Engines repeat some paths, and a second mount over the
/// first would change nothing.
fn unique_paths(list: Option<&Vec<String>>) -> Vec<(usize, PathBuf)> {
    let mut seen = HashSet::new();
    let paths = list
        .into_iter()
        .flatten()
        .map(|path| clean(Path::new(path)));
    paths
        .enumerate()
        .filter(|(_, path)| seen.insert(path.clone()))
        .collect()
}

/// The reason why mounts can't propagate in a container that shares the caller's mount namespace.
const NO_PROPAGATION_REASON: &str =
    "mount propagation requires a mount namespace of the container's own (linux.namespaces)";

/// True if config.json asks for a mount, or for a device node, which requires a mount.
fn mounts_something(spec: &Spec) -> bool {
    fn is_some<T>(list: Option<&Vec<T>>) -> bool {
        list.is_some_and(|list| !list.is_empty())
    }
    let readonly = spec.root().as_ref().and_then(|root| root.readonly());
    let of_linux = spec.linux().as_ref().is_some_and(|linux| {
        is_some(linux.devices().as_ref())
            || is_some(linux.masked_paths().as_ref())
            || is_some(linux.readonly_paths().as_ref())
            || linux
                .rootfs_propagation()
                .iter()
                .any(|word| !word.is_empty())
    });
    is_some(spec.mounts().as_ref()) || readonly == Some(true) || of_linux
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_names_the_option_that_takes_the_label() {
        let mut findings = Findings::default();
        let mut option = |word: &str| {
            let all = std::collections::HashMap::from([(MOUNT_CONTEXT_TYPE.into(), word.into())]);
            label_option(&Some(all), &mut findings)
        };
        assert_eq!(option("rootcontext"), c"rootcontext");
        assert_eq!(option(""), c"context");
        assert_eq!(label_option(&None, &mut findings), c"context");
        assert_eq!(findings.refused_count(), 0);
    }

    #[test]
    fn a_file_system_that_is_the_hosts_gets_no_label_and_is_a_dev_from_outside() {
        let op = |kind: &std::ffi::CStr| MountOp {
            index: 0,
            file: None,
            destination: "/dev".into(),
            source: MountSource::Filesystem(NewFilesystem {
                kind: kind.into(),
                source: None,
                options: Vec::new(),
                copies_mode: false,
                copies_up: false,
                stand_in: None,
                label: None,
                ordinary_directory: false,
            }),
            top: Attributes::default(),
            recursive: Attributes::default(),
            may_find_procfs: false,
            own_peers: None,
            idmap: None,
            links: LinkHandling::default(),
        };
        for (kind, is_hosts) in [(c"devtmpfs", true), (c"tmpfs", false)] {
            let mut op = op(kind);
            let MountSource::Filesystem(made) = &mut op.source else {
                continue;
            };
            made.take_label(c"label", c"context", true);
            assert_eq!(made.options.is_empty() && made.label.is_none(), is_hosts);
            let rootfs = Rootfs {
                path: "/r".into(),
                readonly: false,
                propagation: None,
                entry: RootEntry::Pivot,
                detached_root: false,
                mounts: vec![op],
                readonly_paths: Vec::new(),
                masked_paths: Vec::new(),
                label: None,
            };
            assert_eq!(rootfs.has_foreign_dev(), is_hosts);
        }
    }
}
