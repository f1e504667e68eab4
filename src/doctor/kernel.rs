//! Probes of the kernel: system calls, namespaces and file systems, each used once in a child.
//! Other modules probe cgroups, users and security modules.

use std::ffi::CStr;
use std::os::fd::AsFd as _;

use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::attempt::{PATIENCE_MS, attempt, in_cgroup, in_child};
use super::report::{Item, Status};
use super::{Caller, tried};
use crate::plan::host;
use crate::sys::clone::pidfd_open;
use crate::sys::mount::{
    Attributes, Context, PRIVATE, RDONLY, mount_setattr, move_mount_to, open_tree_at,
    pivot_root_to_working_directory, set_idmap, set_root_propagation,
};
use crate::sys::procfs::Procfs;
use crate::sys::{Errno, ns, path, process};

type Steps = fn() -> Result<(), Errno>;

/// A system call, the steps that try it, and what its absence means.
struct Call {
    id: &'static str,
    steps: Steps,
    means: &'static str,
}

const OLD_OR_FILTERED: &str = "use Linux 5.14 or newer; inside another container, let its seccomp \
     profile and its capabilities allow the call (docker run --privileged, or --security-opt)";

/// The calls that every container needs. Each is tried in new namespaces.
const CALLS: [Call; 5] = [
    Call {
        id: "kernel.openat2",
        steps: try_openat2,
        means: "no path can be kept inside a root file system, so no container can be made",
    },
    Call {
        id: "kernel.setns-pidfd",
        steps: try_setns,
        means: "exec can't enter a container",
    },
    Call {
        id: "kernel.mount-api",
        steps: try_mount,
        means: "nothing can be mounted in a container",
    },
    Call {
        id: "kernel.mount_setattr",
        steps: try_mount_setattr,
        means: "no mount can be made read-only, so no container can be made",
    },
    Call {
        id: "kernel.close_range",
        steps: try_close_range,
        means: "descriptors of the caller can't be kept from a container",
    },
];

/// Probes the kernel's version and system calls.
pub(super) fn items(caller: &Caller) -> Vec<Item> {
    let mut items = vec![version()];
    items.push(clone_into_cgroup());
    for call in &CALLS {
        let result = attempt(caller.apart, call.steps);
        let texts = (call.means, OLD_OR_FILTERED);
        items.push(tried(call.id, result, Status::Missing, texts).needed(true));
    }
    items.push(pivot_root(caller));
    items.push(idmapped_mounts(caller));
    items.push(tried(
        "kernel.keyrings",
        attempt(CloneFlags::empty(), || {
            process::join_session_keyring(c"orlop-doctor", None)
        }),
        Status::Limited,
        (
            "processes of a container have no session keyring of their own",
            "a kernel with CONFIG_KEYS; EDQUOT: raise /proc/sys/kernel/keys/maxkeys",
        ),
    ));
    items
}

fn version() -> Item {
    match host::check_kernel() {
        Ok(()) => Item::ok("kernel.version", ""),
        Err(error) => Item::lacking(
            "kernel.version",
            Status::Missing,
            error.to_string(),
            (
                "every command that makes a container is refused",
                "install a newer kernel",
            ),
        ),
    }
    .needed(true)
}

/// Probes clone3(2) into a cgroup, with a directory that is no cgroup. A kernel that knows
/// CLONE_INTO_CGROUP returns EBADF for it, and makes no process.
fn clone_into_cgroup() -> Item {
    let tried_with = open("/", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let result = tried_with.and_then(|root| {
        match in_cgroup(Some(root.as_fd()), CloneFlags::empty(), PATIENCE_MS, || 0) {
            Ok(_) | Err(Errno::EBADF) => Ok(()),
            Err(errno) => Err(errno),
        }
    });
    let means = "no process can start inside its cgroup, so no container can be made";
    tried(
        "kernel.clone3",
        result,
        Status::Missing,
        (means, OLD_OR_FILTERED),
    )
    .needed(true)
}

fn root() -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open("/", flags, Mode::empty())
}

fn try_openat2() -> Result<(), Errno> {
    path::open_in_root(root()?.as_fd(), c"/..", OFlag::O_PATH).map(drop)
}

fn try_setns() -> Result<(), Errno> {
    let own = i32::try_from(std::process::id()).map_err(|_| Errno::EINVAL)?;
    ns::setns(pidfd_open(own)?.as_fd(), CloneFlags::CLONE_NEWUTS)
}

/// Mounts a tmpfs on /proc in this process's own mount namespace.
fn try_mount() -> Result<(), Errno> {
    match set_root_propagation(PRIVATE, true) {
        // `/` is no mount point. The probe `pivot_root` reports that.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(errno),
    }
    let context = Context::open(c"tmpfs")?;
    context.create()?;
    move_mount_to(context.mount(0)?.as_fd(), c"/proc")
}

fn try_mount_setattr() -> Result<(), Errno> {
    let context = Context::open(c"tmpfs")?;
    context.create()?;
    let read_only = Attributes {
        set: RDONLY,
        ..Attributes::default()
    };
    mount_setattr(context.mount(0)?.as_fd(), false, read_only)
}

fn try_close_range() -> Result<(), Errno> {
    process::close_range(3, u32::MAX)
}

fn pivot_root(caller: &Caller) -> Item {
    let steps = || {
        set_root_propagation(PRIVATE, true)?;
        let context = Context::open(c"tmpfs")?;
        context.create()?;
        let tmpfs = context.mount(0)?;
        move_mount_to(tmpfs.as_fd(), c"/proc")?;
        nix::unistd::fchdir(&tmpfs)?;
        pivot_root_to_working_directory()
    };
    let means = "the root of a container can't replace the caller's root";
    let hint = "in a chroot, bind its directory onto itself before (mount --bind DIR DIR); on an \
         initramfs, use --no-pivot";
    let result = attempt(caller.apart, steps);
    tried("kernel.pivot_root", result, Status::Limited, (means, hint))
}

/// Probes idmapped mounts of `/` and of a tmpfs. Only root may make them.
fn idmapped_mounts(caller: &Caller) -> Item {
    const ID: &str = "kernel.idmapped-mounts";
    if !caller.privileged {
        let texts = (
            "mounts with uidMappings, idmap or ridmap are refused",
            "run as root: the kernel allows no user to make them",
        );
        return Item::lacking(ID, Status::Limited, "for root only", texts);
    }
    let of = |tree: fn() -> Result<std::os::fd::OwnedFd, Errno>| {
        attempt(caller.apart, move || {
            let namespace = mapped_namespace()?;
            set_idmap(tree()?.as_fd(), false, namespace.as_fd())
        })
    };
    let tmpfs = || {
        let context = Context::open(c"tmpfs")?;
        context.create()?;
        context.mount(0)
    };
    match (of(|| open_tree_at(c"/", false)), of(tmpfs)) {
        (Ok(()), Ok(())) => Item::ok(ID, ""),
        (Ok(()), Err(_)) => Item::lacking(
            ID,
            Status::Limited,
            "of the file system of /, not of a tmpfs",
            (
                "a tmpfs can't be mounted with mapped ids",
                "use Linux 6.3 or newer",
            ),
        ),
        (Err(_), Ok(())) => Item::lacking(
            ID,
            Status::Limited,
            "of a tmpfs, not of the file system of /",
            (
                "bind mounts of files on / can't map ids",
                "keep such volumes on ext4, xfs or btrfs, or use a newer kernel",
            ),
        ),
        (Err(errno), Err(_)) => Item::lacking(
            ID,
            Status::Missing,
            super::reason(errno),
            (
                "mounts with uidMappings, idmap or ridmap fail",
                "use Linux 5.14 or newer",
            ),
        ),
    }
}

/// Makes a user namespace that maps id 0 to another id.
fn mapped_namespace() -> Result<std::os::fd::OwnedFd, Errno> {
    use crate::sys::clone::{CloneArgs, Side, clone3};
    use crate::sys::{socket, wait};
    let (ours, childs) = socket::pair()?;
    let args = CloneArgs {
        namespaces: CloneFlags::CLONE_NEWUSER,
        cgroup: None,
        sibling: false,
    };
    let child = match clone3(&args)? {
        Side::Child => {
            drop(ours);
            let _ = socket::receive(childs.as_fd(), &mut [0]);
            process::exit_now(0)
        }
        Side::Parent(child) => child,
    };
    drop(childs);
    let namespace = Procfs::open().and_then(|proc| {
        for list in ["uid_map", "gid_map"] {
            let file = path::c_path(format!("{}/{list}", child.pid).as_ref())?;
            proc.write(&file, b"0 100000 1")?;
        }
        proc.follow(&format!("{}/ns/user", child.pid), OFlag::O_RDONLY)
    });
    drop(ours);
    wait::reap(child.pidfd.as_fd())?;
    namespace
}

/// Probes all types of namespaces but user namespaces.
pub(super) fn namespaces(caller: &Caller) -> Vec<Item> {
    let kinds = ns::LINKS.iter().filter(|(name, _)| *name != "user");
    kinds
        .map(|(name, kind)| {
            let (of_user, time) = (CloneFlags::CLONE_NEWUSER, ns::CLONE_NEWTIME);
            let user = if caller.privileged {
                CloneFlags::empty()
            } else {
                of_user
            };
            let result = match *kind {
                // The offsets of a time namespace can be set only before a process enters it. So
                // clone3(2) is of no use, and containers need unshare(2).
                kind if kind == time => attempt(user, || ns::unshare(time)),
                kind => attempt(user | kind, || Ok(())),
            };
            let (status, means) = match *name {
                "mnt" | "pid" => (Status::Missing, "no container can have its own"),
                _ => (Status::Limited, "a container can't have its own"),
            };
            let hint = "see user.namespaces below if you are not root; else a kernel with \
                 CONFIG_NAMESPACES, and /proc/sys/user/max_*_namespaces above 0";
            tried(&format!("namespace.{name}"), result, status, (means, hint))
                .needed(matches!(*name, "mnt" | "pid"))
        })
        .collect()
}

/// File systems, each with what its absence means.
const FILE_SYSTEMS: [(&CStr, &str); 8] = [
    (
        c"tmpfs",
        "the usual /dev can't be mounted, and directories can't be masked",
    ),
    (c"proc", "the usual /proc can't be mounted"),
    (c"sysfs", "the usual /sys can't be mounted"),
    (c"devpts", "a container has no terminals of its own"),
    (c"mqueue", "the usual /dev/mqueue can't be mounted"),
    (
        c"cgroup2",
        "/sys/fs/cgroup can't be mounted anew in a container",
    ),
    (c"overlay", "engines can't put images together by it"),
    (
        c"fuse",
        "fuse-overlayfs and other file systems of users can't be mounted",
    ),
];

/// Probes the file systems of usual containers. All but the last two are mounted in new namespaces,
/// but the mounts are not attached.
pub(super) fn file_systems(caller: &Caller) -> Vec<Item> {
    let apart = caller.apart
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        // A cgroup2 mount in the initial cgroup namespace would change the host's mount options.
        | CloneFlags::CLONE_NEWCGROUP;
    let namespaces = in_child(apart, PATIENCE_MS, || 0);
    let mut items = Vec::new();
    for (name, means) in FILE_SYSTEMS {
        let mountable = !matches!(name.to_bytes(), b"overlay" | b"fuse");
        let result = namespaces.and_then(|_| {
            attempt(apart, || {
                let context = Context::open(name)?;
                if mountable {
                    context.create()?;
                    context.mount(0)?;
                }
                Ok(())
            })
        });
        let name = name.to_string_lossy();
        let (status, hint) = match result {
            Err(Errno::EPERM) if !caller.privileged && mountable => (
                Status::Limited,
                "inside another container, don't let it mask or cover /proc and /sys".into(),
            ),
            Err(Errno::ENODEV) => (Status::Missing, format!("modprobe {name}")),
            _ => (Status::Missing, "see the namespaces above".to_owned()),
        };
        let id = format!("filesystem.{name}");
        items.push(tried(&id, result, status, (means, &hint)));
    }
    items
}
