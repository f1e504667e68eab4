//! Plans mounts that are added to a container that exists. The container's namespaces are read from
//! the kernel, not from config.json.
//! `mounts` plans each mount, as for a create.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::Mount;

use super::mounts::{MountContext, MountEntry};
use super::{MountOp, MountSource, label_option, take_label};
use crate::error::{Findings, Violation};
use crate::origin::Origin;
use crate::plan::host::Host;
use crate::plan::ids::{Mappings, first};
use crate::plan::namespaces::Namespaces;
use crate::spec::paths::clean;

/// Mounts to add.
pub(crate) struct AddedMounts {
    pub(crate) namespaces: Namespaces,
    pub(crate) mounts: Vec<MountOp>,
    /// The owner of new mount points. `None` means the caller.
    pub(crate) owner: Option<(u32, u32)>,
    /// Warnings about values that have no effect.
    pub(crate) warnings: Vec<Violation>,
}

/// The container that gets the mounts.
pub(crate) struct Container<'a> {
    pub(crate) host: &'a Host,
    pub(crate) bundle: &'a Path,
    /// The absolute path of the container's root on the host.
    pub(crate) root: &'a Path,
    /// The kinds of namespaces that the container doesn't share with the caller.
    pub(crate) namespaces: CloneFlags,
    /// The mappings of the container's user namespace. `None` if it shares the caller's.
    pub(crate) mappings: Option<Mappings>,
    /// The SELinux label of the container's file systems.
    pub(crate) label: Option<&'a str>,
    pub(crate) annotations: &'a BTreeMap<String, String>,
}

/// Mounts to remove.
pub(crate) struct RemovedMounts {
    /// The destinations, each with its origin.
    pub(crate) destinations: Vec<(Origin, PathBuf)>,
    /// The ids of all mounts that may be removed.
    pub(crate) ids: Vec<u64>,
    /// The owner, as in `AddedMounts`.
    pub(crate) owner: Option<(u32, u32)>,
}

impl RemovedMounts {
    /// Plans to remove the mounts at the destinations that `file` lists.
    pub(crate) fn plan(
        file: &str,
        entries: &[PathBuf],
        ids: Vec<u64>,
        mappings: Option<&Mappings>,
    ) -> RemovedMounts {
        let origin = |index| Origin::file(file, format!("[{index}]"));
        let destinations = entries.iter().enumerate();
        RemovedMounts {
            destinations: destinations
                .map(|(index, path)| (origin(index), clean(path)))
                .collect(),
            ids,
            owner: mappings.map(owner),
        }
    }
}

/// Returns the owner of new mount points in a user namespace: root's ids, or the first ids that the
/// namespace maps.
fn owner(mappings: &Mappings) -> (u32, u32) {
    (first(&mappings.uids), first(&mappings.gids))
}

/// Plans the mounts that `file` lists, or returns all violations.
pub(crate) fn plan(
    file: &str,
    entries: &[Mount],
    container: Container<'_>,
) -> Result<AddedMounts, Vec<Violation>> {
    let owner = container.mappings.as_ref().map(owner);
    let unprivileged = container.host.is_unprivileged();
    let namespaces =
        Namespaces::of_container(container.namespaces, container.mappings, unprivileged);
    let surroundings = MountContext {
        host: container.host,
        bundle: container.bundle,
        root: container.root,
        namespaces: &namespaces,
        keeps_peers: namespaces.user.is_none(),
        detached_root: false,
    };
    let mut findings = Findings::default();
    let mut mounts = Vec::new();
    for (index, mount) in entries.iter().enumerate() {
        let entry = MountEntry::new(index, mount);
        refuse_late(&entry, &mut findings);
        mounts.extend(surroundings.plan(&entry, &mut findings));
    }
    for mount in &mut mounts {
        mount.file = Some(file.into());
        // A stand-in is a path of the host. The process that mounts is in the container's mount
        // namespace, where the path is the container's.
        if let MountSource::Filesystem(filesystem) = &mut mount.source {
            filesystem.stand_in = None;
        }
    }
    if let Some(label) = container
        .label
        .and_then(|label| std::ffi::CString::new(label).ok())
    {
        let option = label_option(container.annotations, &mut findings);
        take_label(&mut mounts, &label, option, &namespaces);
    }
    let renamed = |mut violation: Violation| {
        violation.origin = violation.origin.in_file(file, "mounts");
        violation
    };
    let renamed = |all: Vec<Violation>| all.into_iter().map(renamed).collect();
    match findings.into_warnings() {
        Ok(warnings) => Ok(AddedMounts {
            warnings: renamed(warnings),
            namespaces,
            mounts,
            owner,
        }),
        Err(refused) => Err(renamed(refused)),
    }
}

/// Refuses mounts that are safe only while a container is made, or that can't be removed again.
fn refuse_late(entry: &MountEntry<'_>, findings: &mut Findings) {
    if entry.bind.is_none() && matches!(entry.mount_type(), "proc" | "sysfs") {
        let problem = format!(
            "a {} is mounted at create only: masked and read-only paths don't cover a later one",
            entry.mount_type()
        );
        findings.refuse(entry.field_path("type"), problem);
    }
    if entry.options.copy_up.is_some() {
        let problem = "tmpcopyup copies at create only: no limit of the container holds the copy";
        findings.refuse(entry.field_path("options"), problem);
    }
    if entry.options.links.copied {
        let problem = "copy-symlink makes a link at create only: it is no mount to be removed";
        findings.refuse(entry.field_path("options"), problem);
    }
}
