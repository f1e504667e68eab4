//! Every rule that needs only the Spec; all violations at once, before anything is touched.
//! Not mount options, linux.resources and linux.cgroupsPath: the modules that translate them say what is wrong with them.

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
use crate::error::Violation;

pub(crate) use mounts::{bind, forbidden, may_find_procfs};
pub(crate) use process::process;

/// The longest host or domain name: __NEW_UTS_LEN.
const LONGEST_NAME: usize = 64;

/// More than this of a value isn't repeated in a message.
const LONGEST_QUOTE: usize = 80;

/// Checks a whole configuration, in the order of the file's sections.
pub(crate) fn spec(spec: &Spec) -> Vec<Violation> {
    let mut found = Vec::new();
    root(spec, &mut found);
    // Without a process a container can be created, though not started.
    if let Some(process) = spec.process() {
        found.extend(self::process(process, "process"));
    }
    mounts::check(spec.mounts().as_deref().unwrap_or_default(), &mut found);
    hooks::check(spec, &mut found);
    annotations(spec, &mut found);
    let Some(linux) = spec.linux() else {
        found.push(Violation::new("linux", "is missing"));
        return found;
    };
    let has = |kind| namespaces::has(linux, kind);
    for (place, name) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            uts_name(place, name, has(LinuxNamespaceType::Uts), &mut found);
        }
    }
    namespaces::check(linux, &mut found);
    namespaces::time_offsets(linux, &mut found);
    ids::check(spec, linux, &mut found);
    namespaces::without_own_mounts(spec, linux, &mut found);
    devices::check(linux.devices().as_deref().unwrap_or_default(), &mut found);
    paths(linux, &mut found);
    if let Some(policy) = linux.memory_policy() {
        scheduling::memory_policy(policy, &mut found);
    }
    if let Some(sysctl) = linux.sysctl() {
        let said = spec.domainname().as_deref().filter(|name| !name.is_empty());
        found.extend(super::sysctl::check(sysctl, has, said));
    }
    found
}

fn root(spec: &Spec, found: &mut Vec<Violation>) {
    match spec.root() {
        None => found.push(Violation::new("root", "is missing")),
        Some(root) => path("root.path", root.path(), found),
    }
}

fn uts_name(place: &str, name: &str, has_uts: bool, found: &mut Vec<Violation>) {
    if !has_uts {
        let problem = "needs a uts namespace in linux.namespaces";
        found.push(Violation::new(place, problem));
    }
    if name.len() > LONGEST_NAME {
        let problem = format!("is longer than {LONGEST_NAME} bytes");
        found.push(Violation::new(place, problem));
    }
    if name.contains(char::is_control) {
        found.push(Violation::new(place, "holds a control character"));
    }
}

fn annotations(spec: &Spec, found: &mut Vec<Violation>) {
    for key in spec.annotations().iter().flat_map(|map| map.keys()) {
        if key.is_empty() {
            found.push(Violation::new("annotations", "holds an empty key"));
        } else if key.contains('\0') {
            let problem = format!("the key {} holds a NUL", quoted(key));
            found.push(Violation::new("annotations", problem));
        }
    }
}

fn paths(linux: &Linux, found: &mut Vec<Violation>) {
    if let Some(word) = linux.rootfs_propagation()
        && !word.is_empty()
        && super::propagation::parse(word).is_none()
    {
        let problem = format!(
            "unknown propagation {} (expected one of shared, slave, private, unbindable, or one of them with r in front)",
            quoted(word)
        );
        found.push(Violation::new("linux.rootfsPropagation", problem));
    }
    for (field, paths) in [
        ("maskedPaths", linux.masked_paths()),
        ("readonlyPaths", linux.readonly_paths()),
    ] {
        for (index, path) in paths.iter().flatten().enumerate() {
            let place = format!("linux.{field}[{index}]");
            let before = found.len();
            absolute(&place, Path::new(path), found);
            if found.len() == before && is_root(Path::new(path)) {
                let problem = "is the root itself (root.readonly makes that read-only)";
                found.push(Violation::new(place, problem));
            }
        }
    }
}

/// A path that is there and that the kernel can take.
fn path(place: &str, path: &Path, found: &mut Vec<Violation>) {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        found.push(Violation::new(place, "is empty"));
    } else if bytes.contains(&0) {
        found.push(Violation::new(place, "holds a NUL"));
    } else if bytes.len() > 4095 {
        found.push(Violation::new(place, "is longer than 4095 bytes"));
    }
}

/// A path as above that starts with a slash as well.
fn absolute(place: &str, value: &Path, found: &mut Vec<Violation>) {
    let before = found.len();
    path(place, value, found);
    if found.len() == before && !value.is_absolute() {
        let problem = format!(
            "{} is not an absolute path",
            quoted(&value.to_string_lossy())
        );
        found.push(Violation::new(place, problem));
    }
}

/// A value for a message: in quotes, escaped, and not longer than a line can bear.
pub(super) fn quoted(value: &str) -> String {
    match value.char_indices().nth(LONGEST_QUOTE) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}...", value.get(..end).unwrap_or("")),
    }
}

#[cfg(test)]
mod tests;
