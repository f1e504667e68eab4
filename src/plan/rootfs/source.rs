//! What a single mount shows: a tree of the host, mapped or not, or a new file system.
//! Where it goes and with which attributes is planned above.

use std::ffi::CString;
use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::Mount;

use super::{Filesystem, Idmap, Source};
use crate::error::Violation;
use crate::plan::host::Host;
use crate::plan::ids::Mappings;
use crate::plan::mount_options::Options as MountOptions;
use crate::plan::namespaces::Namespaces;

/// The longest value that fsconfig(2) takes.
const LONGEST_VALUE: usize = 255;

pub(super) fn bind(
    index: usize,
    mount: &Mount,
    bundle: &Path,
    recursive: bool,
) -> Result<Source, Violation> {
    match mount.source() {
        Some(source) if !source.as_os_str().is_empty() => Ok(Source::Bind {
            path: bundle.join(source),
            recursive,
        }),
        _ => Err(Violation::new(
            format!("mounts[{index}].source"),
            "missing; a bind mount needs one",
        )),
    }
}

/// A fresh cgroup2 mount in a cgroup namespace of the container's own; else the host's mount, bound: a fresh one from the
/// initial cgroup namespace would change the options of the host's, and waits for an RCU grace period (11 ms on Linux 6.18).
pub(super) fn cgroup(host: &Host, namespaces: &Namespaces) -> Source {
    if namespaces.contains(CloneFlags::CLONE_NEWCGROUP) {
        Source::Filesystem(Filesystem {
            kind: c"cgroup2".into(),
            source: Some(c"cgroup".into()),
            options: Vec::new(),
            copies_mode: false,
            copies_up: false,
            ordinary_directory: false,
        })
    } else {
        Source::Bind {
            path: host.hierarchy.mount.clone(),
            recursive: false,
        }
    }
}

/// What root of a user namespace may not mount because it doesn't own the namespace that it shows: the host's, bound.
pub(super) fn stand_in(kind: &str, namespaces: &Namespaces) -> Option<Source> {
    let (path, owner) = match kind {
        "sysfs" => ("/sys", CloneFlags::CLONE_NEWNET),
        "mqueue" => ("/dev/mqueue", CloneFlags::CLONE_NEWIPC),
        _ => return None,
    };
    let foreign = namespaces.user.is_some() && !namespaces.new.contains(owner);
    foreign.then(|| Source::Bind {
        path: path.into(),
        recursive: true,
    })
}

/// What options and mappings of a mount ask for together.
pub(super) fn idmap(
    index: usize,
    mount: &Mount,
    read: &MountOptions,
    namespaces: &Namespaces,
) -> Result<Option<Idmap>, Violation> {
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    let refuse = |field: &str, problem: &str| {
        Err(Violation::new(format!("mounts[{index}].{field}"), problem))
    };
    match (uids.is_empty(), gids.is_empty(), read.idmap) {
        (true, true, None) => return Ok(None),
        (true, false, _) => return refuse("uidMappings", "missing; it goes with gidMappings"),
        (false, true, _) => return refuse("gidMappings", "missing; it goes with uidMappings"),
        (true, true, Some(_)) if namespaces.user.is_none() => {
            return refuse(
                "options",
                "idmap needs mappings of the mount, or a user namespace whose mappings it takes",
            );
        }
        _ => {}
    }
    if read.bind.is_none() && mount.typ().as_deref() != Some("bind") {
        return refuse("options", "only bind mounts can be idmapped");
    }
    let mappings = (!uids.is_empty()).then(|| Mappings::new(uids, gids));
    Ok(Some(Idmap {
        recursive: read.idmap.unwrap_or(false),
        mappings,
    }))
}

pub(super) fn filesystem(
    index: usize,
    kind: &str,
    mount: &Mount,
    read: &MountOptions,
) -> Result<Source, Violation> {
    let place = || format!("mounts[{index}].options");
    let c_string =
        |text: &str| CString::new(text).map_err(|_| Violation::new(place(), "holds a NUL byte"));
    let mut options = Vec::with_capacity(read.data.len());
    for (key, value) in &read.data {
        if let Some(value) = value.as_ref().filter(|v| v.len() > LONGEST_VALUE) {
            let problem = format!(
                "the value of {key} has {} bytes; fsconfig takes at most {LONGEST_VALUE}",
                value.len()
            );
            return Err(Violation::new(place(), problem));
        }
        options.push((c_string(key)?, value.as_deref().map(c_string).transpose()?));
    }
    let source = mount
        .source()
        .as_ref()
        .map(|s| s.to_string_lossy().into_owned())
        .filter(|s| !s.is_empty());
    Ok(Source::Filesystem(Filesystem {
        kind: CString::new(kind)
            .map_err(|_| Violation::new(format!("mounts[{index}].type"), "holds a NUL byte"))?,
        source: source.as_deref().map(c_string).transpose()?,
        copies_mode: kind == "tmpfs" && !read.data.iter().any(|(key, _)| key == "mode"),
        copies_up: read.copy_up.is_some(),
        ordinary_directory: matches!(kind, "proc" | "sysfs"),
        options,
    }))
}
