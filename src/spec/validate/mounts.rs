//! Rules of mounts: where they may go and what they must say.
//! Not their options, and not where links inside the rootfs lead: the child resolves the real target.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::{absolute, cleaned, path, quoted};
use crate::error::Violation;

/// Files below /proc that lxcfs and the like stand in for.
///
/// Anything else there could take the place of a file that the runtime writes (CVE-2019-16884).
const PROC_FILES: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "uptime",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Checks all entries of mounts.
pub(super) fn check(mounts: &[Mount], found: &mut Vec<Violation>) {
    for (index, mount) in mounts.iter().enumerate() {
        let place = format!("mounts[{index}]");
        source(mount, &place, found);
        let before = found.len();
        let at = format!("{place}.destination");
        absolute(&at, mount.destination(), found);
        if found.len() == before
            && let Some(problem) = forbidden(mount, mount.destination())
        {
            found.push(Violation::new(at, problem));
        }
    }
}

fn source(mount: &Mount, place: &str, found: &mut Vec<Violation>) {
    let kind = mount.typ().as_deref().unwrap_or("");
    if kind.contains('\0') {
        found.push(Violation::new(format!("{place}.type"), "holds a NUL"));
    }
    let at = format!("{place}.source");
    match mount.source() {
        Some(source) if is_bind(mount) => path(&at, source, found),
        // A name that only shows in mountinfo; it may be empty.
        Some(source) if source.to_string_lossy().contains('\0') => {
            found.push(Violation::new(at, "holds a NUL"));
        }
        Some(_) => {}
        None if is_bind(mount) => found.push(Violation::new(at, "is missing, for a bind mount")),
        None => {}
    }
    if kind.is_empty() && !is_bind(mount) {
        let problem = "is missing (only a bind mount can do without)";
        found.push(Violation::new(format!("{place}.type"), problem));
    }
}

/// Why this may not be mounted at a destination that is a proper path.
pub(crate) fn forbidden(mount: &Mount, destination: &Path) -> Option<String> {
    let destination = destination.to_string_lossy();
    let names = cleaned(&destination);
    match names.as_slice() {
        [] => Some("is the root itself (root.path says what is mounted there)".into()),
        ["proc"] => (!is_proc(mount)).then(|| {
            format!(
                "only a proc mount or a bind mount of /proc can be at {}",
                quoted(&destination)
            )
        }),
        ["proc", below @ ..] => (!PROC_FILES.contains(&below.join("/").as_str()))
            .then(|| format!("{} is inside /proc", quoted(&destination))),
        _ => None,
    }
}

/// True for a destination at which a mount may find a procfs.
pub(crate) fn may_find_procfs(destination: &Path) -> bool {
    match cleaned(&destination.to_string_lossy()).as_slice() {
        ["proc"] => true,
        ["proc", below @ ..] => PROC_FILES.contains(&below.join("/").as_str()),
        _ => false,
    }
}

fn is_proc(mount: &Mount) -> bool {
    if is_bind(mount) {
        return mount.source().as_deref() == Some(Path::new("/proc"));
    }
    mount.typ().as_deref() == Some("proc")
}

/// config.md: it is one by its options; many writers say it by the type.
fn is_bind(mount: &Mount) -> bool {
    let mut options = mount.options().iter().flatten();
    matches!(mount.typ().as_deref(), Some("bind" | "rbind"))
        || options.any(|option| matches!(option.as_str(), "bind" | "rbind"))
}
