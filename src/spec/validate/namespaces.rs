//! Rules of linux.namespaces, and of fields that need a namespace.
//! The files at the paths are checked later, when the runtime opens them.

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Spec};

use super::check_absolute;
use crate::error::Findings;

/// True if the container makes or joins a namespace of this kind.
pub(super) fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    all(linux).iter().any(|namespace| namespace.typ() == kind)
}

/// Returns the entry for a type of namespace.
pub(super) fn find(linux: &Linux, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    all(linux).iter().find(|namespace| namespace.typ() == kind)
}

/// Checks the entries of linux.namespaces themselves.
pub(super) fn check(linux: &Linux, found: &mut Findings) {
    let namespaces = all(linux);
    for (index, namespace) in namespaces.iter().enumerate() {
        let place = format!("linux.namespaces[{index}]");
        if let Some(path) = namespace.path() {
            check_absolute(&format!("{place}.path"), path, found);
        }
        let same = |other: &LinuxNamespace| other.typ() == namespace.typ();
        if let Some(first) = namespaces.iter().take(index).position(same) {
            let problem = format!("the same type as linux.namespaces[{first}]");
            found.refuse(format!("{place}.type"), problem);
        }
    }
}

/// Checks linux.timeOffsets, the offsets of the two clocks of a new time namespace.
pub(super) fn check_time_offsets(linux: &Linux, found: &mut Findings) {
    const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;
    let Some(offsets) = linux.time_offsets().as_ref().filter(|all| !all.is_empty()) else {
        return;
    };
    let time = find(linux, LinuxNamespaceType::Time);
    if time.is_none_or(|namespace| namespace.path().is_some()) {
        let problem = "needs a time namespace of the container's own in linux.namespaces";
        found.refuse("linux.timeOffsets", problem);
    }
    for (clock, offset) in offsets {
        let place = format!("linux.timeOffsets.{clock}");
        if !["boottime", "monotonic"].contains(&clock.as_str()) {
            let problem = "is not a clock with an offset (expected boottime or monotonic)";
            found.refuse(&place, problem);
        }
        if offset
            .nanosecs()
            .is_some_and(|nanosecs| nanosecs >= NANOSECONDS_PER_SECOND)
        {
            let problem = format!("is not below {NANOSECONDS_PER_SECOND}");
            found.refuse(format!("{place}.nanosecs"), problem);
        }
    }
}

/// Refuses fields that need a mount, if the container's user namespace doesn't own its mount
/// namespace.
pub(super) fn refuse_without_own_mounts(spec: &Spec, linux: &Linux, found: &mut Findings) {
    let Some(user) = find(linux, LinuxNamespaceType::User) else {
        return;
    };
    let joins = |namespace: &LinuxNamespace| namespace.path().is_some();
    let problem = match find(linux, LinuxNamespaceType::Mount) {
        Some(mount) if !joins(mount) || joins(user) => return,
        Some(_) => {
            "in a new user namespace this needs a new mount namespace, but linux.namespaces joins one by path"
        }
        None => "in a user namespace this needs a mount namespace in linux.namespaces",
    };
    let readonly = spec.root().as_ref().and_then(|root| root.readonly());
    let propagation = linux.rootfs_propagation().as_deref().unwrap_or("");
    for (place, asked) in [
        ("root.readonly", readonly == Some(true)),
        ("mounts", is_non_empty_list(spec.mounts().as_ref())),
        ("linux.rootfsPropagation", !propagation.is_empty()),
        // Without a mount of the root, the nodes would be made in the rootfs itself and stay there.
        ("linux.devices", is_non_empty_list(linux.devices().as_ref())),
        (
            "linux.maskedPaths",
            is_non_empty_list(linux.masked_paths().as_ref()),
        ),
        (
            "linux.readonlyPaths",
            is_non_empty_list(linux.readonly_paths().as_ref()),
        ),
    ] {
        if asked {
            found.refuse(place, problem);
        }
    }
}

fn all(linux: &Linux) -> &[LinuxNamespace] {
    linux.namespaces().as_deref().unwrap_or_default()
}

fn is_non_empty_list<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}
