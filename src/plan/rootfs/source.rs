//! The source of a mount: a tree of the host, idmapped or not, or a new file system.
//! `mounts` plans the destination and the attributes.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::Mount;

use super::mounts::MountEntry;
use super::{Idmap, MountSource, NewFilesystem};
use crate::diagnosis::Code;
use crate::error::{Findings, Violation};
use crate::plan::host::Host;
use crate::plan::ids::{self, Mappings, Range, outside_id};
use crate::plan::namespaces::{Namespaces, UserNamespace};
use crate::spec::paths::{clean, has_parent_component, is_root};
use crate::sys::mount::{Attributes, RDONLY};

/// The longest value that fsconfig(2) accepts.
const MAX_VALUE_BYTES: usize = 255;

/// Plans a bind mount. Returns `None` if the entry has no source, which validation refuses.
pub(super) fn plan_bind(
    mount: &Mount,
    bundle: &Path,
    root: &Path,
    recursive: bool,
) -> Option<MountSource> {
    let path = bundle.join(mount.source().as_ref()?);
    Some(match path_below_root(&path, root) {
        Some(path) => MountSource::Inside { path, recursive },
        None => MountSource::Bind { path, recursive },
    })
}

/// Returns the part of a host path that is below the container's root. Symbolic links aren't
/// resolved, so a path with `..` never matches.
pub(super) fn path_below_root(path: &Path, root: &Path) -> Option<PathBuf> {
    if is_root(root) || has_parent_component(path) {
        return None;
    }
    let rest = clean(path).strip_prefix(clean(root)).ok()?.to_owned();
    Some(Path::new("/").join(rest))
}

/// Returns a new cgroup2 mount if the container has its own cgroup namespace, otherwise a bind
/// mount of the host's cgroup2. A new mount from the initial cgroup namespace would change the
/// host's mount options. It would also wait for an RCU grace period (11 ms on Linux 6.18).
pub(super) fn plan_cgroup(host: &Host, namespaces: &Namespaces) -> MountSource {
    if namespaces.contains(CloneFlags::CLONE_NEWCGROUP) {
        MountSource::Filesystem(NewFilesystem {
            kind: c"cgroup2".into(),
            source: Some(c"cgroup".into()),
            options: Vec::new(),
            copies_mode: false,
            copies_up: false,
            label: None,
            ordinary_directory: false,
            stand_in: Some(host.hierarchy.mount.clone()),
        })
    } else {
        MountSource::Bind {
            path: host.hierarchy.mount.clone(),
            recursive: false,
        }
    }
}

/// Returns an attribute for the host's cgroup mount. In a user namespace this mount must be
/// read-only. Otherwise the container could move processes in the cgroups of its owner
/// (CVE-2023-25809).
pub(super) fn cgroup_protection(source: &MountSource, namespaces: &Namespaces) -> u64 {
    let is_hosts = matches!(source, MountSource::Bind { .. });
    if is_hosts && namespaces.user.is_some() {
        RDONLY
    } else {
        0
    }
}

/// Returns an attribute for everything below a read-only bind of the host's /sys. Such a bind
/// replaces a new sysfs if a user namespace can't have one. The cgroups of the container's owner
/// are below /sys (CVE-2023-25809).
pub(super) fn sys_protection(
    source: &MountSource,
    top: &Attributes,
    namespaces: &Namespaces,
) -> u64 {
    let is_sys = matches!(source, MountSource::Bind { path, .. } if path == Path::new("/sys"));
    if is_sys && namespaces.user.is_some() {
        top.set & RDONLY
    } else {
        0
    }
}

/// Returns the path of the host's mount that has the same content as a new mount. proc has no such
/// mount if the container has another pid namespace.
fn host_mount_instead(kind: &str, namespaces: &Namespaces) -> Option<PathBuf> {
    match kind {
        "sysfs" => Some("/sys".into()),
        "mqueue" => Some("/dev/mqueue".into()),
        "proc" if !namespaces.contains(CloneFlags::CLONE_NEWPID) => Some("/proc".into()),
        _ => None,
    }
}

/// True for an owner option (uid= or gid=) whose id isn't mapped in the user namespace of a caller
/// who isn't root. With only one id mapped, for example, there is no group for terminals.
fn is_unmapped_owner(key: &str, value: Option<&String>, namespaces: &Namespaces) -> bool {
    let Some(mappings) = namespaces.user.as_ref().and_then(UserNamespace::mappings) else {
        return false;
    };
    let ranges: &[Range] = match key {
        "gid" => &mappings.gids,
        "uid" => &mappings.uids,
        _ => return false,
    };
    let id = value.and_then(|value| value.parse().ok());
    namespaces.unprivileged && id.is_some_and(|id| outside_id(ranges, id).is_none())
}

/// Returns the options for a devpts that has none in config.json, as in crun. With the kernel's
/// defaults, only root could create a terminal. gid= needs a mapped group.
fn default_devpts_options(namespaces: &Namespaces) -> Vec<(CString, Option<CString>)> {
    const TTY_GID: u32 = 5;
    let group = match &namespaces.user {
        None => true,
        Some(user) => user
            .mappings()
            .is_some_and(|mappings| outside_id(&mappings.gids, TTY_GID).is_some()),
    };
    let usual = [(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
    let usual = usual.into_iter().filter(|(key, _)| group || *key != c"gid");
    let owned = usual.map(|(key, value)| (key.into(), Some(value.into())));
    owned.collect()
}

/// Returns the id mapping that a mount's options and mappings ask for together.
pub(super) fn plan_idmap(
    entry: &MountEntry<'_>,
    namespaces: &Namespaces,
) -> Result<Option<Idmap>, Violation> {
    let (mount, read) = (entry.mount, &entry.options);
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    let refuse = |field: &str, problem: &str| Err(Violation::new(entry.field_path(field), problem));
    let of_option = match &read.mappings {
        None => None,
        Some((at, text)) => {
            let own = namespaces.user.as_ref().and_then(UserNamespace::mappings);
            let read = ids::of_option(text, own)
                .map_err(|problem| Violation::new(entry.option_path(*at), problem))?;
            Some(read)
        }
    };
    match (uids.is_empty(), gids.is_empty(), read.idmap) {
        (true, true, None) => return Ok(None),
        (true, false, _) => return refuse("uidMappings", "missing; it goes with gidMappings"),
        (false, true, _) => return refuse("gidMappings", "missing; it goes with uidMappings"),
        (true, true, Some(_)) if namespaces.user.is_none() && of_option.is_none() => {
            let problem = "idmap requires mappings of the mount, or a user namespace with mappings";
            let refused = Violation::new(entry.field_path("options"), problem);
            return Err(refused.coded(Code::UserNamespaceNeeded));
        }
        _ if namespaces.unprivileged => {
            return refuse(
                "options",
                "an idmapped mount requires root's privileges, which the caller lacks",
            );
        }
        _ => {}
    }
    if entry.bind.is_none() {
        return refuse("options", "only bind mounts can be idmapped");
    }
    let configured = (!uids.is_empty()).then(|| Mappings::new(uids, gids));
    let mappings = of_option.or(configured);
    Ok(Some(Idmap {
        recursive: read.idmap.unwrap_or(false),
        mappings,
    }))
}

/// True for a type whose mounts all show the host's file system.
pub(super) fn is_hosts_filesystem(kind: &str) -> bool {
    const HOST_FILESYSTEM_TYPES: [&str; 9] = [
        "configfs",
        "debugfs",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "pstore",
        "securityfs",
        "selinuxfs",
        "tracefs",
    ];
    HOST_FILESYSTEM_TYPES.contains(&kind)
}

/// Plans a new file system. Returns `None` only if something is refused.
pub(super) fn plan_filesystem(
    entry: &MountEntry<'_>,
    namespaces: &Namespaces,
    findings: &mut Findings,
) -> Option<MountSource> {
    let (kind, read) = (entry.mount_type(), &entry.options);
    let refused = findings.refused_count();
    let mut options = Vec::with_capacity(read.data.len());
    for (key, value) in &read.data {
        if is_unmapped_owner(key, value.as_ref(), namespaces) {
            let value = value.as_deref().unwrap_or_default();
            let problem = format!("{key}={value} is left out: the user namespace doesn't map it");
            findings.warn(entry.field_path("options"), problem);
        } else if is_hosts_filesystem(kind) {
            let problem = format!("{key} is left out: a {kind} is the host's own");
            findings.warn(entry.field_path("options"), problem);
        } else {
            match fsconfig_option(key, value.as_deref()) {
                Ok(option) => options.push(option),
                Err(problem) => findings.refuse(entry.field_path("options"), problem),
            }
        }
    }
    if findings.refused_count() > refused {
        return None;
    }
    if kind == "devpts" && read.data.is_empty() {
        options.extend(default_devpts_options(namespaces));
    }
    let source = entry.mount.source().as_ref();
    let source = source.filter(|source| !source.as_os_str().is_empty());
    Some(MountSource::Filesystem(NewFilesystem {
        kind: CString::new(kind).ok()?,
        source: source
            .map(|source| CString::new(source.as_os_str().as_bytes()))
            .transpose()
            .ok()?,
        copies_mode: kind == "tmpfs" && !read.data.iter().any(|(key, _)| key == "mode"),
        copies_up: read.copy_up.is_some(),
        label: None,
        ordinary_directory: matches!(kind, "proc" | "sysfs"),
        stand_in: host_mount_instead(kind, namespaces),
        options,
    }))
}

/// Returns a key and its value for fsconfig(2).
fn fsconfig_option(key: &str, value: Option<&str>) -> Result<(CString, Option<CString>), String> {
    if let Some(value) = value.filter(|value| value.len() > MAX_VALUE_BYTES) {
        return Err(format!(
            "the value of {key} has {} bytes; fsconfig takes at most {MAX_VALUE_BYTES}",
            value.len()
        ));
    }
    let c_string = |text: &str| CString::new(text).map_err(|_| "contains a NUL".to_owned());
    Ok((c_string(key)?, value.map(c_string).transpose()?))
}
