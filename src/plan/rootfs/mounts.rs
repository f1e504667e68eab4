//! Plans one entry of `mounts`: its destination, its attributes and its violations.
//! `source` plans the source of the mount.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::{MountOp, MountSource, NO_PROPAGATION_REASON, peers, source};
use crate::error::Findings;
use crate::plan::host::Host;
use crate::plan::mount_options::{self, MountOptions};
use crate::plan::namespaces::Namespaces;
use crate::spec::paths::clean;
use crate::spec::validate;

const LOST_PEERS_WARNING: &str = "the mount is shared, but not with its source on the host: linux.rootfsPropagation would have to be \"shared\"";

/// An entry of `mounts` with its parsed options.
pub(super) struct MountEntry<'a> {
    pub(super) index: usize,
    pub(super) mount: &'a Mount,
    pub(super) options: MountOptions,
    /// `Some(true)` for a bind mount that includes all mounts below its source, `Some(false)` for
    /// any other bind mount.
    pub(super) bind: Option<bool>,
}

impl<'a> MountEntry<'a> {
    pub(super) fn new(index: usize, mount: &'a Mount) -> MountEntry<'a> {
        let words = mount.options().as_deref().unwrap_or_default();
        MountEntry {
            index,
            mount,
            options: mount_options::parse(words),
            bind: validate::bind_recursion(mount),
        }
    }

    /// Returns the type, or an empty string if there is none.
    pub(super) fn mount_type(&self) -> &'a str {
        self.mount.typ().as_deref().unwrap_or_default()
    }

    /// Returns the path of a field, like `mounts[3].type`.
    pub(super) fn field_path(&self, name: &str) -> String {
        format!("mounts[{}].{name}", self.index)
    }

    /// Returns the path of an option, like `mounts[3].options[1]`.
    pub(super) fn option_path(&self, at: usize) -> String {
        format!("mounts[{}].options[{at}]", self.index)
    }

    fn option_words(&self) -> &'a [String] {
        self.mount.options().as_deref().unwrap_or_default()
    }

    fn option_word(&self, at: usize) -> &'a str {
        self.option_words()
            .get(at)
            .map(String::as_str)
            .unwrap_or_default()
    }

    fn is_cgroup_mount(&self) -> bool {
        self.bind.is_none() && matches!(self.mount_type(), "cgroup" | "cgroup2")
    }
}

/// What the plan of a mount depends on besides the entry.
pub(super) struct MountContext<'a> {
    pub(super) host: &'a Host,
    pub(super) bundle: &'a Path,
    /// The absolute path of the container's root on the host.
    pub(super) root: &'a Path,
    pub(super) namespaces: &'a Namespaces,
    /// True if a shared bind mount stays a peer of its source.
    pub(super) keeps_peers: bool,
    /// True if the container shares the mount namespace of the caller.
    pub(super) detached_root: bool,
}

impl MountContext<'_> {
    /// Plans a mount. Returns `None` only if something is refused.
    pub(super) fn plan(&self, entry: &MountEntry<'_>, findings: &mut Findings) -> Option<MountOp> {
        let refused = findings.refused_count();
        check_options(entry, findings);
        if self.detached_root && peers::has_peers(&entry.options) {
            findings.refuse(entry.field_path("options"), NO_PROPAGATION_REASON);
        }
        let idmap = source::plan_idmap(entry, self.namespaces);
        let idmap = findings.take_planned(idmap.map_err(|violation| vec![violation]));
        let destination = self.plan_destination(entry, findings);
        let source = self.plan_source(entry, findings)?;
        if findings.refused_count() > refused {
            return None;
        }
        let (mut top, mut recursive, own_peers) =
            peers::propagation_attributes(&entry.options, &source, self.keeps_peers);
        if own_peers.is_some() && matches!(source, MountSource::Bind { .. }) {
            findings.warn(entry.field_path("options"), LOST_PEERS_WARNING);
        }
        recursive.set |= source::sys_protection(&source, &top, self.namespaces);
        if entry.is_cgroup_mount() {
            top.set |= source::cgroup_protection(&source, self.namespaces);
        }
        Some(MountOp {
            index: entry.index,
            file: None,
            may_find_procfs: validate::may_find_procfs(&destination),
            destination,
            source,
            top,
            recursive,
            own_peers,
            idmap: idmap.flatten(),
            links: entry.options.links,
        })
    }

    /// Returns the destination. As in runc, a destination below the root's path on the host means
    /// the path inside the root.
    fn plan_destination(&self, entry: &MountEntry<'_>, findings: &mut Findings) -> PathBuf {
        let destination = entry.mount.destination();
        let Some(inside) = source::path_below_root(destination, self.root) else {
            return clean(destination);
        };
        if let Some(problem) = validate::reason_if_forbidden(entry.mount, &inside) {
            findings.refuse(entry.field_path("destination"), problem);
        }
        inside
    }

    fn plan_source(&self, entry: &MountEntry<'_>, findings: &mut Findings) -> Option<MountSource> {
        if let Some(recursive) = entry.bind {
            return source::plan_bind(entry.mount, self.bundle, self.root, recursive);
        }
        match entry.mount_type() {
            "cgroup" | "cgroup2" => Some(source::plan_cgroup(self.host, self.namespaces)),
            _ => source::plan_filesystem(entry, self.namespaces, findings),
        }
    }
}

/// Refuses forbidden options, and options that don't fit the type of the mount.
fn check_options(entry: &MountEntry<'_>, findings: &mut Findings) {
    for (at, why) in &entry.options.refused {
        findings.refuse(
            entry.option_path(*at),
            format!("{}: {why}", entry.option_word(*at)),
        );
    }
    let only_tmpfs = |_: &usize| entry.mount_type() != "tmpfs" || entry.bind.is_some();
    if let Some(at) = entry.options.copy_up.filter(only_tmpfs) {
        let problem = "tmpcopyup: only a tmpfs can start with what it covers";
        findings.refuse(entry.option_path(at), problem);
    }
    let is_cgroup = entry.is_cgroup_mount();
    if entry.bind.is_none() && !is_cgroup {
        return;
    }
    // Bind and cgroup mounts don't configure a new file system, so options of a file system have no
    // effect. With mount(2), the kernel would ignore them for a bind mount too.
    let kind = if is_cgroup { "cgroup" } else { "bind" };
    for at in &entry.options.foreign {
        let word = entry.option_word(*at);
        if is_cgroup && mount_options::is_cgroup2_flag(word) {
            continue;
        }
        if word.contains('=') {
            let problem = format!("{word:?} has no effect on a {kind} mount");
            findings.warn(entry.option_path(*at), problem);
        } else {
            findings.refuse(entry.option_path(*at), format!("unknown option {word:?}"));
        }
    }
}
