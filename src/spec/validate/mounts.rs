//! Rules of mounts: destinations, sources and types.
//! `plan` checks options. The child resolves links in the rootfs.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::{check_absolute, check_path, quote_value};
use crate::error::Findings;
use crate::spec::paths::clean;

/// The files below /proc that lxcfs and similar tools replace.
///
/// Mounts on other files below /proc are refused, because such a mount could replace a file that
/// the runtime writes (CVE-2019-16884).
const MOUNTABLE_PROC_FILES: &[&str] = &[
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
pub(in crate::spec) fn check(mounts: &[Mount], found: &mut Findings) {
    for (index, mount) in mounts.iter().enumerate() {
        let place = format!("mounts[{index}]");
        check_source(mount, &place, found);
        let before = found.refused_count();
        let at = format!("{place}.destination");
        check_absolute(&at, mount.destination(), found);
        if found.refused_count() == before
            && let Some(problem) = reason_if_forbidden(mount, mount.destination())
        {
            found.refuse(at, problem);
        }
    }
}

fn check_source(mount: &Mount, place: &str, found: &mut Findings) {
    let kind = mount.typ().as_deref().unwrap_or("");
    if kind.contains('\0') {
        found.refuse(format!("{place}.type"), "contains a NUL");
    }
    let at = format!("{place}.source");
    match mount.source() {
        Some(source) if bind_recursion(mount).is_some() => check_path(&at, source, found),
        // If the mount isn't a bind mount, its source is only the name that mountinfo shows. The
        // name may be empty.
        Some(source) if source.to_string_lossy().contains('\0') => {
            found.refuse(at, "contains a NUL");
        }
        Some(_) => {}
        None if bind_recursion(mount).is_some() => found.refuse(at, "is missing, for a bind mount"),
        None => {}
    }
    if kind.is_empty() && bind_recursion(mount).is_none() {
        let problem = "is missing (only a bind mount can do without)";
        found.refuse(format!("{place}.type"), problem);
    }
}

/// Returns the reason why the mount is forbidden at the destination, or `None` if it is allowed.
pub(crate) fn reason_if_forbidden(mount: &Mount, destination: &Path) -> Option<String> {
    match PlaceInProc::of(destination) {
        PlaceInProc::Root => {
            Some("is the root itself (root.path says what is mounted there)".into())
        }
        PlaceInProc::Proc if !is_proc_mount(mount) => Some(format!(
            "only a proc mount or a bind mount of /proc can be at {}",
            quote_value(&destination.to_string_lossy())
        )),
        PlaceInProc::InProc => Some(format!(
            "{} is inside /proc",
            quote_value(&destination.to_string_lossy())
        )),
        PlaceInProc::Proc | PlaceInProc::ProcFile | PlaceInProc::Elsewhere => None,
    }
}

/// True if a procfs may be mounted at or around the destination.
pub(crate) fn may_find_procfs(destination: &Path) -> bool {
    matches!(
        PlaceInProc::of(destination),
        PlaceInProc::Proc | PlaceInProc::ProcFile
    )
}

/// Where a destination lies relative to /proc.
enum PlaceInProc {
    Root,
    Proc,
    /// One of `MOUNTABLE_PROC_FILES`.
    ProcFile,
    InProc,
    Elsewhere,
}

impl PlaceInProc {
    fn of(destination: &Path) -> PlaceInProc {
        let clean = clean(destination);
        if clean == Path::new("/") {
            return PlaceInProc::Root;
        }
        match clean.strip_prefix("/proc") {
            Err(_) => PlaceInProc::Elsewhere,
            Ok(below) if below.as_os_str().is_empty() => PlaceInProc::Proc,
            Ok(below)
                if MOUNTABLE_PROC_FILES
                    .iter()
                    .any(|file| below == Path::new(file)) =>
            {
                PlaceInProc::ProcFile
            }
            Ok(_) => PlaceInProc::InProc,
        }
    }
}

fn is_proc_mount(mount: &Mount) -> bool {
    if bind_recursion(mount).is_some() {
        return mount.source().as_deref() == Some(Path::new("/proc"));
    }
    mount.typ().as_deref() == Some("proc")
}

/// Returns `Some(true)` for a recursive bind mount, and `Some(false)` for any other bind mount.
/// According to config.md, an option requests a bind mount, but many engines set the type instead.
/// podman sets both bind and rbind.
pub(crate) fn bind_recursion(mount: &Mount) -> Option<bool> {
    let words = || mount.options().iter().flatten().map(String::as_str);
    let has = |word: &str| words().chain(mount.typ().as_deref()).any(|one| one == word);
    match (has("rbind"), has("bind")) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}
