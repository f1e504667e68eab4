//! The plan: every decision about a container, made from its config.json before anything is touched.
//! Pure: nothing here changes the system, and after it nobody reads the spec (but for what `state` keeps).

pub(crate) mod caps;
pub(crate) mod devices;
pub(crate) mod host;
pub(crate) mod ids;
pub(crate) mod mount_options;
pub(crate) mod namespaces;
pub(crate) mod process;
pub(crate) mod rootfs;
pub(crate) mod route;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod seccomp_arch;
pub(crate) mod words;

use std::ffi::CString;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use crate::error::Violation;
use crate::hooks::Hooks;
use crate::intel_rdt::{self, Rdt};
use crate::net_devices::{self, NetDevice};
use crate::origin::config;
use crate::sys::mount;
use caps::Available;
use host::Host;
use route::Route;
use words::Words;

/// All that the child does, in the order in which it does it.
pub(crate) struct Plan {
    pub(crate) namespaces: namespaces::Namespaces,
    /// The way into them.
    pub(crate) route: route::Route,
    /// The session keyring to make; `None` with --no-new-keyring.
    pub(crate) keyring: Option<CString>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) rootfs: rootfs::Rootfs,
    /// Device nodes; empty where /dev comes from outside.
    pub(crate) devices: Vec<devices::Node>,
    /// True if the symbolic links of /dev are to be made.
    pub(crate) device_links: bool,
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) rdt: Option<Rdt>,
    pub(crate) process: process::Process,
    /// How many descriptors from 3 up the container's process inherits.
    pub(crate) preserve_fds: u32,
    pub(crate) hooks: Hooks,
    /// The host's user who gets the container's cgroup, to make cgroups below it: that of its process.
    pub(crate) cgroup_owner: Option<u32>,
}

/// One kernel parameter.
pub(crate) struct Sysctl {
    /// The key as config.json has it.
    pub(crate) key: String,
    /// Its file below the root of procfs.
    pub(crate) file: CString,
    pub(crate) value: String,
}

/// What the command line adds to config.json.
pub(crate) struct Options<'a> {
    pub(crate) id: &'a str,
    /// Absolute.
    pub(crate) bundle: &'a Path,
    /// True if the child is moved into its cgroup, which systemd makes around it.
    pub(crate) waits_for_cgroup: bool,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// Sockets passed on as by systemd, counted from descriptor 3.
    pub(crate) listen_fds: u32,
    /// Further descriptors passed on.
    pub(crate) preserve_fds: u32,
}

impl Plan {
    /// Plans the first process of a container; all that is wrong is said at once.
    pub(crate) fn for_init(
        spec: &Spec,
        host: &Host,
        options: &Options<'_>,
    ) -> Result<Plan, Vec<Violation>> {
        let mut violations = Vec::new();
        let namespaces = namespaces::plan(spec, host);
        if namespaces.unprivileged && namespaces.user.is_none() {
            let problem = format!(
                "a user namespace is missing, without which a caller who isn't root (uid {}) may make no container",
                host.euid
            );
            violations.push(Violation::new("linux.namespaces", problem));
        }
        let rootfs =
            rootfs::plan(spec, host, options, &namespaces).map_err(|v| violations.extend(v));
        let nothing;
        let process = match spec.process() {
            Some(process) => process,
            None => {
                nothing = process::nothing();
                &nothing
            }
        };
        let available = match namespaces.user {
            Some(_) => Available::ALL,
            None => host.caps,
        };
        let process = process::plan(
            process,
            spec.linux().as_ref(),
            &Words::of(process, options.listen_fds),
        )
        .map(|process| process.with_annotations(spec))
        .map(|process| process.granted(available))
        .map_err(|v| violations.extend(v));
        if let Ok(process) = &process
            && namespaces.is_born_last()
            && !process.is_born_filtered()
            && process
                .seccomp
                .as_ref()
                .is_some_and(|filter| filter.listener.is_some())
        {
            let problem = "SCMP_ACT_NOTIFY in a pid namespace that is joined takes a profile that allows clone, and what else starts a process";
            violations.push(Violation::new("linux.seccomp", problem));
        }
        let linux = spec.linux().as_ref();
        let net_devices = linux.map(|linux| net_devices::plan(linux, namespaces.unprivileged));
        let net_devices = net_devices
            .transpose()
            .map_err(|found| violations.extend(found));
        let rdt = linux.map(|linux| intel_rdt::plan(linux, options.id));
        let rdt = rdt.transpose().map_err(|found| violations.extend(found));
        let own_dev = rootfs
            .as_ref()
            .is_ok_and(|rootfs| rootfs.entry != rootfs::Entry::Chroot && !rootfs.has_foreign_dev());
        let devices = if own_dev {
            devices::plan(spec)
        } else {
            Vec::new()
        };
        match (rootfs, process, net_devices, rdt) {
            (Ok(rootfs), Ok(process), Ok(net_devices), Ok(rdt)) if violations.is_empty() => {
                Ok(Plan {
                    cgroup_owner: cgroup_owner(&namespaces, &rootfs, &process),
                    route: Route::for_init(&namespaces, host, options.waits_for_cgroup),
                    namespaces,
                    keyring: if options.no_new_keyring {
                        None
                    } else {
                        keyring_name(options.id)
                    },
                    hostname: named(spec.hostname().as_ref()),
                    domainname: named(spec.domainname().as_ref()),
                    rootfs,
                    devices,
                    device_links: own_dev,
                    sysctls: sysctls(spec),
                    net_devices: net_devices.unwrap_or_default(),
                    rdt: rdt.flatten(),
                    process,
                    preserve_fds: options.listen_fds + options.preserve_fds,
                    hooks: Hooks::of(spec),
                })
            }
            _ => Err(violations),
        }
    }

    /// The root file system's path on the host.
    pub(crate) fn root_path(&self) -> &Path {
        &self.rootfs.path
    }

    /// True if the parent attaches the root in the child's mount namespace, false if the child does: root of a user namespace may be
    /// unable to search the path, which a caller who isn't root shares with it.
    pub(crate) fn parent_attaches_root(&self) -> bool {
        self.namespaces.user.is_some()
            && !self.namespaces.unprivileged
            && self.rootfs.entry != rootfs::Entry::Chroot
    }

    /// `mount the root file system at /r (config.json: root.path)`
    pub(crate) fn attaching_root(&self) -> String {
        let path = self.root_path().display();
        config("root.path").asks_to(format!("mount the root file system at {path}"))
    }

    /// `open the root file system /r (config.json: root.path)`
    pub(crate) fn opening_root(&self) -> String {
        let path = self.root_path().display();
        config("root.path").asks_to(format!("open the root file system {path}"))
    }
}

/// `_ses.ID` as runc names it, so that tools find it.
pub(crate) fn keyring_name(id: &str) -> Option<CString> {
    CString::new(format!("_ses.{id}")).ok()
}

/// As in runc: with a cgroup namespace of its own and a writable mount of it, the container keeps its own cgroups. A caller who
/// isn't root has nobody to give them to.
fn cgroup_owner(
    namespaces: &namespaces::Namespaces,
    rootfs: &rootfs::Rootfs,
    process: &process::Process,
) -> Option<u32> {
    let is_writable = |op: &rootfs::MountOp| {
        matches!(&op.source, rootfs::Source::Filesystem(made) if made.kind.as_c_str() == c"cgroup2")
            && (op.top.set | op.recursive.set) & mount::RDONLY == 0
    };
    if namespaces.unprivileged
        || !namespaces.new.contains(CloneFlags::CLONE_NEWCGROUP)
        || !rootfs.mounts.iter().any(is_writable)
    {
        return None;
    }
    match &namespaces.user {
        Some(user) => ids::outside(&user.mappings()?.uids, process.uid),
        None => Some(process.uid),
    }
}

/// An empty name is none, as engines mean it: the kernel would take it for one.
fn named(name: Option<&String>) -> Option<String> {
    name.filter(|name| !name.is_empty()).cloned()
}

fn sysctls(spec: &Spec) -> Vec<Sysctl> {
    let configured = spec.linux().as_ref().and_then(|l| l.sysctl().as_ref());
    let mut sysctls: Vec<Sysctl> = configured
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let file =
                CString::new(format!("sys/{}", crate::spec::sysctl::path(key).ok()?)).ok()?;
            Some(Sysctl {
                key: key.clone(),
                file,
                value: value.clone(),
            })
        })
        .collect();
    sysctls.sort_by(|a, b| a.key.cmp(&b.key));
    sysctls
}

/// An absolute path without `.`, `..` above the root or doubled slashes, as a mount destination is meant.
pub(crate) fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_path_stays_below_the_root() {
        assert_eq!(clean(Path::new("/a/../../b//c/.")), Path::new("/b/c"));
        assert_eq!(clean(Path::new("dev")), Path::new("/dev"));
    }
}
