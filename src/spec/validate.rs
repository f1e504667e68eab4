//! Checks the rules that need only the Spec. Finds all violations before any change is made.
//! Mount options, linux.resources and linux.cgroupsPath are checked by the modules that translate
//! them.

mod devices;
mod hooks;
mod ids;
mod mounts;
mod namespaces;
mod process;
mod scheduling;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::paths::is_root;
use crate::diagnosis::Code;
use crate::error::{Findings, Violation};

pub(super) use mounts::check as check_mounts;
pub(crate) use mounts::{bind_recursion, may_find_procfs, reason_if_forbidden};
pub(crate) use process::check_process;

/// The longest host or domain name: __NEW_UTS_LEN.
const MAX_UTS_NAME_BYTES: usize = 64;

/// The largest number of characters of a value that messages quote.
const MAX_QUOTE_CHARS: usize = 80;

/// Checks a whole configuration, in the order of the file's sections.
pub(crate) fn validate_spec(spec: &Spec) -> Vec<Violation> {
    let mut found = Findings::default();
    check_sections(spec, &mut found);
    found.into_refused()
}

fn check_sections(spec: &Spec, found: &mut Findings) {
    check_root(spec, found);
    // A container without a process can be created but not started.
    if let Some(process) = spec.process() {
        found.refuse_all(self::check_process(process, "process"));
    }
    mounts::check(spec.mounts().as_deref().unwrap_or_default(), found);
    hooks::check(spec, found);
    check_annotations(spec, found);
    let Some(linux) = spec.linux() else {
        found.refuse_as(Code::MissingField, "linux", "is missing");
        return;
    };
    let has = |kind| namespaces::has(linux, kind);
    for (place, name) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            check_uts_name(place, name, has(LinuxNamespaceType::Uts), found);
        }
    }
    namespaces::check(linux, found);
    namespaces::check_time_offsets(linux, found);
    ids::check(spec, linux, found);
    namespaces::refuse_without_own_mounts(spec, linux, found);
    devices::check(linux.devices().as_deref().unwrap_or_default(), found);
    check_path_lists(linux, found);
    if let Some(policy) = linux.memory_policy() {
        scheduling::check_memory_policy(policy, found);
    }
    if let Some(sysctl) = linux.sysctl() {
        let said = spec.domainname().as_deref().filter(|name| !name.is_empty());
        found.refuse_all(super::sysctl::check(sysctl, has, said));
    }
}

fn check_root(spec: &Spec, found: &mut Findings) {
    match spec.root() {
        None => found.refuse_as(Code::MissingField, "root", "is missing"),
        Some(root) => check_path("root.path", root.path(), found),
    }
}

fn check_uts_name(place: &str, name: &str, has_uts: bool, found: &mut Findings) {
    if !has_uts {
        let problem = "needs a uts namespace in linux.namespaces";
        found.refuse(place, problem);
    }
    if name.len() > MAX_UTS_NAME_BYTES {
        let problem = format!("is longer than {MAX_UTS_NAME_BYTES} bytes");
        found.refuse(place, problem);
    }
    if name.contains(char::is_control) {
        found.refuse(place, "contains a control character");
    }
}

fn check_annotations(spec: &Spec, found: &mut Findings) {
    for key in spec.annotations().iter().flat_map(|map| map.keys()) {
        if key.is_empty() {
            found.refuse("annotations", "contains an empty key");
        } else if key.contains('\0') {
            let problem = format!("the key {} contains a NUL", quote_value(key));
            found.refuse("annotations", problem);
        }
    }
}

fn check_path_lists(linux: &Linux, found: &mut Findings) {
    if let Some(word) = linux.rootfs_propagation()
        && !word.is_empty()
        && super::propagation::parse(word).is_none()
    {
        let problem = format!(
            "unknown propagation {} (expected one of shared, slave, private, unbindable, or one of them with r in front)",
            quote_value(word)
        );
        found.refuse("linux.rootfsPropagation", problem);
    }
    for (field, paths) in [
        ("maskedPaths", linux.masked_paths()),
        ("readonlyPaths", linux.readonly_paths()),
    ] {
        for (index, path) in paths.iter().flatten().enumerate() {
            let place = format!("linux.{field}[{index}]");
            let before = found.refused_count();
            check_absolute(&place, Path::new(path), found);
            if found.refused_count() == before && is_root(Path::new(path)) {
                let problem = "is the root itself (root.readonly makes that read-only)";
                found.refuse(place, problem);
            }
        }
    }
}

/// Checks that a path isn't empty and that the kernel accepts it.
fn check_path(place: &str, path: &Path, found: &mut Findings) {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        found.refuse(place, "is empty");
    } else if bytes.contains(&0) {
        found.refuse(place, "contains a NUL");
    } else if bytes.len() > 4095 {
        found.refuse(place, "is longer than 4095 bytes");
    }
}

/// Checks that a path is absolute, in addition to the checks of `check_path`.
pub(super) fn check_absolute(place: &str, value: &Path, found: &mut Findings) {
    let before = found.refused_count();
    check_path(place, value, found);
    if found.refused_count() == before && !value.is_absolute() {
        let problem = format!(
            "{} is not an absolute path",
            quote_value(&value.to_string_lossy())
        );
        found.refuse(place, problem);
    }
}

/// Quotes a value for a message: escaped and shortened.
pub(super) fn quote_value(value: &str) -> String {
    match value.char_indices().nth(MAX_QUOTE_CHARS) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}...", value.get(..end).unwrap_or("")),
    }
}

#[cfg(test)]
mod tests;
