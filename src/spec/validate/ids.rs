//! Rules of id mappings, and of a process's ids in a user namespace.

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};

use super::namespaces;
use crate::diagnosis::Code;
use crate::error::Findings;

/// The kernel's limit of mappings in a list: UID_GID_MAP_MAX_EXTENTS.
const MAX_MAPPINGS: usize = 340;

/// Checks linux.uidMappings and linux.gidMappings, and that they map the process's ids.
pub(super) fn check(spec: &Spec, linux: &Linux, found: &mut Findings) {
    let lists = [
        ("linux.uidMappings", linux.uid_mappings()),
        ("linux.gidMappings", linux.gid_mappings()),
    ];
    for (place, list) in lists {
        check_mappings(place, list.as_deref().unwrap_or_default(), found);
    }
    let namespace = namespaces::find(linux, LinuxNamespaceType::User);
    let joins = namespace.is_some_and(|namespace| namespace.path().is_some());
    let is_mapped = lists
        .iter()
        .any(|(_, list)| list.as_ref().is_some_and(|list| !list.is_empty()));
    for (place, list) in lists {
        let list = list.as_deref().unwrap_or_default();
        let problem = match namespace {
            None if !list.is_empty() => {
                let problem = "needs a user namespace in linux.namespaces";
                found.refuse_as(Code::UserNamespaceNeeded, place, problem);
                continue;
            }
            // Engines repeat the mappings of the joined namespace. They are compared with the
            // namespace's own mappings when the namespace is joined.
            Some(_) if joins && list.is_empty() && is_mapped => {
                "is missing; for a joined user namespace, give both lists of mappings or none"
            }
            Some(_) if !joins && list.is_empty() => {
                "is missing; a new user namespace needs mappings"
            }
            _ => continue,
        };
        found.refuse(place, problem);
    }
    if namespace.is_none() || joins {
        return;
    }
    check_process_ids(spec, linux, found);
}

/// Checks that the process's ids are mapped.
fn check_process_ids(spec: &Spec, linux: &Linux, found: &mut Findings) {
    let Some(user) = spec.process().as_ref().map(|process| process.user()) else {
        return;
    };
    let (uids, gids) = (
        linux.uid_mappings().as_deref(),
        linux.gid_mappings().as_deref(),
    );
    let mut mapped = |place: String, list: Option<&[LinuxIdMapping]>, id: u32, name: &str| {
        if list.is_some_and(|list| !list.is_empty() && !maps_id(list, id)) {
            let problem = format!("{id} has no mapping in {name}");
            found.refuse_as(Code::UnmappedId, place, problem);
        }
    };
    mapped(
        "process.user.uid".into(),
        uids,
        user.uid(),
        "linux.uidMappings",
    );
    mapped(
        "process.user.gid".into(),
        gids,
        user.gid(),
        "linux.gidMappings",
    );
    for (index, gid) in user.additional_gids().iter().flatten().enumerate() {
        mapped(
            format!("process.user.additionalGids[{index}]"),
            gids,
            *gid,
            "linux.gidMappings",
        );
    }
}

/// Checks one list of mappings.
pub(super) fn check_mappings(place: &str, list: &[LinuxIdMapping], found: &mut Findings) {
    if list.len() > MAX_MAPPINGS {
        found.refuse(
            place,
            format!("{} mappings; the kernel takes {MAX_MAPPINGS}", list.len()),
        );
    }
    for (index, mapping) in list.iter().enumerate() {
        let mut refuse = |problem: String| found.refuse(format!("{place}[{index}]"), problem);
        let fits = |first: u32| first.checked_add(mapping.size()).is_some();
        if mapping.size() == 0 {
            refuse("size is 0".into());
        } else if !fits(mapping.container_id()) || !fits(mapping.host_id()) {
            refuse("goes beyond the largest id".into());
        }
        let overlaps = |other: &LinuxIdMapping| {
            ranges_overlap(
                mapping.container_id(),
                other.container_id(),
                mapping.size(),
                other.size(),
            ) || ranges_overlap(
                mapping.host_id(),
                other.host_id(),
                mapping.size(),
                other.size(),
            )
        };
        if let Some(first) = list.iter().take(index).position(overlaps) {
            refuse(format!("overlaps {place}[{first}]"));
        }
    }
}

fn ranges_overlap(a: u32, b: u32, a_size: u32, b_size: u32) -> bool {
    a < b.saturating_add(b_size) && b < a.saturating_add(a_size)
}

fn maps_id(list: &[LinuxIdMapping], id: u32) -> bool {
    list.iter().any(|m| {
        id.checked_sub(m.container_id())
            .is_some_and(|offset| offset < m.size())
    })
}
